/*
 * Turns: who begins what, and when the loop looks again.
 *
 * Tenants with something for a round stand in a ring, and lanes in a ring of their tenant. In a
 * turn, each tenant gets a round with its share of the places that are free: as many as there are,
 * divided by those who still stand in line. Its lanes share that in the same way (round.c). So a
 * tenant or a lane with a million tasks and one with a single one wait as long.
 *
 * What hangs must not take all places. A kind of a tenant may claim a quarter of what is free
 * beyond what it has, three times as much as it leaves: so the first gets 192 of 256, the next 48,
 * and there is a place for who comes last (round.c).
 *
 * Replays get what is left of a share when all other ready lanes of the tenant have had theirs, and
 * a quarter of all places at most, so that those who do not hurry cannot take every place.
 *
 * There is one timer. Two heaps tell when it runs: of lanes and tenants by work time, and of
 * attempts by the loop's.
 */
#include "work_private.h"

#include "bakend/alloc.h"

enum {
    REPLAY_SHARE = 4, /* of all places, one of so many */
    PROGRESS_MS = 1000,
    UPKEEP_MS = 60 * 1000,
    SLEEP_MAX_MS = 60 * 60 * 1000
};

/* --- the timer -------------------------------------------------------------------------------- */

/* In how long the first of a heap is due; INT64_MAX: it is empty. */
static int64_t delay_of(const struct work_heap *heap, int64_t now_ms) {
    const struct work_heap_node *node = work_heap_first(heap);
    if (node == NULL)
        return INT64_MAX;
    return node->time_ms > now_ms ? node->time_ms - now_ms : 0;
}

void work_timer_adjust(struct bk_work *work) {
    uint64_t loop_ms = bk_loop_now_ms(work->loop);
    if (work->phase == WORK_CREATED || work->phase == WORK_STOPPED)
        return;
    int64_t delay_ms = delay_of(&work->later, work_now_ms(work));
    int64_t timeout_ms = delay_of(&work->timeouts, (int64_t)loop_ms);
    if (timeout_ms < delay_ms)
        delay_ms = timeout_ms;
    if (delay_ms == INT64_MAX) {
        bk_timer_stop(work->timer);
        work->timer_ms = 0;
        return;
    }
    if (delay_ms > SLEEP_MAX_MS)
        delay_ms = SLEEP_MAX_MS;
    if (work->timer_ms == loop_ms + (uint64_t)delay_ms)
        return;
    work->timer_ms = loop_ms + (uint64_t)delay_ms;
    bk_timer_start(work->timer, (uint64_t)delay_ms, 0);
}

/* --- places ---------------------------------------------------------------------------------- */

static uint32_t minus(uint32_t a, uint32_t b) { return a > b ? a - b : 0; }

uint32_t work_places(const struct bk_work *work) {
    return minus(work->running_max, work->running_count + work->reserved_count);
}

static uint32_t free_replay_places(const struct bk_work *work) {
    uint32_t max = work->running_max / REPLAY_SHARE > 0 ? work->running_max / REPLAY_SHARE : 1;
    return minus(max, work->replay_count + work->reserved_replay_count);
}

/* A tenant whose tasks run is held open, and requests to others need room: tasks of a quarter of
 * the tenants that may be open do not begin. */
static bool may_begin(const struct work_tenant *tenant) {
    const struct bk_work *work = tenant->work;
    uint32_t max = bk_tenants_open_max(work->registry);
    return tenant->attempt_count > 0 || work->busy_count < max - max / 4;
}

/* --- tenants ---------------------------------------------------------------------------------- */

static bool has_ready_lanes(const struct work_tenant *tenant) {
    return tenant->is_known && !tenant->is_leaving &&
           !(bk_list_is_empty(&tenant->ready[0]) && bk_list_is_empty(&tenant->ready[1]));
}

/* Wishes, and what may be stored when it is time. */
static bool has_wishes(const struct work_tenant *tenant, int64_t now_ms) {
    uint32_t wants = tenant->wants;
    if (now_ms < tenant->progress_ms + PROGRESS_MS)
        wants &= ~(uint32_t)WORK_WANTS_PROGRESS;
    if (now_ms < tenant->move_ms)
        wants &= ~(uint32_t)WORK_WANTS_MOVE;
    return wants != 0 || (tenant->is_known && tenant->schedule_ms <= now_ms);
}

/* Whether it has something for a round but claims, or claims too. */
static bool needs_round(const struct work_tenant *tenant, int64_t now_ms) {
    enum work_phase phase = tenant->work->phase;
    if (tenant->round.is_flying || tenant->has_no_table || now_ms < tenant->retry_ms)
        return false;
    if (phase != WORK_STARTED && phase != WORK_STOPPING)
        return false;
    if (!bk_list_is_empty(&tenant->ended))
        return true;
    return phase == WORK_STARTED && !tenant->is_leaving && has_wishes(tenant, now_ms);
}

static bool may_claim(const struct work_tenant *tenant, int64_t now_ms) {
    return tenant->work->phase == WORK_STARTED && !tenant->round.is_flying &&
           now_ms >= tenant->retry_ms && has_ready_lanes(tenant);
}

/* After a round that failed nothing is looked at before it is tried again. */
static int64_t next_look_ms(const struct work_tenant *tenant, int64_t now_ms) {
    int64_t next_ms = tenant->is_known ? tenant->schedule_ms : INT64_MAX;
    if (tenant->retry_ms > now_ms)
        return tenant->retry_ms;
    if ((tenant->wants & WORK_WANTS_PROGRESS) != 0 && tenant->progress_ms + PROGRESS_MS < next_ms)
        next_ms = tenant->progress_ms + PROGRESS_MS;
    if ((tenant->wants & WORK_WANTS_MOVE) != 0 && tenant->move_ms < next_ms)
        next_ms = tenant->move_ms;
    return next_ms;
}

static bool must_hold(const struct work_tenant *tenant) {
    if (tenant->attempt_count > 0 || tenant->round.is_flying)
        return true;
    if (tenant->work->phase != WORK_STARTED || tenant->is_leaving || tenant->has_no_table)
        return false;
    if (!tenant->is_known || tenant->wants != 0)
        return true;
    return has_ready_lanes(tenant) && may_begin(tenant) &&
           work_round_has_room(tenant, free_replay_places(tenant->work));
}

void work_tenant_settle(struct work_tenant *tenant) {
    struct bk_work *work = tenant->work;
    int64_t now_ms = work_now_ms(work);
    if (tenant->is_closed)
        return;
    work_tenant_hold(tenant, must_hold(tenant));
    if (!needs_round(tenant, now_ms) && !may_claim(tenant, now_ms)) {
        bk_list_remove(&tenant->ready_link);
    } else if (bk_list_is_empty(&tenant->ready_link)) {
        bk_list_push(&work->ready, &tenant->ready_link);
        work_turn_soon(work);
    }
    int64_t next_ms = next_look_ms(tenant, now_ms);
    if (next_ms == INT64_MAX || next_ms <= now_ms) {
        work_heap_remove(&work->later, &tenant->later);
        return;
    }
    work_heap_put(&work->later, &tenant->later, next_ms);
    if (work_heap_first(&work->later) == &tenant->later)
        work_timer_adjust(work);
}

/* --- a turn ----------------------------------------------------------------------------------- */

static void wake_due(struct bk_work *work) {
    int64_t now_ms = work_now_ms(work);
    struct work_heap_node *node;
    while ((node = work_heap_first(&work->later)) != NULL && node->time_ms <= now_ms) {
        work_heap_remove(&work->later, node);
        if (node->what == WORK_NODE_LANE)
            work_lane_settle(bk_container_of(node, struct work_lane, later));
        else
            work_tenant_settle(bk_container_of(node, struct work_tenant, later));
    }
}

/* False: it only wants to claim, and there is no place, or it makes room for requests. */
static bool give_round(struct work_tenant *tenant, uint32_t share) {
    struct bk_work *work = tenant->work;
    int64_t now_ms = work_now_ms(work);
    work_tenant_look(tenant);
    if (!needs_round(tenant, now_ms) && !may_claim(tenant, now_ms))
        return true;
    if (work_must_pause(tenant))
        return false;
    uint32_t replay_share = free_replay_places(work);
    if (!may_begin(tenant))
        share = 0;
    if (!needs_round(tenant, now_ms) && (share == 0 || !work_round_has_room(tenant, replay_share)))
        return false;
    work_tenant_hold(tenant, true);
    work_round_start(tenant, share, replay_share);
    return true;
}

/* They are taken out of the ring first: handlers that are asked to end may put others into it. Who
 * finds no place stands where it stood. */
static void hand_out(struct bk_work *work) {
    struct bk_list line, *node;
    uint32_t left = 0;
    bk_list_init(&line);
    while ((node = bk_list_pop(&work->ready)) != NULL) {
        bk_list_push(&line, node);
        left++;
    }
    while ((node = bk_list_pop(&line)) != NULL) {
        struct work_tenant *tenant = bk_container_of(node, struct work_tenant, ready_link);
        uint32_t places = work_places(work);
        uint32_t share = left == 0 ? places : (places + left - 1) / left;
        left -= left > 0;
        if (give_round(tenant, share))
            continue;
        if (bk_list_is_empty(&tenant->ready_link))
            bk_list_push(&work->ready, &tenant->ready_link);
        /* Others may have taken the places for which it was held. */
        work_tenant_hold(tenant, must_hold(tenant));
    }
}

static void on_turn(struct bk_task *task) {
    struct bk_work *work = bk_container_of(task, struct bk_work, turn);
    if (work->phase == WORK_CREATED || work->phase == WORK_STOPPED)
        return;
    work_attempts_time_out(work);
    wake_due(work);
    hand_out(work);
    work_timer_adjust(work);
}

static void on_timer(struct bk_timer *timer, void *user) {
    struct bk_work *work = user;
    (void)timer;
    work->timer_ms = 0;
    on_turn(&work->turn);
}

void work_turn_soon(struct bk_work *work) {
    if (work->phase == WORK_STARTED || work->phase == WORK_STOPPING)
        bk_loop_defer(work->loop, &work->turn);
}

/* --- now and then ----------------------------------------------------------------------------- */

static void on_upkeep(struct bk_timer *timer, void *user) {
    struct bk_work *work = user;
    int64_t now_ms = work_now_ms(work), age_ms = bk_store_age_now_ms(work->store);
    (void)timer;
    if (work->phase != WORK_STARTED)
        return;
    BK_LIST_FOR_EACH(node, &work->tenants) {
        struct work_tenant *tenant = bk_container_of(node, struct work_tenant, link);
        if (!tenant->is_known || tenant->has_no_table)
            continue;
        if (tenant->expires_ms <= (age_ms < now_ms ? age_ms : now_ms))
            tenant->wants |= WORK_WANTS_PRUNE;
        if (now_ms < tenant->lease_ms + 2 * UPKEEP_MS)
            tenant->wants |= WORK_WANTS_LEASES;
        work_tenant_settle(tenant);
    }
}

/* What is made of the old time is forgotten, and read again when the rows are right. */
static void look_again(struct work_tenant *tenant) {
    struct work_lane **lanes = bk_alloc((tenant->lanes.count + 1) * sizeof(struct work_lane *));
    const struct bk_map_entry *entry;
    size_t cursor = 0, count = 0;
    while ((entry = bk_map_next(&tenant->lanes, &cursor)) != NULL)
        lanes[count++] = entry->value;
    tenant->wants |= WORK_WANTS_REPAIR | WORK_WANTS_SCAN | WORK_WANTS_EXPIRES;
    tenant->schedule_ms = INT64_MAX;
    tenant->retry_ms = tenant->move_ms = tenant->progress_ms = tenant->stored_time_ms = 0;
    tenant->scan_from_length = 0;
    for (size_t i = 0; i < count; i++)
        if (bk_map_get(&tenant->lanes, lanes[i]->name) == lanes[i])
            work_lane_forget_times(lanes[i]);
    bk_free(lanes);
    work_tenant_settle(tenant);
}

void work_time_leapt(struct bk_work *work) {
    if (work->phase != WORK_STARTED)
        return;
    BK_LIST_FOR_EACH(node, &work->tenants) {
        struct work_tenant *tenant = bk_container_of(node, struct work_tenant, link);
        if (!tenant->has_no_table)
            look_again(tenant);
    }
    work_timer_adjust(work);
}

/* --- life cycle ------------------------------------------------------------------------------- */

void work_turn_init(struct bk_work *work) {
    bk_task_init(&work->turn, on_turn);
    work->timer = bk_timer_create(work->loop, on_timer, work);
    work->upkeep = bk_timer_create(work->loop, on_upkeep, work);
    bk_timer_set_background(work->upkeep);
    bk_timer_start(work->upkeep, UPKEEP_MS, UPKEEP_MS);
}

void work_turn_fini(struct bk_work *work) {
    bk_task_cancel(&work->turn);
    bk_timer_close(work->timer);
    bk_timer_close(work->upkeep);
    bk_timer_close(work->counting);
    work_heap_fini(&work->later);
    work_heap_fini(&work->timeouts);
}
