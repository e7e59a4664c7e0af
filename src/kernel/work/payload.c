/*
 * Whether a payload is JSON (RFC 8259). Payloads are made by modules and read by them, so nothing
 * is built of one here: a pass over its bytes costs a tenth of parsing it, and an enqueue is paid
 * by the request that it is part of.
 */
#include "work_private.h"

struct reader {
    const char *at, *end;
    uint32_t depth;
};

static bool read_value(struct reader *reader);

static void skip_space(struct reader *reader) {
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\n' ||
                                        *reader->at == '\t' || *reader->at == '\r'))
        reader->at++;
}

static bool take(struct reader *reader, char c) {
    if (reader->at == reader->end || *reader->at != c)
        return false;
    reader->at++;
    return true;
}

static bool take_word(struct reader *reader, struct bk_slice word) {
    if ((size_t)(reader->end - reader->at) < word.length ||
        memcmp(reader->at, word.data, word.length) != 0)
        return false;
    reader->at += word.length;
    return true;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool take_digits(struct reader *reader) {
    const char *start = reader->at;
    while (reader->at < reader->end && is_digit(*reader->at))
        reader->at++;
    return reader->at > start;
}

static bool read_number(struct reader *reader) {
    (void)take(reader, '-');
    if (!take(reader, '0') && !take_digits(reader))
        return false;
    if (take(reader, '.') && !take_digits(reader))
        return false;
    if (!take(reader, 'e') && !take(reader, 'E'))
        return true;
    if (!take(reader, '+'))
        (void)take(reader, '-');
    return take_digits(reader);
}

static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Behind the backslash. */
static bool read_escape(struct reader *reader) {
    char c = reader->at == reader->end ? '\0' : *reader->at++;
    if (c != 'u')
        return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
    for (int i = 0; i < 4; i++, reader->at++)
        if (reader->at == reader->end || !is_hex(*reader->at))
            return false;
    return true;
}

static bool read_string(struct reader *reader) {
    if (!take(reader, '"'))
        return false;
    while (reader->at < reader->end) {
        char c = *reader->at++;
        if (c == '"')
            return true;
        if ((unsigned char)c < 0x20 || (c == '\\' && !read_escape(reader)))
            return false;
    }
    return false;
}

static bool read_member(struct reader *reader) {
    skip_space(reader);
    if (!read_string(reader))
        return false;
    skip_space(reader);
    return take(reader, ':') && read_value(reader);
}

/* Behind the opening bracket. */
static bool read_list(struct reader *reader, char closer) {
    bool is_right = true;
    if (++reader->depth > BK_JSON_DEPTH_MAX)
        return false;
    skip_space(reader);
    if (!take(reader, closer)) {
        do
            is_right = closer == '}' ? read_member(reader) : read_value(reader);
        while (is_right && take(reader, ','));
        is_right = is_right && take(reader, closer);
    }
    reader->depth--;
    return is_right;
}

/* With the space around it. */
static bool read_value(struct reader *reader) {
    bool is_right = false;
    skip_space(reader);
    if (take(reader, '{'))
        is_right = read_list(reader, '}');
    else if (take(reader, '['))
        is_right = read_list(reader, ']');
    else if (reader->at < reader->end && *reader->at == '"')
        is_right = read_string(reader);
    else
        is_right = take_word(reader, BK_SLICE("true")) || take_word(reader, BK_SLICE("false")) ||
                   take_word(reader, BK_SLICE("null")) || read_number(reader);
    skip_space(reader);
    return is_right;
}

bool work_payload_is_json(struct bk_slice text) {
    struct reader reader = {.at = text.data, .end = text.data + text.length};
    return text.length > 0 && read_value(&reader) && reader.at == reader.end &&
           bk_slice_is_utf8(text);
}
