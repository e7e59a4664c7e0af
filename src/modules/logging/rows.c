/*
 * Rows on their way to logs.db: admitted by a budget per second, kept in memory, and written as one
 * background write every LOGGING_FLUSH_MS. What does not fit is dropped and counted, and now and
 * then the count is logged: logs are the first thing to give way under load.
 *
 * Old rows are pruned by the same write, every PRUNE_INTERVAL_MS, from the oldest on and a bounded
 * number at a time; rowids grow with time, so the oldest are the first. By age, and by number: what
 * /api/logs counts and sorts stays countable and sortable.
 */
#include "logging_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/id.h"

enum {
    REPORT_INTERVAL_MS = 10 * 1000,
    PRUNE_INTERVAL_MS = 10 * 1000,
    PRUNE_ROWS_MAX = 20000,  /* of one pruning: above what the default budget writes in between */
    ROWS_KEPT_MAX = 1000000, /* per tenant: about 400 MB */
    MS_PER_DAY = 24 * 60 * 60 * 1000,
    MS_PER_SECOND = 1000,
};

static const struct logging_options *options_of(const struct logging_journal *journal) {
    return journal->logging->context->options;
}

/* --- coming in -------------------------------------------------------------------------------- */

static void count_dropped(struct logging_journal *journal, uint64_t count) {
    journal->dropped += count;
    journal->logging->rows_dropped += count;
}

static bool takes_rows(const struct logging_journal *journal) {
    return !journal->is_detached && !journal->logging->is_stopping &&
           !logging_journal_is_over(journal) && journal->row_count < LOGGING_ROWS_WAITING_MAX;
}

bool logging_rows_admit(struct logging_journal *journal) {
    const struct logging_options *options = options_of(journal);
    if (options->max_days == 0)
        return false;
    uint64_t second = bk_loop_now_ms(journal->logging->context->loop) / MS_PER_SECOND;
    if (second != journal->budget_second) {
        journal->budget_second = second;
        journal->budget_used = 0;
    }
    if (journal->budget_used >= options->rows_per_second || !takes_rows(journal)) {
        count_dropped(journal, 1);
        return false;
    }
    journal->budget_used++;
    return true;
}

void logging_rows_add(struct logging_journal *journal, enum logging_level level,
                      struct bk_slice message, struct bk_slice data) {
    BK_ASSERT(takes_rows(journal) && data.length > 0);
    struct logging_row *row = bk_alloc(sizeof *row + message.length + data.length);
    char *text = (char *)(row + 1);
    memcpy(text, data.data, data.length);
    if (message.length > 0)
        memcpy(text + data.length, message.data, message.length);
    row->created_ms = bk_clock_wall_ms();
    row->level = level;
    row->data = bk_slice_make(text, data.length);
    row->message = bk_slice_make(text + data.length, message.length);
    bk_list_push(&journal->rows, &row->link);
    journal->row_count++;
}

static void free_rows(struct bk_list *rows) {
    struct bk_list *node;
    while ((node = bk_list_pop(rows)) != NULL)
        bk_free(bk_container_of(node, struct logging_row, link));
}

void logging_rows_drop(struct logging_journal *journal) {
    count_dropped(journal, journal->row_count);
    free_rows(&journal->rows);
    journal->row_count = 0;
}

void logging_rows_report(struct logging_journal *journal) {
    uint64_t now_ms = bk_loop_now_ms(journal->logging->context->loop);
    uint64_t count = journal->dropped - journal->dropped_reported;
    if (count == 0 || now_ms - journal->reported_ms < REPORT_INTERVAL_MS)
        return;
    journal->reported_ms = now_ms;
    journal->dropped_reported = journal->dropped;
    bk_log_warn(&journal->logging->context->log, "log_rows_dropped",
                BK_STRING("tenant", bk_slice_make(journal->tenant, journal->tenant_length)),
                BK_INT("count", count),
                BK_INT("logsRowsPerSecond", options_of(journal)->rows_per_second));
}

/* --- going out -------------------------------------------------------------------------------- */

static enum bk_status insert_row(struct bk_connection *connection, const struct bk_sql *sql,
                                 const struct logging_row *row) {
    char id[BK_RECORD_ID_BYTES];
    char created[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, sql, &statement);
    if (status != BK_OK)
        return status;
    bk_record_id_make(id, row->created_ms);
    bk_time_format(created, row->created_ms, ' ');
    bk_statement_bind_text(statement, 1, bk_slice_make(id, sizeof id));
    bk_statement_bind_int(statement, 2, row->level);
    bk_statement_bind_text(statement, 3, row->message);
    bk_statement_bind_text(statement, 4, row->data);
    bk_statement_bind_text(statement, 5, bk_slice_make(created, sizeof created));
    return bk_statement_run(statement);
}

static enum bk_status prune(struct bk_connection *connection, int64_t before_ms) {
    struct bk_sql by_age =
        bk_sql_make(BK_SLICE("DELETE FROM _logs WHERE created < ?1 AND rowid IN"
                             " (SELECT rowid FROM _logs ORDER BY rowid LIMIT ?2)"));
    struct bk_sql by_number = bk_sql_make(
        BK_SLICE("DELETE FROM _logs WHERE rowid <= (SELECT max(rowid) FROM _logs) - ?1 AND rowid IN"
                 " (SELECT rowid FROM _logs ORDER BY rowid LIMIT ?2)"));
    char before[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &by_age, &statement);
    if (status != BK_OK)
        return status;
    bk_time_format(before, before_ms, ' ');
    bk_statement_bind_text(statement, 1, bk_slice_make(before, sizeof before));
    bk_statement_bind_int(statement, 2, PRUNE_ROWS_MAX);
    status = bk_statement_run(statement);
    if (status != BK_OK)
        return status;
    status = bk_connection_statement(connection, &by_number, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, ROWS_KEPT_MAX);
    bk_statement_bind_int(statement, 2, PRUNE_ROWS_MAX);
    return bk_statement_run(statement);
}

/* On the writer: the batch is the write's until done. */
static enum bk_status run_write(struct bk_transaction *transaction, struct bk_write *write) {
    struct logging_journal *journal = bk_container_of(write, struct logging_journal, write);
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_sql sql = bk_sql_make(BK_SLICE(
        "INSERT INTO _logs (id, level, message, data, created) VALUES (?1, ?2, ?3, ?4, ?5)"));
    BK_LIST_FOR_EACH(node, &journal->batch) {
        enum bk_status status =
            insert_row(connection, &sql, bk_container_of(node, struct logging_row, link));
        if (status != BK_OK)
            return status;
    }
    return journal->prune_before_ms == 0 ? BK_OK : prune(connection, journal->prune_before_ms);
}

static void on_written(struct bk_write *write, enum bk_status status) {
    struct logging_journal *journal = bk_container_of(write, struct logging_journal, write);
    struct logging *logging = journal->logging;
    if (status == BK_OK) {
        logging->rows_written += journal->batch_count;
    } else {
        count_dropped(journal, journal->batch_count);
        bk_log_warn(&logging->context->log, "log_rows_not_written",
                    BK_TEXT("status", bk_status_name(status)),
                    BK_INT("count", journal->batch_count));
    }
    free_rows(&journal->batch);
    journal->batch_count = 0;
    journal->is_writing = false;
    if (journal->is_detached || logging->is_stopping)
        logging_journal_end(journal);
    else if (status == BK_CORRUPT)
        logging_journal_renew(journal);
}

static void choose_pruning(struct logging_journal *journal) {
    uint64_t now_ms = bk_loop_now_ms(journal->logging->context->loop);
    journal->prune_before_ms = 0;
    if (journal->pruned_ms != 0 && now_ms - journal->pruned_ms < PRUNE_INTERVAL_MS)
        return;
    journal->pruned_ms = now_ms;
    journal->prune_before_ms = bk_store_age_now_ms(journal->logging->context->store) -
                               options_of(journal)->max_days * MS_PER_DAY;
}

void logging_rows_flush(struct logging_journal *journal) {
    if (journal->state != LOGGING_OPEN || journal->is_writing || journal->row_count == 0)
        return;
    struct bk_list *node;
    while ((node = bk_list_pop(&journal->rows)) != NULL)
        bk_list_push(&journal->batch, node);
    journal->batch_count = journal->row_count;
    journal->row_count = 0;
    choose_pruning(journal);
    journal->write =
        (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = run_write, .done = on_written};
    journal->is_writing = true;
    enum bk_status status = bk_store_write(journal->database, &journal->write);
    if (status == BK_OK)
        return;
    journal->is_writing = false;
    count_dropped(journal, journal->batch_count);
    free_rows(&journal->batch);
    journal->batch_count = 0;
}
