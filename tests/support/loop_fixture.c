/* A loop per test. An open handle at the end is a leak: the teardown waits for what is only slow to
 * close, and then fails instead of hanging. */
#include "support.h"

#include "bakend/clock.h"
#include "bakend/loop.h"

#include <stdlib.h>

static void on_time_up(struct bk_timer *timer, void *user) {
    bool *is_over = user;
    (void)timer;
    *is_over = true;
}

/* Background: the deadline itself must not keep the loop from being empty. */
static struct bk_timer *start_deadline(struct bk_loop *loop, uint64_t delay_ms, bool *is_over) {
    struct bk_timer *timer = bk_timer_create(loop, on_time_up, is_over);
    bk_timer_start(timer, delay_ms, 0);
    return timer;
}

uint64_t support_patience_ms(void) {
    const char *text = getenv("BAKEND_TEST_PATIENCE");
    unsigned long factor = text == NULL ? 1 : strtoul(text, NULL, 10);
    return SUPPORT_PATIENCE_MS * (uint64_t)(factor == 0 ? 1 : factor);
}

static uint64_t now_ms(void) { return bk_clock_monotonic_ns() / 1000000; }

uint64_t support_patience_end_ms(void) { return now_ms() + support_patience_ms(); }

bool support_patience_lasts(uint64_t end_ms) { return now_ms() < end_ms; }

int support_loop_setup(void **state) {
    *state = bk_loop_create();
    return 0;
}

int support_loop_teardown(void **state) {
    struct bk_loop *loop = *state;
    bool is_over = false;
    struct bk_timer *deadline = start_deadline(loop, support_patience_ms(), &is_over);
    bk_timer_set_background(deadline);
    (void)bk_loop_run_until(loop, &is_over);
    bk_timer_close(deadline);
    if (is_over) {
        print_error("handles are still open on the loop\n");
        return -1;
    }
    bk_loop_run(loop);
    bk_loop_destroy(loop);
    return 0;
}

struct wait {
    bool is_over;
    const bool *flag;
    bool is_time_up;
    struct bk_turn_hook hook;
};

static void on_turn_end(struct bk_turn_hook *hook) {
    struct wait *wait = bk_container_of(hook, struct wait, hook);
    wait->is_over = wait->is_time_up || *wait->flag;
}

void support_loop_run_until(struct bk_loop *loop, const bool *flag) {
    struct wait wait = {.flag = flag, .hook.on_turn_end = on_turn_end};
    struct bk_timer *deadline;
    if (*flag)
        return;
    deadline = start_deadline(loop, support_patience_ms(), &wait.is_time_up);
    bk_timer_set_background(deadline);
    bk_loop_add_turn_hook(loop, &wait.hook);
    (void)bk_loop_run_until(loop, &wait.is_over);
    bk_loop_remove_turn_hook(&wait.hook);
    bk_timer_close(deadline);
    if (!*flag)
        fail_msg("%s", wait.is_time_up ? "the flag did not come true in time"
                                       : "nothing is left that could set the flag");
}

void support_loop_run_for(struct bk_loop *loop, uint64_t duration_ms) {
    bool is_over = false;
    struct bk_timer *deadline = start_deadline(loop, duration_ms, &is_over);
    (void)bk_loop_run_until(loop, &is_over);
    bk_timer_close(deadline);
}
