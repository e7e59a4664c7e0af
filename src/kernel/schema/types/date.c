/* date: a moment, kept as "2006-01-02 15:04:05.000Z", so that text order is time order. */
#include "types.h"

#include "bakend/clock.h"
#include <stdio.h>

struct date_options {
    struct bk_slice minimum, maximum; /* normalised, or empty */
};

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    (void)field;
    *value = BK_VALUE_OF_TEXT(schema_date_normalise(schema_cast_text(input, arena), arena));
}

/* The threshold in the message and in the params is in the forms that the contract prints there:
 * "2020-01-01 00:00:00 +0000 UTC" and "2020-01-01T00:00:00Z", fractions without trailing zeros. */
static void problem_bound(struct bk_slice path, struct bk_problems *problems, bool is_minimum,
                          struct bk_slice bound) {
    char message[128], params[96];
    size_t fraction = 23; /* the digits end there */
    while (fraction > 20 && bound.data[fraction - 1] == '0')
        fraction--;
    if (fraction == 20)
        fraction = 19; /* the point too */
    int length = (int)fraction;
    snprintf(message, sizeof message, "Must be no %s than %.*s +0000 UTC.",
             is_minimum ? "less" : "greater", length, bound.data);
    snprintf(params, sizeof params, "{\"threshold\":\"%.10sT%.*sZ\"}", bound.data, length - 11,
             bound.data + 11);
    bk_problems_add_params(problems, path,
                           is_minimum ? "validation_min_greater_equal_than_required"
                                      : "validation_max_less_equal_than_required",
                           message, bk_slice_from(params));
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    const struct date_options *options = field->options;
    if (schema_value_is_empty_text(value))
        schema_problem_if_required(field, problems);
    else if (options->minimum.length > 0 && bk_slice_compare(value->text, options->minimum) < 0)
        problem_bound(field->name, problems, true, options->minimum);
    else if (options->maximum.length > 0 && bk_slice_compare(value->text, options->maximum) > 0)
        problem_bound(field->name, problems, false, options->maximum);
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct date_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    options->minimum = schema_date_normalise(schema_option_text(&reader, "min"), arena);
    options->maximum = schema_date_normalise(schema_option_text(&reader, "max"), arena);
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct date_options *options = field->options;
    bk_json_write_member_string(out, BK_SLICE("max"), options->maximum);
    bk_json_write_member_string(out, BK_SLICE("min"), options->minimum);
}

const struct bk_field_type schema_type_date = {
    .name = "date",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct date_options),
    .configure = configure,
    .write_options = write_options,
    .normalise = normalise,
    .empty = schema_text_empty,
    .validate = validate,
    .write_json = schema_text_write_json,
};
