/*
 * What the disk asks for durability: writes over what is there, as a write-ahead log does, and
 * calls fdatasync, again and again; prints how many a second.
 *
 *   fdatasync FILE COUNT FRAMES    each time so many frames of a log: a head of 24 bytes and a page
 *                                  of 4 KiB, each with a call of its own, as SQLite writes them
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 24, PAGE_BYTES = 4096, FRAME_BYTES = HEAD_BYTES + PAGE_BYTES, FRAMES = 1000 };

static char frame[FRAME_BYTES];

/* The n-th of a log that begins again when it is full. */
static int write_frame(int descriptor, long n) {
    off_t at = (off_t)(n % FRAMES) * FRAME_BYTES;
    if (pwrite(descriptor, frame, HEAD_BYTES, at) != HEAD_BYTES)
        return -1;
    return pwrite(descriptor, frame + HEAD_BYTES, PAGE_BYTES, at + HEAD_BYTES) == PAGE_BYTES ? 0
                                                                                             : -1;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argument_count, char **arguments) {
    if (argument_count != 4)
        return 2;
    int descriptor = open(arguments[1], O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    long count = strtol(arguments[2], NULL, 10), frames = strtol(arguments[3], NULL, 10);
    memset(frame, 'x', sizeof(frame));
    for (long n = 0; n < FRAMES; n++)
        if (write_frame(descriptor, n) != 0)
            return 1;
    if (fsync(descriptor) != 0)
        return 1;
    double started = now();
    for (long n = 0; n < count * frames; n++)
        if (write_frame(descriptor, n) != 0 ||
            ((n + 1) % frames == 0 && fdatasync(descriptor) != 0))
            return 1;
    printf("%.0f\n", (double)count / (now() - started));
    close(descriptor);
    return unlink(arguments[1]);
}
