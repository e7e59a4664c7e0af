/*
 * What a request to the feed asks for. Each parameter that is wrong is named with a code of its
 * own; one that is promised but not there yet is refused, since a reader that asked for a filter
 * and gets everything would act on it.
 */
#include "changefeed_private.h"

enum {
    LIMIT_DEFAULT = 100,
    PATTERNS_MAX = 100,       /* event types named in one request */
    SUBJECT_BYTES_MAX = 1024, /* collection, slash, id */
};

static size_t count_patterns(struct bk_slice rest) {
    size_t count = 1;
    for (size_t i = 0; i < rest.length; i++)
        count += rest.data[i] == ',';
    return count;
}

static void parse_types(struct bk_request *request, struct bk_feed_query *query) {
    struct bk_slice rest = bk_request_query(request, BK_SLICE("types"));
    struct bk_slice part;
    if (rest.length == 0)
        return;
    size_t count = count_patterns(rest);
    if (count > PATTERNS_MAX) {
        bk_problems_add(&request->problems, BK_SLICE("types"), "validation_too_many",
                        "Name at most 100 event types; a pattern such as posts.* stands for many.");
        return;
    }
    struct bk_slice *types = bk_arena_alloc(&request->arena, count * sizeof *types);
    while (bk_slice_split(&rest, ',', &part)) {
        part = bk_slice_trim(part);
        if (!bk_event_pattern_is_valid(part)) {
            bk_problems_add(&request->problems, BK_SLICE("types"), "validation_invalid_type",
                            "Each must be an event type or a pattern: posts.created, users.*, "
                            "*.deleted, * or _*.");
            return;
        }
        types[query->type_count++] = part;
    }
    query->types = types;
}

static void parse_subject(struct bk_request *request, struct bk_feed_query *query) {
    query->subject = bk_request_query(request, BK_SLICE("subject"));
    if (query->subject.length > SUBJECT_BYTES_MAX)
        bk_problems_add(&request->problems, BK_SLICE("subject"), "validation_too_long",
                        "Must be at most 1024 bytes, such as posts/abc.");
}

static void parse_order(struct bk_request *request, struct bk_feed_query *query) {
    struct bk_slice order = bk_request_query(request, BK_SLICE("order"));
    query->is_descending = bk_slice_is(order, "desc");
    if (order.length > 0 && !query->is_descending && !bk_slice_is(order, "asc"))
        bk_problems_add(&request->problems, BK_SLICE("order"), "validation_invalid_order",
                        "Must be asc or desc.");
}

static void refuse_unavailable(struct bk_request *request) {
    if (bk_request_query(request, BK_SLICE("filter")).length > 0)
        bk_problems_add(&request->problems, BK_SLICE("filter"), "filter_not_available",
                        "The filter language is not available on events yet; use types and "
                        "subject.");
    struct bk_slice wait = bk_request_query(request, BK_SLICE("wait"));
    if (wait.length > 0 && !bk_slice_is(wait, "0"))
        bk_problems_add(&request->problems, BK_SLICE("wait"), "wait_not_available",
                        "Waiting for events is not available yet; ask again with the cursor in "
                        "next.");
}

void changefeed_query_parse(struct bk_request *request, struct bk_feed_query *query) {
    *query = (struct bk_feed_query){0};
    parse_types(request, query);
    parse_subject(request, query);
    parse_order(request, query);
    query->after = bk_request_query(request, BK_SLICE("after"));
    query->limit = (uint32_t)bk_request_query_int(request, BK_SLICE("limit"), 1, BK_FEED_LIMIT_MAX,
                                                  LIMIT_DEFAULT);
    refuse_unavailable(request);
}
