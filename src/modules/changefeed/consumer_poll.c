/*
 * Polls: pages behind a consumer's position, one at a time, each under a lease.
 *
 *   waiting ─┬─ the first in the queue ─> reading ─┬─ events ─> leasing ─> answered, leased
 *            │                                     ├─ none, and time ─> waiting
 *            │                                     └─ none, and no time ─> answered, empty
 *            ├─ its time is up while a lease runs ─> 409 consumer_leased
 *            └─ the server stops ─> answered, empty
 *
 * Who waits is woken by whatever may be for it: an event (the consumer rests in the set of
 * interests), the end of a lease (committed, sought, over), a seek. One poll is served at a time,
 * in the order in which they came; each asks for the page anew when its turn has come, so what one
 * took another does not get.
 *
 * The lease is on disk before its page leaves: while it runs nobody else gets these events, also
 * after a crash. A page without events takes none, and its position moves on in memory.
 */
#include "consumer.h"

#include "bakend/alloc.h"

enum { LIMIT_DEFAULT = 100, MS = 1000 };

static const struct bk_slice lease_alphabet = BK_SLICE_INIT("abcdefghijklmnopqrstuvwxyz0123456789");

struct changefeed_consumer_poll {
    struct bk_list link; /* in its consumer's queue, until it is answered */
    struct bk_request *request;
    struct changefeed_consumer *consumer;              /* NULL: it was removed */
    struct changefeed_consumer_definition *definition; /* of the read under way */
    struct bk_feed_read read;
    struct changefeed_consumer_change change;
    struct bk_timer *timer; /* NULL: it does not wait */
    struct changefeed_guard guard;
    uint32_t limit;
    int64_t lease_ms;
    bool is_due; /* it waits no longer */
    bool is_reading, is_leasing, has_read;
    uint64_t first_sequence; /* of the first read */
    uint64_t jump_count;     /* of the consumer as the read began */
    char after[BK_CURSOR_BYTES];
};

static struct changefeed_consumer_poll *poll_of(struct bk_list *node) {
    return bk_container_of(node, struct changefeed_consumer_poll, link);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void leave_queue(struct changefeed_consumer_poll *poll) {
    struct changefeed_consumer *consumer = poll->consumer;
    if (consumer == NULL)
        return;
    if (consumer->active == poll)
        consumer->active = NULL;
    bk_list_remove(&poll->link);
    consumer->poll_count--;
    poll->consumer = NULL;
}

static void release(struct changefeed_consumer_poll *poll) {
    leave_queue(poll);
    changefeed_consumer_definition_unref(poll->definition);
    poll->definition = NULL;
    bk_timer_close(poll->timer);
    poll->timer = NULL;
    changefeed_guard_end(&poll->guard);
    poll->request->on_abort = NULL;
}

static void answer_error(struct changefeed_consumer_poll *poll, enum bk_status status,
                         const char *message) {
    release(poll);
    bk_answer_error(poll->request, status, message);
}

static void answer_gone(struct changefeed_consumer_poll *poll) {
    answer_error(poll, BK_NOT_FOUND, "There is no such consumer (any more).");
}

/* What was read over before it counts as looked at, so that the page's account is whole. */
static void answer_page(struct changefeed_consumer_poll *poll, struct bk_slice lease,
                        int64_t until_ms) {
    struct bk_request *request = poll->request;
    struct bk_feed_read *read = &poll->read;
    char until[BK_TIME_TEXT_BYTES];
    release(poll);
    read->skipped += read->first_sequence - poll->first_sequence;
    read->first_sequence = poll->first_sequence;
    changefeed_format_end(CHANGEFEED_JSON, request, read, false);
    BK_ASSERT(request->out.is_overflown || request->out.data[request->out.length - 1] == '}');
    request->out.length--;
    bk_time_format(until, until_ms, 'T');
    bk_json_write_member_string(&request->out, BK_SLICE("lease"), lease);
    bk_json_write_member_string(&request->out, BK_SLICE("leaseUntil"),
                                bk_slice_make(until, lease.length > 0 ? sizeof until : 0));
    bk_buffer_append_char(&request->out, '}');
    if (request->out.is_overflown)
        bk_answer_error(request, BK_TOO_LARGE, NULL);
    else
        bk_answer(request, 200);
}

static void answer_leased(struct changefeed_consumer_poll *poll) {
    struct bk_request *request = poll->request;
    int64_t until_ms = poll->consumer->place.until_ms;
    int64_t rest_ms = until_ms - bk_clock_wall_ms();
    char until[BK_TIME_TEXT_BYTES];
    bk_time_format(until, until_ms, 'T');
    struct bk_slice params =
        bk_arena_format(&request->arena, "{\"leaseUntil\":\"%.*s\"}", BK_TIME_TEXT_BYTES, until);
    release(poll);
    bk_problems_add_params(&request->problems, BK_SLICE("lease"), "consumer_leased",
                           "Another poll was given the next events under a lease: they are handed "
                           "out again when it is over, or what follows when they are committed.",
                           params);
    bk_answer_header(request, "Retry-After",
                     bk_arena_format(&request->arena, "%lld",
                                     (long long)(rest_ms > 0 ? (rest_ms + MS - 1) / MS : 0)));
    bk_answer_problems(request, BK_CONFLICT, "The consumer is leased.");
}

/* The server stops: what is under another's lease is not to be had here, which is no conflict. */
static void answer_nothing(struct changefeed_consumer_poll *poll) {
    const struct changefeed_consumer *consumer = poll->consumer;
    struct bk_request *request = poll->request;
    uint64_t position = changefeed_consumer_position(consumer);
    if (!poll->has_read || poll->jump_count != consumer->jump_count)
        poll->first_sequence = position + 1;
    poll->read = (struct bk_feed_read){
        .tenant = request->tenant,
        .first_sequence = position + 1,
        .last_sequence = position,
        .next_sequence = position,
        .has_more = position < bk_journal_state(request->tenant->database).last};
    bk_buffer_clear(&request->out);
    changefeed_format_begin(CHANGEFEED_JSON, request, &poll->read);
    answer_page(poll, BK_SLICE_EMPTY, 0);
}

/* Its position cannot be followed: for all who poll, until it is sought. */
static bool refuse_all(struct changefeed_consumer *consumer) {
    enum bk_feed_problem problem = BK_FEED_NO_PROBLEM;
    if (changefeed_consumer_is_foreign(consumer))
        problem = BK_FEED_CURSOR_EPOCH_CHANGED;
    else if (consumer->place.is_lost)
        problem = BK_FEED_CURSOR_EXPIRED;
    if (problem == BK_FEED_NO_PROBLEM)
        return false;
    BK_LIST_FOR_EACH(node, &consumer->polls) {
        struct changefeed_consumer_poll *poll = poll_of(node);
        release(poll);
        changefeed_consumer_answer_trouble(poll->request, problem, BK_SLICE_EMPTY);
    }
    return true;
}

void changefeed_consumer_polls_refuse(struct changefeed_consumer *consumer) {
    BK_LIST_FOR_EACH(node, &consumer->polls) {
        struct changefeed_consumer_poll *poll = poll_of(node);
        leave_queue(poll);
        if (!poll->is_reading && !poll->is_leasing)
            answer_gone(poll);
    }
}

/* --- leasing ---------------------------------------------------------------------------------- */

static struct changefeed_consumer_poll *poll_of_change(struct changefeed_consumer_change *change) {
    return bk_container_of(change, struct changefeed_consumer_poll, change);
}

/* Between the read and its turn the consumer may have been sought, defined anew or lost, or what
 * was read may have been committed under the lease before. */
static bool begin_lease(struct changefeed_consumer_change *change) {
    struct changefeed_consumer_poll *poll = poll_of_change(change);
    struct changefeed_consumer *consumer = change->consumer;
    if (poll->jump_count != consumer->jump_count || consumer->place.is_lost ||
        changefeed_consumer_is_leased(consumer)) {
        poll->is_leasing = false;
        poll->has_read = false;
        consumer->active = NULL; /* advance comes after this */
        return false;
    }
    bk_random_text(change->next.lease, sizeof change->next.lease, lease_alphabet);
    change->next.lease_length = sizeof change->next.lease;
    change->next.until_ms = bk_clock_wall_ms() + poll->lease_ms;
    change->next.handed = poll->read.next_sequence;
    return true;
}

static void on_leased(struct changefeed_consumer_change *change, enum bk_status status) {
    struct changefeed_consumer_poll *poll = poll_of_change(change);
    struct changefeed_consumer *consumer = poll->consumer;
    const struct changefeed_consumer_place *place = &change->next;
    poll->is_leasing = false;
    if (consumer == NULL) {
        answer_gone(poll);
        return;
    }
    if (status != BK_OK) {
        answer_error(poll, status, NULL);
        return;
    }
    if (poll->request->is_aborted || poll->guard.is_over) {
        /* Nobody has the page. */
        changefeed_consumer_end_lease(consumer);
        if (poll->request->is_aborted)
            answer_error(poll, BK_CANCELLED, NULL);
        else
            answer_error(poll, BK_UNAUTHORIZED, CHANGEFEED_TOKEN_OVER);
        return;
    }
    answer_page(poll, bk_slice_make(place->lease, place->lease_length), place->until_ms);
}

static void lease(struct changefeed_consumer_poll *poll) {
    struct changefeed_consumer *consumer = poll->consumer;
    poll->is_leasing = true;
    consumer->active = poll;
    changefeed_consumer_stop_resting(consumer);
    poll->change = (struct changefeed_consumer_change){.kind = CONSUMER_WRITE_PLACE,
                                                       .lane = BK_LANE_REQUEST,
                                                       .begin = begin_lease,
                                                       .done = on_leased};
    changefeed_consumer_change_submit(consumer, &poll->change);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void judge_empty_page(struct changefeed_consumer_poll *poll) {
    struct changefeed_consumer *consumer = poll->consumer;
    const struct bk_feed_read *read = &poll->read;
    bool may_wait = true;
    changefeed_consumer_pass(consumer, read->last_sequence);
    if (!read->has_more)
        may_wait = changefeed_consumer_rest(consumer);
    if (poll->is_due || !may_wait)
        answer_page(poll, BK_SLICE_EMPTY, 0);
}

static void judge_page(struct changefeed_consumer_poll *poll) {
    if (!poll->has_read)
        poll->first_sequence = poll->read.first_sequence;
    poll->has_read = true;
    if (!changefeed_guard_holds(&poll->guard))
        answer_error(poll, BK_UNAUTHORIZED, CHANGEFEED_TOKEN_OVER);
    else if (poll->read.event_count > 0)
        lease(poll);
    else
        judge_empty_page(poll);
}

static void judge_problem(struct changefeed_consumer_poll *poll) {
    struct changefeed_consumer *consumer = poll->consumer;
    if (poll->read.problem == BK_FEED_CURSOR_EXPIRED) {
        changefeed_consumer_tell_loss(consumer); /* which answers all */
        return;
    }
    release(poll);
    changefeed_consumer_answer_trouble(poll->request, poll->read.problem, poll->read.query.after);
}

static void on_read(struct bk_feed_read *read, enum bk_status status) {
    struct changefeed_consumer_poll *poll =
        bk_container_of(read, struct changefeed_consumer_poll, read);
    struct changefeed_consumer *consumer = poll->consumer;
    poll->is_reading = false;
    if (consumer == NULL) {
        answer_gone(poll);
        return;
    }
    struct bk_tenant *tenant = consumer->tenant;
    bk_tenant_ref(tenant);
    consumer->active = NULL;
    changefeed_consumer_definition_unref(poll->definition);
    poll->definition = NULL;
    if (poll->request->is_aborted)
        answer_error(poll, BK_CANCELLED, NULL);
    else if (poll->jump_count != consumer->jump_count)
        poll->has_read = false; /* read again, from where it stands now */
    else if (read->problem != BK_FEED_NO_PROBLEM)
        judge_problem(poll);
    else if (status != BK_OK)
        answer_error(poll, status, NULL);
    else
        judge_page(poll);
    changefeed_consumer_advance(consumer);
    bk_tenant_release(tenant);
}

static void begin_read(struct changefeed_consumer_poll *poll) {
    struct changefeed_consumer *consumer = poll->consumer;
    struct changefeed_consumer_definition *definition = consumer->definition;
    struct bk_request *request = poll->request;
    consumer->active = poll;
    poll->is_reading = true;
    if (poll->jump_count != consumer->jump_count)
        poll->has_read = false; /* the account of its page begins anew */
    poll->jump_count = consumer->jump_count;
    poll->definition = changefeed_consumer_definition_ref(definition);
    bk_cursor_make(poll->after, consumer->place.epoch, changefeed_consumer_position(consumer));
    poll->read = (struct bk_feed_read){
        .tenant = request->tenant,
        .query = {.types = definition->types,
                  .type_count = definition->type_count,
                  .subject = definition->subject,
                  .test = bk_event_filter_test(definition->filter),
                  .after = bk_slice_make(poll->after, sizeof poll->after),
                  .limit = poll->limit},
        .events = &request->out,
        .done = on_read,
    };
    bk_buffer_clear(&request->out);
    changefeed_format_begin(CHANGEFEED_JSON, request, &poll->read);
    bk_feed_read(consumer->state->context->feed, &poll->read);
}

/* --- the queue -------------------------------------------------------------------------------- */

/* The first one that something can be done for; NULL: all wait. */
static struct changefeed_consumer_poll *next_poll(struct changefeed_consumer *consumer) {
    bool are_all_to_wait =
        changefeed_consumer_is_leased(consumer) || changefeed_consumer_is_idle(consumer);
    BK_LIST_FOR_EACH(node, &consumer->polls) {
        if (!are_all_to_wait || poll_of(node)->is_due)
            return poll_of(node);
    }
    return NULL;
}

static void go_on(struct changefeed_consumer *consumer) {
    struct changefeed_consumer_poll *poll;
    if (consumer->is_new || consumer->active != NULL || refuse_all(consumer))
        return;
    while ((poll = next_poll(consumer)) != NULL) {
        if (!changefeed_consumer_is_leased(consumer)) {
            begin_read(poll);
            return;
        }
        if (bk_api_is_draining(consumer->state->context->api))
            answer_nothing(poll);
        else
            answer_leased(poll);
    }
}

/* The last answer may be what has kept the tenant open, and the consumer with it. */
void changefeed_consumer_advance(struct changefeed_consumer *consumer) {
    struct bk_tenant *tenant = consumer->tenant;
    if (consumer->poll_count == 0)
        return;
    bk_tenant_ref(tenant);
    go_on(consumer);
    bk_tenant_release(tenant);
}

static void on_time_up(struct bk_timer *timer, void *user) {
    (void)timer;
    struct changefeed_consumer_poll *poll = user;
    poll->is_due = true;
    if (poll->consumer != NULL)
        changefeed_consumer_advance(poll->consumer);
}

/* What is on a reader or a writer ends when that comes. */
static void on_abort(struct bk_request *request) {
    struct changefeed_consumer_poll *poll = request->state;
    if (!poll->is_reading && !poll->is_leasing)
        answer_error(poll, BK_CANCELLED, NULL);
}

static void on_over(struct changefeed_guard *guard) {
    struct changefeed_consumer_poll *poll =
        bk_container_of(guard, struct changefeed_consumer_poll, guard);
    if (!poll->is_reading && !poll->is_leasing)
        answer_error(poll, BK_UNAUTHORIZED, CHANGEFEED_TOKEN_OVER);
}

void changefeed_consumers_drain(struct changefeed_state *state, struct bk_tenant *tenant) {
    struct changefeed_tenant *own = changefeed_tenant_of(state, tenant);
    if (own == NULL)
        return;
    BK_LIST_FOR_EACH(node, &own->consumers) {
        struct changefeed_consumer *consumer =
            bk_container_of(node, struct changefeed_consumer, link);
        BK_LIST_FOR_EACH(poll_node, &consumer->polls) {
            poll_of(poll_node)->is_due = true;
        }
        changefeed_consumer_advance(consumer);
    }
}

/* --- the request ------------------------------------------------------------------------------ */

static int64_t read_int(struct bk_request *request, const char *name, int64_t minimum,
                        int64_t maximum, int64_t fallback) {
    struct bk_slice key = bk_slice_from(name);
    const struct bk_json *value = bk_json_get(request->json, key);
    int64_t number = fallback;
    if (value == NULL || value->type == BK_JSON_NULL)
        return fallback;
    if (value->type == BK_JSON_NUMBER && bk_json_to_int64(value, &number) && number >= minimum &&
        number <= maximum)
        return number;
    struct bk_slice message =
        bk_arena_format(&request->arena, "Must be a whole number from %lld to %lld.",
                        (long long)minimum, (long long)maximum);
    bk_problems_add(&request->problems, key, "validation_out_of_range", message.data);
    return fallback;
}

void changefeed_consumer_poll_begin(struct bk_request *request) {
    struct changefeed_state *state = changefeed_state_of(request);
    struct changefeed_consumer_poll *poll = bk_arena_alloc_zero(&request->arena, sizeof *poll);
    static const struct bk_slice known[] = {
        BK_SLICE_INIT("limit"), BK_SLICE_INIT("wait"), BK_SLICE_INIT("leaseMs"), {NULL, 0}};
    changefeed_refuse_unknown_members(request, known);
    int64_t wait_s = read_int(request, "wait", 0, CHANGEFEED_WAIT_MAX_S, 0);
    poll->request = request;
    poll->limit = (uint32_t)read_int(request, "limit", 1, BK_FEED_LIMIT_MAX, LIMIT_DEFAULT);
    poll->lease_ms = read_int(request, "leaseMs", CONSUMER_LEASE_MS_MIN, CONSUMER_LEASE_MS_MAX,
                              CONSUMER_LEASE_MS_DEFAULT);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "The consumer cannot be polled like this.");
        return;
    }
    struct changefeed_consumer *consumer = changefeed_consumer_of(request);
    if (consumer == NULL)
        return;
    if (consumer->poll_count >= CONSUMER_POLLS_MAX) {
        bk_answer_error(request, BK_BUSY, "100 polls wait on this consumer already: try again.");
        return;
    }
    poll->consumer = consumer;
    poll->is_due = wait_s == 0 || bk_api_is_draining(state->context->api);
    if (!poll->is_due) {
        changefeed_guard_begin(&poll->guard, request, on_over);
        poll->timer = bk_timer_create(state->context->loop, on_time_up, poll);
        bk_timer_start(poll->timer, (uint64_t)wait_s * MS, 0);
    }
    bk_list_push(&consumer->polls, &poll->link);
    consumer->poll_count++;
    request->state = poll;
    request->on_abort = on_abort;
    changefeed_consumer_advance(consumer);
}
