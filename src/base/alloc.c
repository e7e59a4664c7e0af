/*
 * The heap of the C library behind two promises: bk_alloc and its kind never return NULL, and
 * bk_try_alloc and its kind never end the process. A size of 0 is served as 1, since whether
 * malloc(0) is NULL is up to the library.
 */
#include "bakend/alloc.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void bk_alloc_give_up(size_t size_bytes) {
    fprintf(stderr,
            "bakend: out of memory: %zu bytes were refused. Whatever was acknowledged is on disk; "
            "give the process more memory and start it again.\n",
            size_bytes);
    fflush(stderr);
    abort();
}

void *bk_try_alloc(size_t size_bytes) { return malloc(size_bytes == 0 ? 1 : size_bytes); }

void *bk_try_realloc(void *memory, size_t size_bytes) {
    return realloc(memory, size_bytes == 0 ? 1 : size_bytes);
}

void *bk_alloc(size_t size_bytes) {
    void *memory = bk_try_alloc(size_bytes);
    if (memory == NULL)
        bk_alloc_give_up(size_bytes);
    return memory;
}

void *bk_alloc_zero(size_t size_bytes) {
    void *memory = calloc(1, size_bytes == 0 ? 1 : size_bytes);
    if (memory == NULL)
        bk_alloc_give_up(size_bytes);
    return memory;
}

void *bk_realloc(void *memory, size_t size_bytes) {
    void *moved = bk_try_realloc(memory, size_bytes);
    if (moved == NULL)
        bk_alloc_give_up(size_bytes);
    return moved;
}

void bk_free(void *memory) { free(memory); }
