/* The breaker of an endpoint: a value that is told what came of attempts and what time it is, and
 * says what may be sent. breaker.c has the rules. Times are the loop's, so that a wall clock that
 * is set moves nothing. */
#ifndef BAKEND_WEBHOOKS_BREAKER_H
#define BAKEND_WEBHOOKS_BREAKER_H

#include "webhooks.h"

enum { WEBHOOKS_BREAKER_SLOTS = 15 }; /* of its window */

enum webhooks_breaker_state { WEBHOOKS_CLOSED, WEBHOOKS_OPEN, WEBHOOKS_HALF_OPEN };

/* Zeroed: closed, nothing is known. */
struct webhooks_breaker {
    uint32_t opens;           /* in a row, without a success behind them; 0: it is closed */
    uint64_t probe_ms;        /* open: when one may be sent */
    uint64_t paused_until_ms; /* the endpoint asked for it (Retry-After) */
    uint64_t slot;            /* the newest one's number, counted from the loop's beginning */
    uint16_t attempts[WEBHOOKS_BREAKER_SLOTS], failures[WEBHOOKS_BREAKER_SLOTS];
    uint32_t timeouts;   /* in a row */
    uint32_t latency_ms; /* smoothed */
};

/* What an attempt has changed. */
enum webhooks_breaker_change {
    WEBHOOKS_NO_CHANGE,
    WEBHOOKS_HAS_OPENED, /* or stays open, for longer */
    WEBHOOKS_HAS_CLOSED,
    WEBHOOKS_HAS_PAUSED
};
/* random: any number, of which the spread of the next probe is made. */
enum webhooks_breaker_change webhooks_breaker_report(struct webhooks_breaker *breaker,
                                                     uint64_t now_ms,
                                                     const struct webhooks_result *result,
                                                     uint64_t random);
enum webhooks_breaker_state webhooks_breaker_state(const struct webhooks_breaker *breaker,
                                                   uint64_t now_ms);
/* Nothing is sent before that; at most now: something may be. */
uint64_t webhooks_breaker_until_ms(const struct webhooks_breaker *breaker);
/* See webhooks_health_allows. */
uint32_t webhooks_breaker_allows(const struct webhooks_breaker *breaker, uint64_t now_ms);
bool webhooks_breaker_is_slow(const struct webhooks_breaker *breaker);
/* The endpoint works: as if nothing had ever failed. */
void webhooks_breaker_close(struct webhooks_breaker *breaker);

/* What outlives a restart, in wall time. Zeroed: it is closed, and nothing was asked for. */
struct webhooks_breaker_mark {
    uint32_t opens;
    int64_t probe_at_ms, paused_until_ms; /* 0: there is none */
};
void webhooks_breaker_mark(const struct webhooks_breaker *breaker, uint64_t now_ms,
                           int64_t wall_now_ms, struct webhooks_breaker_mark *mark);
/* What is longer from now than it may be is of another clock, and shortened. */
void webhooks_breaker_restore(struct webhooks_breaker *breaker, uint64_t now_ms,
                              int64_t wall_now_ms, const struct webhooks_breaker_mark *mark);
/* Whether it is worth a write: not for some milliseconds more of a pause. */
bool webhooks_breaker_mark_is_same(const struct webhooks_breaker_mark *mark,
                                   const struct webhooks_breaker_mark *stored);

/* --- failing.c: since when it fails, and what its owner is told ------------------------------- */

enum {
    WEBHOOKS_TOLD_OF_OPENING = 1, /* and one level more for each warning */
    WEBHOOKS_WARNINGS = 3
};

/* Zeroed: it does not fail. */
struct webhooks_failing {
    int64_t since_ms; /* by the clock of ages, for the database and for people; 0: it does not */
    uint32_t level;   /* what was told since */
    int64_t since_loop_ms; /* the loop's time then: may lie before its beginning */
};
/* As it was stored. */
void webhooks_failing_restore(struct webhooks_failing *failing, int64_t loop_ms,
                              int64_t age_now_ms);
/* An attempt failed. True: it has done so for disable_after_ms (0: for ever is fine). */
bool webhooks_failing_note(struct webhooks_failing *failing, int64_t loop_ms, int64_t age_now_ms,
                           bool is_broken, int64_t disable_after_ms);
/* Of a level: 0 at its breaker's opening, else the days of the warning. */
uint32_t webhooks_failing_days(uint32_t level);

/* health.c, for retry.c: slow, or not closed. Its tasks run one by one. */
bool webhooks_health_is_narrow(const struct webhooks_endpoint *endpoint);

#endif
