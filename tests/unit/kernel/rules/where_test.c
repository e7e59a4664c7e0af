/* What a rule hides costs a client's filter nothing, so that the clock does not tell what is in it:
 * counted in steps of SQLite's program, which are the same on every machine. */
#include "bakend/rules.h"

#include "schema_fixture.h"
#include <stdio.h>

enum { ARENA_BYTES = 1024 * 1024, ROWS = 200, SEEN = 5 };

#define CREATE(json)                                                                               \
    if (support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json) != BK_OK)                     \
    fail_msg("%s: %s", json, support_schema_problems(fixture))

static int setup(void **state) {
    support_schema_setup(state);
    struct support_schema *fixture = *state;
    bk_schema_set_rule_check(fixture->kind, bk_rule_is_valid);
    CREATE("{'name':'members','id':'members00000000','fields':[{'name':'room','type':'text'},"
           "{'name':'user','type':'text'}],'indexes':['CREATE INDEX member ON members (room)']}");
    CREATE("{'name':'owners','id':'owners000000000','listRule':'open = true','fields':["
           "{'name':'name','type':'text'},{'name':'open','type':'bool'}]}");
    CREATE("{'name':'posts','id':'posts0000000000','fields':[{'name':'title','type':'text'},"
           "{'name':'code','type':'text'},{'name':'room','type':'text'},"
           "{'name':'kind','type':'text'},{'name':'word','type':'text'},"
           "{'name':'owner','type':'relation','collectionId':'owners000000000'},"
           "{'name':'owners','type':'relation','maxSelect':9,"
           "'collectionId':'owners000000000'}],'indexes':['CREATE INDEX code ON posts (code)',"
           "'CREATE INDEX kind ON posts (kind) WHERE room != code',"
           "'CREATE INDEX word ON posts (word COLLATE NOCASE)']}");
    CREATE("{'name':'notes','listRule':'','fields':[{'name':'text','type':'text'},"
           "{'name':'post','type':'relation','collectionId':'posts0000000000'}],"
           "'indexes':['CREATE INDEX note ON notes (post)']}");
    assert_int_equal(support_schema_execute(fixture, "INSERT INTO members (id, room, user) VALUES "
                                                     "('m', 'open', 'me');"
                                                     "INSERT INTO owners (id, name, open) VALUES "
                                                     "('hidden', 'x', 0), ('seen', 'y', 1)"),
                     BK_OK);
    return 0;
}

/* Posts that nobody may see, with this title, and a few that everybody may. */
static void fill(struct support_schema *fixture, const char *title, const char *note) {
    char sql[1024];
    assert_int_equal(support_schema_execute(fixture, "DELETE FROM posts WHERE 1;"
                                                     "DELETE FROM notes WHERE 1"),
                     BK_OK);
    snprintf(sql, sizeof sql,
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
             "INSERT INTO posts (id, title, code, room, owner, owners) SELECT 'p' || i, '%s', "
             "'c' || i, iif(i <= %d, 'open', 'shut'), 'seen', '[\"seen\"]' FROM n;"
             "INSERT INTO notes (id, text, post) SELECT 'n' || id, '%s', id FROM posts "
             "WHERE room = 'shut'",
             ROWS, title, SEEN, note);
    assert_int_equal(support_schema_execute(fixture, sql), BK_OK);
    assert_int_equal(
        support_schema_execute(fixture, "UPDATE posts SET title = 'seen' WHERE room = 'open'"),
        BK_OK);
}

struct list {
    struct bk_arena arena;
    struct bk_filter_sql condition;
};

static void make(struct support_schema *fixture, struct list *list, const char *rule,
                 const char *filter) {
    const struct {
        const char *text;
        enum bk_filter_trust trust;
    } parts[] = {{rule, BK_FILTER_OF_RULE}, {filter, BK_FILTER_OF_CLIENT}};
    struct bk_asker asker;
    struct bk_filter_scope scope;
    struct bk_filter *parsed;
    bk_arena_init(&list->arena, ARENA_BYTES);
    bk_asker_init(&asker, bk_schema_current(fixture->kind, fixture->kernel.tenant), &bk_actor_guest,
                  NULL);
    bk_asker_scope(&asker, support_schema_find(fixture, "posts"), 1, &scope);
    struct bk_filter_query *query = bk_filter_query_create(&list->arena, &scope);
    for (size_t i = 0; i < BK_COUNT_OF(parts); i++) {
        struct bk_slice text = bk_slice_from(parts[i].text);
        assert_int_equal(bk_filter_parse(&list->arena, text, BK_RULE_BYTES_MAX, &parsed, NULL),
                         BK_OK);
        assert_int_equal(bk_filter_query_add(query, parsed, parts[i].trust, NULL), BK_OK);
    }
    assert_int_equal(bk_filter_query_finish(query, &list->condition), BK_OK);
}

static uint64_t count_steps(struct support_schema *fixture, const char *rule, const char *filter) {
    struct bk_connection *connection = bk_store_read_now(fixture->kernel.tenant->database);
    struct bk_statement *statement;
    struct list list;
    make(fixture, &list, rule, filter);
    const struct bk_sql sql = bk_sql_make(bk_arena_format(
        &list.arena, "SELECT posts.id FROM posts%.*s WHERE %.*s",
        BK_SLICE_PRINT(list.condition.joins), BK_SLICE_PRINT(list.condition.where)));
    if (bk_connection_statement(connection, &sql, &statement) != BK_OK)
        fail_msg("%.*s: %s", BK_SLICE_PRINT(sql.text), bk_connection_error(connection));
    (void)bk_statement_take_steps(statement);
    for (uint32_t i = 0; i < list.condition.value_count; i++)
        bk_statement_bind(statement, (int)i + 1, &list.condition.values[i]);
    while (bk_statement_step(statement) == BK_OK)
        continue;
    uint64_t steps = bk_statement_take_steps(statement);
    bk_statement_reset(statement);
    bk_arena_fini(&list.arena);
    return steps;
}

static const char *const rules[] = {
    "@collection.members.room ?= room && @collection.members.user ?= 'me'", "room = 'open'",
    "(room = 'open' || @collection.members.room ?= room)"};

static void hidden_rows_cost_a_filter_the_same_whatever_is_in_them(void **state) {
    struct support_schema *fixture = *state;
    static const char *const filters[] = {"title ~ 'secret'",
                                          "title = 'secret'",
                                          "title != 'other' && title ~ 'secret'",
                                          "title = 'secret' && notes_via_post.text ?~ 'secret'",
                                          "notes_via_post.text = 'secret'",
                                          "title:lower = 'secret'",
                                          "owners.name ?~ 'secret' || title ~ 'secret'"};
    for (size_t r = 0; r < BK_COUNT_OF(rules); r++) {
        for (size_t i = 0; i < BK_COUNT_OF(filters); i++) {
            fill(fixture, "secret", "secret");
            uint64_t with = count_steps(fixture, rules[r], filters[i]);
            fill(fixture, "other", "other");
            uint64_t without = count_steps(fixture, rules[r], filters[i]);
            if (with != without)
                fail_msg("%s, %s: %llu steps, or %llu", rules[r], filters[i],
                         (unsigned long long)with, (unsigned long long)without);
        }
    }
}

/* An index of some rows, one that compares otherwise, and two columns of one row. */
static void what_an_index_does_not_serve_is_asked_of_no_hidden_row(void **state) {
    struct support_schema *fixture = *state;
    static const char *const filters[] = {"kind = 'secret'", "word = 'secret'", "code = id",
                                          "(kind = 'secret' || code = 'none')"};
    fill(fixture, "other", "other");
    for (size_t i = 0; i < BK_COUNT_OF(filters); i++) {
        uint64_t steps[2];
        for (size_t k = 0; k < 2; k++) {
            assert_int_equal(
                support_schema_execute(
                    fixture, k == 0 ? "UPDATE posts SET kind = 'secret', word = 'secret', "
                                      "code = id WHERE room = 'shut'"
                                    : "UPDATE posts SET kind = 'other', word = 'other', "
                                      "code = 'c' || id WHERE room = 'shut'"),
                BK_OK);
            steps[k] = count_steps(fixture, rules[0], filters[i]);
        }
        if (steps[0] != steps[1])
            fail_msg("%s: %llu steps, or %llu", filters[i], (unsigned long long)steps[0],
                     (unsigned long long)steps[1]);
    }
}

static void hidden_records_that_a_relation_leads_to_are_not_compared(void **state) {
    struct support_schema *fixture = *state;
    static const char *const filters[] = {"owner.name ~ 'secret'", "owner.name != 'secret'",
                                          "owners.name ?~ 'secret'", "owners.name ~ 'secret'",
                                          "owners.name != 'secret'"};
    fill(fixture, "other", "other");
    assert_int_equal(support_schema_execute(fixture, "UPDATE posts SET owner = 'hidden', owners = "
                                                     "'[\"hidden\"]' WHERE 1"),
                     BK_OK);
    for (size_t i = 0; i < BK_COUNT_OF(filters); i++) {
        uint64_t steps[2];
        for (size_t k = 0; k < 2; k++) {
            assert_int_equal(
                support_schema_execute(fixture, k == 0 ? "UPDATE owners SET name = 'secret' "
                                                         "WHERE id = 'hidden'"
                                                       : "UPDATE owners SET name = 'x' "
                                                         "WHERE id = 'hidden'"),
                BK_OK);
            steps[k] = count_steps(fixture, "room = 'open'", filters[i]);
        }
        if (steps[0] != steps[1])
            fail_msg("%s: %llu steps, or %llu", filters[i], (unsigned long long)steps[0],
                     (unsigned long long)steps[1]);
    }
}

/* The table is not read from end to end. */
static void what_an_index_can_serve_is_still_served(void **state) {
    struct support_schema *fixture = *state;
    fill(fixture, "other", "other");
    for (size_t r = 0; r < BK_COUNT_OF(rules); r++) {
        assert_true(count_steps(fixture, rules[r], "code = 'c77'") < ROWS);
        assert_true(count_steps(fixture, rules[r], "code = 'c77' && title ~ 'x'") < ROWS);
        assert_true(count_steps(fixture, rules[r], "(code = 'c77' || code = 'c78')") < ROWS);
        assert_true(count_steps(fixture, rules[r], "id = 'p77'") < ROWS);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(hidden_rows_cost_a_filter_the_same_whatever_is_in_them),
        TEST(what_an_index_does_not_serve_is_asked_of_no_hidden_row),
        TEST(hidden_records_that_a_relation_leads_to_are_not_compared),
        TEST(what_an_index_can_serve_is_still_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
