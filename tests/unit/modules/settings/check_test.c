/* Settings: what is wrong with them, by path and code, as the contract has it. */
#include "settings.h"

#include "support.h"

struct fixture {
    struct bk_arena arena;
    struct bk_problems problems;
    char text[8 * 1024];
};

static int setup(void **state) {
    static struct fixture fixture;
    bk_arena_init(&fixture.arena, 4 * 1024 * 1024);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_arena_fini(&fixture->arena);
    return 0;
}

/* The problems of what is given over nothing, both with apostrophes for quotes. */
static const char *problems_of(struct fixture *fixture, const char *given) {
    struct bk_slice text = bk_arena_copy(&fixture->arena, bk_slice_from(given));
    struct bk_json *json, *whole;
    struct bk_buffer out;
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] == '\'')
            ((char *)(uintptr_t)text.data)[i] = '"';
    assert_int_equal(bk_json_parse(&fixture->arena, text, &json, NULL), BK_OK);
    assert_int_equal(settings_lay(json, NULL, &fixture->arena, &whole, NULL), BK_OK);
    bk_problems_init(&fixture->problems, &fixture->arena);
    settings_check(whole, &fixture->problems);
    bk_buffer_init(&out, sizeof fixture->text - 1);
    bk_problems_write_json(&fixture->problems, &out);
    assert_int_equal(bk_buffer_status(&out), BK_OK);
    for (size_t i = 0; i < out.length; i++)
        fixture->text[i] = out.data[i];
    fixture->text[out.length] = '\0';
    bk_buffer_fini(&out);
    for (char *c = fixture->text; *c != '\0'; c++)
        if (*c == '"')
            *c = '\'';
    return fixture->text;
}

static void assert_problem(struct fixture *fixture, const char *given, const char *part) {
    if (strstr(problems_of(fixture, given), part) == NULL)
        fail_msg("%s: %s lacks %s", given, fixture->text, part);
}

static void what_is_there_from_the_start_is_right(void **state) {
    assert_string_equal(problems_of(*state, "{}"), "{}");
}

static void each_group_is_judged(void **state) {
    struct fixture *fixture = *state;
    assert_problem(fixture, "{'meta':{'appName':''}}",
                   "{'meta':{'appName':{'code':'validation_required'");
    assert_problem(fixture, "{'meta':{'appURL':'nope'}}", "'appURL':{'code':'validation_is_url'");
    assert_problem(fixture, "{'meta':{'senderAddress':'nope'}}", "'validation_is_email'");
    assert_problem(fixture, "{'meta':{'accentColor':'red'}}",
                   "'validation_length_invalid','message':'The length must be exactly 7.','params':"
                   "{'max':7,'min':7}");
    assert_problem(fixture, "{'meta':{'accentColor':'1234567'}}", "validation_is_hex_color");
    assert_problem(fixture, "{'smtp':{'enabled':true,'host':'','port':0}}",
                   "'host':{'code':'validation_required'");
    assert_problem(fixture, "{'smtp':{'host':'bad host'}}", "'validation_is_host'");
    assert_problem(fixture, "{'smtp':{'port':-1}}",
                   "'validation_min_greater_equal_than_required','message':'Must be no less than "
                   "0.','params':{'threshold':0}");
    assert_problem(fixture, "{'smtp':{'authMethod':'X'}}", "'validation_in_invalid'");
    assert_problem(fixture, "{'s3':{'enabled':true}}", "'secret':{'code':'validation_required'");
    assert_problem(fixture, "{'backups':{'s3':{'endpoint':'nope'}}}",
                   "{'backups':{'s3':{'endpoint':{'code':'validation_is_url'");
    assert_problem(fixture, "{'backups':{'cron':'nope'}}", "'validation_invalid_cron'");
    assert_problem(fixture, "{'backups':{'cron':'@daily','cronMaxKeep':0}}",
                   "'cronMaxKeep':{'code':'validation_required'");
    assert_problem(fixture, "{'logs':{'maxDays':-1}}", "{'logs':{'maxDays':{'code':");
    assert_problem(fixture, "{'batch':{'enabled':true,'maxRequests':0,'maxBodySize':-1}}",
                   "'maxRequests':{'code':'validation_required'");
    assert_problem(fixture, "{'superuserIPs':['1.2.3.4','nope']}",
                   "{'superuserIPs':{'1':{'code':'validation_invlaid_ip_or_subnet'");
}

static void rate_rules_are_judged_one_by_one(void **state) {
    struct fixture *fixture = *state;
    assert_problem(fixture, "{'rateLimits':{'enabled':true,'rules':[]}}",
                   "{'rateLimits':{'rules':{'code':'validation_required'");
    assert_problem(fixture, "{'rateLimits':{'rules':[{'label':'a b','audience':'x'}]}}",
                   "{'rateLimits':{'rules':{'0':{'label':{'code':'validation_match_invalid'");
    assert_problem(fixture,
                   "{'rateLimits':{'rules':[{'label':'*:list','maxRequests':5,'duration':5},"
                   "{'label':'*:list','maxRequests':5,'duration':5,'audience':'@guest'}]}}",
                   "'1':{'label':{'code':'validation_conflicting_rate_limit_rule'");
    assert_string_equal(
        problems_of(fixture, "{'rateLimits':{'rules':[{'label':'users','maxRequests':5,"
                             "'duration':5},{'label':'users2','maxRequests':5,'duration':5}]}}"),
        "{}");
}

static void lists_that_each_request_looks_through_are_bounded(void **state) {
    struct fixture *fixture = *state;
    struct bk_buffer rules;
    bk_buffer_init(&rules, 64 * 1024);
    bk_buffer_append_literal(&rules, "{'rateLimits':{'rules':[");
    for (int i = 0; i <= SETTINGS_RULES_MAX; i++)
        bk_buffer_format(&rules, "%s{'label':'r%d','maxRequests':5,'duration':5}",
                         i == 0 ? "" : ",", i);
    bk_buffer_append_literal(&rules, "]}}");
    bk_buffer_append_char(&rules, '\0');
    assert_problem(fixture, rules.data, "{'rules':{'code':'validation_length_too_long'");
    bk_buffer_fini(&rules);
}

static void labels_are_those_of_routes_and_collections(void **state) {
    static const char *const good[] = {"users",      "users:create", "*:list",     "/",
                                       "/api/batch", "POST /x",      "get /api/-x"};
    static const char *const bad[] = {"*",      "*:",   ":x",   "*:x y", "a b",
                                      "POST x", "/a b", "* /x", "a:b:c", "ü"};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(good); i++)
        if (!settings_label_is_valid(bk_slice_from(good[i])))
            fail_msg("%s is refused", good[i]);
    for (size_t i = 0; i < BK_COUNT_OF(bad); i++)
        if (settings_label_is_valid(bk_slice_from(bad[i])))
            fail_msg("%s is taken", bad[i]);
}

static void hosts_and_networks_are_told_from_words(void **state) {
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost", "a_b.example.com.", "a-1"};
    static const char *const no_hosts[] = {"bad host", "-a", "[::1]", "example..com", "a/b", "."};
    static const char *const networks[] = {"1.2.3.4", "10.0.0.0/8", "::1", "fe80::/10"};
    static const char *const no_networks[] = {"nope", "1.2.3.4/33",  "::/129",   "1.2.3.4/",
                                              "/8",   "1.2.3.4/8/8", "1.2.3.4/x"};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(hosts); i++)
        assert_true(settings_host_is_valid(bk_slice_from(hosts[i])));
    for (size_t i = 0; i < BK_COUNT_OF(no_hosts); i++)
        assert_false(settings_host_is_valid(bk_slice_from(no_hosts[i])));
    for (size_t i = 0; i < BK_COUNT_OF(networks); i++)
        assert_true(settings_network_is_valid(bk_slice_from(networks[i])));
    for (size_t i = 0; i < BK_COUNT_OF(no_networks); i++)
        assert_false(settings_network_is_valid(bk_slice_from(no_networks[i])));
}

static void others_find_the_limits_of_a_batch(void **state) {
    struct fixture *fixture = *state;
    struct bk_settings shared;
    struct bk_json *whole, *given;
    const struct bk_tenant bare = {.settings = NULL};
    assert_int_equal(settings_lay(NULL, NULL, &fixture->arena, &whole, NULL), BK_OK);
    settings_share(whole, &fixture->arena, &shared);
    const struct bk_settings *initial = bk_settings_of(&bare);
    assert_false(shared.allows_batch || initial->allows_batch);
    assert_int_equal(shared.batch_requests_max, initial->batch_requests_max);
    assert_int_equal(shared.batch_seconds_max, initial->batch_seconds_max);
    assert_int_equal(shared.batch_body_bytes_max, initial->batch_body_bytes_max);
    assert_int_equal(bk_json_parse(&fixture->arena,
                                   BK_SLICE("{\"batch\":{\"enabled\":true,\"maxRequests\":7,"
                                            "\"timeout\":9,\"maxBodySize\":1000}}"),
                                   &given, NULL),
                     BK_OK);
    assert_int_equal(settings_lay(given, whole, &fixture->arena, &whole, NULL), BK_OK);
    settings_share(whole, &fixture->arena, &shared);
    assert_true(shared.allows_batch);
    assert_int_equal(shared.batch_requests_max, 7);
    assert_int_equal(shared.batch_seconds_max, 9);
    assert_int_equal(shared.batch_body_bytes_max, 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_is_there_from_the_start_is_right),
        TEST(each_group_is_judged),
        TEST(rate_rules_are_judged_one_by_one),
        TEST(lists_that_each_request_looks_through_are_bounded),
        TEST(labels_are_those_of_routes_and_collections),
        TEST(hosts_and_networks_are_told_from_words),
        TEST(others_find_the_limits_of_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
