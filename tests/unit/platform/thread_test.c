/* Threads and pools: where jobs and their answers run, what a full queue says, and how a pool
 * ends. */
#define _GNU_SOURCE 1 /* pthread_getname_np, SCHED_IDLE */
#include "bakend/thread.h"
#include "support.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOB_COUNT = 200, THREAD_COUNT = 3 };

/* --- threads ---------------------------------------------------------------------------------- */

struct thread_facts {
    char name[16];
    bool blocks_terminate;
};

static void look_around(void *argument) {
    struct thread_facts *facts = argument;
    sigset_t blocked;
    (void)pthread_getname_np(pthread_self(), facts->name, sizeof(facts->name));
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    facts->blocks_terminate = sigismember(&blocked, SIGTERM) == 1;
}

static void test_a_thread_has_its_name_and_no_signals(void **state) {
    struct thread_facts facts = {{0}, false};
    sigset_t blocked;
    (void)state;
    bk_thread_join(bk_thread_start("fifteen-letters", look_around, &facts));
    assert_string_equal(facts.name, "fifteen-letters");
    assert_true(facts.blocks_terminate);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    assert_int_equal(sigismember(&blocked, SIGTERM), 0);
}

/* --- pools ------------------------------------------------------------------------------------ */

struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t moved;
    uint32_t entered_count;
    bool is_open;
};

struct test_job {
    struct bk_job job;
    struct bk_loop *loop;
    struct gate *gate;
    struct bk_pool *destroys;
    uint32_t *done_count;
    uint32_t thread_index;
    pthread_t ran_on;
    bool has_run, is_done;
};

static void gate_init(struct gate *gate) {
    *gate = (struct gate){.is_open = false};
    (void)pthread_mutex_init(&gate->mutex, NULL);
    (void)pthread_cond_init(&gate->moved, NULL);
}

static void gate_enter(struct gate *gate) {
    (void)pthread_mutex_lock(&gate->mutex);
    gate->entered_count++;
    (void)pthread_cond_broadcast(&gate->moved);
    while (!gate->is_open)
        (void)pthread_cond_wait(&gate->moved, &gate->mutex);
    (void)pthread_mutex_unlock(&gate->mutex);
}

static void gate_await(struct gate *gate, uint32_t entered_count) {
    (void)pthread_mutex_lock(&gate->mutex);
    while (gate->entered_count < entered_count)
        (void)pthread_cond_wait(&gate->moved, &gate->mutex);
    (void)pthread_mutex_unlock(&gate->mutex);
}

static void gate_open(struct gate *gate) {
    (void)pthread_mutex_lock(&gate->mutex);
    gate->is_open = true;
    (void)pthread_cond_broadcast(&gate->moved);
    (void)pthread_mutex_unlock(&gate->mutex);
}

static void gate_fini(struct gate *gate) {
    (void)pthread_cond_destroy(&gate->moved);
    (void)pthread_mutex_destroy(&gate->mutex);
}

static void run_job(struct bk_job *job, uint32_t thread_index) {
    struct test_job *self = bk_container_of(job, struct test_job, job);
    if (self->gate != NULL)
        gate_enter(self->gate);
    self->thread_index = thread_index;
    self->ran_on = pthread_self();
    self->has_run = true;
}

static void on_job_done(struct bk_job *job) {
    struct test_job *self = bk_container_of(job, struct test_job, job);
    assert_true(bk_loop_is_current(self->loop));
    assert_true(self->has_run);
    self->is_done = true;
    (*self->done_count)++;
    if (self->destroys != NULL)
        bk_pool_destroy(self->destroys);
}

static struct test_job make_job(struct bk_loop *loop, uint32_t *done_count) {
    return (struct test_job){
        .job = {.run = run_job, .done = on_job_done}, .loop = loop, .done_count = done_count};
}

static void test_each_job_runs_on_a_thread_and_is_done_once_on_the_loop(void **state) {
    static struct test_job jobs[JOB_COUNT];
    struct bk_pool *pool = bk_pool_create(*state, "test", THREAD_COUNT, JOB_COUNT);
    uint32_t done_count = 0;
    for (size_t i = 0; i < JOB_COUNT; i++) {
        jobs[i] = make_job(*state, &done_count);
        assert_int_equal(bk_pool_submit(pool, &jobs[i].job), BK_OK);
        assert_false(jobs[i].is_done);
    }
    bk_loop_run(*state); /* an outstanding job keeps it alive */
    assert_int_equal(done_count, JOB_COUNT);
    for (size_t i = 0; i < JOB_COUNT; i++) {
        assert_true(jobs[i].thread_index < THREAD_COUNT);
        assert_false(pthread_equal(jobs[i].ran_on, pthread_self()));
    }
    bk_pool_destroy(pool);
}

static void test_as_many_jobs_run_at_once_as_there_are_threads(void **state) {
    struct bk_pool *pool = bk_pool_create(*state, "test", THREAD_COUNT, THREAD_COUNT);
    struct test_job jobs[THREAD_COUNT];
    uint32_t done_count = 0;
    struct gate gate;
    gate_init(&gate);
    for (size_t i = 0; i < THREAD_COUNT; i++) {
        jobs[i] = make_job(*state, &done_count);
        jobs[i].gate = &gate;
        assert_int_equal(bk_pool_submit(pool, &jobs[i].job), BK_OK);
    }
    gate_await(&gate, THREAD_COUNT);
    gate_open(&gate);
    bk_loop_run(*state);
    assert_int_equal(done_count, THREAD_COUNT);
    bk_pool_destroy(pool);
    gate_fini(&gate);
}

static void test_a_full_queue_is_busy_and_the_job_is_never_done(void **state) {
    struct bk_pool *pool = bk_pool_create(*state, "test", 1, 2);
    struct test_job jobs[4];
    uint32_t done_count = 0;
    struct gate gate;
    gate_init(&gate);
    for (size_t i = 0; i < 4; i++)
        jobs[i] = make_job(*state, &done_count);
    jobs[0].gate = &gate;
    assert_int_equal(bk_pool_submit(pool, &jobs[0].job), BK_OK);
    gate_await(&gate, 1);
    assert_int_equal(bk_pool_submit(pool, &jobs[1].job), BK_OK);
    assert_int_equal(bk_pool_submit(pool, &jobs[2].job), BK_OK);
    assert_int_equal(bk_pool_waiting_count(pool), 2);
    assert_int_equal(bk_pool_submit(pool, &jobs[3].job), BK_BUSY);
    gate_open(&gate);
    bk_loop_run(*state);
    assert_int_equal(done_count, 3);
    assert_false(jobs[3].has_run || jobs[3].is_done);
    bk_pool_destroy(pool);
    gate_fini(&gate);
}

static void test_destroying_finishes_what_was_submitted(void **state) {
    static struct test_job jobs[JOB_COUNT];
    struct bk_pool *pool = bk_pool_create(*state, "test", THREAD_COUNT, JOB_COUNT);
    uint32_t done_count = 0;
    for (size_t i = 0; i < JOB_COUNT; i++) {
        jobs[i] = make_job(*state, &done_count);
        assert_int_equal(bk_pool_submit(pool, &jobs[i].job), BK_OK);
    }
    bk_pool_destroy(pool);
    assert_int_equal(done_count, JOB_COUNT);
}

static void test_a_pool_without_jobs_starts_no_thread_and_may_go(void **state) {
    bk_pool_destroy(bk_pool_create(*state, "a-name-longer-than-a-thread-may-have", 2, 1));
}

static void test_the_last_answer_may_destroy_the_pool(void **state) {
    struct bk_pool *pool = bk_pool_create(*state, "test", 1, 1);
    uint32_t done_count = 0;
    struct test_job job = make_job(*state, &done_count);
    job.destroys = pool;
    assert_int_equal(bk_pool_submit(pool, &job.job), BK_OK);
    bk_loop_run(*state);
    assert_int_equal(done_count, 1);
}

struct late_job {
    struct test_job job;
    struct test_job second;
    enum bk_status status;
};

static void on_done_submit_again(struct bk_job *job) {
    struct test_job *first = bk_container_of(job, struct test_job, job);
    struct late_job *self = bk_container_of(first, struct late_job, job);
    self->status = bk_pool_submit(job->pool, &self->second.job);
}

static void test_a_pool_that_closes_takes_no_more_jobs(void **state) {
    struct bk_pool *pool = bk_pool_create(*state, "test", 1, 1);
    uint32_t done_count = 0;
    struct late_job late = {.job = make_job(*state, &done_count),
                            .second = make_job(*state, &done_count)};
    late.job.job.done = on_done_submit_again;
    assert_int_equal(bk_pool_submit(pool, &late.job.job), BK_OK);
    bk_pool_destroy(pool);
    assert_int_equal(late.status, BK_CLOSING);
    assert_false(late.second.has_run);
}

struct looking_job {
    struct bk_job job;
    struct gate *gate;
    int *policies;
};

static void run_look(struct bk_job *job, uint32_t thread_index) {
    struct looking_job *self = bk_container_of(job, struct looking_job, job);
    struct sched_param param;
    gate_enter(self->gate);
    (void)pthread_getschedparam(pthread_self(), &self->policies[thread_index], &param);
}

static void on_looked(struct bk_job *job) { (void)job; }

static void test_a_pool_that_gives_way_keeps_one_thread_that_gets_on(void **state) {
    struct bk_pool *pool = bk_pool_create(*state, "test", THREAD_COUNT, THREAD_COUNT);
    struct gate gate;
    struct looking_job jobs[THREAD_COUNT];
    int policies[THREAD_COUNT] = {-1, -1, -1};
    gate_init(&gate);
    bk_pool_give_way(pool);
    for (size_t i = 0; i < THREAD_COUNT; i++) {
        jobs[i] = (struct looking_job){
            .job = {.run = run_look, .done = on_looked}, .gate = &gate, .policies = policies};
        assert_int_equal(bk_pool_submit(pool, &jobs[i].job), BK_OK);
    }
    gate_await(&gate, THREAD_COUNT);
    gate_open(&gate);
    bk_pool_destroy(pool);
    gate_fini(&gate);
    assert_int_equal(policies[0], SCHED_OTHER);
    assert_int_equal(policies[1], SCHED_IDLE);
    assert_int_equal(policies[2], SCHED_IDLE);
}

/* Of the threads of this process with that name, the scheduling policy of the last; -1: none. */
static int policy_of(const char *name) {
    char path[300], comm[32];
    int policy = -1;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            continue;
        if (fgets(comm, sizeof comm, file) != NULL && strncmp(comm, name, strlen(name)) == 0)
            policy = sched_getscheduler((pid_t)strtol(task->d_name, NULL, 10));
        (void)fclose(file);
    }
    (void)closedir(tasks);
    return policy;
}

/* Who wakes the loop must not be one that the loop then keeps from the processor. */
static void test_a_pool_that_gives_way_answers_by_a_thread_that_does_not(void **state) {
    struct bk_pool *pool = bk_pool_create(*state, "test", 1, 1);
    uint32_t done_count = 0;
    struct test_job job = make_job(*state, &done_count);
    bk_pool_give_way(pool);
    assert_int_equal(bk_pool_submit(pool, &job.job), BK_OK);
    bk_loop_run(*state);
    assert_int_equal(done_count, 1);
    assert_int_equal(policy_of("test-relay"), SCHED_OTHER);
    bk_pool_destroy(pool);
}

static void test_the_last_answer_may_destroy_a_pool_that_gives_way(void **state) {
    struct bk_pool *pool = bk_pool_create(*state, "test", 1, 1);
    uint32_t done_count = 0;
    struct test_job job = make_job(*state, &done_count);
    bk_pool_give_way(pool);
    job.destroys = pool;
    assert_int_equal(bk_pool_submit(pool, &job.job), BK_OK);
    bk_loop_run(*state);
    assert_int_equal(done_count, 1);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thread_has_its_name_and_no_signals),
        LOOP_TEST(test_each_job_runs_on_a_thread_and_is_done_once_on_the_loop),
        LOOP_TEST(test_as_many_jobs_run_at_once_as_there_are_threads),
        LOOP_TEST(test_a_full_queue_is_busy_and_the_job_is_never_done),
        LOOP_TEST(test_destroying_finishes_what_was_submitted),
        LOOP_TEST(test_a_pool_without_jobs_starts_no_thread_and_may_go),
        LOOP_TEST(test_the_last_answer_may_destroy_the_pool),
        LOOP_TEST(test_a_pool_that_closes_takes_no_more_jobs),
        LOOP_TEST(test_a_pool_that_gives_way_keeps_one_thread_that_gets_on),
        LOOP_TEST(test_a_pool_that_gives_way_answers_by_a_thread_that_does_not),
        LOOP_TEST(test_the_last_answer_may_destroy_a_pool_that_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
