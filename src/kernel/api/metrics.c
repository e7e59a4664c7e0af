/*
 * Figures in the Prometheus text format 0.0.4
 * (prometheus.io/docs/instrumenting/exposition_formats). Histograms are kept in powers of two of
 * nanoseconds and written with bounds in seconds.
 */
#include "api_private.h"

static void write_head(struct bk_buffer *out, const char *name, const char *type,
                       const char *help) {
    bk_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void bk_metric_write(struct bk_buffer *out, const char *name, const char *type, const char *help,
                     double value) {
    write_head(out, name, type, help);
    bk_buffer_format(out, "%s %.17g\n", name, value);
}

static void write_answers(const struct bk_api_figures *figures, struct bk_buffer *out) {
    write_head(out, "bakend_http_answers_total", "counter", "Answers by hundreds of the status.");
    for (size_t i = 1; i < BK_COUNT_OF(figures->answers); i++)
        bk_buffer_format(out, "bakend_http_answers_total{status=\"%zuxx\"} %llu\n", i,
                         (unsigned long long)figures->answers[i]);
}

static void write_times(const struct bk_api_figures *figures, struct bk_buffer *out) {
    unsigned long long total = 0;
    size_t last = BK_COUNT_OF(figures->time_buckets) - 1;
    write_head(out, "bakend_http_answer_seconds", "histogram",
               "Time from the request's head to its answer.");
    for (size_t i = 0; i < last; i++) {
        total += figures->time_buckets[i];
        bk_buffer_format(out, "bakend_http_answer_seconds_bucket{le=\"%.9g\"} %llu\n",
                         (double)(UINT64_C(1) << (i + 16)) / 1e9, total);
    }
    total += figures->time_buckets[last];
    bk_buffer_format(out,
                     "bakend_http_answer_seconds_bucket{le=\"+Inf\"} %llu\n"
                     "bakend_http_answer_seconds_sum %.17g\n"
                     "bakend_http_answer_seconds_count %llu\n",
                     total, (double)figures->time_ns_sum / 1e9, total);
}

void api_metrics_write(const struct bk_api_figures *figures, struct bk_buffer *out) {
    bk_metric_write(out, "bakend_http_requests_total", "counter", "Requests answered.",
                    (double)figures->requests);
    write_answers(figures, out);
    write_times(figures, out);
    bk_metric_write(out, "bakend_http_requests_in_flight", "gauge", "Requests being handled.",
                    figures->in_flight);
    bk_metric_write(out, "bakend_http_requests_memory_bytes", "gauge",
                    "Memory of requests beside their bodies.",
                    (double)bk_arena_total(&figures->memory_bytes));
    bk_metric_write(out, "bakend_http_requests_overloads_total", "counter",
                    "Requests refused because those being handled filled the memory.",
                    (double)figures->overloads);
    bk_metric_write(out, "bakend_http_connections", "gauge", "Connections open now.",
                    (double)figures->connections);
    bk_metric_write(out, "bakend_http_connections_total", "counter", "Connections accepted.",
                    (double)figures->connections_total);
}
