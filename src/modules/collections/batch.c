/*
 * POST /api/batch: several changes of records, all or nothing.
 *
 *   loop    limits → the list → each part in turn: prepare (one at a time, so that a batch with
 *           many passwords does not fill the pool of hashes)
 *   writer  each part in turn: run, in one transaction; a part sees what those before it did
 *   loop    answer
 *
 * It is one write: its changes are one commit, its events follow each other, and a failure takes
 * all of it back. A part that cannot be prepared fails when its turn has come, since one before it
 * may fail first, and that is the one to tell of.
 *
 * Other writes of the tenant wait for it, so it has a time (Settings.batch.timeout), which is
 * looked at between parts; a statement that searches has its own.
 */
#include "batch.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/settings.h"

enum { PLANS_MAX = 2, NS_PER_SECOND = 1000000000, URL_BYTES_MAX = 2000 };

static void prepare_next(struct batch *batch);

/* --- on the writer ---------------------------------------------------------------------------- */

static enum bk_status verify(const struct batch *batch, struct bk_transaction *transaction) {
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < batch->part_count && status == BK_OK; i++)
        if (batch->parts[i].change.schema != NULL)
            status = bk_schema_verify(batch->parts[i].change.schema, transaction);
    return status;
}

static enum bk_status run_part(struct batch_part *part, struct bk_transaction *transaction,
                               struct bk_buffer *outcome) {
    enum bk_status status = part->status;
    if (status == BK_OK)
        status = collections_change_run(&part->change, transaction);
    if (status == BK_OK && outcome != NULL)
        status = collections_retry_note(&part->change, outcome);
    part->http_status = collections_change_http_status(&part->change);
    return status;
}

static enum bk_status run_parts(struct batch *batch, struct bk_transaction *transaction,
                                struct bk_buffer *outcome) {
    uint64_t started_ns = bk_clock_monotonic_ns();
    for (uint32_t i = 0; i < batch->part_count; i++) {
        if (bk_clock_monotonic_ns() - started_ns > batch->timeout_ns)
            return BK_TIMEOUT;
        enum bk_status status = run_part(&batch->parts[i], transaction, outcome);
        if (status != BK_OK) {
            batch->has_failed_part = true;
            batch->failed_index = i;
            return status;
        }
        status = collections_batch_answer_add(batch, &batch->parts[i]);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

static enum bk_status run_new(struct batch *batch, struct bk_transaction *transaction) {
    struct bk_buffer outcome;
    bool keeps = batch->retry.is_asked;
    bk_buffer_init(&outcome, SIZE_MAX / 2);
    bk_buffer_append_char(&outcome, '[');
    enum bk_status status = run_parts(batch, transaction, keeps ? &outcome : NULL);
    bk_buffer_append_char(&outcome, ']');
    if (status == BK_OK)
        status = bk_buffer_status(&outcome);
    if (status == BK_OK && keeps)
        status = bk_retry_keep(&batch->retry, transaction, bk_buffer_slice(&outcome));
    bk_buffer_fini(&outcome);
    return status;
}

static enum bk_status show_again(struct batch *batch, struct bk_transaction *transaction,
                                 const struct bk_json *outcome) {
    enum bk_status status = BK_OK;
    const struct bk_json *element = outcome->child;
    batch->is_done_before = true;
    for (uint32_t i = 0; i < batch->part_count && status == BK_OK; i++) {
        struct batch_part *part = &batch->parts[i];
        /* Its collection is gone: nothing can be said of the part. */
        if (part->status != BK_OK || element == NULL)
            return BK_GONE;
        status = collections_retry_show(&part->change, transaction, element, &part->http_status);
        if (status == BK_OK)
            status = collections_batch_answer_add(batch, part);
        element = element->next;
    }
    return status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct batch *batch = bk_container_of(write, struct batch, write);
    const struct bk_json *outcome = NULL;
    batch->has_failed_part = batch->is_done_before = false;
    collections_batch_answer_begin(batch);
    enum bk_status status = verify(batch, transaction);
    if (status == BK_OK)
        status = bk_retry_find(&batch->retry, transaction, &batch->request->arena, &outcome);
    if (status == BK_OK)
        status = show_again(batch, transaction, outcome);
    else if (status == BK_END)
        status = run_new(batch, transaction);
    return status == BK_OK ? collections_batch_answer_end(batch) : status;
}

/* --- back on the loop ------------------------------------------------------------------------- */

static void on_done(struct bk_write *write, enum bk_status status) {
    struct batch *batch = bk_container_of(write, struct batch, write);
    struct bk_request *request = batch->request;
    if (status == BK_STALE && batch->plans < PLANS_MAX) {
        for (uint32_t i = 0; i < batch->part_count; i++)
            collections_change_finish(&batch->parts[i].change);
        batch->prepared_count = 0;
        batch->plans++;
        prepare_next(batch);
        return;
    }
    if (status != BK_OK) {
        collections_batch_answer_failure(batch, status);
        return;
    }
    collections_batch_release(batch);
    if (batch->is_done_before)
        bk_answer_header(request, "Idempotent-Replayed", BK_SLICE("true"));
    bk_answer(request, 200);
}

static void submit(struct batch *batch) {
    batch->write.origin = &batch->request->origin;
    batch->write.run = on_run;
    batch->write.done = on_done;
    enum bk_status status = bk_store_write(batch->request->tenant->database, &batch->write);
    if (status != BK_OK)
        collections_batch_answer_failure(batch, status);
}

/* --- preparing -------------------------------------------------------------------------------- */

static void on_prepared(struct record_change *change, enum bk_status status) {
    struct batch *batch = change->user;
    batch->parts[batch->prepared_count].status = status;
    batch->is_waiting = false;
    if (status == BK_OK)
        batch->prepared_count++;
    if (!batch->is_preparing && status == BK_OK)
        prepare_next(batch);
    else if (!batch->is_preparing)
        submit(batch);
}

static void prepare(struct batch *batch, struct batch_part *part) {
    struct bk_arena *arena = &part->request.arena;
    uint32_t index = batch->prepared_count;
    bk_problems_init(&part->request.problems, arena);
    part->change = (struct record_change){
        .request = &part->request,
        .action = part->action,
        .collection_name = part->collection_name,
        .id = part->id,
        .context = BK_SLICE("batch"),
        .files = batch->request->files,
        .file_prefixes = {bk_arena_format(arena, "requests.%u", index),
                          bk_arena_format(arena, "requests[%u]", index)},
        .prepared = on_prepared,
        .user = batch,
    };
    batch->is_waiting = true;
    collections_change_prepare(&part->change);
}

/* One after the other. Most are prepared at once, so this is a loop and no recursion. */
static void prepare_next(struct batch *batch) {
    batch->is_preparing = true;
    bool has_failed = false;
    while (!batch->is_waiting && !has_failed && batch->prepared_count < batch->part_count) {
        struct batch_part *part = &batch->parts[batch->prepared_count];
        part->status = part->read_status;
        if (part->status == BK_OK && batch->plans == 0)
            part->status = collections_batch_part_ask_guards(part);
        if (part->status == BK_OK)
            prepare(batch, part);
        has_failed = !batch->is_waiting && part->status != BK_OK;
    }
    batch->is_preparing = false;
    if (!batch->is_waiting)
        submit(batch);
}

/* --- the request ------------------------------------------------------------------------------ */

static void add_problem(struct bk_request *request, struct bk_slice field, const char *code,
                        const char *message) {
    bk_problems_add(&request->problems, field, code, message);
}

static void problem_too_long(struct bk_request *request, struct bk_slice field, int64_t maximum) {
    struct bk_slice message = bk_arena_format(
        &request->arena, "The length must be no more than %lld.", (long long)maximum);
    struct bk_slice params =
        bk_arena_format(&request->arena, "{\"max\":%lld,\"min\":0}", (long long)maximum);
    bk_problems_add_params(&request->problems, field, "validation_length_too_long", message.data,
                           params);
}

static void check_method(struct bk_request *request, struct bk_slice field,
                         struct bk_slice method) {
    enum bk_method known = bk_method_parse(method);
    if (method.length == 0)
        add_problem(request, field, "validation_required", "Cannot be blank.");
    else if (known == BK_METHOD_OTHER || known == BK_HEAD || known == BK_OPTIONS)
        add_problem(request, field, "validation_in_invalid", "Must be a valid value.");
}

static void check_url(struct bk_request *request, struct bk_slice field, struct bk_slice url) {
    if (url.length == 0)
        add_problem(request, field, "validation_required", "Cannot be blank.");
    else if (url.length > URL_BYTES_MAX)
        problem_too_long(request, field, URL_BYTES_MAX);
}

static void check_elements(struct bk_request *request, const struct bk_json *list) {
    struct bk_arena *arena = &request->arena;
    uint32_t index = 0;
    for (const struct bk_json *element = list->child; element != NULL;
         element = element->next, index++) {
        check_method(request, bk_arena_format(arena, "requests.%u.method", index),
                     bk_json_get_string(element, BK_SLICE("method")));
        check_url(request, bk_arena_format(arena, "requests.%u.url", index),
                  bk_json_get_string(element, BK_SLICE("url")));
    }
}

/* The list, when it may be one; else the request was answered. */
static const struct bk_json *read_list(struct bk_request *request, int64_t requests_max) {
    static const struct bk_slice field = BK_SLICE_INIT("requests");
    const struct bk_json *list;
    if (!collections_batch_list_read(request->json, &list)) {
        bk_answer_error(request, BK_INVALID, "Failed to read the submitted batch data.");
        return NULL;
    }
    if (list == NULL || list->child_count == 0)
        add_problem(request, field, "validation_required", "Cannot be blank.");
    else if (list->child_count > requests_max)
        problem_too_long(request, field, requests_max);
    else
        check_elements(request, list);
    if (request->arena.is_overflown)
        bk_answer_error(request, bk_arena_status(&request->arena), NULL);
    else if (request->problems.count > 0)
        bk_answer_problems(request, BK_INVALID, "Invalid batch request data.");
    else
        return list;
    return NULL;
}

static uint64_t timeout_ns(int64_t seconds) {
    return (uint64_t)(seconds > 0 ? seconds : BK_BATCH_SECONDS_MAX) * NS_PER_SECOND;
}

void collections_batch(struct bk_request *request) {
    const struct bk_settings *settings = bk_settings_of(request->tenant);
    if (!settings->allows_batch || settings->batch_requests_max <= 0) {
        bk_answer_error(request, BK_FORBIDDEN, "Batch requests are not allowed.");
        return;
    }
    if (request->body.length > (uint64_t)settings->batch_body_bytes_max) {
        bk_answer_error(request, BK_TOO_LARGE, NULL);
        return;
    }
    struct batch *batch = bk_arena_alloc_zero(&request->arena, sizeof(*batch));
    const struct bk_json *list = read_list(request, settings->batch_requests_max);
    if (list == NULL || !bk_retry_read(request, &batch->retry))
        return;
    batch->request = request;
    batch->timeout_ns = timeout_ns(settings->batch_seconds_max);
    batch->parts = bk_alloc(list->child_count * sizeof(*batch->parts));
    for (const struct bk_json *element = list->child; element != NULL; element = element->next)
        collections_batch_part_init(&batch->parts[batch->part_count++], request, element);
    prepare_next(batch);
}
