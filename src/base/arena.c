/*
 * Blocks grow from 4 KiB by doubling to 1 MiB, where the system has a block back as soon as it is
 * freed: many of 64 KiB stay behind in the heap when anything lives above them. A request for more
 * than 64 KiB has a block of its own, which is put behind the current one so that the current one
 * goes on being filled.
 *
 * Only what was handed out counts against the cap (rounded up to 16 bytes). On overflow, whether
 * the cap or the machine's memory gave way, a block of 64 KiB becomes the head of the list and
 * every request from then on gets its beginning: the work in flight may go on writing, and its
 * result is thrown away by whoever checks is_overflown.
 */
#include "bakend/arena.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include <stdarg.h>
#include <stdio.h>

enum {
    ALIGNMENT = 16,
    FIRST_BLOCK_BYTES = 4 * 1024,
    MAX_BLOCK_BYTES = 1024 * 1024,
    OWN_BLOCK_BYTES_MIN = 64 * 1024,
    KEPT_BLOCK_BYTES = 16 * 1024, /* an idle connection holds no more than this */
    EMERGENCY_BYTES = 64 * 1024
};

struct bk_arena_block {
    struct bk_arena_block *next; /* older */
    size_t size_bytes;           /* of data */
    _Alignas(ALIGNMENT) char data[];
};

void bk_arena_init(struct bk_arena *arena, size_t max_bytes) {
    *arena = (struct bk_arena){.max_bytes = max_bytes};
}

void bk_arena_count_in(struct bk_arena *arena, size_t *total_bytes) {
    BK_ASSERT(arena->block == NULL);
    arena->total_bytes = total_bytes;
}

size_t bk_arena_total(const size_t *total_bytes) {
    return __atomic_load_n(total_bytes, __ATOMIC_RELAXED);
}

static struct bk_arena_block *own(struct bk_arena *arena, struct bk_arena_block *block,
                                  size_t size_bytes) {
    block->size_bytes = size_bytes;
    if (arena->total_bytes != NULL)
        (void)__atomic_add_fetch(arena->total_bytes, size_bytes, __ATOMIC_RELAXED);
    return block;
}

static void disown(struct bk_arena *arena, struct bk_arena_block *block) {
    if (arena->total_bytes != NULL)
        (void)__atomic_sub_fetch(arena->total_bytes, block->size_bytes, __ATOMIC_RELAXED);
    bk_free(block);
}

/* Forgets what was handed out. */
static void start_over(struct bk_arena *arena) {
    *arena = (struct bk_arena){.max_bytes = arena->max_bytes, .total_bytes = arena->total_bytes};
}

/* The first block is the oldest one of ordinary size: those with one large request are larger. */
static struct bk_arena_block *find_first_block(const struct bk_arena *arena) {
    struct bk_arena_block *first = NULL;
    for (struct bk_arena_block *block = arena->block; block != NULL; block = block->next) {
        if (block->size_bytes <= KEPT_BLOCK_BYTES)
            first = block;
    }
    return first;
}

static void free_blocks_except(struct bk_arena *arena, const struct bk_arena_block *kept) {
    struct bk_arena_block *block = arena->block;
    while (block != NULL) {
        struct bk_arena_block *next = block->next;
        if (block != kept)
            disown(arena, block);
        block = next;
    }
}

static void make_current(struct bk_arena *arena, struct bk_arena_block *block) {
    arena->block = block;
    arena->cursor = block->data;
    arena->end = block->data + block->size_bytes;
}

void bk_arena_reset(struct bk_arena *arena) {
    struct bk_arena_block *first = find_first_block(arena);
    free_blocks_except(arena, first);
    start_over(arena);
    if (first != NULL) {
        first->next = NULL;
        make_current(arena, first);
    }
}

void bk_arena_fini(struct bk_arena *arena) {
    free_blocks_except(arena, NULL);
    start_over(arena);
}

static void *emergency_memory(struct bk_arena *arena, size_t size_bytes) {
    if (!arena->is_overflown) {
        struct bk_arena_block *block =
            own(arena, bk_alloc(sizeof *block + EMERGENCY_BYTES), EMERGENCY_BYTES);
        block->next = arena->block;
        arena->block = block;
        arena->cursor = arena->end = NULL;
        arena->is_overflown = true;
    }
    BK_ASSERT(arena->block->size_bytes == EMERGENCY_BYTES);
    return size_bytes > EMERGENCY_BYTES ? NULL : arena->block->data;
}

/* The size of the next block: just enough for a large request; else enough for size_bytes, twice
 * the current one, at most the maximum. */
static size_t next_block_bytes(const struct bk_arena *arena, size_t size_bytes) {
    size_t bytes = FIRST_BLOCK_BYTES;
    if (size_bytes > OWN_BLOCK_BYTES_MIN)
        return size_bytes;
    if (arena->block != NULL)
        bytes = arena->block->size_bytes * 2;
    while (bytes < size_bytes)
        bytes *= 2;
    return bytes > MAX_BLOCK_BYTES ? MAX_BLOCK_BYTES : bytes;
}

static void *alloc_from_new_block(struct bk_arena *arena, size_t size_bytes) {
    size_t block_bytes = next_block_bytes(arena, size_bytes);
    struct bk_arena_block *block = bk_try_alloc(sizeof *block + block_bytes);
    if (block == NULL) {
        arena->lacks_memory = true;
        return emergency_memory(arena, size_bytes);
    }
    (void)own(arena, block, block_bytes);
    arena->used_bytes += size_bytes;
    if (size_bytes > OWN_BLOCK_BYTES_MIN && arena->block != NULL) {
        block->next = arena->block->next;
        arena->block->next = block;
        return block->data;
    }
    block->next = arena->block;
    make_current(arena, block);
    arena->cursor += size_bytes;
    return block->data;
}

void *bk_arena_alloc(struct bk_arena *arena, size_t size_bytes) {
    BK_ASSERT(arena->cursor <= arena->end);
    if (arena->is_overflown || size_bytes > arena->max_bytes)
        return emergency_memory(arena, size_bytes);
    if (__builtin_expect(size_bytes > SIZE_MAX / 2, 0))
        return emergency_memory(arena, size_bytes);
    /* Nothing at all is 16 bytes too, so that no two requests share an address. */
    size_t rounded = size_bytes == 0 ? ALIGNMENT : (size_bytes + ALIGNMENT - 1) & ~(size_t)15;
    if (rounded > arena->max_bytes - arena->used_bytes)
        return emergency_memory(arena, size_bytes);
    if (rounded > (size_t)(arena->end - arena->cursor))
        return alloc_from_new_block(arena, rounded);
    char *memory = arena->cursor;
    arena->cursor += rounded;
    arena->used_bytes += rounded;
    return memory;
}

void *bk_arena_alloc_zero(struct bk_arena *arena, size_t size_bytes) {
    void *memory = bk_arena_alloc(arena, size_bytes);
    if (memory != NULL)
        memset(memory, 0, size_bytes);
    return memory;
}

struct bk_slice bk_arena_copy(struct bk_arena *arena, struct bk_slice text) {
    char *copy = text.length == SIZE_MAX ? NULL : bk_arena_alloc(arena, text.length + 1);
    if (copy == NULL || arena->is_overflown)
        return BK_SLICE("");
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    return bk_slice_make(copy, text.length);
}

struct bk_slice bk_arena_format(struct bk_arena *arena, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    int written = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    BK_ASSERT(written >= 0);
    size_t length = (size_t)written;
    char *text = bk_arena_alloc(arena, length + 1);
    struct bk_slice formatted = BK_SLICE("");
    if (text != NULL && !arena->is_overflown) {
        vsnprintf(text, length + 1, format, again);
        formatted = bk_slice_make(text, length);
    }
    va_end(again);
    return formatted;
}
