/*
 * A binary heap in an array, counted from 1: the children of i are 2i and 2i + 1, and each node
 * knows its place, so that one can be moved or taken out wherever it is. Times do not change while
 * a node is in it.
 */
#include "heap.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

enum { CAPACITY_AT_FIRST = 64 };

static void set(struct work_heap *heap, uint32_t place, struct work_heap_node *node) {
    heap->nodes[place] = node;
    node->place = place;
}

static void sift_up(struct work_heap *heap, struct work_heap_node *node) {
    uint32_t place = node->place;
    while (place > 1 && heap->nodes[place / 2]->time_ms > node->time_ms) {
        set(heap, place, heap->nodes[place / 2]);
        place /= 2;
    }
    set(heap, place, node);
}

static void sift_down(struct work_heap *heap, struct work_heap_node *node) {
    uint32_t place = node->place;
    while (2 * place <= heap->count) {
        uint32_t child = 2 * place;
        if (child < heap->count && heap->nodes[child + 1]->time_ms < heap->nodes[child]->time_ms)
            child++;
        if (heap->nodes[child]->time_ms >= node->time_ms)
            break;
        set(heap, place, heap->nodes[child]);
        place = child;
    }
    set(heap, place, node);
}

void work_heap_fini(struct work_heap *heap) {
    BK_ASSERT(heap->count == 0);
    bk_free(heap->nodes);
    *heap = (struct work_heap){.nodes = NULL};
}

struct work_heap_node *work_heap_first(const struct work_heap *heap) {
    return heap->count == 0 ? NULL : heap->nodes[1];
}

void work_heap_remove(struct work_heap *heap, struct work_heap_node *node) {
    if (node->place == 0)
        return;
    BK_ASSERT(node->place <= heap->count && heap->nodes[node->place] == node);
    struct work_heap_node *last = heap->nodes[heap->count--];
    if (last != node) {
        set(heap, node->place, last);
        sift_up(heap, last);
        sift_down(heap, last);
    }
    node->place = 0;
}

void work_heap_put(struct work_heap *heap, struct work_heap_node *node, int64_t time_ms) {
    if (node->place != 0 && node->time_ms == time_ms)
        return;
    work_heap_remove(heap, node);
    if (heap->count + 1 >= heap->capacity) {
        heap->capacity = heap->capacity == 0 ? CAPACITY_AT_FIRST : 2 * heap->capacity;
        heap->nodes = bk_realloc(heap->nodes, heap->capacity * sizeof(struct work_heap_node *));
    }
    node->time_ms = time_ms;
    set(heap, ++heap->count, node);
    sift_up(heap, node);
}
