/*
 * Work of kind "webhooks-sweep": once a day, in each tenant that has webhooks, old rows of
 * _deliveries go: what was delivered after 7 days, what failed for good after 30. What waits to be
 * tried again stays. When a webhook is deleted there is one at once, since its deliveries go with
 * it.
 *
 * Ids of deliveries ascend as events do, and no delivery is older than its event. So only the rows
 * below the first event of the last 7 days are looked at, and not the millions above.
 *
 * In slices on the writer, in the background, with pauses while requests come. Ages are judged by
 * the clock of ages. No events: nothing happens.
 */
#include "webhooks.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

enum {
    SLICE_ROWS = 200,     /* looked at, or deleted with their webhook */
    SLICE_WEBHOOKS = 100, /* asked for */
    PAUSE_MS = 20,        /* between two slices, while requests come … */
    REQUESTS_MS = 250,    /* … the last one of which is younger than that */
    HEAD_BYTES = 8        /* of an id: its event's sequence */
};
#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)
#define DELIVERED_KEPT_MS (7 * DAY_MS)
#define FAILED_KEPT_MS (30 * DAY_MS)

#define SCHEDULE_NAME BK_SLICE("webhooks-sweep")

enum step { OLD_ROWS, DELETED_WEBHOOKS, SETTLE, OVER };

/* Where it stands; a write that is run again begins with the same one. */
struct place {
    enum step step;
    char from[WEBHOOKS_ID_BYTES]; /* the id, or the webhook, behind which it goes on */
    size_t from_length;
};

struct sweeping {
    const struct bk_module_context *context;
    struct bk_write write;
    struct bk_work_task *task;
    struct bk_timer *pause;
    int64_t now_ms;
    struct place place, next;
};

enum bk_status webhooks_sweep_plan(const struct webhooks_state *state,
                                   struct bk_transaction *transaction) {
    const struct bk_work_schedule daily = {
        .name = SCHEDULE_NAME, .kind = WEBHOOKS_SWEEP_KIND, .expression = BK_SLICE("20 4 * * *")};
    enum bk_status status = bk_work_schedule_put(state->context->work, transaction, &daily, NULL);
    /* Where there is no room for one more schedule, webhooks work all the same. */
    return status == BK_LIMIT || status == BK_CONFLICT ? BK_OK : status;
}

enum bk_status webhooks_sweep_soon(const struct webhooks_state *state,
                                   struct bk_transaction *transaction) {
    const struct bk_work_draft draft = {.kind = WEBHOOKS_SWEEP_KIND};
    enum bk_status status = bk_work_add(state->context->work, transaction, &draft, NULL);
    return status == BK_BUSY ? BK_OK : status;
}

/* --- a slice, on the writer ------------------------------------------------------------------- */

static enum bk_status prepare(struct bk_transaction *transaction, const char *text,
                              struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    return bk_connection_statement(bk_transaction_connection(transaction), &sql, statement);
}

static void set_from(struct place *place, struct bk_slice from) {
    place->from_length = from.length < sizeof place->from ? from.length : sizeof place->from;
    memcpy(place->from, from.data, place->from_length);
}

static void set_step(struct place *place, enum step step) {
    place->step = step;
    place->from_length = 0;
}

static struct bk_slice from_of(const struct place *place) {
    return bk_slice_make(place->from, place->from_length);
}

/* Of the ids that events of the last days begin with, the first. */
static enum bk_status find_end(struct bk_transaction *transaction, int64_t before_ms,
                               char end[WEBHOOKS_ID_BYTES]) {
    uint64_t sequence;
    enum bk_status status =
        bk_journal_seek(bk_transaction_connection(transaction), before_ms, &sequence);
    if (status == BK_OK)
        webhooks_delivery_id(end, sequence, BK_SLICE("000000000000000"));
    return status;
}

/* The last id of the next rows that are looked at; BK_END: there are none. */
static enum bk_status find_slice(struct bk_transaction *transaction, struct bk_slice end,
                                 struct place *place) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(transaction,
                "SELECT max(id) FROM (SELECT id FROM _deliveries WHERE id > ?1 AND id < ?2 "
                "ORDER BY id LIMIT ?3)",
                &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, from_of(place));
    bk_statement_bind_text(statement, 2, end);
    bk_statement_bind_int(statement, 3, SLICE_ROWS);
    status = bk_statement_step(statement);
    if (status == BK_OK && bk_statement_is_null(statement, 0))
        status = BK_END;
    else if (status == BK_OK)
        set_from(place, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status;
}

static enum bk_status sweep_old(struct sweeping *sweeping, struct bk_transaction *transaction) {
    char end[WEBHOOKS_ID_BYTES], delivered[BK_TIME_TEXT_BYTES], failed[BK_TIME_TEXT_BYTES];
    struct place *next = &sweeping->next;
    struct bk_statement *statement;
    enum bk_status status = find_end(transaction, sweeping->now_ms - DELIVERED_KEPT_MS, end);
    if (status == BK_OK)
        status = find_slice(transaction, bk_slice_make(end, HEAD_BYTES), next);
    if (status == BK_END)
        set_step(next, DELETED_WEBHOOKS);
    if (status != BK_OK)
        return status == BK_END ? BK_OK : status;
    status = prepare(transaction,
                     "DELETE FROM _deliveries WHERE id > ?1 AND id <= ?2 AND "
                     "((state = 'delivered' AND updated < ?3) OR "
                     "(state = 'failed' AND updated < ?4))",
                     &statement);
    if (status != BK_OK)
        return status;
    bk_time_format(delivered, sweeping->now_ms - DELIVERED_KEPT_MS, ' ');
    bk_time_format(failed, sweeping->now_ms - FAILED_KEPT_MS, ' ');
    bk_statement_bind_text(statement, 1, from_of(&sweeping->place));
    bk_statement_bind_text(statement, 2, from_of(next));
    bk_statement_bind_text(statement, 3, bk_slice_make(delivered, sizeof delivered));
    bk_statement_bind_text(statement, 4, bk_slice_make(failed, sizeof failed));
    return bk_statement_run(statement);
}

/* The next webhook that has deliveries. BK_END: there is none. */
static enum bk_status next_webhook(struct bk_transaction *transaction, struct place *place,
                                   bool *is_deleted) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(transaction,
                "SELECT webhook, NOT EXISTS (SELECT 1 FROM _webhooks WHERE _webhooks.id = webhook) "
                "FROM _deliveries WHERE webhook > ?1 ORDER BY webhook LIMIT 1",
                &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, from_of(place));
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        set_from(place, bk_statement_text(statement, 0));
        *is_deleted = bk_statement_int(statement, 1) != 0;
    }
    bk_statement_reset(statement);
    return status;
}

static enum bk_status delete_of(struct bk_transaction *transaction, struct bk_slice webhook,
                                uint32_t *count) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(transaction,
                "DELETE FROM _deliveries WHERE id IN "
                "(SELECT id FROM _deliveries WHERE webhook = ?1 LIMIT ?2) RETURNING 1",
                &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, webhook);
    bk_statement_bind_int(statement, 2, SLICE_ROWS);
    while ((status = bk_statement_step(statement)) == BK_OK)
        (*count)++;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status sweep_deleted(struct sweeping *sweeping, struct bk_transaction *transaction) {
    struct place *next = &sweeping->next;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < SLICE_WEBHOOKS && status == BK_OK; i++) {
        struct place before = *next;
        bool is_deleted = false;
        uint32_t count = 0;
        status = next_webhook(transaction, next, &is_deleted);
        if (status == BK_OK && is_deleted)
            status = delete_of(transaction, from_of(next), &count);
        if (status == BK_OK && count == SLICE_ROWS) {
            *next = before; /* it may have more */
            break;
        }
    }
    if (status == BK_END)
        set_step(next, SETTLE);
    return status == BK_END ? BK_OK : status;
}

/* A tenant that has neither webhooks nor deliveries is not opened for this any more. */
static enum bk_status settle(struct sweeping *sweeping, struct bk_transaction *transaction) {
    struct bk_statement *statement;
    enum bk_status status = prepare(transaction,
                                    "SELECT 1 WHERE EXISTS (SELECT 1 FROM _webhooks) OR "
                                    "EXISTS (SELECT 1 FROM _deliveries)",
                                    &statement);
    if (status != BK_OK)
        return status;
    set_step(&sweeping->next, OVER);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    if (status != BK_END)
        return status;
    status = bk_work_schedule_remove(sweeping->context->work, transaction, SCHEDULE_NAME);
    return status == BK_NOT_FOUND ? BK_OK : status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct sweeping *sweeping = bk_container_of(write, struct sweeping, write);
    sweeping->next = sweeping->place;
    switch (sweeping->place.step) {
    case OLD_ROWS:
        return sweep_old(sweeping, transaction);
    case DELETED_WEBHOOKS:
        return sweep_deleted(sweeping, transaction);
    case SETTLE:
        return settle(sweeping, transaction);
    case OVER:
        break;
    }
    BK_UNREACHABLE();
}

/* --- from slice to slice, on the loop --------------------------------------------------------- */

static void go_on(struct sweeping *sweeping);

static void end(struct sweeping *sweeping, enum bk_status status) {
    struct bk_work_task *task = sweeping->task;
    bool is_over = sweeping->place.step == OVER;
    bk_timer_close(sweeping->pause);
    bk_free(sweeping);
    if (status != BK_OK)
        bk_work_again(task, 0, bk_slice_from(bk_status_name(status)), BK_SLICE_EMPTY);
    else if (is_over)
        bk_work_done(task, BK_SLICE_EMPTY);
    else
        bk_work_postpone(task, 0);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct sweeping *sweeping = bk_container_of(write, struct sweeping, write);
    const struct bk_work_task *task = sweeping->task;
    if (status == BK_OK)
        sweeping->place = sweeping->next;
    if (status != BK_OK || sweeping->place.step == OVER || task->is_stopping || task->is_cancelled)
        end(sweeping, status);
    else if (bk_loop_request_age_ms(sweeping->context->loop) < REQUESTS_MS)
        bk_timer_start(sweeping->pause, PAUSE_MS, 0);
    else
        go_on(sweeping);
}

static void go_on(struct sweeping *sweeping) {
    sweeping->write = (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_run, .done = on_done};
    enum bk_status status = bk_store_write(sweeping->task->tenant->database, &sweeping->write);
    if (status != BK_OK)
        end(sweeping, status);
}

static void on_pause(struct bk_timer *timer, void *user) {
    (void)timer;
    go_on(user);
}

void webhooks_sweep(struct bk_work_task *task, void *user) {
    const struct bk_module_context *context = user;
    struct sweeping *sweeping = bk_alloc_zero(sizeof *sweeping);
    sweeping->task = task;
    sweeping->context = context;
    sweeping->now_ms = bk_store_age_now_ms(context->store);
    sweeping->pause = bk_timer_create(context->loop, on_pause, sweeping);
    go_on(sweeping);
}
