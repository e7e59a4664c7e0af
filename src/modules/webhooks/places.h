/* What queue.c and send.c share: the places of all endpoints, and the memory of requests. */
#ifndef BAKEND_WEBHOOKS_PLACES_H
#define BAKEND_WEBHOOKS_PLACES_H

#include "webhooks.h"

enum {
    PLACES_MAX = WEBHOOKS_PLACES_MAX,
    PLACES_REPLAY_MAX = PLACES_MAX / 4, /* of those, for replays */
    PLACES_UNPROVEN = 2,                /* of an endpoint that has not answered yet */
    PLACES_SLOW_MS = 1000,
    PLACES_HELD_MAX = 64 * 1024 * 1024, /* bytes of the events that wait in memory */
    PLACES_HANDED_MAX = 64 * 1024,      /* events that are in hand, whether in memory or not … */
    PLACES_WINDOW_MIN = 8,              /* … but for so many of each endpoint */
    PLACES_AGAIN_MS = 250,              /* the channel had no room */
};

/* Where an endpoint's queue is, by what it waits for. */
enum queue_where {
    QUEUE_NOWHERE,       /* for an end of its own, or for its health: somebody wakes it */
    QUEUE_IN_LINE,       /* for its turn */
    QUEUE_BEHIND,        /* for a place among those of its tenant that are slow, or are not */
    QUEUE_BEHIND_REPLAY, /* for a place among the replays */
    QUEUE_TIMED          /* for its rate */
};

struct webhooks_queue {
    struct webhooks_endpoint *endpoint;
    struct bk_list link; /* in the list of where it is */
    enum queue_where where;
    struct bk_list waiting[WEBHOOKS_CLASS_COUNT];
    uint32_t waiting_count[WEBHOOKS_CLASS_COUNT];
    struct bk_list sending;
    struct bk_list tests; /* that pass it by, see webhooks_send_test */
    uint32_t sending_count;
    uint32_t room;       /* how many at once, as far as its answers say */
    uint32_t turns;      /* that it had */
    uint32_t late_count; /* on their way for PLACES_SLOW_MS */
    double tokens;       /* of its rate; see spend */
    uint64_t filled_ms, not_before_ms;
};

/* A tenant's endpoints that may begin a request now. */
struct webhooks_line {
    struct bk_list link; /* places->lines while it has any */
    struct bk_list queues;
    struct bk_list slow, quick; /* that are QUEUE_BEHIND */
    uint32_t taken, taken_slow; /* places */
    uint32_t handed;            /* events in hand */
};

struct webhooks_places {
    struct webhooks_state *state;
    struct bk_list lines, replays, timed;
    uint32_t line_count; /* in lines */
    uint32_t taken, taken_replay;
    struct bk_list young; /* webhooks_send.age: not slow yet, in the order of their beginning */
    uint32_t timed_count;
    uint64_t timer_ms; /* when it runs; UINT64_MAX: it does not */
    uint64_t looked;   /* how many queues it has looked at, ever */
    size_t held_bytes;
    uint32_t handed;
    struct bk_list refused; /* webhooks_send.link: put when nothing begins any more */
    struct bk_task turns;
    struct bk_timer *timer; /* the first of timed */
    struct bk_list spare;   /* send.c: memory of requests that are over */
    uint32_t spare_count;
    /* endpoint.c */
    struct bk_timer *tick;
    uint64_t stop_by_ms;
    uint32_t ticks;
    bool is_closing, is_closed; /* the channel */
};

void webhooks_sendings_free(struct webhooks_places *places);
/* Milliseconds of a Retry-After: seconds or a date, at most a day. 0: neither, or now. */
uint64_t webhooks_retry_after_read(struct bk_slice text, int64_t now_ms);

#endif
