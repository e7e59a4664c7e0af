/*
 * How many rows a table has, kept beside it, so that a total costs nothing whatever its size.
 *
 * SQLite tells the writer of every row that is inserted or deleted. The changes of a transaction
 * are gathered, taken back with the write that made them, and stored once per commit in _meta, as
 * `rows.posts`, in the page that the journal's counter is in: exact, in the same transaction, and
 * seen by a reader together with the rows. A table is counted from bk_rows_keep on. What is not
 * seen is a DELETE without WHERE, which SQLite does at once: nothing here deletes so.
 *
 * A slot remembers a table's count as of the last commit, so that it is stored without being read;
 * when the schema changes, or a commit fails, it is read again.
 */
#include "store_private.h"

#include <stdio.h>

enum { SLOTS_AT_FIRST = 8, NAME_BYTES_MAX = 300 };

struct store_rows_slot {
    char *name; /* of the table */
    bool is_known, is_kept;
    int64_t count;   /* as of the last commit */
    int64_t pending; /* while the changes are added up */
};

struct store_rows_change {
    uint32_t slot;
    int64_t delta;
};

/* --- what happens ----------------------------------------------------------------------------- */

static struct store_rows_slot *find_slot(struct store_rows *rows, const char *name) {
    for (uint32_t i = 0; i < rows->slot_count; i++) {
        /* The one of the last time comes first: writes come in runs. */
        uint32_t number = (rows->last_slot + i) % rows->slot_count;
        if (strcmp(rows->slots[number].name, name) == 0) {
            rows->last_slot = number;
            return &rows->slots[number];
        }
    }
    return NULL;
}

static struct store_rows_slot *get_slot(struct store_rows *rows, const char *name) {
    struct store_rows_slot *slot = find_slot(rows, name);
    if (slot != NULL)
        return slot;
    if (rows->slot_count == rows->slot_capacity) {
        rows->slot_capacity = rows->slot_capacity == 0 ? SLOTS_AT_FIRST : 2 * rows->slot_capacity;
        rows->slots = bk_realloc(rows->slots, rows->slot_capacity * sizeof(*rows->slots));
    }
    size_t bytes = strlen(name) + 1;
    slot = &rows->slots[rows->slot_count];
    *slot = (struct store_rows_slot){.name = bk_alloc(bytes)};
    memcpy(slot->name, name, bytes);
    rows->last_slot = rows->slot_count++;
    return slot;
}

static void add_change(struct store_rows *rows, const struct store_rows_slot *slot, int64_t delta) {
    uint32_t number = (uint32_t)(slot - rows->slots);
    if (rows->change_count > rows->mark && rows->changes[rows->change_count - 1].slot == number) {
        rows->changes[rows->change_count - 1].delta += delta;
        return;
    }
    if (rows->change_count == rows->change_capacity) {
        rows->change_capacity =
            rows->change_capacity == 0 ? SLOTS_AT_FIRST : 2 * rows->change_capacity;
        rows->changes = bk_realloc(rows->changes, rows->change_capacity * sizeof(*rows->changes));
    }
    rows->changes[rows->change_count++] = (struct store_rows_change){number, delta};
}

/* Tables whose names begin with "_" are the server's own: small, or nobody asks for their
 * totals. */
static void on_row(void *user, int operation, const char *database, const char *table,
                   sqlite3_int64 rowid) {
    struct store_rows *rows = user;
    (void)database;
    (void)rowid;
    if (operation == SQLITE_UPDATE || table[0] == '_' || strncmp(table, "sqlite_", 7) == 0)
        return;
    add_change(rows, get_slot(rows, table), operation == SQLITE_INSERT ? 1 : -1);
}

void store_rows_watch(struct bk_connection *connection) {
    (void)sqlite3_update_hook(connection->handle, on_row, &connection->rows);
}

void store_rows_fini(struct bk_connection *connection) {
    struct store_rows *rows = &connection->rows;
    for (uint32_t i = 0; i < rows->slot_count; i++)
        bk_free(rows->slots[i].name);
    bk_free(rows->slots);
    bk_free(rows->changes);
    *rows = (struct store_rows){0};
}

/* --- transactions ----------------------------------------------------------------------------- */

void store_rows_begin(struct bk_connection *connection) {
    connection->rows.change_count = connection->rows.mark = 0;
}

size_t store_rows_mark(struct bk_connection *connection) {
    connection->rows.mark = connection->rows.change_count;
    return connection->rows.mark;
}

void store_rows_return(struct bk_connection *connection, size_t mark) {
    if (mark < connection->rows.change_count)
        connection->rows.change_count = mark;
    connection->rows.mark = connection->rows.change_count;
}

void store_rows_doubt(struct bk_connection *connection) {
    for (uint32_t i = 0; i < connection->rows.slot_count; i++)
        connection->rows.slots[i].is_known = false;
}

/* --- _meta ------------------------------------------------------------------------------------ */

static struct bk_slice key_of(struct bk_slice table, char room[NAME_BYTES_MAX]) {
    int length = snprintf(room, NAME_BYTES_MAX, "rows.%.*s", BK_SLICE_PRINT(table));
    BK_ASSERT(length > 0 && length < NAME_BYTES_MAX);
    return bk_slice_make(room, (size_t)length);
}

enum bk_status bk_rows_read(struct bk_connection *connection, struct bk_slice table,
                            int64_t *count) {
    static const struct bk_slice text = BK_SLICE_INIT("SELECT value FROM _meta WHERE name=?1");
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    char room[NAME_BYTES_MAX];
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, key_of(table, room));
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *count = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static enum bk_status store_slot(struct bk_connection *connection, struct store_rows_slot *slot) {
    static const struct bk_slice text =
        BK_SLICE_INIT("REPLACE INTO _meta (name, value) VALUES (?1, ?2)");
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_slice table = bk_slice_from(slot->name);
    struct bk_statement *statement;
    char room[NAME_BYTES_MAX];
    enum bk_status status = BK_OK;
    if (!slot->is_known) {
        status = bk_rows_read(connection, table, &slot->count);
        slot->is_kept = status == BK_OK;
        slot->is_known = status == BK_OK || status == BK_NOT_FOUND;
    }
    if (!slot->is_kept || status != BK_OK)
        return status == BK_NOT_FOUND ? BK_OK : status;
    slot->count += slot->pending;
    status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, key_of(table, room));
    bk_statement_bind_int(statement, 2, slot->count);
    return bk_statement_run(statement);
}

enum bk_status store_rows_store(struct bk_connection *connection) {
    struct store_rows *rows = &connection->rows;
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < rows->change_count; i++)
        rows->slots[rows->changes[i].slot].pending += rows->changes[i].delta;
    for (size_t i = 0; i < rows->change_count; i++) {
        struct store_rows_slot *slot = &rows->slots[rows->changes[i].slot];
        if (slot->pending != 0 && status == BK_OK)
            status = store_slot(connection, slot);
        slot->pending = 0;
    }
    return status;
}

/* --- which tables are counted ----------------------------------------------------------------- */

static enum bk_status run(struct bk_connection *connection, const char *text, struct bk_slice first,
                          struct bk_slice second) {
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    struct bk_statement *statement;
    char room[NAME_BYTES_MAX], other[NAME_BYTES_MAX];
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, key_of(first, room));
    if (second.length > 0)
        bk_statement_bind_text(statement, 2, key_of(second, other));
    store_rows_doubt(connection);
    return bk_statement_run(statement);
}

/* What was gathered of the table is in its count by now. */
static void forget_changes(struct store_rows *rows, struct bk_slice table) {
    int64_t pending = 0;
    const struct store_rows_slot *slot = NULL;
    for (size_t i = 0; i < rows->change_count; i++)
        if (bk_slice_equal(bk_slice_from(rows->slots[rows->changes[i].slot].name), table)) {
            slot = &rows->slots[rows->changes[i].slot];
            pending += rows->changes[i].delta;
        }
    if (pending != 0)
        add_change(rows, slot, -pending);
}

enum bk_status bk_rows_keep(struct bk_connection *connection, struct bk_slice table,
                            struct bk_slice quoted) {
    char text[2 * NAME_BYTES_MAX];
    int length = snprintf(text, sizeof text,
                          "REPLACE INTO _meta (name, value) SELECT ?1, COUNT(*) FROM %.*s",
                          BK_SLICE_PRINT(quoted));
    BK_ASSERT(length > 0 && (size_t)length < sizeof text);
    forget_changes(&connection->rows, table);
    return run(connection, text, table, BK_SLICE_EMPTY);
}

enum bk_status bk_rows_rename(struct bk_connection *connection, struct bk_slice from,
                              struct bk_slice to) {
    return run(connection, "UPDATE _meta SET name=?2 WHERE name=?1", from, to);
}

enum bk_status bk_rows_forget(struct bk_connection *connection, struct bk_slice table) {
    return run(connection, "DELETE FROM _meta WHERE name=?1", table, BK_SLICE_EMPTY);
}
