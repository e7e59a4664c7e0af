/*
 * The bus: events wait in one queue, in the order in which they were committed or published, and a
 * task at the end of the loop's turn dispatches them: after the answers to the writes have left,
 * and before the next request is read.
 *
 *   store ─ on_committed ─> taps (durable events, the whole commit) ─> queue ─┐
 *   bk_bus_publish ─ transient events ──────────────────────────────> queue ─┴─> task ─> handlers
 *
 * The task works in slices (SLICE_EVENTS or SLICE_NS, whichever ends first) and goes on in the next
 * turn of the loop, so that sockets are served between two slices. An event that waits holds its
 * tenant open.
 *
 * Committed events are never dropped. When BK_BUS_QUEUE_MAX wait, a commit has the oldest
 * dispatched before its own are queued: the loop's time is what slows the writers down. A publisher
 * of transient events is told BK_BUSY instead.
 *
 * A handler may unsubscribe itself or others and may free them then: their place in the match of
 * the event in dispatch is emptied, and a subscription is not touched after its place was found
 * empty.
 */
#include "bus_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/id.h"

enum { SLICE_EVENTS = 256, SLICE_NS = 2 * 1000 * 1000 };

/* The order of this table is the order of execution. */
static const struct {
    const char *name;
    bool may_cause; /* its handlers may lead to more events: chains of causes are cut here */
} phases[BK_PHASE_COUNT] = {
    [BK_PHASE_LOGGING] = {"logging", false},
    [BK_PHASE_REALTIME] = {"realtime", false},
    [BK_PHASE_FUNCTIONS] = {"functions", true},
    [BK_PHASE_PLUGINS] = {"plugins", true},
};

bool bus_phase_may_cause(size_t phase) { return phases[phase].may_cause; }

const char *bk_phase_name(enum bk_phase phase) {
    BK_ASSERT((size_t)phase < BK_PHASE_COUNT);
    return phases[phase].name;
}

/* --- life cycle ------------------------------------------------------------------------------- */

static void on_task(struct bk_task *task);
static void on_committed(void *user, struct bk_database *database, struct bk_event *const *events,
                         size_t event_count);

struct bk_bus *bk_bus_create(struct bk_loop *loop, struct bk_store *store, struct bk_log log) {
    BK_ASSERT(loop != NULL);
    struct bk_bus *bus = bk_alloc_zero(sizeof *bus);
    bus->loop = loop;
    bus->store = store;
    bus->log = log;
    bus->transient_number = (uint32_t)bk_random_u64();
    bk_task_init(&bus->task, on_task);
    bk_map_init(&bus->matches);
    bk_list_init(&bus->taps);
    for (size_t phase = 0; phase < BK_PHASE_COUNT; phase++)
        bk_list_init(&bus->phases[phase]);
    bus_cuts_init(bus);
    bk_store_on_committed(store, on_committed, bus);
    return bus;
}

void bk_bus_destroy(struct bk_bus *bus) {
    BK_ASSERT(bk_bus_is_idle(bus));
    BK_ASSERT(bus->subscription_count == 0);
    BK_ASSERT(bk_list_is_empty(&bus->taps));
    bk_store_on_committed(bus->store, NULL, NULL);
    bk_task_cancel(&bus->task);
    bus_cuts_fini(bus);
    bus_matches_clear(bus);
    bus_queue_fini(&bus->queue);
    bk_free(bus->durable);
    bk_free(bus);
}

/* --- subscriptions ---------------------------------------------------------------------------- */

enum bk_status bk_bus_subscribe(struct bk_bus *bus, struct bk_subscription *subscription) {
    BK_ASSERT(subscription->on_event != NULL && subscription->name != NULL);
    BK_ASSERT((size_t)subscription->phase < BK_PHASE_COUNT);
    if (!bk_event_pattern_is_valid(subscription->pattern))
        return BK_INVALID;
    subscription->handled_count = subscription->failed_count = subscription->time_ns = 0;
    subscription->is_removed = false;
    bk_list_push(&bus->phases[subscription->phase], &subscription->link);
    bus->subscription_count++;
    bus_matches_clear(bus);
    return BK_OK;
}

void bk_bus_unsubscribe(struct bk_bus *bus, struct bk_subscription *subscription) {
    BK_ASSERT(!subscription->is_removed && bus->subscription_count > 0);
    subscription->is_removed = true;
    bk_list_remove(&subscription->link);
    bus->subscription_count--;
    struct bus_match *current = bus->current;
    for (uint32_t i = 0; current != NULL && i < current->count; i++) {
        if (current->subscriptions[i] == subscription)
            current->subscriptions[i] = NULL;
    }
    bus_matches_clear(bus);
}

void bk_bus_add_tap(struct bk_bus *bus, struct bk_bus_tap *tap) {
    BK_ASSERT(tap->on_committed != NULL);
    bk_list_push(&bus->taps, &tap->link);
}

void bk_bus_remove_tap(struct bk_bus_tap *tap) { bk_list_remove(&tap->link); }

/* --- dispatch --------------------------------------------------------------------------------- */

static void report_failure(struct bk_bus *bus, struct bk_subscription *subscription,
                           const struct bk_event *event, enum bk_status status) {
    subscription->failed_count++;
    bk_log_warn(&bus->log, "handler_failed", BK_TEXT("handler", subscription->name),
                BK_TEXT("phase", phases[subscription->phase].name),
                BK_TEXT("status", bk_status_name(status)), BK_STRING("id", event->fields.id),
                BK_STRING("type", event->fields.type));
}

/* Calls one handler and returns the time when it was done. */
static uint64_t call_handler(struct bk_bus *bus, struct bus_match *match, uint32_t index,
                             const struct bus_entry *entry, uint64_t before_ns) {
    struct bk_subscription *subscription = match->subscriptions[index];
    enum bk_phase phase = subscription->phase;
    enum bk_status status = subscription->on_event(subscription, entry->tenant, entry->event);
    uint64_t after_ns = bk_clock_monotonic_ns();
    bus->figures.handler_calls++;
    bus->figures.phase_ns[phase] += after_ns - before_ns;
    if (status != BK_OK)
        bus->figures.handler_failures++;
    if (match->subscriptions[index] == NULL)
        return after_ns; /* it is gone, and perhaps its memory too */
    subscription->handled_count++;
    subscription->time_ns += after_ns - before_ns;
    if (status != BK_OK)
        report_failure(bus, subscription, entry->event, status);
    return after_ns;
}

static bool has_causing_handler(const struct bus_match *match) {
    for (uint32_t i = match->first_causing; i < match->count; i++) {
        if (match->subscriptions[i] != NULL && !match->subscriptions[i]->takes_cut)
            return true;
    }
    return false;
}

void bk_bus_keep_back(struct bk_bus *bus) {
    BK_ASSERT(bus->current != NULL);
    bus->keeps_back = true;
}

/* Hands the oldest event to its handlers. Returns the time when the last of them was done. */
static uint64_t dispatch_one(struct bk_bus *bus, uint64_t now_ns) {
    BK_ASSERT(bus->current == NULL);
    struct bus_entry entry = bus_queue_pop(&bus->queue);
    struct bus_match *match = bus_matches_get(bus, entry.event->fields.type);
    bool is_cut = entry.event->fields.depth >= BK_CAUSE_DEPTH_MAX;
    bus->current = match;
    bus->keeps_back = false;
    for (uint32_t i = 0; i < match->count; i++) {
        if (match->subscriptions[i] == NULL)
            continue;
        if (is_cut && i >= match->first_causing && !match->subscriptions[i]->takes_cut)
            continue;
        now_ns = call_handler(bus, match, i, &entry, now_ns);
    }
    if (is_cut && (bus->keeps_back || has_causing_handler(match)) && !bus_is_cut(entry.event))
        bus_cut_chain(bus, entry.tenant, entry.event);
    bus->current = NULL;
    if (match->is_stale)
        bk_free(match);
    bus->figures.events++;
    bk_event_unref(entry.event);
    bk_tenant_release(entry.tenant);
    return now_ns;
}

static void dispatch_slice(struct bk_bus *bus) {
    uint64_t started_ns = bk_clock_monotonic_ns();
    uint64_t now_ns = started_ns;
    for (uint32_t i = 0; bus->queue.count > 0; i++) {
        if (i == SLICE_EVENTS || now_ns - started_ns >= SLICE_NS) {
            bk_loop_defer_last(bus->loop, &bus->task);
            return;
        }
        now_ns = dispatch_one(bus, now_ns);
    }
}

static void on_task(struct bk_task *task) {
    dispatch_slice(bk_container_of(task, struct bk_bus, task));
}

/* --- what comes in ---------------------------------------------------------------------------- */

/* Takes over one reference to the event; holds the tenant. */
static void enqueue(struct bk_bus *bus, struct bk_tenant *tenant, struct bk_event *event) {
    bk_tenant_ref(tenant);
    bus_queue_push(&bus->queue, event, tenant);
}

static void schedule(struct bk_bus *bus) {
    if (bus->queue.count > 0)
        bk_loop_defer_last(bus->loop, &bus->task);
}

static void keep_durable(struct bk_bus *bus, struct bk_event *const *events, size_t event_count,
                         size_t *durable_count) {
    if (event_count > bus->durable_capacity) {
        bk_free(bus->durable);
        bus->durable = bk_alloc(event_count * sizeof(struct bk_event *));
        bus->durable_capacity = event_count;
    }
    *durable_count = 0;
    for (size_t i = 0; i < event_count; i++) {
        if (events[i]->fields.sequence != 0)
            bus->durable[(*durable_count)++] = events[i];
    }
}

static void on_committed(void *user, struct bk_database *database, struct bk_event *const *events,
                         size_t event_count) {
    struct bk_bus *bus = user;
    BK_ASSERT(bus->current == NULL);
    if (event_count == 0)
        return;
    struct bk_tenant *tenant = bk_tenant_of(database);
    if (tenant == NULL) {
        bus->figures.dropped += event_count;
        return;
    }
    size_t durable_count;
    keep_durable(bus, events, event_count, &durable_count);
    BK_LIST_FOR_EACH(node, &bus->taps) {
        struct bk_bus_tap *tap = bk_container_of(node, struct bk_bus_tap, link);
        if (durable_count > 0)
            tap->on_committed(tap, tenant, bus->durable, durable_count);
    }
    uint64_t now_ns = bk_clock_monotonic_ns();
    for (size_t i = 0; i < event_count; i++) {
        while (bus->queue.count >= BK_BUS_QUEUE_MAX)
            now_ns = dispatch_one(bus, now_ns);
        enqueue(bus, tenant, bk_event_ref(events[i]));
    }
    schedule(bus);
}

enum bk_status bk_bus_publish(struct bk_bus *bus, struct bk_tenant *tenant,
                              const struct bk_event_draft *draft, const struct bk_origin *cause) {
    BK_ASSERT(tenant != NULL && bk_event_type_is_valid(draft->type));
    if (bus->queue.count >= BK_BUS_QUEUE_MAX) {
        bus->figures.dropped++;
        return BK_BUSY;
    }
    char id[BK_EVENT_ID_BYTES];
    int64_t now_ms = bk_clock_wall_ms();
    bk_event_id_make(id, now_ms, 0, bus->transient_number++);
    struct bk_event_fields fields = {
        .timestamp_ms = now_ms,
        .version = draft->version == 0 ? 1 : draft->version,
        .depth = cause == NULL ? 0 : cause->depth,
        .id = bk_slice_make(id, sizeof id),
        .type = draft->type,
        .source = draft->source,
        .tenant = tenant->name,
        .subject = draft->subject,
        .actor = draft->actor,
        .cause = cause == NULL ? BK_SLICE_EMPTY : cause->cause,
        .payload = draft->payload,
        .previous = draft->previous,
        .hidden = draft->hidden,
        .hidden_previous = draft->hidden_previous,
    };
    if (fields.actor.length == 0 && cause != NULL)
        fields.actor = cause->actor;
    if (fields.actor.length == 0)
        fields.actor = BK_SLICE("system");
    if (fields.payload.length == 0)
        fields.payload = BK_SLICE("{}");
    enqueue(bus, tenant, bk_event_create(&fields));
    schedule(bus);
    return BK_OK;
}

/* --- figures ---------------------------------------------------------------------------------- */

/* A cut that is being written comes back as an event. */
bool bk_bus_is_idle(const struct bk_bus *bus) {
    return bus->queue.count == 0 && bus->cut_count == 0 && bus->current == NULL;
}

struct bk_bus_figures bk_bus_figures(const struct bk_bus *bus) {
    struct bk_bus_figures figures = bus->figures;
    figures.waiting = bus->queue.count;
    return figures;
}

void bk_bus_for_each(struct bk_bus *bus,
                     void (*on_subscription)(const struct bk_subscription *subscription,
                                             void *user),
                     void *user) {
    for (size_t phase = 0; phase < BK_PHASE_COUNT; phase++) {
        BK_LIST_FOR_EACH(node, &bus->phases[phase]) {
            on_subscription(bk_container_of(node, struct bk_subscription, link), user);
        }
    }
}
