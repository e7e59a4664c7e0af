/* Names and texts as TypeScript has them. */
#include "types_private.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
static bool is_word(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c); }

struct bk_slice types_name(struct bk_arena *arena, struct bk_slice name) {
    char text[TYPES_NAME_BYTES_MAX];
    size_t length = 0;
    bool is_start = true;
    for (size_t i = 0; i < name.length && length < sizeof text; i++) {
        char c = name.data[i];
        if (!is_word(c)) {
            is_start = true;
            continue;
        }
        text[length++] = is_start && is_lower(c) ? (char)(c - 'a' + 'A') : c;
        is_start = false;
    }
    const char *prefix = length == 0 || is_digit(text[0]) ? "Collection" : "";
    return bk_arena_format(arena, "%s%.*s", prefix, (int)length, text);
}

void types_write_key(struct bk_buffer *out, const char *prefix, struct bk_slice name,
                     const char *suffix) {
    bool is_plain = prefix[0] == '\0' && suffix[0] == '\0' && name.length > 0;
    for (size_t i = 0; is_plain && i < name.length; i++)
        is_plain = is_word(name.data[i]) || name.data[i] == '_';
    if (is_plain && !is_digit(name.data[0])) {
        bk_buffer_append_slice(out, name);
        return;
    }
    bk_buffer_format(out, "\"%s%.*s%s\"", prefix, BK_SLICE_PRINT(name), suffix);
}
