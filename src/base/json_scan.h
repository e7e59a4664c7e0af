/* The inner loop that the JSON gate and the JSON writer share: over what stands in a string as it
 * is. Private to the base tier. */
#ifndef BAKEND_BASE_JSON_SCAN_H
#define BAKEND_BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* ASCII that needs no escape: not a control, not '"', not '\'. */
static inline bool json_is_plain(char c) {
    unsigned char byte = (unsigned char)c;
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

#ifdef __SSE2__

enum { JSON_STEP_BYTES = 16 };

/* How many of the 16 bytes at cursor are plain before the first that is not. As signed numbers the
 * bytes past ASCII are below 0x20 too. */
static inline unsigned json_count_plain(const char *cursor) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)cursor);
    __m128i low = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
    __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i found = _mm_or_si128(low, _mm_or_si128(quote, backslash));
    /* The bit past the last byte makes 16 of "none". */
    return (unsigned)__builtin_ctz((unsigned)_mm_movemask_epi8(found) | 1U << JSON_STEP_BYTES);
}

#else

enum { JSON_STEP_BYTES = 8 };

/* The same for 8 bytes without vectors, but any count below 8 when one is not plain: the terms set
 * the high bit of bytes below 0x20, equal to '"' or '\', or past ASCII, and a borrow reaches only
 * bytes above such a one. */
static inline unsigned json_count_plain(const char *cursor) {
    const uint64_t ones = 0x0101010101010101U;
    uint64_t word;
    memcpy(&word, cursor, sizeof word);
    uint64_t quote = (word ^ ones * '"') - ones;
    uint64_t backslash = (word ^ ones * '\\') - ones;
    uint64_t found = (word - ones * 0x20) | quote | backslash | word;
    return (found & ones * 0x80) == 0 ? JSON_STEP_BYTES : 0;
}

#endif

/* Whether what is left, less than a step, is plain, without a look at each byte: most texts are
 * short. Pieces may overlap each other and what was looked at. False also for the few bytes that
 * fill no piece. */
static inline bool json_is_rest_plain(const char *start, const char *cursor, const char *end) {
    enum { HALF = JSON_STEP_BYTES / 2, QUARTER = JSON_STEP_BYTES / 4 };
    char pieces[JSON_STEP_BYTES];
    if (end - start >= JSON_STEP_BYTES)
        return json_count_plain(end - JSON_STEP_BYTES) == JSON_STEP_BYTES;
    memset(pieces, ' ', sizeof pieces);
    if (end - cursor >= HALF) {
        memcpy(pieces, cursor, HALF);
        memcpy(pieces + HALF, end - HALF, HALF);
    } else if (end - cursor >= QUARTER) {
        memcpy(pieces, cursor, QUARTER);
        memcpy(pieces + HALF, end - QUARTER, QUARTER);
    } else {
        return false;
    }
    return json_count_plain(pieces) == JSON_STEP_BYTES;
}

/* The first byte from cursor on that is not plain, or end. */
static inline const char *json_skip_plain(const char *cursor, const char *end) {
    const char *start = cursor;
    while (end - cursor >= JSON_STEP_BYTES) {
        unsigned count = json_count_plain(cursor);
        cursor += count;
        if (count < JSON_STEP_BYTES)
            break;
    }
    if (end - cursor < JSON_STEP_BYTES && json_is_rest_plain(start, cursor, end))
        return end;
    while (cursor < end && json_is_plain(*cursor))
        cursor++;
    return cursor;
}

#endif
