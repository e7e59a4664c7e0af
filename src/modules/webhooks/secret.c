/*
 * What signs: a secret of 24 to 64 random bytes that the receiver has, too ("whsec_…"), for the
 * grace after a rotation the one before, and, where it was asked for, the seed of an Ed25519 key
 * whose public half the receiver has ("whpk_…").
 *
 * On disk each is sealed under a key that is derived from the instance key, which is no part of the
 * database, and bound to tenant, webhook and column: a copy of the database signs nothing, and a
 * row that was copied to another webhook opens no more.
 */
#include "webhooks.h"

#include "bakend/encode.h"
#include "bakend/id.h"

#include <stdio.h>

enum {
    SECRET_BYTES_MIN = 24,
    SEALED_BYTES_MAX = WEBHOOKS_SECRET_BYTES_MAX + BK_SEAL_BYTES,
    OWNER_BYTES_MAX = BK_TENANT_NAME_BYTES_MAX + WEBHOOKS_ID_BYTES + 32,
};

static const struct bk_slice secret_prefix = BK_SLICE_INIT("whsec_");

/* --- as texts --------------------------------------------------------------------------------- */

enum bk_status webhooks_secret_make(struct bk_slice given, struct webhooks_keys *keys) {
    uint8_t bytes[WEBHOOKS_SECRET_BYTES_MAX];
    size_t length = sizeof bytes;
    if (given.length == 0) {
        keys->secret_length = WEBHOOKS_SECRET_BYTES;
        bk_random_bytes(keys->secret, WEBHOOKS_SECRET_BYTES);
        return BK_OK;
    }
    if (!bk_slice_starts_with(given, secret_prefix))
        return BK_INVALID;
    struct bk_slice text =
        bk_slice_make(given.data + secret_prefix.length, given.length - secret_prefix.length);
    bool is_secret = bk_base64_decode(text, bytes, &length) && length >= SECRET_BYTES_MIN;
    if (is_secret) {
        memcpy(keys->secret, bytes, length);
        keys->secret_length = (uint32_t)length;
    }
    bk_crypto_wipe(bytes, sizeof bytes);
    return is_secret ? BK_OK : BK_INVALID;
}

void webhooks_seed_make(struct webhooks_keys *keys) {
    keys->has_seed = true;
    bk_random_bytes(keys->seed, sizeof keys->seed);
}

static struct bk_slice encode(struct bk_arena *arena, struct bk_slice prefix, const uint8_t *bytes,
                              size_t length) {
    char *text = bk_arena_alloc(arena, prefix.length + BK_BASE64_BYTES(length));
    memcpy(text, prefix.data, prefix.length);
    size_t written = bk_base64_encode(text + prefix.length, bytes, length);
    return bk_slice_make(text, prefix.length + written);
}

struct bk_slice webhooks_secret_text(const struct webhooks_keys *keys, struct bk_arena *arena) {
    return encode(arena, secret_prefix, keys->secret, keys->secret_length);
}

struct bk_slice webhooks_public_key_text(const struct webhooks_keys *keys, struct bk_arena *arena) {
    struct bk_ed25519_key key;
    uint8_t public_key[BK_ED25519_PUBLIC_BYTES];
    bk_ed25519_key_init(&key, keys->seed);
    bk_ed25519_public(&key, public_key);
    bk_crypto_wipe(&key, sizeof key);
    return encode(arena, BK_SLICE("whpk_"), public_key, sizeof public_key);
}

/* --- at rest ---------------------------------------------------------------------------------- */

/* "tenant/webhook/column" */
static struct bk_slice owner_text(const struct webhooks_owner *owner, const char *column,
                                  char text[OWNER_BYTES_MAX]) {
    int length = snprintf(text, OWNER_BYTES_MAX, "%.*s/%.*s/%s", BK_SLICE_PRINT(owner->tenant),
                          BK_SLICE_PRINT(owner->webhook), column);
    BK_ASSERT(length > 0 && length < OWNER_BYTES_MAX);
    return bk_slice_make(text, (size_t)length);
}

struct bk_slice webhooks_seal(const struct webhooks_state *state,
                              const struct webhooks_owner *owner, const char *column,
                              struct bk_slice text, struct bk_arena *arena) {
    char belongs_to[OWNER_BYTES_MAX];
    size_t length = text.length + BK_SEAL_BYTES;
    if (text.length == 0)
        return BK_SLICE("");
    uint8_t *sealed = bk_arena_alloc(arena, length);
    char *written = bk_arena_alloc(arena, BK_BASE64URL_BYTES(length));
    if (sealed == NULL || written == NULL) /* the arena's owner fails for it */
        return BK_SLICE("");
    bk_seal(sealed, state->key, text, owner_text(owner, column, belongs_to));
    return bk_slice_make(written, bk_base64url_encode(written, sealed, length));
}

/* *length in: room of sealed, of which bytes needs BK_SEAL_BYTES less; out: of what was sealed. */
static bool unseal_into(const struct webhooks_state *state, const struct webhooks_owner *owner,
                        const char *column, struct bk_slice text, uint8_t *sealed, uint8_t *bytes,
                        size_t *length) {
    char belongs_to[OWNER_BYTES_MAX];
    if (!bk_base64url_decode(text, sealed, length) || *length <= BK_SEAL_BYTES ||
        !bk_unseal(bytes, state->key, bk_slice_make((const char *)sealed, *length),
                   owner_text(owner, column, belongs_to)))
        return false;
    *length -= BK_SEAL_BYTES;
    return true;
}

bool webhooks_unseal(const struct webhooks_state *state, const struct webhooks_owner *owner,
                     const char *column, struct bk_slice sealed, struct bk_arena *arena,
                     struct bk_slice *text) {
    size_t length = sealed.length;
    uint8_t *decoded = bk_arena_alloc(arena, length), *bytes = bk_arena_alloc(arena, length);
    if (decoded == NULL || bytes == NULL)
        return false;
    if (sealed.length > 0 && !unseal_into(state, owner, column, sealed, decoded, bytes, &length))
        return false;
    *text = bk_slice_make((const char *)bytes, length);
    return true;
}

/* *length in: room of bytes; out: of what was sealed, 0 where there is nothing. */
static bool unseal(const struct webhooks_state *state, const struct webhooks_owner *owner,
                   const char *column, struct bk_slice text, uint8_t *bytes, uint32_t *length) {
    uint8_t sealed[SEALED_BYTES_MAX];
    size_t size = (size_t)*length + BK_SEAL_BYTES;
    BK_ASSERT(size <= sizeof sealed);
    *length = 0;
    if (text.length == 0)
        return true;
    if (!unseal_into(state, owner, column, text, sealed, bytes, &size))
        return false;
    *length = (uint32_t)size;
    return true;
}

static struct bk_slice seal_bytes(const struct webhooks_state *state,
                                  const struct webhooks_owner *owner, const char *column,
                                  const uint8_t *bytes, size_t length, struct bk_arena *arena) {
    return webhooks_seal(state, owner, column, bk_slice_make((const char *)bytes, length), arena);
}

enum bk_status webhooks_keys_write(const struct webhooks_state *state,
                                   struct bk_transaction *transaction, struct bk_slice id,
                                   const struct webhooks_keys *keys) {
    const struct webhooks_owner owner = {bk_transaction_tenant(transaction), id};
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_sql sql = bk_sql_make(
        BK_SLICE("INSERT INTO _webhookStates (webhook, secret, previous, previousUntil, seed) "
                 "VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (webhook) DO UPDATE SET secret = ?2, "
                 "previous = ?3, previousUntil = ?4, seed = ?5"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    bk_statement_bind_text(
        statement, 2,
        seal_bytes(state, &owner, "secret", keys->secret, keys->secret_length, arena));
    bk_statement_bind_text(
        statement, 3,
        seal_bytes(state, &owner, "previous", keys->previous, keys->previous_length, arena));
    bk_statement_bind_int(statement, 4, keys->previous_until_ms);
    bk_statement_bind_text(statement, 5,
                           seal_bytes(state, &owner, "seed", keys->seed,
                                      keys->has_seed ? sizeof keys->seed : 0, arena));
    return bk_statement_run(statement);
}

static enum bk_status unseal_row(const struct webhooks_state *state,
                                 const struct webhooks_owner *owner, struct bk_statement *row,
                                 struct webhooks_keys *keys) {
    uint32_t seed_length = sizeof keys->seed;
    *keys = (struct webhooks_keys){.secret_length = sizeof keys->secret,
                                   .previous_length = sizeof keys->previous,
                                   .previous_until_ms = bk_statement_int(row, 2)};
    if (bk_statement_text(row, 0).length == 0)
        return BK_NOT_FOUND;
    if (!unseal(state, owner, "secret", bk_statement_text(row, 0), keys->secret,
                &keys->secret_length) ||
        !unseal(state, owner, "previous", bk_statement_text(row, 1), keys->previous,
                &keys->previous_length) ||
        !unseal(state, owner, "seed", bk_statement_text(row, 3), keys->seed, &seed_length))
        return BK_CORRUPT;
    keys->has_seed = seed_length > 0;
    return BK_OK;
}

enum bk_status webhooks_keys_read(const struct webhooks_state *state,
                                  struct bk_connection *connection, struct bk_slice tenant,
                                  struct bk_slice id, struct webhooks_keys *keys) {
    const struct webhooks_owner owner = {tenant, id};
    struct bk_sql sql = bk_sql_make(BK_SLICE(
        "SELECT secret, previous, previousUntil, seed FROM _webhookStates WHERE webhook = ?1"));
    struct webhooks_keys read;
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status != BK_OK)
        return status == BK_END ? BK_NOT_FOUND : status;
    status = unseal_row(state, &owner, statement, &read);
    bk_statement_reset(statement);
    if (status == BK_OK)
        *keys = read;
    bk_crypto_wipe(&read, sizeof read);
    return status;
}
