/*
 * Handing over and taking back.
 *
 *   bus ── each durable event, in the phase ──> live ones that ask for it ──┐
 *   scan ── each event of its page ──> behind ones that ask for it ─────────┴──> on_event
 *
 * An event goes into the hand before the reader is called, since the call itself may acknowledge
 * it. Of out-of-order acknowledgements nothing is kept: the sequence is taken out of the hand, and
 * the watermark stands before what is left.
 *
 *   hand   [ in the reader's hands … | failed, and what stood behind it … ]   next
 *            0 … handed_count          … hand_count
 *
 * A failure moves the line to the left. After the pause the scan hands the right part over again,
 * one by one, and then goes on with next: what was acknowledged behind a failure does not come
 * again.
 *
 * The pause is RETRY_FIRST_MS, doubles with each failure up to RETRY_MAX_MS, and is shortened by up
 * to a fifth at random, so that readers that failed together do not come back together. It begins
 * anew when the watermark has passed the event that failed last.
 */
#include "position_private.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"
#include "bakend/id.h"

enum { RETRY_GRAIN_MS = 50 /* those that are due within it go on together */, JITTER_PART = 5 };

/* --- the hand --------------------------------------------------------------------------------- */

/* The index of a sequence in the hand, or hand_count. */
static uint32_t find(const struct feed_position *own, uint64_t sequence) {
    uint32_t low = 0, high = own->hand_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (own->hand[middle] < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low < own->hand_count && own->hand[low] == sequence ? low : own->hand_count;
}

static void put(struct feed_position *own, uint64_t sequence) {
    BK_ASSERT(own->handed_count == own->hand_count && own->hand_count < own->position->window);
    BK_ASSERT(own->hand_count == 0 || own->hand[own->hand_count - 1] < sequence);
    if (own->hand_count == own->hand_capacity) {
        own->hand_capacity = own->hand_capacity == 0 ? 4 : own->hand_capacity * 2;
        own->hand = bk_realloc(own->hand, own->hand_capacity * sizeof *own->hand);
    }
    own->hand[own->hand_count++] = sequence;
    own->handed_count++;
}

static void take_out(struct feed_position *own, uint32_t index) {
    own->hand_count--;
    if (index < own->handed_count)
        own->handed_count--;
    memmove(own->hand + index, own->hand + index + 1,
            (own->hand_count - index) * sizeof *own->hand);
}

/* --- what becomes of it ----------------------------------------------------------------------- */

static void acknowledge(struct feed_position *own, uint64_t sequence) {
    uint32_t index = find(own, sequence);
    (void)BK_FAILPOINT("feed.before_acknowledge");
    if (index == own->hand_count)
        return;
    take_out(own, index);
    own->kind->acknowledged++;
    if (index == 0) {
        if (feed_position_watermark(own) >= own->failed_sequence)
            own->failures = 0;
        feed_position_touch(own);
    }
    bool has_room = own->hand_count < own->position->window;
    bool has_failed = own->handed_count < own->hand_count;
    if ((own->state == BK_POSITION_FULL && has_room) ||
        (own->state == BK_POSITION_WAITING && !has_failed))
        feed_position_wake(own);
    else
        feed_position_settle(own);
}

static void fail(struct feed_position *own, uint64_t sequence) {
    uint32_t index = find(own, sequence);
    if (index >= own->handed_count)
        return; /* not in the reader's hands */
    own->handed_count = index;
    own->failed_sequence = sequence;
    own->kind->failed++;
    if (own->state == BK_POSITION_WAITING || own->state == BK_POSITION_LOST)
        return;
    own->failures++;
    feed_position_move(own, BK_POSITION_WAITING);
}

void bk_position_acknowledge(struct bk_position *position, uint64_t sequence) {
    if (position->own != NULL)
        acknowledge(position->own, sequence);
}

void bk_position_fail(struct bk_position *position, uint64_t sequence) {
    if (position->own != NULL)
        fail(position->own, sequence);
}

/* The event is in the hand. Afterwards the position may be anything, also gone. */
static void call(struct feed_position *own, struct bk_event *event) {
    uint32_t generation = own->generation;
    uint64_t sequence = event->fields.sequence;
    own->kind->handed++;
    own->calls++;
    enum bk_handed outcome = BK_HANDED_FAILED;
    if (BK_FAILPOINT("feed.before_hand") == BK_OK)
        outcome = own->position->on_event(own->position, event);
    (void)BK_FAILPOINT("feed.after_hand");
    own->calls--;
    if (own->generation != generation)
        feed_position_settle(own); /* closed or sought: it was the last thing to know of it */
    else if (outcome == BK_HANDED_DONE)
        acknowledge(own, sequence);
    else if (outcome == BK_HANDED_FAILED)
        fail(own, sequence);
    else
        feed_position_settle(own);
}

/* --- from the bus ----------------------------------------------------------------------------- */

static bool is_cut_for(const struct feed_position *own, const struct bk_event *event) {
    return event->fields.depth >= BK_CAUSE_DEPTH_MAX && !own->position->sees_cut_chains;
}

static void on_live(struct bk_interest *interest, void *user) {
    struct bk_event *event = user;
    struct bk_position *position = bk_container_of(interest, struct bk_position, interest);
    struct feed_position *own = position->own;
    struct feed_position_world *world = own->of->feed->positions;
    world->visits++;
    if (own->next > event->fields.sequence)
        return; /* it was sought further ahead */
    if (is_cut_for(own, event)) {
        bk_bus_keep_back(world->bus);
        return;
    }
    if (own->hand_count >= position->window) {
        feed_position_move(own, BK_POSITION_FULL);
        return;
    }
    own->next = event->fields.sequence + 1;
    put(own, event->fields.sequence);
    call(own, event);
}

enum bk_status feed_position_on_bus(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                    struct bk_event *event) {
    struct feed_subscription *own =
        bk_container_of(subscription, struct feed_subscription, subscription);
    struct feed_positions *all = feed_positions_of(own->world->feed, tenant);
    uint64_t sequence = event->fields.sequence;
    if (all == NULL || sequence == 0)
        return BK_OK;
    struct feed_side *side = &all->sides[own->side];
    if (sequence <= side->head)
        return BK_OK; /* made while the tenant opened: the journal has it */
    BK_ASSERT(sequence == side->head + 1 && side->dispatching == 0);
    side->dispatching = sequence;
    bk_interests_match_event(side->live, &event->fields, on_live, event);
    side->dispatching = 0;
    side->head = sequence;
    return BK_OK;
}

/* --- from the scan ---------------------------------------------------------------------------- */

static void on_behind(struct bk_interest *interest, void *user) {
    struct bk_event *event = user;
    struct bk_position *position = bk_container_of(interest, struct bk_position, interest);
    struct feed_position *own = position->own;
    uint64_t sequence = event->fields.sequence;
    own->of->feed->positions->visits++;
    if (own->page == 0 || sequence < feed_position_place(own))
        return;
    if (own->handed_count < own->hand_count) {
        BK_ASSERT(own->hand[own->handed_count] == sequence);
        own->handed_count++;
        call(own, event);
        return;
    }
    if (is_cut_for(own, event))
        return;
    if (own->hand_count >= position->window) {
        feed_position_move(own, BK_POSITION_FULL);
        return;
    }
    own->next = sequence + 1;
    put(own, sequence);
    call(own, event);
}

void feed_position_hand_scanned(struct feed_positions *all, struct bk_event *event) {
    const struct bk_event_fields *fields = &event->fields;
    BK_ASSERT(fields->sequence == all->scan.at);
    for (size_t i = 0; i < FEED_SIDE_COUNT; i++)
        bk_interests_match_event(all->sides[i].behind, fields, on_behind, event);
}

/* --- waiting ---------------------------------------------------------------------------------- */

static uint64_t pause_ms(const struct feed_position_world *world, uint32_t failures) {
    uint64_t pause = world->retry_first_ms;
    for (uint32_t i = 1; i < failures && pause < world->retry_max_ms; i++)
        pause *= 2;
    if (pause > world->retry_max_ms)
        pause = world->retry_max_ms;
    return pause - bk_random_u64() % (pause / JITTER_PART + 1);
}

static void start_retry(struct feed_position_world *world, uint64_t at_ms, uint64_t now_ms) {
    world->retry_at_ms = at_ms;
    bk_timer_start(world->retry, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

void feed_position_wait(struct feed_position *own) {
    struct feed_positions *all = own->of;
    struct feed_position_world *world = all->feed->positions;
    uint64_t now_ms = bk_loop_now_ms(all->feed->loop);
    uint64_t pause = pause_ms(world, own->failures);
    own->due_ms = now_ms + pause;
    bk_list_push(&world->waiting, &own->link);
    bk_log_warn(&all->feed->log, "position_waits", BK_STRING("tenant", all->tenant->name),
                BK_STRING("position", own->name), BK_INT("sequence", own->failed_sequence),
                BK_INT("failures", own->failures), BK_INT("pause_ms", pause));
    if (world->retry_at_ms == 0 || own->due_ms < world->retry_at_ms)
        start_retry(world, own->due_ms, now_ms);
}

/* Nobody's code runs in here: waking puts them before the scan, which comes later. */
void feed_position_on_retry(struct bk_timer *timer, void *user) {
    struct feed_position_world *world = user;
    uint64_t now_ms = bk_loop_now_ms(world->feed->loop), earliest_ms = 0;
    (void)timer;
    world->retry_at_ms = 0;
    BK_LIST_FOR_EACH(node, &world->waiting) {
        struct feed_position *own = bk_container_of(node, struct feed_position, link);
        if (own->due_ms <= now_ms)
            feed_position_wake(own);
        else if (earliest_ms == 0 || own->due_ms < earliest_ms)
            earliest_ms = own->due_ms;
    }
    if (earliest_ms != 0)
        start_retry(world,
                    earliest_ms < now_ms + RETRY_GRAIN_MS ? now_ms + RETRY_GRAIN_MS : earliest_ms,
                    now_ms);
}
