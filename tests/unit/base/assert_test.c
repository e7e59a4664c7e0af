/* A failed assertion ends the process with a line that names the place. */
#include "bakend/assert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct outer {
    int before;
    struct inner {
        int value;
    } inner;
};

static void test_container_of_finds_the_outer_struct(void **state) {
    (void)state;
    struct outer outer = {.before = 1, .inner = {.value = 2}};
    struct inner *inner = &outer.inner;
    assert_ptr_equal(bk_container_of(inner, struct outer, inner), &outer);
    int numbers[7];
    assert_int_equal(BK_COUNT_OF(numbers), 7);
}

static void test_condition_is_evaluated_once(void **state) {
    (void)state;
    int count = 0;
    BK_ASSERT(++count == 1);
    assert_int_equal(count, 1);
}

static void test_failure_aborts_and_says_where(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* The test library would turn the signal into a failed test. */
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        BK_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    close(ends[1]);
    char line[512] = "";
    ssize_t length = read(ends[0], line, sizeof line - 1);
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_true(length > 0);
    assert_non_null(strstr(line, "assert_test.c:"));
    assert_non_null(strstr(line, "1 + 1 == 3"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_container_of_finds_the_outer_struct),
        cmocka_unit_test(test_condition_is_evaluated_once),
        cmocka_unit_test(test_failure_aborts_and_says_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
