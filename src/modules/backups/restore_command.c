/*
 * `bakend restore FILE`: on a stopped data directory, whose lock the command line holds meanwhile.
 *
 *   verify    the archive is unpacked beside the tenant's directory; the database in it is checked
 *             and gets a new epoch, so that cursors of the history before are refused, not misread
 *   replace   old and new change places at once (swap.c); the old database is kept in
 *             before-restore-TIME, with the head that says how far its journal went
 *
 * What instance.db says of the tenant is not true of the new database, so that file goes before
 * they change places: the next start opens all tenants in turn to see what is due in them.
 */
#include "archive.h"
#include "backups_private.h"

#include "bakend/file.h"
#include <stdio.h>
#include <unistd.h>

struct restoring {
    const char *file;
    struct bk_slice owner;  /* the tenant that the backup is of */
    struct bk_slice tenant; /* the one that it is put into */
    bool may_make;          /* the tenant may be missing */
    const char *data_directory;
    struct backups_swap swap;
};

static enum bk_status verify(struct restoring *restoring, struct bk_error *error) {
    struct backups_swap *swap = &restoring->swap;
    const char *file = restoring->file;
    char path[BACKUPS_PATH_BYTES];
    if (!bk_path_join(path, sizeof path, swap->staging, "data.db"))
        return bk_error_set(error, BK_INVALID, "--data: the path is too long");
    enum bk_status status = backups_archive_read(file, path, restoring->owner, error);
    if (status != BK_OK)
        return status;
    status = bk_database_check_file(path, error);
    if (status == BK_OK)
        status = bk_database_renew_epoch(path, error);
    if (status != BK_OK)
        bk_error_prefix(error, "the database in %s", file);
    else
        status = backups_restored_note(swap->staging, file, error);
    return status;
}

/* The database first: a write-ahead log without one is not looked at. */
static enum bk_status forget_dues(const char *data_directory, struct bk_error *error) {
    static const char *const names[] = {"instance.db", "instance.db-wal", "instance.db-shm"};
    char path[BACKUPS_PATH_BYTES];
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < BK_COUNT_OF(names) && status == BK_OK; i++)
        if (bk_path_join(path, sizeof path, data_directory, names[i]) && bk_file_exists(path))
            status = bk_file_remove(path, error);
    return status;
}

static enum bk_status check_tenant(const struct restoring *restoring, struct bk_error *error) {
    if (restoring->may_make || bk_file_exists(restoring->swap.live) ||
        bk_slice_is(restoring->tenant, "default"))
        return BK_OK;
    return bk_error_set(error, BK_NOT_FOUND,
                        "there is no tenant %.*s: name one that exists with --tenant, or add "
                        "--from-tenant with the name of the backup's tenant to make it",
                        BK_SLICE_PRINT(restoring->tenant));
}

static enum bk_status restore(struct restoring *restoring, struct bk_error *error) {
    struct backups_swap *swap = &restoring->swap;
    enum bk_status status = backups_swap_recover(swap, error);
    if (status == BK_OK)
        status = check_tenant(restoring, error);
    if (status == BK_OK)
        status = backups_swap_begin(swap, error);
    if (status != BK_OK)
        return status;
    status = verify(restoring, error);
    if (status != BK_OK) {
        (void)bk_directory_remove(swap->staging, NULL);
        return status;
    }
    status = forget_dues(restoring->data_directory, error);
    return status == BK_OK ? backups_swap_finish(swap, error) : status;
}

static void print_result(const struct bk_command_context *context,
                         const struct backups_swap *swap) {
    const char *kept = bk_file_exists(swap->aside) ? swap->aside : "";
    struct bk_buffer line;
    bk_buffer_init(&line, 4 * BACKUPS_PATH_BYTES);
    if (context->is_json) {
        bk_buffer_append_char(&line, '{');
        bk_json_write_member_string(&line, BK_SLICE("tenant"), context->tenant);
        bk_json_write_member_string(&line, BK_SLICE("before"), bk_slice_from(kept));
        bk_buffer_append_char(&line, '}');
    } else {
        bk_buffer_format(&line, "tenant %.*s is restored", BK_SLICE_PRINT(context->tenant));
        if (kept[0] != '\0')
            bk_buffer_format(&line, "; what it was before is in %s", kept);
    }
    printf("%.*s\n", BK_SLICE_PRINT(bk_buffer_slice(&line)));
    bk_buffer_fini(&line);
}

/* FILE and --from-tenant NAME, in any order. */
static bool read_arguments(struct restoring *restoring, int argument_count, char **arguments) {
    for (int i = 0; i < argument_count; i++) {
        if (strcmp(arguments[i], "--from-tenant") == 0 && i + 1 < argument_count) {
            restoring->owner = bk_slice_from(arguments[++i]);
            restoring->may_make = true;
        } else if (arguments[i][0] != '-' && restoring->file == NULL) {
            restoring->file = arguments[i];
        } else {
            return false;
        }
    }
    return restoring->file != NULL && bk_tenant_name_is_valid(restoring->owner);
}

int backups_run_restore(struct bk_command_context *context, int argument_count, char **arguments) {
    struct bk_error error = BK_ERROR_INIT;
    struct restoring restoring = {.owner = context->tenant,
                                  .tenant = context->tenant,
                                  .data_directory = context->data_directory};
    char tenants[BACKUPS_PATH_BYTES] = "";
    if (!read_arguments(&restoring, argument_count, arguments))
        return 2;
    enum bk_status status =
        backups_swap_init(&restoring.swap, context->data_directory, context->tenant, &error);
    bool makes_tenants =
        status == BK_OK &&
        bk_path_join(tenants, sizeof tenants, context->data_directory, "tenants") &&
        !bk_file_exists(tenants);
    if (makes_tenants)
        status = bk_directory_create(tenants, &error);
    if (status == BK_OK)
        status = restore(&restoring, &error);
    if (status != BK_OK) {
        if (makes_tenants)
            (void)rmdir(tenants);
        fprintf(stderr, "bakend: %s\n", error.message);
        return 1;
    }
    print_result(context, &restoring.swap);
    return 0;
}
