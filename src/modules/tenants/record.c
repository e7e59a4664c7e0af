/* Reads of the table behind `_tenants`, on the loop: single rows by key, and all names once at
 * start. */
#include "tenants_private.h"

enum { PAGE_MAX = 500 };

/* Of "default", which is open as long as the server is. */
static struct bk_database *database_of_default(const struct bk_module_context *context) {
    struct bk_tenant *tenant = bk_tenant_hold_open(context->tenants, BK_SLICE("default"));
    BK_ASSERT(tenant != NULL);
    struct bk_database *database = tenant->database;
    bk_tenant_release(tenant);
    return database;
}

enum bk_status tenants_find(const struct bk_module_context *context, struct bk_slice id_or_name,
                            struct bk_arena *arena, struct tenants_record *record) {
    struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT id, name FROM _tenants WHERE id = ?1 OR name = ?1 "
                             "ORDER BY name = ?1 DESC LIMIT 1"));
    struct bk_connection *connection = bk_store_read_now(database_of_default(context));
    struct bk_statement *statement = NULL;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id_or_name);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        record->id = bk_arena_copy(arena, bk_statement_text(statement, 0));
        record->name = bk_arena_copy(arena, bk_statement_text(statement, 1));
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* The names that follow the last one, in their order; it becomes the last of them. BK_END: these
 * were all. */
static enum bk_status read_page(struct bk_connection *connection, struct bk_buffer *last,
                                void (*on_record)(void *user, struct bk_slice name), void *user) {
    struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT name FROM _tenants WHERE name > ?1 ORDER BY name LIMIT ?2"));
    struct bk_statement *statement = NULL;
    uint32_t count = 0;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_buffer_slice(last));
    bk_statement_bind_int(statement, 2, PAGE_MAX);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        struct bk_slice name = bk_statement_text(statement, 0);
        on_record(user, name);
        if (++count < PAGE_MAX)
            continue;
        bk_buffer_clear(last);
        bk_buffer_append_slice(last, name);
        status = bk_buffer_status(last);
        break;
    }
    bk_statement_reset(statement);
    return status;
}

/* In pages, since a statement on the loop has a deadline, whatever the number of tenants. */
enum bk_status tenants_for_each_record(const struct bk_module_context *context,
                                       void (*on_record)(void *user, struct bk_slice name),
                                       void *user, struct bk_error *error) {
    struct bk_database *database = database_of_default(context);
    struct bk_connection *connection = bk_store_read_now(database);
    enum bk_status status = BK_OK;
    struct bk_buffer last;
    if (connection == NULL)
        return bk_error_set(error, BK_CLOSING, "_tenants cannot be read");
    bk_buffer_init(&last, TENANTS_BODY_MAX_BYTES);
    while (status == BK_OK)
        status = read_page(connection, &last, on_record, user);
    bk_buffer_fini(&last);
    if (status == BK_END)
        return BK_OK;
    bk_error_set(error, status, "_tenants cannot be read: %s", bk_connection_error(connection));
    return bk_database_explain(database, status, error);
}
