/*
 * What the value of a comparison is, for a record that is in memory: the same as the expression
 * that it is written as in SQL would give. False: it is in a table, or takes SQLite (strftime with
 * modifiers).
 */
#include "rules_private.h"

#include "bakend/clock.h"

#include <math.h>

struct filter_row *filter_row_of(struct filter_evaluation *evaluation,
                                 const struct filter_join *join) {
    if (join->kind == FILTER_JOIN_BASE)
        return &evaluation->row;
    bool is_auth = join->kind == FILTER_JOIN_IDS && join->field == NULL;
    return is_auth && evaluation->auth.values != NULL ? &evaluation->auth : NULL;
}

enum filter_affinity filter_value_affinity(const struct filter_evaluation *evaluation,
                                           const struct filter_value *value) {
    if (value->is_lower || value->is_expression)
        return FILTER_AFFINITY_NONE;
    if (value->kind == FILTER_VALUE_ELEMENT)
        return FILTER_AFFINITY_BLOB;
    if (value->kind != FILTER_VALUE_COLUMN)
        return FILTER_AFFINITY_NONE;
    if (value->join->kind != FILTER_JOIN_BASE)
        return filter_column_affinity(value->field);
    return filter_new_affinity(value->field, evaluation->of);
}

/* --- constants -------------------------------------------------------------------------------- */

static struct bk_value constant_of(struct filter_evaluation *evaluation,
                                   const struct filter_constant *constant) {
    struct bk_value now;
    if (constant->macro.length == 0)
        return constant->value;
    char *text = bk_arena_alloc(evaluation->arena, BK_TIME_TEXT_BYTES);
    return filter_macro_value(constant->macro, evaluation->now_ms, text, &now) ? now
                                                                               : constant->value;
}

static struct bk_value literal_of(const struct filter_value *value) {
    int64_t number = bk_slice_is(value->text, "TRUE") ? 1 : 0;
    (void)bk_slice_to_int64(value->text, &number);
    return BK_VALUE_OF_INT(number);
}

/* --- columns ---------------------------------------------------------------------------------- */

static bool compute_json(struct filter_evaluation *evaluation, const struct filter_value *value,
                         struct bk_value *out) {
    struct filter_row *row = filter_row_of(evaluation, value->join);
    const struct bk_json *json;
    if (row == NULL)
        return false;
    switch (filter_row_json(row, value->field, &json)) {
    case FILTER_JSON_IS:
        *out = filter_json_value(evaluation->arena, filter_json_at(json, value->text));
        return true;
    case FILTER_JSON_IS_NOT:
        *out = value->text.length == 0 ? row->values[value->field->index] : BK_VALUE_OF_NULL;
        return true;
    case FILTER_JSON_UNKNOWN:
        break;
    }
    return false;
}

static int64_t length_of(const struct bk_json *json) {
    return json->type == BK_JSON_ARRAY ? (int64_t)json->child_count : 1;
}

/* What is not there, or empty, has no elements. */
static bool compute_length(struct filter_evaluation *evaluation, const struct filter_value *value,
                           struct bk_value *out) {
    struct filter_row *row = filter_row_of(evaluation, value->join);
    const struct bk_json *json = NULL;
    if (row == NULL)
        return false;
    enum filter_json kind = filter_row_json(row, value->field, &json);
    const struct bk_value *held = &row->values[value->field->index];
    if (kind == FILTER_JSON_UNKNOWN)
        return false;
    if (value->is_of_path) {
        json = kind == FILTER_JSON_IS ? filter_json_at(json, value->text) : NULL;
        bool is_there = json != NULL && json->type != BK_JSON_NULL;
        *out = BK_VALUE_OF_INT(is_there ? length_of(json) : 0);
    } else if (kind == FILTER_JSON_IS) {
        *out = BK_VALUE_OF_INT(length_of(json));
    } else {
        bool is_there =
            held->type != BK_VALUE_NULL && (held->type != BK_VALUE_TEXT || held->text.length > 0);
        *out = BK_VALUE_OF_INT(is_there ? 1 : 0);
    }
    return true;
}

static bool compute_element(const struct filter_evaluation *evaluation,
                            const struct filter_value *value, const struct filter_elements *chosen,
                            struct bk_value *out) {
    if (chosen != NULL && chosen->join == value->join) {
        *out = chosen->items[chosen->at];
        return true;
    }
    for (uint32_t i = 0; i < evaluation->element_count; i++) {
        const struct filter_elements *elements = &evaluation->elements[i];
        if (elements->join == value->join && elements->count > 0) {
            *out = elements->items[elements->at];
            return true;
        }
    }
    return false;
}

/* --- functions -------------------------------------------------------------------------------- */

static bool number_of(const struct bk_value *value, double *number) {
    struct bk_value numeric = filter_numeric_of(value);
    if (numeric.type == BK_VALUE_INT)
        *number = (double)numeric.integer;
    else if (numeric.type == BK_VALUE_REAL)
        *number = numeric.real;
    else
        return false;
    return true;
}

static double radians(double degrees) { return degrees * (M_PI / 180.0); }

/* In the order of the SQL, so that not even the last bit differs. */
static bool compute_distance(struct filter_evaluation *evaluation, const struct filter_value *value,
                             const struct filter_elements *chosen, struct bk_value *out) {
    double at[4]; /* lon A, lat A, lon B, lat B */
    struct bk_value argument;
    bool is_known = true;
    for (uint32_t i = 0; i < 4; i++) {
        if (!filter_compute(evaluation, &value->arguments[i], chosen, &argument))
            return false;
        is_known = is_known && number_of(&argument, &at[i]);
    }
    *out = BK_VALUE_OF_NULL;
    if (!is_known)
        return true;
    double cosines = cos(radians(at[1])) * cos(radians(at[3]));
    double angle = acos(cosines * cos(radians(at[2]) - radians(at[0])) +
                        sin(radians(at[1])) * sin(radians(at[3])));
    if (!isnan(angle))
        *out = BK_VALUE_OF_REAL(6371 * angle);
    return true;
}

static bool compute_strftime(struct filter_evaluation *evaluation, const struct filter_value *value,
                             const struct filter_elements *chosen, struct bk_value *out) {
    struct bk_value format, time = BK_VALUE_OF_TEXT(BK_SLICE("now"));
    if (value->argument_count > 2 ||
        !filter_compute(evaluation, &value->arguments[0], chosen, &format) ||
        (value->argument_count == 2 &&
         !filter_compute(evaluation, &value->arguments[1], chosen, &time)))
        return false;
    return filter_strftime(evaluation->arena, &format, &time, evaluation->now_ms, out);
}

/* --- all of them ------------------------------------------------------------------------------ */

static void make_lower(struct bk_arena *arena, struct bk_value *value) {
    if (value->type == BK_VALUE_NULL)
        return;
    struct bk_slice text = filter_text_of(arena, value);
    char *lower = bk_arena_alloc(arena, text.length + 1);
    if (arena->is_overflown)
        return;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        lower[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    *value = BK_VALUE_OF_TEXT(bk_slice_make(lower, text.length));
}

static bool compute_kind(struct filter_evaluation *evaluation, const struct filter_value *value,
                         const struct filter_elements *chosen, struct bk_value *out) {
    struct filter_row *row;
    switch (value->kind) {
    case FILTER_VALUE_NULL:
        *out = BK_VALUE_OF_NULL;
        return true;
    case FILTER_VALUE_LITERAL:
        *out = literal_of(value);
        return true;
    case FILTER_VALUE_PARAMETER:
        *out = constant_of(evaluation, value->constant);
        return true;
    case FILTER_VALUE_COLUMN:
        row = filter_row_of(evaluation, value->join);
        if (row != NULL)
            *out = row->values[value->field->index];
        return row != NULL;
    case FILTER_VALUE_JSON:
        return compute_json(evaluation, value, out);
    case FILTER_VALUE_LENGTH:
        return compute_length(evaluation, value, out);
    case FILTER_VALUE_ELEMENT:
        return compute_element(evaluation, value, chosen, out);
    case FILTER_VALUE_DISTANCE:
        return compute_distance(evaluation, value, chosen, out);
    case FILTER_VALUE_CONDITION:
        return filter_compute_tests(evaluation, value->condition, out);
    case FILTER_VALUE_STRFTIME:
        return compute_strftime(evaluation, value, chosen, out);
    }
    BK_UNREACHABLE();
}

bool filter_compute(struct filter_evaluation *evaluation, const struct filter_value *value,
                    const struct filter_elements *chosen, struct bk_value *out) {
    if (!compute_kind(evaluation, value, chosen, out))
        return false;
    if (value->is_lower)
        make_lower(evaluation->arena, out);
    return !evaluation->arena->is_overflown;
}
