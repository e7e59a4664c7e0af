/*
 * A lane is cleared: all that waits in it goes, be it a million tasks, and what is added from then
 * on stays.
 *
 * The wish is a row of `_work_clearings`, in the transaction of who has it. From its commit on
 * nothing of the lane begins, and rounds of its tenant remove what was created up to then, in
 * slices that give way to requests like all that rounds do (courtesy.c). The row says how far they
 * came, so a restart goes on with it.
 *
 *   BLOCKED   by the index of the chains: none of them is to follow who is cancelled or goes
 *   WAITING   by the index of those that wait, in the order of their times
 *     ^  │
 *     └──┴── again, until one pass through both has found none, and the inbox was empty
 *
 * Each of the two is walked by a place, so that no slice looks twice at what stays, however much
 * that is. The second pass is for rows that a leap of the clock has put behind the place.
 *
 * What runs is asked to end, and no attempt follows. What is dead or done is nobody's trouble, and
 * goes in its time.
 */
#include "work_private.h"

#include "bakend/failpoint.h"

enum {
    SLICE_ROWS = 64, /* read at once */
    LOOK_AGAIN_MS = 1000,
    TRUSTED_MS = 10 * 1000, /* a wish that is further ahead is of a clock that was wrong */
};

static const struct bk_slice replay_suffix = BK_SLICE_INIT("/replay");

enum stage { CLEAR_BLOCKED, CLEAR_WAITING };

/* A row of `_work_clearings`; its texts are in the transaction's arena. */
struct clearing {
    struct bk_slice lane, before;
    enum stage stage;
    struct bk_slice at; /* the place: a chain, or a time; and the row of it */
    int64_t at_row;
    int64_t gone; /* in this pass */
};

struct task {
    struct bk_slice id, lane, created;
    struct bk_slice chain; /* that it holds up; empty: none */
};

/* What a slice has read. */
struct found {
    int64_t rowid;
    struct bk_slice id, place, chain;
    bool goes;
};

/* --- the wish --------------------------------------------------------------------------------- */

static enum bk_status write_wish(struct bk_work *work, struct bk_transaction *transaction,
                                 struct bk_slice lane, int64_t now_ms) {
    char now[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_CLEARING_ADD, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, lane);
    work_bind_time(statement, 2, now, now_ms);
    return bk_statement_run(statement);
}

static enum bk_status cancel_running(struct bk_work *work, struct bk_transaction *transaction,
                                     struct bk_slice lane) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_CANCEL_LANE, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, lane);
    return bk_statement_run(statement);
}

static enum bk_status count_wishes(struct bk_work *work, struct bk_transaction *transaction,
                                   int64_t *count) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_COUNT_CLEARINGS, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status == BK_OK) {
        *count = bk_statement_int(statement, 0);
        bk_statement_reset(statement);
    }
    return status;
}

static enum bk_status wish(struct bk_work *work, struct bk_transaction *transaction,
                           struct bk_slice lane, int64_t now_ms) {
    enum bk_status status = write_wish(work, transaction, lane, now_ms);
    return status == BK_OK ? cancel_running(work, transaction, lane) : status;
}

enum bk_status bk_work_clear(struct bk_work *work, struct bk_transaction *transaction,
                             struct bk_slice lane) {
    char room[BK_WORK_LANE_MAX_BYTES];
    int64_t count = 0, now_ms = work_now_ms(work);
    size_t length = lane.length + replay_suffix.length;
    if (lane.length == 0 || lane.length > BK_WORK_LANE_MAX_BYTES)
        return BK_INVALID;
    if (work_kind_of_lane(work, lane) == NULL)
        return BK_NOT_FOUND;
    enum bk_status status = count_wishes(work, transaction, &count);
    if (status == BK_OK && count >= BK_WORK_LANES_MAX)
        return BK_LIMIT;
    if (status == BK_OK)
        status = wish(work, transaction, lane, now_ms);
    if (status == BK_OK && length <= sizeof room) {
        memcpy(room, lane.data, lane.length);
        memcpy(room + lane.length, replay_suffix.data, replay_suffix.length);
        status = wish(work, transaction, bk_slice_make(room, length), now_ms);
    }
    if (status == BK_OK)
        work_note_clearing(work, transaction, now_ms);
    return status;
}

/* --- who asks whether a lane is being cleared ------------------------------------------------- */

enum bk_status work_are_clearings(struct bk_work *work, struct bk_connection *connection,
                                  bool *are_any) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_HAS_CLEARINGS, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    *are_any = status == BK_OK;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* before: in the room. BK_END: it is not. */
static enum bk_status find_before(struct bk_work *work, struct bk_connection *connection,
                                  struct bk_slice lane, char before[BK_TIME_TEXT_BYTES]) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_CLEARING_FIND, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, lane);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_slice text = bk_statement_text(statement, 0);
        status = text.length == BK_TIME_TEXT_BYTES ? BK_OK : BK_CORRUPT;
        if (status == BK_OK)
            memcpy(before, text.data, BK_TIME_TEXT_BYTES);
    }
    bk_statement_reset(statement);
    return status;
}

enum bk_status work_is_being_cleared(struct bk_work *work, struct bk_connection *connection,
                                     struct bk_slice lane, bool *answer) {
    char before[BK_TIME_TEXT_BYTES];
    enum bk_status status = find_before(work, connection, lane, before);
    *answer = status == BK_OK;
    return status == BK_END ? BK_OK : status;
}

/* In a while: its tasks are there, and none may begin. */
int64_t work_clearing_look_ms(int64_t now_ms) { return now_ms + LOOK_AGAIN_MS; }

int64_t work_clearing_add_ms(int64_t now_ms, int64_t cleared_ms) {
    bool is_before = now_ms <= cleared_ms && cleared_ms - now_ms <= TRUSTED_MS;
    return is_before ? cleared_ms + 1 : now_ms;
}

/* --- one task --------------------------------------------------------------------------------- */

static enum bk_status remove_row(struct bk_work *work, struct bk_transaction *transaction,
                                 struct bk_slice lane, int64_t rowid, struct bk_slice id,
                                 struct bk_slice chain) {
    int64_t due_ms = INT64_MAX;
    enum bk_status status =
        work_delete_row(work, transaction, work_kind_of_lane(work, lane), rowid, id);
    if (status == BK_OK && chain.length > 0)
        status = work_unblock(work, transaction, chain, &due_ms);
    if (status == BK_OK && due_ms != INT64_MAX)
        work_note_due(work, transaction, lane, due_ms);
    return status;
}

/* BK_END: it is gone, or runs. */
static enum bk_status read_task(struct bk_work *work, struct bk_transaction *transaction,
                                int64_t rowid, struct task *task) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_CLEARING_TASK, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, rowid);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *task = (struct task){.id = bk_arena_copy(arena, bk_statement_text(statement, 0)),
                              .lane = bk_arena_copy(arena, bk_statement_text(statement, 1)),
                              .created = bk_arena_copy(arena, bk_statement_text(statement, 2)),
                              .chain = bk_arena_copy(arena, bk_statement_text(statement, 3))};
    bk_statement_reset(statement);
    return status == BK_OK ? bk_arena_status(arena) : status;
}

enum bk_status work_clear_task(struct bk_work *work, struct bk_transaction *transaction,
                               int64_t rowid, bool *is_gone) {
    char before[BK_TIME_TEXT_BYTES];
    struct task task;
    *is_gone = false;
    enum bk_status status = read_task(work, transaction, rowid, &task);
    if (status == BK_OK)
        status = find_before(work, bk_transaction_connection(transaction), task.lane, before);
    if (status == BK_OK)
        *is_gone = bk_slice_compare(task.created, bk_slice_make(before, sizeof before)) <= 0;
    if (*is_gone)
        status = remove_row(work, transaction, task.lane, rowid, task.id, task.chain);
    return status == BK_END ? BK_OK : status;
}

/* --- slices ----------------------------------------------------------------------------------- */

/* BK_END: there is none. */
static enum bk_status read_clearing(struct bk_work *work, struct bk_transaction *transaction,
                                    struct clearing *clearing) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_CLEARING_FIRST, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *clearing = (struct clearing){
            .lane = bk_arena_copy(arena, bk_statement_text(statement, 0)),
            .before = bk_arena_copy(arena, bk_statement_text(statement, 1)),
            .stage =
                bk_statement_int(statement, 2) == CLEAR_BLOCKED ? CLEAR_BLOCKED : CLEAR_WAITING,
            .at = bk_arena_copy(arena, bk_statement_text(statement, 3)),
            .at_row = bk_statement_int(statement, 4),
            .gone = bk_statement_int(statement, 5)};
    bk_statement_reset(statement);
    return status == BK_OK ? bk_arena_status(arena) : status;
}

static enum bk_status write_clearing(struct bk_work *work, struct bk_transaction *transaction,
                                     const struct clearing *clearing) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_CLEARING_MOVE, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, clearing->lane);
    bk_statement_bind_int(statement, 2, clearing->stage);
    bk_statement_bind_text(statement, 3, clearing->at);
    bk_statement_bind_int(statement, 4, clearing->at_row);
    bk_statement_bind_int(statement, 5, clearing->gone);
    return bk_statement_run(statement);
}

/* What came after begins. */
static enum bk_status wake_rest(struct bk_work *work, struct bk_transaction *transaction,
                                struct bk_slice lane) {
    struct bk_statement *statement;
    enum bk_status status =
        work_statement(work, bk_transaction_connection(transaction), WORK_SQL_HAS_LANE, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, lane);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    if (status == BK_OK)
        work_note_due(work, transaction, lane, work_now_ms(work));
    return status == BK_END ? BK_OK : status;
}

static enum bk_status finish(struct bk_work *work, struct bk_transaction *transaction,
                             const struct clearing *clearing) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_CLEARING_END, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, clearing->lane);
    status = bk_statement_run(statement);
    return status == BK_OK ? wake_rest(work, transaction, clearing->lane) : status;
}

/* The chains of a lane begin with its name and a line feed: they are those before the same with the
 * character behind that. */
static struct bk_slice end_of_chains(struct bk_arena *arena, struct bk_slice lane) {
    return bk_arena_format(arena, "%.*s\v", BK_SLICE_PRINT(lane));
}

static enum bk_status find_rows(struct bk_work *work, struct bk_transaction *transaction,
                                const struct clearing *clearing, struct found *found,
                                uint32_t *count) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    bool is_blocked = clearing->stage == CLEAR_BLOCKED;
    struct bk_statement *statement;
    struct bk_slice from = clearing->at;
    enum bk_status status = work_statement(
        work, bk_transaction_connection(transaction),
        is_blocked ? WORK_SQL_CLEARING_BLOCKED : WORK_SQL_CLEARING_WAITING, &statement);
    if (status != BK_OK)
        return status;
    if (is_blocked && from.length == 0)
        from = bk_arena_format(arena, "%.*s\n", BK_SLICE_PRINT(clearing->lane));
    bk_statement_bind_text(statement, 1,
                           is_blocked ? end_of_chains(arena, clearing->lane) : clearing->lane);
    bk_statement_bind_text(statement, 2, from);
    bk_statement_bind_int(statement, 3, clearing->at_row);
    bk_statement_bind_int(statement, 4, SLICE_ROWS);
    for (*count = 0; (status = bk_statement_step(statement)) == BK_OK; ++*count) {
        struct found *row = &found[*count];
        row->rowid = bk_statement_int(statement, 0);
        row->id = bk_arena_copy(arena, bk_statement_text(statement, 1));
        row->place = bk_arena_copy(arena, bk_statement_text(statement, 2));
        row->chain = bk_arena_copy(arena, bk_statement_text(statement, 3));
        row->goes = bk_statement_int(statement, 5) != 0 &&
                    bk_slice_compare(bk_statement_text(statement, 4), clearing->before) <= 0;
    }
    bk_statement_reset(statement);
    return status == BK_END ? bk_arena_status(arena) : status;
}

/* *is_over: the round has no more time. */
static enum bk_status clear_slice(struct bk_work *work, struct bk_transaction *transaction,
                                  struct work_round *round, struct clearing *clearing,
                                  bool *is_over, bool *is_at_end) {
    struct found found[SLICE_ROWS];
    uint32_t count = 0, looked = 0;
    enum bk_status status = find_rows(work, transaction, clearing, found, &count);
    for (; looked < count && status == BK_OK; looked++) {
        const struct found *row = &found[looked];
        *is_over = work_round_is_over(round, transaction);
        if (*is_over)
            break;
        if (row->goes)
            status = remove_row(work, transaction, clearing->lane, row->rowid, row->id,
                                clearing->stage == CLEAR_WAITING ? row->chain : BK_SLICE_EMPTY);
        clearing->gone += row->goes;
        clearing->at = row->place;
        clearing->at_row = row->rowid;
    }
    *is_at_end = status == BK_OK && looked == count && count < SLICE_ROWS;
    return status;
}

/* On to the next stage, or the next pass. *is_cleared: nothing is left, and the wish goes. */
static enum bk_status advance(struct bk_work *work, struct bk_transaction *transaction,
                              struct clearing *clearing, bool is_inbox_empty, bool *is_cleared) {
    bool is_pass_over = clearing->stage == CLEAR_WAITING;
    *is_cleared = is_pass_over && clearing->gone == 0 && is_inbox_empty;
    if (*is_cleared)
        return finish(work, transaction, clearing);
    clearing->stage = is_pass_over ? CLEAR_BLOCKED : CLEAR_WAITING;
    clearing->at = BK_SLICE_EMPTY;
    clearing->at_row = 0;
    clearing->gone = is_pass_over ? 0 : clearing->gone;
    return write_clearing(work, transaction, clearing);
}

enum bk_status work_clear_lanes(struct bk_work *work, struct bk_transaction *transaction,
                                struct work_round *round) {
    bool is_inbox_empty = (round->done & WORK_WANTS_MOVE) != 0;
    bool is_over = false, is_at_end = false, is_cleared = true;
    struct clearing clearing;
    enum bk_status status = BK_OK;
    work_round_part(round);
    while (!is_over && status == BK_OK) {
        bk_arena_reset(bk_transaction_arena(transaction));
        status = read_clearing(work, transaction, &clearing);
        if (status != BK_OK)
            break;
        bool is_empty_pass = clearing.stage == CLEAR_WAITING && clearing.gone == 0;
        status = clear_slice(work, transaction, round, &clearing, &is_over, &is_at_end);
        if (status == BK_OK && is_at_end)
            status = advance(work, transaction, &clearing, is_inbox_empty, &is_cleared);
        else if (status == BK_OK)
            status = write_clearing(work, transaction, &clearing);
        /* Only what is in the inbox is left: the next round has that. */
        if (is_at_end && is_empty_pass && !is_cleared)
            break;
        is_over = is_over || work_round_is_over(round, transaction);
    }
    if (status == BK_END)
        round->done |= WORK_WANTS_CLEAR;
    if (status != BK_OK && status != BK_END)
        return status;
    return BK_FAILPOINT("work.cleared");
}
