/*
 * What subscriptions take in memory, of all connections together, has a bound: a connection may
 * have 100 of 100 types, or 1,000 topics of 2,500 bytes, and there may be tens of thousands of
 * connections.
 *
 *   a subscription   its struct, types and texts       counted as it is allocated
 *   the interests    entries, buckets and tables       counted by their set, shared as they are
 *
 * What more would take is judged before it is made, as if it shared nothing; so a few bytes are
 * refused that would have had room, and none are taken that have not. One tenant may have half, so
 * that the others are still heard. All is given back when it is unsubscribed.
 */
#include "realtime_private.h"

enum {
    ALLOCATION_BYTES = 16,
    MATCHED_SLOTS = 2, /* of the tenant's list of those that an event concerns, which doubles */
    TENANT_SHARE = 2,
    FILTER_BYTES = 4096,        /* of one, as if nobody else had it … */
    FILTER_BYTES_PER_BYTE = 16, /* … and for each byte of its text */
};

size_t realtime_subscription_bytes(const struct realtime_request *request) {
    size_t bytes = ALLOCATION_BYTES + sizeof(struct realtime_subscription) +
                   MATCHED_SLOTS * sizeof(struct realtime_subscription *) +
                   request->type_count * sizeof(struct bk_slice) + request->subject.length +
                   request->topic.length + request->fields.length;
    if (request->filter != NULL)
        bytes +=
            FILTER_BYTES + FILTER_BYTES_PER_BYTE * bk_event_filter_text(request->filter).length;
    if (request->wording.options.length > 0)
        bytes += ALLOCATION_BYTES + sizeof(struct realtime_asker) +
                 request->wording.options.length + request->wording.filter.length +
                 request->wording.expand.length;
    for (size_t i = 0; i < request->type_count; i++)
        bytes += request->types[i].length;
    return bytes;
}

size_t realtime_request_bytes_max(const struct realtime_request *request) {
    const struct bk_interest interest = {
        .types = request->types, .type_count = request->type_count, .subject = request->subject};
    size_t bytes = realtime_subscription_bytes(request);
    return request->is_deaf ? bytes : bytes + bk_interest_bytes_max(&interest);
}

static uint64_t limit_of(const struct realtime *realtime) {
    const struct realtime_options *options = realtime->context->options;
    return (uint64_t)options->subscriptions_max_bytes;
}

const char *realtime_refuse_bytes(const struct realtime_tenant *own, size_t bytes) {
    struct realtime *realtime = own->realtime;
    uint64_t limit = limit_of(realtime), all = realtime->figures.subscription_bytes;
    const char *message = NULL;
    bytes += bk_interests_growth(own->interests);
    if (own->counted_bytes + bytes > limit / TENANT_SHARE)
        message = "The subscriptions of this tenant take up the memory that one tenant may have: "
                  "subscribe to less, or try again when others have left. An operator can raise "
                  "realtime-subscriptions-max-bytes, of which a tenant has half.";
    else if (all + bytes > limit)
        message = "Subscriptions take up the memory that the server has for them: subscribe to "
                  "less, or try again when others have left. An operator can raise "
                  "realtime-subscriptions-max-bytes.";
    realtime->figures.subscriptions_refused += message != NULL;
    return message;
}

void realtime_count_bytes(struct realtime_tenant *own) {
    uint64_t *all = &own->realtime->figures.subscription_bytes;
    size_t bytes = bk_interests_count(own->interests) == 0 && own->subscription_bytes == 0
                       ? 0 /* what the empty set keeps belongs to the tenant */
                       : own->subscription_bytes + bk_interests_bytes(own->interests);
    BK_ASSERT(*all >= own->counted_bytes);
    *all = *all - own->counted_bytes + bytes;
    own->counted_bytes = bytes;
}
