/* Files in a tenant's directory that say how far it is. */
#include "tenants_private.h"

#include "bakend/file.h"
#include <stdio.h>

static bool path_in_tenant(char path[TENANTS_PATH_BYTES], const struct bk_module_context *context,
                           struct bk_slice name, const char *file) {
    int length = snprintf(path, TENANTS_PATH_BYTES, "%s/tenants/%.*s/%s", context->data_directory,
                          BK_SLICE_PRINT(name), file);
    return length > 0 && length < TENANTS_PATH_BYTES;
}

enum bk_status tenants_marker_set(const struct bk_module_context *context, struct bk_slice name,
                                  struct bk_error *error) {
    char path[TENANTS_PATH_BYTES];
    if (!path_in_tenant(path, context, name, "unfinished"))
        return bk_error_set(error, BK_INVALID, "the path of the data directory is too long");
    return bk_file_write_atomic(path, BK_SLICE(""), error);
}

void tenants_marker_clear(const struct bk_module_context *context, struct bk_slice name) {
    char path[TENANTS_PATH_BYTES];
    if (path_in_tenant(path, context, name, "unfinished") && bk_file_exists(path))
        (void)bk_file_remove(path, NULL);
}

bool tenants_marker_is_set(const struct bk_module_context *context, struct bk_slice name) {
    char path[TENANTS_PATH_BYTES];
    return path_in_tenant(path, context, name, "unfinished") && bk_file_exists(path);
}

/* What an atomic write that was cut off has left is hidden. */
static void on_entry(void *user, const char *name, bool is_directory) {
    (void)is_directory;
    if (name[0] != '.')
        *(bool *)user = false;
}

bool tenants_directory_is_empty(const struct bk_module_context *context, struct bk_slice name) {
    char path[TENANTS_PATH_BYTES];
    bool is_empty = true;
    return path_in_tenant(path, context, name, "") &&
           bk_directory_list(path, on_entry, &is_empty, NULL) == BK_OK && is_empty;
}

bool tenants_has_database(const struct bk_module_context *context, struct bk_slice name) {
    char path[TENANTS_PATH_BYTES];
    return path_in_tenant(path, context, name, "data.db") && bk_file_exists(path);
}
