/*
 * Attempts: a task that was claimed, until its handler has answered and its end is on disk.
 *
 *   claimed ─> unbegun ── slices ──> running ── answered ──> ended ── a round ──> recorded: freed
 *                 │                     │                      ^                      │
 *                 │ the program stops,  │ out of time          │                      │ its handler
 *                 │ or it is cancelled  v                      │                      v is not back
 *                 └──────────────────> (on_cancel) ────────────┘                    late
 *
 * An attempt that runs out of time is recorded as failed and gives its place back, but its handler
 * is still somewhere: what it answers no longer counts, and ends the attempt's life. As many such
 * handlers as may run at once make their lane stuck.
 *
 * Handlers are called in slices at the end of turns, so that a round of claims does not hold up
 * requests. When the program stops, what was not begun waits again, and who asks to come again
 * since he was asked to end has lost no attempt. What has not ended when the grace is over is lost:
 * its row says that it runs, and the next start finds it.
 */
#include "work_private.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"
#include "bakend/id.h"
#include <stdio.h>

enum {
    SLICE_LOOK = 8, /* handlers between two looks at the clock */
    JITTER_PERCENT = 20,
    POSTPONE_MIN_MS = 100
};

static const uint32_t default_backoff_ms[] = {
    5 * 1000,           30 * 1000,          2 * 60 * 1000,       10 * 60 * 1000,     30 * 60 * 1000,
    2 * 60 * 60 * 1000, 5 * 60 * 60 * 1000, 10 * 60 * 60 * 1000, 14 * 60 * 60 * 1000};

static struct work_attempt *attempt_of(struct bk_work_task *task) {
    return bk_container_of(task, struct work_attempt, task);
}

/* --- life cycle ------------------------------------------------------------------------------- */

static struct bk_slice copy_to(char **end, struct bk_slice text) {
    char *start = *end;
    if (text.length > 0)
        memcpy(start, text.data, text.length);
    *end += text.length;
    return bk_slice_make(start, text.length);
}

struct work_attempt *work_attempt_create(struct bk_statement *statement, struct work_kind *kind,
                                         const struct work_secret *secret) {
    struct bk_slice id = bk_statement_text(statement, 1), lane = bk_statement_text(statement, 2);
    struct bk_slice key = bk_statement_text(statement, 3);
    struct bk_slice payload = secret != NULL ? secret->payload : bk_statement_text(statement, 6);
    struct bk_slice cause = bk_statement_text(statement, 7);
    struct bk_slice actor = bk_statement_text(statement, 8);
    size_t bytes =
        id.length + lane.length + key.length + payload.length + cause.length + actor.length;
    struct work_attempt *attempt = bk_alloc(sizeof *attempt + bytes);
    char *end = (char *)(attempt + 1);
    *attempt = (struct work_attempt){
        .kind = kind,
        .is_chained = bk_statement_text(statement, 10).length > 0,
        .is_shut = secret != NULL && secret->is_shut,
        .rowid = bk_statement_int(statement, 0),
        .task = {.attempt = (uint32_t)bk_statement_int(statement, 4),
                 .depth = (uint32_t)bk_statement_int(statement, 9)},
        .record = {.due_ms = INT64_MAX, .expires_ms = INT64_MAX},
    };
    attempt->task.id = copy_to(&end, id);
    attempt->task.lane = copy_to(&end, lane);
    attempt->task.key = copy_to(&end, key);
    attempt->task.payload = copy_to(&end, payload);
    attempt->task.cause = copy_to(&end, cause);
    attempt->task.actor = copy_to(&end, actor);
    bk_list_init(&attempt->link);
    return attempt;
}

void work_attempt_free(struct work_attempt *attempt) {
    BK_ASSERT(attempt->timeout.place == 0);
    bk_list_remove(&attempt->link);
    bk_free(attempt->error);
    bk_free(attempt->result);
    bk_free(attempt);
}

void work_attempts_free(struct bk_list *list) {
    while (!bk_list_is_empty(list))
        work_attempt_free(bk_container_of(list->next, struct work_attempt, link));
}

static void join_tenant(struct work_tenant *tenant, struct work_attempt *attempt) {
    attempt->of = tenant;
    attempt->task.tenant = tenant->tenant;
    attempt->lane = work_lane_get(tenant, attempt->task.lane);
    BK_ASSERT(attempt->lane != NULL);
    tenant->work->busy_count += tenant->attempt_count++ == 0;
    tenant->work->attempt_count++;
}

/* Out of all counts and lists. */
static void leave_tenant(struct work_attempt *attempt) {
    struct bk_work *work = attempt->of->work;
    bk_list_remove(&attempt->link);
    if (--attempt->of->attempt_count == 0) {
        work->busy_count--;
        work_turn_soon(work);
    }
    if (--work->attempt_count == 0)
        bk_loop_defer(work->loop, &work->stopping);
    attempt->of = NULL;
    attempt->lane = NULL;
}

/* --- what is said of it ----------------------------------------------------------------------- */

static char *copy(struct bk_slice text) {
    char *copied = bk_alloc(text.length + 1);
    if (text.length > 0)
        memcpy(copied, text.data, text.length);
    return copied;
}

/* Cut where a character ends. */
static void set_error(struct work_attempt *attempt, struct bk_slice text) {
    if (text.length > BK_WORK_ERROR_MAX_BYTES) {
        text.length = BK_WORK_ERROR_MAX_BYTES;
        while (text.length > 0 && ((unsigned char)text.data[text.length] & 0xC0) == 0x80)
            text.length--;
    }
    bk_free(attempt->error);
    attempt->error = text.length == 0 ? NULL : copy(text);
    attempt->error_length = text.length;
}

static void set_result(struct work_attempt *attempt, struct bk_slice text) {
    if (text.length == 0)
        return;
    attempt->result = copy(text);
    attempt->result_length = text.length;
}

static uint64_t backoff_of(const struct work_attempt *attempt) {
    const struct bk_work_kind *declared = attempt->kind->declared;
    const uint32_t *pauses = declared->backoff_ms;
    size_t count = declared->backoff_count, index = attempt->task.attempt - 1;
    if (pauses == NULL || count == 0) {
        pauses = default_backoff_ms;
        count = BK_COUNT_OF(default_backoff_ms);
    }
    uint64_t pause_ms = pauses[index < count ? index : count - 1];
    uint64_t spread_ms = pause_ms * JITTER_PERCENT / 100;
    return pause_ms - spread_ms + bk_random_u64() % (2 * spread_ms + 1);
}

void work_attempt_spoil(struct work_attempt *attempt, uint32_t hook, enum bk_status status) {
    attempt->skips |= hook;
    attempt->hook_status = status;
    if (attempt->answer == WORK_DONE)
        attempt->delay_ms = backoff_of(attempt);
}

static void start_time(struct work_attempt *attempt) {
    struct bk_work *work = attempt->of->work;
    work_heap_put(&work->timeouts, &attempt->timeout,
                  (int64_t)(bk_loop_now_ms(work->loop) + attempt->timeout_ms));
    if (work_heap_first(&work->timeouts) == &attempt->timeout)
        work_timer_adjust(work);
}

/* --- its end ---------------------------------------------------------------------------------- */

/* It was answered: a round records it. */
static void end(struct work_attempt *attempt) {
    struct work_tenant *tenant = attempt->of;
    struct work_lane *lane = attempt->lane;
    struct bk_work *work = tenant->work;
    BK_ASSERT(attempt->answer != WORK_UNANSWERED && lane->running > 0);
    lane->running--;
    lane->ended++;
    work->running_count--;
    tenant->running[attempt->kind->index]--;
    work->replay_count -= lane->is_replay;
    work_heap_remove(&work->timeouts, &attempt->timeout);
    bk_list_remove(&attempt->link);
    bk_list_push(&tenant->ended, &attempt->link);
    work_lane_judge(lane, attempt);
    work_lane_settle(lane);
    work_tenant_settle(tenant);
    work_turn_soon(work);
    (void)BK_FAILPOINT("work.answered");
}

/* The handler of an attempt that was given up has come back. */
static void come_back(struct work_attempt *attempt) {
    struct work_tenant *tenant = attempt->of;
    struct work_lane *lane = attempt->lane;
    lane->abandoned--;
    if (attempt->answer == WORK_UNANSWERED) {
        leave_tenant(attempt);
        work_attempt_free(attempt);
    }
    work_lane_settle(lane);
    work_tenant_settle(tenant);
}

static void answer(struct bk_work_task *task, enum work_answer said, uint64_t delay_ms,
                   struct bk_slice error, struct bk_slice result) {
    struct work_attempt *attempt = attempt_of(task);
    BK_ASSERT(attempt->is_in_handler);
    attempt->is_in_handler = false;
    if (attempt->of == NULL) {
        work_attempt_free(attempt);
        return;
    }
    if (attempt->is_late) {
        come_back(attempt);
        return;
    }
    if (said == WORK_AGAIN && task->is_stopping) {
        said = WORK_POSTPONED;
        delay_ms = 0;
    }
    if (said == WORK_AGAIN) {
        uint64_t backoff_ms = backoff_of(attempt);
        delay_ms = delay_ms > backoff_ms ? delay_ms : backoff_ms;
    }
    attempt->answer = said;
    attempt->delay_ms = delay_ms;
    set_error(attempt, error);
    set_result(attempt, result);
    end(attempt);
}

void bk_work_done(struct bk_work_task *task, struct bk_slice result) {
    answer(task, WORK_DONE, 0, BK_SLICE_EMPTY, result);
}

void bk_work_again(struct bk_work_task *task, uint64_t delay_ms, struct bk_slice error,
                   struct bk_slice result) {
    answer(task, WORK_AGAIN, delay_ms, error, result);
}

void bk_work_put_off(struct bk_work_task *task, uint64_t delay_ms, struct bk_slice error,
                     struct bk_slice result) {
    attempt_of(task)->is_put_off = true;
    answer(task, WORK_AGAIN, delay_ms, error, result);
}

void bk_work_dead(struct bk_work_task *task, struct bk_slice error, struct bk_slice result) {
    answer(task, WORK_DEAD, 0, error, result);
}

void bk_work_postpone(struct bk_work_task *task, uint64_t delay_ms) {
    if (delay_ms < POSTPONE_MIN_MS && !task->is_stopping)
        delay_ms = POSTPONE_MIN_MS;
    answer(task, WORK_POSTPONED, delay_ms, BK_SLICE_EMPTY, BK_SLICE_EMPTY);
}

void bk_work_wait(struct bk_work_task *task) {
    struct work_attempt *attempt = attempt_of(task);
    BK_ASSERT(attempt->is_in_handler);
    if (attempt->of != NULL)
        work_heap_remove(&attempt->of->work->timeouts, &attempt->timeout);
}

/* One that nobody waits for any more, or that is late, has none. */
void bk_work_go(struct bk_work_task *task) {
    struct work_attempt *attempt = attempt_of(task);
    BK_ASSERT(attempt->is_in_handler);
    if (attempt->of != NULL && !attempt->is_late)
        start_time(attempt);
}

void bk_work_set_progress(struct bk_work_task *task, uint64_t done, uint64_t total) {
    struct work_attempt *attempt = attempt_of(task);
    BK_ASSERT(attempt->is_in_handler);
    attempt->progress_done = done;
    attempt->progress_total = total;
    if (attempt->of == NULL || attempt->is_late)
        return;
    attempt->has_progress = true;
    attempt->of->wants |= WORK_WANTS_PROGRESS;
    work_tenant_settle(attempt->of);
}

/* --- beginning -------------------------------------------------------------------------------- */

/* It is not begun, and waits again. */
static void give_back(struct work_attempt *attempt) {
    attempt->answer = WORK_POSTPONED;
    end(attempt);
}

void work_attempt_take(struct work_tenant *tenant, struct work_attempt *attempt) {
    struct bk_work *work = tenant->work;
    join_tenant(tenant, attempt);
    work_lane_begun(attempt->lane, attempt, work_now_ms(work));
    work->running_count++;
    tenant->running[attempt->kind->index]++;
    work->replay_count += attempt->lane->is_replay;
    bk_list_push(&work->unbegun, &attempt->link);
    if (work->phase == WORK_STARTED)
        bk_loop_defer(work->loop, &work->begin);
    else
        give_back(attempt);
}

void work_attempt_take_orphan(struct work_tenant *tenant, struct work_attempt *attempt) {
    join_tenant(tenant, attempt);
    attempt->lane->ended++;
    attempt->is_orphan = true;
    attempt->answer = WORK_AGAIN;
    set_error(attempt, BK_SLICE("the program ended while it ran"));
    bk_list_push(&tenant->ended, &attempt->link);
}

static void begin(struct work_attempt *attempt) {
    bk_list_remove(&attempt->link);
    bk_list_push(&attempt->of->handled, &attempt->link);
    attempt->kind->attempts++;
    attempt->is_in_handler = true;
    attempt->timeout_ms = attempt->lane->policy.timeout_ms;
    start_time(attempt);
    (void)BK_FAILPOINT("work.handler");
    if (attempt->is_shut) {
        bk_work_dead(&attempt->task, work_secret_is_shut, BK_SLICE_EMPTY);
        return;
    }
    attempt->kind->declared->on_task(&attempt->task, attempt->kind->user);
}

void work_attempts_begin(struct bk_task *task) {
    struct bk_work *work = bk_container_of(task, struct bk_work, begin);
    uint64_t end_ns = bk_clock_monotonic_ns() + work_slice_ns(work);
    for (uint32_t i = 1; !bk_list_is_empty(&work->unbegun); i++) {
        begin(bk_container_of(work->unbegun.next, struct work_attempt, link));
        if (i % SLICE_LOOK == 0 && bk_clock_monotonic_ns() >= end_ns)
            break;
    }
    if (!bk_list_is_empty(&work->unbegun))
        bk_loop_defer_last(work->loop, &work->begin);
}

/* --- ending it before ------------------------------------------------------------------------- */

/* What is wished for is said by the task. */
static void ask_to_end(struct work_attempt *attempt) {
    if (attempt->kind->declared->on_cancel != NULL)
        attempt->kind->declared->on_cancel(&attempt->task, attempt->kind->user);
}

void work_attempt_cancel(struct work_attempt *attempt) {
    if (attempt->task.is_cancelled)
        return;
    if (attempt->is_in_handler) {
        attempt->task.is_cancelled = true;
        ask_to_end(attempt);
    } else if (attempt->answer == WORK_UNANSWERED) {
        attempt->task.is_cancelled = true;
        attempt->answer = WORK_AGAIN;
        set_error(attempt, BK_SLICE("cancelled before it began"));
        end(attempt);
    }
}

/* Who is asked may answer for others, too: the list is looked at anew after each. */
static struct work_attempt *first_uncancelled(const struct work_tenant *tenant) {
    BK_LIST_FOR_EACH(node, &tenant->handled) {
        struct work_attempt *attempt = bk_container_of(node, struct work_attempt, link);
        if (!attempt->task.is_cancelled)
            return attempt;
    }
    return NULL;
}

void work_attempts_cancel(struct work_tenant *tenant) {
    struct work_attempt *attempt;
    while ((attempt = first_uncancelled(tenant)) != NULL) {
        attempt->task.is_stopping = true;
        work_attempt_cancel(attempt);
    }
}

static struct work_attempt *first_unstopped(const struct work_tenant *tenant) {
    BK_LIST_FOR_EACH(node, &tenant->handled) {
        struct work_attempt *attempt = bk_container_of(node, struct work_attempt, link);
        if (!attempt->task.is_stopping)
            return attempt;
    }
    return NULL;
}

void work_attempts_stop(struct work_tenant *tenant) {
    struct work_attempt *attempt;
    while ((attempt = first_unstopped(tenant)) != NULL) {
        attempt->task.is_stopping = true;
        if (!attempt->task.is_cancelled)
            ask_to_end(attempt);
    }
}

static void time_out(struct work_attempt *attempt) {
    char text[64];
    (void)snprintf(text, sizeof text, "it did not end within %u ms", attempt->timeout_ms);
    attempt->is_late = true;
    attempt->kind->timeouts++;
    attempt->answer = WORK_AGAIN;
    attempt->delay_ms = backoff_of(attempt);
    set_error(attempt, bk_slice_from(text));
    attempt->lane->abandoned++;
    end(attempt);
    if (attempt->task.is_cancelled)
        return;
    attempt->task.is_cancelled = true;
    ask_to_end(attempt);
}

void work_attempts_time_out(struct bk_work *work) {
    int64_t now_ms = (int64_t)bk_loop_now_ms(work->loop);
    struct work_heap_node *node;
    while ((node = work_heap_first(&work->timeouts)) != NULL && node->time_ms <= now_ms)
        time_out(bk_container_of(node, struct work_attempt, timeout));
}

void work_attempts_return(struct bk_work *work, const struct work_tenant *tenant) {
    BK_LIST_FOR_EACH(node, &work->unbegun) {
        struct work_attempt *attempt = bk_container_of(node, struct work_attempt, link);
        if (tenant == NULL || attempt->of == tenant)
            give_back(attempt);
    }
}

/* --- after the record ------------------------------------------------------------------------- */

static void count_record(const struct work_attempt *attempt) {
    struct work_kind *kind = attempt->kind;
    kind->done += attempt->record.answer == WORK_DONE;
    kind->again += attempt->record.answer == WORK_AGAIN;
    kind->died += attempt->record.answer == WORK_DEAD;
}

/* Its handler may come back, or not. */
static void lose(struct work_attempt *attempt) {
    struct bk_work *work = attempt->of->work;
    attempt->of->has_lost = true;
    leave_tenant(attempt);
    work_heap_remove(&work->timeouts, &attempt->timeout);
    if (attempt->is_in_handler)
        bk_list_push(&work->lost, &attempt->link);
    else
        work_attempt_free(attempt);
}

void work_attempt_recorded(struct work_attempt *attempt) {
    struct work_tenant *tenant = attempt->of;
    struct work_lane *lane = attempt->lane;
    int64_t due_ms = attempt->record.due_ms;
    BK_ASSERT(attempt->is_recording);
    attempt->is_recording = false;
    lane->ended--;
    count_record(attempt);
    if (attempt->record.expires_ms < tenant->expires_ms)
        tenant->expires_ms = attempt->record.expires_ms;
    attempt->answer = WORK_UNANSWERED;
    bk_list_remove(&attempt->link);
    if (!attempt->is_in_handler) {
        leave_tenant(attempt);
        work_attempt_free(attempt);
    } else if (tenant->work->is_grace_over) {
        lane->abandoned--;
        lose(attempt);
    } else {
        bk_list_push(&tenant->late, &attempt->link);
    }
    if (due_ms != INT64_MAX)
        work_lane_wait(lane, due_ms);
    else
        work_lane_settle(lane);
}

static void lose_all(struct bk_list *list, bool is_running) {
    while (!bk_list_is_empty(list)) {
        struct work_attempt *attempt = bk_container_of(list->next, struct work_attempt, link);
        struct work_lane *lane = attempt->lane;
        struct bk_work *work = attempt->of->work;
        if (is_running) {
            lane->running--;
            work->running_count--;
            attempt->of->running[attempt->kind->index]--;
            work->replay_count -= lane->is_replay;
        } else if (attempt->answer != WORK_UNANSWERED) {
            lane->ended--;
        }
        if (attempt->is_late && attempt->is_in_handler)
            lane->abandoned--;
        lose(attempt);
        work_lane_settle(lane);
    }
}

void work_attempts_lose(struct work_tenant *tenant) {
    lose_all(&tenant->handled, true);
    lose_all(&tenant->ended, false);
    lose_all(&tenant->late, false);
    work_tenant_settle(tenant);
}
