/* What an endpoint asks for in Retry-After, whatever it sends. */
#include "places.h"

#include "support.h"

enum { DAY_MS = 24 * 60 * 60 * 1000 };

/* 1994-11-06T08:49:37Z */
static const int64_t now_ms = INT64_C(784111777) * 1000;

static uint64_t read_text(const char *text) {
    return webhooks_retry_after_read(bk_slice_from(text), now_ms);
}

static void seconds_are_taken_up_to_a_day(void **state) {
    (void)state;
    assert_int_equal(read_text("120"), 120 * 1000);
    assert_int_equal(read_text("  7 "), 7 * 1000);
    assert_int_equal(read_text("0"), 0);
    assert_int_equal(read_text("86399"), DAY_MS - 1000);
    assert_int_equal(read_text("86401"), DAY_MS);
    assert_int_equal(read_text("9223372036854775807"), DAY_MS);
    assert_int_equal(read_text("99999999999999999999999"), DAY_MS);
}

static void dates_are_taken_up_to_a_day(void **state) {
    (void)state;
    assert_int_equal(read_text("Sun, 06 Nov 1994 08:50:37 GMT"), 60 * 1000);
    assert_int_equal(read_text("Sun, 06 Nov 1994 08:48:37 GMT"), 0);
    assert_int_equal(read_text("Fri, 31 Dec 9999 23:59:59 GMT"), DAY_MS);
}

static void anything_else_is_not_there(void **state) {
    static const char *const texts[] = {
        "",
        "-1",
        "-9223372036854775808",
        "+5",
        "1.5",
        "soon",
        "Sun, 06 Nov 1994 08:50:37 CET",
        "Sun, 06 Foo 1994 08:50:37 GMT",
        "Sun, 99 Nov 1994 08:50:37 GMT",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++)
        assert_int_equal(read_text(texts[i]), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_are_taken_up_to_a_day),
        cmocka_unit_test(dates_are_taken_up_to_a_day),
        cmocka_unit_test(anything_else_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
