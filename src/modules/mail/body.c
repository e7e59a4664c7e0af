/*
 * Bodies for a wire that carries lines of ASCII: quoted-printable (RFC 2045) for what is mostly
 * ASCII, base64 for the rest. Line ends of any kind become CRLF. A dot or "From " at the beginning
 * of a line is encoded, so that no server on the way takes it for something else.
 */
#include "mail.h"

#include "bakend/encode.h"

enum { LINE_MAX = 76, BASE64_LINE_BYTES = 57 /* gives 76 */ };

/* --- what is encoded: lines ended by CRLF, whatever the text has ------------------------------ */

struct source {
    struct bk_slice text;
    size_t at;
};

/* A line without its end. False when there is none left. */
static bool next_line(struct source *source, struct bk_slice *line) {
    size_t at = source->at;
    if (at >= source->text.length)
        return false;
    while (at < source->text.length && source->text.data[at] != '\n' &&
           source->text.data[at] != '\r')
        at++;
    *line = bk_slice_make(source->text.data + source->at, at - source->at);
    if (at + 1 < source->text.length && source->text.data[at] == '\r' &&
        source->text.data[at + 1] == '\n')
        at++;
    source->at = at + 1;
    return true;
}

static bool is_printable(char c) { return c == '\t' || (c >= ' ' && c <= '~'); }

/* --- quoted-printable ------------------------------------------------------------------------- */

static bool must_be_quoted(struct bk_slice line, size_t at) {
    char c = line.data[at];
    return !is_printable(c) || c == '=' || ((c == ' ' || c == '\t') && at + 1 == line.length);
}

/* Whether what a line of the wire begins with could be taken for something else. */
static bool is_bad_beginning(struct bk_slice rest) {
    return rest.data[0] == '.' || bk_slice_starts_with(rest, BK_SLICE("From "));
}

/* A soft break leaves room for its own '='. */
static void write_quoted_line(struct bk_buffer *out, struct bk_slice line) {
    static const char digits[] = "0123456789ABCDEF";
    size_t column = 0;
    for (size_t i = 0; i < line.length; i++) {
        unsigned char c = (unsigned char)line.data[i];
        bool is_quoted = must_be_quoted(line, i);
        if (column + (is_quoted ? 3 : 1) > LINE_MAX - 1) {
            bk_buffer_append_literal(out, "=\r\n");
            column = 0;
        }
        if (column == 0)
            is_quoted =
                is_quoted || is_bad_beginning(bk_slice_make(line.data + i, line.length - i));
        if (is_quoted) {
            const char quoted[] = {'=', digits[c >> 4], digits[c & 0xf]};
            bk_buffer_append(out, quoted, sizeof quoted);
            column += sizeof quoted;
        } else {
            bk_buffer_append_char(out, (char)c);
            column++;
        }
    }
    bk_buffer_append_literal(out, "\r\n");
}

static void write_quoted(struct bk_buffer *out, struct bk_slice text) {
    struct source source = {text, 0};
    struct bk_slice line;
    while (next_line(&source, &line))
        write_quoted_line(out, line);
}

/* --- base64 ----------------------------------------------------------------------------------- */

struct base64 {
    struct bk_buffer *out;
    unsigned char bytes[BASE64_LINE_BYTES];
    size_t count;
};

static void flush(struct base64 *base64) {
    char line[BK_BASE64_BYTES(BASE64_LINE_BYTES)];
    if (base64->count == 0)
        return;
    bk_buffer_append(base64->out, line, bk_base64_encode(line, base64->bytes, base64->count));
    bk_buffer_append_literal(base64->out, "\r\n");
    base64->count = 0;
}

static void put(struct base64 *base64, struct bk_slice bytes) {
    for (size_t i = 0; i < bytes.length; i++) {
        base64->bytes[base64->count++] = (unsigned char)bytes.data[i];
        if (base64->count == BASE64_LINE_BYTES)
            flush(base64);
    }
}

static void write_base64(struct bk_buffer *out, struct bk_slice text) {
    struct base64 base64 = {.out = out, .count = 0};
    struct source source = {text, 0};
    struct bk_slice line;
    while (next_line(&source, &line)) {
        put(&base64, line);
        put(&base64, BK_SLICE("\r\n"));
    }
    flush(&base64);
}

/* --- the choice ------------------------------------------------------------------------------- */

/* Quoted-printable makes three bytes of one, base64 four of three. */
static bool is_mostly_ascii(struct bk_slice text) {
    size_t others = 0;
    for (size_t i = 0; i < text.length; i++)
        others += !is_printable(text.data[i]) && text.data[i] != '\n' && text.data[i] != '\r';
    return others <= text.length / 6;
}

void mail_body_write(struct bk_buffer *out, const char *type, struct bk_slice text) {
    bool is_quoted = is_mostly_ascii(text);
    bk_buffer_format(out,
                     "Content-Type: %s; charset=utf-8\r\n"
                     "Content-Transfer-Encoding: %s\r\n\r\n",
                     type, is_quoted ? "quoted-printable" : "base64");
    if (is_quoted)
        write_quoted(out, text);
    else
        write_base64(out, text);
}
