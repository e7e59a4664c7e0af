/* The bounded buffer: growth, the maximum, and overflow that sticks. */
#include "bakend/alloc.h"
#include "bakend/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_appends_grow_it(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 1 << 20);
    for (int i = 0; i < 20000; i++) {
        bk_buffer_append_literal(&buffer, "abc");
        bk_buffer_append_char(&buffer, 'd');
    }
    assert_false(buffer.is_overflown);
    assert_int_equal(buffer.length, 80000);
    for (size_t i = 0; i < buffer.length; i++)
        assert_int_equal(buffer.data[i], "abcd"[i % 4]);
    bk_buffer_fini(&buffer);
}

static void test_exactly_the_maximum_fits(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 1000);
    for (int i = 0; i < 100; i++)
        bk_buffer_append_literal(&buffer, "0123456789");
    assert_false(buffer.is_overflown);
    assert_int_equal(buffer.length, 1000);
    bk_buffer_append(&buffer, NULL, 0);
    assert_false(buffer.is_overflown);
    bk_buffer_append_char(&buffer, 'x');
    assert_true(buffer.is_overflown);
    assert_int_equal(buffer.length, 1000);
    bk_buffer_fini(&buffer);
}

static void test_nothing_is_appended_after_an_overflow(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 300);
    bk_buffer_append_literal(&buffer, "abc");
    assert_false(bk_buffer_reserve(&buffer, 298));
    bk_buffer_append_literal(&buffer, "d");
    bk_buffer_append_char(&buffer, 'd');
    bk_buffer_append_int(&buffer, 1);
    bk_buffer_format(&buffer, "%d", 1);
    assert_true(buffer.is_overflown);
    assert_true(bk_slice_is(bk_buffer_slice(&buffer), "abc"));
    bk_buffer_clear(&buffer);
    assert_false(buffer.is_overflown);
    bk_buffer_append_literal(&buffer, "again");
    assert_true(bk_slice_is(bk_buffer_slice(&buffer), "again"));
    bk_buffer_fini(&buffer);
}

static void test_huge_requests_do_not_wrap_around(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 100);
    bk_buffer_append_literal(&buffer, "abc");
    assert_false(bk_buffer_reserve(&buffer, SIZE_MAX));
    bk_buffer_clear(&buffer);
    bk_buffer_append_literal(&buffer, "abc");
    assert_false(bk_buffer_reserve(&buffer, SIZE_MAX - 2));
    bk_buffer_fini(&buffer);
}

static void test_maximum_of_zero_takes_nothing(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 0);
    assert_true(bk_buffer_reserve(&buffer, 0));
    bk_buffer_append_char(&buffer, 'x');
    assert_true(buffer.is_overflown);
    assert_int_equal(buffer.length, 0);
    bk_buffer_fini(&buffer);
}

static void test_integers(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 200);
    int64_t values[] = {0, 7, -1, 1234567890, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        bk_buffer_append_int(&buffer, values[i]);
        bk_buffer_append_char(&buffer, ' ');
    }
    assert_true(bk_slice_is(bk_buffer_slice(&buffer),
                            "0 7 -1 1234567890 9223372036854775807 -9223372036854775808 "));
    bk_buffer_fini(&buffer);
}

static void test_format_at_every_fill_level(void **state) {
    (void)state;
    for (size_t filled = 0; filled <= 260; filled++) {
        struct bk_buffer buffer;
        bk_buffer_init(&buffer, 262);
        for (size_t i = 0; i < filled; i++)
            bk_buffer_append_char(&buffer, '.');
        bk_buffer_format(&buffer, "%d%s", 4, "2");
        assert_false(buffer.is_overflown);
        assert_int_equal(buffer.length, filled + 2);
        assert_memory_equal(buffer.data + filled, "42", 2);
        bk_buffer_format(&buffer, "%300d", 1);
        assert_true(buffer.is_overflown);
        assert_int_equal(buffer.length, filled + 2);
        bk_buffer_fini(&buffer);
    }
}

static void test_take_moves_the_memory(void **state) {
    (void)state;
    struct bk_buffer buffer;
    bk_buffer_init(&buffer, 50);
    bk_buffer_append_literal(&buffer, "moved");
    size_t length = 0;
    char *data = bk_buffer_take(&buffer, &length);
    assert_int_equal(length, 5);
    assert_memory_equal(data, "moved", 5);
    assert_int_equal(buffer.length, 0);
    assert_int_equal(buffer.max_bytes, 50);
    bk_buffer_append_literal(&buffer, "next");
    assert_memory_equal(data, "moved", 5);
    bk_free(data);
    bk_buffer_fini(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_grow_it),
        cmocka_unit_test(test_exactly_the_maximum_fits),
        cmocka_unit_test(test_nothing_is_appended_after_an_overflow),
        cmocka_unit_test(test_huge_requests_do_not_wrap_around),
        cmocka_unit_test(test_maximum_of_zero_takes_nothing),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_format_at_every_fill_level),
        cmocka_unit_test(test_take_moves_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
