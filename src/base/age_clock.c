/* Both clocks are given, so that a test can be at the end of a day of doubt at once. */
#include "bakend/age_clock.h"

void bk_age_clock_seed(struct bk_age_clock *clock, int64_t time_ms, uint64_t monotonic_ms) {
    if (clock->is_set)
        return;
    *clock =
        (struct bk_age_clock){.is_set = true, .believed_ms = time_ms, .looked_ms = monotonic_ms};
}

static void follow(struct bk_age_clock *clock, int64_t wall_ms) {
    clock->believed_ms = wall_ms;
    clock->is_doubting = false;
}

static void doubt(struct bk_age_clock *clock, int64_t wall_ms, uint64_t monotonic_ms) {
    if (!clock->is_doubting)
        clock->doubts_at_ms = monotonic_ms;
    clock->is_doubting = true;
    if (monotonic_ms - clock->doubts_at_ms >= BK_AGE_DOUBT_MS)
        follow(clock, wall_ms);
}

int64_t bk_age_clock_look(struct bk_age_clock *clock, int64_t wall_ms, uint64_t monotonic_ms) {
    bk_age_clock_seed(clock, wall_ms, monotonic_ms);
    clock->believed_ms += (int64_t)(monotonic_ms - clock->looked_ms);
    clock->looked_ms = monotonic_ms;
    if (wall_ms - clock->believed_ms > BK_AGE_LEAP_MS)
        doubt(clock, wall_ms, monotonic_ms);
    else
        follow(clock, wall_ms);
    return clock->believed_ms;
}
