/* strftime in memory writes what SQLite writes, of times that are right, odd and none. */
#include "rules_private.h"

#include "schema_fixture.h"
#include <stdio.h>

/* A hundred: four times that is more digits than a number of SQLite has room for. */
#define TEN_NINES "9999999999"
#define NINES                                                                                      \
    TEN_NINES TEN_NINES TEN_NINES TEN_NINES TEN_NINES TEN_NINES TEN_NINES TEN_NINES TEN_NINES      \
        TEN_NINES

static const char *const times[] = {"2026-01-31 12:34:56.789Z",
                                    "2026-01-31T12:34:56Z",
                                    "2024-02-29",
                                    "2022-02-30 10:00:00.000Z",
                                    "2022-02-30",
                                    "2022-04-31 00:00:00+00:00",
                                    "1999-12-31 23:59:59.999Z",
                                    "2000-01-01 00:00",
                                    "2000-01-01 24:00:00",
                                    "2000-01-01 23:30:00+01:00",
                                    "2000-01-01 23:30:00-14:59",
                                    "0000-01-01",
                                    "9999-12-31 23:59:59.9999",
                                    "-0044-03-15",
                                    "-4713-11-24 12:00:00",
                                    "12:00",
                                    "12:00:01.5",
                                    "  12:00",
                                    "2026-1-31",
                                    "2026-01-31 1:00",
                                    "2026-13-01",
                                    "2026-00-10",
                                    "2026-01-31x",
                                    "2026-01-31 12:00:00.",
                                    "2026-01-31 12:00:00.5 ",
                                    "2026-01-31  TT12:00",
                                    "2026-01-31 12:00:00 +02:00 ",
                                    "2026-01-31 12:00:00z",
                                    "2026-01-31 12:00:60",
                                    "2026-01-31 25:00",
                                    "",
                                    " ",
                                    "text",
                                    "2459000.5",
                                    "0",
                                    "-1",
                                    "5373484.4",
                                    "5373484.5",
                                    "1e3",
                                    "2010-10-10 10:10:10.0005",
                                    "2010-10-10 10:10:10.123",
                                    "2010-10-10 10:10:59.9999",
                                    "1582-10-10",
                                    "2023-12-31",
                                    "2025-01-01",
                                    "2020-12-31 23:59",
                                    "2026-01-31 12:00:00+24:00",
                                    "2026-01-31 12:00:00+1:00",
                                    "111111111110",
                                    "-111111111110",
                                    "1e300",
                                    "12:00:00." NINES NINES NINES NINES,
                                    "2026-01-31 12:00:00.000" NINES NINES NINES NINES,
                                    "-4713-11-24 12:00:00." NINES NINES NINES NINES "+14:00"};

static const char *const formats[] = {
    "%Y-%m-%d %H:%M:%S", "%f",     "%j",  "%W", "%w", "%s", "%%", "%Y%", "%Q", "",
    "no letter",         "%d.%m.", "%H%M"};

static void assert_same(struct support_schema *fixture, const char *format,
                        const struct bk_value *time) {
    static const struct bk_slice text = BK_SLICE_INIT("SELECT strftime(?1, ?2)");
    struct bk_connection *connection = bk_store_read_now(fixture->kernel.tenant->database);
    const struct bk_sql sql = bk_sql_make(text);
    const struct bk_value format_value = BK_VALUE_OF_TEXT(bk_slice_from(format));
    struct bk_statement *statement;
    struct bk_value made;
    struct bk_arena arena;
    bk_arena_init(&arena, 1024 * 1024);
    assert_true(filter_strftime(&arena, &format_value, time, 0, &made));
    assert_int_equal(bk_connection_statement(connection, &sql, &statement), BK_OK);
    bk_statement_bind(statement, 1, &format_value);
    bk_statement_bind(statement, 2, time);
    assert_int_equal(bk_statement_step(statement), BK_OK);
    struct bk_value right = bk_statement_value(statement, 0);
    struct bk_slice was = time->type == BK_VALUE_TEXT ? time->text : BK_SLICE("(a number)");
    if (made.type != right.type ||
        (made.type == BK_VALUE_TEXT && !bk_slice_equal(made.text, right.text)))
        fail_msg("strftime('%s', '%.*s'): '%.*s' and not '%.*s'", format, BK_SLICE_PRINT(was),
                 BK_SLICE_PRINT(made.type == BK_VALUE_TEXT ? made.text : BK_SLICE("NULL")),
                 BK_SLICE_PRINT(right.type == BK_VALUE_TEXT ? right.text : BK_SLICE("NULL")));
    bk_statement_reset(statement);
    bk_arena_fini(&arena);
}

static void it_writes_what_sqlite_writes(void **state) {
    for (size_t f = 0; f < BK_COUNT_OF(formats); f++) {
        for (size_t t = 0; t < BK_COUNT_OF(times); t++) {
            const struct bk_value time = BK_VALUE_OF_TEXT(bk_slice_from(times[t]));
            assert_same(*state, formats[f], &time);
        }
        const struct bk_value numbers[] = {
            BK_VALUE_OF_NULL,         BK_VALUE_OF_INT(2459000),         BK_VALUE_OF_INT(-5),
            BK_VALUE_OF_INT(0),       BK_VALUE_OF_REAL(2459000.123456), BK_VALUE_OF_REAL(1e300),
            BK_VALUE_OF_REAL(-1e300), BK_VALUE_OF_INT(INT64_MAX),       BK_VALUE_OF_INT(INT64_MIN)};
        for (size_t n = 0; n < BK_COUNT_OF(numbers); n++)
            assert_same(*state, formats[f], &numbers[n]);
    }
}

/* Every second of a few days, at odd distances, through leap years and centuries. */
static void it_agrees_on_every_day(void **state) {
    char text[64];
    for (int day = 0; day < 4000; day++) {
        const struct bk_value time = BK_VALUE_OF_REAL(1721425.5 + day * 521.3718);
        assert_same(*state, "%Y-%m-%d %H:%M:%S %j %W %w %s", &time);
    }
    for (int ms = 0; ms < 1000; ms += 7) {
        snprintf(text, sizeof text, "2026-11-22 12:00:%02d.%03dZ", ms % 60, ms);
        const struct bk_value time = BK_VALUE_OF_TEXT(bk_slice_from(text));
        assert_same(*state, "%f %S %s", &time);
    }
}

static void modifiers_and_the_days_number_are_for_sqlite(void **state) {
    const struct bk_value format = BK_VALUE_OF_TEXT(BK_SLICE("%J"));
    const struct bk_value time = BK_VALUE_OF_TEXT(BK_SLICE("2026-01-31"));
    struct bk_arena arena;
    struct bk_value made;
    (void)state;
    bk_arena_init(&arena, 4096);
    assert_false(filter_strftime(&arena, &format, &time, 0, &made));
    bk_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_writes_what_sqlite_writes, support_schema_setup,
                                        support_schema_teardown),
        cmocka_unit_test_setup_teardown(it_agrees_on_every_day, support_schema_setup,
                                        support_schema_teardown),
        cmocka_unit_test(modifiers_and_the_days_number_are_for_sqlite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
