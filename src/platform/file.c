/*
 * Files and directories, by plain blocking system calls.
 *
 * What is written here survives a power cut: data is synced before a name points at it, and the
 * directory that holds a new name, or has lost one, is synced after. An atomic write goes to a
 * temporary file beside its target (".NAME.tmp-" and 12 random characters), so that a crash leaves
 * the old content, and at worst a hidden file that nobody reads or takes for a sign of use. The
 * failpoint file.before_rename is between the two.
 *
 * Only bk_file_read follows a link in the last part of a path: secrets are mounted that way.
 * Removal walks by descriptors, so that a directory swapped for a link underneath it leads nowhere.
 */
#define _GNU_SOURCE 1 /* strerrordesc_np, which unlike strerror is for any thread */
#include "bakend/file.h"
#include "bakend/assert.h"
#include "bakend/failpoint.h"
#include "bakend/id.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DIRECTORY_MODE = 0700,
    FILE_MODE = 0600,
    DEPTH_MAX = 64, /* directories within directories that a removal goes down */
    READ_CHUNK_BYTES = 65536,
    TEMPORARY_RANDOM_BYTES = 12,
    PROCESS_ID_BYTES = 24 /* decimal, newline, NUL */
};

static const struct bk_slice TEMPORARY_ALPHABET =
    BK_SLICE_INIT("abcdefghijklmnopqrstuvwxyz0123456789");

/* --- errors ----------------------------------------------------------------------------------- */

static enum bk_status status_of(int code) {
    switch (code) {
    case ENOENT:
        return BK_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return BK_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return BK_DISK_FULL;
    case ENOMEM:
        return BK_NO_MEMORY;
    case ENAMETOOLONG:
        return BK_INVALID;
    case EMFILE: /* until a connection or a file is closed */
    case ENFILE:
        return BK_BUSY;
    default:
        return BK_IO;
    }
}

/* Of errno; what is the attempt, "open". */
static enum bk_status fail(struct bk_error *error, const char *what, const char *path) {
    int code = errno;
    const char *reason = strerrordesc_np(code);
    return bk_error_set(error, status_of(code), "%s %s: %s", what, path,
                        reason == NULL ? "unknown error" : reason);
}

/* --- paths ------------------------------------------------------------------------------------ */

bool bk_path_join(char *out, size_t size_bytes, const char *directory, const char *name) {
    size_t directory_length = strlen(directory);
    int length;
    while (directory_length > 0 && directory[directory_length - 1] == '/')
        directory_length--;
    while (directory[0] != '\0' && name[0] == '/')
        name++;
    if (directory_length > INT_MAX)
        return false;
    length = snprintf(out, size_bytes, "%.*s%s%s", (int)directory_length, directory,
                      directory[0] == '\0' ? "" : "/", name);
    if (length >= 0 && (size_t)length < size_bytes)
        return true;
    if (size_bytes > 0)
        out[0] = '\0';
    return false;
}

/* The directory that holds path: "." when it names none. */
static bool parent_of(const char *path, char out[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    int length;
    if (slash == NULL)
        length = snprintf(out, PATH_MAX, ".");
    else
        length = snprintf(out, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return length >= 0 && length < PATH_MAX;
}

/* Makes a new, changed or removed name within the directory durable. */
static enum bk_status sync_parent(const char *path, struct bk_error *error) {
    char parent[PATH_MAX];
    enum bk_status status = BK_OK;
    int descriptor;
    if (!parent_of(path, parent))
        return bk_error_set(error, BK_INVALID, "%s: the path is too long", path);
    descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return fail(error, "open", parent);
    /* Some file systems have nothing to sync in a directory and say so with EINVAL. */
    if (fsync(descriptor) != 0 && errno != EINVAL)
        status = fail(error, "sync", parent);
    (void)close(descriptor);
    return status;
}

/* --- directories ------------------------------------------------------------------------------ */

static enum bk_status create_one(const char *path, struct bk_error *error) {
    struct stat facts;
    if (mkdir(path, DIRECTORY_MODE) == 0)
        return sync_parent(path, error);
    if (errno != EEXIST)
        return fail(error, "create directory", path);
    if (stat(path, &facts) != 0)
        return fail(error, "look at", path);
    if (!S_ISDIR(facts.st_mode))
        return bk_error_set(error, BK_CONFLICT, "%s is a file; remove it or name another directory",
                            path);
    return BK_OK;
}

enum bk_status bk_directory_create(const char *path, struct bk_error *error) {
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(part))
        return bk_error_set(error, BK_INVALID, "a directory's path has 1 to %d bytes",
                            PATH_MAX - 1);
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        enum bk_status status;
        if ((part[i] != '/' && part[i] != '\0') || part[i - 1] == '/')
            continue;
        part[i] = '\0';
        status = create_one(part, error);
        if (status != BK_OK)
            return status;
        part[i] = path[i];
    }
    return BK_OK;
}

static bool is_dot(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

/* Not through a link. */
static bool entry_is_directory(int directory, const struct dirent *entry) {
    struct stat facts;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(directory, entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(facts.st_mode);
}

static enum bk_status remove_within(int parent, const char *name, int depth,
                                    struct bk_error *error);

/* Takes the descriptor. */
static enum bk_status remove_entries(int descriptor, const char *name, int depth,
                                     struct bk_error *error) {
    DIR *directory = fdopendir(descriptor);
    enum bk_status status = BK_OK;
    struct dirent *entry;
    if (directory == NULL) {
        status = fail(error, "open", name);
        (void)close(descriptor);
        return status;
    }
    while (status == BK_OK && (errno = 0, entry = readdir(directory)) != NULL) {
        if (is_dot(entry->d_name))
            continue;
        if (entry_is_directory(descriptor, entry))
            status = remove_within(descriptor, entry->d_name, depth + 1, error);
        else if (unlinkat(descriptor, entry->d_name, 0) != 0 && errno != ENOENT)
            status = fail(error, "remove", entry->d_name);
    }
    if (status == BK_OK && errno != 0 && errno != ENOENT)
        status = fail(error, "read directory", name);
    (void)closedir(directory);
    return status;
}

static enum bk_status remove_within(int parent, const char *name, int depth,
                                    struct bk_error *error) {
    enum bk_status status;
    int descriptor;
    if (depth > DEPTH_MAX)
        return bk_error_set(error, BK_LIMIT, "%s lies more than %d directories deep", name,
                            DEPTH_MAX);
    descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0)
        return errno == ENOENT ? BK_OK : fail(error, "open directory", name);
    status = remove_entries(descriptor, name, depth, error);
    if (status == BK_OK && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        status = fail(error, "remove directory", name);
    return status;
}

enum bk_status bk_directory_remove(const char *path, struct bk_error *error) {
    return remove_within(AT_FDCWD, path, 0, error);
}

enum bk_status bk_directory_list(const char *path,
                                 void (*on_entry)(void *user, const char *name, bool is_directory),
                                 void *user, struct bk_error *error) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = descriptor < 0 ? NULL : fdopendir(descriptor);
    enum bk_status status = BK_OK;
    struct dirent *entry;
    if (directory == NULL) {
        status = fail(error, "open directory", path);
        if (descriptor >= 0)
            (void)close(descriptor);
        return status;
    }
    while ((errno = 0, entry = readdir(directory)) != NULL) {
        if (!is_dot(entry->d_name))
            on_entry(user, entry->d_name, entry_is_directory(descriptor, entry));
    }
    if (errno != 0)
        status = fail(error, "read directory", path);
    (void)closedir(directory);
    return status;
}

/* --- facts ------------------------------------------------------------------------------------ */

bool bk_file_exists(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0;
}

int64_t bk_file_size(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 ? (int64_t)facts.st_size : -1;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Appends one chunk; *is_end when there was none. At the maximum one byte more tells whether the
 * file ends there, too. */
static enum bk_status read_chunk(int descriptor, const char *path, struct bk_buffer *out,
                                 bool *is_end, struct bk_error *error) {
    size_t left_bytes = out->max_bytes - out->length;
    size_t room_bytes = left_bytes < READ_CHUNK_BYTES ? left_bytes : READ_CHUNK_BYTES;
    char extra;
    ssize_t got;
    if (room_bytes > 0 && !bk_buffer_reserve(out, room_bytes))
        return bk_error_set(error, BK_NO_MEMORY, "read %s: out of memory", path);
    got = read(descriptor, room_bytes > 0 ? out->data + out->length : &extra,
               room_bytes > 0 ? room_bytes : 1);
    if (got < 0)
        return errno == EINTR ? BK_OK : fail(error, "read", path);
    if (got > 0 && room_bytes == 0)
        return bk_error_set(error, BK_TOO_LARGE, "%s has more than %zu bytes", path,
                            out->max_bytes);
    out->length += (size_t)got;
    *is_end = got == 0;
    return BK_OK;
}

enum bk_status bk_file_read(const char *path, struct bk_buffer *out, struct bk_error *error) {
    size_t length_before = out->length;
    enum bk_status status = BK_OK;
    bool is_end = false;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return fail(error, "open", path);
    BK_ASSERT(!out->is_overflown);
    while (status == BK_OK && !is_end)
        status = read_chunk(descriptor, path, out, &is_end, error);
    (void)close(descriptor);
    if (status != BK_OK)
        out->length = length_before;
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

static enum bk_status write_all(int descriptor, const char *path, struct bk_slice data,
                                struct bk_error *error) {
    while (data.length > 0) {
        ssize_t written = write(descriptor, data.data, data.length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return fail(error, "write", path);
        data.data += written;
        data.length -= (size_t)written;
    }
    return BK_OK;
}

/* A new file with the data, synced. Leaves nothing behind when it fails. */
static enum bk_status write_new(const char *path, struct bk_slice data, struct bk_error *error) {
    enum bk_status status;
    int descriptor =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode_t)FILE_MODE);
    if (descriptor < 0)
        return fail(error, "create", path);
    status = write_all(descriptor, path, data, error);
    if (status == BK_OK && fsync(descriptor) != 0)
        status = fail(error, "sync", path);
    if (close(descriptor) != 0 && status == BK_OK)
        status = fail(error, "close", path);
    if (status != BK_OK)
        (void)unlink(path);
    return status;
}

/* Where the rename fails there is nothing new to make durable. */
static enum bk_status rename_and_sync(const char *from, const char *to, struct bk_error *error) {
    if (rename(from, to) != 0)
        return fail(error, "rename", from);
    return sync_parent(to, error);
}

/* Beside the path, hidden. */
static bool temporary_of(const char *path, char out[PATH_MAX]) {
    char random[TEMPORARY_RANDOM_BYTES];
    const char *slash = strrchr(path, '/');
    size_t directory_length = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    int length;
    if (directory_length >= PATH_MAX)
        return false;
    bk_random_text(random, sizeof(random), TEMPORARY_ALPHABET);
    length = snprintf(out, PATH_MAX, "%.*s.%s.tmp-%.*s", (int)directory_length, path,
                      path + directory_length, (int)sizeof(random), random);
    return length >= 0 && length < PATH_MAX;
}

enum bk_status bk_file_write_atomic(const char *path, struct bk_slice data,
                                    struct bk_error *error) {
    char temporary[PATH_MAX];
    enum bk_status status;
    if (!temporary_of(path, temporary))
        return bk_error_set(error, BK_INVALID, "%s: the path is too long", path);
    status = write_new(temporary, data, error);
    if (status != BK_OK)
        return status;
    status = BK_FAILPOINT("file.before_rename");
    if (status != BK_OK)
        (void)bk_error_set(error, status, "rename %s: failpoint", temporary);
    else
        status = rename_and_sync(temporary, path, error);
    if (status != BK_OK)
        (void)unlink(temporary);
    return status;
}

enum bk_status bk_file_rename(const char *from, const char *to, struct bk_error *error) {
    char from_parent[PATH_MAX], to_parent[PATH_MAX];
    enum bk_status status = rename_and_sync(from, to, error);
    if (status != BK_OK)
        return status;
    if (parent_of(from, from_parent) && parent_of(to, to_parent) &&
        strcmp(from_parent, to_parent) != 0)
        return sync_parent(from, error);
    return BK_OK;
}

enum bk_status bk_file_remove(const char *path, struct bk_error *error) {
    if (unlink(path) != 0)
        return fail(error, "remove", path);
    return sync_parent(path, error);
}

/* --- locking ---------------------------------------------------------------------------------- */

/* The owner writes its id after it got the lock, so that for an instant there may be none. */
static enum bk_status report_owner(int descriptor, const char *path, struct bk_error *error) {
    char text[PROCESS_ID_BYTES];
    int64_t owner;
    ssize_t got = pread(descriptor, text, sizeof(text), 0);
    struct bk_slice number = bk_slice_trim(bk_slice_make(text, got > 0 ? (size_t)got : 0));
    if (bk_slice_to_int64(number, &owner) && owner > 0)
        return bk_error_set(error, BK_CONFLICT, "%s is locked by process %lld; stop it first", path,
                            (long long)owner);
    return bk_error_set(error, BK_CONFLICT, "%s is locked by another process; stop it first", path);
}

static enum bk_status write_owner(int descriptor, const char *path, struct bk_error *error) {
    char text[PROCESS_ID_BYTES];
    int length = snprintf(text, sizeof(text), "%lld\n", (long long)getpid());
    BK_ASSERT(length > 0 && (size_t)length < sizeof(text));
    if (ftruncate(descriptor, 0) != 0)
        return fail(error, "empty", path);
    return write_all(descriptor, path, bk_slice_make(text, (size_t)length), error);
}

enum bk_status bk_file_lock(const char *path, int *descriptor, struct bk_error *error) {
    enum bk_status status;
    int opened = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, (mode_t)FILE_MODE);
    if (opened < 0)
        return fail(error, "open", path);
    if (flock(opened, LOCK_EX | LOCK_NB) == 0)
        status = write_owner(opened, path, error);
    else if (errno == EWOULDBLOCK)
        status = report_owner(opened, path, error);
    else
        status = fail(error, "lock", path);
    if (status != BK_OK)
        (void)close(opened);
    else
        *descriptor = opened;
    return status;
}

/* The file stays: removing it would let two processes lock two files of one name. */
void bk_file_unlock(int descriptor) {
    BK_ASSERT(descriptor >= 0);
    (void)close(descriptor);
}
