/* Schedules: once for each of their times, whatever the clock does. */
#include "time_fixture.h"

static void on_task(struct bk_work_task *task, void *user) {
    (void)user;
    bk_work_done(task, BK_SLICE_EMPTY);
}

static const struct bk_work_kind kinds[] = {
    {.name = "report", .on_task = on_task},
    {.name = "nightly", .schedule = "0 3 * * *", .on_task = on_task},
};
static const struct bk_work_kind kinds_without_schedule[] = {
    {.name = "report", .on_task = on_task},
    {.name = "nightly", .on_task = on_task},
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

/* --- what is called on the writer ------------------------------------------------------------- */

struct put {
    struct bk_work *work;
    struct bk_work_schedule schedule;
    struct bk_error error;
};

static enum bk_status on_put(struct bk_transaction *transaction, void *user) {
    struct put *put = user;
    return bk_work_schedule_put(put->work, transaction, &put->schedule, &put->error);
}

static enum bk_status put(struct time_fixture *fixture, const char *name, const char *expression) {
    struct put put = {.work = fixture->work,
                      .schedule = {.name = bk_slice_from(name),
                                   .kind = "report",
                                   .lane = BK_SLICE("daily"),
                                   .payload = BK_SLICE("{\"a\":1}"),
                                   .expression = bk_slice_from(expression)},
                      .error = BK_ERROR_INIT};
    return time_fixture_write(fixture, database_of(fixture), on_put, &put);
}

struct turn {
    struct bk_work *work;
    int64_t now_ms, next_ms;
};

static enum bk_status on_turn(struct bk_transaction *transaction, void *user) {
    struct turn *turn = user;
    return work_schedule_turn(turn->work, transaction, turn->now_ms, &turn->next_ms);
}

/* What the tenant's round does; returns when the next is. */
static int64_t turn(struct time_fixture *fixture) {
    struct turn turn = {.work = fixture->work, .now_ms = time_fixture_now(fixture)};
    assert_int_equal(time_fixture_write(fixture, database_of(fixture), on_turn, &turn), BK_OK);
    return turn.next_ms;
}

static enum bk_status on_judge(struct bk_transaction *transaction, void *user) {
    struct turn *turn = user;
    enum bk_status status = work_schedule_judge(transaction, turn->now_ms);
    return status == BK_OK
               ? work_schedule_next(bk_transaction_connection(transaction), &turn->next_ms)
               : status;
}

static int64_t judge(struct time_fixture *fixture) {
    struct turn turn = {.now_ms = time_fixture_now(fixture)};
    assert_int_equal(time_fixture_write(fixture, database_of(fixture), on_judge, &turn), BK_OK);
    return turn.next_ms;
}

struct named {
    struct bk_work *work;
    const char *name;
};

static enum bk_status on_remove(struct bk_transaction *transaction, void *user) {
    struct named *named = user;
    return bk_work_schedule_remove(named->work, transaction, bk_slice_from(named->name));
}

static enum bk_status on_run(struct bk_transaction *transaction, void *user) {
    struct named *named = user;
    return bk_work_schedule_run(named->work, transaction, bk_slice_from(named->name));
}

static enum bk_status call(struct time_fixture *fixture, const char *name,
                           enum bk_status (*run)(struct bk_transaction *transaction, void *user)) {
    struct named named = {fixture->work, name};
    return time_fixture_write(fixture, database_of(fixture), run, &named);
}

static int64_t count_of(struct time_fixture *fixture, const char *kind) {
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM _work WHERE kind = '%s'", kind);
    return time_fixture_query(database_of(fixture), sql);
}

static int64_t next_of(struct time_fixture *fixture, const char *name) {
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT next FROM _schedules WHERE name = '%s'", name);
    return time_fixture_query(database_of(fixture), sql);
}

static void end_all(struct time_fixture *fixture) {
    time_fixture_execute(fixture, database_of(fixture),
                         (char[]){"UPDATE _work SET state = 'done'"});
}

/* --- the promises ----------------------------------------------------------------------------- */

static void a_kinds_schedule_is_there_from_the_opening_on(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(next_of(fixture, "nightly"), NOON_MS + 15 * HOUR_MS);
    assert_int_equal(turn(fixture), NOON_MS + 15 * HOUR_MS);
    assert_int_equal(count_of(fixture, "nightly"), 0);
}

static void it_goes_with_the_kinds_schedule(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(put(fixture, "mine", "0 * * * *"), BK_OK);
    time_fixture_restart(fixture, kinds_without_schedule, BK_COUNT_OF(kinds_without_schedule),
                         NOON_MS);
    support_kernel_open(&fixture->kernel);
    assert_int_equal(next_of(fixture, "nightly"), -1);
    assert_int_equal(next_of(fixture, "mine"), NOON_MS + HOUR_MS);
}

static void each_time_adds_one_task(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(put(fixture, "mine", "0 * * * *"), BK_OK);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(turn(fixture), NOON_MS + (i + 1) * HOUR_MS);
        assert_int_equal(count_of(fixture, "report"), i);
        time_fixture_leap(fixture, HOUR_MS);
        assert_int_equal(turn(fixture), NOON_MS + (i + 2) * HOUR_MS);
        assert_int_equal(count_of(fixture, "report"), i + 1);
        turn(fixture);
        assert_int_equal(count_of(fixture, "report"), i + 1);
        end_all(fixture);
    }
    assert_int_equal(time_fixture_query(database_of(fixture),
                                        "SELECT count(*) FROM _work WHERE lane = 'report/daily' "
                                        "AND payload = '{\"a\":1}'"),
                     5);
}

static void while_its_task_waits_another_is_not_added(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(put(fixture, "mine", "0 * * * *"), BK_OK);
    for (int i = 0; i < 5; i++) {
        time_fixture_leap(fixture, HOUR_MS);
        assert_int_equal(turn(fixture), NOON_MS + (i + 2) * HOUR_MS);
        assert_int_equal(count_of(fixture, "report"), 1);
    }
    end_all(fixture);
    time_fixture_leap(fixture, HOUR_MS);
    turn(fixture);
    assert_int_equal(count_of(fixture, "report"), 2);
}

static void missed_times_are_one_task(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(put(fixture, "mine", "* * * * *"), BK_OK);
    time_fixture_restart(fixture, kinds, BK_COUNT_OF(kinds), NOON_MS + 30 * DAY_MS);
    support_kernel_open(&fixture->kernel);
    assert_int_equal(turn(fixture), NOON_MS + 30 * DAY_MS + MINUTE_MS);
    assert_int_equal(count_of(fixture, "report"), 1);
    assert_int_equal(count_of(fixture, "nightly"), 1);
}

static void a_time_does_not_come_again_when_the_clock_is_set_back(void **state) {
    struct time_fixture *fixture = *state;
    time_fixture_leap(fixture, 15 * HOUR_MS);
    turn(fixture);
    assert_int_equal(count_of(fixture, "nightly"), 1);
    end_all(fixture);
    time_fixture_leap(fixture, -HOUR_MS);
    assert_int_equal(judge(fixture), NOON_MS + 39 * HOUR_MS);
    time_fixture_leap(fixture, HOUR_MS + MINUTE_MS);
    turn(fixture);
    assert_int_equal(count_of(fixture, "nightly"), 1);
    end_all(fixture);
    time_fixture_leap(fixture, 24 * HOUR_MS);
    turn(fixture);
    assert_int_equal(count_of(fixture, "nightly"), 2);
}

static void nor_after_a_restart(void **state) {
    struct time_fixture *fixture = *state;
    time_fixture_leap(fixture, 15 * HOUR_MS);
    turn(fixture);
    end_all(fixture);
    time_fixture_restart(fixture, kinds, BK_COUNT_OF(kinds), NOON_MS + 14 * HOUR_MS);
    support_kernel_open(&fixture->kernel);
    assert_int_equal(turn(fixture), NOON_MS + 39 * HOUR_MS);
    assert_int_equal(count_of(fixture, "nightly"), 1);
}

static void ten_years_ahead_and_back_cost_one_task_and_starve_none(void **state) {
    struct time_fixture *fixture = *state;
    time_fixture_leap(fixture, YEARS_MS);
    turn(fixture);
    assert_int_equal(count_of(fixture, "nightly"), 1);
    assert_true(next_of(fixture, "nightly") > NOON_MS + YEARS_MS);
    end_all(fixture);
    time_fixture_leap(fixture, -YEARS_MS);
    assert_int_equal(judge(fixture), NOON_MS + 15 * HOUR_MS);
    time_fixture_leap(fixture, 15 * HOUR_MS);
    assert_int_equal(turn(fixture), NOON_MS + 39 * HOUR_MS);
    assert_int_equal(count_of(fixture, "nightly"), 2);
}

static void so_do_ten_years_over_restarts(void **state) {
    struct time_fixture *fixture = *state;
    time_fixture_restart(fixture, kinds, BK_COUNT_OF(kinds), NOON_MS + YEARS_MS);
    support_kernel_open(&fixture->kernel);
    turn(fixture);
    assert_int_equal(count_of(fixture, "nightly"), 1);
    time_fixture_restart(fixture, kinds, BK_COUNT_OF(kinds), NOON_MS);
    support_kernel_open(&fixture->kernel);
    assert_int_equal(next_of(fixture, "nightly"), NOON_MS + 15 * HOUR_MS);
}

static void what_is_put_again_keeps_its_times(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(put(fixture, "mine", "0 * * * *"), BK_OK);
    time_fixture_leap(fixture, 2 * HOUR_MS);
    assert_int_equal(put(fixture, "mine", "0 * * * *"), BK_OK);
    assert_int_equal(next_of(fixture, "mine"), NOON_MS + HOUR_MS);
    turn(fixture);
    assert_int_equal(count_of(fixture, "report"), 1);
    assert_int_equal(put(fixture, "mine", "30 * * * *"), BK_OK);
    assert_int_equal(next_of(fixture, "mine"), NOON_MS + 2 * HOUR_MS + 30 * MINUTE_MS);
    time_fixture_leap(fixture, 10 * MINUTE_MS);
    assert_int_equal(put(fixture, "mine", "0 12 31 2 *"), BK_OK);
    assert_int_equal(next_of(fixture, "mine"), INT64_MAX);
}

static void what_is_wrong_is_refused_with_its_field(void **state) {
    struct time_fixture *fixture = *state;
    struct put wrong = {.work = fixture->work, .error = BK_ERROR_INIT};
    const struct bk_work_schedule right = {
        .name = BK_SLICE("x"), .kind = "report", .expression = BK_SLICE("* * * * *")};
    char long_name[201];
    memset(long_name, 'a', sizeof long_name);
    struct {
        struct bk_work_schedule schedule;
        enum bk_status status;
        const char *field;
    } cases[] = {
        {right, BK_INVALID, "name:"},       {right, BK_INVALID, "name:"},
        {right, BK_NOT_FOUND, "kind:"},     {right, BK_INVALID, "payload:"},
        {right, BK_INVALID, "expression:"}, {right, BK_CONFLICT, "name:"},
        {right, BK_TOO_LARGE, "lane:"},
    };
    cases[0].schedule.name = BK_SLICE_EMPTY;
    cases[1].schedule.name = bk_slice_make(long_name, sizeof long_name);
    cases[2].schedule.kind = "nobody";
    cases[3].schedule.payload = BK_SLICE("{");
    cases[4].schedule.expression = BK_SLICE("* * *");
    cases[5].schedule.name = BK_SLICE("nightly");
    cases[6].schedule.lane = bk_slice_make(long_name, 200);
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        wrong.schedule = cases[i].schedule;
        assert_int_equal(time_fixture_write(fixture, database_of(fixture), on_put, &wrong),
                         cases[i].status);
        assert_ptr_equal(strstr(wrong.error.message, cases[i].field), wrong.error.message);
    }
}

static void it_is_run_and_removed_by_hand(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(put(fixture, "mine", "0 * * * *"), BK_OK);
    assert_int_equal(call(fixture, "mine", on_run), BK_OK);
    assert_int_equal(call(fixture, "mine", on_run), BK_OK);
    assert_int_equal(time_fixture_query(database_of(fixture), "SELECT count(*) FROM _work_inbox"),
                     2);
    assert_int_equal(next_of(fixture, "mine"), NOON_MS + HOUR_MS);
    assert_int_equal(call(fixture, "nobody", on_run), BK_NOT_FOUND);
    assert_int_equal(call(fixture, "mine", on_remove), BK_OK);
    assert_int_equal(call(fixture, "mine", on_remove), BK_NOT_FOUND);
    assert_int_equal(call(fixture, "nightly", on_remove), BK_CONFLICT);
    assert_int_equal(next_of(fixture, "mine"), -1);
}

static void one_that_cannot_be_added_holds_up_nobody(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(put(fixture, "mine", "0 * * * *"), BK_OK);
    time_fixture_execute(fixture, database_of(fixture),
                         (char[]){"INSERT INTO _schedules VALUES ('lost', 'gone', '', '', "
                                  "'* * * * *', 0, 1, 0)"});
    time_fixture_leap(fixture, HOUR_MS);
    assert_int_equal(turn(fixture), NOON_MS + HOUR_MS + MINUTE_MS);
    assert_int_equal(count_of(fixture, "report"), 1);
    assert_int_equal(count_of(fixture, "gone"), 0);
}

static void many_come_in_turns(void **state) {
    struct time_fixture *fixture = *state;
    enum { MANY = 150 };
    for (int i = 0; i < MANY; i++) {
        char name[24];
        snprintf(name, sizeof name, "mine %d", i);
        assert_int_equal(put(fixture, name, "0 13 * * *"), BK_OK);
    }
    time_fixture_leap(fixture, HOUR_MS);
    assert_true(turn(fixture) <= NOON_MS + HOUR_MS);
    assert_int_equal(count_of(fixture, "report"), WORK_SCHEDULE_TURN_MAX);
    assert_true(turn(fixture) <= NOON_MS + HOUR_MS);
    assert_int_equal(turn(fixture), NOON_MS + 15 * HOUR_MS);
    assert_int_equal(count_of(fixture, "report"), MANY);
}

static void on_schedule(void *user, const struct bk_work_schedule_facts *facts) {
    bk_buffer_format(user, "%.*s %s %.*s %lld;", BK_SLICE_PRINT(facts->schedule.name),
                     facts->schedule.kind, BK_SLICE_PRINT(facts->schedule.expression),
                     (long long)((facts->next_ms - NOON_MS) / HOUR_MS));
}

static void all_are_told_by_name(void **state) {
    struct time_fixture *fixture = *state;
    struct bk_buffer seen;
    bk_buffer_init(&seen, 1024);
    assert_int_equal(put(fixture, "mine", "0 * * * *"), BK_OK);
    assert_int_equal(
        bk_work_schedule_each(bk_store_read_now(database_of(fixture)), on_schedule, &seen), BK_OK);
    assert_true(bk_slice_is(bk_buffer_slice(&seen),
                            "mine report 0 * * * * 1;nightly nightly 0 3 * * * 15;"));
    bk_buffer_fini(&seen);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_kinds_schedule_is_there_from_the_opening_on),
        TEST(it_goes_with_the_kinds_schedule),
        TEST(each_time_adds_one_task),
        TEST(while_its_task_waits_another_is_not_added),
        TEST(missed_times_are_one_task),
        TEST(a_time_does_not_come_again_when_the_clock_is_set_back),
        TEST(nor_after_a_restart),
        TEST(ten_years_ahead_and_back_cost_one_task_and_starve_none),
        TEST(so_do_ten_years_over_restarts),
        TEST(what_is_put_again_keeps_its_times),
        TEST(what_is_wrong_is_refused_with_its_field),
        TEST(it_is_run_and_removed_by_hand),
        TEST(one_that_cannot_be_added_holds_up_nobody),
        TEST(many_come_in_turns),
        TEST(all_are_told_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
