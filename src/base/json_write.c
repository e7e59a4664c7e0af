/*
 * Writing straight into a buffer. The writer keeps no state: whether a comma is due shows in the
 * last byte written. Strings are copied in runs of bytes that need no escape.
 */
#include "bakend/json.h"

#include "json_scan.h"
#include "utf8.h"

static const char REPLACEMENT_CHARACTER[] = "\xEF\xBF\xBD"; /* U+FFFD */

static void write_escape(struct bk_buffer *out, unsigned char byte) {
    static const char hex[] = "0123456789abcdef";
    static const char short_forms[] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                       ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    char short_form = byte < sizeof short_forms ? short_forms[byte] : '\0';
    if (short_form != '\0') {
        char escape[2] = {'\\', short_form};
        bk_buffer_append(out, escape, sizeof escape);
    } else {
        char escape[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
        bk_buffer_append(out, escape, sizeof escape);
    }
}

/* The end of the run of bytes that stand as they are: plain ASCII and valid UTF-8. */
static const char *skip_clean(const char *cursor, const char *end) {
    for (;;) {
        cursor = json_skip_plain(cursor, end);
        if (cursor == end || (unsigned char)*cursor < 0x80)
            return cursor;
        size_t length = utf8_sequence_length(cursor, (size_t)(end - cursor));
        if (length == 0)
            return cursor;
        cursor += length;
    }
}

/* A text of which every byte stands as it is, into a buffer that has the room. */
static bool write_plain(struct bk_buffer *out, const char *text, size_t length) {
    if (out->capacity - out->length < length + 2 ||
        json_skip_plain(text, text + length) != text + length)
        return false;
    char *at = out->data + out->length;
    at[0] = '"';
    memcpy(at + 1, text, length);
    at[length + 1] = '"';
    out->length += length + 2;
    return true;
}

void bk_json_write_string(struct bk_buffer *out, struct bk_slice text) {
    const char *cursor = text.length == 0 ? "" : text.data;
    const char *end = cursor + text.length;
    if (write_plain(out, cursor, text.length))
        return;
    bk_buffer_append_char(out, '"');
    while (cursor < end) {
        const char *dirty = skip_clean(cursor, end);
        bk_buffer_append(out, cursor, (size_t)(dirty - cursor));
        if (dirty == end)
            break;
        unsigned char byte = (unsigned char)*dirty;
        if (byte >= 0x80)
            bk_buffer_append(out, REPLACEMENT_CHARACTER, sizeof REPLACEMENT_CHARACTER - 1);
        else
            write_escape(out, byte);
        cursor = dirty + 1;
    }
    bk_buffer_append_char(out, '"');
}

void bk_json_write_int(struct bk_buffer *out, int64_t value) { bk_buffer_append_int(out, value); }

void bk_json_write_bool(struct bk_buffer *out, bool value) {
    if (value)
        bk_buffer_append_literal(out, "true");
    else
        bk_buffer_append_literal(out, "false");
}

void bk_json_write_key(struct bk_buffer *out, struct bk_slice key) {
    char last = out->length == 0 ? '{' : out->data[out->length - 1];
    if (last != '{' && last != '[')
        bk_buffer_append_char(out, ',');
    bk_json_write_string(out, key);
    bk_buffer_append_char(out, ':');
}

void bk_json_write_member_string(struct bk_buffer *out, struct bk_slice key, struct bk_slice text) {
    bk_json_write_key(out, key);
    bk_json_write_string(out, text);
}

void bk_json_write_member_int(struct bk_buffer *out, struct bk_slice key, int64_t value) {
    bk_json_write_key(out, key);
    bk_json_write_int(out, value);
}

void bk_json_write_member_bool(struct bk_buffer *out, struct bk_slice key, bool value) {
    bk_json_write_key(out, key);
    bk_json_write_bool(out, value);
}

void bk_json_write_member_raw(struct bk_buffer *out, struct bk_slice key, struct bk_slice json) {
    bk_json_write_key(out, key);
    bk_buffer_append_slice(out, json);
}

void bk_json_write_separator(struct bk_buffer *out) {
    if (out->length > 0 && out->data[out->length - 1] != '[')
        bk_buffer_append_char(out, ',');
}
