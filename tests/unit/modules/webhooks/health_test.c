/* When an endpoint is left alone, when it is tried again, and what its owner is told meanwhile: the
 * rules alone, with a clock that the test sets. */
#include "breaker.h"

#include "support.h"

enum { MINUTE_MS = 60 * 1000, PROBE_MS = 30 * 1000, PROBE_SPREAD_MS = PROBE_MS / 5 };
#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)
#define START_MS UINT64_C(1000000)

static struct webhooks_breaker breaker;
static uint64_t now_ms;

static int begin(void **state) {
    (void)state;
    breaker = (struct webhooks_breaker){0};
    now_ms = START_MS;
    return 0;
}

/* random 0: the spread is taken off in whole. */
static enum webhooks_breaker_change report(const struct webhooks_result *result) {
    return webhooks_breaker_report(&breaker, now_ms, result, 0);
}

static enum webhooks_breaker_change succeed(void) {
    const struct webhooks_result result = {.verdict = WEBHOOKS_OK, .status = 200, .latency_ms = 5};
    return report(&result);
}

static enum webhooks_breaker_change fail_with(uint32_t status) {
    const struct webhooks_result result = {
        .verdict = WEBHOOKS_AGAIN, .status = status, .latency_ms = 5};
    return report(&result);
}

static enum webhooks_breaker_change time_out(void) {
    const struct webhooks_result result = {
        .verdict = WEBHOOKS_AGAIN, .is_timeout = true, .latency_ms = 15000};
    return report(&result);
}

static enum webhooks_breaker_change ask_for(uint32_t status, uint64_t retry_after_ms) {
    const struct webhooks_result result = {.verdict = WEBHOOKS_AGAIN,
                                           .status = status,
                                           .latency_ms = 5,
                                           .retry_after_ms = retry_after_ms};
    return report(&result);
}

static void break_it(void) {
    for (int i = 0; i < 9; i++)
        assert_int_equal(fail_with(500), WEBHOOKS_NO_CHANGE);
    assert_int_equal(fail_with(500), WEBHOOKS_HAS_OPENED);
}

static uint32_t allows(void) { return webhooks_breaker_allows(&breaker, now_ms); }

/* --- opening ---------------------------------------------------------------------------------- */

static void ten_failures_open_it_and_nine_do_not(void **state) {
    (void)state;
    for (int i = 0; i < 9; i++)
        assert_int_equal(fail_with(500), WEBHOOKS_NO_CHANGE);
    assert_int_equal(allows(), UINT32_MAX);
    assert_int_equal(fail_with(500), WEBHOOKS_HAS_OPENED);
    assert_int_equal(allows(), 0);
    assert_int_equal(webhooks_breaker_state(&breaker, now_ms), WEBHOOKS_OPEN);
}

static void seven_in_ten_open_it_and_six_do_not(void **state) {
    (void)state;
    for (int i = 0; i < 40; i++)
        assert_int_equal(i % 10 < 4 ? succeed() : fail_with(500), WEBHOOKS_NO_CHANGE);
    (void)begin(NULL);
    for (int i = 0; i < 9; i++)
        assert_int_equal(i < 3 ? succeed() : fail_with(500), WEBHOOKS_NO_CHANGE);
    assert_int_equal(fail_with(500), WEBHOOKS_HAS_OPENED);
}

static void failures_older_than_five_minutes_do_not_count(void **state) {
    (void)state;
    for (int i = 0; i < 9; i++)
        (void)fail_with(500);
    now_ms += 5 * MINUTE_MS;
    assert_int_equal(fail_with(500), WEBHOOKS_NO_CHANGE);
    for (int i = 0; i < 30; i++) {
        now_ms += MINUTE_MS;
        assert_int_equal(fail_with(500), WEBHOOKS_NO_CHANGE);
    }
}

static void failures_within_five_minutes_count_though_they_are_spread(void **state) {
    (void)state;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(fail_with(500), WEBHOOKS_NO_CHANGE);
        now_ms += 25 * 1000;
    }
    assert_int_equal(fail_with(500), WEBHOOKS_HAS_OPENED);
}

static void five_timeouts_in_a_row_open_it(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(time_out(), WEBHOOKS_NO_CHANGE);
    (void)succeed();
    for (int i = 0; i < 4; i++)
        assert_int_equal(time_out(), WEBHOOKS_NO_CHANGE);
    assert_int_equal(time_out(), WEBHOOKS_HAS_OPENED);
}

/* --- probes ----------------------------------------------------------------------------------- */

static void one_probe_is_allowed_after_half_a_minute(void **state) {
    (void)state;
    break_it();
    now_ms += PROBE_MS - PROBE_SPREAD_MS - 1;
    assert_int_equal(allows(), 0);
    now_ms++;
    assert_int_equal(allows(), 1);
    assert_int_equal(webhooks_breaker_state(&breaker, now_ms), WEBHOOKS_HALF_OPEN);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), now_ms);
}

static void what_was_on_its_way_when_it_opened_changes_nothing(void **state) {
    (void)state;
    break_it();
    uint64_t until_ms = webhooks_breaker_until_ms(&breaker);
    assert_int_equal(succeed(), WEBHOOKS_NO_CHANGE);
    for (int i = 0; i < 20; i++)
        assert_int_equal(fail_with(500), WEBHOOKS_NO_CHANGE);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), until_ms);
    assert_int_equal(allows(), 0);
}

static void what_was_on_its_way_for_longer_than_that_is_no_probe(void **state) {
    (void)state;
    break_it();
    uint64_t opened_ms = now_ms;
    now_ms = webhooks_breaker_until_ms(&breaker) + 5000;
    struct webhooks_result result = {.verdict = WEBHOOKS_AGAIN,
                                     .is_timeout = true,
                                     .latency_ms = (uint32_t)(now_ms - opened_ms + 1000)};
    assert_int_equal(report(&result), WEBHOOKS_NO_CHANGE);
    assert_int_equal(allows(), 1);
    result.latency_ms = 5000;
    assert_int_equal(report(&result), WEBHOOKS_HAS_OPENED);
}

static void each_probe_that_fails_doubles_the_pause_up_to_ten_minutes(void **state) {
    (void)state;
    uint64_t pause_ms = PROBE_MS;
    break_it();
    for (int i = 0; i < 12; i++) {
        assert_int_equal(webhooks_breaker_until_ms(&breaker) - now_ms, pause_ms - pause_ms / 5);
        now_ms = webhooks_breaker_until_ms(&breaker);
        assert_int_equal(fail_with(500), WEBHOOKS_HAS_OPENED);
        pause_ms = pause_ms * 2 > 10 * MINUTE_MS ? 10 * MINUTE_MS : pause_ms * 2;
    }
    assert_int_equal(pause_ms, 10 * MINUTE_MS);
}

static void the_pause_is_spread_by_a_fifth(void **state) {
    (void)state;
    const struct webhooks_result result = {.verdict = WEBHOOKS_AGAIN, .status = 500};
    for (int i = 0; i < 10; i++)
        (void)webhooks_breaker_report(&breaker, now_ms, &result, 2 * PROBE_SPREAD_MS);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), now_ms + PROBE_MS + PROBE_SPREAD_MS);
}

static void a_probe_that_succeeds_closes_it_and_all_is_forgotten(void **state) {
    (void)state;
    break_it();
    now_ms = webhooks_breaker_until_ms(&breaker);
    (void)fail_with(500);
    now_ms = webhooks_breaker_until_ms(&breaker);
    assert_int_equal(succeed(), WEBHOOKS_HAS_CLOSED);
    assert_int_equal(allows(), UINT32_MAX);
    break_it();
    assert_int_equal(webhooks_breaker_until_ms(&breaker), now_ms + PROBE_MS - PROBE_SPREAD_MS);
}

static void a_delivery_that_the_endpoint_gave_up_shows_that_it_works(void **state) {
    (void)state;
    const struct webhooks_result result = {.verdict = WEBHOOKS_STOP, .status = 400};
    for (int i = 0; i < 50; i++)
        assert_int_equal(report(&result), WEBHOOKS_NO_CHANGE);
    (void)begin(NULL);
    break_it();
    now_ms = webhooks_breaker_until_ms(&breaker);
    assert_int_equal(report(&result), WEBHOOKS_HAS_CLOSED);
}

/* --- what the endpoint asks for --------------------------------------------------------------- */

static void an_endpoint_that_asks_for_time_is_paused_and_not_broken(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++)
        (void)ask_for(i % 2 == 0 ? 429 : 503, 60000);
    assert_int_equal(webhooks_breaker_state(&breaker, now_ms), WEBHOOKS_CLOSED);
    assert_int_equal(allows(), 0);
    now_ms += 60000 - 1;
    assert_int_equal(allows(), 0);
    now_ms++;
    assert_int_equal(allows(), UINT32_MAX);
}

static void a_shorter_wish_does_not_end_a_longer_one(void **state) {
    (void)state;
    assert_int_equal(ask_for(429, 60000), WEBHOOKS_HAS_PAUSED);
    assert_int_equal(ask_for(429, 1000), WEBHOOKS_NO_CHANGE);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), now_ms + 60000);
}

static void nobody_can_ask_for_more_than_a_day(void **state) {
    (void)state;
    assert_int_equal(ask_for(503, UINT64_MAX), WEBHOOKS_HAS_PAUSED);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), now_ms + (uint64_t)DAY_MS);
}

static void other_answers_with_retry_after_pause_nobody(void **state) {
    (void)state;
    assert_int_equal(ask_for(500, 60000), WEBHOOKS_NO_CHANGE);
    assert_int_equal(allows(), UINT32_MAX);
    assert_int_equal(ask_for(429, 0), WEBHOOKS_NO_CHANGE);
    assert_int_equal(allows(), UINT32_MAX);
}

static void who_is_slow_is_seen_and_who_is_fast_again_too(void **state) {
    (void)state;
    const struct webhooks_result slow = {.verdict = WEBHOOKS_OK, .latency_ms = 3000};
    assert_false(webhooks_breaker_is_slow(&breaker));
    (void)report(&slow);
    assert_true(webhooks_breaker_is_slow(&breaker));
    for (int i = 0; i < 30; i++)
        (void)succeed();
    assert_false(webhooks_breaker_is_slow(&breaker));
}

/* --- over a restart --------------------------------------------------------------------------- */

enum { WALL_MS = 50 * 1000 * 1000 };

/* So much later by the wall clock, and at another time of the loop. */
static void restart_after(int64_t wall_ms) {
    struct webhooks_breaker_mark mark;
    webhooks_breaker_mark(&breaker, now_ms, WALL_MS, &mark);
    breaker = (struct webhooks_breaker){0};
    now_ms = 77;
    webhooks_breaker_restore(&breaker, now_ms, WALL_MS + wall_ms, &mark);
}

static void an_open_breaker_and_a_pause_outlive_a_restart(void **state) {
    (void)state;
    break_it();
    restart_after(1000);
    assert_int_equal(allows(), 0);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), 77 + PROBE_MS - PROBE_SPREAD_MS - 1000);
    now_ms = webhooks_breaker_until_ms(&breaker);
    assert_int_equal(allows(), 1);
    now_ms += 5;
    assert_int_equal(fail_with(500), WEBHOOKS_HAS_OPENED);
    assert_int_equal(webhooks_breaker_until_ms(&breaker),
                     now_ms + 2 * (PROBE_MS - PROBE_SPREAD_MS)); /* the second in a row */
    assert_int_equal(ask_for(429, 60 * MINUTE_MS), WEBHOOKS_HAS_PAUSED);
    restart_after(MINUTE_MS);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), 77 + 59 * MINUTE_MS);
}

static void what_has_passed_meanwhile_is_over(void **state) {
    (void)state;
    break_it();
    restart_after(MINUTE_MS);
    assert_int_equal(webhooks_breaker_state(&breaker, now_ms), WEBHOOKS_HALF_OPEN);
    assert_int_equal(allows(), 1);
    (void)begin(NULL);
    (void)ask_for(503, MINUTE_MS);
    restart_after(MINUTE_MS);
    assert_int_equal(allows(), UINT32_MAX);
    (void)begin(NULL);
    restart_after(0);
    assert_int_equal(allows(), UINT32_MAX);
}

static void a_clock_that_was_set_back_lengthens_nothing_without_an_end(void **state) {
    (void)state;
    break_it();
    restart_after(-1000 * DAY_MS);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), 77 + 12 * MINUTE_MS);
    (void)begin(NULL);
    (void)ask_for(503, MINUTE_MS);
    restart_after(-1000 * DAY_MS);
    assert_int_equal(webhooks_breaker_until_ms(&breaker), 77 + DAY_MS);
}

static void a_pause_that_is_a_moment_longer_is_not_written_again(void **state) {
    struct webhooks_breaker_mark stored = {0}, mark;
    (void)state;
    (void)ask_for(503, MINUTE_MS);
    webhooks_breaker_mark(&breaker, now_ms, WALL_MS, &mark);
    assert_false(webhooks_breaker_mark_is_same(&mark, &stored));
    stored = mark;
    mark.paused_until_ms += 1000;
    assert_true(webhooks_breaker_mark_is_same(&mark, &stored));
    mark.paused_until_ms++;
    assert_false(webhooks_breaker_mark_is_same(&mark, &stored));
    mark = (struct webhooks_breaker_mark){0};
    assert_false(webhooks_breaker_mark_is_same(&mark, &stored));
}

/* --- since when ------------------------------------------------------------------------------- */

static void each_warning_is_told_once_and_at_its_time(void **state) {
    (void)state;
    struct webhooks_failing failing = {0};
    int64_t loop_ms = 5000, age_ms = 1000 * DAY_MS;
    static const struct {
        int64_t after_ms;
        bool is_broken;
        uint32_t level, days;
    } steps[] = {{0, false, 0, 0},         {1000, true, 1, 0},          {DAY_MS - 1, true, 1, 0},
                 {DAY_MS, true, 2, 1},     {2 * DAY_MS, false, 2, 1},   {3 * DAY_MS, false, 3, 3},
                 {4 * DAY_MS, true, 4, 4}, {5 * DAY_MS - 1, true, 4, 4}};
    for (size_t i = 0; i < BK_COUNT_OF(steps); i++) {
        assert_false(webhooks_failing_note(&failing, loop_ms + steps[i].after_ms,
                                           age_ms + steps[i].after_ms, steps[i].is_broken,
                                           5 * DAY_MS));
        assert_int_equal(failing.level, steps[i].level);
        assert_int_equal(webhooks_failing_days(failing.level), steps[i].days);
    }
    assert_int_equal(failing.since_ms, age_ms);
    assert_true(webhooks_failing_note(&failing, loop_ms + 5 * DAY_MS, age_ms, true, 5 * DAY_MS));
}

static void no_warning_comes_behind_the_end_and_without_an_end_nobody_is_disabled(void **state) {
    (void)state;
    struct webhooks_failing failing = {0};
    assert_false(webhooks_failing_note(&failing, 0, DAY_MS, false, DAY_MS));
    assert_true(webhooks_failing_note(&failing, 4 * DAY_MS, DAY_MS, false, DAY_MS));
    assert_int_equal(failing.level, 0);
    assert_false(webhooks_failing_note(&failing, 400 * DAY_MS, DAY_MS, false, 0));
    assert_int_equal(failing.level, 4);
}

static void a_restart_goes_on_counting(void **state) {
    (void)state;
    struct webhooks_failing failing = {.since_ms = 100 * DAY_MS, .level = 2};
    webhooks_failing_restore(&failing, 7000, 102 * DAY_MS);
    assert_false(webhooks_failing_note(&failing, 7000, 102 * DAY_MS, false, 5 * DAY_MS));
    assert_int_equal(failing.level, 2);
    assert_false(webhooks_failing_note(&failing, 7000 + DAY_MS, 103 * DAY_MS, false, 5 * DAY_MS));
    assert_int_equal(failing.level, 3);
    assert_true(
        webhooks_failing_note(&failing, 7000 + 3 * DAY_MS, 105 * DAY_MS, false, 5 * DAY_MS));
}

/* A wall clock that leaps while it runs is the other one's business; one that was wrong before the
 * restart leaves a beginning in the future. */
static void a_clock_that_leaps_disables_nobody(void **state) {
    (void)state;
    struct webhooks_failing failing = {0};
    assert_false(webhooks_failing_note(&failing, 1000, DAY_MS, false, 5 * DAY_MS));
    assert_false(webhooks_failing_note(&failing, 2000, 4000 * DAY_MS, false, 5 * DAY_MS));
    assert_int_equal(failing.level, 0);
    failing = (struct webhooks_failing){.since_ms = 4000 * DAY_MS};
    webhooks_failing_restore(&failing, 7000, DAY_MS);
    assert_false(webhooks_failing_note(&failing, 8000, DAY_MS, false, 5 * DAY_MS));
    assert_int_equal(failing.level, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(ten_failures_open_it_and_nine_do_not, begin),
        cmocka_unit_test_setup(seven_in_ten_open_it_and_six_do_not, begin),
        cmocka_unit_test_setup(failures_older_than_five_minutes_do_not_count, begin),
        cmocka_unit_test_setup(failures_within_five_minutes_count_though_they_are_spread, begin),
        cmocka_unit_test_setup(five_timeouts_in_a_row_open_it, begin),
        cmocka_unit_test_setup(one_probe_is_allowed_after_half_a_minute, begin),
        cmocka_unit_test_setup(what_was_on_its_way_when_it_opened_changes_nothing, begin),
        cmocka_unit_test_setup(what_was_on_its_way_for_longer_than_that_is_no_probe, begin),
        cmocka_unit_test_setup(each_probe_that_fails_doubles_the_pause_up_to_ten_minutes, begin),
        cmocka_unit_test_setup(the_pause_is_spread_by_a_fifth, begin),
        cmocka_unit_test_setup(a_probe_that_succeeds_closes_it_and_all_is_forgotten, begin),
        cmocka_unit_test_setup(a_delivery_that_the_endpoint_gave_up_shows_that_it_works, begin),
        cmocka_unit_test_setup(an_endpoint_that_asks_for_time_is_paused_and_not_broken, begin),
        cmocka_unit_test_setup(a_shorter_wish_does_not_end_a_longer_one, begin),
        cmocka_unit_test_setup(nobody_can_ask_for_more_than_a_day, begin),
        cmocka_unit_test_setup(other_answers_with_retry_after_pause_nobody, begin),
        cmocka_unit_test_setup(who_is_slow_is_seen_and_who_is_fast_again_too, begin),
        cmocka_unit_test_setup(an_open_breaker_and_a_pause_outlive_a_restart, begin),
        cmocka_unit_test_setup(what_has_passed_meanwhile_is_over, begin),
        cmocka_unit_test_setup(a_clock_that_was_set_back_lengthens_nothing_without_an_end, begin),
        cmocka_unit_test_setup(a_pause_that_is_a_moment_longer_is_not_written_again, begin),
        cmocka_unit_test(each_warning_is_told_once_and_at_its_time),
        cmocka_unit_test(no_warning_comes_behind_the_end_and_without_an_end_nobody_is_disabled),
        cmocka_unit_test(a_restart_goes_on_counting),
        cmocka_unit_test(a_clock_that_leaps_disables_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
