/* Frames as clients send them, right or wrong, for the tests of the transport. */
#ifndef BAKEND_TESTS_CLIENT_FRAMES_H
#define BAKEND_TESTS_CLIENT_FRAMES_H

#include "bakend/buffer.h"

enum {
    FINAL = 0x80,
    RESERVED_1 = 0x40,
    RESERVED_2 = 0x20,
    RESERVED_3 = 0x10,
    MASKED = 0x80,
    ROOM_BYTES = 4 * 1024 * 1024,
};

/* The form of a length: 0 in the head's second byte, or in 2 or 8 bytes behind it. */
static inline void put_length(struct bk_buffer *out, size_t form, uint64_t length) {
    bk_buffer_append_char(out, (char)(MASKED | (form == 8 ? 127 : form == 2 ? 126 : (int)length)));
    for (size_t i = form; i > 0; i--)
        bk_buffer_append_char(out, (char)(length >> (8 * (i - 1)) & 0xff));
}

static inline void put_masked(struct bk_buffer *out, const void *payload, size_t length) {
    static const uint8_t mask[] = {0x37, 0xfa, 0x21, 0x3d};
    const uint8_t *bytes = payload;
    bk_buffer_append(out, mask, sizeof(mask));
    for (size_t i = 0; i < length; i++)
        bk_buffer_append_char(out, (char)(bytes[i] ^ mask[i % sizeof(mask)]));
}

static inline void put_frame(struct bk_buffer *out, int first_byte, const void *payload,
                             size_t length) {
    bk_buffer_append_char(out, (char)first_byte);
    put_length(out, length > UINT16_MAX ? 8 : length > 125 ? 2 : 0, length);
    put_masked(out, payload, length);
}

static inline void put_text(struct bk_buffer *out, int first_byte, const char *text) {
    put_frame(out, first_byte, text, strlen(text));
}

static inline void put_close(struct bk_buffer *out, int code, const char *reason) {
    char payload[256];
    size_t length = strlen(reason);
    payload[0] = (char)(code >> 8);
    payload[1] = (char)(code & 0xff);
    memcpy(payload + 2, reason, length);
    put_frame(out, FINAL | 8, payload, length + 2);
}

#endif
