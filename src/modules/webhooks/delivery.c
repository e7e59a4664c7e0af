/*
 * The rows of `_deliveries`: one for each event and endpoint, made by its first attempt and gone on
 * with by those that follow. Nothing of it is an event: a thousand deliveries a second would be as
 * many events more. What ends as failed is told, as webhook.exhausted.
 */
#include "webhooks.h"

#include "bakend/clock.h"
#include "bakend/json.h"

/* --- ids -------------------------------------------------------------------------------------- */

void webhooks_delivery_id(char id[WEBHOOKS_ID_BYTES], uint64_t sequence, struct bk_slice webhook) {
    enum { HEAD_BYTES = WEBHOOKS_ID_BYTES - WEBHOOKS_TAIL_BYTES, BASE = 36 };
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    BK_ASSERT(webhook.length == WEBHOOKS_ID_BYTES);
    for (int i = HEAD_BYTES - 1; i >= 0; i--) {
        id[i] = digits[sequence % BASE];
        sequence /= BASE;
    }
    memcpy(id + HEAD_BYTES, webhook.data + WEBHOOKS_ID_BYTES - WEBHOOKS_TAIL_BYTES,
           WEBHOOKS_TAIL_BYTES);
}

/* --- an attempt as JSON ----------------------------------------------------------------------- */

void webhooks_result_write(struct bk_buffer *out, const struct webhooks_result *result) {
    char time[BK_TIME_TEXT_BYTES];
    bk_time_format(time, result->time_ms, ' ');
    bk_buffer_append_literal(out, "{\"time\":\"");
    bk_buffer_append(out, time, sizeof time);
    bk_buffer_append_literal(out, "\",\"status\":");
    bk_buffer_append_int(out, result->status);
    bk_buffer_append_literal(out, ",\"latencyMs\":");
    bk_buffer_append_int(out, result->latency_ms);
    bk_buffer_append_literal(out, ",\"error\":");
    bk_json_write_string(out, result->error);
    bk_buffer_append_literal(out, ",\"answer\":");
    bk_json_write_string(out, result->answer);
    bk_buffer_append_char(out, '}');
}

/* --- the row ---------------------------------------------------------------------------------- */

static const char *const state_names[] = {
    [WEBHOOKS_DELIVERED] = "delivered",
    [WEBHOOKS_RETRYING] = "retrying",
    [WEBHOOKS_FAILED] = "failed",
};

/* What an attempt's statements are given; texts live until they have run. */
struct row {
    struct bk_connection *connection;
    const struct webhooks_attempt *attempt;
    char id[WEBHOOKS_ID_BYTES];
    char now[BK_TIME_TEXT_BYTES], next[BK_TIME_TEXT_BYTES];
    struct bk_slice result; /* JSON; empty: only the state changes */
};

static struct bk_slice next_of(const struct row *row) {
    bool has_next = row->attempt->state == WEBHOOKS_RETRYING && row->attempt->next_ms > 0;
    return has_next ? bk_slice_make(row->next, sizeof row->next) : BK_SLICE("");
}

static enum bk_status insert(const struct row *row) {
    static const char text[] =
        "INSERT INTO _deliveries (id, webhook, event, type, subject, sequence, after, format, "
        "state, attempts, attemptCount, nextAttempt, created, updated) VALUES (?1, ?2, ?3, ?4, ?5, "
        "?6, ?7, ?8, ?9, '[' || ?10 || ']', ?11, ?12, ?13, ?13)";
    const struct bk_sql sql = bk_sql_make(bk_slice_make(text, sizeof text - 1));
    const struct webhooks_attempt *attempt = row->attempt;
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(row->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(row->id, sizeof row->id));
    bk_statement_bind_text(statement, 2, attempt->webhook);
    bk_statement_bind_text(statement, 3, attempt->event);
    bk_statement_bind_text(statement, 4, attempt->type);
    bk_statement_bind_text(statement, 5, attempt->subject);
    bk_statement_bind_int(statement, 6, (int64_t)attempt->sequence);
    bk_statement_bind_int(statement, 7, (int64_t)attempt->after);
    bk_statement_bind_text(statement, 8, bk_slice_from(webhooks_format_name(attempt->format)));
    bk_statement_bind_text(statement, 9, bk_slice_from(state_names[attempt->state]));
    bk_statement_bind_text(statement, 10, row->result);
    bk_statement_bind_int(statement, 11, row->result.length > 0);
    bk_statement_bind_text(statement, 12, next_of(row));
    bk_statement_bind_text(statement, 13, bk_slice_make(row->now, sizeof row->now));
    return bk_statement_run(statement);
}

/* BK_NOT_FOUND: there is no such row. */
static enum bk_status update(const struct row *row) {
    static const char text[] =
        "UPDATE _deliveries SET state = ?2, nextAttempt = ?3, updated = ?4, "
        "attemptCount = attemptCount + (?5 != ''), "
        "attempts = CASE WHEN ?5 = '' THEN attempts ELSE json_insert(CASE WHEN "
        "json_array_length(attempts) >= ?6 THEN json_remove(attempts, '$[1]') ELSE attempts END, "
        "'$[#]', json(?5)) END WHERE id = ?1 RETURNING 1";
    const struct bk_sql sql = bk_sql_make(bk_slice_make(text, sizeof text - 1));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(row->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(row->id, sizeof row->id));
    bk_statement_bind_text(statement, 2, bk_slice_from(state_names[row->attempt->state]));
    bk_statement_bind_text(statement, 3, next_of(row));
    bk_statement_bind_text(statement, 4, bk_slice_make(row->now, sizeof row->now));
    bk_statement_bind_text(statement, 5, row->result);
    bk_statement_bind_int(statement, 6, WEBHOOKS_ATTEMPTS_KEPT);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        (void)bk_statement_step(statement);
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

enum bk_status webhooks_delivery_write(struct bk_transaction *transaction,
                                       const struct webhooks_attempt *attempt) {
    enum { RESULT_BYTES_MAX = 64 * 1024 }; /* of an answer's start and an error, escaped */
    struct row row = {.connection = bk_transaction_connection(transaction), .attempt = attempt};
    struct bk_buffer result;
    bk_buffer_init(&result, RESULT_BYTES_MAX);
    if (attempt->result != NULL)
        webhooks_result_write(&result, attempt->result);
    bk_buffer_insist(&result);
    row.result = result.length == 0 ? BK_SLICE("") : bk_buffer_slice(&result);
    webhooks_delivery_id(row.id, attempt->sequence, attempt->webhook);
    bk_time_format(row.now, bk_transaction_now_ms(transaction), ' ');
    bk_time_format(row.next, attempt->next_ms, ' ');
    /* Most first attempts make their row; what is sent again after a crash has one. */
    enum bk_status status = attempt->number == 1 ? BK_NOT_FOUND : update(&row);
    if (status == BK_NOT_FOUND)
        status = insert(&row);
    if (status == BK_CONFLICT)
        status = update(&row);
    bk_buffer_fini(&result);
    return status;
}

/* --- what ends as failed ---------------------------------------------------------------------- */

static void write_exhausted(struct bk_buffer *out, const struct webhooks_attempt *attempt) {
    char delivery[WEBHOOKS_ID_BYTES];
    webhooks_delivery_id(delivery, attempt->sequence, attempt->webhook);
    bk_buffer_append_literal(out, "{\"webhook\":");
    bk_json_write_string(out, attempt->webhook);
    bk_json_write_member_string(out, BK_SLICE("delivery"),
                                bk_slice_make(delivery, sizeof delivery));
    bk_json_write_member_string(out, BK_SLICE("event"), attempt->event);
    bk_json_write_member_string(out, BK_SLICE("type"), attempt->type);
    bk_json_write_member_int(out, BK_SLICE("attempts"), attempt->number);
    if (attempt->result != NULL) {
        if (attempt->result->status > 0)
            bk_json_write_member_int(out, BK_SLICE("status"), attempt->result->status);
        bk_json_write_member_string(out, BK_SLICE("error"), attempt->result->error);
    }
    bk_buffer_append_char(out, '}');
}

enum bk_status webhooks_exhausted_emit(struct bk_transaction *transaction,
                                       const struct webhooks_attempt *attempt) {
    enum { PAYLOAD_BYTES_MAX = 64 * 1024 };
    struct bk_buffer payload;
    if (bk_slice_starts_with(attempt->type, BK_SLICE("webhook.")))
        return BK_OK;
    bk_buffer_init(&payload, PAYLOAD_BYTES_MAX);
    write_exhausted(&payload, attempt);
    bk_buffer_insist(&payload);
    struct bk_slice subject = bk_arena_format(bk_transaction_arena(transaction), "webhooks/%.*s",
                                              BK_SLICE_PRINT(attempt->webhook));
    const struct bk_event_draft draft = {.type = BK_SLICE("webhook.exhausted"),
                                         .source = BK_SLICE("webhooks"),
                                         .subject = subject,
                                         .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}
