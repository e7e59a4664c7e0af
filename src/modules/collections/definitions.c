/*
 * The collections themselves, for superusers: one to be seen, created, changed or deleted. Reads
 * come from the snapshot in memory; changes are the schema's own, alone on the writer, and each is
 * an event. The list is in definitions_list.c, several at once in definitions_import.c, the removal
 * of all records in definitions_truncate.c, what the dashboard asks about collections in general in
 * definitions_meta.c.
 */
#include "collections.h"

/* --- reading ---------------------------------------------------------------------------------- */

static const struct bk_collection *find(struct bk_request *request, struct bk_schema **schema) {
    const struct bk_module_context *context = request->module;
    *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_collection *collection =
        bk_schema_find(*schema, bk_request_parameter(request, BK_SLICE("collection")));
    if (collection == NULL)
        bk_answer_error(request, BK_NOT_FOUND, NULL);
    return collection;
}

static void answer_definition(struct bk_request *request, const struct bk_collection *collection) {
    bk_buffer_clear(&request->out);
    bk_buffer_append_slice(&request->out, collection->definition);
    enum bk_status status =
        bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields")));
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}

void collections_definition_view(struct bk_request *request) {
    struct bk_schema *schema;
    const struct bk_collection *collection = find(request, &schema);
    if (collection != NULL)
        answer_definition(request, collection);
}

/* --- changing --------------------------------------------------------------------------------- */

struct definition_change {
    struct bk_schema_change change;
    struct bk_request *request;
    struct bk_slice fields;
};

static void answer_changed(struct definition_change *own, const struct bk_collection *collection) {
    struct bk_request *request = own->request;
    bk_buffer_clear(&request->out);
    bk_buffer_append_slice(&request->out, collection->definition);
    collections_answer_changed(request, own->fields);
}

static void on_changed(struct bk_schema_change *change, enum bk_status status) {
    struct definition_change *own = bk_container_of(change, struct definition_change, change);
    struct bk_request *request = own->request;
    static const char *const failures[] = {
        [BK_SCHEMA_CREATE] = "Failed to create collection.",
        [BK_SCHEMA_UPDATE] = "Failed to update collection.",
        [BK_SCHEMA_DELETE] = "Failed to delete collection.",
    };
    if (status == BK_OK && change->action == BK_SCHEMA_DELETE)
        bk_answer_empty(request);
    else if (status == BK_OK)
        answer_changed(own, change->collection);
    else if (status == BK_TOO_LARGE)
        bk_answer_error(request, status, "The definition is too large.");
    else if (request->problems.count > 0)
        bk_answer_problems(request, BK_INVALID, failures[change->action]);
    else if (status == BK_INVALID || status == BK_CONFLICT || status == BK_LIMIT)
        bk_answer_error(request, BK_INVALID,
                        change->error.message[0] != '\0' ? change->error.message
                                                         : failures[change->action]);
    else
        bk_answer_error(request, status, NULL);
}

static void change(struct bk_request *request, enum bk_schema_action action) {
    const struct bk_module_context *context = request->module;
    static const struct bk_json nothing = {.type = BK_JSON_OBJECT};
    struct bk_slice fields;
    struct definition_change *own = bk_arena_alloc_zero(&request->arena, sizeof(*own));
    if (!collections_fields_read(request, &fields))
        return;
    own->request = request;
    own->fields = fields;
    own->change.tenant = request->tenant;
    own->change.action = action;
    if (action != BK_SCHEMA_CREATE)
        own->change.target = bk_request_parameter(request, BK_SLICE("collection"));
    own->change.definition = request->json != NULL ? request->json : &nothing;
    own->change.arena = &request->arena;
    own->change.problems = &request->problems;
    own->change.origin = &request->origin;
    own->change.done = on_changed;
    bk_schema_change(context->schema, &own->change);
}

void collections_definition_create(struct bk_request *request) {
    change(request, BK_SCHEMA_CREATE);
}

void collections_definition_update(struct bk_request *request) {
    change(request, BK_SCHEMA_UPDATE);
}

void collections_definition_delete(struct bk_request *request) {
    change(request, BK_SCHEMA_DELETE);
}
