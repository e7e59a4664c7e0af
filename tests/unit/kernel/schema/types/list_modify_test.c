/* What modifiers of keys do to values: lists, numbers and made texts. */
#include "types/types.h"

#include "schema_fixture.h"

static void define(struct support_schema *fixture, const char *json) {
    (void)support_schema_change(fixture, BK_SCHEMA_DELETE, "c", NULL);
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json), BK_OK);
}

static const struct bk_field *field_of(struct support_schema *fixture) {
    return bk_collection_field(support_schema_find(fixture, "c"), BK_SLICE("f"));
}

/* The value that from becomes. */
static struct bk_value modified(struct support_schema *fixture, const char *from,
                                enum bk_modifier modifier, const char *by) {
    const struct bk_field *field = field_of(fixture);
    struct bk_value value;
    assert_true((field->type->modifiers & modifier) != 0);
    field->type->normalise(field, support_schema_json(fixture, from), &value, &fixture->arena);
    field->type->modify(field, modifier, support_schema_json(fixture, by), &value, &fixture->arena);
    return value;
}

static void becomes(struct support_schema *fixture, const char *from, enum bk_modifier modifier,
                    const char *by, const char *expected) {
    struct bk_buffer out;
    struct bk_value value = modified(fixture, from, modifier, by);
    const struct bk_field *field = field_of(fixture);
    bk_buffer_init(&out, 1000);
    field->type->write_json(field, &value, &out);
    if (!bk_slice_equal(bk_buffer_slice(&out), bk_slice_from(expected)))
        fail_msg("%s by %s: %.*s instead of %s", from, by, BK_SLICE_PRINT(bk_buffer_slice(&out)),
                 expected);
    bk_buffer_fini(&out);
}

static void lists_are_appended_to_prepended_to_and_removed_from(void **state) {
    define(*state, "{'name':'c','fields':[{'name':'f','type':'select','maxSelect':4,"
                   "'values':['a','b','c','1']}]}");
    becomes(*state, "['a','b']", BK_MODIFIER_APPEND, "'c'", "[\"a\",\"b\",\"c\"]");
    becomes(*state, "['a','b']", BK_MODIFIER_APPEND, "['c','a',1]", "[\"a\",\"b\",\"c\",\"1\"]");
    becomes(*state, "['a','b']", BK_MODIFIER_PREPEND, "['c','b']", "[\"c\",\"b\",\"a\"]");
    becomes(*state, "['a','b']", BK_MODIFIER_REMOVE, "'a'", "[\"b\"]");
    becomes(*state, "['a','b']", BK_MODIFIER_REMOVE, "['b','a','z']", "[]");
    becomes(*state, "['a','b']", BK_MODIFIER_REMOVE, "null", "[\"a\",\"b\"]");
    becomes(*state, "[]", BK_MODIFIER_APPEND, "''", "[]");
}

static void of_a_single_value_the_last_one_stays(void **state) {
    define(*state, "{'name':'c','fields':[{'name':'f','type':'select','maxSelect':1,"
                   "'values':['a','b']}]}");
    becomes(*state, "'a'", BK_MODIFIER_APPEND, "'b'", "\"b\"");
    becomes(*state, "'a'", BK_MODIFIER_PREPEND, "'b'", "\"a\"");
    becomes(*state, "''", BK_MODIFIER_PREPEND, "'b'", "\"b\"");
    becomes(*state, "'a'", BK_MODIFIER_REMOVE, "'a'", "\"\"");
    becomes(*state, "'a'", BK_MODIFIER_REMOVE, "'b'", "\"a\"");
}

static void numbers_are_added_and_subtracted(void **state) {
    define(*state, "{'name':'c','fields':[{'name':'f','type':'number'}]}");
    assert_int_equal(field_of(*state)->type->modifiers & BK_MODIFIER_PREPEND, 0);
    becomes(*state, "10", BK_MODIFIER_APPEND, "2", "12");
    becomes(*state, "10", BK_MODIFIER_REMOVE, "'2.5'", "7.5");
    becomes(*state, "0.1", BK_MODIFIER_APPEND, "0.2", "0.30000000000000004");
    becomes(*state, "10", BK_MODIFIER_APPEND, "'x'", "10");
    becomes(*state, "1", BK_MODIFIER_APPEND, "true", "2");
    becomes(*state, "9007199254740993", BK_MODIFIER_APPEND, "1", "9007199254740994");
    becomes(*state, "9223372036854775807", BK_MODIFIER_APPEND, "1", "9223372036854776000");
    struct bk_value value = modified(*state, "1e308", BK_MODIFIER_APPEND, "1e308");
    struct support_schema *fixture = *state;
    bk_problems_init(&fixture->problems, &fixture->arena);
    field_of(fixture)->type->validate(field_of(fixture), &value, &fixture->problems);
    assert_int_equal(fixture->problems.count, 1);
}

static void made_texts_stand_behind_what_is_sent(void **state) {
    define(*state, "{'name':'c','fields':[{'name':'f','type':'text',"
                   "'autogeneratePattern':'same'}]}");
    becomes(*state, "'old'", BK_MODIFIER_AUTOGENERATE, "'x-'", "\"x-same\"");
    becomes(*state, "''", BK_MODIFIER_AUTOGENERATE, "12", "\"12same\"");
    define(*state, "{'name':'c','fields':[{'name':'f','type':'text'}]}");
    becomes(*state, "'old'", BK_MODIFIER_AUTOGENERATE, "'x'", "\"x\"");
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_schema_setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(lists_are_appended_to_prepended_to_and_removed_from),
        TEST(of_a_single_value_the_last_one_stays),
        TEST(numbers_are_added_and_subtracted),
        TEST(made_texts_stand_behind_what_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
