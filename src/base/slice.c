/* Questions about borrowed text. Nothing here allocates. */
#include "bakend/slice.h"

#include "utf8.h"

static char to_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

bool bk_slice_equal_ignore_case(struct bk_slice a, struct bk_slice b) {
    if (a.length != b.length)
        return false;
    for (size_t i = 0; i < a.length; i++) {
        if (to_lower(a.data[i]) != to_lower(b.data[i]))
            return false;
    }
    return true;
}

bool bk_slice_starts_with(struct bk_slice text, struct bk_slice prefix) {
    return text.length >= prefix.length &&
           bk_slice_equal(bk_slice_make(text.data, prefix.length), prefix);
}

bool bk_slice_ends_with(struct bk_slice text, struct bk_slice suffix) {
    if (suffix.length == 0)
        return true;
    if (text.length < suffix.length)
        return false;
    const char *tail = text.data + (text.length - suffix.length);
    return bk_slice_equal(bk_slice_make(tail, suffix.length), suffix);
}

int bk_slice_compare(struct bk_slice a, struct bk_slice b) {
    size_t shared = a.length < b.length ? a.length : b.length;
    int order = shared == 0 ? 0 : memcmp(a.data, b.data, shared);
    if (order != 0)
        return order;
    return (a.length > b.length) - (a.length < b.length);
}

size_t bk_slice_find(struct bk_slice text, char c) {
    if (text.length == 0)
        return 0;
    const char *found = memchr(text.data, c, text.length);
    return found == NULL ? text.length : (size_t)(found - text.data);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct bk_slice bk_slice_trim(struct bk_slice text) {
    while (text.length > 0 && is_space(text.data[0])) {
        text.data++;
        text.length--;
    }
    while (text.length > 0 && is_space(text.data[text.length - 1]))
        text.length--;
    return text;
}

bool bk_slice_split(struct bk_slice *rest, char separator, struct bk_slice *part) {
    if (rest->data == NULL)
        return false;
    size_t length = bk_slice_find(*rest, separator);
    *part = bk_slice_make(rest->data, length);
    if (length == rest->length)
        *rest = BK_SLICE_EMPTY;
    else
        *rest = bk_slice_make(rest->data + length + 1, rest->length - length - 1);
    return true;
}

bool bk_slice_to_int64(struct bk_slice text, int64_t *value) {
    bool is_negative = text.length > 0 && text.data[0] == '-';
    size_t i = is_negative ? 1 : 0;
    if (i == text.length)
        return false;
    /* Gathered as a negative number: there is one more of them than of positive ones. */
    int64_t gathered = 0;
    for (; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        if (__builtin_mul_overflow(gathered, 10, &gathered) ||
            __builtin_sub_overflow(gathered, text.data[i] - '0', &gathered))
            return false;
    }
    if (!is_negative && gathered == INT64_MIN)
        return false;
    *value = is_negative ? gathered : -gathered;
    return true;
}

bool bk_slice_is_utf8(struct bk_slice text) {
    size_t i = 0;
    while (i < text.length) {
        /* Most text is ASCII: eight bytes at a time while no high bit is set. */
        uint64_t word;
        if (text.length - i >= sizeof word) {
            memcpy(&word, text.data + i, sizeof word);
            if ((word & 0x8080808080808080U) == 0) {
                i += sizeof word;
                continue;
            }
        }
        size_t length = utf8_sequence_length(text.data + i, text.length - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}
