/*
 * The second factor. Who has shown one thing gets an id instead of a token, and comes back with
 * that id and another thing:
 *
 *   first   {identity, password}           → 401 {"mfaId"}, a row of _mfas: who, by which method
 *   second  {otpId, password, mfaId}       → the token; the row is used up in its transaction
 *
 * It is asked for where the collection says so (mfa.enabled, for those records that mfa.rule holds
 * for), and of every record that has an authenticator app, whatever the collection says. Of such a
 * record one of the two must be the app (or a code of recovery): a password can be reset by mail
 * and a one-time password comes by mail, so that those two are one mailbox.
 *
 * All is looked at and changed on the writer, so of many requests with one id one wins. What a
 * request has shown is used up even if it was but the first factor.
 */
#include "auth.h"
#include "bakend/clock.h"

enum {
    SKEW_MS = 60 * 1000,  /* a row may be that much younger than now: the clock was set back */
    DURATION_S = 10 * 60, /* the contract's default, where the collection's own is not set */
};

struct auth_mfa {
    struct bk_slice id; /* of the request; empty: this is the first factor */
    bool is_asked;      /* by the collection, of those that the rule holds for */
    struct bk_question rule;
};

/* --- ready to be asked ------------------------------------------------------------------------ */

/* In the query or in the body. False: it is no text. */
static bool read_id(struct bk_request *request, struct bk_slice *id) {
    const struct bk_json *member = bk_json_get(request->json, BK_SLICE("mfaId"));
    *id = bk_request_query(request, BK_SLICE("mfaId"));
    if (id->length > 0 || member == NULL || member->type == BK_JSON_NULL)
        return true;
    *id = member->string;
    return member->type == BK_JSON_STRING || member->string.data != NULL;
}

enum bk_status auth_mfa_make(struct auth_grant *grant) {
    struct bk_request *request = grant->request;
    struct auth_mfa *mfa = bk_arena_alloc_zero(&request->arena, sizeof *mfa);
    struct bk_asker *asker = bk_arena_alloc_zero(&request->arena, sizeof *asker);
    const struct bk_json *rule = auth_option(grant->collection, "mfa", "rule");
    grant->mfa = mfa;
    if (grant->is_alone)
        return bk_arena_status(&request->arena);
    if (!read_id(request, &mfa->id)) {
        grant->message = "Failed to read MFA Id.";
        return BK_INVALID;
    }
    mfa->is_asked = auth_option_is_on(grant->collection, "mfa", "enabled");
    if (!mfa->is_asked || rule == NULL || rule->string.length == 0)
        return bk_arena_status(&request->arena);
    enum bk_status status =
        bk_request_asker(request, grant->schema, request->json, grant->context, asker);
    if (status == BK_OK)
        status = bk_question_make(&mfa->rule, &request->arena, asker, grant->collection,
                                  rule->string, BK_QUESTION_OF_STORED);
    return status;
}

/* --- on the writer ---------------------------------------------------------------------------- */

enum bk_status auth_statement(struct bk_transaction *transaction, struct bk_slice text,
                              struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(text);
    return bk_connection_statement(bk_transaction_connection(transaction), &sql, statement);
}

bool auth_is_over(struct bk_slice created, int64_t duration_s, int64_t now_ms) {
    int64_t created_ms;
    if (!bk_time_parse(created, &created_ms) || created_ms > now_ms + SKEW_MS)
        return true;
    return now_ms - created_ms > duration_s * 1000;
}

static int64_t duration_s(const struct bk_collection *collection) {
    int64_t seconds = auth_option_number(collection, "mfa", "duration");
    return seconds > 0 ? seconds : DURATION_S;
}

enum bk_status auth_mfa_find(struct bk_transaction *transaction,
                             const struct bk_collection *collection, struct bk_slice id,
                             struct auth_mfa_row *row) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status =
        auth_statement(transaction,
                       BK_SLICE("SELECT \"recordRef\", \"method\", \"created\", \"collectionRef\" "
                                "FROM \"_mfas\" WHERE \"id\" = ?1"),
                       &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        row->record = bk_arena_copy(arena, bk_statement_text(statement, 0));
        row->method = bk_arena_copy(arena, bk_statement_text(statement, 1));
        row->is_own = bk_slice_equal(bk_statement_text(statement, 3), collection->id);
        if (auth_is_over(bk_statement_text(statement, 2), duration_s(collection),
                         bk_transaction_now_ms(transaction)))
            status = BK_END;
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* Those of the record that nobody can use any more go when one comes. */
static enum bk_status drop_old(const struct auth_grant *grant, struct bk_transaction *transaction) {
    int64_t oldest_ms = bk_transaction_now_ms(transaction) - duration_s(grant->collection) * 1000;
    char oldest[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status = auth_statement(
        transaction,
        BK_SLICE("DELETE FROM \"_mfas\" WHERE \"collectionRef\" = ?1 AND \"recordRef\" = ?2 "
                 "AND \"created\" < ?3"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_time_format(oldest, oldest_ms, ' ');
    bk_statement_bind_text(statement, 1, grant->collection->id);
    bk_statement_bind_text(statement, 2, grant->credentials.id);
    bk_statement_bind_text(statement, 3, bk_slice_make(oldest, sizeof oldest));
    return bk_statement_run(statement);
}

static enum bk_status begin(const struct auth_grant *grant, struct bk_transaction *transaction,
                            char id[AUTH_MFA_ID_BYTES + 1]) {
    const struct bk_collection *mfas = bk_schema_find(grant->schema, BK_SLICE("_mfas"));
    const struct auth_value values[] = {
        {"collectionRef", BK_VALUE_OF_TEXT(grant->collection->id)},
        {"recordRef", BK_VALUE_OF_TEXT(grant->credentials.id)},
        {"method", BK_VALUE_OF_TEXT(grant->method)},
    };
    BK_ASSERT(mfas != NULL);
    enum bk_status status = drop_old(grant, transaction);
    if (status == BK_OK)
        status = auth_row_insert(transaction, mfas, values, BK_COUNT_OF(values), id);
    return status == BK_OK ? BK_END : status;
}

static enum bk_status refuse(struct auth_grant *grant, const char *message) {
    grant->message = message;
    return BK_INVALID;
}

static enum bk_status finish(struct auth_grant *grant, struct bk_transaction *transaction,
                             bool needs_totp) {
    const struct bk_collection *mfas = bk_schema_find(grant->schema, BK_SLICE("_mfas"));
    struct auth_mfa_row row;
    enum bk_status status = auth_mfa_find(transaction, grant->collection, grant->mfa->id, &row);
    if (status == BK_NOT_FOUND)
        return refuse(grant, "Invalid or expired MFA session.");
    if (status != BK_OK)
        return status;
    if (!row.is_own || !bk_slice_equal(row.record, grant->credentials.id))
        return refuse(grant, "Invalid MFA session.");
    if (bk_slice_equal(row.method, grant->method))
        return refuse(grant, "A different authentication method is required.");
    if (needs_totp && !bk_slice_is(grant->method, "totp"))
        return refuse(grant, "A code of the authenticator app is required: auth-with-totp.");
    BK_ASSERT(mfas != NULL);
    grant->is_second = true;
    return auth_row_remove(transaction, mfas, grant->mfa->id);
}

enum bk_status auth_mfa_pass(struct auth_grant *grant, struct bk_transaction *transaction,
                             char id[AUTH_MFA_ID_BYTES + 1]) {
    const struct auth_mfa *mfa = grant->mfa;
    const struct auth_owner owner = {grant->collection->id, grant->credentials.id};
    bool is_asked = mfa->is_asked, has_totp = false;
    enum bk_status status = BK_OK;
    grant->is_second = false;
    if (grant->is_alone)
        return BK_OK;
    if (is_asked)
        status = bk_question_ask(&mfa->rule, bk_transaction_connection(transaction),
                                 grant->credentials.id);
    if (status == BK_NOT_FOUND) { /* the rule does not hold */
        is_asked = false;
        status = BK_OK;
    }
    if (status == BK_OK)
        status = auth_totp_is_on(transaction, &owner, &has_totp);
    if (status != BK_OK || (!is_asked && !has_totp))
        return status;
    return mfa->id.length == 0 ? begin(grant, transaction, id)
                               : finish(grant, transaction, has_totp);
}
