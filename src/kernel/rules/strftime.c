/*
 * strftime(format, time) in memory, as SQLite 3.40 computes it (date.c there, in its own order, so
 * that not even what it makes of the 30th of February differs). A time is a text
 * "2026-01-31[ T]12:00[:00[.000]][Z|+01:00]" or "12:00", "now", or a number of days of the Julian
 * calendar. Anything else has no time, and a letter that is not known no text: NULL. Modifiers are
 * SQLite's own.
 */
#include "rules_private.h"

#include <math.h>
#include <stdio.h>

enum { TEXT_BYTES_MAX = 64 * 1024, PIECE_BYTES = 48 };

#define DAY_MS INT64_C(86400000)
#define HALF_DAY_MS INT64_C(43200000)
#define JULIAN_MAX_MS INT64_C(464269060799999)
#define JULIAN_OF_1970_MS INT64_C(210866760000000)

/* A date or a time of the day that was given stays as it is; otherwise it is derived. */
struct moment {
    int64_t julian_ms;
    int year, month, day, hour, minute;
    double second;
    bool has_date, has_time;
};

/* --- reading ---------------------------------------------------------------------------------- */

static bool take_char(struct bk_slice *rest, char wanted) {
    if (rest->length == 0 || rest->data[0] != wanted)
        return false;
    *rest = bk_slice_make(rest->data + 1, rest->length - 1);
    return true;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool take_number(struct bk_slice *rest, size_t digits, int least, int most, int *number) {
    int value = 0;
    if (rest->length < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (!is_digit(rest->data[i]))
            return false;
        value = 10 * value + (rest->data[i] - '0');
    }
    *rest = bk_slice_make(rest->data + digits, rest->length - digits);
    *number = value;
    return value >= least && value <= most;
}

static void skip_spaces(struct bk_slice *rest, bool with_t) {
    while (rest->length > 0 && (is_space(rest->data[0]) || (with_t && rest->data[0] == 'T')))
        *rest = bk_slice_make(rest->data + 1, rest->length - 1);
}

/* ".123"; a point without digits is no fraction. Of more digits than a number has room for it is
 * not a number, and the time none. */
static double take_fraction(struct bk_slice *rest) {
    double value = 0, scale = 1;
    if (rest->length < 2 || rest->data[0] != '.' || !is_digit(rest->data[1]))
        return 0;
    size_t i = 1;
    for (; i < rest->length && is_digit(rest->data[i]); i++) {
        value = value * 10 + (rest->data[i] - '0');
        scale *= 10;
    }
    *rest = bk_slice_make(rest->data + i, rest->length - i);
    return value / scale;
}

static bool take_zone(struct bk_slice *rest, int *minutes) {
    int hours = 0, rest_of = 0;
    *minutes = 0;
    skip_spaces(rest, false);
    int sign = rest->length > 0 && rest->data[0] == '-' ? -1 : 1;
    if (take_char(rest, '-') || take_char(rest, '+')) {
        if (!take_number(rest, 2, 0, 14, &hours) || !take_char(rest, ':') ||
            !take_number(rest, 2, 0, 59, &rest_of))
            return false;
        *minutes = sign * (60 * hours + rest_of);
    } else if (!take_char(rest, 'Z')) {
        (void)take_char(rest, 'z');
    }
    skip_spaces(rest, false);
    return rest->length == 0;
}

static bool take_time(struct bk_slice *rest, struct moment *moment, int *zone_minutes) {
    int seconds = 0;
    double fraction = 0;
    if (!take_number(rest, 2, 0, 24, &moment->hour) || !take_char(rest, ':') ||
        !take_number(rest, 2, 0, 59, &moment->minute))
        return false;
    if (take_char(rest, ':')) {
        if (!take_number(rest, 2, 0, 59, &seconds))
            return false;
        fraction = take_fraction(rest);
        if (isnan(fraction))
            return false;
    }
    moment->second = seconds + fraction;
    moment->has_time = true;
    return take_zone(rest, zone_minutes);
}

static bool take_date(struct bk_slice *rest, struct moment *moment) {
    bool is_negative = take_char(rest, '-');
    if (!take_number(rest, 4, 0, 9999, &moment->year) || !take_char(rest, '-') ||
        !take_number(rest, 2, 1, 12, &moment->month) || !take_char(rest, '-') ||
        !take_number(rest, 2, 1, 31, &moment->day))
        return false;
    if (is_negative)
        moment->year = -moment->year;
    moment->has_date = true;
    return true;
}

/* --- the calendar ----------------------------------------------------------------------------- */

static int64_t julian_of(int year, int month, int day) {
    if (month <= 2) {
        year--;
        month += 12;
    }
    int century = year / 100;
    int leap = 2 - century + century / 4;
    int years = 36525 * (year + 4716) / 100;
    int months = 306001 * (month + 1) / 10000;
    return (int64_t)((years + months + day + leap - 1524.5) * 86400000);
}

static int64_t time_ms(const struct moment *moment) {
    return moment->has_time ? moment->hour * INT64_C(3600000) + moment->minute * INT64_C(60000) +
                                  (int64_t)(moment->second * 1000 + 0.5)
                            : 0;
}

static void derive_date(struct moment *moment) {
    if (moment->has_date)
        return;
    int days = (int)((moment->julian_ms + HALF_DAY_MS) / DAY_MS);
    int a = (int)((days - 1867216.25) / 36524.25);
    a = days + 1 + a - a / 4;
    int b = a + 1524;
    int c = (int)((b - 122.1) / 365.25);
    int d = 36525 * (c & 32767) / 100;
    int e = (int)((b - d) / 30.6001);
    moment->day = b - d - (int)(30.6001 * e);
    moment->month = e < 14 ? e - 1 : e - 13;
    moment->year = moment->month > 2 ? c - 4716 : c - 4715;
}

static void derive_time(struct moment *moment) {
    if (moment->has_time)
        return;
    int ms = (int)((moment->julian_ms + HALF_DAY_MS) % DAY_MS);
    moment->second = ms / 1000.0;
    int seconds = (int)moment->second;
    moment->second -= seconds;
    moment->hour = seconds / 3600;
    seconds -= moment->hour * 3600;
    moment->minute = seconds / 60;
    moment->second += seconds - moment->minute * 60;
    moment->has_time = true;
}

static bool read_text(struct bk_slice text, struct moment *moment) {
    struct bk_slice rest = text;
    int zone_minutes = 0;
    if (take_date(&rest, moment)) {
        skip_spaces(&rest, true);
        if (rest.length > 0 && !take_time(&rest, moment, &zone_minutes))
            return false;
    } else {
        *moment = (struct moment){.year = 2000, .month = 1, .day = 1, .has_date = true};
        rest = text;
        if (!take_time(&rest, moment, &zone_minutes))
            return false;
    }
    moment->julian_ms = julian_of(moment->year, moment->month, moment->day) + time_ms(moment) -
                        zone_minutes * INT64_C(60000);
    if (zone_minutes != 0)
        moment->has_date = moment->has_time = false;
    return moment->year >= -4713;
}

static bool read_number(double days, struct moment *moment) {
    if (!(days >= 0 && days < 5373484.5))
        return false;
    moment->julian_ms = (int64_t)(days * 86400000.0 + 0.5);
    return true;
}

static bool read_moment(const struct bk_value *value, int64_t now_ms, struct moment *moment) {
    *moment = (struct moment){0};
    if (value->type == BK_VALUE_NULL)
        return false;
    if (value->type == BK_VALUE_TEXT && read_text(value->text, moment))
        return moment->julian_ms >= 0 && moment->julian_ms <= JULIAN_MAX_MS;
    *moment = (struct moment){.julian_ms = now_ms + JULIAN_OF_1970_MS};
    if (value->type == BK_VALUE_TEXT && bk_slice_equal_ignore_case(value->text, BK_SLICE("now")))
        return true;
    struct bk_value number = filter_numeric_of(value);
    if (number.type == BK_VALUE_INT)
        return read_number((double)number.integer, moment);
    return number.type == BK_VALUE_REAL && read_number(number.real, moment);
}

/* --- writing ---------------------------------------------------------------------------------- */

static int day_of_year(const struct moment *moment) {
    int64_t first_ms = julian_of(moment->year, 1, 1) + time_ms(moment);
    return (int)((moment->julian_ms - first_ms + HALF_DAY_MS) / DAY_MS);
}

static int week_of_year(const struct moment *moment) {
    int weekday = (int)((moment->julian_ms + HALF_DAY_MS) / DAY_MS % 7);
    return (day_of_year(moment) + 7 - weekday) / 7;
}

/* 0: there is no such letter. */
static int write_letter(char letter, const struct moment *moment, char *out) {
    switch (letter) {
    case 'd':
        return snprintf(out, PIECE_BYTES, "%02d", moment->day);
    case 'f':
        return snprintf(out, PIECE_BYTES, "%06.3f",
                        moment->second > 59.999 ? 59.999 : moment->second);
    case 'H':
        return snprintf(out, PIECE_BYTES, "%02d", moment->hour);
    case 'j':
        return snprintf(out, PIECE_BYTES, "%03d", day_of_year(moment) + 1);
    case 'm':
        return snprintf(out, PIECE_BYTES, "%02d", moment->month);
    case 'M':
        return snprintf(out, PIECE_BYTES, "%02d", moment->minute);
    case 's':
        return snprintf(out, PIECE_BYTES, "%lld",
                        (long long)(moment->julian_ms / 1000 - INT64_C(210866760000)));
    case 'S':
        return snprintf(out, PIECE_BYTES, "%02d", (int)moment->second);
    case 'w':
        return snprintf(out, PIECE_BYTES, "%d",
                        (int)((moment->julian_ms + 3 * HALF_DAY_MS) / DAY_MS % 7));
    case 'W':
        return snprintf(out, PIECE_BYTES, "%02d", week_of_year(moment));
    case 'Y':
        return snprintf(out, PIECE_BYTES, "%04d", moment->year);
    case '%':
        return snprintf(out, PIECE_BYTES, "%%");
    default:
        return 0;
    }
}

/* False: it takes SQLite, which writes a number as nobody else (%J). */
static bool write_format(struct bk_slice format, const struct moment *moment,
                         struct bk_buffer *text, bool *is_known) {
    *is_known = true;
    for (size_t i = 0; i < format.length && *is_known; i++) {
        char piece[PIECE_BYTES];
        if (format.data[i] != '%') {
            bk_buffer_append_char(text, format.data[i]);
            continue;
        }
        char letter = ++i < format.length ? format.data[i] : '\0';
        if (letter == 'J')
            return false;
        int length = write_letter(letter, moment, piece);
        *is_known = length > 0;
        bk_buffer_append(text, piece, (size_t)length);
    }
    return bk_buffer_status(text) == BK_OK;
}

bool filter_strftime(struct bk_arena *arena, const struct bk_value *format,
                     const struct bk_value *time, int64_t now_ms, struct bk_value *out) {
    struct moment moment;
    struct bk_buffer text;
    bool is_known = false;
    *out = BK_VALUE_OF_NULL;
    if (format->type != BK_VALUE_TEXT || !read_moment(time, now_ms, &moment))
        return true;
    derive_date(&moment);
    derive_time(&moment);
    bk_buffer_init(&text, TEXT_BYTES_MAX);
    bool is_computed = write_format(format->text, &moment, &text, &is_known);
    if (is_computed && is_known)
        *out = BK_VALUE_OF_TEXT(bk_arena_copy(arena, bk_buffer_slice(&text)));
    bk_buffer_fini(&text);
    return is_computed;
}
