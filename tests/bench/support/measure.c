/* See measure.h. */
#define _GNU_SOURCE /* program_invocation_short_name */
#include "measure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

void bench_fail(const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

long bench_number(const char *text, long least, long most) {
    char *end = NULL;
    long value = text != NULL ? strtol(text, &end, 10) : least - 1;
    if (end == text || value < least || value > most)
        bench_fail("%s: a number from %ld to %ld is needed", text != NULL ? text : "", least, most);
    return value;
}

uint64_t bench_now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void bench_raise_descriptors(unsigned long needed) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < needed)
        bench_fail("needs %lu open files: raise `ulimit -Hn`, it is %lu", needed, limit.rlim_max);
}

void bench_delays_init(struct bench_delays *delays) {
    delays->count = 0;
    delays->counts = calloc(BENCH_DELAY_US_MAX + 1, sizeof(*delays->counts));
    if (delays->counts == NULL)
        bench_fail("no memory");
}

void bench_delays_reset(struct bench_delays *delays) {
    delays->count = 0;
    memset(delays->counts, 0, (BENCH_DELAY_US_MAX + 1) * sizeof(*delays->counts));
}

void bench_delays_add(struct bench_delays *delays, uint64_t delay_ns) {
    uint64_t delay_us = delay_ns / 1000;
    delays->counts[delay_us < BENCH_DELAY_US_MAX ? delay_us : BENCH_DELAY_US_MAX]++;
    delays->count++;
}

double bench_delays_at(const struct bench_delays *delays, double share) {
    uint64_t rank = (uint64_t)((double)delays->count * share), seen = 0;
    uint32_t delay_us = 0;
    if (rank >= delays->count && delays->count > 0)
        rank = delays->count - 1;
    while (delay_us < BENCH_DELAY_US_MAX && (seen += delays->counts[delay_us]) <= rank)
        delay_us++;
    return delay_us / 1000.0;
}
