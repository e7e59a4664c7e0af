/*
 * By hand: a task is tried again, ended or removed, a lane is paused. Each is a change of rows in
 * the caller's transaction; the loop is told to look.
 *
 * Who cancels a task that runs writes that into its row. The loop reads it back in a round, so
 * after the commit, and asks the handler; whatever that answers but done, the row says that no
 * attempt follows.
 */
#include "work_private.h"

struct row {
    int64_t rowid;
    struct bk_slice id, state, lane, key, kind_name, chain, payload, cause, actor, unique;
    uint32_t attempts, depth;
    struct work_kind *kind;
};

static enum bk_status find_row(struct bk_work *work, struct bk_transaction *transaction,
                               struct bk_slice id, struct row *row) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status =
        work_statement(work, bk_transaction_connection(transaction), WORK_SQL_FIND, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_slice *const texts[] = {&row->state, &row->lane,    &row->key,   &row->kind_name,
                                          &row->chain, &row->payload, &row->cause, &row->actor};
        row->rowid = bk_statement_int(statement, 0);
        for (size_t i = 0; i < BK_COUNT_OF(texts); i++)
            *texts[i] = bk_arena_copy(arena, bk_statement_text(statement, (int)i + 1));
        row->attempts = (uint32_t)bk_statement_int(statement, 9);
        row->depth = (uint32_t)bk_statement_int(statement, 10);
        row->id = id;
        row->kind = work_kind_of_name(work, row->kind_name);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* It may have come in a moment ago. */
static enum bk_status find(struct bk_work *work, struct bk_transaction *transaction,
                           struct bk_slice id, struct row *row) {
    bool is_empty;
    enum bk_status status = find_row(work, transaction, id, row);
    if (status != BK_NOT_FOUND)
        return status;
    status = work_inbox_move(work, transaction, UINT32_MAX, &is_empty);
    return status == BK_OK ? find_row(work, transaction, id, row) : status;
}

/* Of a kind that nobody declares any more it does not run, whatever the row says. */
static bool is_running(const struct row *row) {
    return row->kind != NULL && bk_slice_is(row->state, "running");
}

static bool is_in(const struct row *row, const char *state) {
    return bk_slice_equal(row->state, bk_slice_from(state));
}

/* It has left its chain: the next may begin. */
static enum bk_status leave_chain(struct bk_work *work, struct bk_transaction *transaction,
                                  const struct row *row) {
    int64_t due_ms = INT64_MAX;
    if (row->chain.length == 0 || is_in(row, "blocked"))
        return BK_OK;
    enum bk_status status = work_unblock(work, transaction, row->chain, &due_ms);
    if (status == BK_OK && due_ms != INT64_MAX)
        work_note_due(work, transaction, row->lane, due_ms);
    return status;
}

/* --- retry ------------------------------------------------------------------------------------ */

static enum bk_status is_chain_taken(struct bk_work *work, struct bk_transaction *transaction,
                                     struct bk_slice chain, bool *is_taken) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_FIND_CHAIN, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, chain);
    status = bk_statement_step(statement);
    *is_taken = status == BK_OK;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status write_retry(struct bk_work *work, struct bk_transaction *transaction,
                                  const struct row *row, bool is_blocked) {
    char now[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    int64_t now_ms = work_now_ms(work);
    enum bk_status status =
        work_statement(work, bk_transaction_connection(transaction), WORK_SQL_RETRY, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, row->rowid);
    bk_statement_bind_text(statement, 2, is_blocked ? BK_SLICE("blocked") : BK_SLICE("waiting"));
    work_bind_time(statement, 3, now, now_ms);
    bk_statement_bind_text(statement, 4, row->chain);
    bk_statement_bind_text(statement, 5, bk_slice_make(now, sizeof now));
    status = bk_statement_run(statement);
    if (status == BK_OK && !is_blocked)
        work_note_due(work, transaction, row->lane, now_ms);
    return status;
}

/* A dead one is the next of its chain, since it was added before all that wait in it. Another that
 * is made of the same thing may be there: BK_CONFLICT, from the index. */
enum bk_status bk_work_retry(struct bk_work *work, struct bk_transaction *transaction,
                             struct bk_slice id) {
    struct row row;
    enum bk_status status = find(work, transaction, id, &row);
    if (status != BK_OK)
        return status;
    if (is_running(&row) || is_in(&row, "done"))
        return BK_CONFLICT;
    bool is_blocked = is_in(&row, "blocked");
    if (is_in(&row, "dead") && row.key.length > 0 && row.kind != NULL &&
        work_lane_is_ordered(work, transaction, row.kind, row.lane)) {
        row.chain = work_chain_name(transaction, row.lane, row.key);
        status = is_chain_taken(work, transaction, row.chain, &is_blocked);
    }
    return status == BK_OK ? write_retry(work, transaction, &row, is_blocked) : status;
}

/* --- cancel and drop -------------------------------------------------------------------------- */

static enum bk_status mark_cancelled(struct bk_work *work, struct bk_transaction *transaction,
                                     const struct row *row) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_CANCEL_RUNNING, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, row->rowid);
    status = bk_statement_run(statement);
    if (status == BK_OK)
        work_note_cancel(work, transaction);
    return status;
}

static enum bk_status read_secret(struct bk_work *work, struct bk_transaction *transaction,
                                  struct row *row) {
    struct work_secret secret;
    enum bk_status status = work_secret_read(work, transaction, row->id, &secret);
    if (status == BK_OK)
        row->payload = bk_arena_copy(bk_transaction_arena(transaction), secret.payload);
    work_secret_free(&secret);
    return status;
}

/* The kind hears of it as of any end, then who hears of all dead ones. */
static enum bk_status call_hooks(struct bk_work *work, struct bk_transaction *transaction,
                                 struct row *row) {
    if (row->kind == NULL)
        return BK_OK;
    enum bk_status status = BK_OK;
    if (row->kind->declared->has_secrets)
        status = read_secret(work, transaction, row);
    const struct bk_work_end end = {.outcome = BK_WORK_DEAD,
                                    .id = row->id,
                                    .lane = row->lane,
                                    .key = row->key,
                                    .payload = row->payload,
                                    .cause = row->cause,
                                    .actor = row->actor,
                                    .depth = row->depth,
                                    .attempt = row->attempts,
                                    .error = BK_SLICE("cancelled")};
    if (status == BK_OK && row->kind->declared->on_end != NULL) {
        const struct bk_origin origin = {
            .actor = row->actor, .cause = row->cause, .depth = row->depth};
        const struct bk_origin *former = bk_transaction_origin(transaction);
        bk_transaction_set_origin(transaction, &origin);
        status = row->kind->declared->on_end(transaction, &end, row->kind->user);
        bk_transaction_set_origin(transaction, former);
    }
    return status == BK_OK ? work_call_on_dead(work, transaction, row->kind, &end) : status;
}

enum bk_status bk_work_cancel(struct bk_work *work, struct bk_transaction *transaction,
                              struct bk_slice id) {
    struct row row;
    int64_t expires_ms;
    enum bk_status status = find(work, transaction, id, &row);
    if (status != BK_OK)
        return status;
    if (is_running(&row))
        return mark_cancelled(work, transaction, &row);
    if (is_in(&row, "dead") || is_in(&row, "done"))
        return BK_CONFLICT;
    status = work_end_row(work, transaction, row.rowid, "dead", BK_SLICE("cancelled"),
                          work->dead_kept_ms, &expires_ms);
    if (status == BK_OK)
        status = leave_chain(work, transaction, &row);
    return status == BK_OK ? call_hooks(work, transaction, &row) : status;
}

enum bk_status bk_work_drop(struct bk_work *work, struct bk_transaction *transaction,
                            struct bk_slice id) {
    struct row row;
    enum bk_status status = find(work, transaction, id, &row);
    if (status != BK_OK)
        return status;
    if (is_running(&row))
        return BK_CONFLICT;
    status = work_delete_row(work, transaction, row.kind, row.rowid, id);
    return status == BK_OK ? leave_chain(work, transaction, &row) : status;
}

/* --- pauses ----------------------------------------------------------------------------------- */

static enum bk_status count_paused(struct bk_work *work, struct bk_transaction *transaction,
                                   int64_t *count) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_COUNT_PAUSED, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status == BK_OK) {
        *count = bk_statement_int(statement, 0);
        bk_statement_reset(statement);
    }
    return status;
}

static enum bk_status write_pause(struct bk_work *work, struct bk_transaction *transaction,
                                  enum work_sql sql, struct bk_slice lane) {
    struct bk_statement *statement;
    enum bk_status status =
        work_statement(work, bk_transaction_connection(transaction), sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, lane);
    status = bk_statement_run(statement);
    if (status == BK_OK)
        work_note_pauses(work, transaction);
    return status;
}

enum bk_status bk_work_pause(struct bk_work *work, struct bk_transaction *transaction,
                             struct bk_slice lane) {
    int64_t count = 0;
    if (lane.length == 0 || lane.length > BK_WORK_LANE_MAX_BYTES)
        return BK_INVALID;
    if (work_kind_of_lane(work, lane) == NULL)
        return BK_NOT_FOUND;
    enum bk_status status = count_paused(work, transaction, &count);
    if (status == BK_OK && count >= BK_WORK_LANES_MAX)
        return BK_LIMIT;
    return status == BK_OK ? write_pause(work, transaction, WORK_SQL_PAUSE, lane) : status;
}

enum bk_status bk_work_resume(struct bk_work *work, struct bk_transaction *transaction,
                              struct bk_slice lane) {
    return write_pause(work, transaction, WORK_SQL_RESUME, lane);
}
