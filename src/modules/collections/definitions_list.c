/*
 * The list of collections. They are in memory, so sorting and paging happen there. A filter is the
 * language of all filters (filter.h), over six properties of a collection: SQLite is asked which
 * rows of a table in the statement it holds for, on a reader, since one filter may cost what it
 * wants.
 *
 * The server's own system collections are left out unless system=all; by name they can always be
 * asked for.
 */
#define _GNU_SOURCE 1 /* qsort_r */
#include "bakend/clock.h"
#include "bakend/id.h"
#include "collections.h"
#include <stdlib.h>

static const char failure[] = "Something went wrong while processing your request.";
static const char *const type_names[] = {"base", "auth", "view"};

struct listed {
    const struct bk_collection *collection;
    size_t position; /* in the order that they were made in */
};

enum order_by {
    BY_NAME,
    BY_ID,
    BY_TYPE,
    BY_SYSTEM,
    BY_CREATED,
    BY_UPDATED,
    BY_POSITION,
    BY_CHANCE,
    ORDER_BY_COUNT
};
static const char *const order_names[ORDER_BY_COUNT] = {"name",    "id",      "type",   "system",
                                                        "created", "updated", "@rowid", "@random"};

struct order {
    enum order_by by[COLLECTIONS_SORT_KEYS_MAX];
    bool is_descending[COLLECTIONS_SORT_KEYS_MAX];
    uint32_t count;
};

struct definitions_list {
    struct bk_read read;
    struct bk_request *request;
    struct bk_schema *schema;
    struct collections_page page;
    struct order order;
    struct listed *listed;
    size_t count;
    struct bk_collection table; /* what a filter speaks of */
    struct bk_slice rows;       /* JSON: a list of each one's properties */
    struct bk_filter_sql condition;
    struct bk_sql sql;
};

/* --- sort ------------------------------------------------------------------------------------- */

static int compare_by(const struct listed *left, const struct listed *right, enum order_by by) {
    const struct bk_collection *a = left->collection, *b = right->collection;
    switch (by) {
    case BY_NAME:
        return bk_slice_compare(a->name, b->name);
    case BY_ID:
        return bk_slice_compare(a->id, b->id);
    case BY_TYPE:
        return strcmp(type_names[a->type], type_names[b->type]);
    case BY_SYSTEM:
        return (int)a->is_system - (int)b->is_system;
    case BY_CREATED:
        return bk_slice_compare(a->created, b->created);
    case BY_UPDATED:
        return bk_slice_compare(a->updated, b->updated);
    case BY_POSITION:
        return left->position < right->position ? -1 : left->position > right->position;
    case BY_CHANCE:
    case ORDER_BY_COUNT:
        return 0;
    }
    BK_UNREACHABLE();
}

static int compare(const void *left, const void *right, void *user) {
    const struct order *order = user;
    for (uint32_t i = 0; i < order->count; i++) {
        int result = compare_by(left, right, order->by[i]);
        if (result != 0)
            return order->is_descending[i] ? -result : result;
    }
    return compare_by(left, right, BY_POSITION);
}

/* False: a word names nothing, or there are too many. */
static bool read_order(struct bk_request *request, struct order *order) {
    struct bk_slice rest = bk_request_query(request, BK_SLICE("sort")), word;
    order->count = 0;
    if (rest.length == 0)
        return true;
    while (bk_slice_split(&rest, ',', &word)) {
        word = bk_slice_trim(word);
        bool is_signed = word.length > 0 && (word.data[0] == '-' || word.data[0] == '+');
        struct bk_slice name = is_signed ? bk_slice_make(word.data + 1, word.length - 1) : word;
        enum order_by by = BY_NAME;
        while (by < ORDER_BY_COUNT && !bk_slice_equal(name, bk_slice_from(order_names[by])))
            by++;
        if (by == ORDER_BY_COUNT || order->count == COLLECTIONS_SORT_KEYS_MAX)
            return false;
        order->is_descending[order->count] = is_signed && word.data[0] == '-';
        order->by[order->count++] = by;
    }
    return true;
}

static void shuffle(struct listed *listed, size_t count) {
    for (size_t i = count; i > 1; i--) {
        size_t other = (size_t)(bk_random_u64() % i);
        struct listed moved = listed[i - 1];
        listed[i - 1] = listed[other];
        listed[other] = moved;
    }
    for (size_t i = 0; i < count; i++)
        listed[i].position = i;
}

static void sort(struct definitions_list *list) {
    for (uint32_t i = 0; i < list->order.count; i++) {
        if (list->order.by[i] == BY_CHANCE) {
            shuffle(list->listed, list->count);
            break;
        }
    }
    if (list->order.count > 0)
        qsort_r(list->listed, list->count, sizeof(*list->listed), compare, &list->order);
}

/* --- answering -------------------------------------------------------------------------------- */

static void write_list(struct definitions_list *list) {
    struct bk_buffer *out = &list->request->out;
    const struct collections_page *page = &list->page;
    bk_buffer_append_char(out, '{');
    collections_page_write(out, page, page->skip_total ? -1 : (int64_t)list->count);
    bk_buffer_append_literal(out, ",\"items\":[");
    size_t start = (size_t)(page->page - 1) * (size_t)page->per_page;
    for (size_t i = start; i < list->count && i < start + (size_t)page->per_page; i++) {
        bk_json_write_separator(out);
        bk_buffer_append_slice(out, list->listed[i].collection->definition);
    }
    bk_buffer_append_literal(out, "]}");
}

static void answer(struct definitions_list *list) {
    struct bk_request *request = list->request;
    sort(list);
    write_list(list);
    enum bk_status status =
        bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields")));
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}

static bool select_listed(struct definitions_list *list) {
    struct bk_request *request = list->request;
    bool is_all = bk_slice_is(bk_request_query(request, BK_SLICE("system")), "all");
    size_t room = bk_schema_count(list->schema) + 1;
    list->listed = bk_arena_alloc(&request->arena, room * sizeof(*list->listed));
    if (list->listed == NULL || request->arena.is_overflown)
        return false;
    for (size_t i = 0; i < bk_schema_count(list->schema); i++) {
        const struct bk_collection *collection = bk_schema_at(list->schema, i);
        if (is_all || !collection->is_unlisted)
            list->listed[list->count++] = (struct listed){collection, i};
    }
    return true;
}

/* --- filter ----------------------------------------------------------------------------------- */

/* A table that is in no schema, with a column for each property. */
static bool make_table(struct definitions_list *list, const struct bk_schema_kind *kind) {
    static const char *const columns[][2] = {{"id", "text"},      {"name", "text"},
                                             {"type", "text"},    {"created", "date"},
                                             {"updated", "date"}, {"system", "bool"}};
    struct bk_arena *arena = &list->request->arena;
    struct bk_collection *table = &list->table;
    table->name = BK_SLICE("_listed");
    table->quoted = BK_SLICE("\"_listed\"");
    table->field_count = BK_COUNT_OF(columns);
    table->fields = bk_arena_alloc_zero(arena, sizeof(*table->fields) * BK_COUNT_OF(columns));
    for (uint32_t i = 0; i < BK_COUNT_OF(columns) && !arena->is_overflown; i++) {
        struct bk_field *field = &table->fields[i];
        field->id = field->name = bk_slice_from(columns[i][0]);
        field->type = bk_schema_type(kind, bk_slice_from(columns[i][1]));
        field->collection = table;
        field->index = i;
        field->quoted = bk_arena_format(arena, "\"%s\"", columns[i][0]);
        field->options = bk_arena_alloc_zero(arena, field->type->options_size + 1);
    }
    table->id_field = &table->fields[0];
    return !arena->is_overflown;
}

static void write_rows(struct definitions_list *list) {
    struct bk_buffer out;
    bk_buffer_init(&out, BK_COLLECTIONS_MAX * (size_t)1024);
    bk_buffer_append_char(&out, '[');
    for (size_t i = 0; i < list->count; i++) {
        const struct bk_collection *collection = list->listed[i].collection;
        bk_json_write_separator(&out);
        bk_buffer_append_char(&out, '{');
        bk_json_write_member_string(&out, BK_SLICE("id"), collection->id);
        bk_json_write_member_string(&out, BK_SLICE("name"), collection->name);
        bk_json_write_member_string(&out, BK_SLICE("type"),
                                    bk_slice_from(type_names[collection->type]));
        bk_json_write_member_string(&out, BK_SLICE("created"), collection->created);
        bk_json_write_member_string(&out, BK_SLICE("updated"), collection->updated);
        bk_json_write_member_bool(&out, BK_SLICE("system"), collection->is_system);
        bk_buffer_append_char(&out, '}');
    }
    bk_buffer_append_char(&out, ']');
    list->rows = bk_arena_copy(&list->request->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
}

/* The language of records has modifiers, name:lower, which are not for these. */
static bool has_modifier(struct bk_slice text) {
    char quote = '\0';
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (quote == '\0' && c == ':')
            return true;
        if (quote == '\0' && (c == '"' || c == '\''))
            quote = c;
        else if (quote == c && text.data[i - 1] != '\\')
            quote = '\0';
    }
    return false;
}

static enum bk_status compile(struct definitions_list *list, struct bk_slice text) {
    struct bk_request *request = list->request;
    struct bk_filter *filter;
    struct bk_filter_scope scope = {.schema = list->schema,
                                    .collection = &list->table,
                                    .now_ms = bk_clock_wall_ms(),
                                    .first_parameter = 2};
    enum bk_status status =
        bk_filter_parse(&request->arena, text, BK_FILTER_BYTES_MAX, &filter, NULL);
    if (status == BK_OK && has_modifier(text))
        status = BK_INVALID;
    if (status != BK_OK)
        return status;
    struct bk_filter_query *query = bk_filter_query_create(&request->arena, &scope);
    if (query == NULL)
        return bk_arena_status(&request->arena);
    status = bk_filter_query_add(query, filter, BK_FILTER_OF_CLIENT, NULL);
    if (status == BK_OK)
        status = bk_filter_query_finish(query, &list->condition);
    if (status != BK_OK)
        return status;
    static const char head[] = "SELECT \"_listed\".position FROM (SELECT key AS position, "
                               "json_extract(value, '$.id') AS id, "
                               "json_extract(value, '$.name') AS name, json_extract(value, "
                               "'$.type') AS type, json_extract(value, '$.created') AS created, "
                               "json_extract(value, '$.updated') AS updated, json_extract(value, "
                               "'$.system') AS system FROM json_each(?1)) "
                               "AS \"_listed\"";
    list->sql = bk_sql_make(bk_arena_format(&request->arena, "%s%.*s WHERE %.*s", head,
                                            BK_SLICE_PRINT(list->condition.joins),
                                            BK_SLICE_PRINT(list->condition.where)));
    return bk_arena_status(&request->arena);
}

/* Keeps those that the filter holds for, in their order. */
static enum bk_status on_run(struct bk_connection *connection, struct bk_read *read) {
    struct definitions_list *list = bk_container_of(read, struct definitions_list, read);
    struct bk_statement *statement;
    size_t kept = 0;
    enum bk_status status = bk_connection_statement(connection, &list->sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, list->rows);
    for (uint32_t i = 0; i < list->condition.value_count; i++)
        bk_statement_bind(statement, (int)i + 2, &list->condition.values[i]);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        size_t position = (size_t)bk_statement_int(statement, 0);
        if (position >= kept && position < list->count) /* they come in order */
            list->listed[kept++] = list->listed[position];
    }
    bk_statement_reset(statement);
    list->count = kept;
    return status == BK_END ? BK_OK : status;
}

static void on_done(struct bk_read *read, enum bk_status status) {
    struct definitions_list *list = bk_container_of(read, struct definitions_list, read);
    if (status == BK_OK)
        answer(list);
    else
        bk_answer_error(list->request, status == BK_TIMEOUT ? BK_INVALID : status,
                        status == BK_TIMEOUT ? "The filter takes too long: ask for less." : NULL);
    bk_schema_unref(list->schema);
}

static void filter(struct definitions_list *list, struct bk_slice text) {
    const struct bk_module_context *context = list->request->module;
    enum bk_status status = BK_TOO_LARGE;
    if (make_table(list, context->schema)) {
        write_rows(list);
        status = compile(list, text);
    }
    if (status == BK_OK) {
        list->read.run = on_run;
        list->read.done = on_done;
        (void)bk_schema_ref(list->schema);
        status = bk_store_read(list->request->tenant->database, &list->read);
        if (status == BK_OK)
            return;
        bk_schema_unref(list->schema);
    }
    bool is_wrong = status == BK_INVALID || status == BK_FORBIDDEN;
    bk_answer_error(list->request, is_wrong ? BK_INVALID : status, is_wrong ? failure : NULL);
}

void collections_definitions_list(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct definitions_list *list = bk_arena_alloc_zero(&request->arena, sizeof(*list));
    struct bk_slice text = bk_request_query(request, BK_SLICE("filter"));
    if (request->arena.is_overflown) {
        bk_answer_error(request, bk_arena_status(&request->arena), NULL);
        return;
    }
    list->request = request;
    list->schema = bk_schema_current(context->schema, request->tenant);
    if (!collections_page_read(request, &list->page) || !read_order(request, &list->order)) {
        bk_answer_error(request, BK_INVALID, failure);
        return;
    }
    if (!select_listed(list)) {
        bk_answer_error(request, bk_arena_status(&request->arena), NULL);
        return;
    }
    if (text.length == 0)
        answer(list);
    else
        filter(list, text);
}
