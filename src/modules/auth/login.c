/*
 * Signing in by password.
 *
 *   a reader finds the record by its identity → the pool verifies (46 ms, also for one that is not
 *   there, so that the time says nothing) → the grant: authRule, auth.login, token
 */
#include "auth.h"
#include "bakend/crypto.h"

enum { FORM_BYTES_MAX = 255 };

struct login {
    struct bk_read read;
    struct bk_job job;
    struct auth_grant grant;
    struct auth_identity identity;
    struct auth_attempt attempt;
    struct bk_slice password;
    bool is_found, is_wrong;
    enum bk_status status;
};

static struct auth_state *state_of(const struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    return context->state;
}

/* No grant is made: the request is answered and what is pinned given back. */
static void refuse(struct login *login, enum bk_status status, const char *message) {
    auth_attempt_end(&login->attempt, login->is_wrong ? AUTH_ATTEMPT_FAILED : AUTH_ATTEMPT_UNJUDGED,
                     login->is_found ? login->grant.credentials.id : BK_SLICE_EMPTY);
    bk_schema_unref(login->grant.schema);
    bk_answer_error(login->grant.request, status, message);
}

/* --- the password ----------------------------------------------------------------------------- */

static void on_verify(struct bk_job *job, uint32_t thread_index) {
    struct login *login = bk_container_of(job, struct login, job);
    (void)thread_index;
    login->status = bk_password_verify(
        login->is_found ? login->grant.credentials.password_hash : BK_SLICE_EMPTY, login->password);
    if (!login->is_found)
        login->status = BK_UNAUTHORIZED;
}

static void on_verified(struct bk_job *job) {
    struct login *login = bk_container_of(job, struct login, job);
    struct auth_state *state = state_of(login->grant.request);
    if (login->status == BK_OK) {
        state->logins++;
        auth_attempt_end(&login->attempt, AUTH_ATTEMPT_PASSED, login->grant.credentials.id);
        auth_grant(&login->grant);
    } else {
        state->logins_failed++;
        login->is_wrong = login->status == BK_UNAUTHORIZED;
        refuse(login, BK_INVALID, "Failed to authenticate.");
    }
}

/* --- the record ------------------------------------------------------------------------------- */

static enum bk_status on_find(struct bk_connection *connection, struct bk_read *read) {
    struct login *login = bk_container_of(read, struct login, read);
    return auth_identity_find(&login->identity, connection, &login->grant.request->arena,
                              &login->grant.credentials);
}

static void on_found(struct bk_read *read, enum bk_status status) {
    struct login *login = bk_container_of(read, struct login, read);
    login->is_found = status == BK_OK;
    if (status == BK_OK || status == BK_NOT_FOUND) {
        login->job.run = on_verify;
        login->job.done = on_verified;
        status = bk_pool_submit(state_of(login->grant.request)->pool, &login->job);
    }
    if (status != BK_OK)
        refuse(login, status == BK_BUSY ? BK_TOO_MANY : status, NULL);
}

/* --- the form --------------------------------------------------------------------------------- */

/* JSON's own numbers, lists and objects are no texts; of a form everything is one. */
static bool has_texts(const struct bk_json *json) {
    static const char *const names[] = {"identity", "password", "identityField"};
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        const struct bk_json *member = bk_json_get(json, bk_slice_from(names[i]));
        if (member != NULL && member->type != BK_JSON_NULL && member->type != BK_JSON_STRING &&
            member->string.data == NULL)
            return false;
    }
    return true;
}

static struct bk_slice read_text(struct bk_request *request, const char *name, bool is_required) {
    struct bk_slice path = bk_slice_from(name);
    struct bk_slice text = bk_json_get_string(request->json, path);
    if (text.length == 0 && is_required)
        bk_problems_add(&request->problems, path, "validation_required", "Cannot be blank.");
    else if (text.length > FORM_BYTES_MAX)
        bk_problems_add_params(&request->problems, path, "validation_length_out_of_range",
                               "The length must be between 1 and 255.",
                               BK_SLICE("{\"max\":255,\"min\":1}"));
    return text;
}

static void check_field(struct bk_request *request, const struct bk_collection *collection,
                        struct bk_slice field) {
    const struct bk_json *fields = auth_option(collection, "passwordAuth", "identityFields");
    for (const struct bk_json *item = fields->child; item != NULL; item = item->next)
        if (bk_slice_equal(item->string, field))
            return;
    if (field.length > 0)
        bk_problems_add(&request->problems, BK_SLICE("identityField"), "validation_in_invalid",
                        "Must be a valid value.");
}

/* False: the request was answered. */
static bool read_form(struct bk_request *request, const struct bk_collection *collection,
                      struct login *login) {
    if (!has_texts(request->json)) {
        bk_answer_error(request, BK_INVALID, "An error occurred while loading the submitted data.");
        return false;
    }
    login->identity.collection = collection;
    login->identity.value = read_text(request, "identity", true);
    login->identity.field = read_text(request, "identityField", false);
    login->password = read_text(request, "password", true);
    check_field(request, collection, login->identity.field);
    if (request->problems.count == 0)
        return true;
    bk_answer_problems(request, BK_INVALID,
                       "An error occurred while validating the submitted data.");
    return false;
}

void auth_with_password(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL)
        return;
    if (!auth_option_is_on(collection, "passwordAuth", "enabled")) {
        bk_answer_error(request, BK_FORBIDDEN,
                        "The collection is not configured to allow password authentication.");
        return;
    }
    struct login *login = bk_arena_alloc_zero(&request->arena, sizeof *login);
    if (!read_form(request, collection, login))
        return;
    login->attempt = (struct auth_attempt){.request = request,
                                           .collection = collection,
                                           .account = login->identity.value,
                                           .method = "password"};
    if (!auth_attempt_begin(&login->attempt))
        return;
    auth_grant_init(&login->grant, request, collection);
    login->grant.event_type = BK_SLICE("auth.login");
    login->grant.method = BK_SLICE("password");
    login->grant.context = BK_SLICE("password");
    login->grant.is_refreshable = true;
    login->read.run = on_find;
    login->read.done = on_found;
    enum bk_status status = bk_store_read(request->tenant->database, &login->read);
    if (status != BK_OK)
        refuse(login, status, NULL);
}
