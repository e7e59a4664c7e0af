/*
 * Who may change a record, and how its answer shows it. What is asked is made on the loop; on the
 * writer where it depends on the record as it is: modifiers, and upserts, of which nobody knows
 * before whether they create or update.
 */
#include "record_change.h"

enum { SHOW_MS = 100 /* for all that comes along with a changed record: other writes wait */ };

static enum bk_operation operation_of(const struct record_change *change) {
    switch (change->action) {
    case RECORD_CREATE:
        return BK_MAY_CREATE;
    case RECORD_DELETE:
        return BK_MAY_DELETE;
    default:
        return BK_MAY_UPDATE;
    }
}

/* What a change of such a record means is known to its module, so it has routes of its own. */
static const char *refuse_closed(struct record_change *change) {
    const struct bk_collection *collection = change->collection;
    const char *format = collection->alias == NULL
                             ? "Records of %.*s are changed by the server alone."
                             : "Records of %.*s are changed through /api/%s.";
    return bk_arena_format(&change->request->arena, format, BK_SLICE_PRINT(collection->name),
                           collection->alias)
        .data;
}

const char *collections_denied_message(struct bk_request *request,
                                       const struct bk_collection *collection,
                                       enum bk_operation operation) {
    if (request->actor.kind != BK_ACTOR_KEY || collection->is_system)
        return "Only superusers can perform this action.";
    const char *verb = operation <= BK_MAY_VIEW ? "read" : "write";
    return bk_arena_format(&request->arena,
                           "This key needs the scope records:%s, or records:%s:%.*s for this "
                           "collection alone.",
                           verb, verb, BK_SLICE_PRINT(collection->name))
        .data;
}

enum bk_status collections_ask_decide(struct record_change *change) {
    const struct bk_collection *collection = change->collection;
    enum bk_operation operation = operation_of(change);
    enum bk_verdict verdict = bk_rules_authorize(&change->request->actor, collection, operation);
    change->rule = verdict == BK_ASKED ? collection->rules[operation] : BK_SLICE_EMPTY;
    if (verdict != BK_DENIED)
        return BK_OK;
    change->message = collections_denied_message(change->request, collection, operation);
    return BK_FORBIDDEN;
}

enum bk_status collections_ask_find(struct record_change *change) {
    struct bk_request *request = change->request;
    const struct bk_module_context *context = request->module;
    struct bk_schema *schema = bk_schema_current(context->schema, request->tenant);
    change->collection = bk_schema_find(schema, change->collection_name);
    change->rule = BK_SLICE_EMPTY;
    if (change->collection == NULL) {
        change->message = collections_missing_message(request, change->collection_name);
        return BK_NOT_FOUND;
    }
    if (change->collection->type == BK_COLLECTION_VIEW) {
        change->message = "Unsupported collection type.";
        return BK_INVALID;
    }
    enum bk_status status =
        change->action == RECORD_UPSERT ? BK_OK : collections_ask_decide(change);
    if (status == BK_OK && change->collection->is_closed &&
        request->actor.kind != BK_ACTOR_SYSTEM) {
        change->message = refuse_closed(change);
        status = BK_INVALID;
    }
    if (status == BK_OK)
        change->schema = bk_schema_ref(schema);
    return status;
}

/* --- questions -------------------------------------------------------------------------------- */

/* Most changes are asked nothing, and then nobody needs the request as an object. */
static bool needs_request(const struct record_change *change, struct bk_slice expand) {
    const struct bk_collection *collection = change->collection;
    return change->rule.length > 0 || expand.length > 0 ||
           (collection->type == BK_COLLECTION_AUTH && collection->rules[BK_MAY_MANAGE].length > 0);
}

static enum bk_status make_asker(struct record_change *change, struct bk_slice expand) {
    struct bk_request *request = change->request;
    const struct bk_json *body = request->json;
    struct bk_json *resolved;
    if (!needs_request(change, expand)) {
        bk_asker_init(&change->asker, change->schema, &request->actor, NULL);
        return BK_OK;
    }
    if (change->action != RECORD_DELETE) {
        enum bk_status status = collections_input_body(change, &resolved);
        if (status != BK_OK)
            return status;
        body = resolved;
    }
    return bk_request_asker(request, change->schema, body, change->context, &change->asker);
}

static enum bk_status make_show(struct record_change *change, struct bk_slice expand) {
    struct bk_request *request = change->request;
    enum bk_status status =
        bk_show_make(&change->show, &request->arena, &change->asker, change->collection, expand);
    if (status != BK_LIMIT)
        return status;
    bk_problems_add(&request->problems, BK_SLICE("expand"), "validation_too_many",
                    "At most 100 relations in 8192 bytes can be expanded: ask for fewer paths.");
    return BK_INVALID;
}

enum bk_status collections_ask_make(struct record_change *change) {
    struct bk_request *request = change->request;
    struct bk_slice expand = change->action == RECORD_DELETE
                                 ? BK_SLICE_EMPTY
                                 : bk_request_query(request, BK_SLICE("expand"));
    enum bk_status status = make_asker(change, expand);
    if (status == BK_OK)
        status = bk_question_make(
            &change->question, &request->arena, &change->asker, change->collection, change->rule,
            change->action == RECORD_CREATE ? BK_QUESTION_OF_VALUES : BK_QUESTION_OF_STORED);
    if (status == BK_OK && change->action != RECORD_DELETE)
        status = make_show(change, expand);
    if (status == BK_OK && change->auth != NULL)
        status = collections_auth_ask(change);
    return status == BK_OK ? bk_arena_status(&request->arena) : status;
}

enum bk_status collections_ask_again(struct record_change *change) {
    struct bk_request *request = change->request;
    enum bk_status status =
        bk_request_asker(request, change->schema, request->json, change->context, &change->asker);
    if (status == BK_OK)
        status = make_show(change, bk_request_query(request, BK_SLICE("expand")));
    return status == BK_OK ? bk_arena_status(&request->arena) : status;
}

/* --- showing ---------------------------------------------------------------------------------- */

enum bk_status collections_ask_show(struct record_change *change,
                                    struct bk_transaction *transaction,
                                    const struct bk_value *values) {
    struct bk_request *request = change->request;
    struct bk_buffer *out = &request->out;
    bk_transaction_set_budget(transaction, SHOW_MS);
    enum bk_status status =
        bk_show_write(change->show, bk_transaction_connection(transaction), values, out);
    bk_transaction_set_budget(transaction, 0);
    /* What comes along takes too long to find: that is no reason to undo the change. */
    if (status == BK_TIMEOUT) {
        bk_buffer_clear(out);
        bk_record_write_json(change->collection, values,
                             bk_rules_view(&request->actor, change->collection), out);
        status = BK_OK;
    }
    return status == BK_OK ? bk_buffer_status(out) : status;
}
