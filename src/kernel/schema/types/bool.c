/* bool: 0 or 1 in its column. A required one must be true. What a view computes is true where it is
 * 1, as in a filter, and not where it is any other number. */
#include "types.h"

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    (void)field;
    (void)arena;
    *value = BK_VALUE_OF_INT(schema_cast_bool(input));
}

static void empty(const struct bk_field *field, struct bk_value *value) {
    (void)field;
    *value = BK_VALUE_OF_INT(0);
}

static bool is_true(const struct bk_value *value) {
    return value->type == BK_VALUE_INT && value->integer == 1;
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    if (!is_true(value))
        schema_problem_if_required(field, problems);
}

static void write_json(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out) {
    (void)field;
    bk_json_write_bool(out, is_true(value));
}

const struct bk_field_type schema_type_bool = {
    .name = "bool",
    .column = "BOOLEAN DEFAULT FALSE NOT NULL",
    .normalise = normalise,
    .empty = empty,
    .validate = validate,
    .write_json = write_json,
};
