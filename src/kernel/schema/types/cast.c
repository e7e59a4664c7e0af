/* Reading untyped input. A client may send 12, "12" or true where a text is wanted, and the
 * contract says for each what becomes of it; nothing here fails, what cannot be read is empty. */
#include "types.h"

#include "bakend/assert.h"
#include "bakend/map.h"
#include <math.h>
#include <stdlib.h>

/* Room for any double written out without an exponent: 309 digits, a sign, a point, 340
 * decimals. */
enum { DECIMAL_BYTES_MAX = 700, NUMBER_TEXT_BYTES_MAX = 400 };

/* --- numbers as text -------------------------------------------------------------------------- */

/* Writes digits × 10^exponent without an exponent. */
static struct bk_slice expand(struct bk_arena *arena, bool is_negative, struct bk_slice digits,
                              int64_t exponent) {
    struct bk_buffer out;
    bk_buffer_init(&out, DECIMAL_BYTES_MAX);
    if (is_negative)
        bk_buffer_append_char(&out, '-');
    int64_t point = (int64_t)digits.length + exponent; /* digits before the decimal point */
    if (point <= 0)
        bk_buffer_append_literal(&out, "0.");
    for (int64_t i = point; i < 0; i++)
        bk_buffer_append_char(&out, '0');
    for (size_t i = 0; i < digits.length; i++) {
        if (point > 0 && (int64_t)i == point)
            bk_buffer_append_char(&out, '.');
        bk_buffer_append_char(&out, digits.data[i]);
    }
    for (int64_t i = 0; i < exponent; i++)
        bk_buffer_append_char(&out, '0');
    struct bk_slice text = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return text;
}

/* The shortest digits of the double, "1.5e+21" written out. */
static struct bk_slice double_text(struct bk_arena *arena, double number) {
    struct bk_buffer out;
    bk_buffer_init(&out, NUMBER_TEXT_BYTES_MAX);
    bk_json_write_double(&out, number);
    struct bk_slice text = bk_buffer_slice(&out);
    size_t mark = bk_slice_find(text, 'e');
    struct bk_slice result;
    if (mark == text.length) {
        result = bk_arena_copy(arena, text);
    } else {
        char digits[32];
        size_t count = 0;
        int64_t exponent = 0, decimals = 0;
        struct bk_slice tail = bk_slice_make(text.data + mark + 1, text.length - mark - 1);
        if (tail.data[0] == '+')
            tail = bk_slice_make(tail.data + 1, tail.length - 1);
        bool is_read = bk_slice_to_int64(tail, &exponent);
        BK_ASSERT(is_read);
        bool is_after_point = false;
        for (size_t i = 0; i < mark && count < sizeof digits; i++) {
            if (text.data[i] == '.') {
                is_after_point = true;
            } else if (text.data[i] != '-') {
                digits[count++] = text.data[i];
                decimals += is_after_point;
            }
        }
        result =
            expand(arena, text.data[0] == '-', bk_slice_make(digits, count), exponent - decimals);
    }
    bk_buffer_fini(&out);
    return result;
}

struct bk_slice schema_cast_text(const struct bk_json *input, struct bk_arena *arena) {
    int64_t integer;
    double real;
    switch (input->type) {
    case BK_JSON_STRING:
        return input->string;
    case BK_JSON_BOOL:
        return input->boolean ? BK_SLICE("true") : BK_SLICE("false");
    case BK_JSON_NUMBER:
        if (bk_json_to_int64(input, &integer) && integer == 0)
            return input->text.data[0] == '-' ? BK_SLICE("-0") : BK_SLICE("0");
        if (bk_json_to_int64(input, &integer))
            return bk_arena_format(arena, "%lld", (long long)integer);
        if (bk_json_to_double(input, &real))
            return double_text(arena, real);
        return BK_SLICE("");
    default:
        return BK_SLICE("");
    }
}

/* --- bool ------------------------------------------------------------------------------------- */

bool schema_cast_bool(const struct bk_json *input) {
    double number;
    switch (input->type) {
    case BK_JSON_BOOL:
        return input->boolean;
    case BK_JSON_NUMBER:
        return !bk_json_to_double(input, &number) || number < 0 || number > 0;
    case BK_JSON_STRING: {
        static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
        for (size_t i = 0; i < BK_COUNT_OF(yes); i++)
            if (bk_slice_equal(input->string, bk_slice_from(yes[i])))
                return true;
        return false;
    }
    default:
        return false;
    }
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* Infinity and NaN, which a text may name: kept, so that validation refuses them. */
static bool read_special(struct bk_slice text, double *number) {
    bool is_negative = text.length > 0 && text.data[0] == '-';
    if (text.length > 0 && (text.data[0] == '-' || text.data[0] == '+'))
        text = bk_slice_make(text.data + 1, text.length - 1);
    if (bk_slice_equal_ignore_case(text, BK_SLICE("inf")) ||
        bk_slice_equal_ignore_case(text, BK_SLICE("infinity")))
        *number = is_negative ? -INFINITY : INFINITY;
    else if (bk_slice_equal_ignore_case(text, BK_SLICE("nan")))
        *number = NAN;
    else
        return false;
    return true;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit somewhere before the e: what strtod may
 * see. */
static bool is_decimal(struct bk_slice text) {
    size_t i = 0, digits = 0, exponent_digits = 0;
    if (i < text.length && (text.data[i] == '+' || text.data[i] == '-'))
        i++;
    for (; i < text.length && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        digits++;
    if (i < text.length && text.data[i] == '.')
        i++;
    for (; i < text.length && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        digits++;
    if (digits == 0)
        return false;
    if (i == text.length)
        return true;
    if (text.data[i] != 'e' && text.data[i] != 'E')
        return false;
    i++;
    if (i < text.length && (text.data[i] == '+' || text.data[i] == '-'))
        i++;
    for (; i < text.length && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        exponent_digits++;
    return exponent_digits > 0 && i == text.length;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Without the underscores between digits, "1_000"; false when one stands elsewhere. */
static bool leave_out_underscores(struct bk_slice *text, char *copy) {
    size_t length = 0;
    for (size_t i = 0; i < text->length; i++) {
        if (text->data[i] != '_')
            copy[length++] = text->data[i];
        else if (i == 0 || i + 1 == text->length || !is_digit(text->data[i - 1]) ||
                 !is_digit(text->data[i + 1]))
            return false;
    }
    copy[length] = '\0';
    *text = bk_slice_make(copy, length);
    return true;
}

static bool read_double(struct bk_slice text, double *number) {
    char copy[NUMBER_TEXT_BYTES_MAX];
    if (read_special(text, number))
        return true;
    if (text.length >= sizeof copy || !leave_out_underscores(&text, copy) || !is_decimal(text))
        return false;
    *number = strtod(copy, NULL); /* the program never sets a locale */
    return isfinite(*number);     /* too large is unreadable, not infinite */
}

void schema_number_set(struct bk_value *value, double number) {
    if (isfinite(number) && number >= -9223372036854775808.0 && number < 9223372036854775808.0 &&
        floor(number) == number) /* NOLINT: exact on purpose */
        *value = BK_VALUE_OF_INT((int64_t)number);
    else
        *value = BK_VALUE_OF_REAL(number);
}

void schema_cast_number(const struct bk_json *input, struct bk_value *value) {
    int64_t integer;
    double number;
    *value = BK_VALUE_OF_INT(0);
    switch (input->type) {
    case BK_JSON_BOOL:
        value->integer = input->boolean;
        break;
    case BK_JSON_NUMBER:
        if (bk_json_to_int64(input, &integer))
            value->integer = integer;
        else if (bk_json_to_double(input, &number))
            schema_number_set(value, number);
        break;
    case BK_JSON_STRING:
        if (bk_slice_to_int64(input->string, &integer))
            value->integer = integer;
        else if (read_double(input->string, &number))
            schema_number_set(value, number);
        break;
    default:
        break;
    }
}

/* --- lists ------------------------------------------------------------------------------------ */

/* A short list is searched as it is; a long one, which a client may make as long as it likes, by
 * hash. */
enum { SEARCHED_ITEMS_MAX = 32 };

static void add_unique(struct schema_list *list, struct bk_map *seen, struct bk_slice text) {
    if (text.length == 0)
        return;
    if (seen != NULL) {
        if (bk_map_put(seen, text, list) != NULL)
            return;
    } else {
        for (uint32_t i = 0; i < list->count; i++)
            if (bk_slice_equal(list->items[i], text))
                return;
    }
    list->items[list->count++] = text;
}

/* False when an element has no text form: the whole is unreadable then. */
static bool cast_array(const struct bk_json *array, bool is_texts_only, struct bk_arena *arena,
                       struct schema_list *list) {
    size_t bytes = sizeof(struct bk_slice) * (array->child_count + 1);
    list->items = bk_arena_alloc(arena, bytes);
    list->count = 0;
    if (list->items == NULL || arena->is_overflown)
        return false;
    struct bk_map seen;
    bk_map_init(&seen);
    bool is_long = array->child_count > SEARCHED_ITEMS_MAX, is_readable = true;
    for (const struct bk_json *child = array->child; child != NULL; child = child->next) {
        is_readable = child->type != BK_JSON_ARRAY && child->type != BK_JSON_OBJECT;
        if (is_texts_only)
            is_readable = child->type == BK_JSON_STRING || child->type == BK_JSON_NULL;
        if (!is_readable)
            break;
        add_unique(list, is_long ? &seen : NULL, schema_cast_text(child, arena));
    }
    bk_map_fini(&seen);
    return is_readable;
}

struct schema_list schema_cast_list(const struct bk_json *input, struct bk_arena *arena) {
    static const struct schema_list none = {NULL, 0};
    struct schema_list list = none;
    if (input->type == BK_JSON_OBJECT || input->type == BK_JSON_NULL)
        return none;
    if (input->type == BK_JSON_ARRAY)
        return cast_array(input, false, arena, &list) ? list : none;
    struct bk_json *parsed;
    if (input->type == BK_JSON_STRING && bk_slice_find(input->string, '[') < input->string.length &&
        bk_json_parse(arena, input->string, &parsed, NULL) == BK_OK &&
        parsed->type == BK_JSON_ARRAY && cast_array(parsed, true, arena, &list))
        return list;
    list.items = bk_arena_alloc(arena, sizeof(struct bk_slice));
    list.count = 0;
    add_unique(&list, NULL, schema_cast_text(input, arena));
    return list;
}
