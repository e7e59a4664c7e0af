/* What the files of this module share. */
#ifndef BAKEND_BACKUPS_PRIVATE_H
#define BAKEND_BACKUPS_PRIVATE_H

#include "bakend/module.h"
#include "bakend/thread.h"

enum { BACKUPS_PATH_BYTES = 4096, BACKUPS_KEY_BYTES_MAX = 150 };

struct backups_state {
    struct bk_module_context *context;
    struct bk_pool *pool;
    uint32_t telling_count; /* restores whose event is being written */
    struct bk_list makings; /* under way; one per tenant at most */
    void (*stopped)(void *user);
    void *stopped_user;
};

/* module.c: when the module is to stop, and nothing is under way any more. */
void backups_stop_when_done(struct backups_state *state);

/* creation.c, listing.c, download.c */
void backups_create(struct bk_request *request);
void backups_list(struct bk_request *request);
void backups_download(struct bk_request *request);
void backups_delete(struct bk_request *request);
/* Whether a backup of this tenant with this key is being made; key empty: any. */
bool backups_is_active(const struct backups_state *state, const struct bk_tenant *tenant,
                       struct bk_slice key);

/* key.c: "[a-z0-9_-]+.zip", 1 to 150 bytes: the name of a file, and nothing else. */
bool backups_key_is_valid(struct bk_slice key);
/* "bakend_backup_default_20260608120000000.zip": to the millisecond, since two in one second must
 * differ. */
void backups_key_make(char out[BACKUPS_KEY_BYTES_MAX + 1], struct bk_slice tenant, int64_t wall_ms);
/* data/tenants/NAME/backups/KEY; false when it does not fit. prefix and suffix surround the key. */
bool backups_path(char out[BACKUPS_PATH_BYTES], const char *tenant_directory, const char *prefix,
                  struct bk_slice key, const char *suffix);

/* backup_command.c, restore_command.c */
int backups_run_backup(struct bk_command_context *context, int argument_count, char **arguments);
int backups_run_restore(struct bk_command_context *context, int argument_count, char **arguments);

/* restored.c: data/tenants/NAME/restored names the archive that the database came from, until the
 * event backup.restored is written: with the tenant's first opening. */
enum bk_status backups_restored_note(const char *directory, const char *archive,
                                     struct bk_error *error);
enum bk_status backups_restored_tell(struct bk_module_context *context, struct bk_tenant *tenant);

/* swap.c: puts a directory with a new database in the place of a tenant's; see there. */
struct backups_swap {
    char live[BACKUPS_PATH_BYTES];    /* data/tenants/NAME */
    char staging[BACKUPS_PATH_BYTES]; /* data/tenants/.restoring-NAME */
    char aside[BACKUPS_PATH_BYTES];   /* data/tenants/NAME/before-restore-TIME */
};
enum bk_status backups_swap_init(struct backups_swap *swap, const char *data_directory,
                                 struct bk_slice tenant, struct bk_error *error);
/* Finishes or removes what an interrupted restore of this tenant left; BK_OK also when there is
 * nothing. */
enum bk_status backups_swap_recover(struct backups_swap *swap, struct bk_error *error);
/* An empty staging directory. */
enum bk_status backups_swap_begin(struct backups_swap *swap, struct bk_error *error);
enum bk_status backups_swap_finish(struct backups_swap *swap, struct bk_error *error);

#endif
