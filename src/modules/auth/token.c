/*
 * Tokens: JSON Web Tokens (RFC 7519), HMAC-SHA-256 (RFC 7518) and nothing else.
 *
 *   header   {"alg":"HS256","kid":"<tenant>.<key number>","typ":"JWT"}
 *            "sid"   the session that it is of
 *            "jti"   of tickets: what is used once
 *   claims   {"id","type":"auth","collectionId","refreshable","exp"}, "email" and "newEmail" of
 *            tickets: the contract's, to the letter, since clients read them
 *
 * The signing key is derived (HKDF) from the tenant's key of that number, the collection's token
 * secret and the record's own token key, so that changing any of them revokes. A tenant's key is
 * derived from the instance key. The record must be found before its token can be verified: until
 * then nothing of a token but tenant, collection and id is used, and only to look that record up.
 */
#include "auth.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"

enum { KEY_NUMBER_MAX = 9999 };

/* --- keys ------------------------------------------------------------------------------------- */

static void derive_signing_key(uint8_t key[BK_KEY_BYTES], const struct auth_claims *claims,
                               const struct auth_secrets *secrets) {
    uint8_t tenant_key[BK_KEY_BYTES];
    struct bk_buffer text;
    bk_buffer_init(&text, 4096);
    bk_buffer_format(&text, "bakend tenant key %u of ", claims->key_number);
    bk_buffer_append_slice(&text, claims->tenant);
    bk_derive_key(tenant_key, secrets->instance_key, bk_buffer_slice(&text));
    /* Lengths go in too: no two pairs of secrets give the same text. */
    bk_buffer_clear(&text);
    bk_buffer_format(&text, "bakend token %zu %zu ", secrets->collection_secret.length,
                     secrets->token_key.length);
    bk_buffer_append_slice(&text, secrets->collection_secret);
    bk_buffer_append_slice(&text, secrets->token_key);
    bk_buffer_insist(&text);
    bk_derive_key(key, bk_slice_make((const char *)tenant_key, sizeof(tenant_key)),
                  bk_buffer_slice(&text));
    bk_crypto_wipe(tenant_key, sizeof(tenant_key));
    bk_crypto_wipe(text.data, text.length);
    bk_buffer_fini(&text);
}

static void sign(uint8_t mac[BK_SHA256_BYTES], struct bk_slice signed_part,
                 const struct auth_claims *claims, const struct auth_secrets *secrets) {
    uint8_t key[BK_KEY_BYTES];
    derive_signing_key(key, claims, secrets);
    bk_hmac_sha256(mac, bk_slice_make((const char *)key, sizeof(key)), signed_part, BK_SLICE_EMPTY);
    bk_crypto_wipe(key, sizeof(key));
}

/* --- making ----------------------------------------------------------------------------------- */

static void append_base64url(struct bk_buffer *out, struct bk_slice data) {
    if (bk_buffer_reserve(out, BK_BASE64URL_BYTES(data.length)))
        out->length += bk_base64url_encode(out->data + out->length, data.data, data.length);
}

static void write_text(struct bk_buffer *json, struct bk_slice name, struct bk_slice text) {
    if (text.length > 0)
        bk_json_write_member_string(json, name, text);
}

static void write_header(const struct auth_claims *claims, struct bk_buffer *json) {
    bk_buffer_format(json, "{\"alg\":\"HS256\",\"kid\":\"%.*s.%u\",\"typ\":\"JWT\"",
                     BK_SLICE_PRINT(claims->tenant), claims->key_number);
    write_text(json, BK_SLICE("sid"), claims->session);
    write_text(json, BK_SLICE("jti"), claims->jti);
    bk_buffer_append_char(json, '}');
}

static void write_claims(const struct auth_claims *claims, struct bk_buffer *json) {
    bk_buffer_append_char(json, '{');
    bk_json_write_member_string(json, BK_SLICE("collectionId"), claims->collection_id);
    write_text(json, BK_SLICE("email"), claims->email);
    bk_json_write_member_int(json, BK_SLICE("exp"), claims->expires_s);
    bk_json_write_member_string(json, BK_SLICE("id"), claims->id);
    write_text(json, BK_SLICE("newEmail"), claims->new_email);
    if (bk_slice_is(claims->type, "auth"))
        bk_json_write_member_bool(json, BK_SLICE("refreshable"), claims->is_refreshable);
    bk_json_write_member_string(json, BK_SLICE("type"), claims->type);
    bk_buffer_append_char(json, '}');
}

void auth_token_make(struct bk_buffer *out, const struct auth_claims *claims,
                     const struct auth_secrets *secrets) {
    struct bk_buffer json;
    uint8_t mac[BK_SHA256_BYTES];
    size_t start = out->length;
    bk_buffer_init(&json, AUTH_TOKEN_BYTES_MAX);
    write_header(claims, &json);
    append_base64url(out, bk_buffer_slice(&json));
    bk_buffer_append_char(out, '.');
    bk_buffer_clear(&json);
    write_claims(claims, &json);
    append_base64url(out, bk_buffer_slice(&json));
    bk_buffer_insist(&json);
    bk_buffer_insist(out);
    sign(mac, bk_slice_make(out->data + start, out->length - start), claims, secrets);
    bk_buffer_append_char(out, '.');
    append_base64url(out, bk_slice_make((const char *)mac, sizeof(mac)));
    bk_buffer_fini(&json);
}

/* --- reading ---------------------------------------------------------------------------------- */

static const struct bk_json *read_part(struct bk_arena *arena, struct bk_slice part) {
    size_t length = part.length;
    char *text = bk_arena_alloc(arena, length + 1);
    struct bk_json *json;
    if (!bk_base64url_decode(part, text, &length) ||
        bk_json_parse(arena, bk_slice_make(text, length), &json, NULL) != BK_OK ||
        json->type != BK_JSON_OBJECT)
        return NULL;
    return json;
}

static bool read_kid(struct bk_slice kid, struct auth_claims *claims) {
    int64_t number;
    size_t dot = bk_slice_find(kid, '.');
    if (dot == kid.length)
        return false;
    claims->tenant = bk_slice_make(kid.data, dot);
    if (!bk_tenant_name_is_valid(claims->tenant) ||
        !bk_slice_to_int64(bk_slice_make(kid.data + dot + 1, kid.length - dot - 1), &number) ||
        number < 1 || number > KEY_NUMBER_MAX)
        return false;
    claims->key_number = (uint32_t)number;
    return true;
}

static bool split(struct bk_slice token, struct bk_slice parts[3]) {
    struct bk_slice rest = token, more;
    if (token.length > AUTH_TOKEN_BYTES_MAX)
        return false;
    for (int i = 0; i < 3; i++)
        if (!bk_slice_split(&rest, '.', &parts[i]))
            return false;
    return !bk_slice_split(&rest, '.', &more);
}

bool auth_token_read(struct bk_arena *arena, struct bk_slice token, struct auth_claims *claims) {
    struct bk_slice parts[3];
    if (!split(token, parts))
        return false;
    const struct bk_json *header = read_part(arena, parts[0]), *body = read_part(arena, parts[1]);
    if (header == NULL || body == NULL ||
        !bk_slice_is(bk_json_get_string(header, BK_SLICE("alg")), "HS256") ||
        !read_kid(bk_json_get_string(header, BK_SLICE("kid")), claims))
        return false;
    const struct bk_json *refreshable = bk_json_get(body, BK_SLICE("refreshable"));
    claims->id = bk_json_get_string(body, BK_SLICE("id"));
    claims->collection_id = bk_json_get_string(body, BK_SLICE("collectionId"));
    claims->type = bk_json_get_string(body, BK_SLICE("type"));
    claims->session = bk_json_get_string(header, BK_SLICE("sid"));
    claims->email = bk_json_get_string(body, BK_SLICE("email"));
    claims->new_email = bk_json_get_string(body, BK_SLICE("newEmail"));
    claims->jti = bk_json_get_string(header, BK_SLICE("jti"));
    claims->is_refreshable =
        refreshable != NULL && refreshable->type == BK_JSON_BOOL && refreshable->boolean;
    const struct bk_json *expires = bk_json_get(body, BK_SLICE("exp"));
    return expires != NULL && bk_json_to_int64(expires, &claims->expires_s);
}

bool auth_token_verify(struct bk_slice token, const struct auth_claims *claims,
                       const struct auth_secrets *secrets) {
    struct bk_slice parts[3];
    uint8_t given[BK_SHA256_BYTES], mac[BK_SHA256_BYTES];
    size_t length = sizeof(given);
    if (!split(token, parts) || !bk_base64url_decode(parts[2], given, &length) ||
        length != sizeof(given))
        return false;
    size_t signed_length = parts[0].length + 1 + parts[1].length;
    sign(mac, bk_slice_make(token.data, signed_length), claims, secrets);
    return bk_crypto_equal(given, mac, sizeof(mac));
}
