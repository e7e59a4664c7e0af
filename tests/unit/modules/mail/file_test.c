/* Mails in files: for the program's user alone, and not without end. */
#include "mail.h"

#include "bakend/file.h"
#include "bakend/id.h"
#include "support.h"
#include <stdio.h>
#include <sys/stat.h>

static mode_t mode_of(const char *path) {
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 0777;
}

static void write_one(const char *directory, const char *name, size_t files_max,
                      int64_t bytes_max) {
    struct bk_error error = BK_ERROR_INIT;
    if (mail_file_write(directory, bk_slice_from(name), BK_SLICE("0123456789"), files_max,
                        bytes_max, &error) != BK_OK)
        fail_msg("%s", error.message);
}

static bool is_there(const char *directory, const char *name) {
    char path[MAIL_PATH_BYTES];
    assert_true(bk_path_join(path, sizeof path, directory, name));
    return bk_file_exists(path);
}

static void nobody_else_may_read_them(void **state) {
    char directory[MAIL_PATH_BYTES], path[MAIL_PATH_BYTES];
    assert_true(bk_path_join(directory, sizeof directory, *state, "mail"));
    write_one(directory, "task00000000001", 10, 1000);
    assert_int_equal(mode_of(directory), 0700);
    assert_true(bk_path_join(path, sizeof path, directory, "task00000000001.eml"));
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(bk_file_size(path), 10);
}

static void the_oldest_go_when_there_are_too_many(void **state) {
    const char *directory = *state;
    static const char *const names[] = {"c", "a", "d", "b", "e"};
    write_one(directory, "z", 10, 1000);
    for (size_t i = 0; i < BK_COUNT_OF(names); i++)
        write_one(directory, names[i], 3, 1000);
    assert_true(is_there(directory, "z.eml"));
    assert_true(is_there(directory, "e.eml"));
    assert_true(is_there(directory, "d.eml"));
    assert_false(is_there(directory, "a.eml"));
    assert_false(is_there(directory, "b.eml"));
    assert_false(is_there(directory, "c.eml"));
}

static void the_oldest_go_when_they_are_too_large(void **state) {
    const char *directory = *state;
    char path[MAIL_PATH_BYTES];
    assert_true(bk_path_join(path, sizeof path, directory, "notes.txt"));
    assert_int_equal(bk_file_write_atomic(path, BK_SLICE("kept"), NULL), BK_OK);
    write_one(directory, "a", 100, 25);
    write_one(directory, "b", 100, 25);
    write_one(directory, "c", 100, 25);
    assert_false(is_there(directory, "a.eml"));
    assert_true(is_there(directory, "b.eml"));
    write_one(directory, "d", 100, 1);
    assert_false(is_there(directory, "c.eml"));
    assert_true(is_there(directory, "d.eml"));
    assert_true(is_there(directory, "notes.txt"));
}

static void where_nothing_can_be_written_it_is_said(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    char path[MAIL_PATH_BYTES];
    assert_true(bk_path_join(path, sizeof path, *state, "file"));
    assert_int_equal(bk_file_write_atomic(path, BK_SLICE("x"), NULL), BK_OK);
    assert_int_not_equal(mail_file_write(path, BK_SLICE("a"), BK_SLICE("x"), 1, 1, &error), BK_OK);
    assert_true(error.message[0] != '\0');
}

static void the_old_ones_go_by_the_time_in_their_names(void **state) {
    const char *directory = *state;
    char old[BK_RECORD_ID_BYTES + 1] = {0}, new[BK_RECORD_ID_BYTES + 1] = {0}, name[40];
    const int64_t wall_ms = INT64_C(1800000000000);
    bk_record_id_make(old, wall_ms - 1);
    bk_record_id_make(new, wall_ms);
    write_one(directory, old, 10, 1000);
    write_one(directory, new, 10, 1000);
    write_one(directory, "0-notes", 10, 1000);
    assert_int_equal(mail_files_remove_before(directory, wall_ms), 1);
    assert_true(is_there(directory, "0-notes.eml"));
    snprintf(name, sizeof name, "%s.eml", old);
    assert_false(is_there(directory, name));
    snprintf(name, sizeof name, "%s.eml", new);
    assert_true(is_there(directory, name));
    assert_int_equal(mail_files_remove_before(directory, wall_ms), 0);
    assert_int_equal(mail_files_remove_before("/nowhere", wall_ms), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_else_may_read_them, support_directory_setup,
                                        support_directory_teardown),
        cmocka_unit_test_setup_teardown(the_oldest_go_when_there_are_too_many,
                                        support_directory_setup, support_directory_teardown),
        cmocka_unit_test_setup_teardown(the_oldest_go_when_they_are_too_large,
                                        support_directory_setup, support_directory_teardown),
        cmocka_unit_test_setup_teardown(the_old_ones_go_by_the_time_in_their_names,
                                        support_directory_setup, support_directory_teardown),
        cmocka_unit_test_setup_teardown(where_nothing_can_be_written_it_is_said,
                                        support_directory_setup, support_directory_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
