/*
 * Operations of the kernel without HTTP, to be counted under callgrind (see instructions.mjs):
 *
 *   instructions ROUNDS COUNT
 *
 * In each round COUNT of each, with a call of bench_mark before the first and behind each of them:
 *
 *   a write: a row and its event, committed and told to its caller, one at a time;
 *   a publish: a transient event to four handlers, one in each phase, COUNT_PUBLISH times as many;
 *   a write with a task: the same as the first, and what must happen later, in one transaction.
 *
 * Tasks are added and not begun, so that what is counted is what the write costs more.
 */
#include "schema_fixture.h"

#include "bakend/bus.h"
#include "bakend/work.h"
#include "measure.h"

enum { COUNT_PUBLISH = 10 };

void bench_mark(void);

/* callgrind writes what it counted when this is entered. */
__attribute__((noipa)) void bench_mark(void) { __asm__ volatile(""); }

struct row_write {
    struct bk_write write;
    bool is_done;
};

static struct bk_work *work;
static uint64_t handled_count, awaited_count;
static bool is_burst_done;

/* --- a write ---------------------------------------------------------------------------------- */

static enum bk_status run_row(struct bk_transaction *transaction, struct bk_write *write) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("INSERT INTO rows (text) VALUES (?1)"));
    const struct bk_event_draft draft = {
        .type = BK_SLICE("rows.created"),
        .source = BK_SLICE("bench"),
        .subject = BK_SLICE("rows/1"),
        .payload = BK_SLICE("{\"email\":\"john@example.com\",\"name\":\"John Doe\"}"),
    };
    struct bk_statement *statement;
    (void)write;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, draft.payload);
    status = bk_statement_run(statement);
    return status == BK_OK ? bk_transaction_emit(transaction, &draft) : status;
}

static enum bk_status run_row_with_task(struct bk_transaction *transaction,
                                        struct bk_write *write) {
    const struct bk_work_draft draft = {
        .kind = "bench",
        .payload = BK_SLICE("{\"to\":\"john@example.com\",\"template\":\"welcome\"}"),
    };
    enum bk_status status = run_row(transaction, write);
    return status == BK_OK ? bk_work_add(work, transaction, &draft, NULL) : status;
}

static enum bk_status run_create_table(struct bk_transaction *transaction, struct bk_write *write) {
    (void)write;
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)"));
}

static void on_written(struct bk_write *write, enum bk_status status) {
    if (status != BK_OK)
        bench_fail("a write failed with %d", (int)status);
    bk_container_of(write, struct row_write, write)->is_done = true;
}

static void write_one(struct support_kernel *kernel,
                      enum bk_status (*run)(struct bk_transaction *, struct bk_write *)) {
    struct row_write row = {.write = {.run = run, .done = on_written}};
    if (bk_store_write(kernel->tenant->database, &row.write) != BK_OK)
        bench_fail("a write was refused");
    bk_loop_run_until(kernel->loop, &row.is_done);
}

/* --- a publish -------------------------------------------------------------------------------- */

static enum bk_status on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                               struct bk_event *event) {
    (void)subscription;
    (void)tenant;
    handled_count += event->fields.payload.length > 0 ? 1 : 0;
    is_burst_done = handled_count == awaited_count;
    return BK_OK;
}

static void publish(struct support_kernel *kernel, struct bk_bus *bus, long count) {
    const struct bk_event_draft draft = {
        .type = BK_SLICE("function.started"),
        .source = BK_SLICE("functions"),
        .subject = BK_SLICE("functions/welcome"),
        .payload = BK_SLICE("{\"name\":\"welcome\",\"attempt\":1}"),
        .is_transient = true,
    };
    for (long i = 0; i < count; i++)
        (void)bk_bus_publish(bus, kernel->tenant, &draft, NULL);
    awaited_count = handled_count + (uint64_t)count * BK_PHASE_COUNT;
    is_burst_done = false;
    bk_loop_run_until(kernel->loop, &is_burst_done);
}

/* --- a task ----------------------------------------------------------------------------------- */

static void on_task(struct bk_work_task *task, void *user) {
    (void)task;
    (void)user;
    bench_fail("a task was begun");
}

static void on_flag(void *user) { *(bool *)user = true; }

static void close_work(struct support_schema *schema) {
    bool is_closed = false;
    bk_work_close(work, on_flag, &is_closed);
    bk_loop_run_until(schema->kernel.loop, &is_closed);
    bk_work_destroy(work);
}

/* --- the program ------------------------------------------------------------------------------ */

static void measure(struct support_kernel *kernel, struct bk_bus *bus, long rounds, long count) {
    write_one(kernel, run_create_table);
    for (long round = 0; round < rounds; round++) {
        bench_mark();
        for (long i = 0; i < count; i++)
            write_one(kernel, run_row);
        bench_mark();
        publish(kernel, bus, COUNT_PUBLISH * count);
        bench_mark();
        for (long i = 0; i < count; i++)
            write_one(kernel, run_row_with_task);
    }
    bench_mark();
}

/* Before the tenant opens. */
static void create_work(struct support_schema *schema) {
    static const struct bk_system_collection tasks = {
        .definition = bk_work_definition, .role = BK_ROLE_STATE, .is_closed = true};
    static const struct bk_work_kind kind = {.name = "bench", .on_task = on_task};
    const struct bk_work_options options = {.loop = schema->kernel.loop,
                                            .store = schema->kernel.store,
                                            .tenants = schema->kernel.tenants,
                                            .data_directory = schema->kernel.directory};
    bk_schema_add_system(schema->kind, &tasks, "bench");
    work = bk_work_create(&options);
    if (bk_work_add_kind(work, &kind, NULL) != BK_OK)
        bench_fail("the kind was refused");
}

int main(int argument_count, char **arguments) {
    static struct support_schema schema;
    struct support_kernel *kernel = &schema.kernel;
    struct bk_subscription handlers[BK_PHASE_COUNT] = {0};
    if (argument_count != 3)
        bench_fail("usage: instructions ROUNDS COUNT");
    long rounds = bench_number(arguments[1], 1, 1000);
    long count = bench_number(arguments[2], 1, 1000);
    support_schema_create(&schema);
    struct bk_bus *bus = bk_bus_create(kernel->loop, kernel->store, (struct bk_log){NULL, "bus"});
    create_work(&schema);
    support_schema_open(&schema);
    for (int i = 0; i < BK_PHASE_COUNT; i++) {
        handlers[i].name = "bench";
        handlers[i].phase = (enum bk_phase)i;
        handlers[i].pattern = i % 2 == 0 ? BK_SLICE("*") : BK_SLICE("function.started");
        handlers[i].on_event = on_event;
        bk_bus_subscribe(bus, &handlers[i]);
    }
    measure(kernel, bus, rounds, count);
    for (int i = 0; i < BK_PHASE_COUNT; i++)
        bk_bus_unsubscribe(bus, &handlers[i]);
    support_schema_close(&schema);
    close_work(&schema);
    bk_bus_destroy(bus);
    support_schema_destroy(&schema);
    return 0;
}
