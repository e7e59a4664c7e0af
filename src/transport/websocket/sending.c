/*
 * Sending: what a turn has queued for a connection leaves with one write at its end. What the
 * socket does not take at once is given to libuv, one write at a time, while more may be queued
 * behind it; the frames stay in the queue until they are sent.
 *
 * At most WEBSOCKET_TURN_FLUSHES_MAX connections are served in one turn; the others in the next
 * ones, which begin without a sleep, so that an event to many thousands does not make requests
 * wait.
 *
 * A peer that takes nothing is found by what it has acknowledged, judged every write_timeout_ms
 * while output waits: what the kernel took tells little, since it takes megabytes at a time. One
 * that takes a little now and then may stay, but not at the cost of others: while these find no
 * room among what all queue, the costliest of those that have been behind for that long go.
 */
#include "websocket_private.h"

#include "bakend/alloc.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

enum {
    PIECES_MAX = 64,  /* of one write */
    NEARLY_EMPTY = 8, /* a queue is, at this part of its limit */
    ROOM_AGAIN = 2,   /* likewise for what all may queue */
};

/* --- queueing --------------------------------------------------------------------------------- */

static void mark(struct websocket_connection *connection) {
    if (connection->write == NULL && bk_list_is_empty(&connection->dirty_link) &&
        connection->state != WEBSOCKET_STATE_CLOSED)
        bk_list_push(&connection->websockets->dirty, &connection->dirty_link);
}

static void write_head(struct bk_shared *frame, enum websocket_opcode opcode) {
    frame->head_length =
        (uint32_t)websocket_head_write(frame->room + BK_SHARED_HEAD_BYTES, opcode, frame->length);
}

struct bk_shared *websocket_frame_create(enum websocket_opcode opcode, struct bk_slice payload) {
    struct bk_shared *frame = bk_shared_create(&payload, 1);
    write_head(frame, opcode);
    return frame;
}

void websocket_sending_push(struct websocket_connection *connection, struct bk_shared *frame,
                            enum websocket_kind kind) {
    struct bk_websockets *websockets = connection->websockets;
    size_t bytes = websocket_frame_bytes(frame);
    websockets->figures.queued_bytes += bytes;
    if (kind == WEBSOCKET_KIND_OWN)
        websockets->own_bytes += bytes;
    if (kind == WEBSOCKET_KIND_PONG)
        connection->pong_count++;
    websocket_queue_push(&connection->queue, frame, kind);
    mark(connection);
}

/* What is no longer queued, sent or not. */
static void release(struct websocket_connection *connection, struct websocket_entry entry) {
    struct bk_websockets *websockets = connection->websockets;
    if (entry.kind == WEBSOCKET_KIND_PONG)
        connection->pong_count--;
    if (entry.kind == WEBSOCKET_KIND_OWN)
        websockets->own_bytes -= websocket_frame_bytes(entry.frame);
    bk_shared_unref(entry.frame);
    if (!bk_list_is_empty(&websockets->starved) &&
        websockets->own_bytes <= websockets->options.queued_max_bytes / ROOM_AGAIN)
        bk_loop_defer(websockets->options.loop, &websockets->drain_task);
}

void websocket_sending_answer_ping(struct websocket_connection *connection,
                                   struct bk_slice payload) {
    struct bk_shared *pong = websocket_frame_create(WEBSOCKET_PONG, payload);
    if (connection->pong_count < WEBSOCKET_PONGS_MAX) {
        websocket_sending_push(connection, pong, WEBSOCKET_KIND_PONG);
        return;
    }
    bk_shared_unref(connection->newest_pong);
    connection->newest_pong = pong;
}

void websocket_sending_queue_newest_pong(struct websocket_connection *connection) {
    struct bk_shared *pong = connection->newest_pong;
    if (pong == NULL)
        return;
    connection->newest_pong = NULL;
    websocket_sending_push(connection, pong, WEBSOCKET_KIND_PONG);
}

void websocket_sending_fini(struct websocket_connection *connection) {
    BK_ASSERT(connection->write == NULL);
    connection->websockets->figures.queued_bytes += connection->first_sent;
    connection->first_sent = 0;
    while (connection->queue.count > 0) {
        struct websocket_entry entry = websocket_queue_pop(&connection->queue);
        connection->websockets->figures.queued_bytes -= websocket_frame_bytes(entry.frame);
        release(connection, entry);
    }
    bk_shared_unref(connection->newest_pong);
    connection->newest_pong = NULL;
}

/* --- the channel's operations ----------------------------------------------------------------- */

static struct websocket_connection *of_channel(struct bk_channel *channel) {
    return bk_container_of(channel, struct websocket_connection, channel);
}

static bool has_room(struct websocket_connection *connection, size_t length) {
    if (websocket_queue_has_room(&connection->queue, length + WEBSOCKET_SERVER_HEAD_BYTES_MAX,
                                 connection->websockets->options.queue_max_bytes))
        return true;
    connection->is_watched = true;
    return false;
}

/* What all connections may queue of their own. Whoever finds no room is told when there is some,
 * also when its own queue is empty. */
static bool has_room_among_all(struct websocket_connection *connection, size_t length) {
    struct bk_websockets *websockets = connection->websockets;
    if (websockets->own_bytes == 0 ||
        websockets->own_bytes + length <= websockets->options.queued_max_bytes)
        return true;
    bk_list_remove(&connection->drain_link);
    bk_list_push(&websockets->starved, &connection->drain_link);
    return false;
}

static enum bk_status on_send(struct bk_channel *channel, struct bk_slice message, bool is_binary) {
    struct websocket_connection *connection = of_channel(channel);
    if (connection->state != WEBSOCKET_STATE_OPEN)
        return BK_CLOSING;
    if (!has_room(connection, message.length) || !has_room_among_all(connection, message.length))
        return BK_BUSY;
    websocket_sending_push(
        connection, websocket_frame_create(is_binary ? WEBSOCKET_BINARY : WEBSOCKET_TEXT, message),
        WEBSOCKET_KIND_OWN);
    return BK_OK;
}

static enum bk_status on_send_shared(struct bk_channel *channel, struct bk_shared *text) {
    struct websocket_connection *connection = of_channel(channel);
    if (connection->state != WEBSOCKET_STATE_OPEN)
        return BK_CLOSING;
    if (!has_room(connection, text->length))
        return BK_BUSY;
    if (text->head_length == 0)
        write_head(text, WEBSOCKET_TEXT);
    websocket_sending_push(connection, bk_shared_ref(text), WEBSOCKET_KIND_SHARED);
    return BK_OK;
}

/* Who looks at the length wants to hear when it is small again. */
static size_t on_queued_bytes(const struct bk_channel *channel) {
    const struct websocket_connection *seen =
        bk_const_container_of(channel, struct websocket_connection, channel);
    struct websocket_connection *connection = seen->socket.handle.data;
    size_t bytes = connection->queue.bytes - connection->first_sent;
    connection->is_watched = connection->is_watched || bytes > 0;
    return bytes;
}

static void on_close(struct bk_channel *channel, int code, struct bk_slice reason) {
    websocket_connection_close(of_channel(channel), code, reason);
}

const struct bk_channel_operations websocket_operations = {
    .send = on_send,
    .send_shared = on_send_shared,
    .queued_bytes = on_queued_bytes,
    .close = on_close,
};

/* --- room again ------------------------------------------------------------------------------- */

static void watch_drain(struct websocket_connection *connection) {
    struct bk_websockets *websockets = connection->websockets;
    if (!connection->is_watched || connection->state != WEBSOCKET_STATE_OPEN ||
        connection->queue.bytes > websockets->options.queue_max_bytes / NEARLY_EMPTY)
        return;
    connection->is_watched = false;
    bk_list_remove(&connection->drain_link);
    bk_list_push(&websockets->drained_ones, &connection->drain_link);
    bk_loop_defer(websockets->options.loop, &websockets->drain_task);
}

static void tell_all(struct bk_list *list) {
    struct bk_list round, *link;
    bk_list_init(&round);
    while ((link = bk_list_pop(list)) != NULL)
        bk_list_push(&round, link);
    while ((link = bk_list_pop(&round)) != NULL) {
        struct websocket_connection *connection =
            bk_container_of(link, struct websocket_connection, drain_link);
        connection->is_watched = false;
        if (connection->state == WEBSOCKET_STATE_OPEN &&
            connection->channel.handler->on_drain != NULL)
            connection->channel.handler->on_drain(&connection->channel);
    }
}

void websocket_sending_on_drain_task(struct bk_task *task) {
    struct bk_websockets *websockets = bk_container_of(task, struct bk_websockets, drain_task);
    tell_all(&websockets->drained_ones);
    if (websockets->own_bytes <= websockets->options.queued_max_bytes / ROOM_AGAIN)
        tell_all(&websockets->starved);
}

/* --- writing ---------------------------------------------------------------------------------- */

static uint32_t gather(const struct websocket_connection *connection, uv_buf_t *pieces,
                       size_t *total) {
    const struct websocket_queue *queue = &connection->queue;
    uint32_t count = queue->count < PIECES_MAX ? queue->count : PIECES_MAX;
    size_t skipped = connection->first_sent;
    *total = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct bk_shared *frame = websocket_queue_at(queue, i)->frame;
        size_t length = websocket_frame_bytes(frame) - skipped;
        pieces[i] = uv_buf_init(websocket_frame_data(frame) + skipped, (unsigned int)length);
        *total += length;
        skipped = 0;
    }
    return count;
}

static void count_sent(struct websocket_connection *connection, size_t sent) {
    struct bk_websockets *websockets = connection->websockets;
    struct websocket_queue *queue = &connection->queue;
    size_t left = connection->first_sent + sent;
    websockets->figures.bytes_out += sent;
    websockets->figures.queued_bytes -= sent;
    connection->written_bytes += sent;
    while (queue->count > 0) {
        size_t length = websocket_frame_bytes(websocket_queue_at(queue, 0)->frame);
        struct websocket_entry entry;
        if (left < length)
            break;
        left -= length;
        entry = websocket_queue_pop(queue);
        websockets->figures.messages_out +=
            entry.kind == WEBSOCKET_KIND_SHARED || entry.kind == WEBSOCKET_KIND_OWN;
        release(connection, entry);
    }
    connection->first_sent = left;
}

/* Bytes that the peer has acknowledged; an approximation, good enough for differences. */
static int64_t delivered_bytes(const struct websocket_connection *connection) {
    size_t waiting = uv_stream_get_write_queue_size(&connection->socket.stream);
    int descriptor = -1, unacknowledged = 0;
    if (uv_fileno(&connection->socket.handle, &descriptor) != 0 ||
        ioctl(descriptor, SIOCOUTQ, &unacknowledged) != 0)
        unacknowledged = 0;
    return (int64_t)(connection->written_bytes + connection->in_flight_bytes) - (int64_t)waiting -
           unacknowledged;
}

static void judge_from_now(struct websocket_connection *connection) {
    struct bk_websockets *websockets = connection->websockets;
    connection->write_since_ms = bk_loop_now_ms(websockets->options.loop);
    connection->delivered_bytes = delivered_bytes(connection);
    bk_list_remove(&connection->write_link);
    bk_list_push(&websockets->writing, &connection->write_link);
}

static void flush(struct websocket_connection *connection);

static void on_write(uv_write_t *request, int status) {
    struct websocket_connection *connection = request->handle->data;
    size_t sent = connection->in_flight_bytes;
    bk_free(connection->write);
    connection->write = NULL;
    connection->in_flight_bytes = 0;
    if (connection->state == WEBSOCKET_STATE_CLOSED)
        return;
    if (status != 0) {
        websocket_connection_break(connection);
        return;
    }
    count_sent(connection, sent);
    flush(connection);
}

static void queue_write(struct websocket_connection *connection) {
    BK_UNINITIALIZED uv_buf_t pieces[PIECES_MAX];
    size_t total;
    uint32_t count = gather(connection, pieces, &total);
    connection->write = bk_alloc(sizeof(*connection->write));
    if (uv_write(connection->write, &connection->socket.stream, pieces, count, on_write) != 0) {
        bk_free(connection->write);
        connection->write = NULL;
        websocket_connection_break(connection);
        return;
    }
    connection->in_flight_bytes = total;
    if (!bk_list_is_empty(&connection->write_link))
        return;
    connection->unsent_since_ms = bk_loop_now_ms(connection->websockets->options.loop);
    judge_from_now(connection);
}

static void flush(struct websocket_connection *connection) {
    BK_UNINITIALIZED uv_buf_t pieces[PIECES_MAX];
    BK_ASSERT(connection->write == NULL && connection->state != WEBSOCKET_STATE_CLOSED);
    for (;;) {
        size_t total;
        uint32_t count;
        int sent;
        if (connection->pong_count < WEBSOCKET_PONGS_MAX)
            websocket_sending_queue_newest_pong(connection);
        if (connection->queue.count == 0)
            break;
        count = gather(connection, pieces, &total);
        sent = uv_try_write(&connection->socket.stream, pieces, count);
        if (sent < 0 && sent != UV_EAGAIN) {
            websocket_connection_break(connection);
            return;
        }
        if (sent > 0)
            count_sent(connection, (size_t)sent);
        if (sent < 0 || (size_t)sent < total) {
            queue_write(connection);
            break;
        }
    }
    if (connection->state == WEBSOCKET_STATE_CLOSED)
        return;
    bk_list_remove(&connection->dirty_link);
    watch_drain(connection);
    if (connection->write != NULL)
        return;
    bk_list_remove(&connection->write_link);
    websocket_connection_settle(connection);
}

void websocket_sending_on_turn_end(struct bk_turn_hook *hook) {
    struct bk_websockets *websockets = bk_container_of(hook, struct bk_websockets, hook);
    struct bk_list *link;
    for (uint32_t i = 0; i < WEBSOCKET_TURN_FLUSHES_MAX; i++) {
        link = bk_list_pop(&websockets->dirty);
        if (link == NULL)
            return;
        flush(bk_container_of(link, struct websocket_connection, dirty_link));
    }
    if (!bk_list_is_empty(&websockets->dirty))
        bk_loop_defer(websockets->options.loop, &websockets->more_task);
}

/* Of those that have been behind for write_timeout_ms, by bytes times how long; NULL: none. */
static struct websocket_connection *costliest(struct bk_websockets *websockets) {
    uint64_t now_ms = bk_loop_now_ms(websockets->options.loop);
    struct websocket_connection *found = NULL;
    double highest = 0;
    BK_LIST_FOR_EACH(link, &websockets->writing) {
        struct websocket_connection *connection =
            bk_container_of(link, struct websocket_connection, write_link);
        uint64_t age_ms = now_ms - connection->unsent_since_ms;
        double cost = (double)connection->queue.bytes * (double)age_ms;
        if (age_ms < websockets->options.write_timeout_ms || cost <= highest)
            continue;
        highest = cost;
        found = connection;
    }
    return found;
}

/* Their memory comes back in a moment, so it is not looked at again before the next tick. */
static void make_room(struct bk_websockets *websockets) {
    size_t room = websockets->options.queued_max_bytes / ROOM_AGAIN, left = websockets->own_bytes;
    struct websocket_connection *connection;
    while (!bk_list_is_empty(&websockets->starved) && left > room &&
           (connection = costliest(websockets)) != NULL) {
        left -= connection->queue.bytes < left ? connection->queue.bytes : left;
        websockets->figures.timeouts++;
        websocket_connection_break(connection);
    }
}

void websocket_sending_check(struct bk_websockets *websockets) {
    uint64_t now_ms = bk_loop_now_ms(websockets->options.loop);
    make_room(websockets);
    while (!bk_list_is_empty(&websockets->writing)) {
        struct websocket_connection *connection =
            bk_container_of(websockets->writing.next, struct websocket_connection, write_link);
        if (now_ms - connection->write_since_ms < websockets->options.write_timeout_ms)
            return;
        if (delivered_bytes(connection) > connection->delivered_bytes) {
            judge_from_now(connection);
            continue;
        }
        websockets->figures.timeouts++;
        websocket_connection_break(connection);
    }
}
