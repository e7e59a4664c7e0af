/* The hash map against a plain array that does the same, over growth and removal. */
#include "bakend/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

enum { KEY_COUNT = 3000, KEY_BYTES = 24 };

static char keys[KEY_COUNT][KEY_BYTES];

static struct bk_slice key_of(size_t i) { return bk_slice_from(keys[i]); }

static int on_setup(void **state) {
    (void)state;
    for (size_t i = 0; i < KEY_COUNT; i++)
        snprintf(keys[i], KEY_BYTES, "key-%zu", i);
    return 0;
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void test_empty_map_has_nothing(void **state) {
    (void)state;
    struct bk_map map;
    bk_map_init(&map);
    size_t cursor = 0;
    assert_null(bk_map_get(&map, BK_SLICE("a")));
    assert_null(bk_map_remove(&map, BK_SLICE("a")));
    assert_null(bk_map_next(&map, &cursor));
    bk_map_fini(&map);
}

static void test_put_replaces_and_returns_the_former(void **state) {
    (void)state;
    struct bk_map map;
    bk_map_init(&map);
    int first, second;
    char other_place[] = "name";
    assert_null(bk_map_put(&map, BK_SLICE("name"), &first));
    assert_ptr_equal(bk_map_put(&map, bk_slice_from(other_place), &second), &first);
    assert_int_equal(map.count, 1);
    size_t cursor = 0;
    struct bk_map_entry *entry = bk_map_next(&map, &cursor);
    assert_ptr_equal(entry->key.data, other_place);
    assert_ptr_equal(entry->value, &second);
    assert_null(bk_map_next(&map, &cursor));
    assert_null(bk_map_get(&map, BK_SLICE("Name")));
    bk_map_fini(&map);
}

static void test_empty_key_is_a_key(void **state) {
    (void)state;
    struct bk_map map;
    bk_map_init(&map);
    int value;
    bk_map_put(&map, BK_SLICE_EMPTY, &value);
    assert_ptr_equal(bk_map_get(&map, BK_SLICE("")), &value);
    assert_ptr_equal(bk_map_remove(&map, BK_SLICE("")), &value);
    assert_int_equal(map.count, 0);
    bk_map_fini(&map);
}

static void test_growth_keeps_everything(void **state) {
    (void)state;
    struct bk_map map;
    bk_map_init(&map);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        assert_null(bk_map_put(&map, key_of(i), keys[i]));
        assert_int_equal(map.count, i + 1);
        assert_true(map.count < map.capacity);
        assert_int_equal(map.capacity & (map.capacity - 1), 0);
    }
    for (size_t i = 0; i < KEY_COUNT; i++)
        assert_ptr_equal(bk_map_get(&map, key_of(i)), keys[i]);
    assert_null(bk_map_get(&map, BK_SLICE("key-3000")));
    bk_map_fini(&map);
}

static void test_random_puts_and_removals_match_an_array(void **state) {
    (void)state;
    struct bk_map map;
    bk_map_init(&map);
    static void *expected[KEY_COUNT];
    size_t count = 0;
    uint64_t seed = 42;
    for (int step = 0; step < 200000; step++) {
        /* Phases of growing and of shrinking. */
        size_t i = next_random(&seed) % (step / 50000 % 2 == 0 ? KEY_COUNT : KEY_COUNT / 2);
        bool is_put = next_random(&seed) % 10 < (step / 25000 % 2 == 0 ? 7 : 3);
        void *former = expected[i];
        if (is_put) {
            void *value = keys[next_random(&seed) % KEY_COUNT];
            assert_ptr_equal(bk_map_put(&map, key_of(i), value), former);
            expected[i] = value;
            count += former == NULL ? 1 : 0;
        } else {
            assert_ptr_equal(bk_map_remove(&map, key_of(i)), former);
            expected[i] = NULL;
            count -= former == NULL ? 0 : 1;
        }
        assert_int_equal(map.count, count);
        size_t probe = next_random(&seed) % KEY_COUNT;
        assert_ptr_equal(bk_map_get(&map, key_of(probe)), expected[probe]);
    }
    for (size_t i = 0; i < KEY_COUNT; i++)
        assert_ptr_equal(bk_map_get(&map, key_of(i)), expected[i]);
    bk_map_fini(&map);
}

static void test_filling_and_emptying_does_not_grow_it(void **state) {
    (void)state;
    struct bk_map map;
    bk_map_init(&map);
    for (size_t i = 0; i < 100000; i++) {
        bk_map_put(&map, key_of(i % KEY_COUNT), keys[0]);
        assert_ptr_equal(bk_map_remove(&map, key_of(i % KEY_COUNT)), keys[0]);
    }
    assert_int_equal(map.capacity, 8);
    bk_map_fini(&map);
}

static void test_walk_visits_each_entry_once(void **state) {
    (void)state;
    struct bk_map map;
    bk_map_init(&map);
    static bool is_seen[KEY_COUNT];
    for (size_t i = 0; i < KEY_COUNT; i++)
        bk_map_put(&map, key_of(i), keys[i]);
    size_t cursor = 0;
    size_t visited = 0;
    for (struct bk_map_entry *entry; (entry = bk_map_next(&map, &cursor)) != NULL; visited++) {
        size_t i = (size_t)((char(*)[KEY_BYTES])entry->value - keys);
        assert_false(is_seen[i]);
        is_seen[i] = true;
    }
    assert_int_equal(visited, KEY_COUNT);
    bk_map_fini(&map);
}

static void test_hash_depends_on_every_byte_and_the_length(void **state) {
    (void)state;
    char text[40] = {0};
    for (size_t length = 0; length < sizeof text; length++) {
        uint64_t hash = bk_map_hash(bk_slice_make(text, length));
        assert_true(hash == bk_map_hash(bk_slice_make(text, length)));
        assert_true(hash != bk_map_hash(bk_slice_make(text, length + 1)));
        for (size_t i = 0; i < length; i++) {
            text[i] = 1;
            assert_true(hash != bk_map_hash(bk_slice_make(text, length)));
            text[i] = 0;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_map_has_nothing),
        cmocka_unit_test(test_put_replaces_and_returns_the_former),
        cmocka_unit_test(test_empty_key_is_a_key),
        cmocka_unit_test(test_growth_keeps_everything),
        cmocka_unit_test(test_random_puts_and_removals_match_an_array),
        cmocka_unit_test(test_filling_and_emptying_does_not_grow_it),
        cmocka_unit_test(test_walk_visits_each_entry_once),
        cmocka_unit_test(test_hash_depends_on_every_byte_and_the_length),
    };
    return cmocka_run_group_tests(tests, on_setup, NULL);
}
