/*
 * What first attempts came to, on disk: the delivery's row, how far the endpoint is, and, where it
 * failed, the task that tries again, in one transaction. One write of a tenant is under way; what
 * comes meanwhile is the next one, so the busier it is the more share a commit, and nobody waits
 * for a timer.
 *
 * How far an endpoint is, is written once in each of these: its newest there. Records come in the
 * order of webhooks_record, so that nothing is passed over that is not on disk by then.
 *
 * A write that fails is written again, as it was: what it says has happened.
 */
#include "webhooks.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"

enum { BATCH_MAX = 512, BATCH_MIN = 32, AGAIN_MS = 500 };

struct webhooks_recorder {
    struct webhooks_tenant *of;
    struct bk_list waiting, writing; /* webhooks_record.link */
    struct bk_write write;
    struct bk_timer *timer; /* a write failed */
    bool is_writing;        /* or tells what was written, which may bring more */
    bool rests;
    uint64_t number;  /* of writes */
    uint32_t written; /* of those in writing, from the first on, by the last run */
};

/* --- on the writer ---------------------------------------------------------------------------- */

static enum bk_status write_watermark(struct bk_transaction *transaction,
                                      const struct webhooks_record *record) {
    static const char text[] = "UPDATE _webhookStates SET sequence = ?2 WHERE webhook = ?1 AND "
                               "sequence < ?2";
    const struct bk_sql sql = bk_sql_make(bk_slice_make(text, sizeof text - 1));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, record->attempt.webhook);
    bk_statement_bind_int(statement, 2, (int64_t)record->ended);
    return bk_statement_run(statement);
}

static enum bk_status write_one(struct webhooks_recorder *recorder,
                                struct bk_transaction *transaction,
                                const struct webhooks_record *record) {
    const struct webhooks_attempt *attempt = &record->attempt;
    struct bk_origin origin = {
        .actor = BK_SLICE("system"), .cause = attempt->event, .depth = attempt->depth + 1};
    bk_transaction_set_origin(transaction, &origin);
    enum bk_status status = webhooks_delivery_write(transaction, attempt);
    if (status == BK_OK && attempt->state == WEBHOOKS_RETRYING)
        status = webhooks_retry_add(recorder->of->state, transaction, attempt, record->is_replay);
    if (status == BK_OK && attempt->state == WEBHOOKS_FAILED)
        status = webhooks_exhausted_emit(transaction, attempt);
    if (status == BK_OK && record->ended > 0)
        status = write_watermark(transaction, record);
    bk_transaction_set_origin(transaction, NULL);
    return status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct webhooks_recorder *recorder = bk_container_of(write, struct webhooks_recorder, write);
    enum bk_status status = BK_FAILPOINT("webhooks.before_recorded");
    if (status != BK_OK)
        return status;
    recorder->written = 0;
    BK_LIST_FOR_EACH(node, &recorder->writing) {
        /* The rest is written next: a request waits. */
        if (recorder->written >= BATCH_MIN && bk_transaction_awaiting_count(transaction) > 0)
            break;
        recorder->written++;
        status =
            write_one(recorder, transaction, bk_container_of(node, struct webhooks_record, link));
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

/* --- on the loop ------------------------------------------------------------------------------ */

/* The first ones of a list. */
static void tell(struct bk_list *list, uint32_t count, enum bk_status status) {
    struct bk_list *node;
    while (count-- > 0 && (node = bk_list_pop(list)) != NULL) {
        struct webhooks_record *record = bk_container_of(node, struct webhooks_record, link);
        struct webhooks_endpoint *endpoint = record->endpoint;
        const struct webhooks_attempt *attempt = &record->attempt;
        if (status == BK_OK && attempt->state == WEBHOOKS_RETRYING)
            webhooks_retry_added(endpoint, attempt->sequence);
        char *texts = record->texts;
        record->recorded(record, status);
        bk_free(texts);
        webhooks_endpoint_unref(endpoint);
    }
}

/* Only the newest of an endpoint is written. */
static void gather(struct webhooks_recorder *recorder) {
    struct bk_list *node;
    recorder->number++;
    for (uint32_t i = 0; i < BATCH_MAX; i++) {
        if ((node = bk_list_pop(&recorder->waiting)) == NULL)
            break;
        bk_list_push(&recorder->writing, node);
    }
    for (node = recorder->writing.previous; node != &recorder->writing; node = node->previous) {
        struct webhooks_record *record = bk_container_of(node, struct webhooks_record, link);
        if (record->ended == 0)
            continue;
        if (record->endpoint->recorded_in == recorder->number)
            record->ended = 0;
        record->endpoint->recorded_in = recorder->number;
    }
}

static void write_next(struct webhooks_recorder *recorder);

/* What was to be written waits, or is lost to the next start, which sends it again. */
static void put_off(struct webhooks_recorder *recorder, enum bk_status status) {
    struct webhooks_state *state = recorder->of->state;
    if (state->is_stopping) {
        tell(&recorder->writing, UINT32_MAX, BK_CLOSING);
        tell(&recorder->waiting, UINT32_MAX, BK_CLOSING);
        return;
    }
    if (status != BK_BUSY)
        bk_log_warn(&state->context->log, "deliveries_not_recorded",
                    BK_STRING("tenant", recorder->of->tenant->name),
                    BK_TEXT("status", bk_status_name(status)),
                    BK_TEXT("effect", "they are recorded when the disk takes them"));
    recorder->rests = true;
    bk_timer_start(recorder->timer, AGAIN_MS, 0);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct webhooks_recorder *recorder = bk_container_of(write, struct webhooks_recorder, write);
    struct bk_tenant *tenant = recorder->of->tenant;
    if (status == BK_OK)
        status = BK_FAILPOINT("webhooks.recorded");
    bk_tenant_ref(tenant);
    if (status == BK_OK)
        tell(&recorder->writing, recorder->written, BK_OK);
    else
        put_off(recorder, status);
    recorder->is_writing = false;
    write_next(recorder);
    bk_tenant_release(tenant);
}

static void write_next(struct webhooks_recorder *recorder) {
    if (recorder->is_writing || recorder->rests)
        return;
    if (bk_list_is_empty(&recorder->writing))
        gather(recorder);
    if (bk_list_is_empty(&recorder->writing))
        return;
    recorder->write = (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_run, .done = on_done};
    recorder->is_writing = true;
    enum bk_status status = bk_store_write(recorder->of->tenant->database, &recorder->write);
    if (status == BK_OK)
        return;
    put_off(recorder, status);
    recorder->is_writing = false;
}

static void on_timer(struct bk_timer *timer, void *user) {
    struct webhooks_recorder *recorder = user;
    (void)timer;
    recorder->rests = false;
    write_next(recorder);
}

/* --- handing over ----------------------------------------------------------------------------- */

static size_t texts_of(struct webhooks_record *record, struct bk_slice *texts[6]) {
    texts[0] = &record->attempt.webhook;
    texts[1] = &record->attempt.event;
    texts[2] = &record->attempt.type;
    texts[3] = &record->attempt.subject;
    texts[4] = &record->result.error;
    texts[5] = &record->result.answer;
    return 6;
}

static void copy_texts(struct webhooks_record *record) {
    struct bk_slice *texts[6];
    size_t count = texts_of(record, texts), length = 1;
    for (size_t i = 0; i < count; i++)
        length += texts[i]->length;
    char *cursor = record->texts = bk_alloc(length);
    for (size_t i = 0; i < count; i++) {
        if (texts[i]->length > 0)
            memcpy(cursor, texts[i]->data, texts[i]->length);
        texts[i]->data = cursor;
        cursor += texts[i]->length;
    }
}

void webhooks_record(struct webhooks_record *record) {
    struct webhooks_recorder *recorder = record->endpoint->of->recorder;
    if (record->attempt.result != NULL)
        record->attempt.result = &record->result;
    copy_texts(record);
    webhooks_endpoint_ref(record->endpoint);
    bk_list_push(&recorder->waiting, &record->link);
    write_next(recorder);
}

void webhooks_recorder_open(struct webhooks_tenant *own) {
    struct webhooks_recorder *recorder = bk_alloc_zero(sizeof *recorder);
    recorder->of = own;
    bk_list_init(&recorder->waiting);
    bk_list_init(&recorder->writing);
    recorder->timer = bk_timer_create(own->state->context->loop, on_timer, recorder);
    bk_timer_set_background(recorder->timer);
    own->recorder = recorder;
}

void webhooks_recorder_close(struct webhooks_tenant *own) {
    struct webhooks_recorder *recorder = own->recorder;
    BK_ASSERT(bk_list_is_empty(&recorder->waiting) && bk_list_is_empty(&recorder->writing));
    bk_timer_close(recorder->timer);
    bk_free(recorder);
    own->recorder = NULL;
}
