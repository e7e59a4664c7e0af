/*
 * Tenants: each one is a directory with its own database, and a record of `_tenants` in the tenant
 * "default". The record is what makes it exist; the directory is made before it and removed after
 * it:
 *
 *   create   directory · marker "unfinished" · first superuser · record · marker gone
 *   delete   marker "unfinished" · record gone · directory gone
 *
 * So whatever a crash leaves can be told apart at the next start (repair.c): a marked or empty
 * directory without a record was never finished and is removed; one with a database and no marker
 * lost its record (a restored "default", say) and gets one again. A directory with a record, or
 * with anything else in it, is never removed.
 *
 * "default" has no record: it is always there. Records are read through the router, by the rules of
 * their collection, which only operators reach; they are written by this module alone, since a
 * record that came or went by itself would not fit the directories. A tenant's name is its
 * directory and does not change.
 */
#include "tenants_private.h"

extern const struct bk_module bk_module_tenants;

static const struct bk_system_collection collections[] = {
    {.definition = "{\"name\":\"_tenants\",\"type\":\"base\",\"system\":true,\"fields\":["
                   "{\"name\":\"name\",\"type\":\"text\",\"required\":true,\"presentable\":true,"
                   "\"min\":1,\"max\":63,\"pattern\":\"^[a-z0-9][a-z0-9-]*$\"},"
                   "{\"name\":\"description\",\"type\":\"text\",\"max\":1000},"
                   "{\"name\":\"created\",\"type\":\"autodate\",\"onCreate\":true},"
                   "{\"name\":\"updated\",\"type\":\"autodate\",\"onCreate\":true,"
                   "\"onUpdate\":true}],"
                   "\"indexes\":[\"CREATE UNIQUE INDEX `idx__tenants_name` ON `_tenants` "
                   "(`name`)\"]}",
     .role = BK_ROLE_CONFIGURATION,
     .is_operators = true,
     .is_closed = true,
     .alias = "tenants"},
};

static const struct bk_route routes[] = {
    {.method = BK_POST,
     .path = "/api/tenants",
     .access = BK_ACCESS_OPERATOR,
     .scope = "tenants:write",
     .body_max_bytes = TENANTS_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Makes a tenant, with its first superuser when one is given.",
     .tag = "tenants",
     .handle = tenants_create},
    {.method = BK_GET,
     .path = "/api/tenants",
     .access = BK_ACCESS_OPERATOR,
     .scope = "tenants:read",
     .summary = "Lists the tenants but for default, which is always there.",
     .tag = "tenants",
     .handle = tenants_list},
    {.method = BK_GET,
     .path = "/api/tenants/{tenant}",
     .access = BK_ACCESS_OPERATOR,
     .scope = "tenants:read",
     .summary = "Answers a tenant by its id or its name.",
     .tag = "tenants",
     .handle = tenants_view},
    {.method = BK_PATCH,
     .path = "/api/tenants/{tenant}",
     .access = BK_ACCESS_OPERATOR,
     .scope = "tenants:write",
     .body_max_bytes = TENANTS_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Changes a tenant's description, by its id or its name.",
     .tag = "tenants",
     .handle = tenants_update},
    {.method = BK_DELETE,
     .path = "/api/tenants/{tenant}",
     .access = BK_ACCESS_OPERATOR,
     .scope = "tenants:write",
     .summary = "Removes a tenant, by its id or its name, with all of its data.",
     .tag = "tenants",
     .handle = tenants_delete},
};

static const struct bk_event_declaration events[] = {
    {"_tenants.created", true, "TenantCreated", "A tenant was made."},
    {"_tenants.updated", true, "TenantUpdated", "A tenant's description was changed."},
    {"_tenants.deleted", true, "TenantDeleted", "A tenant was removed with its data."},
};

static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    struct tenants_state *state = context->state;
    (void)error;
    state->context = context;
    return BK_OK;
}

static enum bk_status on_start(struct bk_module_context *context, struct bk_error *error) {
    return tenants_repair(context->state, error);
}

static void on_stop(struct bk_module_context *context, void (*stopped)(void *user), void *user) {
    struct tenants_state *state = context->state;
    if (state->pending_count == 0) {
        stopped(user);
        return;
    }
    state->stopped = stopped;
    state->stopped_user = user;
}

const struct bk_module bk_module_tenants = {
    .name = "tenants",
    .summary = "Makes, lists and removes tenants.",
    .collections = collections,
    .collection_count = BK_COUNT_OF(collections),
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .state_size = sizeof(struct tenants_state),
    .init = on_init,
    .start = on_start,
    .stop = on_stop,
};
