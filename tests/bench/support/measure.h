/*
 * What the load programs share: a clock, percentiles of delays, and how they end when something is
 * wrong.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>

/* Prints the program's name and the message, and ends with 1. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A number of the command line, between the limits, or it fails. */
long bench_number(const char *text, long least, long most);
/* CLOCK_MONOTONIC: one clock for all processes of the machine. */
uint64_t bench_now_ns(void);
/* As many descriptors as the system allows; fails when those are fewer than needed. */
void bench_raise_descriptors(unsigned long needed);

/* Counts of delays by microsecond, so that millions of them cost nothing to keep. A delay of more
 * than DELAY_US_MAX counts as that. */
enum { BENCH_DELAY_US_MAX = 4 * 1000 * 1000 };

struct bench_delays {
    uint32_t *counts; /* BENCH_DELAY_US_MAX + 1 of them */
    uint64_t count;
};

void bench_delays_init(struct bench_delays *delays);
void bench_delays_reset(struct bench_delays *delays);
void bench_delays_add(struct bench_delays *delays, uint64_t delay_ns);
/* In ms; the share is 0.5 for the median, 1 for the longest. */
double bench_delays_at(const struct bench_delays *delays, double share);

#endif
