/* What is looked after now and then in a program that lives: leases that ran out, and what has
 * been kept for long enough. */
#include "work_fixture.h"

enum { DEAD = 700 };

static const uint32_t quick[] = {1};
static const struct bk_work_kind kinds[] = {
    {.name = "mail",
     WORK_FIXTURE_HANDLERS,
     .attempt_max = 3,
     .backoff_ms = quick,
     .backoff_count = 1,
     .lane = {.running_max = 2}},
};
static const struct bk_work_draft mail = {.kind = "mail"};

static int setup(void **state) {
    static struct work_fixture fixture;
    work_fixture_open(&fixture, kinds, BK_COUNT_OF(kinds));
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    work_fixture_destroy(*state);
    return 0;
}

static enum bk_status run_sql(struct work_fixture *fixture, struct bk_transaction *transaction,
                              void *user) {
    (void)fixture;
    return bk_connection_execute(bk_transaction_connection(transaction), bk_slice_from(user));
}

static void execute(struct work_fixture *fixture, const char *text) {
    char room[1024];
    snprintf(room, sizeof room, "%s", text);
    assert_int_equal(work_fixture_write_by(fixture, NULL, run_sql, room), BK_OK);
}

/* It is time: what comes once a minute comes now. */
static void tick(struct work_fixture *fixture) {
    bk_timer_start(fixture->work->upkeep, 1, 60 * 1000);
    work_fixture_wait(fixture, 30);
}

/* A row runs that nobody has: as if its claim had been written though the commit failed. */
static void a_task_whose_lease_is_over_and_that_nobody_has_comes_again(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft later = mail;
    char id[BK_WORK_ID_BYTES + 1], text[256];
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    later.delay_ms = 3600 * 1000;
    assert_int_equal(work_fixture_add(fixture, &later, 1, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'waiting'") == 1);
    snprintf(text, sizeof text,
             "UPDATE _work SET state = 'running', attempts = 1, due = '2099-01-01 00:00:00.000Z' "
             "WHERE id = '%s'",
             id);
    execute(fixture, text);
    tick(fixture);
    assert_int_equal(fixture->seen_count, 1); /* its lease is not over */
    execute(fixture, "UPDATE _work SET due = '2020-01-01 00:00:00.000Z' WHERE state = 'running'");
    tick(fixture);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    assert_string_equal(fixture->seen[1].id, id);
    assert_int_equal(fixture->seen[1].attempt, 2);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void a_task_that_somebody_has_goes_on_whatever_its_lease_says(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    execute(fixture, "UPDATE _work SET due = '2020-01-01 00:00:00.000Z'");
    tick(fixture);
    assert_int_equal(fixture->seen_count, 1);
    assert_int_equal(work_fixture_count(fixture, "state = 'running' AND attempts = 1"), 1);
    bk_work_done(work_fixture_take(fixture, 0), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_int_equal(fixture->end_count, 1);
}

static void what_was_kept_long_enough_goes_a_few_at_a_time(void **state) {
    struct work_fixture *fixture = *state;
    char text[512];
    snprintf(text, sizeof text,
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT "
             "INTO _work (id, kind, lane, state, due, expires) SELECT printf('%%015d', i), 'mail', "
             "'mail', 'dead', '', iif(i <= 10, '2099-01-01 00:00:00.000Z', "
             "'2020-01-01 00:00:00.000Z') FROM n",
             DEAD);
    execute(fixture, text);
    execute(fixture, "INSERT INTO _work_secrets SELECT id, 'null' FROM _work");
    work_fixture_close(fixture, 1000);
    work_fixture_reopen(fixture);
    struct work_tenant *own = work_tenant_of(fixture->work, fixture->kernel.tenant);
    WORK_FIXTURE_UNTIL(fixture, own->is_known && own->expires_ms != INT64_MAX);
    uint64_t commits = bk_store_figures(fixture->kernel.store).commits;
    assert_int_equal(work_fixture_count(fixture, "1"), DEAD);
    tick(fixture);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 10);
    assert_true(bk_store_figures(fixture->kernel.store).commits - commits >=
                (DEAD - 10) / WORK_PRUNE_ROWS_MAX);
    assert_string_equal(work_fixture_query(fixture, "SELECT count(*) FROM _work_secrets"), "10");
    /* And then nothing more is to do, for years. */
    WORK_FIXTURE_UNTIL(fixture, own->wants == 0 && !own->round.is_flying);
    commits = bk_store_figures(fixture->kernel.store).commits;
    tick(fixture);
    assert_int_equal(bk_store_figures(fixture->kernel.store).commits, commits);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_task_whose_lease_is_over_and_that_nobody_has_comes_again),
        TEST(a_task_that_somebody_has_goes_on_whatever_its_lease_says),
        TEST(what_was_kept_long_enough_goes_a_few_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
