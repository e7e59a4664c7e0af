/* One line in the file that BAKEND_PROMISES names, for the summary at the end of all tests. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

void support_promise(const char *name, const char *format, ...) {
    const char *path = getenv("BAKEND_PROMISES");
    FILE *file = path == NULL || path[0] == '\0' ? NULL : fopen(path, "a");
    va_list arguments;
    if (file == NULL)
        return;
    (void)fprintf(file, "%s: ", name);
    va_start(arguments, format);
    (void)vfprintf(file, format, arguments);
    va_end(arguments);
    (void)fputc('\n', file);
    (void)fclose(file);
}
