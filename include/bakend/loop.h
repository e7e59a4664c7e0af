/*
 * The loop: one thread, one turn at a time. A turn is: timers, then what the kernel reported
 * (sockets, mailboxes), then the deferred tasks, then the turn-end hooks in the order they were
 * added (the store ends its read transaction, transports flush their writes), then the last tasks
 * (the bus dispatches), then sleep.
 */
#ifndef BAKEND_LOOP_H
#define BAKEND_LOOP_H

#include "bakend/list.h"
#include "bakend/status.h"
#include <stdbool.h>
#include <stdint.h>

struct bk_loop;
struct bk_timer;
struct uv_loop_s;

struct bk_loop *bk_loop_create(void);
/* Runs until bk_loop_stop, or until nothing is left that could wake it. */
void bk_loop_run(struct bk_loop *loop);
/* Runs turns until *flag is true (for start-up, the command line and tests). False when nothing is
 * left that could set it. */
bool bk_loop_run_until(struct bk_loop *loop, const bool *flag);
void bk_loop_stop(struct bk_loop *loop);
/* All handles must be closed by now (asserted): run the loop once more after closing them. */
void bk_loop_destroy(struct bk_loop *loop);
/* For the folders that own sockets: the uv_loop_t. */
struct uv_loop_s *bk_loop_uv(struct bk_loop *loop);
/* Monotonic milliseconds, cached for this turn. */
uint64_t bk_loop_now_ms(const struct bk_loop *loop);
/* True on the thread that runs this loop (or before it first ran). For asserts. */
bool bk_loop_is_current(const struct bk_loop *loop);
/* Somebody outside has asked for something: what can wait makes room for a while. */
void bk_loop_note_request(struct bk_loop *loop);
/* Since that was noted last; UINT64_MAX: it never was. */
uint64_t bk_loop_request_age_ms(const struct bk_loop *loop);
/* The longest turn (without sleep) since the last call, in ns; and how many took over 100 ms
 * ever. */
uint64_t bk_loop_take_longest_turn_ns(struct bk_loop *loop);
uint64_t bk_loop_stall_count(const struct bk_loop *loop);

/* A task runs once, later in this turn, never inside the call that defers it. Embed it. */
struct bk_task {
    struct bk_list link;
    void (*on_run)(struct bk_task *task);
};
void bk_task_init(struct bk_task *task, void (*on_run)(struct bk_task *task));
/* Deferring a task that waits already does nothing. A task deferred by a task runs in the same
 * turn, up to 64 rounds; past that in the next one, so that sockets are served. */
void bk_loop_defer(struct bk_loop *loop, struct bk_task *task);
/* Likewise, after the turn's hooks: what the turn has answered leaves before the task runs, and the
 * next requests are read after it. Deferred so by a task of this kind it runs in the next turn,
 * after sockets were served: the way to work in slices. (A timer of 0 ms that restarts itself is
 * not: libuv runs it again before it looks at any socket.) */
void bk_loop_defer_last(struct bk_loop *loop, struct bk_task *task);
void bk_task_cancel(struct bk_task *task);
bool bk_task_is_waiting(const struct bk_task *task);

/* Called at the end of each turn. Embed it; stays until removed. */
struct bk_turn_hook {
    struct bk_list link;
    void (*on_turn_end)(struct bk_turn_hook *hook);
};
void bk_loop_add_turn_hook(struct bk_loop *loop, struct bk_turn_hook *hook);
void bk_loop_remove_turn_hook(struct bk_turn_hook *hook);

typedef void (*bk_timer_cb)(struct bk_timer *timer, void *user);
/* Does not run yet, and does not keep the loop alive unless started. */
struct bk_timer *bk_timer_create(struct bk_loop *loop, bk_timer_cb on_timer, void *user);
/* Restarts when it runs. repeat_ms 0: once. */
void bk_timer_start(struct bk_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);
void bk_timer_stop(struct bk_timer *timer);
/* Stops and frees; no callback after this. timer may be NULL. */
void bk_timer_close(struct bk_timer *timer);
/* A background timer does not keep bk_loop_run from returning. */
void bk_timer_set_background(struct bk_timer *timer);

/* Calls on the loop for SIGTERM and SIGINT (each time). One owner per loop; NULL removes. */
void bk_loop_on_terminate(struct bk_loop *loop, void (*on_terminate)(void *user, int signal_number),
                          void *user);

#endif
