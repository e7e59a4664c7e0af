/*
 * Another address: who is signed in asks for it, the new address gets a ticket, and the ticket
 * comes back with the password of the account. The record has the new address then, is verified by
 * it, and all sessions of before are over.
 *
 * Whether the address is free is looked at three times: when it is asked for, when the ticket comes
 * back, and by the unique index when it is written.
 */
#include "bakend/crypto.h"
#include "flow.h"

/* Mails to addresses that somebody else chooses: so many of a record within the pause, quietly. */
enum { RECENT_MAX = 5, PASSWORD_BYTES_MAX = 100 };

static const char form_message[] = "An error occurred while validating the submitted data.";

/* False: the request was answered. */
static bool is_for_users(struct bk_request *request, const struct bk_collection *collection) {
    if (!bk_slice_is(collection->name, "_superusers"))
        return true;
    bk_answer_error(request, BK_INVALID, "All superusers can change their emails directly.");
    return false;
}

/* --- whose it is ------------------------------------------------------------------------------ */

/* BK_OK: somebody has it, credentials say who. BK_NOT_FOUND: it is free. */
static enum bk_status find(struct bk_request *request, const struct bk_collection *collection,
                           struct bk_slice email, struct auth_credentials *credentials) {
    const struct auth_identity identity = {
        .collection = collection, .value = email, .field = BK_SLICE("email")};
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    if (connection == NULL)
        return BK_CLOSING;
    return auth_identity_find(&identity, connection, &request->arena, credentials);
}

/* --- asking ----------------------------------------------------------------------------------- */

/* False: the request was answered. */
static bool check_new_email(struct bk_request *request, const struct bk_collection *collection,
                            struct bk_slice email) {
    struct auth_credentials own, other;
    enum bk_status status = auth_credentials_read(&request->arena, request->tenant, collection,
                                                  request->actor.id, &own);
    if (status == BK_OK && bk_slice_equal(own.email, email)) {
        auth_confirm_add(request, "newEmail", "validation_not_in_invalid", "Must not be in list.");
        return auth_form_is_right(request);
    }
    if (status == BK_OK)
        status = find(request, collection, email, &other);
    if (status == BK_OK && !bk_slice_equal(other.id, own.id))
        auth_confirm_add(request, "newEmail", "validation_invalid_new_email",
                         "Invalid new email address.");
    if (status == BK_OK || status == BK_NOT_FOUND)
        return auth_form_is_right(request);
    bk_answer_error(request, status, NULL);
    return false;
}

void auth_request_email_change(struct bk_request *request) {
    const struct bk_collection *collection = auth_own_collection(request);
    if (collection == NULL || !is_for_users(request, collection))
        return;
    struct auth_asking *asking = bk_arena_alloc_zero(&request->arena, sizeof *asking);
    const struct auth_form_text texts[] = {{.name = "newEmail",
                                            .value = &asking->new_email,
                                            .bytes_max = AUTH_ADDRESS_BYTES_MAX,
                                            .is_required = true,
                                            .is_email = true}};
    if (!auth_form_read(request, texts, BK_COUNT_OF(texts)) ||
        !check_new_email(request, collection, asking->new_email))
        return;
    asking->request = request;
    asking->collection = collection;
    asking->type = "emailChange";
    asking->template = "email-change";
    asking->recent_max = RECENT_MAX;
    auth_ask(asking);
}

/* --- confirming ------------------------------------------------------------------------------- */

static void add_taken(struct bk_request *request) {
    auth_confirm_add(request, "token", "validation_invalid_token_email",
                     "The new email address is invalid.");
}

static enum bk_status change(struct auth_confirming *confirming, struct bk_transaction *transaction,
                             const struct auth_credentials *credentials) {
    const struct auth_ticket *ticket = &confirming->ticket;
    const struct auth_value values[] = {{"email", BK_VALUE_OF_TEXT(ticket->new_email)},
                                        {"verified", BK_VALUE_OF_INT(1)}};
    enum bk_status status = auth_row_update(transaction, confirming->schema, ticket->collection,
                                            credentials->id, values, BK_COUNT_OF(values));
    if (status != BK_CONFLICT)
        return status;
    confirming->message = form_message;
    add_taken(confirming->request);
    return BK_INVALID;
}

static void add_wrong_password(struct bk_request *request) {
    auth_confirm_add(request, "password", "validation_invalid_password",
                     "Missing or invalid auth record password.");
}

/* The password was right: the address is judged as the field does, and all is written. */
static void finish(struct auth_confirming *confirming) {
    struct bk_request *request = confirming->request;
    const struct bk_field *field = confirming->ticket.collection->email_field;
    const struct bk_value value = BK_VALUE_OF_TEXT(confirming->ticket.new_email);
    if (field != NULL && field->type->validate != NULL)
        field->type->validate(field, &value, &request->problems);
    if (request->problems.count > 0)
        auth_confirm_refuse(confirming, BK_INVALID);
    else
        auth_confirm(confirming);
}

static void on_verify(struct bk_job *job, uint32_t thread_index) {
    struct auth_confirming *confirming = bk_container_of(job, struct auth_confirming, job);
    (void)thread_index;
    confirming->status =
        bk_password_verify(confirming->ticket.credentials.password_hash, confirming->value.text);
}

static void on_verified(struct bk_job *job) {
    struct auth_confirming *confirming = bk_container_of(job, struct auth_confirming, job);
    struct bk_request *request = confirming->request;
    auth_attempt_end(&confirming->attempt, auth_confirm_outcome(confirming->status),
                     confirming->ticket.credentials.id);
    if (confirming->status == BK_OK) {
        finish(confirming);
    } else if (confirming->status == BK_UNAUTHORIZED) {
        add_wrong_password(request);
        confirming->message = form_message;
        auth_confirm_refuse(confirming, BK_INVALID);
    } else {
        auth_confirm_refuse(confirming, confirming->status);
    }
}

static void check_password(struct auth_confirming *confirming) {
    const struct bk_module_context *context = confirming->request->module;
    const struct auth_state *state = context->state;
    confirming->job.run = on_verify;
    confirming->job.done = on_verified;
    enum bk_status status = bk_pool_submit(state->pool, &confirming->job);
    if (status == BK_OK)
        return;
    auth_attempt_end(&confirming->attempt, AUTH_ATTEMPT_UNJUDGED, BK_SLICE_EMPTY);
    auth_confirm_refuse(confirming, status == BK_BUSY ? BK_TOO_MANY : status);
}

struct form {
    struct bk_slice token, password;
};

/* False: the request was answered. */
static bool judge_token(struct bk_request *request, const struct bk_collection *collection,
                        struct bk_slice token, struct auth_ticket *ticket) {
    struct auth_claims claims;
    struct auth_credentials other;
    uint32_t problem_count = request->problems.count;
    if (token.length > 0 &&
        (!auth_ticket_peek(&request->arena, token, &claims) || claims.new_email.length == 0))
        auth_confirm_add(request, "token", "validation_invalid_token_payload",
                         "Invalid token payload - newEmail must be set.");
    if (!auth_confirm_read(request, collection, token, ticket))
        return false;
    if (request->problems.count > problem_count || token.length == 0)
        return true;
    enum bk_status status = find(request, collection, ticket->new_email, &other);
    if (status == BK_OK)
        add_taken(request);
    else if (status != BK_NOT_FOUND)
        bk_answer_error(request, status, NULL);
    return status == BK_OK || status == BK_NOT_FOUND;
}

/* A password without a ticket that is right is nobody's, and as wrong as any. False: the request
 * was answered. */
static bool read_form(struct bk_request *request, const struct bk_collection *collection,
                      struct form *form, struct auth_ticket *ticket) {
    const struct auth_form_text texts[] = {
        {.name = "token", .value = &form->token, .bytes_max = SIZE_MAX, .is_required = true},
        {.name = "password",
         .value = &form->password,
         .bytes_max = PASSWORD_BYTES_MAX,
         .is_required = true},
    };
    if (!auth_form_load(request, texts, BK_COUNT_OF(texts)) ||
        !judge_token(request, collection, form->token, ticket))
        return false;
    if (bk_problems_has(&request->problems, BK_SLICE("token")) && form->password.length > 0)
        add_wrong_password(request);
    return auth_form_is_right(request);
}

void auth_confirm_email_change(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL || !is_for_users(request, collection))
        return;
    struct auth_confirming *confirming = bk_arena_alloc_zero(&request->arena, sizeof *confirming);
    struct form form;
    confirming->ticket.type = "emailChange";
    if (!read_form(request, collection, &form, &confirming->ticket))
        return;
    confirming->attempt = (struct auth_attempt){.request = request,
                                                .collection = collection,
                                                .account = confirming->ticket.credentials.id,
                                                .method = "emailChange",
                                                .has_ticket = true};
    if (!auth_attempt_begin(&confirming->attempt))
        return;
    auth_confirm_begin(confirming, request);
    confirming->value.text = form.password;
    confirming->change = change;
    confirming->message = "Failed to confirm email change.";
    check_password(confirming);
}
