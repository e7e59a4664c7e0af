/*
 * GET /api/webhooks/{id}/stats: how it goes with an endpoint now. What is in memory is of now; what
 * is in tables is read by a reader, and counted to COUNT_MAX.
 */
#include "routes.h"

#include "bakend/clock.h"

enum { COUNT_MAX = 10000 };

/* In the request's arena. */
struct asking {
    struct webhooks_task *task;
    struct bk_read read;
    int64_t retrying, failed, missed_after, missed_until, failing_since_ms, previous_until_ms;
    char next_attempt[BK_TIME_TEXT_BYTES];
    size_t next_attempt_length;
};

/* --- on a reader ------------------------------------------------------------------------------ */

static enum bk_status count(struct bk_connection *connection, struct asking *asking,
                            struct bk_slice state, int64_t *number) {
    /* The second condition on the state is that of the index idx__deliveries_trouble. */
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT count(*), min(nextAttempt) FROM (SELECT nextAttempt FROM _deliveries "
                 "WHERE webhook = ?1 AND state = ?2 AND state != 'delivered' LIMIT 10000)"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, asking->task->id);
    bk_statement_bind_text(statement, 2, state);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_slice next = bk_statement_text(statement, 1);
        *number = bk_statement_int(statement, 0);
        if (bk_slice_is(state, "retrying") && next.length == BK_TIME_TEXT_BYTES) {
            memcpy(asking->next_attempt, next.data, next.length);
            asking->next_attempt_length = next.length;
        }
    }
    bk_statement_reset(statement);
    return status;
}

static enum bk_status read_state(struct bk_connection *connection, struct asking *asking) {
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT missedAfter, iif(isOff, 0, missedUntil), failingSince, previousUntil "
                 "FROM _webhookStates WHERE webhook = ?1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, asking->task->id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        asking->missed_after = bk_statement_int(statement, 0);
        asking->missed_until = bk_statement_int(statement, 1);
        asking->failing_since_ms = bk_statement_int(statement, 2);
        asking->previous_until_ms = bk_statement_int(statement, 3);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static enum bk_status on_read(struct bk_connection *connection, struct bk_read *read) {
    struct asking *asking = bk_container_of(read, struct asking, read);
    enum bk_status status = read_state(connection, asking);
    if (status == BK_OK)
        status = count(connection, asking, BK_SLICE("failed"), &asking->failed);
    return status == BK_OK ? count(connection, asking, BK_SLICE("retrying"), &asking->retrying)
                           : status;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void write_time(struct bk_buffer *out, struct bk_slice name, int64_t wall_ms) {
    char text[BK_TIME_TEXT_BYTES];
    bk_time_format(text, wall_ms, ' ');
    bk_json_write_member_string(out, name, bk_slice_make(text, wall_ms == 0 ? 0 : sizeof(text)));
}

static void write_cursor(struct bk_buffer *out, struct bk_slice name, const uint8_t epoch[8],
                         int64_t sequence) {
    char cursor[BK_CURSOR_BYTES];
    bk_cursor_make(cursor, epoch, (uint64_t)sequence);
    bk_json_write_member_string(out, name,
                                bk_slice_make(cursor, sequence == 0 ? 0 : sizeof(cursor)));
}

/* What it was not sent while it was off; null: nothing, or it was made up for. */
static void write_missed(struct bk_buffer *out, const struct asking *asking) {
    struct bk_journal_state journal = bk_journal_state(asking->task->request->tenant->database);
    bk_json_write_key(out, BK_SLICE("missed"));
    if (asking->missed_after == 0) {
        bk_buffer_append_literal(out, "null");
        return;
    }
    bk_buffer_append_char(out, '{');
    write_cursor(out, BK_SLICE("after"), journal.epoch, asking->missed_after);
    write_cursor(out, BK_SLICE("until"), journal.epoch, asking->missed_until);
    bk_buffer_append_char(out, '}');
}

static void write_now(struct bk_buffer *out, const struct webhooks_endpoint *endpoint) {
    struct webhooks_queue_facts queue = webhooks_queue_facts(endpoint);
    struct webhooks_backlog backlog = webhooks_backlog(endpoint);
    struct webhooks_figures_facts facts = webhooks_figures_facts(endpoint);
    struct webhooks_health_times times = webhooks_health_times(endpoint);
    bk_json_write_member_string(out, BK_SLICE("breaker"),
                                bk_slice_from(webhooks_health_name(endpoint)));
    write_time(out, BK_SLICE("nextProbe"), times.probe_at_ms);
    write_time(out, BK_SLICE("pausedUntil"), times.paused_until_ms);
    bk_json_write_member_int(out, BK_SLICE("backlog"), (int64_t)backlog.events);
    bk_json_write_member_int(out, BK_SLICE("oldestAgeMs"), backlog.oldest_age_ms);
    bk_json_write_member_int(out, BK_SLICE("inFlight"), queue.sending);
    bk_json_write_member_int(out, BK_SLICE("attempts"), (int64_t)facts.attempts);
    bk_json_write_member_int(out, BK_SLICE("failures"), (int64_t)facts.failures);
    bk_json_write_key(out, BK_SLICE("latencyMs"));
    bk_buffer_append_char(out, '{');
    bk_json_write_member_int(out, BK_SLICE("p50"), facts.p50_ms);
    bk_json_write_member_int(out, BK_SLICE("p99"), facts.p99_ms);
    bk_json_write_member_int(out, BK_SLICE("attempts"), facts.measured);
    bk_buffer_append_char(out, '}');
}

static void on_done(struct bk_read *read, enum bk_status status) {
    struct asking *asking = bk_container_of(read, struct asking, read);
    struct webhooks_task *task = asking->task;
    struct bk_request *request = task->request;
    struct bk_buffer *out = &request->out;
    const struct webhooks_endpoint *endpoint = webhooks_task_endpoint(task);
    webhooks_task_end(task);
    if (status != BK_OK || endpoint == NULL) {
        bk_answer_error(request, status == BK_OK ? BK_BUSY : status, NULL);
        return;
    }
    bk_buffer_append_char(out, '{');
    bk_json_write_member_bool(out, BK_SLICE("enabled"), task->was_enabled);
    write_now(out, endpoint);
    bk_json_write_member_string(out, BK_SLICE("problem"),
                                bk_slice_from(webhooks_problem_text(endpoint->config->problem)));
    bk_json_write_member_int(out, BK_SLICE("retrying"), asking->retrying);
    bk_json_write_member_int(out, BK_SLICE("failed"), asking->failed);
    bk_json_write_member_string(
        out, BK_SLICE("nextAttempt"),
        bk_slice_make(asking->next_attempt, task->was_enabled ? asking->next_attempt_length : 0));
    write_time(out, BK_SLICE("failingSince"), asking->failing_since_ms);
    write_time(out, BK_SLICE("previousUntil"),
               asking->previous_until_ms > bk_clock_wall_ms() ? asking->previous_until_ms : 0);
    write_missed(out, asking);
    bk_buffer_append_char(out, '}');
    bk_answer(request, 200);
}

void webhooks_stats(struct bk_request *request) {
    struct webhooks_task *task = webhooks_task_begin(request);
    struct asking *asking;
    enum bk_status status;
    if (task == NULL || !webhooks_task_find(task))
        return;
    asking = bk_arena_alloc_zero(&request->arena, sizeof(*asking));
    asking->task = task;
    asking->read.run = on_read;
    asking->read.done = on_done;
    status = bk_arena_status(&request->arena);
    if (status == BK_OK)
        status = bk_store_read(request->tenant->database, &asking->read);
    if (status == BK_OK)
        return;
    webhooks_task_end(task);
    bk_answer_error(request, status, NULL);
}
