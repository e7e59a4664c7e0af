/* Files of a form in the body of a record, and the names that they are stored by. */
#include "support.h"

#include "bakend/api.h"

static const struct bk_field_type file_type = {.name = "file", .takes_uploads = true};
static const struct bk_field_type text_type = {.name = "text"};

static struct bk_field fields[] = {
    {.name = BK_SLICE_INIT("title"), .type = &text_type},
    {.name = BK_SLICE_INIT("docs"), .type = &file_type},
};
static const struct bk_collection collection = {.fields = fields, .field_count = 2};

static struct bk_arena arena;
static struct bk_upload *uploads;

static const struct bk_json *take(const char *json, const struct bk_request_file *files,
                                  const char *prefix) {
    struct bk_json *parsed = NULL;
    const struct bk_json *body = NULL;
    if (json != NULL) {
        assert_int_equal(bk_json_parse(&arena, bk_slice_from(json), &parsed, NULL), BK_OK);
        body = parsed;
    }
    uploads = NULL;
    assert_int_equal(
        bk_request_take_uploads(&arena, files, bk_slice_from(prefix), &collection, &body, &uploads),
        BK_OK);
    return body;
}

/* The texts of a member, "#" for one that is an upload's name. */
static void expect(const struct bk_json *body, const char *key, const char *texts) {
    const struct bk_json *list = bk_json_get(body, bk_slice_from(key));
    struct bk_slice rest = bk_slice_from(texts), text;
    assert_non_null(list);
    assert_int_equal(list->type, BK_JSON_ARRAY);
    const struct bk_json *item = list->child;
    for (; rest.length > 0 && bk_slice_split(&rest, ' ', &text); item = item->next) {
        assert_non_null(item);
        bool is_upload = false;
        for (const struct bk_upload *each = uploads; each != NULL; each = each->next)
            is_upload = is_upload || bk_slice_equal(each->stored_name, item->string);
        assert_true(is_upload ? bk_slice_is(text, "#") : bk_slice_equal(item->string, text));
    }
    assert_null(item);
}

static void puts_files_of_file_fields_into_the_body(void **state) {
    struct bk_request_file files[] = {
        {.next = &files[1], .key = BK_SLICE_INIT("docs"), .name = BK_SLICE_INIT("a.txt")},
        {.next = &files[2], .key = BK_SLICE_INIT("title"), .name = BK_SLICE_INIT("b.txt")},
        {.next = &files[3], .key = BK_SLICE_INIT("docs"), .name = BK_SLICE_INIT("c.txt")},
        {.next = &files[4], .key = BK_SLICE_INIT("docs+"), .name = BK_SLICE_INIT("d.txt")},
        {.next = &files[5], .key = BK_SLICE_INIT("+docs"), .name = BK_SLICE_INIT("e.txt")},
        {.next = &files[6], .key = BK_SLICE_INIT("docs-"), .name = BK_SLICE_INIT("f.txt")},
        {.key = BK_SLICE_INIT("+docs+"), .name = BK_SLICE_INIT("g.txt")},
    };
    const struct bk_json *body = take("{\"title\":\"t\",\"docs+\":\"x\"}", files, "");
    (void)state;
    assert_true(bk_slice_is(bk_json_get_string(body, BK_SLICE("title")), "t"));
    expect(body, "docs", "# #");
    expect(body, "docs+", "#");
    expect(body, "+docs", "#");
    assert_int_equal(body->child_count, 4);
    body = take(NULL, files, "");
    assert_int_equal(body->child_count, 3);
}

static void keeps_the_names_that_were_sent_too(void **state) {
    struct bk_request_file file = {.key = BK_SLICE_INIT("docs"), .name = BK_SLICE_INIT("a.txt")};
    (void)state;
    expect(take("{\"docs\":[\"x\",\"y\"]}", &file, ""), "docs", "x y #");
    expect(take("{\"docs\":\"x\"}", &file, ""), "docs", "x #");
    expect(take("{\"docs\":\"[\\\"x\\\",\\\"y\\\"]\"}", &file, ""), "docs", "x y #");
    expect(take("{\"docs\":null}", &file, ""), "docs", "#");
}

static void finds_the_files_of_a_part_of_a_batch(void **state) {
    struct bk_request_file files[] = {
        {.next = &files[1], .key = BK_SLICE_INIT("requests.1.docs"), .name = BK_SLICE_INIT("a")},
        {.next = &files[2], .key = BK_SLICE_INIT("requests.11.docs"), .name = BK_SLICE_INIT("b")},
        {.key = BK_SLICE_INIT("docs"), .name = BK_SLICE_INIT("c")},
    };
    const struct bk_json *body = take("{}", files, "requests.1");
    (void)state;
    expect(body, "docs", "#");
    assert_true(bk_slice_is(uploads->name, "a") && uploads->next == NULL);
    assert_int_equal(take("{}", files, "requests.2")->child_count, 0);
}

/* Of a client's name, with "#" for ten random characters. */
static void stored_as(const char *name, const char *data, const char *pattern) {
    struct bk_request_file file = {
        .key = BK_SLICE_INIT("docs"), .name = bk_slice_from(name), .data = bk_slice_from(data)};
    (void)take(NULL, &file, "");
    struct bk_slice stored = uploads->stored_name;
    size_t at = 0;
    for (; *pattern != '\0'; pattern++) {
        size_t length = *pattern == '#' ? 10 : 1;
        assert_true(at + length <= stored.length);
        for (size_t i = at; i < at + length; i++) {
            char c = stored.data[i];
            assert_true(*pattern == '#' ? (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
                                        : c == *pattern);
        }
        at += length;
    }
    assert_int_equal(at, stored.length);
}

static void makes_names_as_the_contract_has_them(void **state) {
    char large[400];
    (void)state;
    stored_as("plain.txt", "", "plain_#.txt");
    stored_as("UPPER.TXT", "", "upper_#.TXT");
    stored_as("two words.txt", "", "two_words_#.txt");
    stored_as("CamelCaseName.md", "", "camel_case_name_#.md");
    stored_as("\xc3\xbcn\xc3\xaf"
              "c.txt",
              "", "n_c_#.txt");
    stored_as("dots.in.name.tar.gz", "", "dots_in_name_#.tar.gz");
    stored_as("noext", "hello", "noext_#.txt");
    stored_as("noext", "\x89PNG\r\n\x1a\n", "noext_#.png");
    stored_as("noext", "\1", "noext_#");
    stored_as(".hidden", "hello", "#_#.hidden");
    stored_as("a.txt", "", "a#_#.txt");
    stored_as("semi;colon&amp.t;x\"t", "", "semi_colon_amp_#.txt");
    stored_as("x.verylongextensionname", "", "x#_#.erylongextensionname");
    memset(large, 'a', sizeof(large) - 1);
    memcpy(large + sizeof(large) - 5, ".txt", 5);
    stored_as(
        large, "",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaa_#.txt");
}

static int setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 1 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_files_of_file_fields_into_the_body),
        cmocka_unit_test(keeps_the_names_that_were_sent_too),
        cmocka_unit_test(finds_the_files_of_a_part_of_a_batch),
        cmocka_unit_test(makes_names_as_the_contract_has_them),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
