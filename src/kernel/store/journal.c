/*
 * The journal: one row per durable event, in the order of commit.
 *
 *   _journal(sequence, …)   its primary key and no other index: an index on the type alone would
 *                           cost a third more per event
 *   _meta                   epoch, journal_last, journal_oldest, journal_bytes
 *
 * The counter lives in memory on the writer (bk_database.counter). It is taken back with a
 * write that fails and stored once per commit, so numbers are contiguous and never used twice,
 * not even when all rows are pruned. Rows are inserted in order, so an append touches the last page
 * only.
 *
 * After an unclean stop the counter is the larger of _meta and the newest row, which are equal
 * unless the file is damaged; the newest STORE_JOURNAL_CHECK_ROWS rows must be contiguous and end
 * there.
 */
#include "store_private.h"

#define ROW_COLUMNS                                                                                \
    "sequence, id, type, timestamp, source, subject, actor, version, depth, cause, payload, "      \
    "previous, omitted"

enum row_column {
    ROW_SEQUENCE,
    ROW_ID,
    ROW_TYPE,
    ROW_TIMESTAMP,
    ROW_SOURCE,
    ROW_SUBJECT,
    ROW_ACTOR,
    ROW_VERSION,
    ROW_DEPTH,
    ROW_CAUSE,
    ROW_PAYLOAD,
    ROW_PREVIOUS,
    ROW_OMITTED
};

static struct bk_sql sql_read_ascending, sql_read_descending, sql_bounds, sql_time_at, sql_last;

/* The hash of a text is keyed per process, so these cannot be constants. */
void store_journal_init(void) {
    sql_read_ascending = bk_sql_make(
        BK_SLICE("SELECT " ROW_COLUMNS
                 " FROM _journal WHERE sequence BETWEEN ?1 AND ?2 ORDER BY sequence LIMIT ?3"));
    sql_read_descending = bk_sql_make(BK_SLICE(
        "SELECT " ROW_COLUMNS
        " FROM _journal WHERE sequence BETWEEN ?1 AND ?2 ORDER BY sequence DESC LIMIT ?3"));
    sql_bounds = bk_sql_make(BK_SLICE("SELECT (SELECT min(sequence) FROM _journal), "
                                      "(SELECT max(sequence) FROM _journal)"));
    sql_time_at = bk_sql_make(
        BK_SLICE("SELECT timestamp FROM _journal WHERE sequence >= ?1 ORDER BY sequence LIMIT 1"));
    sql_last = bk_sql_make(BK_SLICE("SELECT value FROM _meta WHERE name = 'journal_last'"));
}

/* --- appending, on the writer ----------------------------------------------------------------- */

/* The event outlives the statement, so its texts are not copied. */
static int bind_text(sqlite3_stmt *statement, enum row_column column, struct bk_slice text) {
    return sqlite3_bind_text64(statement, (int)column + 1, text.data, text.length, SQLITE_STATIC,
                               SQLITE_UTF8);
}

static int bind_optional(sqlite3_stmt *statement, enum row_column column, struct bk_slice text) {
    if (text.length == 0)
        return sqlite3_bind_null(statement, (int)column + 1);
    return bind_text(statement, column, text);
}

static int bind_int(sqlite3_stmt *statement, enum row_column column, int64_t value) {
    return sqlite3_bind_int64(statement, (int)column + 1, value);
}

static int bind_row(sqlite3_stmt *statement, const struct bk_event_fields *fields) {
    int failure = bind_int(statement, ROW_SEQUENCE, (int64_t)fields->sequence);
    failure |= bind_text(statement, ROW_ID, fields->id);
    failure |= bind_text(statement, ROW_TYPE, fields->type);
    failure |= bind_int(statement, ROW_TIMESTAMP, fields->timestamp_ms);
    failure |= bind_text(statement, ROW_SOURCE, fields->source);
    failure |= bind_optional(statement, ROW_SUBJECT, fields->subject);
    failure |= bind_optional(statement, ROW_ACTOR, fields->actor);
    failure |= bind_int(statement, ROW_VERSION, fields->version);
    failure |= bind_int(statement, ROW_DEPTH, fields->depth);
    failure |= bind_optional(statement, ROW_CAUSE, fields->cause);
    failure |= bind_text(statement, ROW_PAYLOAD, fields->payload);
    failure |= bind_optional(statement, ROW_PREVIOUS, fields->previous);
    failure |= bind_optional(statement, ROW_OMITTED, fields->omitted);
    return failure;
}

enum bk_status store_journal_append(struct bk_connection *connection,
                                    const struct bk_event *event) {
    sqlite3_stmt *statement = store_connection_fixed(connection, STORE_FIXED_APPEND);
    enum bk_status status = BK_OK;
    int code;
    if (statement == NULL)
        return BK_NO_MEMORY;
    connection->deadline_ns = 0;
    code = bind_row(statement, &event->fields);
    if (code != SQLITE_OK)
        return BK_TOO_LARGE;
    code = sqlite3_step(statement);
    if (code != SQLITE_DONE)
        status = store_connection_fail(connection, code);
    (void)sqlite3_reset(statement);
    return status;
}

enum bk_status store_journal_store_counter(struct bk_connection *connection,
                                           const struct store_counter *counter) {
    sqlite3_stmt *statement = store_connection_fixed(connection, STORE_FIXED_COUNTER);
    if (statement == NULL)
        return BK_NO_MEMORY;
    (void)sqlite3_bind_int64(statement, 1, (int64_t)counter->last);
    (void)sqlite3_bind_int64(statement, 2, (int64_t)counter->oldest);
    (void)sqlite3_bind_int64(statement, 3, (int64_t)counter->bytes);
    return store_connection_run_fixed(connection, STORE_FIXED_COUNTER);
}

/* --- loading and checking --------------------------------------------------------------------- */

static enum bk_status load_epoch(struct bk_connection *connection, uint8_t epoch[STORE_EPOCH_BYTES],
                                 struct bk_error *error) {
    static const char sql[] = "SELECT value FROM _meta WHERE name = 'epoch'";
    const char *path = sqlite3_db_filename(connection->handle, "main");
    sqlite3_stmt *statement = NULL;
    enum bk_status status = BK_OK;
    int code = sqlite3_prepare_v2(connection->handle, sql, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW && sqlite3_column_bytes(statement, 0) == STORE_EPOCH_BYTES)
        memcpy(epoch, sqlite3_column_blob(statement, 0), STORE_EPOCH_BYTES);
    else if (code == SQLITE_ROW || code == SQLITE_DONE)
        status = store_error_damaged(error, path, "the epoch of its journal is missing");
    else
        status = store_connection_fail(connection, code);
    (void)sqlite3_finalize(statement);
    return status;
}

static enum bk_status load_counter(struct bk_connection *connection,
                                   struct store_counter *counter) {
    int64_t last = 0, oldest = 1, bytes = 0;
    enum bk_status status = store_connection_query_int(
        connection, "SELECT value FROM _meta WHERE name = 'journal_last'", 0, &last);
    if (status == BK_OK)
        status = store_connection_query_int(
            connection, "SELECT value FROM _meta WHERE name = 'journal_oldest'", 1, &oldest);
    if (status == BK_OK)
        status = store_connection_query_int(
            connection, "SELECT value FROM _meta WHERE name = 'journal_bytes'", 0, &bytes);
    if (status == BK_OK)
        *counter = (struct store_counter){
            .last = (uint64_t)last, .oldest = (uint64_t)oldest, .bytes = (uint64_t)bytes};
    return status;
}

/* The rows that the query is about (its FROM clause) are contiguous and end at last; *lowest is the
 * first of them, last + 1 when there are none. */
static enum bk_status check_rows(struct bk_connection *connection, const char *sql, uint64_t last,
                                 uint64_t *lowest, struct bk_error *error) {
    const char *path = sqlite3_db_filename(connection->handle, "main");
    sqlite3_stmt *statement = NULL;
    enum bk_status status = BK_OK;
    int code = sqlite3_prepare_v2(connection->handle, sql, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code != SQLITE_ROW) {
        status = store_connection_fail(connection, code);
    } else {
        uint64_t count = (uint64_t)sqlite3_column_int64(statement, 0);
        uint64_t first = (uint64_t)sqlite3_column_int64(statement, 1);
        uint64_t newest = (uint64_t)sqlite3_column_int64(statement, 2);
        if (count > 0 && newest < last)
            status =
                store_error_damaged(error, path, "the newest events of its journal are missing");
        else if (count > 0 && newest - first + 1 != count)
            status =
                store_error_damaged(error, path, "events in the middle of its journal are missing");
        *lowest = count == 0 ? last + 1 : first;
    }
    (void)sqlite3_finalize(statement);
    return status;
}

static enum bk_status check_newest(struct bk_connection *connection, struct store_counter *counter,
                                   struct bk_error *error) {
    static const char sql[] = "SELECT count(*), min(sequence), max(sequence) FROM (SELECT sequence "
                              "FROM _journal ORDER BY sequence DESC LIMIT 1000)";
    const char *path = sqlite3_db_filename(connection->handle, "main");
    int64_t newest = 0;
    uint64_t lowest = 0;
    enum bk_status status =
        store_connection_query_int(connection, "SELECT max(sequence) FROM _journal", 0, &newest);
    if (status != BK_OK)
        return status;
    if ((uint64_t)newest > counter->last)
        counter->last = (uint64_t)newest;
    status = check_rows(connection, sql, counter->last, &lowest, error);
    if (status != BK_OK)
        return status;
    if (counter->oldest > counter->last + 1 ||
        (lowest > counter->oldest && counter->last - lowest + 1 < STORE_JOURNAL_CHECK_ROWS))
        return store_error_damaged(error, path, "the oldest events of its journal are missing");
    return BK_OK;
}

enum bk_status store_journal_load(struct bk_connection *connection, bool is_unclean,
                                  struct store_counter *counter, uint8_t epoch[STORE_EPOCH_BYTES],
                                  struct bk_error *error) {
    enum bk_status status = load_epoch(connection, epoch, error);
    if (status == BK_OK)
        status = load_counter(connection, counter);
    if (status == BK_OK && is_unclean)
        status = check_newest(connection, counter, error);
    return status;
}

enum bk_status store_journal_check_all(struct bk_connection *connection, struct bk_error *error) {
    static const char sql[] = "SELECT count(*), min(sequence), max(sequence) FROM _journal";
    const char *path = sqlite3_db_filename(connection->handle, "main");
    struct store_counter counter;
    uint64_t lowest = 0;
    enum bk_status status = load_counter(connection, &counter);
    if (status == BK_OK)
        status = check_rows(connection, sql, counter.last, &lowest, error);
    if (status == BK_OK && lowest != counter.oldest)
        status = store_error_damaged(error, path, "the oldest events of its journal are missing");
    return status;
}

struct bk_journal_state store_journal_snapshot(const struct bk_database *database) {
    struct bk_journal_state state = {.oldest = database->counter.oldest,
                                     .last = database->counter.last,
                                     .size_bytes = database->counter.bytes};
    memcpy(state.epoch, database->epoch, sizeof(state.epoch));
    return state;
}

struct bk_journal_state bk_journal_state(struct bk_database *database) {
    return database->journal;
}

/* --- reading ---------------------------------------------------------------------------------- */

static int64_t as_row_id(uint64_t sequence) {
    return sequence > INT64_MAX ? INT64_MAX : (int64_t)sequence;
}

static void read_row(struct bk_statement *statement, struct bk_event_fields *fields) {
    fields->sequence = (uint64_t)bk_statement_int(statement, ROW_SEQUENCE);
    fields->timestamp_ms = bk_statement_int(statement, ROW_TIMESTAMP);
    fields->version = (uint32_t)bk_statement_int(statement, ROW_VERSION);
    fields->depth = (uint32_t)bk_statement_int(statement, ROW_DEPTH);
    fields->id = bk_statement_text(statement, ROW_ID);
    fields->type = bk_statement_text(statement, ROW_TYPE);
    fields->source = bk_statement_text(statement, ROW_SOURCE);
    fields->subject = bk_statement_text(statement, ROW_SUBJECT);
    fields->actor = bk_statement_text(statement, ROW_ACTOR);
    fields->cause = bk_statement_text(statement, ROW_CAUSE);
    fields->payload = bk_statement_text(statement, ROW_PAYLOAD);
    fields->previous = bk_statement_text(statement, ROW_PREVIOUS);
    fields->omitted = bk_statement_text(statement, ROW_OMITTED);
}

enum bk_status bk_journal_read(struct bk_connection *connection,
                               const struct bk_journal_query *query) {
    struct bk_event_fields fields = {.tenant = connection->database->tenant};
    struct bk_statement *statement;
    enum bk_status status;
    if (query->row_limit == 0 || query->from > query->to)
        return BK_OK;
    status = bk_connection_statement(
        connection, query->is_descending ? &sql_read_descending : &sql_read_ascending, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, as_row_id(query->from));
    bk_statement_bind_int(statement, 2, as_row_id(query->to));
    bk_statement_bind_int(statement, 3, query->row_limit);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        read_row(statement, &fields);
        if (!query->on_row(query->user, &fields))
            break;
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* --- seeking ---------------------------------------------------------------------------------- */

static enum bk_status query_two(struct bk_connection *connection, const struct bk_sql *sql,
                                int64_t parameter, int64_t *first, int64_t *second) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, sql, &statement);
    if (status != BK_OK)
        return status;
    if (sql == &sql_time_at)
        bk_statement_bind_int(statement, 1, parameter);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        *first = bk_statement_int(statement, 0);
        if (second != NULL)
            *second = bk_statement_int(statement, 1);
    }
    bk_statement_reset(statement);
    return status;
}

enum bk_status bk_journal_seek(struct bk_connection *connection, int64_t wall_ms,
                               uint64_t *sequence) {
    int64_t low = 0, high = 0, timestamp = 0;
    enum bk_status status = query_two(connection, &sql_bounds, 0, &low, &high);
    if (status != BK_OK)
        return status;
    if (high == 0) {
        status = query_two(connection, &sql_last, 0, &high, NULL);
        if (status == BK_OK)
            *sequence = (uint64_t)high + 1;
        return status;
    }
    /* The answer is in low..high+1. */
    high++;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        status = query_two(connection, &sql_time_at, middle, &timestamp, NULL);
        if (status != BK_OK)
            return status;
        if (timestamp >= wall_ms)
            high = middle;
        else
            low = middle + 1;
    }
    *sequence = (uint64_t)low;
    return BK_OK;
}
