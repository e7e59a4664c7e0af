/* A tenant with the tables of webhooks, and writes to them, without the module's life. */
#ifndef BAKEND_TESTS_WEBHOOKS_CONFIG_FIXTURE_H
#define BAKEND_TESTS_WEBHOOKS_CONFIG_FIXTURE_H

#include "webhooks.h"

#include "bakend/json.h"

#include "kernel_fixture.h"

extern const struct bk_module bk_module_webhooks;

struct config_fixture {
    struct support_kernel kernel;
    struct bk_schema_kind *schema;
    struct webhooks_options options;
    struct bk_module_context context;
    struct webhooks_state state;
};

static inline void config_fixture_open(struct config_fixture *fixture) {
    const struct bk_module *module = &bk_module_webhooks;
    const struct bk_tenant_slot slot = {.name = "webhooks",
                                        .migrations = module->migrations,
                                        .migration_count = module->migration_count};
    *fixture = (struct config_fixture){.options = {.timeout_ms = 15000, .origin = ""}};
    assert_int_equal(bk_crypto_init(), BK_OK);
    support_kernel_create(&fixture->kernel, NULL);
    fixture->schema = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    for (size_t i = 0; i < module->collection_count; i++)
        bk_schema_add_system(fixture->schema, &module->collections[i], "webhooks");
    (void)bk_tenants_add_slot(fixture->kernel.tenants, &slot);
    support_kernel_open(&fixture->kernel);
    fixture->context =
        (struct bk_module_context){.schema = fixture->schema, .options = &fixture->options};
    fixture->state.context = &fixture->context;
    memset(fixture->state.key, 7, sizeof fixture->state.key);
}

static inline void config_fixture_close(struct config_fixture *fixture) {
    support_kernel_close(&fixture->kernel);
    bk_schema_kind_destroy(fixture->schema);
    support_kernel_destroy(&fixture->kernel);
}

struct config_fixture_write {
    struct bk_write write;
    struct config_fixture *fixture;
    struct bk_slice sql; /* empty: keys of id */
    struct bk_slice id;
    const struct webhooks_keys *keys;
    struct bk_slice headers; /* in place of keys, where there are any */
    bool is_done;
};

static inline enum bk_status config_fixture_run_headers(struct bk_transaction *transaction,
                                                        const struct config_fixture_write *own) {
    struct bk_json *json;
    assert_int_equal(bk_json_parse(bk_transaction_arena(transaction), own->headers, &json, NULL),
                     BK_OK);
    return webhooks_headers_write(&own->fixture->state, transaction, own->id, json);
}

static inline enum bk_status config_fixture_run(struct bk_transaction *transaction,
                                                struct bk_write *write) {
    struct config_fixture_write *own = bk_container_of(write, struct config_fixture_write, write);
    if (own->sql.length > 0)
        return bk_connection_execute(bk_transaction_connection(transaction), own->sql);
    if (own->headers.length > 0)
        return config_fixture_run_headers(transaction, own);
    return webhooks_keys_write(&own->fixture->state, transaction, own->id, own->keys);
}

static inline void config_fixture_on_done(struct bk_write *write, enum bk_status status) {
    assert_int_equal(status, BK_OK);
    bk_container_of(write, struct config_fixture_write, write)->is_done = true;
}

static inline void config_fixture_submit(struct config_fixture_write *own) {
    own->write = (struct bk_write){.run = config_fixture_run, .done = config_fixture_on_done};
    assert_int_equal(bk_store_write(own->fixture->kernel.tenant->database, &own->write), BK_OK);
    support_loop_run_until(own->fixture->kernel.loop, &own->is_done);
}

static inline void config_fixture_execute(struct config_fixture *fixture, const char *sql) {
    struct config_fixture_write own = {.fixture = fixture, .sql = bk_slice_from(sql)};
    config_fixture_submit(&own);
}

static inline void config_fixture_write_keys(struct config_fixture *fixture, const char *id,
                                             const struct webhooks_keys *keys) {
    struct config_fixture_write own = {.fixture = fixture, .id = bk_slice_from(id), .keys = keys};
    config_fixture_submit(&own);
}

static inline void config_fixture_write_headers(struct config_fixture *fixture, const char *id,
                                                const char *headers) {
    struct config_fixture_write own = {
        .fixture = fixture, .id = bk_slice_from(id), .headers = bk_slice_from(headers)};
    config_fixture_submit(&own);
}

static inline enum bk_status config_fixture_read_keys(struct config_fixture *fixture,
                                                      const char *tenant, const char *id,
                                                      struct webhooks_keys *keys) {
    struct bk_connection *connection = bk_store_read_now(fixture->kernel.tenant->database);
    assert_non_null(connection);
    return webhooks_keys_read(&fixture->state, connection, bk_slice_from(tenant), bk_slice_from(id),
                              keys);
}

#endif
