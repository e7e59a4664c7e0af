/* A lane is cleared: what waited in it goes in slices, what is added then stays, and nobody waits
 * for it. */
#include "work_fixture.h"

#include "bakend/failpoint.h"

enum { MANY = 4000, KEYS = 3, EACH = 40 };

static const struct bk_work_kind kinds[] = {
    {.name = "plain", WORK_FIXTURE_HANDLERS, .lane = {.running_max = 1}},
    {.name = "chained", WORK_FIXTURE_HANDLERS, .lane = {.running_max = 9, .is_ordered = true}},
    {.name = "secret", WORK_FIXTURE_HANDLERS, .has_secrets = true},
};

static const struct bk_work_draft ours = {
    .kind = "plain", .lane = BK_SLICE_INIT("a"), .payload = BK_SLICE_INIT("1")};

static int setup(void **state) {
    static struct work_fixture fixture;
    work_fixture_open(&fixture, kinds, BK_COUNT_OF(kinds));
    fixture.script = work_fixture_keep;
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    work_fixture_destroy(*state);
    return 0;
}

static long count_of(struct work_fixture *fixture, const char *table) {
    char text[64];
    snprintf(text, sizeof text, "SELECT count(*) FROM %s", table);
    return strtol(work_fixture_query(fixture, text), NULL, 10);
}

static bool is_over(struct work_fixture *fixture) {
    return count_of(fixture, "_work_clearings") == 0;
}

static void pause_lane(struct work_fixture *fixture, const char *lane) {
    assert_int_equal(work_fixture_do(fixture, bk_work_pause, lane), BK_OK);
}

static void clear(struct work_fixture *fixture, const char *lane) {
    assert_int_equal(work_fixture_do(fixture, bk_work_clear, lane), BK_OK);
}

/* --- what goes -------------------------------------------------------------------------------- */

static void what_waits_goes_and_what_is_added_then_stays(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft later = ours, replay = ours, other = ours;
    later.delay_ms = 3600 * 1000;
    replay.is_replay = true;
    other.lane = BK_SLICE("ab");
    pause_lane(fixture, "plain/a");
    pause_lane(fixture, "plain/ab");
    assert_int_equal(work_fixture_add(fixture, &ours, 300, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &later, 30, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &replay, 30, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &other, 20, NULL), BK_OK);
    clear(fixture, "plain/a");
    assert_int_equal(work_fixture_add(fixture, &ours, 5, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &later, 5, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, is_over(fixture));
    WORK_FIXTURE_UNTIL(fixture, count_of(fixture, "_work_inbox") == 0);
    assert_int_equal(work_fixture_count(fixture, "lane = 'plain/a'"), 10);
    assert_int_equal(work_fixture_count(fixture, "lane = 'plain/a/replay'"), 0);
    assert_int_equal(work_fixture_count(fixture, "lane = 'plain/ab'"), 20);
    /* And the lane goes on. */
    fixture->script = NULL;
    assert_int_equal(work_fixture_do(fixture, bk_work_resume, "plain/a"), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 5);
}

static void secrets_go_with_their_tasks(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "secret", .payload = BK_SLICE("\"s\"")};
    pause_lane(fixture, "secret");
    assert_int_equal(work_fixture_add(fixture, &draft, 50, NULL), BK_OK);
    assert_int_equal(count_of(fixture, "_work_secrets"), 50);
    clear(fixture, "secret");
    WORK_FIXTURE_UNTIL(fixture, is_over(fixture));
    assert_int_equal(count_of(fixture, "_work_secrets"), 0);
}

static void end_when_cancelled(struct work_fixture *fixture, struct bk_work_task *task) {
    for (uint32_t i = 0; i < fixture->seen_count; i++)
        if (fixture->seen[i].task == task)
            bk_work_again(work_fixture_take(fixture, i), 0, BK_SLICE("cut"), BK_SLICE_EMPTY);
}

static void what_runs_is_cancelled_and_nothing_else_begins(void **state) {
    struct work_fixture *fixture = *state;
    fixture->on_cancel = end_when_cancelled;
    assert_int_equal(work_fixture_add(fixture, &ours, 500, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    clear(fixture, "plain/a");
    WORK_FIXTURE_UNTIL(fixture, is_over(fixture) && fixture->dead_count == 1);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
    assert_int_equal(work_fixture_count(fixture, "1"), 1);
    assert_int_equal(fixture->seen_count, 1);
    assert_int_equal(fixture->cancel_count, 1);
}

static void of_a_chain_those_behind_go_too_and_the_next_one_is_what_came_after(void **state) {
    struct work_fixture *fixture = *state;
    static const struct bk_slice keys[KEYS] = {BK_SLICE_INIT("k0"), BK_SLICE_INIT("k1"),
                                               BK_SLICE_INIT("k2")};
    struct bk_work_draft draft = {.kind = "chained"};
    for (size_t i = 0; i < KEYS; i++) {
        draft.key = keys[i];
        assert_int_equal(work_fixture_add(fixture, &draft, EACH, NULL), BK_OK);
    }
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == KEYS);
    assert_int_equal(work_fixture_count(fixture, "state = 'blocked'"), KEYS * (EACH - 1));
    clear(fixture, "chained");
    draft.payload = BK_SLICE("\"new\"");
    draft.key = keys[0];
    assert_int_equal(work_fixture_add(fixture, &draft, 2, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, is_over(fixture));
    assert_int_equal(work_fixture_count(fixture, "state = 'blocked'"), 2);
    assert_int_equal(fixture->seen_count, KEYS);
    for (uint32_t i = 0; i < KEYS; i++)
        bk_work_done(work_fixture_take(fixture, i), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == KEYS + 1);
    assert_string_equal(fixture->seen[KEYS].payload, "\"new\"");
}

static void when_its_head_waits_the_next_of_a_chain_is_what_came_after(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = {.kind = "chained", .key = BK_SLICE("k")};
    pause_lane(fixture, "chained");
    assert_int_equal(work_fixture_add(fixture, &draft, EACH, NULL), BK_OK);
    clear(fixture, "chained");
    assert_int_equal(work_fixture_add(fixture, &draft, 2, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, is_over(fixture));
    assert_int_equal(work_fixture_count(fixture, "state = 'waiting'"), 1);
    assert_int_equal(work_fixture_count(fixture, "state = 'blocked'"), 1);
    fixture->script = NULL;
    assert_int_equal(work_fixture_do(fixture, bk_work_resume, "chained"), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_int_equal(fixture->seen_count, 2);
}

static enum bk_status run_clear_and_add(struct work_fixture *fixture,
                                        struct bk_transaction *transaction, void *user) {
    enum bk_status status = bk_work_clear(fixture->work, transaction, BK_SLICE("plain/a"));
    return status == BK_OK ? work_fixture_run_add(fixture, transaction, user) : status;
}

/* The one that goes would take the new one with it. */
static void what_is_unique_can_be_added_again_at_once(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = ours;
    struct work_fixture_adding again = {.draft = &draft, .count = 2};
    char former[BK_WORK_ID_BYTES + 1];
    draft.unique = BK_SLICE("of one thing");
    pause_lane(fixture, "plain/a");
    assert_int_equal(work_fixture_add(fixture, &draft, 1, former), BK_OK);
    assert_int_equal(work_fixture_write_by(fixture, NULL, run_clear_and_add, &again), BK_OK);
    assert_string_not_equal(again.id, former);
    WORK_FIXTURE_UNTIL(fixture, is_over(fixture));
    assert_int_equal(work_fixture_count(fixture, "lane = 'plain/a'"), 1);
    assert_string_equal(work_fixture_query(fixture, "SELECT id FROM _work"), again.id);
}

static void a_name_that_is_none_is_refused(void **state) {
    struct work_fixture *fixture = *state;
    assert_int_equal(work_fixture_do(fixture, bk_work_clear, "nobody/a"), BK_NOT_FOUND);
    assert_int_equal(work_fixture_do(fixture, bk_work_clear, ""), BK_INVALID);
}

/* --- how -------------------------------------------------------------------------------------- */

static enum bk_status run_nothing(struct work_fixture *fixture, struct bk_transaction *transaction,
                                  void *user) {
    (void)fixture;
    (void)transaction;
    (void)user;
    return BK_OK;
}

static void requests_have_their_turn_meanwhile(void **state) {
    struct work_fixture *fixture = *state;
    uint32_t writes = 0;
    pause_lane(fixture, "plain/a");
    assert_int_equal(work_fixture_add(fixture, &ours, MANY, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, count_of(fixture, "_work") == MANY);
    clear(fixture, "plain/a");
    for (; !is_over(fixture); writes++) {
        long before = count_of(fixture, "_work");
        assert_int_equal(work_fixture_write_by(fixture, NULL, run_nothing, NULL), BK_OK);
        assert_true(before - count_of(fixture, "_work") < MANY / 4);
    }
    assert_true(writes > 4);
    assert_int_equal(count_of(fixture, "_work"), 0);
}

static void a_restart_goes_on_with_it(void **state) {
    struct work_fixture *fixture = *state;
    pause_lane(fixture, "plain/a");
    assert_int_equal(work_fixture_add(fixture, &ours, MANY, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, count_of(fixture, "_work") == MANY);
    clear(fixture, "plain/a");
    WORK_FIXTURE_UNTIL(fixture, count_of(fixture, "_work") < MANY);
    assert_true(count_of(fixture, "_work") > 0);
    work_fixture_close(fixture, 0);
    work_fixture_reopen(fixture);
    /* Others do not wait for that. */
    assert_int_equal(work_fixture_add(fixture, &(struct bk_work_draft){.kind = "chained"}, 1, NULL),
                     BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    assert_string_equal(fixture->seen[0].lane, "chained");
    WORK_FIXTURE_UNTIL(fixture, is_over(fixture));
    assert_int_equal(work_fixture_count(fixture, "lane = 'plain/a'"), 0);
}

static void a_slice_that_fails_is_done_again(void **state) {
    struct work_fixture *fixture = *state;
    pause_lane(fixture, "plain/a");
    assert_int_equal(work_fixture_add(fixture, &ours, 300, NULL), BK_OK);
    assert_int_equal(bk_failpoint_configure("work.cleared:error@1"), BK_OK);
    clear(fixture, "plain/a");
    WORK_FIXTURE_UNTIL(fixture, is_over(fixture));
    assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
    assert_int_equal(work_fixture_count(fixture, "1"), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_waits_goes_and_what_is_added_then_stays),
        TEST(secrets_go_with_their_tasks),
        TEST(what_runs_is_cancelled_and_nothing_else_begins),
        TEST(of_a_chain_those_behind_go_too_and_the_next_one_is_what_came_after),
        TEST(when_its_head_waits_the_next_of_a_chain_is_what_came_after),
        TEST(what_is_unique_can_be_added_again_at_once),
        TEST(a_name_that_is_none_is_refused),
        TEST(requests_have_their_turn_meanwhile),
        TEST(a_restart_goes_on_with_it),
        TEST(a_slice_that_fails_is_done_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
