/* The archive: what is put in comes out, and nothing else is taken for one. */
#include "archive.h"
#include "bakend/alloc.h"
#include "bakend/file.h"
#include "support.h"

#include <string.h>

enum { DATA_BYTES = 600000 /* several steps of the pump */, FILE_MAX_BYTES = 2 * 1024 * 1024 };

#define TENANT BK_SLICE("default")

static const char *below(void **state, const char *name) {
    static char paths[4][512];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    assert_true(bk_path_join(path, sizeof paths[0], *state, name));
    return path;
}

/* Hard to compress and repeatable. */
static struct bk_buffer make_data(void) {
    struct bk_buffer data;
    uint32_t seed = 1;
    bk_buffer_init(&data, DATA_BYTES);
    for (size_t i = 0; i < DATA_BYTES; i++) {
        seed = seed * 1664525 + 1013904223;
        bk_buffer_append_char(&data, (char)(seed >> 24));
    }
    return data;
}

static struct bk_buffer read_whole(const char *path) {
    struct bk_buffer data;
    bk_buffer_init(&data, FILE_MAX_BYTES);
    assert_int_equal(bk_file_read(path, &data, NULL), BK_OK);
    return data;
}

static void write_archive(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    struct bk_buffer data = make_data();
    assert_int_equal(bk_file_write_atomic(below(state, "data.db"), bk_buffer_slice(&data), NULL),
                     BK_OK);
    assert_int_equal(backups_archive_write(below(state, "a.zip"), below(state, "data.db"),
                                           BK_SLICE("default"), &error),
                     BK_OK);
    bk_buffer_fini(&data);
}

static void test_a_database_comes_out_as_it_went_in(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    write_archive(state);
    assert_int_equal(
        backups_archive_read(below(state, "a.zip"), below(state, "out.db"), TENANT, &error), BK_OK);
    struct bk_buffer in = make_data(), out = read_whole(below(state, "out.db"));
    assert_true(bk_slice_equal(bk_buffer_slice(&in), bk_buffer_slice(&out)));
    bk_buffer_fini(&in);
    bk_buffer_fini(&out);
}

static void test_a_target_that_exists_is_not_overwritten(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    write_archive(state);
    assert_int_equal(
        backups_archive_read(below(state, "a.zip"), below(state, "data.db"), TENANT, &error),
        BK_IO);
    assert_int_equal(bk_file_size(below(state, "data.db")), DATA_BYTES);
}

static void test_a_missing_database_leaves_no_archive(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    assert_int_equal(backups_archive_write(below(state, "a.zip"), below(state, "missing"),
                                           BK_SLICE("default"), &error),
                     BK_IO);
    assert_false(bk_file_exists(below(state, "a.zip")));
    assert_non_null(strstr(error.message, "missing"));
}

/* Each step into the file, one byte is turned. Either it is noticed, or the data is right all the
 * same. */
static void test_a_damaged_archive_never_gives_wrong_data(void **state) {
    write_archive(state);
    struct bk_buffer whole = read_whole(below(state, "a.zip")), data = make_data();
    uint32_t noticed = 0;
    for (size_t at = 0; at < whole.length; at += whole.length / 40) {
        struct bk_error error = BK_ERROR_INIT;
        whole.data[at] = (char)~whole.data[at];
        assert_int_equal(bk_file_write_atomic(below(state, "b.zip"), bk_buffer_slice(&whole), NULL),
                         BK_OK);
        if (backups_archive_read(below(state, "b.zip"), below(state, "out.db"), TENANT, &error) ==
            BK_OK) {
            struct bk_buffer out = read_whole(below(state, "out.db"));
            assert_true(bk_slice_equal(bk_buffer_slice(&data), bk_buffer_slice(&out)));
            bk_buffer_fini(&out);
        } else {
            noticed++;
        }
        (void)bk_file_remove(below(state, "out.db"), NULL);
        whole.data[at] = (char)~whole.data[at];
    }
    assert_true(noticed >= 38);
    bk_buffer_fini(&whole);
    bk_buffer_fini(&data);
}

static void test_a_cut_archive_is_refused(void **state) {
    write_archive(state);
    struct bk_buffer whole = read_whole(below(state, "a.zip"));
    for (size_t length = 0; length < whole.length; length += whole.length / 20) {
        struct bk_error error = BK_ERROR_INIT;
        assert_int_equal(
            bk_file_write_atomic(below(state, "b.zip"), bk_slice_make(whole.data, length), NULL),
            BK_OK);
        assert_int_not_equal(
            backups_archive_read(below(state, "b.zip"), below(state, "out.db"), TENANT, &error),
            BK_OK);
        assert_non_null(strstr(error.message, "b.zip"));
        (void)bk_file_remove(below(state, "out.db"), NULL);
    }
    bk_buffer_fini(&whole);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_directory_setup, support_directory_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_database_comes_out_as_it_went_in),
        TEST(test_a_target_that_exists_is_not_overwritten),
        TEST(test_a_missing_database_leaves_no_archive),
        TEST(test_a_damaged_archive_never_gives_wrong_data),
        TEST(test_a_cut_archive_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
