/*
 * What somebody does by hand with tasks and lanes, as events in the transaction that does it: who
 * it was is the event's actor. A task that is cancelled ends dead with a job.failed beside, which
 * has the actor that it was added by.
 */
#include "jobs_private.h"

enum { PAYLOAD_BYTES_MAX = 4 * 1024 }; /* a lane's name, maybe escaped */

static enum bk_status tell(struct bk_transaction *transaction, const char *type,
                           struct bk_slice subject, const char *member, struct bk_slice name) {
    struct bk_buffer payload;
    bk_buffer_init(&payload, PAYLOAD_BYTES_MAX);
    bk_buffer_append_char(&payload, '{');
    bk_json_write_member_string(&payload, bk_slice_from(member), name);
    bk_buffer_append_char(&payload, '}');
    bk_buffer_insist(&payload);
    const struct bk_event_draft draft = {.type = bk_slice_from(type),
                                         .source = BK_SLICE("jobs"),
                                         .subject = subject,
                                         .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

/* --- tasks ------------------------------------------------------------------------------------ */

static enum bk_status tell_task(struct bk_transaction *transaction, const char *type,
                                struct bk_slice id) {
    return tell(
        transaction, type,
        bk_arena_format(bk_transaction_arena(transaction), "_work/%.*s", BK_SLICE_PRINT(id)),
        "task", id);
}

enum bk_status jobs_retry(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice id) {
    enum bk_status status = bk_work_retry(work, transaction, id);
    return status == BK_OK ? tell_task(transaction, "job.retried", id) : status;
}

enum bk_status jobs_cancel(struct bk_work *work, struct bk_transaction *transaction,
                           struct bk_slice id) {
    enum bk_status status = bk_work_cancel(work, transaction, id);
    return status == BK_OK ? tell_task(transaction, "job.cancelled", id) : status;
}

enum bk_status jobs_drop(struct bk_work *work, struct bk_transaction *transaction,
                         struct bk_slice id) {
    enum bk_status status = bk_work_drop(work, transaction, id);
    return status == BK_OK ? tell_task(transaction, "job.dropped", id) : status;
}

/* --- lanes ------------------------------------------------------------------------------------ */

static enum bk_status tell_lane(struct bk_transaction *transaction, const char *type,
                                struct bk_slice lane) {
    return tell(
        transaction, type,
        bk_arena_format(bk_transaction_arena(transaction), "lane/%.*s", BK_SLICE_PRINT(lane)),
        "lane", lane);
}

enum bk_status jobs_pause(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice lane) {
    enum bk_status status = bk_work_pause(work, transaction, lane);
    return status == BK_OK ? tell_lane(transaction, "job.paused", lane) : status;
}

enum bk_status jobs_resume(struct bk_work *work, struct bk_transaction *transaction,
                           struct bk_slice lane) {
    enum bk_status status = bk_work_resume(work, transaction, lane);
    return status == BK_OK ? tell_lane(transaction, "job.resumed", lane) : status;
}

enum bk_status jobs_clear(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice lane) {
    enum bk_status status = bk_work_clear(work, transaction, lane);
    return status == BK_OK ? tell_lane(transaction, "job.cleared", lane) : status;
}
