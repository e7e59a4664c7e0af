/*
 * Tokens without a password: the one that a token is exchanged for, which goes on with its session,
 * and a superuser's for another record, which has a session of its own. A token that may not be
 * renewed, like the one of an impersonation, comes back as it is.
 */
#include "auth.h"

/* --- renewing --------------------------------------------------------------------------------- */

const struct bk_collection *auth_own_collection(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct bk_schema *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_collection *asked =
        bk_schema_find(schema, bk_request_parameter(request, BK_SLICE("collection")));
    if (asked == NULL) {
        bk_answer_error(request, BK_NOT_FOUND, "Missing or invalid collection context.");
        return NULL;
    }
    if (request->actor.collection_id.length == 0) {
        bk_answer_error(request, BK_UNAUTHORIZED,
                        "The request requires valid record authorization token.");
        return NULL;
    }
    if (!bk_slice_equal(request->actor.tenant, request->tenant->name)) {
        bk_answer_error(request, BK_FORBIDDEN,
                        "The token belongs to another tenant than the request names.");
        return NULL;
    }
    const struct bk_collection *own = bk_schema_find(schema, request->actor.collection_id);
    if (own != NULL && own == asked)
        return own;
    struct bk_slice message =
        bk_arena_format(&request->arena, "The request requires auth record from %.*s collection.",
                        BK_SLICE_PRINT(own == NULL ? request->actor.collection_id : own->name));
    bk_answer_error(request, BK_FORBIDDEN, message.length == 0 ? NULL : message.data);
    return NULL;
}

void auth_refresh(struct bk_request *request) {
    struct auth_claims claims;
    const struct bk_collection *collection = auth_own_collection(request);
    if (collection == NULL)
        return;
    struct auth_grant *grant = bk_arena_alloc_zero(&request->arena, sizeof *grant);
    enum bk_status status = auth_credentials_read(&request->arena, request->tenant, collection,
                                                  request->actor.id, &grant->credentials);
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    auth_grant_init(grant, request, collection);
    grant->is_refreshable = true;
    grant->is_alone = true;
    grant->method = BK_SLICE("refresh");
    grant->session = request->actor.session;
    struct bk_slice token = bk_request_token(request);
    if (!auth_token_read(&request->arena, token, &claims) || !claims.is_refreshable)
        grant->token = token;
    auth_grant(grant);
}

/* --- impersonation ---------------------------------------------------------------------------- */

/* The seconds that the token is to live: what was asked for, or the collection's. False: the
 * request was answered. */
static bool read_duration(struct bk_request *request, int64_t *seconds) {
    const struct bk_json *json = bk_json_get(request->json, BK_SLICE("duration"));
    int64_t given = 0;
    if (json != NULL && json->type != BK_JSON_NULL && !bk_json_to_int64(json, &given)) {
        bk_answer_error(request, BK_INVALID, "An error occurred while loading the submitted data.");
        return false;
    }
    if (given < 0)
        bk_problems_add_params(&request->problems, BK_SLICE("duration"),
                               "validation_min_greater_equal_than_required",
                               "Must be no less than 0.", BK_SLICE("{\"threshold\":0}"));
    else if (given > AUTH_TOKEN_SECONDS_MAX)
        bk_problems_add_params(&request->problems, BK_SLICE("duration"),
                               "validation_max_less_equal_than_required",
                               "Must be no greater than 3155760000 seconds, a hundred years.",
                               BK_SLICE("{\"threshold\":3155760000}"));
    if (given > 0)
        *seconds = given;
    if (request->problems.count == 0)
        return true;
    bk_answer_problems(request, BK_INVALID,
                       "An error occurred while validating the submitted data.");
    return false;
}

void auth_impersonate(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL)
        return;
    struct auth_grant *grant = bk_arena_alloc_zero(&request->arena, sizeof *grant);
    enum bk_status status =
        auth_credentials_read(&request->arena, request->tenant, collection,
                              bk_request_parameter(request, BK_SLICE("id")), &grant->credentials);
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    int64_t seconds = auth_option_number(collection, "authToken", "duration");
    if (!read_duration(request, &seconds))
        return;
    auth_grant_init(grant, request, collection);
    grant->event_type = BK_SLICE("auth.impersonated");
    grant->method = BK_SLICE("impersonation");
    grant->origin = request->origin;
    grant->duration_s = seconds;
    grant->is_alone = true;
    auth_grant(grant);
}
