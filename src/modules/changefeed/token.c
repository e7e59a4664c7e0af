/*
 * A token is judged again while its request goes on: a stream has no end, and a poll may wait for a
 * minute.
 *
 *   over, as the authenticator says (a session ended, a key was deleted)   at once
 *   expired                                                                within a second
 *   a stream      before each page that it is sent, and with each heartbeat (15 s)
 *   a long poll   when it has waited, before its answer
 *
 * So nothing is sent behind a revocation. The last two are for what nobody tells, such as scopes
 * that a key has no longer; a look-up of a known token is one of a map, and what is revoked has
 * left that map.
 */
#include "changefeed_private.h"

#include "bakend/clock.h"

enum { ARENA_BYTES = 64 * 1024 };

/* --- judging ---------------------------------------------------------------------------------- */

static bool may_read(const struct bk_request *request, const struct bk_actor *actor) {
    bool is_at_home = bk_slice_equal(actor->tenant, request->tenant->name);
    return (is_at_home || actor->is_operator) &&
           (bk_actor_is_superuser(actor) || bk_actor_has_scope(actor, BK_SLICE("events:read")));
}

bool changefeed_guard_holds(const struct changefeed_guard *guard) {
    struct bk_request *request = guard->request;
    struct bk_actor actor;
    struct bk_arena arena;
    struct bk_tenant *home;
    if (guard->token.length == 0 || guard->is_over)
        return !guard->is_over;
    const struct bk_module_context *context = request->module;
    home = bk_tenant_hold_open(context->tenants, request->actor.tenant);
    if (home == NULL)
        return true; /* it cannot be told now, as below */
    bk_arena_init(&arena, ARENA_BYTES);
    enum bk_status status = bk_api_authenticate(request->api, home, guard->token, &arena, &actor);
    /* Whatever else is wrong does not make the token worse. */
    bool holds = status == BK_OK ? may_read(request, &actor) : status != BK_UNAUTHORIZED;
    bk_arena_fini(&arena);
    bk_tenant_release(home);
    return holds;
}

/* --- watching --------------------------------------------------------------------------------- */

static void expect(struct changefeed_state *state, const struct changefeed_guard *guard) {
    int64_t expires_s = guard->request->actor.expires_s;
    if (expires_s != 0 && (state->guards_expire_s == 0 || expires_s < state->guards_expire_s))
        state->guards_expire_s = expires_s;
}

void changefeed_guard_begin(struct changefeed_guard *guard, struct bk_request *request,
                            void (*on_over)(struct changefeed_guard *guard)) {
    struct changefeed_state *state = changefeed_state_of(request);
    enum bk_actor_kind kind = request->actor.kind;
    *guard = (struct changefeed_guard){.request = request, .on_over = on_over};
    bk_list_init(&guard->link);
    if (kind == BK_ACTOR_GUEST || kind == BK_ACTOR_SYSTEM)
        return;
    guard->token = bk_arena_copy(&request->arena, bk_request_token(request));
    bk_list_push(&state->guards, &guard->link);
    expect(state, guard);
}

void changefeed_guard_end(struct changefeed_guard *guard) {
    if (guard->on_over != NULL)
        bk_list_remove(&guard->link);
    guard->on_over = NULL;
}

static struct changefeed_guard *guard_of(struct bk_list *node) {
    return bk_container_of(node, struct changefeed_guard, link);
}

static void set_due(struct changefeed_guard *guard, struct bk_list *due) {
    bk_list_remove(&guard->link);
    bk_list_push(due, &guard->link);
}

static void end_due(struct bk_list *due) {
    struct bk_list *node;
    while ((node = bk_list_pop(due)) != NULL) {
        guard_of(node)->is_over = true;
        guard_of(node)->on_over(guard_of(node));
    }
}

static void on_revoked(struct bk_revocation_hook *hook, const struct bk_revocation *revocation) {
    struct changefeed_state *state = bk_container_of(hook, struct changefeed_state, revocation);
    struct bk_list due;
    bk_list_init(&due);
    BK_LIST_FOR_EACH(node, &state->guards) {
        if (bk_revocation_means(revocation, &guard_of(node)->request->actor))
            set_due(guard_of(node), &due);
    }
    end_due(&due);
}

void changefeed_guards_tick(struct changefeed_state *state) {
    int64_t now_s = bk_clock_wall_ms() / 1000;
    struct bk_list due;
    if (state->guards_expire_s == 0 || now_s < state->guards_expire_s)
        return;
    state->guards_expire_s = 0;
    bk_list_init(&due);
    BK_LIST_FOR_EACH(node, &state->guards) {
        int64_t expires_s = guard_of(node)->request->actor.expires_s;
        if (expires_s != 0 && expires_s <= now_s)
            set_due(guard_of(node), &due);
        else
            expect(state, guard_of(node));
    }
    end_due(&due);
}

void changefeed_guards_init(struct changefeed_state *state) {
    bk_list_init(&state->guards);
    state->revocation.on_revoked = on_revoked;
    bk_api_add_revocation_hook(state->context->api, &state->revocation);
}
