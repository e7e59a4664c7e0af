/*
 * Proves what a commit promises: writes share one, a failing one hurts no neighbour, events are
 * numbered without gaps, and whatever is answered BK_OK is there.
 */
#include "store_fixture.h"

#include "bakend/arena.h"
#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WRITES = 20 };

static enum bk_status fail_after_item(struct bk_transaction *transaction, void *user) {
    enum bk_status status = support_run_item(transaction, user);
    return status == BK_OK ? BK_UNPROCESSABLE : status;
}

/* WRITES items in one batch, those of failing_mask fail after their event. */
static void write_batch(struct support_store *fixture, struct support_write *writes,
                        char names[WRITES][16], uint32_t failing_mask) {
    for (int i = 0; i < WRITES; i++) {
        bool fails = (failing_mask >> i & 1) != 0;
        (void)snprintf(names[i], sizeof(names[i]), "item%d", i);
        support_write_init(&writes[i], fails ? fail_after_item : support_run_item, names[i]);
        assert_int_equal(bk_store_write(fixture->database, &writes[i].write), BK_OK);
    }
    for (int i = 0; i < WRITES; i++)
        support_loop_run_until(fixture->loop, &writes[i].is_done);
}

static void assert_contiguous(const struct support_store *fixture, size_t count) {
    assert_int_equal(fixture->event_count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(fixture->events[i], i + 1);
}

static void writes_of_one_turn_share_a_commit(void **state) {
    struct support_store *fixture = *state;
    struct support_write writes[WRITES];
    char names[WRITES][16];
    uint64_t commits = bk_store_figures(fixture->store).commits;
    write_batch(fixture, writes, names, 0);
    assert_int_equal(bk_store_figures(fixture->store).commits, commits + 1);
    assert_int_equal(fixture->committed_count, 1);
    assert_contiguous(fixture, WRITES);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), WRITES);
}

static void a_failing_write_gives_its_number_back(void **state) {
    struct support_store *fixture = *state;
    struct support_write writes[WRITES];
    char names[WRITES][16];
    write_batch(fixture, writes, names, 0x2a5u);
    for (int i = 0; i < WRITES; i++)
        assert_int_equal(writes[i].status, (0x2a5u >> i & 1) != 0 ? BK_UNPROCESSABLE : BK_OK);
    assert_contiguous(fixture, WRITES - 5);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), WRITES - 5);
    assert_int_equal(support_store_number(fixture, "SELECT max(sequence) FROM _journal"),
                     WRITES - 5);
    assert_int_equal(bk_journal_state(fixture->database).last, WRITES - 5);
}

static enum bk_status fail_at_once(struct bk_transaction *transaction, void *user) {
    (void)transaction;
    (void)user;
    return BK_UNPROCESSABLE;
}

static void only_a_write_that_fails_late_spoils_a_batch(void **state) {
    struct support_store *fixture = *state;
    struct support_write writes[3];
    char a[] = "a", b[] = "b";
    support_write_init(&writes[0], support_run_item, a);
    support_write_init(&writes[1], fail_at_once, NULL);
    support_write_init(&writes[2], support_run_item, b);
    for (int i = 0; i < 3; i++)
        assert_int_equal(bk_store_write(fixture->database, &writes[i].write), BK_OK);
    for (int i = 0; i < 3; i++)
        support_loop_run_until(fixture->loop, &writes[i].is_done);
    assert_int_equal(writes[1].status, BK_UNPROCESSABLE);
    assert_contiguous(fixture, 2);
    assert_int_equal(bk_store_figures(fixture->store).batches_spoilt, 0);
}

static enum bk_status delete_items(struct bk_transaction *transaction, void *user) {
    (void)user;
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("DELETE FROM items"));
}

/* Those who fail late once are watched: the next batches set savepoints at once. */
static void a_spoilt_batch_makes_the_next_ones_careful(void **state) {
    struct support_store *fixture = *state;
    struct support_write writes[WRITES];
    char names[WRITES][16];
    for (int round = 0; round < 3; round++) {
        write_batch(fixture, writes, names, 1u << 2 | 1u << (WRITES - 1));
        assert_int_equal(bk_store_figures(fixture->store).batches_spoilt, 1);
        assert_int_equal(support_store_run(fixture, delete_items, NULL), BK_OK);
    }
    assert_int_equal(bk_store_figures(fixture->store).batches_rerun, 0);
}

static void a_lone_failing_write_leaves_nothing(void **state) {
    struct support_store *fixture = *state;
    char name[] = "a";
    assert_int_equal(support_store_run(fixture, fail_after_item, name), BK_UNPROCESSABLE);
    assert_int_equal(fixture->event_count, 0);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 0);
    assert_int_equal(support_store_run(fixture, support_run_item, name), BK_OK);
    assert_contiguous(fixture, 1);
}

static void neighbours_of_an_interrupted_write_survive(void **state) {
    struct support_store *fixture = *state;
    struct support_write writes[WRITES];
    char names[WRITES][16];
    /* The 7th passing is in the batch; in the second round it has passed already. */
    assert_int_equal(bk_failpoint_configure("store.write:error@7"), BK_OK);
    write_batch(fixture, writes, names, 1u << 3);
    for (int i = 0; i < WRITES; i++)
        assert_int_equal(writes[i].status, i == 3 ? BK_UNPROCESSABLE : BK_OK);
    assert_int_equal(bk_store_figures(fixture->store).batches_rerun, 1);
    assert_contiguous(fixture, WRITES - 1);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), WRITES - 1);
}

static enum bk_status drop_the_transaction(struct bk_transaction *transaction, void *user) {
    (void)user;
    (void)bk_connection_execute(bk_transaction_connection(transaction), BK_SLICE("ROLLBACK"));
    return BK_OK;
}

static void a_write_that_always_loses_the_transaction_fails_alone(void **state) {
    struct support_store *fixture = *state;
    struct support_write writes[3];
    char a[] = "a", b[] = "b";
    support_write_init(&writes[0], support_run_item, a);
    support_write_init(&writes[1], drop_the_transaction, NULL);
    support_write_init(&writes[2], support_run_item, b);
    for (int i = 0; i < 3; i++)
        assert_int_equal(bk_store_write(fixture->database, &writes[i].write), BK_OK);
    support_loop_run_until(fixture->loop, &writes[2].is_done);
    assert_int_equal(writes[0].status, BK_OK);
    assert_int_not_equal(writes[1].status, BK_OK);
    assert_int_equal(writes[2].status, BK_OK);
    assert_contiguous(fixture, 2);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 2);
}

static void a_batch_lost_before_its_commit_is_run_again(void **state) {
    static const char *const places[] = {"store.before_begin:error@1", "store.after_begin:full@1",
                                         "store.before_commit:error@1"};
    struct support_store *fixture = *state;
    for (size_t i = 0; i < BK_COUNT_OF(places); i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "place%zu", i);
        assert_int_equal(bk_failpoint_configure(places[i]), BK_OK);
        assert_int_equal(support_store_run(fixture, support_run_item, name), BK_OK);
    }
    assert_contiguous(fixture, BK_COUNT_OF(places));
    assert_int_equal(bk_store_figures(fixture->store).batches_rerun, BK_COUNT_OF(places));
}

static void a_disk_that_stays_full_fails_the_write_and_nothing_else(void **state) {
    struct support_store *fixture = *state;
    char a[] = "a", b[] = "b";
    assert_int_equal(bk_failpoint_configure("store.before_commit:full"), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_item, a), BK_DISK_FULL);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 0);
    assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_item, b), BK_OK);
    assert_contiguous(fixture, 1);
}

static void an_unknown_commit_is_answered_io_and_the_journal_decides(void **state) {
    struct support_store *fixture = *state;
    char a[] = "a", b[] = "b";
    assert_int_equal(bk_failpoint_configure("store.after_commit:error@1"), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_item, a), BK_IO);
    /* It was committed in truth: the bus must not skip a number that readers of the journal see. */
    assert_contiguous(fixture, 1);
    assert_int_equal(bk_journal_state(fixture->database).last, 1);
    assert_int_equal(support_store_run(fixture, support_run_item, b), BK_OK);
    assert_contiguous(fixture, 2);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 2);
}

static void a_file_that_cannot_be_opened_again_takes_no_more_writes(void **state) {
    struct support_store *fixture = *state;
    char a[] = "a", b[] = "b";
    assert_int_equal(bk_failpoint_configure("store.after_commit:error@1"), BK_OK);
    assert_int_equal(unlink(fixture->path), 0);
    assert_int_equal(support_store_run(fixture, support_run_item, a), BK_IO);
    assert_int_equal(support_store_run(fixture, support_run_item, b), BK_IO);
    assert_null(bk_store_read_now(fixture->database));
    assert_int_equal(fixture->event_count, 0);
}

struct counting_hook {
    struct bk_commit_hook hook;
    size_t call_count, event_count;
    enum bk_status status;
    bool is_out_of_order;
};

static enum bk_status on_before_commit(struct bk_commit_hook *hook,
                                       struct bk_transaction *transaction,
                                       struct bk_event *const *events, size_t event_count) {
    struct counting_hook *self = bk_container_of(hook, struct counting_hook, hook);
    (void)transaction;
    self->call_count++;
    for (size_t i = 0; i < event_count; i++)
        self->is_out_of_order |= events[i]->fields.sequence != self->event_count + i + 1;
    if (self->status == BK_OK)
        self->event_count += event_count;
    return self->status;
}

static enum bk_status emit_both(struct bk_transaction *transaction, void *user) {
    struct bk_event_draft draft = {.type = BK_SLICE("function.started"),
                                   .source = BK_SLICE("test"),
                                   .payload = BK_SLICE("{}"),
                                   .is_transient = true};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    return status == BK_OK ? support_run_item(transaction, user) : status;
}

static void hooks_see_durable_events_and_may_refuse(void **state) {
    struct support_store *fixture = *state;
    struct counting_hook hook = {.hook.before_commit = on_before_commit};
    char a[] = "a", b[] = "b";
    bk_store_add_commit_hook(fixture->store, &hook.hook);
    assert_int_equal(support_store_run(fixture, emit_both, a), BK_OK);
    assert_int_equal(hook.call_count, 1);
    assert_int_equal(hook.event_count, 1);
    assert_false(hook.is_out_of_order);
    assert_int_equal(fixture->event_count, 2);
    assert_int_equal(fixture->events[0], 0);
    assert_int_equal(fixture->events[1], 1);
    hook.status = BK_INTERNAL;
    assert_int_equal(support_store_run(fixture, support_run_item, b), BK_INTERNAL);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 1);
    assert_int_equal(fixture->event_count, 2);
}

static enum bk_status ignore_failed_emit(struct bk_transaction *transaction, void *user) {
    struct bk_event_draft draft = {
        .type = BK_SLICE("a.b"), .source = BK_SLICE("test"), .payload = BK_SLICE("{}")};
    /* The number is taken: the insert fails, and the run looks away. */
    (void)bk_connection_execute(bk_transaction_connection(transaction),
                                BK_SLICE("INSERT INTO _journal (sequence) VALUES (1)"));
    *(enum bk_status *)user = bk_transaction_emit(transaction, &draft);
    return BK_OK;
}

static void a_run_that_ignores_a_failed_emit_fails_all_the_same(void **state) {
    struct support_store *fixture = *state;
    enum bk_status emitted = BK_OK;
    assert_int_equal(support_store_run(fixture, ignore_failed_emit, &emitted), BK_CONFLICT);
    assert_int_equal(emitted, BK_CONFLICT);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM _journal"), 0);
    assert_int_equal(fixture->event_count, 0);
}

enum { LARGE_BYTES = BK_TRANSACTION_ARENA_BYTES_MAX / 4 * 3 };

static enum bk_status use_much_memory(struct bk_transaction *transaction, void *user) {
    if (bk_arena_alloc(bk_transaction_arena(transaction), LARGE_BYTES) == NULL)
        return BK_NO_MEMORY;
    return emit_both(transaction, user);
}

static enum bk_status use_too_much_memory(struct bk_transaction *transaction, void *user) {
    (void)bk_arena_alloc(bk_transaction_arena(transaction), LARGE_BYTES);
    (void)bk_arena_alloc(bk_transaction_arena(transaction), LARGE_BYTES);
    return support_run_item(transaction, user);
}

static void scratch_memory_of_a_neighbour_does_not_count(void **state) {
    struct support_store *fixture = *state;
    struct support_write writes[3];
    char names[3][2] = {"a", "b", "c"};
    /* Lost once, so that each is run a second time. */
    assert_int_equal(bk_failpoint_configure("store.before_commit:error@1"), BK_OK);
    for (size_t i = 0; i < BK_COUNT_OF(writes); i++) {
        support_write_init(&writes[i], use_much_memory, names[i]);
        assert_int_equal(bk_store_write(fixture->database, &writes[i].write), BK_OK);
    }
    for (size_t i = 0; i < BK_COUNT_OF(writes); i++) {
        support_loop_run_until(fixture->loop, &writes[i].is_done);
        assert_int_equal(writes[i].status, BK_OK);
    }
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 3);
}

static void a_run_that_overflows_its_scratch_memory_fails_alone(void **state) {
    struct support_store *fixture = *state;
    struct counting_hook hook = {.hook.before_commit = on_before_commit};
    struct support_write good, bad;
    char a[] = "a", b[] = "b", c[] = "c";
    /* Hooks get the durable events in the same memory. */
    bk_store_add_commit_hook(fixture->store, &hook.hook);
    support_write_init(&good, emit_both, a);
    support_write_init(&bad, use_too_much_memory, b);
    assert_int_equal(bk_store_write(fixture->database, &good.write), BK_OK);
    assert_int_equal(bk_store_write(fixture->database, &bad.write), BK_OK);
    support_loop_run_until(fixture->loop, &good.is_done);
    support_loop_run_until(fixture->loop, &bad.is_done);
    assert_int_equal(good.status, BK_OK);
    assert_int_equal(bad.status, BK_TOO_LARGE);
    assert_int_equal(support_store_run(fixture, use_too_much_memory, c), BK_TOO_LARGE);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 1);
    assert_int_equal(hook.event_count, 1);
    assert_int_equal(fixture->event_count, 2);
}

static enum bk_status emit_transient(struct bk_transaction *transaction, void *user) {
    struct bk_event_draft draft = {.type = BK_SLICE("function.started"),
                                   .source = BK_SLICE("test"),
                                   .payload = BK_SLICE("{}"),
                                   .is_transient = true};
    (void)user;
    return bk_transaction_emit(transaction, &draft);
}

static void transient_events_of_an_unknown_commit_are_dropped(void **state) {
    struct support_store *fixture = *state;
    char a[] = "a";
    assert_int_equal(bk_failpoint_configure("store.after_commit:error@1"), BK_OK);
    assert_int_equal(support_store_run(fixture, emit_transient, NULL), BK_IO);
    assert_int_equal(fixture->event_count, 0);
    /* What the journal proves is told whole. */
    assert_int_equal(bk_failpoint_configure("store.after_commit:error@1"), BK_OK);
    assert_int_equal(support_store_run(fixture, emit_both, a), BK_IO);
    assert_int_equal(fixture->event_count, 2);
}

struct timing {
    uint32_t budget_ms;
};

/* Without end, but for a deadline. */
static enum bk_status select_for_ever(struct bk_transaction *transaction, void *user) {
    static const struct bk_slice endless =
        BK_SLICE_INIT("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                      "SELECT count(*) FROM n");
    struct timing *timing = user;
    struct bk_sql sql = bk_sql_make(endless);
    struct bk_statement *statement;
    if (timing->budget_ms > 0)
        bk_transaction_set_budget(transaction, timing->budget_ms);
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    return status;
}

static void a_run_with_a_budget_ends_with_it_and_the_next_has_none(void **state) {
    struct support_store *fixture = *state;
    struct timing timing = {.budget_ms = 200};
    uint64_t began_ns = bk_clock_monotonic_ns();
    assert_int_equal(support_store_run(fixture, select_for_ever, &timing), BK_TIMEOUT);
    assert_true(bk_clock_monotonic_ns() - began_ns >= UINT64_C(200000000));
    timing.budget_ms = 0;
    assert_int_equal(support_store_run(fixture, select_for_ever, &timing), BK_TIMEOUT);
}

/* Each of them is over before a deadline of its own would be looked at. */
static enum bk_status select_often(struct bk_transaction *transaction, void *user) {
    struct timing *timing = user;
    struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT 1"));
    uint64_t began_ns = bk_clock_monotonic_ns();
    enum bk_status status = BK_OK;
    bk_transaction_set_budget(transaction, timing->budget_ms);
    while (status == BK_OK && bk_clock_monotonic_ns() - began_ns < UINT64_C(10000000000)) {
        struct bk_statement *statement;
        status = bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
        if (status == BK_OK)
            status = bk_statement_step(statement);
    }
    return status;
}

static void a_budget_is_used_up_by_many_short_selects_too(void **state) {
    struct timing timing = {.budget_ms = 20};
    assert_int_equal(support_store_run(*state, select_often, &timing), BK_TIMEOUT);
}

/* Counts rows by SELECTs of so many each, which take 10 to 20 steps a row. */
struct counting {
    uint64_t step_max;
    int64_t rows, rows_each;
};

static enum bk_status select_counting(struct bk_transaction *transaction, void *user) {
    struct counting *counting = user;
    struct bk_sql sql = bk_sql_make(
        BK_SLICE("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) "
                 "SELECT count(*) FROM n"));
    enum bk_status status = BK_OK;
    bk_transaction_set_steps(transaction, counting->step_max);
    for (int64_t rows = 0; rows < counting->rows && status == BK_OK; rows += counting->rows_each) {
        struct bk_statement *statement;
        status = bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
        if (status != BK_OK)
            break;
        bk_statement_bind_int(statement, 1, counting->rows_each);
        status = bk_statement_step(statement);
        bk_statement_reset(statement);
    }
    return status;
}

static void steps_are_counted_over_all_selects_and_no_time_is(void **state) {
    struct support_store *fixture = *state;
    struct timing timing = {0};
    struct counting counting = {.step_max = 10000000, .rows = 400000, .rows_each = 400000};
    assert_int_equal(support_store_run(fixture, select_counting, &counting), BK_OK);
    counting.step_max = 4000000; /* the same once more, with less of them */
    assert_int_equal(support_store_run(fixture, select_counting, &counting), BK_TIMEOUT);
    counting.rows_each = 40;
    assert_int_equal(support_store_run(fixture, select_counting, &counting), BK_TIMEOUT);
    counting.step_max = 10000000;
    assert_int_equal(support_store_run(fixture, select_counting, &counting), BK_OK);
    /* The next run has a time again. */
    assert_int_equal(support_store_run(fixture, select_for_ever, &timing), BK_TIMEOUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_store_setup, support_store_teardown)
        TEST(writes_of_one_turn_share_a_commit),
        TEST(a_failing_write_gives_its_number_back),
        TEST(only_a_write_that_fails_late_spoils_a_batch),
        TEST(a_spoilt_batch_makes_the_next_ones_careful),
        TEST(a_lone_failing_write_leaves_nothing),
        TEST(neighbours_of_an_interrupted_write_survive),
        TEST(a_write_that_always_loses_the_transaction_fails_alone),
        TEST(a_batch_lost_before_its_commit_is_run_again),
        TEST(a_disk_that_stays_full_fails_the_write_and_nothing_else),
        TEST(an_unknown_commit_is_answered_io_and_the_journal_decides),
        TEST(a_file_that_cannot_be_opened_again_takes_no_more_writes),
        TEST(hooks_see_durable_events_and_may_refuse),
        TEST(a_run_that_ignores_a_failed_emit_fails_all_the_same),
        TEST(scratch_memory_of_a_neighbour_does_not_count),
        TEST(a_run_that_overflows_its_scratch_memory_fails_alone),
        TEST(transient_events_of_an_unknown_commit_are_dropped),
        TEST(a_run_with_a_budget_ends_with_it_and_the_next_has_none),
        TEST(a_budget_is_used_up_by_many_short_selects_too),
        TEST(steps_are_counted_over_all_selects_and_no_time_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
