/* The end of a process whose state is wrong: one line that says where, then SIGABRT. */
#include "bakend/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void bk_assert_failed(const char *condition, const char *file, int line,
                                const char *function) {
    fprintf(stderr, "bakend: %s:%d: %s: assertion failed: %s\n", file, line, function, condition);
    fflush(stderr);
    abort();
}
