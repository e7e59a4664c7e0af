/*
 * Who is sent to next. Sends wait in their endpoint's queue; places are given in turns over
 * tenants, then over their endpoints, one request each.
 *
 *   put ─> waiting[FIRST, RETRY, REPLAY] ── its turn ──> send.c ── ended ──> done
 *
 * First attempts go before those that are tried again, but every fourth turn of an endpoint is
 * theirs, and every sixteenth that of a replay: what comes faster than an endpoint takes it starves
 * nothing.
 *
 * Places are left to those who come late. A tenant has no more of them than it leaves free. Slow
 * endpoints have half of what their tenant may have, and so have the others: slow is who was slow
 * the last times, and whoever has something on its way for a second, which is counted among the
 * slow ones from then on. So endpoints that hang all at once hold up those beside them for about a
 * second. Replays share a quarter of all. An endpoint that has not answered yet counts as slow and
 * has two places, and twice as many with each answer: an address where nobody answers holds two.
 *
 * An endpoint whose cap is reached, or whose health allows nothing, is in no list: what changes
 * that settles it anew. One that is over its rate sleeps as a whole until the moment that its
 * bucket has a token, and one timer serves the first of them. So a queue costs nothing while it
 * waits, and an endpoint that matches nothing is never looked at.
 */
#include "places.h"

#include "bakend/alloc.h"

static const enum webhooks_class classes[] = {WEBHOOKS_FIRST, WEBHOOKS_RETRY, WEBHOOKS_REPLAY};

static struct webhooks_places *places_of(const struct webhooks_queue *queue) {
    return queue->endpoint->of->state->places;
}

static uint64_t now_ms(const struct webhooks_places *places) {
    return bk_loop_now_ms(places->state->context->loop);
}

static void turns_soon(struct webhooks_places *places) {
    bk_loop_defer(places->state->context->loop, &places->turns);
}

/* --- the rate: a bucket of tokens that holds a second's worth, and one at least --------------- */

enum { MS_PER_MINUTE = 60 * 1000, MS_PER_SECOND = 1000 };

static void fill(struct webhooks_queue *queue, uint64_t now) {
    double per_ms = (double)queue->endpoint->config->rate_per_minute / MS_PER_MINUTE;
    double room = per_ms * MS_PER_SECOND < 1 ? 1 : per_ms * MS_PER_SECOND;
    queue->tokens += (double)(now - queue->filled_ms) * per_ms;
    if (queue->tokens > room)
        queue->tokens = room;
    queue->filled_ms = now;
}

/* When it may begin one, as far as time has a say. */
static uint64_t ready_ms(struct webhooks_queue *queue, uint64_t now) {
    uint32_t rate = queue->endpoint->config->rate_per_minute;
    uint64_t ready = queue->not_before_ms > now ? queue->not_before_ms : now;
    if (rate == 0)
        return ready;
    fill(queue, now);
    if (queue->tokens >= 1)
        return ready;
    uint64_t full = now + 1 + (uint64_t)((1 - queue->tokens) * MS_PER_MINUTE / rate);
    return full > ready ? full : ready;
}

static void spend(struct webhooks_queue *queue) {
    if (queue->endpoint->config->rate_per_minute > 0)
        queue->tokens -= 1;
}

/* --- where a queue belongs -------------------------------------------------------------------- */

static struct webhooks_send *head_of(const struct webhooks_queue *queue,
                                     enum webhooks_class class) {
    return queue->waiting_count[class] == 0
               ? NULL
               : bk_container_of(queue->waiting[class].next, struct webhooks_send, link);
}

/* The one that the queue's next turn is for. */
static struct webhooks_send *first_of(const struct webhooks_queue *queue) {
    enum { RETRY_EVERY = 4, REPLAY_EVERY = 16 };
    struct webhooks_send *first = NULL;
    if (queue->turns % REPLAY_EVERY == REPLAY_EVERY - 1 &&
        places_of(queue)->taken_replay < PLACES_REPLAY_MAX)
        first = head_of(queue, WEBHOOKS_REPLAY);
    else if (queue->turns % RETRY_EVERY == RETRY_EVERY - 1)
        first = head_of(queue, WEBHOOKS_RETRY);
    for (size_t i = 0; i < BK_COUNT_OF(classes) && first == NULL; i++)
        first = head_of(queue, classes[i]);
    return first;
}

static bool has_room(struct webhooks_queue *queue) {
    uint32_t room = queue->endpoint->config->in_flight_max;
    uint32_t allowed = webhooks_health_allows(queue->endpoint);
    if (allowed > queue->room)
        allowed = queue->room;
    return queue->sending_count < (allowed < room ? allowed : room);
}

static bool is_slow(const struct webhooks_queue *queue) {
    return queue->room <= PLACES_UNPROVEN || queue->late_count > 0 ||
           webhooks_health_is_slow(queue->endpoint);
}

static uint32_t free_places(const struct webhooks_places *places) {
    return PLACES_MAX - places->taken;
}

/* There is room for another of its kind in what its tenant may have. Of those who wait here some
 * are on their way, and their end looks again. */
static bool has_place(const struct webhooks_queue *queue) {
    enum { SHARE = 4 }; /* half of the half that it leaves free */
    const struct webhooks_line *line = queue->endpoint->of->line;
    uint32_t taken = is_slow(queue) ? line->taken_slow : line->taken - line->taken_slow;
    return taken == 0 || taken * SHARE < line->taken + free_places(places_of(queue));
}

static enum queue_where judge(struct webhooks_queue *queue) {
    const struct webhooks_places *places = places_of(queue);
    const struct webhooks_send *first = first_of(queue);
    uint64_t now = now_ms(places);
    if (first == NULL || !has_room(queue))
        return QUEUE_NOWHERE;
    if (ready_ms(queue, now) > now)
        return QUEUE_TIMED;
    if (first->class == WEBHOOKS_REPLAY && places->taken_replay >= PLACES_REPLAY_MAX)
        return QUEUE_BEHIND_REPLAY;
    if (!has_place(queue))
        return QUEUE_BEHIND;
    return QUEUE_IN_LINE;
}

static void line_leave(struct webhooks_places *places, struct webhooks_line *line) {
    if (!bk_list_is_empty(&line->link))
        places->line_count--;
    bk_list_remove(&line->link);
}

static void leave(struct webhooks_queue *queue) {
    struct webhooks_line *line = queue->endpoint->of->line;
    bk_list_remove(&queue->link);
    if (bk_list_is_empty(&line->queues))
        line_leave(places_of(queue), line);
    places_of(queue)->timed_count -= queue->where == QUEUE_TIMED;
    queue->where = QUEUE_NOWHERE;
}

static void join_line(struct webhooks_queue *queue) {
    struct webhooks_places *places = places_of(queue);
    struct webhooks_line *line = queue->endpoint->of->line;
    if (bk_list_is_empty(&line->queues)) {
        bk_list_push(&places->lines, &line->link);
        places->line_count++;
    }
    bk_list_push(&line->queues, &queue->link);
    turns_soon(places);
}

/* The timer runs at that time at the latest. Many share one look, so that ten thousand rates cost
 * a hundred looks a second and not ten thousand. */
static void lower_timer(struct webhooks_places *places, uint64_t ready) {
    enum { FEW = 64, LOOK_MS = 10 };
    uint64_t now = now_ms(places);
    uint64_t soonest = now + (places->timed_count > FEW ? LOOK_MS : 1);
    uint64_t at = ready > soonest ? ready : soonest;
    if (at >= places->timer_ms)
        return;
    places->timer_ms = at;
    bk_timer_start(places->timer, at - now, 0);
}

static void sleep_until(struct webhooks_queue *queue, uint64_t ready) {
    struct webhooks_places *places = places_of(queue);
    if (queue->where != QUEUE_TIMED) {
        leave(queue);
        queue->where = QUEUE_TIMED;
        bk_list_push(&places->timed, &queue->link);
        places->timed_count++;
    }
    lower_timer(places, ready);
}

static void join_behind(struct webhooks_queue *queue) {
    struct webhooks_line *line = queue->endpoint->of->line;
    bk_list_push(is_slow(queue) ? &line->slow : &line->quick, &queue->link);
}

static void settle(struct webhooks_queue *queue) {
    struct webhooks_places *places = places_of(queue);
    enum queue_where where = judge(queue);
    if (where == QUEUE_TIMED) {
        sleep_until(queue, ready_ms(queue, now_ms(places)));
        return;
    }
    if (where == queue->where && where != QUEUE_BEHIND)
        return;
    leave(queue);
    queue->where = where;
    if (where == QUEUE_IN_LINE)
        join_line(queue);
    else if (where == QUEUE_BEHIND)
        join_behind(queue);
    else if (where == QUEUE_BEHIND_REPLAY)
        bk_list_push(&places->replays, &queue->link);
}

/* There may be a place for the first of them that still wants one. */
static void settle_first(struct bk_list *list) {
    while (!bk_list_is_empty(list)) {
        struct webhooks_queue *queue = bk_container_of(list->next, struct webhooks_queue, link);
        settle(queue);
        bool waits_on = list->next == &queue->link || list->previous == &queue->link;
        if (waits_on || queue->where == QUEUE_IN_LINE)
            return;
    }
}

static void settle_behind(struct webhooks_line *line) {
    settle_first(&line->slow);
    settle_first(&line->quick);
}

static void on_timer(struct bk_timer *timer, void *user) {
    struct webhooks_places *places = user;
    uint64_t now = now_ms(places), first = UINT64_MAX;
    (void)timer;
    places->timer_ms = UINT64_MAX;
    BK_LIST_FOR_EACH(node, &places->timed) {
        struct webhooks_queue *queue = bk_container_of(node, struct webhooks_queue, link);
        uint64_t ready = ready_ms(queue, now);
        places->looked++;
        if (ready <= now)
            settle(queue);
        else if (ready < first)
            first = ready;
    }
    if (first < UINT64_MAX)
        lower_timer(places, first);
}

/* --- taking and giving back a place ----------------------------------------------------------- */

static void take_out(struct webhooks_queue *queue, struct webhooks_send *send) {
    BK_ASSERT(queue->waiting_count[send->class] > 0);
    bk_list_remove(&send->link);
    queue->waiting_count[send->class]--;
    webhooks_queue_let_go(send);
}

static void count_as_slow(struct webhooks_send *send) {
    struct webhooks_tenant *of = send->endpoint->of;
    bk_list_remove(&send->age);
    send->is_slow = true;
    of->line->taken_slow++;
}

void webhooks_places_look(struct webhooks_state *state) {
    struct webhooks_places *places = state->places;
    uint64_t now = now_ms(places);
    BK_LIST_FOR_EACH(node, &places->young) {
        struct webhooks_send *send = bk_container_of(node, struct webhooks_send, age);
        if (now - send->began_ms < PLACES_SLOW_MS)
            break;
        count_as_slow(send);
        send->is_late = true;
        send->endpoint->queue->late_count++;
        settle_behind(send->endpoint->of->line);
    }
}

static void occupy(struct webhooks_queue *queue, struct webhooks_send *send) {
    struct webhooks_places *places = places_of(queue);
    take_out(queue, send);
    spend(queue);
    bk_list_push(&queue->sending, &send->link);
    queue->sending_count++;
    queue->turns++;
    places->taken++;
    queue->endpoint->of->line->taken++;
    places->taken_replay += send->class == WEBHOOKS_REPLAY;
    send->is_slow = send->is_late = false;
    send->began_ms = now_ms(places);
    send->generation = queue->endpoint->generation;
    bk_list_init(&send->age);
    if (is_slow(queue))
        count_as_slow(send);
    else
        bk_list_push(&places->young, &send->age);
}

static void vacate(struct webhooks_queue *queue, struct webhooks_send *send) {
    struct webhooks_places *places = places_of(queue);
    BK_ASSERT(places->taken > 0 && queue->sending_count > 0);
    struct webhooks_line *line = queue->endpoint->of->line;
    bk_list_remove(&send->link);
    bk_list_remove(&send->age);
    queue->sending_count--;
    places->taken--;
    places->taken_replay -= send->class == WEBHOOKS_REPLAY;
    line->taken--;
    line->taken_slow -= send->is_slow;
    queue->late_count -= send->is_late;
    settle_behind(line);
    if (send->class == WEBHOOKS_REPLAY)
        settle_first(&places->replays);
    turns_soon(places);
}

/* Who answers, whatever it says, is there. */
static void learn(struct webhooks_queue *queue, const struct webhooks_send *send) {
    if (send->status != BK_OK || send->generation != queue->endpoint->generation)
        return;
    if (send->result.status == 0)
        queue->room = PLACES_UNPROVEN;
    else if (queue->room < WEBHOOKS_IN_FLIGHT_MAX)
        queue->room *= 2;
}

void webhooks_queue_doubt(struct webhooks_endpoint *endpoint) {
    endpoint->queue->room = PLACES_UNPROVEN;
}

void webhooks_queue_ended(struct webhooks_send *send) {
    struct webhooks_queue *queue = send->endpoint->queue;
    learn(queue, send);
    vacate(queue, send);
    settle(queue);
}

void webhooks_queue_again(struct webhooks_send *send) {
    struct webhooks_queue *queue = send->endpoint->queue;
    vacate(queue, send);
    bk_list_push_front(&queue->waiting[send->class], &send->link);
    queue->waiting_count[send->class]++;
    send->has_begun = false;
    queue->not_before_ms = now_ms(places_of(queue)) + PLACES_AGAIN_MS;
    settle(queue);
}

uint32_t webhooks_places_taken(const struct webhooks_state *state) { return state->places->taken; }

/* --- turns ------------------------------------------------------------------------------------ */

/* A tenant has no more than it leaves free. */
static bool has_share(const struct webhooks_places *places, const struct webhooks_line *line) {
    return line->taken < free_places(places);
}

static void go_behind(struct webhooks_places *places, struct webhooks_line *line) {
    bk_list_remove(&line->link);
    bk_list_push(&places->lines, &line->link);
}

static void take_turn(struct webhooks_places *places, struct webhooks_line *line) {
    struct webhooks_queue *queue = bk_container_of(line->queues.next, struct webhooks_queue, link);
    struct webhooks_endpoint *endpoint = queue->endpoint;
    leave(queue);
    webhooks_endpoint_ref(endpoint);
    enum queue_where where = judge(queue);
    if (where == QUEUE_IN_LINE) {
        struct webhooks_send *send = first_of(queue);
        occupy(queue, send);
        webhooks_send_begin(send);
    }
    settle(queue);
    if (!bk_list_is_empty(&line->queues))
        go_behind(places, line); /* the next tenant is next */
    webhooks_endpoint_unref(endpoint);
}

static void cancel(struct webhooks_send *send) {
    struct webhooks_endpoint *endpoint = send->endpoint;
    send->status = BK_CANCELLED;
    if (send->event != NULL)
        bk_event_unref(send->event);
    send->event = NULL;
    send->done(send);
    webhooks_endpoint_unref(endpoint);
}

static void on_turns(struct bk_task *task) {
    struct webhooks_places *places = bk_container_of(task, struct webhooks_places, turns);
    struct bk_list *node;
    while ((node = bk_list_pop(&places->refused)) != NULL)
        cancel(bk_container_of(node, struct webhooks_send, link));
    for (uint32_t passed = 0; passed < places->line_count;) {
        struct webhooks_line *line =
            bk_container_of(places->lines.next, struct webhooks_line, link);
        passed = has_share(places, line) ? 0 : passed + 1;
        if (passed == 0)
            take_turn(places, line);
        else
            go_behind(places, line);
    }
}

/* --- putting and cancelling ------------------------------------------------------------------- */

void webhooks_queue_hold(struct webhooks_send *send) {
    struct webhooks_places *places = send->endpoint->of->state->places;
    size_t bytes = send->event == NULL || send->held_bytes > 0 ? 0 : send->event->json.length;
    if (send->event_id.length > 0 && places->held_bytes + bytes > PLACES_HELD_MAX) {
        bk_event_unref(send->event);
        send->event = NULL;
        bytes = 0;
    }
    send->held_bytes += bytes;
    places->held_bytes += bytes;
}

void webhooks_queue_let_go(struct webhooks_send *send) {
    send->endpoint->of->state->places->held_bytes -= send->held_bytes;
    send->held_bytes = 0;
}

void webhooks_queue_put(struct webhooks_send *send) {
    struct webhooks_queue *queue = send->endpoint->queue;
    struct webhooks_places *places = places_of(queue);
    webhooks_endpoint_ref(send->endpoint);
    send->has_begun = false;
    if (send->endpoint->is_gone || places->state->is_stopping) {
        bk_list_push(&places->refused, &send->link);
        turns_soon(places);
        return;
    }
    webhooks_queue_hold(send);
    bk_list_push(&queue->waiting[send->class], &send->link);
    queue->waiting_count[send->class]++;
    settle(queue);
}

static bool is_waiting(const struct webhooks_queue *queue, const struct webhooks_send *send) {
    BK_LIST_FOR_EACH(node, &queue->sending)
        if (node == &send->link)
            return false;
    return true;
}

void webhooks_queue_cancel(struct webhooks_send *send) {
    struct webhooks_queue *queue = send->endpoint->queue;
    if (!is_waiting(queue, send)) {
        webhooks_send_cancel(send);
        return;
    }
    if (send->endpoint->is_gone || queue->endpoint->of->state->is_stopping)
        return; /* it is among those that were refused: its end is on its way */
    take_out(queue, send);
    settle(queue);
    cancel(send);
}

static void wish_all(struct bk_list *list) {
    BK_LIST_FOR_EACH(node, list)
        webhooks_send_cancel(bk_container_of(node, struct webhooks_send, link));
}

void webhooks_queue_clear(struct webhooks_endpoint *endpoint) {
    struct webhooks_queue *queue = endpoint->queue;
    webhooks_endpoint_ref(endpoint);
    for (size_t i = 0; i < BK_COUNT_OF(classes); i++)
        while (queue->waiting_count[classes[i]] > 0) {
            struct bk_list *node = queue->waiting[classes[i]].next;
            struct webhooks_send *send = bk_container_of(node, struct webhooks_send, link);
            take_out(queue, send);
            cancel(send);
        }
    if (endpoint->is_gone) {
        wish_all(&queue->sending);
        wish_all(&queue->tests);
    }
    settle(queue);
    webhooks_endpoint_unref(endpoint);
}

void webhooks_queue_wake(struct webhooks_endpoint *endpoint) { settle(endpoint->queue); }

struct webhooks_queue_facts webhooks_queue_facts(const struct webhooks_endpoint *endpoint) {
    const struct webhooks_queue *queue = endpoint->queue;
    struct webhooks_queue_facts facts = {.sending = queue->sending_count};
    memcpy(facts.waiting, queue->waiting_count, sizeof facts.waiting);
    return facts;
}

/* --- life ------------------------------------------------------------------------------------- */

void webhooks_queue_open(struct webhooks_endpoint *endpoint) {
    struct webhooks_queue *queue = bk_alloc_zero(sizeof *queue);
    queue->endpoint = endpoint;
    queue->tokens = 1;
    queue->room = PLACES_UNPROVEN;
    queue->filled_ms = bk_loop_now_ms(endpoint->of->state->context->loop);
    bk_list_init(&queue->link);
    bk_list_init(&queue->sending);
    bk_list_init(&queue->tests);
    for (size_t i = 0; i < BK_COUNT_OF(queue->waiting); i++)
        bk_list_init(&queue->waiting[i]);
    endpoint->queue = queue;
}

void webhooks_queue_close(struct webhooks_endpoint *endpoint) {
    struct webhooks_queue *queue = endpoint->queue;
    BK_ASSERT(queue->sending_count == 0 && first_of(queue) == NULL);
    leave(queue);
    bk_free(queue);
    endpoint->queue = NULL;
}

void webhooks_line_open(struct webhooks_tenant *own) {
    own->line = bk_alloc_zero(sizeof *own->line);
    bk_list_init(&own->line->link);
    bk_list_init(&own->line->queues);
    bk_list_init(&own->line->slow);
    bk_list_init(&own->line->quick);
}

void webhooks_line_close(struct webhooks_tenant *own) {
    BK_ASSERT(bk_list_is_empty(&own->line->queues));
    line_leave(own->state->places, own->line);
    bk_free(own->line);
    own->line = NULL;
}

void webhooks_places_init(struct webhooks_state *state) {
    struct webhooks_places *places = bk_alloc_zero(sizeof *places);
    places->state = state;
    bk_list_init(&places->lines);
    bk_list_init(&places->replays);
    bk_list_init(&places->timed);
    bk_list_init(&places->refused);
    bk_list_init(&places->spare);
    bk_list_init(&places->young);
    places->timer_ms = UINT64_MAX;
    bk_task_init(&places->turns, on_turns);
    places->timer = bk_timer_create(state->context->loop, on_timer, places);
    bk_timer_set_background(places->timer);
    state->places = places;
}

void webhooks_places_fini(struct webhooks_state *state) {
    struct webhooks_places *places = state->places;
    if (places == NULL)
        return;
    BK_ASSERT(places->taken == 0);
    bk_task_cancel(&places->turns);
    bk_timer_close(places->timer);
    webhooks_sendings_free(places);
    bk_free(places);
    state->places = NULL;
}
