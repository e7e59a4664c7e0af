/*
 * job.failed: a task of any kind has ended dead. It is emitted in the transaction that makes it so,
 * so whoever reads the feed learns of each, once, and of none that lives on. Kinds may have an
 * event of their own beside it (mail.failed), which says more of fewer.
 *
 * The event never has the payload: what a task was to do may be a secret.
 */
#include "jobs_private.h"

enum { PAYLOAD_BYTES_MAX = 64 * 1024 }; /* texts of a few hundred bytes, each maybe escaped */

static void write_payload(const struct bk_work_kind *kind, const struct bk_work_end *end,
                          struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("task"), end->id);
    bk_json_write_member_string(out, BK_SLICE("kind"), bk_slice_from(kind->name));
    bk_json_write_member_string(out, BK_SLICE("lane"), end->lane);
    bk_json_write_member_int(out, BK_SLICE("attempts"), end->attempt);
    bk_json_write_member_string(out, BK_SLICE("error"), end->error);
    bk_json_write_member_string(out, BK_SLICE("cause"), end->cause);
    bk_buffer_append_char(out, '}');
    bk_buffer_insist(out);
}

enum bk_status jobs_on_dead(struct bk_transaction *transaction, const struct bk_work_kind *kind,
                            const struct bk_work_end *end, void *user) {
    struct bk_buffer payload;
    (void)user;
    BK_ASSERT(end->outcome == BK_WORK_DEAD);
    bk_buffer_init(&payload, PAYLOAD_BYTES_MAX);
    write_payload(kind, end, &payload);
    struct bk_event_draft draft = {.type = BK_SLICE("job.failed"),
                                   .source = BK_SLICE("jobs"),
                                   .subject =
                                       bk_arena_format(bk_transaction_arena(transaction),
                                                       "_work/%.*s", BK_SLICE_PRINT(end->id)),
                                   .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}
