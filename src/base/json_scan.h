/* The inner loop that the JSON gate and the JSON writer share: over what stands in a string as it is.
 * Private to the base tier. */
#ifndef BAKEND_BASE_JSON_SCAN_H
#define BAKEND_BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* ASCII that needs no escape: not a control, not '"', not '\'. */
static inline bool json_is_plain(char c) {
    unsigned char byte = (unsigned char)c;
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* The first byte from cursor on that is not plain, or end. Eight bytes at a time: the tests below set
 * the high bit of (at least) the lowest byte that is below 0x20, equal to '"' or '\', or not ASCII. */
static inline const char *json_skip_plain(const char *cursor, const char *end) {
    const uint64_t ones = 0x0101010101010101U;
    while ((size_t)(end - cursor) >= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, cursor, sizeof word);
        uint64_t quote = word ^ ones * '"';
        uint64_t backslash = word ^ ones * '\\';
        uint64_t found = (word - ones * 0x20) | (quote - ones) | (backslash - ones) | word;
        if ((found & ones * 0x80) != 0)
            break;
        cursor += sizeof word;
    }
    while (cursor < end && json_is_plain(*cursor))
        cursor++;
    return cursor;
}

#endif
