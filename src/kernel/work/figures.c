/*
 * Figures. What happens is counted as it happens; what stands in the tables is counted now and
 * then, from the first time that somebody asks until nobody has for a while: on a reader, tenant by
 * tenant, from lane to lane, at most ROWS_MAX rows of a lane and all of a tenant within a deadline.
 * Past those the figures say "at least".
 */
#include "work_private.h"

#include "bakend/alloc.h"

enum {
    COUNT_MS = 10 * 1000,     /* between two counts, which take less than the rest to 15 s */
    ASKED_MS = 5 * 60 * 1000, /* who asks once a minute is answered with what is new */
    ROWS_MAX = 100 * 1000,
    TENANT_ROWS_MAX = 1000 * 1000,
    DEADLINE_MS = 1000,
    DEAD_MAX = 20 * 1000
};

struct tally {
    uint64_t due, waiting, dead;
    int64_t oldest_due_ms; /* INT64_MAX: none is due */
};

struct work_count {
    struct bk_list link; /* bk_work.counts */
    struct bk_read read;
    struct work_tenant *of; /* NULL: the tenant was closed meanwhile */
    struct bk_work *work;
    bool is_reading;
    int64_t now_ms;
    size_t kind_count;
    struct tally tallies[]; /* by kind: those that are shown, then those that are being made */
};

/* --- on a reader ------------------------------------------------------------------------------ */

static struct tally *making(struct work_count *count, const struct work_kind *kind) {
    return &count->tallies[count->kind_count + kind->index];
}

static enum bk_status count_lane(const struct work_count *count, struct bk_connection *connection,
                                 enum work_sql sql, struct bk_slice lane, uint64_t *rows) {
    char now[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status = work_statement(count->work, connection, sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, lane);
    if (sql == WORK_SQL_COUNT_DUE)
        work_bind_time(statement, 2, now, count->now_ms);
    bk_statement_bind_int(statement, sql == WORK_SQL_COUNT_DUE ? 3 : 2, ROWS_MAX);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *rows = (uint64_t)bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status;
}

static enum bk_status tally_lane(struct work_count *count, struct bk_connection *connection,
                                 struct bk_slice lane, int64_t head_ms, uint64_t *all) {
    const struct work_kind *kind = work_kind_of_lane(count->work, lane);
    uint64_t waiting = 0, due = 0;
    if (kind == NULL)
        return BK_OK;
    struct tally *tally = making(count, kind);
    enum bk_status status = count_lane(count, connection, WORK_SQL_COUNT_WAITING, lane, &waiting);
    if (status == BK_OK && head_ms <= count->now_ms)
        status = count_lane(count, connection, WORK_SQL_COUNT_DUE, lane, &due);
    tally->waiting += waiting;
    tally->due += due;
    *all += waiting + due;
    if (head_ms <= count->now_ms && head_ms < tally->oldest_due_ms)
        tally->oldest_due_ms = head_ms;
    return status;
}

static enum bk_status tally_lanes(struct work_count *count, struct bk_connection *connection) {
    char from[BK_WORK_LANE_MAX_BYTES];
    struct bk_statement *statement;
    uint64_t all = 0;
    size_t length = 0;
    enum bk_status status = BK_OK;
    while (status == BK_OK && all < TENANT_ROWS_MAX) {
        status = work_statement(count->work, connection, WORK_SQL_NEXT_LANE, &statement);
        if (status != BK_OK)
            break;
        bk_statement_bind_text(statement, 1, bk_slice_make(from, length));
        status = bk_statement_step(statement);
        if (status != BK_OK)
            break;
        struct bk_slice lane = bk_statement_text(statement, 0);
        int64_t head_ms = work_time_read(bk_statement_text(statement, 1));
        length = lane.length < sizeof from ? lane.length : sizeof from;
        memcpy(from, lane.data, length);
        bk_statement_reset(statement);
        status = tally_lane(count, connection, bk_slice_make(from, length), head_ms, &all);
    }
    return status == BK_END ? BK_OK : status;
}

static enum bk_status tally_dead(struct work_count *count, struct bk_connection *connection) {
    struct bk_statement *statement;
    enum bk_status status =
        work_statement(count->work, connection, WORK_SQL_COUNT_DEAD, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, DEAD_MAX);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        const struct work_kind *kind =
            work_kind_of_name(count->work, bk_statement_text(statement, 0));
        if (kind != NULL)
            making(count, kind)->dead = (uint64_t)bk_statement_int(statement, 1);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status run_count(struct bk_connection *connection, struct bk_read *read) {
    struct work_count *count = bk_container_of(read, struct work_count, read);
    for (size_t i = 0; i < count->kind_count; i++)
        *making(count, count->work->kinds[i]) = (struct tally){.oldest_due_ms = INT64_MAX};
    enum bk_status status = tally_lanes(count, connection);
    return status == BK_OK ? tally_dead(count, connection) : status;
}

/* --- on the loop ------------------------------------------------------------------------------ */

static void count_next(struct bk_work *work);

static void on_counted(struct bk_read *read, enum bk_status status) {
    struct work_count *count = bk_container_of(read, struct work_count, read);
    struct bk_work *work = count->work;
    count->is_reading = false;
    if (count->of != NULL && (status == BK_OK || status == BK_TIMEOUT))
        memcpy(count->tallies, count->tallies + count->kind_count,
               count->kind_count * sizeof *count->tallies);
    if (count->of == NULL)
        bk_free(count);
    count_next(work);
}

/* One tenant after the other, so that requests have the readers. */
static void count_next(struct bk_work *work) {
    struct bk_list *node;
    while ((node = bk_list_pop(&work->counts)) != NULL) {
        struct work_count *count = bk_container_of(node, struct work_count, link);
        count->now_ms = work_now_ms(work);
        count->read =
            (struct bk_read){.deadline_ms = DEADLINE_MS, .run = run_count, .done = on_counted};
        count->is_reading = bk_store_read(count->of->tenant->database, &count->read) == BK_OK;
        if (count->is_reading)
            return;
    }
}

static void line_up(struct work_tenant *tenant) {
    struct bk_work *work = tenant->work;
    if (tenant->has_no_table || !tenant->is_known)
        return;
    if (tenant->count == NULL) {
        size_t bytes = 2 * work->kind_count * sizeof(struct tally);
        tenant->count = bk_alloc_zero(sizeof *tenant->count + bytes);
        tenant->count->of = tenant;
        tenant->count->work = work;
        tenant->count->kind_count = work->kind_count;
        bk_list_init(&tenant->count->link);
        for (size_t i = 0; i < work->kind_count; i++)
            tenant->count->tallies[i].oldest_due_ms = INT64_MAX;
    }
    if (!tenant->count->is_reading)
        bk_list_push(&work->counts, &tenant->count->link);
}

void work_count_fini(struct work_tenant *tenant) {
    if (tenant->count == NULL)
        return;
    bk_list_remove(&tenant->count->link);
    tenant->count->of = NULL;
    if (!tenant->count->is_reading)
        bk_free(tenant->count);
    tenant->count = NULL;
}

/* When all of the last count are done. */
static void count_all(struct bk_work *work) {
    uint64_t now_ms = bk_loop_now_ms(work->loop);
    if ((work->counted_ms != 0 && now_ms - work->counted_ms < COUNT_MS / 2) ||
        !bk_list_is_empty(&work->counts))
        return;
    work->counted_ms = now_ms;
    BK_LIST_FOR_EACH(node, &work->tenants)
        line_up(bk_container_of(node, struct work_tenant, link));
    count_next(work);
}

static void on_counting(struct bk_timer *timer, void *user) {
    struct bk_work *work = user;
    (void)timer;
    if (bk_loop_now_ms(work->loop) - work->asked_ms < ASKED_MS)
        count_all(work);
}

static void note_asked(struct bk_work *work) {
    work->asked_ms = bk_loop_now_ms(work->loop);
    count_all(work);
    if (work->counting != NULL)
        return;
    work->counting = bk_timer_create(work->loop, on_counting, work);
    bk_timer_set_background(work->counting);
    bk_timer_start(work->counting, COUNT_MS, COUNT_MS);
}

/* figures[] is by kind's index, count of them are wanted. */
static void add_lanes(const struct work_tenant *tenant, struct bk_work_figures *figures,
                      size_t count) {
    const struct bk_map_entry *entry;
    size_t cursor = 0;
    int64_t now_ms = work_now_ms(tenant->work);
    while ((entry = bk_map_next(&tenant->lanes, &cursor)) != NULL) {
        const struct work_lane *lane = entry->value;
        enum bk_work_lane_state state = work_lane_state(lane, now_ms);
        if (lane->kind->index >= count)
            continue;
        struct bk_work_figures *own = &figures[lane->kind->index];
        own->lanes++;
        own->lanes_paused += state == BK_WORK_LANE_PAUSED;
        own->lanes_broken += state == BK_WORK_LANE_BROKEN;
        own->lanes_stuck += state == BK_WORK_LANE_STUCK;
        own->running += lane->running;
    }
}

static void add_counts(const struct work_tenant *tenant, struct bk_work_figures *figures,
                       size_t count, int64_t now_ms) {
    for (size_t i = 0; tenant->count != NULL && i < count; i++) {
        const struct tally *tally = &tenant->count->tallies[i];
        int64_t age_ms = tally->oldest_due_ms < now_ms ? now_ms - tally->oldest_due_ms : 0;
        figures[i].due += tally->due;
        figures[i].waiting += tally->waiting;
        figures[i].dead += tally->dead;
        figures[i].oldest_ms = age_ms > figures[i].oldest_ms ? age_ms : figures[i].oldest_ms;
    }
}

static struct bk_work_figures figures_of(const struct work_kind *kind) {
    return (struct bk_work_figures){
        .kind = kind->declared,
        .added = __atomic_load_n(&kind->added, __ATOMIC_RELAXED),
        .attempts = kind->attempts,
        .done = kind->done,
        .again = kind->again,
        .died = kind->died,
        .timeouts = kind->timeouts,
    };
}

size_t bk_work_figures(struct bk_work *work, struct bk_work_figures *figures, size_t count) {
    size_t filled = work->kind_count < count ? work->kind_count : count;
    int64_t now_ms = work_now_ms(work);
    note_asked(work);
    for (size_t i = 0; i < filled; i++)
        figures[i] = figures_of(work->kinds[i]);
    BK_LIST_FOR_EACH(node, &work->tenants) {
        const struct work_tenant *tenant = bk_container_of(node, struct work_tenant, link);
        add_lanes(tenant, figures, filled);
        add_counts(tenant, figures, filled, now_ms);
    }
    return filled;
}
