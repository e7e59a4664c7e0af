/*
 * Showing that an address is one's own: a mail with a ticket, and the ticket back. Superusers need
 * none.
 *
 * A ticket of somebody who is verified already is as good as used: the answer is the contract's
 * 204, and nothing happens. In a collection without sign-in by password, a password that somebody
 * has put there before is taken away, so that it does not become good for the account when password
 * sign-in is switched on. Accounts elsewhere that are linked by then go on, as in the contract, and
 * are remembered as of before (unproven.c).
 */
#include "flow.h"

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
        {"password", BK_VALUE_OF_TEXT(AUTH_NO_PASSWORD)},
    };
    bool has_passwords =
        auth_option_is_on(confirming->ticket.collection, "passwordAuth", "enabled");
    const struct auth_owner owner = {confirming->ticket.collection->id, credentials->id};
    if (credentials->is_verified)
        return BK_OK;
    enum bk_status status = auth_unproven_note(transaction, &owner);
    if (status != BK_OK)
        return status;
    return auth_row_update(transaction, confirming->schema, confirming->ticket.collection,
                           credentials->id, values, has_passwords ? 1 : 2);
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
    auth_confirm(confirming);
}
