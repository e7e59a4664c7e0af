/* What modules ask of texts and indexes: the answers are those that fields and definitions get. */
#include "schema_private.h"

#include "schema_fixture.h"

static void a_unique_index_tells_how_it_compares(void **state) {
    struct support_schema *fixture = *state;
    struct bk_slice collation;
    assert_int_equal(
        support_schema_change(fixture, BK_SCHEMA_CREATE, NULL,
                              "{'name':'things','fields':[{'name':'a','type':'text'},"
                              "{'name':'b','type':'text'},{'name':'c','type':'text'}],'indexes':["
                              "'CREATE UNIQUE INDEX i_a ON things (a COLLATE NOCASE)',"
                              "'CREATE UNIQUE INDEX i_ab ON things (a, b)',"
                              "'CREATE INDEX i_c ON things (c)',"
                              "'CREATE UNIQUE INDEX i_id ON things (`id`)']}"),
        BK_OK);
    const struct bk_collection *things = support_schema_find(fixture, "things");
    assert_true(bk_collection_unique_collation(things, BK_SLICE("A"), &fixture->arena, &collation));
    assert_true(bk_slice_equal_ignore_case(collation, BK_SLICE("nocase")));
    assert_true(
        bk_collection_unique_collation(things, BK_SLICE("id"), &fixture->arena, &collation));
    assert_int_equal(collation.length, 0);
    assert_false(
        bk_collection_unique_collation(things, BK_SLICE("b"), &fixture->arena, &collation));
    assert_false(
        bk_collection_unique_collation(things, BK_SLICE("c"), &fixture->arena, &collation));
}

static void texts_are_judged_as_fields_judge_them(void **state) {
    (void)state;
    assert_true(bk_url_is_valid(BK_SLICE("http://localhost:8090")));
    assert_false(bk_url_is_valid(BK_SLICE("nope")));
    assert_true(bk_email_is_valid(BK_SLICE("a@example.com")));
    assert_false(bk_email_is_valid(BK_SLICE("a@")));
}

static void a_pattern_is_compiled_or_explained(void **state) {
    struct support_schema *fixture = *state;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_pattern *pattern = bk_pattern_compile(BK_SLICE("^[a-z]+$"), &fixture->arena, &error);
    assert_non_null(pattern);
    assert_true(bk_pattern_matches(pattern, BK_SLICE("ok")));
    assert_false(bk_pattern_matches(pattern, BK_SLICE("NOT")));
    assert_null(bk_pattern_compile(BK_SLICE("["), &fixture->arena, &error));
    assert_true(error.message[0] != '\0');
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_schema_setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_unique_index_tells_how_it_compares),
        TEST(texts_are_judged_as_fields_judge_them),
        TEST(a_pattern_is_compiled_or_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
