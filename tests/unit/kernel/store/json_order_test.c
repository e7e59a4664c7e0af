/* What JSON is sorted by, asked of a database. */
#include "store_fixture.h"

#include "bakend/assert.h"

#define ORDER_OF(text) "SELECT bk_json_order(" text ")"

struct question {
    const char *sql, *answer;
};

static enum bk_status ask(struct bk_connection *connection, void *user) {
    const struct question *question = user;
    const struct bk_sql sql = bk_sql_make(bk_slice_from(question->sql));
    struct bk_statement *statement;
    assert_int_equal(bk_connection_statement(connection, &sql, &statement), BK_OK);
    assert_int_equal(bk_statement_step(statement), BK_OK);
    struct bk_slice answer = bk_statement_text(statement, 0);
    assert_int_equal(answer.length, strlen(question->answer));
    assert_memory_equal(answer.data == NULL ? "" : answer.data, question->answer, answer.length);
    bk_statement_reset(statement);
    return BK_OK;
}

static void members_come_in_the_order_of_their_names(void **state) {
    static struct question questions[] = {
        {ORDER_OF("'{\"b\": 1, \"a\": [2, {\"d\":3,\"c\":\"x\"}]}'"),
         "{\"a\":[2,{\"c\":\"x\",\"d\":3}],\"b\":1}"},
        {ORDER_OF("'{}'"), "{}"},
        {ORDER_OF("' [ 1 , \"a\" ] '"), "[1,\"a\"]"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(questions); i++)
        assert_int_equal(support_store_read(*state, ask, &questions[i]), BK_OK);
}

static void what_is_no_object_is_what_it_is(void **state) {
    static struct question questions[] = {
        {ORDER_OF("'\"text\"'"), "text"},
        {ORDER_OF("'12'"), "12"},
        {ORDER_OF("'1.5'"), "1.5"},
        {ORDER_OF("'true'"), "1"},
        {ORDER_OF("'null'"), ""},
        {ORDER_OF("NULL"), ""},
        {ORDER_OF("7"), "7"},
        {ORDER_OF("'no {json'"), "no {json"},
        {"SELECT bk_json_order('10') > bk_json_order('9')", "1"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(questions); i++)
        assert_int_equal(support_store_read(*state, ask, &questions[i]), BK_OK);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_store_setup, support_store_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(members_come_in_the_order_of_their_names),
        TEST(what_is_no_object_is_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
