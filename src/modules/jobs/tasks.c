/*
 * Single tasks: looked at as records of `_work`, through the records routes and by their rules;
 * tried again, cancelled and dropped by the kernel's work, each in a write of its own, which is on
 * disk when it is answered. A task of another tenant is in another database: it is not found.
 */
#include "jobs_private.h"

/* --- looking at them -------------------------------------------------------------------------- */

struct reading {
    struct bk_request *request;
    struct bk_call call;
};

static void on_read(struct bk_call *done) {
    struct bk_request *request = bk_container_of(done, struct reading, call)->request;
    bk_buffer_append_slice(&request->out, done->answer);
    bk_answer(request, done->status);
}

/* path: what follows the records route's. The query is that of the request. */
static void read_records(struct bk_request *request, struct bk_slice path) {
    const struct bk_module_context *context = request->module;
    struct reading *reading = bk_arena_alloc_zero(&request->arena, sizeof *reading);
    reading->request = request;
    reading->call =
        (struct bk_call){.actor = &request->actor,
                         .tenant = request->tenant->name,
                         .method = BK_GET,
                         .target = bk_arena_format(
                             &request->arena, JOBS_RECORDS "%.*s%s%.*s", BK_SLICE_PRINT(path),
                             request->query.length > 0 ? "?" : "", BK_SLICE_PRINT(request->query)),
                         .done = on_read};
    bk_api_call(context->api, &reading->call);
}

void jobs_tasks_list(struct bk_request *request) { read_records(request, BK_SLICE_EMPTY); }

/* The raw segment goes on: what the parameter holds is decoded. */
void jobs_task_view(struct bk_request *request) {
    struct bk_slice rest = request->path, segment = BK_SLICE_EMPTY;
    while (bk_slice_split(&rest, '/', &segment)) {
    }
    read_records(request, bk_arena_format(&request->arena, "/%.*s", BK_SLICE_PRINT(segment)));
}

/* --- doing something with them ---------------------------------------------------------------- */

struct verb {
    struct bk_request *request;
    struct bk_work *work;
    struct bk_slice id;
    enum bk_status (*act)(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice id);
    const char *conflict; /* why it cannot be done now, and what can */
    struct bk_write write;
};

static enum bk_status run_verb(struct bk_transaction *transaction, struct bk_write *write) {
    struct verb *verb = bk_container_of(write, struct verb, write);
    return verb->act(verb->work, transaction, verb->id);
}

static void on_verb_done(struct bk_write *write, enum bk_status status) {
    struct verb *verb = bk_container_of(write, struct verb, write);
    if (status == BK_OK)
        bk_answer_empty(verb->request);
    else if (status == BK_NOT_FOUND)
        bk_answer_error(verb->request, status,
                        "There is no such task: it was done or dropped already.");
    else
        bk_answer_error(verb->request, status, status == BK_CONFLICT ? verb->conflict : NULL);
}

static void act(struct bk_request *request,
                enum bk_status (*how)(struct bk_work *work, struct bk_transaction *transaction,
                                      struct bk_slice id),
                const char *conflict) {
    const struct bk_module_context *context = request->module;
    struct verb *verb = bk_arena_alloc_zero(&request->arena, sizeof *verb);
    verb->request = request;
    verb->work = context->work;
    verb->id = bk_request_parameter(request, BK_SLICE("id"));
    verb->act = how;
    verb->conflict = conflict;
    verb->write = (struct bk_write){
        .origin = &request->origin, .lane = BK_LANE_REQUEST, .run = run_verb, .done = on_verb_done};
    enum bk_status status = bk_store_write(request->tenant->database, &verb->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

void jobs_task_retry(struct bk_request *request) {
    act(request, jobs_retry,
        "Only a task that waits or is dead can be tried again. This one is running (cancel it "
        "first), is done, or another that is made of the same thing is there already.");
}

void jobs_task_cancel(struct bk_request *request) {
    act(request, jobs_cancel, "The task has ended already: there is nothing to cancel.");
}

void jobs_task_drop(struct bk_request *request) {
    act(request, jobs_drop, "The task is running: cancel it first, and drop it when it ended.");
}
