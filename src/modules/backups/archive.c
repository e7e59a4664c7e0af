/*
 * The format: a zip with two entries, so that any tool can look into it:
 *
 *   backup.json  {"format":1,"tenant":"default","created":"2026-06-08T12:00:00.000Z"}
 *   data.db      the database, a consistent copy
 *
 * The manifest comes first: what has none is not an archive of ours and nothing is unpacked. Sizes
 * are written in the 64-bit form, since a database may pass 4 GiB. Deflate's fastest level is used:
 * pages of text shrink to a third with it, and a slower one would mostly cost time. The checksum of
 * each entry is verified when it is read.
 */
#define _GNU_SOURCE 1 /* strerrordesc_np */
#include "archive.h"

#include "bakend/alloc.h"
#include "bakend/buffer.h"
#include "bakend/clock.h"
#include "bakend/json.h"
#include "bakend/tenant.h"
#include <errno.h>
#include <fcntl.h>
#include <minizip/unzip.h>
#include <minizip/zip.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    STEP_BYTES = 256 * 1024,
    MANIFEST_MAX_BYTES = 4096,
    FORMAT = 1,
    LEVEL = 1,
};
#define MANIFEST_NAME "backup.json"
#define DATABASE_NAME "data.db"

static enum bk_status fail_io(struct bk_error *error, const char *verb, const char *path) {
    enum bk_status status = errno == ENOSPC ? BK_DISK_FULL : BK_IO;
    return bk_error_set(error, status, "cannot %s %s: %s", verb, path, strerrordesc_np(errno));
}

static enum bk_status sync_file(const char *path, struct bk_error *error) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return fail_io(error, "open", path);
    int result = fsync(descriptor);
    enum bk_status status = result == 0 ? BK_OK : fail_io(error, "sync", path);
    close(descriptor);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

static bool begin_entry(zipFile zip, const char *name) {
    zip_fileinfo info = {0};
    return zipOpenNewFileInZip64(zip, name, &info, NULL, 0, NULL, 0, NULL, Z_DEFLATED, LEVEL, 1) ==
           ZIP_OK;
}

static bool write_manifest(zipFile zip, struct bk_slice tenant) {
    char created[BK_TIME_TEXT_BYTES];
    struct bk_buffer text;
    bk_buffer_init(&text, MANIFEST_MAX_BYTES);
    bk_time_format(created, bk_clock_wall_ms(), 'T');
    bk_buffer_append_char(&text, '{');
    bk_json_write_member_int(&text, BK_SLICE("format"), FORMAT);
    bk_json_write_member_string(&text, BK_SLICE("tenant"), tenant);
    bk_json_write_member_string(&text, BK_SLICE("created"),
                                bk_slice_make(created, BK_TIME_TEXT_BYTES));
    bk_buffer_append_literal(&text, "}\n");
    bool is_written = begin_entry(zip, MANIFEST_NAME) &&
                      zipWriteInFileInZip(zip, text.data, (unsigned)text.length) == ZIP_OK &&
                      zipCloseFileInZip(zip) == ZIP_OK;
    bk_buffer_fini(&text);
    return is_written;
}

static enum bk_status pump_into_zip(zipFile zip, int source, const char *source_path,
                                    const char *path, struct bk_error *error) {
    char *step = bk_alloc(STEP_BYTES);
    enum bk_status status = BK_OK;
    ssize_t count = 0;
    while (status == BK_OK && (count = read(source, step, STEP_BYTES)) > 0)
        if (zipWriteInFileInZip(zip, step, (unsigned)count) != ZIP_OK)
            status = fail_io(error, "write", path);
    if (count < 0)
        status = fail_io(error, "read", source_path);
    bk_free(step);
    return status;
}

static enum bk_status write_database(zipFile zip, const char *database_path, const char *path,
                                     struct bk_error *error) {
    int source = open(database_path, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return fail_io(error, "open", database_path);
    enum bk_status status = BK_OK;
    if (!begin_entry(zip, DATABASE_NAME))
        status = fail_io(error, "write", path);
    if (status == BK_OK)
        status = pump_into_zip(zip, source, database_path, path, error);
    if (status == BK_OK && zipCloseFileInZip(zip) != ZIP_OK)
        status = fail_io(error, "write", path);
    close(source);
    return status;
}

static enum bk_status write_entries(const char *path, const char *database_path,
                                    struct bk_slice tenant, struct bk_error *error) {
    zipFile zip = zipOpen64(path, APPEND_STATUS_CREATE);
    if (zip == NULL)
        return fail_io(error, "create", path);
    enum bk_status status = BK_OK;
    if (!write_manifest(zip, tenant))
        status = fail_io(error, "write", path);
    if (status == BK_OK)
        status = write_database(zip, database_path, path, error);
    if (zipClose(zip, NULL) != ZIP_OK && status == BK_OK)
        status = fail_io(error, "write", path);
    return status;
}

enum bk_status backups_archive_write(const char *path, const char *database_path,
                                     struct bk_slice tenant, struct bk_error *error) {
    errno = EIO; /* the library does not always set it */
    enum bk_status status = write_entries(path, database_path, tenant, error);
    if (status == BK_OK)
        status = sync_file(path, error);
    if (status != BK_OK)
        (void)unlink(path);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum bk_status refuse(const char *path, struct bk_error *error) {
    return bk_error_set(error, BK_INVALID,
                        "%s is not a backup of bakend: it must be a zip with %s and %s", path,
                        MANIFEST_NAME, DATABASE_NAME);
}

static enum bk_status refuse_damaged(const char *path, struct bk_error *error) {
    return bk_error_set(error, BK_CORRUPT, "%s is damaged: use another backup", path);
}

/* A zip begins with an entry, and its directory is at the end. */
static enum bk_status refuse_unopened(const char *path, struct bk_error *error) {
    char beginning[4] = "";
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    bool is_zip = descriptor >= 0 && read(descriptor, beginning, sizeof beginning) == 4 &&
                  memcmp(beginning, "PK\x03\x04", 4) == 0;
    if (descriptor >= 0)
        close(descriptor);
    if (!is_zip)
        return refuse(path, error);
    return bk_error_set(
        error, BK_CORRUPT,
        "%s is incomplete, its end is missing: copy it again, or use another backup", path);
}

static enum bk_status refuse_tenant(const char *path, struct bk_slice tenant,
                                    struct bk_error *error) {
    return bk_error_set(error, BK_CONFLICT,
                        "%s is a backup of the tenant %.*s: restore it with --tenant %.*s, or add "
                        "--from-tenant %.*s to put it in another tenant's place",
                        path, BK_SLICE_PRINT(tenant), BK_SLICE_PRINT(tenant),
                        BK_SLICE_PRINT(tenant));
}

static enum bk_status check_manifest(struct bk_slice text, struct bk_slice tenant, const char *path,
                                     struct bk_error *error) {
    struct bk_slice owner = BK_SLICE_EMPTY;
    char owner_text[BK_TENANT_NAME_BYTES_MAX];
    struct bk_arena arena;
    struct bk_json *manifest = NULL;
    int64_t format = 0;
    bk_arena_init(&arena, MANIFEST_MAX_BYTES * 16);
    bool is_read =
        bk_json_parse(&arena, text, &manifest, NULL) == BK_OK && manifest->type == BK_JSON_OBJECT;
    const struct bk_json *value = is_read ? bk_json_get(manifest, BK_SLICE("format")) : NULL;
    is_read = value != NULL && bk_json_to_int64(value, &format);
    if (is_read)
        owner = bk_json_get_string(manifest, BK_SLICE("tenant"));
    is_read = is_read && bk_tenant_name_is_valid(owner);
    if (is_read) {
        memcpy(owner_text, owner.data, owner.length);
        owner.data = owner_text;
    }
    bk_arena_fini(&arena);
    if (!is_read)
        return refuse(path, error);
    if (format != FORMAT)
        return bk_error_set(error, BK_NOT_SUPPORTED,
                            "%s has format %lld, and this program reads format %d: use the program "
                            "that made it, or a newer one",
                            path, (long long)format, FORMAT);
    return bk_slice_equal(owner, tenant) ? BK_OK : refuse_tenant(path, owner, error);
}

static enum bk_status read_manifest(unzFile zip, struct bk_slice tenant, const char *path,
                                    struct bk_error *error) {
    char text[MANIFEST_MAX_BYTES];
    if (unzLocateFile(zip, MANIFEST_NAME, 1) != UNZ_OK || unzOpenCurrentFile(zip) != UNZ_OK)
        return refuse(path, error);
    int count = unzReadCurrentFile(zip, text, sizeof text);
    if (count < 0 || unzCloseCurrentFile(zip) != UNZ_OK)
        return refuse_damaged(path, error);
    return check_manifest(bk_slice_make(text, (size_t)count), tenant, path, error);
}

static bool write_all(int descriptor, const char *data, size_t length) {
    while (length > 0) {
        ssize_t count = write(descriptor, data, length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        data += count;
        length -= (size_t)count;
    }
    return true;
}

static enum bk_status pump_out_of_zip(unzFile zip, int target, const char *path,
                                      const char *target_path, struct bk_error *error) {
    char *step = bk_alloc(STEP_BYTES);
    enum bk_status status = BK_OK;
    int count = 0;
    while (status == BK_OK && (count = unzReadCurrentFile(zip, step, STEP_BYTES)) > 0)
        if (!write_all(target, step, (size_t)count))
            status = fail_io(error, "write", target_path);
    if (count < 0)
        status = refuse_damaged(path, error);
    bk_free(step);
    return status;
}

static enum bk_status read_database(unzFile zip, const char *path, const char *database_path,
                                    struct bk_error *error) {
    if (unzLocateFile(zip, DATABASE_NAME, 1) != UNZ_OK || unzOpenCurrentFile(zip) != UNZ_OK)
        return refuse(path, error);
    int target = open(database_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (target < 0)
        return fail_io(error, "create", database_path);
    enum bk_status status = pump_out_of_zip(zip, target, path, database_path, error);
    if (status == BK_OK && fsync(target) != 0)
        status = fail_io(error, "sync", database_path);
    close(target);
    /* The checksum is compared here. */
    if (status == BK_OK && unzCloseCurrentFile(zip) != UNZ_OK)
        status = refuse_damaged(path, error);
    return status;
}

enum bk_status backups_archive_read(const char *path, const char *database_path,
                                    struct bk_slice tenant, struct bk_error *error) {
    if (access(path, R_OK) != 0)
        return fail_io(error, "read", path);
    unzFile zip = unzOpen64(path);
    if (zip == NULL)
        return refuse_unopened(path, error);
    enum bk_status status = read_manifest(zip, tenant, path, error);
    if (status == BK_OK)
        status = read_database(zip, path, database_path, error);
    unzClose(zip);
    return status;
}
