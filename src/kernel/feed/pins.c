/*
 * Pins: who is still to see an event keeps it from being pruned by age. The store asks before each
 * slice; that is also when those are found whose next event has gone by size.
 */
#include "feed_private.h"

void bk_feed_pin(struct bk_feed *feed, struct bk_tenant *tenant, struct bk_feed_pin *pin) {
    struct feed_tenant *own = feed_tenant_of(feed, tenant);
    BK_ASSERT(own != NULL);
    pin->is_lost = false;
    bk_list_init(&pin->link);
    bk_list_push(&own->pins, &pin->link);
}

void bk_feed_unpin(struct bk_feed_pin *pin) {
    if (pin->link.next != NULL)
        bk_list_remove(&pin->link);
}

static void tell_if_lost(struct bk_feed_pin *pin, uint64_t oldest) {
    bool was_lost = pin->is_lost;
    pin->is_lost = pin->sequence + 1 < oldest; /* or it was moved on */
    if (pin->is_lost && !was_lost && pin->on_lost != NULL)
        pin->on_lost(pin);
}

/* What is told may unpin any of them, and pin anew: so the list is turned past a mark, one by one,
 * and what is pinned meanwhile stands behind it and has its turn the next time. */
static void tell_lost(struct feed_tenant *own, uint64_t oldest) {
    struct bk_list mark;
    bk_list_init(&mark);
    bk_list_push(&own->pins, &mark);
    while (own->pins.next != &mark) {
        struct bk_list *node = own->pins.next;
        bk_list_remove(node);
        bk_list_push(&own->pins, node);
        tell_if_lost(bk_container_of(node, struct bk_feed_pin, link), oldest);
    }
    bk_list_remove(&mark);
}

uint64_t feed_pins_prunable(void *user, struct bk_database *database) {
    struct bk_feed *feed = user;
    struct bk_tenant *tenant = bk_tenant_of(database);
    struct feed_tenant *own = tenant == NULL ? NULL : feed_tenant_of(feed, tenant);
    uint64_t oldest = bk_journal_state(database).oldest, prunable = UINT64_MAX;
    if (own == NULL)
        return UINT64_MAX;
    tell_lost(own, oldest);
    BK_LIST_FOR_EACH(node, &own->pins) {
        const struct bk_feed_pin *pin = bk_container_of(node, struct bk_feed_pin, link);
        if (!pin->is_lost && pin->sequence < prunable)
            prunable = pin->sequence;
    }
    return prunable;
}
