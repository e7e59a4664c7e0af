/*
 * Replay: a peer that asks for what it missed reads the journal, page by page, as fast as it takes
 * the frames.
 *
 *   begin ─> waits for its turn ─> a page is read ─> sent ─┬─ caught up ───────────> live again
 *                ^                                         ├─ more, and room ─┐
 *                └──────────── drained ────────────────────┴─ the peer is full┘
 *
 * Meanwhile it is sent nothing live that has a sequence: what happens now is in the journal too,
 * behind the rest, and so nothing is overtaken, missed or sent twice. It has caught up when it
 * stands at or behind the last event that was begun to be sent live; what of it comes live
 * nevertheless lies at or before each subscription's `until` and is skipped.
 *
 * One replay serves all subscriptions of a peer. When one is added that begins further back, it
 * goes back there, and what the others were served already is not sent again.
 *
 * Each row is judged as of now (judge.c); where that takes a reader the page waits for it.
 *
 * Pages being read are bounded, for all peers together; one that the peer cannot take whole is
 * dropped and read again from where it stopped. When the journal cannot be read (what comes next
 * was pruned, the disk fails) the peer is closed and may ask again.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"

enum {
    PAGE_EVENTS = 500,
    PAGE_BYTES_MAX = 1024 * 1024, /* at least one event of the largest size */
    PAGES_MAX = 16,
    QUEUED_LOW_BYTES = 64 * 1024, /* of the peer's: below it the next page is read */
    TEXTS_BYTES_MAX = 64 * 1024,  /* of a row, beside the event */
    ARENA_BYTES = 256 * 1024,     /* a hundred subscriptions' types */
};

struct realtime_replay {
    struct realtime *realtime;
    struct realtime_peer *peer;              /* NULL: gone during a read */
    struct realtime_tenant *tenant;          /* held by the peer, and during a read */
    uint64_t position;                       /* all up to it was judged */
    struct bk_list link;                     /* waits for a page */
    bool is_reading, is_judging, is_sending; /* it does not go before that has come back */
    bool is_stale, is_full;
    struct bk_feed_read read;
    struct bk_buffer page;
    struct bk_slice rest;      /* of the page: rows that are still to be sent */
    struct realtime_item item; /* that is being sent */
    bool has_item;
    struct bk_arena arena;
    char after[BK_CURSOR_BYTES];
};

/* --- rows of a page --------------------------------------------------------------------------- */

enum { TEXT_COUNT = 7 };

/* In front of json and the texts that the event has beside it. */
struct row {
    uint64_t sequence;
    int64_t timestamp_ms;
    uint32_t version, depth;
    uint32_t json_length, payload_at, payload_length, previous_at, previous_length;
    uint32_t lengths[TEXT_COUNT], hidden_length;
};

static struct bk_slice *text_of(struct bk_event_fields *fields, int index) {
    struct bk_slice *const texts[TEXT_COUNT] = {&fields->id,     &fields->type,    &fields->source,
                                                &fields->tenant, &fields->subject, &fields->actor,
                                                &fields->cause};
    return texts[index];
}

/* Nothing before the payload can hold these bytes: inside a text quotes are escaped. */
static void find_json(struct row *row, struct bk_slice json) {
    static const struct bk_slice payload = BK_SLICE_INIT(",\"payload\":");
    static const struct bk_slice previous = BK_SLICE_INIT(",\"previous\":");
    row->payload_at = (uint32_t)(realtime_find(json, payload) + payload.length);
    if (row->previous_length == 0)
        return;
    /* Behind the payload come texts and numbers, and then this. */
    size_t behind = row->payload_at + row->payload_length;
    struct bk_slice rest = bk_slice_make(json.data + behind, json.length - behind);
    row->previous_at = (uint32_t)(behind + realtime_find(rest, previous) + previous.length);
    BK_ASSERT(row->previous_at + row->previous_length <= json.length);
}

static struct row make_row(const struct bk_event_fields *fields) {
    struct bk_event_fields copy = *fields;
    struct row row = {.sequence = fields->sequence,
                      .timestamp_ms = fields->timestamp_ms,
                      .version = fields->version,
                      .depth = fields->depth,
                      .payload_length = (uint32_t)fields->payload.length,
                      .previous_length = (uint32_t)fields->previous.length,
                      .hidden_length = (uint32_t)fields->hidden.length};
    for (int i = 0; i < TEXT_COUNT; i++)
        row.lengths[i] = (uint32_t)text_of(&copy, i)->length;
    if (row.hidden_length > TEXTS_BYTES_MAX / 2)
        row.hidden_length = 0;
    return row;
}

/* Any thread. */
static void write_row(struct bk_feed_read *read, struct bk_buffer *out,
                      const struct bk_event_fields *fields, struct bk_slice json, bool is_first) {
    struct row row = make_row(fields);
    struct bk_event_fields copy = *fields;
    size_t start = out->length;
    (void)read;
    (void)is_first;
    bk_buffer_append(out, &row, sizeof row);
    if (json.length > 0)
        bk_buffer_append_slice(out, json);
    else
        bk_event_write_json(out, fields);
    if (out->is_overflown)
        return;
    row.json_length = (uint32_t)(out->length - start - sizeof row);
    find_json(&row, bk_slice_make(out->data + start + sizeof row, row.json_length));
    memcpy(out->data + start, &row, sizeof row);
    for (int i = 0; i < TEXT_COUNT; i++)
        bk_buffer_append_slice(out, *text_of(&copy, i));
    bk_buffer_append(out, fields->hidden.data, row.hidden_length);
}

static struct bk_slice take(struct bk_slice *rest, size_t length) {
    struct bk_slice part = bk_slice_make(rest->data, length);
    BK_ASSERT(length <= rest->length);
    *rest = bk_slice_make(rest->data + length, rest->length - length);
    return part;
}

static void read_row(struct bk_slice *rest, struct bk_event_fields *fields, struct bk_slice *json) {
    struct row row;
    memcpy(&row, take(rest, sizeof row).data, sizeof row);
    *json = take(rest, row.json_length);
    *fields = (struct bk_event_fields){
        .sequence = row.sequence,
        .timestamp_ms = row.timestamp_ms,
        .version = row.version,
        .depth = row.depth,
        .payload = bk_slice_make(json->data + row.payload_at, row.payload_length)};
    if (row.previous_length > 0)
        fields->previous = bk_slice_make(json->data + row.previous_at, row.previous_length);
    for (int i = 0; i < TEXT_COUNT; i++)
        *text_of(fields, i) = take(rest, row.lengths[i]);
    fields->hidden = take(rest, row.hidden_length);
}

/* --- one event -------------------------------------------------------------------------------- */

static struct realtime_subscription *subscription_of(struct bk_list *node) {
    return bk_container_of(node, struct realtime_subscription, link);
}

static enum realtime_sight look_at(const struct realtime_subscription *subscription,
                                   struct realtime_item *item, struct realtime_look *look) {
    const struct bk_interest *interest = &subscription->interest;
    const struct bk_event_fields *fields = &item->fields;
    if (item->sequence <= subscription->from || interest->set == NULL)
        return REALTIME_UNSEEN;
    if (!bk_interest_matches(interest, fields->type, fields->subject) &&
        (item->change != REALTIME_UPDATED || !realtime_item_is_asked(item) ||
         !bk_interest_matches(interest, item->collection->event_types[REALTIME_DELETED],
                              fields->subject)))
        return REALTIME_UNSEEN;
    return realtime_look(item, subscription, look);
}

/* Asks for each subscription; whether a reader has to answer. */
static bool is_open(struct realtime_peer *peer, struct realtime_item *item) {
    struct realtime_look look;
    bool is_open = false;
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        is_open |= look_at(subscription_of(node), item, &look) == REALTIME_OPEN;
    }
    return is_open;
}

/* Once, unless a subscription has brought it before. */
static enum bk_status send_to_session(struct realtime_session *session,
                                      struct realtime_item *item) {
    enum realtime_sight best = REALTIME_UNSEEN;
    struct realtime_look look = {0}, other;
    BK_LIST_FOR_EACH(node, &session->peer.subscriptions) {
        enum realtime_sight sight = look_at(subscription_of(node), item, &other);
        if (sight == REALTIME_UNSEEN)
            continue;
        if (item->sequence <= subscription_of(node)->until)
            return BK_OK;
        if (best != REALTIME_SEEN) {
            best = sight;
            look = other;
        }
    }
    if (best == REALTIME_UNSEEN)
        return BK_OK;
    enum bk_status status = bk_channel_send_shared(
        session->channel, best == REALTIME_LEFT
                              ? realtime_item_leaving(item)
                              : realtime_item_frame(item, look.view, look.with_previous));
    session->peer.realtime->figures.frames += status == BK_OK;
    return status;
}

/* To each of its subscriptions. Once it is full the rest of the event goes too. */
static enum bk_status send_to_stream(struct realtime_peer *peer, struct realtime_item *item) {
    enum bk_status status = BK_OK;
    struct realtime_look look;
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        struct realtime_subscription *subscription = subscription_of(node);
        if (item->sequence <= subscription->until ||
            look_at(subscription, item, &look) != REALTIME_SEEN)
            continue;
        enum bk_status sent = realtime_stream_send(subscription, item, &look);
        if (sent != BK_OK)
            status = sent;
        if (sent != BK_OK && sent != BK_BUSY)
            return sent;
    }
    return status;
}

/* --- one page --------------------------------------------------------------------------------- */

/* The peer is full before this event, or (a stream) after it. Any other status: it is gone. */
static enum bk_status send_item(struct realtime_replay *replay) {
    struct realtime_peer *peer = replay->peer;
    struct realtime_item *item = &replay->item;
    uint64_t sequence = item->sequence;
    enum bk_status status;
    if (peer->is_stream) {
        status = send_to_stream(peer, item);
        if (status == BK_OK || status == BK_BUSY)
            replay->position = sequence;
        return status;
    }
    status = send_to_session(bk_container_of(peer, struct realtime_session, peer), item);
    if (status == BK_OK)
        replay->position = sequence;
    return status;
}

static void drop_item(struct realtime_replay *replay) {
    if (replay->has_item)
        realtime_item_fini(&replay->item);
    replay->has_item = false;
}

static void take_item(struct realtime_replay *replay) {
    struct bk_event_fields fields;
    struct bk_slice json;
    if (replay->has_item)
        return;
    read_row(&replay->rest, &fields, &json);
    realtime_item_init(&replay->item, replay->tenant, &fields, json);
    replay->has_item = true;
}

static void on_judged(void *user);

/* BK_END: a reader is asked, and it goes on behind that. A peer that is gone may have taken the
 * replay with it. */
static enum bk_status send_page(struct realtime_replay *replay) {
    enum bk_status status = BK_OK;
    while ((replay->has_item || replay->rest.length > 0) && status == BK_OK) {
        take_item(replay);
        realtime_item_resolve(&replay->item, replay->tenant);
        if (is_open(replay->peer, &replay->item)) {
            replay->is_judging = true;
            realtime_judge(replay->tenant, &replay->item, on_judged, replay);
            return BK_END;
        }
        replay->is_sending = true;
        status = send_item(replay);
        replay->is_sending = false;
        drop_item(replay);
        if (replay->peer == NULL)
            return BK_CLOSING;
    }
    return status;
}

/* --- its course ------------------------------------------------------------------------------- */

static void destroy(struct realtime_replay *replay) {
    BK_ASSERT(!replay->is_reading && !replay->is_judging && !replay->is_sending);
    drop_item(replay);
    bk_list_remove(&replay->link);
    bk_buffer_fini(&replay->page);
    bk_arena_fini(&replay->arena);
    bk_free(replay);
}

static bool is_loaded(const struct realtime_replay *replay) {
    if (replay->peer->is_stream)
        return false;
    const struct realtime_session *session =
        bk_container_of(replay->peer, struct realtime_session, peer);
    return bk_channel_queued_bytes(session->channel) > QUEUED_LOW_BYTES;
}

static void settle(struct realtime_peer *peer, uint64_t position) {
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        struct realtime_subscription *subscription =
            bk_container_of(node, struct realtime_subscription, link);
        if (subscription->until < position)
            subscription->until = position;
    }
}

static void go_on(struct realtime_replay *replay) {
    struct realtime_peer *peer = replay->peer;
    if (!replay->is_stale && replay->position >= replay->tenant->watermark) {
        settle(peer, replay->position);
        peer->replay = NULL;
        destroy(replay);
        return;
    }
    replay->is_stale = false;
    replay->is_full = replay->is_full || is_loaded(replay);
    if (!replay->is_full)
        bk_list_push(&replay->realtime->replays, &replay->link);
}

static void end_peer(struct realtime_peer *peer) {
    if (peer->is_stream)
        realtime_stream_end(peer);
    else
        realtime_session_close(bk_container_of(peer, struct realtime_session, peer),
                               REALTIME_CODE_REPLAY, BK_SLICE("the journal cannot be read"));
}

/* The page is done with. What does not go on waits for its peer to go. */
static void end_page(struct realtime_replay *replay, bool goes_on) {
    replay->realtime->pages--;
    drop_item(replay);
    bk_buffer_fini(&replay->page);
    replay->rest = BK_SLICE_EMPTY;
    if (replay->peer == NULL)
        destroy(replay);
    else if (goes_on)
        go_on(replay);
}

static void send_rest(struct realtime_replay *replay) {
    uint64_t next = replay->read.next_sequence;
    enum bk_status status = send_page(replay);
    if (status == BK_END)
        return;
    if (status == BK_OK)
        replay->position = next;
    replay->is_full = status == BK_BUSY;
    end_page(replay, status == BK_OK || status == BK_BUSY);
}

static void follow(struct realtime_replay *replay, enum bk_status status) {
    struct realtime_peer *peer = replay->peer;
    if (status != BK_OK) {
        bk_log_warn(&replay->realtime->context->log, "replay_failed",
                    BK_TEXT("status", bk_status_name(status)),
                    BK_STRING("tenant", replay->tenant->tenant->name));
        replay->realtime->pages--;
        end_peer(peer);
        return;
    }
    replay->rest = bk_buffer_slice(&replay->page);
    if (replay->is_stale)
        end_page(replay, true);
    else
        send_rest(replay);
}

static void on_judged(void *user) {
    struct realtime_replay *replay = user;
    struct realtime *realtime = replay->realtime;
    replay->is_judging = false;
    if (replay->peer == NULL || replay->is_stale)
        end_page(replay, true);
    else
        send_rest(replay);
    realtime_replays_pump(realtime);
}

static void on_page(struct bk_feed_read *read, enum bk_status status) {
    struct realtime_replay *replay = bk_container_of(read, struct realtime_replay, read);
    struct realtime *realtime = replay->realtime;
    struct bk_tenant *tenant = replay->tenant->tenant;
    replay->is_reading = false;
    if (replay->peer != NULL)
        follow(replay, status);
    else
        end_page(replay, false);
    bk_tenant_release(tenant);
    realtime_replays_pump(realtime);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void count_types(const struct realtime_peer *peer, size_t *count, bool *has_default) {
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        const struct realtime_subscription *subscription =
            bk_container_of(node, struct realtime_subscription, link);
        *count += subscription->interest.type_count;
        *has_default = *has_default || subscription->interest.type_count == 0;
    }
}

/* An update may be the end of a record for who may see it no longer. */
static void ask_for_type(struct bk_arena *arena, struct bk_feed_query *query,
                         struct bk_slice *types, struct bk_slice type) {
    static const struct bk_slice deleted = BK_SLICE_INIT("deleted");
    types[query->type_count++] = bk_arena_copy(arena, type);
    if (bk_slice_ends_with(type, BK_SLICE(".deleted")))
        types[query->type_count++] =
            bk_arena_format(arena, "%.*supdated", (int)(type.length - deleted.length), type.data);
}

/* What any of its subscriptions asks for, in texts of its own: they may go during the read. */
static void ask_for_all(struct realtime_replay *replay, struct bk_feed_query *query) {
    const struct realtime_peer *peer = replay->peer;
    size_t count = 0;
    bool has_default = false;
    count_types(peer, &count, &has_default);
    struct bk_slice *types = bk_arena_alloc(&replay->arena, (2 * count + 1) * sizeof *types);
    BK_LIST_FOR_EACH(node, &peer->subscriptions) {
        const struct bk_interest *interest =
            &bk_container_of(node, struct realtime_subscription, link)->interest;
        for (size_t i = 0; types != NULL && i < interest->type_count; i++)
            ask_for_type(&replay->arena, query, types, interest->types[i]);
        if (peer->subscription_count == 1)
            query->subject = bk_arena_copy(&replay->arena, interest->subject);
    }
    query->types = types;
    if (has_default && types != NULL)
        types[query->type_count++] = BK_SLICE("*");
    if (replay->arena.is_overflown) {
        static const struct bk_slice everything[] = {BK_SLICE_INIT("*"), BK_SLICE_INIT("_*")};
        *query = (struct bk_feed_query){.types = everything, .type_count = 2};
    }
}

static void read_page(struct realtime_replay *replay) {
    struct bk_tenant *tenant = replay->tenant->tenant;
    struct bk_journal_state journal = bk_journal_state(tenant->database);
    bk_arena_reset(&replay->arena);
    bk_buffer_init(&replay->page, PAGE_BYTES_MAX);
    memset(&replay->read, 0, sizeof replay->read);
    ask_for_all(replay, &replay->read.query);
    bk_cursor_make(replay->after, journal.epoch, replay->position);
    replay->read.tenant = tenant;
    replay->read.query.after = bk_slice_make(replay->after, sizeof replay->after);
    replay->read.query.limit = PAGE_EVENTS;
    replay->read.events = &replay->page;
    replay->read.write_event = write_row;
    replay->read.write_bytes_max = sizeof(struct row) + TEXTS_BYTES_MAX;
    replay->read.done = on_page;
    replay->is_reading = true;
    replay->realtime->pages++;
    bk_tenant_ref(tenant);
    bk_feed_read(replay->realtime->context->feed, &replay->read);
}

void realtime_replays_pump(struct realtime *realtime) {
    while (realtime->pages < PAGES_MAX && !bk_list_is_empty(&realtime->replays))
        read_page(bk_container_of(bk_list_pop(&realtime->replays), struct realtime_replay, link));
}

/* --- for the others --------------------------------------------------------------------------- */

void realtime_replay_begin(struct realtime_peer *peer, uint64_t position) {
    struct realtime *realtime = peer->realtime;
    struct realtime_replay *replay = peer->replay;
    settle(peer, realtime_peer_position(peer));
    realtime->figures.replays++;
    if (replay != NULL) {
        if (position < replay->position)
            replay->position = position;
        /* The page that is being read lacks what the new one asks for. */
        replay->is_stale = replay->is_reading || replay->is_judging || replay->is_sending;
        return;
    }
    replay = bk_alloc_zero(sizeof *replay);
    replay->realtime = realtime;
    replay->peer = peer;
    replay->tenant = peer->tenant;
    replay->position = position;
    bk_list_init(&replay->link);
    bk_buffer_init(&replay->page, PAGE_BYTES_MAX);
    bk_arena_init(&replay->arena, ARENA_BYTES);
    peer->replay = replay;
    bk_list_push(&realtime->replays, &replay->link);
}

uint64_t realtime_replay_position(const struct realtime_replay *replay) { return replay->position; }

void realtime_replay_resume(struct realtime_replay *replay) {
    if (!replay->is_full || replay->is_reading || replay->is_judging || replay->is_sending)
        return;
    replay->is_full = false;
    bk_list_push(&replay->realtime->replays, &replay->link);
    realtime_replays_pump(replay->realtime);
}

void realtime_replay_drop(struct realtime_replay *replay) {
    replay->peer = NULL;
    if (!replay->is_reading && !replay->is_judging && !replay->is_sending)
        destroy(replay);
}

/* A channel that was only loaded, not full, may never tell that it has drained. */
void realtime_replays_tick(struct realtime *realtime) {
    BK_LIST_FOR_EACH(node, &realtime->sessions) {
        struct realtime_session *session = bk_container_of(node, struct realtime_session, link);
        struct realtime_replay *replay = session->peer.replay;
        if (replay != NULL && replay->is_full && !session->is_closing && !is_loaded(replay))
            realtime_replay_resume(replay);
    }
}
