/* number: an integer of 64 bits where it is one, else a double; 0 is the empty value. */
#include "types.h"

#include <math.h>

struct number_options {
    bool has_minimum, has_maximum, is_only_int;
    struct bk_value minimum, maximum;
};

static double real_of(const struct bk_value *value) {
    return value->type == BK_VALUE_INT ? (double)value->integer : value->real;
}

/* Two integers as such, since a double would round them. */
static bool is_less(const struct bk_value *a, const struct bk_value *b) {
    if (a->type == BK_VALUE_INT && b->type == BK_VALUE_INT)
        return a->integer < b->integer;
    return real_of(a) < real_of(b);
}

/* A real that is integral is past 64 bits: the contract calls it a decimal. */
static bool is_integer(const struct bk_value *value) { return value->type == BK_VALUE_INT; }

static void write_number(struct bk_buffer *out, const struct bk_value *value) {
    if (value->type == BK_VALUE_REAL)
        bk_json_write_double(out, value->real);
    else
        bk_json_write_int(out, value->type == BK_VALUE_INT ? value->integer : 0);
}

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    (void)field;
    (void)arena;
    schema_cast_number(input, value);
}

/* Integers as such as long as they fit, else as doubles. */
static void modify(const struct bk_field *field, enum bk_modifier modifier,
                   const struct bk_json *input, struct bk_value *value, struct bk_arena *arena) {
    struct bk_value change, sum;
    (void)field;
    (void)arena;
    schema_cast_number(input, &change);
    bool is_minus = modifier == BK_MODIFIER_REMOVE;
    if (value->type == BK_VALUE_NULL)
        *value = BK_VALUE_OF_INT(0);
    sum = BK_VALUE_OF_INT(0);
    if (value->type == BK_VALUE_INT && change.type == BK_VALUE_INT &&
        !(is_minus ? __builtin_sub_overflow(value->integer, change.integer, &sum.integer)
                   : __builtin_add_overflow(value->integer, change.integer, &sum.integer)))
        *value = sum;
    else
        schema_number_set(value,
                          real_of(value) + (is_minus ? -real_of(&change) : real_of(&change)));
}

static void empty(const struct bk_field *field, struct bk_value *value) {
    (void)field;
    *value = BK_VALUE_OF_INT(0);
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    const struct number_options *options = field->options;
    if (value->type == BK_VALUE_REAL && !isfinite(value->real))
        bk_problems_add(problems, field->name, "validation_not_a_number",
                        "The submitted number is not properly formatted.");
    else if (value->type == BK_VALUE_NULL || (is_integer(value) && value->integer == 0))
        schema_problem_if_required(field, problems);
    else if (options->is_only_int && !is_integer(value))
        bk_problems_add(problems, field->name, "validation_only_int_constraint",
                        "Decimal numbers are not allowed.");
    else if (options->has_minimum && is_less(value, &options->minimum))
        schema_problem_number(field, problems, "validation_min_number_constraint",
                              "Must be greater or equal than %s.", "min", &options->minimum);
    else if (options->has_maximum && is_less(&options->maximum, value))
        schema_problem_number(field, problems, "validation_max_number_constraint",
                              "Must be less or equal than %s.", "max", &options->maximum);
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct number_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    static const char *const names[] = {"min", "max"};
    options->has_minimum = schema_option_number(&reader, names[0], &options->minimum);
    options->has_maximum = schema_option_number(&reader, names[1], &options->maximum);
    options->is_only_int = schema_option_bool(&reader, "onlyInt");
    const bool has[] = {options->has_minimum, options->has_maximum};
    const struct bk_value *const bounds[] = {&options->minimum, &options->maximum};
    for (size_t i = 0; i < 2; i++)
        if (options->is_only_int && has[i] && !is_integer(bounds[i]))
            schema_option_problem(&reader, names[i], "validation_only_int_constraint",
                                  "Decimal numbers are not allowed.");
    if (has[0] && has[1] && is_less(&options->maximum, &options->minimum)) {
        const struct bk_field maximum = {
            .name = bk_arena_format(problems->arena, "%.*s.max", BK_SLICE_PRINT(path))};
        schema_problem_number(&maximum, problems, "validation_min_number_constraint",
                              "Must be greater or equal than %s.", "min", &options->minimum);
    }
}

static void write_bound(struct bk_buffer *out, struct bk_slice name, bool has,
                        const struct bk_value *bound) {
    bk_json_write_key(out, name);
    if (has)
        write_number(out, bound);
    else
        bk_buffer_append_literal(out, "null");
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct number_options *options = field->options;
    write_bound(out, BK_SLICE("max"), options->has_maximum, &options->maximum);
    write_bound(out, BK_SLICE("min"), options->has_minimum, &options->minimum);
    bk_json_write_member_bool(out, BK_SLICE("onlyInt"), options->is_only_int);
}

static void write_json(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out) {
    (void)field;
    write_number(out, value);
}

const struct bk_field_type schema_type_number = {
    .name = "number",
    .column = "NUMERIC DEFAULT 0 NOT NULL",
    .options_size = sizeof(struct number_options),
    .configure = configure,
    .write_options = write_options,
    .normalise = normalise,
    .modifiers = BK_MODIFIER_APPEND | BK_MODIFIER_REMOVE,
    .modify = modify,
    .empty = empty,
    .validate = validate,
    .write_json = write_json,
};
