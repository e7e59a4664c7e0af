/*
 * Tenants: one directory each, with its own database, files, keys and number line. "default" exists
 * from the start. Kernel parts and modules register a slot and get told when a tenant opens and
 * closes; what they keep about it lives in the slot.
 *
 * Open tenants are bounded: when one more is wanted, the least recently used one that nobody holds
 * is closed. Requests, sockets, streams and work hold theirs open. Everything here is on the loop.
 */
#ifndef BAKEND_TENANT_H
#define BAKEND_TENANT_H

#include "bakend/store.h"

struct bk_tenants; /* the registry */
struct bk_settings;

enum { BK_TENANT_SLOTS_MAX = 32, BK_TENANT_NAME_BYTES_MAX = 63 };

struct bk_tenant {
    struct bk_slice name;  /* 1..63 of [a-z0-9-], starts with a letter or digit: a DNS label */
    const char *directory; /* data/tenants/<name> */
    struct bk_database *database;
    struct bk_tenants *tenants;
    const struct bk_settings *settings; /* see settings.h; NULL: nobody keeps any */
    void *slots[BK_TENANT_SLOTS_MAX];
};

/* All hooks may be NULL. Registered before the first tenant opens; called in the order of
 * registration, close in the reverse one. */
struct bk_tenant_slot {
    const char *name;
    const struct bk_migration *migrations;
    size_t migration_count;
    /* On the writer, in the opening transaction, after all migrations. */
    enum bk_status (*on_prepare)(struct bk_transaction *transaction, void *user,
                                 struct bk_error *error);
    /* On the loop, the database is open: make the slot's state. A failure closes the tenant
     * again. */
    enum bk_status (*on_open)(struct bk_tenant *tenant, void **state, void *user,
                              struct bk_error *error);
    /* On the loop; the database is still open, nothing is queued on it, nobody holds the tenant. */
    void (*on_close)(struct bk_tenant *tenant, void *state, void *user);
    void *user;
};

struct bk_tenants *bk_tenants_create(struct bk_store *store, struct bk_log log,
                                     const char *data_directory, uint32_t open_max);
struct bk_store *bk_tenants_store(const struct bk_tenants *tenants);
/* Returns the slot's index: tenant->slots[index] is its state. */
uint32_t bk_tenants_add_slot(struct bk_tenants *tenants, const struct bk_tenant_slot *slot);

/* Embed it. */
struct bk_tenant_hold {
    void (*done)(struct bk_tenant_hold *hold, enum bk_status status);
    struct bk_tenant *tenant; /* on BK_OK; release it */
    struct bk_error error;
    struct bk_list link; /* the registry's */
    struct bk_task task; /* likewise */
};
/* The open tenant of this name, with one more hold; NULL when it is not open. The quick way. */
struct bk_tenant *bk_tenant_hold_open(struct bk_tenants *tenants, struct bk_slice name);
/* Opens it when needed. done comes once, never before this returns. BK_NOT_FOUND when there is no
 * such tenant; BK_BUSY when open_max are open and all held. */
void bk_tenant_hold(struct bk_tenants *tenants, struct bk_slice name, struct bk_tenant_hold *hold);
/* One more hold on an open tenant. */
void bk_tenant_ref(struct bk_tenant *tenant);
void bk_tenant_release(struct bk_tenant *tenant);
struct bk_tenant *bk_tenant_of(struct bk_database *database);

bool bk_tenant_name_is_valid(struct bk_slice name);
bool bk_tenant_exists(struct bk_tenants *tenants, struct bk_slice name);
/* Makes the directory, so that the next hold opens a new database. BK_EXISTS. */
enum bk_status bk_tenant_create(struct bk_tenants *tenants, struct bk_slice name,
                                struct bk_error *error);
/* Refuses new holds, waits for the current ones, closes, removes the directory. done on the
 * loop. */
void bk_tenant_delete(struct bk_tenants *tenants, struct bk_slice name,
                      void (*done)(void *user, enum bk_status status), void *user);
uint32_t bk_tenants_open_count(const struct bk_tenants *tenants);
uint32_t bk_tenants_open_max(const struct bk_tenants *tenants);
void bk_tenants_for_each_open(struct bk_tenants *tenants,
                              void (*on_tenant)(struct bk_tenant *tenant, void *user), void *user);
/* Calls with the name of every tenant that exists, open or not. */
void bk_tenants_for_each_name(struct bk_tenants *tenants,
                              void (*on_name)(struct bk_slice name, void *user), void *user);
/* Whether it was ever opened. Asks the file system. */
bool bk_tenant_has_database(const struct bk_tenants *tenants, struct bk_slice name);
/* Closes all, each when nobody holds it any more; closed on the loop. Transports are gone by
 * now. */
void bk_tenants_close(struct bk_tenants *tenants, void (*closed)(void *user), void *user);
void bk_tenants_destroy(struct bk_tenants *tenants);

#endif
