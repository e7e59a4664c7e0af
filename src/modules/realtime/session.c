/*
 * WebSocket connections.
 *
 *   accept ─> messages (message.c), events (fan_out.c, replay.c) ─> closed by either side
 *
 * A session is in the tenant of its handshake: the token's, or the one that is named, or "default".
 * Where the handshake said nothing, the first token that is sent decides (see message.c). When we
 * close one, its subscriptions end at once, and what the client sends after that is not heard.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"

static void on_message(struct bk_channel *channel, struct bk_slice message, bool is_binary) {
    struct realtime_session *session = channel->user;
    if (session->is_closing)
        return;
    if (is_binary)
        realtime_refuse(session, BK_SLICE_EMPTY, "binary_not_supported",
                        "Send each message as text: a JSON object.", NULL);
    else if (session->pending != NULL)
        realtime_pending_keep(session, message);
    else
        realtime_message(session, message);
}

static void on_drain(struct bk_channel *channel) {
    struct realtime_session *session = channel->user;
    if (session->peer.replay != NULL)
        realtime_replay_resume(session->peer.replay);
}

static void destroy(struct realtime_session *session) {
    struct realtime *realtime = session->peer.realtime;
    if (session->pending != NULL)
        realtime_pending_drop(session);
    realtime_peer_leave(&session->peer);
    bk_list_remove(&session->link);
    realtime->figures.sessions--;
    bk_free(session);
}

static void on_close(struct bk_channel *channel, int code) {
    (void)code;
    destroy(channel->user);
}

static const struct bk_channel_handler handler = {
    .on_message = on_message, .on_drain = on_drain, .on_close = on_close};

/* --- the handshake ---------------------------------------------------------------------------- */

static void join_viewer(struct realtime_session *session, struct bk_request *request) {
    struct realtime *realtime = session->peer.realtime;
    struct bk_slice token = bk_request_token(request);
    struct bk_tenant *home = NULL;
    if (request->actor.kind == BK_ACTOR_SYSTEM)
        token = BK_SLICE_EMPTY;
    else if (request->actor.kind != BK_ACTOR_GUEST)
        home = bk_tenant_hold_open(realtime->context->tenants, request->actor.tenant);
    realtime_viewer_join(&session->peer, &request->actor, token, home);
    if (home != NULL)
        bk_tenant_release(home);
}

void realtime_session_accept(struct bk_request *request, struct realtime *realtime) {
    struct bk_slice address = request->remote_address;
    BK_ASSERT(address.length <= UINT8_MAX);
    struct realtime_session *session = bk_alloc_zero(sizeof *session + address.length);
    session->peer.realtime = realtime;
    session->address_length = (uint8_t)address.length;
    if (address.length > 0)
        memcpy(session->address, address.data, address.length);
    session->is_bound =
        request->actor.kind != BK_ACTOR_GUEST || bk_request_named_tenant(request).length > 0;
    bk_list_init(&session->link);
    bk_list_push(&realtime->sessions, &session->link);
    realtime->figures.sessions++;
    realtime_peer_enter(&session->peer, request->tenant);
    join_viewer(session, request);
    enum bk_status status = bk_channel_accept(request, &handler, session, &session->channel);
    if (status == BK_OK)
        return;
    destroy(session);
    if (status == BK_NOT_SUPPORTED)
        bk_answer_error(request, status,
                        "WebSockets are not served here: ask without Upgrade for an event stream.");
}

/* --- sending ---------------------------------------------------------------------------------- */

void realtime_session_close(struct realtime_session *session, enum realtime_code code,
                            struct bk_slice reason) {
    if (session->is_closing)
        return;
    session->is_closing = true;
    realtime_unsubscribe_all(&session->peer);
    bk_channel_close(session->channel, (int)code, reason);
}

static enum bk_status judge(struct realtime_session *session, enum bk_status status) {
    if (status == BK_BUSY && !session->is_closing) {
        session->peer.realtime->figures.slow++;
        realtime_session_close(session, REALTIME_CODE_SLOW, BK_SLICE("slow consumer"));
    }
    return status;
}

enum bk_status realtime_session_send(struct realtime_session *session, struct bk_shared *frame) {
    if (session->is_closing)
        return BK_CLOSING;
    enum bk_status status = bk_channel_send_shared(session->channel, frame);
    session->peer.realtime->figures.frames += status == BK_OK;
    return judge(session, status);
}

void realtime_session_answer(struct realtime_session *session, struct bk_slice answer) {
    if (!session->is_closing)
        (void)judge(session, bk_channel_send(session->channel, answer, false));
}
