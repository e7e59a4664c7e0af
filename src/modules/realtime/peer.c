/*
 * Peers: what a WebSocket and a stream have in common. A peer is in one tenant, which it holds
 * open, has a viewer, and subscriptions, which are interests of the tenant.
 *
 * What a subscription was served is a range of sequences, from < sequence <= until; it is the same
 * for what came live and for what was read again. With it an event is sent once, however often it
 * is met, and none is skipped when a peer goes from one way to the other.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"

void realtime_peer_enter(struct realtime_peer *peer, struct bk_tenant *tenant) {
    BK_ASSERT(peer->tenant == NULL && peer->viewer == NULL);
    bk_tenant_ref(tenant);
    peer->tenant = realtime_tenant_of(peer->realtime, tenant);
    BK_ASSERT(peer->tenant != NULL);
    bk_list_init(&peer->viewer_link);
    bk_list_init(&peer->subscriptions);
}

void realtime_peer_leave(struct realtime_peer *peer) {
    struct realtime_tenant *tenant = peer->tenant;
    if (tenant == NULL)
        return;
    realtime_unsubscribe_all(peer);
    realtime_viewer_leave(peer);
    peer->tenant = NULL;
    bk_tenant_release(tenant->tenant);
}

uint64_t realtime_peer_position(const struct realtime_peer *peer) {
    return peer->replay != NULL ? realtime_replay_position(peer->replay)
                                : realtime_sent_position(peer->tenant);
}

/* --- subscriptions ---------------------------------------------------------------------------- */

static struct bk_slice keep(char **cursor, struct bk_slice text) {
    char *start = *cursor;
    if (text.length == 0)
        return BK_SLICE_EMPTY;
    memcpy(start, text.data, text.length);
    *cursor += text.length;
    return bk_slice_make(start, text.length);
}

static struct realtime_subscription *create(struct realtime_peer *peer,
                                            const struct realtime_request *request) {
    size_t types_bytes = request->type_count * sizeof(struct bk_slice), bytes = types_bytes;
    for (size_t i = 0; i < request->type_count; i++)
        bytes += request->types[i].length;
    bytes += request->subject.length + request->topic.length + request->fields.length;
    struct realtime_subscription *subscription = bk_alloc(sizeof *subscription + bytes);
    struct bk_slice *types = (struct bk_slice *)(subscription + 1);
    char *cursor = (char *)types + types_bytes;
    *subscription = (struct realtime_subscription){0};
    for (size_t i = 0; i < request->type_count; i++)
        types[i] = keep(&cursor, request->types[i]);
    subscription->interest.types = types;
    subscription->interest.type_count = request->type_count;
    subscription->interest.subject = keep(&cursor, request->subject);
    subscription->topic = keep(&cursor, request->topic);
    subscription->fields = keep(&cursor, request->fields);
    subscription->tells_cursor = request->tells_cursor;
    if (request->filter != NULL)
        subscription->filter = realtime_filter_get(peer->tenant, request->filter);
    if (request->wording.options.length > 0)
        subscription->asker =
            realtime_asker_get(peer->tenant, &peer->viewer->actor, &request->wording);
    return subscription;
}

struct realtime_subscription *realtime_subscribe(struct realtime_peer *peer,
                                                 const struct realtime_request *request,
                                                 uint64_t from) {
    BK_ASSERT(peer->tenant != NULL && peer->viewer != NULL);
    struct realtime_subscription *subscription = create(peer, request);
    subscription->peer = peer;
    subscription->from = subscription->until = from;
    if (!request->is_deaf)
        BK_ASSERT(bk_interests_add(peer->tenant->interests, &subscription->interest) == BK_OK);
    bk_list_init(&subscription->link);
    bk_list_push(&peer->subscriptions, &subscription->link);
    peer->subscription_count++;
    peer->realtime->figures.subscriptions++;
    subscription->bytes = (uint32_t)realtime_subscription_bytes(request);
    peer->tenant->subscription_bytes += subscription->bytes;
    realtime_count_bytes(peer->tenant);
    return subscription;
}

void realtime_forget_served(struct realtime_peer *peer) {
    uint64_t position = peer->replay != NULL ? realtime_replay_position(peer->replay) : 0;
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        struct realtime_subscription *subscription =
            bk_container_of(node, struct realtime_subscription, link);
        if (subscription->until < position)
            subscription->until = position;
        subscription->from = subscription->until;
    }
}

void realtime_unsubscribe(struct realtime_subscription *subscription) {
    struct realtime_peer *peer = subscription->peer;
    struct realtime_tenant *tenant = peer->tenant;
    BK_ASSERT(peer->subscription_count > 0);
    if (tenant->event != NULL && subscription->serial == tenant->item.serial)
        tenant->matched[subscription->slot] = NULL;
    bk_interests_remove(&subscription->interest);
    bk_list_remove(&subscription->link);
    peer->subscription_count--;
    peer->realtime->figures.subscriptions--;
    BK_ASSERT(tenant->subscription_bytes >= subscription->bytes);
    tenant->subscription_bytes -= subscription->bytes;
    realtime_filter_unref(subscription->filter);
    realtime_asker_unref(subscription->asker);
    bk_free(subscription);
    realtime_count_bytes(tenant);
}

void realtime_succeed(struct realtime_subscription *subscription,
                      struct realtime_subscription *successor) {
    struct realtime_tenant *tenant = subscription->peer->tenant;
    successor->until = subscription->until;
    if (tenant->event == NULL || subscription->serial != tenant->item.serial ||
        !bk_interest_matches(&successor->interest, tenant->item.fields.type,
                             tenant->item.fields.subject))
        return;
    tenant->matched[subscription->slot] = successor;
    successor->serial = subscription->serial;
    successor->slot = subscription->slot;
    subscription->serial = 0;
}

void realtime_unsubscribe_all(struct realtime_peer *peer) {
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        realtime_unsubscribe(bk_container_of(node, struct realtime_subscription, link));
    }
    if (peer->replay != NULL)
        realtime_replay_drop(peer->replay);
    peer->replay = NULL;
}
