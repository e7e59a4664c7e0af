/*
 * JSON texts through the parser.
 *
 * Whatever the bytes: no read or write outside them; what the gate lets through cJSON reads too;
 * each string is what a decoder of its own, written from RFC 8259, makes of its text; no object has
 * a key twice; nothing is deeper than allowed; numbers come back as themselves; and the tree,
 * written out and read again, is the same tree.
 */
#include "fuzz.h"

#include "bakend/json.h"

#include <math.h>

enum { ARENA_BYTES_MAX = 16 * 1024 * 1024, TEXT_BYTES_MAX = 4 * 1024 * 1024 };

/* --- a decoder of strings of its own ---------------------------------------------------------- */

static uint32_t hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0');
    return (uint32_t)((c | 0x20) - 'a' + 10);
}

static uint32_t hex(const char *digits) {
    uint32_t code = 0;
    for (int i = 0; i < 4; i++)
        code = code << 4 | hex_digit(digits[i]);
    return code;
}

static void append_code(struct bk_buffer *out, uint32_t code) {
    char bytes[4];
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length; i-- > 1; code >>= 6)
        bytes[i] = (char)(0x80 | (code & 0x3f));
    bytes[0] = (char)(leads[length - 1] | code);
    bk_buffer_append(out, bytes, length);
}

/* The escape at text, behind its backslash; returns how long it is. */
static size_t append_escape(struct bk_buffer *out, const char *text) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *name = strchr(names, text[0]);
    uint32_t code, low;
    if (name != NULL) {
        bk_buffer_append_char(out, values[name - names]);
        return 1;
    }
    BK_ASSERT(text[0] == 'u');
    code = hex(text + 1);
    if (code < 0xd800 || code > 0xdfff) {
        append_code(out, code);
        return 5;
    }
    /* The string ends with a quote at least, so both of these bytes are there. */
    if (code < 0xdc00 && text[5] == '\\' && text[6] == 'u') {
        low = hex(text + 7);
        if (low >= 0xdc00 && low <= 0xdfff) {
            append_code(out, 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
            return 11;
        }
    }
    append_code(out, 0xfffd);
    return 5;
}

static void check_string(const struct bk_json *value) {
    struct bk_buffer decoded;
    bk_buffer_init(&decoded, TEXT_BYTES_MAX);
    BK_ASSERT(value->text.length >= 2 && value->text.data[0] == '"');
    for (size_t i = 1; i < value->text.length - 1;) {
        if (value->text.data[i] == '\\')
            i += 1 + append_escape(&decoded, value->text.data + i + 1);
        else
            bk_buffer_append_char(&decoded, value->text.data[i++]);
    }
    BK_ASSERT(bk_slice_equal(bk_buffer_slice(&decoded), value->string));
    BK_ASSERT(bk_slice_is_utf8(value->string));
    bk_buffer_fini(&decoded);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static struct bk_json number_of(const struct bk_buffer *text) {
    return (struct bk_json){.type = BK_JSON_NUMBER, .text = bk_buffer_slice(text)};
}

/* Over the digits, of which there must be one. */
static const char *skip_digits(const char *at, const char *end) {
    BK_ASSERT(at < end && *at >= '0' && *at <= '9');
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

/* RFC 8259, section 6: cJSON reads more than that. */
static void check_grammar(struct bk_slice text) {
    const char *at = text.data, *end = text.data + text.length;
    if (at < end && *at == '-')
        at++;
    at = at < end && *at == '0' ? at + 1 : skip_digits(at, end);
    if (at < end && *at == '.')
        at = skip_digits(at + 1, end);
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = skip_digits(at, end);
    }
    BK_ASSERT(at == end);
}

static void check_double(double number) {
    struct bk_buffer text;
    double again = -1;
    bk_buffer_init(&text, TEXT_BYTES_MAX);
    bk_json_write_double(&text, number);
    const struct bk_json written = number_of(&text);
    BK_ASSERT(bk_json_to_double(&written, &again) && again == number);
    bk_buffer_fini(&text);
}

static void check_number(const struct bk_json *value) {
    int64_t integer = 0, again = -1;
    double number;
    bool is_integer = bk_json_to_int64(value, &integer);
    struct bk_buffer text;
    check_grammar(value->text);
    if (!bk_json_to_double(value, &number)) {
        BK_ASSERT(!is_integer);
        return;
    }
    check_double(number);
    /* An integer is what it is as a double too, as far as a double goes; 1e-400 is 0 as one
     * only. */
    BK_ASSERT(!is_integer || (double)integer == number);
    BK_ASSERT(is_integer || number != trunc(number) || fabs(number) >= 0x1p53 ||
              value->text.length > 15 || fabs(number) < 1);
    if (!is_integer)
        return;
    bk_buffer_init(&text, TEXT_BYTES_MAX);
    bk_json_write_int(&text, integer);
    const struct bk_json written = number_of(&text);
    BK_ASSERT(bk_json_to_int64(&written, &again) && again == integer);
    bk_buffer_fini(&text);
}

/* --- trees ------------------------------------------------------------------------------------ */

static void check_children(const struct bk_json *value) {
    uint32_t count = 0;
    for (const struct bk_json *child = value->child; child != NULL; child = child->next) {
        count++;
        BK_ASSERT(child->text.data > value->text.data);
        BK_ASSERT(child->text.data + child->text.length < value->text.data + value->text.length);
        if (value->type == BK_JSON_OBJECT)
            BK_ASSERT(bk_json_get(value, child->key) == child);
    }
    BK_ASSERT(count == value->child_count);
}

static void check(const struct bk_json *value, int depth) {
    BK_ASSERT(depth <= BK_JSON_DEPTH_MAX);
    if (value->type == BK_JSON_STRING)
        check_string(value);
    else if (value->type == BK_JSON_NUMBER)
        check_number(value);
    check_children(value);
    for (const struct bk_json *child = value->child; child != NULL; child = child->next)
        check(child, depth + 1);
}

static void write(const struct bk_json *value, struct bk_buffer *out) {
    bool is_object = value->type == BK_JSON_OBJECT;
    if (value->type == BK_JSON_STRING) {
        bk_json_write_string(out, value->string);
        return;
    }
    if (!is_object && value->type != BK_JSON_ARRAY) {
        bk_buffer_append_slice(out, value->text);
        return;
    }
    bk_buffer_append_char(out, is_object ? '{' : '[');
    for (const struct bk_json *child = value->child; child != NULL; child = child->next) {
        if (is_object)
            bk_json_write_key(out, child->key);
        else
            bk_json_write_separator(out);
        write(child, out);
    }
    bk_buffer_append_char(out, is_object ? '}' : ']');
}

static void check_same(const struct bk_json *a, const struct bk_json *b) {
    BK_ASSERT(a->type == b->type && a->boolean == b->boolean && a->child_count == b->child_count);
    BK_ASSERT(bk_slice_equal(a->key, b->key) && bk_slice_equal(a->string, b->string));
    BK_ASSERT(a->type != BK_JSON_NUMBER || bk_slice_equal(a->text, b->text));
    for (a = a->child, b = b->child; a != NULL; a = a->next, b = b->next)
        check_same(a, b);
}

static void check_written(struct bk_arena *arena, const struct bk_json *value) {
    struct bk_buffer out;
    struct bk_json *again;
    bk_buffer_init(&out, TEXT_BYTES_MAX);
    write(value, &out);
    BK_ASSERT(!out.is_overflown);
    BK_ASSERT(bk_json_parse(arena, bk_buffer_slice(&out), &again, NULL) == BK_OK);
    check_same(value, again);
    bk_buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice text = fuzz_copy(data, size);
    struct bk_error error = BK_ERROR_INIT;
    struct bk_arena arena;
    struct bk_json *value = NULL;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (bk_json_parse(&arena, text, &value, &error) == BK_OK) {
        check(value, 0);
        check_written(&arena, value);
    } else {
        /* That is what it says when the gate let through what cJSON does not read. */
        BK_ASSERT(!bk_slice_ends_with(bk_slice_from(error.message),
                                      BK_SLICE(": the text is not valid JSON")));
    }
    bk_arena_fini(&arena);
    fuzz_free(text);
    return 0;
}
