/* The bus on a real store: order, isolation, subscriptions that change during dispatch, cuts. */
#include "bakend/bus.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "kernel_fixture.h"
#include <stdio.h>
#include <time.h>

enum { CALLS_MAX = 8192 };

/* What the handlers saw, in the order in which they saw it. */
struct call {
    const struct bk_subscription *subscription;
    char type[64];
    uint64_t sequence;
    uint32_t depth;
};

static struct {
    struct support_kernel kernel;
    struct bk_bus *bus;
    struct call calls[CALLS_MAX];
    size_t call_count;
} fixture;

struct handler {
    struct bk_subscription subscription;
    enum bk_status status;                  /* what it returns */
    void (*and_then)(struct handler *self); /* during dispatch */
    struct handler *other;
};

static enum bk_status on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                               struct bk_event *event) {
    struct handler *self = bk_container_of(subscription, struct handler, subscription);
    assert_non_null(tenant->database);
    assert_true(fixture.call_count < CALLS_MAX);
    struct call *call = &fixture.calls[fixture.call_count++];
    call->subscription = subscription;
    snprintf(call->type, sizeof call->type, "%.*s", BK_SLICE_PRINT(event->fields.type));
    call->sequence = event->fields.sequence;
    call->depth = event->fields.depth;
    enum bk_status status = self->status;
    if (self->and_then != NULL)
        self->and_then(self);
    return status;
}

static void subscribe(struct handler *handler, enum bk_phase phase, const char *pattern) {
    handler->subscription.name = pattern;
    handler->subscription.phase = phase;
    handler->subscription.pattern = bk_slice_from(pattern);
    handler->subscription.on_event = on_event;
    assert_int_equal(bk_bus_subscribe(fixture.bus, &handler->subscription), BK_OK);
}

static void unsubscribe(struct handler *handler) {
    bk_bus_unsubscribe(fixture.bus, &handler->subscription);
}

static void run_until_idle(void) {
    for (int i = 0; i < 1000 && !bk_bus_is_idle(fixture.bus); i++)
        support_loop_run_for(fixture.kernel.loop, 1);
    assert_true(bk_bus_is_idle(fixture.bus));
}

static void publish(const char *type) {
    struct bk_event_draft draft = {.type = bk_slice_from(type), .source = BK_SLICE("test")};
    assert_int_equal(bk_bus_publish(fixture.bus, fixture.kernel.tenant, &draft, NULL), BK_OK);
}

static void commit(const char *type, uint32_t count, const struct bk_origin *origin) {
    struct bk_event_draft draft = {
        .type = bk_slice_from(type), .source = BK_SLICE("test"), .payload = BK_SLICE("{}")};
    assert_int_equal(
        support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, count, origin), BK_OK);
}

static void open_fixture(const struct bk_store_options *options) {
    support_kernel_create(&fixture.kernel, options);
    fixture.bus = bk_bus_create(fixture.kernel.loop, fixture.kernel.store, (struct bk_log){0});
    support_kernel_open(&fixture.kernel);
    run_until_idle();
    fixture.call_count = 0;
}

static int setup(void **state) {
    (void)state;
    open_fixture(NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    run_until_idle();
    support_kernel_close(&fixture.kernel);
    bk_bus_destroy(fixture.bus);
    support_kernel_destroy(&fixture.kernel);
    return 0;
}

/* --- order ------------------------------------------------------------------------------------ */

static void test_phases_are_called_in_the_order_of_the_table(void **state) {
    (void)state;
    struct handler plugins = {0}, functions = {0}, realtime = {0}, logging = {0};
    subscribe(&plugins, BK_PHASE_PLUGINS, "posts.created");
    subscribe(&functions, BK_PHASE_FUNCTIONS, "posts.*");
    subscribe(&realtime, BK_PHASE_REALTIME, "*.created");
    subscribe(&logging, BK_PHASE_LOGGING, "*");
    publish("posts.created");
    run_until_idle();
    assert_int_equal(fixture.call_count, 4);
    assert_ptr_equal(fixture.calls[0].subscription, &logging.subscription);
    assert_ptr_equal(fixture.calls[1].subscription, &realtime.subscription);
    assert_ptr_equal(fixture.calls[2].subscription, &functions.subscription);
    assert_ptr_equal(fixture.calls[3].subscription, &plugins.subscription);
    unsubscribe(&plugins);
    unsubscribe(&functions);
    unsubscribe(&realtime);
    unsubscribe(&logging);
}

static void test_phase_names_are_those_of_the_founding_order(void **state) {
    (void)state;
    assert_string_equal(bk_phase_name(BK_PHASE_LOGGING), "logging");
    assert_string_equal(bk_phase_name(BK_PHASE_REALTIME), "realtime");
    assert_string_equal(bk_phase_name(BK_PHASE_FUNCTIONS), "functions");
    assert_string_equal(bk_phase_name(BK_PHASE_PLUGINS), "plugins");
}

static void test_committed_events_come_in_sequence_order_across_slices(void **state) {
    (void)state;
    struct handler handler = {0};
    subscribe(&handler, BK_PHASE_LOGGING, "posts.*");
    commit("posts.created", 3000, NULL);
    commit("posts.updated", 1000, NULL);
    run_until_idle();
    assert_int_equal(fixture.call_count, 4000);
    for (size_t i = 1; i < fixture.call_count; i++)
        assert_int_equal(fixture.calls[i].sequence, fixture.calls[i - 1].sequence + 1);
    assert_int_equal(handler.subscription.handled_count, 4000);
    unsubscribe(&handler);
}

static void test_a_type_that_begins_with_an_underscore_needs_its_own_pattern(void **state) {
    (void)state;
    struct handler all = {0}, internal = {0};
    subscribe(&all, BK_PHASE_LOGGING, "*");
    subscribe(&internal, BK_PHASE_LOGGING, "_*");
    publish("_webhooks.created");
    publish("posts.created");
    run_until_idle();
    assert_int_equal(all.subscription.handled_count, 1);
    assert_int_equal(internal.subscription.handled_count, 1);
    assert_string_equal(fixture.calls[0].type, "_webhooks.created");
    unsubscribe(&all);
    unsubscribe(&internal);
}

static void test_a_wrong_pattern_is_refused(void **state) {
    (void)state;
    struct handler handler = {.subscription = {.name = "wrong",
                                               .pattern = BK_SLICE("posts..created"),
                                               .on_event = on_event}};
    assert_int_equal(bk_bus_subscribe(fixture.bus, &handler.subscription), BK_INVALID);
}

static void publish_another(struct handler *self) {
    self->and_then = NULL;
    size_t calls_before = fixture.call_count;
    publish("posts.second");
    assert_int_equal(fixture.call_count, calls_before);
}

static void test_a_publish_during_dispatch_is_queued_not_nested(void **state) {
    (void)state;
    struct handler first = {.and_then = publish_another}, last = {0};
    subscribe(&first, BK_PHASE_LOGGING, "posts.*");
    subscribe(&last, BK_PHASE_PLUGINS, "posts.*");
    publish("posts.first");
    run_until_idle();
    assert_int_equal(fixture.call_count, 4);
    assert_string_equal(fixture.calls[1].type, "posts.first");
    assert_ptr_equal(fixture.calls[1].subscription, &last.subscription);
    assert_string_equal(fixture.calls[2].type, "posts.second");
    unsubscribe(&first);
    unsubscribe(&last);
}

/* --- isolation -------------------------------------------------------------------------------- */

static void test_a_failing_handler_is_counted_and_hinders_no_other(void **state) {
    (void)state;
    struct handler failing = {.status = BK_IO}, next = {0};
    subscribe(&failing, BK_PHASE_LOGGING, "*");
    subscribe(&next, BK_PHASE_LOGGING, "*");
    publish("posts.created");
    publish("posts.deleted");
    run_until_idle();
    assert_int_equal(failing.subscription.failed_count, 2);
    assert_int_equal(next.subscription.handled_count, 2);
    assert_int_equal(next.subscription.failed_count, 0);
    assert_int_equal(bk_bus_figures(fixture.bus).handler_failures, 2);
    unsubscribe(&failing);
    unsubscribe(&next);
}

static void waste_time(struct handler *self) {
    (void)self;
    uint64_t until_ns = bk_clock_monotonic_ns() + 3000000;
    while (bk_clock_monotonic_ns() < until_ns) {
    }
}

static void test_time_is_accounted_per_handler_and_phase(void **state) {
    (void)state;
    struct handler slow = {.and_then = waste_time}, quick = {0};
    subscribe(&slow, BK_PHASE_FUNCTIONS, "*");
    subscribe(&quick, BK_PHASE_PLUGINS, "*");
    publish("posts.created");
    run_until_idle();
    assert_true(slow.subscription.time_ns >= 3000000);
    assert_true(quick.subscription.time_ns < slow.subscription.time_ns);
    assert_true(bk_bus_figures(fixture.bus).phase_ns[BK_PHASE_FUNCTIONS] >= 3000000);
    unsubscribe(&slow);
    unsubscribe(&quick);
}

static bool timer_ran;
static size_t calls_when_timer_ran;

static void on_timer(struct bk_timer *timer, void *user) {
    (void)timer;
    (void)user;
    timer_ran = true;
    calls_when_timer_ran = fixture.call_count;
}

static void test_a_long_dispatch_yields_to_the_loop(void **state) {
    (void)state;
    struct handler handler = {0};
    struct bk_timer *timer = bk_timer_create(fixture.kernel.loop, on_timer, NULL);
    subscribe(&handler, BK_PHASE_LOGGING, "*");
    for (int i = 0; i < 5000; i++)
        publish("posts.created");
    timer_ran = false;
    bk_timer_start(timer, 0, 0);
    support_loop_run_until(fixture.kernel.loop, &timer_ran);
    run_until_idle();
    assert_int_equal(fixture.call_count, 5000);
    assert_true(calls_when_timer_ran <= 512);
    bk_timer_close(timer);
    unsubscribe(&handler);
}

/* --- changes during dispatch ------------------------------------------------------------------ */

static void leave(struct handler *self) {
    unsubscribe(self);
    memset(self, 0xA5, sizeof *self);
    bk_free(self);
}

static void test_a_handler_may_unsubscribe_and_free_itself(void **state) {
    (void)state;
    struct handler *self = bk_alloc_zero(sizeof *self);
    struct handler next = {0};
    self->and_then = leave;
    self->status = BK_IO;
    subscribe(self, BK_PHASE_LOGGING, "*");
    subscribe(&next, BK_PHASE_REALTIME, "*");
    publish("posts.created");
    publish("posts.created");
    run_until_idle();
    assert_int_equal(fixture.call_count, 3);
    assert_int_equal(next.subscription.handled_count, 2);
    unsubscribe(&next);
}

static void unsubscribe_other(struct handler *self) {
    if (self->other == NULL)
        return;
    unsubscribe(self->other);
    self->other = NULL;
}

static void test_a_handler_may_unsubscribe_a_later_one_which_is_not_called(void **state) {
    (void)state;
    struct handler later = {0};
    struct handler first = {.and_then = unsubscribe_other, .other = &later};
    subscribe(&first, BK_PHASE_LOGGING, "*");
    subscribe(&later, BK_PHASE_PLUGINS, "*");
    publish("posts.created");
    run_until_idle();
    assert_int_equal(fixture.call_count, 1);
    assert_true(later.subscription.is_removed);
    unsubscribe(&first);
}

static void subscribe_other(struct handler *self) {
    if (self->other != NULL)
        subscribe(self->other, BK_PHASE_PLUGINS, "*");
    self->other = NULL;
}

static void test_a_subscription_made_during_dispatch_sees_later_events_only(void **state) {
    (void)state;
    struct handler added = {0};
    struct handler first = {.and_then = subscribe_other, .other = &added};
    subscribe(&first, BK_PHASE_LOGGING, "*");
    publish("posts.first");
    publish("posts.second");
    run_until_idle();
    assert_int_equal(added.subscription.handled_count, 1);
    assert_string_equal(fixture.calls[fixture.call_count - 1].type, "posts.second");
    unsubscribe(&first);
    unsubscribe(&added);
}

static void test_more_types_than_the_cache_holds_are_all_matched(void **state) {
    (void)state;
    struct handler handler = {0};
    subscribe(&handler, BK_PHASE_LOGGING, "*.created");
    for (int i = 0; i < 5000; i++) {
        char type[32];
        snprintf(type, sizeof type, "c%d.created", i);
        publish(type);
    }
    run_until_idle();
    assert_int_equal(handler.subscription.handled_count, 5000);
    unsubscribe(&handler);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void test_a_full_queue_refuses_transient_events_and_counts_them(void **state) {
    (void)state;
    struct bk_event_draft draft = {.type = BK_SLICE("a.b"), .source = BK_SLICE("test")};
    for (uint32_t i = 0; i < BK_BUS_QUEUE_MAX; i++)
        assert_int_equal(bk_bus_publish(fixture.bus, fixture.kernel.tenant, &draft, NULL), BK_OK);
    assert_int_equal(bk_bus_publish(fixture.bus, fixture.kernel.tenant, &draft, NULL), BK_BUSY);
    assert_int_equal(bk_bus_figures(fixture.bus).dropped, 1);
    assert_int_equal(bk_bus_figures(fixture.bus).waiting, BK_BUS_QUEUE_MAX);
    run_until_idle();
}

static void test_a_commit_is_never_dropped_by_a_full_queue(void **state) {
    (void)state;
    struct handler handler = {0};
    subscribe(&handler, BK_PHASE_LOGGING, "posts.created");
    struct bk_event_draft draft = {.type = BK_SLICE("a.b"), .source = BK_SLICE("test")};
    while (bk_bus_publish(fixture.bus, fixture.kernel.tenant, &draft, NULL) == BK_OK) {
    }
    commit("posts.created", 300, NULL);
    run_until_idle();
    assert_int_equal(handler.subscription.handled_count, 300);
    unsubscribe(&handler);
}

/* --- taps ------------------------------------------------------------------------------------- */

static size_t tapped_count, tapped_calls, calls_at_tap;

static void on_tap(struct bk_bus_tap *tap, struct bk_tenant *tenant, struct bk_event *const *events,
                   size_t event_count) {
    (void)tap;
    (void)tenant;
    for (size_t i = 0; i < event_count; i++)
        assert_true(events[i]->fields.sequence > 0);
    tapped_count += event_count;
    tapped_calls++;
    calls_at_tap = fixture.call_count;
}

static void test_a_tap_sees_a_commits_durable_events_before_any_is_dispatched(void **state) {
    (void)state;
    struct handler handler = {0};
    struct bk_bus_tap tap = {.on_committed = on_tap};
    tapped_count = tapped_calls = calls_at_tap = 0;
    subscribe(&handler, BK_PHASE_LOGGING, "*");
    bk_bus_add_tap(fixture.bus, &tap);
    commit("posts.created", 7, NULL);
    struct bk_event_draft transient = {.type = BK_SLICE("function.started"),
                                       .source = BK_SLICE("test"),
                                       .payload = BK_SLICE("{}"),
                                       .is_transient = true};
    assert_int_equal(
        support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &transient, 1, NULL), BK_OK);
    publish("posts.transient");
    run_until_idle();
    assert_int_equal(tapped_count, 7);
    assert_int_equal(tapped_calls, 1);
    assert_int_equal(calls_at_tap, 0);
    assert_int_equal(fixture.call_count, 9);
    bk_bus_remove_tap(&tap);
    unsubscribe(&handler);
}

/* --- cuts ------------------------------------------------------------------------------------- */

static const struct bk_origin deepest = {
    .actor = BK_SLICE_INIT("system"), .cause = BK_SLICE_INIT("evt_x"), .depth = BK_CAUSE_DEPTH_MAX};

static void test_a_chain_that_is_too_long_is_cut_with_an_event_that_says_so(void **state) {
    (void)state;
    struct handler logging = {0}, functions = {0};
    subscribe(&logging, BK_PHASE_LOGGING, "*");
    subscribe(&functions, BK_PHASE_FUNCTIONS, "*");
    commit("posts.created", 1, &deepest);
    run_until_idle();
    assert_int_equal(fixture.call_count, 2);
    assert_string_equal(fixture.calls[0].type, "posts.created");
    assert_string_equal(fixture.calls[1].type, "bus.chain_cut");
    assert_int_equal(fixture.calls[1].depth, BK_CAUSE_DEPTH_MAX);
    assert_int_equal(fixture.calls[1].sequence, fixture.calls[0].sequence + 1);
    assert_int_equal(functions.subscription.handled_count, 0);
    assert_int_equal(bk_bus_figures(fixture.bus).chains_cut, 1);
    unsubscribe(&logging);
    unsubscribe(&functions);
}

static void test_a_long_chain_that_nobody_would_continue_is_not_cut(void **state) {
    (void)state;
    struct handler logging = {0}, functions = {0};
    subscribe(&logging, BK_PHASE_LOGGING, "*");
    subscribe(&functions, BK_PHASE_FUNCTIONS, "users.*");
    commit("posts.created", 1, &deepest);
    run_until_idle();
    assert_int_equal(fixture.call_count, 1);
    assert_int_equal(bk_bus_figures(fixture.bus).chains_cut, 0);
    unsubscribe(&logging);
    unsubscribe(&functions);
}

static void test_a_chain_of_just_the_permitted_length_is_handed_on(void **state) {
    (void)state;
    struct handler functions = {0};
    struct bk_origin origin = deepest;
    origin.depth = BK_CAUSE_DEPTH_MAX - 1;
    subscribe(&functions, BK_PHASE_FUNCTIONS, "posts.*");
    commit("posts.created", 1, &origin);
    run_until_idle();
    assert_int_equal(functions.subscription.handled_count, 1);
    unsubscribe(&functions);
}

/* A write that keeps the writer, and others that fill the background lane with it. */
enum { LANE_MAX = 4 };

static struct {
    struct bk_write blocker, fillers[LANE_MAX - 1];
    int is_running, may_end; /* atomic */
    uint32_t done_count;
} lane;

static enum bk_status run_blocker(struct bk_transaction *transaction, struct bk_write *write) {
    (void)transaction;
    (void)write;
    const struct timespec pause = {.tv_nsec = 1000000};
    __atomic_store_n(&lane.is_running, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&lane.may_end, __ATOMIC_ACQUIRE))
        nanosleep(&pause, NULL);
    return BK_OK;
}

static enum bk_status run_nothing(struct bk_transaction *transaction, struct bk_write *write) {
    (void)transaction;
    (void)write;
    return BK_OK;
}

static void on_lane_write_done(struct bk_write *write, enum bk_status status) {
    (void)write;
    assert_int_equal(status, BK_OK);
    lane.done_count++;
}

static void submit_in_background(struct bk_write *write,
                                 enum bk_status (*run)(struct bk_transaction *transaction,
                                                       struct bk_write *write)) {
    *write = (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = run, .done = on_lane_write_done};
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, write), BK_OK);
}

static void fill_background_lane(void) {
    memset(&lane, 0, sizeof lane);
    submit_in_background(&lane.blocker, run_blocker);
    while (!__atomic_load_n(&lane.is_running, __ATOMIC_ACQUIRE))
        support_loop_run_for(fixture.kernel.loop, 1);
    for (size_t i = 0; i < BK_COUNT_OF(lane.fillers); i++)
        submit_in_background(&lane.fillers[i], run_nothing);
    struct bk_write surplus = {
        .lane = BK_LANE_BACKGROUND, .run = run_nothing, .done = on_lane_write_done};
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, &surplus), BK_BUSY);
}

static void test_a_cut_that_finds_the_lane_full_is_written_when_there_is_room(void **state) {
    (void)state;
    struct handler logging = {0}, functions = {0};
    struct bk_event_draft draft = {.type = BK_SLICE("posts.created"), .source = BK_SLICE("test")};
    subscribe(&logging, BK_PHASE_LOGGING, "*");
    subscribe(&functions, BK_PHASE_FUNCTIONS, "*");
    fill_background_lane();
    for (int i = 0; i < 3; i++)
        assert_int_equal(bk_bus_publish(fixture.bus, fixture.kernel.tenant, &draft, &deepest),
                         BK_OK);
    support_loop_run_for(fixture.kernel.loop, 250); /* it has tried again, twice */
    assert_int_equal(fixture.call_count, 3);
    assert_int_equal(bk_bus_figures(fixture.bus).chains_cut, 3);
    assert_false(bk_bus_is_idle(fixture.bus));
    __atomic_store_n(&lane.may_end, 1, __ATOMIC_RELEASE);
    run_until_idle();
    assert_int_equal(lane.done_count, LANE_MAX);
    assert_int_equal(fixture.call_count, 6);
    for (size_t i = 3; i < 6; i++)
        assert_string_equal(fixture.calls[i].type, "bus.chain_cut");
    assert_int_equal(functions.subscription.handled_count, 0);
    assert_int_equal(bk_bus_figures(fixture.bus).dropped, 0);
    unsubscribe(&logging);
    unsubscribe(&functions);
}

static int setup_small_lane(void **state) {
    (void)state;
    struct bk_store_options options;
    bk_store_options_init(&options);
    options.queue_max = LANE_MAX;
    open_fixture(&options);
    return 0;
}

/* --- tenants ---------------------------------------------------------------------------------- */

static void test_a_transient_event_has_no_sequence_and_an_actor(void **state) {
    (void)state;
    struct handler handler = {0};
    subscribe(&handler, BK_PHASE_LOGGING, "*");
    publish("function.started");
    run_until_idle();
    assert_int_equal(fixture.calls[0].sequence, 0);
    unsubscribe(&handler);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(phases_are_called_in_the_order_of_the_table),
        TEST(phase_names_are_those_of_the_founding_order),
        TEST(committed_events_come_in_sequence_order_across_slices),
        TEST(a_type_that_begins_with_an_underscore_needs_its_own_pattern),
        TEST(a_wrong_pattern_is_refused),
        TEST(a_publish_during_dispatch_is_queued_not_nested),
        TEST(a_failing_handler_is_counted_and_hinders_no_other),
        TEST(time_is_accounted_per_handler_and_phase),
        TEST(a_long_dispatch_yields_to_the_loop),
        TEST(a_handler_may_unsubscribe_and_free_itself),
        TEST(a_handler_may_unsubscribe_a_later_one_which_is_not_called),
        TEST(a_subscription_made_during_dispatch_sees_later_events_only),
        TEST(more_types_than_the_cache_holds_are_all_matched),
        TEST(a_full_queue_refuses_transient_events_and_counts_them),
        TEST(a_commit_is_never_dropped_by_a_full_queue),
        TEST(a_tap_sees_a_commits_durable_events_before_any_is_dispatched),
        TEST(a_chain_that_is_too_long_is_cut_with_an_event_that_says_so),
        TEST(a_long_chain_that_nobody_would_continue_is_not_cut),
        TEST(a_chain_of_just_the_permitted_length_is_handed_on),
        cmocka_unit_test_setup_teardown(
            test_a_cut_that_finds_the_lane_full_is_written_when_there_is_room, setup_small_lane,
            teardown),
        TEST(a_transient_event_has_no_sequence_and_an_actor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
