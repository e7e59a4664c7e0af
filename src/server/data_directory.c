/*
 * data/            0700
 *   lock           held (flock) by the one process that has the directory; holds its id
 *   instance.key   0600, base64url of 32 random bytes; made once, never replaced: what is signed or
 *                  encrypted with keys derived from it would be lost
 *   bakend.sock    0600, the control socket
 *   instance.db    0600, when each tenant is next due; made anew when it is missing
 *   tenants/NAME/  a tenant's database and files
 */
#include "data_directory.h"

#include "bakend/assert.h"
#include "bakend/encode.h"
#include "bakend/file.h"
#include "bakend/id.h"
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_MAX_BYTES = 4096, OTHERS_MAY = 077 };

static enum bk_status path_of(char path[PATH_MAX_BYTES], const char *directory, const char *name,
                              struct bk_error *error) {
    if (bk_path_join(path, PATH_MAX_BYTES, directory, name))
        return BK_OK;
    return bk_error_set(error, BK_INVALID, "--data: the path is too long");
}

enum bk_status data_directory_lock(const char *path, int *lock, struct bk_error *error) {
    char file[PATH_MAX_BYTES];
    enum bk_status status = bk_directory_create(path, error);
    if (status == BK_OK)
        status = path_of(file, path, "lock", error);
    if (status != BK_OK)
        return status;
    status = bk_file_lock(file, lock, error);
    if (status == BK_CONFLICT)
        bk_error_prefix(error,
                        "the data directory %s is in use (stop that process, or give another "
                        "--data)",
                        path);
    return status;
}

/* --- a directory that was made in vain -------------------------------------------------------- */

size_t data_directory_missing(const char *path) {
    char part[PATH_MAX_BYTES];
    size_t length = strlen(path);
    if (length >= sizeof part)
        return 0;
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if ((part[i] != '/' && part[i] != '\0') || part[i - 1] == '/')
            continue;
        part[i] = '\0';
        if (!bk_file_exists(part))
            return i;
        part[i] = path[i];
    }
    return 0;
}

void data_directory_discard(const char *path, size_t missing) {
    char part[PATH_MAX_BYTES];
    size_t length = strlen(path);
    BK_ASSERT(missing > 0 && missing <= length && length < sizeof part);
    (void)bk_directory_remove(path, NULL);
    memcpy(part, path, length + 1);
    for (; length >= missing; length--) {
        if (part[length] != '/' && part[length] != '\0')
            continue;
        part[length] = '\0';
        (void)rmdir(part);
    }
}

enum bk_status data_directory_hold(const char *path, int *lock, struct bk_error *error) {
    char file[PATH_MAX_BYTES];
    enum bk_status status = path_of(file, path, "lock", error);
    if (status != BK_OK)
        return status;
    *lock = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (*lock < 0 || flock(*lock, LOCK_EX | LOCK_NB) == 0)
        return BK_OK;
    close(*lock);
    *lock = -1;
    return bk_error_set(error, BK_CONFLICT,
                        "a process that does not answer has the directory: see the id in %s", file);
}

bool data_directory_has(const char *path, const char *name) {
    char file[PATH_MAX_BYTES];
    return bk_path_join(file, sizeof file, path, name) && bk_file_exists(file);
}

int data_directory_mode(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 ? (int)(info.st_mode & 07777) : -1;
}

static enum bk_status make_key(const char *file, uint8_t key[BK_KEY_BYTES],
                               struct bk_error *error) {
    char text[INSTANCE_KEY_TEXT_BYTES + 1];
    bk_random_bytes(key, BK_KEY_BYTES);
    size_t length = bk_base64url_encode(text, key, BK_KEY_BYTES);
    BK_ASSERT(length == INSTANCE_KEY_TEXT_BYTES);
    text[length] = '\n';
    enum bk_status status = bk_file_write_atomic(file, bk_slice_make(text, length + 1), error);
    bk_crypto_wipe(text, sizeof text);
    return status;
}

static enum bk_status decode_key(const char *file, struct bk_slice text, uint8_t key[BK_KEY_BYTES],
                                 struct bk_error *error) {
    size_t length = BK_KEY_BYTES;
    if (text.length == INSTANCE_KEY_TEXT_BYTES && bk_base64url_decode(text, key, &length) &&
        length == BK_KEY_BYTES)
        return BK_OK;
    return bk_error_set(
        error, BK_CORRUPT,
        "%s is not an instance key: put the original file back from a copy; without "
        "it tokens and secrets of this directory are lost",
        file);
}

enum bk_status data_directory_read_key(const char *path, uint8_t key[BK_KEY_BYTES], bool *is_new,
                                       struct bk_error *error) {
    char file[PATH_MAX_BYTES];
    enum bk_status status = path_of(file, path, "instance.key", error);
    if (status != BK_OK)
        return status;
    int mode = data_directory_mode(file);
    *is_new = mode < 0;
    if (*is_new)
        return make_key(file, key, error);
    if ((mode & OTHERS_MAY) != 0)
        return bk_error_set(
            error, BK_FORBIDDEN,
            "%s can be read by others (mode %04o): run chmod 600 %s, and treat what "
            "was signed with it as known",
            file, (unsigned)mode, file);
    struct bk_buffer text;
    bk_buffer_init(&text, PATH_MAX_BYTES);
    status = bk_file_read(file, &text, error);
    if (status == BK_OK)
        status = decode_key(file, bk_slice_trim(bk_buffer_slice(&text)), key, error);
    if (text.data != NULL)
        bk_crypto_wipe(text.data, text.capacity);
    bk_buffer_fini(&text);
    return status;
}
