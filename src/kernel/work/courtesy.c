/*
 * Room for requests: what work does for itself makes nobody wait who has asked for something.
 *
 * On the writer a round is a write among others, and a request that comes while it runs waits for
 * it. So a round looks before each row whether one has come, and ends early if so: what it has not
 * done is done by the next one. And so that a busy program does not keep work from ever getting
 * anywhere:
 *
 *   nobody waits       the round goes on, for BUDGET of time at most with each kind of row
 *   a few wait         it ends, but not before ROWS_MIN of what has ended, of the inbox and of what
 *                      may begin; and twice as many more as tasks were added since the last round
 *   MANY wait          it goes on for COURTEOUS_BUDGET: the batch is a large one whatever it does,
 *                      and its commit is shared by all
 *
 * While requests come (one in the last LATELY), rounds and the loop's slices are short from the
 * beginning, and a tenant that is *behind*, whose last round has left something that could be done
 * at once, waits PAUSE_TIMES as long as the last such round has taken, commit and all, before it
 * has the next: on a slow disk more, on a fast one less. One at a time does so, so that a hundred
 * tenants with a backlog cost no more than one. Who is not behind never waits: what requests add is
 * done as fast as they come. And who is behind does in each round more than was added meanwhile,
 * and waits no longer when much was, so that a backlog becomes smaller however fast requests add to
 * it.
 */
#include "work_private.h"

#include "bakend/clock.h"

enum {
    LATELY_MS = 250,
    ROWS_MIN = 8, /* a tenth of a millisecond */
    MANY = 8,
    LOOK = 4, /* rows between two looks at the clock */
    PAUSE_TIMES = 16,
    PAUSE_MIN_MS = 2,
    PAUSE_MAX_MS = 250,
    NS_PER_MS = 1000000,
    BUDGET_NS = 2 * NS_PER_MS, /* of each kind of row */
    COURTEOUS_BUDGET_NS = NS_PER_MS / 5,
    SLICE_NS = NS_PER_MS,
    COURTEOUS_SLICE_NS = NS_PER_MS / 10
};

/* --- on the writer ---------------------------------------------------------------------------- */

static bool is_late(const struct work_round *round, uint64_t budget_ns) {
    return bk_clock_monotonic_ns() - round->part_ns >= budget_ns;
}

void work_round_part(struct work_round *round) {
    round->row_count = 0;
    round->part_ns = bk_clock_monotonic_ns();
}

bool work_round_is_over(struct work_round *round, const struct bk_transaction *transaction) {
    uint32_t waiting = bk_transaction_awaiting_count(transaction);
    if (round->row_count++ < round->row_min)
        return false;
    if (waiting > 0 && waiting < MANY)
        return true;
    if (round->row_count % LOOK != 0)
        return false;
    return is_late(round, waiting > 0 ? COURTEOUS_BUDGET_NS : round->budget_ns);
}

uint32_t work_round_room(const struct work_round *round, const struct bk_transaction *transaction,
                         uint32_t row_count) {
    uint32_t waiting = bk_transaction_awaiting_count(transaction);
    if (waiting == 0 || waiting >= MANY)
        return row_count;
    uint32_t rest = round->row_count < round->row_min ? round->row_min - round->row_count : 1;
    return rest < row_count ? rest : row_count;
}

/* --- on the loop ------------------------------------------------------------------------------ */

/* Who stops wants it over with. */
bool work_is_courteous(const struct bk_work *work) {
    return work->phase == WORK_STARTED && bk_loop_request_age_ms(work->loop) < LATELY_MS;
}

uint64_t work_round_budget_ns(const struct bk_work *work) {
    return work_is_courteous(work) ? COURTEOUS_BUDGET_NS : BUDGET_NS;
}

uint32_t work_round_tasks_max(const struct work_tenant *tenant) {
    uint32_t row_min = tenant->round.row_min;
    if (!work_is_courteous(tenant->work))
        return WORK_ROUND_TASKS_MAX;
    return row_min > WORK_COURTEOUS_TASKS_MAX ? row_min : WORK_COURTEOUS_TASKS_MAX;
}

uint64_t work_slice_ns(const struct bk_work *work) {
    return work_is_courteous(work) ? COURTEOUS_SLICE_NS : SLICE_NS;
}

bool work_must_pause(const struct work_tenant *tenant) {
    const struct bk_work *work = tenant->work;
    return tenant->is_behind && work_is_courteous(work) &&
           tenant->task_count < WORK_COURTEOUS_TASKS_MAX &&
           (work->is_pausing || work->behind_count > 0);
}

static uint32_t row_min_of(const struct work_tenant *tenant) {
    uint64_t row_min = ROWS_MIN + UINT64_C(2) * tenant->task_count;
    return row_min < WORK_ROUND_TASKS_MAX ? (uint32_t)row_min : WORK_ROUND_TASKS_MAX;
}

void work_courtesy_begin(struct work_tenant *tenant) {
    tenant->round.budget_ns = work_round_budget_ns(tenant->work);
    tenant->round.row_min = row_min_of(tenant);
    tenant->task_count = 0;
    tenant->round.is_behind = tenant->is_behind;
    tenant->work->behind_count += tenant->is_behind;
}

void work_courtesy_end(struct work_tenant *tenant) {
    struct bk_work *work = tenant->work;
    const struct work_round *round = &tenant->round;
    work->behind_count -= round->is_behind;
    if (!tenant->is_behind || !work_is_courteous(work) || work->is_pausing)
        return;
    uint64_t took_ns = round->began_ns == 0 ? 0 : bk_clock_monotonic_ns() - round->began_ns;
    uint64_t pause_ms = took_ns * PAUSE_TIMES / NS_PER_MS;
    if (pause_ms < PAUSE_MIN_MS)
        pause_ms = PAUSE_MIN_MS;
    work->is_pausing = true;
    bk_timer_start(work->pause, pause_ms < PAUSE_MAX_MS ? pause_ms : PAUSE_MAX_MS, 0);
}

static void on_pause_over(struct bk_timer *timer, void *user) {
    struct bk_work *work = user;
    (void)timer;
    work->is_pausing = false;
    work_turn_soon(work);
}

void work_courtesy_init(struct bk_work *work) {
    work->pause = bk_timer_create(work->loop, on_pause_over, work);
}

void work_courtesy_fini(struct bk_work *work) { bk_timer_close(work->pause); }
