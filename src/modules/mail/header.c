/*
 * Lines of a message's head. What is not plain ASCII becomes encoded words (RFC 2047, base64, each
 * of whole characters and at most 75 long); lines are folded before 76 where they can be. Control
 * characters become spaces: they were refused before, and here nothing that somebody overlooked can
 * end a line.
 */
#include "mail.h"

#include "bakend/encode.h"

enum {
    LINE_MAX = 76,
    WORD_MAX = 60,      /* a longer one is encoded, so that its line can be folded */
    ENCODED_EMPTY = 12, /* "=?utf-8?B?" and "?=" */
    ENCODED_MAX = 75,
    ENCODED_WORTHWHILE = 8, /* of base64: less is not worth beginning on a line */
};

struct head_line {
    struct bk_buffer *out;
    size_t column;
};

static void put(struct head_line *line, struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bk_buffer_append_char(line->out, c < 0x20 || c == 0x7f ? ' ' : (char)c);
    }
    line->column += text.length;
}

static void fold(struct head_line *line) {
    bk_buffer_append_literal(line->out, "\r\n");
    line->column = 0;
}

static struct head_line begin(struct bk_buffer *out, struct bk_slice name) {
    struct head_line line = {out, 0};
    put(&line, name);
    put(&line, BK_SLICE(":"));
    return line;
}

/* --- encoded words ---------------------------------------------------------------------------- */

static void put_base64(struct head_line *line, struct bk_slice text) {
    for (size_t i = 0; i < text.length; i += 3) {
        char bytes[3], digits[BK_BASE64_BYTES(sizeof(bytes))];
        size_t count = text.length - i < sizeof(bytes) ? text.length - i : sizeof(bytes);
        for (size_t j = 0; j < count; j++) {
            unsigned char c = (unsigned char)text.data[i + j];
            bytes[j] = c < 0x20 || c == 0x7f ? ' ' : text.data[i + j];
        }
        bk_buffer_append(line->out, digits, bk_base64_encode(digits, bytes, count));
        line->column += sizeof(digits);
    }
}

/* How many bytes of text, of whole characters, fit into an encoded word of so many digits. */
static size_t cut(struct bk_slice text, size_t digits) {
    size_t length = digits / 4 * 3;
    if (length >= text.length)
        return text.length;
    size_t end = length;
    while (end > 0 && ((unsigned char)text.data[end] & 0xc0) == 0x80)
        end--;
    return end > 0 ? end : length; /* not UTF-8: anywhere */
}

/* Each word with the space before it, which belongs to none of them. */
static void put_encoded(struct head_line *line, struct bk_slice text) {
    while (text.length > 0) {
        if (line->column + 1 + ENCODED_EMPTY + ENCODED_WORTHWHILE > LINE_MAX)
            fold(line);
        size_t room = LINE_MAX - line->column - 1;
        size_t length = cut(text, (room < ENCODED_MAX ? room : ENCODED_MAX) - ENCODED_EMPTY);
        put(line, BK_SLICE(" =?utf-8?B?"));
        put_base64(line, bk_slice_make(text.data, length));
        put(line, BK_SLICE("?="));
        text = bk_slice_make(text.data + length, text.length - length);
    }
}

static bool is_plain(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.data[i] >= 0x80 ||
            (text.data[i] == '=' && i + 1 < text.length && text.data[i + 1] == '?'))
            return false;
    return true;
}

static bool has_long_word(struct bk_slice text) {
    struct bk_slice rest = text, word;
    while (bk_slice_split(&rest, ' ', &word))
        if (word.length > WORD_MAX)
            return true;
    return false;
}

/* --- texts ------------------------------------------------------------------------------------ */

/* Word by word, each with the spaces before it, so that unfolding gives the same text again. */
static void put_folded(struct head_line *line, struct bk_slice text) {
    size_t at = 0;
    while (at < text.length) {
        size_t end = at;
        while (end < text.length && text.data[end] == ' ')
            end++;
        while (end < text.length && text.data[end] != ' ')
            end++;
        if (line->column + 1 + (end - at) > LINE_MAX && at > 0 && text.data[at] == ' ')
            fold(line);
        if (at == 0)
            put(line, BK_SLICE(" "));
        put(line, bk_slice_make(text.data + at, end - at));
        at = end;
    }
}

void mail_header_write(struct bk_buffer *out, const char *name, struct bk_slice text) {
    struct head_line line = begin(out, bk_slice_from(name));
    text = bk_slice_trim(text);
    if (is_plain(text) && !has_long_word(text))
        put_folded(&line, text);
    else
        put_encoded(&line, text);
    fold(&line);
}

void mail_header_write_raw(struct bk_buffer *out, struct bk_slice name, struct bk_slice value) {
    struct head_line line = begin(out, name);
    bool is_ascii = true;
    value = bk_slice_trim(value);
    for (size_t i = 0; i < value.length; i++)
        is_ascii = is_ascii && (unsigned char)value.data[i] < 0x80;
    if (is_ascii)
        put_folded(&line, value);
    else
        put_encoded(&line, value);
    fold(&line);
}

/* --- people ----------------------------------------------------------------------------------- */

static void put_quoted(struct head_line *line, struct bk_slice name) {
    put(line, BK_SLICE(" \""));
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] == '"' || name.data[i] == '\\')
            put(line, BK_SLICE("\\"));
        put(line, bk_slice_make(name.data + i, 1));
    }
    put(line, BK_SLICE("\""));
}

/* Words of letters and digits, with a blank between two, need no quotes, and the contract has none
 * then. What is special in any other is not looked for: it is quoted or encoded. */
static bool is_simple(struct bk_slice name) {
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_word && (c != ' ' || name.data[i - 1] == ' ')) /* it was trimmed: none is first */
            return false;
    }
    return true;
}

static void put_person(struct head_line *line, const struct mail_address *person) {
    struct bk_slice name = bk_slice_trim(person->name);
    if (line->column > 1 && line->column + name.length + person->address.length + 5 > LINE_MAX)
        fold(line);
    if (name.length == 0) {
        put(line, BK_SLICE(" "));
        put(line, person->address);
        return;
    }
    if (is_simple(name) && name.length <= WORD_MAX) {
        put(line, BK_SLICE(" "));
        put(line, name);
    } else if (is_plain(name) && name.length <= WORD_MAX) {
        put_quoted(line, name);
    } else {
        put_encoded(line, name);
    }
    if (line->column + person->address.length + 3 > LINE_MAX)
        fold(line);
    put(line, BK_SLICE(" <"));
    put(line, person->address);
    put(line, BK_SLICE(">"));
}

void mail_header_write_addresses(struct bk_buffer *out, const char *name,
                                 const struct mail_address *first) {
    struct head_line line = begin(out, bk_slice_from(name));
    for (const struct mail_address *person = first; person != NULL; person = person->next) {
        put_person(&line, person);
        if (person->next != NULL)
            put(&line, BK_SLICE(","));
    }
    fold(&line);
}
