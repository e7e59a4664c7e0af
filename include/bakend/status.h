/*
 * Status codes: one table for the whole program.
 *
 * Each row is a name, the sentence shown to a person, and the HTTP status that a request ends with
 * when the status reaches its answer unchanged. Foreign codes (SQLite, libuv, errno, libsodium) are
 * translated into these in the file that calls the foreign function, and go no further.
 */
#ifndef BAKEND_STATUS_H
#define BAKEND_STATUS_H

#define BK_STATUS_TABLE(X)                                                                         \
    X(OK, "done", 200)                                                                             \
    X(INVALID, "the request is not valid", 400)                                                    \
    X(UNAUTHORIZED, "the request requires a valid authorization token", 401)                       \
    X(FORBIDDEN, "you are not allowed to perform this request", 403)                               \
    X(NOT_FOUND, "the requested resource was not found", 404)                                      \
    X(CONFLICT, "the request conflicts with the current state", 409)                               \
    X(GONE, "the requested resource is no longer available", 410)                                  \
    X(TOO_LARGE, "the request is too large", 413)                                                  \
    X(UNSUPPORTED_TYPE, "the content type is not supported", 415)                                  \
    X(UNPROCESSABLE, "the request cannot be processed", 422)                                       \
    X(TOO_MANY, "too many requests", 429)                                                          \
    X(CANCELLED, "the operation was cancelled", 499)                                               \
    X(INTERNAL, "something went wrong while processing the request", 500)                          \
    X(NOT_SUPPORTED, "not supported by this server", 501)                                          \
    X(BUSY, "the server is busy, try again", 503)                                                  \
    X(TIMEOUT, "the operation took too long", 503)                                                 \
    X(CLOSING, "the server is shutting down", 503)                                                 \
    X(DISK_FULL, "the disk is full", 507)                                                          \
    X(NO_MEMORY, "out of memory", 503)                                                             \
    X(IO, "an input or output operation failed", 500)                                              \
    X(CORRUPT, "the data is damaged", 500)                                                         \
    X(EXISTS, "it exists already", 409)                                                            \
    X(STALE, "the schema has changed since the request was planned", 409)                          \
    X(LIMIT, "a limit was reached", 400)                                                           \
    X(END, "there is no more", 200)

enum bk_status {
#define BK_STATUS_ENUM(name, text, http) BK_##name,
    BK_STATUS_TABLE(BK_STATUS_ENUM)
#undef BK_STATUS_ENUM
};

/* The name in the table in snake_case, "not_found"; static, never NULL. Any thread. */
const char *bk_status_name(enum bk_status status);

/* The sentence of the table; static, never NULL. Any thread. */
const char *bk_status_text(enum bk_status status);

/* The HTTP status of the table, 100..599. Any thread. */
int bk_status_http(enum bk_status status);

#endif
