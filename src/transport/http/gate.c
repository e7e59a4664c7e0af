/* The gate (see gate.h). */
#include "gate.h"

#include "bakend/assert.h"

enum { METHOD_BYTES_MAX = 32, LENGTH_DIGITS_MAX = 18 };

enum {
    BYTE_TOKEN = 1,  /* RFC 9110, 5.6.2: letters, digits, !#$%&'*+-.^_`|~ */
    BYTE_VALUE = 2,  /* RFC 9110, 5.5: tab, space, visible ASCII, bytes from 0x80 */
    BYTE_TARGET = 4, /* visible ASCII */
    BYTE_HOST = 8,   /* RFC 3986, 3.2.2: of a name, but no comma, which proxies make lists of */
};

/* The classes of each byte. */
/* clang-format off */
static const uint8_t classes[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0, /* 00 */
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0, /* 10 */
     2, 15,  6,  7, 15, 15, 15, 15, 14, 14, 15, 15,  6, 15, 15,  6, /* 20 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6, 14,  6, 14,  6,  6, /* 30 */
     6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* 40 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6,  6,  6,  7, 15, /* 50 */
     7, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* 60 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6,  7,  6, 15,  0, /* 70 */
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2, /* 80 */
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2, /* 90 */
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2, /* a0 */
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2, /* b0 */
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2, /* c0 */
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2, /* d0 */
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2, /* e0 */
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2, /* f0 */
};
/* clang-format on */

static bool consists_of(struct bk_slice text, uint8_t class) {
    uint8_t common = 0xff;
    for (size_t i = 0; i < text.length; i++)
        common &= classes[(uint8_t)text.data[i]];
    return (common & class) != 0;
}

static struct http_refusal refuse(int status, const char *reason) {
    return (struct http_refusal){status, reason};
}

static const struct http_refusal accepted = {0, NULL};

/* --- the request line ------------------------------------------------------------------------- */

static struct http_refusal read_version(struct bk_slice text, struct http_head *head) {
    if (bk_slice_is(text, "HTTP/1.1"))
        head->minor_version = 1;
    else if (bk_slice_is(text, "HTTP/1.0"))
        head->minor_version = 0;
    else if (text.length == 8 && bk_slice_starts_with(text, BK_SLICE("HTTP/")) &&
             text.data[6] == '.')
        return refuse(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
    else
        return refuse(400, "The request line must end in HTTP/1.0 or HTTP/1.1.");
    return accepted;
}

static bool is_port(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return true;
}

/* A name or an address in brackets, maybe with a port: no user, no list, no path. */
static bool is_host(struct bk_slice text) {
    bool is_bracketed = text.length > 0 && text.data[0] == '[';
    size_t at = bk_slice_find(text, is_bracketed ? ']' : ':');
    struct bk_slice name = bk_slice_make(text.data, at), rest;
    if (is_bracketed) {
        if (at == text.length)
            return false;
        name = bk_slice_make(text.data + 1, at - 1);
        at++;
    }
    for (size_t i = 0; i < name.length; i++)
        if ((classes[(uint8_t)name.data[i]] & BYTE_HOST) == 0 &&
            !(is_bracketed && name.data[i] == ':'))
            return false;
    rest = bk_slice_make(text.data + at, text.length - at);
    return name.length > 0 &&
           (rest.length == 0 ||
            (rest.data[0] == ':' && is_port(bk_slice_make(rest.data + 1, rest.length - 1))));
}

static bool is_absolute(struct bk_slice target) {
    size_t at = bk_slice_find(target, ':');
    struct bk_slice scheme = bk_slice_make(target.data, at);
    struct bk_slice rest = bk_slice_make(target.data + at, target.length - at);
    if ((!bk_slice_equal_ignore_case(scheme, BK_SLICE("http")) &&
         !bk_slice_equal_ignore_case(scheme, BK_SLICE("https"))) ||
        !bk_slice_starts_with(rest, BK_SLICE("://")))
        return false;
    rest = bk_slice_make(rest.data + 3, rest.length - 3);
    return is_host(bk_slice_make(rest.data, bk_slice_find(rest, '/')));
}

/* Origin form, or the absolute form of "http:" and "https:", or "*" for OPTIONS. */
static bool is_target(struct bk_slice method, struct bk_slice target) {
    if (target.length == 0 || !consists_of(target, BYTE_TARGET) ||
        memchr(target.data, '#', target.length) != NULL)
        return false;
    if (target.data[0] == '/')
        return true;
    if (bk_slice_is(target, "*"))
        return bk_slice_is(method, "OPTIONS");
    return is_absolute(target);
}

static struct http_refusal read_request_line(struct bk_slice line, struct http_head *head) {
    size_t at = bk_slice_find(line, ' ');
    struct bk_slice rest;
    head->method = bk_slice_make(line.data, at);
    if (at == 0 || at == line.length || at > METHOD_BYTES_MAX ||
        !consists_of(head->method, BYTE_TOKEN))
        return refuse(400, "The request line must be: method, target, version.");
    rest = bk_slice_make(line.data + at + 1, line.length - at - 1);
    at = bk_slice_find(rest, ' ');
    head->target = bk_slice_make(rest.data, at);
    if (at == rest.length)
        return refuse(400, "The request line must be: method, target, version.");
    if (bk_slice_is(head->method, "CONNECT"))
        return refuse(501, "CONNECT is not supported: this is no proxy.");
    if (!is_target(head->method, head->target))
        return refuse(400, "The request target must be a path of visible ASCII characters.");
    return read_version(bk_slice_make(rest.data + at + 1, rest.length - at - 1), head);
}

/* --- fields ----------------------------------------------------------------------------------- */

static struct http_refusal read_content_length(struct bk_slice value, struct http_head *head) {
    uint64_t length = 0;
    if (head->has_content_length)
        return refuse(400, "Content-Length may come only once.");
    if (value.length == 0 || value.length > LENGTH_DIGITS_MAX)
        return refuse(400, "Content-Length must be a plain number.");
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return refuse(400, "Content-Length must be a plain number.");
        length = length * 10 + (uint64_t)(value.data[i] - '0');
    }
    head->has_content_length = true;
    head->content_length = length;
    return accepted;
}

static struct http_refusal read_transfer_encoding(struct bk_slice value, struct http_head *head) {
    if (head->is_chunked)
        return refuse(400, "Transfer-Encoding may come only once.");
    if (!bk_slice_equal_ignore_case(value, BK_SLICE("chunked")))
        return refuse(400, "The only Transfer-Encoding is chunked.");
    head->is_chunked = true;
    return accepted;
}

static struct http_refusal read_host(struct bk_slice value, struct http_head *head) {
    if (head->host.data != NULL)
        return refuse(400, "Host may come only once.");
    if (value.length > 0 && !is_host(value))
        return refuse(400, "Host must be a name and maybe a port.");
    head->host = value;
    return accepted;
}

static struct http_refusal read_connection(struct bk_slice value, struct http_head *head) {
    struct bk_slice part;
    while (value.length > 0 && bk_slice_split(&value, ',', &part)) {
        part = bk_slice_trim(part);
        if (bk_slice_equal_ignore_case(part, BK_SLICE("close")))
            head->keeps_alive = false;
        else if (head->minor_version == 0 &&
                 bk_slice_equal_ignore_case(part, BK_SLICE("keep-alive")))
            head->keeps_alive = true;
    }
    return accepted;
}

static struct http_refusal read_expect(struct bk_slice value, struct http_head *head) {
    if (!bk_slice_equal_ignore_case(value, BK_SLICE("100-continue")))
        return refuse(417, "The only expectation that can be met is 100-continue.");
    head->expects_continue = head->minor_version == 1;
    return accepted;
}

/* The fields that decide where a request ends. Dispatched by length first: most headers are
 * none. */
static struct http_refusal read_framing(const struct bk_header *header, struct http_head *head) {
    switch (header->name.length) {
    case 4:
        if (bk_slice_is(header->name, "host"))
            return read_host(header->value, head);
        break;
    case 6:
        if (bk_slice_is(header->name, "expect"))
            return read_expect(header->value, head);
        break;
    case 10:
        if (bk_slice_is(header->name, "connection"))
            return read_connection(header->value, head);
        break;
    case 14:
        if (bk_slice_is(header->name, "content-length"))
            return read_content_length(header->value, head);
        break;
    case 17:
        if (bk_slice_is(header->name, "transfer-encoding"))
            return read_transfer_encoding(header->value, head);
        break;
    default:
        break;
    }
    return accepted;
}

static void lower(char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] >= 'A' && text[i] <= 'Z')
            text[i] = (char)(text[i] | 0x20);
}

/* Spaces and tabs only: a stray CR must stay, to be refused. */
static struct bk_slice trim_spaces(struct bk_slice text) {
    while (text.length > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = bk_slice_make(text.data + 1, text.length - 1);
    while (text.length > 0 &&
           (text.data[text.length - 1] == ' ' || text.data[text.length - 1] == '\t'))
        text.length--;
    return text;
}

static struct http_refusal read_field(char *line, size_t length, struct http_head *head) {
    const char *colon = memchr(line, ':', length);
    size_t at = colon == NULL ? 0 : (size_t)(colon - line);
    struct bk_header *header;
    if (line[0] == ' ' || line[0] == '\t')
        return refuse(400, "A header may not be folded over several lines.");
    if (at == 0 || !consists_of(bk_slice_make(line, at), BYTE_TOKEN))
        return refuse(400, "A header must be a name, a colon and a value.");
    if (head->header_count == BK_REQUEST_HEADERS_MAX)
        return refuse(431, "The request has more than 100 headers.");
    lower(line, at);
    header = &head->headers[head->header_count++];
    header->name = bk_slice_make(line, at);
    header->value = trim_spaces(bk_slice_make(line + at + 1, length - at - 1));
    if (header->value.length > 0 && !consists_of(header->value, BYTE_VALUE))
        return refuse(400, "A header's value may not hold control characters.");
    return read_framing(header, head);
}

/* What only the whole tells. */
static struct http_refusal check_whole(const struct http_head *head) {
    if (head->minor_version == 1 && head->host.data == NULL)
        return refuse(400, "An HTTP/1.1 request must have a Host header.");
    if (head->is_chunked && head->minor_version == 0)
        return refuse(400, "HTTP/1.0 has no Transfer-Encoding.");
    if (head->is_chunked && head->has_content_length)
        return refuse(400, "Content-Length and Transfer-Encoding exclude each other.");
    return accepted;
}

struct http_refusal http_gate_read(char *text, size_t length, size_t line_max_bytes,
                                   struct http_head *head) {
    struct bk_header *headers = head->headers;
    struct http_refusal refusal = accepted;
    char *cursor = text, *end = text + length;
    bool is_first = true;
    BK_ASSERT(length >= 4 && memcmp(end - 4, "\r\n\r\n", 4) == 0);
    memset(head, 0, sizeof(*head));
    head->headers = headers;
    end -= 2; /* the empty line */
    while (cursor < end && refusal.status == 0) {
        char *newline = memchr(cursor, '\n', (size_t)(end - cursor));
        size_t line_length;
        BK_ASSERT(newline != NULL);
        line_length = (size_t)(newline - cursor);
        if (line_length == 0 || newline[-1] != '\r')
            return refuse(400, "Lines must end in CR LF.");
        line_length--;
        if (is_first && line_length > line_max_bytes)
            return refuse(414, "The request line is too long.");
        if (is_first) {
            refusal = read_request_line(bk_slice_make(cursor, line_length), head);
            head->keeps_alive = head->minor_version == 1;
        } else {
            refusal = read_field(cursor, line_length, head);
        }
        is_first = false;
        cursor = newline + 1;
    }
    return refusal.status != 0 ? refusal : check_whole(head);
}

size_t http_gate_find_end(const char *text, size_t length, size_t *scanned, size_t *line_start,
                          struct http_refusal *refusal) {
    while (*scanned < length) {
        const char *newline = memchr(text + *scanned, '\n', length - *scanned);
        size_t at, line_length;
        if (newline == NULL) {
            *scanned = length;
            return 0;
        }
        at = (size_t)(newline - text);
        line_length = at - *line_start;
        if (line_length == 0 || text[at - 1] != '\r') {
            *refusal = refuse(400, "Lines must end in CR LF.");
            return 0;
        }
        *scanned = at + 1;
        if (line_length == 1)
            return at + 1;
        *line_start = at + 1;
    }
    return 0;
}

bool http_gate_is_token_byte(char byte) { return (classes[(uint8_t)byte] & BYTE_TOKEN) != 0; }

bool http_gate_is_value_byte(char byte) { return (classes[(uint8_t)byte] & BYTE_VALUE) != 0; }
