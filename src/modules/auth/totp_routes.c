/*
 * Authenticator apps, from outside: an account takes one up, proves that it works, gives it up, and
 * signs in with it as the second factor. What codes are is in totp.c.
 *
 *   enroll   own token, and the password where the account has one → a secret, not yet in use; not
 *            before the address is verified: no stranger puts an app on an account that he has made
 *            in the name of somebody else, and so no way in ever has to take one off
 *   confirm  own token and a code of it → it is on, and the codes of recovery, shown once
 *   disable  own token, and a code or the password; or a superuser, who names the record
 *   auth-with-totp  the id of a first factor and a code; never a first factor itself
 *
 * A code is judged on the writer in a transaction that keeps the count of wrong ones. When somebody
 * signs in it is used up in the transaction of the session.
 */
#include "auth.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"
#include "bakend/settings.h"

enum {
    CODE_BYTES_MAX = 64,
    PASSWORD_BYTES_MAX = 255,
    ID_BYTES_MAX = 255,
    URI_BYTES_MAX = 4096,
    SECRET_TEXT_BYTES = 32, /* of AUTH_TOTP_SECRET_BYTES in base32 */
};

static const char wrong_code[] = "The code is wrong or was used already.";
static const char locked[] = "Too many wrong codes, please try again later.";

/* What one of the three requests of an account goes through: its password, then its row. */
struct totp_change {
    struct bk_write write;
    struct bk_job job;
    struct auth_attempt attempt; /* at the password */
    struct bk_request *request;
    struct bk_schema *schema; /* pinned */
    const struct bk_collection *collection;
    struct auth_credentials credentials;
    struct auth_owner owner;
    struct bk_slice code, password, record;
    enum bk_status verified; /* of the password */
    /* On the writer, in the transaction: what is to be done. */
    enum bk_status (*change)(struct totp_change *change, struct bk_transaction *transaction);
    void (*answer)(struct totp_change *change);
    const char *absent;             /* where there is no app */
    enum auth_totp_verdict verdict; /* on the code */
    bool was_on;
    uint8_t secret[AUTH_TOTP_SECRET_BYTES];
    char recovery[AUTH_TOTP_RECOVERY_COUNT][AUTH_TOTP_RECOVERY_BYTES];
};

static const struct bk_module_context *context_of(const struct totp_change *change) {
    return change->request->module;
}

static void refuse(struct totp_change *change, enum bk_status status, const char *message) {
    bk_schema_unref(change->schema);
    bk_crypto_wipe(change->secret, sizeof change->secret);
    bk_answer_error(change->request, status, message);
}

static void refuse_field(struct totp_change *change, const char *field, const char *code,
                         const char *message) {
    bk_schema_unref(change->schema);
    bk_problems_add(&change->request->problems, bk_slice_from(field), code, message);
    bk_answer_problems(change->request, BK_INVALID,
                       "An error occurred while validating the submitted data.");
}

/* --- the row ---------------------------------------------------------------------------------- */

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct totp_change *change = bk_container_of(write, struct totp_change, write);
    struct auth_credentials now;
    change->verdict = AUTH_TOTP_RIGHT;
    enum bk_status status = auth_schema_verify(change->schema, change->collection, transaction);
    if (status == BK_OK)
        status = auth_credentials_find(bk_transaction_arena(transaction),
                                       bk_transaction_connection(transaction), change->collection,
                                       change->owner.id, &now);
    return status == BK_OK ? change->change(change, transaction) : status;
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct totp_change *change = bk_container_of(write, struct totp_change, write);
    if (status == BK_EXISTS)
        refuse(change, BK_INVALID,
               "The account has an authenticator app already: disable that one first.");
    else if (status != BK_OK)
        refuse(change, status, NULL);
    else if (change->verdict == AUTH_TOTP_LOCKED)
        refuse(change, BK_TOO_MANY, locked);
    else if (change->verdict == AUTH_TOTP_ABSENT)
        refuse(change, BK_INVALID, change->absent);
    else if (change->verdict == AUTH_TOTP_WRONG)
        refuse_field(change, "code", "validation_invalid_code", wrong_code);
    else
        change->answer(change);
}

static void submit(struct totp_change *change) {
    change->write.origin = &change->request->origin;
    change->write.run = on_run;
    change->write.done = on_done;
    enum bk_status status = bk_store_write(change->request->tenant->database, &change->write);
    if (status != BK_OK)
        refuse(change, status, NULL);
}

static enum bk_status emit(const struct totp_change *change, struct bk_transaction *transaction,
                           const char *type) {
    const struct auth_fact fact = {.type = type,
                                   .collection = change->collection->name,
                                   .id = change->owner.id,
                                   .texts = {{"method", BK_SLICE("totp")}}};
    return auth_event_emit(transaction, &fact);
}

/* --- the password ----------------------------------------------------------------------------- */

static void on_verify(struct bk_job *job, uint32_t thread_index) {
    struct totp_change *change = bk_container_of(job, struct totp_change, job);
    (void)thread_index;
    change->verified = bk_password_verify(change->credentials.password_hash, change->password);
}

static void on_verified(struct bk_job *job) {
    struct totp_change *change = bk_container_of(job, struct totp_change, job);
    bool is_wrong = change->verified == BK_UNAUTHORIZED;
    enum auth_attempt_outcome outcome = change->verified == BK_OK ? AUTH_ATTEMPT_PASSED
                                        : is_wrong                ? AUTH_ATTEMPT_FAILED
                                                                  : AUTH_ATTEMPT_UNJUDGED;
    auth_attempt_end(&change->attempt, outcome, change->owner.id);
    if (change->verified == BK_OK)
        submit(change);
    else if (is_wrong)
        refuse_field(change, "password", "validation_invalid_password",
                     "Missing or invalid password.");
    else
        refuse(change, change->verified, NULL);
}

static void ask_password(struct totp_change *change) {
    struct bk_request *request = change->request;
    const struct auth_state *state = context_of(change)->state;
    change->attempt = (struct auth_attempt){.request = request,
                                            .collection = change->collection,
                                            .account = change->owner.id,
                                            .method = "password"};
    if (!auth_attempt_begin(&change->attempt)) {
        bk_schema_unref(change->schema);
        return;
    }
    change->job.run = on_verify;
    change->job.done = on_verified;
    enum bk_status status = bk_pool_submit(state->pool, &change->job);
    if (status == BK_OK)
        return;
    auth_attempt_end(&change->attempt, AUTH_ATTEMPT_UNJUDGED, BK_SLICE_EMPTY);
    refuse(change, status == BK_BUSY ? BK_TOO_MANY : status, NULL);
}

static bool has_password(const struct totp_change *change) {
    return !bk_slice_equal(change->credentials.password_hash, AUTH_NO_PASSWORD);
}

/* --- whose ------------------------------------------------------------------------------------ */

/* The account of the token, which must be of the collection of the path; or the record that a
 * superuser names. NULL: the request was answered. */
static struct totp_change *make(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL)
        return NULL;
    struct totp_change *change = bk_arena_alloc_zero(&request->arena, sizeof *change);
    const struct auth_form_text texts[] = {
        {.name = "code", .value = &change->code, .bytes_max = CODE_BYTES_MAX},
        {.name = "password", .value = &change->password, .bytes_max = PASSWORD_BYTES_MAX},
        {.name = "record", .value = &change->record, .bytes_max = ID_BYTES_MAX},
    };
    if (!auth_form_read(request, texts, BK_COUNT_OF(texts)))
        return NULL;
    bool is_named = change->record.length > 0;
    if (is_named ? !bk_actor_is_superuser(&request->actor)
                 : request->actor.collection_id.length == 0) {
        bk_answer_error(request, is_named ? BK_FORBIDDEN : BK_UNAUTHORIZED,
                        is_named ? "Only superusers can name a record."
                                 : "The request requires valid record authorization token.");
        return NULL;
    }
    if (!is_named && !bk_slice_equal(request->actor.collection_id, collection->id)) {
        bk_answer_error(request, BK_FORBIDDEN, "The token is of a record of another collection.");
        return NULL;
    }
    change->request = request;
    change->collection = collection;
    change->owner =
        (struct auth_owner){collection->id, is_named ? change->record : request->actor.id};
    enum bk_status status = auth_credentials_read(&request->arena, request->tenant, collection,
                                                  change->owner.id, &change->credentials);
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return NULL;
    }
    change->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    return change;
}

/* --- taking one up ---------------------------------------------------------------------------- */

static enum bk_status enroll(struct totp_change *change, struct bk_transaction *transaction) {
    return auth_totp_begin(context_of(change), transaction, change->schema, &change->owner,
                           change->secret);
}

/* What apps read as a picture (the key URI format): the application, the account, the secret. */
static void write_uri(const struct totp_change *change, struct bk_slice secret,
                      struct bk_buffer *uri) {
    struct bk_slice issuer = bk_settings_of(change->request->tenant)->meta.app_name;
    struct bk_slice account = change->credentials.email;
    bk_buffer_append_literal(uri, "otpauth://totp/");
    bk_percent_encode(uri, issuer);
    bk_buffer_append_char(uri, ':');
    bk_percent_encode(uri, account.length > 0 ? account : change->owner.id);
    bk_buffer_append_literal(uri, "?secret=");
    bk_buffer_append_slice(uri, secret);
    bk_buffer_append_literal(uri, "&issuer=");
    bk_percent_encode(uri, issuer);
    bk_buffer_append_literal(uri, "&algorithm=SHA1&digits=6&period=30");
}

static void answer_enrolled(struct totp_change *change) {
    struct bk_request *request = change->request;
    char text[SECRET_TEXT_BYTES];
    struct bk_slice secret = bk_slice_make(text, sizeof text);
    struct bk_buffer uri;
    _Static_assert((int)SECRET_TEXT_BYTES == AUTH_TOTP_SECRET_BYTES * 8 / 5, "base32");
    auth_totp_base32(text, change->secret, sizeof change->secret);
    bk_buffer_init(&uri, URI_BYTES_MAX);
    write_uri(change, secret, &uri);
    enum bk_status status = bk_buffer_status(&uri);
    if (status == BK_OK) {
        bk_buffer_append_char(&request->out, '{');
        bk_json_write_member_string(&request->out, BK_SLICE("secret"), secret);
        bk_json_write_member_string(&request->out, BK_SLICE("uri"), bk_buffer_slice(&uri));
        bk_buffer_append_char(&request->out, '}');
    }
    bk_buffer_fini(&uri);
    bk_schema_unref(change->schema);
    bk_crypto_wipe(change->secret, sizeof change->secret);
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}

/* Whether the account itself asks, and the address is its own. False: the request was answered. */
static bool may_take_up(struct totp_change *change) {
    const struct auth_credentials *credentials = &change->credentials;
    bool is_proven = credentials->email.length == 0 || credentials->is_verified;
    if (change->record.length > 0)
        refuse(change, BK_FORBIDDEN, "An authenticator app is taken up by the account itself.");
    else if (!is_proven)
        refuse(change, BK_FORBIDDEN,
               "The address of the account is not verified: verify it first "
               "(request-verification), then take up the authenticator app.");
    return change->record.length == 0 && is_proven;
}

void auth_totp_enroll(struct bk_request *request) {
    struct totp_change *change = make(request);
    if (change == NULL || !may_take_up(change))
        return;
    change->change = enroll;
    change->answer = answer_enrolled;
    bk_random_bytes(change->secret, sizeof change->secret);
    if (has_password(change))
        ask_password(change);
    else
        submit(change);
}

static enum bk_status confirm(struct totp_change *change, struct bk_transaction *transaction) {
    struct auth_totp_use use;
    enum bk_status status = auth_totp_judge(context_of(change), transaction, &change->owner,
                                            change->code, true, &use, &change->verdict);
    if (status != BK_OK || change->verdict != AUTH_TOTP_RIGHT)
        return status;
    status =
        auth_totp_turn_on(context_of(change), transaction, &change->owner, &use, change->recovery);
    return status == BK_OK ? emit(change, transaction, "auth.mfa_enabled") : status;
}

static void answer_confirmed(struct totp_change *change) {
    struct bk_buffer *out = &change->request->out;
    bk_buffer_append_literal(out, "{\"recoveryCodes\":[");
    for (size_t i = 0; i < AUTH_TOTP_RECOVERY_COUNT; i++) {
        bk_json_write_separator(out);
        bk_json_write_string(out, bk_slice_make(change->recovery[i], sizeof change->recovery[i]));
    }
    bk_buffer_append_literal(out, "]}");
    bk_crypto_wipe(change->recovery, sizeof change->recovery);
    bk_schema_unref(change->schema);
    bk_answer(change->request, 200);
}

void auth_totp_confirm(struct bk_request *request) {
    struct totp_change *change = make(request);
    if (change == NULL || !may_take_up(change))
        return;
    change->change = confirm;
    change->answer = answer_confirmed;
    change->absent =
        "No authenticator app is being set up for the account: call totp/enroll first.";
    if (change->code.length == 0)
        refuse_field(change, "code", "validation_required", "Cannot be blank.");
    else
        submit(change);
}

/* --- giving it up ----------------------------------------------------------------------------- */

static enum bk_status disable(struct totp_change *change, struct bk_transaction *transaction) {
    struct auth_totp_use use;
    bool is_coded = change->code.length > 0 && change->record.length == 0;
    enum bk_status status = BK_OK;
    if (is_coded)
        status = auth_totp_judge(context_of(change), transaction, &change->owner, change->code,
                                 false, &use, &change->verdict);
    if (status != BK_OK || change->verdict != AUTH_TOTP_RIGHT)
        return status;
    status = auth_totp_remove(transaction, change->schema, &change->owner, &change->was_on);
    if (status == BK_NOT_FOUND) {
        change->verdict = AUTH_TOTP_ABSENT;
        return BK_OK;
    }
    return status == BK_OK && change->was_on ? emit(change, transaction, "auth.mfa_disabled")
                                             : status;
}

static void answer_disabled(struct totp_change *change) {
    bk_schema_unref(change->schema);
    bk_answer_empty(change->request);
}

void auth_totp_disable(struct bk_request *request) {
    struct totp_change *change = make(request);
    if (change == NULL)
        return;
    change->change = disable;
    change->answer = answer_disabled;
    change->absent = "The account has no authenticator app.";
    if (change->record.length > 0 || change->code.length > 0)
        submit(change);
    else if (change->password.length > 0)
        ask_password(change);
    else
        refuse_field(change, "code", "validation_required",
                     "A code of the app or the password is required.");
}

/* --- signing in ------------------------------------------------------------------------------- */

struct totp_login {
    struct bk_write write;
    struct auth_attempt attempt;
    struct auth_grant grant;
    struct bk_slice mfa_id, code;
    struct auth_owner owner;
    struct auth_totp_use use;
    enum auth_totp_verdict verdict;
    const char *message; /* why there is nothing to judge; NULL: there is */
    bool is_second;
};

static void begin_login(struct totp_login *login);

static void refuse_login(struct totp_login *login, enum auth_attempt_outcome outcome,
                         enum bk_status status, const char *message) {
    auth_attempt_end(&login->attempt, outcome, login->owner.id);
    bk_schema_unref(login->grant.schema);
    bk_answer_error(login->grant.request, status, message);
}

static enum bk_status on_judge(struct bk_transaction *transaction, struct bk_write *write) {
    struct totp_login *login = bk_container_of(write, struct totp_login, write);
    struct auth_grant *grant = &login->grant;
    struct bk_arena *arena = &grant->request->arena;
    struct auth_mfa_row row;
    login->message = NULL;
    enum bk_status status = auth_schema_verify(grant->schema, grant->collection, transaction);
    if (status == BK_OK)
        status = auth_mfa_find(transaction, grant->collection, login->mfa_id, &row);
    if (status == BK_OK && row.is_own)
        status = auth_credentials_find(arena, bk_transaction_connection(transaction),
                                       grant->collection, row.record, &grant->credentials);
    if (status == BK_NOT_FOUND || (status == BK_OK && !row.is_own)) {
        login->message = "Invalid or expired MFA session.";
        return BK_OK;
    }
    if (status != BK_OK)
        return status;
    login->owner = (struct auth_owner){grant->collection->id, grant->credentials.id};
    return auth_totp_judge(grant->request->module, transaction, &login->owner, login->code, false,
                           &login->use, &login->verdict);
}

static enum bk_status use_up(struct auth_grant *grant, struct bk_transaction *transaction) {
    const struct totp_login *login = grant->also_user;
    enum bk_status status = auth_totp_use_up(transaction, &login->owner, &login->use);
    if (status != BK_NOT_FOUND)
        return status;
    grant->message = wrong_code;
    return BK_INVALID;
}

static void on_judged(struct bk_write *write, enum bk_status status) {
    struct totp_login *login = bk_container_of(write, struct totp_login, write);
    struct auth_grant *grant = &login->grant;
    if (status == BK_STALE && !login->is_second) {
        bk_schema_unref(grant->schema);
        login->is_second = true;
        begin_login(login);
    } else if (status != BK_OK) {
        refuse_login(login, AUTH_ATTEMPT_UNJUDGED, status, NULL);
    } else if (login->message != NULL) {
        refuse_login(login, AUTH_ATTEMPT_FAILED, BK_INVALID, login->message);
    } else if (login->verdict == AUTH_TOTP_LOCKED) {
        refuse_login(login, AUTH_ATTEMPT_FAILED, BK_TOO_MANY, locked);
    } else if (login->verdict != AUTH_TOTP_RIGHT) {
        refuse_login(login, AUTH_ATTEMPT_FAILED, BK_INVALID, wrong_code);
    } else {
        auth_attempt_end(&login->attempt, AUTH_ATTEMPT_PASSED, login->owner.id);
        auth_grant(grant);
    }
}

/* With the schema of now. */
static void begin_login(struct totp_login *login) {
    struct bk_request *request = login->attempt.request;
    const struct bk_collection *collection = auth_collection(request);
    struct auth_grant *grant = &login->grant;
    if (collection == NULL) {
        auth_attempt_end(&login->attempt, AUTH_ATTEMPT_UNJUDGED, BK_SLICE_EMPTY);
        return;
    }
    *grant = (struct auth_grant){0};
    auth_grant_init(grant, request, collection);
    grant->event_type = BK_SLICE("auth.login");
    grant->method = BK_SLICE("totp");
    grant->context = BK_SLICE("totp");
    grant->is_refreshable = true;
    grant->also = use_up;
    grant->also_user = login;
    login->write.origin = &request->origin;
    login->write.run = on_judge;
    login->write.done = on_judged;
    enum bk_status status = bk_store_write(request->tenant->database, &login->write);
    if (status != BK_OK)
        refuse_login(login, AUTH_ATTEMPT_UNJUDGED, status, NULL);
}

void auth_with_totp(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL)
        return;
    struct totp_login *login = bk_arena_alloc_zero(&request->arena, sizeof *login);
    const struct auth_form_text texts[] = {
        {.name = "mfaId", .value = &login->mfa_id, .bytes_max = ID_BYTES_MAX, .is_required = true},
        {.name = "code", .value = &login->code, .bytes_max = CODE_BYTES_MAX, .is_required = true},
    };
    if (!auth_form_read(request, texts, BK_COUNT_OF(texts)))
        return;
    login->attempt = (struct auth_attempt){
        .request = request, .collection = collection, .account = login->mfa_id, .method = "totp"};
    if (auth_attempt_begin(&login->attempt))
        begin_login(login);
}
