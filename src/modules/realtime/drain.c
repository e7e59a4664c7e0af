/*
 * The end of the server: every connection is told to come back, in random order, spread over a time
 * that grows with their number up to half of what the server has, so that they do not all knock at
 * the next door at once. WebSockets are closed with 4000, streams end.
 */
#include "realtime_private.h"

#include "bakend/id.h"

enum { TICK_MS = 20, MS_PER_CONNECTION = 2 };

static bool is_drawn(uint32_t ticks_left) {
    return ticks_left <= 1 || bk_random_u64() % ticks_left == 0;
}

/* One tick: of those that are left each goes with the chance that makes them equally many in each
 * tick. */
static void end_some(struct realtime *realtime) {
    uint32_t ticks_left = realtime->drain_ticks;
    BK_LIST_FOR_EACH(node, &realtime->sessions) {
        struct realtime_session *session = bk_container_of(node, struct realtime_session, link);
        if (!session->is_closing && is_drawn(ticks_left))
            realtime_session_close(session, REALTIME_CODE_STOPPING, BK_SLICE("server_stopping"));
    }
    realtime_streams_end(realtime, ticks_left <= 1 ? 1 : ticks_left);
    if (ticks_left > 0)
        realtime->drain_ticks--;
    if (realtime->drain_ticks == 0)
        bk_timer_stop(realtime->drain_timer);
}

static void on_tick(struct bk_timer *timer, void *user) {
    (void)timer;
    end_some(user);
}

static void on_drain(struct bk_drain_hook *hook, uint32_t deadline_ms) {
    struct realtime *realtime = bk_container_of(hook, struct realtime, drain);
    uint32_t count = realtime->figures.sessions + realtime->figures.streams;
    uint32_t spread_ms =
        count > UINT32_MAX / MS_PER_CONNECTION ? UINT32_MAX : count * MS_PER_CONNECTION;
    if (spread_ms > deadline_ms / 2)
        spread_ms = deadline_ms / 2;
    realtime->drain_ticks = spread_ms / TICK_MS;
    bk_timer_start(realtime->drain_timer, TICK_MS, TICK_MS);
    end_some(realtime);
}

void realtime_drain_init(struct realtime *realtime) {
    realtime->drain_timer = bk_timer_create(realtime->context->loop, on_tick, realtime);
    bk_timer_set_background(realtime->drain_timer);
    realtime->drain.on_drain = on_drain;
    bk_api_add_drain_hook(realtime->context->api, &realtime->drain);
}

void realtime_drain_stop(struct realtime *realtime) {
    bk_timer_close(realtime->drain_timer);
    realtime->drain_timer = NULL;
}
