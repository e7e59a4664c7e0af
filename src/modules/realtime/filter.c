/*
 * Filters of WebSocket subscriptions, over events. Those that say the same in a tenant are one, and
 * are asked once of each form of an event: what somebody may not see, their filter does not see
 * either, so that it cannot be found out by asking.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"

enum { UNKNOWN, FAILS, PASSES };

struct realtime_filter *realtime_filter_get(struct realtime_tenant *tenant,
                                            struct bk_event_filter *filter) {
    struct bk_slice text = bk_event_filter_text(filter);
    struct realtime_filter *known = bk_map_get(&tenant->filters, text);
    if (known != NULL) {
        known->reference_count++;
        return known;
    }
    known = bk_alloc_zero(sizeof *known);
    known->tenant = tenant;
    known->filter = bk_event_filter_ref(filter);
    known->reference_count = 1;
    bk_map_put(&tenant->filters, text, known);
    return known;
}

void realtime_filter_unref(struct realtime_filter *filter) {
    if (filter == NULL || --filter->reference_count > 0)
        return;
    (void)bk_map_remove(&filter->tenant->filters, bk_event_filter_text(filter->filter));
    bk_event_filter_unref(filter->filter);
    bk_free(filter);
}

bool realtime_filter_passes(struct realtime_filter *filter, struct realtime_item *item,
                            const struct realtime_look *look) {
    struct realtime_form *form = realtime_item_form(item, look->view, look->with_previous);
    uint8_t *answer = &filter->answers[form - item->forms];
    if (filter->serial != item->serial) {
        filter->serial = item->serial;
        memset(filter->answers, UNKNOWN, sizeof filter->answers);
    }
    if (*answer == UNKNOWN) {
        filter->tenant->realtime->figures.filtered++;
        *answer =
            bk_event_filter_holds(filter->filter, realtime_form_view(item, form)) ? PASSES : FAILS;
    }
    return *answer == PASSES;
}
