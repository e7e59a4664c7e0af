/*
 * OAuth2 providers, as far as a client begins with them: where it sends people to sign in, and with
 * which scopes. State and code verifier are made for each asking, the client keeps them, and the
 * challenge (RFC 7636, S256) is what the provider sees. The address ends in an empty redirect_uri,
 * behind which the client puts its own. Logos are the client's to draw: that member is empty.
 */
#include "bakend/crypto.h"
#include "bakend/encode.h"
#include "oauth2.h"

enum { STATE_BYTES = 30, VERIFIER_BYTES = 43, URL_BYTES_MAX = 64 * 1024 };

/* What a client gets of one. */
struct offer {
    struct bk_slice name, display_name;
    char state[STATE_BYTES];
    bool has_pkce;
    char verifier[VERIFIER_BYTES], challenge[BK_BASE64URL_BYTES(BK_SHA256_BYTES)];
    struct bk_buffer url;
};

/* As in a form: words with a plus between them. */
static void append_query(struct bk_buffer *out, const char *name, struct bk_slice text) {
    struct bk_slice word;
    bool is_first = true;
    bk_buffer_format(out, "%s=", name);
    while (bk_slice_split(&text, ' ', &word)) {
        if (!is_first)
            bk_buffer_append_char(out, '+');
        is_first = false;
        bk_percent_encode(out, word);
    }
}

/* The parameters in the order of their names. */
static void build_url(struct offer *offer, const struct oauth2_provider *provider,
                      const struct bk_json *config) {
    struct bk_buffer *url = &offer->url;
    struct bk_slice base = auth_oauth2_url(config, "authURL", provider->auth_url);
    bk_buffer_append_slice(url, base);
    bk_buffer_append_char(url, bk_slice_find(base, '?') == base.length ? '?' : '&');
    append_query(url, "client_id", bk_json_get_string(config, BK_SLICE("clientId")));
    if (offer->has_pkce) {
        append_query(url, "&code_challenge",
                     bk_slice_make(offer->challenge, sizeof offer->challenge));
        append_query(url, "&code_challenge_method", BK_SLICE("S256"));
    }
    if (bk_slice_is(offer->name, "apple"))
        append_query(url, "&response_mode", BK_SLICE("form_post"));
    append_query(url, "&response_type", BK_SLICE("code"));
    if (provider->scopes[0] != '\0')
        append_query(url, "&scope", bk_slice_from(provider->scopes));
    /* An id_token takes a scope of its own. */
    if (bk_slice_is(offer->name, "microsoft") &&
        auth_oauth2_text(auth_oauth2_extra(config, "idTokenEmailClaim")).length > 0)
        bk_buffer_append_literal(url, "+openid");
    append_query(url, "&state", bk_slice_make(offer->state, sizeof offer->state));
    bk_buffer_append_literal(url, "&redirect_uri=");
}

static void make_offer(struct offer *offer, const struct oauth2_provider *provider,
                       const struct bk_json *config) {
    static const struct bk_slice letters =
        BK_SLICE_INIT("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    uint8_t digest[BK_SHA256_BYTES];
    offer->name = bk_slice_from(provider->name);
    offer->display_name = bk_json_get_string(config, BK_SLICE("displayName"));
    if (offer->display_name.length == 0)
        offer->display_name = bk_slice_from(provider->display_name);
    offer->has_pkce = auth_oauth2_has_pkce(provider, config);
    bk_random_text(offer->state, sizeof offer->state, letters);
    bk_random_text(offer->verifier, sizeof offer->verifier, letters);
    bk_sha256(digest, bk_slice_make(offer->verifier, sizeof offer->verifier));
    bk_base64url_encode(offer->challenge, digest, sizeof digest);
    bk_buffer_init(&offer->url, URL_BYTES_MAX);
    build_url(offer, provider, config);
}

static void write_offer(const struct offer *offer, struct bk_buffer *out) {
    struct bk_slice url = bk_buffer_slice(&offer->url), none = BK_SLICE("");
    bk_json_write_separator(out);
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("name"), offer->name);
    bk_json_write_member_string(out, BK_SLICE("displayName"), offer->display_name);
    bk_json_write_member_string(out, BK_SLICE("logo"), none);
    bk_json_write_member_string(out, BK_SLICE("state"),
                                bk_slice_make(offer->state, sizeof offer->state));
    bk_json_write_member_string(out, BK_SLICE("authURL"), url);
    bk_json_write_member_string(out, BK_SLICE("authUrl"), url);
    bk_json_write_member_string(
        out, BK_SLICE("codeVerifier"),
        offer->has_pkce ? bk_slice_make(offer->verifier, sizeof offer->verifier) : none);
    bk_json_write_member_string(
        out, BK_SLICE("codeChallenge"),
        offer->has_pkce ? bk_slice_make(offer->challenge, sizeof offer->challenge) : none);
    bk_json_write_member_string(out, BK_SLICE("codeChallengeMethod"),
                                offer->has_pkce ? BK_SLICE("S256") : none);
    bk_buffer_append_char(out, '}');
}

void auth_providers_write(const struct bk_collection *collection, struct bk_buffer *out) {
    const struct bk_json *configured = auth_option(collection, "oauth2", "providers");
    bool is_on = auth_option_is_on(collection, "oauth2", "enabled");
    bk_buffer_append_char(out, '[');
    for (const struct bk_json *config = is_on && configured != NULL ? configured->child : NULL;
         config != NULL; config = config->next) {
        const struct oauth2_provider *provider =
            auth_oauth2_provider_find(bk_json_get_string(config, BK_SLICE("name")));
        if (provider == NULL)
            continue;
        struct offer offer;
        make_offer(&offer, provider, config);
        write_offer(&offer, out);
        bk_buffer_fini(&offer.url);
    }
    bk_buffer_append_char(out, ']');
}
