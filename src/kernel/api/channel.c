/*
 * Message channels: what modules and a transport have in common, and messages that go to many. The
 * transport does the rest.
 */
#include "api_private.h"

#include "bakend/alloc.h"

enum { SWITCHING_PROTOCOLS = 101, NORMAL_CLOSE_MIN = 1000, CLOSE_CODE_MAX = 4999 };

enum bk_status bk_channel_accept(struct bk_request *request,
                                 const struct bk_channel_handler *handler, void *user,
                                 struct bk_channel **channel) {
    BK_ASSERT(!request->is_answered);
    BK_ASSERT(handler->on_message != NULL && handler->on_close != NULL);
    if (request->responder->channel_accept == NULL)
        return BK_NOT_SUPPORTED;
    enum bk_status status = request->responder->channel_accept(request, handler, user, channel);
    if (status != BK_OK)
        return status;
    request->status = SWITCHING_PROTOCOLS;
    request->is_answered = true;
    api_answer_count(request);
    api_request_end(request);
    request->responder->channel_accepted(request);
    return BK_OK;
}

enum bk_status bk_channel_send(struct bk_channel *channel, struct bk_slice message,
                               bool is_binary) {
    return channel->operations->send(channel, message, is_binary);
}

enum bk_status bk_channel_send_shared(struct bk_channel *channel, struct bk_shared *text) {
    return channel->operations->send_shared(channel, text);
}

size_t bk_channel_queued_bytes(const struct bk_channel *channel) {
    return channel->operations->queued_bytes(channel);
}

void bk_channel_close(struct bk_channel *channel, int code, struct bk_slice reason) {
    BK_ASSERT(code >= NORMAL_CLOSE_MIN && code <= CLOSE_CODE_MAX);
    channel->operations->close(channel, code, reason);
}

/* --- messages that go to many ----------------------------------------------------------------- */

struct bk_shared *bk_shared_create(const struct bk_slice *parts, size_t count) {
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += parts[i].length;
    struct bk_shared *shared = bk_alloc(sizeof *shared + BK_SHARED_HEAD_BYTES + length);
    *shared = (struct bk_shared){.reference_count = 1, .length = length};
    char *cursor = shared->room + BK_SHARED_HEAD_BYTES;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].length > 0)
            memcpy(cursor, parts[i].data, parts[i].length);
        cursor += parts[i].length;
    }
    return shared;
}

struct bk_shared *bk_shared_ref(struct bk_shared *shared) {
    BK_ASSERT(shared->reference_count > 0);
    shared->reference_count++;
    return shared;
}

void bk_shared_unref(struct bk_shared *shared) {
    if (shared == NULL)
        return;
    BK_ASSERT(shared->reference_count > 0);
    if (--shared->reference_count == 0)
        bk_free(shared);
}
