/* What comes along with a record, on a real store. */
#include "bakend/show.h"

#include "schema_fixture.h"
#include <stdio.h>

static int setup(void **state) {
    static const char *const definitions[] = {
        "{'name':'people','viewRule':'','fields':[{'name':'name','type':'text'},"
        "{'name':'note','type':'text','hidden':true}]}",
        "{'name':'closed','fields':[{'name':'x','type':'text'}]}",
        "{'name':'posts','viewRule':'','fields':[{'name':'title','type':'text'},"
        "{'name':'author','type':'relation','collectionId':'@people@','maxSelect':1},"
        "{'name':'editors','type':'relation','collectionId':'@people@','maxSelect':9},"
        "{'name':'secret','type':'relation','collectionId':'@closed@','maxSelect':1}]}",
        "{'name':'likes','viewRule':'','fields':[{'name':'post','type':'relation',"
        "'collectionId':'@posts@','maxSelect':1}],"
        "'indexes':['CREATE UNIQUE INDEX i_likes ON likes (post)']}",
    };
    static const char *const records[][2] = {
        {"people", "{'id':'person000000001','name':'Ann','note':'hidden'}"},
        {"people", "{'id':'person000000002','name':'Bob'}"},
        {"posts", "{'id':'post00000000001','title':'one','author':'person000000001',"
                  "'editors':['person000000002','person000000001']}"},
        {"posts", "{'id':'post00000000002','title':'two'}"},
        {"likes", "{'id':'like00000000001','post':'post00000000001'}"},
    };
    support_schema_setup(state);
    struct support_schema *fixture = *state;
    for (size_t i = 0; i < BK_COUNT_OF(definitions); i++) {
        char json[1024];
        size_t length = 0;
        struct bk_slice rest = bk_slice_from(definitions[i]), part;
        /* A relation names a collection by its id: @people@. */
        for (bool is_name = false; bk_slice_split(&rest, '@', &part); is_name = !is_name) {
            char name[32];
            snprintf(name, sizeof name, "%.*s", BK_SLICE_PRINT(part));
            if (is_name)
                part = support_schema_find(fixture, name)->id;
            length +=
                (size_t)snprintf(json + length, sizeof json - length, "%.*s", BK_SLICE_PRINT(part));
        }
        assert_int_equal(support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json), BK_OK);
    }
    for (size_t i = 0; i < BK_COUNT_OF(records); i++)
        assert_int_equal(support_schema_insert(fixture, records[i][0], records[i][1]), BK_OK);
    return 0;
}

/* The `expand` of a post, "" when there is none. dropped: how many paths lead nowhere. */
static const char *expand_of(struct support_schema *fixture, const struct bk_actor *actor,
                             const char *id, const char *paths, uint32_t *dropped) {
    static char text[8192];
    const struct bk_collection *posts = support_schema_find(fixture, "posts");
    struct bk_connection *connection = bk_store_read_now(fixture->kernel.tenant->database);
    struct bk_value values[SUPPORT_SCHEMA_FIELDS_MAX];
    struct bk_statement *statement;
    struct bk_asker asker;
    struct bk_show *show;
    struct bk_buffer out;
    bk_buffer_init(&out, 64 * 1024);
    bk_asker_init(&asker, bk_schema_current(fixture->kind, fixture->kernel.tenant), actor, NULL);
    assert_int_equal(bk_show_make(&show, &fixture->arena, &asker, posts, bk_slice_from(paths)),
                     BK_OK);
    assert_int_equal(bk_connection_statement(connection, &posts->select_by_id, &statement), BK_OK);
    bk_statement_bind_text(statement, 1, bk_slice_from(id));
    assert_int_equal(bk_statement_step(statement), BK_OK);
    bk_record_read(posts, statement, values);
    assert_int_equal(bk_show_write(show, connection, values, &out), BK_OK);
    bk_statement_reset(statement);
    *dropped = bk_show_dropped(show);
    text[0] = '\0';
    struct bk_json *json;
    assert_int_equal(bk_json_parse(&fixture->arena, bk_buffer_slice(&out), &json, NULL), BK_OK);
    const struct bk_json *expand = bk_json_get(json, BK_SLICE("expand"));
    if (expand != NULL)
        snprintf(text, sizeof text, "%.*s", BK_SLICE_PRINT(expand->text));
    bk_buffer_fini(&out);
    return text;
}

static const struct bk_actor superuser = {.kind = BK_ACTOR_SUPERUSER};

static void assert_names(const char *expand, const char *const *names, size_t count) {
    const char *place = expand;
    for (size_t i = 0; i < count; i++) {
        place = strstr(place, names[i]);
        if (place == NULL)
            fail_msg("no %s in %s", names[i], expand);
    }
}

static void a_relation_is_an_object_and_several_are_a_list_in_their_order(void **state) {
    uint32_t dropped;
    static const char *const names[] = {"{\"author\":{", "\"Ann\"", "},\"editors\":[{",
                                        "\"Bob\"",       "\"Ann\"", "}]}"};
    const char *expand =
        expand_of(*state, &bk_actor_guest, "post00000000001", "author,editors", &dropped);
    assert_names(expand, names, BK_COUNT_OF(names));
    assert_null(strstr(expand, "hidden"));
    assert_int_equal(dropped, 0);
    assert_non_null(
        strstr(expand_of(*state, &superuser, "post00000000001", "author", &dropped), "hidden"));
}

static void what_refers_to_a_record_comes_along_and_a_unique_one_as_an_object(void **state) {
    uint32_t dropped;
    static const char *const names[] = {"{\"author\":{", "\"expand\":{\"posts_via_author\":[{",
                                        "\"one\"", "}]}}"};
    static const char *const like[] = {"{\"likes_via_post\":{", "like00000000001"};
    assert_names(
        expand_of(*state, &bk_actor_guest, "post00000000001", "author.posts_via_author", &dropped),
        names, BK_COUNT_OF(names));
    assert_names(expand_of(*state, &bk_actor_guest, "post00000000001", "likes_via_post", &dropped),
                 like, 2);
}

static void what_is_asked_for_and_empty_is_an_empty_object(void **state) {
    uint32_t dropped;
    assert_string_equal(
        expand_of(*state, &bk_actor_guest, "post00000000002", " author , editors,", &dropped),
        "{}");
    assert_string_equal(expand_of(*state, &bk_actor_guest, "post00000000002", ",", &dropped), "");
}

static void a_path_that_leads_nowhere_is_dropped_where_that_shows(void **state) {
    uint32_t dropped;
    static const char *const nowhere[] = {
        "nope",   "title",         "author.nope",    "author.name",          "author..x",
        "secret", "nope_via_post", "likes_via_nope", "author.likes_via_post"};
    for (size_t i = 0; i < BK_COUNT_OF(nowhere); i++) {
        assert_string_equal(
            expand_of(*state, &bk_actor_guest, "post00000000001", nowhere[i], &dropped), "");
        assert_int_equal(dropped, 1);
    }
    /* Nobody is the author: that there is no such field of authors is not found out. */
    assert_string_equal(
        expand_of(*state, &bk_actor_guest, "post00000000002", "author.nope", &dropped), "{}");
    assert_int_equal(dropped, 0);
    /* For superusers it leads somewhere. */
    assert_string_equal(expand_of(*state, &superuser, "post00000000001", "secret", &dropped), "{}");
}

static void only_so_many_relations_are_followed(void **state) {
    struct support_schema *fixture = *state;
    const struct bk_collection *posts = support_schema_find(fixture, "posts");
    struct bk_asker asker;
    struct bk_show *show;
    char paths[16 * (BK_EXPAND_NODES_MAX + 1)];
    size_t length = 0;
    bk_asker_init(&asker, bk_schema_current(fixture->kind, fixture->kernel.tenant), &superuser,
                  NULL);
    for (int i = 0; i <= BK_EXPAND_NODES_MAX; i++)
        length += (size_t)snprintf(paths + length, sizeof paths - length, "author.x%d,", i);
    assert_int_equal(
        bk_show_make(&show, &fixture->arena, &asker, posts, bk_slice_make(paths, length)),
        BK_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_relation_is_an_object_and_several_are_a_list_in_their_order),
        cmocka_unit_test(what_refers_to_a_record_comes_along_and_a_unique_one_as_an_object),
        cmocka_unit_test(what_is_asked_for_and_empty_is_an_empty_object),
        cmocka_unit_test(a_path_that_leads_nowhere_is_dropped_where_that_shows),
        cmocka_unit_test(only_so_many_relations_are_followed),
    };
    return cmocka_run_group_tests(tests, setup, support_schema_teardown);
}
