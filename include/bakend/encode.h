/* Text forms of bytes: base64url (RFC 4648, no padding), base64 (likewise, padded), hex,
 * percent-encoding (RFC 3986). */
#ifndef BAKEND_ENCODE_H
#define BAKEND_ENCODE_H

#include "bakend/arena.h"
#include "bakend/buffer.h"

#define BK_BASE64URL_BYTES(n) (((n)*4 + 2) / 3)

/* Returns the bytes written, BK_BASE64URL_BYTES(length). No NUL. */
size_t bk_base64url_encode(char *out, const void *data, size_t length);
/* False on any byte outside the alphabet, padding, wrong length or non-zero spare bits. *length in:
 * room of out; out: bytes written. */
bool bk_base64url_decode(struct bk_slice text, void *out, size_t *length);
/* The same with '+', '/' and padding, which is asked for. */
#define BK_BASE64_BYTES(n) (((n) + 2) / 3 * 4)
size_t bk_base64_encode(char *out, const void *data, size_t length);
bool bk_base64_decode(struct bk_slice text, void *out, size_t *length);
/* 2 × length lower-case digits, no NUL. */
void bk_hex_encode(char *out, const void *data, size_t length);
/* Decodes %XX, and '+' to a space when is_form; false on a broken escape. Borrows when nothing was
 * escaped, else a copy in the arena. */
bool bk_percent_decode(struct bk_arena *arena, struct bk_slice text, bool is_form,
                       struct bk_slice *out);
/* Everything but unreserved characters. */
void bk_percent_encode(struct bk_buffer *out, struct bk_slice text);

#endif
