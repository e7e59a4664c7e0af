/*
 * Cron expressions: a macro, or minute, hour, day, month and weekday, one space between them. A
 * segment is a list of "*", numbers and ranges; all but a number alone may have a step, which
 * counts from where the range begins. Times are UTC.
 *
 * An expression is read into one set of bits for each segment; a time is one of its times when it
 * is in all five of them. So a day must suit both as day of the month and as weekday: "0 0 13 * 5"
 * is Friday the 13th.
 *
 * The next time is searched month by month, day by day and then in the first right day, so that
 * "29 February" costs as much as a list of months. The calendar repeats itself, weekdays too, after
 * 400 years: what has not come by then never comes.
 */
#include "bakend/work.h"

#include "bakend/assert.h"

enum {
    SEGMENT_COUNT = 5,
    MINUTES_PER_HOUR = 60,
    HOURS_PER_DAY = 24,
    MONTHS_PER_YEAR = 12,
    MINUTES_PER_DAY = 24 * 60,
    SEARCH_MONTHS_MAX = 400 * MONTHS_PER_YEAR + 1,
    NO_ARENA_BYTES = 4096 /* of a problem that nobody reads */
};
static const int64_t MS_PER_MINUTE = 60000;
static const int64_t FIRST_MS = -62167219200000; /* 0000-01-01T00:00:00.000Z */
static const int64_t LAST_MS = 253402300799999;  /* 9999-12-31T23:59:59.999Z */

enum segment_name { MINUTE, HOUR, DAY, MONTH, WEEKDAY };

struct segment {
    int64_t minimum, maximum;
};

/* Part of a list, as it was read. */
struct item {
    int64_t from, to, step;
};

struct cron {
    uint64_t times[SEGMENT_COUNT]; /* bit n: n is one of them */
};

/* --- reading ---------------------------------------------------------------------------------- */

static struct bk_slice written_out(struct bk_slice text) {
    static const struct {
        const char *macro, *segments;
    } macros[] = {
        {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
        {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
        {"@hourly", "0 * * * *"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(macros); i++)
        if (bk_slice_equal(text, bk_slice_from(macros[i].macro)))
            return bk_slice_from(macros[i].segments);
    return text;
}

static uint32_t count_of(struct bk_slice text, char separator) {
    uint32_t count = 0;
    struct bk_slice part;
    while (bk_slice_split(&text, separator, &part))
        count++;
    return count;
}

static struct bk_slice no_number(struct bk_slice text, struct bk_arena *arena) {
    return bk_arena_format(arena, "Invalid segment value - \"%.*s\" is no number.",
                           BK_SLICE_PRINT(text));
}

static struct bk_slice read_range(struct bk_slice range, const struct segment *segment,
                                  struct bk_arena *arena, struct item *item) {
    struct bk_slice rest = range, first, last;
    if (count_of(range, '-') > 2)
        return BK_SLICE("Invalid segment range format - the range must have 1 or 2 parts.");
    if (!bk_slice_split(&rest, '-', &first) || !bk_slice_to_int64(first, &item->from))
        return no_number(range, arena);
    if (item->from < segment->minimum || item->from > segment->maximum)
        return BK_SLICE("Invalid segment value - must be between the min and max of the segment.");
    item->to = item->from;
    if (!bk_slice_split(&rest, '-', &last))
        return BK_SLICE_EMPTY;
    if (!bk_slice_to_int64(last, &item->to))
        return no_number(last, arena);
    if (item->to >= item->from && item->to <= segment->maximum)
        return BK_SLICE_EMPTY;
    return bk_arena_format(arena, "Invalid segment range maximum - must be between %lld and %lld.",
                           (long long)item->from, (long long)segment->maximum);
}

static struct bk_slice read_step(struct bk_slice step, const struct segment *segment,
                                 struct bk_arena *arena, struct item *item) {
    if (!bk_slice_to_int64(step, &item->step))
        return no_number(step, arena);
    if (item->step >= 1 && item->step <= segment->maximum)
        return BK_SLICE_EMPTY;
    return bk_arena_format(
        arena, "Invalid segment step boundary - the step must be between 1 and the %lld.",
        (long long)segment->maximum);
}

static struct bk_slice read_item(struct bk_slice text, const struct segment *segment,
                                 struct bk_arena *arena, struct item *item) {
    struct bk_slice rest = text, range = BK_SLICE_EMPTY, step, problem = BK_SLICE_EMPTY;
    *item = (struct item){.from = segment->minimum, .to = segment->maximum, .step = 1};
    if (count_of(text, '/') > 2)
        return BK_SLICE("Invalid segment step format - must be in the format */n or 1-30/n.");
    bk_slice_split(&rest, '/', &range);
    if (bk_slice_split(&rest, '/', &step))
        problem = read_step(step, segment, arena, item);
    if (problem.length > 0 || bk_slice_is(range, "*"))
        return problem;
    if (item->step > 1 && bk_slice_find(range, '-') == range.length)
        return BK_SLICE("Invalid segment step - step > 1 could be used only with the wildcard or "
                        "range format.");
    return read_range(range, segment, arena, item);
}

static uint64_t bits_of(const struct item *item) {
    uint64_t bits = 0;
    for (int64_t i = item->from; i <= item->to; i += item->step)
        bits |= UINT64_C(1) << i;
    return bits;
}

/* What is wrong with it; empty: cron is filled. */
static struct bk_slice read_cron(struct bk_slice text, struct bk_arena *arena, struct cron *cron) {
    static const struct segment segments[SEGMENT_COUNT] = {
        {0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}};
    struct bk_slice part, item_text;
    *cron = (struct cron){0};
    text = written_out(text);
    if (count_of(text, ' ') != SEGMENT_COUNT)
        return BK_SLICE("Invalid cron expression - must be a valid macro or to have exactly 5 "
                        "space separated segments.");
    for (size_t i = 0; i < SEGMENT_COUNT && bk_slice_split(&text, ' ', &part); i++) {
        while (bk_slice_split(&part, ',', &item_text)) {
            struct item item;
            struct bk_slice problem = read_item(item_text, &segments[i], arena, &item);
            if (problem.length > 0)
                return problem;
            cron->times[i] |= bits_of(&item);
        }
    }
    return BK_SLICE_EMPTY;
}

struct bk_slice bk_cron_problem(struct bk_slice expression, struct bk_arena *arena) {
    struct cron cron;
    return read_cron(expression, arena, &cron);
}

/* --- searching -------------------------------------------------------------------------------- */

struct date {
    int64_t number; /* of the day, since 1970-01-01 */
    int64_t year;
    uint32_t month, day; /* from 1 */
};

static bool has(const struct cron *cron, enum segment_name segment, uint32_t number) {
    return (cron->times[segment] >> number & 1) != 0;
}

static int64_t floor_of(int64_t number, int64_t divisor) {
    return number / divisor - (number % divisor < 0 ? 1 : 0);
}

static uint32_t days_of(int64_t year, uint32_t month) {
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    BK_ASSERT(month >= 1 && month <= MONTHS_PER_YEAR);
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && is_leap ? 1U : 0U);
}

/* Years are counted from 1 March 0000, so that the leap day is the last day of its year. */
static struct date date_of(int64_t number) {
    enum { DAYS_PER_ERA = 146097, DAYS_TO_1970 = 719468, YEARS_PER_ERA = 400 };
    int64_t era = floor_of(number + DAYS_TO_1970, DAYS_PER_ERA);
    uint32_t day_of_era = (uint32_t)(number + DAYS_TO_1970 - era * DAYS_PER_ERA);
    uint32_t year =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    uint32_t march_month = (5 * day_of_year + 2) / 153;
    struct date date = {.number = number,
                        .month = march_month < 10 ? march_month + 3 : march_month - 9,
                        .day = day_of_year - (153 * march_month + 2) / 5 + 1};
    date.year = era * YEARS_PER_ERA + year + (date.month <= 2 ? 1 : 0);
    return date;
}

static void go_to_next_month(struct date *date) {
    date->number += days_of(date->year, date->month) - date->day + 1;
    date->day = 1;
    if (date->month++ == MONTHS_PER_YEAR) {
        date->month = 1;
        date->year++;
    }
}

/* Of 1970-01-01: a Thursday. */
static uint32_t weekday_of(int64_t number) {
    return (uint32_t)(number + 4 - 7 * floor_of(number + 4, 7));
}

/* The first right day from date on; false when there is none in its month. */
static bool find_in_month(const struct cron *cron, struct date *date) {
    uint32_t last = days_of(date->year, date->month);
    if (!has(cron, MONTH, date->month))
        return false;
    for (; date->day <= last; date->day++, date->number++)
        if (has(cron, DAY, date->day) && has(cron, WEEKDAY, weekday_of(date->number)))
            return true;
    date->day = last; /* where go_to_next_month begins */
    date->number--;
    return false;
}

static bool find_day(const struct cron *cron, struct date *date) {
    for (uint32_t i = 0; i < SEARCH_MONTHS_MAX; i++) {
        if (find_in_month(cron, date))
            return true;
        go_to_next_month(date);
    }
    return false;
}

/* The first right minute of a day from this one on; MINUTES_PER_DAY: none. */
static uint32_t find_minute(const struct cron *cron, uint32_t from) {
    uint32_t minute = from % MINUTES_PER_HOUR;
    for (uint32_t hour = from / MINUTES_PER_HOUR; hour < HOURS_PER_DAY; hour++, minute = 0) {
        if (!has(cron, HOUR, hour))
            continue;
        for (; minute < MINUTES_PER_HOUR; minute++)
            if (has(cron, MINUTE, minute))
                return hour * MINUTES_PER_HOUR + minute;
    }
    return MINUTES_PER_DAY;
}

/* From a minute on, counted since 1970. */
static int64_t find(const struct cron *cron, int64_t minute) {
    struct date date = date_of(floor_of(minute, MINUTES_PER_DAY));
    int64_t today = date.number;
    uint32_t at = (uint32_t)(minute - today * MINUTES_PER_DAY);
    if (!find_day(cron, &date))
        return INT64_MAX;
    at = find_minute(cron, date.number == today ? at : 0);
    if (at == MINUTES_PER_DAY) { /* today, but for its time */
        struct date tomorrow = date_of(today + 1);
        if (!find_day(cron, &tomorrow))
            return INT64_MAX;
        date = tomorrow;
        at = find_minute(cron, 0);
    }
    BK_ASSERT(at < MINUTES_PER_DAY);
    return (date.number * MINUTES_PER_DAY + at) * MS_PER_MINUTE;
}

int64_t bk_cron_next_ms(struct bk_slice expression, int64_t wall_ms) {
    struct bk_arena arena;
    struct cron cron;
    if (wall_ms >= LAST_MS)
        return INT64_MAX;
    bk_arena_init(&arena, NO_ARENA_BYTES);
    bool is_right = read_cron(expression, &arena, &cron).length == 0;
    bk_arena_fini(&arena);
    if (!is_right)
        return INT64_MAX;
    int64_t from_ms = wall_ms < FIRST_MS ? FIRST_MS - 1 : wall_ms;
    int64_t next_ms = find(&cron, floor_of(from_ms, MS_PER_MINUTE) + 1);
    return next_ms > LAST_MS ? INT64_MAX : next_ms;
}
