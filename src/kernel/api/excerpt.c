/*
 * Text from HTML: tags go, blocks are set off by a space, white space is one space, and what is not
 * read (scripts, forms, pictures) goes with its content. As the contract has it, which builds the
 * tree of a browser: the tags that matter for where an element ends are followed as a browser
 * follows them, on a stack of open elements.
 *
 * What stands deeper than what has been gathered already needs no reading: an element that begins
 * when there are max bytes and two more is left out.
 */
#include "excerpt.h"

#include "bakend/assert.h"

enum { OPEN_MAX = 256, NAME_BYTES_MAX = 12, LEGACY_BYTES_MAX = 6 };

struct reader {
    struct bk_slice html;
    size_t position;
    size_t max;
    struct bk_buffer text;
    bool ends_in_space;
    bool is_in_head; /* nothing of the body has come yet */
    struct bk_slice open[OPEN_MAX];
    uint32_t open_count;
    uint32_t left_out_at; /* open_count of the outermost element that is left out; 0: none */
};

/* --- kinds of elements ------------------------------------------------------------------------ */

static const char *const left_out[] = {
    "head",    "style",  "script",   "iframe", "embed", "applet",   "object", "svg",    "img",
    "picture", "dialog", "template", "button", "form",  "textarea", "input",  "select", "option"};
static const char *const in_line[] = {
    "a", "abbr",  "acronym", "b",     "bdo",  "big",    "br",     "button", "cite", "code", "em",
    "i", "label", "q",       "small", "span", "strong", "strike", "sub",    "sup",  "time"};
static const char *const without_end[] = {
    "area",  "base",  "basefont", "bgsound", "br",   "col",   "embed",  "frame", "hr", "img",
    "image", "input", "keygen",   "link",    "meta", "param", "source", "track", "wbr"};
static const char *const raw[] = {"script",   "style", "iframe",   "noembed", "noframes",
                                  "noscript", "xmp",   "textarea", "title",   "plaintext"};
static const char *const of_head[] = {"base",     "basefont", "bgsound",  "link",  "meta",
                                      "title",    "noscript", "noframes", "style", "script",
                                      "template", "head",     "html"};
/* Before which a paragraph ends. */
static const char *const ends_paragraph[] = {
    "address", "article",   "aside", "blockquote", "center",   "details",    "dialog", "dir",
    "div",     "dl",        "dd",    "dt",         "fieldset", "figcaption", "figure", "footer",
    "form",    "h1",        "h2",    "h3",         "h4",       "h5",         "h6",     "header",
    "hgroup",  "hr",        "li",    "listing",    "main",     "menu",       "nav",    "ol",
    "p",       "plaintext", "pre",   "section",    "summary",  "table",      "ul",     "xmp"};
static const char *const scopes[] = {"applet", "caption", "table",    "td",    "th",
                                     "object", "marquee", "template", "button"};

static bool is_one_of(struct bk_slice name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bk_slice_equal_ignore_case(name, bk_slice_from(names[i])))
            return true;
    return false;
}
#define IS_ONE_OF(name, names) is_one_of((name), (names), BK_COUNT_OF(names))

static bool is_named(struct bk_slice name, const char *wanted) {
    return bk_slice_equal_ignore_case(name, bk_slice_from(wanted));
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* --- characters ------------------------------------------------------------------------------- */

static void append_character(struct bk_buffer *out, uint32_t c) {
    if (c < 0x80) {
        bk_buffer_append_char(out, (char)c);
    } else if (c < 0x800) {
        bk_buffer_append_char(out, (char)(0xc0 | c >> 6));
        bk_buffer_append_char(out, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        bk_buffer_append_char(out, (char)(0xe0 | c >> 12));
        bk_buffer_append_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
        bk_buffer_append_char(out, (char)(0x80 | (c & 0x3f)));
    } else {
        bk_buffer_append_char(out, (char)(0xf0 | c >> 18));
        bk_buffer_append_char(out, (char)(0x80 | (c >> 12 & 0x3f)));
        bk_buffer_append_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
        bk_buffer_append_char(out, (char)(0x80 | (c & 0x3f)));
    }
}

/* Numbers from 128 on mean, by old custom, what Windows has there. */
static uint32_t character_of_number(uint32_t number) {
    static const uint16_t windows[32] = {
        0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
        0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
        0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};
    if (number >= 0x80 && number < 0xa0)
        return windows[number - 0x80];
    if (number == 0 || number > 0x10ffff || (number >= 0xd800 && number < 0xe000))
        return 0xfffd;
    return number;
}

static int digit_of(char c, uint32_t base) {
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : 99;
    return digit < (int)base ? digit : -1;
}

/* "&#8211;" at the beginning of text: the character and how long it is; 0: it is none. */
static size_t read_number(struct bk_slice text, uint32_t *character) {
    uint32_t base = text.length > 2 && (text.data[2] | 0x20) == 'x' ? 16 : 10, number = 0;
    size_t begin = base == 16 ? 3 : 2, i = begin;
    for (; i < text.length && digit_of(text.data[i], base) >= 0; i++)
        if (number <= 0x10ffff)
            number = number * base + (uint32_t)digit_of(text.data[i], base);
    if (i == begin)
        return 0;
    *character = character_of_number(number);
    return i < text.length && text.data[i] == ';' ? i + 1 : i;
}

/* Those of Latin-1 and the few of markup are known without their semicolon, too. */
static bool is_legacy(uint32_t c) {
    return (c >= 0xa0 && c <= 0xff) || c == '&' || c == '<' || c == '>' || c == '"';
}

static size_t read_name(struct bk_slice text, uint32_t *character) {
    size_t i = 1;
    while (i < text.length && i <= NAME_BYTES_MAX &&
           (is_letter(text.data[i]) || (text.data[i] >= '0' && text.data[i] <= '9')))
        i++;
    if (i < text.length && text.data[i] == ';') {
        *character = api_entity(bk_slice_make(text.data + 1, i - 1));
        if (*character != 0)
            return i + 1;
    }
    for (size_t length = i - 1 < LEGACY_BYTES_MAX ? i - 1 : LEGACY_BYTES_MAX; length > 1;
         length--) {
        *character = api_entity(bk_slice_make(text.data + 1, length));
        if (is_legacy(*character))
            return length + 1;
    }
    return 0;
}

static size_t read_entity(struct bk_slice text, uint32_t *character) {
    if (text.length < 2)
        return 0;
    return text.data[1] == '#' ? read_number(text, character) : read_name(text, character);
}

/* --- text ------------------------------------------------------------------------------------- */

static void append_space(struct reader *reader) {
    if (!reader->ends_in_space && reader->left_out_at == 0)
        bk_buffer_append_char(&reader->text, ' ');
    reader->ends_in_space = reader->ends_in_space || reader->left_out_at == 0;
}

static void append_text(struct reader *reader, struct bk_slice text, bool has_entities) {
    if (reader->left_out_at > 0)
        return;
    for (size_t i = 0; i < text.length; i++) {
        uint32_t character = (unsigned char)text.data[i];
        size_t length = 0;
        if (text.data[i] == '&' && has_entities)
            length = read_entity(bk_slice_make(text.data + i, text.length - i), &character);
        if (character < 0x80 && is_space((char)character)) {
            append_space(reader);
        } else {
            reader->ends_in_space = false;
            reader->is_in_head = false;
            if (length > 0)
                append_character(&reader->text, character);
            else
                bk_buffer_append_char(&reader->text, text.data[i]);
        }
        i += length > 0 ? length - 1 : 0;
    }
}

/* --- elements --------------------------------------------------------------------------------- */

static void close_to(struct reader *reader, uint32_t count) {
    while (reader->open_count > count) {
        struct bk_slice name = reader->open[--reader->open_count];
        if (reader->left_out_at > reader->open_count)
            reader->left_out_at = 0;
        if (!IS_ONE_OF(name, in_line) && !IS_ONE_OF(name, left_out))
            append_space(reader);
    }
}

/* Ends the innermost of these names, with all that is in it, unless a scope is in between. */
static void close_implied(struct reader *reader, const char *const *names, size_t count) {
    for (uint32_t i = reader->open_count; i-- > 0;) {
        if (is_one_of(reader->open[i], names, count)) {
            close_to(reader, i);
            return;
        }
        if (IS_ONE_OF(reader->open[i], scopes))
            return;
    }
}

static void close_before(struct reader *reader, struct bk_slice name) {
    static const char *const paragraph[] = {"p"}, *const item[] = {"li"},
                             *const term[] = {"dd", "dt"}, *const choice[] = {"option"},
                             *const cell[] = {"td", "th"}, *const row[] = {"tr"};
    if (is_named(name, "li"))
        close_implied(reader, item, 1);
    else if (IS_ONE_OF(name, term))
        close_implied(reader, term, 2);
    else if (is_named(name, "option"))
        close_implied(reader, choice, 1);
    else if (IS_ONE_OF(name, cell) || is_named(name, "tr"))
        close_implied(reader, cell, 2);
    if (is_named(name, "tr"))
        close_implied(reader, row, 1);
    if (IS_ONE_OF(name, ends_paragraph))
        close_implied(reader, paragraph, 1);
}

static void open_element(struct reader *reader, struct bk_slice name) {
    bool is_left_out = IS_ONE_OF(name, left_out);
    if (!is_left_out && !IS_ONE_OF(name, in_line))
        append_space(reader);
    if (reader->open_count == OPEN_MAX)
        return;
    reader->open[reader->open_count++] = name;
    if (reader->left_out_at == 0 && (is_left_out || reader->text.length > reader->max + 2))
        reader->left_out_at = reader->open_count;
}

/* An end tag without its beginning is nothing, but for a paragraph's. */
static void close_element(struct reader *reader, struct bk_slice name) {
    for (uint32_t i = reader->open_count; i-- > 0;) {
        if (bk_slice_equal_ignore_case(reader->open[i], name)) {
            close_to(reader, i);
            return;
        }
        if (!IS_ONE_OF(reader->open[i], in_line) && IS_ONE_OF(name, in_line))
            return;
    }
    if (is_named(name, "p"))
        append_space(reader);
}

/* --- tags ------------------------------------------------------------------------------------- */

static bool starts_with(const struct reader *reader, size_t position, const char *text) {
    struct bk_slice rest =
        bk_slice_make(reader->html.data + position, reader->html.length - position);
    return bk_slice_starts_with(rest, bk_slice_from(text));
}

/* Where the needle is found from position on, or the end. */
static size_t find_from(const struct reader *reader, size_t position, const char *needle) {
    while (position < reader->html.length && !starts_with(reader, position, needle))
        position++;
    return position;
}

/* Behind the ">" of a tag: one in quotes behind "=" is not it. */
static size_t skip_attributes(const struct reader *reader, size_t i) {
    struct bk_slice html = reader->html;
    while (i < html.length && html.data[i] != '>') {
        if (html.data[i++] != '=')
            continue;
        while (i < html.length && is_space(html.data[i]))
            i++;
        char quote = i < html.length ? html.data[i] : ' ';
        if (quote != '"' && quote != '\'')
            continue;
        for (i++; i < html.length && html.data[i] != quote;)
            i++;
        i += i < html.length;
    }
    return i < html.length ? i + 1 : i;
}

/* The text of an element that has no tags in it, and its end. */
static void read_raw(struct reader *reader, struct bk_slice name) {
    struct bk_slice html = reader->html;
    size_t begin = reader->position, i = begin;
    bool is_text = is_named(name, "title") || is_named(name, "textarea");
    for (; i < html.length; i++) {
        size_t end = i + 2 + name.length;
        if (html.data[i] == '<' && end < html.length && html.data[i + 1] == '/' &&
            bk_slice_equal_ignore_case(bk_slice_make(html.data + i + 2, name.length), name) &&
            (is_space(html.data[end]) || html.data[end] == '/' || html.data[end] == '>'))
            break;
    }
    if (!IS_ONE_OF(name, left_out) && !(reader->is_in_head && IS_ONE_OF(name, of_head)))
        append_text(reader, bk_slice_make(html.data + begin, i - begin), is_text);
    reader->position = i;
}

static void read_start(struct reader *reader, struct bk_slice name) {
    if (is_named(name, "html") || is_named(name, "head") || is_named(name, "body"))
        return;
    reader->is_in_head = reader->is_in_head && IS_ONE_OF(name, of_head);
    close_before(reader, name);
    open_element(reader, name);
    if (IS_ONE_OF(name, raw))
        read_raw(reader, name);
    else if (IS_ONE_OF(name, without_end))
        close_element(reader, name);
}

static void read_tag(struct reader *reader) {
    struct bk_slice html = reader->html;
    bool is_end = html.data[reader->position + 1] == '/';
    size_t begin = reader->position + (is_end ? 2 : 1), i = begin;
    while (i < html.length && !is_space(html.data[i]) && html.data[i] != '/' && html.data[i] != '>')
        i++;
    struct bk_slice name = bk_slice_make(html.data + begin, i - begin);
    reader->position = skip_attributes(reader, i);
    if (reader->position == html.length && html.data[html.length - 1] != '>')
        return; /* it has no end: it is no tag */
    if (is_end)
        close_element(reader, name);
    else
        read_start(reader, name);
}

/* Whether something else than text begins here; then it is read. */
static bool read_markup(struct reader *reader) {
    struct bk_slice html = reader->html;
    size_t i = reader->position;
    char c = i + 1 < html.length ? html.data[i + 1] : ' ';
    char d = i + 2 < html.length ? html.data[i + 2] : ' ';
    if (is_letter(c) || (c == '/' && is_letter(d))) {
        read_tag(reader);
        return true;
    }
    if (c != '!' && c != '?' && (c != '/' || i + 2 >= html.length))
        return false;
    bool is_comment = starts_with(reader, i, "<!--");
    size_t end = find_from(reader, is_comment ? i + 4 : i + 2, is_comment ? "-->" : ">");
    end += is_comment ? 3 : 1;
    reader->position = end < html.length ? end : html.length;
    return true;
}

static void read_all(struct reader *reader) {
    struct bk_slice html = reader->html;
    while (reader->position < html.length) {
        if (html.data[reader->position] == '<' && read_markup(reader))
            continue;
        size_t begin = reader->position++;
        while (reader->position < html.length && html.data[reader->position] != '<')
            reader->position++;
        append_text(reader, bk_slice_make(html.data + begin, reader->position - begin), true);
    }
}

/* --- cutting ---------------------------------------------------------------------------------- */

static size_t character_bytes(const char *at) {
    unsigned char c = (unsigned char)*at;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* How long the white space at the beginning of text is, which may be of more than one byte. */
static size_t space_bytes(struct bk_slice text) {
    static const char *const spaces[] = {" ",
                                         "\t",
                                         "\n",
                                         "\v",
                                         "\f",
                                         "\r",
                                         "\xc2\x85",
                                         "\xc2\xa0",
                                         "\xe1\x9a\x80",
                                         "\xe2\x80\x80",
                                         "\xe2\x80\x81",
                                         "\xe2\x80\x82",
                                         "\xe2\x80\x83",
                                         "\xe2\x80\x84",
                                         "\xe2\x80\x85",
                                         "\xe2\x80\x86",
                                         "\xe2\x80\x87",
                                         "\xe2\x80\x88",
                                         "\xe2\x80\x89",
                                         "\xe2\x80\x8a",
                                         "\xe2\x80\xa8",
                                         "\xe2\x80\xa9",
                                         "\xe2\x80\xaf",
                                         "\xe2\x81\x9f",
                                         "\xe3\x80\x80"};
    for (size_t i = 0; i < BK_COUNT_OF(spaces); i++)
        if (bk_slice_starts_with(text, bk_slice_from(spaces[i])))
            return strlen(spaces[i]);
    return 0;
}

static struct bk_slice trim(struct bk_slice text) {
    size_t bytes, end = 0;
    while (text.length > 0 && (bytes = space_bytes(text)) > 0)
        text = bk_slice_make(text.data + bytes, text.length - bytes);
    for (size_t i = 0; i < text.length;) {
        bytes = space_bytes(bk_slice_make(text.data + i, text.length - i));
        i += bytes > 0 ? bytes : character_bytes(text.data + i);
        if (bytes == 0)
            end = i;
    }
    return bk_slice_make(text.data, end < text.length ? end : text.length);
}

void api_excerpt(struct bk_slice html, size_t max, bool has_ellipsis, struct bk_buffer *out) {
    struct reader reader = {.html = html, .max = max, .is_in_head = true, .ends_in_space = true};
    bk_buffer_init(&reader.text, html.length + 16);
    bk_buffer_append_char(&reader.text, ' '); /* the root is a block */
    read_all(&reader);
    struct bk_slice text = trim(bk_buffer_slice(&reader.text));
    size_t cut = 0;
    for (size_t count = 0; cut < text.length && count < max; count++)
        cut += character_bytes(text.data + cut);
    bool is_cut = cut < text.length;
    bk_buffer_append_slice(out, is_cut ? trim(bk_slice_make(text.data, cut)) : text);
    if (is_cut && has_ellipsis)
        bk_buffer_append_literal(out, "...");
    bk_buffer_fini(&reader.text);
}
