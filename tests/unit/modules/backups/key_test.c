/* Names of backups: file names of one kind, and nothing that could mean another place. */
#include "backups_private.h"
#include "support.h"

#include <string.h>

static void test_small_letters_digits_and_dashes_with_zip(void **state) {
    (void)state;
    assert_true(backups_key_is_valid(BK_SLICE("a.zip")));
    assert_true(backups_key_is_valid(BK_SLICE("2026-06_08.zip")));
    const char *const wrong[] = {
        "",      ".zip",     "a",         "a.ZIP",        "A.zip",  "a b.zip", "a/.zip",
        "..zip", "../a.zip", "a.zip.zip", "\xc3\xa4.zip", ".a.zip", "a.zip ",  "a.db"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(backups_key_is_valid(bk_slice_from(wrong[i])));
}

static void test_at_most_150_bytes(void **state) {
    (void)state;
    char key[160];
    memset(key, 'a', sizeof key);
    memcpy(key + 146, ".zip", 4);
    assert_true(backups_key_is_valid(bk_slice_make(key, 150)));
    memcpy(key + 147, ".zip", 4);
    key[146] = 'a';
    assert_false(backups_key_is_valid(bk_slice_make(key, 151)));
}

static void test_a_made_key_names_tenant_and_time(void **state) {
    (void)state;
    char key[BACKUPS_KEY_BYTES_MAX + 1];
    backups_key_make(key, BK_SLICE("acme"), INT64_C(1780920000123));
    assert_string_equal(key, "bakend_backup_acme_20260608120000123.zip");
}

static void test_a_path_lies_in_the_tenants_folder(void **state) {
    (void)state;
    char path[BACKUPS_PATH_BYTES];
    assert_true(backups_path(path, "data/tenants/a", ".", BK_SLICE("k.zip"), ".part"));
    assert_string_equal(path, "data/tenants/a/backups/.k.zip.part");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_letters_digits_and_dashes_with_zip),
        cmocka_unit_test(test_at_most_150_bytes),
        cmocka_unit_test(test_a_made_key_names_tenant_and_time),
        cmocka_unit_test(test_a_path_lies_in_the_tenants_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
