/*
 * Schedules: at each time of a cron expression (UTC) a task is added. A schedule is a row of the
 * tenant's `_schedules`; those of kinds are put at each opening, others by whoever wants one.
 *
 *   next   its first time that is still to come; INT64_MAX: none
 *   last   when it ran last, in work time; 0: never
 *
 * When next has come, one transaction adds the task and moves next to the first time after now:
 * however many times were missed, they make one task. A crash before the commit leaves both as they
 * were, a crash after it neither. While the task of an earlier time waits or runs, another one is
 * not added: what fails all day, or is paused, would pile up.
 *
 * A time that it has run for does not come again when the clock is set back: next is the first time
 * after the later of now and last. A last that is more than a day ahead is of a clock that was
 * wrong, and is not believed, or the schedule would wait for years. So is what was found as next:
 * what lies ahead is found again at each opening and whenever work time has leapt.
 *
 * A schedule whose task cannot be added (its kind is unknown in this program, its lane is one too
 * many) is late by one time, with a warning in the log, and holds up nobody.
 */
#include "work_private.h"

#include "bakend/assert.h"

enum {
    NAME_BYTES_MAX = 200,
    COUNT_MAX = 1000,             /* of a tenant: all are judged in the transaction that opens it */
    TURN_BYTES_MAX = 1024 * 1024, /* of payloads; the one that passes it is the last */
};
static const int64_t LAST_TRUSTED_MS = INT64_C(24) * 60 * 60 * 1000;

const struct bk_migration work_schedule_migrations[] = {
    {.name = "work_1_schedules",
     .sql =
         "CREATE TABLE _schedules (name TEXT PRIMARY KEY NOT NULL, kind TEXT NOT NULL, lane TEXT "
         "NOT NULL, payload TEXT NOT NULL, expression TEXT NOT NULL, is_of_kind INTEGER NOT "
         "NULL, next INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;"
         "CREATE INDEX _schedules_next ON _schedules (next)"},
};
const size_t work_schedule_migration_count = BK_COUNT_OF(work_schedule_migrations);

#define COLUMNS "name, kind, lane, payload, expression, is_of_kind, next, last"

/* A row. Its texts are in the transaction's arena, or borrowed from the statement. */
struct schedule {
    struct bk_slice name, kind, lane, payload, expression;
    bool is_of_kind;
    int64_t next_ms, last_ms;
};

/* --- rows ------------------------------------------------------------------------------------- */

static enum bk_status prepare(struct bk_connection *connection, struct bk_slice text,
                              struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(text);
    return bk_connection_statement(connection, &sql, statement);
}

static void read_row(struct bk_statement *statement, struct schedule *schedule) {
    *schedule = (struct schedule){
        .name = bk_statement_text(statement, 0),
        .kind = bk_statement_text(statement, 1),
        .lane = bk_statement_text(statement, 2),
        .payload = bk_statement_text(statement, 3),
        .expression = bk_statement_text(statement, 4),
        .is_of_kind = bk_statement_int(statement, 5) != 0,
        .next_ms = bk_statement_int(statement, 6),
        .last_ms = bk_statement_int(statement, 7),
    };
}

static void keep_texts(struct schedule *schedule, struct bk_arena *arena) {
    schedule->name = bk_arena_copy(arena, schedule->name);
    schedule->kind = bk_arena_copy(arena, schedule->kind);
    schedule->lane = bk_arena_copy(arena, schedule->lane);
    schedule->payload = bk_arena_copy(arena, schedule->payload);
    schedule->expression = bk_arena_copy(arena, schedule->expression);
}

static enum bk_status find(struct bk_transaction *transaction, struct bk_slice name,
                           struct schedule *schedule) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                BK_SLICE("SELECT " COLUMNS " FROM _schedules WHERE name = ?1"), &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        read_row(statement, schedule);
        keep_texts(schedule, bk_transaction_arena(transaction));
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static enum bk_status store(struct bk_transaction *transaction, const struct schedule *schedule) {
    struct bk_statement *statement;
    enum bk_status status = prepare(bk_transaction_connection(transaction),
                                    BK_SLICE("INSERT OR REPLACE INTO _schedules (" COLUMNS
                                             ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
                                    &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, schedule->name);
    bk_statement_bind_text(statement, 2, schedule->kind);
    bk_statement_bind_text(statement, 3, schedule->lane);
    bk_statement_bind_text(statement, 4, schedule->payload);
    bk_statement_bind_text(statement, 5, schedule->expression);
    bk_statement_bind_int(statement, 6, schedule->is_of_kind);
    bk_statement_bind_int(statement, 7, schedule->next_ms);
    bk_statement_bind_int(statement, 8, schedule->last_ms);
    return bk_statement_run(statement);
}

static enum bk_status store_times(struct bk_transaction *transaction,
                                  const struct schedule *schedule) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                BK_SLICE("UPDATE _schedules SET next = ?2, last = ?3 WHERE name = ?1"), &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, schedule->name);
    bk_statement_bind_int(statement, 2, schedule->next_ms);
    bk_statement_bind_int(statement, 3, schedule->last_ms);
    return bk_statement_run(statement);
}

static enum bk_status forget(struct bk_transaction *transaction, struct bk_slice name) {
    struct bk_statement *statement;
    enum bk_status status = prepare(bk_transaction_connection(transaction),
                                    BK_SLICE("DELETE FROM _schedules WHERE name = ?1"), &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    return bk_statement_run(statement);
}

/* Rows are read into the arena before any is written. Payloads may be large: so many bytes of them
 * are enough, and the row that passes that is the last. */
static enum bk_status read_rows(struct bk_transaction *transaction, struct bk_statement *statement,
                                struct schedule **rows, uint32_t *count) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    uint32_t room = 0;
    size_t payload_bytes = 0;
    enum bk_status status = BK_END;
    for (*rows = NULL, *count = 0; payload_bytes < TURN_BYTES_MAX; ++*count) {
        status = bk_statement_step(statement);
        if (status != BK_OK)
            break;
        if (*count == room) {
            room = room == 0 ? WORK_SCHEDULE_TURN_MAX : 2 * room;
            struct schedule *larger = bk_arena_alloc(arena, room * sizeof *larger);
            if (larger == NULL) {
                status = BK_TOO_LARGE;
                break;
            }
            if (*count > 0)
                memcpy(larger, *rows, *count * sizeof *larger);
            *rows = larger;
        }
        read_row(statement, &(*rows)[*count]);
        payload_bytes += (*rows)[*count].payload.length;
        keep_texts(&(*rows)[*count], arena);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* Those whose time has come. */
static enum bk_status read_due(struct bk_transaction *transaction, int64_t now_ms,
                               struct schedule **rows, uint32_t *count) {
    struct bk_statement *statement;
    enum bk_status status = prepare(
        bk_transaction_connection(transaction),
        BK_SLICE("SELECT " COLUMNS " FROM _schedules WHERE next <= ?1 ORDER BY next LIMIT ?2"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, now_ms);
    bk_statement_bind_int(statement, 2, WORK_SCHEDULE_TURN_MAX);
    return read_rows(transaction, statement, rows, count);
}

/* All of them, without what they hand over. */
static enum bk_status read_all(struct bk_transaction *transaction, struct schedule **rows,
                               uint32_t *count) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                BK_SLICE("SELECT name, '', '', '', expression, is_of_kind, next, last FROM "
                         "_schedules"),
                &statement);
    return status == BK_OK ? read_rows(transaction, statement, rows, count) : status;
}

enum bk_status work_schedule_next(struct bk_connection *connection, int64_t *next_ms) {
    struct bk_statement *statement;
    enum bk_status status = prepare(
        connection, BK_SLICE("SELECT next FROM _schedules ORDER BY next LIMIT 1"), &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    if (status == BK_OK || status == BK_END)
        *next_ms = status == BK_OK ? bk_statement_int(statement, 0) : INT64_MAX;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* --- times ------------------------------------------------------------------------------------ */

static int64_t next_of(const struct schedule *schedule, int64_t now_ms) {
    bool is_later = schedule->last_ms > now_ms;
    bool is_trusted = is_later && schedule->last_ms - now_ms <= LAST_TRUSTED_MS;
    return bk_cron_next_ms(schedule->expression, is_trusted ? schedule->last_ms : now_ms);
}

/* One whose time has come stays due. */
enum bk_status work_schedule_judge(struct bk_transaction *transaction, int64_t now_ms) {
    struct schedule *rows = NULL;
    uint32_t count = 0;
    enum bk_status status = read_all(transaction, &rows, &count);
    for (uint32_t i = 0; i < count && status == BK_OK; i++) {
        int64_t next_ms = next_of(&rows[i], now_ms);
        if (rows[i].next_ms <= now_ms || rows[i].next_ms == next_ms)
            continue;
        rows[i].next_ms = next_ms;
        status = store_times(transaction, &rows[i]);
    }
    return status;
}

/* --- when a tenant opens ---------------------------------------------------------------------- */

static bool has_schedule(const struct bk_work_kind *kind, struct bk_slice tenant) {
    return kind->schedule != NULL && (!kind->is_operators || bk_slice_is(tenant, "default"));
}

/* What is the same stays as it is, also if its time has come meanwhile. */
static enum bk_status put(struct bk_transaction *transaction, const struct schedule *wanted,
                          int64_t now_ms) {
    struct schedule row, stored;
    enum bk_status status = find(transaction, wanted->name, &stored);
    if (status != BK_OK && status != BK_NOT_FOUND)
        return status;
    row = *wanted;
    bool is_there = status == BK_OK;
    bool keeps_times = is_there && bk_slice_equal(stored.expression, row.expression);
    if (keeps_times && bk_slice_equal(stored.kind, row.kind) &&
        bk_slice_equal(stored.lane, row.lane) && bk_slice_equal(stored.payload, row.payload) &&
        stored.is_of_kind == row.is_of_kind)
        return BK_OK;
    row.last_ms = is_there ? stored.last_ms : 0;
    row.next_ms = keeps_times ? stored.next_ms : next_of(&row, now_ms);
    return store(transaction, &row);
}

static enum bk_status put_of_kinds(struct bk_work *work, struct bk_transaction *transaction,
                                   int64_t now_ms, struct bk_error *error) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < work_kind_count(work) && status == BK_OK; i++) {
        const struct bk_work_kind *kind = work_kind_at(work, i);
        if (!has_schedule(kind, bk_transaction_tenant(transaction)))
            continue;
        struct schedule row = {.name = bk_slice_from(kind->name),
                               .kind = bk_slice_from(kind->name),
                               .expression = bk_slice_from(kind->schedule),
                               .is_of_kind = true};
        struct bk_slice problem = bk_cron_problem(row.expression, arena);
        if (problem.length > 0)
            return bk_error_set(error, BK_INVALID, "the schedule of %s: %.*s", kind->name,
                                BK_SLICE_PRINT(problem));
        status = put(transaction, &row, now_ms);
    }
    return status;
}

static bool is_declared(struct bk_work *work, struct bk_slice tenant, struct bk_slice name) {
    for (size_t i = 0; i < work_kind_count(work); i++) {
        const struct bk_work_kind *kind = work_kind_at(work, i);
        if (bk_slice_equal(bk_slice_from(kind->name), name))
            return has_schedule(kind, tenant);
    }
    return false;
}

static enum bk_status remove_undeclared(struct bk_work *work, struct bk_transaction *transaction) {
    struct schedule *rows = NULL;
    uint32_t count = 0;
    enum bk_status status = read_all(transaction, &rows, &count);
    for (uint32_t i = 0; i < count && status == BK_OK; i++)
        if (rows[i].is_of_kind &&
            !is_declared(work, bk_transaction_tenant(transaction), rows[i].name))
            status = forget(transaction, rows[i].name);
    return status;
}

enum bk_status work_schedule_prepare(struct bk_work *work, struct bk_transaction *transaction,
                                     struct bk_error *error) {
    int64_t now_ms = work_clock_now_ms(work_clock_of(work));
    enum bk_status status = remove_undeclared(work, transaction);
    if (status == BK_OK)
        status = put_of_kinds(work, transaction, now_ms, error);
    return status == BK_OK ? work_schedule_judge(transaction, now_ms) : status;
}

/* --- when a time has come --------------------------------------------------------------------- */

/* by_hand: beside its times, and as often as somebody wants it. */
static enum bk_status add_task(struct bk_work *work, struct bk_transaction *transaction,
                               const struct schedule *schedule, bool by_hand) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    const struct bk_work_draft draft = {
        .kind = bk_arena_format(arena, "%.*s", BK_SLICE_PRINT(schedule->kind)).data,
        .lane = schedule->lane,
        .payload = schedule->payload,
        .unique = by_hand
                      ? BK_SLICE_EMPTY
                      : bk_arena_format(arena, "schedule %.*s", BK_SLICE_PRINT(schedule->name))};
    return bk_work_add(work, transaction, &draft, NULL);
}

/* Of the schedule, not of the disk. */
static bool is_its_own_failure(enum bk_status status) {
    return status == BK_NOT_FOUND || status == BK_TOO_LARGE || status == BK_INVALID ||
           status == BK_BUSY;
}

enum bk_status work_schedule_turn(struct bk_work *work, struct bk_transaction *transaction,
                                  int64_t now_ms, int64_t *next_ms) {
    struct schedule *rows = NULL;
    uint32_t count = 0;
    enum bk_status status = read_due(transaction, now_ms, &rows, &count);
    for (uint32_t i = 0; i < count && status == BK_OK; i++) {
        status = add_task(work, transaction, &rows[i], false);
        bool is_missed = is_its_own_failure(status);
        if (is_missed)
            bk_log_warn(&work->log, "schedule_missed",
                        BK_STRING("tenant", bk_transaction_tenant(transaction)),
                        BK_STRING("schedule", rows[i].name), BK_STRING("kind", rows[i].kind),
                        BK_TEXT("status", bk_status_name(status)));
        else if (status != BK_OK)
            break;
        rows[i].last_ms = is_missed ? rows[i].last_ms : now_ms;
        rows[i].next_ms = bk_cron_next_ms(rows[i].expression, now_ms);
        status = store_times(transaction, &rows[i]);
    }
    return status == BK_OK ? work_schedule_next(bk_transaction_connection(transaction), next_ms)
                           : status;
}

/* --- by whoever wants one --------------------------------------------------------------------- */

static bool is_json(struct bk_slice payload, struct bk_arena *arena) {
    struct bk_json *value;
    return payload.length == 0 || bk_json_parse(arena, payload, &value, NULL) == BK_OK;
}

static enum bk_status check(struct bk_work *work, struct bk_transaction *transaction,
                            const struct bk_work_schedule *schedule, struct bk_error *error) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    if (schedule->name.length == 0 || schedule->name.length > NAME_BYTES_MAX)
        return bk_error_set(error, BK_INVALID, "name: must have 1 to %d bytes", NAME_BYTES_MAX);
    if (work_kind_find(work, schedule->kind) == NULL)
        return bk_error_set(error, BK_NOT_FOUND, "kind: there is no kind of work \"%s\"",
                            schedule->kind);
    if (strlen(schedule->kind) + 1 + schedule->lane.length > BK_WORK_LANE_MAX_BYTES)
        return bk_error_set(error, BK_TOO_LARGE, "lane: must have at most %zu bytes",
                            BK_WORK_LANE_MAX_BYTES - strlen(schedule->kind) - 1);
    if (schedule->payload.length > BK_WORK_PAYLOAD_MAX_BYTES)
        return bk_error_set(error, BK_TOO_LARGE, "payload: must have at most %d bytes",
                            BK_WORK_PAYLOAD_MAX_BYTES);
    if (!is_json(schedule->payload, arena))
        return bk_error_set(error, BK_INVALID, "payload: must be JSON");
    struct bk_slice problem = bk_cron_problem(schedule->expression, arena);
    if (problem.length > 0)
        return bk_error_set(error, BK_INVALID, "expression: %.*s", BK_SLICE_PRINT(problem));
    return BK_OK;
}

/* A kind's own is put and removed with the kind alone. BK_NOT_FOUND: nobody has the name. */
static enum bk_status check_owner(struct bk_transaction *transaction, struct bk_slice name,
                                  struct bk_error *error) {
    struct schedule stored;
    enum bk_status status = find(transaction, name, &stored);
    if (status == BK_OK && stored.is_of_kind)
        return bk_error_set(error, BK_CONFLICT,
                            "name: \"%.*s\" is the schedule of a kind of work: take another name",
                            BK_SLICE_PRINT(name));
    return status;
}

static enum bk_status check_room(struct bk_transaction *transaction, struct bk_error *error) {
    struct bk_statement *statement;
    int64_t count = 0;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                BK_SLICE("SELECT count(*) FROM _schedules WHERE is_of_kind = 0"), &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    if (status == BK_OK)
        count = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    if (status == BK_OK && count >= COUNT_MAX)
        return bk_error_set(error, BK_LIMIT,
                            "a tenant has at most %d schedules: remove one of them", COUNT_MAX);
    return status;
}

static enum bk_status tell_next(struct bk_work *work, struct bk_transaction *transaction) {
    int64_t next_ms;
    enum bk_status status = work_schedule_next(bk_transaction_connection(transaction), &next_ms);
    if (status == BK_OK)
        work_note_schedule(work, transaction, next_ms);
    return status;
}

enum bk_status bk_work_schedule_put(struct bk_work *work, struct bk_transaction *transaction,
                                    const struct bk_work_schedule *schedule,
                                    struct bk_error *error) {
    enum bk_status status = check(work, transaction, schedule, error);
    if (status != BK_OK)
        return status;
    status = check_owner(transaction, schedule->name, error);
    if (status == BK_NOT_FOUND)
        status = check_room(transaction, error);
    if (status != BK_OK)
        return status;
    const struct schedule row = {.name = schedule->name,
                                 .kind = bk_slice_from(schedule->kind),
                                 .lane = schedule->lane,
                                 .payload = schedule->payload,
                                 .expression = schedule->expression};
    status = put(transaction, &row, work_clock_now_ms(work_clock_of(work)));
    return status == BK_OK ? tell_next(work, transaction) : status;
}

enum bk_status bk_work_schedule_remove(struct bk_work *work, struct bk_transaction *transaction,
                                       struct bk_slice name) {
    enum bk_status status = check_owner(transaction, name, NULL);
    if (status == BK_OK)
        status = forget(transaction, name);
    return status == BK_OK ? tell_next(work, transaction) : status;
}

enum bk_status bk_work_schedule_run(struct bk_work *work, struct bk_transaction *transaction,
                                    struct bk_slice name) {
    struct schedule stored;
    enum bk_status status = find(transaction, name, &stored);
    return status == BK_OK ? add_task(work, transaction, &stored, true) : status;
}

/* --- looking ---------------------------------------------------------------------------------- */

static void hand_over(const struct schedule *row,
                      void (*on_schedule)(void *user, const struct bk_work_schedule_facts *facts),
                      void *user) {
    char kind[BK_WORK_LANE_MAX_BYTES + 1];
    size_t length = row->kind.length < sizeof kind ? row->kind.length : sizeof kind - 1;
    memcpy(kind, row->kind.data, length);
    kind[length] = '\0';
    const struct bk_work_schedule_facts facts = {.schedule = {.name = row->name,
                                                              .kind = kind,
                                                              .lane = row->lane,
                                                              .payload = row->payload,
                                                              .expression = row->expression},
                                                 .next_ms = row->next_ms,
                                                 .last_ms = row->last_ms};
    on_schedule(user, &facts);
}

enum bk_status
bk_work_schedule_each(struct bk_connection *connection,
                      void (*on_schedule)(void *user, const struct bk_work_schedule_facts *facts),
                      void *user) {
    struct bk_statement *statement;
    enum bk_status status = prepare(
        connection, BK_SLICE("SELECT " COLUMNS " FROM _schedules ORDER BY name"), &statement);
    if (status != BK_OK)
        return status;
    while ((status = bk_statement_step(statement)) == BK_OK) {
        struct schedule row;
        read_row(statement, &row);
        hand_over(&row, on_schedule, user);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}
