/* Proves the order in which writes are taken: lanes, shares, turns, bounds, and those that run
 * alone. */
#include "store_fixture.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/failpoint.h"

#include <string.h>

enum { MANY = 64, BATCH_MAX = 16 };

/* What ran, in order; written by the writer thread, read when all are done. */
struct trace {
    char text[4 * MANY];
    size_t length;
};

struct traced {
    struct support_write write;
    struct trace *trace;
    char mark;
};

static enum bk_status run_traced(struct bk_transaction *transaction, void *user) {
    struct traced *self = user;
    (void)transaction;
    self->trace->text[self->trace->length++] = self->mark;
    return BK_OK;
}

static void submit(struct support_store *fixture, struct traced *traced, struct trace *trace,
                   char mark, enum bk_lane lane) {
    support_write_init(&traced->write, run_traced, traced);
    traced->trace = trace;
    traced->mark = mark;
    traced->write.write.lane = lane;
    assert_int_equal(bk_store_write(fixture->database, &traced->write.write), BK_OK);
}

static int setup_small_batches(void **state) {
    struct support_store *fixture = bk_alloc(sizeof(*fixture));
    struct bk_store_options options;
    bk_store_options_init(&options);
    options.batch_max = BATCH_MAX;
    options.queue_max = MANY;
    support_store_create(fixture, &options);
    assert_int_equal(support_store_open(fixture), BK_OK);
    *state = fixture;
    return 0;
}

static void background_gets_a_quarter_while_requests_wait(void **state) {
    struct support_store *fixture = *state;
    struct trace trace = {.length = 0};
    struct traced requests[MANY], background[MANY];
    uint64_t commits = bk_store_figures(fixture->store).commits;
    for (int i = 0; i < MANY; i++)
        submit(fixture, &background[i], &trace, 'b', BK_LANE_BACKGROUND);
    for (int i = 0; i < MANY; i++)
        submit(fixture, &requests[i], &trace, 'r', BK_LANE_REQUEST);
    support_loop_run_until(fixture->loop, &requests[MANY - 1].write.is_done);
    support_loop_run_until(fixture->loop, &background[MANY - 1].write.is_done);
    assert_int_equal(trace.length, 2 * MANY);
    /* Twelve requests and four of the background lane, until there are no more requests. */
    for (size_t i = 0; i < 5 * BATCH_MAX; i++)
        assert_int_equal(trace.text[i], i % BATCH_MAX < 12 ? 'r' : 'b');
    /* Five such, one with the last four requests and four more, three with the rest. */
    assert_int_equal(bk_store_figures(fixture->store).commits, commits + 9);
}

static void a_lane_is_first_in_first_out(void **state) {
    struct support_store *fixture = *state;
    struct trace trace = {.length = 0};
    struct traced writes[26];
    for (int i = 0; i < 26; i++)
        submit(fixture, &writes[i], &trace, (char)('a' + i), BK_LANE_REQUEST);
    support_loop_run_until(fixture->loop, &writes[25].write.is_done);
    assert_memory_equal(trace.text, "abcdefghijklmnopqrstuvwxyz", 26);
}

static void a_full_lane_is_busy_and_the_other_is_not(void **state) {
    struct support_store *fixture = *state;
    struct trace trace = {.length = 0};
    struct traced writes[MANY], more, other;
    for (int i = 0; i < MANY; i++)
        submit(fixture, &writes[i], &trace, 'r', BK_LANE_REQUEST);
    support_write_init(&more.write, run_traced, &more);
    assert_int_equal(bk_store_write(fixture->database, &more.write.write), BK_BUSY);
    submit(fixture, &other, &trace, 'b', BK_LANE_BACKGROUND);
    assert_int_equal(bk_database_waiting_count(fixture->database), MANY + 1);
    assert_int_equal(bk_store_figures(fixture->store).waiting_requests, MANY);
    support_loop_run_until(fixture->loop, &other.write.is_done);
    support_loop_run_until(fixture->loop, &writes[MANY - 1].write.is_done);
    assert_int_equal(bk_database_waiting_count(fixture->database), 0);
    assert_false(more.write.is_done);
}

static void who_runs_alone_shares_no_commit_and_keeps_its_place(void **state) {
    struct support_store *fixture = *state;
    struct trace trace = {.length = 0};
    struct traced writes[5];
    uint64_t commits = bk_store_figures(fixture->store).commits;
    for (int i = 0; i < 5; i++) {
        submit(fixture, &writes[i], &trace, (char)('0' + i), BK_LANE_REQUEST);
        writes[i].write.write.runs_alone = i == 2;
    }
    support_loop_run_until(fixture->loop, &writes[4].write.is_done);
    assert_memory_equal(trace.text, "01234", 5);
    assert_int_equal(bk_store_figures(fixture->store).commits, commits + 3);
}

static void a_lone_background_write_is_passed_over_once_at_most(void **state) {
    struct support_store *fixture = *state;
    struct trace trace = {.length = 0};
    struct traced requests[MANY], lone;
    submit(fixture, &lone, &trace, 'b', BK_LANE_BACKGROUND);
    lone.write.write.runs_alone = true;
    for (int i = 0; i < MANY; i++)
        submit(fixture, &requests[i], &trace, 'r', BK_LANE_REQUEST);
    support_loop_run_until(fixture->loop, &requests[MANY - 1].write.is_done);
    assert_int_equal(trace.text[BATCH_MAX], 'b');
}

struct resubmitting {
    struct bk_write write;
    uint32_t run_count;
    bool is_over;
};

static enum bk_status run_nothing(struct bk_transaction *transaction, struct bk_write *write) {
    (void)transaction, (void)write;
    return BK_OK;
}

static void on_done_again(struct bk_write *write, enum bk_status status) {
    struct resubmitting *self = bk_container_of(write, struct resubmitting, write);
    assert_int_equal(status, BK_OK);
    if (++self->run_count < 10)
        assert_int_equal(bk_store_write(write->database, write), BK_OK);
    else
        self->is_over = true;
}

static void done_may_submit_again(void **state) {
    struct support_store *fixture = *state;
    struct resubmitting self = {.write = {.run = run_nothing, .done = on_done_again}};
    assert_int_equal(bk_store_write(fixture->database, &self.write), BK_OK);
    support_loop_run_until(fixture->loop, &self.is_over);
    assert_int_equal(self.run_count, 10);
}

static void on_closed(void *user) { *(bool *)user = true; }

static void a_close_finishes_what_is_queued_and_refuses_more(void **state) {
    struct support_store *fixture = *state;
    struct trace trace = {.length = 0};
    struct traced writes[MANY], late;
    bool is_closed = false;
    for (int i = 0; i < MANY; i++)
        submit(fixture, &writes[i], &trace, 'r', BK_LANE_REQUEST);
    bk_database_close(fixture->database, on_closed, &is_closed);
    support_write_init(&late.write, run_traced, &late);
    assert_int_equal(bk_store_write(fixture->database, &late.write.write), BK_CLOSING);
    assert_null(bk_store_read_now(fixture->database));
    support_loop_run_until(fixture->loop, &is_closed);
    fixture->database = NULL;
    for (int i = 0; i < MANY; i++)
        assert_true(writes[i].write.is_done && writes[i].write.status == BK_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, setup_small_batches, support_store_teardown)
        TEST(background_gets_a_quarter_while_requests_wait),
        TEST(a_lane_is_first_in_first_out),
        TEST(a_full_lane_is_busy_and_the_other_is_not),
        TEST(who_runs_alone_shares_no_commit_and_keeps_its_place),
        TEST(a_lone_background_write_is_passed_over_once_at_most),
        TEST(done_may_submit_again),
        TEST(a_close_finishes_what_is_queued_and_refuses_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
