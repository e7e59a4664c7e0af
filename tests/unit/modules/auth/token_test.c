/* Tokens: what they say, what signs them, what revokes them, and what is refused. */
#include "auth.h"
#include "support.h"

#include "bakend/encode.h"

static const struct auth_claims claims = {
    .tenant = BK_SLICE_INIT("acme"),
    .key_number = 1,
    .id = BK_SLICE_INIT("abcdefghijklmno"),
    .collection_id = BK_SLICE_INIT("pbc_3142635823"),
    .type = BK_SLICE_INIT("auth"),
    .is_refreshable = true,
    .expires_s = 4102444800,
};
static const struct auth_secrets secrets = {
    .instance_key = BK_SLICE_INIT("0123456789abcdef0123456789abcdef"),
    .collection_secret = BK_SLICE_INIT("collection secret"),
    .token_key = BK_SLICE_INIT("token key"),
};

struct fixture {
    struct bk_arena arena;
    struct bk_buffer token;
};

static int setup(void **state) {
    static struct fixture fixture;
    bk_arena_init(&fixture.arena, 1 << 20);
    bk_buffer_init(&fixture.token, AUTH_TOKEN_BYTES_MAX);
    auth_token_make(&fixture.token, &claims, &secrets);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_arena_fini(&fixture->arena);
    bk_buffer_fini(&fixture->token);
    return 0;
}

static void test_a_token_says_what_it_was_made_of(void **state) {
    struct fixture *fixture = *state;
    struct auth_claims read = {0};
    assert_true(auth_token_read(&fixture->arena, bk_buffer_slice(&fixture->token), &read));
    assert_true(bk_slice_equal(read.tenant, claims.tenant));
    assert_int_equal(read.key_number, 1);
    assert_true(bk_slice_equal(read.id, claims.id));
    assert_true(bk_slice_equal(read.collection_id, claims.collection_id));
    assert_true(bk_slice_equal(read.type, claims.type));
    assert_true(read.is_refreshable);
    assert_int_equal(read.expires_s, claims.expires_s);
    assert_true(auth_token_verify(bk_buffer_slice(&fixture->token), &read, &secrets));
}

static void test_a_session_and_what_a_ticket_says_are_signed_too(void **state) {
    struct fixture *fixture = *state;
    struct auth_claims ticket = claims, read = {0};
    ticket.type = BK_SLICE("emailChange");
    ticket.session = BK_SLICE("session");
    ticket.email = BK_SLICE("a@example.com");
    ticket.new_email = BK_SLICE("b@example.com");
    ticket.jti = BK_SLICE("once");
    bk_buffer_clear(&fixture->token);
    auth_token_make(&fixture->token, &ticket, &secrets);
    assert_true(auth_token_read(&fixture->arena, bk_buffer_slice(&fixture->token), &read));
    assert_true(auth_token_verify(bk_buffer_slice(&fixture->token), &read, &secrets));
    assert_true(bk_slice_equal(read.session, ticket.session));
    assert_true(bk_slice_equal(read.email, ticket.email));
    assert_true(bk_slice_equal(read.new_email, ticket.new_email));
    assert_true(bk_slice_equal(read.jti, ticket.jti));
    assert_false(read.is_refreshable);
}

static void test_changing_any_secret_revokes(void **state) {
    struct fixture *fixture = *state;
    struct auth_secrets changed[3] = {secrets, secrets, secrets};
    changed[0].instance_key = BK_SLICE("another instance key, 32 bytes..");
    changed[1].collection_secret = BK_SLICE("another secret");
    changed[2].token_key = BK_SLICE("another token key");
    for (int i = 0; i < 3; i++)
        assert_false(auth_token_verify(bk_buffer_slice(&fixture->token), &claims, &changed[i]));
}

static void test_moving_a_byte_between_two_secrets_revokes(void **state) {
    struct fixture *fixture = *state;
    struct auth_secrets moved = secrets;
    moved.collection_secret = BK_SLICE("collection secrett");
    moved.token_key = BK_SLICE("oken key");
    assert_false(auth_token_verify(bk_buffer_slice(&fixture->token), &claims, &moved));
}

static void test_another_tenant_or_key_number_has_another_key(void **state) {
    struct fixture *fixture = *state;
    struct auth_claims other = claims;
    other.tenant = BK_SLICE("evil");
    assert_false(auth_token_verify(bk_buffer_slice(&fixture->token), &other, &secrets));
    other = claims;
    other.key_number = 2;
    assert_false(auth_token_verify(bk_buffer_slice(&fixture->token), &other, &secrets));
}

static void test_every_flipped_character_is_refused(void **state) {
    struct fixture *fixture = *state;
    struct bk_slice token = bk_buffer_slice(&fixture->token);
    for (size_t i = 0; i < token.length; i++) {
        struct auth_claims read;
        char was = fixture->token.data[i];
        fixture->token.data[i] = was == 'A' ? 'B' : 'A';
        bool is_accepted = auth_token_read(&fixture->arena, token, &read) &&
                           auth_token_verify(token, &read, &secrets);
        fixture->token.data[i] = was;
        assert_false(is_accepted);
    }
}

/* header and body as JSON, with the true token's signature. */
static bool reads(struct fixture *fixture, const char *header, const char *body) {
    struct bk_buffer forged;
    struct auth_claims read;
    char part[1024];
    bk_buffer_init(&forged, 8192);
    bk_buffer_append(&forged, part, bk_base64url_encode(part, header, strlen(header)));
    bk_buffer_append_char(&forged, '.');
    bk_buffer_append(&forged, part, bk_base64url_encode(part, body, strlen(body)));
    bk_buffer_append_literal(&forged, ".AAAA");
    bool is_read = auth_token_read(&fixture->arena, bk_buffer_slice(&forged), &read);
    bool is_verified = is_read && auth_token_verify(bk_buffer_slice(&forged), &read, &secrets);
    bk_buffer_fini(&forged);
    assert_false(is_verified);
    return is_read;
}

static void test_only_hs256_with_a_known_key_is_read(void **state) {
    static const char body[] = "{\"id\":\"a\",\"collectionId\":\"b\",\"type\":\"auth\",\"exp\":1}";
    struct fixture *fixture = *state;
    assert_true(reads(fixture, "{\"alg\":\"HS256\",\"kid\":\"acme.1\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"none\",\"kid\":\"acme.1\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"HS512\",\"kid\":\"acme.1\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"RS256\",\"kid\":\"acme.1\"}", body));
    assert_false(reads(fixture, "{\"kid\":\"acme.1\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"HS256\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"HS256\",\"kid\":\"acme\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"HS256\",\"kid\":\"acme.0\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"HS256\",\"kid\":\"acme.99999\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"HS256\",\"kid\":\"../acme.1\"}", body));
    assert_false(reads(fixture, "{\"alg\":\"HS256\",\"alg\":\"none\",\"kid\":\"acme.1\"}", body));
}

static void test_a_body_without_expiry_is_refused(void **state) {
    struct fixture *fixture = *state;
    static const char header[] = "{\"alg\":\"HS256\",\"kid\":\"acme.1\"}";
    assert_false(reads(fixture, header, "{\"id\":\"a\"}"));
    assert_false(reads(fixture, header, "{\"exp\":\"1\"}"));
    assert_false(reads(fixture, header, "{\"exp\":1.5}"));
    assert_false(reads(fixture, header, "[1]"));
}

static bool reads_body(struct fixture *fixture, const char *body, struct auth_claims *read) {
    static const char header[] = "{\"alg\":\"HS256\",\"kid\":\"acme.1\"}";
    struct bk_buffer text;
    char part[1024];
    bk_buffer_init(&text, 8192);
    bk_buffer_append(&text, part, bk_base64url_encode(part, header, strlen(header)));
    bk_buffer_append_char(&text, '.');
    bk_buffer_append(&text, part, bk_base64url_encode(part, body, strlen(body)));
    bk_buffer_append_literal(&text, ".AAAA");
    bool is_read = auth_token_read(&fixture->arena, bk_buffer_slice(&text), read);
    bk_buffer_fini(&text);
    return is_read;
}

/* Of those that this program does not write, too: they are read by another reader. */
static void test_a_body_says_the_same_however_it_is_written(void **state) {
    static const char *const bodies[] = {
        "{\"collectionId\":\"b\",\"exp\":12,\"id\":\"a\",\"refreshable\":true,\"type\":\"auth\"}",
        "{\"type\":\"auth\",\"refreshable\":true,\"id\":\"a\",\"exp\":12,\"collectionId\":\"b\"}",
        "{\"type\":\"auth\",\"refreshable\":true,\"id\":\"a\",\"exp\":12,\"collectionId\":\"b\","
        "\"x\":1}",
        " { \"type\" : \"auth\" , \"refreshable\":true,\"id\":\"\\u0061\",\"exp\":1.2e1,"
        "\"collectionId\":\"b\"}\n",
        "{\"x\":null,\"type\":\"auth\",\"refreshable\":true,\"id\":\"a\",\"exp\":12,"
        "\"collectionId\":\"b\",\"y\":[{\"id\":\"c\"}]}",
        "{\"1\":1,\"2\":1,\"3\":1,\"4\":1,\"5\":1,\"6\":1,\"7\":1,\"type\":\"auth\","
        "\"refreshable\":true,\"id\":\"a\",\"exp\":12,\"collectionId\":\"b\"}",
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < BK_COUNT_OF(bodies); i++) {
        struct auth_claims read = {0};
        assert_true(reads_body(fixture, bodies[i], &read));
        assert_true(bk_slice_is(read.id, "a"));
        assert_true(bk_slice_is(read.collection_id, "b"));
        assert_true(bk_slice_is(read.type, "auth"));
        assert_true(read.is_refreshable);
        assert_int_equal(read.expires_s, 12);
    }
}

static void test_a_body_that_is_not_json_is_refused(void **state) {
    static const char *const bodies[] = {
        "",
        "{",
        "{}",
        "{\"exp\":1",
        "{\"exp\":1,}",
        "{\"exp\":1}}",
        "{\"exp\":1} x",
        "{\"exp\":01}",
        "{\"exp\":}",
        "{\"exp\":-}",
        "{\"exp\":truer}",
        "{\"exp\":true}",
        "{\"exp\" 1}",
        "{exp:1}",
        "{\"exp\":1,\"id\":\"a}",
        "{\"exp\":1,\"id\":\"a\nb\"}",
        "{\"exp\":1,\"id\":\"\xff\"}",
        "{\"exp\":1,\"exp\":1}",
        "{\"exp\":1,\"id\":\"a\",\"\\u0069d\":\"b\"}",
        "{\"exp\":99999999999999999999}",
    };
    struct fixture *fixture = *state;
    struct auth_claims read;
    for (size_t i = 0; i < BK_COUNT_OF(bodies); i++)
        assert_false(reads_body(fixture, bodies[i], &read));
}

static void test_a_tenant_key_that_is_kept_verifies_the_same(void **state) {
    struct fixture *fixture = *state;
    struct bk_slice token = bk_buffer_slice(&fixture->token);
    struct bk_key_source kept;
    struct auth_secrets with = secrets;
    auth_tenant_key_make(&kept, secrets.instance_key, claims.tenant, claims.key_number);
    with.tenant_key = &kept;
    assert_true(auth_token_verify(token, &claims, &with));
    auth_tenant_key_make(&kept, secrets.instance_key, claims.tenant, claims.key_number + 1);
    assert_false(auth_token_verify(token, &claims, &with));
    auth_tenant_key_make(&kept, secrets.instance_key, BK_SLICE("evil"), claims.key_number);
    assert_false(auth_token_verify(token, &claims, &with));
    auth_tenant_key_make(&kept, BK_SLICE("another instance key, 32 bytes.."), claims.tenant,
                         claims.key_number);
    assert_false(auth_token_verify(token, &claims, &with));
}

static void test_what_is_no_token_is_refused(void **state) {
    static const char *const texts[] = {
        "", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", "\x01.\x02.\x03", " . . "};
    struct fixture *fixture = *state;
    struct auth_claims read;
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++)
        assert_false(auth_token_read(&fixture->arena, bk_slice_from(texts[i]), &read));
}

static void test_a_token_past_its_limit_is_refused(void **state) {
    struct fixture *fixture = *state;
    struct auth_claims read;
    char *text = bk_arena_alloc(&fixture->arena, AUTH_TOKEN_BYTES_MAX + 1);
    memset(text, 'A', AUTH_TOKEN_BYTES_MAX + 1);
    assert_false(
        auth_token_read(&fixture->arena, bk_slice_make(text, AUTH_TOKEN_BYTES_MAX + 1), &read));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_token_says_what_it_was_made_of),
        TEST(test_a_session_and_what_a_ticket_says_are_signed_too),
        TEST(test_changing_any_secret_revokes),
        TEST(test_moving_a_byte_between_two_secrets_revokes),
        TEST(test_another_tenant_or_key_number_has_another_key),
        TEST(test_every_flipped_character_is_refused),
        TEST(test_only_hs256_with_a_known_key_is_read),
        TEST(test_a_body_without_expiry_is_refused),
        TEST(test_a_body_says_the_same_however_it_is_written),
        TEST(test_a_body_that_is_not_json_is_refused),
        TEST(test_a_tenant_key_that_is_kept_verifies_the_same),
        TEST(test_what_is_no_token_is_refused),
        TEST(test_a_token_past_its_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
