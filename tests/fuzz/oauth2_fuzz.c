/*
 * What providers of OAuth2 answer.
 *
 * The input's first character says what the rest is:
 *
 *   u   the name of a provider, on a line, and what it says of somebody, JSON
 *   e   a list of addresses, JSON
 *   i   an id_token
 *   c   the JSON of its header and that of its claims, a line each
 *
 * Whatever it is: who signs in has an id, and no address counts that is not there; texts are those
 * of the answer, in UTF-8; a token is refused with a reason, or it is for us, by whom we know, and
 * its time is not over.
 */
#include "fuzz.h"

#include "bakend/encode.h"
#include "modules/auth/oauth2.h"

enum { ARENA_BYTES_MAX = 4 * 1024 * 1024, ANSWER_BYTES_MAX = 256 * 1024 };
static const int64_t now_s = 1795348023, leeway_s = 300;

static struct bk_json *parse(struct bk_arena *arena, struct bk_slice text) {
    struct bk_json *json = NULL;
    bool is_json = bk_json_parse(arena, text, &json, NULL) == BK_OK;
    return is_json ? json : NULL;
}

static struct bk_json *parse_text(struct bk_arena *arena, const char *text) {
    return parse(arena, bk_slice_from(text));
}

/* --- the user --------------------------------------------------------------------------------- */

static void check_user(const struct oauth2_user *user) {
    const struct bk_slice texts[] = {user->id, user->name, user->username, user->avatar,
                                     user->email};
    BK_ASSERT(user->id.length > 0 && user->raw.length > 0);
    BK_ASSERT(!user->is_email_verified || user->email.length > 0);
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++)
        BK_ASSERT(bk_slice_is_utf8(texts[i]));
}

static void read_user(struct oauth2_reading *reading, const char *config) {
    struct oauth2_user user = {.expires_ms = 0};
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    reading->config = parse_text(&arena, config);
    reading->arena = &arena;
    reading->user = &user;
    if (auth_oauth2_user_read(reading) == NULL && bk_arena_status(&arena) == BK_OK)
        check_user(&user);
    bk_arena_fini(&arena);
}

static void fuzz_user(struct bk_slice rest) {
    static const char *const configs[] = {"{}",
                                          "{\"extra\":{\"idTokenEmailClaim\":\"any_verified\"}}",
                                          "{\"tokenURL\":\"https://example.com/one/token\"}"};
    const struct oauth2_provider *provider = auth_oauth2_provider_find(fuzz_take(&rest, '\n'));
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    const struct bk_json *raw = parse(&arena, rest);
    if (provider != NULL && raw != NULL && raw->type == BK_JSON_OBJECT)
        for (size_t i = 0; i < BK_COUNT_OF(configs); i++) {
            struct oauth2_reading reading = {.provider = provider, .raw = raw, .claims = raw};
            read_user(&reading, configs[i]);
        }
    bk_arena_fini(&arena);
}

static void fuzz_emails(struct bk_slice text) {
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    const struct bk_json *list = parse(&arena, text);
    if (list != NULL)
        BK_ASSERT(bk_slice_is_utf8(auth_oauth2_emails_read(list, &arena)));
    bk_arena_fini(&arena);
}

/* --- the id_token ----------------------------------------------------------------------------- */

static bool has_text(const struct bk_json *list_or_text, const char *text) {
    if (list_or_text == NULL)
        return false;
    if (list_or_text->type == BK_JSON_STRING)
        return bk_slice_equal(list_or_text->string, bk_slice_from(text));
    for (const struct bk_json *item = list_or_text->child; item != NULL; item = item->next)
        if (item->type == BK_JSON_STRING && bk_slice_equal(item->string, bk_slice_from(text)))
            return true;
    return false;
}

static void check_claims(const struct bk_json *claims, const struct oidc_expected *expected) {
    const struct bk_json *audience = bk_json_get(claims, BK_SLICE("aud"));
    struct bk_slice issuer = bk_json_get_string(claims, BK_SLICE("iss"));
    double expires = 0;
    BK_ASSERT(has_text(audience, "client"));
    if (audience->child_count > 1)
        BK_ASSERT(bk_slice_is(bk_json_get_string(claims, BK_SLICE("azp")), "client"));
    BK_ASSERT(bk_json_to_double(bk_json_get(claims, BK_SLICE("exp")), &expires) &&
              expires > (double)(now_s - leeway_s));
    BK_ASSERT(issuer.length > 0);
    if (expected->issuer != NULL || expected->issuers != NULL)
        BK_ASSERT(bk_slice_is(issuer, "https://a") ||
                  (expected->issuer == NULL && bk_slice_is(issuer, "https://b")));
}

static void fuzz_id_token(struct bk_slice id_token) {
    static const char *const issuers[] = {"[\"https://a\",\"https://b\"]", "\"https://b\"", NULL};
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    for (size_t i = 0; i <= BK_COUNT_OF(issuers); i++) {
        struct oidc_expected expected = {.client_id = BK_SLICE("client"), .now_s = now_s};
        const char *reason = NULL;
        if (i == BK_COUNT_OF(issuers))
            expected.issuer = "https://a";
        else if (issuers[i] != NULL)
            expected.issuers = parse_text(&arena, issuers[i]);
        const struct bk_json *claims = auth_oidc_claims_read(&arena, id_token, &expected, &reason);
        BK_ASSERT((claims == NULL) == (reason != NULL));
        if (claims != NULL)
            check_claims(claims, &expected);
    }
    bk_arena_fini(&arena);
}

static void append_part(struct bk_buffer *out, struct bk_slice json) {
    if (json.length > 0 && bk_buffer_reserve(out, BK_BASE64URL_BYTES(json.length)))
        out->length += bk_base64url_encode(out->data + out->length, json.data, json.length);
    bk_buffer_append_char(out, '.');
}

static void fuzz_claims(struct bk_slice rest) {
    struct bk_buffer token;
    bk_buffer_init(&token, ANSWER_BYTES_MAX);
    append_part(&token, fuzz_take(&rest, '\n'));
    append_part(&token, fuzz_take(&rest, '\n'));
    if (bk_buffer_status(&token) == BK_OK)
        fuzz_id_token(bk_buffer_slice(&token));
    bk_buffer_fini(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy = fuzz_copy(data, size);
    struct bk_slice rest = bk_slice_make(copy.data + 1, size > 0 ? size - 1 : 0);
    switch (size > 0 ? data[0] : '\0') {
    case 'u':
        fuzz_user(rest);
        break;
    case 'e':
        fuzz_emails(rest);
        break;
    case 'i':
        fuzz_id_token(rest);
        break;
    case 'c':
        fuzz_claims(rest);
        break;
    default:
        break;
    }
    fuzz_free(copy);
    return 0;
}
