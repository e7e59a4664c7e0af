/* Proves what the clock of ages believes: time that passes, and leaps that have lasted a day. */
#include "support.h"

#include "bakend/age_clock.h"

#define HOUR_MS (INT64_C(60) * 60 * 1000)
#define YEARS_MS (INT64_C(3652) * 24 * HOUR_MS)
#define NOW_MS INT64_C(1700000000000)

static void it_goes_with_the_wall_clock(void **state) {
    struct bk_age_clock clock = {0};
    (void)state;
    for (int64_t hour = 0; hour < 100; hour++)
        assert_int_equal(
            bk_age_clock_look(&clock, NOW_MS + hour * HOUR_MS, (uint64_t)(hour * HOUR_MS)),
            NOW_MS + hour * HOUR_MS);
}

static void a_small_leap_and_a_leap_back_are_followed(void **state) {
    static const int64_t leaps[] = {HOUR_MS, 24 * HOUR_MS, -HOUR_MS, -YEARS_MS};
    (void)state;
    for (size_t i = 0; i < sizeof(leaps) / sizeof(leaps[0]); i++) {
        struct bk_age_clock clock = {0};
        (void)bk_age_clock_look(&clock, NOW_MS, 1000);
        assert_int_equal(bk_age_clock_look(&clock, NOW_MS + leaps[i], 1000), NOW_MS + leaps[i]);
    }
}

static void a_leap_of_years_is_believed_after_a_day(void **state) {
    struct bk_age_clock clock = {0};
    int64_t hour;
    (void)state;
    (void)bk_age_clock_look(&clock, NOW_MS, 0);
    for (hour = 1; hour <= 24; hour++)
        assert_int_equal(bk_age_clock_look(&clock, NOW_MS + YEARS_MS + hour * HOUR_MS,
                                           (uint64_t)(hour * HOUR_MS)),
                         NOW_MS + hour * HOUR_MS);
    assert_int_equal(
        bk_age_clock_look(&clock, NOW_MS + YEARS_MS + hour * HOUR_MS, (uint64_t)(hour * HOUR_MS)),
        NOW_MS + YEARS_MS + hour * HOUR_MS);
}

static void a_leap_that_is_taken_back_was_none(void **state) {
    struct bk_age_clock clock = {0};
    (void)state;
    (void)bk_age_clock_look(&clock, NOW_MS, 0);
    (void)bk_age_clock_look(&clock, NOW_MS + YEARS_MS, 0);
    assert_int_equal(bk_age_clock_look(&clock, NOW_MS + HOUR_MS, HOUR_MS), NOW_MS + HOUR_MS);
    /* The next one is doubted for a day of its own. */
    for (int64_t hour = 10; hour < 34; hour += 8)
        assert_int_equal(bk_age_clock_look(&clock, NOW_MS + YEARS_MS, (uint64_t)(hour * HOUR_MS)),
                         NOW_MS + hour * HOUR_MS);
}

static void what_was_seen_before_the_start_counts(void **state) {
    struct bk_age_clock clock = {0};
    (void)state;
    bk_age_clock_seed(&clock, NOW_MS, 5000);
    bk_age_clock_seed(&clock, NOW_MS + YEARS_MS, 5000);
    assert_int_equal(bk_age_clock_look(&clock, NOW_MS + YEARS_MS, 6000), NOW_MS + 1000);
    assert_int_equal(bk_age_clock_look(&clock, NOW_MS + HOUR_MS, 6000), NOW_MS + HOUR_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_with_the_wall_clock),
        cmocka_unit_test(a_small_leap_and_a_leap_back_are_followed),
        cmocka_unit_test(a_leap_of_years_is_believed_after_a_day),
        cmocka_unit_test(a_leap_that_is_taken_back_was_none),
        cmocka_unit_test(what_was_seen_before_the_start_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
