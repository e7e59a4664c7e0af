/* Header values with parameters, as clients write them and as attackers do. */
#include "support.h"

#include "bakend/assert.h"
#include "header_value.h"

static struct bk_arena arena;
static struct api_header_parameter found[2];
static struct bk_slice head;

static bool reads(const char *text) {
    memset(found, 0, sizeof(found));
    found[0].name = "name";
    found[1].name = "filename";
    return api_header_value_read(&arena, bk_slice_from(text), &head, found, BK_COUNT_OF(found));
}

static void expect(const char *text, const char *name, const char *file_name) {
    assert_true(reads(text));
    assert_true(bk_slice_is(head, "form-data"));
    assert_true(bk_slice_equal(found[0].value, bk_slice_from(name)));
    assert_true(bk_slice_equal(found[1].value, bk_slice_from(file_name)));
}

static void reads_tokens_and_quoted_values(void **state) {
    (void)state;
    expect("form-data; name=\"title\"", "title", "");
    expect("form-data;name=title", "title", "");
    expect(" form-data ; NAME = \"a b\" ;filename=\"\"; ", "a b", "");
    expect("form-data; name=\"a\"; x=y; filename=\"b;c=\\\"d\\\".txt\"", "a", "b;c=\"d\".txt");
    expect("form-data", "", "");
    assert_true(reads(NULL));
    assert_int_equal(head.length + found[0].value.length, 0);
}

static void keeps_the_backslashes_of_old_browsers(void **state) {
    (void)state;
    expect("form-data; name=\"a\"; filename=\"C:\\new\\b.txt\"", "a", "C:\\new\\b.txt");
    expect("form-data; name=\"a\"; filename=\"x\\\\y\"", "a", "x\\y");
}

static void decodes_extended_parameters(void **state) {
    (void)state;
    expect("form-data; name=a; filename=\"?.txt\"; filename*=UTF-8''%e2%82%ac.txt", "a",
           "\xe2\x82\xac.txt");
    expect("form-data; filename*=utf-8'en'plain; name=a", "a", "plain");
    assert_false(reads("form-data; filename*=latin1''%e9"));
    assert_false(reads("form-data; filename*=utf-8''%e"));
    assert_false(reads("form-data; filename*=utf-8"));
}

static void refuses_what_has_two_readings(void **state) {
    (void)state;
    expect("form-data; name=a; name=\"a\"", "a", "");
    assert_false(reads("form-data; name=a; name=b"));
    assert_false(reads("form-data; filename*0=a; filename*1=b"));
    assert_false(reads("form-data; name=\"a"));
    assert_false(reads("form-data; name=\"a\\"));
    assert_false(reads("form-data; name=\"a\"b"));
    assert_false(reads("form-data; name"));
    assert_false(reads("form-data; name="));
    assert_false(reads("form-data; =a"));
    assert_false(reads("form-data; name=a b"));
    assert_false(reads("form-data;; name=a"));
}

static int setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 65536);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_tokens_and_quoted_values),
        cmocka_unit_test(keeps_the_backslashes_of_old_browsers),
        cmocka_unit_test(decodes_extended_parameters),
        cmocka_unit_test(refuses_what_has_two_readings),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
