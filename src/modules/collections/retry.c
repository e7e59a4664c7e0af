/*
 * See retry.h. A row of _idempotency is a request that was done: the digest of who asked, method,
 * path and key, the digest of key and body, and the outcome,
 *
 *   [[200, "<collection id>", "<record id>", "<digest of the record>"], …]
 *
 * one element a change. Rows live for a day; each new one takes a few that are older along, so the
 * table is never larger than what a day has brought.
 *
 * The answer is built from the record as it is. Who could change a record cannot always view it,
 * and it may have changed since: then the view rule says whether it is shown, for a retry must not
 * be a window on what others have written there.
 */
#include "retry.h"

#include "bakend/encode.h"

enum { PRUNED_ROWS = 4, HTTP_NO_CONTENT = 204 };

const struct bk_migration collections_retry_migrations[RETRY_MIGRATION_COUNT] = {
    {.name = "collections_1_idempotency",
     .sql = "CREATE TABLE _idempotency (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL,"
            "outcome TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE INDEX _idempotency_created ON _idempotency (created)"},
};

const char collections_retry_conflict_message[] =
    "This Idempotency-Key was used with another request body: use a new key for a new request.";

/* --- reading ---------------------------------------------------------------------------------- */

static void digest(char out[RETRY_DIGEST_BYTES], const struct bk_buffer *text) {
    uint8_t bytes[BK_SHA256_BYTES];
    bk_sha256(bytes, bk_buffer_slice(text));
    bk_hex_encode(out, bytes, sizeof(bytes));
}

/* Each part with its length, so that no two lists of parts are the same text. */
static void add_part(struct bk_buffer *text, struct bk_slice part) {
    bk_buffer_append_int(text, (int64_t)part.length);
    bk_buffer_append_char(text, ':');
    bk_buffer_append_slice(text, part);
}

/* A form has another boundary each time it is sent: what counts is what is in it. The key, which is
 * stored nowhere, is in the digest too: a body may hold a password, and must not be found out from
 * its digest by trying. */
static enum bk_status digest_body(const struct bk_request *request, struct bk_slice key,
                                  char out[RETRY_DIGEST_BYTES]) {
    struct bk_buffer text;
    bk_buffer_init(&text, SIZE_MAX / 2);
    add_part(&text, key);
    add_part(&text, request->json == NULL ? BK_SLICE_EMPTY : request->json->text);
    for (const struct bk_request_file *file = request->files; file != NULL; file = file->next) {
        add_part(&text, file->key);
        add_part(&text, file->name);
        add_part(&text, file->content_type);
        add_part(&text, file->data);
    }
    enum bk_status status = bk_buffer_status(&text);
    if (status == BK_OK)
        digest(out, &text);
    bk_buffer_fini(&text);
    return status;
}

static enum bk_status digest_key(const struct bk_request *request, struct bk_slice key,
                                 char out[RETRY_DIGEST_BYTES]) {
    struct bk_buffer text;
    bk_buffer_init(&text, SIZE_MAX / 2);
    add_part(&text, request->actor.label);
    add_part(&text, bk_slice_from(bk_method_name(request->method)));
    add_part(&text, request->path);
    add_part(&text, key);
    enum bk_status status = bk_buffer_status(&text);
    if (status == BK_OK)
        digest(out, &text);
    bk_buffer_fini(&text);
    return status;
}

bool collections_retry_read(struct bk_request *request, struct retry *retry) {
    struct bk_slice key = bk_request_header(request, BK_SLICE("idempotency-key"));
    *retry = (struct retry){.is_asked = key.data != NULL};
    if (!retry->is_asked)
        return true;
    if (key.length == 0 || key.length > RETRY_KEY_BYTES_MAX) {
        bk_problems_add(&request->problems, BK_SLICE("Idempotency-Key"),
                        "validation_length_out_of_range",
                        "The key must have 1 to 255 bytes: use a UUID.");
        bk_answer_problems(request, BK_INVALID, "The header Idempotency-Key is not valid.");
        return false;
    }
    enum bk_status status = digest_key(request, key, retry->key);
    if (status == BK_OK)
        status = digest_body(request, key, retry->body);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
    return status == BK_OK;
}

/* --- rows ------------------------------------------------------------------------------------- */

static enum bk_status statement_of(struct bk_transaction *transaction, struct bk_slice text,
                                   struct bk_statement **statement) {
    struct bk_sql sql = bk_sql_make(text);
    return bk_connection_statement(bk_transaction_connection(transaction), &sql, statement);
}

static int64_t oldest_ms(struct bk_transaction *transaction) {
    return bk_transaction_now_ms(transaction) - RETRY_KEPT_MS;
}

enum bk_status collections_retry_find(const struct retry *retry, struct bk_transaction *transaction,
                                      struct bk_arena *arena, const struct bk_json **outcome) {
    struct bk_statement *statement;
    struct bk_json *parsed;
    if (!retry->is_asked)
        return BK_END;
    enum bk_status status = statement_of(
        transaction,
        BK_SLICE("SELECT body, outcome FROM _idempotency WHERE key = ?1 AND created > ?2"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(retry->key, sizeof(retry->key)));
    bk_statement_bind_int(statement, 2, oldest_ms(transaction));
    status = bk_statement_step(statement);
    if (status == BK_OK && !bk_slice_equal(bk_statement_text(statement, 0),
                                           bk_slice_make(retry->body, sizeof(retry->body))))
        status = BK_UNPROCESSABLE;
    struct bk_slice text = BK_SLICE_EMPTY;
    if (status == BK_OK)
        text = bk_arena_copy(arena, bk_statement_text(statement, 1));
    bk_statement_reset(statement);
    if (status == BK_OK)
        status = bk_arena_status(arena);
    if (status == BK_OK)
        status = bk_json_parse(arena, text, &parsed, NULL);
    if (status == BK_OK)
        *outcome = parsed;
    return status;
}

static enum bk_status prune(struct bk_transaction *transaction) {
    struct bk_statement *statement;
    enum bk_status status =
        statement_of(transaction,
                     BK_SLICE("DELETE FROM _idempotency WHERE key IN (SELECT key FROM _idempotency "
                              "WHERE created <= ?1 ORDER BY created LIMIT ?2)"),
                     &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, oldest_ms(transaction));
    bk_statement_bind_int(statement, 2, PRUNED_ROWS);
    return bk_statement_run(statement);
}

enum bk_status collections_retry_keep(const struct retry *retry, struct bk_transaction *transaction,
                                      struct bk_slice outcome) {
    struct bk_statement *statement;
    enum bk_status status = prune(transaction);
    if (status == BK_OK)
        status = statement_of(transaction,
                              BK_SLICE("INSERT OR REPLACE INTO _idempotency "
                                       "(key, body, outcome, created) VALUES (?1, ?2, ?3, ?4)"),
                              &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(retry->key, sizeof(retry->key)));
    bk_statement_bind_text(statement, 2, bk_slice_make(retry->body, sizeof(retry->body)));
    bk_statement_bind_text(statement, 3, outcome);
    bk_statement_bind_int(statement, 4, bk_transaction_now_ms(transaction));
    return bk_statement_run(statement);
}

/* --- outcomes --------------------------------------------------------------------------------- */

/* Of all that anybody may see of the record. */
static enum bk_status digest_record(const struct record_change *change,
                                    const struct bk_value *values, char out[RETRY_DIGEST_BYTES]) {
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
    char record[RETRY_DIGEST_BYTES];
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
    char record[RETRY_DIGEST_BYTES];
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
