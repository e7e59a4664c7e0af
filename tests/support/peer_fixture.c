/* The peer is one accepting thread and one thread a connection. Stopping ends the sockets, which
 * wakes whoever reads from them, and joins. */
#include "peer_fixture.h"

#include "bakend/clock.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the peer --------------------------------------------------------------------------------- */

struct support_peer {
    int listener;
    uint16_t port;
    void (*serve)(struct support_connection *connection);
    void *user;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    uint32_t count;
    int sockets[SUPPORT_PEER_CONNECTIONS_MAX];
    pthread_t threads[SUPPORT_PEER_CONNECTIONS_MAX];
    bool is_stopping;
};

static int listen_somewhere(uint16_t *port, int backlog) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    assert_int_equal(bind(descriptor, (const void *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(descriptor, (void *)&address, &size), 0);
    if (backlog >= 0)
        assert_int_equal(listen(descriptor, backlog), 0);
    *port = ntohs(address.sin_port);
    return descriptor;
}

uint16_t support_closed_port(void) {
    uint16_t port;
    (void)close(listen_somewhere(&port, -1));
    return port;
}

struct support_full_listener {
    uint16_t port;
    int listener, waiting[8];
};

struct support_full_listener *support_full_listener_create(void) {
    struct support_full_listener *full = calloc(1, sizeof(*full));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_non_null(full);
    full->listener = listen_somewhere(&full->port, 0);
    address.sin_port = htons(full->port);
    for (size_t i = 0; i < BK_COUNT_OF(full->waiting); i++) {
        full->waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(full->waiting[i] >= 0);
        (void)connect(full->waiting[i], (const void *)&address, sizeof(address));
    }
    return full;
}

uint16_t support_full_listener_port(const struct support_full_listener *listener) {
    return listener->port;
}

void support_full_listener_destroy(struct support_full_listener *listener) {
    for (size_t i = 0; i < BK_COUNT_OF(listener->waiting); i++)
        (void)close(listener->waiting[i]);
    (void)close(listener->listener);
    free(listener);
}

static void *connection_main(void *argument) {
    struct support_connection *connection = argument;
    struct support_peer *peer = connection->peer;
    peer->serve(connection);
    (void)pthread_mutex_lock(&peer->mutex);
    if (connection->socket >= 0)
        (void)close(connection->socket);
    peer->sockets[connection->index] = -1;
    (void)pthread_mutex_unlock(&peer->mutex);
    free(connection->text);
    free(connection);
    return NULL;
}

/* Under the mutex. */
static void begin_connection(struct support_peer *peer, int descriptor) {
    struct support_connection *connection = calloc(1, sizeof(*connection));
    assert_non_null(connection);
    assert_true(peer->count < SUPPORT_PEER_CONNECTIONS_MAX);
    connection->peer = peer;
    connection->socket = descriptor;
    connection->index = peer->count;
    connection->text = calloc(1, SUPPORT_PEER_TEXT_BYTES + 1);
    assert_non_null(connection->text);
    peer->sockets[peer->count] = descriptor;
    assert_int_equal(pthread_create(&peer->threads[peer->count], NULL, connection_main, connection),
                     0);
    peer->count++;
}

static void *peer_main(void *argument) {
    struct support_peer *peer = argument;
    for (;;) {
        int descriptor = accept(peer->listener, NULL, NULL);
        (void)pthread_mutex_lock(&peer->mutex);
        if (descriptor >= 0 && !peer->is_stopping)
            begin_connection(peer, descriptor);
        else if (descriptor >= 0)
            (void)close(descriptor);
        (void)pthread_mutex_unlock(&peer->mutex);
        if (descriptor < 0)
            return NULL;
    }
}

struct support_peer *support_peer_start(void (*serve)(struct support_connection *connection),
                                        void *user) {
    struct support_peer *peer = calloc(1, sizeof(*peer));
    assert_non_null(peer);
    peer->listener = listen_somewhere(&peer->port, SUPPORT_PEER_CONNECTIONS_MAX);
    peer->serve = serve;
    peer->user = user;
    assert_int_equal(pthread_mutex_init(&peer->mutex, NULL), 0);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
    return peer;
}

void support_peer_stop(struct support_peer *peer) {
    (void)pthread_mutex_lock(&peer->mutex);
    peer->is_stopping = true;
    for (uint32_t i = 0; i < peer->count; i++) {
        if (peer->sockets[i] >= 0)
            (void)shutdown(peer->sockets[i], SHUT_RDWR);
    }
    (void)shutdown(peer->listener, SHUT_RDWR);
    (void)pthread_mutex_unlock(&peer->mutex);
    (void)pthread_join(peer->thread, NULL);
    for (uint32_t i = 0; i < peer->count; i++)
        (void)pthread_join(peer->threads[i], NULL);
    (void)close(peer->listener);
    (void)pthread_mutex_destroy(&peer->mutex);
    free(peer);
}

uint16_t support_peer_port(const struct support_peer *peer) { return peer->port; }

void *support_peer_user(const struct support_peer *peer) { return peer->user; }

uint32_t support_peer_connection_count(struct support_peer *peer) {
    uint32_t count;
    (void)pthread_mutex_lock(&peer->mutex);
    count = peer->count;
    (void)pthread_mutex_unlock(&peer->mutex);
    return count;
}

/* --- a connection ----------------------------------------------------------------------------- */

/* What was handed out last is at the front, behind a NUL that took the place of a byte. */
static bool read_more(struct support_connection *connection) {
    size_t room = SUPPORT_PEER_TEXT_BYTES - connection->text_length;
    ssize_t got;
    if (room == 0)
        return false;
    got = recv(connection->socket, connection->text + connection->text_length, room, 0);
    if (got <= 0)
        return false;
    connection->text_length += (size_t)got;
    connection->text[connection->text_length] = '\0';
    return true;
}

static _Thread_local char handed_out[SUPPORT_PEER_TEXT_BYTES + 1];

static const char *hand_out(struct support_connection *connection, size_t length) {
    memcpy(handed_out, connection->text, length);
    handed_out[length] = '\0';
    connection->text_length -= length;
    memmove(connection->text, connection->text + length, connection->text_length + 1);
    return handed_out;
}

const char *support_connection_read(struct support_connection *connection, const char *mark) {
    for (;;) {
        const char *found = mark == NULL ? NULL : strstr(connection->text, mark);
        if (found != NULL)
            return hand_out(connection, (size_t)(found - connection->text) + strlen(mark));
        if (!read_more(connection))
            return mark == NULL ? hand_out(connection, connection->text_length) : NULL;
    }
}

bool support_connection_peek(struct support_connection *connection) {
    return read_more(connection);
}

bool support_connection_skip(struct support_connection *connection, size_t length) {
    while (length > 0) {
        size_t piece = length < connection->text_length ? length : connection->text_length;
        (void)hand_out(connection, piece);
        length -= piece;
        if (length > 0 && !read_more(connection))
            return false;
    }
    return true;
}

bool support_connection_send_bytes(struct support_connection *connection, const void *data,
                                   size_t length) {
    const char *rest = data;
    while (length > 0) {
        ssize_t sent = send(connection->socket, rest, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        rest += sent;
        length -= (size_t)sent;
    }
    return true;
}

bool support_connection_send(struct support_connection *connection, const char *text) {
    return support_connection_send_bytes(connection, text, strlen(text));
}

void support_connection_hang(struct support_connection *connection) {
    char byte;
    while (recv(connection->socket, &byte, 1, 0) > 0) {
    }
}

void support_connection_reset(struct support_connection *connection) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)pthread_mutex_lock(&connection->peer->mutex);
    (void)setsockopt(connection->socket, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    (void)close(connection->socket);
    connection->peer->sockets[connection->index] = -1;
    connection->socket = -1;
    (void)pthread_mutex_unlock(&connection->peer->mutex);
}

/* --- the asking side -------------------------------------------------------------------------- */

static void copy_text(char *out, size_t size, struct bk_slice text) {
    size_t length = text.length < size ? text.length : size - 1;
    if (length > 0)
        memcpy(out, text.data, length);
    out[length] = '\0';
}

static void on_done(struct bk_outbound_request *request) {
    struct support_exchange *exchange = bk_container_of(request, struct support_exchange, request);
    exchange->is_done = true;
    exchange->done_count++;
    copy_text(exchange->answer, sizeof(exchange->answer), request->answer);
    copy_text(exchange->reason, sizeof(exchange->reason), request->reason);
    if (exchange->header_name != NULL)
        copy_text(exchange->header, sizeof(exchange->header),
                  bk_outbound_answer_header(request, bk_slice_from(exchange->header_name)));
}

void support_exchange_init(struct support_exchange *exchange, uint16_t port, const char *path) {
    memset(exchange, 0, sizeof(*exchange));
    (void)snprintf(exchange->url, sizeof(exchange->url), "http://127.0.0.1:%u%s", port, path);
    exchange->request.method = "GET";
    exchange->request.url = bk_slice_from(exchange->url);
    exchange->request.answer_max_bytes = SUPPORT_PEER_TEXT_BYTES;
    exchange->request.done = on_done;
}

void support_exchange_init_mail(struct support_exchange *exchange, uint16_t port) {
    static const struct bk_slice recipient = BK_SLICE_INIT("to@example.com");
    memset(exchange, 0, sizeof(*exchange));
    exchange->smtp.host = BK_SLICE("127.0.0.1");
    exchange->smtp.port = port;
    exchange->smtp.from = BK_SLICE("from@example.com");
    exchange->smtp.recipients = &recipient;
    exchange->smtp.recipient_count = 1;
    exchange->smtp.message = BK_SLICE("Subject: hello\r\n\r\nHello\r\n");
    exchange->request.smtp = &exchange->smtp;
    exchange->request.done = on_done;
}

void support_exchange_submit(struct support_exchange *exchange,
                             struct bk_outbound_channel *channel) {
    exchange->is_done = false;
    assert_int_equal(bk_outbound_submit(channel, &exchange->request), BK_OK);
    assert_false(exchange->is_done);
}

void support_exchange_run(struct support_exchange *exchange, struct bk_loop *loop,
                          struct bk_outbound_channel *channel) {
    support_exchange_submit(exchange, channel);
    support_loop_run_until(loop, &exchange->is_done);
}

struct bk_outbound_policy support_trusting_policy(void) {
    return (struct bk_outbound_policy){
        .name = "test", .allows_any_address = true, .allows_plain = true};
}

static void on_closed(void *user) { *(bool *)user = true; }

uint64_t support_channel_close_ms(struct bk_outbound_channel *channel, struct bk_loop *loop) {
    uint64_t start_ns = bk_clock_monotonic_ns();
    bool is_closed = false;
    bk_outbound_close(channel, on_closed, &is_closed);
    support_loop_run_until(loop, &is_closed);
    return (bk_clock_monotonic_ns() - start_ns) / 1000000;
}
