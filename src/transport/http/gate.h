/*
 * The gate: reads the raw bytes of a request's head before the parser sees them.
 *
 * Two readers that disagree about where a request ends are how requests are smuggled, so everything
 * that two readers have ever disagreed about is refused here (RFC 9112; the rows are tried one by
 * one in the tests): line ends other than CRLF, folded lines, names that are no tokens, a space
 * before the colon, control bytes in values, targets with bytes outside 0x21–0x7E, any version but
 * HTTP/1.0 and HTTP/1.1, no Host or two or one that is more than a name and a port, a
 * Transfer-Encoding that is not exactly "chunked" or that comes with HTTP/1.0 or beside a
 * Content-Length, a Content-Length that is not plain digits or that comes twice.
 *
 * A pure function over bytes: it is fuzzed.
 */
#ifndef BAKEND_HTTP_GATE_H
#define BAKEND_HTTP_GATE_H

#include "bakend/api.h"

struct http_head {
    struct bk_slice method, target, host;
    struct bk_header *headers; /* the caller's, of BK_REQUEST_HEADERS_MAX */
    uint32_t header_count;
    uint8_t minor_version; /* HTTP/1.x */
    bool is_chunked, has_content_length, expects_continue, keeps_alive;
    uint64_t content_length;
};

struct http_refusal {
    int status; /* 0: none */
    const char *reason;
};

/* text is a whole head, from the request line to the empty line; names are put into lower case in
 * place. Slices of head point into it. */
struct http_refusal http_gate_read(char *text, size_t length, size_t line_max_bytes,
                                   struct http_head *head);

/* Finds the end of a head in text, of which the first *scanned bytes were looked at by earlier
 * calls (*line_start: where the current line begins). Returns the length of the head, 0 when it is
 * not complete; a line that does not end in CRLF is a refusal. */
size_t http_gate_find_end(const char *text, size_t length, size_t *scanned, size_t *line_start,
                          struct http_refusal *refusal);

/* Of a header's name and value. */
bool http_gate_is_token_byte(char byte);
bool http_gate_is_value_byte(char byte);

#endif
