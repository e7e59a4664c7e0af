/* Which rule a request is held to: its labels, and which of them goes first. */
#include "limits.h"

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

/* The labels of `POST path` of a route with these words; collection: NULL: none. */
static struct limits_labels labels_of(const char *path, const char *words, const char *collection) {
    const struct bk_route route = {.labels = words};
    const struct bk_collection own = {.name = bk_slice_from(collection)};
    struct bk_request request = {.method = BK_POST, .path = bk_slice_from(path), .route = &route};
    struct limits_labels labels;
    bk_arena_init(&request.arena, 64 * 1024);
    limits_labels_make(&request, collection == NULL ? NULL : &own, &labels);
    for (uint32_t i = 0; i < labels.count; i++)
        labels.texts[i] = bk_arena_copy(&arena, labels.texts[i]);
    bk_arena_fini(&request.arena);
    return labels;
}

static void assert_labels(const struct limits_labels *labels, const char *const *texts,
                          uint32_t count) {
    assert_int_equal(labels->count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_string_equal(labels->texts[i].data, texts[i]);
}

static void the_narrowest_label_comes_first(void **state) {
    static const char *const auth[] = {"users:authWithPassword",
                                       "users:auth",
                                       "*:authWithPassword",
                                       "*:auth",
                                       "POST /api/collections/users/auth-with-password",
                                       "/api/collections/users/auth-with-password"};
    static const char *const batch[] = {"POST /api/batch", "/api/batch"};
    (void)state;
    struct limits_labels labels =
        labels_of("/api/collections/users/auth-with-password", "authWithPassword auth", "users");
    assert_labels(&labels, auth, BK_COUNT_OF(auth));
    labels = labels_of("/api/batch", NULL, NULL);
    assert_labels(&labels, batch, BK_COUNT_OF(batch));
}

static void another_spelling_of_a_path_has_the_same_label(void **state) {
    static const char *const texts[] = {"POST /api/batch", "/api/batch"};
    (void)state;
    struct limits_labels labels = labels_of("/api/b%61tch", NULL, NULL);
    assert_labels(&labels, texts, BK_COUNT_OF(texts));
}

/* The label of the rule that is found; NULL: none. */
static const char *found(const struct bk_settings_limit *rules, uint32_t count,
                         const struct limits_labels *labels, bool is_guest) {
    const struct bk_settings_limits limits = {.rules = rules, .rule_count = count};
    const struct bk_settings_limit *rule = limits_rule_find(&limits, labels, is_guest);
    return rule == NULL ? NULL : rule->label.data;
}

static void a_label_goes_before_the_order_of_the_rules(void **state) {
    const struct bk_settings_limit rules[] = {{.label = BK_SLICE_INIT("/api/")},
                                              {.label = BK_SLICE_INIT("*:auth")},
                                              {.label = BK_SLICE_INIT("users:auth")}};
    const struct limits_labels labels =
        labels_of("/api/collections/users/auth-with-otp", "authWithOTP auth", "users");
    (void)state;
    assert_string_equal(found(rules, 3, &labels, true), "users:auth");
    assert_string_equal(found(rules, 2, &labels, true), "*:auth");
    assert_string_equal(found(rules, 1, &labels, true), "/api/");
    assert_null(found(rules, 0, &labels, true));
}

static void a_rule_with_a_slash_at_its_end_is_for_all_below(void **state) {
    const struct bk_settings_limit rules[] = {{.label = BK_SLICE_INIT("POST /api/batch/")},
                                              {.label = BK_SLICE_INIT("/api/batch")}};
    struct limits_labels labels = labels_of("/api/batch/x", NULL, NULL);
    (void)state;
    assert_string_equal(found(rules, 2, &labels, true), "POST /api/batch/");
    labels = labels_of("/api/batch", NULL, NULL);
    assert_string_equal(found(rules, 2, &labels, true), "POST /api/batch/");
    labels = labels_of("/api/batches", NULL, NULL);
    assert_null(found(rules, 2, &labels, true));
}

static void a_rule_is_for_its_audience(void **state) {
    const struct bk_settings_limit rules[] = {
        {.label = BK_SLICE_INIT("*:list"), .audience = BK_SLICE_INIT("@guest")},
        {.label = BK_SLICE_INIT("*:create"), .audience = BK_SLICE_INIT("@auth")},
        {.label = BK_SLICE_INIT("/")}};
    struct limits_labels labels = labels_of("/api/collections/posts/records", "list", "posts");
    (void)state;
    assert_string_equal(found(rules, 3, &labels, true), "*:list");
    assert_string_equal(found(rules, 3, &labels, false), "/");
    labels = labels_of("/api/collections/posts/records", "create", "posts");
    assert_string_equal(found(rules, 3, &labels, true), "/");
    assert_string_equal(found(rules, 3, &labels, false), "*:create");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_narrowest_label_comes_first),
        TEST(another_spelling_of_a_path_has_the_same_label),
        TEST(a_label_goes_before_the_order_of_the_rules),
        TEST(a_rule_with_a_slash_at_its_end_is_for_all_below),
        TEST(a_rule_is_for_its_audience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
