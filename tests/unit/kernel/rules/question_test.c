/* Questions: what is answered without tables, and what is not. That the answers are right is proved
 * by evaluate_test. */
#include "bakend/rules.h"

#include "schema_fixture.h"

enum { ARENA_BYTES = 1024 * 1024 };

struct world {
    struct support_schema *fixture;
    const struct bk_collection *posts, *people;
    struct bk_actor actor;
    struct bk_asker asker;
    struct bk_arena arena;
    struct bk_value post[SUPPORT_SCHEMA_FIELDS_MAX], person[SUPPORT_SCHEMA_FIELDS_MAX];
};

static void define(struct support_schema *fixture, const char *json) {
    if (support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json) != BK_OK)
        fail_msg("%s: %s", json, support_schema_problems(fixture));
}

static void set_text(const struct bk_collection *collection, struct bk_value *values,
                     const char *name, const char *text) {
    const struct bk_field *field = bk_collection_field(collection, bk_slice_from(name));
    values[field->index] = BK_VALUE_OF_TEXT(bk_slice_from(text));
}

static void empty_record(const struct bk_collection *collection, struct bk_value *values) {
    for (uint32_t i = 0; i < collection->field_count; i++)
        collection->fields[i].type->empty(&collection->fields[i], &values[i]);
}

static void world_init(struct world *world, void **state) {
    *world = (struct world){.fixture = *state};
    define(world->fixture, "{'name':'people','id':'people000000000','listRule':'',"
                           "'fields':[{'name':'name','type':'text'}]}");
    define(world->fixture,
           "{'name':'posts','fields':[{'name':'title','type':'text'},"
           "{'name':'room','type':'text'},{'name':'at','type':'date'},"
           "{'name':'author','type':'relation','collectionId':'people000000000'}]}");
    world->posts = support_schema_find(world->fixture, "posts");
    world->people = support_schema_find(world->fixture, "people");
    world->actor = (struct bk_actor){.kind = BK_ACTOR_RECORD,
                                     .id = BK_SLICE("person000000001"),
                                     .collection_id = world->people->id};
    bk_asker_init(
        &world->asker, bk_schema_current(world->fixture->kind, world->fixture->kernel.tenant),
        &world->actor, support_schema_json(world->fixture, "{'auth':{'id':'person000000001'}}"));
    bk_arena_init(&world->arena, ARENA_BYTES);
    empty_record(world->posts, world->post);
    empty_record(world->people, world->person);
    set_text(world->posts, world->post, "title", "hello");
    set_text(world->posts, world->post, "author", "person000000001");
    set_text(world->people, world->person, "name", "ann");
}

static void world_fini(struct world *world) {
    bk_arena_fini(&world->arena);
    support_schema_change(world->fixture, BK_SCHEMA_DELETE, "posts", NULL);
    support_schema_change(world->fixture, BK_SCHEMA_DELETE, "people", NULL);
}

static void make(struct world *world, struct bk_question *question, const char *rule) {
    assert_int_equal(bk_question_make(question, &world->arena, &world->asker, world->posts,
                                      bk_slice_from(rule), BK_QUESTION_OF_EVENT),
                     BK_OK);
}

static enum bk_answer judge(struct world *world, const char *rule) {
    struct bk_question question;
    make(world, &question, rule);
    return bk_question_judge(&question, world->post);
}

static void tables_matter_only_where_they_decide(void **state) {
    struct world world;
    world_init(&world, state);
    assert_int_equal(judge(&world, ""), BK_ANSWER_YES);
    assert_int_equal(judge(&world, "title = 'hello'"), BK_ANSWER_YES);
    assert_int_equal(judge(&world, "author.name = 'ann'"), BK_ANSWER_NEEDS_TABLES);
    assert_int_equal(judge(&world, "title = 'x' && author.name = 'ann'"), BK_ANSWER_NO);
    assert_int_equal(judge(&world, "author.name = 'ann' && title = 'x'"), BK_ANSWER_NO);
    assert_int_equal(judge(&world, "author.name = 'ann' || title = 'hello'"), BK_ANSWER_YES);
    assert_int_equal(judge(&world, "(author.name = 'ann' || title = 'x') && room = ''"),
                     BK_ANSWER_NEEDS_TABLES);
    assert_int_equal(judge(&world, "author.id = @request.auth.id"), BK_ANSWER_YES);
    world_fini(&world);
}

static void who_asks_takes_no_tables_when_it_is_known(void **state) {
    struct world world;
    struct bk_question question;
    world_init(&world, state);
    assert_int_equal(judge(&world, "@request.auth.name = 'ann'"), BK_ANSWER_NEEDS_TABLES);
    world.asker.auth_values = world.person;
    assert_int_equal(judge(&world, "@request.auth.name = 'ann'"), BK_ANSWER_YES);
    make(&world, &question, "title = 'x' || author = @request.auth.id");
    assert_true(bk_question_is_plain(&question));
    make(&world, &question, "title = 'x' || author.name = ''");
    assert_false(bk_question_is_plain(&question));
    world_fini(&world);
}

static void a_question_that_is_kept_knows_the_time_it_is_told(void **state) {
    struct world world;
    struct bk_question question;
    world_init(&world, state);
    struct bk_connection *connection = bk_store_read_now(world.fixture->kernel.tenant->database);
    set_text(world.posts, world.post, "at", "2026-06-08 12:00:00.000Z");
    world.asker.now_ms = INT64_C(1780920000000) - 1; /* a millisecond before */
    make(&world, &question, "at <= @now && @year = 2026");
    assert_int_equal(bk_question_judge(&question, world.post), BK_ANSWER_NO);
    assert_int_equal(bk_question_ask_values(&question, connection, world.post), BK_NOT_FOUND);
    bk_question_set_now(&question, INT64_C(1780920000000));
    assert_int_equal(bk_question_judge(&question, world.post), BK_ANSWER_YES);
    assert_int_equal(bk_question_ask_values(&question, connection, world.post), BK_OK);
    world_fini(&world);
}

static bool contains(struct bk_slice text, const char *part) {
    struct bk_slice wanted = bk_slice_from(part);
    for (size_t i = 0; i + wanted.length <= text.length; i++)
        if (memcmp(text.data + i, wanted.data, wanted.length) == 0)
            return true;
    return false;
}

static void columns_that_are_never_null_are_left_to_their_index(void **state) {
    struct world world;
    struct bk_question question;
    world_init(&world, state);
    make(&world, &question,
         "@collection.people.name ?= room && @collection.people.id ?= @request.auth.id");
    assert_true(contains(question.sql.text, "(f$1.\"name\"=\"$new\".\"room\")"));
    make(&world, &question, "@collection.people.name ?= room");
    assert_true(contains(question.sql.text, "COALESCE"));
    world_fini(&world);
}

static void a_clients_filter_is_refused_what_is_not_for_clients(void **state) {
    struct world world;
    struct bk_question question;
    struct bk_error error = BK_ERROR_INIT;
    world_init(&world, state);
    assert_int_equal(bk_question_make_filter(&question, &world.arena, &world.asker, world.posts,
                                             BK_SLICE("@request.auth.id != ''"),
                                             BK_QUESTION_OF_EVENT, BK_FILTER_OF_CLIENT, &error),
                     BK_FORBIDDEN);
    assert_int_equal(bk_question_make_filter(&question, &world.arena, &world.asker, world.posts,
                                             BK_SLICE("title = 'hello'"), BK_QUESTION_OF_EVENT,
                                             BK_FILTER_OF_CLIENT, &error),
                     BK_OK);
    assert_int_equal(bk_question_judge(&question, world.post), BK_ANSWER_YES);
    world_fini(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_matter_only_where_they_decide),
        cmocka_unit_test(who_asks_takes_no_tables_when_it_is_known),
        cmocka_unit_test(a_question_that_is_kept_knows_the_time_it_is_told),
        cmocka_unit_test(columns_that_are_never_null_are_left_to_their_index),
        cmocka_unit_test(a_clients_filter_is_refused_what_is_not_for_clients),
    };
    return cmocka_run_group_tests(tests, support_schema_setup, support_schema_teardown);
}
