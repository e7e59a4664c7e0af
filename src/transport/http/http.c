/*
 * The transport as a whole: its options, its listeners, its clocks and its end.
 *
 * At the cap of connections a listener does not accept: libuv then stops polling it until we do, so
 * clients wait in the kernel's queue and nothing spins. For each that waits the connection that has
 * been idle for longest goes, so that a crowd that only sits there keeps nobody out; who asked
 * something a moment ago stays. The cap stays below the limit of descriptors.
 *
 * One coarse timer serves all timeouts. Each kind of waiting has one timeout and one list, in the
 * order in which the waiting began, so a tick looks at the heads of five lists. It runs only while
 * there are connections.
 *
 * At the end nothing that a client has sent is to be answered by a reset. So when a drain begins,
 * listeners and idle connections are left alone for a moment: what is already on its way is
 * accepted, read and answered with "Connection: close", and then they retire.
 *
 *   drain ─ 40 ms ─> listeners closed ─ 60 ms ─> idle connections closed ─> drained, or cut at the
 *                                                                           deadline
 */
#include "http_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    BACKLOG = 4096,
    DESCRIPTORS_KEPT = 128, /* whatever the limit is */
    CONNECTIONS_MIN = 16,
    CONNECTIONS_MAX = 60000,
    DATE_AGE_MS = 250, /* the header has seconds */
    COMPLAINT_MS = 60000,
    IDLE_SPARED_MS = 5000, /* at the cap: who has been idle for less stays */
    RETIRE_TICK_MS = 20,
    RETIRE_LISTENERS_TICKS = 2,
    RETIRE_IDLE_TICKS = 5, /* about a round trip to a client far away */
};

/* --- life ------------------------------------------------------------------------------------- */

void bk_http_options_init(struct bk_http_options *options) {
    *options = (struct bk_http_options){
        .line_max_bytes = 8 * 1024,
        .head_max_bytes = 16 * 1024,
        .discard_max_bytes = 1024 * 1024,
        .buffered_max_bytes = (size_t)256 * 1024 * 1024,
        .stream_queue_bytes = 256 * 1024,
        .output_max_bytes = (size_t)64 * 1024 * 1024,
        .output_total_max_bytes = (size_t)256 * 1024 * 1024,
        .pending_max_bytes = (size_t)64 * 1024 * 1024,
        .head_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .body_rate_min = 512,
        .idle_timeout_ms = 75000,
        .write_timeout_ms = 30000,
        .read_rate_min = 512,
        .linger_timeout_ms = 2000,
        .descriptors_kept = DESCRIPTORS_KEPT,
    };
}

/* At most half of them are kept: tenants and readers that have all they may are rare. */
static uint32_t connections_that_fit(uint32_t kept) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur > (rlim_t)CONNECTIONS_MAX + kept)
        return CONNECTIONS_MAX;
    if (kept > limit.rlim_cur / 2)
        kept = (uint32_t)(limit.rlim_cur / 2);
    if (kept < DESCRIPTORS_KEPT)
        kept = DESCRIPTORS_KEPT;
    if (limit.rlim_cur < (rlim_t)CONNECTIONS_MIN + kept)
        return CONNECTIONS_MIN;
    return (uint32_t)limit.rlim_cur - kept;
}

static void on_tick(struct bk_timer *timer, void *user);
static void on_drained_task(struct bk_task *task);
static void on_retire_tick(struct bk_timer *timer, void *user);

static void on_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct bk_http *http = bk_container_of(source, struct bk_http, metrics);
    const struct bk_http_figures own = bk_http_figures(http), *figures = &own;
    bk_metric_write(out, "bakend_http_refused_total", "counter",
                    "Requests refused for their framing, a limit or a time.",
                    (double)figures->refused);
    bk_metric_write(out, "bakend_http_timeouts_total", "counter",
                    "Clients that were too slow with a head, a body or reading.",
                    (double)figures->timeouts);
    bk_metric_write(out, "bakend_http_received_bytes_total", "counter", "Bytes received.",
                    (double)figures->bytes_in);
    bk_metric_write(out, "bakend_http_sent_bytes_total", "counter", "Bytes sent.",
                    (double)figures->bytes_out);
    bk_metric_write(out, "bakend_http_buffered_bytes", "gauge", "Request bodies in memory.",
                    (double)figures->buffered_bytes);
    bk_metric_write(out, "bakend_http_unsent_bytes", "gauge", "Answers in memory.",
                    (double)figures->unsent_bytes);
    bk_metric_write(out, "bakend_http_pending_bytes", "gauge",
                    "Input that waits for the request before it.", (double)figures->pending_bytes);
    bk_metric_write(out, "bakend_http_overloads_total", "counter",
                    "Clients cut because answers that nobody reads filled the memory.",
                    (double)figures->overloads);
    bk_metric_write(out, "bakend_http_turned_away_total", "counter",
                    "Connections closed since their address had as many as it may have.",
                    (double)figures->turned_away);
}

enum bk_status bk_http_create(const struct bk_http_options *options, struct bk_http **http,
                              struct bk_error *error) {
    struct bk_http *own;
    struct http_proxies *proxies = NULL;
    BK_ASSERT(options->loop != NULL && options->api != NULL && options->head_max_bytes > 0);
    if (options->trusted_proxies != NULL && options->trusted_proxies[0] != '\0') {
        proxies = http_proxies_create(options->trusted_proxies, error);
        if (proxies == NULL)
            return BK_INVALID;
    }
    own = bk_alloc_zero(sizeof(*own));
    own->options = *options;
    own->options.trusted_proxies = NULL;
    if (own->options.connections_max == 0)
        own->options.connections_max = connections_that_fit(options->descriptors_kept);
    if (own->options.connections_per_address_max == 0)
        own->options.connections_per_address_max = (own->options.connections_max + 1) / 2;
    own->proxies = proxies;
    bk_map_init(&own->addresses);
    bk_list_init(&own->listeners);
    bk_list_init(&own->connections);
    bk_list_init(&own->writing);
    bk_list_init(&own->dirty);
    bk_list_init(&own->spare_exchanges);
    bk_list_init(&own->spare_connections);
    for (size_t i = 0; i < HTTP_CLOCK_COUNT; i++)
        bk_list_init(&own->clocks[i]);
    http_reading_init_parser(&own->parser_settings);
    own->read_buffer = bk_alloc(HTTP_READ_BUFFER_BYTES);
    own->hook.on_turn_end = http_sending_on_turn_end;
    bk_loop_add_turn_hook(options->loop, &own->hook);
    own->timer = bk_timer_create(options->loop, on_tick, own);
    bk_timer_set_background(own->timer);
    own->retire_timer = bk_timer_create(options->loop, on_retire_tick, own);
    bk_task_init(&own->drained_task, on_drained_task);
    own->metrics.write = on_metrics;
    bk_api_add_metrics(options->api, &own->metrics);
    *http = own;
    return BK_OK;
}

void bk_http_destroy(struct bk_http *http) {
    struct bk_list *link;
    BK_ASSERT(bk_list_is_empty(&http->connections) && http->listener_count == 0);
    BK_ASSERT(http->exchange_count == 0 && !bk_task_is_waiting(&http->drained_task));
    bk_list_remove(&http->metrics.link);
    bk_timer_close(http->timer);
    bk_timer_close(http->retire_timer);
    bk_loop_remove_turn_hook(&http->hook);
    http_exchanges_fini(http);
    while ((link = bk_list_pop(&http->spare_connections)) != NULL)
        bk_free(bk_container_of(link, struct http_connection, link));
    http_block_pool_fini(&http->blocks);
    if (http->proxies != NULL)
        http_proxies_destroy(http->proxies);
    BK_ASSERT(http->addresses.count == 0);
    bk_map_fini(&http->addresses);
    bk_free(http->read_buffer);
    bk_free(http);
}

struct bk_http_figures bk_http_figures(const struct bk_http *http) {
    struct bk_http_figures figures = http->figures;
    figures.requests = http->exchange_count;
    figures.unsent_bytes = http_sending_held_bytes(http);
    return figures;
}

struct bk_slice http_date(struct bk_http *http) {
    uint64_t now_ms = bk_loop_now_ms(http->options.loop);
    if (http->date_made_ms == 0 || now_ms - http->date_made_ms > DATE_AGE_MS) {
        char text[HTTP_DATE_BYTES + 1];
        time_t seconds = (time_t)(bk_clock_wall_ms() / 1000);
        struct tm parts;
        (void)gmtime_r(&seconds, &parts);
        (void)strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        memcpy(http->date, text, HTTP_DATE_BYTES);
        http->date_made_ms = now_ms;
    }
    return bk_slice_make(http->date, HTTP_DATE_BYTES);
}

/* --- listening -------------------------------------------------------------------------------- */

/* Once a minute at most: an operator has to act, but not to read. */
static void complain_of_cap(struct bk_http *http) {
    uint64_t now_ms = bk_loop_now_ms(http->options.loop);
    if (http->complained_ms != 0 && now_ms - http->complained_ms < COMPLAINT_MS)
        return;
    http->complained_ms = now_ms;
    bk_log_warn(&http->options.log, "connections_full",
                BK_INT("connections", http->options.connections_max));
}

static bool is_full(const struct bk_http *http) {
    const struct bk_upgrader *upgrader = http->options.upgrader;
    uint32_t count = http->figures.connections;
    if (upgrader != NULL)
        count += upgrader->connection_count(upgrader->user);
    return count >= http->options.connections_max;
}

/* The one closed makes room in a moment: see http_connection_closed. */
static void make_room(struct bk_http *http) {
    uint64_t now_ms = bk_loop_now_ms(http->options.loop);
    BK_LIST_FOR_EACH(link, &http->clocks[HTTP_CLOCK_IDLE]) {
        struct http_connection *connection =
            bk_container_of(link, struct http_connection, clock_link);
        if (now_ms - connection->clock_since_ms < IDLE_SPARED_MS)
            return;
        if (connection->output.length > 0 || connection->is_control)
            continue;
        http_connection_cut(connection);
        return;
    }
}

static void make_room_for_waiting(struct bk_http *http) {
    BK_LIST_FOR_EACH(link, &http->listeners) {
        if (bk_container_of(link, struct http_listener, link)->has_waiting) {
            make_room(http);
            return;
        }
    }
}

static void on_connection(uv_stream_t *stream, int status) {
    struct http_listener *listener = stream->data;
    struct bk_http *http = listener->http;
    if (status != 0)
        return;
    if (is_full(http)) {
        listener->has_waiting = true;
        complain_of_cap(http);
        make_room(http);
        return;
    }
    http_connection_accept(listener);
}

void http_accept_waiting(struct bk_http *http) {
    BK_LIST_FOR_EACH(link, &http->listeners) {
        struct http_listener *listener = bk_container_of(link, struct http_listener, link);
        if (!listener->has_waiting || is_full(http))
            continue;
        listener->has_waiting = false;
        http_connection_accept(listener);
    }
}

void http_connection_closed(struct bk_http *http) {
    http_accept_waiting(http);
    http_check_drained(http);
}

static struct http_listener *create_listener(struct bk_http *http, bool is_control) {
    struct http_listener *listener = bk_alloc_zero(sizeof(*listener));
    uv_loop_t *loop = bk_loop_uv(http->options.loop);
    listener->http = http;
    listener->is_control = is_control;
    BK_ASSERT((is_control ? uv_pipe_init(loop, &listener->socket.pipe, 0)
                          : uv_tcp_init(loop, &listener->socket.tcp)) == 0);
    listener->socket.handle.data = listener;
    bk_list_push(&http->listeners, &listener->link);
    http->listener_count++;
    return listener;
}

static void on_listener_closed(uv_handle_t *handle) {
    struct http_listener *listener = handle->data;
    struct bk_http *http = listener->http;
    http->listener_count--;
    bk_free(listener->path);
    bk_free(listener);
    http_check_drained(http);
}

static void close_listener(struct http_listener *listener) {
    bk_list_remove(&listener->link);
    if (listener->path != NULL)
        (void)unlink(listener->path);
    uv_close(&listener->socket.handle, on_listener_closed);
}

static enum bk_status resolve(struct bk_http *http, const char *host, uint16_t port,
                              struct sockaddr_storage *address, struct bk_error *error) {
    uv_getaddrinfo_t request;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    int result;
    if (host == NULL || host[0] == '\0' || strcmp(host, "*") == 0)
        host = "0.0.0.0";
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)address) == 0 ||
        uv_ip6_addr(host, port, (struct sockaddr_in6 *)address) == 0)
        return BK_OK;
    /* At the start only, so it may block. */
    result = uv_getaddrinfo(bk_loop_uv(http->options.loop), &request, NULL, host, NULL, &hints);
    if (result != 0)
        return bk_error_set(error, BK_INVALID,
                            "listen on %s: no such address (%s); give an IP address of this "
                            "machine, or * for all",
                            host, uv_strerror(result));
    memcpy(address, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
    uv_freeaddrinfo(request.addrinfo);
    if (address->ss_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    return BK_OK;
}

static uint16_t port_of(const uv_tcp_t *tcp) {
    struct sockaddr_storage address;
    int length = sizeof(address);
    if (uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &length) != 0)
        return 0;
    return ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                              : ((struct sockaddr_in6 *)&address)->sin6_port);
}

enum bk_status bk_http_listen(struct bk_http *http, const char *host, uint16_t port,
                              uint16_t *bound_port, struct bk_error *error) {
    struct sockaddr_storage address;
    struct http_listener *listener;
    enum bk_status status = resolve(http, host, port, &address, error);
    int result;
    if (status != BK_OK)
        return status;
    listener = create_listener(http, false);
    result = uv_tcp_bind(&listener->socket.tcp, (const struct sockaddr *)&address, 0);
    if (result == 0)
        result = uv_listen(&listener->socket.stream, BACKLOG, on_connection);
    if (result != 0) {
        close_listener(listener);
        return bk_error_set(error, BK_IO,
                            "listen on %s port %u: %s; is another server running there?",
                            host == NULL ? "*" : host, (unsigned int)port, uv_strerror(result));
    }
    if (bound_port != NULL)
        *bound_port = port_of(&listener->socket.tcp);
    return BK_OK;
}

/* A socket that a process left behind when it died. Anything else of that name is not ours to
 * remove. */
static enum bk_status remove_stale(const char *path, struct bk_error *error) {
    struct stat info;
    if (lstat(path, &info) != 0)
        return BK_OK;
    if (!S_ISSOCK(info.st_mode))
        return bk_error_set(error, BK_EXISTS,
                            "control socket %s: there is a file of that name; move it away", path);
    (void)unlink(path);
    return BK_OK;
}

enum bk_status bk_http_listen_control(struct bk_http *http, const char *path,
                                      struct bk_error *error) {
    size_t length = strlen(path);
    struct http_listener *listener;
    enum bk_status status;
    mode_t former;
    int result;
    if (length >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return bk_error_set(error, BK_INVALID,
                            "control socket %s: the path is longer than the system allows (107 "
                            "bytes); use a data directory with a shorter path",
                            path);
    status = remove_stale(path, error);
    if (status != BK_OK)
        return status;
    listener = create_listener(http, true);
    former = umask(0177);
    result = uv_pipe_bind(&listener->socket.pipe, path);
    (void)umask(former);
    if (result == 0)
        result = uv_listen(&listener->socket.stream, BACKLOG, on_connection);
    if (result != 0) {
        close_listener(listener);
        return bk_error_set(error, BK_IO, "control socket %s: %s", path, uv_strerror(result));
    }
    listener->path = bk_alloc(length + 1);
    memcpy(listener->path, path, length + 1);
    return BK_OK;
}

/* --- clocks ----------------------------------------------------------------------------------- */

void http_clocks_start(struct bk_http *http) {
    if (http->is_ticking)
        return;
    http->is_ticking = true;
    bk_timer_start(http->timer, HTTP_TICK_MS, HTTP_TICK_MS);
}

static void expire(struct http_connection *connection) {
    struct bk_http *http = connection->http;
    switch ((enum http_clock)connection->clock) {
    case HTTP_CLOCK_HEAD:
        http->figures.timeouts++;
        http_reading_refuse(connection, 408, "The request's head took too long to arrive.");
        break;
    case HTTP_CLOCK_BODY:
        http->figures.timeouts++;
        if (connection->state == HTTP_STATE_BODY) {
            http_reading_refuse(connection, 408, "The request's body took too long to arrive.");
        } else {
            connection->keeps_alive = false;
            http_connection_rest(connection);
        }
        break;
    case HTTP_CLOCK_LINGER:
        /* While there is something to send, the write clock decides. */
        if (connection->output.length > 0) {
            http_connection_wind(connection, HTTP_CLOCK_LINGER);
            break;
        }
        http_connection_cut(connection);
        break;
    case HTTP_CLOCK_IDLE:
        if (connection->output.length > 0) {
            http_connection_wind(connection, HTTP_CLOCK_IDLE);
            break;
        }
        http_connection_cut(connection);
        break;
    case HTTP_CLOCK_NONE:
    case HTTP_CLOCK_COUNT:
        BK_UNREACHABLE();
    }
}

static void check_clock(struct bk_http *http, enum http_clock clock, uint32_t timeout_ms) {
    struct bk_list *list = &http->clocks[clock];
    uint64_t now_ms = bk_loop_now_ms(http->options.loop);
    while (!bk_list_is_empty(list)) {
        struct http_connection *connection =
            bk_container_of(list->next, struct http_connection, clock_link);
        if (now_ms - connection->clock_since_ms < timeout_ms)
            return;
        expire(connection);
    }
}

static void on_tick(struct bk_timer *timer, void *user) {
    struct bk_http *http = user;
    const struct bk_http_options *options = &http->options;
    check_clock(http, HTTP_CLOCK_IDLE, options->idle_timeout_ms);
    check_clock(http, HTTP_CLOCK_HEAD, options->head_timeout_ms);
    check_clock(http, HTTP_CLOCK_BODY, options->body_timeout_ms);
    check_clock(http, HTTP_CLOCK_LINGER, options->linger_timeout_ms);
    http_sending_check(http);
    make_room_for_waiting(http);
    if (http->is_draining && bk_loop_now_ms(options->loop) >= http->drain_deadline_ms)
        bk_http_force(http);
    if (bk_list_is_empty(&http->connections)) {
        http->is_ticking = false;
        bk_timer_stop(timer);
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

static void on_drained_task(struct bk_task *task) {
    struct bk_http *http = bk_container_of(task, struct bk_http, drained_task);
    http->drained(http->drained_user);
}

void http_check_drained(struct bk_http *http) {
    if (!http->is_draining || http->is_drained || http->listener_count > 0 ||
        http->exchange_count > 0 || http->figures.connections > 0)
        return;
    http->is_drained = true;
    bk_loop_defer(http->options.loop, &http->drained_task);
}

static void retire(struct http_connection *connection) {
    if (connection->state != HTTP_STATE_IDLE && connection->state != HTTP_STATE_DISCARDING)
        return;
    if (connection->output.length == 0 && connection->state == HTTP_STATE_IDLE) {
        http_connection_cut(connection);
        return;
    }
    http_connection_move(connection, HTTP_STATE_LINGERING);
    http_sending_mark(connection);
}

static void close_listeners(struct bk_http *http) {
    struct bk_list *link;
    while ((link = http->listeners.next) != &http->listeners)
        close_listener(bk_container_of(link, struct http_listener, link));
}

static void retire_all(struct bk_http *http) {
    http->is_retired = true;
    bk_timer_stop(http->retire_timer);
    close_listeners(http);
    BK_LIST_FOR_EACH(node, &http->connections)
        retire(bk_container_of(node, struct http_connection, link));
    http_check_drained(http);
}

/* What lay in the sockets when the drain began was read before the second tick: between two ticks
 * the loop polls. */
static void on_retire_tick(struct bk_timer *timer, void *user) {
    struct bk_http *http = user;
    (void)timer;
    http->retire_ticks++;
    if (http->retire_ticks == RETIRE_LISTENERS_TICKS)
        close_listeners(http);
    if (http->retire_ticks == RETIRE_IDLE_TICKS)
        retire_all(http);
}

void bk_http_drain(struct bk_http *http, uint32_t deadline_ms, void (*drained)(void *user),
                   void *user) {
    BK_ASSERT(!http->is_draining && drained != NULL);
    http->is_draining = true;
    http->drained = drained;
    http->drained_user = user;
    http->drain_deadline_ms = bk_loop_now_ms(http->options.loop) + deadline_ms;
    if (deadline_ms < RETIRE_IDLE_TICKS * RETIRE_TICK_MS)
        retire_all(http);
    else
        bk_timer_start(http->retire_timer, RETIRE_TICK_MS, RETIRE_TICK_MS);
}

void bk_http_force(struct bk_http *http) {
    BK_ASSERT(http->is_draining);
    retire_all(http);
    BK_LIST_FOR_EACH(node, &http->connections)
        http_connection_cut(bk_container_of(node, struct http_connection, link));
}
