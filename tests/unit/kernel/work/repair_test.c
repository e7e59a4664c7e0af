/* Rows of a future that never came get the delay that they were given, from now on. */
#include "time_fixture.h"

#include "bakend/id.h"

enum { ROW_LIMIT = 10, CALLS_MAX = 100 };

static void on_task(struct bk_work_task *task, void *user) {
    (void)user;
    bk_work_done(task, BK_SLICE_EMPTY);
}

static const struct bk_work_kind kinds[] = {
    {.name = "report", .on_task = on_task},
};

static int setup(void **state) {
    static struct time_fixture fixture;
    time_fixture_create(&fixture, kinds, BK_COUNT_OF(kinds));
    support_kernel_open(&fixture.kernel);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    time_fixture_destroy(*state);
    return 0;
}

static struct bk_database *database_of(const struct time_fixture *fixture) {
    return fixture->kernel.tenant->database;
}

/* A row whose due (of what is dead: whose end) is so long after the time at which it was set. */
static void add(struct time_fixture *fixture, const char *lane, const char *state, int64_t set_ms,
                int64_t delay_ms, int64_t id_ms) {
    char sql[512], due[BK_TIME_TEXT_BYTES], set[BK_TIME_TEXT_BYTES], id[BK_RECORD_ID_BYTES];
    bool is_dead = strcmp(state, "dead") == 0;
    work_time_write(due, set_ms + delay_ms);
    work_time_write(set, set_ms);
    bk_record_id_make(id, id_ms);
    snprintf(sql, sizeof sql,
             "INSERT INTO _work (id, lane, state, due, expires, updated) VALUES ('%.15s', '%s', "
             "'%s', '%.*s', '%.*s', '%.24s')",
             id, lane, state, is_dead ? 0 : BK_TIME_TEXT_BYTES, due,
             is_dead ? BK_TIME_TEXT_BYTES : 0, due, set);
    time_fixture_execute(fixture, database_of(fixture), sql);
}

/* How long after now, in milliseconds. */
static int64_t delay_of(struct time_fixture *fixture, const char *lane, const char *column) {
    char text[160];
    snprintf(text, sizeof text, "SELECT %s FROM _work WHERE lane = '%s'", column, lane);
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    struct bk_statement *statement;
    struct bk_connection *connection = bk_store_read_now(database_of(fixture));
    assert_int_equal(bk_connection_statement(connection, &sql, &statement), BK_OK);
    assert_int_equal(bk_statement_step(statement), BK_OK);
    int64_t time_ms = work_time_read(bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return time_ms - NOON_MS;
}

struct repair {
    int64_t now_ms;
    bool is_done;
};

static enum bk_status on_repair(struct bk_transaction *transaction, void *user) {
    struct repair *repair = user;
    return work_repair(transaction, repair->now_ms, ROW_LIMIT, &repair->is_done);
}

/* Returns how many slices it took. */
static uint32_t repair(struct time_fixture *fixture, int64_t now_ms) {
    struct repair repair = {.now_ms = now_ms};
    uint32_t count = 0;
    while (!repair.is_done) {
        assert_true(++count < CALLS_MAX);
        assert_int_equal(time_fixture_write(fixture, database_of(fixture), on_repair, &repair),
                         BK_OK);
    }
    return count;
}

static void note_time(struct time_fixture *fixture, int64_t time_ms) {
    char sql[128];
    snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO _work_state VALUES ('time', %lld)",
             (long long)time_ms);
    time_fixture_execute(fixture, database_of(fixture), sql);
}

static void without_rows_of_the_future_nothing_is_read(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(repair(fixture, NOON_MS), 1);
    add(fixture, "a", "waiting", NOON_MS - HOUR_MS, 10 * DAY_MS, NOON_MS - HOUR_MS);
    add(fixture, "b", "waiting", NOON_MS + 30 * 1000, MINUTE_MS, NOON_MS + 30 * 1000);
    note_time(fixture, NOON_MS + 30 * 1000);
    assert_int_equal(repair(fixture, NOON_MS), 1);
    assert_int_equal(delay_of(fixture, "a", "due"), 10 * DAY_MS - HOUR_MS);
    assert_int_equal(delay_of(fixture, "b", "due"), 90 * 1000);
    assert_int_equal(time_fixture_query(database_of(fixture),
                                        "SELECT 1 FROM _work_state WHERE name LIKE 'repair%'"),
                     -1);
}

static void each_gets_its_delay_again(void **state) {
    struct time_fixture *fixture = *state;
    int64_t future_ms = NOON_MS + YEARS_MS;
    add(fixture, "present", "waiting", NOON_MS - MINUTE_MS, HOUR_MS, NOON_MS - MINUTE_MS);
    add(fixture, "waiting", "waiting", future_ms, 5 * MINUTE_MS, future_ms);
    add(fixture, "blocked", "blocked", future_ms + HOUR_MS, 3 * DAY_MS, future_ms);
    add(fixture, "overdue", "waiting", future_ms, -HOUR_MS, future_ms);
    add(fixture, "running", "running", future_ms, MINUTE_MS, future_ms);
    add(fixture, "dead", "dead", future_ms, 30 * DAY_MS, future_ms);
    assert_true(repair(fixture, NOON_MS) > 1);
    assert_int_equal(delay_of(fixture, "present", "due"), HOUR_MS - MINUTE_MS);
    assert_int_equal(delay_of(fixture, "waiting", "due"), 5 * MINUTE_MS);
    assert_int_equal(delay_of(fixture, "waiting", "updated"), 0);
    assert_int_equal(delay_of(fixture, "blocked", "due"), 3 * DAY_MS);
    assert_int_equal(delay_of(fixture, "overdue", "due"), 0);
    assert_int_equal(delay_of(fixture, "running", "due"), YEARS_MS + MINUTE_MS);
    assert_int_equal(delay_of(fixture, "dead", "expires"), 30 * DAY_MS);
}

static void old_rows_that_were_put_off_in_the_future_are_found_by_the_noted_time(void **state) {
    struct time_fixture *fixture = *state;
    add(fixture, "old", "waiting", NOON_MS + YEARS_MS, HOUR_MS, NOON_MS - DAY_MS);
    note_time(fixture, NOON_MS + YEARS_MS);
    repair(fixture, NOON_MS);
    assert_int_equal(delay_of(fixture, "old", "due"), HOUR_MS);
    assert_int_equal(repair(fixture, NOON_MS), 1);
}

static void an_hour_is_repaired_too(void **state) {
    struct time_fixture *fixture = *state;
    add(fixture, "a", "waiting", NOON_MS + HOUR_MS, MINUTE_MS, NOON_MS + HOUR_MS);
    repair(fixture, NOON_MS);
    assert_int_equal(delay_of(fixture, "a", "due"), MINUTE_MS);
}

static void a_large_table_is_walked_in_slices_and_by_a_restart_further(void **state) {
    struct time_fixture *fixture = *state;
    enum { ROWS = 95 };
    struct repair one = {.now_ms = NOON_MS};
    for (int i = 0; i < ROWS; i++)
        add(fixture, "many", "waiting", NOON_MS + YEARS_MS, i * MINUTE_MS, NOON_MS + YEARS_MS);
    for (int i = 0; i < 4; i++)
        assert_int_equal(time_fixture_write(fixture, database_of(fixture), on_repair, &one), BK_OK);
    assert_false(one.is_done);
    time_fixture_restart(fixture, kinds, BK_COUNT_OF(kinds), NOON_MS);
    support_kernel_open(&fixture->kernel);
    assert_int_equal(
        time_fixture_query(database_of(fixture), "SELECT count(*) FROM _work WHERE due < '2027'"),
        40);
    assert_int_equal(repair(fixture, NOON_MS + MINUTE_MS), 7);
    assert_int_equal(
        time_fixture_query(database_of(fixture), "SELECT count(*) FROM _work WHERE due < '2027'"),
        ROWS);
    assert_int_equal(time_fixture_query(database_of(fixture),
                                        "SELECT count(*) FROM _work WHERE rowid = 1 AND due = "
                                        "'2026-11-21 12:00:00.000Z'"),
                     1);
}

static void a_second_leap_back_begins_the_walk_again(void **state) {
    struct time_fixture *fixture = *state;
    struct repair one = {.now_ms = NOON_MS + DAY_MS};
    for (int i = 0; i < 2 * ROW_LIMIT; i++)
        add(fixture, "many", "waiting", NOON_MS + YEARS_MS, MINUTE_MS, NOON_MS + YEARS_MS);
    assert_int_equal(time_fixture_write(fixture, database_of(fixture), on_repair, &one), BK_OK);
    repair(fixture, NOON_MS);
    assert_int_equal(delay_of(fixture, "many", "max(due)"), MINUTE_MS);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(without_rows_of_the_future_nothing_is_read),
        TEST(each_gets_its_delay_again),
        TEST(old_rows_that_were_put_off_in_the_future_are_found_by_the_noted_time),
        TEST(an_hour_is_repaired_too),
        TEST(a_large_table_is_walked_in_slices_and_by_a_restart_further),
        TEST(a_second_leap_back_begins_the_walk_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
