/*
 * A webhook is switched off and on: by hand, or by the module when the endpoint says that it is
 * gone or has failed for days.
 *
 *   off   its tasks rest in their lane, and where it stood is noted: missedAfter
 *   on    it goes on at the head of the journal; what it has missed, missedAfter … missedUntil, is
 *         for `replay {missing}`, as long as the journal has it
 *
 * All of it in the transaction that changes the record, so that no event falls between. Whether it
 * was off before says its row of `_webhookStates`, not the record, which is changed by then: two
 * who switch it off at once make one event. Off again before what was missed is replayed: the place
 * where it was off first stays.
 */
#include "routes.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

#include <stdio.h>

#define RECORDS "/api/collections/_webhooks/records"

/* --- on the writer ---------------------------------------------------------------------------- */

/* The row of an endpoint that turns; BK_END: it was so before. */
static enum bk_status turn(struct bk_transaction *transaction, struct bk_slice id, bool enables) {
    static const struct bk_slice off =
        BK_SLICE_INIT("UPDATE _webhookStates SET isOff = 1, "
                      "missedAfter = iif(missedAfter = 0, max(sequence, 1), missedAfter), "
                      "missedUntil = 0 WHERE webhook = ?1 AND isOff = 0 RETURNING webhook");
    static const struct bk_slice on =
        BK_SLICE_INIT("UPDATE _webhookStates SET isOff = 0, missedUntil = ?2, sequence = ?2 "
                      "WHERE webhook = ?1 AND isOff = 1 RETURNING webhook");
    const struct bk_sql sql = bk_sql_make(enables ? on : off);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    if (enables)
        bk_statement_bind_int(statement, 2, (int64_t)bk_transaction_sequence(transaction));
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status;
}

static enum bk_status emit(struct bk_transaction *transaction, struct bk_slice id, bool enables,
                           struct bk_slice reason) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_buffer payload;
    bk_buffer_init(&payload, 4096);
    bk_buffer_append_char(&payload, '{');
    bk_json_write_member_string(&payload, BK_SLICE("webhook"), id);
    if (!enables)
        bk_json_write_member_string(&payload, BK_SLICE("reason"), reason);
    bk_buffer_append_char(&payload, '}');
    const struct bk_event_draft draft = {
        .type = enables ? BK_SLICE("webhook.enabled") : BK_SLICE("webhook.disabled"),
        .source = BK_SLICE("webhooks"),
        .subject = bk_arena_format(arena, "webhooks/%.*s", BK_SLICE_PRINT(id)),
        .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_buffer_status(&payload);
    if (status == BK_OK)
        status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

static enum bk_status hold_lane(const struct webhooks_state *state,
                                struct bk_transaction *transaction, struct bk_slice id,
                                bool enables) {
    struct bk_work *work = state->context->work;
    struct bk_slice lane = bk_arena_format(bk_transaction_arena(transaction), WEBHOOKS_KIND "/%.*s",
                                           BK_SLICE_PRINT(id));
    return enables ? bk_work_resume(work, transaction, lane)
                   : bk_work_pause(work, transaction, lane);
}

enum bk_status webhooks_enabling_write(const struct webhooks_state *state,
                                       struct bk_transaction *transaction, struct bk_slice id,
                                       bool enables, struct bk_slice reason) {
    enum bk_status status = turn(transaction, id, enables);
    if (status == BK_END)
        return BK_OK;
    if (status == BK_OK)
        status = hold_lane(state, transaction, id, enables);
    return status == BK_OK ? emit(transaction, id, enables, reason) : status;
}

/* --- by the module ---------------------------------------------------------------------------- */

struct disabling {
    struct webhooks_endpoint *endpoint; /* referenced */
    struct bk_slice reason;
    struct bk_companion companion;
    struct bk_call call;
    char target[sizeof(RECORDS "/") + WEBHOOKS_ID_BYTES];
    char body[256];
};

static enum bk_status on_disable(struct bk_companion *companion, struct bk_transaction *transaction,
                                 struct bk_slice id) {
    const struct disabling *disabling = bk_container_of(companion, struct disabling, companion);
    return webhooks_enabling_write(disabling->endpoint->of->state, transaction, id, false,
                                   disabling->reason);
}

/* Deleted meanwhile is fine; what fails otherwise is tried again by who found it to be needed, at
 * the next attempt. */
static void on_disabled(struct bk_call *call) {
    struct disabling *disabling = bk_container_of(call, struct disabling, call);
    struct webhooks_endpoint *endpoint = disabling->endpoint;
    const struct bk_log *log = &endpoint->of->state->context->log;
    if (call->status == 200)
        bk_log_warn(log, "webhook_disabled", BK_TEXT("webhook", endpoint->id),
                    BK_STRING("reason", disabling->reason));
    else
        bk_log_warn(log, "webhook_not_disabled", BK_TEXT("webhook", endpoint->id),
                    BK_INT("status", call->status));
    endpoint->is_disabling = false;
    bk_free(disabling);
    webhooks_endpoint_unref(endpoint);
}

void webhooks_disable(struct webhooks_endpoint *endpoint, const char *reason) {
    char now[BK_TIME_TEXT_BYTES];
    struct disabling *disabling;
    if (endpoint->is_disabling || endpoint->is_gone || !endpoint->config->is_enabled)
        return;
    endpoint->is_disabling = true;
    disabling = bk_alloc_zero(sizeof(*disabling));
    webhooks_endpoint_ref(endpoint);
    disabling->endpoint = endpoint;
    disabling->reason = bk_slice_from(reason);
    disabling->companion.run = on_disable;
    bk_time_format(now, bk_clock_wall_ms(), ' ');
    snprintf(disabling->target, sizeof(disabling->target), RECORDS "/%s", endpoint->id);
    snprintf(disabling->body, sizeof(disabling->body),
             "{\"enabled\":false,\"disabledReason\":\"%s\",\"disabledAt\":\"%.*s\"}", reason,
             (int)sizeof(now), now);
    disabling->call = (struct bk_call){.actor = &bk_actor_system,
                                       .tenant = endpoint->of->tenant->name,
                                       .method = BK_PATCH,
                                       .target = bk_slice_from(disabling->target),
                                       .body = bk_slice_from(disabling->body),
                                       .companion = &disabling->companion,
                                       .done = on_disabled};
    bk_api_call(endpoint->of->state->context->api, &disabling->call);
}
