/*
 * What makes tokens that were verified worthless: a changed or deleted record, a changed
 * collection, the end of a session. Told by the events of a commit, before any of them is
 * dispatched and before the next request is read: whoever has got the answer to signing somebody
 * out meets no token of theirs, neither in the cache nor on a connection that is kept open.
 *
 *   *.updated *.deleted     the tokens of that record are looked at anew
 *   _collections.*          those of the whole tenant: rules and secrets may be others
 *   auth.session_revoked    and the doors are told, which close what is open
 *   auth.logout
 */
#include "auth.h"

enum { PAYLOAD_ARENA_BYTES = 256 * 1024 };

/* What the contract knows, too. */
static bool is_change_of_record(struct bk_slice reason) {
    return bk_slice_is(reason, "password") || bk_slice_is(reason, "tokenKey") ||
           bk_slice_is(reason, "deleted");
}

/* The session that an event of ours tells of: its connections are closed. */
static void revoke(struct auth_state *state, struct bk_tenant *tenant,
                   const struct bk_event_fields *fields) {
    struct bk_arena arena;
    struct bk_json *payload;
    bk_arena_init(&arena, PAYLOAD_ARENA_BYTES);
    if (bk_json_parse(&arena, fields->payload, &payload, NULL) == BK_OK) {
        const struct bk_revocation revocation = {
            .tenant = tenant,
            .label = fields->subject,
            .session = bk_json_get_string(payload, BK_SLICE("session")),
            .leaves_guest = is_change_of_record(bk_json_get_string(payload, BK_SLICE("reason")))};
        bk_api_revoke(state->context->api, &revocation);
    }
    bk_arena_fini(&arena);
}

static bool has_verb(struct bk_slice type, const char *verb) {
    struct bk_slice end = bk_slice_from(verb);
    return type.length > end.length &&
           bk_slice_equal(bk_slice_make(type.data + type.length - end.length, end.length), end);
}

static void on_event(struct auth_state *state, struct bk_tenant *tenant,
                     const struct bk_event_fields *fields) {
    bool is_end = bk_slice_is(fields->type, "auth.session_revoked") ||
                  bk_slice_is(fields->type, "auth.logout");
    if (bk_slice_starts_with(fields->type, BK_SLICE("_collections."))) {
        auth_cache_forget(&state->cache, tenant->name, BK_SLICE_EMPTY);
        auth_secrets_compare(state->context, tenant);
    } else if (fields->subject.length > 0 &&
               (is_end || has_verb(fields->type, ".updated") || has_verb(fields->type, ".deleted")))
        auth_cache_forget(&state->cache, tenant->name, fields->subject);
    if (is_end)
        revoke(state, tenant, fields);
}

static void on_committed(struct bk_bus_tap *tap, struct bk_tenant *tenant,
                         struct bk_event *const *events, size_t event_count) {
    struct auth_state *state = bk_container_of(tap, struct auth_state, tap);
    for (size_t i = 0; i < event_count; i++)
        on_event(state, tenant, &events[i]->fields);
}

void auth_stale_init(struct auth_state *state) {
    state->tap.on_committed = on_committed;
    bk_bus_add_tap(state->context->bus, &state->tap);
}

void auth_stale_fini(struct auth_state *state) { bk_bus_remove_tap(&state->tap); }
