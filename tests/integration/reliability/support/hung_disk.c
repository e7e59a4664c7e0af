/*
 * A disk that hangs: preloaded into the program, it keeps back calls on one file.
 *
 *   BAKEND_TEST_HANG   a file that the test writes: "CALL SUFFIX MILLISECONDS", as in
 *                      "fdatasync data.db-wal 5000"; empty or missing: nothing hangs
 *
 * It is read at each call, so the test turns a hang on and off while the program runs. A call that
 * hangs is done afterwards, as a disk does that was only slow. The real calls are the kernel's own,
 * without a look into the C library, so no sanitizer is in the way.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_BYTES = 256, PATH_BYTES = 4096, MS_PER_SECOND = 1000, NS_PER_MS = 1000000 };

int fdatasync(int descriptor);
int fsync(int descriptor);
ssize_t pwrite(int descriptor, const void *data, size_t length, off_t at);
ssize_t pwrite64(int descriptor, const void *data, size_t length, off_t at);

/* True when the test has asked for something. */
static int read_request(char text[TEXT_BYTES]) {
    const char *path = getenv("BAKEND_TEST_HANG");
    long descriptor, length;
    if (path == NULL)
        return 0;
    descriptor = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    length = syscall(SYS_read, descriptor, text, TEXT_BYTES - 1);
    (void)syscall(SYS_close, descriptor);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static int ends_with(const char *text, const char *suffix) {
    size_t length = strlen(text), suffix_length = strlen(suffix);
    return length >= suffix_length && strcmp(text + length - suffix_length, suffix) == 0;
}

static int is_file(int descriptor, const char *suffix) {
    char link[64], path[PATH_BYTES];
    long length;
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
    length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof(path) - 1);
    if (length <= 0)
        return 0;
    path[length] = '\0';
    return ends_with(path, suffix);
}

/* In short sleeps: a hang ends when the test says so. */
static void hang(const char *call, int descriptor) {
    char text[TEXT_BYTES], wanted[TEXT_BYTES], suffix[TEXT_BYTES];
    const struct timespec step = {.tv_nsec = 10L * NS_PER_MS};
    long long ms, waited_ms = 0;
    while (read_request(text) && sscanf(text, "%255s %255s %lld", wanted, suffix, &ms) == 3 &&
           strcmp(wanted, call) == 0 && waited_ms < ms && is_file(descriptor, suffix)) {
        (void)syscall(SYS_nanosleep, &step, NULL);
        waited_ms += 10;
    }
}

int fdatasync(int descriptor) {
    hang("fdatasync", descriptor);
    return (int)syscall(SYS_fdatasync, descriptor);
}

int fsync(int descriptor) {
    hang("fsync", descriptor);
    return (int)syscall(SYS_fsync, descriptor);
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t at) {
    hang("pwrite", descriptor);
    return syscall(SYS_pwrite64, descriptor, data, length, at);
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off_t at) {
    hang("pwrite", descriptor);
    return syscall(SYS_pwrite64, descriptor, data, length, at);
}
