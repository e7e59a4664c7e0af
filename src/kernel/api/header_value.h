/* Header values with parameters: `form-data; name="title"; filename="a.txt"`. */
#ifndef BAKEND_API_HEADER_VALUE_H
#define BAKEND_API_HEADER_VALUE_H

#include "bakend/arena.h"

struct api_header_parameter {
    const char *name;         /* the caller's; lower case */
    struct bk_slice value;    /* NULL data: absent */
    struct bk_slice extended; /* as it stands in the header, behind `name*=` */
};

/* main: what stands before the first semicolon, without white space around it. wanted: zeroed but
 * for the names; others are skipped. Borrows from text, or from the arena where it had to decode.
 * False when text has not that form. */
bool api_header_value_read(struct bk_arena *arena, struct bk_slice text, struct bk_slice *main,
                           struct api_header_parameter *wanted, size_t count);

#endif
