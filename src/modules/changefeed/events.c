/*
 * Pages of the feed, and the single event.
 *
 *   list ─> form ─> parse ─> read ─┬─ events, or more behind them ─> the account ─> answer
 *                            ^     └─ nothing, and time to wait ─> waiting ─┐
 *                            └──────── woken by an event, or the last time ─┘
 *
 * Events are read straight into the answer; a large one is compressed on a reader. A page that
 * waited is one page: its account begins where the first read began, and next always moves on.
 */
#include "changefeed_private.h"

enum {
    COMPRESS_MIN_BYTES = 16 * 1024, /* below it a thread costs more than the bytes */
    NOT_ACCEPTABLE = 406,           /* RFC 9110, 15.5.7 */
};

struct page {
    struct bk_request *request;
    enum changefeed_format format;
    struct bk_feed_read feed_read;
    struct bk_read compress_read;
    /* A page that waits. */
    struct changefeed_waiter waiter;
    struct bk_timer *timer;
    uint32_t wait_ms;
    struct changefeed_guard guard; /* of one that waited */
    bool has_waited, is_last_read;
    bool is_pruned;          /* it begins at a time that may be before what is kept */
    uint64_t first_sequence; /* of the first read */
    char after[BK_CURSOR_BYTES];
};

static struct bk_feed *feed_of(const struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    BK_ASSERT(context != NULL);
    return context->feed;
}

struct changefeed_state *changefeed_state_of(const struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    BK_ASSERT(context != NULL);
    return context->state;
}

static struct page *begin(struct bk_request *request,
                          void (*done)(struct bk_feed_read *read, enum bk_status status)) {
    struct page *page = bk_arena_alloc_zero(&request->arena, sizeof *page);
    page->request = request;
    page->feed_read.tenant = request->tenant;
    page->feed_read.events = &request->out;
    page->feed_read.done = done;
    request->state = page;
    return page;
}

static struct page *page_of(struct bk_feed_read *read) {
    return bk_container_of(read, struct page, feed_read);
}

/* --- the answer ------------------------------------------------------------------------------- */

/* On a reader thread, with the request lent to it. */
static enum bk_status run_compress(struct bk_connection *connection, struct bk_read *read) {
    (void)connection;
    struct page *page = bk_container_of(read, struct page, compress_read);
    bk_answer_compress(page->request);
    return BK_OK;
}

static void on_compressed(struct bk_read *read, enum bk_status status) {
    (void)status; /* as it is, compressed or not, the answer is whole */
    bk_answer(bk_container_of(read, struct page, compress_read)->request, 200);
}

/* Whether it is gzip is for bk_answer_compress to see; most of those who do not take it say
 * nothing. */
static bool takes_compression(const struct bk_request *request) {
    return bk_request_header(request, BK_SLICE("accept-encoding")).length > 0;
}

static void answer_page(struct page *page) {
    struct bk_request *request = page->request;
    page->compress_read = (struct bk_read){.run = run_compress, .done = on_compressed};
    if (request->out.length >= COMPRESS_MIN_BYTES && takes_compression(request) &&
        bk_store_read(request->tenant->database, &page->compress_read) == BK_OK)
        return;
    bk_answer(request, 200);
}

static void end_wait(struct page *page) {
    changefeed_waiter_leave(&page->waiter);
    changefeed_guard_end(&page->guard);
    bk_timer_close(page->timer);
    page->timer = NULL;
    page->request->on_abort = NULL;
}

/* What it waited over belongs to the page: looked at and not asked for. */
static void count_what_was_waited_over(struct page *page) {
    struct bk_feed_read *read = &page->feed_read;
    if (!page->has_waited)
        return;
    BK_ASSERT(read->first_sequence >= page->first_sequence);
    read->skipped += read->first_sequence - page->first_sequence;
    read->first_sequence = page->first_sequence;
}

static void finish(struct page *page, enum bk_status status) {
    struct bk_request *request = page->request;
    if (page->has_waited)
        end_wait(page);
    changefeed_query_release(&page->feed_read.query);
    if (status == BK_OK && !changefeed_guard_holds(&page->guard)) {
        bk_answer_error(request, BK_UNAUTHORIZED, CHANGEFEED_TOKEN_OVER);
        return;
    }
    if (page->feed_read.problem != BK_FEED_NO_PROBLEM) {
        changefeed_problem_answer(request, &page->feed_read, status);
        return;
    }
    if (status == BK_OK) {
        count_what_was_waited_over(page);
        changefeed_format_end(page->format, request, &page->feed_read, page->is_pruned);
    }
    if (request->out.is_overflown)
        status = BK_TOO_LARGE;
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
    else
        answer_page(page);
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void on_page_read(struct bk_feed_read *read, enum bk_status status);

static void on_page_wake(struct changefeed_waiter *waiter) {
    struct page *page = bk_container_of(waiter, struct page, waiter);
    struct bk_journal_state journal = bk_journal_state(page->request->tenant->database);
    page->is_last_read |= bk_api_is_draining(page->request->api);
    bk_cursor_make(page->after, journal.epoch, waiter->position);
    page->feed_read.query.after = bk_slice_make(page->after, sizeof page->after);
    bk_feed_read(feed_of(page->request), &page->feed_read);
}

static void on_time_up(struct bk_timer *timer, void *user) {
    (void)timer;
    struct page *page = user;
    page->is_last_read = true;
    if (changefeed_is_waiting(&page->waiter))
        changefeed_wake(&page->waiter);
}

/* What is being read now ends when it comes. */
static void end_unless_reading(struct page *page, enum bk_status status) {
    bool is_reading = !changefeed_is_waiting(&page->waiter) && bk_list_is_empty(&page->waiter.link);
    if (!is_reading)
        finish(page, status);
}

static void on_page_abort(struct bk_request *request) {
    end_unless_reading(request->state, BK_CANCELLED);
}

/* The token is over: that is the answer. */
static void on_page_over(struct changefeed_guard *guard) {
    end_unless_reading(bk_container_of(guard, struct page, guard), BK_OK);
}

static bool may_wait(const struct page *page) {
    const struct bk_request *request = page->request;
    return page->wait_ms > 0 && page->feed_read.event_count == 0 && !page->feed_read.has_more &&
           !page->is_last_read && !page->guard.is_over && !request->is_aborted &&
           request->method != BK_HEAD && !bk_api_is_draining(request->api);
}

static void begin_wait(struct page *page) {
    struct bk_request *request = page->request;
    struct changefeed_state *state = changefeed_state_of(request);
    changefeed_waiter_init(&page->waiter, state, request->tenant, &page->feed_read.query);
    page->waiter.on_wake = on_page_wake;
    page->first_sequence = page->feed_read.first_sequence;
    changefeed_guard_begin(&page->guard, request, on_page_over);
    page->has_waited = true;
    page->timer = bk_timer_create(state->context->loop, on_time_up, page);
    bk_timer_start(page->timer, page->wait_ms, 0);
    request->on_abort = on_page_abort;
}

static void wait_for_events(struct page *page) {
    if (!page->has_waited)
        begin_wait(page);
    page->waiter.position = page->feed_read.last_sequence;
    enum bk_status status = changefeed_wait(&page->waiter);
    if (status != BK_OK)
        finish(page, status);
}

/* Whether anything lay between the time and the oldest event is not known any more. */
static bool begins_before_what_is_kept(const struct bk_feed_read *read) {
    uint64_t oldest = bk_journal_state(read->tenant->database).oldest;
    return read->is_time && !read->query.is_descending && oldest > 1 &&
           read->first_sequence <= oldest;
}

static void on_page_read(struct bk_feed_read *read, enum bk_status status) {
    struct page *page = page_of(read);
    page->is_pruned |= status == BK_OK && begins_before_what_is_kept(read);
    if (status == BK_OK && may_wait(page))
        wait_for_events(page);
    else
        finish(page, status);
}

/* --- the list --------------------------------------------------------------------------------- */

/* True when the request was answered with what is wrong. */
static bool refuse_wrong(struct bk_request *request, struct bk_feed_query *query) {
    if (request->problems.count == 0 && !request->arena.is_overflown)
        return false;
    changefeed_query_release(query);
    if (request->problems.count > 0)
        bk_answer_problems(request, BK_INVALID, "The feed cannot be read with these parameters.");
    else
        bk_answer_error(request, BK_TOO_LARGE, NULL);
    return true;
}

static void open_stream(struct bk_request *request) {
    struct bk_feed_query query;
    changefeed_query_parse(request, &query);
    changefeed_query_for_stream(request, &query);
    if (refuse_wrong(request, &query))
        return;
    changefeed_stream_open(request, &query);
}

static void open_page(struct bk_request *request, enum changefeed_format format) {
    struct page *page = begin(request, on_page_read);
    page->format = format;
    changefeed_query_parse(request, &page->feed_read.query);
    page->wait_ms = changefeed_query_wait(request, &page->feed_read.query);
    if (refuse_wrong(request, &page->feed_read.query))
        return;
    changefeed_format_begin(format, request, &page->feed_read);
    bk_feed_read(feed_of(request), &page->feed_read);
}

void changefeed_list(struct bk_request *request) {
    enum changefeed_format format = changefeed_format_asked(request);
    if (format == CHANGEFEED_FORMAT_COUNT)
        bk_answer_refusal(request, NOT_ACCEPTABLE,
                          "Events are served as application/json, text/event-stream, "
                          "application/x-ndjson and application/cloudevents-batch+json: name one "
                          "of them in Accept.");
    else if (format == CHANGEFEED_STREAM)
        open_stream(request);
    else
        open_page(request, format);
}

/* --- one event -------------------------------------------------------------------------------- */

static void on_event_read(struct bk_feed_read *read, enum bk_status status) {
    struct bk_request *request = page_of(read)->request;
    if (status == BK_OK)
        bk_answer(request, 200);
    else if (status == BK_GONE)
        bk_answer_error(request, status, "The event is no longer kept.");
    else
        bk_answer_error(request, status, NULL);
}

void changefeed_view(struct bk_request *request) {
    struct page *page = begin(request, on_event_read);
    page->feed_read.query.after = bk_request_parameter(request, BK_SLICE("id"));
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE, NULL);
        return;
    }
    bk_feed_get(feed_of(request), &page->feed_read);
}
