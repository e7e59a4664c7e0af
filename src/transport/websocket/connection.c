/*
 * Connections: taking one over from HTTP, reading, closing, ending.
 *
 * All connections share one read buffer. What came behind the handshake's request is looked at
 * later in the turn, when whoever accepted the channel is ready to hear of it.
 *
 * on_close is called as soon as the channel's end is known: with the peer's close frame or its
 * answer to ours, a violation, a broken connection, or when time is up. What is queued is sent
 * after that, and the peer is given time to read it and to end the connection first, so that no
 * reset destroys the last of it.
 */
#include "websocket_private.h"

#include "bakend/alloc.h"
#include "handshake.h"

#include <sys/socket.h>
#include <unistd.h>

/* The answer to a handshake; the request's own lines are bounded by the api. */
enum { HANDSHAKE_BYTES_MAX = 64 * 1024 };

struct websocket_early {
    struct bk_task task;
    struct websocket_connection *connection;
    size_t length;
    char data[];
};

/* --- states and clocks ------------------------------------------------------------------------ */

void websocket_connection_wind(struct websocket_connection *connection,
                               enum websocket_clock clock) {
    struct bk_websockets *websockets = connection->websockets;
    bk_list_remove(&connection->clock_link);
    connection->clock = (uint8_t)clock;
    if (clock == WEBSOCKET_CLOCK_NONE)
        return;
    connection->clock_since_ms = bk_loop_now_ms(websockets->options.loop);
    bk_list_push(&websockets->clocks[clock], &connection->clock_link);
}

static void move(struct websocket_connection *connection, enum websocket_state state) {
    BK_ASSERT(state > connection->state);
    connection->state = (uint8_t)state;
    websocket_connection_wind(connection, state == WEBSOCKET_STATE_CLOSED
                                              ? WEBSOCKET_CLOCK_NONE
                                              : WEBSOCKET_CLOCK_CLOSING);
}

/* The channel is gone. */
static void tell(struct websocket_connection *connection, int code) {
    const struct bk_channel_handler *handler = connection->channel.handler;
    BK_ASSERT(connection->state >= WEBSOCKET_STATE_ENDING);
    if (handler == NULL)
        return;
    connection->channel.handler = NULL;
    bk_list_remove(&connection->drain_link);
    handler->on_close(&connection->channel, code);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void count_gathered(struct websocket_connection *connection) {
    uint32_t held = (uint32_t)connection->reader.gathered.capacity;
    connection->websockets->gathered_bytes += held;
    connection->websockets->gathered_bytes -= connection->counted_bytes;
    connection->counted_bytes = held;
}

static void forget_input(struct websocket_connection *connection) {
    websocket_reader_fini(&connection->reader);
    count_gathered(connection);
    if (connection->early == NULL)
        return;
    bk_task_cancel(&connection->early->task);
    bk_free(connection->early);
    connection->early = NULL;
}

static void on_closed(uv_handle_t *handle) {
    struct websocket_connection *connection = handle->data;
    struct bk_websockets *websockets = connection->websockets;
    websocket_sending_fini(connection);
    bk_list_remove(&connection->link);
    if (connection->lease != NULL)
        connection->lease->end(connection->lease);
    websockets->figures.connections--;
    if (websockets->options.api != NULL)
        bk_api_figures(websockets->options.api)->connections--;
    bk_free(connection);
    websocket_check_drained(websockets);
}

static void cut(struct websocket_connection *connection) {
    move(connection, WEBSOCKET_STATE_CLOSED);
    bk_list_remove(&connection->write_link);
    bk_list_remove(&connection->dirty_link);
    bk_list_remove(&connection->drain_link);
    uv_close(&connection->socket.handle, on_closed);
}

void websocket_connection_break(struct websocket_connection *connection) {
    int code =
        connection->state == WEBSOCKET_STATE_CLOSING ? connection->code : WEBSOCKET_CODE_ABNORMAL;
    if (connection->state == WEBSOCKET_STATE_CLOSED)
        return;
    cut(connection);
    forget_input(connection);
    tell(connection, code);
}

/* The queue is empty, so what the kernel has is all there is: a plain shutdown puts the FIN behind
 * it. */
void websocket_connection_settle(struct websocket_connection *connection) {
    int descriptor = -1;
    if (connection->state != WEBSOCKET_STATE_ENDING || connection->is_shut ||
        connection->queue.count > 0)
        return;
    connection->is_shut = true;
    websocket_connection_wind(connection, WEBSOCKET_CLOCK_CLOSING);
    if (uv_fileno(&connection->socket.handle, &descriptor) != 0 ||
        shutdown(descriptor, SHUT_WR) != 0)
        websocket_connection_break(connection);
}

static void queue_close(struct websocket_connection *connection, int code, struct bk_slice reason) {
    char payload[WEBSOCKET_CONTROL_BYTES_MAX];
    size_t length = code == WEBSOCKET_CODE_NONE ? 0 : websocket_close_write(payload, code, reason);
    /* Nothing comes behind a close frame. */
    websocket_sending_queue_newest_pong(connection);
    websocket_sending_push(connection,
                           websocket_frame_create(WEBSOCKET_CLOSE, bk_slice_make(payload, length)),
                           WEBSOCKET_KIND_CONTROL);
}

void websocket_connection_close(struct websocket_connection *connection, int code,
                                struct bk_slice reason) {
    if (connection->state != WEBSOCKET_STATE_OPEN)
        return;
    connection->code = (uint16_t)code;
    queue_close(connection, code, reason);
    move(connection, WEBSOCKET_STATE_CLOSING);
}

/* After our own close frame no second one is sent (section 5.5.1). */
static void end(struct websocket_connection *connection, int code) {
    bool was_open = connection->state == WEBSOCKET_STATE_OPEN;
    if (was_open)
        queue_close(connection, code, BK_SLICE_EMPTY);
    move(connection, WEBSOCKET_STATE_ENDING);
    forget_input(connection);
    tell(connection, was_open ? code : connection->code);
    /* Our own close frame may have left long ago. */
    if (connection->write == NULL)
        websocket_connection_settle(connection);
}

static void refuse(struct websocket_connection *connection, int code) {
    struct bk_websockets *websockets = connection->websockets;
    websockets->figures.violations++;
    bk_log_debug(&websockets->options.log, "violation", BK_INT("code", code));
    end(connection, code);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void handle(struct websocket_connection *connection, enum websocket_event event,
                   const struct websocket_found *found) {
    bool is_open = connection->state == WEBSOCKET_STATE_OPEN;
    switch (event) {
    case WEBSOCKET_EVENT_MESSAGE:
        connection->websockets->figures.messages_in++;
        if (is_open)
            connection->channel.handler->on_message(&connection->channel, found->payload,
                                                    found->is_binary);
        break;
    case WEBSOCKET_EVENT_PING:
        if (is_open)
            websocket_sending_answer_ping(connection, found->payload);
        break;
    case WEBSOCKET_EVENT_CLOSE:
        end(connection, found->code);
        break;
    case WEBSOCKET_EVENT_VIOLATION:
        refuse(connection, found->code);
        break;
    case WEBSOCKET_EVENT_PONG:
    case WEBSOCKET_EVENT_MORE:
        break;
    }
}

static void consume(struct websocket_connection *connection, char *data, size_t length) {
    struct bk_websockets *websockets = connection->websockets;
    struct websocket_input input = {.data = data, .length = length};
    enum websocket_event event;
    do {
        struct websocket_found found;
        event = websocket_reader_next(&connection->reader, &input, &found);
        handle(connection, event, &found);
    } while (event != WEBSOCKET_EVENT_MORE && connection->state < WEBSOCKET_STATE_ENDING);
    if (connection->state >= WEBSOCKET_STATE_ENDING)
        return;
    count_gathered(connection);
    if (websockets->gathered_bytes > websockets->options.queued_max_bytes &&
        connection->counted_bytes > 0)
        refuse(connection, WEBSOCKET_CODE_TRY_LATER);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    const struct websocket_connection *connection = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(connection->websockets->read_buffer, WEBSOCKET_READ_BUFFER_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer) {
    struct websocket_connection *connection = stream->data;
    if (length == 0 || connection->state == WEBSOCKET_STATE_CLOSED)
        return;
    if (length < 0) {
        websocket_connection_break(connection);
        return;
    }
    connection->websockets->figures.bytes_in += (size_t)length;
    if (connection->state == WEBSOCKET_STATE_ENDING)
        return;
    if (connection->state == WEBSOCKET_STATE_OPEN)
        websocket_connection_wind(connection, WEBSOCKET_CLOCK_QUIET);
    consume(connection, buffer->base, (size_t)length);
}

static void start_reading(struct websocket_connection *connection) {
    if (uv_read_start(&connection->socket.stream, on_alloc, on_read) != 0)
        websocket_connection_break(connection);
}

static void on_early(struct bk_task *task) {
    struct websocket_early *early = bk_container_of(task, struct websocket_early, task);
    struct websocket_connection *connection = early->connection;
    connection->early = NULL;
    connection->websockets->figures.bytes_in += early->length;
    if (early->length > 0 && connection->state < WEBSOCKET_STATE_ENDING)
        consume(connection, early->data, early->length);
    bk_free(early);
    if (connection->state != WEBSOCKET_STATE_CLOSED)
        start_reading(connection);
}

/* --- taking over ------------------------------------------------------------------------------ */

static struct websocket_connection *create(struct bk_websockets *websockets) {
    struct websocket_connection *connection = bk_alloc_zero(sizeof(*connection));
    connection->websockets = websockets;
    connection->state = WEBSOCKET_STATE_OPEN;
    bk_list_init(&connection->clock_link);
    bk_list_init(&connection->write_link);
    bk_list_init(&connection->dirty_link);
    bk_list_init(&connection->drain_link);
    websocket_reader_init(&connection->reader, websockets->options.message_max_bytes);
    websocket_queue_init(&connection->queue);
    bk_list_push(&websockets->connections, &connection->link);
    BK_ASSERT(uv_tcp_init(bk_loop_uv(websockets->options.loop), &connection->socket.tcp) == 0);
    connection->socket.handle.data = connection;
    websockets->figures.connections++;
    if (websockets->options.api != NULL)
        bk_api_figures(websockets->options.api)->connections++;
    return connection;
}

static void keep_early(struct websocket_connection *connection, struct bk_slice received) {
    struct websocket_early *early = bk_alloc(sizeof(*early) + received.length);
    bk_task_init(&early->task, on_early);
    early->connection = connection;
    early->length = received.length;
    if (received.length > 0)
        memcpy(early->data, received.data, received.length);
    connection->early = early;
    bk_loop_defer(connection->websockets->options.loop, &early->task);
}

static void queue_handshake(struct websocket_connection *connection, struct bk_request *request) {
    struct bk_buffer text;
    struct bk_slice whole;
    bk_buffer_init(&text, HANDSHAKE_BYTES_MAX);
    websocket_handshake_write(request, &text);
    bk_buffer_insist(&text);
    whole = bk_buffer_slice(&text);
    websocket_sending_push(connection, bk_shared_create(&whole, 1), WEBSOCKET_KIND_CONTROL);
    bk_buffer_fini(&text);
}

enum bk_status websocket_connection_take(void *user, struct bk_request *request, int descriptor,
                                         struct bk_lease *lease, struct bk_slice received,
                                         const struct bk_channel_handler *handler,
                                         void *channel_user, struct bk_channel **channel) {
    struct bk_websockets *websockets = user;
    struct websocket_connection *connection = create(websockets);
    if (uv_tcp_open(&connection->socket.tcp, descriptor) != 0) {
        (void)close(descriptor);
        websockets->figures.refused++;
        cut(connection);
        return BK_IO;
    }
    connection->channel = (struct bk_channel){
        .operations = &websocket_operations, .handler = handler, .user = channel_user};
    connection->lease = lease;
    websockets->figures.accepted++;
    websocket_clocks_start(websockets);
    websocket_connection_wind(connection, WEBSOCKET_CLOCK_QUIET);
    queue_handshake(connection, request);
    keep_early(connection, received);
    *channel = &connection->channel;
    return BK_OK;
}
