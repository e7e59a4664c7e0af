/* Programmer errors. On in every build: a wrong state is a crash with a line, not a wrong
 * answer. */
#ifndef BAKEND_ASSERT_H
#define BAKEND_ASSERT_H

#include <stddef.h>

#define BK_ASSERT(condition)                                                                       \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            bk_assert_failed(#condition, __FILE__, __LINE__, __func__);                            \
    } while (0)

/* For what must not be reached. */
#define BK_UNREACHABLE() bk_assert_failed("unreachable", __FILE__, __LINE__, __func__)

/* From a pointer to an embedded member to the struct around it. */
#define bk_container_of(pointer, type, member)                                                     \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* The same where the member is const. */
#define bk_const_container_of(pointer, type, member)                                               \
    ((const type *)(const void *)((const char *)(pointer)-offsetof(type, member)))

#define BK_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Prints the place on standard error and aborts. */
_Noreturn void bk_assert_failed(const char *condition, const char *file, int line,
                                const char *function);

#endif
