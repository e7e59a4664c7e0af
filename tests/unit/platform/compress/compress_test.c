/* gzip: what goes in comes out, what others made is read, and a bomb costs no more than its
 * bound. */
#include "bakend/compress.h"
#include "bakend/id.h"
#include "support.h"

#include <string.h>

enum { BIG_BYTES = 3 * 1024 * 1024, BOMB_BYTES = 16 * 1024 * 1024 };

/* printf hello | gzip -n */
static const uint8_t HELLO[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x86,
                                0xa6, 0x10, 0x36, 0x05, 0x00, 0x00, 0x00};

static struct bk_slice hello(void) { return bk_slice_make((const char *)HELLO, sizeof(HELLO)); }

static void assert_round_trip(struct bk_slice data, int level) {
    struct bk_buffer packed, plain;
    bk_buffer_init(&packed, data.length + 4096);
    bk_buffer_init(&plain, data.length);
    assert_int_equal(bk_gzip(data, level, &packed), BK_OK);
    assert_int_equal(bk_gunzip(bk_buffer_slice(&packed), &plain), BK_OK);
    assert_true(bk_slice_equal(bk_buffer_slice(&plain), data));
    bk_buffer_fini(&packed);
    bk_buffer_fini(&plain);
}

static void test_what_goes_in_comes_out(void **state) {
    char *data = test_malloc(BIG_BYTES);
    (void)state;
    for (int level = 1; level <= 9; level += 4) {
        assert_round_trip(BK_SLICE_EMPTY, level);
        assert_round_trip(BK_SLICE("x"), level);
        memset(data, 'a', BIG_BYTES);
        assert_round_trip(bk_slice_make(data, BIG_BYTES), level);
        bk_random_bytes(data, BIG_BYTES);
        assert_round_trip(bk_slice_make(data, BIG_BYTES), level);
    }
    test_free(data);
}

static void test_reads_what_gzip_wrote(void **state) {
    struct bk_buffer out;
    (void)state;
    bk_buffer_init(&out, 100);
    bk_buffer_append_literal(&out, "> ");
    assert_int_equal(bk_gunzip(hello(), &out), BK_OK);
    assert_true(bk_slice_is(bk_buffer_slice(&out), "> hello"));
    bk_buffer_fini(&out);
}

static void test_reads_a_series_of_members(void **state) {
    struct bk_buffer series, out;
    (void)state;
    bk_buffer_init(&series, 100);
    bk_buffer_init(&out, 10);
    bk_buffer_append_slice(&series, hello());
    bk_buffer_append_slice(&series, hello());
    assert_int_equal(bk_gunzip(bk_buffer_slice(&series), &out), BK_OK);
    assert_true(bk_slice_is(bk_buffer_slice(&out), "hellohello"));
    bk_buffer_fini(&series);
    bk_buffer_fini(&out);
}

/* --- bounds ----------------------------------------------------------------------------------- */

static void test_the_bound_is_exact(void **state) {
    struct bk_buffer out;
    (void)state;
    bk_buffer_init(&out, 5);
    assert_int_equal(bk_gunzip(hello(), &out), BK_OK);
    bk_buffer_fini(&out);
    bk_buffer_init(&out, 4);
    assert_int_equal(bk_gunzip(hello(), &out), BK_TOO_LARGE);
    assert_int_equal(out.length, 0);
    bk_buffer_fini(&out);
    bk_buffer_init(&out, sizeof(HELLO) - 1);
    assert_int_equal(bk_gzip(BK_SLICE("hello"), 6, &out), BK_TOO_LARGE);
    assert_int_equal(out.length, 0);
    bk_buffer_fini(&out);
}

static void test_a_bomb_costs_no_more_than_the_bound(void **state) {
    char *zeros = test_calloc(1, BOMB_BYTES);
    struct bk_buffer bomb, out;
    (void)state;
    bk_buffer_init(&bomb, 1024 * 1024);
    bk_buffer_init(&out, 100000);
    assert_int_equal(bk_gzip(bk_slice_make(zeros, BOMB_BYTES), 9, &bomb), BK_OK);
    assert_true(bomb.length < 20000);
    bk_buffer_append_literal(&out, "kept");
    assert_int_equal(bk_gunzip(bk_buffer_slice(&bomb), &out), BK_TOO_LARGE);
    assert_true(bk_slice_is(bk_buffer_slice(&out), "kept"));
    assert_true(out.capacity <= out.max_bytes);
    bk_buffer_fini(&bomb);
    bk_buffer_fini(&out);
    test_free(zeros);
}

/* --- damage ----------------------------------------------------------------------------------- */

static enum bk_status gunzip_and_forget(struct bk_slice data, size_t max_bytes) {
    struct bk_buffer out;
    enum bk_status status;
    bk_buffer_init(&out, max_bytes);
    status = bk_gunzip(data, &out);
    if (status != BK_OK)
        assert_int_equal(out.length, 0);
    bk_buffer_fini(&out);
    return status;
}

static void test_any_cut_is_corrupt(void **state) {
    (void)state;
    for (size_t length = 0; length < sizeof(HELLO); length++) {
        struct bk_slice part = bk_slice_make((const char *)HELLO, length);
        assert_int_equal(gunzip_and_forget(part, 100), BK_CORRUPT);
        assert_int_equal(gunzip_and_forget(part, 5), BK_CORRUPT);
    }
}

static void test_a_wrong_sum_is_corrupt(void **state) {
    char wrong[sizeof(HELLO)];
    (void)state;
    memcpy(wrong, HELLO, sizeof(HELLO));
    wrong[18] ^= 1;
    assert_int_equal(gunzip_and_forget(bk_slice_make(wrong, sizeof(wrong)), 100), BK_CORRUPT);
}

static void test_anything_behind_the_last_member_is_corrupt(void **state) {
    char more[sizeof(HELLO) + 1] = {0};
    (void)state;
    memcpy(more, HELLO, sizeof(HELLO));
    assert_int_equal(gunzip_and_forget(bk_slice_make(more, sizeof(more)), 100), BK_CORRUPT);
    assert_int_equal(gunzip_and_forget(BK_SLICE("no gzip at all"), 100), BK_CORRUPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_goes_in_comes_out),
        cmocka_unit_test(test_reads_what_gzip_wrote),
        cmocka_unit_test(test_reads_a_series_of_members),
        cmocka_unit_test(test_the_bound_is_exact),
        cmocka_unit_test(test_a_bomb_costs_no_more_than_the_bound),
        cmocka_unit_test(test_any_cut_is_corrupt),
        cmocka_unit_test(test_a_wrong_sum_is_corrupt),
        cmocka_unit_test(test_anything_behind_the_last_member_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
