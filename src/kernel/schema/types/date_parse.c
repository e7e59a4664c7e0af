/*
 * The date forms that the contract reads. A form is a line of marks, each of which takes its part
 * of the text; any other character stands for itself, a space for one or more. The first form that
 * takes the whole text wins.
 *
 *   Y year of 4 digits   y of 2      M month of 2 digits   b its name, "Jan"   D day of 2 digits
 *   d day of 1 or 2, maybe after a space                   e "Mon"             w "Monday"
 *   h hour 0..23, 1 or 2 digits      k hour 1..12          a "AM" or "PM"      m s 2 digits
 *   z "Z" or "+02:00"   o "Z" or "+0200"   p "+02:00"   q "+0200"   n a zone's name (taken as UTC)
 *
 * Seconds may have a fraction. A form without a year is in the year 0, as the contract has it.
 */
#include "types.h"

#include "bakend/assert.h"
#include "bakend/clock.h"

static const char *const forms[] = {
    "Y-M-D",        "Y-M-DTh:m:sz", "Y-M-DTh:m:s",      "e, D b Y h:m:s q", "e, D b Y h:m:s n",
    "D b y h:m q",  "D b y h:m n",  "w, D-b-y h:m:s n", "Y-M-D h:m:s q n",  "Y-M-DTh:m:sq",
    "Y-M-D h:m:so", "Y-M-D h:m:s",  "e b d h:m:s Y",    "e b d h:m:s n Y",  "e b D h:m:s q Y",
    "Y-M-D h:m:sz", "D b Y",        "Y-M-D h:m:s p",    "Y-M-D h:m:s q",    "k:ma",
    "b d h:m:s",
};

static const char *const months[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                     "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekdays[] = {"sunday",   "monday", "tuesday", "wednesday",
                                       "thursday", "friday", "saturday"};

enum { MS_PER_SECOND = 1000, MS_PER_MINUTE = 60 * 1000, DATE_TEXT_BYTES_MAX = 64 };

struct moment {
    struct bk_slice rest;
    int64_t year, month, day, hour, minute, second, fraction_ms, offset_minutes;
    bool is_twelve_hours, is_afternoon;
};

static void advance(struct moment *moment, size_t count) {
    moment->rest = bk_slice_make(moment->rest.data + count, moment->rest.length - count);
}

static bool is_digit_at(const struct moment *moment, size_t i) {
    return i < moment->rest.length && moment->rest.data[i] >= '0' && moment->rest.data[i] <= '9';
}

/* Between minimum and maximum digits. */
static bool take_number(struct moment *moment, size_t minimum, size_t maximum, int64_t *number) {
    size_t count = 0;
    *number = 0;
    for (; count < maximum && is_digit_at(moment, count); count++)
        *number = *number * 10 + (moment->rest.data[count] - '0');
    advance(moment, count);
    return count >= minimum;
}

/* One of the names, or its first three letters. */
static bool take_name(struct moment *moment, const char *const *names, size_t name_count,
                      bool is_short, int64_t *index) {
    for (size_t i = 0; i < name_count; i++) {
        size_t length = is_short ? 3 : strlen(names[i]);
        if (moment->rest.length < length ||
            !bk_slice_equal_ignore_case(bk_slice_make(moment->rest.data, length),
                                        bk_slice_make(names[i], length)))
            continue;
        advance(moment, length);
        *index = (int64_t)i;
        return true;
    }
    return false;
}

/* All digits count as read, three of them are kept. */
static void take_fraction(struct moment *moment) {
    if (moment->rest.length < 2 || (moment->rest.data[0] != '.' && moment->rest.data[0] != ',') ||
        !is_digit_at(moment, 1))
        return;
    advance(moment, 1);
    for (int64_t unit = 100; is_digit_at(moment, 0); unit /= 10) {
        moment->fraction_ms += unit * (moment->rest.data[0] - '0');
        advance(moment, 1);
    }
}

static bool take_offset(struct moment *moment, bool may_be_z, bool has_colon) {
    if (may_be_z && moment->rest.length > 0 && moment->rest.data[0] == 'Z') {
        advance(moment, 1);
        return true;
    }
    if (moment->rest.length == 0 || (moment->rest.data[0] != '+' && moment->rest.data[0] != '-'))
        return false;
    int64_t sign = moment->rest.data[0] == '-' ? -1 : 1, hours, minutes;
    advance(moment, 1);
    if (!take_number(moment, 2, 2, &hours))
        return false;
    if (has_colon) {
        if (moment->rest.length == 0 || moment->rest.data[0] != ':')
            return false;
        advance(moment, 1);
    }
    if (!take_number(moment, 2, 2, &minutes) || hours > 24 || minutes > 60)
        return false;
    moment->offset_minutes = sign * (hours * 60 + minutes);
    return true;
}

/* 3 to 5 capitals; "GMT+3" too. The clock is taken as UTC whatever the name says. */
static bool take_zone_name(struct moment *moment) {
    size_t count = 0;
    while (count < moment->rest.length && moment->rest.data[count] >= 'A' &&
           moment->rest.data[count] <= 'Z')
        count++;
    if (count < 3 || count > 5)
        return false;
    bool is_gmt = bk_slice_equal(bk_slice_make(moment->rest.data, count), BK_SLICE("GMT"));
    advance(moment, count);
    if (is_gmt && moment->rest.length > 1 &&
        (moment->rest.data[0] == '+' || moment->rest.data[0] == '-') && is_digit_at(moment, 1)) {
        int64_t ignored;
        advance(moment, 1);
        return take_number(moment, 1, 2, &ignored);
    }
    return true;
}

static bool take_noon(struct moment *moment) {
    if (!bk_slice_starts_with(moment->rest, BK_SLICE("AM")) &&
        !bk_slice_starts_with(moment->rest, BK_SLICE("PM")))
        return false;
    moment->is_twelve_hours = true;
    moment->is_afternoon = moment->rest.data[0] == 'P';
    advance(moment, 2);
    return true;
}

static bool take_literal(struct moment *moment, char literal) {
    if (moment->rest.length == 0 || moment->rest.data[0] != literal)
        return false;
    do
        advance(moment, 1);
    while (literal == ' ' && moment->rest.length > 0 && moment->rest.data[0] == ' ');
    return true;
}

static bool take_date_mark(struct moment *moment, char mark) {
    int64_t ignored;
    switch (mark) {
    case 'Y':
        return take_number(moment, 4, 4, &moment->year);
    case 'y':
        if (!take_number(moment, 2, 2, &moment->year))
            return false;
        moment->year += moment->year >= 69 ? 1900 : 2000;
        return true;
    case 'M':
        return take_number(moment, 2, 2, &moment->month);
    case 'b':
        if (!take_name(moment, months, 12, true, &moment->month))
            return false;
        moment->month++;
        return true;
    case 'D':
        return take_number(moment, 2, 2, &moment->day);
    case 'd':
        if (moment->rest.length > 0 && moment->rest.data[0] == ' ')
            advance(moment, 1);
        return take_number(moment, 1, 2, &moment->day);
    case 'e':
        return take_name(moment, weekdays, 7, true, &ignored);
    default: /* w */
        return take_name(moment, weekdays, 7, false, &ignored);
    }
}

static bool take_mark(struct moment *moment, char mark) {
    switch (mark) {
    case 'h':
    case 'k':
        return take_number(moment, 1, 2, &moment->hour);
    case 'a':
        return take_noon(moment);
    case 'm':
        return take_number(moment, 2, 2, &moment->minute);
    case 's':
        if (!take_number(moment, 2, 2, &moment->second))
            return false;
        take_fraction(moment);
        return true;
    case 'z':
        return take_offset(moment, true, true);
    case 'o':
        return take_offset(moment, true, false);
    case 'p':
        return take_offset(moment, false, true);
    case 'q':
        return take_offset(moment, false, false);
    case 'n':
        return take_zone_name(moment);
    default:
        if (strchr("YyMbDdew", mark) != NULL)
            return take_date_mark(moment, mark);
        return take_literal(moment, mark);
    }
}

static bool is_leap(int64_t year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

static bool is_possible(struct moment *moment) {
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (moment->month < 1 || moment->month > 12 || moment->day < 1)
        return false;
    int64_t last = days[moment->month - 1] + (moment->month == 2 && is_leap(moment->year));
    if (moment->is_twelve_hours) {
        if (moment->hour > 12)
            return false;
        moment->hour = moment->hour % 12 + (moment->is_afternoon ? 12 : 0);
    }
    return moment->day <= last && moment->hour < 24 && moment->minute < 60 && moment->second < 60;
}

/* Days since 1970-01-01, counted in years that begin in March. */
static int64_t day_number(int64_t year, int64_t month, int64_t day) {
    year += 400; /* the year 0 counts from the March before it */
    if (month <= 2)
        year--;
    int64_t cycle = year / 400, year_of_cycle = year % 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_cycle =
        year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    return cycle * 146097 + day_of_cycle - 719468 - 146097;
}

static bool parse_form(struct bk_slice text, const char *form, int64_t *wall_ms) {
    struct moment moment = {.rest = text, .month = 1, .day = 1};
    for (const char *mark = form; *mark != '\0'; mark++)
        if (!take_mark(&moment, *mark))
            return false;
    if (moment.rest.length > 0 || !is_possible(&moment))
        return false;
    int64_t minutes = day_number(moment.year, moment.month, moment.day) * 24 * 60 +
                      moment.hour * 60 + moment.minute - moment.offset_minutes;
    *wall_ms = minutes * MS_PER_MINUTE + moment.second * MS_PER_SECOND + moment.fraction_ms;
    return true;
}

bool schema_date_parse(struct bk_slice text, int64_t *wall_ms) {
    if (text.length == 0 || text.length > DATE_TEXT_BYTES_MAX)
        return false;
    for (size_t i = 0; i < BK_COUNT_OF(forms); i++)
        if (parse_form(text, forms[i], wall_ms))
            return true;
    return false;
}

struct bk_slice schema_date_normalise(struct bk_slice text, struct bk_arena *arena) {
    int64_t wall_ms;
    if (!schema_date_parse(text, &wall_ms))
        return BK_SLICE("");
    /* An offset can carry a date out of the years that the form can write, and the first moment of
     * the year 1 is how the contract says "none". */
    int64_t first = day_number(0, 1, 1) * 24 * 60 * MS_PER_MINUTE;
    int64_t after = day_number(10000, 1, 1) * 24 * 60 * MS_PER_MINUTE;
    int64_t none = day_number(1, 1, 1) * 24 * 60 * MS_PER_MINUTE;
    if (wall_ms < first || wall_ms >= after || wall_ms == none)
        return BK_SLICE("");
    char *out = bk_arena_alloc(arena, BK_TIME_TEXT_BYTES);
    bk_time_format(out, wall_ms, ' ');
    return bk_slice_make(out, BK_TIME_TEXT_BYTES);
}
