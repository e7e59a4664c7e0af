/* What the routes of webhooks share: one request that becomes a call of the records routes of
 * `_webhooks`, in the system's name and under the label of who asked. */
#ifndef BAKEND_WEBHOOKS_ROUTES_H
#define BAKEND_WEBHOOKS_ROUTES_H

#include "webhooks.h"

/* In the request's arena. */
struct webhooks_task {
    struct bk_request *request;
    struct webhooks_state *state;
    struct bk_actor writer;
    struct bk_companion companion; /* run NULL: none */
    struct bk_buffer body;         /* of the call: the record's members */
    /* Of the record that the path names, as it was when it was looked for. */
    struct bk_slice id, url;
    bool was_enabled, had_ed25519;
    const struct bk_json *known_headers; /* their names; NULL: none */
    /* What the body says beside members of the record. */
    bool gives_enabled, enables;
    bool gives_ed25519, wants_ed25519;
    struct bk_slice given_secret;
    bool moves_away; /* to another host than that which values of headers were said for */
    bool gives_headers, keeps_headers;
    const struct bk_json *headers; /* with their values; null: none */
    struct webhooks_keys keys;
    bool shows_secret; /* the answer has it, this one time */
    bool forces;
    int64_t previous_until_ms; /* of a rotation, wall time; 0: the former secret is worthless */
    size_t body_length; /* of the body without an id, which is drawn again when it is taken */
    uint32_t draws;
    /* Set by a companion, on the writer, of its last run: why it fails. */
    const char *refusal;
    enum bk_status refusal_status;
    char refusal_text[300];
    bool is_taken; /* another endpoint's id has this tail */
    struct bk_call call;
    void (*answered)(struct webhooks_task *task); /* in place of passing the answer on */
    void *user;                                   /* its own */
};

/* NULL: the request was answered. */
struct webhooks_task *webhooks_task_begin(struct bk_request *request);
/* The record that the path names. False: the request was answered. */
bool webhooks_task_find(struct webhooks_task *task);
/* Its endpoint, as the record says now. NULL: there is none. */
struct webhooks_endpoint *webhooks_task_endpoint(struct webhooks_task *task);
/* Calls for it; the answer is the request's. */
void webhooks_task_call(struct webhooks_task *task, enum bk_method method);
/* A new seed, if the task wants one, and the members of the record that tell of it. */
void webhooks_task_draw_seed(struct webhooks_task *task);
/* Before the request is answered in another way. */
void webhooks_task_end(struct webhooks_task *task);

/* fields.c: checks each member of the body, and writes the record's members. All problems at once.
 * False: the request was answered. */
bool webhooks_fields_read(struct webhooks_task *task, bool is_create);
/* Whether the member is a secret; a problem is added when it is none. */
void webhooks_fields_read_secret(struct webhooks_task *task, const struct bk_json *json);

/* deliveries_routes.c: whether the request's filter and sort stay within the collection, or its
 * actor may look at all. False: the request was answered. */
bool webhooks_query_is_own(struct bk_request *request);

/* bodies.c: members of bodies, for the OpenAPI document. */
extern const struct bk_route_parameter webhooks_create_members[], webhooks_update_members[],
    webhooks_rotate_members[], webhooks_replay_members[];

/* enabling.c. Writer: what follows from an endpoint being off, or on again, in the transaction that
 * says so in its record; nothing when it was so before. */
enum bk_status webhooks_enabling_write(const struct webhooks_state *state,
                                       struct bk_transaction *transaction, struct bk_slice id,
                                       bool enables, struct bk_slice reason);

/* --- metrics.c -------------------------------------------------------------------------------- */

struct webhooks_figures_facts {
    uint64_t attempts, failures; /* since its tenant was opened */
    uint32_t measured;           /* the last attempts, of which are … */
    uint32_t p50_ms, p99_ms;
};
struct webhooks_figures_facts webhooks_figures_facts(const struct webhooks_endpoint *endpoint);
struct webhooks_backlog {
    uint64_t events;       /* that it was not sent yet */
    int64_t oldest_age_ms; /* 0: none waits */
};
struct webhooks_backlog webhooks_backlog(const struct webhooks_endpoint *endpoint);

#endif
