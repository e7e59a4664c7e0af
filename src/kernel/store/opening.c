/*
 * Opening and closing a database, on its writer.
 *
 *   1. look at the file's header as a plain file            inspect.c
 *   2. open, with nothing that would write                  the WAL is recovered into memory
 *   3. is it ours, not newer than us, its journal whole?    the last after an unclean stop only
 *      and the one that was in force here?                  head.c
 *   4. journal mode WAL; a WAL that was left behind is moved into the file
 *   5. one transaction: tables of the store, migrations, on_prepare, "in use" mark, hooks
 *   6. the head; the loop's connection
 *
 * Steps 1 to 3 write nothing, and a refused file keeps its WAL: whoever refuses it must leave all
 * as it is for whoever repairs it. The mark is `clean` in _meta: 0 while open, 1 after a close.
 *
 * What a process before this one has left in the WAL may be there in the kernel's memory only, if
 * its fsync had failed. So nothing is built on that WAL: its pages go into the file, whose fsync is
 * one of ours. On a full disk that must wait, since the file would have to grow.
 *
 * After a failed fsync the same steps run again for the writer's connection (store_reopen).
 */
#include "store_private.h"

#include "bakend/file.h"
#include "bakend/id.h"

#include <stdio.h>

static const char tables_sql[] =
    "CREATE TABLE IF NOT EXISTS _meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS _migrations (name TEXT PRIMARY KEY, applied INTEGER) WITHOUT ROWID;"
    "INSERT OR IGNORE INTO _meta VALUES ('clean', 1)";

static const char journal_sql[] =
    "CREATE TABLE IF NOT EXISTS _journal (sequence INTEGER PRIMARY KEY, id TEXT, type TEXT, "
    "timestamp INTEGER, source TEXT, subject TEXT, actor TEXT, version INTEGER, depth INTEGER, "
    "cause TEXT, payload TEXT, previous TEXT, omitted TEXT);"
    "INSERT OR IGNORE INTO _meta VALUES ('journal_last', 0), ('journal_oldest', 1), "
    "('journal_bytes', 0)";

/* --- before anything is written --------------------------------------------------------------- */

/* The first page of a database without tables, as SQLite makes it, marked as one with a WAL. */
static enum bk_status make_first_page(sqlite3 *memory, unsigned char **page, size_t *length) {
    enum { WRITE_VERSION_AT = 18, READ_VERSION_AT = 19, WITH_WAL = 2 };
    char sql[96];
    sqlite3_int64 size = 0;
    (void)snprintf(sql, sizeof(sql), "PRAGMA page_size=%d; PRAGMA application_id=%d",
                   STORE_PAGE_BYTES, STORE_APPLICATION_ID);
    if (sqlite3_exec(memory, sql, NULL, NULL, NULL) != SQLITE_OK)
        return BK_NO_MEMORY;
    *page = sqlite3_serialize(memory, "main", &size, 0);
    if (*page == NULL)
        return BK_NO_MEMORY;
    BK_ASSERT(size == STORE_PAGE_BYTES);
    (*page)[WRITE_VERSION_AT] = (*page)[READ_VERSION_AT] = WITH_WAL;
    *length = (size_t)size;
    return BK_OK;
}

/* A file is a database from the moment that it has its name, and never goes through a rollback
 * journal: a power cut in the midst of one leaves a first page that only SQLite could tell from a
 * damaged one. */
static enum bk_status create_file(const char *path, struct bk_error *error) {
    sqlite3 *memory = NULL;
    unsigned char *page = NULL;
    size_t length = 0;
    enum bk_status status = BK_NO_MEMORY;
    if (sqlite3_open(":memory:", &memory) == SQLITE_OK)
        status = make_first_page(memory, &page, &length);
    if (status == BK_OK)
        status = bk_file_write_atomic(path, bk_slice_make((const char *)page, length), error);
    else
        (void)bk_error_set(error, status, "%s cannot be created: out of memory", path);
    sqlite3_free(page);
    (void)sqlite3_close(memory);
    return status;
}

static enum bk_status has_table(struct bk_connection *connection, const char *name, bool *has) {
    char sql[128];
    int64_t count = 0;
    enum bk_status status;
    (void)snprintf(sql, sizeof(sql), "SELECT count(*) FROM sqlite_schema WHERE name = '%s'", name);
    status = store_connection_query_int(connection, sql, 0, &count);
    if (status == BK_OK)
        *has = count > 0;
    return status;
}

enum bk_status store_check_identity(struct bk_connection *connection, const char *path,
                                    bool *is_empty, struct bk_error *error) {
    int64_t application_id = 0, object_count = 0;
    enum bk_status status = store_connection_query_int(
        connection, "SELECT count(*) FROM sqlite_schema", 0, &object_count);
    if (status == BK_OK)
        status =
            store_connection_query_int(connection, "PRAGMA application_id", 0, &application_id);
    if (status != BK_OK)
        return status;
    *is_empty = object_count == 0;
    if (application_id == STORE_APPLICATION_ID || (application_id == 0 && *is_empty))
        return BK_OK;
    return bk_error_set(error, BK_CORRUPT,
                        "%s is a database of another program, or its header is damaged. It was "
                        "left as it is: give another data directory, or move this file away, or "
                        "restore a backup with `bakend restore`",
                        path);
}

static enum bk_status check_format(struct bk_connection *connection, const char *path,
                                   struct bk_error *error) {
    int64_t version = STORE_FORMAT_VERSION;
    enum bk_status status =
        store_connection_query_int(connection, "PRAGMA user_version", version, &version);
    if (status == BK_OK && version > STORE_FORMAT_VERSION)
        return bk_error_set(error, BK_NOT_SUPPORTED,
                            "%s was written by a newer version of bakend (format %lld, this one "
                            "knows %d): start the newer version, or restore a backup with `bakend "
                            "restore`",
                            path, (long long)version, STORE_FORMAT_VERSION);
    return status;
}

static enum bk_status load_journal(struct bk_database *database, struct bk_error *error) {
    bool has_journal = false;
    enum bk_status status;
    if (!database->has_journal)
        return BK_OK;
    status = has_table(database->connection, "_journal", &has_journal);
    if (status != BK_OK || !has_journal)
        return status;
    status = store_journal_load(database->connection, database->was_unclean, &database->counter,
                                database->epoch, error);
    return status == BK_OK ? store_head_examine(database, error) : status;
}

static enum bk_status check_existing(struct bk_database *database, struct bk_error *error) {
    struct bk_connection *connection = database->connection;
    int64_t is_clean = 1;
    bool is_empty = true;
    enum bk_status status = store_check_identity(connection, database->path, &is_empty, error);
    if (status == BK_OK && is_empty)
        return BK_OK;
    if (status == BK_OK)
        status = check_format(connection, database->path, error);
    if (status == BK_OK)
        status = store_connection_query_int(
            connection, "SELECT value FROM _meta WHERE name = 'clean'", 0, &is_clean);
    database->was_unclean = is_clean == 0;
    if (status == BK_OK)
        status = load_journal(database, error);
    return status;
}

/* --- the opening transaction ------------------------------------------------------------------ */

static enum bk_status create_tables(struct bk_database *database) {
    struct bk_connection *connection = database->connection;
    char sql[128];
    enum bk_status status;
    (void)snprintf(sql, sizeof(sql), "PRAGMA application_id=%d; PRAGMA user_version=%d",
                   STORE_APPLICATION_ID, STORE_FORMAT_VERSION);
    status = bk_connection_execute(connection, bk_slice_from(sql));
    if (status == BK_OK)
        status = bk_connection_execute(connection, bk_slice_from(tables_sql));
    if (status == BK_OK && database->has_journal)
        status = bk_connection_execute(connection, bk_slice_from(journal_sql));
    return status;
}

static enum bk_status create_epoch(struct bk_connection *connection) {
    uint8_t epoch[STORE_EPOCH_BYTES];
    char sql[128], digits[2 * STORE_EPOCH_BYTES + 1];
    bk_random_bytes(epoch, sizeof(epoch));
    for (size_t i = 0; i < sizeof(epoch); i++)
        (void)snprintf(digits + 2 * i, 3, "%02x", epoch[i]);
    (void)snprintf(sql, sizeof(sql), "INSERT OR IGNORE INTO _meta VALUES ('epoch', x'%s')", digits);
    return bk_connection_execute(connection, bk_slice_from(sql));
}

static enum bk_status is_applied(struct bk_connection *connection, struct bk_slice name,
                                 bool *applied) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT count(*) FROM _migrations WHERE name = ?1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *applied = bk_statement_int(statement, 0) > 0;
    bk_statement_reset(statement);
    return status;
}

static enum bk_status record_migration(struct bk_transaction *transaction, struct bk_slice name) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("INSERT INTO _migrations VALUES (?1, ?2)"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(transaction->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    bk_statement_bind_int(statement, 2, transaction->now_ms);
    return bk_statement_run(statement);
}

static enum bk_status migrate(struct bk_transaction *transaction,
                              const struct bk_database_options *options, struct bk_error *error) {
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < options->migration_count && status == BK_OK; i++) {
        const struct bk_migration *migration = &options->migrations[i];
        struct bk_slice name = bk_slice_from(migration->name);
        bool applied = false;
        status = is_applied(transaction->connection, name, &applied);
        if (status != BK_OK || applied)
            continue;
        status = bk_connection_execute(transaction->connection, bk_slice_from(migration->sql));
        if (status == BK_OK)
            status = record_migration(transaction, name);
        if (status != BK_OK)
            (void)bk_error_set(error, status, "migration %s failed: %s", migration->name,
                               transaction->connection->error);
    }
    return status;
}

static enum bk_status prepare_owners(struct bk_transaction *transaction,
                                     const struct bk_database_options *options,
                                     struct bk_error *error) {
    enum bk_status status = migrate(transaction, options, error);
    if (status == BK_OK && options->on_prepare != NULL)
        status = options->on_prepare(transaction, options->user, error);
    return status;
}

static enum bk_status prepare(struct bk_transaction *transaction,
                              const struct bk_database_options *options, struct bk_error *error) {
    struct bk_database *database = transaction->database;
    struct store_counter former;
    bool is_unknown;
    enum bk_status status = create_tables(database);
    if (status == BK_OK && database->has_journal)
        status = create_epoch(transaction->connection);
    if (status == BK_OK && database->head.renewal != NULL)
        status = store_epoch_renew(transaction->connection);
    if (status == BK_OK && database->has_journal)
        status = store_journal_load(transaction->connection, database->was_unclean,
                                    &database->counter, database->epoch, error);
    former = database->counter;
    if (status == BK_OK)
        status = prepare_owners(transaction, options, error);
    store_connection_give_back(transaction->connection);
    if (status == BK_OK)
        status = transaction->failure;
    if (status == BK_OK && transaction->batch->arena.is_overflown)
        status = BK_TOO_LARGE;
    if (status == BK_OK)
        status = bk_connection_execute(transaction->connection,
                                       BK_SLICE("UPDATE _meta SET value = 0 WHERE name = 'clean'"));
    if (status == BK_OK)
        status = store_batch_commit(transaction, 0, &former, &is_unknown);
    return status;
}

static enum bk_status run_opening_transaction(struct bk_database *database,
                                              const struct bk_database_options *options,
                                              struct bk_error *error) {
    struct bk_transaction transaction = {.batch = database->opening_batch,
                                         .database = database,
                                         .connection = database->connection,
                                         .now_ms = bk_clock_wall_ms()};
    store_rows_begin(database->connection);
    enum bk_status status =
        store_connection_run_fixed(database->connection, STORE_FIXED_BEGIN_IMMEDIATE);
    if (status == BK_OK)
        status = prepare(&transaction, options, error);
    if (status != BK_OK) {
        store_connection_roll_back(database->connection);
        store_batch_drop_events(database->opening_batch, 0);
    }
    /* The tables have changed under the statements. */
    store_connection_drop_statements(database->connection);
    return status;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Others than us may read the file: a tool that makes a backup, a shell. */
static enum bk_status settle_former_wal(struct bk_database *database) {
    enum bk_status status = store_connection_settle_wal(database->connection);
    if (status != BK_DISK_FULL && status != BK_BUSY)
        return status;
    bk_log_warn(&database->store->log, "wal_kept", BK_TEXT("path", database->path),
                BK_TEXT("error", database->connection->error),
                BK_TEXT("remedy", "free some space; it is moved into the file later"));
    return BK_OK;
}

static enum bk_status open_steps(struct bk_database *database,
                                 const struct bk_database_options *options,
                                 enum store_file_state state, bool had_wal,
                                 struct bk_error *error) {
    enum bk_status status = store_connection_open(database, database->path, STORE_CONNECTION_WRITER,
                                                  &database->connection, error);
    if (status == BK_OK && state == STORE_FILE_DATABASE)
        status = check_existing(database, error);
    if (status == BK_OK)
        status = store_connection_start_wal(database->connection, database->synchronous);
    if (status == BK_OK && had_wal)
        status = settle_former_wal(database);
    if (status == BK_OK)
        status = run_opening_transaction(database, options, error);
    if (status == BK_OK)
        store_head_begin(database);
    if (status == BK_OK)
        status = store_connection_query_int(database->connection, "PRAGMA schema_version", 0,
                                            &database->schema_version);
    if (status == BK_OK)
        status = store_connection_open(database, database->path, STORE_CONNECTION_LOOP,
                                       &database->loop_connection, error);
    return status;
}

/* In a file that was just made there is nothing to restore: its maker is at fault. */
static enum bk_status explain(const struct bk_database *database, enum store_file_state state,
                              enum bk_status status, struct bk_error *error) {
    const char *said = database->connection == NULL ? "" : database->connection->error;
    if (state == STORE_FILE_DATABASE)
        return store_error_explain(error, status, database->path, said);
    if (error->message[0] == '\0')
        return bk_error_set(error, status, "%s cannot be opened: %s", database->path,
                            said[0] == '\0' ? bk_status_text(status) : said);
    if (strstr(error->message, database->path) == NULL)
        bk_error_prefix(error, "%s", database->path);
    return status;
}

enum bk_status store_opening_run(struct bk_database *database,
                                 const struct bk_database_options *options,
                                 struct bk_error *error) {
    enum store_file_state state = STORE_FILE_NEW;
    bool had_wal = store_has_wal(database->path);
    enum bk_status status = store_inspect_file(database->path, &state, error);
    if (status == BK_OK && state == STORE_FILE_NEW)
        status = create_file(database->path, error);
    if (status == BK_OK)
        status = open_steps(database, options, state, had_wal, error);
    if (status == BK_OK)
        return BK_OK;
    status = explain(database, state, status, error);
    if (database->connection != NULL)
        store_connection_close(database->connection, !had_wal);
    database->connection = NULL;
    return status;
}

/* --- closing and opening again ---------------------------------------------------------------- */

static void mark_clean(struct bk_database *database) {
    struct bk_connection *connection = database->connection;
    enum bk_status status = bk_connection_execute(
        connection, BK_SLICE("UPDATE _meta SET value = 1 WHERE name = 'clean'"));
    if (status != BK_OK)
        bk_log_warn(&database->store->log, "clean_mark_failed", BK_TEXT("path", database->path),
                    BK_TEXT("error", connection->error),
                    BK_TEXT("effect", "the next start checks the file"));
}

void store_closing_run(struct bk_database *database) {
    BK_ASSERT(bk_list_is_empty(&database->ready_link));
    store_checkpoint_forget(database);
    store_readers_close_database(database);
    if (database->loop_connection != NULL)
        store_connection_close(database->loop_connection, false);
    database->loop_connection = NULL;
    if (database->connection == NULL)
        return;
    if (store_head_end(database))
        mark_clean(database);
    /* The last connection to close moves the WAL into the file and removes it. */
    store_connection_close(database->connection, true);
    database->connection = NULL;
}

/* Each of its steps may be the one that fails; the error says which file and why. */
static enum bk_status reopen_steps(struct bk_database *database, struct bk_error *error) {
    enum bk_status status = store_connection_open(database, database->path, STORE_CONNECTION_WRITER,
                                                  &database->connection, error);
    if (status == BK_OK)
        status = store_connection_start_wal(database->connection, database->synchronous);
    if (status == BK_OK)
        status = store_connection_settle_wal(database->connection);
    if (status == BK_OK && database->has_journal)
        status = store_journal_load(database->connection, true, &database->counter, database->epoch,
                                    error);
    if (status != BK_OK)
        status = explain(database, STORE_FILE_DATABASE, status, error);
    return status;
}

static void close_broken(struct bk_database *database) {
    if (database->connection != NULL)
        store_connection_close(database->connection, false);
    database->connection = NULL;
}

static void tell_broken(const struct bk_database *database, const char *why) {
    bk_log_error(&database->store->log, "database_failed", BK_STRING("tenant", database->tenant),
                 BK_TEXT("path", database->path), BK_TEXT("error", why),
                 BK_TEXT("remedy", "it takes no writes until it can be opened, which is tried with "
                                   "them: look at the disk; restore a backup with `bakend "
                                   "restore` if the file is damaged"));
}

void store_reopen(struct bk_database *database) {
    struct bk_error error = BK_ERROR_INIT;
    bool was_broken = database->is_broken;
    close_broken(database);
    database->is_broken = reopen_steps(database, &error) != BK_OK;
    if (!database->is_broken) {
        if (was_broken)
            bk_log_info(&database->store->log, "database_recovered",
                        BK_STRING("tenant", database->tenant), BK_TEXT("path", database->path));
        return;
    }
    if (!was_broken)
        tell_broken(database, error.message);
    close_broken(database);
    database->reopen_at_ns = bk_clock_monotonic_ns() + STORE_REOPEN_MS * STORE_NS_PER_MS;
    store_checkpoint_forget(database);
}
