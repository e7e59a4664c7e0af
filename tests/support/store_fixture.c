/*
 * Nothing here is clever: each helper submits, runs the loop until the answer is there, and returns
 * it.
 */
#include "store_fixture.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/failpoint.h"
#include "bakend/loop.h"

#include <stdio.h>
#include <string.h>

static const struct bk_migration migrations[] = {
    {"items_1", "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE)"},
};

/* --- life cycle ------------------------------------------------------------------------------- */

static void on_committed(void *user, struct bk_database *database, struct bk_event *const *events,
                         size_t event_count) {
    struct support_store *fixture = user;
    (void)database;
    fixture->committed_count++;
    for (size_t i = 0; i < event_count; i++) {
        assert_true(fixture->event_count < SUPPORT_STORE_EVENTS_MAX);
        fixture->events[fixture->event_count++] = events[i]->fields.sequence;
    }
}

void support_store_start(struct support_store *fixture, const struct bk_store_options *options) {
    struct bk_store_options chosen;
    bk_store_options_init(&chosen);
    if (options != NULL)
        chosen = *options;
    /* What a test submits in one turn comes to the writer together, so that it knows the
     * batches. */
    chosen.gather_max = UINT32_MAX;
    fixture->loop = bk_loop_create();
    chosen.loop = fixture->loop;
    fixture->store = bk_store_create(&chosen);
    bk_store_on_committed(fixture->store, on_committed, fixture);
}

void support_store_stop(struct support_store *fixture) {
    void *state = fixture->loop;
    bk_store_destroy(fixture->store);
    fixture->store = NULL;
    assert_int_equal(support_loop_teardown(&state), 0);
}

void support_store_prepare(struct support_store *fixture) {
    memset(fixture, 0, sizeof(*fixture));
    fixture->directory = support_directory_create();
    (void)snprintf(fixture->path, sizeof(fixture->path), "%s/data.db", fixture->directory);
    fixture->opening.options = (struct bk_database_options){.tenant = BK_SLICE("default"),
                                                            .path = fixture->path,
                                                            .has_journal = true,
                                                            .migrations = migrations,
                                                            .migration_count = 1};
}

void support_store_create(struct support_store *fixture, const struct bk_store_options *options) {
    support_store_prepare(fixture);
    support_store_start(fixture, options);
}

void support_store_destroy(struct support_store *fixture) {
    support_store_stop(fixture);
    support_directory_remove(fixture->directory);
}

static bool is_opened;

static void on_opened(struct bk_database_open *open, enum bk_status status) {
    (void)open, (void)status;
    is_opened = true;
}

enum bk_status support_store_open(struct support_store *fixture) {
    is_opened = false;
    fixture->opening.done = on_opened;
    bk_database_open(fixture->store, &fixture->opening);
    support_loop_run_until(fixture->loop, &is_opened);
    fixture->database = fixture->opening.database;
    return fixture->opening.error.status;
}

static void set_flag(void *user) { *(bool *)user = true; }

void support_store_close(struct support_store *fixture) {
    bool is_closed = false;
    bk_database_close(fixture->database, set_flag, &is_closed);
    support_loop_run_until(fixture->loop, &is_closed);
    fixture->database = NULL;
}

int support_store_setup(void **state) {
    struct support_store *fixture = bk_alloc(sizeof(*fixture));
    support_store_create(fixture, NULL);
    assert_int_equal(support_store_open(fixture), BK_OK);
    *state = fixture;
    return 0;
}

int support_store_teardown(void **state) {
    struct support_store *fixture = *state;
    (void)bk_failpoint_configure(NULL);
    if (fixture->database != NULL)
        support_store_close(fixture);
    support_store_destroy(fixture);
    bk_free(fixture);
    return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct support_write *self = bk_container_of(write, struct support_write, write);
    return self->run(transaction, self->user);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct support_write *self = bk_container_of(write, struct support_write, write);
    assert_false(self->is_done);
    self->is_done = true;
    self->status = status;
}

void support_write_init(struct support_write *write, support_run_cb run, void *user) {
    memset(write, 0, sizeof(*write));
    write->write.run = on_run;
    write->write.done = on_done;
    write->run = run;
    write->user = user;
}

enum bk_status support_store_run(struct support_store *fixture, support_run_cb run, void *user) {
    struct support_write write;
    enum bk_status status;
    support_write_init(&write, run, user);
    status = bk_store_write(fixture->database, &write.write);
    if (status != BK_OK)
        return status;
    assert_false(write.is_done);
    support_loop_run_until(fixture->loop, &write.is_done);
    return write.status;
}

enum bk_status support_run_sql(struct bk_transaction *transaction, void *user) {
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 bk_slice_from((const char *)user));
}

enum bk_status support_run_item(struct bk_transaction *transaction, void *user) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("INSERT INTO items (name) VALUES (?1)"));
    const struct bk_event_draft draft = {.type = BK_SLICE("items.created"),
                                         .source = BK_SLICE("test"),
                                         .subject = bk_slice_from((const char *)user),
                                         .payload = BK_SLICE("{\"a\":1}")};
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_from((const char *)user));
    status = bk_statement_run(statement);
    return status == BK_OK ? bk_transaction_emit(transaction, &draft) : status;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct support_read {
    struct bk_read read;
    support_read_cb run;
    void *user;
    bool is_done;
    enum bk_status status;
};

static enum bk_status on_read(struct bk_connection *connection, struct bk_read *read) {
    struct support_read *self = bk_container_of(read, struct support_read, read);
    return self->run(connection, self->user);
}

static void on_read_done(struct bk_read *read, enum bk_status status) {
    struct support_read *self = bk_container_of(read, struct support_read, read);
    self->is_done = true;
    self->status = status;
}

enum bk_status support_store_read(struct support_store *fixture, support_read_cb run, void *user) {
    struct support_read read = {.read = {.run = on_read,
                                         .done = on_read_done,
                                         .deadline_ms = (uint32_t)support_patience_ms() / 4},
                                .run = run,
                                .user = user};
    enum bk_status status = bk_store_read(fixture->database, &read.read);
    if (status != BK_OK)
        return status;
    support_loop_run_until(fixture->loop, &read.is_done);
    return read.status;
}

struct number {
    const char *sql;
    int64_t value;
};

static enum bk_status read_number(struct bk_connection *connection, void *user) {
    struct number *number = user;
    const struct bk_sql sql = bk_sql_make(bk_slice_from(number->sql));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status == BK_OK)
        number->value = bk_statement_int(statement, 0);
    return status;
}

int64_t support_store_number(struct support_store *fixture, const char *sql) {
    struct number number = {.sql = sql};
    assert_int_equal(support_store_read(fixture, read_number, &number), BK_OK);
    return number.value;
}
