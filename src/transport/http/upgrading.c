/*
 * Upgrading: a request that becomes a message channel takes its connection with it.
 *
 *   judged by the upgrader → answers before it sent → descriptor duplicated → given away, with what
 *   the client has sent behind the request → our own handle closed, which the connection survives
 *
 * Nothing is given away that libuv still writes to: a client that asks for a channel before it has
 * read the answers to what it asked before gets 503.
 */
#include "http_private.h"

#include <fcntl.h>

static enum bk_status refuse(struct bk_request *request, enum bk_status status,
                             const char *message) {
    bk_answer_error(request, status, message);
    return status;
}

/* What has been received and was not looked at: the rest of the input in work, or what waits. */
static struct bk_slice received(const struct http_connection *connection) {
    return connection->behind.data != NULL ? connection->behind
                                           : bk_buffer_slice(&connection->pending);
}

static enum bk_status give_away(struct bk_request *request,
                                const struct bk_channel_handler *handler, void *user,
                                struct bk_channel **channel) {
    struct http_exchange *exchange = request->transport;
    struct http_connection *connection = exchange->connection;
    const struct bk_upgrader *upgrader = connection->http->options.upgrader;
    int own = -1, given;
    enum bk_status status;
    if (uv_fileno(&connection->socket.handle, &own) != 0)
        return refuse(request, BK_INTERNAL, NULL);
    given = fcntl(own, F_DUPFD_CLOEXEC, 0);
    if (given < 0)
        return refuse(request, BK_BUSY, "The server has no descriptor left, try again.");
    status = upgrader->take(upgrader->user, request, given, connection->lease, received(connection),
                            handler, user, channel);
    if (status != BK_OK)
        return refuse(request, status, NULL);
    connection->lease = NULL;
    connection->exchange = NULL;
    exchange->connection = NULL;
    http_connection_cut(connection);
    return BK_OK;
}

enum bk_status http_channel_accept(struct bk_request *request,
                                   const struct bk_channel_handler *handler, void *user,
                                   struct bk_channel **channel) {
    struct http_exchange *exchange = request->transport;
    struct http_connection *connection = exchange->connection;
    const struct bk_upgrader *upgrader = exchange->http->options.upgrader;
    enum bk_status status;
    if (upgrader == NULL || request->is_control)
        return BK_NOT_SUPPORTED;
    if (connection == NULL)
        return refuse(request, BK_CANCELLED, NULL);
    if (exchange->http->is_draining)
        return refuse(request, BK_CLOSING, NULL);
    if (connection->minor_version == 0)
        return refuse(request, BK_INVALID, "A WebSocket needs HTTP/1.1.");
    status = upgrader->check(upgrader->user, request);
    if (status != BK_OK)
        return status;
    if (!http_sending_finish(connection))
        return refuse(request, BK_BUSY, "Read the answers to the requests before this one first.");
    return give_away(request, handler, user, channel);
}

void http_channel_accepted(struct bk_request *request) { http_exchange_end(request->transport); }
