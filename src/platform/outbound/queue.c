/*
 * Who waits in a channel, and whose turn it is.
 *
 *   lane ── ready ──> groups, each in turn ── queues ──> hosts of each, likewise ──> calls
 *
 * A group is whoever the requests belong to, so that a tenant with thousands of them is one among
 * others; its hosts take turns, so that a slow one does not stand before the rest. Counted are
 * those that run: of a host, since it is not to be stormed; of a group, since one whose peers all
 * hang would take up every place. A group that has some may have one more while that leaves at
 * least as many free as it has then: the first may take half of all, two of them leave a quarter,
 * and however they come, one that has none finds a place for long. Those who stand back for that
 * are looked at again when a place becomes free. The same holds of the places of one host: paths of
 * it that hang are one group's, and those that answer may be another's.
 *
 * A queue that has no place at its host stands with the host (full) and not in the group's ring.
 * The host calls one back for each place that becomes free, the one that has waited longest: so
 * groups take turns at a host that they share, too. Whoever was called back passes the place on
 * when it is gone, or has its share: while a host has a place, someone who may begin has it in
 * view.
 */
#include "outbound_private.h"

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
    bk_list_init(&host->queues);
    bk_list_init(&host->full);
    (void)bk_map_put(hosts, host->key, host);
    return host;
}

static void drop_host_if_empty(struct outbound_host *host) {
    if (host->running_count > 0 || !bk_list_is_empty(&host->queues))
        return;
    (void)bk_map_remove(&host->lane->channel->hosts, host->key);
    bk_free(host);
}

/* So that whoever has some of them leaves as many to others. */
static bool may_have_one_more(const struct outbound_group *group, uint32_t own_count,
                              uint32_t free_count) {
    return group->key.length == 0 || own_count == 0 || own_count < free_count;
}

static bool has_place(const struct outbound_queue *queue) {
    const struct outbound_host *host = queue->host;
    uint32_t place_count = host->lane->running_per_host_max;
    return host->running_count < place_count &&
           may_have_one_more(queue->group, queue->running_count, place_count - host->running_count);
}

/* --- groups ----------------------------------------------------------------------------------- */

bool outbound_group_is_full(const struct outbound_lane *lane, struct bk_slice key) {
    const struct outbound_group *group = bk_map_get(&lane->groups, key);
    return group != NULL && key.length > 0 && group->call_count >= BK_OUTBOUND_GROUP_MAX;
}

void outbound_group_join(struct outbound_lane *lane, struct bk_outbound_call *call) {
    struct bk_slice key = call->request->group;
    struct outbound_group *group = bk_map_get(&lane->groups, key);
    if (group == NULL) {
        group = bk_alloc_zero(sizeof(*group) + key.length);
        if (key.length > 0)
            memcpy(group + 1, key.data, key.length);
        group->key = bk_slice_make((char *)(group + 1), key.length);
        group->lane = lane;
        bk_list_init(&group->link);
        bk_list_init(&group->queues);
        (void)bk_map_put(&lane->groups, group->key, group);
    }
    group->call_count++;
    call->group = group;
}

void outbound_group_leave(struct bk_outbound_call *call) {
    struct outbound_group *group = call->group;
    BK_ASSERT(group != NULL && group->call_count > 0);
    call->group = NULL;
    if (--group->call_count > 0)
        return;
    BK_ASSERT(group->running_count == 0 && bk_list_is_empty(&group->queues));
    BK_ASSERT(bk_list_is_empty(&group->link));
    (void)bk_map_remove(&group->lane->groups, group->key);
    bk_free(group);
}

static bool may_run(const struct outbound_group *group) {
    const struct outbound_lane *lane = group->lane;
    return may_have_one_more(group, group->running_count, lane->running_max - lane->running_count);
}

/* In the lane's ring while one of its queues may begin a call and it may run one more. One that has
 * its share stands beside it; who comes to have it in the ring is found there (next_queue), where
 * its places are passed on. */
static void place_group(struct outbound_group *group) {
    bool has_calls = !bk_list_is_empty(&group->queues);
    bool stands = !bk_list_is_empty(&group->link);
    if (has_calls && stands && (!group->is_sated || !may_run(group)))
        return;
    bk_list_remove(&group->link);
    group->is_sated = !may_run(group);
    if (has_calls)
        bk_list_push(group->is_sated ? &group->lane->sated : &group->lane->ready, &group->link);
}

/* --- queues ----------------------------------------------------------------------------------- */

/* To the end of where it belongs. */
static void place_queue(struct outbound_queue *queue) {
    struct outbound_host *host = queue->host;
    bk_list_remove(&queue->link);
    bk_list_push(has_place(queue) ? &queue->group->queues : &host->full, &queue->link);
    place_group(queue->group);
}

/* Those whose groups have their share are back in their rings, and the next has the place. */
static void call_one_back(struct outbound_host *host) {
    BK_LIST_FOR_EACH(node, &host->full) {
        struct outbound_queue *queue = bk_container_of(node, struct outbound_queue, link);
        if (!has_place(queue))
            continue;
        place_queue(queue);
        if (may_run(queue->group))
            break;
    }
}

/* It has its share: the places that its queues have in view are for others. */
static void leave_places(struct outbound_group *group) {
    BK_LIST_FOR_EACH(node, &group->queues)
        call_one_back(bk_container_of(node, struct outbound_queue, link)->host);
}

/* There is a place more: those who have their share may have another. They are no more than run. */
static void look_at_sated(struct outbound_lane *lane) {
    struct bk_list sated, *node;
    bk_list_init(&sated);
    while ((node = bk_list_pop(&lane->sated)) != NULL)
        bk_list_push(&sated, node);
    while ((node = bk_list_pop(&sated)) != NULL)
        place_group(bk_container_of(node, struct outbound_group, link));
}

/* A host has few groups as a rule, and as many as there are tenants at most. */
static struct outbound_queue *queue_of(struct outbound_group *group, struct outbound_host *host) {
    struct outbound_queue *queue;
    BK_LIST_FOR_EACH(node, &host->queues) {
        queue = bk_container_of(node, struct outbound_queue, of_host);
        if (queue->group == group)
            return queue;
    }
    queue = bk_alloc_zero(sizeof(*queue));
    queue->group = group;
    queue->host = host;
    bk_list_init(&queue->link);
    bk_list_init(&queue->waiting);
    bk_list_push(&host->queues, &queue->of_host);
    return queue;
}

/* A call has left it, or has ended. */
static void settle_queue(struct outbound_queue *queue) {
    struct outbound_group *group = queue->group;
    struct outbound_host *host = queue->host;
    if (bk_list_is_empty(&queue->waiting)) {
        bk_list_remove(&queue->link);
        if (queue->running_count == 0) {
            bk_list_remove(&queue->of_host);
            bk_free(queue);
        }
    }
    place_group(group);
    call_one_back(host);
    drop_host_if_empty(host);
}

void outbound_queue_add(struct outbound_lane *lane, struct bk_outbound_call *call,
                        struct bk_slice host_key) {
    struct outbound_host *host = host_of(lane, host_key);
    struct outbound_queue *queue = queue_of(call->group, host);
    call->host = host;
    call->host_hash = host->hash;
    call->queue = queue;
    if (bk_list_is_empty(&queue->waiting))
        place_queue(queue);
    bk_list_push(&queue->waiting, &call->link);
    lane->channel->waiting_count++;
}

static void leave_queue(struct bk_outbound_call *call) {
    struct bk_outbound_channel *channel = call->channel;
    BK_ASSERT(call->queue != NULL && channel->waiting_count > 0);
    channel->waiting_count--;
    bk_list_remove(&call->link);
}

void outbound_queue_remove(struct bk_outbound_call *call) {
    struct outbound_queue *queue = call->queue;
    leave_queue(call);
    call->host = NULL;
    call->queue = NULL;
    settle_queue(queue);
}

/* --- turns ------------------------------------------------------------------------------------ */

/* NULL: nobody is left who may. Groups that have their share by now, and queues whose host has
 * filled up since, are put aside on the way. */
static struct outbound_queue *next_queue(struct outbound_lane *lane) {
    while (!bk_list_is_empty(&lane->ready)) {
        struct outbound_group *group =
            bk_container_of(lane->ready.next, struct outbound_group, link);
        if (!may_run(group)) {
            bk_list_remove(&group->link);
            place_group(group);
            leave_places(group);
            continue;
        }
        struct outbound_queue *queue =
            bk_container_of(group->queues.next, struct outbound_queue, link);
        if (has_place(queue))
            return queue;
        place_queue(queue);
    }
    return NULL;
}

struct bk_outbound_call *outbound_queue_take(struct outbound_lane *lane) {
    struct outbound_queue *queue = next_queue(lane);
    if (queue == NULL)
        return NULL;
    struct outbound_group *group = queue->group;
    struct bk_outbound_call *call =
        bk_container_of(queue->waiting.next, struct bk_outbound_call, link);
    leave_queue(call);
    queue->running_count++;
    queue->host->running_count++;
    group->running_count++;
    lane->running_count++;
    bk_list_remove(&group->link); /* to the end of the ring, and its queue to the end of its own */
    if (!bk_list_is_empty(&queue->waiting))
        place_queue(queue);
    settle_queue(queue);
    if (!may_run(group))
        leave_places(group);
    return call;
}

void outbound_queue_release(struct bk_outbound_call *call) {
    struct outbound_lane *lane = call->host->lane;
    struct outbound_queue *queue = call->queue;
    BK_ASSERT(queue->running_count > 0 && queue->host->running_count > 0);
    BK_ASSERT(queue->group->running_count > 0);
    lane->running_count--;
    queue->running_count--;
    queue->host->running_count--;
    queue->group->running_count--;
    call->host = NULL;
    call->queue = NULL;
    settle_queue(queue);
    look_at_sated(lane);
}

static struct bk_outbound_call *first_waiting(const struct outbound_host *host) {
    BK_LIST_FOR_EACH(node, &host->queues) {
        const struct outbound_queue *queue = bk_container_of(node, struct outbound_queue, of_host);
        if (!bk_list_is_empty(&queue->waiting))
            return bk_container_of(queue->waiting.next, struct bk_outbound_call, link);
    }
    return NULL;
}

struct bk_outbound_call *outbound_queue_find(const struct bk_outbound_channel *channel) {
    struct bk_map_entry *entry;
    size_t cursor = 0;
    while ((entry = bk_map_next(&channel->hosts, &cursor)) != NULL) {
        struct bk_outbound_call *call = first_waiting(entry->value);
        if (call != NULL)
            return call;
    }
    return NULL;
}
