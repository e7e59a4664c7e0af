/* Configurations: what a record becomes, and what makes one that is switched off. */
#include "config_fixture.h"

#include "bakend/settings.h"

#include <stdio.h>

static struct config_fixture fixture;

static int setup(void **state) {
    static const struct webhooks_keys keys = {.secret = "a secret of thirty-two characters",
                                              .secret_length = 32};
    (void)state;
    config_fixture_open(&fixture);
    config_fixture_write_keys(&fixture, "aaaaaaaaaaaaaaa", &keys);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    config_fixture_close(&fixture);
    return 0;
}

static struct webhooks_config *read_config(enum bk_status expected) {
    struct webhooks_config *config = NULL;
    enum bk_status status = webhooks_config_read(&fixture.state, fixture.kernel.tenant,
                                                 BK_SLICE("aaaaaaaaaaaaaaa"), &config);
    assert_int_equal(status, expected);
    return config;
}

static void one_that_says_little_has_the_defaults(void **state) {
    (void)state;
    assert_null(read_config(BK_NOT_FOUND));
    config_fixture_execute(&fixture, "INSERT INTO _webhooks (id, url, enabled) "
                                     "VALUES ('aaaaaaaaaaaaaaa', 'https://a.example/x', 1)");
    struct webhooks_config *config = read_config(BK_OK);
    assert_true(bk_slice_is(config->id, "aaaaaaaaaaaaaaa"));
    assert_true(bk_slice_is(config->url, "https://a.example/x"));
    assert_true(config->is_enabled && !config->is_ordered && !config->is_verified);
    assert_int_equal(config->format, WEBHOOKS_STANDARD);
    assert_int_equal(config->type_count + config->header_count + config->subject.length, 0);
    assert_null(config->filter);
    assert_int_equal(config->in_flight_max, WEBHOOKS_IN_FLIGHT);
    assert_int_equal(config->rate_per_minute, 0);
    assert_int_equal(config->timeout_ms, 15000);
    assert_int_equal(config->keys.secret_length, 32);
    assert_false(config->keys.has_seed);
    assert_ptr_equal(webhooks_config_ref(config), config);
    webhooks_config_unref(config);
    webhooks_config_unref(config);
    webhooks_config_unref(NULL);
}

static void all_that_a_record_says_is_read(void **state) {
    struct webhooks_keys keys = {.secret_length = 24};
    uint8_t public_key[BK_ED25519_PUBLIC_BYTES], expected[BK_ED25519_PUBLIC_BYTES];
    struct bk_ed25519_key key;
    (void)state;
    webhooks_seed_make(&keys);
    config_fixture_write_keys(&fixture, "aaaaaaaaaaaaaaa", &keys);
    config_fixture_execute(
        &fixture,
        "INSERT INTO _webhooks (id, url, enabled, ordered, types, subject, filter, format, headers,"
        " rateLimit, allowedRate, maxInFlight, timeoutMs, verifiedAt) VALUES ('aaaaaaaaaaaaaaa', "
        "'https://a.example/x', 1, 1, '[\"posts.*\", \"users.created\"]', 'posts/a', "
        "'payload.total  > 5', 'cloudevents-binary', "
        "'{\"Authorization\": \"Bearer x\", \"X-A\": \"b\"}', 600, 120, 3, 2500, "
        "'2026-06-08 12:00:00.123Z')");
    struct webhooks_config *config = read_config(BK_OK);
    assert_true(config->is_ordered && config->is_verified);
    assert_true(bk_slice_is(config->origin, "localhost")); /* of the settings that nobody made */
    assert_int_equal(config->type_count, 2);
    assert_true(bk_slice_is(config->types[0], "posts.*"));
    assert_true(bk_slice_is(config->types[1], "users.created"));
    assert_true(bk_slice_is(config->subject, "posts/a"));
    assert_true(bk_slice_is(bk_event_filter_text(config->filter), "payload.total > 5"));
    assert_int_equal(config->format, WEBHOOKS_CLOUDEVENTS_BINARY);
    assert_int_equal(config->header_count, 2);
    assert_true(bk_slice_is(config->headers[0].name, "Authorization"));
    assert_true(bk_slice_is(config->headers[0].value, "Bearer x"));
    assert_true(config->has_clear_headers); /* an earlier version left them there */
    assert_int_equal(config->rate_per_minute, 120);
    assert_int_equal(config->in_flight_max, 3);
    assert_int_equal(config->timeout_ms, 2500);
    bk_ed25519_key_init(&key, keys.seed);
    bk_ed25519_public(&key, expected);
    bk_ed25519_public(&config->signer, public_key);
    assert_memory_equal(public_key, expected, sizeof expected);
    webhooks_config_unref(config);
}

static void our_name_is_the_option_or_the_host_of_the_application(void **state) {
    static const char *const pairs[][2] = {
        {"https://api.example.com", "api.example.com"},
        {"http://localhost:8090/app/", "localhost"},
        {"http://[::1]:8090", "[::1]"},
        {"https://10.0.0.12", "10.0.0.12"},
        {"", ""},
        {"x", ""},
    };
    struct bk_settings settings = {0};
    struct bk_tenant tenant = {.settings = &settings};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(pairs); i++) {
        settings.meta.app_url = bk_slice_from(pairs[i][0]);
        struct bk_slice origin = webhooks_origin(&fixture.state, &tenant);
        if (!bk_slice_equal(origin, bk_slice_from(pairs[i][1])))
            fail_msg("%s: %.*s", pairs[i][0], BK_SLICE_PRINT(origin));
    }
    fixture.options.origin = "events.example.com";
    assert_true(bk_slice_is(webhooks_origin(&fixture.state, &tenant), "events.example.com"));
}

static void the_smaller_rate_counts(void **state) {
    static const struct {
        const char *set;
        uint32_t rate;
    } cases[] = {{"rateLimit = 60, allowedRate = 0", 60},
                 {"rateLimit = 0, allowedRate = 60", 60},
                 {"rateLimit = 60, allowedRate = 61", 60},
                 {"rateLimit = 1e12, allowedRate = 0", WEBHOOKS_RATE_MAX},
                 {"rateLimit = -3, allowedRate = 'x'", 0}};
    (void)state;
    config_fixture_execute(&fixture, "INSERT INTO _webhooks (id, url, enabled) "
                                     "VALUES ('aaaaaaaaaaaaaaa', 'https://a.example/x', 1)");
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        char sql[200];
        (void)snprintf(sql, sizeof sql, "UPDATE _webhooks SET %s", cases[i].set);
        config_fixture_execute(&fixture, sql);
        struct webhooks_config *config = read_config(BK_OK);
        assert_int_equal(config->rate_per_minute, cases[i].rate);
        webhooks_config_unref(config);
    }
}

/* Rows come in by restores and imports, too. */
static void one_that_cannot_be_followed_is_switched_off(void **state) {
    static const char *const wrong[] = {
        "types = '{}'",
        "types = '[1]'",
        "types = '[\"posts\", \"a..b\"]'",
        "types = 'x'",
        "filter = 'payload.x >'",
        "format = 'xml'",
        "headers = '[]'",
        "headers = '{\"A\": 1}'",
        "headers = '{\"host\": \"x\"}'",
        "headers = '{\"Webhook-Id\": \"x\"}'",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        char sql[200];
        config_fixture_execute(&fixture, "INSERT OR REPLACE INTO _webhooks (id, url, enabled) "
                                         "VALUES ('aaaaaaaaaaaaaaa', 'https://a.example/x', 1)");
        (void)snprintf(sql, sizeof sql, "UPDATE _webhooks SET %s", wrong[i]);
        config_fixture_execute(&fixture, sql);
        struct webhooks_config *config = read_config(BK_CORRUPT);
        if (config->is_enabled || !config->is_resting || config->problem != WEBHOOKS_NO_SENSE)
            fail_msg("enabled: %s", wrong[i]);
        webhooks_config_unref(config);
    }
}

static void one_whose_secret_does_not_open_is_switched_off(void **state) {
    (void)state;
    config_fixture_execute(&fixture, "INSERT INTO _webhooks (id, url, enabled) "
                                     "VALUES ('aaaaaaaaaaaaaaa', 'https://a.example/x', 1)");
    fixture.state.key[3] ^= 1;
    struct webhooks_config *config = read_config(BK_CORRUPT);
    assert_false(config->is_enabled);
    assert_true(config->is_resting);
    assert_int_equal(config->problem, WEBHOOKS_NO_SECRET);
    assert_int_equal(config->keys.secret_length, 0);
    assert_true(bk_slice_is(config->url, "https://a.example/x"));
    webhooks_config_unref(config);
    fixture.state.key[3] ^= 1;
    config_fixture_execute(&fixture, "DELETE FROM _webhookStates");
    config = read_config(BK_CORRUPT);
    assert_false(config->is_enabled);
    webhooks_config_unref(config);
}

static void values_of_headers_are_read_from_where_they_are_sealed(void **state) {
    (void)state;
    config_fixture_write_headers(&fixture, "aaaaaaaaaaaaaaa",
                                 "{\"Authorization\":\"Bearer \\\"x\\\"\",\"X-A\":\"b\"}");
    config_fixture_execute(&fixture, "INSERT INTO _webhooks (id, url, enabled, headers) VALUES "
                                     "('aaaaaaaaaaaaaaa', 'https://a.example/x', 1, "
                                     "'{\"X-A\":\"********\",\"Authorization\":\"********\"}')");
    struct webhooks_config *config = read_config(BK_OK);
    assert_int_equal(config->header_count, 2);
    assert_true(bk_slice_is(config->headers[0].value, "b"));
    assert_true(bk_slice_is(config->headers[1].value, "Bearer \"x\""));
    assert_false(config->has_clear_headers);
    webhooks_config_unref(config);
    /* What is not said again stays, and what is not named goes. */
    config_fixture_write_headers(&fixture, "aaaaaaaaaaaaaaa", "{\"x-a\":\"********\"}");
    config_fixture_execute(&fixture, "UPDATE _webhooks SET headers = '{\"x-a\":\"********\"}'");
    config = read_config(BK_OK);
    assert_int_equal(config->header_count, 1);
    assert_true(bk_slice_is(config->headers[0].value, "b"));
    webhooks_config_unref(config);
}

static void one_whose_headers_do_not_open_is_switched_off(void **state) {
    static const char *const changes[] = {
        "UPDATE _webhooks SET headers = '{\"X-B\":\"********\"}'",
        ("UPDATE _webhookStates SET headers = (SELECT headers FROM _webhookStates WHERE webhook = "
         "'bbbbbbbbbbbbbbb')"),
        "UPDATE _webhookStates SET headers = secret",
        "UPDATE _webhookStates SET headers = 'x'",
        "UPDATE _webhookStates SET headers = ''",
    };
    (void)state;
    config_fixture_execute(&fixture, "INSERT INTO _webhooks (id, url, enabled) "
                                     "VALUES ('aaaaaaaaaaaaaaa', 'https://a.example/x', 1)");
    config_fixture_write_headers(&fixture, "bbbbbbbbbbbbbbb", "{\"X-A\":\"b\"}");
    for (size_t i = 0; i < BK_COUNT_OF(changes); i++) {
        config_fixture_execute(&fixture, "UPDATE _webhooks SET headers = '{\"X-A\":\"********\"}'");
        config_fixture_write_headers(&fixture, "aaaaaaaaaaaaaaa", "{\"X-A\":\"b\"}");
        webhooks_config_unref(read_config(BK_OK));
        config_fixture_execute(&fixture, changes[i]);
        struct webhooks_config *config = read_config(BK_CORRUPT);
        if (config->is_enabled || !config->is_resting || config->problem != WEBHOOKS_NO_HEADERS)
            fail_msg("goes on: %s", changes[i]);
        webhooks_config_unref(config);
    }
}

/* --- headers ---------------------------------------------------------------------------------- */

/* The message about them, or NULL. */
static const char *trouble_with(struct bk_arena *arena, const char *text) {
    struct bk_problems problems;
    struct bk_json *json;
    bk_problems_init(&problems, arena);
    assert_int_equal(bk_json_parse(arena, bk_slice_from(text), &json, NULL), BK_OK);
    webhooks_headers_check(&problems, json, NULL);
    assert_true(problems.count <= 1);
    assert_true(problems.count == 0 || bk_slice_is(problems.first->field, "headers"));
    return problems.count == 0 ? NULL : problems.first->message.data;
}

static void headers_that_say_what_we_say_are_refused(void **state) {
    static const char *const taken[] = {
        "Host",    "content-length", "Content-Type",      "CONTENT-ENCODING", "transfer-encoding",
        "te",      "connection",     "webhook-signature", "Webhook-Id",       "webhook-x",
        "svix-id", "ce-type",        "user-agent",        "Expect",           "proxy-authorization",
        "upgrade", "trailer",        "keep-alive",        "http2-settings",   "date",
    };
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 256 * 1024);
    for (size_t i = 0; i < BK_COUNT_OF(taken); i++) {
        struct bk_slice text = bk_arena_format(&arena, "{\"A\":\"x\",\"%s\":\"y\"}", taken[i]);
        const char *trouble = trouble_with(&arena, text.data);
        if (trouble == NULL)
            fail_msg("taken: %s", taken[i]);
        assert_non_null(strstr(trouble, taken[i]));
        assert_non_null(strstr(trouble, "use another name"));
    }
    bk_arena_fini(&arena);
}

static void headers_are_lines_and_never_more(void **state) {
    static const char *const wrong[] = {
        "[]",
        "\"x\"",
        "{\"\": \"x\"}",
        "{\"a b\": \"x\"}",
        "{\"a:\": \"x\"}",
        "{\"a\\r\\nb\": \"x\"}",
        "{\"é\": \"x\"}",
        "{\"a\": \"\"}",
        "{\"a\": \"x\\r\\nb: c\"}",
        "{\"a\": \"x\\n\"}",
        "{\"a\": \" x\"}",
        "{\"a\": \"x\\t\"}",
        "{\"a\": \"é\"}",
        "{\"a\": \"\\u007f\"}",
        "{\"a\": 1}",
        "{\"a\": null}",
        "{\"X-A\": \"x\", \"x-a\": \"y\"}",
    };
    static const char *const right[] = {
        "null",
        "{}",
        "{\"Authorization\": \"Basic dTpw\"}",
        "{\"Cookie\": \"a=b; c=d\", \"x.y_z~1\": \"!\\\"#%\"}",
        "{\"cex\": \"x\", \"webhooks\": \"x\", \"dates\": \"x\"}",
    };
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 256 * 1024);
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        if (trouble_with(&arena, wrong[i]) == NULL)
            fail_msg("taken: %s", wrong[i]);
    for (size_t i = 0; i < BK_COUNT_OF(right); i++)
        if (trouble_with(&arena, right[i]) != NULL)
            fail_msg("refused: %s", right[i]);
    bk_arena_fini(&arena);
}

static void there_are_twenty_headers_at_most(void **state) {
    struct bk_buffer out;
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 256 * 1024);
    bk_buffer_init(&out, 64 * 1024);
    for (int i = 0; i < WEBHOOKS_HEADERS_MAX; i++)
        bk_buffer_format(&out, "%c\"x-%d\":\"y\"", i == 0 ? '{' : ',', i);
    struct bk_slice most = bk_arena_format(&arena, "%.*s}", BK_SLICE_PRINT(bk_buffer_slice(&out)));
    struct bk_slice more =
        bk_arena_format(&arena, "%.*s,\"z\":\"y\"}", BK_SLICE_PRINT(bk_buffer_slice(&out)));
    assert_null(trouble_with(&arena, most.data));
    assert_non_null(trouble_with(&arena, more.data));
    bk_buffer_fini(&out);
    bk_arena_fini(&arena);
}

static void a_value_is_kept_where_there_is_one(void **state) {
    struct bk_problems problems;
    struct bk_arena arena;
    struct bk_json *known, *given;
    (void)state;
    bk_arena_init(&arena, 256 * 1024);
    bk_problems_init(&problems, &arena);
    assert_int_equal(bk_json_parse(&arena, BK_SLICE("{\"X-A\":\"********\"}"), &known, NULL),
                     BK_OK);
    assert_int_equal(bk_json_parse(&arena, BK_SLICE("{\"x-a\":\"********\"}"), &given, NULL),
                     BK_OK);
    webhooks_headers_check(&problems, given, known);
    assert_int_equal(problems.count, 0);
    assert_non_null(trouble_with(&arena, "{\"X-A\":\"********\"}"));
    assert_null(trouble_with(&arena, "{\"X-A\":\"*********\"}"));
    bk_arena_fini(&arena);
}

static void formats_have_names(void **state) {
    (void)state;
    for (int i = 0; i < WEBHOOKS_FORMAT_COUNT; i++) {
        enum webhooks_format format = (enum webhooks_format)i;
        assert_int_equal(webhooks_format_named(bk_slice_from(webhooks_format_name(format))),
                         format);
    }
    assert_int_equal(webhooks_format_named(BK_SLICE("cloudevent")), WEBHOOKS_FORMAT_COUNT);
    assert_int_equal(webhooks_format_named(BK_SLICE_EMPTY), WEBHOOKS_FORMAT_COUNT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(one_that_says_little_has_the_defaults),
        TEST(all_that_a_record_says_is_read),
        TEST(our_name_is_the_option_or_the_host_of_the_application),
        TEST(the_smaller_rate_counts),
        TEST(one_that_cannot_be_followed_is_switched_off),
        TEST(one_whose_secret_does_not_open_is_switched_off),
        TEST(values_of_headers_are_read_from_where_they_are_sealed),
        TEST(one_whose_headers_do_not_open_is_switched_off),
        cmocka_unit_test(headers_that_say_what_we_say_are_refused),
        cmocka_unit_test(headers_are_lines_and_never_more),
        cmocka_unit_test(there_are_twenty_headers_at_most),
        cmocka_unit_test(a_value_is_kept_where_there_is_one),
        cmocka_unit_test(formats_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
