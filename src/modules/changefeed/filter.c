/*
 * Filters of the change feed: of pages, streams, waiting readers and consumers. The feed itself
 * knows tests only; this is a filter as one.
 */
#include "changefeed_private.h"

#include "bakend/alloc.h"
#include "bakend/event_filter.h"

struct changefeed_filter {
    struct bk_event_test test;
    struct bk_event_filter *filter;
    uint32_t reference_count;
};

static bool holds(const struct bk_event_test *test, const struct bk_event_fields *fields) {
    const struct changefeed_filter *filter =
        bk_const_container_of(test, struct changefeed_filter, test);
    struct bk_event_view view;
    bk_event_view_init(&view, fields);
    bool does_hold = bk_event_filter_holds(filter->filter, &view);
    bk_event_view_fini(&view);
    return does_hold;
}

struct changefeed_filter *changefeed_filter_create(struct bk_slice text, struct bk_error *error) {
    struct bk_event_filter *parsed;
    if (bk_event_filter_parse(text, &parsed, error) != BK_OK)
        return NULL;
    struct changefeed_filter *filter = bk_alloc_zero(sizeof *filter);
    filter->filter = parsed;
    filter->test = (struct bk_event_test){.key = bk_event_filter_text(parsed), .holds = holds};
    filter->reference_count = 1;
    return filter;
}

struct changefeed_filter *changefeed_filter_parse(struct bk_request *request,
                                                  struct bk_slice text) {
    struct bk_error error = BK_ERROR_INIT;
    if (text.length == 0)
        return NULL;
    struct changefeed_filter *filter = changefeed_filter_create(text, &error);
    if (filter == NULL)
        bk_problems_add(&request->problems, BK_SLICE("filter"), "validation_invalid_filter",
                        bk_arena_format(&request->arena, "Invalid filter: %s.",
                                        error.message[0] == '\0' ? "too large" : error.message)
                            .data);
    return filter;
}

void changefeed_filter_unref(struct changefeed_filter *filter) {
    if (filter == NULL || --filter->reference_count > 0)
        return;
    bk_event_filter_unref(filter->filter);
    bk_free(filter);
}

const struct bk_event_test *changefeed_test_of(const struct changefeed_filter *filter) {
    return filter == NULL ? NULL : &filter->test;
}

void changefeed_query_release(struct bk_feed_query *query) {
    union {
        const struct bk_event_test *given;
        struct bk_event_test *own;
    } test = {.given = query->test};
    query->test = NULL;
    if (test.own != NULL)
        changefeed_filter_unref(bk_container_of(test.own, struct changefeed_filter, test));
}
