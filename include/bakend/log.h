/*
 * The log: one JSON object a line on standard error, written by a thread of its own, so that a slow
 * pipe never holds anybody up. Lines are made by the caller into a bounded buffer; when it is full
 * they are dropped and counted, and the count is logged when there is room again.
 *
 *   bk_log_warn(log, "delivery_failed", BK_TEXT("endpoint", id), BK_INT("attempt", n));
 *   {"time":"…","level":"warn","component":"webhooks","event":"delivery_failed","endpoint":…}
 *
 * error: an operator must act; warn: handled but bad; info: life cycle and events; debug: per
 * request.
 */
#ifndef BAKEND_LOG_H
#define BAKEND_LOG_H

#include "bakend/slice.h"

enum bk_log_level { BK_LOG_DEBUG, BK_LOG_INFO, BK_LOG_WARN, BK_LOG_ERROR, BK_LOG_OFF };

struct bk_logger;

/* A component's handle; a plain value. A NULL handle or a NULL logger logs nothing. */
struct bk_log {
    struct bk_logger *logger;
    const char *component;
};

enum bk_log_kind { BK_LOG_TEXT_FIELD, BK_LOG_INT_FIELD, BK_LOG_BOOL_FIELD, BK_LOG_RAW_FIELD };

struct bk_log_field {
    const char *name;
    enum bk_log_kind kind;
    struct bk_slice text;
    int64_t integer;
};

#define BK_TEXT(field_name, c_string)                                                              \
    ((struct bk_log_field){(field_name), BK_LOG_TEXT_FIELD, bk_slice_from(c_string), 0})
#define BK_STRING(field_name, slice)                                                               \
    ((struct bk_log_field){(field_name), BK_LOG_TEXT_FIELD, (slice), 0})
#define BK_INT(field_name, number)                                                                 \
    ((struct bk_log_field){(field_name), BK_LOG_INT_FIELD, {NULL, 0}, (int64_t)(number)})
#define BK_BOOL(field_name, value)                                                                 \
    ((struct bk_log_field){(field_name), BK_LOG_BOOL_FIELD, {NULL, 0}, (value) ? 1 : 0})
/* JSON text, taken as it is. */
#define BK_RAW(field_name, json) ((struct bk_log_field){(field_name), BK_LOG_RAW_FIELD, (json), 0})

/* Lines go to descriptor (not closed). buffer_max_bytes bounds what waits. */
struct bk_logger *bk_logger_create(int descriptor, enum bk_log_level level,
                                   size_t buffer_max_bytes);
/* Writes what waits, joins the thread, frees. */
void bk_logger_destroy(struct bk_logger *logger);
/* Waits until all that was logged before is written. */
void bk_logger_flush(struct bk_logger *logger);
uint64_t bk_logger_dropped_count(struct bk_logger *logger);
bool bk_log_is_on(const struct bk_log *log, enum bk_log_level level);
/* "debug", "info", "warn", "error", "off"; false otherwise. */
bool bk_log_level_parse(struct bk_slice text, enum bk_log_level *level);

/* Any thread. */
void bk_log_write(const struct bk_log *log, enum bk_log_level level, const char *event,
                  const struct bk_log_field *fields, size_t field_count);

/* Each list ends with a field of its own, not written, so that a line without fields is a list too.
 */
#define BK_LOG_AT(log, level, ...)                                                                 \
    BK_LOG_LIST((log), (level), __VA_ARGS__, ((struct bk_log_field){0}))
#define BK_LOG_LIST(log, level, event, ...)                                                        \
    do {                                                                                           \
        const struct bk_log_field bk_log_fields_[] = {__VA_ARGS__};                                \
        if (bk_log_is_on((log), (level)))                                                          \
            bk_log_write((log), (level), (event), bk_log_fields_,                                  \
                         sizeof(bk_log_fields_) / sizeof(bk_log_fields_[0]) - 1);                  \
    } while (0)
#define bk_log_debug(log, ...) BK_LOG_AT((log), BK_LOG_DEBUG, __VA_ARGS__)
#define bk_log_info(log, ...) BK_LOG_AT((log), BK_LOG_INFO, __VA_ARGS__)
#define bk_log_warn(log, ...) BK_LOG_AT((log), BK_LOG_WARN, __VA_ARGS__)
#define bk_log_error(log, ...) BK_LOG_AT((log), BK_LOG_ERROR, __VA_ARGS__)

#endif
