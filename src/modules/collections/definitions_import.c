/*
 * Import: many definitions in one transaction, as an export or another server has them.
 *
 *   body   {"collections": […], "deleteMissing": false}
 *   steps  first those that are deleted, then the given ones, views last
 *
 * A given collection is laid over the one that has its id (or, without one, its name). Fields that
 * it does not name stay, unless deleteMissing; system fields stay in any case. A field of the same
 * name and type is the same field, whatever its id, so that its values are kept. deleteMissing
 * never removes a system collection, and the server's own collections are not touched at all.
 */
#include "collections.h"
#include <stdlib.h>

static const char failure[] = "Failed to import collections.";

struct definitions_import {
    struct bk_schema_change change;
    struct bk_request *request;
    const struct bk_json *given; /* the list */
    bool deletes_missing;
};

/* --- merging ---------------------------------------------------------------------------------- */

static struct bk_json *copy_node(struct bk_arena *arena, const struct bk_json *from) {
    struct bk_json *node = bk_arena_alloc_zero(arena, sizeof(*node));
    *node = *from;
    node->next = NULL;
    return node;
}

static struct bk_slice text_of(const struct bk_json *object, const char *name) {
    return bk_json_get_string(object, bk_slice_from(name));
}

static bool is_true(const struct bk_json *object, const char *name) {
    const struct bk_json *member = bk_json_get(object, bk_slice_from(name));
    return member != NULL && member->type == BK_JSON_BOOL && member->boolean;
}

/* The given field with the id of the one that is there. */
static struct bk_json *with_id(struct bk_arena *arena, const struct bk_json *field,
                               struct bk_slice id) {
    struct bk_json *made = copy_node(arena, field);
    struct bk_json *member = bk_arena_alloc_zero(arena, sizeof(*member));
    member->type = BK_JSON_STRING;
    member->key = BK_SLICE("id");
    member->string = id;
    made->child = member;
    made->child_count = 1;
    for (const struct bk_json *child = field->child; child != NULL; child = child->next) {
        if (bk_slice_is(child->key, "id"))
            continue;
        member->next = copy_node(arena, child);
        member = member->next;
        made->child_count++;
    }
    return made;
}

static const struct bk_json *find_field(const struct bk_json *fields, const char *member,
                                        struct bk_slice value) {
    for (const struct bk_json *field = fields == NULL ? NULL : fields->child;
         field != NULL && value.length > 0; field = field->next)
        if (bk_slice_equal(text_of(field, member), value))
            return field;
    return NULL;
}

/* A given field as it is to be: with the id of its namesake when it has none of its own, and as it
 * was when its own id is another one's. */
static struct bk_json *settle_field(struct bk_arena *arena, const struct bk_json *field,
                                    const struct bk_json *former) {
    struct bk_slice id = text_of(field, "id"), name = text_of(field, "name");
    const struct bk_json *same = find_field(former, "name", name);
    if (find_field(former, "id", id) != NULL || same == NULL ||
        !bk_slice_equal(text_of(same, "type"), text_of(field, "type")))
        return copy_node(arena, field);
    return id.length == 0 ? with_id(arena, field, text_of(same, "id")) : copy_node(arena, same);
}

static bool is_in(const struct bk_json *fields, const struct bk_json *wanted) {
    return find_field(fields, "id", text_of(wanted, "id")) != NULL;
}

static struct bk_json *merge_fields(struct bk_arena *arena, const struct bk_json *given,
                                    const struct bk_json *former, bool deletes_missing) {
    struct bk_json *merged = bk_arena_alloc_zero(arena, sizeof(*merged));
    struct bk_json **end = &merged->child;
    merged->type = BK_JSON_ARRAY;
    merged->key = BK_SLICE("fields");
    for (const struct bk_json *field = given == NULL ? NULL : given->child; field != NULL;
         field = field->next, end = &(*end)->next, merged->child_count++)
        *end = settle_field(arena, field, former);
    for (const struct bk_json *field = former == NULL ? NULL : former->child; field != NULL;
         field = field->next) {
        if ((deletes_missing && !is_true(field, "system")) || is_in(merged, field))
            continue;
        *end = copy_node(arena, field);
        end = &(*end)->next;
        merged->child_count++;
    }
    return merged;
}

static const struct bk_json *merge(struct definitions_import *import, const struct bk_json *given,
                                   const struct bk_collection *existing) {
    struct bk_arena *arena = import->change.arena;
    struct bk_json *former, *merged = copy_node(arena, given);
    const struct bk_json *fields = bk_json_get(given, BK_SLICE("fields"));
    if (existing->type == BK_COLLECTION_VIEW ||
        (fields != NULL && fields->type != BK_JSON_ARRAY && fields->type != BK_JSON_NULL))
        return given;
    if (bk_json_parse(arena, existing->definition, &former, NULL) != BK_OK)
        return given; /* the arena is full, which is seen later */
    struct bk_json *list = merge_fields(arena, fields, bk_json_get(former, BK_SLICE("fields")),
                                        import->deletes_missing);
    struct bk_json **end = &merged->child;
    merged->child = NULL;
    for (const struct bk_json *member = given->child; member != NULL; member = member->next) {
        if (bk_slice_is(member->key, "fields"))
            continue;
        *end = copy_node(arena, member);
        end = &(*end)->next;
    }
    *end = list;
    return merged;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* The collection that is meant, by its id or else by its name; NULL: a new one. */
static const struct bk_collection *find_existing(const struct bk_schema *schema,
                                                 const struct bk_json *given) {
    struct bk_slice id = text_of(given, "id");
    return bk_schema_find(schema, id.length > 0 ? id : text_of(given, "name"));
}

static bool is_given(const struct definitions_import *import, const struct bk_schema *schema,
                     const struct bk_collection *collection) {
    for (const struct bk_json *given = import->given->child; given != NULL; given = given->next)
        if (find_existing(schema, given) == collection)
            return true;
    return false;
}

struct planned {
    struct bk_schema_step step;
    bool is_view;
    struct bk_slice created;
    size_t position;
};

/* Views last, the older ones first: one may read another. */
static int compare(const void *left, const void *right) {
    const struct planned *a = left, *b = right;
    if (a->is_view != b->is_view)
        return a->is_view ? 1 : -1;
    int result = a->is_view ? bk_slice_compare(a->created, b->created) : 0;
    return result != 0 ? result : a->position < b->position ? -1 : 1;
}

static void plan_given(struct definitions_import *import, const struct bk_schema *schema,
                       const struct bk_json *given, struct planned *planned) {
    static const struct bk_json empty = {.type = BK_JSON_OBJECT}; /* null, which has no name */
    const struct bk_collection *existing = find_existing(schema, given);
    planned->created = text_of(given, "created");
    planned->is_view = existing != NULL ? existing->type == BK_COLLECTION_VIEW
                                        : bk_slice_is(text_of(given, "type"), "view");
    planned->step.action = existing == NULL ? BK_SCHEMA_CREATE : BK_SCHEMA_UPDATE;
    planned->step.target = existing == NULL ? BK_SLICE_EMPTY : existing->id;
    planned->step.definition = given->type == BK_JSON_NULL ? &empty
                               : existing == NULL          ? given
                                                           : merge(import, given, existing);
}

/* Where the next one goes: the last of several that mean one collection is the one that counts. */
static struct planned *place_of(struct planned *all, size_t *count,
                                const struct bk_collection *existing) {
    for (size_t i = 0; existing != NULL && i < *count; i++)
        if (bk_slice_equal(all[i].step.target, existing->id))
            return &all[i];
    all[*count].position = *count;
    return &all[(*count)++];
}

static uint32_t plan_deletes(struct definitions_import *import, const struct bk_schema *schema,
                             struct bk_schema_step *steps) {
    uint32_t count = 0;
    for (size_t i = 0; import->deletes_missing && i < bk_schema_count(schema); i++) {
        const struct bk_collection *collection = bk_schema_at(schema, i);
        if (collection->is_system || collection->is_unlisted ||
            is_given(import, schema, collection))
            continue;
        steps[count++] =
            (struct bk_schema_step){.action = BK_SCHEMA_DELETE, .target = collection->id};
    }
    return count;
}

static enum bk_status make_steps(struct bk_schema_change *change, const struct bk_schema *schema) {
    struct definitions_import *import = bk_container_of(change, struct definitions_import, change);
    struct bk_arena *arena = change->arena;
    size_t given_count = import->given->child_count, count = 0;
    size_t room = bk_schema_count(schema) + given_count + 1;
    struct bk_schema_step *steps = bk_arena_alloc_zero(arena, sizeof(*steps) * room);
    struct planned *all = bk_arena_alloc_zero(arena, sizeof(*all) * (given_count + 1));
    if (arena->is_overflown)
        return bk_error_set(&change->error, bk_arena_status(arena), "The import is too large.");
    for (const struct bk_json *given = import->given->child; given != NULL; given = given->next) {
        const struct bk_collection *existing = find_existing(schema, given);
        if (existing != NULL && existing->is_unlisted)
            continue; /* the server's own */
        plan_given(import, schema, given, place_of(all, &count, existing));
    }
    qsort(all, count, sizeof(*all), compare);
    change->step_count = plan_deletes(import, schema, steps);
    for (size_t i = 0; i < count; i++)
        steps[change->step_count++] = all[i].step;
    change->steps = steps;
    if (arena->is_overflown)
        return bk_error_set(&change->error, bk_arena_status(arena), "The import is too large.");
    return BK_OK;
}

/* --- the request ------------------------------------------------------------------------------ */

/* What SQLite has against an index is told as it is. */
static bool is_of_indexes(const struct bk_problems *problems) {
    for (const struct bk_problem *problem = problems->first; problem != NULL;
         problem = problem->next)
        if (!bk_slice_starts_with(problem->field, BK_SLICE("indexes.")) ||
            !bk_slice_starts_with(problem->message, BK_SLICE("Failed to create index")))
            return false;
    return problems->count > 0;
}

/* All else that is wrong is one problem, of `collections`. */
static void refuse(struct definitions_import *import) {
    struct bk_request *request = import->request;
    if (is_of_indexes(&request->problems)) {
        bk_answer_problems(request, BK_INVALID, failure);
        return;
    }
    struct bk_buffer out;
    bk_buffer_init(&out, BK_BODY_MAX_BYTES);
    if (request->problems.count > 0) {
        bk_buffer_append_literal(&out, "Data validations failed for collection ");
        const struct bk_schema_step *step = import->change.failed_step < import->change.step_count
                                                ? &import->change.steps[import->change.failed_step]
                                                : NULL;
        bk_json_write_string(&out, step == NULL || step->definition == NULL
                                       ? BK_SLICE("")
                                       : text_of(step->definition, "name"));
        bk_buffer_append_literal(&out, ":\n");
        bk_problems_write_json(&request->problems, &out);
    } else {
        bk_buffer_append_literal(&out,
                                 "Failed to import the collections configuration. Raw error:\n");
        bk_buffer_append_slice(&out, bk_slice_from(import->change.error.message));
    }
    struct bk_slice message =
        bk_arena_format(&request->arena, "%.*s", BK_SLICE_PRINT(bk_buffer_slice(&out)));
    bk_buffer_fini(&out);
    bk_problems_init(&request->problems, &request->arena);
    bk_problems_add(&request->problems, BK_SLICE("collections"),
                    "validation_collections_import_failure", message.data);
    bk_answer_problems(request, BK_INVALID, failure);
}

static void on_imported(struct bk_schema_change *change, enum bk_status status) {
    struct definitions_import *import = bk_container_of(change, struct definitions_import, change);
    struct bk_request *request = import->request;
    if (status == BK_OK)
        bk_answer_empty(request);
    else if (request->arena.is_overflown)
        bk_answer_error(request, bk_arena_status(&request->arena), "The import is too large.");
    else if (status == BK_INVALID || status == BK_CONFLICT || status == BK_LIMIT ||
             status == BK_NOT_FOUND)
        refuse(import);
    else
        bk_answer_error(request, status, NULL);
}

/* The list, when it is one of objects and nulls; false: it was answered. */
static bool read_body(struct bk_request *request, struct definitions_import *import) {
    const struct bk_json *list = bk_json_get(request->json, BK_SLICE("collections"));
    const struct bk_json *flag = bk_json_get(request->json, BK_SLICE("deleteMissing"));
    bool is_readable = list == NULL || list->type == BK_JSON_NULL || list->type == BK_JSON_ARRAY;
    is_readable &= flag == NULL || flag->type == BK_JSON_NULL || flag->type == BK_JSON_BOOL;
    for (const struct bk_json *item = list == NULL ? NULL : list->child; item != NULL;
         item = item->next)
        is_readable &= item->type == BK_JSON_OBJECT || item->type == BK_JSON_NULL;
    if (!is_readable) {
        bk_answer_error(request, BK_INVALID, "An error occurred while loading the submitted data.");
        return false;
    }
    import->given = list;
    import->deletes_missing = flag != NULL && flag->boolean;
    if (list != NULL && list->child != NULL)
        return true;
    bk_problems_add(&request->problems, BK_SLICE("collections"), "validation_required",
                    "Cannot be blank.");
    bk_answer_problems(request, BK_INVALID,
                       "An error occurred while validating the submitted data.");
    return false;
}

void collections_definitions_import(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct definitions_import *import = bk_arena_alloc_zero(&request->arena, sizeof(*import));
    if (request->arena.is_overflown) {
        bk_answer_error(request, bk_arena_status(&request->arena), NULL);
        return;
    }
    if (!read_body(request, import))
        return;
    import->request = request;
    import->change.tenant = request->tenant;
    import->change.make_steps = make_steps;
    import->change.arena = &request->arena;
    import->change.problems = &request->problems;
    import->change.origin = &request->origin;
    import->change.done = on_imported;
    bk_schema_change(context->schema, &import->change);
}
