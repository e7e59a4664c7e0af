/* What the files of this module share. */
#ifndef SETTINGS_PRIVATE_H
#define SETTINGS_PRIVATE_H

#include "bakend/module.h"
#include "bakend/settings.h"
#include "bakend/shape.h"

enum {
    SETTINGS_BYTES_MAX = 1024 * 1024,
    SETTINGS_TREE_BYTES_MAX = 64 * 1024 * 1024,
    /* Looked at for each request, one after the other. */
    SETTINGS_RULES_MAX = 200,
    SETTINGS_NETWORKS_MAX = 200,
};

/* --- shape.c ---- */
extern const struct bk_shape settings_shape;

/* --- check.c ---- */
/* What is wrong with a whole, in the contract's codes. */
void settings_check(const struct bk_json *whole, struct bk_problems *problems);
/* 1.2.3.4, ::1, 10.0.0.0/8 */
bool settings_network_is_valid(struct bk_slice text);
/* An IP address or a DNS name. */
bool settings_host_is_valid(struct bk_slice text);
/* "POST /api/", "*:list", "users:create", "users" */
bool settings_label_is_valid(struct bk_slice label);

/* --- store.c ---- */
extern const struct bk_migration settings_migrations[];
enum { SETTINGS_MIGRATION_COUNT = 1 };
/* The whole as it is stored, or as it is from the start: text and tree in the arena. Any thread
 * that has the connection. */
enum bk_status settings_read(struct bk_connection *connection, struct bk_arena *arena,
                             struct bk_json **whole, struct bk_error *error);
/* given (or NULL) over former (or NULL), in the arena. BK_INVALID: a value of another type. */
enum bk_status settings_lay(const struct bk_json *given, const struct bk_json *former,
                            struct bk_arena *arena, struct bk_json **whole, struct bk_error *error);
enum bk_status settings_write(struct bk_transaction *transaction, struct bk_slice text);
/* What others than this module use of it, copied into the arena. */
void settings_share(const struct bk_json *whole, struct bk_arena *arena,
                    struct bk_settings *shared);

/* Of each open tenant. */
struct settings_tenant {
    struct bk_settings shared;
    struct bk_arena arena; /* of what it points at */
    char *secret;          /* the password, wiped when it goes */
};
void settings_tenant_init(struct settings_tenant *state);
/* On the loop. It is copied; what was there before is gone. */
void settings_keep(struct settings_tenant *state, const struct bk_settings *shared);
void settings_forget(struct settings_tenant *state);

/* --- routes.c ---- */

void settings_view(struct bk_request *request);
void settings_update(struct bk_request *request);
/* On the writer: the row of the whole, and settings.updated. */
enum bk_status settings_store(struct bk_transaction *transaction, const struct bk_json *whole,
                              const struct bk_json *former);

/* --- rename.c ---- */

/* On the loop, of _collections.updated. */
enum bk_status settings_follow_rename(struct settings_tenant *state, struct bk_tenant *tenant,
                                      const struct bk_event *event);

#endif
