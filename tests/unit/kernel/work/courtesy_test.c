/* Work makes room: for requests, and for others. */
#include "work_fixture.h"

#include <stdatomic.h>
#include <unistd.h>

enum { MANY = 120, FAIR_LANES = 30, ARENA_PART_BYTES = 40 * 1024 * 1024, LANES = 1500 };

static const struct bk_work_kind kinds[] = {
    {.name = "mail", WORK_FIXTURE_HANDLERS, .lane = {.running_max = 200}},
    {.name = "slow", WORK_FIXTURE_HANDLERS, .timeout_ms = 60 * 1000},
};
static const struct bk_work_draft mail = {.kind = "mail"};

static int setup(void **state) {
    static struct work_fixture fixture;
    work_fixture_open(&fixture, kinds, BK_COUNT_OF(kinds));
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    work_fixture_destroy(*state);
    return 0;
}

static struct work_tenant *own_of(const struct work_fixture *fixture) {
    return work_tenant_of(fixture->work, fixture->kernel.tenant);
}

static void answer_all(struct work_fixture *fixture) {
    for (uint32_t i = 0; i < fixture->seen_count; i++)
        if (fixture->seen[i].task != NULL)
            bk_work_done(work_fixture_take(fixture, i), BK_SLICE_EMPTY);
}

/* --- a request that comes while a round runs -------------------------------------------------- */

static atomic_bool is_in_round, has_come;
static uint32_t ends_before_request;

static enum bk_status wait_for_request(struct work_fixture *fixture,
                                       struct bk_transaction *transaction,
                                       const struct bk_work_end *end) {
    (void)fixture;
    (void)transaction;
    (void)end;
    atomic_store(&is_in_round, true);
    while (!atomic_load(&has_come))
        (void)usleep(100);
    return BK_OK;
}

static enum bk_status note_ends(struct work_fixture *fixture, struct bk_transaction *transaction,
                                void *user) {
    (void)transaction;
    (void)user;
    ends_before_request = fixture->end_count;
    return BK_OK;
}

static void a_request_waits_for_a_few_rows_of_a_round_only(void **state) {
    struct work_fixture *fixture = *state;
    atomic_store(&is_in_round, false);
    atomic_store(&has_come, false);
    fixture->script = work_fixture_keep;
    fixture->on_end = wait_for_request;
    assert_int_equal(work_fixture_add(fixture, &mail, MANY, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == MANY);
    answer_all(fixture);
    while (!atomic_load(&is_in_round))
        support_loop_run_for(fixture->kernel.loop, 1);
    struct work_fixture_write request = {
        .write = {.run = work_fixture_on_run, .done = work_fixture_on_written},
        .fixture = fixture,
        .run = note_ends};
    assert_int_equal(bk_store_write(fixture->kernel.tenant->database, &request.write), BK_OK);
    atomic_store(&has_come, true);
    support_loop_run_until(fixture->kernel.loop, &request.is_done);
    assert_in_range(ends_before_request, 1, MANY / 4);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_int_equal(fixture->end_count, MANY);
}

/* --- a backlog while requests come ------------------------------------------------------------ */

struct requests {
    struct bk_turn_hook hook;
    struct bk_loop *loop;
};

/* However slow the disk is. */
static void note_request(struct bk_turn_hook *hook) {
    bk_loop_note_request(bk_container_of(hook, struct requests, hook)->loop);
}

static void a_backlog_is_worked_off_in_short_rounds_with_pauses_while_requests_come(void **state) {
    struct work_fixture *fixture = *state;
    const struct work_tenant *own = own_of(fixture);
    struct requests requests = {{.on_turn_end = note_request}, fixture->kernel.loop};
    assert_int_equal(work_fixture_do(fixture, bk_work_pause, "mail"), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &mail, 10 * MANY, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 10 * MANY);
    bk_loop_add_turn_hook(fixture->kernel.loop, &requests.hook);
    bk_loop_note_request(fixture->kernel.loop);
    assert_int_equal(work_fixture_do(fixture, bk_work_resume, "mail"), BK_OK);
    uint32_t most = 0;
    bool has_paused = false;
    while (work_fixture_count(fixture, "1") > 0) {
        has_paused = has_paused || fixture->work->is_pausing;
        most = own->attempt_count > most ? own->attempt_count : most;
        support_loop_run_for(fixture->kernel.loop, 1);
    }
    bk_loop_remove_turn_hook(&requests.hook);
    assert_true(has_paused);
    assert_in_range(most, 1, 2 * WORK_COURTEOUS_TASKS_MAX);
    assert_int_equal(fixture->end_count, 10 * MANY);
}

/* A request that waits on the writer whenever a round runs, and may add tasks. */
struct stream {
    struct work_fixture_write write;
    struct work_fixture_adding adding;
    uint32_t added;
    bool ends;
};

static enum bk_status run_stream(struct work_fixture *fixture, struct bk_transaction *transaction,
                                 void *user) {
    struct stream *stream = user;
    stream->added += stream->adding.count;
    return work_fixture_run_add(fixture, transaction, &stream->adding);
}

static void send_next(struct stream *stream);

static void on_stream_done(struct bk_write *write, enum bk_status status) {
    struct stream *stream = bk_container_of(write, struct stream, write.write);
    assert_int_equal(status, BK_OK);
    stream->write.is_done = stream->ends;
    if (!stream->ends)
        send_next(stream);
}

static void send_next(struct stream *stream) {
    struct work_fixture *fixture = stream->write.fixture;
    stream->write.write = (struct bk_write){.run = work_fixture_on_run, .done = on_stream_done};
    bk_loop_note_request(fixture->kernel.loop);
    assert_int_equal(bk_store_write(fixture->kernel.tenant->database, &stream->write.write), BK_OK);
}

static void begin_stream(struct work_fixture *fixture, struct stream *stream, uint32_t count) {
    *stream = (struct stream){.adding = {.draft = &mail, .count = count}};
    stream->write.fixture = fixture;
    stream->write.run = run_stream;
    stream->write.user = stream;
    send_next(stream);
}

static void end_stream(struct stream *stream) {
    stream->ends = true;
    support_loop_run_until(stream->write.fixture->kernel.loop, &stream->write.is_done);
}

static uint32_t lanes_seen(const struct work_fixture *fixture) {
    bool is_seen[FAIR_LANES] = {false};
    uint32_t count = 0;
    for (uint32_t i = 0; i < fixture->seen_count; i++) {
        long lane = strtol(fixture->seen[i].lane + strlen("mail/"), NULL, 10);
        assert_in_range(lane, 0, FAIR_LANES - 1);
        count += !is_seen[lane];
        is_seen[lane] = true;
    }
    return count;
}

static void no_lane_waits_for_those_before_it_while_requests_come(void **state) {
    struct work_fixture *fixture = *state;
    static struct stream stream; /* outlives a test that fails */
    for (int i = 0; i < FAIR_LANES; i++) {
        char lane[32];
        (void)snprintf(lane, sizeof lane, "mail/%d", i);
        const struct bk_work_draft draft = {.kind = "mail",
                                            .lane = bk_slice_from(lane + strlen("mail/"))};
        assert_int_equal(work_fixture_do(fixture, bk_work_pause, lane), BK_OK);
        assert_int_equal(work_fixture_add(fixture, &draft, MANY, NULL), BK_OK);
    }
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == FAIR_LANES * MANY);
    begin_stream(fixture, &stream, 0);
    for (int i = 0; i < FAIR_LANES; i++) {
        char lane[32];
        (void)snprintf(lane, sizeof lane, "mail/%d", i);
        assert_int_equal(work_fixture_do(fixture, bk_work_resume, lane), BK_OK);
    }
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count >= FAIR_LANES * MANY / 3);
    assert_int_equal(lanes_seen(fixture), FAIR_LANES);
    end_stream(&stream);
}

static void a_backlog_becomes_smaller_however_fast_requests_add_to_it(void **state) {
    struct work_fixture *fixture = *state;
    static struct stream stream; /* outlives a test that fails */
    assert_int_equal(work_fixture_do(fixture, bk_work_pause, "mail"), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &mail, 5 * MANY, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 5 * MANY);
    begin_stream(fixture, &stream, 20);
    assert_int_equal(work_fixture_do(fixture, bk_work_resume, "mail"), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->end_count >= 20 * MANY);
    end_stream(&stream);
    assert_in_range(5 * MANY + stream.added - fixture->end_count, 0, 5 * MANY);
}

static void who_has_no_backlog_does_not_wait_for_the_pauses_of_others(void **state) {
    struct work_fixture *fixture = *state;
    fixture->work->is_pausing = true; /* for ever */
    for (uint32_t i = 1; i <= 5; i++) {
        bk_loop_note_request(fixture->kernel.loop);
        assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
        WORK_FIXTURE_UNTIL(fixture, fixture->end_count == i);
    }
    fixture->work->is_pausing = false;
}

static void who_postpones_for_ever_is_not_called_for_ever(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    int64_t start_ms = work_now_ms(fixture->work);
    for (uint32_t i = 0; i < 3; i++) {
        bk_work_postpone(work_fixture_take(fixture, i), 0);
        WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == i + 2);
    }
    assert_true(work_now_ms(fixture->work) - start_ms >= 300);
    answer_all(fixture);
}

/* --- who is to blame -------------------------------------------------------------------------- */

static enum bk_status use_memory(struct work_fixture *fixture, struct bk_transaction *transaction,
                                 const struct bk_work_end *end) {
    (void)fixture;
    size_t parts = bk_slice_is(end->payload, "666") ? 2 : 1;
    for (size_t i = 0; i < parts; i++)
        (void)bk_arena_alloc(bk_transaction_arena(transaction), ARENA_PART_BYTES);
    return BK_OK;
}

static void an_end_that_needs_too_much_memory_is_blamed_and_no_other(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft greedy = mail;
    greedy.payload = BK_SLICE("666");
    fixture->script = work_fixture_keep;
    fixture->on_end = use_memory;
    assert_int_equal(work_fixture_add(fixture, &mail, 4, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &greedy, 1, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &mail, 4, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 9);
    answer_all(fixture);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state != 'waiting'") == 0);
    assert_int_equal(work_fixture_count(fixture, "1"), 1);
    assert_string_equal(work_fixture_query(fixture, "SELECT payload FROM _work"), "666");
}

/* --- the end of the program ------------------------------------------------------------------- */

static bool was_cancelled, was_told;

static void note_wish(struct work_fixture *fixture, struct bk_work_task *task) {
    (void)fixture;
    was_told = was_told || task->is_stopping;
    was_cancelled = was_cancelled || task->is_cancelled;
}

static void who_is_on_its_way_when_the_program_stops_may_arrive(void **state) {
    struct work_fixture *fixture = *state;
    bool is_stopped = false;
    was_told = was_cancelled = false;
    fixture->script = work_fixture_keep;
    fixture->on_cancel = note_wish;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    bk_work_stop(fixture->work, 60 * 1000, work_fixture_on_flag, &is_stopped);
    assert_true(was_told);
    assert_false(was_cancelled);
    support_loop_run_for(fixture->kernel.loop, 20);
    assert_false(is_stopped);
    answer_all(fixture);
    support_loop_run_until(fixture->kernel.loop, &is_stopped);
    assert_int_equal(work_fixture_count(fixture, "1"), 0);
    fixture->work->phase = WORK_STARTED; /* for the fixture, which stops it too */
}

static void a_lane_may_have_a_timeout_of_its_own(void **state) {
    struct work_fixture *fixture = *state;
    const struct bk_work_lane_policy policy = {.timeout_ms = 20};
    const struct bk_work_draft draft = {.kind = "slow", .lane = BK_SLICE("a")};
    fixture->script = work_fixture_keep;
    bk_work_lane_set_policy(fixture->work, fixture->kernel.tenant, BK_SLICE("slow/a"), &policy);
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->cancel_count == 1);
    WORK_FIXTURE_UNTIL(fixture,
                       work_fixture_count(fixture, "error = 'it did not end within 20 ms'") == 1);
    answer_all(fixture);
}

/* --- many lanes ------------------------------------------------------------------------------- */

static atomic_bool wants_loop_to_wait, does_loop_wait;

static void on_turn_end(struct bk_turn_hook *hook) {
    (void)hook;
    while (atomic_load(&wants_loop_to_wait)) {
        atomic_store(&does_loop_wait, true);
        (void)usleep(100);
    }
}

/* The first wakes the loop, which then waits and takes no hint until all are added. */
static enum bk_status add_to_many_lanes(struct work_fixture *fixture,
                                        struct bk_transaction *transaction, void *user) {
    enum bk_status status = BK_OK;
    (void)user;
    atomic_store(&wants_loop_to_wait, true);
    for (int i = 0; i < LANES && status == BK_OK; i++) {
        char lane[16];
        (void)snprintf(lane, sizeof lane, "%d", i);
        /* What is unique does not come by the inbox, behind which all lanes are looked for. */
        const struct bk_work_draft draft = {
            .kind = "mail", .lane = bk_slice_from(lane), .unique = bk_slice_from(lane)};
        status = bk_work_add(fixture->work, transaction, &draft, NULL);
        while (!atomic_load(&does_loop_wait))
            (void)usleep(100);
    }
    atomic_store(&wants_loop_to_wait, false);
    return status;
}

static void more_lanes_than_are_told_of_one_by_one_are_all_found(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_turn_hook hook = {.on_turn_end = on_turn_end};
    assert_true((int)LANES > (int)WORK_HINTS_MAX && (int)LANES > (int)WORK_SCAN_LANES_MAX);
    atomic_store(&does_loop_wait, false);
    WORK_FIXTURE_UNTIL(fixture, own_of(fixture)->is_known && own_of(fixture)->wants == 0);
    bk_loop_add_turn_hook(fixture->kernel.loop, &hook);
    assert_int_equal(work_fixture_write_by(fixture, NULL, add_to_many_lanes, NULL), BK_OK);
    bk_loop_remove_turn_hook(&hook);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == LANES);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_int_equal(fixture->end_count, LANES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_request_waits_for_a_few_rows_of_a_round_only),
        TEST(a_backlog_is_worked_off_in_short_rounds_with_pauses_while_requests_come),
        TEST(no_lane_waits_for_those_before_it_while_requests_come),
        TEST(a_backlog_becomes_smaller_however_fast_requests_add_to_it),
        TEST(who_has_no_backlog_does_not_wait_for_the_pauses_of_others),
        TEST(who_postpones_for_ever_is_not_called_for_ever),
        TEST(an_end_that_needs_too_much_memory_is_blamed_and_no_other),
        TEST(who_is_on_its_way_when_the_program_stops_may_arrive),
        TEST(a_lane_may_have_a_timeout_of_its_own),
        TEST(more_lanes_than_are_told_of_one_by_one_are_all_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
