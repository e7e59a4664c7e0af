/*
 * What records of auth collections have besides: passwords that are typed twice, and an old one
 * that is asked for; an address and a mark of verification that their owner cannot simply change;
 * a token key that is renewed with them, so that what was signed with the old one ends.
 *
 * Who may manage a record is spared most of it: superusers, and who the manage rule holds for. That
 * is asked only where it makes a difference.
 */
#include "record_change.h"

#include "bakend/id.h"

enum { TOKEN_KEY_BYTES = 50 };

struct record_auth {
    struct bk_slice password, confirmation, old_password; /* as sent; empty: not */
    const struct bk_field *password_field, *email_field, *verified_field, *token_key_field;
    bool has_manager; /* an expression says who manages */
    struct bk_question manager;
    /* The comparison of the old password with the hash that the record had. */
    struct bk_field_work comparing;
    struct bk_value compared;
    struct bk_slice compared_hash;
    struct record_change *change;
    void (*compared_done)(struct record_change *change, enum bk_status status);
    bool is_old_right;
};

/* --- on the loop ------------------------------------------------------------------------------ */

enum bk_status collections_auth_make(struct record_change *change) {
    const struct bk_collection *collection = change->collection;
    struct record_auth *auth = bk_arena_alloc_zero(&change->request->arena, sizeof(*auth));
    if (change->request->arena.is_overflown)
        return bk_arena_status(&change->request->arena);
    auth->password_field = bk_collection_field(collection, BK_SLICE("password"));
    auth->email_field = bk_collection_field(collection, BK_SLICE("email"));
    auth->verified_field = bk_collection_field(collection, BK_SLICE("verified"));
    auth->token_key_field = bk_collection_field(collection, BK_SLICE("tokenKey"));
    change->auth = auth;
    return BK_OK;
}

/* As the password itself is read. */
static struct bk_slice read_secret(struct record_change *change, struct bk_slice key) {
    const struct bk_json *input = bk_json_get(change->body, key);
    const struct bk_field *field = change->auth->password_field;
    struct bk_value value;
    if (input == NULL || field == NULL)
        return BK_SLICE_EMPTY;
    field->type->normalise(field, input, &value, &change->request->arena);
    return value.text;
}

enum bk_status collections_auth_read(struct record_change *change, bool *hashes) {
    struct record_auth *auth = change->auth;
    auth->password = read_secret(change, BK_SLICE("password"));
    auth->confirmation = read_secret(change, BK_SLICE("passwordConfirm"));
    auth->old_password = read_secret(change, BK_SLICE("oldPassword"));
    *hashes = bk_slice_equal(auth->password, auth->confirmation);
    return bk_arena_status(&change->request->arena);
}

/* The hash of the record's password as it is; empty when there is none. */
static enum bk_status read_hash(struct record_change *change) {
    struct record_auth *auth = change->auth;
    struct bk_connection *connection = bk_store_read_now(change->request->tenant->database);
    struct bk_statement *statement;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status =
        bk_connection_statement(connection, &change->collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, change->id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        auth->compared_hash =
            bk_arena_copy(&change->request->arena,
                          bk_statement_text(statement, (int)auth->password_field->index));
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static void on_compared(struct bk_field_work *work, enum bk_status status) {
    struct record_auth *auth = bk_container_of(work, struct record_auth, comparing);
    auth->is_old_right = status == BK_OK;
    auth->compared_done(auth->change, status == BK_UNAUTHORIZED ? BK_OK : status);
}

enum bk_status collections_auth_begin(struct record_change *change,
                                      void (*done)(struct record_change *change,
                                                   enum bk_status status)) {
    struct record_auth *auth = change->auth;
    if (change->action == RECORD_CREATE || auth->old_password.length == 0 ||
        auth->password.length == 0 || bk_actor_is_superuser(&change->request->actor) ||
        auth->password_field == NULL || auth->password_field->type->compare == NULL)
        return BK_OK;
    enum bk_status status = read_hash(change);
    if (status != BK_OK || auth->compared_hash.length == 0)
        return status;
    auth->change = change;
    auth->compared_done = done;
    auth->compared = BK_VALUE_OF_TEXT(auth->old_password);
    auth->comparing = (struct bk_field_work){.done = on_compared,
                                             .value = &auth->compared,
                                             .arena = &change->request->arena,
                                             .problems = &change->begun_problems,
                                             .field = auth->password_field,
                                             .request = change->request,
                                             .account = change->id};
    return auth->password_field->type->compare(&auth->comparing, auth->compared_hash);
}

enum bk_status collections_auth_ask(struct record_change *change) {
    struct record_auth *auth = change->auth;
    const struct bk_actor *actor = &change->request->actor;
    struct bk_slice rule = change->collection->rules[BK_MAY_MANAGE];
    auth->has_manager = actor->kind == BK_ACTOR_RECORD && rule.length > 0;
    if (!auth->has_manager)
        return BK_OK;
    return bk_question_make(
        &auth->manager, &change->request->arena, &change->asker, change->collection, rule,
        change->action == RECORD_CREATE ? BK_QUESTION_OF_VALUES : BK_QUESTION_OF_STORED);
}

/* --- on the writer: who may ------------------------------------------------------------------- */

enum bk_status collections_auth_ask_values(struct record_change *change,
                                           const struct bk_question *question,
                                           struct bk_transaction *transaction) {
    const struct bk_field *verified = change->auth == NULL ? NULL : change->auth->verified_field;
    struct bk_value kept;
    if (verified != NULL) {
        kept = change->values[verified->index];
        verified->type->empty(verified, &change->values[verified->index]);
    }
    enum bk_status status =
        bk_question_ask_values(question, bk_transaction_connection(transaction), change->values);
    if (verified != NULL)
        change->values[verified->index] = kept;
    return status;
}

static enum bk_status ask_manager(struct record_change *change, struct bk_transaction *transaction,
                                  bool *is_manager) {
    const struct record_auth *auth = change->auth;
    *is_manager = bk_actor_is_superuser(&change->request->actor);
    if (*is_manager || !auth->has_manager)
        return BK_OK;
    enum bk_status status =
        change->action == RECORD_CREATE
            ? collections_auth_ask_values(change, &auth->manager, transaction)
            : bk_question_ask(&auth->manager, bk_transaction_connection(transaction), change->id);
    *is_manager = status == BK_OK;
    return status == BK_NOT_FOUND ? BK_OK : status;
}

/* --- on the writer: what only some may change ------------------------------------------------- */

static void add_problem(struct record_change *change, const char *field, const char *code,
                        const char *message) {
    bk_problems_add(&change->request->problems, bk_slice_from(field), code, message);
}

static void problem_required(struct record_change *change, const char *field) {
    add_problem(change, field, "validation_required", "Cannot be blank.");
}

static void problem_mismatch(struct record_change *change, const char *field) {
    add_problem(change, field, "validation_values_mismatch", "Values don't match.");
}

/* What only managers change: on a create who is verified, on an update the address too. */
static void check_kept(struct record_change *change, const struct bk_value *before) {
    const struct bk_field *email = change->auth->email_field;
    const struct bk_field *verified = change->auth->verified_field;
    struct bk_value was = BK_VALUE_OF_INT(0);
    if (before != NULL && email != NULL &&
        !bk_value_equal(&before[email->index], &change->values[email->index]))
        problem_mismatch(change, "email");
    if (verified == NULL)
        return;
    if (before != NULL)
        was = before[verified->index];
    if (!bk_value_equal(&was, &change->values[verified->index]))
        problem_mismatch(change, "verified");
}

/* What somebody in process gives a new record for its password; empty: nothing. */
static struct bk_slice given_hash(const struct record_change *change) {
    const struct bk_companion *companion = change->request->companion;
    return companion == NULL || change->action != RECORD_CREATE ? BK_SLICE_EMPTY
                                                                : companion->password_hash;
}

static void check_passwords(struct record_change *change) {
    const struct record_auth *auth = change->auth;
    bool is_create = change->action == RECORD_CREATE && given_hash(change).length == 0;
    bool has_password = auth->password.length > 0, has_old = auth->old_password.length > 0;
    bool has_confirmation = auth->confirmation.length > 0;
    if (!has_password && (is_create || has_confirmation || has_old))
        problem_required(change, "password");
    if (!has_confirmation && (is_create || has_password || has_old))
        problem_required(change, "passwordConfirm");
    else if (!bk_slice_equal(auth->password, auth->confirmation))
        problem_mismatch(change, "passwordConfirm");
}

/* Only who knows the old password sets a new one. It was compared on the loop, with the hash that
 * the record had then: with another one by now it does not count. */
static void check_old_password(struct record_change *change, const struct bk_value *before) {
    const struct record_auth *auth = change->auth;
    const struct bk_value *hash = &before[auth->password_field->index];
    if (auth->password.length == 0 && auth->confirmation.length == 0)
        return;
    if (auth->old_password.length == 0)
        problem_required(change, "oldPassword");
    else if (!auth->is_old_right || !bk_slice_equal(auth->compared_hash, hash->text))
        add_problem(change, "oldPassword", "validation_invalid_old_password",
                    "Missing or invalid old password.");
}

/* Whether an answer to "who manages" would change anything. */
static bool is_worth_asking(const struct record_change *change) {
    const struct record_auth *auth = change->auth;
    return change->action == RECORD_UPDATE ||
           (auth->verified_field != NULL && change->is_given[auth->verified_field->index]);
}

enum bk_status collections_auth_check(struct record_change *change,
                                      struct bk_transaction *transaction,
                                      const struct bk_value *before) {
    bool is_manager = false;
    enum bk_status status = BK_OK;
    if (is_worth_asking(change))
        status = ask_manager(change, transaction, &is_manager);
    if (status != BK_OK)
        return status;
    if (!is_manager)
        check_kept(change, before);
    check_passwords(change);
    if (!is_manager && before != NULL && change->auth->password_field != NULL)
        check_old_password(change, before);
    return change->request->problems.count > 0 ? BK_INVALID : BK_OK;
}

/* --- on the writer: what follows from the rest ------------------------------------------------ */

/* A new password or email address ends the sessions that were signed with the old token key. */
static void renew_token_key(struct record_change *change, const struct bk_value *before) {
    const struct record_auth *auth = change->auth;
    const struct bk_field *key = auth->token_key_field, *email = auth->email_field;
    if (key == NULL || !bk_value_equal(&before[key->index], &change->values[key->index]))
        return;
    bool has_new_email =
        email != NULL && !bk_value_equal(&before[email->index], &change->values[email->index]);
    if (auth->password.length == 0 && !has_new_email)
        return;
    char *text = bk_arena_alloc(&change->request->arena, TOKEN_KEY_BYTES);
    bk_random_text(text, TOKEN_KEY_BYTES,
                   BK_SLICE("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"));
    change->values[key->index] = BK_VALUE_OF_TEXT(bk_slice_make(text, TOKEN_KEY_BYTES));
}

/* Somebody in process knows whose address it is. */
static bool is_verified_by_caller(const struct record_change *change) {
    const struct bk_companion *companion = change->request->companion;
    const struct bk_field *email = change->auth->email_field;
    return companion != NULL && companion->verifies && change->action == RECORD_CREATE &&
           email != NULL && bk_slice_equal(change->values[email->index].text, companion->email);
}

void collections_auth_fill(struct record_change *change, const struct bk_value *before) {
    const struct bk_field *verified = change->auth->verified_field;
    const struct bk_field *password = change->auth->password_field;
    if (password != NULL && given_hash(change).length > 0)
        change->values[password->index] = BK_VALUE_OF_TEXT(given_hash(change));
    if (verified != NULL &&
        (bk_slice_is(change->collection->name, "_superusers") || is_verified_by_caller(change)))
        change->values[verified->index] = BK_VALUE_OF_INT(1);
    if (before != NULL)
        renew_token_key(change, before);
}

enum bk_status collections_auth_check_id(struct record_change *change,
                                         struct bk_transaction *transaction) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    const struct bk_field *id = change->collection->id_field;
    size_t count = bk_schema_count(change->schema);
    for (size_t i = 0; i < count; i++) {
        const struct bk_collection *other = bk_schema_at(change->schema, i);
        struct bk_statement *statement;
        if (other->type != BK_COLLECTION_AUTH || other == change->collection)
            continue;
        enum bk_status status =
            bk_connection_statement(connection, &other->exists_by_id, &statement);
        if (status != BK_OK)
            return status;
        bk_statement_bind(statement, 1, &change->values[id->index]);
        status = bk_statement_step(statement);
        bk_statement_reset(statement);
        if (status != BK_OK && status != BK_END)
            return status;
        if (status == BK_END)
            continue;
        add_problem(change, "id", "validation_invalid_auth_id",
                    "Invalid or duplicated auth record id.");
        return BK_INVALID;
    }
    return BK_OK;
}
