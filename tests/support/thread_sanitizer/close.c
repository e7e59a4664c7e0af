/*
 * Only in a program with the thread sanitizer: it is shown the descriptors that libuv closes.
 *
 * The sanitizer keeps for each descriptor who used it, and forgets that when it sees close().
 * libuv, which is not built with it, asks the kernel itself. What another thread opens next under
 * the same number, by a call that the sanitizer does not know either (openat), was then taken for
 * the connection before it: a race of two threads that have never had the same file.
 */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARGUMENTS = 6 };

long syscall(long number, ...) {
    long argument[ARGUMENTS];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < ARGUMENTS; i++)
        argument[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_close)
        return close((int)argument[0]);
    static long (*next)(long number, ...);
    if (__atomic_load_n(&next, __ATOMIC_RELAXED) == NULL) {
        void *found = dlsym(RTLD_NEXT, "syscall");
        __atomic_store(&next, (long (**)(long, ...)) & found, __ATOMIC_RELAXED);
    }
    return next(number, argument[0], argument[1], argument[2], argument[3], argument[4],
                argument[5]);
}
