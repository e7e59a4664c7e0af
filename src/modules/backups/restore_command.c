/*
 * `bakend restore FILE`: on a stopped data directory, whose lock the command line holds meanwhile.
 *
 *   verify   the archive is unpacked beside the tenant's directory; the database in it is checked
 * and gets a new epoch, so that cursors of the history before are refused, not misread replace  old
 * and new change places at once (swap.c); the old database is kept in before-restore-TIME
 */
#include "archive.h"
#include "backups_private.h"

#include "bakend/file.h"
#include <stdio.h>

static enum bk_status verify(struct backups_swap *swap, const char *file, struct bk_error *error) {
    char path[BACKUPS_PATH_BYTES];
    if (!bk_path_join(path, sizeof path, swap->staging, "data.db"))
        return bk_error_set(error, BK_INVALID, "--data: the path is too long");
    enum bk_status status = backups_archive_read(file, path, error);
    if (status != BK_OK)
        return status;
    status = bk_database_check_file(path, error);
    if (status == BK_OK)
        status = bk_database_renew_epoch(path, error);
    if (status != BK_OK)
        bk_error_prefix(error, "the database in %s", file);
    return status;
}

static enum bk_status restore(struct backups_swap *swap, const char *file, struct bk_error *error) {
    enum bk_status status = backups_swap_recover(swap, error);
    if (status == BK_OK)
        status = backups_swap_begin(swap, error);
    if (status != BK_OK)
        return status;
    status = verify(swap, file, error);
    if (status != BK_OK) {
        (void)bk_directory_remove(swap->staging, NULL);
        return status;
    }
    return backups_swap_finish(swap, error);
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

int backups_run_restore(struct bk_command_context *context, int argument_count, char **arguments) {
    struct bk_error error = BK_ERROR_INIT;
    struct backups_swap swap;
    char tenants[BACKUPS_PATH_BYTES];
    if (argument_count != 1 || arguments[0][0] == '-')
        return 2;
    enum bk_status status =
        backups_swap_init(&swap, context->data_directory, context->tenant, &error);
    if (status == BK_OK &&
        bk_path_join(tenants, sizeof tenants, context->data_directory, "tenants"))
        status = bk_directory_create(tenants, &error);
    if (status == BK_OK)
        status = restore(&swap, arguments[0], &error);
    if (status != BK_OK) {
        fprintf(stderr, "bakend: %s\n", error.message);
        return 1;
    }
    print_result(context, &swap);
    return 0;
}
