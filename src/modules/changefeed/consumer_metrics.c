/*
 * Figures of named consumers. How far behind each one is is told for those that are behind most:
 * the number of series has a bound, and who is up to date is of no interest.
 */
#include "consumer.h"

enum { SERIES_MAX = 100 };

struct series {
    const struct changefeed_consumer *consumer;
    uint64_t lag;
};

struct figures {
    const struct changefeed_state *state;
    struct series series[SERIES_MAX]; /* most lag first */
    size_t series_count;
    uint32_t consumers, lost, foreign, leased, polls;
};

static uint64_t lag_of(const struct changefeed_consumer *consumer) {
    uint64_t last = bk_journal_state(consumer->tenant->database).last;
    uint64_t position = changefeed_consumer_position(consumer);
    return position < last && !changefeed_consumer_is_foreign(consumer) ? last - position : 0;
}

static void insert(struct figures *figures, const struct changefeed_consumer *consumer) {
    uint64_t lag = lag_of(consumer);
    size_t at = figures->series_count;
    if (at == SERIES_MAX && figures->series[--at].lag >= lag)
        return;
    if (figures->series_count < SERIES_MAX)
        figures->series_count++;
    for (; at > 0 && figures->series[at - 1].lag < lag; at--)
        figures->series[at] = figures->series[at - 1];
    figures->series[at] = (struct series){consumer, lag};
}

static void on_tenant(struct bk_tenant *tenant, void *user) {
    struct figures *figures = user;
    const struct changefeed_tenant *own = changefeed_tenant_of(figures->state, tenant);
    if (own == NULL)
        return;
    BK_LIST_FOR_EACH(node, &own->consumers) {
        const struct changefeed_consumer *consumer =
            bk_container_of(node, struct changefeed_consumer, link);
        if (consumer->is_new)
            continue;
        figures->consumers++;
        figures->foreign += changefeed_consumer_is_foreign(consumer);
        figures->lost +=
            !changefeed_consumer_is_foreign(consumer) && changefeed_consumer_is_lost(consumer);
        figures->leased += changefeed_consumer_is_leased(consumer);
        figures->polls += consumer->poll_count;
        insert(figures, consumer);
    }
}

static void write_series(const struct figures *figures, struct bk_buffer *out) {
    bk_buffer_append_literal(
        out, "# HELP bakend_consumer_lag Events behind a consumer's position; the 100 with most.\n"
             "# TYPE bakend_consumer_lag gauge\n");
    for (size_t i = 0; i < figures->series_count; i++) {
        const struct changefeed_consumer *consumer = figures->series[i].consumer;
        bk_buffer_format(out, "bakend_consumer_lag{tenant=\"%.*s\",consumer=\"%.*s\"} %llu\n",
                         BK_SLICE_PRINT(consumer->tenant->name), BK_SLICE_PRINT(consumer->name),
                         (unsigned long long)figures->series[i].lag);
    }
}

void changefeed_consumers_write_metrics(const struct changefeed_state *state,
                                        struct bk_buffer *out) {
    struct figures figures = {.state = state};
    bk_tenants_for_each_open(state->context->tenants, on_tenant, &figures);
    bk_metric_write(out, "bakend_consumers", "gauge", "Named consumers of open tenants.",
                    figures.consumers);
    bk_metric_write(out, "bakend_consumers_leased", "gauge", "Those whose lease runs.",
                    figures.leased);
    bk_buffer_format(out,
                     "# HELP bakend_consumers_lost Those that have to be sought: what comes next "
                     "was pruned, or their position is of the history before a restore.\n"
                     "# TYPE bakend_consumers_lost gauge\n"
                     "bakend_consumers_lost{reason=\"pruned\"} %u\n"
                     "bakend_consumers_lost{reason=\"epoch_changed\"} %u\n",
                     figures.lost, figures.foreign);
    bk_metric_write(out, "bakend_consumers_lost_total", "counter",
                    "Consumers whose next events were pruned, since the start.",
                    (double)state->consumers_lost);
    bk_metric_write(out, "bakend_consumer_polls_waiting", "gauge", "Polls of consumers in hand.",
                    figures.polls);
    write_series(&figures, out);
}
