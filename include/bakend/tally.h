/*
 * Counts by key, each in a window of time of its own that begins with the first count: what limits
 * are made of. Of more keys than the maximum the one whose window began first is forgotten, so that
 * whoever invents keys fills no memory. One thread at a time; time is the caller's.
 */
#ifndef BAKEND_TALLY_H
#define BAKEND_TALLY_H

#include "bakend/list.h"
#include "bakend/map.h"

struct bk_tally_entry {
    struct bk_list link; /* by age: the window that began first comes first */
    uint64_t key;
    uint64_t begun_ms, ends_ms;
    /* The caller's to change. */
    uint32_t count, open_count; /* 0 when a window begins */
    uint32_t kept_count;        /* outlives the window */
};

struct bk_tally {
    struct bk_map by_key;
    struct bk_list by_age;
    uint32_t entry_max;
    uint64_t forgotten_count; /* of entries that had to go before their window was over */
};

/* entry_max: at least 1. No allocation before the first entry. */
void bk_tally_init(struct bk_tally *tally, uint32_t entry_max);
void bk_tally_fini(struct bk_tally *tally);

/* A key of several texts in their order, 64 bits under the secret of bk_map_hash: nobody finds two
 * lists of texts that share one. */
uint64_t bk_tally_key(const struct bk_slice *texts, size_t count);

/* The entry of the key while its window lasts; else NULL. Borrowed until bk_tally_take. */
struct bk_tally_entry *bk_tally_find(const struct bk_tally *tally, uint64_t key, uint64_t now_ms);
/* The same, made when there is none, and begun anew when its window is over. */
struct bk_tally_entry *bk_tally_take(struct bk_tally *tally, uint64_t key, uint64_t now_ms,
                                     uint64_t window_ms);

#endif
