/* What many attempts came to is written in few commits, and none of these lets a request wait for
 * long. The store is the real one; what is written of an attempt is played here. */
#include "webhooks.h"

#include "kernel_fixture.h"

#include <stdatomic.h>
#include <unistd.h>

enum { RECORDS = 500, SHARE = 32 /* of those that are written while a request waits */ };

struct world {
    struct support_kernel kernel;
    struct bk_module_context context;
    struct webhooks_state state;
    struct webhooks_tenant tenant;
    struct webhooks_endpoint endpoint;
    struct webhooks_record records[RECORDS];
};

static size_t recorded_count;

/* Of the writer: attempts written, and a gate at the first one of the second commit. */
static atomic_uint written_count;
static atomic_bool is_at_gate, is_gate_open;

/* --- what record.c calls ---------------------------------------------------------------------- */

void webhooks_endpoint_ref(struct webhooks_endpoint *endpoint) { endpoint->use_count++; }

void webhooks_endpoint_unref(struct webhooks_endpoint *endpoint) {
    assert_true(endpoint->use_count > 0);
    endpoint->use_count--;
}

enum bk_status webhooks_delivery_write(struct bk_transaction *transaction,
                                       const struct webhooks_attempt *attempt) {
    (void)transaction;
    (void)attempt;
    if (written_count == 1) {
        is_at_gate = true;
        for (uint64_t end_ms = support_patience_end_ms();
             !is_gate_open && support_patience_lasts(end_ms);)
            (void)usleep(1000);
    }
    written_count++;
    return BK_OK;
}

enum bk_status webhooks_exhausted_emit(struct bk_transaction *transaction,
                                       const struct webhooks_attempt *attempt) {
    (void)transaction;
    (void)attempt;
    return BK_OK;
}

enum bk_status webhooks_retry_add(const struct webhooks_state *state,
                                  struct bk_transaction *transaction,
                                  const struct webhooks_attempt *attempt, bool is_replay) {
    (void)state;
    (void)transaction;
    (void)attempt;
    (void)is_replay;
    return BK_OK;
}

void webhooks_retry_added(struct webhooks_endpoint *endpoint, uint64_t sequence) {
    (void)endpoint;
    (void)sequence;
}

/* --- the world -------------------------------------------------------------------------------- */

static int setup(void **state) {
    static struct world world;
    memset(&world, 0, sizeof world);
    recorded_count = 0;
    written_count = 0;
    is_at_gate = is_gate_open = false;
    support_kernel_create(&world.kernel, NULL);
    support_kernel_open(&world.kernel);
    world.context.loop = world.kernel.loop;
    world.state.context = &world.context;
    world.tenant.state = &world.state;
    world.tenant.tenant = world.kernel.tenant;
    world.endpoint.of = &world.tenant;
    webhooks_recorder_open(&world.tenant);
    *state = &world;
    return 0;
}

static int teardown(void **state) {
    struct world *world = *state;
    webhooks_recorder_close(&world->tenant);
    assert_int_equal(world->endpoint.use_count, 0);
    support_kernel_close(&world->kernel);
    support_kernel_destroy(&world->kernel);
    return 0;
}

static void on_recorded(struct webhooks_record *record, enum bk_status status) {
    const struct world *world = bk_container_of(record->endpoint, struct world, endpoint);
    assert_int_equal(status, BK_OK);
    assert_ptr_equal(record, &world->records[recorded_count]); /* in order */
    recorded_count++;
}

/* The first is a commit of its own; the others wait for its end together. */
static void record_all(struct world *world) {
    for (size_t i = 0; i < RECORDS; i++) {
        world->records[i] = (struct webhooks_record){
            .endpoint = &world->endpoint,
            .attempt = {.webhook = BK_SLICE("abcdefghijklmno"), .sequence = i + 1},
            .recorded = on_recorded};
        webhooks_record(&world->records[i]);
    }
    SUPPORT_LOOP_UNTIL(world->kernel.loop, is_at_gate);
}

/* A write of ours: how many attempts were written when its turn came. */
struct asking {
    struct bk_write write;
    unsigned written;
    bool is_done;
};

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    (void)transaction;
    bk_container_of(write, struct asking, write)->written = written_count;
    return BK_OK;
}

static void on_done(struct bk_write *write, enum bk_status status) {
    assert_int_equal(status, BK_OK);
    bk_container_of(write, struct asking, write)->is_done = true;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void what_waits_together_is_written_together(void **state) {
    struct world *world = *state;
    struct asking asking = {.write = {.lane = BK_LANE_BACKGROUND, .run = on_run, .done = on_done}};
    record_all(world);
    assert_int_equal(bk_store_write(world->kernel.tenant->database, &asking.write), BK_OK);
    is_gate_open = true;
    SUPPORT_LOOP_UNTIL(world->kernel.loop, asking.is_done && recorded_count == RECORDS);
    assert_int_equal(asking.written, RECORDS);
}

static void a_request_waits_for_the_start_of_a_batch_at_most(void **state) {
    struct world *world = *state;
    struct asking asking = {.write = {.run = on_run, .done = on_done}};
    record_all(world);
    assert_int_equal(bk_store_write(world->kernel.tenant->database, &asking.write), BK_OK);
    is_gate_open = true;
    SUPPORT_LOOP_UNTIL(world->kernel.loop, asking.is_done && recorded_count == RECORDS);
    assert_in_range(asking.written, 1, 1 + SHARE);
    assert_int_equal(written_count, RECORDS); /* each once */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_waits_together_is_written_together),
        TEST(a_request_waits_for_the_start_of_a_batch_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
