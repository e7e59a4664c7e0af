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

enum {
    KEY_NUMBER_MAX = 9999,
    KEY_TEXT_BYTES_MAX = 4096,
    PLAIN_MEMBERS_MAX = 8,
};

/* --- keys ------------------------------------------------------------------------------------- */

void auth_tenant_key_make(struct bk_key_source *source, struct bk_slice instance_key,
                          struct bk_slice tenant, uint32_t number) {
    uint8_t key[BK_KEY_BYTES];
    struct bk_buffer text;
    bk_buffer_init(&text, KEY_TEXT_BYTES_MAX);
    bk_buffer_format(&text, "bakend tenant key %u of ", number);
    bk_buffer_append_slice(&text, tenant);
    bk_buffer_insist(&text);
    bk_derive_key(key, instance_key, bk_buffer_slice(&text));
    bk_key_source_init(source, bk_slice_make((const char *)key, sizeof(key)));
    bk_crypto_wipe(key, sizeof(key));
    bk_buffer_fini(&text);
}

static void derive_signing_key(uint8_t key[BK_KEY_BYTES], const struct bk_key_source *tenant_key,
                               const struct auth_secrets *secrets) {
    struct bk_buffer text;
    bk_buffer_init(&text, KEY_TEXT_BYTES_MAX);
    /* Lengths go in too: no two pairs of secrets give the same text. */
    bk_buffer_append_literal(&text, "bakend token ");
    bk_buffer_append_int(&text, (int64_t)secrets->collection_secret.length);
    bk_buffer_append_char(&text, ' ');
    bk_buffer_append_int(&text, (int64_t)secrets->token_key.length);
    bk_buffer_append_char(&text, ' ');
    bk_buffer_append_slice(&text, secrets->collection_secret);
    bk_buffer_append_slice(&text, secrets->token_key);
    bk_buffer_insist(&text);
    bk_key_source_derive(tenant_key, key, bk_buffer_slice(&text));
    bk_crypto_wipe(text.data, text.length);
    bk_buffer_fini(&text);
}

static void sign(uint8_t mac[BK_SHA256_BYTES], struct bk_slice signed_part,
                 const struct auth_claims *claims, const struct auth_secrets *secrets) {
    uint8_t key[BK_KEY_BYTES];
    if (secrets->tenant_key != NULL) {
        derive_signing_key(key, secrets->tenant_key, secrets);
    } else {
        struct bk_key_source made;
        auth_tenant_key_make(&made, secrets->instance_key, claims->tenant, claims->key_number);
        derive_signing_key(key, &made, secrets);
        bk_crypto_wipe(&made, sizeof(made));
    }
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

/* One part of a token, decoded, in one piece. */
struct part {
    struct bk_json object, members[PLAIN_MEMBERS_MAX];
    char text[];
};

static bool is_next(struct bk_slice *rest, char c) {
    if (rest->length == 0 || *rest->data != c)
        return false;
    *rest = bk_slice_make(rest->data + 1, rest->length - 1);
    return true;
}

static struct bk_slice take(struct bk_slice *rest, size_t length) {
    struct bk_slice taken = bk_slice_make(rest->data, length);
    *rest = bk_slice_make(rest->data + length, rest->length - length);
    return taken;
}

/* A string that stands for itself: ASCII without an escape. */
static bool take_string(struct bk_slice *rest, struct bk_slice *string) {
    size_t length = 0;
    if (!is_next(rest, '"'))
        return false;
    while (length < rest->length && rest->data[length] >= ' ' && rest->data[length] <= '~' &&
           rest->data[length] != '"' && rest->data[length] != '\\')
        length++;
    *string = take(rest, length);
    return is_next(rest, '"');
}

static bool take_number(struct bk_slice *rest, struct bk_slice *text) {
    size_t length = 0;
    while (length < rest->length && rest->data[length] >= '0' && rest->data[length] <= '9')
        length++;
    *text = take(rest, length);
    return length == 1 || (length > 1 && text->data[0] != '0');
}

static bool take_value(struct bk_slice *rest, struct bk_json *value) {
    if (rest->length > 0 && *rest->data == '"') {
        value->type = BK_JSON_STRING;
        return take_string(rest, &value->string);
    }
    value->boolean = bk_slice_starts_with(*rest, BK_SLICE("true"));
    if (value->boolean || bk_slice_starts_with(*rest, BK_SLICE("false"))) {
        value->type = BK_JSON_BOOL;
        (void)take(rest, value->boolean ? 4 : 5);
        return true;
    }
    value->type = BK_JSON_NUMBER;
    return take_number(rest, &value->text);
}

/* An object as it is written above, read many times faster than any. Whatever is not told for
 * certain is left to the parser: both read the same or this one nothing. */
static bool read_plain(struct part *part, size_t length) {
    struct bk_slice rest = bk_slice_make(part->text, length);
    struct bk_json **next = &part->object.child;
    part->object = (struct bk_json){.type = BK_JSON_OBJECT};
    if (!is_next(&rest, '{'))
        return false;
    do {
        struct bk_json *member = &part->members[part->object.child_count];
        struct bk_slice key;
        if (part->object.child_count == PLAIN_MEMBERS_MAX || !take_string(&rest, &key) ||
            !is_next(&rest, ':') || bk_json_get(&part->object, key) != NULL)
            return false;
        *member = (struct bk_json){.key = key};
        if (!take_value(&rest, member))
            return false;
        *next = member;
        next = &member->next;
        part->object.child_count++;
    } while (is_next(&rest, ','));
    return is_next(&rest, '}') && rest.length == 0;
}

static const struct bk_json *read_part(struct bk_arena *arena, struct bk_slice encoded) {
    size_t length = encoded.length;
    struct part *part = bk_arena_alloc(arena, sizeof(*part) + length);
    struct bk_json *json;
    if (part == NULL || !bk_base64url_decode(encoded, part->text, &length))
        return NULL;
    if (read_plain(part, length))
        return &part->object;
    if (bk_json_parse(arena, bk_slice_make(part->text, length), &json, NULL) != BK_OK ||
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
