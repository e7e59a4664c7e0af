/*
 * A client's bytes through the WebSocket reader. The first byte seeds where they are cut.
 *
 * Whatever the bytes: no read or write outside them; no more memory than the limit and a control
 * frame; text that is handed on is UTF-8; and what is found is the same as when they come at once.
 */
#include "transport/websocket/reader.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

enum { MESSAGE_MAX_BYTES = 4096, CUTS = 3, HASH_FACTOR = 0x01000193 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A digest of all that was found, in order. */
struct digest {
    uint32_t value, count;
};

static void add(struct digest *digest, const void *data, size_t length) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < length; i++)
        digest->value = (digest->value ^ bytes[i]) * HASH_FACTOR;
}

static void add_found(struct digest *digest, enum websocket_event event,
                      const struct websocket_found *found) {
    int words[] = {(int)event, found->code, found->is_binary, (int)found->payload.length};
    digest->count++;
    add(digest, words, sizeof(words));
    add(digest, found->payload.data,
        event == WEBSOCKET_EVENT_VIOLATION ? 0 : found->payload.length);
}

static void check_found(enum websocket_event event, const struct websocket_found *found) {
    if (event == WEBSOCKET_EVENT_MESSAGE) {
        BK_ASSERT(found->payload.length <= MESSAGE_MAX_BYTES);
        BK_ASSERT(found->is_binary || bk_slice_is_utf8(found->payload));
    } else if (event == WEBSOCKET_EVENT_CLOSE) {
        BK_ASSERT(found->code == WEBSOCKET_CODE_NONE || websocket_code_is_valid(found->code));
    } else if (event != WEBSOCKET_EVENT_VIOLATION) {
        BK_ASSERT(found->payload.length <= WEBSOCKET_CONTROL_BYTES_MAX);
    }
}

/* Exactly as large as the piece, so that the sanitizer sees the first byte read past it. */
static bool feed(struct websocket_reader *reader, const uint8_t *data, size_t length,
                 struct digest *digest) {
    char *copy = bk_alloc(length > 0 ? length : 1);
    struct websocket_input input = {.data = copy, .length = length};
    struct websocket_found found;
    enum websocket_event event;
    if (length > 0)
        memcpy(copy, data, length);
    while ((event = websocket_reader_next(reader, &input, &found)) != WEBSOCKET_EVENT_MORE) {
        check_found(event, &found);
        if (event == WEBSOCKET_EVENT_VIOLATION)
            found.payload = BK_SLICE_EMPTY;
        add_found(digest, event, &found);
        if (event == WEBSOCKET_EVENT_VIOLATION || event == WEBSOCKET_EVENT_CLOSE)
            break;
    }
    BK_ASSERT(event != WEBSOCKET_EVENT_MORE || input.length == 0);
    BK_ASSERT(reader->gathered.length <= MESSAGE_MAX_BYTES + WEBSOCKET_CONTROL_BYTES_MAX);
    bk_free(copy);
    return event == WEBSOCKET_EVENT_MORE;
}

/* step_max 0: at once. */
static struct digest read_cut(const uint8_t *data, size_t size, uint32_t seed, size_t step_max) {
    struct digest digest = {0, 0};
    struct websocket_reader reader;
    size_t at = 0;
    websocket_reader_init(&reader, MESSAGE_MAX_BYTES);
    do {
        size_t step = size - at;
        seed = seed * 1664525 + 1013904223;
        if (step_max > 0 && 1 + (seed >> 8) % step_max < step)
            step = 1 + (seed >> 8) % step_max;
        if (!feed(&reader, data + at, step, &digest))
            break;
        at += step;
    } while (at < size);
    websocket_reader_fini(&reader);
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct digest whole, cut;
    if (size == 0)
        return 0;
    whole = read_cut(data + 1, size - 1, 0, 0);
    for (uint32_t i = 0; i < CUTS; i++) {
        static const size_t steps[CUTS] = {1, 7, 100};
        cut = read_cut(data + 1, size - 1, data[0] + i, steps[i]);
        BK_ASSERT(cut.value == whole.value && cut.count == whole.count);
    }
    return 0;
}
