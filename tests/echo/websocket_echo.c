/*
 * An echo server made of the transports alone, so that a conformance suite can be run against the
 * very code that the program has: every path is a WebSocket, and each message comes back as it
 * came.
 *
 *   tests/support/websocket_echo --listen 127.0.0.1:9001
 *
 * It prints where it listens and ends at SIGTERM or SIGINT, with 1001 to whoever is connected. A
 * peer that sends without reading is closed with 1013 when its queue is full. A message to /close
 * is a wish: "4000 reason" closes with it.
 */
#include "bakend/alloc.h"
#include "bakend/http.h"
#include "bakend/websocket.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
    TRY_LATER = 1013,
    NORMAL = 1000,
    CODE_DIGITS = 4,
    MESSAGE_MAX_BYTES = 16 * 1024 * 1024,
    QUEUE_MAX_BYTES = 64 * 1024 * 1024,
    DRAIN_MS = 500,
};

struct echo {
    struct bk_loop *loop;
    struct bk_api *api;
    struct bk_websockets *websockets;
    struct bk_http *http;
    char host[256];
    uint16_t port;
    uint32_t draining_count;
    bool is_over;
};

/* --- channels --------------------------------------------------------------------------------- */

static void on_message(struct bk_channel *channel, struct bk_slice message, bool is_binary) {
    if (bk_channel_send(channel, message, is_binary) == BK_BUSY)
        bk_channel_close(channel, TRY_LATER, BK_SLICE("read what I have sent"));
}

static void on_wish(struct bk_channel *channel, struct bk_slice message, bool is_binary) {
    int64_t code = NORMAL;
    struct bk_slice reason = BK_SLICE_EMPTY;
    (void)is_binary;
    if (message.length > CODE_DIGITS)
        reason = bk_slice_make(message.data + CODE_DIGITS + 1, message.length - CODE_DIGITS - 1);
    if (message.length >= CODE_DIGITS)
        (void)bk_slice_to_int64(bk_slice_make(message.data, CODE_DIGITS), &code);
    bk_channel_close(channel, (int)code, reason);
}

static void on_close(struct bk_channel *channel, int code) {
    (void)channel;
    (void)code;
}

static const struct bk_channel_handler echoing = {.on_message = on_message, .on_close = on_close};
static const struct bk_channel_handler closing = {.on_message = on_wish, .on_close = on_close};

static void handle_echo(struct bk_request *request) {
    struct bk_channel *channel;
    if (bk_channel_accept(request, &echoing, NULL, &channel) == BK_NOT_SUPPORTED)
        bk_answer_error(request, BK_NOT_SUPPORTED, NULL);
}

static void handle_close(struct bk_request *request) {
    struct bk_channel *channel;
    if (bk_channel_accept(request, &closing, NULL, &channel) == BK_NOT_SUPPORTED)
        bk_answer_error(request, BK_NOT_SUPPORTED, NULL);
}

static void handle_metrics(struct bk_request *request) {
    request->content_type = "text/plain";
    bk_api_write_metrics(request->api, &request->out);
    bk_answer(request, 200);
}

static const struct bk_route routes[] = {
    {.method = BK_GET, .path = "/", .handle = handle_echo},
    {.method = BK_GET, .path = "/close", .handle = handle_close},
    {.method = BK_GET, .path = "/metrics", .handle = handle_metrics},
    {.method = BK_GET, .path = "/{path...}", .handle = handle_echo},
};

/* --- the end ---------------------------------------------------------------------------------- */

static void on_drained(void *user) {
    struct echo *echo = user;
    echo->is_over = --echo->draining_count == 0;
}

static void on_terminate(void *user, int signal_number) {
    struct echo *echo = user;
    (void)signal_number;
    if (echo->draining_count > 0) {
        bk_websockets_force(echo->websockets);
        bk_http_force(echo->http);
        return;
    }
    echo->draining_count = 2;
    bk_websockets_drain(echo->websockets, DRAIN_MS, on_drained, echo);
    bk_http_drain(echo->http, DRAIN_MS, on_drained, echo);
}

/* --- options ---------------------------------------------------------------------------------- */

static bool read_address(struct echo *echo, const char *text) {
    struct bk_slice host = bk_slice_from(text);
    const char *colon = strrchr(text, ':');
    int64_t port;
    if (colon == NULL || !bk_slice_to_int64(bk_slice_from(colon + 1), &port) || port < 0 ||
        port > UINT16_MAX)
        return false;
    host.length = (size_t)(colon - text);
    if (host.length >= 2 && host.data[0] == '[' && host.data[host.length - 1] == ']')
        host = bk_slice_make(host.data + 1, host.length - 2);
    if (host.length >= sizeof(echo->host))
        return false;
    memcpy(echo->host, host.data, host.length);
    echo->host[host.length] = '\0';
    echo->port = (uint16_t)port;
    return true;
}

/* An option with a number, or false. */
static bool read_number(struct bk_websocket_options *options, const char *name, int64_t number) {
    if (number < 1 || number > INT32_MAX)
        return false;
    if (strcmp(name, "--message-max-bytes") == 0)
        options->message_max_bytes = (size_t)number;
    else if (strcmp(name, "--queue-max-bytes") == 0)
        options->queue_max_bytes = (size_t)number;
    else if (strcmp(name, "--ping-interval-ms") == 0)
        options->ping_interval_ms = (uint32_t)number;
    else if (strcmp(name, "--pong-timeout-ms") == 0)
        options->pong_timeout_ms = (uint32_t)number;
    else if (strcmp(name, "--close-timeout-ms") == 0)
        options->close_timeout_ms = (uint32_t)number;
    else if (strcmp(name, "--write-timeout-ms") == 0)
        options->write_timeout_ms = (uint32_t)number;
    else
        return false;
    return true;
}

static bool read_options(struct echo *echo, struct bk_websocket_options *options, int argc,
                         char **argv) {
    bool is_right = read_address(echo, "127.0.0.1:9001") && argc % 2 == 1;
    for (int i = 1; is_right && i + 1 < argc; i += 2) {
        int64_t number = 0;
        is_right = strcmp(argv[i], "--listen") == 0
                       ? read_address(echo, argv[i + 1])
                       : bk_slice_to_int64(bk_slice_from(argv[i + 1]), &number) &&
                             read_number(options, argv[i], number);
    }
    if (!is_right)
        fprintf(stderr, "usage: websocket_echo [--listen HOST:PORT] [--message-max-bytes N] "
                        "[--queue-max-bytes N]\n"
                        "  [--ping-interval-ms N] [--pong-timeout-ms N] [--close-timeout-ms N] "
                        "[--write-timeout-ms N]\n");
    return is_right;
}

/* --- the server ------------------------------------------------------------------------------- */

static enum bk_status start(struct echo *echo, struct bk_websocket_options *options,
                            struct bk_error *error) {
    struct bk_api_options api = {
        .request_arena_bytes = 1024 * 1024, .answer_max_bytes = 1024 * 1024, .cors_origins = "*"};
    struct bk_http_options http;
    enum bk_status status;
    api.loop = options->loop = echo->loop;
    echo->api = options->api = bk_api_create(&api);
    BK_ASSERT(bk_api_add_routes(echo->api, routes, BK_COUNT_OF(routes), echo) == BK_OK);
    echo->websockets = bk_websockets_create(options);
    bk_http_options_init(&http);
    http.loop = echo->loop;
    http.api = echo->api;
    http.upgrader = bk_websockets_upgrader(echo->websockets);
    status = bk_http_create(&http, &echo->http, error);
    BK_ASSERT(status == BK_OK);
    return bk_http_listen(echo->http, echo->host, echo->port, &echo->port, error);
}

int main(int argc, char **argv) {
    struct echo echo = {.is_over = false};
    struct bk_websocket_options options;
    struct bk_error error = BK_ERROR_INIT;
    enum bk_status status;
    bk_websocket_options_init(&options);
    options.message_max_bytes = MESSAGE_MAX_BYTES;
    options.queue_max_bytes = QUEUE_MAX_BYTES;
    if (!read_options(&echo, &options, argc, argv))
        return 2;
    echo.loop = bk_loop_create();
    status = start(&echo, &options, &error);
    bk_loop_on_terminate(echo.loop, on_terminate, &echo);
    if (status == BK_OK) {
        printf("websocket_echo ready ws://%s:%u\n", echo.host, (unsigned int)echo.port);
        fflush(stdout);
    } else {
        fprintf(stderr, "websocket_echo: %s\n", error.message);
        on_terminate(&echo, 0);
    }
    (void)bk_loop_run_until(echo.loop, &echo.is_over);
    bk_loop_on_terminate(echo.loop, NULL, NULL);
    bk_http_destroy(echo.http);
    bk_websockets_destroy(echo.websockets);
    bk_api_destroy(echo.api);
    bk_loop_destroy(echo.loop);
    return status == BK_OK ? 0 : 1;
}
