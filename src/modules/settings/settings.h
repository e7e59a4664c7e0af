/* What the files of this module share. */
#ifndef SETTINGS_PRIVATE_H
#define SETTINGS_PRIVATE_H

#include "bakend/module.h"
#include "bakend/settings.h"
#include "bakend/shape.h"

enum { SETTINGS_BYTES_MAX = 1024 * 1024 };

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
/* What others than this module use of it; its texts are copied into the arena. */
void settings_share(const struct bk_json *whole, struct bk_arena *arena,
                    struct bk_settings *shared);

/* Of each open tenant. */
struct settings_tenant {
    struct bk_settings shared;
    char *texts; /* that it points at, with a password among them */
    size_t text_bytes;
};
/* On the loop. Its texts are copied, those of before are gone. */
void settings_keep(struct settings_tenant *state, const struct bk_settings *shared);
void settings_forget(struct settings_tenant *state);

/* --- routes.c ---- */

void settings_view(struct bk_request *request);
void settings_update(struct bk_request *request);

#endif
