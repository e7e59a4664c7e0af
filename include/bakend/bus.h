/*
 * The bus: after a commit its events are dispatched in sequence order, each through the phases
 * logging → realtime → functions → plugins, to the handlers whose pattern matches its type. All on
 * the loop, never inside a request: what a handler does takes place after the answer was queued.
 *
 * Isolation: a handler that fails is logged and counted, and the rest go on. A publish during
 * dispatch is queued, never nested. A dispatch that takes long yields to sockets between two
 * events. An event whose chain of causes is BK_CAUSE_DEPTH_MAX long still reaches logging and
 * realtime, but not the phases that could cause more; the durable event bus.chain_cut says so.
 */
#ifndef BAKEND_BUS_H
#define BAKEND_BUS_H

#include "bakend/store.h"
#include "bakend/tenant.h"

struct bk_bus;

enum bk_phase { BK_PHASE_LOGGING, BK_PHASE_REALTIME, BK_PHASE_FUNCTIONS, BK_PHASE_PLUGINS };
enum { BK_PHASE_COUNT = 4 };
/* "logging" …; static. */
const char *bk_phase_name(enum bk_phase phase);

/* Embed it. Fill in the caller's part, subscribe; it stays until unsubscribed. */
struct bk_subscription {
    /* The caller's. */
    const char *name; /* of the handler, in logs and metrics: "auth.token_cache" */
    enum bk_phase phase;
    struct bk_slice pattern; /* borrowed as long as subscribed; see bk_event_pattern_matches */
    /* It sees events whose chain of causes is cut, too, and keeps them itself from those that could
     * cause more; see bk_bus_keep_back. */
    bool takes_cut;
    /* Must not block. The event is borrowed: ref to keep. A failure is logged and counted. */
    enum bk_status (*on_event)(struct bk_subscription *subscription, struct bk_tenant *tenant,
                               struct bk_event *event);
    /* The bus's. */
    struct bk_list link;
    uint64_t handled_count, failed_count, time_ns;
    bool is_removed;
};

struct bk_bus *bk_bus_create(struct bk_loop *loop, struct bk_store *store, struct bk_log log);
/* Nothing may be subscribed or queued any more. */
void bk_bus_destroy(struct bk_bus *bus);

/* BK_INVALID for a wrong pattern. Also during dispatch: it sees the events dispatched later. */
enum bk_status bk_bus_subscribe(struct bk_bus *bus, struct bk_subscription *subscription);
/* Also during dispatch, also of itself: no further call. */
void bk_bus_unsubscribe(struct bk_bus *bus, struct bk_subscription *subscription);

/* Inside on_event of a handler that takes cut chains, about an event of such a chain: somebody was
 * kept from it, and bus.chain_cut is to say so. */
void bk_bus_keep_back(struct bk_bus *bus);

/* Publishes a transient event (draft->is_transient is taken as true; actor must be set or means
 * "system"). Dispatched later in this turn. BK_BUSY past BK_BUS_QUEUE_MAX waiting ones. */
enum { BK_BUS_QUEUE_MAX = 65536 };
enum bk_status bk_bus_publish(struct bk_bus *bus, struct bk_tenant *tenant,
                              const struct bk_event_draft *draft, const struct bk_origin *cause);

/* The feed's tap: sees each commit's durable events, in order, before any of them is dispatched. */
struct bk_bus_tap {
    struct bk_list link;
    void (*on_committed)(struct bk_bus_tap *tap, struct bk_tenant *tenant,
                         struct bk_event *const *events, size_t event_count);
};
void bk_bus_add_tap(struct bk_bus *bus, struct bk_bus_tap *tap);
void bk_bus_remove_tap(struct bk_bus_tap *tap);
/* True when nothing waits to be dispatched. */
bool bk_bus_is_idle(const struct bk_bus *bus);

struct bk_bus_figures {
    uint64_t events, handler_calls, handler_failures, chains_cut, dropped;
    uint64_t phase_ns[BK_PHASE_COUNT];
    uint32_t waiting;
};
struct bk_bus_figures bk_bus_figures(const struct bk_bus *bus);
/* For metrics: each live subscription. */
void bk_bus_for_each(struct bk_bus *bus,
                     void (*on_subscription)(const struct bk_subscription *subscription,
                                             void *user),
                     void *user);

#endif
