/*
 * Named consumers: a place in the feed that the server keeps, for programs that have nowhere to
 * keep a cursor, or that share the work. Events are handed out in pages, each at least once.
 *
 *   poll ─> a page behind the position, under a lease ─> the work ─> commit ─> the position
 *                         └─ the lease's time is up: the page is handed out again
 *
 *   consumer_routes.c   defining, looking at, removing
 *   consumer_poll.c     pages and leases
 *   consumer_commit.c   commit and seek
 *   consumer_change.c   what changes a consumer, one after the other, each a write
 *   consumer_row.c      the table _consumers
 *   consumer_metrics.c  lag
 *
 * A consumer is a row and, as long as its tenant is open, an object on the loop that mirrors it.
 * Nothing of it changes before the write is on disk, leases and commits alike, with one exception:
 * over events that nobody asked for the position moves in memory alone. A consumer that has seen
 * all rests in the set of interests of those who wait (waiting.c), so that such events cost it
 * nothing, and its row follows now and then (tick). A crash in between costs a second look at
 * these events.
 *
 * Its row's position is pinned in the journal. When what comes next is pruned nevertheless, for
 * the bound of its size, it is lost: it says so in an event, once, and its readers get 410 until it
 * is sought. The position of a consumer of a restored tenant is of another
 * history: 409, likewise.
 */
#include "consumer.h"

#include "bakend/alloc.h"

/* --- definitions ------------------------------------------------------------------------------ */

static struct bk_slice copy_text(char **cursor, struct bk_slice text) {
    struct bk_slice copy = bk_slice_make(*cursor, text.length);
    if (text.length > 0)
        memcpy(*cursor, text.data, text.length);
    *cursor += text.length;
    return copy;
}

struct changefeed_consumer_definition *
changefeed_consumer_definition_create(const struct bk_slice *types, size_t type_count,
                                      struct bk_slice subject, struct bk_slice filter_text,
                                      struct bk_event_filter *filter) {
    struct changefeed_consumer_definition *definition;
    size_t head_bytes = sizeof *definition + type_count * sizeof *types;
    size_t text_bytes = subject.length + filter_text.length;
    for (size_t i = 0; i < type_count; i++)
        text_bytes += types[i].length;
    definition = bk_alloc_zero(head_bytes + text_bytes);
    char *cursor = (char *)definition + head_bytes;
    definition->reference_count = 1;
    definition->type_count = type_count;
    definition->subject = copy_text(&cursor, subject);
    definition->filter_text = copy_text(&cursor, filter_text);
    definition->filter = filter;
    for (size_t i = 0; i < type_count; i++)
        definition->types[i] = copy_text(&cursor, types[i]);
    return definition;
}

struct changefeed_consumer_definition *
changefeed_consumer_definition_ref(struct changefeed_consumer_definition *definition) {
    BK_ASSERT(definition->reference_count > 0);
    definition->reference_count++;
    return definition;
}

void changefeed_consumer_definition_unref(struct changefeed_consumer_definition *definition) {
    if (definition == NULL)
        return;
    BK_ASSERT(definition->reference_count > 0);
    if (--definition->reference_count > 0)
        return;
    bk_event_filter_unref(definition->filter);
    bk_free(definition);
}

/* --- where it stands -------------------------------------------------------------------------- */

bool changefeed_consumer_is_idle(const struct changefeed_consumer *consumer) {
    return changefeed_is_waiting(&consumer->waiter);
}

bool changefeed_consumer_is_leased(const struct changefeed_consumer *consumer) {
    return consumer->place.until_ms != 0;
}

bool changefeed_consumer_is_foreign(const struct changefeed_consumer *consumer) {
    struct bk_journal_state journal = bk_journal_state(consumer->tenant->database);
    return memcmp(journal.epoch, consumer->place.epoch, sizeof journal.epoch) != 0;
}

/* What was committed may be pruned before it is dispatched. To one that rests it comes from the bus
 * all the same, and only what it asked for ends its rest: then it stands before an event. */
bool changefeed_consumer_is_lost(const struct changefeed_consumer *consumer) {
    struct bk_journal_state journal = bk_journal_state(consumer->tenant->database);
    bool is_overtaken = changefeed_consumer_position(consumer) + 1 < journal.oldest;
    return consumer->place.is_lost || (is_overtaken && !changefeed_consumer_is_idle(consumer));
}

uint64_t changefeed_consumer_position(const struct changefeed_consumer *consumer) {
    uint64_t seen = 0;
    if (changefeed_consumer_is_idle(consumer))
        seen = changefeed_waiter_seen(&consumer->waiter);
    return seen > consumer->place.position ? seen : consumer->place.position;
}

void changefeed_consumer_pass(struct changefeed_consumer *consumer, uint64_t sequence) {
    if (sequence > consumer->place.position)
        consumer->place.position = sequence;
}

bool changefeed_consumer_rest(struct changefeed_consumer *consumer) {
    if (changefeed_consumer_is_idle(consumer))
        return true;
    changefeed_waiter_leave(&consumer->waiter);
    consumer->waiter.position = consumer->place.position;
    return changefeed_wait(&consumer->waiter) == BK_OK;
}

void changefeed_consumer_stop_resting(struct changefeed_consumer *consumer) {
    changefeed_consumer_pass(consumer, changefeed_consumer_position(consumer));
    changefeed_waiter_leave(&consumer->waiter);
}

static void on_wake(struct changefeed_waiter *waiter) {
    struct changefeed_consumer *consumer =
        bk_container_of(waiter, struct changefeed_consumer, waiter);
    changefeed_consumer_pass(consumer, waiter->position);
    changefeed_consumer_advance(consumer);
}

/* --- leases ----------------------------------------------------------------------------------- */

void changefeed_consumer_end_lease(struct changefeed_consumer *consumer) {
    consumer->place.until_ms = 0;
    bk_timer_stop(consumer->lease_timer);
}

static void on_lease_over(struct bk_timer *timer, void *user) {
    (void)timer;
    struct changefeed_consumer *consumer = user;
    changefeed_consumer_end_lease(consumer);
    changefeed_consumer_advance(consumer);
}

/* The time is the wall clock's, which may be set; the timer goes by its own, and a lease never
 * lasts longer than one may. */
static void start_lease(struct changefeed_consumer *consumer) {
    int64_t rest_ms = consumer->place.until_ms - bk_clock_wall_ms();
    if (!changefeed_consumer_is_leased(consumer) || rest_ms <= 0) {
        changefeed_consumer_end_lease(consumer);
        return;
    }
    if (rest_ms > CONSUMER_LEASE_MS_MAX)
        rest_ms = CONSUMER_LEASE_MS_MAX;
    bk_timer_start(consumer->lease_timer, (uint64_t)rest_ms, 0);
}

/* --- loss ------------------------------------------------------------------------------------- */

static void on_pin_lost(struct bk_feed_pin *pin);

static void pin_again(struct changefeed_consumer *consumer) {
    bk_feed_unpin(&consumer->pin);
    if (consumer->is_new || consumer->place.is_lost || changefeed_consumer_is_foreign(consumer))
        return;
    consumer->pin.sequence = consumer->stored;
    consumer->pin.on_lost = on_pin_lost;
    bk_feed_pin(consumer->state->context->feed, consumer->tenant, &consumer->pin);
}

static bool begin_own(struct changefeed_consumer_change *change) {
    struct changefeed_consumer *consumer = change->consumer;
    change->tells_loss = consumer->place.is_lost && !consumer->is_loss_stored;
    change->next.is_lost |= change->tells_loss;
    if (change->tells_loss)
        return true;
    change->next.position = changefeed_consumer_position(consumer);
    if (change->next.position > consumer->stored && !changefeed_consumer_is_foreign(consumer))
        return true;
    consumer->is_own_submitted = false;
    pin_again(consumer); /* where its row was overtaken, it is asked again with the next slice */
    bk_tenant_release(consumer->tenant);
    return false;
}

static void on_own_done(struct changefeed_consumer_change *change, enum bk_status status) {
    struct changefeed_consumer *consumer = change->consumer;
    if (status == BK_NOT_FOUND)
        return; /* its tenant was released by who removes it */
    consumer->is_own_submitted = false;
    if (change->tells_loss && status == BK_OK) {
        consumer->is_loss_stored = true;
        consumer->state->consumers_lost++;
        bk_log_warn(&consumer->state->context->log, "consumer_lost",
                    BK_STRING("tenant", consumer->tenant->name),
                    BK_STRING("consumer", consumer->name),
                    BK_INT("position", consumer->place.position), BK_INT("oldest", change->oldest));
    }
    bk_tenant_release(consumer->tenant);
}

/* What nobody's request stores: the loss, or a position that moved over what was not asked for. */
static void submit_own(struct changefeed_consumer *consumer) {
    if (consumer->is_own_submitted || consumer->is_new)
        return;
    consumer->is_own_submitted = true;
    consumer->own = (struct changefeed_consumer_change){.kind = CONSUMER_WRITE_PLACE,
                                                        .lane = BK_LANE_BACKGROUND,
                                                        .begin = begin_own,
                                                        .done = on_own_done};
    bk_tenant_ref(consumer->tenant);
    changefeed_consumer_change_submit(consumer, &consumer->own);
}

/* One that rests may stand far ahead of its row. */
static void on_pin_lost(struct bk_feed_pin *pin) {
    struct changefeed_consumer *consumer = bk_container_of(pin, struct changefeed_consumer, pin);
    if (changefeed_consumer_is_lost(consumer))
        changefeed_consumer_tell_loss(consumer);
    else
        submit_own(consumer);
}

void changefeed_consumer_tell_loss(struct changefeed_consumer *consumer) {
    consumer->place.is_lost = true;
    bk_feed_unpin(&consumer->pin);
    if (!consumer->is_loss_stored)
        submit_own(consumer);
    changefeed_consumer_advance(consumer);
}

/* --- life ------------------------------------------------------------------------------------- */

static void init_waiter(struct changefeed_consumer *consumer) {
    struct bk_feed_query query = {.types = consumer->definition->types,
                                  .type_count = consumer->definition->type_count,
                                  .subject = consumer->definition->subject,
                                  .test = bk_event_filter_test(consumer->definition->filter)};
    changefeed_waiter_init(&consumer->waiter, consumer->state, consumer->tenant, &query);
    consumer->waiter.on_wake = on_wake;
}

void changefeed_consumer_define(struct changefeed_consumer *consumer,
                                struct changefeed_consumer_definition *definition) {
    changefeed_consumer_stop_resting(consumer);
    changefeed_consumer_definition_unref(consumer->definition);
    consumer->definition = definition;
    consumer->jump_count++; /* a page that is being read is of the former one */
    init_waiter(consumer);
}

/* In the order of names, in which the list answers them. */
static void link_by_name(struct changefeed_tenant *own, struct changefeed_consumer *consumer) {
    struct bk_list *at = &own->consumers;
    BK_LIST_FOR_EACH(node, &own->consumers) {
        const struct changefeed_consumer *other =
            bk_container_of(node, struct changefeed_consumer, link);
        if (bk_slice_compare(other->name, consumer->name) > 0) {
            at = node;
            break;
        }
    }
    bk_list_insert_before(at, &consumer->link);
    own->consumer_count++;
}

struct changefeed_consumer *
changefeed_consumer_create(struct changefeed_state *state, struct bk_tenant *tenant,
                           struct bk_slice name,
                           struct changefeed_consumer_definition *definition) {
    struct changefeed_consumer *consumer = bk_alloc_zero(sizeof *consumer);
    BK_ASSERT(name.length > 0 && name.length <= CONSUMER_NAME_BYTES_MAX);
    consumer->state = state;
    consumer->tenant = tenant;
    memcpy(consumer->name_text, name.data, name.length);
    consumer->name = bk_slice_make(consumer->name_text, name.length);
    consumer->definition = definition;
    consumer->is_new = true;
    consumer->lease_timer = bk_timer_create(state->context->loop, on_lease_over, consumer);
    bk_timer_set_background(consumer->lease_timer);
    bk_list_init(&consumer->polls);
    bk_list_init(&consumer->changes);
    init_waiter(consumer);
    link_by_name(changefeed_tenant_of(state, tenant), consumer);
    return consumer;
}

void changefeed_consumer_destroy(struct changefeed_consumer *consumer) {
    BK_ASSERT(consumer->running == NULL);
    bk_list_remove(&consumer->link);
    changefeed_tenant_of(consumer->state, consumer->tenant)->consumer_count--;
    changefeed_consumer_polls_refuse(consumer);
    changefeed_consumer_changes_refuse(consumer);
    if (consumer->is_own_submitted)
        bk_tenant_release(consumer->tenant);
    bk_feed_unpin(&consumer->pin);
    changefeed_waiter_leave(&consumer->waiter);
    bk_timer_close(consumer->lease_timer);
    changefeed_consumer_definition_unref(consumer->definition);
    bk_free(consumer);
}

void changefeed_consumer_settle(struct changefeed_consumer *consumer,
                                const struct changefeed_consumer_place *place, bool is_jump) {
    uint64_t reached = changefeed_consumer_position(consumer);
    bool is_lost = consumer->place.is_lost;
    if (is_jump) {
        changefeed_waiter_leave(&consumer->waiter);
        consumer->jump_count++;
        consumer->is_loss_stored = false;
    }
    consumer->place = *place;
    consumer->stored = place->position;
    if (!is_jump) {
        consumer->jump_count += place->position > reached; /* it was committed */
        changefeed_consumer_pass(consumer, reached);
        consumer->place.is_lost |= is_lost; /* noticed while the write was under way */
    }
    start_lease(consumer);
    pin_again(consumer);
}

/* --- the consumers of a tenant ---------------------------------------------------------------- */

struct changefeed_consumer *changefeed_consumer_find(struct changefeed_state *state,
                                                     struct bk_tenant *tenant, struct bk_slice name,
                                                     bool with_new) {
    struct changefeed_tenant *own = changefeed_tenant_of(state, tenant);
    BK_LIST_FOR_EACH(node, &own->consumers) {
        struct changefeed_consumer *consumer =
            bk_container_of(node, struct changefeed_consumer, link);
        if (bk_slice_equal(consumer->name, name))
            return consumer->is_new && !with_new ? NULL : consumer;
    }
    return NULL;
}

struct loading {
    struct changefeed_state *state;
    struct bk_tenant *tenant;
};

static struct changefeed_consumer_definition *
definition_of(const struct changefeed_consumer_row *row) {
    struct bk_slice types[CONSUMER_TYPES_MAX];
    struct changefeed_consumer_definition *definition;
    struct bk_event_filter *filter = NULL;
    struct bk_arena arena;
    struct bk_json *list = NULL;
    size_t count = 0;
    bk_arena_init(&arena, (size_t)4 * CHANGEFEED_CONSUMER_BODY_BYTES_MAX);
    if (bk_json_parse(&arena, row->types, &list, NULL) == BK_OK)
        for (const struct bk_json *item = list->child; item != NULL; item = item->next)
            if (count < CONSUMER_TYPES_MAX && bk_event_pattern_is_valid(item->string))
                types[count++] = item->string;
    if (row->filter.length > 0)
        (void)bk_event_filter_parse(row->filter, &filter, NULL);
    definition =
        changefeed_consumer_definition_create(types, count, row->subject, row->filter, filter);
    bk_arena_fini(&arena);
    return definition;
}

static void copy_exactly(char *out, size_t size, struct bk_slice text) {
    memset(out, ' ', size);
    if (text.length > 0)
        memcpy(out, text.data, text.length < size ? text.length : size);
}

static void on_row(void *user, const struct changefeed_consumer_row *row) {
    struct loading *loading = user;
    if (row->name.length == 0 || row->name.length > CONSUMER_NAME_BYTES_MAX)
        return;
    struct changefeed_consumer *consumer =
        changefeed_consumer_create(loading->state, loading->tenant, row->name, definition_of(row));
    consumer->is_new = false;
    consumer->is_loss_stored = row->place.is_lost;
    copy_exactly(consumer->id, sizeof consumer->id, row->id);
    copy_exactly(consumer->created, sizeof consumer->created, row->created);
    copy_exactly(consumer->updated, sizeof consumer->updated, row->updated);
    changefeed_consumer_settle(consumer, &row->place, false);
    /* What it asks for cannot be read any more, and without its filter it would get everything. */
    if (row->filter.length > 0 && consumer->definition->filter == NULL) {
        bk_log_error(&loading->state->context->log, "consumer_filter_not_read",
                     BK_STRING("tenant", loading->tenant->name), BK_STRING("consumer", row->name));
        consumer->place.is_lost = true;
    }
}

enum bk_status changefeed_consumers_open(struct changefeed_state *state, struct bk_tenant *tenant,
                                         struct changefeed_tenant *own, struct bk_error *error) {
    struct loading loading = {state, tenant};
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    bk_list_init(&own->consumers);
    enum bk_status status = BK_CLOSING;
    if (connection != NULL)
        status = changefeed_consumer_rows_read(connection, on_row, &loading);
    if (status == BK_OK)
        return BK_OK;
    changefeed_consumers_close(own);
    return bk_error_set(error, status, "_consumers cannot be read");
}

void changefeed_consumers_close(struct changefeed_tenant *own) {
    BK_LIST_FOR_EACH(node, &own->consumers) {
        struct changefeed_consumer *consumer =
            bk_container_of(node, struct changefeed_consumer, link);
        BK_ASSERT(consumer->poll_count == 0 && bk_list_is_empty(&consumer->changes));
        changefeed_consumer_destroy(consumer);
    }
}

/* --- now and then ----------------------------------------------------------------------------- */

static void on_tenant(struct bk_tenant *tenant, void *user) {
    struct changefeed_state *state = user;
    struct changefeed_tenant *own = changefeed_tenant_of(state, tenant);
    if (own == NULL)
        return;
    BK_LIST_FOR_EACH(node, &own->consumers) {
        struct changefeed_consumer *consumer =
            bk_container_of(node, struct changefeed_consumer, link);
        if (consumer->is_new || changefeed_consumer_is_foreign(consumer))
            continue;
        if (changefeed_consumer_is_lost(consumer)) {
            if (!consumer->is_loss_stored)
                changefeed_consumer_tell_loss(consumer);
        } else if (changefeed_consumer_position(consumer) > consumer->stored) {
            submit_own(consumer);
        }
    }
}

void changefeed_consumers_tick(struct changefeed_state *state) {
    bk_tenants_for_each_open(state->context->tenants, on_tenant, state);
}

static void on_tick(struct bk_timer *timer, void *user) {
    (void)timer;
    changefeed_consumers_tick(user);
}

static void on_drain_tenant(struct bk_tenant *tenant, void *user) {
    changefeed_consumers_drain(user, tenant);
}

static void on_drain(struct bk_drain_hook *hook, uint32_t deadline_ms) {
    (void)deadline_ms;
    struct changefeed_state *state = bk_container_of(hook, struct changefeed_state, consumer_drain);
    bk_tenants_for_each_open(state->context->tenants, on_drain_tenant, state);
}

static void on_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    changefeed_consumers_write_metrics(
        bk_container_of(source, struct changefeed_state, consumer_metrics), out);
}

void changefeed_consumers_init(struct changefeed_state *state) {
    state->consumer_metrics.write = on_metrics;
    bk_api_add_metrics(state->context->api, &state->consumer_metrics);
    state->consumer_drain.on_drain = on_drain;
    bk_api_add_drain_hook(state->context->api, &state->consumer_drain);
    state->consumer_tick = bk_timer_create(state->context->loop, on_tick, state);
    bk_timer_set_background(state->consumer_tick);
    bk_timer_start(state->consumer_tick, CONSUMER_TICK_MS, CONSUMER_TICK_MS);
}

void changefeed_consumers_fini(struct changefeed_state *state) {
    bk_timer_close(state->consumer_tick);
    state->consumer_tick = NULL;
}
