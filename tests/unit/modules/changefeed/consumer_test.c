/*
 * Named consumers against the journal's pruning, and what of them outlives the closing of their
 * tenant. Leases and waits are in tests/integration.
 */
#include "bakend/json.h"
#include "consumer.h"
#include "module_fixture.h"

#include <stdio.h>

extern const struct bk_module bk_module_changefeed;

/* In SETTLE_MS what should not happen would have. */
enum { BODY_BYTES = 1024, AGE_MS = 60 * 60 * 1000, KEPT_BYTES = 64 * 1024, SETTLE_MS = 100 };

static struct support_module fixture;
static struct bk_tenant *tenant;
static const struct bk_slice tenant_name = BK_SLICE_INIT("acme");

static void open_with(int64_t retention_ms, uint64_t retention_max_bytes) {
    struct bk_store_options options;
    bk_store_options_init(&options);
    options.retention_ms = retention_ms;
    options.retention_max_bytes = retention_max_bytes;
    options.prune_interval_ms = 10;
    support_module_open_on(&fixture, &options, &bk_module_changefeed, NULL, NULL);
    fixture.call_tenant = tenant_name;
    tenant = support_kernel_hold(&fixture.kernel, tenant_name);
}

static int teardown(void **state) {
    (void)state;
    support_clock_reset();
    if (tenant != NULL)
        bk_tenant_release(tenant);
    support_module_close(&fixture);
    return 0;
}

static int setup_by_size(void **state) {
    (void)state;
    open_with(0, KEPT_BYTES);
    return 0;
}

static int setup_by_age(void **state) {
    (void)state;
    open_with(AGE_MS, 0);
    return 0;
}

/* --- what tests do ---------------------------------------------------------------------------- */

struct waiting {
    struct bk_call call;
    bool is_done;
};

static void on_answer(struct bk_call *call) {
    bk_buffer_append_slice(&fixture.answer, call->answer);
    bk_container_of(call, struct waiting, call)->is_done = true;
}

/* Apostrophes in the body stand for quotes. */
static int ask(enum bk_method method, const char *target, const char *body) {
    static char text[BODY_BYTES];
    int length = snprintf(text, sizeof text, "%s", body);
    assert_true(length >= 0 && (size_t)length < sizeof text);
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    struct waiting waiting = {.call = {.actor = &bk_actor_system,
                                       .tenant = tenant_name,
                                       .method = method,
                                       .target = bk_slice_from(target),
                                       .body = bk_slice_make(text, (size_t)length),
                                       .done = on_answer}};
    bk_buffer_clear(&fixture.answer);
    bk_api_call(fixture.api, &waiting.call);
    support_loop_run_until(fixture.kernel.loop, &waiting.is_done);
    bk_buffer_append_char(&fixture.answer, '\0');
    fixture.answer.length--;
    return waiting.call.status;
}

static void expect(int status, enum bk_method method, const char *target, const char *body,
                   const char *text) {
    int found = ask(method, target, body);
    if (found != status || strstr(fixture.answer.data, text) == NULL)
        fail_msg("%s: %d, no %d with %s: %s", target, found, status, text, fixture.answer.data);
}

static void emit(const char *type, uint32_t count) {
    struct bk_event_draft draft = {.type = bk_slice_from(type),
                                   .source = BK_SLICE("test"),
                                   .subject = BK_SLICE("posts/a"),
                                   .payload = BK_SLICE("{\"title\":\"Hello\"}")};
    assert_int_equal(support_kernel_emit(&fixture.kernel, tenant, &draft, count, NULL), BK_OK);
    support_module_settle(&fixture);
}

static void settle(void) { support_loop_run_for(fixture.kernel.loop, SETTLE_MS); }

static uint64_t oldest(void) { return bk_journal_state(tenant->database).oldest; }

/* It comes to this, and stays. */
static void expect_oldest(uint64_t expected) {
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, oldest() >= expected);
    settle();
    assert_int_equal(oldest(), expected);
}

static uint64_t loss_count(void) {
    struct changefeed_state *state = fixture.context.state;
    return state->consumers_lost;
}

static void expect_losses(uint64_t expected) {
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, loss_count() >= expected);
    settle();
    assert_int_equal(loss_count(), expected);
}

/* Of what is pruned by size, all has been. */
static void wait_until_pruned(void) {
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop,
                       bk_journal_state(tenant->database).size_bytes <= KEPT_BYTES);
}

/* As many others are opened as may be open, so that it is closed. */
static void reopen(void) {
    char name[32];
    bk_tenant_release(tenant);
    tenant = NULL;
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "other%d", i);
        bk_tenant_release(support_kernel_hold(&fixture.kernel, bk_slice_from(name)));
    }
    assert_null(bk_tenant_hold_open(fixture.kernel.tenants, tenant_name));
    tenant = support_kernel_hold(&fixture.kernel, tenant_name);
}

/* --- pruning ---------------------------------------------------------------------------------- */

static void what_a_consumer_has_not_committed_is_kept_from_its_age(void **state) {
    (void)state;
    expect(200, BK_PUT, "/api/consumers/work", "{'types':['posts.*']}", "\"lag\":0");
    emit("posts.created", 20);
    support_clock_advance(AGE_MS + 1000);
    expect_oldest(1);
    expect(200, BK_POST, "/api/consumers/work/poll", "{'limit':5}", "\"lastSequence\":5");
    assert_int_equal(oldest(), 1);
    assert_int_equal(ask(BK_DELETE, "/api/consumers/work", ""), 204);
    expect_oldest(21);
    assert_int_equal(loss_count(), 0);
}

static void a_commit_lets_go_of_what_is_behind_it(void **state) {
    (void)state;
    char body[128];
    expect(200, BK_PUT, "/api/consumers/work", "{}", "\"lag\":0");
    emit("posts.created", 20);
    expect(200, BK_POST, "/api/consumers/work/poll", "{'limit':5}", "\"lastSequence\":5");
    const char *next = strstr(fixture.answer.data, "\"next\":\"") + strlen("\"next\":\"");
    snprintf(body, sizeof body, "{'cursor':'%.*s'}", BK_CURSOR_BYTES, next);
    expect(200, BK_POST, "/api/consumers/work/commit", body, "\"lag\":15");
    support_clock_advance(AGE_MS + 1000);
    expect_oldest(6);
    expect(200, BK_POST, "/api/consumers/work/poll", "{}", "\"firstSequence\":6");
}

static void a_position_beyond_the_bound_of_size_is_lost_once(void **state) {
    (void)state;
    expect(200, BK_PUT, "/api/consumers/work", "{'types':['posts.*']}", "\"state\":\"ready\"");
    emit("posts.created", 5000);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, oldest() > 1);
    expect(410, BK_POST, "/api/consumers/work/poll", "{}", "cursor_expired");
    expect(410, BK_POST, "/api/consumers/work/poll", "{'wait':5}", "\"oldest\":");
    expect(200, BK_GET, "/api/consumers/work", "", "\"state\":\"lost\"");
    expect_losses(1);
    expect(200, BK_GET, "/api/events?types=consumer.lost&after=now&order=desc", "",
           "\"name\":\"work\"");
    reopen();
    expect(410, BK_POST, "/api/consumers/work/poll", "{}", "cursor_expired");
    changefeed_consumers_tick(fixture.context.state);
    expect_losses(1);
}

/* Its own write waits its turn in the background; a definition is written before it. */
static void a_loss_that_was_not_told_yet_is_told_after_a_restart(void **state) {
    (void)state;
    expect(200, BK_PUT, "/api/consumers/work", "{'types':['posts.*']}", "\"state\":\"ready\"");
    struct changefeed_consumer *consumer =
        changefeed_consumer_find(fixture.context.state, tenant, BK_SLICE("work"), false);
    assert_non_null(consumer);
    consumer->is_own_submitted = true;
    emit("posts.created", 5000);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, oldest() > 1);
    expect(200, BK_PUT, "/api/consumers/work", "{'types':['posts.*']}", "\"state\":\"lost\"");
    assert_int_equal(loss_count(), 0);
    consumer->is_own_submitted = false;
    reopen();
    settle();
    changefeed_consumers_tick(fixture.context.state);
    expect_losses(1);
    expect(410, BK_POST, "/api/consumers/work/poll", "{}", "cursor_expired");
}

static void a_lost_one_goes_on_when_it_was_sought_and_may_be_lost_again(void **state) {
    (void)state;
    expect(200, BK_PUT, "/api/consumers/work", "{'types':['posts.*']}", "\"lag\":0");
    for (uint64_t i = 1; i <= 2; i++) {
        emit("posts.created", 5000);
        expect_losses(i);
        wait_until_pruned();
        expect(200, BK_POST, "/api/consumers/work/seek", "{'after':'start'}",
               "\"state\":\"ready\"");
        expect(200, BK_POST, "/api/consumers/work/poll", "{'limit':1,'leaseMs':100}", "\"Hello\"");
    }
}

/* --- what was not asked for ------------------------------------------------------------------- */

static void one_that_rests_follows_the_head_and_its_row_now_and_then(void **state) {
    (void)state;
    expect(200, BK_PUT, "/api/consumers/rare", "{'types':['people.*']}", "\"lag\":0");
    expect(200, BK_POST, "/api/consumers/rare/poll", "{}", "\"events\":[]");
    emit("posts.created", 10);
    expect(200, BK_GET, "/api/consumers/rare", "", "\"lag\":0");
    support_clock_advance(AGE_MS + 1000);
    expect_oldest(1); /* its row stands there */
    changefeed_consumers_tick(fixture.context.state);
    expect_oldest(11);
    emit("people.created", 1);
    expect(200, BK_GET, "/api/consumers/rare", "", "\"lag\":1");
    reopen();
    expect(200, BK_GET, "/api/consumers/rare", "", "\"lag\":1");
    expect(200, BK_POST, "/api/consumers/rare/poll", "{}", "people.created");
}

static void one_that_rests_is_not_lost_though_its_row_is_behind(void **state) {
    (void)state;
    expect(200, BK_PUT, "/api/consumers/rare", "{'types':['people.*']}", "\"lag\":0");
    expect(200, BK_POST, "/api/consumers/rare/poll", "{}", "\"events\":[]");
    emit("posts.created", 5000);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, oldest() > 1);
    wait_until_pruned();
    expect(200, BK_GET, "/api/consumers/rare", "", "\"state\":\"ready\"");
    reopen();
    expect(200, BK_GET, "/api/consumers/rare", "", "\"state\":\"ready\"");
    assert_int_equal(loss_count(), 0);
}

/* What was committed is pruned while most of it is still to be dispatched. */
static void one_that_rests_is_not_lost_while_events_are_on_their_way(void **state) {
    (void)state;
    expect(200, BK_PUT, "/api/consumers/rare", "{'types':['people.*']}", "\"lag\":0");
    expect(200, BK_POST, "/api/consumers/rare/poll", "{}", "\"events\":[]");
    struct changefeed_tenant *own = changefeed_tenant_of(fixture.context.state, tenant);
    uint64_t before = own->dispatched;
    emit("posts.created", 5000);
    uint64_t after = own->dispatched;
    own->dispatched = before;
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, oldest() > 1);
    wait_until_pruned();
    settle();
    expect(200, BK_GET, "/api/consumers/rare", "", "\"state\":\"ready\"");
    own->dispatched = after;
    struct changefeed_consumer *consumer =
        changefeed_consumer_find(fixture.context.state, tenant, BK_SLICE("rare"), false);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, consumer->stored + 1 >= oldest());
    reopen();
    expect(200, BK_GET, "/api/consumers/rare", "", "\"state\":\"ready\"");
    emit("people.created", 1);
    expect(200, BK_POST, "/api/consumers/rare/poll", "{}", "people.created");
    assert_int_equal(loss_count(), 0);
}

/* --- life ------------------------------------------------------------------------------------- */

static void its_definition_and_lease_outlive_its_tenants_closing(void **state) {
    (void)state;
    expect(200, BK_PUT, "/api/consumers/work",
           "{'types':['posts.*','_*'],'subject':'posts/a','after':'start'}", "\"lag\":0");
    emit("posts.created", 3);
    expect(200, BK_POST, "/api/consumers/work/poll", "{'limit':2,'leaseMs':60000}",
           "\"lastSequence\":2");
    reopen();
    expect(200, BK_GET, "/api/consumers/work", "", "[\"posts.*\",\"_*\"],\"subject\":\"posts/a\"");
    expect(409, BK_POST, "/api/consumers/work/poll", "{}", "consumer_leased");
    expect(200, BK_POST, "/api/consumers/work/seek", "{'after':'start'}", "\"leased\":false");
    expect(200, BK_POST, "/api/consumers/work/poll", "{'leaseMs':100}", "\"lastSequence\":3");
    support_loop_run_for(fixture.kernel.loop, 200);
    reopen();
    expect(200, BK_POST, "/api/consumers/work/poll", "{}", "\"firstSequence\":1");
}

static void there_is_a_bound_on_consumers(void **state) {
    (void)state;
    char target[64];
    for (int i = 0; i < 1000; i++) {
        snprintf(target, sizeof target, "/api/consumers/n%d", i);
        assert_int_equal(ask(BK_PUT, target, "{}"), 200);
    }
    expect(400, BK_PUT, "/api/consumers/more", "{}", "validation_too_many");
    expect(200, BK_PUT, "/api/consumers/n999", "{}", "\"n999\"");
    emit("posts.created", 1);
    bk_buffer_clear(&fixture.answer);
    bk_api_write_metrics(fixture.api, &fixture.answer);
    bk_buffer_append_char(&fixture.answer, '\0');
    int series = 0;
    for (const char *at = fixture.answer.data; (at = strstr(at, "bakend_consumer_lag{")) != NULL;
         at++)
        series++;
    assert_int_equal(series, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_a_consumer_has_not_committed_is_kept_from_its_age,
                                        setup_by_age, teardown),
        cmocka_unit_test_setup_teardown(a_commit_lets_go_of_what_is_behind_it, setup_by_age,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_position_beyond_the_bound_of_size_is_lost_once,
                                        setup_by_size, teardown),
        cmocka_unit_test_setup_teardown(a_loss_that_was_not_told_yet_is_told_after_a_restart,
                                        setup_by_size, teardown),
        cmocka_unit_test_setup_teardown(a_lost_one_goes_on_when_it_was_sought_and_may_be_lost_again,
                                        setup_by_size, teardown),
        cmocka_unit_test_setup_teardown(one_that_rests_follows_the_head_and_its_row_now_and_then,
                                        setup_by_age, teardown),
        cmocka_unit_test_setup_teardown(one_that_rests_is_not_lost_though_its_row_is_behind,
                                        setup_by_size, teardown),
        cmocka_unit_test_setup_teardown(one_that_rests_is_not_lost_while_events_are_on_their_way,
                                        setup_by_size, teardown),
        cmocka_unit_test_setup_teardown(its_definition_and_lease_outlive_its_tenants_closing,
                                        setup_by_age, teardown),
        cmocka_unit_test_setup_teardown(there_is_a_bound_on_consumers, setup_by_age, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
