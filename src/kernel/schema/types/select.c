/* select: one or several of a list of values. */
#include "types.h"

#include "bakend/assert.h"

struct select_options {
    struct schema_list values;
    struct schema_list encoded; /* the same as JSON, to compare with a column's array */
    int64_t maximum;            /* above 1: several */
};

static bool is_multiple(const struct bk_field *field) {
    const struct select_options *options = field->options;
    return options->maximum > 1;
}

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    struct schema_list list = schema_cast_list(input, arena);
    schema_list_store(&list, is_multiple(field), value, arena);
}

static void modify(const struct bk_field *field, enum bk_modifier modifier,
                   const struct bk_json *input, struct bk_value *value, struct bk_arena *arena) {
    schema_list_modify(is_multiple(field), modifier, input, value, arena);
}

static void empty(const struct bk_field *field, struct bk_value *value) {
    *value = BK_VALUE_OF_TEXT(is_multiple(field) ? BK_SLICE("[]") : BK_SLICE(""));
}

static bool has(const struct schema_list *list, struct bk_slice text) {
    for (uint32_t i = 0; i < list->count; i++)
        if (bk_slice_equal(list->items[i], text))
            return true;
    return false;
}

/* Ends in a full stop, unless the value ends the sentence itself. */
static struct bk_slice sentence(struct bk_arena *arena, struct bk_slice value) {
    struct bk_slice text = bk_arena_format(arena, "Invalid value %.*s", BK_SLICE_PRINT(value));
    text = bk_slice_trim(text);
    bool is_ended = text.length > 0 && strchr(".?!", text.data[text.length - 1]) != NULL;
    return bk_arena_format(arena, "%.*s%s", BK_SLICE_PRINT(text), is_ended ? "" : ".");
}

/* value: as JSON, or plain. */
static void problem_value(const struct bk_field *field, struct bk_problems *problems,
                          struct bk_slice value, bool is_encoded) {
    struct bk_buffer params;
    bk_buffer_init(&params, 8 * value.length + 32); /* each byte may become \u0001 */
    bk_buffer_append_literal(&params, "{\"value\":");
    if (is_encoded)
        bk_buffer_append_slice(&params, value);
    else
        bk_json_write_string(&params, value);
    bk_buffer_append_char(&params, '}');
    struct bk_json *decoded = NULL;
    if (is_encoded && bk_json_parse(problems->arena, value, &decoded, NULL) == BK_OK)
        value = decoded->string;
    struct bk_slice message = sentence(problems->arena, value);
    bk_problems_add_params(problems, field->name, "validation_invalid_value", message.data,
                           bk_buffer_slice(&params));
    bk_buffer_fini(&params);
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    const struct select_options *options = field->options;
    if (!is_multiple(field)) {
        if (schema_value_is_empty_text(value))
            schema_problem_if_required(field, problems);
        else if (schema_list_is_several(value->text, problems->arena))
            schema_problem_int(field, problems, "validation_too_many_values",
                               "Select no more than %s.", "maxSelect", 1);
        else if (!has(&options->values, value->text))
            problem_value(field, problems, value->text, false);
        return;
    }
    struct bk_slice array = value->type == BK_VALUE_TEXT ? value->text : BK_SLICE("[]"), element;
    uint32_t count = schema_list_count(array);
    if (count == 0) {
        schema_problem_if_required(field, problems);
        return;
    }
    if (count > options->maximum) {
        schema_problem_int(field, problems, "validation_too_many_values", "Select no more than %s.",
                           "maxSelect", options->maximum);
        return;
    }
    while (schema_list_next(&array, &element)) {
        if (element.length >= 2 && !has(&options->encoded, element)) {
            problem_value(field, problems, element, true);
            return;
        }
    }
}

static struct schema_list encode(const struct schema_list *values, struct bk_arena *arena) {
    struct schema_list encoded = {
        .items = bk_arena_alloc(arena, sizeof *encoded.items * (values->count + 1)),
        .count = values->count,
    };
    if (encoded.items == NULL || arena->is_overflown)
        return (struct schema_list){NULL, 0};
    for (uint32_t i = 0; i < values->count; i++) {
        struct bk_buffer out;
        bk_buffer_init(&out, 6 * values->items[i].length + 2);
        bk_json_write_string(&out, values->items[i]);
        encoded.items[i] = bk_arena_copy(arena, bk_buffer_slice(&out));
        bk_buffer_fini(&out);
    }
    return encoded;
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct select_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    options->values = schema_option_texts(&reader, "values");
    options->encoded = encode(&options->values, arena);
    int64_t most = options->values.count == 0 ? 1 : options->values.count;
    options->maximum = schema_option_int_within(&reader, "maxSelect", 0, most);
    if (options->values.count == 0)
        schema_option_problem(&reader, "values", "validation_required", "Cannot be blank.");
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct select_options *options = field->options;
    bk_json_write_member_int(out, BK_SLICE("maxSelect"), options->maximum);
    schema_write_texts(out, "values", &options->values);
}

static const char *column_of(const struct bk_field *field) {
    return is_multiple(field) ? "JSON DEFAULT '[]' NOT NULL" : "TEXT DEFAULT '' NOT NULL";
}

static void write_json(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out) {
    schema_list_write_json(is_multiple(field), value, out);
}

const struct bk_field_type schema_type_select = {
    .name = "select",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct select_options),
    .configure = configure,
    .write_options = write_options,
    .column_of = column_of,
    .normalise = normalise,
    .modifiers = BK_MODIFIER_APPEND | BK_MODIFIER_PREPEND | BK_MODIFIER_REMOVE,
    .modify = modify,
    .empty = empty,
    .validate = validate,
    .write_json = write_json,
};
