/* An update laid over a collection that is not quite what it was made for. */
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

static const struct bk_json *json(const char *text) {
    struct bk_json *value;
    if (text == NULL)
        return NULL;
    assert_int_equal(bk_json_parse(&arena, bk_slice_from(text), &value, NULL), BK_OK);
    return value;
}

/* The step of an update from before to after, where the collection is `current` now. */
static struct migration_step resolve(enum migration_kind kind, const char *current,
                                     const char *before, const char *after,
                                     enum bk_status expected) {
    struct migration_step steps[2] = {{.target = BK_SLICE("c"), .result = json(current)}};
    struct bk_error error = BK_ERROR_INIT;
    const struct migration_operation operation = {.kind = kind,
                                                  .id = BK_SLICE("c"),
                                                  .name = BK_SLICE("posts"),
                                                  .before = json(before),
                                                  .after = json(after)};
    assert_int_equal(migrations_resolve(&operation, NULL, &arena, steps, 1, &error), expected);
    return steps[1];
}

static void assert_patch(const char *current, const char *before, const char *after,
                         const char *patch) {
    struct migration_step step = resolve(MIGRATION_UPDATE, current, before, after, BK_OK);
    assert_true(migrations_json_equal(step.definition, json(patch)));
}

#define A "{\"id\":\"1\",\"name\":\"a\"}"
#define A_RENAMED "{\"id\":\"1\",\"name\":\"b\"}"
#define THEIRS "{\"id\":\"2\",\"name\":\"theirs\"}"
#define MINE "{\"id\":\"3\",\"name\":\"mine\"}"

static void test_only_what_differs_is_changed(void **state) {
    (void)state;
    assert_patch("{\"id\":\"c\",\"listRule\":\"theirs\",\"viewRule\":null}",
                 "{\"id\":\"c\",\"listRule\":null,\"viewRule\":null}",
                 "{\"id\":\"c\",\"listRule\":null,\"viewRule\":\"\"}", "{\"viewRule\":\"\"}");
}

static void test_fields_of_others_stay(void **state) {
    (void)state;
    assert_patch("{\"fields\":[" A "," THEIRS "]}", "{\"fields\":[" A "]}",
                 "{\"fields\":[" A_RENAMED "," MINE "]}",
                 "{\"fields\":[" A_RENAMED "," MINE "," THEIRS "]}");
}

static void test_what_others_have_changed_or_removed_stays_so(void **state) {
    (void)state;
    assert_patch("{\"fields\":[" A_RENAMED "]}", "{\"fields\":[" A "]}",
                 "{\"fields\":[" A "," MINE "]}", "{\"fields\":[" A_RENAMED "," MINE "]}");
    assert_patch("{\"fields\":[" THEIRS "]}", "{\"fields\":[" A "," THEIRS "]}",
                 "{\"fields\":[" A "," THEIRS "," MINE "]}", "{\"fields\":[" THEIRS "," MINE "]}");
}

static void test_a_removed_field_goes(void **state) {
    (void)state;
    assert_patch("{\"fields\":[" A "," THEIRS "]}", "{\"fields\":[" A "]}", "{\"fields\":[]}",
                 "{\"fields\":[" THEIRS "]}");
}

static void test_indexes_are_matched_by_their_text(void **state) {
    (void)state;
    assert_patch("{\"indexes\":[\"x\",\"theirs\"]}", "{\"indexes\":[\"x\",\"old\"]}",
                 "{\"indexes\":[\"x\",\"new\"]}", "{\"indexes\":[\"x\",\"new\",\"theirs\"]}");
}

static void test_what_is_there_already_is_no_change(void **state) {
    (void)state;
    const char *after = "{\"id\":\"c\",\"name\":\"posts\",\"fields\":[" A_RENAMED "]}";
    const char *before = "{\"id\":\"c\",\"name\":\"posts\",\"fields\":[" A "]}";
    assert_false(resolve(MIGRATION_UPDATE, after, before, after, BK_OK).is_needed);
    assert_false(resolve(MIGRATION_CREATE, after, NULL, after, BK_OK).is_needed);
    assert_false(resolve(MIGRATION_PUT, after, NULL, after, BK_OK).is_needed);
    assert_false(resolve(MIGRATION_DELETE, NULL, after, NULL, BK_OK).is_needed);
    assert_true(resolve(MIGRATION_DELETE, after, after, NULL, BK_OK).is_needed);
}

static void test_a_put_replaces_what_others_have_made(void **state) {
    (void)state;
    struct migration_step step =
        resolve(MIGRATION_PUT, "{\"id\":\"c\",\"name\":\"posts\",\"fields\":[" A "," THEIRS "]}",
                NULL, "{\"id\":\"c\",\"name\":\"posts\",\"fields\":[" A "]}", BK_OK);
    assert_true(step.is_needed);
    assert_true(
        migrations_json_equal(bk_json_get(step.definition, BK_SLICE("fields")), json("[" A "]")));
}

static void test_what_cannot_be_brought_together_is_refused(void **state) {
    (void)state;
    const char *mine = "{\"id\":\"c\",\"name\":\"posts\",\"fields\":[" MINE "]}";
    const char *theirs = "{\"id\":\"c\",\"name\":\"posts\",\"fields\":[" THEIRS "]}";
    (void)resolve(MIGRATION_CREATE, theirs, NULL, mine, BK_CONFLICT);
    (void)resolve(MIGRATION_UPDATE, NULL, theirs, mine, BK_CONFLICT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_differs_is_changed),
        cmocka_unit_test(test_fields_of_others_stay),
        cmocka_unit_test(test_what_others_have_changed_or_removed_stays_so),
        cmocka_unit_test(test_a_removed_field_goes),
        cmocka_unit_test(test_indexes_are_matched_by_their_text),
        cmocka_unit_test(test_what_is_there_already_is_no_change),
        cmocka_unit_test(test_a_put_replaces_what_others_have_made),
        cmocka_unit_test(test_what_cannot_be_brought_together_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
