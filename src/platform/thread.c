/*
 * Threads and pools.
 *
 * A pool is one bounded queue that its threads take jobs from, first come first served, and a loop
 * mailbox that carries the finished ones back. A thread is started when a job is submitted that no
 * idle thread would take, until there are thread_count of them; they stay until the pool is
 * destroyed. While a job is out the pool keeps the loop alive: its done has yet to come.
 *
 * Destroy waits for every job that was submitted, on purpose: a job's memory is its owner's, and
 * only done tells the owner that the thread has let go of it.
 */
#define _GNU_SOURCE 1 /* pthread_setname_np, sched_getaffinity */
#include "bakend/thread.h"
#include "bakend/alloc.h"
#include "bakend/assert.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum {
    THREAD_NAME_BYTES = 16,  /* the kernel's, with NUL */
    LOWER_PRIORITY_STEPS = 5 /* a third of what another gets that wants the same processor */
};

struct bk_thread {
    pthread_t handle;
    char name[THREAD_NAME_BYTES];
    void (*body)(void *argument);
    void *argument;
};

/* --- threads ---------------------------------------------------------------------------------- */

static void *thread_main(void *argument) {
    struct bk_thread *thread = argument;
    (void)pthread_setname_np(pthread_self(), thread->name);
    thread->body(thread->argument);
    return NULL;
}

/* A new thread inherits the mask of the thread that makes it, so it is blocked around that. */
struct bk_thread *bk_thread_start(const char *name, void (*body)(void *argument), void *argument) {
    struct bk_thread *thread = bk_alloc_zero(sizeof(*thread));
    sigset_t all, before;
    int result;
    BK_ASSERT(body != NULL);
    BK_ASSERT(strlen(name) < sizeof(thread->name));
    memcpy(thread->name, name, strlen(name));
    thread->body = body;
    thread->argument = argument;
    (void)sigfillset(&all);
    BK_ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    result = pthread_create(&thread->handle, NULL, thread_main, thread);
    BK_ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    BK_ASSERT(result == 0);
    return thread;
}

void bk_thread_join(struct bk_thread *thread) {
    BK_ASSERT(!pthread_equal(pthread_self(), thread->handle));
    BK_ASSERT(pthread_join(thread->handle, NULL) == 0);
    bk_free(thread);
}

/* Linux has a priority for each thread. Where it cannot be lowered further, nothing is lost. */
void bk_thread_lower_priority(void) {
    int priority = getpriority(PRIO_PROCESS, 0);
    (void)setpriority(PRIO_PROCESS, 0, priority + LOWER_PRIORITY_STEPS);
}

void bk_thread_take_what_is_left(void) {
    const struct sched_param none = {.sched_priority = 0};
    if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) != 0)
        bk_thread_lower_priority();
}

uint32_t bk_processor_count(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return 1;
    return (uint32_t)CPU_COUNT(&allowed);
}

/* --- pools ------------------------------------------------------------------------------------ */

struct pool_thread {
    struct bk_pool *pool;
    struct bk_thread *thread;
    uint32_t index;
};

struct bk_pool {
    struct bk_loop *loop;
    struct bk_mailbox *answers;
    const char *name;
    uint32_t thread_count, queue_max;
    uint32_t started_count, outstanding_count; /* the loop's */
    bool gives_way;                            /* set before a thread is there */
    struct pool_thread *threads;
    struct bk_mailbox *finished; /* of a pool that gives way: to be posted by the relay */
    struct bk_thread *relay;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;
    struct bk_message *first, *last; /* bk_job.message */
    uint32_t waiting_count, idle_count;
    bool is_closing;
};

struct bk_pool *bk_pool_create(struct bk_loop *loop, const char *name, uint32_t thread_count,
                               uint32_t queue_max) {
    struct bk_pool *pool = bk_alloc_zero(sizeof(*pool));
    BK_ASSERT(thread_count > 0);
    BK_ASSERT(queue_max > 0);
    pool->loop = loop;
    pool->answers = bk_mailbox_create_for_loop(loop);
    pool->name = name;
    pool->thread_count = thread_count;
    pool->queue_max = queue_max;
    pool->threads = bk_alloc_zero(sizeof(*pool->threads) * thread_count);
    BK_ASSERT(pthread_mutex_init(&pool->mutex, NULL) == 0);
    BK_ASSERT(pthread_cond_init(&pool->wake, NULL) == 0);
    return pool;
}

void bk_pool_give_way(struct bk_pool *pool) {
    BK_ASSERT(pool->started_count == 0);
    pool->gives_way = true;
}

/* Waits for a job; NULL when the pool closes and nothing is left. */
static struct bk_job *take_job(struct bk_pool *pool) {
    struct bk_message *message;
    (void)pthread_mutex_lock(&pool->mutex);
    while (pool->first == NULL && !pool->is_closing) {
        pool->idle_count++;
        (void)pthread_cond_wait(&pool->wake, &pool->mutex);
        pool->idle_count--;
    }
    message = pool->first;
    if (message != NULL) {
        pool->first = message->next;
        if (pool->first == NULL)
            pool->last = NULL;
        pool->waiting_count--;
    }
    (void)pthread_mutex_unlock(&pool->mutex);
    return message == NULL ? NULL : bk_container_of(message, struct bk_job, message);
}

static void pool_thread_main(void *argument) {
    struct pool_thread *self = argument;
    struct bk_job *job;
    if (self->pool->gives_way && self->index == 0)
        bk_thread_lower_priority();
    else if (self->pool->gives_way)
        bk_thread_take_what_is_left();
    struct bk_mailbox *answers = self->pool->gives_way ? self->pool->finished : self->pool->answers;
    while ((job = take_job(self->pool)) != NULL) {
        job->run(job, self->index);
        BK_ASSERT(bk_mailbox_post(answers, &job->message) == BK_OK);
    }
}

/* Posts for threads that give way. A post wakes the loop, which takes the processor at once from
 * such a thread, in the middle of uv_async_send, and then spins until that has returned: many
 * milliseconds, since who spins is not who gives way. Nobody spins for a mailbox of a thread. */
static void relay_main(void *argument) {
    struct bk_pool *pool = argument;
    struct bk_message *message;
    while ((message = bk_mailbox_take_all(pool->finished, -1)) != NULL)
        while (message != NULL) {
            struct bk_message *next = message->next;
            BK_ASSERT(bk_mailbox_post(pool->answers, message) == BK_OK);
            message = next;
        }
}

static void start_relay(struct bk_pool *pool) {
    char name[THREAD_NAME_BYTES];
    (void)snprintf(name, sizeof(name), "%.8s-relay", pool->name);
    pool->finished = bk_mailbox_create_for_thread(UINT32_MAX);
    pool->relay = bk_thread_start(name, relay_main, pool);
}

static void start_pool_thread(struct bk_pool *pool) {
    struct pool_thread *entry = &pool->threads[pool->started_count];
    char name[THREAD_NAME_BYTES];
    if (pool->gives_way && pool->relay == NULL)
        start_relay(pool);
    /* The number stays readable when a long name is cut. */
    (void)snprintf(name, sizeof(name), "%.10s-%u", pool->name, pool->started_count % 10000);
    entry->pool = pool;
    entry->index = pool->started_count++;
    entry->thread = bk_thread_start(name, pool_thread_main, entry);
}

/* The keep-alive is dropped before done, which may destroy the pool. */
static void on_job_finished(struct bk_message *message) {
    struct bk_job *job = bk_container_of(message, struct bk_job, message);
    struct bk_pool *pool = job->pool;
    BK_ASSERT(pool->outstanding_count > 0);
    pool->outstanding_count--;
    if (pool->outstanding_count == 0)
        bk_mailbox_set_keep_alive(pool->answers, false);
    job->done(job);
}

static enum bk_status enqueue(struct bk_pool *pool, struct bk_message *message,
                              bool *needs_thread) {
    enum bk_status status = BK_OK;
    (void)pthread_mutex_lock(&pool->mutex);
    if (pool->is_closing) {
        status = BK_CLOSING;
    } else if (pool->waiting_count >= pool->queue_max) {
        status = BK_BUSY;
    } else {
        message->next = NULL;
        if (pool->last == NULL)
            pool->first = message;
        else
            pool->last->next = message;
        pool->last = message;
        pool->waiting_count++;
        *needs_thread = pool->waiting_count > pool->idle_count;
        (void)pthread_cond_signal(&pool->wake);
    }
    (void)pthread_mutex_unlock(&pool->mutex);
    return status;
}

enum bk_status bk_pool_submit(struct bk_pool *pool, struct bk_job *job) {
    bool needs_thread = false;
    enum bk_status status;
    BK_ASSERT(bk_loop_is_current(pool->loop));
    BK_ASSERT(job->run != NULL && job->done != NULL);
    job->pool = pool;
    job->message.on_message = on_job_finished;
    status = enqueue(pool, &job->message, &needs_thread);
    if (status != BK_OK)
        return status;
    if (pool->outstanding_count++ == 0)
        bk_mailbox_set_keep_alive(pool->answers, true);
    if (needs_thread && pool->started_count < pool->thread_count)
        start_pool_thread(pool);
    return BK_OK;
}

uint32_t bk_pool_waiting_count(struct bk_pool *pool) {
    uint32_t count;
    (void)pthread_mutex_lock(&pool->mutex);
    count = pool->waiting_count;
    (void)pthread_mutex_unlock(&pool->mutex);
    return count;
}

bool bk_pool_is_behind(struct bk_pool *pool) {
    bool is_behind;
    (void)pthread_mutex_lock(&pool->mutex);
    is_behind = pool->waiting_count > pool->idle_count;
    (void)pthread_mutex_unlock(&pool->mutex);
    return is_behind;
}

/* The answers are delivered while the pool is still whole: a done may ask it something. */
void bk_pool_destroy(struct bk_pool *pool) {
    BK_ASSERT(bk_loop_is_current(pool->loop));
    (void)pthread_mutex_lock(&pool->mutex);
    BK_ASSERT(!pool->is_closing);
    pool->is_closing = true;
    (void)pthread_cond_broadcast(&pool->wake);
    (void)pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < pool->started_count; i++)
        bk_thread_join(pool->threads[i].thread);
    if (pool->relay != NULL) {
        bk_mailbox_close(pool->finished);
        bk_thread_join(pool->relay);
        bk_mailbox_destroy(pool->finished);
    }
    bk_mailbox_close(pool->answers);
    bk_mailbox_destroy(pool->answers);
    BK_ASSERT(pool->outstanding_count == 0);
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->mutex);
    bk_free(pool->threads);
    bk_free(pool);
}
