/*
 * Since when an endpoint has failed without a success, and how much of that its owner was told:
 * when its breaker opens for the first time, and after 1, 3 and 4 days. Each is told once. What is
 * skipped, because nothing was sent in between, is not told later.
 *
 * Durations are of the loop's clock; over a restart, of the clock of ages, which follows the wall
 * clock without its leaps. A beginning that lies in the future is one of a clock that was wrong: it
 * counts from now on.
 */
#include "breaker.h"

#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)

static const uint32_t warning_days[WEBHOOKS_WARNINGS] = {1, 3, 4};

void webhooks_failing_restore(struct webhooks_failing *failing, int64_t loop_ms,
                              int64_t age_now_ms) {
    int64_t age_ms = failing->since_ms == 0 ? 0 : age_now_ms - failing->since_ms;
    failing->since_loop_ms = loop_ms - (age_ms > 0 ? age_ms : 0);
}

/* A warning that would come behind the end is none. */
static uint32_t level_of(int64_t age_ms, bool is_broken, int64_t disable_after_ms) {
    uint32_t level = is_broken ? WEBHOOKS_TOLD_OF_OPENING : 0;
    for (uint32_t i = 0; i < WEBHOOKS_WARNINGS; i++) {
        int64_t after_ms = warning_days[i] * DAY_MS;
        if (age_ms >= after_ms && (disable_after_ms == 0 || after_ms < disable_after_ms))
            level = WEBHOOKS_TOLD_OF_OPENING + 1 + i;
    }
    return level;
}

bool webhooks_failing_note(struct webhooks_failing *failing, int64_t loop_ms, int64_t age_now_ms,
                           bool is_broken, int64_t disable_after_ms) {
    if (failing->since_ms == 0) {
        failing->since_ms = age_now_ms;
        failing->since_loop_ms = loop_ms;
    }
    int64_t age_ms = loop_ms - failing->since_loop_ms;
    uint32_t level = level_of(age_ms, is_broken, disable_after_ms);
    if (level > failing->level)
        failing->level = level;
    return disable_after_ms > 0 && age_ms >= disable_after_ms;
}

uint32_t webhooks_failing_days(uint32_t level) {
    return level > WEBHOOKS_TOLD_OF_OPENING ? warning_days[level - WEBHOOKS_TOLD_OF_OPENING - 1]
                                            : 0;
}
