/* The option `search` and the table of words that follows the collection's, on a real store. */
#include "bakend/schema.h"

#include "schema_fixture.h"
#include <stdio.h>

#define CREATE(json) support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json)
#define UPDATE(json) support_schema_change(fixture, BK_SCHEMA_UPDATE, "posts", json)
#define TABLE "\"_search_pbc_1125843985\""

static int setup(void **state) {
    support_schema_setup(state);
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'posts','fields':[{'name':'title','type':'text'},"
                            "{'name':'body','type':'editor'},{'name':'n','type':'number'},"
                            "{'name':'note','type':'text','hidden':true}],"
                            "'search':{'fields':['title','body']}}"),
                     BK_OK);
    return 0;
}

/* How many records have the word. */
static void assert_found(struct support_schema *fixture, const char *word, const char *count) {
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT COUNT(*) FROM " TABLE " WHERE " TABLE " MATCH '\"%s\"'",
             word);
    assert_string_equal(support_schema_query(fixture, sql), count);
}

static void words_follow_every_row_and_go_back_with_it(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_insert(fixture, "posts", "{'title':'red fox','body':'hill'}"),
                     BK_OK);
    assert_found(fixture, "fox", "1");
    assert_found(fixture, "hill", "1");
    assert_int_equal(support_schema_execute(fixture, "UPDATE posts SET title = 'blue fox'"), BK_OK);
    assert_found(fixture, "red", "0");
    assert_found(fixture, "blue", "1");
    assert_int_equal(support_schema_execute(fixture, "INSERT INTO posts (id, title) VALUES "
                                                     "('a', 'gnu'); "
                                                     "INSERT INTO posts (id) VALUES ('a')"),
                     BK_CONFLICT);
    assert_found(fixture, "gnu", "0");
    assert_int_equal(support_schema_execute(fixture, "DELETE FROM posts WHERE 1"), BK_OK);
    assert_found(fixture, "fox", "0");
}

static void what_is_there_is_found_when_the_option_comes_or_changes(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_insert(fixture, "posts", "{'title':'foxes','body':'hill'}"),
                     BK_OK);
    assert_int_equal(UPDATE("{'search':{'fields':['title'],'tokenizer':'porter'}}"), BK_OK);
    assert_found(fixture, "fox", "1");
    assert_found(fixture, "hill", "0");
    assert_int_equal(UPDATE("{'search':null}"), BK_OK);
    assert_string_equal(support_schema_query(fixture, "SELECT COUNT(*) FROM sqlite_master WHERE "
                                                      "name LIKE '%search%'"),
                        "0");
    assert_null(support_schema_find(fixture, "posts")->search);
    assert_null(strstr(support_schema_definition(fixture, "posts"), "search"));
    assert_int_equal(UPDATE("{'search':{'fields':['body'],'tokenizer':'trigram'}}"), BK_OK);
    assert_found(fixture, "ill", "1");
}

static void it_survives_changes_of_the_table(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_insert(fixture, "posts", "{'title':'fox'}"), BK_OK);
    assert_int_equal(UPDATE("{'name':'articles'}"), BK_OK);
    assert_found(fixture, "fox", "1");
    assert_int_equal(support_schema_insert(fixture, "articles", "{'title':'fox'}"), BK_OK);
    assert_found(fixture, "fox", "2");
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_UPDATE, "articles",
                                           "{'fields':[{'name':'title','type':'text'}],"
                                           "'search':{'fields':['title']}}"),
                     BK_OK);
    assert_found(fixture, "fox", "2");
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_DELETE, "articles", NULL), BK_OK);
    assert_string_equal(support_schema_query(fixture,
                                             "SELECT COUNT(*) FROM sqlite_master WHERE name LIKE "
                                             "'%search%'"),
                        "0");
}

static void what_cannot_be_searched_is_refused(void **state) {
    struct support_schema *fixture = *state;
    static const char *const wrong[] = {
        "{'search':{'fields':['nope']}}",
        "{'search':{'fields':['n']}}",
        "{'search':{'fields':['note']}}",
        "{'search':{'fields':['title','title']}}",
        "{'search':{'fields':['title'],'tokenizer':'x'}}",
        "{'search':1}",
        "{'search':{'fields':1}}",
        "{'fields':[{'name':'x','type':'text'}]}", /* of which the search would be gone */
    };
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        assert_int_equal(UPDATE(wrong[i]), BK_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(words_follow_every_row_and_go_back_with_it),
        TEST(what_is_there_is_found_when_the_option_comes_or_changes),
        TEST(it_survives_changes_of_the_table),
        TEST(what_cannot_be_searched_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
