/* The loop: the order of a turn, fairness of deferred tasks, hooks that change while they run,
 * signals, and when a run ends. */
#include "bakend/clock.h"
#include "bakend/loop.h"
#include "bakend/mailbox.h"
#include "support.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TRACE_BYTES = 256 };

static char trace[TRACE_BYTES];

static int setup(void **state) {
    memset(trace, 0, sizeof(trace));
    return support_loop_setup(state);
}

static void record(char letter) {
    size_t length = strlen(trace);
    assert_true(length + 1 < sizeof(trace));
    trace[length] = letter;
}

struct named_task {
    struct bk_task task;
    struct bk_loop *loop;
    char letter;
    struct named_task *next; /* deferred by this one */
    struct bk_task *victim;  /* cancelled by this one */
};

static void on_named_task(struct bk_task *task) {
    struct named_task *self = bk_container_of(task, struct named_task, task);
    assert_false(bk_task_is_waiting(task));
    record(self->letter);
    if (self->next != NULL)
        bk_loop_defer(self->loop, &self->next->task);
    if (self->victim != NULL)
        bk_task_cancel(self->victim);
}

static void init_task(struct named_task *task, struct bk_loop *loop, char letter) {
    *task = (struct named_task){.loop = loop, .letter = letter};
    bk_task_init(&task->task, on_named_task);
}

/* --- deferred tasks --------------------------------------------------------------------------- */

static void test_tasks_run_in_order_and_later(void **state) {
    struct named_task a, b;
    init_task(&a, *state, 'a');
    init_task(&b, *state, 'b');
    bk_loop_defer(*state, &a.task);
    bk_loop_defer(*state, &b.task);
    bk_loop_defer(*state, &a.task); /* waits already */
    assert_true(bk_task_is_waiting(&a.task));
    assert_string_equal(trace, "");
    bk_loop_run(*state);
    assert_string_equal(trace, "ab");
    assert_false(bk_task_is_waiting(&a.task));
}

static void test_a_task_deferred_by_a_task_comes_after_those_that_wait(void **state) {
    struct named_task a, b, c;
    init_task(&a, *state, 'a');
    init_task(&b, *state, 'b');
    init_task(&c, *state, 'c');
    a.next = &c;
    c.next = &b;
    bk_loop_defer(*state, &a.task);
    bk_loop_defer(*state, &b.task);
    bk_loop_run(*state);
    assert_string_equal(trace, "abcb");
}

static void test_a_cancelled_task_does_not_run_even_in_the_same_round(void **state) {
    struct named_task a, b, c;
    init_task(&a, *state, 'a');
    init_task(&b, *state, 'b');
    init_task(&c, *state, 'c');
    a.victim = &b.task;
    bk_loop_defer(*state, &a.task);
    bk_loop_defer(*state, &b.task);
    bk_loop_defer(*state, &c.task);
    bk_task_cancel(&c.task);
    bk_task_cancel(&c.task);
    bk_loop_run(*state);
    assert_string_equal(trace, "a");
}

struct greedy_task {
    struct bk_task task;
    struct bk_loop *loop;
    uint32_t run_count;
    bool is_over;
};

static void on_greedy_task(struct bk_task *task) {
    struct greedy_task *self = bk_container_of(task, struct greedy_task, task);
    self->run_count++;
    if (!self->is_over)
        bk_loop_defer(self->loop, task);
}

static void on_end_greed(struct bk_timer *timer, void *user) {
    struct greedy_task *greedy = user;
    (void)timer;
    greedy->is_over = true;
}

struct turn_counter {
    struct bk_turn_hook hook;
    uint32_t turn_count;
    uint32_t (*probe)(void *user);
    void *user;
    uint32_t most_in_a_turn, last;
};

static void on_count_turn(struct bk_turn_hook *hook) {
    struct turn_counter *self = bk_container_of(hook, struct turn_counter, hook);
    uint32_t now = self->probe(self->user);
    self->turn_count++;
    if (now - self->last > self->most_in_a_turn)
        self->most_in_a_turn = now - self->last;
    self->last = now;
}

static uint32_t greedy_runs(void *user) { return ((struct greedy_task *)user)->run_count; }

static void test_a_task_that_never_ends_lets_timers_and_hooks_run(void **state) {
    struct greedy_task greedy = {.loop = *state};
    struct turn_counter counter = {
        .hook.on_turn_end = on_count_turn, .probe = greedy_runs, .user = &greedy};
    struct bk_timer *timer = bk_timer_create(*state, on_end_greed, &greedy);
    bk_task_init(&greedy.task, on_greedy_task);
    bk_loop_add_turn_hook(*state, &counter.hook);
    bk_timer_start(timer, 20, 0);
    bk_loop_defer(*state, &greedy.task);
    support_loop_run_until(*state, &greedy.is_over);
    assert_int_equal(counter.most_in_a_turn, 64);
    assert_true(counter.turn_count > 1);
    bk_loop_run(*state);
    bk_loop_remove_turn_hook(&counter.hook);
    bk_timer_close(timer);
}

/* --- turn hooks ------------------------------------------------------------------------------- */

struct named_hook {
    struct bk_turn_hook hook;
    struct bk_loop *loop;
    char letter;
    struct bk_turn_hook *removes[2];
    struct named_task *defers;
};

static void on_named_hook(struct bk_turn_hook *hook) {
    struct named_hook *self = bk_container_of(hook, struct named_hook, hook);
    record(self->letter);
    for (size_t i = 0; i < 2; i++) {
        if (self->removes[i] != NULL)
            bk_loop_remove_turn_hook(self->removes[i]);
    }
    if (self->defers != NULL)
        bk_loop_defer(self->loop, &self->defers->task);
    self->defers = NULL;
}

static void add_hook(struct named_hook *hook, struct bk_loop *loop, char letter) {
    *hook = (struct named_hook){.hook.on_turn_end = on_named_hook, .loop = loop, .letter = letter};
    bk_loop_add_turn_hook(loop, &hook->hook);
}

static void test_hooks_run_after_the_tasks_in_the_order_added(void **state) {
    struct named_hook store, transport;
    struct named_task task;
    add_hook(&store, *state, 'S');
    add_hook(&transport, *state, 'T');
    init_task(&task, *state, 'a');
    bk_loop_defer(*state, &task.task);
    bk_loop_run(*state);
    bk_loop_remove_turn_hook(&store.hook);
    bk_loop_remove_turn_hook(&transport.hook);
    assert_memory_equal(trace, "aST", 3);
}

/* What a last task leads to is flushed in the same turn. */
static void test_last_tasks_run_after_the_hooks_which_then_run_again(void **state) {
    struct named_hook transport;
    struct named_task early, last, led_to;
    add_hook(&transport, *state, 'T');
    init_task(&early, *state, 'a');
    init_task(&last, *state, 'z');
    init_task(&led_to, *state, 'b');
    last.next = &led_to;
    bk_loop_defer_last(*state, &last.task);
    bk_loop_defer(*state, &early.task);
    bk_loop_run(*state);
    bk_loop_remove_turn_hook(&transport.hook);
    assert_memory_equal(trace, "aTzbT", 5);
}

struct slicing {
    struct bk_task task;
    struct bk_message message;
    struct bk_loop *loop;
    struct bk_mailbox *mailbox;
    int slice_count;
    bool is_served;
};

static void on_served(struct bk_message *message) {
    bk_container_of(message, struct slicing, message)->is_served = true;
}

static void on_slice(struct bk_task *task) {
    struct slicing *slicing = bk_container_of(task, struct slicing, task);
    if (slicing->slice_count++ == 0)
        assert_int_equal(bk_mailbox_post(slicing->mailbox, &slicing->message), BK_OK);
    if (slicing->slice_count < 1000)
        bk_loop_defer_last(slicing->loop, task);
}

static void test_between_two_slices_the_kernel_is_asked(void **state) {
    struct slicing slicing = {.loop = *state, .message.on_message = on_served};
    slicing.mailbox = bk_mailbox_create_for_loop(*state);
    bk_task_init(&slicing.task, on_slice);
    bk_loop_defer_last(*state, &slicing.task);
    assert_true(bk_loop_run_until(*state, &slicing.is_served));
    assert_in_range(slicing.slice_count, 1, 5);
    bk_task_cancel(&slicing.task);
    bk_mailbox_close(slicing.mailbox);
    bk_mailbox_destroy(slicing.mailbox);
}

static void test_a_hook_may_remove_itself_and_the_next(void **state) {
    struct named_hook a, b, c;
    bool is_true = false;
    add_hook(&a, *state, 'A');
    add_hook(&b, *state, 'B');
    add_hook(&c, *state, 'C');
    a.removes[0] = &a.hook;
    a.removes[1] = &b.hook;
    assert_false(bk_loop_run_until(*state, &is_true));
    bk_loop_remove_turn_hook(&c.hook);
    assert_memory_equal(trace, "AC", 2);
    assert_null(strchr(trace, 'B'));
    assert_null(strchr(trace + 1, 'A'));
}

static void test_a_task_deferred_by_a_hook_runs_in_the_next_turn(void **state) {
    struct named_hook hook;
    struct named_task task;
    add_hook(&hook, *state, 'H');
    init_task(&task, *state, 'a');
    hook.defers = &task;
    bk_loop_run(*state);
    bk_loop_remove_turn_hook(&hook.hook);
    assert_memory_equal(trace, "HaH", 3);
}

static void on_stop(struct bk_timer *timer, void *user) {
    (void)timer;
    record('t');
    bk_loop_stop(user);
}

static void test_a_stopped_loop_still_ends_its_turn(void **state) {
    struct named_hook hook;
    struct bk_timer *forever = bk_timer_create(*state, on_stop, *state);
    bk_timer_start(forever, 1, 1);
    add_hook(&hook, *state, 'H');
    bk_loop_run(*state);
    assert_int_equal(trace[strlen(trace) - 1], 'H');
    assert_non_null(strchr(trace, 't'));
    bk_loop_remove_turn_hook(&hook.hook);
    bk_timer_close(forever);
}

/* --- runs ------------------------------------------------------------------------------------- */

struct setter {
    struct bk_task task;
    bool is_set;
};

static void on_set(struct bk_task *task) {
    bk_container_of(task, struct setter, task)->is_set = true;
}

static void test_a_flag_set_at_the_end_of_a_turn_is_seen_without_sleeping(void **state) {
    struct setter setter = {.is_set = false};
    struct bk_timer *far = bk_timer_create(*state, on_stop, *state);
    uint64_t start_ns = bk_clock_monotonic_ns();
    bk_task_init(&setter.task, on_set);
    bk_timer_start(far, 60000, 0);
    bk_loop_defer(*state, &setter.task);
    assert_true(bk_loop_run_until(*state, &setter.is_set));
    assert_true(bk_clock_monotonic_ns() - start_ns < 30000ULL * 1000000);
    bk_timer_close(far);
}

static void test_run_until_gives_up_when_nothing_is_left(void **state) {
    bool never = false, already = true;
    assert_false(bk_loop_run_until(*state, &never));
    assert_true(bk_loop_run_until(*state, &already));
}

static void test_is_current_on_the_thread_that_runs_it(void **state) {
    assert_true(bk_loop_is_current(*state));
    bk_loop_run(*state);
    assert_true(bk_loop_is_current(*state));
}

static void on_busy(struct bk_timer *timer, void *user) {
    struct timespec duration = {.tv_nsec = 120 * 1000000L};
    (void)timer;
    (void)user;
    (void)nanosleep(&duration, NULL);
}

static void test_measures_turns_but_not_sleep(void **state) {
    struct bk_timer *timer = bk_timer_create(*state, on_busy, NULL);
    (void)bk_loop_take_longest_turn_ns(*state);
    support_loop_run_for(*state, 150);
    assert_true(bk_loop_take_longest_turn_ns(*state) < 100ULL * 1000000);
    assert_int_equal(bk_loop_stall_count(*state), 0);
    bk_timer_start(timer, 1, 0);
    bk_loop_run(*state);
    assert_true(bk_loop_take_longest_turn_ns(*state) >= 119ULL * 1000000);
    assert_int_equal(bk_loop_take_longest_turn_ns(*state), 0);
    assert_int_equal(bk_loop_stall_count(*state), 1);
    bk_timer_close(timer);
}

/* --- signals ---------------------------------------------------------------------------------- */

struct terminations {
    struct bk_loop *loop;
    int last, count;
    bool came;
};

static void on_terminate(void *user, int signal_number) {
    struct terminations *self = user;
    self->last = signal_number;
    self->count++;
    self->came = true;
}

static void on_nothing(struct bk_timer *timer, void *user) {
    (void)timer;
    (void)user;
}

static void test_termination_is_told_each_time_until_removed(void **state) {
    struct terminations seen = {.loop = *state};
    struct bk_timer *alive = bk_timer_create(*state, on_nothing, NULL);
    bk_timer_start(alive, 60000, 0);
    bk_loop_on_terminate(*state, on_terminate, &seen);
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    support_loop_run_until(*state, &seen.came);
    assert_int_equal(seen.last, SIGTERM);
    seen.came = false;
    assert_int_equal(kill(getpid(), SIGINT), 0);
    support_loop_run_until(*state, &seen.came);
    assert_int_equal(seen.last, SIGINT);
    assert_int_equal(seen.count, 2);
    bk_loop_on_terminate(*state, NULL, NULL);
    bk_timer_close(alive);
}

static void test_waiting_for_signals_does_not_keep_the_loop_alive(void **state) {
    struct terminations seen = {.loop = *state};
    bk_loop_on_terminate(*state, on_terminate, &seen);
    bk_loop_run(*state);
    bk_loop_on_terminate(*state, NULL, NULL);
    assert_int_equal(seen.count, 0);
}

static void test_a_closed_pipe_is_an_error_and_no_signal(void **state) {
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    (void)close(ends[0]);
    assert_int_equal(write(ends[1], "x", 1), -1);
    (void)close(ends[1]);
}

int main(void) {
#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_tasks_run_in_order_and_later),
        LOOP_TEST(test_a_task_deferred_by_a_task_comes_after_those_that_wait),
        LOOP_TEST(test_a_cancelled_task_does_not_run_even_in_the_same_round),
        LOOP_TEST(test_a_task_that_never_ends_lets_timers_and_hooks_run),
        LOOP_TEST(test_hooks_run_after_the_tasks_in_the_order_added),
        LOOP_TEST(test_last_tasks_run_after_the_hooks_which_then_run_again),
        LOOP_TEST(test_between_two_slices_the_kernel_is_asked),
        LOOP_TEST(test_a_hook_may_remove_itself_and_the_next),
        LOOP_TEST(test_a_task_deferred_by_a_hook_runs_in_the_next_turn),
        LOOP_TEST(test_a_stopped_loop_still_ends_its_turn),
        LOOP_TEST(test_a_flag_set_at_the_end_of_a_turn_is_seen_without_sleeping),
        LOOP_TEST(test_run_until_gives_up_when_nothing_is_left),
        LOOP_TEST(test_is_current_on_the_thread_that_runs_it),
        LOOP_TEST(test_measures_turns_but_not_sleep),
        LOOP_TEST(test_termination_is_told_each_time_until_removed),
        LOOP_TEST(test_waiting_for_signals_does_not_keep_the_loop_alive),
        LOOP_TEST(test_a_closed_pipe_is_an_error_and_no_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
