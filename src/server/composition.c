/* The kernel, made in the order of its tiers: each part may use those before it. */
#include "server.h"

enum {
    LOG_BUFFER_BYTES = 4 * 1024 * 1024,     /* about a second of a slow pipe at full load */
    REQUEST_ARENA_BYTES = 16 * 1024 * 1024, /* the tree of a large JSON body, many times over */
    ANSWER_MAX_BYTES = 64 * 1024 * 1024,    /* 1,000 large records; more is paged or streamed */
};

static void compose_store(struct server *server) {
    const struct server_options *options = server->options;
    struct bk_store_options store;
    bk_store_options_init(&store);
    store.loop = server->loop;
    store.logger = server->logger;
    store.writer_count = (uint32_t)options->writers;
    store.reader_count = (uint32_t)options->readers;
    store.queue_max = (uint32_t)options->queue_max;
    store.read_queue_max = (uint32_t)options->read_queue_max;
    store.retention_ms = options->retention_max_age_ms;
    store.retention_max_bytes = (uint64_t)options->retention_max_bytes;
    server->store = bk_store_create(&store);
}

static struct bk_log log_of(const struct server *server, const char *component) {
    return (struct bk_log){server->logger, component};
}

static void compose_work(struct server *server) {
    const struct bk_work_options work = {
        .loop = server->loop,
        .store = server->store,
        .tenants = server->tenants,
        .log = log_of(server, "work"),
        .data_directory = server->options->data,
        .instance_key = {(const char *)server->instance_key, sizeof server->instance_key}};
    server->work = bk_work_create(&work);
}

enum bk_status server_compose(struct server *server, struct bk_error *error) {
    const struct server_options *options = server->options;
    (void)error;
    server->loop = bk_loop_create();
    server->logger = bk_logger_create(2, server->log_level, LOG_BUFFER_BYTES);
    server->log = log_of(server, "server");
    compose_store(server);
    server->tenants = bk_tenants_create(server->store, log_of(server, "tenants"), options->data,
                                        (uint32_t)options->open_tenants_max);
    server->bus = bk_bus_create(server->loop, server->store, log_of(server, "bus"));
    server->feed = bk_feed_create(server->loop, server->bus, server->tenants,
                                  log_of(server, "feed"), (size_t)options->tail_max_bytes);
    server->schema = bk_schema_kind_create(server->tenants, log_of(server, "schema"));
    bk_schema_set_rule_check(server->schema, bk_rule_is_valid);
    compose_work(server);
    server->outbound = bk_outbound_create(server->loop);
    struct bk_api_options api = {.loop = server->loop,
                                 .log = log_of(server, "api"),
                                 .tenants = server->tenants,
                                 .tenant_domain = options->tenant_domain,
                                 .cors_origins = options->cors_origins,
                                 .request_arena_bytes = REQUEST_ARENA_BYTES,
                                 .answer_max_bytes = ANSWER_MAX_BYTES,
                                 .requests_memory_max = (size_t)options->requests_max_bytes};
    server->api = bk_api_create(&api);
    return BK_OK;
}

void server_decompose(struct server *server) {
    bk_api_destroy(server->api);
    bk_outbound_destroy(server->outbound);
    bk_work_destroy(server->work);
    bk_schema_kind_destroy(server->schema);
    bk_feed_destroy(server->feed);
    bk_bus_destroy(server->bus);
    bk_tenants_destroy(server->tenants);
    bk_store_destroy(server->store);
    bk_logger_destroy(server->logger);
    bk_loop_on_terminate(server->loop, NULL, NULL);
    bk_loop_destroy(server->loop);
}
