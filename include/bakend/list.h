/* An intrusive, circular, doubly linked list. A node not in a list points at itself. */
#ifndef BAKEND_LIST_H
#define BAKEND_LIST_H

#include "bakend/assert.h"
#include <stdbool.h>

struct bk_list {
    struct bk_list *next, *previous;
};

static inline void bk_list_init(struct bk_list *list) { list->next = list->previous = list; }
static inline bool bk_list_is_empty(const struct bk_list *list) { return list->next == list; }
static inline void bk_list_insert_before(struct bk_list *at, struct bk_list *node) {
    node->previous = at->previous;
    node->next = at;
    at->previous->next = node;
    at->previous = node;
}
static inline void bk_list_push(struct bk_list *list, struct bk_list *node) {
    bk_list_insert_before(list, node);
}
static inline void bk_list_push_front(struct bk_list *list, struct bk_list *node) {
    bk_list_insert_before(list->next, node);
}
/* Harmless on a node that is in no list. */
static inline void bk_list_remove(struct bk_list *node) {
    node->previous->next = node->next;
    node->next->previous = node->previous;
    bk_list_init(node);
}
/* NULL when empty. */
static inline struct bk_list *bk_list_pop(struct bk_list *list) {
    struct bk_list *node = list->next;
    if (node == list)
        return NULL;
    bk_list_remove(node);
    return node;
}
/* The current node may be removed inside. */
#define BK_LIST_FOR_EACH(node, list)                                                               \
    for (struct bk_list *node = (list)->next, *node##_next = node->next; node != (list);           \
         node = node##_next, node##_next = node->next)

#endif
