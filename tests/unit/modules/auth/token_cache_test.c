/* The cache of verified tokens: bounded, by age, and forgetful when told. */
#include "auth.h"
#include "support.h"

#include <stdio.h>

static struct auth_cache cache;

static int setup(void **state) {
    (void)state;
    auth_cache_init(&cache, 3);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    auth_cache_fini(&cache);
    memset(&cache, 0, sizeof(cache));
    return 0;
}

static void add(const char *token, const char *tenant, const char *label, int64_t expires_s) {
    const struct auth_cached entry = {.token = bk_slice_from(token),
                                      .tenant = bk_slice_from(tenant),
                                      .label = bk_slice_from(label),
                                      .id = BK_SLICE("id"),
                                      .collection_id = BK_SLICE("collection"),
                                      .session = BK_SLICE("session"),
                                      .is_superuser = true,
                                      .expires_s = expires_s};
    auth_cache_add(&cache, &entry);
}

static const struct auth_cached *find(const char *token, int64_t now_s) {
    return auth_cache_find(&cache, bk_slice_from(token), now_s);
}

static void test_what_was_added_is_found_with_all_it_says(void **state) {
    (void)state;
    char token[] = "token", label[] = "_superusers/a";
    add(token, "default", label, 100);
    token[0] = label[0] = 'X'; /* it keeps copies */
    const struct auth_cached *found = find("token", 99);
    assert_non_null(found);
    assert_true(bk_slice_is(found->label, "_superusers/a"));
    assert_true(bk_slice_is(found->tenant, "default"));
    assert_true(bk_slice_is(found->id, "id"));
    assert_true(bk_slice_is(found->session, "session"));
    assert_true(found->is_superuser);
    assert_null(find("other", 99));
}

static void test_an_expired_token_is_dropped(void **state) {
    (void)state;
    add("token", "default", "a", 100);
    assert_null(find("token", 100));
    assert_int_equal(cache.count, 0);
}

/* The clock was set back behind the last use of its session: its row has to be looked at. */
static void test_a_token_of_a_future_that_never_came_is_dropped(void **state) {
    (void)state;
    const struct auth_cached entry = {.token = BK_SLICE("token"),
                                      .tenant = BK_SLICE("default"),
                                      .label = BK_SLICE("a"),
                                      .begins_s = 50,
                                      .expires_s = 100};
    auth_cache_add(&cache, &entry);
    assert_non_null(find("token", 50));
    assert_null(find("token", 49));
    assert_null(find("token", 50));
    assert_int_equal(cache.count, 0);
}

static void test_the_one_used_longest_ago_makes_room(void **state) {
    (void)state;
    add("one", "default", "a", 100);
    add("two", "default", "a", 100);
    add("three", "default", "a", 100);
    assert_non_null(find("one", 1));
    add("four", "default", "a", 100);
    assert_int_equal(cache.count, 3);
    assert_null(find("two", 1));
    assert_non_null(find("one", 1));
}

static void test_a_changed_record_is_forgotten_in_its_tenant_only(void **state) {
    (void)state;
    add("one", "default", "_superusers/a", 100);
    add("two", "default", "_superusers/b", 100);
    add("three", "acme", "_superusers/a", 100);
    auth_cache_forget(&cache, BK_SLICE("default"), BK_SLICE("_superusers/a"));
    assert_null(find("one", 1));
    assert_non_null(find("two", 1));
    assert_non_null(find("three", 1));
}

static void test_all_tokens_of_a_record_are_forgotten(void **state) {
    (void)state;
    add("one", "acme", "users/a", 100);
    add("two", "default", "users/a", 100);
    add("three", "default", "users/a", 100);
    auth_cache_forget(&cache, BK_SLICE("default"), BK_SLICE("users/none"));
    assert_int_equal(cache.count, 3);
    auth_cache_forget(&cache, BK_SLICE("default"), BK_SLICE("users/a"));
    assert_int_equal(cache.count, 1);
    assert_non_null(find("one", 1));
    add("four", "acme", "users/a", 100);
    auth_cache_forget(&cache, BK_SLICE("acme"), BK_SLICE("users/a"));
    assert_int_equal(cache.count, 0);
    assert_int_equal(cache.by_label.count, 0);
}

/* The one that stands for its record in the map goes, and the others are found still. */
static void test_the_first_of_a_record_may_expire(void **state) {
    (void)state;
    add("one", "default", "users/a", 50);
    add("two", "default", "users/a", 100);
    assert_null(find("one", 50));
    auth_cache_forget(&cache, BK_SLICE("default"), BK_SLICE("users/a"));
    assert_null(find("two", 50));
    assert_int_equal(cache.count, 0);
}

static void test_a_closed_tenant_is_forgotten_whole(void **state) {
    (void)state;
    add("one", "default", "a", 100);
    add("two", "default", "b", 100);
    add("three", "acme", "a", 100);
    auth_cache_forget(&cache, BK_SLICE("default"), BK_SLICE_EMPTY);
    assert_int_equal(cache.count, 1);
    assert_non_null(find("three", 1));
}

static void test_a_cache_of_none_holds_none(void **state) {
    (void)state;
    cache.count_max = 0;
    add("one", "default", "a", 100);
    assert_null(find("one", 1));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_added_is_found_with_all_it_says),
        TEST(test_an_expired_token_is_dropped),
        TEST(test_a_token_of_a_future_that_never_came_is_dropped),
        TEST(test_the_one_used_longest_ago_makes_room),
        TEST(test_a_changed_record_is_forgotten_in_its_tenant_only),
        TEST(test_all_tokens_of_a_record_are_forgotten),
        TEST(test_the_first_of_a_record_may_expire),
        TEST(test_a_closed_tenant_is_forgotten_whole),
        TEST(test_a_cache_of_none_holds_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
