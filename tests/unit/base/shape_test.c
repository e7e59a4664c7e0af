/* Objects of known members: what is laid over what, and what is shown. */
#include "bakend/shape.h"

#include "bakend/assert.h"

#include "support.h"

static const struct bk_shape_member item_members[] = {
    {"name", BK_SHAPE_TEXT, NULL, NULL},
    {"size", BK_SHAPE_INT, "7", NULL},
    {"key", BK_SHAPE_SECRET, NULL, NULL},
};
static const struct bk_shape named = {item_members, BK_COUNT_OF(item_members), "name"};
static const struct bk_shape placed = {item_members, BK_COUNT_OF(item_members), NULL};
static const struct bk_shape_member members[] = {
    {"flag", BK_SHAPE_BOOL, "true", NULL},       {"rule", BK_SHAPE_MAYBE_TEXT, "\"\"", NULL},
    {"words", BK_SHAPE_TEXTS, "[\"a\"]", NULL},  {"extra", BK_SHAPE_MAP, NULL, NULL},
    {"one", BK_SHAPE_OBJECT, NULL, &named},      {"named", BK_SHAPE_OBJECTS, NULL, &named},
    {"placed", BK_SHAPE_OBJECTS, NULL, &placed},
};
static const struct bk_shape shape = {members, BK_COUNT_OF(members), NULL};

#define FRESH                                                                                      \
    "{\"flag\":true,\"rule\":\"\",\"words\":[\"a\"],\"extra\":null,"                               \
    "\"one\":{\"name\":\"\",\"size\":7,\"key\":\"\"},\"named\":[],\"placed\":[]}"

struct fixture {
    struct bk_arena arena;
    struct bk_buffer out;
    struct bk_error error;
};

static int setup(void **state) {
    static struct fixture fixture;
    bk_arena_init(&fixture.arena, 1024 * 1024);
    bk_buffer_init(&fixture.out, 1024 * 1024);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_buffer_fini(&fixture->out);
    bk_arena_fini(&fixture->arena);
    return 0;
}

static struct bk_json *parse(struct fixture *fixture, const char *text) {
    struct bk_json *json;
    if (text == NULL)
        return NULL;
    assert_int_equal(bk_json_parse(&fixture->arena, bk_slice_from(text), &json, NULL), BK_OK);
    return json;
}

static enum bk_status lay(struct fixture *fixture, const char *given, const char *former) {
    bk_buffer_clear(&fixture->out);
    enum bk_status status = bk_shape_lay(&shape, parse(fixture, given), parse(fixture, former),
                                         &fixture->out, &fixture->error);
    bk_buffer_append_char(&fixture->out, '\0');
    return status;
}

static void assert_laid(struct fixture *fixture, const char *given, const char *former,
                        const char *expected) {
    assert_int_equal(lay(fixture, given, former), BK_OK);
    assert_string_equal(fixture->out.data, expected);
}

static void what_nobody_gave_has_its_fallback(void **state) {
    assert_laid(*state, NULL, NULL, FRESH);
    assert_laid(*state, "{}", "{}", FRESH);
}

static void what_is_given_replaces_only_itself(void **state) {
    assert_laid(*state, "{\"one\":{\"size\":3},\"flag\":false,\"unknown\":1}",
                "{\"rule\":\"x\",\"one\":{\"name\":\"n\",\"key\":\"k\"}}",
                "{\"flag\":false,\"rule\":\"x\",\"words\":[\"a\"],\"extra\":null,"
                "\"one\":{\"name\":\"n\",\"size\":3,\"key\":\"k\"},\"named\":[],\"placed\":[]}");
}

static void a_null_is_a_value_where_it_may_be_one(void **state) {
    assert_laid(*state,
                "{\"flag\":null,\"rule\":null,\"words\":null,\"extra\":null,\"one\":null,"
                "\"named\":null}",
                "{\"flag\":false,\"rule\":\"x\",\"words\":[\"w\"],\"extra\":{\"a\":1},"
                "\"one\":{\"name\":\"n\"},\"named\":[{\"name\":\"n\"}]}",
                "{\"flag\":false,\"rule\":null,\"words\":[],\"extra\":null,"
                "\"one\":{\"name\":\"n\",\"size\":7,\"key\":\"\"},\"named\":[],\"placed\":[]}");
}

static void a_kept_null_stays(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(lay(fixture, "{}", "{\"rule\":null}"), BK_OK);
    assert_non_null(strstr(fixture->out.data, "\"rule\":null"));
}

static void objects_of_a_list_are_the_same_by_their_key(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(lay(fixture, "{\"named\":[{\"name\":\"b\"},{\"name\":\"c\",\"size\":1}]}",
                         "{\"named\":[{\"name\":\"a\",\"key\":\"A\"},"
                         "{\"name\":\"b\",\"size\":2,\"key\":\"B\"}]}"),
                     BK_OK);
    assert_non_null(strstr(fixture->out.data,
                           "\"named\":[{\"name\":\"b\",\"size\":2,\"key\":\"B\"},"
                           "{\"name\":\"c\",\"size\":1,\"key\":\"\"}]"));
}

static void objects_without_a_key_are_the_same_by_their_place(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(lay(fixture, "{\"placed\":[{\"size\":1},{\"name\":\"z\"}]}",
                         "{\"placed\":[{\"name\":\"a\",\"key\":\"A\"}]}"),
                     BK_OK);
    assert_non_null(strstr(fixture->out.data,
                           "\"placed\":[{\"name\":\"a\",\"size\":1,\"key\":\"A\"},"
                           "{\"name\":\"z\",\"size\":7,\"key\":\"\"}]"));
}

static void a_value_of_another_type_is_refused_by_name(void **state) {
    static const char *const wrong[] = {
        "{\"flag\":1}",
        "{\"rule\":2}",
        "{\"words\":\"a\"}",
        "{\"words\":[1]}",
        "{\"extra\":[]}",
        "{\"one\":1}",
        "{\"named\":{}}",
        "{\"named\":[1]}",
        "{\"one\":{\"size\":1.5}}",
        "{\"one\":{\"size\":\"1\"}}",
        "{\"one\":{\"size\":1e2}}",
        "{\"one\":{\"key\":1}}",
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        assert_int_equal(lay(fixture, wrong[i], NULL), BK_INVALID);
        assert_non_null(strstr(fixture->error.message, "wrong type"));
    }
}

static void a_generated_secret_is_made_once(void **state) {
    static const struct bk_shape_member one[] = {{"secret", BK_SHAPE_GENERATED, NULL, NULL}};
    static const struct bk_shape token = {one, 1, NULL};
    struct fixture *fixture = *state;
    struct bk_buffer again;
    bk_buffer_init(&again, 1024);
    bk_buffer_clear(&fixture->out);
    assert_int_equal(bk_shape_lay(&token, NULL, NULL, &fixture->out, NULL), BK_OK);
    assert_int_equal(fixture->out.length, BK_SHAPE_GENERATED_BYTES + strlen("{\"secret\":\"\"}"));
    struct bk_json *former;
    assert_int_equal(bk_json_parse(&fixture->arena, bk_buffer_slice(&fixture->out), &former, NULL),
                     BK_OK);
    assert_int_equal(bk_shape_lay(&token, NULL, former, &again, NULL), BK_OK);
    assert_true(bk_slice_equal(bk_buffer_slice(&again), bk_buffer_slice(&fixture->out)));
    bk_buffer_fini(&again);
}

static void secrets_are_not_shown(void **state) {
    struct fixture *fixture = *state;
    struct bk_json *whole = parse(fixture, "{\"flag\":true,\"one\":{\"name\":\"n\",\"key\":\"K\"},"
                                           "\"named\":[{\"name\":\"a\",\"key\":\"K\"}]}");
    bk_buffer_clear(&fixture->out);
    bk_shape_write_members(&shape, whole, &fixture->out);
    bk_buffer_append_char(&fixture->out, '\0');
    assert_string_equal(fixture->out.data,
                        "\"flag\":true,\"one\":{\"name\":\"n\"},\"named\":[{\"name\":\"a\"}]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_nobody_gave_has_its_fallback, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_given_replaces_only_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(a_null_is_a_value_where_it_may_be_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kept_null_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(objects_of_a_list_are_the_same_by_their_key, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(objects_without_a_key_are_the_same_by_their_place, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_value_of_another_type_is_refused_by_name, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_generated_secret_is_made_once, setup, teardown),
        cmocka_unit_test_setup_teardown(secrets_are_not_shown, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
