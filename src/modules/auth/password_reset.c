/*
 * A new password for who has lost the old one: a mail with a ticket, and the ticket back with the
 * password. It is hashed in the pool before the ticket is used.
 *
 * Who gets the mail has the address, so the record is verified by it. If it was not before,
 * somebody else may have made the account in their name and have linked an account elsewhere: the
 * links go. Where it was, those go that were there before (unproven.c). An authenticator app stays,
 * whose ever it is: a mailbox is one factor, and no stranger takes one up (totp_routes.c).
 */
#include "flow.h"

enum { PASSWORD_BYTES_MAX = 255 /* of the form; the field has a say of its own */ };

/* --- asking ----------------------------------------------------------------------------------- */

void auth_request_password_reset(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL)
        return;
    if (!auth_option_is_on(collection, "passwordAuth", "enabled")) {
        bk_answer_error(request, BK_INVALID,
                        "The collection is not configured to allow password authentication.");
        return;
    }
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
    asking->type = "passwordReset";
    asking->template = "password-reset";
    asking->recent_max = 1;
    auth_ask(asking);
}

/* --- confirming: on the writer ---------------------------------------------------------------- */

static enum bk_status emit(const struct auth_confirming *confirming,
                           struct bk_transaction *transaction) {
    const struct auth_fact fact = {.type = "auth.password_reset",
                                   .collection = confirming->ticket.collection->name,
                                   .id = confirming->ticket.credentials.id};
    return auth_event_emit(transaction, &fact);
}

static enum bk_status reset(struct auth_confirming *confirming, struct bk_transaction *transaction,
                            const struct auth_credentials *credentials) {
    const struct auth_ticket *ticket = &confirming->ticket;
    const struct auth_owner owner = {ticket->collection->id, credentials->id};
    const struct auth_value values[] = {
        {"password", BK_VALUE_OF_TEXT(confirming->password)},
        {"verified", BK_VALUE_OF_INT(1)},
    };
    enum bk_status status = auth_row_update(transaction, confirming->schema, ticket->collection,
                                            credentials->id, values, BK_COUNT_OF(values));
    if (status == BK_OK && credentials->is_verified)
        status = auth_unproven_remove(transaction, confirming->schema, &owner);
    else if (status == BK_OK)
        status = auth_rows_remove_of(transaction, confirming->schema, "_externalAuths", &owner);
    return status == BK_OK ? emit(confirming, transaction) : status;
}

/* --- confirming: on the loop ------------------------------------------------------------------ */

static void on_hashed(struct bk_field_work *work, enum bk_status status) {
    struct auth_confirming *confirming = bk_container_of(work, struct auth_confirming, work);
    confirming->password = confirming->value.text;
    if (status == BK_OK)
        auth_confirm(confirming);
    else
        auth_confirm_refuse(confirming, status);
}

/* BK_OK of a type that has something to say against the password: the problems tell. */
static void hash(struct auth_confirming *confirming, const struct bk_field *field,
                 struct bk_slice password) {
    struct bk_request *request = confirming->request;
    confirming->value = BK_VALUE_OF_TEXT(password);
    confirming->work = (struct bk_field_work){.done = on_hashed,
                                              .value = &confirming->value,
                                              .arena = &request->arena,
                                              .problems = &request->problems,
                                              .field = field};
    enum bk_status status = field->type->begin(&confirming->work);
    if (status != BK_END)
        auth_confirm_refuse(confirming, status == BK_OK ? BK_INVALID : status);
}

struct form {
    struct bk_slice token, password, again;
};

/* False: the request was answered. */
static bool read_form(struct bk_request *request, const struct bk_field *field, struct form *form) {
    const struct auth_form_text texts[] = {
        {.name = "token", .value = &form->token, .bytes_max = SIZE_MAX, .is_required = true},
        {.name = "password",
         .value = &form->password,
         .bytes_min = (size_t)auth_password_minimum(field),
         .bytes_max = PASSWORD_BYTES_MAX,
         .is_required = true},
        {.name = "passwordConfirm",
         .value = &form->again,
         .bytes_max = SIZE_MAX,
         .is_required = true},
    };
    if (!auth_form_load(request, texts, BK_COUNT_OF(texts)))
        return false;
    if (!bk_slice_equal(form->password, form->again))
        auth_confirm_add(request, "passwordConfirm", "validation_values_mismatch",
                         "Values don't match.");
    return true;
}

void auth_confirm_password_reset(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    struct form form;
    if (collection == NULL)
        return;
    const struct bk_field *field = bk_collection_field(collection, BK_SLICE("password"));
    struct auth_confirming *confirming = bk_arena_alloc_zero(&request->arena, sizeof *confirming);
    confirming->ticket.type = "passwordReset";
    if (!read_form(request, field, &form) ||
        !auth_confirm_read(request, collection, form.token, &confirming->ticket) ||
        !auth_form_is_right(request))
        return;
    auth_confirm_begin(confirming, request);
    confirming->change = reset;
    confirming->message = "Failed to set new password.";
    hash(confirming, field, form.password);
}
