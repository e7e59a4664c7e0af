/*
 * Work against a model, by random walks with seeds: tasks of three kinds in lanes of their own,
 * with keys, delays, replays and unique names; handlers that are done, fail, give up, postpone,
 * answer late or hang; tasks cancelled, tried again, dropped; lanes paused, rested, woken, cleared;
 * restarts that give handlers no time; rounds that fail, and commits of which nobody knows whether
 * they were written.
 *
 * Whatever is handed over is checked at once: its row says that it runs, with this attempt, which
 * is not past the last one; of a chain nobody else may run or wait, and unless one of it was tried
 * again it is the first of those that are left. In the end, when all handlers are done at once: no
 * task is left, each that was added was done, or is dead, or was dropped; each was recorded as done
 * once at most, and each death was told once.
 *
 * BAKEND_LONG=1 walks for minutes; BAKEND_SEED=n begins elsewhere.
 */
#include "work_fixture.h"

#include "bakend/failpoint.h"

enum {
    TASKS_MAX = 15000,
    ADDS_MAX = 12,
    STEPS = 150,
    SEEDS = 3,
    LONG_STEPS = 500,
    LONG_SEEDS = 40,
    ATTEMPT_MAX = 4,
    CHAINS_MAX = 256,
    CALM_STEPS = 40
};

struct model_task {
    char id[BK_WORK_ID_BYTES + 1];
    bool was_done, was_dropped;
    bool was_cleared;  /* it waited in a lane that was cleared: it begins no more */
    bool is_uncertain; /* nobody knows whether a change of it was written */
    uint32_t revivals; /* from the dead */
};

static struct {
    struct work_fixture fixture;
    struct model_task tasks[TASKS_MAX];
    size_t task_count;
    char retried[CHAINS_MAX][32]; /* chains whose order is another one since one was revived */
    uint32_t retried_count;
    bool is_draining;
    uint64_t state;
    uint32_t steps, handed, crashes, hung;
} model;

static const uint32_t quick[] = {1, 2};
#define QUICK                                                                                      \
    WORK_FIXTURE_HANDLERS, .timeout_ms = 30, .attempt_max = ATTEMPT_MAX, .backoff_ms = quick,      \
                           .backoff_count = 2
static const struct bk_work_kind kinds[] = {
    {.name = "plain", QUICK, .lane = {.running_max = 5}},
    {.name = "chained", QUICK, .lane = {.running_max = 5, .is_ordered = true}},
    {.name = "kept",
     QUICK,
     .lane = {.running_max = 2,
              .rate_per_minute = 60000,
              .breaker_failures = 3,
              .breaker_first_ms = 5,
              .breaker_max_ms = 20},
     .done_kept_ms = 3600 * 1000},
};

static uint32_t random_below(uint32_t bound) {
    model.state = model.state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(model.state >> 33) % bound;
}

static bool happens(uint32_t percent) { return random_below(100) < percent; }

static struct model_task *find_task(struct bk_slice id) {
    for (size_t i = model.task_count; i > 0; i--)
        if (bk_slice_equal(id, bk_slice_from(model.tasks[i - 1].id)))
            return &model.tasks[i - 1];
    return NULL;
}

/* A task may be handed over in the turn in which its write is answered. */
static struct model_task *know_task(struct bk_slice id) {
    struct model_task *task = find_task(id);
    if (task != NULL)
        return task;
    assert_true(model.task_count < TASKS_MAX);
    task = &model.tasks[model.task_count++];
    memcpy(task->id, id.data, BK_WORK_ID_BYTES);
    return task;
}

/* --- handlers --------------------------------------------------------------------------------- */

static void check_handed(struct work_fixture *fixture, const struct bk_work_task *task) {
    char text[512];
    assert_false(know_task(task->id)->was_cleared);
    snprintf(text, sizeof text, "id = '%.*s' AND state = 'running' AND attempts = %u",
             BK_SLICE_PRINT(task->id), task->attempt);
    assert_int_equal(work_fixture_count(fixture, text), 1);
    assert_true(task->attempt <= ATTEMPT_MAX);
    assert_int_equal(task->is_last, task->attempt == ATTEMPT_MAX);
    if (!bk_slice_starts_with(task->lane, BK_SLICE("chained")) || task->key.length == 0)
        return;
    snprintf(text, sizeof text,
             "state != 'blocked' AND chain != '' AND chain = (SELECT chain FROM _work WHERE id = "
             "'%.*s')",
             BK_SLICE_PRINT(task->id));
    assert_int_equal(work_fixture_count(fixture, text), 1);
    char chain[32];
    snprintf(chain, sizeof chain, "%.*s %.*s", BK_SLICE_PRINT(task->lane),
             BK_SLICE_PRINT(task->key));
    for (uint32_t i = 0; i < model.retried_count; i++)
        if (strcmp(model.retried[i], chain) == 0)
            return;
    snprintf(text, sizeof text,
             "chain != '' AND chain = (SELECT chain FROM _work WHERE id = '%.*s') AND rowid < "
             "(SELECT rowid FROM _work WHERE id = '%.*s')",
             BK_SLICE_PRINT(task->id), BK_SLICE_PRINT(task->id));
    assert_int_equal(work_fixture_count(fixture, text), 0);
}

static void answer(struct bk_work_task *task) {
    uint32_t what = random_below(100);
    if (model.is_draining || what < 60) {
        know_task(task->id)->was_done = true;
        bk_work_done(task, BK_SLICE("r"));
    } else if (what < 82) {
        bk_work_again(task, random_below(3), BK_SLICE("failed"), BK_SLICE("r"));
    } else if (what < 88) {
        bk_work_dead(task, BK_SLICE("gave up"), BK_SLICE_EMPTY);
    } else {
        bk_work_postpone(task, random_below(4));
    }
}

static void on_task(struct work_fixture *fixture, struct bk_work_task *task, uint32_t index) {
    check_handed(fixture, task);
    model.handed++;
    if (model.is_draining || happens(75)) {
        fixture->seen[index].task = NULL;
        fixture->seen_count--; /* it need not be remembered */
        answer(task);
    }
}

static void answer_kept(struct work_fixture *fixture, uint32_t percent) {
    uint32_t kept = 0, count = fixture->seen_count;
    struct bk_work_task *tasks[64];
    uint32_t task_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (fixture->seen[i].task != NULL && task_count < 64 && happens(percent))
            tasks[task_count++] = fixture->seen[i].task;
        else if (fixture->seen[i].task != NULL)
            fixture->seen[kept++] = fixture->seen[i];
    }
    fixture->seen_count = kept;
    for (uint32_t i = 0; i < task_count; i++)
        answer(tasks[i]);
}

static void on_cancel(struct work_fixture *fixture, struct bk_work_task *task) {
    model.hung++;
    for (uint32_t i = 0; i < fixture->seen_count; i++)
        if (fixture->seen[i].task == task && happens(50)) {
            fixture->seen[i].task = NULL;
            bk_work_again(task, 0, BK_SLICE("asked to end"), BK_SLICE_EMPTY);
            return;
        }
}

/* --- on the writer ---------------------------------------------------------------------------- */

static enum bk_status execute(struct bk_transaction *transaction, const char *text,
                              struct bk_slice id) {
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    if (id.length > 0)
        bk_statement_bind_text(statement, 1, id);
    return bk_statement_run(statement);
}

static enum bk_status on_dead(struct work_fixture *fixture, struct bk_transaction *transaction,
                              const struct bk_work_end *end) {
    (void)fixture;
    return execute(transaction, "INSERT INTO deaths (id) VALUES (?1)", end->id);
}

static enum bk_status on_end(struct work_fixture *fixture, struct bk_transaction *transaction,
                             const struct bk_work_end *end) {
    (void)fixture;
    if (end->outcome != BK_WORK_DONE)
        return BK_OK;
    return execute(transaction, "INSERT INTO ends (id) VALUES (?1)", end->id);
}

static enum bk_status run_create(struct work_fixture *fixture, struct bk_transaction *transaction,
                                 void *user) {
    (void)fixture;
    (void)user;
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("CREATE TABLE deaths (id TEXT);"
                                          "CREATE TABLE ends (id TEXT)"));
}

struct adding {
    struct bk_work_draft drafts[ADDS_MAX];
    char lanes[ADDS_MAX][8], keys[ADDS_MAX][8], uniques[ADDS_MAX][8];
    char ids[ADDS_MAX][BK_WORK_ID_BYTES + 1];
    uint32_t count;
    bool fails;
};

static enum bk_status run_adding(struct work_fixture *fixture, struct bk_transaction *transaction,
                                 void *user) {
    struct adding *adding = user;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < adding->count && status == BK_OK; i++)
        status = bk_work_add(fixture->work, transaction, &adding->drafts[i], adding->ids[i]);
    return adding->fails && status == BK_OK ? BK_FORBIDDEN : status;
}

static void fill_draft(struct adding *adding, uint32_t i) {
    struct bk_work_draft *draft = &adding->drafts[i];
    snprintf(adding->lanes[i], sizeof adding->lanes[i], "l%u", random_below(3));
    snprintf(adding->keys[i], sizeof adding->keys[i], "k%u", random_below(3));
    snprintf(adding->uniques[i], sizeof adding->uniques[i], "u%u", random_below(8));
    *draft = (struct bk_work_draft){.kind = kinds[random_below(3)].name,
                                    .payload = BK_SLICE("{\"a\":[1,2]}"),
                                    .is_replay = happens(20),
                                    .delay_ms = happens(30) ? random_below(20) : 0};
    if (happens(70))
        draft->lane = bk_slice_from(adding->lanes[i]);
    if (happens(60))
        draft->key = bk_slice_from(adding->keys[i]);
    if (happens(10))
        draft->unique = bk_slice_from(adding->uniques[i]);
}

static void add_tasks(struct work_fixture *fixture) {
    struct adding adding = {.count = 1 + random_below(ADDS_MAX), .fails = happens(10)};
    for (uint32_t i = 0; i < adding.count; i++)
        fill_draft(&adding, i);
    enum bk_status status = work_fixture_write_by(fixture, NULL, run_adding, &adding);
    assert_true(status == (adding.fails ? BK_FORBIDDEN : BK_OK) || status == BK_IO ||
                status == BK_TIMEOUT);
    for (uint32_t i = 0; i < adding.count && status == BK_OK; i++)
        (void)know_task(bk_slice_from(adding.ids[i]));
}

static bool is_dead(struct work_fixture *fixture, const char *id) {
    char text[128];
    snprintf(text, sizeof text, "id = '%s' AND state = 'dead'", id);
    return work_fixture_count(fixture, text) == 1;
}

struct changing {
    work_fixture_verb *verb;
    struct bk_slice id;
    bool was_dead;
    char chain[32];
};

static enum bk_status run_change(struct work_fixture *fixture, struct bk_transaction *transaction,
                                 void *user) {
    struct changing *changing = user;
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT lane || ' ' || \"key\" FROM _work "
                                                   "WHERE id = ?1 AND state = 'dead'"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, changing->id);
    changing->was_dead = bk_statement_step(statement) == BK_OK;
    if (changing->was_dead)
        snprintf(changing->chain, sizeof changing->chain, "%.*s",
                 BK_SLICE_PRINT(bk_statement_text(statement, 0)));
    bk_statement_reset(statement);
    return changing->verb(fixture->work, transaction, changing->id);
}

struct clearing {
    struct bk_slice lane;
    char ids[TASKS_MAX][BK_WORK_ID_BYTES];
    bool waits[TASKS_MAX];
    uint32_t count;
};

static void change_task(struct work_fixture *fixture) {
    static work_fixture_verb *const verbs[] = {bk_work_cancel, bk_work_retry, bk_work_drop};
    if (model.task_count == 0)
        return;
    uint32_t recent = model.task_count > 40 ? 40 : (uint32_t)model.task_count;
    struct model_task *task = &model.tasks[model.task_count - 1 - random_below(recent)];
    struct changing changing = {.verb = verbs[random_below(3)], .id = bk_slice_from(task->id)};
    enum bk_status status = work_fixture_write_by(fixture, NULL, run_change, &changing);
    assert_true(status == BK_OK || status == BK_NOT_FOUND || status == BK_CONFLICT ||
                status == BK_IO || status == BK_DISK_FULL || status == BK_TIMEOUT);
    task->is_uncertain |= status == BK_IO;
    if (changing.verb == bk_work_retry && changing.was_dead && status != BK_CONFLICT) {
        assert_true(model.retried_count < CHAINS_MAX);
        memcpy(model.retried[model.retried_count++], changing.chain, sizeof changing.chain);
    }
    if (status != BK_OK)
        return;
    task->was_dropped |= changing.verb == bk_work_drop;
    task->revivals += changing.verb != bk_work_cancel && changing.was_dead;
}

/* What waits there goes, and so may what is dead, when somebody tries it again meanwhile. */
static enum bk_status run_clear(struct work_fixture *fixture, struct bk_transaction *transaction,
                                void *user) {
    struct clearing *clearing = user;
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT id, state = 'waiting' OR state = 'blocked' FROM _work WHERE lane = ?1 OR "
                 "lane = ?1 || '/replay' UNION ALL SELECT id, 1 FROM _work_inbox WHERE lane = ?1 "
                 "OR lane = ?1 || '/replay'"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, clearing->lane);
    for (clearing->count = 0; (status = bk_statement_step(statement)) == BK_OK; clearing->count++) {
        assert_true(clearing->count < BK_COUNT_OF(clearing->ids));
        memcpy(clearing->ids[clearing->count], bk_statement_text(statement, 0).data,
               BK_WORK_ID_BYTES);
        clearing->waits[clearing->count] = bk_statement_int(statement, 1) != 0;
    }
    bk_statement_reset(statement);
    return status == BK_END ? bk_work_clear(fixture->work, transaction, clearing->lane) : status;
}

static void clear_lane(struct work_fixture *fixture, const char *lane) {
    static struct clearing clearing;
    clearing.lane = bk_slice_from(lane);
    enum bk_status status = work_fixture_write_by(fixture, NULL, run_clear, &clearing);
    assert_true(status == BK_OK || status == BK_IO || status == BK_TIMEOUT);
    for (uint32_t i = 0; i < clearing.count; i++) {
        struct model_task *task = know_task(bk_slice_make(clearing.ids[i], BK_WORK_ID_BYTES));
        task->is_uncertain |= status == BK_IO || !clearing.waits[i];
        task->was_cleared |= status == BK_OK && clearing.waits[i];
        task->was_dropped |= status == BK_OK && clearing.waits[i];
    }
}

static void change_lane(struct work_fixture *fixture) {
    static const char *const lanes[] = {"plain", "plain/l0", "chained/l1", "kept/l2",
                                        "kept/l2/replay"};
    const char *lane = lanes[random_below(BK_COUNT_OF(lanes))];
    struct bk_tenant *tenant = fixture->kernel.tenant;
    const struct bk_work_lane_policy policy = {.running_max = 1 + random_below(4),
                                               .is_ordered = lane[0] == 'c'};
    switch (random_below(6)) {
    case 4:
        clear_lane(fixture, lane);
        break;
    case 0:
        (void)work_fixture_do(fixture, bk_work_pause, lane);
        break;
    case 1:
        (void)work_fixture_do(fixture, bk_work_resume, lane);
        break;
    case 2:
        bk_work_lane_rest(fixture->work, tenant, bk_slice_from(lane), random_below(10));
        break;
    case 3:
        bk_work_lane_wake(fixture->work, tenant, bk_slice_from(lane));
        break;
    default:
        bk_work_lane_set_policy(fixture->work, tenant, bk_slice_from(lane), &policy);
    }
}

/* --- the walk --------------------------------------------------------------------------------- */

static void forget_kept(struct work_fixture *fixture) {
    for (uint32_t i = 0; i < fixture->seen_count; i++)
        fixture->seen[i].task = NULL;
    fixture->seen_count = 0;
}

/* A crash: what was answered and is not on disk is forgotten. */
static void end_program(struct work_fixture *fixture) {
    bool is_crash = happens(60);
    model.crashes += is_crash;
    work_fixture_close(fixture, is_crash ? 0 : 200);
    forget_kept(fixture);
    work_fixture_reopen(fixture);
}

/* A program that has just begun goes on, until the commit that fails was one of its own. */
static void step(struct work_fixture *fixture) {
    model.steps++;
    uint32_t what = random_below(100);
    if (what < 40)
        add_tasks(fixture);
    else if (what < 55)
        change_task(fixture);
    else if (what < 65)
        change_lane(fixture);
    else if (what < 72 && model.steps > CALM_STEPS)
        end_program(fixture);
    else
        work_fixture_wait(fixture, random_below(6));
    answer_kept(fixture, 40);
}

static void drain(struct work_fixture *fixture) {
    model.is_draining = true;
    (void)work_fixture_query(fixture, "SELECT 1");
    for (int i = 0; i < 5; i++) {
        static const char *const lanes[] = {"plain", "plain/l0", "chained/l1", "kept/l2",
                                            "kept/l2/replay"};
        assert_int_equal(work_fixture_do(fixture, bk_work_resume, lanes[i]), BK_OK);
    }
    for (int i = 0; i < 4000 && work_fixture_count(fixture, "state != 'dead' AND "
                                                            "state != 'done'") > 0;
         i++) {
        answer_kept(fixture, 100);
        work_fixture_wait(fixture, 1);
    }
    answer_kept(fixture, 100);
    assert_int_equal(work_fixture_count(fixture, "state != 'dead' AND state != 'done'"), 0);
}

static void check_all(struct work_fixture *fixture) {
    for (size_t i = 0; i < model.task_count; i++) {
        const struct model_task *task = &model.tasks[i];
        bool is_now_dead = is_dead(fixture, task->id);
        char text[128];
        assert_true(task->was_done || is_now_dead || task->was_dropped || task->is_uncertain);
        snprintf(text, sizeof text, "SELECT count(*) FROM ends WHERE id = '%s'", task->id);
        long ends = strtol(work_fixture_query(fixture, text), NULL, 10);
        assert_true(ends == 1 ||
                    (ends == 0 && (is_now_dead || task->was_dropped || task->is_uncertain)));
        if (task->is_uncertain)
            continue;
        snprintf(text, sizeof text, "SELECT count(*) FROM deaths WHERE id = '%s'", task->id);
        assert_int_equal(strtol(work_fixture_query(fixture, text), NULL, 10),
                         task->revivals + is_now_dead);
    }
    assert_int_equal(fixture->work->running_count, 0);
    assert_int_equal(fixture->work->reserved_count, 0);
}

/* Before any thread starts. */
static void set_failpoints(uint64_t seed) {
    char list[128];
    uint32_t at = 10 + random_below(20);
    if (seed % 3 == 0)
        snprintf(list, sizeof list, "work.recorded:error@%u,work.moved:full@%u", at, at + 7);
    else if (seed % 3 == 1)
        snprintf(list, sizeof list, "store.after_commit:error@%u", at);
    else
        list[0] = '\0';
    assert_int_equal(bk_failpoint_configure(list), BK_OK);
}

static void walk(uint64_t seed, uint32_t steps) {
    struct work_fixture *fixture = &model.fixture;
    memset(&model, 0, sizeof model);
    model.state = seed * 2654435761u + 1;
    set_failpoints(seed);
    work_fixture_open(fixture, kinds, BK_COUNT_OF(kinds));
    fixture->script = on_task;
    fixture->on_cancel = on_cancel;
    fixture->on_end = on_end;
    fixture->on_dead = on_dead;
    assert_int_equal(work_fixture_write_by(fixture, NULL, run_create, NULL), BK_OK);
    for (uint32_t i = 0; i < steps; i++)
        step(fixture);
    drain(fixture);
    check_all(fixture);
    work_fixture_destroy(fixture);
    assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
    if (getenv("BAKEND_VERBOSE") != NULL)
        print_message("seed %lu: %zu tasks, %u handed over, %u crashes, %u asked to end\n",
                      (unsigned long)seed, model.task_count, model.handed, model.crashes,
                      model.hung);
}

static void nothing_is_lost_and_order_is_kept(void **state) {
    const char *first = getenv("BAKEND_SEED");
    bool is_long = getenv("BAKEND_LONG") != NULL;
    uint64_t seed = first == NULL ? 1 : strtoull(first, NULL, 10);
    (void)state;
    for (uint32_t i = 0; i < (is_long ? LONG_SEEDS : SEEDS); i++)
        walk(seed + i, is_long ? LONG_STEPS : STEPS);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_lost_and_order_is_kept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
