/* One module on a kernel of its own: store, tenants, bus, feed and api, but no transport. */
#ifndef BAKEND_TESTS_MODULE_FIXTURE_H
#define BAKEND_TESTS_MODULE_FIXTURE_H

#include "kernel_fixture.h"

#include "bakend/module.h"

enum { SUPPORT_FEED_TAIL_BYTES = 16 * 1024 };

struct support_module {
    struct support_kernel kernel;
    struct bk_bus *bus;
    struct bk_feed *feed;
    struct bk_api *api;
    struct bk_schema_kind *schema; /* for modules that declare collections; NULL for others */
    struct bk_work *work;          /* for modules with kinds, and who declares `_work`; or NULL */
    struct bk_module_context context;
    struct bk_slice call_tenant; /* whose calls go there; empty: "default" */
    struct bk_buffer answer;     /* the body of the last call, with a NUL behind it */
};

/* Everything up to the started module and the open tenant "default". logger may be NULL. */
void support_module_open(struct support_module *fixture, const struct bk_module *module,
                         const void *options, struct bk_logger *logger);
/* The same on a store with these options; NULL: the defaults. */
void support_module_open_on(struct support_module *fixture,
                            const struct bk_store_options *store_options,
                            const struct bk_module *module, const void *options,
                            struct bk_logger *logger);
/* All of it in reverse; every handle and database must be closed by then. */
void support_module_close(struct support_module *fixture);
/* Calls as the system, in process, and returns the status of the answer. */
int support_module_call(struct support_module *fixture, enum bk_method method, const char *target);
/* The same as somebody else. */
int support_module_call_as(struct support_module *fixture, const struct bk_actor *actor,
                           enum bk_method method, const char *target);
/* Waits until the bus has dispatched everything. */
void support_module_settle(struct support_module *fixture);

#endif
