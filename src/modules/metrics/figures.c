/*
 * The figures and their names. Counters end in _total, times are seconds, sizes bytes. A
 * histogram's buckets are cumulative in this format, while the figures count each bucket alone.
 */
#include "metrics.h"

#include "bakend/position.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define SECONDS(nanoseconds) ((double)(nanoseconds) / 1e9)

static void write_head(struct bk_buffer *out, const char *name, const char *type,
                       const char *help) {
    bk_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counter(struct bk_buffer *out, const char *name, const char *help, double value) {
    bk_metric_write(out, name, "counter", help, value);
}

static void gauge(struct bk_buffer *out, const char *name, const char *help, double value) {
    bk_metric_write(out, name, "gauge", help, value);
}

/* Bucket i counts what is below first_bound × 2^i; the last one is the rest. */
struct histogram {
    const char *name, *help;
    const uint64_t *buckets;
    size_t count;
    double first_bound, sum;
};

static void write_histogram(struct bk_buffer *out, const struct histogram *histogram) {
    unsigned long long total = 0;
    double bound = histogram->first_bound;
    write_head(out, histogram->name, "histogram", histogram->help);
    for (size_t i = 0; i + 1 < histogram->count; i++, bound *= 2) {
        total += histogram->buckets[i];
        bk_buffer_format(out, "%s_bucket{le=\"%.9g\"} %llu\n", histogram->name, bound, total);
    }
    total += histogram->buckets[histogram->count - 1];
    bk_buffer_format(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.17g\n%s_count %llu\n",
                     histogram->name, total, histogram->name, histogram->sum, histogram->name,
                     total);
}

/* --- store ------------------------------------------------------------------------------------ */

static void write_commits(const struct bk_store_figures *figures, struct bk_buffer *out) {
    write_histogram(out, &(struct histogram){.name = "bakend_store_commit_seconds",
                                             .help = "Time of a commit, with its fsync.",
                                             .buckets = figures->commit_ns_buckets,
                                             .count = BK_COUNT_OF(figures->commit_ns_buckets),
                                             .first_bound = 65536 / 1e9,
                                             .sum = SECONDS(figures->commit_ns_sum)});
    /* Fewer than 2 writes are at most 1: integers, so the bound is one less. */
    unsigned long long total = 0;
    size_t last = BK_COUNT_OF(figures->batch_size_buckets) - 1;
    write_head(out, "bakend_store_batch_writes", "histogram", "Writes in one commit.");
    for (size_t i = 0; i < last; i++) {
        total += figures->batch_size_buckets[i];
        bk_buffer_format(out, "bakend_store_batch_writes_bucket{le=\"%llu\"} %llu\n",
                         (2ULL << i) - 1, total);
    }
    total += figures->batch_size_buckets[last];
    bk_buffer_format(out,
                     "bakend_store_batch_writes_bucket{le=\"+Inf\"} %llu\n"
                     "bakend_store_batch_writes_sum %llu\n"
                     "bakend_store_batch_writes_count %llu\n",
                     total, (unsigned long long)figures->writes, total);
}

void metrics_write_store(const struct bk_module_context *context, struct bk_buffer *out) {
    struct bk_store_figures figures = bk_store_figures(context->store);
    counter(out, "bakend_store_commits_total", "Commits.", (double)figures.commits);
    counter(out, "bakend_store_writes_total", "Writes committed.",
            (double)(figures.writes - figures.writes_failed));
    counter(out, "bakend_store_writes_failed_total", "Writes rolled back.",
            (double)figures.writes_failed);
    counter(out, "bakend_store_batches_rerun_total", "Batches run again one by one.",
            (double)figures.batches_rerun);
    counter(out, "bakend_store_batches_spoilt_total",
            "Batches run again with savepoints, for a write that failed late.",
            (double)figures.batches_spoilt);
    counter(out, "bakend_store_reads_total", "Reads on reader threads.", (double)figures.reads);
    counter(out, "bakend_store_reads_timed_out_total", "Reads past their deadline.",
            (double)figures.reads_timed_out);
    counter(out, "bakend_journal_events_total", "Durable events since the start.",
            (double)figures.events);
    write_commits(&figures, out);
    write_head(out, "bakend_store_waiting", "gauge", "What waits, by queue.");
    bk_buffer_format(out,
                     "bakend_store_waiting{queue=\"requests\"} %u\n"
                     "bakend_store_waiting{queue=\"background\"} %u\n"
                     "bakend_store_waiting{queue=\"reads\"} %u\n",
                     figures.waiting_requests, figures.waiting_background, figures.waiting_reads);
    gauge(out, "bakend_store_wal_bytes", "Write-ahead logs of all open databases.",
          (double)figures.wal_bytes);
    gauge(out, "bakend_store_databases_open", "Open databases.", figures.databases_open);
    gauge(out, "bakend_tenants_open", "Open tenants.", bk_tenants_open_count(context->tenants));
}

/* --- bus and feed ----------------------------------------------------------------------------- */

/* Handlers with a name of their own; each module has a few. */
enum { HANDLER_SERIES_MAX = 256 };

/* A metric's samples stand together, so the figures are gathered first. */
static const char *const handler_metrics[][2] = {
    {"bakend_bus_handler_events_total", "Events given to a handler."},
    {"bakend_bus_handler_failures_total", "Events that a handler failed on."},
    {"bakend_bus_handler_seconds_total", "Time in a handler."},
};

/* One series for each handler and phase: subscriptions may share a name. */
struct handler_series {
    const char *name;
    enum bk_phase phase;
    double values[BK_COUNT_OF(handler_metrics)];
};

struct handler_table {
    struct handler_series series[HANDLER_SERIES_MAX];
    size_t count;
};

static struct handler_series *series_of(struct handler_table *table, const char *name,
                                        enum bk_phase phase) {
    struct handler_series *series = table->series;
    size_t i = 0;
    while (i < table->count && (series[i].phase != phase || strcmp(series[i].name, name) != 0))
        i++;
    if (i == table->count && i < HANDLER_SERIES_MAX)
        series[table->count++] = (struct handler_series){.name = name, .phase = phase};
    return i < HANDLER_SERIES_MAX ? &series[i] : NULL;
}

static void on_subscription(const struct bk_subscription *subscription, void *user) {
    struct handler_series *series = series_of(user, subscription->name, subscription->phase);
    if (series == NULL)
        return;
    series->values[0] += (double)subscription->handled_count;
    series->values[1] += (double)subscription->failed_count;
    series->values[2] += SECONDS(subscription->time_ns);
}

static void write_handlers(const struct bk_module_context *context, struct bk_buffer *out) {
    struct handler_table table = {.count = 0};
    bk_bus_for_each(context->bus, on_subscription, &table);
    for (size_t metric = 0; metric < BK_COUNT_OF(handler_metrics); metric++) {
        write_head(out, handler_metrics[metric][0], "counter", handler_metrics[metric][1]);
        for (size_t i = 0; i < table.count; i++)
            bk_buffer_format(out, "%s{handler=\"%s\",phase=\"%s\"} %.17g\n",
                             handler_metrics[metric][0], table.series[i].name,
                             bk_phase_name(table.series[i].phase), table.series[i].values[metric]);
    }
}

static void write_bus(const struct bk_module_context *context, struct bk_buffer *out) {
    struct bk_bus_figures figures = bk_bus_figures(context->bus);
    counter(out, "bakend_bus_events_total", "Events dispatched.", (double)figures.events);
    counter(out, "bakend_bus_handler_calls_total", "Calls of handlers.",
            (double)figures.handler_calls);
    counter(out, "bakend_bus_chains_cut_total", "Chains of causes cut.",
            (double)figures.chains_cut);
    counter(out, "bakend_bus_dropped_total", "Transient events dropped, the queue being full.",
            (double)figures.dropped);
    gauge(out, "bakend_bus_waiting", "Events that wait to be dispatched.", figures.waiting);
    write_head(out, "bakend_bus_phase_seconds_total", "counter", "Time in handlers, by phase.");
    for (int phase = 0; phase < BK_PHASE_COUNT; phase++)
        bk_buffer_format(out, "bakend_bus_phase_seconds_total{phase=\"%s\"} %.9f\n",
                         bk_phase_name((enum bk_phase)phase), SECONDS(figures.phase_ns[phase]));
    write_handlers(context, out);
}

/* Kinds of readers: a module has one or two. */
enum { POSITION_KINDS_MAX = 32 };

static const struct {
    const char *name, *type, *help;
    size_t offset; /* of a uint64_t in the figures */
} position_metrics[] = {
    {"bakend_position_lag_max_events", "gauge", "Events that the furthest one is behind.",
     offsetof(struct bk_position_figures, lag_max)},
    {"bakend_position_handed_total", "counter", "Events handed to readers.",
     offsetof(struct bk_position_figures, handed)},
    {"bakend_position_acknowledged_total", "counter", "Events that readers acknowledged.",
     offsetof(struct bk_position_figures, acknowledged)},
    {"bakend_position_failed_total", "counter", "Events that readers failed on.",
     offsetof(struct bk_position_figures, failed)},
    {"bakend_position_lost_total", "counter", "Positions whose next event was pruned.",
     offsetof(struct bk_position_figures, lost)},
};

static uint64_t position_value(const struct bk_position_figures *figures, size_t offset) {
    uint64_t value;
    memcpy(&value, (const char *)figures + offset, sizeof value);
    return value;
}

static void write_position_states(const struct bk_position_figures *figures, size_t count,
                                  struct bk_buffer *out) {
    write_head(out, "bakend_positions", "gauge", "Open positions, by kind of reader and state.");
    for (size_t i = 0; i < count; i++)
        for (size_t state = BK_POSITION_OPENING; state < BK_COUNT_OF(figures[i].states); state++)
            bk_buffer_format(out, "bakend_positions{kind=\"%s\",state=\"%s\"} %u\n",
                             figures[i].kind, bk_position_state_name((enum bk_position_state)state),
                             figures[i].states[state]);
}

static void write_positions(const struct bk_module_context *context, struct bk_buffer *out) {
    struct bk_position_figures figures[POSITION_KINDS_MAX];
    size_t count = bk_feed_position_figures(context->feed, figures, POSITION_KINDS_MAX);
    if (count == 0)
        return;
    write_position_states(figures, count, out);
    for (size_t metric = 0; metric < BK_COUNT_OF(position_metrics); metric++) {
        write_head(out, position_metrics[metric].name, position_metrics[metric].type,
                   position_metrics[metric].help);
        for (size_t i = 0; i < count; i++)
            bk_buffer_format(
                out, "%s{kind=\"%s\"} %llu\n", position_metrics[metric].name, figures[i].kind,
                (unsigned long long)position_value(&figures[i], position_metrics[metric].offset));
    }
}

void metrics_write_events(const struct bk_module_context *context, struct bk_buffer *out) {
    struct bk_feed_figures figures;
    write_bus(context, out);
    figures = bk_feed_figures(context->feed);
    counter(out, "bakend_feed_tail_reads_total", "Feed reads served from memory.",
            (double)figures.tail_reads);
    counter(out, "bakend_feed_journal_reads_total", "Feed reads that went to the journal.",
            (double)figures.journal_reads);
    gauge(out, "bakend_feed_tail_events", "Events kept in memory.", (double)figures.tail_events);
    gauge(out, "bakend_feed_tail_bytes", "Bytes of those.", (double)figures.tail_bytes);
    write_positions(context, out);
}

/* --- loop and process ------------------------------------------------------------------------- */

static double resident_bytes(void) {
    char text[128];
    unsigned long size = 0, resident = 0;
    int descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor < 0 ? -1 : read(descriptor, text, sizeof(text) - 1);
    if (descriptor >= 0)
        (void)close(descriptor);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    if (sscanf(text, "%lu %lu", &size, &resident) != 2)
        return 0;
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void) {
    double count = -3; /* ".", ".." and the directory's own */
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        return 0;
    while (readdir(directory) != NULL)
        count++;
    (void)closedir(directory);
    return count;
}

void metrics_write_process(const struct bk_module_context *context, struct bk_buffer *out) {
    gauge(out, "bakend_loop_longest_turn_seconds", "Longest turn since the last scrape.",
          SECONDS(bk_loop_take_longest_turn_ns(context->loop)));
    counter(out, "bakend_loop_stalls_total", "Turns longer than 100 ms.",
            (double)bk_loop_stall_count(context->loop));
    counter(out, "bakend_log_dropped_total", "Log lines dropped, the buffer being full.",
            (double)bk_logger_dropped_count(context->logger));
    gauge(out, "process_resident_memory_bytes", "Resident memory.", resident_bytes());
    gauge(out, "process_open_fds", "Open descriptors.", open_descriptors());
}
