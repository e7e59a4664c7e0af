/*
 * What bytes are, by looking at them (WHATWG MIME Sniffing, and the formats that people upload).
 * What a client says they are is never asked: it decides what a browser may make of them.
 */
#ifndef BAKEND_MEDIA_TYPE_H
#define BAKEND_MEDIA_TYPE_H

#include "bakend/slice.h"

struct bk_media_type {
    const char *name;      /* "image/png" */
    const char *extension; /* ".png"; "" for what has none */
    const char *aliases;   /* other names of it, separated by spaces; or NULL */
};

/* Never NULL: what is not known is text/plain or application/octet-stream. Only the first few
 * kilobytes are looked at. Any thread. */
const struct bk_media_type *bk_media_type_sniff(struct bk_slice data);
/* Whether name, of which parameters and case do not count, is the type's or one of its aliases. */
bool bk_media_type_is(const struct bk_media_type *type, struct bk_slice name);

#endif
