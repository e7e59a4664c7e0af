/*
 * The gate of chunked bodies: reads their framing strictly, before the parser does (RFC 9112, 7.1).
 *
 *   size    1 to 16 hexadecimal digits, then maybe ';' and an extension, CR LF
 *   data    so many bytes, CR LF
 *   …       and so on, until a size of 0
 *   trailer lines of a name, a colon and a value, not folded; none that would frame a message
 *   end     CR LF
 *
 * What it refuses is what parsers have read in different ways: line ends of CR or LF alone, spaces
 * around a size, control bytes in an extension, trailers that are no header lines. It says where
 * the body ends, and the parser must agree.
 *
 * A pure function over bytes: it gives the same result however they are cut.
 */
#ifndef BAKEND_HTTP_CHUNKS_H
#define BAKEND_HTTP_CHUNKS_H

#include <stddef.h>
#include <stdint.h>

enum { HTTP_CHUNKS_NAME_BYTES = 18 }; /* one more than the longest name that is looked for */

/* All zero: at the beginning. */
struct http_chunks {
    uint64_t left; /* of the chunk's data; while its size is read, the size so far */
    uint8_t state, digit_count;
    uint8_t name_length; /* of a trailer's name, of which the first bytes are kept */
    char name[HTTP_CHUNKS_NAME_BYTES];
};

enum http_chunks_result { HTTP_CHUNKS_MORE, HTTP_CHUNKS_END, HTTP_CHUNKS_BROKEN };

/* *used: how many bytes belong to the body, all of them with HTTP_CHUNKS_MORE. Not to be called
 * again after an end. */
enum http_chunks_result http_chunks_read(struct http_chunks *chunks, const char *data,
                                         size_t length, size_t *used);

#endif
