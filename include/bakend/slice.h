/* Borrowed text: a pointer and a length, not NUL-terminated. Whoever made it says how long it
 * lives. */
#ifndef BAKEND_SLICE_H
#define BAKEND_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bk_slice {
    const char *data; /* may be NULL when length is 0 */
    size_t length;    /* bytes */
};

/* From a string literal. */
#define BK_SLICE(literal) ((struct bk_slice){"" literal, sizeof(literal) - 1})
#define BK_SLICE_INIT(literal)                                                                     \
    { "" literal, sizeof(literal) - 1 }
#define BK_SLICE_EMPTY ((struct bk_slice){NULL, 0})
/* For printf: "%.*s", BK_SLICE_PRINT(slice). */
#define BK_SLICE_PRINT(slice) (int)(slice).length, (slice).length == 0 ? "" : (slice).data

static inline struct bk_slice bk_slice_make(const char *data, size_t length) {
    return (struct bk_slice){data, length};
}

/* text may be NULL: empty. */
static inline struct bk_slice bk_slice_from(const char *text) {
    return (struct bk_slice){text, text == NULL ? 0 : strlen(text)};
}

static inline bool bk_slice_equal(struct bk_slice a, struct bk_slice b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

#define bk_slice_is(slice, literal) bk_slice_equal((slice), BK_SLICE(literal))

/* ASCII letters only. */
bool bk_slice_equal_ignore_case(struct bk_slice a, struct bk_slice b);
bool bk_slice_starts_with(struct bk_slice text, struct bk_slice prefix);
bool bk_slice_ends_with(struct bk_slice text, struct bk_slice suffix);
/* Byte order, as memcmp, shorter first. */
int bk_slice_compare(struct bk_slice a, struct bk_slice b);
/* The index of the first byte equal to c, or text.length. */
size_t bk_slice_find(struct bk_slice text, char c);
/* Without white space (space, \t, \r, \n) at both ends; borrows. */
struct bk_slice bk_slice_trim(struct bk_slice text);
/* Takes the part before the next separator off the front of *rest; false when *rest was exhausted
 * (rest->data NULL). "a,,b" gives "a", "", "b". */
bool bk_slice_split(struct bk_slice *rest, char separator, struct bk_slice *part);
/* Decimal, optional '-', nothing else, in range; false otherwise and *value untouched. */
bool bk_slice_to_int64(struct bk_slice text, int64_t *value);
/* Valid UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool bk_slice_is_utf8(struct bk_slice text);

#endif
