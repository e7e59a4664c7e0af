/*
 * Metrics: GET /metrics, the figures of the whole program in the Prometheus text format 0.0.4.
 *
 * The figures belong to whoever counts them; here they are read and written, once per scrape.
 * Transports and modules add their own with bk_api_add_metrics. The page shows how much is going on
 * in all tenants together, so it is for operators, the superusers of "default" (Prometheus sends a
 * token as `authorization: credentials`), unless the option metrics-public says otherwise.
 */
#include "metrics.h"

extern const struct bk_module bk_module_metrics;

struct metrics_options {
    bool is_public;
};

static const struct bk_option options[] = {
    {.name = "metrics-public",
     .type = BK_OPTION_BOOL,
     .offset = offsetof(struct metrics_options, is_public),
     .default_value = "false",
     .help = "Show /metrics to everyone instead of operators only."},
};

static void handle_metrics(struct bk_request *request) {
    request->content_type = "text/plain; version=0.0.4; charset=utf-8";
    bk_api_write_metrics(request->api, &request->out);
    bk_answer(request, 200);
}

#define METRICS_ROUTE(who)                                                                         \
    {                                                                                              \
        .method = BK_GET, .path = "/metrics", .access = (who), .tag = "metrics",                   \
        .summary = "The figures of the program, in the Prometheus text format.",                   \
        .handle = handle_metrics                                                                   \
    }
static const struct bk_route guarded_route = METRICS_ROUTE(BK_ACCESS_OPERATOR);
static const struct bk_route public_route = METRICS_ROUTE(BK_ACCESS_PUBLIC);

static void write_all(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct metrics_state *state = bk_container_of(source, struct metrics_state, source);
    metrics_write_store(state->context, out);
    metrics_write_events(state->context, out);
    metrics_write_process(state->context, out);
}

static enum bk_status init(struct bk_module_context *context, struct bk_error *error) {
    const struct metrics_options *own = context->options;
    struct metrics_state *state = context->state;
    const struct bk_route *route = own->is_public ? &public_route : &guarded_route;
    state->context = context;
    state->source.write = write_all;
    bk_api_add_metrics(context->api, &state->source);
    if (bk_api_add_routes(context->api, route, 1, context) != BK_OK)
        return bk_error_set(error, BK_EXISTS, "metrics: another module has the route /metrics");
    return BK_OK;
}

const struct bk_module bk_module_metrics = {
    .name = "metrics",
    .summary = "Figures for Prometheus.",
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct metrics_options),
    .state_size = sizeof(struct metrics_state),
    .init = init,
};
