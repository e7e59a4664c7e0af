/*
 * A closed tenant is opened when its next task is due.
 *
 *   due ──> wake: held ──> open ──> settled: what is due in it has begun, and holds it itself
 *                 │                    └─> released; the next one is woken
 *                 ├─ BK_BUSY: as many as may be open are in use; all wait until one of these is
 *                 │  released, or for a second
 *                 ├─ BK_NOT_FOUND: there is no such tenant any more; its row goes
 *                 └─ it cannot be opened: once more in ten minutes
 *
 * Work that hangs must not keep requests from their tenants: none is woken while work holds half of
 * those that may be open. Else as many tenants as may be open, each with one task that waits for a
 * mail server, would be all that is served.
 *
 * At most INSTANCE_WAKES_MAX at a time, the one that is due longest first: ten thousand that are
 * due at once, as after the loss of the file, come in turn. One that does not settle in time is
 * released, so that it does not keep the others waiting.
 *
 * Here is also the tick that looks at the clock once a second, and tells the work when its time has
 * leapt, or when the machine has slept while timers stood still; and that looks whether a tenant
 * whose tasks run is being deleted.
 */
#include "instance_private.h"

#include "bakend/clock.h"

enum {
    SETTLE_MAX_MS = 30 * 1000,
    BUSY_MS = 1000,
    FAILED_MS = 10 * 60 * 1000,
    LOOK_AGAIN_MS = 60 * 1000, /* no timer is set for longer: work time may have been slewed */
    SLEEP_MIN_MS = 2000,       /* less is of two clocks that are read one after the other */
    ROWS_MAX = 64,             /* looked at for those that are not being woken already */
};

static struct bk_slice name_of(const struct instance_wake *wake) {
    return work_instance_name_of(wake->name, wake->name_length);
}

/* --- one tenant ------------------------------------------------------------------------------- */

static struct instance_wake *find_wake(struct work_instance *instance, struct bk_slice name) {
    for (size_t i = 0; i < INSTANCE_WAKES_MAX; i++)
        if (instance->wakes[i].is_used && bk_slice_equal(name_of(&instance->wakes[i]), name))
            return &instance->wakes[i];
    return NULL;
}

static struct instance_wake *find_free(struct work_instance *instance) {
    for (size_t i = 0; i < INSTANCE_WAKES_MAX; i++)
        if (!instance->wakes[i].is_used)
            return &instance->wakes[i];
    return NULL;
}

static void release(struct instance_wake *wake) {
    struct bk_tenant *tenant = wake->tenant;
    wake->is_used = wake->is_held = false;
    wake->tenant = NULL;
    wake->instance->busy_until_ms = 0; /* there may be room now */
    if (tenant != NULL)
        bk_tenant_release(tenant);
}

static void held(struct instance_wake *wake) {
    struct work_instance *instance = wake->instance;
    wake->is_held = true;
    wake->tenant = wake->hold.tenant;
    if (!wake->was_opened) {
        /* It was open, and has settled long ago or will: its row did not say so. */
        work_instance_put_mark(instance, name_of(wake), true, false, 0);
        release(wake);
    } else if (wake->is_settled || !instance->is_started) {
        release(wake);
    }
}

static void not_held(struct instance_wake *wake, enum bk_status status) {
    struct work_instance *instance = wake->instance;
    wake->is_used = false;
    if (status == BK_NOT_FOUND)
        work_instance_put_mark(instance, name_of(wake), false, true, 0);
    else if (status == BK_BUSY)
        instance->busy_until_ms = work_clock_pace_ms() + BUSY_MS;
    else if (status != BK_CLOSING)
        work_instance_put_mark(instance, name_of(wake), false, false,
                               work_clock_now_ms(instance->clock) + FAILED_MS);
}

static void on_hold(struct bk_tenant_hold *hold, enum bk_status status) {
    struct instance_wake *wake = bk_container_of(hold, struct instance_wake, hold);
    struct work_instance *instance = wake->instance;
    if (status == BK_OK)
        held(wake);
    else
        not_held(wake, status);
    work_instance_flush(instance);
    work_instance_wake_due(instance);
}

static void wake_tenant(struct work_instance *instance, struct instance_wake *wake,
                        struct bk_slice name) {
    *wake = (struct instance_wake){.instance = instance,
                                   .is_used = true,
                                   .name_length = name.length,
                                   .began_ms = work_clock_pace_ms(),
                                   .hold = {.done = on_hold}};
    BK_ASSERT(name.length <= sizeof wake->name);
    memcpy(wake->name, name.data, name.length);
    bk_tenant_hold(instance->tenants, name_of(wake), &wake->hold);
}

void work_instance_tenant_settled(struct work_instance *instance, struct bk_tenant *tenant) {
    struct instance_wake *wake = find_wake(instance, tenant->name);
    if (wake == NULL)
        return;
    wake->is_settled = true;
    if (!wake->is_held)
        return;
    release(wake);
    work_instance_wake_due(instance);
}

/* --- those that are due ----------------------------------------------------------------------- */

static bool may_wake(struct work_instance *instance) {
    uint32_t max = bk_tenants_open_max(instance->tenants) / 2, held = 0;
    BK_LIST_FOR_EACH(node, &instance->work->tenants)
        held += bk_container_of(node, struct work_tenant, link)->is_held;
    for (size_t i = 0; i < INSTANCE_WAKES_MAX; i++)
        held += instance->wakes[i].is_used && !instance->wakes[i].was_opened;
    return held < (max > 0 ? max : 1);
}

static void set_timer(struct work_instance *instance, int64_t delay_ms) {
    int64_t bounded_ms = delay_ms < LOOK_AGAIN_MS ? delay_ms : LOOK_AGAIN_MS;
    bk_timer_start(instance->timer, bounded_ms < 1 ? 1 : (uint64_t)bounded_ms, 0);
}

/* Wakes what is due, in order; returns when the first that is left is due. */
static int64_t wake_rows(struct work_instance *instance, struct bk_statement *statement,
                         int64_t now_ms) {
    while (bk_statement_step(statement) == BK_OK) {
        struct bk_slice name = bk_statement_text(statement, 0);
        int64_t due_ms = bk_statement_int(statement, 1);
        if (due_ms > now_ms)
            return due_ms;
        struct instance_wake *wake = find_free(instance);
        if (wake == NULL)
            return INT64_MAX; /* one that is released looks again */
        if (!may_wake(instance))
            return now_ms + BUSY_MS;
        if (!work_instance_has_mark(instance, name) && find_wake(instance, name) == NULL)
            wake_tenant(instance, wake, name);
    }
    return INT64_MAX;
}

void work_instance_wake_due(struct work_instance *instance) {
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT name, due FROM tenants WHERE is_open = 0 ORDER BY due LIMIT ?1"));
    struct bk_statement *statement;
    int64_t now_ms = work_clock_now_ms(instance->clock);
    uint64_t pace_ms = work_clock_pace_ms();
    if (!instance->is_started || instance->state != INSTANCE_OPEN)
        return;
    if (pace_ms < instance->busy_until_ms) {
        set_timer(instance, (int64_t)(instance->busy_until_ms - pace_ms));
        return;
    }
    struct bk_connection *connection = bk_store_read_now(instance->database);
    if (connection == NULL || bk_connection_statement(connection, &sql, &statement) != BK_OK) {
        set_timer(instance, BUSY_MS);
        return;
    }
    bk_statement_bind_int(statement, 1, ROWS_MAX);
    int64_t next_ms = wake_rows(instance, statement, now_ms);
    bk_statement_reset(statement);
    set_timer(instance, next_ms == INT64_MAX ? LOOK_AGAIN_MS : next_ms - now_ms);
}

static void on_timer(struct bk_timer *timer, void *user) {
    (void)timer;
    work_instance_wake_due(user);
}

/* --- the clock -------------------------------------------------------------------------------- */

/* How long the machine has slept in its life. */
static int64_t slept_ms(void) {
    enum { NS_PER_MS = 1000000 };
    return (int64_t)work_clock_pace_ms() - (int64_t)(bk_clock_monotonic_ns() / NS_PER_MS);
}

static bool has_slept(struct work_instance *instance) {
    int64_t before_ms = instance->sleep_ms;
    instance->sleep_ms = slept_ms();
    return instance->sleep_ms - before_ms > SLEEP_MIN_MS;
}

static void tell_doubt(struct work_instance *instance) {
    const struct work_clock *clock = instance->clock;
    bool begins = clock->is_doubting && !instance->was_doubting;
    instance->was_doubting = clock->is_doubting;
    if (begins)
        bk_log_warn(&instance->log, "clock_doubted",
                    BK_INT("leap_ms", clock->doubted_ms - clock->offset_ms),
                    BK_TEXT("effect", "what is due is judged as if the clock had not been set, "
                                      "until it has stood by its new time for as long as it leapt, "
                                      "at most a day"));
}

static void look_at_clock(struct work_instance *instance) {
    int64_t leap_ms = work_clock_look(instance->clock, bk_clock_wall_ms(), work_clock_pace_ms());
    bool slept = has_slept(instance);
    tell_doubt(instance);
    if (leap_ms == 0 && !slept)
        return;
    if (leap_ms != 0)
        bk_log_info(&instance->log, "clock_believed", BK_INT("leap_ms", leap_ms));
    instance->wants_judge = instance->wants_judge || leap_ms < 0;
    work_time_leapt(instance->work);
    work_instance_flush(instance);
    work_instance_wake_due(instance);
}

static void release_late(struct work_instance *instance) {
    uint64_t now_ms = work_clock_pace_ms();
    for (size_t i = 0; i < INSTANCE_WAKES_MAX; i++) {
        struct instance_wake *wake = &instance->wakes[i];
        if (!wake->is_held || now_ms - wake->began_ms < SETTLE_MAX_MS)
            continue;
        bk_log_warn(&instance->log, "tenant_not_settled", BK_STRING("tenant", name_of(wake)));
        release(wake);
        work_instance_wake_due(instance);
    }
}

static void on_tick(struct bk_timer *timer, void *user) {
    struct work_instance *instance = user;
    (void)timer;
    look_at_clock(instance);
    work_tenants_look(instance->work);
    release_late(instance);
    work_instance_flush(instance);
}

/* --- from start to stop ----------------------------------------------------------------------- */

void work_instance_start(struct work_instance *instance) {
    BK_ASSERT(!instance->is_started && instance->tick == NULL);
    instance->is_started = true;
    instance->sleep_ms = slept_ms();
    instance->tick = bk_timer_create(instance->loop, on_tick, instance);
    instance->timer = bk_timer_create(instance->loop, on_timer, instance);
    bk_timer_set_background(instance->tick);
    bk_timer_set_background(instance->timer);
    bk_timer_start(instance->tick, WORK_LOOK_MS, WORK_LOOK_MS);
    work_instance_begin(instance);
    work_instance_wake_due(instance);
}

void work_instance_stop(struct work_instance *instance) {
    instance->is_started = false;
    bk_timer_close(instance->tick);
    bk_timer_close(instance->timer);
    instance->tick = instance->timer = NULL;
    for (size_t i = 0; i < INSTANCE_WAKES_MAX; i++)
        if (instance->wakes[i].is_held)
            release(&instance->wakes[i]);
}

/* Holds that were asked for have been answered: the tenants are closed. */
void work_instance_end_wakes(struct work_instance *instance) {
    work_instance_stop(instance);
    for (size_t i = 0; i < INSTANCE_WAKES_MAX; i++)
        BK_ASSERT(!instance->wakes[i].is_used);
}
