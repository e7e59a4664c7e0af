/* Views on a real store: what their queries give, how they follow, what they may not read; and
 * changes of several collections at once. */
#include "schema_private.h"

#include "schema_fixture.h"
#include <stdio.h>

#define CREATE(json) support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json)
#define UPDATE(name, json) support_schema_change(fixture, BK_SCHEMA_UPDATE, name, json)
#define DELETE(name) support_schema_change(fixture, BK_SCHEMA_DELETE, name, NULL)

static void make_posts(struct support_schema *fixture) {
    assert_int_equal(CREATE("{'name':'posts','fields':[{'name':'title','type':'text'},"
                            "{'name':'n','type':'number'},"
                            "{'name':'tags','type':'select','values':['a','b'],'maxSelect':1}]}"),
                     BK_OK);
    assert_int_equal(
        support_schema_insert(fixture, "posts",
                              "{'id':'aaaaaaaaaaaaaaa','title':'one','n':1,'tags':'a'}"),
        BK_OK);
}

static void assert_field(struct support_schema *fixture, const char *collection, uint32_t index,
                         const char *name, const char *type) {
    const struct bk_collection *found = support_schema_find(fixture, collection);
    assert_true(index < found->field_count);
    assert_true(bk_slice_equal(found->fields[index].name, bk_slice_from(name)));
    assert_string_equal(found->fields[index].type->name, type);
}

static void its_fields_are_what_its_columns_stand_for(void **state) {
    struct support_schema *fixture = *state;
    make_posts(fixture);
    assert_int_equal(
        CREATE("{'name':'v','type':'view','viewQuery':'select id, title as t, id as post, "
               "count(*) as total, cast(n as text) as word, (n * 2) as twice, tags from posts'}"),
        BK_OK);
    static const char *const expected[][2] = {
        {"id", "text"},   {"t", "text"},     {"post", "relation"}, {"total", "number"},
        {"word", "text"}, {"twice", "json"}, {"tags", "select"},
    };
    for (uint32_t i = 0; i < BK_COUNT_OF(expected); i++)
        assert_field(fixture, "v", i, expected[i][0], expected[i][1]);
    const char *record = support_schema_record(fixture, "v", "aaaaaaaaaaaaaaa");
    assert_non_null(strstr(record, "'t':'one','post':'aaaaaaaaaaaaaaa','total':1"));
    assert_non_null(strstr(record, "'twice':2,'tags':'a'"));
}

static void what_is_wrong_with_its_query_is_told(void **state) {
    struct support_schema *fixture = *state;
    make_posts(fixture);
    static const char *const queries[] = {
        "select title from posts",
        "select * from posts",
        "select nope as id from posts",
        "select id from nope",
        "delete from posts",
        "select id from posts; select 1",
        "select id, n + 1 as m from posts",
        "select payload as id from _journal",
        "select id from _collections",
        "select load_extension(1) as id",
        "select id from posts where id = ?",
    };
    for (size_t i = 0; i < BK_COUNT_OF(queries); i++) {
        char json[256];
        snprintf(json, sizeof json, "{'name':'v','type':'view','viewQuery':'%s'}", queries[i]);
        assert_int_equal(CREATE(json), BK_INVALID);
        assert_non_null(strstr(support_schema_problems(fixture),
                               "'viewQuery':{'code':'validation_invalid_view_query'"));
    }
    assert_string_equal(
        support_schema_query(fixture, "SELECT count(*) FROM sqlite_master WHERE type = 'view'"),
        "0");
}

static void it_follows_what_it_reads(void **state) {
    struct support_schema *fixture = *state;
    make_posts(fixture);
    assert_int_equal(CREATE("{'name':'v','type':'view','viewQuery':'select id, tags from posts'}"),
                     BK_OK);
    assert_int_equal(
        CREATE("{'name':'vv','type':'view','viewQuery':'select id, tags as more from v'}"), BK_OK);
    const char *definition = support_schema_definition(fixture, "posts");
    char changed[SUPPORT_SCHEMA_TEXT_BYTES];
    const char *mark = strstr(definition, "'maxSelect':1");
    assert_non_null(mark);
    snprintf(changed, sizeof changed, "%.*s'maxSelect':2%s", (int)(mark - definition), definition,
             mark + strlen("'maxSelect':1"));
    assert_int_equal(UPDATE("posts", changed), BK_OK);
    assert_true(bk_field_is_multiple(&support_schema_find(fixture, "v")->fields[1]));
    assert_true(bk_field_is_multiple(&support_schema_find(fixture, "vv")->fields[1]));
    assert_non_null(strstr(support_schema_record(fixture, "vv", "aaaaaaaaaaaaaaa"), "['a']"));
}

/* What it reads gets another name, and it goes on to answer under the one that it was given. */
static void it_keeps_its_names_when_a_field_is_renamed(void **state) {
    struct support_schema *fixture = *state;
    make_posts(fixture);
    assert_int_equal(CREATE("{'name':'v','type':'view','viewQuery':'select tags, id from posts'}"),
                     BK_OK);
    const char *definition = support_schema_definition(fixture, "posts");
    char changed[SUPPORT_SCHEMA_TEXT_BYTES];
    const char *mark = strstr(definition, "'name':'tags'");
    assert_non_null(mark);
    snprintf(changed, sizeof changed, "%.*s'name':'labels'%s", (int)(mark - definition), definition,
             mark + strlen("'name':'tags'"));
    assert_int_equal(UPDATE("posts", changed), BK_OK);
    assert_non_null(strstr(support_schema_record(fixture, "v", "aaaaaaaaaaaaaaa"), "'tags':'a'"));
}

static void nothing_is_deleted_that_it_needs(void **state) {
    struct support_schema *fixture = *state;
    make_posts(fixture);
    assert_int_equal(CREATE("{'name':'v','type':'view','viewQuery':'select id from posts'}"),
                     BK_OK);
    assert_int_equal(DELETE("posts"), BK_INVALID);
    assert_string_equal(fixture->error.message,
                        "Failed to delete collection: the view v needs it.");
    assert_int_equal(DELETE("v"), BK_OK);
    assert_int_equal(DELETE("posts"), BK_OK);
}

static void one_that_does_not_compile_is_in_nobodys_way(void **state) {
    struct support_schema *fixture = *state;
    make_posts(fixture);
    assert_int_equal(CREATE("{'name':'other','fields':[{'name':'x','type':'text'}]}"), BK_OK);
    assert_int_equal(CREATE("{'name':'v','type':'view','viewQuery':'select id from posts'}"),
                     BK_OK);
    assert_int_equal(support_schema_execute(fixture, "DROP VIEW v; CREATE VIEW v AS SELECT nope "
                                                     "AS id FROM posts"),
                     BK_OK);
    assert_int_equal(UPDATE("other", "{'name':'another','fields':[]}"), BK_OK);
    assert_string_equal(
        support_schema_query(fixture, "SELECT count(*) FROM sqlite_master WHERE name = 'v'"), "1");
}

static void texts_in_double_quotes_are_texts(void **state) {
    struct support_schema *fixture = *state;
    make_posts(fixture);
    assert_int_equal(CREATE("{'name':'v','type':'view','viewQuery':'select id, iif(n > 0, "
                            "\\'it\\', \\'\\') as word from posts'}"),
                     BK_OK);
    assert_non_null(strstr(support_schema_record(fixture, "v", "aaaaaaaaaaaaaaa"), "'word':'it'"));
}

/* --- several at once -------------------------------------------------------------------------- */

struct several {
    struct bk_schema_change change;
    enum bk_status status;
    bool is_done;
    uint32_t ran;
};

static void on_done(struct bk_schema_change *change, enum bk_status status) {
    struct several *several = bk_container_of(change, struct several, change);
    several->status = status;
    several->is_done = true;
}

static enum bk_status on_run_also(struct bk_schema_change *change,
                                  struct bk_transaction *transaction) {
    (void)transaction;
    bk_container_of(change, struct several, change)->ran++;
    return BK_OK;
}

static enum bk_status run(struct support_schema *fixture, struct several *several,
                          const struct bk_schema_step *steps, uint32_t count) {
    bk_problems_init(&fixture->problems, &fixture->arena);
    several->change.tenant = fixture->kernel.tenant;
    several->change.steps = steps;
    several->change.step_count = count;
    several->change.run_also = on_run_also;
    several->change.arena = &fixture->arena;
    several->change.problems = &fixture->problems;
    several->change.done = on_done;
    bk_schema_change(fixture->kind, &several->change);
    support_loop_run_until(fixture->kernel.loop, &several->is_done);
    return several->status;
}

static void steps_are_judged_by_the_schema_after_them(void **state) {
    struct support_schema *fixture = *state;
    const struct bk_schema_step steps[] = {
        {.action = BK_SCHEMA_CREATE,
         .definition = support_schema_json(
             fixture, "{'id':'aaa','name':'a','fields':[{'name':'b','type':'relation',"
                      "'collectionId':'bbb'}]}")},
        {.action = BK_SCHEMA_CREATE,
         .definition = support_schema_json(
             fixture, "{'id':'bbb','name':'b','fields':[{'name':'a','type':'relation',"
                      "'collectionId':'aaa'}]}")},
        {.action = BK_SCHEMA_CREATE,
         .definition = support_schema_json(
             fixture, "{'name':'v','type':'view','viewQuery':'select id, b from a'}")},
    };
    struct several several = {.status = BK_OK};
    assert_int_equal(run(fixture, &several, steps, BK_COUNT_OF(steps)), BK_OK);
    assert_int_equal(several.ran, 1);
    assert_field(fixture, "v", 1, "b", "relation");
}

static void one_wrong_step_takes_all_back(void **state) {
    struct support_schema *fixture = *state;
    const struct bk_schema_step steps[] = {
        {.action = BK_SCHEMA_CREATE, .definition = support_schema_json(fixture, "{'name':'a'}")},
        {.action = BK_SCHEMA_CREATE,
         .definition = support_schema_json(
             fixture, "{'name':'v','type':'view','viewQuery':'select nope from a'}")},
    };
    struct several several = {.status = BK_OK};
    assert_int_equal(run(fixture, &several, steps, BK_COUNT_OF(steps)), BK_INVALID);
    assert_int_equal(several.change.failed_step, 1);
    assert_int_equal(several.ran, 0);
    assert_null(
        bk_schema_find(bk_schema_current(fixture->kind, fixture->kernel.tenant), BK_SLICE("a")));
}

static void a_trial_leaves_nothing(void **state) {
    struct support_schema *fixture = *state;
    const struct bk_schema_step steps[] = {
        {.action = BK_SCHEMA_CREATE, .definition = support_schema_json(fixture, "{'name':'a'}")},
    };
    struct several several = {.change = {.is_trial = true}};
    assert_int_equal(run(fixture, &several, steps, BK_COUNT_OF(steps)), BK_OK);
    assert_int_equal(several.ran, 1);
    assert_null(
        bk_schema_find(bk_schema_current(fixture->kind, fixture->kernel.tenant), BK_SLICE("a")));
    assert_string_equal(
        support_schema_query(fixture, "SELECT count(*) FROM sqlite_master WHERE name = 'a'"), "0");
    assert_int_equal(CREATE("{'name':'a'}"), BK_OK);
}

static void a_scaffold_has_neither_id_nor_name(void **state) {
    struct support_schema *fixture = *state;
    struct bk_buffer out;
    bk_buffer_init(&out, SUPPORT_SCHEMA_TEXT_BYTES);
    assert_int_equal(bk_schema_write_scaffold(fixture->kind, BK_COLLECTION_VIEW, &out), BK_OK);
    bk_buffer_append_char(&out, '\0');
    assert_non_null(strstr(out.data, "\"id\":\"\""));
    assert_non_null(strstr(out.data, "\"fields\":[]"));
    assert_non_null(strstr(out.data, "\"viewQuery\":\"\""));
    bk_buffer_fini(&out);
}

#define VIEW_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_schema_setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        VIEW_TEST(its_fields_are_what_its_columns_stand_for),
        VIEW_TEST(what_is_wrong_with_its_query_is_told),
        VIEW_TEST(it_follows_what_it_reads),
        VIEW_TEST(it_keeps_its_names_when_a_field_is_renamed),
        VIEW_TEST(nothing_is_deleted_that_it_needs),
        VIEW_TEST(one_that_does_not_compile_is_in_nobodys_way),
        VIEW_TEST(texts_in_double_quotes_are_texts),
        VIEW_TEST(steps_are_judged_by_the_schema_after_them),
        VIEW_TEST(one_wrong_step_takes_all_back),
        VIEW_TEST(a_trial_leaves_nothing),
        VIEW_TEST(a_scaffold_has_neither_id_nor_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
