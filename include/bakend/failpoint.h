/*
 * Failpoints: named places where a test makes the program fail. BAKEND_FAILPOINT holds a list of
 * name:action[@n], separated by commas; @n acts at the nth passing only (counted from 1), else
 * each.
 *   kill      SIGKILL to itself        error     the caller gets BK_IO (or what it documents)
 *   full      BK_DISK_FULL             sleep=MS  the thread sleeps
 * In a build or run without BAKEND_FAILPOINT a failpoint costs one load and a branch.
 */
#ifndef BAKEND_FAILPOINT_H
#define BAKEND_FAILPOINT_H

#include "bakend/status.h"
#include <stdatomic.h>
#include <stdbool.h>

extern atomic_bool bk_failpoints_are_on;

/* Reads the list; a wrong one is BK_INVALID. Before threads start, or when none passes a failpoint.
 * NULL or "" switches all off, at any time. */
enum bk_status bk_failpoint_configure(const char *list);
enum bk_status bk_failpoint_hit(const char *name);

/* BK_OK, or the status that the caller is to fail with. */
#define BK_FAILPOINT(name)                                                                         \
    (__builtin_expect(atomic_load_explicit(&bk_failpoints_are_on, memory_order_relaxed), 0)        \
         ? bk_failpoint_hit(name)                                                                  \
         : BK_OK)

#endif
