/* What the files of OAuth2 share; oauth2.c has the whole in words. */
#ifndef AUTH_OAUTH2_H
#define AUTH_OAUTH2_H

#include "auth.h"

enum { OAUTH2_SCOPES_BYTES_MAX = 256 };

/* --- providers.c ------------------------------------------------------------------------------ */

struct oauth2_user;
struct oauth2_reading;

/* Where a provider's answer says what: names of members divided by dots, a place in a list by its
 * number: "data.0.id". */
struct oauth2_paths {
    const char *id;
    const char *name; /* two of them divided by a blank: both */
    const char *username, *avatar, *email;
    const char *verified; /* all of these, divided by blanks, must be true for the address to count;
                             NULL: the provider tells of none that it has not verified */
    const char *active;   /* "status=active": what must be so, or nobody signs in; NULL: nothing */
};

struct oauth2_header {
    const char *name, *value; /* NULL: the client's id */
};

struct oauth2_provider {
    const char *name, *display_name, *scopes;
    const char *auth_url, *token_url, *user_url; /* NULL: the collection says it */
    struct oauth2_paths paths;
    const char *emails_url; /* of a list of addresses; "/emails": behind that of the user */
    const char *query;      /* GraphQL, posted to user_url; NULL: it is got */
    struct oauth2_header headers[2]; /* that getting the user takes, too */
    const char *issuer;              /* of its id_token; NULL: the collection may say it */
    bool lacks_pkce;                 /* it refuses what it does not know */
    bool takes_secret_in_body;       /* and not, or not surely, in the Authorization header */
    bool has_id_token;               /* OpenID Connect: who it is stands there without a user_url */
    bool email_is_in_token;          /* it is told with the token */
    /* What is peculiar; NULL: nothing. */
    void (*finish)(struct oauth2_reading *reading);
};

/* NULL: there is none of this name. */
const struct oauth2_provider *auth_oauth2_provider_find(struct bk_slice name);
/* What a collection has configured of the provider of this name; NULL: nothing. */
const struct bk_json *auth_oauth2_config_find(const struct bk_collection *collection,
                                              struct bk_slice name);
/* "authURL" of it, or what the provider has; may be empty. */
struct bk_slice auth_oauth2_url(const struct bk_json *config, const char *member, const char *own);
bool auth_oauth2_has_pkce(const struct oauth2_provider *provider, const struct bk_json *config);
/* An option of `extra`; NULL: it has none. */
const struct bk_json *auth_oauth2_extra(const struct bk_json *config, const char *name);

/* --- oauth2_user.c ---------------------------------------------------------------------------- */

/* Who somebody is at a provider. */
struct oauth2_user {
    struct bk_slice id, name, username, avatar;
    struct bk_slice email; /* as it was told; of use only when it was verified */
    bool is_email_verified;
    struct bk_slice raw; /* JSON: all that the provider says */
    struct bk_slice access_token, refresh_token;
    int64_t expires_ms; /* of the access token, wall time; 0: not told */
};

/* One reading of an answer. raw and claims live shorter than what is read of them. */
struct oauth2_reading {
    const struct oauth2_provider *provider;
    const struct bk_json *config;
    const struct bk_json *raw;
    const struct bk_json *claims; /* of an id_token; NULL: there was none */
    struct bk_arena *arena;       /* of the texts of user */
    struct oauth2_user *user;
};
/* NULL, or why it is nobody who may sign in. */
const char *auth_oauth2_user_read(struct oauth2_reading *reading);
/* The address of a list of them that is verified and the main one; empty: none. */
struct bk_slice auth_oauth2_emails_read(const struct bk_json *list, struct bk_arena *arena);
/* Texts are those of strings, numbers and booleans; of anything else empty. */
const struct bk_json *auth_oauth2_member(const struct bk_json *json, const char *path);
struct bk_slice auth_oauth2_text(const struct bk_json *json);
/* true, "true", 1, "1", or the time at which it became so. */
bool auth_oauth2_is_true(const struct bk_json *json);
/* The peculiar. */
void auth_oauth2_finish_discord(struct oauth2_reading *reading);
void auth_oauth2_finish_mailcow(struct oauth2_reading *reading);
void auth_oauth2_finish_microsoft(struct oauth2_reading *reading);
void auth_oauth2_finish_wakatime(struct oauth2_reading *reading);
void auth_oauth2_finish_yandex(struct oauth2_reading *reading);

/* --- oidc.c: what an id_token says ------------------------------------------------------------ */

struct oidc_expected {
    struct bk_slice client_id;
    const char *issuer;            /* NULL: any of issuers */
    const struct bk_json *issuers; /* a list, or one text; NULL: whoever has the token endpoint */
    int64_t now_s;
};
/* The claims, in the arena; NULL with a reason. */
const struct bk_json *auth_oidc_claims_read(struct bk_arena *arena, struct bk_slice id_token,
                                            const struct oidc_expected *expected,
                                            const char **reason);

/* --- oauth2_exchange.c: from a code to a user ------------------------------------------------- */

enum { OAUTH2_HEADERS_MAX = 6 };

/* Embed it, zeroed. */
struct oauth2_exchange {
    /* The caller's, borrowed until done. */
    struct auth_oauth2 *oauth2;
    struct bk_arena *arena;
    struct bk_slice tenant;
    const struct oauth2_provider *provider;
    const struct bk_json *config;
    struct bk_slice code, verifier, redirect_url;
    void (*done)(struct oauth2_exchange *exchange);
    /* How it went: BK_OK; BK_BUSY, BK_CLOSING: nobody was asked; BK_INVALID: see message. */
    enum bk_status status;
    const char *message; /* for the client */
    struct oauth2_user user;
    /* Its own. */
    enum { OAUTH2_TOKEN, OAUTH2_USER, OAUTH2_EMAILS } step;
    bool is_secret_in_body, is_second; /* of the ways to say the secret */
    struct bk_slice id_token, token_email;
    struct bk_outbound_request request;
    struct bk_outbound_header headers[OAUTH2_HEADERS_MAX];
    size_t header_count;
};
/* BK_OK: done comes once, never before this returns. */
enum bk_status auth_oauth2_exchange_start(struct oauth2_exchange *exchange);

/* --- oauth2_account.c: whose record it is ----------------------------------------------------- */

struct oauth2_account {
    /* The caller's. */
    const struct bk_schema *schema;
    const struct bk_collection *collection;
    const char *provider;
    const struct oauth2_user *user;
    struct bk_slice own_id; /* of the record of this collection that asks; empty: none */
    struct bk_arena *arena;
    /* Found. */
    struct auth_credentials found;
    bool is_linked, is_own;
    struct bk_slice username; /* that a new record may have; empty: none */
};
/* Any thread that has the connection. BK_NOT_FOUND: nobody has it yet. */
enum bk_status auth_oauth2_account_find(struct oauth2_account *account,
                                        struct bk_connection *connection);
/* Whether the record is as it is to be: linked, with all that the provider vouches for. */
bool auth_oauth2_account_is_settled(const struct oauth2_account *account);
/* On the writer: finds it anew and makes it so. */
enum bk_status auth_oauth2_account_settle(struct oauth2_account *account,
                                          struct bk_transaction *transaction);
/* On the writer: links a record. BK_CONFLICT: it, or somebody else, is linked already. */
enum bk_status auth_oauth2_account_link(const struct oauth2_account *account,
                                        struct bk_transaction *transaction, struct bk_slice id);

/* --- oauth2_redirect.c ------------------------------------------------------------------------ */

enum { OAUTH2_NAMES_MAX = 64, OAUTH2_NAME_BYTES_MAX = 150 };

/* Apple tells a name once, to the redirect; who comes with the code gets it. */
struct oauth2_name {
    uint8_t code[32]; /* SHA-256 of it */
    uint64_t expires_ms;
    uint32_t length; /* 0: free */
    char text[OAUTH2_NAME_BYTES_MAX];
};

struct auth_oauth2 {
    struct bk_module_context *context;
    struct bk_outbound_channel *channel; /* NULL: not started, or stopping */
    struct oauth2_name names[OAUTH2_NAMES_MAX];
    uint32_t next_name;
};
/* A copy in the arena, and it is forgotten here; empty: none. */
struct bk_slice auth_oauth2_name_take(struct auth_oauth2 *oauth2, struct bk_slice code,
                                      struct bk_arena *arena);

#endif
