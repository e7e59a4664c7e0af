/* Rows of _collections: the definition as clients see it, and beside it what they do not: the
 * secret that tokens are signed with, the digest of the declaration that a module's collection was
 * made from, and since when it has its name. */
#include "schema_private.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include <stdio.h>

const struct bk_migration schema_migrations[] = {
    {.name = "schema_1_collections",
     .sql = "CREATE TABLE _collections ("
            "id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL UNIQUE COLLATE NOCASE,"
            "definition TEXT NOT NULL, secret TEXT NOT NULL, declared TEXT NOT NULL,"
            "created TEXT NOT NULL, updated TEXT NOT NULL)"},
    {.name = "schema_2_named_after",
     .sql = "ALTER TABLE _collections ADD COLUMN named_after INTEGER NOT NULL DEFAULT 0"},
    /* Which collections of the application's own were made: one that is deleted stays so. */
    {.name = "schema_3_seeds",
     .sql = "CREATE TABLE _seeds (name TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID"},
    /* Of what the table of words beside each collection is made, and which records have words: see
     * search_build.c. */
    {.name = "schema_4_searches",
     .sql = "CREATE TABLE _searches (collection TEXT PRIMARY KEY NOT NULL, made_of TEXT NOT NULL,"
            "done INTEGER NOT NULL, upto INTEGER NOT NULL) WITHOUT ROWID"},
};
const size_t schema_migration_count = BK_COUNT_OF(schema_migrations);

/* --- writing ---------------------------------------------------------------------------------- */

static enum bk_status run(struct bk_statement *statement, struct bk_connection *connection,
                          struct bk_error *error) {
    enum bk_status status = bk_statement_run(statement);
    if (status != BK_OK)
        bk_error_set(error, status, "%s", bk_connection_error(connection));
    return status;
}

static enum bk_status prepare(struct bk_connection *connection, struct bk_slice text,
                              struct bk_statement **statement, struct bk_error *error) {
    const struct bk_sql sql = bk_sql_make(text);
    enum bk_status status = bk_connection_statement(connection, &sql, statement);
    if (status != BK_OK)
        bk_error_set(error, status, "%s", bk_connection_error(connection));
    return status;
}

static uint64_t named_after(const struct bk_transaction *transaction,
                            const struct schema_box *old_box, const struct schema_box *new_box) {
    bool is_kept =
        old_box != NULL && bk_slice_equal(old_box->collection.name, new_box->collection.name);
    return is_kept ? old_box->collection.named_after : bk_transaction_sequence(transaction);
}

enum bk_status schema_row_write(struct bk_transaction *transaction,
                                const struct schema_box *old_box, struct schema_box *new_box,
                                struct bk_slice declared, struct bk_error *error) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_statement *statement;
    struct bk_slice sql = BK_SLICE("DELETE FROM _collections WHERE id = ?1");
    if (new_box != NULL && old_box == NULL)
        sql = BK_SLICE("INSERT INTO _collections (id, name, definition, secret, declared, created, "
                       "updated, named_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    else if (new_box != NULL)
        sql = BK_SLICE("UPDATE _collections SET name = ?2, definition = ?3, secret = ?4, "
                       "declared = ?5, created = ?6, updated = ?7, named_after = ?8 "
                       "WHERE id = ?1");
    enum bk_status status = prepare(connection, sql, &statement, error);
    if (status != BK_OK)
        return status;
    const struct bk_collection *collection =
        new_box == NULL ? &old_box->collection : &new_box->collection;
    bk_statement_bind_text(statement, 1, collection->id);
    if (new_box != NULL) {
        bk_statement_bind_text(statement, 2, collection->name);
        bk_statement_bind_text(statement, 3, collection->definition);
        bk_statement_bind_text(statement, 4, collection->secrets);
        bk_statement_bind_text(statement, 5, declared);
        bk_statement_bind_text(statement, 6, collection->created);
        bk_statement_bind_text(statement, 7, collection->updated);
        new_box->collection.named_after = named_after(transaction, old_box, new_box);
        bk_statement_bind_int(statement, 8, (int64_t)collection->named_after);
    }
    return run(statement, connection, error);
}

enum bk_status schema_row_declared(struct bk_connection *connection, struct bk_slice name,
                                   char *digest, size_t size) {
    struct bk_statement *statement;
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT declared FROM _collections WHERE name = ?1"));
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    digest[0] = '\0';
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_slice text = bk_statement_text(statement, 0);
        snprintf(digest, size, "%.*s", BK_SLICE_PRINT(text));
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

enum bk_status schema_row_sow(struct bk_transaction *transaction, struct bk_slice name,
                              bool *is_first, struct bk_error *error) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_statement *statement;
    enum bk_status status = prepare(connection,
                                    BK_SLICE("INSERT INTO _seeds (name) VALUES (?1) "
                                             "ON CONFLICT DO NOTHING RETURNING 1"),
                                    &statement, error);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    status = bk_statement_step(statement);
    *is_first = status == BK_OK;
    bk_statement_reset(statement);
    if (status == BK_OK || status == BK_END)
        return BK_OK;
    return bk_error_set(error, status, "%s", bk_connection_error(connection));
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum bk_status read_row(const struct bk_schema_kind *kind, struct bk_statement *statement,
                               struct bk_arena *arena, struct schema_box *box,
                               struct bk_error *error) {
    struct bk_json *definition;
    struct bk_problems problems;
    bk_problems_init(&problems, arena);
    enum bk_status status =
        bk_json_parse(arena, bk_statement_text(statement, 0), &definition, error);
    if (status != BK_OK)
        return status;
    const struct schema_source source = {.given = definition, .is_stored = true, .arena = arena};
    box->collection.secrets = bk_arena_copy(&box->arena, bk_statement_text(statement, 1));
    box->collection.named_after = (uint64_t)bk_statement_int(statement, 3);
    status = schema_definition_read(kind, &source, box, &problems, error);
    if (status == BK_OK && box->collection.id_field == NULL)
        status = bk_error_set(error, BK_CORRUPT, "it has no id field");
    return status == BK_OK ? schema_box_finish(kind, box) : status;
}

struct boxes {
    struct schema_box **items;
    size_t count, capacity;
};

static void boxes_add(struct boxes *boxes, struct schema_box *box) {
    if (boxes->count == boxes->capacity) {
        boxes->capacity = boxes->capacity == 0 ? 32 : 2 * boxes->capacity;
        boxes->items = bk_realloc(boxes->items, sizeof(struct schema_box *) * boxes->capacity);
    }
    boxes->items[boxes->count++] = box;
}

static enum bk_status read_all(const struct bk_schema_kind *kind, struct bk_statement *statement,
                               struct boxes *boxes, struct bk_error *error) {
    struct bk_arena arena;
    bk_arena_init(&arena, SCHEMA_BOX_BYTES_MAX);
    enum bk_status status;
    while ((status = bk_statement_step(statement)) == BK_OK) {
        struct schema_box *box = schema_box_create();
        boxes_add(boxes, box);
        status = read_row(kind, statement, &arena, box, error);
        if (status != BK_OK) {
            bk_error_prefix(error, "collection \"%.*s\" cannot be read",
                            BK_SLICE_PRINT(bk_statement_text(statement, 2)));
            if (status != BK_NO_MEMORY)
                status = BK_CORRUPT;
            break;
        }
        bk_arena_reset(&arena);
    }
    bk_statement_reset(statement);
    bk_arena_fini(&arena);
    return status == BK_END ? BK_OK : status;
}

enum bk_status schema_rows_read(const struct bk_schema_kind *kind, struct bk_connection *connection,
                                struct bk_schema **schema, struct bk_error *error) {
    struct bk_statement *statement;
    struct boxes boxes = {NULL, 0, 0};
    enum bk_status status = prepare(connection,
                                    BK_SLICE("SELECT definition, secret, name, named_after "
                                             "FROM _collections ORDER BY rowid"),
                                    &statement, error);
    if (status != BK_OK)
        return status;
    status = read_all(kind, statement, &boxes, error);
    if (status == BK_OK)
        *schema = schema_snapshot_create(boxes.items, boxes.count, NULL, 1);
    for (size_t i = 0; status != BK_OK && i < boxes.count; i++)
        schema_box_unref(boxes.items[i]);
    bk_free(boxes.items);
    return status;
}
