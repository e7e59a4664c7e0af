/* What the files of this module share; module.c has the whole in words. */
#ifndef REALTIME_PRIVATE_H
#define REALTIME_PRIVATE_H

#include "bakend/event_filter.h"
#include "bakend/interest.h"
#include "bakend/map.h"
#include "bakend/module.h"
#include "bakend/show.h"

enum {
    REALTIME_SUBSCRIPTIONS_MAX = 100, /* of one WebSocket connection */
    REALTIME_TYPES_MAX = 100,         /* of one subscription */
    REALTIME_SUBJECT_BYTES_MAX = 1024,
    REALTIME_TOPICS_MAX = 1000, /* of one stream, the contract's */
    REALTIME_TOPIC_BYTES_MAX = 2500,
    REALTIME_CLIENT_ID_BYTES = 40,
    REALTIME_REPLAY_EVENTS_MAX = 10000,
    REALTIME_TICK_MS = 1000,
};

/* Why the server ends a WebSocket: 4000 to 4499 come back, 4500 to 4999 do not. */
enum realtime_code {
    REALTIME_CODE_STOPPING = 4000,
    REALTIME_CODE_SLOW = 4008,
    REALTIME_CODE_REPLAY = 4009,
    REALTIME_CODE_TOKEN = 4501,
    REALTIME_CODE_MISUSE = 4508,
};

struct realtime_tenant;
struct realtime_filter;
struct realtime_peer;
struct realtime_replay;
struct realtime_stream;
struct realtime_subscription;

struct realtime_figures {
    uint64_t frames, slow, revoked, replays, replays_refused, subscriptions_refused;
    uint64_t judged_in_memory, judged_by_tables, judged_too_late, filtered, overtaken;
    uint64_t subscription_bytes;
    uint32_t sessions, streams, subscriptions;
};

struct realtime_options {
    int64_t subscriptions_max_bytes; /* of all tenants; one may have half */
};

struct realtime_hearing {
    struct bk_subscription subscription;
    struct realtime *realtime;
};

struct realtime {
    struct bk_module_context *context;
    struct realtime_hearing hearings[2]; /* "*" and "_*" */
    struct bk_bus_tap tap;
    struct bk_task task;             /* fan_out.c */
    struct bk_list busy;             /* tenants with events to send */
    uint64_t serial;                 /* of the last event sent */
    struct bk_map viewers;           /* by actor's id, the first of a ring */
    struct bk_list viewers_by_check; /* the one checked longest ago first */
    int64_t expires_s;               /* no viewer's token ends before; 0: none will end */
    struct bk_revocation_hook revocation;
    struct bk_list sessions;
    struct bk_list streams; /* the one that was idle longest first */
    struct bk_map streams_by_id;
    struct bk_list replays;   /* that wait for their next page */
    uint32_t pages;           /* being read or sent */
    struct bk_list questions; /* asker.c: those kept, the one asked longest ago first */
    uint32_t question_count;
    struct bk_timer *tick, *drain_timer;
    uint32_t drain_ticks; /* left */
    struct bk_drain_hook drain;
    struct bk_metrics_source metrics;
    struct bk_client_hook client_hook;
    struct bk_arena arena; /* for what is done with before the call returns */
    struct bk_buffer text, other_text;
    struct realtime_figures figures;
};

static inline uint64_t realtime_now_ms(const struct realtime *realtime) {
    return bk_loop_now_ms(realtime->context->loop);
}

/* --- item.c: an event on its way -------------------------------------------------------------- */

/* Where the part, which is not empty, begins in the text; its length when it is not there. */
size_t realtime_find(struct bk_slice text, struct bk_slice part);

enum { REALTIME_VIEW_COUNT = 3, REALTIME_FORM_COUNT = 2 * REALTIME_VIEW_COUNT };

/* How some see it: by their view, and with or without what it was before. */
struct realtime_form {
    bool is_made;
    struct bk_slice payload, previous; /* of the event, or in text */
    struct bk_buffer text;
    struct bk_buffer record; /* for streams */
    struct bk_shared *frame; /* for WebSockets */
    /* For filters. */
    struct bk_event_fields fields;
    struct bk_event_view *view;
};

/* What is asked of it; a rule of the collection, now and before, or what a subscription says. */
enum realtime_asked {
    REALTIME_LIST,
    REALTIME_VIEW,
    REALTIME_MANAGE,
    REALTIME_LIST_BEFORE,
    REALTIME_VIEW_BEFORE,
    REALTIME_RULE_COUNT,
    REALTIME_FILTER = REALTIME_RULE_COUNT,
    REALTIME_EXPAND,
    REALTIME_ASKED_COUNT
};

/* What is known of a rule as soon as it is asked for the first time. */
struct realtime_rule {
    bool is_known;
    bool lacks_values; /* it speaks of what the event does not say: the table is asked */
    enum { REALTIME_OF_ANYBODY, REALTIME_OF_ACTOR, REALTIME_OF_SUBSCRIPTION } of;
};

struct realtime_verdict;
struct realtime_gone;

/* What is made of it is made at first need and shared by all who get it. */
struct realtime_item {
    uint64_t serial;   /* of its sending: told apart by it */
    uint64_t sequence; /* 0: transient */
    struct bk_event_fields fields;
    struct bk_slice json;
    /* Of a record: where it is from, borrowed for this turn, and what has become of it. */
    const struct bk_collection *collection;
    enum { REALTIME_CREATED, REALTIME_UPDATED, REALTIME_DELETED } change;
    uint64_t generation; /* of the schema that it was judged by */
    /* Nobody is asked anything: by the list rule, by the view rule. All but superusers get one
     * frame. */
    bool is_for_all[2];
    struct bk_shared *frame_for_all; /* a form's; NULL: not made yet */
    /* What it was made of, at first need. */
    struct bk_arena arena;
    bool is_read, is_broken; /* broken: its JSON cannot be read */
    const struct bk_json *payload, *previous, *hidden, *hidden_before;
    struct bk_value *values, *before; /* as it is by it, and as it was before */
    struct realtime_form forms[REALTIME_FORM_COUNT];
    struct bk_shared *leaving;  /* the frame for those who may not see it any more */
    struct realtime_gone *gone; /* what its write removed; NULL: nothing, or it is not known */
    /* judge.c */
    struct realtime_verdict *verdicts;
    uint32_t verdict_count, verdict_capacity;
    uint32_t open_count; /* questions that a reader has to answer */
    struct realtime_rule rules[REALTIME_RULE_COUNT];
    char cursor[BK_CURSOR_BYTES];
};
void realtime_item_init(struct realtime_item *item, struct realtime_tenant *tenant,
                        const struct bk_event_fields *fields, struct bk_slice json);
/* Finds the collection anew: in each turn, before the item is judged. */
void realtime_item_resolve(struct realtime_item *item, struct realtime_tenant *tenant);
void realtime_item_fini(struct realtime_item *item);
struct bk_slice realtime_item_cursor(const struct realtime_item *item);
/* Whether it is an auth record's with an address that it does not show. */
bool realtime_item_hides_email(struct realtime_item *item);
/* A value for each field of the collection, as of this event or before it; NULL: it has none. */
const struct bk_value *realtime_item_values(struct realtime_item *item, bool is_before);
/* Whether the text may speak of a field of which the event has no value: a secret, one that was
 * left out, in the journal a hidden one. */
bool realtime_item_lacks(struct realtime_item *item, struct bk_slice text);
/* What the column has of which this JSON was written. */
struct bk_value realtime_value_of(const struct bk_field *field, const struct bk_json *json);
/* The event as they see it; borrowed. */
struct realtime_form *realtime_item_form(struct realtime_item *item, enum bk_view view,
                                         bool with_previous);
struct bk_event_view *realtime_form_view(struct realtime_item *item, struct realtime_form *form);
struct bk_shared *realtime_item_frame(struct realtime_item *item, enum bk_view view,
                                      bool with_previous);
/* "deleted", and nothing else of the record. */
struct bk_shared *realtime_item_leaving(struct realtime_item *item);
/* The record as REST answers it; borrowed. */
struct bk_slice realtime_item_record(struct realtime_item *item, enum bk_view view);

/* --- asker.c: on whose behalf rules are asked ------------------------------------------------- */

/* What a stream's subscription says of its request. */
struct realtime_wording {
    struct bk_slice options; /* "query":{…},"headers":{…} of texts; empty: nothing */
    struct bk_slice filter, expand;
};

struct realtime_asker {
    struct realtime_tenant *tenant;
    struct bk_slice key; /* label and options */
    struct bk_slice options, filter, expand;
    struct bk_actor actor;
    uint32_t reference_count;
    struct realtime_asker *base; /* without options; NULL: this one has none */
    struct bk_list kin;          /* of the base: those with options; of those: the link */
    struct bk_list questions;
    uint64_t serial; /* of the item that it has a verdict of … */
    uint32_t slot;   /* … and where */
};

/* A text that is asked: of records as they are stored or as an event has them; a rule's or a
 * client's. */
struct realtime_words {
    struct bk_slice text;
    enum bk_question_of of;
    enum bk_filter_trust trust;
    bool is_expand;
};

/* Ready to be asked, on any thread, while it is referred to. */
struct realtime_question {
    struct bk_list link, recent;
    struct realtime *realtime;
    uint32_t reference_count;
    bool is_kept;
    struct bk_arena arena;
    struct bk_schema *schema;
    const struct bk_collection *collection;
    struct realtime_words words;
    struct bk_slice text;
    struct bk_actor actor;
    struct bk_asker asker;
    struct bk_question question;
    enum bk_status status;
};

/* With one more reference. wording: NULL for none. */
struct realtime_asker *realtime_asker_get(struct realtime_tenant *tenant,
                                          const struct bk_actor *actor,
                                          const struct realtime_wording *wording);
struct realtime_asker *realtime_asker_ref(struct realtime_asker *asker);
void realtime_asker_unref(struct realtime_asker *asker); /* NULL is fine */
/* A record has changed that may stand for one. */
void realtime_askers_on_change(struct realtime_tenant *tenant, struct bk_slice subject);
/* Borrowed for this call of the loop. */
struct realtime_question *realtime_asker_question(struct realtime_asker *asker,
                                                  const struct bk_collection *collection,
                                                  const struct realtime_words *words);
void realtime_question_unref(struct realtime_question *question);

/* --- judge.c: who may see an event, and what of it -------------------------------------------- */

enum realtime_sight {
    REALTIME_UNSEEN,
    REALTIME_SEEN,
    REALTIME_LEFT, /* could be seen until now */
    REALTIME_OPEN, /* a reader has to be asked first: see realtime_judge */
};
struct realtime_look {
    enum bk_view view;
    bool with_previous;
    struct bk_slice shown; /* the record with its relations; empty: as the view has it */
};
/* Whether it is judged record by record, so that some may see a change and others its end. */
bool realtime_item_is_asked(const struct realtime_item *item);
enum realtime_sight realtime_look(struct realtime_item *item,
                                  const struct realtime_subscription *subscription,
                                  struct realtime_look *look);
/* What is open of the item is answered by a reader: then done comes, never before this returns. The
 * item is not touched until then. */
void realtime_judge(struct realtime_tenant *own, struct realtime_item *item,
                    void (*done)(void *user), void *user);
void realtime_verdicts_drop(struct realtime_item *item);

/* --- gone.c: what a write removed ------------------------------------------------------------- */

/* The events of a commit, before any of them is sent. */
void realtime_gone_keep(struct realtime_tenant *own, struct bk_event *const *events,
                        size_t event_count);
/* Writes that end before this sequence. */
void realtime_gone_forget(struct realtime_tenant *own, uint64_t before);
struct realtime_gone *realtime_gone_of(struct realtime_tenant *own, uint64_t sequence);
/* On a reader: bk_question_ask_values where the tables that it joins have what was removed, too. */
enum bk_status realtime_gone_ask(struct realtime_gone *gone,
                                 const struct realtime_question *question,
                                 struct bk_connection *connection, const struct bk_value *values);

/* --- filter.c: of WebSocket subscriptions, over events ---------------------------------------- */

struct realtime_filter {
    struct realtime_tenant *tenant;
    struct bk_event_filter *filter;
    uint32_t reference_count;
    uint64_t serial; /* of the item that the answers are of */
    uint8_t answers[REALTIME_FORM_COUNT];
};
struct realtime_filter *realtime_filter_get(struct realtime_tenant *tenant,
                                            struct bk_event_filter *filter);
void realtime_filter_unref(struct realtime_filter *filter); /* NULL is fine */
bool realtime_filter_passes(struct realtime_filter *filter, struct realtime_item *item,
                            const struct realtime_look *look);

/* --- viewer.c: who looks ---------------------------------------------------------------------- */

/* Shared by all connections of one token in one tenant; one more for its guests. */
struct realtime_viewer {
    struct bk_list checked; /* of realtime->viewers_by_check; guests are in none */
    struct bk_list same;    /* a ring: those of one id */
    struct bk_list peers;
    struct realtime_tenant *tenant;
    struct bk_tenant *home; /* that issued the token, held; NULL for guests and the system */
    struct bk_actor actor;
    struct realtime_asker *asker;
    struct bk_slice token;
    uint64_t checked_ms;
};
/* Whether who asks may come from where the connection does. */
bool realtime_may_come(const struct realtime_peer *peer, const struct bk_actor *actor,
                       const struct bk_tenant *home);
void realtime_viewer_join_guest(struct realtime_peer *peer);
/* home: of the token; borrowed. Texts are copied. */
void realtime_viewer_join(struct realtime_peer *peer, const struct bk_actor *actor,
                          struct bk_slice token, struct bk_tenant *home);
/* Harmless when it has none. */
void realtime_viewer_leave(struct realtime_peer *peer);
/* A record or a collection changed: do tokens that depend on it still hold? */
void realtime_viewers_on_event(struct realtime_tenant *tenant, const struct bk_event *event);
/* What the authenticator says of tokens. */
void realtime_viewers_on_revoked(struct bk_revocation_hook *hook,
                                 const struct bk_revocation *revocation);
/* Ends those whose token has expired, and looks at those that were not looked at for a while. */
void realtime_viewers_tick(struct realtime *realtime, uint64_t now_ms);
/* --- peer.c: connections of either kind ------------------------------------------------------- */

struct realtime_peer {
    struct realtime *realtime;
    struct realtime_tenant *tenant; /* NULL: a stream that nobody has claimed yet */
    struct realtime_viewer *viewer;
    struct bk_list viewer_link;
    struct bk_list subscriptions;
    struct realtime_replay *replay; /* NULL: live */
    uint64_t serial;                /* of the last event that it was sent */
    uint32_t subscription_count;
    bool is_stream;
};

struct realtime_subscription {
    struct bk_interest interest; /* texts are in this allocation */
    struct realtime_peer *peer;
    struct bk_list link;
    uint64_t from, until;           /* served: from < sequence <= until */
    uint64_t serial;                /* of the event under way that it is matched by … */
    uint32_t slot;                  /* … and where */
    uint32_t bytes;                 /* budget.c */
    struct realtime_filter *filter; /* of a WebSocket: filter.c; NULL: none */
    /* Of streams. */
    struct bk_slice topic, fields;
    struct realtime_asker *asker; /* with what its options say; NULL: the viewer's */
    bool tells_cursor;            /* in its frames' data */
    bool is_kept;                 /* by the set that is about to take the place of this one */
};

struct realtime_request { /* for a subscription */
    const struct bk_slice *types;
    size_t type_count;
    struct bk_slice subject, topic, fields;
    struct bk_event_filter *filter; /* borrowed; NULL: none */
    struct realtime_wording wording;
    bool is_deaf;      /* asks for what never happens */
    bool tells_cursor; /* of a stream: in its frames' data too */
};
/* The tenant gets one more hold. */
void realtime_peer_enter(struct realtime_peer *peer, struct bk_tenant *tenant);
/* Ends subscriptions and replay, leaves viewer and tenant. */
void realtime_peer_leave(struct realtime_peer *peer);
/* Where all is delivered that comes before. */
uint64_t realtime_peer_position(const struct realtime_peer *peer);
struct realtime_subscription *realtime_subscribe(struct realtime_peer *peer,
                                                 const struct realtime_request *request,
                                                 uint64_t from);
/* The successor asks for less, and takes over what is on its way. The former one goes next. */
void realtime_succeed(struct realtime_subscription *subscription,
                      struct realtime_subscription *successor);
/* Somebody else looks now: what was served may be asked for again. */
void realtime_forget_served(struct realtime_peer *peer);
void realtime_unsubscribe(struct realtime_subscription *subscription);
void realtime_unsubscribe_all(struct realtime_peer *peer);

/* --- budget.c: what subscriptions take in memory ---------------------------------------------- */

/* Of a subscription itself, without what the set of interests takes. */
size_t realtime_subscription_bytes(const struct realtime_request *request);
/* At most what it takes in all. */
size_t realtime_request_bytes_max(const struct realtime_request *request);
/* NULL, or why so much more is refused, which is counted. */
const char *realtime_refuse_bytes(const struct realtime_tenant *own, size_t bytes);
/* After each change of the tenant's subscriptions. */
void realtime_count_bytes(struct realtime_tenant *own);

/* --- fan_out.c: from the bus to all that ask -------------------------------------------------- */

struct realtime_tenant {
    struct realtime *realtime;
    struct bk_tenant *tenant;
    struct bk_interests *interests;
    struct realtime_viewer *guest;
    struct realtime_asker *anybody; /* for rules that do not say who asks */
    struct bk_map askers, filters;
    uint64_t watermark;        /* the last durable event that was begun to be sent */
    size_t subscription_bytes; /* without the interests */
    size_t counted_bytes;      /* with them, as they stand in the figures */
    struct bk_list busy;
    struct bk_event **waiting; /* a ring */
    uint32_t waiting_first, waiting_count, waiting_capacity;
    struct bk_list gone; /* gone.c */
    /* The event under way. */
    struct bk_event *event;
    struct realtime_item item;
    struct realtime_subscription **matched; /* NULL: removed meanwhile, or done */
    size_t matched_count, matched_capacity, matched_next;
    size_t left_count; /* at the front: those that are looked at once more */
    bool is_judging;   /* a reader is asked */
    bool is_last_pass; /* all is answered: who could see it until now is told */
};
struct realtime_tenant *realtime_tenant_of(const struct realtime *realtime,
                                           const struct bk_tenant *tenant);
enum bk_status realtime_tenant_open(struct bk_module_context *context, struct bk_tenant *tenant,
                                    void **state, struct bk_error *error);
void realtime_tenant_close(struct bk_module_context *context, struct bk_tenant *tenant,
                           void *state);
enum bk_status realtime_on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                 struct bk_event *event);
void realtime_on_task(struct bk_task *task);
void realtime_on_committed(struct bk_bus_tap *tap, struct bk_tenant *tenant,
                           struct bk_event *const *events, size_t event_count);
/* All events up to this one were sent to those who are live. */
uint64_t realtime_sent_position(const struct realtime_tenant *own);

/* --- replay.c: what was missed ---------------------------------------------------------------- */

/* From here on the peer gets nothing live, but reads the journal behind position until it has
 * caught up. Before the subscription that wants it is made; then realtime_replays_pump. */
void realtime_replay_begin(struct realtime_peer *peer, uint64_t position);
/* Begins to read as many pages as may be. */
void realtime_replays_pump(struct realtime *realtime);
/* The peer may take more. */
void realtime_replay_resume(struct realtime_replay *replay);
uint64_t realtime_replay_position(const struct realtime_replay *replay);
/* The peer goes. */
void realtime_replay_drop(struct realtime_replay *replay);
void realtime_replays_tick(struct realtime *realtime);

/* --- session.c, message.c: WebSockets --------------------------------------------------------- */

struct realtime_session {
    struct realtime_peer peer;
    struct bk_channel *channel;
    struct bk_list link;
    struct realtime_pending *pending; /* pending.c: a message that takes time */
    uint8_t refusals;                 /* of tokens, one after the other */
    bool is_bound;                    /* its tenant is decided */
    bool is_closing;
    uint8_t address_length;
    char address[]; /* that it comes from */
};
void realtime_session_accept(struct bk_request *request, struct realtime *realtime);
/* Ends it with a code; on_close follows. */
void realtime_session_close(struct realtime_session *session, enum realtime_code code,
                            struct bk_slice reason);
/* BK_OK, or it was too slow and is closed. */
enum bk_status realtime_session_send(struct realtime_session *session, struct bk_shared *frame);
void realtime_session_answer(struct realtime_session *session, struct bk_slice answer);
/* message.c: one message, when none is pending. */
void realtime_message(struct realtime_session *session, struct bk_slice message);

/* An error of a message. field: NULL or the member that is wrong. */
void realtime_refuse(struct realtime_session *session, struct bk_slice id, const char *code,
                     const char *message, const char *field);
void realtime_answer_ok(struct realtime_session *session, struct bk_slice id);
/* Tells where it stands; recovered: -1 when nothing was to be. */
void realtime_answer_subscribed(struct realtime_session *session, struct bk_slice id,
                                uint64_t position, int recovered);

/* --- pending.c: messages that take time ------------------------------------------------------- */

/* Keeps a message until the pending one is done. */
void realtime_pending_keep(struct realtime_session *session, struct bk_slice message);
void realtime_pending_drop(struct realtime_session *session);
/* A token of a tenant that has to be opened first. */
void realtime_pending_auth(struct realtime_session *session, struct bk_slice id,
                           struct bk_slice token, struct bk_slice tenant);
/* A subscription that begins at a time. */
void realtime_pending_time(struct realtime_session *session, struct bk_slice id,
                           const struct realtime_request *request, struct bk_slice after);
/* message.c: what follows them. The tenant is borrowed. */
void realtime_auth_in(struct realtime_session *session, struct bk_slice id, struct bk_slice token,
                      struct bk_tenant *tenant);
void realtime_subscribe_at(struct realtime_session *session, struct bk_slice id,
                           const struct realtime_request *request, uint64_t position);

/* --- stream.c, topic.c: the contract's event streams ------------------------------------------ */

void realtime_stream_open(struct bk_request *request, struct realtime *realtime);
/* POST: replaces what a stream is subscribed to. */
void realtime_stream_subscribe(struct bk_request *request);
/* BK_OK; BK_BUSY: taken, wait for the drain; anything else: the stream is gone. */
enum bk_status realtime_stream_send(struct realtime_subscription *subscription,
                                    struct realtime_item *item, const struct realtime_look *look);
void realtime_stream_end(struct realtime_peer *peer);
struct bk_slice realtime_stream_address(const struct realtime_peer *peer);
/* A message from somebody else, for one stream, once. */
enum bk_status realtime_stream_tell(struct bk_client_hook *hook,
                                    const struct bk_client_message *message);
void realtime_streams_tick(struct realtime *realtime, uint64_t now_ms);
/* Calls for each; it may end none. */
void realtime_streams_each(struct realtime *realtime, struct realtime_tenant *own,
                           void (*call)(struct realtime_tenant *own, struct realtime_peer *peer));
/* Ends each with a chance of one in one_of. */
void realtime_streams_end(struct realtime *realtime, uint32_t one_of);

struct realtime_topic {
    struct bk_slice text; /* as given: the name of its frames */
    struct bk_slice collection, id, fields, since;
    struct realtime_wording wording;
    bool is_deaf;
};
/* Texts are borrowed or in the arena. */
void realtime_topic_parse(struct bk_arena *arena, struct bk_slice text,
                          struct realtime_topic *topic);

/* --- drain.c ---------------------------------------------------------------------------------- */

void realtime_drain_init(struct realtime *realtime);
void realtime_drain_stop(struct realtime *realtime);

#endif
