/*
 * Timers of a loop: libuv's, each on the heap, since a libuv handle may only be freed in its close
 * callback and the owner of a timer should not have to wait for that. Delays count from the time of
 * the turn, not from the call: all that a turn starts with one delay runs together.
 */
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/loop.h"
#include "loop_private.h"

#include <uv.h>

struct bk_timer {
    uv_timer_t uv;
    struct bk_loop *loop;
    bk_timer_cb on_timer;
    void *user;
};

struct bk_timer *bk_timer_create(struct bk_loop *loop, bk_timer_cb on_timer, void *user) {
    struct bk_timer *timer = bk_alloc_zero(sizeof(*timer));
    BK_ASSERT(bk_loop_is_current(loop));
    BK_ASSERT(on_timer != NULL);
    timer->loop = loop;
    timer->on_timer = on_timer;
    timer->user = user;
    BK_ASSERT(uv_timer_init(bk_loop_uv(loop), &timer->uv) == 0);
    return timer;
}

static void on_expiry(uv_timer_t *handle) {
    struct bk_timer *timer = bk_container_of(handle, struct bk_timer, uv);
    timer->on_timer(timer, timer->user);
}

void bk_timer_start(struct bk_timer *timer, uint64_t delay_ms, uint64_t repeat_ms) {
    BK_ASSERT(bk_loop_is_current(timer->loop));
    BK_ASSERT(!uv_is_closing((uv_handle_t *)&timer->uv));
    loop_refresh_idle_time(timer->loop);
    (void)uv_timer_start(&timer->uv, on_expiry, delay_ms, repeat_ms);
}

void bk_timer_stop(struct bk_timer *timer) {
    BK_ASSERT(!uv_is_closing((uv_handle_t *)&timer->uv));
    (void)uv_timer_stop(&timer->uv);
}

static void on_timer_closed(uv_handle_t *handle) {
    uv_timer_t *uv = (uv_timer_t *)handle;
    bk_free(bk_container_of(uv, struct bk_timer, uv));
}

void bk_timer_close(struct bk_timer *timer) {
    if (timer == NULL)
        return;
    BK_ASSERT(bk_loop_is_current(timer->loop));
    BK_ASSERT(!uv_is_closing((uv_handle_t *)&timer->uv));
    uv_close((uv_handle_t *)&timer->uv, on_timer_closed);
}

void bk_timer_set_background(struct bk_timer *timer) { uv_unref((uv_handle_t *)&timer->uv); }
