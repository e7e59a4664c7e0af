/* Pins against the journal's pruning: what they keep, and who is told that it was lost. */
#include "bakend/feed.h"

#include "bakend/clock.h"
#include "kernel_fixture.h"

#define EVENT_PAYLOAD "{\"text\":\"hello\"}"
enum {
    TAIL_BYTES = 24 * 1024,
    RETAINED_BYTES = 100 * (sizeof EVENT_PAYLOAD - 1),
    RETENTION_MS = 60 * 1000,
};

static struct {
    struct support_kernel kernel;
    struct bk_bus *bus;
    struct bk_feed *feed;
} fixture;

static void open_with(int64_t retention_ms, uint64_t retention_max_bytes) {
    struct bk_store_options options;
    bk_store_options_init(&options);
    options.retention_ms = retention_ms;
    options.retention_max_bytes = retention_max_bytes;
    options.prune_interval_ms = 20;
    support_kernel_create(&fixture.kernel, &options);
    fixture.bus = bk_bus_create(fixture.kernel.loop, fixture.kernel.store, (struct bk_log){0});
    fixture.feed = bk_feed_create(fixture.kernel.loop, fixture.bus, fixture.kernel.tenants,
                                  (struct bk_log){0}, TAIL_BYTES);
    support_kernel_open(&fixture.kernel);
}

static int setup_by_age(void **state) {
    (void)state;
    open_with(RETENTION_MS, 0);
    return 0;
}

static int setup_by_bytes(void **state) {
    (void)state;
    open_with(0, RETAINED_BYTES);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int i = 0; i < 1000 && !bk_bus_is_idle(fixture.bus); i++)
        support_loop_run_for(fixture.kernel.loop, 1);
    assert_true(bk_bus_is_idle(fixture.bus));
    support_kernel_close(&fixture.kernel);
    bk_feed_destroy(fixture.feed);
    bk_bus_destroy(fixture.bus);
    support_kernel_destroy(&fixture.kernel);
    support_clock_reset();
    return 0;
}

static void emit(uint32_t count) {
    struct bk_event_draft draft = {.type = BK_SLICE("posts.created"),
                                   .subject = BK_SLICE("posts/a"),
                                   .source = BK_SLICE("test"),
                                   .payload = BK_SLICE(EVENT_PAYLOAD)};
    assert_int_equal(
        support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, count, NULL), BK_OK);
}

static bool is_pruned_to(uint64_t oldest) {
    return bk_journal_state(fixture.kernel.tenant->database).oldest >= oldest;
}

static uint32_t lost_count;

static void on_lost(struct bk_feed_pin *pin) {
    (void)pin;
    lost_count++;
}

static void test_a_pin_keeps_what_comes_behind_it_from_age(void **state) {
    (void)state;
    emit(150);
    uint64_t old_last = bk_journal_state(fixture.kernel.tenant->database).last;
    struct bk_feed_pin near = {.sequence = old_last, .on_lost = on_lost};
    struct bk_feed_pin far = {.sequence = 7, .on_lost = on_lost};
    lost_count = 0;
    bk_feed_pin(fixture.feed, fixture.kernel.tenant, &near);
    bk_feed_pin(fixture.feed, fixture.kernel.tenant, &far);
    support_clock_advance(120 * 1000);
    emit(60);
    for (int i = 0; i < 100 && !is_pruned_to(8); i++)
        support_loop_run_for(fixture.kernel.loop, 5);
    support_loop_run_for(fixture.kernel.loop, 100);
    assert_int_equal(bk_journal_state(fixture.kernel.tenant->database).oldest, 8);
    far.sequence = 9;
    for (int i = 0; i < 100 && !is_pruned_to(10); i++)
        support_loop_run_for(fixture.kernel.loop, 5);
    bk_feed_unpin(&far);
    bk_feed_unpin(&far); /* harmless */
    for (int i = 0; i < 500 && !is_pruned_to(old_last + 1); i++)
        support_loop_run_for(fixture.kernel.loop, 5);
    assert_int_equal(bk_journal_state(fixture.kernel.tenant->database).oldest, old_last + 1);
    bk_feed_unpin(&near);
    assert_int_equal(lost_count, 0);
}

static void test_a_pin_whose_next_event_goes_by_size_is_told_once(void **state) {
    (void)state;
    struct bk_feed_pin pin = {.sequence = 3, .on_lost = on_lost};
    lost_count = 0;
    emit(50);
    bk_feed_pin(fixture.feed, fixture.kernel.tenant, &pin);
    emit(300);
    for (int i = 0; i < 500 && lost_count == 0; i++)
        support_loop_run_for(fixture.kernel.loop, 5);
    assert_true(bk_journal_state(fixture.kernel.tenant->database).oldest > 4);
    support_loop_run_for(fixture.kernel.loop, 100);
    assert_int_equal(lost_count, 1);
    bk_feed_unpin(&pin);
}

enum { MANY_PINS = 3000 };
static struct bk_feed_pin many_pins[MANY_PINS];

/* As a consumer does: who is told takes its own pin away, and here its neighbour's too. */
static void on_one_of_many_lost(struct bk_feed_pin *pin) {
    lost_count++;
    bk_feed_unpin(pin);
    if ((pin - many_pins) % 3 == 0)
        bk_feed_unpin(pin + 1);
}

static void test_many_pins_are_told_once_each_though_each_takes_others_away(void **state) {
    (void)state;
    lost_count = 0;
    emit(50);
    for (int i = 0; i < MANY_PINS; i++) {
        many_pins[i] = (struct bk_feed_pin){.sequence = 3, .on_lost = on_one_of_many_lost};
        bk_feed_pin(fixture.feed, fixture.kernel.tenant, &many_pins[i]);
    }
    emit(300);
    for (int i = 0; i < 500 && lost_count == 0; i++)
        support_loop_run_for(fixture.kernel.loop, 5);
    support_loop_run_for(fixture.kernel.loop, 100);
    assert_int_equal(lost_count, MANY_PINS / 3 * 2);
    for (int i = 0; i < MANY_PINS; i++)
        bk_feed_unpin(&many_pins[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_pin_keeps_what_comes_behind_it_from_age,
                                        setup_by_age, teardown),
        cmocka_unit_test_setup_teardown(test_a_pin_whose_next_event_goes_by_size_is_told_once,
                                        setup_by_bytes, teardown),
        cmocka_unit_test_setup_teardown(
            test_many_pins_are_told_once_each_though_each_takes_others_away, setup_by_bytes,
            teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
