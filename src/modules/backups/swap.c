/*
 * A tenant's database consists of a file and its write-ahead log, and no file system replaces two
 * files at once. So whole directories change places, in one step (renameat2, RENAME_EXCHANGE):
 *
 *   1. data/tenants/.restoring-NAME: a new directory with the file "incoming" and the new database
 *   2. exchange: NAME <-> .restoring-NAME: from here on the new database is in force
 *   3. what else the old directory holds (backups, files, earlier restores) moves into the new one
 *   4. the old directory, now only the old database, becomes NAME/before-restore-TIME
 *   5. "incoming" is removed
 *
 * Before 2 the old state is in force, whole; after 2 the new one. "incoming" tells which of the two
 * a directory is, so an interrupted restore is finished by the next one (recover).
 */
#define _GNU_SOURCE 1 /* renameat2 */
#include "backups_private.h"

#include "bakend/clock.h"
#include "bakend/failpoint.h"
#include "bakend/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct moving {
    struct backups_swap *swap;
    enum bk_status status;
    struct bk_error *error;
};

static void write_aside(struct backups_swap *swap) {
    char time[BK_TIME_TEXT_BYTES], digits[BK_TIME_TEXT_BYTES + 1];
    size_t count = 0;
    bk_time_format(time, bk_clock_wall_ms(), 'T');
    for (size_t i = 0; i < BK_TIME_TEXT_BYTES; i++)
        if (time[i] >= '0' && time[i] <= '9')
            digits[count++] = time[i];
    digits[count] = '\0';
    size_t length = strlen(swap->live);
    snprintf(swap->aside, sizeof swap->aside, "%.*s/before-restore-%s", (int)length, swap->live,
             digits);
}

enum bk_status backups_swap_init(struct backups_swap *swap, const char *data_directory,
                                 struct bk_slice tenant, struct bk_error *error) {
    int live = snprintf(swap->live, sizeof swap->live, "%s/tenants/%.*s", data_directory,
                        BK_SLICE_PRINT(tenant));
    int staging = snprintf(swap->staging, sizeof swap->staging, "%s/tenants/.restoring-%.*s",
                           data_directory, BK_SLICE_PRINT(tenant));
    if (live < 0 || staging < 0 || staging > BACKUPS_PATH_BYTES - 64)
        return bk_error_set(error, BK_INVALID, "--data: the path is too long");
    write_aside(swap);
    return BK_OK;
}

static bool has_marker(const char *directory) {
    char path[BACKUPS_PATH_BYTES];
    return bk_path_join(path, sizeof path, directory, "incoming") && bk_file_exists(path);
}

/* --- the old directory ------------------------------------------------------------------------ */

/* So are its head, which says how far its journal went, and the note of an earlier restore that was
 * not told yet. */
static bool is_part_of_database(const char *name) {
    return strncmp(name, "data.db", 7) == 0 || strcmp(name, "head") == 0 ||
           strcmp(name, "restored") == 0;
}

static void on_old_entry(void *user, const char *name, bool is_directory) {
    struct moving *moving = user;
    char from[BACKUPS_PATH_BYTES], to[BACKUPS_PATH_BYTES];
    (void)is_directory;
    if (moving->status != BK_OK || is_part_of_database(name))
        return;
    if (!bk_path_join(from, sizeof from, moving->swap->staging, name) ||
        !bk_path_join(to, sizeof to, moving->swap->live, name))
        moving->status = bk_error_set(moving->error, BK_INVALID, "the path is too long");
    else
        moving->status = bk_file_rename(from, to, moving->error);
}

/* Steps 3 to 5; each may have been done already. */
static enum bk_status settle(struct backups_swap *swap, struct bk_error *error) {
    struct moving moving = {.swap = swap, .status = BK_OK, .error = error};
    char marker[BACKUPS_PATH_BYTES];
    if (bk_file_exists(swap->staging)) {
        enum bk_status status = bk_directory_list(swap->staging, on_old_entry, &moving, error);
        if (status == BK_OK)
            status = moving.status;
        if (status == BK_OK)
            status = bk_file_rename(swap->staging, swap->aside, error);
        if (status != BK_OK)
            return status;
    }
    if (has_marker(swap->live) && bk_path_join(marker, sizeof marker, swap->live, "incoming"))
        return bk_file_remove(marker, error);
    return BK_OK;
}

/* --- the three steps of a restore ------------------------------------------------------------- */

static void on_begun_entry(void *user, const char *name, bool is_directory) {
    bool *is_only_begun = user;
    if (is_directory || strncmp(name, ".incoming.tmp-", strlen(".incoming.tmp-")) != 0)
        *is_only_begun = false;
}

/* A restore that ended between the making of the directory and that of "incoming". */
static bool is_only_begun(const char *directory) {
    bool is = true;
    return bk_directory_list(directory, on_begun_entry, &is, NULL) == BK_OK && is;
}

enum bk_status backups_swap_recover(struct backups_swap *swap, struct bk_error *error) {
    bool is_staged = bk_file_exists(swap->staging);
    if (is_staged && (has_marker(swap->staging) || is_only_begun(swap->staging)))
        return bk_directory_remove(swap->staging, error);
    if (is_staged && !has_marker(swap->live))
        return bk_error_set(error, BK_CONFLICT,
                            "%s is in the way, and no restore of this program left it: move it "
                            "away",
                            swap->staging);
    return settle(swap, error);
}

enum bk_status backups_swap_begin(struct backups_swap *swap, struct bk_error *error) {
    char marker[BACKUPS_PATH_BYTES];
    enum bk_status status = bk_directory_create(swap->staging, error);
    if (status != BK_OK)
        return status;
    if (!bk_path_join(marker, sizeof marker, swap->staging, "incoming"))
        return bk_error_set(error, BK_INVALID, "the path is too long");
    return bk_file_write_atomic(marker, BK_SLICE(""), error);
}

static enum bk_status sync_directory(const char *path, struct bk_error *error) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = descriptor >= 0 && fsync(descriptor) == 0;
    if (descriptor >= 0)
        close(descriptor);
    if (is_synced)
        return BK_OK;
    return bk_error_set(error, BK_IO, "cannot sync %s: %s", path, strerrordesc_np(errno));
}

static enum bk_status exchange(struct backups_swap *swap, struct bk_error *error) {
    char parent[BACKUPS_PATH_BYTES];
    if (renameat2(AT_FDCWD, swap->staging, AT_FDCWD, swap->live, RENAME_EXCHANGE) != 0)
        return bk_error_set(error, BK_IO,
                            "cannot exchange %s and %s: %s. Nothing was changed; keep the data "
                            "directory on a local file system such as ext4 or xfs",
                            swap->staging, swap->live, strerrordesc_np(errno));
    snprintf(parent, sizeof parent, "%.*s",
             (int)(strlen(swap->live) - strlen(strrchr(swap->live, '/'))), swap->live);
    return sync_directory(parent, error);
}

enum bk_status backups_swap_finish(struct backups_swap *swap, struct bk_error *error) {
    BK_ASSERT(has_marker(swap->staging));
    enum bk_status status = sync_directory(swap->staging, error);
    (void)BK_FAILPOINT("backups.before_exchange");
    if (status == BK_OK && !bk_file_exists(swap->live))
        status = bk_file_rename(swap->staging, swap->live, error);
    else if (status == BK_OK)
        status = exchange(swap, error);
    (void)BK_FAILPOINT("backups.after_exchange");
    return status == BK_OK ? settle(swap, error) : status;
}
