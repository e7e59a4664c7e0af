/* What becomes of a task: added, handed over, tried again, dead, done. */
#include "work_fixture.h"

static const uint32_t quick[] = {1};
static const struct bk_work_kind kinds[] = {
    {.name = "mail",
     WORK_FIXTURE_HANDLERS,
     .attempt_max = 3,
     .backoff_ms = quick,
     .backoff_count = 1,
     .lane = {.running_max = 2}},
    {.name = "kept",
     WORK_FIXTURE_HANDLERS,
     .backoff_ms = quick,
     .backoff_count = 1,
     .lane = {.running_max = 8, .is_ordered = true},
     .done_kept_ms = 60 * 1000},
    {.name = "hang",
     WORK_FIXTURE_HANDLERS,
     .timeout_ms = 60,
     .attempt_max = 3,
     .backoff_ms = quick,
     .backoff_count = 1,
     .lane = {.running_max = 2}},
    {.name = "secret", WORK_FIXTURE_HANDLERS, .has_secrets = true},
};

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

static const struct bk_work_draft mail = {.kind = "mail", .payload = BK_SLICE_INIT("{\"n\":1}")};

static const struct bk_work_draft hang = {.kind = "hang"};

static void a_task_is_handed_over_and_gone_when_it_is_done(void **state) {
    struct work_fixture *fixture = *state;
    char id[BK_WORK_ID_BYTES + 1];
    assert_int_equal(work_fixture_add(fixture, &mail, 1, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->end_count == 1);
    assert_string_equal(fixture->seen[0].id, id);
    assert_string_equal(fixture->seen[0].lane, "mail");
    assert_string_equal(fixture->seen[0].payload, "{\"n\":1}");
    assert_int_equal(fixture->seen[0].attempt, 1);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_int_equal(fixture->dead_count, 0);
}

static void many_tasks_are_all_done_once(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = mail;
    draft.lane = BK_SLICE("a");
    assert_int_equal(work_fixture_add(fixture, &mail, 300, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &draft, 300, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_int_equal(fixture->seen_count, 600);
    /* Nothing is left in memory either. */
    WORK_FIXTURE_UNTIL(fixture, fixture->work->attempt_count == 0);
    assert_int_equal(work_tenant_of(fixture->work, fixture->kernel.tenant)->lanes.count, 0);
}

static void a_write_that_fails_takes_its_task_back(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = {.kind = "none"};
    struct work_fixture_adding adding = {.draft = &mail, .count = 1};
    (void)adding;
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_NOT_FOUND);
    draft = mail;
    draft.payload = BK_SLICE("{");
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_INVALID);
    draft.payload = bk_slice_make("x", BK_WORK_PAYLOAD_MAX_BYTES + 1);
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_TOO_LARGE);
    draft = mail;
    draft.delay_ms = UINT64_C(4000) * 24 * 3600 * 1000;
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_INVALID);
    work_fixture_wait(fixture, 20);
    assert_int_equal(fixture->seen_count, 0);
}

static void a_delay_is_waited_for(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = mail;
    draft.delay_ms = 120;
    int64_t start_ms = work_now_ms(fixture->work);
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    assert_true(work_now_ms(fixture->work) - start_ms >= 120);
}

static void what_fails_comes_again_and_is_dead_after_its_last_attempt(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_fail;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->dead_count == 1);
    assert_int_equal(fixture->seen_count, 3);
    assert_int_equal(fixture->seen[2].attempt, 3);
    assert_int_equal(fixture->end_count, 3);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
    assert_string_equal(work_fixture_query(fixture, "SELECT error FROM _work"), "it failed");
    assert_string_equal(work_fixture_query(fixture, "SELECT attempts FROM _work"), "3");
    assert_string_not_equal(work_fixture_query(fixture, "SELECT expires FROM _work"), "");
    work_fixture_wait(fixture, 20);
    assert_int_equal(fixture->seen_count, 3);
}

static void the_dead_can_be_tried_again_and_dropped(void **state) {
    struct work_fixture *fixture = *state;
    char id[BK_WORK_ID_BYTES + 1];
    fixture->script = work_fixture_fail;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
    assert_int_equal(work_fixture_do(fixture, bk_work_cancel, id), BK_CONFLICT);
    assert_int_equal(work_fixture_do(fixture, bk_work_retry, "nobody"), BK_NOT_FOUND);
    assert_int_equal(work_fixture_do(fixture, bk_work_retry, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->dead_count == 2);
    assert_int_equal(fixture->seen_count, 6);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
    assert_int_equal(work_fixture_do(fixture, bk_work_drop, id), BK_OK);
    assert_int_equal(work_fixture_count(fixture, "1"), 0);
}

static void say_dead(struct work_fixture *fixture, struct bk_work_task *task, uint32_t index) {
    fixture->seen[index].task = NULL;
    bk_work_dead(task, BK_SLICE("never"), BK_SLICE_EMPTY);
}

static void a_handler_may_give_up_at_once(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = say_dead;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->dead_count == 1);
    assert_int_equal(fixture->seen_count, 1);
}

static void postpone_twice(struct work_fixture *fixture, struct bk_work_task *task,
                           uint32_t index) {
    fixture->seen[index].task = NULL;
    assert_int_equal(task->attempt, 1);
    if (index < 5)
        bk_work_postpone(task, 1);
    else
        bk_work_done(task, BK_SLICE_EMPTY);
}

static void what_is_postponed_has_lost_no_attempt(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = postpone_twice;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->end_count == 1);
    assert_int_equal(fixture->seen_count, 6);
}

static void a_handler_that_hangs_is_cut_off_and_its_late_answer_ignored(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &hang, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->cancel_count == 1);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    assert_int_equal(fixture->seen[1].attempt, 2);
    bk_work_done(work_fixture_take(fixture, 0), BK_SLICE_EMPTY);
    work_fixture_wait(fixture, 5);
    assert_int_equal(work_fixture_count(fixture, "state = 'running'"), 1);
    bk_work_done(work_fixture_take(fixture, 1), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void wait_first(struct work_fixture *fixture, struct bk_work_task *task, uint32_t index) {
    (void)fixture;
    (void)index;
    bk_work_wait(task);
}

static void while_a_task_waits_for_a_place_its_time_stands_still(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = wait_first;
    assert_int_equal(work_fixture_add(fixture, &hang, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    work_fixture_wait(fixture, 150); /* more than twice its timeout */
    assert_int_equal(fixture->cancel_count, 0);
    int64_t begun_ms = work_now_ms(fixture->work);
    bk_work_go(fixture->seen[0].task);
    WORK_FIXTURE_UNTIL(fixture, fixture->cancel_count == 1);
    assert_true(work_now_ms(fixture->work) - begun_ms >= 60 - 5);
    /* One that is late has no time any more, and no say. */
    struct bk_work_task *late = work_fixture_take(fixture, 0);
    bk_work_wait(late);
    bk_work_go(late);
    bk_work_done(late, BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    bk_work_done(work_fixture_take(fixture, 1), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void last_state(void *user, const struct bk_work_lane_facts *facts) {
    *(enum bk_work_lane_state *)user = facts->state;
}

static enum bk_work_lane_state lane_state(struct work_fixture *fixture) {
    enum bk_work_lane_state state = BK_WORK_LANE_OPEN;
    bk_work_for_each_lane(fixture->work, fixture->kernel.tenant, last_state, &state);
    return state;
}

static void a_lane_whose_handlers_do_not_come_back_is_stuck(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &hang, 5, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->cancel_count == 2);
    WORK_FIXTURE_UNTIL(fixture, lane_state(fixture) == BK_WORK_LANE_STUCK);
    work_fixture_wait(fixture, 30);
    assert_int_equal(fixture->seen_count, 2);
    /* Other lanes do not care. */
    struct bk_work_draft other = {.kind = "kept"};
    fixture->script = NULL;
    assert_int_equal(work_fixture_add(fixture, &other, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'done'") == 1);
    bk_work_again(work_fixture_take(fixture, 0), 0, BK_SLICE_EMPTY, BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "kind = 'hang'") == 0);
    bk_work_done(work_fixture_take(fixture, 1), BK_SLICE_EMPTY);
}

static void at_most_so_many_run_at_once(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &mail, 6, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    work_fixture_wait(fixture, 10);
    assert_int_equal(fixture->seen_count, 2);
    for (uint32_t i = 0; i < 6; i++) {
        WORK_FIXTURE_UNTIL(fixture, fixture->seen_count > i);
        bk_work_done(work_fixture_take(fixture, i), BK_SLICE_EMPTY);
    }
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void order_by_key_is_kept_across_failures(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = {.kind = "kept", .key = BK_SLICE("k")};
    static const struct bk_slice payloads[] = {BK_SLICE_INIT("1"), BK_SLICE_INIT("2"),
                                               BK_SLICE_INIT("3")};
    fixture->script = work_fixture_keep;
    for (size_t i = 0; i < BK_COUNT_OF(payloads); i++) {
        draft.payload = payloads[i];
        assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    }
    draft.key = BK_SLICE("other");
    draft.payload = BK_SLICE("4");
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    assert_int_equal(work_fixture_count(fixture, "state = 'blocked'"), 2);
    uint32_t first = fixture->seen[0].payload[0] == '1' ? 0 : 1;
    assert_string_equal(fixture->seen[1 - first].payload, "4");
    bk_work_again(work_fixture_take(fixture, first), 0, BK_SLICE("x"), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 3);
    assert_string_equal(fixture->seen[2].payload, "1");
    bk_work_done(work_fixture_take(fixture, 2), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 4);
    assert_string_equal(fixture->seen[3].payload, "2");
    /* One that is dead holds nobody up. */
    bk_work_dead(work_fixture_take(fixture, 3), BK_SLICE("x"), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 5);
    assert_string_equal(fixture->seen[4].payload, "3");
    bk_work_done(work_fixture_take(fixture, 4), BK_SLICE_EMPTY);
    bk_work_done(work_fixture_take(fixture, 1 - first), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'done'") == 3);
}

static void what_is_unique_is_added_once_while_it_is_there(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = mail;
    char first[BK_WORK_ID_BYTES + 1], second[BK_WORK_ID_BYTES + 1];
    fixture->script = work_fixture_keep;
    draft.unique = BK_SLICE("webhooks/a evt_1");
    assert_int_equal(work_fixture_add(fixture, &draft, 1, first), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &draft, 1, second), BK_OK);
    assert_string_equal(first, second);
    assert_int_equal(work_fixture_count(fixture, "1"), 1);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    bk_work_done(work_fixture_take(fixture, 0), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    fixture->script = NULL;
    assert_int_equal(work_fixture_add(fixture, &draft, 1, second), BK_OK);
    assert_string_not_equal(first, second);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void secrets_are_in_no_column_of_the_collection(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = {.kind = "secret", .payload = BK_SLICE("\"hush\"")};
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    assert_string_equal(fixture->seen[0].payload, "\"hush\"");
    assert_string_equal(work_fixture_query(fixture, "SELECT payload FROM _work"), "null");
    bk_work_done(work_fixture_take(fixture, 0), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
    assert_string_equal(work_fixture_query(fixture, "SELECT count(*) FROM _work_secrets"), "0");
}

/* Gives a task the payload of the other one. */
static enum bk_status run_swap(struct work_fixture *fixture, struct bk_transaction *transaction,
                               void *user) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("UPDATE _work_secrets SET payload = (SELECT payload "
                             "FROM _work_secrets AS other WHERE other.id <> ?1) WHERE id = ?1"));
    struct bk_statement *statement;
    (void)fixture;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_from(user));
    return bk_statement_run(statement);
}

static void secrets_are_sealed_on_disk(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = {
        .kind = "secret", .payload = BK_SLICE("\"hush\""), .delay_ms = 3600 * 1000};
    char id[BK_WORK_ID_BYTES + 1];
    assert_int_equal(work_fixture_add(fixture, &draft, 1, id), BK_OK);
    assert_string_equal(work_fixture_query(fixture, "SELECT count(*) FROM _work_secrets "
                                                    "WHERE payload LIKE 'sealed:%' "
                                                    "AND payload NOT LIKE '%hush%'"),
                        "1");
    /* Another instance key does not open it, and says so; with the right one it is still there. */
    work_fixture_close(fixture, 1000);
    fixture->instance_key = BK_SLICE("another");
    work_fixture_reopen(fixture);
    assert_int_equal(work_fixture_do(fixture, bk_work_retry, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
    assert_int_equal(fixture->seen_count, 0);
    assert_non_null(strstr(work_fixture_query(fixture, "SELECT error FROM _work"), "instance key"));
    work_fixture_close(fixture, 1000);
    fixture->instance_key = BK_SLICE_EMPTY;
    work_fixture_reopen(fixture);
    assert_int_equal(work_fixture_do(fixture, bk_work_retry, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    assert_string_equal(fixture->seen[0].payload, "\"hush\"");
}

static void a_sealed_secret_opens_for_its_own_task_alone(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = {
        .kind = "secret", .payload = BK_SLICE("\"hush\""), .delay_ms = 3600 * 1000};
    char id[BK_WORK_ID_BYTES + 1];
    assert_int_equal(work_fixture_add(fixture, &draft, 2, id), BK_OK);
    assert_int_equal(work_fixture_write_by(fixture, NULL, run_swap, id), BK_OK);
    assert_int_equal(work_fixture_do(fixture, bk_work_retry, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
    assert_int_equal(fixture->seen_count, 0);
}

static void payloads_are_json(void **state) {
    static const char *const right[] = {"0",
                                        "-1.5e+3",
                                        "\"a\\u00e4\\n\"",
                                        " [ ] ",
                                        "{}",
                                        "null",
                                        "[1,{\"a\":[true,false]}]",
                                        "\"ä\"",
                                        "{ \"a\" : 1 , \"b\" : \"\" }"};
    static const char *const wrong[] = {
        "",      "01",      "1.",          "+1",  "[1,]",   "{\"a\"}",  "\"a",      "nul", "[1 2]",
        "{a:1}", "\"\\x\"", "\"\\u12g4\"", "1 2", "\"\n\"", "\"\xff\"", "{\"a\":1", "-",   "1e"};
    char deep[3 * BK_JSON_DEPTH_MAX];
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(right); i++)
        assert_true(work_payload_is_json(bk_slice_from(right[i])));
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        assert_false(work_payload_is_json(bk_slice_from(wrong[i])));
    memset(deep, '[', sizeof deep);
    assert_false(work_payload_is_json(bk_slice_make(deep, sizeof deep)));
    memset(deep + BK_JSON_DEPTH_MAX, ']', BK_JSON_DEPTH_MAX);
    assert_true(work_payload_is_json(bk_slice_make(deep, 2 * BK_JSON_DEPTH_MAX)));
}

static void a_paused_lane_hands_over_nothing_even_after_a_restart(void **state) {
    struct work_fixture *fixture = *state;
    assert_int_equal(work_fixture_do(fixture, bk_work_pause, "nobody"), BK_NOT_FOUND);
    assert_int_equal(work_fixture_do(fixture, bk_work_pause, "mail"), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, lane_state(fixture) == BK_WORK_LANE_PAUSED);
    work_fixture_close(fixture, 1000);
    work_fixture_reopen(fixture);
    work_fixture_wait(fixture, 40);
    assert_int_equal(fixture->seen_count, 0);
    assert_int_equal(work_fixture_do(fixture, bk_work_resume, "mail"), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
}

static void a_task_that_waits_is_dead_at_once_when_it_is_cancelled(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = mail;
    char id[BK_WORK_ID_BYTES + 1];
    draft.delay_ms = 60 * 1000;
    assert_int_equal(work_fixture_add(fixture, &draft, 1, id), BK_OK);
    assert_int_equal(work_fixture_do(fixture, bk_work_cancel, id), BK_OK);
    assert_int_equal(fixture->dead_count, 1);
    assert_int_equal(fixture->end_count, 1);
    assert_int_equal(work_fixture_count(fixture, "state = 'dead'"), 1);
}

static void fail_when_cancelled(struct work_fixture *fixture, struct bk_work_task *task) {
    for (uint32_t i = 0; i < fixture->seen_count; i++)
        if (fixture->seen[i].task == task)
            fixture->seen[i].task = NULL;
    bk_work_again(task, 0, BK_SLICE("was asked to end"), BK_SLICE_EMPTY);
}

static void a_task_that_runs_and_is_cancelled_has_no_further_attempt(void **state) {
    struct work_fixture *fixture = *state;
    char id[BK_WORK_ID_BYTES + 1];
    fixture->script = work_fixture_keep;
    fixture->on_cancel = fail_when_cancelled;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    assert_int_equal(work_fixture_do(fixture, bk_work_drop, id), BK_CONFLICT);
    assert_int_equal(work_fixture_do(fixture, bk_work_retry, id), BK_CONFLICT);
    assert_int_equal(work_fixture_do(fixture, bk_work_cancel, id), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->dead_count == 1);
    assert_int_equal(fixture->seen_count, 1);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
    assert_string_equal(work_fixture_query(fixture, "SELECT error FROM _work"), "was asked to end");
}

static void what_ran_when_the_program_ended_comes_again_one_attempt_later(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == attempt);
        assert_int_equal(fixture->seen[attempt - 1].attempt, attempt);
        work_fixture_close(fixture, 0);
        work_fixture_reopen(fixture);
    }
    /* One that ends the process each time is dead after its last attempt. */
    WORK_FIXTURE_UNTIL(fixture, fixture->dead_count == 1);
    assert_int_equal(fixture->seen_count, 3);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
}

static void who_is_asked_to_end_since_the_program_stops_loses_no_attempt(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    fixture->on_cancel = fail_when_cancelled;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    work_fixture_close(fixture, 1000);
    assert_int_equal(fixture->cancel_count, 1);
    fixture->script = NULL;
    work_fixture_reopen(fixture);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    assert_int_equal(fixture->seen[1].attempt, 1);
}

/* What is given back is due at once: if the round that records that began it again, and so on, the
 * program would stop when the grace is over and not before. */
static void a_program_that_stops_begins_nothing_that_it_would_have_to_give_back(void **state) {
    struct work_fixture *fixture = *state;
    uint64_t begin_ns = bk_clock_monotonic_ns();
    fixture->script = work_fixture_keep;
    fixture->on_cancel = fail_when_cancelled;
    assert_int_equal(work_fixture_add(fixture, &mail, 20, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    work_fixture_close(fixture, 30 * 1000);
    assert_true(bk_clock_monotonic_ns() - begin_ns < UINT64_C(30) * 1000 * 1000 * 1000);
    fixture->script = NULL;
    work_fixture_reopen(fixture);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static enum bk_status refuse_done(struct work_fixture *fixture, struct bk_transaction *transaction,
                                  const struct bk_work_end *end) {
    (void)fixture;
    (void)transaction;
    return bk_slice_is(end->payload, "666") && end->outcome == BK_WORK_DONE ? BK_INVALID : BK_OK;
}

static void a_hook_that_fails_spoils_its_own_task_only(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = mail;
    fixture->on_end = refuse_done;
    draft.payload = BK_SLICE("666");
    assert_int_equal(work_fixture_add(fixture, &mail, 20, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &mail, 20, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->dead_count == 1);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state != 'dead'") == 0);
    assert_int_equal(work_fixture_count(fixture, "1"), 1);
    assert_int_equal(fixture->seen_count, 43);
    assert_int_equal(
        strncmp(work_fixture_query(fixture, "SELECT error FROM _work"), "its end could", 13), 0);
}

/* It says that all is well, but what it has done cannot be committed. */
static enum bk_status hide_failure(struct work_fixture *fixture, struct bk_transaction *transaction,
                                   const struct bk_work_end *end) {
    (void)fixture;
    if (bk_slice_is(end->payload, "666") && end->outcome == BK_WORK_DONE)
        (void)bk_arena_alloc(bk_transaction_arena(transaction),
                             (size_t)BK_TRANSACTION_ARENA_BYTES_MAX + 1);
    return BK_OK;
}

static void a_hook_that_hides_its_failure_is_found(void **state) {
    struct work_fixture *fixture = *state;
    struct bk_work_draft draft = mail;
    fixture->on_end = hide_failure;
    draft.payload = BK_SLICE("666");
    assert_int_equal(work_fixture_add(fixture, &draft, 1, NULL), BK_OK);
    assert_int_equal(work_fixture_add(fixture, &mail, 20, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->dead_count == 1);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state != 'dead'") == 0);
    assert_int_equal(work_fixture_count(fixture, "1"), 1);
}

/* The tenant is opened by the work itself, since its row says that a task runs. */
static void what_the_end_has_cut_short_is_begun_though_nobody_asks(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    work_fixture_close(fixture, 0);
    fixture->script = NULL;
    support_kernel_restart(&fixture->kernel);
    work_fixture_compose(fixture);
    bk_work_start(fixture->work);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 2);
    assert_int_equal(fixture->seen[1].attempt, 2);
    support_kernel_open(&fixture->kernel);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "1") == 0);
}

static void progress_is_stored_now_and_then(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    bk_work_set_progress(fixture->seen[0].task, 3, 7);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "progressDone = 3") == 1);
    bk_work_done(work_fixture_take(fixture, 0), BK_SLICE_EMPTY);
}

static void what_was_said_last_of_its_progress_is_stored_with_its_end(void **state) {
    struct work_fixture *fixture = *state;
    fixture->script = work_fixture_keep;
    assert_int_equal(work_fixture_add(fixture, &mail, 1, NULL), BK_OK);
    WORK_FIXTURE_UNTIL(fixture, fixture->seen_count == 1);
    bk_work_set_progress(fixture->seen[0].task, 7, 7);
    bk_work_dead(work_fixture_take(fixture, 0), BK_SLICE("enough"), BK_SLICE_EMPTY);
    WORK_FIXTURE_UNTIL(fixture, work_fixture_count(fixture, "state = 'dead'") == 1);
    assert_int_equal(work_fixture_count(fixture, "progressDone = 7 AND progressTotal = 7"), 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_task_is_handed_over_and_gone_when_it_is_done),
        TEST(many_tasks_are_all_done_once),
        TEST(a_write_that_fails_takes_its_task_back),
        TEST(a_delay_is_waited_for),
        TEST(what_fails_comes_again_and_is_dead_after_its_last_attempt),
        TEST(the_dead_can_be_tried_again_and_dropped),
        TEST(a_handler_may_give_up_at_once),
        TEST(what_is_postponed_has_lost_no_attempt),
        TEST(a_handler_that_hangs_is_cut_off_and_its_late_answer_ignored),
        TEST(while_a_task_waits_for_a_place_its_time_stands_still),
        TEST(a_lane_whose_handlers_do_not_come_back_is_stuck),
        TEST(at_most_so_many_run_at_once),
        TEST(order_by_key_is_kept_across_failures),
        TEST(what_is_unique_is_added_once_while_it_is_there),
        TEST(secrets_are_in_no_column_of_the_collection),
        TEST(secrets_are_sealed_on_disk),
        TEST(a_sealed_secret_opens_for_its_own_task_alone),
        TEST(payloads_are_json),
        TEST(a_paused_lane_hands_over_nothing_even_after_a_restart),
        TEST(a_task_that_waits_is_dead_at_once_when_it_is_cancelled),
        TEST(a_task_that_runs_and_is_cancelled_has_no_further_attempt),
        TEST(what_ran_when_the_program_ended_comes_again_one_attempt_later),
        TEST(who_is_asked_to_end_since_the_program_stops_loses_no_attempt),
        TEST(a_program_that_stops_begins_nothing_that_it_would_have_to_give_back),
        TEST(a_hook_that_fails_spoils_its_own_task_only),
        TEST(a_hook_that_hides_its_failure_is_found),
        TEST(what_the_end_has_cut_short_is_begun_though_nobody_asks),
        TEST(progress_is_stored_now_and_then),
        TEST(what_was_said_last_of_its_progress_is_stored_with_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
