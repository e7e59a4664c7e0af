/* UTF-8 as RFC 3629 has it, one sequence at a time. Private to the base tier: the slice, the JSON
 * gate and the JSON writer must agree on what is valid. */
#ifndef BAKEND_BASE_UTF8_H
#define BAKEND_BASE_UTF8_H

#include <stddef.h>

/* The length (1..4) of the sequence that starts at text, or 0 when it is broken: cut off at `left`
 * bytes, overlong, a surrogate or past U+10FFFF. left > 0. */
static inline size_t utf8_sequence_length(const char *text, size_t left) {
    const unsigned char *byte = (const unsigned char *)text;
    if (byte[0] < 0x80)
        return 1;
    /* The first byte sets the length, and narrows the second: that is where overlong forms (E0,
     * F0), surrogates (ED) and what is past the last plane (F4) show. */
    unsigned char low = 0x80, high = 0xBF;
    size_t length;
    if (byte[0] >= 0xC2 && byte[0] <= 0xDF) {
        length = 2;
    } else if (byte[0] >= 0xE0 && byte[0] <= 0xEF) {
        length = 3;
        low = byte[0] == 0xE0 ? 0xA0 : 0x80;
        high = byte[0] == 0xED ? 0x9F : 0xBF;
    } else if (byte[0] >= 0xF0 && byte[0] <= 0xF4) {
        length = 4;
        low = byte[0] == 0xF0 ? 0x90 : 0x80;
        high = byte[0] == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    if (length > left || byte[1] < low || byte[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if (byte[i] < 0x80 || byte[i] > 0xBF)
            return 0;
    }
    return length;
}

#endif
