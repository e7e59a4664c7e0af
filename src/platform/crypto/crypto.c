/*
 * libsodium behind plain functions. What is ours is HKDF, which this libsodium (1.0.18) lacks and
 * which is two calls of HMAC, and the rule that a password check takes the same time whether or not
 * there is a hash to check against: otherwise the clock tells which accounts exist.
 */
#include "bakend/crypto.h"
#include "bakend/assert.h"
#include "bakend/id.h"

#include <errno.h>
#include <sodium.h>

enum { NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES };
/* OWASP's least for Argon2id: m = 19 MiB, t = 2, p = 1 (libsodium's p is always 1). */
enum { ARGON_PASSES = 2, ARGON_MEMORY_BYTES = 19456 * 1024 };

_Static_assert((size_t)BK_SHA256_BYTES == crypto_hash_sha256_BYTES, "SHA-256");
_Static_assert((size_t)BK_SHA256_BYTES == crypto_auth_hmacsha256_BYTES, "HMAC-SHA-256");
_Static_assert((size_t)BK_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "a key");
_Static_assert((size_t)BK_SEAL_BYTES == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES +
                                            crypto_aead_xchacha20poly1305_ietf_ABYTES,
               "XChaCha20-Poly1305");
_Static_assert(sizeof(struct bk_key_source) == sizeof(crypto_auth_hmacsha256_state),
               "the state of an HMAC");
_Static_assert((size_t)BK_PASSWORD_HASH_BYTES == crypto_pwhash_STRBYTES, "PHC string");

/* Of a random password that nobody kept, with the parameters above. */
static const char DUMMY_HASH[BK_PASSWORD_HASH_BYTES] =
    "$argon2id$v=19$m=19456,t=2,p=1$wKPQnQJ8RmqGO8cmEX3tGA$bLu8hEuty+"
    "dPFJ0UdufrpI9DClrJs9prfbaOx+jXP14";

static const uint8_t *bytes_of(struct bk_slice text) {
    return (const uint8_t *)(text.length == 0 ? "" : text.data);
}

enum bk_status bk_crypto_init(void) { return sodium_init() >= 0 ? BK_OK : BK_INTERNAL; }

void bk_sha256(uint8_t out[BK_SHA256_BYTES], struct bk_slice data) {
    (void)crypto_hash_sha256(out, bytes_of(data), data.length);
}

void bk_hmac_sha256(uint8_t out[BK_SHA256_BYTES], struct bk_slice key, struct bk_slice a,
                    struct bk_slice b) {
    crypto_auth_hmacsha256_state state;
    (void)crypto_auth_hmacsha256_init(&state, bytes_of(key), key.length);
    (void)crypto_auth_hmacsha256_update(&state, bytes_of(a), a.length);
    (void)crypto_auth_hmacsha256_update(&state, bytes_of(b), b.length);
    (void)crypto_auth_hmacsha256_final(&state, out);
    sodium_memzero(&state, sizeof(state));
}

/* An empty salt is a block of zeros (RFC 5869, 2.2). */
void bk_key_source_init(struct bk_key_source *source, struct bk_slice secret) {
    static const char salt[BK_SHA256_BYTES];
    uint8_t pseudorandom_key[BK_SHA256_BYTES];
    crypto_auth_hmacsha256_state state;
    bk_hmac_sha256(pseudorandom_key, bk_slice_make(salt, sizeof(salt)), secret, BK_SLICE_EMPTY);
    (void)crypto_auth_hmacsha256_init(&state, pseudorandom_key, sizeof(pseudorandom_key));
    memcpy(source->state, &state, sizeof(state));
    sodium_memzero(pseudorandom_key, sizeof(pseudorandom_key));
    sodium_memzero(&state, sizeof(state));
}

/* T(1) = HMAC(PRK, info | 0x01) (RFC 5869, 2.3). */
void bk_key_source_derive(const struct bk_key_source *source, uint8_t out[BK_KEY_BYTES],
                          struct bk_slice context) {
    static const uint8_t number[1] = {1};
    crypto_auth_hmacsha256_state state;
    _Static_assert((int)BK_KEY_BYTES == (int)BK_SHA256_BYTES, "a key is one block");
    memcpy(&state, source->state, sizeof(state));
    (void)crypto_auth_hmacsha256_update(&state, bytes_of(context), context.length);
    (void)crypto_auth_hmacsha256_update(&state, number, sizeof(number));
    (void)crypto_auth_hmacsha256_final(&state, out);
    sodium_memzero(&state, sizeof(state));
}

void bk_derive_key(uint8_t out[BK_KEY_BYTES], struct bk_slice secret, struct bk_slice context) {
    struct bk_key_source source;
    bk_key_source_init(&source, secret);
    bk_key_source_derive(&source, out, context);
    sodium_memzero(&source, sizeof(source));
}

void bk_seal(uint8_t *out, const uint8_t key[BK_KEY_BYTES], struct bk_slice text,
             struct bk_slice bound_to) {
    bk_random_bytes(out, NONCE_BYTES);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(out + NONCE_BYTES, NULL, bytes_of(text),
                                                     text.length, bytes_of(bound_to),
                                                     bound_to.length, NULL, out, key);
}

bool bk_unseal(uint8_t *out, const uint8_t key[BK_KEY_BYTES], struct bk_slice sealed,
               struct bk_slice bound_to) {
    const uint8_t *nonce = bytes_of(sealed);
    return sealed.length >= BK_SEAL_BYTES &&
           crypto_aead_xchacha20poly1305_ietf_decrypt(
               out, NULL, NULL, nonce + NONCE_BYTES, sealed.length - NONCE_BYTES,
               bytes_of(bound_to), bound_to.length, nonce, key) == 0;
}

bool bk_crypto_equal(const void *a, const void *b, size_t length) {
    return length == 0 || sodium_memcmp(a, b, length) == 0;
}

void bk_crypto_wipe(void *memory, size_t length) {
    if (length > 0)
        sodium_memzero(memory, length);
}

enum bk_status bk_password_hash(char out[BK_PASSWORD_HASH_BYTES], struct bk_slice password) {
    char hash[BK_PASSWORD_HASH_BYTES];
    if (password.length > BK_PASSWORD_MAX_BYTES)
        return BK_TOO_LARGE;
    if (crypto_pwhash_str_alg(hash, (const char *)bytes_of(password), password.length, ARGON_PASSES,
                              ARGON_MEMORY_BYTES, crypto_pwhash_ALG_ARGON2ID13) != 0)
        return BK_NO_MEMORY;
    memcpy(out, hash, sizeof(hash));
    return BK_OK;
}

/* Copies a hash that libsodium can read; false otherwise. Other parameters than ours are fine. */
static bool read_hash(struct bk_slice hash, char out[BK_PASSWORD_HASH_BYTES]) {
    if (hash.length == 0 || hash.length >= BK_PASSWORD_HASH_BYTES ||
        !bk_slice_starts_with(hash, BK_SLICE(crypto_pwhash_argon2id_STRPREFIX)))
        return false;
    memset(out, 0, BK_PASSWORD_HASH_BYTES);
    memcpy(out, hash.data, hash.length);
    return crypto_pwhash_str_needs_rehash(out, ARGON_PASSES, ARGON_MEMORY_BYTES) >= 0;
}

enum bk_status bk_password_verify(struct bk_slice hash, struct bk_slice password) {
    char text[BK_PASSWORD_HASH_BYTES] = {0};
    bool is_readable = read_hash(hash, text);
    int result;
    if (password.length > BK_PASSWORD_MAX_BYTES)
        return BK_UNAUTHORIZED;
    errno = 0;
    result = crypto_pwhash_str_verify(is_readable ? text : DUMMY_HASH,
                                      (const char *)bytes_of(password), password.length);
    if (result != 0 && errno == ENOMEM)
        return BK_NO_MEMORY;
    return result == 0 && is_readable ? BK_OK : BK_UNAUTHORIZED;
}
