/*
 * A disk that can lose its power: preloaded into the program (LD_PRELOAD), it writes down all that
 * the program does to the files below a directory. After a SIGKILL that protocol tells what a disk
 * may hold that was cut off at this moment; tests/integration/reliability/support/disk.mjs makes
 * such a directory of it.
 *
 *   POWER_LOSS_ROOT      the directory, an absolute path; what lies elsewhere is left out
 *   POWER_LOSS_PROTOCOL  the file that records are appended to; without it nothing is written down
 *   POWER_LOSS_SYNC_US   how long a sync takes: fsync and fdatasync wait so long, and do not reach
 *                        the real disk, which no test cuts off
 *   POWER_LOSS_LIES      a disk that lies: what ends with this text, "-wal", is not made durable by
 *                        a sync, which returns 0. Shows that a test would see a loss
 *
 * A record is written after the call that it is about has succeeded, and before that call returns:
 * what nobody has been told of may be missing. A sync has two, for what was written before it
 * began, and is done when it ends. Files are known by their inode number, and names are written
 * down with their paths, under a lock, so that their order is that of the calls. One writev to a
 * file opened with O_APPEND keeps a record in one piece; the last may be cut off by the kill.
 *
 * Not seen: memory-mapped writes, which only the -shm file of SQLite has, and it is made anew after
 * a crash. What the C library writes by itself (the stdio of minizip) is taken whole at the sync.
 *
 * A record: struct record, the name or names, the data. Numbers are little-endian.
 */
#define _GNU_SOURCE 1 /* RTLD_NEXT, open64 and their kin */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum record_kind {
    RECORD_WRITE = 1,  /* offset, data */
    RECORD_TRUNCATE,   /* offset: the new size */
    RECORD_SYNC_BEGIN, /* offset: the number of the sync */
    RECORD_SYNC_END,
    RECORD_CREATE, /* mode, a name */
    RECORD_RENAME, /* offset: the flags of renameat2; two names */
    RECORD_REMOVE, /* a name */
    RECORD_LINK,   /* two names */
    RECORD_CONTENT /* data: the whole file */
};

struct record {
    uint32_t kind, mode;
    uint64_t inode, offset, data_length;
    uint32_t name_length, other_name_length;
};

enum { OPAQUE_MAX = 64, PATH_BYTES = 2 * PATH_MAX, CHUNK_BYTES = 1 << 20 };

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int protocol = -1;
static const char *root, *lies;
static size_t root_length;
static useconds_t sync_us;
static uint64_t sync_count;
/* Inodes that stdio writes to; the oldest is forgotten. */
static uint64_t opaque[OPAQUE_MAX];
static uint32_t opaque_count;

static struct {
    int (*open)(const char *, int, ...);
    int (*openat)(int, const char *, int, ...);
    FILE *(*fopen)(const char *, const char *);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwrite)(int, const void *, size_t, off64_t);
    ssize_t (*pwritev)(int, const struct iovec *, int, off64_t);
    int (*ftruncate)(int, off64_t);
    int (*renameat2)(int, const char *, int, const char *, unsigned);
    int (*unlinkat)(int, const char *, int);
    int (*linkat)(int, const char *, int, const char *, int);
    int (*mkdirat)(int, const char *, mode_t);
} real;

/* --- beginning -------------------------------------------------------------------------------- */

static void stop_because(const char *what) {
    fprintf(stderr, "power_loss: %s: %s\n", what, strerror(errno));
    abort();
}

/* ISO C has no cast from an object's pointer to a function's. */
static void find(void *function, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        stop_because(name);
    memcpy(function, &found, sizeof found);
}

static void find_real(void) {
    find(&real.open, "open64");
    find(&real.openat, "openat64");
    find(&real.fopen, "fopen64");
    find(&real.write, "write");
    find(&real.writev, "writev");
    find(&real.pwrite, "pwrite64");
    find(&real.pwritev, "pwritev64");
    find(&real.ftruncate, "ftruncate64");
    find(&real.renameat2, "renameat2");
    find(&real.unlinkat, "unlinkat");
    find(&real.linkat, "linkat");
    find(&real.mkdirat, "mkdirat");
}

static void set_up(void) {
    const char *path = getenv("POWER_LOSS_PROTOCOL"), *us = getenv("POWER_LOSS_SYNC_US");
    find_real();
    root = getenv("POWER_LOSS_ROOT");
    lies = getenv("POWER_LOSS_LIES");
    if (path == NULL || root == NULL)
        return;
    root_length = strlen(root);
    sync_us = us == NULL ? 0 : (useconds_t)strtoul(us, NULL, 10);
    protocol = real.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (protocol < 0)
        stop_because(path);
}

static bool is_on(void) {
    (void)pthread_once(&once, set_up);
    return protocol >= 0;
}

/* --- records ---------------------------------------------------------------------------------- */

static void append(struct record record, const char *name, const char *other_name,
                   const void *data) {
    int error = errno;
    union {
        const void *given;
        void *taken;
    } parts[3] = {{name}, {other_name}, {data}}; /* writev takes no const, and changes nothing */
    record.name_length = name == NULL ? 0 : (uint32_t)strlen(name);
    record.other_name_length = other_name == NULL ? 0 : (uint32_t)strlen(other_name);
    struct iovec vectors[] = {{&record, sizeof record},
                              {parts[0].taken, record.name_length},
                              {parts[1].taken, record.other_name_length},
                              {parts[2].taken, record.data_length}};
    size_t length =
        sizeof record + record.name_length + record.other_name_length + record.data_length;
    if (real.writev(protocol, vectors, 4) != (ssize_t)length)
        stop_because("the protocol cannot be written");
    errno = error;
}

/* The inode of a regular file or a directory that is not the protocol; 0 otherwise. */
static uint64_t inode_of(int descriptor, mode_t type) {
    int error = errno;
    struct stat facts;
    bool is_one = is_on() && descriptor != protocol && fstat(descriptor, &facts) == 0 &&
                  (facts.st_mode & S_IFMT) == type;
    errno = error;
    return is_one ? facts.st_ino : 0;
}

static void note_write(int descriptor, const void *data, ssize_t count, off64_t offset) {
    uint64_t inode = count > 0 ? inode_of(descriptor, S_IFREG) : 0;
    if (inode != 0)
        append((struct record){.kind = RECORD_WRITE,
                               .inode = inode,
                               .offset = (uint64_t)offset,
                               .data_length = (uint64_t)count},
               NULL, NULL, data);
}

static void note_vectors(int descriptor, const struct iovec *vectors, ssize_t count,
                         off64_t offset) {
    for (int i = 0; count > 0; i++) {
        ssize_t part = (ssize_t)vectors[i].iov_len < count ? (ssize_t)vectors[i].iov_len : count;
        note_write(descriptor, vectors[i].iov_base, part, offset);
        offset += part;
        count -= part;
    }
}

/* Where a write without an offset began. */
static off64_t beginning_of(int descriptor, ssize_t count) {
    int error = errno;
    off64_t end = lseek64(descriptor, 0, SEEK_CUR);
    errno = error;
    return end - count;
}

/* --- paths ------------------------------------------------------------------------------------ */

/* The path, absolute; false when it does not lie below the root. */
static bool resolve(int directory, const char *path, char out[PATH_BYTES]) {
    char base[PATH_MAX] = "";
    int error = errno;
    if (path[0] != '/') {
        char link[64];
        ssize_t length;
        (void)snprintf(link, sizeof link,
                       directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
        length = readlink(link, base, sizeof base - 1);
        base[length < 0 ? 0 : length] = '\0';
    }
    (void)snprintf(out, PATH_BYTES, "%s%s%s", base, path[0] == '/' ? "" : "/", path);
    errno = error;
    return strncmp(out, root, root_length) == 0 && out[root_length] == '/';
}

static void note_created(const char *path, bool is_opaque) {
    int error = errno;
    struct stat facts = {0};
    if (lstat(path, &facts) == 0)
        append((struct record){.kind = RECORD_CREATE, .inode = facts.st_ino, .mode = facts.st_mode},
               path, NULL, NULL);
    /* The number may be one that a file now removed has had. */
    for (uint32_t i = 0; i < OPAQUE_MAX; i++)
        if (opaque[i] == facts.st_ino)
            opaque[i] = 0;
    if (is_opaque)
        opaque[opaque_count++ % OPAQUE_MAX] = facts.st_ino;
    errno = error;
}

/* From here on the functions are those of the C library, whose parameters have reserved names. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

/* --- opening ---------------------------------------------------------------------------------- */

/* Who makes a file is seen by its not having been there, so nobody may make one meanwhile. */
static int open_noted(int directory, const char *path, int flags, mode_t mode) {
    char absolute[PATH_BYTES];
    struct stat facts;
    bool is_there;
    int descriptor;
    if (!is_on() || (flags & (O_CREAT | O_TRUNC)) == 0 || !resolve(directory, path, absolute))
        return real.openat(directory, path, flags, mode);
    (void)pthread_mutex_lock(&names_lock);
    is_there = lstat(absolute, &facts) == 0;
    descriptor = real.openat(directory, path, flags, mode);
    if (descriptor >= 0 && !is_there)
        note_created(absolute, false);
    else if (descriptor >= 0 && (flags & O_TRUNC) != 0)
        append((struct record){.kind = RECORD_TRUNCATE, .inode = facts.st_ino}, NULL, NULL, NULL);
    (void)pthread_mutex_unlock(&names_lock);
    return descriptor;
}

static mode_t mode_of(int flags, va_list arguments) {
    return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

/* open and openat under all their names. */
#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = mode_of(flags, arguments);                                                   \
        va_end(arguments);                                                                         \
        return open_noted(AT_FDCWD, path, flags, mode);                                            \
    }
#define OPENAT(name)                                                                               \
    int name(int directory, const char *path, int flags, ...) {                                    \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = mode_of(flags, arguments);                                                   \
        va_end(arguments);                                                                         \
        return open_noted(directory, path, flags, mode);                                           \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int creat(const char *path, mode_t mode) {
    return open_noted(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode) { return creat(path, mode); }

FILE *fopen(const char *path, const char *mode) {
    char absolute[PATH_BYTES];
    struct stat facts;
    FILE *file;
    if (!is_on() || mode[0] == 'r' || !resolve(AT_FDCWD, path, absolute))
        return real.fopen(path, mode);
    (void)pthread_mutex_lock(&names_lock);
    bool is_there = lstat(absolute, &facts) == 0;
    file = real.fopen(path, mode);
    if (file != NULL && !is_there)
        note_created(absolute, true);
    (void)pthread_mutex_unlock(&names_lock);
    return file;
}

FILE *fopen64(const char *path, const char *mode) { return fopen(path, mode); }

/* --- writing ---------------------------------------------------------------------------------- */

ssize_t write(int descriptor, const void *data, size_t length) {
    (void)is_on();
    ssize_t count = real.write(descriptor, data, length);
    if (count > 0 && inode_of(descriptor, S_IFREG) != 0)
        note_write(descriptor, data, count, beginning_of(descriptor, count));
    return count;
}

ssize_t writev(int descriptor, const struct iovec *vectors, int vector_count) {
    (void)is_on();
    ssize_t count = real.writev(descriptor, vectors, vector_count);
    if (count > 0 && inode_of(descriptor, S_IFREG) != 0)
        note_vectors(descriptor, vectors, count, beginning_of(descriptor, count));
    return count;
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset) {
    (void)is_on();
    ssize_t count = real.pwrite(descriptor, data, length, offset);
    note_write(descriptor, data, count, offset);
    return count;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) {
    return pwrite64(descriptor, data, length, offset);
}

ssize_t pwritev64(int descriptor, const struct iovec *vectors, int vector_count, off64_t offset) {
    (void)is_on();
    ssize_t count = real.pwritev(descriptor, vectors, vector_count, offset);
    note_vectors(descriptor, vectors, count, offset);
    return count;
}

ssize_t pwritev(int descriptor, const struct iovec *vectors, int vector_count, off_t offset) {
    return pwritev64(descriptor, vectors, vector_count, offset);
}

int ftruncate64(int descriptor, off64_t length) {
    (void)is_on();
    int result = real.ftruncate(descriptor, length);
    uint64_t inode = result == 0 ? inode_of(descriptor, S_IFREG) : 0;
    if (inode != 0)
        append((struct record){.kind = RECORD_TRUNCATE, .inode = inode, .offset = (uint64_t)length},
               NULL, NULL, NULL);
    return result;
}

int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

/* --- syncing ---------------------------------------------------------------------------------- */

static bool is_opaque(uint64_t inode) {
    bool found = false;
    (void)pthread_mutex_lock(&names_lock);
    for (uint32_t i = 0; i < OPAQUE_MAX; i++)
        found = found || opaque[i] == inode;
    (void)pthread_mutex_unlock(&names_lock);
    return found;
}

/* In pieces, the first of which empties what was known. */
static void note_content(int descriptor, uint64_t inode) {
    char *chunk = malloc(CHUNK_BYTES), link[64];
    int error = errno, source;
    ssize_t count;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    source = real.open(link, O_RDONLY | O_CLOEXEC);
    if (chunk == NULL || source < 0)
        stop_because("a file cannot be read");
    append((struct record){.kind = RECORD_CONTENT, .inode = inode}, NULL, NULL, NULL);
    for (uint64_t at = 0; (count = read(source, chunk, CHUNK_BYTES)) > 0; at += (uint64_t)count)
        append(
            (struct record){
                .kind = RECORD_WRITE, .inode = inode, .offset = at, .data_length = (uint64_t)count},
            NULL, NULL, chunk);
    (void)close(source);
    free(chunk);
    errno = error;
}

/* Whether the disk lies about this one. */
static bool is_lied_about(int descriptor) {
    char link[64], path[PATH_MAX];
    if (lies == NULL)
        return false;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path);
    size_t lies_length = strlen(lies);
    return length >= (ssize_t)lies_length &&
           memcmp(path + length - lies_length, lies, lies_length) == 0;
}

int fsync(int descriptor) {
    uint64_t inode = inode_of(descriptor, S_IFREG), number;
    if (inode != 0 && is_opaque(inode))
        note_content(descriptor, inode);
    if (inode == 0)
        inode = inode_of(descriptor, S_IFDIR);
    if (inode == 0 || is_lied_about(descriptor))
        return 0;
    number = __atomic_add_fetch(&sync_count, 1, __ATOMIC_RELAXED);
    append((struct record){.kind = RECORD_SYNC_BEGIN, .inode = inode, .offset = number}, NULL, NULL,
           NULL);
    if (sync_us > 0)
        (void)usleep(sync_us);
    append((struct record){.kind = RECORD_SYNC_END, .inode = inode, .offset = number}, NULL, NULL,
           NULL);
    return 0;
}

int fdatasync(int descriptor) { return fsync(descriptor); }

/* --- names ------------------------------------------------------------------------------------ */

int renameat2(int from_directory, const char *from, int to_directory, const char *to,
              unsigned flags) {
    char from_path[PATH_BYTES], to_path[PATH_BYTES];
    (void)is_on();
    (void)pthread_mutex_lock(&names_lock);
    int result = real.renameat2(from_directory, from, to_directory, to, flags);
    if (result == 0 && is_on() && resolve(from_directory, from, from_path) &&
        resolve(to_directory, to, to_path))
        append((struct record){.kind = RECORD_RENAME, .offset = flags}, from_path, to_path, NULL);
    (void)pthread_mutex_unlock(&names_lock);
    return result;
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return renameat2(from_directory, from, to_directory, to, 0);
}

int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    char from_path[PATH_BYTES], to_path[PATH_BYTES];
    (void)is_on();
    (void)pthread_mutex_lock(&names_lock);
    int result = real.linkat(from_directory, from, to_directory, to, flags);
    if (result == 0 && is_on() && resolve(from_directory, from, from_path) &&
        resolve(to_directory, to, to_path))
        append((struct record){.kind = RECORD_LINK}, from_path, to_path, NULL);
    (void)pthread_mutex_unlock(&names_lock);
    return result;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int directory, const char *path, int flags) {
    char absolute[PATH_BYTES];
    (void)is_on();
    (void)pthread_mutex_lock(&names_lock);
    int result = real.unlinkat(directory, path, flags);
    if (result == 0 && is_on() && resolve(directory, path, absolute))
        append((struct record){.kind = RECORD_REMOVE}, absolute, NULL, NULL);
    (void)pthread_mutex_unlock(&names_lock);
    return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int directory, const char *path, mode_t mode) {
    char absolute[PATH_BYTES];
    (void)is_on();
    (void)pthread_mutex_lock(&names_lock);
    int result = real.mkdirat(directory, path, mode);
    if (result == 0 && is_on() && resolve(directory, path, absolute))
        note_created(absolute, false);
    (void)pthread_mutex_unlock(&names_lock);
    return result;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
