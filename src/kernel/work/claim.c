/*
 * On the writer: which tasks may begin. A claim reads the head of a lane, one more than there is
 * room for, so that the next head comes along; then each row is written: it runs, one attempt
 * later, with a lease that is longer than the attempt may take.
 *
 * Beside it what a tenant needs now and then, each in slices: its lanes with their heads when it
 * opens (from lane to lane by the index, however many tasks there are), rows that run without an
 * attempt in memory, what has been kept long enough.
 */
#include "work_private.h"

#include "bakend/alloc.h"

enum {
    ID_COLUMN = 1,
    LANE_COLUMN = 2,
    DUE_COLUMN = 5,
    RUNNING_ROWS_MAX = 100 * 1000 /* with those of kinds that nobody declares any more */
};

/* Of the row that the statement stands on. */
static enum bk_status make_attempt(struct bk_work *work, struct bk_transaction *transaction,
                                   struct bk_statement *row, struct work_kind *kind,
                                   struct work_attempt **attempt) {
    struct work_secret secret = {.memory = NULL};
    enum bk_status status = BK_OK;
    if (kind->declared->has_secrets)
        status = work_secret_read(work, transaction, bk_statement_text(row, ID_COLUMN), &secret);
    if (status == BK_OK)
        *attempt = work_attempt_create(row, kind, secret.memory != NULL ? &secret : NULL);
    work_secret_free(&secret);
    return status;
}

/* --- claims ----------------------------------------------------------------------------------- */

/* At most so many. */
static enum bk_status find_due(struct bk_work *work, struct bk_transaction *transaction,
                               struct work_round *round, struct work_claim *claim, uint32_t room,
                               struct bk_list *found) {
    char now[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status =
        work_statement(work, bk_transaction_connection(transaction), WORK_SQL_FIND_DUE, &statement);
    if (status != BK_OK)
        return status;
    work_time_write(now, round->now_ms);
    bk_statement_bind_text(statement, 1, claim->lane->name);
    bk_statement_bind_int(statement, 2, (int64_t)room + 1);
    claim->head_ms = INT64_MAX;
    for (uint32_t i = 0; (status = bk_statement_step(statement)) == BK_OK; i++) {
        struct bk_slice due = bk_statement_text(statement, DUE_COLUMN);
        struct work_attempt *attempt;
        if (i == room || bk_slice_compare(due, bk_slice_make(now, sizeof now)) > 0) {
            claim->head_ms = work_time_read(due);
            break;
        }
        status = make_attempt(work, transaction, statement, claim->lane->kind, &attempt);
        if (status != BK_OK)
            break;
        attempt->task.attempt++;
        attempt->task.is_last = attempt->task.attempt >= attempt->kind->attempt_max;
        bk_list_push(found, &attempt->link);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status set_running(struct bk_work *work, struct bk_connection *connection,
                                  const struct work_round *round, uint32_t timeout_ms,
                                  const struct work_attempt *attempt) {
    char now[BK_TIME_TEXT_BYTES], lease[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_CLAIM, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, attempt->rowid);
    work_bind_time(statement, 2, lease, round->now_ms + timeout_ms + WORK_LEASE_EXTRA_MS);
    work_bind_time(statement, 3, now, round->now_ms);
    return bk_statement_run(statement);
}

/* The name and the kind of a lane do not change, and it lives while it is asked. What was found and
 * is not written any more waits for the next round. */
enum bk_status work_claim_lane(struct bk_work *work, struct bk_transaction *transaction,
                               struct work_round *round, struct work_claim *claim) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_list found, *node;
    bool is_over = false;
    bk_list_init(&found);
    enum bk_status status = find_due(work, transaction, round, claim,
                                     work_round_room(round, transaction, claim->room), &found);
    while ((node = bk_list_pop(&found)) != NULL) {
        struct work_attempt *attempt = bk_container_of(node, struct work_attempt, link);
        is_over = is_over || work_round_is_over(round, transaction);
        if (is_over) {
            claim->head_ms = round->now_ms;
            work_attempt_free(attempt);
            continue;
        }
        if (status == BK_OK)
            status = set_running(work, connection, round, claim->timeout_ms, attempt);
        bk_list_push(&round->claimed, node);
    }
    return status;
}

/* --- what runs without an attempt ------------------------------------------------------------- */

enum bk_status work_find_orphans(struct bk_work *work, struct bk_transaction *transaction,
                                 struct work_round *round, bool only_expired) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    char now[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    uint32_t count = 0;
    enum bk_status status = work_statement(work, connection, WORK_SQL_FIND_ORPHANS, &statement);
    if (status != BK_OK)
        return status;
    if (only_expired)
        work_bind_time(statement, 1, now, round->now_ms);
    else
        bk_statement_bind_text(statement, 1, BK_SLICE("9999"));
    bk_statement_bind_int(statement, 2, RUNNING_ROWS_MAX);
    while (count < WORK_ROUND_ENDS_MAX && (status = bk_statement_step(statement)) == BK_OK) {
        struct work_kind *kind = work_kind_of_lane(work, bk_statement_text(statement, LANE_COLUMN));
        struct work_attempt *attempt;
        if (kind == NULL)
            continue;
        status = make_attempt(work, transaction, statement, kind, &attempt);
        if (status != BK_OK)
            break;
        bk_list_push(&round->orphans, &attempt->link);
        count++;
    }
    bk_statement_reset(statement);
    if (status == BK_END && count < WORK_ROUND_ENDS_MAX)
        round->done |= only_expired ? WORK_WANTS_LEASES : WORK_WANTS_ORPHANS;
    return status == BK_END ? BK_OK : status;
}

/* --- lanes ------------------------------------------------------------------------------------ */

/* BK_END: there is no lane behind from. */
static enum bk_status next_lane(struct bk_work *work, struct bk_connection *connection,
                                struct bk_slice from, struct work_found *found) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_NEXT_LANE, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, from);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_slice lane = bk_statement_text(statement, 0);
        char *text = bk_alloc(lane.length + 1);
        memcpy(text, lane.data, lane.length);
        *found = (struct work_found){.lane = bk_slice_make(text, lane.length),
                                     .due_ms = work_time_read(bk_statement_text(statement, 1))};
    }
    bk_statement_reset(statement);
    return status;
}

enum bk_status work_scan_lanes(struct bk_work *work, struct bk_transaction *transaction,
                               struct work_round *round) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_slice from = bk_slice_make(round->scan_from, round->scan_from_length);
    enum bk_status status = BK_OK;
    round->found = bk_alloc(WORK_SCAN_LANES_MAX * sizeof *round->found);
    while (round->found_count < WORK_SCAN_LANES_MAX && status == BK_OK &&
           !work_round_is_over(round, transaction)) {
        struct work_found *found = &round->found[round->found_count];
        status = next_lane(work, connection, from, found);
        if (status != BK_OK)
            break;
        from = found->lane;
        round->found_count++;
    }
    if (status == BK_END)
        round->done |= WORK_WANTS_SCAN;
    return status == BK_END ? BK_OK : status;
}

/* --- pruning ---------------------------------------------------------------------------------- */

struct expired {
    int64_t rowid;
    char id[BK_WORK_ID_BYTES];
};

static enum bk_status find_expired(struct bk_work *work, struct bk_connection *connection,
                                   const struct work_round *round, struct expired *expired,
                                   uint32_t *count) {
    char now[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_FIND_EXPIRED, &statement);
    if (status != BK_OK)
        return status;
    work_bind_time(statement, 1, now, round->age_ms);
    bk_statement_bind_int(statement, 2, WORK_PRUNE_ROWS_MAX);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        struct bk_slice id = bk_statement_text(statement, 1);
        expired[*count].rowid = bk_statement_int(statement, 0);
        memcpy(expired[*count].id, id.data,
               id.length < BK_WORK_ID_BYTES ? id.length : BK_WORK_ID_BYTES);
        (*count)++;
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status first_expires(struct bk_work *work, struct bk_connection *connection,
                                    int64_t *expires_ms) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_FIRST_EXPIRES, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    *expires_ms = status == BK_OK ? work_time_read(bk_statement_text(statement, 0)) : INT64_MAX;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

enum bk_status work_prune(struct bk_work *work, struct bk_transaction *transaction,
                          struct work_round *round) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct expired expired[WORK_PRUNE_ROWS_MAX];
    uint32_t count = 0, gone = 0;
    enum bk_status status = BK_OK;
    if ((round->wants & WORK_WANTS_PRUNE) != 0)
        status = find_expired(work, connection, round, expired, &count);
    for (; gone < count && status == BK_OK && !work_round_is_over(round, transaction); gone++)
        status = work_delete_row(work, transaction, NULL, expired[gone].rowid,
                                 bk_slice_make(expired[gone].id, BK_WORK_ID_BYTES));
    if (status == BK_OK)
        status = first_expires(work, connection, &round->expires_ms);
    if (gone == count && count < WORK_PRUNE_ROWS_MAX)
        round->done |= WORK_WANTS_PRUNE;
    return status;
}
