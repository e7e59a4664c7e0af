/*
 * A growing run of bytes with a maximum. Past the maximum (or out of memory) appends do nothing and
 * `is_overflown` sticks: check it once, when the whole is built.
 */
#ifndef BAKEND_BUFFER_H
#define BAKEND_BUFFER_H

#include "bakend/slice.h"
#include "bakend/status.h"

struct bk_buffer {
    char *data;
    size_t length, capacity, max_bytes;
    bool is_overflown;
    bool lacks_memory; /* it is overflown since there was no memory, not for its maximum */
};

void bk_buffer_init(struct bk_buffer *buffer, size_t max_bytes);
void bk_buffer_fini(struct bk_buffer *buffer);
/* Empties it and keeps the memory. */
void bk_buffer_clear(struct bk_buffer *buffer);
/* Room for more_bytes after length; false (and overflown) past the maximum. */
bool bk_buffer_reserve(struct bk_buffer *buffer, size_t more_bytes);
/* What the inline fast paths call when there is no room yet; the same effect. */
void bk_buffer_append_slow(struct bk_buffer *buffer, const void *data, size_t length);
void bk_buffer_append_int(struct bk_buffer *buffer, int64_t value);
void bk_buffer_format(struct bk_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* For a text that its maximum has room for in any case: it is whole, or memory is gone, and the
 * process ends as with bk_alloc. */
void bk_buffer_insist(const struct bk_buffer *buffer);

/* data may be NULL when length is 0. */
static inline void bk_buffer_append(struct bk_buffer *buffer, const void *data, size_t length) {
    if (length == 0)
        return;
    if (length > buffer->capacity - buffer->length) {
        bk_buffer_append_slow(buffer, data, length);
        return;
    }
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}
static inline void bk_buffer_append_slice(struct bk_buffer *buffer, struct bk_slice text) {
    bk_buffer_append(buffer, text.data, text.length);
}
#define bk_buffer_append_literal(buffer, literal)                                                  \
    bk_buffer_append((buffer), "" literal, sizeof(literal) - 1)
static inline void bk_buffer_append_char(struct bk_buffer *buffer, char c) {
    if (buffer->length < buffer->capacity)
        buffer->data[buffer->length++] = c;
    else
        bk_buffer_append_slow(buffer, &c, 1);
}
static inline struct bk_slice bk_buffer_slice(const struct bk_buffer *buffer) {
    return (struct bk_slice){buffer->data, buffer->length};
}
/* BK_OK, BK_NO_MEMORY, or BK_TOO_LARGE past the maximum. */
static inline enum bk_status bk_buffer_status(const struct bk_buffer *buffer) {
    if (!buffer->is_overflown)
        return BK_OK;
    return buffer->lacks_memory ? BK_NO_MEMORY : BK_TOO_LARGE;
}
/* The memory moves to the caller (bk_free) and the buffer is as after init. */
char *bk_buffer_take(struct bk_buffer *buffer, size_t *length);

#endif
