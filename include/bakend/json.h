/*
 * JSON (RFC 8259).
 *
 * Input is hostile and small: it is read by cJSON behind a gate of our own that refuses what cJSON
 * would let through (duplicate keys, NUL escapes, invalid UTF-8, control characters, trailing text,
 * a BOM, numbers that are not JSON's, more than BK_JSON_DEPTH_MAX levels) and that keeps where each
 * value stands in the text, since cJSON's doubles lose numbers. Output never goes through a tree:
 * the writer appends to a buffer.
 */
#ifndef BAKEND_JSON_H
#define BAKEND_JSON_H

#include "bakend/arena.h"
#include "bakend/buffer.h"
#include "bakend/error.h"

enum { BK_JSON_DEPTH_MAX = 64, BK_JSON_VALUES_MAX = 200000 };

enum bk_json_type {
    BK_JSON_NULL,
    BK_JSON_BOOL,
    BK_JSON_NUMBER,
    BK_JSON_STRING,
    BK_JSON_ARRAY,
    BK_JSON_OBJECT
};

/* A value of a parsed text. Everything it points at lives in the arena it was parsed into, but for
 * `text`, which borrows the input. */
struct bk_json {
    enum bk_json_type type;
    bool boolean;         /* BK_JSON_BOOL */
    struct bk_slice key;  /* in an object: the decoded name */
    struct bk_slice text; /* the value as it stands in the input, no space around it */
    /* BK_JSON_STRING: decoded. Of a number or boolean that a form's text was taken for: the text;
     * else empty. */
    struct bk_slice string;
    struct bk_json *child; /* first element or member, or NULL */
    struct bk_json *next;  /* next sibling, or NULL */
    uint32_t child_count;
};

/* Parses the whole of text into the arena. BK_INVALID with the byte offset and the reason in error;
 * BK_TOO_LARGE past BK_JSON_VALUES_MAX values or the arena's cap. Any thread. */
enum bk_status bk_json_parse(struct bk_arena *arena, struct bk_slice text, struct bk_json **value,
                             struct bk_error *error);
/* Exact name, never case-insensitive. NULL when absent, or when object is NULL or no object. */
const struct bk_json *bk_json_get(const struct bk_json *object, struct bk_slice key);
/* The decoded string of a member, or an empty slice when absent or of another type. */
struct bk_slice bk_json_get_string(const struct bk_json *object, struct bk_slice key);
/* Integral and within int64 ("1e3" and "1.0" count; "1.5" and 1e300 do not). */
bool bk_json_to_int64(const struct bk_json *value, int64_t *out);
/* Any finite number; false when the text overflows a double (1e999). */
bool bk_json_to_double(const struct bk_json *value, double *out);

/* --- writing ---------------------------------------------------------------------------------- */

/* A string with its quotes; `"`, `\` and controls escaped. Invalid UTF-8 becomes U+FFFD. */
void bk_json_write_string(struct bk_buffer *out, struct bk_slice text);
void bk_json_write_int(struct bk_buffer *out, int64_t value);
/* The shortest text that reads back as the same double, as ECMAScript prints it; not finite:
 * null. */
void bk_json_write_double(struct bk_buffer *out, double value);
void bk_json_write_bool(struct bk_buffer *out, bool value);
/* `"key":` preceded by a comma unless the buffer ends in '{', '[' or is empty. */
void bk_json_write_key(struct bk_buffer *out, struct bk_slice key);
/* Key and value at once. */
void bk_json_write_member_string(struct bk_buffer *out, struct bk_slice key, struct bk_slice text);
void bk_json_write_member_int(struct bk_buffer *out, struct bk_slice key, int64_t value);
void bk_json_write_member_bool(struct bk_buffer *out, struct bk_slice key, bool value);
/* json is JSON text already. */
void bk_json_write_member_raw(struct bk_buffer *out, struct bk_slice key, struct bk_slice json);
/* A comma unless the buffer ends in '[' (before an element). */
void bk_json_write_separator(struct bk_buffer *out);

#endif
