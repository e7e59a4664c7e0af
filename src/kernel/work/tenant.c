/*
 * What the work keeps of a tenant, from its opening to its closing.
 *
 * On the writer, with the tenant's other preparations, the schedules of kinds are put. On the loop,
 * when the work has started, the first rounds find what ran when the program ended, repair rows of
 * a future that never came, and read which lanes have tasks; then the tenant is known, and tasks
 * begin. It is held until then, and while it has tasks that run, or that are due and wait for a
 * place.
 *
 * When it closes, the time of what is due next is noted for who opens tenants (instance.c). A
 * program that was opened for one command never looks, so it reads that time when it closes.
 */
#include "work_private.h"

#include "bakend/alloc.h"

struct work_tenant *work_tenant_of(const struct bk_work *work, const struct bk_tenant *tenant) {
    return tenant->slots[work->slot];
}

/* --- holding ---------------------------------------------------------------------------------- */

static void on_release(struct bk_task *task) {
    struct work_tenant *tenant = bk_container_of(task, struct work_tenant, release);
    tenant->is_held = false;
    bk_tenant_release(tenant->tenant);
}

void work_tenant_hold(struct work_tenant *tenant, bool is_held) {
    if (!is_held && tenant->is_held) {
        bk_loop_defer(tenant->work->loop, &tenant->release);
        return;
    }
    bk_task_cancel(&tenant->release);
    if (is_held && !tenant->is_held) {
        tenant->is_held = true;
        bk_tenant_ref(tenant->tenant);
    }
}

void work_tenant_look(struct work_tenant *tenant) {
    if (tenant->is_leaving || bk_tenant_exists(tenant->work->registry, tenant->tenant->name))
        return;
    tenant->is_leaving = true;
    work_attempts_return(tenant->work, tenant);
    work_attempts_cancel(tenant);
}

void work_tenants_look(struct bk_work *work) {
    BK_LIST_FOR_EACH(node, &work->tenants) {
        struct work_tenant *tenant = bk_container_of(node, struct work_tenant, link);
        if (tenant->attempt_count > 0)
            work_tenant_look(tenant);
    }
}

void work_tenant_know(struct work_tenant *tenant) {
    tenant->is_known = true;
    work_instance_tenant_settled(tenant->work->instance, tenant->tenant);
}

/* --- opening and closing ---------------------------------------------------------------------- */

static enum bk_status on_prepare(struct bk_transaction *transaction, void *user,
                                 struct bk_error *error) {
    return work_schedule_prepare(user, transaction, error);
}

static enum bk_status on_open(struct bk_tenant *tenant, void **state, void *user,
                              struct bk_error *error) {
    struct bk_work *work = user;
    struct work_tenant *own = bk_alloc_zero(sizeof *own);
    (void)error;
    own->work = work;
    own->tenant = tenant;
    bk_list_init(&own->link);
    bk_list_init(&own->ready_link);
    bk_list_init(&own->ready[0]);
    bk_list_init(&own->ready[1]);
    own->running = bk_alloc_zero((work->kind_count + 1) * sizeof *own->running);
    bk_list_init(&own->handled);
    bk_list_init(&own->ended);
    bk_list_init(&own->late);
    bk_map_init(&own->lanes);
    bk_task_init(&own->release, on_release);
    own->later.what = WORK_NODE_TENANT;
    own->end_max = WORK_ROUND_ENDS_MAX;
    own->wants = WORK_WANTS_AT_OPENING;
    own->schedule_ms = own->expires_ms = INT64_MAX;
    work_round_init(own);
    work_hints_open(own);
    bk_list_push(&work->tenants, &own->link);
    *state = own;
    work_instance_tenant_opened(work->instance, tenant);
    work_tenant_settle(own);
    return BK_OK;
}

static int64_t next_due_ms(const struct work_tenant *tenant) {
    int64_t due_ms = tenant->has_lost ? 0 : tenant->schedule_ms;
    const struct bk_map_entry *entry;
    size_t cursor = 0;
    while ((entry = bk_map_next(&tenant->lanes, &cursor)) != NULL) {
        int64_t ready_ms = work_lane_ready_ms(entry->value);
        due_ms = ready_ms < due_ms ? ready_ms : due_ms;
    }
    return due_ms;
}

/* From lane to lane, by the index. */
static int64_t read_lanes_due(const struct bk_work *work, struct bk_connection *connection) {
    struct bk_statement *statement;
    char from[BK_WORK_LANE_MAX_BYTES];
    size_t length = 0;
    int64_t due_ms = INT64_MAX;
    while (work_statement(work, connection, WORK_SQL_NEXT_LANE, &statement) == BK_OK) {
        bk_statement_bind_text(statement, 1, bk_slice_make(from, length));
        if (bk_statement_step(statement) != BK_OK)
            break;
        struct bk_slice lane = bk_statement_text(statement, 0);
        int64_t head_ms = work_time_read(bk_statement_text(statement, 1));
        bool has_kind = work_kind_of_lane(work, lane) != NULL;
        length = lane.length < sizeof from ? lane.length : sizeof from;
        memcpy(from, lane.data, length);
        bk_statement_reset(statement);
        due_ms = has_kind && head_ms < due_ms ? head_ms : due_ms;
    }
    return due_ms;
}

/* What runs in a closed tenant ran when the program was killed. */
static bool has_running(const struct bk_work *work, struct bk_connection *connection) {
    struct bk_statement *statement;
    if (work_statement(work, connection, WORK_SQL_HAS_RUNNING, &statement) != BK_OK)
        return false;
    bool is_found = bk_statement_step(statement) == BK_OK;
    bk_statement_reset(statement);
    return is_found;
}

/* INT64_MAX: it is empty. */
static int64_t read_inbox_due(const struct bk_work *work, struct bk_connection *connection) {
    struct bk_statement *statement;
    int64_t due_ms = INT64_MAX;
    if (work_statement(work, connection, WORK_SQL_INBOX_DUE, &statement) != BK_OK)
        return 0;
    if (bk_statement_step(statement) == BK_OK && !bk_statement_is_null(statement, 0))
        due_ms = work_time_read(bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return due_ms;
}

/* Nobody has looked yet. Without an answer, or with one that a wrong clock has written, it is
 * looked at at the next start. */
static int64_t read_due(const struct work_tenant *tenant) {
    struct bk_connection *connection = bk_store_read_now(tenant->tenant->database);
    int64_t schedule_ms = 0;
    bool needs_repair = false;
    if (connection == NULL || work_schedule_next(connection, &schedule_ms) != BK_OK)
        return 0;
    if (has_running(tenant->work, connection) ||
        work_repair_is_needed(connection, work_now_ms(tenant->work), &needs_repair) != BK_OK ||
        needs_repair)
        return 0;
    int64_t due_ms = read_lanes_due(tenant->work, connection);
    int64_t inbox_ms = read_inbox_due(tenant->work, connection);
    due_ms = inbox_ms < due_ms ? inbox_ms : due_ms;
    return schedule_ms < due_ms ? schedule_ms : due_ms;
}

static void destroy_lanes(struct work_tenant *tenant) {
    const struct bk_map_entry *entry;
    size_t cursor = 0;
    while ((entry = bk_map_next(&tenant->lanes, &cursor)) != NULL) {
        work_lane_destroy(entry->value);
        cursor = 0;
    }
    bk_map_fini(&tenant->lanes);
}

void bk_work_wake_at_start(struct bk_work *work, struct bk_tenant *tenant) {
    work_tenant_of(work, tenant)->has_unfinished = true;
}

static void on_close(struct bk_tenant *tenant, void *state, void *user) {
    struct work_tenant *own = state;
    struct bk_work *work = user;
    BK_ASSERT(own->attempt_count == 0 && !own->round.is_flying && !own->is_held);
    int64_t told_ms, due_ms = own->is_known ? next_due_ms(own) : read_due(own);
    if (own->has_unfinished)
        due_ms = 0;
    bool is_quiet = work_hints_close(own, &told_ms);
    work_instance_tenant_closed(work->instance, tenant, told_ms < due_ms ? told_ms : due_ms);
    own->is_closed = true;
    bk_task_cancel(&own->release);
    bk_list_remove(&own->link);
    bk_list_remove(&own->ready_link);
    work_heap_remove(&work->later, &own->later);
    destroy_lanes(own);
    work_round_fini(own);
    work_count_fini(own);
    if (is_quiet)
        work_tenant_free(own);
}

void work_tenant_free(struct work_tenant *tenant) {
    bk_free(tenant->running);
    bk_free(tenant);
}

/* --- the slot --------------------------------------------------------------------------------- */

static void gather_migrations(struct bk_work *work) {
    size_t count = work_table_migration_count + work_schedule_migration_count;
    work->migrations = bk_alloc_zero(count * sizeof(struct bk_migration));
    for (size_t i = 0; i < work_table_migration_count; i++)
        work->migrations[i] = work_table_migrations[i];
    for (size_t i = 0; i < work_schedule_migration_count; i++)
        work->migrations[work_table_migration_count + i] = work_schedule_migrations[i];
}

void work_tenants_init(struct bk_work *work) {
    gather_migrations(work);
    const struct bk_tenant_slot slot = {.name = "work",
                                        .migrations = work->migrations,
                                        .migration_count = work_table_migration_count +
                                                           work_schedule_migration_count,
                                        .on_prepare = on_prepare,
                                        .on_open = on_open,
                                        .on_close = on_close,
                                        .user = work};
    work->slot = bk_tenants_add_slot(work->registry, &slot);
}
