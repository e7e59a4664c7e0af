/*
 * The only door to the heap. Small internal allocations never fail: when memory is gone the process
 * ends with a message, since everything acknowledged is on disk. What input sizes goes through
 * bk_try_alloc (or a bounded buffer) and fails with BK_NO_MEMORY instead.
 */
#ifndef BAKEND_ALLOC_H
#define BAKEND_ALLOC_H

#include <stddef.h>

/* For an array on the stack that is filled before it is read: it is left as it is, where a release
 * sets all others to zero. */
#define BK_UNINITIALIZED __attribute__((uninitialized))

/* Never NULL; zeroed by bk_alloc_zero only. Free with bk_free. Any thread. */
void *bk_alloc(size_t size_bytes) __attribute__((malloc, returns_nonnull));
void *bk_alloc_zero(size_t size_bytes) __attribute__((malloc, returns_nonnull));
void *bk_realloc(void *memory, size_t size_bytes) __attribute__((returns_nonnull));

/* NULL when there is no memory. */
void *bk_try_alloc(size_t size_bytes);
void *bk_try_realloc(void *memory, size_t size_bytes);

/* Ends the process as bk_alloc does, for libraries whose small allocations must not fail. */
_Noreturn void bk_alloc_give_up(size_t size_bytes);

/* memory may be NULL. */
void bk_free(void *memory);

#endif
