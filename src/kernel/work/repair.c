/*
 * Rows of a future that never came: while the clock was wrong, tasks were added and put off with
 * times that are years ahead now that it is right. Each row tells when its due was set (`updated`),
 * and so which delay it was given: it gets that delay again, from now on. What is dead or done gets
 * the time that it is kept for likewise.
 *
 * Whether there may be such rows costs a few steps in an index: the newest id, and the `time` that
 * a round has noted when it has changed rows. When one of them is more than WORK_FUTURE_MS ahead,
 * the whole table is walked by rowid, a slice in each transaction; where the walk stands is in
 * `_work_state`, so a restart goes on with it, and a clock that leaps back further begins it again.
 * Nothing is to be done twice: a row that was repaired has a time of the present.
 *
 * The times of schedules are judged anew at the end, whether or not there were such rows.
 *
 * Tasks that run are left alone: those of this process end by themselves, and those of a process
 * that died are found by their state. While a row with an id of the future is there, each opening
 * of the tenant walks its table again.
 */
#include "work_private.h"

#include "bakend/assert.h"
#include "bakend/id.h"

enum { ID_TIME_DIGITS = 8 };
static const int64_t ID_EPOCH_MS = 1577836800000; /* 2020-01-01T00:00:00Z */

struct walk {
    struct bk_connection *connection;
    int64_t now_ms;
    int64_t rowid; /* it has come so far */
};

/* A row to be repaired. The other of the two times is empty. */
struct stray {
    int64_t rowid, due_ms, expires_ms; /* 0: empty */
};

/* --- what is noted ---------------------------------------------------------------------------- */

static enum bk_status read_note(const struct walk *walk, struct bk_slice name, int64_t *value) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT value FROM _work_state WHERE name = ?1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(walk->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *value = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static enum bk_status write_note(const struct walk *walk, struct bk_slice name, int64_t value) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("INSERT OR REPLACE INTO _work_state (name, value) VALUES (?1, ?2)"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(walk->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    bk_statement_bind_int(statement, 2, value);
    return bk_statement_run(statement);
}

/* --- whether there may be any ----------------------------------------------------------------- */

static int64_t time_of_id(struct bk_slice id) {
    int64_t time_ms = 0;
    if (id.length < ID_TIME_DIGITS)
        return 0;
    for (size_t i = 0; i < ID_TIME_DIGITS; i++) {
        char c = id.data[i];
        bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && (c < 'a' || c > 'z'))
            return 0;
        time_ms = time_ms * 36 + (is_digit ? c - '0' : c - 'a' + 10);
    }
    return ID_EPOCH_MS + time_ms;
}

/* Raises the time to that of the id that the SELECT finds. */
static enum bk_status read_newest(const struct walk *walk, struct bk_slice text, int64_t *time_ms) {
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(walk->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    int64_t found_ms = status == BK_OK ? time_of_id(bk_statement_text(statement, 0)) : 0;
    bk_statement_reset(statement);
    *time_ms = found_ms > *time_ms ? found_ms : *time_ms;
    return status == BK_END ? BK_OK : status;
}

/* What is in the inbox is moved before a walk. */
static enum bk_status read_newest_id(const struct walk *walk, int64_t *time_ms) {
    enum bk_status status =
        read_newest(walk, BK_SLICE("SELECT id FROM _work ORDER BY id DESC LIMIT 1"), time_ms);
    if (status != BK_OK)
        return status;
    return read_newest(walk, BK_SLICE("SELECT id FROM _work_inbox ORDER BY number DESC LIMIT 1"),
                       time_ms);
}

static enum bk_status is_needed(const struct walk *walk, bool *needed) {
    int64_t noted_ms = 0, newest_ms = 0;
    enum bk_status status = read_note(walk, BK_SLICE("time"), &noted_ms);
    if (status == BK_OK || status == BK_NOT_FOUND)
        status = read_newest_id(walk, &newest_ms);
    *needed = (noted_ms > newest_ms ? noted_ms : newest_ms) > walk->now_ms + WORK_FUTURE_MS;
    return status;
}

enum bk_status work_repair_is_needed(struct bk_connection *connection, int64_t now_ms,
                                     bool *needed) {
    const struct walk walk = {.connection = connection, .now_ms = now_ms};
    int64_t ignored;
    enum bk_status status = read_note(&walk, BK_SLICE("repair_time"), &ignored);
    *needed = status == BK_OK;
    return status == BK_NOT_FOUND ? is_needed(&walk, needed) : status;
}

/* Where to go on, or to begin. BK_END: there is nothing to do. */
static enum bk_status find_walk(struct walk *walk) {
    int64_t begun_ms = 0;
    bool needed = false;
    enum bk_status status = read_note(walk, BK_SLICE("repair_time"), &begun_ms);
    if (status == BK_OK && begun_ms <= walk->now_ms + WORK_FUTURE_MS)
        return read_note(walk, BK_SLICE("repair_row"), &walk->rowid);
    if (status == BK_OK || status == BK_NOT_FOUND)
        status = is_needed(walk, &needed);
    if (status == BK_OK && !needed)
        return BK_END;
    if (status == BK_OK)
        status = write_note(walk, BK_SLICE("repair_time"), walk->now_ms);
    return status;
}

/* --- a slice ---------------------------------------------------------------------------------- */

static void look_at_row(const struct walk *walk, struct bk_statement *statement,
                        struct stray *strays, uint32_t *stray_count) {
    int64_t updated_ms = work_time_read(bk_statement_text(statement, 1));
    int64_t due_ms = work_time_read(bk_statement_text(statement, 2));
    int64_t expires_ms = work_time_read(bk_statement_text(statement, 3));
    if (updated_ms <= walk->now_ms + WORK_FUTURE_MS || (due_ms == 0 && expires_ms == 0))
        return;
    struct stray *stray = &strays[(*stray_count)++];
    int64_t back_ms = updated_ms - walk->now_ms;
    stray->rowid = bk_statement_int(statement, 0);
    stray->due_ms = due_ms == 0 ? 0 : (due_ms > updated_ms ? due_ms : updated_ms) - back_ms;
    stray->expires_ms =
        expires_ms == 0 ? 0 : (expires_ms > updated_ms ? expires_ms : updated_ms) - back_ms;
}

/* Rows are read before any is written. A slice that takes too long is a shorter one. */
static enum bk_status read_slice(struct walk *walk, uint32_t row_limit, struct stray *strays,
                                 uint32_t *stray_count, uint32_t *row_count) {
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT rowid, updated, CASE WHEN state = 'waiting' OR state = 'blocked' THEN due "
                 "ELSE '' END, CASE WHEN state = 'dead' OR state = 'done' THEN expires ELSE '' END "
                 "FROM _work WHERE rowid > ?1 ORDER BY rowid LIMIT ?2"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(walk->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, walk->rowid);
    bk_statement_bind_int(statement, 2, row_limit);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        look_at_row(walk, statement, strays, stray_count);
        walk->rowid = bk_statement_int(statement, 0);
        ++*row_count;
    }
    bk_statement_reset(statement);
    if (status == BK_TIMEOUT && *row_count > 0)
        return BK_OK;
    return status == BK_END ? BK_OK : status;
}

static void bind_time(struct bk_statement *statement, int index, char room[BK_TIME_TEXT_BYTES],
                      int64_t time_ms) {
    if (time_ms != 0)
        work_time_write(room, time_ms);
    bk_statement_bind_text(statement, index,
                           bk_slice_make(room, time_ms != 0 ? BK_TIME_TEXT_BYTES : 0));
}

static enum bk_status write_row(const struct walk *walk, const struct stray *stray) {
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("UPDATE _work SET due = ?2, expires = ?3, updated = ?4 WHERE rowid = ?1"));
    char due[BK_TIME_TEXT_BYTES], expires[BK_TIME_TEXT_BYTES], updated[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(walk->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, stray->rowid);
    bind_time(statement, 2, due, stray->due_ms);
    bind_time(statement, 3, expires, stray->expires_ms);
    bind_time(statement, 4, updated, walk->now_ms);
    return bk_statement_run(statement);
}

/* The rows that were set meanwhile have times of the present: the next opening looks no more. */
static enum bk_status finish(const struct walk *walk) {
    enum bk_status status = bk_connection_execute(
        walk->connection,
        BK_SLICE("DELETE FROM _work_state WHERE name = 'repair_row' OR name = 'repair_time'"));
    return status == BK_OK ? write_note(walk, BK_SLICE("time"), walk->now_ms) : status;
}

enum bk_status work_repair(struct bk_transaction *transaction, int64_t now_ms, uint32_t row_limit,
                           bool *is_done) {
    struct walk walk = {.connection = bk_transaction_connection(transaction), .now_ms = now_ms};
    uint32_t stray_count = 0, row_count = 0;
    enum bk_status status = find_walk(&walk);
    BK_ASSERT(row_limit > 0);
    *is_done = status == BK_END;
    if (status == BK_END)
        return work_schedule_judge(transaction, now_ms);
    if (status != BK_OK && status != BK_NOT_FOUND) /* of the first slice no row is noted */
        return status;
    struct stray *strays =
        bk_arena_alloc(bk_transaction_arena(transaction), row_limit * sizeof *strays);
    if (strays == NULL)
        return BK_TOO_LARGE;
    status = read_slice(&walk, row_limit, strays, &stray_count, &row_count);
    for (uint32_t i = 0; i < stray_count && status == BK_OK; i++)
        status = write_row(&walk, &strays[i]);
    if (status != BK_OK)
        return status;
    if (row_count > 0)
        return write_note(&walk, BK_SLICE("repair_row"), walk.rowid);
    *is_done = true;
    status = finish(&walk);
    return status == BK_OK ? work_schedule_judge(transaction, now_ms) : status;
}
