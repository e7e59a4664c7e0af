/*
 * Showing that an address is one's own: a mail with a ticket, and the ticket back. Superusers need
 * none.
 *
 * A ticket of somebody who is verified already is as good as used: the answer is the contract's
 * 204, and nothing happens. In a collection without sign-in by password, a password that somebody
 * has put there before is replaced by one that nobody knows, so that it does not become good for
 * the account when password sign-in is switched on.
 */
#include "bakend/crypto.h"
#include "bakend/id.h"
#include "flow.h"

enum { RANDOM_PASSWORD_BYTES = 40 };

/* False: the request was answered. */
static bool is_for_users(struct bk_request *request, const struct bk_collection *collection) {
    if (!bk_slice_is(collection->name, "_superusers"))
        return true;
    bk_answer_error(request, BK_INVALID, "All superusers are verified by default.");
    return false;
}

/* --- asking ----------------------------------------------------------------------------------- */

void auth_request_verification(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL || !is_for_users(request, collection))
        return;
    struct auth_asking *asking = bk_arena_alloc_zero(&request->arena, sizeof *asking);
    const struct auth_form_text texts[] = {{.name = "email",
                                            .value = &asking->email,
                                            .bytes_max = AUTH_ADDRESS_BYTES_MAX,
                                            .is_required = true,
                                            .is_email = true}};
    if (!auth_form_read(request, texts, BK_COUNT_OF(texts)))
        return;
    asking->request = request;
    asking->collection = collection;
    asking->type = "verification";
    asking->template = "verification";
    asking->recent_max = 1;
    asking->is_for_unverified = true;
    auth_ask(asking);
}

/* --- confirming ------------------------------------------------------------------------------- */

static enum bk_status verify(struct auth_confirming *confirming, struct bk_transaction *transaction,
                             const struct auth_credentials *credentials) {
    const struct auth_value values[] = {
        {"verified", BK_VALUE_OF_INT(1)},
        {"password", BK_VALUE_OF_TEXT(confirming->password)},
    };
    if (credentials->is_verified)
        return BK_OK;
    return auth_row_update(transaction, confirming->schema, confirming->ticket.collection,
                           credentials->id, values, confirming->password.length > 0 ? 2 : 1);
}

static void on_hash(struct bk_job *job, uint32_t thread_index) {
    struct auth_confirming *confirming = bk_container_of(job, struct auth_confirming, job);
    char password[RANDOM_PASSWORD_BYTES];
    (void)thread_index;
    bk_random_text(password, sizeof password,
                   BK_SLICE("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"));
    confirming->status =
        bk_password_hash(confirming->hash, bk_slice_make(password, sizeof password));
    bk_crypto_wipe(password, sizeof password);
}

static void on_hashed(struct bk_job *job) {
    struct auth_confirming *confirming = bk_container_of(job, struct auth_confirming, job);
    confirming->password = bk_slice_from(confirming->hash);
    if (confirming->status == BK_OK)
        auth_confirm(confirming);
    else
        auth_confirm_refuse(confirming, confirming->status);
}

static void hash_random(struct auth_confirming *confirming) {
    const struct bk_module_context *context = confirming->request->module;
    const struct auth_state *state = context->state;
    confirming->job.run = on_hash;
    confirming->job.done = on_hashed;
    enum bk_status status = bk_pool_submit(state->pool, &confirming->job);
    if (status != BK_OK)
        auth_confirm_refuse(confirming, status == BK_BUSY ? BK_TOO_MANY : status);
}

/* What the contract says of a token's claims before it looks at the rest. False: the request was
 * answered. */
static bool read_token(struct bk_request *request, const struct bk_collection *collection,
                       struct auth_ticket *ticket) {
    struct auth_claims claims;
    struct bk_slice token;
    const struct auth_form_text texts[] = {
        {.name = "token", .value = &token, .bytes_max = SIZE_MAX, .is_required = true}};
    if (!auth_form_load(request, texts, BK_COUNT_OF(texts)))
        return false;
    if (token.length > 0 &&
        (!auth_ticket_peek(&request->arena, token, &claims) || claims.email.length == 0))
        auth_confirm_add(request, "token", "validation_invalid_token_claims",
                         "Missing email token claim.");
    if (!auth_confirm_read(request, collection, token, ticket))
        return false;
    if (request->problems.count == 0 && !bk_slice_equal(ticket->email, ticket->credentials.email))
        auth_confirm_add(request, "token", "validation_token_email_mismatch",
                         "The record email doesn't match with the requested token claims.");
    return true;
}

void auth_confirm_verification(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL || !is_for_users(request, collection))
        return;
    struct auth_confirming *confirming = bk_arena_alloc_zero(&request->arena, sizeof *confirming);
    confirming->ticket.type = "verification";
    if (!read_token(request, collection, &confirming->ticket))
        return;
    if (!auth_form_is_right(request))
        return;
    if (confirming->ticket.credentials.is_verified) {
        bk_answer_empty(request);
        return;
    }
    auth_confirm_begin(confirming, request);
    confirming->change = verify;
    confirming->message = "An error occurred while saving the verified state.";
    if (auth_option_is_on(collection, "passwordAuth", "enabled"))
        auth_confirm(confirming);
    else
        hash_random(confirming);
}
