/*
 * Figures of work for Prometheus, by kind. Lanes may be ten thousand, so they are counted by state
 * and never named. What is due, waiting or dead is of open tenants, as of a count some seconds ago:
 * a scrape asks no database.
 */
#include "jobs_private.h"

static const struct {
    const char *name, *type, *help;
    size_t offset; /* of a uint64_t in the figures */
} counts[] = {
    {"bakend_work_due", "gauge", "Tasks that wait though their time has come.",
     offsetof(struct bk_work_figures, due)},
    {"bakend_work_waiting", "gauge", "Tasks that wait, due or not.",
     offsetof(struct bk_work_figures, waiting)},
    {"bakend_work_dead", "gauge", "Tasks that are dead and kept.",
     offsetof(struct bk_work_figures, dead)},
    {"bakend_work_added_total", "counter", "Tasks added.", offsetof(struct bk_work_figures, added)},
    {"bakend_work_attempts_total", "counter", "Attempts begun.",
     offsetof(struct bk_work_figures, attempts)},
    {"bakend_work_done_total", "counter", "Tasks done.", offsetof(struct bk_work_figures, done)},
    {"bakend_work_again_total", "counter", "Attempts that failed and are followed by another.",
     offsetof(struct bk_work_figures, again)},
    {"bakend_work_failed_total", "counter", "Tasks that ended dead.",
     offsetof(struct bk_work_figures, died)},
    {"bakend_work_timeouts_total", "counter", "Attempts that ran out of time.",
     offsetof(struct bk_work_figures, timeouts)},
};

static void write_head(struct bk_buffer *out, const char *name, const char *type,
                       const char *help) {
    bk_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static uint64_t count_at(const struct bk_work_figures *figures, size_t offset) {
    uint64_t value;
    memcpy(&value, (const char *)figures + offset, sizeof value);
    return value;
}

static void write_counts(const struct bk_work_figures *figures, size_t count,
                         struct bk_buffer *out) {
    for (size_t metric = 0; metric < BK_COUNT_OF(counts); metric++) {
        write_head(out, counts[metric].name, counts[metric].type, counts[metric].help);
        for (size_t i = 0; i < count; i++)
            bk_buffer_format(out, "%s{kind=\"%s\"} %llu\n", counts[metric].name,
                             figures[i].kind->name,
                             (unsigned long long)count_at(&figures[i], counts[metric].offset));
    }
}

static void write_lanes(const struct bk_work_figures *figures, size_t count,
                        struct bk_buffer *out) {
    write_head(out, "bakend_work_lanes", "gauge", "Lanes with tasks or paused, by state.");
    for (size_t i = 0; i < count; i++) {
        const char *kind = figures[i].kind->name;
        uint32_t stopped =
            figures[i].lanes_paused + figures[i].lanes_broken + figures[i].lanes_stuck;
        uint32_t open = figures[i].lanes > stopped ? figures[i].lanes - stopped : 0;
        bk_buffer_format(out,
                         "bakend_work_lanes{kind=\"%s\",state=\"open\"} %u\n"
                         "bakend_work_lanes{kind=\"%s\",state=\"paused\"} %u\n"
                         "bakend_work_lanes{kind=\"%s\",state=\"broken\"} %u\n"
                         "bakend_work_lanes{kind=\"%s\",state=\"stuck\"} %u\n",
                         kind, open, kind, figures[i].lanes_paused, kind, figures[i].lanes_broken,
                         kind, figures[i].lanes_stuck);
    }
}

static void write_now(const struct bk_work_figures *figures, size_t count, struct bk_buffer *out) {
    write_head(out, "bakend_work_running", "gauge", "Tasks that run now.");
    for (size_t i = 0; i < count; i++)
        bk_buffer_format(out, "bakend_work_running{kind=\"%s\"} %u\n", figures[i].kind->name,
                         figures[i].running);
    write_head(out, "bakend_work_oldest_seconds", "gauge",
               "For how long the oldest task that is due has been due.");
    for (size_t i = 0; i < count; i++)
        bk_buffer_format(out, "bakend_work_oldest_seconds{kind=\"%s\"} %.3f\n",
                         figures[i].kind->name, (double)figures[i].oldest_ms / 1000);
}

void jobs_write_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct jobs_state *state = bk_container_of(source, struct jobs_state, metrics);
    struct bk_work_figures figures[JOBS_KINDS_MAX];
    size_t count = bk_work_figures(state->context->work, figures, JOBS_KINDS_MAX);
    if (count == 0)
        return;
    write_now(figures, count, out);
    write_counts(figures, count, out);
    write_lanes(figures, count, out);
}
