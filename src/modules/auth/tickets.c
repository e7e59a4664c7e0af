/*
 * Tickets: tokens that are good for one thing, once. They are JSON Web Tokens as sessions' are
 * (token.c), in the contract's shape:
 *
 *   {"collectionId","email","exp","id","newEmail","type":"passwordReset"}, and "jti" in the header
 *
 * signed with the secret of their own option (`passwordResetToken.secret`) and the token key that
 * the record had: a new password or address ends all of them. Of the 160 random bits of jti the
 * table has the SHA-256 alone, and a ticket is used up by taking its row away, in the transaction
 * of what it is used for. So of many who come with the same one, one wins.
 *
 *   issue ─> row ─┬─ use ─> gone
 *                 └─ expired, and too old to hold up the next mail ─> swept, by those that come
 *
 * Rows also say when a record was last sent a mail of a type. Nobody may cause more than one in two
 * minutes, whoever asks from wherever.
 */
#include "auth.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"

enum {
    JTI_BYTES = 20,
    JTI_TEXT_BYTES = BK_BASE64URL_BYTES(JTI_BYTES),
    HASH_TEXT_BYTES = 2 * BK_SHA256_BYTES,
    SWEPT_ROWS = 8, /* more than are made at a time */
    TYPE_BYTES_MAX = 32,
};

const char auth_tickets_table[] =
    "CREATE TABLE _auth_tickets (hash TEXT PRIMARY KEY NOT NULL, collection TEXT NOT NULL,"
    "record TEXT NOT NULL, type TEXT NOT NULL, issued INTEGER NOT NULL,"
    "expires INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX _auth_tickets_record ON _auth_tickets (collection, record);"
    "CREATE INDEX _auth_tickets_expires ON _auth_tickets (expires)";

/* --- the option ------------------------------------------------------------------------------- */

/* "passwordReset" → "passwordResetToken" */
static void option_name(const char *type, char name[TYPE_BYTES_MAX]) {
    static const char suffix[] = "Token";
    size_t length = strlen(type);
    BK_ASSERT(length + sizeof suffix <= TYPE_BYTES_MAX);
    memcpy(name, type, length);
    memcpy(name + length, suffix, sizeof suffix);
}

static struct bk_slice secret_of(const struct bk_collection *collection, const char *type) {
    char option[TYPE_BYTES_MAX];
    option_name(type, option);
    const struct bk_json *secret = auth_option(collection, option, "secret");
    return secret == NULL ? BK_SLICE_EMPTY : secret->string;
}

static int64_t duration_of(const struct bk_collection *collection, const char *type) {
    char option[TYPE_BYTES_MAX];
    option_name(type, option);
    return auth_option_number(collection, option, "duration");
}

/* --- rows ------------------------------------------------------------------------------------- */

static void digest(struct bk_slice jti, char hash[HASH_TEXT_BYTES]) {
    uint8_t bytes[BK_SHA256_BYTES];
    bk_sha256(bytes, jti);
    bk_hex_encode(hash, bytes, sizeof bytes);
}

static enum bk_status prepare(struct bk_transaction *transaction, struct bk_slice text,
                              struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(text);
    return bk_connection_statement(bk_transaction_connection(transaction), &sql, statement);
}

static enum bk_status sweep(struct bk_transaction *transaction) {
    struct bk_statement *statement;
    int64_t now_ms = bk_transaction_now_ms(transaction);
    enum bk_status status =
        prepare(transaction,
                BK_SLICE("DELETE FROM _auth_tickets WHERE hash IN (SELECT hash FROM _auth_tickets "
                         "WHERE expires <= ?1 AND issued <= ?2 LIMIT ?3)"),
                &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, now_ms);
    bk_statement_bind_int(statement, 2, now_ms - AUTH_TICKET_PAUSE_MS);
    bk_statement_bind_int(statement, 3, SWEPT_ROWS);
    return bk_statement_run(statement);
}

static enum bk_status keep(struct bk_transaction *transaction, const struct auth_ticket *ticket,
                           struct bk_slice hash, int64_t expires_ms) {
    struct bk_statement *statement;
    enum bk_status status = sweep(transaction);
    if (status == BK_OK)
        status = prepare(
            transaction,
            BK_SLICE("INSERT OR REPLACE INTO _auth_tickets VALUES (?1, ?2, ?3, ?4, ?5, ?6)"),
            &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, hash);
    bk_statement_bind_text(statement, 2, ticket == NULL ? BK_SLICE("") : ticket->collection->id);
    bk_statement_bind_text(statement, 3, ticket == NULL ? BK_SLICE("") : ticket->credentials.id);
    bk_statement_bind_text(statement, 4, bk_slice_from(ticket == NULL ? "" : ticket->type));
    bk_statement_bind_int(statement, 5, bk_transaction_now_ms(transaction));
    bk_statement_bind_int(statement, 6, expires_ms);
    return bk_statement_run(statement);
}

/* --- issuing ---------------------------------------------------------------------------------- */

static enum bk_status sign(const struct bk_module_context *context,
                           struct bk_transaction *transaction, const struct auth_ticket *ticket,
                           struct bk_slice jti, int64_t expires_s, struct bk_buffer *out) {
    uint32_t key_number;
    enum bk_status status = auth_key_number_read(transaction, &key_number);
    if (status != BK_OK)
        return status;
    const struct auth_claims claims = {.tenant = bk_transaction_tenant(transaction),
                                       .key_number = key_number,
                                       .id = ticket->credentials.id,
                                       .collection_id = ticket->collection->id,
                                       .type = bk_slice_from(ticket->type),
                                       .email = ticket->email,
                                       .new_email = ticket->new_email,
                                       .jti = jti,
                                       .expires_s = expires_s};
    const struct auth_secrets secrets = {.instance_key = context->instance_key,
                                         .collection_secret =
                                             secret_of(ticket->collection, ticket->type),
                                         .token_key = ticket->credentials.token_key};
    auth_token_make(out, &claims, &secrets);
    return bk_buffer_status(out);
}

enum bk_status auth_ticket_issue(const struct bk_module_context *context,
                                 struct bk_transaction *transaction,
                                 const struct auth_ticket *ticket, struct bk_buffer *out,
                                 int64_t *expires_ms) {
    uint8_t random[JTI_BYTES];
    char text[JTI_TEXT_BYTES], hash[HASH_TEXT_BYTES];
    BK_ASSERT(ticket->credentials.token_key.length > 0);
    bk_random_bytes(random, sizeof random);
    struct bk_slice jti = bk_slice_make(text, bk_base64url_encode(text, random, sizeof random));
    digest(jti, hash);
    int64_t expires_s =
        bk_transaction_now_ms(transaction) / 1000 + duration_of(ticket->collection, ticket->type);
    enum bk_status status = sign(context, transaction, ticket, jti, expires_s, out);
    *expires_ms = expires_s * 1000;
    return status == BK_OK
               ? keep(transaction, ticket, bk_slice_make(hash, sizeof hash), *expires_ms)
               : status;
}

enum bk_status auth_ticket_pretend(struct bk_transaction *transaction) {
    return keep(transaction, NULL, BK_SLICE(""), 0);
}

enum bk_status auth_ticket_count_recent(struct bk_transaction *transaction,
                                        const struct auth_ticket *ticket, int64_t *count) {
    struct bk_statement *statement;
    int64_t now_ms = bk_transaction_now_ms(transaction);
    enum bk_status status =
        prepare(transaction,
                BK_SLICE("SELECT count(*) FROM _auth_tickets WHERE collection = ?1 AND record = ?2 "
                         "AND type = ?3 AND issued > ?4 AND issued <= ?5"),
                &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, ticket->collection->id);
    bk_statement_bind_text(statement, 2, ticket->credentials.id);
    bk_statement_bind_text(statement, 3, bk_slice_from(ticket->type));
    bk_statement_bind_int(statement, 4, now_ms - AUTH_TICKET_PAUSE_MS);
    bk_statement_bind_int(statement, 5, now_ms);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *count = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------- */

bool auth_ticket_peek(struct bk_arena *arena, struct bk_slice token, struct auth_claims *claims) {
    *claims = (struct auth_claims){.expires_s = 0};
    return auth_token_read(arena, token, claims);
}

enum bk_status auth_ticket_read(struct bk_request *request, struct bk_slice token, const char *type,
                                struct auth_ticket *ticket) {
    const struct bk_module_context *context = request->module;
    struct auth_claims claims;
    if (!auth_ticket_peek(&request->arena, token, &claims) ||
        !bk_slice_equal(claims.type, bk_slice_from(type)) || claims.jti.length == 0 ||
        !bk_slice_equal(claims.tenant, request->tenant->name) ||
        claims.expires_s <= bk_clock_wall_ms() / 1000 ||
        !auth_key_is_taken(context, request->tenant, claims.key_number))
        return BK_UNAUTHORIZED;
    const struct bk_collection *collection =
        bk_schema_find(bk_schema_current(context->schema, request->tenant), claims.collection_id);
    if (collection == NULL || collection->type != BK_COLLECTION_AUTH ||
        !bk_slice_equal(collection->id, claims.collection_id))
        return BK_UNAUTHORIZED;
    enum bk_status status = auth_credentials_read(&request->arena, request->tenant, collection,
                                                  claims.id, &ticket->credentials);
    if (status != BK_OK)
        return status == BK_NOT_FOUND ? BK_UNAUTHORIZED : status;
    const struct auth_secrets secrets = {.instance_key = context->instance_key,
                                         .collection_secret = secret_of(collection, type),
                                         .token_key = ticket->credentials.token_key};
    if (ticket->credentials.token_key.length == 0 || !auth_token_verify(token, &claims, &secrets))
        return BK_UNAUTHORIZED;
    ticket->type = type;
    ticket->collection = collection;
    ticket->email = claims.email;
    ticket->new_email = claims.new_email;
    ticket->jti = claims.jti;
    return BK_OK;
}

/* --- using ------------------------------------------------------------------------------------ */

static enum bk_status take(struct bk_transaction *transaction, struct bk_slice jti) {
    char hash[HASH_TEXT_BYTES];
    struct bk_statement *statement;
    digest(jti, hash);
    enum bk_status status = prepare(
        transaction, BK_SLICE("DELETE FROM _auth_tickets WHERE hash = ?1 RETURNING 1"), &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(hash, sizeof hash));
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status == BK_END ? BK_UNAUTHORIZED : status;
}

enum bk_status auth_ticket_use(struct bk_transaction *transaction, const struct auth_ticket *ticket,
                               struct auth_credentials *credentials) {
    enum bk_status status = auth_credentials_find(
        bk_transaction_arena(transaction), bk_transaction_connection(transaction),
        ticket->collection, ticket->credentials.id, credentials);
    if (status == BK_NOT_FOUND ||
        (status == BK_OK && !bk_slice_equal(credentials->token_key, ticket->credentials.token_key)))
        return BK_UNAUTHORIZED;
    return status == BK_OK ? take(transaction, ticket->jti) : status;
}
