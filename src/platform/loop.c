/*
 * The loop: libuv's loop with an end to every turn.
 *
 * libuv runs: timers, idle, prepare, poll (sleep, then sockets and mailboxes), check, close
 * callbacks, and around again. The end of a turn is our prepare callback, so everything that
 * happened since the last sleep is behind it and nothing but the sleep is ahead:
 *   1. the deferred tasks, in rounds: a round takes all that wait and runs them in order; what they
 *      defer is the next round, at most ROUNDS_MAX of them;
 *   2. the turn hooks, in the order they were added;
 *   3. the last tasks, one round, and for what they led to the first two again.
 * When tasks are left (too many rounds, or a hook deferred one) the idle handle stays active: libuv
 * then polls without sleeping, sockets are served, and the next turn goes on. The idle handle also
 * keeps the loop alive while a task waits. libuv may leave its loop between poll and prepare (stop,
 * or nothing left), so the run functions end that last turn themselves.
 *
 * The length of a turn is measured from the moment that the poll woke up, which libuv keeps in
 * milliseconds: a turn can read up to 1 ms longer than it was, never shorter.
 *
 * Nothing here is for other threads but bk_loop_is_current: they use a mailbox.
 */
#include "bakend/loop.h"
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/clock.h"
#include "loop_private.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <uv.h>

enum {
    ROUNDS_MAX = 64,       /* of deferred tasks in one turn: then sockets get their chance */
    CLOSE_ROUNDS_MAX = 64, /* turns that destroy grants to close callbacks that close more */
    STALL_MS = 100,        /* a turn this long is felt by people */
    NS_PER_MS = 1000000
};

struct bk_loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_signal_t signals[2]; /* SIGTERM, SIGINT; made when first asked for */
    bool has_signals, is_running, is_stopping;
    struct bk_list deferred; /* bk_task.link */
    struct bk_list last;     /* likewise: after the hooks */
    struct bk_list hooks;    /* bk_turn_hook.link */
    const bool *until;       /* of bk_loop_run_until, else NULL */
    uint64_t turn_start_ns, poll_start_ns, longest_turn_ns, stall_count;
    uint64_t request_ms;    /* when one came last; 0: none did */
    atomic_uintptr_t owner; /* the address of the running thread's marker; 0 before the first run */
    void (*on_terminate)(void *user, int signal_number);
    void *terminate_user;
};

/* Each thread has its own, so that its address names the thread. */
static _Thread_local char thread_marker;

/* --- the end of a turn ------------------------------------------------------------------------ */

/* Moves all nodes of an initialised list to another one, which is overwritten. */
static void move_all(struct bk_list *from, struct bk_list *to) {
    bk_list_init(to);
    if (bk_list_is_empty(from))
        return;
    *to = *from;
    to->next->previous = to;
    to->previous->next = to;
    bk_list_init(from);
}

/* Runs those that wait now, in order. */
static void run_round(struct bk_list *tasks) {
    struct bk_list waiting;
    struct bk_list *node;
    move_all(tasks, &waiting);
    while ((node = bk_list_pop(&waiting)) != NULL) {
        struct bk_task *task = bk_container_of(node, struct bk_task, link);
        task->on_run(task);
    }
}

static void run_deferred(struct bk_loop *loop) {
    for (int round = 0; round < ROUNDS_MAX && !bk_list_is_empty(&loop->deferred); round++)
        run_round(&loop->deferred);
}

/* The cursor is a node of its own behind the hook that runs, so that a hook may remove any hook. */
static void run_hooks(struct bk_loop *loop) {
    struct bk_list cursor;
    bk_list_init(&cursor);
    bk_list_push_front(&loop->hooks, &cursor);
    while (cursor.next != &loop->hooks) {
        struct bk_list *node = cursor.next;
        struct bk_turn_hook *hook = bk_container_of(node, struct bk_turn_hook, link);
        bk_list_remove(&cursor);
        bk_list_push_front(node, &cursor);
        hook->on_turn_end(hook);
    }
    bk_list_remove(&cursor);
}

static void measure_turn(struct bk_loop *loop) {
    uint64_t now_ns = bk_clock_monotonic_ns();
    uint64_t length_ns = now_ns > loop->turn_start_ns ? now_ns - loop->turn_start_ns : 0;
    if (length_ns > loop->longest_turn_ns)
        loop->longest_turn_ns = length_ns;
    if (length_ns > (uint64_t)STALL_MS * NS_PER_MS)
        loop->stall_count++;
    loop->poll_start_ns = now_ns;
    loop->turn_start_ns = now_ns;
}

static void end_turn(struct bk_loop *loop) {
    run_deferred(loop);
    run_hooks(loop);
    if (!bk_list_is_empty(&loop->last)) {
        run_round(&loop->last);
        run_deferred(loop);
        run_hooks(loop);
    }
    if (bk_list_is_empty(&loop->deferred) && bk_list_is_empty(&loop->last))
        (void)uv_idle_stop(&loop->idle);
    measure_turn(loop);
}

static void on_prepare(uv_prepare_t *prepare) {
    struct bk_loop *loop = prepare->data;
    end_turn(loop);
    /* The flag came true in this very turn: do not sleep on it. */
    if (loop->until != NULL && *loop->until)
        uv_stop(&loop->uv);
}

/* Runs after the callbacks of the poll; libuv's cached time is from before them, right after
 * sleep. */
static void on_check(uv_check_t *check) {
    struct bk_loop *loop = check->data;
    uint64_t woken_ns = uv_now(&loop->uv) * NS_PER_MS;
    loop->turn_start_ns = woken_ns > loop->poll_start_ns ? woken_ns : loop->poll_start_ns;
}

static void on_idle(uv_idle_t *idle) { (void)idle; /* its being active is all it is for */ }

/* --- life cycle ------------------------------------------------------------------------------- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void *on_uv_calloc(size_t count, size_t size_bytes) {
    BK_ASSERT(size_bytes == 0 || count <= SIZE_MAX / size_bytes);
    return bk_alloc_zero(count * size_bytes);
}

/* libuv asks for memory for its tables only, and where it gets none for them it ends the process
 * without a word. */
static void init_library(void) {
    BK_ASSERT(uv_replace_allocator(bk_alloc, bk_realloc, on_uv_calloc, bk_free) == 0);
}

struct bk_loop *bk_loop_create(void) {
    struct bk_loop *loop = bk_alloc_zero(sizeof(*loop));
    BK_ASSERT(pthread_once(&library_once, init_library) == 0);
    /* A peer that is gone is an error of the write, not the end of the process. */
    (void)signal(SIGPIPE, SIG_IGN);
    BK_ASSERT(uv_loop_init(&loop->uv) == 0);
    BK_ASSERT(uv_prepare_init(&loop->uv, &loop->prepare) == 0);
    BK_ASSERT(uv_check_init(&loop->uv, &loop->check) == 0);
    BK_ASSERT(uv_idle_init(&loop->uv, &loop->idle) == 0);
    loop->prepare.data = loop->check.data = loop->idle.data = loop;
    BK_ASSERT(uv_prepare_start(&loop->prepare, on_prepare) == 0);
    BK_ASSERT(uv_check_start(&loop->check, on_check) == 0);
    uv_unref((uv_handle_t *)&loop->prepare);
    uv_unref((uv_handle_t *)&loop->check);
    bk_list_init(&loop->deferred);
    bk_list_init(&loop->last);
    bk_list_init(&loop->hooks);
    atomic_init(&loop->owner, 0);
    return loop;
}

static void begin_run(struct bk_loop *loop) {
    BK_ASSERT(!loop->is_running);
    loop->is_running = true;
    atomic_store_explicit(&loop->owner, (uintptr_t)&thread_marker, memory_order_relaxed);
    uv_update_time(&loop->uv);
    loop->turn_start_ns = loop->poll_start_ns = bk_clock_monotonic_ns();
}

static void end_run(struct bk_loop *loop) {
    BK_ASSERT(loop->is_running);
    loop->is_running = false;
    loop->is_stopping = false;
}

void bk_loop_run(struct bk_loop *loop) {
    bool is_alive = true;
    begin_run(loop);
    while (is_alive && !loop->is_stopping) {
        (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
        end_turn(loop);
        is_alive = uv_loop_alive(&loop->uv) != 0;
    }
    end_run(loop);
}

bool bk_loop_run_until(struct bk_loop *loop, const bool *flag) {
    bool is_alive = true;
    BK_ASSERT(flag != NULL);
    begin_run(loop);
    loop->until = flag;
    while (!*flag && is_alive && !loop->is_stopping) {
        (void)uv_run(&loop->uv, UV_RUN_ONCE);
        is_alive = uv_loop_alive(&loop->uv) != 0;
        if (*flag || !is_alive || loop->is_stopping) {
            end_turn(loop);
            is_alive = uv_loop_alive(&loop->uv) != 0;
        }
    }
    loop->until = NULL;
    end_run(loop);
    return *flag;
}

void bk_loop_stop(struct bk_loop *loop) {
    BK_ASSERT(bk_loop_is_current(loop));
    loop->is_stopping = true;
    uv_stop(&loop->uv);
}

static void close_own_handles(struct bk_loop *loop) {
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    for (size_t i = 0; loop->has_signals && i < BK_COUNT_OF(loop->signals); i++)
        uv_close((uv_handle_t *)&loop->signals[i], NULL);
}

/* Never sleeps: a handle that somebody forgot is to fail the assert, not to hang the program. */
void bk_loop_destroy(struct bk_loop *loop) {
    BK_ASSERT(!loop->is_running);
    end_turn(loop);
    BK_ASSERT(bk_list_is_empty(&loop->deferred) && bk_list_is_empty(&loop->last));
    BK_ASSERT(bk_list_is_empty(&loop->hooks));
    close_own_handles(loop);
    for (int round = 0; round < CLOSE_ROUNDS_MAX && uv_loop_alive(&loop->uv); round++)
        (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    BK_ASSERT(bk_list_is_empty(&loop->deferred) && bk_list_is_empty(&loop->last));
    BK_ASSERT(uv_loop_close(&loop->uv) == 0);
    bk_free(loop);
}

/* --- facts ------------------------------------------------------------------------------------ */

struct uv_loop_s *bk_loop_uv(struct bk_loop *loop) {
    return &loop->uv;
}

uint64_t bk_loop_now_ms(const struct bk_loop *loop) { return uv_now(&loop->uv); }

void bk_loop_note_request(struct bk_loop *loop) { loop->request_ms = uv_now(&loop->uv); }

uint64_t bk_loop_request_age_ms(const struct bk_loop *loop) {
    return loop->request_ms == 0 ? UINT64_MAX : uv_now(&loop->uv) - loop->request_ms;
}

void loop_refresh_idle_time(struct bk_loop *loop) {
    if (!loop->is_running)
        uv_update_time(&loop->uv);
}

bool bk_loop_is_current(const struct bk_loop *loop) {
    uintptr_t owner = atomic_load_explicit(&loop->owner, memory_order_relaxed);
    return owner == 0 || owner == (uintptr_t)&thread_marker;
}

uint64_t bk_loop_take_longest_turn_ns(struct bk_loop *loop) {
    uint64_t longest_ns = loop->longest_turn_ns;
    loop->longest_turn_ns = 0;
    return longest_ns;
}

uint64_t bk_loop_stall_count(const struct bk_loop *loop) { return loop->stall_count; }

/* --- tasks and hooks -------------------------------------------------------------------------- */

void bk_task_init(struct bk_task *task, void (*on_run)(struct bk_task *task)) {
    BK_ASSERT(on_run != NULL);
    bk_list_init(&task->link);
    task->on_run = on_run;
}

static void defer(struct bk_loop *loop, struct bk_list *tasks, struct bk_task *task) {
    BK_ASSERT(bk_loop_is_current(loop));
    BK_ASSERT(task->on_run != NULL);
    if (bk_task_is_waiting(task))
        return;
    if (bk_list_is_empty(tasks))
        (void)uv_idle_start(&loop->idle, on_idle);
    bk_list_push(tasks, &task->link);
}

void bk_loop_defer(struct bk_loop *loop, struct bk_task *task) {
    defer(loop, &loop->deferred, task);
}

void bk_loop_defer_last(struct bk_loop *loop, struct bk_task *task) {
    defer(loop, &loop->last, task);
}

void bk_task_cancel(struct bk_task *task) { bk_list_remove(&task->link); }

bool bk_task_is_waiting(const struct bk_task *task) { return !bk_list_is_empty(&task->link); }

void bk_loop_add_turn_hook(struct bk_loop *loop, struct bk_turn_hook *hook) {
    BK_ASSERT(bk_loop_is_current(loop));
    BK_ASSERT(hook->on_turn_end != NULL);
    bk_list_init(&hook->link);
    bk_list_push(&loop->hooks, &hook->link);
}

void bk_loop_remove_turn_hook(struct bk_turn_hook *hook) { bk_list_remove(&hook->link); }

/* --- signals ---------------------------------------------------------------------------------- */

static void on_signal(uv_signal_t *handle, int signal_number) {
    struct bk_loop *loop = handle->data;
    if (loop->on_terminate != NULL)
        loop->on_terminate(loop->terminate_user, signal_number);
}

static void start_signal(struct bk_loop *loop, uv_signal_t *handle, int signal_number) {
    if (!loop->has_signals) {
        BK_ASSERT(uv_signal_init(&loop->uv, handle) == 0);
        handle->data = loop;
        uv_unref((uv_handle_t *)handle);
    }
    BK_ASSERT(uv_signal_start(handle, on_signal, signal_number) == 0);
}

void bk_loop_on_terminate(struct bk_loop *loop, void (*on_terminate)(void *user, int signal_number),
                          void *user) {
    BK_ASSERT(on_terminate == NULL || loop->on_terminate == NULL);
    loop->on_terminate = on_terminate;
    loop->terminate_user = user;
    if (on_terminate != NULL) {
        start_signal(loop, &loop->signals[0], SIGTERM);
        start_signal(loop, &loop->signals[1], SIGINT);
        loop->has_signals = true;
    }
    for (size_t i = 0; on_terminate == NULL && loop->has_signals && i < BK_COUNT_OF(loop->signals);
         i++)
        (void)uv_signal_stop(&loop->signals[i]);
}
