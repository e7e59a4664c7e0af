/*
 * Realtime: who listens hears of what happens as it happens, and of what happened while they were
 * away.
 *
 *   session.c, message.c, pending.c   WebSockets: messages and answers
 *   stream.c, topic.c                 the contract's event streams
 *   peer.c                            what both have in common: tenant, viewer, subscriptions
 *   budget.c                          what subscriptions take in memory
 *   viewer.c                          who looks, and whether they still may
 *   asker.c, judge.c                  what they may see: rules, asked once for each who asks
 *   filter.c                          which events they want, beyond their types
 *   item.c                            an event on its way, made once for each view of it
 *   gone.c                            what else went with what was deleted
 *   fan_out.c                         from the bus to all that ask, in slices
 *   replay.c                          what was missed, from the journal
 *   drain.c                           the end
 *
 * It is the one lossy reader of the journal: who does not keep up is closed, and comes back with
 * the cursor of the last frame. Nothing is queued here for anybody; what waits is the transport's,
 * bounded per connection.
 */
#include "realtime_private.h"

extern const struct bk_module bk_module_realtime;

enum {
    MESSAGE_ARENA_BYTES = 8 * 1024 * 1024, /* the tree of a record for picking its fields */
    TEXT_BYTES_MAX = 2 * 1024 * 1024,
    BODY_BYTES_MAX = 4 * 1024 * 1024, /* 1,000 topics of 2,500 characters, with escapes */
};

static const struct bk_option options[] = {
    {.name = "realtime-subscriptions-max-bytes",
     .type = BK_OPTION_BYTES,
     .offset = offsetof(struct realtime_options, subscriptions_max_bytes),
     .default_value = "256MiB",
     .minimum = 64 * 1024,
     .maximum = INT64_C(1) << 40,
     .argument = "BYTES",
     .help = "Memory of realtime subscriptions, of all connections; a tenant may have half."},
};

/* --- routes ----------------------------------------------------------------------------------- */

static void handle_connect(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct realtime *realtime = context->state;
    bool is_upgrade = bk_slice_equal_ignore_case(bk_request_header(request, BK_SLICE("upgrade")),
                                                 BK_SLICE("websocket"));
    if (bk_api_is_draining(request->api))
        bk_answer_error(request, BK_CLOSING, NULL);
    else if (request->responder->channel_accept == NULL)
        bk_answer_error(request, BK_INVALID, "Realtime has an end of its own: not in process.");
    else if (is_upgrade)
        realtime_session_accept(request, realtime);
    else if (request->method == BK_HEAD)
        bk_answer_empty(request);
    else
        realtime_stream_open(request, realtime);
}

static const struct bk_route routes[] = {
    {
        .method = BK_GET,
        .path = "/api/realtime",
        .access = BK_ACCESS_PUBLIC,
        .summary = "Opens a WebSocket (with Upgrade) or an event stream.",
        .tag = "realtime",
        .handle = handle_connect,
    },
    {
        .method = BK_POST,
        .path = "/api/realtime",
        .access = BK_ACCESS_PUBLIC,
        .body_max_bytes = BODY_BYTES_MAX,
        .has_json_body = true,
        .summary = "Says what an event stream is subscribed to.",
        .tag = "realtime",
        .handle = realtime_stream_subscribe,
    },
};

/* --- figures ---------------------------------------------------------------------------------- */

static void write_connections(struct bk_buffer *out, const struct realtime_figures *figures) {
    bk_buffer_append_literal(out, "# HELP bakend_realtime_connections Open connections.\n"
                                  "# TYPE bakend_realtime_connections gauge\n");
    bk_buffer_format(out, "bakend_realtime_connections{kind=\"websocket\"} %u\n",
                     figures->sessions);
    bk_buffer_format(out, "bakend_realtime_connections{kind=\"stream\"} %u\n", figures->streams);
}

static void write_judgements(struct bk_buffer *out, const struct realtime_figures *figures) {
    bk_buffer_append_literal(
        out,
        "# HELP bakend_realtime_rules_asked_total Rules asked of events, once for each asker.\n"
        "# TYPE bakend_realtime_rules_asked_total counter\n");
    bk_buffer_format(out, "bakend_realtime_rules_asked_total{of=\"memory\"} %llu\n",
                     (unsigned long long)figures->judged_in_memory);
    bk_buffer_format(out, "bakend_realtime_rules_asked_total{of=\"tables\"} %llu\n",
                     (unsigned long long)figures->judged_by_tables);
    bk_metric_write(out, "bakend_realtime_rules_late_total", "counter",
                    "Rules that were too slow, and answered no.", (double)figures->judged_too_late);
    bk_metric_write(out, "bakend_realtime_filters_asked_total", "counter",
                    "Filters asked of events, once for each filter and form.",
                    (double)figures->filtered);
    bk_metric_write(out, "bakend_realtime_overtaken_total", "counter",
                    "Times that rules held up so much that subscribers went on in the journal.",
                    (double)figures->overtaken);
}

static void on_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct realtime_figures *figures =
        &bk_container_of(source, struct realtime, metrics)->figures;
    write_connections(out, figures);
    bk_metric_write(out, "bakend_realtime_subscriptions", "gauge", "Subscriptions of all of them.",
                    figures->subscriptions);
    bk_metric_write(out, "bakend_realtime_subscription_bytes", "gauge",
                    "Memory of the subscriptions.", (double)figures->subscription_bytes);
    bk_metric_write(out, "bakend_realtime_subscriptions_refused_total", "counter",
                    "Subscriptions refused since there was no memory for them.",
                    (double)figures->subscriptions_refused);
    bk_metric_write(out, "bakend_realtime_frames_total", "counter",
                    "Event frames given to the transports.", (double)figures->frames);
    bk_metric_write(out, "bakend_realtime_slow_total", "counter",
                    "Connections ended because they did not keep up.", (double)figures->slow);
    bk_metric_write(out, "bakend_realtime_replays_total", "counter",
                    "Subscriptions that were sent what they had missed.", (double)figures->replays);
    bk_metric_write(out, "bakend_realtime_replays_refused_total", "counter",
                    "Subscriptions that began too far back to be sent it.",
                    (double)figures->replays_refused);
    write_judgements(out, figures);
    bk_metric_write(out, "bakend_realtime_revoked_total", "counter",
                    "Connections whose token was no longer valid.", (double)figures->revoked);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_tick(struct bk_timer *timer, void *user) {
    (void)timer;
    struct realtime *realtime = user;
    realtime_viewers_tick(realtime, realtime_now_ms(realtime));
    realtime_replays_tick(realtime);
    realtime_streams_tick(realtime, realtime_now_ms(realtime));
}

static enum bk_status listen(struct realtime *realtime, struct bk_error *error) {
    static const struct bk_slice patterns[] = {BK_SLICE_INIT("*"), BK_SLICE_INIT("_*")};
    for (size_t i = 0; i < BK_COUNT_OF(patterns); i++) {
        struct bk_subscription *subscription = &realtime->hearings[i].subscription;
        realtime->hearings[i].realtime = realtime;
        subscription->name = "realtime";
        subscription->phase = BK_PHASE_REALTIME;
        subscription->pattern = patterns[i];
        subscription->on_event = realtime_on_event;
        enum bk_status status = bk_bus_subscribe(realtime->context->bus, subscription);
        if (status != BK_OK)
            return bk_error_set(error, status, "realtime: the bus refuses its pattern");
    }
    realtime->tap.on_committed = realtime_on_committed;
    bk_bus_add_tap(realtime->context->bus, &realtime->tap);
    return BK_OK;
}

static enum bk_status init(struct bk_module_context *context, struct bk_error *error) {
    struct realtime *realtime = context->state;
    realtime->context = context;
    bk_task_init(&realtime->task, realtime_on_task);
    bk_list_init(&realtime->busy);
    bk_list_init(&realtime->viewers_by_check);
    bk_list_init(&realtime->sessions);
    bk_list_init(&realtime->streams);
    bk_list_init(&realtime->replays);
    bk_list_init(&realtime->questions);
    bk_map_init(&realtime->viewers);
    bk_map_init(&realtime->streams_by_id);
    bk_arena_init(&realtime->arena, MESSAGE_ARENA_BYTES);
    bk_buffer_init(&realtime->text, TEXT_BYTES_MAX);
    bk_buffer_init(&realtime->other_text, TEXT_BYTES_MAX);
    realtime->metrics.write = on_metrics;
    bk_api_add_metrics(context->api, &realtime->metrics);
    realtime->client_hook.tell = realtime_stream_tell;
    bk_api_set_client_hook(context->api, &realtime->client_hook);
    realtime->revocation.on_revoked = realtime_viewers_on_revoked;
    bk_api_add_revocation_hook(context->api, &realtime->revocation);
    realtime_drain_init(realtime);
    realtime->tick = bk_timer_create(context->loop, on_tick, realtime);
    bk_timer_set_background(realtime->tick);
    bk_timer_start(realtime->tick, REALTIME_TICK_MS, REALTIME_TICK_MS);
    return listen(realtime, error);
}

static void fini(struct bk_module_context *context) {
    struct realtime *realtime = context->state;
    BK_ASSERT(bk_list_is_empty(&realtime->sessions) && bk_list_is_empty(&realtime->streams));
    for (size_t i = 0; i < BK_COUNT_OF(realtime->hearings); i++)
        bk_bus_unsubscribe(context->bus, &realtime->hearings[i].subscription);
    bk_bus_remove_tap(&realtime->tap);
    bk_task_cancel(&realtime->task);
    BK_ASSERT(realtime->question_count == 0);
    bk_timer_close(realtime->tick);
    realtime_drain_stop(realtime);
    bk_map_fini(&realtime->viewers);
    bk_map_fini(&realtime->streams_by_id);
    bk_arena_fini(&realtime->arena);
    bk_buffer_fini(&realtime->text);
    bk_buffer_fini(&realtime->other_text);
}

const struct bk_module bk_module_realtime = {
    .name = "realtime",
    .summary = "Tells of events as they happen, over WebSockets and event streams.",
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct realtime_options),
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .state_size = sizeof(struct realtime),
    .init = init,
    .fini = fini,
    .tenant_open = realtime_tenant_open,
    .tenant_close = realtime_tenant_close,
};
