/* Cron expressions: which are taken, what is said of the others, and when their times come. */
#include "bakend/work.h"

#include "support.h"

#include "bakend/clock.h"

#include <stdio.h>

enum { MINUTE_MS = 60000, MINUTES_PER_DAY = 1440 };

static struct bk_arena arena;

static const char *problem_of(const char *text) {
    struct bk_slice problem = bk_cron_problem(bk_slice_from(text), &arena);
    return problem.length == 0 ? "" : bk_arena_copy(&arena, problem).data;
}

static int setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 1024 * 1024);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

/* --- what is right ---------------------------------------------------------------------------- */

static void expressions_of_the_contract_are_taken(void **state) {
    static const char *const good[] = {
        "* * * * *",   "0 0 1 1 0",           "59 23 31 12 6", "*/5 1-3,7 * * 0-6/2",
        "@yearly",     "@annually",           "@monthly",      "@weekly",
        "@daily",      "@midnight",           "@hourly",       "*/1 * * * *",
        "5/1 * * * *", "1,2,3-5,*/7 * * * *",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(good); i++)
        assert_string_equal(problem_of(good[i]), "");
}

static void others_are_refused_with_a_reason(void **state) {
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"nope", "exactly 5"},
        {"* * *", "exactly 5"},
        {" * * * * * ", "exactly 5"},
        {"*  * * * *", "exactly 5"},
        {"@reboot", "exactly 5"},
        {"", "exactly 5"},
        {"61 * * * *", "min and max"},
        {"* 24 * * *", "min and max"},
        {"* * 0 * *", "min and max"},
        {"* * * 13 *", "min and max"},
        {"* * * * 7", "min and max"},
        {"* * * JAN *", "no number"},
        {"1,,2 * * * *", "no number"},
        {"1-x * * * *", "no number"},
        {"*/x * * * *", "no number"},
        {"1/2 * * * *", "step > 1"},
        {"5-1 * * * *", "between 5 and 59"},
        {"5-60 * * * *", "between 5 and 59"},
        {"*/0 * * * *", "between 1 and the 59"},
        {"*/60 * * * *", "between 1 and the 59"},
        {"1-2-3 * * * *", "1 or 2 parts"},
        {"*/5/2 * * * *", "*/n or 1-30/n"},
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(bad); i++)
        if (strstr(problem_of(bad[i].text), bad[i].part) == NULL)
            fail_msg("\"%s\": \"%s\" does not say \"%s\"", bad[i].text, problem_of(bad[i].text),
                     bad[i].part);
}

/* --- the next time ---------------------------------------------------------------------------- */

static int64_t time_of(const char *text) {
    int64_t ms = 0;
    assert_true(bk_time_parse(bk_slice_from(text), &ms));
    return ms;
}

struct next_case {
    const char *expression, *after, *next; /* next NULL: never */
};

static void check(const struct next_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int64_t wanted = cases[i].next == NULL ? INT64_MAX : time_of(cases[i].next);
        int64_t next = bk_cron_next_ms(bk_slice_from(cases[i].expression), time_of(cases[i].after));
        char text[BK_TIME_TEXT_BYTES + 1] = {0};
        bk_time_format(text, next, 'T');
        if (next != wanted)
            fail_msg("\"%s\" after %s: %s instead of %s", cases[i].expression, cases[i].after,
                     next == INT64_MAX ? "never" : text,
                     cases[i].next == NULL ? "never" : cases[i].next);
    }
}

static void the_next_time_is_after_now(void **state) {
    static const struct next_case cases[] = {
        {"* * * * *", "2026-11-22T10:30:00.000Z", "2026-11-22T10:31:00Z"},
        {"* * * * *", "2026-11-22T10:30:59.999Z", "2026-11-22T10:31:00Z"},
        {"* * * * *", "2026-11-22T10:29:59.999Z", "2026-11-22T10:30:00Z"},
        {"30 10 * * *", "2026-11-22T10:29:59.999Z", "2026-11-22T10:30:00Z"},
        {"30 10 * * *", "2026-11-22T10:30:00Z", "2026-11-23T10:30:00Z"},
        {"@hourly", "2026-11-22T10:30:00Z", "2026-11-22T11:00:00Z"},
        {"@daily", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"},
        {"@midnight", "2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z"},
        {"@weekly", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"}, /* a Sunday */
        {"@monthly", "2026-11-22T00:00:00Z", "2026-12-01T00:00:00Z"},
        {"@yearly", "2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z"},
        {"@annually", "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"},
        {"0 0 * * *", "1969-12-31T23:59:00Z", "1970-01-01T00:00:00Z"},
        {"15 3 * * *", "1955-06-01T04:00:00Z", "1955-06-02T03:15:00Z"},
    };
    (void)state;
    check(cases, BK_COUNT_OF(cases));
}

static void steps_count_from_where_the_range_begins(void **state) {
    static const struct next_case cases[] = {
        {"*/20 * * * *", "2026-11-22T10:41:00Z", "2026-11-22T11:00:00Z"},
        {"*/25 * * * *", "2026-11-22T10:50:00Z", "2026-11-22T11:00:00Z"},
        {"5-40/15 * * * *", "2026-11-22T10:06:00Z", "2026-11-22T10:20:00Z"},
        {"5-40/15 * * * *", "2026-11-22T10:35:00Z", "2026-11-22T11:05:00Z"},
        {"7,3,50 * * * *", "2026-11-22T10:07:00Z", "2026-11-22T10:50:00Z"},
        {"0 0 */10 * *", "2026-11-22T00:00:00Z", "2026-12-01T00:00:00Z"}, /* 1, 11, 21, 31 */
        {"0 0 */10 * *", "2026-12-21T00:00:00Z", "2026-12-31T00:00:00Z"},
        {"0 0 1 */5 *", "2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z"}, /* 1, 6, 11 */
        {"0 0 * * 1-5/2", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"},
        {"0 0 * * 1-5/2", "2026-11-27T00:00:00Z", "2026-11-30T00:00:00Z"},
        {"0 */23 * * *", "2026-11-22T00:00:00Z", "2026-11-22T23:00:00Z"},
    };
    (void)state;
    check(cases, BK_COUNT_OF(cases));
}

static void a_day_must_suit_both_as_day_and_as_weekday(void **state) {
    static const struct next_case cases[] = {
        {"0 0 13 * 5", "2026-11-22T00:00:00Z", "2027-08-13T00:00:00Z"},
        {"0 0 29 2 2", "2026-11-22T00:00:00Z", "2028-02-29T00:00:00Z"},
        {"0 0 29 2 0", "2026-11-22T00:00:00Z", "2032-02-29T00:00:00Z"},
        {"0 0 29 2 1", "2072-02-29T00:00:00Z", "2112-02-29T00:00:00Z"}, /* past 2100 */
        {"0 0 1 * 0-6", "2026-11-22T00:00:00Z", "2026-12-01T00:00:00Z"},
    };
    (void)state;
    check(cases, BK_COUNT_OF(cases));
}

static void months_and_years_end_where_they_do(void **state) {
    static const struct next_case cases[] = {
        {"59 23 31 12 *", "2026-11-22T00:00:00Z", "2026-12-31T23:59:00Z"},
        {"59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"},
        {"0 0 31 * *", "2026-11-22T00:00:00Z", "2026-12-31T00:00:00Z"},
        {"0 0 31 * *", "2027-01-31T00:00:00Z", "2027-03-31T00:00:00Z"},
        {"0 0 30 * *", "2027-01-30T00:00:00Z", "2027-03-30T00:00:00Z"},
        {"0 0 29 2 *", "2026-11-22T00:00:00Z", "2028-02-29T00:00:00Z"},
        {"0 0 29 2 *", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"},
        {"0 0 29 2 *", "1999-12-31T00:00:00Z", "2000-02-29T00:00:00Z"},
        {"0 0 * * *", "2028-02-28T12:00:00Z", "2028-02-29T00:00:00Z"},
        {"0 0 * * *", "2027-02-28T12:00:00Z", "2027-03-01T00:00:00Z"},
        {"* * 29 2 *", "2028-02-29T23:59:00Z", "2032-02-29T00:00:00Z"},
        {"0 12 1 1 *", "2026-12-31T23:59:59.999Z", "2027-01-01T12:00:00Z"},
    };
    (void)state;
    check(cases, BK_COUNT_OF(cases));
}

static void what_never_comes_is_never(void **state) {
    static const struct next_case cases[] = {
        {"0 0 31 2 *", "2026-11-22T00:00:00Z", NULL},
        {"0 0 30 2 1", "2026-11-22T00:00:00Z", NULL},
        {"0 0 31 4,6,9,11 *", "2026-11-22T00:00:00Z", NULL},
        {"0 0 1 1 *", "9999-06-01T00:00:00Z", NULL},
        {"* * * * *", "9999-12-31T23:59:30Z", NULL},
        {"nonsense", "2026-11-22T00:00:00Z", NULL},
        {"0 0 1 1 *", "9998-06-01T00:00:00Z", "9999-01-01T00:00:00Z"},
    };
    (void)state;
    check(cases, BK_COUNT_OF(cases));
    assert_int_equal(bk_cron_next_ms(BK_SLICE("* * * * *"), INT64_MAX), INT64_MAX);
    assert_int_equal(bk_cron_next_ms(BK_SLICE("* * * * *"), INT64_MIN),
                     time_of("0000-01-01T00:00:00Z"));
}

/* --- against a search minute by minute -------------------------------------------------------- */

static uint32_t seed = 2463534242;

static uint32_t pick(uint32_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % below;
}

/* Bits of what it means, and its text. */
static uint64_t make_segment(char text[48], uint32_t minimum, uint32_t maximum) {
    uint64_t bits = 0;
    size_t length = 0;
    uint32_t parts = 1 + pick(3);
    text[0] = '\0';
    for (uint32_t i = 0; i < parts; i++) {
        uint32_t from = minimum + pick(maximum - minimum + 1);
        uint32_t to = from + pick(maximum - from + 1), step = 1 + pick(maximum);
        const char *comma = i == 0 ? "" : ",";
        switch (pick(4)) {
        case 0:
            from = minimum, to = maximum;
            length += (size_t)snprintf(text + length, 48 - length, "%s*/%u", comma, step);
            break;
        case 1:
            length +=
                (size_t)snprintf(text + length, 48 - length, "%s%u-%u/%u", comma, from, to, step);
            break;
        case 2:
            step = 1;
            length += (size_t)snprintf(text + length, 48 - length, "%s%u-%u", comma, from, to);
            break;
        default:
            to = from;
            length += (size_t)snprintf(text + length, 48 - length, "%s%u", comma, from);
        }
        for (uint32_t j = from; j <= to; j += step)
            bits |= UINT64_C(1) << j;
    }
    return bits;
}

static bool is_right_day(const uint64_t bits[5], int64_t minute) {
    char text[BK_TIME_TEXT_BYTES];
    int64_t days_since_a_sunday = minute / MINUTES_PER_DAY + 4;
    bk_time_format(text, minute * MINUTE_MS, 'T');
    int month = (text[5] - '0') * 10 + text[6] - '0', day = (text[8] - '0') * 10 + text[9] - '0';
    return (bits[2] >> day & 1) != 0 && (bits[3] >> month & 1) != 0 &&
           (bits[4] >> (days_since_a_sunday % 7) & 1) != 0;
}

static int64_t search(const uint64_t bits[5], int64_t minute, int64_t limit) {
    bool is_right = false, is_known = false;
    for (; minute < limit; minute++) {
        int64_t in_day = minute % MINUTES_PER_DAY;
        if (!is_known || in_day == 0)
            is_right = is_right_day(bits, minute);
        is_known = true;
        if (is_right && (bits[1] >> (in_day / 60) & 1) != 0 && (bits[0] >> (in_day % 60) & 1) != 0)
            return minute;
    }
    return limit;
}

static void it_finds_what_a_search_by_the_minute_finds(void **state) {
    enum { ROUNDS = 2000, DAYS = 60 };
    const int64_t first = time_of("1996-01-01T00:00:00Z") / MINUTE_MS;
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        char parts[5][48], expression[256];
        uint64_t bits[5] = {make_segment(parts[0], 0, 59), make_segment(parts[1], 0, 23),
                            make_segment(parts[2], 1, 31), make_segment(parts[3], 1, 12),
                            make_segment(parts[4], 0, 6)};
        snprintf(expression, sizeof expression, "%s %s %s %s %s", parts[0], parts[1], parts[2],
                 parts[3], parts[4]);
        int64_t after = first + pick(60U * 24 * 365 * 30);
        int64_t limit = after + DAYS * MINUTES_PER_DAY;
        int64_t found = search(bits, after + 1, limit);
        int64_t next =
            bk_cron_next_ms(bk_slice_from(expression), after * MINUTE_MS + pick(MINUTE_MS));
        assert_string_equal(problem_of(expression), "");
        if (found < limit ? next != found * MINUTE_MS : next < limit * MINUTE_MS)
            fail_msg("\"%s\" after minute %lld", expression, (long long)after);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(expressions_of_the_contract_are_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(others_are_refused_with_a_reason, setup, teardown),
        cmocka_unit_test(the_next_time_is_after_now),
        cmocka_unit_test(steps_count_from_where_the_range_begins),
        cmocka_unit_test(a_day_must_suit_both_as_day_and_as_weekday),
        cmocka_unit_test(months_and_years_end_where_they_do),
        cmocka_unit_test(what_never_comes_is_never),
        cmocka_unit_test_setup_teardown(it_finds_what_a_search_by_the_minute_finds, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
