/*
 * Time. Wall time is for people (timestamps, expiry), monotonic time for durations and timers.
 * Formats: RFC 3339 "2026-06-08T12:00:00.000Z" (24 bytes) and the records' "2026-06-08
 * 12:00:00.000Z".
 */
#ifndef BAKEND_CLOCK_H
#define BAKEND_CLOCK_H

#include "bakend/slice.h"

enum { BK_TIME_TEXT_BYTES = 24 };

/* Milliseconds since 1970-01-01 UTC. Any thread. */
int64_t bk_clock_wall_ms(void);
/* Nanoseconds since some fixed point; never goes back. Any thread. */
uint64_t bk_clock_monotonic_ns(void);
/* The same, but it goes on while the machine sleeps; timers do not. */
uint64_t bk_clock_boot_ns(void);
/* Nanoseconds that the calling thread has run on a processor. */
uint64_t bk_clock_thread_ns(void);
/* For tests: offset added to the wall clock. */
void bk_clock_set_offset_ms(int64_t offset_ms);

/* Writes exactly BK_TIME_TEXT_BYTES bytes, no NUL. separator is 'T' or ' '. Years 0000..9999. */
void bk_time_format(char out[BK_TIME_TEXT_BYTES], int64_t wall_ms, char separator);
/* RFC 3339 with 'T' or ' ', offset or 'Z', 0..9 fraction digits (cut to ms); also a bare date
 * "2006-01-02". Calendar-checked. False otherwise. */
bool bk_time_parse(struct bk_slice text, int64_t *wall_ms);

#endif
