/*
 * Proves pruning: by age and by size, from the oldest on, and no number is ever used again; what
 * readers are still to see is kept from its age, not from the bound of the size.
 */
#include "store_fixture.h"

#include "bakend/alloc.h"

#include <stdio.h>

/* In SETTLE_MS what should not happen would have. */
enum { EVENTS = 1300, AGE_MS = 60 * 60 * 1000, SETTLE_MS = 100 };

static enum bk_status emit_many(struct bk_transaction *transaction, void *user) {
    (void)user;
    for (int i = 0; i < EVENTS; i++) {
        const struct bk_event_draft draft = {.type = BK_SLICE("a.b"),
                                             .source = BK_SLICE("test"),
                                             .payload = BK_SLICE("{\"text\":\"h\xc3\xa9\"}"),
                                             .previous = BK_SLICE("{}")};
        enum bk_status status = bk_transaction_emit(transaction, &draft);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

static struct support_store *create(int64_t retention_ms, uint64_t max_bytes) {
    struct support_store *fixture = bk_alloc(sizeof(*fixture));
    struct bk_store_options options;
    bk_store_options_init(&options);
    options.retention_ms = retention_ms;
    options.retention_max_bytes = max_bytes;
    options.prune_interval_ms = 10;
    support_store_create(fixture, &options);
    assert_int_equal(support_store_open(fixture), BK_OK);
    return fixture;
}

static void destroy(struct support_store *fixture) {
    void *state = fixture;
    support_clock_reset();
    assert_int_equal(support_store_teardown(&state), 0);
}

/* It comes to this, and stays. */
static void expect_oldest(struct support_store *fixture, uint64_t oldest) {
    SUPPORT_LOOP_UNTIL(fixture->loop, bk_journal_state(fixture->database).oldest >= oldest);
    support_loop_run_for(fixture->loop, SETTLE_MS);
    assert_int_equal(bk_journal_state(fixture->database).oldest, oldest);
}

static void age_prunes_all_and_numbers_go_on(void **state) {
    struct support_store *fixture = create(AGE_MS, 0);
    char a[] = "a";
    (void)state;
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    expect_oldest(fixture, 1);
    support_clock_advance(AGE_MS + 1000);
    expect_oldest(fixture, EVENTS + 1);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM _journal"), 0);
    assert_int_equal(bk_journal_state(fixture->database).size_bytes, 0);
    /* Also after a restart with an empty table. */
    support_store_close(fixture);
    assert_int_equal(support_store_open(fixture), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_item, a), BK_OK);
    assert_int_equal(fixture->events[fixture->event_count - 1], EVENTS + 1);
    assert_int_equal(bk_journal_state(fixture->database).oldest, EVENTS + 1);
    destroy(fixture);
}

static void size_prunes_the_oldest(void **state) {
    enum { EVENT_BYTES = 14 + 2, KEPT = 200 };
    struct support_store *fixture = create(0, KEPT * EVENT_BYTES);
    (void)state;
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    assert_int_equal(bk_journal_state(fixture->database).size_bytes, EVENTS * EVENT_BYTES);
    expect_oldest(fixture, EVENTS - KEPT + 1);
    assert_int_equal(bk_journal_state(fixture->database).size_bytes, KEPT * EVENT_BYTES);
    assert_int_equal(support_store_number(fixture, "SELECT min(sequence) FROM _journal"),
                     EVENTS - KEPT + 1);
    destroy(fixture);
}

static void a_younger_row_protects_what_stands_behind_it(void **state) {
    struct support_store *fixture = create(AGE_MS, 0);
    char sql[] = "UPDATE _journal SET timestamp = timestamp + 86400000 WHERE sequence = 10";
    (void)state;
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_sql, sql), BK_OK);
    support_clock_advance(AGE_MS + 1000);
    expect_oldest(fixture, 10);
    destroy(fixture);
}

/* --- readers that are still to see events ----------------------------------------------------- */

static uint64_t give_allowed(void *user, struct bk_database *database) {
    assert_non_null(database);
    return *(const uint64_t *)user;
}

static void age_stops_at_what_a_reader_allows_and_goes_on_when_it_allows_more(void **state) {
    static const uint64_t steps[] = {0, 42, 700, EVENTS};
    struct support_store *fixture = create(AGE_MS, 0);
    uint64_t allowed = 0;
    (void)state;
    bk_store_on_prune(fixture->store, give_allowed, &allowed);
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    support_clock_advance(AGE_MS + 1000);
    for (size_t i = 0; i < BK_COUNT_OF(steps); i++) {
        allowed = steps[i];
        expect_oldest(fixture, allowed + 1);
        assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM _journal"),
                         EVENTS - allowed);
    }
    destroy(fixture);
}

static void size_does_not_ask_a_reader(void **state) {
    enum { EVENT_BYTES = 14 + 2, KEPT = 200 };
    struct support_store *fixture = create(AGE_MS, KEPT * EVENT_BYTES);
    uint64_t allowed = 10;
    (void)state;
    bk_store_on_prune(fixture->store, give_allowed, &allowed);
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    support_clock_advance(AGE_MS + 1000);
    expect_oldest(fixture, EVENTS - KEPT + 1);
    assert_int_equal(bk_journal_state(fixture->database).size_bytes, KEPT * EVENT_BYTES);
    destroy(fixture);
}

static void without_a_reader_age_takes_all_again(void **state) {
    struct support_store *fixture = create(AGE_MS, 0);
    uint64_t allowed = 1;
    (void)state;
    bk_store_on_prune(fixture->store, give_allowed, &allowed);
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    support_clock_advance(AGE_MS + 1000);
    expect_oldest(fixture, 2);
    bk_store_on_prune(fixture->store, NULL, NULL);
    expect_oldest(fixture, EVENTS + 1);
    destroy(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(age_prunes_all_and_numbers_go_on),
        cmocka_unit_test(size_prunes_the_oldest),
        cmocka_unit_test(a_younger_row_protects_what_stands_behind_it),
        cmocka_unit_test(age_stops_at_what_a_reader_allows_and_goes_on_when_it_allows_more),
        cmocka_unit_test(size_does_not_ask_a_reader),
        cmocka_unit_test(without_a_reader_age_takes_all_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
