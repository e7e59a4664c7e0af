/*
 * A client's bytes as messages and control frames: RFC 6455's rules for what follows what, however
 * the bytes are cut. Knows no socket.
 *
 * Bytes are unmasked where they lie. A message that lies there as a whole is handed on without a
 * copy; only what is in parts (a fragmented message, a frame that has not come to its end) is
 * gathered in `gathered`, which is freed when it was handed on. Between messages a reader owns no
 * memory.
 */
#ifndef BAKEND_WEBSOCKET_READER_H
#define BAKEND_WEBSOCKET_READER_H

#include "bakend/buffer.h"
#include "frame.h"
#include "utf8.h"

enum websocket_event {
    WEBSOCKET_EVENT_MORE, /* all was used */
    WEBSOCKET_EVENT_MESSAGE,
    WEBSOCKET_EVENT_PING,
    WEBSOCKET_EVENT_PONG,
    WEBSOCKET_EVENT_CLOSE,
    WEBSOCKET_EVENT_VIOLATION /* nothing more is to be read */
};

struct websocket_input {
    char *data; /* is written to */
    size_t length;
};

struct websocket_found {
    struct bk_slice payload; /* valid until the next call, and as long as the input */
    bool is_binary;
    int code; /* of the close frame, or of the violation */
};

struct websocket_reader {
    struct bk_buffer gathered; /* the message so far, and a control frame behind it */
    uint64_t left;             /* of the frame's payload */
    size_t message_max_bytes;
    uint32_t kept; /* of gathered, when the control frame behind it was handed on */
    uint8_t head[WEBSOCKET_CLIENT_HEAD_BYTES_MAX];
    uint8_t head_length; /* of head, so far */
    uint8_t mask[WEBSOCKET_MASK_BYTES];
    uint8_t opcode;         /* of the frame */
    uint8_t message_opcode; /* of the message that has begun; WEBSOCKET_CONTINUATION: none */
    struct websocket_utf8 utf8;
    bool is_in_payload, is_final;
    bool is_handed_on; /* gathered (from kept on) is the caller's until the next call */
};

/* message_max_bytes: less than 2 GiB. */
void websocket_reader_init(struct websocket_reader *reader, size_t message_max_bytes);
void websocket_reader_fini(struct websocket_reader *reader);
/* Takes the next thing off the front of input. */
enum websocket_event websocket_reader_next(struct websocket_reader *reader,
                                           struct websocket_input *input,
                                           struct websocket_found *found);

#endif
