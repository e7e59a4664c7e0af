/*
 * Proves opening: migrations run once, damage is refused and left as it is, what was acknowledged
 * survives a kill, and a full disk stops writes but not reads.
 */
#include "store_fixture.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/failpoint.h"
#include "bakend/file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 16 * 1024 * 1024, ITEMS = 500 };

static enum bk_status insert_items(struct bk_transaction *transaction, void *user) {
    (void)user;
    for (int i = 0; i < ITEMS; i++) {
        char name[16];
        enum bk_status status;
        (void)snprintf(name, sizeof(name), "item%d", i);
        status = support_run_item(transaction, name);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

/* Whoever must act knows of which file, and what to do. */
static void assert_told(const struct support_store *fixture) {
    const char *message = fixture->opening.error.message;
    if (strstr(message, fixture->path) == NULL || strstr(message, "`bakend restore`") == NULL)
        fail_msg("%s", message);
}

/* --- migrations and on_prepare ---------------------------------------------------------------- */

static void migrations_run_in_order_and_once(void **state) {
    struct support_store *fixture = *state;
    const struct bk_migration more[] = {
        {"items_1", "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE)"},
        {"items_2",
         "ALTER TABLE items ADD COLUMN size INTEGER; INSERT INTO items VALUES (1,'a',2)"},
    };
    support_store_close(fixture);
    fixture->opening.options.migrations = more;
    fixture->opening.options.migration_count = 2;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(support_store_open(fixture), BK_OK);
        assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 1);
        assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM _migrations"), 2);
        support_store_close(fixture);
    }
    assert_int_equal(support_store_open(fixture), BK_OK);
}

static void a_failing_migration_is_named_and_leaves_nothing(void **state) {
    struct support_store *fixture = *state;
    const struct bk_migration broken[] = {
        {"more_1", "CREATE TABLE more (id)"},
        {"more_2", "CREATE TABLE even_more (id); INSERT INTO nowhere VALUES (1)"},
    };
    struct bk_database_options options = fixture->opening.options;
    support_store_close(fixture);
    fixture->opening.options.migrations = broken;
    fixture->opening.options.migration_count = 2;
    assert_int_equal(support_store_open(fixture), BK_CORRUPT);
    assert_told(fixture);
    assert_non_null(strstr(fixture->opening.error.message, "more_2"));
    assert_non_null(strstr(fixture->opening.error.message, "nowhere"));
    fixture->opening.options = options;
    assert_int_equal(support_store_open(fixture), BK_OK);
    assert_int_equal(
        support_store_number(fixture, "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%more'"),
        0);
}

static enum bk_status emit_at_opening(struct bk_transaction *transaction, void *user,
                                      struct bk_error *error) {
    char name[] = "first";
    (void)user, (void)error;
    return support_run_item(transaction, name);
}

static enum bk_status fail_to_prepare(struct bk_transaction *transaction, void *user,
                                      struct bk_error *error) {
    const char *words = user;
    if (words[0] != '\0')
        return bk_error_set(error, BK_CONFLICT, "%s", words);
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("UPDATE items SET missing = 1"));
}

static void a_database_that_cannot_be_prepared_is_told_with_its_file(void **state) {
    struct support_store *fixture = *state;
    static char nothing[] = "", words[] = "twice\nthe \xff same";
    static char longest[BK_ERROR_MESSAGE_BYTES];
    memset(longest, 'x', sizeof(longest) - 1);
    const struct {
        char *words;
        const char *expected;
    } cases[] = {{nothing, "no such column: missing"}, {words, "twice?the ? same"}, {longest, "x"}};
    support_store_close(fixture);
    fixture->opening.options.on_prepare = fail_to_prepare;
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        fixture->opening.options.user = cases[i].words;
        assert_int_equal(support_store_open(fixture), BK_CORRUPT);
        assert_told(fixture);
        if (strstr(fixture->opening.error.message, cases[i].expected) == NULL)
            fail_msg("%s", fixture->opening.error.message);
    }
    fixture->opening.options.on_prepare = NULL;
    assert_int_equal(support_store_open(fixture), BK_OK);
}

static void events_of_the_opening_go_to_the_bus(void **state) {
    struct support_store *fixture = *state;
    support_store_close(fixture);
    fixture->opening.options.on_prepare = emit_at_opening;
    assert_int_equal(support_store_open(fixture), BK_OK);
    support_loop_run_for(fixture->loop, 1);
    assert_int_equal(fixture->event_count, 1);
    assert_int_equal(fixture->events[0], 1);
    assert_int_equal(bk_journal_state(fixture->database).last, 1);
}

static void files_are_private(void **state) {
    struct support_store *fixture = *state;
    char wal[SUPPORT_STORE_PATH_BYTES + 8];
    struct stat information;
    (void)snprintf(wal, sizeof(wal), "%s-wal", fixture->path);
    assert_int_equal(stat(fixture->path, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0600);
    assert_int_equal(stat(wal, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0600);
}

/* --- damage ----------------------------------------------------------------------------------- */

static void read_file(const char *path, struct bk_buffer *out) {
    bk_buffer_init(out, FILE_BYTES_MAX);
    assert_int_equal(bk_file_read(path, out, NULL), BK_OK);
}

static void overwrite(const char *path, off_t at, const void *bytes, size_t length) {
    int descriptor = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(pwrite(descriptor, bytes, length, at), length);
    assert_int_equal(close(descriptor), 0);
}

/* Opening is refused with these words, and not a byte has changed. */
static void assert_refused(struct support_store *fixture, enum bk_status status,
                           const char *words) {
    struct bk_buffer before, after;
    read_file(fixture->path, &before);
    assert_int_equal(support_store_open(fixture), status);
    if (strstr(fixture->opening.error.message, words) == NULL)
        fail_msg("%s", fixture->opening.error.message);
    read_file(fixture->path, &after);
    assert_true(bk_slice_equal(bk_buffer_slice(&before), bk_buffer_slice(&after)));
    bk_buffer_fini(&before);
    bk_buffer_fini(&after);
}

static void prepare_closed(struct support_store *fixture) {
    assert_int_equal(support_store_run(fixture, insert_items, NULL), BK_OK);
    support_store_close(fixture);
}

static void a_file_that_is_no_database_is_refused(void **state) {
    struct support_store *fixture = *state;
    char garbage[10000];
    memset(garbage, 'g', sizeof(garbage));
    prepare_closed(fixture);
    overwrite(fixture->path, 0, garbage, sizeof(garbage));
    assert_refused(fixture, BK_CORRUPT, "is not a database");
    assert_non_null(strstr(fixture->opening.error.message, "bakend restore"));
    assert_non_null(strstr(fixture->opening.error.message, fixture->path));
}

static void a_truncated_file_is_refused(void **state) {
    static const off_t lengths[] = {50, 4096 * 3, 4096 * 3 + 100};
    struct support_store *fixture = *state;
    prepare_closed(fixture);
    for (size_t i = BK_COUNT_OF(lengths); i > 0; i--) {
        assert_int_equal(truncate(fixture->path, lengths[i - 1]), 0);
        assert_refused(fixture, BK_CORRUPT, "damaged");
    }
}

static void a_wrong_page_size_is_refused(void **state) {
    static const uint8_t page_size[2] = {0x20, 0};
    struct support_store *fixture = *state;
    prepare_closed(fixture);
    overwrite(fixture->path, 16, page_size, sizeof(page_size));
    assert_refused(fixture, BK_CORRUPT, "page size");
}

static void a_database_of_another_program_is_refused(void **state) {
    static const uint8_t application_id[4] = {1, 2, 3, 4};
    struct support_store *fixture = *state;
    prepare_closed(fixture);
    overwrite(fixture->path, 68, application_id, sizeof(application_id));
    assert_refused(fixture, BK_CORRUPT, "another program");
}

static void a_newer_format_is_refused(void **state) {
    static const uint8_t version[4] = {0, 0, 0, 99};
    struct support_store *fixture = *state;
    prepare_closed(fixture);
    overwrite(fixture->path, 60, version, sizeof(version));
    assert_refused(fixture, BK_NOT_SUPPORTED, "newer version");
}

static void a_wal_of_garbage_is_refused_and_a_missing_one_is_fine(void **state) {
    struct support_store *fixture = *state;
    char wal[SUPPORT_STORE_PATH_BYTES + 8];
    char garbage[5000];
    memset(garbage, 'g', sizeof(garbage));
    (void)snprintf(wal, sizeof(wal), "%s-wal", fixture->path);
    prepare_closed(fixture);
    overwrite(wal, 0, garbage, sizeof(garbage));
    assert_refused(fixture, BK_CORRUPT, "write-ahead log");
    assert_int_equal(unlink(wal), 0);
    assert_int_equal(support_store_open(fixture), BK_OK);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), ITEMS);
}

static void a_damaged_schema_is_refused(void **state) {
    struct support_store *fixture = *state;
    uint8_t garbage[2000];
    memset(garbage, 0xff, sizeof(garbage));
    prepare_closed(fixture);
    overwrite(fixture->path, 100, garbage, sizeof(garbage));
    assert_refused(fixture, BK_CORRUPT, "bakend restore");
}

struct copying {
    struct bk_database_copy copy;
    bool is_done;
};

static void on_copied(struct bk_database_copy *copy, enum bk_status status) {
    struct copying *self = bk_container_of(copy, struct copying, copy);
    assert_int_equal(status, BK_OK);
    self->is_done = true;
}

/* A copy looks like a database that was not closed. The fixture's path is then the copy's. */
static void turn_into_unclean_copy(struct support_store *fixture) {
    char path[SUPPORT_STORE_PATH_BYTES];
    struct copying copying = {.copy = {.path = path, .done = on_copied}};
    (void)snprintf(path, sizeof(path), "%.400s/copy.db", fixture->directory);
    assert_int_equal(bk_database_copy(fixture->database, &copying.copy), BK_OK);
    support_loop_run_until(fixture->loop, &copying.is_done);
    support_store_close(fixture);
    memcpy(fixture->path, path, sizeof(path));
}

static void a_hole_in_the_journal_is_refused_after_an_unclean_stop(void **state) {
    static const struct {
        const char *sql, *words;
    } holes[] = {
        {"DELETE FROM _journal WHERE sequence = 400", "in the middle"},
        {"DELETE FROM _journal WHERE sequence > 490", "newest"},
        {"DELETE FROM _journal WHERE sequence < 10", "oldest"},
        {"DELETE FROM _journal", "oldest"},
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(holes); i++) {
        struct support_store fixture;
        char sql[64];
        struct bk_error error = BK_ERROR_INIT;
        (void)snprintf(sql, sizeof(sql), "%s", holes[i].sql);
        support_store_create(&fixture, NULL);
        assert_int_equal(support_store_open(&fixture), BK_OK);
        assert_int_equal(support_store_run(&fixture, insert_items, NULL), BK_OK);
        assert_int_equal(support_store_run(&fixture, support_run_sql, sql), BK_OK);
        turn_into_unclean_copy(&fixture);
        assert_int_equal(bk_database_check_file(fixture.path, &error), BK_CORRUPT);
        assert_refused(&fixture, BK_CORRUPT, holes[i].words);
        support_store_destroy(&fixture);
    }
}

static void damage_that_is_found_later_is_logged(void **state) {
    struct support_store *fixture = *state;
    struct bk_store_options options;
    struct bk_logger *logger;
    struct bk_buffer text;
    char log_path[SUPPORT_STORE_PATH_BYTES];
    static const uint8_t no_page_type = 0xff;
    int64_t root_page;
    int descriptor;
    (void)snprintf(log_path, sizeof(log_path), "%.400s/log", fixture->directory);
    descriptor = open(log_path, O_CREAT | O_RDWR, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(support_store_run(fixture, insert_items, NULL), BK_OK);
    root_page =
        support_store_number(fixture, "SELECT rootpage FROM sqlite_schema WHERE name = 'items'");
    turn_into_unclean_copy(fixture);
    support_store_stop(fixture);
    overwrite(fixture->path, (off_t)(root_page - 1) * 4096, &no_page_type, 1);
    logger = bk_logger_create(descriptor, BK_LOG_WARN, 65536);
    bk_store_options_init(&options);
    options.logger = logger;
    support_store_start(fixture, &options);
    assert_int_equal(support_store_open(fixture), BK_OK);
    support_loop_run_for(fixture->loop, 200);
    support_store_close(fixture);
    bk_logger_flush(logger);
    read_file(log_path, &text);
    assert_true(bk_slice_is(bk_slice_make(text.data, 1), "{"));
    bk_buffer_append_char(&text, '\0');
    assert_non_null(strstr(text.data, "database_damaged"));
    bk_buffer_fini(&text);
    support_store_stop(fixture);
    support_store_start(fixture, NULL);
    bk_logger_destroy(logger);
    assert_int_equal(close(descriptor), 0);
}

/* --- a kill under load ------------------------------------------------------------------------ */

enum { CHILD_WRITES = 32 };

struct child_write {
    struct support_write write;
    char name[24];
    int pipe;
    int64_t number;
};

static int64_t next_number;

static void submit_next(struct bk_database *database, struct child_write *child) {
    child->number = ++next_number;
    (void)snprintf(child->name, sizeof(child->name), "n%lld", (long long)child->number);
    child->write.is_done = false;
    (void)bk_store_write(database, &child->write.write);
}

static bool send_number(const struct child_write *child) {
    return write(child->pipe, &child->number, sizeof(child->number)) ==
           (ssize_t)sizeof(child->number);
}

static void on_child_done(struct bk_write *submitted, enum bk_status status) {
    struct child_write *child = bk_container_of(submitted, struct child_write, write.write);
    struct bk_database *database = submitted->database;
    if (status != BK_OK || !send_number(child))
        _exit(1);
    submit_next(database, child);
}

_Noreturn static void run_child(struct support_store *fixture, const char *failpoint,
                                int pipe_end) {
    static struct child_write writes[CHILD_WRITES];
    bool never = false;
    if (bk_failpoint_configure(failpoint) != BK_OK)
        _exit(4);
    support_store_start(fixture, NULL);
    if (support_store_open(fixture) != BK_OK)
        _exit(2);
    for (int i = 0; i < CHILD_WRITES; i++) {
        support_write_init(&writes[i].write, support_run_item, writes[i].name);
        writes[i].write.write.done = on_child_done;
        writes[i].pipe = pipe_end;
        submit_next(fixture->database, &writes[i]);
    }
    (void)bk_loop_run_until(fixture->loop, &never);
    _exit(3);
}

/* Returns how many writes were acknowledged when the child was killed: after so long, or at the
 * failpoint. */
static int64_t kill_under_load(struct support_store *fixture, const char *failpoint,
                               uint32_t after_ms) {
    int ends[2], status = 0;
    int64_t number, count = 0;
    pid_t child;
    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        run_child(fixture, failpoint, ends[1]);
    }
    assert_int_equal(close(ends[1]), 0);
    /* From the first answer on. */
    assert_int_equal(read(ends[0], &number, sizeof(number)), sizeof(number));
    (void)usleep(after_ms * 1000);
    if (failpoint == NULL)
        assert_int_equal(kill(child, SIGKILL), 0);
    for (count = 1; read(ends[0], &number, sizeof(number)) == (ssize_t)sizeof(number);)
        count++;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(close(ends[0]), 0);
    return count;
}

static void what_was_acknowledged_survives_a_kill(void **state) {
    static const char *const failpoints[] = {
        NULL,
        NULL,
        NULL,
        NULL,
        "store.before_begin:kill@9",
        "store.after_begin:kill@9",
        "store.write:kill@100",
        "store.before_commit:kill@9",
        "store.after_commit:kill@9",
        "store.before_answer:kill@9",
        "store.before_bus:kill@9",
    };
    struct support_store fixture;
    (void)state;
    for (uint32_t round = 0; round < BK_COUNT_OF(failpoints); round++) {
        struct bk_error error = BK_ERROR_INIT;
        int64_t acknowledged;
        support_store_prepare(&fixture);
        acknowledged = kill_under_load(&fixture, failpoints[round], 5 + round * 17);
        support_store_start(&fixture, NULL);
        assert_int_equal(support_store_open(&fixture), BK_OK);
        assert_true(support_store_number(&fixture, "SELECT count(*) FROM items") >= acknowledged);
        assert_int_equal(support_store_number(&fixture,
                                              "SELECT (SELECT count(*) FROM items) = (SELECT "
                                              "count(DISTINCT subject) FROM _journal)"),
                         1);
        assert_int_equal(
            support_store_number(&fixture, "SELECT max(sequence) - count(*) FROM _journal"), 0);
        assert_int_equal(bk_journal_state(fixture.database).last,
                         support_store_number(&fixture, "SELECT max(sequence) FROM _journal"));
        support_store_close(&fixture);
        assert_int_equal(bk_database_check_file(fixture.path, &error), BK_OK);
        support_store_destroy(&fixture);
    }
}

/* --- a full disk ------------------------------------------------------------------------------ */

static void a_full_disk_stops_writes_and_not_reads(void **state) {
    struct support_store *fixture = *state;
    char wal[SUPPORT_STORE_PATH_BYTES + 8];
    char big[] = "INSERT INTO items (name) VALUES (zeroblob(200000))", small[] = "small";
    struct rlimit former, limit;
    (void)snprintf(wal, sizeof(wal), "%s-wal", fixture->path);
    assert_int_equal(support_store_run(fixture, insert_items, NULL), BK_OK);
    /* A limit on the size of files is what a test may do to a disk. */
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &former), 0);
    limit = former;
    limit.rlim_cur = (rlim_t)bk_file_size(wal) + 20000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(support_store_run(fixture, support_run_sql, big), BK_DISK_FULL);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), ITEMS);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &former), 0);
    assert_int_equal(support_store_run(fixture, support_run_sql, big), BK_OK);
    assert_int_equal(support_store_run(fixture, support_run_item, small), BK_OK);
    assert_int_equal(fixture->events[fixture->event_count - 1], ITEMS + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_store_setup, support_store_teardown)
        TEST(migrations_run_in_order_and_once),
        TEST(a_failing_migration_is_named_and_leaves_nothing),
        TEST(a_database_that_cannot_be_prepared_is_told_with_its_file),
        TEST(events_of_the_opening_go_to_the_bus),
        TEST(files_are_private),
        TEST(a_file_that_is_no_database_is_refused),
        TEST(a_truncated_file_is_refused),
        TEST(a_wrong_page_size_is_refused),
        TEST(a_database_of_another_program_is_refused),
        TEST(a_newer_format_is_refused),
        TEST(a_wal_of_garbage_is_refused_and_a_missing_one_is_fine),
        TEST(a_damaged_schema_is_refused),
        cmocka_unit_test(a_hole_in_the_journal_is_refused_after_an_unclean_stop),
        TEST(damage_that_is_found_later_is_logged),
        cmocka_unit_test(what_was_acknowledged_survives_a_kill),
        TEST(a_full_disk_stops_writes_and_not_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
