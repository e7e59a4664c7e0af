/* The surface of work over its routes: verbs and what they refuse, dead letters in bulk, lanes,
 * schedules, the event of what ended dead, and figures. Tasks are records, which are tested with
 * the real program. */
#include "module_fixture.h"

#include "bakend/json.h"
#include <stdio.h>

extern const struct bk_module bk_module_jobs;

enum { ARENA_BYTES = 16 * 1024 * 1024 };

static struct support_module fixture;
static struct bk_module module; /* with kinds of this test */
static struct bk_arena arena;
static struct bk_work_task *held; /* its handler has not answered */
static uint32_t handled_count, cancelled_count;

/* --- kinds ------------------------------------------------------------------------------------ */

static void on_hold(struct bk_work_task *task, void *user) {
    (void)user;
    handled_count++;
    held = task;
}

static void on_hold_cancel(struct bk_work_task *task, void *user) {
    (void)user;
    cancelled_count++;
    held = NULL;
    bk_work_dead(task, BK_SLICE("cancelled"), BK_SLICE_EMPTY);
}

static void on_fail(struct bk_work_task *task, void *user) {
    (void)user;
    handled_count++;
    bk_work_dead(task, BK_SLICE("it says \"no\""), BK_SLICE_EMPTY);
}

/* The first attempt breaks its lane for longer than a test lasts. */
static void on_shaky(struct bk_work_task *task, void *user) {
    (void)user;
    handled_count++;
    if (task->attempt == 1)
        bk_work_again(task, 0, BK_SLICE("not yet"), BK_SLICE_EMPTY);
    else
        bk_work_done(task, BK_SLICE_EMPTY);
}

static const uint32_t soon_ms[] = {1};

static const struct bk_work_kind kinds[] = {
    {.name = "shaky",
     .backoff_ms = soon_ms,
     .backoff_count = 1,
     .lane = {.breaker_failures = 1, .breaker_first_ms = 3600 * 1000},
     .on_task = on_shaky},
    {.name = "hold", .on_task = on_hold, .on_cancel = on_hold_cancel},
    {.name = "fail", .lane = {.running_max = 4}, .on_task = on_fail},
};

static int setup(void **state) {
    (void)state;
    module = bk_module_jobs;
    module.work_kinds = kinds;
    module.work_kind_count = BK_COUNT_OF(kinds);
    held = NULL;
    handled_count = cancelled_count = 0;
    support_module_open(&fixture, &module, NULL, NULL);
    bk_arena_init(&arena, ARENA_BYTES);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    support_module_close(&fixture);
    return 0;
}

/* --- asking ----------------------------------------------------------------------------------- */

struct waiting_call {
    struct bk_call call;
    bool is_done;
};

static void on_answer(struct bk_call *call) {
    bk_buffer_clear(&fixture.answer);
    bk_buffer_append_slice(&fixture.answer, call->answer);
    bk_buffer_append_char(&fixture.answer, '\0');
    fixture.answer.length--;
    bk_container_of(call, struct waiting_call, call)->is_done = true;
}

static int post(const char *target, const char *body) {
    struct waiting_call waiting = {.call = {.actor = &bk_actor_system,
                                            .method = BK_POST,
                                            .target = bk_slice_from(target),
                                            .body = bk_slice_from(body),
                                            .done = on_answer}};
    bk_api_call(fixture.api, &waiting.call);
    support_loop_run_until(fixture.kernel.loop, &waiting.is_done);
    return waiting.call.status;
}

static int get(const char *target) { return support_module_call(&fixture, BK_GET, target); }

static bool says(const char *words) { return strstr(fixture.answer.data, words) != NULL; }

static void check(int status, int expected) {
    if (status != expected)
        print_error("%s\n", fixture.answer.data);
    assert_int_equal(status, expected);
}

/* --- adding ----------------------------------------------------------------------------------- */

struct adding {
    struct bk_write write;
    struct bk_work_draft draft;
    int count;
    char id[BK_WORK_ID_BYTES + 1];
    bool is_done;
};

static enum bk_status run_add(struct bk_transaction *transaction, struct bk_write *write) {
    struct adding *adding = bk_container_of(write, struct adding, write);
    enum bk_status status = BK_OK;
    for (int i = 0; i < adding->count && status == BK_OK; i++)
        status = bk_work_add(fixture.context.work, transaction, &adding->draft, adding->id);
    return status;
}

static void on_added(struct bk_write *write, enum bk_status status) {
    assert_int_equal(status, BK_OK);
    bk_container_of(write, struct adding, write)->is_done = true;
}

/* The id of the last one; valid until the next. */
static const char *add(struct bk_work_draft draft, int count) {
    static struct adding adding;
    adding = (struct adding){
        .write = {.run = run_add, .done = on_added}, .draft = draft, .count = count};
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, &adding.write), BK_OK);
    support_loop_run_until(fixture.kernel.loop, &adding.is_done);
    return adding.id;
}

static const char *target_of(const char *id, const char *verb) {
    static char target[100];
    snprintf(target, sizeof target, "/api/work/%s%s", id, verb);
    return target;
}

static int64_t count_of(const char *sql) {
    struct bk_connection *connection = bk_store_read_now(fixture.kernel.tenant->database);
    struct bk_sql made = bk_sql_make(bk_slice_from(sql));
    struct bk_statement *statement;
    assert_int_equal(bk_connection_statement(connection, &made, &statement), BK_OK);
    assert_int_equal(bk_statement_step(statement), BK_OK);
    int64_t count = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return count;
}

static int64_t count_state(const char *state) {
    char sql[100];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM _work WHERE state = '%s'", state);
    return count_of(sql);
}

static void wait_for_state(const char *state, int64_t count) {
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, count_state(state) == count);
}

/* Each of them has a patience of its own. */
static void wait_for_many_dead(int64_t count) {
    for (int64_t dead = 1; dead <= count; dead++)
        SUPPORT_LOOP_UNTIL(fixture.kernel.loop, count_state("dead") >= dead);
}

static void wait_until_held(void) { SUPPORT_LOOP_UNTIL(fixture.kernel.loop, held != NULL); }

/* --- one task --------------------------------------------------------------------------------- */

static void test_what_is_not_there_is_not_found(void **state) {
    (void)state;
    check(post("/api/work/000000000000000/retry", ""), 404);
    check(post("/api/work/000000000000000/cancel", ""), 404);
    check(support_module_call(&fixture, BK_DELETE, "/api/work/000000000000000"), 404);
    assert_true(says("There is no such task"));
}

static void test_a_waiting_task_can_be_cancelled_retried_and_dropped(void **state) {
    (void)state;
    char id[BK_WORK_ID_BYTES + 1];
    snprintf(id, sizeof id, "%s",
             add((struct bk_work_draft){.kind = "hold", .delay_ms = 3600 * 1000}, 1));
    check(post(target_of(id, "/cancel"), ""), 204);
    assert_int_equal(count_state("dead"), 1);
    check(post(target_of(id, "/cancel"), ""), 409);
    check(post(target_of(id, "/retry"), ""), 204);
    wait_until_held();
    bk_work_done(held, BK_SLICE_EMPTY);
    held = NULL;
    wait_for_state("running", 0);
    check(support_module_call(&fixture, BK_DELETE, target_of(id, "")), 404);
}

static void test_a_running_task_is_neither_retried_nor_dropped_but_cancelled(void **state) {
    (void)state;
    char id[BK_WORK_ID_BYTES + 1];
    snprintf(id, sizeof id, "%s", add((struct bk_work_draft){.kind = "hold"}, 1));
    wait_until_held();
    check(post(target_of(id, "/retry"), ""), 409);
    assert_true(says("cancel it first"));
    check(support_module_call(&fixture, BK_DELETE, target_of(id, "")), 409);
    check(post(target_of(id, "/cancel"), "{}"), 204);
    wait_for_state("dead", 1);
    assert_int_equal(cancelled_count, 1);
    check(support_module_call(&fixture, BK_DELETE, target_of(id, "")), 204);
    assert_int_equal(count_of("SELECT count(*) FROM _work"), 0);
}

/* --- what ended dead -------------------------------------------------------------------------- */

static void test_a_task_that_ends_dead_tells_so_in_an_event(void **state) {
    (void)state;
    char id[BK_WORK_ID_BYTES + 1], payload[300];
    snprintf(id, sizeof id, "%s",
             add((struct bk_work_draft){.kind = "fail", .lane = BK_SLICE("abc")}, 1));
    wait_for_state("dead", 1);
    snprintf(payload, sizeof payload,
             "SELECT count(*) FROM _journal WHERE type = 'job.failed' AND source = 'jobs' AND "
             "subject = '_work/%s' AND payload = '{\"task\":\"%s\",\"kind\":\"fail\",\"lane\":"
             "\"fail/abc\",\"attempts\":1,\"error\":\"it says \\\"no\\\"\",\"cause\":\"\"}'",
             id, id);
    assert_int_equal(count_of(payload), 1);
}

static void test_dead_tasks_are_retried_and_dropped_by_a_filter(void **state) {
    (void)state;
    add((struct bk_work_draft){.kind = "fail", .lane = BK_SLICE("a")}, 3);
    add((struct bk_work_draft){.kind = "fail", .lane = BK_SLICE("b")}, 2);
    add((struct bk_work_draft){.kind = "hold", .delay_ms = 3600 * 1000}, 4);
    wait_for_state("dead", 5);
    check(post("/api/work/drop", "{\"filter\":\"lane = 'fail/b'\"}"), 200);
    assert_string_equal(fixture.answer.data, "{\"count\":2,\"skipped\":0,\"hasMore\":false}");
    check(post("/api/work/retry", "{\"filter\":\"\"}"), 200);
    assert_string_equal(fixture.answer.data, "{\"count\":3,\"skipped\":0,\"hasMore\":false}");
    wait_for_state("dead", 3);
    assert_int_equal(handled_count, 8);
    assert_int_equal(count_of("SELECT count(*) FROM _journal WHERE type = 'job.dropped'"), 2);
    assert_int_equal(count_of("SELECT count(*) FROM _journal WHERE type = 'job.retried'"), 3);
    check(post("/api/work/drop", "{\"filter\":\"id = 'x') || (id != 'x'\"}"), 400);
    check(post("/api/work/drop", "{\"filter\":\"id = 'x' || id != 'x'\"}"), 200);
    assert_string_equal(fixture.answer.data, "{\"count\":3,\"skipped\":0,\"hasMore\":false}");
    wait_for_state("waiting", 4);
}

static void test_a_call_takes_a_bounded_number_and_tells_of_the_rest(void **state) {
    (void)state;
    add((struct bk_work_draft){.kind = "fail"}, 501);
    wait_for_many_dead(501);
    check(post("/api/work/drop", "{\"filter\":\"\"}"), 200);
    assert_string_equal(fixture.answer.data, "{\"count\":500,\"skipped\":0,\"hasMore\":true}");
    check(post("/api/work/drop", "{\"filter\":\"\"}"), 200);
    assert_string_equal(fixture.answer.data, "{\"count\":1,\"skipped\":0,\"hasMore\":false}");
}

static void test_one_that_cannot_be_retried_keeps_none_of_the_others(void **state) {
    (void)state;
    const struct bk_work_draft draft = {.kind = "fail", .unique = BK_SLICE("the same")};
    add(draft, 1);
    wait_for_state("dead", 1);
    add((struct bk_work_draft){.kind = "fail"}, 2);
    wait_for_state("dead", 3);
    struct bk_work_draft later = draft;
    later.delay_ms = 3600 * 1000;
    add(later, 1);
    check(post("/api/work/retry", "{\"filter\":\"\"}"), 200);
    assert_string_equal(fixture.answer.data, "{\"count\":2,\"skipped\":1,\"hasMore\":false}");
    wait_for_state("dead", 3);
    assert_int_equal(handled_count, 5);
}

static void test_a_slip_in_bulk_is_refused(void **state) {
    (void)state;
    check(post("/api/work/retry", "{}"), 400);
    assert_true(says("validation_required"));
    check(post("/api/work/drop", "{\"filter\":5}"), 400);
    check(post("/api/work/drop", "{\"filter\":\"\",\"kind\":\"mail\"}"), 400);
    assert_true(says("validation_unknown_name"));
    check(post("/api/work/drop", "{\"filter\":\"nothing = 1\"}"), 400);
    assert_true(says("validation_invalid_filter"));
}

/* --- lanes ------------------------------------------------------------------------------------ */

static void test_a_paused_lane_keeps_its_tasks_until_it_is_resumed(void **state) {
    (void)state;
    check(post("/api/work/lanes/pause", "{\"lane\":\"fail/a\"}"), 204);
    check(post("/api/work/lanes/pause", "{\"lane\":\"fail/a\"}"), 204);
    add((struct bk_work_draft){.kind = "fail", .lane = BK_SLICE("a")}, 1001);
    add((struct bk_work_draft){.kind = "fail", .lane = BK_SLICE("b")}, 1);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, count_state("dead") == 1 &&
                                                get("/api/work/lanes") == 200 &&
                                                !says("\"fail/b\""));
    assert_true(says("\"lane\":\"fail/a\",\"kind\":\"fail\",\"state\":\"paused\",\"running\":0,"
                     "\"waiting\":1000,\"hasMore\":true,\"due\":\"20"));
    assert_true(says("\"page\":1,\"perPage\":30,\"totalItems\":1,\"totalPages\":1}"));
    check(get("/api/work/lanes?page=2"), 200);
    assert_true(says("{\"items\":[],\"page\":2"));
    check(post("/api/work/lanes/resume", "{\"lane\":\"fail/a\"}"), 204);
    wait_for_many_dead(1002);
}

static void test_a_broken_lane_that_is_resumed_tries_at_once(void **state) {
    (void)state;
    add((struct bk_work_draft){.kind = "shaky"}, 1);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, handled_count == 1 && count_state("waiting") == 1);
    check(post("/api/work/lanes/resume", "{\"lane\":\"shaky\"}"), 204);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, handled_count == 2);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop, count_of("SELECT count(*) FROM _work") == 0);
}

static void test_lanes_that_cannot_be_are_refused(void **state) {
    (void)state;
    char body[300];
    check(post("/api/work/lanes/pause", "{}"), 400);
    check(post("/api/work/lanes/pause", "{\"lane\":\"nothing\"}"), 400);
    assert_true(says("Must begin with the name of a kind"));
    snprintf(body, sizeof body, "{\"lane\":\"fail/%0200d\"}", 1);
    check(post("/api/work/lanes/pause", body), 400);
    check(get("/api/work/lanes?perPage=201"), 400);
}

/* --- schedules -------------------------------------------------------------------------------- */

static enum bk_status run_put(struct bk_transaction *transaction, struct bk_write *write) {
    const struct bk_work_schedule schedule = {
        .name = BK_SLICE("nightly/report"), .kind = "fail", .expression = BK_SLICE("0 3 1 1 *")};
    struct bk_error error = BK_ERROR_INIT;
    (void)write;
    return bk_work_schedule_put(fixture.context.work, transaction, &schedule, &error);
}

static void test_schedules_are_listed_and_run(void **state) {
    (void)state;
    struct adding put = {.write = {.run = run_put, .done = on_added}};
    check(get("/api/crons"), 200);
    assert_string_equal(fixture.answer.data, "[]");
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, &put.write), BK_OK);
    support_loop_run_until(fixture.kernel.loop, &put.is_done);
    check(get("/api/crons"), 200);
    assert_true(says("[{\"id\":\"nightly/report\",\"expression\":\"0 3 1 1 *\",\"kind\":\"fail\","
                     "\"next\":\"2"));
    check(get("/api/crons?fields=id"), 200);
    assert_string_equal(fixture.answer.data, "[{\"id\":\"nightly/report\"}]");
    check(post("/api/crons/nightly%2Freport", ""), 204);
    wait_for_state("dead", 1);
    check(post("/api/crons/__pbLogsCleanup__", ""), 404);
    assert_true(says("Missing or invalid cron job."));
}

/* --- who may, and figures --------------------------------------------------------------------- */

static void test_guests_and_keys_without_the_scope_get_nothing(void **state) {
    (void)state;
    struct bk_actor key = {.kind = BK_ACTOR_KEY,
                           .label = BK_SLICE("key/a"),
                           .scopes = BK_SLICE("work:read"),
                           .tenant = BK_SLICE("default")};
    static const char *const readable[] = {"/api/work", "/api/work/lanes", "/api/crons"};
    for (size_t i = 0; i < BK_COUNT_OF(readable); i++)
        check(support_module_call_as(&fixture, &bk_actor_guest, BK_GET, readable[i]), 401);
    check(support_module_call_as(&fixture, &key, BK_GET, "/api/work/lanes"), 200);
    check(support_module_call_as(&fixture, &key, BK_POST, "/api/work/abc/retry"), 403);
    check(support_module_call_as(&fixture, &key, BK_POST, "/api/work/drop"), 403);
    key.scopes = BK_SLICE("work:write");
    check(support_module_call_as(&fixture, &key, BK_POST, "/api/work/abc/retry"), 404);
    check(support_module_call_as(&fixture, &key, BK_POST, "/api/work/drop"), 403);
}

static bool figures_say(const char *line) {
    struct bk_buffer out;
    bk_buffer_init(&out, 1024 * 1024);
    bk_api_write_metrics(fixture.api, &out);
    bk_buffer_append_char(&out, '\0');
    bool is_said = strstr(out.data, line) != NULL;
    bk_buffer_fini(&out);
    return is_said;
}

/* The loop counts when it hears of the commit, which a reader of the database may see before. */
static void test_figures_are_by_kind(void **state) {
    (void)state;
    add((struct bk_work_draft){.kind = "fail"}, 2);
    wait_for_state("dead", 2);
    SUPPORT_LOOP_UNTIL(fixture.kernel.loop,
                       figures_say("\nbakend_work_failed_total{kind=\"fail\"} 2\n"));
    assert_true(figures_say("\nbakend_work_attempts_total{kind=\"fail\"} 2\n"));
    assert_true(figures_say("\nbakend_work_running{kind=\"hold\"} 0\n"));
    assert_true(figures_say("\nbakend_work_lanes{kind=\"hold\",state=\"paused\"} 0\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_not_there_is_not_found),
        TEST(test_a_waiting_task_can_be_cancelled_retried_and_dropped),
        TEST(test_a_running_task_is_neither_retried_nor_dropped_but_cancelled),
        TEST(test_a_task_that_ends_dead_tells_so_in_an_event),
        TEST(test_dead_tasks_are_retried_and_dropped_by_a_filter),
        TEST(test_a_call_takes_a_bounded_number_and_tells_of_the_rest),
        TEST(test_one_that_cannot_be_retried_keeps_none_of_the_others),
        TEST(test_a_slip_in_bulk_is_refused),
        TEST(test_a_paused_lane_keeps_its_tasks_until_it_is_resumed),
        TEST(test_a_broken_lane_that_is_resumed_tries_at_once),
        TEST(test_lanes_that_cannot_be_are_refused),
        TEST(test_schedules_are_listed_and_run),
        TEST(test_guests_and_keys_without_the_scope_get_nothing),
        TEST(test_figures_are_by_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
