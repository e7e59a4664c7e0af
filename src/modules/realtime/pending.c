/*
 * Messages that take time: a token whose tenant has to be opened, a subscription that begins at a
 * time (which only the journal can turn into a place). What the client sends meanwhile is kept, in
 * order, and handled afterwards, so that nobody has to wait for an answer before going on.
 *
 * During a look-up of a time the session's other subscriptions go on as they are.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"

enum { KEPT_BYTES_MAX = 256 * 1024, LOOKUP_BYTES_MAX = 512 * 1024 };

struct realtime_pending {
    struct realtime_session *session; /* NULL: it is gone */
    struct realtime *realtime;
    struct bk_arena arena; /* of the texts */
    struct bk_slice id, token;
    struct realtime_request request;
    struct bk_buffer kept; /* messages, each behind its length */
    struct bk_tenant_hold hold;
    struct bk_feed_read read;
    struct bk_buffer page;
};

static struct realtime_pending *begin(struct realtime_session *session, struct bk_slice id) {
    struct realtime_pending *pending = bk_alloc_zero(sizeof *pending);
    BK_ASSERT(session->pending == NULL);
    pending->session = session;
    pending->realtime = session->peer.realtime;
    bk_arena_init(&pending->arena, KEPT_BYTES_MAX);
    bk_buffer_init(&pending->kept, KEPT_BYTES_MAX);
    bk_buffer_init(&pending->page, LOOKUP_BYTES_MAX);
    pending->id = bk_arena_copy(&pending->arena, id);
    session->pending = pending;
    return pending;
}

void realtime_pending_keep(struct realtime_session *session, struct bk_slice message) {
    struct bk_buffer *kept = &session->pending->kept;
    uint32_t length = (uint32_t)message.length;
    bk_buffer_append(kept, &length, sizeof length);
    bk_buffer_append_slice(kept, message);
    if (kept->is_overflown)
        realtime_session_close(session, REALTIME_CODE_MISUSE,
                               BK_SLICE("too many messages before an answer"));
}

void realtime_pending_drop(struct realtime_session *session) {
    session->pending->session = NULL;
    session->pending = NULL;
}

static void destroy(struct realtime_pending *pending) {
    bk_event_filter_unref(pending->request.filter);
    bk_arena_fini(&pending->arena);
    bk_buffer_fini(&pending->kept);
    bk_buffer_fini(&pending->page);
    bk_free(pending);
}

/* Handles what was kept; another message that takes time takes the rest over. */
static void handle_kept(struct realtime_session *session, struct bk_slice kept) {
    while (kept.length > 0 && !session->is_closing) {
        uint32_t length;
        memcpy(&length, kept.data, sizeof length);
        struct bk_slice message = bk_slice_make(kept.data + sizeof length, length);
        if (session->pending != NULL)
            realtime_pending_keep(session, message);
        else
            realtime_message(session, message);
        kept = bk_slice_make(message.data + length, kept.length - sizeof length - length);
    }
}

static void finish(struct realtime_pending *pending) {
    if (pending->session != NULL && !pending->kept.is_overflown)
        handle_kept(pending->session, bk_buffer_slice(&pending->kept));
    destroy(pending);
}

/* The session when it is still to be answered; it has no pending message any more. */
static struct realtime_session *session_of(struct realtime_pending *pending) {
    struct realtime_session *session = pending->session;
    if (session == NULL)
        return NULL;
    session->pending = NULL;
    if (session->is_closing)
        pending->session = NULL;
    return pending->session;
}

/* --- a tenant --------------------------------------------------------------------------------- */

static void on_held(struct bk_tenant_hold *hold, enum bk_status status) {
    struct realtime_pending *pending = bk_container_of(hold, struct realtime_pending, hold);
    struct realtime_session *session = session_of(pending);
    if (session != NULL && status == BK_OK)
        realtime_auth_in(session, pending->id, pending->token, hold->tenant);
    else if (session != NULL)
        realtime_refuse(session, pending->id, "unavailable",
                        "The token's tenant cannot be opened now: send it again in a moment.",
                        NULL);
    if (status == BK_OK)
        bk_tenant_release(hold->tenant);
    finish(pending);
}

void realtime_pending_auth(struct realtime_session *session, struct bk_slice id,
                           struct bk_slice token, struct bk_slice tenant) {
    struct realtime_pending *pending = begin(session, id);
    pending->token = bk_arena_copy(&pending->arena, token);
    pending->hold.done = on_held;
    bk_tenant_hold(pending->realtime->context->tenants, bk_arena_copy(&pending->arena, tenant),
                   &pending->hold);
}

/* --- a time ----------------------------------------------------------------------------------- */

static void on_looked_up(struct bk_feed_read *read, enum bk_status status) {
    struct realtime_pending *pending = bk_container_of(read, struct realtime_pending, read);
    struct realtime_session *session = session_of(pending);
    struct bk_tenant *tenant = read->tenant;
    if (session != NULL && status == BK_OK)
        realtime_subscribe_at(session, pending->id, &pending->request, read->first_sequence - 1);
    else if (session != NULL && read->problem == BK_FEED_CURSOR_INVALID)
        realtime_refuse(session, pending->id, "cursor_invalid", "after: not a time.", "after");
    else if (session != NULL)
        realtime_refuse(session, pending->id, "unavailable",
                        "after: the time cannot be looked up now: send it again in a moment.",
                        "after");
    finish(pending);
    bk_tenant_release(tenant);
}

static void copy_request(struct realtime_pending *pending, const struct realtime_request *request) {
    struct bk_slice *types =
        bk_arena_alloc(&pending->arena, (request->type_count + 1) * sizeof(struct bk_slice));
    pending->request = *request;
    for (size_t i = 0; i < request->type_count; i++)
        types[i] = bk_arena_copy(&pending->arena, request->types[i]);
    pending->request.types = types;
    pending->request.subject = bk_arena_copy(&pending->arena, request->subject);
    if (request->filter != NULL)
        pending->request.filter = bk_event_filter_ref(request->filter);
}

void realtime_pending_time(struct realtime_session *session, struct bk_slice id,
                           const struct realtime_request *request, struct bk_slice after) {
    struct realtime_pending *pending = begin(session, id);
    copy_request(pending, request);
    pending->read.tenant = session->peer.tenant->tenant;
    bk_tenant_ref(pending->read.tenant);
    /* Of the page only its beginning matters. */
    pending->read.query.after = bk_arena_copy(&pending->arena, after);
    pending->read.query.limit = 1;
    pending->read.events = &pending->page;
    pending->read.done = on_looked_up;
    bk_feed_read(pending->realtime->context->feed, &pending->read);
}
