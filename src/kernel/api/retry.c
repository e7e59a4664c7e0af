/*
 * Requests that are sent again. A row of _idempotency is one that was done: the digest of who
 * asked, method, path and key, the digest of key and body, and its outcome, which is the handler's.
 * Rows live for a day; each new one takes a few that are older along, so the table is never larger
 * than what a day has brought.
 */
#include "bakend/retry.h"

#include "bakend/encode.h"

enum {
    KEY_BYTES_MAX = 255,
    KEPT_MS = 24 * 60 * 60 * 1000,
    PRUNED_ROWS = 4,
};

/* The name is from when it was of modules/collections alone. */
const struct bk_migration bk_retry_migrations[BK_RETRY_MIGRATION_COUNT] = {
    {.name = "collections_1_idempotency",
     .sql = "CREATE TABLE _idempotency (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL,"
            "outcome TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE INDEX _idempotency_created ON _idempotency (created)"},
};

const char bk_retry_conflict_message[] =
    "This Idempotency-Key was used with another request body: use a new key for a new request.";

/* --- reading ---------------------------------------------------------------------------------- */

static void digest(char out[BK_RETRY_DIGEST_BYTES], const struct bk_buffer *text) {
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
                                  char out[BK_RETRY_DIGEST_BYTES]) {
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
                                 char out[BK_RETRY_DIGEST_BYTES]) {
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

bool bk_retry_read(struct bk_request *request, struct bk_retry *retry) {
    struct bk_slice key = bk_request_header(request, BK_SLICE("idempotency-key"));
    *retry = (struct bk_retry){.is_asked = key.data != NULL};
    if (!retry->is_asked)
        return true;
    if (key.length == 0 || key.length > KEY_BYTES_MAX) {
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
    return bk_transaction_now_ms(transaction) - KEPT_MS;
}

enum bk_status bk_retry_find(const struct bk_retry *retry, struct bk_transaction *transaction,
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

enum bk_status bk_retry_keep(const struct bk_retry *retry, struct bk_transaction *transaction,
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
