/*
 * Truncate: all records of a collection are deleted as one by one, each with what refers to it and
 * an event of its own.
 *
 *   loop    the first slice is sent off ──────────────────────────────┐
 *   writer  up to 500 records, or as many as 250 ms allow → one commit │
 *   loop    nothing left: answered; else the next slice ──────────────┘
 *
 * Not all in one transaction, unlike PocketBase's: the tenant's other writes pass between two
 * slices. When a record cannot go, its slice is taken back and the answer says why; the slices
 * before it are gone.
 */
#include "bakend/clock.h"
#include "collections.h"

enum { SLICE_MAX = 500, SLICE_MS = 250 };

struct truncation {
    struct bk_write write;
    struct bk_request *request;
    struct bk_schema *schema;
    const struct bk_collection *collection;
    struct bk_slice id;  /* of the collection, whose name may change on the way */
    bool is_finished;    /* the last slice has found nothing more */
    const char *message; /* why a record stays, or NULL */
};

static void start(struct truncation *truncation);

/* The ids of the next records, in the transaction's arena. */
static enum bk_status read_ids(const struct truncation *truncation,
                               struct bk_transaction *transaction, struct bk_slice *ids,
                               uint32_t *count) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    const struct bk_sql sql =
        bk_sql_make(bk_arena_format(arena, "SELECT \"id\" FROM %.*s LIMIT %d",
                                    BK_SLICE_PRINT(truncation->collection->quoted), SLICE_MAX));
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    *count = 0;
    while ((status = bk_statement_step(statement)) == BK_OK && *count < SLICE_MAX)
        ids[(*count)++] = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    if (arena->is_overflown)
        return bk_arena_status(arena);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct truncation *truncation = bk_container_of(write, struct truncation, write);
    uint64_t end_ns = bk_clock_monotonic_ns() + SLICE_MS * UINT64_C(1000000);
    struct bk_slice ids[SLICE_MAX];
    uint32_t count = 0;
    bk_problems_init(&truncation->request->problems, &truncation->request->arena);
    truncation->message = NULL;
    enum bk_status status = bk_schema_verify(truncation->schema, transaction);
    if (status == BK_OK)
        status = read_ids(truncation, transaction, ids, &count);
    truncation->is_finished = count < SLICE_MAX;
    for (uint32_t i = 0; i < count && status == BK_OK; i++) {
        if (bk_clock_monotonic_ns() >= end_ns && i > 0) {
            truncation->is_finished = false;
            break;
        }
        status =
            collections_record_remove(transaction, truncation->schema, truncation->collection,
                                      ids[i], &truncation->request->problems, &truncation->message);
        if (status == BK_NOT_FOUND) /* went with one before it */
            status = BK_OK;
    }
    return status;
}

static void refuse(struct truncation *truncation, enum bk_status status) {
    struct bk_request *request = truncation->request;
    const char *message = truncation->message != NULL
                              ? truncation->message
                              : "Failed to truncate collection (most likely due to required "
                                "cascade delete record references).";
    if (status == BK_INVALID || status == BK_CONFLICT || status == BK_LIMIT || status == BK_TIMEOUT)
        bk_answer_problems(request, BK_INVALID, message);
    else
        bk_answer_error(request, status, NULL);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct truncation *truncation = bk_container_of(write, struct truncation, write);
    bk_schema_unref(truncation->schema);
    if (status == BK_STALE || (status == BK_OK && !truncation->is_finished))
        start(truncation);
    else if (status == BK_OK)
        bk_answer_empty(truncation->request);
    else
        refuse(truncation, status);
}

static void start(struct truncation *truncation) {
    struct bk_request *request = truncation->request;
    const struct bk_module_context *context = request->module;
    truncation->schema = bk_schema_current(context->schema, request->tenant);
    truncation->collection = bk_schema_find(truncation->schema, truncation->id);
    if (truncation->collection == NULL) {
        bk_answer_error(request, BK_NOT_FOUND, NULL);
        return;
    }
    (void)bk_schema_ref(truncation->schema);
    truncation->write = (struct bk_write){.lane = BK_LANE_BACKGROUND,
                                          .runs_alone = true,
                                          .origin = &request->origin,
                                          .run = on_run,
                                          .done = on_done};
    enum bk_status status = bk_store_write(request->tenant->database, &truncation->write);
    if (status == BK_OK)
        return;
    bk_schema_unref(truncation->schema);
    bk_answer_error(request, status, NULL);
}

void collections_definition_truncate(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct truncation *truncation = bk_arena_alloc_zero(&request->arena, sizeof(*truncation));
    const struct bk_collection *collection =
        bk_schema_find(bk_schema_current(context->schema, request->tenant),
                       bk_request_parameter(request, BK_SLICE("collection")));
    if (collection == NULL) {
        bk_answer_error(request, BK_NOT_FOUND, NULL);
        return;
    }
    if (collection->type == BK_COLLECTION_VIEW) {
        bk_answer_error(request, BK_INVALID,
                        "View collections cannot be truncated since they don't store their own "
                        "records.");
        return;
    }
    if (collection->is_closed) {
        bk_answer_error(request, BK_INVALID,
                        "The records of this collection are deleted one by one, by its own "
                        "routes.");
        return;
    }
    truncation->id = bk_arena_copy(&request->arena, collection->id);
    truncation->request = request;
    if (request->arena.is_overflown)
        bk_answer_error(request, bk_arena_status(&request->arena), NULL);
    else
        start(truncation);
}
