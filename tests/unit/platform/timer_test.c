/* Timers: when they run, how often, and what stops them. */
#include "bakend/clock.h"
#include "bakend/loop.h"
#include "support.h"

#include <time.h>

struct tally {
    uint32_t count;
    uint64_t first_ns;
    bool came, closes_itself;
};

static void on_tally(struct bk_timer *timer, void *user) {
    struct tally *tally = user;
    if (tally->count++ == 0)
        tally->first_ns = bk_clock_monotonic_ns();
    tally->came = true;
    if (tally->closes_itself)
        bk_timer_close(timer);
}

static void test_runs_once_and_not_early(void **state) {
    struct tally tally = {0};
    struct bk_timer *timer = bk_timer_create(*state, on_tally, &tally);
    uint64_t start_ns = bk_clock_monotonic_ns();
    bk_timer_start(timer, 20, 0);
    bk_loop_run(*state);
    assert_int_equal(tally.count, 1);
    /* libuv counts in whole milliseconds. */
    assert_true(tally.first_ns - start_ns >= 19ULL * 1000000);
    bk_timer_close(timer);
}

/* The time that the loop keeps stands still while it does not run; a delay must not be cut by
 * that. */
static void test_a_delay_counts_from_its_start_on_an_idle_loop(void **state) {
    struct tally tally = {0};
    struct timespec pause = {.tv_nsec = 40 * 1000000L};
    struct bk_timer *timer = bk_timer_create(*state, on_tally, &tally);
    uint64_t start_ns;
    (void)nanosleep(&pause, NULL);
    start_ns = bk_clock_monotonic_ns();
    bk_timer_start(timer, 30, 0);
    bk_loop_run(*state);
    assert_true(tally.first_ns - start_ns >= 29ULL * 1000000);
    bk_timer_close(timer);
}

static void test_repeats_until_stopped(void **state) {
    struct tally tally = {0};
    struct bk_timer *timer = bk_timer_create(*state, on_tally, &tally);
    bk_timer_start(timer, 1, 1);
    while (tally.count < 5) {
        tally.came = false;
        support_loop_run_until(*state, &tally.came);
    }
    bk_timer_stop(timer);
    bk_loop_run(*state);
    assert_in_range(tally.count, 5, 6);
    bk_timer_close(timer);
}

static void test_starting_again_restarts(void **state) {
    struct tally tally = {0};
    struct bk_timer *timer = bk_timer_create(*state, on_tally, &tally);
    bk_timer_start(timer, 1, 1);
    bk_timer_start(timer, 5, 0);
    bk_loop_run(*state);
    assert_int_equal(tally.count, 1);
    bk_timer_close(timer);
}

static void test_a_closed_timer_never_runs(void **state) {
    struct tally tally = {0};
    struct bk_timer *timer = bk_timer_create(*state, on_tally, &tally);
    bk_timer_start(timer, 0, 0);
    bk_timer_close(timer);
    bk_timer_close(NULL);
    bk_loop_run(*state);
    assert_int_equal(tally.count, 0);
}

static void test_may_close_itself(void **state) {
    struct tally tally = {.closes_itself = true};
    bk_timer_start(bk_timer_create(*state, on_tally, &tally), 1, 1);
    bk_loop_run(*state);
    assert_int_equal(tally.count, 1);
}

static void test_a_background_timer_does_not_keep_the_loop_alive(void **state) {
    struct tally tally = {0};
    struct bk_timer *timer = bk_timer_create(*state, on_tally, &tally);
    bk_timer_set_background(timer);
    bk_timer_start(timer, 60000, 0);
    bk_loop_run(*state);
    assert_int_equal(tally.count, 0);
    bk_timer_close(timer);
}

static void test_a_timer_that_was_not_started_does_not_keep_the_loop_alive(void **state) {
    struct tally tally = {0};
    struct bk_timer *timer = bk_timer_create(*state, on_tally, &tally);
    bk_loop_run(*state);
    assert_int_equal(tally.count, 0);
    bk_timer_close(timer);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_runs_once_and_not_early),
        LOOP_TEST(test_a_delay_counts_from_its_start_on_an_idle_loop),
        LOOP_TEST(test_repeats_until_stopped),
        LOOP_TEST(test_starting_again_restarts),
        LOOP_TEST(test_a_closed_timer_never_runs),
        LOOP_TEST(test_may_close_itself),
        LOOP_TEST(test_a_background_timer_does_not_keep_the_loop_alive),
        LOOP_TEST(test_a_timer_that_was_not_started_does_not_keep_the_loop_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
