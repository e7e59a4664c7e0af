/*
 * Signing in by a one-time password.
 *
 *   loop     the guess is counted for its address and for the record it is about, whatever code it
 *            is for; and, with all that were right, for both (the contract's five in three minutes)
 *   writer   the guess is counted at its id, then judged; a code dies after five. One whose mail
 *            has left proves the address: it is used up and the record is verified at once, whether
 *            or not the grant comes about, where one factor is enough
 *   pool     of a row that a superuser made: its hash is one of passwords
 *   grant    uses up the code in the transaction of the session; of many at once one wins
 *
 * Who was never verified may be somebody else who took the address first: with the address proven
 * his password and the accounts that he has linked are gone. Where the collection asks for two
 * factors that waits for the transaction of the session: a code that is but the first of two
 * changes nothing; one that is the second verifies and takes nothing, as the first was shown too.
 */
#include "auth.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"

enum { ID_BYTES_MAX = 255, GUESSES_MAX = 5, TRIES_MAX = 5, TRIES_WINDOW_MS = 180 * 1000 };

static const char invalid_message[] = "Invalid or expired OTP.";
static const char limited_message[] = "Too many attempts, please try again later with a new OTP.";

enum otp_outcome { OTP_INVALID, OTP_RIGHT, OTP_NEEDS_POOL };

struct otp_login {
    struct bk_write write;
    struct bk_job job;
    struct auth_attempt attempt; /* at the id */
    struct auth_attempt further; /* at the record, or what stands for one */
    struct auth_grant grant;
    struct bk_slice id, code;
    struct bk_slice hash; /* OTP_NEEDS_POOL */
    enum otp_outcome outcome;
    enum bk_status verified; /* by the pool */
    bool is_judged;          /* the pool has found it right */
    bool proves_address;     /* of a record that is not verified */
    bool is_used;            /* and the record verified */
    bool is_second;
};

/* No grant is made: the request is answered and what is pinned given back. */
static void refuse(struct otp_login *login, enum bk_status status, const char *message) {
    bk_schema_unref(login->grant.schema);
    bk_answer_error(login->grant.request, status, message);
}

static void end(struct otp_login *login, enum auth_attempt_outcome outcome, struct bk_slice id) {
    auth_attempt_end(&login->further, outcome, id);
    auth_attempt_end(&login->attempt, outcome, id);
}

static void fail(struct otp_login *login) {
    end(login, AUTH_ATTEMPT_FAILED, login->grant.credentials.id);
    refuse(login, BK_INVALID, invalid_message);
}

static void give_up(struct otp_login *login, enum bk_status status) {
    end(login, AUTH_ATTEMPT_UNJUDGED, BK_SLICE_EMPTY);
    refuse(login, status, NULL);
}

/* --- on the writer ---------------------------------------------------------------------------- */

/* Counts this guess, whether or not there is such a code, so that both cost a commit. */
static enum bk_status count_guess(const struct otp_login *login, struct bk_transaction *transaction,
                                  int64_t *count) {
    struct bk_statement *statement;
    enum bk_status status = auth_statement(
        transaction,
        BK_SLICE("INSERT INTO _auth_codes (id, attempts, created) VALUES (?1, 1, ?2) "
                 "ON CONFLICT (id) DO UPDATE SET attempts = attempts + 1 RETURNING attempts"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, login->id);
    bk_statement_bind_int(statement, 2, bk_transaction_now_ms(transaction));
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *count = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status == BK_OK ? auth_otp_sweep(transaction) : status;
}

/* BK_NOT_FOUND: it was used already. */
static enum bk_status use_up(const struct otp_login *login, struct bk_transaction *transaction) {
    const struct bk_collection *otps = bk_schema_find(login->grant.schema, BK_SLICE("_otps"));
    BK_ASSERT(otps != NULL);
    return auth_row_remove(transaction, otps, login->id);
}

static bool proves_address(const struct otp_login *login, const struct auth_otp_row *row) {
    const struct auth_credentials *credentials = &login->grant.credentials;
    return !credentials->is_verified && row->sent_to.length > 0 &&
           bk_slice_equal(row->sent_to, credentials->email);
}

/* is_first: nothing else was shown, so what others may have left to come in by goes. */
static enum bk_status verify(const struct auth_grant *grant, struct bk_transaction *transaction,
                             bool is_first) {
    /* No hash at all: a password that nobody knows, and that reads as one that nobody has set. */
    const struct auth_value values[] = {{"verified", BK_VALUE_OF_INT(1)},
                                        {"password", BK_VALUE_OF_TEXT(AUTH_NO_PASSWORD)}};
    const struct auth_owner owner = {grant->collection->id, grant->credentials.id};
    enum bk_status status = auth_row_update(transaction, grant->schema, grant->collection,
                                            grant->credentials.id, values, is_first ? 2 : 1);
    return status == BK_OK && is_first
               ? auth_rows_remove_of(transaction, grant->schema, "_externalAuths", &owner)
               : status;
}

static enum bk_status verify_now(struct otp_login *login, struct bk_transaction *transaction) {
    struct auth_grant *grant = &login->grant;
    const struct bk_origin *former = bk_transaction_origin(transaction);
    struct bk_origin origin = *former; /* the record itself does it */
    origin.actor = bk_arena_format(bk_transaction_arena(transaction), "%.*s/%.*s",
                                   BK_SLICE_PRINT(grant->collection->name),
                                   BK_SLICE_PRINT(grant->credentials.id));
    enum bk_status status = use_up(login, transaction);
    bk_transaction_set_origin(transaction, &origin);
    if (status == BK_OK)
        status = verify(grant, transaction, true);
    if (status == BK_OK)
        status =
            auth_credentials_find(&grant->request->arena, bk_transaction_connection(transaction),
                                  grant->collection, grant->credentials.id, &grant->credentials);
    bk_transaction_set_origin(transaction, former);
    login->is_used = status == BK_OK;
    return status;
}

static enum bk_status judge(struct otp_login *login, struct bk_transaction *transaction,
                            const struct auth_otp_row *row) {
    const struct bk_request *request = login->grant.request;
    enum bk_status status = BK_OK;
    if (!login->is_judged)
        status = auth_otp_compare(request->module, row->hash, login->code);
    if (status == BK_NOT_SUPPORTED) {
        login->hash = bk_arena_copy(&login->grant.request->arena, row->hash);
        login->outcome = OTP_NEEDS_POOL;
        return BK_OK;
    }
    if (status != BK_OK)
        return BK_OK; /* a wrong code: that it was counted is to stay */
    login->outcome = OTP_RIGHT;
    login->proves_address = proves_address(login, row);
    return login->proves_address && !auth_option_is_on(login->grant.collection, "mfa", "enabled")
               ? verify_now(login, transaction)
               : BK_OK;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct otp_login *login = bk_container_of(write, struct otp_login, write);
    struct auth_grant *grant = &login->grant;
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct auth_otp_row row;
    int64_t guess_count = 0;
    login->outcome = OTP_INVALID;
    login->is_used = false;
    grant->credentials = (struct auth_credentials){0};
    enum bk_status status = auth_schema_verify(grant->schema, grant->collection, transaction);
    if (status == BK_OK && !login->is_judged)
        status = count_guess(login, transaction, &guess_count);
    if (status != BK_OK)
        return status;
    status = auth_otp_find(connection, bk_transaction_arena(transaction), grant->collection,
                           login->id, bk_transaction_now_ms(transaction), &row);
    if (status == BK_OK && guess_count > GUESSES_MAX)
        return use_up(login, transaction); /* it is dead */
    if (status == BK_OK)
        status = auth_credentials_find(&grant->request->arena, connection, grant->collection,
                                       row.record, &grant->credentials);
    if (status == BK_OK)
        status = judge(login, transaction, &row);
    return status == BK_NOT_FOUND ? BK_OK : status;
}

/* --- step by step ----------------------------------------------------------------------------- */

static void begin(struct otp_login *login);
static void on_done(struct bk_write *write, enum bk_status status);

static enum bk_status use_up_also(struct auth_grant *grant, struct bk_transaction *transaction) {
    const struct otp_login *login = grant->also_user;
    bool is_in = grant->mfa_id[0] == '\0'; /* not but with the first of two factors */
    enum bk_status status = use_up(login, transaction);
    if (status == BK_OK && login->proves_address && is_in)
        status = verify(grant, transaction, !grant->is_second);
    if (status != BK_NOT_FOUND)
        return status;
    grant->message = invalid_message;
    return BK_INVALID;
}

static void submit(struct otp_login *login) {
    struct bk_request *request = login->grant.request;
    login->write.origin = &request->origin;
    login->write.run = on_run;
    login->write.done = on_done;
    enum bk_status status = bk_store_write(request->tenant->database, &login->write);
    if (status != BK_OK)
        give_up(login, status);
}

static void on_verify(struct bk_job *job, uint32_t thread_index) {
    struct otp_login *login = bk_container_of(job, struct otp_login, job);
    (void)thread_index;
    login->verified = bk_password_verify(login->hash, login->code);
}

static void on_verified(struct bk_job *job) {
    struct otp_login *login = bk_container_of(job, struct otp_login, job);
    if (login->verified == BK_UNAUTHORIZED) {
        fail(login);
    } else if (login->verified != BK_OK) {
        give_up(login, login->verified);
    } else {
        login->is_judged = true;
        submit(login);
    }
}

static void ask_pool(struct otp_login *login) {
    const struct bk_module_context *context = login->grant.request->module;
    const struct auth_state *state = context->state;
    login->job.run = on_verify;
    login->job.done = on_verified;
    enum bk_status status = bk_pool_submit(state->pool, &login->job);
    if (status != BK_OK)
        give_up(login, status == BK_BUSY ? BK_TOO_MANY : status);
}

static void succeed(struct otp_login *login) {
    struct auth_grant *grant = &login->grant;
    end(login, AUTH_ATTEMPT_PASSED, grant->credentials.id);
    grant->event_type = BK_SLICE("auth.login");
    grant->method = BK_SLICE("otp");
    grant->context = BK_SLICE("otp");
    grant->is_refreshable = true;
    if (!login->is_used) {
        grant->also = use_up_also;
        grant->also_user = login;
    }
    auth_grant(grant);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct otp_login *login = bk_container_of(write, struct otp_login, write);
    if (status == BK_STALE && !login->is_second) {
        bk_schema_unref(login->grant.schema);
        login->is_second = true;
        begin(login);
    } else if (status != BK_OK) {
        give_up(login, status);
    } else if (login->outcome == OTP_RIGHT) {
        succeed(login);
    } else if (login->outcome == OTP_NEEDS_POOL) {
        ask_pool(login);
    } else {
        fail(login);
    }
}

/* The contract counts what is entered for a record, right or wrong, from one address. On the loop,
 * so that no two requests count the same one. */
static bool is_limited(const struct otp_login *login, struct bk_slice record) {
    const struct bk_request *request = login->grant.request;
    const struct bk_module_context *context = request->module;
    struct auth_state *state = context->state;
    struct auth_client client;
    auth_client_of(request->remote_address, &client);
    const struct bk_slice texts[] = {
        request->tenant->name, login->grant.collection->id, record,
        bk_slice_make((const char *)client.address, sizeof client.address)};
    struct bk_tally_entry *entry =
        bk_tally_take(&state->otp_tries, bk_tally_key(texts, BK_COUNT_OF(texts)),
                      bk_clock_monotonic_ns() / 1000000, TRIES_WINDOW_MS);
    return entry->count++ >= TRIES_MAX;
}

/* Each code has an id of its own: a new one is not to begin the account's count anew. */
static bool is_refused(struct otp_login *login, struct bk_slice record) {
    if (is_limited(login, record))
        return true;
    login->further = login->attempt;
    login->further.account = record;
    login->further.failures_max = 0;
    login->further.is_further = true;
    login->further.is_counted = false;
    return auth_attempt_try(&login->further) != BK_OK;
}

/* What stands for a record where an address had none; else empty. */
static struct bk_slice pretended_record(const struct otp_login *login) {
    struct bk_request *request = login->grant.request;
    uint32_t address;
    if (!auth_otp_pretended(request, login->grant.collection, login->id, &address))
        return BK_SLICE_EMPTY;
    return bk_arena_format(&request->arena, "unknown %u", address);
}

/* With the schema of now. */
static void begin(struct otp_login *login) {
    struct bk_request *request = login->grant.request;
    const struct bk_collection *collection = auth_otp_collection(request);
    struct auth_otp_row row = {0};
    if (collection == NULL) {
        end(login, AUTH_ATTEMPT_UNJUDGED, BK_SLICE_EMPTY);
        return;
    }
    auth_grant_init(&login->grant, request, collection);
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    enum bk_status status = BK_CLOSING;
    if (connection != NULL)
        status = auth_otp_find(connection, &request->arena, collection, login->id,
                               bk_clock_wall_ms(), &row);
    if (status == BK_NOT_FOUND)
        row.record = pretended_record(login);
    bool is_counted = !login->is_second && row.record.length > 0;
    if ((status == BK_OK || status == BK_NOT_FOUND) && is_counted &&
        is_refused(login, row.record)) {
        end(login, AUTH_ATTEMPT_FAILED, status == BK_OK ? row.record : BK_SLICE_EMPTY);
        refuse(login, BK_TOO_MANY, limited_message);
    } else if (status == BK_OK || status == BK_NOT_FOUND) {
        submit(login);
    } else {
        give_up(login, status);
    }
}

void auth_with_otp(struct bk_request *request) {
    const struct bk_collection *collection = auth_otp_collection(request);
    if (collection == NULL)
        return;
    struct otp_login *login = bk_arena_alloc_zero(&request->arena, sizeof *login);
    const struct auth_form_text texts[] = {
        {.name = "otpId", .value = &login->id, .bytes_max = ID_BYTES_MAX, .is_required = true},
        {.name = "password",
         .value = &login->code,
         .bytes_max = AUTH_OTP_CODE_BYTES_MAX,
         .is_required = true},
    };
    if (!auth_form_read(request, texts, BK_COUNT_OF(texts)))
        return;
    login->grant.request = request;
    login->attempt = (struct auth_attempt){.request = request,
                                           .collection = collection,
                                           .account = login->id,
                                           .method = "otp",
                                           .failures_max = GUESSES_MAX,
                                           .message = limited_message};
    if (auth_attempt_begin(&login->attempt))
        begin(login);
}
