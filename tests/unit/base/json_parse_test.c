/*
 * Reading JSON. The tables of accepted and refused texts are the contract of the gate; the rest is
 * where the tree points, memory caps, hostile input at the edge of a page, and random texts.
 */
#include "bakend/assert.h"
#include "bakend/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ARENA_BYTES = 64 << 20 };

static struct bk_arena arena;

static int on_setup(void **state) {
    (void)state;
    bk_arena_init(&arena, ARENA_BYTES);
    return 0;
}

static int on_teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

static struct bk_json *parse(struct bk_slice text) {
    struct bk_json *value = NULL;
    struct bk_error error = BK_ERROR_INIT;
    if (bk_json_parse(&arena, text, &value, &error) != BK_OK)
        fail_msg("%.*s: %s", (int)(text.length < 200 ? text.length : 200), text.data,
                 error.message);
    assert_non_null(value);
    return value;
}

static struct bk_json *parse_text(const char *text) { return parse(bk_slice_from(text)); }

static void assert_refused(struct bk_slice text, enum bk_status expected, const char *reason) {
    struct bk_json untouched;
    struct bk_json *value = &untouched;
    struct bk_error error = BK_ERROR_INIT;
    enum bk_status status = bk_json_parse(&arena, text, &value, &error);
    if (status == BK_OK)
        fail_msg("accepted: %.*s", BK_SLICE_PRINT(text));
    assert_int_equal(status, expected);
    assert_int_equal(error.status, expected);
    assert_ptr_equal(value, &untouched);
    if (strstr(error.message, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.message, reason);
    assert_int_equal(bk_json_parse(&arena, text, &value, NULL), expected);
}

static void test_scalars_of_every_type(void **state) {
    (void)state;
    assert_int_equal(parse_text("null")->type, BK_JSON_NULL);
    assert_int_equal(parse_text("true")->type, BK_JSON_BOOL);
    assert_true(parse_text("true")->boolean);
    assert_int_equal(parse_text("false")->type, BK_JSON_BOOL);
    assert_false(parse_text("false")->boolean);
    assert_int_equal(parse_text("12")->type, BK_JSON_NUMBER);
    assert_true(bk_slice_is(parse_text("\"a\"")->string, "a"));
    assert_true(bk_slice_is(parse_text("\"\"")->string, ""));
    assert_int_equal(parse_text("[]")->type, BK_JSON_ARRAY);
    assert_int_equal(parse_text("{}")->type, BK_JSON_OBJECT);
}

static void test_tree_says_where_everything_stands(void **state) {
    (void)state;
    const char *text = " {\"a\" : [ 1 , \"x\\ny\" ,{ } ], \"b\\u0063\":-1.50e+2\n} ";
    struct bk_json *root = parse_text(text);
    assert_ptr_equal(root->text.data, text + 1);
    assert_int_equal(root->text.length, strlen(text) - 2);
    assert_int_equal(root->child_count, 2);
    const struct bk_json *a = root->child;
    assert_true(bk_slice_is(a->key, "a"));
    assert_true(bk_slice_is(a->text, "[ 1 , \"x\\ny\" ,{ } ]"));
    assert_int_equal(a->child_count, 3);
    assert_true(bk_slice_is(a->child->text, "1"));
    assert_int_equal(a->child->key.length, 0);
    assert_true(bk_slice_is(a->child->next->text, "\"x\\ny\""));
    assert_true(bk_slice_is(a->child->next->string, "x\ny"));
    assert_true(bk_slice_is(a->child->next->next->text, "{ }"));
    assert_int_equal(a->child->next->next->child_count, 0);
    assert_null(a->child->next->next->child);
    assert_null(a->child->next->next->next);
    const struct bk_json *bc = a->next;
    assert_true(bk_slice_is(bc->key, "bc"));
    assert_true(bk_slice_is(bc->text, "-1.50e+2"));
    assert_null(bc->next);
}

static void test_accepted_texts(void **state) {
    (void)state;
    static const char *accepted[] = {
        "0",
        "-0",
        "1.0",
        "1e5",
        "1E+5",
        "1e-5",
        "10.01",
        " \t\r\n[ ] \n",
        "[1,2,[3,[4]]]",
        "{\"\":1}",
        "{\"a\":{\"a\":{\"a\":1}}}",
        "{\"a\":1,\"A\":2}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\x7f\"",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "1e999",
        "\"/\"",
        "[[],{},\"\",0,true,false,null]",
    };
    for (size_t i = 0; i < BK_COUNT_OF(accepted); i++)
        parse_text(accepted[i]);
}

static const struct {
    const char *text, *reason;
} refused[] = {
    {"", "byte 0: a value was expected"},
    {" \n ", "byte 3: a value was expected"},
    {"\"a\\u0000b\"", "byte 2: a string may not hold \\u0000"},
    {"{\"a\\u0000\":1}", "\\u0000"},
    {"\"\xff\xfe\"", "byte 1: the text is not valid UTF-8"},
    {"{\"\xc3\":1}", "UTF-8"},
    {"\"\xed\xa0\x80\"", "UTF-8"},
    {"\"\xc0\xaf\"", "UTF-8"},
    {"\"a\nb\"", "byte 2: a string holds a control character"},
    {"\"a\tb\"", "control character"},
    {"\"a\x1f\"", "control character"},
    {"{\"a\":1,\"a\":2}", "byte 11: the object has \"a\" twice"},
    {"[{\"a\":1,\"b\":{},\"\\u0061\":2}]", "has \"a\" twice"},
    {"{\"\":1,\"\":2}", "twice"},
    {"{\"a\\nb\\u007f\":1,\"a\\nb\\u007f\":2}", "has \"a?b?\" twice"},
    {"{\"0123456789012345678901234567890123456789012345678901234567890123\":1,"
     "\"0123456789012345678901234567890123456789012345678901234567890123\":2}",
     "0123\" twice"},
    {"{\"012345678901234567890123456789012345678901234567890123456789012\xc3\xa9\":1,"
     "\"012345678901234567890123456789012345678901234567890123456789012\xc3\xa9\":2}",
     "9012\" twice"},
    {"{\"\\ud800\":1,\"\\udfff\":2}", "twice"},
    {"01", "superfluous zero"},
    {"-01", "superfluous zero"},
    {"00", "superfluous zero"},
    {"1.", "byte 2: a digit is missing"},
    {"[1.]", "a digit is missing"},
    {".5", "a value was expected"},
    {"-", "a digit is missing"},
    {"-.5", "a digit is missing"},
    {"1e", "a digit is missing"},
    {"1e+", "a digit is missing"},
    {"+1", "a value was expected"},
    {"0x10", "byte 1: text follows"},
    {"1 2", "byte 2: text follows"},
    {"NaN", "a value was expected"},
    {"nan", "a value was expected"},
    {"Infinity", "a value was expected"},
    {"-Infinity", "a digit is missing"},
    {"\xEF\xBB\xBF{}", "byte 0: the text begins with a byte order mark"},
    {"[\xEF\xBB\xBF]", "a value was expected"},
    {"{\"a\":1} junk", "byte 8: text follows"},
    {"nullx", "byte 4: text follows"},
    {"nul", "a value was expected"},
    {"True", "a value was expected"},
    {"[1,]", "byte 3: a value was expected"},
    {"[,1]", "a value was expected"},
    {"[1 2]", "',' or ']' was expected"},
    {"[1", "',' or ']' was expected"},
    {"[", "a value was expected"},
    {"]", "a value was expected"},
    {"[}", "a value was expected"},
    {"{", "a member's name"},
    {"{\"a\"", "':' was expected"},
    {"{\"a\":", "a value was expected"},
    {"{\"a\":1", "',' or '}' was expected"},
    {"{\"a\":1,}", "a member's name"},
    {"{a:1}", "a member's name"},
    {"{'a':1}", "a member's name"},
    {"{1:1}", "a member's name"},
    {"{\"a\" 1}", "':' was expected"},
    {"{\"a\":1]", "',' or '}' was expected"},
    {"\"abc", "byte 4: a string does not end"},
    {"\"abc\\", "a string does not end"},
    {"\"\\x41\"", "byte 1: unknown escape"},
    {"\"\\u12\"", "four hexadecimal digits"},
    {"\"\\u12g4\"", "four hexadecimal digits"},
    {"\"\\u", "four hexadecimal digits"},
    {"'a'", "a value was expected"},
    {"// c\n1", "a value was expected"},
    {"[1/* c */]", "',' or ']' was expected"},
    {"\f1", "a value was expected"},
    {"\xc2\xa0"
     "1",
     "a value was expected"},
};

static void test_refused_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(refused); i++)
        assert_refused(bk_slice_from(refused[i].text), BK_INVALID, refused[i].reason);
    assert_refused(BK_SLICE("1\0"), BK_INVALID, "byte 1: text follows");
    assert_refused(BK_SLICE("[\0]"), BK_INVALID, "a value was expected");
    assert_refused(BK_SLICE("\"a\0b\""), BK_INVALID, "control character");
    assert_refused(BK_SLICE_EMPTY, BK_INVALID, "a value was expected");
}

static void test_escapes_are_decoded(void **state) {
    (void)state;
    static const struct {
        const char *text, *decoded;
    } cases[] = {
        {"\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac"},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
        {"\"\\uD83D\\uDE00!\"", "\xf0\x9f\x98\x80!"},
        {"\"\\/\\\\\\\"\"", "/\\\""},
        {"\"\\u0001\\u001f\"", "\x01\x1f"},
        {"\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf"},
        /* A lone half becomes U+FFFD, and what follows it is read on its own. */
        {"\"\\ud800\"", "\xef\xbf\xbd"},
        {"\"\\udc00\"", "\xef\xbf\xbd"},
        {"\"\\ud800A\"", "\xef\xbf\xbd"
                         "A"},
        {"\"\\ud800\\u0041\"", "\xef\xbf\xbd"
                               "A"},
        {"\"\\ud800\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80"},
        {"\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"\\ud800\\n\"", "\xef\xbf\xbd\n"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        struct bk_json *value = parse_text(cases[i].text);
        assert_string_equal(value->string.data, cases[i].decoded);
        assert_int_equal(value->string.length, strlen(cases[i].decoded));
        assert_true(bk_slice_is_utf8(value->string));
        assert_ptr_equal(value->text.data, cases[i].text);
    }
    struct bk_json *object = parse_text("{\"\\ud800k\":[\"\\udc00\",1]}");
    assert_non_null(bk_json_get(object, BK_SLICE("\xef\xbf\xbdk")));
}

static void test_names_are_exact(void **state) {
    (void)state;
    struct bk_json *object = parse_text("{\"Role\":\"user\",\"role\":\"admin\",\"n\":1}");
    assert_true(bk_slice_is(bk_json_get_string(object, BK_SLICE("role")), "admin"));
    assert_true(bk_slice_is(bk_json_get_string(object, BK_SLICE("Role")), "user"));
    assert_null(bk_json_get(object, BK_SLICE("ROLE")));
    assert_null(bk_json_get(object, BK_SLICE("rol")));
    assert_int_equal(bk_json_get_string(object, BK_SLICE("n")).length, 0);
    assert_int_equal(bk_json_get_string(object, BK_SLICE("x")).length, 0);
    assert_null(bk_json_get(NULL, BK_SLICE("a")));
    assert_null(bk_json_get(parse_text("[1]"), BK_SLICE("")));
}

static struct bk_slice text_of_depth(struct bk_buffer *buffer, int depth, char opening,
                                     char closing) {
    bk_buffer_clear(buffer);
    for (int i = 0; i < depth; i++) {
        bk_buffer_append_char(buffer, opening);
        if (opening == '{' && i + 1 < depth)
            bk_buffer_append_literal(buffer, "\"a\":");
    }
    for (int i = 0; i < depth; i++)
        bk_buffer_append_char(buffer, closing);
    return bk_buffer_slice(buffer);
}

static void test_depth_is_bounded(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 1 << 20);
    parse(text_of_depth(&buffer, BK_JSON_DEPTH_MAX, '[', ']'));
    parse(text_of_depth(&buffer, BK_JSON_DEPTH_MAX, '{', '}'));
    assert_refused(text_of_depth(&buffer, BK_JSON_DEPTH_MAX + 1, '[', ']'), BK_INVALID,
                   "nested too deep");
    assert_refused(text_of_depth(&buffer, BK_JSON_DEPTH_MAX + 1, '{', '}'), BK_INVALID,
                   "nested too deep");
    assert_refused(text_of_depth(&buffer, 500000, '[', ']'), BK_INVALID,
                   "byte 64: the text is nested too deep");
    bk_buffer_fini(&buffer);
}

static void test_value_count_is_bounded(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 1 << 20);
    bk_buffer_append_literal(&buffer, "[0");
    for (int i = 2; i < BK_JSON_VALUES_MAX; i++)
        bk_buffer_append_literal(&buffer, ",0");
    bk_buffer_append_char(&buffer, ']');
    struct bk_json *array = parse(bk_buffer_slice(&buffer));
    assert_int_equal(array->child_count, BK_JSON_VALUES_MAX - 1);
    buffer.length--;
    bk_buffer_append_literal(&buffer, ",0]");
    assert_refused(bk_buffer_slice(&buffer), BK_TOO_LARGE, "too many values");
    bk_buffer_fini(&buffer);
}

static void write_object(struct bk_buffer *buffer, int member_count) {
    bk_buffer_append_char(buffer, '{');
    for (int i = 0; i < member_count; i++) {
        char name[20];
        int length = snprintf(name, sizeof name, "member%d", i);
        bk_json_write_member_int(buffer, bk_slice_make(name, (size_t)length), i);
    }
}

static void test_duplicates_are_found_in_objects_of_every_size(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 1 << 20);
    static const int counts[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 1000, 20000};
    for (size_t i = 0; i < BK_COUNT_OF(counts); i++) {
        bk_buffer_clear(&buffer);
        write_object(&buffer, counts[i]);
        bk_buffer_append_char(&buffer, '}');
        struct bk_json *object = parse(bk_buffer_slice(&buffer));
        assert_int_equal(object->child_count, counts[i]);
        char last[20];
        snprintf(last, sizeof last, "member%d", counts[i] - 1);
        int64_t number = -1;
        assert_true(bk_json_to_int64(bk_json_get(object, bk_slice_from(last)), &number));
        assert_int_equal(number, counts[i] - 1);
        buffer.length--;
        bk_json_write_member_int(&buffer, BK_SLICE("member0"), 5);
        bk_buffer_append_char(&buffer, '}');
        assert_refused(bk_buffer_slice(&buffer), BK_INVALID, "\"member0\" twice");
    }
    bk_buffer_fini(&buffer);
}

static void test_every_cap_ends_well(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 1 << 20);
    write_object(&buffer, 20);
    bk_buffer_append_literal(&buffer, ",\"l\":\"\\ud800\",\"n\":1");
    for (int i = 0; i < 70; i++)
        bk_buffer_append_char(&buffer, '0');
    bk_buffer_append_char(&buffer, '}');
    bool is_accepted = false;
    for (size_t cap = 0; cap < 20000; cap += 16) {
        struct bk_arena small;
        bk_arena_init(&small, cap);
        struct bk_json *value = NULL;
        struct bk_error error = BK_ERROR_INIT;
        enum bk_status status = bk_json_parse(&small, bk_buffer_slice(&buffer), &value, &error);
        if (status == BK_OK) {
            is_accepted = true;
            assert_int_equal(value->child_count, 22);
            assert_false(small.is_overflown);
        } else {
            assert_false(is_accepted);
            assert_int_equal(status, BK_TOO_LARGE);
            assert_true(small.is_overflown);
            assert_int_equal(bk_json_parse(&small, BK_SLICE("1"), &value, &error), BK_TOO_LARGE);
        }
        bk_arena_fini(&small);
    }
    assert_true(is_accepted);
    bk_buffer_fini(&buffer);
}

/* Every beginning of the text stands right before a page that must not be touched. */
static void test_nothing_is_read_past_the_end(void **state) {
    (void)state;
    static const char text[] =
        "{\"ab\":[1,-2.5e3,true,false,null],\"c\\u00e9\":\"\xc3\xa9\\ud83d\\ude00 "
        "text of some length\\n\",\"d\":12345}";
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
    for (size_t length = 0; length < sizeof text; length++) {
        char *place = pages + page - length;
        memcpy(place, text, length);
        if (length == sizeof text - 1)
            parse(bk_slice_make(place, length));
        else
            assert_refused(bk_slice_make(place, length), BK_INVALID, "byte");
    }
    static const char *scalars[] = {"0",     "-12",  "1.5",  "1e5", "true",
                                    "false", "null", "\"\"", "[]"};
    for (size_t i = 0; i < BK_COUNT_OF(scalars); i++) {
        size_t length = strlen(scalars[i]);
        char *place = pages + page - length;
        memcpy(place, scalars[i], length);
        double number;
        struct bk_json *value = parse(bk_slice_make(place, length));
        assert_int_equal(value->type == BK_JSON_NUMBER, bk_json_to_double(value, &number));
    }
    munmap(pages, 2 * page);
}

/* --- random texts ----------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void write_random_string(struct bk_buffer *out, uint64_t *seed) {
    static const char *pieces[] = {"a",
                                   "Z",
                                   " ",
                                   "\"",
                                   "\\",
                                   "/",
                                   "\n",
                                   "\x01",
                                   "\x1f",
                                   "\x7f",
                                   "\xc3\xa9",
                                   "\xe2\x80\xa8",
                                   "\xf0\x9f\x98\x80",
                                   "plain run of text"};
    struct bk_buffer text;
    bk_buffer_init(&text, 1000);
    for (uint64_t i = next_random(seed) % 10; i > 0; i--) {
        const char *piece = pieces[next_random(seed) % BK_COUNT_OF(pieces)];
        bk_buffer_append_slice(&text, bk_slice_from(piece));
    }
    bk_json_write_string(out, bk_buffer_slice(&text));
    bk_buffer_fini(&text);
}

static void write_random_value(struct bk_buffer *out, uint64_t *seed, int depth);

static void write_random_children(struct bk_buffer *out, uint64_t *seed, int depth,
                                  bool is_object) {
    bk_buffer_append_char(out, is_object ? '{' : '[');
    uint64_t count = next_random(seed) % 24;
    for (uint64_t i = 0; i < count; i++) {
        char name[24];
        int length = snprintf(name, sizeof name, "%s%d", i % 2 == 0 ? "n\"\xc3\xa9" : "", (int)i);
        if (is_object)
            bk_json_write_key(out, bk_slice_make(name, (size_t)length));
        else
            bk_json_write_separator(out);
        write_random_value(out, seed, depth + 1);
    }
    bk_buffer_append_char(out, is_object ? '}' : ']');
}

static void write_random_value(struct bk_buffer *out, uint64_t *seed, int depth) {
    switch (next_random(seed) % (depth < 4 ? 8 : 6)) {
    case 0:
        bk_json_write_int(out, (int64_t)next_random(seed));
        break;
    case 1:
        bk_json_write_double(out, (double)(int64_t)next_random(seed) / 1e7);
        break;
    case 2:
        bk_json_write_bool(out, next_random(seed) % 2 == 0);
        break;
    case 3:
        bk_buffer_append_literal(out, "null");
        break;
    case 6:
        write_random_children(out, seed, depth, false);
        break;
    case 7:
        write_random_children(out, seed, depth, true);
        break;
    default:
        write_random_string(out, seed);
    }
}

static void write_tree(struct bk_buffer *out, const struct bk_json *value) {
    if (value->type == BK_JSON_STRING) {
        bk_json_write_string(out, value->string);
    } else if (value->type == BK_JSON_ARRAY || value->type == BK_JSON_OBJECT) {
        bool is_object = value->type == BK_JSON_OBJECT;
        bk_buffer_append_char(out, is_object ? '{' : '[');
        for (const struct bk_json *child = value->child; child != NULL; child = child->next) {
            if (is_object)
                bk_json_write_key(out, child->key);
            else
                bk_json_write_separator(out);
            write_tree(out, child);
        }
        bk_buffer_append_char(out, is_object ? '}' : ']');
    } else {
        bk_buffer_append_slice(out, value->text);
    }
}

static void test_random_texts_round_trip(void **state) {
    (void)state;
    struct bk_buffer text, again;
    bk_buffer_init(&text, 1 << 24);
    bk_buffer_init(&again, 1 << 24);
    uint64_t seed = 20260608;
    for (int i = 0; i < 300; i++) {
        bk_buffer_clear(&text);
        bk_buffer_clear(&again);
        write_random_value(&text, &seed, 0);
        write_tree(&again, parse(bk_buffer_slice(&text)));
        assert_false(text.is_overflown);
        assert_true(bk_slice_equal(bk_buffer_slice(&text), bk_buffer_slice(&again)));
        bk_arena_reset(&arena);
    }
    bk_buffer_fini(&text);
    bk_buffer_fini(&again);
}

static void mutate(char *text, size_t length, uint64_t *seed) {
    static const char bytes[] = "{}[]\",:\\u0dD8e+-.1 \n\t\xc3\xa9\xed\xa0tfn\x01";
    for (uint64_t i = next_random(seed) % 3 + 1; i > 0; i--)
        text[next_random(seed) % length] = bytes[next_random(seed) % (sizeof bytes - 1)];
}

/* Whatever is accepted is UTF-8, and what is written from it reads as the same again. */
static void test_mutated_texts_are_refused_or_stable(void **state) {
    (void)state;
    static const char sample[] = "{\"id\":\"abc\",\"n\":[1,-2.5e+10,0.1,true,false,null],\"s\":"
                                 "\"\\ud83d\\ude00\\n\xc3\xa9\\u0041\","
                                 "\"o\":{\"a\":{},\"b\":[[]],\"c\":\"\"},\"long\":"
                                 "1234567890123456789012345678901234567890123456789012"
                                 "345678901234567890}";
    struct bk_buffer first, second;
    bk_buffer_init(&first, 1 << 20);
    bk_buffer_init(&second, 1 << 20);
    uint64_t seed = 99;
    int accepted = 0;
    for (int i = 0; i < 60000; i++) {
        char text[sizeof sample];
        memcpy(text, sample, sizeof sample);
        mutate(text, sizeof sample - 1, &seed);
        struct bk_json *value = NULL;
        bk_arena_reset(&arena);
        if (bk_json_parse(&arena, bk_slice_make(text, sizeof sample - 1), &value, NULL) != BK_OK)
            continue;
        accepted++;
        bk_buffer_clear(&first);
        bk_buffer_clear(&second);
        write_tree(&first, value);
        assert_true(bk_slice_is_utf8(bk_buffer_slice(&first)));
        write_tree(&second, parse(bk_buffer_slice(&first)));
        assert_true(bk_slice_equal(bk_buffer_slice(&first), bk_buffer_slice(&second)));
    }
    assert_in_range(accepted, 1000, 50000);
    bk_buffer_fini(&first);
    bk_buffer_fini(&second);
}

static void *on_thread(void *argument) {
    struct bk_arena own;
    bk_arena_init(&own, ARENA_BYTES);
    char text[100];
    int length = snprintf(text, sizeof text, "{\"who\":\"thread %d\",\"list\":[1,2,3]}",
                          *(const int *)argument);
    bool is_right = true;
    for (int i = 0; i < 5000; i++) {
        struct bk_json *value = NULL;
        bk_json_parse(&own, BK_SLICE("{\"broken\":[1,}"), &value, NULL);
        is_right = is_right &&
                   bk_json_parse(&own, bk_slice_make(text, (size_t)length), &value, NULL) == BK_OK;
        struct bk_slice who = bk_json_get_string(value, BK_SLICE("who"));
        is_right = is_right && who.length == 8 && memcmp(who.data, text + 8, 8) == 0;
        bk_arena_reset(&own);
    }
    bk_arena_fini(&own);
    return is_right ? argument : NULL;
}

static void test_threads_do_not_share_memory(void **state) {
    (void)state;
    pthread_t threads[4];
    int numbers[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, on_thread, &numbers[i]), 0);
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, &numbers[i]);
    }
}

int main(void) {
#define JSON_TEST(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)
    const struct CMUnitTest tests[] = {
        JSON_TEST(test_scalars_of_every_type),
        JSON_TEST(test_tree_says_where_everything_stands),
        JSON_TEST(test_accepted_texts),
        JSON_TEST(test_refused_texts),
        JSON_TEST(test_escapes_are_decoded),
        JSON_TEST(test_names_are_exact),
        JSON_TEST(test_depth_is_bounded),
        JSON_TEST(test_value_count_is_bounded),
        JSON_TEST(test_duplicates_are_found_in_objects_of_every_size),
        JSON_TEST(test_every_cap_ends_well),
        JSON_TEST(test_nothing_is_read_past_the_end),
        JSON_TEST(test_random_texts_round_trip),
        JSON_TEST(test_mutated_texts_are_refused_or_stable),
        JSON_TEST(test_threads_do_not_share_memory),
    };
#undef JSON_TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
