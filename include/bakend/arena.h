/*
 * Memory that lives as long as one piece of work (a request, a batch) and is freed at once.
 * It has a cap. Past it allocations come from a small emergency block that is reused over and over
 * (so callers may write into what they got) and `is_overflown` sticks: check it once, at the end.
 */
#ifndef BAKEND_ARENA_H
#define BAKEND_ARENA_H

#include "bakend/slice.h"
#include "bakend/status.h"

struct bk_arena_block;

struct bk_arena {
    struct bk_arena_block *block; /* newest first */
    char *cursor, *end;
    size_t used_bytes, max_bytes;
    size_t *total_bytes; /* see bk_arena_count_in */
    bool is_overflown;
    bool lacks_memory; /* it is overflown since there was no memory, not for its maximum */
};

/* No allocation happens before the first use. One thread at a time. */
void bk_arena_init(struct bk_arena *arena, size_t max_bytes);
/* Before the first use: the arena's blocks are counted in *total_bytes too, which many arenas of
 * many threads may share; read it with bk_arena_total. Reset and fini keep the pointer. */
void bk_arena_count_in(struct bk_arena *arena, size_t *total_bytes);
size_t bk_arena_total(const size_t *total_bytes);
/* Frees all but the first block (up to 16 KiB is kept for reuse); clears is_overflown. */
void bk_arena_reset(struct bk_arena *arena);
void bk_arena_fini(struct bk_arena *arena);
/* Aligned to 16; never NULL. After an overflow, or for a single request larger than what is left of
 * the cap, NULL is returned only when size_bytes exceeds 64 KiB; smaller ones get emergency
 * memory. */
void *bk_arena_alloc(struct bk_arena *arena, size_t size_bytes);
void *bk_arena_alloc_zero(struct bk_arena *arena, size_t size_bytes);
/* A copy, NUL-terminated one byte past its length; empty on overflow. */
struct bk_slice bk_arena_copy(struct bk_arena *arena, struct bk_slice text);
/* BK_OK, BK_NO_MEMORY, or BK_TOO_LARGE past the maximum. */
static inline enum bk_status bk_arena_status(const struct bk_arena *arena) {
    if (!arena->is_overflown)
        return BK_OK;
    return arena->lacks_memory ? BK_NO_MEMORY : BK_TOO_LARGE;
}
struct bk_slice bk_arena_format(struct bk_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
