/*
 * What may be written on the wire: libcurl sends headers and SMTP addresses as they are given, so a
 * line end in one of them would be the caller's caller writing lines of the protocol.
 *
 * A message is checked for bare CR and LF, since servers disagree on whether they end a line, and
 * with a dot behind it a message: that is how a second mail is smuggled into one.
 */
#include "outbound_private.h"

enum {
    METHOD_MAX_BYTES = 32,
    HEADER_NAME_MAX_BYTES = 256,
    HEADERS_MAX_BYTES = 64 * 1024,
    ADDRESS_MAX_BYTES = 320, /* RFC 5321: 64 before the @, 255 after it */
    HOST_MAX_BYTES = 255,
    LOGIN_MAX_BYTES = 1024,
    FIRST_PRINTABLE = 0x20,
    DELETE = 0x7f
};

/* Where a message begins and ends and how the connection goes on is said by libcurl, once. */
static const char *const FRAMING_HEADERS[] = {
    "host",       "content-length",   "transfer-encoding", "connection",
    "keep-alive", "proxy-connection", "upgrade",           "te",
    "trailer",    "expect",           "http2-settings",
};

static bool is_token_char(char c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_token(struct bk_slice text, size_t max_bytes) {
    if (text.length == 0 || text.length > max_bytes)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (!is_token_char(text.data[i]))
            return false;
    }
    return true;
}

/* No control characters but those of allowed. */
static bool is_line(struct bk_slice text, char allowed) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if ((c < FIRST_PRINTABLE || c == DELETE) && (c != (unsigned char)allowed || c == '\0'))
            return false;
    }
    return true;
}

bool outbound_text_is_line(struct bk_slice text) { return is_line(text, '\0'); }

static size_t whole_characters(const char *text, size_t length) {
    for (size_t cut = 0; cut < 4 && cut < length; cut++) {
        if (bk_slice_is_utf8(bk_slice_make(text, length - cut)))
            return length - cut;
    }
    return length;
}

size_t outbound_text_tidy(char *text, size_t length) {
    size_t kept = whole_characters(text, length);
    bool is_utf8 = bk_slice_is_utf8(bk_slice_make(text, kept));
    for (size_t i = 0; i < kept; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < FIRST_PRINTABLE || c == DELETE)
            text[i] = ' ';
        else if (c > DELETE && !is_utf8)
            text[i] = '?';
    }
    return kept;
}

/* --- HTTP ------------------------------------------------------------------------------------- */

static bool is_framing(struct bk_slice name) {
    for (size_t i = 0; i < BK_COUNT_OF(FRAMING_HEADERS); i++) {
        if (bk_slice_equal_ignore_case(name, bk_slice_from(FRAMING_HEADERS[i])))
            return true;
    }
    return false;
}

static bool are_headers_sendable(const struct bk_outbound_request *request) {
    size_t total = 0;
    if (request->header_count > BK_OUTBOUND_HEADERS_MAX)
        return false;
    for (size_t i = 0; i < request->header_count; i++) {
        const struct bk_outbound_header *header = &request->headers[i];
        if (!is_token(header->name, HEADER_NAME_MAX_BYTES) || is_framing(header->name))
            return false;
        if (header->value.length > HEADERS_MAX_BYTES || !is_line(header->value, '\t'))
            return false;
        total += header->name.length + header->value.length;
    }
    return total <= HEADERS_MAX_BYTES;
}

/* CONNECT asks for a tunnel, which this part does not make. An answer to HEAD says nothing of a
 * body, so libcurl sends none. */
bool outbound_web_is_sendable(const struct bk_outbound_request *request) {
    struct bk_slice method = bk_slice_from(request->method);
    if (!is_token(method, METHOD_MAX_BYTES) || bk_slice_is(method, "CONNECT"))
        return false;
    if (bk_slice_is(method, "HEAD") && request->body.length > 0)
        return false;
    if (request->url.length > BK_OUTBOUND_URL_MAX_BYTES || !is_line(request->url, '\0'))
        return false;
    return are_headers_sendable(request);
}

/* --- SMTP ------------------------------------------------------------------------------------- */

/* A blank or a bracket would end it, and begin parameters of the command. */
static bool is_address(struct bk_slice text) {
    if (text.length > ADDRESS_MAX_BYTES || !is_line(text, '\0'))
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (strchr(" <>", text.data[i]) != NULL)
            return false;
    }
    return true;
}

/* A domain or an address: nothing that would be another part of the URL that it is put into. */
static bool is_domain(struct bk_slice text, bool may_be_international) {
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool is_international = (unsigned char)c > DELETE && may_be_international;
        if (!is_plain && !is_international && (c == '\0' || strchr("-._:[]", c) == NULL))
            return false;
    }
    return text.length <= HOST_MAX_BYTES;
}

static bool has_lines_of_crlf(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == '\0' || (c == '\n' && (i == 0 || text.data[i - 1] != '\r')))
            return false;
        if (c == '\r' && (i + 1 == text.length || text.data[i + 1] != '\n'))
            return false;
    }
    return true;
}

bool outbound_mail_is_sendable(const struct bk_smtp *smtp) {
    if (smtp->host.length == 0 || smtp->port == 0 || !is_domain(smtp->host, true))
        return false;
    if (smtp->user.length > LOGIN_MAX_BYTES || smtp->password.length > LOGIN_MAX_BYTES ||
        !is_line(smtp->user, '\t') || !is_line(smtp->password, '\t'))
        return false;
    if (!is_domain(smtp->local_name, false) || !is_address(smtp->from))
        return false;
    if (smtp->recipient_count == 0 || smtp->recipient_count > BK_OUTBOUND_RECIPIENTS_MAX)
        return false;
    for (size_t i = 0; i < smtp->recipient_count; i++) {
        if (smtp->recipients[i].length == 0 || !is_address(smtp->recipients[i]))
            return false;
    }
    return smtp->message.length > 0 && has_lines_of_crlf(smtp->message);
}
