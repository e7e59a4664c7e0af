/*
 * The transport as a whole: its options, its clocks and its end.
 *
 * One coarse timer serves all connections. Each kind of waiting has one timeout and one list, in
 * the order in which the waiting began, so a tick looks at the heads of a few lists. It runs only
 * while there are connections.
 */
#include "websocket_private.h"

#include "bakend/alloc.h"
#include "handshake.h"

/* --- the upgrader ----------------------------------------------------------------------------- */

static enum bk_status on_check(void *user, struct bk_request *request) {
    struct bk_websockets *websockets = user;
    enum bk_status status = BK_CLOSING;
    if (websockets->is_draining)
        bk_answer_error(request, BK_CLOSING, NULL);
    else
        status = websocket_handshake_check(request);
    if (status != BK_OK)
        websockets->figures.refused++;
    return status;
}

static uint32_t on_connection_count(void *user) {
    const struct bk_websockets *websockets = user;
    return websockets->figures.connections;
}

/* --- metrics ---------------------------------------------------------------------------------- */

static void on_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct bk_websockets *websockets = bk_container_of(source, struct bk_websockets, metrics);
    const struct bk_websocket_figures *figures = &websockets->figures;
    bk_metric_write(out, "bakend_websocket_connections", "gauge", "WebSockets open now.",
                    (double)figures->connections);
    bk_metric_write(out, "bakend_websocket_accepted_total", "counter", "Handshakes that succeeded.",
                    (double)figures->accepted);
    bk_metric_write(out, "bakend_websocket_refused_total", "counter", "Handshakes that did not.",
                    (double)figures->refused);
    bk_metric_write(out, "bakend_websocket_received_messages_total", "counter",
                    "Messages received.", (double)figures->messages_in);
    bk_metric_write(out, "bakend_websocket_sent_messages_total", "counter",
                    "Messages given to sockets.", (double)figures->messages_out);
    bk_metric_write(out, "bakend_websocket_received_bytes_total", "counter", "Bytes received.",
                    (double)figures->bytes_in);
    bk_metric_write(out, "bakend_websocket_sent_bytes_total", "counter", "Bytes sent.",
                    (double)figures->bytes_out);
    bk_metric_write(out, "bakend_websocket_queued_bytes", "gauge",
                    "Bytes that wait for peers to read.", (double)figures->queued_bytes);
    bk_metric_write(out, "bakend_websocket_violations_total", "counter",
                    "WebSockets ended because their peer broke the protocol.",
                    (double)figures->violations);
    bk_metric_write(out, "bakend_websocket_timeouts_total", "counter",
                    "WebSockets ended because their peer was gone or read nothing.",
                    (double)figures->timeouts);
}

/* --- life ------------------------------------------------------------------------------------- */

void bk_websocket_options_init(struct bk_websocket_options *options) {
    *options = (struct bk_websocket_options){
        .message_max_bytes = 64 * 1024,
        .queue_max_bytes = 1024 * 1024,
        .queued_max_bytes = (size_t)256 * 1024 * 1024,
        .ping_interval_ms = 25000,
        .pong_timeout_ms = 20000,
        .close_timeout_ms = 5000,
        .write_timeout_ms = 30000,
    };
}

static void on_tick(struct bk_timer *timer, void *user);

static void on_drained_task(struct bk_task *task) {
    struct bk_websockets *websockets = bk_container_of(task, struct bk_websockets, drained_task);
    websockets->drained(websockets->drained_user);
}

/* Its waiting is what keeps the loop from sleeping before the next portion. */
static void on_more(struct bk_task *task) { (void)task; }

static void init_lists(struct bk_websockets *websockets) {
    bk_list_init(&websockets->connections);
    bk_list_init(&websockets->writing);
    bk_list_init(&websockets->dirty);
    bk_list_init(&websockets->drained_ones);
    bk_list_init(&websockets->starved);
    for (size_t i = 0; i < WEBSOCKET_CLOCK_COUNT; i++)
        bk_list_init(&websockets->clocks[i]);
}

struct bk_websockets *bk_websockets_create(const struct bk_websocket_options *options) {
    struct bk_websockets *websockets = bk_alloc_zero(sizeof(*websockets));
    BK_ASSERT(options->loop != NULL && options->queue_max_bytes > 0);
    websockets->options = *options;
    init_lists(websockets);
    bk_task_init(&websockets->drain_task, websocket_sending_on_drain_task);
    bk_task_init(&websockets->more_task, on_more);
    bk_task_init(&websockets->drained_task, on_drained_task);
    websockets->upgrader = (struct bk_upgrader){.user = websockets,
                                                .check = on_check,
                                                .take = websocket_connection_take,
                                                .connection_count = on_connection_count};
    websockets->hook.on_turn_end = websocket_sending_on_turn_end;
    bk_loop_add_turn_hook(options->loop, &websockets->hook);
    websockets->timer = bk_timer_create(options->loop, on_tick, websockets);
    bk_timer_set_background(websockets->timer);
    websockets->read_buffer = bk_alloc(WEBSOCKET_READ_BUFFER_BYTES);
    websockets->ping = websocket_frame_create(WEBSOCKET_PING, BK_SLICE_EMPTY);
    websockets->metrics.write = on_metrics;
    bk_list_init(&websockets->metrics.link);
    if (options->api != NULL)
        bk_api_add_metrics(options->api, &websockets->metrics);
    return websockets;
}

const struct bk_upgrader *bk_websockets_upgrader(struct bk_websockets *websockets) {
    return &websockets->upgrader;
}

void bk_websockets_destroy(struct bk_websockets *websockets) {
    BK_ASSERT(bk_list_is_empty(&websockets->connections));
    BK_ASSERT(!bk_task_is_waiting(&websockets->drained_task));
    BK_ASSERT(websockets->own_bytes == 0 && websockets->gathered_bytes == 0 &&
              websockets->figures.queued_bytes == 0);
    bk_task_cancel(&websockets->drain_task);
    bk_task_cancel(&websockets->more_task);
    bk_list_remove(&websockets->metrics.link);
    bk_timer_close(websockets->timer);
    bk_loop_remove_turn_hook(&websockets->hook);
    bk_shared_unref(websockets->ping);
    bk_free(websockets->read_buffer);
    bk_free(websockets);
}

struct bk_websocket_figures bk_websockets_figures(const struct bk_websockets *websockets) {
    return websockets->figures;
}

/* --- clocks ----------------------------------------------------------------------------------- */

void websocket_clocks_start(struct bk_websockets *websockets) {
    if (websockets->is_ticking)
        return;
    websockets->is_ticking = true;
    bk_timer_start(websockets->timer, WEBSOCKET_TICK_MS, WEBSOCKET_TICK_MS);
}

/* The connection that has waited longest, when that is long enough; else NULL. */
static struct websocket_connection *expired(struct bk_websockets *websockets,
                                            enum websocket_clock clock, uint32_t timeout_ms) {
    struct bk_list *list = &websockets->clocks[clock];
    struct websocket_connection *connection;
    if (bk_list_is_empty(list))
        return NULL;
    connection = bk_container_of(list->next, struct websocket_connection, clock_link);
    if (bk_loop_now_ms(websockets->options.loop) - connection->clock_since_ms < timeout_ms)
        return NULL;
    return connection;
}

static void check_clocks(struct bk_websockets *websockets) {
    const struct bk_websocket_options *options = &websockets->options;
    struct websocket_connection *connection;
    while ((connection = expired(websockets, WEBSOCKET_CLOCK_PINGED, options->pong_timeout_ms)) !=
           NULL) {
        websockets->figures.timeouts++;
        websocket_connection_break(connection);
    }
    while ((connection = expired(websockets, WEBSOCKET_CLOCK_CLOSING, options->close_timeout_ms)) !=
           NULL) {
        websockets->figures.timeouts += connection->state == WEBSOCKET_STATE_CLOSING;
        websocket_connection_break(connection);
    }
    for (uint32_t i = 0;
         i < WEBSOCKET_TICK_PINGS_MAX && (connection = expired(websockets, WEBSOCKET_CLOCK_QUIET,
                                                               options->ping_interval_ms)) != NULL;
         i++) {
        websocket_connection_wind(connection, WEBSOCKET_CLOCK_PINGED);
        websocket_sending_push(connection, bk_shared_ref(websockets->ping), WEBSOCKET_KIND_CONTROL);
    }
}

static void send_away(struct bk_websockets *websockets) {
    websockets->has_sent_away = true;
    BK_LIST_FOR_EACH(link, &websockets->connections) {
        struct websocket_connection *connection =
            bk_container_of(link, struct websocket_connection, link);
        websocket_connection_close(connection, WEBSOCKET_CODE_GOING_AWAY,
                                   BK_SLICE("the server is shutting down"));
    }
}

static void check_drain(struct bk_websockets *websockets) {
    uint64_t now_ms = bk_loop_now_ms(websockets->options.loop);
    if (!websockets->is_draining || now_ms < websockets->drain_deadline_ms)
        return;
    if (!websockets->has_sent_away)
        send_away(websockets);
    else if (now_ms - websockets->drain_deadline_ms >= WEBSOCKET_CUT_MS)
        bk_websockets_force(websockets);
}

static void on_tick(struct bk_timer *timer, void *user) {
    struct bk_websockets *websockets = user;
    check_clocks(websockets);
    websocket_sending_check(websockets);
    check_drain(websockets);
    if (bk_list_is_empty(&websockets->connections)) {
        websockets->is_ticking = false;
        bk_timer_stop(timer);
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

void websocket_check_drained(struct bk_websockets *websockets) {
    if (!websockets->is_draining || websockets->is_drained ||
        !bk_list_is_empty(&websockets->connections))
        return;
    websockets->is_drained = true;
    bk_loop_defer(websockets->options.loop, &websockets->drained_task);
}

void bk_websockets_drain(struct bk_websockets *websockets, uint32_t deadline_ms,
                         void (*drained)(void *user), void *user) {
    BK_ASSERT(!websockets->is_draining && drained != NULL);
    websockets->is_draining = true;
    websockets->drained = drained;
    websockets->drained_user = user;
    websockets->drain_deadline_ms = bk_loop_now_ms(websockets->options.loop) + deadline_ms;
    websocket_check_drained(websockets);
}

void bk_websockets_force(struct bk_websockets *websockets) {
    BK_ASSERT(websockets->is_draining);
    BK_LIST_FOR_EACH(link, &websockets->connections)
        websocket_connection_break(bk_container_of(link, struct websocket_connection, link));
}
