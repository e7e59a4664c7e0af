/*
 * Frames (RFC 6455, section 5): reading a client's heads, writing a server's, masks, and close
 * codes. Bytes only: nothing here knows a socket.
 */
#ifndef BAKEND_WEBSOCKET_FRAME_H
#define BAKEND_WEBSOCKET_FRAME_H

#include "bakend/slice.h"

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10
};

enum {
    WEBSOCKET_CLIENT_HEAD_BYTES_MAX = 14,
    WEBSOCKET_SERVER_HEAD_BYTES_MAX = 10,
    WEBSOCKET_MASK_BYTES = 4,
    WEBSOCKET_CONTROL_BYTES_MAX = 125,
    WEBSOCKET_CODE_BYTES = 2, /* at the start of a close frame's payload */
    WEBSOCKET_REASON_BYTES_MAX = WEBSOCKET_CONTROL_BYTES_MAX - WEBSOCKET_CODE_BYTES,
};

/* Section 7.4.1, and IANA's registry for those past 1011. */
enum websocket_code {
    WEBSOCKET_CODE_NORMAL = 1000,
    WEBSOCKET_CODE_GOING_AWAY = 1001,
    WEBSOCKET_CODE_PROTOCOL_ERROR = 1002,
    WEBSOCKET_CODE_NONE = 1005,     /* never sent: the close frame named none */
    WEBSOCKET_CODE_ABNORMAL = 1006, /* never sent: there was no close frame */
    WEBSOCKET_CODE_NOT_TEXT = 1007,
    WEBSOCKET_CODE_TOO_BIG = 1009,
    WEBSOCKET_CODE_TRY_LATER = 1013,
};

struct websocket_head {
    uint64_t payload_length;
    uint8_t mask[WEBSOCKET_MASK_BYTES];
    uint8_t opcode, size; /* size: of the head */
    bool is_final;
};

enum websocket_head_result { WEBSOCKET_HEAD_PARTIAL, WEBSOCKET_HEAD_WHOLE, WEBSOCKET_HEAD_BROKEN };

/* Judges as much as is here. Broken: a rule that a single frame can break is broken (1002). */
enum websocket_head_result websocket_head_read(struct websocket_head *head, const uint8_t *bytes,
                                               size_t length);
/* Writes the head of a whole, unmasked frame so that it ends right before end; returns its length,
 * 2, 4 or 10. */
size_t websocket_head_write(char *end, enum websocket_opcode opcode, size_t payload_length);

static inline bool websocket_is_control(uint8_t opcode) { return (opcode & 8) != 0; }

/* In place. The mask is turned, so that the next call goes on where this one ended. */
void websocket_unmask(char *data, size_t length, uint8_t mask[WEBSOCKET_MASK_BYTES]);

/* Whether a close frame may name it. */
bool websocket_code_is_valid(int code);
/* A close frame's payload. 0 and the code (WEBSOCKET_CODE_NONE without one), or the code of the
 * violation. */
int websocket_close_read(struct bk_slice payload, int *code);
/* Writes the payload for a valid code; returns its length. */
size_t websocket_close_write(char out[WEBSOCKET_CONTROL_BYTES_MAX], int code,
                             struct bk_slice reason);

#endif
