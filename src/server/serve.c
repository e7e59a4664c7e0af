/*
 * `bakend serve`: the composition behind two listeners, TCP and the control socket, until a signal.
 *
 *   SIGTERM, SIGINT   accept no more, finish what is in flight (drain-timeout), close in order
 *   again             cut what is in flight; once more, or while closing: end at once
 *
 * Ending at once loses nothing that was acknowledged: that is on disk. The alarm is for an end that
 * hangs.
 */
#include "address.h"
#include "program.h"

#include "bakend/file.h"
#include "bakend/http.h"
#include "bakend/websocket.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum {
    CLOSE_SECONDS_MAX = 20, /* beyond the drain, for modules and databases to close */
    /* Of an open tenant: two databases, each with two connections of two, and an index. */
    DESCRIPTORS_PER_TENANT = 10,
    DESCRIPTORS_PER_READER = 80, /* 40 connections of it and the long reader beside it */
};

struct serving {
    struct program *program;
    struct bk_http *http;
    struct bk_websockets *websockets;
    struct listen_address address;
    uint32_t signal_count, draining_count;
    bool is_drained;
};

enum bk_status program_prepare(struct program *program, bool is_command, struct bk_error *error) {
    const char *level = program->options.log_level;
    if (!bk_log_level_parse(bk_slice_from(level), &program->server.log_level))
        return bk_error_set(error, BK_INVALID,
                            "--log-level: \"%s\" must be debug, info, warn, error or off", level);
    if (is_command && bk_config_origin(program->config, "log-level") == BK_CONFIG_DEFAULT)
        program->server.log_level = BK_LOG_WARN;
    return BK_OK;
}

/* --- ending ----------------------------------------------------------------------------------- */

static void on_alarm(int signal_number) {
    static const char message[] = "bakend: the end took too long and was cut short\n";
    (void)signal_number;
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(1);
}

static void set_alarm(const struct serving *serving) {
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    int64_t drain_s = serving->program->options.drain_timeout_ms / 1000;
    alarm((unsigned)drain_s + CLOSE_SECONDS_MAX);
}

static void on_drained(void *user) {
    struct serving *serving = user;
    serving->is_drained = --serving->draining_count == 0;
}

/* Side by side: a request of the one may wait for a channel of the other. */
static void drain(struct serving *serving, uint32_t deadline_ms) {
    serving->draining_count = 2;
    bk_websockets_drain(serving->websockets, deadline_ms, on_drained, serving);
    bk_http_drain(serving->http, deadline_ms, on_drained, serving);
}

static void on_terminate(void *user, int signal_number) {
    struct serving *serving = user;
    struct server *server = &serving->program->server;
    serving->signal_count++;
    bk_log_info(&server->log, "stopping", BK_INT("signal", signal_number));
    if (serving->signal_count == 1) {
        set_alarm(serving);
        bk_api_drain(server->api, (uint32_t)serving->program->options.drain_timeout_ms);
        drain(serving, (uint32_t)serving->program->options.drain_timeout_ms);
    } else if (serving->signal_count == 2 && !serving->is_drained) {
        bk_websockets_force(serving->websockets);
        bk_http_force(serving->http);
    } else {
        bk_logger_flush(server->logger);
        _exit(1);
    }
}

/* --- listening -------------------------------------------------------------------------------- */

static struct bk_websockets *create_websockets(const struct serving *serving) {
    const struct server_options *options = &serving->program->options;
    const struct server *server = &serving->program->server;
    struct bk_websocket_options websockets;
    bk_websocket_options_init(&websockets);
    websockets.loop = server->loop;
    websockets.api = server->api;
    websockets.log = (struct bk_log){server->logger, "websocket"};
    websockets.message_max_bytes = (size_t)options->websocket_message_max_bytes;
    websockets.queue_max_bytes = (size_t)options->websocket_queue_max_bytes;
    websockets.ping_interval_ms = (uint32_t)options->websocket_ping_interval_ms;
    websockets.write_timeout_ms = (uint32_t)options->write_timeout_ms;
    return bk_websockets_create(&websockets);
}

static enum bk_status create_http(struct serving *serving, struct bk_error *error) {
    const struct server_options *options = &serving->program->options;
    struct server *server = &serving->program->server;
    struct bk_http_options http;
    bk_http_options_init(&http);
    http.loop = server->loop;
    http.api = server->api;
    http.log = (struct bk_log){server->logger, "http"};
    http.trusted_proxies = options->trusted_proxies;
    http.upgrader = bk_websockets_upgrader(serving->websockets);
    http.connections_max = (uint32_t)options->connections_max;
    http.descriptors_kept += (uint32_t)options->open_tenants_max * DESCRIPTORS_PER_TENANT +
                             (uint32_t)options->readers * DESCRIPTORS_PER_READER;
    http.connections_per_address_max = (uint32_t)options->connections_per_address_max;
    http.buffered_max_bytes = (size_t)options->bodies_max_bytes;
    http.output_total_max_bytes = (size_t)options->answers_max_bytes;
    http.head_timeout_ms = (uint32_t)options->head_timeout_ms;
    http.body_timeout_ms = (uint32_t)options->body_timeout_ms;
    http.idle_timeout_ms = (uint32_t)options->idle_timeout_ms;
    http.write_timeout_ms = (uint32_t)options->write_timeout_ms;
    enum bk_status status = bk_http_create(&http, &serving->http, error);
    if (status == BK_INVALID)
        bk_error_prefix(error, "--trusted-proxies");
    return status;
}

static enum bk_status listen_all(struct serving *serving, uint16_t *port, struct bk_error *error) {
    char path[4096];
    if (!bk_path_join(path, sizeof path, serving->program->options.data, "bakend.sock"))
        return bk_error_set(error, BK_INVALID, "--data: the path is too long");
    enum bk_status status = bk_http_listen_control(serving->http, path, error);
    if (status != BK_OK)
        return status;
    return bk_http_listen(serving->http, serving->address.host, serving->address.port, port, error);
}

static void announce(struct serving *serving, uint16_t port) {
    const char *host = serving->address.host;
    bool is_ipv6 = strchr(host, ':') != NULL;
    if (strcmp(host, "*") == 0)
        host = "0.0.0.0";
    printf("bakend ready http://%s%s%s:%u\n", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", port);
    fflush(stdout);
    bk_log_info(&serving->program->server.log, "ready", BK_TEXT("host", host), BK_INT("port", port),
                BK_INT("pid", getpid()));
}

/* One of the two may listen already. */
static void give_up(struct serving *serving) {
    drain(serving, 0);
    server_wait(&serving->program->server, &serving->is_drained);
}

static enum bk_status run_http(struct serving *serving, struct bk_error *error) {
    struct server *server = &serving->program->server;
    uint16_t port = 0;
    enum bk_status status = listen_all(serving, &port, error);
    if (status == BK_OK) {
        bk_loop_on_terminate(server->loop, on_terminate, serving);
        announce(serving, port);
        server_wait(server, &serving->is_drained);
    } else {
        give_up(serving);
    }
    bk_http_destroy(serving->http);
    return status;
}

/* The server is open. The transports are gone when this returns. */
static enum bk_status run_listening(struct serving *serving, struct bk_error *error) {
    serving->websockets = create_websockets(serving);
    enum bk_status status = create_http(serving, error);
    if (status == BK_OK)
        status = run_http(serving, error);
    bk_websockets_destroy(serving->websockets);
    return status;
}

static int fail(const struct bk_error *error, int code) {
    fprintf(stderr, "bakend: %s\n", error->message);
    return code;
}

int program_serve(void *user) {
    struct program *program = user;
    struct serving serving = {.program = program};
    struct bk_error error = BK_ERROR_INIT;
    if (program_prepare(program, false, &error) != BK_OK ||
        listen_address_parse(&serving.address, program->options.listen, &error) != BK_OK)
        return fail(&error, 2);
    program->server.is_serving = true;
    if (server_open(&program->server, &error) != BK_OK)
        return fail(&error, 1);
    enum bk_status status = run_listening(&serving, &error);
    if (status == BK_OK)
        server_close(&program->server);
    else
        server_abandon(&program->server);
    alarm(0);
    return status == BK_OK ? 0 : fail(&error, status == BK_INVALID ? 2 : 1);
}
