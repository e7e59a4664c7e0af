/*
 * The part as a whole: kinds, and its life.
 *
 *   CREATED ── start ──> STARTED ── stop ──> STOPPING ── all is recorded, or the grace over ──┐
 *      │                                                                        STOPPED <─────┘
 *      └── (a program that was opened for one command stays here)
 *
 * How a task passes through the files:
 *
 *   add.c     the row, in the caller's transaction              ── hint.c ──> its lane is told
 *   turn.c    whose turn it is: tenants, then lanes (lane.c)    ── round.c ─> one background write
 *   claim.c   on the writer: rows of due tasks become running
 *   attempt.c handlers are called in slices, and answer         ── round.c ─> the next write
 *   record.c  on the writer: what an attempt led to
 *
 * A tenant has one round in flight at most; a round records what has ended since the last one and
 * claims what may begin, so that a task costs two writes of its row, and many tasks one commit.
 */
#include "work_private.h"

#include "bakend/alloc.h"

enum {
    RUNNING_MAX = 256,
    TIMEOUT_MS = 30 * 1000,
    ATTEMPT_MAX = 10,
    BREAKER_FIRST_MS = 30 * 1000,
    BREAKER_MAX_MS = 10 * 60 * 1000
};
#define DEAD_KEPT_MS (UINT64_C(30) * 24 * 60 * 60 * 1000)

/* --- kinds ------------------------------------------------------------------------------------ */

void work_policy_fill(const struct work_kind *kind, struct bk_work_lane_policy *policy) {
    if (policy->running_max == 0)
        policy->running_max = 1;
    if (policy->timeout_ms == 0)
        policy->timeout_ms = kind->timeout_ms;
    if (policy->breaker_first_ms == 0)
        policy->breaker_first_ms = BREAKER_FIRST_MS;
    if (policy->breaker_max_ms < policy->breaker_first_ms)
        policy->breaker_max_ms =
            policy->breaker_first_ms > BREAKER_MAX_MS ? policy->breaker_first_ms : BREAKER_MAX_MS;
}

static bool is_kind_name(struct bk_slice name) {
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return false;
    }
    return name.length > 0 && name.length <= BK_WORK_LANE_MAX_BYTES / 2;
}

enum bk_status bk_work_add_kind(struct bk_work *work, const struct bk_work_kind *declared,
                                void *user) {
    struct bk_slice name = bk_slice_from(declared->name);
    BK_ASSERT(work->phase == WORK_CREATED && work->kind_count < WORK_KINDS_MAX);
    BK_ASSERT(is_kind_name(name) && declared->on_task != NULL);
    if (work_kind_of_name(work, name) != NULL)
        return BK_EXISTS;
    struct work_kind *kind = bk_alloc_zero(sizeof *kind);
    kind->declared = declared;
    kind->name = name;
    kind->user = user;
    kind->timeout_ms = declared->timeout_ms == 0 ? TIMEOUT_MS : declared->timeout_ms;
    kind->attempt_max = declared->attempt_max == 0 ? ATTEMPT_MAX : declared->attempt_max;
    kind->policy = declared->lane;
    work_policy_fill(kind, &kind->policy);
    kind->index = (uint32_t)work->kind_count;
    work->kinds[work->kind_count++] = kind;
    return BK_OK;
}

size_t work_kind_count(const struct bk_work *work) { return work->kind_count; }

const struct bk_work_kind *work_kind_at(const struct bk_work *work, size_t index) {
    BK_ASSERT(index < work->kind_count);
    return work->kinds[index]->declared;
}

/* There are few, and their names differ early. */
struct work_kind *work_kind_of_name(const struct bk_work *work, struct bk_slice name) {
    for (size_t i = 0; i < work->kind_count; i++)
        if (bk_slice_equal(work->kinds[i]->name, name))
            return work->kinds[i];
    return NULL;
}

struct work_kind *work_kind_of_lane(const struct bk_work *work, struct bk_slice lane) {
    return work_kind_of_name(work, bk_slice_make(lane.data, bk_slice_find(lane, '/')));
}

const struct bk_work_kind *work_kind_find(struct bk_work *work, const char *name) {
    const struct work_kind *kind = work_kind_of_name(work, bk_slice_from(name));
    return kind == NULL ? NULL : kind->declared;
}

void bk_work_on_dead(struct bk_work *work,
                     enum bk_status (*on_dead)(struct bk_transaction *transaction,
                                               const struct bk_work_kind *kind,
                                               const struct bk_work_end *end, void *user),
                     void *user) {
    BK_ASSERT(work->on_dead == NULL && work->phase == WORK_CREATED);
    work->on_dead = on_dead;
    work->on_dead_user = user;
}

/* --- time ------------------------------------------------------------------------------------- */

struct work_clock *work_clock_of(struct bk_work *work) {
    return &work->clock;
}

int64_t work_now_ms(const struct bk_work *work) { return work_clock_now_ms(&work->clock); }

/* --- life cycle ------------------------------------------------------------------------------- */

static void check_stopped(struct bk_task *task);

struct bk_work *bk_work_create(const struct bk_work_options *options) {
    struct bk_work *work = bk_alloc_zero(sizeof *work);
    work->loop = options->loop;
    work->store = options->store;
    work->registry = options->tenants;
    work->log = options->log;
    work->running_max = options->running_max == 0 ? RUNNING_MAX : options->running_max;
    work->dead_kept_ms = options->dead_kept_ms == 0 ? DEAD_KEPT_MS : options->dead_kept_ms;
    bk_list_init(&work->tenants);
    bk_list_init(&work->ready);
    bk_list_init(&work->unbegun);
    bk_list_init(&work->lost);
    bk_list_init(&work->intakes);
    bk_list_init(&work->counts);
    bk_map_init(&work->names);
    BK_ASSERT(pthread_mutex_init(&work->lock, NULL) == 0);
    work->mailbox = bk_mailbox_create_for_loop(work->loop);
    bk_task_init(&work->begin, work_attempts_begin);
    bk_task_init(&work->stopping, check_stopped);
    work_sql_init(work);
    work_secrets_init(work, options->instance_key);
    work_clock_init(&work->clock);
    work_turn_init(work);
    work_courtesy_init(work);
    work_tenants_init(work);
    work->instance = work_instance_create(work, options, &work->clock);
    return work;
}

void bk_work_destroy(struct bk_work *work) {
    BK_ASSERT(bk_list_is_empty(&work->tenants) && work->flying_count == 0);
    BK_ASSERT(bk_list_is_empty(&work->intakes));
    work_instance_destroy(work->instance);
    work_turn_fini(work);
    work_courtesy_fini(work);
    bk_timer_close(work->grace);
    bk_task_cancel(&work->begin);
    bk_task_cancel(&work->stopping);
    work_attempts_free(&work->unbegun);
    work_attempts_free(&work->lost);
    bk_mailbox_close(work->mailbox);
    bk_mailbox_destroy(work->mailbox);
    bk_map_fini(&work->names);
    bk_crypto_wipe(work->secret_key, sizeof work->secret_key);
    BK_ASSERT(pthread_mutex_destroy(&work->lock) == 0);
    for (size_t i = 0; i < work->kind_count; i++)
        bk_free(work->kinds[i]);
    bk_free(work->migrations);
    bk_free(work);
}

void bk_work_start(struct bk_work *work) {
    BK_ASSERT(work->phase == WORK_CREATED);
    work->phase = WORK_STARTED;
    work_instance_start(work->instance);
    BK_LIST_FOR_EACH(node, &work->tenants)
        work_tenant_settle(bk_container_of(node, struct work_tenant, link));
}

void bk_work_close(struct bk_work *work, void (*closed)(void *user), void *user) {
    work_instance_close(work->instance, closed, user);
}

/* --- stopping --------------------------------------------------------------------------------- */

static bool is_over(const struct bk_work *work) {
    return work->attempt_count == 0 && work->flying_count == 0;
}

static void check_stopped(struct bk_task *task) {
    struct bk_work *work = bk_container_of(task, struct bk_work, stopping);
    if (work->phase != WORK_STOPPING || !is_over(work))
        return;
    work->phase = WORK_STOPPED;
    bk_timer_close(work->grace);
    work->grace = NULL;
    work->stopped(work->stopped_user);
}

/* What has not ended is left to the next start: its rows say that it runs. */
static void on_grace_over(struct bk_timer *timer, void *user) {
    struct bk_work *work = user;
    (void)timer;
    work->is_grace_over = true;
    bk_log_warn(&work->log, "work_cut_short", BK_INT("tasks", work->attempt_count));
    BK_LIST_FOR_EACH(node, &work->tenants)
        work_attempts_lose(bk_container_of(node, struct work_tenant, link));
    bk_loop_defer(work->loop, &work->stopping);
}

void bk_work_stop(struct bk_work *work, uint64_t grace_ms, void (*stopped)(void *user),
                  void *user) {
    BK_ASSERT(work->phase == WORK_STARTED || work->phase == WORK_CREATED);
    work->phase = WORK_STOPPING;
    work->stopped = stopped;
    work->stopped_user = user;
    work->grace = bk_timer_create(work->loop, on_grace_over, work);
    bk_timer_start(work->grace, grace_ms, 0);
    work_instance_stop(work->instance);
    work_attempts_return(work, NULL);
    BK_LIST_FOR_EACH(node, &work->tenants) {
        struct work_tenant *tenant = bk_container_of(node, struct work_tenant, link);
        work_attempts_stop(tenant);
        work_tenant_settle(tenant);
    }
    bk_loop_defer(work->loop, &work->stopping);
}
