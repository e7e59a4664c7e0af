/* What the files of the change feed's module share. */
#ifndef BAKEND_CHANGEFEED_PRIVATE_H
#define BAKEND_CHANGEFEED_PRIVATE_H

#include "bakend/event_filter.h"
#include "bakend/interest.h"
#include "bakend/module.h"

enum {
    CHANGEFEED_WAIT_MAX_S = 60,
    CHANGEFEED_STREAMS_MAX = 1000,  /* of one tenant, open at once */
    CHANGEFEED_WAITING_MAX = 10000, /* readers of one tenant that wait at once */
};

struct changefeed_state {
    struct bk_module_context *context;
    /* waiting.c */
    struct bk_subscription subscriptions[2]; /* "*" and "_*": each event comes to one of them */
    struct bk_drain_hook drain_hook;
    struct bk_list waiting, ready; /* of struct changefeed_waiter */
    struct bk_task ready_task;
    uint32_t waiting_count;
    /* stream.c */
    struct bk_list streams; /* those that wrote longest ago first */
    struct bk_timer *heartbeat;
    uint32_t stream_count;
    uint64_t streamed_count; /* events, ever */
    /* token.c */
    struct bk_list guards;
    int64_t guards_expire_s; /* no token of theirs ends before; 0: none will end */
    struct bk_revocation_hook revocation;
    struct bk_metrics_source metrics;
    /* consumer.c */
    struct bk_timer *consumer_tick;
    struct bk_metrics_source consumer_metrics;
    struct bk_drain_hook consumer_drain;
    uint64_t consumers_lost; /* ever */
};

/* In the tenant's slot. */
struct changefeed_tenant {
    struct bk_interests *interests;
    uint64_t dispatched; /* the last durable event that the interests were asked about */
    uint32_t stream_count;
    struct bk_list consumers; /* by name */
    uint32_t consumer_count;
};

struct changefeed_state *changefeed_state_of(const struct bk_request *request);
struct changefeed_tenant *changefeed_tenant_of(const struct changefeed_state *state,
                                               const struct bk_tenant *tenant);

/* --- token.c: does the token of a long request still hold ------------------------------------- */

#define CHANGEFEED_TOKEN_OVER                                                                      \
    "The token is not valid any more: it expired, was revoked, or may not read events. Come back " \
    "with a new one."
/* Embed it in what lasts longer than a request as a rule. Zeroed: there is nothing to judge. */
struct changefeed_guard {
    struct bk_list link; /* in state->guards */
    struct bk_request *request;
    struct bk_slice token; /* empty: there is nothing to judge */
    bool is_over;
    /* The token is over, which is told once. What is with a reader or a writer now is to ask
     * changefeed_guard_holds when it comes back. */
    void (*on_over)(struct changefeed_guard *guard);
};
void changefeed_guard_begin(struct changefeed_guard *guard, struct bk_request *request,
                            void (*on_over)(struct changefeed_guard *guard));
/* Harmless when it was not begun. */
void changefeed_guard_end(struct changefeed_guard *guard);
bool changefeed_guard_holds(const struct changefeed_guard *guard);
void changefeed_guards_init(struct changefeed_state *state);
/* Looks for those that have expired. */
void changefeed_guards_tick(struct changefeed_state *state);

/* --- format.c: in what form the events are asked for ------------------------------------------ */

enum changefeed_format {
    CHANGEFEED_JSON,
    CHANGEFEED_STREAM,
    CHANGEFEED_LINES,
    CHANGEFEED_CLOUDEVENTS,
    CHANGEFEED_FORMAT_COUNT
};
/* By the header Accept; CHANGEFEED_FORMAT_COUNT when it takes nothing of what there is. */
enum changefeed_format changefeed_format_asked(const struct bk_request *request);
/* Sets the answer's content type and how the read writes its events, and begins the body. */
void changefeed_format_begin(enum changefeed_format format, struct bk_request *request,
                             struct bk_feed_read *read);
/* Ends the body; the account of the page goes into it or into headers. is_pruned: it begins at a
 * time, and some of what happened since may be pruned. */
void changefeed_format_end(enum changefeed_format format, struct bk_request *request,
                           const struct bk_feed_read *read, bool is_pruned);

/* --- query.c: what a request asks for --------------------------------------------------------- */

/* Reads the query's vocabulary out of the request into its arena. What is wrong is in
 * request->problems, field by field. */
void changefeed_query_parse(struct bk_request *request, struct bk_feed_query *query);
/* Gives the filter back that it has. */
void changefeed_query_release(struct bk_feed_query *query);
/* One reference; NULL when the text is empty, or wrong, which is added to the problems. */
struct bk_event_filter *changefeed_filter_parse(struct bk_request *request, struct bk_slice text);
/* A member of the JSON body that is none of these (ended by an empty one) is a problem. */
void changefeed_refuse_unknown_members(struct bk_request *request, const struct bk_slice *known);
/* How long to wait for a matching event, in ms; likewise. */
uint32_t changefeed_query_wait(struct bk_request *request, const struct bk_feed_query *query);
/* What has no meaning for a stream is refused; the header Last-Event-ID goes before after. */
void changefeed_query_for_stream(struct bk_request *request, struct bk_feed_query *query);

/* --- problem.c: a cursor that cannot be followed ---------------------------------------------- */

/* Puts data.after into the request's problems, with the code and the oldest cursor. after: as it
 * was given. */
void changefeed_problem_add(struct bk_request *request, enum bk_feed_problem problem,
                            struct bk_slice after);
/* Answers with it. */
void changefeed_problem_answer(struct bk_request *request, const struct bk_feed_read *read,
                               enum bk_status status);

/* --- waiting.c: readers that wait for events -------------------------------------------------- */

/* Embed it. On the loop. */
struct changefeed_waiter {
    /* The caller's. */
    struct bk_interest interest;
    struct bk_tenant *tenant; /* held */
    uint64_t position;        /* behind which a match wakes it; moves on over what did not match */
    /* It has left the set, and reads on behind position. Within a slice of the turn, never inside
     * the call that wakes it. */
    void (*on_wake)(struct changefeed_waiter *waiter);
    /* Ours. */
    struct changefeed_state *state;
    struct bk_list link;
};

void changefeed_waiting_init(struct changefeed_state *state);
void changefeed_waiting_fini(struct changefeed_state *state);
void changefeed_waiter_init(struct changefeed_waiter *waiter, struct changefeed_state *state,
                            struct bk_tenant *tenant, const struct bk_feed_query *query);
/* Waits for the first match behind position, which is the newest event by now. BK_BUSY when
 * CHANGEFEED_WAITING_MAX wait already, BK_CLOSING when the server stops. */
enum bk_status changefeed_wait(struct changefeed_waiter *waiter);
/* Wakes it though nothing matched. It need not wait. */
void changefeed_wake(struct changefeed_waiter *waiter);
bool changefeed_is_waiting(const struct changefeed_waiter *waiter);
/* The last event that concerns it not, or that it has seen: it may go on behind it. */
uint64_t changefeed_waiter_seen(const struct changefeed_waiter *waiter);
/* No further call. Harmless when it neither waits nor is to be woken. */
void changefeed_waiter_leave(struct changefeed_waiter *waiter);

/* --- events.c, stream.c: the answers ---------------------------------------------------------- */

/* GET /api/events and GET /api/events/{id}. */
void changefeed_list(struct bk_request *request);
void changefeed_view(struct bk_request *request);

void changefeed_streams_init(struct changefeed_state *state);
void changefeed_streams_fini(struct changefeed_state *state);
/* Ends those that cannot be woken, since their client does not read. */
void changefeed_streams_drain(struct changefeed_state *state);
/* The query is parsed, and taken over. */
void changefeed_stream_open(struct bk_request *request, struct bk_feed_query *query);

/* --- consumer.c: named consumers -------------------------------------------------------------- */

enum { CHANGEFEED_CONSUMER_BODY_BYTES_MAX = 64 * 1024 };
void changefeed_consumers_init(struct changefeed_state *state);
void changefeed_consumers_fini(struct changefeed_state *state);
/* own is in the tenant's slot by then. */
enum bk_status changefeed_consumers_open(struct changefeed_state *state, struct bk_tenant *tenant,
                                         struct changefeed_tenant *own, struct bk_error *error);
void changefeed_consumers_close(struct changefeed_tenant *own);
/* Stores positions that have moved on in memory, and finds those that are lost. */
void changefeed_consumers_tick(struct changefeed_state *state);

void changefeed_consumers_list(struct bk_request *request);
void changefeed_consumer_view(struct bk_request *request);
void changefeed_consumer_put(struct bk_request *request);
void changefeed_consumer_delete(struct bk_request *request);
void changefeed_consumer_poll_begin(struct bk_request *request);
void changefeed_consumer_commit(struct bk_request *request);
void changefeed_consumer_seek(struct bk_request *request);

/* --- tail_command.c --------------------------------------------------------------------------- */

int changefeed_run_events(struct bk_command_context *context, int argument_count, char **arguments);

#endif
