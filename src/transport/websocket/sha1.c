/* One call, one text: whole blocks first, then the rest with its padding in one or two more. */
#include "sha1.h"

#include "bakend/assert.h"

enum {
    BLOCK_BYTES = 64,
    LENGTH_BYTES = 8,
    ROUNDS = 80,
    WORDS = 5,
    DATA_BYTES_MAX = 1024 * 1024,
};

static uint32_t turn_left(uint32_t value, unsigned int bits) {
    return value << bits | value >> (32 - bits);
}

static void expand(uint32_t schedule[ROUNDS], const uint8_t *block) {
    for (size_t i = 0; i < 16; i++)
        schedule[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                      (uint32_t)block[4 * i + 2] << 8 | (uint32_t)block[4 * i + 3];
    for (size_t i = 16; i < ROUNDS; i++)
        schedule[i] =
            turn_left(schedule[i - 3] ^ schedule[i - 8] ^ schedule[i - 14] ^ schedule[i - 16], 1);
}

static uint32_t mix(size_t round, uint32_t b, uint32_t c, uint32_t d) {
    if (round < 20)
        return ((b & c) | (~b & d)) + 0x5a827999;
    if (round < 40)
        return (b ^ c ^ d) + 0x6ed9eba1;
    if (round < 60)
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    return (b ^ c ^ d) + 0xca62c1d6;
}

static void add_block(uint32_t state[WORDS], const uint8_t *block) {
    uint32_t schedule[ROUNDS];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    expand(schedule, block);
    for (size_t i = 0; i < ROUNDS; i++) {
        uint32_t next = turn_left(a, 5) + mix(i, b, c, d) + e + schedule[i];
        e = d;
        d = c;
        c = turn_left(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

static void add_last(uint32_t state[WORDS], struct bk_slice rest, uint64_t bit_count) {
    uint8_t blocks[2 * BLOCK_BYTES] = {0};
    size_t size = rest.length + 1 + LENGTH_BYTES <= BLOCK_BYTES ? BLOCK_BYTES : 2 * BLOCK_BYTES;
    if (rest.length > 0)
        memcpy(blocks, rest.data, rest.length);
    blocks[rest.length] = 0x80;
    for (size_t i = 0; i < LENGTH_BYTES; i++, bit_count >>= 8)
        blocks[size - 1 - i] = (uint8_t)(bit_count & 0xff);
    for (size_t at = 0; at < size; at += BLOCK_BYTES)
        add_block(state, blocks + at);
}

void websocket_sha1(uint8_t out[WEBSOCKET_SHA1_BYTES], struct bk_slice data) {
    uint32_t state[WORDS] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    size_t at = 0;
    BK_ASSERT(data.length <= DATA_BYTES_MAX);
    for (; data.length - at >= BLOCK_BYTES; at += BLOCK_BYTES) {
        uint8_t block[BLOCK_BYTES];
        memcpy(block, data.data + at, BLOCK_BYTES);
        add_block(state, block);
    }
    struct bk_slice rest = BK_SLICE_EMPTY;
    if (at < data.length)
        rest = bk_slice_make(data.data + at, data.length - at);
    add_last(state, rest, (uint64_t)data.length * 8);
    for (size_t i = 0; i < WEBSOCKET_SHA1_BYTES; i++)
        out[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)) & 0xff);
}
