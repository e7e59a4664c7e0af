/*
 * Header values with parameters: `form-data; name="title"; filename="a.txt"` (RFC 2045, 2183).
 *
 * A quoted value may escape only what would end it or mean something outside it (RFC 2045's
 * tspecials), since old browsers send "C:\new\a.txt" as it stands. A parameter with a star holds
 * percent-encoded UTF-8 (RFC 2231) and beats its plain form. What two readers could read in two
 * ways is refused: a parameter that comes twice with two values, one in numbered pieces, text
 * behind a value.
 */
#include "header_value.h"

#include "bakend/assert.h"
#include "bakend/encode.h"

static bool is_special(char c) { return c != '\0' && strchr("()<>@,;:\\\"/[]?=", c) != NULL; }

static bool is_token_character(char c) { return c > ' ' && c < 0x7f && !is_special(c); }

static bool is_space(char c) { return c == ' ' || c == '\t'; }

static void skip(struct bk_slice *rest, size_t length) {
    BK_ASSERT(length <= rest->length);
    *rest = bk_slice_make(rest->data + length, rest->length - length);
}

static void skip_space(struct bk_slice *rest) {
    while (rest->length > 0 && is_space(rest->data[0]))
        skip(rest, 1);
}

static bool take_character(struct bk_slice *rest, char c) {
    skip_space(rest);
    if (rest->length == 0 || rest->data[0] != c)
        return false;
    skip(rest, 1);
    return true;
}

static struct bk_slice take_token(struct bk_slice *rest) {
    struct bk_slice token = {rest->data, 0};
    while (token.length < rest->length && is_token_character(rest->data[token.length]))
        token.length++;
    skip(rest, token.length);
    return token;
}

/* rest begins behind the opening quote. Borrows when nothing was escaped. */
static bool take_quoted(struct bk_arena *arena, struct bk_slice *rest, struct bk_slice *value) {
    size_t end = 0, escapes = 0;
    for (; end < rest->length && rest->data[end] != '"'; end++) {
        if (rest->data[end] == '\\' && end + 1 < rest->length && is_special(rest->data[end + 1])) {
            escapes++;
            end++;
        }
    }
    if (end == rest->length)
        return false;
    *value = bk_slice_make(rest->data, end);
    skip(rest, end + 1);
    if (escapes == 0)
        return true;
    char *plain = bk_arena_alloc(arena, value->length);
    if (plain == NULL)
        return false;
    size_t length = 0;
    for (size_t i = 0; i < end; i++) {
        if (value->data[i] == '\\' && i + 1 < end && is_special(value->data[i + 1]))
            i++;
        plain[length++] = value->data[i];
    }
    *value = bk_slice_make(plain, length);
    return true;
}

static bool take_value(struct bk_arena *arena, struct bk_slice *rest, struct bk_slice *value) {
    skip_space(rest);
    if (rest->length > 0 && rest->data[0] == '"') {
        skip(rest, 1);
        return take_quoted(arena, rest, value);
    }
    *value = take_token(rest);
    return value->length > 0;
}

/* False when it was there before, with another value. */
static bool remember(struct bk_slice *slot, struct bk_slice value) {
    if (slot->data != NULL)
        return bk_slice_equal(*slot, value);
    *slot = value;
    return true;
}

static bool keep(struct api_header_parameter *wanted, size_t count, struct bk_slice name,
                 struct bk_slice value) {
    size_t star = bk_slice_find(name, '*');
    struct bk_slice base = bk_slice_make(name.data, star);
    for (size_t i = 0; i < count; i++) {
        if (!bk_slice_equal_ignore_case(base, bk_slice_from(wanted[i].name)))
            continue;
        if (star == name.length)
            return remember(&wanted[i].value, value);
        return star + 1 == name.length && remember(&wanted[i].extended, value);
    }
    return true;
}

/* `utf-8'en'na%C3%AFve` */
static bool decode_extended(struct bk_arena *arena, struct bk_slice text, struct bk_slice *value) {
    struct bk_slice charset, language;
    if (!bk_slice_split(&text, '\'', &charset) || text.data == NULL ||
        !bk_slice_split(&text, '\'', &language) || text.data == NULL)
        return false;
    if (!bk_slice_equal_ignore_case(charset, BK_SLICE("utf-8")) &&
        !bk_slice_equal_ignore_case(charset, BK_SLICE("us-ascii")))
        return false;
    return bk_percent_decode(arena, text, false, value);
}

bool api_header_value_read(struct bk_arena *arena, struct bk_slice text, struct bk_slice *main,
                           struct api_header_parameter *wanted, size_t count) {
    struct bk_slice rest = text, name, value;
    if (text.length == 0) {
        *main = BK_SLICE_EMPTY;
        return true;
    }
    main->data = text.data;
    main->length = bk_slice_find(text, ';');
    skip(&rest, main->length);
    *main = bk_slice_trim(*main);
    while (take_character(&rest, ';')) {
        skip_space(&rest);
        if (rest.length == 0)
            break; /* a last semicolon that nothing follows */
        name = take_token(&rest);
        if (name.length == 0 || !take_character(&rest, '=') || !take_value(arena, &rest, &value) ||
            !keep(wanted, count, name, value))
            return false;
    }
    skip_space(&rest);
    for (size_t i = 0; i < count; i++)
        if (wanted[i].extended.data != NULL &&
            !decode_extended(arena, wanted[i].extended, &wanted[i].value))
            return false;
    return rest.length == 0;
}
