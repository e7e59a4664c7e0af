/* Cryptography: libsodium behind plain functions, and SHA-1. Nothing here is our own
 * construction. */
#ifndef BAKEND_CRYPTO_H
#define BAKEND_CRYPTO_H

#include "bakend/slice.h"
#include "bakend/status.h"

enum {
    BK_SHA256_BYTES = 32,
    BK_SHA1_BYTES = 20,
    BK_SEAL_BYTES = 24 + 16, /* nonce and tag */
    BK_KEY_BYTES = 32,
    BK_ED25519_SEED_BYTES = 32,
    BK_ED25519_PUBLIC_BYTES = 32,
    BK_ED25519_SIGNATURE_BYTES = 64,
    BK_PASSWORD_HASH_BYTES = 128, /* with NUL */
    BK_PASSWORD_MAX_BYTES = 1024
};

/* Once, before anything else. */
enum bk_status bk_crypto_init(void);

void bk_sha256(uint8_t out[BK_SHA256_BYTES], struct bk_slice data);
/* HMAC-SHA-256 (RFC 2104) of a then b. */
void bk_hmac_sha256(uint8_t out[BK_SHA256_BYTES], struct bk_slice key, struct bk_slice a,
                    struct bk_slice b);
/* HKDF-SHA-256 (RFC 5869) with an empty salt: one output block. */
void bk_derive_key(uint8_t out[BK_KEY_BYTES], struct bk_slice secret, struct bk_slice context);
/* A secret that keys are derived from again and again: of each the half that is the secret's is
 * done once. It is as secret as that is: to be wiped. */
struct bk_key_source {
    uint64_t state[26];
};
void bk_key_source_init(struct bk_key_source *source, struct bk_slice secret);
/* What bk_derive_key gives for the secret. */
void bk_key_source_derive(const struct bk_key_source *source, uint8_t out[BK_KEY_BYTES],
                          struct bk_slice context);
/* HMAC-SHA-1 (RFC 2104): for codes of authenticator apps, and for nothing new. */
void bk_hmac_sha1(uint8_t out[BK_SHA1_BYTES], struct bk_slice key, struct bk_slice data);
/* Encrypts and signs with XChaCha20-Poly1305: a random nonce, then the text, then the tag; that is
 * length + BK_SEAL_BYTES bytes. bound_to: what the text belongs to, which is not in it; it opens
 * with the same one only. */
void bk_seal(uint8_t *out, const uint8_t key[BK_KEY_BYTES], struct bk_slice text,
             struct bk_slice bound_to);
/* Writes sealed.length - BK_SEAL_BYTES bytes. False, and nothing is written: it was not sealed with
 * this key and for this, or has changed since. */
bool bk_unseal(uint8_t *out, const uint8_t key[BK_KEY_BYTES], struct bk_slice sealed,
               struct bk_slice bound_to);
/* Ed25519 (RFC 8032). A key is made of its seed once, which costs as much as a signature. */
struct bk_ed25519_key {
    uint8_t bytes[BK_ED25519_SEED_BYTES + BK_ED25519_PUBLIC_BYTES];
};
void bk_ed25519_key_init(struct bk_ed25519_key *key, const uint8_t seed[BK_ED25519_SEED_BYTES]);
void bk_ed25519_public(const struct bk_ed25519_key *key, uint8_t out[BK_ED25519_PUBLIC_BYTES]);
/* Of a then b, which are copied: the message is gone through twice. */
void bk_ed25519_sign(uint8_t out[BK_ED25519_SIGNATURE_BYTES], const struct bk_ed25519_key *key,
                     struct bk_slice a, struct bk_slice b);
/* Constant time for equal lengths. */
bool bk_crypto_equal(const void *a, const void *b, size_t length);
void bk_crypto_wipe(void *memory, size_t length);

/* Argon2id v1.3, m = 19 MiB, t = 2, p = 1 (about 46 ms of a core): never on the loop. PHC string
 * with NUL. BK_NO_MEMORY; BK_TOO_LARGE past BK_PASSWORD_MAX_BYTES. */
enum bk_status bk_password_hash(char out[BK_PASSWORD_HASH_BYTES], struct bk_slice password);
/* BK_OK, BK_UNAUTHORIZED, BK_NO_MEMORY. An empty or unreadable hash costs as much time as a wrong
 * password. */
enum bk_status bk_password_verify(struct bk_slice hash, struct bk_slice password);

#endif
