/* What the files of this module share. */
#ifndef AUTH_H
#define AUTH_H

#include "bakend/crypto.h"
#include "bakend/id.h"
#include "bakend/map.h"
#include "bakend/module.h"
#include "bakend/show.h"
#include "bakend/tally.h"
#include "bakend/thread.h"

enum {
    AUTH_TOKEN_BYTES_MAX = 4096,
    AUTH_TOKEN_KEY_BYTES_MAX = 256,
    AUTH_PASSWORD_CHARACTERS_MAX = 71, /* the contract's */
    AUTH_SESSION_ID_BYTES = 15,
    AUTH_MFA_ID_BYTES = 15,
};
/* Of a superuser's token for another record: a hundred years. */
#define AUTH_TOKEN_SECONDS_MAX INT64_C(3155760000)

struct auth_options {
    const char *oauth2_allow; /* --oauth2-allow */
    int64_t oauth2_timeout_ms;
    int64_t password_threads, password_queue_max, token_cache_max;
    int64_t failures_window_ms, failures_max, failures_account_max, failures_address_max,
        failures_tenant_max, failures_memory_max;
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
    const struct bk_module_context *context; /* the module's */
};

/* Numbers of the tenant's signing keys, see keys.c. */
enum { AUTH_FORMER_KEYS_MAX = 32 };
struct auth_keys {
    uint32_t number; /* what is signed with */
    uint32_t former_count;
    struct {
        uint32_t number;
        int64_t until_s; /* as long as it is taken */
    } former[AUTH_FORMER_KEYS_MAX];
};

/* A key of the tenant, as tokens are verified with it. */
struct auth_key_source {
    uint32_t number; /* 0: none */
    struct bk_key_source source;
};

/* What is kept of an open tenant. */
enum { AUTH_KEY_SOURCES = 2 /* the one that signs, and the one before */ };
struct auth_tenant {
    struct auth_keys keys;
    struct auth_key_source sources[AUTH_KEY_SOURCES];
    struct bk_map secrets; /* of its auth collections, see secrets.c */
};

/* See attempts.c. */
struct auth_attempts {
    struct bk_tally failures, tickets, reports, places;
    uint64_t failed_count, refused_count, unreported_count;
};

/* API keys that were looked up before; see api_keys.c. */
struct auth_api_keys {
    struct bk_map by_hash;
    struct bk_list by_age;
    uint32_t count;
    struct bk_bus_tap tap;
};

struct auth_oauth2;

struct auth_state {
    struct bk_module_context *context;
    struct bk_pool *pool;       /* Argon2id, bounded */
    struct auth_oauth2 *oauth2; /* oauth2.h */
    struct auth_password_type password;
    struct auth_cache cache;
    struct auth_api_keys api_keys;
    struct auth_attempts attempts;
    struct bk_authenticator authenticator;
    struct bk_auth_watch watch;
    struct bk_bus_tap tap; /* see stale.c */
    uint32_t touches;      /* uses of sessions that are being noted */
    struct bk_metrics_source metrics;
    uint64_t logins, logins_failed;
    char peeked_tenant[BK_TENANT_NAME_BYTES_MAX]; /* of the token looked at last */
    struct bk_tally otp_asks, otp_tries;          /* see otp.c; of a record, from one address */
    struct bk_tally otp_unknown;                  /* see otp_unknown.c */
    struct bk_subscription otp_mails;
};

/* --- collections.c ---- */
enum { AUTH_COLLECTION_COUNT = 9 };
extern const struct bk_system_collection auth_collections[AUTH_COLLECTION_COUNT];

/* --- password_type.c ---- */
void auth_password_type_init(struct auth_password_type *password,
                             const struct bk_module_context *context, struct bk_pool *pool);
/* Of the characters of a password field; at least 1. */
int64_t auth_password_minimum(const struct bk_field *field);

/* --- token.c ---- */

/* The claims of a token, JWT's and the contract's. Slices borrow. */
struct auth_claims {
    struct bk_slice tenant; /* of the header's kid */
    uint32_t key_number;    /* likewise */
    struct bk_slice id, collection_id, type;
    struct bk_slice session;               /* sid; empty: none */
    struct bk_slice email, new_email, jti; /* of tickets; empty: none */
    bool is_refreshable;
    int64_t expires_s; /* seconds since 1970 */
};
/* Appends the token. secrets: what a change of revokes it. */
struct auth_secrets {
    struct bk_slice instance_key, collection_secret, token_key;
    /* The tenant's key; NULL: it is derived from the instance key each time. */
    const struct bk_key_source *tenant_key;
};
void auth_tenant_key_make(struct bk_key_source *source, struct bk_slice instance_key,
                          struct bk_slice tenant, uint32_t number);
void auth_token_make(struct bk_buffer *out, const struct auth_claims *claims,
                     const struct auth_secrets *secrets);
/* Reads, does not verify: only what is needed to find the key may be used before
 * auth_token_verify. */
bool auth_token_read(struct bk_arena *arena, struct bk_slice token, struct auth_claims *claims);
bool auth_token_verify(struct bk_slice token, const struct auth_claims *claims,
                       const struct auth_secrets *secrets);

/* --- event.c: what happens to an account ---- */
struct auth_fact_text {
    const char *name; /* NULL: no more */
    struct bk_slice value;
};
enum { AUTH_FACT_TEXTS_MAX = 4 };
struct auth_fact {
    const char *type;                           /* "auth.login" */
    struct bk_slice collection;                 /* its name */
    struct bk_slice id;                         /* of the record: the subject is "users/abc" */
    struct bk_slice subject;                    /* another one: it is of no record */
    struct bk_slice actor;                      /* empty: the origin's */
    struct bk_slice remote_address, user_agent; /* empty: the origin's */
    struct auth_fact_text texts[AUTH_FACT_TEXTS_MAX];
};
/* On the writer. {"collection","id",<texts>,"remoteAddress","userAgent"}. */
enum bk_status auth_event_emit(struct bk_transaction *transaction, const struct auth_fact *fact);
/* What is kept of one: no longer than anybody's is. */
struct bk_slice auth_user_agent_cut(struct bk_slice user_agent);

/* --- keys.c: which key signs ---- */
extern const char auth_keys_table[]; /* its SQL */
/* Any thread that has the connection. */
enum bk_status auth_keys_read(struct bk_connection *connection, struct auth_keys *keys);
/* On the writer, what is signed with. */
enum bk_status auth_key_number_read(struct bk_transaction *transaction, uint32_t *number);
/* On the loop: what is signed with, and whether a token of this number is taken. */
uint32_t auth_key_number(const struct bk_module_context *context, const struct bk_tenant *tenant);
bool auth_key_is_taken(const struct bk_module_context *context, const struct bk_tenant *tenant,
                       uint32_t number);
/* On the loop, of one that is taken; until the next call. */
const struct bk_key_source *auth_key_source(const struct bk_module_context *context,
                                            const struct bk_tenant *tenant, uint32_t number);
int auth_keys_command(struct bk_command_context *context, int argument_count, char **arguments);

/* --- secrets.c: the token secrets of collections ---- */
void auth_secrets_open(const struct bk_schema *schema, struct bk_map *secrets);
void auth_secrets_close(struct bk_map *secrets);
/* After a change of a collection: what came in under another secret is worthless. */
void auth_secrets_compare(const struct bk_module_context *context, struct bk_tenant *tenant);

/* --- stale.c: what makes tokens of the cache worthless ---- */
void auth_stale_init(struct auth_state *state);
void auth_stale_fini(struct auth_state *state);

/* --- token_cache.c ---- */
struct auth_cached {
    struct bk_list link; /* by age */
    struct bk_list same; /* a ring: those of one label, of any tenant */
    struct bk_slice token, tenant, label, id, collection_id; /* point behind the struct */
    struct bk_slice session;
    bool is_superuser;
    int64_t expires_s;
    int64_t begins_s; /* the clock has been set back when it is earlier: look again */
    int64_t used_s;   /* as its session says */
};
void auth_cache_init(struct auth_cache *cache, uint32_t count_max);
void auth_cache_fini(struct auth_cache *cache);
/* NULL when unknown or expired. */
struct auth_cached *auth_cache_find(struct auth_cache *cache, struct bk_slice token, int64_t now_s);
void auth_cache_add(struct auth_cache *cache, const struct auth_cached *entry);
/* Forgets the tokens of one record, or of all of the tenant when label is empty. */
void auth_cache_forget(struct auth_cache *cache, struct bk_slice tenant, struct bk_slice label);

/* --- authenticate.c ---- */
struct bk_slice auth_tenant_of(void *user, struct bk_slice token);
enum bk_status auth_authenticate(void *user, struct bk_tenant *tenant, struct bk_slice token,
                                 struct bk_request *request);

/* --- api_keys.c: what programs come in with ---- */
enum {
    AUTH_API_KEY_RANDOM_BYTES = 40,
    AUTH_API_KEY_SHOWN_BYTES = 6, /* of the random ones, so that people recognise it */
    AUTH_API_KEY_HASH_BYTES = 64, /* hexadecimal */
    AUTH_API_KEY_BODY_BYTES_MAX = 64 * 1024,
};
/* "bk_…", whether it is good or not. */
bool auth_api_key_is(struct bk_slice token);
/* The tenant that it names, where there is one; borrowed until the next call. */
struct bk_slice auth_api_key_tenant(struct auth_state *state, struct bk_slice token);
/* Fills in request->actor. BK_UNAUTHORIZED, or it cannot be told now. */
enum bk_status auth_api_key_authenticate(struct auth_state *state, struct bk_tenant *tenant,
                                         struct bk_slice token, struct bk_request *request);
struct bk_slice auth_api_key_make(struct bk_arena *arena, struct bk_slice tenant);
/* What is shown of it. */
struct bk_slice auth_api_key_prefix(struct bk_slice key);
void auth_api_key_hash(char hex[AUTH_API_KEY_HASH_BYTES], struct bk_slice key);
/* Those in memory; of one record, or of all of the tenant when id is empty. */
void auth_api_keys_forget(struct auth_state *state, struct bk_slice tenant, struct bk_slice id);
extern const char auth_api_keys_table[]; /* of hashes: a migration */
void auth_api_keys_init(struct auth_state *state);
void auth_api_keys_fini(struct auth_state *state);

/* --- api_keys_routes.c, api_keys_command.c ---- */
void auth_api_keys_list(struct bk_request *request);
void auth_api_key_view(struct bk_request *request);
void auth_api_key_create(struct bk_request *request);
void auth_api_key_update(struct bk_request *request);
void auth_api_key_rotate(struct bk_request *request);
void auth_api_key_delete(struct bk_request *request);
int auth_api_key_command(struct bk_command_context *context, int argument_count, char **arguments);

/* --- credentials.c ---- */

/* In place of a hash: no text is this password. Of accounts that have none that anybody knows. */
#define AUTH_NO_PASSWORD BK_SLICE("*")

/* What signing in needs of an auth record; texts are in the arena they were read into. */
struct auth_credentials {
    struct bk_slice id, password_hash, token_key, email;
    bool is_verified;
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
/* Any thread that has the connection. BK_NOT_FOUND. */
enum bk_status auth_credentials_find(struct bk_arena *arena, struct bk_connection *connection,
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
    int64_t expires_s; /* of the token: once it is known */
    bool is_refreshable;
    bool is_second; /* of two factors, once mfa.c has found the first: for `also` */
    bool is_alone;  /* no second factor is asked for, and nobody is alerted */
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
    struct bk_slice token_key; /* what the token is signed with: of the record as it is then */
    struct auth_mfa *mfa;      /* of mfa.c; NULL: no second factor is asked for */
    char session_id[AUTH_SESSION_ID_BYTES + 1];
    char mfa_id[AUTH_MFA_ID_BYTES + 1]; /* of a first factor: the answer is this alone */
    bool is_refused;                    /* by the authRule */
    struct bk_schema *first_schema;     /* pinned before it has changed; NULL: it has not */
    uint32_t plans;                     /* how often it was made ready */
};
/* Pins the schema; the duration is the collection's. The grant was zeroed, but for its
 * credentials. */
void auth_grant_init(struct auth_grant *grant, struct bk_request *request,
                     const struct bk_collection *collection);
/* On the writer: BK_STALE when the collection is another one than in the schema. Whatever happens
 * to others, who signs in is not held up. */
enum bk_status auth_schema_verify(const struct bk_schema *schema,
                                  const struct bk_collection *collection,
                                  struct bk_transaction *transaction);
/* Answers {"record","token"}, or why not. */
void auth_grant(struct auth_grant *grant);

/* --- sessions.c: rows of `_sessions`, one a sign-in ---- */
enum {
    AUTH_SESSIONS_MAX = 100, /* of one record; past it the one that was opened first ends */
    /* So far a clock may be set back without ending what was used before. */
    AUTH_CLOCK_SLACK_S = 24 * 60 * 60,
};

/* What a token needs of its session. */
struct auth_session {
    int64_t used_s, expires_s;
};
/* On the loop, one row. BK_NOT_FOUND: there is none of this record that lives. */
enum bk_status auth_session_read(struct bk_tenant *tenant, const struct auth_claims *claims,
                                 struct auth_session *session);
/* On the loop: notes that it is used, in the background and not often. */
void auth_session_touch(struct auth_state *state, struct bk_tenant *tenant,
                        struct auth_cached *cached);
/* On the writer: the row of a new one of the grant's record. id: with NUL. */
enum bk_status auth_session_open(const struct auth_grant *grant, struct bk_transaction *transaction,
                                 char id[AUTH_SESSION_ID_BYTES + 1]);
/* On the writer: the grant's session lives as long as its new token. BK_UNAUTHORIZED: it has
 * ended. */
enum bk_status auth_session_extend(const struct auth_grant *grant,
                                   struct bk_transaction *transaction);
/* On the writer: ends those of one record, all or one of them, and emits auth.session_revoked for
 * each. reason: "logout", "revoked", "password" … kept: one that goes on; or empty. */
struct auth_session_ending {
    struct bk_slice collection_id, collection, id; /* of the record: id and name of its own */
    struct bk_slice session;                       /* empty: all */
    struct bk_slice kept;
    const char *reason;
    const char *type; /* of the event; NULL: "auth.session_revoked" */
};
enum bk_status auth_sessions_end(struct bk_transaction *transaction,
                                 const struct auth_session_ending *ending, uint32_t *count);
/* On the writer: ends the impersonations that this superuser ("_superusers/abc") began. */
enum bk_status auth_sessions_end_lent(struct bk_transaction *transaction, struct bk_slice label);

/* On the writer, when all sessions of a collection are worthless from now on: one event for those
 * that are there, and none when there is none. Their rows are for the caller to remove. */
enum bk_status auth_sessions_tell_all(struct bk_transaction *transaction,
                                      const struct bk_collection *collection, const char *reason);

/* --- unproven.c: links of before the address was proven; on the writer ---- */
struct auth_owner;
extern const char auth_unproven_table[]; /* its SQL */
/* The address is proven by the click on a mail: those that are there are of before. */
enum bk_status auth_unproven_note(struct bk_transaction *transaction,
                                  const struct auth_owner *owner);
/* Its owner has come. */
enum bk_status auth_unproven_remove(struct bk_transaction *transaction,
                                    const struct bk_schema *schema, const struct auth_owner *owner);

/* --- sweep.c: rows whose time is over ---- */
/* On the writer, with a row that will be over: it is looked for once a day from now on. */
enum bk_status auth_sweep_plan(const struct bk_module_context *context,
                               struct bk_transaction *transaction);
void auth_sweep(struct bk_work_task *task, void *user);

/* --- watch.c: what a change of an auth record means to signing in, in its transaction ---- */
enum bk_status auth_on_change(void *user, struct bk_transaction *transaction,
                              const struct bk_collection *collection, const struct bk_value *before,
                              const struct bk_value *after);
enum bk_status auth_on_collection(void *user, struct bk_transaction *transaction,
                                  const struct bk_collection *before,
                                  const struct bk_collection *after);

/* --- attempts.c: guesses at what somebody should know, counted before they are judged ---- */
enum auth_attempt_outcome {
    AUTH_ATTEMPT_PASSED,   /* the secret was right, whatever a rule or a second factor says later */
    AUTH_ATTEMPT_FAILED,   /* it was wrong, or nobody has it */
    AUTH_ATTEMPT_UNJUDGED, /* nobody has looked at it: the server was busy */
};
enum { AUTH_ATTEMPT_KEYS_MAX = 5 };
/* In the request's arena, zeroed. */
struct auth_attempt {
    struct bk_request *request;
    const struct bk_collection *collection;
    /* As the client has typed it (an identity, the id of a code), never what was found of it: the
     * limits of accounts that are not there are the same. Empty: only the address counts. */
    struct bk_slice account;
    const char *method;                      /* "password", "otp": of the event */
    uint32_t failures_max;                   /* of the account from one address; 0: the option's */
    const char *message;                     /* of the 429; NULL: why, and until when */
    const struct bk_module_context *context; /* NULL: the request's */
    bool has_ticket; /* of a mail, which nobody guesses: the limit of the tenant is not theirs */
    bool is_further; /* of another attempt that counts for the address: only for the account */
    /* Its own. */
    bool is_counted;
    uint64_t keys[AUTH_ATTEMPT_KEYS_MAX], begun_ms[AUTH_ATTEMPT_KEYS_MAX];
};
/* On the loop, before anything is looked up or hashed. False: the request was answered, 429. */
bool auth_attempt_begin(struct auth_attempt *attempt);
/* The same, unanswered: BK_OK, or BK_TOO_MANY with the request's retry_after_s. */
enum bk_status auth_attempt_try(struct auth_attempt *attempt);
/* Whom limits count an address as: itself, of IPv6 its /64; and its network, of IPv6 the /48. */
struct auth_client {
    uint8_t address[16], network[16];
};
enum { AUTH_NETWORK_SHARE = 3 }; /* a network may as much as so many addresses */
void auth_client_of(struct bk_slice remote_address, struct auth_client *client);
/* On the loop, once, before the answer. id: of the record that it was about; empty: none. A failure
 * is the event auth.login_failed, but of many in a minute a few. */
void auth_attempt_end(struct auth_attempt *attempt, enum auth_attempt_outcome outcome,
                      struct bk_slice id);
void auth_attempts_init(struct auth_attempts *attempts, const struct auth_options *options);
void auth_attempts_fini(struct auth_attempts *attempts);
void auth_attempts_write_metrics(const struct auth_attempts *attempts, struct bk_buffer *out);

/* --- form.c: bodies of a few texts ---- */
struct auth_form_text {
    const char *name;
    struct bk_slice *value;      /* is set; borrows from the request */
    size_t bytes_min, bytes_max; /* of one that is not empty */
    bool is_required, is_email;
};
/* What is wrong with them are problems of the request. False: one is no text, it was answered. */
bool auth_form_load(struct bk_request *request, const struct auth_form_text *texts, size_t count);
/* False: it has problems, and was answered with them. */
bool auth_form_is_right(struct bk_request *request);
/* Both. False: answered. */
bool auth_form_read(struct bk_request *request, const struct auth_form_text *texts, size_t count);

/* --- rows.c: records that are written here, with their dates, events and watches; values were
 * judged before. On the writer ---- */
struct auth_value {
    const char *name; /* of a field; of one that the collection has not got: left out */
    struct bk_value value;
};
struct auth_owner {
    struct bk_slice collection_id, id;
};
/* id: of the new record, may be NULL. BK_CONFLICT. */
enum bk_status auth_row_insert(struct bk_transaction *transaction,
                               const struct bk_collection *collection,
                               const struct auth_value *given, size_t count,
                               char id[BK_RECORD_ID_BYTES + 1]);
/* Of an auth record, a new password or address renews the token key too, and what ends with them
 * ends. BK_NOT_FOUND, BK_CONFLICT. */
enum bk_status auth_row_update(struct bk_transaction *transaction, const struct bk_schema *schema,
                               const struct bk_collection *collection, struct bk_slice id,
                               const struct auth_value *given, size_t count);
/* Looks at no relation. BK_NOT_FOUND. */
enum bk_status auth_row_remove(struct bk_transaction *transaction,
                               const struct bk_collection *collection, struct bk_slice id);
/* Those of "_externalAuths" and the like that belong to the owner by its two references. */
enum bk_status auth_rows_remove_of(struct bk_transaction *transaction,
                                   const struct bk_schema *schema, const char *name,
                                   const struct auth_owner *owner);

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
/* task: the work's id, with NUL, as events of mails name it; may be NULL. */
enum bk_status auth_mail_add(const struct bk_module_context *context,
                             struct bk_transaction *transaction, const struct auth_mail *mail,
                             char task[BK_WORK_ID_BYTES + 1]);

/* --- tickets.c: tokens that are good for one thing, once ---- */
extern const char auth_tickets_table[]; /* its SQL */
/* Between two mails of a type to a record, the contract's. */
enum { AUTH_TICKET_PAUSE_MS = 2 * 60 * 1000 };

/* "verification", "passwordReset", "emailChange": the claim type, and with "Token" behind it the
 * collection's option with its secret and duration. */
struct auth_ticket {
    const char *type;
    const struct bk_collection *collection;
    struct auth_credentials credentials; /* id and token key are signed with */
    struct bk_slice email, new_email;    /* claims; empty: none */
    struct bk_slice jti;                 /* of one that was read */
};
/* On the writer: appends the token and keeps the hash of its jti until it is used or expires. */
enum bk_status auth_ticket_issue(const struct bk_module_context *context,
                                 struct bk_transaction *transaction,
                                 const struct auth_ticket *ticket, struct bk_buffer *out,
                                 int64_t *expires_ms);
/* On the writer: costs what issuing costs, for somebody who is not there. */
enum bk_status auth_ticket_pretend(struct bk_transaction *transaction);
/* On the writer: how many of this type and record were issued within AUTH_TICKET_PAUSE_MS. */
enum bk_status auth_ticket_count_recent(struct bk_transaction *transaction,
                                        const struct auth_ticket *ticket, int64_t *count);
/* What a token says, believed by nobody. False: nothing. */
bool auth_ticket_peek(struct bk_arena *arena, struct bk_slice token, struct auth_claims *claims);
/* On the loop: verifies all but that it was not used. Borrows from the request and the current
 * schema. BK_UNAUTHORIZED: it is none, expired, of another type, tenant or token key. */
enum bk_status auth_ticket_read(struct bk_request *request, struct bk_slice token, const char *type,
                                struct auth_ticket *ticket);
/* On the writer: uses it up, and reads the record that it is of as it is now, in the transaction's
 * arena. BK_UNAUTHORIZED: it was used, or its record has another token key by now. */
enum bk_status auth_ticket_use(struct bk_transaction *transaction, const struct auth_ticket *ticket,
                               struct auth_credentials *credentials);

/* --- mfa.c: the second factor ---- */

/* On the loop: whether the collection asks for two factors of the grant's record (mfa.enabled,
 * mfa.rule) is made ready to be asked, as the requester. BK_INVALID: the request's mfaId is no
 * text, or the rule cannot be read. */
enum bk_status auth_mfa_make(struct auth_grant *grant);
/* On the writer, first thing. BK_OK: enough was shown. BK_END: a first factor, its row of _mfas was
 * written and its id is in id; the answer is 401 {"mfaId"}. BK_INVALID: the mfaId of the request is
 * none, expired, of somebody else or of the same method. */
enum bk_status auth_mfa_pass(struct auth_grant *grant, struct bk_transaction *transaction,
                             char id[AUTH_MFA_ID_BYTES + 1]);
struct auth_mfa_row {
    struct bk_slice record, method; /* in the transaction's arena */
    bool is_own;                    /* of this collection */
};
/* On the writer: one whose time is not over. BK_NOT_FOUND. */
enum bk_status auth_mfa_find(struct bk_transaction *transaction,
                             const struct bk_collection *collection, struct bk_slice id,
                             struct auth_mfa_row *row);
/* Whether a row's time is over; one of a time that is not yet is of a clock that was wrong. */
bool auth_is_over(struct bk_slice created, int64_t duration_s, int64_t now_ms);
/* A statement of a constant text. */
enum bk_status auth_statement(struct bk_transaction *transaction, struct bk_slice text,
                              struct bk_statement **statement);

/* --- otp.c, otp_login.c: codes that come by mail ---- */
enum { AUTH_OTP_CODE_BYTES_MAX = 71, AUTH_OTP_PENDING_MAX = 10 /* of a record */ };
extern const char auth_codes_table[]; /* its SQL */
struct auth_otp_row {
    struct bk_slice record, hash, sent_to;
};
/* The auth collection of the path, where it has such codes; else the request was answered and NULL
 * is returned. */
const struct bk_collection *auth_otp_collection(struct bk_request *request);
/* One of this collection whose time is not over. Any thread that has the connection.
 * BK_NOT_FOUND. */
enum bk_status auth_otp_find(struct bk_connection *connection, struct bk_arena *arena,
                             const struct bk_collection *collection, struct bk_slice id,
                             int64_t now_ms, struct auth_otp_row *row);
/* BK_OK; BK_UNAUTHORIZED; BK_NOT_SUPPORTED: the hash is one of passwords. */
enum bk_status auth_otp_compare(const struct bk_module_context *context, struct bk_slice hash,
                                struct bk_slice code);
/* On the writer: a few counts of guesses that are over go. */
enum bk_status auth_otp_sweep(struct bk_transaction *transaction);
void auth_otp_init(struct auth_state *state);
void auth_otp_fini(struct auth_state *state);

/* --- otp_unknown.c: the same for addresses that nobody has. On the loop ---- */
void auth_otp_unknown_init(struct auth_state *state);
void auth_otp_unknown_fini(struct auth_state *state);
/* The id that is answered. */
void auth_otp_pretend(const struct bk_request *request, const struct bk_collection *collection,
                      struct bk_slice address, char id[BK_RECORD_ID_BYTES]);
/* Whether the id is one of those, and what stands for its address. */
bool auth_otp_pretended(const struct bk_request *request, const struct bk_collection *collection,
                        struct bk_slice id, uint32_t *address);

/* --- totp.c: codes of authenticator apps. All but the pure on the writer ---- */
enum {
    AUTH_TOTP_SECRET_BYTES = 20, /* as long as the hash (RFC 4226, 4) */
    AUTH_TOTP_HASH_BYTES = 43,   /* of an HMAC in base64url */
    AUTH_TOTP_RECOVERY_COUNT = 10,
    AUTH_TOTP_RECOVERY_BYTES = 19, /* "abcd-efgh-jklm-npqr" */
};
enum auth_totp_verdict {
    AUTH_TOTP_ABSENT, /* there is no app to judge a code by */
    AUTH_TOTP_LOCKED, /* after too many wrong ones none is judged */
    AUTH_TOTP_WRONG,  /* or used: it was counted */
    AUTH_TOTP_RIGHT
};
/* What is used up of a code that was right. */
struct auth_totp_use {
    int64_t step;
    bool is_recovery;
    char hash[AUTH_TOTP_HASH_BYTES];
};
/* Pure: RFC 6238 with six digits; base32 of a multiple of five bytes, no NUL. */
uint32_t auth_totp_code(struct bk_slice secret, int64_t step);
void auth_totp_base32(char *out, const uint8_t *bytes, size_t length);
enum bk_status auth_totp_is_on(struct bk_transaction *transaction, const struct auth_owner *owner,
                               bool *is_on);
/* A secret that is not yet in use, in place of an earlier one. BK_EXISTS: one is on. */
enum bk_status auth_totp_begin(const struct bk_module_context *context,
                               struct bk_transaction *transaction, const struct bk_schema *schema,
                               const struct auth_owner *owner,
                               const uint8_t secret[AUTH_TOTP_SECRET_BYTES]);
/* is_pending: by a secret that is not yet in use, else by one that is on. */
enum bk_status auth_totp_judge(const struct bk_module_context *context,
                               struct bk_transaction *transaction, const struct auth_owner *owner,
                               struct bk_slice typed, bool is_pending, struct auth_totp_use *use,
                               enum auth_totp_verdict *verdict);
/* BK_NOT_FOUND: it was used meanwhile. */
enum bk_status auth_totp_use_up(struct bk_transaction *transaction, const struct auth_owner *owner,
                                const struct auth_totp_use *use);
/* From now on; codes: of recovery, to be shown once. */
enum bk_status auth_totp_turn_on(const struct bk_module_context *context,
                                 struct bk_transaction *transaction, const struct auth_owner *owner,
                                 const struct auth_totp_use *use,
                                 char codes[][AUTH_TOTP_RECOVERY_BYTES]);
/* BK_NOT_FOUND. */
enum bk_status auth_totp_remove(struct bk_transaction *transaction, const struct bk_schema *schema,
                                const struct auth_owner *owner, bool *was_on);

/* --- alert.c: a sign-in from a new place ---- */

/* On the writer: notes where the grant comes from in _authOrigins, and adds the alert's mail where
 * it is new and not the first. */
enum bk_status auth_alert(const struct auth_grant *grant, struct bk_transaction *transaction);

/* --- oauth2*.c, providers.c, oidc.c: what they share is in oauth2.h ---- */
/* From start to stop: nobody is asked before or after. stopped comes when nothing is on its way. */
enum bk_status auth_oauth2_start(struct auth_state *state, struct bk_error *error);
void auth_oauth2_stop(struct auth_state *state, void (*stopped)(void *user), void *user);
void auth_oauth2_fini(struct auth_state *state);
/* Appends the list of those that the collection has, `[]` where OAuth2 is off. */
void auth_providers_write(const struct bk_collection *collection, struct bk_buffer *out);

/* --- refresh.c ---- */
/* The collection that the token is of, which must be the one of the path; else the request was
 * answered and NULL is returned. */
const struct bk_collection *auth_own_collection(struct bk_request *request);

/* --- routes ---- */
void auth_request_otp(struct bk_request *request);
void auth_with_otp(struct bk_request *request);
void auth_totp_enroll(struct bk_request *request);
void auth_totp_confirm(struct bk_request *request);
void auth_totp_disable(struct bk_request *request);
void auth_with_totp(struct bk_request *request);
void auth_with_password(struct bk_request *request);
void auth_refresh(struct bk_request *request);
void auth_impersonate(struct bk_request *request);
void auth_methods(struct bk_request *request);
void auth_with_oauth2(struct bk_request *request);
void auth_oauth2_redirect(struct bk_request *request);
void auth_page(struct bk_request *request);
void auth_request_verification(struct bk_request *request);
void auth_confirm_verification(struct bk_request *request);
void auth_request_password_reset(struct bk_request *request);
void auth_confirm_password_reset(struct bk_request *request);
void auth_request_email_change(struct bk_request *request);
void auth_confirm_email_change(struct bk_request *request);
void auth_logout(struct bk_request *request);
void auth_sessions_list(struct bk_request *request);
void auth_session_view(struct bk_request *request);
void auth_session_revoke(struct bk_request *request);
void auth_sessions_revoke(struct bk_request *request);
void auth_keys_rotate(struct bk_request *request);

/* --- superuser_command.c ---- */
int auth_superuser_command(struct bk_command_context *context, int argument_count,
                           char **arguments);

#endif
