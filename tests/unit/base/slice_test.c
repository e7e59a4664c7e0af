/* Questions about borrowed text, at their edges. */
#include "bakend/slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_equality(void **state) {
    (void)state;
    assert_true(bk_slice_equal(BK_SLICE_EMPTY, BK_SLICE("")));
    assert_true(bk_slice_is(bk_slice_from("role"), "role"));
    assert_false(bk_slice_is(bk_slice_from("Role"), "role"));
    assert_false(bk_slice_is(bk_slice_from(NULL), "x"));
    assert_true(bk_slice_equal_ignore_case(BK_SLICE("Content-TYPE"), BK_SLICE("content-type")));
    assert_false(bk_slice_equal_ignore_case(BK_SLICE("a"), BK_SLICE("ab")));
    /* '@' and '`', '[' and '{' differ by the same bit as letters do. */
    assert_false(bk_slice_equal_ignore_case(BK_SLICE("@["), BK_SLICE("`{")));
}

static void test_prefix_and_suffix(void **state) {
    (void)state;
    assert_true(bk_slice_starts_with(BK_SLICE("posts.created"), BK_SLICE("posts.")));
    assert_true(bk_slice_starts_with(BK_SLICE_EMPTY, BK_SLICE_EMPTY));
    assert_false(bk_slice_starts_with(BK_SLICE("po"), BK_SLICE("posts")));
    assert_true(bk_slice_ends_with(BK_SLICE("posts.created"), BK_SLICE(".created")));
    assert_true(bk_slice_ends_with(BK_SLICE_EMPTY, BK_SLICE("")));
    assert_false(bk_slice_ends_with(BK_SLICE("d"), BK_SLICE("ed")));
}

static void test_order_is_by_bytes_and_shorter_first(void **state) {
    (void)state;
    assert_int_equal(bk_slice_compare(BK_SLICE("a"), BK_SLICE("a")), 0);
    assert_true(bk_slice_compare(BK_SLICE("a"), BK_SLICE("ab")) < 0);
    assert_true(bk_slice_compare(BK_SLICE("b"), BK_SLICE("ab")) > 0);
    assert_true(bk_slice_compare(BK_SLICE("\xff"), BK_SLICE("a")) > 0);
    assert_true(bk_slice_compare(BK_SLICE_EMPTY, BK_SLICE("a")) < 0);
    assert_int_equal(bk_slice_compare(BK_SLICE_EMPTY, BK_SLICE("")), 0);
}

static void test_find_and_trim(void **state) {
    (void)state;
    assert_int_equal(bk_slice_find(BK_SLICE("a=b"), '='), 1);
    assert_int_equal(bk_slice_find(BK_SLICE("ab"), '='), 2);
    assert_int_equal(bk_slice_find(BK_SLICE_EMPTY, '='), 0);
    assert_true(bk_slice_is(bk_slice_trim(BK_SLICE(" \t\r\n a b \n")), "a b"));
    assert_int_equal(bk_slice_trim(BK_SLICE(" \t ")).length, 0);
    assert_int_equal(bk_slice_trim(BK_SLICE_EMPTY).length, 0);
}

static void test_split_keeps_empty_parts(void **state) {
    (void)state;
    struct bk_slice rest = BK_SLICE("a,,b");
    struct bk_slice part;
    assert_true(bk_slice_split(&rest, ',', &part) && bk_slice_is(part, "a"));
    assert_true(bk_slice_split(&rest, ',', &part) && bk_slice_is(part, ""));
    assert_true(bk_slice_split(&rest, ',', &part) && bk_slice_is(part, "b"));
    assert_false(bk_slice_split(&rest, ',', &part));
    rest = BK_SLICE("a,");
    assert_true(bk_slice_split(&rest, ',', &part) && bk_slice_is(part, "a"));
    assert_true(bk_slice_split(&rest, ',', &part) && bk_slice_is(part, ""));
    assert_false(bk_slice_split(&rest, ',', &part));
    rest = BK_SLICE_EMPTY;
    assert_false(bk_slice_split(&rest, ',', &part));
}

static void test_int64_is_strict_and_in_range(void **state) {
    (void)state;
    int64_t value = 77;
    assert_true(bk_slice_to_int64(BK_SLICE("9223372036854775807"), &value));
    assert_true(value == INT64_MAX);
    assert_true(bk_slice_to_int64(BK_SLICE("-9223372036854775808"), &value));
    assert_true(value == INT64_MIN);
    assert_true(bk_slice_to_int64(BK_SLICE("-0"), &value) && value == 0);
    assert_true(bk_slice_to_int64(BK_SLICE("0007"), &value) && value == 7);
    value = 77;
    const char *refused[] = {"",
                             "-",
                             "+1",
                             " 1",
                             "1 ",
                             "1.0",
                             "1a",
                             "--1",
                             "0x1",
                             "9223372036854775808",
                             "-9223372036854775809",
                             "99999999999999999999"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_false(bk_slice_to_int64(bk_slice_from(refused[i]), &value));
    assert_int_equal(value, 77);
}

static void test_utf8_follows_rfc_3629(void **state) {
    (void)state;
    const char *valid[] = {"",
                           "plain ascii of more than eight bytes",
                           "\xC2\x80",
                           "\xDF\xBF",
                           "\xE0\xA0\x80",
                           "\xED\x9F\xBF",
                           "\xEE\x80\x80",
                           "\xEF\xBF\xBF",
                           "\xF0\x90\x80\x80",
                           "\xF4\x8F\xBF\xBF",
                           "12345678\xC3\xA9"};
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++)
        assert_true(bk_slice_is_utf8(bk_slice_from(valid[i])));
    const char *broken[] = {"\xff\xfe",
                            "\x80",
                            "\xC0\x80",
                            "\xC1\xBF",
                            "\xC2",
                            "\xC2 ",
                            "\xE0\x9F\xBF",
                            "\xED\xA0\x80",
                            "\xED\xBF\xBF",
                            "\xE2\x82",
                            "\xE2\x82 ",
                            "\xF0\x8F\xBF\xBF",
                            "\xF4\x90\x80\x80",
                            "\xF5\x80\x80\x80",
                            "\xF0\x90\x80",
                            "12345678\xC3",
                            "1234567\xC3\x28"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_false(bk_slice_is_utf8(bk_slice_from(broken[i])));
    assert_true(bk_slice_is_utf8(BK_SLICE("a\0b")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equality),
        cmocka_unit_test(test_prefix_and_suffix),
        cmocka_unit_test(test_order_is_by_bytes_and_shorter_first),
        cmocka_unit_test(test_find_and_trim),
        cmocka_unit_test(test_split_keeps_empty_parts),
        cmocka_unit_test(test_int64_is_strict_and_in_range),
        cmocka_unit_test(test_utf8_follows_rfc_3629),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
