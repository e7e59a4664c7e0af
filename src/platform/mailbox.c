/*
 * A mailbox: a mutex, a singly linked list, and as few wakes as will do.
 *
 * Posting is the hot path between threads, and a wake is a system call, so a sender wakes only a
 * receiver that would otherwise sleep on what it posts:
 *   - a thread's mailbox signals its condition when the receiver waits, once per wait;
 *   - a loop's mailbox calls uv_async_send when its list becomes non-empty, and not while it is
 *   being
 *     drained, since the drain looks again before it ends.
 * The wake happens after the lock is given back, so that the receiver does not run into it. Hence
 * the rule of destroy: no sender may be inside a post any more.
 *
 * A drain takes the whole list under the lock and delivers outside of it. It does so at most
 * DRAIN_ROUNDS_MAX times, then wakes itself for the next turn, so that busy senders cannot keep the
 * loop from its sockets. What was taken hangs on the mailbox while it is delivered: a message may
 * destroy the mailbox, and the rest of the messages then still come first.
 */
#include "bakend/mailbox.h"
#include "bakend/alloc.h"
#include "bakend/assert.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <uv.h>

enum {
    DRAIN_ROUNDS_MAX = 4,
    MS_PER_SECOND = 1000,
    NS_PER_MS = 1000000,
    NS_PER_SECOND = 1000000000
};

struct bk_mailbox {
    pthread_mutex_t mutex; /* guards the block below */
    struct bk_message *first, *last;
    uint32_t length, capacity; /* capacity 0: not bounded */
    bool is_closed;
    bool is_waiting;  /* the receiving thread sleeps and nobody has woken it yet */
    bool is_draining; /* the loop will look again by itself */

    pthread_cond_t wake;  /* a thread's mailbox */
    struct bk_loop *loop; /* a loop's mailbox, else NULL; below are the loop's alone */
    uv_async_t async;
    struct bk_message *taken; /* still to be delivered */
};

/* --- life cycle ------------------------------------------------------------------------------- */

static struct bk_mailbox *create(uint32_t capacity) {
    struct bk_mailbox *mailbox = bk_alloc_zero(sizeof(*mailbox));
    pthread_condattr_t attributes;
    mailbox->capacity = capacity;
    BK_ASSERT(pthread_mutex_init(&mailbox->mutex, NULL) == 0);
    BK_ASSERT(pthread_condattr_init(&attributes) == 0);
    /* A wall clock that jumps must not stretch a timeout. */
    BK_ASSERT(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    BK_ASSERT(pthread_cond_init(&mailbox->wake, &attributes) == 0);
    (void)pthread_condattr_destroy(&attributes);
    return mailbox;
}

static void release(struct bk_mailbox *mailbox) {
    (void)pthread_cond_destroy(&mailbox->wake);
    (void)pthread_mutex_destroy(&mailbox->mutex);
    bk_free(mailbox);
}

static void on_wake(uv_async_t *async);

struct bk_mailbox *bk_mailbox_create_for_loop(struct bk_loop *loop) {
    struct bk_mailbox *mailbox = create(0);
    BK_ASSERT(bk_loop_is_current(loop));
    mailbox->loop = loop;
    BK_ASSERT(uv_async_init(bk_loop_uv(loop), &mailbox->async, on_wake) == 0);
    mailbox->async.data = mailbox;
    uv_unref((uv_handle_t *)&mailbox->async);
    return mailbox;
}

struct bk_mailbox *bk_mailbox_create_for_thread(uint32_t capacity) {
    BK_ASSERT(capacity > 0);
    return create(capacity);
}

void bk_mailbox_set_keep_alive(struct bk_mailbox *mailbox, bool keeps_alive) {
    BK_ASSERT(mailbox->loop != NULL && bk_loop_is_current(mailbox->loop));
    if (keeps_alive)
        uv_ref((uv_handle_t *)&mailbox->async);
    else
        uv_unref((uv_handle_t *)&mailbox->async);
}

/* --- posting ---------------------------------------------------------------------------------- */

static void append(struct bk_mailbox *mailbox, struct bk_message *message) {
    message->next = NULL;
    if (mailbox->last == NULL)
        mailbox->first = message;
    else
        mailbox->last->next = message;
    mailbox->last = message;
    mailbox->length++;
}

/* Under the lock, after the append: does the receiver need a wake? */
static bool claim_wake(struct bk_mailbox *mailbox) {
    bool must_wake = mailbox->is_waiting;
    if (mailbox->loop != NULL)
        return mailbox->length == 1 && !mailbox->is_draining;
    mailbox->is_waiting = false;
    return must_wake;
}

enum bk_status bk_mailbox_post(struct bk_mailbox *mailbox, struct bk_message *message) {
    enum bk_status status = BK_OK;
    bool must_wake = false;
    BK_ASSERT(message != NULL);
    (void)pthread_mutex_lock(&mailbox->mutex);
    if (mailbox->is_closed) {
        status = BK_CLOSING;
    } else if (mailbox->capacity > 0 && mailbox->length >= mailbox->capacity) {
        status = BK_BUSY;
    } else {
        append(mailbox, message);
        must_wake = claim_wake(mailbox);
    }
    (void)pthread_mutex_unlock(&mailbox->mutex);
    if (must_wake && mailbox->loop != NULL)
        (void)uv_async_send(&mailbox->async);
    else if (must_wake)
        (void)pthread_cond_signal(&mailbox->wake);
    return status;
}

/* --- receiving on a loop ---------------------------------------------------------------------- */

static struct bk_message *take_locked(struct bk_mailbox *mailbox) {
    struct bk_message *first = mailbox->first;
    mailbox->first = mailbox->last = NULL;
    mailbox->length = 0;
    return first;
}

/* Takes what waits; when there is nothing, senders wake the loop again from now on. */
static bool take_for_delivery(struct bk_mailbox *mailbox) {
    BK_ASSERT(mailbox->taken == NULL);
    (void)pthread_mutex_lock(&mailbox->mutex);
    mailbox->taken = take_locked(mailbox);
    mailbox->is_draining = mailbox->taken != NULL;
    (void)pthread_mutex_unlock(&mailbox->mutex);
    return mailbox->taken != NULL;
}

static void deliver_taken(struct bk_mailbox *mailbox) {
    while (mailbox->taken != NULL) {
        struct bk_message *message = mailbox->taken;
        mailbox->taken = message->next;
        message->next = NULL;
        BK_ASSERT(message->on_message != NULL);
        message->on_message(message);
    }
}

static void on_wake(uv_async_t *async) {
    struct bk_mailbox *mailbox = async->data;
    for (int round = 0; round < DRAIN_ROUNDS_MAX; round++) {
        if (uv_is_closing((uv_handle_t *)async) || !take_for_delivery(mailbox))
            return;
        deliver_taken(mailbox);
    }
    /* Still draining as far as senders know, so the next wake is ours to make. */
    if (!uv_is_closing((uv_handle_t *)async))
        (void)uv_async_send(async);
}

/* --- receiving on a thread -------------------------------------------------------------------- */

static struct timespec deadline_after(int timeout_ms) {
    struct timespec deadline;
    (void)clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / MS_PER_SECOND;
    deadline.tv_nsec += (long)(timeout_ms % MS_PER_SECOND) * NS_PER_MS;
    if (deadline.tv_nsec >= NS_PER_SECOND) {
        deadline.tv_sec++;
        deadline.tv_nsec -= NS_PER_SECOND;
    }
    return deadline;
}

/* Under the lock; returns when something waits, the mailbox is closed, or time is up. */
static void wait_for_message(struct bk_mailbox *mailbox, int timeout_ms) {
    struct timespec deadline = {0};
    int result = 0;
    if (timeout_ms > 0)
        deadline = deadline_after(timeout_ms);
    while (mailbox->first == NULL && !mailbox->is_closed && result != ETIMEDOUT) {
        mailbox->is_waiting = true;
        if (timeout_ms < 0)
            result = pthread_cond_wait(&mailbox->wake, &mailbox->mutex);
        else
            result = pthread_cond_timedwait(&mailbox->wake, &mailbox->mutex, &deadline);
        mailbox->is_waiting = false;
    }
}

struct bk_message *bk_mailbox_take_all(struct bk_mailbox *mailbox, int timeout_ms) {
    struct bk_message *first;
    BK_ASSERT(mailbox->loop == NULL);
    (void)pthread_mutex_lock(&mailbox->mutex);
    if (timeout_ms != 0)
        wait_for_message(mailbox, timeout_ms);
    first = take_locked(mailbox);
    (void)pthread_mutex_unlock(&mailbox->mutex);
    return first;
}

/* --- ending ----------------------------------------------------------------------------------- */

bool bk_mailbox_is_closed(struct bk_mailbox *mailbox) {
    bool is_closed;
    (void)pthread_mutex_lock(&mailbox->mutex);
    is_closed = mailbox->is_closed;
    (void)pthread_mutex_unlock(&mailbox->mutex);
    return is_closed;
}

void bk_mailbox_close(struct bk_mailbox *mailbox) {
    (void)pthread_mutex_lock(&mailbox->mutex);
    mailbox->is_closed = true;
    /* Under the lock: the receiver may destroy the mailbox as soon as it sees that it is closed. */
    (void)pthread_cond_signal(&mailbox->wake);
    (void)pthread_mutex_unlock(&mailbox->mutex);
}

uint32_t bk_mailbox_length(struct bk_mailbox *mailbox) {
    uint32_t length;
    (void)pthread_mutex_lock(&mailbox->mutex);
    length = mailbox->length;
    (void)pthread_mutex_unlock(&mailbox->mutex);
    return length;
}

static void on_async_closed(uv_handle_t *handle) { release(handle->data); }

void bk_mailbox_destroy(struct bk_mailbox *mailbox) {
    BK_ASSERT(bk_mailbox_is_closed(mailbox));
    if (mailbox->loop == NULL) {
        BK_ASSERT(mailbox->first == NULL);
        release(mailbox);
        return;
    }
    BK_ASSERT(bk_loop_is_current(mailbox->loop));
    BK_ASSERT(!uv_is_closing((uv_handle_t *)&mailbox->async));
    do
        deliver_taken(mailbox);
    while (take_for_delivery(mailbox));
    uv_close((uv_handle_t *)&mailbox->async, on_async_closed);
}
