/*
 * API keys: what programs come in with. A key is a record of `_apiKeys` (its name, its scopes, when
 * it expires, when it was used last) and a text that is shown once and kept as a hash alone, in a
 * table of its own that no route reads:
 *
 *   bk_<tenant>_<40 letters and digits>     238 random bits; names of tenants have no "_"
 *
 * The tenant is in it, so that a program needs no header to find home. A look-up goes by the hash:
 * what a comparison could tell by its time is of the hash, which nobody can aim.
 *
 * Keys that were looked up before are kept in memory, the one used longest ago goes. A change of
 * the record makes them forgotten before anybody is told of it, and ends the connections of a key
 * that was deleted or rotated.
 *
 * When a key was used is written at most every USED_S, without an event: it is said for the one who
 * cleans up, and would otherwise be most of the journal.
 */
#include "auth.h"
#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"
#include <stdio.h>

enum {
    CACHED_MAX = 10000,
    USED_S = 300,
    ARENA_BYTES_MAX = 256 * 1024,
    HASH_BYTES = BK_SHA256_BYTES,
};

static const struct bk_slice head = BK_SLICE_INIT("bk_");
static const char label_head[] = "key/"; /* of actors */

/* Whose key it is, and its hash. */
const char auth_api_keys_table[] = "CREATE TABLE _apiKeyHashes (key TEXT PRIMARY KEY NOT NULL, "
                                   "hash TEXT UNIQUE NOT NULL) WITHOUT ROWID";

struct cached {
    struct bk_list link; /* by age */
    struct bk_slice hash, tenant, label, id, scopes;
    int64_t expires_s; /* 0: never */
    int64_t used_s;    /* as it is written */
};

/* --- the text of a key ------------------------------------------------------------------------ */

bool auth_api_key_is(struct bk_slice token) { return bk_slice_starts_with(token, head); }

/* The name in it, or an empty slice. */
static struct bk_slice tenant_in(struct bk_slice token) {
    struct bk_slice rest = bk_slice_make(token.data + head.length, token.length - head.length);
    struct bk_slice name = bk_slice_make(rest.data, bk_slice_find(rest, '_'));
    bool is_right =
        rest.length == name.length + 1 + AUTH_API_KEY_RANDOM_BYTES && bk_tenant_name_is_valid(name);
    return is_right ? name : BK_SLICE_EMPTY;
}

struct bk_slice auth_api_key_tenant(struct auth_state *state, struct bk_slice token) {
    struct bk_slice name = tenant_in(token);
    if (name.length == 0 || !bk_tenant_exists(state->context->tenants, name))
        return BK_SLICE_EMPTY;
    memcpy(state->peeked_tenant, name.data, name.length);
    return bk_slice_make(state->peeked_tenant, name.length);
}

struct bk_slice auth_api_key_make(struct bk_arena *arena, struct bk_slice tenant) {
    static const struct bk_slice alphabet =
        BK_SLICE_INIT("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    char random[AUTH_API_KEY_RANDOM_BYTES];
    bk_random_text(random, sizeof(random), alphabet);
    struct bk_slice key = bk_arena_format(arena, "bk_%.*s_%.*s", BK_SLICE_PRINT(tenant),
                                          AUTH_API_KEY_RANDOM_BYTES, random);
    bk_crypto_wipe(random, sizeof(random));
    return key;
}

struct bk_slice auth_api_key_prefix(struct bk_slice key) {
    return bk_slice_make(key.data,
                         key.length - AUTH_API_KEY_RANDOM_BYTES + AUTH_API_KEY_SHOWN_BYTES);
}

void auth_api_key_hash(char hex[AUTH_API_KEY_HASH_BYTES], struct bk_slice key) {
    uint8_t hash[HASH_BYTES];
    bk_sha256(hash, key);
    bk_hex_encode(hex, hash, sizeof(hash));
}

/* --- those in memory -------------------------------------------------------------------------- */

static void drop(struct auth_api_keys *keys, struct cached *key) {
    bk_map_remove(&keys->by_hash, key->hash);
    bk_list_remove(&key->link);
    keys->count--;
    bk_free(key);
}

/* All of the tenant where id is empty. */
void auth_api_keys_forget(struct auth_state *state, struct bk_slice tenant, struct bk_slice id) {
    BK_LIST_FOR_EACH(node, &state->api_keys.by_age) {
        struct cached *key = bk_container_of(node, struct cached, link);
        if (bk_slice_equal(key->tenant, tenant) && (id.length == 0 || bk_slice_equal(key->id, id)))
            drop(&state->api_keys, key);
    }
}

static struct bk_slice put(char **at, struct bk_slice text) {
    char *start = *at;
    if (text.length > 0)
        memcpy(start, text.data, text.length);
    *at += text.length;
    return bk_slice_make(start, text.length);
}

static struct cached *keep(struct auth_api_keys *keys, const struct cached *read) {
    if (keys->count == CACHED_MAX)
        drop(keys, bk_container_of(keys->by_age.next, struct cached, link));
    size_t bytes = read->hash.length + read->tenant.length + read->label.length + read->id.length +
                   read->scopes.length;
    struct cached *key = bk_alloc(sizeof(*key) + bytes);
    char *at = (char *)(key + 1);
    *key = *read;
    key->hash = put(&at, read->hash);
    key->tenant = put(&at, read->tenant);
    key->label = put(&at, read->label);
    key->id = put(&at, read->id);
    key->scopes = put(&at, read->scopes);
    bk_list_init(&key->link);
    bk_list_push(&keys->by_age, &key->link);
    bk_map_put(&keys->by_hash, key->hash, key);
    keys->count++;
    return key;
}

/* --- looking one up --------------------------------------------------------------------------- */

/* ["records:read","events:read"] as words. */
static struct bk_slice join_scopes(struct bk_arena *arena, struct bk_slice json) {
    struct bk_json *list = NULL;
    struct bk_slice words = BK_SLICE_EMPTY;
    if (bk_json_parse(arena, bk_arena_copy(arena, json), &list, NULL) != BK_OK)
        return words;
    for (const struct bk_json *item = list->child; item != NULL; item = item->next)
        words = bk_arena_format(arena, "%.*s%s%.*s", BK_SLICE_PRINT(words),
                                words.length > 0 ? " " : "", BK_SLICE_PRINT(item->string));
    return words;
}

/* A date of a record in seconds, 0 where there is none. One that cannot be read is long past. */
static int64_t seconds_of(struct bk_slice date) {
    int64_t ms = 0;
    if (date.length == 0)
        return 0;
    return bk_time_parse(date, &ms) && ms >= 1000 ? ms / 1000 : 1;
}

static void read_row(struct bk_statement *statement, struct bk_arena *arena, struct cached *key) {
    key->id = bk_arena_copy(arena, bk_statement_text(statement, 0));
    key->label = bk_arena_format(arena, "%s%.*s", label_head, BK_SLICE_PRINT(key->id));
    key->scopes = join_scopes(arena, bk_statement_text(statement, 1));
    key->expires_s = seconds_of(bk_statement_text(statement, 2));
    key->used_s = seconds_of(bk_statement_text(statement, 3));
}

/* BK_UNAUTHORIZED: there is none. */
static enum bk_status look_up(struct bk_tenant *tenant, struct bk_arena *arena,
                              struct bk_slice token, struct cached *key) {
    static const struct bk_slice text =
        BK_SLICE_INIT("SELECT k.id, k.scopes, k.expires, k.lastUsed FROM _apiKeyHashes h "
                      "JOIN _apiKeys k ON k.id = h.key WHERE h.hash = ?1");
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_statement *statement;
    char hash[AUTH_API_KEY_HASH_BYTES];
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    auth_api_key_hash(hash, token);
    bk_statement_bind_text(statement, 1, bk_slice_make(hash, sizeof(hash)));
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        read_row(statement, arena, key);
        status = bk_arena_status(arena);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_UNAUTHORIZED : status;
}

/* In memory, or as it is stored. */
static enum bk_status find(struct auth_state *state, struct bk_tenant *tenant,
                           struct bk_slice token, struct cached **found) {
    struct auth_api_keys *keys = &state->api_keys;
    uint8_t bytes[HASH_BYTES];
    struct cached read = {.tenant = tenant->name,
                          .hash = bk_slice_make((const char *)bytes, sizeof(bytes))};
    struct bk_arena arena;
    bk_sha256(bytes, token);
    *found = bk_map_get(&keys->by_hash, read.hash);
    if (*found != NULL) {
        bk_list_remove(&(*found)->link);
        bk_list_push(&keys->by_age, &(*found)->link);
        return BK_OK;
    }
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    enum bk_status status = look_up(tenant, &arena, token, &read);
    if (status == BK_OK)
        *found = keep(keys, &read);
    bk_arena_fini(&arena);
    return status;
}

/* --- when it was used last -------------------------------------------------------------------- */

struct use {
    struct bk_write write;
    struct bk_tenant *tenant; /* held */
    size_t id_length;
    char id[];
};

static enum bk_status on_use_run(struct bk_transaction *transaction, struct bk_write *write) {
    const struct use *use = bk_container_of(write, struct use, write);
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("UPDATE _apiKeys SET lastUsed = ?1 WHERE id = ?2"));
    struct bk_statement *statement;
    char now[BK_TIME_TEXT_BYTES];
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_time_format(now, bk_transaction_now_ms(transaction), ' ');
    bk_statement_bind_text(statement, 1, bk_slice_make(now, sizeof(now)));
    bk_statement_bind_text(statement, 2, bk_slice_make(use->id, use->id_length));
    return bk_statement_run(statement);
}

static void on_use_done(struct bk_write *write, enum bk_status status) {
    struct use *use = bk_container_of(write, struct use, write);
    (void)status; /* it is tried again by a later use */
    bk_tenant_release(use->tenant);
    bk_free(use);
}

static void note_use(struct bk_tenant *tenant, struct cached *key, int64_t now_s) {
    /* A clock that was set back does not stop it. */
    if (key->used_s <= now_s && now_s < key->used_s + USED_S)
        return;
    key->used_s = now_s;
    struct use *use = bk_alloc_zero(sizeof(*use) + key->id.length);
    use->tenant = tenant;
    use->id_length = key->id.length;
    memcpy(use->id, key->id.data, key->id.length);
    use->write =
        (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_use_run, .done = on_use_done};
    bk_tenant_ref(tenant);
    if (bk_store_write(tenant->database, &use->write) == BK_OK)
        return;
    bk_tenant_release(tenant);
    bk_free(use);
}

/* --- who asks --------------------------------------------------------------------------------- */

static void become(struct bk_request *request, const struct cached *key) {
    struct bk_arena *arena = &request->arena;
    request->actor = (struct bk_actor){
        .kind = BK_ACTOR_KEY,
        .label = bk_arena_copy(arena, key->label),
        .id = bk_arena_copy(arena, key->id),
        .scopes = bk_arena_copy(arena, key->scopes),
        .tenant = bk_arena_copy(arena, key->tenant),
        .expires_s = key->expires_s,
    };
}

enum bk_status auth_api_key_authenticate(struct auth_state *state, struct bk_tenant *tenant,
                                         struct bk_slice token, struct bk_request *request) {
    struct cached *key;
    int64_t now_s = bk_clock_wall_ms() / 1000;
    if (!bk_slice_equal(tenant_in(token), tenant->name))
        return BK_UNAUTHORIZED;
    enum bk_status status = find(state, tenant, token, &key);
    if (status != BK_OK)
        return status;
    if (key->expires_s != 0 && key->expires_s <= now_s)
        return BK_UNAUTHORIZED;
    note_use(tenant, key, now_s);
    become(request, key);
    return BK_OK;
}

/* --- changes ---------------------------------------------------------------------------------- */

/* A new text has another beginning. */
static bool is_dead(const struct bk_event *event) {
    static const struct bk_slice member = BK_SLICE_INIT("\"prefix\":");
    struct bk_slice previous = event->fields.previous;
    if (bk_slice_ends_with(event->fields.type, BK_SLICE(".deleted")))
        return true;
    for (size_t i = 0; i + member.length <= previous.length; i++)
        if (memcmp(previous.data + i, member.data, member.length) == 0)
            return true;
    return false;
}

static void on_changed(struct auth_state *state, struct bk_tenant *tenant,
                       const struct bk_event *event) {
    struct bk_slice subject = event->fields.subject;
    size_t slash = bk_slice_find(subject, '/');
    char label[sizeof(label_head) + BK_RECORD_ID_BYTES];
    BK_ASSERT(slash < subject.length); /* the kernel makes these events, of records alone */
    struct bk_slice id = bk_slice_make(subject.data + slash + 1, subject.length - slash - 1);
    auth_api_keys_forget(state, tenant->name, id);
    if (!is_dead(event) || id.length > BK_RECORD_ID_BYTES)
        return;
    int length = snprintf(label, sizeof(label), "%s%.*s", label_head, BK_SLICE_PRINT(id));
    const struct bk_revocation revocation = {.tenant = tenant,
                                             .label = bk_slice_make(label, (size_t)length)};
    bk_api_revoke(state->context->api, &revocation);
}

/* Before anybody is told of the commit: what is answered from here on knows of it. */
static void on_committed(struct bk_bus_tap *tap, struct bk_tenant *tenant,
                         struct bk_event *const *events, size_t event_count) {
    struct auth_state *state = bk_container_of(tap, struct auth_state, api_keys.tap);
    for (size_t i = 0; i < event_count; i++)
        if (bk_slice_starts_with(events[i]->fields.type, BK_SLICE("_apiKeys.")))
            on_changed(state, tenant, events[i]);
}

void auth_api_keys_init(struct auth_state *state) {
    struct auth_api_keys *keys = &state->api_keys;
    bk_map_init(&keys->by_hash);
    bk_list_init(&keys->by_age);
    keys->tap.on_committed = on_committed;
    bk_bus_add_tap(state->context->bus, &keys->tap);
}

void auth_api_keys_fini(struct auth_state *state) {
    struct auth_api_keys *keys = &state->api_keys;
    bk_bus_remove_tap(&keys->tap);
    BK_LIST_FOR_EACH(node, &keys->by_age) {
        drop(keys, bk_container_of(node, struct cached, link));
    }
    bk_map_fini(&keys->by_hash);
}
