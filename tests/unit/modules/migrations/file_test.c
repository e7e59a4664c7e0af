/* A migration's name and text: what is one, what it says, and what takes it back. */
#include "migrations_private.h"
#include "support.h"

static struct bk_arena arena;

static int setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 16 * 1024 * 1024);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

static void test_names_are_digits_and_words(void **state) {
    (void)state;
    static const char *const right[] = {"1795340000_created_posts.json", "20261122101500_x.json",
                                        "1795340000_a-b_2.json"};
    static const char *const wrong[] = {"created_posts.json",
                                        "1795340000.json",
                                        "1795340000_.json",
                                        "179534000_posts.json",
                                        "1795340000_posts.js",
                                        ".1795340000_posts.json",
                                        "1795340000_po sts.json",
                                        "1795340000_../x.json",
                                        "123456789012345_x.json",
                                        ".json",
                                        ""};
    for (size_t i = 0; i < BK_COUNT_OF(right); i++)
        assert_true(migrations_name_is_valid(bk_slice_from(right[i])));
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        assert_false(migrations_name_is_valid(bk_slice_from(wrong[i])));
}

static void test_a_made_name_is_valid_whatever_it_is_made_of(void **state) {
    (void)state;
    char text[500];
    memset(text, '/', sizeof text);
    struct bk_slice name =
        migrations_name_make(&arena, 1795340000, "created", BK_SLICE("my posts!"));
    assert_string_equal(name.data, "1795340000_created_my_posts_.json");
    name = migrations_name_make(&arena, 7, "", bk_slice_make(text, sizeof text));
    assert_true(migrations_name_is_valid(name));
    assert_true(bk_slice_starts_with(name, BK_SLICE("0000000007_")));
    name = migrations_name_make(&arena, 1795340000, "collections_snapshot", BK_SLICE(""));
    assert_string_equal(name.data, "1795340000_collections_snapshot.json");
}

static enum bk_status parse(struct migration *migration, const char *text, struct bk_error *error) {
    *error = (struct bk_error)BK_ERROR_INIT;
    return migrations_parse(migration, BK_SLICE("1_x.json"), bk_slice_from(text), &arena, error);
}

static void test_what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"", "expected"},
        {"[]", "format and operations"},
        {"{\"operations\":[]}", "format must be 1"},
        {"{\"format\":1}", "operations must be a list"},
        {"{\"format\":1,\"operations\":[1]}", "operations[0]: must be an object"},
        {"{\"format\":1,\"operations\":[{\"operation\":\"x\"}]}", "operations[0]: operation must"},
        {"{\"format\":1,\"operations\":[{\"operation\":\"delete\"}]}", "operations[0]: id must"},
        {"{\"format\":1,\"operations\":[{\"operation\":\"update\",\"id\":\"a\"}]}",
         "operations[0]: after must"},
        {"{\"format\":1,\"operations\":[{\"operation\":\"put\",\"after\":{\"id\":\"a\"}}]}",
         "operations[0]: after.name must"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        struct migration migration;
        struct bk_error error;
        assert_int_not_equal(parse(&migration, cases[i].text, &error), BK_OK);
        if (i > 0)
            assert_non_null(strstr(error.message, cases[i].reason));
    }
}

static void test_layout_is_not_part_of_the_hash(void **state) {
    (void)state;
    struct migration one, other, third;
    struct bk_error error;
    assert_int_equal(
        parse(&one, "{\"format\":1,\"operations\":[{\"operation\":\"delete\",\"id\":\"a\"}]}",
              &error),
        BK_OK);
    assert_int_equal(parse(&other,
                           "{ \"operations\" : [\n{ \"operation\": \"delete\",\n \"id\": "
                           "\"a\" } ], \"format\": 1 }",
                           &error),
                     BK_OK);
    assert_int_equal(
        parse(&third, "{\"format\":1,\"operations\":[{\"operation\":\"delete\",\"id\":\"b\"}]}",
              &error),
        BK_OK);
    assert_memory_equal(one.hash, other.hash, sizeof one.hash);
    assert_memory_not_equal(one.hash, third.hash, sizeof one.hash);
}

static const struct bk_json *json(const char *text) {
    struct bk_json *value;
    assert_int_equal(bk_json_parse(&arena, bk_slice_from(text), &value, NULL), BK_OK);
    return value;
}

static void test_what_is_written_is_read_again(void **state) {
    (void)state;
    struct bk_buffer out;
    struct migration migration;
    struct bk_error error;
    const struct migration_operation operations[] = {
        {.kind = MIGRATION_CREATE,
         .id = BK_SLICE("a"),
         .name = BK_SLICE("one"),
         .after = json("{\"id\":\"a\",\"name\":\"one\",\"fields\":[{\"x\":[]},{}],\"n\":1.50}")},
        {.kind = MIGRATION_DELETE,
         .id = BK_SLICE("b"),
         .name = BK_SLICE("two"),
         .before = json("{\"id\":\"b\",\"name\":\"two\"}")},
    };
    bk_buffer_init(&out, 1024 * 1024);
    migrations_write_begin(&out);
    for (size_t i = 0; i < BK_COUNT_OF(operations); i++)
        migrations_write_operation(&out, &operations[i]);
    migrations_write_end(&out);
    struct bk_slice text = bk_arena_copy(&arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    assert_int_equal(parse(&migration, text.data, &error), BK_OK);
    assert_int_equal(migration.count, 2);
    assert_int_equal(migration.operations[1].kind, MIGRATION_DELETE);
    assert_true(bk_slice_is(migration.operations[1].name, "two"));
    assert_true(migrations_json_equal(migration.operations[0].after, operations[0].after));
    assert_non_null(strstr(text.data, "\"n\": 1.50"));
}

static void test_a_definition_has_no_dates_and_no_providers(void **state) {
    (void)state;
    const struct bk_json *bare = migrations_definition(
        &arena, json("{\"id\":\"a\",\"created\":\"x\",\"oauth2\":{\"enabled\":true,\"providers\":"
                     "[{\"clientSecret\":\"s\"}]},\"updated\":\"y\",\"name\":\"n\"}"));
    assert_true(migrations_json_equal(
        bare, json("{\"id\":\"a\",\"oauth2\":{\"enabled\":true},\"name\":\"n\"}")));
}

static void test_the_reverse_of_each_kind(void **state) {
    (void)state;
    const struct bk_json *before = json("{\"id\":\"a\",\"name\":\"b\"}");
    const struct bk_json *after = json("{\"id\":\"a\",\"name\":\"a\"}");
    struct migration_operation operation = {.kind = MIGRATION_CREATE, .after = after}, reverse;
    assert_true(migrations_reverse(&operation, &reverse));
    assert_int_equal(reverse.kind, MIGRATION_DELETE);
    operation = (struct migration_operation){.kind = MIGRATION_DELETE, .before = before};
    assert_true(migrations_reverse(&operation, &reverse));
    assert_int_equal(reverse.kind, MIGRATION_CREATE);
    assert_ptr_equal(reverse.after, before);
    operation =
        (struct migration_operation){.kind = MIGRATION_UPDATE, .before = before, .after = after};
    assert_true(migrations_reverse(&operation, &reverse));
    assert_ptr_equal(reverse.after, before);
    operation.before = NULL;
    assert_false(migrations_reverse(&operation, &reverse));
    operation.kind = MIGRATION_PUT;
    assert_false(migrations_reverse(&operation, &reverse));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_digits_and_words),
        cmocka_unit_test(test_a_made_name_is_valid_whatever_it_is_made_of),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_layout_is_not_part_of_the_hash),
        cmocka_unit_test(test_what_is_written_is_read_again),
        cmocka_unit_test(test_a_definition_has_no_dates_and_no_providers),
        cmocka_unit_test(test_the_reverse_of_each_kind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
