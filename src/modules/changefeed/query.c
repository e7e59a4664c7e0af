/*
 * What a request to the feed asks for. Each parameter that is wrong is named with a code of its
 * own, and so is one that stands twice: of two positions or filters only one would be heeded.
 */
#include "changefeed_private.h"

#include "bakend/encode.h"

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

static bool is_subject(struct bk_slice subject) {
    size_t at = bk_slice_find(subject, '/');
    return at > 0 && at + 1 < subject.length;
}

static void parse_subject(struct bk_request *request, struct bk_feed_query *query) {
    query->subject = bk_request_query(request, BK_SLICE("subject"));
    if (query->subject.length > SUBJECT_BYTES_MAX)
        bk_problems_add(&request->problems, BK_SLICE("subject"), "validation_too_long",
                        "Must be at most 1024 bytes, such as posts/abc.");
    else if (query->subject.length > 0 && !is_subject(query->subject))
        bk_problems_add(&request->problems, BK_SLICE("subject"), "validation_invalid_subject",
                        "Must be a collection and an id with a slash between them: posts/abc. For "
                        "all of a collection, use types: posts.*.");
}

static void parse_order(struct bk_request *request, struct bk_feed_query *query) {
    struct bk_slice order = bk_request_query(request, BK_SLICE("order"));
    query->is_descending = bk_slice_is(order, "desc");
    if (order.length > 0 && !query->is_descending && !bk_slice_is(order, "asc"))
        bk_problems_add(&request->problems, BK_SLICE("order"), "validation_invalid_order",
                        "Must be asc or desc.");
}

/* --- names that mean nothing ------------------------------------------------------------------ */

/* "after, types, subject" */
static struct bk_slice list_names(struct bk_request *request, const struct bk_slice *known) {
    struct bk_slice list = known[0];
    for (size_t i = 1; known[i].length > 0; i++)
        list = bk_arena_format(&request->arena, "%.*s, %.*s", BK_SLICE_PRINT(list),
                               BK_SLICE_PRINT(known[i]));
    return list;
}

/* A bit for each known name; 0 for others. */
static uint32_t bit_of(const struct bk_slice *known, struct bk_slice name) {
    for (uint32_t i = 0; known[i].length > 0; i++)
        if (bk_slice_equal(known[i], name))
            return UINT32_C(1) << i;
    return 0;
}

/* A slip that was ignored would widen what is read: to all types, say. */
static void refuse_name(struct bk_request *request, const struct bk_slice *known,
                        struct bk_slice name) {
    if (bit_of(known, name) != 0 || !bk_slice_is_utf8(name))
        return;
    struct bk_slice message =
        bk_arena_format(&request->arena, "There is no such name here, only: %.*s.",
                        BK_SLICE_PRINT(list_names(request, known)));
    bk_problems_add(&request->problems, name, "validation_unknown_name", message.data);
}

void changefeed_refuse_unknown_members(struct bk_request *request, const struct bk_slice *known) {
    if (request->json == NULL)
        return;
    for (const struct bk_json *member = request->json->child; member != NULL; member = member->next)
        refuse_name(request, known, member->key);
}

/* By the names as bk_request_query decodes them: one that means nothing, and one that is there
 * twice. */
static void check_parameters(struct bk_request *request) {
    static const struct bk_slice known[] = {BK_SLICE_INIT("after"),   BK_SLICE_INIT("types"),
                                            BK_SLICE_INIT("subject"), BK_SLICE_INIT("limit"),
                                            BK_SLICE_INIT("order"),   BK_SLICE_INIT("wait"),
                                            BK_SLICE_INIT("filter"),  {NULL, 0}};
    struct bk_slice rest = request->query, pair, name;
    uint32_t seen = 0;
    while (rest.length > 0 && bk_slice_split(&rest, '&', &pair)) {
        struct bk_slice raw = bk_slice_make(pair.data, bk_slice_find(pair, '='));
        if (raw.length == 0 || !bk_percent_decode(&request->arena, raw, true, &name))
            continue;
        uint32_t bit = bit_of(known, name);
        if (bit == 0)
            refuse_name(request, known, name);
        else if ((seen & bit) != 0)
            bk_problems_add(&request->problems, name, "validation_repeated", "Must be given once.");
        seen |= bit;
    }
}

struct bk_event_filter *changefeed_filter_parse(struct bk_request *request, struct bk_slice text) {
    struct bk_error error = BK_ERROR_INIT;
    struct bk_event_filter *filter = NULL;
    if (text.length > 0 && bk_event_filter_parse(text, &filter, &error) != BK_OK)
        bk_problems_add(&request->problems, BK_SLICE("filter"), "validation_invalid_filter",
                        bk_arena_format(&request->arena, "Invalid filter: %s.",
                                        error.message[0] == '\0' ? "too large" : error.message)
                            .data);
    return filter;
}

void changefeed_query_parse(struct bk_request *request, struct bk_feed_query *query) {
    *query = (struct bk_feed_query){0};
    check_parameters(request);
    parse_types(request, query);
    parse_subject(request, query);
    parse_order(request, query);
    query->after = bk_request_query(request, BK_SLICE("after"));
    /* A script that lost its cursor would begin again from the start. */
    if (query->after.data != NULL && query->after.length == 0)
        bk_problems_add(&request->problems, BK_SLICE("after"), "cursor_invalid",
                        "Must not be empty: give a cursor, \"start\", \"now\" or a time, or leave "
                        "it out.");
    query->limit = (uint32_t)bk_request_query_int(request, BK_SLICE("limit"), 1, BK_FEED_LIMIT_MAX,
                                                  LIMIT_DEFAULT);
    query->test = bk_event_filter_test(
        changefeed_filter_parse(request, bk_request_query(request, BK_SLICE("filter"))));
}

void changefeed_query_release(struct bk_feed_query *query) {
    bk_event_filter_test_unref(query->test);
    query->test = NULL;
}

uint32_t changefeed_query_wait(struct bk_request *request, const struct bk_feed_query *query) {
    int64_t seconds = bk_request_query_int(request, BK_SLICE("wait"), 0, CHANGEFEED_WAIT_MAX_S, 0);
    if (seconds > 0 && query->is_descending)
        bk_problems_add(&request->problems, BK_SLICE("wait"), "validation_wait_backwards",
                        "Only a page that goes forward can wait for events: leave out order=desc.");
    return (uint32_t)seconds * 1000;
}

void changefeed_query_for_stream(struct bk_request *request, struct bk_feed_query *query) {
    static const struct bk_slice names[] = {BK_SLICE_INIT("limit"), BK_SLICE_INIT("wait")};
    struct bk_slice last_seen = bk_request_header(request, BK_SLICE("last-event-id"));
    if (last_seen.length > 0)
        query->after = last_seen;
    if (query->is_descending)
        bk_problems_add(&request->problems, BK_SLICE("order"), "validation_not_for_streams",
                        "A stream goes forward: leave out order=desc, or ask for pages.");
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        if (bk_request_query(request, names[i]).length > 0)
            bk_problems_add(&request->problems, names[i], "validation_not_for_streams",
                            "A stream has no pages and no end: leave it out, or ask for pages.");
    }
}
