/*
 * Sending: what all answers of a turn have put into a connection's output leaves with one write at
 * the end of the turn. What the socket does not take at once is given to libuv, one write at a
 * time, while more may be put behind it.
 *
 * Output that waits for its client is bounded in time and in memory. From the moment that the
 * socket does not take everything until it has, a client has to read at a rate, judged once per
 * write_timeout_ms by what it has acknowledged: what the kernel took tells little, since it takes
 * megabytes at a time. And when all that waits is more than output_total_max_bytes, the connection
 * that costs most (bytes held, times how long it has been draining) is cut, until it fits.
 */
#include "http_private.h"

#include "bakend/alloc.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

/* Pieces of one write: libuv keeps four without an allocation, and few answers need more. */
enum { PIECES_MAX = 32 };

void http_sending_mark(struct http_connection *connection) {
    if (connection->in_flight_bytes == 0 && bk_list_is_empty(&connection->dirty_link) &&
        connection->state != HTTP_STATE_CLOSED)
        bk_list_push(&connection->http->dirty, &connection->dirty_link);
}

static unsigned int gather(const struct http_output *output, uv_buf_t *pieces, size_t *total) {
    unsigned int count = 0;
    *total = 0;
    for (struct http_block *block = output->first; block != NULL && count < PIECES_MAX;
         block = block->next) {
        size_t length = block->end - block->start;
        if (length == 0)
            continue;
        pieces[count++] = uv_buf_init(block->data + block->start, (unsigned int)length);
        *total += length;
    }
    return count;
}

static void on_shutdown(uv_shutdown_t *request, int status) {
    struct http_connection *connection = request->handle->data;
    if (status < 0 && status != UV_ECANCELED)
        http_connection_cut(connection);
}

/* All is sent: the last word of a connection is a FIN, and the client closes first if it will, so
 * that no reset destroys what it has not read yet. */
static void settle(struct http_connection *connection) {
    if (connection->state == HTTP_STATE_LINGERING && connection->output.length == 0) {
        if (connection->has_eof) {
            http_connection_cut(connection);
        } else if (!connection->is_shut) {
            connection->is_shut = true;
            http_connection_wind(connection, HTTP_CLOCK_LINGER);
            if (uv_shutdown(&connection->shutdown, &connection->socket.stream, on_shutdown) != 0)
                http_connection_cut(connection);
        }
        return;
    }
    if (!http_connection_is_clogged(connection))
        http_connection_resume(connection);
}

static void count_sent(struct http_connection *connection, size_t sent) {
    connection->http->figures.bytes_out += sent;
    connection->written_bytes += sent;
    http_output_consume(&connection->output, sent);
}

/* Bytes that the client has acknowledged; an approximation, good enough for differences. */
static int64_t delivered_bytes(const struct http_connection *connection) {
    size_t waiting = uv_stream_get_write_queue_size(&connection->socket.stream);
    int descriptor = -1, unacknowledged = 0;
    if (uv_fileno(&connection->socket.handle, &descriptor) != 0 ||
        ioctl(descriptor, SIOCOUTQ, &unacknowledged) != 0)
        unacknowledged = 0;
    return (int64_t)(connection->written_bytes + connection->in_flight_bytes) - (int64_t)waiting -
           unacknowledged;
}

static void on_write(uv_write_t *request, int status) {
    struct http_connection *connection = request->handle->data;
    size_t sent = connection->in_flight_bytes;
    connection->in_flight_bytes = 0;
    if (connection->state == HTTP_STATE_CLOSED)
        return;
    if (status != 0) {
        http_connection_cut(connection);
        return;
    }
    count_sent(connection, sent);
    http_sending_flush(connection);
}

static void judge_from_now(struct http_connection *connection) {
    struct bk_http *http = connection->http;
    connection->write_since_ms = bk_loop_now_ms(http->options.loop);
    connection->delivered_bytes = delivered_bytes(connection);
    bk_list_remove(&connection->write_link);
    bk_list_push(&http->writing, &connection->write_link);
}

static void queue_write(struct http_connection *connection) {
    BK_UNINITIALIZED uv_buf_t pieces[PIECES_MAX];
    size_t total;
    unsigned int count = gather(&connection->output, pieces, &total);
    if (uv_write(&connection->write, &connection->socket.stream, pieces, count, on_write) != 0) {
        http_connection_cut(connection);
        return;
    }
    connection->in_flight_bytes = total;
    if (!bk_list_is_empty(&connection->write_link))
        return;
    connection->unsent_since_ms = bk_loop_now_ms(connection->http->options.loop);
    judge_from_now(connection);
}

void http_sending_flush(struct http_connection *connection) {
    BK_UNINITIALIZED uv_buf_t pieces[PIECES_MAX];
    if (connection->output.length > connection->http->options.output_max_bytes) {
        http_connection_cut(connection);
        return;
    }
    while (connection->output.length > 0) {
        size_t total;
        unsigned int count = gather(&connection->output, pieces, &total);
        int sent = uv_try_write(&connection->socket.stream, pieces, count);
        if (sent < 0 && sent != UV_EAGAIN) {
            http_connection_cut(connection);
            return;
        }
        if (sent > 0)
            count_sent(connection, (size_t)sent);
        if (sent < 0 || (size_t)sent < total) {
            queue_write(connection);
            break;
        }
    }
    if (connection->state == HTTP_STATE_CLOSED)
        return;
    if (connection->in_flight_bytes == 0)
        bk_list_remove(&connection->write_link);
    settle(connection);
}

bool http_sending_finish(struct http_connection *connection) {
    while (connection->in_flight_bytes == 0 && connection->output.length > 0) {
        BK_UNINITIALIZED uv_buf_t pieces[PIECES_MAX];
        size_t total;
        unsigned int count = gather(&connection->output, pieces, &total);
        int sent = uv_try_write(&connection->socket.stream, pieces, count);
        if (sent > 0)
            count_sent(connection, (size_t)sent);
        if (sent < 0 || (size_t)sent < total)
            return false;
    }
    return connection->output.length == 0;
}

/* --- bounds ----------------------------------------------------------------------------------- */

void http_sending_check(struct bk_http *http) {
    const struct bk_http_options *options = &http->options;
    uint64_t now_ms = bk_loop_now_ms(options->loop);
    while (!bk_list_is_empty(&http->writing)) {
        struct http_connection *connection =
            bk_container_of(http->writing.next, struct http_connection, write_link);
        uint64_t elapsed_ms = now_ms - connection->write_since_ms;
        int64_t read_bytes;
        if (elapsed_ms < options->write_timeout_ms)
            return;
        read_bytes = delivered_bytes(connection) - connection->delivered_bytes;
        if (read_bytes > (int64_t)(elapsed_ms * options->read_rate_min / 1000)) {
            judge_from_now(connection);
            continue;
        }
        http->figures.timeouts++;
        http_connection_cut(connection);
    }
}

size_t http_sending_held_bytes(const struct bk_http *http) {
    BK_ASSERT(http->closing_bytes <= http->blocks.held_bytes);
    return http->blocks.held_bytes - http->closing_bytes;
}

/* Of those that wait for their client; NULL when none does. */
static struct http_connection *costliest(struct bk_http *http) {
    uint64_t now_ms = bk_loop_now_ms(http->options.loop);
    struct http_connection *found = NULL;
    double highest = -1;
    BK_LIST_FOR_EACH(link, &http->writing) {
        struct http_connection *connection =
            bk_container_of(link, struct http_connection, write_link);
        double cost = (double)connection->output.held_bytes *
                      (double)(now_ms - connection->unsent_since_ms + 1);
        if (cost > highest) {
            highest = cost;
            found = connection;
        }
    }
    return found;
}

static void make_room(struct bk_http *http) {
    struct http_connection *connection;
    while (http_sending_held_bytes(http) > http->options.output_total_max_bytes &&
           (connection = costliest(http)) != NULL) {
        http->figures.overloads++;
        http_connection_cut(connection);
    }
}

void http_sending_on_turn_end(struct bk_turn_hook *hook) {
    struct bk_http *http = bk_container_of(hook, struct bk_http, hook);
    struct bk_list *link;
    while ((link = bk_list_pop(&http->dirty)) != NULL) {
        struct http_connection *connection =
            bk_container_of(link, struct http_connection, dirty_link);
        if (connection->in_flight_bytes == 0)
            http_sending_flush(connection);
    }
    make_room(http);
    /* The upgrader's connections make room without a word. */
    if (http->options.upgrader != NULL && !http->is_draining)
        http_accept_waiting(http);
}
