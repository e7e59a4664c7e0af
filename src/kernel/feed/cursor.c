/*
 * Cursors: a position between two events of one history, as text.
 *
 *   byte   0        1 … 8   9 … 16     17 … 19
 *          version  epoch   sequence   check over bytes 0 … 16
 *
 * A cursor of sequence n stands right behind event n: reading forward begins with n + 1, reading
 * backward with n. 0 stands before the first event there ever was. The check is no secret: it tells
 * a mangled cursor from one of another history, so that the answer can say which of the two it is.
 * A SHA-256 in its place cost a page of the feed, that makes three cursors, a sixth of its time.
 */
#include "bakend/feed.h"

#include "bakend/encode.h"

enum {
    VERSION = 2,
    EPOCH_AT = 1,
    EPOCH_BYTES = 8,
    SEQUENCE_AT = EPOCH_AT + EPOCH_BYTES,
    SEQUENCE_BYTES = 8,
    CHECK_AT = SEQUENCE_AT + SEQUENCE_BYTES,
    CHECK_BYTES = 3,
    RAW_BYTES = CHECK_AT + CHECK_BYTES
};
_Static_assert(BK_BASE64URL_BYTES(RAW_BYTES) == BK_CURSOR_BYTES, "the size that feed.h promises");

/* FNV-1a, with its bits mixed once more, so that each bit of the cursor moves those that are
 * kept. */
static uint64_t hash_of(const uint8_t raw[RAW_BYTES]) {
    uint64_t hash = 0xcbf29ce484222325U;
    for (int i = 0; i < CHECK_AT; i++)
        hash = (hash ^ raw[i]) * 0x100000001b3U;
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93U;
    return hash ^ hash >> 32;
}

static void make_check(uint8_t out[CHECK_BYTES], const uint8_t raw[RAW_BYTES]) {
    uint64_t hash = hash_of(raw);
    for (int i = 0; i < CHECK_BYTES; i++)
        out[i] = (uint8_t)(hash >> (8 * i));
}

void bk_cursor_make(char out[BK_CURSOR_BYTES], const uint8_t epoch[8], uint64_t sequence) {
    uint8_t raw[RAW_BYTES] = {VERSION};
    memcpy(raw + EPOCH_AT, epoch, EPOCH_BYTES);
    for (int i = 0; i < SEQUENCE_BYTES; i++)
        raw[SEQUENCE_AT + i] = (uint8_t)(sequence >> (8 * (SEQUENCE_BYTES - 1 - i)));
    make_check(raw + CHECK_AT, raw);
    size_t written = bk_base64url_encode(out, raw, sizeof raw);
    BK_ASSERT(written == BK_CURSOR_BYTES);
}

bool bk_cursor_parse(struct bk_slice text, uint8_t epoch[8], uint64_t *sequence) {
    uint8_t raw[RAW_BYTES];
    uint8_t check[CHECK_BYTES];
    size_t length = sizeof raw;
    if (text.length != BK_CURSOR_BYTES || !bk_base64url_decode(text, raw, &length) ||
        length != RAW_BYTES || raw[0] != VERSION)
        return false;
    make_check(check, raw);
    if (memcmp(check, raw + CHECK_AT, CHECK_BYTES) != 0)
        return false;
    memcpy(epoch, raw + EPOCH_AT, EPOCH_BYTES);
    *sequence = 0;
    for (int i = 0; i < SEQUENCE_BYTES; i++)
        *sequence = *sequence << 8 | raw[SEQUENCE_AT + i];
    return true;
}
