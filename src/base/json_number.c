/*
 * Numbers, both ways. They are read from their text, never from cJSON's double: an int64 must come
 * back as it was written, and 9007199254740993 is not a double.
 *
 * The C library's conversions follow the locale of the thread, so they are used under the C locale,
 * whatever a library in the process has set.
 */
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/json.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    STACK_NUMBER_BYTES = 128,
    INT64_DIGITS_MAX = 19,
    DOUBLE_DIGITS_MAX = 17, /* always enough to read a double back */
    DOUBLE_DIGITS_SAFE = 15 /* so many decimal digits survive the way through a double */
};

static const int64_t EXPONENT_LIMIT = INT64_C(1000000000000); /* longer than any text */

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void) {
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    BK_ASSERT(c_locale != (locale_t)0);
}

static locale_t enter_c_locale(void) {
    pthread_once(&c_locale_once, make_c_locale);
    return uselocale(c_locale);
}

static void leave_c_locale(locale_t former) { uselocale(former); }

/* --- reading ---------------------------------------------------------------------------------- */

/* A number's text taken apart: digits × 10^exponent. The digits stand in the text, perhaps with a
 * point between them, and begin and end with one that is not 0; none for zero. */
struct decimal {
    bool is_negative;
    const char *first, *last; /* first == last when there are no digits; last is one past */
    int64_t digit_count;
    int64_t exponent;
};

static int64_t read_exponent(const char *cursor, const char *end) {
    bool is_negative = cursor < end && *cursor == '-';
    if (cursor < end && (*cursor == '-' || *cursor == '+'))
        cursor++;
    int64_t exponent = 0;
    for (; cursor < end && exponent < EXPONENT_LIMIT; cursor++)
        exponent = exponent * 10 + (*cursor - '0');
    return is_negative ? -exponent : exponent;
}

static struct decimal take_apart(struct bk_slice text) {
    const char *cursor = text.data;
    const char *end = text.data + text.length;
    struct decimal decimal = {.is_negative = cursor < end && *cursor == '-'};
    bool is_after_point = false;
    int64_t zero_count = 0; /* since the last digit that is not 0 */
    if (decimal.is_negative)
        cursor++;
    for (; cursor < end && *cursor != 'e' && *cursor != 'E'; cursor++) {
        if (*cursor == '.') {
            is_after_point = true;
            continue;
        }
        if (is_after_point)
            decimal.exponent--;
        if (*cursor != '0') {
            if (decimal.first == NULL)
                decimal.first = cursor;
            else
                decimal.digit_count += zero_count;
            decimal.last = cursor + 1;
            decimal.digit_count++;
            zero_count = 0;
        } else {
            zero_count++;
        }
    }
    decimal.exponent += zero_count;
    if (cursor < end)
        decimal.exponent += read_exponent(cursor + 1, end);
    return decimal;
}

static bool gather_int64(const struct decimal *decimal, int64_t *out) {
    int64_t gathered = 0; /* negative: there is one more of them */
    for (const char *digit = decimal->first; digit != decimal->last; digit++) {
        if (*digit == '.')
            continue;
        if (__builtin_mul_overflow(gathered, 10, &gathered) ||
            __builtin_sub_overflow(gathered, *digit - '0', &gathered))
            return false;
    }
    for (int64_t i = 0; i < decimal->exponent; i++) {
        if (__builtin_mul_overflow(gathered, 10, &gathered))
            return false;
    }
    if (!decimal->is_negative && gathered == INT64_MIN)
        return false;
    *out = decimal->is_negative ? gathered : -gathered;
    return true;
}

bool bk_json_to_int64(const struct bk_json *value, int64_t *out) {
    if (value == NULL || value->type != BK_JSON_NUMBER)
        return false;
    /* Nearly all of them are plain. */
    if (bk_slice_to_int64(value->text, out))
        return true;
    struct decimal decimal = take_apart(value->text);
    if (decimal.digit_count == 0) {
        *out = 0;
        return true;
    }
    if (decimal.exponent < 0 || decimal.digit_count + decimal.exponent > INT64_DIGITS_MAX)
        return false;
    return gather_int64(&decimal, out);
}

static double read_double(const char *text) {
    locale_t former = enter_c_locale();
    double number = strtod(text, NULL);
    leave_c_locale(former);
    return number;
}

bool bk_json_to_double(const struct bk_json *value, double *out) {
    if (value == NULL || value->type != BK_JSON_NUMBER)
        return false;
    /* strtod wants a NUL, which the input does not have. */
    char stack[STACK_NUMBER_BYTES];
    size_t length = value->text.length;
    char *copy = length < sizeof stack ? stack : bk_try_alloc(length + 1);
    if (copy == NULL)
        return false;
    memcpy(copy, value->text.data, length);
    copy[length] = '\0';
    double number = read_double(copy);
    if (copy != stack)
        bk_free(copy);
    if (!isfinite(number))
        return false;
    *out = number;
    return true;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* A positive number: mantissa × 10^exponent. */
struct shortest {
    uint64_t mantissa; /* below 10^17 */
    int exponent;
};

/* Prices and the like: up to 6 decimals and 15 digits in all. Both numbers of the division are
 * exact, so its result is what the decimal text would be read as; and a text of at most 15 digits
 * that reads back is the shortest. Twenty times faster than asking the C library. */
static bool find_short_decimal(double number, struct shortest *shortest) {
    static const double powers[] = {1e1, 1e2, 1e3, 1e4, 1e5, 1e6};
    for (int decimals = 1; decimals <= (int)BK_COUNT_OF(powers); decimals++) {
        double power = powers[decimals - 1];
        double scaled = nearbyint(number * power);
        if (scaled >= 1e15)
            return false;
        if (scaled >= 1 && scaled / power == number) {
            *shortest = (struct shortest){(uint64_t)scaled, -decimals};
            return true;
        }
    }
    return false;
}

/* The nearest decimal of so many digits. */
static struct shortest round_to_digits(double number, int count) {
    char text[40];
    int length = snprintf(text, sizeof text, "%.*e", count - 1, number);
    BK_ASSERT(length > 0 && (size_t)length < sizeof text);
    struct shortest rounded = {0, 0};
    const char *cursor = text;
    for (; *cursor != 'e'; cursor++) {
        if (*cursor != '.')
            rounded.mantissa = rounded.mantissa * 10 + (uint64_t)(*cursor - '0');
    }
    rounded.exponent = (int)strtol(cursor + 1, NULL, 10) - (count - 1);
    return rounded;
}

static bool reads_back(struct shortest shortest, double number) {
    char text[40];
    snprintf(text, sizeof text, "%" PRIu64 "e%d", shortest.mantissa, shortest.exponent);
    return strtod(text, NULL) == number;
}

/* A normal double that has a text of up to 15 digits gives just that text, and zeros, when printed
 * with 15; so there are three lengths to try. Subnormal ones have fewer bits and are tried from one
 * digit on. */
static struct shortest find_shortest(double number) {
    int exponent;
    bool is_power_of_two = frexp(number, &exponent) == 0.5;
    for (int count = isnormal(number) ? DOUBLE_DIGITS_SAFE : 1; count < DOUBLE_DIGITS_MAX;
         count++) {
        struct shortest rounded = round_to_digits(number, count);
        if (reads_back(rounded, number))
            return rounded;
        /* Below a power of two the doubles are twice as dense as above it, so the nearest decimal
         * may lie below and be another double's, while a farther one above is still its own. */
        rounded.mantissa++;
        if (is_power_of_two && reads_back(rounded, number))
            return rounded;
    }
    return round_to_digits(number, DOUBLE_DIGITS_MAX);
}

static void append_zeros(struct bk_buffer *out, int count) {
    for (int i = 0; i < count; i++)
        bk_buffer_append_char(out, '0');
}

/* ECMAScript, Number::toString: digits, whose point stands after the first `point` of them. */
static void lay_out(struct bk_buffer *out, const char *digits, int count, int point) {
    if (point > 21 || point <= -6) {
        bk_buffer_append(out, digits, 1);
        if (count > 1)
            bk_buffer_append_char(out, '.');
        bk_buffer_append(out, digits + 1, (size_t)count - 1);
        bk_buffer_append_char(out, 'e');
        if (point > 0)
            bk_buffer_append_char(out, '+');
        bk_buffer_append_int(out, point - 1);
    } else if (point <= 0) {
        bk_buffer_append_literal(out, "0.");
        append_zeros(out, -point);
        bk_buffer_append(out, digits, (size_t)count);
    } else if (count <= point) {
        bk_buffer_append(out, digits, (size_t)count);
        append_zeros(out, point - count);
    } else {
        bk_buffer_append(out, digits, (size_t)point);
        bk_buffer_append_char(out, '.');
        bk_buffer_append(out, digits + point, (size_t)(count - point));
    }
}

static void write_shortest(struct bk_buffer *out, struct shortest shortest) {
    char text[DOUBLE_DIGITS_MAX];
    BK_ASSERT(shortest.mantissa > 0);
    while (shortest.mantissa % 10 == 0) {
        shortest.mantissa /= 10;
        shortest.exponent++;
    }
    int start = DOUBLE_DIGITS_MAX;
    for (uint64_t left = shortest.mantissa; left != 0; left /= 10) {
        BK_ASSERT(start > 0);
        text[--start] = (char)('0' + left % 10);
    }
    int count = DOUBLE_DIGITS_MAX - start;
    lay_out(out, text + start, count, count + shortest.exponent);
}

void bk_json_write_double(struct bk_buffer *out, double value) {
    if (!isfinite(value)) {
        bk_buffer_append_literal(out, "null");
        return;
    }
    /* Whole numbers below 10^15 have their digits already; minus zero is written as 0. */
    if (fabs(value) < 1e15 && value == (double)(int64_t)value) {
        bk_buffer_append_int(out, (int64_t)value);
        return;
    }
    struct shortest shortest;
    if (!find_short_decimal(fabs(value), &shortest)) {
        locale_t former = enter_c_locale();
        shortest = find_shortest(fabs(value));
        leave_c_locale(former);
    }
    if (value < 0)
        bk_buffer_append_char(out, '-');
    write_shortest(out, shortest);
}
