/* One record by its id: a single row by key, read on the loop inside the turn's read
 * transaction. */
#include "collections.h"

#include "bakend/alloc.h"

/* What a change of such a record means is known to its module, so it has routes of its own. */
static void refuse_closed(struct bk_request *request, const struct bk_collection *collection) {
    struct bk_slice message =
        collection->alias == NULL
            ? bk_arena_format(&request->arena, "Records of %.*s are changed by the server alone.",
                              BK_SLICE_PRINT(collection->name))
            : bk_arena_format(&request->arena, "Records of %.*s are changed through /api/%s.",
                              BK_SLICE_PRINT(collection->name), collection->alias);
    bk_answer_error(request, BK_INVALID, message.data);
}

const struct bk_collection *collections_open(struct bk_request *request,
                                             enum bk_operation operation,
                                             struct bk_schema **schema) {
    const struct bk_module_context *context = request->module;
    *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_collection *collection =
        bk_schema_find(*schema, bk_request_parameter(request, BK_SLICE("collection")));
    if (collection == NULL) {
        /* A path outside /api may have been meant for anything. */
        bool is_of_api = bk_slice_starts_with(request->path, BK_SLICE("/api/"));
        bk_answer_error(request, BK_NOT_FOUND, is_of_api ? "Missing collection context." : NULL);
        return NULL;
    }
    if (collection->type == BK_COLLECTION_VIEW && operation >= BK_MAY_CREATE) {
        bk_answer_error(request, BK_INVALID, "Unsupported collection type.");
        return NULL;
    }
    if (bk_rules_authorize(&request->actor, collection, operation) != BK_ALLOWED) {
        bk_answer_error(request, BK_FORBIDDEN, "Only superusers can perform this action.");
        return NULL;
    }
    if (collection->is_closed && operation >= BK_MAY_CREATE &&
        request->actor.kind != BK_ACTOR_SYSTEM) {
        refuse_closed(request, collection);
        return NULL;
    }
    return collection;
}

enum bk_status collections_record_copy(const struct bk_collection *collection,
                                       struct bk_statement *statement, struct bk_value *values,
                                       struct bk_arena *arena) {
    bk_record_read(collection, statement, values);
    for (uint32_t i = 0; i < collection->field_count; i++)
        if (values[i].type == BK_VALUE_TEXT)
            values[i].text = bk_arena_copy(arena, values[i].text);
    return bk_arena_status(arena);
}

/* Reads and writes the row; the statement is reset in any case. */
static enum bk_status write_record(struct bk_request *request,
                                   const struct bk_collection *collection) {
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    if (connection == NULL)
        return BK_CLOSING;
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(connection, &collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_request_parameter(request, BK_SLICE("id")));
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        BK_UNINITIALIZED struct bk_value values[BK_COLLECTION_FIELDS_MAX];
        bk_record_read(collection, statement, values);
        bk_record_write_json(collection, values, bk_rules_view(&request->actor, collection),
                             &request->out);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

void collections_record_view(struct bk_request *request) {
    struct bk_schema *schema;
    const struct bk_collection *collection = collections_open(request, BK_MAY_VIEW, &schema);
    if (collection == NULL || collections_refuse_unready(request))
        return;
    enum bk_status status = write_record(request, collection);
    struct bk_slice fields = bk_request_query(request, BK_SLICE("fields"));
    if (status == BK_OK && fields.length > 0)
        status = bk_answer_pick_fields(request, fields);
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    bk_answer(request, 200);
}
