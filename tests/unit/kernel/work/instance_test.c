/* A closed tenant is opened when its next task is due, whatever has become of data/instance.db. */
#include "instance_private.h"

#include "time_fixture.h"

#include "bakend/file.h"

#include <stdlib.h>

enum { QUIET_MS = 200, TENANTS = TIME_FIXTURE_OPEN_MAX };

static uint32_t run_count;
static char last_tenant[BK_TENANT_NAME_BYTES_MAX + 1];
static bool has_run;

static bool hangs;
static struct bk_work_task *hanging[8];
static size_t hanging_count;

static void on_task(struct bk_work_task *task, void *user) {
    (void)user;
    run_count++;
    has_run = true;
    snprintf(last_tenant, sizeof last_tenant, "%.*s", BK_SLICE_PRINT(task->tenant->name));
    if (hangs)
        hanging[hanging_count++] = task;
    else
        bk_work_done(task, BK_SLICE_EMPTY);
}

static const struct bk_work_kind kinds[] = {
    {.name = "report", .on_task = on_task},
};

static int setup(void **state) {
    static struct time_fixture fixture;
    run_count = 0;
    has_run = false;
    time_fixture_create(&fixture, kinds, BK_COUNT_OF(kinds));
    support_kernel_open(&fixture.kernel);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    time_fixture_destroy(*state);
    return 0;
}

/* --- what the tests do ------------------------------------------------------------------------ */

static void restart(struct time_fixture *fixture, int64_t wall_ms) {
    time_fixture_restart(fixture, kinds, BK_COUNT_OF(kinds), wall_ms);
}

static void start(struct time_fixture *fixture) {
    support_kernel_open(&fixture->kernel);
    bk_work_start(fixture->work);
}

/* Timers of the work do not keep the loop alive. */
static void wait_for_run(struct time_fixture *fixture) {
    SUPPORT_LOOP_UNTIL(fixture->kernel.loop, has_run);
}

static void wait_for_runs(struct time_fixture *fixture, uint32_t count) {
    SUPPORT_LOOP_UNTIL(fixture->kernel.loop, run_count >= count);
    assert_int_equal(run_count, count);
}

/* Each has been opened once, and it is stored. */
static void wait_until_all_are_known(struct time_fixture *fixture) {
    static const char unknown[] = "SELECT count(*) FROM tenants WHERE due = 0 AND is_open = 0";
    struct bk_database *database = fixture->work->instance->database;
    SUPPORT_LOOP_UNTIL(fixture->kernel.loop, time_fixture_query(database, unknown) == 0);
}

struct addition {
    struct bk_work *work;
    uint64_t delay_ms;
};

static enum bk_status on_add(struct bk_transaction *transaction, void *user) {
    const struct addition *addition = user;
    const struct bk_work_draft draft = {.kind = "report", .delay_ms = addition->delay_ms};
    return bk_work_add(addition->work, transaction, &draft, NULL);
}

static bool is_any_held(const struct time_fixture *fixture) {
    BK_LIST_FOR_EACH(node, &fixture->work->tenants)
        if (bk_container_of(node, struct work_tenant, link)->is_held)
            return true;
    return false;
}

/* Until the work has looked at what it opened. */
static void wait_until_nothing_is_held(struct time_fixture *fixture) {
    support_loop_run_for(fixture->kernel.loop, 10);
    SUPPORT_LOOP_UNTIL(fixture->kernel.loop, !is_any_held(fixture));
}

/* Until instance.db says all that there is to say. */
static void wait_until_all_is_stored(struct time_fixture *fixture) {
    const struct work_instance *instance = fixture->work->instance;
    SUPPORT_LOOP_UNTIL(fixture->kernel.loop, instance->state == INSTANCE_OPEN &&
                                                 instance->storing == NULL &&
                                                 instance->marks.count == 0);
}

/* A tenant of this name is opened, and gets a task that is due later. */
static void add_task(struct time_fixture *fixture, const char *name, uint64_t delay_ms) {
    struct addition addition = {fixture->work, delay_ms};
    struct bk_tenant *tenant = support_kernel_hold(&fixture->kernel, bk_slice_from(name));
    assert_int_equal(time_fixture_write(fixture, tenant->database, on_add, &addition), BK_OK);
    bk_tenant_release(tenant);
    wait_until_nothing_is_held(fixture);
}

static void open_and_release(struct time_fixture *fixture, const char *name) {
    bk_tenant_release(support_kernel_hold(&fixture->kernel, bk_slice_from(name)));
    wait_until_nothing_is_held(fixture);
}

static bool is_open(struct time_fixture *fixture, const char *name) {
    struct bk_tenant *tenant = bk_tenant_hold_open(fixture->kernel.tenants, bk_slice_from(name));
    if (tenant != NULL)
        bk_tenant_release(tenant);
    return tenant != NULL;
}

/* Opens many others, so that those used longest ago are closed. */
static void crowd_out(struct time_fixture *fixture) {
    for (int i = 0; i < TENANTS; i++) {
        char name[24];
        snprintf(name, sizeof name, "other-%d", i);
        open_and_release(fixture, name);
    }
    support_loop_run_for(fixture->kernel.loop, 50);
}

/* A tenant with a task that is due soon, and closed. Where the disk takes longer than that to open
 * the others, its task gets more time: how much it was given is returned. */
static uint64_t add_late_and_close_it(struct time_fixture *fixture) {
    for (uint64_t delay_ms = 1000;; delay_ms *= 4) {
        add_task(fixture, "late", delay_ms);
        crowd_out(fixture);
        SUPPORT_LOOP_UNTIL(fixture->kernel.loop, run_count > 0 || !is_open(fixture, "late"));
        if (run_count == 0)
            return delay_ms;
        run_count = 0;
        has_run = false;
    }
}

static void path_of(const struct time_fixture *fixture, const char *name, char path[4096]) {
    assert_true(bk_path_join(path, 4096, fixture->kernel.directory, name));
}

/* --- the file, changed by hand ---------------------------------------------------------------- */

struct waiting_open {
    struct bk_database_open open;
    bool is_done;
};

static void on_opened(struct bk_database_open *open, enum bk_status status) {
    assert_int_equal(status, BK_OK);
    bk_container_of(open, struct waiting_open, open)->is_done = true;
}

/* Between two starts. */
static int64_t change_file(struct time_fixture *fixture, char *sql, const char *query) {
    char path[4096];
    bool is_closed = false;
    path_of(fixture, "instance.db", path);
    struct waiting_open waiting = {
        .open = {.options = {.tenant = BK_SLICE("test"), .path = path}, .done = on_opened}};
    bk_database_open(fixture->kernel.store, &waiting.open);
    support_loop_run_until(fixture->kernel.loop, &waiting.is_done);
    if (sql != NULL)
        time_fixture_execute(fixture, waiting.open.database, sql);
    int64_t number = query == NULL ? 0 : time_fixture_query(waiting.open.database, query);
    bk_database_close(waiting.open.database, time_fixture_on_flag, &is_closed);
    support_loop_run_until(fixture->kernel.loop, &is_closed);
    return number;
}

/* --- the promises ----------------------------------------------------------------------------- */

static void a_closed_tenant_is_opened_when_its_task_is_due(void **state) {
    struct time_fixture *fixture = *state;
    bk_work_start(fixture->work);
    int64_t delay_ms = (int64_t)add_late_and_close_it(fixture);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
    assert_true(time_fixture_now(fixture) >= NOON_MS + delay_ms);
}

static void so_it_is_after_a_restart(void **state) {
    struct time_fixture *fixture = *state;
    add_task(fixture, "late", HOUR_MS);
    open_and_release(fixture, "idle");
    restart(fixture, NOON_MS + HOUR_MS - QUIET_MS);
    start(fixture);
    assert_false(is_open(fixture, "late"));
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
    assert_false(is_open(fixture, "idle"));
    assert_true(time_fixture_now(fixture) >= NOON_MS + HOUR_MS);
}

static void what_is_not_due_is_not_opened(void **state) {
    struct time_fixture *fixture = *state;
    add_task(fixture, "late", HOUR_MS);
    crowd_out(fixture);
    restart(fixture, NOON_MS);
    start(fixture);
    support_loop_run_for(fixture->kernel.loop, QUIET_MS);
    assert_int_equal(bk_tenants_open_count(fixture->kernel.tenants), 1);
}

static void without_the_file_all_are_opened_in_turn(void **state) {
    struct time_fixture *fixture = *state;
    char path[4096];
    add_task(fixture, "late", HOUR_MS);
    crowd_out(fixture);
    restart(fixture, NOON_MS + HOUR_MS);
    path_of(fixture, "instance.db", path);
    assert_true(bk_file_exists(path));
    assert_int_equal(bk_file_remove(path, NULL), BK_OK);
    start(fixture);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
    wait_until_all_are_known(fixture);
    restart(fixture, NOON_MS + HOUR_MS);
    assert_int_equal(change_file(fixture, NULL, "SELECT count(*) FROM tenants WHERE due > 0"),
                     TENANTS + 2);
}

static void a_damaged_file_is_put_aside(void **state) {
    struct time_fixture *fixture = *state;
    char path[4096];
    add_task(fixture, "late", HOUR_MS);
    restart(fixture, NOON_MS + HOUR_MS);
    path_of(fixture, "instance.db", path);
    assert_int_equal(bk_file_write_atomic(path, BK_SLICE("no database at all"), NULL), BK_OK);
    start(fixture);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
    path_of(fixture, "instance.db.damaged", path);
    assert_true(bk_file_exists(path));
}

static void a_file_without_its_table_is_put_aside_too(void **state) {
    struct time_fixture *fixture = *state;
    add_task(fixture, "late", HOUR_MS);
    restart(fixture, NOON_MS + HOUR_MS);
    change_file(fixture, (char[]){"ALTER TABLE tenants RENAME TO something_else"}, NULL);
    start(fixture);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
}

static void one_that_was_open_at_a_kill_is_opened(void **state) {
    struct time_fixture *fixture = *state;
    add_task(fixture, "late", HOUR_MS);
    restart(fixture, NOON_MS + HOUR_MS);
    change_file(fixture, (char[]){"UPDATE tenants SET is_open = 1, due = 0"}, NULL);
    start(fixture);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
}

/* What a kill leaves: the files as they were while they were open. */
static void copy(const struct time_fixture *fixture, const char *from, const char *to) {
    char path[4096];
    struct bk_buffer bytes;
    bk_buffer_init(&bytes, 16 * 1024 * 1024);
    path_of(fixture, from, path);
    assert_int_equal(bk_file_read(path, &bytes, NULL), BK_OK);
    path_of(fixture, to, path);
    assert_int_equal(bk_file_write_atomic(path, bk_buffer_slice(&bytes), NULL), BK_OK);
    bk_buffer_fini(&bytes);
}

static void one_whose_mark_was_lost_is_told_by_its_write_ahead_log(void **state) {
    struct time_fixture *fixture = *state;
    char path[4096];
    open_and_release(fixture, "late");
    open_and_release(fixture, "idle");
    restart(fixture, NOON_MS);
    support_kernel_open(&fixture->kernel);
    wait_until_all_is_stored(fixture);
    copy(fixture, "instance.db", "kept");
    copy(fixture, "instance.db-wal", "kept-wal");
    add_task(fixture, "late", HOUR_MS);
    restart(fixture, NOON_MS + HOUR_MS);
    copy(fixture, "kept", "instance.db");
    copy(fixture, "kept-wal", "instance.db-wal");
    path_of(fixture, "tenants/late/data.db-wal", path);
    assert_int_equal(bk_file_write_atomic(path, BK_SLICE_EMPTY, NULL), BK_OK);
    start(fixture);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
    assert_false(is_open(fixture, "idle"));
}

static void one_that_was_put_there_by_hand_is_opened_once(void **state) {
    struct time_fixture *fixture = *state;
    add_task(fixture, "late", HOUR_MS);
    restart(fixture, NOON_MS + HOUR_MS);
    change_file(fixture, (char[]){"DELETE FROM tenants WHERE name = 'late'"}, NULL);
    start(fixture);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
}

static void one_that_was_never_used_is_not_opened(void **state) {
    struct time_fixture *fixture = *state;
    assert_int_equal(bk_tenant_create(fixture->kernel.tenants, BK_SLICE("never"), NULL), BK_OK);
    restart(fixture, NOON_MS);
    start(fixture);
    wait_until_all_is_stored(fixture);
    wait_until_all_are_known(fixture);
    assert_false(bk_tenant_has_database(fixture->kernel.tenants, BK_SLICE("never")));
}

static void one_with_something_unfinished_is_opened_at_the_next_start(void **state) {
    struct time_fixture *fixture = *state;
    static const char due[] = "SELECT due FROM tenants WHERE name = 'late'";
    struct bk_tenant *tenant = support_kernel_hold(&fixture->kernel, BK_SLICE("late"));
    bk_work_wake_at_start(fixture->work, tenant);
    bk_tenant_release(tenant);
    wait_until_nothing_is_held(fixture);
    restart(fixture, NOON_MS);
    assert_int_equal(change_file(fixture, NULL, due), 0);
    start(fixture);
    SUPPORT_LOOP_UNTIL(fixture->kernel.loop, is_open(fixture, "late"));
    wait_until_nothing_is_held(fixture);
    restart(fixture, NOON_MS);
    assert_true(change_file(fixture, NULL, due) > 0);
}

static void rows_of_the_future_are_not_believed(void **state) {
    struct time_fixture *fixture = *state;
    restart(fixture, NOON_MS + YEARS_MS);
    support_kernel_open(&fixture->kernel);
    add_task(fixture, "late", 100);
    restart(fixture, NOON_MS);
    start(fixture);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
    assert_true(time_fixture_now(fixture) < NOON_MS + MINUTE_MS);
}

static void nor_are_they_when_the_clock_goes_back_in_a_process(void **state) {
    struct time_fixture *fixture = *state;
    const int64_t leap_ms = 90 * 1000; /* less than any machine has been up */
    struct work_clock *clock = &fixture->work->clock;
    bk_work_start(fixture->work);
    time_fixture_leap(fixture, leap_ms);
    (void)add_late_and_close_it(fixture);
    support_clock_advance(-leap_ms);
    clock->is_doubting = true;
    clock->doubted_ms = clock->offset_ms - leap_ms;
    clock->doubts_at_ms = work_clock_pace_ms() - (uint64_t)leap_ms;
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
    assert_true(time_fixture_now(fixture) < NOON_MS + MINUTE_MS);
}

static void when_all_are_in_use_it_is_tried_again(void **state) {
    struct time_fixture *fixture = *state;
    struct bk_tenant *held[TIME_FIXTURE_OPEN_MAX - 1];
    add_task(fixture, "late", HOUR_MS);
    restart(fixture, NOON_MS + HOUR_MS);
    support_kernel_open(&fixture->kernel);
    for (size_t i = 0; i < BK_COUNT_OF(held); i++) {
        char name[24];
        snprintf(name, sizeof name, "held-%d", (int)i);
        held[i] = support_kernel_hold(&fixture->kernel, bk_slice_from(name));
    }
    bk_work_start(fixture->work);
    support_loop_run_for(fixture->kernel.loop, QUIET_MS);
    assert_int_equal(run_count, 0);
    for (size_t i = 0; i < BK_COUNT_OF(held); i++)
        bk_tenant_release(held[i]);
    wait_for_run(fixture);
    assert_string_equal(last_tenant, "late");
}

/* Opened by the test, so that it takes no task's time. */
static void work_that_hangs_leaves_room_for_requests(void **state) {
    struct time_fixture *fixture = *state;
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    hangs = true;
    for (size_t i = 0; i < BK_COUNT_OF(names); i++)
        add_task(fixture, names[i], HOUR_MS);
    restart(fixture, NOON_MS + HOUR_MS);
    start(fixture);
    wait_for_run(fixture);
    support_loop_run_for(fixture->kernel.loop, QUIET_MS);
    assert_true(run_count <= TIME_FIXTURE_OPEN_MAX / 2);
    bk_tenant_release(support_kernel_hold(&fixture->kernel, BK_SLICE("somebody-else")));
    hangs = false;
    while (hanging_count > 0)
        bk_work_done(hanging[--hanging_count], BK_SLICE_EMPTY);
    wait_for_runs(fixture, BK_COUNT_OF(names));
}

static void on_deleted(void *user, enum bk_status status) {
    assert_int_equal(status, BK_OK);
    *(bool *)user = true;
}

static void a_tenant_that_is_deleted_is_forgotten(void **state) {
    struct time_fixture *fixture = *state;
    bool is_deleted = false;
    bk_work_start(fixture->work);
    add_task(fixture, "late", HOUR_MS);
    bk_tenant_delete(fixture->kernel.tenants, BK_SLICE("late"), on_deleted, &is_deleted);
    support_loop_run_until(fixture->kernel.loop, &is_deleted);
    restart(fixture, NOON_MS);
    assert_int_equal(change_file(fixture, NULL, "SELECT count(*) FROM tenants"), 1);
}

static void a_command_does_not_believe_what_a_wrong_clock_has_written(void **state) {
    struct time_fixture *fixture = *state;
    restart(fixture, NOON_MS + YEARS_MS);
    support_kernel_open(&fixture->kernel);
    add_task(fixture, "late", HOUR_MS);
    restart(fixture, NOON_MS);
    support_kernel_open(&fixture->kernel);
    open_and_release(fixture, "late");
    restart(fixture, NOON_MS);
    assert_int_equal(change_file(fixture, NULL, "SELECT due FROM tenants WHERE name = 'late'"), 0);
}

/* In the long form: it makes as many directories. */
static void ten_thousand_closed_tenants_cost_no_time_at_the_start(void **state) {
    struct time_fixture *fixture = *state;
    enum { MANY = 10000 };
    if (getenv("BAKEND_LONG") == NULL)
        skip();
    for (int i = 0; i < MANY; i++) {
        char name[24];
        snprintf(name, sizeof name, "many-%d", i);
        assert_int_equal(bk_tenant_create(fixture->kernel.tenants, bk_slice_from(name), NULL),
                         BK_OK);
    }
    restart(fixture, NOON_MS);
    change_file(fixture,
                (char[]){"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i "
                         "< 9999) INSERT INTO tenants SELECT 'many-' || i, 0, 4102444800000, 0 "
                         "FROM n"},
                NULL);
    uint64_t began_ns = bk_clock_monotonic_ns(), loop_ns = bk_clock_thread_ns();
    start(fixture);
    while (fixture->work->instance->state != INSTANCE_OPEN)
        support_loop_run_for(fixture->kernel.loop, 1);
    support_promise("10,000 closed tenants at the start",
                    "known after %lld ms, %lld ms on the loop",
                    (long long)((bk_clock_monotonic_ns() - began_ns) / 1000000),
                    (long long)((bk_clock_thread_ns() - loop_ns) / 1000000));
    support_loop_run_for(fixture->kernel.loop, QUIET_MS);
    assert_int_equal(bk_tenants_open_count(fixture->kernel.tenants), 1);
}

static void a_command_that_adds_work_tells_when_it_is_due(void **state) {
    struct time_fixture *fixture = *state;
    add_task(fixture, "late", HOUR_MS); /* the work is not started */
    restart(fixture, NOON_MS);
    assert_int_equal(change_file(fixture, NULL, "SELECT due FROM tenants WHERE name = 'late'") /
                         MINUTE_MS,
                     (NOON_MS + HOUR_MS) / MINUTE_MS);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_closed_tenant_is_opened_when_its_task_is_due),
        TEST(so_it_is_after_a_restart),
        TEST(what_is_not_due_is_not_opened),
        TEST(without_the_file_all_are_opened_in_turn),
        TEST(a_damaged_file_is_put_aside),
        TEST(a_file_without_its_table_is_put_aside_too),
        TEST(one_that_was_open_at_a_kill_is_opened),
        TEST(one_whose_mark_was_lost_is_told_by_its_write_ahead_log),
        TEST(one_that_was_put_there_by_hand_is_opened_once),
        TEST(one_that_was_never_used_is_not_opened),
        TEST(one_with_something_unfinished_is_opened_at_the_next_start),
        TEST(rows_of_the_future_are_not_believed),
        TEST(nor_are_they_when_the_clock_goes_back_in_a_process),
        TEST(when_all_are_in_use_it_is_tried_again),
        TEST(work_that_hangs_leaves_room_for_requests),
        TEST(a_tenant_that_is_deleted_is_forgotten),
        TEST(a_command_does_not_believe_what_a_wrong_clock_has_written),
        TEST(ten_thousand_closed_tenants_cost_no_time_at_the_start),
        TEST(a_command_that_adds_work_tells_when_it_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
