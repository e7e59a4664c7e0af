/*
 * The clock by which ages are judged: what is older than its days is deleted, and a wall clock that
 * is set to a wrong year must not make everything old at once.
 *
 * It follows the wall clock, but for a leap ahead of more than BK_AGE_LEAP_MS against the monotonic
 * one: then it goes on at its own pace, and believes the leap when the wall clock has stood by it
 * for BK_AGE_DOUBT_MS. So somebody has a day to set the clock right before anything is deleted. A
 * leap back is followed at once, since it makes nothing older.
 */
#ifndef BAKEND_AGE_CLOCK_H
#define BAKEND_AGE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define BK_AGE_LEAP_MS (INT64_C(24) * 60 * 60 * 1000)
#define BK_AGE_DOUBT_MS (UINT64_C(24) * 60 * 60 * 1000)

/* Zeroed: it believes the wall clock that it is shown first. */
struct bk_age_clock {
    bool is_set, is_doubting;
    int64_t believed_ms;   /* at the last look */
    uint64_t looked_ms;    /* monotonic, of the last look */
    uint64_t doubts_at_ms; /* monotonic, since when it doubts */
};

/* What it begins with, when something else than the wall clock tells a time that was: the leap from
 * there to the wall clock is judged as any other. Only the first one counts. */
void bk_age_clock_seed(struct bk_age_clock *clock, int64_t time_ms, uint64_t monotonic_ms);

/* The time to judge ages by. Asked often: it sees leaps between two looks only. */
int64_t bk_age_clock_look(struct bk_age_clock *clock, int64_t wall_ms, uint64_t monotonic_ms);

#endif
