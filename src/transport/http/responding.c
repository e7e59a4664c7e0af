/*
 * Answering: the responder that the api calls, and exchanges, the requests' homes.
 *
 * A head is written in one go into the connection's output, a small body right behind it. Whether
 * the connection goes on is decided here, before the head that says so: not when the client or a
 * refusal wants it closed, not during a drain, and not when more of an unread body is to come than
 * is worth reading, or a body that the client may never send (it waits for 100 Continue), or one of
 * which nobody knows how long it is and a lot has come already.
 *
 * When the client has gone, answers end here and nothing is sent.
 */
#include "http_private.h"

#include "bakend/alloc.h"

/* What an exchange keeps of the buffers of an unusual request. */
enum { KEPT_BODY_BYTES = 16 * 1024, ANSWER_LINES_BYTES = 256, CHUNK_LINE_BYTES = 20 };

/* --- exchanges -------------------------------------------------------------------------------- */

struct http_exchange *http_exchange_create(struct http_connection *connection) {
    struct bk_http *http = connection->http;
    struct bk_list *link = bk_list_pop(&http->spare_exchanges);
    struct http_exchange *exchange;
    if (link != NULL) {
        http->spare_exchange_count--;
        exchange = bk_container_of(link, struct http_exchange, link);
    } else {
        exchange = bk_alloc_zero(sizeof(*exchange));
        bk_list_init(&exchange->link);
        exchange->http = http;
        bk_request_init(&exchange->request, http->options.api);
        bk_buffer_init(&exchange->head, http->options.head_max_bytes);
        bk_buffer_init(&exchange->body, 0);
    }
    exchange->connection = connection;
    exchange->request.method = BK_METHOD_OTHER;
    exchange->request.responder = &http_responder;
    exchange->request.transport = exchange;
    http->exchange_count++;
    return exchange;
}

static void destroy_exchange(struct http_exchange *exchange) {
    bk_request_fini(&exchange->request);
    bk_buffer_fini(&exchange->head);
    bk_buffer_fini(&exchange->body);
    bk_free(exchange);
}

static void empty_exchange(struct http_exchange *exchange) {
    exchange->http->figures.buffered_bytes -= exchange->counted_bytes;
    bk_request_reset(&exchange->request);
    bk_buffer_clear(&exchange->head);
    if (exchange->body.capacity > KEPT_BODY_BYTES)
        bk_buffer_fini(&exchange->body);
    bk_buffer_clear(&exchange->body);
    exchange->body.is_overflown = false;
    exchange->connection = NULL;
    exchange->body_max_bytes = exchange->counted_bytes = 0;
    exchange->scanned = exchange->line_start = 0;
    exchange->is_body_too_large = exchange->is_chunked = exchange->waits_for_drain = false;
}

void http_exchange_free(struct http_exchange *exchange) {
    struct bk_http *http = exchange->http;
    http->exchange_count--;
    if (http->spare_exchange_count < HTTP_SPARE_EXCHANGES_MAX) {
        empty_exchange(exchange);
        bk_list_push(&http->spare_exchanges, &exchange->link);
        http->spare_exchange_count++;
    } else {
        http->figures.buffered_bytes -= exchange->counted_bytes;
        destroy_exchange(exchange);
    }
}

void http_exchange_end(struct http_exchange *exchange) {
    struct bk_http *http = exchange->http;
    http_exchange_free(exchange);
    http_check_drained(http);
}

void http_exchanges_fini(struct bk_http *http) {
    struct bk_list *link;
    while ((link = bk_list_pop(&http->spare_exchanges)) != NULL)
        destroy_exchange(bk_container_of(link, struct http_exchange, link));
}

/* --- heads ------------------------------------------------------------------------------------ */

static const struct {
    int status;
    struct bk_slice line;
} status_lines[] = {
#define LINE(status, text)                                                                         \
    { status, BK_SLICE_INIT("HTTP/1.1 " #status " " text "\r\n") }
    LINE(200, "OK"),
    LINE(201, "Created"),
    LINE(202, "Accepted"),
    LINE(204, "No Content"),
    LINE(206, "Partial Content"),
    LINE(301, "Moved Permanently"),
    LINE(302, "Found"),
    LINE(303, "See Other"),
    LINE(304, "Not Modified"),
    LINE(307, "Temporary Redirect"),
    LINE(308, "Permanent Redirect"),
    LINE(400, "Bad Request"),
    LINE(401, "Unauthorized"),
    LINE(403, "Forbidden"),
    LINE(404, "Not Found"),
    LINE(405, "Method Not Allowed"),
    LINE(408, "Request Timeout"),
    LINE(409, "Conflict"),
    LINE(410, "Gone"),
    LINE(412, "Precondition Failed"),
    LINE(413, "Content Too Large"),
    LINE(414, "URI Too Long"),
    LINE(415, "Unsupported Media Type"),
    LINE(416, "Range Not Satisfiable"),
    LINE(417, "Expectation Failed"),
    LINE(422, "Unprocessable Content"),
    LINE(426, "Upgrade Required"),
    LINE(429, "Too Many Requests"),
    LINE(431, "Request Header Fields Too Large"),
    LINE(500, "Internal Server Error"),
    LINE(501, "Not Implemented"),
    LINE(502, "Bad Gateway"),
    LINE(503, "Service Unavailable"),
    LINE(504, "Gateway Timeout"),
    LINE(505, "HTTP Version Not Supported"),
    LINE(507, "Insufficient Storage"),
#undef LINE
};

static char *put(char *cursor, struct bk_slice text) {
    if (text.length > 0)
        memcpy(cursor, text.data, text.length);
    return cursor + text.length;
}

static char *put_number(char *cursor, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0)
        *cursor++ = digits[--count];
    return cursor;
}

static char *put_status_line(char *cursor, int status) {
    BK_ASSERT(status >= 200 && status <= 599);
    for (size_t i = 0; i < BK_COUNT_OF(status_lines); i++)
        if (status_lines[i].status == status)
            return put(cursor, status_lines[i].line);
    cursor = put(cursor, BK_SLICE("HTTP/1.1 "));
    cursor = put_number(cursor, (uint64_t)status);
    return put(cursor, BK_SLICE(" \r\n"));
}

static void decide_keep_alive(struct http_connection *connection) {
    /* Of a chunked body no more is known than what the chunk in work has left. */
    uint64_t left = connection->has_chunked_body ? connection->parser.content_length
                                                 : connection->body_length - connection->body_bytes;
    if (connection->http->is_draining)
        connection->keeps_alive = false;
    if (connection->is_body_complete || !connection->keeps_alive)
        return;
    if (connection->has_chunked_body && connection->wire_bytes > left)
        left = connection->wire_bytes;
    if (connection->expects_continue || left > connection->http->options.discard_max_bytes)
        connection->keeps_alive = false;
}

/* Whether an answer of this status may have a body at all (RFC 9110, 6.4.1). */
static bool has_body(int status) { return status != 204 && status != 304; }

static char *put_head(char *cursor, struct http_connection *connection,
                      const struct bk_request *request) {
    cursor = put_status_line(cursor, request->status);
    cursor = put(cursor, BK_SLICE("Date: "));
    cursor = put(cursor, http_date(connection->http));
    if (has_body(request->status) && request->content_type[0] != '\0') {
        cursor = put(cursor, BK_SLICE("\r\nContent-Type: "));
        cursor = put(cursor, bk_slice_from(request->content_type));
    }
    cursor = put(cursor, BK_SLICE("\r\n"));
    cursor = put(cursor, bk_buffer_slice(&request->head));
    if (!connection->keeps_alive)
        cursor = put(cursor, BK_SLICE("Connection: close\r\n"));
    else if (connection->minor_version == 0)
        cursor = put(cursor, BK_SLICE("Connection: keep-alive\r\n"));
    return cursor;
}

static size_t head_size_max(const struct bk_request *request) {
    return ANSWER_LINES_BYTES + strlen(request->content_type) + request->head.length;
}

/* --- whole answers ---------------------------------------------------------------------------- */

static void write_answer(struct http_connection *connection, struct bk_request *request) {
    struct bk_slice body = bk_buffer_slice(&request->out);
    bool is_sent = has_body(request->status) && request->method != BK_HEAD;
    bool is_copied = is_sent && body.length < HTTP_OWN_BLOCK_BYTES_MIN;
    char *start, *cursor;
    decide_keep_alive(connection);
    start = http_output_reserve(&connection->output,
                                head_size_max(request) + (is_copied ? body.length : 0));
    cursor = put_head(start, connection, request);
    if (has_body(request->status)) {
        cursor = put(cursor, BK_SLICE("Content-Length: "));
        cursor = put_number(cursor, body.length);
        cursor = put(cursor, BK_SLICE("\r\n\r\n"));
    } else {
        cursor = put(cursor, BK_SLICE("\r\n"));
    }
    if (is_copied)
        cursor = put(cursor, body);
    http_output_commit(&connection->output, (size_t)(cursor - start));
    if (is_sent && !is_copied) {
        size_t length, capacity = request->out.capacity;
        char *data = bk_buffer_take(&request->out, &length);
        http_output_take(&connection->output, data, length, capacity);
    }
}

static void on_send(struct bk_request *request) {
    struct http_exchange *exchange = request->transport;
    struct http_connection *connection = exchange->connection;
    if (connection != NULL) {
        write_answer(connection, request);
        http_sending_mark(connection);
        http_connection_rest(connection);
    }
    http_exchange_end(exchange);
}

/* --- streams ---------------------------------------------------------------------------------- */

static void on_stream_begin(struct bk_request *request) {
    struct http_exchange *exchange = request->transport;
    struct http_connection *connection = exchange->connection;
    char *start, *cursor;
    if (connection == NULL)
        return;
    exchange->is_chunked = connection->minor_version == 1;
    if (!exchange->is_chunked)
        connection->keeps_alive = false;
    decide_keep_alive(connection);
    start = http_output_reserve(&connection->output, head_size_max(request));
    cursor = put_head(start, connection, request);
    if (exchange->is_chunked)
        cursor = put(cursor, BK_SLICE("Transfer-Encoding: chunked\r\n"));
    cursor = put(cursor, BK_SLICE("\r\n"));
    http_output_commit(&connection->output, (size_t)(cursor - start));
    http_connection_move(connection, HTTP_STATE_STREAMING);
    http_sending_mark(connection);
    if (!connection->is_control)
        (void)uv_tcp_keepalive(&connection->socket.tcp, 1, HTTP_KEEPALIVE_SECONDS);
    /* It closed its sending side before: see on_eof. */
    if (connection->has_eof)
        http_connection_resume(connection);
}

static char *put_chunk_line(char *cursor, size_t length) {
    static const char digits[] = "0123456789abcdef";
    int shift = 0;
    while (shift < 60 && (length >> (shift + 4)) != 0)
        shift += 4;
    for (; shift >= 0; shift -= 4)
        *cursor++ = digits[(length >> shift) & 15];
    return put(cursor, BK_SLICE("\r\n"));
}

static bool on_stream_write(struct bk_request *request, struct bk_slice data) {
    struct http_exchange *exchange = request->transport;
    struct http_connection *connection = exchange->connection;
    char *start, *cursor;
    if (connection == NULL || data.length == 0 || request->method == BK_HEAD)
        return true;
    start = http_output_reserve(&connection->output, data.length + CHUNK_LINE_BYTES);
    cursor = exchange->is_chunked ? put_chunk_line(start, data.length) : start;
    cursor = put(cursor, data);
    if (exchange->is_chunked)
        cursor = put(cursor, BK_SLICE("\r\n"));
    http_output_commit(&connection->output, (size_t)(cursor - start));
    http_sending_mark(connection);
    exchange->waits_for_drain = http_connection_is_clogged(connection);
    return !exchange->waits_for_drain;
}

static void on_stream_end(struct bk_request *request) {
    struct http_exchange *exchange = request->transport;
    struct http_connection *connection = exchange->connection;
    if (connection != NULL) {
        if (exchange->is_chunked && request->method != BK_HEAD)
            http_output_append(&connection->output, BK_SLICE("0\r\n\r\n"));
        http_sending_mark(connection);
        http_connection_rest(connection);
    }
    http_exchange_end(exchange);
}

const struct bk_responder http_responder = {
    .send = on_send,
    .stream_begin = on_stream_begin,
    .stream_write = on_stream_write,
    .stream_end = on_stream_end,
    .channel_accept = http_channel_accept,
    .channel_accepted = http_channel_accepted,
};
