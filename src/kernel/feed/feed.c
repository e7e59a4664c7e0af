/*
 * The feed: turns what a reader asked for into a range of sequences, and the range into a page.
 *
 *   bk_feed_read ─ task ─> resolve ─┬─ a problem ────────────────────────────────────────> done
 *                                   ├─ from the tail, in memory ──┬─ page complete ──────> done
 *                                   │                             └─ goes on below it ─┐
 *                                   └─ from the journal, on a reader <─────────────────┘─> done
 *
 * The seam between tail and journal: reading forward, a page comes from one of them alone, decided
 * by where it starts, and both hold the same bytes under the same contiguous sequences, so the next
 * page may come from the other. Reading backward, a page may begin in the tail and end in the
 * journal, exactly one below the tail's first event.
 *
 * A page that looks at many rows in memory does so in slices; sockets are served in between. What
 * it comes to next may have left the tail meanwhile: forward it ends there, as a shorter page is a
 * correct one, and the next page comes from the journal.
 *
 * The head of a read is the newest event that the loop knew when the task ran: what is committed
 * later belongs to the next page. has_more is judged when the page is complete.
 */
#include "feed_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/id.h"

/* Judged in one turn of the loop: against 100 patterns a row takes up to 4 microseconds, put to a
 * test of its payload ten times as much. */
enum { SLICE_ROWS = 1000, SLICE_ROWS_TESTED = 100 };

/* --- life cycle ------------------------------------------------------------------------------- */

struct feed_tenant *feed_tenant_of(const struct bk_feed *feed, const struct bk_tenant *tenant) {
    return tenant->slots[feed->slot];
}

static struct feed_tail *tail_of(const struct bk_feed *feed, const struct bk_tenant *tenant) {
    struct feed_tenant *own = feed_tenant_of(feed, tenant);
    return own == NULL ? NULL : &own->tail;
}

static enum bk_status on_tenant_open(struct bk_tenant *tenant, void **state, void *user,
                                     struct bk_error *error) {
    (void)tenant;
    (void)error;
    struct bk_feed *feed = user;
    struct feed_tenant *own = bk_alloc_zero(sizeof *own);
    feed_tail_init(&own->tail, feed->tail_max_bytes);
    bk_list_init(&own->pins);
    *state = own;
    return BK_OK;
}

static void count_tail(struct bk_feed *feed, const struct feed_tail *tail, bool is_added) {
    uint64_t sign = is_added ? 1 : UINT64_MAX; /* sums modulo 2^64: subtracts */
    feed->figures.tail_events += sign * tail->count;
    feed->figures.tail_bytes += sign * tail->bytes;
}

static void on_tenant_close(struct bk_tenant *tenant, void *state, void *user) {
    (void)tenant;
    struct feed_tenant *own = state;
    BK_ASSERT(bk_list_is_empty(&own->pins));
    count_tail(user, &own->tail, false);
    feed_tail_fini(&own->tail);
    bk_free(own);
}

static void on_committed(struct bk_bus_tap *tap, struct bk_tenant *tenant,
                         struct bk_event *const *events, size_t event_count) {
    struct bk_feed *feed = bk_container_of(tap, struct bk_feed, tap);
    struct feed_tail *tail = tail_of(feed, tenant);
    if (tail == NULL)
        return; /* the tenant is opening: its own first events are in the journal */
    count_tail(feed, tail, false);
    feed_tail_append(tail, events, event_count);
    count_tail(feed, tail, true);
}

struct bk_feed *bk_feed_create(struct bk_loop *loop, struct bk_bus *bus, struct bk_tenants *tenants,
                               struct bk_log log, size_t tail_max_bytes) {
    struct bk_feed *feed = bk_alloc_zero(sizeof *feed);
    struct bk_tenant_slot slot = {
        .name = "feed", .on_open = on_tenant_open, .on_close = on_tenant_close, .user = feed};
    feed->loop = loop;
    feed->store = bk_tenants_store(tenants);
    feed->log = log;
    feed->tail_max_bytes = tail_max_bytes;
    feed->slot = bk_tenants_add_slot(tenants, &slot);
    feed->tap.on_committed = on_committed;
    bk_bus_add_tap(bus, &feed->tap);
    bk_store_on_prune(feed->store, feed_pins_prunable, feed);
    feed->positions = feed_position_world_create(feed, bus, tenants);
    return feed;
}

void bk_feed_destroy(struct bk_feed *feed) {
    BK_ASSERT(feed->figures.tail_events == 0);
    feed_position_world_destroy(feed->positions);
    bk_store_on_prune(feed->store, NULL, NULL);
    bk_bus_remove_tap(&feed->tap);
    bk_free(feed);
}

struct bk_feed_figures bk_feed_figures(const struct bk_feed *feed) {
    return feed->figures;
}

/* --- the end of a read ------------------------------------------------------------------------ */

static void finish(struct bk_feed_read *read, enum bk_status status) {
    struct bk_journal_state journal = bk_journal_state(read->tenant->database);
    if (status == BK_GONE)
        read->problem = BK_FEED_CURSOR_EXPIRED;
    if (status == BK_CORRUPT)
        bk_log_error(&read->feed->log, "journal_not_contiguous",
                     BK_STRING("tenant", read->tenant->name), BK_INT("from", read->from),
                     BK_INT("to", read->to));
    if (status == BK_OK) {
        BK_ASSERT(feed_page_row_count(read) == read->event_count + read->skipped);
        read->has_more = read->query.is_descending ? read->first_sequence > journal.oldest
                                                   : read->last_sequence < journal.last;
        read->next_sequence =
            read->query.is_descending ? read->first_sequence - 1 : read->last_sequence;
    }
    read->done(read, status);
}

static enum bk_status status_of_problem(enum bk_feed_problem problem) {
    static const enum bk_status statuses[] = {
        [BK_FEED_NO_PROBLEM] = BK_OK,
        [BK_FEED_CURSOR_INVALID] = BK_INVALID,
        [BK_FEED_CURSOR_IN_FUTURE] = BK_INVALID,
        [BK_FEED_CURSOR_EPOCH_CHANGED] = BK_CONFLICT,
        [BK_FEED_CURSOR_EXPIRED] = BK_GONE,
    };
    BK_ASSERT((size_t)problem < BK_COUNT_OF(statuses));
    return statuses[problem];
}

/* --- resolving: from words to sequences ------------------------------------------------------- */

static enum bk_feed_problem
resolve_cursor(struct bk_slice text, const struct bk_journal_state *journal, uint64_t *position) {
    uint8_t epoch[sizeof journal->epoch];
    uint64_t sequence;
    if (!bk_cursor_parse(text, epoch, &sequence))
        return BK_FEED_CURSOR_INVALID;
    if (memcmp(epoch, journal->epoch, sizeof epoch) != 0)
        return BK_FEED_CURSOR_EPOCH_CHANGED;
    if (sequence > journal->last)
        return BK_FEED_CURSOR_IN_FUTURE;
    if (sequence + 1 < journal->oldest)
        return BK_FEED_CURSOR_EXPIRED;
    *position = sequence;
    return BK_FEED_NO_PROBLEM;
}

/* The position that query.after names: the sequence of the event that it stands behind. */
static enum bk_feed_problem resolve_position(struct bk_feed_read *read,
                                             const struct bk_journal_state *journal,
                                             uint64_t *position) {
    struct bk_slice after = read->query.after;
    if (after.length == 0)
        after = read->query.is_descending ? BK_SLICE("now") : BK_SLICE("start");
    read->is_lenient = true;
    if (bk_slice_is(after, "start")) {
        *position = journal->oldest - 1;
        return BK_FEED_NO_PROBLEM;
    }
    if (bk_slice_is(after, "now")) {
        *position = journal->last;
        return BK_FEED_NO_PROBLEM;
    }
    if (bk_time_parse(after, &read->after_ms)) {
        read->is_time = true; /* only the journal knows */
        *position = read->query.is_descending ? journal->last : journal->oldest - 1;
        return BK_FEED_NO_PROBLEM;
    }
    read->is_lenient = false;
    return resolve_cursor(after, journal, position);
}

enum bk_status bk_feed_resolve(struct bk_tenant *tenant, struct bk_slice after, uint64_t *sequence,
                               enum bk_feed_problem *problem) {
    struct bk_journal_state journal = bk_journal_state(tenant->database);
    struct bk_feed_read read = {.query.after = after};
    *problem = resolve_position(&read, &journal, sequence);
    if (read.is_time) {
        *problem = BK_FEED_CURSOR_INVALID;
        return BK_NOT_SUPPORTED;
    }
    return status_of_problem(*problem);
}

/* from..to is what may be looked at; the page's own range begins empty at its near end. */
static enum bk_feed_problem resolve(struct bk_feed_read *read) {
    struct bk_journal_state journal = bk_journal_state(read->tenant->database);
    uint64_t position = 0;
    BK_ASSERT(journal.oldest >= 1 && journal.oldest <= journal.last + 1);
    read->problem = resolve_position(read, &journal, &position);
    if (read->problem != BK_FEED_NO_PROBLEM)
        return read->problem;
    read->first_sequence = position + 1;
    read->last_sequence = position;
    if (read->query.is_descending) {
        read->from = journal.oldest;
        read->to = position;
        if (!read->is_time && read->to >= read->from + BK_FEED_SCAN_MAX)
            read->from = read->to - BK_FEED_SCAN_MAX + 1;
    } else {
        read->from = position + 1;
        read->to = journal.last;
        if (!read->is_time && read->to >= read->from + BK_FEED_SCAN_MAX)
            read->to = read->from + BK_FEED_SCAN_MAX - 1;
    }
    return BK_FEED_NO_PROBLEM;
}

/* --- from the tail ---------------------------------------------------------------------------- */

enum tail_outcome { PAGE_COMPLETE, PAGE_PAUSES, PAGE_GOES_ON, PAGE_TOO_LARGE };

/* Takes events from the tail while it has the next one; what is left of from..to is the
 * journal's. */
static enum tail_outcome read_tail(struct bk_feed_read *read, const struct feed_tail *tail) {
    bool is_descending = read->query.is_descending;
    uint32_t slice_rows = read->query.test == NULL ? SLICE_ROWS : SLICE_ROWS_TESTED;
    for (uint32_t i = 0; read->from <= read->to; i++) {
        struct bk_event *event = feed_tail_get(tail, is_descending ? read->to : read->from);
        if (event == NULL)
            return is_descending || feed_page_row_count(read) == 0 ? PAGE_GOES_ON : PAGE_COMPLETE;
        if (i == slice_rows)
            return PAGE_PAUSES;
        if (!feed_page_take(read, &event->fields, event->json))
            return feed_page_row_count(read) == 0 ? PAGE_TOO_LARGE : PAGE_COMPLETE;
        if (is_descending)
            read->to--;
        else
            read->from++;
        if (feed_page_is_full(read))
            return PAGE_COMPLETE;
    }
    return PAGE_COMPLETE;
}

/* --- the read --------------------------------------------------------------------------------- */

static void on_journal_done(struct bk_read *journal_read, enum bk_status status) {
    finish(bk_container_of(journal_read, struct bk_feed_read, journal_read), status);
}

static void read_journal(struct bk_feed_read *read) {
    read->feed->figures.journal_reads++;
    read->journal_read = (struct bk_read){.run = feed_journal_run, .done = on_journal_done};
    enum bk_status status = bk_store_read(read->tenant->database, &read->journal_read);
    if (status != BK_OK)
        finish(read, status);
}

static void on_slice_task(struct bk_task *task) {
    struct bk_feed_read *read = bk_container_of(task, struct bk_feed_read, task);
    switch (read_tail(read, tail_of(read->feed, read->tenant))) {
    case PAGE_PAUSES:
        bk_task_init(&read->task, on_slice_task);
        bk_loop_defer_last(read->feed->loop, &read->task);
        return;
    case PAGE_GOES_ON:
        read_journal(read);
        return;
    case PAGE_TOO_LARGE:
        finish(read, BK_TOO_LARGE);
        return;
    case PAGE_COMPLETE:
        read->feed->figures.tail_reads++;
        finish(read, BK_OK);
        return;
    }
    BK_UNREACHABLE();
}

static void on_read_task(struct bk_task *task) {
    struct bk_feed_read *read = bk_container_of(task, struct bk_feed_read, task);
    enum bk_feed_problem problem = resolve(read);
    if (problem != BK_FEED_NO_PROBLEM)
        finish(read, status_of_problem(problem));
    else if (read->is_time)
        read_journal(read);
    else
        on_slice_task(task);
}

static void prepare(struct bk_feed *feed, struct bk_feed_read *read,
                    void (*on_run)(struct bk_task *task)) {
    BK_ASSERT(read->done != NULL && read->events != NULL && read->tenant != NULL);
    read->feed = feed;
    read->problem = BK_FEED_NO_PROBLEM;
    read->first_sequence = 1;
    read->last_sequence = read->next_sequence = read->skipped = 0;
    read->event_count = 0;
    read->has_more = read->is_time = read->is_lenient = false;
    read->start_length = read->events->length;
    bk_task_init(&read->task, on_run);
    bk_loop_defer(feed->loop, &read->task);
}

void bk_feed_read(struct bk_feed *feed, struct bk_feed_read *read) {
    BK_ASSERT(read->query.limit >= 1 && read->query.limit <= BK_FEED_LIMIT_MAX);
    prepare(feed, read, on_read_task);
}

/* --- one event -------------------------------------------------------------------------------- */

/* For one row: no page, so no account and no query. */
static bool on_single_row(void *user, const struct bk_event_fields *fields) {
    struct bk_feed_read *read = user;
    if (bk_slice_equal(fields->id, read->query.after)) {
        bk_event_write_json(read->events, fields);
        read->event_count = 1;
    }
    return false;
}

static enum bk_status get_from_journal(struct bk_feed_read *read, uint64_t sequence) {
    struct bk_connection *connection = bk_store_read_now(read->tenant->database);
    if (connection == NULL)
        return BK_CLOSING;
    read->feed->figures.journal_reads++;
    struct bk_journal_query query = {
        .from = sequence, .to = sequence, .row_limit = 1, .on_row = on_single_row, .user = read};
    return bk_journal_read(connection, &query);
}

static enum bk_status get_event(struct bk_feed_read *read) {
    struct bk_journal_state journal = bk_journal_state(read->tenant->database);
    uint64_t sequence;
    if (!bk_event_id_parse(read->query.after, NULL, &sequence, NULL) || sequence == 0 ||
        sequence > journal.last)
        return BK_NOT_FOUND;
    if (sequence < journal.oldest)
        return BK_GONE;
    struct bk_event *event = feed_tail_get(tail_of(read->feed, read->tenant), sequence);
    if (event == NULL) {
        enum bk_status status = get_from_journal(read, sequence);
        if (status != BK_OK)
            return status;
    } else if (bk_slice_equal(event->fields.id, read->query.after)) {
        bk_buffer_append_slice(read->events, event->json);
        read->event_count = 1;
        read->feed->figures.tail_reads++;
    }
    if (read->events->is_overflown)
        return BK_TOO_LARGE;
    return read->event_count == 1 ? BK_OK : BK_NOT_FOUND;
}

static void on_get_task(struct bk_task *task) {
    struct bk_feed_read *read = bk_container_of(task, struct bk_feed_read, task);
    read->done(read, get_event(read));
}

void bk_feed_get(struct bk_feed *feed, struct bk_feed_read *read) {
    prepare(feed, read, on_get_task);
}
