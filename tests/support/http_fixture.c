/* See http_fixture.h. Clients are plain non-blocking sockets on the loop's own thread: a timer
 * looks at the socket each millisecond, so a test is one sequence of steps without a second
 * thread. */
#define _GNU_SOURCE /* memmem */
#include "http_fixture.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK_BYTES = 64 * 1024 };

/* --- routes ----------------------------------------------------------------------------------- */

static void handle_hello(struct bk_request *request) {
    bk_buffer_append_literal(&request->out, "{\"hello\":\"world\"}");
    bk_answer(request, 200);
}

static void handle_big(struct bk_request *request) {
    for (size_t i = 0; i < SUPPORT_HTTP_BIG_BYTES; i++)
        bk_buffer_append_char(&request->out, 'x');
    bk_answer(request, 200);
}

static void handle_echo(struct bk_request *request) {
    request->content_type = "application/octet-stream";
    bk_buffer_append_slice(&request->out, request->body);
    bk_answer(request, 200);
}

static void handle_json(struct bk_request *request) {
    bk_buffer_append_slice(&request->out,
                           request->json == NULL ? BK_SLICE("null") : request->json->text);
    bk_answer(request, 200);
}

static void handle_address(struct bk_request *request) {
    bk_json_write_string(&request->out, request->remote_address);
    bk_buffer_format(&request->out, " control=%d", request->is_control);
    bk_answer(request, 200);
}

static void handle_later(struct bk_request *request) {
    struct support_http *server = request->module;
    server->later = request;
    server->later_count++;
}

static void on_abort(struct bk_request *request) {
    struct support_http *server = request->module;
    server->abort_count++;
    server->later = NULL;
    bk_answer_error(request, BK_CANCELLED, NULL);
}

static void handle_wait(struct bk_request *request) {
    request->on_abort = on_abort;
    handle_later(request);
}

struct stream {
    struct bk_task task;
    struct bk_request *request;
    size_t written;
};

static void on_stream_turn(struct bk_timer *timer, void *user) {
    struct stream *stream = user;
    static const char *const pieces[] = {"one,", "two,", "three"};
    (void)bk_stream_write(stream->request, bk_slice_from(pieces[stream->written++]));
    if (stream->written < BK_COUNT_OF(pieces))
        return;
    bk_timer_close(timer);
    bk_stream_end(stream->request);
}

static void handle_stream(struct bk_request *request) {
    struct support_http *server = request->module;
    struct stream *stream = bk_arena_alloc_zero(&request->arena, sizeof(*stream));
    stream->request = request;
    request->content_type = "text/plain";
    bk_stream_begin(request, 200);
    bk_timer_start(bk_timer_create(server->loop, on_stream_turn, stream), 1, 1);
}

static void flood(struct bk_request *request) {
    static const char chunk[CHUNK_BYTES];
    struct support_http *server = request->module;
    struct stream *stream = request->state;
    while (stream->written < SUPPORT_HTTP_FLOOD_BYTES) {
        stream->written += sizeof(chunk);
        if (!bk_stream_write(request, bk_slice_make(chunk, sizeof(chunk)))) {
            server->stop_count++;
            return;
        }
    }
    bk_stream_end(request);
}

static void on_flood_abort(struct bk_request *request) {
    struct support_http *server = request->module;
    server->abort_count++;
    bk_stream_end(request);
}

static void handle_flood(struct bk_request *request) {
    request->state = bk_arena_alloc_zero(&request->arena, sizeof(struct stream));
    request->on_drain = flood;
    request->on_abort = on_flood_abort;
    request->content_type = "application/octet-stream";
    bk_stream_begin(request, 200);
    flood(request);
}

static const struct bk_route routes[] = {
    {.method = BK_GET, .path = "/api/hello", .handle = handle_hello},
    {.method = BK_GET, .path = "/api/big", .handle = handle_big},
    {.method = BK_POST,
     .path = "/api/echo",
     .body_max_bytes = SUPPORT_HTTP_ECHO_BYTES_MAX,
     .handle = handle_echo},
    {.method = BK_POST,
     .path = "/api/json",
     .body_max_bytes = BK_BODY_MAX_BYTES,
     .has_json_body = true,
     .handle = handle_json},
    {.method = BK_GET, .path = "/api/address", .handle = handle_address},
    {.method = BK_GET, .path = "/api/later", .handle = handle_later},
    {.method = BK_GET, .path = "/api/wait", .handle = handle_wait},
    {.method = BK_GET, .path = "/api/stream", .handle = handle_stream},
    {.method = BK_GET, .path = "/api/flood", .handle = handle_flood},
};

/* --- the server ------------------------------------------------------------------------------- */

void support_http_start(struct support_http *server, void (*configure)(struct bk_http_options *)) {
    struct bk_api_options api_options = {.request_arena_bytes = 1024 * 1024,
                                         .answer_max_bytes = 8 * 1024 * 1024};
    struct bk_http_options options;
    struct bk_error error = BK_ERROR_INIT;
    *server = (struct support_http){.loop = bk_loop_create()};
    api_options.loop = server->loop;
    server->api = bk_api_create(&api_options);
    assert_int_equal(bk_api_add_routes(server->api, routes, BK_COUNT_OF(routes), server), BK_OK);
    bk_http_options_init(&options);
    options.loop = server->loop;
    options.api = server->api;
    if (configure != NULL)
        configure(&options);
    assert_int_equal(bk_http_create(&options, &server->http, &error), BK_OK);
    assert_int_equal(bk_http_listen(server->http, "127.0.0.1", 0, &server->port, &error), BK_OK);
    assert_true(server->port > 0);
}

static void on_drained(void *user) {
    struct support_http *server = user;
    server->is_drained = true;
}

void support_http_stop(struct support_http *server) {
    void *state = server->loop;
    if (!server->is_drained) {
        bk_http_drain(server->http, 0, on_drained, server);
        bk_http_force(server->http);
        if (server->later != NULL)
            support_http_answer_later(server);
        support_loop_run_until(server->loop, &server->is_drained);
    }
    bk_http_destroy(server->http);
    bk_api_destroy(server->api);
    assert_int_equal(support_loop_teardown(&state), 0);
}

void support_http_answer_later(struct support_http *server) {
    struct bk_request *request = server->later;
    assert_non_null(request);
    server->later = NULL;
    handle_hello(request);
}

/* --- clients ---------------------------------------------------------------------------------- */

static void connect_to(struct support_client *client, const struct sockaddr *address,
                       socklen_t length) {
    client->socket = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client->socket >= 0);
    assert_int_equal(connect(client->socket, address, length), 0);
    assert_int_equal(fcntl(client->socket, F_SETFL, O_NONBLOCK), 0);
    client->capacity = 64 * 1024;
    client->data = bk_alloc(client->capacity);
    client->data[0] = '\0';
}

void support_client_connect(struct support_client *client, struct support_http *server) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(server->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *client = (struct support_client){.server = server};
    connect_to(client, (const struct sockaddr *)&address, sizeof(address));
}

void support_client_connect_path(struct support_client *client, struct support_http *server,
                                 const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *client = (struct support_client){.server = server};
    assert_true(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path) + 1);
    connect_to(client, (const struct sockaddr *)&address, sizeof(address));
}

void support_client_close(struct support_client *client) {
    (void)close(client->socket);
    bk_free(client->data);
    client->data = NULL;
}

void support_client_half_close(struct support_client *client) {
    assert_int_equal(shutdown(client->socket, SHUT_WR), 0);
}

void support_client_clear(struct support_client *client) {
    client->length = 0;
    client->data[0] = '\0';
}

size_t support_client_count(const struct support_client *client, const char *text) {
    size_t count = 0, length = strlen(text);
    for (const char *at = client->data;
         (at = memmem(at, (size_t)(client->data + client->length - at), text, length)) != NULL;
         at += length)
        count++;
    return count;
}

static void receive(struct support_client *client) {
    for (;;) {
        ssize_t length;
        if (client->capacity - client->length < CHUNK_BYTES) {
            client->capacity *= 2;
            client->data = bk_realloc(client->data, client->capacity);
        }
        length = recv(client->socket, client->data + client->length,
                      client->capacity - client->length - 1, 0);
        if (length > 0) {
            client->length += (size_t)length;
            client->data[client->length] = '\0';
            continue;
        }
        client->has_eof = client->has_eof || length == 0;
        client->was_reset = length < 0 && errno != EAGAIN && errno != EINTR;
        return;
    }
}

struct waiting {
    struct support_client *client;
    const char *text;
    size_t count, bytes;
    bool is_over;
};

static void on_look(struct bk_timer *timer, void *user) {
    struct waiting *waiting = user;
    struct support_client *client = waiting->client;
    (void)timer;
    receive(client);
    waiting->is_over =
        client->has_eof || client->was_reset ||
        (waiting->text != NULL && support_client_count(client, waiting->text) >= waiting->count) ||
        (waiting->bytes > 0 && client->length >= waiting->bytes);
}

static void wait_for(struct waiting *waiting) {
    struct bk_loop *loop = waiting->client->server->loop;
    struct bk_timer *timer = bk_timer_create(loop, on_look, waiting);
    bk_timer_start(timer, 0, 1);
    support_loop_run_until(loop, &waiting->is_over);
    bk_timer_close(timer);
}

void support_client_wait_count(struct support_client *client, const char *text, size_t count) {
    struct waiting waiting = {.client = client, .text = text, .count = count};
    wait_for(&waiting);
    if (support_client_count(client, text) < count)
        fail_msg("\"%s\" did not come %zu times, but:\n%s", text, count, client->data);
}

void support_client_wait(struct support_client *client, const char *text) {
    support_client_wait_count(client, text, 1);
}

void support_client_wait_bytes(struct support_client *client, size_t length) {
    struct waiting waiting = {.client = client, .bytes = length};
    wait_for(&waiting);
    assert_true(client->length >= length);
}

void support_client_wait_end(struct support_client *client) {
    struct waiting waiting = {.client = client};
    wait_for(&waiting);
}

void support_client_send_bytes(struct support_client *client, const void *data, size_t length) {
    const char *cursor = data;
    while (length > 0) {
        ssize_t sent = send(client->socket, cursor, length, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            client->was_reset = true;
            return;
        }
        if (sent < 0) {
            assert_int_equal(errno, EAGAIN);
            support_loop_run_for(client->server->loop, 1);
            continue;
        }
        cursor += sent;
        length -= (size_t)sent;
    }
}

void support_client_send(struct support_client *client, const char *text) {
    support_client_send_bytes(client, text, strlen(text));
}
