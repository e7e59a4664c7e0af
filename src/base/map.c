/*
 * Open addressing with linear probing in a power-of-two table, at most three quarters full. Removal
 * moves the followers of the gap back, so there are no tombstones and a map that is filled and
 * emptied for ever does not slow down. The hash is kept in the entry: probes compare it first, and
 * growing does not read the keys again.
 *
 * SipHash-1-3 (Aumasson and Bernstein) under a key of 128 random bits per process.
 */
#include "bakend/map.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/id.h"
#include <pthread.h>

enum { FIRST_CAPACITY = 8 };

struct siphash {
    uint64_t v0, v1, v2, v3;
};

static uint64_t hash_key[2];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void make_hash_key(void) { bk_random_bytes(hash_key, sizeof hash_key); }

static inline uint64_t rotate_left(uint64_t word, unsigned bits) {
    return word << bits | word >> (64 - bits);
}

static inline void siphash_round(struct siphash *state) {
    state->v0 += state->v1;
    state->v1 = rotate_left(state->v1, 13) ^ state->v0;
    state->v0 = rotate_left(state->v0, 32);
    state->v2 += state->v3;
    state->v3 = rotate_left(state->v3, 16) ^ state->v2;
    state->v0 += state->v3;
    state->v3 = rotate_left(state->v3, 21) ^ state->v0;
    state->v2 += state->v1;
    state->v1 = rotate_left(state->v1, 17) ^ state->v2;
    state->v2 = rotate_left(state->v2, 32);
}

static inline void siphash_word(struct siphash *state, uint64_t word) {
    state->v3 ^= word;
    siphash_round(state);
    state->v0 ^= word;
}

uint64_t bk_map_hash(struct bk_slice key) {
    pthread_once(&hash_key_once, make_hash_key);
    struct siphash state = {hash_key[0] ^ 0x736f6d6570736575U, hash_key[1] ^ 0x646f72616e646f6dU,
                            hash_key[0] ^ 0x6c7967656e657261U, hash_key[1] ^ 0x7465646279746573U};
    size_t i = 0;
    for (; key.length - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, key.data + i, sizeof word);
        siphash_word(&state, word);
    }
    uint64_t last = 0;
    if (i < key.length)
        memcpy(&last, key.data + i, key.length - i);
    siphash_word(&state, last | (uint64_t)key.length << 56);
    state.v2 ^= 0xff;
    siphash_round(&state);
    siphash_round(&state);
    siphash_round(&state);
    return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

void bk_map_init(struct bk_map *map) { *map = (struct bk_map){0}; }

void bk_map_fini(struct bk_map *map) {
    bk_free(map->entries);
    bk_map_init(map);
}

/* The slot of the key or the free slot where it belongs. There is always a free one. */
static struct bk_map_entry *find_slot(const struct bk_map *map, struct bk_slice key,
                                      uint64_t hash) {
    BK_ASSERT(map->count < map->capacity);
    size_t mask = map->capacity - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        struct bk_map_entry *entry = &map->entries[i];
        if (entry->value == NULL || (entry->hash == hash && bk_slice_equal(entry->key, key)))
            return entry;
    }
}

void *bk_map_get(const struct bk_map *map, struct bk_slice key) {
    return map->count == 0 ? NULL : find_slot(map, key, bk_map_hash(key))->value;
}

static void grow(struct bk_map *map) {
    struct bk_map larger = {.count = map->count,
                            .capacity = map->capacity == 0 ? FIRST_CAPACITY : map->capacity * 2};
    BK_ASSERT(larger.capacity <= SIZE_MAX / sizeof(struct bk_map_entry));
    larger.entries = bk_alloc_zero(larger.capacity * sizeof(struct bk_map_entry));
    size_t mask = larger.capacity - 1;
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->entries[i].value == NULL)
            continue;
        size_t slot = (size_t)map->entries[i].hash & mask;
        while (larger.entries[slot].value != NULL)
            slot = (slot + 1) & mask;
        larger.entries[slot] = map->entries[i];
    }
    bk_free(map->entries);
    *map = larger;
}

void *bk_map_put(struct bk_map *map, struct bk_slice key, void *value) {
    BK_ASSERT(value != NULL);
    if (map->count >= map->capacity / 4 * 3)
        grow(map);
    uint64_t hash = bk_map_hash(key);
    struct bk_map_entry *entry = find_slot(map, key, hash);
    void *former = entry->value;
    if (former == NULL)
        map->count++;
    *entry = (struct bk_map_entry){.key = key, .value = value, .hash = hash};
    return former;
}

/* Whatever follows the gap without a free slot in between was put there by probing, perhaps past
 * the gap: it moves into the gap unless it stands between its own home and itself already. */
static void close_gap(struct bk_map *map, size_t gap) {
    size_t mask = map->capacity - 1;
    for (size_t i = (gap + 1) & mask; map->entries[i].value != NULL; i = (i + 1) & mask) {
        size_t home = (size_t)map->entries[i].hash & mask;
        if (((i - home) & mask) < ((i - gap) & mask))
            continue;
        map->entries[gap] = map->entries[i];
        gap = i;
    }
    map->entries[gap] = (struct bk_map_entry){0};
}

void *bk_map_remove(struct bk_map *map, struct bk_slice key) {
    if (map->count == 0)
        return NULL;
    struct bk_map_entry *entry = find_slot(map, key, bk_map_hash(key));
    void *value = entry->value;
    if (value == NULL)
        return NULL;
    map->count--;
    close_gap(map, (size_t)(entry - map->entries));
    return value;
}

struct bk_map_entry *bk_map_next(const struct bk_map *map, size_t *cursor) {
    while (*cursor < map->capacity) {
        struct bk_map_entry *entry = &map->entries[(*cursor)++];
        if (entry->value != NULL)
            return entry;
    }
    return NULL;
}
