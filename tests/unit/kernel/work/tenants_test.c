/* Work of several tenants: none keeps another from its turn, and none outlives its tenant. */
#include "work_fixture.h"

enum { PLACES = 4, LARGE = 60, SMALL = 4 };

static const struct bk_work_kind kinds[] = {
    {.name = "mail", WORK_FIXTURE_HANDLERS, .lane = {.running_max = 200}},
};

static uint32_t large_done, small_done;

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

static struct bk_tenant *hold(struct work_fixture *fixture, const char *name) {
    return support_kernel_hold(&fixture->kernel, bk_slice_from(name));
}

static void add(struct work_fixture *fixture, struct bk_tenant *tenant, uint32_t count) {
    static const struct bk_work_draft draft = {.kind = "mail"};
    struct work_fixture_adding adding = {.draft = &draft, .count = count};
    struct work_fixture_write own = {
        .write = {.run = work_fixture_on_run, .done = work_fixture_on_written},
        .fixture = fixture,
        .run = work_fixture_run_add,
        .user = &adding};
    assert_int_equal(bk_store_write(tenant->database, &own.write), BK_OK);
    support_loop_run_until(fixture->kernel.loop, &own.is_done);
    assert_int_equal(own.status, BK_OK);
}

static bool is_of(const struct bk_work_task *task, const char *name) {
    return bk_slice_equal(task->tenant->name, bk_slice_from(name));
}

static uint32_t running_of(const struct work_fixture *fixture, const char *tenant) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < fixture->seen_count; i++)
        count += fixture->seen[i].task != NULL && is_of(fixture->seen[i].task, tenant);
    return count;
}

static void answer_all(struct work_fixture *fixture) {
    for (uint32_t i = 0; i < fixture->seen_count; i++) {
        if (fixture->seen[i].task == NULL)
            continue;
        bool is_small = is_of(fixture->seen[i].task, "small");
        small_done += is_small;
        large_done += !is_small;
        bk_work_done(work_fixture_take(fixture, i), BK_SLICE_EMPTY);
    }
}

static void a_tenant_whose_tasks_hang_leaves_places_to_others(void **state) {
    struct work_fixture *fixture = *state;
    fixture->work->running_max = PLACES;
    add(fixture, fixture->kernel.tenant, LARGE);
    WORK_FIXTURE_UNTIL(fixture, running_of(fixture, "default") == PLACES - 1);
    struct bk_tenant *small = hold(fixture, "small");
    add(fixture, small, 1);
    WORK_FIXTURE_UNTIL(fixture, running_of(fixture, "small") == 1);
    answer_all(fixture);
    bk_tenant_release(small);
    fixture->script = NULL;
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void a_tenant_with_few_tasks_is_done_while_one_with_many_is_not(void **state) {
    struct work_fixture *fixture = *state;
    large_done = small_done = 0;
    fixture->work->running_max = PLACES;
    struct bk_tenant *small = hold(fixture, "small");
    add(fixture, fixture->kernel.tenant, LARGE);
    add(fixture, small, SMALL);
    /* All places are taken before any is given back. */
    while (small_done < SMALL) {
        WORK_FIXTURE_UNTIL(fixture,
                           running_of(fixture, "default") + running_of(fixture, "small") >= 2);
        answer_all(fixture);
    }
    assert_in_range(large_done, 0, LARGE / 2);
    bk_tenant_release(small);
    fixture->script = NULL;
    answer_all(fixture);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void a_tenant_is_not_held_while_there_is_no_place_for_its_task(void **state) {
    struct work_fixture *fixture = *state;
    fixture->work->running_max = 1;
    add(fixture, fixture->kernel.tenant, 1);
    WORK_FIXTURE_UNTIL(fixture, running_of(fixture, "default") == 1);
    struct bk_tenant *small = hold(fixture, "small");
    struct work_tenant *own = work_tenant_of(fixture->work, small);
    add(fixture, small, 1);
    WORK_FIXTURE_UNTIL(fixture, own->is_known && !bk_list_is_empty(&own->ready[0]));
    WORK_FIXTURE_UNTIL(fixture, !own->is_held);
    /* A place is free, and taken by another before it is this one's turn. */
    fixture->work->running_max = 2;
    work_tenant_settle(own);
    assert_true(own->is_held);
    fixture->work->running_max = 1;
    work_turn_soon(fixture->work);
    WORK_FIXTURE_UNTIL(fixture, !own->is_held);
    assert_int_equal(running_of(fixture, "small"), 0);
    answer_all(fixture);
    WORK_FIXTURE_UNTIL(fixture, running_of(fixture, "small") == 1);
    assert_true(own->is_held);
    answer_all(fixture);
    bk_tenant_release(small);
}

/* --- deletion --------------------------------------------------------------------------------- */

static bool is_deleted;

static void on_deleted(void *user, enum bk_status status) {
    (void)user;
    assert_int_equal(status, BK_OK);
    is_deleted = true;
}

static void end_when_cancelled(struct work_fixture *fixture, struct bk_work_task *task) {
    assert_true(task->is_cancelled);
    for (uint32_t i = 0; i < fixture->seen_count; i++)
        if (fixture->seen[i].task == task)
            bk_work_again(work_fixture_take(fixture, i), 0, BK_SLICE("cut"), BK_SLICE_EMPTY);
}

static void a_tenant_whose_task_runs_can_be_deleted(void **state) {
    struct work_fixture *fixture = *state;
    is_deleted = false;
    fixture->on_cancel = end_when_cancelled;
    struct bk_tenant *small = hold(fixture, "small");
    add(fixture, small, 3);
    WORK_FIXTURE_UNTIL(fixture, running_of(fixture, "small") == 3);
    bk_tenant_release(small);
    bk_tenant_delete(fixture->kernel.tenants, BK_SLICE("small"), on_deleted, NULL);
    support_loop_run_until(fixture->kernel.loop, &is_deleted);
    assert_int_equal(fixture->cancel_count, 3);
    assert_int_equal(fixture->work->attempt_count, 0);
    assert_int_equal(fixture->work->running_count, 0);
    /* Others go on. */
    fixture->script = NULL;
    add(fixture, fixture->kernel.tenant, 3);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_tenant_whose_tasks_hang_leaves_places_to_others),
        TEST(a_tenant_with_few_tasks_is_done_while_one_with_many_is_not),
        TEST(a_tenant_is_not_held_while_there_is_no_place_for_its_task),
        TEST(a_tenant_whose_task_runs_can_be_deleted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
