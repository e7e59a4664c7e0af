/* What the files of this module share. */
#ifndef AUTH_H
#define AUTH_H

#include "bakend/map.h"
#include "bakend/module.h"
#include "bakend/show.h"
#include "bakend/thread.h"

enum {
    AUTH_TOKEN_BYTES_MAX = 4096,
    AUTH_TOKEN_KEY_BYTES_MAX = 256,
    AUTH_PASSWORD_CHARACTERS_MAX = 71, /* the contract's */
};
/* Of a superuser's token for another record: a hundred years. */
#define AUTH_TOKEN_SECONDS_MAX INT64_C(3155760000)

struct auth_options {
    int64_t password_threads, password_queue_max, token_cache_max;
};

/* Tokens that were verified before, so that a check costs a look-up; see token_cache.c. */
struct auth_cache {
    struct bk_map by_token;
    struct bk_map by_label; /* to the first of a record's tokens; the others hang on its `same` */
    struct bk_list by_age;  /* the one used longest ago first */
    uint32_t count, count_max;
    uint64_t hits, misses;
};

/* The field type `password`: hashes in the pool before the write. */
struct auth_password_type {
    struct bk_field_type type;
    struct bk_pool *pool;
};

/* A subscription that makes tokens of the cache stale. */
struct auth_invalidation {
    struct bk_subscription subscription;
    struct auth_state *state;
};

enum { AUTH_INVALIDATION_COUNT = 3 };

struct auth_state {
    struct bk_module_context *context;
    struct bk_pool *pool; /* Argon2id, bounded */
    struct auth_password_type password;
    struct auth_cache cache;
    struct bk_authenticator authenticator;
    struct auth_invalidation invalidations[AUTH_INVALIDATION_COUNT];
    struct bk_metrics_source metrics;
    uint64_t logins, logins_failed;
    char peeked_tenant[BK_TENANT_NAME_BYTES_MAX]; /* of the token looked at last */
};

/* --- collections.c ---- */
enum { AUTH_COLLECTION_COUNT = 6 };
extern const struct bk_system_collection auth_collections[AUTH_COLLECTION_COUNT];

/* --- password_type.c ---- */
void auth_password_type_init(struct auth_password_type *password, struct bk_pool *pool);

/* --- token.c ---- */

/* The claims of a token, JWT's and the contract's. Slices borrow. */
struct auth_claims {
    struct bk_slice tenant; /* of the header's kid */
    uint32_t key_number;    /* likewise */
    struct bk_slice id, collection_id, type;
    struct bk_slice session; /* sid; empty: none */
    bool is_refreshable;
    int64_t expires_s; /* seconds since 1970 */
};
/* Appends the token. secrets: what a change of revokes it. */
struct auth_secrets {
    struct bk_slice instance_key, collection_secret, token_key;
};
void auth_token_make(struct bk_buffer *out, const struct auth_claims *claims,
                     const struct auth_secrets *secrets);
/* Reads, does not verify: only what is needed to find the key may be used before
 * auth_token_verify. */
bool auth_token_read(struct bk_arena *arena, struct bk_slice token, struct auth_claims *claims);
bool auth_token_verify(struct bk_slice token, const struct auth_claims *claims,
                       const struct auth_secrets *secrets);

/* --- token_cache.c ---- */
struct auth_cached {
    struct bk_list link; /* by age */
    struct bk_list same; /* a ring: those of one label, of any tenant */
    struct bk_slice token, tenant, label, id, collection_id; /* point behind the struct */
    struct bk_slice session;                                 /* empty: none */
    bool is_superuser;
    int64_t expires_s;
};
void auth_cache_init(struct auth_cache *cache, uint32_t count_max);
void auth_cache_fini(struct auth_cache *cache);
/* NULL when unknown or expired. */
const struct auth_cached *auth_cache_find(struct auth_cache *cache, struct bk_slice token,
                                          int64_t now_s);
void auth_cache_add(struct auth_cache *cache, const struct auth_cached *entry);
/* Forgets the tokens of one record, or of all of the tenant when label is empty. */
void auth_cache_forget(struct auth_cache *cache, struct bk_slice tenant, struct bk_slice label);

/* --- authenticate.c ---- */
struct bk_slice auth_tenant_of(void *user, struct bk_slice token);
enum bk_status auth_authenticate(void *user, struct bk_tenant *tenant, struct bk_slice token,
                                 struct bk_request *request);

/* --- credentials.c ---- */

/* What signing in needs of an auth record; texts are in the arena they were read into. */
struct auth_credentials {
    struct bk_slice id, password_hash, token_key;
};
/* The auth collection of the path; else the request was answered and NULL is returned. */
const struct bk_collection *auth_collection(struct bk_request *request);
/* An option of it: "authToken" "duration". */
const struct bk_json *auth_option(const struct bk_collection *collection, const char *group,
                                  const char *name);
bool auth_option_is_on(const struct bk_collection *collection, const char *group, const char *name);
int64_t auth_option_number(const struct bk_collection *collection, const char *group,
                           const char *name);
/* On the loop. BK_NOT_FOUND. */
enum bk_status auth_credentials_read(struct bk_arena *arena, struct bk_tenant *tenant,
                                     const struct bk_collection *collection, struct bk_slice id,
                                     struct auth_credentials *credentials);
/* Who somebody says to be. field: the identity field that it is of; empty: any of them. */
struct auth_identity {
    const struct bk_collection *collection;
    struct bk_slice value, field;
};
/* Any thread that has the connection. BK_NOT_FOUND. */
enum bk_status auth_identity_find(const struct auth_identity *identity,
                                  struct bk_connection *connection, struct bk_arena *arena,
                                  struct auth_credentials *credentials);

/* --- grant.c ---- */

/* In the request's arena. */
struct auth_grant {
    struct bk_request *request;
    struct bk_schema *schema; /* pinned */
    const struct bk_collection *collection;
    struct auth_credentials credentials;
    struct bk_slice event_type; /* "auth.login"; empty: nothing has happened */
    struct bk_slice method;     /* "password" */
    struct bk_slice context;    /* @request.context of the authRule */
    struct bk_origin origin;    /* of the event; no actor: the record itself */
    struct bk_slice token;      /* answered as it is; empty: a new one */
    struct bk_slice session;    /* that the token goes on with; empty: a new one */
    struct bk_slice meta;       /* JSON, answered as "meta"; empty: none */
    int64_t duration_s;
    bool is_refreshable;
    bool is_alone; /* no second factor is asked for, and nobody is alerted */
    /* What the way in has to do in the transaction of the session, before it: a code is used up, an
     * account linked. NULL: nothing. May run again; any status but BK_OK fails the grant. */
    enum bk_status (*also)(struct auth_grant *grant, struct bk_transaction *transaction);
    void *also_user;
    /* Of that failure, answered with 400; NULL: "Failed to authenticate." */
    const char *message;
    /* Its own. */
    struct bk_write write;
    struct bk_read read;
    struct bk_actor actor; /* the record */
    struct bk_slice label; /* of the record: "_superusers/abc" */
    struct bk_question rule;
    struct bk_show *show;
    bool is_refused; /* by the authRule */
    bool is_second;  /* made ready again since the schema has changed */
};
/* Pins the schema; the duration is the collection's. The grant was zeroed, but for its
 * credentials. */
void auth_grant_init(struct auth_grant *grant, struct bk_request *request,
                     const struct bk_collection *collection);
/* Answers {"record","token"}, or why not. */
void auth_grant(struct auth_grant *grant);

/* --- sessions.c: rows of `_sessions`, one a sign-in ---- */
enum { AUTH_SESSION_ID_BYTES = 15 };

/* On the writer: the row of a new one of the grant's record. id: with NUL. */
enum bk_status auth_session_open(const struct auth_grant *grant, struct bk_transaction *transaction,
                                 char id[AUTH_SESSION_ID_BYTES + 1]);
/* On the writer: ends those of one record, all or one of them, and emits auth.session_revoked for
 * each. reason: "logout", "revoked", "password_changed" … kept: one that goes on; or empty. */
struct auth_session_ending {
    struct bk_slice collection_id, label, id; /* of the record: "users/abc", "abc" */
    struct bk_slice session;                  /* empty: all */
    struct bk_slice kept;
    const char *reason;
};
enum bk_status auth_sessions_end(struct bk_transaction *transaction,
                                 const struct auth_session_ending *ending, uint32_t *count);

/* --- watch.c: what a change of an auth record means to signing in, in its transaction ---- */
enum bk_status auth_on_change(void *user, struct bk_transaction *transaction,
                              const struct bk_collection *collection, const struct bk_value *before,
                              const struct bk_value *after);

/* --- mail.c ---- */

/* A mail of one of the collection's templates, see docs/modules/mail.md: work of the transaction.
 * texts are escaped here. to: empty: the record's own address. */
struct auth_mail_variable {
    const char *name; /* "TOKEN" */
    struct bk_slice value;
};
struct auth_mail {
    const char *template; /* "password-reset" */
    struct bk_slice collection, record, to;
    struct auth_mail_variable variables[2];
    int64_t expires_ms; /* wall time after which it is of no use; 0: never */
};
enum bk_status auth_mail_add(const struct bk_module_context *context,
                             struct bk_transaction *transaction, const struct auth_mail *mail);

/* --- tickets.c: tokens that are good for one thing, once ---- */

/* "verification", "passwordReset", "emailChange", "file": the claim type, and with "Token" behind
 * it the collection's option with its secret and duration. */
struct auth_ticket {
    const char *type;
    const struct bk_collection *collection;
    struct auth_credentials credentials; /* id and token key are signed with */
    struct bk_slice email, new_email;    /* claims; empty: none */
};
/* On the writer: appends the token and keeps the hash of its jti until it is used or expires. */
enum bk_status auth_ticket_issue(const struct bk_module_context *context, struct bk_slice tenant,
                                 struct bk_transaction *transaction,
                                 const struct auth_ticket *ticket, struct bk_buffer *out);
/* On the writer: uses up what auth_ticket_issue kept. BK_NOT_FOUND: it was used, or never issued
 * here. */
enum bk_status auth_ticket_use(struct bk_transaction *transaction, struct bk_slice jti);

/* --- mfa.c: the second factor ---- */

/* On the loop, with the grant's record as asker: whether its collection asks for two factors of this
 * record (mfa.enabled, mfa.rule) is made ready to be asked. */
enum bk_status auth_mfa_make(struct auth_grant *grant, struct bk_asker *asker);
/* On the writer, first thing. BK_OK: enough was shown. BK_END: a first factor, its row of _mfas was
 * written and its id is in id; the answer is 401 {"mfaId"}. BK_INVALID: the mfaId of the request is
 * none, expired, of somebody else or of the same method. */
enum { AUTH_MFA_ID_BYTES = 15 };
enum bk_status auth_mfa_pass(struct auth_grant *grant, struct bk_transaction *transaction,
                             char id[AUTH_MFA_ID_BYTES + 1]);

/* --- alert.c: a sign-in from a new place ---- */

/* On the writer: notes where the grant comes from in _authOrigins, and adds the alert's mail where it
 * is new and not the first. */
enum bk_status auth_alert(const struct auth_grant *grant, struct bk_transaction *transaction);

/* --- providers.c ---- */
/* Appends the list of those that the collection has, `[]` where OAuth2 is off. */
void auth_providers_write(const struct bk_collection *collection, struct bk_buffer *out);

/* --- routes ---- */
void auth_with_password(struct bk_request *request);
void auth_refresh(struct bk_request *request);
void auth_impersonate(struct bk_request *request);
void auth_methods(struct bk_request *request);

/* --- superuser_command.c ---- */
int auth_superuser_command(struct bk_command_context *context, int argument_count,
                           char **arguments);

#endif
