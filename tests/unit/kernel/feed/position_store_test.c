/*
 * What is stored of positions, and whether their tenant may close: on a real store, with restarts,
 * with a table that refuses writes, and with tenants that go.
 */
#include "position_private.h"

#include "bakend/alloc.h"
#include "position_fixture.h"
#include <stdio.h>

enum { TAIL_BYTES = 24 * 1024 /* about forty events */ };

static struct support_feed fixture;
static struct support_reader *owned; /* closed with its tenant, as a module does it */

static void on_tenant_close(struct bk_tenant *tenant, void *state, void *user) {
    (void)state;
    (void)user;
    if (owned == NULL || owned->position.tenant != tenant)
        return;
    bk_position_close(&owned->position);
    owned = NULL;
}

static void open_kernel(void) {
    struct bk_tenant_slot owner = {.name = "owner", .on_close = on_tenant_close};
    (void)bk_tenants_add_slot(fixture.kernel.tenants, &owner);
    fixture.feed->positions->retry_first_ms = 20;
    fixture.feed->positions->retry_max_ms = 200;
    support_kernel_open(&fixture.kernel);
}

static int setup(void **state) {
    (void)state;
    owned = NULL;
    support_feed_create(&fixture, NULL, TAIL_BYTES);
    open_kernel();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_feed_close(&fixture);
    support_feed_destroy(&fixture);
    return 0;
}

static void restart(void) {
    support_feed_close(&fixture);
    support_feed_restart(&fixture, TAIL_BYTES);
    open_kernel();
}

static struct feed_positions *positions(void) {
    return feed_positions_of(fixture.feed, fixture.kernel.tenant);
}

static void emit(uint32_t count) { support_feed_emit(&fixture, "posts.created", "posts/a", count); }

static enum bk_status open_reader(struct support_reader *reader, const char *name) {
    return support_reader_open_now(&fixture.kernel, fixture.feed, reader, name);
}

#define RUN_UNTIL(condition) SUPPORT_RUN_UNTIL(&fixture.kernel, condition)

static void test_it_goes_on_where_it_was_closed_also_after_a_restart(void **state) {
    (void)state;
    struct support_reader reader = {0};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    emit(5);
    support_feed_settle(&fixture);
    bk_position_close(&reader.position);
    emit(100);
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    RUN_UNTIL(support_reader_state(&reader) == BK_POSITION_LIVE);
    support_reader_assert_saw(&reader, 6, 105);
    bk_position_close(&reader.position);
    restart();
    emit(1);
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    RUN_UNTIL(reader.seen_count > 0);
    support_reader_assert_saw(&reader, 106, 106);
    support_reader_fini(&reader);
}

static void test_what_is_acknowledged_is_stored_soon_and_then_the_tenant_is_free(void **state) {
    (void)state;
    struct support_reader reader = {0};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    RUN_UNTIL(!positions()->is_held);
    emit(5);
    support_feed_settle(&fixture);
    assert_true(positions()->is_held);
    assert_int_equal(reader.position.own->stored, 0);
    RUN_UNTIL(!positions()->is_held);
    assert_int_equal(reader.position.own->stored, 5);
    assert_int_equal(support_reader_state(&reader), BK_POSITION_LIVE);
    support_reader_fini(&reader);
}

static void test_a_flush_stores_those_that_idle_too(void **state) {
    (void)state;
    static const struct bk_slice types[] = {BK_SLICE_INIT("users.*")};
    struct support_reader reader = {.position.interest = {.types = types, .type_count = 1}};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    emit(7);
    support_feed_settle(&fixture);
    assert_int_equal(support_reader_acknowledged(&reader), 7);
    assert_int_equal(reader.position.own->stored, 0);
    bk_feed_flush(fixture.feed);
    RUN_UNTIL(reader.position.own->stored == 7);
    assert_int_equal(reader.seen_count, 0);
    support_reader_fini(&reader);
}

static void test_a_thousand_openings_and_more_share_a_few_commits(void **state) {
    (void)state;
    enum { COUNT = 2500 };
    struct support_reader *readers = bk_alloc_zero(COUNT * sizeof *readers);
    char(*names)[16] = bk_alloc(COUNT * sizeof *names);
    uint64_t before = bk_store_figures(fixture.kernel.store).commits;
    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(names[i], sizeof names[i], "test/%zu", i);
        support_reader_open(fixture.feed, fixture.kernel.tenant, &readers[i], names[i]);
    }
    RUN_UNTIL(readers[COUNT - 1].is_opened && !positions()->is_held);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(readers[i].status, BK_OK);
    assert_true(bk_store_figures(fixture.kernel.store).commits - before <= 4);
    for (size_t i = 0; i < COUNT; i++)
        support_reader_fini(&readers[i]);
    bk_free(readers);
    bk_free(names);
}

static void test_a_dropped_name_begins_anew(void **state) {
    (void)state;
    struct support_reader reader = {.position.after = BK_SLICE_INIT("start")};
    emit(5);
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&reader) == 5);
    bk_position_drop(&reader.position);
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&reader) == 5);
    support_reader_assert_saw(&reader, 1, 5);
    bk_position_drop(&reader.position);
    RUN_UNTIL(!positions()->is_held);
    assert_int_equal(positions()->names.count, 0);
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&reader) == 5);
    support_reader_assert_saw(&reader, 1, 5);
    support_reader_fini(&reader);
}

struct forgetting {
    struct bk_write write;
    struct bk_slice prefix;
    bool is_done;
};

static enum bk_status run_forget(struct bk_transaction *transaction, struct bk_write *write) {
    return bk_positions_forget(transaction,
                               bk_container_of(write, struct forgetting, write)->prefix);
}

static void on_forgotten(struct bk_write *write, enum bk_status status) {
    assert_int_equal(status, BK_OK);
    bk_container_of(write, struct forgetting, write)->is_done = true;
}

static void read_all_and_close(const char *name) {
    struct support_reader reader = {.position.after = BK_SLICE_INIT("start")};
    assert_int_equal(open_reader(&reader, name), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&reader) == 5);
    support_reader_assert_saw(&reader, 1, 5);
    bk_position_close(&reader.position);
    support_reader_fini(&reader);
    RUN_UNTIL(!positions()->is_held);
}

static void assert_goes_on(const char *name, uint64_t first, uint64_t last) {
    struct support_reader reader = {.position.after = BK_SLICE_INIT("start")};
    assert_int_equal(open_reader(&reader, name), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&reader) == 7);
    support_reader_assert_saw(&reader, first, last);
    bk_position_close(&reader.position);
    support_reader_fini(&reader);
}

static void test_closed_ones_are_forgotten_by_the_beginning_of_their_names(void **state) {
    (void)state;
    struct forgetting forgetting = {
        .write = {.lane = BK_LANE_BACKGROUND, .run = run_forget, .done = on_forgotten},
        .prefix = BK_SLICE_INIT("test/a/")};
    emit(5);
    read_all_and_close("test/a/1");
    read_all_and_close("test/ab");
    emit(2);
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, &forgetting.write), BK_OK);
    RUN_UNTIL(forgetting.is_done);
    assert_goes_on("test/a/1", 1, 7);
    assert_goes_on("test/ab", 6, 7);
}

struct sql_write {
    struct bk_write write;
    const char *sql;
    enum bk_status status;
    bool is_done;
};

static enum bk_status run_sql(struct bk_transaction *transaction, struct bk_write *write) {
    struct sql_write *self = bk_container_of(write, struct sql_write, write);
    return bk_connection_execute(bk_transaction_connection(transaction), bk_slice_from(self->sql));
}

static void on_sql_done(struct bk_write *write, enum bk_status status) {
    struct sql_write *self = bk_container_of(write, struct sql_write, write);
    self->status = status;
    self->is_done = true;
}

static void execute(const char *sql) {
    struct sql_write self = {.write = {.runs_alone = true, .run = run_sql, .done = on_sql_done},
                             .sql = sql};
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, &self.write), BK_OK);
    support_loop_run_until(fixture.kernel.loop, &self.is_done);
    assert_int_equal(self.status, BK_OK);
    bk_database_forget_statements(fixture.kernel.tenant->database);
}

static void test_what_cannot_be_stored_is_stored_later_and_readers_go_on(void **state) {
    (void)state;
    struct support_reader reader = {0}, other = {0};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    execute("ALTER TABLE _positions RENAME TO _away");
    emit(5);
    RUN_UNTIL(positions()->store.is_writing);
    RUN_UNTIL(!positions()->store.is_writing);
    assert_int_equal(reader.position.own->stored, 0);
    assert_true(reader.position.own->is_dirty);
    emit(5);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&reader, 1, 10);
    assert_true(open_reader(&other, "test/b") != BK_OK); /* it would not survive a crash */
    assert_int_equal(support_reader_state(&other), BK_POSITION_CLOSED);
    execute("ALTER TABLE _away RENAME TO _positions");
    RUN_UNTIL(reader.position.own->stored == 10);
    assert_int_equal(open_reader(&other, "test/b"), BK_OK);
    support_reader_fini(&reader);
    support_reader_fini(&other);
}

static void test_a_closed_one_that_cannot_be_stored_lets_its_tenant_go(void **state) {
    (void)state;
    struct support_reader reader = {0};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    execute("ALTER TABLE _positions RENAME TO _away");
    emit(5);
    support_feed_settle(&fixture);
    support_reader_fini(&reader);
    RUN_UNTIL(!positions()->is_held);
    assert_true(bk_list_is_empty(&positions()->all));
    execute("ALTER TABLE _away RENAME TO _positions");
}

static void test_one_that_idled_is_stored_when_its_tenant_closes(void **state) {
    (void)state;
    static const struct bk_slice types[] = {BK_SLICE_INIT("users.*")};
    struct support_reader reader = {.position.interest = {.types = types, .type_count = 1}};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    RUN_UNTIL(!positions()->is_held);
    emit(500);
    support_feed_settle(&fixture);
    assert_false(positions()->is_held);
    owned = &reader;
    support_feed_settle(&fixture);
    support_kernel_close(&fixture.kernel);
    assert_null(owned);
    bk_feed_destroy(fixture.feed);
    bk_bus_destroy(fixture.bus);
    support_feed_restart(&fixture, TAIL_BYTES);
    open_kernel();
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    assert_int_equal(reader.position.own->stored, 500);
    support_reader_fini(&reader);
}

static void on_deleted(void *user, enum bk_status status) {
    assert_int_equal(status, BK_OK);
    *(bool *)user = true;
}

static void test_a_tenant_can_be_deleted_under_one_that_fails_for_ever(void **state) {
    (void)state;
    struct bk_event_draft draft = {
        .type = BK_SLICE("posts.created"), .source = BK_SLICE("test"), .payload = BK_SLICE("{}")};
    struct support_reader reader = {.answer = BK_HANDED_FAILED};
    struct bk_tenant *acme = support_kernel_hold(&fixture.kernel, BK_SLICE("acme"));
    bool is_deleted = false;
    support_reader_open(fixture.feed, acme, &reader, "test/a");
    support_loop_run_until(fixture.kernel.loop, &reader.is_opened);
    assert_int_equal(support_kernel_emit(&fixture.kernel, acme, &draft, 3, NULL), BK_OK);
    RUN_UNTIL(reader.seen_count >= 2);
    owned = &reader;
    bk_tenant_delete(fixture.kernel.tenants, BK_SLICE("acme"), on_deleted, &is_deleted);
    bk_tenant_release(acme);
    support_loop_run_until(fixture.kernel.loop, &is_deleted);
    assert_int_equal(support_reader_state(&reader), BK_POSITION_CLOSED);
    support_reader_fini(&reader);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_it_goes_on_where_it_was_closed_also_after_a_restart),
        TEST(test_what_is_acknowledged_is_stored_soon_and_then_the_tenant_is_free),
        TEST(test_a_flush_stores_those_that_idle_too),
        TEST(test_a_thousand_openings_and_more_share_a_few_commits),
        TEST(test_a_dropped_name_begins_anew),
        TEST(test_closed_ones_are_forgotten_by_the_beginning_of_their_names),
        TEST(test_what_cannot_be_stored_is_stored_later_and_readers_go_on),
        TEST(test_a_closed_one_that_cannot_be_stored_lets_its_tenant_go),
        TEST(test_one_that_idled_is_stored_when_its_tenant_closes),
        TEST(test_a_tenant_can_be_deleted_under_one_that_fails_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
