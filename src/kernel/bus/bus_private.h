/* What the files of the bus share: its state, the queue, the cache of matches and the cuts. */
#ifndef BAKEND_BUS_PRIVATE_H
#define BAKEND_BUS_PRIVATE_H

#include "bakend/bus.h"

#include "bakend/map.h"

/* --- the queue: a ring of events with the tenant that each of them holds open ----------------- */

struct bus_entry {
    struct bk_event *event;
    struct bk_tenant *tenant;
};

struct bus_queue {
    struct bus_entry *entries;
    uint32_t head, count, capacity; /* capacity is 0 or a power of two */
};

void bus_queue_fini(struct bus_queue *queue);
/* Takes over the caller's reference to event and hold of tenant. Not when BK_BUS_QUEUE_MAX wait. */
void bus_queue_push(struct bus_queue *queue, struct bk_event *event, struct bk_tenant *tenant);
/* The other way round. Not on an empty queue. */
struct bus_entry bus_queue_pop(struct bus_queue *queue);

/* --- matches: which subscriptions an event type goes to, in the order of the phases ----------- */

struct bus_match {
    uint32_t count;
    uint32_t first_causing; /* index of the first one in a phase that could cause more events */
    bool is_stale;          /* out of the cache; freed when its dispatch is over */
    struct bk_slice type;   /* in this allocation */
    struct bk_subscription *subscriptions[]; /* NULL: unsubscribed during the dispatch */
};

/* Whether handlers of this phase can lead to more events. Those phases are the last ones. */
bool bus_phase_may_cause(size_t phase);
/* The match of this type, from the cache or made now. Valid until bus_matches_clear. */
struct bus_match *bus_matches_get(struct bk_bus *bus, struct bk_slice type);
/* Forgets all matches; the one in use stays until its dispatch is over. */
void bus_matches_clear(struct bk_bus *bus);

/* --- cuts: chains of causes that became too long ---------------------------------------------- */

/* Writes bus.chain_cut about this event, in the background. */
void bus_cut_chain(struct bk_bus *bus, struct bk_tenant *tenant, struct bk_event *event);
/* True for bus.chain_cut itself. */
bool bus_is_cut(const struct bk_event *event);
void bus_cuts_init(struct bk_bus *bus);
void bus_cuts_fini(struct bk_bus *bus);

struct bk_bus {
    struct bk_loop *loop;
    struct bk_store *store;
    struct bk_log log;
    struct bk_task task; /* dispatches a slice at the end of each turn, while something is queued */
    struct bus_queue queue;
    struct bk_list phases[BK_PHASE_COUNT]; /* of struct bk_subscription */
    struct bk_list taps;
    struct bk_map matches;
    struct bus_match *current; /* of the event in dispatch */
    bool keeps_back;           /* a handler kept somebody from that event */
    struct bk_event **durable; /* scratch for the taps */
    size_t durable_capacity;
    uint32_t transient_number; /* makes ids of transient events unique within a millisecond */
    uint32_t subscription_count;
    struct bk_list cuts; /* that found the store busy */
    struct bk_timer *retry_cuts;
    uint32_t cut_count; /* in flight or waiting */
    struct bk_bus_figures figures;
};

#endif
