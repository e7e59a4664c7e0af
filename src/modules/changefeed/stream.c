/*
 * The feed as a stream of server-sent events (https://html.spec.whatwg.org/#server-sent-events).
 *
 *            ┌──────────────── more behind it ───────────────┐
 *   open ─> reading ─> written ─┬─ the client reads ─────────┴─> live ── an event, the drain ─┐
 *            ^                  └─ it does not ─> blocked ─ it does again ─┐                  │
 *            └─────────────────────────────────────────────────────────────┴──────────────────┘
 *
 * Catching up and live are one path: a stream reads pages behind its position until it has the
 * newest event, and then waits for the next match. A page is read when the one before it has gone
 * to a client that reads, so a slow one costs a page and the transport's queue, whatever happens
 * meanwhile; the events wait in the journal.
 *
 * An event is `id: <cursor>` and `data: <its JSON>`, without a name, so that onmessage gets all. An
 * id without data moves the client's place on and dispatches nothing: it is sent at the start, when
 * a page matched nothing, and with each heartbeat, so that whoever asks for a rare type comes back
 * to where it was.
 *
 * What is wrong with the cursor is an ordinary answer as long as nothing was sent; later it is a
 * message `event: error` with the same object, and the end. So is a token that is over (token.c).
 */
#include "changefeed_private.h"

enum {
    PAGE_EVENTS = 256,
    PAGE_BYTES = 64 * 1024 + BK_FEED_PAGE_MARGIN_BYTES,
    LARGE_PAGE_BYTES = 2 * 1024 * 1024, /* for an event that is larger than a page */
    ID_BYTES = 4 + BK_CURSOR_BYTES + 1, /* "id: ", cursor, end of line */
    FRAME_BYTES = ID_BYTES + 6 + 2,     /* "data: ", two ends of line */
    TICK_MS = 1000,
    HEARTBEAT_MS = 15000, /* after the last bytes; proxies close what is silent for 30 to 60 s */
    HEARTBEATS_PER_TICK = 1000,
    RETRY_MIN_MS = 1000, /* after an end clients come back within 1 to 4 s, not all at once */
    RETRY_SPREAD_MS = 3000,
};

struct stream {
    struct bk_request *request;
    struct changefeed_state *state;
    struct bk_feed_read feed_read;
    struct changefeed_waiter waiter; /* its position is the stream's */
    struct bk_buffer page;
    struct bk_list link; /* in state->streams */
    struct changefeed_guard guard;
    uint64_t written_ms;
    uint8_t epoch[8];
    char after[BK_CURSOR_BYTES];
    bool is_begun, is_blocked;
    bool is_busy; /* in a read or a write, whose end sees that the client has gone */
};

/* --- what is written -------------------------------------------------------------------------- */

static void write_id(struct bk_buffer *out, const struct stream *stream, uint64_t sequence) {
    char cursor[BK_CURSOR_BYTES];
    bk_cursor_make(cursor, stream->epoch, sequence);
    bk_buffer_append_literal(out, "id: ");
    bk_buffer_append(out, cursor, sizeof cursor);
    bk_buffer_append_char(out, '\n');
}

/* Of a page; any thread. */
static void write_event(struct bk_feed_read *read, struct bk_buffer *out,
                        const struct bk_event_fields *fields, struct bk_slice json, bool is_first) {
    (void)is_first;
    write_id(out, read->user, fields->sequence);
    bk_buffer_append_literal(out, "data: ");
    if (json.length > 0)
        bk_buffer_append_slice(out, json);
    else
        bk_event_write_json(out, fields);
    bk_buffer_append_literal(out, "\n\n");
}

/* False: the client does not read at the moment. */
static bool send(struct stream *stream, struct bk_slice text) {
    stream->written_ms = bk_loop_now_ms(stream->state->context->loop);
    bk_list_remove(&stream->link);
    bk_list_push(&stream->state->streams, &stream->link);
    bool was_busy = stream->is_busy;
    stream->is_busy = true;
    bool is_writable = bk_stream_write(stream->request, text);
    stream->is_busy = was_busy;
    return is_writable;
}

/* before: lines in front of it, such as a comment. */
static bool send_id(struct stream *stream, struct bk_slice before, uint64_t sequence) {
    struct bk_buffer text;
    bk_buffer_init(&text, PAGE_BYTES);
    bk_buffer_append_slice(&text, before);
    write_id(&text, stream, sequence);
    bk_buffer_append_char(&text, '\n');
    bool is_writable = send(stream, bk_buffer_slice(&text));
    bk_buffer_fini(&text);
    return is_writable;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void release(struct stream *stream) {
    struct changefeed_tenant *tenant = changefeed_tenant_of(stream->state, stream->request->tenant);
    BK_ASSERT(stream->state->stream_count > 0 && tenant->stream_count > 0);
    changefeed_waiter_leave(&stream->waiter);
    changefeed_guard_end(&stream->guard);
    changefeed_query_release(&stream->feed_read.query);
    bk_list_remove(&stream->link);
    bk_buffer_fini(&stream->page);
    stream->state->stream_count--;
    tenant->stream_count--;
    stream->request->on_abort = stream->request->on_drain = NULL;
}

static void end(struct stream *stream) {
    struct bk_request *request = stream->request;
    release(stream);
    if (stream->is_begun)
        bk_stream_end(request);
    else
        bk_answer_error(request, BK_CANCELLED, NULL);
}

/* A client that comes back goes on from here. */
static void end_with_id(struct stream *stream) {
    (void)send_id(stream, BK_SLICE_EMPTY, changefeed_waiter_seen(&stream->waiter));
    end(stream);
}

static void write_error(struct bk_buffer *out, struct bk_request *request, enum bk_status status,
                        const char *message) {
    bk_buffer_append_literal(out, "event: error\ndata: {\"data\":");
    bk_problems_write_json(&request->problems, out);
    bk_json_write_member_string(out, BK_SLICE("message"), bk_slice_from(message));
    bk_json_write_member_int(out, BK_SLICE("status"), bk_status_http(status));
    bk_json_write_member_string(out, BK_SLICE("requestId"),
                                bk_slice_make(request->id, BK_REQUEST_ID_BYTES));
    bk_buffer_append_literal(out, "}\n\n");
}

/* What went wrong in the middle is the stream's last message. */
static void end_with_error(struct stream *stream, enum bk_feed_problem problem,
                           enum bk_status status) {
    struct bk_request *request = stream->request;
    struct bk_buffer text;
    const char *message = status == BK_UNAUTHORIZED
                              ? CHANGEFEED_TOKEN_OVER
                              : "The stream cannot go on: come back with the last id.";
    bk_buffer_init(&text, PAGE_BYTES);
    if (problem != BK_FEED_NO_PROBLEM) {
        changefeed_problem_add(request, problem, stream->feed_read.query.after);
        message = "The feed cannot be read from this position.";
    }
    write_error(&text, request, status, message);
    (void)send(stream, bk_buffer_slice(&text));
    bk_buffer_fini(&text);
    end(stream);
}

static void refuse(struct stream *stream, enum bk_status status) {
    struct bk_request *request = stream->request;
    release(stream);
    if (stream->feed_read.problem != BK_FEED_NO_PROBLEM)
        changefeed_problem_answer(request, &stream->feed_read, status);
    else
        bk_answer_error(request, status, NULL);
}

static void fail(struct stream *stream, enum bk_status status) {
    if (stream->request->is_aborted)
        end(stream);
    else if (stream->is_begun)
        end_with_error(stream, stream->feed_read.problem, status);
    else
        refuse(stream, status);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void read_page(struct stream *stream) {
    stream->is_busy = true;
    bk_feed_read(stream->state->context->feed, &stream->feed_read);
}

static void read_on(struct stream *stream) {
    bk_cursor_make(stream->after, stream->epoch, stream->waiter.position);
    stream->feed_read.query.after = bk_slice_make(stream->after, sizeof stream->after);
    read_page(stream);
}

static void on_wake(struct changefeed_waiter *waiter) {
    struct stream *stream = bk_container_of(waiter, struct stream, waiter);
    if (bk_api_is_draining(stream->request->api))
        end_with_id(stream);
    else
        read_on(stream);
}

static bool begin(struct stream *stream) {
    struct bk_request *request = stream->request;
    uint64_t wait_ms = RETRY_MIN_MS + stream->written_ms % RETRY_SPREAD_MS;
    request->content_type = "text/event-stream";
    bk_answer_header(request, "Cache-Control", BK_SLICE("no-store"));
    bk_answer_header(request, "Vary", BK_SLICE("Accept"));
    bk_answer_header(request, "X-Accel-Buffering", BK_SLICE("no")); /* nginx passes it on at once */
    struct bk_slice retry =
        bk_arena_format(&request->arena, "retry: %llu\n", (unsigned long long)wait_ms);
    stream->is_begun = true;
    bk_stream_begin(request, 200);
    return send_id(stream, retry, stream->feed_read.first_sequence - 1);
}

/* The page's memory goes once it has caught up: most streams are live, and have nothing to send. */
static bool send_page(struct stream *stream) {
    struct bk_feed_read *read = &stream->feed_read;
    bool is_writable = true;
    stream->waiter.position = read->next_sequence;
    stream->state->streamed_count += read->event_count;
    if (read->event_count > 0)
        is_writable = send(stream, bk_buffer_slice(&stream->page));
    else if (read->skipped > 0)
        is_writable = send_id(stream, BK_SLICE_EMPTY, read->next_sequence);
    bk_buffer_clear(&stream->page);
    if (!read->has_more || stream->page.max_bytes > PAGE_BYTES) {
        bk_buffer_fini(&stream->page);
        bk_buffer_init(&stream->page, PAGE_BYTES);
    }
    return is_writable;
}

static void proceed(struct stream *stream) {
    struct bk_journal_state journal = bk_journal_state(stream->request->tenant->database);
    enum bk_status status;
    if (bk_api_is_draining(stream->request->api)) {
        end_with_id(stream);
    } else if (stream->waiter.position < journal.last) {
        changefeed_wake(&stream->waiter);
    } else if ((status = changefeed_wait(&stream->waiter)) != BK_OK) {
        end_with_error(stream, BK_FEED_NO_PROBLEM, status);
    }
}

/* An event that does not fit into a page gets a larger one to itself. */
static bool read_again_larger(struct stream *stream) {
    if (stream->page.max_bytes == LARGE_PAGE_BYTES)
        return false;
    bk_buffer_fini(&stream->page);
    bk_buffer_init(&stream->page, LARGE_PAGE_BYTES);
    stream->feed_read.query.limit = 1;
    read_page(stream);
    return true;
}

static void on_page_read(struct bk_feed_read *read, enum bk_status status) {
    struct stream *stream = bk_container_of(read, struct stream, feed_read);
    bool is_writable = true;
    if (status == BK_TOO_LARGE && !stream->request->is_aborted && read_again_larger(stream))
        return;
    stream->feed_read.query.limit = PAGE_EVENTS;
    if (status != BK_OK || stream->request->is_aborted) {
        fail(stream, status);
        return;
    }
    if (!changefeed_guard_holds(&stream->guard)) {
        fail(stream, BK_UNAUTHORIZED);
        return;
    }
    if (!stream->is_begun)
        is_writable = begin(stream);
    is_writable = send_page(stream) && is_writable;
    stream->is_busy = false;
    stream->is_blocked = !is_writable;
    if (stream->request->is_aborted)
        end(stream);
    else if (is_writable)
        proceed(stream);
    else if (bk_api_is_draining(stream->request->api))
        end_with_id(stream);
}

/* --- the client ------------------------------------------------------------------------------- */

static void on_drain(struct bk_request *request) {
    struct stream *stream = request->state;
    if (!stream->is_blocked)
        return;
    stream->is_blocked = false;
    proceed(stream);
}

static void on_abort(struct bk_request *request) {
    struct stream *stream = request->state;
    if (!stream->is_busy)
        end(stream);
}

/* What is being read now ends when it comes. */
static void on_over(struct changefeed_guard *guard) {
    struct stream *stream = bk_container_of(guard, struct stream, guard);
    if (!stream->is_busy)
        end_with_error(stream, BK_FEED_NO_PROBLEM, BK_UNAUTHORIZED);
}

static bool may_open(struct bk_request *request) {
    struct changefeed_tenant *tenant =
        changefeed_tenant_of(changefeed_state_of(request), request->tenant);
    if (bk_api_is_draining(request->api))
        bk_answer_error(request, BK_CLOSING, NULL);
    else if (tenant->stream_count >= CHANGEFEED_STREAMS_MAX)
        bk_answer_error(request, BK_BUSY,
                        "A tenant may have 1000 streams open at once: close some, or ask for "
                        "pages with wait.");
    else
        return true;
    return false;
}

/* HEAD asks whether there is one, and gets no more than its head. */
static void answer_head(struct bk_request *request) {
    request->content_type = "text/event-stream";
    bk_stream_begin(request, 200);
    bk_stream_end(request);
}

static void init(struct stream *stream, struct bk_request *request,
                 const struct bk_feed_query *query) {
    struct changefeed_state *state = changefeed_state_of(request);
    stream->request = request;
    stream->state = state;
    changefeed_guard_begin(&stream->guard, request, on_over);
    stream->feed_read = (struct bk_feed_read){.tenant = request->tenant,
                                              .query = *query,
                                              .events = &stream->page,
                                              .write_event = write_event,
                                              .write_bytes_max = FRAME_BYTES,
                                              .user = stream,
                                              .done = on_page_read};
    stream->feed_read.query.limit = PAGE_EVENTS;
    changefeed_waiter_init(&stream->waiter, state, request->tenant, query);
    stream->waiter.on_wake = on_wake;
    memcpy(stream->epoch, bk_journal_state(request->tenant->database).epoch, sizeof stream->epoch);
    bk_buffer_init(&stream->page, PAGE_BYTES);
    stream->written_ms = bk_loop_now_ms(state->context->loop);
    bk_list_init(&stream->link);
    bk_list_push(&state->streams, &stream->link);
    state->stream_count++;
    changefeed_tenant_of(state, request->tenant)->stream_count++;
}

/* NULL: the request was answered. */
static struct stream *create(struct bk_request *request) {
    if (!may_open(request))
        return NULL;
    if (request->method == BK_HEAD) {
        answer_head(request);
        return NULL;
    }
    struct stream *stream = bk_arena_alloc_zero(&request->arena, sizeof *stream);
    if (!request->arena.is_overflown)
        return stream;
    bk_answer_error(request, BK_TOO_LARGE, NULL);
    return NULL;
}

void changefeed_stream_open(struct bk_request *request, struct bk_feed_query *query) {
    struct stream *stream = create(request);
    if (stream == NULL) {
        changefeed_query_release(query);
        return;
    }
    init(stream, request, query);
    request->state = stream;
    request->on_abort = on_abort;
    request->on_drain = on_drain;
    read_page(stream);
}

/* --- all of them ------------------------------------------------------------------------------ */

/* A restore that replaced the history under it would show here. */
static void beat(struct stream *stream) {
    struct bk_journal_state journal = bk_journal_state(stream->request->tenant->database);
    uint64_t seen = changefeed_waiter_seen(&stream->waiter);
    if (memcmp(journal.epoch, stream->epoch, sizeof stream->epoch) != 0) {
        end_with_error(stream, BK_FEED_CURSOR_EPOCH_CHANGED, BK_CONFLICT);
        return;
    }
    if (!changefeed_guard_holds(&stream->guard)) {
        end_with_error(stream, BK_FEED_NO_PROBLEM, BK_UNAUTHORIZED);
        return;
    }
    bool is_writable = send_id(stream, BK_SLICE(": heartbeat\n"), seen);
    if (stream->request->is_aborted) {
        end(stream);
    } else if (!is_writable) {
        stream->waiter.position = seen;
        changefeed_waiter_leave(&stream->waiter);
        stream->is_blocked = true;
    }
}

static void on_tick(struct bk_timer *timer, void *user) {
    (void)timer;
    struct changefeed_state *state = user;
    uint64_t now_ms = bk_loop_now_ms(state->context->loop);
    changefeed_guards_tick(state);
    for (int i = 0; i < HEARTBEATS_PER_TICK && !bk_list_is_empty(&state->streams); i++) {
        struct stream *stream = bk_container_of(state->streams.next, struct stream, link);
        if (now_ms - stream->written_ms < HEARTBEAT_MS)
            return;
        if (changefeed_is_waiting(&stream->waiter)) {
            beat(stream);
            continue;
        }
        /* It has something to send, and only the client is slow. */
        stream->written_ms = now_ms;
        bk_list_remove(&stream->link);
        bk_list_push(&state->streams, &stream->link);
    }
}

void changefeed_streams_drain(struct changefeed_state *state) {
    BK_LIST_FOR_EACH(link, &state->streams) {
        struct stream *stream = bk_container_of(link, struct stream, link);
        if (stream->is_blocked)
            end_with_id(stream);
    }
}

void changefeed_streams_init(struct changefeed_state *state) {
    bk_list_init(&state->streams);
    state->heartbeat = bk_timer_create(state->context->loop, on_tick, state);
    bk_timer_set_background(state->heartbeat);
    bk_timer_start(state->heartbeat, TICK_MS, TICK_MS);
}

void changefeed_streams_fini(struct changefeed_state *state) {
    BK_ASSERT(state->stream_count == 0);
    bk_timer_close(state->heartbeat);
}
