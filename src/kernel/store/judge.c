/*
 * SQL that a client has written: the SELECT of a view. SQLite compiles it with an authorizer that
 * lets it read and nothing else, and asks the caller about each table and column. The statement is
 * thrown away: what may run is made of the same text by whoever had it judged.
 *
 * SELECT, recursive WITH, JSON's table functions and all functions but those that leave the
 * database are let through; everything else ends the compilation. The authorizer is there for this
 * compilation alone, since the program's own statements are not asked.
 */
#include "store_private.h"

#include <stdio.h>

struct judging {
    struct bk_sql_judge *judge;
    bool is_refused;
    char refused[160]; /* what was not allowed, for the message */
};

static struct bk_slice slice_of(const char *text) {
    return text == NULL ? BK_SLICE("") : bk_slice_from(text);
}

static bool is_one_of(const char *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bk_slice_equal_ignore_case(slice_of(name), bk_slice_from(names[i])))
            return true;
    return false;
}

static bool is_harmless_function(const char *name) {
    static const char *const outside[] = {"load_extension", "fts3_tokenizer", "readfile",
                                          "writefile",      "edit",           "lsdir",
                                          "fsdir",          "sqlite_log"};
    return !is_one_of(name, outside, BK_COUNT_OF(outside));
}

static bool is_table_function(const char *name) {
    static const char *const functions[] = {"json_each", "json_tree"};
    return is_one_of(name, functions, BK_COUNT_OF(functions));
}

static bool is_allowed(const struct judging *judging, int action, const char *first,
                       const char *second, const char *through) {
    const struct bk_sql_judge *judge = judging->judge;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_RECURSIVE:
        return true;
    case SQLITE_FUNCTION:
        return is_harmless_function(second);
    case SQLITE_READ:
        return is_table_function(first) ||
               judge->may_read(judge->user, slice_of(first), slice_of(second), slice_of(through));
    default:
        return false;
    }
}

static int on_authorize(void *user, int action, const char *first, const char *second,
                        const char *database, const char *through) {
    struct judging *judging = user;
    (void)database;
    if (is_allowed(judging, action, first, second, through))
        return SQLITE_OK;
    if (!judging->is_refused) {
        struct bk_slice table = slice_of(first), column = slice_of(second);
        const char *point = table.length > 0 && column.length > 0 ? "." : "";
        (void)snprintf(judging->refused, sizeof(judging->refused), "%.*s%s%.*s is not allowed here",
                       BK_SLICE_PRINT(table), point, BK_SLICE_PRINT(column));
    }
    judging->is_refused = true;
    return SQLITE_DENY;
}

static enum bk_status refuse(struct bk_connection *connection, const char *reason) {
    (void)snprintf(connection->error, sizeof(connection->error), "%s", reason);
    return BK_INVALID;
}

static enum bk_status read_columns(sqlite3_stmt *handle, struct bk_sql_judge *judge) {
    uint32_t count = (uint32_t)sqlite3_column_count(handle);
    judge->columns = bk_arena_alloc_zero(judge->arena, sizeof(*judge->columns) * (count + 1));
    if (judge->arena->is_overflown)
        return bk_arena_status(judge->arena);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = sqlite3_column_name(handle, (int)i);
        const char *type = sqlite3_column_decltype(handle, (int)i);
        judge->columns[i].name = bk_arena_copy(judge->arena, slice_of(name));
        judge->columns[i].type = bk_arena_copy(judge->arena, slice_of(type));
    }
    judge->column_count = count;
    return bk_arena_status(judge->arena);
}

/* A table function is declared when a connection first names it, which is more than a SELECT. */
static void open_table_functions(struct bk_connection *connection) {
    static const char *const statements[] = {"SELECT 1 FROM json_each('[]')",
                                             "SELECT 1 FROM json_tree('[]')"};
    for (size_t i = 0; i < BK_COUNT_OF(statements); i++) {
        sqlite3_stmt *handle = NULL;
        (void)sqlite3_prepare_v2(connection->handle, statements[i], -1, &handle, NULL);
        (void)sqlite3_finalize(handle);
    }
}

enum bk_status bk_connection_judge(struct bk_connection *connection, struct bk_slice sql,
                                   struct bk_sql_judge *judge) {
    struct judging judging = {.judge = judge};
    sqlite3_stmt *handle = NULL;
    const char *rest = NULL;
    enum bk_status status = BK_OK;
    connection->error[0] = '\0';
    open_table_functions(connection);
    if (sql.length == 0 || memchr(sql.data, '\0', sql.length) != NULL)
        return refuse(connection, "it must be one SELECT");
    (void)sqlite3_set_authorizer(connection->handle, on_authorize, &judging);
    int code = sqlite3_prepare_v3(connection->handle, sql.data, (int)sql.length, 0, &handle, &rest);
    (void)sqlite3_set_authorizer(connection->handle, NULL, NULL);
    if (code != SQLITE_OK)
        status = store_connection_fail(connection, code);
    if (judging.is_refused)
        status = refuse(connection, judging.refused);
    else if (status == BK_OK && (handle == NULL || rest != sql.data + sql.length))
        status = refuse(connection, "it must be one SELECT");
    else if (status == BK_OK && sqlite3_bind_parameter_count(handle) > 0)
        status = refuse(connection, "parameters are not allowed in views");
    else if (status == BK_OK && sqlite3_stmt_readonly(handle) == 0)
        status = refuse(connection, "it must be one SELECT");
    if (status == BK_OK)
        status = read_columns(handle, judge);
    (void)sqlite3_finalize(handle);
    return status;
}
