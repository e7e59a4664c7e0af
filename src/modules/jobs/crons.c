/*
 * /api/crons in the contract's shape: the schedules of the tenant, and running one now.
 *
 * They are those that exist, by name: what modules declared, and what was put by settings or
 * functions. What PocketBase lists of its own and is done otherwise here is not among them; running
 * it is 404, since a 204 for what nobody does would be a lie (docs/pocketbase.md says who does it).
 */
#include "jobs_private.h"

#include "bakend/clock.h"

/* --- listing ---------------------------------------------------------------------------------- */

struct listing {
    struct bk_request *request;
    struct bk_read read;
};

static void write_time(struct bk_buffer *out, struct bk_slice key, int64_t wall_ms) {
    char text[BK_TIME_TEXT_BYTES];
    bool is_known = wall_ms > 0 && wall_ms != INT64_MAX;
    if (is_known)
        bk_time_format(text, wall_ms, ' ');
    bk_json_write_member_string(out, key, bk_slice_make(text, is_known ? sizeof text : 0));
}

static void on_schedule(void *user, const struct bk_work_schedule_facts *facts) {
    struct bk_buffer *out = user;
    bk_json_write_separator(out);
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("id"), facts->schedule.name);
    bk_json_write_member_string(out, BK_SLICE("expression"), facts->schedule.expression);
    bk_json_write_member_string(out, BK_SLICE("kind"), bk_slice_from(facts->schedule.kind));
    write_time(out, BK_SLICE("next"), facts->next_ms);
    write_time(out, BK_SLICE("last"), facts->last_ms);
    bk_buffer_append_char(out, '}');
}

static enum bk_status run_listing(struct bk_connection *connection, struct bk_read *read) {
    struct bk_request *request = bk_container_of(read, struct listing, read)->request;
    bk_buffer_clear(&request->out);
    bk_buffer_append_char(&request->out, '[');
    enum bk_status status = bk_work_schedule_each(connection, on_schedule, &request->out);
    bk_buffer_append_char(&request->out, ']');
    if (status == BK_OK)
        status = bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields")));
    return status;
}

static void on_listed(struct bk_read *read, enum bk_status status) {
    struct bk_request *request = bk_container_of(read, struct listing, read)->request;
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}

void jobs_crons_list(struct bk_request *request) {
    struct listing *listing = bk_arena_alloc_zero(&request->arena, sizeof *listing);
    listing->request = request;
    listing->read = (struct bk_read){.run = run_listing, .done = on_listed};
    enum bk_status status = bk_store_read(request->tenant->database, &listing->read);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

/* --- running ---------------------------------------------------------------------------------- */

struct running {
    struct bk_request *request;
    struct bk_work *work;
    struct bk_slice name;
    struct bk_write write;
};

static enum bk_status run_one(struct bk_transaction *transaction, struct bk_write *write) {
    struct running *running = bk_container_of(write, struct running, write);
    return bk_work_schedule_run(running->work, transaction, running->name);
}

static void on_run(struct bk_write *write, enum bk_status status) {
    struct running *running = bk_container_of(write, struct running, write);
    if (status == BK_OK)
        bk_answer_empty(running->request);
    else
        bk_answer_error(running->request, status,
                        status == BK_NOT_FOUND ? "Missing or invalid cron job." : NULL);
}

void jobs_cron_run(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct running *running = bk_arena_alloc_zero(&request->arena, sizeof *running);
    running->request = request;
    running->work = context->work;
    running->name = bk_request_parameter(request, BK_SLICE("id"));
    running->write = (struct bk_write){
        .origin = &request->origin, .lane = BK_LANE_REQUEST, .run = run_one, .done = on_run};
    enum bk_status status = bk_store_write(request->tenant->database, &running->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}
