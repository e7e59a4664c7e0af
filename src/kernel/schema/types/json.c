/*
 * json: any JSON value, kept as compact text with the client's own numbers. Its column has TEXT
 * affinity, since SQLite would make a double of a long number in any other. null is NULL. Of a view
 * it is whatever an expression gives: numbers, and texts that need not be JSON.
 *
 * A string is looked into, in JSON bodies too, so that a form and a JSON body mean the same: true,
 * false, null, numbers, arrays, objects and quoted texts become what they say; any other is a JSON
 * string.
 */
#include "types.h"

struct json_options {
    int64_t maximum; /* bytes; 0: 1 MiB */
    bool is_of_view;
};

enum { VIEW_TEXT_FACTOR = 64, VIEW_TEXT_BYTES_MIN = 64 * 1024 };

/* Without the spaces between its parts. input: valid JSON. */
static struct bk_slice compact(struct bk_slice input, struct bk_arena *arena) {
    char *out = bk_arena_alloc(arena, input.length + 1);
    if (out == NULL || arena->is_overflown)
        return BK_SLICE("null"); /* the request is refused for its overflown arena */
    size_t length = 0;
    bool is_in_string = false;
    for (size_t i = 0; i < input.length; i++) {
        char c = input.data[i];
        if (is_in_string) {
            out[length++] = c;
            if (c == '\\' && i + 1 < input.length)
                out[length++] = input.data[++i];
            is_in_string = c != '"';
        } else if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
            out[length++] = c;
            is_in_string = c == '"';
        }
    }
    return bk_slice_make(out, length);
}

/* Whether the text of a string is JSON that says what it is. */
static bool speaks_for_itself(struct bk_slice text, struct bk_arena *arena) {
    if (text.length == 0)
        return false;
    if (bk_slice_is(text, "null") || bk_slice_is(text, "true") || bk_slice_is(text, "false"))
        return true;
    if (strchr("0123456789-\"[{", text.data[0]) == NULL || text.data[0] == '\0')
        return false;
    struct bk_json *parsed;
    return bk_json_parse(arena, text, &parsed, NULL) == BK_OK;
}

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    (void)field;
    struct bk_slice text = input->text;
    if (input->type == BK_JSON_STRING && speaks_for_itself(input->string, arena))
        text = input->string;
    *value = BK_VALUE_OF_TEXT(compact(text, arena));
    if (bk_slice_is(value->text, "null"))
        *value = BK_VALUE_OF_NULL;
}

static void empty(const struct bk_field *field, struct bk_value *value) {
    (void)field;
    *value = BK_VALUE_OF_NULL;
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    const struct json_options *options = field->options;
    int64_t maximum = options->maximum > 0 ? options->maximum : SCHEMA_JSON_BYTES_MAX;
    struct bk_slice text = value->type == BK_VALUE_TEXT ? value->text : BK_SLICE("null");
    if ((int64_t)text.length > maximum && value->type == BK_VALUE_TEXT)
        schema_problem_int(field, problems, "validation_json_size_limit",
                           "The maximum allowed JSON size is %s bytes.", "maxSize", maximum);
    else if (bk_slice_is(text, "null") || bk_slice_is(text, "\"\"") || bk_slice_is(text, "[]") ||
             bk_slice_is(text, "{}"))
        schema_problem_if_required(field, problems);
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct json_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    options->maximum = schema_option_int_within(&reader, "maxSize", 0, SCHEMA_INTEGER_MAX);
    options->is_of_view =
        field->collection != NULL && field->collection->type == BK_COLLECTION_VIEW;
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct json_options *options = field->options;
    bk_json_write_member_int(out, BK_SLICE("maxSize"), options->maximum);
}

/* A text that is JSON is what it says, any other a JSON string. */
static void write_any(const struct bk_value *value, struct bk_buffer *out) {
    struct bk_arena arena;
    switch (value->type) {
    case BK_VALUE_INT:
        bk_json_write_int(out, value->integer);
        break;
    case BK_VALUE_REAL:
        bk_json_write_double(out, value->real);
        break;
    case BK_VALUE_TEXT:
        bk_arena_init(&arena, VIEW_TEXT_BYTES_MIN + VIEW_TEXT_FACTOR * value->text.length);
        if (speaks_for_itself(value->text, &arena))
            bk_buffer_append_slice(out, value->text);
        else
            bk_json_write_string(out, value->text);
        bk_arena_fini(&arena);
        break;
    case BK_VALUE_NULL:
        bk_buffer_append_literal(out, "null");
        break;
    }
}

static void write_json(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out) {
    const struct json_options *options = field->options;
    if (options->is_of_view) {
        write_any(value, out);
        return;
    }
    if (value->type == BK_VALUE_TEXT && value->text.length > 0)
        bk_buffer_append_slice(out, value->text);
    else
        bk_buffer_append_literal(out, "null");
}

const struct bk_field_type schema_type_json = {
    .name = "json",
    .column = "TEXT DEFAULT NULL",
    .options_size = sizeof(struct json_options),
    .configure = configure,
    .write_options = write_options,
    .normalise = normalise,
    .empty = empty,
    .validate = validate,
    .write_json = write_json,
};
