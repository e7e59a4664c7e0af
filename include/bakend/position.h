/*
 * Positions: how a durable reader follows the journal. It is handed the events that it asked for,
 * in order, each at least once, and acknowledges them; after a crash it goes on behind the last one
 * that it acknowledged. Webhooks, functions, jobs, relay, exports and notifications are readers of
 * this kind.
 *
 *   live     it has seen all: new events come from the bus, in the position's phase
 *   behind   it is handed events from the shared tail or, further back, from the journal in pages
 *   full     as many are handed and not acknowledged as its window takes
 *   waiting  its handler failed: the event comes again after a pause that doubles
 *   lost     what comes next was pruned; it stands still until it is sought or dropped
 *
 * There is no queue per reader. What a position holds in memory is the sequences that are handed
 * and not acknowledged, window of them at most; a slow reader costs nobody else anything, and one
 * page of the journal serves all positions that stand in it. An event that a position did not ask
 * for is acknowledged for it without a visit.
 *
 * Acknowledged is a watermark: all up to it is done. It is kept in memory and stored in the
 * tenant's table _positions by a background write that shares the next commit, soon after an
 * acknowledged delivery and now and then for those that idle. A position that is behind or has
 * something to store holds its tenant open; one that is live does not.
 *
 * On the loop.
 */
#ifndef BAKEND_POSITION_H
#define BAKEND_POSITION_H

#include "bakend/feed.h"
#include "bakend/interest.h"

enum {
    BK_POSITION_NAME_BYTES_MAX = 200,
    BK_POSITION_WINDOW_MAX = 1024,
    BK_POSITION_RETRY_FIRST_MS = 1000, /* then doubles, with jitter … */
    BK_POSITION_RETRY_MAX_MS = 60000,  /* … up to this */
};

/* What became of an event that was handed over. */
enum bk_handed {
    BK_HANDED_DONE,  /* acknowledged */
    BK_HANDED_TAKEN, /* bk_position_acknowledge or bk_position_fail follows */
    BK_HANDED_FAILED /* it comes again, and nothing behind it before */
};

enum bk_position_state {
    BK_POSITION_CLOSED,
    BK_POSITION_OPENING,
    BK_POSITION_LIVE,
    BK_POSITION_BEHIND,
    BK_POSITION_FULL,
    BK_POSITION_WAITING,
    BK_POSITION_LOST
};
const char *bk_position_state_name(enum bk_position_state state);

struct bk_position;
/* Embed it. The caller's part is borrowed until it is closed. */
struct bk_position {
    /* The caller's. */
    const char *kind;            /* of reader, in metrics and logs: "webhooks"; static */
    struct bk_slice name;        /* unique in the tenant, 1..200 bytes: "webhooks/abc" */
    enum bk_phase phase;         /* functions or plugins */
    struct bk_interest interest; /* types and subject */
    struct bk_slice after; /* where one begins that was never stored: as in bk_feed_query; empty:
                              "now" */
    uint32_t window;       /* 1..BK_POSITION_WINDOW_MAX events handed and not acknowledged; may be
                              changed while it is open */
    bool sees_cut_chains;  /* also events whose chain of causes is too long: readers that cause
                              nothing */
    /* In order of sequence. Must not block. The event is borrowed: ref to keep. May acknowledge,
     * fail, seek or close any position, this one too. */
    enum bk_handed (*on_event)(struct bk_position *position, struct bk_event *event);
    /* Once, when it becomes lost. May seek, close or drop it. May be NULL. */
    void (*on_lost)(struct bk_position *position);
    void *user;
    /* The feed's. */
    struct bk_tenant *tenant;
    struct feed_position *own;
};

/* Opens it where it was stored, or at `after` for the first time, which is stored before opened
 * comes. opened comes once, never before this returns; status BK_INVALID (after, with what is wrong
 * in problem), BK_EXISTS (the name is open), BK_GONE and others: it is closed. The first event
 * comes after it. */
void bk_position_open(struct bk_feed *feed, struct bk_tenant *tenant, struct bk_position *position,
                      void (*opened)(struct bk_position *position, enum bk_status status,
                                     enum bk_feed_problem problem));
/* An event that was taken is done; in any order. Of a sequence that is not in its hands: nothing
 * happens (it was closed or sought meanwhile). */
void bk_position_acknowledge(struct bk_position *position, uint64_t sequence);
/* It is not done: it and all behind it that is not acknowledged come again after a pause. */
void bk_position_fail(struct bk_position *position, uint64_t sequence);
/* Goes on from elsewhere: what was handed before no longer counts. BK_INVALID, BK_CONFLICT,
 * BK_GONE with *problem (may be NULL) for a cursor that cannot be followed; a time is not taken:
 * BK_NOT_SUPPORTED. Stored like an acknowledgement. */
enum bk_status bk_position_seek(struct bk_position *position, struct bk_slice after,
                                enum bk_feed_problem *problem);
/* No further call, at once. What is acknowledged is stored. */
void bk_position_close(struct bk_position *position);
/* Likewise, and forgets it: the name may be used anew. */
void bk_position_drop(struct bk_position *position);
/* On the writer: what is stored of positions that are not open, of all whose names begin with
 * prefix, goes with the transaction. */
enum bk_status bk_positions_forget(struct bk_transaction *transaction, struct bk_slice prefix);

struct bk_position_facts {
    enum bk_position_state state;
    uint64_t acknowledged; /* watermark: all up to this sequence */
    uint64_t lag;          /* events of the tenant behind it */
    uint32_t handed;       /* and not acknowledged */
    uint32_t failures;     /* in a row */
};
struct bk_position_facts bk_position_facts(const struct bk_position *position);

/* What is acknowledged is stored without waiting for a timer: before tenants close. */
void bk_feed_flush(struct bk_feed *feed);

/* For metrics, summed by kind. */
struct bk_position_figures {
    const char *kind;
    uint32_t states[BK_POSITION_LOST + 1];
    uint64_t lag_max;
    uint64_t handed, acknowledged, failed, lost; /* events ever; positions that became lost */
};
/* At most count kinds; returns how many. */
size_t bk_feed_position_figures(const struct bk_feed *feed, struct bk_position_figures *figures,
                                size_t count);

#endif
