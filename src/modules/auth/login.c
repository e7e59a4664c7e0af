/*
 * Signing in by password, and a superuser's token for another record.
 *
 *   read the record by its identity → verify in the pool (46 ms, also for one that is not there, so
 *   that the time says nothing) → write auth.login → answer the token
 */
#include "auth.h"
#include "bakend/crypto.h"

enum { IDENTITY_BYTES_MAX = 255 };

struct login {
    struct bk_job job;
    struct auth_grant grant;
    struct bk_request *request;
    struct bk_schema *schema; /* pinned while the password is verified */
    struct bk_slice password;
    bool is_found;
    enum bk_status status;
};

static struct auth_state *state_of(const struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    return context->state;
}

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
    struct auth_state *state = state_of(login->request);
    if (login->status == BK_OK) {
        state->logins++;
        auth_grant(&login->grant);
    } else {
        state->logins_failed++;
        bk_answer_error(login->request, BK_INVALID, "Failed to authenticate.");
    }
    bk_schema_unref(login->schema);
}

static struct bk_slice required_text(struct bk_request *request, struct bk_slice name) {
    struct bk_slice text = bk_json_get_string(request->json, name);
    if (text.length == 0)
        bk_problems_add(&request->problems, name, "validation_required", "Cannot be blank.");
    else if (text.length > IDENTITY_BYTES_MAX)
        bk_problems_add_params(&request->problems, name, "validation_length_out_of_range",
                               "The length must be between 1 and 255.",
                               BK_SLICE("{\"max\":255,\"min\":1}"));
    return text;
}

void auth_with_password(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL)
        return;
    struct bk_slice identity = required_text(request, BK_SLICE("identity"));
    struct bk_slice password = required_text(request, BK_SLICE("password"));
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID,
                           "An error occurred while validating the submitted data.");
        return;
    }
    struct login *login = bk_arena_alloc_zero(&request->arena, sizeof(*login));
    login->request = request;
    login->password = password;
    login->grant.request = request;
    login->grant.event_type = BK_SLICE("auth.login");
    login->grant.method = BK_SLICE("password");
    login->grant.duration_s = AUTH_SUPERUSER_SECONDS;
    login->grant.is_refreshable = true;
    login->job.run = on_verify;
    login->job.done = on_verified;
    enum bk_status status =
        auth_credentials_read(request, request->tenant, collection, BK_SLICE("email"), identity,
                              &login->grant.credentials);
    login->is_found = status == BK_OK;
    if (status == BK_OK || status == BK_NOT_FOUND)
        status = bk_pool_submit(state_of(request)->pool, &login->job);
    if (status == BK_OK)
        login->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    else
        bk_answer_error(request, status == BK_BUSY ? BK_TOO_MANY : status, NULL);
}

/* The seconds that the token is to live: what was asked for, or a day. */
static int64_t read_duration(struct bk_request *request) {
    const struct bk_json *json = bk_json_get(request->json, BK_SLICE("duration"));
    int64_t seconds = 0;
    if (json != NULL && json->type != BK_JSON_NULL &&
        (!bk_json_to_int64(json, &seconds) || seconds < 0 || seconds > AUTH_TOKEN_SECONDS_MAX))
        bk_problems_add(&request->problems, BK_SLICE("duration"),
                        "validation_min_greater_equal_than_required",
                        "Must be a number of seconds from 0 (the default) to 94670856.");
    return seconds == 0 ? AUTH_SUPERUSER_SECONDS : seconds;
}

void auth_impersonate(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL)
        return;
    struct auth_grant *grant = bk_arena_alloc_zero(&request->arena, sizeof(*grant));
    grant->request = request;
    grant->event_type = BK_SLICE("auth.impersonated");
    grant->method = BK_SLICE("impersonation");
    grant->origin = request->origin;
    grant->duration_s = read_duration(request);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID,
                           "An error occurred while validating the submitted data.");
        return;
    }
    enum bk_status status =
        auth_credentials_read(request, request->tenant, collection, BK_SLICE("id"),
                              bk_request_parameter(request, BK_SLICE("id")), &grant->credentials);
    if (status == BK_OK)
        auth_grant(grant);
    else
        bk_answer_error(request, status, NULL);
}
