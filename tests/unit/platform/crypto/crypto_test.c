/* Cryptography: the vectors of the standards, and what a password hash and its check promise. */
#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"
#include "support.h"

#include <string.h>

enum { HEX_BYTES = 2 * BK_SHA256_BYTES };

static void assert_hex(const uint8_t *actual, const char *expected) {
    char text[HEX_BYTES + 1] = {0};
    bk_hex_encode(text, actual, BK_SHA256_BYTES);
    assert_string_equal(text, expected);
}

/* A key or a text of one repeated byte. */
static struct bk_slice repeat(char *room, uint8_t byte, size_t length) {
    memset(room, byte, length);
    return bk_slice_make(room, length);
}

/* FIPS 180-2, appendix B, and the empty text. */
static void test_sha256_vectors(void **state) {
    uint8_t digest[BK_SHA256_BYTES];
    (void)state;
    bk_sha256(digest, BK_SLICE_EMPTY);
    assert_hex(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    bk_sha256(digest, BK_SLICE("abc"));
    assert_hex(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    bk_sha256(digest, BK_SLICE("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"));
    assert_hex(digest, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* RFC 4231, test cases 1, 2, 6 and 7. */
static void test_hmac_vectors(void **state) {
    uint8_t digest[BK_SHA256_BYTES];
    char key[131];
    (void)state;
    bk_hmac_sha256(digest, repeat(key, 0x0b, 20), BK_SLICE("Hi There"), BK_SLICE_EMPTY);
    assert_hex(digest, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    bk_hmac_sha256(digest, BK_SLICE("Jefe"), BK_SLICE("what do ya want "),
                   BK_SLICE("for nothing?"));
    assert_hex(digest, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    bk_hmac_sha256(digest, repeat(key, 0xaa, sizeof(key)),
                   BK_SLICE("Test Using Larger Than Block-Size Key - Hash Key First"),
                   BK_SLICE_EMPTY);
    assert_hex(digest, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    bk_hmac_sha256(digest, repeat(key, 0xaa, sizeof(key)), BK_SLICE_EMPTY,
                   BK_SLICE("This is a test using a larger than block-size key and a larger than "
                            "block-size data. The key needs to be hashed before being used by the "
                            "HMAC algorithm."));
    assert_hex(digest, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

/* RFC 5869, test case 3: no salt, no info; its first block. */
static void test_hkdf_vector_without_salt(void **state) {
    uint8_t key[BK_KEY_BYTES];
    char secret[22];
    (void)state;
    bk_derive_key(key, repeat(secret, 0x0b, sizeof(secret)), BK_SLICE_EMPTY);
    assert_hex(key, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
}

static void test_a_key_source_derives_again_and_again(void **state) {
    struct bk_key_source source;
    uint8_t key[BK_KEY_BYTES], expected[BK_KEY_BYTES];
    (void)state;
    bk_key_source_init(&source, BK_SLICE("secret"));
    for (int i = 0; i < 2; i++) {
        bk_key_source_derive(&source, key, BK_SLICE("tokens"));
        bk_derive_key(expected, BK_SLICE("secret"), BK_SLICE("tokens"));
        assert_memory_equal(key, expected, sizeof key);
        bk_key_source_derive(&source, key, BK_SLICE("webhooks"));
        bk_derive_key(expected, BK_SLICE("secret"), BK_SLICE("webhooks"));
        assert_memory_equal(key, expected, sizeof key);
    }
}

static void test_derived_keys_differ_by_context_and_secret(void **state) {
    uint8_t keys[3][BK_KEY_BYTES];
    (void)state;
    bk_derive_key(keys[0], BK_SLICE("secret"), BK_SLICE("tokens"));
    bk_derive_key(keys[1], BK_SLICE("secret"), BK_SLICE("webhooks"));
    bk_derive_key(keys[2], BK_SLICE("other"), BK_SLICE("tokens"));
    assert_false(bk_crypto_equal(keys[0], keys[1], BK_KEY_BYTES));
    assert_false(bk_crypto_equal(keys[0], keys[2], BK_KEY_BYTES));
}

static void test_equal_and_wipe(void **state) {
    char text[] = "secret";
    (void)state;
    assert_true(bk_crypto_equal("abc", "abd", 2));
    assert_false(bk_crypto_equal("abc", "abd", 3));
    assert_true(bk_crypto_equal(NULL, NULL, 0));
    bk_crypto_wipe(text, sizeof(text));
    bk_crypto_wipe(NULL, 0);
    for (size_t i = 0; i < sizeof(text); i++)
        assert_int_equal(text[i], 0);
}

/* --- passwords -------------------------------------------------------------------------------- */

static void test_a_password_hash_names_its_parameters_and_verifies(void **state) {
    char hash[BK_PASSWORD_HASH_BYTES], again[BK_PASSWORD_HASH_BYTES];
    const struct bk_slice password = BK_SLICE("correct horse battery staple");
    (void)state;
    assert_int_equal(bk_password_hash(hash, password), BK_OK);
    assert_true(
        bk_slice_starts_with(bk_slice_from(hash), BK_SLICE("$argon2id$v=19$m=19456,t=2,p=1$")));
    assert_int_equal(bk_password_verify(bk_slice_from(hash), password), BK_OK);
    assert_int_equal(bk_password_verify(bk_slice_from(hash), BK_SLICE("Correct horse")),
                     BK_UNAUTHORIZED);
    assert_int_equal(bk_password_hash(again, password), BK_OK);
    assert_string_not_equal(hash, again);
}

static void test_passwords_may_be_empty_long_and_hold_any_byte(void **state) {
    static char longest[BK_PASSWORD_MAX_BYTES + 1];
    char hash[BK_PASSWORD_HASH_BYTES];
    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[3] = '\0';
    assert_int_equal(bk_password_hash(hash, bk_slice_make(longest, BK_PASSWORD_MAX_BYTES)), BK_OK);
    assert_int_equal(
        bk_password_verify(bk_slice_from(hash), bk_slice_make(longest, BK_PASSWORD_MAX_BYTES)),
        BK_OK);
    longest[BK_PASSWORD_MAX_BYTES - 1] = 'y'; /* nothing is cut off */
    assert_int_equal(
        bk_password_verify(bk_slice_from(hash), bk_slice_make(longest, BK_PASSWORD_MAX_BYTES)),
        BK_UNAUTHORIZED);
    assert_int_equal(bk_password_hash(hash, BK_SLICE_EMPTY), BK_OK);
    assert_int_equal(bk_password_verify(bk_slice_from(hash), BK_SLICE_EMPTY), BK_OK);
}

static void test_a_password_that_is_too_long_is_not_hashed(void **state) {
    static char text[BK_PASSWORD_MAX_BYTES + 1];
    char hash[BK_PASSWORD_HASH_BYTES] = "untouched";
    (void)state;
    memset(text, 'x', sizeof(text));
    assert_int_equal(bk_password_hash(hash, bk_slice_make(text, sizeof(text))), BK_TOO_LARGE);
    assert_string_equal(hash, "untouched");
}

static const char *const UNREADABLE[] = {
    "",
    "plain text",
    "$argon2id$",
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA",
    "$argon2id$v=19$m=19456,t=2,p=1$wKPQnQJ8RmqGO8cmEX3tGA$!!!!",
    "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
};

static uint64_t time_verify_ns(struct bk_slice hash) {
    uint64_t start_ns = bk_clock_monotonic_ns();
    assert_int_equal(bk_password_verify(hash, BK_SLICE("guess")), BK_UNAUTHORIZED);
    return bk_clock_monotonic_ns() - start_ns;
}

/* Two of each, and the faster one counts: what else runs on the machine only ever adds. A factor of
 * four is far from what skipping the hash would show (a thousand). */
static void test_an_unreadable_hash_takes_as_long_as_a_wrong_password(void **state) {
    char hash[BK_PASSWORD_HASH_BYTES];
    uint64_t wrong_ns, second_ns;
    (void)state;
    assert_int_equal(bk_password_hash(hash, BK_SLICE("right")), BK_OK);
    wrong_ns = time_verify_ns(bk_slice_from(hash));
    second_ns = time_verify_ns(bk_slice_from(hash));
    if (second_ns < wrong_ns)
        wrong_ns = second_ns;
    for (size_t i = 0; i < BK_COUNT_OF(UNREADABLE); i++)
        assert_true(time_verify_ns(bk_slice_from(UNREADABLE[i])) >= wrong_ns / 4);
}

static void test_a_hash_with_other_parameters_verifies(void **state) {
    /* phc-winner-argon2's test vector: Argon2id v1.3, t = 2, m = 2^16, p = 1, "somesalt". */
    const struct bk_slice hash = BK_SLICE("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$"
                                          "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc");
    (void)state;
    assert_int_equal(bk_password_verify(hash, BK_SLICE("password")), BK_OK);
    assert_int_equal(bk_password_verify(hash, BK_SLICE("Password")), BK_UNAUTHORIZED);
}

static int init_crypto(void **state) {
    (void)state;
    return bk_crypto_init() == BK_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_vectors),
        cmocka_unit_test(test_hmac_vectors),
        cmocka_unit_test(test_hkdf_vector_without_salt),
        cmocka_unit_test(test_derived_keys_differ_by_context_and_secret),
        cmocka_unit_test(test_a_key_source_derives_again_and_again),
        cmocka_unit_test(test_equal_and_wipe),
        cmocka_unit_test(test_a_password_hash_names_its_parameters_and_verifies),
        cmocka_unit_test(test_passwords_may_be_empty_long_and_hold_any_byte),
        cmocka_unit_test(test_a_password_that_is_too_long_is_not_hashed),
        cmocka_unit_test(test_an_unreadable_hash_takes_as_long_as_a_wrong_password),
        cmocka_unit_test(test_a_hash_with_other_parameters_verifies),
    };
    return cmocka_run_group_tests(tests, init_crypto, NULL);
}
