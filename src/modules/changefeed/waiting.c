/*
 * Readers that wait: long polls, and streams that have caught up. They stand in a set of interests,
 * one per tenant, so that an event costs those that it concerns.
 *
 *   changefeed_wait ─> waiting ─┬─ an event matches ──────────┬─> ready ─ a slice ─> on_wake
 *                               └─ changefeed_wake, the drain ┘
 *
 * A reader that is woken leaves the set and reads on behind its position. No event is missed
 * between the two: it begins to wait when it has read up to the newest event that the loop knows,
 * and each later one is dispatched later. One that it has read before it was dispatched is told by
 * its number.
 *
 * What was dispatched and did not match is behind it too, so that a reader of a rare type does not
 * look at everything again when it is woken.
 *
 * A thousand readers woken by one event are served in slices, one a turn of the loop, so that
 * sockets are served between two of them. They all read the same tail in memory, so there is no
 * reason to spread them over time.
 */
#include "changefeed_private.h"

enum { SLICE_READERS = 32 /* woken per turn: each may look at 10,000 events of the tail */ };

struct changefeed_tenant *changefeed_tenant_of(const struct changefeed_state *state,
                                               const struct bk_tenant *tenant) {
    return tenant->slots[state->context->tenant_slot];
}

/* --- waking ----------------------------------------------------------------------------------- */

static void on_ready_task(struct bk_task *task) {
    struct changefeed_state *state = bk_container_of(task, struct changefeed_state, ready_task);
    struct bk_list *link;
    for (int i = 0; i < SLICE_READERS && (link = bk_list_pop(&state->ready)) != NULL; i++) {
        struct changefeed_waiter *waiter = bk_container_of(link, struct changefeed_waiter, link);
        waiter->on_wake(waiter);
    }
    if (!bk_list_is_empty(&state->ready))
        bk_loop_defer_last(state->context->loop, &state->ready_task);
}

static void leave_set(struct changefeed_waiter *waiter) {
    if (!changefeed_is_waiting(waiter))
        return;
    BK_ASSERT(waiter->state->waiting_count > 0);
    bk_interests_remove(&waiter->interest);
    waiter->state->waiting_count--;
}

/* A last task: a reader that goes on page by page comes again in the next turn. */
static void make_ready(struct changefeed_waiter *waiter) {
    struct changefeed_state *state = waiter->state;
    leave_set(waiter);
    bk_list_remove(&waiter->link);
    bk_list_push(&state->ready, &waiter->link);
    bk_loop_defer_last(state->context->loop, &state->ready_task);
}

void changefeed_wake(struct changefeed_waiter *waiter) {
    waiter->position = changefeed_waiter_seen(waiter);
    make_ready(waiter);
}

/* --- events ----------------------------------------------------------------------------------- */

static void on_match(struct bk_interest *interest, void *user) {
    struct changefeed_waiter *waiter =
        bk_container_of(interest, struct changefeed_waiter, interest);
    const struct bk_event *event = user;
    if (event->fields.sequence <= waiter->position)
        return; /* read before it was dispatched */
    waiter->position = event->fields.sequence - 1;
    make_ready(waiter);
}

static enum bk_status on_dispatched(struct changefeed_state *state, struct bk_tenant *tenant,
                                    struct bk_event *event) {
    struct changefeed_tenant *own = changefeed_tenant_of(state, tenant);
    if (own == NULL || event->fields.sequence == 0)
        return BK_OK; /* the feed has durable events only */
    if (bk_interests_count(own->interests) > 0)
        bk_interests_match_event(own->interests, &event->fields, on_match, event);
    own->dispatched = event->fields.sequence;
    return BK_OK;
}

static enum bk_status on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                               struct bk_event *event) {
    return on_dispatched(bk_container_of(subscription, struct changefeed_state, subscriptions[0]),
                         tenant, event);
}

static enum bk_status on_house_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                     struct bk_event *event) {
    return on_dispatched(bk_container_of(subscription, struct changefeed_state, subscriptions[1]),
                         tenant, event);
}

/* --- the reader's side ------------------------------------------------------------------------ */

void changefeed_waiter_init(struct changefeed_waiter *waiter, struct changefeed_state *state,
                            struct bk_tenant *tenant, const struct bk_feed_query *query) {
    *waiter = (struct changefeed_waiter){
        .interest = {.types = query->types,
                     .type_count = query->type_count,
                     .subject = query->subject,
                     .test = query->test},
        .tenant = tenant,
        .state = state,
    };
    bk_list_init(&waiter->link);
}

enum bk_status changefeed_wait(struct changefeed_waiter *waiter) {
    struct changefeed_state *state = waiter->state;
    struct changefeed_tenant *own = changefeed_tenant_of(state, waiter->tenant);
    BK_ASSERT(waiter->on_wake != NULL && !changefeed_is_waiting(waiter));
    BK_ASSERT(bk_list_is_empty(&waiter->link));
    if (bk_api_is_draining(state->context->api))
        return BK_CLOSING;
    if (bk_interests_count(own->interests) >= CHANGEFEED_WAITING_MAX)
        return BK_BUSY;
    enum bk_status status = bk_interests_add(own->interests, &waiter->interest);
    if (status != BK_OK)
        return status;
    bk_list_push(&state->waiting, &waiter->link);
    state->waiting_count++;
    return BK_OK;
}

bool changefeed_is_waiting(const struct changefeed_waiter *waiter) {
    return waiter->interest.set != NULL;
}

uint64_t changefeed_waiter_seen(const struct changefeed_waiter *waiter) {
    uint64_t dispatched = changefeed_tenant_of(waiter->state, waiter->tenant)->dispatched;
    return changefeed_is_waiting(waiter) && dispatched > waiter->position ? dispatched
                                                                          : waiter->position;
}

void changefeed_waiter_leave(struct changefeed_waiter *waiter) {
    leave_set(waiter);
    bk_list_remove(&waiter->link);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_drain(struct bk_drain_hook *hook, uint32_t deadline_ms) {
    (void)deadline_ms;
    struct changefeed_state *state = bk_container_of(hook, struct changefeed_state, drain_hook);
    changefeed_streams_drain(state);
    BK_LIST_FOR_EACH(link, &state->waiting) {
        changefeed_wake(bk_container_of(link, struct changefeed_waiter, link));
    }
}

void changefeed_waiting_init(struct changefeed_state *state) {
    struct bk_module_context *context = state->context;
    bk_list_init(&state->waiting);
    bk_list_init(&state->ready);
    bk_task_init(&state->ready_task, on_ready_task);
    state->subscriptions[0] = (struct bk_subscription){.name = "changefeed.waiting",
                                                       .phase = BK_PHASE_REALTIME,
                                                       .pattern = BK_SLICE("*"),
                                                       .on_event = on_event};
    state->subscriptions[1] = (struct bk_subscription){.name = "changefeed.waiting_house",
                                                       .phase = BK_PHASE_REALTIME,
                                                       .pattern = BK_SLICE("_*"),
                                                       .on_event = on_house_event};
    for (size_t i = 0; i < BK_COUNT_OF(state->subscriptions); i++)
        BK_ASSERT(bk_bus_subscribe(context->bus, &state->subscriptions[i]) == BK_OK);
    state->drain_hook.on_drain = on_drain;
    bk_api_add_drain_hook(context->api, &state->drain_hook);
}

void changefeed_waiting_fini(struct changefeed_state *state) {
    BK_ASSERT(state->waiting_count == 0 && bk_list_is_empty(&state->ready));
    for (size_t i = 0; i < BK_COUNT_OF(state->subscriptions); i++)
        bk_bus_unsubscribe(state->context->bus, &state->subscriptions[i]);
    bk_task_cancel(&state->ready_task);
}
