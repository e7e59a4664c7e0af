/*
 * Pages of the feed, and the single event.
 *
 *   list ─> parse ─> feed read, the events straight into the answer ─> the account around them
 *        ─> large, and the client takes gzip: compressed on a reader ─> answer
 *
 * A cursor that cannot be followed is answered in the error shape with data.after, which names the
 * oldest cursor to begin again from: never a silent jump. Who asks for a stream is refused, since a
 * page in its place would be taken for a stream that ended.
 */
#include "changefeed_private.h"

#include "bakend/clock.h"

enum {
    COMPRESS_MIN_BYTES = 16 * 1024, /* below it a thread costs more than the bytes */
    NOT_ACCEPTABLE = 406,           /* RFC 9110, 15.5.7 */
};

struct page_state {
    struct bk_request *request;
    struct bk_feed_read feed_read;
    struct bk_read compress_read;
};

static struct bk_feed *feed_of(const struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    BK_ASSERT(context != NULL);
    return context->feed;
}

static struct page_state *begin(struct bk_request *request,
                                void (*done)(struct bk_feed_read *read, enum bk_status status)) {
    struct page_state *state = bk_arena_alloc_zero(&request->arena, sizeof *state);
    state->request = request;
    state->feed_read.tenant = request->tenant;
    state->feed_read.events = &request->out;
    state->feed_read.done = done;
    request->state = state;
    return state;
}

static struct page_state *state_of(struct bk_feed_read *read) {
    return bk_container_of(read, struct page_state, feed_read);
}

/* --- problems with the cursor ----------------------------------------------------------------- */

static const struct {
    const char *code, *message;
} problems[] = {
    [BK_FEED_CURSOR_INVALID] = {"cursor_invalid",
                                "Must be a cursor from an earlier answer, \"start\", \"now\" or an "
                                "RFC 3339 time."},
    [BK_FEED_CURSOR_IN_FUTURE] = {"cursor_in_future",
                                  "The cursor is past the newest event: it is not from this "
                                  "server's present history."},
    [BK_FEED_CURSOR_EPOCH_CHANGED] = {"cursor_epoch_changed",
                                      "This cursor belongs to another history: the tenant was "
                                      "restored, or the cursor is another tenant's or server's. "
                                      "Take the current state anew and go on from a new cursor."},
    [BK_FEED_CURSOR_EXPIRED] = {"cursor_expired",
                                "The events behind this cursor are no longer kept. Take the "
                                "current state anew, or go on from the oldest cursor."},
};

/* A '+' that was not encoded arrives as a space: a time with an offset looks like this. */
static bool is_time_without_plus(struct bk_request *request, struct bk_slice after) {
    struct bk_slice rest = after, part = BK_SLICE_EMPTY;
    int64_t time_ms;
    while (rest.length > 0 && bk_slice_split(&rest, ' ', &part)) {
    }
    if (part.length == 0 || part.length == after.length)
        return false;
    int head_length = (int)(after.length - part.length - 1);
    struct bk_slice mended = bk_arena_format(&request->arena, "%.*s+%.*s", head_length, after.data,
                                             BK_SLICE_PRINT(part));
    return bk_time_parse(mended, &time_ms);
}

static const char *message_of(struct bk_request *request, const struct bk_feed_read *read) {
    BK_ASSERT((size_t)read->problem < BK_COUNT_OF(problems));
    if (read->problem == BK_FEED_CURSOR_INVALID && is_time_without_plus(request, read->query.after))
        return "In a query '+' stands for a space: send the '+' of a time's offset as %2B, or give "
               "the time in UTC with Z.";
    return problems[read->problem].message;
}

static struct bk_slice make_cursor(const struct bk_journal_state *journal, uint64_t sequence,
                                   char text[BK_CURSOR_BYTES]) {
    bk_cursor_make(text, journal->epoch, sequence);
    return bk_slice_make(text, BK_CURSOR_BYTES);
}

static void answer_problem(struct bk_request *request, const struct bk_feed_read *read,
                           enum bk_status status) {
    struct bk_journal_state journal = bk_journal_state(request->tenant->database);
    char oldest[BK_CURSOR_BYTES];
    const char *message = message_of(request, read);
    make_cursor(&journal, journal.oldest - 1, oldest);
    struct bk_slice params =
        bk_arena_format(&request->arena, "{\"oldest\":\"%.*s\"}", BK_CURSOR_BYTES, oldest);
    bk_problems_add_params(&request->problems, BK_SLICE("after"), problems[read->problem].code,
                           message, params);
    bk_answer_problems(request, status, "The feed cannot be read from this position.");
}

/* --- a page ----------------------------------------------------------------------------------- */

static void write_cursor(struct bk_buffer *out, struct bk_slice key,
                         const struct bk_journal_state *journal, uint64_t sequence) {
    char text[BK_CURSOR_BYTES];
    bk_json_write_member_string(out, key, make_cursor(journal, sequence, text));
}

static void write_account(struct bk_request *request, const struct bk_feed_read *read) {
    struct bk_journal_state journal = bk_journal_state(request->tenant->database);
    struct bk_buffer *out = &request->out;
    bk_buffer_append_char(out, ']');
    write_cursor(out, BK_SLICE("next"), &journal, read->next_sequence);
    bk_json_write_member_bool(out, BK_SLICE("hasMore"), read->has_more);
    write_cursor(out, BK_SLICE("head"), &journal, journal.last);
    write_cursor(out, BK_SLICE("oldest"), &journal, journal.oldest - 1);
    bk_json_write_member_int(out, BK_SLICE("firstSequence"), (int64_t)read->first_sequence);
    bk_json_write_member_int(out, BK_SLICE("lastSequence"), (int64_t)read->last_sequence);
    bk_json_write_member_int(out, BK_SLICE("skipped"), (int64_t)read->skipped);
    bk_buffer_append_char(out, '}');
}

/* On a reader thread, with the request lent to it. */
static enum bk_status run_compress(struct bk_connection *connection, struct bk_read *read) {
    (void)connection;
    struct page_state *state = bk_container_of(read, struct page_state, compress_read);
    bk_answer_compress(state->request);
    return BK_OK;
}

static void on_compressed(struct bk_read *read, enum bk_status status) {
    (void)status; /* as it is, compressed or not, the answer is whole */
    bk_answer(bk_container_of(read, struct page_state, compress_read)->request, 200);
}

/* Whether it is gzip is for bk_answer_compress to see; most of those who do not take it say
 * nothing. */
static bool takes_compression(const struct bk_request *request) {
    return bk_request_header(request, BK_SLICE("accept-encoding")).length > 0;
}

static void answer_page(struct page_state *state) {
    struct bk_request *request = state->request;
    state->compress_read = (struct bk_read){.run = run_compress, .done = on_compressed};
    if (request->out.length >= COMPRESS_MIN_BYTES && takes_compression(request) &&
        bk_store_read(request->tenant->database, &state->compress_read) == BK_OK)
        return;
    bk_answer(request, 200);
}

static void on_page_read(struct bk_feed_read *read, enum bk_status status) {
    struct page_state *state = state_of(read);
    struct bk_request *request = state->request;
    if (read->problem != BK_FEED_NO_PROBLEM) {
        answer_problem(request, read, status);
        return;
    }
    if (status == BK_OK)
        write_account(request, read);
    if (request->out.is_overflown)
        status = BK_TOO_LARGE;
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
    else
        answer_page(state);
}

/* Whether it asks for a stream or a batch of another format, and takes nothing else. */
static bool wants_other_format(const struct bk_request *request) {
    static const struct bk_slice others[] = {
        BK_SLICE_INIT("text/event-stream"),
        BK_SLICE_INIT("application/x-ndjson"),
        BK_SLICE_INIT("application/cloudevents-batch+json"),
    };
    struct bk_slice rest = bk_request_header(request, BK_SLICE("accept")), part;
    bool wants_other = false;
    while (rest.length > 0 && bk_slice_split(&rest, ',', &part)) {
        struct bk_slice type = bk_slice_trim(bk_slice_make(part.data, bk_slice_find(part, ';')));
        if (bk_slice_is(type, "*/*") || bk_slice_is(type, "application/*") ||
            bk_slice_equal_ignore_case(type, BK_SLICE("application/json")))
            return false;
        for (size_t i = 0; i < BK_COUNT_OF(others); i++)
            wants_other = wants_other || bk_slice_equal_ignore_case(type, others[i]);
    }
    return wants_other;
}

void changefeed_list(struct bk_request *request) {
    if (wants_other_format(request)) {
        bk_answer_refusal(request, NOT_ACCEPTABLE,
                          "Only pages of JSON are served yet, no streams and no other formats: ask "
                          "with Accept: application/json and follow the cursor in next.");
        return;
    }
    struct page_state *state = begin(request, on_page_read);
    changefeed_query_parse(request, &state->feed_read.query);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "The feed cannot be read with these parameters.");
        return;
    }
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE, NULL);
        return;
    }
    bk_buffer_append_literal(&request->out, "{\"events\":[");
    bk_feed_read(feed_of(request), &state->feed_read);
}

/* --- one event -------------------------------------------------------------------------------- */

static void on_event_read(struct bk_feed_read *read, enum bk_status status) {
    struct bk_request *request = state_of(read)->request;
    if (status == BK_OK)
        bk_answer(request, 200);
    else if (status == BK_GONE)
        bk_answer_error(request, status, "The event is no longer kept.");
    else
        bk_answer_error(request, status, NULL);
}

void changefeed_view(struct bk_request *request) {
    struct page_state *state = begin(request, on_event_read);
    state->feed_read.query.after = bk_request_parameter(request, BK_SLICE("id"));
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE, NULL);
        return;
    }
    bk_feed_get(feed_of(request), &state->feed_read);
}
