/* Proves reads: what they see, when they are cut off, and the loop's transaction per turn. */
#include "store_fixture.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/failpoint.h"
#include "bakend/loop.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum bk_status count_items(struct bk_connection *connection, int64_t *count) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT count(*) FROM items"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status == BK_OK)
        *count = bk_statement_int(statement, 0);
    return status;
}

static int64_t count_now(struct support_store *fixture) {
    int64_t count = -1;
    assert_int_equal(count_items(bk_store_read_now(fixture->database), &count), BK_OK);
    return count;
}

struct looking {
    struct bk_write write;
    struct support_store *fixture;
    int64_t before, after;
    bool is_done;
};

static enum bk_status insert_one(struct bk_transaction *transaction, struct bk_write *write) {
    (void)write;
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("INSERT INTO items (name) VALUES ('x')"));
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct looking *self = bk_container_of(write, struct looking, write);
    assert_int_equal(status, BK_OK);
    self->after = count_now(self->fixture);
    self->is_done = true;
}

static void who_was_answered_reads_what_it_wrote(void **state) {
    struct support_store *fixture = *state;
    struct looking self = {.write = {.run = insert_one, .done = on_done}, .fixture = fixture};
    self.before = count_now(fixture);
    assert_int_equal(bk_store_write(fixture->database, &self.write), BK_OK);
    support_loop_run_until(fixture->loop, &self.is_done);
    assert_int_equal(self.before, 0);
    assert_int_equal(self.after, 1);
}

struct snapshot {
    struct bk_task task;
    struct support_store *fixture;
    int64_t before, after;
};

/* Reads, lets the writer commit, and reads again in the same turn. */
static void on_look(struct bk_task *task) {
    struct snapshot *self = bk_container_of(task, struct snapshot, task);
    struct support_store *fixture = self->fixture;
    uint64_t commits = bk_store_figures(fixture->store).commits;
    self->before = count_now(fixture);
    while (bk_store_figures(fixture->store).commits == commits)
        (void)usleep(1000);
    self->after = count_now(fixture);
}

static void one_turn_reads_one_snapshot(void **state) {
    struct support_store *fixture = *state;
    struct snapshot self = {.fixture = fixture};
    struct support_write write;
    char sql[] = "INSERT INTO items (name) VALUES ('x')";
    support_write_init(&write, support_run_sql, sql);
    /* The writer takes a quarter of a second for its BEGIN, so the first look comes before it. */
    assert_int_equal(bk_failpoint_configure("store.before_begin:sleep=250"), BK_OK);
    assert_int_equal(bk_store_write(fixture->database, &write.write), BK_OK);
    bk_task_init(&self.task, on_look);
    bk_loop_defer(fixture->loop, &self.task);
    support_loop_run_until(fixture->loop, &write.is_done);
    assert_int_equal(self.before, 0);
    assert_int_equal(self.after, 0);
    assert_int_equal(count_now(fixture), 1);
    assert_ptr_equal(bk_store_read_now(fixture->database), bk_store_read_now(fixture->database));
}

static enum bk_status read_endlessly(struct bk_connection *connection, void *user) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    (void)user;
    return status == BK_OK ? bk_statement_step(statement) : status;
}

static enum bk_status read_many_short(struct bk_connection *connection, void *user) {
    enum bk_status status = BK_OK;
    while (status == BK_OK)
        status = count_items(connection, user);
    return status;
}

struct plain_read {
    struct bk_read read;
    support_read_cb run;
    int64_t count;
    bool is_done;
    enum bk_status status;
};

static enum bk_status on_read(struct bk_connection *connection, struct bk_read *read) {
    struct plain_read *self = bk_container_of(read, struct plain_read, read);
    return self->run(connection, &self->count);
}

static void on_read_done(struct bk_read *read, enum bk_status status) {
    struct plain_read *self = bk_container_of(read, struct plain_read, read);
    self->status = status;
    self->is_done = true;
}

static void a_long_read_is_cut_off(void **state) {
    struct support_store *fixture = *state;
    const support_read_cb runs[] = {read_endlessly, read_many_short};
    for (size_t i = 0; i < BK_COUNT_OF(runs); i++) {
        struct plain_read read = {.read = {.run = on_read, .done = on_read_done, .deadline_ms = 30},
                                  .run = runs[i]};
        assert_int_equal(bk_store_read(fixture->database, &read.read), BK_OK);
        support_loop_run_until(fixture->loop, &read.is_done);
        assert_int_equal(read.status, BK_TIMEOUT);
    }
    assert_int_equal(bk_store_figures(fixture->store).reads_timed_out, 2);
    assert_int_equal(bk_store_figures(fixture->store).reads, 2);
}

static void restart_with_one_reader(struct support_store *fixture, uint32_t read_deadline_ms) {
    struct bk_store_options options;
    support_store_close(fixture);
    support_store_stop(fixture);
    bk_store_options_init(&options);
    options.reader_count = 1;
    options.read_deadline_ms = read_deadline_ms;
    support_store_start(fixture, &options);
    assert_int_equal(support_store_open(fixture), BK_OK);
}

/* One reader: the first read runs while the second waits. Both end long before their deadlines, and
 * the second has not run. */
static void a_read_that_nobody_waits_for_ends(void **state) {
    struct support_store *fixture = *state;
    struct plain_read reads[2];
    restart_with_one_reader(fixture, 100);
    for (int i = 0; i < 2; i++) {
        reads[i] = (struct plain_read){
            .read = {.run = on_read, .done = on_read_done, .deadline_ms = 60 * 1000},
            .run = read_endlessly};
        assert_int_equal(bk_store_read(fixture->database, &reads[i].read), BK_OK);
        bk_store_read_cancel(&reads[i].read);
    }
    for (int i = 0; i < 2; i++) {
        support_loop_run_until(fixture->loop, &reads[i].is_done);
        assert_int_equal(reads[i].status, BK_CANCELLED);
    }
    assert_int_equal(bk_store_figures(fixture->store).reads_timed_out, 0);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 0);
}

enum { LONG_READS = 5, PATIENT_MS = 60 * 1000 };

static void start_read(struct support_store *fixture, struct plain_read *read,
                       struct plain_read initial) {
    *read = initial;
    read->read.run = on_read;
    read->read.done = on_read_done;
    assert_int_equal(bk_store_read(fixture->database, &read->read), BK_OK);
}

static void end_reads(struct support_store *fixture, struct plain_read *reads, int count) {
    for (int i = 0; i < count; i++)
        bk_store_read_cancel(&reads[i].read);
    for (int i = 0; i < count; i++) {
        support_loop_run_until(fixture->loop, &reads[i].is_done);
        assert_int_equal(reads[i].status, BK_CANCELLED);
    }
}

static enum bk_status count_all(struct bk_connection *connection, void *user) {
    return count_items(connection, user);
}

/* One reader, and more reads than threads that all take until somebody ends them. */
static void a_short_read_does_not_wait_for_long_ones(void **state) {
    struct support_store *fixture = *state;
    struct plain_read endless[LONG_READS], small;
    restart_with_one_reader(fixture, PATIENT_MS);
    for (int i = 0; i < LONG_READS; i++)
        start_read(fixture, &endless[i],
                   (struct plain_read){.read = {.may_run_again = true}, .run = read_endlessly});
    for (int i = 0; i < 3; i++) {
        start_read(fixture, &small, (struct plain_read){.run = count_all, .count = -1});
        support_loop_run_until(fixture->loop, &small.is_done);
        assert_int_equal(small.status, BK_OK);
        assert_int_equal(small.count, 0);
    }
    for (int i = 0; i < LONG_READS; i++)
        assert_false(endless[i].is_done);
    end_reads(fixture, endless, LONG_READS);
    assert_int_equal(bk_store_figures(fixture->store).reads_timed_out, 0);
}

/* Likewise reads that say themselves that they take long. */
static void a_short_read_does_not_wait_for_those_with_a_long_deadline(void **state) {
    struct support_store *fixture = *state;
    struct plain_read endless[LONG_READS], small;
    restart_with_one_reader(fixture, 100);
    for (int i = 0; i < LONG_READS; i++)
        start_read(fixture, &endless[i],
                   (struct plain_read){.read = {.deadline_ms = PATIENT_MS}, .run = read_endlessly});
    start_read(fixture, &small, (struct plain_read){.run = count_all});
    support_loop_run_until(fixture->loop, &small.is_done);
    assert_int_equal(small.status, BK_OK);
    end_reads(fixture, endless, LONG_READS);
}

struct counting_read {
    struct plain_read plain;
    int run_count; /* the reader's, then the loop's */
};

/* Works on until somebody waits for its reader, and is done at once when it runs for the second
 * time. */
static enum bk_status run_counting(struct bk_connection *connection, struct bk_read *read) {
    struct counting_read *self = bk_container_of(read, struct counting_read, plain.read);
    if (self->run_count++ > 0)
        return count_items(connection, &self->plain.count);
    return read_endlessly(connection, NULL);
}

static void who_gives_way_begins_anew_in_another_snapshot(void **state) {
    struct support_store *fixture = *state;
    struct counting_read given = {
        .plain.read = {.may_run_again = true, .run = run_counting, .done = on_read_done}};
    struct plain_read small;
    struct support_write write;
    char sql[] = "INSERT INTO items (name) VALUES ('x')";
    restart_with_one_reader(fixture, PATIENT_MS);
    assert_int_equal(bk_store_read(fixture->database, &given.plain.read), BK_OK);
    support_write_init(&write, support_run_sql, sql);
    assert_int_equal(bk_store_write(fixture->database, &write.write), BK_OK);
    support_loop_run_until(fixture->loop, &write.is_done);
    assert_false(given.plain.is_done);
    start_read(fixture, &small, (struct plain_read){.run = count_all});
    support_loop_run_until(fixture->loop, &small.is_done);
    support_loop_run_until(fixture->loop, &given.plain.is_done);
    assert_int_equal(given.plain.status, BK_OK);
    assert_int_equal(given.run_count, 2);
    assert_int_equal(given.plain.count, 1);
    assert_int_equal(bk_store_figures(fixture->store).reads, 2);
}

/* It has nobody to give way to: it runs to its end, once. */
static void a_long_read_alone_keeps_its_reader(void **state) {
    struct support_store *fixture = *state;
    struct counting_read alone = {
        .plain.read = {.may_run_again = true, .run = run_counting, .done = on_read_done}};
    restart_with_one_reader(fixture, 50);
    assert_int_equal(bk_store_read(fixture->database, &alone.plain.read), BK_OK);
    support_loop_run_until(fixture->loop, &alone.plain.is_done);
    assert_int_equal(alone.plain.status, BK_TIMEOUT);
    assert_int_equal(alone.run_count, 1);
}

static enum bk_status try_to_write(struct bk_connection *connection, void *user) {
    (void)user;
    return bk_connection_execute(connection, BK_SLICE("INSERT INTO items (name) VALUES ('x')"));
}

static void a_reader_cannot_write(void **state) {
    assert_int_equal(support_store_read(*state, try_to_write, NULL), BK_IO);
    assert_int_equal(
        bk_connection_execute(bk_store_read_now(((struct support_store *)*state)->database),
                              BK_SLICE("INSERT INTO items (name) VALUES ('x')")),
        BK_IO);
}

enum { DATABASES = 40 }; /* more than a reader thread keeps open */

static void more_databases_than_connections_can_be_read(void **state) {
    struct support_store *fixture = *state;
    struct bk_database *first = fixture->database, *databases[DATABASES];
    char paths[DATABASES][SUPPORT_STORE_PATH_BYTES + 16];
    for (int i = 0; i < DATABASES; i++) {
        (void)snprintf(paths[i], sizeof(paths[i]), "%s/%d.db", fixture->directory, i);
        fixture->opening.options.path = paths[i];
        assert_int_equal(support_store_open(fixture), BK_OK);
        databases[i] = fixture->database;
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < DATABASES; i++) {
            fixture->database = databases[i];
            assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM items"), 0);
        }
    }
    assert_int_equal(bk_store_figures(fixture->store).databases_open, DATABASES + 1);
    for (int i = 0; i < DATABASES; i++) {
        fixture->database = databases[i];
        support_store_close(fixture);
    }
    fixture->database = first;
}

static void too_many_waiting_reads_are_refused(void **state) {
    struct support_store *fixture = *state;
    struct bk_store_options options;
    struct plain_read reads[8];
    enum bk_status last = BK_OK;
    int submitted_count = 0;
    support_store_close(fixture);
    support_store_stop(fixture);
    bk_store_options_init(&options);
    options.reader_count = 1;
    options.read_queue_max = 2;
    support_store_start(fixture, &options);
    assert_int_equal(support_store_open(fixture), BK_OK);
    for (int i = 0; i < 8 && last == BK_OK; i++) {
        reads[i] =
            (struct plain_read){.read = {.run = on_read, .done = on_read_done, .deadline_ms = 30},
                                .run = read_endlessly};
        last = bk_store_read(fixture->database, &reads[i].read);
        submitted_count += last == BK_OK;
    }
    assert_int_equal(last, BK_BUSY);
    for (int i = 0; i < submitted_count; i++)
        support_loop_run_until(fixture->loop, &reads[i].is_done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_store_setup, support_store_teardown)
        TEST(who_was_answered_reads_what_it_wrote),
        TEST(one_turn_reads_one_snapshot),
        TEST(a_long_read_is_cut_off),
        TEST(a_read_that_nobody_waits_for_ends),
        TEST(a_short_read_does_not_wait_for_long_ones),
        TEST(a_short_read_does_not_wait_for_those_with_a_long_deadline),
        TEST(who_gives_way_begins_anew_in_another_snapshot),
        TEST(a_long_read_alone_keeps_its_reader),
        TEST(a_reader_cannot_write),
        TEST(more_databases_than_connections_can_be_read),
        TEST(too_many_waiting_reads_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
