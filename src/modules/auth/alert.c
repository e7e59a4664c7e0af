/*
 * A sign-in from a new place, where the collection wants its accounts to hear of that: the first
 * one is known silently, each later one from an address or a program that is not known yet makes a
 * mail. `_authOrigins` has the places, as the contract's: at most five of a record, of which the
 * one made first goes, and none of before a new password.
 *
 * A place is a digest of address and program: who reads the rows learns neither.
 */
#include "auth.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"

enum {
    ORIGINS_MAX = 5,
    LISTED_MAX = 2 * ORIGINS_MAX, /* more than five come from elsewhere, as by an import */
    AGENT_BYTES_MAX = 200,
    FINGERPRINT_BYTES = 16, /* of the digest */
    FINGERPRINT_TEXT_BYTES = 2 * FINGERPRINT_BYTES,
};

struct origin {
    struct bk_slice id, fingerprint;
};

struct alerting {
    const struct auth_grant *grant;
    struct bk_transaction *transaction;
    const struct bk_collection *collection; /* _authOrigins */
    struct bk_slice address, agent;
    char fingerprint[FINGERPRINT_TEXT_BYTES];
    struct origin origins[LISTED_MAX]; /* the newest first */
    uint32_t count;
};

/* --- where from ------------------------------------------------------------------------------- */

/* Not in the midst of a character. */
static struct bk_slice cut(struct bk_slice text) {
    size_t length = AGENT_BYTES_MAX;
    if (text.length <= length)
        return text;
    while (length > 0 && ((unsigned char)text.data[length] & 0xC0U) == 0x80U)
        length--;
    return bk_slice_make(text.data, length);
}

/* The part that is left out of a long one is left out of the digest, too. */
static void look_where(struct alerting *alerting) {
    const struct bk_request *request = alerting->grant->request;
    uint8_t digest[BK_SHA256_BYTES];
    alerting->address = request->remote_address;
    alerting->agent = cut(bk_request_header(request, BK_SLICE("user-agent")));
    struct bk_slice place = bk_arena_format(
        bk_transaction_arena(alerting->transaction), "%zu %.*s%.*s", alerting->address.length,
        BK_SLICE_PRINT(alerting->address), BK_SLICE_PRINT(alerting->agent));
    bk_sha256(digest, place);
    bk_hex_encode(alerting->fingerprint, digest, FINGERPRINT_BYTES);
}

static struct bk_slice fingerprint_of(const struct alerting *alerting) {
    return bk_slice_make(alerting->fingerprint, FINGERPRINT_TEXT_BYTES);
}

/* --- what is known ---------------------------------------------------------------------------- */

static enum bk_status list(struct alerting *alerting) {
    struct bk_arena *arena = bk_transaction_arena(alerting->transaction);
    const struct auth_grant *grant = alerting->grant;
    struct bk_statement *statement;
    static const char sql_text[] =
        "SELECT \"id\", \"fingerprint\" FROM \"_authOrigins\" WHERE \"collectionRef\" = ?1 AND "
        "\"recordRef\" = ?2 ORDER BY \"created\" DESC, \"id\" DESC LIMIT ?3";
    const struct bk_sql sql = bk_sql_make(bk_slice_from(sql_text));
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(alerting->transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, grant->collection->id);
    bk_statement_bind_text(statement, 2, grant->credentials.id);
    bk_statement_bind_int(statement, 3, LISTED_MAX);
    while (alerting->count < LISTED_MAX && (status = bk_statement_step(statement)) == BK_OK)
        alerting->origins[alerting->count++] =
            (struct origin){bk_arena_copy(arena, bk_statement_text(statement, 0)),
                            bk_arena_copy(arena, bk_statement_text(statement, 1))};
    bk_statement_reset(statement);
    return status == BK_END || status == BK_OK ? bk_arena_status(arena) : status;
}

static const struct origin *find(const struct alerting *alerting) {
    for (uint32_t i = 0; i < alerting->count; i++)
        if (bk_slice_equal(alerting->origins[i].fingerprint, fingerprint_of(alerting)))
            return &alerting->origins[i];
    return NULL;
}

/* --- a new one -------------------------------------------------------------------------------- */

static enum bk_status send_mail(const struct alerting *alerting) {
    const struct auth_grant *grant = alerting->grant;
    const struct bk_module_context *context = grant->request->module;
    char now[BK_TIME_TEXT_BYTES];
    bk_time_format(now, bk_transaction_now_ms(alerting->transaction), ' ');
    struct bk_slice information = bk_arena_format(
        bk_transaction_arena(alerting->transaction), "%.*s - %.*s %.*s", (int)sizeof now, now,
        BK_SLICE_PRINT(alerting->address), BK_SLICE_PRINT(alerting->agent));
    const struct auth_mail mail = {.template = "login-alert",
                                   .collection = grant->collection->id,
                                   .record = grant->credentials.id,
                                   .to = grant->credentials.email,
                                   .variables = {{"ALERT_INFO", information}}};
    return auth_mail_add(context, alerting->transaction, &mail, NULL);
}

static enum bk_status keep(const struct alerting *alerting) {
    const struct auth_grant *grant = alerting->grant;
    const struct auth_value values[] = {
        {"collectionRef", BK_VALUE_OF_TEXT(grant->collection->id)},
        {"recordRef", BK_VALUE_OF_TEXT(grant->credentials.id)},
        {"fingerprint", BK_VALUE_OF_TEXT(fingerprint_of(alerting))},
    };
    enum bk_status status = BK_OK;
    for (uint32_t i = ORIGINS_MAX - 1; i < alerting->count && status == BK_OK; i++)
        status =
            auth_row_remove(alerting->transaction, alerting->collection, alerting->origins[i].id);
    return status == BK_OK ? auth_row_insert(alerting->transaction, alerting->collection, values,
                                             BK_COUNT_OF(values), NULL)
                           : status;
}

enum bk_status auth_alert(const struct auth_grant *grant, struct bk_transaction *transaction) {
    struct alerting alerting = {.grant = grant, .transaction = transaction};
    if (!auth_option_is_on(grant->collection, "authAlert", "enabled"))
        return BK_OK;
    alerting.collection = bk_schema_find(grant->schema, BK_SLICE("_authOrigins"));
    if (alerting.collection == NULL)
        return BK_OK;
    look_where(&alerting);
    enum bk_status status = list(&alerting);
    const struct origin *known = find(&alerting);
    if (status == BK_OK && known != NULL) /* when it was last seen */
        return auth_row_update(transaction, grant->schema, alerting.collection, known->id, NULL, 0);
    if (status == BK_OK && alerting.count > 0 && grant->credentials.email.length > 0)
        status = send_mail(&alerting);
    return status == BK_OK ? keep(&alerting) : status;
}
