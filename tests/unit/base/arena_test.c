/* The arena: alignment, its cap, emergency memory after an overflow, and reuse. */
#include "bakend/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_memory_is_aligned_and_apart(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1 << 20);
    assert_null(arena.block);
    char *pieces[300];
    for (size_t i = 0; i < 300; i++) {
        pieces[i] = bk_arena_alloc(&arena, i);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)i & 0xFF, i);
    }
    for (size_t i = 0; i < 300; i++) {
        for (size_t k = 0; k < i; k++)
            assert_int_equal((unsigned char)pieces[i][k], i & 0xFF);
    }
    assert_true(bk_arena_alloc(&arena, 0) != bk_arena_alloc(&arena, 0));
    assert_false(arena.is_overflown);
    bk_arena_fini(&arena);
}

static void test_large_requests_leave_the_current_block_in_use(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1 << 20);
    char *small = bk_arena_alloc(&arena, 16);
    char *large = bk_arena_alloc(&arena, 200000);
    memset(large, 'x', 200000);
    char *next = bk_arena_alloc(&arena, 16);
    assert_ptr_equal(next, small + 16);
    assert_int_equal(arena.used_bytes, 200032);
    bk_arena_fini(&arena);
}

static void test_cap_is_exact(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 4096);
    for (int i = 0; i < 256; i++)
        assert_non_null(bk_arena_alloc(&arena, 16));
    assert_false(arena.is_overflown);
    assert_non_null(bk_arena_alloc(&arena, 1));
    assert_true(arena.is_overflown);
    bk_arena_fini(&arena);
}

static void test_overflow_sticks_and_memory_stays_writable(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1000);
    char *before = bk_arena_alloc(&arena, 100);
    memset(before, 'b', 100);
    for (size_t size = 1; size <= 65536; size *= 2) {
        char *memory = bk_arena_alloc(&arena, size < 1024 ? 1024 : size);
        assert_non_null(memory);
        memset(memory, 'e', size < 1024 ? 1024 : size);
        assert_true(arena.is_overflown);
    }
    assert_non_null(bk_arena_alloc(&arena, 1));
    assert_null(bk_arena_alloc(&arena, 65537));
    assert_null(bk_arena_alloc_zero(&arena, 65537));
    assert_null(bk_arena_alloc(&arena, SIZE_MAX));
    assert_non_null(bk_arena_alloc_zero(&arena, 65536));
    for (int i = 0; i < 100; i++)
        assert_int_equal(before[i], 'b');
    bk_arena_fini(&arena);
}

static void test_huge_sizes_do_not_wrap_around(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, SIZE_MAX);
    assert_non_null(bk_arena_alloc(&arena, 8));
    assert_null(bk_arena_alloc(&arena, SIZE_MAX));
    assert_true(arena.is_overflown);
    bk_arena_fini(&arena);
}

static void test_reset_keeps_the_first_block_and_clears_the_overflow(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 300000);
    char *first = bk_arena_alloc(&arena, 10);
    for (int i = 0; i < 100; i++)
        memset(bk_arena_alloc(&arena, 1000), 'x', 1000);
    bk_arena_alloc(&arena, 150000);
    bk_arena_alloc(&arena, 150000);
    assert_true(arena.is_overflown);
    bk_arena_reset(&arena);
    assert_false(arena.is_overflown);
    assert_int_equal(arena.used_bytes, 0);
    assert_ptr_equal(bk_arena_alloc(&arena, 10), first);
    bk_arena_fini(&arena);
    assert_null(arena.block);
}

static void test_reset_of_one_large_block_keeps_nothing(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1 << 20);
    bk_arena_alloc(&arena, 100000);
    bk_arena_reset(&arena);
    assert_null(arena.block);
    assert_non_null(bk_arena_alloc_zero(&arena, 5000));
    bk_arena_fini(&arena);
}

static void test_copies_end_in_nul(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1000);
    struct bk_slice copy = bk_arena_copy(&arena, bk_slice_make("abcdef", 3));
    assert_int_equal(copy.length, 3);
    assert_string_equal(copy.data, "abc");
    assert_string_equal(bk_arena_copy(&arena, BK_SLICE_EMPTY).data, "");
    struct bk_slice line = bk_arena_format(&arena, "%s-%d", "n", 7);
    assert_string_equal(line.data, "n-7");
    assert_int_equal(line.length, 3);
    bk_arena_fini(&arena);
}

static void test_copy_and_format_are_empty_on_overflow(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 16);
    assert_int_equal(bk_arena_copy(&arena, BK_SLICE("0123456789abcdef")).length, 0);
    assert_true(arena.is_overflown);
    assert_int_equal(bk_arena_format(&arena, "%d", 1).length, 0);
    bk_arena_reset(&arena);
    assert_int_equal(bk_arena_format(&arena, "%100000d", 1).length, 0);
    assert_true(arena.is_overflown);
    bk_arena_fini(&arena);
}

static void test_blocks_are_counted_in_a_total(void **state) {
    (void)state;
    size_t total = 0;
    struct bk_arena first, second;
    bk_arena_init(&first, 1 << 20);
    bk_arena_init(&second, 1000);
    bk_arena_count_in(&first, &total);
    bk_arena_count_in(&second, &total);
    assert_int_equal(bk_arena_total(&total), 0);
    (void)bk_arena_alloc(&first, 16);
    size_t kept = bk_arena_total(&total);
    assert_true(kept >= 16);
    (void)bk_arena_alloc(&first, 200000);
    (void)bk_arena_alloc(&second, 2000);
    assert_true(second.is_overflown);
    assert_true(bk_arena_total(&total) >= kept + 200000 + 64 * 1024);
    bk_arena_fini(&second);
    bk_arena_reset(&first);
    assert_int_equal(bk_arena_total(&total), kept);
    (void)bk_arena_alloc(&first, 300000);
    bk_arena_fini(&first);
    assert_int_equal(bk_arena_total(&total), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_aligned_and_apart),
        cmocka_unit_test(test_large_requests_leave_the_current_block_in_use),
        cmocka_unit_test(test_cap_is_exact),
        cmocka_unit_test(test_overflow_sticks_and_memory_stays_writable),
        cmocka_unit_test(test_huge_sizes_do_not_wrap_around),
        cmocka_unit_test(test_reset_keeps_the_first_block_and_clears_the_overflow),
        cmocka_unit_test(test_reset_of_one_large_block_keeps_nothing),
        cmocka_unit_test(test_blocks_are_counted_in_a_total),
        cmocka_unit_test(test_copies_end_in_nul),
        cmocka_unit_test(test_copy_and_format_are_empty_on_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
