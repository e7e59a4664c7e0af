/*
 * A module: one folder under src/modules, one line in modules.def, one exported constant
 * `bk_module_<name>`. It knows base, platform and the kernel, never another module. Facts go over
 * the bus, commands through the router.
 *
 * Life: init (all modules, in the order of modules.def: register, subscribe, no I/O) → prepare
 * (files may be put in order: no tenant was opened yet) → tenants open → start → … → stop (in
 * reverse; finish what runs) → what waits on the bus is dispatched → tenants close → fini.
 */
#ifndef BAKEND_MODULE_H
#define BAKEND_MODULE_H

#include "bakend/api.h"
#include "bakend/bus.h"
#include "bakend/command.h"
#include "bakend/feed.h"
#include "bakend/option.h"
#include "bakend/outbound.h"
#include "bakend/rules.h"
#include "bakend/schema.h"
#include "bakend/tenant.h"
#include "bakend/work.h"

/* --- events ----------------------------------------------------------------------------------- */

struct bk_event_declaration {
    const char *type; /* "auth.login"; "*.created" for those of collections */
    bool is_durable;
    const char *message; /* of bakend.events.v1 in proto/: "AuthLogin" */
    const char *summary;
};

/* --- the module ------------------------------------------------------------------------------- */

struct bk_module_context {
    const struct bk_module *module;
    void *state;         /* state_size bytes, zeroed */
    const void *options; /* options_size bytes, filled in */
    struct bk_log log;
    struct bk_loop *loop;
    struct bk_logger *logger;
    struct bk_store *store;
    struct bk_tenants *tenants;
    struct bk_bus *bus;
    struct bk_feed *feed;
    struct bk_schema_kind *schema;
    struct bk_work *work;
    struct bk_api *api;
    struct bk_outbound *outbound;
    const char *data_directory;
    const char *app_directory;
    bool is_serving; /* `bakend serve`; false: opened for one command, that does no more */
    struct bk_slice instance_key; /* 32 bytes: derive from it, never use it as it is */
    uint32_t tenant_slot;         /* tenant->slots[tenant_slot], when there is tenant state */
    /* All modules, for documents about the whole (catalog, openapi); ended by NULL. */
    const struct bk_module *const *modules;
};

struct bk_module {
    const char *name;
    const char *summary;
    const struct bk_option *options;
    size_t option_count, options_size;
    const struct bk_migration *migrations; /* of each tenant's database */
    size_t migration_count;
    const struct bk_system_collection *collections;
    size_t collection_count;
    const struct bk_field_type *const *field_types;
    size_t field_type_count;
    const struct bk_route *routes;
    size_t route_count;
    const struct bk_event_declaration *events;
    size_t event_count;
    const struct bk_work_kind *work_kinds; /* user of their callbacks: the module's context */
    size_t work_kind_count;
    const struct bk_command *commands;
    size_t command_count;
    size_t state_size;
    /* All optional. */
    enum bk_status (*init)(struct bk_module_context *context, struct bk_error *error);
    enum bk_status (*prepare)(struct bk_module_context *context, struct bk_error *error);
    enum bk_status (*start)(struct bk_module_context *context, struct bk_error *error);
    /* Calls stopped(user) once, on the loop, now or later. NULL: nothing to finish. */
    void (*stop)(struct bk_module_context *context, void (*stopped)(void *user), void *user);
    void (*fini)(struct bk_module_context *context);
    enum bk_status (*tenant_open)(struct bk_module_context *context, struct bk_tenant *tenant,
                                  void **state, struct bk_error *error);
    void (*tenant_close)(struct bk_module_context *context, struct bk_tenant *tenant, void *state);
};

#endif
