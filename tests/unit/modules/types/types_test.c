/* Names and models of types: what two collections may not share, and what a unique index says. */
#include "support.h"
#include "types_private.h"

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

static void assert_name(const char *name, const char *type) {
    struct bk_slice made = types_name(&arena, bk_slice_from(name));
    assert_string_equal(made.data, type);
}

static void test_a_name_becomes_a_word_that_can_begin_a_type(void **state) {
    (void)state;
    assert_name("posts", "Posts");
    assert_name("blog_posts", "BlogPosts");
    assert_name("_superusers", "Superusers");
    assert_name("camelCase", "CamelCase");
    assert_name("1st", "Collection1st");
    assert_name("___", "Collection");
}

static void test_a_key_is_quoted_only_where_it_must_be(void **state) {
    (void)state;
    struct bk_buffer out;
    bk_buffer_init(&out, 1024);
    types_write_key(&out, "", BK_SLICE("title"), "");
    types_write_key(&out, "", BK_SLICE("2nd"), "");
    types_write_key(&out, "+", BK_SLICE("tags"), "");
    types_write_key(&out, "", BK_SLICE("tags"), "-");
    assert_true(bk_slice_is(bk_buffer_slice(&out), "title\"2nd\"\"+tags\"\"tags-\""));
    bk_buffer_fini(&out);
}

static void model_of(struct types_model *model, const char *text) {
    struct bk_json *list;
    assert_int_equal(bk_json_parse(&arena, bk_slice_from(text), &list, NULL), BK_OK);
    types_model_init(model, list->child, &arena);
}

static void test_collections_are_in_the_order_of_names_and_share_no_type(void **state) {
    (void)state;
    struct types_model model;
    model_of(&model, "[{\"name\":\"b\",\"id\":\"1\"},{\"name\":\"_b\",\"id\":\"2\"},"
                     "{\"name\":\"a\",\"id\":\"3\"}]");
    assert_int_equal(model.count, 3);
    assert_true(bk_slice_is(model.collections[0].name, "_b"));
    assert_true(bk_slice_is(model.collections[0].type, "B"));
    assert_true(bk_slice_is(model.collections[1].name, "a"));
    assert_true(bk_slice_is(model.collections[2].type, "B2"));
    assert_ptr_equal(types_model_find(&model, BK_SLICE("3")), &model.collections[1]);
    assert_null(types_model_find(&model, BK_SLICE("4")));
}

static bool is_unique(const char *index) {
    struct types_model model;
    struct bk_buffer text;
    bk_buffer_init(&text, 1024);
    bk_buffer_append_literal(&text, "[{\"name\":\"covers\",\"indexes\":[");
    bk_json_write_string(&text, bk_slice_from(index));
    bk_buffer_append_literal(&text, "]}]");
    struct bk_slice copy = bk_arena_copy(&arena, bk_buffer_slice(&text));
    bk_buffer_fini(&text);
    model_of(&model, copy.data);
    return types_is_unique(&model.collections[0], BK_SLICE("post"));
}

static void test_an_index_is_unique_on_a_field_alone(void **state) {
    (void)state;
    assert_true(is_unique("CREATE UNIQUE INDEX `i` ON `covers` (`post`)"));
    assert_true(is_unique("create unique index i on covers (post COLLATE NOCASE)"));
    assert_true(is_unique("CREATE UNIQUE INDEX IF NOT EXISTS i ON covers ( \"post\" )"));
    assert_false(is_unique("CREATE INDEX `i` ON `covers` (`post`)"));
    assert_false(is_unique("CREATE UNIQUE INDEX `i` ON `covers` (`post`, `page`)"));
    assert_false(is_unique("CREATE UNIQUE INDEX `i` ON `covers` (lower(post))"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_becomes_a_word_that_can_begin_a_type),
        cmocka_unit_test(test_a_key_is_quoted_only_where_it_must_be),
        cmocka_unit_test(test_collections_are_in_the_order_of_names_and_share_no_type),
        cmocka_unit_test(test_an_index_is_unique_on_a_field_alone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
