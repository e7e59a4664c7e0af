/*
 * What tests share. Each fixture is a file of its own, so that a test links only what it uses.
 * A fixture that meets trouble fails the running cmocka test.
 */
#ifndef BAKEND_TESTS_SUPPORT_H
#define BAKEND_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct bk_loop;

/* --- loop_fixture.c: a loop that must be left empty ------------------------------------------- */

/* For cmocka's setup and teardown: *state is the struct bk_loop. The teardown runs the loop until
 * nothing is left and fails when handles are still open after the patience. */
int support_loop_setup(void **state);
int support_loop_teardown(void **state);

enum { SUPPORT_PATIENCE_MS = 20000 };
/* So long, times BAKEND_TEST_PATIENCE of the environment: a program under valgrind is slower. */
uint64_t support_patience_ms(void);
/* When a patience that begins now ends; and whether it has not. */
uint64_t support_patience_end_ms(void);
bool support_patience_lasts(uint64_t end_ms);

/* Runs the loop until the flag is true; fails when that does not come within the patience, or when
 * nothing is left that could set it. */
void support_loop_run_until(struct bk_loop *loop, const bool *flag);
/* Runs the loop for about so long, whatever it has to do. */
void support_loop_run_for(struct bk_loop *loop, uint64_t duration_ms);
/* Runs the loop until the condition is true, whatever makes it so, and fails when it does not
 * become so within the patience. What takes its time on a slow disk is waited for, never for a
 * time. */
#define SUPPORT_LOOP_UNTIL(loop, condition)                                                        \
    do {                                                                                           \
        uint64_t until_ms_ = support_patience_end_ms();                                            \
        while (!(condition) && support_patience_lasts(until_ms_))                                  \
            support_loop_run_for(loop, 1);                                                         \
        assert_true(condition);                                                                    \
    } while (0)

/* --- temporary_directory.c -------------------------------------------------------------------- */

/* For setup and teardown: *state is the path, a C string, of a new directory. The teardown removes
 * all of it. */
int support_directory_setup(void **state);
int support_directory_teardown(void **state);
/* The same without a state. The path is freed by support_directory_remove. */
char *support_directory_create(void);
void support_directory_remove(char *path);

/* --- fake_clock.c: the wall clock, which tests may set ---------------------------------------- */

/* From now on the wall clock reads wall_ms and goes on from there. Monotonic time is never
 * faked. */
void support_clock_set(int64_t wall_ms);
void support_clock_advance(int64_t by_ms);
void support_clock_reset(void);

/* --- fault.c: fails at the nth time ----------------------------------------------------------- */

struct support_fault {
    uint32_t fail_at;    /* counted from 1; 0: never */
    bool is_sticky;      /* all after the nth fail too */
    uint32_t pass_count; /* how often it was asked */
};

/* True when this time is to fail. */
bool support_fault_strikes(struct support_fault *fault);
/* For a loop over all n: the next nth, and whether the last round got that far at all.
 *   for (struct support_fault fault = {0}; support_fault_next(&fault);) … */
bool support_fault_next(struct support_fault *fault);

/* --- promise.c -------------------------------------------------------------------------------- */

/* A promise that was just held, with its figure: "name: figure" for the summary of all tests. */
void support_promise(const char *name, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
