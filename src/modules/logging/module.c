/*
 * Logging: the first to see each event, and a record of each request.
 *
 *   event    ─┬─> one structured line on standard error      event_row.c
 *             └─> a row ─┐
 *   request  ──> a row ──┴─> waits in memory ─> logs.db      request_row.c, rows.c, journal.c
 *   GET /api/logs …  <──────────────────────────┘            routes.c
 *
 * Rows are in PocketBase's shape, in a database of their own per tenant that is not fsynced: logs
 * may lose their last second, and never cost a request anything. Past logs-rows-per-second they are
 * dropped and counted. Durable events are kept elsewhere, and whole: in the journal.
 *
 * Order at the end: stop writes what waits and closes every logs.db; tenants that close before then
 * leave their journal behind, detached, to finish in its own time.
 */
#include "logging_private.h"

extern const struct bk_module bk_module_logging;

static enum bk_status on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                               struct bk_event *event);
static void on_answered(struct bk_request_observer *observer, const struct bk_request *request);
static void write_metrics(struct bk_metrics_source *source, struct bk_buffer *out);
static void on_flush(struct bk_timer *timer, void *user);

static enum bk_status init(struct bk_module_context *context, struct bk_error *error) {
    static const struct bk_slice patterns[] = {BK_SLICE_INIT("*"), BK_SLICE_INIT("_*")};
    struct logging *logging = context->state;
    logging->context = context;
    bk_list_init(&logging->journals);
    for (size_t i = 0; i < BK_COUNT_OF(patterns); i++) {
        struct bk_subscription *subscription = &logging->subscriptions[i].subscription;
        logging->subscriptions[i].logging = logging;
        subscription->name = "logging";
        subscription->phase = BK_PHASE_LOGGING;
        subscription->pattern = patterns[i];
        subscription->on_event = on_event;
        enum bk_status status = bk_bus_subscribe(context->bus, subscription);
        if (status != BK_OK)
            return bk_error_set(error, status, "logging: the bus refuses its pattern");
    }
    logging->observer.on_answered = on_answered;
    bk_api_add_observer(context->api, &logging->observer);
    logging->metrics.write = write_metrics;
    bk_api_add_metrics(context->api, &logging->metrics);
    logging->flush_timer = bk_timer_create(context->loop, on_flush, logging);
    bk_timer_set_background(logging->flush_timer);
    bk_timer_start(logging->flush_timer, LOGGING_FLUSH_MS, LOGGING_FLUSH_MS);
    return BK_OK;
}

static void on_flag(void *user) { *(bool *)user = true; }

/* Where the start failed nobody called stop: tenants have closed and left journals behind. */
static void finish_journals(struct logging *logging) {
    bool is_over = bk_list_is_empty(&logging->journals);
    if (is_over)
        return;
    logging->stopped = on_flag;
    logging->stopped_user = &is_over;
    (void)bk_loop_run_until(logging->context->loop, &is_over);
    BK_ASSERT(bk_list_is_empty(&logging->journals));
}

static void fini(struct bk_module_context *context) {
    struct logging *logging = context->state;
    finish_journals(logging);
    for (size_t i = 0; i < BK_COUNT_OF(logging->subscriptions); i++)
        bk_bus_unsubscribe(context->bus, &logging->subscriptions[i].subscription);
    bk_timer_close(logging->flush_timer);
}

/* --- tenants ---------------------------------------------------------------------------------- */

static enum bk_status tenant_open(struct bk_module_context *context, struct bk_tenant *tenant,
                                  void **state, struct bk_error *error) {
    *state = logging_journal_open(context->state, tenant);
    if (*state == NULL)
        return bk_error_set(error, BK_INVALID, "logging: the path %s/logs.db is too long",
                            tenant->directory);
    return BK_OK;
}

static void tenant_close(struct bk_module_context *context, struct bk_tenant *tenant, void *state) {
    (void)context;
    (void)tenant;
    logging_journal_detach(state);
}

static void stop(struct bk_module_context *context, void (*stopped)(void *user), void *user) {
    struct logging *logging = context->state;
    BK_ASSERT(stopped != NULL && !logging->is_stopping);
    logging->is_stopping = true;
    uint32_t open_count = 0;
    BK_LIST_FOR_EACH(node, &logging->journals) {
        if (!logging_journal_is_over(bk_container_of(node, struct logging_journal, link)))
            open_count++;
    }
    if (open_count == 0) {
        stopped(user);
        return;
    }
    logging->stopped = stopped;
    logging->stopped_user = user;
    BK_LIST_FOR_EACH(node, &logging->journals) {
        logging_journal_end(bk_container_of(node, struct logging_journal, link));
    }
}

/* --- what is logged --------------------------------------------------------------------------- */

static struct logging_journal *journal_of(const struct logging *logging,
                                          const struct bk_tenant *tenant) {
    return tenant->slots[logging->context->tenant_slot];
}

static enum bk_status on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                               struct bk_event *event) {
    struct logging *logging =
        bk_container_of(subscription, struct logging_subscription, subscription)->logging;
    logging_event(logging, journal_of(logging, tenant), event);
    return BK_OK;
}

/* A request that was refused before its tenant was known is one of the default tenant's. */
static struct logging_journal *default_journal(const struct logging *logging) {
    BK_LIST_FOR_EACH(node, &logging->journals) {
        struct logging_journal *journal = bk_container_of(node, struct logging_journal, link);
        if (!journal->is_detached &&
            bk_slice_is(bk_slice_make(journal->tenant, journal->tenant_length), "default"))
            return journal;
    }
    return NULL;
}

static void on_answered(struct bk_request_observer *observer, const struct bk_request *request) {
    struct logging *logging = bk_container_of(observer, struct logging, observer);
    struct logging_journal *journal =
        request->tenant != NULL ? journal_of(logging, request->tenant) : default_journal(logging);
    if (journal != NULL)
        logging_request(logging, journal, request);
}

static void on_flush(struct bk_timer *timer, void *user) {
    (void)timer;
    struct logging *logging = user;
    BK_LIST_FOR_EACH(node, &logging->journals) {
        struct logging_journal *journal = bk_container_of(node, struct logging_journal, link);
        logging_rows_flush(journal);
        logging_rows_report(journal);
    }
}

static void write_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct logging *logging = bk_container_of(source, struct logging, metrics);
    bk_metric_write(out, "bakend_logs_rows_written_total", "counter",
                    "Rows written to the request and event log.", (double)logging->rows_written);
    bk_metric_write(out, "bakend_logs_rows_dropped_total", "counter",
                    "Rows left out of the request and event log: past logs-rows-per-second, or "
                    "while logs.db was not to be had.",
                    (double)logging->rows_dropped);
}

/* --- the module ------------------------------------------------------------------------------- */

static const struct bk_option options[] = {
    {"logs-rows-per-second", BK_OPTION_INT, offsetof(struct logging_options, rows_per_second),
     "500", 0, 1000000, "N",
     "Rows a second that /api/logs records per tenant; those past it are counted and dropped.",
     NULL},
    {"logs-max-days", BK_OPTION_INT, offsetof(struct logging_options, max_days), "5", 0, 36500,
     "DAYS", "Days that rows of /api/logs are kept; 0 records none.", NULL},
};

static const struct bk_route_parameter list_parameters[] = {
    {"page", "query", "integer=1", "The page, from 1."},
    {"perPage", "query", "integer=30", "Rows on a page, 1 to 1000; 30 when absent."},
    {"sort", "query", "string",
     "Fields to sort by, separated by commas, '-' before one for descending: -created,level. Also "
     "@rowid, @random and members of data: data.status."},
    {"skipTotal", "query", "boolean=false", "Leaves totals uncounted: they are -1."},
    {"fields", "query", "string", "Keeps only these fields in the answer; all when absent."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route routes[] = {
    {
        .method = BK_GET,
        .path = "/api/logs",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "logs:read",
        .summary = "Lists logged requests and events.",
        .tag = "logs",
        .parameters = list_parameters,
        .handle = logging_list,
    },
    {
        .method = BK_GET,
        .path = "/api/logs/stats",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "logs:read",
        .summary = "Counts logged requests and events by the hour.",
        .tag = "logs",
        .handle = logging_stats,
    },
    {
        .method = BK_GET,
        .path = "/api/logs/{id}",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "logs:read",
        .summary = "Reads one log row.",
        .tag = "logs",
        .handle = logging_view,
    },
};

const struct bk_module bk_module_logging = {
    .name = "logging",
    .summary = "Logs each event and request, and answers /api/logs.",
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct logging_options),
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .state_size = sizeof(struct logging),
    .init = init,
    .stop = stop,
    .fini = fini,
    .tenant_open = tenant_open,
    .tenant_close = tenant_close,
};
