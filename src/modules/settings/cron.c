/*
 * Cron expressions, judged: a macro, or minute, hour, day, month and weekday, one space between
 * them. A segment is a list of "*", numbers and ranges; all but a number alone may have a step.
 */
#include "settings.h"

struct segment {
    int64_t minimum, maximum;
};

static bool is_macro(struct bk_slice text) {
    static const char *const macros[] = {"@yearly", "@annually", "@monthly", "@weekly",
                                         "@daily",  "@midnight", "@hourly"};
    for (size_t i = 0; i < BK_COUNT_OF(macros); i++)
        if (bk_slice_equal(text, bk_slice_from(macros[i])))
            return true;
    return false;
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

static struct bk_slice range_problem(struct bk_slice range, const struct segment *segment,
                                     struct bk_arena *arena) {
    struct bk_slice rest = range, first, last;
    int64_t from, to;
    if (count_of(range, '-') > 2)
        return BK_SLICE("Invalid segment range format - the range must have 1 or 2 parts.");
    if (!bk_slice_split(&rest, '-', &first) || !bk_slice_to_int64(first, &from))
        return no_number(range, arena);
    if (from < segment->minimum || from > segment->maximum)
        return BK_SLICE("Invalid segment value - must be between the min and max of the segment.");
    if (!bk_slice_split(&rest, '-', &last))
        return BK_SLICE_EMPTY;
    if (!bk_slice_to_int64(last, &to))
        return no_number(last, arena);
    if (to >= from && to <= segment->maximum)
        return BK_SLICE_EMPTY;
    return bk_arena_format(arena, "Invalid segment range maximum - must be between %lld and %lld.",
                           (long long)from, (long long)segment->maximum);
}

static struct bk_slice step_problem(struct bk_slice step, const struct segment *segment,
                                    struct bk_arena *arena, int64_t *number) {
    if (!bk_slice_to_int64(step, number))
        return no_number(step, arena);
    if (*number >= 1 && *number <= segment->maximum)
        return BK_SLICE_EMPTY;
    return bk_arena_format(
        arena, "Invalid segment step boundary - the step must be between 1 and the %lld.",
        (long long)segment->maximum);
}

static struct bk_slice item_problem(struct bk_slice item, const struct segment *segment,
                                    struct bk_arena *arena) {
    struct bk_slice rest = item, range = BK_SLICE_EMPTY, step, problem = BK_SLICE_EMPTY;
    int64_t number = 1;
    if (count_of(item, '/') > 2)
        return BK_SLICE("Invalid segment step format - must be in the format */n or 1-30/n.");
    bk_slice_split(&rest, '/', &range);
    if (bk_slice_split(&rest, '/', &step))
        problem = step_problem(step, segment, arena, &number);
    if (problem.length > 0 || bk_slice_is(range, "*"))
        return problem;
    if (number > 1 && bk_slice_find(range, '-') == range.length)
        return BK_SLICE("Invalid segment step - step > 1 could be used only with the wildcard or "
                        "range format.");
    return range_problem(range, segment, arena);
}

struct bk_slice settings_cron_problem(struct bk_slice text, struct bk_arena *arena) {
    static const struct segment segments[] = {{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}};
    struct bk_slice part, item;
    if (is_macro(text))
        return BK_SLICE_EMPTY;
    if (count_of(text, ' ') != BK_COUNT_OF(segments))
        return BK_SLICE("Invalid cron expression - must be a valid macro or to have exactly 5 "
                        "space separated segments.");
    for (size_t i = 0; i < BK_COUNT_OF(segments) && bk_slice_split(&text, ' ', &part); i++) {
        while (bk_slice_split(&part, ',', &item)) {
            struct bk_slice problem = item_problem(item, &segments[i], arena);
            if (problem.length > 0)
                return problem;
        }
    }
    return BK_SLICE_EMPTY;
}
