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

/* --- reading ----------------------------------------------------------------------------------- */

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

/* --- writing ----------------------------------------------------------------------------------- */

/* The digits of a finite, positive double and the place of its point: 0.d1d2d3… × 10^point. */
struct digits {
    char digit[DOUBLE_DIGITS_MAX + 1]; /* no zero at the end, NUL-terminated */
    int count;
    int point;
};

/* False when so many digits do not read back as number. */
static bool try_digits(double number, int count, struct digits *digits) {
    char text[40];
    int length = snprintf(text, sizeof text, "%.*e", count - 1, number);
    BK_ASSERT(length > 0 && (size_t)length < sizeof text);
    if (strtod(text, NULL) != number)
        return false;
    digits->count = 0;
    const char *cursor = text;
    for (; *cursor != 'e'; cursor++) {
        if (*cursor != '.')
            digits->digit[digits->count++] = *cursor;
    }
    digits->point = (int)strtol(cursor + 1, NULL, 10) + 1;
    while (digits->count > 1 && digits->digit[digits->count - 1] == '0')
        digits->count--;
    digits->digit[digits->count] = '\0';
    return true;
}

/* A normal double that has a text of up to 15 digits gives just that text, and zeros, when printed
 * with 15; so there are three lengths to try. Subnormal ones have fewer bits and are tried from one
 * digit on. */
static void find_shortest(double number, struct digits *digits) {
    locale_t former = enter_c_locale();
    int count = isnormal(number) ? DOUBLE_DIGITS_SAFE : 1;
    while (!try_digits(number, count, digits)) {
        count++;
        BK_ASSERT(count <= DOUBLE_DIGITS_MAX);
    }
    leave_c_locale(former);
}

static void append_zeros(struct bk_buffer *out, int count) {
    for (int i = 0; i < count; i++)
        bk_buffer_append_char(out, '0');
}

static void write_exponent_form(struct bk_buffer *out, const struct digits *digits) {
    int exponent = digits->point - 1;
    bk_buffer_append_char(out, digits->digit[0]);
    if (digits->count > 1) {
        bk_buffer_append_char(out, '.');
        bk_buffer_append(out, digits->digit + 1, (size_t)digits->count - 1);
    }
    bk_buffer_append_char(out, 'e');
    if (exponent > 0)
        bk_buffer_append_char(out, '+');
    bk_buffer_append_int(out, exponent);
}

/* ECMAScript, Number::toString, whose k is count here and whose n is point. */
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
    struct digits digits;
    find_shortest(fabs(value), &digits);
    if (value < 0)
        bk_buffer_append_char(out, '-');
    if (digits.point > 21 || digits.point <= -6) {
        write_exponent_form(out, &digits);
    } else if (digits.point <= 0) {
        bk_buffer_append_literal(out, "0.");
        append_zeros(out, -digits.point);
        bk_buffer_append(out, digits.digit, (size_t)digits.count);
    } else if (digits.count <= digits.point) {
        bk_buffer_append(out, digits.digit, (size_t)digits.count);
        append_zeros(out, digits.point - digits.count);
    } else {
        bk_buffer_append(out, digits.digit, (size_t)digits.point);
        bk_buffer_append_char(out, '.');
        bk_buffer_append(out, digits.digit + digits.point, (size_t)(digits.count - digits.point));
    }
}
