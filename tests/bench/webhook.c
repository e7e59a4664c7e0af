/*
 * What one delivery of a webhook costs beside its request, to be counted under callgrind (see
 * instructions.mjs):
 *
 *   webhook ROUNDS COUNT
 *
 * In each round COUNT deliveries, one at a time: the body is made of an event and signed, and the
 * row of the attempt is committed. bench_mark is called before each round and behind all.
 */
#include "../../src/modules/webhooks/webhooks.h"
#include "kernel_fixture.h"
#include "measure.h"

enum { ARENA_BYTES = 64 * 1024 };

static const struct bk_migration migrations[] = {
    {.name = "bench_1_deliveries",
     .sql = "CREATE TABLE _deliveries (id TEXT PRIMARY KEY NOT NULL, webhook TEXT, event TEXT, "
            "type TEXT, subject TEXT, sequence INTEGER, after INTEGER, format TEXT, state TEXT, "
            "attempts TEXT, attemptCount INTEGER, nextAttempt TEXT, created TEXT, updated TEXT);"
            "CREATE INDEX webhook ON _deliveries (webhook, id);"
            "CREATE INDEX state ON _deliveries (state, id)"},
};

static const struct bk_event_fields event = {
    .sequence = 1,
    .timestamp_ms = INT64_C(1780920000123),
    .version = 1,
    .id = BK_SLICE_INIT("evt_01M82QYS2B000000000S2JEZ39"),
    .type = BK_SLICE_INIT("bench.created"),
    .source = BK_SLICE_INIT("collections"),
    .tenant = BK_SLICE_INIT("default"),
    .subject = BK_SLICE_INIT("bench/2rxyarybl4y30nu"),
    .actor = BK_SLICE_INIT("guest"),
    .payload = BK_SLICE_INIT("{\"id\":\"2rxyarybl4y30nu\",\"email\":\"john@example.com\","
                             "\"name\":\"John Doe\",\"created\":\"2026-06-08 12:00:00.123Z\"}"),
};

struct delivery {
    struct bk_write write;
    struct webhooks_attempt attempt;
    struct webhooks_result result;
    bool is_done;
};

void bench_mark(void);

/* callgrind writes what it counted when this is entered. */
__attribute__((noipa)) void bench_mark(void) { __asm__ volatile(""); }

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    const struct delivery *delivery = bk_container_of(write, struct delivery, write);
    return webhooks_delivery_write(transaction, &delivery->attempt);
}

static void on_written(struct bk_write *write, enum bk_status status) {
    if (status != BK_OK)
        bench_fail("a delivery cannot be written: %s", bk_status_text(status));
    bk_container_of(write, struct delivery, write)->is_done = true;
}

static void sign(const struct webhooks_state *state, const struct webhooks_config *config,
                 const struct bk_event_fields *fields) {
    const struct webhooks_form form = {.format = config->format, .after = fields->sequence - 1};
    struct bk_outbound_request request = {.method = "POST"};
    struct webhooks_signing signing = {
        .state = state, .config = config, .event = fields, .form = &form, .now_s = 1780920000};
    struct bk_arena arena;
    struct bk_buffer body;
    bk_arena_init(&arena, ARENA_BYTES);
    bk_buffer_init(&body, webhooks_body_bytes_max(fields));
    webhooks_body_write(&body, fields, &form);
    signing.body = bk_buffer_slice(&body);
    if (webhooks_sign(&signing, &arena, &request) != BK_OK)
        bench_fail("a body cannot be signed");
    bk_buffer_fini(&body);
    bk_arena_fini(&arena);
}

static void record(struct support_kernel *kernel, const struct bk_event_fields *fields) {
    struct delivery delivery = {
        .write = {.lane = BK_LANE_BACKGROUND, .run = on_run, .done = on_written},
        .attempt = {.webhook = BK_SLICE("2rxyava37vgxtt4"),
                    .event = fields->id,
                    .type = fields->type,
                    .subject = fields->subject,
                    .sequence = fields->sequence,
                    .after = fields->sequence - 1,
                    .state = WEBHOOKS_DELIVERED,
                    .number = 1},
        .result = {.status = 200, .time_ms = 1780920000123, .latency_ms = 5}};
    delivery.attempt.result = &delivery.result;
    if (bk_store_write(kernel->tenant->database, &delivery.write) != BK_OK)
        bench_fail("the store takes no write");
    bk_loop_run_until(kernel->loop, &delivery.is_done);
}

static void deliver(struct support_kernel *kernel, long rounds, long count) {
    struct webhooks_state state = {.context = NULL};
    struct webhooks_config config = {.url = BK_SLICE("https://example.com/hook")};
    struct bk_event_fields fields = event;
    if (webhooks_secret_make(BK_SLICE_EMPTY, &config.keys) != BK_OK)
        bench_fail("no secret can be made");
    for (long round = 0; round < rounds; round++) {
        bench_mark();
        for (long i = 0; i < count; i++, fields.sequence++) {
            sign(&state, &config, &fields);
            record(kernel, &fields);
        }
    }
    bench_mark();
}

int main(int argument_count, char **arguments) {
    static struct support_kernel kernel;
    static const struct bk_tenant_slot slot = {
        .name = "bench", .migrations = migrations, .migration_count = BK_COUNT_OF(migrations)};
    if (argument_count != 3)
        bench_fail("usage: webhook ROUNDS COUNT");
    if (bk_crypto_init() != BK_OK)
        bench_fail("nothing can be signed");
    support_kernel_create(&kernel, NULL);
    (void)bk_tenants_add_slot(kernel.tenants, &slot);
    support_kernel_open(&kernel);
    deliver(&kernel, bench_number(arguments[1], 1, 100), bench_number(arguments[2], 1, 100000));
    support_kernel_close(&kernel);
    support_kernel_destroy(&kernel);
    return 0;
}
