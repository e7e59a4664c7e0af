/*
 * The shim: each file of it has the real one behind itself. One mutex guards counters and images,
 * since every thread of a store comes by here.
 *
 * The image of a file is what would be read after the power was cut at this moment: what had been
 * synced. A sync that succeeds takes over the blocks written since the one before it; one that
 * fails drops their marks and takes over nothing. That a cut may also leave any part of what was
 * not synced is not played here. Truncation and removal count at once.
 */
#include "fault_vfs.h"

#include "support.h"

#include "bakend/alloc.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 512, IMAGES_MAX = 16, IMAGE_BYTES = 256 * 1024, PATH_BYTES = 4096 };

static const char *const suffixes[] = {"data.db", "data.db-wal"};

const char *const support_vfs_names[SUPPORT_VFS_CALLS] = {
    "xOpen", "xDelete",     "xRead",     "xWrite", "xWrite, short", "xWrite, full",  "xTruncate",
    "xSync", "xSync, full", "xFileSize", "xLock",  "xShmMap",       "xShmMap, full", "xShmLock"};

struct image {
    char path[PATH_BYTES]; /* "": free */
    uint8_t *bytes;
    size_t size, capacity;
    bool *is_dirty; /* of each block */
};

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct */
    char path[PATH_BYTES];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct support_fault fault;
static enum support_vfs_call faulty_call;
static bool is_armed, remembers_images;
static struct image images[IMAGES_MAX];
static sqlite3_vfs *real_vfs;
static sqlite3_vfs shim;

/* --- striking --------------------------------------------------------------------------------- */

static bool strikes(enum support_vfs_call call) {
    bool result;
    (void)pthread_mutex_lock(&mutex);
    result = is_armed && call == faulty_call && support_fault_strikes(&fault);
    (void)pthread_mutex_unlock(&mutex);
    return result;
}

static int refuse(int code, int system_error) {
    errno = system_error;
    return code;
}

void support_vfs_arm(enum support_vfs_call call, uint32_t nth, bool is_sticky) {
    (void)pthread_mutex_lock(&mutex);
    fault = (struct support_fault){.fail_at = nth, .is_sticky = is_sticky};
    faulty_call = call;
    is_armed = true;
    (void)pthread_mutex_unlock(&mutex);
}

uint32_t support_vfs_disarm(void) {
    uint32_t count;
    (void)pthread_mutex_lock(&mutex);
    is_armed = false;
    count = fault.pass_count;
    (void)pthread_mutex_unlock(&mutex);
    return count;
}

/* --- what the disk has ------------------------------------------------------------------------ */

static bool is_database(const char *path) {
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
        size_t length = strlen(path), tail = strlen(suffixes[i]);
        if (length > tail && strcmp(path + length - tail, suffixes[i]) == 0)
            return true;
    }
    return false;
}

/* With the mutex held, as all of these. NULL: there is none. */
static struct image *find_image(const char *path) {
    for (size_t i = 0; i < IMAGES_MAX; i++)
        if (images[i].path[0] != '\0' && strcmp(images[i].path, path) == 0)
            return &images[i];
    return NULL;
}

/* Room for so many bytes, zeroed. */
static void reserve(struct image *image, size_t size) {
    size_t capacity = image->capacity == 0 ? IMAGE_BYTES : image->capacity;
    while (capacity < size)
        capacity *= 2;
    if (capacity == image->capacity)
        return;
    image->bytes = bk_realloc(image->bytes, capacity);
    memset(image->bytes + image->capacity, 0, capacity - image->capacity);
    image->is_dirty = bk_realloc(image->is_dirty, capacity / BLOCK_BYTES);
    memset(image->is_dirty + image->capacity / BLOCK_BYTES, 0,
           (capacity - image->capacity) / BLOCK_BYTES);
    image->capacity = capacity;
}

static struct image *add_image(const char *path) {
    for (size_t i = 0; i < IMAGES_MAX; i++) {
        if (images[i].path[0] != '\0')
            continue;
        (void)snprintf(images[i].path, sizeof(images[i].path), "%s", path);
        return &images[i];
    }
    fail_msg("too many files are remembered");
    return NULL;
}

static void drop_image(struct image *image) {
    bk_free(image->bytes);
    bk_free(image->is_dirty);
    *image = (struct image){.path = ""};
}

void support_vfs_remember(bool remembers) {
    (void)pthread_mutex_lock(&mutex);
    remembers_images = remembers;
    for (size_t i = 0; i < IMAGES_MAX && !remembers; i++)
        if (images[i].path[0] != '\0')
            drop_image(&images[i]);
    (void)pthread_mutex_unlock(&mutex);
}

/* What was there before is on the disk. */
static void begin_image(struct fault_file *file) {
    sqlite3_int64 size = 0;
    struct image *image;
    if (!remembers_images || !is_database(file->path) || find_image(file->path) != NULL)
        return;
    image = add_image(file->path);
    if (file->real->pMethods->xFileSize(file->real, &size) != SQLITE_OK || size == 0)
        return;
    reserve(image, (size_t)size);
    image->size = (size_t)size;
    (void)file->real->pMethods->xRead(file->real, image->bytes, (int)size, 0);
}

static void mark_dirty(const char *path, size_t at, size_t length) {
    struct image *image = find_image(path);
    if (image == NULL || length == 0)
        return;
    reserve(image, at + length);
    for (size_t block = at / BLOCK_BYTES; block <= (at + length - 1) / BLOCK_BYTES; block++)
        image->is_dirty[block] = true;
}

static void take_over(struct fault_file *file, struct image *image, bool is_synced) {
    sqlite3_int64 size = 0;
    for (size_t block = 0; block < image->capacity / BLOCK_BYTES; block++) {
        if (image->is_dirty[block] && is_synced)
            (void)file->real->pMethods->xRead(file->real, image->bytes + block * BLOCK_BYTES,
                                              BLOCK_BYTES, (sqlite3_int64)block * BLOCK_BYTES);
        image->is_dirty[block] = false;
    }
    if (is_synced && file->real->pMethods->xFileSize(file->real, &size) == SQLITE_OK)
        image->size = (size_t)size;
}

static void write_file(const char *directory, const char *name, const uint8_t *bytes, size_t size) {
    char path[2 * PATH_BYTES];
    FILE *out;
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static struct image *image_of(const char *directory, const char *name) {
    char path[2 * PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    return find_image(path);
}

/* As the kernel has it. */
static void copy_file(const char *from, const char *to, const char *name) {
    char path[2 * PATH_BYTES];
    uint8_t *bytes;
    size_t size;
    FILE *in;
    (void)snprintf(path, sizeof(path), "%s/%s", from, name);
    in = fopen(path, "rb");
    if (in == NULL)
        return;
    (void)fseek(in, 0, SEEK_END);
    size = (size_t)ftell(in);
    rewind(in);
    bytes = bk_alloc(size);
    assert_int_equal(fread(bytes, 1, size, in), size);
    (void)fclose(in);
    write_file(to, name, bytes, size);
    bk_free(bytes);
}

void support_vfs_power_cut(const char *from, const char *to) {
    (void)pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
        const struct image *image = image_of(from, suffixes[i]);
        if (image != NULL && image->size > 0)
            write_file(to, suffixes[i], image->bytes, image->size);
    }
    copy_file(from, to, "head");
    (void)pthread_mutex_unlock(&mutex);
}

void support_vfs_kill(const char *from, const char *to) {
    (void)pthread_mutex_lock(&mutex);
    copy_file(from, to, "head");
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
        const struct image *image = image_of(from, suffixes[i]);
        char path[2 * PATH_BYTES];
        struct image *copy;
        copy_file(from, to, suffixes[i]);
        if (image == NULL)
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", to, suffixes[i]);
        copy = add_image(path);
        reserve(copy, image->capacity);
        copy->size = image->size;
        memcpy(copy->bytes, image->bytes, image->capacity);
        memcpy(copy->is_dirty, image->is_dirty, image->capacity / BLOCK_BYTES);
    }
    (void)pthread_mutex_unlock(&mutex);
}

/* --- files ------------------------------------------------------------------------------------ */

static sqlite3_file *real_of(sqlite3_file *file) { return ((struct fault_file *)file)->real; }

static int on_close(sqlite3_file *file) {
    sqlite3_file *real = real_of(file);
    return real->pMethods->xClose(real);
}

static int on_read(sqlite3_file *file, void *bytes, int length, sqlite3_int64 at) {
    if (strikes(SUPPORT_VFS_READ))
        return refuse(SQLITE_IOERR_READ, EIO);
    return real_of(file)->pMethods->xRead(real_of(file), bytes, length, at);
}

static int write_through(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 at) {
    int code = real_of(file)->pMethods->xWrite(real_of(file), bytes, length, at);
    (void)pthread_mutex_lock(&mutex);
    mark_dirty(((struct fault_file *)file)->path, (size_t)at, (size_t)length);
    (void)pthread_mutex_unlock(&mutex);
    return code;
}

static int on_write(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 at) {
    if (strikes(SUPPORT_VFS_WRITE))
        return refuse(SQLITE_IOERR_WRITE, EIO);
    if (strikes(SUPPORT_VFS_WRITE_SHORT)) {
        (void)write_through(file, bytes, length / 2, at);
        return refuse(SQLITE_IOERR_WRITE, EIO);
    }
    if (strikes(SUPPORT_VFS_WRITE_FULL)) {
        (void)write_through(file, bytes, length / 2, at);
        return refuse(SQLITE_FULL, ENOSPC);
    }
    return write_through(file, bytes, length, at);
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size) {
    struct image *image;
    int code;
    if (strikes(SUPPORT_VFS_TRUNCATE))
        return refuse(SQLITE_IOERR_TRUNCATE, EIO);
    code = real_of(file)->pMethods->xTruncate(real_of(file), size);
    (void)pthread_mutex_lock(&mutex);
    image = find_image(((struct fault_file *)file)->path);
    if (image != NULL && code == SQLITE_OK && (size_t)size < image->size) {
        memset(image->bytes + size, 0, image->size - (size_t)size);
        image->size = (size_t)size;
    }
    (void)pthread_mutex_unlock(&mutex);
    return code;
}

static int on_sync(sqlite3_file *file, int flags) {
    bool has_failed = strikes(SUPPORT_VFS_SYNC), is_full = strikes(SUPPORT_VFS_SYNC_FULL);
    struct image *image;
    (void)flags; /* the real sync is left out: no real power is cut here */
    (void)pthread_mutex_lock(&mutex);
    image = find_image(((struct fault_file *)file)->path);
    if (image != NULL)
        take_over((struct fault_file *)file, image, !has_failed && !is_full);
    (void)pthread_mutex_unlock(&mutex);
    if (has_failed || is_full)
        return refuse(SQLITE_IOERR_FSYNC, is_full ? ENOSPC : EIO);
    return SQLITE_OK;
}

static int on_file_size(sqlite3_file *file, sqlite3_int64 *size) {
    if (strikes(SUPPORT_VFS_FILE_SIZE))
        return refuse(SQLITE_IOERR_FSTAT, EIO);
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int on_lock(sqlite3_file *file, int level) {
    if (strikes(SUPPORT_VFS_LOCK))
        return refuse(SQLITE_IOERR_LOCK, EIO);
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int on_unlock(sqlite3_file *file, int level) {
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int on_check_reserved_lock(sqlite3_file *file, int *result) {
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), result);
}

static int on_file_control(sqlite3_file *file, int operation, void *argument) {
    return real_of(file)->pMethods->xFileControl(real_of(file), operation, argument);
}

static int on_sector_size(sqlite3_file *file) {
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int on_device_characteristics(sqlite3_file *file) {
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int on_shm_map(sqlite3_file *file, int region, int size, int extends,
                      void volatile **memory) {
    *memory = NULL;
    if (strikes(SUPPORT_VFS_SHM_MAP))
        return refuse(SQLITE_IOERR_SHMMAP, EIO);
    if (strikes(SUPPORT_VFS_SHM_FULL))
        return refuse(SQLITE_IOERR_SHMSIZE, ENOSPC);
    return real_of(file)->pMethods->xShmMap(real_of(file), region, size, extends, memory);
}

static int on_shm_lock(sqlite3_file *file, int offset, int count, int flags) {
    if ((flags & SQLITE_SHM_LOCK) != 0 && strikes(SUPPORT_VFS_SHM_LOCK))
        return refuse(SQLITE_IOERR_SHMLOCK, EIO);
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);
}

static void on_shm_barrier(sqlite3_file *file) {
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int on_shm_unmap(sqlite3_file *file, int removes) {
    return real_of(file)->pMethods->xShmUnmap(real_of(file), removes);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_file_size,
    .xLock = on_lock,
    .xUnlock = on_unlock,
    .xCheckReservedLock = on_check_reserved_lock,
    .xFileControl = on_file_control,
    .xSectorSize = on_sector_size,
    .xDeviceCharacteristics = on_device_characteristics,
    .xShmMap = on_shm_map,
    .xShmLock = on_shm_lock,
    .xShmBarrier = on_shm_barrier,
    .xShmUnmap = on_shm_unmap,
};

/* --- the file system -------------------------------------------------------------------------- */

static int on_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags,
                   int *out_flags) {
    struct fault_file *self = (struct fault_file *)file;
    int code;
    (void)vfs;
    memset(self, 0, sizeof(*self));
    self->real = (sqlite3_file *)(self + 1);
    if (strikes(SUPPORT_VFS_OPEN))
        return refuse(SQLITE_CANTOPEN, EIO);
    code = real_vfs->xOpen(real_vfs, path, self->real, flags, out_flags);
    if (code != SQLITE_OK)
        return code;
    self->base.pMethods = &methods;
    (void)snprintf(self->path, sizeof(self->path), "%s", path == NULL ? "" : path);
    (void)pthread_mutex_lock(&mutex);
    begin_image(self);
    (void)pthread_mutex_unlock(&mutex);
    return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *vfs, const char *path, int syncs_directory) {
    struct image *image;
    (void)vfs;
    if (strikes(SUPPORT_VFS_DELETE))
        return refuse(SQLITE_IOERR_DELETE, EIO);
    (void)pthread_mutex_lock(&mutex);
    image = find_image(path);
    if (image != NULL)
        drop_image(image);
    (void)pthread_mutex_unlock(&mutex);
    return real_vfs->xDelete(real_vfs, path, syncs_directory);
}

void support_vfs_install(void) {
    if (real_vfs == NULL) {
        real_vfs = sqlite3_vfs_find(NULL);
        assert_non_null(real_vfs);
        shim = *real_vfs;
        shim.zName = "bakend-fault";
        shim.pNext = NULL;
        shim.szOsFile = (int)sizeof(struct fault_file) + real_vfs->szOsFile;
        shim.xOpen = on_open;
        shim.xDelete = on_delete;
    }
    assert_int_equal(sqlite3_vfs_register(&shim, 1), SQLITE_OK);
}

void support_vfs_uninstall(void) {
    (void)support_vfs_disarm();
    support_vfs_remember(false);
    assert_int_equal(sqlite3_vfs_unregister(&shim), SQLITE_OK);
}
