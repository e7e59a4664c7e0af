/* The heap: what never fails, and what fails with NULL. */
#include "bakend/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_zero_bytes_are_a_block_too(void **state) {
    (void)state;
    void *blocks[] = {bk_alloc(0), bk_alloc_zero(0), bk_try_alloc(0), bk_realloc(NULL, 0)};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        assert_non_null(blocks[i]);
        bk_free(blocks[i]);
    }
    bk_free(NULL);
}

static void test_zeroed_memory_is_zero(void **state) {
    (void)state;
    unsigned char *memory = bk_alloc_zero(1000);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(memory[i], 0);
    bk_free(memory);
}

static void test_realloc_keeps_the_content(void **state) {
    (void)state;
    char *memory = bk_alloc(4);
    memcpy(memory, "abc", 4);
    memory = bk_realloc(memory, 100000);
    assert_string_equal(memory, "abc");
    memory = bk_try_realloc(memory, 8);
    assert_non_null(memory);
    assert_string_equal(memory, "abc");
    bk_free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_bytes_are_a_block_too),
        cmocka_unit_test(test_zeroed_memory_is_zero),
        cmocka_unit_test(test_realloc_keeps_the_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
