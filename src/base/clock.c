/*
 * Clocks of the kernel, and our own calendar: every event carries a formatted time, and the C
 * library's way there passes by locks and time zones. Days are counted from 1970-01-01 in the
 * proleptic Gregorian calendar, in eras of 400 years that begin on 1 March of a year divisible by
 * 400, so that the leap day is the last day of its year.
 */
#include "bakend/clock.h"

#include "bakend/assert.h"
#include <stdatomic.h>
#include <time.h>

static const int64_t MS_PER_DAY = 86400000;
static const int64_t FIRST_MS = -62167219200000; /* 0000-01-01T00:00:00.000Z */
static const int64_t LAST_MS = 253402300799999;  /* 9999-12-31T23:59:59.999Z */

enum { DAYS_PER_ERA = 146097, DAYS_TO_1970 = 719468 }; /* from 0000-03-01 to 1970-01-01 */

static _Atomic int64_t wall_offset_ms;

int64_t bk_clock_wall_ms(void) {
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    BK_ASSERT(result == 0);
    int64_t ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    return ms + atomic_load_explicit(&wall_offset_ms, memory_order_relaxed);
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec now;
    int result = clock_gettime(clock, &now);
    BK_ASSERT(result == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t bk_clock_monotonic_ns(void) { return read_clock(CLOCK_MONOTONIC); }

uint64_t bk_clock_boot_ns(void) { return read_clock(CLOCK_BOOTTIME); }

uint64_t bk_clock_thread_ns(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

void bk_clock_set_offset_ms(int64_t offset_ms) {
    atomic_store_explicit(&wall_offset_ms, offset_ms, memory_order_relaxed);
}

static void write_digits(char *out, unsigned value, int count) {
    for (int i = count - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* Of a day number that is not before 0000-01-01. */
static void write_date(char *out, int64_t days_since_1970) {
    /* One era earlier on the way in and one era later on the way out keep January and February of
     * the year 0, which precede day 0 of the count, from being negative. */
    unsigned days = (unsigned)(days_since_1970 + DAYS_TO_1970 + DAYS_PER_ERA);
    unsigned era = days / DAYS_PER_ERA;
    unsigned day_of_era = days % DAYS_PER_ERA;
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned march_month = (5 * day_of_year + 2) / 153; /* 0 is March */
    unsigned day = day_of_year - (153 * march_month + 2) / 5 + 1;
    unsigned month = march_month < 10 ? march_month + 3 : march_month - 9;
    unsigned year = year_of_era + era * 400 - 400 + (month <= 2 ? 1 : 0);
    write_digits(out, year, 4);
    out[4] = '-';
    write_digits(out + 5, month, 2);
    out[7] = '-';
    write_digits(out + 8, day, 2);
}

void bk_time_format(char out[BK_TIME_TEXT_BYTES], int64_t wall_ms, char separator) {
    int64_t ms = wall_ms < FIRST_MS ? FIRST_MS : wall_ms > LAST_MS ? LAST_MS : wall_ms;
    int64_t days = ms / MS_PER_DAY;
    int64_t ms_of_day = ms % MS_PER_DAY;
    if (ms_of_day < 0) {
        ms_of_day += MS_PER_DAY;
        days--;
    }
    unsigned left = (unsigned)ms_of_day;
    write_date(out, days);
    out[10] = separator;
    write_digits(out + 11, left / 3600000, 2);
    out[13] = ':';
    write_digits(out + 14, left / 60000 % 60, 2);
    out[16] = ':';
    write_digits(out + 17, left / 1000 % 60, 2);
    out[19] = '.';
    write_digits(out + 20, left % 1000, 3);
    out[23] = 'Z';
}

/* Takes count digits off the front of *rest. */
static bool take_digits(struct bk_slice *rest, size_t count, int *value) {
    if (rest->length < count)
        return false;
    int gathered = 0;
    for (size_t i = 0; i < count; i++) {
        if (rest->data[i] < '0' || rest->data[i] > '9')
            return false;
        gathered = gathered * 10 + (rest->data[i] - '0');
    }
    *rest = bk_slice_make(rest->data + count, rest->length - count);
    *value = gathered;
    return true;
}

static bool take_char(struct bk_slice *rest, char c) {
    if (rest->length == 0 || rest->data[0] != c)
        return false;
    *rest = bk_slice_make(rest->data + 1, rest->length - 1);
    return true;
}

static int days_in_month(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && is_leap ? 29 : days[month - 1];
}

static int64_t days_since_1970(int year, int month, int day) {
    int march_year = month <= 2 ? year - 1 + 400 : year + 400; /* an era later: never negative */
    int era = march_year / 400;
    int year_of_era = march_year % 400;
    int day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (int64_t)(era - 1) * DAYS_PER_ERA + day_of_era - DAYS_TO_1970;
}

/* "2006-01-02" */
static bool take_date(struct bk_slice *rest, int64_t *ms) {
    int year, month, day;
    if (!take_digits(rest, 4, &year) || !take_char(rest, '-') || !take_digits(rest, 2, &month) ||
        !take_char(rest, '-') || !take_digits(rest, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
        return false;
    *ms = days_since_1970(year, month, day) * MS_PER_DAY;
    return true;
}

/* ".123456789": one to nine digits, of which three count. */
static bool take_fraction(struct bk_slice *rest, int *ms) {
    int scale = 100;
    int digit;
    size_t count = 0;
    *ms = 0;
    while (take_digits(rest, 1, &digit)) {
        *ms += digit * scale;
        scale /= 10;
        count++;
    }
    return count >= 1 && count <= 9;
}

/* "15:04:05.123". A leap second is refused: it has no number of its own in Unix time. */
static bool take_time_of_day(struct bk_slice *rest, int64_t *ms) {
    int hour, minute, second;
    int fraction_ms = 0;
    if (!take_digits(rest, 2, &hour) || !take_char(rest, ':') || !take_digits(rest, 2, &minute) ||
        !take_char(rest, ':') || !take_digits(rest, 2, &second))
        return false;
    if (hour > 23 || minute > 59 || second > 59)
        return false;
    if (take_char(rest, '.') && !take_fraction(rest, &fraction_ms))
        return false;
    *ms = ((int64_t)hour * 60 + minute) * 60000 + (int64_t)second * 1000 + fraction_ms;
    return true;
}

/* "Z" or "+01:30". */
static bool take_offset(struct bk_slice *rest, int64_t *ms) {
    *ms = 0;
    if (take_char(rest, 'Z'))
        return true;
    bool is_west = rest->length > 0 && rest->data[0] == '-';
    int hour, minute;
    if (!take_char(rest, is_west ? '-' : '+') || !take_digits(rest, 2, &hour) ||
        !take_char(rest, ':') || !take_digits(rest, 2, &minute) || hour > 23 || minute > 59)
        return false;
    *ms = ((int64_t)hour * 60 + minute) * (is_west ? -60000 : 60000);
    return true;
}

bool bk_time_parse(struct bk_slice text, int64_t *wall_ms) {
    int64_t date_ms;
    int64_t time_ms = 0;
    int64_t offset_ms = 0;
    if (!take_date(&text, &date_ms))
        return false;
    if (text.length > 0) {
        if (!take_char(&text, 'T') && !take_char(&text, ' '))
            return false;
        if (!take_time_of_day(&text, &time_ms) || !take_offset(&text, &offset_ms) ||
            text.length > 0)
            return false;
    }
    int64_t ms = date_ms + time_ms - offset_ms;
    /* An offset may lead out of the years that can be written again. */
    if (ms < FIRST_MS || ms > LAST_MS)
        return false;
    *wall_ms = ms;
    return true;
}
