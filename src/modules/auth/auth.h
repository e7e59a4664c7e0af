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
    int64_t duration_s;
    bool is_refreshable;
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
