/*
 * Lanes: when each may begin a task, and how many.
 *
 * In memory there is an entry for a lane that has tasks, runs some, or is not as it is by default.
 * It knows when its first task is due (its head), as far as that was seen: a head that is too early
 * costs a question to the writer, and there is none that is too late.
 *
 *   nowhere   nothing to begin: no task, paused, as many run as may, stuck, a probe is out
 *   later     in the heap, until its head is due, its rest over, its rate has a token, or a probe
 *             may begin
 *   ready     in its tenant's ring, asked in the next round
 *
 * The breaker. So many failures in a row break a lane: an attempt that is to come again, for the
 * handler's reasons or for time. What a handler calls dead is a verdict on the task, and shows that
 * the lane works; what it puts off says nothing of the lane. Broken, a lane hands over one probe at
 * a time, each after twice the pause; the first task that is done mends it.
 *
 * The rate is a bucket of tokens, kept as one time: when it would be full again (GCRA). So the time
 * of the next token is exact, and nothing ticks.
 *
 * Replays have a lane beside each. It has a breaker and a rate of its own, but waits while the lane
 * beside it is paused, rests, or is broken and has tasks to be probed with.
 */
#include "work_private.h"

#include "bakend/alloc.h"
#include <stdlib.h>

static const struct bk_slice replay_suffix = BK_SLICE_INIT("/replay");

/* --- beside each other ------------------------------------------------------------------------ */

static struct work_lane *base_of(const struct work_lane *lane) {
    if (!lane->is_replay)
        return NULL;
    return work_lane_find(lane->of,
                          bk_slice_make(lane->name.data, lane->name.length - replay_suffix.length));
}

static struct work_lane *replay_of(const struct work_lane *lane) {
    char room[BK_WORK_LANE_MAX_BYTES];
    size_t length = lane->name.length + replay_suffix.length;
    if (lane->is_replay || length > sizeof room)
        return NULL;
    memcpy(room, lane->name.data, lane->name.length);
    memcpy(room + lane->name.length, replay_suffix.data, replay_suffix.length);
    return work_lane_find(lane->of, bk_slice_make(room, length));
}

static void settle_replay(const struct work_lane *lane) {
    struct work_lane *replay = replay_of(lane);
    if (replay != NULL)
        work_lane_settle(replay);
}

/* --- when ------------------------------------------------------------------------------------- */

static int64_t interval_us(const struct work_lane *lane) {
    return INT64_C(60000000) / lane->policy.rate_per_minute;
}

static int64_t burst_of(const struct work_lane *lane) {
    return lane->policy.rate_per_minute < 120 ? 1 : lane->policy.rate_per_minute / 60;
}

static int64_t later_of(int64_t a, int64_t b) { return a > b ? a : b; }

/* When the rate has a token. */
static int64_t token_ms(const struct work_lane *lane) {
    if (lane->policy.rate_per_minute == 0)
        return 0;
    int64_t us = lane->full_us - (burst_of(lane) - 1) * interval_us(lane);
    return us <= 0 ? 0 : (us + 999) / 1000;
}

static uint32_t token_count(const struct work_lane *lane, int64_t now_ms) {
    if (lane->policy.rate_per_minute == 0 || interval_us(lane) == 0)
        return UINT32_MAX;
    int64_t debt_us = lane->full_us - now_ms * 1000, interval = interval_us(lane);
    int64_t taken = debt_us <= 0 ? 0 : (debt_us + interval - 1) / interval;
    return taken >= burst_of(lane) ? 0 : (uint32_t)(burst_of(lane) - taken);
}

static bool has_tasks(const struct work_lane *lane) {
    return lane->head_ms != INT64_MAX || lane->running > 0 || lane->ended > 0;
}

static bool is_stuck(const struct work_lane *lane) {
    return lane->abandoned >= lane->policy.running_max;
}

int64_t work_lane_ready_ms(const struct work_lane *lane) {
    const struct work_lane *base = base_of(lane);
    int64_t time_ms = later_of(later_of(lane->head_ms, lane->rest_ms), token_ms(lane));
    if (lane->head_ms == INT64_MAX || lane->is_paused || is_stuck(lane) ||
        lane->running >= lane->policy.running_max)
        return INT64_MAX;
    if (lane->breaks > 0) {
        if (lane->is_probing || lane->running > 0)
            return INT64_MAX;
        time_ms = later_of(time_ms, lane->probe_ms);
    }
    if (base == NULL)
        return time_ms;
    if (base->is_paused || (base->breaks > 0 && has_tasks(base)))
        return INT64_MAX;
    return later_of(time_ms, base->rest_ms);
}

uint32_t work_lane_room(const struct work_lane *lane, int64_t now_ms) {
    if (work_lane_ready_ms(lane) > now_ms)
        return 0;
    uint32_t room = lane->policy.running_max - lane->running;
    uint32_t tokens = token_count(lane, now_ms);
    if (lane->breaks > 0 && room > 1)
        room = 1;
    return room < tokens ? room : tokens;
}

enum bk_work_lane_state work_lane_state(const struct work_lane *lane, int64_t now_ms) {
    if (lane->is_paused)
        return BK_WORK_LANE_PAUSED;
    if (is_stuck(lane))
        return BK_WORK_LANE_STUCK;
    if (lane->breaks > 0)
        return BK_WORK_LANE_BROKEN;
    return lane->rest_ms > now_ms ? BK_WORK_LANE_RESTING : BK_WORK_LANE_OPEN;
}

/* --- where it stands -------------------------------------------------------------------------- */

static void leave_place(struct work_lane *lane) {
    bk_list_remove(&lane->link);
    work_heap_remove(&lane->of->work->later, &lane->later);
    lane->place = WORK_LANE_NOWHERE;
}

/* Until when it is kept though it has nothing to do; INT64_MAX: for as long as it is so. */
static int64_t kept_ms(const struct work_lane *lane) {
    if (has_tasks(lane) || lane->abandoned > 0 || lane->is_paused || lane->has_own_policy ||
        lane->is_asked)
        return INT64_MAX;
    int64_t time_ms = later_of(lane->rest_ms, (lane->full_us + 999) / 1000);
    return lane->breaks > 0 ? later_of(time_ms, lane->probe_ms) : time_ms;
}

static void put_later(struct work_lane *lane, int64_t time_ms) {
    struct bk_work *work = lane->of->work;
    bk_list_remove(&lane->link);
    lane->place = WORK_LANE_LATER;
    work_heap_put(&work->later, &lane->later, time_ms);
    if (work_heap_first(&work->later) == &lane->later)
        work_timer_adjust(work);
}

void work_lane_settle(struct work_lane *lane) {
    int64_t now_ms = work_now_ms(lane->of->work), ready = work_lane_ready_ms(lane),
            kept = kept_ms(lane);
    if (kept <= now_ms) {
        work_lane_destroy(lane);
    } else if (ready <= now_ms) {
        if (lane->place == WORK_LANE_READY)
            return;
        leave_place(lane);
        lane->place = WORK_LANE_READY;
        bk_list_push(&lane->of->ready[lane->is_replay], &lane->link);
        work_tenant_settle(lane->of);
    } else if (ready != INT64_MAX) {
        put_later(lane, ready);
    } else if (kept != INT64_MAX) {
        put_later(lane, kept);
    } else {
        leave_place(lane);
    }
}

void work_lane_wait(struct work_lane *lane, int64_t due_ms) {
    if (due_ms < lane->head_ms)
        lane->head_ms = due_ms;
    work_lane_settle(lane);
}

/* --- life cycle ------------------------------------------------------------------------------- */

struct work_lane *work_lane_find(struct work_tenant *tenant, struct bk_slice name) {
    return bk_map_get(&tenant->lanes, name);
}

static void take_policy(struct work_lane *lane) {
    const struct work_lane *base = base_of(lane);
    lane->policy = lane->kind->policy;
    if (base != NULL && base->has_own_policy)
        lane->policy = base->policy;
}

struct work_lane *work_lane_get(struct work_tenant *tenant, struct bk_slice name) {
    struct work_lane *lane = work_lane_find(tenant, name);
    struct work_kind *kind = lane == NULL ? work_kind_of_lane(tenant->work, name) : lane->kind;
    if (lane != NULL || kind == NULL)
        return lane;
    lane = bk_alloc_zero(sizeof *lane + name.length);
    char *text = (char *)(lane + 1);
    memcpy(text, name.data, name.length);
    lane->name = bk_slice_make(text, name.length);
    lane->of = tenant;
    lane->kind = kind;
    lane->head_ms = INT64_MAX;
    lane->later.what = WORK_NODE_LANE;
    lane->is_replay = bk_slice_ends_with(name, replay_suffix) && name.length > replay_suffix.length;
    bk_list_init(&lane->link);
    take_policy(lane);
    (void)bk_map_put(&tenant->lanes, lane->name, lane);
    (void)__atomic_add_fetch(&tenant->lane_count, 1, __ATOMIC_RELAXED);
    return lane;
}

static void tell(const struct work_lane *lane, bool is_broken) {
    const struct work_kind *kind = lane->kind;
    if (kind->declared->on_lane != NULL)
        kind->declared->on_lane(lane->of->tenant, lane->name, is_broken, kind->user);
}

void work_lane_destroy(struct work_lane *lane) {
    struct work_lane *replay = replay_of(lane);
    leave_place(lane);
    (void)bk_map_remove(&lane->of->lanes, lane->name);
    (void)__atomic_sub_fetch(&lane->of->lane_count, 1, __ATOMIC_RELAXED);
    bool is_closed = lane->of->is_closed;
    if (lane->breaks > 0 && !is_closed)
        tell(lane, false);
    bk_free(lane);
    if (replay != NULL && !is_closed)
        work_lane_settle(replay);
}

/* --- what happens to it ----------------------------------------------------------------------- */

void work_lane_begun(struct work_lane *lane, struct work_attempt *attempt, int64_t now_ms) {
    lane->running++;
    if (lane->policy.rate_per_minute > 0)
        lane->full_us = later_of(lane->full_us, now_ms * 1000) + interval_us(lane);
    if (lane->breaks > 0 && !lane->is_probing)
        attempt->is_probe = lane->is_probing = true;
}

static int64_t pause_of(const struct work_lane *lane) {
    int64_t pause_ms = lane->policy.breaker_first_ms;
    for (uint32_t i = 1; i < lane->breaks && pause_ms < lane->policy.breaker_max_ms; i++)
        pause_ms *= 2;
    return pause_ms < lane->policy.breaker_max_ms ? pause_ms : lane->policy.breaker_max_ms;
}

static void fail(struct work_lane *lane, const struct work_attempt *attempt) {
    if (lane->policy.breaker_failures == 0)
        return;
    lane->failures++;
    if (lane->breaks > 0 ? !attempt->is_probe : lane->failures < lane->policy.breaker_failures)
        return;
    lane->breaks++;
    lane->probe_ms = work_now_ms(lane->of->work) + pause_of(lane);
    if (lane->breaks == 1)
        bk_log_warn(&lane->of->work->log, "lane_broken",
                    BK_STRING("tenant", lane->of->tenant->name), BK_STRING("lane", lane->name),
                    BK_INT("failures", lane->failures), BK_INT("probe_in_ms", pause_of(lane)));
}

static void succeed(struct work_lane *lane) {
    lane->failures = 0;
    if (lane->breaks == 0)
        return;
    lane->breaks = 0;
    bk_log_info(&lane->of->work->log, "lane_mended", BK_STRING("tenant", lane->of->tenant->name),
                BK_STRING("lane", lane->name));
}

void work_lane_judge(struct work_lane *lane, const struct work_attempt *attempt) {
    uint32_t breaks = lane->breaks;
    if (attempt->is_probe)
        lane->is_probing = false;
    if (attempt->answer == WORK_DONE || attempt->answer == WORK_DEAD)
        succeed(lane);
    else if (attempt->answer == WORK_AGAIN && !attempt->is_orphan &&
             (attempt->is_late || (!attempt->task.is_cancelled && !attempt->is_put_off)))
        fail(lane, attempt);
    if (lane->breaks != breaks)
        settle_replay(lane);
    if ((lane->breaks > 0) != (breaks > 0))
        tell(lane, lane->breaks > 0);
}

void work_lane_forget_times(struct work_lane *lane) {
    lane->rest_ms = lane->probe_ms = lane->full_us = 0;
    work_lane_settle(lane);
}

void work_lane_set_paused(struct work_lane *lane, bool is_paused) {
    if (lane->is_paused == is_paused)
        return;
    lane->is_paused = is_paused;
    settle_replay(lane);
    work_lane_settle(lane);
}

/* --- public ----------------------------------------------------------------------------------- */

static void apply_policy(struct work_lane *lane, const struct bk_work_lane_policy *policy) {
    lane->policy = *policy;
    lane->full_us = 0;
    work_lane_settle(lane);
}

void bk_work_lane_set_policy(struct bk_work *work, struct bk_tenant *tenant, struct bk_slice name,
                             const struct bk_work_lane_policy *policy) {
    struct work_tenant *own = work_tenant_of(work, tenant);
    struct work_lane *lane = own == NULL ? NULL : work_lane_get(own, name);
    if (lane == NULL)
        return;
    struct bk_work_lane_policy filled = policy == NULL ? lane->kind->policy : *policy;
    struct work_lane *replay = replay_of(lane);
    work_policy_fill(lane->kind, &filled);
    if (policy == NULL)
        work_hints_forget_ordered(own, name);
    else
        work_hints_set_ordered(own, name, filled.is_ordered);
    lane->has_own_policy = policy != NULL;
    if (replay != NULL && !replay->has_own_policy)
        apply_policy(replay, &filled);
    apply_policy(lane, &filled);
}

void bk_work_lane_rest(struct bk_work *work, struct bk_tenant *tenant, struct bk_slice name,
                       uint64_t delay_ms) {
    struct work_tenant *own = work_tenant_of(work, tenant);
    struct work_lane *lane = own == NULL ? NULL : work_lane_get(own, name);
    if (lane == NULL)
        return;
    lane->rest_ms = later_of(lane->rest_ms, work_now_ms(work) + (int64_t)delay_ms);
    settle_replay(lane);
    work_lane_settle(lane);
}

void bk_work_lane_wake(struct bk_work *work, struct bk_tenant *tenant, struct bk_slice name) {
    struct work_tenant *own = work_tenant_of(work, tenant);
    struct work_lane *lane = own == NULL ? NULL : work_lane_find(own, name);
    if (lane == NULL)
        return;
    lane->rest_ms = 0;
    lane->probe_ms = 0;
    settle_replay(lane);
    work_lane_settle(lane);
}

static int compare_lanes(const void *a, const void *b) {
    const struct work_lane *const *first = a, *const *second = b;
    return bk_slice_compare((*first)->name, (*second)->name);
}

void bk_work_for_each_lane(struct bk_work *work, struct bk_tenant *tenant,
                           void (*on_lane)(void *user, const struct bk_work_lane_facts *facts),
                           void *user) {
    struct work_tenant *own = work_tenant_of(work, tenant);
    if (own == NULL || own->lanes.count == 0)
        return;
    struct work_lane **lanes = bk_alloc(own->lanes.count * sizeof(struct work_lane *));
    const struct bk_map_entry *entry;
    size_t count = 0, cursor = 0;
    while ((entry = bk_map_next(&own->lanes, &cursor)) != NULL) {
        struct work_lane *lane = entry->value;
        if (lane->is_paused || has_tasks(lane) || lane->abandoned > 0)
            lanes[count++] = lane;
    }
    qsort(lanes, count, sizeof(struct work_lane *), compare_lanes);
    int64_t now_ms = work_now_ms(work);
    for (size_t i = 0; i < count; i++) {
        const struct bk_work_lane_facts facts = {.name = lanes[i]->name,
                                                 .kind = lanes[i]->kind->declared,
                                                 .state = work_lane_state(lanes[i], now_ms),
                                                 .running = lanes[i]->running,
                                                 .due_ms = lanes[i]->head_ms};
        on_lane(user, &facts);
    }
    bk_free(lanes);
}
