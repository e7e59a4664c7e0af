/*
 * Viewers: who looks. All connections of one token share one viewer, all guests of a tenant another
 * one. What a viewer may see is decided per event, as of now (judge.c): a record event by the rules
 * of its collection (list for those who ask by type, view for those who ask for this very record),
 * any other by the scope events:read.
 *
 * A token that is over ends the connections that came with it: WebSockets with 4501, streams just
 * end, and their clients come back as who they are by then. Where the record has changed or gone,
 * a stream becomes a guest's instead, as in the contract. It is over
 *
 *   when the authenticator says so (a session ended, a key was deleted), at once
 *   when it expires: whose time comes first is known, and the tick looks
 *   when it does not pass any more: it is judged again when its record or key changes, which the
 *   bus tells when the caches have forgotten it, and once a minute, for what nobody tells
 *
 * Who may more or less than before stays connected, and sees more or less from then on.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

enum { CHECK_MS = 60000, CHECKS_PER_TICK = 200, ARENA_BYTES = 64 * 1024 };

/* --- who -------------------------------------------------------------------------------------- */

static char *put(char **cursor, struct bk_slice text, struct bk_slice *out) {
    if (text.length > 0)
        memcpy(*cursor, text.data, text.length);
    *out = bk_slice_make(*cursor, text.length);
    *cursor += text.length;
    return *cursor;
}

static struct realtime_viewer *create(struct realtime_tenant *tenant, const struct bk_actor *actor,
                                      struct bk_slice token) {
    size_t bytes = actor->label.length + actor->id.length + actor->collection_id.length +
                   actor->scopes.length + actor->tenant.length + actor->session.length +
                   token.length;
    struct realtime_viewer *viewer = bk_alloc(sizeof *viewer + bytes);
    char *cursor = (char *)(viewer + 1);
    *viewer = (struct realtime_viewer){.tenant = tenant, .actor = *actor};
    put(&cursor, actor->label, &viewer->actor.label);
    put(&cursor, actor->id, &viewer->actor.id);
    put(&cursor, actor->collection_id, &viewer->actor.collection_id);
    put(&cursor, actor->scopes, &viewer->actor.scopes);
    put(&cursor, actor->tenant, &viewer->actor.tenant);
    put(&cursor, actor->session, &viewer->actor.session);
    put(&cursor, token, &viewer->token);
    viewer->asker = realtime_asker_get(tenant, actor, NULL);
    bk_list_init(&viewer->checked);
    bk_list_init(&viewer->same);
    bk_list_init(&viewer->peers);
    return viewer;
}

/* What a subscription says of its request is said by somebody else now. */
static void renew_askers(struct realtime_peer *peer) {
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        struct realtime_subscription *subscription =
            bk_container_of(node, struct realtime_subscription, link);
        struct realtime_asker *former = subscription->asker;
        if (former == NULL)
            continue;
        const struct realtime_wording wording = {
            .options = former->options, .filter = former->filter, .expand = former->expand};
        subscription->asker = realtime_asker_get(peer->tenant, &peer->viewer->actor, &wording);
        realtime_asker_unref(former);
    }
}

static void join(struct realtime_peer *peer, struct realtime_viewer *viewer) {
    /* First the new one: the former may be the same. */
    struct bk_list *peers = &viewer->peers;
    if (peer->viewer == viewer)
        return;
    realtime_viewer_leave(peer);
    /* What one was sent says nothing of what the other one was. */
    realtime_forget_served(peer);
    peer->viewer = viewer;
    bk_list_push(peers, &peer->viewer_link);
    renew_askers(peer);
}

void realtime_viewer_join_guest(struct realtime_peer *peer) {
    struct realtime_tenant *tenant = peer->tenant;
    if (tenant->guest == NULL)
        tenant->guest = create(tenant, &bk_actor_guest, BK_SLICE_EMPTY);
    join(peer, tenant->guest);
}

/* What a connection and an event of its actor have in common when the collection was renamed in
 * between: the ring of a viewer is found by it, and who is meant in the ring is looked at. */
static struct bk_slice id_in(struct bk_slice label) {
    size_t slash = bk_slice_find(label, '/');
    return slash < label.length ? bk_slice_make(label.data + slash + 1, label.length - slash - 1)
                                : label;
}

static void enter_ring(struct realtime *realtime, struct realtime_viewer *viewer) {
    struct realtime_viewer *first = bk_map_get(&realtime->viewers, id_in(viewer->actor.label));
    if (first == NULL)
        bk_map_put(&realtime->viewers, id_in(viewer->actor.label), viewer);
    else
        bk_list_push(&first->same, &viewer->same);
}

static void leave_ring(struct realtime *realtime, struct realtime_viewer *viewer) {
    struct realtime_viewer *first = bk_map_get(&realtime->viewers, id_in(viewer->actor.label));
    struct bk_list *next = viewer->same.next;
    bk_list_remove(&viewer->same);
    if (first != viewer)
        return;
    (void)bk_map_remove(&realtime->viewers, id_in(viewer->actor.label));
    if (next == &viewer->same)
        return;
    first = bk_container_of(next, struct realtime_viewer, same);
    bk_map_put(&realtime->viewers, id_in(first->actor.label), first);
}

static bool is_same_actor(const struct bk_actor *one, const struct bk_actor *other) {
    return one->kind == other->kind && one->is_operator == other->is_operator &&
           bk_slice_equal(one->label, other->label) && bk_slice_equal(one->id, other->id) &&
           bk_slice_equal(one->collection_id, other->collection_id) &&
           bk_slice_equal(one->scopes, other->scopes) &&
           bk_slice_equal(one->tenant, other->tenant) &&
           bk_slice_equal(one->session, other->session) && one->expires_s == other->expires_s;
}

/* The same token may stand for more or less than it did. */
static bool is_same(const struct realtime_viewer *viewer, const struct realtime_tenant *tenant,
                    const struct bk_actor *actor, struct bk_slice token) {
    return viewer->tenant == tenant && bk_slice_equal(viewer->token, token) &&
           is_same_actor(&viewer->actor, actor);
}

static struct realtime_viewer *find(const struct realtime_tenant *tenant,
                                    const struct bk_actor *actor, struct bk_slice token) {
    struct realtime_viewer *first = bk_map_get(&tenant->realtime->viewers, id_in(actor->label));
    if (first == NULL || is_same(first, tenant, actor, token))
        return first;
    BK_LIST_FOR_EACH(node, &first->same) {
        struct realtime_viewer *viewer = bk_container_of(node, struct realtime_viewer, same);
        if (is_same(viewer, tenant, actor, token))
            return viewer;
    }
    return NULL;
}

/* The end of its token is one to look out for. */
static void expect(struct realtime *realtime, const struct realtime_viewer *viewer) {
    int64_t expires_s = viewer->actor.expires_s;
    if (expires_s != 0 && (realtime->expires_s == 0 || expires_s < realtime->expires_s))
        realtime->expires_s = expires_s;
}

void realtime_viewer_join(struct realtime_peer *peer, const struct bk_actor *actor,
                          struct bk_slice token, struct bk_tenant *home) {
    struct realtime *realtime = peer->realtime;
    if (actor->kind == BK_ACTOR_GUEST) {
        realtime_viewer_join_guest(peer);
        return;
    }
    struct realtime_viewer *viewer = find(peer->tenant, actor, token);
    if (viewer == NULL) {
        viewer = create(peer->tenant, actor, token);
        enter_ring(realtime, viewer);
        viewer->home = home;
        if (home != NULL) {
            bk_tenant_ref(home);
            viewer->checked_ms = realtime_now_ms(realtime);
            bk_list_push(&realtime->viewers_by_check, &viewer->checked);
            expect(realtime, viewer);
        }
    }
    join(peer, viewer);
}

void realtime_viewer_leave(struct realtime_peer *peer) {
    struct realtime_viewer *viewer = peer->viewer;
    if (viewer == NULL)
        return;
    peer->viewer = NULL;
    bk_list_remove(&peer->viewer_link);
    if (!bk_list_is_empty(&viewer->peers))
        return;
    if (viewer == viewer->tenant->guest)
        viewer->tenant->guest = NULL;
    else
        leave_ring(peer->realtime, viewer);
    bk_list_remove(&viewer->checked);
    if (viewer->home != NULL)
        bk_tenant_release(viewer->home);
    realtime_asker_unref(viewer->asker);
    bk_free(viewer);
}

/* --- does the token still hold ---------------------------------------------------------------- */

static void end_peer(struct realtime *realtime, struct realtime_peer *peer, bool leaves_guest) {
    if (peer->is_stream) {
        realtime->figures.revoked++;
        if (leaves_guest)
            realtime_viewer_join_guest(peer);
        else
            realtime_stream_end(peer);
        return;
    }
    struct realtime_session *session = bk_container_of(peer, struct realtime_session, peer);
    realtime->figures.revoked += session->is_closing ? 0 : 1;
    realtime_session_close(session, REALTIME_CODE_TOKEN, BK_SLICE("the token is no longer valid"));
}

static struct bk_slice address_of(const struct realtime_peer *peer) {
    if (peer->is_stream)
        return realtime_stream_address(peer);
    const struct realtime_session *session =
        bk_const_container_of(peer, struct realtime_session, peer);
    return bk_slice_make(session->address, session->address_length);
}

bool realtime_may_come(const struct realtime_peer *peer, const struct bk_actor *actor,
                       const struct bk_tenant *home) {
    /* Only an operator works in another tenant than the token's. */
    const struct bk_tenant *tenant = actor->is_operator ? peer->tenant->tenant : home;
    return bk_api_ask_guards(peer->realtime->context->api, tenant, home, actor, address_of(peer)) ==
           BK_OK;
}

/* All of its connections, or those from where it may not come any more. */
static void end_peers(struct realtime_viewer *viewer, bool is_all, bool leaves_guest) {
    struct realtime *realtime = viewer->tenant->realtime;
    /* The last one to leave takes the viewer with it. */
    size_t count = 0;
    BK_LIST_FOR_EACH(node, &viewer->peers) {
        (void)node;
        count++;
    }
    struct bk_list *node = viewer->peers.next;
    for (size_t i = 0; i < count; i++) {
        struct realtime_peer *peer = bk_container_of(node, struct realtime_peer, viewer_link);
        node = node->next;
        if (is_all || !realtime_may_come(peer, &viewer->actor, viewer->home))
            end_peer(realtime, peer, leaves_guest);
    }
}

/* Those that wait in due: what is done with one may end it, but no other. */
static void revoke_due(struct realtime *realtime, struct bk_list *due, bool leaves_guest) {
    struct bk_list *node;
    while ((node = bk_list_pop(due)) != NULL) {
        bk_list_push(&realtime->viewers_by_check, node);
        end_peers(bk_container_of(node, struct realtime_viewer, checked), true, leaves_guest);
    }
}

static void set_due(struct realtime_viewer *viewer, struct bk_list *due) {
    bk_list_remove(&viewer->checked);
    bk_list_push(due, &viewer->checked);
}

static void set_due_if_meant(struct realtime_viewer *viewer, const struct bk_revocation *revocation,
                             struct bk_list *due) {
    if (bk_revocation_means(revocation, &viewer->actor))
        set_due(viewer, due);
}

void realtime_viewers_on_revoked(struct bk_revocation_hook *hook,
                                 const struct bk_revocation *revocation) {
    struct realtime *realtime = bk_container_of(hook, struct realtime, revocation);
    struct realtime_viewer *first = bk_map_get(&realtime->viewers, id_in(revocation->label));
    struct bk_list due;
    bk_list_init(&due);
    if (revocation->label.length == 0) {
        BK_LIST_FOR_EACH(node, &realtime->viewers_by_check) {
            set_due_if_meant(bk_container_of(node, struct realtime_viewer, checked), revocation,
                             &due);
        }
    } else if (first != NULL) {
        set_due_if_meant(first, revocation, &due);
        BK_LIST_FOR_EACH(node, &first->same) {
            set_due_if_meant(bk_container_of(node, struct realtime_viewer, same), revocation, &due);
        }
    }
    revoke_due(realtime, &due, revocation->leaves_guest);
}

static void end_expired(struct realtime *realtime) {
    int64_t now_s = bk_clock_wall_ms() / 1000;
    struct bk_list due;
    if (realtime->expires_s == 0 || now_s < realtime->expires_s)
        return;
    realtime->expires_s = 0;
    bk_list_init(&due);
    BK_LIST_FOR_EACH(node, &realtime->viewers_by_check) {
        struct realtime_viewer *viewer = bk_container_of(node, struct realtime_viewer, checked);
        if (viewer->actor.expires_s != 0 && viewer->actor.expires_s <= now_s)
            set_due(viewer, &due);
        else
            expect(realtime, viewer);
    }
    revoke_due(realtime, &due, false);
}

/* Its connections go over to one who may what the token allows now. */
static void renew(struct realtime_viewer *viewer, const struct bk_actor *actor) {
    bool is_last = false;
    while (!is_last) {
        struct bk_list *node = viewer->peers.next;
        is_last = node->next == &viewer->peers; /* and takes the viewer with it */
        realtime_viewer_join(bk_container_of(node, struct realtime_peer, viewer_link), actor,
                             viewer->token, viewer->home);
    }
}

static void check(struct realtime *realtime, struct realtime_viewer *viewer) {
    struct bk_arena arena;
    struct bk_actor actor;
    BK_ASSERT(viewer->home != NULL);
    bk_list_remove(&viewer->checked);
    bk_list_push(&realtime->viewers_by_check, &viewer->checked);
    viewer->checked_ms = realtime_now_ms(realtime);
    bk_arena_init(&arena, ARENA_BYTES);
    enum bk_status status =
        bk_api_authenticate(realtime->context->api, viewer->home, viewer->token, &arena, &actor);
    /* Whatever else is wrong does not make the token worse. */
    if (status == BK_UNAUTHORIZED)
        end_peers(viewer, true, false);
    else if (status == BK_OK && !is_same_actor(&viewer->actor, &actor))
        renew(viewer, &actor);
    else
        end_peers(viewer, false, false);
    bk_arena_fini(&arena);
}

static void check_label(struct realtime_tenant *tenant, struct bk_slice label) {
    struct realtime *realtime = tenant->realtime;
    struct bk_list due;
    struct realtime_viewer *first = bk_map_get(&realtime->viewers, id_in(label));
    if (first == NULL)
        return;
    /* A check may end any viewer of the ring, but no other: those due wait at the front. */
    bk_list_init(&due);
    if (first->home == tenant->tenant)
        set_due(first, &due);
    BK_LIST_FOR_EACH(node, &first->same) {
        struct realtime_viewer *viewer = bk_container_of(node, struct realtime_viewer, same);
        if (viewer->home == tenant->tenant)
            set_due(viewer, &due);
    }
    while (!bk_list_is_empty(&due))
        check(realtime, bk_container_of(due.next, struct realtime_viewer, checked));
}

/* Any token of the tenant may have lost its secret: the next ticks look at all of them. */
static void check_all_soon(struct realtime_tenant *tenant) {
    struct realtime *realtime = tenant->realtime;
    BK_LIST_FOR_EACH(node, &realtime->viewers_by_check) {
        struct realtime_viewer *viewer = bk_container_of(node, struct realtime_viewer, checked);
        if (viewer->home != tenant->tenant)
            continue;
        viewer->checked_ms = 0;
        bk_list_remove(&viewer->checked);
        bk_list_push_front(&realtime->viewers_by_check, &viewer->checked);
    }
}

void realtime_viewers_on_event(struct realtime_tenant *tenant, const struct bk_event *event) {
    struct bk_slice type = event->fields.type;
    if (tenant->realtime->viewers.count == 0)
        return;
    if (bk_slice_starts_with(type, BK_SLICE("_collections.")))
        check_all_soon(tenant);
    else if (event->fields.subject.length > 0 && (bk_slice_ends_with(type, BK_SLICE(".updated")) ||
                                                  bk_slice_ends_with(type, BK_SLICE(".deleted")))) {
        realtime_askers_on_change(tenant, event->fields.subject);
        check_label(tenant, event->fields.subject);
    }
}

void realtime_viewers_tick(struct realtime *realtime, uint64_t now_ms) {
    end_expired(realtime);
    for (int i = 0; i < CHECKS_PER_TICK && !bk_list_is_empty(&realtime->viewers_by_check); i++) {
        struct realtime_viewer *viewer =
            bk_container_of(realtime->viewers_by_check.next, struct realtime_viewer, checked);
        if (viewer->checked_ms != 0 && viewer->checked_ms + CHECK_MS > now_ms)
            return;
        check(realtime, viewer);
    }
}
