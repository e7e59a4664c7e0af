/* The gate of chunked bodies (see chunks.h): one state for each thing that may come next. */
#include "chunks.h"

#include "bakend/assert.h"
#include "bakend/slice.h"
#include "gate.h"

enum { SIZE_DIGITS_MAX = 16 };

enum chunks_state {
    CHUNKS_SIZE,
    CHUNKS_EXTENSION,
    CHUNKS_SIZE_LF,
    CHUNKS_DATA,
    CHUNKS_DATA_CR,
    CHUNKS_DATA_LF,
    CHUNKS_TRAILER, /* a line begins: a trailer's, or the last one */
    CHUNKS_TRAILER_NAME,
    CHUNKS_TRAILER_VALUE,
    CHUNKS_TRAILER_LF,
    CHUNKS_END_LF,
    CHUNKS_END,
    CHUNKS_BROKEN
};

static int digit_of(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum chunks_state read_size(struct http_chunks *chunks, char c) {
    int digit = digit_of(c);
    if (digit >= 0 && chunks->digit_count < SIZE_DIGITS_MAX) {
        chunks->digit_count++;
        chunks->left = chunks->left << 4 | (uint64_t)digit;
        return CHUNKS_SIZE;
    }
    if (chunks->digit_count == 0 || (c != '\r' && c != ';'))
        return CHUNKS_BROKEN;
    return c == ';' ? CHUNKS_EXTENSION : CHUNKS_SIZE_LF;
}

static enum chunks_state end_size(struct http_chunks *chunks) {
    chunks->digit_count = 0;
    return chunks->left == 0 ? CHUNKS_TRAILER : CHUNKS_DATA;
}

static enum chunks_state read_name(struct http_chunks *chunks, char c) {
    struct bk_slice name = bk_slice_make(chunks->name, chunks->name_length);
    if (http_gate_is_token_byte(c)) {
        if (chunks->name_length < HTTP_CHUNKS_NAME_BYTES)
            chunks->name[chunks->name_length++] = c;
        return CHUNKS_TRAILER_NAME;
    }
    if (c != ':' || name.length == 0 ||
        bk_slice_equal_ignore_case(name, BK_SLICE("content-length")) ||
        bk_slice_equal_ignore_case(name, BK_SLICE("transfer-encoding")))
        return CHUNKS_BROKEN;
    return CHUNKS_TRAILER_VALUE;
}

/* Of the rest of a line, up to its CR. */
static enum chunks_state read_text(char c, enum chunks_state text, enum chunks_state end) {
    if (c == '\r')
        return end;
    return http_gate_is_value_byte(c) ? text : CHUNKS_BROKEN;
}

static enum chunks_state want(char c, char wanted, enum chunks_state next) {
    return c == wanted ? next : CHUNKS_BROKEN;
}

static enum chunks_state read_byte(struct http_chunks *chunks, char c) {
    switch ((enum chunks_state)chunks->state) {
    case CHUNKS_SIZE:
        return read_size(chunks, c);
    case CHUNKS_EXTENSION:
        return read_text(c, CHUNKS_EXTENSION, CHUNKS_SIZE_LF);
    case CHUNKS_SIZE_LF:
        return c == '\n' ? end_size(chunks) : CHUNKS_BROKEN;
    case CHUNKS_DATA_CR:
        return want(c, '\r', CHUNKS_DATA_LF);
    case CHUNKS_DATA_LF:
        return want(c, '\n', CHUNKS_SIZE);
    case CHUNKS_TRAILER:
        chunks->name_length = 0;
        return c == '\r' ? CHUNKS_END_LF : read_name(chunks, c);
    case CHUNKS_TRAILER_NAME:
        return read_name(chunks, c);
    case CHUNKS_TRAILER_VALUE:
        return read_text(c, CHUNKS_TRAILER_VALUE, CHUNKS_TRAILER_LF);
    case CHUNKS_TRAILER_LF:
        return want(c, '\n', CHUNKS_TRAILER);
    case CHUNKS_END_LF:
        return want(c, '\n', CHUNKS_END);
    case CHUNKS_DATA:
    case CHUNKS_END:
    case CHUNKS_BROKEN:
        break;
    }
    BK_UNREACHABLE();
}

static size_t skip_data(struct http_chunks *chunks, size_t length) {
    size_t skipped = chunks->left < length ? (size_t)chunks->left : length;
    chunks->left -= skipped;
    if (chunks->left == 0)
        chunks->state = CHUNKS_DATA_CR;
    return skipped;
}

enum http_chunks_result http_chunks_read(struct http_chunks *chunks, const char *data,
                                         size_t length, size_t *used) {
    size_t at = 0;
    BK_ASSERT(chunks->state < CHUNKS_END);
    while (at < length && chunks->state < CHUNKS_END) {
        if (chunks->state == CHUNKS_DATA)
            at += skip_data(chunks, length - at);
        else
            chunks->state = (uint8_t)read_byte(chunks, data[at++]);
    }
    *used = at;
    if (chunks->state == CHUNKS_BROKEN)
        return HTTP_CHUNKS_BROKEN;
    return chunks->state == CHUNKS_END ? HTTP_CHUNKS_END : HTTP_CHUNKS_MORE;
}
