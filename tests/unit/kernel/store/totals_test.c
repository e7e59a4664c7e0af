/* What is remembered of counting, and that it is never told when it no longer holds. */
#include "store_fixture.h"

#include <sqlite3.h>
#include <stdio.h>

struct question {
    const char *name; /* of items that are counted; NULL: all */
    bool changes_with_events;
    int64_t count;
};

static enum bk_status run_count(struct bk_connection *connection, void *user) {
    struct question *question = user;
    const struct bk_sql all = bk_sql_make(BK_SLICE("SELECT COUNT(*) FROM items"));
    const struct bk_sql some =
        bk_sql_make(BK_SLICE("SELECT COUNT(*) FROM items WHERE name LIKE ?1"));
    const struct bk_value name =
        BK_VALUE_OF_TEXT(bk_slice_from(question->name == NULL ? "" : question->name));
    return bk_rows_count(connection, question->name == NULL ? &all : &some, &name,
                         question->name == NULL ? 0 : 1, question->changes_with_events,
                         &question->count);
}

static int64_t count(struct support_store *fixture, const char *name) {
    struct question question = {.name = name, .changes_with_events = true, .count = -1};
    assert_int_equal(support_store_read(fixture, run_count, &question), BK_OK);
    return question.count;
}

static void it_counts_anew_after_an_event(void **state) {
    struct support_store *fixture = *state;
    assert_int_equal(count(fixture, NULL), 0);
    assert_int_equal(support_store_run(fixture, support_run_item, "a"), BK_OK);
    assert_int_equal(count(fixture, NULL), 1);
    assert_int_equal(count(fixture, "a"), 1);
    assert_int_equal(count(fixture, "b"), 0); /* other values are another question */
    assert_int_equal(support_store_run(fixture, support_run_item, "b"), BK_OK);
    assert_int_equal(count(fixture, NULL), 2);
    assert_int_equal(count(fixture, "b"), 1);
}

/* Seen by a change that has no event, which a collection's never is. */
static void it_does_not_count_twice(void **state) {
    struct support_store *fixture = *state;
    assert_int_equal(support_store_run(fixture, support_run_item, "a"), BK_OK);
    assert_int_equal(count(fixture, NULL), 1);
    assert_int_equal(
        support_store_run(fixture, support_run_sql, "INSERT INTO items (name) VALUES ('quiet')"),
        BK_OK);
    assert_int_equal(count(fixture, NULL), 1);
    assert_int_equal(support_store_run(fixture, support_run_item, "b"), BK_OK);
    assert_int_equal(count(fixture, NULL), 3);
}

static void what_has_no_events_is_counted_each_time(void **state) {
    struct support_store *fixture = *state;
    struct question question = {0};
    assert_int_equal(support_store_run(fixture, support_run_item, "a"), BK_OK);
    assert_int_equal(support_store_read(fixture, run_count, &question), BK_OK);
    assert_int_equal(
        support_store_run(fixture, support_run_sql, "INSERT INTO items (name) VALUES ('quiet')"),
        BK_OK);
    assert_int_equal(support_store_read(fixture, run_count, &question), BK_OK);
    assert_int_equal(question.count, 2);
}

static void nothing_is_remembered_of_a_write_that_was_taken_back(void **state) {
    struct support_store *fixture = *state;
    assert_int_equal(support_store_run(fixture, support_run_item, "a"), BK_OK);
    assert_int_equal(count(fixture, NULL), 1);
    assert_int_equal(support_store_run(fixture, support_run_item, "a"), BK_CONFLICT);
    assert_int_equal(count(fixture, NULL), 1);
    assert_int_equal(support_store_run(fixture, support_run_item, "b"), BK_OK);
    assert_int_equal(count(fixture, NULL), 2);
}

static enum bk_status run_count_too_long(struct bk_connection *connection, void *user) {
    enum { LENGTH = 70 * 1000 };
    static char text[LENGTH];
    int64_t *found = user;
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT COUNT(*) FROM items WHERE name != ?1"));
    const struct bk_value value = BK_VALUE_OF_TEXT(bk_slice_make(text, LENGTH));
    memset(text, 'x', sizeof text);
    return bk_rows_count(connection, &sql, &value, 1, true, found);
}

static void a_question_too_long_to_remember_is_answered(void **state) {
    struct support_store *fixture = *state;
    int64_t found = -1;
    assert_int_equal(support_store_run(fixture, support_run_item, "a"), BK_OK);
    assert_int_equal(support_store_read(fixture, run_count_too_long, &found), BK_OK);
    assert_int_equal(found, 1);
}

/* --- files that nobody has open --------------------------------------------------------------- */

static enum bk_status run_keep(struct bk_transaction *transaction, void *user) {
    (void)user;
    return bk_rows_keep(bk_transaction_connection(transaction), BK_SLICE("items"),
                        BK_SLICE("\"items\""));
}

struct wrong {
    int64_t kept, counted;
    int count;
};

static void on_wrong(void *user, const char *table, int64_t kept, int64_t counted) {
    struct wrong *wrong = user;
    assert_string_equal(table, "items");
    *wrong = (struct wrong){kept, counted, wrong->count + 1};
}

static struct wrong check(struct support_store *fixture, bool mends) {
    struct wrong wrong = {0, 0, 0};
    const struct bk_rows_check check = {mends, on_wrong, &wrong};
    assert_int_equal(bk_rows_check_file(fixture->path, &check, NULL), BK_OK);
    return wrong;
}

static void a_wrong_number_is_found_and_mended(void **state) {
    struct support_store *fixture = *state;
    assert_int_equal(support_store_run(fixture, run_keep, NULL), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_item, "a"), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_item, "b"), BK_OK);
    support_store_close(fixture);
    assert_int_equal(check(fixture, false).count, 0);
    assert_int_equal(support_store_open(fixture), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_sql,
                                       "UPDATE _meta SET value = 7 WHERE name = 'rows.items'"),
                     BK_OK);
    support_store_close(fixture);
    for (int round = 0; round < 2; round++) {
        struct wrong wrong = check(fixture, round == 1);
        assert_int_equal(wrong.count, 1);
        assert_int_equal(wrong.kept, 7);
        assert_int_equal(wrong.counted, 2);
    }
    assert_int_equal(check(fixture, false).count, 0);
    assert_int_equal(support_store_open(fixture), BK_OK);
}

/* As a power cut leaves it between the making of the file and that of its tables. */
static void a_database_without_tables_has_no_numbers(void **state) {
    struct support_store *fixture = *state;
    sqlite3 *handle = NULL;
    support_store_close(fixture);
    assert_int_equal(remove(fixture->path), 0);
    assert_int_equal(sqlite3_open(fixture->path, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, "PRAGMA journal_mode = WAL", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
    assert_int_equal(check(fixture, false).count, 0);
    assert_int_equal(check(fixture, true).count, 0);
    assert_int_equal(support_store_open(fixture), BK_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_counts_anew_after_an_event, support_store_setup,
                                        support_store_teardown),
        cmocka_unit_test_setup_teardown(it_does_not_count_twice, support_store_setup,
                                        support_store_teardown),
        cmocka_unit_test_setup_teardown(what_has_no_events_is_counted_each_time,
                                        support_store_setup, support_store_teardown),
        cmocka_unit_test_setup_teardown(nothing_is_remembered_of_a_write_that_was_taken_back,
                                        support_store_setup, support_store_teardown),
        cmocka_unit_test_setup_teardown(a_question_too_long_to_remember_is_answered,
                                        support_store_setup, support_store_teardown),
        cmocka_unit_test_setup_teardown(a_wrong_number_is_found_and_mended, support_store_setup,
                                        support_store_teardown),
        cmocka_unit_test_setup_teardown(a_database_without_tables_has_no_numbers,
                                        support_store_setup, support_store_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
