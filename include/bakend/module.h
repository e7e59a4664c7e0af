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

/* --- commands --------------------------------------------------------------------------------- */

/* A command talks to the server by the router only: over the control socket where one runs on the
 * data directory, else in a process that opens the directory itself, without a listener. */
struct bk_command_context {
    const char *data_directory;
    bool is_json;           /* --json */
    bool is_running;        /* a server has the directory */
    bool is_patient;        /* set by a command that calls again: no server is no message */
    struct bk_slice tenant; /* --tenant; "default" */
    /* Returns the HTTP status, or -1 with a message on standard error. The answer is appended to
     * out. */
    int (*call)(struct bk_command_context *context, enum bk_method method, const char *target,
                struct bk_slice body, struct bk_buffer *out);
    /* A password: prompted on a terminal, else one line of standard input. False: none was
     * given. */
    bool (*read_password)(struct bk_command_context *context, struct bk_buffer *out);
    void *user;
};

struct bk_command {
    const char *name;    /* "superuser" */
    const char *usage;   /* "superuser create|update|delete|list|token EMAIL" */
    const char *summary; /* a sentence; what follows an empty line is for `bakend help COMMAND` */
    /* arguments after the name, options of the program already taken out. 0 done, 1 failed, 2
     * usage. */
    int (*run)(struct bk_command_context *context, int argument_count, char **arguments);
    /* Works on files, not through the router: refused while a server runs. No command makes the
     * data directory, so that a slip in --data leaves nothing; this kind may begin one in an empty
     * directory, and takes back what it made there when it fails. */
    bool needs_stopped;
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
