/* The option `search` and the table of words that follows the collection's, on a real store. */
#include "bakend/failpoint.h"
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
    snprintf(sql, sizeof sql, "SELECT COUNT(*) FROM " TABLE " WHERE " TABLE " MATCH '%s'", word);
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

/* --- the table of words ----------------------------------------------------------------------- */

static const char all_tables[] = "SELECT COUNT(*) FROM sqlite_master WHERE name GLOB '_search_*'";

static void restart(struct support_schema *fixture) {
    support_schema_close(fixture);
    bk_schema_kind_destroy(fixture->kind);
    support_kernel_restart(&fixture->kernel);
    fixture->kind = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    support_schema_open(fixture);
}

static void the_table_of_an_older_version_is_made_anew(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_insert(fixture, "posts", "{'title':'fox'}"), BK_OK);
    assert_int_equal(
        support_schema_execute(fixture, "DROP TABLE " TABLE "; DELETE FROM _searches;"
                                        "CREATE VIRTUAL TABLE " TABLE " USING fts5(title,body,"
                                        "content=posts,content_rowid=_rowid_,tokenize='unicode61');"
                                        "CREATE TRIGGER \"_search_pbc_1125843985_insert\" AFTER "
                                        "INSERT ON posts BEGIN SELECT 1; END"),
        BK_OK);
    restart(fixture);
    assert_string_equal(
        support_schema_query(fixture, "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger'"),
        "0");
    assert_found(fixture, "fox", "1");
    assert_int_equal(support_schema_insert(fixture, "posts", "{'title':'fox'}"), BK_OK);
    assert_found(fixture, "fox", "2");
}

/* A table that is made anew gets another row in sqlite_master. */
static void it_is_the_same_table_after_renames_and_needs_no_word_of_them(void **state) {
    static const char place[] =
        "SELECT rootpage FROM sqlite_master WHERE name='_search_pbc_1125843985_data'";
    struct support_schema *fixture = *state;
    const struct bk_collection *posts = support_schema_find(fixture, "posts");
    char before[32], json[512];
    assert_int_equal(support_schema_insert(fixture, "posts", "{'title':'fox','body':'hill'}"),
                     BK_OK);
    snprintf(before, sizeof before, "%s", support_schema_query(fixture, place));
    snprintf(json, sizeof json,
             "{'name':'articles','fields':[{'id':'%.*s','name':'body','type':'text'},"
             "{'id':'%.*s','name':'title','type':'editor'}]}",
             BK_SLICE_PRINT(bk_collection_field(posts, BK_SLICE("title"))->id),
             BK_SLICE_PRINT(bk_collection_field(posts, BK_SLICE("body"))->id));
    assert_int_equal(UPDATE(json), BK_OK);
    assert_string_equal(support_schema_query(fixture, place), before);
    posts = support_schema_find(fixture, "articles");
    assert_true(bk_slice_is(posts->search->fields[0]->name, "body"));
    assert_true(bk_slice_is(posts->search->fields[1]->name, "title"));
    assert_int_equal(support_schema_insert(fixture, "articles", "{'body':'fox'}"), BK_OK);
    assert_found(fixture, "c0: fox", "2");
    assert_found(fixture, "c1: hill", "1");
}

/* What a client has read before it renamed a field. */
static void a_former_name_in_the_option_is_the_field_that_had_it(void **state) {
    struct support_schema *fixture = *state;
    const struct bk_collection *posts = support_schema_find(fixture, "posts");
    char json[512];
    snprintf(json, sizeof json,
             "{'fields':[{'id':'%.*s','name':'headline','type':'text'}],"
             "'search':{'fields':['title']}}",
             BK_SLICE_PRINT(bk_collection_field(posts, BK_SLICE("title"))->id));
    assert_int_equal(UPDATE(json), BK_OK);
    posts = support_schema_find(fixture, "posts");
    assert_true(bk_slice_is(posts->search->fields[0]->name, "headline"));
}

/* --- building it ------------------------------------------------------------------------------ */

enum { OLD_ROWS = 4000, CHANGES_PER_WRITE = 50 };

/* A collection with records, whose words are on the way. */
static void begin_to_build(struct support_schema *fixture) {
    assert_int_equal(UPDATE("{'search':null}"), BK_OK);
    assert_int_equal(
        support_schema_execute(fixture,
                               "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE "
                               "i<4000) INSERT INTO posts (id, title, body) "
                               "SELECT 'old'||i, 'old word'||(i%7), 'body'||i FROM n"),
        BK_OK);
    assert_int_equal(UPDATE("{'search':{'fields':['title','body']}}"), BK_OK);
}

static enum bk_status progress(struct support_schema *fixture, uint32_t *percent) {
    return bk_search_progress(bk_store_read_now(fixture->kernel.tenant->database),
                              support_schema_find(fixture, "posts"), percent);
}

static void finish_building(struct support_schema *fixture) {
    uint32_t percent = 0, before = 0;
    for (enum bk_status status; (status = progress(fixture, &percent)) != BK_END;) {
        assert_int_equal(status, BK_OK);
        assert_in_range(percent, before, 99);
        before = percent;
        assert_int_equal(support_schema_execute(fixture, "SELECT 1"), BK_OK);
    }
}

/* Word by word, place by place. By statements that write, which have no deadline. */
static void assert_as_if_made_at_once(struct support_schema *fixture) {
    assert_int_equal(
        support_schema_execute(
            fixture,
            "CREATE VIRTUAL TABLE fresh USING fts5(c0,c1,content='');"
            "INSERT INTO fresh(rowid,c0,c1) SELECT _rowid_,title,body FROM posts;"
            "CREATE VIRTUAL TABLE v USING fts5vocab('_search_pbc_1125843985','instance');"
            "CREATE VIRTUAL TABLE w USING fts5vocab('fresh','instance');"
            "CREATE TABLE a AS SELECT term,doc,col,\"offset\" FROM v;"
            "CREATE TABLE b AS SELECT term,doc,col,\"offset\" FROM w;"
            "CREATE TABLE differences AS SELECT * FROM (SELECT * FROM a EXCEPT SELECT * FROM b) "
            "UNION ALL SELECT * FROM (SELECT * FROM b EXCEPT SELECT * FROM a)"),
        BK_OK);
    assert_string_equal(support_schema_query(fixture, "SELECT COUNT(*) FROM differences"), "0");
    assert_string_equal(
        support_schema_query(fixture, "SELECT (SELECT COUNT(*) FROM a)-(SELECT COUNT(*) FROM b)"),
        "0");
    /* How many records it holds and how long they are, by which the best are found. */
    assert_string_equal(
        support_schema_query(fixture, "SELECT (SELECT block FROM \"_search_pbc_1125843985_data\" "
                                      "WHERE id=1)=(SELECT block FROM fresh_data WHERE id=1)"),
        "1");
}

struct changes {
    struct rows_write rows;
    uint32_t number;
};

/* The record as it is stored; false: it is not there. */
static bool read_record(struct rows_write *rows, struct bk_connection *connection, const char *id) {
    static char texts[SUPPORT_SCHEMA_FIELDS_MAX][64];
    struct bk_statement *statement;
    assert_int_equal(bk_connection_statement(connection, &rows->posts->select_by_id, &statement),
                     BK_OK);
    bk_statement_bind_text(statement, 1, bk_slice_from(id));
    bool is_there = bk_statement_step(statement) == BK_OK;
    for (uint32_t i = 0; is_there && i < rows->posts->field_count; i++) {
        rows->before[i] = bk_statement_value(statement, (int)i);
        if (rows->before[i].type != BK_VALUE_TEXT)
            continue;
        snprintf(texts[i], sizeof texts[i], "%.*s", BK_SLICE_PRINT(rows->before[i].text));
        rows->before[i].text = bk_slice_from(texts[i]);
    }
    bk_statement_reset(statement);
    return is_there;
}

/* How far the slices are. */
static int64_t read_done(struct bk_connection *connection) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT done FROM _searches"));
    struct bk_statement *statement;
    assert_int_equal(bk_connection_statement(connection, &sql, &statement), BK_OK);
    assert_int_equal(bk_statement_step(statement), BK_OK);
    int64_t done = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return done;
}

/* Around where the slices are, then somewhere, then the last ones, whose rowid is given again. */
static int64_t choose(struct bk_connection *connection, uint32_t number) {
    switch (number % 4) {
    case 0:
        return OLD_ROWS - number / 4 % 100;
    case 1:
        return number * 7919 % OLD_ROWS + 1;
    default:
        return (read_done(connection) + number * 7919 % 100 + OLD_ROWS - 50) % OLD_ROWS + 1;
    }
}

/* An update, or a deletion and a new record. */
static enum bk_status change_one(struct rows_write *rows, struct bk_connection *connection,
                                 uint32_t number) {
    char id[32], title[32];
    snprintf(id, sizeof id, "old%lld", (long long)choose(connection, number));
    snprintf(title, sizeof title, "changed word%u", number % 7);
    if (!read_record(rows, connection, id))
        return BK_OK;
    if (number % 3 > 0) {
        memcpy(rows->after, rows->before, sizeof rows->after);
        rows->after[bk_collection_field(rows->posts, BK_SLICE("title"))->index] =
            BK_VALUE_OF_TEXT(bk_slice_from(title));
        return bk_record_update(rows->posts, connection, rows->before, rows->after);
    }
    enum bk_status status = bk_record_delete(rows->posts, connection, rows->before);
    snprintf(id, sizeof id, "new%u", number);
    set(rows, rows->after, id, title);
    return status == BK_OK ? bk_record_insert(rows->posts, connection, rows->after) : status;
}

static enum bk_status run_changes(struct bk_transaction *transaction, struct bk_write *write) {
    struct rows_write *rows = bk_container_of(write, struct rows_write, write);
    struct changes *changes = bk_container_of(rows, struct changes, rows);
    enum bk_status status = BK_OK;
    for (int i = 0; i < CHANGES_PER_WRITE && status == BK_OK; i++)
        status = change_one(rows, bk_transaction_connection(transaction), changes->number++);
    return status;
}

static void words_that_are_written_in_slices_are_those_of_a_table_made_at_once(void **state) {
    struct support_schema *fixture = *state;
    struct changes changes = {.number = 0};
    uint32_t percent, writes = 0;
    begin_to_build(fixture);
    for (; progress(fixture, &percent) == BK_OK; writes++)
        assert_int_equal(write_rows(fixture, &changes.rows, run_changes), BK_OK);
    assert_in_range(writes, 3, OLD_ROWS); /* else nothing was shown here */
    assert_as_if_made_at_once(fixture);
    assert_found(fixture, "changed",
                 support_schema_query(fixture, "SELECT COUNT(*) FROM posts WHERE title "
                                               "LIKE 'changed%'"));
}

static void building_goes_on_after_a_restart(void **state) {
    struct support_schema *fixture = *state;
    uint32_t percent;
    begin_to_build(fixture);
    restart(fixture);
    assert_int_equal(progress(fixture, &percent), BK_OK);
    finish_building(fixture);
    assert_as_if_made_at_once(fixture);
}

/* Slices of the former schema must not write what the new one does not have. */
static void a_change_of_the_schema_meets_a_building(void **state) {
    struct support_schema *fixture = *state;
    begin_to_build(fixture);
    assert_int_equal(UPDATE("{'search':{'fields':['body','title']}}"), BK_OK);
    assert_int_equal(UPDATE("{'listRule':''}"), BK_OK);
    assert_int_equal(UPDATE("{'search':{'fields':['title','body']}}"), BK_OK);
    finish_building(fixture);
    assert_as_if_made_at_once(fixture);
    assert_int_equal(UPDATE("{'search':{'fields':['body']}}"), BK_OK);
    assert_int_equal(UPDATE("{'search':null}"), BK_OK);
    assert_string_equal(support_schema_query(fixture, "SELECT COUNT(*) FROM _searches"), "0");
    assert_int_equal(support_schema_execute(fixture, "SELECT 1"), BK_OK);
}

/* An id may be the name of another collection. */
static void another_collection_of_that_name_is_left_alone(void **state) {
    struct support_schema *fixture = *state;
    uint32_t percent;
    assert_int_equal(UPDATE("{'search':null}"), BK_OK);
    assert_int_equal(
        CREATE("{'id':'posts','name':'notes','fields':[{'name':'text','type':'text'}]}"), BK_OK);
    assert_int_equal(
        support_schema_execute(fixture,
                               "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE "
                               "i<2000) INSERT INTO notes (id, text) SELECT 'n'||i, 'word' FROM n"),
        BK_OK);
    assert_int_equal(
        support_schema_change(fixture, BK_SCHEMA_UPDATE, "notes", "{'search':{'fields':['text']}}"),
        BK_OK);
    while (bk_search_progress(bk_store_read_now(fixture->kernel.tenant->database),
                              support_schema_find(fixture, "notes"), &percent) == BK_OK)
        assert_int_equal(support_schema_execute(fixture, "SELECT 1"), BK_OK);
    assert_string_equal(support_schema_query(fixture,
                                             "SELECT COUNT(*) FROM \"_search_posts\" WHERE "
                                             "\"_search_posts\" MATCH 'word'"),
                        "2000");
    /* And what belongs to no collection goes. */
    assert_int_equal(
        support_schema_execute(fixture, "INSERT INTO _searches VALUES ('nobody', '[]', 0, 5)"),
        BK_OK);
    restart(fixture);
    for (int i = 0; i < 3; i++)
        assert_int_equal(support_schema_execute(fixture, "SELECT 1"), BK_OK);
    assert_string_equal(support_schema_query(fixture, "SELECT collection FROM _searches"), "posts");
}

/* A slice that fails is tried again. */
static void what_cannot_be_written_now_is_written_later(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(bk_failpoint_configure("schema.search_slice:error@1"), BK_OK);
    begin_to_build(fixture);
    finish_building(fixture);
    assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
    assert_as_if_made_at_once(fixture);
}

static void what_is_there_is_found_when_the_option_comes_or_changes(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_insert(fixture, "posts", "{'title':'foxes','body':'hill'}"),
                     BK_OK);
    assert_int_equal(UPDATE("{'search':{'fields':['title'],'tokenizer':'porter'}}"), BK_OK);
    assert_found(fixture, "fox", "1");
    assert_found(fixture, "hill", "0");
    assert_int_equal(UPDATE("{'search':null}"), BK_OK);
    assert_string_equal(support_schema_query(fixture, all_tables), "0");
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
    assert_string_equal(support_schema_query(fixture, all_tables), "0");
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
        "{'search':{'field':['title']}}",
        "{'search':{'fields':[]}}",
        "{'search':{'fields':['title'],'tokeniser':'porter'}}",
        "{'search':{'fields':1}}",
        "{'fields':[{'name':'x','type':'text'}]}", /* of which the search would be gone */
    };
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        assert_int_equal(UPDATE(wrong[i]), BK_INVALID);
    assert_int_equal(
        CREATE("{'name':'seen','type':'view','viewQuery':'SELECT id, title FROM posts',"
               "'search':{'fields':['title']}}"),
        BK_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(words_follow_every_row_and_go_back_with_it),
        TEST(the_words_of_a_transaction_are_written_together),
        TEST(the_table_of_an_older_version_is_made_anew),
        TEST(it_is_the_same_table_after_renames_and_needs_no_word_of_them),
        TEST(a_former_name_in_the_option_is_the_field_that_had_it),
        TEST(words_that_are_written_in_slices_are_those_of_a_table_made_at_once),
        TEST(building_goes_on_after_a_restart),
        TEST(a_change_of_the_schema_meets_a_building),
        TEST(another_collection_of_that_name_is_left_alone),
        TEST(what_cannot_be_written_now_is_written_later),
        TEST(what_is_there_is_found_when_the_option_comes_or_changes),
        TEST(it_survives_changes_of_the_table),
        TEST(what_cannot_be_searched_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
