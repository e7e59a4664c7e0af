/* The rows of deliveries: their ids, one for all attempts, and what is kept of these. */
#include "webhooks.h"

#include "kernel_fixture.h"

#include <stdio.h>

static const struct bk_migration migrations[] = {
    {.name = "test_1_deliveries",
     .sql = "CREATE TABLE _deliveries (id TEXT PRIMARY KEY NOT NULL, webhook TEXT, event TEXT, "
            "type TEXT, subject TEXT, sequence INTEGER, after INTEGER, format TEXT, state TEXT, "
            "attempts TEXT, attemptCount INTEGER, nextAttempt TEXT, created TEXT, updated TEXT)"},
};

static int setup(void **state) {
    static struct support_kernel kernel;
    static const struct bk_tenant_slot slot = {
        .name = "test", .migrations = migrations, .migration_count = BK_COUNT_OF(migrations)};
    support_kernel_create(&kernel, NULL);
    (void)bk_tenants_add_slot(kernel.tenants, &slot);
    support_kernel_open(&kernel);
    *state = &kernel;
    return 0;
}

static int teardown(void **state) {
    support_kernel_close(*state);
    support_kernel_destroy(*state);
    return 0;
}

/* --- on the writer ---------------------------------------------------------------------------- */

struct writing {
    struct bk_write write;
    const struct webhooks_attempt *attempt;
    bool emits, is_done;
    enum bk_status status;
};

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    const struct writing *writing = bk_container_of(write, struct writing, write);
    return writing->emits ? webhooks_exhausted_emit(transaction, writing->attempt)
                          : webhooks_delivery_write(transaction, writing->attempt);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct writing *writing = bk_container_of(write, struct writing, write);
    writing->status = status;
    writing->is_done = true;
}

static void run(struct support_kernel *kernel, const struct webhooks_attempt *attempt, bool emits) {
    struct writing writing = {
        .write = {.run = on_run, .done = on_done}, .attempt = attempt, .emits = emits};
    assert_int_equal(bk_store_write(kernel->tenant->database, &writing.write), BK_OK);
    support_loop_run_until(kernel->loop, &writing.is_done);
    assert_int_equal(writing.status, BK_OK);
}

static const struct webhooks_attempt plain = {
    .webhook = BK_SLICE_INIT("abcdefghijklmno"),
    .event = BK_SLICE_INIT("evt_1"),
    .type = BK_SLICE_INIT("posts.created"),
    .subject = BK_SLICE_INIT("posts/1"),
    .sequence = 37,
    .after = 36,
    .state = WEBHOOKS_DELIVERED,
};

static void attempt(struct support_kernel *kernel, uint32_t number,
                    enum webhooks_delivery_state state, uint32_t status) {
    const struct webhooks_result result = {
        .status = status, .latency_ms = 5, .answer = BK_SLICE_INIT("say \"hi\"")};
    struct webhooks_attempt made = plain;
    made.number = number;
    made.state = state;
    made.next_ms = 1;
    made.result = status == 0 ? NULL : &result;
    run(kernel, &made, false);
}

/* One value of the one row. */
static void assert_value(struct support_kernel *kernel, const char *expression,
                         const char *expected) {
    char text[300];
    struct bk_statement *statement;
    struct bk_connection *connection = bk_store_read_now(kernel->tenant->database);
    (void)snprintf(text, sizeof text, "SELECT %s FROM _deliveries", expression);
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    assert_int_equal(bk_connection_statement(connection, &sql, &statement), BK_OK);
    assert_int_equal(bk_statement_step(statement), BK_OK);
    struct bk_slice found = bk_statement_text(statement, 0);
    assert_int_equal(found.length, strlen(expected));
    assert_memory_equal(found.data, expected, found.length);
    bk_statement_reset(statement);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void ids_ascend_with_events_and_name_the_endpoint(void **state) {
    char one[WEBHOOKS_ID_BYTES], other[WEBHOOKS_ID_BYTES];
    (void)state;
    webhooks_delivery_id(one, 37, plain.webhook);
    assert_memory_equal(one, "00000011ijklmno", sizeof one);
    webhooks_delivery_id(other, 36 * 36 - 1, plain.webhook);
    assert_memory_equal(other, "000000zzijklmno", sizeof other);
    assert_true(memcmp(one, other, sizeof one) < 0);
}

static void an_attempt_is_written_as_json(void **state) {
    const struct webhooks_result result = {.status = 503,
                                           .time_ms = 0,
                                           .latency_ms = 12,
                                           .error = BK_SLICE_INIT("no\n"),
                                           .answer = BK_SLICE_INIT("")};
    static const char expected[] =
        "{\"time\":\"1970-01-01 00:00:00.000Z\",\"status\":503,\"latencyMs\":12,"
        "\"error\":\"no\\n\",\"answer\":\"\"}";
    struct bk_buffer out;
    (void)state;
    bk_buffer_init(&out, 1000);
    webhooks_result_write(&out, &result);
    assert_int_equal(out.length, sizeof expected - 1);
    assert_memory_equal(out.data, expected, out.length);
    bk_buffer_fini(&out);
}

static void all_attempts_of_a_delivery_are_one_row(void **state) {
    attempt(*state, 1, WEBHOOKS_RETRYING, 503);
    assert_value(*state, "nextAttempt", "1970-01-01 00:00:00.001Z");
    attempt(*state, 0, WEBHOOKS_DELIVERED, 200);
    assert_value(*state, "count(*)", "1");
    assert_value(*state, "state || attemptCount || nextAttempt", "delivered2");
    assert_value(*state, "json_extract(attempts, '$[0].status', '$[1].status')", "[503,200]");
    assert_value(*state, "json_extract(attempts, '$[1].answer')", "say \"hi\"");
    assert_value(*state, "webhook || event || type || subject || sequence || after",
                 "abcdefghijklmnoevt_1posts.createdposts/13736");
}

static void what_is_sent_again_after_a_crash_goes_on_with_its_row(void **state) {
    attempt(*state, 1, WEBHOOKS_DELIVERED, 200);
    attempt(*state, 1, WEBHOOKS_DELIVERED, 204);
    assert_value(*state, "count(*)", "1");
    assert_value(*state, "json_extract(attempts, '$[0].status', '$[1].status')", "[200,204]");
}

static void one_that_is_parked_has_no_attempt_yet(void **state) {
    attempt(*state, 0, WEBHOOKS_RETRYING, 0);
    assert_value(*state, "state || attempts || attemptCount", "retrying[]0");
    attempt(*state, 0, WEBHOOKS_DELIVERED, 200);
    assert_value(*state, "state || attemptCount", "delivered1");
    assert_value(*state, "json_array_length(attempts)", "1");
}

static void of_many_attempts_the_first_and_the_newest_are_kept(void **state) {
    for (uint32_t i = 0; i < WEBHOOKS_ATTEMPTS_KEPT + 5; i++)
        attempt(*state, i == 0, WEBHOOKS_RETRYING, 500 + i);
    assert_value(*state, "attemptCount", "25");
    assert_value(*state, "json_array_length(attempts)", "20");
    assert_value(*state, "json_extract(attempts, '$[0].status', '$[1].status', '$[19].status')",
                 "[500,506,524]");
}

static void what_fails_for_good_is_told_but_not_of_webhooks_themselves(void **state) {
    struct support_kernel *kernel = *state;
    struct webhooks_attempt failed = plain;
    uint64_t before = bk_journal_state(kernel->tenant->database).last;
    failed.state = WEBHOOKS_FAILED;
    run(kernel, &failed, true);
    assert_int_equal(bk_journal_state(kernel->tenant->database).last, before + 1);
    failed.type = BK_SLICE("webhook.exhausted");
    run(kernel, &failed, true);
    assert_int_equal(bk_journal_state(kernel->tenant->database).last, before + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_ascend_with_events_and_name_the_endpoint),
        cmocka_unit_test(an_attempt_is_written_as_json),
        TEST(all_attempts_of_a_delivery_are_one_row),
        TEST(what_is_sent_again_after_a_crash_goes_on_with_its_row),
        TEST(one_that_is_parked_has_no_attempt_yet),
        TEST(of_many_attempts_the_first_and_the_newest_are_kept),
        TEST(what_fails_for_good_is_told_but_not_of_webhooks_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
