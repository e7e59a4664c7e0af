/* For tests of what is judged by time: a kernel with work, whose clock the test moves, and the
 * table that a module declares elsewhere. */
#ifndef BAKEND_TESTS_TIME_FIXTURE_H
#define BAKEND_TESTS_TIME_FIXTURE_H

#include "work_private.h"

#include "kernel_fixture.h"

#include <stdio.h>

static const int64_t MINUTE_MS = INT64_C(60) * 1000;
static const int64_t HOUR_MS = INT64_C(3600) * 1000;
static const int64_t DAY_MS = INT64_C(24) * 3600 * 1000;
static const int64_t NOON_MS = INT64_C(1795262400000); /* 2026-11-21T12:00:00Z */
#define YEARS_MS (3652 * DAY_MS)                       /* ten */

static const struct bk_migration time_fixture_migrations[] = {
    {.name = "test_1_work",
     .sql = "CREATE TABLE _work (id TEXT PRIMARY KEY NOT NULL, kind TEXT DEFAULT '', lane TEXT "
            "DEFAULT '', \"key\" TEXT DEFAULT '', state TEXT DEFAULT '', due TEXT DEFAULT '', "
            "attempts INTEGER DEFAULT 0, error TEXT DEFAULT '', progressDone INTEGER DEFAULT 0, "
            "progressTotal INTEGER DEFAULT 0, cause TEXT DEFAULT '', actor TEXT DEFAULT '', "
            "payload TEXT, depth INTEGER DEFAULT 0, chain TEXT DEFAULT '', uniqueKey TEXT DEFAULT "
            "'', cancelled INTEGER DEFAULT 0, expires TEXT DEFAULT '', created TEXT DEFAULT '', "
            "updated TEXT DEFAULT '')"},
};

enum { TIME_FIXTURE_OPEN_MAX = 4 };

struct time_fixture {
    struct support_kernel kernel;
    struct bk_work *work;
};

static inline void time_fixture_create_work(struct time_fixture *fixture,
                                            const struct bk_work_kind *kinds, size_t kind_count) {
    static const struct bk_tenant_slot slot = {
        .name = "test", .migrations = time_fixture_migrations, .migration_count = 1};
    /* Few may be open, so that a few others close one. */
    bk_tenants_destroy(fixture->kernel.tenants);
    fixture->kernel.tenants = bk_tenants_create(fixture->kernel.store, (struct bk_log){0},
                                                fixture->kernel.directory, TIME_FIXTURE_OPEN_MAX);
    (void)bk_tenants_add_slot(fixture->kernel.tenants, &slot);
    const struct bk_work_options options = {.loop = fixture->kernel.loop,
                                            .store = fixture->kernel.store,
                                            .tenants = fixture->kernel.tenants,
                                            .data_directory = fixture->kernel.directory};
    fixture->work = bk_work_create(&options);
    for (size_t i = 0; i < kind_count; i++)
        assert_int_equal(bk_work_add_kind(fixture->work, &kinds[i], fixture), BK_OK);
}

static inline void time_fixture_create(struct time_fixture *fixture,
                                       const struct bk_work_kind *kinds, size_t kind_count) {
    support_clock_set(NOON_MS);
    support_kernel_create(&fixture->kernel, NULL);
    time_fixture_create_work(fixture, kinds, kind_count);
}

static inline void time_fixture_on_flag(void *user) { *(bool *)user = true; }

/* The work stops, tenants close, the work closes: what a server does when it ends. */
static inline void time_fixture_close(struct time_fixture *fixture) {
    bool is_closed = false, is_stopped = false;
    if (fixture->work->phase == WORK_STARTED) {
        bk_work_stop(fixture->work, 1000, time_fixture_on_flag, &is_stopped);
        support_loop_run_until(fixture->kernel.loop, &is_stopped);
    }
    support_kernel_close(&fixture->kernel);
    bk_work_close(fixture->work, time_fixture_on_flag, &is_closed);
    support_loop_run_until(fixture->kernel.loop, &is_closed);
    bk_work_destroy(fixture->work);
}

static inline void time_fixture_destroy(struct time_fixture *fixture) {
    time_fixture_close(fixture);
    support_kernel_destroy(&fixture->kernel);
    support_clock_reset();
}

/* The same data directory, opened again with another wall clock. */
static inline void time_fixture_restart(struct time_fixture *fixture,
                                        const struct bk_work_kind *kinds, size_t kind_count,
                                        int64_t wall_ms) {
    time_fixture_close(fixture);
    support_clock_set(wall_ms);
    support_kernel_restart(&fixture->kernel);
    time_fixture_create_work(fixture, kinds, kind_count);
}

static inline int64_t time_fixture_now(const struct time_fixture *fixture) {
    return work_clock_now_ms(&fixture->work->clock);
}

/* As if the wall clock had stood by a leap for long enough. */
static inline void time_fixture_leap(struct time_fixture *fixture, int64_t leap_ms) {
    support_clock_advance(leap_ms);
    /* The writer may look at it when it opens a tenant. */
    (void)__atomic_fetch_add(&fixture->work->clock.offset_ms, leap_ms, __ATOMIC_RELAXED);
}

/* --- on the writer ---------------------------------------------------------------------------- */

struct time_fixture_write {
    struct bk_write write;
    enum bk_status (*run)(struct bk_transaction *transaction, void *user);
    void *user;
    bool is_done;
    enum bk_status status;
};

static inline enum bk_status time_fixture_on_run(struct bk_transaction *transaction,
                                                 struct bk_write *write) {
    struct time_fixture_write *own = bk_container_of(write, struct time_fixture_write, write);
    return own->run(transaction, own->user);
}

static inline void time_fixture_on_done(struct bk_write *write, enum bk_status status) {
    struct time_fixture_write *own = bk_container_of(write, struct time_fixture_write, write);
    own->is_done = true;
    own->status = status;
}

static inline enum bk_status
time_fixture_write(struct time_fixture *fixture, struct bk_database *database,
                   enum bk_status (*run)(struct bk_transaction *transaction, void *user),
                   void *user) {
    struct time_fixture_write own = {
        .write = {.run = time_fixture_on_run, .done = time_fixture_on_done},
        .run = run,
        .user = user};
    assert_int_equal(bk_store_write(database, &own.write), BK_OK);
    support_loop_run_until(fixture->kernel.loop, &own.is_done);
    return own.status;
}

static inline enum bk_status time_fixture_on_execute(struct bk_transaction *transaction,
                                                     void *user) {
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 bk_slice_from((const char *)user));
}

static inline void time_fixture_execute(struct time_fixture *fixture, struct bk_database *database,
                                        char *sql) {
    assert_int_equal(time_fixture_write(fixture, database, time_fixture_on_execute, sql), BK_OK);
}

/* One number; -1: there is no row. */
static inline int64_t time_fixture_query(struct bk_database *database, const char *text) {
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    struct bk_connection *connection = bk_store_read_now(database);
    struct bk_statement *statement;
    assert_non_null(connection);
    assert_int_equal(bk_connection_statement(connection, &sql, &statement), BK_OK);
    int64_t number = bk_statement_step(statement) == BK_OK ? bk_statement_int(statement, 0) : -1;
    bk_statement_reset(statement);
    return number;
}

#endif
