/* multipart/form-data (RFC 7578, 2046), part by part, from a body that is in memory. */
#ifndef BAKEND_API_MULTIPART_H
#define BAKEND_API_MULTIPART_H

#include "bakend/arena.h"
#include "bakend/error.h"

enum {
    API_MULTIPART_PARTS_MAX = 1000,
    API_MULTIPART_HEAD_BYTES_MAX = 16 * 1024, /* header lines of one part */
    API_MULTIPART_NAME_BYTES_MAX = 1024,      /* of a form's field */
    API_MULTIPART_BOUNDARY_BYTES_MAX = 70,    /* RFC 2046, 5.1.1 */
};

struct api_part {
    struct bk_slice name;         /* empty: it belongs to no field of the form */
    struct bk_slice file_name;    /* empty: it is a value */
    struct bk_slice content_type; /* as given, or empty */
    struct bk_slice data;
};

struct api_multipart {
    struct bk_arena *arena; /* for names that had to be decoded */
    struct bk_slice rest;
    char delimiter[4 + API_MULTIPART_BOUNDARY_BYTES_MAX]; /* CR LF - - boundary */
    size_t delimiter_length;
    size_t newline_length; /* 2; 1 when the first delimiter's line ends in LF alone */
    uint32_t part_count;
    struct bk_error *error;
};

/* content_type: the request's header. BK_INVALID with a reason when it names no boundary. */
enum bk_status api_multipart_init(struct api_multipart *multipart, struct bk_arena *arena,
                                  struct bk_slice content_type, struct bk_slice body,
                                  struct bk_error *error);
/* The next part; it borrows from the body. BK_END behind the last one; BK_INVALID, or BK_TOO_LARGE
 * past a limit, with a reason. */
enum bk_status api_multipart_next(struct api_multipart *multipart, struct api_part *part);

#endif
