/*
 * What a connection has to send: a ring of pointers to frames. Frames are struct bk_shared, also
 * those that only one connection sends. A ring starts inside the connection, grows on the heap, and
 * comes back when it is empty, so that an idle connection owns none.
 */
#ifndef BAKEND_WEBSOCKET_QUEUE_H
#define BAKEND_WEBSOCKET_QUEUE_H

#include "bakend/api.h"

enum {
    WEBSOCKET_QUEUE_FEW = 2, /* a power of two */
    /* What an entry costs beside its bytes, so that empty messages fill a queue too. */
    WEBSOCKET_ENTRY_COST_BYTES = 64,
};

enum websocket_kind {
    WEBSOCKET_KIND_SHARED,  /* a message that others send too */
    WEBSOCKET_KIND_OWN,     /* a message of this connection alone */
    WEBSOCKET_KIND_CONTROL, /* no message; also the answer to the handshake */
    WEBSOCKET_KIND_PONG
};

struct websocket_entry {
    struct bk_shared *frame; /* a reference */
    uint8_t kind;
};

struct websocket_queue {
    struct websocket_entry *entries; /* few, or a ring on the heap; capacity: a power of two */
    uint32_t capacity, first, count;
    size_t bytes; /* of all frames, what was sent of the first one included */
    struct websocket_entry few[WEBSOCKET_QUEUE_FEW];
};

static inline size_t websocket_frame_bytes(const struct bk_shared *frame) {
    return frame->head_length + frame->length;
}

static inline char *websocket_frame_data(struct bk_shared *frame) {
    return frame->room + BK_SHARED_HEAD_BYTES - frame->head_length;
}

void websocket_queue_init(struct websocket_queue *queue);
/* Gives the frames back. */
void websocket_queue_fini(struct websocket_queue *queue);
/* Takes the reference over. */
void websocket_queue_push(struct websocket_queue *queue, struct bk_shared *frame,
                          enum websocket_kind kind);
/* The entry at index, counted from the front. */
const struct websocket_entry *websocket_queue_at(const struct websocket_queue *queue,
                                                 uint32_t index);
/* The reference becomes the caller's. */
struct websocket_entry websocket_queue_pop(struct websocket_queue *queue);
/* Whether so many bytes more may wait when at most max_bytes may. Anything may when nothing
 * does. */
bool websocket_queue_has_room(const struct websocket_queue *queue, size_t bytes, size_t max_bytes);

#endif
