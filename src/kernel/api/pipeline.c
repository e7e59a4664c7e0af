/*
 * The way of a request to its handler.
 *
 *   begin      CORS, route, body limit            (head read)
 *   dispatch   tenant → who asks → guards → body.c  (body read)
 *
 * Which tenant: a token says to which tenant it belongs; the request may name one (X-Bakend-Tenant,
 * or the subdomain under tenant_domain). The token is checked in its own tenant first. If another
 * tenant is named, only an operator goes on to that one; anybody else is refused, so that a token
 * never opens a door in a tenant that did not issue it. A token that is no good is a guest, as in
 * the contract, and so is one whose tenant does not exist. An API key that is no good is refused: a
 * program would take what guests see for all there is.
 *
 * A tenant that is not open is opened first; the request waits in request->hold. In-process calls
 * bring their actor and skip the tokens, and the control socket is the system.
 */
#include "api_private.h"

#include "bakend/clock.h"

static const struct bk_slice default_tenant = BK_SLICE_INIT("default");

/* --- begin ------------------------------------------------------------------------------------ */

static bool finds_by_fallback(struct bk_api *api, struct bk_request *request) {
    BK_LIST_FOR_EACH(link, &api->fallbacks) {
        struct bk_fallback *fallback = bk_container_of(link, struct bk_fallback, link);
        struct bk_slice path = request->path;
        const struct bk_route *route;
        request->module = fallback->module;
        route = fallback->find(fallback, request);
        if (route != NULL) {
            request->route = route;
            return true;
        }
        if (path.data != request->path.data || path.length != request->path.length)
            return api_router_find(&api->router, request) == BK_OK;
    }
    request->module = NULL;
    return false;
}

static void refuse_method(struct bk_request *request) {
    struct bk_slice message = bk_arena_format(
        &request->arena, "The requested resource wasn't found: this path has no %s.",
        bk_method_name(request->method));
    bk_answer_error(request, BK_NOT_FOUND, message.data);
}

static bool finds_route(struct bk_api *api, struct bk_request *request) {
    enum bk_status status = api_router_find(&api->router, request);
    if (status == BK_INVALID) {
        bk_answer_error(request, BK_INVALID, "The path must be percent-encoded UTF-8.");
        return false;
    }
    /* A path that routes have is nobody's short form, whatever the method. */
    if (status != BK_OK && api_router_has_path(&api->router, request)) {
        refuse_method(request);
        return false;
    }
    if (status != BK_OK && !finds_by_fallback(api, request)) {
        bk_answer_error(request, BK_NOT_FOUND, NULL);
        return false;
    }
    return true;
}

static uint32_t count_parameters(struct bk_slice query) {
    uint32_t count = query.length > 0 ? 1 : 0;
    for (size_t i = 0; i < query.length; i++)
        count += query.data[i] == '&';
    return count;
}

/* Unpacked, a small body can be of any size: none is unpacked. */
static bool is_packed(const struct bk_request *request) {
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct bk_header *header = &request->headers[i];
        if (bk_slice_is(header->name, "content-encoding") && header->value.length > 0 &&
            !bk_slice_equal_ignore_case(header->value, BK_SLICE("identity")))
            return true;
    }
    return false;
}

static bool refuse_packed(struct bk_request *request) {
    bk_answer_header(request, "Accept-Encoding", BK_SLICE("identity"));
    bk_answer_error(request, BK_UNSUPPORTED_TYPE,
                    "Content-Encoding is not supported: send the body as it is.");
    return false;
}

bool bk_api_begin(struct bk_api *api, struct bk_request *request, size_t *body_max_bytes) {
    BK_ASSERT(request->step == API_STEP_FRESH && request->responder != NULL);
    request->step = API_STEP_BEGUN;
    /* It has one for refusals since it was set up, maybe long ago; ids are to follow the order. */
    api_request_make_id(request);
    api->figures.in_flight++;
    if (request->started_ns == 0)
        request->started_ns = bk_clock_monotonic_ns();
    api_cors_write(request);
    if (request->method == BK_OPTIONS) {
        api_answer_preflight(request);
        return false;
    }
    if (count_parameters(request->query) > BK_QUERY_PARAMETERS_MAX) {
        bk_answer_error(request, BK_INVALID, "The query has more than 100 parameters.");
        return false;
    }
    if (!finds_route(api, request))
        return false;
    if (is_packed(request))
        return refuse_packed(request);
    *body_max_bytes = request->route->body_max_bytes;
    return true;
}

/* --- guards ----------------------------------------------------------------------------------- */

static bool has_access(const struct bk_request *request) {
    const struct bk_actor *actor = &request->actor;
    const struct bk_route *route = request->route;
    bool has_scope = route->scope != NULL && actor->kind == BK_ACTOR_KEY &&
                     bk_actor_has_scope(actor, bk_slice_from(route->scope));
    switch (route->access) {
    case BK_ACCESS_PUBLIC:
        return true;
    case BK_ACCESS_ACTOR:
        /* A key is good for what its scopes name, and for nothing else. */
        return actor->kind != BK_ACTOR_GUEST && (actor->kind != BK_ACTOR_KEY || has_scope);
    case BK_ACCESS_SUPERUSER:
        return has_scope || bk_actor_is_superuser(actor);
    case BK_ACCESS_OPERATOR:
        /* What is everybody's is not opened by a key that a tenant made for itself. */
        return actor->is_operator || (has_scope && bk_slice_equal(actor->tenant, default_tenant));
    }
    return false;
}

enum bk_status bk_api_ask_guards(struct bk_api *api, const struct bk_tenant *tenant,
                                 const struct bk_tenant *home, const struct bk_actor *actor,
                                 struct bk_slice remote_address) {
    BK_LIST_FOR_EACH(link, &api->guards) {
        struct bk_guard *guard = bk_container_of(link, struct bk_guard, link);
        enum bk_status status = BK_OK;
        if (guard->ask_actor != NULL)
            status = guard->ask_actor(guard, tenant, actor, remote_address);
        if (status == BK_OK && guard->ask_actor != NULL && home != NULL && home != tenant)
            status = guard->ask_actor(guard, home, actor, remote_address);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

enum bk_status bk_request_ask_guards(struct bk_request *request) {
    if (request->is_control || api_is_call(request))
        return BK_OK;
    enum bk_status may_come =
        bk_api_ask_guards(request->api, request->tenant, request->actor_tenant, &request->actor,
                          request->remote_address);
    if (may_come != BK_OK)
        return may_come;
    BK_LIST_FOR_EACH(link, &request->api->guards) {
        struct bk_guard *guard = bk_container_of(link, struct bk_guard, link);
        enum bk_status status = guard->ask(guard, request);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

static const char *stranger_of(const struct bk_api *api) {
    BK_LIST_FOR_EACH(link, &api->guards) {
        const struct bk_guard *guard = bk_container_of(link, struct bk_guard, link);
        if (guard->stranger != NULL)
            return guard->stranger;
    }
    return NULL;
}

/* Which scope a key lacks, so that nobody has to look for it. */
static void refuse_key(struct bk_request *request) {
    const char *scope = request->route->scope;
    struct bk_slice message =
        scope == NULL ? BK_SLICE("No scope opens this to an API key: it is for superusers.")
                      : bk_arena_format(&request->arena, "This key needs the scope %s.", scope);
    bk_answer_error(request, BK_FORBIDDEN, message.data);
}

static bool passes_guards(struct bk_request *request) {
    enum bk_status status = bk_request_ask_guards(request);
    if (status != BK_OK) {
        bk_answer_error(request, status, status == BK_FORBIDDEN ? stranger_of(request->api) : NULL);
        return false;
    }
    if (has_access(request))
        return true;
    if (request->actor.kind == BK_ACTOR_GUEST)
        bk_answer_error(request, BK_UNAUTHORIZED,
                        "The request requires valid record authorization token.");
    else if (request->actor.kind == BK_ACTOR_KEY)
        refuse_key(request);
    else
        bk_answer_error(request, BK_FORBIDDEN,
                        "The authorized record is not allowed to perform this action.");
    return false;
}

/* A body of 200 KB can be a tree of many megabytes, held until its write is done. The way in over
 * the control socket stays open for whoever has to put things right. */
static bool has_memory(struct bk_request *request) {
    struct bk_api *api = request->api;
    if (request->body.length == 0 || request->is_control ||
        bk_arena_total(&api->figures.memory_bytes) <= api->options.requests_memory_max)
        return true;
    api->figures.overloads++;
    bk_answer_error(request, BK_BUSY, "The server has too many requests in memory, try again.");
    return false;
}

/* --- tenant and actor ------------------------------------------------------------------------- */

static void advance(struct bk_request *request);

/* The subdomain of tenant_domain that the host names, without its port; else empty. */
static struct bk_slice tenant_of_host(const struct bk_request *request) {
    struct bk_slice domain = bk_slice_from(request->api->options.tenant_domain);
    struct bk_slice host = request->host, tail;
    if (domain.length == 0)
        return BK_SLICE_EMPTY;
    host.length = bk_slice_find(host, ':');
    if (host.length <= domain.length + 1)
        return BK_SLICE_EMPTY;
    tail = bk_slice_make(host.data + host.length - domain.length, domain.length);
    host.length -= domain.length + 1;
    if (host.data[host.length] != '.' || !bk_slice_equal_ignore_case(tail, domain))
        return BK_SLICE_EMPTY;
    return host;
}

struct bk_slice bk_request_named_tenant(const struct bk_request *request) {
    struct bk_slice name = bk_request_header(request, BK_SLICE("x-bakend-tenant"));
    return name.length > 0 ? name : tenant_of_host(request);
}

struct bk_slice bk_request_token(const struct bk_request *request) {
    static const struct bk_slice bearer = BK_SLICE_INIT("Bearer ");
    struct bk_slice token = bk_request_header(request, BK_SLICE("authorization"));
    if (token.length > bearer.length &&
        bk_slice_equal_ignore_case(bk_slice_make(token.data, bearer.length), bearer))
        token = bk_slice_make(token.data + bearer.length, token.length - bearer.length);
    return bk_slice_trim(token);
}

static void refuse_tenant(struct bk_request *request, struct bk_slice name, enum bk_status status) {
    struct bk_slice message;
    if (status == BK_CORRUPT) {
        message = bk_arena_format(&request->arena,
                                  "The database of the tenant \"%.*s\" is damaged: an operator "
                                  "finds more in the server's log and with `bakend doctor`.",
                                  BK_SLICE_PRINT(name.length > 0 ? name : default_tenant));
        bk_answer_refusal(request, bk_status_http(BK_BUSY), message.data);
        return;
    }
    if (status != BK_NOT_FOUND) {
        bk_answer_error(request, status, NULL);
        return;
    }
    if (name.length > BK_TENANT_NAME_BYTES_MAX || !bk_slice_is_utf8(name))
        name = BK_SLICE("(not a tenant's name)");
    message =
        bk_arena_format(&request->arena, "There is no tenant \"%.*s\".", BK_SLICE_PRINT(name));
    bk_answer_error(request, BK_NOT_FOUND, message.data);
}

static void on_tenant_held(struct bk_tenant_hold *hold, enum bk_status status) {
    struct bk_request *request = bk_container_of(hold, struct bk_request, hold);
    if (request->step == API_STEP_ACTOR_TENANT && status == BK_OK)
        request->actor_tenant = hold->tenant;
    else if (status == BK_OK)
        request->tenant = hold->tenant;
    else if (request->step == API_STEP_TENANT || status != BK_NOT_FOUND) {
        refuse_tenant(request, bk_request_named_tenant(request), status);
        return;
    }
    advance(request);
}

/* Goes on to step with the tenant in *slot, now or when it is open. */
static void hold_tenant(struct bk_request *request, enum api_step step, struct bk_slice name,
                        struct bk_tenant **slot) {
    struct bk_tenants *tenants = request->api->options.tenants;
    request->step = (uint8_t)step;
    *slot = bk_tenant_name_is_valid(name) ? bk_tenant_hold_open(tenants, name) : NULL;
    if (*slot != NULL) {
        advance(request);
    } else if (bk_tenant_name_is_valid(name)) {
        request->hold.done = on_tenant_held;
        bk_tenant_hold(tenants, name, &request->hold);
    } else if (step == API_STEP_TENANT) {
        refuse_tenant(request, name, BK_NOT_FOUND);
    } else {
        advance(request);
    }
}

static void hold_named_tenant(struct bk_request *request) {
    struct bk_slice name = bk_request_named_tenant(request);
    hold_tenant(request, API_STEP_TENANT, name.length > 0 ? name : default_tenant,
                &request->tenant);
}

static bool refuses_key(struct bk_request *request, struct bk_slice token) {
    if (!bk_slice_starts_with(token, BK_SLICE("bk_")))
        return false;
    bk_answer_error(request, BK_UNAUTHORIZED,
                    "The API key is not valid, or no longer: it expired, was rotated or deleted.");
    return true;
}

/* The token's tenant is open (or there is none): learns who asks and goes on to the tenant asked
 * for. */
static void authenticate(struct bk_request *request) {
    const struct bk_authenticator *authenticator = request->api->authenticator;
    struct bk_slice token = bk_request_token(request), named = bk_request_named_tenant(request);
    enum bk_status status;
    if (request->actor_tenant == NULL) {
        if (!refuses_key(request, token))
            hold_named_tenant(request);
        return;
    }
    status =
        authenticator->authenticate(authenticator->user, request->actor_tenant, token, request);
    if (status == BK_UNAUTHORIZED && refuses_key(request, token))
        return;
    if (status != BK_OK)
        request->actor = bk_actor_guest;
    /* Whoever cannot be told now is not a guest: what a guest would get is not the answer. */
    if (status != BK_OK && status != BK_UNAUTHORIZED) {
        bk_answer_error(request, status, NULL);
        return;
    }
    if (named.length == 0 || bk_slice_equal(named, request->actor_tenant->name)) {
        bk_tenant_ref(request->actor_tenant);
        request->tenant = request->actor_tenant;
        api_pipeline_run(request);
    } else if (request->actor.is_operator) {
        hold_named_tenant(request);
    } else {
        bk_answer_error(request, BK_UNAUTHORIZED,
                        "The token belongs to another tenant than the request names.");
    }
}

static void find_actor(struct bk_request *request) {
    const struct bk_authenticator *authenticator = request->api->authenticator;
    struct bk_slice token, tenant;
    if (request->is_control)
        request->actor = bk_actor_system;
    token = bk_request_token(request);
    if (request->is_control || api_is_call(request) || authenticator == NULL || token.length == 0) {
        hold_named_tenant(request);
        return;
    }
    tenant = authenticator->tenant_of(authenticator->user, token);
    if (tenant.length == 0)
        tenant = bk_request_named_tenant(request);
    hold_tenant(request, API_STEP_ACTOR_TENANT, tenant.length > 0 ? tenant : default_tenant,
                &request->actor_tenant);
}

static void advance(struct bk_request *request) {
    if (request->step == API_STEP_BEGUN)
        find_actor(request);
    else if (request->step == API_STEP_ACTOR_TENANT)
        authenticate(request);
    else if (request->step == API_STEP_TENANT)
        api_pipeline_run(request);
    else
        BK_UNREACHABLE();
}

/* --- without a request ------------------------------------------------------------------------ */

struct bk_slice bk_api_token_tenant(struct bk_api *api, struct bk_slice token) {
    const struct bk_authenticator *authenticator = api->authenticator;
    if (authenticator == NULL || token.length == 0)
        return BK_SLICE_EMPTY;
    return authenticator->tenant_of(authenticator->user, token);
}

enum bk_status bk_api_authenticate(struct bk_api *api, struct bk_tenant *tenant,
                                   struct bk_slice token, struct bk_arena *arena,
                                   struct bk_actor *actor) {
    const struct bk_authenticator *authenticator = api->authenticator;
    struct bk_request request;
    if (authenticator == NULL || token.length == 0)
        return BK_UNAUTHORIZED;
    bk_request_init(&request, api);
    enum bk_status status =
        authenticator->authenticate(authenticator->user, tenant, token, &request);
    if (status == BK_OK && request.arena.is_overflown)
        status = BK_TOO_LARGE;
    if (status == BK_OK) {
        *actor = request.actor;
        actor->label = bk_arena_copy(arena, request.actor.label);
        actor->id = bk_arena_copy(arena, request.actor.id);
        actor->collection_id = bk_arena_copy(arena, request.actor.collection_id);
        actor->scopes = bk_arena_copy(arena, request.actor.scopes);
        actor->tenant = bk_arena_copy(arena, request.actor.tenant);
        actor->session = bk_arena_copy(arena, request.actor.session);
    }
    bk_request_fini(&request);
    return status;
}

/* --- the end of the way ----------------------------------------------------------------------- */

/* What is behind the writes of a request. One in process has been told by who calls. */
static void set_origin(struct bk_request *request) {
    request->origin.actor = request->actor.label;
    if (api_is_call(request) || request->method == BK_GET || request->method == BK_HEAD)
        return;
    request->origin.remote_address = request->remote_address;
    request->origin.user_agent = bk_request_header(request, BK_SLICE("user-agent"));
}

void api_pipeline_run(struct bk_request *request) {
    request->step = API_STEP_HANDLING;
    set_origin(request);
    if (passes_guards(request) && has_memory(request) && api_body_read(request))
        request->route->handle(request);
}

void bk_api_dispatch(struct bk_request *request) {
    BK_ASSERT(request->step == API_STEP_BEGUN && request->route != NULL);
    if (request->api->options.tenants != NULL) {
        advance(request);
        return;
    }
    if (request->is_control)
        request->actor = bk_actor_system;
    api_pipeline_run(request);
}

void bk_api_abort(struct bk_request *request) {
    if (request->is_aborted)
        return;
    request->is_aborted = true;
    if (request->step == API_STEP_BEGUN)
        bk_answer_error(request, BK_CANCELLED, NULL);
    else if (request->on_abort != NULL)
        request->on_abort(request);
}
