/*
 * Sending: what all answers of a turn have put into a connection's output leaves with one write at
 * the end of the turn. What the socket does not take at once is given to libuv, one write at a
 * time, while more may be put behind it.
 */
#include "http_private.h"

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

static void on_write(uv_write_t *request, int status) {
    struct http_connection *connection = request->handle->data;
    size_t sent = connection->in_flight_bytes;
    connection->in_flight_bytes = 0;
    bk_list_remove(&connection->write_link);
    if (connection->state == HTTP_STATE_CLOSED)
        return;
    if (status != 0) {
        http_connection_cut(connection);
        return;
    }
    connection->http->figures.bytes_out += sent;
    http_output_consume(&connection->output, sent);
    http_sending_flush(connection);
}

static void queue_write(struct http_connection *connection) {
    struct bk_http *http = connection->http;
    uv_buf_t pieces[PIECES_MAX];
    size_t total;
    unsigned int count = gather(&connection->output, pieces, &total);
    if (uv_write(&connection->write, &connection->socket.stream, pieces, count, on_write) != 0) {
        http_connection_cut(connection);
        return;
    }
    connection->in_flight_bytes = total;
    connection->write_since_ms = bk_loop_now_ms(http->options.loop);
    connection->write_left_bytes = uv_stream_get_write_queue_size(&connection->socket.stream);
    bk_list_push(&http->writing, &connection->write_link);
}

void http_sending_flush(struct http_connection *connection) {
    uv_buf_t pieces[PIECES_MAX];
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
        if (sent > 0) {
            connection->http->figures.bytes_out += (size_t)sent;
            http_output_consume(&connection->output, (size_t)sent);
        }
        if (sent < 0 || (size_t)sent < total) {
            queue_write(connection);
            break;
        }
    }
    if (connection->state != HTTP_STATE_CLOSED)
        settle(connection);
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
}
