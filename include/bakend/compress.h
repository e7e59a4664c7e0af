/* gzip (RFC 1952). 10 ms for a megabyte: never on the loop. */
#ifndef BAKEND_COMPRESS_H
#define BAKEND_COMPRESS_H

#include "bakend/buffer.h"
#include "bakend/status.h"

/* Appends to out. BK_TOO_LARGE past its maximum. level 1..9. */
enum bk_status bk_gzip(struct bk_slice data, int level, struct bk_buffer *out);
/* Inflates with a bound: BK_TOO_LARGE past out's maximum, BK_CORRUPT. */
enum bk_status bk_gunzip(struct bk_slice data, struct bk_buffer *out);

#endif
