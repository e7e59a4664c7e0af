/*
 * A replay of many: a task of kind "webhooks-replay" in a lane of its endpoint that has low
 * priority, so one at a time of each, and all of them together have a share of what runs.
 *
 *   task begins ─> a position of its own, "webhooks/<id>/replay/<task>", from where it stands
 *     each event that is wanted (replay_range.c) ─> queued, class WEBHOOKS_REPLAY ─> sent
 *       ─> recorded (what fails becomes a task in the replay lane) ─> acknowledged
 *   all up to `until` is acknowledged ─> the position is dropped, the task is done
 *
 * To an ordered endpoint one is sent at a time, and what has a subject that is tried again waits
 * behind that.
 *
 * An attempt of the task is a slice of SLICE_MS: then the others' turn comes, and it goes on where
 * it stood. So it does after a restart, and when the endpoint's breaker is open, behind a pause.
 * What was sent and not acknowledged by the end of a process is sent again: under the same id, with
 * the same bytes.
 *
 * `after` of what had been sent is that of its row. A first delivery names the newest event before
 * it that the endpoint has a delivery of, which is the same one when the task begins anew: what it
 * was handed before this one has a row by then, or is handed again.
 *
 * Counts are kept in `_webhookReplays` from one slice to the next; what a killed process did not
 * write of them is missing in the event of the end. webhooks_replay_end tells of that end and
 * clears up.
 */
#include "replay.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"

enum {
    WINDOW = 32,
    SLICE_MS = 30 * 1000,
    TICK_MS = 100,
    BROKEN_REST_MS = 5 * 1000, /* while the breaker is open */
    LEAVE_MS = 1000,           /* for what is on its way, when it is dead or the program stops */
    ARENA_BYTES_MAX = 512 * 1024,
    EVENT_BYTES_MAX = 1024,
};
struct counts {
    uint64_t sent, delivered, failed;
};

enum end { GOES_ON, LATER, DONE, DEAD };

struct replay {
    struct webhooks_state *state;
    struct bk_work_task *task;
    struct webhooks_endpoint *endpoint; /* referenced */
    struct webhooks_config *config;     /* whose texts the position has; referenced */
    struct bk_arena arena;
    struct webhooks_replay_range range;
    struct bk_position position;
    char after[BK_CURSOR_BYTES];
    bool is_open;
    uint64_t last;        /* the newest that has a delivery, or will; 0: none was seen */
    uint64_t deadline_ms; /* of the slice */
    struct bk_list items;
    struct counts counts;
    struct bk_timer *tick;
    struct bk_task step;
    enum end end; /* no more is handed; what is on its way is waited for */
    uint64_t rest_ms;
    uint64_t leave_by_ms; /* what is on its way then is given up; 0: it has its time */
    const char *why;      /* DEAD */
    bool is_finishing;
    struct bk_write write; /* of the counts */
};

/* One delivery. */
struct item {
    struct replay *of;
    struct bk_list link;
    struct webhooks_send send;
    struct webhooks_record record;
    bool is_recording, is_given_up;
    char event_id[];
};

static void step_soon(struct replay *replay) {
    bk_loop_defer(replay->state->context->loop, &replay->step);
}

/* What is dead waits for nobody long. */
static void end(struct replay *replay, enum end how, uint64_t rest_ms, const char *why) {
    if (how == DEAD && replay->leave_by_ms == 0)
        replay->leave_by_ms = bk_loop_now_ms(replay->state->context->loop) + LEAVE_MS;
    if (replay->end == GOES_ON || how == DEAD) {
        replay->end = how;
        replay->rest_ms = rest_ms;
        replay->why = why;
    }
    step_soon(replay);
}

/* --- one delivery ----------------------------------------------------------------------------- */

static void forget(struct item *item) {
    struct replay *replay = item->of;
    bk_list_remove(&item->link);
    bk_event_unref(item->send.event);
    bk_free(item);
    step_soon(replay);
}

static void on_recorded(struct webhooks_record *record, enum bk_status status) {
    struct item *item = bk_container_of(record, struct item, record);
    struct replay *replay = item->of;
    if (status == BK_OK) {
        bool is_delivered = record->attempt.state == WEBHOOKS_DELIVERED;
        replay->counts.sent += record->attempt.result != NULL;
        replay->counts.delivered += is_delivered;
        replay->counts.failed += record->attempt.result != NULL && !is_delivered;
        bk_position_acknowledge(&replay->position, item->send.sequence);
    } else { /* the program stops */
        end(replay, LATER, 0, NULL);
    }
    forget(item);
}

/* result NULL: it has not been tried. Of an ordered endpoint all that waits is in one lane, or the
 * lane could not keep the order. */
static void record(struct item *item, const struct bk_event_fields *fields,
                   enum webhooks_delivery_state state, int64_t next_ms,
                   const struct webhooks_result *result) {
    const struct webhooks_send *send = &item->send;
    item->is_recording = true;
    item->record = (struct webhooks_record){
        .endpoint = send->endpoint,
        .attempt = {.webhook = bk_slice_make(send->endpoint->id, WEBHOOKS_ID_BYTES),
                    .event = send->event_id,
                    .type = fields->type,
                    .subject = fields->subject,
                    .sequence = send->sequence,
                    .after = send->after,
                    .depth = fields->depth,
                    .format = send->format,
                    .state = state,
                    .next_ms = next_ms,
                    .result = result},
        .is_replay = !send->endpoint->config->is_ordered,
        .recorded = on_recorded,
    };
    if (result != NULL)
        item->record.result = *result;
    webhooks_record(&item->record);
}

static void record_answer(struct item *item) {
    const struct webhooks_result *result = &item->send.result;
    int64_t delay_ms = -1;
    if (result->verdict == WEBHOOKS_OK) {
        record(item, item->send.fields, WEBHOOKS_DELIVERED, 0, result);
        return;
    }
    if (result->verdict != WEBHOOKS_STOP)
        delay_ms = webhooks_retry_delay(item->of->state, 1, result->retry_after_ms);
    if (delay_ms < 0)
        record(item, item->send.fields, WEBHOOKS_FAILED, 0, result);
    else
        record(item, item->send.fields, WEBHOOKS_RETRYING, bk_clock_wall_ms() + delay_ms, result);
}

static void on_sent(struct webhooks_send *send) {
    struct item *item = bk_container_of(send, struct item, send);
    struct replay *replay = item->of;
    if (send->status == BK_OK && !send->endpoint->is_gone) {
        record_answer(item);
        return;
    }
    if (send->status == BK_GONE || send->status == BK_NOT_FOUND)
        bk_position_acknowledge(&replay->position, send->sequence); /* it was pruned meanwhile */
    else
        end(replay, LATER, 0, NULL);
    forget(item);
}

static void put(struct replay *replay, struct bk_event *event,
                const struct webhooks_replay_row *row, uint64_t after) {
    struct bk_slice id = event->fields.id;
    bool has_form = row->exists && row->format != WEBHOOKS_FORMAT_COUNT;
    struct item *item = bk_alloc_zero(sizeof *item + id.length);
    memcpy(item->event_id, id.data, id.length);
    item->of = replay;
    item->send = (struct webhooks_send){
        .endpoint = replay->endpoint,
        .class = WEBHOOKS_REPLAY,
        .sequence = event->fields.sequence,
        .after = after,
        .format = has_form ? row->format : replay->endpoint->config->format,
        .event_id = bk_slice_make(item->event_id, id.length),
        .event = bk_event_ref(event),
        .done = on_sent,
    };
    bk_list_push(&replay->items, &item->link);
    if (replay->endpoint->config->is_ordered && event->fields.subject.length > 0 &&
        webhooks_retry_blocks(replay->endpoint, event->fields.subject))
        record(item, &event->fields, WEBHOOKS_RETRYING, bk_clock_wall_ms(), NULL);
    else
        webhooks_queue_put(&item->send);
}

/* --- the position ----------------------------------------------------------------------------- */

static enum bk_status find_after(struct replay *replay, struct bk_connection *connection,
                                 const struct webhooks_replay_row *row, uint64_t sequence,
                                 uint64_t *after) {
    *after = row->exists ? row->after : replay->last;
    if (row->exists || replay->last > 0)
        return BK_OK;
    return webhooks_replay_range_before(connection, replay->config->id, sequence,
                                        replay->range.after, after);
}

static enum bk_handed on_event(struct bk_position *position, struct bk_event *event) {
    struct replay *replay = position->user;
    uint64_t sequence = event->fields.sequence, after = 0;
    struct webhooks_replay_row row;
    bool is_wanted = false;
    if (replay->end != GOES_ON)
        return BK_HANDED_FAILED;
    if (sequence > replay->range.until) {
        step_soon(replay);
        return BK_HANDED_DONE;
    }
    if (BK_FAILPOINT("webhooks.replay_handed") != BK_OK)
        return BK_HANDED_FAILED;
    struct bk_connection *connection = bk_store_read_now(position->tenant->database);
    if (connection == NULL)
        return BK_HANDED_FAILED;
    enum bk_status status = webhooks_replay_range_wants(
        connection, &replay->range, replay->endpoint->config, &event->fields, &row, &is_wanted);
    if (status == BK_OK && is_wanted)
        status = find_after(replay, connection, &row, sequence, &after);
    if (status != BK_OK)
        return BK_HANDED_FAILED;
    if (is_wanted || row.exists)
        replay->last = sequence;
    if (!is_wanted)
        return BK_HANDED_DONE;
    put(replay, event, &row, after);
    return BK_HANDED_TAKEN;
}

/* What was pruned cannot be sent: it goes on with the oldest that is kept. */
static void on_lost(struct bk_position *position) {
    struct bk_journal_state journal = bk_journal_state(position->tenant->database);
    char cursor[BK_CURSOR_BYTES];
    bk_cursor_make(cursor, journal.epoch, journal.oldest - 1);
    (void)bk_position_seek(position, bk_slice_make(cursor, sizeof cursor), NULL);
}

static void on_opened(struct bk_position *position, enum bk_status status,
                      enum bk_feed_problem problem) {
    struct replay *replay = position->user;
    replay->is_open = status == BK_OK;
    if (status == BK_GONE)
        end(replay, DEAD, 0, "the events of this replay are no longer kept");
    else if (status == BK_CONFLICT || problem != BK_FEED_NO_PROBLEM)
        end(replay, DEAD, 0, "the tenant was restored: its events are other ones now");
    else if (status != BK_OK)
        end(replay, LATER, BROKEN_REST_MS, NULL);
    step_soon(replay);
}

static void open_position(struct replay *replay) {
    const struct webhooks_config *config = replay->config;
    const struct webhooks_replay_range *range = &replay->range;
    struct bk_journal_state journal = bk_journal_state(replay->task->tenant->database);
    uint64_t after = range->after + 1 < journal.oldest ? journal.oldest - 1 : range->after;
    struct bk_slice name = bk_arena_format(&replay->arena, "webhooks/%s/replay/%.*s",
                                           replay->endpoint->id, BK_SLICE_PRINT(replay->task->id));
    bk_cursor_make(replay->after, journal.epoch, after);
    replay->position = (struct bk_position){
        .kind = WEBHOOKS_REPLAY_KIND,
        .name = name,
        .phase = BK_PHASE_PLUGINS,
        .interest = {.types = range->type_count > 0 ? range->types : config->types,
                     .type_count = range->type_count > 0 ? range->type_count : config->type_count,
                     .subject = config->subject},
        .after = bk_slice_make(replay->after, sizeof replay->after),
        .window = config->is_ordered ? 1 : WINDOW,
        .sees_cut_chains = true,
        .on_event = on_event,
        .on_lost = on_lost,
        .user = replay,
    };
    bk_position_open(replay->state->context->feed, replay->task->tenant, &replay->position,
                     on_opened);
}

/* --- counts ----------------------------------------------------------------------------------- */

static enum bk_status read_counts(struct bk_connection *connection, struct bk_slice task,
                                  struct counts *counts) {
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT sent, delivered, failed FROM _webhookReplays WHERE task = ?1"));
    struct bk_statement *statement;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, task);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *counts = (struct counts){.sent = (uint64_t)bk_statement_int(statement, 0),
                                  .delivered = (uint64_t)bk_statement_int(statement, 1),
                                  .failed = (uint64_t)bk_statement_int(statement, 2)};
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status run_counts(struct bk_transaction *transaction, struct bk_write *write) {
    const struct replay *replay = bk_container_of(write, struct replay, write);
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("INSERT OR REPLACE INTO _webhookReplays (task, sent, delivered, "
                             "failed) VALUES (?1, ?2, ?3, ?4)"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, replay->task->id);
    bk_statement_bind_int(statement, 2, (int64_t)replay->counts.sent);
    bk_statement_bind_int(statement, 3, (int64_t)replay->counts.delivered);
    bk_statement_bind_int(statement, 4, (int64_t)replay->counts.failed);
    return bk_statement_run(statement);
}

static void write_counts(struct bk_buffer *out, const struct counts *counts) {
    bk_json_write_member_int(out, BK_SLICE("sent"), (int64_t)counts->sent);
    bk_json_write_member_int(out, BK_SLICE("delivered"), (int64_t)counts->delivered);
    bk_json_write_member_int(out, BK_SLICE("failed"), (int64_t)counts->failed);
}

/* --- its end ---------------------------------------------------------------------------------- */

static void answer(struct replay *replay) {
    struct bk_work_task *task = replay->task;
    enum end how = replay->end;
    uint64_t rest_ms = replay->rest_ms;
    const char *why = replay->why;
    struct bk_buffer result;
    bk_buffer_init(&result, 256);
    bk_buffer_append_char(&result, '{');
    write_counts(&result, &replay->counts);
    bk_buffer_append_char(&result, '}');
    bk_buffer_insist(&result);
    bk_timer_close(replay->tick);
    bk_task_cancel(&replay->step);
    webhooks_config_unref(replay->config);
    webhooks_endpoint_unref(replay->endpoint);
    bk_arena_fini(&replay->arena);
    bk_free(replay);
    task->state = NULL;
    if (how == DONE)
        bk_work_done(task, bk_buffer_slice(&result));
    else if (how == DEAD)
        bk_work_dead(task, bk_slice_from(why), bk_buffer_slice(&result));
    else
        bk_work_postpone(task, rest_ms);
    bk_buffer_fini(&result);
}

static void on_counts_written(struct bk_write *write, enum bk_status status) {
    (void)status;
    answer(bk_container_of(write, struct replay, write));
}

static void finish(struct replay *replay) {
    replay->is_finishing = true;
    replay->is_open = false;
    if (replay->end != LATER) {
        bk_position_drop(&replay->position);
        answer(replay);
        return;
    }
    bk_position_close(&replay->position);
    replay->write =
        (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = run_counts, .done = on_counts_written};
    if (bk_store_write(replay->task->tenant->database, &replay->write) != BK_OK)
        answer(replay);
}

/* What has not left comes again; an end of one is told at once, and takes it out of the list. */
static void take_back(struct replay *replay) {
    struct bk_list *node = replay->items.next;
    bool is_late = replay->leave_by_ms > 0 &&
                   bk_loop_now_ms(replay->state->context->loop) >= replay->leave_by_ms;
    while (node != &replay->items) {
        struct item *item = bk_container_of(node, struct item, link);
        node = node->next;
        if (item->is_recording || item->is_given_up || (item->send.has_begun && !is_late))
            continue;
        item->is_given_up = true;
        webhooks_queue_cancel(&item->send);
    }
}

static bool is_broken(const struct replay *replay) {
    return strcmp(webhooks_health_name(replay->endpoint), "open") == 0;
}

static void look(struct replay *replay) {
    const struct webhooks_replay_range *range = &replay->range;
    uint64_t acknowledged = range->after;
    if (replay->is_open)
        acknowledged = bk_position_facts(&replay->position).acknowledged;
    if (acknowledged > range->until)
        acknowledged = range->until;
    if (acknowledged > range->after)
        bk_work_set_progress(replay->task, acknowledged - range->after,
                             range->until - range->after);
    if (!replay->endpoint->is_gone && !replay->endpoint->config->is_enabled && replay->end != DEAD)
        end(replay, DEAD, 0,
            "the webhook was switched off: enable it, then ask for what is missing");
    if (replay->end != GOES_ON)
        return;
    if (replay->endpoint->is_gone)
        end(replay, LATER, TICK_MS, NULL);
    else if (acknowledged >= range->until && bk_list_is_empty(&replay->items))
        end(replay, DONE, 0, NULL);
    else if (is_broken(replay))
        end(replay, LATER, BROKEN_REST_MS, NULL);
    else if (bk_loop_now_ms(replay->state->context->loop) >= replay->deadline_ms)
        end(replay, LATER, 0, NULL);
}

static void on_step(struct bk_task *step) {
    struct replay *replay = bk_container_of(step, struct replay, step);
    if (replay->is_finishing)
        return;
    look(replay);
    if (replay->end == GOES_ON)
        return;
    take_back(replay);
    if (bk_list_is_empty(&replay->items))
        finish(replay);
}

static void on_tick(struct bk_timer *timer, void *user) {
    (void)timer;
    step_soon(user);
}

/* --- its beginning ---------------------------------------------------------------------------- */

/* "webhooks-replay/<id>/replay" */
static struct bk_slice webhook_of(struct bk_slice lane) {
    static const struct bk_slice head = BK_SLICE_INIT(WEBHOOKS_REPLAY_KIND "/");
    if (lane.length < head.length + WEBHOOKS_ID_BYTES)
        return BK_SLICE_EMPTY;
    return bk_slice_make(lane.data + head.length, WEBHOOKS_ID_BYTES);
}

static void begin(struct webhooks_state *state, struct webhooks_endpoint *endpoint,
                  struct bk_work_task *task, struct bk_arena *arena,
                  const struct webhooks_replay_range *range) {
    struct replay *replay = bk_alloc_zero(sizeof *replay);
    struct bk_loop *loop = state->context->loop;
    replay->state = state;
    replay->task = task;
    replay->endpoint = endpoint;
    replay->config = webhooks_config_ref(endpoint->config);
    replay->arena = *arena;
    replay->range = *range;
    replay->deadline_ms = bk_loop_now_ms(loop) + SLICE_MS;
    webhooks_endpoint_ref(endpoint);
    bk_list_init(&replay->items);
    bk_task_init(&replay->step, on_step);
    replay->tick = bk_timer_create(loop, on_tick, replay);
    bk_timer_start(replay->tick, TICK_MS, TICK_MS);
    (void)read_counts(bk_store_read_now(task->tenant->database), task->id, &replay->counts);
    task->state = replay;
    open_position(replay);
}

void webhooks_replay_run(struct bk_work_task *task, void *user) {
    const struct bk_module_context *context = user;
    struct webhooks_state *state = context->state;
    struct webhooks_endpoint *endpoint =
        webhooks_endpoint_find(state, task->tenant, webhook_of(task->lane));
    struct bk_arena arena;
    struct webhooks_replay_range range;
    if (endpoint == NULL || endpoint->is_gone) {
        bk_work_dead(task, BK_SLICE("there is no such webhook any more"), BK_SLICE_EMPTY);
        return;
    }
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (webhooks_replay_range_read(&arena, task->payload, &range) != BK_OK) {
        bk_arena_fini(&arena);
        bk_work_dead(task, BK_SLICE("its payload cannot be read"), BK_SLICE_EMPTY);
        return;
    }
    begin(state, endpoint, task, &arena, &range);
}

void webhooks_replay_cancel(struct bk_work_task *task, void *user) {
    struct replay *replay = task->state;
    (void)user;
    if (replay == NULL)
        return;
    if (replay->leave_by_ms == 0)
        replay->leave_by_ms = bk_loop_now_ms(replay->state->context->loop) + LEAVE_MS;
    if (task->is_cancelled)
        end(replay, DEAD, 0, "cancelled");
    else
        end(replay, LATER, 0, NULL);
}

/* --- on the writer ---------------------------------------------------------------------------- */

static enum bk_status run_one(struct bk_transaction *transaction, struct bk_slice text,
                              const struct bk_value *values, size_t count) {
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        bk_statement_bind(statement, (int)i + 1, &values[i]);
    return bk_statement_run(statement);
}

/* A gap that was made up for is none any more, unless it is another one by now: it ends elsewhere
 * then, or nowhere, while the webhook is off. */
static enum bk_status close_gap(struct bk_transaction *transaction, struct bk_slice webhook,
                                const struct webhooks_replay_range *range) {
    const struct bk_value values[] = {BK_VALUE_OF_TEXT(webhook),
                                      BK_VALUE_OF_INT((int64_t)range->until)};
    if (!range->is_gap || range->type_count > 0)
        return BK_OK;
    return run_one(transaction,
                   BK_SLICE("UPDATE _webhookStates SET missedAfter = 0, missedUntil = 0 WHERE "
                            "webhook = ?1 AND missedUntil = ?2 AND missedUntil > 0"),
                   values, BK_COUNT_OF(values));
}

static enum bk_status tell(struct bk_transaction *transaction, const struct bk_work_end *end,
                           struct bk_slice webhook, const struct counts *counts) {
    struct bk_buffer payload;
    bk_buffer_init(&payload, EVENT_BYTES_MAX);
    bk_buffer_append_char(&payload, '{');
    bk_json_write_member_string(&payload, BK_SLICE("webhook"), webhook);
    bk_json_write_member_string(&payload, BK_SLICE("task"), end->id);
    bk_json_write_member_bool(&payload, BK_SLICE("complete"), end->outcome == BK_WORK_DONE);
    write_counts(&payload, counts);
    bk_buffer_append_char(&payload, '}');
    bk_buffer_insist(&payload);
    const struct bk_event_draft draft = {
        .type = BK_SLICE("webhook.replayed"),
        .source = BK_SLICE("webhooks"),
        .subject = bk_arena_format(bk_transaction_arena(transaction), "webhooks/%.*s",
                                   BK_SLICE_PRINT(webhook)),
        .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

static void count_of(struct bk_arena *arena, struct bk_slice result, struct counts *counts) {
    struct bk_json *json;
    int64_t sent, delivered, failed;
    if (result.length == 0 || bk_json_parse(arena, result, &json, NULL) != BK_OK)
        return;
    const struct bk_json *parts[] = {bk_json_get(json, BK_SLICE("sent")),
                                     bk_json_get(json, BK_SLICE("delivered")),
                                     bk_json_get(json, BK_SLICE("failed"))};
    if (parts[0] != NULL && bk_json_to_int64(parts[0], &sent) && parts[1] != NULL &&
        bk_json_to_int64(parts[1], &delivered) && parts[2] != NULL &&
        bk_json_to_int64(parts[2], &failed))
        *counts = (struct counts){(uint64_t)sent, (uint64_t)delivered, (uint64_t)failed};
}

enum bk_status webhooks_replay_end(struct bk_transaction *transaction,
                                   const struct bk_work_end *end, void *user) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_slice webhook = webhook_of(end->lane);
    struct bk_value task = BK_VALUE_OF_TEXT(end->id);
    struct counts counts = {0};
    struct webhooks_replay_range range;
    (void)user;
    if (end->outcome == BK_WORK_AGAIN || webhook.length == 0 ||
        webhooks_replay_range_read(arena, end->payload, &range) != BK_OK)
        return BK_OK;
    enum bk_status status = read_counts(bk_transaction_connection(transaction), end->id, &counts);
    count_of(arena, end->result, &counts);
    if (status == BK_OK)
        status = tell(transaction, end, webhook, &counts);
    if (status == BK_OK && end->outcome == BK_WORK_DONE)
        status = close_gap(transaction, webhook, &range);
    if (status == BK_OK)
        status =
            run_one(transaction, BK_SLICE("DELETE FROM _webhookReplays WHERE task = ?1"), &task, 1);
    if (status == BK_OK)
        status = bk_positions_forget(
            transaction, bk_arena_format(arena, "webhooks/%.*s/replay/%.*s",
                                         BK_SLICE_PRINT(webhook), BK_SLICE_PRINT(end->id)));
    return status;
}

enum bk_status webhooks_replay_clear(const struct webhooks_state *state,
                                     struct bk_transaction *transaction, struct bk_slice webhook) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    enum bk_status status = bk_work_clear(
        state->context->work, transaction,
        bk_arena_format(arena, WEBHOOKS_REPLAY_KIND "/%.*s", BK_SLICE_PRINT(webhook)));
    return status != BK_OK
               ? status
               : bk_positions_forget(transaction, bk_arena_format(arena, "webhooks/%.*s/replay/",
                                                                  BK_SLICE_PRINT(webhook)));
}
