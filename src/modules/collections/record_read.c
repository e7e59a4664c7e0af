/* One record by its id: a single row by key, read on the loop inside the turn's read transaction;
 * where a rule has to be asked or related records come along, on a reader. */
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

const char *collections_missing_message(struct bk_request *request, struct bk_slice name) {
    if (!bk_slice_starts_with(request->path, BK_SLICE("/api/")))
        return NULL;
    if (name.length > BK_COLLECTION_NAME_BYTES_MAX)
        return "Missing collection context: no collection has so long a name.";
    return bk_arena_format(&request->arena,
                           "Missing collection context: there is no collection \"%.*s\".",
                           BK_SLICE_PRINT(name))
        .data;
}

const struct bk_collection *collections_open(struct bk_request *request,
                                             enum bk_operation operation, struct bk_schema **schema,
                                             struct bk_slice *rule) {
    const struct bk_module_context *context = request->module;
    *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_collection *collection =
        bk_schema_find(*schema, bk_request_parameter(request, BK_SLICE("collection")));
    if (collection == NULL) {
        struct bk_slice name = bk_request_parameter(request, BK_SLICE("collection"));
        bk_answer_error(request, BK_NOT_FOUND, collections_missing_message(request, name));
        return NULL;
    }
    if (collection->type == BK_COLLECTION_VIEW && operation >= BK_MAY_CREATE) {
        bk_answer_error(request, BK_INVALID, "Unsupported collection type.");
        return NULL;
    }
    enum bk_verdict verdict = bk_rules_authorize(&request->actor, collection, operation);
    *rule = verdict == BK_ASKED ? collection->rules[operation] : BK_SLICE_EMPTY;
    if (verdict == BK_DENIED) {
        bk_answer_error(request, BK_FORBIDDEN,
                        collections_denied_message(request, collection, operation));
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

/* --- reading ---------------------------------------------------------------------------------- */

struct record_read {
    struct bk_read read;
    struct bk_request *request;
    struct bk_schema *schema;
    const struct bk_collection *collection;
    struct bk_show *show;
    struct bk_asker asker;
    struct bk_question rule; /* not there: nothing is asked */
};

/* Reads and writes the row; the statement is reset in any case. Any thread. */
static enum bk_status write_record(struct record_read *record, struct bk_connection *connection) {
    const struct bk_collection *collection = record->collection;
    struct bk_request *request = record->request;
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(connection, &collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_buffer_clear(&request->out);
    bk_statement_bind_text(statement, 1, bk_request_parameter(request, BK_SLICE("id")));
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        BK_UNINITIALIZED struct bk_value values[BK_COLLECTION_FIELDS_MAX];
        bk_record_read(collection, statement, values);
        status = bk_show_write(record->show, connection, values, &request->out);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static void answer(struct bk_request *request, enum bk_status status) {
    struct bk_slice fields = bk_request_query(request, BK_SLICE("fields"));
    if (status == BK_OK && fields.length > 0)
        status = bk_answer_pick_fields(request, fields);
    if (status == BK_TIMEOUT)
        bk_answer_error(request, BK_INVALID,
                        "The record took too long: give the fields that its rules and the back "
                        "relations of expand look at an index.");
    else if (status != BK_OK)
        bk_answer_error(request, status, NULL);
    else
        bk_answer(request, 200);
}

/* --- where other tables are looked at: on a reader -------------------------------------------- */

static enum bk_status on_run(struct bk_connection *connection, struct bk_read *read) {
    struct record_read *record = bk_container_of(read, struct record_read, read);
    struct bk_slice id = bk_request_parameter(record->request, BK_SLICE("id"));
    enum bk_status status = bk_question_ask(&record->rule, connection, id);
    return status == BK_OK ? write_record(record, connection) : status;
}

static void on_done(struct bk_read *read, enum bk_status status) {
    struct record_read *record = bk_container_of(read, struct record_read, read);
    bk_schema_unref(record->schema);
    answer(record->request, status);
}

static void read_on_reader(struct record_read *record, struct bk_slice rule) {
    struct bk_request *request = record->request;
    enum bk_status status = BK_OK;
    if (rule.length > 0)
        status = bk_request_asker(request, record->schema, request->json, BK_SLICE("default"),
                                  &record->asker);
    if (status == BK_OK && rule.length > 0)
        status = bk_question_make(&record->rule, &request->arena, &record->asker,
                                  record->collection, rule, BK_QUESTION_OF_STORED);
    if (status == BK_OK) {
        bk_schema_ref(record->schema);
        record->read.may_run_again = true;
        record->read.run = on_run;
        record->read.done = on_done;
        status = bk_store_read(request->tenant->database, &record->read);
        if (status == BK_OK)
            return;
        bk_schema_unref(record->schema);
    }
    bk_answer_error(request, status, NULL);
}

void collections_record_view(struct bk_request *request) {
    struct bk_schema *schema;
    struct bk_slice rule, fields;
    const struct bk_collection *collection = collections_open(request, BK_MAY_VIEW, &schema, &rule);
    if (collection == NULL)
        return;
    struct record_read *record = bk_arena_alloc_zero(&request->arena, sizeof *record);
    if (request->arena.is_overflown) {
        bk_answer_error(request, bk_arena_status(&request->arena), NULL);
        return;
    }
    record->request = request;
    record->collection = collection;
    record->schema = schema;
    if (!collections_fields_read(request, &fields) ||
        !collections_show_make(request, schema, collection, &record->show))
        return;
    /* A view is a query of any size. */
    if (rule.length > 0 || collection->type == BK_COLLECTION_VIEW ||
        bk_show_needs_tables(record->show)) {
        read_on_reader(record, rule);
        return;
    }
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    answer(request, connection == NULL ? BK_CLOSING : write_record(record, connection));
}
