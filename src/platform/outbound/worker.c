/*
 * A worker: a thread with a multi of libcurl, which runs the calls that the loop hands it.
 *
 *   loop ── take, cancel, stop (inbox) ──> worker ── answers (the loop's mailbox) ──> loop
 *
 * A round: messages are taken, what waits is begun, libcurl works, what has ended goes back, and
 * the worker sleeps in curl_multi_poll until a socket, a timer or a message (curl_multi_wakeup)
 * wants it. With nothing to do for IDLE_CLOSE_MS it gives up its multi, and with it all connections
 * and caches and its spare handles, and sleeps on its inbox. libcurl's sockets are not watched by
 * events (curl_multi_socket_action): with 7.88 a name that is never resolved had no end then.
 *
 * A multi belongs to one worker, and a worker to one channel: nothing is shared between channels,
 * so a connection that was opened for one is never used by another.
 *
 * Mail has workers of its own with one call each, since libcurl waits for the last reply of a mail
 * (and for that to QUIT) with the thread: a server that thinks about a mail holds up one worker. It
 * is woken by ending its sockets (gate.c). All connections that such a worker keeps are to one
 * server, with one kind of security: libcurl would take a plain one for a mail that asks for
 * STARTTLS.
 *
 * libcurl resolves each name in a thread of its own making. A worker has at most
 * OUTBOUND_RESOLVING_MAX of these at a time, and few for names of one domain, whose name servers
 * may never answer. When a call ends while its name is being resolved, the thread goes on, unknown
 * to libcurl, for as long as the system's resolver is patient: it counts for GHOST_MS more. A call
 * that finds no room is put aside and tries again, for as long as it might have tried to connect.
 */
#include "outbound_private.h"

#include "bakend/clock.h"

enum {
    IDLE_CLOSE_MS = 30000,
    GHOST_MS = 15000, /* five seconds a try is the resolver's default, and it tries twice */
    CROWDED_MS = 200, /* how soon those who were put aside try again, if none became free */
    CROWDED_PATIENCE_MS = 5000, /* the default of the connect timeout */
    INBOX_MAX = 65536,          /* bounded by the channel's queue long before */
    NS_PER_MS = 1000000
};

/* --- messages, on the loop -------------------------------------------------------------------- */

/* A wake is a system call, so only a worker that sleeps is woken. It says that it will before it
 * looks at its inbox for the last time (doze), and this looks at that behind the post: one of the
 * two sees the other. */
static void send_message(struct outbound_worker *worker, struct bk_message *message) {
    BK_ASSERT(bk_mailbox_post(worker->inbox, message) == BK_OK);
    if (!atomic_exchange(&worker->is_asleep, false))
        return;
    (void)pthread_mutex_lock(&worker->mutex);
    if (worker->multi != NULL)
        (void)curl_multi_wakeup(worker->multi);
    (void)pthread_mutex_unlock(&worker->mutex);
}

static void on_taken(struct bk_message *message) {
    struct bk_outbound_call *call = bk_container_of(message, struct bk_outbound_call, message);
    bk_list_push(&call->worker->waiting, &call->link);
}

void outbound_worker_take(struct outbound_worker *worker, struct bk_outbound_call *call) {
    call->worker = worker;
    call->message.on_message = on_taken;
    send_message(worker, &call->message);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void answer(struct outbound_worker *worker, struct bk_outbound_call *call) {
    bk_list_remove(&call->link);
    call->message.on_message = outbound_on_answered;
    bk_list_push(&worker->ended, &call->link);
}

/* All that ended in a round at once: the loop wakes for the first, and finds the others there. */
static void post_answers(struct outbound_worker *worker) {
    struct bk_list *node;
    while ((node = bk_list_pop(&worker->ended)) != NULL) {
        struct bk_outbound_call *call = bk_container_of(node, struct bk_outbound_call, link);
        BK_ASSERT(bk_mailbox_post(worker->channel->outbound->answers, &call->message) == BK_OK);
    }
}

/* --- names ------------------------------------------------------------------------------------ */

bool outbound_worker_begin_resolving(struct bk_outbound_call *call) {
    struct outbound_worker *worker = call->worker;
    uint64_t now_ns = bk_clock_monotonic_ns();
    uint32_t of_domain = 0, place = 0;
    if (call->has_address)
        return true;
    for (uint32_t i = 0; i < BK_COUNT_OF(worker->resolving); i++) {
        if (worker->resolving[i].until_ns <= now_ns)
            place = i + 1;
        else
            of_domain += worker->resolving[i].domain_hash == call->domain_hash;
    }
    call->is_crowded = place == 0 || of_domain >= OUTBOUND_RESOLVING_PER_DOMAIN_MAX;
    if (call->is_crowded)
        return false;
    worker->resolving[place - 1].domain_hash = call->domain_hash;
    worker->resolving[place - 1].until_ns = UINT64_MAX;
    call->resolving_place = place;
    return true;
}

static void free_resolving(struct bk_outbound_call *call, uint64_t until_ns) {
    struct outbound_worker *worker = call->worker;
    if (call->resolving_place == 0)
        return;
    worker->resolving[call->resolving_place - 1].until_ns = until_ns;
    call->resolving_place = 0;
    worker->crowded_until_ns = 0;
}

void outbound_worker_end_resolving(struct bk_outbound_call *call) { free_resolving(call, 0); }

/* A resolver that failed has ended; one that was left behind has not. */
static void leave_resolver(struct bk_outbound_call *call, CURLcode code) {
    uint64_t ghost_ns = bk_clock_monotonic_ns() + (uint64_t)GHOST_MS * NS_PER_MS;
    free_resolving(call, code == CURLE_COULDNT_RESOLVE_HOST ? 0 : ghost_ns);
}

/* As long as it might have tried to connect. */
static bool may_try_again(struct bk_outbound_call *call) {
    uint32_t patience_ms = call->request->connect_timeout_ms;
    uint64_t now_ns = bk_clock_monotonic_ns();
    if (!call->is_crowded)
        return false;
    if (call->crowded_since_ns == 0)
        call->crowded_since_ns = now_ns;
    if (patience_ms == 0)
        patience_ms = CROWDED_PATIENCE_MS;
    return now_ns - call->crowded_since_ns < (uint64_t)patience_ms * NS_PER_MS;
}

/* Others pass it meanwhile: who has a connection, or a name that is known. */
static void put_aside(struct outbound_worker *worker, struct bk_outbound_call *call) {
    (void)curl_multi_remove_handle(worker->multi, call->easy);
    outbound_transfer_release(call);
    worker->running_total--;
    call->is_crowded = false;
    bk_list_remove(&call->link);
    if (bk_list_is_empty(&worker->crowded))
        worker->crowded_until_ns = bk_clock_monotonic_ns() + (uint64_t)CROWDED_MS * NS_PER_MS;
    bk_list_push(&worker->crowded, &call->link);
}

static void call_crowded_back(struct outbound_worker *worker) {
    struct bk_list *node;
    if (bk_list_is_empty(&worker->crowded) || bk_clock_monotonic_ns() < worker->crowded_until_ns)
        return;
    while ((node = bk_list_pop(&worker->crowded)) != NULL)
        bk_list_push(&worker->waiting, node);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void end_transfer(struct outbound_worker *worker, struct bk_outbound_call *call,
                         CURLcode code) {
    (void)curl_multi_remove_handle(worker->multi, call->easy);
    leave_resolver(call, code);
    outbound_transfer_conclude(call, code);
    outbound_transfer_release(call);
    BK_ASSERT(worker->running_total > 0);
    worker->running_total--;
    answer(worker, call);
}

/* When a mail is taken from it half-way, libcurl writes the end of the mail: into a socket that is
 * ended, so that nobody takes the half for the whole. */
static void cancel_call(struct outbound_worker *worker, struct bk_outbound_call *call,
                        const char *reason) {
    outbound_call_settle(call, BK_OUTBOUND_CANCELLED, reason);
    if (call->request->smtp != NULL)
        outbound_gate_end(call);
    if (call->easy != NULL)
        end_transfer(worker, call, CURLE_ABORTED_BY_CALLBACK);
    else
        answer(worker, call);
}

/* The call may have ended since: then it is on its way back, and that is all. */
static void on_cancelled(struct bk_message *message) {
    struct bk_outbound_call *call = bk_container_of(message, struct bk_outbound_call, cancel);
    struct outbound_worker *worker = call->worker;
    if (call->message.on_message == on_taken)
        cancel_call(worker, call, NULL);
    call->cancel.on_message = outbound_on_cancel_returned;
    BK_ASSERT(bk_mailbox_post(worker->channel->outbound->answers, &call->cancel) == BK_OK);
}

/* One that waits for a reply with its thread has but this call: its sockets are to wake it. */
void outbound_worker_cancel(struct outbound_worker *worker, struct bk_outbound_call *call) {
    call->cancel.on_message = on_cancelled;
    send_message(worker, &call->cancel);
    if (call->request->smtp != NULL)
        outbound_gate_interrupt(worker);
}

/* --- the multi -------------------------------------------------------------------------------- */

static void set_multi_limits(CURLM *multi, const struct bk_outbound_channel *channel) {
    const struct outbound_lane *lane = &channel->lanes[OUTBOUND_WEB];
    long connections = (long)channel->policy.connections_max;
    long per_host = (long)channel->policy.connections_per_host_max;
    BK_ASSERT(lane->running_max > 0);
    BK_ASSERT(curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections) == CURLM_OK);
    BK_ASSERT(curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, per_host) == CURLM_OK);
    BK_ASSERT(curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, connections) == CURLM_OK);
    BK_ASSERT(curl_multi_setopt(multi, CURLMOPT_PIPELINING,
                                channel->policy.multiplexes ? (long)CURLPIPE_MULTIPLEX
                                                            : (long)CURLPIPE_NOTHING) == CURLM_OK);
}

static void ensure_multi(struct outbound_worker *worker) {
    CURLM *multi;
    if (worker->multi != NULL)
        return;
    multi = curl_multi_init();
    if (multi == NULL)
        bk_alloc_give_up(sizeof(worker));
    set_multi_limits(multi, worker->channel);
    (void)pthread_mutex_lock(&worker->mutex);
    worker->multi = multi;
    (void)pthread_mutex_unlock(&worker->mutex);
}

/* The sockets are ended first: libcurl says QUIT to an SMTP server, and waits for its word. */
static void drop_multi(struct outbound_worker *worker) {
    CURLM *multi = worker->multi;
    BK_ASSERT(worker->running_total == 0);
    if (multi == NULL)
        return;
    (void)pthread_mutex_lock(&worker->mutex);
    worker->multi = NULL;
    (void)pthread_mutex_unlock(&worker->mutex);
    outbound_gate_interrupt(worker);
    BK_ASSERT(curl_multi_cleanup(multi) == CURLM_OK);
    outbound_transfers_forget(worker);
}

/* --- a round ---------------------------------------------------------------------------------- */

/* One to the same server, with the same kind of security, which has not said good-bye: libcurl
 * would use any that is not closed on both sides. */
static bool may_keep_connection(struct outbound_worker *worker,
                                const struct bk_outbound_call *call) {
    return call->host_hash == worker->mail_hash && outbound_gate_is_quiet(worker);
}

static void begin_call(struct outbound_worker *worker, struct bk_outbound_call *call) {
    bk_list_remove(&call->link);
    bk_list_push(&worker->running, &call->link);
    if (call->request->smtp != NULL && worker->running_total == 0 &&
        !may_keep_connection(worker, call))
        drop_multi(worker);
    worker->mail_hash = call->host_hash;
    ensure_multi(worker);
    if (!outbound_transfer_prepare(call)) {
        outbound_transfer_release(call);
        answer(worker, call);
        return;
    }
    if (curl_multi_add_handle(worker->multi, call->easy) != CURLM_OK) {
        outbound_call_settle(call, BK_OUTBOUND_CONNECT, "there was no memory for the request");
        outbound_transfer_release(call);
        answer(worker, call);
        return;
    }
    worker->running_total++;
}

static void begin_waiting(struct outbound_worker *worker) {
    struct bk_list *node;
    call_crowded_back(worker);
    while ((node = bk_list_pop(&worker->waiting)) != NULL)
        begin_call(worker, bk_container_of(node, struct bk_outbound_call, link));
}

static void collect_ended(struct outbound_worker *worker) {
    struct bk_outbound_call *call;
    CURLMsg *message;
    int left_count;
    while ((message = curl_multi_info_read(worker->multi, &left_count)) != NULL) {
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        BK_ASSERT(curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call) == CURLE_OK);
        if (may_try_again(call))
            put_aside(worker, call);
        else
            end_transfer(worker, call, code);
    }
}

static void work(struct outbound_worker *worker) {
    int running_count;
    begin_waiting(worker);
    if (worker->multi == NULL)
        return;
    BK_ASSERT(curl_multi_perform(worker->multi, &running_count) == CURLM_OK);
    collect_ended(worker);
}

static int crowded_wait_ms(const struct outbound_worker *worker, uint64_t now_ns) {
    if (worker->crowded_until_ns <= now_ns)
        return 0;
    return (int)((worker->crowded_until_ns - now_ns) / NS_PER_MS) + 1;
}

/* -1: it was idle for so long that its connections go. */
static int wait_ms(struct outbound_worker *worker) {
    uint64_t now_ns = bk_clock_monotonic_ns(), idle_ms;
    bool is_crowded = !bk_list_is_empty(&worker->crowded);
    if (worker->running_total > 0 || is_crowded)
        worker->idle_since_ns = now_ns;
    if (is_crowded)
        return crowded_wait_ms(worker, now_ns);
    idle_ms = (now_ns - worker->idle_since_ns) / NS_PER_MS;
    return idle_ms >= IDLE_CLOSE_MS ? -1 : (int)(IDLE_CLOSE_MS - idle_ms);
}

static void doze(struct outbound_worker *worker, int timeout_ms) {
    atomic_store(&worker->is_asleep, true);
    if (bk_mailbox_length(worker->inbox) > 0)
        timeout_ms = 0;
    (void)curl_multi_poll(worker->multi, NULL, 0, timeout_ms, NULL);
    atomic_store(&worker->is_asleep, false);
}

static void sleep_until_wanted(struct outbound_worker *worker) {
    int timeout_ms;
    if (worker->multi == NULL)
        return;
    timeout_ms = wait_ms(worker);
    if (timeout_ms < 0)
        drop_multi(worker);
    else
        doze(worker, timeout_ms);
}

/* Without a multi there is nothing but the inbox to wait for. */
static void take_messages(struct outbound_worker *worker) {
    bool waits_here = worker->multi == NULL;
    struct bk_message *message = bk_mailbox_take_all(worker->inbox, waits_here ? -1 : 0);
    if (message != NULL)
        worker->idle_since_ns = bk_clock_monotonic_ns();
    while (message != NULL) {
        struct bk_message *next = message->next;
        message->on_message(message);
        message = next;
    }
}

static void cancel_all(struct outbound_worker *worker, struct bk_list *calls) {
    while (!bk_list_is_empty(calls))
        cancel_call(worker, bk_container_of(calls->next, struct bk_outbound_call, link),
                    OUTBOUND_CLOSING_TEXT);
}

static void worker_main(void *argument) {
    struct outbound_worker *worker = argument;
    for (;;) {
        take_messages(worker);
        if (worker->is_stopping)
            break;
        post_answers(worker); /* of what was cancelled: a mail may hold up the rest */
        work(worker);
        post_answers(worker);
        sleep_until_wanted(worker);
    }
    cancel_all(worker, &worker->running);
    cancel_all(worker, &worker->waiting);
    cancel_all(worker, &worker->crowded);
    post_answers(worker);
    drop_multi(worker);
    BK_ASSERT(bk_mailbox_post(worker->channel->outbound->answers, &worker->stop) == BK_OK);
}

/* --- life cycle, on the loop ------------------------------------------------------------------ */

struct outbound_worker *outbound_worker_start(struct bk_outbound_channel *channel) {
    struct outbound_worker *worker = bk_alloc_zero(sizeof(*worker));
    worker->channel = channel;
    worker->inbox = bk_mailbox_create_for_thread(INBOX_MAX);
    BK_ASSERT(pthread_mutex_init(&worker->mutex, NULL) == 0);
    atomic_init(&worker->is_ending, false);
    atomic_init(&worker->is_asleep, false);
    bk_list_init(&worker->waiting);
    bk_list_init(&worker->running);
    bk_list_init(&worker->crowded);
    bk_list_init(&worker->ended);
    worker->thread = bk_thread_start("outbound", worker_main, worker);
    return worker;
}

static void on_stopped(struct bk_message *message) {
    struct outbound_worker *worker = bk_container_of(message, struct outbound_worker, stop);
    struct bk_outbound_channel *channel = worker->channel;
    bk_thread_join(worker->thread);
    bk_mailbox_close(worker->inbox);
    bk_mailbox_destroy(worker->inbox);
    (void)pthread_mutex_destroy(&worker->mutex);
    BK_ASSERT(worker->socket_count == 0);
    bk_free(worker->sockets);
    bk_free(worker);
    BK_ASSERT(channel->stopping_count > 0);
    channel->stopping_count--;
    outbound_busy(channel->outbound, -1);
    outbound_channel_note_end(channel);
}

/* On the worker. */
static void on_stop(struct bk_message *message) {
    struct outbound_worker *worker = bk_container_of(message, struct outbound_worker, stop);
    worker->is_stopping = true;
    worker->stop.on_message = on_stopped;
}

void outbound_worker_stop(struct outbound_worker *worker) {
    worker->channel->stopping_count++;
    outbound_busy(worker->channel->outbound, 1);
    worker->stop.on_message = on_stop;
    atomic_store(&worker->is_ending, true);
    send_message(worker, &worker->stop);
    outbound_gate_interrupt(worker);
}
