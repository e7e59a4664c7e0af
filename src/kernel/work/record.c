/*
 * On the writer: what an attempt led to, with the hooks of its end in the same transaction.
 *
 *   DONE        the row goes, or stays as done for as long as its kind wants
 *   AGAIN       it waits for its next attempt; it is dead after the last one, or when it was
 *               cancelled meanwhile, which only its row knows for certain
 *   DEAD        it stays as dead
 *   POSTPONED   it waits as if it had not begun; no hook is called
 *
 * The end of a task with a key lets the next of its chain begin. A hook that fails spoils the
 * transaction: the round is run again with that end recorded as a failure, without the hook.
 * What the disk says is nobody's fault.
 */
#include "work_private.h"

#include <stdio.h>

/* --- rows ------------------------------------------------------------------------------------- */

static enum bk_status delete_secret(struct bk_work *work, struct bk_connection *connection,
                                    struct bk_slice id) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_DELETE_SECRET, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    return bk_statement_run(statement);
}

enum bk_status work_delete_row(struct bk_work *work, struct bk_transaction *transaction,
                               const struct work_kind *kind, int64_t rowid, struct bk_slice id) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_DELETE, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, rowid);
    bk_statement_bind_text(statement, 2, id);
    status = bk_statement_run(statement);
    /* Of a kind that nobody declares any more: there may be one. */
    if (status == BK_OK && (kind == NULL || kind->declared->has_secrets))
        status = delete_secret(work, connection, id);
    return status;
}

enum bk_status work_end_row(struct bk_work *work, struct bk_transaction *transaction, int64_t rowid,
                            const char *state, struct bk_slice error, uint64_t kept_ms,
                            int64_t *expires_ms) {
    char now[BK_TIME_TEXT_BYTES], expires[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    int64_t now_ms = work_now_ms(work);
    enum bk_status status =
        work_statement(work, bk_transaction_connection(transaction), WORK_SQL_END, &statement);
    if (status != BK_OK)
        return status;
    *expires_ms = now_ms + (int64_t)kept_ms;
    bk_statement_bind_int(statement, 1, rowid);
    bk_statement_bind_text(statement, 2, bk_slice_from(state));
    bk_statement_bind_text(statement, 3, error);
    work_bind_time(statement, 4, expires, *expires_ms);
    work_bind_time(statement, 5, now, now_ms);
    return bk_statement_run(statement);
}

static enum bk_status wait(struct bk_work *work, struct bk_transaction *transaction,
                           struct work_attempt *attempt, uint32_t attempt_count,
                           struct bk_slice error) {
    char now[BK_TIME_TEXT_BYTES], due[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    int64_t now_ms = work_now_ms(work);
    enum bk_status status =
        work_statement(work, bk_transaction_connection(transaction), WORK_SQL_WAIT, &statement);
    if (status != BK_OK)
        return status;
    attempt->record.due_ms = now_ms + (int64_t)attempt->delay_ms;
    bk_statement_bind_int(statement, 1, attempt->rowid);
    bk_statement_bind_int(statement, 2, attempt_count);
    work_bind_time(statement, 3, due, attempt->record.due_ms);
    bk_statement_bind_text(statement, 4, error);
    work_bind_time(statement, 5, now, now_ms);
    return bk_statement_run(statement);
}

enum bk_status work_unblock(struct bk_work *work, struct bk_transaction *transaction,
                            struct bk_slice chain, int64_t *due_ms) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    char now[BK_TIME_TEXT_BYTES], due[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    int64_t now_ms = work_now_ms(work);
    enum bk_status status = work_statement(work, connection, WORK_SQL_FIND_CHAIN, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, chain);
    status = bk_statement_step(statement);
    if (status != BK_OK) {
        bk_statement_reset(statement);
        return status == BK_END ? BK_OK : status;
    }
    int64_t rowid = bk_statement_int(statement, 0);
    int64_t wanted_ms = work_time_read(bk_statement_text(statement, 1));
    bool is_blocked = bk_slice_is(bk_statement_text(statement, 2), "blocked");
    bk_statement_reset(statement);
    if (!is_blocked)
        return BK_OK;
    status = work_statement(work, connection, WORK_SQL_UNBLOCK, &statement);
    if (status != BK_OK)
        return status;
    *due_ms = wanted_ms > now_ms ? wanted_ms : now_ms;
    bk_statement_bind_int(statement, 1, rowid);
    work_bind_time(statement, 2, due, *due_ms);
    work_bind_time(statement, 3, now, now_ms);
    return bk_statement_run(statement);
}

enum bk_status work_record_progress(struct bk_work *work, struct bk_transaction *transaction,
                                    const struct work_progress *progress) {
    struct bk_statement *statement;
    enum bk_status status =
        work_statement(work, bk_transaction_connection(transaction), WORK_SQL_PROGRESS, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, progress->rowid);
    bk_statement_bind_text(statement, 2, bk_slice_make(progress->id, sizeof progress->id));
    bk_statement_bind_int(statement, 3, (int64_t)progress->done);
    bk_statement_bind_int(statement, 4, (int64_t)progress->total);
    return bk_statement_run(statement);
}

/* --- an end ----------------------------------------------------------------------------------- */

/* BK_END: the row is gone, or this attempt is recorded already: a commit that failed may have been
 * written all the same. */
static enum bk_status read_cancelled(struct bk_work *work, struct bk_transaction *transaction,
                                     const struct work_attempt *attempt, bool *is_cancelled) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_IS_CANCELLED, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, attempt->rowid);
    bk_statement_bind_text(statement, 2, attempt->task.id);
    bk_statement_bind_int(statement, 3, attempt->task.attempt);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *is_cancelled = bk_statement_int(statement, 0) != 0;
    bk_statement_reset(statement);
    return status;
}

/* What the answer comes to. */
static enum bk_status judge(struct bk_work *work, struct bk_transaction *transaction,
                            struct work_attempt *attempt) {
    enum work_answer answer = attempt->answer;
    bool is_cancelled = false;
    if (answer == WORK_DONE && (attempt->skips & WORK_SKIP_ON_END) != 0)
        answer = WORK_AGAIN;
    if (answer != WORK_DONE || attempt->kind->declared->on_end != NULL) {
        enum bk_status status = read_cancelled(work, transaction, attempt, &is_cancelled);
        if (status != BK_OK)
            return status;
        bool is_last = answer == WORK_AGAIN && attempt->task.attempt >= attempt->kind->attempt_max;
        if ((is_cancelled && answer != WORK_DONE) || is_last)
            answer = WORK_DEAD;
    }
    attempt->record = (struct work_record){.answer = answer,
                                           .is_cancelled = is_cancelled,
                                           .due_ms = INT64_MAX,
                                           .expires_ms = INT64_MAX};
    return BK_OK;
}

static struct bk_slice error_of(const struct work_attempt *attempt, char room[128]) {
    if ((attempt->skips & WORK_SKIP_ON_END) != 0) {
        int length = snprintf(room, 128, "its end could not be recorded: %s",
                              bk_status_text(attempt->hook_status));
        return bk_slice_make(room, length < 128 ? (size_t)length : 127);
    }
    if (attempt->error == NULL && attempt->record.is_cancelled)
        return BK_SLICE("cancelled");
    return bk_slice_make(attempt->error, attempt->error_length);
}

static enum bk_status write_row(struct bk_work *work, struct bk_transaction *transaction,
                                struct work_attempt *attempt, struct bk_slice error) {
    const struct bk_work_kind *declared = attempt->kind->declared;
    struct work_record *record = &attempt->record;
    switch (record->answer) {
    case WORK_DONE:
        if (declared->done_kept_ms == 0)
            return work_delete_row(work, transaction, attempt->kind, attempt->rowid,
                                   attempt->task.id);
        return work_end_row(work, transaction, attempt->rowid, "done", BK_SLICE_EMPTY,
                            declared->done_kept_ms, &record->expires_ms);
    case WORK_AGAIN:
        return wait(work, transaction, attempt, attempt->task.attempt, error);
    case WORK_POSTPONED:
        return wait(work, transaction, attempt, attempt->task.attempt - 1, error);
    case WORK_DEAD:
        return work_end_row(work, transaction, attempt->rowid, "dead", error, work->dead_kept_ms,
                            &record->expires_ms);
    case WORK_UNANSWERED:
        break;
    }
    BK_UNREACHABLE();
}

enum bk_status work_call_on_dead(struct bk_work *work, struct bk_transaction *transaction,
                                 const struct work_kind *kind, const struct bk_work_end *end) {
    if (work->on_dead == NULL)
        return BK_OK;
    const struct bk_origin origin = {.actor = end->actor, .cause = end->cause, .depth = end->depth};
    const struct bk_origin *former = bk_transaction_origin(transaction);
    bk_transaction_set_origin(transaction, &origin);
    enum bk_status status = work->on_dead(transaction, kind->declared, end, work->on_dead_user);
    bk_transaction_set_origin(transaction, former);
    return status;
}

bool work_is_of_the_disk(enum bk_status status) {
    return status == BK_DISK_FULL || status == BK_IO || status == BK_NO_MEMORY ||
           status == BK_CORRUPT || status == BK_BUSY || status == BK_CLOSING ||
           status == BK_TIMEOUT;
}

static enum bk_status blame(struct work_round *round, uint32_t index, uint32_t hook,
                            enum bk_status status) {
    if (status != BK_OK) {
        round->failed_end = index;
        round->failed_hook = hook;
    }
    return status;
}

/* A run that needs more scratch memory than there is has failed, whatever it says. */
static enum bk_status with_memory(struct bk_transaction *transaction, enum bk_status status) {
    return status == BK_OK ? bk_arena_status(bk_transaction_arena(transaction)) : status;
}

static enum bk_status call_hooks(struct bk_work *work, struct bk_transaction *transaction,
                                 struct work_round *round, uint32_t index, struct bk_slice error) {
    static const enum bk_work_outcome outcomes[] = {
        [WORK_DONE] = BK_WORK_DONE, [WORK_AGAIN] = BK_WORK_AGAIN, [WORK_DEAD] = BK_WORK_DEAD};
    const struct work_attempt *attempt = round->ends[index];
    const struct bk_work_task *task = &attempt->task;
    const struct bk_work_kind *declared = attempt->kind->declared;
    bool is_heard = declared->on_end != NULL && (attempt->skips & WORK_SKIP_ON_END) == 0;
    bool is_dead = attempt->record.answer == WORK_DEAD;
    if (!is_heard && !(is_dead && work->on_dead != NULL))
        return BK_OK;
    const struct bk_work_end end = {
        .outcome = outcomes[attempt->record.answer],
        .id = task->id,
        .lane = task->lane,
        .key = task->key,
        .payload = task->payload,
        .cause = task->cause,
        .actor = task->actor,
        .depth = task->depth,
        .attempt = task->attempt,
        .error = attempt->record.answer == WORK_DONE ? BK_SLICE_EMPTY : error,
        .result = bk_slice_make(attempt->result, attempt->result_length),
        .due_ms = attempt->record.answer == WORK_AGAIN ? attempt->record.due_ms : 0};
    enum bk_status status = BK_OK;
    if (is_heard) {
        const struct bk_origin origin = {
            .actor = task->actor, .cause = task->cause, .depth = task->depth};
        bk_transaction_set_origin(transaction, &origin);
        status = declared->on_end(transaction, &end, attempt->kind->user);
        status = with_memory(transaction, status);
        bk_transaction_set_origin(transaction, NULL);
    }
    if (status != BK_OK)
        return blame(round, index, WORK_SKIP_ON_END, status);
    if (is_dead && (attempt->skips & WORK_SKIP_ON_DEAD) == 0)
        status =
            with_memory(transaction, work_call_on_dead(work, transaction, attempt->kind, &end));
    return blame(round, index, WORK_SKIP_ON_DEAD, status);
}

/* What was said last of how far it is, and was not stored yet. */
static enum bk_status write_last_progress(struct bk_work *work, struct bk_transaction *transaction,
                                          const struct work_attempt *attempt) {
    if (!attempt->has_progress)
        return BK_OK;
    struct work_progress progress = {
        .rowid = attempt->rowid, .done = attempt->progress_done, .total = attempt->progress_total};
    memcpy(progress.id, attempt->task.id.data, BK_WORK_ID_BYTES);
    return work_record_progress(work, transaction, &progress);
}

enum bk_status work_record_end(struct bk_work *work, struct bk_transaction *transaction,
                               struct work_round *round, uint32_t index) {
    struct work_attempt *attempt = round->ends[index];
    char room[128];
    /* Each has as much of it, and none is blamed for another. */
    bk_arena_reset(bk_transaction_arena(transaction));
    enum bk_status status = judge(work, transaction, attempt);
    if (status == BK_END) {
        attempt->record = (struct work_record){
            .answer = WORK_UNANSWERED, .due_ms = INT64_MAX, .expires_ms = INT64_MAX};
        return BK_OK;
    }
    if (status != BK_OK)
        return status;
    struct bk_slice error = error_of(attempt, room);
    status = write_last_progress(work, transaction, attempt);
    if (status == BK_OK)
        status = write_row(work, transaction, attempt, error);
    bool is_over = attempt->record.answer == WORK_DONE || attempt->record.answer == WORK_DEAD;
    if (status == BK_OK && is_over && attempt->is_chained)
        status = work_unblock(work, transaction,
                              work_chain_name(transaction, attempt->task.lane, attempt->task.key),
                              &attempt->record.due_ms);
    if (status == BK_OK && attempt->record.answer != WORK_POSTPONED)
        status = call_hooks(work, transaction, round, index, error);
    return status;
}
