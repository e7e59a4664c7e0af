/* Headers of a delivery: known answers of Standard Webhooks, rotation, and what each format has. */
#include "webhooks.h"

#include "bakend/encode.h"
#include "support.h"

/* Of the specification's reference implementation. */
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define PRIVATE                                                                                    \
    "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
#define V1 "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define V1A                                                                                        \
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
enum { NOW_S = 1614265330 };

struct fixture {
    struct webhooks_state state;
    struct webhooks_config config;
    struct bk_event_fields event;
    struct webhooks_form form;
    struct webhooks_signing signing;
    struct bk_arena arena;
    struct bk_outbound_request request;
};
static struct fixture fixture;

static int setup(void **state) {
    (void)state;
    fixture =
        (struct fixture){.event = {.id = BK_SLICE("msg_p5jXN8AQM9LWM0D4loKWxJek"),
                                   .type = BK_SLICE("posts.created"),
                                   .source = BK_SLICE("collections"),
                                   .tenant = BK_SLICE("acme"),
                                   .subject = BK_SLICE("posts/a b"),
                                   .sequence = 7,
                                   .version = 1,
                                   .payload = BK_SLICE("{}")},
                         .signing = {.body = BK_SLICE("{\"test\": 2432232314}"), .now_s = NOW_S}};
    fixture.signing.state = &fixture.state;
    fixture.signing.config = &fixture.config;
    fixture.signing.event = &fixture.event;
    fixture.signing.form = &fixture.form;
    bk_arena_init(&fixture.arena, 256 * 1024);
    assert_int_equal(webhooks_secret_make(BK_SLICE(SECRET), &fixture.config.keys), BK_OK);
    return bk_crypto_init() == BK_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&fixture.arena);
    return 0;
}

static uint32_t count_of(const char *name) {
    uint32_t count = 0;
    for (size_t i = 0; i < fixture.request.header_count; i++)
        count += bk_slice_equal_ignore_case(fixture.request.headers[i].name, bk_slice_from(name));
    return count;
}

static void assert_header(const char *name, const char *expected) {
    struct bk_slice value = BK_SLICE_EMPTY;
    for (size_t i = 0; i < fixture.request.header_count; i++)
        if (bk_slice_equal_ignore_case(fixture.request.headers[i].name, bk_slice_from(name)))
            value = fixture.request.headers[i].value;
    assert_int_equal(count_of(name), expected == NULL ? 0 : 1);
    if (expected != NULL && !bk_slice_equal(value, bk_slice_from(expected)))
        fail_msg("%s: %.*s is not %s", name, BK_SLICE_PRINT(value), expected);
}

static void sign(void) {
    assert_int_equal(webhooks_sign(&fixture.signing, &fixture.arena, &fixture.request), BK_OK);
    assert_true(fixture.request.header_count <= BK_OUTBOUND_HEADERS_MAX);
}

static void use_private_key(void) {
    uint8_t bytes[64];
    size_t length = sizeof bytes;
    assert_true(bk_base64_decode(BK_SLICE(PRIVATE), bytes, &length));
    assert_int_equal(length, 64);
    struct webhooks_keys *keys = &fixture.config.keys;
    keys->has_seed = true;
    memcpy(keys->seed, bytes, WEBHOOKS_SEED_BYTES);
    bk_ed25519_key_init(&fixture.config.signer, keys->seed);
}

static void the_known_answer_is_given(void **state) {
    (void)state;
    sign();
    assert_header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_header("webhook-timestamp", "1614265330");
    assert_header("webhook-signature", V1);
    assert_header("content-type", "application/json");
    assert_header("user-agent", "Bakend");
    assert_int_equal(fixture.request.header_count, 5);
}

static void ed25519_comes_last_where_it_was_asked_for(void **state) {
    (void)state;
    use_private_key();
    sign();
    assert_header("webhook-signature", V1 " " V1A);
}

/* The newest first; the previous one until its grace is over, to the second. */
static void during_a_rotation_both_secrets_sign(void **state) {
    struct webhooks_keys *keys = &fixture.config.keys;
    (void)state;
    memcpy(keys->previous, keys->secret, keys->secret_length);
    keys->previous_length = keys->secret_length;
    keys->previous_until_ms = (NOW_S + 1) * INT64_C(1000);
    assert_int_equal(webhooks_secret_make(BK_SLICE("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), keys),
                     BK_OK);
    use_private_key();
    sign();
    struct bk_slice both = fixture.request.headers[4].value;
    assert_true(bk_slice_is(fixture.request.headers[4].name, "webhook-signature"));
    assert_int_equal(both.length, 3 + 44 + 1 + strlen(V1) + 1 + strlen(V1A));
    assert_true(bk_slice_starts_with(both, BK_SLICE("v1,")));
    assert_false(bk_slice_starts_with(both, BK_SLICE(V1)));
    assert_true(bk_slice_ends_with(both, BK_SLICE(" " V1 " " V1A)));
    keys->previous_until_ms = NOW_S * INT64_C(1000);
    sign();
    struct bk_slice one = fixture.request.headers[4].value;
    assert_int_equal(one.length, 3 + 44 + 1 + strlen(V1A));
    assert_memory_equal(one.data, both.data, 47);
}

static void each_attempt_has_its_own_time(void **state) {
    (void)state;
    fixture.signing.now_s++;
    sign();
    assert_header("webhook-timestamp", "1614265331");
    assert_header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    for (size_t i = 0; i < fixture.request.header_count; i++)
        assert_false(bk_slice_is(fixture.request.headers[i].value, V1));
}

static void cloudevents_name_their_type_or_come_in_headers(void **state) {
    (void)state;
    fixture.form.format = WEBHOOKS_CLOUDEVENTS;
    sign();
    assert_header("content-type", "application/cloudevents+json; charset=utf-8");
    assert_header("webhook-signature", V1);
    assert_int_equal(fixture.request.header_count, 5);
    fixture.form.format = WEBHOOKS_CLOUDEVENTS_BINARY;
    sign();
    assert_header("content-type", "application/json");
    assert_header("webhook-signature", V1);
    assert_header("ce-specversion", "1.0");
    assert_header("ce-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_header("ce-source", "/tenants/acme/collections");
    assert_header("ce-type", "posts.created");
    assert_header("ce-time", "1970-01-01T00:00:00.000Z");
    assert_header("ce-subject", "posts/a%20b");
    assert_header("ce-sequence", "00000000000000000007");
    assert_int_equal(count_of("ce-cursor") + count_of("ce-after"), 2);
    assert_header("ce-datacontenttype", NULL);
}

static void an_origin_is_named_once_it_was_agreed_to(void **state) {
    (void)state;
    sign();
    assert_header("webhook-request-origin", NULL);
    fixture.config.origin = BK_SLICE("events.example.com");
    sign();
    assert_header("webhook-request-origin", "events.example.com");
}

static void an_endpoint_has_headers_of_its_own_with_all_others(void **state) {
    struct bk_outbound_header own[WEBHOOKS_HEADERS_MAX];
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(own); i++)
        own[i] = (struct bk_outbound_header){BK_SLICE("Authorization"), BK_SLICE("Bearer x")};
    fixture.config.headers = own;
    fixture.config.header_count = BK_COUNT_OF(own);
    fixture.config.origin = BK_SLICE("events.example.com");
    fixture.form.format = WEBHOOKS_CLOUDEVENTS_BINARY;
    fixture.event.actor = fixture.event.cause = BK_SLICE("x");
    fixture.event.omitted = BK_SLICE("[\"x\"]");
    sign();
    assert_int_equal(count_of("authorization"), WEBHOOKS_HEADERS_MAX);
}

static void nothing_goes_out_unsigned(void **state) {
    (void)state;
    fixture.config.keys.secret_length = 0;
    assert_int_equal(webhooks_sign(&fixture.signing, &fixture.arena, &fixture.request), BK_CORRUPT);
    assert_int_equal(fixture.request.header_count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_known_answer_is_given),
        TEST(ed25519_comes_last_where_it_was_asked_for),
        TEST(during_a_rotation_both_secrets_sign),
        TEST(each_attempt_has_its_own_time),
        TEST(cloudevents_name_their_type_or_come_in_headers),
        TEST(an_origin_is_named_once_it_was_agreed_to),
        TEST(an_endpoint_has_headers_of_its_own_with_all_others),
        TEST(nothing_goes_out_unsigned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
