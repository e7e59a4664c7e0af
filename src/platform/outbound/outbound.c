/*
 * The part as the loop sees it: requests come in, go to a channel's queue (channel.c), from there
 * to a worker (worker.c), and come back through one mailbox.
 *
 *   submit ─> queued ─> with a worker ─> answered ─> done ─> its memory lives for one more turn
 *       │        └ cancel, close ─────────┐   ^
 *       └ a URL that has no meaning ──> ending┘
 *
 * done is never called inside of a call of the part: what ends without a worker ends in a task. A
 * request that is cancelled while a worker has it sends a second message after the first, and the
 * call is kept until both are back.
 *
 * libcurl is set up once in the process, before it has threads of ours, and never taken down: a
 * thread of its resolver may outlive everything.
 */
#include "outbound_private.h"

#include <stdio.h>
#include <stdlib.h>

enum { HOST_KEY_MAX_BYTES = 3 * BK_OUTBOUND_URL_MAX_BYTES /* percent-encoded at most */ };

/* --- life cycle ------------------------------------------------------------------------------- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void init_library(void) { BK_ASSERT(curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK); }

static void on_end(struct bk_task *task);
static void on_expire(struct bk_task *task);

struct bk_outbound *bk_outbound_create(struct bk_loop *loop) {
    struct bk_outbound *outbound = bk_alloc_zero(sizeof(*outbound));
    const char *ca_file = getenv("SSL_CERT_FILE");
    BK_ASSERT(pthread_once(&library_once, init_library) == 0);
    outbound->loop = loop;
    outbound->answers = bk_mailbox_create_for_loop(loop);
    bk_list_init(&outbound->channels);
    bk_list_init(&outbound->ending);
    bk_list_init(&outbound->answered);
    bk_list_init(&outbound->expired);
    bk_task_init(&outbound->end, on_end);
    bk_task_init(&outbound->expire, on_expire);
    if (ca_file != NULL && ca_file[0] != '\0') {
        size_t size = strlen(ca_file) + 1;
        outbound->ca_file = memcpy(bk_alloc(size), ca_file, size);
    }
    return outbound;
}

static void free_all(struct bk_list *calls) {
    struct bk_list *node;
    while ((node = bk_list_pop(calls)) != NULL)
        outbound_call_free(bk_container_of(node, struct bk_outbound_call, link));
}

void bk_outbound_destroy(struct bk_outbound *outbound) {
    if (outbound == NULL)
        return;
    BK_ASSERT(bk_list_is_empty(&outbound->channels));
    BK_ASSERT(bk_list_is_empty(&outbound->ending) && outbound->busy_count == 0);
    bk_task_cancel(&outbound->expire);
    free_all(&outbound->answered);
    free_all(&outbound->expired);
    bk_mailbox_close(outbound->answers);
    bk_mailbox_destroy(outbound->answers);
    bk_free(outbound->ca_file);
    bk_free(outbound);
}

void outbound_busy(struct bk_outbound *outbound, int change) {
    bool was_busy = outbound->busy_count > 0;
    BK_ASSERT(change > 0 || was_busy);
    outbound->busy_count = (uint32_t)((int)outbound->busy_count + change);
    if (was_busy != (outbound->busy_count > 0))
        bk_mailbox_set_keep_alive(outbound->answers, !was_busy);
}

/* --- calls ------------------------------------------------------------------------------------ */

void outbound_call_settle(struct bk_outbound_call *call, enum bk_outbound_failure failure,
                          const char *reason) {
    if (call->reason[0] != '\0')
        return;
    call->failure = failure;
    (void)snprintf(call->reason, sizeof(call->reason), "%s",
                   reason != NULL ? reason : outbound_failure_text(failure));
}

void outbound_call_free(struct bk_outbound_call *call) {
    BK_ASSERT(call->easy == NULL);
    curl_url_cleanup(call->url);
    bk_buffer_fini(&call->head);
    bk_buffer_fini(&call->body);
    bk_free(call);
}

static struct bk_outbound_call *create_call(struct bk_outbound_channel *channel,
                                            struct bk_outbound_request *request) {
    struct bk_outbound_call *call = bk_alloc_zero(sizeof(*call));
    call->channel = channel;
    call->request = request;
    bk_list_init(&call->link);
    atomic_init(&call->is_cancelled, false);
    atomic_init(&call->word, OUTBOUND_UNSAID);
    bk_buffer_init(&call->head, BK_OUTBOUND_HEAD_MAX_BYTES);
    bk_buffer_init(&call->body, request->smtp == NULL ? request->answer_max_bytes
                                                      : (size_t)BK_OUTBOUND_REPLY_MAX_BYTES);
    return call;
}

/* --- in --------------------------------------------------------------------------------------- */

static bool is_sendable(const struct bk_outbound_request *request) {
    return request->smtp != NULL ? outbound_mail_is_sendable(request->smtp)
                                 : outbound_web_is_sendable(request);
}

static void queue_call(struct bk_outbound_call *call) {
    const struct bk_smtp *smtp = call->request->smtp;
    enum bk_outbound_failure failure = BK_OUTBOUND_URL;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_buffer key;
    enum bk_status status;
    if (smtp != NULL) {
        call->is_plain = smtp->security == BK_SMTP_PLAIN;
        status = outbound_mail_url(smtp, &call->url, &error);
    } else {
        status =
            outbound_url_parse(call->request->url, &call->url, &call->is_plain, &failure, &error);
    }
    if (status != BK_OK) {
        outbound_call_settle(call, failure, error.message);
        outbound_end_later(call);
        return;
    }
    call->domain_hash = outbound_url_domain_hash(call->url, &call->has_address);
    bk_buffer_init(&key, HOST_KEY_MAX_BYTES);
    outbound_url_host_key(&key, call->url, smtp);
    bk_buffer_insist(&key);
    outbound_channel_queue(call->channel, call, bk_buffer_slice(&key));
    bk_buffer_fini(&key);
}

enum bk_status bk_outbound_submit(struct bk_outbound_channel *channel,
                                  struct bk_outbound_request *request) {
    struct outbound_lane *lane = outbound_lane_of(channel, request);
    BK_ASSERT(bk_loop_is_current(channel->outbound->loop));
    BK_ASSERT(request->done != NULL && request->call == NULL);
    BK_ASSERT(request->smtp != NULL || request->method != NULL);
    if (channel->is_closing)
        return BK_CLOSING;
    if (!is_sendable(request))
        return BK_INVALID;
    if (channel->call_count >= BK_OUTBOUND_QUEUE_MAX ||
        outbound_group_is_full(lane, request->group))
        return BK_BUSY;
    request->call = create_call(channel, request);
    outbound_group_join(lane, request->call);
    channel->call_count++;
    channel->figures.requests++;
    outbound_busy(channel->outbound, 1);
    queue_call(request->call);
    return BK_OK;
}

void bk_outbound_cancel(struct bk_outbound_request *request) {
    struct bk_outbound_call *call = request->call;
    if (call == NULL || call->channel->is_closing || atomic_load(&call->is_cancelled))
        return;
    BK_ASSERT(bk_loop_is_current(call->channel->outbound->loop));
    atomic_store(&call->is_cancelled, true);
    if (call->worker != NULL) {
        call->is_cancel_out = true;
        outbound_busy(call->channel->outbound, 1);
        outbound_worker_cancel(call->worker, call);
    } else if (call->queue != NULL) {
        outbound_queue_remove(call);
        outbound_call_settle(call, BK_OUTBOUND_CANCELLED, NULL);
        outbound_end_later(call);
    }
}

/* Who comes first decides: the worker, which says it, or the loop, which takes it back. */
static bool change_word(struct bk_outbound_call *call, enum outbound_word word) {
    int unsaid = OUTBOUND_UNSAID;
    return atomic_compare_exchange_strong(&call->word, &unsaid, word) || unsaid == (int)word;
}

bool outbound_call_say(struct bk_outbound_call *call) { return change_word(call, OUTBOUND_SAID); }

void bk_outbound_withdraw(struct bk_outbound_request *request) {
    if (request->call != NULL && change_word(request->call, OUTBOUND_WITHDRAWN))
        bk_outbound_cancel(request);
}

/* --- out -------------------------------------------------------------------------------------- */

static void fill_answer(struct bk_outbound_request *request, const struct bk_outbound_call *call) {
    request->failure = call->failure;
    request->status = call->status;
    request->answer = bk_buffer_slice(&call->body);
    request->head = bk_buffer_slice(&call->head);
    request->was_cut = call->was_cut;
    request->reason = bk_slice_from(call->reason);
    request->duration_us = call->duration_us;
    request->was_reused = call->was_reused;
    request->call = NULL;
}

static void count_end(struct bk_outbound_figures *figures, const struct bk_outbound_call *call) {
    if (call->failure != BK_OUTBOUND_OK)
        figures->failures++;
    if (call->failure == BK_OUTBOUND_BLOCKED)
        figures->blocked++;
    figures->bytes_sent += call->sent_bytes;
    figures->bytes_received += call->received_bytes;
}

/* Two turns, since done may defer to the end of this one. */
static void expire_later(struct bk_outbound *outbound, struct bk_outbound_call *call) {
    bk_list_push(&outbound->answered, &call->link);
    bk_loop_defer_last(outbound->loop, &outbound->expire);
}

static void on_expire(struct bk_task *task) {
    struct bk_outbound *outbound = bk_container_of(task, struct bk_outbound, expire);
    struct bk_list *node;
    free_all(&outbound->expired);
    while ((node = bk_list_pop(&outbound->answered)) != NULL)
        bk_list_push(&outbound->expired, node);
    if (!bk_list_is_empty(&outbound->expired))
        bk_loop_defer_last(outbound->loop, &outbound->expire);
}

/* The request is the caller's again, and may be gone when done returns. */
static void deliver(struct bk_outbound_call *call) {
    struct bk_outbound_channel *channel = call->channel;
    struct bk_outbound *outbound = channel->outbound;
    struct bk_outbound_request *request = call->request;
    BK_ASSERT(request != NULL && request->call == call);
    count_end(&channel->figures, call);
    fill_answer(request, call);
    call->request = NULL;
    if (!call->is_cancel_out)
        expire_later(outbound, call);
    outbound_group_leave(call);
    request->done(request);
    BK_ASSERT(channel->call_count > 0);
    channel->call_count--;
    outbound_busy(outbound, -1);
    outbound_channel_note_end(channel);
}

void outbound_end_later(struct bk_outbound_call *call) {
    struct bk_outbound *outbound = call->channel->outbound;
    bk_list_push(&outbound->ending, &call->link);
    bk_loop_defer(outbound->loop, &outbound->end);
}

static void on_end(struct bk_task *task) {
    struct bk_outbound *outbound = bk_container_of(task, struct bk_outbound, end);
    struct bk_list *node;
    while ((node = bk_list_pop(&outbound->ending)) != NULL)
        deliver(bk_container_of(node, struct bk_outbound_call, link));
}

void outbound_on_answered(struct bk_message *message) {
    struct bk_outbound_call *call = bk_container_of(message, struct bk_outbound_call, message);
    call->is_answered = true;
    outbound_channel_release(call);
    deliver(call);
}

void outbound_on_cancel_returned(struct bk_message *message) {
    struct bk_outbound_call *call = bk_container_of(message, struct bk_outbound_call, cancel);
    struct bk_outbound *outbound = call->channel->outbound;
    BK_ASSERT(call->is_cancel_out);
    call->is_cancel_out = false;
    if (call->is_answered)
        expire_later(outbound, call);
    outbound_busy(outbound, -1);
}

struct bk_slice bk_outbound_answer_header(const struct bk_outbound_request *request,
                                          struct bk_slice name) {
    struct bk_slice line, rest = request->head;
    while (bk_slice_split(&rest, '\n', &line)) {
        size_t colon = bk_slice_find(line, ':');
        if (colon == line.length ||
            !bk_slice_equal_ignore_case(bk_slice_make(line.data, colon), name))
            continue;
        return bk_slice_trim(bk_slice_make(line.data + colon + 1, line.length - colon - 1));
    }
    return BK_SLICE_EMPTY;
}

/* --- figures ---------------------------------------------------------------------------------- */

size_t bk_outbound_figures(struct bk_outbound *outbound, struct bk_outbound_figures *figures,
                           size_t count) {
    size_t filled = 0;
    BK_LIST_FOR_EACH(node, &outbound->channels) {
        struct bk_outbound_channel *channel =
            bk_container_of(node, struct bk_outbound_channel, link);
        if (filled == count)
            break;
        figures[filled] = channel->figures;
        figures[filled].waiting = channel->waiting_count;
        figures[filled].running = channel->lanes[OUTBOUND_WEB].running_count +
                                  channel->lanes[OUTBOUND_MAIL].running_count;
        figures[filled].connections = (uint32_t)atomic_load(&channel->open_count);
        figures[filled].connections_opened = atomic_load(&channel->opened_count);
        filled++;
    }
    return filled;
}
