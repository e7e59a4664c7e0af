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

/* --- rows ------------------------------------------------------------------------------------- */

#define ID "aaaaaaaaaaaaaaa"

enum { ROWS = 300 };

struct rows_write {
    struct bk_write write;
    struct support_schema *fixture;
    const struct bk_collection *posts;
    struct bk_value before[SUPPORT_SCHEMA_FIELDS_MAX], after[SUPPORT_SCHEMA_FIELDS_MAX];
    enum bk_status status;
    bool is_done;
};

static void on_done(struct bk_write *write, enum bk_status status) {
    struct rows_write *rows = bk_container_of(write, struct rows_write, write);
    rows->status = status;
    rows->is_done = true;
}

static enum bk_status write_rows(struct support_schema *fixture, struct rows_write *rows,
                                 enum bk_status (*run)(struct bk_transaction *,
                                                       struct bk_write *)) {
    rows->write = (struct bk_write){.run = run, .done = on_done};
    rows->fixture = fixture;
    rows->posts = support_schema_find(fixture, "posts");
    rows->is_done = false;
    assert_int_equal(bk_store_write(fixture->kernel.tenant->database, &rows->write), BK_OK);
    support_loop_run_until(fixture->kernel.loop, &rows->is_done);
    return rows->status;
}

static void set(struct rows_write *rows, struct bk_value *values, const char *id,
                const char *title) {
    const struct bk_collection *posts = rows->posts;
    for (uint32_t i = 0; i < posts->field_count; i++)
        posts->fields[i].type->empty(&posts->fields[i], &values[i]);
    values[posts->id_field->index] = BK_VALUE_OF_TEXT(bk_slice_from(id));
    values[bk_collection_field(posts, BK_SLICE("title"))->index] =
        BK_VALUE_OF_TEXT(bk_slice_from(title));
}

static enum bk_status run_update(struct bk_transaction *transaction, struct bk_write *write) {
    struct rows_write *rows = bk_container_of(write, struct rows_write, write);
    set(rows, rows->before, ID, "red fox");
    set(rows, rows->after, ID, "blue fox");
    return bk_record_update(rows->posts, bk_transaction_connection(transaction), rows->before,
                            rows->after);
}

static enum bk_status run_clash(struct bk_transaction *transaction, struct bk_write *write) {
    struct rows_write *rows = bk_container_of(write, struct rows_write, write);
    struct bk_connection *connection = bk_transaction_connection(transaction);
    set(rows, rows->after, "b", "gnu");
    enum bk_status status = bk_record_insert(rows->posts, connection, rows->after);
    return status == BK_OK ? bk_record_insert(rows->posts, connection, rows->after) : status;
}

static enum bk_status run_delete(struct bk_transaction *transaction, struct bk_write *write) {
    struct rows_write *rows = bk_container_of(write, struct rows_write, write);
    return bk_record_delete(rows->posts, bk_transaction_connection(transaction), rows->after);
}

static void words_follow_every_row_and_go_back_with_it(void **state) {
    struct support_schema *fixture = *state;
    struct rows_write rows;
    assert_int_equal(support_schema_insert(fixture, "posts", "{'id':'" ID "','title':'red fox'}"),
                     BK_OK);
    assert_int_equal(support_schema_insert(fixture, "posts", "{'body':'hill'}"), BK_OK);
    assert_found(fixture, "fox", "1");
    assert_found(fixture, "hill", "1");
    assert_int_equal(write_rows(fixture, &rows, run_update), BK_OK);
    assert_found(fixture, "red", "0");
    assert_found(fixture, "blue", "1");
    assert_int_equal(write_rows(fixture, &rows, run_clash), BK_CONFLICT);
    assert_found(fixture, "gnu", "0");
    rows.posts = support_schema_find(fixture, "posts");
    set(&rows, rows.after, ID, "blue fox");
    assert_int_equal(write_rows(fixture, &rows, run_delete), BK_OK);
    assert_found(fixture, "fox", "0");
}

/* FTS5 writes what it has gathered at the savepoint of each statement that fires a trigger. */
static enum bk_status run_many(struct bk_transaction *transaction, struct bk_write *write) {
    struct rows_write *rows = bk_container_of(write, struct rows_write, write);
    enum bk_status status = BK_OK;
    char id[16];
    for (int i = 0; i < ROWS && status == BK_OK; i++) {
        snprintf(id, sizeof id, "row%d", i);
        set(rows, rows->after, id, "many words");
        status = bk_record_insert(rows->posts, bk_transaction_connection(transaction), rows->after);
    }
    return status;
}

static void the_words_of_a_transaction_are_written_together(void **state) {
    struct support_schema *fixture = *state;
    struct rows_write rows;
    assert_int_equal(write_rows(fixture, &rows, run_many), BK_OK);
    assert_found(fixture, "words", "300");
    /* A segment has its number in the upper bits of the rowid. */
    assert_string_equal(
        support_schema_query(fixture, "SELECT COUNT(DISTINCT id >> 37) FROM "
                                      "\"_search_pbc_1125843985_data\" WHERE id > (1 << 37)"),
        "1");
}

static void triggers_of_an_older_database_go(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(
        support_schema_execute(fixture, "CREATE TRIGGER \"_search_pbc_1125843985_insert\" AFTER "
                                        "INSERT ON posts BEGIN SELECT 1; END"),
        BK_OK);
    support_schema_close(fixture);
    bk_schema_kind_destroy(fixture->kind);
    support_kernel_restart(&fixture->kernel);
    fixture->kind = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    support_schema_open(fixture);
    assert_string_equal(
        support_schema_query(fixture, "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger'"),
        "0");
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
        TEST(the_words_of_a_transaction_are_written_together),
        TEST(triggers_of_an_older_database_go),
        TEST(what_is_there_is_found_when_the_option_comes_or_changes),
        TEST(it_survives_changes_of_the_table),
        TEST(what_cannot_be_searched_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
