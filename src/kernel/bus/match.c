/*
 * The cache of matches: event type → the subscriptions whose pattern matches it, in one array in
 * the order in which they are called. A type is matched against all patterns once; after that a
 * dispatch costs one look-up.
 *
 * Any change of subscriptions forgets everything, and so does one type more than TYPES_MAX: types
 * are as many as there are collections, and an application that makes new ones for ever must not
 * make the cache grow for ever. The match of the event in dispatch outlives both, marked stale.
 */
#include "bus_private.h"

#include "bakend/alloc.h"

enum { TYPES_MAX = 4096 };

static uint32_t count_matching(const struct bk_bus *bus, struct bk_slice type) {
    uint32_t count = 0;
    for (size_t phase = 0; phase < BK_PHASE_COUNT; phase++) {
        BK_LIST_FOR_EACH(node, &bus->phases[phase]) {
            struct bk_subscription *subscription =
                bk_container_of(node, struct bk_subscription, link);
            if (bk_event_pattern_matches(subscription->pattern, type))
                count++;
        }
    }
    return count;
}

static struct bus_match *make_match(const struct bk_bus *bus, struct bk_slice type) {
    uint32_t count = count_matching(bus, type);
    size_t array_bytes = count * sizeof(struct bk_subscription *);
    struct bus_match *match = bk_alloc_zero(sizeof *match + array_bytes + type.length);
    char *text = (char *)match + sizeof *match + array_bytes;
    memcpy(text, type.data, type.length);
    match->type = bk_slice_make(text, type.length);
    for (size_t phase = 0; phase < BK_PHASE_COUNT; phase++) {
        BK_LIST_FOR_EACH(node, &bus->phases[phase]) {
            struct bk_subscription *subscription =
                bk_container_of(node, struct bk_subscription, link);
            if (bk_event_pattern_matches(subscription->pattern, type))
                match->subscriptions[match->count++] = subscription;
        }
        if (!bus_phase_may_cause(phase))
            match->first_causing = match->count;
    }
    BK_ASSERT(match->count == count);
    return match;
}

struct bus_match *bus_matches_get(struct bk_bus *bus, struct bk_slice type) {
    struct bus_match *match = bk_map_get(&bus->matches, type);
    if (match != NULL)
        return match;
    if (bus->matches.count >= TYPES_MAX)
        bus_matches_clear(bus);
    match = make_match(bus, type);
    bk_map_put(&bus->matches, match->type, match);
    return match;
}

void bus_matches_clear(struct bk_bus *bus) {
    size_t cursor = 0;
    struct bk_map_entry *entry;
    while ((entry = bk_map_next(&bus->matches, &cursor)) != NULL) {
        struct bus_match *match = entry->value;
        if (match == bus->current)
            match->is_stale = true;
        else
            bk_free(match);
    }
    bk_map_fini(&bus->matches);
}
