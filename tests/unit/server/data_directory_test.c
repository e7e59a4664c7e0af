/* The lock and the instance key of a data directory. */
#include "bakend/encode.h"
#include "bakend/file.h"
#include "data_directory.h"
#include "support.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *key_path(void **state) {
    static char path[512];
    assert_true(bk_path_join(path, sizeof path, *state, "instance.key"));
    return path;
}

static enum bk_status read_key(void **state, uint8_t key[BK_KEY_BYTES], bool *is_new,
                               struct bk_error *error) {
    *error = (struct bk_error)BK_ERROR_INIT;
    return data_directory_read_key(*state, key, is_new, error);
}

static void test_a_key_is_made_once_and_read_back(void **state) {
    uint8_t made[BK_KEY_BYTES], read[BK_KEY_BYTES];
    bool is_new = false;
    struct bk_error error;
    assert_int_equal(read_key(state, made, &is_new, &error), BK_OK);
    assert_true(is_new);
    assert_int_equal(data_directory_mode(key_path(state)), 0600);
    assert_int_equal(bk_file_size(key_path(state)), INSTANCE_KEY_TEXT_BYTES + 1);
    assert_int_equal(read_key(state, read, &is_new, &error), BK_OK);
    assert_false(is_new);
    assert_memory_equal(made, read, BK_KEY_BYTES);
}

static void test_a_key_that_others_may_read_is_refused(void **state) {
    uint8_t key[BK_KEY_BYTES];
    bool is_new;
    struct bk_error error;
    assert_int_equal(read_key(state, key, &is_new, &error), BK_OK);
    const mode_t wrong[] = {0640, 0604, 0620, 0601};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(chmod(key_path(state), wrong[i]), 0);
        assert_int_equal(read_key(state, key, &is_new, &error), BK_FORBIDDEN);
        assert_non_null(strstr(error.message, "chmod 600"));
    }
}

static void test_a_file_that_is_no_key_is_refused_and_kept(void **state) {
    const char *const wrong[] = {"", "short", "!!!!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t key[BK_KEY_BYTES];
        bool is_new;
        struct bk_error error;
        assert_int_equal(bk_file_write_atomic(key_path(state), bk_slice_from(wrong[i]), NULL),
                         BK_OK);
        assert_int_equal(read_key(state, key, &is_new, &error), BK_CORRUPT);
        assert_int_equal(bk_file_size(key_path(state)), (int64_t)strlen(wrong[i]));
    }
}

static void test_the_directory_is_made_private_and_locked_once(void **state) {
    char path[512];
    int first = -1, second = -1;
    struct bk_error error = BK_ERROR_INIT;
    assert_true(bk_path_join(path, sizeof path, *state, "a/data"));
    assert_int_equal(data_directory_lock(path, &first, &error), BK_OK);
    assert_int_equal(data_directory_mode(path), 0700);
    assert_int_equal(data_directory_lock(path, &second, &error), BK_CONFLICT);
    assert_non_null(strstr(error.message, "is in use"));
    bk_file_unlock(first);
    assert_int_equal(data_directory_lock(path, &second, &error), BK_OK);
    bk_file_unlock(second);
}

static void test_a_missing_path_has_no_mode(void **state) {
    (void)state;
    assert_int_equal(data_directory_mode("/missing"), -1);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_directory_setup, support_directory_teardown)

static void test_what_was_made_in_vain_goes_with_the_directories_made_for_it(void **state) {
    char above[512], path[1024];
    size_t missing;
    (void)snprintf(above, sizeof above, "%s/a", (const char *)*state);
    (void)snprintf(path, sizeof path, "%s//b/data/", above);
    missing = data_directory_missing(path);
    assert_int_equal(missing, strlen(above));
    assert_int_equal(bk_directory_create(path, NULL), BK_OK);
    assert_int_equal(data_directory_missing(path), 0);
    data_directory_discard(path, missing);
    assert_false(bk_file_exists(above));
    assert_true(bk_file_exists(*state));
}

static void test_a_directory_that_others_have_used_meanwhile_stays(void **state) {
    char path[512], other[512];
    (void)snprintf(path, sizeof path, "%s/a/data", (const char *)*state);
    (void)snprintf(other, sizeof other, "%s/a/other", (const char *)*state);
    size_t missing = data_directory_missing(path);
    assert_int_equal(bk_directory_create(path, NULL), BK_OK);
    assert_int_equal(bk_directory_create(other, NULL), BK_OK);
    data_directory_discard(path, missing);
    assert_false(bk_file_exists(path));
    assert_true(bk_file_exists(other));
}

int main(void) {
    assert_int_equal(bk_crypto_init(), BK_OK);
    const struct CMUnitTest tests[] = {
        TEST(test_a_key_is_made_once_and_read_back),
        TEST(test_a_key_that_others_may_read_is_refused),
        TEST(test_a_file_that_is_no_key_is_refused_and_kept),
        TEST(test_the_directory_is_made_private_and_locked_once),
        TEST(test_a_missing_path_has_no_mode),
        TEST(test_what_was_made_in_vain_goes_with_the_directories_made_for_it),
        TEST(test_a_directory_that_others_have_used_meanwhile_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
