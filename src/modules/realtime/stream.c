/*
 * The contract's realtime: an event stream (WHATWG HTML, server-sent events) and a POST that says
 * what goes into it.
 *
 *   GET  ─> id:<client id> event:PB_CONNECT ─> frames … ─> five idle minutes, or the client goes
 *   POST {clientId, subscriptions} ─> 204: they take the place of those before
 *   frame   id:<cursor>  event:<subscription, byte for byte>  data:{"action","record"}
 *
 * A stream belongs to nobody until the first POST, which gives it its tenant; a guest's may become
 * a user's, and nobody else's. A record is sent once for each subscription that it matches.
 *
 * Beyond the contract: the id of every frame is a cursor. A subscription whose options have
 * query.since=<cursor> has it in data too, which is all that the SDK hands on, and is sent first
 * what it missed; when that is too far back, or of another history, one frame with the action
 * "reset" says so, and nothing is replayed. With since=now it misses nothing from the beginning.
 *
 * A client that does not read is ended when CLOG_BYTES_MAX wait beyond what the transport queues.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"
#include "bakend/id.h"

enum {
    IDLE_MS = 300000, /* the contract's */
    CLOG_BYTES_MAX = 1024 * 1024,
    FORBIDDEN = 403,
    BAD_REQUEST = 400,
};

struct realtime_stream {
    struct realtime_peer peer;
    struct bk_request *request;
    struct bk_slice address; /* of the client */
    struct bk_list link;     /* by the time of its last frame */
    uint64_t active_ms;
    size_t clogged_bytes;
    bool is_clogged;
    char id[REALTIME_CLIENT_ID_BYTES];
};

static struct realtime_stream *stream_of(struct realtime_peer *peer) {
    BK_ASSERT(peer->is_stream);
    return bk_container_of(peer, struct realtime_stream, peer);
}

/* --- life ------------------------------------------------------------------------------------- */

static struct bk_slice id_of(const struct realtime_stream *stream) {
    return bk_slice_make(stream->id, sizeof stream->id);
}

void realtime_stream_end(struct realtime_peer *peer) {
    struct realtime_stream *stream = stream_of(peer);
    struct bk_request *request = stream->request;
    (void)bk_map_remove(&peer->realtime->streams_by_id, id_of(stream));
    bk_list_remove(&stream->link);
    peer->realtime->figures.streams--;
    realtime_peer_leave(peer);
    bk_free(stream);
    request->on_abort = request->on_drain = NULL;
    request->state = NULL;
    bk_stream_end(request);
}

struct bk_slice realtime_stream_address(const struct realtime_peer *peer) {
    return bk_const_container_of(peer, struct realtime_stream, peer)->address;
}

static void on_abort(struct bk_request *request) {
    struct realtime_stream *stream = request->state;
    realtime_stream_end(&stream->peer);
}

static void on_drain(struct bk_request *request) {
    struct realtime_stream *stream = request->state;
    stream->is_clogged = false;
    stream->clogged_bytes = 0;
    if (stream->peer.replay != NULL)
        realtime_replay_resume(stream->peer.replay);
}

void realtime_streams_tick(struct realtime *realtime, uint64_t now_ms) {
    BK_LIST_FOR_EACH(node, &realtime->streams) {
        struct realtime_stream *stream = bk_container_of(node, struct realtime_stream, link);
        if (stream->active_ms + IDLE_MS > now_ms)
            return;
        realtime_stream_end(&stream->peer);
    }
}

void realtime_streams_each(struct realtime *realtime, struct realtime_tenant *own,
                           void (*call)(struct realtime_tenant *own, struct realtime_peer *peer)) {
    BK_LIST_FOR_EACH(node, &realtime->streams) {
        call(own, &bk_container_of(node, struct realtime_stream, link)->peer);
    }
}

void realtime_streams_end(struct realtime *realtime, uint32_t one_of) {
    BK_LIST_FOR_EACH(node, &realtime->streams) {
        struct realtime_stream *stream = bk_container_of(node, struct realtime_stream, link);
        if (one_of <= 1 || bk_random_u64() % one_of == 0)
            realtime_stream_end(&stream->peer);
    }
}

/* BK_OK, BK_BUSY, or BK_CLOSING: it read too slowly and is gone. */
static enum bk_status write(struct realtime_stream *stream, struct bk_slice frame) {
    struct realtime *realtime = stream->peer.realtime;
    bool was_clogged = stream->is_clogged;
    stream->is_clogged = !bk_stream_write(stream->request, frame);
    stream->active_ms = realtime_now_ms(realtime);
    bk_list_remove(&stream->link);
    bk_list_push(&realtime->streams, &stream->link);
    if (!stream->is_clogged)
        return BK_OK;
    stream->clogged_bytes = was_clogged ? stream->clogged_bytes + frame.length : 0;
    if (stream->clogged_bytes <= CLOG_BYTES_MAX)
        return BK_BUSY;
    realtime->figures.slow++;
    realtime_stream_end(&stream->peer);
    return BK_CLOSING;
}

static void write_connect(struct realtime_stream *stream) {
    struct bk_buffer *out = &stream->peer.realtime->text;
    bk_buffer_clear(out);
    bk_buffer_append_literal(out, "id:");
    bk_buffer_append_slice(out, id_of(stream));
    bk_buffer_append_literal(out, "\nevent:PB_CONNECT\ndata:{\"clientId\":\"");
    bk_buffer_append_slice(out, id_of(stream));
    bk_buffer_append_literal(out, "\"}\n\n");
    (void)write(stream, bk_buffer_slice(out));
}

void realtime_stream_open(struct bk_request *request, struct realtime *realtime) {
    static const struct bk_slice alphabet =
        BK_SLICE_INIT("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    struct realtime_stream *stream = bk_alloc_zero(sizeof *stream);
    stream->peer.realtime = realtime;
    stream->peer.is_stream = true;
    stream->request = request;
    stream->address = bk_arena_copy(&request->arena, request->remote_address);
    bk_random_text(stream->id, sizeof stream->id, alphabet);
    bk_list_init(&stream->peer.subscriptions);
    bk_list_init(&stream->link);
    bk_list_push(&realtime->streams, &stream->link);
    bk_map_put(&realtime->streams_by_id, id_of(stream), stream);
    realtime->figures.streams++;
    request->state = stream;
    request->on_abort = on_abort;
    request->on_drain = on_drain;
    request->content_type = "text/event-stream";
    bk_answer_header(request, "Cache-Control", BK_SLICE("no-store"));
    bk_answer_header(request, "X-Accel-Buffering", BK_SLICE("no"));
    bk_stream_begin(request, 200);
    write_connect(stream);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void begin_frame(struct bk_buffer *out, const struct realtime_subscription *subscription,
                        struct bk_slice cursor, struct bk_slice action) {
    bk_buffer_clear(out);
    bk_buffer_append_literal(out, "id:");
    bk_buffer_append_slice(out, cursor);
    bk_buffer_append_literal(out, "\nevent:");
    bk_buffer_append_slice(out, subscription->topic);
    bk_buffer_append_literal(out, "\ndata:{\"action\":\"");
    bk_buffer_append_slice(out, action);
    bk_buffer_append_literal(out, "\",\"record\":");
}

static void end_frame(struct bk_buffer *out, const struct realtime_subscription *subscription,
                      struct bk_slice cursor) {
    if (subscription->tells_cursor) {
        bk_buffer_append_literal(out, ",\"cursor\":\"");
        bk_buffer_append_slice(out, cursor);
        bk_buffer_append_char(out, '"');
    }
    bk_buffer_append_literal(out, "}\n\n");
}

/* As it is, when the fields cannot be picked. */
static struct bk_slice pick(struct realtime *realtime, struct bk_slice record,
                            struct bk_slice fields) {
    struct bk_buffer *out = &realtime->other_text;
    if (fields.length == 0)
        return record;
    bk_buffer_clear(out);
    bk_arena_reset(&realtime->arena);
    if (bk_fields_pick(&realtime->arena, record, fields, out) != BK_OK)
        return record;
    return bk_buffer_slice(out);
}

enum bk_status realtime_stream_send(struct realtime_subscription *subscription,
                                    struct realtime_item *item, const struct realtime_look *look) {
    static const struct bk_slice actions[] = {[REALTIME_CREATED] = BK_SLICE_INIT("create"),
                                              [REALTIME_UPDATED] = BK_SLICE_INIT("update"),
                                              [REALTIME_DELETED] = BK_SLICE_INIT("delete")};
    struct realtime *realtime = subscription->peer->realtime;
    struct bk_buffer *out = &realtime->text;
    struct bk_slice cursor = realtime_item_cursor(item);
    if (item->collection == NULL)
        return BK_OK; /* not a record's */
    struct bk_slice record =
        look->shown.length > 0 ? look->shown : realtime_item_record(item, look->view);
    begin_frame(out, subscription, cursor, actions[item->change]);
    bk_buffer_append_slice(out, pick(realtime, record, subscription->fields));
    end_frame(out, subscription, cursor);
    realtime->figures.frames++;
    return write(stream_of(subscription->peer), bk_buffer_slice(out));
}

static enum bk_status send_reset(struct realtime_subscription *subscription) {
    struct realtime_peer *peer = subscription->peer;
    struct bk_buffer *out = &peer->realtime->text;
    struct bk_journal_state journal = bk_journal_state(peer->tenant->tenant->database);
    char text[BK_CURSOR_BYTES];
    bk_cursor_make(text, journal.epoch, subscription->from);
    struct bk_slice cursor = bk_slice_make(text, sizeof text);
    begin_frame(out, subscription, cursor, BK_SLICE("reset"));
    bk_buffer_append_literal(out, "{}");
    end_frame(out, subscription, cursor);
    return write(stream_of(peer), bk_buffer_slice(out));
}

/* --- what a POST asks for --------------------------------------------------------------------- */

static void add_too_long(struct bk_request *request, struct bk_slice field, int max) {
    struct bk_arena *arena = &request->arena;
    bk_problems_add_params(&request->problems, field, "validation_length_too_long",
                           bk_arena_format(arena, "The length must be no more than %d.", max).data,
                           bk_arena_format(arena, "{\"max\":%d,\"min\":0}", max));
}

static void read_topic(struct bk_request *request, struct bk_slice text, size_t index,
                       struct realtime_topic *topic) {
    struct bk_slice field = bk_arena_format(&request->arena, "subscriptions.%zu", index);
    if (text.length > REALTIME_TOPIC_BYTES_MAX) {
        add_too_long(request, field, REALTIME_TOPIC_BYTES_MAX);
        return;
    }
    realtime_topic_parse(&request->arena, text, topic);
    if (!bk_fields_fit(topic->fields))
        bk_problems_add(&request->problems, field, "validation_too_many",
                        "At most 200 fields can be named.");
}

struct wish {
    struct realtime_topic topic;
    struct realtime_request request;
};

struct wishes {
    struct bk_slice client_id;
    struct wish *list;
    size_t count;
    struct bk_map fresh; /* by topic: those that are not there yet */
};

static bool are_texts(const struct bk_json *list) {
    for (const struct bk_json *each = list->child; each != NULL; each = each->next)
        if (each->type != BK_JSON_STRING)
            return false;
    return true;
}

static void read_topics(struct bk_request *request, const struct bk_json *list,
                        struct wishes *wishes) {
    if (list->child_count > REALTIME_TOPICS_MAX) {
        add_too_long(request, BK_SLICE("subscriptions"), REALTIME_TOPICS_MAX);
        return;
    }
    wishes->list =
        bk_arena_alloc_zero(&request->arena, (list->child_count + 1) * sizeof(struct wish));
    for (const struct bk_json *each = list->child; each != NULL; each = each->next) {
        if (request->arena.is_overflown || wishes->list == NULL)
            return;
        read_topic(request, each->string, wishes->count, &wishes->list[wishes->count].topic);
        wishes->count++;
    }
}

/* False: the request was answered. */
static bool read_wishes(struct bk_request *request, struct wishes *wishes) {
    const struct bk_json *id = bk_json_get(request->json, BK_SLICE("clientId"));
    const struct bk_json *list = bk_json_get(request->json, BK_SLICE("subscriptions"));
    bool has_list = list != NULL && list->type != BK_JSON_NULL;
    if ((id != NULL && id->type != BK_JSON_STRING && id->type != BK_JSON_NULL) ||
        (has_list && (list->type != BK_JSON_ARRAY || !are_texts(list)))) {
        bk_answer_error(request, BK_INVALID, NULL);
        return false;
    }
    wishes->client_id = id == NULL ? BK_SLICE_EMPTY : id->string;
    if (wishes->client_id.length == 0)
        bk_problems_add(&request->problems, BK_SLICE("clientId"), "validation_required",
                        "Cannot be blank.");
    if (has_list)
        read_topics(request, list, wishes);
    if (request->arena.is_overflown)
        bk_answer_error(request, BK_TOO_LARGE, NULL);
    else if (request->problems.count > 0)
        bk_answer_problems(request, BK_INVALID, NULL);
    else
        return true;
    return false;
}

/* --- whose stream it is ----------------------------------------------------------------------- */

static bool is_same_actor(const struct bk_actor *one, const struct bk_actor *other) {
    return one->kind == other->kind && bk_slice_equal(one->label, other->label) &&
           bk_slice_equal(one->tenant, other->tenant);
}

/* A stream of another tenant does not exist here. */
static struct realtime_stream *find_stream(struct bk_request *request, struct realtime *realtime,
                                           struct bk_slice client_id) {
    struct realtime_stream *stream = bk_map_get(&realtime->streams_by_id, client_id);
    if (stream == NULL ||
        (stream->peer.tenant != NULL && stream->peer.tenant->tenant != request->tenant)) {
        bk_answer_error(request, BK_NOT_FOUND, "Missing or invalid client id.");
        return NULL;
    }
    if (!bk_slice_equal(stream->address, request->remote_address)) {
        bk_answer_refusal(request, BAD_REQUEST, "Invalid realtime client.");
        return NULL;
    }
    const struct realtime_viewer *viewer = stream->peer.viewer;
    if (viewer != NULL && viewer->actor.kind != BK_ACTOR_GUEST &&
        !is_same_actor(&viewer->actor, &request->actor)) {
        bk_answer_refusal(request, FORBIDDEN,
                          "The current and the previous request authorization don't match.");
        return NULL;
    }
    return stream;
}

static void join_viewer(struct realtime_peer *peer, struct bk_request *request) {
    struct bk_tenants *tenants = peer->realtime->context->tenants;
    bool is_of_token =
        request->actor.kind != BK_ACTOR_GUEST && request->actor.kind != BK_ACTOR_SYSTEM;
    struct bk_slice token = is_of_token ? bk_request_token(request) : BK_SLICE_EMPTY;
    struct bk_tenant *home =
        token.length > 0 ? bk_tenant_hold_open(tenants, request->actor.tenant) : NULL;
    realtime_viewer_join(peer, &request->actor, token, home);
    if (home != NULL)
        bk_tenant_release(home);
}

/* --- subscribing ------------------------------------------------------------------------------ */

/* A collection may be named by its id; its events have its name. In other letters, unlike in a
 * path, it is another topic, as in the contract. */
static void ask_for(const struct realtime_tenant *own, struct bk_arena *arena,
                    const struct realtime_topic *topic, struct realtime_request *request) {
    struct bk_schema_kind *schema = own->realtime->context->schema;
    struct bk_slice name = topic->collection, *types;
    const struct bk_collection *collection =
        topic->is_deaf || schema == NULL
            ? NULL
            : bk_schema_find(bk_schema_current(schema, own->tenant), name);
    if (collection != NULL && bk_slice_equal(collection->id, name))
        name = collection->name;
    *request = (struct realtime_request){.topic = topic->text,
                                         .fields = topic->fields,
                                         .wording = topic->wording,
                                         .is_deaf = topic->is_deaf,
                                         .tells_cursor = topic->since.length > 0};
    if (topic->is_deaf)
        return;
    types = bk_arena_alloc(arena, sizeof *types);
    *types = bk_arena_format(arena, "%.*s.*", BK_SLICE_PRINT(name));
    request->types = types;
    request->type_count = 1;
    if (topic->id.length > 0)
        request->subject =
            bk_arena_format(arena, "%.*s/%.*s", BK_SLICE_PRINT(name), BK_SLICE_PRINT(topic->id));
}

/* The sequence that `since` stands behind; false when it cannot be gone back to. */
static bool find_since(const struct realtime_peer *peer, struct bk_slice since,
                       uint64_t *position) {
    struct bk_tenant *tenant = peer->tenant->tenant;
    enum bk_feed_problem problem;
    return bk_feed_resolve(tenant, since, position, &problem) == BK_OK &&
           bk_journal_state(tenant->database).last <= *position + REALTIME_REPLAY_EVENTS_MAX;
}

/* False: the stream is gone. */
static bool subscribe(struct realtime_peer *peer, const struct wish *wish) {
    const struct realtime_topic *topic = &wish->topic;
    struct bk_journal_state journal = bk_journal_state(peer->tenant->tenant->database);
    uint64_t now = peer->replay != NULL ? journal.last : peer->tenant->watermark;
    uint64_t position = now;
    if (topic->since.length > 0 && !find_since(peer, topic->since, &position)) {
        peer->realtime->figures.replays_refused++;
        enum bk_status status = send_reset(realtime_subscribe(peer, &wish->request, now));
        return status == BK_OK || status == BK_BUSY;
    }
    if (peer->replay != NULL || position < now)
        realtime_replay_begin(peer, position);
    (void)realtime_subscribe(peer, &wish->request, position);
    return true;
}

static struct realtime_subscription *subscription_of(struct bk_list *node) {
    return bk_container_of(node, struct realtime_subscription, link);
}

/* What is in both sets stays as it is, so that nothing is missed in between; what is named twice is
 * one. */
static void compare(struct realtime_peer *peer, struct wishes *wishes) {
    for (size_t i = wishes->count; i > 0; i--) /* the first of two is the last one put */
        (void)bk_map_put(&wishes->fresh, wishes->list[i - 1].topic.text, &wishes->list[i - 1]);
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        struct realtime_subscription *subscription = subscription_of(node);
        subscription->is_kept = bk_map_remove(&wishes->fresh, subscription->topic) != NULL;
    }
}

static bool is_fresh(const struct wishes *wishes, const struct wish *wish) {
    return bk_map_get(&wishes->fresh, wish->topic.text) == wish;
}

/* NULL, or why there is no memory for what is new, when what is not kept has gone. */
static const char *refuse_full(struct realtime_peer *peer, const struct realtime_tenant *own,
                               const struct wishes *wishes) {
    size_t more = 0, less = 0;
    for (size_t i = 0; i < wishes->count; i++)
        if (is_fresh(wishes, &wishes->list[i]))
            more += realtime_request_bytes_max(&wishes->list[i].request);
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        if (!subscription_of(node)->is_kept)
            less += subscription_of(node)->bytes;
    }
    return more > less ? realtime_refuse_bytes(own, more - less) : NULL;
}

static void replace(struct realtime_stream *stream, struct bk_request *request,
                    const struct wishes *wishes) {
    struct realtime_peer *peer = &stream->peer;
    struct realtime *realtime = peer->realtime;
    if (peer->tenant == NULL)
        realtime_peer_enter(peer, request->tenant);
    join_viewer(peer, request);
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        if (!subscription_of(node)->is_kept)
            realtime_unsubscribe(subscription_of(node));
    }
    if (peer->subscription_count == 0)
        realtime_unsubscribe_all(peer); /* a replay too */
    for (size_t i = 0; i < wishes->count; i++)
        if (is_fresh(wishes, &wishes->list[i]) && !subscribe(peer, &wishes->list[i]))
            break;
    realtime_replays_pump(realtime);
}

/* Answers the request. */
static void replace_if_it_fits(struct realtime_stream *stream, struct bk_request *request,
                               struct wishes *wishes) {
    const struct realtime_tenant *own = realtime_tenant_of(stream->peer.realtime, request->tenant);
    for (size_t i = 0; i < wishes->count; i++)
        ask_for(own, &request->arena, &wishes->list[i].topic, &wishes->list[i].request);
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE, NULL);
        return;
    }
    bk_map_init(&wishes->fresh);
    compare(&stream->peer, wishes);
    const char *message = refuse_full(&stream->peer, own, wishes);
    if (message == NULL)
        replace(stream, request, wishes);
    bk_map_fini(&wishes->fresh);
    if (message == NULL)
        bk_answer_empty(request);
    else
        bk_answer_error(request, BK_BUSY, message);
}

void realtime_stream_subscribe(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct realtime *realtime = context->state;
    struct wishes wishes = {0};
    if (!read_wishes(request, &wishes))
        return;
    struct realtime_stream *stream = find_stream(request, realtime, wishes.client_id);
    if (stream != NULL)
        replace_if_it_fits(stream, request, &wishes);
}

/* --- messages of others ----------------------------------------------------------------------- */

static struct realtime_subscription *find_subscription(struct realtime_peer *peer,
                                                       struct bk_slice topic) {
    if (peer->tenant == NULL)
        return NULL;
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        if (bk_slice_equal(subscription_of(node)->topic, topic))
            return subscription_of(node);
    }
    return NULL;
}

/* The frame has no id: it is no event, and whoever comes back with the last id misses none. */
enum bk_status realtime_stream_tell(struct bk_client_hook *hook,
                                    const struct bk_client_message *message) {
    struct realtime *realtime = bk_container_of(hook, struct realtime, client_hook);
    struct realtime_stream *stream = bk_map_get(&realtime->streams_by_id, message->client_id);
    struct realtime_subscription *subscription =
        stream == NULL ? NULL : find_subscription(&stream->peer, message->topic);
    struct bk_buffer *out = &realtime->text;
    if (subscription == NULL || !bk_slice_equal(stream->address, message->address))
        return BK_NOT_FOUND;
    bk_buffer_clear(out);
    bk_buffer_append_literal(out, "event:");
    bk_buffer_append_slice(out, subscription->topic);
    bk_buffer_append_literal(out, "\ndata:");
    bk_buffer_append_slice(out, message->data);
    bk_buffer_append_literal(out, "\n\n");
    realtime_unsubscribe(subscription);
    (void)write(stream, bk_buffer_slice(out));
    return BK_OK;
}
