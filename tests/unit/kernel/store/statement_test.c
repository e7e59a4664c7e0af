/* Proves binding, reading, the cache and its bound, conflicts, deadlines and stale statements. */
#include "store_fixture.h"

#include "bakend/assert.h"

#include <stdio.h>
#include <string.h>

static enum bk_status query(struct bk_connection *connection, const char *text,
                            struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    return bk_connection_statement(connection, &sql, statement);
}

struct values {
    struct bk_value read[5];
    char text[16];
    bool is_null, is_same_statement;
    int column_count;
    enum bk_status end;
};

static enum bk_status read_values(struct bk_connection *connection, void *user) {
    static const char sql[] = "SELECT ?1, ?2, ?3, ?4, ?5";
    const struct bk_value in[] = {BK_VALUE_OF_NULL, BK_VALUE_OF_INT(-5), BK_VALUE_OF_REAL(1.5),
                                  BK_VALUE_OF_TEXT(BK_SLICE("h\xc3\xa9")),
                                  BK_VALUE_OF_TEXT(BK_SLICE_EMPTY)};
    struct values *values = user;
    struct bk_statement *statement, *again;
    enum bk_status status = query(connection, sql, &statement);
    if (status != BK_OK)
        return status;
    for (int i = 0; i < 5; i++)
        bk_statement_bind(statement, i + 1, &in[i]);
    status = bk_statement_step(statement);
    for (int i = 0; i < 5; i++)
        values->read[i] = bk_statement_value(statement, i);
    memcpy(values->text, values->read[3].text.data, values->read[3].text.length);
    values->column_count = bk_statement_column_count(statement);
    values->end = bk_statement_step(statement);
    (void)query(connection, sql, &again);
    values->is_same_statement = again == statement;
    (void)bk_statement_step(again);
    values->is_null = bk_statement_is_null(again, 1);
    return status;
}

static void values_come_back_as_they_were_bound(void **state) {
    struct values values = {0};
    assert_int_equal(support_store_read(*state, read_values, &values), BK_OK);
    assert_int_equal(values.column_count, 5);
    assert_int_equal(values.read[0].type, BK_VALUE_NULL);
    assert_int_equal(values.read[1].integer, -5);
    assert_true(values.read[2].real == 1.5);
    assert_memory_equal(values.text, "h\xc3\xa9", 3);
    assert_int_equal(values.read[4].type, BK_VALUE_TEXT);
    assert_int_equal(values.read[4].text.length, 0);
    assert_int_equal(values.end, BK_END);
    assert_true(values.is_same_statement);
    assert_true(values.is_null); /* what was bound before is gone */
}

static enum bk_status use_many_statements(struct bk_connection *connection, void *user) {
    int64_t *sum = user;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 1000; i++) {
            char sql[64];
            struct bk_statement *statement;
            (void)snprintf(sql, sizeof(sql), "SELECT %d", i);
            if (query(connection, sql, &statement) != BK_OK ||
                bk_statement_step(statement) != BK_OK)
                return BK_INTERNAL;
            *sum += bk_statement_int(statement, 0);
            /* Handed out until the read is over, so none may be evicted: the bound gives way. */
            if (round == 0)
                bk_statement_reset(statement);
        }
    }
    return BK_OK;
}

static void more_statements_than_the_cache_holds_all_work(void **state) {
    int64_t sum = 0;
    assert_int_equal(support_store_read(*state, use_many_statements, &sum), BK_OK);
    assert_int_equal(sum, 2 * 499500);
    sum = 0;
    assert_int_equal(support_store_read(*state, use_many_statements, &sum), BK_OK);
    assert_int_equal(sum, 2 * 499500);
}

struct failure {
    enum bk_status status;
    char error[128], conflict[128], error_after_success[8];
};

static enum bk_status provoke(struct bk_transaction *transaction, const char *sql,
                              struct failure *failure) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_statement *statement;
    struct bk_slice conflict;
    failure->status = query(connection, sql, &statement);
    if (failure->status == BK_OK)
        failure->status = bk_statement_run(statement);
    conflict = bk_connection_conflict(connection);
    (void)snprintf(failure->error, sizeof(failure->error), "%s", bk_connection_error(connection));
    (void)snprintf(failure->conflict, sizeof(failure->conflict), "%.*s", BK_SLICE_PRINT(conflict));
    (void)query(connection, "SELECT 1", &statement);
    (void)snprintf(failure->error_after_success, sizeof(failure->error_after_success), "%s",
                   bk_connection_error(connection));
    return BK_OK;
}

static enum bk_status provoke_conflict(struct bk_transaction *transaction, void *user) {
    (void)bk_connection_execute(
        bk_transaction_connection(transaction),
        BK_SLICE("CREATE TABLE pairs (a, b, UNIQUE (a, b)); INSERT INTO pairs VALUES (1, 2)"));
    return provoke(transaction, "INSERT INTO pairs VALUES (1, 2)", user);
}

static enum bk_status provoke_mistake(struct bk_transaction *transaction, void *user) {
    return provoke(transaction, "SELECT x FROM nowhere", user);
}

static enum bk_status provoke_null(struct bk_transaction *transaction, void *user) {
    (void)bk_connection_execute(bk_transaction_connection(transaction),
                                BK_SLICE("CREATE TABLE strict_one (a NOT NULL)"));
    return provoke(transaction, "INSERT INTO strict_one VALUES (NULL)", user);
}

static void failures_are_translated_and_conflicts_name_their_columns(void **state) {
    struct failure failure;
    assert_int_equal(support_store_run(*state, provoke_conflict, &failure), BK_OK);
    assert_int_equal(failure.status, BK_CONFLICT);
    assert_string_equal(failure.conflict, "pairs.a, pairs.b");
    assert_int_equal(support_store_run(*state, provoke_mistake, &failure), BK_OK);
    assert_int_equal(failure.status, BK_INVALID);
    assert_string_equal(failure.error, "no such table: nowhere");
    assert_string_equal(failure.error_after_success, "");
    assert_int_equal(support_store_run(*state, provoke_null, &failure), BK_OK);
    assert_int_equal(failure.status, BK_INVALID);
}

#define ENDLESS                                                                                    \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

static enum bk_status select_endlessly(struct bk_transaction *transaction, void *user) {
    struct bk_statement *statement;
    enum bk_status status = support_run_item(transaction, user);
    if (status == BK_OK)
        status = query(bk_transaction_connection(transaction), ENDLESS, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    /* Harmless: what was written stays. */
    return status == BK_TIMEOUT ? BK_OK : BK_INTERNAL;
}

static void a_select_on_the_writer_is_cut_off_and_the_write_survives(void **state) {
    char name[] = "kept";
    assert_int_equal(support_store_run(*state, select_endlessly, name), BK_OK);
    assert_int_equal(support_store_number(*state, "SELECT count(*) FROM items"), 1);
}

static enum bk_status insert_slowly(struct bk_transaction *transaction, void *user) {
    (void)user;
    return bk_connection_execute(
        bk_transaction_connection(transaction),
        BK_SLICE("CREATE TABLE numbers (i); INSERT INTO numbers WITH RECURSIVE n(i) AS (SELECT 1 "
                 "UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT i FROM n"));
}

static void a_write_has_no_deadline(void **state) {
    assert_int_equal(support_store_run(*state, insert_slowly, NULL), BK_OK);
    assert_int_equal(support_store_number(*state, "SELECT count(*) FROM numbers"), 300000);
}

static enum bk_status select_by_name(struct bk_connection *connection, void *user) {
    struct bk_statement *statement;
    enum bk_status status = query(connection, "SELECT count(*), max(rowid) FROM items", &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status == BK_OK)
        *(int64_t *)user = bk_statement_int(statement, 0);
    return status;
}

static void statements_survive_a_change_of_the_schema_elsewhere(void **state) {
    struct support_store *fixture = *state;
    struct support_write write;
    int64_t count = -1;
    char sql[] = "DROP TABLE items; CREATE TABLE items (x, name TEXT, y); INSERT INTO items VALUES "
                 "(1, 'a', 2)";
    struct bk_connection *loop_connection = bk_store_read_now(fixture->database);
    assert_int_equal(select_by_name(loop_connection, &count), BK_OK);
    assert_int_equal(count, 0);
    assert_int_equal(support_store_read(fixture, select_by_name, &count), BK_OK);
    support_write_init(&write, support_run_sql, sql);
    write.write.runs_alone = true;
    assert_int_equal(bk_store_write(fixture->database, &write.write), BK_OK);
    support_loop_run_until(fixture->loop, &write.is_done);
    assert_int_equal(write.status, BK_OK);
    assert_int_equal(support_store_read(fixture, select_by_name, &count), BK_OK);
    assert_int_equal(count, 1);
    count = -1;
    loop_connection = bk_store_read_now(fixture->database);
    assert_int_equal(select_by_name(loop_connection, &count), BK_OK);
    assert_int_equal(count, 1);
}

static enum bk_status forget_and_use(struct bk_transaction *transaction, void *user) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_statement *statement;
    (void)user;
    if (query(connection, "SELECT name FROM items", &statement) != BK_OK ||
        bk_statement_step(statement) != BK_OK)
        return BK_INTERNAL;
    /* A standing SELECT would lock the table against DROP. */
    bk_connection_forget_statements(connection);
    return bk_connection_execute(connection, BK_SLICE("DROP TABLE items"));
}

static void forgetting_lets_a_table_be_dropped(void **state) {
    char name[] = "a";
    assert_int_equal(support_store_run(*state, support_run_item, name), BK_OK);
    assert_int_equal(support_store_run(*state, forget_and_use, NULL), BK_OK);
}

static enum bk_status bind_too_much(struct bk_transaction *transaction, void *user) {
    static char text[129 * 1024 * 1024];
    struct bk_statement *statement;
    enum bk_status status = query(bk_transaction_connection(transaction),
                                  "INSERT INTO items (name) VALUES (?1)", &statement);
    (void)user;
    bk_statement_bind_text(statement, 1, bk_slice_make(text, sizeof(text)));
    return status == BK_OK ? bk_statement_run(statement) : status;
}

static void a_text_past_the_limit_is_refused_not_null(void **state) {
    assert_int_equal(support_store_run(*state, bind_too_much, NULL), BK_INVALID);
    assert_int_equal(support_store_number(*state, "SELECT count(*) FROM items"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_store_setup, support_store_teardown)
        TEST(values_come_back_as_they_were_bound),
        TEST(more_statements_than_the_cache_holds_all_work),
        TEST(failures_are_translated_and_conflicts_name_their_columns),
        TEST(a_select_on_the_writer_is_cut_off_and_the_write_survives),
        TEST(a_write_has_no_deadline),
        TEST(statements_survive_a_change_of_the_schema_elsewhere),
        TEST(forgetting_lets_a_table_be_dropped),
        TEST(a_text_past_the_limit_is_refused_not_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
