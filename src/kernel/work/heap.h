/* A binary heap of nodes that are embedded in what is due: the earliest is first. */
#ifndef BAKEND_WORK_HEAP_H
#define BAKEND_WORK_HEAP_H

#include <stdbool.h>
#include <stdint.h>

struct work_heap_node {
    int64_t time_ms;
    uint32_t place; /* in nodes, from 1; 0: in no heap */
    uint32_t what;  /* the owner's: what it is embedded in */
};

struct work_heap {
    struct work_heap_node **nodes;
    uint32_t count, capacity;
};

void work_heap_fini(struct work_heap *heap);
/* NULL when it is empty. */
struct work_heap_node *work_heap_first(const struct work_heap *heap);
/* Puts it in, or moves it. */
void work_heap_put(struct work_heap *heap, struct work_heap_node *node, int64_t time_ms);
/* Harmless on a node that is in no heap. */
void work_heap_remove(struct work_heap *heap, struct work_heap_node *node);

#endif
