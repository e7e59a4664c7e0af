/*
 * What is put into a template. One pass from left to right: what was inserted is not looked at
 * again, so that a person who calls himself {TOKEN} gets no token. In a page everything is escaped;
 * in a line what could end it becomes a space. A name that nobody knows stays as it is, braces and
 * all.
 */
#include "mail.h"

enum { PLACEHOLDER_BYTES_MAX = 300 };

void mail_variables_add(struct mail_variables *variables, struct bk_slice name,
                        struct bk_slice value, bool is_public) {
    if (variables->count < MAIL_VARIABLES_MAX)
        variables->each[variables->count++] = (struct mail_variable){name, value, is_public};
}

static const struct mail_variable *find(const struct mail_variables *variables,
                                        struct bk_slice name) {
    for (size_t i = 0; i < variables->count; i++)
        if (bk_slice_equal(variables->each[i].name, name))
            return &variables->each[i];
    return NULL;
}

static void write_escaped(struct bk_buffer *out, struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        switch (text.data[i]) {
        case '&':
            bk_buffer_append_literal(out, "&amp;");
            break;
        case '<':
            bk_buffer_append_literal(out, "&lt;");
            break;
        case '>':
            bk_buffer_append_literal(out, "&gt;");
            break;
        case '"':
            bk_buffer_append_literal(out, "&#34;");
            break;
        case '\'':
            bk_buffer_append_literal(out, "&#39;");
            break;
        default:
            bk_buffer_append_char(out, text.data[i]);
        }
    }
}

static void write_on_line(struct bk_buffer *out, struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        bool is_control = (unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f;
        bk_buffer_append_char(out, is_control ? ' ' : text.data[i]);
    }
}

/* Of the template itself, which its author has written as it is to be. */
static void write_literal(struct bk_buffer *out, struct bk_slice text, enum mail_filling filling) {
    if (filling == MAIL_FILL_HTML)
        bk_buffer_append_slice(out, text);
    else
        write_on_line(out, text);
}

static void write_value(struct bk_buffer *out, struct bk_slice value, enum mail_filling filling) {
    if (filling == MAIL_FILL_HTML)
        write_escaped(out, value);
    else
        write_on_line(out, value);
}

/* The name of the placeholder that text begins with; data NULL: it begins with none. */
static struct bk_slice placeholder_at(struct bk_slice text) {
    for (size_t i = 1; i < text.length && i <= PLACEHOLDER_BYTES_MAX; i++) {
        if (text.data[i] == '}')
            return bk_slice_make(text.data + 1, i - 1);
        if (text.data[i] == '{')
            break;
    }
    return BK_SLICE_EMPTY;
}

void mail_template_fill(struct bk_slice text, const struct mail_variables *variables,
                        enum mail_filling filling, struct bk_buffer *out) {
    while (text.length > 0) {
        size_t length = bk_slice_find(text, '{');
        write_literal(out, bk_slice_make(text.data, length), filling);
        text = bk_slice_make(text.data + length, text.length - length);
        if (text.length == 0)
            return;
        struct bk_slice name = placeholder_at(text);
        const struct mail_variable *variable = name.data == NULL ? NULL : find(variables, name);
        if (variable == NULL || (filling == MAIL_FILL_PUBLIC_LINE && !variable->is_public)) {
            bk_buffer_append_char(out, '{');
            length = 1;
        } else {
            write_value(out, variable->value, filling);
            length = name.length + 2;
        }
        text = bk_slice_make(text.data + length, text.length - length);
    }
}

bool mail_template_lacks(struct bk_slice text, const struct mail_variables *variables,
                         struct bk_slice name) {
    const struct mail_variable *variable = find(variables, name);
    if (variable != NULL && variable->value.length > 0)
        return false;
    for (size_t at = bk_slice_find(text, '{'); at < text.length; at = bk_slice_find(text, '{')) {
        text = bk_slice_make(text.data + at, text.length - at);
        if (bk_slice_equal(placeholder_at(text), name))
            return true;
        text = bk_slice_make(text.data + 1, text.length - 1);
    }
    return false;
}

/* --- the page around it ----------------------------------------------------------------------- */

static const char page_head[] =
    "<!doctype html>\n"
    "<html>\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
    "<style>\n"
    "body { margin: 0; padding: 24px; background: #fff; color: #1f2430; }\n"
    "body, p, li, td { font: 15px/1.5 system-ui, -apple-system, sans-serif; }\n"
    "main { display: block; max-width: 560px; margin: 0 auto; }\n"
    "p { margin: 0 0 14px; }\n"
    "a { color: #1055c9; }\n"
    "a.btn { display: inline-block; padding: 10px 22px; border-radius: 4px; background: #1f2430;"
    " color: #fff; font-weight: bold; text-decoration: none; }\n"
    "</style>\n"
    "</head>\n"
    "<body>\n"
    "<main>\n";
static const char page_tail[] = "\n</main>\n</body>\n</html>\n";

static bool begins_with(struct bk_slice text, const char *beginning) {
    struct bk_slice wanted = bk_slice_from(beginning);
    return text.length >= wanted.length &&
           bk_slice_equal_ignore_case(bk_slice_make(text.data, wanted.length), wanted);
}

void mail_layout_write(struct bk_slice body, struct bk_buffer *out) {
    struct bk_slice trimmed = bk_slice_trim(body);
    bool is_page = begins_with(trimmed, "<!doctype") || begins_with(trimmed, "<html");
    if (!is_page)
        bk_buffer_append_slice(out, bk_slice_from(page_head));
    bk_buffer_append_slice(out, body);
    if (!is_page)
        bk_buffer_append_slice(out, bk_slice_from(page_tail));
}
