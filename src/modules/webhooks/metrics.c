/*
 * Figures of webhooks: of each endpoint how much waits, how old that is, and how its last attempts
 * went, for `GET /api/webhooks/{id}/stats` and for Prometheus. There at most SERIES_MAX endpoints
 * are named, in the order in which they were made, so that a series stays whose it is; the rest is
 * summed. All is in memory and of open tenants: a scrape asks no database.
 *
 * Latency is of the last LAST_MAX attempts, to the millisecond, timeouts included.
 */
#include "routes.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

#include <stdlib.h>

enum { LAST_MAX = 128, SERIES_MAX = 1000 };

struct webhooks_figures {
    uint64_t attempts, failures;
    uint16_t *last_ms; /* a ring; NULL before the first attempt */
    uint32_t next, count;
};

/* --- of an endpoint --------------------------------------------------------------------------- */

void webhooks_figures_open(struct webhooks_endpoint *endpoint) {
    endpoint->figures = bk_alloc_zero(sizeof(*endpoint->figures));
}

void webhooks_figures_close(struct webhooks_endpoint *endpoint) {
    if (endpoint->figures != NULL)
        bk_free(endpoint->figures->last_ms);
    bk_free(endpoint->figures);
    endpoint->figures = NULL;
}

void webhooks_figures_count(struct webhooks_endpoint *endpoint,
                            const struct webhooks_result *result) {
    struct webhooks_figures *figures = endpoint->figures;
    figures->attempts++;
    figures->failures += result->verdict != WEBHOOKS_OK;
    if (figures->last_ms == NULL)
        figures->last_ms = bk_alloc_zero(LAST_MAX * sizeof(*figures->last_ms));
    figures->last_ms[figures->next] =
        result->latency_ms < UINT16_MAX ? (uint16_t)result->latency_ms : UINT16_MAX;
    figures->next = (figures->next + 1) % LAST_MAX;
    if (figures->count < LAST_MAX)
        figures->count++;
}

static int compare(const void *a, const void *b) {
    const uint16_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

/* The smallest that at least so many of a hundred do not exceed. */
static uint32_t rank(const uint16_t *sorted, uint32_t count, uint32_t percent) {
    return sorted[(count * percent + 99) / 100 - 1];
}

struct webhooks_figures_facts webhooks_figures_facts(const struct webhooks_endpoint *endpoint) {
    const struct webhooks_figures *figures = endpoint->figures;
    struct webhooks_figures_facts facts = {
        .attempts = figures->attempts, .failures = figures->failures, .measured = figures->count};
    uint16_t sorted[LAST_MAX];
    if (figures->count == 0)
        return facts;
    memcpy(sorted, figures->last_ms, figures->count * sizeof(*sorted));
    qsort(sorted, figures->count, sizeof(*sorted), compare);
    facts.p50_ms = rank(sorted, figures->count, 50);
    facts.p99_ms = rank(sorted, figures->count, 99);
    return facts;
}

/* One that is live has only what it was handed; behind that, whether it asked for an event is not
 * known before it is looked at. One that rests has no position that could tell. */
struct webhooks_backlog webhooks_backlog(const struct webhooks_endpoint *endpoint) {
    struct webhooks_backlog backlog = {0};
    int64_t oldest_ms = webhooks_hand_oldest_ms(endpoint);
    if (endpoint->is_open) {
        struct bk_position_facts facts = bk_position_facts(&endpoint->position);
        backlog.events = facts.state == BK_POSITION_LIVE ? facts.handed : facts.lag;
    } else if (endpoint->config->is_resting) {
        uint64_t last = bk_journal_state(endpoint->of->tenant->database).last;
        backlog.events = last > endpoint->ended ? last - endpoint->ended : 0;
    }
    if (oldest_ms > 0 && backlog.events > 0) {
        int64_t age_ms = bk_clock_wall_ms() - oldest_ms;
        backlog.oldest_age_ms = age_ms > 0 ? age_ms : 0;
    }
    return backlog;
}

/* --- for Prometheus --------------------------------------------------------------------------- */

struct series {
    const struct webhooks_endpoint *endpoint; /* NULL: the rest */
    struct webhooks_backlog backlog;
    struct webhooks_figures_facts facts;
};

struct figures {
    const struct webhooks_state *state;
    struct series *series; /* SERIES_MAX, then the rest */
    size_t count;
    struct series rest;
    bool has_rest;
    uint32_t enabled, disabled, unreadable, waiting[WEBHOOKS_CLASS_COUNT];
    uint32_t breakers_closed, breakers_open, breakers_half_open;
};

static void sum(struct series *rest, const struct series *more) {
    rest->backlog.events += more->backlog.events;
    if (rest->backlog.oldest_age_ms < more->backlog.oldest_age_ms)
        rest->backlog.oldest_age_ms = more->backlog.oldest_age_ms;
    rest->facts.attempts += more->facts.attempts;
    rest->facts.failures += more->facts.failures;
}

static void count_states(struct figures *figures, const struct webhooks_endpoint *endpoint) {
    struct webhooks_queue_facts queue = webhooks_queue_facts(endpoint);
    struct bk_slice breaker = bk_slice_from(webhooks_health_name(endpoint));
    for (int class = 0; class < WEBHOOKS_CLASS_COUNT; class ++)
        figures->waiting[class] += queue.waiting[class];
    if (endpoint->config->problem != WEBHOOKS_SOUND) {
        figures->unreadable++;
        return;
    }
    if (!endpoint->config->is_enabled) {
        figures->disabled++;
        return;
    }
    figures->enabled++;
    if (bk_slice_is(breaker, "open"))
        figures->breakers_open++;
    else if (bk_slice_is(breaker, "half-open"))
        figures->breakers_half_open++;
    else
        figures->breakers_closed++;
}

static void on_tenant(struct bk_tenant *tenant, void *user) {
    struct figures *figures = user;
    const struct webhooks_tenant *own = webhooks_tenant_of(figures->state, tenant);
    if (own == NULL)
        return;
    BK_LIST_FOR_EACH(node, &own->endpoints) {
        const struct webhooks_endpoint *endpoint =
            bk_container_of(node, struct webhooks_endpoint, link);
        struct series series = {.endpoint = endpoint, .backlog = webhooks_backlog(endpoint)};
        count_states(figures, endpoint);
        series.facts.attempts = endpoint->figures->attempts;
        series.facts.failures = endpoint->figures->failures;
        if (figures->count < SERIES_MAX) {
            series.facts = webhooks_figures_facts(endpoint);
            figures->series[figures->count++] = series;
        } else {
            figures->has_rest = true;
            sum(&figures->rest, &series);
        }
    }
}

static void write_head(struct bk_buffer *out, const char *name, const char *type,
                       const char *help) {
    bk_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_name(struct bk_buffer *out, const char *name, const struct series *series,
                       const char *more) {
    const struct webhooks_endpoint *endpoint = series->endpoint;
    struct bk_slice tenant = endpoint == NULL ? BK_SLICE_EMPTY : endpoint->of->tenant->name;
    bk_buffer_format(out, "%s{tenant=\"%.*s\",webhook=\"%s\"%s} ", name, BK_SLICE_PRINT(tenant),
                     endpoint == NULL ? "others" : endpoint->id, more);
}

static uint64_t backlog_of(const struct series *series) { return series->backlog.events; }
static uint64_t attempts_of(const struct series *series) { return series->facts.attempts; }
static uint64_t failures_of(const struct series *series) { return series->facts.failures; }

static void write_counts(struct bk_buffer *out, const struct figures *figures, const char *name,
                         uint64_t (*value_of)(const struct series *series)) {
    for (size_t i = 0; i < figures->count + (figures->has_rest ? 1 : 0); i++) {
        const struct series *series = i < figures->count ? &figures->series[i] : &figures->rest;
        write_name(out, name, series, "");
        bk_buffer_format(out, "%llu\n", (unsigned long long)value_of(series));
    }
}

static void write_ages(struct bk_buffer *out, const struct figures *figures) {
    static const char name[] = "bakend_webhook_oldest_seconds";
    write_head(out, name, "gauge", "Age of the oldest event that an endpoint was not sent yet.");
    for (size_t i = 0; i < figures->count + (figures->has_rest ? 1 : 0); i++) {
        const struct series *series = i < figures->count ? &figures->series[i] : &figures->rest;
        write_name(out, name, series, "");
        bk_buffer_format(out, "%.3f\n", (double)series->backlog.oldest_age_ms / 1000);
    }
}

static void write_latencies(struct bk_buffer *out, const struct figures *figures) {
    static const char name[] = "bakend_webhook_latency_seconds";
    write_head(out, name, "gauge", "How long the last 128 attempts of an endpoint took.");
    for (size_t i = 0; i < figures->count; i++) {
        const struct series *series = &figures->series[i];
        if (series->facts.measured == 0)
            continue;
        write_name(out, name, series, ",quantile=\"0.5\"");
        bk_buffer_format(out, "%.3f\n", (double)series->facts.p50_ms / 1000);
        write_name(out, name, series, ",quantile=\"0.99\"");
        bk_buffer_format(out, "%.3f\n", (double)series->facts.p99_ms / 1000);
    }
}

static void write_each(struct bk_buffer *out, const struct figures *figures) {
    write_head(out, "bakend_webhook_backlog_events", "gauge",
               "Events that an endpoint has not been sent yet; while it is behind, those that it "
               "may not have asked for as well.");
    write_counts(out, figures, "bakend_webhook_backlog_events", backlog_of);
    write_ages(out, figures);
    write_head(out, "bakend_webhook_attempts_total", "counter", "Attempts, since the start.");
    write_counts(out, figures, "bakend_webhook_attempts_total", attempts_of);
    write_head(out, "bakend_webhook_failures_total", "counter", "Those that failed.");
    write_counts(out, figures, "bakend_webhook_failures_total", failures_of);
    write_latencies(out, figures);
}

static void write_module(struct bk_buffer *out, const struct figures *figures) {
    const struct webhooks_state *state = figures->state;
    bk_buffer_format(out,
                     "# HELP bakend_webhooks Webhooks of open tenants.\n"
                     "# TYPE bakend_webhooks gauge\n"
                     "bakend_webhooks{state=\"enabled\"} %u\n"
                     "bakend_webhooks{state=\"disabled\"} %u\n"
                     "bakend_webhooks{state=\"without_secret\"} %u\n",
                     figures->enabled, figures->disabled, figures->unreadable);
    bk_buffer_format(out,
                     "# HELP bakend_webhooks_breakers Breakers of enabled ones, by state.\n"
                     "# TYPE bakend_webhooks_breakers gauge\n"
                     "bakend_webhooks_breakers{state=\"closed\"} %u\n"
                     "bakend_webhooks_breakers{state=\"open\"} %u\n"
                     "bakend_webhooks_breakers{state=\"half-open\"} %u\n",
                     figures->breakers_closed, figures->breakers_open, figures->breakers_half_open);
    bk_buffer_format(out,
                     "# HELP bakend_webhooks_waiting Requests in memory that wait for their turn.\n"
                     "# TYPE bakend_webhooks_waiting gauge\n"
                     "bakend_webhooks_waiting{class=\"first\"} %u\n"
                     "bakend_webhooks_waiting{class=\"retry\"} %u\n"
                     "bakend_webhooks_waiting{class=\"replay\"} %u\n",
                     figures->waiting[WEBHOOKS_FIRST], figures->waiting[WEBHOOKS_RETRY],
                     figures->waiting[WEBHOOKS_REPLAY]);
    bk_metric_write(out, "bakend_webhooks_sending", "gauge", "Requests on their way.",
                    webhooks_places_taken(state));
    bk_metric_write(out, "bakend_webhooks_attempts_total", "counter", "Attempts since the start.",
                    (double)state->attempts);
    bk_metric_write(out, "bakend_webhooks_delivered_total", "counter", "Those that succeeded.",
                    (double)state->delivered);
    bk_metric_write(out, "bakend_webhooks_failed_total", "counter", "Those that failed.",
                    (double)state->failed);
}

static void write_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct webhooks_state *state = bk_container_of(source, struct webhooks_state, metrics);
    struct figures figures = {.state = state};
    figures.series = bk_alloc(SERIES_MAX * sizeof(*figures.series));
    bk_tenants_for_each_open(state->context->tenants, on_tenant, &figures);
    write_module(out, &figures);
    if (figures.count > 0)
        write_each(out, &figures);
    bk_free(figures.series);
}

void webhooks_metrics_init(struct webhooks_state *state) {
    state->metrics.write = write_metrics;
    bk_api_add_metrics(state->context->api, &state->metrics);
}
