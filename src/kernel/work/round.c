/*
 * A round: one background write of a tenant, in which what has ended is recorded and what may begin
 * is claimed.
 *
 *   loop    start: ends, lanes with room, other wishes are written down
 *   writer  run: ends · inbox · progress · wishes · claims            (record.c, clear.c, claim.c)
 *   loop    done: ends are freed, claimed tasks begin, heads of lanes are known anew
 *
 * What the writer finds is its own until done; of the loop's it reads what does not change
 * meanwhile. Run may be called again: it forgets first what it has found. It may end before all is
 * done, when its time is over or a request waits (courtesy.c): then the next round goes on.
 *
 * A round that fails has done nothing. If a hook was to blame, the next one records the ends up to
 * that one, without the hook; if it cannot be told who was, ends are recorded one by one until it
 * can. If it was the disk, all is tried again after a pause.
 */
#include "work_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"

enum {
    RETRY_MS = 1000,
    RETRY_BUSY_MS = 50,
    FAILURES_MAX = 5, /* of a hook that says that it is busy */
    STORE_TIME_MS = 30 * 1000,
    NAMES_BYTES_MAX = 16 * 1024 * 1024
};

/* --- on the writer ---------------------------------------------------------------------------- */

static void forget_answers(struct work_round *round) {
    work_attempts_free(&round->claimed);
    work_attempts_free(&round->orphans);
    for (uint32_t i = 0; i < round->found_count; i++)
        bk_free((void *)(uintptr_t)round->found[i].lane.data);
    bk_free(round->found);
    bk_free(round->cancelled);
    round->found = NULL;
    round->cancelled = NULL;
    round->found_count = round->cancelled_count = 0;
    bk_buffer_clear(&round->paused);
    round->done = 0;
    round->began_ns = 0;
    round->end_done = round->claim_done = 0;
    round->has_no_table = false;
    round->schedule_ms = round->expires_ms = INT64_MAX;
    round->failed_end = -1;
    round->step = WORK_STEP_ENDS;
}

static enum bk_status look_for_table(struct bk_work *work, struct bk_connection *connection,
                                     struct work_round *round) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_HAS_TABLE, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    round->has_no_table = status == BK_END;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status read_paused(struct bk_work *work, struct bk_connection *connection,
                                  struct work_round *round) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_FIND_PAUSED, &statement);
    if (status != BK_OK)
        return status;
    while ((status = bk_statement_step(statement)) == BK_OK) {
        bk_buffer_append_slice(&round->paused, bk_statement_text(statement, 0));
        bk_buffer_append_char(&round->paused, '\0');
    }
    bk_statement_reset(statement);
    round->done |= WORK_WANTS_PAUSES;
    return status == BK_END ? BK_OK : status;
}

static enum bk_status read_cancelled(struct bk_work *work, struct bk_connection *connection,
                                     struct work_round *round) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_FIND_CANCELLED, &statement);
    if (status != BK_OK)
        return status;
    round->cancelled = bk_alloc(WORK_ROUND_TASKS_MAX * sizeof *round->cancelled);
    bk_statement_bind_int(statement, 1, WORK_ROUND_TASKS_MAX);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        struct bk_slice id = bk_statement_text(statement, 0);
        if (id.length == BK_WORK_ID_BYTES)
            memcpy(round->cancelled[round->cancelled_count++], id.data, BK_WORK_ID_BYTES);
    }
    bk_statement_reset(statement);
    round->done |= WORK_WANTS_CANCELS;
    return status == BK_END ? BK_OK : status;
}

/* Times of schedules that were found by a clock that has leapt are found again. */
static enum bk_status repair(struct bk_transaction *transaction, struct work_round *round) {
    bool is_done = false;
    enum bk_status status = work_repair(transaction, round->now_ms, WORK_REPAIR_ROWS_MAX, &is_done);
    if (status == BK_OK && is_done) {
        status = work_schedule_judge(transaction, round->now_ms);
        round->done |= WORK_WANTS_REPAIR;
    }
    return status;
}

static bool does_want(const struct work_round *round, uint32_t what) {
    return (round->wants & what) != 0;
}

static bool is_left(const struct work_round *round, uint32_t what) {
    return (round->wants & ~round->done & what) != 0;
}

/* Lanes are read when their rows are right, and all there. Only at the opening they are read before
 * the inbox is empty, which may take long, and again behind it. */
static enum bk_status run_wishes(struct bk_work *work, struct bk_transaction *transaction,
                                 struct work_round *round) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    enum bk_status status = BK_OK;
    bool may_read = round->is_first || !is_left(round, WORK_WANTS_MOVE);
    if (does_want(round, WORK_WANTS_PAUSES))
        status = read_paused(work, connection, round);
    if (status == BK_OK && does_want(round, WORK_WANTS_CANCELS))
        status = read_cancelled(work, connection, round);
    if (status == BK_OK && does_want(round, WORK_WANTS_REPAIR) && may_read)
        status = repair(transaction, round);
    if (status == BK_OK && does_want(round, WORK_WANTS_ORPHANS | WORK_WANTS_LEASES))
        status = work_find_orphans(work, transaction, round, !does_want(round, WORK_WANTS_ORPHANS));
    if (status == BK_OK && does_want(round, WORK_WANTS_SCAN) &&
        !is_left(round, WORK_WANTS_REPAIR) && may_read)
        status = work_scan_lanes(work, transaction, round);
    if (status == BK_OK && does_want(round, WORK_WANTS_SCHEDULES)) {
        status = work_schedule_turn(work, transaction, round->now_ms, &round->schedule_ms);
        round->done |= WORK_WANTS_SCHEDULES;
    }
    if (status == BK_OK && does_want(round, WORK_WANTS_PRUNE | WORK_WANTS_EXPIRES))
        status = work_prune(work, transaction, round);
    if (status == BK_OK && does_want(round, WORK_WANTS_EXPIRES)) {
        status = work_schedule_next(connection, &round->schedule_ms);
        round->done |= WORK_WANTS_EXPIRES;
    }
    if (status == BK_OK && does_want(round, WORK_WANTS_CLEAR))
        status = work_clear_lanes(work, transaction, round);
    return status;
}

/* Before anything is looked for: what may begin is claimed from the table. */
static enum bk_status empty_inbox(struct bk_work *work, struct bk_transaction *transaction,
                                  struct work_round *round) {
    bool is_empty = false;
    enum bk_status status = BK_OK;
    for (uint32_t rows = 0; rows < WORK_MOVE_ROWS_MAX && status == BK_OK && !is_empty;
         rows += WORK_MOVE_SLICE_ROWS) {
        if (rows > 0 && work_round_is_over(round, transaction))
            break;
        round->row_count += WORK_MOVE_SLICE_ROWS;
        status = work_inbox_move(work, transaction, WORK_MOVE_SLICE_ROWS, &is_empty);
    }
    if (is_empty)
        round->done |= WORK_WANTS_MOVE;
    return status;
}

static enum bk_status store_time(struct bk_work *work, struct bk_connection *connection,
                                 const struct work_round *round) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_STORE_TIME, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, round->now_ms);
    return bk_statement_run(statement);
}

static enum bk_status record_ends(struct bk_work *work, struct bk_transaction *transaction,
                                  struct work_round *round) {
    enum bk_status status = BK_OK;
    while (round->end_done < round->end_count && status == BK_OK) {
        if (work_round_is_over(round, transaction))
            break;
        status = work_record_end(work, transaction, round, round->end_done);
        round->end_done += status == BK_OK;
    }
    return status;
}

/* One that seems to be empty is asked in the next round while its row may still be in the inbox. Of
 * one that is being cleared nothing begins. */
static enum bk_status claim_one(struct bk_work *work, struct bk_transaction *transaction,
                                struct work_round *round, struct work_claim *claim,
                                bool are_clearings) {
    bool is_cleared = false;
    enum bk_status status = BK_OK;
    if (are_clearings)
        status = work_is_being_cleared(work, bk_transaction_connection(transaction),
                                       claim->lane->name, &is_cleared);
    if (status != BK_OK)
        return status;
    if (is_cleared) {
        claim->head_ms = work_clearing_look_ms(round->now_ms);
        return BK_OK;
    }
    status = work_claim_lane(work, transaction, round, claim);
    if (claim->head_ms == INT64_MAX && is_left(round, WORK_WANTS_MOVE))
        claim->head_ms = round->now_ms;
    return status;
}

/* A lane whose turn does not come any more is asked in the next round. */
static enum bk_status claim(struct bk_work *work, struct bk_transaction *transaction,
                            struct work_round *round) {
    bool are_clearings = false;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < round->claim_count; i++)
        round->claims[i].head_ms = round->now_ms;
    if (round->claim_count > 0)
        status = work_are_clearings(work, bk_transaction_connection(transaction), &are_clearings);
    while (round->claim_done < round->claim_count && status == BK_OK) {
        if (work_round_is_over(round, transaction))
            break;
        status =
            claim_one(work, transaction, round, &round->claims[round->claim_done], are_clearings);
        round->claim_done += status == BK_OK;
    }
    return status;
}

static enum bk_status run(struct bk_transaction *transaction, struct bk_write *write) {
    struct work_round *round = bk_container_of(write, struct work_round, write);
    struct bk_work *work = bk_container_of(round, struct work_tenant, round)->work;
    struct bk_connection *connection = bk_transaction_connection(transaction);
    enum bk_status status = BK_OK;
    forget_answers(round);
    round->began_ns = bk_clock_monotonic_ns();
    work_round_part(round);
    if (does_want(round, WORK_WANTS_ORPHANS))
        status = look_for_table(work, connection, round);
    if (status != BK_OK || round->has_no_table)
        return status;
    status = record_ends(work, transaction, round);
    if (status == BK_OK)
        round->step = WORK_STEP_WISHES;
    work_round_part(round);
    if (status == BK_OK && does_want(round, WORK_WANTS_MOVE))
        status = empty_inbox(work, transaction, round);
    work_round_part(round);
    for (uint32_t i = 0; i < round->progress_count && status == BK_OK; i++)
        status = work_record_progress(work, transaction, &round->progress[i]);
    if (status == BK_OK)
        status = run_wishes(work, transaction, round);
    work_round_part(round);
    if (status == BK_OK)
        status = claim(work, transaction, round);
    if (status == BK_OK && round->stores_time)
        status = store_time(work, connection, round);
    if (status == BK_OK)
        round->step = WORK_STEP_OVER;
    return status == BK_OK ? BK_FAILPOINT("work.recorded") : status;
}

/* --- what was found --------------------------------------------------------------------------- */

static struct work_attempt *find_attempt(const struct bk_list *list,
                                         const struct work_tenant *tenant, struct bk_slice id) {
    BK_LIST_FOR_EACH(node, list) {
        struct work_attempt *attempt = bk_container_of(node, struct work_attempt, link);
        if (attempt->of == tenant && bk_slice_equal(attempt->task.id, id))
            return attempt;
    }
    return NULL;
}

static struct work_attempt *find_running(const struct work_tenant *tenant, struct bk_slice id) {
    struct work_attempt *attempt = find_attempt(&tenant->handled, tenant, id);
    return attempt != NULL ? attempt : find_attempt(&tenant->work->unbegun, tenant, id);
}

static void take_orphans(struct work_tenant *tenant) {
    struct work_round *round = &tenant->round;
    struct bk_list *node;
    while ((node = bk_list_pop(&round->orphans)) != NULL) {
        struct work_attempt *attempt = bk_container_of(node, struct work_attempt, link);
        if (find_running(tenant, attempt->task.id) != NULL ||
            find_attempt(&tenant->ended, tenant, attempt->task.id) != NULL)
            work_attempt_free(attempt);
        else
            work_attempt_take_orphan(tenant, attempt);
    }
}

static void take_paused(struct work_tenant *tenant) {
    struct bk_buffer *paused = &tenant->round.paused;
    struct work_lane **lanes = bk_alloc((tenant->lanes.count + 1) * sizeof(struct work_lane *));
    const struct bk_map_entry *entry;
    size_t cursor = 0, count = 0;
    struct bk_map names;
    bk_map_init(&names);
    for (size_t at = 0; at < paused->length;) {
        struct bk_slice name = bk_slice_from(paused->data + at);
        (void)bk_map_put(&names, name, paused);
        at += name.length + 1;
    }
    while ((entry = bk_map_next(&tenant->lanes, &cursor)) != NULL)
        lanes[count++] = entry->value;
    for (size_t i = 0; i < count; i++)
        if (lanes[i]->is_paused && bk_map_get(&names, lanes[i]->name) == NULL)
            work_lane_set_paused(lanes[i], false);
    cursor = 0;
    while ((entry = bk_map_next(&names, &cursor)) != NULL) {
        struct work_lane *lane = work_lane_get(tenant, entry->key);
        if (lane != NULL)
            work_lane_set_paused(lane, true);
    }
    bk_map_fini(&names);
    bk_free(lanes);
}

static void take_cancelled(struct work_tenant *tenant) {
    struct work_round *round = &tenant->round;
    for (uint32_t i = 0; i < round->cancelled_count; i++) {
        struct work_attempt *attempt =
            find_running(tenant, bk_slice_make(round->cancelled[i], BK_WORK_ID_BYTES));
        if (attempt != NULL)
            work_attempt_cancel(attempt);
    }
}

static void take_found(struct work_tenant *tenant, bool is_asked_again) {
    struct work_round *round = &tenant->round;
    for (uint32_t i = 0; i < round->found_count; i++) {
        struct work_lane *lane = work_lane_get(tenant, round->found[i].lane);
        if (lane != NULL)
            work_lane_wait(lane, round->found[i].due_ms);
    }
    /* Somebody has asked for a new scan meanwhile: that begins at the beginning. */
    if ((round->done & WORK_WANTS_SCAN) != 0 || is_asked_again) {
        tenant->scan_from_length = 0;
    } else if (round->found_count > 0) {
        struct bk_slice last = round->found[round->found_count - 1].lane;
        tenant->scan_from_length =
            last.length < sizeof tenant->scan_from ? last.length : sizeof tenant->scan_from;
        memcpy(tenant->scan_from, last.data, tenant->scan_from_length);
    }
}

/* A hint may have come meanwhile: then the head is the earlier one. */
static void settle_claims(const struct work_round *round, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        round->claims[i].lane->is_asked = false;
        work_lane_wait(round->claims[i].lane, round->claims[i].head_ms);
    }
}

/* Lanes that the round did not come to are asked before those that it served. */
static void take_claims(struct work_tenant *tenant) {
    struct work_round *round = &tenant->round;
    struct bk_list *node;
    while ((node = bk_list_pop(&round->claimed)) != NULL)
        work_attempt_take(tenant, bk_container_of(node, struct work_attempt, link));
    tenant->replays_first = false;
    for (uint32_t i = round->claim_done; i < round->claim_count; i++)
        tenant->replays_first |= round->claims[i].lane->is_replay;
    settle_claims(round, round->claim_done, round->claim_count);
    settle_claims(round, 0, round->claim_done);
}

/* What is left in the inbox may be of lanes that seem to be empty; and, what was there at the
 * opening, of a future that never came. */
static void want_move(struct work_tenant *tenant) {
    tenant->wants |= WORK_WANTS_MOVE | WORK_WANTS_SCAN;
    if (tenant->round.is_first)
        tenant->wants |= WORK_WANTS_REPAIR;
    tenant->move_ms = 0;
}

/* They come first the next time. */
static void return_ends(struct work_tenant *tenant, uint32_t from) {
    struct work_round *round = &tenant->round;
    for (uint32_t i = round->end_count; i > from; i--) {
        struct work_attempt *attempt = round->ends[i - 1];
        attempt->is_recording = false;
        bk_list_push_front(&tenant->ended, &attempt->link);
    }
}

static bool has_left_something(const struct work_round *round) {
    if (round->end_done < round->end_count || (round->wants & ~round->done) != 0)
        return true;
    for (uint32_t i = 0; i < round->claim_count; i++)
        if (round->claims[i].head_ms <= round->now_ms)
            return true;
    return false;
}

static void take_answers(struct work_tenant *tenant) {
    struct work_round *round = &tenant->round;
    tenant->is_behind = has_left_something(round);
    tenant->done |= round->done;
    return_ends(tenant, round->end_done);
    for (uint32_t i = 0; i < round->end_done; i++)
        work_attempt_recorded(round->ends[i]);
    bool is_asked_again = (tenant->wants & WORK_WANTS_SCAN) != 0;
    tenant->wants |= round->wants & ~round->done;
    if ((round->wants & ~round->done & WORK_WANTS_MOVE) != 0)
        want_move(tenant);
    tenant->failures = 0;
    tenant->ends_alone = false;
    if (does_want(round, WORK_WANTS_PRUNE | WORK_WANTS_EXPIRES) &&
        round->expires_ms < tenant->expires_ms)
        tenant->expires_ms = round->expires_ms;
    if (does_want(round, WORK_WANTS_SCHEDULES | WORK_WANTS_EXPIRES) &&
        round->schedule_ms < tenant->schedule_ms)
        tenant->schedule_ms = round->schedule_ms;
    if (round->stores_time)
        tenant->stored_time_ms = round->now_ms;
    tenant->end_max =
        tenant->end_max * 2 < WORK_ROUND_ENDS_MAX ? tenant->end_max * 2 : WORK_ROUND_ENDS_MAX;
    take_orphans(tenant);
    if ((round->done & WORK_WANTS_PAUSES) != 0)
        take_paused(tenant);
    take_found(tenant, is_asked_again);
    take_claims(tenant);
    take_cancelled(tenant);
}

/* --- what failed ------------------------------------------------------------------------------ */

static void spoil(struct work_tenant *tenant, uint32_t index, uint32_t hook,
                  enum bk_status status) {
    struct work_attempt *attempt = tenant->round.ends[index];
    bk_log_error(&tenant->work->log, "end_not_recorded", BK_STRING("tenant", tenant->tenant->name),
                 BK_STRING("lane", attempt->task.lane), BK_STRING("task", attempt->task.id),
                 BK_TEXT("status", bk_status_name(status)));
    work_attempt_spoil(attempt, hook, status);
    tenant->end_max = index + 1;
}

/* Nobody was named: a hook has hidden its failure, or SQL has one. Ends are recorded without
 * anything else, and one by one, until it is known whose it is. */
static void search_culprit(struct work_tenant *tenant, enum bk_status status) {
    const struct work_round *round = &tenant->round;
    bool was_alone = round->wants == 0 && round->claim_count == 0 && round->progress_count == 0;
    tenant->ends_alone = true;
    tenant->end_max = 1;
    tenant->retry_ms = round->now_ms + RETRY_BUSY_MS;
    if (round->end_count > 1 || !was_alone)
        return;
    spoil(tenant, 0,
          (round->ends[0]->skips & WORK_SKIP_ON_END) == 0 ? WORK_SKIP_ON_END : WORK_SKIP_ON_DEAD,
          status);
}

/* What the disk says passes, and so does what is busy; if it does not, a hook is to blame. */
static bool is_to_blame(const struct work_tenant *tenant, enum bk_status status) {
    bool may_pass = status == BK_BUSY || status == BK_TIMEOUT;
    return !work_is_of_the_disk(status) || (may_pass && tenant->failures > FAILURES_MAX);
}

static void blame(struct work_tenant *tenant, enum bk_status status) {
    const struct work_round *round = &tenant->round;
    int64_t pause_ms = status == BK_BUSY ? RETRY_BUSY_MS : RETRY_MS;
    tenant->failures++;
    if (round->failed_end >= 0 && is_to_blame(tenant, status))
        spoil(tenant, (uint32_t)round->failed_end, round->failed_hook, status);
    else if (!work_is_of_the_disk(status) && round->end_count > 0 &&
             round->step != WORK_STEP_WISHES)
        search_culprit(tenant, status);
    else
        tenant->retry_ms = round->now_ms + pause_ms;
    if (round->step == WORK_STEP_WISHES)
        tenant->ends_alone = true;
}

static void take_failure(struct work_tenant *tenant, enum bk_status status) {
    struct work_round *round = &tenant->round;
    if (status != BK_BUSY)
        bk_log_warn(&tenant->work->log, "round_failed", BK_STRING("tenant", tenant->tenant->name),
                    BK_TEXT("status", bk_status_name(status)), BK_INT("ends", round->end_count));
    blame(tenant, status);
    return_ends(tenant, 0);
    tenant->wants |= round->wants;
    if ((round->wants & WORK_WANTS_MOVE) != 0)
        tenant->move_ms = 0;
    /* The commit may have been written all the same: then tasks run that nobody has. */
    if (round->claim_count > 0 && status != BK_BUSY)
        tenant->wants |= WORK_WANTS_ORPHANS;
    for (uint32_t i = 0; i < round->claim_count; i++)
        round->claims[i].head_ms = round->now_ms;
    settle_claims(round, 0, round->claim_count);
}

/* Its rows have been read once; of the inbox, what was moved by then. Lanes may yet be cleared. */
static bool is_known(const struct work_tenant *tenant) {
    uint32_t needed = WORK_WANTS_AT_OPENING & ~(uint32_t)(WORK_WANTS_MOVE | WORK_WANTS_CLEAR);
    return (needed & ~tenant->done) == 0 || (needed & tenant->wants) == 0;
}

static void finish(struct work_tenant *tenant, enum bk_status status) {
    struct bk_work *work = tenant->work;
    struct work_round *round = &tenant->round;
    round->is_flying = false;
    work->flying_count--;
    work->reserved_count -= round->reserved;
    work->reserved_replay_count -= round->reserved_replay;
    if (status == BK_OK && round->has_no_table) {
        tenant->has_no_table = true;
        tenant->wants = 0;
        tenant->schedule_ms = INT64_MAX;
    } else if (status == BK_OK) {
        take_answers(tenant);
    } else {
        take_failure(tenant, status);
    }
    work_courtesy_end(tenant);
    forget_answers(round);
    bk_free(round->ends);
    bk_free(round->progress);
    bk_free(round->claims);
    round->ends = NULL;
    round->progress = NULL;
    round->claims = NULL;
    round->end_count = round->progress_count = round->claim_count = 0;
    if (!tenant->is_known && is_known(tenant))
        work_tenant_know(tenant);
    if (work->is_grace_over)
        work_attempts_lose(tenant);
    if (work->phase == WORK_STOPPING)
        bk_loop_defer(work->loop, &work->stopping);
    work_tenant_settle(tenant);
    work_turn_soon(work);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct work_round *round = bk_container_of(write, struct work_round, write);
    if (status == BK_OK && round->end_count > 0)
        (void)BK_FAILPOINT("work.after_record");
    if (status == BK_OK && !bk_list_is_empty(&round->claimed))
        (void)BK_FAILPOINT("work.claimed");
    finish(bk_container_of(round, struct work_tenant, round), status);
}

/* --- starting --------------------------------------------------------------------------------- */

static void choose_ends(struct work_tenant *tenant) {
    struct work_round *round = &tenant->round;
    struct bk_list *node;
    uint32_t max = tenant->end_max;
    if (bk_list_is_empty(&tenant->ended))
        return;
    if (work_is_courteous(tenant->work) && max > work_round_tasks_max(tenant))
        max = work_round_tasks_max(tenant);
    round->ends = bk_alloc(max * sizeof(struct work_attempt *));
    while (round->end_count < max && (node = bk_list_pop(&tenant->ended)) != NULL) {
        struct work_attempt *attempt = bk_container_of(node, struct work_attempt, link);
        attempt->is_recording = true;
        round->ends[round->end_count++] = attempt;
    }
}

static void choose_progress(struct work_tenant *tenant) {
    struct work_round *round = &tenant->round;
    bool has_more = false;
    if ((tenant->wants & WORK_WANTS_PROGRESS) == 0 || tenant->ends_alone)
        return;
    round->progress = bk_alloc_zero(WORK_PROGRESS_MAX * sizeof *round->progress);
    BK_LIST_FOR_EACH(node, &tenant->handled) {
        struct work_attempt *attempt = bk_container_of(node, struct work_attempt, link);
        struct work_progress *progress = &round->progress[round->progress_count];
        if (!attempt->has_progress)
            continue;
        has_more = round->progress_count == WORK_PROGRESS_MAX;
        if (has_more)
            break;
        attempt->has_progress = false;
        progress->rowid = attempt->rowid;
        memcpy(progress->id, attempt->task.id.data, BK_WORK_ID_BYTES);
        progress->done = attempt->progress_done;
        progress->total = attempt->progress_total;
        round->progress_count++;
    }
    if (has_more)
        return;
    tenant->wants &= ~(uint32_t)WORK_WANTS_PROGRESS;
    tenant->progress_ms = round->now_ms;
}

static uint32_t length_of(const struct bk_list *list, uint32_t max) {
    uint32_t length = 0;
    for (const struct bk_list *node = list->next; node != list && length < max; node = node->next)
        length++;
    return length;
}

/* A kind of a tenant may claim a quarter of what is free beyond what it has: three times as much as
 * it leaves to others, and one when it has none. */
static uint32_t limit_of(const struct work_tenant *tenant, const struct work_kind *kind,
                         const uint32_t *claimed, uint32_t taken) {
    uint32_t places = work_places(tenant->work);
    uint32_t free_count = places > taken ? places - taken : 0;
    uint32_t own = tenant->running[kind->index] + claimed[kind->index];
    uint64_t thrice = UINT64_C(3) * free_count;
    if (own == 0 && free_count > 0)
        return thrice > 4 ? (uint32_t)(thrice / 4) : 1;
    return thrice > own ? (uint32_t)((thrice - own) / 4) : 0;
}

/* What is left is shared by the lanes that are left, so each has a part and nothing is wasted. */
static bool has_room_in(const struct work_tenant *tenant, const struct bk_list *ready) {
    static const uint32_t none[WORK_KINDS_MAX];
    BK_LIST_FOR_EACH(node, ready) {
        const struct work_lane *lane = bk_container_of(node, struct work_lane, link);
        if (limit_of(tenant, lane->kind, none, 0) > 0)
            return true;
    }
    return false;
}

bool work_round_has_room(const struct work_tenant *tenant, uint32_t replay_share) {
    return has_room_in(tenant, &tenant->ready[0]) ||
           (replay_share > 0 && has_room_in(tenant, &tenant->ready[1]));
}

/* A row may run though nobody has it: a commit that failed may have been written all the same. */
static void note_lease(struct work_tenant *tenant, const struct work_lane *lane) {
    int64_t lease_ms = tenant->round.now_ms + lane->policy.timeout_ms + WORK_LEASE_EXTRA_MS;
    if (lease_ms > tenant->lease_ms)
        tenant->lease_ms = lease_ms;
}

static uint32_t ask_lanes(struct work_tenant *tenant, struct bk_list *ready, uint32_t share,
                          uint32_t *claimed, uint32_t before) {
    struct work_round *round = &tenant->round;
    uint32_t lanes = length_of(ready, WORK_ROUND_LANES_MAX), taken = 0;
    for (uint32_t left = lanes; left > 0 && taken < share && !bk_list_is_empty(ready); left--) {
        struct work_lane *lane = bk_container_of(ready->next, struct work_lane, link);
        uint32_t part = (share - taken + left - 1) / left;
        uint32_t limit = limit_of(tenant, lane->kind, claimed, before + taken);
        uint32_t may = work_lane_room(lane, round->now_ms);
        uint32_t room = may < part ? may : part;
        room = room < limit ? room : limit;
        bk_list_remove(&lane->link);
        if (may > 0 && room == 0) {
            bk_list_push(ready, &lane->link); /* it stays ready */
            continue;
        }
        lane->place = WORK_LANE_NOWHERE;
        if (room == 0) {
            work_lane_settle(lane);
            continue;
        }
        lane->is_asked = true;
        lane->head_ms = INT64_MAX; /* it is told anew */
        note_lease(tenant, lane);
        round->claims[round->claim_count++] =
            (struct work_claim){.lane = lane,
                                .room = room,
                                .timeout_ms = lane->policy.timeout_ms,
                                .head_ms = INT64_MAX};
        taken += room;
        claimed[lane->kind->index] += room;
    }
    return taken;
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Replays come last; but first, for a quarter, when the last round did not come to them. */
static void choose_claims(struct work_tenant *tenant, uint32_t share, uint32_t replay_share) {
    struct work_round *round = &tenant->round;
    struct bk_work *work = tenant->work;
    uint32_t claimed[WORK_KINDS_MAX] = {0}; /* by kind */
    round->reserved = round->reserved_replay = 0;
    if (share == 0 || !tenant->is_known || tenant->is_leaving || tenant->ends_alone ||
        work->phase != WORK_STARTED || !bk_list_is_empty(&tenant->ended))
        return;
    if (bk_list_is_empty(&tenant->ready[0]) && bk_list_is_empty(&tenant->ready[1]))
        return;
    round->claims = bk_alloc(2 * (size_t)WORK_ROUND_LANES_MAX * sizeof *round->claims);
    share = least(share, work_round_tasks_max(tenant));
    if (tenant->replays_first)
        round->reserved_replay =
            ask_lanes(tenant, &tenant->ready[1], least(replay_share, (share + 3) / 4), claimed, 0);
    round->reserved = ask_lanes(tenant, &tenant->ready[0], share - round->reserved_replay, claimed,
                                round->reserved_replay);
    if (!tenant->replays_first)
        round->reserved_replay =
            ask_lanes(tenant, &tenant->ready[1], least(replay_share, share - round->reserved),
                      claimed, round->reserved);
    round->reserved += round->reserved_replay;
    work->reserved_count += round->reserved;
    work->reserved_replay_count += round->reserved_replay;
}

static int64_t age_now_ms(const struct bk_work *work, int64_t now_ms) {
    int64_t age_ms = bk_store_age_now_ms(work->store);
    return age_ms < now_ms ? age_ms : now_ms;
}

void work_round_start(struct work_tenant *tenant, uint32_t share, uint32_t replay_share) {
    struct bk_work *work = tenant->work;
    struct work_round *round = &tenant->round;
    BK_ASSERT(!round->is_flying);
    round->is_flying = true;
    work->flying_count++;
    round->is_first = !tenant->is_known;
    round->now_ms = work_now_ms(work);
    round->age_ms = age_now_ms(work, round->now_ms);
    if (tenant->is_known && tenant->schedule_ms <= round->now_ms && work->phase == WORK_STARTED) {
        tenant->wants |= WORK_WANTS_SCHEDULES;
        tenant->schedule_ms = INT64_MAX;
    }
    if ((tenant->wants & WORK_WANTS_PRUNE) != 0 && !tenant->ends_alone)
        tenant->expires_ms = INT64_MAX;
    round->wants = 0;
    if ((tenant->wants & WORK_WANTS_CLEAR) != 0)
        tenant->wants |= WORK_WANTS_MOVE;
    if (work->phase == WORK_STARTED && !tenant->ends_alone)
        round->wants = tenant->wants & ~(uint32_t)WORK_WANTS_PROGRESS;
    tenant->wants &= ~round->wants;
    round->scan_from_length = tenant->scan_from_length;
    memcpy(round->scan_from, tenant->scan_from, tenant->scan_from_length);
    work_courtesy_begin(tenant);
    choose_ends(tenant);
    choose_progress(tenant);
    choose_claims(tenant, share, replay_share);
    round->stores_time = (round->end_count > 0 || round->claim_count > 0) &&
                         round->now_ms - tenant->stored_time_ms > STORE_TIME_MS;
    round->write = (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = run, .done = on_done};
    enum bk_status status = bk_store_write(tenant->tenant->database, &round->write);
    if (status != BK_OK)
        finish(tenant, status);
}

void work_round_init(struct work_tenant *tenant) {
    struct work_round *round = &tenant->round;
    bk_list_init(&round->claimed);
    bk_list_init(&round->orphans);
    bk_buffer_init(&round->paused, NAMES_BYTES_MAX);
    forget_answers(round);
}

void work_round_fini(struct work_tenant *tenant) {
    BK_ASSERT(!tenant->round.is_flying);
    forget_answers(&tenant->round);
    bk_buffer_fini(&tenant->round.paused);
}
