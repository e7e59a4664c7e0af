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

/* The first pin that is lost and was not told so; NULL when there is none. */
static struct bk_feed_pin *find_lost(struct feed_tenant *own, uint64_t oldest) {
    BK_LIST_FOR_EACH(node, &own->pins) {
        struct bk_feed_pin *pin = bk_container_of(node, struct bk_feed_pin, link);
        if (pin->sequence + 1 < oldest && !pin->is_lost)
            return pin;
        if (pin->sequence + 1 >= oldest)
            pin->is_lost = false; /* it was moved on */
    }
    return NULL;
}

uint64_t feed_pins_prunable(void *user, struct bk_database *database) {
    struct bk_feed *feed = user;
    struct bk_tenant *tenant = bk_tenant_of(database);
    struct feed_tenant *own = tenant == NULL ? NULL : feed_tenant_of(feed, tenant);
    uint64_t oldest = bk_journal_state(database).oldest, prunable = UINT64_MAX;
    struct bk_feed_pin *lost;
    if (own == NULL)
        return UINT64_MAX;
    /* What is told may unpin any of them, so each time from the start. */
    while ((lost = find_lost(own, oldest)) != NULL) {
        lost->is_lost = true;
        if (lost->on_lost != NULL)
            lost->on_lost(lost);
    }
    BK_LIST_FOR_EACH(node, &own->pins) {
        const struct bk_feed_pin *pin = bk_container_of(node, struct bk_feed_pin, link);
        if (!pin->is_lost && pin->sequence < prunable)
            prunable = pin->sequence;
    }
    return prunable;
}
