/*
 * Modules: what each brings is registered in the order of modules.def, before any of them runs;
 * then init, prepare, start and stop call them one by one. A module that fails ends the start of
 * the whole: half a server would answer 404 where its data is.
 */
#include "server.h"

#include "bakend/alloc.h"

static enum bk_status on_tenant_open(struct bk_tenant *tenant, void **state, void *user,
                                     struct bk_error *error) {
    struct bk_module_context *context = user;
    if (context->module->tenant_open == NULL)
        return BK_OK;
    return context->module->tenant_open(context, tenant, state, error);
}

static void on_tenant_close(struct bk_tenant *tenant, void *state, void *user) {
    struct bk_module_context *context = user;
    if (context->module->tenant_close != NULL)
        context->module->tenant_close(context, tenant, state);
}

static void add_tenant_slot(struct bk_module_context *context) {
    const struct bk_module *module = context->module;
    struct bk_tenant_slot slot = {.name = module->name,
                                  .migrations = module->migrations,
                                  .migration_count = module->migration_count,
                                  .on_open = on_tenant_open,
                                  .on_close = on_tenant_close,
                                  .user = context};
    if (module->tenant_open != NULL || module->tenant_close != NULL || module->migration_count > 0)
        context->tenant_slot = bk_tenants_add_slot(context->tenants, &slot);
}

/* Two modules that declare the same kind are a fault of the program. */
static void add_work_kinds(struct bk_module_context *context) {
    const struct bk_module *module = context->module;
    for (size_t i = 0; i < module->work_kind_count; i++)
        BK_ASSERT(bk_work_add_kind(context->work, &module->work_kinds[i], context) == BK_OK);
}

/* The noun of "job.failed" names events, so no new collection may be called job. Those of
 * collections themselves ("*.created", "_tenants.created") reserve nothing. */
static void reserve_noun(struct bk_schema_kind *schema, const char *type) {
    struct bk_slice noun = bk_slice_from(type);
    noun.length = bk_slice_find(noun, '.');
    if (noun.length > 0 && noun.data[0] != '*' && noun.data[0] != '_')
        bk_schema_reserve_name(schema, noun);
}

/* Routes are answered before any collection's short form, so none may be called api. */
static void reserve_first_word(struct bk_schema_kind *schema, const char *path) {
    struct bk_slice word = bk_slice_from(path + 1);
    BK_ASSERT(path[0] == '/');
    word.length = bk_slice_find(word, '/');
    if (word.length > 0 && word.data[0] != '{')
        bk_schema_reserve_name(schema, word);
}

static void fill_context(struct server *server, struct bk_module_context *context,
                         const struct bk_module *module, const void *options) {
    *context = (struct bk_module_context){
        .module = module,
        .state = bk_alloc_zero(module->state_size + 1),
        .options = options,
        .log = {server->logger, module->name},
        .loop = server->loop,
        .logger = server->logger,
        .store = server->store,
        .tenants = server->tenants,
        .bus = server->bus,
        .feed = server->feed,
        .schema = server->schema,
        .work = server->work,
        .outbound = server->outbound,
        .api = server->api,
        .data_directory = server->options->data,
        .app_directory = server->options->app,
        .is_serving = server->is_serving,
        .instance_key = {(const char *)server->instance_key, sizeof server->instance_key},
        .modules = server->modules};
}

/* Nouns of events that modules to come will make: no collection of today may be in their way. */
static const char *const nouns_to_come[] = {"function", "job",     "mail",
                                            "plugin",   "storage", "webhook"};

void server_register_modules(struct server *server) {
    for (size_t i = 0; i < BK_COUNT_OF(nouns_to_come); i++)
        bk_schema_reserve_name(server->schema, bk_slice_from(nouns_to_come[i]));
    /* Its route is added at init, by an option. */
    reserve_first_word(server->schema, "/metrics");
    for (size_t i = 0; server->modules[i] != NULL; i++) {
        BK_ASSERT(i < SERVER_MODULES_MAX);
        const struct bk_module *module = server->modules[i];
        struct bk_module_context *context = &server->contexts[i];
        fill_context(server, context, module, server->module_options[i]);
        server->module_count = i + 1;
        for (size_t j = 0; j < module->field_type_count; j++)
            bk_schema_add_type(server->schema, module->field_types[j]);
        for (size_t j = 0; j < module->event_count; j++)
            reserve_noun(server->schema, module->events[j].type);
        for (size_t j = 0; j < module->route_count; j++)
            reserve_first_word(server->schema, module->routes[j].path);
        for (size_t j = 0; j < module->collection_count; j++)
            bk_schema_add_system(server->schema, &module->collections[j], module->name);
        add_work_kinds(context);
        add_tenant_slot(context);
    }
}

enum bk_status server_add_routes(struct server *server, struct bk_error *error) {
    for (size_t i = 0; i < server->module_count; i++) {
        const struct bk_module *module = server->contexts[i].module;
        enum bk_status status = bk_api_add_routes(server->api, module->routes, module->route_count,
                                                  &server->contexts[i]);
        if (status != BK_OK)
            return bk_error_set(error, status, "module %s: a route of it exists already",
                                module->name);
    }
    return BK_OK;
}

enum bk_status server_init_modules(struct server *server, struct bk_error *error) {
    for (; server->initialised_count < server->module_count; server->initialised_count++) {
        struct bk_module_context *context = &server->contexts[server->initialised_count];
        enum bk_status status =
            context->module->init == NULL ? BK_OK : context->module->init(context, error);
        if (status != BK_OK) {
            bk_error_prefix(error, "module %s", context->module->name);
            return status;
        }
    }
    return BK_OK;
}

enum bk_status server_prepare_modules(struct server *server, struct bk_error *error) {
    for (size_t i = 0; i < server->initialised_count; i++) {
        struct bk_module_context *context = &server->contexts[i];
        enum bk_status status =
            context->module->prepare == NULL ? BK_OK : context->module->prepare(context, error);
        if (status != BK_OK) {
            bk_error_prefix(error, "module %s", context->module->name);
            return status;
        }
    }
    return BK_OK;
}

enum bk_status server_start_modules(struct server *server, struct bk_error *error) {
    for (; server->started_count < server->module_count; server->started_count++) {
        struct bk_module_context *context = &server->contexts[server->started_count];
        enum bk_status status =
            context->module->start == NULL ? BK_OK : context->module->start(context, error);
        if (status != BK_OK) {
            /* A module that has nothing to say of it failed on what it keeps. */
            if (status == BK_CORRUPT || error->message[0] == '\0')
                status = bk_database_explain(server->default_tenant->database, status, error);
            if (error->message[0] == '\0')
                bk_error_set(error, status, "%s", bk_status_text(status));
            bk_error_prefix(error, "module %s", context->module->name);
            return status;
        }
    }
    return BK_OK;
}

static void on_stopped(void *user) {
    bool *is_stopped = user;
    *is_stopped = true;
}

void server_stop_modules(struct server *server) {
    while (server->started_count > 0) {
        struct bk_module_context *context = &server->contexts[--server->started_count];
        if (context->module->stop == NULL)
            continue;
        bool is_stopped = false;
        context->module->stop(context, on_stopped, &is_stopped);
        server_wait(server, &is_stopped);
    }
}

void server_fini_modules(struct server *server) {
    while (server->initialised_count > 0) {
        struct bk_module_context *context = &server->contexts[--server->initialised_count];
        if (context->module->fini != NULL)
            context->module->fini(context);
    }
    while (server->module_count > 0)
        bk_free(server->contexts[--server->module_count].state);
}
