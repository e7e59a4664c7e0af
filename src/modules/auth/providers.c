/*
 * OAuth2 providers, as far as a client begins with them: where it sends people to sign in, and with
 * which scopes. State and code verifier are made for each asking, the client keeps them, and the
 * challenge (RFC 7636, S256) is what the provider sees. The address ends in an empty redirect_uri,
 * behind which the client puts its own. Logos are the client's to draw: that member is empty.
 */
#include "auth.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"
#include "bakend/id.h"

enum { STATE_BYTES = 30, VERIFIER_BYTES = 43, URL_BYTES_MAX = 64 * 1024 };

struct provider {
    const char *name, *display_name, *auth_url, *scopes;
    bool lacks_pkce; /* it refuses what it does not know */
};

static const struct provider providers[] = {
    {"apple", "Apple", "https://appleid.apple.com/auth/authorize", "name email", false},
    {"bitbucket", "Bitbucket", "https://bitbucket.org/site/oauth2/authorize", "account", true},
    {"box", "Box", "https://account.box.com/api/oauth2/authorize", "root_readonly", false},
    {"discord", "Discord", "https://discord.com/api/oauth2/authorize", "identify email", false},
    {"facebook", "Facebook", "https://www.facebook.com/v3.2/dialog/oauth", "email", false},
    {"gitea", "Gitea/Forgejo", "https://gitea.com/login/oauth/authorize", "read:user user:email",
     false},
    {"gitee", "Gitee", "https://gitee.com/oauth/authorize", "user_info emails", false},
    {"github", "GitHub", "https://github.com/login/oauth/authorize", "read:user user:email", false},
    {"gitlab", "GitLab", "https://gitlab.com/oauth/authorize", "read_user", false},
    {"google", "Google", "https://accounts.google.com/o/oauth2/v2/auth",
     "https://www.googleapis.com/auth/userinfo.profile "
     "https://www.googleapis.com/auth/userinfo.email",
     false},
    {"instagram2", "Instagram", "https://www.instagram.com/oauth/authorize",
     "instagram_business_basic", false},
    {"kakao", "Kakao", "https://kauth.kakao.com/oauth/authorize",
     "account_email profile_nickname profile_image", false},
    {"lark", "Lark", "https://accounts.feishu.cn/open-apis/authen/v1/authorize", "", false},
    {"linear", "Linear", "https://linear.app/oauth/authorize", "read", true},
    {"livechat", "LiveChat", "https://accounts.livechat.com/", "", false},
    {"mailcow", "mailcow", "", "profile", false},
    {"microsoft", "Microsoft", "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
     "User.Read", false},
    {"monday", "monday.com", "https://auth.monday.com/oauth2/authorize", "me:read", false},
    {"notion", "Notion", "https://api.notion.com/v1/oauth/authorize", "", false},
    {"oidc", "OIDC", "", "openid email profile", false},
    {"oidc2", "OIDC", "", "openid email profile", false},
    {"oidc3", "OIDC", "", "openid email profile", false},
    {"patreon", "Patreon", "https://www.patreon.com/oauth2/authorize", "identity identity[email]",
     false},
    {"planningcenter", "Planning Center", "https://api.planningcenteronline.com/oauth/authorize",
     "people", false},
    {"spotify", "Spotify", "https://accounts.spotify.com/authorize", "user-read-private", false},
    {"strava", "Strava", "https://www.strava.com/oauth/authorize", "profile:read_all", false},
    {"trakt", "Trakt", "https://trakt.tv/oauth/authorize", "", false},
    {"twitch", "Twitch", "https://id.twitch.tv/oauth2/authorize", "user:read:email", false},
    {"twitter", "X/Twitter", "https://x.com/i/oauth2/authorize",
     "users.read users.email tweet.read", false},
    {"vk", "ВКонтакте", "https://oauth.vk.com/authorize", "email", true},
    {"wakatime", "WakaTime", "https://wakatime.com/oauth/authorize", "email", false},
    {"yandex", "Yandex", "https://oauth.yandex.com/authorize",
     "login:email login:avatar login:info", false},
};

/* What a client gets of one. */
struct offer {
    struct bk_slice name, display_name;
    char state[STATE_BYTES];
    bool has_pkce;
    char verifier[VERIFIER_BYTES], challenge[BK_BASE64URL_BYTES(BK_SHA256_BYTES)];
    struct bk_buffer url;
};

static const struct provider *find(struct bk_slice name) {
    for (size_t i = 0; i < BK_COUNT_OF(providers); i++)
        if (bk_slice_equal(name, bk_slice_from(providers[i].name)))
            return &providers[i];
    return NULL;
}

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
static void build_url(struct offer *offer, const struct provider *provider,
                      const struct bk_json *config) {
    struct bk_buffer *url = &offer->url;
    struct bk_slice base = bk_json_get_string(config, BK_SLICE("authURL"));
    if (base.length == 0)
        base = bk_slice_from(provider->auth_url);
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
    append_query(url, "&state", bk_slice_make(offer->state, sizeof offer->state));
    bk_buffer_append_literal(url, "&redirect_uri=");
}

static void make_offer(struct offer *offer, const struct provider *provider,
                       const struct bk_json *config) {
    static const struct bk_slice letters =
        BK_SLICE_INIT("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    const struct bk_json *pkce = bk_json_get(config, BK_SLICE("pkce"));
    uint8_t digest[BK_SHA256_BYTES];
    offer->name = bk_slice_from(provider->name);
    offer->display_name = bk_json_get_string(config, BK_SLICE("displayName"));
    if (offer->display_name.length == 0)
        offer->display_name = bk_slice_from(provider->display_name);
    offer->has_pkce =
        pkce != NULL && pkce->type == BK_JSON_BOOL ? pkce->boolean : !provider->lacks_pkce;
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
        const struct provider *provider = find(bk_json_get_string(config, BK_SLICE("name")));
        if (provider == NULL)
            continue;
        struct offer offer;
        make_offer(&offer, provider, config);
        write_offer(&offer, out);
        bk_buffer_fini(&offer.url);
    }
    bk_buffer_append_char(out, ']');
}
