/*
 * Ed25519 signatures by libsodium. A key is never put together by a caller from a seed and a public
 * key of his own: signing under a public key that is not the seed's gives the seed away.
 */
#include "bakend/alloc.h"
#include "bakend/crypto.h"

#include <sodium.h>

_Static_assert((size_t)BK_ED25519_SEED_BYTES == crypto_sign_ed25519_SEEDBYTES, "a seed");
_Static_assert((size_t)BK_ED25519_PUBLIC_BYTES == crypto_sign_ed25519_PUBLICKEYBYTES, "public");
_Static_assert((size_t)BK_ED25519_SIGNATURE_BYTES == crypto_sign_ed25519_BYTES, "a signature");
_Static_assert(sizeof(struct bk_ed25519_key) == crypto_sign_ed25519_SECRETKEYBYTES, "a key");

void bk_ed25519_key_init(struct bk_ed25519_key *key, const uint8_t seed[BK_ED25519_SEED_BYTES]) {
    uint8_t public_key[BK_ED25519_PUBLIC_BYTES];
    (void)crypto_sign_ed25519_seed_keypair(public_key, key->bytes, seed);
}

void bk_ed25519_public(const struct bk_ed25519_key *key, uint8_t out[BK_ED25519_PUBLIC_BYTES]) {
    (void)crypto_sign_ed25519_sk_to_pk(out, key->bytes);
}

void bk_ed25519_sign(uint8_t out[BK_ED25519_SIGNATURE_BYTES], const struct bk_ed25519_key *key,
                     struct bk_slice a, struct bk_slice b) {
    uint8_t *message = bk_alloc(a.length + b.length + 1);
    if (a.length > 0)
        memcpy(message, a.data, a.length);
    if (b.length > 0)
        memcpy(message + a.length, b.data, b.length);
    (void)crypto_sign_ed25519_detached(out, NULL, message, a.length + b.length, key->bytes);
    bk_free(message);
}
