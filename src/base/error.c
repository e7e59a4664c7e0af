/* Error messages are built in place: a prefix is written to a second line of the same size and the
 * message is put behind it, so whatever is too long loses its end, never its context. */
#include "bakend/error.h"

#include "bakend/assert.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum bk_status bk_error_set(struct bk_error *error, enum bk_status status, const char *format,
                            ...) {
    BK_ASSERT(format != NULL);
    if (error == NULL)
        return status;
    /* By way of a line of its own, since the former message may be one of the arguments. */
    char line[BK_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    memcpy(error->message, line, strlen(line) + 1);
    error->status = status;
    return status;
}

/* Puts as much of text behind line as fits. */
static size_t append(char line[BK_ERROR_MESSAGE_BYTES], size_t length, const char *text) {
    size_t room = BK_ERROR_MESSAGE_BYTES - 1 - length;
    size_t taken = strlen(text) < room ? strlen(text) : room;
    memcpy(line + length, text, taken);
    line[length + taken] = '\0';
    return length + taken;
}

void bk_error_prefix(struct bk_error *error, const char *format, ...) {
    BK_ASSERT(format != NULL);
    if (error == NULL)
        return;
    char line[BK_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    size_t length = append(line, strlen(line), ": ");
    length = append(line, length, error->message);
    memcpy(error->message, line, length + 1);
}
