/*
 * Connections: opened without mutexes (one thread at a time uses one), hardened, and never trusted
 * to checkpoint by themselves.
 *
 *   writer   the only one that writes or checkpoints; wal_autocheckpoint is off and a hook tells it
 *            how long the WAL is (see checkpoint.c)
 *   reader   read-only, query_only, NO_CKPT_ON_CLOSE, one per reader thread and database
 *   loop     like a reader, for single rows by key
 *
 * mmap stays off, since an I/O error would be a SIGBUS. Foreign keys stay off, since cascades are
 * the application's. No function that a crafted file's schema could call reaches outside of the
 * database: extensions cannot be loaded, and those that SQLite has are for direct use only.
 *
 * Deadlines are looked at by the progress handler, every PROGRESS_STEPS steps of SQLite's machine.
 * A reader's is set when it is borrowed, and there a long read gives way to others. On the writer
 * and the loop each SELECT has its own, or a number of steps instead of a time, and other
 * statements have none: an interrupted write would take the neighbours' transaction with it.
 *
 * SQLite's codes are translated here and in no other place.
 */
#include "store_private.h"

#include <errno.h>
#include <stdio.h>

enum {
    PROGRESS_STEPS = 1000, /* tens of microseconds */
    SQL_BYTES_MAX = 1024 * 1024,
    VALUE_BYTES_MAX = 128 * 1024 * 1024,
    EXPRESSION_DEPTH_MAX = 500,
    COMPOUND_SELECT_MAX = 100,
    TRIGGER_DEPTH_MAX = 10,
    LOOP_BUSY_TIMEOUT_MS = 20, /* the loop waits for nobody */
    SETTLE_TIMEOUT_MS = 100,
    WAL_SIZE_LIMIT_BYTES =
        16 * 1024 * 1024 /* what a reset WAL keeps: more than it grows to as a rule */
};

static const char *const fixed_sql[STORE_FIXED_COUNT] = {
    [STORE_FIXED_BEGIN] = "BEGIN",
    [STORE_FIXED_BEGIN_IMMEDIATE] = "BEGIN IMMEDIATE",
    [STORE_FIXED_COMMIT] = "COMMIT",
    [STORE_FIXED_ROLLBACK] = "ROLLBACK",
    [STORE_FIXED_SAVEPOINT] = "SAVEPOINT w",
    [STORE_FIXED_RELEASE] = "RELEASE w",
    [STORE_FIXED_ROLLBACK_TO] = "ROLLBACK TO w",
    [STORE_FIXED_APPEND] =
        ("INSERT INTO _journal (sequence, id, type, timestamp, source, subject, actor, version, "
         "depth, cause, payload, previous, omitted) "
         "VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)"),
    /* An UPDATE of three rows would gather their keys in a table of its own, which costs as much as
     * the rest of a small commit. */
    [STORE_FIXED_COUNTER] = ("REPLACE INTO _meta (name, value) VALUES ('journal_last', ?1), "
                             "('journal_oldest', ?2), ('journal_bytes', ?3)"),
};

/* --- errors ----------------------------------------------------------------------------------- */

static bool is_out_of_space(int system_error) {
    return system_error == ENOSPC || system_error == EDQUOT || system_error == EFBIG;
}

/* SQLite reports a full disk as an I/O error when it strikes the shared memory, or as a quota. */
static enum bk_status translate_io(sqlite3 *handle, int code) {
    if (code == SQLITE_IOERR_NOMEM)
        return BK_NO_MEMORY;
    return is_out_of_space(sqlite3_system_errno(handle)) ? BK_DISK_FULL : BK_IO;
}

/* Descriptors come back when a connection or a file is closed. */
static enum bk_status translate_opening(sqlite3 *handle) {
    int system_error = sqlite3_system_errno(handle);
    return system_error == EMFILE || system_error == ENFILE ? BK_BUSY : BK_IO;
}

static enum bk_status translate(sqlite3 *handle, int code) {
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
        return BK_OK;
    case SQLITE_DONE:
        return BK_END;
    case SQLITE_CONSTRAINT:
        if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY ||
            code == SQLITE_CONSTRAINT_ROWID)
            return BK_CONFLICT;
        return BK_INVALID;
    case SQLITE_INTERRUPT:
        return BK_TIMEOUT;
    case SQLITE_FULL:
        return BK_DISK_FULL;
    case SQLITE_IOERR:
        return translate_io(handle, code);
    case SQLITE_CANTOPEN:
        return translate_opening(handle);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_NOLFS:
        return BK_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return BK_CORRUPT;
    case SQLITE_NOMEM:
        return BK_NO_MEMORY;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return BK_BUSY;
    default:
        return BK_INVALID;
    }
}

/* "UNIQUE constraint failed: users.email" */
static void remember_conflict(struct bk_connection *connection) {
    static const char marker[] = "failed: ";
    const char *columns = strstr(connection->error, marker);
    (void)snprintf(connection->conflict, sizeof(connection->conflict), "%s",
                   columns == NULL ? "" : columns + sizeof(marker) - 1);
}

enum bk_status store_connection_fail(struct bk_connection *connection, int code) {
    enum bk_status status = translate(connection->handle, code);
    BK_ASSERT(status != BK_OK && status != BK_END);
    (void)snprintf(connection->error, sizeof(connection->error), "%s",
                   sqlite3_errmsg(connection->handle));
    store_text_tidy(connection->error);
    if (status == BK_CONFLICT)
        remember_conflict(connection);
    return status;
}

const char *bk_connection_error(struct bk_connection *connection) { return connection->error; }

struct bk_slice bk_connection_conflict(struct bk_connection *connection) {
    return bk_slice_from(connection->conflict);
}

/* --- opening and closing ---------------------------------------------------------------------- */

/* Once it has, it does so to its end. While nobody waits it looks once in a millisecond: it has to
 * take a lock for that which the loop needs. */
static bool gives_way(struct bk_connection *connection, uint64_t worked_ns) {
    if (connection->has_given_way)
        return true;
    if (connection->slice_end_ns == 0 || worked_ns < connection->slice_end_ns)
        return false;
    connection->has_given_way = bk_pool_is_behind(connection->database->store->readers);
    connection->slice_end_ns = worked_ns + STORE_NS_PER_MS;
    return connection->has_given_way;
}

bool store_connection_is_late(struct bk_connection *connection) {
    uint64_t now_ns, worked_ns;
    if (connection->is_cancelled != NULL &&
        __atomic_load_n(connection->is_cancelled, __ATOMIC_RELAXED))
        return true;
    if (connection->deadline_ns == 0)
        return false;
    if (connection->deadline_ns == STORE_DEADLINE_OF_STEPS)
        return connection->steps_taken > connection->step_max;
    now_ns = bk_clock_monotonic_ns();
    if (connection->deadline_ns == STORE_DEADLINE_FROM_NOW)
        connection->deadline_ns = now_ns + STORE_SELECT_DEADLINE_MS * STORE_NS_PER_MS;
    if (now_ns >= connection->deadline_ns)
        return true;
    if (connection->work_end_ns == 0)
        return false;
    worked_ns = bk_clock_thread_ns();
    return worked_ns >= connection->work_end_ns || gives_way(connection, worked_ns);
}

/* Returns other than 0 to interrupt. */
static int on_progress(void *user) {
    struct bk_connection *connection = user;
    if (connection->deadline_ns == STORE_DEADLINE_OF_STEPS)
        connection->steps_taken += PROGRESS_STEPS;
    return store_connection_is_late(connection);
}

static int on_wal_commit(void *user, sqlite3 *handle, const char *schema, int frame_count) {
    struct bk_connection *connection = user;
    (void)handle, (void)schema;
    connection->wal_bytes = (uint64_t)frame_count * STORE_WAL_FRAME_BYTES;
    return SQLITE_OK;
}

static void set_limits(sqlite3 *handle) {
    (void)sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX);
    (void)sqlite3_limit(handle, SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX);
    (void)sqlite3_limit(handle, SQLITE_LIMIT_EXPR_DEPTH, EXPRESSION_DEPTH_MAX);
    (void)sqlite3_limit(handle, SQLITE_LIMIT_COMPOUND_SELECT, COMPOUND_SELECT_MAX);
    (void)sqlite3_limit(handle, SQLITE_LIMIT_TRIGGER_DEPTH, TRIGGER_DEPTH_MAX);
    (void)sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_limit(handle, SQLITE_LIMIT_WORKER_THREADS, 0);
}

/* Nothing here writes to the file. */
static int configure(struct bk_connection *connection) {
    sqlite3 *handle = connection->handle;
    bool is_writer = connection->kind == STORE_CONNECTION_WRITER;
    set_limits(handle);
    (void)sqlite3_busy_timeout(handle, connection->kind == STORE_CONNECTION_LOOP
                                           ? LOOP_BUSY_TIMEOUT_MS
                                           : STORE_BUSY_TIMEOUT_MS);
    (void)sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    /* SQLite 3.40 takes JSON's functions for unsafe in views of a schema that is not trusted. */
    (void)sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 1, NULL);
    (void)sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    (void)sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    (void)sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_FKEY, 0, NULL);
    (void)sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    (void)sqlite3_wal_autocheckpoint(handle, 0);
    sqlite3_progress_handler(handle, PROGRESS_STEPS, on_progress, connection);
    if (is_writer)
        (void)sqlite3_wal_hook(handle, on_wal_commit, connection);
    int code = store_like_register(connection);
    if (code == SQLITE_OK)
        code = store_json_order_register(connection);
    if (code != SQLITE_OK)
        return code;
    return sqlite3_exec(handle,
                        is_writer ? "PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;"
                                    "PRAGMA cell_size_check=ON; PRAGMA cache_size=-4096"
                                  : "PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;"
                                    "PRAGMA cell_size_check=ON; PRAGMA cache_size=-4096;"
                                    "PRAGMA query_only=ON",
                        NULL, NULL, NULL);
}

/* What ends a transaction must not need memory then: these are prepared while there is some. */
static int prepare_fixed(struct bk_connection *connection) {
    static const enum store_fixed of_writers[] = {
        STORE_FIXED_BEGIN_IMMEDIATE, STORE_FIXED_COMMIT,  STORE_FIXED_ROLLBACK,
        STORE_FIXED_SAVEPOINT,       STORE_FIXED_RELEASE, STORE_FIXED_ROLLBACK_TO};
    static const enum store_fixed of_readers[] = {STORE_FIXED_BEGIN, STORE_FIXED_COMMIT,
                                                  STORE_FIXED_ROLLBACK};
    bool is_writer = connection->kind == STORE_CONNECTION_WRITER;
    const enum store_fixed *all = is_writer ? of_writers : of_readers;
    size_t count = is_writer ? BK_COUNT_OF(of_writers) : BK_COUNT_OF(of_readers);
    int code = SQLITE_OK;
    for (size_t i = 0; i < count && code == SQLITE_OK; i++)
        code = sqlite3_prepare_v3(connection->handle, fixed_sql[all[i]], -1,
                                  SQLITE_PREPARE_PERSISTENT, &connection->fixed[all[i]], NULL);
    return code;
}

enum bk_status store_connection_open(struct bk_database *database, const char *path,
                                     enum store_connection_kind kind,
                                     struct bk_connection **connection, struct bk_error *error) {
    struct bk_connection *opened = bk_alloc_zero(sizeof(*opened));
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    int code;
    opened->database = database;
    opened->kind = kind;
    bk_list_init(&opened->recent);
    bk_list_init(&opened->used);
    bk_list_init(&opened->pool_link);
    flags |= kind == STORE_CONNECTION_WRITER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    code = sqlite3_open_v2(path, &opened->handle, flags, NULL);
    if (code == SQLITE_OK)
        code = configure(opened);
    if (code == SQLITE_OK)
        code = prepare_fixed(opened);
    if (code != SQLITE_OK) {
        enum bk_status status = store_connection_fail(opened, code);
        if (status == BK_CORRUPT)
            (void)store_error_damaged(error, path, opened->error);
        else
            (void)bk_error_set(error, status, "%s cannot be opened: %s", path, opened->error);
        store_connection_close(opened, false);
        return status;
    }
    if (kind == STORE_CONNECTION_WRITER)
        store_rows_watch(opened);
    if (database != NULL)
        opened->generation = __atomic_load_n(&database->generation, __ATOMIC_ACQUIRE);
    *connection = opened;
    return BK_OK;
}

/* SQLite answers with the mode it chose. */
static int on_journal_mode(void *user, int column_count, char **values, char **names) {
    (void)names;
    *(bool *)user = column_count == 1 && values[0] != NULL && strcmp(values[0], "wal") == 0;
    return 0;
}

enum bk_status store_connection_start_wal(struct bk_connection *connection,
                                          enum bk_synchronous synchronous) {
    char sql[160];
    bool is_wal = false;
    int code;
    BK_ASSERT(connection->kind == STORE_CONNECTION_WRITER);
    (void)snprintf(sql, sizeof(sql), "PRAGMA synchronous=%s; PRAGMA journal_size_limit=%d",
                   synchronous == BK_SYNCHRONOUS_FULL ? "FULL" : "OFF", WAL_SIZE_LIMIT_BYTES);
    code = sqlite3_exec(connection->handle, sql, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(connection->handle, "PRAGMA journal_mode=WAL", on_journal_mode, &is_wal,
                            NULL);
    if (code != SQLITE_OK)
        return store_connection_fail(connection, code);
    if (is_wal)
        return BK_OK;
    (void)snprintf(connection->error, sizeof(connection->error),
                   "no write-ahead log can be used here; a network file system will not do");
    return BK_IO;
}

enum bk_status store_connection_settle_wal(struct bk_connection *connection) {
    int code;
    BK_ASSERT(connection->kind == STORE_CONNECTION_WRITER);
    connection->deadline_ns = 0;
    (void)sqlite3_busy_timeout(connection->handle, SETTLE_TIMEOUT_MS);
    code =
        sqlite3_wal_checkpoint_v2(connection->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    (void)sqlite3_busy_timeout(connection->handle, STORE_BUSY_TIMEOUT_MS);
    return code == SQLITE_OK ? BK_OK : store_connection_fail(connection, code);
}

void store_connection_close(struct bk_connection *connection, bool allow_checkpoint) {
    store_connection_drop_statements(connection);
    store_rows_fini(connection);
    for (size_t i = 0; i < STORE_FIXED_COUNT; i++)
        (void)sqlite3_finalize(connection->fixed[i]);
    if (allow_checkpoint)
        (void)sqlite3_db_config(connection->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    /* Fails only when a statement is left, which the cache cannot leave. */
    BK_ASSERT(sqlite3_close(connection->handle) == SQLITE_OK);
    bk_free(connection);
}

/* --- statements of the store's own ------------------------------------------------------------ */

sqlite3_stmt *store_connection_fixed(struct bk_connection *connection, enum store_fixed which) {
    if (__builtin_expect(connection->fixed[which] == NULL, 0)) {
        int code = sqlite3_prepare_v3(connection->handle, fixed_sql[which], -1,
                                      SQLITE_PREPARE_PERSISTENT, &connection->fixed[which], NULL);
        if (code != SQLITE_OK)
            (void)store_connection_fail(connection, code);
    }
    return connection->fixed[which];
}

/* SQLite does not keep the system's error of a COMMIT that failed to write. Such a COMMIT has not
 * come to its last frame, so it is not committed. */
static enum bk_status fixed_failed(struct bk_connection *connection, int code, int system_error) {
    enum bk_status status = store_connection_fail(connection, code);
    bool lacks_space = code == SQLITE_IOERR_WRITE && is_out_of_space(system_error);
    connection->is_certain = lacks_space || (code & 0xff) == SQLITE_FULL ||
                             (code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_CONSTRAINT;
    return lacks_space ? BK_DISK_FULL : status;
}

enum bk_status store_connection_run_fixed(struct bk_connection *connection,
                                          enum store_fixed which) {
    sqlite3_stmt *statement = store_connection_fixed(connection, which);
    enum bk_status status = BK_OK;
    int code;
    connection->is_certain = true;
    if (statement == NULL)
        return BK_NO_MEMORY;
    if (connection->kind != STORE_CONNECTION_READER)
        connection->deadline_ns = 0;
    errno = 0;
    code = sqlite3_step(statement);
    if (code != SQLITE_DONE)
        status = fixed_failed(connection, code, errno);
    (void)sqlite3_reset(statement);
    return status;
}

bool store_connection_has_transaction(const struct bk_connection *connection) {
    return sqlite3_get_autocommit(connection->handle) == 0;
}

int64_t store_connection_change_count(const struct bk_connection *connection) {
    return sqlite3_total_changes64(connection->handle);
}

void store_connection_roll_back(struct bk_connection *connection) {
    store_connection_give_back(connection);
    if (store_connection_has_transaction(connection))
        (void)store_connection_run_fixed(connection, STORE_FIXED_ROLLBACK);
}

enum bk_status store_connection_query_int(struct bk_connection *connection, const char *sql,
                                          int64_t fallback, int64_t *value) {
    sqlite3_stmt *statement = NULL;
    enum bk_status status = BK_OK;
    int code = sqlite3_prepare_v2(connection->handle, sql, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW && sqlite3_column_type(statement, 0) != SQLITE_NULL)
        *value = sqlite3_column_int64(statement, 0);
    else if (code == SQLITE_ROW || code == SQLITE_DONE)
        *value = fallback;
    else
        status = store_connection_fail(connection, code);
    (void)sqlite3_finalize(statement);
    return status;
}

static bool is_only_space(const char *text, const char *end) {
    while (text < end && strchr(" \t\r\n;", *text) != NULL)
        text++;
    return text == end;
}

enum bk_status bk_connection_execute(struct bk_connection *connection, struct bk_slice sql) {
    const char *text = sql.data, *end = sql.data + sql.length;
    connection->error[0] = '\0';
    if (connection->kind != STORE_CONNECTION_READER)
        connection->deadline_ns = 0;
    while (!is_only_space(text, end)) {
        sqlite3_stmt *statement = NULL;
        int code =
            sqlite3_prepare_v2(connection->handle, text, (int)(end - text), &statement, &text);
        while (code == SQLITE_OK || code == SQLITE_ROW)
            code = statement == NULL ? SQLITE_DONE : sqlite3_step(statement);
        if (code != SQLITE_DONE) {
            enum bk_status status = store_connection_fail(connection, code);
            (void)sqlite3_finalize(statement);
            return status;
        }
        (void)sqlite3_finalize(statement);
    }
    return BK_OK;
}
