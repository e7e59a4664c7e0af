/* UTF-8 (RFC 3629) that comes in pieces: broken as soon as no continuation could make it right, as
 * RFC 6455, section 8.1, wants messages to be judged. */
#ifndef BAKEND_WEBSOCKET_UTF8_H
#define BAKEND_WEBSOCKET_UTF8_H

#include "bakend/slice.h"

/* Zeroed: at the start of a text. */
struct websocket_utf8 {
    uint8_t missing;   /* bytes of the sequence that are still to come */
    uint8_t low, high; /* what the next of them may be */
};

/* False: what came so far is not the beginning of any valid text. */
bool websocket_utf8_feed(struct websocket_utf8 *state, const char *data, size_t length);

/* The text may end here. */
static inline bool websocket_utf8_is_whole(const struct websocket_utf8 *state) {
    return state->missing == 0;
}

#endif
