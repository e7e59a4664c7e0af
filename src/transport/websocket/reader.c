/*
 * One frame at a time: head, then payload as it comes.
 *
 * The limit on a message is checked when a frame's head is here, against the length that it names,
 * before a byte of it is kept; memory then grows with what really comes. Text is judged as it
 * comes, so a broken message fails before its end. A control frame may stand between the fragments
 * of a message; what is there of it is gathered behind the message and taken off again.
 */
#include "reader.h"

#include "bakend/assert.h"

/* Nothing to hand on yet, and there may be more in the input. */
enum { EVENT_NONE = -1 };

void websocket_reader_init(struct websocket_reader *reader, size_t message_max_bytes) {
    BK_ASSERT(message_max_bytes > 0 && message_max_bytes <= INT32_MAX);
    *reader = (struct websocket_reader){.message_max_bytes = message_max_bytes};
    bk_buffer_init(&reader->gathered, message_max_bytes + WEBSOCKET_CONTROL_BYTES_MAX);
}

void websocket_reader_fini(struct websocket_reader *reader) { bk_buffer_fini(&reader->gathered); }

static void forget_handed_on(struct websocket_reader *reader) {
    if (!reader->is_handed_on)
        return;
    reader->is_handed_on = false;
    reader->gathered.length = reader->kept;
    if (reader->kept == 0)
        bk_buffer_fini(&reader->gathered);
}

static int violate(struct websocket_found *found, int code) {
    found->code = code;
    return WEBSOCKET_EVENT_VIOLATION;
}

/* --- heads ------------------------------------------------------------------------------------ */

/* What the frame is among those before it (section 5.4), and how long the message may be. */
static int begin_frame(struct websocket_reader *reader, const struct websocket_head *head,
                       struct websocket_found *found) {
    bool is_in_message = reader->message_opcode != WEBSOCKET_CONTINUATION;
    reader->is_in_payload = true;
    reader->head_length = 0;
    reader->opcode = head->opcode;
    reader->is_final = head->is_final;
    reader->left = head->payload_length;
    memcpy(reader->mask, head->mask, sizeof(reader->mask));
    reader->kept = (uint32_t)reader->gathered.length;
    if (websocket_is_control(head->opcode))
        return EVENT_NONE;
    if (is_in_message != (head->opcode == WEBSOCKET_CONTINUATION))
        return violate(found, WEBSOCKET_CODE_PROTOCOL_ERROR);
    if (head->payload_length > reader->message_max_bytes - reader->gathered.length)
        return violate(found, WEBSOCKET_CODE_TOO_BIG);
    reader->kept = 0;
    if (!is_in_message) {
        reader->message_opcode = head->opcode;
        reader->utf8 = (struct websocket_utf8){0};
    }
    return EVENT_NONE;
}

static int read_head(struct websocket_reader *reader, struct websocket_input *input,
                     struct websocket_found *found) {
    struct websocket_head head;
    size_t before = reader->head_length, room = sizeof(reader->head) - before;
    size_t taken = input->length < room ? input->length : room;
    enum websocket_head_result result;
    if (taken > 0)
        memcpy(reader->head + before, input->data, taken);
    result = websocket_head_read(&head, reader->head, before + taken);
    if (result == WEBSOCKET_HEAD_BROKEN)
        return violate(found, WEBSOCKET_CODE_PROTOCOL_ERROR);
    if (result == WEBSOCKET_HEAD_WHOLE)
        taken = head.size - before;
    input->data += taken;
    input->length -= taken;
    if (result == WEBSOCKET_HEAD_WHOLE)
        return begin_frame(reader, &head, found);
    reader->head_length = (uint8_t)(before + taken);
    return WEBSOCKET_EVENT_MORE;
}

/* --- payloads --------------------------------------------------------------------------------- */

static int hand_on_control(const struct websocket_reader *reader, struct websocket_found *found) {
    int code;
    if (reader->opcode == WEBSOCKET_PING)
        return WEBSOCKET_EVENT_PING;
    if (reader->opcode == WEBSOCKET_PONG)
        return WEBSOCKET_EVENT_PONG;
    code = websocket_close_read(found->payload, &found->code);
    return code == 0 ? WEBSOCKET_EVENT_CLOSE : violate(found, code);
}

static int hand_on_message(struct websocket_reader *reader, struct websocket_found *found) {
    found->is_binary = reader->message_opcode == WEBSOCKET_BINARY;
    reader->message_opcode = WEBSOCKET_CONTINUATION;
    if (!found->is_binary && !websocket_utf8_is_whole(&reader->utf8))
        return violate(found, WEBSOCKET_CODE_NOT_TEXT);
    return WEBSOCKET_EVENT_MESSAGE;
}

/* All of the frame is here. part: the end of its payload that was not gathered. */
static int end_frame(struct websocket_reader *reader, struct bk_slice part,
                     struct websocket_found *found) {
    bool is_control = websocket_is_control(reader->opcode);
    reader->is_in_payload = false;
    if (!is_control && !reader->is_final)
        return EVENT_NONE;
    found->payload = part;
    if (reader->gathered.length > reader->kept) {
        found->payload = bk_slice_make(reader->gathered.data + reader->kept,
                                       reader->gathered.length - reader->kept);
        reader->is_handed_on = true;
    }
    return is_control ? hand_on_control(reader, found) : hand_on_message(reader, found);
}

static int read_payload(struct websocket_reader *reader, struct websocket_input *input,
                        struct websocket_found *found) {
    size_t here = reader->left < input->length ? (size_t)reader->left : input->length;
    struct bk_slice part = bk_slice_make(input->data, here);
    bool is_control = websocket_is_control(reader->opcode);
    bool is_alone = reader->gathered.length == reader->kept && here == reader->left &&
                    (is_control || reader->is_final);
    websocket_unmask(input->data, here, reader->mask);
    input->data += here;
    input->length -= here;
    reader->left -= here;
    if (!is_control && reader->message_opcode == WEBSOCKET_TEXT &&
        !websocket_utf8_feed(&reader->utf8, part.data, part.length))
        return violate(found, WEBSOCKET_CODE_NOT_TEXT);
    if (!is_alone)
        bk_buffer_append_slice(&reader->gathered, part);
    if (reader->gathered.is_overflown)
        return violate(found, WEBSOCKET_CODE_TRY_LATER);
    return reader->left == 0 ? end_frame(reader, part, found) : WEBSOCKET_EVENT_MORE;
}

enum websocket_event websocket_reader_next(struct websocket_reader *reader,
                                           struct websocket_input *input,
                                           struct websocket_found *found) {
    int event = EVENT_NONE;
    *found = (struct websocket_found){.payload = BK_SLICE_EMPTY};
    forget_handed_on(reader);
    while (event == EVENT_NONE)
        event = reader->is_in_payload ? read_payload(reader, input, found)
                                      : read_head(reader, input, found);
    return (enum websocket_event)event;
}
