/*
 * The tail of a tenant: a ring of references to its newest events, bounded by bytes and by count.
 * Sequences in it are contiguous, so an event is found by subtraction. Events that do not continue
 * it (the tenant was just opened, or its history was replaced) begin it anew.
 */
#include "feed_private.h"

#include "bakend/alloc.h"

enum { FIRST_CAPACITY = 64, EVENTS_MAX = 65536 /* 512 KiB of pointers */ };

void feed_tail_init(struct feed_tail *tail, size_t max_bytes) {
    *tail = (struct feed_tail){.max_bytes = max_bytes};
}

/* What an event takes in memory, about: its fields point into its bytes. */
static size_t event_bytes(const struct bk_event *event) {
    return sizeof *event + event->json.length + event->fields.hidden.length +
           event->fields.hidden_previous.length;
}

static void drop_oldest(struct feed_tail *tail) {
    BK_ASSERT(tail->count > 0);
    struct bk_event *event = tail->events[tail->head];
    tail->head = (tail->head + 1) & (tail->capacity - 1);
    tail->count--;
    tail->first_sequence++;
    tail->bytes -= event_bytes(event);
    bk_event_unref(event);
}

static void drop_all(struct feed_tail *tail) {
    while (tail->count > 0)
        drop_oldest(tail);
    BK_ASSERT(tail->bytes == 0);
}

void feed_tail_fini(struct feed_tail *tail) {
    drop_all(tail);
    bk_free(tail->events);
    feed_tail_init(tail, tail->max_bytes);
}

static void grow(struct feed_tail *tail) {
    uint32_t capacity = tail->capacity == 0 ? FIRST_CAPACITY : tail->capacity * 2;
    struct bk_event **events = bk_alloc(capacity * sizeof(struct bk_event *));
    for (uint32_t i = 0; i < tail->count; i++)
        events[i] = tail->events[(tail->head + i) & (tail->capacity - 1)];
    bk_free(tail->events);
    tail->events = events;
    tail->head = 0;
    tail->capacity = capacity;
}

static void append_one(struct feed_tail *tail, struct bk_event *event) {
    uint64_t sequence = event->fields.sequence;
    BK_ASSERT(sequence > 0);
    if (sequence != tail->first_sequence + tail->count)
        drop_all(tail);
    if (tail->count == 0)
        tail->first_sequence = sequence;
    if (tail->count == EVENTS_MAX)
        drop_oldest(tail);
    if (tail->count == tail->capacity)
        grow(tail);
    tail->events[(tail->head + tail->count) & (tail->capacity - 1)] = bk_event_ref(event);
    tail->count++;
    tail->bytes += event_bytes(event);
}

void feed_tail_append(struct feed_tail *tail, struct bk_event *const *events, size_t event_count) {
    for (size_t i = 0; i < event_count; i++) {
        append_one(tail, events[i]);
        while (tail->bytes > tail->max_bytes)
            drop_oldest(tail);
    }
}

struct bk_event *feed_tail_get(const struct feed_tail *tail, uint64_t sequence) {
    if (sequence < tail->first_sequence || sequence - tail->first_sequence >= tail->count)
        return NULL;
    uint32_t index = (uint32_t)(sequence - tail->first_sequence);
    return tail->events[(tail->head + index) & (tail->capacity - 1)];
}
