/*
 * Delete: loop (authorise) → writer (the record and what refers to it, see cascade.c) → answer. A
 * request that was planned with a schema that has changed meanwhile is planned again, once.
 */
#include "collections.h"

struct record_delete {
    struct bk_write write;
    struct bk_request *request;
    struct bk_schema *schema;
    const struct bk_collection *collection;
    struct bk_asker asker;
    struct bk_question rule;
    const char *message; /* why it was refused, or NULL */
    uint32_t plans;
};

static void plan(struct record_delete *record);

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct record_delete *record = bk_container_of(write, struct record_delete, write);
    enum bk_status status = bk_schema_verify(record->schema, transaction);
    if (status == BK_OK)
        status = bk_question_ask(&record->rule, bk_transaction_connection(transaction),
                                 bk_request_parameter(record->request, BK_SLICE("id")));
    if (status != BK_OK)
        return status;
    return collections_record_remove(transaction, record->schema, record->collection,
                                     bk_request_parameter(record->request, BK_SLICE("id")),
                                     &record->message);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct record_delete *record = bk_container_of(write, struct record_delete, write);
    struct bk_request *request = record->request;
    bk_schema_unref(record->schema);
    if (status == BK_STALE && record->plans == 1) {
        plan(record);
    } else if (status == BK_OK) {
        bk_answer_empty(request);
    } else if (status == BK_INVALID && record->message != NULL) {
        bk_answer_error(request, BK_INVALID, record->message);
    } else if (status == BK_CONFLICT) {
        bk_answer_error(request, BK_INVALID,
                        "Failed to delete record. Make sure that the record is not part of a "
                        "required relation reference.");
    } else if (status == BK_LIMIT) {
        bk_answer_error(request, BK_INVALID,
                        "Failed to delete record: more than 10000 records refer to it. Delete "
                        "those first.");
    } else if (status == BK_TIMEOUT) {
        bk_answer_error(
            request, BK_INVALID,
            "Failed to delete record: what refers to it takes longer than 250 ms to "
            "find and change. Make an index on the relation fields that point at it, or "
            "delete in parts, what refers to it first.");
    } else if (status == BK_TOO_LARGE) {
        bk_answer_error(
            request, status,
            "Failed to delete record: one that is deleted or changed with it needs more "
            "memory than a write may have, 64 MiB.");
    } else {
        bk_answer_error(request, status == BK_STALE ? BK_BUSY : status, NULL);
    }
}

static void plan(struct record_delete *record) {
    struct bk_request *request = record->request;
    struct bk_schema *schema;
    struct bk_slice rule;
    record->plans++;
    record->collection = collections_open(request, BK_MAY_DELETE, &schema, &rule);
    if (record->collection == NULL)
        return;
    enum bk_status status =
        bk_request_asker(request, schema, request->json, BK_SLICE("default"), &record->asker);
    if (status == BK_OK)
        status = bk_question_make(&record->rule, &request->arena, &record->asker,
                                  record->collection, rule, BK_QUESTION_OF_STORED);
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    record->schema = bk_schema_ref(schema);
    record->write.origin = &request->origin;
    record->write.run = on_run;
    record->write.done = on_done;
    status = bk_store_write(request->tenant->database, &record->write);
    if (status == BK_OK)
        return;
    bk_schema_unref(record->schema);
    bk_answer_error(request, status, NULL);
}

void collections_record_delete(struct bk_request *request) {
    struct record_delete *record = bk_arena_alloc_zero(&request->arena, sizeof(*record));
    if (collections_refuse_unready_change(request))
        return;
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE,
                        "The request needs more memory than a request may have.");
        return;
    }
    record->request = request;
    plan(record);
}
