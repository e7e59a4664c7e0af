/*
 * Cron expressions and the times that they mean.
 *
 * The first eight bytes are a moment, the rest is the expression. Whatever they are: what is
 * refused has a reason and no time; what is taken has its next time where a second reading of the
 * same rules, number by number, finds the first one with the C library's calendar: no minute before
 * it would have been right. After it comes a later one, from a moment within the same minute the
 * same one.
 */
#include "fuzz.h"

#include "bakend/work.h"

#include <stdlib.h>
#include <time.h>

enum {
    ARENA_BYTES_MAX = 64 * 1024,
    TEXT_BYTES_MAX = 256,
    SEGMENTS = 5,
    MINUTES_PER_DAY = 24 * 60,
    DAYS_MAX = 800 /* looked at one by one, from the moment and before the time that was found */
};
static const int64_t ms_per_minute = 60000;
static const int64_t ms_per_day = 86400000;
static const int64_t last_ms = 253402300799999; /* 9999-12-31T23:59:59.999Z */

/* --- the second reading ----------------------------------------------------------------------- */

static const char *const macros[][2] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
    {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
    {"@hourly", "0 * * * *"},
};

/* Whether a right item such as "3", "1-5" or "0-30/2" has the number. */
static bool has_number(const char *item, long minimum, long maximum, long number) {
    const char *slash = strchr(item, '/');
    long step = slash == NULL ? 1 : strtol(slash + 1, NULL, 10), from = minimum, to = maximum;
    if (item[0] != '*') {
        char *end;
        from = to = strtol(item, &end, 10);
        if (*end == '-')
            to = strtol(end + 1, NULL, 10);
    }
    return number >= from && number <= to && (number - from) % step == 0;
}

static bool has_in_list(const char *list, long minimum, long maximum, long number) {
    char text[TEXT_BYTES_MAX], *rest = text, *item;
    memcpy(text, list, strlen(list) + 1);
    while ((item = strsep(&rest, ",")) != NULL)
        if (has_number(item, minimum, maximum, number))
            return true;
    return false;
}

struct reading {
    char text[TEXT_BYTES_MAX];
    const char *segments[SEGMENTS]; /* minute, hour, day, month, weekday */
};

static void read_segments(struct reading *reading, struct bk_slice expression) {
    char *rest = reading->text;
    memcpy(reading->text, expression.data, expression.length);
    reading->text[expression.length] = '\0';
    for (size_t i = 0; i < BK_COUNT_OF(macros); i++)
        if (strcmp(reading->text, macros[i][0]) == 0)
            memcpy(reading->text, macros[i][1], strlen(macros[i][1]) + 1);
    for (size_t i = 0; i < SEGMENTS; i++)
        reading->segments[i] = strsep(&rest, " ");
    BK_ASSERT(rest == NULL && reading->segments[SEGMENTS - 1] != NULL);
}

static struct tm calendar(int64_t wall_ms) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    BK_ASSERT(gmtime_r(&seconds, &parts) != NULL);
    return parts;
}

static bool is_right_day(const struct reading *reading, const struct tm *parts) {
    return has_in_list(reading->segments[2], 1, 31, parts->tm_mday) &&
           has_in_list(reading->segments[3], 1, 12, parts->tm_mon + 1) &&
           has_in_list(reading->segments[4], 0, 6, parts->tm_wday);
}

/* The first right minute of the day that begins at day_ms, from this one on; -1: none. */
static int64_t first_minute(const struct reading *reading, int64_t day_ms, int64_t from) {
    struct tm parts = calendar(day_ms);
    if (!is_right_day(reading, &parts))
        return -1;
    for (int64_t minute = from; minute < MINUTES_PER_DAY; minute++) {
        if (!has_in_list(reading->segments[1], 0, 23, minute / 60))
            minute += 59 - minute % 60;
        else if (has_in_list(reading->segments[0], 0, 59, minute % 60))
            return minute;
    }
    return -1;
}

/* --- what must hold --------------------------------------------------------------------------- */

/* No day from the first to the last, of those looked at, has a right minute. */
static void check_none(const struct reading *reading, int64_t first_day, int64_t last_day) {
    for (int64_t day = first_day; day <= last_day && day - first_day < DAYS_MAX; day++)
        BK_ASSERT(first_minute(reading, day * ms_per_day, 0) < 0);
    for (int64_t day = last_day; day >= first_day && last_day - day < DAYS_MAX; day--)
        BK_ASSERT(first_minute(reading, day * ms_per_day, 0) < 0);
}

static void check_next(const struct reading *reading, int64_t wall_ms, int64_t next_ms) {
    int64_t from = wall_ms / ms_per_minute + 1; /* the minute after it, since 1970 */
    int64_t from_day = from / MINUTES_PER_DAY, last_day = last_ms / ms_per_day;
    int64_t day = next_ms == INT64_MAX ? last_day + 1 : next_ms / ms_per_day;
    int64_t minute = first_minute(reading, from_day * ms_per_day, from % MINUTES_PER_DAY);
    if (from_day > last_day) {
        BK_ASSERT(next_ms == INT64_MAX);
    } else if (minute >= 0) {
        BK_ASSERT(next_ms == from_day * ms_per_day + minute * ms_per_minute);
    } else {
        check_none(reading, from_day + 1, day - 1);
        if (next_ms != INT64_MAX)
            BK_ASSERT(day > from_day &&
                      next_ms % ms_per_day ==
                          ms_per_minute * first_minute(reading, day * ms_per_day, 0));
    }
}

static void check(struct bk_slice expression, int64_t wall_ms) {
    struct bk_arena arena;
    struct reading reading;
    int64_t next_ms = bk_cron_next_ms(expression, wall_ms);
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    bool is_right = bk_cron_problem(expression, &arena).length == 0;
    bk_arena_fini(&arena);
    if (!is_right) {
        BK_ASSERT(next_ms == INT64_MAX);
        return;
    }
    read_segments(&reading, expression);
    check_next(&reading, wall_ms, next_ms);
    if (next_ms == INT64_MAX)
        return;
    BK_ASSERT(next_ms > wall_ms && next_ms <= last_ms);
    BK_ASSERT(bk_cron_next_ms(expression, next_ms - 1) == next_ms);
    BK_ASSERT(bk_cron_next_ms(expression, next_ms) > next_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t moment;
    if (size < sizeof(moment) || size >= sizeof(moment) + TEXT_BYTES_MAX)
        return 0;
    memcpy(&moment, data, sizeof(moment));
    check(bk_slice_make((const char *)data + sizeof(moment), size - sizeof(moment)),
          (int64_t)(moment % (uint64_t)(last_ms + ms_per_day)));
    return 0;
}
