/*
 * A buffer doubles from 256 bytes up to its maximum. On overflow its capacity is set to its length:
 * that closes the inline fast paths of the header, so that every later append comes here and is
 * refused. The memory itself is kept, and realloc knows its true size.
 */
#include "bakend/buffer.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include <stdarg.h>
#include <stdio.h>

enum { FIRST_CAPACITY_BYTES = 256, INT64_TEXT_BYTES = 20 };

void bk_buffer_init(struct bk_buffer *buffer, size_t max_bytes) {
    *buffer = (struct bk_buffer){.max_bytes = max_bytes};
}

void bk_buffer_fini(struct bk_buffer *buffer) {
    bk_free(buffer->data);
    bk_buffer_init(buffer, buffer->max_bytes);
}

void bk_buffer_clear(struct bk_buffer *buffer) {
    buffer->length = 0;
    buffer->is_overflown = buffer->lacks_memory = false;
}

static bool overflow(struct bk_buffer *buffer) {
    buffer->is_overflown = true;
    buffer->capacity = buffer->length;
    return false;
}

bool bk_buffer_reserve(struct bk_buffer *buffer, size_t more_bytes) {
    BK_ASSERT(buffer->length <= buffer->capacity);
    if (buffer->is_overflown)
        return false;
    if (more_bytes <= buffer->capacity - buffer->length)
        return true;
    if (buffer->length > buffer->max_bytes || more_bytes > buffer->max_bytes - buffer->length)
        return overflow(buffer);
    size_t needed = buffer->length + more_bytes;
    size_t capacity = buffer->capacity < FIRST_CAPACITY_BYTES    ? FIRST_CAPACITY_BYTES
                      : buffer->capacity > buffer->max_bytes / 2 ? buffer->max_bytes
                                                                 : buffer->capacity * 2;
    if (capacity > buffer->max_bytes)
        capacity = buffer->max_bytes;
    if (capacity < needed)
        capacity = needed;
    char *data = bk_try_realloc(buffer->data, capacity);
    if (data == NULL) {
        buffer->lacks_memory = true;
        return overflow(buffer);
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void bk_buffer_append_slow(struct bk_buffer *buffer, const void *data, size_t length) {
    if (length == 0 || !bk_buffer_reserve(buffer, length))
        return;
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

void bk_buffer_append_int(struct bk_buffer *buffer, int64_t value) {
    char text[INT64_TEXT_BYTES];
    size_t start = sizeof text;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        text[--start] = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);
    if (value < 0)
        text[--start] = '-';
    bk_buffer_append(buffer, text + start, sizeof text - start);
}

void bk_buffer_format(struct bk_buffer *buffer, const char *format, ...) {
    if (buffer->is_overflown)
        return;
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    size_t room = buffer->capacity - buffer->length;
    char *end = room == 0 ? NULL : buffer->data + buffer->length;
    int written = vsnprintf(end, room, format, arguments);
    va_end(arguments);
    BK_ASSERT(written >= 0);
    size_t length = (size_t)written;
    if (length < room) {
        buffer->length += length;
    } else if (length < SIZE_MAX && bk_buffer_reserve(buffer, length)) {
        /* The C library wants a byte for the NUL too, for which the maximum may leave no room. */
        char *text = bk_try_alloc(length + 1);
        if (text == NULL) {
            buffer->lacks_memory = true;
            overflow(buffer);
        } else {
            vsnprintf(text, length + 1, format, again);
            bk_buffer_append(buffer, text, length);
            bk_free(text);
        }
    }
    va_end(again);
}

void bk_buffer_insist(const struct bk_buffer *buffer) {
    if (buffer->lacks_memory)
        bk_alloc_give_up(buffer->length);
    BK_ASSERT(!buffer->is_overflown);
}

char *bk_buffer_take(struct bk_buffer *buffer, size_t *length) {
    char *data = buffer->data;
    *length = buffer->length;
    bk_buffer_init(buffer, buffer->max_bytes);
    return data;
}
