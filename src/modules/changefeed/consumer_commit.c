/*
 * Commit and seek: the two ways in which a consumer's position is moved on purpose. Both are on
 * disk before they are answered.
 *
 * A commit goes forward, and no further than what was handed out. Of part of a page it leaves the
 * rest under the lease; of the whole it ends it. One that is sent again, since its answer was lost,
 * is answered as if it were the first. A lease whose time is up is good until the events are handed
 * out again: what was done need not be done twice.
 */
#include "consumer.h"

struct step {
    struct bk_request *request;
    struct changefeed_consumer_change change;
    struct bk_slice lease, after;
    uint64_t sequence;
    struct bk_feed_read read; /* a seek to a time */
};

static struct step *step_of(struct changefeed_consumer_change *change) {
    return bk_container_of(change, struct step, change);
}

static void on_written(struct changefeed_consumer_change *change, enum bk_status status) {
    struct bk_request *request = step_of(change)->request;
    if (status == BK_OK)
        changefeed_consumer_answer(request, change->consumer);
    else if (status == BK_NOT_FOUND)
        bk_answer_error(request, status, "There is no such consumer (any more).");
    else
        bk_answer_error(request, status, NULL);
}

static struct step *create_step(struct bk_request *request,
                                bool (*begin)(struct changefeed_consumer_change *change)) {
    struct step *step = bk_arena_alloc_zero(&request->arena, sizeof *step);
    step->request = request;
    step->change = (struct changefeed_consumer_change){.kind = CONSUMER_WRITE_PLACE,
                                                       .lane = BK_LANE_REQUEST,
                                                       .origin = &request->origin,
                                                       .begin = begin,
                                                       .done = on_written};
    return step;
}

static void submit(struct step *step, struct changefeed_consumer *consumer) {
    changefeed_consumer_change_submit(consumer, &step->change);
}

/* --- commit ----------------------------------------------------------------------------------- */

static void refuse(struct bk_request *request, enum bk_status status, struct bk_slice field,
                   const char *code, const char *message) {
    bk_problems_add(&request->problems, field, code, message);
    bk_answer_problems(request, status, "The commit was refused.");
}

static void refuse_lease(struct bk_request *request) {
    refuse(request, BK_CONFLICT, BK_SLICE("lease"), "consumer_lease_lost",
           "This is not the lease that was given last: it is over, and its events were handed out "
           "again, or the consumer was sought. Poll again; what is handed out twice has the same "
           "ids.");
}

static void refuse_future(struct bk_request *request) {
    refuse(request, BK_INVALID, BK_SLICE("cursor"), "cursor_not_handed_out",
           "Is past what was handed out: commit the next of the page that was polled, or the "
           "cursor of an event on it.");
}

/* Whether the cursor can be judged at all; false: the request was answered. */
static bool check_state(struct bk_request *request, const struct changefeed_consumer *consumer) {
    if (changefeed_consumer_is_foreign(consumer))
        changefeed_consumer_answer_trouble(request, BK_FEED_CURSOR_EPOCH_CHANGED, BK_SLICE_EMPTY);
    else if (consumer->place.is_lost)
        changefeed_consumer_answer_trouble(request, BK_FEED_CURSOR_EXPIRED, BK_SLICE_EMPTY);
    else
        return true;
    return false;
}

static bool begin_commit(struct changefeed_consumer_change *change) {
    struct step *step = step_of(change);
    const struct changefeed_consumer *consumer = change->consumer;
    struct changefeed_consumer_place *next = &change->next;
    struct bk_slice given = bk_slice_make(next->lease, next->lease_length);
    if (!check_state(step->request, consumer))
        return false;
    if (step->lease.length > 0 && !bk_slice_equal(step->lease, given)) {
        refuse_lease(step->request);
        return false;
    }
    if (step->sequence > next->position &&
        (next->lease_length == 0 || step->sequence > next->handed)) {
        refuse_future(step->request);
        return false;
    }
    if (step->sequence <= consumer->stored) {
        changefeed_consumer_answer(step->request, consumer);
        return false;
    }
    if (step->sequence > next->position)
        next->position = step->sequence;
    if (next->position >= next->handed)
        next->until_ms = 0;
    return true;
}

/* The body's own faults. */
static bool read_commit(struct bk_request *request, struct step *step) {
    struct bk_slice cursor = changefeed_consumer_text(request, BK_SLICE("cursor"));
    static const struct bk_slice known[] = {
        BK_SLICE_INIT("cursor"), BK_SLICE_INIT("lease"), {NULL, 0}};
    struct bk_journal_state journal = bk_journal_state(request->tenant->database);
    uint8_t epoch[sizeof journal.epoch];
    changefeed_refuse_unknown_members(request, known);
    step->lease = changefeed_consumer_text(request, BK_SLICE("lease"));
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "The commit was refused.");
        return false;
    }
    if (cursor.length == 0) {
        refuse(request, BK_INVALID, BK_SLICE("cursor"), "validation_required", "Cannot be blank.");
        return false;
    }
    if (!bk_cursor_parse(cursor, epoch, &step->sequence)) {
        refuse(request, BK_INVALID, BK_SLICE("cursor"), "cursor_invalid",
               "Must be the next of the page that was polled, or the cursor of an event on it.");
        return false;
    }
    if (memcmp(epoch, journal.epoch, sizeof epoch) != 0) {
        refuse(request, BK_CONFLICT, BK_SLICE("cursor"), "cursor_epoch_changed",
               "This cursor belongs to another history: the tenant was restored, or the cursor is "
               "another tenant's or server's. Seek the consumer.");
        return false;
    }
    return true;
}

void changefeed_consumer_commit(struct bk_request *request) {
    struct step *step = create_step(request, begin_commit);
    struct changefeed_consumer *consumer = changefeed_consumer_of(request);
    if (consumer == NULL || !read_commit(request, step))
        return;
    submit(step, consumer);
}

/* --- seek ------------------------------------------------------------------------------------- */

static bool begin_seek(struct changefeed_consumer_change *change) {
    struct bk_journal_state journal = bk_journal_state(change->consumer->tenant->database);
    struct changefeed_consumer_place *next = &change->next;
    memset(next, 0, sizeof *next);
    memcpy(next->epoch, journal.epoch, sizeof next->epoch);
    next->position = step_of(change)->sequence;
    return true;
}

static void on_time_read(struct bk_feed_read *read, enum bk_status status) {
    struct step *step = bk_container_of(read, struct step, read);
    struct bk_request *request = step->request;
    bk_buffer_clear(&request->out);
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    step->sequence = read->first_sequence - 1;
    struct changefeed_consumer *consumer = changefeed_consumer_of(request);
    if (consumer != NULL)
        submit(step, consumer);
}

void changefeed_consumer_read_time(struct bk_request *request, struct bk_feed_read *read,
                                   struct bk_slice after,
                                   void (*done)(struct bk_feed_read *read, enum bk_status status)) {
    static const struct bk_slice everything[] = {BK_SLICE_INIT("*"), BK_SLICE_INIT("_*")};
    const struct bk_module_context *context = request->module;
    *read = (struct bk_feed_read){.tenant = request->tenant,
                                  .query = {.types = everything,
                                            .type_count = BK_COUNT_OF(everything),
                                            .after = after,
                                            .limit = 1},
                                  .events = &request->out,
                                  .done = done};
    bk_feed_read(context->feed, read);
}

void changefeed_consumer_seek(struct bk_request *request) {
    struct step *step = create_step(request, begin_seek);
    struct changefeed_consumer *consumer = changefeed_consumer_of(request);
    enum bk_feed_problem problem;
    int64_t time_ms;
    if (consumer == NULL)
        return;
    step->change.is_jump = true;
    step->after = changefeed_consumer_text(request, BK_SLICE("after"));
    if (step->after.length == 0) {
        if (request->problems.count == 0)
            bk_problems_add(&request->problems, BK_SLICE("after"), "validation_required",
                            "Cannot be blank.");
        bk_answer_problems(request, BK_INVALID, "The consumer cannot be sought like this.");
        return;
    }
    enum bk_status status =
        bk_feed_resolve(request->tenant, step->after, &step->sequence, &problem);
    if (status == BK_OK)
        submit(step, consumer);
    else if (status == BK_NOT_SUPPORTED && bk_time_parse(step->after, &time_ms))
        changefeed_consumer_read_time(request, &step->read, step->after, on_time_read);
    else
        changefeed_consumer_answer_trouble(request, problem, step->after);
}
