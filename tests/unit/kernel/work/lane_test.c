/* Lanes: rates, breakers, rests, replays, policies of their own; who takes places from whom. */
#include "work_fixture.h"

#include <stdatomic.h>
#include <unistd.h>

static char told[8][32]; /* "broken/a!" when it broke, "broken/a" when it was whole again */
static uint32_t told_count;

static void on_lane(struct bk_tenant *tenant, struct bk_slice lane, bool is_broken, void *user) {
    const struct work_fixture *fixture = user;
    assert_ptr_equal(tenant, fixture->kernel.tenant);
    assert_true(told_count < BK_COUNT_OF(told));
    snprintf(told[told_count++], sizeof told[0], "%.*s%s", BK_SLICE_PRINT(lane),
             is_broken ? "!" : "");
}

static const uint32_t quick[] = {1};
#define QUICK .backoff_ms = quick, .backoff_count = 1
static const struct bk_work_kind kinds[] = {
    {.name = "rated",
     WORK_FIXTURE_HANDLERS,
     QUICK,
     .lane = {.running_max = 50, .rate_per_minute = 1200}},
    {.name = "broken",
     WORK_FIXTURE_HANDLERS,
     QUICK,
     .attempt_max = 50,
     .on_lane = on_lane,
     .lane =
         {.running_max = 4, .breaker_failures = 3, .breaker_first_ms = 40, .breaker_max_ms = 80}},
    {.name = "hung", WORK_FIXTURE_HANDLERS, QUICK, .lane = {.running_max = 1000}},
    {.name = "plain", WORK_FIXTURE_HANDLERS, QUICK, .lane = {.running_max = 2}},
};

static int setup(void **state) {
    static struct work_fixture fixture;
    work_fixture_open(&fixture, kinds, BK_COUNT_OF(kinds));
    told_count = 0;
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    work_fixture_destroy(*state);
    return 0;
}

static void keep_facts(void *user, const struct bk_work_lane_facts *facts) {
    *(enum bk_work_lane_state *)user = facts->state;
}

static enum bk_work_lane_state lane_state(struct work_fixture *fixture) {
    enum bk_work_lane_state state = BK_WORK_LANE_OPEN;
    bk_work_for_each_lane(fixture->work, fixture->kernel.tenant, keep_facts, &state);
    return state;
}

/* 1,200 a minute: a bucket of 20, then one each 50 ms. */
static void a_rate_is_a_bucket_of_a_second(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "rated"};
    int64_t start_ms = work_now_ms(fixture->work);
    assert_int_equal(work_fixture_add(fixture, &draft, 26, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= 20);
    assert_true(fixture->seen_count <= 20 + (work_now_ms(fixture->work) - start_ms) / 50);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 26);
    assert_true(work_now_ms(fixture->work) - start_ms >= 6 * 50 - 5);
}

static int64_t handed_ms[256]; /* when each was handed over */

static void fail_until_mended(struct work_fixture *fixture, struct bk_work_task *task,
                              uint32_t index) {
    assert_true(index < BK_COUNT_OF(handed_ms));
    handed_ms[index] = work_now_ms(fixture->work);
    fixture->seen[index].task = NULL;
    if (fixture->on_cancel == NULL)
        bk_work_again(task, 0, BK_SLICE("down"), BK_SLICE_EMPTY);
    else
        bk_work_done(task, BK_SLICE_EMPTY);
}

static void mended(struct work_fixture *fixture, struct bk_work_task *task) {
    (void)fixture;
    (void)task;
}

static void a_broken_lane_hands_over_probes_until_one_is_done(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "broken"};
    fixture->script = fail_until_mended;
    assert_int_equal(work_fixture_add(fixture, &draft, 20, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, lane_state(fixture) == BK_WORK_LANE_BROKEN);
    uint32_t seen = fixture->seen_count;
    assert_true(seen <= 8);
    work_fixture_wait(fixture, 20);
    assert_int_equal(fixture->seen_count, seen);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= seen + 2);
    assert_true(handed_ms[seen] - handed_ms[seen - 1] >= 40 - 1);
    assert_true(handed_ms[seen + 1] - handed_ms[seen] >= 80 - 1); /* twice as long */
    /* Whoever knows that the peer is back wakes it. */
    fixture->on_cancel = mended;
    bk_work_lane_wake(fixture->work, fixture->kernel.tenant, BK_SLICE("broken"));
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void its_kind_is_told_when_a_lane_breaks_and_when_it_is_whole_again(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "broken", .lane = BK_SLICE("a")};
    fixture->script = fail_until_mended;
    assert_int_equal(work_fixture_add(fixture, &draft, 5, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= 6); /* two probes failed: not told again */
    assert_int_equal(told_count, 1);
    assert_string_equal(told[0], "broken/a!");
    fixture->on_cancel = mended;
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_int_equal(told_count, 2);
    assert_string_equal(told[1], "broken/a");
}

static void of_a_broken_lane_without_tasks_it_is_told_too(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "broken", .lane = BK_SLICE("a")};
    fixture->script = fail_until_mended;
    assert_int_equal(work_fixture_add(fixture, &draft, 5, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, told_count == 1);
    assert_int_equal(work_fixture_do(fixture, bk_work_clear, "broken/a"), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, told_count == 2);
    assert_string_equal(told[1], "broken/a");
    assert_int_equal(work_fixture_count(fixture, "state != 'dead'"), 0);
}

static void a_verdict_on_a_task_does_not_break_its_lane(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "broken"};
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &draft, 8, NULL), BK_OK);
    for (uint32_t i = 0; i < 8; i++) {
        WORK_FIXTURE_UNTIL(fixture, fixture->seen_count > i);
        assert_int_not_equal(lane_state(fixture), BK_WORK_LANE_BROKEN);
        bk_work_dead(work_fixture_take(fixture, i), BK_SLICE("no such user"), BK_SLICE_EMPTY);
    }
    WORK_FIXTURE_UNTIL(fixture, fixture->dead_count == 8);
}

static void what_is_put_off_neither_breaks_its_lane_nor_mends_it(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "broken"};
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &draft, 8, NULL), BK_OK);
    for (uint32_t i = 0; i < 8; i++) {
        WORK_FIXTURE_UNTIL(fixture, fixture->seen_count > i);
        assert_int_not_equal(lane_state(fixture), BK_WORK_LANE_BROKEN);
        bk_work_put_off(work_fixture_take(fixture, i), 3600 * 1000, BK_SLICE("greylisted"),
                        BK_SLICE_EMPTY);
    }
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "error = 'greylisted'") == 8);
    assert_int_equal(work_fixture_count(fixture, "attempts = 1"), 8);
    fixture->script = work_fixture_fail;
    assert_int_equal(work_fixture_add(fixture, &draft, 8, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, lane_state(fixture) == BK_WORK_LANE_BROKEN);
}

static void a_lane_runs_no_more_than_it_may(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "plain"};
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &draft, 6, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= 2);
    for (uint32_t i = 0; i < 4; i++) {
        bk_work_done(work_fixture_take(fixture, i), BK_SLICE_EMPTY);
        WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= i + 3);
        work_fixture_wait(fixture, 20);
        assert_int_equal(fixture->seen_count, i + 3);
    }
    for (uint32_t i = 4; i < 6; i++)
        bk_work_done(work_fixture_take(fixture, i), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void what_is_not_due_is_not_begun_with_what_is(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft late = {.kind = "plain", .delay_ms = 3600 * 1000};
    const struct bk_work_draft now = {.kind = "plain"}, other = {.kind = "rated"};
    assert_int_equal(work_fixture_add(fixture, &late, 1, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &now, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 1);
    assert_int_equal(work_fixture_add(fixture, &other, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= 2);
    assert_int_equal(fixture->seen_count, 2);
    assert_string_equal(fixture->seen[1].lane, "rated");
}

static void a_lane_rests_until_it_is_woken(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "plain"};
    struct bk_tenant *tenant = fixture->kernel.tenant;
    bk_work_lane_rest(fixture->work, tenant, BK_SLICE("plain"), 60 * 1000);
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, lane_state(fixture) == BK_WORK_LANE_RESTING);
    work_fixture_wait(fixture, 20);
    assert_int_equal(fixture->seen_count, 0);
    bk_work_lane_wake(fixture->work, tenant, BK_SLICE("plain"));
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
}

static void replays_wait_for_the_lane_beside_them(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "plain", .is_replay = true};
    assert_int_equal(work_fixture_do(fixture, bk_work_pause, "plain"), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, lane_state(fixture) == BK_WORK_LANE_PAUSED);
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    for (uint32_t i = 1; i <= 3; i++) { /* others come and go meanwhile */
        assert_int_equal(
            work_fixture_add(fixture, &(struct bk_work_draft){.kind = "rated"}, 1, NULL), BK_OK);
        WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= i);
        assert_string_equal(fixture->seen[i - 1].lane, "rated");
    }
    assert_int_equal(work_fixture_do(fixture, bk_work_resume, "plain"), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 4);
    assert_string_equal(fixture->seen[3].lane, "plain/replay");
}

static void keep_hung(struct work_fixture *fixture, struct bk_work_task *task, uint32_t index) {
    if (bk_slice_starts_with(task->lane, BK_SLICE("hung")))
        return;
    fixture->seen[index].task = NULL;
    bk_work_done(task, BK_SLICE_EMPTY);
}

static void answer_hung(struct work_fixture *fixture) {
    for (uint32_t i = 0; i < fixture->seen_count; i++)
        if (fixture->seen[i].task != NULL)
            bk_work_done(work_fixture_take(fixture, i), BK_SLICE_EMPTY);
}

static void what_hangs_leaves_places_to_others(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = {.kind = "hung"};
    fixture->script = keep_hung;
    assert_int_equal(work_fixture_add(fixture, &draft, 1000, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= 150);
    work_fixture_wait(fixture, 30);
    uint32_t hung = fixture->seen_count;
    assert_true(hung < fixture->work->running_max);
    /* Nobody turns in circles meanwhile. */
    uint64_t commits = bk_store_figures(fixture->kernel.store).commits;
    work_fixture_wait(fixture, 30);
    assert_true(bk_store_figures(fixture->kernel.store).commits - commits < 5);
    draft.kind = "plain";
    assert_int_equal(work_fixture_add(fixture, &draft, 10, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "kind = 'plain'") == 0);
    while (work_fixture_count(fixture, "1") > 0) {
        answer_hung(fixture);
        work_fixture_wait(fixture, 1);
    }
}

static void replays_take_a_quarter_of_the_places(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {.kind = "hung", .is_replay = true};
    fixture->script = keep_hung;
    assert_int_equal(work_fixture_add(fixture, &draft, 100, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 64);
    uint64_t commits = bk_store_figures(fixture->kernel.store).commits;
    work_fixture_wait(fixture, 30);
    assert_int_equal(fixture->seen_count, 64);
    assert_true(bk_store_figures(fixture->kernel.store).commits - commits < 5);
    while (work_fixture_count(fixture, "1") > 0) {
        answer_hung(fixture);
        work_fixture_wait(fixture, 1);
    }
}

static void a_lane_may_have_a_policy_of_its_own_and_give_it_back(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft draft = {
        .kind = "plain", .lane = BK_SLICE("a"), .key = BK_SLICE("k")};
    const struct bk_work_lane_policy ordered = {.running_max = 5, .is_ordered = true};
    struct work_tenant *own = work_tenant_of(fixture->work, fixture->kernel.tenant);
    struct bk_slice lane = BK_SLICE("plain/a");
    fixture->script = work_fixture_keep;
    bk_work_lane_set_policy(fixture->work, fixture->kernel.tenant, lane, &ordered);
    assert_int_equal(work_fixture_add(fixture, &draft, 3, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    assert_int_equal(work_fixture_count(fixture, "state = 'blocked'"), 2);
    /* What is added from then on has no order; what was, keeps it. */
    bk_work_lane_set_policy(fixture->work, fixture->kernel.tenant, lane, NULL);
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    bk_work_done(work_fixture_take(fixture, 1), BK_SLICE_EMPTY);
    work_fixture_wait(fixture, 20);
    assert_int_equal(work_fixture_count(fixture, "state = 'blocked'"), 2);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t index = i == 0 ? 0 : i + 1;
        WORK_FIXTURE_UNTIL(fixture, fixture->seen_count > index);
        bk_work_done(work_fixture_take(fixture, index), BK_SLICE_EMPTY);
    }
    WORK_FIXTURE_UNTIL(fixture, own->lanes.count == 0);
}

static void figures_say_what_waits_and_what_is_dead(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_figures figures[BK_COUNT_OF(kinds)];
    struct bk_work_draft draft = {.kind = "plain", .delay_ms = 60 * 1000};
    char id[BK_WORK_ID_BYTES + 1];
    assert_int_equal(work_fixture_add(fixture, &draft, 3, id), BK_OK);
    assert_int_equal(work_fixture_do(fixture, bk_work_cancel, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'waiting'") == 2);
    assert_int_equal(bk_work_figures(fixture->work, figures, 8), BK_COUNT_OF(kinds));
    WORK_FIXTURE_UNTIL(fixture, (bk_work_figures(fixture->work, figures, BK_COUNT_OF(kinds)),
                                 figures[3].waiting == 2));
    assert_string_equal(figures[3].kind->name, "plain");
    assert_int_equal(figures[3].dead, 1);
    assert_int_equal(figures[3].due, 0);
    assert_int_equal(figures[3].added, 3);
    assert_int_equal(figures[3].lanes, 1);
}

/* --- many lanes ------------------------------------------------------------------------------- */

struct spread {
    uint32_t count;
    bool waits; /* until nobody listens */
    atomic_bool has_begun, may_go, is_run;
};

/* One task in each of so many lanes, in one transaction. What is unique does not come by the inbox,
 * whose emptying has lanes looked for in any case. */
static enum bk_status run_spread(struct work_fixture *fixture, struct bk_transaction *transaction,
                                 void *user) {
    struct spread *spread = user;
    enum bk_status status = BK_OK;
    atomic_store(&spread->has_begun, true);
    while (spread->waits && !atomic_load(&spread->may_go))
        (void)usleep(1000);
    for (uint32_t i = 0; i < spread->count && status == BK_OK; i++) {
        char name[16];
        snprintf(name, sizeof name, "l%05u", i);
        const struct bk_work_draft draft = {
            .kind = "plain", .lane = bk_slice_from(name), .unique = bk_slice_from(name)};
        status = bk_work_add(fixture->work, transaction, &draft, NULL);
    }
    atomic_store(&spread->is_run, true);
    return status;
}

/* The loop is busy with something else while the writer tells of all. */
static void spread_unheard(struct work_fixture *fixture, struct spread *spread) {
    struct work_fixture_write own = {
        .write = {.run = work_fixture_on_run, .done = work_fixture_on_written},
        .fixture = fixture,
        .run = run_spread,
        .user = spread};
    spread->waits = true;
    assert_int_equal(bk_store_write(fixture->kernel.tenant->database, &own.write), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, atomic_load(&spread->has_begun));
    atomic_store(&spread->may_go, true);
    while (!atomic_load(&spread->is_run))
        (void)usleep(1000);
    support_loop_run_until(fixture->kernel.loop, &own.is_done);
    assert_int_equal(own.status, BK_OK);
}

/* More lanes than writers tell of: all are read from the table, a thousand at a time. */
static void what_writers_could_not_tell_of_is_found(void **state) {
    struct work_fixture *fixture = *state;
    struct spread spread = {.count = 2 * WORK_HINTS_MAX + 500};
    assert_true(spread.count > 2 * WORK_SCAN_LANES_MAX);
    spread_unheard(fixture, &spread);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == spread.count);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_int_equal(fixture->seen_count, spread.count);
    struct work_tenant *own = work_tenant_of(fixture->work, fixture->kernel.tenant);
    WORK_FIXTURE_UNTIL(fixture, own->lanes.count == 0);
}

static void thousands_of_lanes_are_found_again_after_a_restart(void **state) {
    struct work_fixture *fixture = *state;
    struct spread spread = {.count = 2500};
    fixture->work->running_max = 0;
    assert_int_equal(work_fixture_write_by(fixture, NULL, run_spread, &spread), BK_OK);
    work_fixture_close(fixture, 0);
    work_fixture_reopen(fixture);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0 &&
                                    fixture->seen_count >= spread.count);
    assert_int_equal(fixture->seen_count, spread.count);
}

static void past_so_many_lanes_a_new_one_has_no_room_and_an_old_one_has(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_draft old = {.kind = "plain", .lane = BK_SLICE("l00001")},
                               new = {.kind = "plain", .lane = BK_SLICE("another")};
    struct spread spread = {.count = BK_WORK_LANES_MAX};
    struct work_tenant *own = work_tenant_of(fixture->work, fixture->kernel.tenant);
    fixture->work->running_max = 0;
    assert_int_equal(work_fixture_write_by(fixture, NULL, run_spread, &spread), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, own->lanes.count == BK_WORK_LANES_MAX);
    assert_int_equal(work_fixture_add(fixture, &new, 1, NULL), BK_BUSY);
    assert_int_equal(work_fixture_add(fixture, &old, 1, NULL), BK_OK);
    fixture->work->running_max = 256;
    work_turn_soon(fixture->work);
    WORK_FIXTURE_UNTIL(fixture, own->lanes.count < BK_WORK_LANES_MAX);
    assert_int_equal(work_fixture_add(fixture, &new, 1, NULL), BK_OK);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_rate_is_a_bucket_of_a_second),
        TEST(a_broken_lane_hands_over_probes_until_one_is_done),
        TEST(its_kind_is_told_when_a_lane_breaks_and_when_it_is_whole_again),
        TEST(of_a_broken_lane_without_tasks_it_is_told_too),
        TEST(a_verdict_on_a_task_does_not_break_its_lane),
        TEST(what_is_put_off_neither_breaks_its_lane_nor_mends_it),
        TEST(a_lane_runs_no_more_than_it_may),
        TEST(what_is_not_due_is_not_begun_with_what_is),
        TEST(a_lane_rests_until_it_is_woken),
        TEST(replays_wait_for_the_lane_beside_them),
        TEST(what_hangs_leaves_places_to_others),
        TEST(replays_take_a_quarter_of_the_places),
        TEST(a_lane_may_have_a_policy_of_its_own_and_give_it_back),
        TEST(figures_say_what_waits_and_what_is_dead),
        TEST(what_writers_could_not_tell_of_is_found),
        TEST(thousands_of_lanes_are_found_again_after_a_restart),
        TEST(past_so_many_lanes_a_new_one_has_no_room_and_an_old_one_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
