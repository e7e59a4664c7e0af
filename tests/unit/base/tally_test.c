/* Counts in windows: when they begin and end, which of them go when there are too many. */
#include "bakend/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { WINDOW_MS = 1000, ENTRY_MAX = 4 };

static int on_setup(void **state) {
    static struct bk_tally tally;
    bk_tally_init(&tally, ENTRY_MAX);
    *state = &tally;
    return 0;
}

static int on_teardown(void **state) {
    bk_tally_fini(*state);
    return 0;
}

static void test_a_window_begins_with_the_first_count_and_ends(void **state) {
    struct bk_tally *tally = *state;
    assert_null(bk_tally_find(tally, 7, 5000));
    struct bk_tally_entry *entry = bk_tally_take(tally, 7, 5000, WINDOW_MS);
    entry->count = entry->open_count = 3;
    entry->kept_count = 9;
    assert_ptr_equal(bk_tally_find(tally, 7, 5999), entry);
    assert_ptr_equal(bk_tally_take(tally, 7, 5999, WINDOW_MS), entry);
    assert_int_equal(entry->count, 3);
    assert_null(bk_tally_find(tally, 7, 6000));
    entry = bk_tally_take(tally, 7, 6000, WINDOW_MS);
    assert_int_equal(entry->count, 0);
    assert_int_equal(entry->open_count, 0);
    assert_int_equal(entry->kept_count, 9);
    assert_int_equal(entry->ends_ms, 7000);
}

static void test_of_too_many_the_oldest_goes(void **state) {
    struct bk_tally *tally = *state;
    for (uint64_t key = 1; key <= ENTRY_MAX; key++)
        bk_tally_take(tally, key, 5000 + key, WINDOW_MS)->count = 1;
    bk_tally_take(tally, 1, 6001, WINDOW_MS)->kept_count = 4; /* begun anew: 2 is the oldest now */
    bk_tally_take(tally, 99, 6001, WINDOW_MS);
    assert_int_equal(tally->by_key.count, ENTRY_MAX);
    assert_non_null(bk_tally_find(tally, 1, 6001));
    assert_null(bk_tally_find(tally, 2, 6001));
    assert_non_null(bk_tally_find(tally, 3, 6001));
    assert_int_equal(tally->forgotten_count, 1);
}

static void test_one_whose_window_is_over_is_no_loss(void **state) {
    struct bk_tally *tally = *state;
    for (uint64_t key = 1; key <= 100; key++)
        bk_tally_take(tally, key, 5000 + key * WINDOW_MS, WINDOW_MS);
    assert_int_equal(tally->by_key.count, ENTRY_MAX);
    assert_int_equal(tally->forgotten_count, 0);
}

static void test_what_a_forgotten_one_has_noted_is_not_the_next_ones(void **state) {
    struct bk_tally *tally = *state;
    for (uint64_t key = 1; key <= ENTRY_MAX; key++)
        bk_tally_take(tally, key, 5000, WINDOW_MS)->kept_count = 5;
    assert_int_equal(bk_tally_take(tally, 99, 5000, WINDOW_MS)->kept_count, 0);
}

static void test_keys_tell_texts_apart(void **state) {
    (void)state;
    const struct bk_slice texts[][2] = {{BK_SLICE_INIT("a"), BK_SLICE_INIT("bc")},
                                        {BK_SLICE_INIT("ab"), BK_SLICE_INIT("c")},
                                        {BK_SLICE_INIT("bc"), BK_SLICE_INIT("a")},
                                        {BK_SLICE_INIT("abc"), BK_SLICE_INIT("")}};
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++)
            assert_int_equal(bk_tally_key(texts[i], 2) == bk_tally_key(texts[j], 2), i == j);
    assert_true(bk_tally_key(texts[0], 1) != bk_tally_key(texts[0], 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_window_begins_with_the_first_count_and_ends,
                                        on_setup, on_teardown),
        cmocka_unit_test_setup_teardown(test_of_too_many_the_oldest_goes, on_setup, on_teardown),
        cmocka_unit_test_setup_teardown(test_one_whose_window_is_over_is_no_loss, on_setup,
                                        on_teardown),
        cmocka_unit_test_setup_teardown(test_what_a_forgotten_one_has_noted_is_not_the_next_ones,
                                        on_setup, on_teardown),
        cmocka_unit_test(test_keys_tell_texts_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
