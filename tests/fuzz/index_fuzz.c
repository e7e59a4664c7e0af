/*
 * CREATE INDEX statements through the schema's reader.
 *
 * Whatever the bytes: what is read and written again reads as the same index, and is written the
 * same a second time; and where SQLite takes the statement as it was given, it takes it as it is
 * written.
 */
#include "fuzz.h"

#include "kernel/schema/schema_private.h"

#include <sqlite3.h>

enum { ARENA_BYTES_MAX = 4 * 1024 * 1024 };

static sqlite3 *database;

static void open_database(void) {
    static const char tables[] =
        "CREATE TABLE t (a TEXT, b INTEGER, \"c d\" REAL); CREATE TABLE \"u v\" (a, b);";
    if (database != NULL)
        return;
    BK_ASSERT(sqlite3_open(":memory:", &database) == SQLITE_OK);
    /* As the store opens its own. */
    (void)sqlite3_db_config(database, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    (void)sqlite3_db_config(database, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    BK_ASSERT(sqlite3_exec(database, tables, NULL, NULL, NULL) == SQLITE_OK);
}

/* Prepared, never run; one statement and nothing behind it. */
static bool is_taken(struct bk_slice sql) {
    sqlite3_stmt *statement = NULL;
    const char *tail = NULL;
    int result = sqlite3_prepare_v2(database, sql.data, (int)sql.length, &statement, &tail);
    bool is_whole = result == SQLITE_OK && statement != NULL && tail == sql.data + sql.length;
    sqlite3_finalize(statement);
    return is_whole;
}

static void check_same(const struct schema_index *a, const struct schema_index *b) {
    BK_ASSERT(a->is_unique == b->is_unique && a->is_optional == b->is_optional);
    BK_ASSERT(bk_slice_equal(a->database, b->database) && bk_slice_equal(a->name, b->name));
    BK_ASSERT(bk_slice_equal(a->table, b->table) && bk_slice_equal(a->condition, b->condition));
    BK_ASSERT(a->column_count == b->column_count);
    for (uint32_t i = 0; i < a->column_count; i++) {
        BK_ASSERT(bk_slice_equal(a->columns[i].name, b->columns[i].name));
        BK_ASSERT(bk_slice_equal(a->columns[i].collation, b->columns[i].collation));
        BK_ASSERT(bk_slice_equal(a->columns[i].order, b->columns[i].order));
    }
}

static void check(struct bk_slice sql, struct bk_arena *arena) {
    struct schema_index index, again;
    if (!schema_index_parse(sql, arena, &index))
        return;
    struct bk_slice built = schema_index_build(&index, arena);
    if (!is_taken(sql))
        return;
    BK_ASSERT(schema_index_parse(built, arena, &again));
    check_same(&index, &again);
    BK_ASSERT(bk_slice_equal(built, schema_index_build(&again, arena)));
    BK_ASSERT(is_taken(built));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice sql = fuzz_copy(data, size);
    struct bk_arena arena;
    open_database();
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    check(sql, &arena);
    bk_arena_fini(&arena);
    fuzz_free(sql);
    return 0;
}
