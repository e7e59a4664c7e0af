/* HMAC-SHA-1 and sealed texts: the vectors of the standards, and what is refused. */
#include "bakend/crypto.h"
#include "bakend/encode.h"
#include "support.h"

#include <string.h>

static void assert_hex(const uint8_t *actual, size_t length, const char *expected) {
    char text[512] = {0};
    assert_true(2 * length < sizeof text);
    bk_hex_encode(text, actual, length);
    assert_string_equal(text, expected);
}

static size_t from_hex(const char *text, uint8_t *out) {
    size_t length = strlen(text) / 2;
    for (size_t i = 0; i < length; i++) {
        const char digits[] = "0123456789abcdef";
        out[i] = (uint8_t)((strchr(digits, text[2 * i]) - digits) << 4U |
                           (strchr(digits, text[2 * i + 1]) - digits));
    }
    return length;
}

static struct bk_slice repeat(char *room, int byte, size_t length) {
    memset(room, byte, length);
    return bk_slice_make(room, length);
}

/* RFC 2202, test cases 1, 2, 3, 6 and 7. */
static void test_hmac_sha1_vectors(void **state) {
    uint8_t mac[BK_SHA1_BYTES];
    char key[80], data[50];
    (void)state;
    bk_hmac_sha1(mac, repeat(key, 0x0b, 20), BK_SLICE("Hi There"));
    assert_hex(mac, sizeof mac, "b617318655057264e28bc0b6fb378c8ef146be00");
    bk_hmac_sha1(mac, BK_SLICE("Jefe"), BK_SLICE("what do ya want for nothing?"));
    assert_hex(mac, sizeof mac, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    bk_hmac_sha1(mac, repeat(key, 0xaa, 20), repeat(data, 0xdd, 50));
    assert_hex(mac, sizeof mac, "125d7342b9ac11cd91a39af48aa17b4f63f175d3");
    bk_hmac_sha1(mac, repeat(key, 0xaa, 80),
                 BK_SLICE("Test Using Larger Than Block-Size Key - Hash Key First"));
    assert_hex(mac, sizeof mac, "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    bk_hmac_sha1(mac, repeat(key, 0xaa, 80),
                 BK_SLICE("Test Using Larger Than Block-Size Key and Larger Than One "
                          "Block-Size Data"));
    assert_hex(mac, sizeof mac, "e8e99d0f45237d786d6bbaa7965c7808bbff1a91");
}

static void test_hmac_sha1_of_nothing(void **state) {
    uint8_t mac[BK_SHA1_BYTES];
    (void)state;
    bk_hmac_sha1(mac, BK_SLICE_EMPTY, BK_SLICE_EMPTY);
    assert_hex(mac, sizeof mac, "fbdb1d1b18aa6c08324b7d64b71fb76370690e1d");
}

/* draft-irtf-cfrg-xchacha-03, A.3.1, as nonce, text and tag. */
static void test_unseals_the_vector_of_the_draft(void **state) {
    static const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you "
                               "only one tip for the future, sunscreen would be it.";
    uint8_t key[BK_KEY_BYTES], bound_to[12], sealed[256], out[256];
    (void)state;
    from_hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", key);
    from_hex("50515253c0c1c2c3c4c5c6c7", bound_to);
    size_t length = from_hex(
        "404142434445464748494a4b4c4d4e4f5051525354555657"
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f"
        "4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f"
        "76b2383565d3fff921f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
        sealed);
    assert_int_equal(length, sizeof text - 1 + BK_SEAL_BYTES);
    assert_true(bk_unseal(out, key, bk_slice_make((const char *)sealed, length),
                          bk_slice_make((const char *)bound_to, sizeof bound_to)));
    assert_memory_equal(out, text, sizeof text - 1);
}

static void test_what_is_sealed_opens_with_its_key_and_owner_alone(void **state) {
    uint8_t key[BK_KEY_BYTES] = {1}, other[BK_KEY_BYTES] = {2};
    uint8_t sealed[6 + BK_SEAL_BYTES], again[sizeof sealed], out[6] = {0};
    const struct bk_slice text = BK_SLICE("secret");
    (void)state;
    bk_seal(sealed, key, text, BK_SLICE("users/a"));
    bk_seal(again, key, text, BK_SLICE("users/a"));
    assert_memory_not_equal(sealed, again, sizeof sealed);
    const struct bk_slice whole = bk_slice_make((const char *)sealed, sizeof sealed);
    assert_false(bk_unseal(out, other, whole, BK_SLICE("users/a")));
    assert_false(bk_unseal(out, key, whole, BK_SLICE("users/b")));
    assert_false(
        bk_unseal(out, key, bk_slice_make(whole.data, whole.length - 1), BK_SLICE("users/a")));
    assert_false(
        bk_unseal(out, key, bk_slice_make(whole.data, BK_SEAL_BYTES - 1), BK_SLICE("users/a")));
    assert_true(bk_unseal(out, key, whole, BK_SLICE("users/a")));
    assert_memory_equal(out, "secret", 6);
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 1U;
        assert_false(bk_unseal(out, key, whole, BK_SLICE("users/a")));
        sealed[i] ^= 1U;
    }
}

static int init_crypto(void **state) {
    (void)state;
    return bk_crypto_init() == BK_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hmac_sha1_vectors),
        cmocka_unit_test(test_hmac_sha1_of_nothing),
        cmocka_unit_test(test_unseals_the_vector_of_the_draft),
        cmocka_unit_test(test_what_is_sealed_opens_with_its_key_and_owner_alone),
    };
    return cmocka_run_group_tests(tests, init_crypto, NULL);
}
