/*
 * What the files of named consumers share; consumer.c has the design.
 */
#ifndef BAKEND_CHANGEFEED_CONSUMER_H
#define BAKEND_CHANGEFEED_CONSUMER_H

#include "changefeed_private.h"

#include "bakend/clock.h"
#include "bakend/id.h"

enum {
    CONSUMERS_MAX = 1000, /* of one tenant */
    CONSUMER_NAME_BYTES_MAX = 100,
    CONSUMER_TYPES_MAX = 100,
    CONSUMER_SUBJECT_BYTES_MAX = 1024,
    CONSUMER_LEASE_BYTES = 20,
    CONSUMER_LEASE_MS_DEFAULT = 30 * 1000,
    CONSUMER_LEASE_MS_MIN = 100,
    CONSUMER_LEASE_MS_MAX = 60 * 60 * 1000,
    CONSUMER_POLLS_MAX = 100,     /* that wait on one consumer */
    CONSUMER_TICK_MS = 30 * 1000, /* now and then: see changefeed_consumers_tick */
};

struct changefeed_consumer;

/* What it reads: immutable, counted, since a read on another thread borrows it. */
struct changefeed_consumer_definition {
    uint32_t reference_count;
    struct bk_slice subject, filter_text; /* the filter as it was given */
    struct bk_event_filter *filter;       /* NULL: none */
    size_t type_count;
    struct bk_slice types[]; /* the texts stand behind */
};

/* Where it stands, as its row has it. */
struct changefeed_consumer_place {
    uint8_t epoch[8];
    uint64_t position; /* all up to this sequence is committed */
    bool is_lost;      /* what comes next was pruned, and it was told */
    /* The last lease that was given; it runs as long as until_ms is not 0. */
    char lease[CONSUMER_LEASE_BYTES];
    uint8_t lease_length; /* 0: there was none */
    int64_t until_ms;     /* wall */
    uint64_t handed;      /* the sequence that it goes up to */
};

/* --- consumer_change.c: one change of a consumer at a time ------------------------------------ */

enum changefeed_consumer_write {
    CONSUMER_WRITE_NEW,
    CONSUMER_WRITE_DEFINITION,
    CONSUMER_WRITE_PLACE,
    CONSUMER_WRITE_REMOVAL
};

/* Embed it. */
struct changefeed_consumer_change {
    /* The caller's. */
    enum changefeed_consumer_write kind;
    enum bk_lane lane;
    bool is_jump;    /* the position is named, not reached: what was read before does not count */
    bool tells_loss; /* emits consumer.lost */
    struct changefeed_consumer_definition *definition; /* NEW, DEFINITION: taken */
    struct bk_slice types;                             /* of it, as JSON */
    const struct bk_origin *origin;
    /* Its turn has come: fills in next, which is as the consumer stands. False: there is nothing to
     * write; done will not be called. */
    bool (*begin)(struct changefeed_consumer_change *change);
    /* On BK_OK the consumer is as it was written; after a removal, and with BK_NOT_FOUND, it is
     * gone. Once, unless begin returned false. */
    void (*done)(struct changefeed_consumer_change *change, enum bk_status status);
    /* Ours. */
    struct bk_list link;
    struct bk_write write;
    struct changefeed_consumer *consumer;
    struct changefeed_consumer_place next;
    int64_t now_ms; /* of the transaction */
    uint64_t oldest;
};

void changefeed_consumer_change_submit(struct changefeed_consumer *consumer,
                                       struct changefeed_consumer_change *change);

/* Those that wait for their turn end with BK_NOT_FOUND. */
void changefeed_consumer_changes_refuse(struct changefeed_consumer *consumer);

/* --- consumer_row.c: the table ---------------------------------------------------------------- */

/* Calls with each row. */
struct changefeed_consumer_row {
    struct bk_slice id, name, types, subject, filter, created, updated;
    struct changefeed_consumer_place place;
};
enum bk_status
changefeed_consumer_rows_read(struct bk_connection *connection,
                              void (*on_row)(void *user, const struct changefeed_consumer_row *row),
                              void *user);
/* On the writer. */
enum bk_status changefeed_consumer_row_write(struct bk_transaction *transaction,
                                             struct changefeed_consumer_change *change);

/* --- consumer.c ------------------------------------------------------------------------------- */

struct changefeed_consumer {
    struct bk_list link; /* in its tenant's list, by name */
    struct changefeed_state *state;
    struct bk_tenant *tenant;
    char id[BK_RECORD_ID_BYTES];
    char name_text[CONSUMER_NAME_BYTES_MAX];
    struct bk_slice name;
    char created[BK_TIME_TEXT_BYTES], updated[BK_TIME_TEXT_BYTES];
    struct changefeed_consumer_definition *definition;
    struct changefeed_consumer_place place;
    uint64_t stored;     /* the position in the row, which the pin has too */
    bool is_new;         /* its row is not written yet: nobody sees it */
    bool is_loss_stored; /* and told */
    uint64_t jump_count; /* tells a read that its position was sought or committed away meanwhile */
    struct bk_feed_pin pin;
    struct changefeed_waiter waiter; /* waiting: nothing it asks for is behind its position */
    struct bk_timer *lease_timer;
    /* consumer_poll.c */
    struct bk_list polls; /* in the order in which they came */
    uint32_t poll_count;
    struct changefeed_consumer_poll *active; /* it reads, or is given a lease */
    /* consumer_change.c */
    struct bk_list changes;
    struct changefeed_consumer_change *running;
    struct changefeed_consumer_change own; /* of nobody's request */
    bool is_own_submitted;
};

/* NULL when there is none; one that is new is left out unless asked for. */
struct changefeed_consumer *changefeed_consumer_find(struct changefeed_state *state,
                                                     struct bk_tenant *tenant, struct bk_slice name,
                                                     bool with_new);
/* New: linked, and seen by nobody until its row is written. Takes the definition. */
struct changefeed_consumer *
changefeed_consumer_create(struct changefeed_state *state, struct bk_tenant *tenant,
                           struct bk_slice name, struct changefeed_consumer_definition *definition);
/* Answers those who wait, with BK_NOT_FOUND, and frees it. */
void changefeed_consumer_destroy(struct changefeed_consumer *consumer);

/* filter: of filter_text, or NULL; taken. */
struct changefeed_consumer_definition *
changefeed_consumer_definition_create(const struct bk_slice *types, size_t type_count,
                                      struct bk_slice subject, struct bk_slice filter_text,
                                      struct bk_event_filter *filter);
struct changefeed_consumer_definition *
changefeed_consumer_definition_ref(struct changefeed_consumer_definition *definition);
void changefeed_consumer_definition_unref(struct changefeed_consumer_definition *definition);
void changefeed_consumer_define(struct changefeed_consumer *consumer,
                                struct changefeed_consumer_definition *definition);

/* All up to it is committed or was not asked for. */
uint64_t changefeed_consumer_position(const struct changefeed_consumer *consumer);
/* Its position is of another history. */
bool changefeed_consumer_is_foreign(const struct changefeed_consumer *consumer);
/* What comes next was pruned. */
bool changefeed_consumer_is_lost(const struct changefeed_consumer *consumer);
bool changefeed_consumer_is_leased(const struct changefeed_consumer *consumer);
bool changefeed_consumer_is_idle(const struct changefeed_consumer *consumer);
/* Takes a place over that was written. */
void changefeed_consumer_settle(struct changefeed_consumer *consumer,
                                const struct changefeed_consumer_place *place, bool is_jump);
/* Nothing that it asks for is between its position and sequence. */
void changefeed_consumer_pass(struct changefeed_consumer *consumer, uint64_t sequence);
/* Nor behind it: it waits for what comes. False: it cannot. */
bool changefeed_consumer_rest(struct changefeed_consumer *consumer);
void changefeed_consumer_stop_resting(struct changefeed_consumer *consumer);
void changefeed_consumer_end_lease(struct changefeed_consumer *consumer);
/* The event and the row, once. */
void changefeed_consumer_tell_loss(struct changefeed_consumer *consumer);

/* --- consumer_poll.c -------------------------------------------------------------------------- */

/* Goes on with those who poll, as far as it can. */
void changefeed_consumer_advance(struct changefeed_consumer *consumer);
/* All get BK_NOT_FOUND. */
void changefeed_consumer_polls_refuse(struct changefeed_consumer *consumer);
/* The server stops: who waits is answered. */
void changefeed_consumers_drain(struct changefeed_state *state, struct bk_tenant *tenant);

/* --- answers ---------------------------------------------------------------------------------- */

void changefeed_consumer_answer(struct bk_request *request,
                                const struct changefeed_consumer *consumer);
/* 409 or 410 with data.after, as a page of the feed has it. */
void changefeed_consumer_answer_trouble(struct bk_request *request, enum bk_feed_problem problem,
                                        struct bk_slice after);
/* A text of the body, empty when it is absent; anything but null is added to the problems, since
 * who means something must not get its default. */
struct bk_slice changefeed_consumer_text(struct bk_request *request, struct bk_slice field);
/* Where a time stands only the journal knows: done gets a page of one event behind it, in the
 * request's body, which is to be cleared. after is borrowed until then. */
void changefeed_consumer_read_time(struct bk_request *request, struct bk_feed_read *read,
                                   struct bk_slice after,
                                   void (*done)(struct bk_feed_read *read, enum bk_status status));
/* The one that the path names; NULL: the request was answered. */
struct changefeed_consumer *changefeed_consumer_of(struct bk_request *request);

/* --- consumer_metrics.c ----------------------------------------------------------------------- */

void changefeed_consumers_write_metrics(const struct changefeed_state *state,
                                        struct bk_buffer *out);

#endif
