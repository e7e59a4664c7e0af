/* What the files of this module share. */
#ifndef BAKEND_TENANTS_PRIVATE_H
#define BAKEND_TENANTS_PRIVATE_H

#include "bakend/module.h"

enum { TENANTS_PATH_BYTES = 4096, TENANTS_BODY_MAX_BYTES = 64 * 1024 };
#define TENANTS_RECORDS "/api/collections/_tenants/records"

struct tenants_state {
    struct bk_module_context *context;
    uint32_t pending_count; /* repairs under way */
    void (*stopped)(void *user);
    void *stopped_user;
};

/* routes.c */
void tenants_create(struct bk_request *request);
void tenants_list(struct bk_request *request);
void tenants_view(struct bk_request *request);
void tenants_update(struct bk_request *request);
void tenants_delete(struct bk_request *request);

/* marker.c: data/tenants/NAME/unfinished says that the directory is being made or removed. */
enum bk_status tenants_marker_set(const struct bk_module_context *context, struct bk_slice name,
                                  struct bk_error *error);
void tenants_marker_clear(const struct bk_module_context *context, struct bk_slice name);
bool tenants_marker_is_set(const struct bk_module_context *context, struct bk_slice name);
bool tenants_directory_is_empty(const struct bk_module_context *context, struct bk_slice name);
bool tenants_has_database(const struct bk_module_context *context, struct bk_slice name);

/* repair.c: what a crash left undone. */
enum bk_status tenants_repair(struct tenants_state *state, struct bk_error *error);

/* record.c: the id and name of a tenant's record by either of them. BK_NOT_FOUND. */
struct tenants_record {
    struct bk_slice id, name; /* in the arena */
};
enum bk_status tenants_find(const struct bk_module_context *context, struct bk_slice id_or_name,
                            struct bk_arena *arena, struct tenants_record *record);
/* Calls for each record; BK_IO … when they cannot be read. */
enum bk_status tenants_for_each_record(const struct bk_module_context *context,
                                       void (*on_record)(void *user, struct bk_slice name),
                                       void *user, struct bk_error *error);

#endif
