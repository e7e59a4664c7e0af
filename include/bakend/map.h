/*
 * A hash map from text to a pointer. Keys are borrowed (usually from the value). SipHash with a
 * random key per process, so that hostile keys cannot pile up in one bucket. One thread at a time.
 */
#ifndef BAKEND_MAP_H
#define BAKEND_MAP_H

#include "bakend/slice.h"

struct bk_map_entry {
    struct bk_slice key;
    void *value; /* NULL: the slot is free */
    uint64_t hash;
};

struct bk_map {
    struct bk_map_entry *entries;
    size_t count, capacity; /* capacity is 0 or a power of two */
};

void bk_map_init(struct bk_map *map);
/* Frees the table, not the values. */
void bk_map_fini(struct bk_map *map);
/* NULL when absent. */
void *bk_map_get(const struct bk_map *map, struct bk_slice key);
/* Returns the former value or NULL; the key is replaced by the new one too. value is not NULL. */
void *bk_map_put(struct bk_map *map, struct bk_slice key, void *value);
/* Returns the removed value or NULL. */
void *bk_map_remove(struct bk_map *map, struct bk_slice key);
/* Walks: start with *cursor = 0; NULL at the end. The map must not change in between, but the value
 * just returned may be removed after the walk only. */
struct bk_map_entry *bk_map_next(const struct bk_map *map, size_t *cursor);
/* The keyed hash of the map, for other tables. */
uint64_t bk_map_hash(struct bk_slice key);

#endif
