/*
 * Reading requests.
 *
 *   head   copied aside until its empty line is here → gate → llhttp, which must agree → the api
 *   body   through llhttp (which knows chunks) into the exchange's buffer → the api
 *
 * The gate's and llhttp's idea of a request's framing are compared, and a difference is a refusal:
 * what one of the two reads wrongly then does no harm. llhttp is started afresh for each request,
 * is fed the head and then the body, and pauses where the request ends. Chunks have a gate of their
 * own (chunks.h), and both must find the same end.
 *
 * A chunked body may not consist of framing: its size lines, extensions and trailers together are
 * bounded by 8 KiB and 64 bytes for each chunk.
 *
 * What is left of a body that was answered before its end is thrown away, up to a number of bytes
 * as they come, framing and all, and in the time that a pause in a body may take, all together: who
 * sends more, or more slowly, is lingered for like any whose connection does not go on.
 */
#include "http_private.h"

/* A body whose length is known gets this much room at once; more only as it comes. */
enum { BODY_RESERVE_BYTES_MAX = 256 * 1024 };

/* --- llhttp's callbacks ----------------------------------------------------------------------- */

static int on_headers_complete(llhttp_t *parser) {
    struct http_connection *connection = parser->data;
    bool is_chunked = (parser->flags & F_CHUNKED) != 0;
    connection->do_readers_agree =
        parser->http_major == 1 && parser->http_minor == connection->minor_version &&
        is_chunked == connection->has_chunked_body &&
        (is_chunked || parser->content_length == connection->body_length);
    /* An upgrade that nobody takes up is ignored (RFC 9110, 7.8). */
    parser->upgrade = 0;
    return 0;
}

static int on_chunk_header(llhttp_t *parser) {
    struct http_connection *connection = parser->data;
    struct http_exchange *exchange = connection->exchange;
    connection->chunk_count++;
    if (exchange != NULL &&
        parser->content_length > exchange->body_max_bytes - exchange->body.length)
        exchange->is_body_too_large = true;
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t length) {
    struct http_connection *connection = parser->data;
    struct http_exchange *exchange = connection->exchange;
    connection->body_bytes += length;
    if (exchange == NULL || exchange->is_body_too_large)
        return 0;
    if (length > exchange->body_max_bytes - exchange->body.length) {
        exchange->is_body_too_large = true;
        return 0;
    }
    bk_buffer_append(&exchange->body, at, length);
    exchange->counted_bytes += length;
    connection->http->figures.buffered_bytes += length;
    return 0;
}

static int on_message_complete(llhttp_t *parser) {
    struct http_connection *connection = parser->data;
    connection->is_body_complete = true;
    return HPE_PAUSED;
}

void http_reading_init_parser(llhttp_settings_t *settings) {
    llhttp_settings_init(settings);
    settings->on_headers_complete = on_headers_complete;
    settings->on_chunk_header = on_chunk_header;
    settings->on_body = on_body;
    settings->on_message_complete = on_message_complete;
}

/* --- the head --------------------------------------------------------------------------------- */

void http_reading_refuse(struct http_connection *connection, int status, const char *reason) {
    BK_ASSERT(connection->exchange != NULL);
    connection->keeps_alive = false;
    connection->http->figures.refused++;
    bk_answer_refusal(&connection->exchange->request, status, reason);
}

static void remember_framing(struct http_connection *connection, const struct http_head *head) {
    connection->minor_version = head->minor_version;
    connection->keeps_alive = head->keeps_alive;
    connection->has_chunked_body = head->is_chunked;
    connection->expects_continue = head->expects_continue;
    connection->body_length = head->content_length;
    connection->body_bytes = connection->wire_bytes = connection->chunk_count = 0;
    connection->is_body_complete = connection->do_readers_agree = false;
    connection->chunks = (struct http_chunks){0};
}

/* Whether llhttp reads the head as the gate did. */
static bool is_confirmed(struct http_connection *connection) {
    const struct bk_buffer *head = &connection->exchange->head;
    llhttp_t *parser = &connection->parser;
    enum llhttp_errno result;
    llhttp_init(parser, HTTP_REQUEST, &connection->http->parser_settings);
    parser->data = connection;
    result = llhttp_execute(parser, head->data, head->length);
    if (result == HPE_INVALID_METHOD) {
        http_reading_refuse(connection, 501, "The method is not known.");
        return false;
    }
    if (!connection->do_readers_agree ||
        (result != HPE_OK &&
         (result != HPE_PAUSED || llhttp_get_error_pos(parser) != head->data + head->length))) {
        http_reading_refuse(connection, 400, "The request is not valid HTTP.");
        return false;
    }
    return true;
}

/* "http://host/path" is a path on that host (RFC 9112, 3.2.2). */
static void set_target(struct bk_request *request, const struct http_head *head) {
    struct bk_slice target = head->target, authority;
    size_t at = bk_slice_find(target, ':');
    request->host = head->host;
    request->target = target;
    if (target.data[0] != '/' && at < target.length) {
        authority = bk_slice_make(target.data + at + 3, target.length - at - 3);
        at = bk_slice_find(authority, '/');
        request->host = bk_slice_make(authority.data, at);
        request->target = at == authority.length
                              ? BK_SLICE("/")
                              : bk_slice_make(authority.data + at, authority.length - at);
    }
    at = bk_slice_find(request->target, '?');
    request->path = bk_slice_make(request->target.data, at);
    if (at < request->target.length)
        request->query =
            bk_slice_make(request->target.data + at + 1, request->target.length - at - 1);
}

static void fill_request(struct http_connection *connection, const struct http_head *head) {
    struct http_exchange *exchange = connection->exchange;
    struct bk_request *request = &exchange->request;
    request->method = bk_method_parse(head->method);
    set_target(request, head);
    request->headers = head->headers;
    request->header_count = head->header_count;
    request->is_control = connection->is_control;
    memcpy(exchange->address, connection->address, connection->address_length);
    request->remote_address = bk_slice_make(exchange->address, connection->address_length);
    if (connection->http->proxies != NULL)
        request->remote_address =
            http_proxies_client(connection->http->proxies, request->remote_address,
                                request->headers, request->header_count);
}

static void dispatch(struct http_connection *connection) {
    struct http_exchange *exchange = connection->exchange;
    exchange->request.body = bk_buffer_slice(&exchange->body);
    http_connection_move(connection, HTTP_STATE_HANDLING);
    bk_api_dispatch(&exchange->request);
}

static void begin_body(struct http_connection *connection) {
    struct http_exchange *exchange = connection->exchange;
    uint64_t wanted = connection->body_length;
    exchange->body.max_bytes = exchange->body_max_bytes;
    if (wanted > BODY_RESERVE_BYTES_MAX)
        wanted = BODY_RESERVE_BYTES_MAX;
    if (wanted > exchange->body.capacity)
        (void)bk_buffer_reserve(&exchange->body, (size_t)wanted);
    connection->body_since_ms = bk_loop_now_ms(connection->http->options.loop);
    http_connection_move(connection, HTTP_STATE_BODY);
    if (connection->expects_continue) {
        http_output_append(&connection->output, BK_SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
        http_sending_mark(connection);
    }
}

static void begin_request(struct http_connection *connection) {
    struct bk_http *http = connection->http;
    struct http_exchange *exchange = connection->exchange;
    struct http_head head = {.headers = exchange->headers};
    struct http_refusal refusal = http_gate_read(exchange->head.data, exchange->head.length,
                                                 http->options.line_max_bytes, &head);
    if (refusal.status != 0) {
        http_reading_refuse(connection, refusal.status, refusal.reason);
        return;
    }
    remember_framing(connection, &head);
    if (!is_confirmed(connection))
        return;
    fill_request(connection, &head);
    bk_loop_note_request(http->options.loop);
    if (!bk_api_begin(http->options.api, &exchange->request, &exchange->body_max_bytes))
        return;
    if (head.content_length > exchange->body_max_bytes)
        bk_answer_too_large(&exchange->request);
    else if (connection->is_body_complete)
        dispatch(connection);
    else
        begin_body(connection);
}

/* The empty line that some clients send after a body. */
static void skip_empty_line(struct http_connection *connection) {
    http_exchange_free(connection->exchange);
    connection->exchange = NULL;
    connection->may_skip_crlf = false;
    http_connection_move(connection, HTTP_STATE_IDLE);
}

static void check_head_length(struct http_connection *connection) {
    const struct bk_http_options *options = &connection->http->options;
    const struct http_exchange *exchange = connection->exchange;
    if (exchange->line_start == 0 && exchange->head.length > options->line_max_bytes + 2)
        http_reading_refuse(connection, 414, "The request line is too long.");
    else if (exchange->head.length >= options->head_max_bytes)
        http_reading_refuse(connection, 431, "The request's headers are too long.");
}

static size_t read_head(struct http_connection *connection, const char *data, size_t length) {
    struct http_exchange *exchange = connection->exchange;
    struct bk_buffer *head = &exchange->head;
    struct http_refusal refusal = {0, NULL};
    size_t before = head->length, room = connection->http->options.head_max_bytes - before, end;
    size_t taken = length < room ? length : room;
    bk_buffer_append(head, data, taken);
    if (head->lacks_memory) {
        http_reading_refuse(connection, 503, "There is no memory for the request.");
        return taken;
    }
    end = http_gate_find_end(head->data, head->length, &exchange->scanned, &exchange->line_start,
                             &refusal);
    if (refusal.status != 0) {
        http_reading_refuse(connection, refusal.status, refusal.reason);
        return taken;
    }
    if (end == 0) {
        check_head_length(connection);
        return taken;
    }
    head->length = end;
    connection->behind = bk_slice_make(data + (end - before), length - (end - before));
    if (end == 2 && connection->may_skip_crlf)
        skip_empty_line(connection);
    else if (end == 2)
        http_reading_refuse(connection, 400, "A request must begin with its request line.");
    else
        begin_request(connection);
    return end - before;
}

/* --- the body --------------------------------------------------------------------------------- */

static bool is_mostly_framing(const struct http_connection *connection) {
    uint64_t overhead = connection->wire_bytes - connection->body_bytes;
    return connection->has_chunked_body &&
           overhead > HTTP_CHUNK_OVERHEAD_BASE + HTTP_CHUNK_OVERHEAD_EACH * connection->chunk_count;
}

static bool is_too_slow(const struct http_connection *connection) {
    const struct bk_http_options *options = &connection->http->options;
    uint64_t elapsed_ms = bk_loop_now_ms(options->loop) - connection->body_since_ms;
    return elapsed_ms > options->body_timeout_ms &&
           connection->body_bytes < elapsed_ms / 1000 * options->body_rate_min;
}

static void advance_body(struct http_connection *connection) {
    struct bk_http *http = connection->http;
    struct http_exchange *exchange = connection->exchange;
    if (exchange->is_body_too_large) {
        bk_answer_too_large(&exchange->request);
    } else if (http->figures.buffered_bytes > http->options.buffered_max_bytes) {
        bk_answer_error(&exchange->request, BK_BUSY, NULL);
    } else if (exchange->body.is_overflown) {
        bk_answer_error(&exchange->request, BK_NO_MEMORY, NULL);
    } else if (connection->is_body_complete) {
        dispatch(connection);
    } else if (is_too_slow(connection)) {
        http->figures.timeouts++;
        http_reading_refuse(connection, 408, "The body comes too slowly.");
    } else {
        http_connection_wind(connection, HTTP_CLOCK_BODY);
    }
}

static void advance_discarding(struct http_connection *connection) {
    if (connection->is_body_complete) {
        http_connection_rest(connection);
    } else if (connection->wire_bytes > connection->http->options.discard_max_bytes) {
        connection->keeps_alive = false;
        http_connection_rest(connection);
    }
}

/* Feeds the body to both readers; false when it is broken or they do not agree where it ends. */
static bool parse_body(struct http_connection *connection, const char *data, size_t length,
                       size_t *used) {
    llhttp_t *parser = &connection->parser;
    enum http_chunks_result end = HTTP_CHUNKS_MORE;
    enum llhttp_errno result;
    *used = length;
    if (connection->has_chunked_body)
        end = http_chunks_read(&connection->chunks, data, length, used);
    if (end == HTTP_CHUNKS_BROKEN)
        return false;
    result = llhttp_execute(parser, data, *used);
    if (result == HPE_PAUSED && !connection->has_chunked_body)
        *used = (size_t)(llhttp_get_error_pos(parser) - data);
    else if (result == HPE_PAUSED)
        return end == HTTP_CHUNKS_END && llhttp_get_error_pos(parser) == data + *used;
    return result == HPE_PAUSED || (result == HPE_OK && end == HTTP_CHUNKS_MORE);
}

static size_t read_body(struct http_connection *connection, const char *data, size_t length) {
    size_t used;
    bool is_broken = !parse_body(connection, data, length, &used);
    connection->wire_bytes += used;
    connection->behind = bk_slice_make(data + used, length - used);
    is_broken = is_broken || is_mostly_framing(connection);
    if (is_broken && connection->state == HTTP_STATE_BODY) {
        http_reading_refuse(connection, 400, "The chunks of the body are not valid.");
    } else if (is_broken) {
        connection->keeps_alive = false;
        http_connection_rest(connection);
    } else if (connection->state == HTTP_STATE_BODY) {
        advance_body(connection);
    } else {
        advance_discarding(connection);
    }
    return used;
}

/* --- all of it -------------------------------------------------------------------------------- */

static size_t consume(struct http_connection *connection, const char *data, size_t length) {
    size_t used = 0;
    while (used < length) {
        switch ((enum http_state)connection->state) {
        case HTTP_STATE_IDLE:
            if (http_connection_is_clogged(connection))
                return used;
            connection->exchange = http_exchange_create(connection);
            http_connection_move(connection, HTTP_STATE_HEAD);
            break;
        case HTTP_STATE_HEAD:
            used += read_head(connection, data + used, length - used);
            break;
        case HTTP_STATE_BODY:
        case HTTP_STATE_DISCARDING:
            used += read_body(connection, data + used, length - used);
            break;
        case HTTP_STATE_LINGERING:
            /* Until its clock runs out: a client that is still sending gets to read its answer. */
            return length;
        case HTTP_STATE_HANDLING:
        case HTTP_STATE_STREAMING:
            return used;
        case HTTP_STATE_CLOSED:
            return length;
        }
    }
    return used;
}

size_t http_reading_consume(struct http_connection *connection, const char *data, size_t length) {
    size_t used = consume(connection, data, length);
    connection->behind = BK_SLICE_EMPTY;
    return used;
}
