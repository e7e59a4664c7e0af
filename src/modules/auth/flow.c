/*
 * The two halves of every way by mail.
 *
 * Asking: the address is looked up on the writer, where the ticket is kept and the mail becomes
 * work; one commit. For an address that nobody has, a row is written all the same, and the answer
 * is the same 204: neither it nor its time tells who has an account. The contract's pause between
 * two mails is looked at in the same transaction, so that a hundred at once are one mail, too.
 *
 * Confirming: what a ticket says is judged on the loop, what takes time (a hash) is done in the
 * pool, and the writer uses the ticket and changes the record, both or neither. The ticket is
 * looked at there again: of many who come with it one wins, and who comes with one that a new
 * password has ended meanwhile does not.
 */
#include "flow.h"

/* --- asking: on the writer -------------------------------------------------------------------- */

/* BK_NOT_FOUND: nobody, or nobody who gets a mail now. */
static enum bk_status find(const struct auth_asking *asking, struct bk_transaction *transaction,
                           struct auth_ticket *ticket) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct auth_credentials *credentials = &ticket->credentials;
    const struct auth_identity identity = {
        .collection = asking->collection, .value = asking->email, .field = BK_SLICE("email")};
    int64_t recent = 0;
    enum bk_status status = asking->email.length > 0
                                ? auth_identity_find(&identity, connection, arena, credentials)
                                : auth_credentials_find(arena, connection, asking->collection,
                                                        asking->request->actor.id, credentials);
    if (status == BK_OK && (credentials->token_key.length == 0 ||
                            (asking->is_for_unverified && credentials->is_verified)))
        return BK_NOT_FOUND;
    if (status == BK_OK)
        status = auth_ticket_count_recent(transaction, ticket, &recent);
    return status == BK_OK && recent >= asking->recent_max ? BK_NOT_FOUND : status;
}

static enum bk_status send_ticket(const struct auth_asking *asking,
                                  struct bk_transaction *transaction,
                                  const struct auth_ticket *ticket) {
    const struct bk_module_context *context = asking->request->module;
    struct bk_buffer token;
    int64_t expires_ms = 0;
    bk_buffer_init(&token, AUTH_TOKEN_BYTES_MAX);
    enum bk_status status = auth_ticket_issue(context, transaction, ticket, &token, &expires_ms);
    if (status == BK_OK) {
        const struct auth_mail mail = {.template = asking->template,
                                       .collection = asking->collection->id,
                                       .record = ticket->credentials.id,
                                       .to = ticket->new_email.length > 0 ? ticket->new_email
                                                                          : ticket->email,
                                       .variables = {{"TOKEN", bk_buffer_slice(&token)}},
                                       .expires_ms = expires_ms};
        status = auth_mail_add(context, transaction, &mail, NULL);
    }
    bk_buffer_fini(&token);
    return status;
}

static enum bk_status on_ask(struct bk_transaction *transaction, struct bk_write *write) {
    const struct auth_asking *asking = bk_container_of(write, struct auth_asking, write);
    struct auth_ticket ticket = {
        .type = asking->type, .collection = asking->collection, .new_email = asking->new_email};
    enum bk_status status = auth_schema_verify(asking->schema, asking->collection, transaction);
    if (status != BK_OK)
        return status;
    status = find(asking, transaction, &ticket);
    ticket.email = ticket.credentials.email;
    if (status == BK_NOT_FOUND)
        return auth_ticket_pretend(transaction);
    return status == BK_OK ? send_ticket(asking, transaction, &ticket) : status;
}

/* --- asking: on the loop ---------------------------------------------------------------------- */

static void on_asked(struct bk_write *write, enum bk_status status) {
    struct auth_asking *asking = bk_container_of(write, struct auth_asking, write);
    struct bk_request *request = asking->request;
    bk_schema_unref(asking->schema);
    if (status == BK_STALE && !asking->is_second) {
        asking->is_second = true;
        asking->collection = auth_collection(request);
        if (asking->collection != NULL)
            auth_ask(asking);
        return;
    }
    if (status == BK_OK)
        bk_answer_empty(request);
    else
        bk_answer_error(request, status == BK_STALE ? BK_BUSY : status, NULL);
}

void auth_ask(struct auth_asking *asking) {
    struct bk_request *request = asking->request;
    const struct bk_module_context *context = request->module;
    asking->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    asking->write.origin = &request->origin;
    asking->write.run = on_ask;
    asking->write.done = on_asked;
    enum bk_status status = bk_store_write(request->tenant->database, &asking->write);
    if (status == BK_OK)
        return;
    bk_schema_unref(asking->schema);
    bk_answer_error(request, status, NULL);
}

/* --- confirming ------------------------------------------------------------------------------- */

void auth_confirm_add(struct bk_request *request, const char *field, const char *code,
                      const char *message) {
    bk_problems_add(&request->problems, bk_slice_from(field), code, message);
}

static void add_invalid(struct bk_request *request) {
    auth_confirm_add(request, "token", "validation_invalid_token", "Invalid or expired token.");
}

enum auth_attempt_outcome auth_confirm_outcome(enum bk_status status) {
    if (status == BK_OK)
        return AUTH_ATTEMPT_PASSED;
    return status == BK_UNAUTHORIZED ? AUTH_ATTEMPT_FAILED : AUTH_ATTEMPT_UNJUDGED;
}

bool auth_confirm_read(struct bk_request *request, const struct bk_collection *collection,
                       struct bk_slice token, struct auth_ticket *ticket) {
    struct auth_attempt attempt = {
        .request = request, .collection = collection, .method = ticket->type};
    if (token.length == 0 || bk_problems_has(&request->problems, BK_SLICE("token")))
        return true;
    if (!auth_attempt_begin(&attempt))
        return false;
    enum bk_status status = auth_ticket_read(request, token, ticket->type, ticket);
    auth_attempt_end(&attempt, auth_confirm_outcome(status), BK_SLICE_EMPTY);
    if (status == BK_UNAUTHORIZED)
        add_invalid(request);
    else if (status == BK_OK && ticket->collection != collection)
        auth_confirm_add(request, "token", "validation_token_collection_mismatch",
                         "The provided token is for different auth collection.");
    else if (status != BK_OK)
        bk_answer_error(request, status, NULL);
    return status == BK_OK || status == BK_UNAUTHORIZED;
}

void auth_confirm_begin(struct auth_confirming *confirming, struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    const struct auth_ticket *ticket = &confirming->ticket;
    confirming->request = request;
    confirming->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    /* Who has the ticket acts for the record. */
    confirming->origin = request->origin;
    confirming->origin.actor =
        bk_arena_format(&request->arena, "%.*s/%.*s", BK_SLICE_PRINT(ticket->collection->name),
                        BK_SLICE_PRINT(ticket->credentials.id));
}

void auth_confirm_refuse(struct auth_confirming *confirming, enum bk_status status) {
    struct bk_request *request = confirming->request;
    bk_schema_unref(confirming->schema);
    if (status == BK_UNAUTHORIZED) { /* it was used, or ended, since it was looked at */
        add_invalid(request);
        (void)auth_form_is_right(request);
    } else if (status == BK_INVALID && request->problems.count > 0) {
        bk_answer_problems(request, status, confirming->message);
    } else {
        bk_answer_error(request, status == BK_STALE ? BK_BUSY : status, NULL);
    }
}

static enum bk_status on_confirm(struct bk_transaction *transaction, struct bk_write *write) {
    struct auth_confirming *confirming = bk_container_of(write, struct auth_confirming, write);
    struct auth_credentials credentials;
    enum bk_status status =
        auth_schema_verify(confirming->schema, confirming->ticket.collection, transaction);
    if (status == BK_OK)
        status = auth_ticket_use(transaction, &confirming->ticket, &credentials);
    return status == BK_OK ? confirming->change(confirming, transaction, &credentials) : status;
}

static void on_confirmed(struct bk_write *write, enum bk_status status) {
    struct auth_confirming *confirming = bk_container_of(write, struct auth_confirming, write);
    struct bk_request *request = confirming->request;
    if (status == BK_STALE && request->state == NULL) {
        bk_schema_unref(confirming->schema);
        request->state = confirming; /* once more from the start: what it was judged by is gone */
        request->route->handle(request);
    } else if (status != BK_OK) {
        auth_confirm_refuse(confirming, status);
    } else {
        bk_schema_unref(confirming->schema);
        bk_answer_empty(request);
    }
}

void auth_confirm(struct auth_confirming *confirming) {
    struct bk_request *request = confirming->request;
    confirming->write.origin = &confirming->origin;
    confirming->write.run = on_confirm;
    confirming->write.done = on_confirmed;
    enum bk_status status = bk_arena_status(&request->arena);
    if (status == BK_OK)
        status = bk_store_write(request->tenant->database, &confirming->write);
    if (status != BK_OK)
        auth_confirm_refuse(confirming, status);
}
