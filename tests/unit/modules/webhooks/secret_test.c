/* Secrets: which are taken, how they are written, and who can open what is on disk. */
#include "config_fixture.h"

#include "bakend/encode.h"

static bool is_taken(const char *text) {
    struct webhooks_keys keys = {0};
    return webhooks_secret_make(bk_slice_from(text), &keys) == BK_OK;
}

static void assert_text(struct bk_slice text, const char *expected) {
    if (!bk_slice_equal(text, bk_slice_from(expected)))
        fail_msg("%.*s is not %s", BK_SLICE_PRINT(text), expected);
}

static void a_given_secret_is_in_padded_base64(void **state) {
    static const char *refused[] = {
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAA", /* not padded */
        "whsec_-fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",    /* URL-safe */
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ",
        "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    };
    struct webhooks_keys keys = {.previous_length = 3, .previous_until_ms = 5};
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 4096);
    for (size_t i = 0; i < BK_COUNT_OF(refused); i++)
        if (is_taken(refused[i]))
            fail_msg("taken: %s", refused[i]);
    assert_int_equal(
        webhooks_secret_make(BK_SLICE("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &keys), BK_OK);
    assert_int_equal(keys.secret_length, 24);
    assert_int_equal(keys.previous_length, 3);
    assert_int_equal(keys.previous_until_ms, 5);
    assert_text(webhooks_secret_text(&keys, &arena), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    assert_int_equal(webhooks_secret_make(BK_SLICE("whsec_"), &keys), BK_INVALID);
    assert_text(webhooks_secret_text(&keys, &arena), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    bk_arena_fini(&arena);
}

static void a_secret_is_24_to_64_bytes(void **state) {
    static const uint8_t bytes[WEBHOOKS_SECRET_BYTES_MAX + 1] = {1};
    char text[128] = "whsec_";
    (void)state;
    for (size_t length = 0; length <= sizeof bytes; length++) {
        text[6 + bk_base64_encode(text + 6, bytes, length)] = '\0';
        assert_int_equal(is_taken(text), length >= 24 && length <= 64);
    }
}

static void one_that_is_made_is_32_bytes_and_never_the_same(void **state) {
    struct webhooks_keys one = {0}, other = {0}, again = {0};
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 4096);
    assert_int_equal(webhooks_secret_make(BK_SLICE_EMPTY, &one), BK_OK);
    assert_int_equal(webhooks_secret_make(BK_SLICE_EMPTY, &other), BK_OK);
    assert_int_equal(one.secret_length, 32);
    assert_memory_not_equal(one.secret, other.secret, 32);
    struct bk_slice text = webhooks_secret_text(&one, &arena);
    assert_int_equal(text.length, 6 + 44);
    assert_int_equal(webhooks_secret_make(text, &again), BK_OK);
    assert_memory_equal(again.secret, one.secret, 32);
    bk_arena_fini(&arena);
}

/* The seed of test 1 of RFC 8032. */
static void a_public_key_is_that_of_its_seed(void **state) {
    static const uint8_t seed[WEBHOOKS_SEED_BYTES] = {
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a,
        0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
        0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
    struct webhooks_keys keys = {0}, other = {0};
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 4096);
    memcpy(keys.seed, seed, sizeof seed);
    assert_text(webhooks_public_key_text(&keys, &arena),
                "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    webhooks_seed_make(&keys);
    webhooks_seed_make(&other);
    assert_true(keys.has_seed && other.has_seed);
    assert_memory_not_equal(keys.seed, other.seed, sizeof seed);
    bk_arena_fini(&arena);
}

/* --- at rest ---------------------------------------------------------------------------------- */

static struct config_fixture fixture;

static int setup(void **state) {
    (void)state;
    config_fixture_open(&fixture);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    config_fixture_close(&fixture);
    return 0;
}

static struct webhooks_keys make_keys(bool with_all) {
    struct webhooks_keys keys = {0};
    assert_int_equal(webhooks_secret_make(BK_SLICE_EMPTY, &keys), BK_OK);
    if (with_all) {
        keys.previous_length = WEBHOOKS_SECRET_BYTES_MAX;
        keys.previous_until_ms = INT64_C(1780920000123);
        memset(keys.previous, 'p', keys.previous_length);
        webhooks_seed_make(&keys);
    }
    return keys;
}

static void what_is_written_is_read_again(void **state) {
    const struct webhooks_keys all = make_keys(true), few = make_keys(false);
    struct webhooks_keys read;
    (void)state;
    assert_int_equal(config_fixture_read_keys(&fixture, "default", "wh1", &read), BK_NOT_FOUND);
    config_fixture_write_keys(&fixture, "wh1", &few);
    assert_int_equal(config_fixture_read_keys(&fixture, "default", "wh1", &read), BK_OK);
    assert_int_equal(read.secret_length, 32);
    assert_memory_equal(read.secret, few.secret, 32);
    assert_true(read.previous_length == 0 && !read.has_seed && read.previous_until_ms == 0);
    config_fixture_execute(&fixture, "UPDATE _webhookStates SET sequence = 9");
    config_fixture_write_keys(&fixture, "wh1", &all);
    assert_int_equal(config_fixture_read_keys(&fixture, "default", "wh1", &read), BK_OK);
    assert_int_equal(read.previous_length, WEBHOOKS_SECRET_BYTES_MAX);
    assert_memory_equal(read.previous, all.previous, WEBHOOKS_SECRET_BYTES_MAX);
    assert_int_equal(read.previous_until_ms, INT64_C(1780920000123));
    assert_true(read.has_seed);
    assert_memory_equal(read.seed, all.seed, WEBHOOKS_SEED_BYTES);
}

static void assert_opens(bool does, const char *tenant, const char *id) {
    struct webhooks_keys keys, before;
    memset(&before, 3, sizeof before);
    keys = before;
    enum bk_status status = config_fixture_read_keys(&fixture, tenant, id, &keys);
    assert_int_equal(status, does ? BK_OK : BK_CORRUPT);
    if (!does)
        assert_memory_equal(&keys, &before, sizeof keys);
}

static void it_opens_for_its_webhook_in_its_tenant_under_its_key_alone(void **state) {
    const struct webhooks_keys keys = make_keys(true);
    (void)state;
    config_fixture_write_keys(&fixture, "wh1", &keys);
    assert_opens(true, "default", "wh1");
    assert_opens(false, "acme", "wh1");
    fixture.state.key[0] ^= 1;
    assert_opens(false, "default", "wh1");
    fixture.state.key[0] ^= 1;
    config_fixture_execute(&fixture, "INSERT INTO _webhookStates (webhook, secret) "
                                     "SELECT 'wh2', secret FROM _webhookStates");
    assert_opens(false, "default", "wh2");
    config_fixture_execute(&fixture, "UPDATE _webhookStates SET seed = secret");
    assert_opens(false, "default", "wh1");
    config_fixture_execute(&fixture, "UPDATE _webhookStates SET seed = '', previous = 'x'");
    assert_opens(false, "default", "wh1");
    config_fixture_execute(&fixture, "UPDATE _webhookStates SET previous = ''");
    assert_opens(true, "default", "wh1");
}

static bool holds_text(struct bk_slice text, const void *bytes, size_t length) {
    for (size_t i = 0; i + length <= text.length; i++)
        if (memcmp(text.data + i, bytes, length) == 0)
            return true;
    return false;
}

static void nothing_on_disk_shows_a_secret(void **state) {
    const struct webhooks_keys keys = make_keys(true);
    struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT secret || previous || seed FROM _webhookStates"));
    struct bk_statement *row;
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 4096);
    config_fixture_write_keys(&fixture, "wh1", &keys);
    struct bk_connection *connection = bk_store_read_now(fixture.kernel.tenant->database);
    assert_int_equal(bk_connection_statement(connection, &sql, &row), BK_OK);
    assert_int_equal(bk_statement_step(row), BK_OK);
    struct bk_slice stored = bk_statement_text(row, 0);
    struct bk_slice text = webhooks_secret_text(&keys, &arena);
    assert_true(stored.length > 200);
    assert_false(holds_text(stored, text.data + 6, 12));
    assert_false(holds_text(stored, keys.secret, 8));
    assert_false(holds_text(stored, "pppp", 4));
    bk_statement_reset(row);
    bk_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_given_secret_is_in_padded_base64),
        cmocka_unit_test(a_secret_is_24_to_64_bytes),
        cmocka_unit_test(one_that_is_made_is_32_bytes_and_never_the_same),
        cmocka_unit_test(a_public_key_is_that_of_its_seed),
        cmocka_unit_test_setup_teardown(what_is_written_is_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(it_opens_for_its_webhook_in_its_tenant_under_its_key_alone,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_on_disk_shows_a_secret, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
