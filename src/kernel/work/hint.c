/*
 * From writers to the loop: that a lane has a task, that lanes were paused, that somebody asks for
 * the end of a task. Each is told from inside a transaction, so before its commit, and may be taken
 * back with it: a hint only makes the loop look. It looks with a write of its own, which the same
 * writer runs after the commit.
 *
 * Hints of a tenant are gathered under a lock and travel as one message, however many tasks a
 * transaction adds: what an enqueue costs counts more than anything here. The lock also guards what
 * writers must know of the loop's: which tenants are open, and whose lanes are ordered by key. It
 * is held for some hundred instructions, and never while anything waits.
 */
#include "work_private.h"

#include "bakend/alloc.h"

enum {
    LOOK_BACK = 8, /* hints that are compared, so that a lane is not told of again and again */
    MOVE_MS = 50   /* what is not due yet stays in the inbox for so long, and is moved with more */
};

/* --- on the writer ---------------------------------------------------------------------------- */

static void lock(struct bk_work *work) { BK_ASSERT(pthread_mutex_lock(&work->lock) == 0); }

static void unlock(struct bk_work *work) { BK_ASSERT(pthread_mutex_unlock(&work->lock) == 0); }

/* NULL: it is not open yet, and reads all when it is. */
static struct work_tenant *tenant_of(struct bk_work *work, struct bk_transaction *transaction) {
    return bk_map_get(&work->names, bk_transaction_tenant(transaction));
}

static void post(struct work_tenant *tenant) {
    if (tenant->is_posted)
        return;
    tenant->is_posted = true;
    BK_ASSERT(bk_mailbox_post(tenant->work->mailbox, &tenant->message) == BK_OK);
}

static void add_hint(struct work_hints *hints, struct bk_slice lane, int64_t due_ms) {
    struct work_hint *hint = hints->first;
    for (int i = 0; i < LOOK_BACK && hint != NULL; i++, hint = hint->next)
        if (bk_slice_equal(hint->lane, lane)) {
            hint->due_ms = due_ms < hint->due_ms ? due_ms : hint->due_ms;
            return;
        }
    if (hints->count >= WORK_HINTS_MAX) {
        hints->is_overflown = true;
        return;
    }
    hint = bk_alloc(sizeof *hint + lane.length);
    char *text = (char *)(hint + 1);
    memcpy(text, lane.data, lane.length);
    *hint = (struct work_hint){.next = hints->first, .due_ms = due_ms, .lane = {text, lane.length}};
    hints->first = hint;
    hints->count++;
}

void work_note_due(struct bk_work *work, struct bk_transaction *transaction, struct bk_slice lane,
                   int64_t due_ms) {
    lock(work);
    struct work_tenant *tenant = tenant_of(work, transaction);
    if (tenant != NULL) {
        add_hint(&tenant->hints, lane, due_ms);
        tenant->hints.task_count++;
        post(tenant);
    }
    unlock(work);
}

void work_note_schedule(struct bk_work *work, struct bk_transaction *transaction, int64_t next_ms) {
    lock(work);
    struct work_tenant *tenant = tenant_of(work, transaction);
    if (tenant != NULL) {
        if (next_ms < tenant->hints.schedule_ms)
            tenant->hints.schedule_ms = next_ms;
        post(tenant);
    }
    unlock(work);
}

void work_note_pauses(struct bk_work *work, struct bk_transaction *transaction) {
    lock(work);
    struct work_tenant *tenant = tenant_of(work, transaction);
    if (tenant != NULL) {
        tenant->hints.has_pauses = true;
        post(tenant);
    }
    unlock(work);
}

void work_note_cancel(struct bk_work *work, struct bk_transaction *transaction) {
    lock(work);
    struct work_tenant *tenant = tenant_of(work, transaction);
    if (tenant != NULL) {
        tenant->hints.has_cancels = true;
        post(tenant);
    }
    unlock(work);
}

void work_note_clearing(struct bk_work *work, struct bk_transaction *transaction,
                        int64_t cleared_ms) {
    lock(work);
    struct work_tenant *tenant = tenant_of(work, transaction);
    if (tenant != NULL) {
        tenant->hints.has_clearings = tenant->hints.has_cancels = true;
        if (cleared_ms > tenant->cleared_ms)
            tenant->cleared_ms = cleared_ms;
        post(tenant);
    }
    unlock(work);
}

struct work_order {
    bool is_ordered;
    char name[]; /* the key of the map */
};

/* A lane of replays is as the one beside it, unless something was said of itself. */
static const struct work_order *find_order(const struct work_tenant *tenant, struct bk_slice lane) {
    static const struct bk_slice replay = BK_SLICE_INIT("/replay");
    const struct work_order *order = bk_map_get(&tenant->ordered, lane);
    if (order == NULL && bk_slice_ends_with(lane, replay))
        order = bk_map_get(&tenant->ordered, bk_slice_make(lane.data, lane.length - replay.length));
    return order;
}

bool work_lane_is_ordered(struct bk_work *work, struct bk_transaction *transaction,
                          const struct work_kind *kind, struct bk_slice lane) {
    bool is_ordered = kind->policy.is_ordered;
    lock(work);
    const struct work_tenant *tenant = tenant_of(work, transaction);
    const struct work_order *order =
        tenant == NULL || tenant->ordered.count == 0 ? NULL : find_order(tenant, lane);
    if (order != NULL)
        is_ordered = order->is_ordered;
    unlock(work);
    return is_ordered;
}

bool work_lanes_are_full(struct bk_work *work, struct bk_transaction *transaction,
                         int64_t *cleared_ms) {
    lock(work);
    const struct work_tenant *tenant = tenant_of(work, transaction);
    *cleared_ms = tenant == NULL ? 0 : tenant->cleared_ms;
    bool are_full = tenant != NULL &&
                    __atomic_load_n(&tenant->lane_count, __ATOMIC_RELAXED) >= BK_WORK_LANES_MAX;
    unlock(work);
    return are_full;
}

/* --- on the loop ------------------------------------------------------------------------------ */

static void free_hints(struct work_hint *hint) {
    while (hint != NULL) {
        struct work_hint *next = hint->next;
        bk_free(hint);
        hint = next;
    }
}

static void apply(struct work_tenant *tenant, const struct work_hints *hints) {
    for (const struct work_hint *hint = hints->first; hint != NULL; hint = hint->next) {
        struct work_lane *lane = work_lane_get(tenant, hint->lane);
        if (lane != NULL)
            work_lane_wait(lane, hint->due_ms);
    }
    tenant->task_count += hints->task_count;
    if (hints->first != NULL && (tenant->wants & WORK_WANTS_MOVE) == 0) {
        tenant->wants |= WORK_WANTS_MOVE;
        tenant->move_ms = work_now_ms(tenant->work) + MOVE_MS;
    }
    if (hints->is_overflown) {
        tenant->wants |= WORK_WANTS_SCAN;
        tenant->scan_from_length = 0;
    }
    if (hints->has_pauses)
        tenant->wants |= WORK_WANTS_PAUSES;
    if (hints->has_cancels)
        tenant->wants |= WORK_WANTS_CANCELS;
    if (hints->has_clearings)
        tenant->wants |= WORK_WANTS_CLEAR;
    if (hints->schedule_ms < tenant->schedule_ms)
        tenant->schedule_ms = hints->schedule_ms;
    work_tenant_settle(tenant);
    if (tenant->is_behind && !work_must_pause(tenant))
        work_turn_soon(tenant->work);
}

static const struct work_hints no_hints = {.schedule_ms = INT64_MAX};

static void on_hints(struct bk_message *message) {
    struct work_tenant *tenant = bk_container_of(message, struct work_tenant, message);
    struct bk_work *work = tenant->work;
    lock(work);
    struct work_hints hints = tenant->hints;
    tenant->hints = no_hints;
    tenant->is_posted = false;
    unlock(work);
    if (tenant->is_closed)
        work_tenant_free(tenant);
    else
        apply(tenant, &hints);
    free_hints(hints.first);
}

void work_hints_open(struct work_tenant *tenant) {
    struct bk_work *work = tenant->work;
    tenant->hints = no_hints;
    tenant->message.on_message = on_hints;
    bk_map_init(&tenant->ordered);
    lock(work);
    (void)bk_map_put(&work->names, tenant->tenant->name, tenant);
    unlock(work);
}

static void forget_ordered(struct work_tenant *tenant) {
    const struct bk_map_entry *entry;
    size_t cursor = 0;
    while ((entry = bk_map_next(&tenant->ordered, &cursor)) != NULL)
        bk_free(entry->value);
    bk_map_fini(&tenant->ordered);
}

bool work_hints_close(struct work_tenant *tenant, int64_t *due_ms) {
    struct bk_work *work = tenant->work;
    lock(work);
    *due_ms = tenant->hints.is_overflown ? 0 : tenant->hints.schedule_ms;
    for (const struct work_hint *hint = tenant->hints.first; hint != NULL; hint = hint->next)
        *due_ms = hint->due_ms < *due_ms ? hint->due_ms : *due_ms;
    (void)bk_map_remove(&work->names, tenant->tenant->name);
    bool is_posted = tenant->is_posted;
    unlock(work);
    forget_ordered(tenant);
    return !is_posted;
}

void work_hints_set_ordered(struct work_tenant *tenant, struct bk_slice lane, bool is_ordered) {
    lock(tenant->work);
    struct work_order *order = bk_map_get(&tenant->ordered, lane);
    if (order == NULL) {
        order = bk_alloc(sizeof *order + lane.length);
        memcpy(order->name, lane.data, lane.length);
        (void)bk_map_put(&tenant->ordered, bk_slice_make(order->name, lane.length), order);
    }
    order->is_ordered = is_ordered;
    unlock(tenant->work);
}

void work_hints_forget_ordered(struct work_tenant *tenant, struct bk_slice lane) {
    lock(tenant->work);
    struct work_order *order = bk_map_remove(&tenant->ordered, lane);
    unlock(tenant->work);
    bk_free(order);
}
