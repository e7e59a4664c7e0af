/* The exchange of a tenant's directory, interrupted at each of its steps and finished by the next.
 */
#include "backups_private.h"
#include "bakend/file.h"
#include "support.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void write_file(const char *directory, const char *name, const char *text) {
    char path[BACKUPS_PATH_BYTES];
    assert_true(bk_path_join(path, sizeof path, directory, name));
    assert_int_equal(bk_file_write_atomic(path, bk_slice_from(text), NULL), BK_OK);
}

static void assert_file(const char *directory, const char *name, const char *text) {
    char path[BACKUPS_PATH_BYTES];
    struct bk_buffer content;
    assert_true(bk_path_join(path, sizeof path, directory, name));
    bk_buffer_init(&content, 1024);
    assert_int_equal(bk_file_read(path, &content, NULL), BK_OK);
    assert_true(bk_slice_equal(bk_buffer_slice(&content), bk_slice_from(text)));
    bk_buffer_fini(&content);
}

static bool has(const char *directory, const char *name) {
    char path[BACKUPS_PATH_BYTES];
    assert_true(bk_path_join(path, sizeof path, directory, name));
    return bk_file_exists(path);
}

/* A tenant "a" with an old database, a log beside it, and a backup. */
static struct backups_swap make_tenant(void **state) {
    struct backups_swap swap;
    char path[BACKUPS_PATH_BYTES];
    assert_int_equal(backups_swap_init(&swap, *state, BK_SLICE("a"), NULL), BK_OK);
    assert_int_equal(bk_directory_create(swap.live, NULL), BK_OK);
    write_file(swap.live, "data.db", "old");
    write_file(swap.live, "data.db-wal", "old log");
    write_file(swap.live, "head", "old head");
    assert_true(bk_path_join(path, sizeof path, swap.live, "backups"));
    assert_int_equal(bk_directory_create(path, NULL), BK_OK);
    write_file(path, "one.zip", "backup");
    return swap;
}

static void prepare(struct backups_swap *swap) {
    assert_int_equal(backups_swap_begin(swap, NULL), BK_OK);
    write_file(swap->staging, "data.db", "new");
}

static void assert_new_in_force(const struct backups_swap *swap) {
    assert_file(swap->live, "data.db", "new");
    assert_false(has(swap->live, "data.db-wal"));
    assert_false(has(swap->live, "head"));
    assert_false(has(swap->live, "incoming"));
    assert_file(swap->live, "backups/one.zip", "backup");
    assert_file(swap->aside, "data.db", "old");
    assert_file(swap->aside, "data.db-wal", "old log");
    assert_file(swap->aside, "head", "old head");
    assert_false(bk_file_exists(swap->staging));
}

static void test_the_new_database_is_in_force_and_the_old_one_kept(void **state) {
    struct backups_swap swap = make_tenant(state);
    prepare(&swap);
    assert_int_equal(backups_swap_finish(&swap, NULL), BK_OK);
    assert_new_in_force(&swap);
}

static void test_cut_off_before_the_exchange_the_old_state_stays(void **state) {
    struct backups_swap swap = make_tenant(state);
    prepare(&swap);
    assert_int_equal(backups_swap_recover(&swap, NULL), BK_OK);
    assert_file(swap.live, "data.db", "old");
    assert_file(swap.live, "data.db-wal", "old log");
    assert_false(bk_file_exists(swap.staging));
}

/* The exchange by hand, then what the program would have found. */
static void exchange(const struct backups_swap *swap) {
    char between[BACKUPS_PATH_BYTES + 8];
    snprintf(between, sizeof between, "%s.tmp", swap->live);
    assert_int_equal(rename(swap->live, between), 0);
    assert_int_equal(rename(swap->staging, swap->live), 0);
    assert_int_equal(rename(between, swap->staging), 0);
}

static void test_cut_off_after_the_exchange_the_rest_is_made_up_for(void **state) {
    struct backups_swap swap = make_tenant(state);
    prepare(&swap);
    exchange(&swap);
    assert_file(swap.live, "data.db", "new");
    assert_int_equal(backups_swap_recover(&swap, NULL), BK_OK);
    assert_new_in_force(&swap);
}

static void test_cut_off_while_the_rest_moves(void **state) {
    struct backups_swap swap = make_tenant(state);
    char from[BACKUPS_PATH_BYTES], to[BACKUPS_PATH_BYTES];
    prepare(&swap);
    exchange(&swap);
    assert_true(bk_path_join(from, sizeof from, swap.staging, "backups"));
    assert_true(bk_path_join(to, sizeof to, swap.live, "backups"));
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(backups_swap_recover(&swap, NULL), BK_OK);
    assert_new_in_force(&swap);
}

static void test_cut_off_before_the_mark_is_removed(void **state) {
    struct backups_swap swap = make_tenant(state);
    prepare(&swap);
    assert_int_equal(backups_swap_finish(&swap, NULL), BK_OK);
    write_file(swap.live, "incoming", "");
    assert_int_equal(backups_swap_recover(&swap, NULL), BK_OK);
    assert_new_in_force(&swap);
}

static void test_a_tenant_that_does_not_exist_is_made(void **state) {
    struct backups_swap swap;
    char tenants[BACKUPS_PATH_BYTES];
    assert_true(bk_path_join(tenants, sizeof tenants, *state, "tenants"));
    assert_int_equal(bk_directory_create(tenants, NULL), BK_OK);
    assert_int_equal(backups_swap_init(&swap, *state, BK_SLICE("b"), NULL), BK_OK);
    assert_int_equal(backups_swap_recover(&swap, NULL), BK_OK);
    prepare(&swap);
    assert_int_equal(backups_swap_finish(&swap, NULL), BK_OK);
    assert_file(swap.live, "data.db", "new");
    assert_false(has(swap.live, "incoming"));
    assert_false(bk_file_exists(swap.aside));
}

static void test_cut_off_before_its_mark_is_whole_it_begins_anew(void **state) {
    struct backups_swap swap = make_tenant(state);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(bk_directory_create(swap.staging, NULL), BK_OK);
        if (round == 1)
            write_file(swap.staging, ".incoming.tmp-abcdefghijkl", "");
        assert_int_equal(backups_swap_recover(&swap, NULL), BK_OK);
        assert_false(bk_file_exists(swap.staging));
        assert_file(swap.live, "data.db", "old");
    }
    prepare(&swap);
    assert_int_equal(backups_swap_finish(&swap, NULL), BK_OK);
    assert_new_in_force(&swap);
}

static void test_a_directory_that_nobody_knows_is_not_touched(void **state) {
    struct backups_swap swap = make_tenant(state);
    struct bk_error error = BK_ERROR_INIT;
    assert_int_equal(bk_directory_create(swap.staging, NULL), BK_OK);
    write_file(swap.staging, "data.db", "whose");
    assert_int_equal(backups_swap_recover(&swap, &error), BK_CONFLICT);
    assert_non_null(strstr(error.message, swap.staging));
    assert_file(swap.staging, "data.db", "whose");
    assert_file(swap.live, "data.db", "old");
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_directory_setup, support_directory_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_the_new_database_is_in_force_and_the_old_one_kept),
        TEST(test_cut_off_before_the_exchange_the_old_state_stays),
        TEST(test_cut_off_after_the_exchange_the_rest_is_made_up_for),
        TEST(test_cut_off_while_the_rest_moves),
        TEST(test_cut_off_before_the_mark_is_removed),
        TEST(test_a_tenant_that_does_not_exist_is_made),
        TEST(test_cut_off_before_its_mark_is_whole_it_begins_anew),
        TEST(test_a_directory_that_nobody_knows_is_not_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
