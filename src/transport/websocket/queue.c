/* See queue.h. */
#include "queue.h"

#include "bakend/alloc.h"

void websocket_queue_init(struct websocket_queue *queue) {
    *queue = (struct websocket_queue){.capacity = WEBSOCKET_QUEUE_FEW};
    queue->entries = queue->few;
}

void websocket_queue_fini(struct websocket_queue *queue) {
    while (queue->count > 0)
        bk_shared_unref(websocket_queue_pop(queue).frame);
}

static uint32_t place(const struct websocket_queue *queue, uint32_t index) {
    return (queue->first + index) & (queue->capacity - 1);
}

static void grow(struct websocket_queue *queue) {
    uint32_t capacity = queue->capacity * 2;
    struct websocket_entry *entries = bk_alloc(capacity * sizeof(*entries));
    for (uint32_t i = 0; i < queue->count; i++)
        entries[i] = queue->entries[place(queue, i)];
    if (queue->entries != queue->few)
        bk_free(queue->entries);
    queue->entries = entries;
    queue->capacity = capacity;
    queue->first = 0;
}

void websocket_queue_push(struct websocket_queue *queue, struct bk_shared *frame,
                          enum websocket_kind kind) {
    if (queue->count == queue->capacity)
        grow(queue);
    queue->entries[place(queue, queue->count)] =
        (struct websocket_entry){.frame = frame, .kind = (uint8_t)kind};
    queue->count++;
    queue->bytes += websocket_frame_bytes(frame);
}

const struct websocket_entry *websocket_queue_at(const struct websocket_queue *queue,
                                                 uint32_t index) {
    BK_ASSERT(index < queue->count);
    return &queue->entries[place(queue, index)];
}

static void forget(struct websocket_queue *queue, struct websocket_entry entry) {
    queue->count--;
    queue->bytes -= websocket_frame_bytes(entry.frame);
    if (queue->count > 0)
        return;
    if (queue->entries != queue->few)
        bk_free(queue->entries);
    websocket_queue_init(queue);
}

struct websocket_entry websocket_queue_pop(struct websocket_queue *queue) {
    struct websocket_entry entry = *websocket_queue_at(queue, 0);
    queue->first = place(queue, 1);
    forget(queue, entry);
    return entry;
}

bool websocket_queue_has_room(const struct websocket_queue *queue, size_t bytes, size_t max_bytes) {
    size_t taken = queue->bytes + (size_t)queue->count * WEBSOCKET_ENTRY_COST_BYTES;
    return queue->count == 0 || taken + bytes + WEBSOCKET_ENTRY_COST_BYTES <= max_bytes;
}
