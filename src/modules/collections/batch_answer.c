/*
 * What a batch is answered with: a list of {"body", "status"} in the order of its requests; or,
 * when one of them failed and all were undone, 400 with
 *
 *   "data": {"requests": {"2": {"code": "batch_request_failed", …, "response": <its error>}}}
 *
 * A failure that is not the part's but the server's (its queues are full, its disk is) is the
 * answer itself, so that clients try again as they do with any request.
 */
#include "batch.h"

enum { PICKED_BYTES_FACTOR = 4 };

/* What is left of the answer when the part asks for some fields; the whole when that cannot be. */
static void write_body(const struct batch_part *part, struct bk_buffer *out) {
    const struct bk_buffer *whole = &part->request.out;
    struct bk_arena arena;
    struct bk_buffer picked;
    if (part->fields.length == 0) {
        bk_buffer_append_slice(out, bk_buffer_slice(whole));
        return;
    }
    bk_arena_init(&arena, whole->max_bytes * PICKED_BYTES_FACTOR);
    bk_buffer_init(&picked, whole->max_bytes);
    bool is_picked = bk_fields_pick(&arena, bk_buffer_slice(whole), part->fields, &picked) == BK_OK;
    bk_buffer_append_slice(out, bk_buffer_slice(is_picked ? &picked : whole));
    bk_buffer_fini(&picked);
    bk_arena_fini(&arena);
}

void collections_batch_answer_begin(struct batch *batch) {
    bk_buffer_clear(&batch->request->out);
    bk_buffer_append_char(&batch->request->out, '[');
}

enum bk_status collections_batch_answer_add(struct batch *batch, struct batch_part *part) {
    struct bk_buffer *out = &batch->request->out;
    bk_json_write_separator(out);
    bk_buffer_append_literal(out, "{\"body\":");
    if (part->request.out.length == 0)
        bk_buffer_append_literal(out, "null");
    else
        write_body(part, out);
    bk_json_write_member_int(out, BK_SLICE("status"), part->http_status);
    bk_buffer_append_char(out, '}');
    bk_buffer_fini(&part->request.out); /* else all of them were kept until the end */
    return bk_buffer_status(out);
}

enum bk_status collections_batch_answer_end(struct batch *batch) {
    bk_buffer_append_char(&batch->request->out, ']');
    return bk_buffer_status(&batch->request->out);
}

/* --- failures --------------------------------------------------------------------------------- */

/* What a client is to be told of the part; else of the server. */
static bool is_of_part(enum bk_status status) {
    switch (status) {
    case BK_INVALID:
    case BK_UNAUTHORIZED:
    case BK_FORBIDDEN:
    case BK_NOT_FOUND:
    case BK_CONFLICT:
    case BK_LIMIT:
    case BK_TOO_LARGE:
        return true;
    default:
        return false;
    }
}

static enum bk_status explain(struct batch_part *part, enum bk_status status) {
    if (part->change.request != NULL)
        status = collections_change_explain(&part->change, status);
    if (part->change.message != NULL)
        part->message = part->change.message;
    return status;
}

/* The part's own error inside the batch's. */
static void write_part_failure(const struct batch *batch, const struct batch_part *part,
                               enum bk_status status, struct bk_buffer *data) {
    bk_buffer_format(data, "{\"requests\":{\"%u\":", batch->failed_index);
    bk_buffer_append_literal(data, "{\"code\":\"batch_request_failed\",\"message\":\"Batch "
                                   "request failed.\",\"response\":");
    bk_answer_describe(&part->request.problems, status, part->message, data);
    bk_buffer_append_literal(data, "}}}");
}

static const char *message_of(enum bk_status status) {
    switch (status) {
    case BK_TIMEOUT:
        return "Batch transaction failed.";
    case BK_UNPROCESSABLE:
        return bk_retry_conflict_message;
    case BK_GONE:
        return "The batch was done, and its answer cannot be built again: a collection is gone.";
    default:
        return NULL;
    }
}

void collections_batch_answer_failure(struct batch *batch, enum bk_status status) {
    struct bk_request *request = batch->request;
    struct batch_part *part = batch->has_failed_part ? &batch->parts[batch->failed_index] : NULL;
    struct bk_buffer data;
    bk_buffer_init(&data, request->out.max_bytes);
    if (part != NULL)
        status = explain(part, status);
    bool is_told = part != NULL && (part->is_limited || is_of_part(status));
    if (is_told)
        write_part_failure(batch, part, status, &data);
    collections_batch_release(batch);
    const char *message = message_of(status);
    if (status == BK_TIMEOUT)
        status = BK_INVALID;
    if (is_told && !data.is_overflown)
        bk_answer_error_data(request, BK_INVALID, "Batch transaction failed.",
                             bk_buffer_slice(&data));
    else
        bk_answer_error(request, status == BK_STALE ? BK_BUSY : status, message);
    bk_buffer_fini(&data);
}
