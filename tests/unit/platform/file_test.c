/* Files and directories: modes, bounds, atomic replacement, links that are not followed, and
 * locks. */
#include "bakend/failpoint.h"
#include "bakend/file.h"
#include "support.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A path below the test's directory; four live at once. */
static const char *below(void **state, const char *name) {
    static char paths[4][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    assert_true(bk_path_join(path, PATH_MAX, *state, name));
    return path;
}

static unsigned mode_of(const char *path) {
    struct stat facts;
    assert_int_equal(lstat(path, &facts), 0);
    return facts.st_mode & 07777;
}

static void write_file(const char *path, const char *text) {
    struct bk_error error = BK_ERROR_INIT;
    assert_int_equal(bk_file_write_atomic(path, bk_slice_from(text), &error), BK_OK);
}

static void assert_content(const char *path, const char *expected) {
    struct bk_buffer text;
    bk_buffer_init(&text, 1024);
    assert_int_equal(bk_file_read(path, &text, NULL), BK_OK);
    assert_true(bk_slice_equal(bk_buffer_slice(&text), bk_slice_from(expected)));
    bk_buffer_fini(&text);
}

/* --- paths ------------------------------------------------------------------------------------ */

static void test_joins_with_one_slash(void **state) {
    char out[16];
    (void)state;
    assert_true(bk_path_join(out, sizeof(out), "a", "b"));
    assert_string_equal(out, "a/b");
    assert_true(bk_path_join(out, sizeof(out), "a//", "/b"));
    assert_string_equal(out, "a/b");
    assert_true(bk_path_join(out, sizeof(out), "/", "b"));
    assert_string_equal(out, "/b");
    assert_true(bk_path_join(out, sizeof(out), "", "b"));
    assert_string_equal(out, "b");
    assert_true(bk_path_join(out, sizeof(out), "", "/b"));
    assert_string_equal(out, "/b");
}

static void test_a_joined_path_fits_or_is_refused(void **state) {
    char out[8] = "1234567";
    (void)state;
    assert_true(bk_path_join(out, 4, "a", "b"));
    assert_string_equal(out, "a/b");
    assert_int_equal(out[4], '5');
    assert_false(bk_path_join(out, 3, "a", "b"));
    assert_int_equal(out[0], '\0');
    assert_int_equal(out[3], '\0');
    assert_int_equal(out[4], '5');
    assert_false(bk_path_join(out, 0, "a", "b"));
}

/* --- directories ------------------------------------------------------------------------------ */

static void test_creates_parents_and_keeps_what_exists(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    const char *path = below(state, "a/b//c/");
    assert_int_equal(bk_directory_create(path, &error), BK_OK);
    assert_int_equal(mode_of(below(state, "a")), 0700);
    assert_int_equal(mode_of(below(state, "a/b/c")), 0700);
    assert_int_equal(chmod(below(state, "a"), 0750), 0);
    assert_int_equal(bk_directory_create(below(state, "a/b/d"), &error), BK_OK);
    assert_int_equal(mode_of(below(state, "a")), 0750);
}

static void test_a_file_in_the_way_of_a_directory_is_named(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    write_file(below(state, "file"), "");
    assert_int_equal(bk_directory_create(below(state, "file/sub"), &error), BK_CONFLICT);
    assert_non_null(strstr(error.message, "/file is a file; remove it"));
    assert_int_equal(bk_directory_create("", &error), BK_INVALID);
}

static void count_entry(void *user, const char *name, bool is_directory) {
    unsigned *counts = user;
    assert_true(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    counts[is_directory ? 1 : 0]++;
}

static void test_lists_entries_and_does_not_follow_links(void **state) {
    unsigned counts[2] = {0, 0};
    assert_int_equal(bk_directory_create(below(state, "sub"), NULL), BK_OK);
    write_file(below(state, "file"), "");
    assert_int_equal(symlink("sub", below(state, "link")), 0);
    assert_int_equal(bk_directory_list(*state, count_entry, counts, NULL), BK_OK);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 1);
    assert_int_equal(bk_directory_list(below(state, "none"), count_entry, counts, NULL),
                     BK_NOT_FOUND);
}

static void test_removes_all_below_but_not_behind_links(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    assert_int_equal(bk_directory_create(below(state, "outside"), NULL), BK_OK);
    write_file(below(state, "outside/kept"), "kept");
    assert_int_equal(bk_directory_create(below(state, "tree/a/b"), NULL), BK_OK);
    write_file(below(state, "tree/a/file"), "x");
    assert_int_equal(symlink("../outside", below(state, "tree/link")), 0);
    assert_int_equal(bk_directory_remove(below(state, "tree"), &error), BK_OK);
    assert_false(bk_file_exists(below(state, "tree")));
    assert_content(below(state, "outside/kept"), "kept");
    assert_int_equal(bk_directory_remove(below(state, "tree"), &error), BK_OK);
    assert_int_equal(symlink("outside", below(state, "link")), 0);
    assert_int_not_equal(bk_directory_remove(below(state, "link"), &error), BK_OK);
    assert_content(below(state, "outside/kept"), "kept");
}

/* --- files ------------------------------------------------------------------------------------ */

static void test_an_atomic_write_is_private_and_replaces(void **state) {
    const char *path = below(state, "file");
    unsigned counts[2] = {0, 0};
    write_file(path, "one");
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(chmod(path, 0644), 0);
    write_file(path, "two");
    assert_int_equal(mode_of(path), 0600);
    assert_content(path, "two");
    assert_int_equal(bk_directory_list(*state, count_entry, counts, NULL), BK_OK);
    assert_int_equal(counts[0], 1);
}

static void test_a_write_that_fails_leaves_the_old_content_and_no_rest(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    const char *path = below(state, "file");
    unsigned counts[2] = {0, 0};
    write_file(path, "old");
    assert_int_equal(bk_failpoint_configure("file.before_rename:full"), BK_OK);
    assert_int_equal(bk_file_write_atomic(path, BK_SLICE("new"), &error), BK_DISK_FULL);
    assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
    assert_content(path, "old");
    assert_int_equal(bk_directory_list(*state, count_entry, counts, NULL), BK_OK);
    assert_int_equal(counts[0], 1);
    assert_int_equal(bk_file_write_atomic(below(state, "none/file"), BK_SLICE("x"), &error),
                     BK_NOT_FOUND);
    assert_non_null(strstr(error.message, "create "));
}

static void test_a_process_killed_while_it_writes_leaves_the_old_content(void **state) {
    const char *path = below(state, "file");
    int outcome = 0;
    pid_t child;
    write_file(path, "old");
    child = fork();
    if (child == 0) {
        (void)bk_failpoint_configure("file.before_rename:kill");
        (void)bk_file_write_atomic(path, BK_SLICE("new"), NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &outcome, 0), child);
    assert_true(WIFSIGNALED(outcome));
    assert_content(path, "old");
}

static void test_reading_is_bounded_and_appends_all_or_nothing(void **state) {
    struct bk_buffer out;
    struct bk_error error = BK_ERROR_INIT;
    const char *path = below(state, "file");
    write_file(path, "12345");
    bk_buffer_init(&out, 7);
    bk_buffer_append_literal(&out, "> ");
    assert_int_equal(bk_file_read(path, &out, &error), BK_OK);
    assert_true(bk_slice_is(bk_buffer_slice(&out), "> 12345"));
    assert_int_equal(bk_file_read(path, &out, &error), BK_TOO_LARGE);
    assert_true(bk_slice_is(bk_buffer_slice(&out), "> 12345"));
    assert_int_equal(bk_file_read(below(state, "none"), &out, &error), BK_NOT_FOUND);
    assert_non_null(strstr(error.message, "none: No such file"));
    bk_buffer_fini(&out);
}

static void test_facts_rename_and_remove(void **state) {
    const char *from = below(state, "from"), *to = below(state, "sub/to");
    assert_int_equal(bk_directory_create(below(state, "sub"), NULL), BK_OK);
    assert_int_equal(bk_file_size(from), -1);
    assert_false(bk_file_exists(from));
    write_file(from, "12345");
    assert_int_equal(bk_file_size(from), 5);
    assert_int_equal(bk_file_rename(from, to, NULL), BK_OK);
    assert_false(bk_file_exists(from));
    assert_true(bk_file_exists(to));
    assert_int_equal(bk_file_rename(from, to, NULL), BK_NOT_FOUND);
    assert_int_equal(bk_file_remove(to, NULL), BK_OK);
    assert_int_equal(bk_file_remove(to, NULL), BK_NOT_FOUND);
}

static void test_a_name_in_the_working_directory_has_a_parent(void **state) {
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(*state), 0);
    write_file("file", "here");
    assert_content("file", "here");
    assert_int_equal(bk_directory_create("a/b", NULL), BK_OK);
    assert_int_equal(bk_directory_remove("a", NULL), BK_OK);
    assert_int_equal(chdir(before), 0);
}

static void test_paths_and_depths_have_limits(void **state) {
    static char longest[PATH_MAX + 1];
    struct bk_error error = BK_ERROR_INIT;
    char deep[PATH_MAX];
    assert_true(bk_path_join(deep, sizeof(deep), *state, "deep"));
    memset(longest, 'x', sizeof(longest) - 1);
    assert_int_equal(bk_directory_create(longest, &error), BK_INVALID);
    assert_int_equal(bk_file_write_atomic(longest, BK_SLICE("x"), &error), BK_INVALID);
    assert_int_equal(bk_file_remove(longest, &error), BK_INVALID);
    for (int i = 0; i < 65; i++) {
        size_t length = strlen(deep);
        assert_true(length + 3 <= sizeof(deep));
        memcpy(deep + length, "/d", 3);
    }
    assert_int_equal(bk_directory_create(deep, NULL), BK_OK);
    assert_int_equal(bk_directory_remove(below(state, "deep"), &error), BK_LIMIT);
    assert_int_equal(bk_directory_remove(below(state, "deep/d"), &error), BK_OK);
}

static void test_a_rename_onto_a_full_directory_is_refused(void **state) {
    assert_int_equal(bk_directory_create(below(state, "from"), NULL), BK_OK);
    assert_int_equal(bk_directory_create(below(state, "to/full"), NULL), BK_OK);
    assert_int_equal(bk_file_rename(below(state, "from"), below(state, "to"), NULL), BK_EXISTS);
    assert_true(bk_file_exists(below(state, "from")));
}

/* --- locks ------------------------------------------------------------------------------------ */

/* A process that takes the lock, says so, and keeps it until it is told to end. */
static pid_t start_owner(const char *path, int ready, int end) {
    int descriptor;
    char byte;
    pid_t child = fork();
    if (child != 0)
        return child;
    if (bk_file_lock(path, &descriptor, NULL) == BK_OK)
        (void)!write(ready, "x", 1);
    (void)!read(end, &byte, 1);
    _exit(0);
}

static void test_a_lock_of_another_process_is_a_conflict_with_its_id(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    const char *path = below(state, "lock");
    char id[32], byte;
    int ready[2], end[2], descriptor = -1;
    pid_t owner;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(end), 0);
    owner = start_owner(path, ready[1], end[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(bk_file_lock(path, &descriptor, &error), BK_CONFLICT);
    assert_int_equal(descriptor, -1);
    (void)snprintf(id, sizeof(id), "process %d;", (int)owner);
    assert_non_null(strstr(error.message, id));
    assert_int_equal(write(end[1], "x", 1), 1);
    assert_int_equal(waitpid(owner, NULL, 0), owner);
    assert_int_equal(bk_file_lock(path, &descriptor, &error), BK_OK);
    assert_int_equal(mode_of(path), 0600);
    bk_file_unlock(descriptor);
    for (int i = 0; i < 2; i++)
        (void)(close(ready[i]) + close(end[i]));
}

static void test_a_lock_holds_the_id_of_its_owner_until_it_is_given_back(void **state) {
    const char *path = below(state, "lock");
    char id[32];
    int descriptor, second;
    assert_int_equal(bk_file_lock(path, &descriptor, NULL), BK_OK);
    (void)snprintf(id, sizeof(id), "%d\n", (int)getpid());
    assert_content(path, id);
    assert_int_equal(bk_file_lock(path, &second, NULL), BK_CONFLICT);
    bk_file_unlock(descriptor);
    assert_int_equal(bk_file_lock(path, &second, NULL), BK_OK);
    bk_file_unlock(second);
}

static void test_a_lock_does_not_follow_a_link(void **state) {
    int descriptor;
    write_file(below(state, "target"), "precious");
    assert_int_equal(symlink("target", below(state, "lock")), 0);
    assert_int_equal(bk_file_lock(below(state, "lock"), &descriptor, NULL), BK_IO);
    assert_content(below(state, "target"), "precious");
}

int main(void) {
#define DIRECTORY_TEST(name)                                                                       \
    cmocka_unit_test_setup_teardown(name, support_directory_setup, support_directory_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joins_with_one_slash),
        cmocka_unit_test(test_a_joined_path_fits_or_is_refused),
        DIRECTORY_TEST(test_creates_parents_and_keeps_what_exists),
        DIRECTORY_TEST(test_a_file_in_the_way_of_a_directory_is_named),
        DIRECTORY_TEST(test_lists_entries_and_does_not_follow_links),
        DIRECTORY_TEST(test_removes_all_below_but_not_behind_links),
        DIRECTORY_TEST(test_an_atomic_write_is_private_and_replaces),
        DIRECTORY_TEST(test_a_write_that_fails_leaves_the_old_content_and_no_rest),
        DIRECTORY_TEST(test_a_process_killed_while_it_writes_leaves_the_old_content),
        DIRECTORY_TEST(test_reading_is_bounded_and_appends_all_or_nothing),
        DIRECTORY_TEST(test_facts_rename_and_remove),
        DIRECTORY_TEST(test_a_name_in_the_working_directory_has_a_parent),
        DIRECTORY_TEST(test_paths_and_depths_have_limits),
        DIRECTORY_TEST(test_a_rename_onto_a_full_directory_is_refused),
        DIRECTORY_TEST(test_a_lock_of_another_process_is_a_conflict_with_its_id),
        DIRECTORY_TEST(test_a_lock_holds_the_id_of_its_owner_until_it_is_given_back),
        DIRECTORY_TEST(test_a_lock_does_not_follow_a_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
