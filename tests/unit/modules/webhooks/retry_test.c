/* The schedule of a delivery's attempts: as it is written, and the pauses that come of it. */
#include "webhooks.h"

#include "support.h"

enum { DRAWS = 2000, HOUR_MS = 3600 * 1000 };

static struct webhooks_state module;
static struct bk_error error;

static enum bk_status parse(const char *text) {
    module = (struct webhooks_state){.schedule_count = 0};
    return webhooks_schedule_parse(bk_slice_from(text), &module, &error);
}

static void the_default_has_twelve_attempts_over_three_days(void **state) {
    (void)state;
    int64_t sum_ms = 0;
    assert_int_equal(parse("0s,5s,30s,2m,10m,30m,2h,5h,10h,14h,20h,24h"), BK_OK);
    assert_int_equal(module.schedule_count, 12);
    for (uint32_t i = 0; i < module.schedule_count; i++)
        sum_ms += (int64_t)module.schedule_ms[i];
    assert_int_equal(module.schedule_ms[1], 5000);
    assert_int_equal(module.schedule_ms[11], 24 * HOUR_MS);
    assert_in_range(sum_ms, INT64_C(75) * HOUR_MS, INT64_C(76) * HOUR_MS);
}

static void units_and_spaces_are_read(void **state) {
    (void)state;
    assert_int_equal(parse(" 0s , 250ms,1d , 30d"), BK_OK);
    assert_int_equal(module.schedule_count, 4);
    assert_int_equal(module.schedule_ms[1], 250);
    assert_int_equal(module.schedule_ms[3], INT64_C(720) * HOUR_MS);
    assert_int_equal(parse("0s"), BK_OK);
    assert_int_equal(module.schedule_count, 1);
}

static void what_is_no_schedule_is_refused_with_what_is_wrong(void **state) {
    static const struct {
        const char *text, *word;
    } wrong[] = {{"", "\"\" is no pause"},
                 {"5s,30s", "begin with 0s"},
                 {"0s,", "\"\" is no pause"},
                 {"0s,5", "\"5\" is no pause"},
                 {"0s,-5s", "\"-5s\" is no pause"},
                 {"0s,5 s", "\"5 s\" is no pause"},
                 {"0s,31d", "\"31d\" is no pause"},
                 {"0s,99999999999999999999s", "is no pause"},
                 {"0s,1w", "\"1w\" is no pause"},
                 {"0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,0s,"
                  "0s,0s,0s,0s,0s",
                  "more than 30"}};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        module = (struct webhooks_state){.schedule_count = 77};
        assert_int_equal(webhooks_schedule_parse(bk_slice_from(wrong[i].text), &module, &error),
                         BK_INVALID);
        if (strstr(error.message, wrong[i].word) == NULL)
            fail_msg("%s: %s", wrong[i].text, error.message);
        assert_int_equal(module.schedule_count, 77);
    }
}

static void who_only_looks_may_have_no_state(void **state) {
    (void)state;
    assert_int_equal(webhooks_schedule_parse(BK_SLICE("0s,1s"), NULL, &error), BK_OK);
    assert_int_equal(webhooks_schedule_parse(BK_SLICE("1s"), NULL, &error), BK_INVALID);
}

static void check_spread(uint32_t number, int64_t low_ms, int64_t high_ms) {
    int64_t least_ms = INT64_MAX, most_ms = 0;
    for (int i = 0; i < DRAWS; i++) {
        int64_t delay_ms = webhooks_retry_delay(&module, number, 0);
        assert_in_range(delay_ms, low_ms, high_ms);
        least_ms = delay_ms < least_ms ? delay_ms : least_ms;
        most_ms = delay_ms > most_ms ? delay_ms : most_ms;
    }
    /* Two thousand draws that all miss a tenth of the range: once in 10^91. */
    assert_true(least_ms < low_ms + (high_ms - low_ms) / 10);
    assert_true(most_ms > high_ms - (high_ms - low_ms) / 10);
}

static void the_first_three_pauses_are_spread_by_a_fifth_and_the_others_by_half(void **state) {
    (void)state;
    assert_int_equal(parse("0s,1h,1h,1h,1h,1h"), BK_OK);
    for (uint32_t number = 1; number <= 3; number++)
        check_spread(number, HOUR_MS * 4 / 5, HOUR_MS * 6 / 5);
    check_spread(4, HOUR_MS / 2, HOUR_MS * 3 / 2);
    check_spread(5, HOUR_MS / 2, HOUR_MS * 3 / 2);
}

static void behind_the_last_attempt_there_is_none(void **state) {
    (void)state;
    assert_int_equal(parse("0s,1s"), BK_OK);
    assert_true(webhooks_retry_delay(&module, 1, 0) > 0);
    assert_int_equal(webhooks_retry_delay(&module, 2, 0), -1);
    assert_int_equal(webhooks_retry_delay(&module, 2, 60000), -1);
    assert_int_equal(webhooks_retry_delay(&module, UINT32_MAX, 0), -1);
}

static void what_an_endpoint_asks_for_is_a_floor_of_a_day_at_most(void **state) {
    (void)state;
    assert_int_equal(parse("0s,1s,48h"), BK_OK);
    assert_int_equal(webhooks_retry_delay(&module, 1, 60000), 60000);
    assert_true(webhooks_retry_delay(&module, 1, 1) >= 800);
    assert_int_equal(webhooks_retry_delay(&module, 1, UINT64_MAX), 24 * HOUR_MS);
    assert_true(webhooks_retry_delay(&module, 2, 24 * HOUR_MS) >= 38 * HOUR_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_has_twelve_attempts_over_three_days),
        cmocka_unit_test(units_and_spaces_are_read),
        cmocka_unit_test(what_is_no_schedule_is_refused_with_what_is_wrong),
        cmocka_unit_test(who_only_looks_may_have_no_state),
        cmocka_unit_test(the_first_three_pauses_are_spread_by_a_fifth_and_the_others_by_half),
        cmocka_unit_test(behind_the_last_attempt_there_is_none),
        cmocka_unit_test(what_an_endpoint_asks_for_is_a_floor_of_a_day_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
