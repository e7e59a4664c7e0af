/*
 * What failed is tried again: work of kind "webhooks", a lane for each endpoint.
 *
 *   first attempt fails ─> record.c ─> a task, due by the schedule ─> on_task ─> queue.c ─> sent
 *                                          ^                                      │
 *                                          └───── again, by the schedule <────────┤
 *             _deliveries, webhook.exhausted <── on_end, with the task's end <────┘
 *
 * A task says which event, and what makes its bytes; the body is made again from the journal. What
 * waits is pinned there, from the lowest sequence on, for as long as a schedule can take; that is
 * looked up now and then, and at once when something lower comes. What was pruned all the same ends
 * as failed and says so.
 *
 * How many attempts a delivery has had is told by its row, not by the task: an attempt that a crash
 * or a stop has interrupted is in no row and costs none of the schedule. The schedule is ours, too:
 * the kind itself pauses for a millisecond, and has more attempts than a schedule can have.
 *
 * When the last one has failed the task is done, since the delivery's row is the dead letter and
 * webhook.exhausted tells of it; a task that is dead was cancelled by hand, or never came back.
 *
 * An ordered endpoint: the lane keeps the order of a subject's tasks, and webhooks_retry_blocks
 * tells whether there are any, so that a new event of that subject becomes one of them.
 */
#include "breaker.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"
#include "bakend/id.h"

enum {
    ARENA_BYTES_MAX = 64 * 1024,
    PAYLOAD_BYTES_MAX = 16 * 1024, /* type and subject have maxima of their own */
    RESULT_BYTES_MAX = 64 * 1024,  /* each byte of an answer may be escaped */
    BUSY_DELAY_MS = 1000,
    LANE_RUNNING_MAX = 8,      /* of an endpoint, whatever its cap is */
    ALL_RUNNING_MAX = 192,     /* of 256 places of work; a tenant has no more than it leaves free */
    AWAY_DELAY_MS = 60 * 1000, /* its endpoint is off, and its lane is not paused yet */
    PIN_LOOK_MS = 30 * 1000,
    TASK_TIMEOUT_MS = WEBHOOKS_TIMEOUT_MAX_MS + 30 * 1000,
    TASK_ATTEMPTS_MAX = 1000,           /* one that ends the process each time ends, too */
    SEQUENCE_HEAD_BYTES = 8,            /* of a delivery's id: see delivery.c */
    REPLAY_TIMEOUT_MS = 10 * 60 * 1000, /* it ends its slices itself: see replay.c */
    REPLAY_ATTEMPTS_MAX = 20,           /* only the end of a process costs one */
    REPLAY_KEPT_MS = 7 * 24 * 60 * 60 * 1000
};

#define DAY_MS (UINT64_C(24) * 60 * 60 * 1000)

struct webhooks_retries {
    struct bk_list running; /* those of the endpoint that are in the queue, or sent */
};

struct retry {
    struct webhooks_send send;
    struct webhooks_tenant *of;
    struct bk_work_task *task;
    struct bk_list link;
    uint32_t failed; /* attempts so far, counted by the schedule */
    bool is_resting;
    char event[BK_EVENT_ID_BYTES];
};

static struct bk_slice kind_name(struct bk_slice tail, char room[BK_WORK_LANE_MAX_BYTES]) {
    static const struct bk_slice head = BK_SLICE_INIT(WEBHOOKS_KIND "/");
    memcpy(room, head.data, head.length);
    memcpy(room + head.length, tail.data, tail.length);
    return bk_slice_make(room, head.length + tail.length);
}

static struct bk_slice lane_of(const struct webhooks_endpoint *endpoint,
                               char room[BK_WORK_LANE_MAX_BYTES]) {
    return kind_name(bk_slice_make(endpoint->id, WEBHOOKS_ID_BYTES), room);
}

/* --- the payload ------------------------------------------------------------------------------ */

struct payload {
    struct bk_slice webhook, event, type, subject; /* in the arena */
    uint64_t sequence, after;
    enum webhooks_format format;
    uint32_t failed;   /* by the schedule, when it was added … */
    uint32_t attempts; /* … and of all that its row has */
};

static uint64_t number_of(const struct bk_json *object, struct bk_slice key) {
    int64_t number;
    const struct bk_json *member = bk_json_get(object, key);
    return member != NULL && bk_json_to_int64(member, &number) && number > 0 ? (uint64_t)number : 0;
}

static bool read_payload(struct bk_slice text, struct bk_arena *arena, struct payload *payload) {
    struct bk_json *json;
    if (bk_json_parse(arena, text, &json, NULL) != BK_OK)
        return false;
    *payload = (struct payload){
        .webhook = bk_json_get_string(json, BK_SLICE("webhook")),
        .event = bk_json_get_string(json, BK_SLICE("event")),
        .type = bk_json_get_string(json, BK_SLICE("type")),
        .subject = bk_json_get_string(json, BK_SLICE("subject")),
        .sequence = number_of(json, BK_SLICE("sequence")),
        .after = number_of(json, BK_SLICE("after")),
        .format = webhooks_format_named(bk_json_get_string(json, BK_SLICE("format"))),
        .failed = (uint32_t)number_of(json, BK_SLICE("number")),
        .attempts = (uint32_t)number_of(json, BK_SLICE("attempts"))};
    return payload->webhook.length == WEBHOOKS_ID_BYTES &&
           payload->event.length == BK_EVENT_ID_BYTES && payload->format != WEBHOOKS_FORMAT_COUNT;
}

static void write_payload(struct bk_buffer *out, const struct webhooks_attempt *attempt,
                          const struct payload *counts) {
    const char *format = webhooks_format_name(attempt->format);
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("webhook"), attempt->webhook);
    bk_json_write_member_string(out, BK_SLICE("event"), attempt->event);
    bk_json_write_member_int(out, BK_SLICE("sequence"), (int64_t)attempt->sequence);
    bk_json_write_member_int(out, BK_SLICE("after"), (int64_t)attempt->after);
    bk_json_write_member_string(out, BK_SLICE("format"), bk_slice_from(format));
    bk_json_write_member_int(out, BK_SLICE("number"), counts->failed);
    bk_json_write_member_int(out, BK_SLICE("attempts"), counts->attempts);
    bk_json_write_member_string(out, BK_SLICE("type"), attempt->type);
    bk_json_write_member_string(out, BK_SLICE("subject"), attempt->subject);
    bk_buffer_append_char(out, '}');
}

/* --- rows of _deliveries ---------------------------------------------------------------------- */

/* What a delivery's row knows. */
struct row {
    uint32_t attempts;
    bool is_delivered;
};

/* BK_END: there is none. */
static enum bk_status read_row(struct bk_connection *connection, uint64_t sequence,
                               struct bk_slice webhook, struct row *row) {
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT attemptCount, state = 'delivered' FROM _deliveries WHERE id = ?1"));
    char id[WEBHOOKS_ID_BYTES];
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    webhooks_delivery_id(id, sequence, webhook);
    bk_statement_bind_text(statement, 1, bk_slice_make(id, sizeof id));
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *row = (struct row){.attempts = (uint32_t)bk_statement_int(statement, 0),
                            .is_delivered = bk_statement_int(statement, 1) != 0};
    bk_statement_reset(statement);
    return status;
}

/* As of now; what the payload knows, when it cannot be read. */
static struct row read_row_now(struct bk_tenant *tenant, const struct payload *payload) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct row row;
    if (connection == NULL ||
        read_row(connection, payload->sequence, payload->webhook, &row) != BK_OK ||
        row.attempts < payload->attempts)
        return (struct row){.attempts = payload->attempts};
    return row;
}

/* --- adding ----------------------------------------------------------------------------------- */

/* What is longer than a key may be is told apart by its hash. */
static struct bk_slice key_of(struct bk_transaction *transaction, struct bk_slice subject) {
    uint8_t digest[BK_SHA256_BYTES];
    if (subject.length <= BK_WORK_KEY_MAX_BYTES)
        return subject;
    bk_sha256(digest, subject);
    char *text = bk_arena_alloc(bk_transaction_arena(transaction), 2 * sizeof digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[digest[i] & 0xF];
    }
    return bk_slice_make(text, 2 * sizeof digest);
}

static enum bk_status add(const struct webhooks_state *state, struct bk_transaction *transaction,
                          struct bk_work_draft *draft) {
    enum bk_status status = bk_work_add(state->context->work, transaction, draft, NULL);
    if (status != BK_BUSY)
        return status;
    /* So many lanes have tasks that there is no room for another: it shares the kind's own. */
    draft->lane = BK_SLICE_EMPTY;
    return bk_work_add(state->context->work, transaction, draft, NULL);
}

enum bk_status webhooks_retry_add(const struct webhooks_state *state,
                                  struct bk_transaction *transaction,
                                  const struct webhooks_attempt *attempt, bool is_replay) {
    char id[WEBHOOKS_ID_BYTES];
    struct payload counts = {.failed = attempt->number > 0 ? attempt->number : 1};
    struct bk_buffer payload;
    int64_t delay_ms = attempt->next_ms - bk_transaction_now_ms(transaction);
    if (attempt->result == NULL)
        counts.failed = 0;
    struct row row = {.attempts = 0};
    enum bk_status status =
        read_row(bk_transaction_connection(transaction), attempt->sequence, attempt->webhook, &row);
    if (status != BK_OK && status != BK_END)
        return status;
    counts.attempts = row.attempts;
    webhooks_delivery_id(id, attempt->sequence, attempt->webhook);
    bk_buffer_init(&payload, PAYLOAD_BYTES_MAX);
    write_payload(&payload, attempt, &counts);
    struct bk_work_draft draft = {.kind = WEBHOOKS_KIND,
                                  .lane = attempt->webhook,
                                  .key = key_of(transaction, attempt->subject),
                                  .payload = bk_buffer_slice(&payload),
                                  .delay_ms = delay_ms > 0 ? (uint64_t)delay_ms : 0,
                                  .is_replay = is_replay,
                                  .unique = bk_slice_make(id, sizeof id),
                                  .cause = attempt->event};
    status = bk_buffer_status(&payload);
    if (status == BK_OK)
        status = add(state, transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

/* --- what an attempt leads to, on the loop ---------------------------------------------------- */

static void write_result(struct bk_buffer *out, const char *state,
                         const struct webhooks_result *result) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("state"), bk_slice_from(state));
    bk_json_write_member_int(out, BK_SLICE("time"), result->time_ms);
    bk_json_write_member_int(out, BK_SLICE("status"), result->status);
    bk_json_write_member_int(out, BK_SLICE("latencyMs"), result->latency_ms);
    bk_json_write_member_string(out, BK_SLICE("error"), result->error);
    bk_json_write_member_string(out, BK_SLICE("answer"), result->answer);
    bk_buffer_append_char(out, '}');
}

static void free_retry(struct retry *retry) {
    retry->of->retry_count--;
    retry->of->state->retry_count--;
    bk_list_remove(&retry->link);
    bk_free(retry);
}

/* delay_ms < 0: it is over. */
static void end_with(struct retry *retry, const char *state, const struct webhooks_result *result,
                     int64_t delay_ms) {
    struct bk_work_task *task = retry->task;
    struct bk_buffer out;
    bk_buffer_init(&out, RESULT_BYTES_MAX);
    write_result(&out, state, result);
    bk_buffer_insist(&out);
    if (delay_ms < 0)
        bk_work_done(task, bk_buffer_slice(&out));
    else if (task->is_stopping) /* again would forget when it is due */
        bk_work_postpone(task, (uint64_t)delay_ms);
    else
        bk_work_again(task, (uint64_t)delay_ms, result->error, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    free_retry(retry);
}

static void end_pruned(struct retry *retry) {
    const struct webhooks_result result = {
        .time_ms = bk_clock_wall_ms(),
        .error = BK_SLICE("The event was pruned before it could be delivered.")};
    end_with(retry, "failed", &result, -1);
}

static void judge(struct retry *retry) {
    const struct webhooks_result *result = &retry->send.result;
    const struct webhooks_state *state = retry->send.endpoint->of->state;
    if (result->verdict == WEBHOOKS_OK) {
        end_with(retry, "delivered", result, -1);
        return;
    }
    int64_t delay_ms = -1;
    if (result->verdict != WEBHOOKS_STOP)
        delay_ms = webhooks_retry_delay(state, retry->failed + 1, result->retry_after_ms);
    end_with(retry, delay_ms < 0 ? "failed" : "retrying", result, delay_ms);
}

static void postpone(struct retry *retry) {
    /* A lane that rests hands it over when it is time. */
    bool is_kept_back = retry->is_resting || retry->task->is_stopping;
    bk_work_postpone(retry->task, is_kept_back ? 0 : BUSY_DELAY_MS);
    free_retry(retry);
}

static void on_sent(struct webhooks_send *send) {
    struct retry *retry = bk_container_of(send, struct retry, send);
    switch (send->status) {
    case BK_OK:
        judge(retry);
        break;
    case BK_GONE:
    case BK_NOT_FOUND:
        end_pruned(retry);
        break;
    default:
        postpone(retry);
    }
}

static void on_begun(struct webhooks_send *send) {
    bk_work_go(bk_container_of(send, struct retry, send)->task);
}

/* --- the kind, on the loop -------------------------------------------------------------------- */

static bool is_deleted(struct bk_tenant *tenant, struct bk_slice webhook) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT 1 FROM _webhooks WHERE id = ?1"));
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_statement *statement;
    if (connection == NULL || bk_connection_statement(connection, &sql, &statement) != BK_OK)
        return false;
    bk_statement_bind_text(statement, 1, webhook);
    bool is_absent = bk_statement_step(statement) == BK_END;
    bk_statement_reset(statement);
    return is_absent;
}

static void begin(struct bk_work_task *task, struct webhooks_endpoint *endpoint,
                  const struct payload *payload, const struct row *row) {
    bool is_replay = bk_slice_ends_with(task->lane, BK_SLICE("/replay"));
    struct retry *retry = bk_alloc_zero(sizeof *retry);
    memcpy(retry->event, payload->event.data, sizeof retry->event);
    retry->of = endpoint->of;
    retry->of->retry_count++;
    retry->of->state->retry_count++;
    retry->task = task;
    /* By the schedule: those that are in the row since the task was added count, too. */
    retry->failed = payload->failed + row->attempts - payload->attempts;
    retry->send =
        (struct webhooks_send){.endpoint = endpoint,
                               .class = is_replay ? WEBHOOKS_REPLAY : WEBHOOKS_RETRY,
                               .sequence = payload->sequence,
                               .after = payload->after,
                               .format = payload->format,
                               .event_id = bk_slice_make(retry->event, sizeof retry->event),
                               .begun = on_begun,
                               .done = on_sent};
    task->state = retry;
    bk_list_push(&endpoint->retries->running, &retry->link);
    bk_work_wait(task);
    webhooks_queue_put(&retry->send);
}

/* What waits in the queue has a place of work, too: mails and jobs want some. */
static bool is_full(const struct webhooks_tenant *own) {
    return own->retry_count + own->state->retry_count >= ALL_RUNNING_MAX;
}

static void rest_for_others(struct bk_work_task *task, const struct webhooks_state *state) {
    bk_work_lane_rest(state->context->work, task->tenant, task->lane, BUSY_DELAY_MS);
    bk_work_postpone(task, 0);
}

static void dispatch(struct bk_work_task *task, const struct payload *payload,
                     const struct webhooks_state *state) {
    struct webhooks_endpoint *endpoint =
        webhooks_endpoint_find(state, task->tenant, payload->webhook);
    const struct row row = read_row_now(task->tenant, payload);
    if (row.is_delivered) /* by a replay */
        bk_work_done(task, BK_SLICE_EMPTY);
    else if (endpoint == NULL && is_deleted(task->tenant, payload->webhook))
        bk_work_done(task, BK_SLICE_EMPTY); /* its rows go with it */
    else if (endpoint == NULL || endpoint->retries == NULL)
        bk_work_postpone(task, BUSY_DELAY_MS);
    else if (!endpoint->config->is_enabled || endpoint->is_gone)
        bk_work_postpone(task, AWAY_DELAY_MS);
    else if (is_full(endpoint->of))
        rest_for_others(task, state);
    else
        begin(task, endpoint, payload, &row);
}

static void on_task(struct bk_work_task *task, void *user) {
    const struct bk_module_context *context = user;
    struct bk_arena arena;
    struct payload payload;
    (void)BK_FAILPOINT("webhooks.retry_begun");
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (read_payload(task->payload, &arena, &payload))
        dispatch(task, &payload, context->state);
    else
        bk_work_dead(task, BK_SLICE("its payload is none of a delivery"), BK_SLICE_EMPTY);
    bk_arena_fini(&arena);
}

/* When the program stops, what is on its way may arrive. */
static void on_cancel(struct bk_work_task *task, void *user) {
    struct retry *retry = task->state;
    (void)user;
    if (task->is_cancelled || !retry->send.has_begun)
        webhooks_queue_cancel(&retry->send);
}

/* --- its end, on the writer ------------------------------------------------------------------- */

/* What the handler told; false: it told nothing. */
static bool read_result(struct bk_slice text, struct bk_arena *arena,
                        struct webhooks_result *result, enum webhooks_delivery_state *state) {
    struct bk_json *json;
    if (text.length == 0 || bk_json_parse(arena, text, &json, NULL) != BK_OK)
        return false;
    struct bk_slice name = bk_json_get_string(json, BK_SLICE("state"));
    *state = bk_slice_is(name, "delivered")  ? WEBHOOKS_DELIVERED
             : bk_slice_is(name, "retrying") ? WEBHOOKS_RETRYING
                                             : WEBHOOKS_FAILED;
    *result = (struct webhooks_result){
        .verdict = *state == WEBHOOKS_DELIVERED ? WEBHOOKS_OK : WEBHOOKS_AGAIN,
        .time_ms = (int64_t)number_of(json, BK_SLICE("time")),
        .status = (uint32_t)number_of(json, BK_SLICE("status")),
        .latency_ms = (uint32_t)number_of(json, BK_SLICE("latencyMs")),
        .error = bk_json_get_string(json, BK_SLICE("error")),
        .answer = bk_json_get_string(json, BK_SLICE("answer"))};
    return true;
}

/* An attempt that nothing is told of was interrupted, and is none. */
static void fill_untold(const struct bk_work_end *end, int64_t now_ms,
                        struct webhooks_attempt *attempt, struct webhooks_result *result) {
    attempt->state = end->outcome == BK_WORK_DEAD ? WEBHOOKS_FAILED : WEBHOOKS_RETRYING;
    *result =
        (struct webhooks_result){.verdict = WEBHOOKS_AGAIN, .time_ms = now_ms, .error = end->error};
    attempt->result = end->outcome == BK_WORK_DEAD ? result : NULL;
}

/* What has arrived meanwhile, by a replay, has arrived: what comes behind that is in its list. */
static enum bk_status keep_delivered(struct bk_transaction *transaction,
                                     struct webhooks_attempt *attempt) {
    struct row row = {.attempts = 0};
    enum bk_status status =
        read_row(bk_transaction_connection(transaction), attempt->sequence, attempt->webhook, &row);
    if (row.is_delivered)
        attempt->state = WEBHOOKS_DELIVERED;
    return status == BK_END ? BK_OK : status;
}

/* With how many attempts it took. */
static enum bk_status tell_exhausted(struct bk_transaction *transaction,
                                     struct webhooks_attempt *attempt) {
    struct row row = {.attempts = 0};
    enum bk_status status =
        read_row(bk_transaction_connection(transaction), attempt->sequence, attempt->webhook, &row);
    if (status != BK_OK)
        return status;
    attempt->number = row.attempts;
    return webhooks_exhausted_emit(transaction, attempt);
}

/* BK_END: it was deleted, and its deliveries go. */
static enum bk_status find_webhook(struct bk_transaction *transaction, struct bk_slice webhook) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT 1 FROM _webhookStates WHERE webhook = ?1"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, webhook);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status;
}

static enum bk_status on_end(struct bk_transaction *transaction, const struct bk_work_end *end,
                             void *user) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct payload payload;
    struct webhooks_result result;
    (void)user;
    enum bk_status status = BK_FAILPOINT("webhooks.retry_ended");
    bool is_over_before = end->outcome == BK_WORK_DONE && end->result.length == 0;
    if (status != BK_OK || is_over_before || !read_payload(end->payload, arena, &payload))
        return status;
    status = find_webhook(transaction, payload.webhook);
    if (status != BK_OK)
        return status == BK_END ? BK_OK : status;
    struct webhooks_attempt attempt = {.webhook = payload.webhook,
                                       .event = payload.event,
                                       .type = payload.type,
                                       .subject = payload.subject,
                                       .sequence = payload.sequence,
                                       .after = payload.after,
                                       .format = payload.format,
                                       .next_ms = end->due_ms,
                                       .result = &result};
    if (!read_result(end->result, arena, &result, &attempt.state))
        fill_untold(end, bk_transaction_now_ms(transaction), &attempt, &result);
    if (end->outcome == BK_WORK_DEAD)
        attempt.state = WEBHOOKS_FAILED; /* cancelled while it was sent */
    status = keep_delivered(transaction, &attempt);
    if (status == BK_OK)
        status = webhooks_delivery_write(transaction, &attempt);
    if (status == BK_OK && attempt.state == WEBHOOKS_FAILED)
        status = tell_exhausted(transaction, &attempt);
    return status;
}

/* --- lanes ------------------------------------------------------------------------------------ */

/* Those that hang, or wait for the endpoint's rate, have places of work that others want. */
static uint32_t running_max(const struct webhooks_endpoint *endpoint) {
    const struct webhooks_config *config = endpoint->config;
    uint32_t a_second = 1 + config->rate_per_minute / 60;
    uint32_t max =
        config->in_flight_max < LANE_RUNNING_MAX ? config->in_flight_max : LANE_RUNNING_MAX;
    if (webhooks_health_is_narrow(endpoint))
        return 1;
    return config->rate_per_minute > 0 && a_second < max ? a_second : max;
}

void webhooks_retry_configure(struct webhooks_endpoint *endpoint) {
    char room[BK_WORK_LANE_MAX_BYTES];
    struct bk_work *work = endpoint->of->state->context->work;
    if (endpoint->retries == NULL) {
        endpoint->retries = bk_alloc_zero(sizeof *endpoint->retries);
        bk_list_init(&endpoint->retries->running);
    }
    const struct bk_work_lane_policy policy = {.running_max = running_max(endpoint),
                                               .is_ordered = endpoint->config->is_ordered,
                                               .timeout_ms = TASK_TIMEOUT_MS};
    bk_work_lane_set_policy(work, endpoint->of->tenant, lane_of(endpoint, room), &policy);
}

void webhooks_retry_forget(struct webhooks_endpoint *endpoint) {
    char room[BK_WORK_LANE_MAX_BYTES];
    if (endpoint->retries == NULL)
        return;
    BK_ASSERT(bk_list_is_empty(&endpoint->retries->running));
    bk_work_lane_set_policy(endpoint->of->state->context->work, endpoint->of->tenant,
                            lane_of(endpoint, room), NULL);
    bk_free(endpoint->retries);
    endpoint->retries = NULL;
}

/* Those that are taken back may end others: the list is looked at anew after each. */
static struct retry *first_to_rest(const struct webhooks_endpoint *endpoint) {
    BK_LIST_FOR_EACH(node, &endpoint->retries->running) {
        struct retry *retry = bk_container_of(node, struct retry, link);
        if (!retry->send.has_begun && !retry->is_resting)
            return retry;
    }
    return NULL;
}

void webhooks_retry_rest(struct webhooks_endpoint *endpoint, uint64_t delay_ms) {
    char room[BK_WORK_LANE_MAX_BYTES];
    struct retry *retry;
    if (endpoint->retries == NULL)
        return;
    bk_work_lane_rest(endpoint->of->state->context->work, endpoint->of->tenant,
                      lane_of(endpoint, room), delay_ms);
    while ((retry = first_to_rest(endpoint)) != NULL) {
        retry->is_resting = true;
        webhooks_queue_cancel(&retry->send);
    }
}

void webhooks_retry_wake(struct webhooks_endpoint *endpoint) {
    char room[BK_WORK_LANE_MAX_BYTES];
    if (endpoint->retries != NULL)
        bk_work_lane_wake(endpoint->of->state->context->work, endpoint->of->tenant,
                          lane_of(endpoint, room));
}

bool webhooks_retry_blocks(const struct webhooks_endpoint *endpoint, struct bk_slice subject) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT 1 FROM _deliveries WHERE webhook = ?1 "
                                                   "AND subject = ?2 AND state = 'retrying'"));
    struct bk_connection *connection = bk_store_read_now(endpoint->of->tenant->database);
    struct bk_statement *statement;
    if (connection == NULL || bk_connection_statement(connection, &sql, &statement) != BK_OK)
        return false;
    bk_statement_bind_text(statement, 1, bk_slice_make(endpoint->id, WEBHOOKS_ID_BYTES));
    bk_statement_bind_text(statement, 2, subject);
    bool is_there = bk_statement_step(statement) == BK_OK;
    bk_statement_reset(statement);
    return is_there;
}

/* --- the pin ---------------------------------------------------------------------------------- */

static void unpin(struct webhooks_tenant *own) {
    bk_feed_unpin(&own->pin);
    bk_timer_close(own->pin_timer);
    own->pin_timer = NULL;
    own->is_pinned = false;
}

static void look(struct webhooks_tenant *own);

static void on_look(struct bk_timer *timer, void *user) {
    (void)timer;
    look(user);
}

static void on_pin_lost(struct bk_feed_pin *pin) {
    struct webhooks_tenant *own = bk_container_of(pin, struct webhooks_tenant, pin);
    bk_log_warn(&own->state->context->log, "events_pruned_while_waiting",
                BK_STRING("tenant", own->tenant->name), BK_INT("after", pin->sequence));
}

/* A pin that was lost begins anew with what is left. */
static void pin_behind(struct webhooks_tenant *own, uint64_t sequence) {
    if (own->is_pinned && !own->pin.is_lost) {
        own->pin.sequence = sequence;
        return;
    }
    bk_feed_unpin(&own->pin);
    own->pin = (struct bk_feed_pin){.sequence = sequence, .on_lost = on_pin_lost};
    bk_feed_pin(own->state->context->feed, own->tenant, &own->pin);
    if (own->is_pinned)
        return;
    own->is_pinned = true;
    own->pin_timer = bk_timer_create(own->state->context->loop, on_look, own);
    bk_timer_set_background(own->pin_timer);
    bk_timer_start(own->pin_timer, PIN_LOOK_MS, PIN_LOOK_MS);
}

/* How old an event may be that is still tried again by itself: the whole schedule, spread as far as
 * it goes, and a day that an endpoint asked for. Of what is older the webhook is off, or its task
 * was dropped by hand, and the journal is not kept for it without an end. */
static int64_t longest_wait_ms(const struct webhooks_state *state) {
    uint64_t sum_ms = DAY_MS;
    for (uint32_t i = 0; i < state->schedule_count; i++)
        sum_ms += state->schedule_ms[i] + state->schedule_ms[i] / 2;
    return (int64_t)sum_ms;
}

/* Of what the journal still has, and is not too old. */
static enum bk_status read_lowest(struct webhooks_tenant *own, uint64_t *sequence) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE(
        "SELECT sequence FROM _deliveries WHERE state = 'retrying' AND state != 'delivered' "
        "AND id >= ?1 ORDER BY id LIMIT 1"));
    char id[WEBHOOKS_ID_BYTES];
    struct bk_connection *connection = bk_store_read_now(own->tenant->database);
    struct bk_statement *statement;
    uint64_t first;
    if (connection == NULL)
        return BK_CLOSING;
    int64_t since_ms =
        bk_store_age_now_ms(own->state->context->store) - longest_wait_ms(own->state);
    enum bk_status status = bk_journal_seek(connection, since_ms, &first);
    if (status == BK_OK)
        status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    webhooks_delivery_id(id, first, BK_SLICE("000000000000000"));
    bk_statement_bind_text(statement, 1, bk_slice_make(id, SEQUENCE_HEAD_BYTES));
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *sequence = (uint64_t)bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status;
}

static void look(struct webhooks_tenant *own) {
    uint64_t sequence = 0;
    enum bk_status status = read_lowest(own, &sequence);
    if (status == BK_OK && sequence > 0)
        pin_behind(own, sequence - 1);
    else if (status == BK_END && own->is_pinned)
        unpin(own);
}

void webhooks_retry_added(struct webhooks_endpoint *endpoint, uint64_t sequence) {
    struct webhooks_tenant *own = endpoint->of;
    if (!own->is_pinned || own->pin.is_lost || own->pin.sequence >= sequence)
        pin_behind(own, sequence > 0 ? sequence - 1 : 0);
}

void webhooks_retry_open(struct webhooks_tenant *own) { look(own); }

void webhooks_retry_close(struct webhooks_tenant *own) {
    if (own->is_pinned)
        unpin(own);
}

/* --- the kinds -------------------------------------------------------------------------------- */

static const uint32_t backoff_ms[] = {1};

const struct bk_work_kind webhooks_work_kinds[WEBHOOKS_WORK_KIND_COUNT] = {
    {.name = WEBHOOKS_KIND,
     .timeout_ms = TASK_TIMEOUT_MS,
     .attempt_max = TASK_ATTEMPTS_MAX,
     .backoff_ms = backoff_ms,
     .backoff_count = BK_COUNT_OF(backoff_ms),
     .lane = {.running_max = WEBHOOKS_IN_FLIGHT},
     .on_task = on_task,
     .on_cancel = on_cancel,
     .on_end = on_end},
    {.name = WEBHOOKS_REPLAY_KIND,
     .timeout_ms = REPLAY_TIMEOUT_MS,
     .attempt_max = REPLAY_ATTEMPTS_MAX,
     .done_kept_ms = REPLAY_KEPT_MS,
     .on_task = webhooks_replay_run,
     .on_cancel = webhooks_replay_cancel,
     .on_end = webhooks_replay_end},
    {.name = WEBHOOKS_SWEEP_KIND, .timeout_ms = 60 * 60 * 1000, .on_task = webhooks_sweep},
};
