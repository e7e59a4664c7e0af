/* Proves that a copy taken while others write is whole, private, and never overwrites. */
#include "store_fixture.h"

#include "bakend/assert.h"

#include <stdio.h>
#include <sys/stat.h>

enum { ITEMS = 3000, BUSY_WRITES = 200 };

static enum bk_status insert_items(struct bk_transaction *transaction, void *user) {
    (void)user;
    for (int i = 0; i < ITEMS; i++) {
        const struct bk_event_draft draft = {
            .type = BK_SLICE("a.b"), .source = BK_SLICE("test"), .payload = BK_SLICE("{}")};
        enum bk_status status = bk_transaction_emit(transaction, &draft);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

struct copying {
    struct bk_database_copy copy;
    bool is_done;
    enum bk_status status;
};

static void on_copied(struct bk_database_copy *copy, enum bk_status status) {
    struct copying *self = bk_container_of(copy, struct copying, copy);
    self->is_done = true;
    self->status = status;
}

static void a_copy_under_load_is_whole(void **state) {
    struct support_store *fixture = *state;
    char path[SUPPORT_STORE_PATH_BYTES + 16];
    struct copying copying = {.copy = {.path = path, .done = on_copied}};
    struct bk_error error = BK_ERROR_INIT;
    struct bk_journal_state original;
    struct stat information;
    uint64_t last_before;
    (void)snprintf(path, sizeof(path), "%s/copy.db", fixture->directory);
    assert_int_equal(support_store_run(fixture, insert_items, NULL), BK_OK);
    last_before = bk_journal_state(fixture->database).last;
    assert_int_equal(bk_database_copy(fixture->database, &copying.copy), BK_OK);
    for (int i = 0; i < BUSY_WRITES; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "busy%d", i);
        assert_int_equal(support_store_run(fixture, support_run_item, name), BK_OK);
    }
    support_loop_run_until(fixture->loop, &copying.is_done);
    assert_int_equal(copying.status, BK_OK);
    assert_int_equal(stat(path, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0600);
    assert_int_equal(bk_database_check_file(path, &error), BK_OK);
    original = bk_journal_state(fixture->database);
    support_store_close(fixture);
    fixture->opening.options.path = path;
    assert_int_equal(support_store_open(fixture), BK_OK);
    assert_true(bk_journal_state(fixture->database).last >= last_before);
    assert_true(bk_journal_state(fixture->database).last <= original.last);
    assert_memory_equal(bk_journal_state(fixture->database).epoch, original.epoch,
                        sizeof(original.epoch));
}

static void a_copy_never_overwrites(void **state) {
    struct support_store *fixture = *state;
    struct copying copying = {.copy = {.path = fixture->path, .done = on_copied}};
    assert_int_equal(bk_database_copy(fixture->database, &copying.copy), BK_OK);
    support_loop_run_until(fixture->loop, &copying.is_done);
    assert_int_equal(copying.status, BK_EXISTS);
    assert_int_not_equal(copying.copy.error.message[0], '\0');
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_store_setup, support_store_teardown)
        TEST(a_copy_under_load_is_whole),
        TEST(a_copy_never_overwrites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
