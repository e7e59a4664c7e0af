/* A kernel with a schema and work on it, `_work` as a module declares it, and handlers that
 * remember what they were handed and answer as the test says. */
#ifndef BAKEND_TESTS_WORK_FIXTURE_H
#define BAKEND_TESTS_WORK_FIXTURE_H

#include "work_private.h"

#include "kernel_fixture.h"

#include "bakend/alloc.h"
#include "bakend/schema.h"
#include <stdio.h>
#include <stdlib.h>

enum { WORK_FIXTURE_SEEN_MAX = 20000, WORK_FIXTURE_KINDS_MAX = 4 };

struct work_fixture_seen {
    char id[BK_WORK_ID_BYTES + 1];
    char lane[64], payload[64];
    uint32_t attempt;
    struct bk_work_task *task; /* NULL: answered */
};

struct work_fixture {
    struct support_kernel kernel;
    struct bk_schema_kind *schema;
    struct bk_work *work;
    struct bk_slice instance_key;
    const struct bk_work_kind *kinds;
    size_t kind_count;
    struct work_fixture_seen seen[WORK_FIXTURE_SEEN_MAX];
    uint32_t seen_count, cancel_count;
    _Atomic uint32_t end_count, dead_count; /* counted by the writer */
    /* What handlers do; NULL: done. */
    void (*script)(struct work_fixture *fixture, struct bk_work_task *task, uint32_t index);
    void (*on_cancel)(struct work_fixture *fixture, struct bk_work_task *task);
    enum bk_status (*on_end)(struct work_fixture *fixture, struct bk_transaction *transaction,
                             const struct bk_work_end *end);
    enum bk_status (*on_dead)(struct work_fixture *fixture, struct bk_transaction *transaction,
                              const struct bk_work_end *end);
};

static inline void work_fixture_on_task(struct bk_work_task *task, void *user) {
    struct work_fixture *fixture = user;
    assert_true(fixture->seen_count < WORK_FIXTURE_SEEN_MAX);
    uint32_t index = fixture->seen_count++;
    struct work_fixture_seen *seen = &fixture->seen[index];
    snprintf(seen->id, sizeof seen->id, "%.*s", BK_SLICE_PRINT(task->id));
    snprintf(seen->lane, sizeof seen->lane, "%.*s", BK_SLICE_PRINT(task->lane));
    snprintf(seen->payload, sizeof seen->payload, "%.*s", BK_SLICE_PRINT(task->payload));
    seen->attempt = task->attempt;
    seen->task = task;
    assert_true(task->tenant != NULL && task->attempt >= 1);
    if (fixture->script != NULL) {
        fixture->script(fixture, task, index);
    } else {
        seen->task = NULL;
        bk_work_done(task, BK_SLICE_EMPTY);
    }
}

static inline void work_fixture_on_cancel(struct bk_work_task *task, void *user) {
    struct work_fixture *fixture = user;
    fixture->cancel_count++;
    assert_true(task->is_cancelled || task->is_stopping);
    if (fixture->on_cancel != NULL)
        fixture->on_cancel(fixture, task);
}

static inline enum bk_status work_fixture_on_end(struct bk_transaction *transaction,
                                                 const struct bk_work_end *end, void *user) {
    struct work_fixture *fixture = user;
    fixture->end_count++;
    return fixture->on_end == NULL ? BK_OK : fixture->on_end(fixture, transaction, end);
}

static inline enum bk_status work_fixture_on_dead(struct bk_transaction *transaction,
                                                  const struct bk_work_kind *kind,
                                                  const struct bk_work_end *end, void *user) {
    struct work_fixture *fixture = user;
    assert_non_null(kind);
    assert_int_equal(end->outcome, BK_WORK_DEAD);
    fixture->dead_count++;
    return fixture->on_dead == NULL ? BK_OK : fixture->on_dead(fixture, transaction, end);
}

#define WORK_FIXTURE_HANDLERS                                                                      \
    .on_task = work_fixture_on_task, .on_cancel = work_fixture_on_cancel,                          \
    .on_end = work_fixture_on_end

/* --- life ------------------------------------------------------------------------------------- */

static inline void work_fixture_compose(struct work_fixture *fixture) {
    static const struct bk_system_collection collection = {
        .definition = bk_work_definition, .role = BK_ROLE_STATE, .is_closed = true};
    const struct bk_work_options options = {.loop = fixture->kernel.loop,
                                            .store = fixture->kernel.store,
                                            .tenants = fixture->kernel.tenants,
                                            .data_directory = fixture->kernel.directory,
                                            .instance_key = fixture->instance_key};
    fixture->schema = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    bk_schema_add_system(fixture->schema, &collection, "jobs");
    fixture->work = bk_work_create(&options);
    for (size_t i = 0; i < fixture->kind_count; i++)
        assert_int_equal(bk_work_add_kind(fixture->work, &fixture->kinds[i], fixture), BK_OK);
    bk_work_on_dead(fixture->work, work_fixture_on_dead, fixture);
}

/* The tenant "default" is open, and work has started. */
static inline void work_fixture_open(struct work_fixture *fixture, const struct bk_work_kind *kinds,
                                     size_t kind_count) {
    memset(fixture, 0, sizeof *fixture);
    fixture->kinds = kinds;
    fixture->kind_count = kind_count;
    support_kernel_create(&fixture->kernel, NULL);
    work_fixture_compose(fixture);
    support_kernel_open(&fixture->kernel);
    bk_work_start(fixture->work);
}

static inline void work_fixture_on_flag(void *user) { *(bool *)user = true; }

/* As a server ends. grace_ms 0: as if it were killed, as far as tasks that run are concerned. */
static inline void work_fixture_close(struct work_fixture *fixture, uint64_t grace_ms) {
    bool is_stopped = false, is_closed = false;
    bk_work_stop(fixture->work, grace_ms, work_fixture_on_flag, &is_stopped);
    support_loop_run_until(fixture->kernel.loop, &is_stopped);
    support_kernel_close(&fixture->kernel);
    bk_work_close(fixture->work, work_fixture_on_flag, &is_closed);
    support_loop_run_until(fixture->kernel.loop, &is_closed);
    bk_work_destroy(fixture->work);
    bk_schema_kind_destroy(fixture->schema);
}

static inline void work_fixture_reopen(struct work_fixture *fixture) {
    support_kernel_restart(&fixture->kernel);
    work_fixture_compose(fixture);
    support_kernel_open(&fixture->kernel);
    bk_work_start(fixture->work);
}

static inline void work_fixture_destroy(struct work_fixture *fixture) {
    work_fixture_close(fixture, 1000);
    support_kernel_destroy(&fixture->kernel);
}

#define WORK_FIXTURE_UNTIL(fixture, condition) SUPPORT_LOOP_UNTIL((fixture)->kernel.loop, condition)

static inline void work_fixture_wait(struct work_fixture *fixture, uint64_t for_ms) {
    support_loop_run_for(fixture->kernel.loop, for_ms);
}

/* --- on the writer ---------------------------------------------------------------------------- */

struct work_fixture_write {
    struct bk_write write;
    struct work_fixture *fixture;
    enum bk_status (*run)(struct work_fixture *fixture, struct bk_transaction *transaction,
                          void *user);
    void *user;
    bool is_done;
    enum bk_status status;
};

static inline enum bk_status work_fixture_on_run(struct bk_transaction *transaction,
                                                 struct bk_write *write) {
    struct work_fixture_write *own = bk_container_of(write, struct work_fixture_write, write);
    return own->run(own->fixture, transaction, own->user);
}

static inline void work_fixture_on_written(struct bk_write *write, enum bk_status status) {
    struct work_fixture_write *own = bk_container_of(write, struct work_fixture_write, write);
    own->is_done = true;
    own->status = status;
}

static inline enum bk_status
work_fixture_write_by(struct work_fixture *fixture, const struct bk_origin *origin,
                      enum bk_status (*run)(struct work_fixture *fixture,
                                            struct bk_transaction *transaction, void *user),
                      void *user) {
    struct work_fixture_write own = {
        .write = {.origin = origin, .run = work_fixture_on_run, .done = work_fixture_on_written},
        .fixture = fixture,
        .run = run,
        .user = user};
    assert_int_equal(bk_store_write(fixture->kernel.tenant->database, &own.write), BK_OK);
    support_loop_run_until(fixture->kernel.loop, &own.is_done);
    return own.status;
}

struct work_fixture_adding {
    const struct bk_work_draft *draft;
    uint32_t count;
    char id[BK_WORK_ID_BYTES + 1];
};

static inline enum bk_status work_fixture_run_add(struct work_fixture *fixture,
                                                  struct bk_transaction *transaction, void *user) {
    struct work_fixture_adding *adding = user;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < adding->count && status == BK_OK; i++)
        status = bk_work_add(fixture->work, transaction, adding->draft, adding->id);
    return status;
}

/* The id of the last one; of BK_WORK_ID_BYTES and a NUL. */
static inline enum bk_status work_fixture_add(struct work_fixture *fixture,
                                              const struct bk_work_draft *draft, uint32_t count,
                                              char *id) {
    struct work_fixture_adding adding = {.draft = draft, .count = count};
    enum bk_status status = work_fixture_write_by(fixture, NULL, work_fixture_run_add, &adding);
    if (id != NULL)
        memcpy(id, adding.id, sizeof adding.id);
    return status;
}

typedef enum bk_status work_fixture_verb(struct bk_work *work, struct bk_transaction *transaction,
                                         struct bk_slice what);

struct work_fixture_verbing {
    work_fixture_verb *verb;
    struct bk_slice what;
};

static inline enum bk_status work_fixture_run_verb(struct work_fixture *fixture,
                                                   struct bk_transaction *transaction, void *user) {
    const struct work_fixture_verbing *verbing = user;
    return verbing->verb(fixture->work, transaction, verbing->what);
}

/* bk_work_retry, _cancel, _drop, _pause, _resume */
static inline enum bk_status work_fixture_do(struct work_fixture *fixture, work_fixture_verb *verb,
                                             const char *what) {
    struct work_fixture_verbing verbing = {verb, bk_slice_from(what)};
    return work_fixture_write_by(fixture, NULL, work_fixture_run_verb, &verbing);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* The first column of the first row as text, in a room that the next call reuses; "" for none. */
static inline const char *work_fixture_query(struct work_fixture *fixture, const char *text) {
    static char room[512];
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    struct bk_connection *connection = bk_store_read_now(fixture->kernel.tenant->database);
    struct bk_statement *statement;
    room[0] = '\0';
    assert_non_null(connection);
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        print_error("%s: %s\n", text, bk_connection_error(connection));
    assert_int_equal(status, BK_OK);
    /* A busy machine may take longer than the loop's reads are given. */
    for (int i = 0; (status = bk_statement_step(statement)) == BK_TIMEOUT && i < 20; i++)
        bk_statement_reset(statement);
    assert_true(status == BK_OK || status == BK_END);
    if (status == BK_OK)
        snprintf(room, sizeof room, "%.*s", BK_SLICE_PRINT(bk_statement_text(statement, 0)));
    bk_statement_reset(statement);
    return room;
}

static inline long work_fixture_count(struct work_fixture *fixture, const char *condition) {
    char text[1024];
    snprintf(text, sizeof text, "SELECT count(*) FROM _work WHERE %s", condition);
    return strtol(work_fixture_query(fixture, text), NULL, 10);
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Keeps it: the test answers later. */
static inline void work_fixture_keep(struct work_fixture *fixture, struct bk_work_task *task,
                                     uint32_t index) {
    (void)fixture;
    (void)task;
    (void)index;
}

static inline struct bk_work_task *work_fixture_take(struct work_fixture *fixture, uint32_t index) {
    assert_true(index < fixture->seen_count);
    struct bk_work_task *task = fixture->seen[index].task;
    assert_non_null(task);
    fixture->seen[index].task = NULL;
    return task;
}

static inline void work_fixture_fail(struct work_fixture *fixture, struct bk_work_task *task,
                                     uint32_t index) {
    fixture->seen[index].task = NULL;
    bk_work_again(task, 0, BK_SLICE("it failed"), BK_SLICE("result"));
}

#endif
