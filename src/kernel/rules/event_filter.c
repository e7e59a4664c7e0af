/*
 * Filters over events. An event is looked at as if it were the record of a collection whose fields
 * are what an event consists of; two of them, payload and previous, are JSON. So the language, the
 * way it is resolved and the way it is computed are those of any filter:
 *
 *   parse     text → tree → the tree's own text → resolved tests, once, in memory of the filter
 *   view      the event's fields as values; payload and previous are parsed when first asked for
 *   holds     the tests over the view, no allocation for plain comparisons
 */
#include "bakend/event_filter.h"

#include "rules_private.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/clock.h"

enum {
    FILTER_ARENA_BYTES_MAX = 4 * 1024 * 1024,
    VIEW_ARENA_BYTES_MAX = 64 * 1024 * 1024, /* of BK_EVENT_BYTES_MAX of JSON: small values */
};

struct bk_event_filter {
    int reference_count; /* atomic */
    struct bk_arena arena;
    struct bk_event_test test;
    struct bk_slice text;
    struct bk_filter_query *query;
};

/* --- what an event consists of ---------------------------------------------------------------- */

enum event_field {
    FIELD_ID,
    FIELD_TYPE,
    FIELD_TIMESTAMP,
    FIELD_SOURCE,
    FIELD_TENANT,
    FIELD_SUBJECT,
    FIELD_SEQUENCE,
    FIELD_ACTOR,
    FIELD_VERSION,
    FIELD_CAUSE,
    FIELD_PAYLOAD,
    FIELD_PREVIOUS,
    FIELD_COUNT,
};

static const struct bk_field_type text_type = {.name = "text", .column = "TEXT"};
static const struct bk_field_type date_type = {.name = "date", .column = "TEXT"};
static const struct bk_field_type number_type = {.name = "number", .column = "NUMERIC"};
static const struct bk_field_type json_type = {.name = "json", .column = "TEXT"};

#define FIELD(position, name_of, type_of)                                                          \
    [position] = {.name = BK_SLICE_INIT(name_of), .type = &(type_of), .index = (position)}
static struct bk_field event_fields[FIELD_COUNT] = {
    FIELD(FIELD_ID, "id", text_type),
    FIELD(FIELD_TYPE, "type", text_type),
    FIELD(FIELD_TIMESTAMP, "timestamp", date_type),
    FIELD(FIELD_SOURCE, "source", text_type),
    FIELD(FIELD_TENANT, "tenant", text_type),
    FIELD(FIELD_SUBJECT, "subject", text_type),
    FIELD(FIELD_SEQUENCE, "sequence", number_type),
    FIELD(FIELD_ACTOR, "actor", text_type),
    FIELD(FIELD_VERSION, "version", number_type),
    FIELD(FIELD_CAUSE, "cause", text_type),
    FIELD(FIELD_PAYLOAD, "payload", json_type),
    FIELD(FIELD_PREVIOUS, "previous", json_type),
};
static const struct bk_collection event_collection = {.fields = event_fields,
                                                      .field_count = FIELD_COUNT};

/* --- the text --------------------------------------------------------------------------------- */

static void write_nodes(const struct filter_node *first, struct bk_buffer *out);

/* Only the closing quote is escaped, as the scanner reads it. */
static void write_text(struct bk_slice text, struct bk_buffer *out) {
    bk_buffer_append_char(out, '"');
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] == '"')
            bk_buffer_append_char(out, '\\');
        bk_buffer_append_char(out, text.data[i]);
    }
    bk_buffer_append_char(out, '"');
}

static void write_operand(const struct filter_operand *operand, struct bk_buffer *out) {
    if (operand->type == FILTER_TEXT) {
        write_text(operand->text, out);
        return;
    }
    bk_buffer_append_slice(out, operand->text);
    if (operand->type != FILTER_FUNCTION)
        return;
    bk_buffer_append_char(out, '(');
    for (const struct filter_operand *each = operand->arguments; each != NULL; each = each->next) {
        write_operand(each, out);
        if (each->next != NULL)
            bk_buffer_append_literal(out, ", ");
    }
    bk_buffer_append_char(out, ')');
}

static void write_node(const struct filter_node *node, struct bk_buffer *out) {
    static const char *const signs[] = {
        [FILTER_EQUAL] = "=",     [FILTER_NOT_EQUAL] = "!=",     [FILTER_LIKE] = "~",
        [FILTER_NOT_LIKE] = "!~", [FILTER_LESS] = "<",           [FILTER_LESS_EQUAL] = "<=",
        [FILTER_GREATER] = ">",   [FILTER_GREATER_EQUAL] = ">=",
    };
    if (node->group != NULL) {
        bk_buffer_append_char(out, '(');
        write_nodes(node->group, out);
        bk_buffer_append_char(out, ')');
        return;
    }
    write_operand(&node->left, out);
    bk_buffer_append_slice(out, node->is_any ? BK_SLICE(" ?") : BK_SLICE(" "));
    bk_buffer_append_slice(out, bk_slice_from(signs[node->sign]));
    bk_buffer_append_char(out, ' ');
    write_operand(&node->right, out);
}

static void write_nodes(const struct filter_node *first, struct bk_buffer *out) {
    for (const struct filter_node *node = first; node != NULL; node = node->next) {
        if (node != first)
            bk_buffer_append_slice(out, node->is_or ? BK_SLICE(" || ") : BK_SLICE(" && "));
        write_node(node, out);
    }
}

static enum bk_status keep_text(struct bk_event_filter *filter, const struct filter_node *first) {
    struct bk_buffer out;
    bk_buffer_init(&out, (size_t)4 * BK_EVENT_FILTER_BYTES_MAX);
    write_nodes(first, &out);
    filter->text = bk_arena_copy(&filter->arena, bk_buffer_slice(&out));
    enum bk_status status = bk_buffer_status(&out);
    bk_buffer_fini(&out);
    return status == BK_OK ? bk_arena_status(&filter->arena) : status;
}

/* --- life ------------------------------------------------------------------------------------- */

static enum bk_status resolve(struct bk_event_filter *filter, const struct bk_filter *tree,
                              struct bk_error *error) {
    const struct bk_filter_scope scope = {.collection = &event_collection, .first_parameter = 1};
    filter->query = bk_filter_query_create(&filter->arena, &scope);
    if (filter->query == NULL)
        return bk_arena_status(&filter->arena);
    filter->query->is_of_event = true;
    return bk_filter_query_add(filter->query, tree, BK_FILTER_OF_RULE, error);
}

static bool test_holds(const struct bk_event_test *test, const struct bk_event_fields *fields) {
    const struct bk_event_filter *filter =
        bk_const_container_of(test, struct bk_event_filter, test);
    struct bk_event_view view;
    bk_event_view_init(&view, fields);
    bool does_hold = bk_event_filter_holds(filter, &view);
    bk_event_view_fini(&view);
    return does_hold;
}

enum bk_status bk_event_filter_parse(struct bk_slice text, struct bk_event_filter **filter,
                                     struct bk_error *error) {
    struct bk_event_filter *made = bk_alloc_zero(sizeof *made);
    struct bk_filter *tree;
    made->reference_count = 1;
    bk_arena_init(&made->arena, FILTER_ARENA_BYTES_MAX);
    struct bk_slice copy = bk_arena_copy(&made->arena, text);
    enum bk_status status = bk_arena_status(&made->arena);
    if (status == BK_OK)
        status = bk_filter_parse(&made->arena, copy, BK_EVENT_FILTER_BYTES_MAX, &tree, error);
    if (status == BK_OK)
        status = keep_text(made, tree->first);
    if (status == BK_OK)
        status = resolve(made, tree, error);
    if (status != BK_OK) {
        bk_event_filter_unref(made);
        return status;
    }
    made->query->error = NULL;
    made->test = (struct bk_event_test){.key = made->text, .holds = test_holds};
    *filter = made;
    return BK_OK;
}

struct bk_event_filter *bk_event_filter_ref(struct bk_event_filter *filter) {
    int before = __atomic_fetch_add(&filter->reference_count, 1, __ATOMIC_RELAXED);
    BK_ASSERT(before > 0);
    return filter;
}

void bk_event_filter_unref(struct bk_event_filter *filter) {
    if (filter == NULL)
        return;
    int before = __atomic_fetch_sub(&filter->reference_count, 1, __ATOMIC_ACQ_REL);
    BK_ASSERT(before > 0);
    if (before > 1)
        return;
    bk_arena_fini(&filter->arena);
    bk_free(filter);
}

struct bk_slice bk_event_filter_text(const struct bk_event_filter *filter) {
    return filter->text;
}

const struct bk_event_test *bk_event_filter_test(const struct bk_event_filter *filter) {
    return filter == NULL ? NULL : &filter->test;
}

void bk_event_filter_test_unref(const struct bk_event_test *test) {
    union {
        const struct bk_event_test *given;
        struct bk_event_test *own; /* of a filter, none of which is constant */
    } of = {.given = test};
    if (test != NULL)
        bk_event_filter_unref(bk_container_of(of.own, struct bk_event_filter, test));
}

/* --- an event --------------------------------------------------------------------------------- */

void bk_event_view_init(struct bk_event_view *view, const struct bk_event_fields *fields) {
    _Static_assert(sizeof view->values / sizeof view->values[0] == FIELD_COUNT,
                   "of event_filter.h");
    *view = (struct bk_event_view){.fields = fields};
    bk_arena_init(&view->arena, VIEW_ARENA_BYTES_MAX);
    bk_time_format(view->timestamp, fields->timestamp_ms, ' ');
    struct bk_value *values = view->values;
    values[FIELD_ID] = BK_VALUE_OF_TEXT(fields->id);
    values[FIELD_TYPE] = BK_VALUE_OF_TEXT(fields->type);
    values[FIELD_TIMESTAMP] =
        BK_VALUE_OF_TEXT(bk_slice_make(view->timestamp, sizeof view->timestamp));
    values[FIELD_SOURCE] = BK_VALUE_OF_TEXT(fields->source);
    values[FIELD_TENANT] = BK_VALUE_OF_TEXT(fields->tenant);
    values[FIELD_SUBJECT] = BK_VALUE_OF_TEXT(fields->subject);
    values[FIELD_SEQUENCE] = BK_VALUE_OF_INT((int64_t)fields->sequence);
    values[FIELD_ACTOR] = BK_VALUE_OF_TEXT(fields->actor);
    values[FIELD_VERSION] = BK_VALUE_OF_INT(fields->version);
    values[FIELD_CAUSE] = BK_VALUE_OF_TEXT(fields->cause);
    values[FIELD_PAYLOAD] = BK_VALUE_OF_TEXT(fields->payload);
    values[FIELD_PREVIOUS] = BK_VALUE_OF_TEXT(fields->previous);
    if (fields->previous.length == 0)
        values[FIELD_PREVIOUS] = BK_VALUE_OF_NULL;
}

void bk_event_view_fini(struct bk_event_view *view) { bk_arena_fini(&view->arena); }

bool bk_event_filter_holds(const struct bk_event_filter *filter, struct bk_event_view *view) {
    struct bk_arena arena;
    bk_arena_init(&arena, FILTER_EVALUATION_BYTES_MAX);
    struct filter_evaluation evaluation = {.query = filter->query,
                                           .row = {.collection = &event_collection,
                                                   .values = view->values,
                                                   .json = view->json,
                                                   .arena = &view->arena},
                                           .arena = &arena,
                                           .now_ms = view->fields->timestamp_ms,
                                           .of = BK_QUESTION_OF_EVENT,
                                           .steps = FILTER_ELEMENT_STEPS_MAX,
                                           .like_looks = FILTER_LIKE_LOOKS_MAX};
    enum bk_answer answer = filter_evaluate(&evaluation);
    bk_arena_fini(&arena);
    return answer != BK_ANSWER_NO;
}
