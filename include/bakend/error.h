/*
 * An error that gathers context on its way up: the lowest level sets it, each level above prefixes
 * it. "open data/tenants/default: journal: sequence 12 is missing".
 */
#ifndef BAKEND_ERROR_H
#define BAKEND_ERROR_H

#include "bakend/status.h"

enum { BK_ERROR_MESSAGE_BYTES = 512 };

struct bk_error {
    enum bk_status status;
    char message[BK_ERROR_MESSAGE_BYTES]; /* NUL-terminated; cut when longer, never overrun */
};

#define BK_ERROR_INIT                                                                              \
    { .status = BK_OK, .message = "" }

/* Sets status and message; error may be NULL. Returns status, so that one can `return
 * bk_error_set(…)`. */
enum bk_status bk_error_set(struct bk_error *error, enum bk_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "text: " before the message; error may be NULL. */
void bk_error_prefix(struct bk_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
