/* The life of a module as the server leads it, for one module alone. */
#include "module_fixture.h"

#include "bakend/alloc.h"

enum {
    ARENA_BYTES = 256 * 1024,
    ANSWER_BYTES = 16 * 1024 * 1024,
    TURNS_MAX = 1000,
    GRACE_MS = 1000, /* of handlers, when the module is closed */
};

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

static bool declares_work(const struct bk_module *module) {
    for (size_t i = 0; i < module->collection_count; i++)
        if (module->collections[i].definition == bk_work_definition)
            return true;
    return false;
}

static void create_schema(struct support_module *fixture, const struct bk_module *module) {
    static const struct bk_system_collection tasks = {
        .definition = bk_work_definition, .role = BK_ROLE_STATE, .is_closed = true};
    fixture->schema = NULL;
    if (module->collection_count == 0 && module->work_kind_count == 0)
        return;
    fixture->schema = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    if (module->work_kind_count > 0 && !declares_work(module))
        bk_schema_add_system(fixture->schema, &tasks, "jobs");
    for (size_t i = 0; i < module->collection_count; i++)
        bk_schema_add_system(fixture->schema, &module->collections[i], module->name);
}

static void create_work(struct support_module *fixture, const struct bk_module *module,
                        struct bk_logger *logger) {
    const struct bk_work_options options = {.loop = fixture->kernel.loop,
                                            .store = fixture->kernel.store,
                                            .tenants = fixture->kernel.tenants,
                                            .log = {logger, "work"},
                                            .data_directory = fixture->kernel.directory};
    fixture->work = NULL;
    if (module->work_kind_count == 0 && !declares_work(module))
        return;
    fixture->work = bk_work_create(&options);
    for (size_t i = 0; i < module->work_kind_count; i++)
        assert_int_equal(bk_work_add_kind(fixture->work, &module->work_kinds[i], &fixture->context),
                         BK_OK);
}

static void create_kernel(struct support_module *fixture,
                          const struct bk_store_options *store_options, struct bk_logger *logger) {
    struct bk_loop *loop;
    support_kernel_create(&fixture->kernel, store_options);
    loop = fixture->kernel.loop;
    fixture->bus = bk_bus_create(loop, fixture->kernel.store, (struct bk_log){logger, "bus"});
    fixture->feed = bk_feed_create(loop, fixture->bus, fixture->kernel.tenants,
                                   (struct bk_log){logger, "feed"}, SUPPORT_FEED_TAIL_BYTES);
    struct bk_api_options options = {.loop = loop,
                                     .log = {logger, "api"},
                                     .tenants = fixture->kernel.tenants,
                                     .request_arena_bytes = ARENA_BYTES,
                                     .answer_max_bytes = ANSWER_BYTES};
    fixture->api = bk_api_create(&options);
}

void support_module_open_on(struct support_module *fixture,
                            const struct bk_store_options *store_options,
                            const struct bk_module *module, const void *options,
                            struct bk_logger *logger) {
    struct bk_module_context *context = &fixture->context;
    struct bk_error error = BK_ERROR_INIT;
    create_kernel(fixture, store_options, logger);
    create_schema(fixture, module);
    create_work(fixture, module, logger);
    bk_buffer_init(&fixture->answer, ANSWER_BYTES);
    *context = (struct bk_module_context){.module = module,
                                          .state = bk_alloc_zero(module->state_size + 1),
                                          .options = options,
                                          .log = {logger, module->name},
                                          .loop = fixture->kernel.loop,
                                          .logger = logger,
                                          .store = fixture->kernel.store,
                                          .tenants = fixture->kernel.tenants,
                                          .bus = fixture->bus,
                                          .feed = fixture->feed,
                                          .schema = fixture->schema,
                                          .work = fixture->work,
                                          .api = fixture->api,
                                          .data_directory = fixture->kernel.directory};
    struct bk_tenant_slot slot = {.name = module->name,
                                  .migrations = module->migrations,
                                  .migration_count = module->migration_count,
                                  .on_open = on_tenant_open,
                                  .on_close = on_tenant_close,
                                  .user = context};
    context->tenant_slot = bk_tenants_add_slot(fixture->kernel.tenants, &slot);
    if (module->init != NULL)
        assert_int_equal(module->init(context, &error), BK_OK);
    assert_int_equal(bk_api_add_routes(fixture->api, module->routes, module->route_count, context),
                     BK_OK);
    support_kernel_open(&fixture->kernel);
    if (module->start != NULL)
        assert_int_equal(module->start(context, &error), BK_OK);
    if (fixture->work != NULL)
        bk_work_start(fixture->work);
}

void support_module_open(struct support_module *fixture, const struct bk_module *module,
                         const void *options, struct bk_logger *logger) {
    support_module_open_on(fixture, NULL, module, options, logger);
}

static void on_stopped(void *user) { *(bool *)user = true; }

static void stop_work(struct support_module *fixture) {
    bool is_stopped = fixture->work == NULL;
    if (fixture->work != NULL)
        bk_work_stop(fixture->work, GRACE_MS, on_stopped, &is_stopped);
    support_loop_run_until(fixture->kernel.loop, &is_stopped);
}

static void close_work(struct support_module *fixture) {
    bool is_closed = fixture->work == NULL;
    if (fixture->work != NULL)
        bk_work_close(fixture->work, on_stopped, &is_closed);
    support_loop_run_until(fixture->kernel.loop, &is_closed);
}

void support_module_close(struct support_module *fixture) {
    const struct bk_module *module = fixture->context.module;
    bool is_stopped = module->stop == NULL;
    support_module_settle(fixture);
    stop_work(fixture);
    if (module->stop != NULL)
        module->stop(&fixture->context, on_stopped, &is_stopped);
    support_loop_run_until(fixture->kernel.loop, &is_stopped);
    support_kernel_close(&fixture->kernel);
    close_work(fixture);
    if (module->fini != NULL)
        module->fini(&fixture->context);
    if (fixture->work != NULL)
        bk_work_destroy(fixture->work);
    if (fixture->schema != NULL)
        bk_schema_kind_destroy(fixture->schema);
    bk_free(fixture->context.state);
    bk_api_destroy(fixture->api);
    bk_feed_destroy(fixture->feed);
    bk_bus_destroy(fixture->bus);
    bk_buffer_fini(&fixture->answer);
    support_kernel_destroy(&fixture->kernel);
}

struct waiting_call {
    struct bk_call call;
    struct bk_buffer *answer;
    bool is_done;
};

static void on_answer(struct bk_call *call) {
    struct waiting_call *waiting = bk_container_of(call, struct waiting_call, call);
    bk_buffer_append_slice(waiting->answer, call->answer);
    waiting->is_done = true;
}

int support_module_call_as(struct support_module *fixture, const struct bk_actor *actor,
                           enum bk_method method, const char *target) {
    struct waiting_call waiting = {.call = {.actor = actor,
                                            .tenant = fixture->call_tenant,
                                            .method = method,
                                            .target = bk_slice_from(target),
                                            .done = on_answer},
                                   .answer = &fixture->answer};
    bk_buffer_clear(&fixture->answer);
    bk_api_call(fixture->api, &waiting.call);
    support_loop_run_until(fixture->kernel.loop, &waiting.is_done);
    bk_buffer_append_char(&fixture->answer, '\0');
    fixture->answer.length--;
    return waiting.call.status;
}

int support_module_call(struct support_module *fixture, enum bk_method method, const char *target) {
    return support_module_call_as(fixture, &bk_actor_system, method, target);
}

void support_module_settle(struct support_module *fixture) {
    for (int i = 0; i < TURNS_MAX && !bk_bus_is_idle(fixture->bus); i++)
        support_loop_run_for(fixture->kernel.loop, 1);
    assert_true(bk_bus_is_idle(fixture->bus));
}
