/*
 * The collections themselves, for superusers. Reads come from the snapshot in memory; changes are
 * the schema's own, alone on the writer, and each is an event.
 *
 * The server's own system collections are left out of the list unless system=all; by name they can
 * always be asked for.
 */
#define _GNU_SOURCE 1 /* qsort_r */
#include "collections.h"
#include <stdlib.h>

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

/* --- the list, sorted in memory --------------------------------------------------------------- */

enum order_by { BY_NAME, BY_ID, BY_TYPE, BY_SYSTEM, BY_CREATED, BY_UPDATED, ORDER_BY_COUNT };
static const char *const order_names[ORDER_BY_COUNT] = {"name",   "id",      "type",
                                                        "system", "created", "updated"};
struct order {
    enum order_by by[COLLECTIONS_SORT_KEYS_MAX];
    bool is_descending[COLLECTIONS_SORT_KEYS_MAX];
    uint32_t count;
};

static int compare_by(const struct bk_collection *a, const struct bk_collection *b,
                      enum order_by by) {
    switch (by) {
    case BY_NAME:
        return bk_slice_compare(a->name, b->name);
    case BY_ID:
        return bk_slice_compare(a->id, b->id);
    case BY_TYPE: {
        static const char *const names[] = {"base", "auth", "view"};
        return strcmp(names[a->type], names[b->type]);
    }
    case BY_SYSTEM:
        return (int)a->is_system - (int)b->is_system;
    case BY_CREATED:
        return bk_slice_compare(a->created, b->created);
    case BY_UPDATED:
        return bk_slice_compare(a->updated, b->updated);
    case ORDER_BY_COUNT:
        break;
    }
    BK_UNREACHABLE();
}

static int compare(const void *left, const void *right, void *user) {
    const struct bk_collection *const *a = left, *const *b = right;
    const struct order *order = user;
    for (uint32_t i = 0; i < order->count; i++) {
        int result = compare_by(*a, *b, order->by[i]);
        if (result != 0)
            return order->is_descending[i] ? -result : result;
    }
    return 0;
}

static void read_order(struct bk_request *request, struct order *order) {
    struct bk_slice rest = bk_request_query(request, BK_SLICE("sort")), word;
    order->count = 0;
    while (bk_slice_split(&rest, ',', &word)) {
        word = bk_slice_trim(word);
        bool is_signed = word.length > 0 && (word.data[0] == '-' || word.data[0] == '+');
        struct bk_slice name = is_signed ? bk_slice_make(word.data + 1, word.length - 1) : word;
        enum order_by by = BY_NAME;
        while (by < ORDER_BY_COUNT && !bk_slice_equal(name, bk_slice_from(order_names[by])))
            by++;
        if (bk_slice_is(name, "@rowid"))
            by = BY_CREATED;
        if (by == ORDER_BY_COUNT || order->count == COLLECTIONS_SORT_KEYS_MAX) {
            bk_problems_add(&request->problems, BK_SLICE("sort"), "validation_invalid_sort",
                            "Sort by name, id, type, system, created or updated.");
            return;
        }
        order->is_descending[order->count] = is_signed && word.data[0] == '-';
        order->by[order->count++] = by;
    }
}

static const struct bk_collection **select_listed(struct bk_request *request,
                                                  const struct bk_schema *schema, size_t *count) {
    bool is_all = bk_slice_is(bk_request_query(request, BK_SLICE("system")), "all");
    size_t size = bk_schema_count(schema) * sizeof(void *);
    const struct bk_collection **listed = bk_arena_alloc(&request->arena, size + 1);
    *count = 0;
    for (size_t i = 0; listed != NULL && i < bk_schema_count(schema); i++) {
        const struct bk_collection *collection = bk_schema_at(schema, i);
        if (is_all || !collection->is_unlisted)
            listed[(*count)++] = collection;
    }
    return listed;
}

static void write_list(struct bk_buffer *out, const struct collections_page *page,
                       const struct bk_collection *const *listed, size_t count) {
    bk_buffer_append_char(out, '{');
    collections_page_write(out, page, page->skip_total ? -1 : (int64_t)count);
    bk_buffer_append_literal(out, ",\"items\":[");
    size_t start = (size_t)(page->page - 1) * (size_t)page->per_page;
    for (size_t i = start; i < count && i < start + (size_t)page->per_page; i++) {
        bk_json_write_separator(out);
        bk_buffer_append_slice(out, listed[i]->definition);
    }
    bk_buffer_append_literal(out, "]}");
}

void collections_definitions_list(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct bk_schema *schema = bk_schema_current(context->schema, request->tenant);
    struct collections_page page;
    struct order order;
    size_t count;
    if (collections_refuse_unready(request, false))
        return;
    collections_page_read(request, &page);
    read_order(request, &order);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID,
                           "Something went wrong while processing your request.");
        return;
    }
    const struct bk_collection **listed = select_listed(request, schema, &count);
    if (listed != NULL) {
        if (order.count > 0)
            qsort_r(listed, count, sizeof(*listed), compare, &order);
        write_list(&request->out, &page, listed, count);
    }
    enum bk_status status =
        listed == NULL
            ? BK_NO_MEMORY
            : bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields")));
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
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
