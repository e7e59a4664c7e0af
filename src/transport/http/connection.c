/*
 * Connections: accepting, reading bytes, closing, and their clocks.
 *
 * All idle connections share one read buffer. A connection reads on while its request is being
 * handled, so that a client that goes away is noticed; what it sends meanwhile waits in `pending`,
 * and when that is full, or all connections together have much waiting, the socket is no longer
 * read.
 *
 * A client that closes its sending side is taken for gone when its request asked to be told (a
 * stream, a long poll); any other request is finished and answered first, since a client may
 * half-close. Nothing else is heard from one that has gone altogether, either: so a request that
 * costs others something (a list) is given as long as a client is lingered for, and then aborted.
 */
#include "http_private.h"

#include "bakend/alloc.h"

/* Bit n of a row: the state n may follow. CLOSED may follow all but itself. */
#define TO(state) (1U << (state))
static const uint16_t legal_moves[] = {
    [HTTP_STATE_IDLE] = TO(HTTP_STATE_HEAD) | TO(HTTP_STATE_LINGERING),
    [HTTP_STATE_HEAD] = TO(HTTP_STATE_BODY) | TO(HTTP_STATE_HANDLING) | TO(HTTP_STATE_IDLE) |
                        TO(HTTP_STATE_DISCARDING) | TO(HTTP_STATE_LINGERING),
    [HTTP_STATE_BODY] = TO(HTTP_STATE_HANDLING) | TO(HTTP_STATE_IDLE) | TO(HTTP_STATE_DISCARDING) |
                        TO(HTTP_STATE_LINGERING),
    [HTTP_STATE_HANDLING] =
        TO(HTTP_STATE_STREAMING) | TO(HTTP_STATE_IDLE) | TO(HTTP_STATE_LINGERING),
    [HTTP_STATE_STREAMING] = TO(HTTP_STATE_IDLE) | TO(HTTP_STATE_LINGERING),
    [HTTP_STATE_DISCARDING] = TO(HTTP_STATE_IDLE) | TO(HTTP_STATE_LINGERING),
    [HTTP_STATE_LINGERING] = 0,
    [HTTP_STATE_CLOSED] = 0,
};

/* --- clocks ----------------------------------------------------------------------------------- */

static enum http_clock clock_of(enum http_state state) {
    switch (state) {
    case HTTP_STATE_IDLE:
        return HTTP_CLOCK_IDLE;
    case HTTP_STATE_HEAD:
        return HTTP_CLOCK_HEAD;
    case HTTP_STATE_BODY:
    case HTTP_STATE_DISCARDING:
        return HTTP_CLOCK_BODY;
    case HTTP_STATE_LINGERING:
        return HTTP_CLOCK_LINGER;
    case HTTP_STATE_HANDLING:
    case HTTP_STATE_STREAMING:
    case HTTP_STATE_CLOSED:
        break;
    }
    return HTTP_CLOCK_NONE;
}

void http_connection_wind(struct http_connection *connection, enum http_clock clock) {
    bk_list_remove(&connection->clock_link);
    connection->clock = (uint8_t)clock;
    if (clock == HTTP_CLOCK_NONE)
        return;
    connection->clock_since_ms = bk_loop_now_ms(connection->http->options.loop);
    bk_list_push(&connection->http->clocks[clock], &connection->clock_link);
}

void http_connection_move(struct http_connection *connection, enum http_state state) {
    BK_ASSERT(state == HTTP_STATE_CLOSED ? connection->state != HTTP_STATE_CLOSED
                                         : (legal_moves[connection->state] & TO(state)) != 0);
    connection->state = (uint8_t)state;
    http_connection_wind(connection, clock_of(state));
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_resume(struct bk_task *task);

static struct http_connection *take_connection(struct bk_http *http) {
    struct bk_list *link = bk_list_pop(&http->spare_connections);
    struct http_connection *connection;
    if (link != NULL) {
        http->spare_connection_count--;
        connection = bk_container_of(link, struct http_connection, link);
        memset(connection, 0, sizeof(*connection));
    } else {
        connection = bk_alloc_zero(sizeof(*connection));
    }
    connection->http = http;
    connection->state = HTTP_STATE_IDLE;
    connection->may_skip_crlf = true;
    bk_list_init(&connection->clock_link);
    bk_list_init(&connection->write_link);
    bk_list_init(&connection->dirty_link);
    bk_task_init(&connection->resume, on_resume);
    http_output_init(&connection->output, &http->blocks);
    bk_buffer_init(&connection->pending, HTTP_PENDING_BYTES_MAX + HTTP_READ_BUFFER_BYTES);
    bk_list_push(&http->connections, &connection->link);
    http->figures.connections++;
    bk_api_figures(http->options.api)->connections++;
    http_clocks_start(http);
    return connection;
}

static void on_closed(uv_handle_t *handle) {
    struct http_connection *connection = handle->data;
    struct bk_http *http = connection->http;
    http->closing_bytes -= connection->output.held_bytes;
    http->figures.pending_bytes -= connection->pending.length;
    http_output_fini(&connection->output);
    bk_buffer_fini(&connection->pending);
    bk_list_remove(&connection->link);
    if (connection->lease != NULL)
        connection->lease->end(connection->lease);
    http->figures.connections--;
    bk_api_figures(http->options.api)->connections--;
    if (http->spare_connection_count < HTTP_SPARE_CONNECTIONS_MAX) {
        bk_list_push(&http->spare_connections, &connection->link);
        http->spare_connection_count++;
    } else {
        bk_free(connection);
    }
    http_connection_closed(http);
}

/* Leaves the request to the api, which answers nobody in the end. */
static void part_from_exchange(struct http_connection *connection) {
    struct http_exchange *exchange = connection->exchange;
    connection->exchange = NULL;
    if (exchange == NULL)
        return;
    exchange->connection = NULL;
    if (exchange->request.route == NULL)
        http_exchange_free(exchange);
    else
        bk_api_abort(&exchange->request);
}

void http_connection_cut(struct http_connection *connection) {
    if (connection->state == HTTP_STATE_CLOSED)
        return;
    http_connection_move(connection, HTTP_STATE_CLOSED);
    connection->http->closing_bytes += connection->output.held_bytes;
    bk_list_remove(&connection->write_link);
    bk_list_remove(&connection->dirty_link);
    bk_task_cancel(&connection->resume);
    uv_close(&connection->socket.handle, on_closed);
    part_from_exchange(connection);
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool has_room_for_pending(const struct bk_http *http) {
    return http->figures.pending_bytes <= http->options.pending_max_bytes;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    struct http_connection *connection = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(connection->http->read_buffer, has_room_for_pending(connection->http)
                                                             ? HTTP_READ_BUFFER_BYTES
                                                             : HTTP_SCARCE_READ_BYTES);
}

bool http_connection_is_clogged(const struct http_connection *connection) {
    return connection->output.length > connection->http->options.stream_queue_bytes;
}

static void on_eof(struct http_connection *connection) {
    struct http_exchange *exchange = connection->exchange;
    connection->has_eof = true;
    if (connection->state == HTTP_STATE_HANDLING && exchange->request.on_abort == NULL)
        return;
    if (connection->state == HTTP_STATE_HANDLING && exchange->request.may_half_close) {
        http_connection_wind(connection, HTTP_CLOCK_LINGER);
        return;
    }
    if (connection->output.length == 0 || connection->state == HTTP_STATE_HANDLING ||
        connection->state == HTTP_STATE_STREAMING) {
        http_connection_cut(connection);
        return;
    }
    part_from_exchange(connection);
    if (connection->state != HTTP_STATE_LINGERING)
        http_connection_move(connection, HTTP_STATE_LINGERING);
    http_sending_mark(connection);
}

void http_connection_rest(struct http_connection *connection) {
    connection->exchange = NULL;
    connection->body_bytes = connection->wire_bytes = connection->chunk_count = 0;
    if (!connection->keeps_alive || connection->http->is_retired) {
        http_connection_move(connection, HTTP_STATE_LINGERING);
        http_sending_mark(connection);
        return;
    }
    connection->may_skip_crlf = true;
    http_connection_move(connection,
                         connection->is_body_complete ? HTTP_STATE_IDLE : HTTP_STATE_DISCARDING);
    http_connection_resume(connection);
}

static void keep(struct http_connection *connection, const char *data, size_t length) {
    if (length == 0 || connection->state == HTTP_STATE_CLOSED)
        return;
    bk_buffer_append(&connection->pending, data, length);
    if (connection->pending.lacks_memory) {
        http_connection_cut(connection);
        return;
    }
    BK_ASSERT(!connection->pending.is_overflown);
    connection->http->figures.pending_bytes += length;
    if ((connection->pending.length > HTTP_PENDING_BYTES_MAX ||
         !has_room_for_pending(connection->http)) &&
        !connection->is_paused) {
        (void)uv_read_stop(&connection->socket.stream);
        connection->is_paused = true;
    }
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer) {
    struct http_connection *connection = stream->data;
    size_t used = 0;
    if (length == 0 || connection->state == HTTP_STATE_CLOSED)
        return;
    if (length == UV_EOF) {
        on_eof(connection);
        return;
    }
    if (length < 0) {
        http_connection_cut(connection);
        return;
    }
    connection->http->figures.bytes_in += (size_t)length;
    if (connection->pending.length == 0)
        used = http_reading_consume(connection, buffer->base, (size_t)length);
    keep(connection, buffer->base + used, (size_t)length - used);
}

static void consume_pending(struct http_connection *connection) {
    struct bk_buffer *pending = &connection->pending;
    size_t used = http_reading_consume(connection, pending->data, pending->length);
    if (connection->state == HTTP_STATE_CLOSED)
        return;
    connection->http->figures.pending_bytes -= used;
    if (used < pending->length) {
        memmove(pending->data, pending->data + used, pending->length - used);
        pending->length -= used;
        return;
    }
    /* An idle connection owns no buffer. */
    bk_buffer_fini(pending);
    bk_buffer_init(pending, HTTP_PENDING_BYTES_MAX + HTTP_READ_BUFFER_BYTES);
}

static void tell_of_drain(struct http_connection *connection) {
    struct http_exchange *exchange = connection->exchange;
    if (connection->state != HTTP_STATE_STREAMING || !exchange->waits_for_drain ||
        http_connection_is_clogged(connection))
        return;
    exchange->waits_for_drain = false;
    if (exchange->request.on_drain != NULL)
        exchange->request.on_drain(&exchange->request);
}

static void on_resume(struct bk_task *task) {
    struct http_connection *connection = bk_container_of(task, struct http_connection, resume);
    tell_of_drain(connection);
    if (connection->pending.length > 0 && connection->state != HTTP_STATE_CLOSED)
        consume_pending(connection);
    if (connection->state == HTTP_STATE_CLOSED)
        return;
    if (connection->is_paused && connection->pending.length <= HTTP_PENDING_BYTES_MAX) {
        connection->is_paused = false;
        if (uv_read_start(&connection->socket.stream, on_alloc, on_read) != 0)
            http_connection_cut(connection);
    } else if (connection->has_eof && connection->pending.length == 0) {
        on_eof(connection);
    }
}

/* By a task: an answer leaves before everybody has been told of its commit (kernel/store/submit.c),
 * and the next request is to find them told. */
void http_connection_resume(struct http_connection *connection) {
    const struct http_exchange *exchange = connection->exchange;
    if (connection->pending.length > 0 || connection->is_paused || connection->has_eof ||
        (exchange != NULL && exchange->waits_for_drain))
        bk_loop_defer(connection->http->options.loop, &connection->resume);
}

/* --- accepting -------------------------------------------------------------------------------- */

static void read_address(struct http_connection *connection) {
    struct sockaddr_storage address;
    int length = sizeof(address);
    char *out = connection->address;
    if (!connection->is_control &&
        uv_tcp_getpeername(&connection->socket.tcp, (struct sockaddr *)&address, &length) == 0)
        (void)uv_ip_name((struct sockaddr *)&address, out, HTTP_ADDRESS_BYTES);
    /* An IPv4 client of a socket for both is shown as IPv4. */
    if (strncmp(out, "::ffff:", 7) == 0 && strchr(out, '.') != NULL)
        memmove(out, out + 7, strlen(out + 7) + 1);
    connection->address_length = (uint8_t)strlen(out);
}

static int open_socket(struct http_connection *connection) {
    uv_loop_t *loop = bk_loop_uv(connection->http->options.loop);
    int result = connection->is_control ? uv_pipe_init(loop, &connection->socket.pipe, 0)
                                        : uv_tcp_init(loop, &connection->socket.tcp);
    connection->socket.handle.data = connection;
    return result;
}

void http_connection_accept(struct http_listener *listener) {
    struct bk_http *http = listener->http;
    struct http_connection *connection = take_connection(http);
    connection->is_control = listener->is_control;
    BK_ASSERT(open_socket(connection) == 0);
    http->figures.accepted++;
    bk_api_figures(http->options.api)->connections_total++;
    http_connection_wind(connection, HTTP_CLOCK_IDLE);
    if (uv_accept(&listener->socket.stream, &connection->socket.stream) != 0) {
        http_connection_cut(connection);
        return;
    }
    read_address(connection);
    if (!http_address_enter(connection)) {
        http_address_turn_away(connection);
        return;
    }
    if (uv_read_start(&connection->socket.stream, on_alloc, on_read) != 0)
        http_connection_cut(connection);
    else if (!connection->is_control)
        (void)uv_tcp_nodelay(&connection->socket.tcp, 1);
}
