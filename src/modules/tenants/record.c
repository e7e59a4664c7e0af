/* Reads of the table behind `_tenants`, on the loop: single rows by key, and all names once at
 * start. */
#include "tenants_private.h"

/* The connection of "default", which is open as long as the server is. */
static struct bk_connection *connection_of_default(const struct bk_module_context *context) {
    struct bk_tenant *tenant = bk_tenant_hold_open(context->tenants, BK_SLICE("default"));
    BK_ASSERT(tenant != NULL);
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    bk_tenant_release(tenant);
    return connection;
}

enum bk_status tenants_find(const struct bk_module_context *context, struct bk_slice id_or_name,
                            struct bk_arena *arena, struct tenants_record *record) {
    struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT id, name FROM _tenants WHERE id = ?1 OR name = ?1 "
                             "ORDER BY name = ?1 DESC LIMIT 1"));
    struct bk_connection *connection = connection_of_default(context);
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

enum bk_status tenants_for_each_record(const struct bk_module_context *context,
                                       void (*on_record)(void *user, struct bk_slice name),
                                       void *user) {
    struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT name FROM _tenants"));
    struct bk_connection *connection = connection_of_default(context);
    struct bk_statement *statement = NULL;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    while ((status = bk_statement_step(statement)) == BK_OK)
        on_record(user, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}
