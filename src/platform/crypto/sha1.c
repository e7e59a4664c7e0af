/*
 * SHA-1 (RFC 3174) and HMAC over it (RFC 2104), which libsodium has not, since nothing new should
 * be made with them. Authenticator apps know no other hash for their codes. As a keyed hash of
 * thirty seconds SHA-1 is sound: what is broken is that two texts can be made to collide, which
 * helps nobody who lacks the key.
 */
#include "bakend/assert.h"
#include "bakend/crypto.h"

enum { BLOCK_BYTES = 64, WORDS = 5, ROUNDS = 80, LENGTH_BYTES = 8 };

struct sha1 {
    uint32_t words[WORDS];
    uint8_t block[BLOCK_BYTES];
    size_t used; /* of the block */
    uint64_t length;
};

static uint32_t rotate(uint32_t word, unsigned count) {
    return (word << count) | (word >> (32U - count));
}

static uint32_t read_word(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24U | (uint32_t)bytes[1] << 16U | (uint32_t)bytes[2] << 8U |
           (uint32_t)bytes[3];
}

static void write_word(uint8_t *bytes, uint32_t word) {
    for (unsigned i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(word >> (24U - 8U * i));
}

/* f and K of the round, and the word of the message added to both. */
static uint32_t mix(unsigned round, uint32_t b, uint32_t c, uint32_t d) {
    if (round < 20)
        return ((b & c) | (~b & d)) + 0x5a827999U;
    if (round < 40)
        return (b ^ c ^ d) + 0x6ed9eba1U;
    if (round < 60)
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcU;
    return (b ^ c ^ d) + 0xca62c1d6U;
}

static void take_block(struct sha1 *hash) {
    uint32_t schedule[ROUNDS], state[WORDS];
    for (size_t i = 0; i < 16; i++)
        schedule[i] = read_word(hash->block + 4 * i);
    for (size_t i = 16; i < ROUNDS; i++)
        schedule[i] =
            rotate(schedule[i - 3] ^ schedule[i - 8] ^ schedule[i - 14] ^ schedule[i - 16], 1);
    memcpy(state, hash->words, sizeof state);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t next = rotate(state[0], 5) + mix(round, state[1], state[2], state[3]) + state[4] +
                        schedule[round];
        state[4] = state[3];
        state[3] = state[2];
        state[2] = rotate(state[1], 30);
        state[1] = state[0];
        state[0] = next;
    }
    for (size_t i = 0; i < WORDS; i++)
        hash->words[i] += state[i];
    hash->used = 0;
    bk_crypto_wipe(schedule, sizeof schedule);
}

static void begin(struct sha1 *hash) {
    *hash =
        (struct sha1){.words = {0x67452301U, 0xefcdab89U, 0x98badcfeU, 0x10325476U, 0xc3d2e1f0U}};
}

static void add(struct sha1 *hash, const void *data, size_t length) {
    const uint8_t *bytes = data;
    hash->length += length;
    for (size_t i = 0; i < length; i++) {
        hash->block[hash->used++] = bytes[i];
        if (hash->used == BLOCK_BYTES)
            take_block(hash);
    }
}

/* A one, zeros, and the length in bits at the end of a block. */
static void end(struct sha1 *hash, uint8_t out[BK_SHA1_BYTES]) {
    uint64_t bits = hash->length * 8;
    uint8_t length[LENGTH_BYTES];
    write_word(length, (uint32_t)(bits >> 32U));
    write_word(length + 4, (uint32_t)bits);
    add(hash, "\x80", 1);
    while (hash->used != BLOCK_BYTES - LENGTH_BYTES)
        add(hash, "", 1);
    add(hash, length, sizeof length);
    for (size_t i = 0; i < WORDS; i++)
        write_word(out + 4 * i, hash->words[i]);
    bk_crypto_wipe(hash, sizeof *hash);
}

void bk_hmac_sha1(uint8_t out[BK_SHA1_BYTES], struct bk_slice key, struct bk_slice data) {
    struct sha1 hash;
    uint8_t inner[BLOCK_BYTES] = {0}, outer[BLOCK_BYTES], digest[BK_SHA1_BYTES];
    _Static_assert((int)BK_SHA1_BYTES == 4 * WORDS, "SHA-1");
    if (key.length > BLOCK_BYTES) {
        begin(&hash);
        add(&hash, key.data, key.length);
        end(&hash, inner);
    } else if (key.length > 0) {
        memcpy(inner, key.data, key.length);
    }
    for (size_t i = 0; i < BLOCK_BYTES; i++) {
        outer[i] = inner[i] ^ 0x5cU;
        inner[i] ^= 0x36U;
    }
    begin(&hash);
    add(&hash, inner, sizeof inner);
    add(&hash, data.data, data.length);
    end(&hash, digest);
    begin(&hash);
    add(&hash, outer, sizeof outer);
    add(&hash, digest, sizeof digest);
    end(&hash, out);
    bk_crypto_wipe(inner, sizeof inner);
    bk_crypto_wipe(outer, sizeof outer);
}
