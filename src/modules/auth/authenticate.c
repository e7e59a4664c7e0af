/* Who asks: from a token to an actor. On the loop, a look-up for a known token; for a new one its
 * record's row, what it is signed with, and its session's row. */
#include "auth.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"

enum { PEEK_ARENA_BYTES = 64 * 1024 };

/* Called before any tenant is open. What it says is believed only as a name to look the token up
 * in. */
struct bk_slice auth_tenant_of(void *user, struct bk_slice token) {
    struct auth_state *state = user;
    if (auth_api_key_is(token))
        return auth_api_key_tenant(state, token);
    /* Whether it still holds is asked, and counted, when it is looked for in that tenant. */
    const struct auth_cached *cached = bk_map_get(&state->cache.by_token, token);
    if (cached != NULL)
        return cached->tenant;
    struct bk_arena arena;
    struct auth_claims claims;
    struct bk_slice tenant = BK_SLICE_EMPTY;
    bk_arena_init(&arena, PEEK_ARENA_BYTES);
    if (auth_token_read(&arena, token, &claims)) {
        /* The name outlives the arena only in the registry's own copy. */
        struct bk_tenant *open = bk_tenant_hold_open(state->context->tenants, claims.tenant);
        if (open != NULL) {
            tenant = open->name;
            bk_tenant_release(open);
        } else if (bk_tenant_exists(state->context->tenants, claims.tenant)) {
            size_t length = claims.tenant.length;
            memcpy(state->peeked_tenant, claims.tenant.data, length);
            tenant = bk_slice_make(state->peeked_tenant, length);
        }
    }
    bk_arena_fini(&arena);
    return tenant;
}

static void become(struct bk_request *request, struct bk_tenant *tenant,
                   const struct auth_cached *entry) {
    struct bk_arena *arena = &request->arena;
    struct bk_actor *actor = &request->actor;
    actor->kind = entry->is_superuser ? BK_ACTOR_SUPERUSER : BK_ACTOR_RECORD;
    actor->is_operator = entry->is_superuser && bk_slice_is(tenant->name, "default");
    actor->label = bk_arena_copy(arena, entry->label);
    actor->id = bk_arena_copy(arena, entry->id);
    actor->collection_id = bk_arena_copy(arena, entry->collection_id);
    actor->scopes = BK_SLICE_EMPTY;
    actor->tenant = bk_arena_copy(arena, entry->tenant);
    actor->session = bk_arena_copy(arena, entry->session);
    actor->expires_s = entry->expires_s;
}

static struct bk_slice join(struct bk_arena *arena, struct bk_slice a, struct bk_slice b,
                            struct bk_slice c) {
    const struct bk_slice parts[] = {a, b, c};
    size_t length = 0, all = a.length + b.length + c.length;
    char *text = bk_arena_alloc(arena, all);
    if (text == NULL || arena->is_overflown)
        return BK_SLICE_EMPTY;
    for (size_t i = 0; i < BK_COUNT_OF(parts); length += parts[i++].length)
        if (parts[i].length > 0)
            memcpy(text + length, parts[i].data, parts[i].length);
    return bk_slice_make(text, all);
}

/* This alone, however much else the record has. BK_NOT_FOUND. */
static enum bk_status read_token_key(struct bk_arena *arena, struct bk_tenant *tenant,
                                     const struct bk_collection *collection, struct bk_slice id,
                                     struct bk_slice *token_key) {
    const struct bk_sql sql = bk_sql_make(join(arena, BK_SLICE("SELECT tokenKey FROM "),
                                               collection->quoted, BK_SLICE(" WHERE id = ?1")));
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_statement *statement;
    enum bk_status status = BK_FAILPOINT("auth.credentials_read");
    if (connection == NULL)
        return BK_CLOSING;
    if (status == BK_OK)
        status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *token_key = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static enum bk_status verify(struct auth_state *state, struct bk_tenant *tenant,
                             struct bk_slice token, struct bk_request *request,
                             struct auth_cached *entry) {
    struct auth_claims claims;
    struct bk_slice token_key = BK_SLICE_EMPTY;
    /* Until it is verified, what it says is only where to look. */
    if (!auth_token_read(&request->arena, token, &claims) ||
        !bk_slice_equal(claims.tenant, tenant->name) ||
        !auth_key_is_taken(state->context, tenant, claims.key_number))
        return BK_UNAUTHORIZED;
    struct bk_schema *schema = bk_schema_current(state->context->schema, tenant);
    const struct bk_collection *collection = bk_schema_find(schema, claims.collection_id);
    if (collection == NULL || collection->type != BK_COLLECTION_AUTH ||
        !bk_slice_equal(collection->id, claims.collection_id))
        return BK_UNAUTHORIZED;
    enum bk_status status =
        read_token_key(&request->arena, tenant, collection, claims.id, &token_key);
    if (status != BK_OK)
        return status == BK_NOT_FOUND ? BK_UNAUTHORIZED : status;
    const struct auth_secrets secrets = {
        .instance_key = state->context->instance_key,
        .collection_secret = collection->token_secret,
        .token_key = token_key,
        .tenant_key = auth_key_source(state->context, tenant, claims.key_number)};
    if (token_key.length == 0 || !auth_token_verify(token, &claims, &secrets) ||
        !bk_slice_is(claims.type, "auth") || claims.expires_s <= bk_clock_wall_ms() / 1000)
        return BK_UNAUTHORIZED;
    struct auth_session session;
    status = auth_session_read(tenant, &claims, &session);
    if (status != BK_OK)
        return status == BK_NOT_FOUND ? BK_UNAUTHORIZED : status;
    *entry = (struct auth_cached){
        .token = token,
        .tenant = tenant->name,
        .label = join(&request->arena, collection->name, BK_SLICE("/"), claims.id),
        .id = claims.id,
        .collection_id = collection->id,
        .is_superuser = bk_slice_is(collection->name, "_superusers"),
        .session = claims.session,
        .expires_s = claims.expires_s < session.expires_s ? claims.expires_s : session.expires_s,
        .begins_s = session.used_s - AUTH_CLOCK_SLACK_S,
        .used_s = session.used_s,
    };
    return BK_OK;
}

enum bk_status auth_authenticate(void *user, struct bk_tenant *tenant, struct bk_slice token,
                                 struct bk_request *request) {
    struct auth_state *state = user;
    if (auth_api_key_is(token))
        return auth_api_key_authenticate(state, tenant, token, request);
    struct auth_cached *cached = auth_cache_find(&state->cache, token, bk_clock_wall_ms() / 1000);
    if (cached != NULL && bk_slice_equal(cached->tenant, tenant->name)) {
        auth_session_touch(state, tenant, cached);
        become(request, tenant, cached);
        return BK_OK;
    }
    struct auth_cached entry;
    enum bk_status status = verify(state, tenant, token, request, &entry);
    if (status != BK_OK)
        return status;
    auth_session_touch(state, tenant, &entry);
    auth_cache_add(&state->cache, &entry);
    become(request, tenant, &entry);
    return BK_OK;
}
