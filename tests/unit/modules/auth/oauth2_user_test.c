/* What each provider's answer says of somebody: the paths of its row, and what is its own. */
#include "oauth2.h"
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

static struct bk_json *parse(const char *text) {
    struct bk_json *json;
    assert_int_equal(bk_json_parse(&arena, bk_slice_from(text), &json, NULL), BK_OK);
    return json;
}

static const char *read_user(const char *provider, const char *raw, struct oauth2_user *user) {
    struct oauth2_reading reading = {.provider = auth_oauth2_provider_find(bk_slice_from(provider)),
                                     .config = parse("{}"),
                                     .raw = parse(raw),
                                     .arena = &arena,
                                     .user = user};
    assert_non_null(reading.provider);
    *user = (struct oauth2_user){0};
    return auth_oauth2_user_read(&reading);
}

static void expect(const char *provider, const char *raw, const char *texts[5]) {
    struct oauth2_user user;
    assert_null(read_user(provider, raw, &user));
    const struct bk_slice found[] = {user.id, user.name, user.username, user.avatar, user.email};
    for (size_t i = 0; i < BK_COUNT_OF(found); i++)
        if (!bk_slice_equal(found[i], bk_slice_from(texts[i])))
            fail_msg("%s: %.*s is not %s", provider, BK_SLICE_PRINT(found[i]), texts[i]);
    assert_true(user.is_email_verified == (user.email.length > 0));
}

static const struct {
    const char *provider, *raw;
    const char *texts[5]; /* id, name, username, avatar, email */
} cases[] = {
    {"bitbucket",
     "{\"uuid\":\"{b}\",\"display_name\":\"N\",\"username\":\"u\",\"account_status\":"
     "\"active\","
     "\"links\":{\"avatar\":{\"href\":\"h\"}}}",
     {"{b}", "N", "u", "h", ""}},
    {"box",
     "{\"id\":\"1\",\"name\":\"N\",\"login\":\"a@b.c\",\"avatar_url\":\"h\",\"status\":"
     "\"active\"}",
     {"1", "N", "", "h", "a@b.c"}},
    {"facebook",
     "{\"id\":\"1\",\"name\":\"N\",\"email\":\"a@b.c\",\"picture\":{\"data\":{\"url\":\"h\"}}}",
     {"1", "N", "", "h", "a@b.c"}},
    {"gitea",
     "{\"id\":12,\"full_name\":\"N\",\"login\":\"u\",\"avatar_url\":\"h\",\"active\":true}",
     {"12", "N", "u", "h", ""}},
    {"kakao",
     "{\"id\":12,\"properties\":{\"nickname\":\"u\",\"profile_image\":\"h\"},\"kakao_account\":"
     "{\"email\":\"a@b.c\",\"is_email_verified\":true,\"is_email_valid\":true}}",
     {"12", "", "u", "h", "a@b.c"}},
    {"kakao",
     "{\"id\":12,\"kakao_account\":{\"email\":\"a@b.c\",\"is_email_verified\":true,"
     "\"is_email_valid\":false}}",
     {"12", "", "", "", ""}},
    {"lark",
     "{\"data\":{\"union_id\":\"x\",\"name\":\"N\",\"avatar_url\":\"h\",\"email\":\"a@b.c\"}}",
     {"x", "N", "", "h", ""}},
    {"mailcow",
     "{\"id\":\"1\",\"full_name\":\"N\",\"username\":\"u@b.c\",\"email\":\"u@b.c\",\"active\":"
     "1}",
     {"1", "N", "u", "", "u@b.c"}},
    {"monday",
     "{\"data\":{\"me\":{\"id\":\"1\",\"name\":\"N\",\"photo_small\":\"h\",\"email\":\"a@b.c\","
     "\"is_verified\":false,\"enabled\":true}}}",
     {"1", "N", "", "h", ""}},
    {"notion",
     "{\"bot\":{\"owner\":{\"user\":{\"id\":\"1\",\"name\":\"N\",\"avatar_url\":\"h\","
     "\"person\":{\"email\":\"a@b.c\"}}}}}",
     {"1", "N", "", "h", "a@b.c"}},
    {"patreon",
     "{\"data\":{\"id\":\"1\",\"attributes\":{\"full_name\":\"N\",\"vanity\":\"u\","
     "\"image_url\":\"h\",\"email\":\"a@b.c\",\"is_email_verified\":true}}}",
     {"1", "N", "u", "h", "a@b.c"}},
    {"spotify",
     "{\"id\":\"1\",\"display_name\":\"N\",\"email\":\"a@b.c\",\"images\":[{\"url\":\"h\"},"
     "{\"url\":\"i\"}]}",
     {"1", "N", "", "h", ""}},
    {"strava",
     "{\"id\":12,\"firstname\":\"N\",\"lastname\":\"M\",\"username\":\"u\",\"profile\":\"h\"}",
     {"12", "N M", "u", "h", ""}},
    {"trakt",
     "{\"user\":{\"username\":\"u\",\"name\":\"N\",\"ids\":{\"uuid\":\"1\"},\"images\":{"
     "\"avatar\":{\"full\":\"h\"}}}}",
     {"1", "N", "u", "h", ""}},
    {"twitch",
     "{\"data\":[{\"id\":\"1\",\"login\":\"u\",\"display_name\":\"N\",\"email\":\"a@b.c\","
     "\"profile_image_url\":\"h\"}]}",
     {"1", "N", "u", "h", "a@b.c"}},
    {"twitter",
     "{\"data\":{\"id\":\"1\",\"name\":\"N\",\"username\":\"u\",\"confirmed_email\":\"a@b.c\","
     "\"profile_image_url\":\"h\"}}",
     {"1", "N", "u", "h", "a@b.c"}},
    {"vk",
     "{\"response\":[{\"id\":12,\"first_name\":\"N\",\"last_name\":\"\",\"screen_name\":\"u\","
     "\"photo_max\":\"h\"}]}",
     {"12", "N", "u", "h", ""}},
    {"wakatime",
     "{\"data\":{\"id\":\"1\",\"display_name\":\"N\",\"username\":\"u\",\"photo\":\"h\","
     "\"photo_public\":false,\"email\":\"a@b.c\",\"is_email_confirmed\":true}}",
     {"1", "N", "u", "", "a@b.c"}},
    {"yandex",
     "{\"id\":\"1\",\"real_name\":\"N\",\"login\":\"u\",\"default_email\":\"a@b.c\","
     "\"is_avatar_empty\":false,\"default_avatar_id\":\"7\"}",
     {"1", "N", "u", "https://avatars.yandex.net/get-yapic/7/islands-200", "a@b.c"}},
};

static void test_each_answer_is_read_by_the_paths_of_its_provider(void **state) {
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        const char *texts[5];
        memcpy(texts, cases[i].texts, sizeof texts);
        expect(cases[i].provider, cases[i].raw, texts);
    }
}

static void test_who_has_no_id_or_is_not_active_is_nobody(void **state) {
    struct oauth2_user user;
    (void)state;
    assert_non_null(read_user("google", "{\"email\":\"a@b.c\"}", &user));
    assert_non_null(read_user("google", "{\"sub\":{\"a\":1}}", &user));
    assert_non_null(read_user("gitea", "{\"id\":1,\"active\":false}", &user));
    assert_non_null(read_user("box", "{\"id\":\"1\"}", &user));
    assert_non_null(read_user("twitch", "{\"data\":[]}", &user));
    assert_non_null(read_user("mailcow", "{\"id\":\"1\",\"active\":0}", &user));
}

static void test_of_a_list_the_verified_main_address_counts(void **state) {
    static const char *const lists[] = {
        "[{\"email\":\"x\",\"primary\":true,\"verified\":false},"
        "{\"email\":\"a@b.c\",\"primary\":true,\"verified\":true}]",
        "{\"values\":[{\"email\":\"x\",\"is_confirmed\":true},"
        "{\"email\":\"a@b.c\",\"is_primary\":true,\"is_confirmed\":true}]}",
        "[{\"email\":\"x\",\"state\":\"unconfirmed\",\"scope\":[\"primary\"]},"
        "{\"email\":\"a@b.c\",\"state\":\"confirmed\",\"scope\":[\"other\",\"primary\"]}]"};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(lists); i++)
        assert_true(bk_slice_is(auth_oauth2_emails_read(parse(lists[i]), &arena), "a@b.c"));
    assert_int_equal(auth_oauth2_emails_read(parse("{\"email\":\"a@b.c\"}"), &arena).length, 0);
    assert_int_equal(auth_oauth2_emails_read(parse("[1,null,\"x\"]"), &arena).length, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_answer_is_read_by_the_paths_of_its_provider,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_has_no_id_or_is_not_active_is_nobody, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_of_a_list_the_verified_main_address_counts, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
