/* Events that a position was handed become tasks, each once, in their order. */
#include "work_fixture.h"

#include "bakend/bus.h"
#include "bakend/failpoint.h"
#include "bakend/position.h"

enum { EVENTS = 12 };

static const struct bk_work_kind kinds[] = {
    {.name = "event", WORK_FIXTURE_HANDLERS, .lane = {.running_max = 1, .is_ordered = true}}};

static struct {
    struct work_fixture fixture;
    struct bk_bus *bus;
    struct bk_feed *feed;
    struct bk_position position;
    bool is_opened;
    uint32_t handed;
} test;

static enum bk_handed on_event(struct bk_position *position, struct bk_event *event) {
    struct bk_work_draft draft = {
        .kind = "event", .key = BK_SLICE("all"), .payload = event->fields.payload};
    test.handed++;
    bk_work_add_from(test.fixture.work, position, event, &draft);
    return BK_HANDED_TAKEN;
}

static void on_opened(struct bk_position *position, enum bk_status status,
                      enum bk_feed_problem problem) {
    (void)position;
    (void)problem;
    assert_int_equal(status, BK_OK);
    test.is_opened = true;
}

/* The feed has a slot, so it is made before the tenant opens. */
static void open_all(const char *failpoints) {
    struct work_fixture *fixture = &test.fixture;
    memset(&test, 0, sizeof test);
    fixture->kinds = kinds;
    fixture->kind_count = 1;
    assert_int_equal(bk_failpoint_configure(failpoints), BK_OK);
    support_kernel_create(&fixture->kernel, NULL);
    test.bus = bk_bus_create(fixture->kernel.loop, fixture->kernel.store, (struct bk_log){0});
    test.feed = bk_feed_create(fixture->kernel.loop, test.bus, fixture->kernel.tenants,
                               (struct bk_log){0}, 1024 * 1024);
    work_fixture_compose(fixture);
    support_kernel_open(&fixture->kernel);
    bk_work_start(fixture->work);
    test.position = (struct bk_position){.kind = "test",
                                         .name = BK_SLICE("test/a"),
                                         .phase = BK_PHASE_PLUGINS,
                                         .window = 16,
                                         .on_event = on_event};
    bk_position_open(test.feed, fixture->kernel.tenant, &test.position, on_opened);
    support_loop_run_until(fixture->kernel.loop, &test.is_opened);
}

static void close_all(void) {
    struct work_fixture *fixture = &test.fixture;
    bool is_stopped = false, is_closed = false;
    bk_work_stop(fixture->work, 1000, work_fixture_on_flag, &is_stopped);
    support_loop_run_until(fixture->kernel.loop, &is_stopped);
    bk_work_forget(fixture->work, &test.position);
    bk_position_close(&test.position);
    WORK_FIXTURE_UNTIL(fixture, bk_bus_is_idle(test.bus));
    bk_feed_flush(test.feed);
    support_kernel_close(&fixture->kernel);
    bk_work_close(fixture->work, work_fixture_on_flag, &is_closed);
    support_loop_run_until(fixture->kernel.loop, &is_closed);
    bk_work_destroy(fixture->work);
    bk_schema_kind_destroy(fixture->schema);
    bk_feed_destroy(test.feed);
    bk_bus_destroy(test.bus);
    support_kernel_destroy(&fixture->kernel);
    assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
}

static void emit(void) {
    for (int i = 0; i < EVENTS; i++) {
        char payload[16];
        snprintf(payload, sizeof payload, "%d", i);
        const struct bk_event_draft draft = {.type = BK_SLICE("posts.created"),
                                             .source = BK_SLICE("test"),
                                             .subject = BK_SLICE("posts/a"),
                                             .actor = BK_SLICE("users/me"),
                                             .payload = bk_slice_from(payload)};
        assert_int_equal(
            support_kernel_emit(&test.fixture.kernel, test.fixture.kernel.tenant, &draft, 1, NULL),
            BK_OK);
    }
}

static void expect_each_once_in_order(void) {
    struct work_fixture *fixture = &test.fixture;
    WORK_FIXTURE_UNTIL(fixture,
                       fixture->seen_count >= EVENTS && work_fixture_count(fixture, "1") == 0);
    assert_int_equal(fixture->seen_count, EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++)
        assert_int_equal(strtoul(fixture->seen[i].payload, NULL, 10), i);
    WORK_FIXTURE_UNTIL(fixture, bk_position_facts(&test.position).acknowledged == EVENTS);
}

static enum bk_status check_cause(struct work_fixture *fixture, struct bk_transaction *transaction,
                                  const struct bk_work_end *end) {
    const struct bk_origin *origin = bk_transaction_origin(transaction);
    (void)fixture;
    assert_true(bk_slice_starts_with(end->cause, BK_SLICE("evt_")));
    assert_true(bk_slice_is(end->actor, "users/me"));
    assert_int_equal(end->depth, 1);
    assert_true(bk_slice_equal(origin->cause, end->cause));
    return BK_OK;
}

static void events_become_tasks_of_which_they_are_the_cause(void **state) {
    (void)state;
    open_all(NULL);
    test.fixture.on_end = check_cause;
    emit();
    expect_each_once_in_order();
    assert_int_equal(test.handed, EVENTS);
    close_all();
}

static void behind_one_that_fails_none_is_added(void **state) {
    (void)state;
    open_all("work.added:error@3");
    emit();
    expect_each_once_in_order();
    assert_true(test.handed > EVENTS);
    close_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_become_tasks_of_which_they_are_the_cause),
        cmocka_unit_test(behind_one_that_fails_none_is_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
