/*
 * Lanes: which there are, how each is, and stopping or clearing one by hand.
 *
 * A lane lives in memory as long as it has tasks or is paused; how many of them wait is counted in
 * the table, on a reader, for those on the page and up to JOBS_COUNT_MAX each, so that a backlog of
 * a million is looked at as quickly as one of ten. A pause is a row, which survives a restart. A
 * program that was opened for one command has no lanes in memory: all is read from the table then,
 * from lane to lane by the index.
 *
 * A lane's name has a slash in it as a rule (webhooks/abc), which a path would have to escape and
 * proxies like to change: it travels in the body.
 */
#include "jobs_private.h"

#include "bakend/clock.h"

enum { PER_PAGE_DEFAULT = 30, PER_PAGE_MAX = 200, PAGE_MAX = 1000000 };

/* --- listing ---------------------------------------------------------------------------------- */

struct lane {
    struct bk_slice name;
    struct bk_slice kind;
    enum bk_work_lane_state state;
    uint32_t running;
    int64_t due_ms;
    int64_t waiting;
};

struct listing {
    struct bk_request *request;
    struct bk_read read;
    int64_t page, per_page;
    int64_t total; /* of all pages */
    struct lane lanes[PER_PAGE_MAX];
    size_t count;
    bool is_of_table; /* they are to be found yet */
};

/* The next lane's place on the page; NULL: it is on another one. */
static struct lane *next_place(struct listing *listing) {
    int64_t index = listing->total++;
    int64_t first = (listing->page - 1) * listing->per_page;
    bool is_here = index >= first && index < first + listing->per_page;
    return is_here ? &listing->lanes[listing->count++] : NULL;
}

static void on_lane(void *user, const struct bk_work_lane_facts *facts) {
    struct listing *listing = user;
    struct lane *lane = next_place(listing);
    if (lane != NULL)
        *lane = (struct lane){.name = bk_arena_copy(&listing->request->arena, facts->name),
                              .kind = bk_slice_from(facts->kind->name),
                              .state = facts->state,
                              .running = facts->running};
}

/* --- on a reader ------------------------------------------------------------------------------ */

/* The row of the first lane behind that one; BK_END: there is none. */
static enum bk_status find_next_lane(struct bk_connection *connection, struct bk_slice behind,
                                     struct bk_statement **statement) {
    struct bk_sql sql = bk_sql_make(BK_SLICE(
        "WITH next AS (SELECT min(lane) AS lane FROM (SELECT min(lane) AS lane FROM _work WHERE "
        "state = 'waiting' AND lane > ?1 UNION ALL SELECT min(name) FROM _work_lanes WHERE name > "
        "?1)) SELECT lane, EXISTS (SELECT 1 FROM _work_lanes WHERE name = "
        "next.lane) FROM next WHERE lane IS NOT NULL"));
    enum bk_status status = bk_connection_statement(connection, &sql, statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(*statement, 1, behind);
    return bk_statement_step(*statement);
}

static void read_lane(struct bk_statement *statement, struct bk_arena *arena, struct lane *lane) {
    bool is_paused = bk_statement_int(statement, 1) != 0;
    *lane = (struct lane){.name = bk_arena_copy(arena, bk_statement_text(statement, 0)),
                          .state = is_paused ? BK_WORK_LANE_PAUSED : BK_WORK_LANE_OPEN};
    lane->kind = bk_slice_make(lane->name.data, bk_slice_find(lane->name, '/'));
}

static enum bk_status read_lanes(struct bk_connection *connection, struct listing *listing) {
    struct bk_statement *statement;
    char behind[BK_WORK_LANE_MAX_BYTES];
    size_t length = 0;
    for (;;) {
        enum bk_status status =
            find_next_lane(connection, bk_slice_make(behind, length), &statement);
        if (status != BK_OK)
            return status == BK_END ? BK_OK : status;
        struct bk_slice name = bk_statement_text(statement, 0);
        struct lane *lane = next_place(listing);
        if (lane != NULL)
            read_lane(statement, &listing->request->arena, lane);
        length = name.length < sizeof behind ? name.length : sizeof behind;
        memcpy(behind, name.data, length);
        bk_statement_reset(statement);
    }
}

/* With the time of the first: what the loop knows of that may be of a task that is gone. */
static enum bk_status count_waiting(struct bk_connection *connection, struct lane *lane) {
    struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT count(*), min(due) FROM (SELECT due FROM _work WHERE lane = ?1 AND "
                 "state = 'waiting' ORDER BY due LIMIT ?2)"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, lane->name);
    bk_statement_bind_int(statement, 2, JOBS_COUNT_MAX + 1);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        lane->waiting = bk_statement_int(statement, 0);
        lane->due_ms = INT64_MAX;
        (void)bk_time_parse(bk_statement_text(statement, 1), &lane->due_ms);
    }
    bk_statement_reset(statement);
    return status;
}

static enum bk_status run_listing(struct bk_connection *connection, struct bk_read *read) {
    struct listing *listing = bk_container_of(read, struct listing, read);
    enum bk_status status = BK_OK;
    if (listing->is_of_table)
        status = read_lanes(connection, listing);
    for (size_t i = 0; i < listing->count && status == BK_OK; i++)
        status = count_waiting(connection, &listing->lanes[i]);
    return status;
}

static const char *state_name(enum bk_work_lane_state state) {
    switch (state) {
    case BK_WORK_LANE_OPEN:
        return "open";
    case BK_WORK_LANE_PAUSED:
        return "paused";
    case BK_WORK_LANE_RESTING:
        return "resting";
    case BK_WORK_LANE_BROKEN:
        return "broken";
    case BK_WORK_LANE_STUCK:
        return "stuck";
    }
    BK_UNREACHABLE();
}

static void write_lane(const struct lane *lane, struct bk_buffer *out) {
    bool has_more = lane->waiting > JOBS_COUNT_MAX;
    char due[BK_TIME_TEXT_BYTES];
    bk_json_write_separator(out);
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("lane"), lane->name);
    bk_json_write_member_string(out, BK_SLICE("kind"), lane->kind);
    bk_json_write_member_string(out, BK_SLICE("state"), bk_slice_from(state_name(lane->state)));
    bk_json_write_member_int(out, BK_SLICE("running"), lane->running);
    bk_json_write_member_int(out, BK_SLICE("waiting"), has_more ? JOBS_COUNT_MAX : lane->waiting);
    bk_json_write_member_bool(out, BK_SLICE("hasMore"), has_more);
    bool is_due_known = lane->due_ms != INT64_MAX;
    if (is_due_known)
        bk_time_format(due, lane->due_ms, ' ');
    bk_json_write_member_string(out, BK_SLICE("due"),
                                bk_slice_make(due, is_due_known ? sizeof due : 0));
    bk_buffer_append_char(out, '}');
}

static void on_listing_read(struct bk_read *read, enum bk_status status) {
    struct listing *listing = bk_container_of(read, struct listing, read);
    struct bk_request *request = listing->request;
    struct bk_buffer *out = &request->out;
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    bk_buffer_append_literal(out, "{\"items\":[");
    for (size_t i = 0; i < listing->count; i++)
        write_lane(&listing->lanes[i], out);
    bk_buffer_append_char(out, ']');
    bk_json_write_member_int(out, BK_SLICE("page"), listing->page);
    bk_json_write_member_int(out, BK_SLICE("perPage"), listing->per_page);
    bk_json_write_member_int(out, BK_SLICE("totalItems"), listing->total);
    bk_json_write_member_int(out, BK_SLICE("totalPages"),
                             (listing->total + listing->per_page - 1) / listing->per_page);
    bk_buffer_append_char(out, '}');
    bk_answer(request, 200);
}

void jobs_lanes_list(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct listing *listing = bk_arena_alloc_zero(&request->arena, sizeof *listing);
    listing->request = request;
    listing->page = bk_request_query_int(request, BK_SLICE("page"), 1, PAGE_MAX, 1);
    listing->per_page =
        bk_request_query_int(request, BK_SLICE("perPage"), 1, PER_PAGE_MAX, PER_PAGE_DEFAULT);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "The lanes cannot be listed like this.");
        return;
    }
    listing->is_of_table = !context->is_serving;
    if (!listing->is_of_table)
        bk_work_for_each_lane(context->work, request->tenant, on_lane, listing);
    listing->read = (struct bk_read){.run = run_listing, .done = on_listing_read};
    enum bk_status status = bk_store_read(request->tenant->database, &listing->read);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

/* --- pausing and resuming --------------------------------------------------------------------- */

struct change {
    struct bk_request *request;
    struct bk_work *work;
    struct bk_slice lane;
    enum bk_status (*act)(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice lane);
    struct bk_write write;
};

static enum bk_status run_change(struct bk_transaction *transaction, struct bk_write *write) {
    struct change *change = bk_container_of(write, struct change, write);
    return change->act(change->work, transaction, change->lane);
}

static void on_changed(struct bk_write *write, enum bk_status status) {
    struct change *change = bk_container_of(write, struct change, write);
    if (status == BK_OK && change->act == jobs_resume)
        bk_work_lane_wake(change->work, change->request->tenant, change->lane);
    if (status == BK_OK)
        bk_answer_empty(change->request);
    else
        bk_answer_error(change->request, status,
                        status == BK_NOT_FOUND ? "There is no such lane." : NULL);
}

/* The lane need not have tasks: who pauses it before they come means just that. */
static bool is_of_a_kind(struct bk_work *work, struct bk_slice lane) {
    struct bk_work_figures figures[JOBS_KINDS_MAX];
    size_t count = bk_work_figures(work, figures, JOBS_KINDS_MAX);
    struct bk_slice name = bk_slice_make(lane.data, bk_slice_find(lane, '/'));
    for (size_t i = 0; i < count; i++)
        if (bk_slice_equal(name, bk_slice_from(figures[i].kind->name)))
            return true;
    return false;
}

static void check_lane(struct bk_request *request, struct bk_work *work, struct bk_slice lane) {
    struct bk_problems *problems = &request->problems;
    if (lane.length == 0)
        bk_problems_add(problems, BK_SLICE("lane"), "validation_required",
                        "Must be the name of a lane: GET /api/work/lanes lists them.");
    else if (lane.length > BK_WORK_LANE_MAX_BYTES)
        bk_problems_add(problems, BK_SLICE("lane"), "validation_length_out_of_range",
                        "Must be at most 200 bytes long.");
    else if (!is_of_a_kind(work, lane))
        bk_problems_add(problems, BK_SLICE("lane"), "validation_unknown_name",
                        "Must begin with the name of a kind: GET /api/work/lanes lists lanes.");
}

static void begin(struct bk_request *request,
                  enum bk_status (*act)(struct bk_work *work, struct bk_transaction *transaction,
                                        struct bk_slice lane)) {
    const struct bk_module_context *context = request->module;
    struct change *change = bk_arena_alloc_zero(&request->arena, sizeof *change);
    change->request = request;
    change->work = context->work;
    change->lane = bk_json_get_string(request->json, BK_SLICE("lane"));
    change->act = act;
    check_lane(request, change->work, change->lane);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "There is no such lane.");
        return;
    }
    change->write = (struct bk_write){
        .origin = &request->origin, .lane = BK_LANE_REQUEST, .run = run_change, .done = on_changed};
    enum bk_status status = bk_store_write(request->tenant->database, &change->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

void jobs_lane_pause(struct bk_request *request) { begin(request, jobs_pause); }
void jobs_lane_resume(struct bk_request *request) { begin(request, jobs_resume); }
void jobs_lane_clear(struct bk_request *request) { begin(request, jobs_clear); }
