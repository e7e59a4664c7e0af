/*
 * A channel on the loop: who waits, who may begin, and the end.
 *
 * Calls wait in one list a host, hosts that may begin one stand in a lane's ring: each host in turn
 * gives one call, so that many requests to a slow host do not stand before those to others. libcurl
 * has a queue of its own for what exceeds its limits on connections, but one in which timeouts run;
 * so no more is given to it than it may begin.
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

/* --- hosts ------------------------------------------------------------------------------------ */

static struct outbound_host *host_of(struct outbound_lane *lane, struct bk_slice key) {
    struct bk_map *hosts = &lane->channel->hosts;
    struct outbound_host *host = bk_map_get(hosts, key);
    char *copy;
    if (host != NULL)
        return host;
    host = bk_alloc_zero(sizeof(*host) + key.length);
    copy = (char *)(host + 1);
    memcpy(copy, key.data, key.length);
    host->key = bk_slice_make(copy, key.length);
    host->hash = bk_map_hash(host->key);
    host->lane = lane;
    bk_list_init(&host->link);
    bk_list_init(&host->waiting);
    (void)bk_map_put(hosts, host->key, host);
    return host;
}

static void drop_host_if_empty(struct outbound_host *host) {
    if (host->running_count > 0 || !bk_list_is_empty(&host->waiting))
        return;
    bk_list_remove(&host->link);
    (void)bk_map_remove(&host->lane->channel->hosts, host->key);
    bk_free(host);
}

/* In the ring while it has someone waiting and may begin one more. */
static void place_host(struct outbound_host *host) {
    bool is_ready =
        !bk_list_is_empty(&host->waiting) && host->running_count < host->lane->running_per_host_max;
    bool stands = !bk_list_is_empty(&host->link);
    if (is_ready && !stands)
        bk_list_push(&host->lane->ready, &host->link);
    else if (!is_ready && stands)
        bk_list_remove(&host->link);
}

/* --- dispatch --------------------------------------------------------------------------------- */

/* One that has spoken to the host before, else one that is free, else a new one; NULL: none. */
static struct outbound_worker *choose_worker(struct outbound_lane *lane,
                                             const struct outbound_host *host) {
    struct outbound_worker *chosen = NULL;
    for (uint32_t i = 0; i < lane->worker_count; i++) {
        struct outbound_worker *worker = lane->workers[i];
        if (worker->running_count >= lane->running_per_worker_max)
            continue;
        if (chosen == NULL || worker->host_hash == host->hash)
            chosen = worker;
    }
    if (chosen == NULL && lane->worker_count < lane->worker_max) {
        chosen = outbound_worker_start(lane->channel);
        lane->workers[lane->worker_count++] = chosen;
    }
    return chosen;
}

static void begin_next(struct outbound_lane *lane) {
    struct outbound_host *host = bk_container_of(lane->ready.next, struct outbound_host, link);
    struct outbound_worker *worker = choose_worker(lane, host);
    struct bk_list *node = bk_list_pop(&host->waiting);
    struct bk_outbound_call *call = bk_container_of(node, struct bk_outbound_call, link);
    BK_ASSERT(worker != NULL && node != NULL);
    worker->host_hash = host->hash;
    worker->running_count++;
    host->running_count++;
    lane->running_count++;
    lane->channel->waiting_count--;
    bk_list_remove(&host->link); /* to the end of the ring */
    place_host(host);
    outbound_worker_take(worker, call);
}

static void on_dispatch(struct bk_task *task) {
    struct bk_outbound_channel *channel =
        bk_container_of(task, struct bk_outbound_channel, dispatch);
    for (size_t i = 0; i < BK_COUNT_OF(channel->lanes) && !channel->is_closing; i++) {
        struct outbound_lane *lane = &channel->lanes[i];
        while (!bk_list_is_empty(&lane->ready) && lane->running_count < lane->running_max)
            begin_next(lane);
    }
}

void outbound_channel_queue(struct bk_outbound_channel *channel, struct bk_outbound_call *call,
                            struct bk_slice host_key) {
    enum outbound_lane_kind kind = call->request->smtp == NULL ? OUTBOUND_WEB : OUTBOUND_MAIL;
    struct outbound_host *host = host_of(&channel->lanes[kind], host_key);
    call->host = host;
    call->host_hash = host->hash;
    bk_list_push(&host->waiting, &call->link);
    channel->waiting_count++;
    place_host(host);
    bk_loop_defer(channel->outbound->loop, &channel->dispatch);
}

void outbound_channel_unqueue(struct bk_outbound_call *call) {
    struct outbound_host *host = call->host;
    BK_ASSERT(call->worker == NULL && host != NULL);
    bk_list_remove(&call->link);
    call->host = NULL;
    BK_ASSERT(call->channel->waiting_count > 0);
    call->channel->waiting_count--;
    place_host(host);
    drop_host_if_empty(host);
}

void outbound_channel_release(struct bk_outbound_call *call) {
    struct bk_outbound_channel *channel = call->channel;
    struct outbound_host *host = call->host;
    BK_ASSERT(host != NULL && host->running_count > 0 && call->worker->running_count > 0);
    call->worker->running_count--;
    host->lane->running_count--;
    host->running_count--;
    call->host = NULL;
    place_host(host);
    drop_host_if_empty(host);
    if (channel->waiting_count > 0 && !channel->is_closing)
        bk_loop_defer(channel->outbound->loop, &channel->dispatch);
}

/* --- the end ---------------------------------------------------------------------------------- */

static struct outbound_host *find_waiting(struct bk_outbound_channel *channel) {
    struct bk_map_entry *entry;
    size_t cursor = 0;
    while ((entry = bk_map_next(&channel->hosts, &cursor)) != NULL) {
        struct outbound_host *host = entry->value;
        if (!bk_list_is_empty(&host->waiting))
            return host;
    }
    return NULL;
}

/* Counted as running meanwhile, so that the host stays. */
static void end_waiting(struct outbound_host *host) {
    host->running_count++;
    while (!bk_list_is_empty(&host->waiting)) {
        struct bk_outbound_call *call =
            bk_container_of(host->waiting.next, struct bk_outbound_call, link);
        outbound_channel_unqueue(call);
        outbound_call_settle(call, BK_OUTBOUND_CANCELLED, OUTBOUND_CLOSING_TEXT);
        outbound_end_later(call);
    }
    host->running_count--;
    drop_host_if_empty(host);
}

static void stop_workers(struct outbound_lane *lane) {
    for (uint32_t i = 0; i < lane->worker_count; i++)
        outbound_worker_stop(lane->workers[i]);
    lane->worker_count = 0;
}

void bk_outbound_close(struct bk_outbound_channel *channel, void (*closed)(void *user),
                       void *user) {
    struct outbound_host *host;
    BK_ASSERT(bk_loop_is_current(channel->outbound->loop));
    BK_ASSERT(!channel->is_closing && closed != NULL);
    channel->is_closing = true;
    channel->closed = closed;
    channel->closed_user = user;
    bk_task_cancel(&channel->dispatch);
    for (size_t i = 0; i < BK_COUNT_OF(channel->lanes); i++)
        stop_workers(&channel->lanes[i]);
    while ((host = find_waiting(channel)) != NULL)
        end_waiting(host);
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
    bk_free((void *)(uintptr_t)channel->policy.allowed);
    if (channel->policy.denied_port_count > 0)
        bk_free((void *)(uintptr_t)channel->policy.denied_ports);
    bk_free((void *)(uintptr_t)channel->policy.ca_file);
    bk_free(channel);
    closed(user);
}
