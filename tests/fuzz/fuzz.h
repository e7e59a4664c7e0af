/* What the fuzz targets share: where libFuzzer comes in, and how one input is cut into several. */
#ifndef BAKEND_TESTS_FUZZ_H
#define BAKEND_TESTS_FUZZ_H

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/slice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy exactly as large as the input, so that the sanitizer sees the first byte read past it.
 * fuzz_free it. */
static inline struct bk_slice fuzz_copy(const uint8_t *data, size_t size) {
    char *copy = bk_alloc(size > 0 ? size : 1);
    if (size > 0)
        memcpy(copy, data, size);
    return bk_slice_make(copy, size);
}

static inline void fuzz_free(struct bk_slice copy) { bk_free((void *)(uintptr_t)copy.data); }

/* The part before the next separator, off the front of *rest; all of it when there is none, then
 * nothing. */
static inline struct bk_slice fuzz_take(struct bk_slice *rest, char separator) {
    struct bk_slice part = BK_SLICE_EMPTY;
    (void)bk_slice_split(rest, separator, &part);
    return part;
}

#endif
