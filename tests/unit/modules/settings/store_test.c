/* Settings: what others use of them, and that it outlives what it was read from. */
#include "settings.h"

#include "support.h"

static void share(const char *given, struct settings_tenant *state) {
    struct bk_arena arena;
    struct bk_json *json, *whole;
    struct bk_settings shared;
    bk_arena_init(&arena, 4 * 1024 * 1024);
    assert_int_equal(bk_json_parse(&arena, bk_slice_from(given), &json, NULL), BK_OK);
    assert_int_equal(settings_lay(json, NULL, &arena, &whole, NULL), BK_OK);
    settings_share(whole, &arena, &shared);
    settings_keep(state, &shared);
    bk_arena_fini(&arena);
}

static void what_is_shared_is_what_was_set(void **state) {
    struct settings_tenant tenant;
    (void)state;
    settings_tenant_init(&tenant);
    share("{\"smtp\":{\"enabled\":true,\"tls\":true,\"host\":\"mail.example.com\",\"port\":465,"
          "\"username\":\"me\",\"password\":\"secret\",\"authMethod\":\"LOGIN\","
          "\"localName\":\"here\"},\"meta\":{\"appName\":\"Shop\"},\"batch\":{\"enabled\":true}}",
          &tenant);
    assert_true(tenant.shared.allows_batch);
    assert_true(tenant.shared.smtp.is_enabled && tenant.shared.smtp.is_tls);
    assert_int_equal(tenant.shared.smtp.port, 465);
    assert_true(bk_slice_is(tenant.shared.smtp.host, "mail.example.com"));
    assert_true(bk_slice_is(tenant.shared.smtp.user, "me"));
    assert_true(bk_slice_is(tenant.shared.smtp.password, "secret"));
    assert_true(bk_slice_is(tenant.shared.smtp.login, "LOGIN"));
    assert_true(bk_slice_is(tenant.shared.smtp.local_name, "here"));
    assert_true(bk_slice_is(tenant.shared.meta.app_name, "Shop"));
    share("{\"meta\":{\"appName\":\"Another\"}}", &tenant);
    assert_true(bk_slice_is(tenant.shared.meta.app_name, "Another"));
    assert_int_equal(tenant.shared.smtp.password.length, 0);
    assert_false(tenant.shared.smtp.is_enabled);
    settings_forget(&tenant);
    assert_null(tenant.secret);
}

static void without_settings_all_is_as_from_the_start(void **state) {
    struct settings_tenant tenant;
    const struct bk_tenant nobody = {.settings = NULL};
    const struct bk_settings *initial = bk_settings_of(&nobody);
    (void)state;
    settings_tenant_init(&tenant);
    share("{}", &tenant);
    assert_int_equal(tenant.shared.batch_requests_max, initial->batch_requests_max);
    assert_true(bk_slice_equal(tenant.shared.meta.app_name, initial->meta.app_name));
    assert_true(bk_slice_equal(tenant.shared.meta.app_url, initial->meta.app_url));
    assert_true(bk_slice_equal(tenant.shared.meta.sender_name, initial->meta.sender_name));
    assert_true(bk_slice_equal(tenant.shared.meta.sender_address, initial->meta.sender_address));
    settings_forget(&tenant);
}

static void limits_are_shared_with_their_texts(void **state) {
    struct settings_tenant tenant;
    (void)state;
    settings_tenant_init(&tenant);
    share("{\"rateLimits\":{\"enabled\":true,\"excludedIPs\":[\"10.0.0.0/8\",\"::1\"],\"rules\":["
          "{\"label\":\"*:auth\",\"audience\":\"@guest\",\"duration\":3,\"maxRequests\":2},"
          "{\"label\":\"/api/\",\"duration\":10,\"maxRequests\":300}]},"
          "\"superuserIPs\":[\"192.0.2.7\"]}",
          &tenant);
    const struct bk_settings_limits *limits = &tenant.shared.limits;
    uint8_t address[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 7};
    assert_true(limits->is_enabled);
    assert_int_equal(limits->rule_count, 2);
    assert_true(bk_slice_is(limits->rules[0].label, "*:auth"));
    assert_true(bk_slice_is(limits->rules[0].audience, "@guest"));
    assert_int_equal(limits->rules[0].seconds, 3);
    assert_int_equal(limits->rules[1].requests_max, 300);
    assert_int_equal(limits->excluded_count, 2);
    assert_true(bk_network_contains(&limits->excluded[0], address));
    assert_false(bk_network_contains(&limits->excluded[1], address));
    assert_int_equal(tenant.shared.superuser_network_count, 1);
    uint64_t revision = tenant.shared.revision;
    share("{\"rateLimits\":{\"rules\":[]}}", &tenant);
    assert_int_equal(tenant.shared.limits.rule_count, 0);
    assert_true(tenant.shared.revision != revision);
    settings_forget(&tenant);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shared_is_what_was_set),
        cmocka_unit_test(limits_are_shared_with_their_texts),
        cmocka_unit_test(without_settings_all_is_as_from_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
