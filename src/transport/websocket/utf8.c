/*
 * The first byte of a sequence sets how many follow, and narrows the second: that is where overlong
 * forms (E0, F0), surrogates (ED) and what is past the last plane (F4) show. ASCII, which is nearly
 * all there is, goes eight bytes at a time.
 */
#include "utf8.h"

enum { CONTINUATION_LOW = 0x80, CONTINUATION_HIGH = 0xbf };

static size_t count_ascii(const char *data, size_t length) {
    size_t at = 0;
    uint64_t wide;
    for (; length - at >= sizeof(wide); at += sizeof(wide)) {
        memcpy(&wide, data + at, sizeof(wide));
        if ((wide & UINT64_C(0x8080808080808080)) != 0)
            break;
    }
    while (at < length && (uint8_t)data[at] < 0x80)
        at++;
    return at;
}

static bool begin_sequence(struct websocket_utf8 *state, uint8_t byte) {
    state->low = CONTINUATION_LOW;
    state->high = CONTINUATION_HIGH;
    if (byte >= 0xc2 && byte <= 0xdf) {
        state->missing = 1;
    } else if (byte >= 0xe0 && byte <= 0xef) {
        state->missing = 2;
        if (byte == 0xe0)
            state->low = 0xa0;
        else if (byte == 0xed)
            state->high = 0x9f;
    } else if (byte >= 0xf0 && byte <= 0xf4) {
        state->missing = 3;
        if (byte == 0xf0)
            state->low = 0x90;
        else if (byte == 0xf4)
            state->high = 0x8f;
    } else {
        return false;
    }
    return true;
}

bool websocket_utf8_feed(struct websocket_utf8 *state, const char *data, size_t length) {
    size_t at = 0;
    while (at < length) {
        uint8_t byte = (uint8_t)data[at];
        if (state->missing == 0 && byte < 0x80) {
            at += count_ascii(data + at, length - at);
            continue;
        }
        if (state->missing == 0) {
            if (!begin_sequence(state, byte))
                return false;
        } else if (byte < state->low || byte > state->high) {
            return false;
        } else {
            state->missing--;
            state->low = CONTINUATION_LOW;
            state->high = CONTINUATION_HIGH;
        }
        at++;
    }
    return true;
}
