/* Proves the journal: what is read is what was sent, pages and seeks find their place, numbers
 * last. */
#include "store_fixture.h"

#include "bakend/assert.h"
#include "bakend/id.h"

#include <stdio.h>
#include <string.h>

enum { EVENTS = 100 };

/* --- what goes in comes out ------------------------------------------------------------------- */

static struct bk_event *kept;

static void keep_event(void *user, struct bk_database *database, struct bk_event *const *events,
                       size_t event_count) {
    (void)user, (void)database;
    assert_int_equal(event_count, 1);
    kept = bk_event_ref(events[0]);
}

static enum bk_status emit_full(struct bk_transaction *transaction, void *user) {
    const struct bk_event_draft draft = {.type = BK_SLICE("posts.updated"),
                                         .source = BK_SLICE("collections"),
                                         .subject = BK_SLICE("posts/\"\xc3\xa9"),
                                         .payload = BK_SLICE("{\"a\":\"\\u0001\"}"),
                                         .previous = BK_SLICE("{\"a\":1}"),
                                         .hidden = BK_SLICE("{\"h\":1}"),
                                         .version = 3};
    (void)user;
    return bk_transaction_emit(transaction, &draft);
}

static bool write_bytes(void *user, const struct bk_event_fields *fields) {
    bk_event_write_json(user, fields);
    return true;
}

static enum bk_status read_bytes(struct bk_connection *connection, void *user) {
    const struct bk_journal_query query = {
        .from = 1, .to = UINT64_MAX, .row_limit = 10, .on_row = write_bytes, .user = user};
    return bk_journal_read(connection, &query);
}

static void an_event_read_back_has_the_same_bytes(void **state) {
    struct support_store *fixture = *state;
    const struct bk_origin origin = {
        .actor = BK_SLICE("users/abc"), .cause = BK_SLICE("evt_cause"), .depth = 2};
    struct support_write write;
    struct bk_buffer bytes;
    uint64_t sequence = 0;
    bk_store_on_committed(fixture->store, NULL, NULL);
    bk_store_on_committed(fixture->store, keep_event, NULL);
    support_write_init(&write, emit_full, NULL);
    write.write.origin = &origin;
    assert_int_equal(bk_store_write(fixture->database, &write.write), BK_OK);
    support_loop_run_until(fixture->loop, &write.is_done);
    assert_int_equal(write.status, BK_OK);
    bk_buffer_init(&bytes, 4096);
    assert_int_equal(support_store_read(fixture, read_bytes, &bytes), BK_OK);
    assert_true(bk_slice_equal(bk_buffer_slice(&bytes), kept->json));
    assert_true(bk_slice_is(kept->fields.actor, "users/abc"));
    assert_true(bk_slice_is(kept->fields.cause, "evt_cause"));
    assert_true(bk_slice_is(kept->fields.hidden, "{\"h\":1}"));
    assert_int_equal(kept->fields.depth, 2);
    assert_true(bk_event_id_parse(kept->fields.id, NULL, &sequence, NULL));
    assert_int_equal(sequence, 1);
    bk_event_unref(kept);
    bk_buffer_fini(&bytes);
}

/* --- pages and seeks -------------------------------------------------------------------------- */

static enum bk_status emit_many(struct bk_transaction *transaction, void *user) {
    (void)user;
    for (int i = 0; i < EVENTS; i++) {
        const struct bk_event_draft draft = {
            .type = BK_SLICE("a.b"), .source = BK_SLICE("test"), .payload = BK_SLICE("{}")};
        enum bk_status status = bk_transaction_emit(transaction, &draft);
        if (status != BK_OK)
            return status;
    }
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("UPDATE _journal SET timestamp = sequence * 10"));
}

struct page {
    struct bk_journal_query query;
    uint64_t sequences[EVENTS];
    size_t count, stop_after;
};

static bool on_row(void *user, const struct bk_event_fields *fields) {
    struct page *page = user;
    page->sequences[page->count++] = fields->sequence;
    return page->count != page->stop_after;
}

static enum bk_status read_page(struct bk_connection *connection, void *user) {
    struct page *page = user;
    page->query.on_row = on_row;
    page->query.user = page;
    return bk_journal_read(connection, &page->query);
}

static void pages_go_both_ways_and_stop_when_told(void **state) {
    struct support_store *fixture = *state;
    struct page up = {.query = {.from = 10, .to = 20, .row_limit = 5}};
    struct page down = {.query = {.from = 10, .to = 20, .row_limit = 100, .is_descending = true}};
    struct page stopped = {.query = {.from = 1, .to = UINT64_MAX, .row_limit = 100},
                           .stop_after = 3};
    struct page nothing = {.query = {.from = 20, .to = 10, .row_limit = 100}};
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    assert_int_equal(support_store_read(fixture, read_page, &up), BK_OK);
    assert_int_equal(up.count, 5);
    assert_int_equal(up.sequences[0], 10);
    assert_int_equal(up.sequences[4], 14);
    assert_int_equal(support_store_read(fixture, read_page, &down), BK_OK);
    assert_int_equal(down.count, 11);
    assert_int_equal(down.sequences[0], 20);
    assert_int_equal(support_store_read(fixture, read_page, &stopped), BK_OK);
    assert_int_equal(stopped.count, 3);
    assert_int_equal(support_store_read(fixture, read_page, &nothing), BK_OK);
    assert_int_equal(nothing.count, 0);
}

struct seek {
    int64_t wall_ms;
    uint64_t found;
};

static enum bk_status seek_one(struct bk_connection *connection, void *user) {
    struct seek *seek = user;
    return bk_journal_seek(connection, seek->wall_ms, &seek->found);
}

static void a_time_is_found_by_its_first_event(void **state) {
    struct support_store *fixture = *state;
    const struct seek expected[] = {{0, 1},    {10, 1},        {11, 2},           {500, 50},
                                    {501, 51}, {1000, EVENTS}, {1001, EVENTS + 1}};
    struct seek empty = {.wall_ms = 0};
    assert_int_equal(support_store_read(fixture, seek_one, &empty), BK_OK);
    assert_int_equal(empty.found, 1);
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    for (size_t i = 0; i < BK_COUNT_OF(expected); i++) {
        struct seek seek = {.wall_ms = expected[i].wall_ms};
        assert_int_equal(support_store_read(fixture, seek_one, &seek), BK_OK);
        assert_int_equal(seek.found, expected[i].found);
    }
}

/* --- the counter ------------------------------------------------------------------------------ */

static void numbers_and_epoch_outlive_a_restart(void **state) {
    struct support_store *fixture = *state;
    struct bk_journal_state before, after;
    char a[] = "a";
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    before = bk_journal_state(fixture->database);
    assert_int_equal(before.last, EVENTS);
    assert_int_equal(before.oldest, 1);
    assert_int_equal(before.size_bytes, 2 * EVENTS);
    support_store_close(fixture);
    assert_int_equal(support_store_open(fixture), BK_OK);
    after = bk_journal_state(fixture->database);
    assert_memory_equal(&after, &before, sizeof(after));
    assert_int_equal(support_store_run(fixture, support_run_item, a), BK_OK);
    assert_int_equal(fixture->events[fixture->event_count - 1], EVENTS + 1);
}

static void a_new_epoch_keeps_the_numbers(void **state) {
    struct support_store *fixture = *state;
    struct bk_journal_state before, after;
    struct bk_error error = BK_ERROR_INIT;
    assert_int_equal(support_store_run(fixture, emit_many, NULL), BK_OK);
    before = bk_journal_state(fixture->database);
    support_store_close(fixture);
    assert_int_equal(bk_database_renew_epoch(fixture->path, &error), BK_OK);
    assert_int_equal(bk_database_check_file(fixture->path, &error), BK_OK);
    assert_int_equal(support_store_open(fixture), BK_OK);
    after = bk_journal_state(fixture->database);
    assert_int_equal(after.last, before.last);
    assert_memory_not_equal(after.epoch, before.epoch, sizeof(after.epoch));
}

static void a_database_without_a_journal_takes_transient_events_only(void **state) {
    struct support_store *fixture = *state;
    char path[SUPPORT_STORE_PATH_BYTES + 16];
    char a[] = "a";
    support_store_close(fixture);
    (void)snprintf(path, sizeof(path), "%s/other.db", fixture->directory);
    fixture->opening.options.path = path;
    fixture->opening.options.has_journal = false;
    assert_int_equal(support_store_open(fixture), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_item, a), BK_NOT_SUPPORTED);
    assert_int_equal(fixture->event_count, 0);
}

static char large_payload[BK_EVENT_BYTES_MAX + 100];

static enum bk_status emit_large(struct bk_transaction *transaction, void *user) {
    const struct bk_event_draft draft = {.type = BK_SLICE("a.b"),
                                         .source = BK_SLICE("test"),
                                         .payload = bk_slice_from(large_payload)};
    (void)user;
    return bk_transaction_emit(transaction, &draft);
}

static void an_event_that_is_too_large_names_what_it_left_out(void **state) {
    struct support_store *fixture = *state;
    memset(large_payload, 'x', sizeof(large_payload) - 1);
    memcpy(large_payload, "{\"small\":1,\"body\":\"", 19);
    memcpy(large_payload + sizeof(large_payload) - 3, "\"}", 2);
    assert_int_equal(support_store_run(fixture, emit_large, NULL), BK_OK);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM _journal WHERE payload = "
                                                   "'{\"small\":1}' AND omitted = '[\"body\"]'"),
                     1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_store_setup, support_store_teardown)
        TEST(an_event_read_back_has_the_same_bytes),
        TEST(pages_go_both_ways_and_stop_when_told),
        TEST(a_time_is_found_by_its_first_event),
        TEST(numbers_and_epoch_outlive_a_restart),
        TEST(a_new_epoch_keeps_the_numbers),
        TEST(a_database_without_a_journal_takes_transient_events_only),
        TEST(an_event_that_is_too_large_names_what_it_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
