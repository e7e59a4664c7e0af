/* Time texts: the calendar from 0000 to 9999, offsets, fractions, and what is refused. */
#include "bakend/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

static const int64_t FIRST_MS = -62167219200000;
static const int64_t LAST_MS = 253402300799999;

static void assert_formats(int64_t ms, const char *expected) {
    char text[BK_TIME_TEXT_BYTES + 1] = {0};
    text[BK_TIME_TEXT_BYTES] = '!';
    bk_time_format(text, ms, 'T');
    assert_int_equal(text[BK_TIME_TEXT_BYTES], '!');
    text[BK_TIME_TEXT_BYTES] = '\0';
    assert_string_equal(text, expected);
    int64_t back = 1;
    assert_true(bk_time_parse(bk_slice_from(expected), &back));
    assert_true(back == ms);
}

static void test_known_dates(void **state) {
    (void)state;
    assert_formats(0, "1970-01-01T00:00:00.000Z");
    assert_formats(-1, "1969-12-31T23:59:59.999Z");
    assert_formats(951782400000, "2000-02-29T00:00:00.000Z");
    assert_formats(951868800000, "2000-03-01T00:00:00.000Z");
    assert_formats(4107542400000, "2100-03-01T00:00:00.000Z");
    assert_formats(4107542399999, "2100-02-28T23:59:59.999Z");
    assert_formats(1780920000123, "2026-06-08T12:00:00.123Z");
    assert_formats(FIRST_MS, "0000-01-01T00:00:00.000Z");
    assert_formats(-62162035200001, "0000-02-29T23:59:59.999Z");
    assert_formats(-62162035200000, "0000-03-01T00:00:00.000Z");
    assert_formats(LAST_MS, "9999-12-31T23:59:59.999Z");
}

static void test_separator_of_records(void **state) {
    (void)state;
    char text[BK_TIME_TEXT_BYTES];
    bk_time_format(text, 1780920000000, ' ');
    assert_memory_equal(text, "2026-06-08 12:00:00.000Z", BK_TIME_TEXT_BYTES);
}

static void test_out_of_range_is_written_as_the_nearest(void **state) {
    (void)state;
    char text[BK_TIME_TEXT_BYTES];
    bk_time_format(text, INT64_MAX, 'T');
    assert_memory_equal(text, "9999-12-31T23:59:59.999Z", BK_TIME_TEXT_BYTES);
    bk_time_format(text, INT64_MIN, 'T');
    assert_memory_equal(text, "0000-01-01T00:00:00.000Z", BK_TIME_TEXT_BYTES);
}

static void test_every_day_agrees_with_the_c_library(void **state) {
    (void)state;
    for (int64_t day = FIRST_MS / 86400000; day <= LAST_MS / 86400000; day++) {
        char text[BK_TIME_TEXT_BYTES];
        bk_time_format(text, day * 86400000 + 86399999, 'T');
        time_t seconds = (time_t)(day * 86400);
        struct tm tm;
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_int_equal((text[0] - '0') * 1000 + (text[1] - '0') * 100 + (text[2] - '0') * 10 +
                             (text[3] - '0'),
                         tm.tm_year + 1900);
        assert_int_equal((text[5] - '0') * 10 + (text[6] - '0'), tm.tm_mon + 1);
        assert_int_equal((text[8] - '0') * 10 + (text[9] - '0'), tm.tm_mday);
        int64_t back = 0;
        assert_true(bk_time_parse(bk_slice_make(text, 10), &back));
        assert_true(back == day * 86400000);
    }
}

static void test_random_times_round_trip(void **state) {
    (void)state;
    uint64_t seed = 7;
    for (int i = 0; i < 100000; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        int64_t ms = FIRST_MS + (int64_t)((seed >> 8) % (uint64_t)(LAST_MS - FIRST_MS + 1));
        char text[BK_TIME_TEXT_BYTES];
        bk_time_format(text, ms, i % 2 == 0 ? 'T' : ' ');
        int64_t back = 0;
        assert_true(bk_time_parse(bk_slice_make(text, sizeof text), &back));
        assert_true(back == ms);
    }
}

static void assert_parses(const char *text, int64_t expected) {
    int64_t ms = 1;
    assert_true(bk_time_parse(bk_slice_from(text), &ms));
    assert_true(ms == expected);
}

static void test_accepted_forms(void **state) {
    (void)state;
    assert_parses("2026-06-08", 1780876800000);
    assert_parses("2026-06-08T12:00:00Z", 1780920000000);
    assert_parses("2026-06-08 12:00:00Z", 1780920000000);
    assert_parses("2026-06-08T12:00:00.1Z", 1780920000100);
    assert_parses("2026-06-08T12:00:00.1239Z", 1780920000123);
    assert_parses("2026-06-08T12:00:00.123456789Z", 1780920000123);
    assert_parses("2026-06-08T14:00:00+02:00", 1780920000000);
    assert_parses("2026-06-08T06:30:00.500-05:30", 1780920000500);
    assert_parses("1969-12-31T23:59:59.9999Z", -1);
}

static void test_refused_forms_leave_the_output_alone(void **state) {
    (void)state;
    static const char *refused[] = {
        "",
        "2026",
        "2026-06-8",
        "2026-13-01",
        "2026-00-01",
        "2026-06-00",
        "2026-06-31",
        "2026-02-29",
        "2100-02-29",
        "2026-06-08T",
        "2026-06-08Z",
        "2026-06-08T12:00Z",
        "2026-06-08T12:00:00",
        "2026-06-08t12:00:00Z",
        "2026-06-08T12:00:00z",
        "2026-06-08T24:00:00Z",
        "2026-06-08T12:60:00Z",
        "2026-06-08T23:59:60Z",
        "2026-06-08T12:00:00.Z",
        "2026-06-08T12:00:00.1234567890Z",
        "2026-06-08T12:00:00,5Z",
        "2026-06-08T12:00:00Z ",
        " 2026-06-08",
        "2026-06-08T12:00:00+2:00",
        "2026-06-08T12:00:00+0200",
        "2026-06-08T12:00:00+24:00",
        "2026-06-08T12:00:00+01:60",
        "+026-06-08",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "12026-06-08",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int64_t ms = 77;
        if (bk_time_parse(bk_slice_from(refused[i]), &ms))
            fail_msg("accepted: %s", refused[i]);
        assert_int_equal(ms, 77);
    }
}

static void test_clocks_move_and_the_offset_counts(void **state) {
    (void)state;
    uint64_t before = bk_clock_monotonic_ns();
    assert_true(bk_clock_monotonic_ns() >= before);
    int64_t now = bk_clock_wall_ms();
    assert_true(now > 1700000000000);
    bk_clock_set_offset_ms(-86400000);
    int64_t shifted = bk_clock_wall_ms();
    bk_clock_set_offset_ms(0);
    assert_true(shifted < now - 86000000 && shifted > now - 86500000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_dates),
        cmocka_unit_test(test_separator_of_records),
        cmocka_unit_test(test_out_of_range_is_written_as_the_nearest),
        cmocka_unit_test(test_every_day_agrees_with_the_c_library),
        cmocka_unit_test(test_random_times_round_trip),
        cmocka_unit_test(test_accepted_forms),
        cmocka_unit_test(test_refused_forms_leave_the_output_alone),
        cmocka_unit_test(test_clocks_move_and_the_offset_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
