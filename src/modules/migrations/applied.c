/*
 * The rows of _migrations_applied, in the tenant's own database: which file was applied, with the
 * hash of what it said. A row that this server has made for a change of a superuser holds the text
 * of its file as well, from the transaction of the change until the file is known to be safe: so
 * the two cannot part, whatever ends the process in between.
 */
#include "migrations_private.h"

#include "bakend/clock.h"

const struct bk_migration migrations_sql[] = {
    {.name = "migrations_1_applied",
     .sql = "CREATE TABLE _migrations_applied ("
            "name TEXT PRIMARY KEY NOT NULL, hash TEXT NOT NULL, sequence INTEGER NOT NULL UNIQUE,"
            "applied TEXT NOT NULL, body TEXT NOT NULL DEFAULT '');"
            "CREATE INDEX _migrations_unwritten ON _migrations_applied (name) WHERE body != ''"},
};
_Static_assert(BK_COUNT_OF(migrations_sql) == MIGRATIONS_SQL_COUNT, "all are declared");

/* --- reading ---------------------------------------------------------------------------------- */

static enum bk_status cannot_read(struct migration_rows *rows, struct bk_connection *connection,
                                  enum bk_status status) {
    return bk_error_set(&rows->error, status, "_migrations_applied cannot be read: %s",
                        bk_connection_error(connection));
}

static enum bk_status on_run(struct bk_connection *connection, struct bk_read *read) {
    struct migration_rows *rows = bk_container_of(read, struct migration_rows, read);
    const struct bk_sql all = bk_sql_make(BK_SLICE(
        "SELECT name, hash, applied, body, sequence FROM _migrations_applied ORDER BY name"));
    const struct bk_sql unwritten =
        bk_sql_make(BK_SLICE("SELECT name, hash, applied, body, sequence FROM _migrations_applied "
                             "WHERE body != '' ORDER BY name"));
    const struct bk_sql sql = rows->is_unwritten_only ? unwritten : all;
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return cannot_read(rows, connection, status);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        struct migration_row *row = bk_arena_alloc_zero(rows->arena, sizeof *row);
        row->name = bk_arena_copy(rows->arena, bk_statement_text(statement, 0));
        row->hash = bk_arena_copy(rows->arena, bk_statement_text(statement, 1));
        row->applied = bk_arena_copy(rows->arena, bk_statement_text(statement, 2));
        row->body = bk_arena_copy(rows->arena, bk_statement_text(statement, 3));
        row->sequence = bk_statement_int(statement, 4);
        if (rows->arena->is_overflown)
            break;
        bk_list_push(&rows->all, &row->link);
    }
    if (status != BK_END && status != BK_OK)
        status = cannot_read(rows, connection, status);
    bk_statement_reset(statement);
    return rows->arena->is_overflown ? bk_arena_status(rows->arena)
                                     : (status == BK_END ? BK_OK : status);
}

static void on_done(struct bk_read *read, enum bk_status status) {
    struct migration_rows *rows = bk_container_of(read, struct migration_rows, read);
    if (rows->error.message[0] != '\0')
        status = bk_database_explain(rows->database, status, &rows->error);
    rows->done(rows, status);
}

enum bk_status migrations_rows_read(struct migration_rows *rows, struct bk_arena *arena,
                                    struct bk_database *database) {
    BK_ASSERT(rows->done != NULL);
    rows->arena = arena;
    rows->database = database;
    rows->error = (struct bk_error)BK_ERROR_INIT;
    bk_list_init(&rows->all);
    rows->read =
        (struct bk_read){.deadline_ms = MIGRATIONS_ROWS_MS, .run = on_run, .done = on_done};
    return bk_store_read(database, &rows->read);
}

enum bk_status migrations_row_seconds(struct bk_connection *connection, int64_t now_ms,
                                      int64_t *seconds) {
    /* A name that somebody has given a far date does not pull the others along. */
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT coalesce(max(CAST(substr(name, 1, 10) AS INTEGER)), 0) FROM "
                             "_migrations_applied WHERE substr(name, 11, 1) = '_' AND "
                             "CAST(substr(name, 1, 10) AS INTEGER) < ?1 + 86400"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, now_ms / 1000);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        int64_t last = bk_statement_int(statement, 0);
        *seconds = last >= now_ms / 1000 ? last + 1 : now_ms / 1000;
    }
    bk_statement_reset(statement);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

static enum bk_status prepare(struct bk_transaction *transaction, struct bk_slice text,
                              struct bk_slice name, struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_connection *connection = bk_transaction_connection(transaction);
    enum bk_status status = bk_connection_statement(connection, &sql, statement);
    if (status == BK_OK)
        bk_statement_bind_text(*statement, 1, name);
    return status;
}

enum bk_status migrations_row_insert(struct bk_transaction *transaction, struct bk_slice name,
                                     struct bk_slice hash, struct bk_slice body) {
    struct bk_statement *statement;
    char now[BK_TIME_TEXT_BYTES];
    enum bk_status status =
        prepare(transaction,
                BK_SLICE("INSERT INTO _migrations_applied (name, hash, applied, body, sequence) "
                         "SELECT ?1, ?2, ?3, ?4, 1 + coalesce(max(sequence), 0) FROM "
                         "_migrations_applied"),
                name, &statement);
    if (status != BK_OK)
        return status;
    bk_time_format(now, bk_transaction_now_ms(transaction), ' ');
    bk_statement_bind_text(statement, 2, hash);
    bk_statement_bind_text(statement, 3, bk_slice_make(now, sizeof now));
    bk_statement_bind_text(statement, 4, body.length == 0 ? BK_SLICE("") : body);
    return bk_statement_run(statement);
}

enum bk_status migrations_row_delete(struct bk_transaction *transaction, struct bk_slice name) {
    struct bk_statement *statement;
    enum bk_status status = prepare(
        transaction, BK_SLICE("DELETE FROM _migrations_applied WHERE name = ?1"), name, &statement);
    return status == BK_OK ? bk_statement_run(statement) : status;
}

enum bk_status migrations_row_set_hash(struct bk_transaction *transaction, struct bk_slice name,
                                       struct bk_slice hash) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(transaction, BK_SLICE("UPDATE _migrations_applied SET hash = ?2 WHERE name = ?1"),
                name, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 2, hash);
    return bk_statement_run(statement);
}

enum bk_status migrations_row_written(struct bk_transaction *transaction, struct bk_slice name) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(transaction, BK_SLICE("UPDATE _migrations_applied SET body = '' WHERE name = ?1"),
                name, &statement);
    return status == BK_OK ? bk_statement_run(statement) : status;
}
