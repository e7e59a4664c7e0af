/*
 * The life of a position: opened, moved from state to state, sought, closed.
 *
 *                           ┌────────── caught up ──────────┐
 *   OPENING ─ stored ─┬─> BEHIND <─────── room again ──── FULL <── no room ──┐
 *      │              │     │ ^                             ^                │
 *      │              │     │ └── the pause is over ── WAITING <─ failed ─┐  │
 *      │              └─────┼─────────────────────────────┬─┴─────────────┴──┤
 *      v                    v                             └──────────────> LIVE
 *    CLOSED <── close ── LOST ── seek ──> BEHIND or LIVE
 *
 * Where it stands is three numbers, and two of them are derived. `next` is the first event that it
 * has not seen. A live one sees all that is dispatched, a visit or not, so its next is never less
 * than what comes after the phase's head; for one that takes part in a page of the scan the same
 * holds of the page. So nobody walks over positions when an event passes: `next` is written down
 * when a position leaves such a state. The watermark is what stands before the first event in its
 * hands, or before next when they are empty. Its place is the first event that it has to be
 * handed: one that failed and comes again, or next.
 *
 * Between the scan and the bus nothing is lost and nothing comes twice because both compare
 * sequences: a position becomes live only when its place is behind the last event that its phase
 * has begun to dispatch, and the scan hands over nothing that was not dispatched.
 *
 * A position that is called may close, seek, acknowledge or fail any other and itself. Its
 * generation tells whether the answer to a call is still about what was handed.
 */
#include "position_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

static const char *const state_names[] = {
    [BK_POSITION_CLOSED] = "closed", [BK_POSITION_OPENING] = "opening",
    [BK_POSITION_LIVE] = "live",     [BK_POSITION_BEHIND] = "behind",
    [BK_POSITION_FULL] = "full",     [BK_POSITION_WAITING] = "waiting",
    [BK_POSITION_LOST] = "lost",
};

const char *bk_position_state_name(enum bk_position_state state) {
    BK_ASSERT((size_t)state < BK_COUNT_OF(state_names));
    return state_names[state];
}

/* --- where it stands -------------------------------------------------------------------------- */

struct feed_side *feed_position_side(const struct feed_position *own) {
    return &own->of->sides[own->position->phase - BK_PHASE_FUNCTIONS];
}

uint64_t feed_position_next(const struct feed_position *own) {
    uint64_t passed = 0; /* all up to this one has gone by */
    if (own->state == BK_POSITION_LIVE)
        passed = feed_position_side(own)->head;
    else if (own->page != 0)
        passed = own->of->scan.at - 1;
    return passed + 1 > own->next ? passed + 1 : own->next;
}

uint64_t feed_position_place(const struct feed_position *own) {
    return own->handed_count < own->hand_count ? own->hand[own->handed_count]
                                               : feed_position_next(own);
}

uint64_t feed_position_watermark(const struct feed_position *own) {
    return (own->hand_count > 0 ? own->hand[0] : feed_position_next(own)) - 1;
}

/* --- from state to state ---------------------------------------------------------------------- */

static void leave(struct feed_position *own) {
    own->next = feed_position_next(own);
    if (own->state == BK_POSITION_LIVE || own->state == BK_POSITION_BEHIND)
        bk_interests_remove(&own->position->interest);
    feed_scan_leave(own);
    bk_list_remove(&own->link);
}

static void enter(struct feed_position *own, enum bk_position_state state) {
    struct feed_positions *all = own->of;
    own->state = state;
    if (state == BK_POSITION_LIVE || state == BK_POSITION_BEHIND) {
        struct feed_side *side = feed_position_side(own);
        enum bk_status status = bk_interests_add(
            state == BK_POSITION_LIVE ? side->live : side->behind, &own->position->interest);
        BK_ASSERT(status == BK_OK); /* its patterns were looked at when it was opened */
    }
    if (state == BK_POSITION_BEHIND) {
        bk_list_push(&all->scan.behind, &own->link);
        feed_scan_join(own);
        feed_scan_schedule(all);
    }
    if (state == BK_POSITION_WAITING)
        feed_position_wait(own);
    feed_position_settle(own);
}

void feed_position_move(struct feed_position *own, enum bk_position_state state) {
    static const uint32_t legal[] = {
        [BK_POSITION_CLOSED] = 1U << BK_POSITION_OPENING,
        [BK_POSITION_OPENING] = 1U << BK_POSITION_LIVE | 1U << BK_POSITION_BEHIND,
        [BK_POSITION_LIVE] = 1U << BK_POSITION_FULL | 1U << BK_POSITION_WAITING,
        [BK_POSITION_BEHIND] = 1U << BK_POSITION_LIVE | 1U << BK_POSITION_FULL |
                               1U << BK_POSITION_WAITING | 1U << BK_POSITION_LOST,
        [BK_POSITION_FULL] = 1U << BK_POSITION_LIVE | 1U << BK_POSITION_BEHIND |
                             1U << BK_POSITION_WAITING | 1U << BK_POSITION_LOST,
        [BK_POSITION_WAITING] =
            1U << BK_POSITION_LIVE | 1U << BK_POSITION_BEHIND | 1U << BK_POSITION_LOST,
        [BK_POSITION_LOST] = 0,
    };
    BK_ASSERT((legal[own->state] & 1U << state) != 0);
    leave(own);
    enter(own, state);
}

/* What is being dispatched may not reach it any more, and the scan comes after that. */
static bool has_seen_all(const struct feed_position *own) {
    const struct feed_side *side = feed_position_side(own);
    uint64_t place = feed_position_place(own);
    return place > side->head && place > side->dispatching;
}

void feed_position_wake(struct feed_position *own) {
    feed_position_move(own, has_seen_all(own) ? BK_POSITION_LIVE : BK_POSITION_BEHIND);
}

/* Its reader is told by the caller's on_lost, which may close it. */
void feed_position_lose(struct feed_position *own) {
    struct feed_positions *all = own->of;
    feed_position_move(own, BK_POSITION_LOST);
    own->kind->lost++;
    bk_log_warn(&all->feed->log, "position_lost", BK_STRING("tenant", all->tenant->name),
                BK_STRING("position", own->name), BK_INT("next", feed_position_place(own)),
                BK_INT("oldest", bk_journal_state(all->tenant->database).oldest));
    if (own->position->on_lost != NULL)
        own->position->on_lost(own->position);
}

/* --- what it holds ---------------------------------------------------------------------------- */

static bool holds_tenant(const struct feed_position *own) {
    if (own->is_dirty || own->is_in_flight)
        return true;
    if (own->position == NULL || own->state == BK_POSITION_LOST)
        return false;
    return own->state != BK_POSITION_LIVE || own->hand_count > 0;
}

static void destroy_when_done(struct feed_position *own) {
    if (own->position != NULL || own->is_dirty || own->is_in_flight || own->calls > 0)
        return;
    if (!own->is_stray)
        bk_map_remove(&own->of->names, own->name);
    bk_list_remove(&own->all_link);
    bk_task_cancel(&own->opening);
    bk_free(own->hand);
    bk_free(own);
}

void feed_position_settle(struct feed_position *own) {
    struct feed_positions *all = own->of;
    bool is_holding = holds_tenant(own);
    if (is_holding != own->is_holding)
        all->holding_count += is_holding ? 1 : UINT32_MAX; /* modulo 2^32: one less */
    own->is_holding = is_holding;
    destroy_when_done(own);
    feed_positions_settle(all);
}

/* --- opening ---------------------------------------------------------------------------------- */

/* The reader sees it no more. What is acknowledged stays to be stored. */
static void detach(struct feed_position *own) {
    uint64_t watermark = feed_position_watermark(own);
    own->generation++;
    leave(own);
    bk_task_cancel(&own->opening);
    bk_feed_unpin(&own->pin);
    own->state = BK_POSITION_CLOSED;
    own->next = watermark + 1;
    own->hand_count = own->handed_count = 0;
    own->failures = own->store_failures = 0;
    own->position->own = NULL;
    own->position = NULL;
}

void feed_position_refuse(struct feed_position *own, enum bk_status status,
                          enum bk_feed_problem problem) {
    struct bk_position *position = own->position;
    void (*opened)(struct bk_position *, enum bk_status, enum bk_feed_problem) = own->opened;
    BK_ASSERT(own->state == BK_POSITION_OPENING && status != BK_OK);
    detach(own);
    if (own->stored_state == FEED_STORED_NOT && !own->is_dropped) {
        own->is_dirty = false;
        bk_list_remove(&own->dirty_link);
    }
    feed_position_settle(own);
    opened(position, status, problem);
}

static void on_pin_lost(struct bk_feed_pin *pin) {
    struct feed_position *own = bk_container_of(pin, struct feed_position, pin);
    uint64_t oldest = bk_journal_state(own->of->tenant->database).oldest;
    bool stands_still = own->state == BK_POSITION_FULL || own->state == BK_POSITION_WAITING;
    /* One that is behind may still be served from memory: the scan sees to it. */
    if (stands_still && feed_position_place(own) < oldest)
        feed_position_lose(own);
    else
        feed_position_touch(own);
}

void feed_position_opened(struct feed_position *own) {
    struct feed_positions *all = own->of;
    BK_ASSERT(own->state == BK_POSITION_OPENING && own->stored_state == FEED_STORED);
    own->pin = (struct bk_feed_pin){.sequence = own->stored, .on_lost = on_pin_lost};
    bk_feed_pin(all->feed, all->tenant, &own->pin);
    feed_position_wake(own);
    own->opened(own->position, BK_OK, BK_FEED_NO_PROBLEM);
}

static bool has_valid_patterns(const struct bk_interest *interest) {
    for (size_t i = 0; i < interest->type_count; i++)
        if (!bk_event_pattern_is_valid(interest->types[i]))
            return false;
    return true;
}

/* A look-up by bisection, about as many rows as the journal's size has bits. */
static enum bk_status seek_time(struct bk_tenant *tenant, int64_t wall_ms, uint64_t *sequence) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    uint64_t first;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_journal_seek(connection, wall_ms, &first);
    if (status == BK_OK)
        *sequence = first - 1;
    return status;
}

static enum bk_status begin_at(struct feed_position *own, enum bk_feed_problem *problem) {
    struct bk_tenant *tenant = own->of->tenant;
    struct bk_slice after = own->position->after;
    uint64_t sequence = 0;
    int64_t wall_ms;
    enum bk_status status =
        bk_feed_resolve(tenant, after.length == 0 ? BK_SLICE("now") : after, &sequence, problem);
    if (status == BK_NOT_SUPPORTED && bk_time_parse(after, &wall_ms)) {
        *problem = BK_FEED_NO_PROBLEM;
        status = seek_time(tenant, wall_ms, &sequence);
    }
    if (status == BK_NOT_SUPPORTED)
        status = BK_INVALID;
    if (status == BK_OK) {
        own->next = sequence + 1;
        own->is_dropped = false;
    }
    return status;
}

static void on_opening(struct bk_task *task) {
    struct feed_position *own = bk_container_of(task, struct feed_position, opening);
    enum bk_feed_problem problem = BK_FEED_NO_PROBLEM;
    enum bk_status status = own->is_stray ? BK_EXISTS : BK_OK;
    if (status == BK_OK && !has_valid_patterns(&own->position->interest))
        status = BK_INVALID;
    if (status == BK_OK && own->stored_state == FEED_STORED_UNKNOWN)
        status = feed_position_find(own);
    if (status == BK_OK && own->stored_state == FEED_STORED_NOT)
        status = begin_at(own, &problem);
    if (status != BK_OK) {
        feed_position_refuse(own, status, problem);
    } else if (own->stored_state == FEED_STORED) {
        feed_position_opened(own);
    } else {
        feed_position_touch(own);
        feed_store_hurry(own->of);
    }
}

static struct feed_kind *kind_of(struct feed_position_world *world, const char *name) {
    BK_LIST_FOR_EACH(node, &world->kinds) {
        struct feed_kind *kind = bk_container_of(node, struct feed_kind, link);
        if (strcmp(kind->name, name) == 0)
            return kind;
    }
    struct feed_kind *kind = bk_alloc_zero(sizeof *kind);
    kind->name = name;
    bk_list_push(&world->kinds, &kind->link);
    return kind;
}

static struct feed_position *create(struct feed_positions *all, struct bk_slice name) {
    struct feed_position *own = bk_alloc_zero(sizeof *own + name.length);
    char *text = (char *)(own + 1);
    memcpy(text, name.data, name.length);
    own->name = bk_slice_make(text, name.length);
    own->of = all;
    own->next = 1;
    bk_list_init(&own->all_link);
    bk_list_init(&own->link);
    bk_list_init(&own->dirty_link);
    bk_list_init(&own->pin.link);
    bk_task_init(&own->opening, on_opening);
    bk_list_push(&all->all, &own->all_link);
    return own;
}

void bk_position_open(struct bk_feed *feed, struct bk_tenant *tenant, struct bk_position *position,
                      void (*opened)(struct bk_position *position, enum bk_status status,
                                     enum bk_feed_problem problem)) {
    struct feed_positions *all = feed_positions_of(feed, tenant);
    BK_ASSERT(all != NULL && position->on_event != NULL && position->kind != NULL);
    BK_ASSERT(position->phase >= BK_PHASE_FUNCTIONS);
    BK_ASSERT(position->window >= 1 && position->window <= BK_POSITION_WINDOW_MAX);
    BK_ASSERT(position->name.length >= 1 && position->name.length <= BK_POSITION_NAME_BYTES_MAX);
    struct feed_position *own = bk_map_get(&all->names, position->name);
    bool is_stray = own != NULL && own->position != NULL;
    if (own == NULL || is_stray) {
        own = create(all, position->name);
        own->is_stray = is_stray;
        if (!is_stray)
            bk_map_put(&all->names, own->name, own);
    }
    own->kind = kind_of(feed->positions, position->kind);
    own->position = position;
    own->opened = opened;
    own->generation++;
    position->tenant = tenant;
    position->own = own;
    feed_position_move(own, BK_POSITION_OPENING);
    bk_loop_defer(feed->loop, &own->opening);
}

/* --- seeking and closing ---------------------------------------------------------------------- */

enum bk_status bk_position_seek(struct bk_position *position, struct bk_slice after,
                                enum bk_feed_problem *problem) {
    struct feed_position *own = position->own;
    enum bk_feed_problem ignored;
    uint64_t sequence;
    BK_ASSERT(own != NULL && own->state != BK_POSITION_OPENING);
    enum bk_status status =
        bk_feed_resolve(position->tenant, after.length == 0 ? BK_SLICE("now") : after, &sequence,
                        problem == NULL ? &ignored : problem);
    if (status != BK_OK)
        return status;
    own->generation++;
    leave(own);
    own->hand_count = own->handed_count = 0;
    own->failures = 0;
    own->next = sequence + 1;
    if (sequence < own->pin.sequence)
        own->pin.sequence = sequence;
    /* Neither in a list nor in an index: its place is next as it is. */
    own->state = BK_POSITION_OPENING;
    feed_position_touch(own);
    feed_position_wake(own);
    return BK_OK;
}

void bk_position_close(struct bk_position *position) {
    struct feed_position *own = position->own;
    if (own == NULL)
        return;
    detach(own);
    if (own->stored_state == FEED_STORED)
        feed_position_touch(own);
    feed_position_settle(own);
}

void bk_position_drop(struct bk_position *position) {
    struct feed_position *own = position->own;
    if (own == NULL)
        return;
    detach(own);
    if (!own->is_stray) {
        own->is_dropped = true;
        own->stored_state = FEED_STORED_NOT;
        feed_position_touch(own);
    }
    feed_position_settle(own);
}

/* --- facts ------------------------------------------------------------------------------------ */

struct bk_position_facts bk_position_facts(const struct bk_position *position) {
    const struct feed_position *own = position->own;
    struct bk_position_facts facts = {.state = BK_POSITION_CLOSED};
    if (own == NULL)
        return facts;
    facts.state = own->state;
    if (own->state == BK_POSITION_OPENING)
        return facts;
    uint64_t last = bk_journal_state(position->tenant->database).last;
    /* It stays live or behind until there is an event that it has no room for. */
    if ((own->state == BK_POSITION_LIVE || own->state == BK_POSITION_BEHIND) &&
        own->handed_count >= position->window)
        facts.state = BK_POSITION_FULL;
    facts.acknowledged = feed_position_watermark(own);
    facts.lag = last > facts.acknowledged ? last - facts.acknowledged : 0;
    facts.handed = own->hand_count;
    facts.failures = own->failures;
    return facts;
}
