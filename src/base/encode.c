/* Text forms of bytes. Decoders are strict: each value has one text only, so that a token or a
 * cursor cannot be rewritten into another one that means the same. */
#include "bakend/encode.h"

#include "bakend/assert.h"

static const char BASE64_DIGITS[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char BASE64URL_DIGITS[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char HEX_DIGITS_LOWER[] = "0123456789abcdef";
static const char HEX_DIGITS_UPPER[] = "0123456789ABCDEF";

/* --- base64 ----------------------------------------------------------------------------------- */

/* Without padding. */
static inline size_t encode(char *out, const unsigned char *bytes, size_t length,
                            const char digits[65]) {
    char *cursor = out;
    size_t i = 0;
    for (; length - i >= 3; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        *cursor++ = digits[group >> 18];
        *cursor++ = digits[group >> 12 & 63];
        *cursor++ = digits[group >> 6 & 63];
        *cursor++ = digits[group & 63];
    }
    if (length - i == 1) {
        *cursor++ = digits[bytes[i] >> 2];
        *cursor++ = digits[(bytes[i] & 3) << 4];
    } else if (length - i == 2) {
        *cursor++ = digits[bytes[i] >> 2];
        *cursor++ = digits[(bytes[i] & 3) << 4 | bytes[i + 1] >> 4];
        *cursor++ = digits[(bytes[i + 1] & 15) << 2];
    }
    size_t written = (size_t)(cursor - out);
    BK_ASSERT(written == BK_BASE64URL_BYTES(length));
    return written;
}

size_t bk_base64url_encode(char *out, const void *data, size_t length) {
    return encode(out, data, length, BASE64URL_DIGITS);
}

size_t bk_base64_encode(char *out, const void *data, size_t length) {
    size_t written = encode(out, data, length, BASE64_DIGITS);
    while (written < BK_BASE64_BYTES(length))
        out[written++] = '=';
    return written;
}

/* Of the characters from '0' to DEL, but for the last two digits: their value, -1: none. */
static const int8_t DIGIT_VALUES[] = {
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -1, -1, -1, -1, -1, -1, /* 0 to 9 */
    -1, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, /* A */
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, -1, -1, -1, -1, -1, /* to Z */
    -1, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, /* a */
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, -1, -1, -1, -1, -1, /* to z */
};

/* 0..63, or -1 outside the alphabet, whose last two digits are given. */
static inline int digit_value(char c, const char last[2]) {
    size_t index = (size_t)(unsigned char)c - '0';
    int value = index < sizeof DIGIT_VALUES ? DIGIT_VALUES[index] : -1;
    if (value >= 0)
        return value;
    return c == last[0] ? 62 : c == last[1] ? 63 : -1;
}

/* Without padding. */
static inline bool decode(struct bk_slice text, void *out, size_t *length, const char last[2]) {
    /* One digit alone in the last group cannot hold a byte. */
    if (text.length % 4 == 1)
        return false;
    size_t byte_count = text.length / 4 * 3 + (text.length % 4 == 0 ? 0 : text.length % 4 - 1);
    if (byte_count > *length)
        return false;
    unsigned char *bytes = out;
    uint32_t bits = 0;
    int bit_count = 0;
    size_t written = 0, i = 0;
    for (; text.length - i >= 4; i += 4) {
        int a = digit_value(text.data[i], last), b = digit_value(text.data[i + 1], last),
            c = digit_value(text.data[i + 2], last), d = digit_value(text.data[i + 3], last);
        if ((a | b | c | d) < 0)
            return false;
        uint32_t group = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | (uint32_t)d;
        bytes[written++] = (unsigned char)(group >> 16);
        bytes[written++] = (unsigned char)(group >> 8 & 0xFF);
        bytes[written++] = (unsigned char)(group & 0xFF);
    }
    for (; i < text.length; i++) {
        int value = digit_value(text.data[i], last);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            bytes[written++] = (unsigned char)(bits >> bit_count & 0xFF);
            bits &= (1U << bit_count) - 1;
        }
    }
    if (bits != 0)
        return false;
    BK_ASSERT(written == byte_count);
    *length = written;
    return true;
}

bool bk_base64url_decode(struct bk_slice text, void *out, size_t *length) {
    return decode(text, out, length, &BASE64URL_DIGITS[62]);
}

bool bk_base64_decode(struct bk_slice text, void *out, size_t *length) {
    if (text.length % 4 != 0)
        return false;
    for (int i = 0; i < 2 && text.length > 0 && text.data[text.length - 1] == '='; i++)
        text.length--;
    return decode(text, out, length, &BASE64_DIGITS[62]);
}

/* --- hex and percent -------------------------------------------------------------------------- */

void bk_hex_encode(char *out, const void *data, size_t length) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < length; i++) {
        out[2 * i] = HEX_DIGITS_LOWER[bytes[i] >> 4];
        out[2 * i + 1] = HEX_DIGITS_LOWER[bytes[i] & 15];
    }
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool needs_percent_decoding(struct bk_slice text, bool is_form) {
    return bk_slice_find(text, '%') < text.length ||
           (is_form && bk_slice_find(text, '+') < text.length);
}

bool bk_percent_decode(struct bk_arena *arena, struct bk_slice text, bool is_form,
                       struct bk_slice *out) {
    if (!needs_percent_decoding(text, is_form)) {
        *out = text;
        return true;
    }
    char *decoded = bk_arena_alloc(arena, text.length);
    if (decoded == NULL)
        return false;
    size_t written = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == '%') {
            if (text.length - i < 3)
                return false;
            int high = hex_value(text.data[i + 1]);
            int low = hex_value(text.data[i + 2]);
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && is_form) {
            c = ' ';
        }
        decoded[written++] = c;
    }
    *out = bk_slice_make(decoded, written);
    return true;
}

/* RFC 3986, section 2.3. */
static bool is_unreserved(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void bk_percent_encode(struct bk_buffer *out, struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        if (is_unreserved(text.data[i])) {
            bk_buffer_append_char(out, text.data[i]);
            continue;
        }
        unsigned char byte = (unsigned char)text.data[i];
        char escape[3] = {'%', HEX_DIGITS_UPPER[byte >> 4], HEX_DIGITS_UPPER[byte & 15]};
        bk_buffer_append(out, escape, sizeof escape);
    }
}
