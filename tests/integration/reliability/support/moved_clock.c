/*
 * A wall clock that is set while the program runs: preloaded into it, it adds to CLOCK_REALTIME.
 *
 *   BAKEND_TEST_CLOCK   a file of eight bytes that the test writes: seconds to add, a signed number
 *                       in the machine's byte order; mapped, so that each call sees it at once
 *
 * The monotonic clocks are left alone, as they are when somebody sets the date. libfaketime does
 * the same and more, but waits for itself in a program with the address sanitizer.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset_s;

int clock_gettime(clockid_t which, struct timespec *out);
int gettimeofday(struct timeval *restrict out, void *restrict zone);
time_t time(time_t *out);

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("BAKEND_TEST_CLOCK");
    void *bytes;
    int descriptor;
    if (path == NULL)
        return;
    descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    bytes = mmap(NULL, sizeof(*offset_s), PROT_READ, MAP_SHARED, descriptor, 0);
    (void)close(descriptor);
    if (bytes != MAP_FAILED)
        offset_s = bytes;
}

int clock_gettime(clockid_t which, struct timespec *out) {
    long result = syscall(SYS_clock_gettime, which, out);
    if (result == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE) &&
        offset_s != NULL)
        out->tv_sec += *offset_s;
    return (int)result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
