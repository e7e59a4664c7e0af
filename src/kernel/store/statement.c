/*
 * Prepared statements and the cache of them that each connection has.
 *
 * The cache is a table of chains by the hash that bk_sql_make took, so a look-up costs no hashing,
 * and a list from the most to the least recently used. It holds STORE_STATEMENTS_MAX; past them the
 * oldest one that nobody has in hand is finalised.
 *
 * A statement that is handed out is remembered in `used`, and all of these are reset when the
 * borrower is done: a SELECT that is left standing is an open read transaction, which would starve
 * checkpoints.
 *
 * bk_database_forget_statements moves the database's generation on; a connection compares it with
 * its own when it is borrowed. SQLite recompiles a statement by itself when the schema has changed,
 * but not into one that names the columns as they are called now.
 */
#include "store_private.h"

#include <stdio.h>

enum {
    STEPS_PER_LOOK = 64 /* many short statements never reach the progress handler: look here, too */
};

struct bk_sql bk_sql_make(struct bk_slice text) {
    return (struct bk_sql){.text = text, .hash = bk_map_hash(text)};
}

/* --- the cache -------------------------------------------------------------------------------- */

static struct bk_statement **bucket_of(struct bk_connection *connection, uint64_t hash) {
    return &connection->buckets[hash % STORE_STATEMENT_BUCKETS];
}

static void statement_destroy(struct bk_statement *statement) {
    struct bk_statement **place = bucket_of(statement->connection, statement->hash);
    while (*place != statement)
        place = &(*place)->chain;
    *place = statement->chain;
    bk_list_remove(&statement->recent);
    bk_list_remove(&statement->used);
    statement->connection->statement_count--;
    (void)sqlite3_finalize(statement->handle);
    bk_free(statement);
}

static void evict_one(struct bk_connection *connection) {
    struct bk_list *node = connection->recent.previous;
    for (; node != &connection->recent; node = node->previous) {
        struct bk_statement *statement = bk_container_of(node, struct bk_statement, recent);
        if (bk_list_is_empty(&statement->used)) {
            statement_destroy(statement);
            return;
        }
    }
}

void store_connection_drop_statements(struct bk_connection *connection) {
    struct bk_list *node;
    while ((node = bk_list_pop(&connection->recent)) != NULL)
        statement_destroy(bk_container_of(node, struct bk_statement, recent));
    BK_ASSERT(connection->statement_count == 0);
}

void bk_connection_forget_statements(struct bk_connection *connection) {
    store_connection_drop_statements(connection);
    connection->has_forgotten = true;
}

void store_connection_refresh(struct bk_connection *connection) {
    uint32_t generation = __atomic_load_n(&connection->database->generation, __ATOMIC_ACQUIRE);
    if (generation == connection->generation)
        return;
    store_connection_drop_statements(connection);
    connection->generation = generation;
}

void bk_database_forget_statements(struct bk_database *database) {
    (void)__atomic_add_fetch(&database->generation, 1, __ATOMIC_RELEASE);
}

static struct bk_statement *statement_create(struct bk_connection *connection,
                                             const struct bk_sql *sql, sqlite3_stmt *handle) {
    struct bk_statement *statement = bk_alloc(sizeof(*statement) + sql->text.length);
    struct bk_statement **bucket = bucket_of(connection, sql->hash);
    char *text = (char *)(statement + 1);
    memcpy(text, sql->text.data, sql->text.length);
    *statement = (struct bk_statement){.handle = handle,
                                       .connection = connection,
                                       .chain = *bucket,
                                       .hash = sql->hash,
                                       .is_readonly = sqlite3_stmt_readonly(handle) != 0,
                                       .text = {text, sql->text.length}};
    *bucket = statement;
    bk_list_init(&statement->used);
    bk_list_init(&statement->recent);
    bk_list_push_front(&connection->recent, &statement->recent);
    connection->statement_count++;
    return statement;
}

static enum bk_status prepare(struct bk_connection *connection, const struct bk_sql *sql,
                              struct bk_statement **statement) {
    sqlite3_stmt *handle = NULL;
    int code;
    /* SQL is made in arenas, where a text for which there was no room is empty. */
    if (sql->text.length == 0)
        return BK_NO_MEMORY;
    code = sqlite3_prepare_v3(connection->handle, sql->text.data, (int)sql->text.length,
                              SQLITE_PREPARE_PERSISTENT, &handle, NULL);
    if (code != SQLITE_OK)
        return store_connection_fail(connection, code);
    BK_ASSERT(handle != NULL);
    if (connection->statement_count >= STORE_STATEMENTS_MAX)
        evict_one(connection);
    *statement = statement_create(connection, sql, handle);
    return BK_OK;
}

static struct bk_statement *find(struct bk_connection *connection, const struct bk_sql *sql) {
    struct bk_statement *statement = *bucket_of(connection, sql->hash);
    while (statement != NULL &&
           (statement->hash != sql->hash || !bk_slice_equal(statement->text, sql->text)))
        statement = statement->chain;
    return statement;
}

enum bk_status bk_connection_statement(struct bk_connection *connection, const struct bk_sql *sql,
                                       struct bk_statement **statement) {
    struct bk_statement *found = find(connection, sql);
    connection->error[0] = '\0';
    if (found == NULL) {
        enum bk_status status = prepare(connection, sql, &found);
        if (status != BK_OK)
            return status;
        BK_ASSERT(found != NULL);
    } else {
        bk_statement_reset(found);
        bk_list_remove(&found->recent);
        bk_list_push_front(&connection->recent, &found->recent);
    }
    if (bk_list_is_empty(&found->used))
        bk_list_push(&connection->used, &found->used);
    *statement = found;
    return BK_OK;
}

void store_connection_give_back(struct bk_connection *connection) {
    struct bk_list *node;
    while ((node = bk_list_pop(&connection->used)) != NULL)
        bk_statement_reset(bk_container_of(node, struct bk_statement, used));
}

/* --- binding ---------------------------------------------------------------------------------- */

static void note_binding(struct bk_statement *statement, int code) {
    BK_ASSERT(code != SQLITE_RANGE && code != SQLITE_MISUSE);
    statement->is_bound = true;
    if (code != SQLITE_OK)
        statement->has_bad_binding = true;
}

void bk_statement_bind_text(struct bk_statement *statement, int index, struct bk_slice text) {
    /* SQLite takes a NULL pointer for NULL. */
    const char *data = text.data == NULL ? "" : text.data;
    note_binding(statement, sqlite3_bind_text64(statement->handle, index, data, text.length,
                                                SQLITE_STATIC, SQLITE_UTF8));
}

void bk_statement_bind_int(struct bk_statement *statement, int index, int64_t value) {
    note_binding(statement, sqlite3_bind_int64(statement->handle, index, value));
}

void bk_statement_bind_null(struct bk_statement *statement, int index) {
    note_binding(statement, sqlite3_bind_null(statement->handle, index));
}

void bk_statement_bind(struct bk_statement *statement, int index, const struct bk_value *value) {
    switch (value->type) {
    case BK_VALUE_NULL:
        bk_statement_bind_null(statement, index);
        return;
    case BK_VALUE_INT:
        bk_statement_bind_int(statement, index, value->integer);
        return;
    case BK_VALUE_REAL:
        note_binding(statement, sqlite3_bind_double(statement->handle, index, value->real));
        return;
    case BK_VALUE_TEXT:
        bk_statement_bind_text(statement, index, value->text);
        return;
    }
    BK_UNREACHABLE();
}

/* --- running ---------------------------------------------------------------------------------- */

static bool is_past_deadline(const struct bk_connection *connection) {
    return connection->deadline_ns != 0 && (bk_clock_monotonic_ns() >= connection->deadline_ns ||
                                            bk_clock_thread_ns() >= connection->work_end_ns);
}

/* A budget is of all SELECTs together: many short ones use it up, too. */
static bool is_past_budget(struct bk_connection *connection) {
    return connection->budget_end_ns != 0 && ++connection->step_count % STEPS_PER_LOOK == 0 &&
           bk_clock_monotonic_ns() >= connection->budget_end_ns;
}

/* On the writer and the loop, where a write is never interrupted. */
static uint64_t deadline_of(const struct bk_statement *statement) {
    if (!statement->is_readonly)
        return 0;
    if (statement->connection->step_max > 0)
        return STORE_DEADLINE_OF_STEPS;
    uint64_t budget_end_ns = statement->connection->budget_end_ns;
    return budget_end_ns != 0 ? budget_end_ns : STORE_DEADLINE_FROM_NOW;
}

static void end_step(struct bk_statement *statement) {
    (void)sqlite3_reset(statement->handle);
    statement->is_active = false;
}

static enum bk_status step_failed(struct bk_statement *statement, int code) {
    enum bk_status status = store_connection_fail(statement->connection, code);
    end_step(statement);
    return status;
}

/* A value that was too long to bind would be NULL in the row. */
static enum bk_status refuse_binding(struct bk_statement *statement) {
    struct bk_connection *connection = statement->connection;
    (void)snprintf(connection->error, sizeof(connection->error), "a bound text is too long");
    end_step(statement);
    return BK_INVALID;
}

enum bk_status bk_statement_step(struct bk_statement *statement) {
    struct bk_connection *connection = statement->connection;
    int code;
    if (__builtin_expect(statement->has_bad_binding, 0))
        return refuse_binding(statement);
    if (connection->kind == STORE_CONNECTION_READER) {
        if (++connection->step_count % STEPS_PER_LOOK == 0 && is_past_deadline(connection))
            return step_failed(statement, SQLITE_INTERRUPT);
        code = sqlite3_step(statement->handle);
    } else {
        if (statement->is_readonly && is_past_budget(connection))
            return step_failed(statement, SQLITE_INTERRUPT);
        if (!statement->is_active)
            statement->deadline_ns = deadline_of(statement);
        connection->deadline_ns = statement->deadline_ns;
        code = sqlite3_step(statement->handle);
        statement->deadline_ns = connection->deadline_ns;
    }
    statement->is_active = true;
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return step_failed(statement, code);
    connection->error[0] = '\0';
    if (code == SQLITE_ROW)
        return BK_OK;
    end_step(statement);
    return BK_END;
}

enum bk_status bk_statement_run(struct bk_statement *statement) {
    enum bk_status status = BK_FAILPOINT("store.statement");
    if (status == BK_OK)
        status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

void bk_statement_reset(struct bk_statement *statement) {
    if (statement->is_active)
        end_step(statement);
    if (statement->is_bound) {
        (void)sqlite3_clear_bindings(statement->handle);
        statement->is_bound = statement->has_bad_binding = false;
    }
}

/* --- columns ---------------------------------------------------------------------------------- */

bool bk_statement_is_null(struct bk_statement *statement, int index) {
    return sqlite3_column_type(statement->handle, index) == SQLITE_NULL;
}

enum bk_value_type bk_statement_type(struct bk_statement *statement, int index) {
    switch (sqlite3_column_type(statement->handle, index)) {
    case SQLITE_NULL:
        return BK_VALUE_NULL;
    case SQLITE_INTEGER:
        return BK_VALUE_INT;
    case SQLITE_FLOAT:
        return BK_VALUE_REAL;
    default:
        return BK_VALUE_TEXT;
    }
}

int64_t bk_statement_int(struct bk_statement *statement, int index) {
    return sqlite3_column_int64(statement->handle, index);
}

double bk_statement_real(struct bk_statement *statement, int index) {
    return sqlite3_column_double(statement->handle, index);
}

/* As a blob, since for a text SQLite would make room for a NUL behind it: a large one would be
 * copied, and without memory for that it would look like an empty one. */
static struct bk_slice text_of(sqlite3_value *column) {
    int length = sqlite3_value_bytes(column);
    const void *text = sqlite3_value_blob(column);
    if (text != NULL)
        return bk_slice_make(text, (size_t)length);
    /* The digits of a number need a little memory. */
    int type = sqlite3_value_type(column);
    if (type == SQLITE_INTEGER || type == SQLITE_FLOAT)
        bk_alloc_give_up(0);
    return BK_SLICE_EMPTY;
}

struct bk_slice bk_statement_text(struct bk_statement *statement, int index) {
    return text_of(sqlite3_column_value(statement->handle, index));
}

/* The column is found once, not for its type, its text and its length: a third of what a list
 * spends in here. A connection belongs to one thread (SQLITE_OPEN_NOMUTEX), where SQLite makes no
 * difference between protected and other values. */
struct bk_value bk_statement_value(struct bk_statement *statement, int index) {
    sqlite3_value *column = sqlite3_column_value(statement->handle, index);
    switch (sqlite3_value_type(column)) {
    case SQLITE_NULL:
        return BK_VALUE_OF_NULL;
    case SQLITE_INTEGER:
        return BK_VALUE_OF_INT(sqlite3_value_int64(column));
    case SQLITE_FLOAT:
        return BK_VALUE_OF_REAL(sqlite3_value_double(column));
    default:
        return BK_VALUE_OF_TEXT(text_of(column));
    }
}

int bk_statement_column_count(struct bk_statement *statement) {
    return sqlite3_column_count(statement->handle);
}

uint64_t bk_statement_take_steps(struct bk_statement *statement) {
    return (uint64_t)(unsigned)sqlite3_stmt_status(statement->handle, SQLITE_STMTSTATUS_VM_STEP, 1);
}
