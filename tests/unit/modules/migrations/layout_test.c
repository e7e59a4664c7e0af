/* JSON written compactly and in lines, and what counts as the same. */
#include "migrations_private.h"
#include "support.h"

static struct bk_arena arena;

static int setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 1024 * 1024);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

static const struct bk_json *json(const char *text) {
    struct bk_json *value;
    assert_int_equal(bk_json_parse(&arena, bk_slice_from(text), &value, NULL), BK_OK);
    return value;
}

static void test_compact_has_no_space_and_keeps_numbers_as_they_are(void **state) {
    (void)state;
    struct bk_buffer out;
    bk_buffer_init(&out, 1024);
    migrations_write_compact(&out, json("{ \"a\" : [ 1.50, null ,true, \"x\\n\" ], \"b\":{ } }"));
    assert_true(bk_slice_is(bk_buffer_slice(&out), "{\"a\":[1.50,null,true,\"x\\n\"],\"b\":{}}"));
    bk_buffer_fini(&out);
}

static void test_pretty_puts_each_value_on_its_line(void **state) {
    (void)state;
    struct bk_buffer out;
    bk_buffer_init(&out, 1024);
    migrations_write_pretty(&out, json("{\"a\":[1,{}],\"b\":[]}"), 1);
    assert_true(bk_slice_is(bk_buffer_slice(&out),
                            "{\n    \"a\": [\n      1,\n      {}\n    ],\n    \"b\": []\n  }"));
    bk_buffer_fini(&out);
}

static void test_members_may_be_in_any_order_and_items_may_not(void **state) {
    (void)state;
    assert_true(migrations_json_equal(json("{\"a\":1,\"b\":[2]}"), json("{\"b\":[2],\"a\":1}")));
    assert_false(migrations_json_equal(json("[1,2]"), json("[2,1]")));
    assert_false(migrations_json_equal(json("[1]"), json("[1,2]")));
    assert_false(migrations_json_equal(json("{\"a\":1}"), json("{\"a\":1,\"b\":2}")));
    assert_false(migrations_json_equal(json("\"1\""), json("1")));
    assert_false(migrations_json_equal(json("{\"a\":null}"), json("{\"b\":null}")));
    assert_false(migrations_json_equal(NULL, json("null")));
}

static void test_what_covers_may_have_more_members_and_no_more_items(void **state) {
    (void)state;
    assert_true(migrations_json_covers(json("{\"a\":[{\"b\":1,\"c\":2}],\"d\":3}"),
                                       json("{\"a\":[{\"b\":1}]}")));
    assert_false(
        migrations_json_covers(json("{\"a\":[{\"b\":1},{}]}"), json("{\"a\":[{\"b\":1}]}")));
    assert_false(migrations_json_covers(json("{\"a\":null}"), json("{\"a\":\"\"}")));
    assert_false(migrations_json_covers(NULL, json("{}")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compact_has_no_space_and_keeps_numbers_as_they_are),
        cmocka_unit_test(test_pretty_puts_each_value_on_its_line),
        cmocka_unit_test(test_members_may_be_in_any_order_and_items_may_not),
        cmocka_unit_test(test_what_covers_may_have_more_members_and_no_more_items),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
