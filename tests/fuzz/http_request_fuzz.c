/*
 * Requests over a real connection: the gate, llhttp, the body and its limits, pipelining, answers.
 *
 * The input's first byte seeds where the bytes are cut; the rest is what a client sends, over a
 * local socket, before it closes its side. Limits are small, so that small inputs reach them.
 *
 * Whatever the bytes, and however they are cut: the same requests reach the same handlers with the
 * same bodies, the same number of answers of the same status comes back, each of them is whole,
 * nothing follows the answer that ends the connection, and the connection is closed in the end.
 */
#define _GNU_SOURCE /* memmem */
#include "fuzz.h"

#include "bakend/http.h"
#include "bakend/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    INPUT_BYTES_MAX = 8 * 1024, /* less than a read of the server, or a cut is not where we cut */
    ANSWERS_BYTES_MAX = 1024 * 1024,
    LINE_BYTES_MAX = 128,
    HEAD_BYTES_MAX = 512,
    BODY_BYTES_MAX = 64,
    DISCARD_BYTES_MAX = 16 * 1024,
    STATUSES_MAX = 512,
    STEP_MAX = 24,
    HASH_FACTOR = 0x01000193
};

static struct {
    struct bk_loop *loop;
    struct bk_api *api;
    struct bk_http *http;
    char path[64];
    uint32_t digest, dispatched; /* of what the handlers saw */
} server;

/* --- what the handlers see -------------------------------------------------------------------- */

static void note(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        server.digest = (server.digest ^ (uint8_t)text.data[i]) * HASH_FACTOR;
    server.digest = (server.digest ^ (uint32_t)text.length) * HASH_FACTOR;
}

static void handle(struct bk_request *request) {
    server.dispatched++;
    note(bk_slice_from(bk_method_name(request->method)));
    note(request->path);
    note(request->query);
    note(request->host);
    for (uint32_t i = 0; i < request->header_count; i++) {
        note(request->headers[i].name);
        note(request->headers[i].value);
    }
    note(request->body);
    BK_ASSERT(request->body.length <= BODY_BYTES_MAX);
    bk_json_write_string(&request->out, request->path);
    bk_answer(request, 200);
}

static void handle_stream(struct bk_request *request) {
    server.dispatched++;
    note(request->path);
    bk_stream_begin(request, 200);
    (void)bk_stream_write(request, BK_SLICE("one "));
    (void)bk_stream_write(request, BK_SLICE("two"));
    bk_stream_end(request);
}

static const struct bk_route routes[] = {
    {.method = BK_GET, .path = "/", .handle = handle},
    {.method = BK_GET, .path = "/stream", .handle = handle_stream},
    {.method = BK_POST, .path = "/echo", .body_max_bytes = BODY_BYTES_MAX, .handle = handle},
    {.method = BK_POST,
     .path = "/json",
     .body_max_bytes = BODY_BYTES_MAX,
     .has_json_body = true,
     .handle = handle},
    {.method = BK_GET, .path = "/a/{name}", .handle = handle},
};

/* --- the server ------------------------------------------------------------------------------- */

static void remove_socket(void) { (void)unlink(server.path); }

static void start(void) {
    struct bk_api_options api_options = {.request_arena_bytes = 1024 * 1024,
                                         .answer_max_bytes = 1024 * 1024};
    struct bk_http_options options;
    struct bk_error error = BK_ERROR_INIT;
    if (server.loop != NULL)
        return;
    snprintf(server.path, sizeof(server.path), "/tmp/bakend-fuzz-%ld.sock", (long)getpid());
    server.loop = api_options.loop = bk_loop_create();
    server.api = bk_api_create(&api_options);
    BK_ASSERT(bk_api_add_routes(server.api, routes, BK_COUNT_OF(routes), NULL) == BK_OK);
    bk_http_options_init(&options);
    options.loop = server.loop;
    options.api = server.api;
    options.line_max_bytes = LINE_BYTES_MAX;
    options.head_max_bytes = HEAD_BYTES_MAX;
    options.discard_max_bytes = DISCARD_BYTES_MAX;
    BK_ASSERT(bk_http_create(&options, &server.http, &error) == BK_OK);
    BK_ASSERT(bk_http_listen_control(server.http, server.path, &error) == BK_OK);
    (void)atexit(remove_socket);
}

/* --- a client --------------------------------------------------------------------------------- */

struct client {
    struct bk_turn_hook hook;
    struct bk_buffer answers;
    int socket;
    uint64_t sent_bytes; /* that the server is to have read, of all that it ever read */
    bool is_over, is_read;
};

static void receive(struct client *client) {
    for (;;) {
        char piece[4096];
        ssize_t length = recv(client->socket, piece, sizeof(piece), MSG_DONTWAIT);
        if (length <= 0) {
            client->is_over = client->is_over || length == 0 || errno == ECONNRESET;
            return;
        }
        bk_buffer_append(&client->answers, piece, (size_t)length);
    }
}

/* A turn is enough when the server has read what was sent; the end is waited for by itself. */
static void on_turn_end(struct bk_turn_hook *hook) {
    struct client *client = bk_container_of(hook, struct client, hook);
    receive(client);
    client->is_read =
        client->is_over || bk_http_figures(server.http).bytes_in >= client->sent_bytes;
}

static void client_open(struct client *client) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *client = (struct client){.hook.on_turn_end = on_turn_end};
    bk_buffer_init(&client->answers, ANSWERS_BYTES_MAX);
    memcpy(address.sun_path, server.path, strlen(server.path) + 1);
    client->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BK_ASSERT(client->socket >= 0);
    BK_ASSERT(connect(client->socket, (const struct sockaddr *)&address, sizeof(address)) == 0);
    bk_loop_add_turn_hook(server.loop, &client->hook);
}

static void client_send(struct client *client, const uint8_t *data, size_t length) {
    ssize_t sent = length == 0 ? 0 : send(client->socket, data, length, MSG_NOSIGNAL);
    if (sent <= 0)
        return;
    client->sent_bytes = bk_http_figures(server.http).bytes_in + (uint64_t)sent;
    client->is_read = false;
    BK_ASSERT(bk_loop_run_until(server.loop, &client->is_read));
}

static bool are_none_left;

static void on_turn_end_of_last(struct bk_turn_hook *hook) {
    (void)hook;
    are_none_left = bk_http_figures(server.http).connections == 0;
}

static void client_close(struct client *client) {
    struct bk_turn_hook hook = {.on_turn_end = on_turn_end_of_last};
    (void)shutdown(client->socket, SHUT_WR);
    BK_ASSERT(bk_loop_run_until(server.loop, &client->is_over));
    bk_loop_remove_turn_hook(&client->hook);
    (void)close(client->socket);
    are_none_left = bk_http_figures(server.http).connections == 0;
    bk_loop_add_turn_hook(server.loop, &hook);
    if (!are_none_left)
        (void)bk_loop_run_until(server.loop, &are_none_left);
    bk_loop_remove_turn_hook(&hook);
    BK_ASSERT(are_none_left && bk_http_figures(server.http).requests == 0);
}

/* --- answers ---------------------------------------------------------------------------------- */

struct outcome {
    uint32_t digest, dispatched, answer_count;
    uint16_t statuses[STATUSES_MAX];
};

static size_t find(struct bk_slice text, struct bk_slice part) {
    const char *found =
        text.length == 0 ? NULL : memmem(text.data, text.length, part.data, part.length);
    return found == NULL ? text.length : (size_t)(found - text.data);
}

static struct bk_slice behind(struct bk_slice text, size_t length) {
    BK_ASSERT(length <= text.length);
    return bk_slice_make(text.data + length, text.length - length);
}

/* The header's value; empty when it is not there. */
static struct bk_slice header(struct bk_slice head, struct bk_slice name) {
    struct bk_slice rest = behind(head, find(head, name));
    if (rest.length == 0)
        return rest;
    rest = behind(rest, name.length);
    return bk_slice_make(rest.data, find(rest, BK_SLICE("\r\n")));
}

/* Whether the answer to this one had a body is not said in it: HEAD is told by the next answer
 * beginning at once. */
static size_t body_length(struct bk_slice head, struct bk_slice rest) {
    int64_t length = 0;
    bool is_chunked = find(head, BK_SLICE("Transfer-Encoding: chunked")) < head.length;
    if (rest.length == 0 || bk_slice_starts_with(rest, BK_SLICE("HTTP/1.1 ")))
        return 0;
    if (is_chunked)
        return find(rest, BK_SLICE("0\r\n\r\n")) + 5;
    struct bk_slice text = header(head, BK_SLICE("Content-Length: "));
    if (text.length == 0) /* a stream to an HTTP/1.0 client: until the end */
        return rest.length;
    BK_ASSERT(bk_slice_to_int64(text, &length));
    return (size_t)length;
}

static void read_answers(struct bk_slice rest, struct outcome *outcome) {
    bool is_last = false;
    while (rest.length > 0) {
        int64_t status = 0;
        BK_ASSERT(!is_last && bk_slice_starts_with(rest, BK_SLICE("HTTP/1.1 ")));
        BK_ASSERT(bk_slice_to_int64(bk_slice_make(rest.data + 9, 3), &status));
        size_t end = find(rest, BK_SLICE("\r\n\r\n"));
        BK_ASSERT(end < rest.length);
        struct bk_slice head = bk_slice_make(rest.data, end + 2);
        rest = behind(rest, end + 4);
        if (status == 100)
            continue;
        rest = behind(rest, body_length(head, rest));
        is_last = find(head, BK_SLICE("Connection: close")) < head.length;
        if (outcome->answer_count < STATUSES_MAX)
            outcome->statuses[outcome->answer_count] = (uint16_t)status;
        outcome->answer_count++;
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

/* step_max 0: at once. */
static void send_cut(const uint8_t *data, size_t size, uint32_t seed, size_t step_max,
                     struct outcome *outcome) {
    struct client client;
    server.digest = server.dispatched = 0;
    *outcome = (struct outcome){.digest = 0};
    client_open(&client);
    for (size_t at = 0; at < size && !client.is_over;) {
        size_t step = size - at;
        seed = seed * 1664525 + 1013904223;
        if (step_max > 0 && 1 + (seed >> 8) % step_max < step)
            step = 1 + (seed >> 8) % step_max;
        client_send(&client, data + at, step);
        at += step;
    }
    client_close(&client);
    read_answers(bk_buffer_slice(&client.answers), outcome);
    outcome->digest = server.digest;
    outcome->dispatched = server.dispatched;
    bk_buffer_fini(&client.answers);
}

/* Of two faults the one that is seen first is told, such as a chunk too many and a broken one
 * behind it; and a line too long is told as soon as it is, or never when the client leaves within
 * its head. */
static bool is_refusal(uint16_t status) {
    return status == 400 || status == 413 || status == 414 || status == 431 || status == 501 ||
           status == 505;
}

static void check_answers(const struct outcome *a, const struct outcome *b) {
    const struct outcome *more = a->answer_count > b->answer_count ? a : b;
    uint32_t most = more->answer_count, least = more == a ? b->answer_count : a->answer_count;
    BK_ASSERT(most <= STATUSES_MAX);
    for (uint32_t i = 0; i < least; i++)
        BK_ASSERT(a->statuses[i] == b->statuses[i] ||
                  (i + 1 == most && is_refusal(a->statuses[i]) && is_refusal(b->statuses[i])));
    BK_ASSERT(most == least || (most == least + 1 && is_refusal(more->statuses[least])));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct outcome whole, cut;
    if (size < 1 || size > INPUT_BYTES_MAX)
        return 0;
    start();
    send_cut(data + 1, size - 1, 0, 0, &whole);
    send_cut(data + 1, size - 1, data[0], 1 + data[0] % STEP_MAX, &cut);
    BK_ASSERT(whole.digest == cut.digest && whole.dispatched == cut.dispatched);
    check_answers(&whole, &cut);
    return 0;
}
