/*
 * Numbers and texts as SQLite has them: what a column's affinity makes of a value before it is
 * compared, how numbers are written as texts, which texts are numbers. It follows
 * https://www.sqlite.org/datatype3.html, sections 3 and 4.
 */
#include "rules_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBER_BYTES_MAX = 400 /* longer texts are no number that anybody means */ };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

enum filter_affinity filter_column_affinity(const struct bk_field *field) {
    const char *column =
        field->type->column_of == NULL ? field->type->column : field->type->column_of(field);
    return strncmp(column, "TEXT", 4) == 0 ? FILTER_AFFINITY_TEXT : FILTER_AFFINITY_NUMERIC;
}

enum filter_affinity filter_new_affinity(const struct bk_field *field, enum bk_question_of of) {
    if (of == BK_QUESTION_OF_VALUES || (of == BK_QUESTION_OF_EVENT && bk_field_is_multiple(field)))
        return FILTER_AFFINITY_NONE;
    return filter_column_affinity(field);
}

/* --- texts that are numbers ------------------------------------------------------------------- */

static size_t skip_digits(struct bk_slice text, size_t at) {
    while (at < text.length && is_digit(text.data[at]))
        at++;
    return at;
}

/* Where an exponent ends; at: none. */
static size_t skip_exponent(struct bk_slice text, size_t at) {
    size_t digits = at + 1;
    if (at == text.length || (text.data[at] != 'e' && text.data[at] != 'E'))
        return at;
    if (digits < text.length && (text.data[digits] == '+' || text.data[digits] == '-'))
        digits++;
    size_t end = skip_digits(text, digits);
    return end > digits ? end : at;
}

/* A whole number of any form; is_integer: it has neither dot nor exponent. */
static bool is_number(struct bk_slice text, bool *is_integer) {
    size_t at = text.length > 0 && (text.data[0] == '-' || text.data[0] == '+') ? 1 : 0;
    size_t whole = skip_digits(text, at), digits = whole - at, end = whole;
    *is_integer = true;
    if (end < text.length && text.data[end] == '.') {
        size_t after = skip_digits(text, end + 1);
        digits += after - end - 1;
        end = after;
        *is_integer = false;
    }
    if (digits == 0)
        return false;
    size_t exponent = skip_exponent(text, end);
    *is_integer = *is_integer && exponent == end;
    return exponent == text.length;
}

static struct bk_value read_number(struct bk_slice text, bool is_integer) {
    char copy[NUMBER_BYTES_MAX + 1];
    struct bk_slice digits = text;
    int64_t integer;
    if (text.data[0] == '+')
        digits = bk_slice_make(text.data + 1, text.length - 1);
    if (is_integer && bk_slice_to_int64(digits, &integer))
        return BK_VALUE_OF_INT(integer);
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    return BK_VALUE_OF_REAL(strtod(copy, NULL));
}

struct bk_value filter_numeric_of(const struct bk_value *value) {
    struct bk_slice text = value->text;
    bool is_integer;
    if (value->type != BK_VALUE_TEXT)
        return *value;
    while (text.length > 0 && is_space(text.data[0]))
        text = bk_slice_make(text.data + 1, text.length - 1);
    while (text.length > 0 && is_space(text.data[text.length - 1]))
        text.length--;
    if (text.length == 0 || text.length > NUMBER_BYTES_MAX || !is_number(text, &is_integer))
        return *value;
    return read_number(text, is_integer);
}

bool filter_is_true(const struct bk_value *value) {
    struct bk_slice text = value->text;
    size_t at = 0;
    if (value->type != BK_VALUE_TEXT)
        return value->type == BK_VALUE_INT ? value->integer != 0 : value->real != 0;
    while (at < text.length && is_space(text.data[at]))
        at++;
    if (at < text.length && (text.data[at] == '-' || text.data[at] == '+'))
        at++;
    bool has_dot = false;
    for (; at < text.length; at++) {
        char c = text.data[at];
        if (c >= '1' && c <= '9')
            return true;
        if (c != '0' && (c != '.' || has_dot))
            return false;
        has_dot = has_dot || c == '.';
    }
    return false;
}

struct bk_value filter_number_of(struct bk_slice text) {
    bool is_integer;
    if (text.length > NUMBER_BYTES_MAX || !is_number(text, &is_integer))
        return BK_VALUE_OF_REAL(0);
    return read_number(text, is_integer);
}

/* --- numbers that become texts ---------------------------------------------------------------- */

/* Fifteen digits, with a dot in any case. */
static struct bk_slice write_real(struct bk_arena *arena, double real) {
    char text[40];
    if (isinf(real))
        return real > 0 ? BK_SLICE("Inf") : BK_SLICE("-Inf");
    if (real == 0)
        real = 0; /* -0 has no sign */
    int length = snprintf(text, sizeof text, "%.15g", real);
    struct bk_slice whole = bk_slice_make(text, (size_t)length);
    size_t exponent = bk_slice_find(whole, 'e');
    if (bk_slice_find(whole, '.') < whole.length)
        return bk_arena_copy(arena, whole);
    return bk_arena_format(arena, "%.*s.0%s", (int)exponent, text, text + exponent);
}

struct bk_slice filter_text_of(struct bk_arena *arena, const struct bk_value *value) {
    switch (value->type) {
    case BK_VALUE_NULL:
        return BK_SLICE_EMPTY;
    case BK_VALUE_INT:
        return bk_arena_format(arena, "%lld", (long long)value->integer);
    case BK_VALUE_REAL:
        return write_real(arena, value->real);
    case BK_VALUE_TEXT:
        break;
    }
    return value->text;
}

/* --- comparing -------------------------------------------------------------------------------- */

/* Without losing digits of the integer. */
static int compare_int_with_real(int64_t integer, double real) {
    if (real < -9223372036854775808.0)
        return 1;
    if (real >= 9223372036854775808.0)
        return -1;
    int64_t whole = (int64_t)real;
    if (integer != whole)
        return integer < whole ? -1 : 1;
    double rounded = (double)integer;
    return rounded < real ? -1 : rounded > real;
}

static int compare_numbers(const struct bk_value *a, const struct bk_value *b) {
    if (a->type == BK_VALUE_INT && b->type == BK_VALUE_INT)
        return a->integer < b->integer ? -1 : a->integer > b->integer;
    if (a->type == BK_VALUE_INT)
        return compare_int_with_real(a->integer, b->real);
    if (b->type == BK_VALUE_INT)
        return -compare_int_with_real(b->integer, a->real);
    return a->real < b->real ? -1 : a->real > b->real;
}

/* Numbers come before texts. */
static int compare_plain(const struct bk_value *a, const struct bk_value *b) {
    bool is_text = a->type == BK_VALUE_TEXT, is_other_text = b->type == BK_VALUE_TEXT;
    if (is_text && is_other_text)
        return bk_slice_compare(a->text, b->text);
    if (is_text != is_other_text)
        return is_text ? 1 : -1;
    return compare_numbers(a, b);
}

/* The affinity that a comparison has, of those of its sides. */
static enum filter_affinity join_affinities(enum filter_affinity left, enum filter_affinity right) {
    if (left == FILTER_AFFINITY_NONE || right == FILTER_AFFINITY_NONE)
        return left == FILTER_AFFINITY_NONE ? right : left;
    return left == FILTER_AFFINITY_NUMERIC || right == FILTER_AFFINITY_NUMERIC
               ? FILTER_AFFINITY_NUMERIC
               : FILTER_AFFINITY_BLOB;
}

int filter_compare_values(struct bk_arena *arena, const struct bk_value *left,
                          enum filter_affinity left_affinity, const struct bk_value *right,
                          enum filter_affinity right_affinity) {
    enum filter_affinity affinity = join_affinities(left_affinity, right_affinity);
    struct bk_value a = *left, b = *right;
    if (a.type == BK_VALUE_TEXT && b.type == BK_VALUE_TEXT && affinity != FILTER_AFFINITY_NUMERIC)
        return bk_slice_compare(a.text, b.text);
    if (affinity == FILTER_AFFINITY_NUMERIC) {
        a = filter_numeric_of(left);
        b = filter_numeric_of(right);
    } else if (affinity == FILTER_AFFINITY_TEXT) {
        a = BK_VALUE_OF_TEXT(filter_text_of(arena, left));
        b = BK_VALUE_OF_TEXT(filter_text_of(arena, right));
    }
    return compare_plain(&a, &b);
}
