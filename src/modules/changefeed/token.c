/*
 * A token is judged again while its request goes on: a stream has no end, and a poll may wait for a
 * minute.
 *
 *   a stream      before each page that it is sent, and with each heartbeat (15 s)
 *   a long poll   when it has waited, before its answer
 *
 * So nothing is sent behind a revocation, and nothing lasts longer than a heartbeat beyond it. A
 * look-up of a known token is one of a map, and what is revoked has left that map.
 */
#include "changefeed_private.h"

enum { ARENA_BYTES = 64 * 1024 };

struct bk_slice changefeed_token_keep(struct bk_request *request) {
    enum bk_actor_kind kind = request->actor.kind;
    if (kind == BK_ACTOR_GUEST || kind == BK_ACTOR_SYSTEM)
        return BK_SLICE_EMPTY;
    return bk_arena_copy(&request->arena, bk_request_token(request));
}

static bool may_read(const struct bk_request *request, const struct bk_actor *actor) {
    bool is_at_home = bk_slice_equal(actor->tenant, request->tenant->name);
    return (is_at_home || actor->is_operator) &&
           (bk_actor_is_superuser(actor) || bk_actor_has_scope(actor, BK_SLICE("events:read")));
}

bool changefeed_token_holds(const struct bk_request *request, struct bk_slice token) {
    const struct bk_module_context *context = request->module;
    struct bk_actor actor;
    struct bk_arena arena;
    struct bk_tenant *home;
    if (token.length == 0)
        return true;
    home = bk_tenant_hold_open(context->tenants, request->actor.tenant);
    if (home == NULL)
        return true; /* it cannot be told now, as below */
    bk_arena_init(&arena, ARENA_BYTES);
    enum bk_status status = bk_api_authenticate(request->api, home, token, &arena, &actor);
    /* Whatever else is wrong does not make the token worse. */
    bool holds = status == BK_OK ? may_read(request, &actor) : status != BK_UNAUTHORIZED;
    bk_arena_fini(&arena);
    bk_tenant_release(home);
    return holds;
}
