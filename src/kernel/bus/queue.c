/*
 * The queue of the bus: a ring that doubles until it holds BK_BUS_QUEUE_MAX events (1 MiB of
 * entries) and keeps what it has grown to. Who pushes makes sure that there is room: a publisher is
 * told BK_BUSY, and a commit has the oldest events dispatched first.
 */
#include "bus_private.h"

#include "bakend/alloc.h"

enum { FIRST_CAPACITY = 64 };

void bus_queue_fini(struct bus_queue *queue) {
    BK_ASSERT(queue->count == 0);
    bk_free(queue->entries);
    *queue = (struct bus_queue){0};
}

static void grow(struct bus_queue *queue) {
    uint32_t capacity = queue->capacity == 0 ? FIRST_CAPACITY : queue->capacity * 2;
    struct bus_entry *entries = bk_alloc(capacity * sizeof *entries);
    for (uint32_t i = 0; i < queue->count; i++)
        entries[i] = queue->entries[(queue->head + i) & (queue->capacity - 1)];
    bk_free(queue->entries);
    queue->entries = entries;
    queue->head = 0;
    queue->capacity = capacity;
}

void bus_queue_push(struct bus_queue *queue, struct bk_event *event, struct bk_tenant *tenant) {
    BK_ASSERT(queue->count < BK_BUS_QUEUE_MAX);
    if (queue->count == queue->capacity)
        grow(queue);
    uint32_t slot = (queue->head + queue->count) & (queue->capacity - 1);
    queue->entries[slot] = (struct bus_entry){event, tenant};
    queue->count++;
}

struct bus_entry bus_queue_pop(struct bus_queue *queue) {
    BK_ASSERT(queue->count > 0);
    struct bus_entry entry = queue->entries[queue->head];
    queue->head = (queue->head + 1) & (queue->capacity - 1);
    queue->count--;
    return entry;
}
