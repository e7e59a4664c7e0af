/*
 * The id_token of OpenID Connect (Core 1.0, 3.1.3.7), as it comes from the token endpoint: the
 * connection to it says who has issued it, so the signature is not looked at (item 6 there allows
 * that), but all that it says is: for whom it was issued, by whom where that is known, and until
 * when. A token that names no end, or says that it was not signed, is none.
 */
#include "bakend/encode.h"
#include "oauth2.h"

enum { LEEWAY_S = 300, TOKEN_BYTES_MAX = 64 * 1024 };

/* --- reading ---------------------------------------------------------------------------------- */

static const struct bk_json *read_part(struct bk_arena *arena, struct bk_slice part) {
    size_t length = part.length;
    char *text = bk_arena_alloc(arena, length + 1);
    struct bk_json *json;
    if (text == NULL || !bk_base64url_decode(part, text, &length) ||
        bk_json_parse(arena, bk_slice_make(text, length), &json, NULL) != BK_OK ||
        json->type != BK_JSON_OBJECT)
        return NULL;
    return json;
}

/* NULL: it is no JSON Web Token of three parts. */
static const struct bk_json *read_claims(struct bk_arena *arena, struct bk_slice id_token) {
    struct bk_slice rest = id_token, parts[3], more;
    if (id_token.length > TOKEN_BYTES_MAX)
        return NULL;
    for (size_t i = 0; i < BK_COUNT_OF(parts); i++)
        if (!bk_slice_split(&rest, '.', &parts[i]))
            return NULL;
    if (bk_slice_split(&rest, '.', &more))
        return NULL;
    const struct bk_json *header = read_part(arena, parts[0]);
    struct bk_slice algorithm = bk_json_get_string(header, BK_SLICE("alg"));
    if (algorithm.length == 0 || bk_slice_equal_ignore_case(algorithm, BK_SLICE("none")))
        return NULL;
    return read_part(arena, parts[1]);
}

/* --- judging ---------------------------------------------------------------------------------- */

static bool has_text(const struct bk_json *list_or_text, struct bk_slice text) {
    if (list_or_text == NULL || text.length == 0)
        return false;
    if (list_or_text->type == BK_JSON_STRING)
        return bk_slice_equal(list_or_text->string, text);
    for (const struct bk_json *item = list_or_text->child; item != NULL; item = item->next)
        if (item->type == BK_JSON_STRING && bk_slice_equal(item->string, text))
            return true;
    return false;
}

/* One that is for several says which of them has asked for it. */
static bool is_for(const struct bk_json *claims, struct bk_slice client_id) {
    const struct bk_json *audience = bk_json_get(claims, BK_SLICE("aud"));
    if (!has_text(audience, client_id))
        return false;
    return audience->type == BK_JSON_STRING || audience->child_count == 1 ||
           bk_slice_equal(bk_json_get_string(claims, BK_SLICE("azp")), client_id);
}

static bool is_by(const struct bk_json *claims, const struct oidc_expected *expected) {
    struct bk_slice issuer = bk_json_get_string(claims, BK_SLICE("iss"));
    if (expected->issuer != NULL)
        return bk_slice_equal(issuer, bk_slice_from(expected->issuer));
    bool is_known = expected->issuers != NULL && expected->issuers->type != BK_JSON_NULL;
    return is_known ? has_text(expected->issuers, issuer) : issuer.length > 0;
}

/* Seconds with a fraction count without it. False: it is there and no time. */
static bool read_time(const struct bk_json *claims, struct bk_slice name, bool *is_there,
                      int64_t *seconds) {
    const struct bk_json *claim = bk_json_get(claims, name);
    double number;
    *is_there = claim != NULL;
    if (claim == NULL || bk_json_to_int64(claim, seconds))
        return true;
    if (!bk_json_to_double(claim, &number) || number < 0 || number > 1e15)
        return false;
    *seconds = (int64_t)number;
    return true;
}

static const char *judge_times(const struct bk_json *claims, int64_t now_s) {
    static const struct bk_slice begins[] = {BK_SLICE_INIT("iat"), BK_SLICE_INIT("nbf")};
    bool is_there;
    int64_t seconds = 0;
    if (!read_time(claims, BK_SLICE("exp"), &is_there, &seconds) || !is_there)
        return "the id_token has no end";
    if (seconds <= now_s - LEEWAY_S)
        return "the id_token has expired";
    for (size_t i = 0; i < BK_COUNT_OF(begins); i++)
        if (!read_time(claims, begins[i], &is_there, &seconds) ||
            (is_there && seconds > now_s + LEEWAY_S))
            return "the id_token is of the future";
    return NULL;
}

const struct bk_json *auth_oidc_claims_read(struct bk_arena *arena, struct bk_slice id_token,
                                            const struct oidc_expected *expected,
                                            const char **reason) {
    const struct bk_json *claims = read_claims(arena, id_token);
    if (claims == NULL)
        *reason = "the id_token cannot be read";
    else if (!is_by(claims, expected))
        *reason = "the id_token is of another issuer";
    else if (!is_for(claims, expected->client_id))
        *reason = "the id_token is for another client";
    else
        *reason = judge_times(claims, expected->now_s);
    return *reason == NULL ? claims : NULL;
}
