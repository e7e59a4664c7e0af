/* What the files of the module of webhooks share; module.c has the design. Everything is on the
 * loop but for what takes a transaction, which is on the writer. */
#ifndef BAKEND_WEBHOOKS_PRIVATE_H
#define BAKEND_WEBHOOKS_PRIVATE_H

#include "bakend/cloudevent.h"
#include "bakend/crypto.h"
#include "bakend/event_filter.h"
#include "bakend/map.h"
#include "bakend/module.h"

enum {
    WEBHOOKS_ENDPOINTS_MAX = 10000, /* of a tenant */
    WEBHOOKS_ID_BYTES = 15,         /* of an endpoint and of a delivery alike */
    WEBHOOKS_TAIL_BYTES = 7,        /* of an endpoint's id, unique in its tenant: see delivery.c */
    WEBHOOKS_WINDOW = 256,          /* events that an endpoint was handed and has not ended */
    WEBHOOKS_IN_FLIGHT = 8,         /* requests of an endpoint at once, unless it says otherwise */
    WEBHOOKS_IN_FLIGHT_MAX = 64,
    WEBHOOKS_PLACES_MAX = 512, /* requests of all endpoints that are on their way */
    WEBHOOKS_TIMEOUT_MIN_MS = 1000,
    WEBHOOKS_TIMEOUT_MAX_MS = BK_OUTBOUND_IDLE_S * 1000,
    WEBHOOKS_RATE_MAX = 600000, /* deliveries a minute */
    WEBHOOKS_TYPES_MAX = 100,   /* patterns of an endpoint */
    WEBHOOKS_HEADERS_MAX = 20,  /* of its own */
    WEBHOOKS_HEADER_BYTES_MAX = 2000,
    WEBHOOKS_DESCRIPTION_MAX = 1000,
    WEBHOOKS_BODY_BYTES_MAX = 64 * 1024, /* of a request to these routes */
    WEBHOOKS_ANSWER_KEPT_BYTES = 4096,   /* of an endpoint's answer */
    WEBHOOKS_ATTEMPTS_KEPT = 20,         /* of a delivery: the first and the newest */
    WEBHOOKS_SCHEDULE_MAX = 30,          /* attempts of a delivery */
    WEBHOOKS_SECRET_BYTES = 32,
    WEBHOOKS_SECRET_BYTES_MAX = 64,                     /* of one that is given */
    WEBHOOKS_SEED_BYTES = 32,                           /* of an Ed25519 key */
    WEBHOOKS_ROTATION_MS_DEFAULT = 24 * 60 * 60 * 1000, /* the previous secret signs, too */
    WEBHOOKS_REASON_BYTES = 200,
};

#define WEBHOOKS_KIND "webhooks"               /* of work: what failed is tried again */
#define WEBHOOKS_REPLAY_KIND "webhooks-replay" /* of work: a replay of many */
#define WEBHOOKS_SWEEP_KIND "webhooks-sweep"   /* of work: old deliveries go */

struct webhooks_options {
    const char *allow;          /* --webhooks-allow */
    const char *retry_schedule; /* --webhooks-retry-schedule: "0s,5s,30s,…" */
    const char *origin;         /* --webhooks-origin: our name in handshakes; "" : none */
    int64_t timeout_ms;         /* --webhooks-timeout: of an attempt, unless the endpoint's own */
    int64_t disable_after_ms;   /* --webhooks-disable-after: without a success; 0: never */
};

struct webhooks_state {
    struct bk_module_context *context;
    struct bk_network *allowed;
    size_t allowed_count;
    struct bk_outbound_policy policy;
    struct bk_outbound_channel *channel; /* NULL: not started, or closed */
    uint32_t schedule_count;             /* retry_schedule, parsed: of the first attempt, 0 … */
    uint64_t schedule_ms[WEBHOOKS_SCHEDULE_MAX];
    uint8_t key[BK_KEY_BYTES]; /* that secrets are sealed with */
    bool is_stopping;
    void (*stopped)(void *user);
    void *stopped_user;
    struct bk_subscription changes; /* "_webhooks.*", see endpoint.c */
    struct bk_metrics_source metrics;
    struct webhooks_places *places; /* queue.c: of all tenants */
    uint32_t retry_count; /* retry.c: tasks that are in the queue or sent, of all tenants */
    uint64_t attempts, delivered, failed, exhausted; /* ever */
};

/* --- config.c: an endpoint as its record says ------------------------------------------------- */

enum webhooks_format {
    WEBHOOKS_STANDARD,
    WEBHOOKS_CLOUDEVENTS,
    WEBHOOKS_CLOUDEVENTS_BINARY,
    WEBHOOKS_FORMAT_COUNT
};
/* "standard", "cloudevents", "cloudevents-binary"; COUNT when it is none. */
enum webhooks_format webhooks_format_named(struct bk_slice name);
const char *webhooks_format_name(enum webhooks_format format);

/* What signs. Secrets as bytes, not in base64. */
struct webhooks_keys {
    uint8_t secret[WEBHOOKS_SECRET_BYTES_MAX], previous[WEBHOOKS_SECRET_BYTES_MAX];
    uint32_t secret_length, previous_length; /* 0: there is none */
    int64_t previous_until_ms; /* wall time; the previous one signs as well till then */
    bool has_seed;             /* v1a is added */
    uint8_t seed[WEBHOOKS_SEED_BYTES];
};

/* Why nothing is sent to an endpoint that is enabled. */
enum webhooks_problem {
    WEBHOOKS_SOUND,
    WEBHOOKS_NO_SECRET,  /* it cannot be unsealed … */
    WEBHOOKS_NO_HEADERS, /* … nor these */
    WEBHOOKS_NO_SENSE    /* its lists, its format or its filter cannot be read */
};
/* In a sentence, with what can be done; "" where there is none. */
const char *webhooks_problem_text(enum webhooks_problem problem);

/* Immutable; a change makes a new one. One allocation's life, counted on the loop. */
struct webhooks_config {
    uint32_t reference_count;
    struct bk_arena arena; /* of the texts */
    struct bk_slice id, url, subject;
    struct bk_slice *types;
    size_t type_count;
    struct bk_event_filter *filter; /* NULL: none */
    struct bk_outbound_header *headers;
    size_t header_count;
    enum webhooks_format format;
    bool is_enabled, is_ordered;
    enum webhooks_problem problem;
    bool is_resting;        /* on in its record, but there is a problem */
    bool has_clear_headers; /* values that an earlier version left in the record */
    uint32_t in_flight_max;
    uint32_t rate_per_minute; /* the smaller of rateLimit and what its handshake allows; 0: none */
    uint32_t timeout_ms;
    bool is_verified;       /* by a handshake: each delivery names our origin then */
    struct bk_slice origin; /* likewise; empty where it is not verified */
    struct webhooks_keys keys;
    struct bk_ed25519_key signer; /* of keys.seed, when there is one */
};
/* Loop: reads the record of `_webhooks` and its row of `_webhookStates` (bk_store_read_now).
 * BK_NOT_FOUND; BK_CORRUPT: there is a problem: the config is there, maybe without keys or headers,
 * and is_enabled is false. Others: there is none.
 * One reference. */
enum bk_status webhooks_config_read(const struct webhooks_state *state, struct bk_tenant *tenant,
                                    struct bk_slice id, struct webhooks_config **config);
/* Our name in handshakes: --webhooks-origin, or the host of the application's URL. Borrowed until
 * the end of the turn; loop. */
struct bk_slice webhooks_origin(const struct webhooks_state *state, const struct bk_tenant *tenant);
struct webhooks_config *webhooks_config_ref(struct webhooks_config *config);
void webhooks_config_unref(struct webhooks_config *config); /* NULL is fine; wipes its keys */

/* --- headers.c: headers of its own ------------------------------------------------------------ */

/* In the record, and in answers, in the place of each value; in a request: it stays. */
#define WEBHOOKS_HEADER_KEPT "********"
/* {"name": "value", …} of a request's body, NULL or null: none. What must not be set is added to
 * the problems, as of the field "headers"; also a value that stays where the record, whose headers
 * are known (NULL: none), has no such name. */
void webhooks_headers_check(struct bk_problems *problems, const struct bk_json *headers,
                            const struct bk_json *known);
/* What is wrong with one, behind its name in a message; NULL: nothing. first: of its object. */
const char *webhooks_header_trouble(const struct bk_json *header, const struct bk_json *first);
/* Whether the value of any of them stays. NULL is fine. */
bool webhooks_headers_keep_any(const struct bk_json *headers);
/* Whether any has a value of its own. NULL: no. */
bool webhooks_headers_any_clear(const struct bk_json *headers);
/* As the record has them: {"name": KEPT, …}. */
void webhooks_headers_write_names(struct bk_buffer *out, const struct bk_json *headers);
/* Writer: seals their values into the endpoint's row, in the transaction that writes the names into
 * the record. BK_CONFLICT: one that is to stay is not there; BK_CORRUPT: what is there cannot be
 * unsealed. */
enum bk_status webhooks_headers_write(const struct webhooks_state *state,
                                      struct bk_transaction *transaction, struct bk_slice id,
                                      const struct bk_json *headers);
struct webhooks_owner;
/* Any thread that has the connection: {"name": "value", …} in the arena. BK_NOT_FOUND: none were
 * sealed; BK_CORRUPT. */
enum bk_status webhooks_headers_read(const struct webhooks_state *state,
                                     struct bk_connection *connection,
                                     const struct webhooks_owner *owner, struct bk_arena *arena,
                                     const struct bk_json **headers);
/* What has the value of a header of the record: one of those that were sealed, or, where an earlier
 * version left its value there, itself. NULL: nothing has. */
const struct bk_json *webhooks_header_sealed(const struct bk_json *header,
                                             const struct bk_json *sealed);
struct webhooks_tenant;
/* Seals what an earlier version left in records, where own->has_clear_headers says that there may
 * be some. When its tenant is opened, and now and then while it could not. */
void webhooks_headers_seal(struct webhooks_tenant *own);

/* --- secret.c --------------------------------------------------------------------------------- */

/* `_webhookStates`, a private table with one row an endpoint:
 *   webhook TEXT PRIMARY KEY
 *   secret, previous, seed TEXT   sealed, base64url; '' : none           secret.c
 *   headers TEXT                  likewise, their values; '' : none, or in the record  headers.c
 *   previousUntil INTEGER         wall ms                                secret.c
 *   sequence INTEGER              all events up to it that were asked for have ended    record.c
 *   isOff INTEGER                 1: its record says so, too                            enabling.c
 *   missedAfter INTEGER           where it was disabled; 0: nowhere, or made up for     enabling.c
 *   missedUntil INTEGER           where it was enabled again; 0: it is off              enabling.c
 *   failingSince INTEGER          wall ms of the first failure since the last success; 0  health.c
 *   warned INTEGER                how many warnings were given since                      health.c
 *   opens INTEGER                 of its breaker, in a row; 0: closed                     health.c
 *   probeAt INTEGER               wall ms of its next probe                             health.c
 *   pausedUntil INTEGER           wall ms, as it asked for by Retry-After                 health.c
 * It is gone with its record. */

/* What is sealed belongs to a column of an endpoint's row, and opens as that alone. */
struct webhooks_owner {
    struct bk_slice tenant, webhook;
};
/* base64url in the arena; of an empty text: empty. */
struct bk_slice webhooks_seal(const struct webhooks_state *state,
                              const struct webhooks_owner *owner, const char *column,
                              struct bk_slice text, struct bk_arena *arena);
/* The other way. False: it was sealed with another key, or for something else. */
bool webhooks_unseal(const struct webhooks_state *state, const struct webhooks_owner *owner,
                     const char *column, struct bk_slice sealed, struct bk_arena *arena,
                     struct bk_slice *text);

/* Random, or the one that is given ("whsec_" and 24 to 64 bytes in padded base64): the secret, and
 * nothing else of the keys. BK_INVALID. */
enum bk_status webhooks_secret_make(struct bk_slice given, struct webhooks_keys *keys);
/* A random seed: v1a from now on. */
void webhooks_seed_make(struct webhooks_keys *keys);
/* "whsec_…" */
struct bk_slice webhooks_secret_text(const struct webhooks_keys *keys, struct bk_arena *arena);
/* "whpk_…" of the seed. */
struct bk_slice webhooks_public_key_text(const struct webhooks_keys *keys, struct bk_arena *arena);
/* Writer: seals them into the endpoint's row, which is made when there is none. */
enum bk_status webhooks_keys_write(const struct webhooks_state *state,
                                   struct bk_transaction *transaction, struct bk_slice id,
                                   const struct webhooks_keys *keys);
/* Any thread that has the connection. BK_NOT_FOUND: there is no row, or none with a secret;
 * BK_CORRUPT: sealed with another key than this instance's, or for another webhook. */
enum bk_status webhooks_keys_read(const struct webhooks_state *state,
                                  struct bk_connection *connection, struct bk_slice tenant,
                                  struct bk_slice id, struct webhooks_keys *keys);

/* --- body.c, signature.c: what is sent -------------------------------------------------------- */

/* What makes the bytes of a delivery: the same ones at each attempt. */
struct webhooks_form {
    enum webhooks_format format;
    uint8_t epoch[8];
    uint64_t after; /* sequence of the event that this endpoint was sent before this one */
};
/* Appends the body. */
void webhooks_body_write(struct bk_buffer *out, const struct bk_event_fields *event,
                         const struct webhooks_form *form);
/* A buffer's worth that is enough for it. */
size_t webhooks_body_bytes_max(const struct bk_event_fields *event);
/* The event with its cursors, as CloudEvents has it. Points into itself. */
struct webhooks_cloudevent {
    struct bk_cloudevent event;
    char cursor[BK_CURSOR_BYTES], after[BK_CURSOR_BYTES];
};
void webhooks_cloudevent_init(struct webhooks_cloudevent *made, const struct bk_event_fields *event,
                              const struct webhooks_form *form);
/* Adds to the request what belongs to its form and signature: content-type, webhook-id,
 * webhook-timestamp, webhook-signature, ce-*, WebHook-Request-Origin, the endpoint's own headers,
 * user-agent. Texts are made in the arena. now_s: of this attempt. */
struct webhooks_signing {
    const struct webhooks_state *state;
    const struct webhooks_config *config;
    const struct bk_event_fields *event;
    const struct webhooks_form *form;
    struct bk_slice body;
    int64_t now_s;
};
enum bk_status webhooks_sign(const struct webhooks_signing *signing, struct bk_arena *arena,
                             struct bk_outbound_request *request);

/* --- endpoint.c: the endpoints of an open tenant ---------------------------------------------- */

/* In the tenant's slot. */
struct webhooks_tenant {
    struct webhooks_state *state;
    struct bk_tenant *tenant;
    struct bk_list endpoints;
    struct bk_map by_id;
    uint32_t endpoint_count;
    struct webhooks_recorder *recorder; /* record.c */
    struct webhooks_line *line;         /* queue.c */
    uint32_t use_count;                 /* of its endpoints together */
    struct webhooks_sealing *sealing;   /* headers.c: while it seals */
    bool has_clear_headers;             /* in some record there may still be values */
    bool is_behind;                     /* when the module was stopped … */
    uint64_t stopped_at;                /* … the journal's end */
    struct bk_feed_pin pin;             /* retry.c: what waits to be tried again is not pruned */
    bool is_pinned;
    uint32_t retry_count;       /* retry.c: tasks of it that are in the queue or sent */
    struct bk_timer *pin_timer; /* while it is */
};

/* Lives from its record's creation, or its tenant's opening, until it is deleted, or the tenant
 * closed, and nothing of it is under way. */
struct webhooks_endpoint {
    struct webhooks_tenant *of;
    struct bk_list link;
    char id[WEBHOOKS_ID_BYTES + 1];
    struct webhooks_config *config;
    bool is_gone;       /* deleted or closing: nothing new begins */
    bool is_disabling;  /* enabling.c: that is being written */
    uint32_t use_count; /* by those under way; see webhooks_endpoint_ref */
    /* endpoint.c: the position "webhooks/<id>", open while it is enabled. */
    struct bk_position position;
    char position_name[sizeof "webhooks/" + WEBHOOKS_ID_BYTES];
    bool is_open;
    uint64_t ended;      /* as stored in _webhookStates.sequence: what comes up to it has ended */
    uint64_t last_sent;  /* the newest sequence that was handed to it: the next one's `after` */
    struct bk_list hand; /* hand.c: what it was handed and is not recorded, in order */
    struct webhooks_config *asked; /* whose types, subject and filter the open position has */
    uint32_t generation;           /* another one where it was mended: another url, or off and on */
    uint32_t look_ups;    /* events that may have been recorded before the program ended … */
    uint64_t recorded_in; /* record.c: the last write that has something of it */
    bool has_returned;    /* something in hand was given back: how far it is stays as it is */
    bool wants_open;      /* its position could not be opened: it is tried again */
    char cursor[BK_CURSOR_BYTES];     /* of ended, while the position is opened */
    struct webhooks_queue *queue;     /* queue.c */
    struct webhooks_health *health;   /* health.c */
    struct webhooks_retries *retries; /* retry.c: attempts of its tasks */
    struct webhooks_figures *figures; /* metrics.c */
};
struct webhooks_tenant *webhooks_tenant_of(const struct webhooks_state *state,
                                           const struct bk_tenant *tenant);
/* NULL: there is none, or its tenant is not open. */
struct webhooks_endpoint *webhooks_endpoint_find(const struct webhooks_state *state,
                                                 const struct bk_tenant *tenant,
                                                 struct bk_slice id);
/* Makes, changes or drops it as its record says now, which the bus brings about as well, a moment
 * later. Not in the done of the write itself: the loop does not know the journal's end by then. */
void webhooks_endpoint_apply(struct webhooks_tenant *own, struct bk_slice id);
/* While something of it is under way; holds its tenant, too. */
void webhooks_endpoint_ref(struct webhooks_endpoint *endpoint);
void webhooks_endpoint_unref(struct webhooks_endpoint *endpoint);
void webhooks_endpoints_init(struct webhooks_state *state);
/* The channel is open: deliveries begin. At the end of the module's start. */
void webhooks_endpoints_start(struct webhooks_state *state);
void webhooks_endpoints_fini(struct webhooks_state *state);
enum bk_status webhooks_endpoints_open(struct webhooks_state *state, struct bk_tenant *tenant,
                                       struct webhooks_tenant *own, struct bk_error *error);
void webhooks_endpoints_close(struct webhooks_tenant *own);
/* Of the module: what is on its way may end, for a short while, then the channel is closed; what
 * is not recorded by then comes again after the next start. */
void webhooks_endpoints_stop(struct webhooks_state *state, void (*stopped)(void *user), void *user);

/* --- hand.c: first attempts ------------------------------------------------------------------- */

/* The position's on_event. */
enum bk_handed webhooks_hand_take(struct bk_position *position, struct bk_event *event);
/* What is not on its way is given back: its position is closed, and will be handed it again. */
void webhooks_hand_return(struct webhooks_endpoint *endpoint);
/* Wall time of the first event in hand that is not recorded; 0: there is none. */
int64_t webhooks_hand_oldest_ms(const struct webhooks_endpoint *endpoint);
void webhooks_hand_free(struct webhooks_endpoint *endpoint);

/* --- delivery.c: the rows of `_deliveries` ---------------------------------------------------- */

/* A delivery's id: the event's sequence as 8 characters of base 36, then the tail of the
 * endpoint's id. So those of an event are found by their head, those of both by a key, and ids
 * ascend as events do. */
void webhooks_delivery_id(char id[WEBHOOKS_ID_BYTES], uint64_t sequence, struct bk_slice webhook);

enum webhooks_delivery_state { WEBHOOKS_DELIVERED, WEBHOOKS_RETRYING, WEBHOOKS_FAILED };

/* How an attempt ended. */
enum webhooks_verdict {
    WEBHOOKS_OK,    /* 2xx */
    WEBHOOKS_AGAIN, /* anything that a later attempt may change */
    WEBHOOKS_STOP,  /* webhook-delivery: abort-message. This delivery ends as failed */
    WEBHOOKS_GONE   /* 410, webhook-delivery: disable. The endpoint is disabled */
};
struct webhooks_result {
    enum webhooks_verdict verdict;
    uint32_t status; /* HTTP's; 0: none came */
    int64_t time_ms; /* wall time of its beginning */
    uint32_t latency_ms;
    uint64_t retry_after_ms; /* at least; 0: nothing was said */
    bool is_timeout, was_blocked;
    struct bk_slice error;  /* in words; empty: OK */
    struct bk_slice answer; /* its start, valid UTF-8, at most WEBHOOKS_ANSWER_KEPT_BYTES */
};
/* What is written of an attempt, in the transaction of what follows from it. */
struct webhooks_attempt {
    struct bk_slice webhook, event, type, subject; /* event: its id */
    uint64_t sequence, after;
    uint32_t depth; /* of the event's chain of causes */
    enum webhooks_format format;
    enum webhooks_delivery_state state;   /* behind this attempt */
    int64_t next_ms;                      /* RETRYING: wall time of the next one */
    uint32_t number;                      /* 1 for the first of all; 0: one more than there are */
    const struct webhooks_result *result; /* NULL: only the state changes */
};
/* Writer: makes or goes on with the row, and reports what it was before (NULL: nobody asks). */
enum bk_status webhooks_delivery_write(struct bk_transaction *transaction,
                                       const struct webhooks_attempt *attempt);
/* {"time","status","latencyMs","error","answer"}, as it stands in `attempts`. */
void webhooks_result_write(struct bk_buffer *out, const struct webhooks_result *result);
/* Writer: emits webhook.exhausted for a delivery that ends as failed; nothing about an event of
 * webhooks themselves, which would go round in a circle. */
enum bk_status webhooks_exhausted_emit(struct bk_transaction *transaction,
                                       const struct webhooks_attempt *attempt);

/* --- queue.c: who is sent to next ------------------------------------------------------------- */

/* First attempts go before those that are tried again, in turns; replays get what they leave. */
enum webhooks_class { WEBHOOKS_FIRST, WEBHOOKS_RETRY, WEBHOOKS_REPLAY, WEBHOOKS_CLASS_COUNT };

/* One attempt, from being queued to its end. Embed it, zeroed. */
struct webhooks_send {
    /* The caller's. */
    struct webhooks_endpoint *endpoint; /* referenced by the queue while it has this */
    enum webhooks_class class;
    uint64_t sequence, after;
    enum webhooks_format format;
    struct bk_slice event_id; /* of one that is to be read from the journal; else empty */
    struct bk_event *event;   /* a reference, given over; NULL: it is read from the journal */
    bool has_begun;           /* its request is on its way */
    void (*begun)(struct webhooks_send *send); /* its time begins; may be NULL */
    /* Once, on the loop, when the attempt has an end: see status. */
    void (*done)(struct webhooks_send *send);
    void *user;
    /* The outcome, until the end of done. BK_OK: result holds, fields too (borrowed from the
     * event). BK_GONE, BK_NOT_FOUND: the event is not in the journal any more. BK_CANCELLED: it
     * was taken back before it was sent. BK_BUSY: not now, through no fault of the endpoint. */
    enum bk_status status;
    struct webhooks_result result;
    const struct bk_event_fields *fields;
    /* The queue's and send.c's. */
    struct bk_list link;
    struct webhooks_sending *sending;
    bool is_slow;        /* it counts among the slow ones */
    bool is_late;        /* and since it is on its way for long */
    uint32_t generation; /* of its endpoint, when it began */
    struct bk_list age;  /* among those that have not counted as slow yet … */
    uint64_t began_ms;   /* … since then */
    size_t held_bytes;   /* of its event, among those of all */
};
void webhooks_places_init(struct webhooks_state *state);
void webhooks_places_fini(struct webhooks_state *state);
void webhooks_line_open(struct webhooks_tenant *own);
void webhooks_line_close(struct webhooks_tenant *own);
void webhooks_queue_open(struct webhooks_endpoint *endpoint);
/* When nothing of it is under way. */
void webhooks_queue_close(struct webhooks_endpoint *endpoint);
/* Of an endpoint: cancels all that waits, and wishes for the end of what is sent. */
void webhooks_queue_clear(struct webhooks_endpoint *endpoint);
/* Its address is another: what is known of how it answers is of no use. */
void webhooks_queue_doubt(struct webhooks_endpoint *endpoint);
/* Once a second: what has been on its way for long counts as slow from now on. */
void webhooks_places_look(struct webhooks_state *state);
/* How many requests of all tenants are on their way. */
uint32_t webhooks_places_taken(const struct webhooks_state *state);
/* Waits for its turn, its places, its rate and its endpoint's health. done never before this
 * returns. */
void webhooks_queue_put(struct webhooks_send *send);
/* Counts the bytes of its event, which is read again in its turn where there is no room for them:
 * of what is not put yet. And the end of that. */
void webhooks_queue_hold(struct webhooks_send *send);
void webhooks_queue_let_go(struct webhooks_send *send);
/* Out of the queue, with BK_CANCELLED, now; of one that is being sent: a wish. */
void webhooks_queue_cancel(struct webhooks_send *send);
/* Something may begin now that could not: health, rate, config. */
void webhooks_queue_wake(struct webhooks_endpoint *endpoint);
/* How many wait and are being sent. */
struct webhooks_queue_facts {
    uint32_t waiting[WEBHOOKS_CLASS_COUNT], sending;
};
struct webhooks_queue_facts webhooks_queue_facts(const struct webhooks_endpoint *endpoint);

/* --- send.c: one request ---------------------------------------------------------------------- */

/* Called by the queue alone: builds, signs, submits; judges the answer (verdict, Retry-After),
 * reports it to the endpoint's health, then calls send->done. */
void webhooks_send_begin(struct webhooks_send *send);
/* The other way: the request is over, and its place free; or it could not begin now, and waits at
 * the head of its queue. */
void webhooks_queue_ended(struct webhooks_send *send);
void webhooks_queue_again(struct webhooks_send *send);
void webhooks_send_cancel(struct webhooks_send *send);
/* Sends an event that is in no journal to an endpoint, now, past queue and health, and records
 * nothing: a test. The same send->done. */
void webhooks_send_test(struct webhooks_send *send);

/* --- record.c: first attempts and what they lead to, on disk together ------------------------- */

/* Of a send with BK_OK whose event came from the position (or from a replay): the delivery's row,
 * the endpoint's `sequence`, and, where it failed, the task that tries again; many share a commit.
 * recorded comes on the loop when it is on disk; BK_OK, or it is to be recorded again (a write that
 * fails is tried again here until the program stops: then BK_CLOSING). */
struct webhooks_record {
    struct webhooks_endpoint *endpoint;
    struct webhooks_attempt attempt;
    struct webhooks_result result; /* texts are copied */
    uint64_t ended;                /* new _webhookStates.sequence; 0: it stays */
    bool is_replay;
    void (*recorded)(struct webhooks_record *record, enum bk_status status);
    void *user;
    struct bk_list link;
    char *texts; /* record.c's copies */
};
void webhooks_record(struct webhooks_record *record);
void webhooks_recorder_open(struct webhooks_tenant *own);
void webhooks_recorder_close(struct webhooks_tenant *own);

/* --- retry.c: what failed is work of kind "webhooks" in the lane of its endpoint -------------- */

extern const struct bk_work_kind webhooks_work_kinds[];
enum { WEBHOOKS_WORK_KIND_COUNT = 3 };
/* "0s,5s,30s,2m,…". state NULL: it is looked at only. BK_INVALID. */
enum bk_status webhooks_schedule_parse(struct bk_slice text, struct webhooks_state *state,
                                       struct bk_error *error);
/* At the end of webhooks_endpoints_open, and at its tenant's closing. */
void webhooks_retry_open(struct webhooks_tenant *own);
void webhooks_retry_close(struct webhooks_tenant *own);
/* Writer, behind webhooks_delivery_write of the same attempt: adds the task of the next one
 * (number + 1), due at next_ms. */
enum bk_status webhooks_retry_add(const struct webhooks_state *state,
                                  struct bk_transaction *transaction,
                                  const struct webhooks_attempt *attempt, bool is_replay);
/* When the attempt behind `number` failed ones is due, from now, with jitter; -1: there is none
 * left. floor_ms: what the endpoint asked for (Retry-After). */
int64_t webhooks_retry_delay(const struct webhooks_state *state, uint32_t number,
                             uint64_t floor_ms);
/* An ordered endpoint: whether an event of this subject has to wait behind one that is tried again.
 * It is parked then (record.c, without a result) in place of being sent. */
bool webhooks_retry_blocks(const struct webhooks_endpoint *endpoint, struct bk_slice subject);
/* Loop: a task of this event is on disk, and its position not acknowledged yet. */
void webhooks_retry_added(struct webhooks_endpoint *endpoint, uint64_t sequence);
/* Its tasks hand over nothing for so long: those in the queue are postponed. */
void webhooks_retry_rest(struct webhooks_endpoint *endpoint, uint64_t delay_ms);
void webhooks_retry_wake(struct webhooks_endpoint *endpoint);
/* After a change of the config: policy of the lane. And at its tenant's opening. */
void webhooks_retry_configure(struct webhooks_endpoint *endpoint);
void webhooks_retry_forget(struct webhooks_endpoint *endpoint);

/* --- health.c: breaker, failing, disabling ---------------------------------------------------- */

void webhooks_health_open(struct webhooks_endpoint *endpoint);
/* When its lane is there: it rests, where it was to rest when the program ended. */
void webhooks_health_begin(struct webhooks_endpoint *endpoint);
void webhooks_health_close(struct webhooks_endpoint *endpoint);
/* Of each attempt of any class. */
void webhooks_health_report(struct webhooks_endpoint *endpoint,
                            const struct webhooks_result *result);
/* How many requests may be on their way to it: UINT32_MAX as it is configured; 1: a probe; 0: none
 * until health wakes the queue. */
uint32_t webhooks_health_allows(struct webhooks_endpoint *endpoint);
/* In wall time; 0: none is to come. */
struct webhooks_health_times {
    int64_t probe_at_ms, paused_until_ms;
};
struct webhooks_health_times webhooks_health_times(const struct webhooks_endpoint *endpoint);
/* "closed", "open", "half-open". */
const char *webhooks_health_name(const struct webhooks_endpoint *endpoint);
/* A test of it was answered well, it was enabled, or its URL is another one: it is whole. */
void webhooks_health_heal(struct webhooks_endpoint *endpoint);
/* Answers slowly: its requests may not take the places of others. */
bool webhooks_health_is_slow(const struct webhooks_endpoint *endpoint);

/* --- enabling.c: a webhook is switched off and on --------------------------------------------- */

/* By the module itself: 410, or failing for days. reason: "gone", "failing". Emits
 * webhook.disabled. */
void webhooks_disable(struct webhooks_endpoint *endpoint, const char *reason);

/* --- replay.c --------------------------------------------------------------------------------- */

void webhooks_replay_run(struct bk_work_task *task, void *user);
void webhooks_replay_cancel(struct bk_work_task *task, void *user);
enum bk_status webhooks_replay_end(struct bk_transaction *transaction,
                                   const struct bk_work_end *end, void *user);
/* Writer: with a webhook that is deleted. */
enum bk_status webhooks_replay_clear(const struct webhooks_state *state,
                                     struct bk_transaction *transaction, struct bk_slice webhook);

/* --- sweep.c ---------------------------------------------------------------------------------- */

void webhooks_sweep(struct bk_work_task *task, void *user);
/* Writer: from now on there is one a day, when a webhook is created; and one at once, when one is
 * deleted. */
enum bk_status webhooks_sweep_plan(const struct webhooks_state *state,
                                   struct bk_transaction *transaction);
enum bk_status webhooks_sweep_soon(const struct webhooks_state *state,
                                   struct bk_transaction *transaction);

/* --- metrics.c -------------------------------------------------------------------------------- */

void webhooks_figures_open(struct webhooks_endpoint *endpoint);
void webhooks_figures_close(struct webhooks_endpoint *endpoint);
void webhooks_figures_count(struct webhooks_endpoint *endpoint,
                            const struct webhooks_result *result);
void webhooks_metrics_init(struct webhooks_state *state);

/* --- routes ----------------------------------------------------------------------------------- */

/* webhooks_routes.c */
void webhooks_list(struct bk_request *request);
void webhooks_view(struct bk_request *request);
void webhooks_create(struct bk_request *request);
void webhooks_update(struct bk_request *request);
void webhooks_delete(struct bk_request *request);
/* verbs.c */
void webhooks_test(struct bk_request *request);
void webhooks_rotate(struct bk_request *request);
void webhooks_probe(struct bk_request *request);
void webhooks_stats(struct bk_request *request);
/* replay_routes.c */
void webhooks_replay_many(struct bk_request *request);
void webhooks_replay_one(struct bk_request *request);
/* deliveries_routes.c */
void webhooks_deliveries_list(struct bk_request *request);
void webhooks_delivery_view(struct bk_request *request);
/* listen_command.c */
int webhooks_run_command(struct bk_command_context *context, int argument_count, char **arguments);

#endif
