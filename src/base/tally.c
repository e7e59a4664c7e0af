/*
 * Entries in a map by their key and in a list by when their windows began. An entry whose window is
 * over stays until its place is needed, or it is begun anew.
 */
#include "bakend/tally.h"

#include "bakend/alloc.h"

void bk_tally_init(struct bk_tally *tally, uint32_t entry_max) {
    BK_ASSERT(entry_max > 0);
    *tally = (struct bk_tally){.entry_max = entry_max};
    bk_map_init(&tally->by_key);
    bk_list_init(&tally->by_age);
}

void bk_tally_fini(struct bk_tally *tally) {
    struct bk_list *link;
    while ((link = bk_list_pop(&tally->by_age)) != NULL)
        bk_free(bk_container_of(link, struct bk_tally_entry, link));
    bk_map_fini(&tally->by_key);
}

/* Hashes of hashes: ("a", "bc") and ("ab", "c") are two keys. */
uint64_t bk_tally_key(const struct bk_slice *texts, size_t count) {
    uint64_t words[2] = {0, 0};
    for (size_t i = 0; i < count; i++) {
        words[1] = bk_map_hash(texts[i]);
        words[0] = bk_map_hash(bk_slice_make((const char *)words, sizeof words));
    }
    return words[0];
}

static struct bk_slice slice_of(const uint64_t *key) {
    return bk_slice_make((const char *)key, sizeof *key);
}

struct bk_tally_entry *bk_tally_find(const struct bk_tally *tally, uint64_t key, uint64_t now_ms) {
    struct bk_tally_entry *entry = bk_map_get(&tally->by_key, slice_of(&key));
    return entry == NULL || entry->ends_ms <= now_ms ? NULL : entry;
}

/* The memory of the oldest when all places are taken. */
static struct bk_tally_entry *make(struct bk_tally *tally, uint64_t now_ms) {
    if (tally->by_key.count < tally->entry_max) {
        struct bk_tally_entry *fresh = bk_alloc_zero(sizeof *fresh);
        bk_list_init(&fresh->link);
        return fresh;
    }
    struct bk_list *link = bk_list_pop(&tally->by_age);
    BK_ASSERT(link != NULL);
    struct bk_tally_entry *oldest = bk_container_of(link, struct bk_tally_entry, link);
    tally->forgotten_count += oldest->ends_ms > now_ms;
    bk_map_remove(&tally->by_key, slice_of(&oldest->key));
    oldest->kept_count = 0;
    return oldest;
}

struct bk_tally_entry *bk_tally_take(struct bk_tally *tally, uint64_t key, uint64_t now_ms,
                                     uint64_t window_ms) {
    struct bk_tally_entry *entry = bk_map_get(&tally->by_key, slice_of(&key));
    if (entry != NULL && entry->ends_ms > now_ms)
        return entry;
    if (entry == NULL) {
        entry = make(tally, now_ms);
        entry->key = key;
        bk_map_put(&tally->by_key, slice_of(&entry->key), entry);
    }
    entry->begun_ms = now_ms;
    entry->ends_ms = now_ms + window_ms;
    entry->count = entry->open_count = 0;
    bk_list_remove(&entry->link);
    bk_list_push(&tally->by_age, &entry->link);
    return entry;
}
