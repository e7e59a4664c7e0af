/*
 * Proves the head: a database that was put back by hand gets a new epoch, and no other does – not
 * after a close, not after a kill, not when its directory has moved.
 *
 * What a kill leaves is made from files: the directory is copied while the database is open, when
 * nothing is under way.
 */
#include "store_fixture.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"
#include "bakend/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_BYTES_MAX = 16 * 1024 * 1024,
    STEP = 1024,
    SLOT_DISTANCE_BYTES = 4096,
    PATH_BYTES = SUPPORT_STORE_PATH_BYTES + 32,
    EPOCH_BYTES = 8
};

static const char *const file_names[] = {"data.db", "data.db-wal", "data.db-shm", "head"};

/* Files of the directory at one time; one that was missing has no data. */
struct snapshot {
    struct bk_buffer files[BK_COUNT_OF(file_names)];
    bool is_there[BK_COUNT_OF(file_names)];
};

struct fixture {
    struct support_store store;
    char head_path[PATH_BYTES];
    uint8_t epoch[EPOCH_BYTES]; /* as of remember_epoch */
};

/* --- the fixture ------------------------------------------------------------------------------ */

static void open_database(struct fixture *fixture) {
    enum bk_status status = support_store_open(&fixture->store);
    if (status != BK_OK)
        fail_msg("%s", fixture->store.opening.error.message);
}

static int setup(void **state) {
    struct fixture *fixture = bk_alloc_zero(sizeof(*fixture));
    support_store_prepare(&fixture->store);
    (void)snprintf(fixture->head_path, sizeof(fixture->head_path), "%s/head",
                   fixture->store.directory);
    fixture->store.opening.options.head_path = fixture->head_path;
    support_store_start(&fixture->store, NULL);
    open_database(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    (void)bk_failpoint_configure(NULL);
    if (fixture->store.database != NULL)
        support_store_close(&fixture->store);
    support_store_destroy(&fixture->store);
    bk_free(fixture);
    return 0;
}

static enum bk_status emit_many(struct bk_transaction *transaction, void *user) {
    const struct bk_event_draft draft = {
        .type = BK_SLICE("a.b"), .source = BK_SLICE("test"), .payload = BK_SLICE("{}")};
    for (int i = 0; i < *(const int *)user; i++) {
        enum bk_status status = bk_transaction_emit(transaction, &draft);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

/* In one commit. The events that the fixture notes are bounded, and of no interest here. */
static void emit(struct fixture *fixture, int count) {
    fixture->store.event_count = 0;
    assert_int_equal(support_store_run(&fixture->store, emit_many, &count), BK_OK);
}

static void remember_epoch(struct fixture *fixture) {
    struct bk_journal_state journal = bk_journal_state(fixture->store.database);
    memcpy(fixture->epoch, journal.epoch, EPOCH_BYTES);
}

static bool is_epoch_kept(const struct fixture *fixture) {
    struct bk_journal_state journal = bk_journal_state(fixture->store.database);
    return memcmp(journal.epoch, fixture->epoch, EPOCH_BYTES) == 0;
}

static void open_again(struct fixture *fixture) {
    support_store_close(&fixture->store);
    open_database(fixture);
}

/* --- files ------------------------------------------------------------------------------------ */

static void path_of(char path[PATH_BYTES], const struct fixture *fixture, const char *name) {
    (void)snprintf(path, PATH_BYTES, "%.500s/%s", fixture->store.directory, name);
}

static struct snapshot take(const struct fixture *fixture) {
    struct snapshot snapshot = {0};
    for (size_t i = 0; i < BK_COUNT_OF(file_names); i++) {
        char path[PATH_BYTES];
        path_of(path, fixture, file_names[i]);
        bk_buffer_init(&snapshot.files[i], FILE_BYTES_MAX);
        snapshot.is_there[i] = bk_file_read(path, &snapshot.files[i], NULL) == BK_OK;
    }
    return snapshot;
}

static void put_file(const struct fixture *fixture, struct snapshot *snapshot, size_t i) {
    char path[PATH_BYTES];
    path_of(path, fixture, file_names[i]);
    (void)unlink(path);
    if (snapshot->is_there[i])
        assert_int_equal(bk_file_write_atomic(path, bk_buffer_slice(&snapshot->files[i]), NULL),
                         BK_OK);
}

static void drop(struct snapshot *snapshot) {
    for (size_t i = 0; i < BK_COUNT_OF(file_names); i++)
        bk_buffer_fini(&snapshot->files[i]);
}

/* Only data.db and what SQLite keeps beside it, as somebody would do by hand. */
static void put_database(const struct fixture *fixture, struct snapshot *snapshot) {
    for (size_t i = 0; i + 1 < BK_COUNT_OF(file_names); i++)
        put_file(fixture, snapshot, i);
}

static void put_all(const struct fixture *fixture, struct snapshot *snapshot) {
    for (size_t i = 0; i < BK_COUNT_OF(file_names); i++)
        put_file(fixture, snapshot, i);
}

/* The database is closed, and then as if it had been killed instead. */
static void kill_database(struct fixture *fixture) {
    struct snapshot left = take(fixture);
    support_store_close(&fixture->store);
    put_all(fixture, &left);
    drop(&left);
}

static void spoil_slot(const struct fixture *fixture, off_t slot) {
    static const uint8_t garbage = 0xa5;
    int descriptor = open(fixture->head_path, O_WRONLY);
    assert_true(descriptor >= 0);
    assert_int_equal(pwrite(descriptor, &garbage, 1, slot * SLOT_DISTANCE_BYTES + 32), 1);
    assert_int_equal(close(descriptor), 0);
}

/* --- the epoch stays -------------------------------------------------------------------------- */

static void closing_and_opening_keeps_the_epoch(void **state) {
    struct fixture *fixture = *state;
    struct stat information;
    remember_epoch(fixture);
    for (int i = 0; i < 5; i++) {
        open_again(fixture);
        assert_true(is_epoch_kept(fixture));
        emit(fixture, i * 300);
    }
    assert_int_equal(stat(fixture->head_path, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0600);
    assert_int_equal(information.st_size, 2 * SLOT_DISTANCE_BYTES);
}

static void a_kill_keeps_the_epoch_wherever_it_hits(void **state) {
    static const int counts[] = {0, 1, STEP - 1, 1, 1, 2 * STEP, 3, STEP, STEP};
    struct fixture *fixture = *state;
    remember_epoch(fixture);
    for (size_t i = 0; i < BK_COUNT_OF(counts); i++) {
        if (counts[i] > 0)
            emit(fixture, counts[i]);
        kill_database(fixture);
        open_database(fixture);
        assert_true(is_epoch_kept(fixture));
        /* And another one, of a database that has written nothing. */
        kill_database(fixture);
        open_database(fixture);
        assert_true(is_epoch_kept(fixture));
    }
}

static void a_moved_directory_keeps_its_epoch(void **state) {
    struct fixture *fixture = *state;
    char moved[PATH_BYTES];
    (void)snprintf(moved, sizeof(moved), "%.400s-moved", fixture->store.directory);
    emit(fixture, 10);
    remember_epoch(fixture);
    support_store_close(&fixture->store);
    assert_int_equal(rename(fixture->store.directory, moved), 0);
    (void)snprintf(fixture->store.path, sizeof(fixture->store.path), "%.450s/data.db", moved);
    (void)snprintf(fixture->head_path, sizeof(fixture->head_path), "%.450s/head", moved);
    open_database(fixture);
    assert_true(is_epoch_kept(fixture));
    assert_int_equal(bk_journal_state(fixture->store.database).last, 10);
    support_store_close(&fixture->store);
    assert_int_equal(rename(moved, fixture->store.directory), 0);
}

static void a_database_from_before_heads_keeps_its_epoch_and_is_guarded_from_then_on(void **state) {
    struct fixture *fixture = *state;
    struct snapshot older;
    emit(fixture, 10);
    remember_epoch(fixture);
    support_store_close(&fixture->store);
    older = take(fixture);
    assert_int_equal(unlink(fixture->head_path), 0);
    open_database(fixture);
    assert_true(is_epoch_kept(fixture));
    emit(fixture, 1);
    support_store_close(&fixture->store);
    put_database(fixture, &older);
    drop(&older);
    open_database(fixture);
    assert_false(is_epoch_kept(fixture));
}

static void an_older_head_beside_a_newer_database_keeps_the_epoch(void **state) {
    struct fixture *fixture = *state;
    struct snapshot older;
    emit(fixture, 10);
    remember_epoch(fixture);
    support_store_close(&fixture->store);
    older = take(fixture);
    open_database(fixture);
    emit(fixture, 3 * STEP);
    support_store_close(&fixture->store);
    put_file(fixture, &older, BK_COUNT_OF(file_names) - 1);
    drop(&older);
    open_database(fixture);
    assert_true(is_epoch_kept(fixture));
}

/* --- a new epoch ------------------------------------------------------------------------------ */

static void an_older_database_put_back_gets_a_new_epoch_once(void **state) {
    struct fixture *fixture = *state;
    struct snapshot older;
    emit(fixture, 10);
    remember_epoch(fixture);
    support_store_close(&fixture->store);
    older = take(fixture);
    open_database(fixture);
    emit(fixture, 1);
    support_store_close(&fixture->store);
    put_database(fixture, &older);
    drop(&older);
    open_database(fixture);
    assert_false(is_epoch_kept(fixture));
    assert_int_equal(bk_journal_state(fixture->store.database).last, 10);
    remember_epoch(fixture);
    emit(fixture, 1);
    open_again(fixture);
    assert_true(is_epoch_kept(fixture));
    assert_int_equal(bk_journal_state(fixture->store.database).last, 11);
}

static void the_same_database_put_back_keeps_its_epoch(void **state) {
    struct fixture *fixture = *state;
    struct snapshot same;
    emit(fixture, 10);
    remember_epoch(fixture);
    support_store_close(&fixture->store);
    same = take(fixture);
    open_database(fixture);
    kill_database(fixture);
    put_database(fixture, &same);
    drop(&same);
    open_database(fixture);
    assert_true(is_epoch_kept(fixture));
}

/* A copy of an open database bears the mark of one in use, so only its numbers tell. */
static void a_copy_of_an_open_database_is_recognised_after_a_kill_and_a_step(void **state) {
    struct fixture *fixture = *state;
    struct snapshot older;
    emit(fixture, 10);
    remember_epoch(fixture);
    older = take(fixture);
    emit(fixture, STEP);
    emit(fixture, 1);
    kill_database(fixture);
    put_database(fixture, &older);
    drop(&older);
    open_database(fixture);
    assert_false(is_epoch_kept(fixture));
}

static void a_copy_of_a_closed_database_is_recognised_after_a_kill_and_one_event(void **state) {
    struct fixture *fixture = *state;
    struct snapshot older;
    emit(fixture, 10);
    remember_epoch(fixture);
    support_store_close(&fixture->store);
    older = take(fixture);
    open_database(fixture);
    emit(fixture, 1);
    kill_database(fixture);
    put_database(fixture, &older);
    drop(&older);
    open_database(fixture);
    assert_false(is_epoch_kept(fixture));
}

static void a_database_of_a_former_epoch_gets_a_new_one(void **state) {
    struct fixture *fixture = *state;
    struct snapshot former;
    struct bk_error error = BK_ERROR_INIT;
    emit(fixture, 10);
    remember_epoch(fixture);
    support_store_close(&fixture->store);
    former = take(fixture);
    assert_int_equal(unlink(fixture->head_path), 0);
    assert_int_equal(bk_database_renew_epoch(fixture->store.path, &error), BK_OK);
    open_database(fixture);
    assert_false(is_epoch_kept(fixture));
    support_store_close(&fixture->store);
    put_database(fixture, &former);
    drop(&former);
    open_database(fixture);
    assert_false(is_epoch_kept(fixture));
}

/* --- the file --------------------------------------------------------------------------------- */

static void one_spoilt_slot_harms_nothing(void **state) {
    struct fixture *fixture = *state;
    remember_epoch(fixture);
    for (off_t slot = 0; slot < 2; slot++) {
        emit(fixture, 2 * STEP);
        emit(fixture, 2 * STEP);
        kill_database(fixture);
        spoil_slot(fixture, slot);
        open_database(fixture);
        assert_true(is_epoch_kept(fixture));
    }
}

static void a_damaged_head_means_a_new_epoch(void **state) {
    struct fixture *fixture = *state;
    remember_epoch(fixture);
    emit(fixture, 10);
    support_store_close(&fixture->store);
    spoil_slot(fixture, 0);
    spoil_slot(fixture, 1);
    open_database(fixture);
    assert_false(is_epoch_kept(fixture));
    remember_epoch(fixture);
    open_again(fixture);
    assert_true(is_epoch_kept(fixture));
    support_store_close(&fixture->store);
    assert_int_equal(truncate(fixture->head_path, 0), 0);
    open_database(fixture);
    assert_false(is_epoch_kept(fixture));
}

static void a_head_that_cannot_be_read_refuses_the_opening(void **state) {
    struct fixture *fixture = *state;
    remember_epoch(fixture);
    support_store_close(&fixture->store);
    assert_int_equal(unlink(fixture->head_path), 0);
    assert_int_equal(mkdir(fixture->head_path, 0700), 0);
    assert_int_equal(support_store_open(&fixture->store), BK_IO);
    assert_non_null(strstr(fixture->store.opening.error.message, fixture->head_path));
    assert_int_equal(rmdir(fixture->head_path), 0);
    open_database(fixture);
    assert_true(is_epoch_kept(fixture));
}

static void writes_go_on_when_the_head_cannot_be_written(void **state) {
    struct fixture *fixture = *state;
    remember_epoch(fixture);
    emit(fixture, 1);
    assert_int_equal(bk_failpoint_configure("store.head:error"), BK_OK);
    emit(fixture, 2 * STEP);
    emit(fixture, 1);
    /* Closed without the mark of it, which would contradict the head that is there. */
    support_store_close(&fixture->store);
    assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
    open_database(fixture);
    assert_true(is_epoch_kept(fixture));
    assert_int_equal(bk_journal_state(fixture->store.database).last, 2 * STEP + 2);
    open_again(fixture);
    assert_true(is_epoch_kept(fixture));
}

static int64_t count_of_writes(const struct fixture *fixture) {
    struct bk_buffer bytes;
    int64_t counts[2] = {0};
    bk_buffer_init(&bytes, FILE_BYTES_MAX);
    assert_int_equal(bk_file_read(fixture->head_path, &bytes, NULL), BK_OK);
    for (size_t i = 0; i < 2; i++)
        memcpy(&counts[i], bytes.data + i * SLOT_DISTANCE_BYTES + 16, sizeof(counts[i]));
    bk_buffer_fini(&bytes);
    return counts[0] > counts[1] ? counts[0] : counts[1];
}

static void it_is_written_once_per_step_and_not_for_readers(void **state) {
    struct fixture *fixture = *state;
    int64_t before = count_of_writes(fixture);
    open_again(fixture);
    open_again(fixture);
    assert_int_equal(count_of_writes(fixture), before);
    for (int i = 0; i < 3 * STEP; i += 8)
        emit(fixture, 8);
    assert_int_equal(count_of_writes(fixture), before + 3);
    support_store_close(&fixture->store);
    assert_int_equal(count_of_writes(fixture), before + 4);
    open_database(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(closing_and_opening_keeps_the_epoch),
        TEST(a_kill_keeps_the_epoch_wherever_it_hits),
        TEST(a_moved_directory_keeps_its_epoch),
        TEST(a_database_from_before_heads_keeps_its_epoch_and_is_guarded_from_then_on),
        TEST(an_older_head_beside_a_newer_database_keeps_the_epoch),
        TEST(an_older_database_put_back_gets_a_new_epoch_once),
        TEST(the_same_database_put_back_keeps_its_epoch),
        TEST(a_copy_of_an_open_database_is_recognised_after_a_kill_and_a_step),
        TEST(a_copy_of_a_closed_database_is_recognised_after_a_kill_and_one_event),
        TEST(a_database_of_a_former_epoch_gets_a_new_one),
        TEST(one_spoilt_slot_harms_nothing),
        TEST(a_damaged_head_means_a_new_epoch),
        TEST(a_head_that_cannot_be_read_refuses_the_opening),
        TEST(writes_go_on_when_the_head_cannot_be_written),
        TEST(it_is_written_once_per_step_and_not_for_readers),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
