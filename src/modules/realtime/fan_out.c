/*
 * From the bus to all that ask. Each tenant has a queue of events; the oldest is matched with the
 * tenant's interests once, and those that it concerns are served in slices, so that a broadcast to
 * ten thousand holds up nobody's request:
 *
 *   bus ─> waiting ─> matched ─> slice ─> turn ends, frames leave ─> slice … ─> the next event
 *
 * A slice ends after SLICE_NS. To queue a frame is cheap and to write it is not, so what a slice
 * takes of several events leaves with one write for each peer; the transport bounds the writes of a
 * turn.
 *
 * The next event begins when the last one was sent to all: so each peer sees them in order. A first
 * slice runs at once, since most events concern few. Past WAITING_MAX events the bus itself waits.
 *
 * Those for whom a rule has to be asked of other tables are kept for another pass, which begins
 * when a reader has answered for all of them. The event holds its place meanwhile, and what comes
 * behind it waits; when that is more than WAITING_MAX, everybody is sent to the journal (replay.c)
 * at their own pace.
 *
 * A subscription that goes during the slices leaves a hole in the list. A peer that replays is left
 * out: it reads what is sent here from the journal, in its own time (see replay.c).
 */
#include "realtime_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

enum { SLICE_SENDS = 32768, WAITING_MAX = 1024, WAITING_AT_FIRST = 16 };
#define SLICE_NS UINT64_C(2000000)

/* --- tenants ---------------------------------------------------------------------------------- */

struct realtime_tenant *realtime_tenant_of(const struct realtime *realtime,
                                           const struct bk_tenant *tenant) {
    return tenant->slots[realtime->context->tenant_slot];
}

enum bk_status realtime_tenant_open(struct bk_module_context *context, struct bk_tenant *tenant,
                                    void **state, struct bk_error *error) {
    (void)error;
    struct realtime_tenant *own = bk_alloc_zero(sizeof *own);
    own->realtime = context->state;
    own->tenant = tenant;
    own->interests = bk_interests_create();
    bk_map_init(&own->askers);
    bk_map_init(&own->filters);
    own->watermark = bk_journal_state(tenant->database).last;
    bk_list_init(&own->busy);
    bk_list_init(&own->gone);
    *state = own;
    return BK_OK;
}

static void drop_waiting(struct realtime_tenant *own) {
    for (; own->waiting_count > 0; own->waiting_count--) {
        bk_event_unref(own->waiting[own->waiting_first]);
        own->waiting_first = (own->waiting_first + 1) % own->waiting_capacity;
    }
}

static void finish_event(struct realtime_tenant *own) {
    BK_ASSERT(!own->is_judging);
    realtime_item_fini(&own->item);
    bk_event_unref(own->event);
    own->event = NULL;
}

void realtime_tenant_close(struct bk_module_context *context, struct bk_tenant *tenant,
                           void *state) {
    (void)context;
    (void)tenant;
    struct realtime_tenant *own = state;
    BK_ASSERT(bk_interests_count(own->interests) == 0 && own->guest == NULL);
    BK_ASSERT(own->counted_bytes == 0);
    if (own->event != NULL)
        finish_event(own);
    drop_waiting(own);
    realtime_gone_forget(own, UINT64_MAX);
    bk_list_remove(&own->busy);
    bk_interests_destroy(own->interests);
    realtime_asker_unref(own->anybody);
    BK_ASSERT(own->askers.count == 0 && own->filters.count == 0);
    bk_map_fini(&own->askers);
    bk_map_fini(&own->filters);
    bk_free(own->waiting);
    bk_free(own->matched);
    bk_free(own);
}

uint64_t realtime_sent_position(const struct realtime_tenant *own) {
    bool is_under_way = own->event != NULL && own->item.sequence == own->watermark;
    return is_under_way ? own->watermark - 1 : own->watermark;
}

/* --- one event -------------------------------------------------------------------------------- */

static void on_match(struct bk_interest *interest, void *user) {
    struct realtime_tenant *own = user;
    struct realtime_subscription *subscription =
        bk_container_of(interest, struct realtime_subscription, interest);
    if (subscription->serial == own->item.serial)
        return; /* by its type; now by "deleted" */
    if (own->matched_count == own->matched_capacity) {
        own->matched_capacity =
            own->matched_capacity == 0 ? WAITING_AT_FIRST : 2 * own->matched_capacity;
        own->matched = bk_realloc(own->matched,
                                  own->matched_capacity * sizeof(struct realtime_subscription *));
    }
    subscription->serial = own->item.serial;
    subscription->slot = (uint32_t)own->matched_count;
    own->matched[own->matched_count++] = subscription;
}

static void see(struct realtime_tenant *own, const struct bk_event *event) {
    if (event->fields.sequence > own->watermark)
        own->watermark = event->fields.sequence;
}

static void begin_event(struct realtime_tenant *own) {
    struct bk_event *event = own->waiting[own->waiting_first];
    own->waiting_first = (own->waiting_first + 1) % own->waiting_capacity;
    own->waiting_count--;
    see(own, event);
    if (event->fields.sequence != 0)
        realtime_gone_forget(own, event->fields.sequence);
    realtime_item_init(&own->item, own, &event->fields, event->json);
    own->item.gone = realtime_gone_of(own, event->fields.sequence);
    realtime_item_resolve(&own->item, own);
    own->matched_count = own->matched_next = own->left_count = 0;
    own->is_last_pass = false;
    own->event = event;
    bk_interests_match(own->interests, event->fields.type, event->fields.subject, on_match, own);
    /* Who may see it no longer is told that it is gone. */
    if (own->item.change == REALTIME_UPDATED && realtime_item_is_asked(&own->item))
        bk_interests_match(own->interests, own->item.collection->event_types[REALTIME_DELETED],
                           event->fields.subject, on_match, own);
}

/* For another pass. */
static void keep(struct realtime_tenant *own, struct realtime_subscription *subscription) {
    subscription->serial = own->item.serial;
    subscription->slot = (uint32_t)own->left_count;
    own->matched[own->left_count++] = subscription;
}

static bool has_it(const struct realtime_subscription *subscription,
                   const struct realtime_item *item) {
    const struct realtime_peer *peer = subscription->peer;
    if (item->sequence != 0 && (peer->replay != NULL || item->sequence <= subscription->until))
        return true;
    return !peer->is_stream && peer->serial == item->serial;
}

static void send_to_session(struct realtime_peer *peer, struct realtime_item *item,
                            struct bk_shared *frame) {
    peer->serial = item->serial;
    (void)realtime_session_send(bk_container_of(peer, struct realtime_session, peer), frame);
}

/* What most events are: to be sent to many, and the same to each. */
static bool is_for_all(const struct realtime_subscription *subscription,
                       const struct realtime_item *item) {
    const struct realtime_peer *peer = subscription->peer;
    return item->is_for_all[subscription->interest.subject.length > 0] && !peer->is_stream &&
           subscription->filter == NULL && !bk_actor_is_superuser(&peer->viewer->actor);
}

/* The subscription may be gone when this returns. */
static void send(struct realtime_tenant *own, struct realtime_subscription *subscription) {
    struct realtime_peer *peer = subscription->peer;
    struct realtime_item *item = &own->item;
    struct realtime_look look;
    if (has_it(subscription, item))
        return;
    if (is_for_all(subscription, item)) {
        if (item->sequence != 0)
            subscription->until = item->sequence;
        if (item->frame_for_all == NULL)
            item->frame_for_all = realtime_item_frame(item, BK_VIEW_PUBLIC, true);
        send_to_session(peer, item, item->frame_for_all);
        return;
    }
    enum realtime_sight sight = realtime_look(item, subscription, &look);
    /* Another subscription of the peer may see it still. */
    if (sight == REALTIME_OPEN || (sight == REALTIME_LEFT && !own->is_last_pass)) {
        keep(own, subscription);
        return;
    }
    if (item->sequence != 0)
        subscription->until = item->sequence;
    if (sight == REALTIME_UNSEEN)
        return;
    if (peer->is_stream)
        (void)realtime_stream_send(subscription, item, &look);
    else
        send_to_session(peer, item,
                        sight == REALTIME_LEFT
                            ? realtime_item_leaving(item)
                            : realtime_item_frame(item, look.view, look.with_previous));
}

/* Sends to at most so many; true when the pass is over. */
static bool send_some(struct realtime_tenant *own, size_t count_max) {
    size_t left = own->matched_count - own->matched_next;
    size_t end = own->matched_next + (left < count_max ? left : count_max);
    while (own->matched_next < end) {
        size_t slot = own->matched_next++;
        struct realtime_subscription *subscription = own->matched[slot];
        if (subscription == NULL)
            continue;
        own->matched[slot] = NULL;
        subscription->serial = 0;
        send(own, subscription);
    }
    return own->matched_next == own->matched_count;
}

/* --- passes ----------------------------------------------------------------------------------- */

static void begin_pass(struct realtime_tenant *own) {
    own->matched_count = own->left_count;
    own->matched_next = own->left_count = 0;
}

static void run_slice(struct realtime *realtime);

static void be_busy(struct realtime_tenant *own) {
    if (bk_list_is_empty(&own->busy))
        bk_list_push(&own->realtime->busy, &own->busy);
    if (!bk_task_is_waiting(&own->realtime->task))
        run_slice(own->realtime);
}

static void on_judged(void *user) {
    struct realtime_tenant *own = user;
    own->is_judging = false;
    be_busy(own);
}

/* False: there is another pass to come. */
static bool end_pass(struct realtime_tenant *own) {
    if (own->left_count == 0)
        return true;
    own->is_last_pass = own->item.open_count == 0;
    begin_pass(own);
    if (!own->is_last_pass) {
        own->is_judging = true;
        bk_list_remove(&own->busy);
        realtime_judge(own, &own->item, on_judged, own);
    }
    return false;
}

/* --- slices ----------------------------------------------------------------------------------- */

/* Returns what it costs, in sends: at least one. */
static size_t step(struct realtime_tenant *own, size_t count_max) {
    if (own->event == NULL)
        begin_event(own);
    size_t before = own->matched_next;
    bool is_over = send_some(own, count_max);
    size_t cost = own->matched_next - before + 1;
    if (is_over && end_pass(own))
        finish_event(own);
    return cost;
}

/* What a turn has borrowed another turn may not use. */
static void resolve_anew(struct realtime *realtime) {
    BK_LIST_FOR_EACH(node, &realtime->busy) {
        struct realtime_tenant *own = bk_container_of(node, struct realtime_tenant, busy);
        if (own->event != NULL)
            realtime_item_resolve(&own->item, own);
    }
}

/* One event of a tenant, or a piece of it, then the next tenant's. */
static void run_slice(struct realtime *realtime) {
    enum { PIECE = 64 };
    uint64_t started_ns = bk_clock_monotonic_ns();
    resolve_anew(realtime);
    for (size_t cost = 0; cost < SLICE_SENDS && !bk_list_is_empty(&realtime->busy);) {
        struct realtime_tenant *own =
            bk_container_of(realtime->busy.next, struct realtime_tenant, busy);
        cost += step(own, PIECE);
        bk_list_remove(&own->busy);
        if (!own->is_judging && (own->event != NULL || own->waiting_count > 0))
            bk_list_push(&realtime->busy, &own->busy);
        if (bk_clock_monotonic_ns() - started_ns >= SLICE_NS)
            break;
    }
    if (!bk_list_is_empty(&realtime->busy))
        bk_loop_defer_last(realtime->context->loop, &realtime->task);
}

void realtime_on_task(struct bk_task *task) {
    run_slice(bk_container_of(task, struct realtime, task));
}

/* --- what the bus brings ---------------------------------------------------------------------- */

static void push(struct realtime_tenant *own, struct bk_event *event) {
    if (own->waiting_count == own->waiting_capacity) {
        uint32_t capacity =
            own->waiting_capacity == 0 ? WAITING_AT_FIRST : 2 * own->waiting_capacity;
        struct bk_event **waiting = bk_alloc(capacity * sizeof(struct bk_event *));
        for (uint32_t i = 0; i < own->waiting_count; i++)
            waiting[i] = own->waiting[(own->waiting_first + i) % own->waiting_capacity];
        bk_free(own->waiting);
        own->waiting = waiting;
        own->waiting_capacity = capacity;
        own->waiting_first = 0;
    }
    uint32_t end = (own->waiting_first + own->waiting_count) % own->waiting_capacity;
    own->waiting[end] = bk_event_ref(event);
    own->waiting_count++;
}

/* The journal has it all; only what is transient is lost. */
static void send_to_journal(struct realtime_tenant *own, struct realtime_peer *peer) {
    if (peer->tenant == own && peer->replay == NULL && peer->subscription_count > 0)
        realtime_replay_begin(peer, realtime_sent_position(own));
}

static void overtake(struct realtime_tenant *own) {
    struct realtime *realtime = own->realtime;
    realtime->figures.overtaken++;
    BK_LIST_FOR_EACH(node, &realtime->sessions) {
        send_to_journal(own, &bk_container_of(node, struct realtime_session, link)->peer);
    }
    realtime_streams_each(realtime, own, send_to_journal);
    for (uint32_t i = 0; i < own->waiting_count; i++)
        see(own, own->waiting[(own->waiting_first + i) % own->waiting_capacity]);
    drop_waiting(own);
    realtime_replays_pump(realtime);
}

void realtime_on_committed(struct bk_bus_tap *tap, struct bk_tenant *tenant,
                           struct bk_event *const *events, size_t event_count) {
    struct realtime *realtime = bk_container_of(tap, struct realtime, tap);
    struct realtime_tenant *own = realtime_tenant_of(realtime, tenant);
    if (own != NULL)
        realtime_gone_keep(own, events, event_count);
}

enum bk_status realtime_on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                 struct bk_event *event) {
    struct realtime *realtime =
        bk_container_of(subscription, struct realtime_hearing, subscription)->realtime;
    struct realtime_tenant *own = realtime_tenant_of(realtime, tenant);
    if (own == NULL)
        return BK_OK; /* it is opening */
    realtime_viewers_on_event(own, event);
    if (own->event == NULL && own->waiting_count == 0 && bk_interests_count(own->interests) == 0) {
        see(own, event);
        realtime_gone_forget(own, own->watermark);
        return BK_OK;
    }
    push(own, event);
    if (own->is_judging) {
        if (own->waiting_count > WAITING_MAX)
            overtake(own);
        return BK_OK;
    }
    if (own->waiting_count > WAITING_MAX) {
        if (own->event != NULL)
            realtime_item_resolve(&own->item, own);
        (void)step(own, SIZE_MAX);
    }
    if (!own->is_judging)
        be_busy(own);
    return BK_OK;
}
