/*
 * Work of kind "auth-sweep": once a day what is over goes, in each tenant where anybody has signed
 * in, until nothing is left: sessions, and what was begun and never ended. A tenant that nobody
 * uses has no schedule, and is not opened for it. Nothing is of use any more when it goes here;
 * whoever looks at a row looks at its time too. No events: nothing happens.
 *
 * In slices on the writer, in the background, so that a million rows hold up nobody. Ages are
 * judged by the clock of ages: a wrong year ends nobody's session for good.
 */
#include "auth.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

enum { SLICE_ROWS = 500 };
#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)

/* ?1: the moment that what is older than is over; ?2: how many rows at most. A code and a first
 * factor are good for a day at the longest. */
static const struct {
    const char *sql;
    int64_t age_ms;
} sweeps[] = {
    {"DELETE FROM _sessions WHERE id IN "
     "(SELECT id FROM _sessions WHERE expires < ?1 LIMIT ?2) RETURNING 1",
     0},
    {"DELETE FROM _otps WHERE id IN "
     "(SELECT id FROM _otps WHERE created < ?1 LIMIT ?2) RETURNING 1",
     DAY_MS},
    {"DELETE FROM _mfas WHERE id IN "
     "(SELECT id FROM _mfas WHERE created < ?1 LIMIT ?2) RETURNING 1",
     DAY_MS},
};

#define SCHEDULE_NAME BK_SLICE("auth-sweep")

enum bk_status auth_sweep_plan(const struct bk_module_context *context,
                               struct bk_transaction *transaction) {
    const struct bk_work_schedule daily = {
        .name = SCHEDULE_NAME, .kind = "auth-sweep", .expression = BK_SLICE("50 3 * * *")};
    enum bk_status status = bk_work_schedule_put(context->work, transaction, &daily, NULL);
    /* Where there is no room for one more schedule, people sign in all the same. */
    return status == BK_LIMIT || status == BK_CONFLICT ? BK_OK : status;
}

struct sweeping {
    const struct bk_module_context *context;
    struct bk_write write;
    struct bk_work_task *task;
    int64_t now_ms;
    size_t index;       /* in sweeps; behind the last one: is anything left? */
    uint32_t row_count; /* of this slice */
};

/* When nothing is left that will be over, nobody needs to look. */
static enum bk_status settle(const struct sweeping *sweeping, struct bk_transaction *transaction) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT 1 WHERE EXISTS (SELECT 1 FROM _sessions) OR "
                             "EXISTS (SELECT 1 FROM _otps) OR EXISTS (SELECT 1 FROM _mfas)"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    if (status != BK_END)
        return status;
    status = bk_work_schedule_remove(sweeping->context->work, transaction, SCHEDULE_NAME);
    return status == BK_NOT_FOUND ? BK_OK : status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct sweeping *sweeping = bk_container_of(write, struct sweeping, write);
    if (sweeping->index == BK_COUNT_OF(sweeps))
        return settle(sweeping, transaction); /* row_count is that of the last slice */
    const struct bk_sql sql = bk_sql_make(bk_slice_from(sweeps[sweeping->index].sql));
    struct bk_statement *statement;
    char before[BK_TIME_TEXT_BYTES];
    sweeping->row_count = 0;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_time_format(before, sweeping->now_ms - sweeps[sweeping->index].age_ms, ' ');
    bk_statement_bind_text(statement, 1, bk_slice_make(before, sizeof before));
    bk_statement_bind_int(statement, 2, SLICE_ROWS);
    while ((status = bk_statement_step(statement)) == BK_OK)
        sweeping->row_count++;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static void go_on(struct sweeping *sweeping);

static void on_done(struct bk_write *write, enum bk_status status) {
    struct sweeping *sweeping = bk_container_of(write, struct sweeping, write);
    struct bk_work_task *task = sweeping->task;
    if (status == BK_OK && sweeping->row_count < SLICE_ROWS)
        sweeping->index++;
    bool is_over = sweeping->index > BK_COUNT_OF(sweeps);
    if (status == BK_OK && !task->is_stopping && !task->is_cancelled && !is_over) {
        go_on(sweeping);
        return;
    }
    bk_free(sweeping);
    if (status != BK_OK)
        bk_work_again(task, 0, bk_slice_from(bk_status_name(status)), BK_SLICE_EMPTY);
    else if (is_over)
        bk_work_done(task, BK_SLICE_EMPTY);
    else
        bk_work_postpone(task, 0);
}

static void go_on(struct sweeping *sweeping) {
    struct bk_work_task *task = sweeping->task;
    sweeping->write = (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_run, .done = on_done};
    enum bk_status status = bk_store_write(task->tenant->database, &sweeping->write);
    if (status == BK_OK)
        return;
    bk_free(sweeping);
    bk_work_again(task, 0, bk_slice_from(bk_status_name(status)), BK_SLICE_EMPTY);
}

void auth_sweep(struct bk_work_task *task, void *user) {
    const struct bk_module_context *context = user;
    struct sweeping *sweeping = bk_alloc_zero(sizeof *sweeping);
    sweeping->task = task;
    sweeping->context = context;
    sweeping->now_ms = bk_store_age_now_ms(context->store);
    go_on(sweeping);
}
