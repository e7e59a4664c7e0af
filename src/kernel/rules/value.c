/*
 * Values: what the operands of a comparison stand for, and how they are written in SQL. Whatever
 * comes from a client is bound; what stands in the SQL are names of the schema.
 */
#include "rules_private.h"

#include "bakend/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DAY_MS = 24 * 60 * 60 * 1000, VALUES_AT_FIRST = 16 };

enum bk_status filter_refuse_name(struct bk_filter_query *query,
                                  const struct filter_operand *operand, const char *format, ...) {
    char message[BK_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return bk_error_set(query->error, BK_INVALID, "at %zu: %s", operand->position + 1, message);
}

/* --- constants -------------------------------------------------------------------------------- */

struct filter_constant *filter_constant_make(struct bk_filter_query *query,
                                             const struct bk_value *value) {
    struct filter_constant *constant = bk_arena_alloc_zero(query->arena, sizeof *constant);
    constant->query = query;
    constant->value = *value;
    return constant;
}

static void number_constant(struct filter_constant *constant) {
    struct bk_filter_query *query = constant->query;
    if (query->value_count == query->value_capacity) {
        uint32_t capacity =
            query->value_capacity == 0 ? VALUES_AT_FIRST : 2 * query->value_capacity;
        struct bk_value *values = bk_arena_alloc(query->arena, capacity * sizeof *values);
        if (query->arena->is_overflown)
            return;
        if (query->value_count > 0)
            memcpy(values, query->values, query->value_count * sizeof *values);
        query->values = values;
        query->value_capacity = capacity;
    }
    query->values[query->value_count] = constant->value;
    constant->number = (uint32_t)query->scope.first_parameter + query->value_count++;
}

void filter_constant_write(struct filter_constant *constant, struct bk_buffer *out) {
    if (constant->number == 0)
        number_constant(constant);
    bk_buffer_append_char(out, '?');
    bk_json_write_int(out, constant->number);
}

void filter_value_bind(struct bk_filter_query *query, const struct bk_value *constant,
                       struct filter_value *value) {
    *value = (struct filter_value){.kind = FILTER_VALUE_PARAMETER,
                                   .constant = filter_constant_make(query, constant)};
}

static void set_literal(struct filter_value *value, struct bk_slice text) {
    *value = (struct filter_value){.kind = FILTER_VALUE_LITERAL, .text = text};
}

/* A double, as in the contract: a text is compared with "5.0". Whole numbers that a double would
 * round are kept. */
static enum bk_status resolve_number(struct bk_filter_query *query,
                                     const struct filter_operand *operand,
                                     struct filter_value *value) {
    static const double exact_max = 9007199254740992.0; /* 2^53 */
    struct bk_slice copy = bk_arena_copy(query->arena, operand->text);
    struct bk_value number = BK_VALUE_OF_REAL(copy.length == 0 ? 0 : strtod(copy.data, NULL));
    int64_t integer;
    if ((number.real >= exact_max || number.real <= -exact_max) &&
        bk_slice_to_int64(operand->text, &integer))
        number = BK_VALUE_OF_INT(integer);
    filter_value_bind(query, &number, value);
    return BK_OK;
}

/* --- macros ----------------------------------------------------------------------------------- */

static int64_t days_since(int year, int month, int day) {
    struct tm date = {.tm_year = year - 1900, .tm_mon = month, .tm_mday = day};
    return (int64_t)timegm(&date) * 1000;
}

static bool moment_of(struct bk_slice name, int64_t now_ms, int64_t *at_ms) {
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm now;
    gmtime_r(&seconds, &now);
    int year = now.tm_year + 1900, month = now.tm_mon;
    if (bk_slice_is(name, "@now"))
        *at_ms = now_ms;
    else if (bk_slice_is(name, "@yesterday"))
        *at_ms = now_ms - DAY_MS;
    else if (bk_slice_is(name, "@tomorrow"))
        *at_ms = now_ms + DAY_MS;
    else if (bk_slice_is(name, "@todayStart"))
        *at_ms = days_since(year, month, now.tm_mday);
    else if (bk_slice_is(name, "@todayEnd"))
        *at_ms = days_since(year, month, now.tm_mday + 1) - 1;
    else if (bk_slice_is(name, "@monthStart"))
        *at_ms = days_since(year, month, 1);
    else if (bk_slice_is(name, "@monthEnd"))
        *at_ms = days_since(year, month + 1, 1) - 1;
    else if (bk_slice_is(name, "@yearStart"))
        *at_ms = days_since(year, 0, 1);
    else if (bk_slice_is(name, "@yearEnd"))
        *at_ms = days_since(year + 1, 0, 1) - 1;
    else
        return false;
    return true;
}

static bool part_of(struct bk_slice name, int64_t now_ms, int64_t *number) {
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm now;
    gmtime_r(&seconds, &now);
    const struct {
        const char *name;
        int number;
    } parts[] = {{"@second", now.tm_sec},      {"@minute", now.tm_min},
                 {"@hour", now.tm_hour},       {"@day", now.tm_mday},
                 {"@month", now.tm_mon + 1},   {"@weekday", now.tm_wday},
                 {"@year", now.tm_year + 1900}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (bk_slice_equal(name, bk_slice_from(parts[i].name))) {
            *number = parts[i].number;
            return true;
        }
    }
    return false;
}

bool filter_macro_value(struct bk_slice name, int64_t now_ms, char *text, struct bk_value *value) {
    int64_t number;
    if (part_of(name, now_ms, &number)) {
        *value = BK_VALUE_OF_INT(number);
        return true;
    }
    if (!moment_of(name, now_ms, &number))
        return false;
    bk_time_format(text, number, ' ');
    *value = BK_VALUE_OF_TEXT(bk_slice_make(text, BK_TIME_TEXT_BYTES));
    return true;
}

static bool resolve_macro(struct bk_filter_query *query, struct bk_slice name,
                          struct filter_value *value) {
    char text[BK_TIME_TEXT_BYTES];
    struct bk_value now;
    bool is_path = bk_slice_find(name, '.') < name.length; /* @request.auth.id is one */
    if (name.data[0] != '@' || is_path ||
        !filter_macro_value(name, query->scope.now_ms, text, &now))
        return false;
    if (now.type == BK_VALUE_TEXT)
        now.text = bk_arena_copy(query->arena, now.text);
    filter_value_bind(query, &now, value);
    value->constant->macro = name;
    value->constant->next = query->macros;
    query->macros = value->constant;
    return true;
}

/* --- identifiers ------------------------------------------------------------------------------ */

static bool resolve_word(struct bk_slice word, struct filter_value *value) {
    if (bk_slice_equal_ignore_case(word, BK_SLICE("null")))
        *value = (struct filter_value){.kind = FILTER_VALUE_NULL};
    else if (bk_slice_equal_ignore_case(word, BK_SLICE("true")))
        set_literal(value, BK_SLICE("1"));
    else if (bk_slice_equal_ignore_case(word, BK_SLICE("false")))
        set_literal(value, BK_SLICE("0"));
    else
        return false;
    return true;
}

/* A field may be called like a word of the language; then it is the field. */
static enum bk_status resolve_identifier(struct bk_filter_query *query,
                                         const struct filter_operand *operand,
                                         struct filter_value *value) {
    struct bk_slice name = operand->text;
    if (resolve_macro(query, name, value))
        return BK_OK;
    if (query->is_of_event && name.data[0] == '@')
        return filter_refuse_name(query, operand, "events have no %.*s", BK_SLICE_PRINT(name));
    if (bk_slice_starts_with(name, BK_SLICE("@request.")))
        return filter_request_resolve(query, operand, value);
    struct bk_error former = query->error == NULL ? (struct bk_error)BK_ERROR_INIT : *query->error;
    enum bk_status status = filter_field_resolve(query, operand, value);
    if (status != BK_INVALID || !resolve_word(name, value))
        return status;
    if (query->error != NULL)
        *query->error = former;
    return BK_OK;
}

/* --- functions -------------------------------------------------------------------------------- */

static enum bk_status resolve_arguments(struct bk_filter_query *query,
                                        const struct filter_operand *operand,
                                        struct filter_value *value) {
    const struct filter_operand *argument = operand->arguments;
    value->arguments = bk_arena_alloc_zero(query->arena, (operand->argument_count + 1) *
                                                             sizeof(struct filter_value));
    value->argument_count = operand->argument_count;
    if (query->arena->is_overflown)
        return bk_arena_status(query->arena);
    for (uint32_t i = 0; i < operand->argument_count; i++, argument = argument->next) {
        enum bk_status status = filter_value_resolve(query, argument, &value->arguments[i]);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

/* geoDistance(lonA, latA, lonB, latB): kilometres. */
static enum bk_status resolve_distance(struct bk_filter_query *query,
                                       const struct filter_operand *operand,
                                       struct filter_value *value) {
    if (operand->argument_count != 4)
        return filter_refuse_name(query, operand,
                                  "geoDistance takes four numbers or fields: lon, lat, lon, lat");
    for (const struct filter_operand *each = operand->arguments; each != NULL; each = each->next)
        if (each->type != FILTER_IDENTIFIER && each->type != FILTER_NUMBER)
            return filter_refuse_name(query, each, "geoDistance takes numbers and fields");
    *value = (struct filter_value){.kind = FILTER_VALUE_DISTANCE, .fallback = FILTER_FALLBACK_NONE};
    return resolve_arguments(query, operand, value);
}

/* What takes no SQLite: see strftime.c. */
static bool is_for_events(const struct filter_operand *operand) {
    struct bk_slice format = operand->arguments->text;
    for (size_t i = 0; i + 1 < format.length; i++)
        if (format.data[i] == '%' && format.data[++i] == 'J')
            return false;
    return operand->argument_count <= 2;
}

/* strftime(format, [time, modifier …]), as SQLite has it. */
static enum bk_status resolve_strftime(struct bk_filter_query *query,
                                       const struct filter_operand *operand,
                                       struct filter_value *value) {
    const struct filter_operand *each = operand->arguments;
    if (each == NULL || each->type != FILTER_TEXT)
        return filter_refuse_name(query, operand, "strftime begins with a text: its format");
    if (each->next != NULL && each->next->type == FILTER_FUNCTION)
        return filter_refuse_name(query, each->next, "strftime takes a field, a text or a number");
    for (each = each->next == NULL ? NULL : each->next->next; each != NULL; each = each->next)
        if (each->type != FILTER_TEXT)
            return filter_refuse_name(query, each, "the modifiers of strftime are texts");
    *value =
        (struct filter_value){.kind = FILTER_VALUE_STRFTIME, .fallback = FILTER_FALLBACK_ALWAYS};
    if (query->is_of_event && !is_for_events(operand))
        return filter_refuse_name(query, operand,
                                  "strftime of events takes a format without %%J and a time");
    query->needs_sqlite = true;
    enum bk_status status = resolve_arguments(query, operand, value);
    if (status == BK_OK && value->argument_count > 1) {
        value->is_many = value->arguments[1].is_many;
        value->join = value->arguments[1].join;
    }
    return status;
}

static enum bk_status resolve_function(struct bk_filter_query *query,
                                       const struct filter_operand *operand,
                                       struct filter_value *value) {
    if (bk_slice_is(operand->text, "geoDistance"))
        return resolve_distance(query, operand, value);
    if (bk_slice_is(operand->text, "strftime"))
        return resolve_strftime(query, operand, value);
    return filter_refuse_name(query, operand, "there is no function %.*s: geoDistance or strftime",
                              BK_SLICE_PRINT(operand->text));
}

enum bk_status filter_value_resolve(struct bk_filter_query *query,
                                    const struct filter_operand *operand,
                                    struct filter_value *value) {
    *value = (struct filter_value){0};
    if (operand->type == FILTER_IDENTIFIER)
        return resolve_identifier(query, operand, value);
    if (operand->type == FILTER_FUNCTION)
        return resolve_function(query, operand, value);
    if (operand->type == FILTER_NUMBER)
        return resolve_number(query, operand, value);
    struct bk_value text = BK_VALUE_OF_TEXT(operand->text);
    filter_value_bind(query, &text, value);
    return BK_OK;
}

/* --- SQL -------------------------------------------------------------------------------------- */

static void write_column(const struct filter_value *value, char letter, struct bk_buffer *out) {
    filter_join_write_name(value->join, letter, out);
    bk_buffer_append_char(out, '.');
    bk_buffer_append_slice(out, value->field->quoted);
}

/* What a column holds may be JSON, or a text that is none. */
static void write_json(const struct filter_value *value, char letter, struct bk_buffer *out) {
    bk_buffer_append_literal(out, "(CASE WHEN json_valid(");
    write_column(value, letter, out);
    bk_buffer_append_literal(out, ") THEN json_extract(");
    write_column(value, letter, out);
    bk_buffer_format(out, ",'$%.*s') ELSE json_extract(json_object('v',",
                     BK_SLICE_PRINT(value->text));
    write_column(value, letter, out);
    bk_buffer_format(out, "),'$.v%.*s') END)", BK_SLICE_PRINT(value->text));
}

static void write_length(const struct filter_value *value, char letter, struct bk_buffer *out) {
    static const char *const parts[] = {"json_array_length(CASE WHEN iif(json_valid(",
                                        "),json_type(", ")='array',0) THEN ", " WHEN ", "='' OR "};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        bk_buffer_append_slice(out, bk_slice_from(parts[i]));
        write_column(value, letter, out);
    }
    /* The value itself may be what SQLite has put in for the column from another comparison, an
     * infinite number, of which it makes JSON that it cannot read. */
    bk_buffer_append_literal(out, " IS NULL THEN json_array() ELSE json_array(0) END)");
}

static void write_distance(const struct filter_value *value, char letter, struct bk_buffer *out) {
    /* lon A 0, lat A 1, lon B 2, lat B 3 */
    static const struct {
        const char *before;
        int argument;
    } parts[] = {{"(6371*acos(cos(radians(", 1}, {"))*cos(radians(", 3},
                 {"))*cos(radians(", 2},         {")-radians(", 0},
                 {"))+sin(radians(", 1},         {"))*sin(radians(", 3}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        bk_buffer_append_slice(out, bk_slice_from(parts[i].before));
        filter_value_write(&value->arguments[parts[i].argument], letter, out);
    }
    bk_buffer_append_literal(out, "))))");
}

static void write_strftime(const struct filter_value *value, char letter, struct bk_buffer *out) {
    bk_buffer_append_literal(out, "strftime(");
    for (uint32_t i = 0; i < value->argument_count; i++) {
        if (i > 0)
            bk_buffer_append_char(out, ',');
        filter_value_write(&value->arguments[i], letter, out);
    }
    bk_buffer_append_char(out, ')');
}

static void write_kind(const struct filter_value *value, char letter, struct bk_buffer *out) {
    switch (value->kind) {
    case FILTER_VALUE_NULL:
        bk_buffer_append_literal(out, "NULL");
        break;
    case FILTER_VALUE_LITERAL:
        bk_buffer_append_slice(out, value->text);
        break;
    case FILTER_VALUE_PARAMETER:
        filter_constant_write(value->constant, out);
        break;
    case FILTER_VALUE_COLUMN:
        write_column(value, letter, out);
        break;
    case FILTER_VALUE_JSON:
        write_json(value, letter, out);
        break;
    case FILTER_VALUE_LENGTH:
        write_length(value, letter, out);
        break;
    case FILTER_VALUE_ELEMENT:
        filter_join_write_name(value->join, letter, out);
        bk_buffer_append_literal(out, ".value");
        break;
    case FILTER_VALUE_DISTANCE:
        write_distance(value, letter, out);
        break;
    case FILTER_VALUE_STRFTIME:
        write_strftime(value, letter, out);
        break;
    case FILTER_VALUE_CONDITION:
        filter_tests_write(value->condition, out);
        break;
    }
}

void filter_value_write(const struct filter_value *value, char letter, struct bk_buffer *out) {
    if (value->is_expression)
        bk_buffer_append_char(out, '+');
    if (value->is_lower)
        bk_buffer_append_literal(out, "LOWER(");
    write_kind(value, letter, out);
    if (value->is_lower)
        bk_buffer_append_char(out, ')');
}
