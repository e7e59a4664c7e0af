/*
 * When an endpoint is left alone.
 *
 *   closed ── 10 attempts in 5 minutes of which 7 in 10 failed, or 5 timeouts in a row ──> open
 *   open ── 30 s, then twice as long each time, 10 min at most ──> half-open: one probe
 *   half-open ── it succeeds ──> closed                ── it fails ──> open
 *
 * What was on its way when the breaker opened says nothing new, however long it takes. An endpoint
 * that asks for time (429 or 503 with Retry-After) is no broken one: it gets that time, whatever
 * the breaker says, and the attempt is not counted. Nor is it slow for its silence afterwards.
 *
 * How often it has opened in a row, the next probe and the pause outlive a restart, as a mark in
 * wall time: an endpoint that said "in an hour" is not asked before because we were updated. The
 * window is of memory, and begins anew.
 */
#include "breaker.h"

enum {
    SLOT_MS = 20 * 1000, /* the window is 5 minutes */
    ATTEMPTS_MIN = 10,
    FAILURES_PERCENT = 70,
    TIMEOUTS_IN_A_ROW = 5,
    PROBE_FIRST_MS = 30 * 1000,
    PROBE_MAX_MS = 10 * 60 * 1000,
    JITTER_PERCENT = 20,
    SLACK_MS = 100, /* between the loop's clock and that of a request */
    SLOW_MS = 1000,
    SLOW_TIMEOUTS = 3,
    LATENCY_PARTS = 8,    /* a new attempt is one of so many in the smoothed latency */
    MARK_SLACK_MS = 1000, /* those that are on their way together ask for the same pause */
    TOO_MANY_REQUESTS = 429,
    SERVICE_UNAVAILABLE = 503,
};
#define PAUSE_MAX_MS (UINT64_C(24) * 60 * 60 * 1000)

/* --- the window ------------------------------------------------------------------------------- */

static void forget(struct webhooks_breaker *breaker) {
    memset(breaker->attempts, 0, sizeof breaker->attempts);
    memset(breaker->failures, 0, sizeof breaker->failures);
    breaker->timeouts = 0;
}

static void move_window(struct webhooks_breaker *breaker, uint64_t now_ms) {
    uint64_t slot = now_ms / SLOT_MS;
    if (slot >= breaker->slot + WEBHOOKS_BREAKER_SLOTS) {
        memset(breaker->attempts, 0, sizeof breaker->attempts);
        memset(breaker->failures, 0, sizeof breaker->failures);
        breaker->slot = slot;
    }
    while (breaker->slot < slot) {
        breaker->slot++;
        breaker->attempts[breaker->slot % WEBHOOKS_BREAKER_SLOTS] = 0;
        breaker->failures[breaker->slot % WEBHOOKS_BREAKER_SLOTS] = 0;
    }
}

/* A slot that is full keeps its proportion. */
static void count(struct webhooks_breaker *breaker, bool has_failed) {
    uint16_t *attempts = &breaker->attempts[breaker->slot % WEBHOOKS_BREAKER_SLOTS];
    uint16_t *failures = &breaker->failures[breaker->slot % WEBHOOKS_BREAKER_SLOTS];
    if (*attempts == UINT16_MAX) {
        *attempts = *attempts / 2;
        *failures = *failures / 2;
    }
    *attempts = (uint16_t)(*attempts + 1);
    *failures = (uint16_t)(*failures + has_failed);
}

static bool is_too_much(const struct webhooks_breaker *breaker) {
    uint32_t attempts = 0, failures = 0;
    for (size_t i = 0; i < WEBHOOKS_BREAKER_SLOTS; i++) {
        attempts += breaker->attempts[i];
        failures += breaker->failures[i];
    }
    return breaker->timeouts >= TIMEOUTS_IN_A_ROW ||
           (attempts >= ATTEMPTS_MIN && failures * 100 >= attempts * FAILURES_PERCENT);
}

/* --- what comes of an attempt ----------------------------------------------------------------- */

static void open_again(struct webhooks_breaker *breaker, uint64_t now_ms, uint64_t random) {
    uint64_t pause_ms = PROBE_FIRST_MS;
    for (uint32_t i = 0; i < breaker->opens && pause_ms < PROBE_MAX_MS; i++)
        pause_ms *= 2;
    if (pause_ms > PROBE_MAX_MS)
        pause_ms = PROBE_MAX_MS;
    uint64_t spread_ms = pause_ms * JITTER_PERCENT / 100;
    breaker->opens++;
    breaker->probe_ms = now_ms + pause_ms - spread_ms + random % (2 * spread_ms + 1);
    forget(breaker);
}

/* Of one that was on its way before a probe was allowed, nothing new is learned. */
static bool is_of_before(const struct webhooks_breaker *breaker, uint64_t now_ms,
                         const struct webhooks_result *result) {
    return breaker->opens > 0 && now_ms + SLACK_MS < breaker->probe_ms + result->latency_ms;
}

/* It answered, whatever it said of the delivery. */
static bool is_well(const struct webhooks_result *result) {
    return result->verdict == WEBHOOKS_OK || result->verdict == WEBHOOKS_STOP;
}

static bool asks_for_time(const struct webhooks_result *result) {
    return result->verdict == WEBHOOKS_AGAIN && result->retry_after_ms > 0 &&
           (result->status == TOO_MANY_REQUESTS || result->status == SERVICE_UNAVAILABLE);
}

static enum webhooks_breaker_change pause_for(struct webhooks_breaker *breaker, uint64_t now_ms,
                                              uint64_t delay_ms) {
    uint64_t until_ms = now_ms + (delay_ms < PAUSE_MAX_MS ? delay_ms : PAUSE_MAX_MS);
    if (until_ms <= breaker->paused_until_ms)
        return WEBHOOKS_NO_CHANGE;
    breaker->paused_until_ms = until_ms;
    return WEBHOOKS_HAS_PAUSED;
}

static void smooth(struct webhooks_breaker *breaker, const struct webhooks_result *result) {
    uint64_t sum = (uint64_t)breaker->latency_ms * (LATENCY_PARTS - 1) + result->latency_ms;
    breaker->latency_ms =
        breaker->latency_ms == 0 ? result->latency_ms : (uint32_t)(sum / LATENCY_PARTS);
}

enum webhooks_breaker_change webhooks_breaker_report(struct webhooks_breaker *breaker,
                                                     uint64_t now_ms,
                                                     const struct webhooks_result *result,
                                                     uint64_t random) {
    enum webhooks_breaker_state state = webhooks_breaker_state(breaker, now_ms);
    smooth(breaker, result);
    if (asks_for_time(result))
        return pause_for(breaker, now_ms, result->retry_after_ms);
    breaker->timeouts = result->is_timeout ? breaker->timeouts + 1 : 0;
    if (state == WEBHOOKS_OPEN || is_of_before(breaker, now_ms, result))
        return WEBHOOKS_NO_CHANGE;
    if (state == WEBHOOKS_HALF_OPEN && is_well(result)) {
        webhooks_breaker_close(breaker);
        return WEBHOOKS_HAS_CLOSED;
    }
    if (state == WEBHOOKS_CLOSED) {
        move_window(breaker, now_ms);
        count(breaker, !is_well(result));
        if (is_well(result) || !is_too_much(breaker))
            return WEBHOOKS_NO_CHANGE;
    }
    open_again(breaker, now_ms, random);
    return WEBHOOKS_HAS_OPENED;
}

/* --- what may be sent ------------------------------------------------------------------------- */

enum webhooks_breaker_state webhooks_breaker_state(const struct webhooks_breaker *breaker,
                                                   uint64_t now_ms) {
    if (breaker->opens == 0)
        return WEBHOOKS_CLOSED;
    return now_ms < breaker->probe_ms ? WEBHOOKS_OPEN : WEBHOOKS_HALF_OPEN;
}

uint64_t webhooks_breaker_until_ms(const struct webhooks_breaker *breaker) {
    uint64_t until_ms = breaker->opens == 0 ? 0 : breaker->probe_ms;
    return until_ms > breaker->paused_until_ms ? until_ms : breaker->paused_until_ms;
}

uint32_t webhooks_breaker_allows(const struct webhooks_breaker *breaker, uint64_t now_ms) {
    if (now_ms < webhooks_breaker_until_ms(breaker))
        return 0;
    return breaker->opens == 0 ? UINT32_MAX : 1;
}

bool webhooks_breaker_is_slow(const struct webhooks_breaker *breaker) {
    return breaker->latency_ms > SLOW_MS || breaker->timeouts >= SLOW_TIMEOUTS;
}

void webhooks_breaker_close(struct webhooks_breaker *breaker) {
    breaker->opens = 0;
    breaker->probe_ms = breaker->paused_until_ms = 0;
    breaker->latency_ms = 0;
    forget(breaker);
}

/* --- over a restart --------------------------------------------------------------------------- */

/* 0: it is over. */
static int64_t to_wall(uint64_t time_ms, uint64_t now_ms, int64_t wall_now_ms) {
    return time_ms > now_ms ? wall_now_ms + (int64_t)(time_ms - now_ms) : 0;
}

static uint64_t from_wall(int64_t time_ms, uint64_t now_ms, int64_t wall_now_ms,
                          uint64_t longest_ms) {
    uint64_t left_ms = time_ms > wall_now_ms ? (uint64_t)(time_ms - wall_now_ms) : 0;
    return now_ms + (left_ms < longest_ms ? left_ms : longest_ms);
}

void webhooks_breaker_mark(const struct webhooks_breaker *breaker, uint64_t now_ms,
                           int64_t wall_now_ms, struct webhooks_breaker_mark *mark) {
    *mark = (struct webhooks_breaker_mark){
        .opens = breaker->opens,
        .probe_at_ms = breaker->opens == 0 ? 0 : to_wall(breaker->probe_ms, now_ms, wall_now_ms),
        .paused_until_ms = to_wall(breaker->paused_until_ms, now_ms, wall_now_ms)};
}

void webhooks_breaker_restore(struct webhooks_breaker *breaker, uint64_t now_ms,
                              int64_t wall_now_ms, const struct webhooks_breaker_mark *mark) {
    const uint64_t probe_max_ms = PROBE_MAX_MS + PROBE_MAX_MS * JITTER_PERCENT / 100;
    breaker->opens = mark->opens;
    if (mark->opens > 0)
        breaker->probe_ms = from_wall(mark->probe_at_ms, now_ms, wall_now_ms, probe_max_ms);
    if (mark->paused_until_ms > 0 && mark->paused_until_ms > wall_now_ms)
        breaker->paused_until_ms =
            from_wall(mark->paused_until_ms, now_ms, wall_now_ms, PAUSE_MAX_MS);
}

bool webhooks_breaker_mark_is_same(const struct webhooks_breaker_mark *mark,
                                   const struct webhooks_breaker_mark *stored) {
    return mark->opens == stored->opens && mark->probe_at_ms == stored->probe_at_ms &&
           mark->paused_until_ms <= stored->paused_until_ms + MARK_SLACK_MS &&
           (mark->paused_until_ms > 0) == (stored->paused_until_ms > 0);
}
