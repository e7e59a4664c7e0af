/*
 * What a client says over a WebSocket, one JSON object a message:
 *
 *   {"id":1,"op":"auth","token":"…"}
 *   {"id":2,"op":"subscribe","types":["posts.*"],"subject":"posts/abc","after":"<cursor>",
 *    "filter":"payload.total > 5"}
 *   {"id":3,"op":"unsubscribe","types":["posts.*"],"subject":"posts/abc"}
 *   {"id":4,"op":"ping"}
 *
 * Each is answered once, with its id: {"id":2,"ok":true,…} or {"id":2,"ok":false,"error":{…}}.
 * Wrong ones end nothing but themselves; only who sends bad tokens in a row is closed.
 */
#include "realtime_private.h"

enum { ID_BYTES_MAX = 64, REFUSALS_MAX = 5, MEMBERS_MAX = 4, MEMBER_SHOWN_BYTES_MAX = 100 };

/* --- answers ---------------------------------------------------------------------------------- */

static struct bk_buffer *begin_answer(struct realtime_session *session, struct bk_slice id) {
    struct bk_buffer *out = &session->peer.realtime->text;
    bk_buffer_clear(out);
    bk_buffer_append_char(out, '{');
    if (id.length > 0)
        bk_json_write_member_raw(out, BK_SLICE("id"), id);
    return out;
}

static void end_answer(struct realtime_session *session, struct bk_buffer *out) {
    bk_buffer_append_char(out, '}');
    realtime_session_answer(session, bk_buffer_slice(out));
}

void realtime_refuse(struct realtime_session *session, struct bk_slice id, const char *code,
                     const char *message, const char *field) {
    struct bk_buffer *out = begin_answer(session, id);
    bk_json_write_member_bool(out, BK_SLICE("ok"), false);
    bk_json_write_key(out, BK_SLICE("error"));
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("code"), bk_slice_from(code));
    bk_json_write_member_string(out, BK_SLICE("message"), bk_slice_from(message));
    if (field != NULL)
        bk_json_write_member_string(out, BK_SLICE("field"), bk_slice_from(field));
    bk_buffer_append_char(out, '}');
    end_answer(session, out);
}

void realtime_answer_ok(struct realtime_session *session, struct bk_slice id) {
    struct bk_buffer *out = begin_answer(session, id);
    bk_json_write_member_bool(out, BK_SLICE("ok"), true);
    end_answer(session, out);
}

static void write_cursor(struct realtime_session *session, struct bk_buffer *out,
                         uint64_t position) {
    char cursor[BK_CURSOR_BYTES];
    struct bk_journal_state journal = bk_journal_state(session->peer.tenant->tenant->database);
    bk_cursor_make(cursor, journal.epoch, position);
    bk_json_write_member_string(out, BK_SLICE("cursor"), bk_slice_make(cursor, sizeof cursor));
}

void realtime_answer_subscribed(struct realtime_session *session, struct bk_slice id,
                                uint64_t position, int recovered) {
    struct bk_buffer *out = begin_answer(session, id);
    bk_json_write_member_bool(out, BK_SLICE("ok"), true);
    write_cursor(session, out, position);
    if (recovered >= 0)
        bk_json_write_member_bool(out, BK_SLICE("recovered"), recovered > 0);
    end_answer(session, out);
}

static void answer_ping(struct realtime_session *session, struct bk_slice id) {
    struct bk_buffer *out = begin_answer(session, id);
    bk_json_write_member_string(out, BK_SLICE("op"), BK_SLICE("pong"));
    write_cursor(session, out, realtime_peer_position(&session->peer));
    end_answer(session, out);
}

/* --- auth ------------------------------------------------------------------------------------- */

static void refuse_token(struct realtime_session *session, struct bk_slice id) {
    realtime_refuse(session, id, "token_invalid",
                    "The token is not valid, or no longer: sign in again and send the new one.",
                    "token");
    if (++session->refusals >= REFUSALS_MAX)
        realtime_session_close(session, REALTIME_CODE_TOKEN, BK_SLICE("too many bad tokens"));
}

/* May a token of that tenant be used here? Where nothing was decided the session goes there. */
static bool enter_tenant(struct realtime_session *session, struct bk_tenant *tenant,
                         const struct bk_actor *actor) {
    struct realtime_peer *peer = &session->peer;
    if (tenant == peer->tenant->tenant)
        return true;
    if (session->is_bound || peer->subscription_count > 0)
        return actor->is_operator;
    realtime_peer_leave(peer);
    realtime_peer_enter(peer, tenant);
    return true;
}

void realtime_auth_in(struct realtime_session *session, struct bk_slice id, struct bk_slice token,
                      struct bk_tenant *tenant) {
    struct realtime *realtime = session->peer.realtime;
    struct bk_actor actor;
    struct bk_arena arena;
    bk_arena_init(&arena, (size_t)64 * 1024);
    enum bk_status status =
        bk_api_authenticate(realtime->context->api, tenant, token, &arena, &actor);
    if (status == BK_UNAUTHORIZED) {
        refuse_token(session, id);
    } else if (status != BK_OK) {
        realtime_refuse(session, id, "unavailable",
                        "The token cannot be checked now: send it again in a moment.", NULL);
    } else if (!realtime_may_come(&session->peer, &actor, tenant)) {
        realtime_refuse(session, id, "forbidden",
                        "The token is not taken from this address: superuserIPs of the settings "
                        "says from where superusers and API keys may come.",
                        "token");
    } else if (!enter_tenant(session, tenant, &actor)) {
        realtime_refuse(session, id, "token_of_other_tenant",
                        "The token belongs to another tenant than this connection: open one for "
                        "each tenant.",
                        "token");
    } else {
        session->is_bound = true;
        session->refusals = 0;
        realtime_viewer_join(&session->peer, &actor, token, tenant);
        realtime_answer_ok(session, id);
    }
    bk_arena_fini(&arena);
}

static void do_auth(struct realtime_session *session, struct bk_slice id,
                    const struct bk_json *message) {
    struct realtime *realtime = session->peer.realtime;
    struct bk_slice token = bk_json_get_string(message, BK_SLICE("token"));
    if (token.length == 0) {
        realtime_refuse(session, id, "validation_required",
                        "token: send the token that signing in has given you, a text.", "token");
        return;
    }
    struct bk_slice name = bk_api_token_tenant(realtime->context->api, token);
    if (name.length == 0) {
        refuse_token(session, id);
        return;
    }
    struct bk_tenant *tenant = bk_tenant_hold_open(realtime->context->tenants, name);
    if (tenant == NULL) {
        realtime_pending_auth(session, id, token, name);
        return;
    }
    realtime_auth_in(session, id, token, tenant);
    bk_tenant_release(tenant);
}

/* --- what is asked for ------------------------------------------------------------------------ */

static bool refuse_types(struct realtime_session *session, struct bk_slice id) {
    realtime_refuse(session, id, "validation_invalid_type",
                    "types: send a list of at most 100 event types or patterns: posts.created, "
                    "users.*, *.deleted, * or _*.",
                    "types");
    return false;
}

static bool read_types(struct realtime_session *session, struct bk_slice id,
                       const struct bk_json *message, struct realtime_request *request) {
    const struct bk_json *list = bk_json_get(message, BK_SLICE("types"));
    if (list == NULL || list->type == BK_JSON_NULL)
        return true;
    if (list->type != BK_JSON_ARRAY || list->child_count == 0 ||
        list->child_count > REALTIME_TYPES_MAX)
        return refuse_types(session, id);
    struct bk_slice *types =
        bk_arena_alloc(&session->peer.realtime->arena, list->child_count * sizeof(struct bk_slice));
    for (const struct bk_json *each = list->child; each != NULL; each = each->next) {
        if (each->type != BK_JSON_STRING || !bk_event_pattern_is_valid(each->string))
            return refuse_types(session, id);
        types[request->type_count++] = each->string;
    }
    request->types = types;
    return true;
}

static bool read_subject(struct realtime_session *session, struct bk_slice id,
                         const struct bk_json *message, struct realtime_request *request) {
    const struct bk_json *subject = bk_json_get(message, BK_SLICE("subject"));
    if (subject == NULL || subject->type == BK_JSON_NULL)
        return true;
    size_t slash = bk_slice_find(subject->string, '/');
    if (subject->type != BK_JSON_STRING || slash == 0 || slash + 1 >= subject->string.length ||
        subject->string.length > REALTIME_SUBJECT_BYTES_MAX) {
        realtime_refuse(session, id, "validation_invalid_subject",
                        "subject: send a collection and a record's id: posts/abc.", "subject");
        return false;
    }
    request->subject = subject->string;
    return true;
}

/* Who asks for a filter and gets everything would act on it. */
static bool read_filter(struct realtime_session *session, struct bk_slice id,
                        const struct bk_json *message, struct realtime_request *request) {
    const struct bk_json *filter = bk_json_get(message, BK_SLICE("filter"));
    struct bk_error error = BK_ERROR_INIT;
    if (filter == NULL || filter->type == BK_JSON_NULL || bk_slice_is(filter->text, "\"\""))
        return true;
    enum bk_status status = BK_INVALID;
    if (filter->type == BK_JSON_STRING)
        status = bk_event_filter_parse(filter->string, &request->filter, &error);
    else
        (void)bk_error_set(&error, status, "it must be a text");
    if (status == BK_OK)
        return true;
    struct bk_slice text =
        bk_arena_format(&session->peer.realtime->arena, "filter: %s.",
                        error.message[0] == '\0' ? bk_status_name(status) : error.message);
    realtime_refuse(session, id, "validation_invalid_filter", text.data, "filter");
    return false;
}

/* What it has refers to a filter: release_request follows. */
static bool read_request(struct realtime_session *session, struct bk_slice id,
                         const struct bk_json *message, struct realtime_request *request) {
    return read_types(session, id, message, request) &&
           read_subject(session, id, message, request) &&
           read_filter(session, id, message, request);
}

static void release_request(struct realtime_request *request) {
    bk_event_filter_unref(request->filter);
    request->filter = NULL;
}

static bool is_same_filter(const struct realtime_subscription *subscription,
                           const struct bk_event_filter *filter) {
    if (subscription->filter == NULL || filter == NULL)
        return subscription->filter == NULL && filter == NULL;
    return bk_slice_equal(bk_event_filter_text(subscription->filter->filter),
                          bk_event_filter_text(filter));
}

static bool is_same(const struct realtime_subscription *subscription,
                    const struct realtime_request *request) {
    const struct bk_interest *interest = &subscription->interest;
    if (interest->type_count != request->type_count ||
        !bk_slice_equal(interest->subject, request->subject) ||
        !is_same_filter(subscription, request->filter))
        return false;
    for (size_t i = 0; i < interest->type_count; i++)
        if (!bk_slice_equal(interest->types[i], request->types[i]))
            return false;
    return true;
}

static struct realtime_subscription *find_same(const struct realtime_session *session,
                                               const struct realtime_request *request) {
    BK_LIST_FOR_EACH(node, &session->peer.subscriptions) {
        struct realtime_subscription *subscription =
            bk_container_of(node, struct realtime_subscription, link);
        if (is_same(subscription, request))
            return subscription;
    }
    return NULL;
}

/* --- subscribe -------------------------------------------------------------------------------- */

/* Behind what was begun to be sent live, or what a replay will have read when it gets there. What
 * is there already stays as it is. Returns where the connection stands: a cursor from which it may
 * come back is not ahead of what the other subscriptions are still to be sent. */
static uint64_t subscribe_live(struct realtime_session *session,
                               const struct realtime_request *request) {
    struct realtime_peer *peer = &session->peer;
    struct bk_journal_state journal = bk_journal_state(peer->tenant->tenant->database);
    uint64_t from = peer->replay != NULL ? journal.last : peer->tenant->watermark;
    session->is_bound = true;
    uint64_t position = peer->subscription_count > 0 ? realtime_peer_position(peer) : from;
    if (find_same(session, request) == NULL)
        (void)realtime_subscribe(peer, request, from);
    return position;
}

/* Takes the place of one that is the same. */
static void subscribe_from(struct realtime_session *session, const struct realtime_request *request,
                           uint64_t position) {
    struct realtime_peer *peer = &session->peer;
    struct realtime_subscription *same = find_same(session, request);
    session->is_bound = true;
    if (peer->replay != NULL || position < peer->tenant->watermark)
        realtime_replay_begin(peer, position);
    else if (same != NULL)
        return;
    if (same != NULL)
        realtime_unsubscribe(same);
    (void)realtime_subscribe(peer, request, position);
    realtime_replays_pump(peer->realtime);
}

/* Is there memory for it? Judged when it is made: a time may have been looked up in between. */
static bool refuse_full(struct realtime_session *session, struct bk_slice id,
                        const struct realtime_request *request) {
    const char *message = NULL;
    if (find_same(session, request) == NULL)
        message = realtime_refuse_bytes(session->peer.tenant, realtime_request_bytes_max(request));
    if (message != NULL)
        realtime_refuse(session, id, "too_many_subscriptions", message, NULL);
    return message != NULL;
}

static void do_not_recover(struct realtime_session *session, struct bk_slice id,
                           const struct realtime_request *request) {
    session->peer.realtime->figures.replays_refused++;
    realtime_answer_subscribed(session, id, subscribe_live(session, request), 0);
}

void realtime_subscribe_at(struct realtime_session *session, struct bk_slice id,
                           const struct realtime_request *request, uint64_t position) {
    struct bk_journal_state journal = bk_journal_state(session->peer.tenant->tenant->database);
    if (refuse_full(session, id, request))
        return;
    if (journal.last > position + REALTIME_REPLAY_EVENTS_MAX) {
        do_not_recover(session, id, request);
        return;
    }
    subscribe_from(session, request, position);
    realtime_answer_subscribed(session, id, position, 1);
}

static void subscribe_after(struct realtime_session *session, struct bk_slice id,
                            const struct realtime_request *request, struct bk_slice after) {
    uint64_t position = 0;
    enum bk_feed_problem problem = BK_FEED_CURSOR_INVALID;
    enum bk_status status = BK_INVALID;
    if (after.length > 0)
        status = bk_feed_resolve(session->peer.tenant->tenant, after, &position, &problem);
    if (status == BK_OK)
        realtime_subscribe_at(session, id, request, position);
    else if (status == BK_NOT_SUPPORTED)
        realtime_pending_time(session, id, request, after);
    else if (problem != BK_FEED_CURSOR_INVALID)
        do_not_recover(session, id, request);
    else
        realtime_refuse(session, id, "cursor_invalid",
                        "after: send a cursor from an earlier frame or answer, \"start\", \"now\" "
                        "or an RFC 3339 time.",
                        "after");
}

static void subscribe(struct realtime_session *session, struct bk_slice id,
                      const struct realtime_request *request, const struct bk_json *after) {
    if (session->peer.subscription_count >= REALTIME_SUBSCRIPTIONS_MAX &&
        find_same(session, request) == NULL)
        realtime_refuse(session, id, "too_many_subscriptions",
                        "A connection may have 100 subscriptions: name more types in one, or "
                        "unsubscribe.",
                        NULL);
    else if (refuse_full(session, id, request))
        return;
    else if (after == NULL || after->type == BK_JSON_NULL)
        realtime_answer_subscribed(session, id, subscribe_live(session, request), -1);
    else
        subscribe_after(session, id, request, after->string);
}

static void do_subscribe(struct realtime_session *session, struct bk_slice id,
                         const struct bk_json *message) {
    struct realtime_request request = {0};
    if (read_request(session, id, message, &request))
        subscribe(session, id, &request, bk_json_get(message, BK_SLICE("after")));
    release_request(&request);
}

/* --- unsubscribe ------------------------------------------------------------------------------ */

/* Takes the named types out of one subscription, and the subscription when none is left. */
static void take_out(struct realtime_subscription *subscription, const struct bk_map *named) {
    static const struct bk_slice everything[] = {BK_SLICE_INIT("*")};
    const struct bk_interest *interest = &subscription->interest;
    struct bk_slice kept[REALTIME_TYPES_MAX];
    const struct bk_slice *types = interest->type_count == 0 ? everything : interest->types;
    size_t count = interest->type_count == 0 ? 1 : interest->type_count;
    struct realtime_request rest = {.types = kept, .subject = interest->subject};
    if (subscription->filter != NULL)
        rest.filter = subscription->filter->filter;
    for (size_t i = 0; i < count && named->count > 0; i++)
        if (bk_map_get(named, types[i]) == NULL)
            kept[rest.type_count++] = types[i];
    if (rest.type_count == count)
        return;
    if (rest.type_count > 0)
        realtime_succeed(subscription,
                         realtime_subscribe(subscription->peer, &rest, subscription->from));
    realtime_unsubscribe(subscription);
}

static void do_unsubscribe(struct realtime_session *session, struct bk_slice id,
                           const struct bk_json *message) {
    struct realtime_request request = {0};
    struct bk_map named; /* 100 subscriptions of 100 types are met by 100 names */
    if (!read_request(session, id, message, &request)) {
        release_request(&request);
        return;
    }
    bk_map_init(&named);
    for (size_t i = 0; i < request.type_count; i++)
        (void)bk_map_put(&named, request.types[i], session);
    struct bk_list *last = session->peer.subscriptions.previous;
    BK_LIST_FOR_EACH(node, &session->peer.subscriptions) {
        struct realtime_subscription *subscription =
            bk_container_of(node, struct realtime_subscription, link);
        bool is_last = node == last; /* what is put behind it is new */
        if ((request.subject.length == 0 ||
             bk_slice_equal(request.subject, subscription->interest.subject)) &&
            (request.filter == NULL || is_same_filter(subscription, request.filter)))
            take_out(subscription, &named);
        if (is_last)
            break;
    }
    bk_map_fini(&named);
    release_request(&request);
    if (session->peer.subscription_count == 0)
        realtime_unsubscribe_all(&session->peer); /* a replay too */
    realtime_answer_ok(session, id);
}

/* --- one message ------------------------------------------------------------------------------ */

static void do_ping(struct realtime_session *session, struct bk_slice id,
                    const struct bk_json *message) {
    (void)message;
    answer_ping(session, id);
}

static const struct operation {
    const char *name;
    const char *members[MEMBERS_MAX]; /* that it has beside id and op */
    void (*run)(struct realtime_session *session, struct bk_slice id,
                const struct bk_json *message);
} operations[] = {
    {"auth", {"token"}, do_auth},
    {"subscribe", {"types", "subject", "after", "filter"}, do_subscribe},
    {"unsubscribe", {"types", "subject", "filter"}, do_unsubscribe},
    {"ping", {NULL}, do_ping},
};

static bool is_known(const struct operation *operation, struct bk_slice name) {
    if (bk_slice_is(name, "id") || bk_slice_is(name, "op"))
        return true;
    for (size_t i = 0; i < MEMBERS_MAX && operation->members[i] != NULL; i++)
        if (bk_slice_equal(name, bk_slice_from(operation->members[i])))
            return true;
    return false;
}

/* A slip that was ignored would widen what is heard: `type` in place of `types` is everything. */
static void refuse_member(struct realtime_session *session, struct bk_slice id,
                          const struct operation *operation, struct bk_slice name) {
    struct bk_arena *arena = &session->peer.realtime->arena;
    struct bk_slice known = BK_SLICE("id, op");
    if (name.length > MEMBER_SHOWN_BYTES_MAX)
        name = BK_SLICE("(a long one)");
    for (size_t i = 0; i < MEMBERS_MAX && operation->members[i] != NULL; i++)
        known = bk_arena_format(arena, "%.*s, %s", BK_SLICE_PRINT(known), operation->members[i]);
    struct bk_slice field = bk_arena_copy(arena, name);
    struct bk_slice message =
        bk_arena_format(arena, "%.*s: means nothing in the op %s, which has only: %.*s.",
                        BK_SLICE_PRINT(field), operation->name, BK_SLICE_PRINT(known));
    realtime_refuse(session, id, "validation_unknown_name", message.data, field.data);
}

static void run_operation(struct realtime_session *session, struct bk_slice id,
                          const struct operation *operation, const struct bk_json *message) {
    for (const struct bk_json *each = message->child; each != NULL; each = each->next) {
        if (is_known(operation, each->key))
            continue;
        refuse_member(session, id, operation, each->key);
        return;
    }
    operation->run(session, id, message);
}

static void dispatch(struct realtime_session *session, struct bk_slice id,
                     const struct bk_json *message) {
    struct bk_slice op = bk_json_get_string(message, BK_SLICE("op"));
    for (size_t i = 0; i < BK_COUNT_OF(operations); i++) {
        if (!bk_slice_equal(op, bk_slice_from(operations[i].name)))
            continue;
        run_operation(session, id, &operations[i], message);
        return;
    }
    realtime_refuse(session, id, "unknown_op", "op: must be auth, subscribe, unsubscribe or ping.",
                    "op");
}

static bool read_id(const struct bk_json *message, struct bk_slice *id) {
    const struct bk_json *value = bk_json_get(message, BK_SLICE("id"));
    *id = BK_SLICE_EMPTY;
    if (value == NULL || value->type == BK_JSON_NULL)
        return true;
    if ((value->type != BK_JSON_NUMBER && value->type != BK_JSON_STRING) ||
        value->text.length > ID_BYTES_MAX)
        return false;
    *id = value->text;
    return true;
}

void realtime_message(struct realtime_session *session, struct bk_slice message) {
    struct bk_arena *arena = &session->peer.realtime->arena;
    struct bk_json *json = NULL;
    struct bk_slice id;
    bk_arena_reset(arena);
    if (bk_json_parse(arena, message, &json, NULL) != BK_OK || json->type != BK_JSON_OBJECT)
        realtime_refuse(session, BK_SLICE_EMPTY, "invalid_json",
                        "Send each message as one JSON object, without duplicate keys.", NULL);
    else if (!read_id(json, &id))
        realtime_refuse(session, BK_SLICE_EMPTY, "validation_invalid_id",
                        "id: must be a number or a text of at most 64 bytes.", "id");
    else
        dispatch(session, id, json);
}
