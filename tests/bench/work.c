/*
 * Empty tasks a second through one handler, with so many behind them:
 *
 *   work BACKLOG COUNT
 *
 * In rounds: BACKLOG tasks are added to the lane while it is paused; when all have come from the
 * inbox into their table it is resumed, and the round ends when so many are done, or COUNT in all.
 * What is timed is from the resume to the end: each task is read, marked as begun, handed to its
 * handler, which is done with it at once, and its row goes, all of it fsynced. Prints
 * TASKS_A_SECOND ANONYMOUS_BYTES_BEFORE ANONYMOUS_BYTES_MOST: the memory of the process with the
 * backlog on disk and before the first task is begun, and the most of it while they are worked off.
 */
#include "schema_fixture.h"

#include "bakend/work.h"
#include "measure.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    ADDED_AT_ONCE = 1000, /* tasks of one write */
    LOOK_INTERVAL = 4096, /* tasks between two looks at the memory */
    GRACE_MS = 10 * 1000,
};

static struct support_schema fixture;
static struct bk_work *work;
static uint64_t looked_count, awaited_count; /* of tasks done */
static double most_bytes;
static bool is_round_done, has_inbox;

/* --- memory ----------------------------------------------------------------------------------- */

static double anonymous_bytes(void) {
    char line[256];
    unsigned long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %lu kB", &kilobytes) == 1)
            break;
    if (file != NULL)
        (void)fclose(file);
    if (kilobytes == 0)
        bench_fail("/proc/self/status does not tell RssAnon");
    return (double)kilobytes * 1024;
}

static void look_at_memory(void) {
    double bytes = anonymous_bytes();
    if (bytes > most_bytes)
        most_bytes = bytes;
}

/* --- the handler ------------------------------------------------------------------------------ */

static void on_task(struct bk_work_task *task, void *user) {
    (void)user;
    bk_work_done(task, BK_SLICE_EMPTY);
}

static const struct bk_work_kind kind = {
    .name = "bench",
    .lane = {.running_max = 256},
    .on_task = on_task,
};

/* Those whose end is on disk. */
static uint64_t done_count(void) {
    struct bk_work_figures figures;
    if (bk_work_figures(work, &figures, 1) != 1)
        bench_fail("there are no figures");
    return figures.done;
}

static void on_turn_end(struct bk_turn_hook *hook) {
    uint64_t count = done_count();
    (void)hook;
    if (count - looked_count >= LOOK_INTERVAL) {
        look_at_memory();
        looked_count = count;
    }
    if (count >= awaited_count)
        is_round_done = true;
}

/* --- writes ----------------------------------------------------------------------------------- */

struct waiting_write {
    struct bk_write write;
    bool is_done;
};

static enum bk_status run_add(struct bk_transaction *transaction, struct bk_write *write) {
    const struct bk_work_draft draft = {.kind = "bench", .payload = BK_SLICE("{\"number\":1}")};
    enum bk_status status = BK_OK;
    (void)write;
    for (int i = 0; i < ADDED_AT_ONCE && status == BK_OK; i++)
        status = bk_work_add(work, transaction, &draft, NULL);
    return status;
}

static enum bk_status run_pause(struct bk_transaction *transaction, struct bk_write *write) {
    (void)write;
    return bk_work_pause(work, transaction, BK_SLICE("bench"));
}

static enum bk_status run_resume(struct bk_transaction *transaction, struct bk_write *write) {
    (void)write;
    return bk_work_resume(work, transaction, BK_SLICE("bench"));
}

static enum bk_status run_look(struct bk_transaction *transaction, struct bk_write *write) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT EXISTS (SELECT 1 FROM _work_inbox)"));
    struct bk_statement *statement;
    (void)write;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status != BK_OK)
        return status;
    has_inbox = bk_statement_int(statement, 0) != 0;
    bk_statement_reset(statement);
    return BK_OK;
}

static void on_written(struct bk_write *write, enum bk_status status) {
    if (status != BK_OK)
        bench_fail("a write failed with %s", bk_status_name(status));
    bk_container_of(write, struct waiting_write, write)->is_done = true;
}

static void commit(enum bk_status (*run)(struct bk_transaction *, struct bk_write *)) {
    struct waiting_write waiting = {.write = {.run = run, .done = on_written}};
    if (bk_store_write(fixture.kernel.tenant->database, &waiting.write) != BK_OK)
        bench_fail("a write was refused");
    bk_loop_run_until(fixture.kernel.loop, &waiting.is_done);
}

/* --- rounds ----------------------------------------------------------------------------------- */

static void add_backlog(long count) {
    for (long added = 0; added < count; added += ADDED_AT_ONCE)
        commit(run_add);
    do
        commit(run_look);
    while (has_inbox);
}

/* How long it took until count more are done, in ns. */
static uint64_t run_round(long count) {
    awaited_count = done_count() + (uint64_t)count;
    is_round_done = false;
    uint64_t start_ns = bench_now_ns();
    commit(run_resume);
    bk_loop_run_until(fixture.kernel.loop, &is_round_done);
    return bench_now_ns() - start_ns;
}

static void measure(long backlog, long count) {
    struct bk_turn_hook hook = {.on_turn_end = on_turn_end};
    double before_bytes = 0;
    uint64_t time_ns = 0;
    long done = 0;
    bk_loop_add_turn_hook(fixture.kernel.loop, &hook);
    while (done < count) {
        long left = count - done, round = left < backlog ? left : backlog;
        awaited_count = UINT64_MAX;
        commit(run_pause);
        add_backlog(backlog);
        if (done == 0)
            before_bytes = most_bytes = anonymous_bytes();
        time_ns += run_round(round);
        done += round;
    }
    look_at_memory();
    bk_loop_remove_turn_hook(&hook);
    printf("%.0f %.0f %.0f\n", (double)done * 1e9 / (double)time_ns, before_bytes, most_bytes);
}

/* --- the program ------------------------------------------------------------------------------ */

static void on_flag(void *user) { *(bool *)user = true; }

static void open_work(void) {
    static const struct bk_system_collection collection = {
        .definition = bk_work_definition, .role = BK_ROLE_STATE, .is_closed = true};
    support_schema_create(&fixture);
    bk_schema_add_system(fixture.kind, &collection, "bench");
    const struct bk_work_options options = {.loop = fixture.kernel.loop,
                                            .store = fixture.kernel.store,
                                            .tenants = fixture.kernel.tenants,
                                            .data_directory = fixture.kernel.directory};
    work = bk_work_create(&options);
    if (bk_work_add_kind(work, &kind, NULL) != BK_OK)
        bench_fail("the kind was refused");
    support_schema_open(&fixture);
    bk_work_start(work);
}

static void close_work(void) {
    bool is_stopped = false, is_closed = false;
    bk_work_stop(work, GRACE_MS, on_flag, &is_stopped);
    bk_loop_run_until(fixture.kernel.loop, &is_stopped);
    support_schema_close(&fixture);
    bk_work_close(work, on_flag, &is_closed);
    bk_loop_run_until(fixture.kernel.loop, &is_closed);
    bk_work_destroy(work);
    support_schema_destroy(&fixture);
}

int main(int argument_count, char **arguments) {
    if (argument_count != 3)
        bench_fail("usage: work BACKLOG COUNT");
    long backlog = bench_number(arguments[1], ADDED_AT_ONCE, 10 * 1000 * 1000);
    long count = bench_number(arguments[2], 1, 10 * 1000 * 1000);
    open_work();
    measure(backlog, count);
    close_work();
    return 0;
}
