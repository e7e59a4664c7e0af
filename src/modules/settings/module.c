/*
 * Settings: what a tenant's superusers set for the whole of it, in the contract's groups. All of
 * them are stored and judged; what other modules use of them they find in tenant->settings
 * (bakend/settings.h). Settings of the process, its addresses and threads, are options of the
 * command line and not here.
 *
 *   shape.c    which settings there are, and what they are from the start
 *   check.c    what makes them wrong
 *   store.c    the row
 *   routes.c   GET and PATCH /api/settings
 *   rename.c   rate limits follow a collection that gets another name
 */
#include "settings.h"

#include "bakend/alloc.h"

static const struct bk_route_parameter fields_parameter[] = {
    {"fields", "query", "string", "Which members to answer, separated by commas; all when absent."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route routes[] = {
    {.method = BK_GET,
     .path = "/api/settings",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Answers the tenant's settings, without secrets.",
     .tag = "settings",
     .parameters = fields_parameter,
     .handle = settings_view},
    {.method = BK_PATCH,
     .path = "/api/settings",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = SETTINGS_BYTES_MAX,
     .has_json_body = true,
     .summary = "Changes the given settings and answers all of them.",
     .tag = "settings",
     .parameters = fields_parameter,
     .handle = settings_update},
};

static const struct bk_event_declaration events[] = {
    {"settings.updated", true, "SettingsUpdated",
     "A superuser changed the settings; previous holds the former ones."},
};

static enum bk_status on_tenant_open(struct bk_module_context *context, struct bk_tenant *tenant,
                                     void **state, struct bk_error *error) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_arena arena;
    struct bk_json *whole;
    (void)context;
    if (connection == NULL)
        return bk_error_set(error, BK_IO, "the settings cannot be read");
    bk_arena_init(&arena, SETTINGS_TREE_BYTES_MAX);
    enum bk_status status = settings_read(connection, &arena, &whole, error);
    if (status == BK_OK) {
        struct settings_tenant *made = bk_alloc_zero(sizeof *made);
        struct bk_settings shared;
        settings_tenant_init(made);
        settings_share(whole, &arena, &shared);
        settings_keep(made, &shared);
        tenant->settings = &made->shared;
        *state = made;
    } else {
        bk_error_prefix(error, "the settings cannot be read");
    }
    bk_arena_fini(&arena);
    return status;
}

static void on_tenant_close(struct bk_module_context *context, struct bk_tenant *tenant,
                            void *state) {
    (void)context;
    tenant->settings = NULL;
    settings_forget(state);
    bk_free(state);
}

/* --- following collections -------------------------------------------------------------------- */

struct settings_state {
    struct bk_module_context *context;
    struct bk_subscription renames;
};

static enum bk_status on_collection(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                    struct bk_event *event) {
    const struct settings_state *state =
        bk_container_of(subscription, struct settings_state, renames);
    return settings_follow_rename(tenant->slots[state->context->tenant_slot], tenant, event);
}

static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    struct settings_state *state = context->state;
    state->context = context;
    state->renames = (struct bk_subscription){.name = "settings.renames",
                                              .phase = BK_PHASE_FUNCTIONS,
                                              .pattern = BK_SLICE("_collections.updated"),
                                              .on_event = on_collection};
    enum bk_status status = bk_bus_subscribe(context->bus, &state->renames);
    return status == BK_OK ? BK_OK : bk_error_set(error, status, "cannot subscribe");
}

static void on_fini(struct bk_module_context *context) {
    struct settings_state *state = context->state;
    bk_bus_unsubscribe(context->bus, &state->renames);
}

extern const struct bk_module bk_module_settings;
const struct bk_module bk_module_settings = {
    .name = "settings",
    .summary = "What a tenant's superusers set for the whole of it.",
    .migrations = settings_migrations,
    .migration_count = SETTINGS_MIGRATION_COUNT,
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .state_size = sizeof(struct settings_state),
    .init = on_init,
    .fini = on_fini,
    .tenant_open = on_tenant_open,
    .tenant_close = on_tenant_close,
};
