/*
 * The change feed as a product: everything durable that happened in a tenant, in order, to be read
 * from any place and without a hole.
 *
 *   query.c         what a request asks for, and format.c in which form
 *   events.c        the pages, also those that wait, and the single event
 *   stream.c        the stream of server-sent events
 *   waiting.c       readers that wait, woken by the events that concern them
 *   tail_command.c  `bakend events tail`
 *   consumer.c      named consumers: places that the server keeps, and consumer_*.c
 *
 * All reading is the kernel's feed; this module is its surface over HTTP. It declares the bus's own
 * event too, since the bus, being kernel, has no module of its own.
 */
#include "changefeed_private.h"

#include "bakend/alloc.h"

extern const struct bk_module bk_module_changefeed;

static const struct bk_route_parameter list_parameters[] = {
    {"after", "query", "string=start",
     "Where to begin: a cursor, \"start\", \"now\" or an RFC 3339 time; the page begins behind "
     "it, with desc before it. start when absent, with desc now."},
    {"types", "query", "string=*",
     "Event types, separated by commas: posts.created, users.*, *.deleted, _*. * when absent: all "
     "but those that begin with _; types=*,_* is everything."},
    {"subject", "query", "string", "Only events about this one: posts/abc."},
    {"filter", "query", "string",
     "Only events that it holds for, in the language of filters: payload.total >= 50 && source = "
     "\"collections\". At most 10,000 events are looked at for one page."},
    {"limit", "query", "integer=100", "Events on a page, 1 to 1000; 100 when absent."},
    {"order", "query", "string=asc", "asc (oldest first, the default) or desc."},
    {"wait", "query", "integer=0",
     "Seconds to wait for a matching event when there is none, 0 to 60; 0 when absent."},
    {"last-event-id", "header", "string",
     "Of a stream: the cursor to go on behind; it goes before after. An EventSource sends it by "
     "itself."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route_parameter consumer_list_parameters[] = {
    {"page", "query", "integer=1", "The page, from 1."},
    {"perPage", "query", "integer=30", "Consumers a page, at most 200; 30 when absent."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_system_collection collections[] = {
    {.definition = "{\"name\":\"_consumers\",\"type\":\"base\",\"system\":true,\"fields\":["
                   "{\"name\":\"name\",\"type\":\"text\",\"required\":true,\"presentable\":true,"
                   "\"min\":1,\"max\":100},"
                   "{\"name\":\"types\",\"type\":\"json\"},"
                   "{\"name\":\"subject\",\"type\":\"text\",\"max\":1024},"
                   "{\"name\":\"filter\",\"type\":\"text\"},"
                   "{\"name\":\"cursor\",\"type\":\"text\"},"
                   "{\"name\":\"isLost\",\"type\":\"bool\"},"
                   "{\"name\":\"lease\",\"type\":\"text\"},"
                   "{\"name\":\"leaseUntil\",\"type\":\"date\"},"
                   "{\"name\":\"leaseCursor\",\"type\":\"text\"},"
                   "{\"name\":\"created\",\"type\":\"autodate\",\"onCreate\":true},"
                   "{\"name\":\"updated\",\"type\":\"autodate\",\"onCreate\":true,"
                   "\"onUpdate\":true}],"
                   "\"indexes\":[\"CREATE UNIQUE INDEX `idx__consumers_name` ON `_consumers` "
                   "(`name`)\"]}",
     .role = BK_ROLE_STATE,
     .is_closed = true,
     .alias = "consumers"},
};

static const struct bk_route routes[] = {
    {
        .method = BK_GET,
        .path = "/api/events",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .summary = "Reads the change feed: a page as JSON, as lines (application/x-ndjson) or as "
                   "CloudEvents (application/cloudevents-batch+json), or a stream of all that "
                   "comes (text/event-stream, at most 1000 a tenant), by the header Accept.",
        .tag = "events",
        .parameters = list_parameters,
        .handle = changefeed_list,
    },
    {
        .method = BK_GET,
        .path = "/api/events/{id}",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .summary = "Reads one event.",
        .tag = "events",
        .handle = changefeed_view,
    },
    {
        .method = BK_GET,
        .path = "/api/consumers",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .summary = "Lists the named consumers, by name, with their lag.",
        .tag = "consumers",
        .parameters = consumer_list_parameters,
        .handle = changefeed_consumers_list,
    },
    {
        .method = BK_GET,
        .path = "/api/consumers/{name}",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .summary = "Answers a named consumer: where it stands and how far behind.",
        .tag = "consumers",
        .handle = changefeed_consumer_view,
    },
    {
        .method = BK_PUT,
        .path = "/api/consumers/{name}",
        .access = BK_ACCESS_SUPERUSER,
        .body_max_bytes = CHANGEFEED_CONSUMER_BODY_BYTES_MAX,
        .has_json_body = true,
        .summary = "Makes a named consumer, or defines it anew: {types, subject, filter, after}.",
        .tag = "consumers",
        .handle = changefeed_consumer_put,
    },
    {
        .method = BK_DELETE,
        .path = "/api/consumers/{name}",
        .access = BK_ACCESS_SUPERUSER,
        .summary = "Removes a named consumer and its position.",
        .tag = "consumers",
        .handle = changefeed_consumer_delete,
    },
    {
        .method = BK_POST,
        .path = "/api/consumers/{name}/poll",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .body_max_bytes = CHANGEFEED_CONSUMER_BODY_BYTES_MAX,
        .has_json_body = true,
        .summary = "Hands out the next events under a lease: {limit, wait, leaseMs}.",
        .tag = "consumers",
        .handle = changefeed_consumer_poll_begin,
    },
    {
        .method = BK_POST,
        .path = "/api/consumers/{name}/commit",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .body_max_bytes = CHANGEFEED_CONSUMER_BODY_BYTES_MAX,
        .has_json_body = true,
        .summary = "Moves the position forward, within what was handed out: {cursor, lease}.",
        .tag = "consumers",
        .handle = changefeed_consumer_commit,
    },
    {
        .method = BK_POST,
        .path = "/api/consumers/{name}/seek",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .body_max_bytes = CHANGEFEED_CONSUMER_BODY_BYTES_MAX,
        .has_json_body = true,
        .summary = "Moves the position to a cursor, start, now or a time, and ends the lease: "
                   "{after}.",
        .tag = "consumers",
        .handle = changefeed_consumer_seek,
    },
};

static const struct bk_event_declaration events[] = {
    {"bus.chain_cut", true, "BusChainCut",
     "A chain of events that caused each other became too long: functions and plugins did not get "
     "this one."},
    {"consumer.lost", true, "ConsumerLost",
     "The events behind a named consumer's position were pruned: it has to be sought."},
};

static const struct bk_command commands[] = {
    {.name = "events",
     .usage = "events tail [--types TYPE,…] [--subject SUBJECT] [--filter FILTER] [--after CURSOR] "
              "[--limit COUNT] [--no-follow] [--data DIR] [--tenant NAME] [--json]",
     .summary =
         "Shows what happens in a tenant, as it happens.\n\n"
         "Begins with the last 10 events, or --limit, and follows. With --after it begins behind\n"
         "a cursor, \"start\", \"now\" or an RFC 3339 time, and ends after --limit events when a\n"
         "limit is given. --no-follow ends with the newest event, as does a stopped server. On\n"
         "Ctrl-C the cursor to go on from is printed on standard error. --json prints the events\n"
         "themselves, one a line.",
     .run = changefeed_run_events},
};

/* --- figures ---------------------------------------------------------------------------------- */

static void write_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct changefeed_state *state =
        bk_container_of(source, struct changefeed_state, metrics);
    bk_metric_write(out, "bakend_changefeed_streams", "gauge", "Streams of events open now.",
                    state->stream_count);
    bk_metric_write(out, "bakend_changefeed_waiting", "gauge",
                    "Readers that wait for an event now: long polls and streams.",
                    state->waiting_count);
    bk_metric_write(out, "bakend_changefeed_streamed_events_total", "counter",
                    "Events written into streams.", (double)state->streamed_count);
}

/* --- life ------------------------------------------------------------------------------------- */

static enum bk_status init(struct bk_module_context *context, struct bk_error *error) {
    struct changefeed_state *state = context->state;
    (void)error;
    state->context = context;
    changefeed_waiting_init(state);
    changefeed_guards_init(state);
    changefeed_streams_init(state);
    state->metrics.write = write_metrics;
    bk_api_add_metrics(context->api, &state->metrics);
    changefeed_consumers_init(state);
    return BK_OK;
}

static void fini(struct bk_module_context *context) {
    changefeed_consumers_fini(context->state);
    changefeed_streams_fini(context->state);
    changefeed_waiting_fini(context->state);
}

static enum bk_status tenant_open(struct bk_module_context *context, struct bk_tenant *tenant,
                                  void **state, struct bk_error *error) {
    struct changefeed_tenant *own = bk_alloc_zero(sizeof *own);
    own->interests = bk_interests_create();
    *state = own;
    enum bk_status status = changefeed_consumers_open(context->state, tenant, own, error);
    if (status != BK_OK) {
        bk_interests_destroy(own->interests);
        bk_free(own);
        *state = NULL;
    }
    return status;
}

static void tenant_close(struct bk_module_context *context, struct bk_tenant *tenant, void *state) {
    (void)context;
    (void)tenant;
    struct changefeed_tenant *own = state;
    BK_ASSERT(own->stream_count == 0);
    changefeed_consumers_close(own);
    bk_interests_destroy(own->interests);
    bk_free(own);
}

const struct bk_module bk_module_changefeed = {
    .name = "changefeed",
    .summary = "Reads what happened, in order and without a hole.",
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .collections = collections,
    .collection_count = BK_COUNT_OF(collections),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .commands = commands,
    .command_count = BK_COUNT_OF(commands),
    .state_size = sizeof(struct changefeed_state),
    .init = init,
    .fini = fini,
    .tenant_open = tenant_open,
    .tenant_close = tenant_close,
};
