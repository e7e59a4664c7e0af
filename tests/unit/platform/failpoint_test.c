/* Failpoints: what the list may say, and when a failpoint acts. */
#include "bakend/clock.h"
#include "bakend/failpoint.h"
#include "support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int switch_off(void **state) {
    (void)state;
    return bk_failpoint_configure(NULL) == BK_OK ? 0 : -1;
}

static void test_is_off_without_a_list(void **state) {
    (void)state;
    assert_int_equal(bk_failpoint_configure(""), BK_OK);
    assert_false(bk_failpoints_are_on);
    assert_int_equal(BK_FAILPOINT("store.commit"), BK_OK);
}

static void test_acts_at_each_passing_without_a_number(void **state) {
    (void)state;
    assert_int_equal(bk_failpoint_configure("store.commit:error,store.sync:full"), BK_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(BK_FAILPOINT("store.commit"), BK_IO);
        assert_int_equal(BK_FAILPOINT("store.sync"), BK_DISK_FULL);
        assert_int_equal(BK_FAILPOINT("store.commi"), BK_OK);
    }
}

static void test_acts_at_the_nth_passing_only(void **state) {
    (void)state;
    assert_int_equal(bk_failpoint_configure("a:error@2, a:full@4"), BK_OK);
    assert_int_equal(BK_FAILPOINT("a"), BK_OK);
    assert_int_equal(BK_FAILPOINT("a"), BK_IO);
    assert_int_equal(BK_FAILPOINT("a"), BK_OK);
    assert_int_equal(BK_FAILPOINT("a"), BK_DISK_FULL);
    assert_int_equal(BK_FAILPOINT("a"), BK_OK);
}

static void test_configuring_again_counts_from_one(void **state) {
    (void)state;
    assert_int_equal(bk_failpoint_configure("a:error@1"), BK_OK);
    assert_int_equal(BK_FAILPOINT("a"), BK_IO);
    assert_int_equal(bk_failpoint_configure("a:error@1"), BK_OK);
    assert_int_equal(BK_FAILPOINT("a"), BK_IO);
}

static void test_refuses_a_wrong_list_and_keeps_the_old_one(void **state) {
    static const char *const WRONG[] = {
        "a",
        "a:",
        ":error",
        "a:explode",
        "a:error@",
        "a:error@0",
        "a:error@x",
        "a:sleep=",
        "a:sleep=-1",
        "a:sleep=x",
        "a:sleep=99999999",
        "a:error,,b:full",
        "a:error,b:x",
        ",",
        "a234567890123456789012345678901234567890123456789012345678901234567890:kill"};
    (void)state;
    assert_int_equal(bk_failpoint_configure("kept:error"), BK_OK);
    for (size_t i = 0; i < sizeof(WRONG) / sizeof(WRONG[0]); i++) {
        assert_int_equal(bk_failpoint_configure(WRONG[i]), BK_INVALID);
        assert_int_equal(BK_FAILPOINT("kept"), BK_IO);
    }
}

static void test_sleeps_as_long_as_told(void **state) {
    uint64_t start_ns = bk_clock_monotonic_ns();
    (void)state;
    assert_int_equal(bk_failpoint_configure("slow:sleep=30"), BK_OK);
    assert_int_equal(BK_FAILPOINT("slow"), BK_OK);
    assert_true(bk_clock_monotonic_ns() - start_ns >= 30 * 1000000ULL);
}

static void test_kill_ends_the_process_without_a_word(void **state) {
    int outcome = 0;
    pid_t child;
    (void)state;
    child = fork();
    if (child == 0) {
        (void)bk_failpoint_configure("now:kill");
        (void)BK_FAILPOINT("now");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &outcome, 0), child);
    assert_true(WIFSIGNALED(outcome));
    assert_int_equal(WTERMSIG(outcome), SIGKILL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_is_off_without_a_list, switch_off),
        cmocka_unit_test_teardown(test_acts_at_each_passing_without_a_number, switch_off),
        cmocka_unit_test_teardown(test_acts_at_the_nth_passing_only, switch_off),
        cmocka_unit_test_teardown(test_configuring_again_counts_from_one, switch_off),
        cmocka_unit_test_teardown(test_refuses_a_wrong_list_and_keeps_the_old_one, switch_off),
        cmocka_unit_test_teardown(test_sleeps_as_long_as_told, switch_off),
        cmocka_unit_test_teardown(test_kill_ends_the_process_without_a_word, switch_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
