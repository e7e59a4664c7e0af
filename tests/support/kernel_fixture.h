/* A store with tenants in a temporary directory, for tests of what stands on them. */
#ifndef BAKEND_TESTS_KERNEL_FIXTURE_H
#define BAKEND_TESTS_KERNEL_FIXTURE_H

#include "support.h"

#include "bakend/tenant.h"

struct support_kernel {
    struct bk_loop *loop;
    char *directory;
    struct bk_store *store;
    struct bk_tenants *tenants;
    struct bk_tenant *tenant; /* "default", held */
    struct bk_store_options store_options;
};

/* Loop, store and tenants; no tenant is open yet, so that slots can be added. NULL options: the
 * defaults. */
void support_kernel_create(struct support_kernel *kernel, const struct bk_store_options *options);
/* Opens "default". */
void support_kernel_open(struct support_kernel *kernel);
/* After support_kernel_close: a new store and new tenants on the same directory, as after a
 * restart. */
void support_kernel_restart(struct support_kernel *kernel);
/* Releases and closes what is open. */
void support_kernel_close(struct support_kernel *kernel);
void support_kernel_destroy(struct support_kernel *kernel);

/* Opens a tenant of this name, made when it is missing. The hold is the caller's. */
struct bk_tenant *support_kernel_hold(struct support_kernel *kernel, struct bk_slice name);
/* Commits one write that emits draft count times, and waits for its done. */
enum bk_status support_kernel_emit(struct support_kernel *kernel, struct bk_tenant *tenant,
                                   const struct bk_event_draft *draft, uint32_t count,
                                   const struct bk_origin *origin);

#endif
