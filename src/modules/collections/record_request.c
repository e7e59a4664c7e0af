/*
 * A change of one record as a request of its own: prepare on the loop, one write, answer. A request
 * that was planned with a schema that has changed meanwhile is planned again, once.
 *
 * A change that is committed has happened, and is answered as done: all that could fail the answer
 * is looked at before.
 */
#include "retry.h"

enum { PLANS_MAX = 2 };

struct record_request {
    struct bk_write write;
    struct bk_request *request;
    struct record_change change;
    enum record_action action;
    struct bk_retry retry;
    struct bk_slice fields; /* of the answer */
    int http_status;
    bool is_done_before; /* the answer is to a request that was here before */
    uint32_t plans;
};

static void plan(struct record_request *record);

/* --- the answer ------------------------------------------------------------------------------- */

static void answer_failure(struct record_request *record, enum bk_status status) {
    struct bk_request *request = record->request;
    status = collections_change_explain(&record->change, status);
    const char *message = record->change.message;
    collections_change_finish(&record->change);
    if (status == BK_INVALID && request->problems.count > 0)
        bk_answer_problems(request, status, message);
    else
        bk_answer_error(request, status, message);
}

static void answer(struct record_request *record) {
    struct bk_request *request = record->request;
    collections_change_finish(&record->change);
    if (record->is_done_before)
        bk_answer_header(request, "Idempotent-Replayed", BK_SLICE("true"));
    if (record->http_status == 200)
        collections_answer_changed(request, record->fields);
    else
        bk_answer_empty(request);
}

/* --- the write -------------------------------------------------------------------------------- */

static enum bk_status keep(struct record_request *record, struct bk_transaction *transaction) {
    struct bk_buffer outcome;
    if (!record->retry.is_asked)
        return BK_OK;
    bk_buffer_init(&outcome, SIZE_MAX / 2);
    bk_buffer_append_char(&outcome, '[');
    enum bk_status status = collections_retry_note(&record->change, &outcome);
    bk_buffer_append_char(&outcome, ']');
    if (status == BK_OK)
        status = bk_buffer_status(&outcome);
    if (status == BK_OK)
        status = bk_retry_keep(&record->retry, transaction, bk_buffer_slice(&outcome));
    bk_buffer_fini(&outcome);
    return status;
}

/* What the caller in process has done with it. */
static enum bk_status accompany(const struct record_request *record,
                                struct bk_transaction *transaction) {
    struct bk_companion *companion = record->request->companion;
    const struct record_change *change = &record->change;
    if (companion == NULL)
        return BK_OK;
    bool is_gone = change->action == RECORD_DELETE;
    return companion->run(companion, transaction,
                          is_gone ? change->id
                                  : change->values[change->collection->id_field->index].text);
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct record_request *record = bk_container_of(write, struct record_request, write);
    struct record_change *change = &record->change;
    const struct bk_json *outcome = NULL;
    enum bk_status status = bk_schema_verify(change->schema, transaction);
    record->is_done_before = false;
    if (status == BK_OK)
        status = bk_retry_find(&record->retry, transaction, &record->request->arena, &outcome);
    if (status == BK_OK && outcome->child != NULL) {
        record->is_done_before = true;
        return collections_retry_show(change, transaction, outcome->child, &record->http_status);
    }
    if (status == BK_UNPROCESSABLE)
        change->message = bk_retry_conflict_message;
    if (status == BK_END)
        status = collections_change_run(change, transaction);
    if (status == BK_OK)
        status = accompany(record, transaction);
    if (status == BK_OK)
        status = keep(record, transaction);
    record->http_status = collections_change_http_status(change);
    return status;
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct record_request *record = bk_container_of(write, struct record_request, write);
    if (status == BK_STALE && record->plans < PLANS_MAX) {
        collections_change_finish(&record->change);
        plan(record);
    } else if (status != BK_OK) {
        answer_failure(record, status);
    } else {
        answer(record);
    }
}

static void on_prepared(struct record_change *change, enum bk_status status) {
    struct record_request *record = change->user;
    struct bk_request *request = record->request;
    record->write.origin = &request->origin;
    record->write.run = on_run;
    record->write.done = on_done;
    if (status == BK_OK)
        status = bk_store_write(request->tenant->database, &record->write);
    if (status != BK_OK)
        answer_failure(record, status);
}

/* Plans with the current schema; called again when that one turned out to be stale. */
static void plan(struct record_request *record) {
    struct bk_request *request = record->request;
    struct record_change *change = &record->change;
    const struct bk_companion *companion = request->companion;
    record->plans++;
    bk_problems_init(&request->problems, &request->arena);
    *change = (struct record_change){
        .request = request,
        .action = record->action,
        .collection_name = bk_request_parameter(request, BK_SLICE("collection")),
        .context = companion != NULL && companion->context.length > 0 ? companion->context
                                                                      : BK_SLICE("default"),
        .files = request->files,
        .prepared = on_prepared,
        .user = record,
    };
    if (record->action != RECORD_CREATE)
        change->id = bk_request_parameter(request, BK_SLICE("id"));
    collections_change_prepare(change);
}

/* --- routes ----------------------------------------------------------------------------------- */

static void start(struct bk_request *request, enum record_action action) {
    struct record_request *record = bk_arena_alloc_zero(&request->arena, sizeof(*record));
    struct bk_slice fields = BK_SLICE_EMPTY;
    if (!collections_fields_read(request, &fields) || !bk_retry_read(request, &record->retry))
        return;
    record->fields = fields;
    record->request = request;
    record->action = action;
    plan(record);
}

void collections_record_create(struct bk_request *request) { start(request, RECORD_CREATE); }

void collections_record_update(struct bk_request *request) { start(request, RECORD_UPDATE); }

void collections_record_delete(struct bk_request *request) { start(request, RECORD_DELETE); }
