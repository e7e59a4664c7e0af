/*
 * Frame heads are judged byte by byte as they come: what the first byte already breaks is broken
 * before the second has arrived. The 64-bit length is compared, never added to anything, so its
 * top bit can be refused before it does harm.
 */
#include "frame.h"

#include "bakend/assert.h"

enum {
    FINAL_BIT = 0x80,
    RESERVED_BITS = 0x70,
    OPCODE_BITS = 0x0f,
    MASK_BIT = 0x80,
    LENGTH_BITS = 0x7f,
    LENGTH_IN_2_BYTES = 126,
    LENGTH_IN_8_BYTES = 127,
    FIRST_BYTES = 2,
};

/* --- heads ------------------------------------------------------------------------------------ */

static bool is_known(uint8_t opcode) {
    return opcode <= WEBSOCKET_BINARY || (opcode >= WEBSOCKET_CLOSE && opcode <= WEBSOCKET_PONG);
}

static bool is_first_byte_right(uint8_t byte) {
    uint8_t opcode = byte & OPCODE_BITS;
    return (byte & RESERVED_BITS) == 0 && is_known(opcode) &&
           (!websocket_is_control(opcode) || (byte & FINAL_BIT) != 0);
}

static bool is_second_byte_right(uint8_t opcode, uint8_t byte) {
    return (byte & MASK_BIT) != 0 &&
           (!websocket_is_control(opcode) || (byte & LENGTH_BITS) <= WEBSOCKET_CONTROL_BYTES_MAX);
}

static uint64_t read_number(const uint8_t *bytes, size_t count) {
    uint64_t number = 0;
    for (size_t i = 0; i < count; i++)
        number = number << 8 | bytes[i];
    return number;
}

static size_t length_bytes(uint8_t short_length) {
    return short_length == LENGTH_IN_8_BYTES ? 8 : short_length == LENGTH_IN_2_BYTES ? 2 : 0;
}

/* A length must take the shortest of the three forms, and has no top bit (section 5.2). */
static bool is_length_right(uint64_t length, size_t count) {
    if (count == 8)
        return length > UINT16_MAX && length <= INT64_MAX;
    return count != 2 || length >= LENGTH_IN_2_BYTES;
}

enum websocket_head_result websocket_head_read(struct websocket_head *head, const uint8_t *bytes,
                                               size_t length) {
    if (length == 0)
        return WEBSOCKET_HEAD_PARTIAL;
    head->opcode = bytes[0] & OPCODE_BITS;
    head->is_final = (bytes[0] & FINAL_BIT) != 0;
    if (!is_first_byte_right(bytes[0]))
        return WEBSOCKET_HEAD_BROKEN;
    if (length < FIRST_BYTES)
        return WEBSOCKET_HEAD_PARTIAL;
    if (!is_second_byte_right(head->opcode, bytes[1]))
        return WEBSOCKET_HEAD_BROKEN;
    size_t count = length_bytes(bytes[1] & LENGTH_BITS);
    if (length < FIRST_BYTES + count)
        return WEBSOCKET_HEAD_PARTIAL;
    head->payload_length =
        count == 0 ? bytes[1] & LENGTH_BITS : read_number(bytes + FIRST_BYTES, count);
    if (!is_length_right(head->payload_length, count))
        return WEBSOCKET_HEAD_BROKEN;
    head->size = (uint8_t)(FIRST_BYTES + count + WEBSOCKET_MASK_BYTES);
    if (length < head->size)
        return WEBSOCKET_HEAD_PARTIAL;
    memcpy(head->mask, bytes + FIRST_BYTES + count, WEBSOCKET_MASK_BYTES);
    return WEBSOCKET_HEAD_WHOLE;
}

size_t websocket_head_write(char *end, enum websocket_opcode opcode, size_t payload_length) {
    uint8_t short_length = payload_length > UINT16_MAX          ? LENGTH_IN_8_BYTES
                           : payload_length < LENGTH_IN_2_BYTES ? (uint8_t)payload_length
                                                                : LENGTH_IN_2_BYTES;
    size_t count = length_bytes(short_length), size = FIRST_BYTES + count;
    uint64_t left = payload_length;
    char *bytes = end - size;
    bytes[0] = (char)(FINAL_BIT | (int)opcode);
    bytes[1] = (char)short_length;
    for (size_t i = count; i > 0; i--, left >>= 8)
        bytes[FIRST_BYTES + i - 1] = (char)(left & 0xff);
    return size;
}

/* --- masks ------------------------------------------------------------------------------------ */

void websocket_unmask(char *data, size_t length, uint8_t mask[WEBSOCKET_MASK_BYTES]) {
    uint8_t pattern[2 * WEBSOCKET_MASK_BYTES], turned[WEBSOCKET_MASK_BYTES];
    uint64_t wide_mask, wide;
    size_t at = 0;
    memcpy(pattern, mask, WEBSOCKET_MASK_BYTES);
    memcpy(pattern + WEBSOCKET_MASK_BYTES, mask, WEBSOCKET_MASK_BYTES);
    memcpy(&wide_mask, pattern, sizeof(wide_mask));
    for (; length - at >= sizeof(wide); at += sizeof(wide)) {
        memcpy(&wide, data + at, sizeof(wide));
        wide ^= wide_mask;
        memcpy(data + at, &wide, sizeof(wide));
    }
    for (; at < length; at++)
        data[at] = (char)((uint8_t)data[at] ^ mask[at % WEBSOCKET_MASK_BYTES]);
    memcpy(turned, pattern + length % WEBSOCKET_MASK_BYTES, WEBSOCKET_MASK_BYTES);
    memcpy(mask, turned, WEBSOCKET_MASK_BYTES);
}

/* --- close frames ----------------------------------------------------------------------------- */

bool websocket_code_is_valid(int code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

int websocket_close_read(struct bk_slice payload, int *code) {
    struct bk_slice reason;
    int found;
    if (payload.length == 0) {
        *code = WEBSOCKET_CODE_NONE;
        return 0;
    }
    if (payload.length < WEBSOCKET_CODE_BYTES)
        return WEBSOCKET_CODE_PROTOCOL_ERROR;
    found = (uint8_t)payload.data[0] << 8 | (uint8_t)payload.data[1];
    if (!websocket_code_is_valid(found))
        return WEBSOCKET_CODE_PROTOCOL_ERROR;
    reason =
        bk_slice_make(payload.data + WEBSOCKET_CODE_BYTES, payload.length - WEBSOCKET_CODE_BYTES);
    if (!bk_slice_is_utf8(reason))
        return WEBSOCKET_CODE_NOT_TEXT;
    *code = found;
    return 0;
}

size_t websocket_close_write(char out[WEBSOCKET_CONTROL_BYTES_MAX], int code,
                             struct bk_slice reason) {
    BK_ASSERT(websocket_code_is_valid(code) && reason.length <= WEBSOCKET_REASON_BYTES_MAX);
    out[0] = (char)(code >> 8);
    out[1] = (char)(code & 0xff);
    if (reason.length > 0)
        memcpy(out + WEBSOCKET_CODE_BYTES, reason.data, reason.length);
    return WEBSOCKET_CODE_BYTES + reason.length;
}
