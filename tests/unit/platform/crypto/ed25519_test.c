/* Ed25519: the vectors of RFC 8032, in one part and in two. */
#include "bakend/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void from_hex(const char *text, size_t length, uint8_t *out) {
    for (size_t i = 0; i < length; i++) {
        unsigned int byte;
        assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
        out[i] = (uint8_t)byte;
    }
}

struct vector {
    const char *seed, *public_key, *message, *signature;
};

/* RFC 8032, 7.1: tests 1 to 3. */
static const struct vector vectors[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9"
     "b46bd25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f1"
     "1d8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984d"
     "c6594a7c15e9716ed28dc027beceea1ec40a"},
};

static void test_vectors_of_rfc_8032(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint8_t seed[BK_ED25519_SEED_BYTES], expected[BK_ED25519_SIGNATURE_BYTES], message[2];
        uint8_t public_key[BK_ED25519_PUBLIC_BYTES], signature[BK_ED25519_SIGNATURE_BYTES];
        struct bk_ed25519_key key;
        size_t length = strlen(vectors[i].message) / 2;
        from_hex(vectors[i].seed, sizeof seed, seed);
        from_hex(vectors[i].message, length, message);
        bk_ed25519_key_init(&key, seed);
        bk_ed25519_public(&key, public_key);
        from_hex(vectors[i].public_key, sizeof public_key, expected);
        assert_memory_equal(public_key, expected, sizeof public_key);
        from_hex(vectors[i].signature, sizeof expected, expected);
        for (size_t cut = 0; cut <= length; cut++) {
            bk_ed25519_sign(signature, &key, bk_slice_make((const char *)message, cut),
                            bk_slice_make((const char *)message + cut, length - cut));
            assert_memory_equal(signature, expected, sizeof expected);
        }
    }
}

static int init_crypto(void **state) {
    (void)state;
    return bk_crypto_init() == BK_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors_of_rfc_8032)};
    return cmocka_run_group_tests(tests, init_crypto, NULL);
}
