/*
 * A channel on the loop: its limits, its workers, and the end.
 *
 * libcurl has a queue of its own for what exceeds its limits on connections, but one in which
 * timeouts run; so no more is given to it than it may begin, and the rest waits here (queue.c).
 *
 *   open ── close ──> closing: what waits ends at once, workers stop ── all ended ──> closed, freed
 */
#include "outbound_private.h"

enum {
    CONNECTIONS_MAX = 256,
    CONNECTIONS_PER_HOST_MAX = 16,
    STREAMS_PER_CONNECTION = 8 /* begun at once to a peer that may have HTTP/2 */
};

/* --- life cycle ------------------------------------------------------------------------------- */

static void copy_policy(struct bk_outbound_policy *to, const struct bk_outbound_policy *from,
                        const char *ca_file) {
    struct bk_network *allowed = bk_alloc(sizeof(*allowed) * from->allowed_count);
    *to = *from;
    for (size_t i = 0; i < from->allowed_count; i++)
        allowed[i] = from->allowed[i];
    to->allowed = allowed;
    if (from->denied_port_count > 0) {
        size_t size = sizeof(*from->denied_ports) * from->denied_port_count;
        to->denied_ports = memcpy(bk_alloc(size), from->denied_ports, size);
    }
    to->ca_file = from->ca_file != NULL ? from->ca_file : ca_file;
    if (to->ca_file != NULL) {
        size_t size = strlen(to->ca_file) + 1;
        to->ca_file = memcpy(bk_alloc(size), to->ca_file, size);
    }
    if (to->connections_max == 0)
        to->connections_max = CONNECTIONS_MAX;
    if (to->connections_per_host_max == 0)
        to->connections_per_host_max = CONNECTIONS_PER_HOST_MAX;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void init_lanes(struct bk_outbound_channel *channel) {
    const struct bk_outbound_policy *policy = &channel->policy;
    uint32_t factor = policy->multiplexes ? STREAMS_PER_CONNECTION : 1;
    struct outbound_lane *web = &channel->lanes[OUTBOUND_WEB];
    struct outbound_lane *mail = &channel->lanes[OUTBOUND_MAIL];
    for (size_t i = 0; i < BK_COUNT_OF(channel->lanes); i++) {
        channel->lanes[i].channel = channel;
        bk_list_init(&channel->lanes[i].ready);
        bk_list_init(&channel->lanes[i].sated);
        bk_map_init(&channel->lanes[i].groups);
    }
    web->worker_max = 1;
    web->running_max = web->running_per_worker_max =
        smaller(policy->connections_max, BK_OUTBOUND_QUEUE_MAX) * factor;
    web->running_per_host_max =
        smaller(policy->connections_per_host_max, BK_OUTBOUND_QUEUE_MAX) * factor;
    mail->worker_max = mail->running_max = smaller(BK_OUTBOUND_SMTP_MAX, policy->connections_max);
    mail->running_per_worker_max = 1;
    mail->running_per_host_max = policy->connections_per_host_max;
}

static void on_dispatch(struct bk_task *task);
static void on_close(struct bk_task *task);

struct bk_outbound_channel *bk_outbound_open(struct bk_outbound *outbound,
                                             const struct bk_outbound_policy *policy) {
    struct bk_outbound_channel *channel = bk_alloc_zero(sizeof(*channel));
    BK_ASSERT(bk_loop_is_current(outbound->loop));
    BK_ASSERT(policy->name != NULL);
    channel->outbound = outbound;
    copy_policy(&channel->policy, policy, outbound->ca_file);
    init_lanes(channel);
    bk_map_init(&channel->hosts);
    bk_task_init(&channel->dispatch, on_dispatch);
    bk_task_init(&channel->close, on_close);
    atomic_init(&channel->open_count, 0);
    atomic_init(&channel->opened_count, 0);
    channel->figures.name = policy->name;
    bk_list_push(&outbound->channels, &channel->link);
    return channel;
}

/* --- dispatch --------------------------------------------------------------------------------- */

struct outbound_lane *outbound_lane_of(struct bk_outbound_channel *channel,
                                       const struct bk_outbound_request *request) {
    return &channel->lanes[request->smtp == NULL ? OUTBOUND_WEB : OUTBOUND_MAIL];
}

/* One that has spoken to the host before, else one that is free, else a new one; NULL: none. */
static struct outbound_worker *choose_worker(struct outbound_lane *lane, uint64_t host_hash) {
    struct outbound_worker *chosen = NULL;
    for (uint32_t i = 0; i < lane->worker_count; i++) {
        struct outbound_worker *worker = lane->workers[i];
        if (worker->running_count >= lane->running_per_worker_max)
            continue;
        if (chosen == NULL || worker->host_hash == host_hash)
            chosen = worker;
    }
    if (chosen == NULL && lane->worker_count < lane->worker_max) {
        chosen = outbound_worker_start(lane->channel);
        lane->workers[lane->worker_count++] = chosen;
    }
    return chosen;
}

static void begin(struct outbound_lane *lane, struct bk_outbound_call *call) {
    struct outbound_worker *worker = choose_worker(lane, call->host_hash);
    BK_ASSERT(worker != NULL);
    worker->host_hash = call->host_hash;
    worker->running_count++;
    if (call->request->begun != NULL)
        call->request->begun(call->request);
    outbound_worker_take(worker, call);
}

static void on_dispatch(struct bk_task *task) {
    struct bk_outbound_channel *channel =
        bk_container_of(task, struct bk_outbound_channel, dispatch);
    for (size_t i = 0; i < BK_COUNT_OF(channel->lanes) && !channel->is_closing; i++) {
        struct outbound_lane *lane = &channel->lanes[i];
        struct bk_outbound_call *call;
        while (lane->running_count < lane->running_max &&
               (call = outbound_queue_take(lane)) != NULL)
            begin(lane, call);
    }
}

void outbound_channel_queue(struct bk_outbound_channel *channel, struct bk_outbound_call *call,
                            struct bk_slice host_key) {
    outbound_queue_add(outbound_lane_of(channel, call->request), call, host_key);
    bk_loop_defer(channel->outbound->loop, &channel->dispatch);
}

void outbound_channel_release(struct bk_outbound_call *call) {
    struct bk_outbound_channel *channel = call->channel;
    BK_ASSERT(call->worker->running_count > 0);
    call->worker->running_count--;
    outbound_queue_release(call);
    if (channel->waiting_count > 0 && !channel->is_closing)
        bk_loop_defer(channel->outbound->loop, &channel->dispatch);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void end_waiting(struct bk_outbound_channel *channel) {
    struct bk_outbound_call *call;
    while ((call = outbound_queue_find(channel)) != NULL) {
        outbound_queue_remove(call);
        outbound_call_settle(call, BK_OUTBOUND_CANCELLED, OUTBOUND_CLOSING_TEXT);
        outbound_end_later(call);
    }
}

static void stop_workers(struct outbound_lane *lane) {
    for (uint32_t i = 0; i < lane->worker_count; i++)
        outbound_worker_stop(lane->workers[i]);
    lane->worker_count = 0;
}

void bk_outbound_close(struct bk_outbound_channel *channel, void (*closed)(void *user),
                       void *user) {
    BK_ASSERT(bk_loop_is_current(channel->outbound->loop));
    BK_ASSERT(!channel->is_closing && closed != NULL);
    channel->is_closing = true;
    channel->closed = closed;
    channel->closed_user = user;
    bk_task_cancel(&channel->dispatch);
    for (size_t i = 0; i < BK_COUNT_OF(channel->lanes); i++)
        stop_workers(&channel->lanes[i]);
    end_waiting(channel);
    outbound_channel_note_end(channel);
}

void outbound_channel_note_end(struct bk_outbound_channel *channel) {
    if (channel->is_closing && channel->call_count == 0 && channel->stopping_count == 0)
        bk_loop_defer(channel->outbound->loop, &channel->close);
}

static void on_close(struct bk_task *task) {
    struct bk_outbound_channel *channel = bk_container_of(task, struct bk_outbound_channel, close);
    void (*closed)(void *user) = channel->closed;
    void *user = channel->closed_user;
    BK_ASSERT(channel->call_count == 0 && channel->stopping_count == 0);
    BK_ASSERT(channel->hosts.count == 0);
    bk_list_remove(&channel->link);
    bk_map_fini(&channel->hosts);
    for (size_t i = 0; i < BK_COUNT_OF(channel->lanes); i++) {
        BK_ASSERT(channel->lanes[i].groups.count == 0);
        bk_map_fini(&channel->lanes[i].groups);
    }
    bk_free((void *)(uintptr_t)channel->policy.allowed);
    if (channel->policy.denied_port_count > 0)
        bk_free((void *)(uintptr_t)channel->policy.denied_ports);
    bk_free((void *)(uintptr_t)channel->policy.ca_file);
    bk_free(channel);
    closed(user);
}
