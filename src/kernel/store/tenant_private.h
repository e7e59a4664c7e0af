/* What tenant.c and tenant_directory.c share: the registry, and the names on the disk. */
#ifndef TENANT_PRIVATE_H
#define TENANT_PRIVATE_H

#include "store_private.h"

#include "bakend/tenant.h"

enum { TENANT_PATH_BYTES_MAX = 4096 };

struct bk_tenants {
    struct bk_store *store;
    struct bk_log log;
    char *data_directory;
    char directory[TENANT_PATH_BYTES_MAX]; /* data/tenants */
    struct bk_map names;   /* those that exist: name to its own NUL-terminated copy */
    struct bk_map entries; /* struct entry by name: opening, open or closing */
    struct bk_list open;   /* all entries */
    struct bk_list unheld; /* open ones that nobody holds, least recently used first */
    uint32_t open_max, entry_count, closing_count, deletion_count;
    struct bk_tenant_slot slots[BK_TENANT_SLOTS_MAX];
    uint32_t slot_count;
    struct bk_migration *migrations; /* of all slots, in order; made when the first tenant opens */
    size_t migration_count;
    bool is_closing;
    void (*on_closed)(void *user);
    void *on_closed_user;
    struct bk_task closed_task;
};

/* Makes data/tenants, removes what a deletion left behind, learns the names, makes "default". */
enum bk_status tenant_directory_scan(struct bk_tenants *tenants, struct bk_error *error);
enum bk_status tenant_directory_create(struct bk_tenants *tenants, struct bk_slice name,
                                       struct bk_error *error);
/* Renames the tenant's directory to one that the next start would remove; trash gets its path. */
enum bk_status tenant_directory_discard(struct bk_tenants *tenants, struct bk_slice name,
                                        char trash[TENANT_PATH_BYTES_MAX], struct bk_error *error);
/* Whether the tenant had a database and has none now: a new one in its place would hide the loss.
 * The error says what to do. */
bool tenant_directory_lost_database(struct bk_tenants *tenants, struct bk_slice name,
                                    struct bk_error *error);
void tenant_directory_add_name(struct bk_tenants *tenants, struct bk_slice name);
void tenant_directory_remove_name(struct bk_tenants *tenants, struct bk_slice name);

#endif
