/*
 * Backups: a zip of a consistent copy of one tenant's database, in data/tenants/NAME/backups/.
 *
 *   creation.c         POST: copy (store), pack (pool), event, answer
 *   listing.c          GET the list, DELETE one
 *   download.c         GET one, as a stream
 *   archive.c          the zip
 *   backup_command.c   `bakend backup`: the same by the router
 *   restore_command.c  `bakend restore`, on a stopped directory
 *   restored.c         the event of a restore
 *   swap.c             the old and the new database change places at once
 *
 * Files are read and written on a pool of threads, never on the loop. One backup of a tenant at a
 * time.
 */
#include "backups_private.h"

#include "bakend/file.h"

extern const struct bk_module bk_module_backups;

enum { THREADS = 2 /* a list need not wait for an archive */, QUEUE_MAX = 256 };

#define BODY_MAX_BYTES ((size_t)16 * 1024)

static const struct bk_route routes[] = {
    {.method = BK_GET,
     .path = "/api/backups",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Lists the backups of this tenant.",
     .tag = "backups",
     .handle = backups_list},
    {.method = BK_POST,
     .path = "/api/backups",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Makes a backup of this tenant.",
     .tag = "backups",
     .handle = backups_create},
    {.method = BK_GET,
     .path = "/api/backups/{key}",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Downloads a backup.",
     .tag = "backups",
     .handle = backups_download},
    {.method = BK_DELETE,
     .path = "/api/backups/{key}",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Removes a backup.",
     .tag = "backups",
     .handle = backups_delete},
};

static const struct bk_event_declaration events[] = {
    {"backup.created", true, "BackupCreated", "A backup was made."},
    {"backup.restored", true, "BackupRestored", "A backup took the place of the database."},
    {"backup.failed", true, "BackupFailed", "A backup could not be made."},
};

static const struct bk_command commands[] = {
    {.name = "backup",
     .usage = "backup [FILE] [--data DIR] [--tenant NAME] [--json]",
     .summary = "Makes a backup of a tenant, and puts it at FILE when one is given.",
     .run = backups_run_backup},
    {.name = "restore",
     .usage = "restore FILE [--from-tenant NAME] [--data DIR] [--tenant NAME] [--json]",
     .summary =
         "Replaces a tenant's database with the one of a backup; the old one is kept.\n\n"
         "No server may run on the directory, which is there already, if only empty. FILE must be "
         "a\n"
         "backup of the same tenant, and the tenant must exist; with --from-tenant NAME it is one\n"
         "of the tenant NAME, and the tenant that it is put into is made when there is none.",
     .run = backups_run_restore,
     .needs_stopped = true},
};

static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    struct backups_state *state = context->state;
    (void)error;
    state->context = context;
    bk_list_init(&state->makings);
    state->pool = bk_pool_create(context->loop, "backups", THREADS, QUEUE_MAX);
    return BK_OK;
}

struct recovery {
    struct bk_module_context *context;
    enum bk_status status; /* of the first that failed */
    struct bk_error *error;
};

/* A restore that was cut off after the new database was in force: the old one is put aside. One
 * that cannot be finished ends the start: what the tenant is made of lies in two places. */
static void on_tenant_name(struct bk_slice name, void *user) {
    struct recovery *recovery = user;
    struct bk_log *log = &recovery->context->log;
    struct bk_error error = BK_ERROR_INIT;
    struct backups_swap swap;
    if (backups_swap_init(&swap, recovery->context->data_directory, name, &error) != BK_OK ||
        !bk_file_exists(swap.staging))
        return;
    enum bk_status status = backups_swap_recover(&swap, &error);
    if (status == BK_OK) {
        bk_log_warn(log, "restore_finished", BK_STRING("tenant", name));
        return;
    }
    bk_log_error(log, "restore_unfinished", BK_STRING("tenant", name),
                 BK_TEXT("reason", error.message));
    if (recovery->status == BK_OK && status != BK_CONFLICT)
        recovery->status = bk_error_set(recovery->error, status,
                                        "a restore of the tenant %.*s cannot be finished: %s",
                                        BK_SLICE_PRINT(name), error.message);
}

/* Directories change places, so no tenant may be open yet. */
static enum bk_status on_prepare(struct bk_module_context *context, struct bk_error *error) {
    struct recovery recovery = {.context = context, .status = BK_OK, .error = error};
    bk_tenants_for_each_name(context->tenants, on_tenant_name, &recovery);
    return recovery.status;
}

static enum bk_status on_tenant_open(struct bk_module_context *context, struct bk_tenant *tenant,
                                     void **tenant_state, struct bk_error *error) {
    (void)tenant_state, (void)error;
    return backups_restored_tell(context, tenant);
}

void backups_stop_when_done(struct backups_state *state) {
    if (state->stopped != NULL && bk_list_is_empty(&state->makings) && state->telling_count == 0)
        state->stopped(state->stopped_user);
}

static void on_stop(struct bk_module_context *context, void (*stopped)(void *user), void *user) {
    struct backups_state *state = context->state;
    state->stopped = stopped;
    state->stopped_user = user;
    backups_stop_when_done(state);
}

static void on_fini(struct bk_module_context *context) {
    struct backups_state *state = context->state;
    bk_pool_destroy(state->pool);
}

const struct bk_module bk_module_backups = {
    .name = "backups",
    .summary = "Makes, lists and restores backups.",
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .commands = commands,
    .command_count = BK_COUNT_OF(commands),
    .state_size = sizeof(struct backups_state),
    .init = on_init,
    .prepare = on_prepare,
    .stop = on_stop,
    .fini = on_fini,
    .tenant_open = on_tenant_open,
};
