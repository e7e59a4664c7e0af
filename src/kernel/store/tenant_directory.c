/*
 * Tenants on the disk: data/tenants/<name>/, mode 0700. A directory with a valid name is one.
 *
 * Creating syncs the parent directory, since a tenant that has acknowledged writes must not vanish.
 * Deleting renames the directory to data/trash-<random> first, so that the name is free at once and
 * a removal that is cut off is finished at the next start.
 */
#include "tenant_private.h"

#include "bakend/file.h"
#include "bakend/id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define TRASH_PREFIX "trash-"
#define DATABASE_NAME "data.db"

enum { TRASH_RANDOM_BYTES = 16 };

bool bk_tenant_name_is_valid(struct bk_slice name) {
    if (name.length == 0 || name.length > BK_TENANT_NAME_BYTES_MAX || name.data[0] == '-')
        return false;
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return false;
    }
    return true;
}

void tenant_directory_add_name(struct bk_tenants *tenants, struct bk_slice name) {
    char *copy = bk_alloc(name.length + 1);
    memcpy(copy, name.data, name.length);
    copy[name.length] = '\0';
    bk_free(bk_map_put(&tenants->names, bk_slice_make(copy, name.length), copy));
}

void tenant_directory_remove_name(struct bk_tenants *tenants, struct bk_slice name) {
    bk_free(bk_map_remove(&tenants->names, name));
}

static bool path_of(const struct bk_tenants *tenants, struct bk_slice name,
                    char path[TENANT_PATH_BYTES_MAX]) {
    char text[BK_TENANT_NAME_BYTES_MAX + 1];
    BK_ASSERT(name.length <= BK_TENANT_NAME_BYTES_MAX);
    memcpy(text, name.data, name.length);
    text[name.length] = '\0';
    return bk_path_join(path, TENANT_PATH_BYTES_MAX, tenants->directory, text);
}

bool bk_tenant_has_database(const struct bk_tenants *tenants, struct bk_slice name) {
    char directory[TENANT_PATH_BYTES_MAX], path[TENANT_PATH_BYTES_MAX];
    return path_of(tenants, name, directory) &&
           bk_path_join(path, sizeof path, directory, DATABASE_NAME) && bk_file_exists(path);
}

static enum bk_status sync_directory(const char *path, struct bk_error *error) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = -1;
    if (descriptor >= 0) {
        result = fsync(descriptor);
        (void)close(descriptor);
    }
    if (result != 0)
        return bk_error_set(error, BK_IO, "%s cannot be synced: %s", path, strerror(errno));
    return BK_OK;
}

enum bk_status tenant_directory_create(struct bk_tenants *tenants, struct bk_slice name,
                                       struct bk_error *error) {
    char path[TENANT_PATH_BYTES_MAX];
    enum bk_status status;
    if (!path_of(tenants, name, path))
        return bk_error_set(error, BK_INVALID, "the path of the data directory is too long");
    status = bk_directory_create(path, error);
    if (status == BK_OK)
        status = sync_directory(tenants->directory, error);
    if (status == BK_OK)
        tenant_directory_add_name(tenants, name);
    return status;
}

enum bk_status tenant_directory_discard(struct bk_tenants *tenants, struct bk_slice name,
                                        char trash[TENANT_PATH_BYTES_MAX], struct bk_error *error) {
    char path[TENANT_PATH_BYTES_MAX];
    char trash_name[sizeof(TRASH_PREFIX) + TRASH_RANDOM_BYTES] = TRASH_PREFIX;
    enum bk_status status;
    bk_random_text(trash_name + sizeof(TRASH_PREFIX) - 1, TRASH_RANDOM_BYTES,
                   BK_SLICE("abcdefghijklmnopqrstuvwxyz0123456789"));
    if (!path_of(tenants, name, path) ||
        !bk_path_join(trash, TENANT_PATH_BYTES_MAX, tenants->data_directory, trash_name))
        return bk_error_set(error, BK_INVALID, "the path of the data directory is too long");
    status = bk_file_rename(path, trash, error);
    if (status == BK_OK)
        status = sync_directory(tenants->directory, error);
    return status;
}

/* --- a database that is gone ------------------------------------------------------------------ */

struct remains {
    bool has_database_file; /* data.db, empty */
    bool is_used;
};

/* A directory without a database is a new tenant's when nothing but its marker is in it. An empty
 * data.db, maybe with a journal, is what a first opening that was cut off leaves. */
static void on_remains(void *user, const char *name, bool is_directory) {
    struct remains *remains = user;
    bool is_database = strncmp(name, DATABASE_NAME, strlen(DATABASE_NAME)) == 0;
    (void)is_directory;
    if (name[0] == '.' || strcmp(name, "unfinished") == 0)
        return;
    if (!is_database || !remains->has_database_file)
        remains->is_used = true;
}

bool tenant_directory_lost_database(struct bk_tenants *tenants, struct bk_slice name,
                                    struct bk_error *error) {
    char directory[TENANT_PATH_BYTES_MAX], path[TENANT_PATH_BYTES_MAX];
    if (!path_of(tenants, name, directory) ||
        !bk_path_join(path, sizeof(path), directory, DATABASE_NAME) || bk_file_size(path) > 0)
        return false;
    struct remains remains = {.has_database_file = bk_file_exists(path)};
    if (bk_directory_list(directory, on_remains, &remains, error) != BK_OK)
        return false;
    /* The others were made through default. */
    if (bk_slice_is(name, "default") && tenants->names.count > 1)
        remains.is_used = true;
    if (remains.is_used)
        (void)bk_error_set(error, BK_CORRUPT,
                           "%s is %s, though this tenant was in use: put the file back, or restore "
                           "a backup with `bakend restore`",
                           path, remains.has_database_file ? "empty" : "missing");
    return remains.is_used;
}

/* --- at the start ----------------------------------------------------------------------------- */

static void on_data_entry(void *user, const char *name, bool is_directory) {
    struct bk_tenants *tenants = user;
    struct bk_error error = BK_ERROR_INIT;
    char path[TENANT_PATH_BYTES_MAX];
    if (!is_directory || !bk_slice_starts_with(bk_slice_from(name), BK_SLICE(TRASH_PREFIX)))
        return;
    if (!bk_path_join(path, sizeof(path), tenants->data_directory, name))
        return;
    if (bk_directory_remove(path, &error) != BK_OK)
        bk_log_warn(&tenants->log, "trash_not_removed", BK_TEXT("path", path),
                    BK_TEXT("error", error.message));
}

static void on_tenant_entry(void *user, const char *name, bool is_directory) {
    struct bk_tenants *tenants = user;
    struct bk_slice text = bk_slice_from(name);
    if (is_directory && bk_tenant_name_is_valid(text))
        tenant_directory_add_name(tenants, text);
}

enum bk_status tenant_directory_scan(struct bk_tenants *tenants, struct bk_error *error) {
    enum bk_status status;
    if (!bk_path_join(tenants->directory, sizeof(tenants->directory), tenants->data_directory,
                      "tenants"))
        return bk_error_set(error, BK_INVALID, "the path of the data directory is too long");
    status = bk_directory_create(tenants->directory, error);
    if (status == BK_OK)
        status = sync_directory(tenants->data_directory, error);
    if (status == BK_OK)
        status = bk_directory_list(tenants->data_directory, on_data_entry, tenants, error);
    if (status == BK_OK)
        status = bk_directory_list(tenants->directory, on_tenant_entry, tenants, error);
    if (status == BK_OK && !bk_tenant_exists(tenants, BK_SLICE("default")))
        status = tenant_directory_create(tenants, BK_SLICE("default"), error);
    return status;
}
