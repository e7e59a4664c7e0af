/*
 * See retry.h. The outcome of a request that was done is
 *
 *   [[200, "<collection id>", "<record id>", "<digest of the record>"], …]
 *
 * one element a change.
 *
 * The answer is built from the record as it is. Who could change a record cannot always view it,
 * and it may have changed since: then the view rule says whether it is shown, for a retry must not
 * be a window on what others have written there.
 */
#include "retry.h"

#include "bakend/encode.h"

enum { HTTP_NO_CONTENT = 204 };

static void digest(char out[BK_RETRY_DIGEST_BYTES], const struct bk_buffer *text) {
    uint8_t bytes[BK_SHA256_BYTES];
    bk_sha256(bytes, bk_buffer_slice(text));
    bk_hex_encode(out, bytes, sizeof(bytes));
}

/* Of all that anybody may see of the record. */
static enum bk_status digest_record(const struct record_change *change,
                                    const struct bk_value *values,
                                    char out[BK_RETRY_DIGEST_BYTES]) {
    struct bk_buffer text;
    bk_buffer_init(&text, SIZE_MAX / 2);
    bk_record_write_json(change->collection, values, BK_VIEW_FULL, &text);
    enum bk_status status = bk_buffer_status(&text);
    if (status == BK_OK)
        digest(out, &text);
    bk_buffer_fini(&text);
    return status;
}

enum bk_status collections_retry_note(const struct record_change *change,
                                      struct bk_buffer *outcome) {
    char record[BK_RETRY_DIGEST_BYTES];
    int http_status = collections_change_http_status(change);
    struct bk_slice id = change->id;
    size_t length = 0;
    if (http_status != HTTP_NO_CONTENT) {
        enum bk_status status = digest_record(change, change->values, record);
        if (status != BK_OK)
            return status;
        length = sizeof(record);
        id = change->values[change->collection->id_field->index].text;
    }
    bk_json_write_separator(outcome);
    bk_buffer_append_char(outcome, '[');
    bk_buffer_append_int(outcome, http_status);
    bk_buffer_append_char(outcome, ',');
    bk_json_write_string(outcome, change->collection->id);
    bk_buffer_append_char(outcome, ',');
    bk_json_write_string(outcome, id);
    bk_buffer_append_char(outcome, ',');
    bk_json_write_string(outcome, bk_slice_make(record, length));
    bk_buffer_append_char(outcome, ']');
    return bk_buffer_status(outcome);
}

struct outcome {
    int64_t http_status;
    struct bk_slice collection_id, id, digest;
};

static bool read_outcome(const struct bk_json *element, struct outcome *outcome) {
    const struct bk_json *parts[4] = {NULL};
    const struct bk_json *part = element->child;
    for (size_t i = 0; i < BK_COUNT_OF(parts) && part != NULL; i++, part = part->next)
        parts[i] = part;
    if (parts[3] == NULL || !bk_json_to_int64(parts[0], &outcome->http_status))
        return false;
    outcome->collection_id = parts[1]->string;
    outcome->id = parts[2]->string;
    outcome->digest = parts[3]->string;
    return true;
}

/* Whether the actor may see the record as it is: unchanged it is what they wrote. */
static enum bk_status may_see(struct record_change *change, struct bk_transaction *transaction,
                              const struct outcome *outcome, const struct bk_value *values) {
    struct bk_request *request = change->request;
    char record[BK_RETRY_DIGEST_BYTES];
    struct bk_question question;
    enum bk_status status = digest_record(change, values, record);
    if (status != BK_OK || bk_slice_equal(outcome->digest, bk_slice_make(record, sizeof(record))))
        return status;
    enum bk_verdict verdict = bk_rules_authorize(&request->actor, change->collection, BK_MAY_VIEW);
    if (verdict != BK_ASKED)
        return verdict == BK_ALLOWED ? BK_OK : BK_NOT_FOUND;
    status = bk_question_make(&question, &request->arena, &change->asker, change->collection,
                              change->collection->rules[BK_MAY_VIEW], BK_QUESTION_OF_STORED);
    if (status == BK_OK)
        status = bk_question_ask(&question, bk_transaction_connection(transaction), outcome->id);
    return status;
}

static enum bk_status show_record(struct record_change *change, struct bk_transaction *transaction,
                                  const struct outcome *outcome) {
    struct bk_value *values = bk_arena_alloc(bk_transaction_arena(transaction),
                                             change->collection->field_count * sizeof(*values));
    if (values == NULL)
        return BK_TOO_LARGE;
    if (!bk_slice_equal(outcome->collection_id, change->collection->id))
        return BK_NOT_FOUND; /* another collection has its name by now */
    change->id = outcome->id;
    enum bk_status status = collections_write_read(change, transaction, values);
    if (status == BK_OK)
        status = may_see(change, transaction, outcome, values);
    if (status == BK_OK)
        status = collections_ask_show(change, transaction, values);
    return status;
}

enum bk_status collections_retry_show(struct record_change *change,
                                      struct bk_transaction *transaction,
                                      const struct bk_json *element, int *http_status) {
    struct bk_buffer *out = &change->request->out;
    struct outcome outcome;
    if (!read_outcome(element, &outcome))
        return BK_CORRUPT;
    *http_status = (int)outcome.http_status;
    bk_buffer_clear(out);
    if (outcome.http_status == HTTP_NO_CONTENT)
        return BK_OK;
    enum bk_status status = collections_ask_again(change);
    if (status == BK_OK)
        status = show_record(change, transaction, &outcome);
    if (status != BK_NOT_FOUND)
        return status;
    bk_buffer_clear(out);
    bk_buffer_append_slice(out, change->collection->json_head);
    bk_json_write_member_string(out, BK_SLICE("id"), outcome.id);
    bk_buffer_append_char(out, '}');
    return bk_buffer_status(out);
}
