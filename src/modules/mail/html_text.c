/*
 * The text of a page, for those who read mails without one: paragraphs apart by an empty line,
 * lists with dashes or numbers, links with their addresses behind them, pictures by what they are
 * called. Read in one pass, without a tree: tags open and close nothing here but a little state, so
 * that broken HTML costs nothing but its looks.
 *
 * White space is one space, and line ends are wished for rather than written: they come before the
 * next word, as many as the strongest wish wants.
 */
#include "mail.h"

enum {
    LISTS_MAX = 16,
    TAG_BYTES_MAX = 8 * 1024,
    BAD_TAGS_MAX =
        1000, /* that never end: past it none is looked for, so that the work is bounded */
};

struct reader {
    struct bk_slice html;
    size_t at;
    struct bk_buffer *out;
    uint32_t breaks_wanted; /* line ends before the next word */
    bool is_space_wanted;
    bool is_preformatted;
    bool is_behind_dash; /* of an item: what comes next stands on its line */
    uint32_t bad_tags;
    struct bk_slice address; /* of the link that is open */
    size_t label_from;       /* where its text began in out */
    bool has_link;
    uint32_t list_depth;
    uint32_t numbers[LISTS_MAX]; /* of the next item; 0: a dash */
};

struct tag {
    struct bk_slice name; /* as it stands */
    struct bk_slice attributes;
    bool is_closing;
};

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static bool is_tag(const struct tag *tag, const char *name) {
    return bk_slice_equal_ignore_case(tag->name, bk_slice_from(name));
}

static bool is_one_of(const struct tag *tag, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (is_tag(tag, names[i]))
            return true;
    return false;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void want_breaks(struct reader *reader, uint32_t count) {
    if (reader->breaks_wanted < count)
        reader->breaks_wanted = count;
}

static void before_word(struct reader *reader) {
    bool is_first = reader->out->length == 0 || reader->is_behind_dash;
    if (reader->breaks_wanted > 0)
        reader->is_space_wanted = false;
    for (uint32_t i = 0; i < reader->breaks_wanted && !is_first; i++)
        bk_buffer_append_char(reader->out, '\n');
    if (reader->is_space_wanted && !is_first)
        bk_buffer_append_char(reader->out, ' ');
    reader->breaks_wanted = 0;
    reader->is_space_wanted = false;
    reader->is_behind_dash = false;
}

static void put(struct reader *reader, struct bk_slice word) {
    before_word(reader);
    bk_buffer_append_slice(reader->out, word);
}

static void put_character(struct reader *reader, uint32_t code) {
    char bytes[4];
    size_t length = 0;
    if (code == 0xa0) { /* a space that does not break */
        reader->is_space_wanted = true;
        return;
    }
    if (code < 0x80) {
        bytes[length++] = (char)code;
    } else if (code < 0x800) {
        bytes[length++] = (char)(0xc0 | code >> 6);
        bytes[length++] = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        bytes[length++] = (char)(0xe0 | code >> 12);
        bytes[length++] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[length++] = (char)(0x80 | (code & 0x3f));
    } else {
        bytes[length++] = (char)(0xf0 | code >> 18);
        bytes[length++] = (char)(0x80 | (code >> 12 & 0x3f));
        bytes[length++] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[length++] = (char)(0x80 | (code & 0x3f));
    }
    put(reader, bk_slice_make(bytes, length));
}

/* --- references: &amp; &#39; &#x27; ----------------------------------------------------------- */

static bool is_character(uint32_t code) {
    return code >= 0x20 && code != 0x7f && code < 0x110000 && (code < 0xd800 || code > 0xdfff);
}

static bool read_number(struct bk_slice digits, uint32_t base, uint32_t *code) {
    *code = 0;
    for (size_t i = 0; i < digits.length; i++) {
        char c = digits.data[i];
        uint32_t digit = 16;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (is_letter(c) && (c | 0x20) <= 'f')
            digit = (uint32_t)((c | 0x20) - 'a') + 10;
        if (digit >= base || *code > 0x110000)
            return false;
        *code = *code * base + digit;
    }
    return digits.length > 0 && is_character(*code);
}

static bool read_name(struct bk_slice name, uint32_t *code) {
    static const struct {
        const char *name;
        uint32_t code;
    } names[] = {
        {"amp", '&'},      {"lt", '<'},        {"gt", '>'},       {"quot", '"'},
        {"apos", '\''},    {"nbsp", 0xa0},     {"copy", 0xa9},    {"reg", 0xae},
        {"trade", 0x2122}, {"hellip", 0x2026}, {"mdash", 0x2014}, {"ndash", 0x2013},
        {"lsquo", 0x2018}, {"rsquo", 0x2019},  {"ldquo", 0x201c}, {"rdquo", 0x201d},
        {"bull", 0x2022},  {"middot", 0xb7},   {"euro", 0x20ac},  {"pound", 0xa3},
        {"auml", 0xe4},    {"ouml", 0xf6},     {"uuml", 0xfc},    {"Auml", 0xc4},
        {"Ouml", 0xd6},    {"Uuml", 0xdc},     {"szlig", 0xdf},   {"eacute", 0xe9},
        {"egrave", 0xe8},  {"agrave", 0xe0},   {"ccedil", 0xe7},  {"laquo", 0xab},
        {"raquo", 0xbb},   {"rarr", 0x2192},   {"larr", 0x2190},  {"times", 0xd7},
    };
    for (size_t i = 0; i < BK_COUNT_OF(names); i++)
        if (bk_slice_equal(name, bk_slice_from(names[i].name))) {
            *code = names[i].code;
            return true;
        }
    return false;
}

/* The reference that text begins with: its length, or 0 when it begins with none. */
static size_t read_reference(struct bk_slice text, uint32_t *code) {
    enum { REFERENCE_BYTES_MAX = 12 };
    size_t end = 1;
    while (end < text.length && end < REFERENCE_BYTES_MAX && text.data[end] != ';')
        end++;
    if (end >= text.length || text.data[end] != ';' || end < 2)
        return 0;
    struct bk_slice name = bk_slice_make(text.data + 1, end - 1);
    bool is_known;
    if (name.data[0] != '#')
        is_known = read_name(name, code);
    else if (name.length > 1 && (name.data[1] | 0x20) == 'x')
        is_known = read_number(bk_slice_make(name.data + 2, name.length - 2), 16, code);
    else
        is_known = read_number(bk_slice_make(name.data + 1, name.length - 1), 10, code);
    return is_known ? end + 1 : 0;
}

/* A value of an attribute, with its references read. */
static void put_value(struct reader *reader, struct bk_slice value) {
    uint32_t code = 0;
    before_word(reader);
    for (size_t i = 0; i < value.length;) {
        struct bk_slice rest = bk_slice_make(value.data + i, value.length - i);
        size_t length = value.data[i] == '&' ? read_reference(rest, &code) : 0;
        if (length > 0)
            put_character(reader, code);
        else if (!is_space(value.data[i]))
            bk_buffer_append_char(reader->out, value.data[i]);
        else
            bk_buffer_append_char(reader->out, ' ');
        i += length > 0 ? length : 1;
    }
}

/* --- tags ------------------------------------------------------------------------------------- */

/* Where the tag ends whose attributes begin at at: at a '>' that is not quoted. The length of the
 * page: nowhere near. */
static size_t end_of_tag(const struct reader *reader, size_t at) {
    size_t length = reader->html.length, end = at;
    char quote = '\0';
    for (; end < length && end - at < TAG_BYTES_MAX; end++) {
        char c = reader->html.data[end];
        if (quote == '\0' && c == '>')
            return end;
        if (quote != '\0' && c == quote)
            quote = '\0';
        else if (quote == '\0' && (c == '"' || c == '\''))
            quote = c;
    }
    return length;
}

/* Moves behind it. False: it is none, and nothing has moved. */
static bool read_tag(struct reader *reader, struct tag *tag) {
    const char *data = reader->html.data;
    size_t length = reader->html.length, at = reader->at + 1;
    tag->is_closing = at < length && data[at] == '/';
    at += tag->is_closing;
    size_t name = at;
    if (at >= length || !is_letter(data[at]) || reader->bad_tags >= BAD_TAGS_MAX)
        return false;
    while (at < length && at - name < TAG_BYTES_MAX && !is_space(data[at]) && data[at] != '>' &&
           data[at] != '/')
        at++;
    tag->name = bk_slice_make(data + name, at - name);
    size_t end = end_of_tag(reader, at);
    if (end >= length) {
        reader->bad_tags++;
        return false;
    }
    tag->attributes = bk_slice_make(data + at, end - at);
    reader->at = end + 1;
    return true;
}

/* The value behind '=' at *at, which is moved behind it. */
static struct bk_slice read_attribute_value(struct bk_slice text, size_t *at) {
    char quote = *at < text.length ? text.data[*at] : '\0';
    bool is_quoted = quote == '"' || quote == '\'';
    *at += is_quoted;
    size_t from = *at;
    while (*at < text.length && (is_quoted ? text.data[*at] != quote : !is_space(text.data[*at])))
        ++*at;
    struct bk_slice value = bk_slice_make(text.data + from, *at - from);
    *at += is_quoted;
    return value;
}

static struct bk_slice attribute(const struct tag *tag, const char *wanted) {
    struct bk_slice text = tag->attributes;
    size_t at = 0;
    while (at < text.length) {
        while (at < text.length && (is_space(text.data[at]) || text.data[at] == '/'))
            at++;
        size_t from = at;
        while (at < text.length && !is_space(text.data[at]) && text.data[at] != '=')
            at++;
        struct bk_slice name = bk_slice_make(text.data + from, at - from);
        while (at < text.length && is_space(text.data[at]))
            at++;
        if (at >= text.length || text.data[at] != '=') {
            at += at == from; /* a stray character: on */
            continue;
        }
        at++;
        while (at < text.length && is_space(text.data[at]))
            at++;
        struct bk_slice value = read_attribute_value(text, &at);
        if (bk_slice_equal_ignore_case(name, bk_slice_from(wanted)))
            return value;
    }
    return BK_SLICE_EMPTY;
}

/* --- links, lists, pictures ------------------------------------------------------------------- */

/* "Verify <https://…>"; the address alone where it is the text, or where there is no text. */
static void end_link(struct reader *reader) {
    if (!reader->has_link || reader->out->is_overflown)
        return;
    reader->has_link = false;
    struct bk_slice address = reader->address;
    struct bk_slice label = BK_SLICE_EMPTY;
    if (reader->label_from < reader->out->length)
        label = bk_slice_trim(bk_slice_make(reader->out->data + reader->label_from,
                                            reader->out->length - reader->label_from));
    if (address.length == 0 || address.data[0] == '#' || bk_slice_equal(label, address))
        return;
    if (bk_slice_starts_with(address, BK_SLICE("mailto:")) && bk_slice_ends_with(address, label))
        return;
    bool has_label = label.length > 0;
    reader->is_space_wanted = reader->is_space_wanted || has_label;
    put(reader, has_label ? BK_SLICE("<") : BK_SLICE_EMPTY);
    put_value(reader, address);
    bk_buffer_append_slice(reader->out, has_label ? BK_SLICE(">") : BK_SLICE_EMPTY);
}

static void begin_link(struct reader *reader, const struct tag *tag) {
    end_link(reader); /* one that was left open */
    reader->address = bk_slice_trim(attribute(tag, "href"));
    reader->label_from = reader->out->length;
    reader->has_link = true;
}

static void on_list(struct reader *reader, const struct tag *tag) {
    want_breaks(reader, reader->list_depth > (tag->is_closing ? 1U : 0U) ? 1 : 2);
    if (tag->is_closing) {
        reader->list_depth -= reader->list_depth > 0;
        return;
    }
    if (reader->list_depth < LISTS_MAX)
        reader->numbers[reader->list_depth] = is_tag(tag, "ol") ? 1 : 0;
    reader->list_depth++;
}

static void on_item(struct reader *reader) {
    uint32_t depth = reader->list_depth;
    want_breaks(reader, 1);
    before_word(reader);
    for (uint32_t i = 1; i < depth && i < LISTS_MAX; i++)
        bk_buffer_append_literal(reader->out, "  ");
    uint32_t *number = depth > 0 && depth <= LISTS_MAX ? &reader->numbers[depth - 1] : NULL;
    if (number == NULL || *number == 0)
        bk_buffer_append_literal(reader->out, "- ");
    else
        bk_buffer_format(reader->out, "%u. ", (*number)++);
    reader->is_behind_dash = true;
}

static void on_picture(struct reader *reader, const struct tag *tag) {
    struct bk_slice alternative = bk_slice_trim(attribute(tag, "alt"));
    if (alternative.length == 0)
        return;
    put_value(reader, alternative);
    reader->is_space_wanted = true;
}

static void put_rule(struct reader *reader) {
    want_breaks(reader, 1);
    put(reader, BK_SLICE("---"));
    want_breaks(reader, 1);
}

/* --- the page --------------------------------------------------------------------------------- */

/* What is between such a tag and its end is for nobody to read. */
static void skip_content(struct reader *reader, const struct tag *opened) {
    while (reader->at < reader->html.length) {
        struct tag tag;
        size_t before = reader->at;
        if (reader->html.data[before] == '<' && read_tag(reader, &tag) && tag.is_closing &&
            bk_slice_equal_ignore_case(tag.name, opened->name))
            return;
        reader->at = before + 1;
    }
}

static void on_tag(struct reader *reader, const struct tag *tag) {
    static const char *const unread[] = {"style",  "script",   "title",    "iframe",
                                         "object", "svg",      "textarea", "select",
                                         "button", "template", "applet"};
    static const char *const paragraphs[] = {"p",  "h1", "h2",    "h3",         "h4",
                                             "h5", "h6", "table", "blockquote", "pre"};
    static const char *const blocks[] = {"div",    "tr",      "section", "article", "header", "dt",
                                         "footer", "address", "main",    "form",    "body",   "dd"};
    if (!tag->is_closing && is_one_of(tag, unread, BK_COUNT_OF(unread)))
        skip_content(reader, tag);
    else if (is_tag(tag, "br"))
        reader->breaks_wanted++;
    else if (is_tag(tag, "a") && !tag->is_closing)
        begin_link(reader, tag);
    else if (is_tag(tag, "a"))
        end_link(reader);
    else if (is_tag(tag, "ul") || is_tag(tag, "ol"))
        on_list(reader, tag);
    else if (is_tag(tag, "li") && !tag->is_closing)
        on_item(reader);
    else if (is_tag(tag, "img"))
        on_picture(reader, tag);
    else if (is_tag(tag, "hr"))
        put_rule(reader);
    else if (is_tag(tag, "td") || is_tag(tag, "th"))
        reader->is_space_wanted = true;
    else if (is_one_of(tag, paragraphs, BK_COUNT_OF(paragraphs)))
        want_breaks(reader, 2);
    else if (is_one_of(tag, blocks, BK_COUNT_OF(blocks)))
        want_breaks(reader, 1);
    if (is_tag(tag, "pre"))
        reader->is_preformatted = !tag->is_closing;
}

/* "<!-- … -->", "<!doctype …>", "<?xml …?>". False: it is none. */
static bool skip_declaration(struct reader *reader) {
    struct bk_slice rest =
        bk_slice_make(reader->html.data + reader->at, reader->html.length - reader->at);
    bool is_comment = bk_slice_starts_with(rest, BK_SLICE("<!--"));
    if (!is_comment && !bk_slice_starts_with(rest, BK_SLICE("<!")) &&
        !bk_slice_starts_with(rest, BK_SLICE("<?")))
        return false;
    const struct bk_slice end = is_comment ? BK_SLICE("-->") : BK_SLICE(">");
    size_t at = is_comment ? 4 : 2;
    while (at < rest.length &&
           !bk_slice_starts_with(bk_slice_make(rest.data + at, rest.length - at), end))
        at++;
    reader->at += at < rest.length ? at + end.length : rest.length;
    return true;
}

static void read_character(struct reader *reader) {
    struct bk_slice rest =
        bk_slice_make(reader->html.data + reader->at, reader->html.length - reader->at);
    uint32_t code = 0;
    char c = rest.data[0];
    size_t length = c == '&' ? read_reference(rest, &code) : 0;
    if (length > 0)
        put_character(reader, code);
    else if (c == '\n' && reader->is_preformatted)
        reader->breaks_wanted++;
    else if (is_space(c) && !reader->is_preformatted)
        reader->is_space_wanted = true;
    else if ((unsigned char)c >= 0x20 && c != 0x7f)
        put(reader, bk_slice_make(&c, 1));
    reader->at += length > 0 ? length : 1;
}

void mail_html_to_text(struct bk_slice html, struct bk_buffer *out) {
    struct reader reader = {.html = html, .out = out};
    struct tag tag;
    while (reader.at < html.length) {
        if (html.data[reader.at] == '<' && skip_declaration(&reader))
            continue;
        if (html.data[reader.at] == '<' && read_tag(&reader, &tag))
            on_tag(&reader, &tag);
        else
            read_character(&reader);
    }
    end_link(&reader);
    if (out->length > 0)
        bk_buffer_append_char(out, '\n');
}
