/*
 * The machine under what sign-ins ask of it, without any: on each core a thread counts where nobody
 * else wants it, and a file is synced as often as sign-ins would. Reads beside this are the floor
 * of reads beside sign-ins: they wait for nothing but the scheduler and the disk.
 *
 *   auth_floor FILE SECONDS A_SECOND FRAMES
 *
 * FRAMES of a write-ahead log are written over before each sync: see fdatasync.c. A sync that is
 * late is not made up for. Prints a line when it begins.
 */
#include "bakend/thread.h"
#include "measure.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256, FRAME_BYTES = 24 + 4096, LOG_FRAMES = 1000, NS_PER_SECOND = 1000000000 };

static atomic_bool is_over;

/* Neither memory nor calls: what is left to see is that the core is taken. */
static void count(void *argument) {
    volatile uint64_t counted = 0;
    (void)argument;
    bk_thread_take_what_is_left();
    while (!atomic_load_explicit(&is_over, memory_order_relaxed))
        counted = counted + 1;
}

static void write_and_sync(int descriptor, long frames) {
    static char frame[FRAME_BYTES];
    static long written;
    for (long n = 0; n < frames; n++, written++)
        if (pwrite(descriptor, frame, sizeof(frame), (written % LOG_FRAMES) * FRAME_BYTES) !=
            FRAME_BYTES)
            bench_fail("the file cannot be written");
    if (fdatasync(descriptor) != 0)
        bench_fail("the file cannot be synced");
}

static void wait_until(uint64_t time_ns) {
    struct timespec time = {.tv_sec = (time_t)(time_ns / NS_PER_SECOND),
                            .tv_nsec = (long)(time_ns % NS_PER_SECOND)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void sync_steadily(int descriptor, uint64_t end_ns, uint64_t interval_ns, long frames) {
    for (uint64_t due_ns = bench_now_ns(); due_ns < end_ns; due_ns += interval_ns) {
        wait_until(due_ns);
        write_and_sync(descriptor, frames);
        uint64_t now_ns = bench_now_ns();
        if (now_ns > due_ns + interval_ns)
            due_ns = now_ns - interval_ns;
    }
}

int main(int argument_count, char **arguments) {
    struct bk_thread *threads[THREADS_MAX];
    if (argument_count != 5)
        bench_fail("usage: auth_floor FILE SECONDS A_SECOND FRAMES");
    uint64_t length_ns = (uint64_t)bench_number(arguments[2], 1, 3600) * NS_PER_SECOND;
    uint64_t interval_ns = NS_PER_SECOND / (uint64_t)bench_number(arguments[3], 1, 100000);
    uint32_t thread_count = bk_processor_count() < THREADS_MAX ? bk_processor_count() : THREADS_MAX;
    int descriptor = open(arguments[1], O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (descriptor < 0)
        bench_fail("%s cannot be made", arguments[1]);
    write_and_sync(descriptor, LOG_FRAMES);
    for (uint32_t i = 0; i < thread_count; i++)
        threads[i] = bk_thread_start("count", count, NULL);
    (void)puts("busy");
    (void)fflush(stdout);
    sync_steadily(descriptor, bench_now_ns() + length_ns, interval_ns,
                  bench_number(arguments[4], 1, LOG_FRAMES));
    atomic_store(&is_over, true);
    for (uint32_t i = 0; i < thread_count; i++)
        bk_thread_join(threads[i]);
    (void)close(descriptor);
    return unlink(arguments[1]) == 0 ? 0 : 1;
}
