/* Threads, and pools of them that run jobs and answer on the loop. */
#ifndef BAKEND_THREAD_H
#define BAKEND_THREAD_H

#include "bakend/mailbox.h"

struct bk_thread;
/* name: at most 15 characters, seen in top. All signals are blocked in it. */
struct bk_thread *bk_thread_start(const char *name, void (*body)(void *argument), void *argument);
void bk_thread_join(struct bk_thread *thread); /* and frees it */
/* For the rest of its life the calling thread gets less of a processor than the others where there
 * is not enough for all. Called once. */
void bk_thread_lower_priority(void);
/* For the rest of its life the calling thread runs where a processor has nothing else to do, and
 * gives it back at once to whoever wakes up. */
void bk_thread_take_what_is_left(void);

/* Processors that this process may use; at least 1. */
uint32_t bk_processor_count(void);

struct bk_pool;

/* Embed it. run on a thread of the pool, then done once on the loop. */
struct bk_job {
    struct bk_message message;
    struct bk_pool *pool;
    void (*run)(struct bk_job *job, uint32_t thread_index);
    void (*done)(struct bk_job *job);
};

/* Threads start with the first job. At most queue_max jobs wait. */
struct bk_pool *bk_pool_create(struct bk_loop *loop, const char *name, uint32_t thread_count,
                               uint32_t queue_max);
/* Before the first job: what the pool computes gives way to all other threads, and they hardly
 * notice. Its first thread has a lower priority and no less: the pool gets on where the others
 * want all processors all of the time. */
void bk_pool_give_way(struct bk_pool *pool);
/* On the loop. BK_OK: done will be called, never before this returns. BK_BUSY or BK_CLOSING:
 * never. */
enum bk_status bk_pool_submit(struct bk_pool *pool, struct bk_job *job);
uint32_t bk_pool_waiting_count(struct bk_pool *pool);
/* Whether a job waits that no idle thread is about to take. Any thread. */
bool bk_pool_is_behind(struct bk_pool *pool);
/* On the loop: finishes what was submitted (delivering each done), joins, frees. */
void bk_pool_destroy(struct bk_pool *pool);

#endif
