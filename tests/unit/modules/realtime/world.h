/*
 * Realtime on a kernel with a schema, and clients that are structs: what a test's client is sent
 * lies in a buffer, and how much it takes is the test's to say.
 */
#ifndef REALTIME_WORLD_H
#define REALTIME_WORLD_H

#include "module_fixture.h"

#include "bakend/alloc.h"
#include "realtime_private.h"

#include <stdio.h>
#include <stdlib.h>

extern const struct bk_module bk_module_realtime;

enum { CLIENT_MESSAGES_MAX = 8192 };

/* Tokens are "<tenant> <kind> <id> <session>", kind s (superuser), u (user) or k (key with
 * events:read). */
struct world {
    struct support_module module;
    struct bk_module wrapped;
    const char *revoked; /* a token that is no good any more */
    const char *scopes;  /* of keys; NULL: events:read */
    int64_t expires_s;   /* of tokens; 0: never */
    struct realtime_options options;
};
static struct world world;

static struct bk_slice part_of(struct bk_slice token, size_t index) {
    struct bk_slice part = BK_SLICE_EMPTY;
    for (size_t i = 0; i <= index; i++)
        if (!bk_slice_split(&token, ' ', &part))
            return BK_SLICE_EMPTY;
    return part;
}

static struct bk_slice tenant_of_token(void *user, struct bk_slice token) {
    (void)user;
    return bk_slice_find(token, ' ') == token.length ? BK_SLICE_EMPTY : part_of(token, 0);
}

static enum bk_status authenticate_token(void *user, struct bk_tenant *tenant,
                                         struct bk_slice token, struct bk_request *request) {
    (void)user;
    struct bk_slice kind = part_of(token, 1);
    struct bk_actor *actor = &request->actor;
    if (!bk_slice_equal(part_of(token, 0), tenant->name) || kind.length == 0 ||
        (world.revoked != NULL && bk_slice_equal(token, bk_slice_from(world.revoked))))
        return BK_UNAUTHORIZED;
    *actor = (struct bk_actor){.kind = BK_ACTOR_RECORD, .id = part_of(token, 2)};
    actor->tenant = bk_arena_copy(&request->arena, tenant->name);
    actor->session = part_of(token, 3);
    actor->expires_s = world.expires_s;
    if (kind.data[0] == 's') {
        actor->kind = BK_ACTOR_SUPERUSER;
        actor->is_operator = bk_slice_is(tenant->name, "default");
    } else if (kind.data[0] == 'k') {
        actor->kind = BK_ACTOR_KEY;
        actor->scopes = bk_slice_from(world.scopes == NULL ? "events:read" : world.scopes);
    }
    actor->label = bk_arena_format(&request->arena, "users/%.*s", BK_SLICE_PRINT(actor->id));
    return BK_OK;
}

static const struct bk_authenticator authenticator = {.tenant_of = tenant_of_token,
                                                      .authenticate = authenticate_token};

/* The schema is made with the module, before any tenant opens. */
static enum bk_status init_with_schema(struct bk_module_context *context, struct bk_error *error) {
    context->schema = bk_schema_kind_create(context->tenants, context->log);
    bk_schema_set_rule_check(context->schema, bk_rule_is_valid);
    bk_api_set_authenticator(context->api, &authenticator);
    return bk_module_realtime.init(context, error);
}

static void fini_with_schema(struct bk_module_context *context) {
    bk_module_realtime.fini(context);
    bk_schema_kind_destroy(context->schema);
}

static struct realtime *realtime_of_world(void) { return world.module.context.state; }

/* --- collections and events ------------------------------------------------------------------- */

struct waiting_change {
    struct bk_schema_change change;
    bool is_done;
    enum bk_status status;
};

static void on_changed(struct bk_schema_change *change, enum bk_status status) {
    struct waiting_change *waiting = bk_container_of(change, struct waiting_change, change);
    waiting->is_done = true;
    waiting->status = status;
}

static void define(struct bk_tenant *tenant, const char *definition) {
    struct bk_arena arena;
    struct bk_json *json = NULL;
    struct bk_problems problems;
    bk_arena_init(&arena, 1024 * 1024);
    bk_problems_init(&problems, &arena);
    assert_int_equal(bk_json_parse(&arena, bk_slice_from(definition), &json, NULL), BK_OK);
    struct waiting_change waiting = {.change = {.tenant = tenant,
                                                .action = BK_SCHEMA_CREATE,
                                                .definition = json,
                                                .arena = &arena,
                                                .problems = &problems,
                                                .done = on_changed}};
    bk_schema_change(world.module.context.schema, &waiting.change);
    support_loop_run_until(world.module.kernel.loop, &waiting.is_done);
    assert_int_equal(waiting.status, BK_OK);
    bk_arena_fini(&arena);
}

/* posts: everybody may list and view; drafts: view only; secrets: superusers. */
static void define_all(struct bk_tenant *tenant) {
#define FIELDS                                                                                     \
    "\"type\":\"base\",\"fields\":[{\"name\":\"title\",\"type\":\"text\"},"                        \
    "{\"name\":\"note\",\"type\":\"text\",\"hidden\":true},"                                       \
    "{\"name\":\"last\",\"type\":\"text\"}]"
    define(tenant, "{\"name\":\"posts\",\"listRule\":\"\",\"viewRule\":\"\"," FIELDS "}");
    define(tenant, "{\"name\":\"drafts\",\"viewRule\":\"\"," FIELDS "}");
    define(tenant, "{\"name\":\"secrets\"," FIELDS "}");
#undef FIELDS
}

static inline void emit_as(struct bk_tenant *tenant, const char *source, const char *type,
                           const char *subject, uint32_t count) {
    struct bk_event_draft draft = {.type = bk_slice_from(type),
                                   .subject = bk_slice_from(subject),
                                   .source = bk_slice_from(source),
                                   .payload = BK_SLICE("{\"id\":\"a\",\"title\":\"Hello\","
                                                       "\"last\":\"z\"}"),
                                   .hidden = BK_SLICE("{\"note\":\"hush\"}")};
    assert_int_equal(support_kernel_emit(&world.module.kernel, tenant, &draft, count, NULL), BK_OK);
    support_module_settle(&world.module);
    support_loop_run_for(world.module.kernel.loop, 1);
}

static inline void emit(const char *type, const char *subject, uint32_t count) {
    emit_as(world.module.kernel.tenant, "collections", type, subject, count);
}

static uint64_t last_sequence(void) {
    return bk_journal_state(world.module.kernel.tenant->database).last;
}

static int setup(void **state) {
    (void)state;
    world = (struct world){.wrapped = bk_module_realtime};
    world.wrapped.init = init_with_schema;
    world.wrapped.fini = fini_with_schema;
    world.options.subscriptions_max_bytes = INT64_C(256) * 1024 * 1024;
    support_module_open(&world.module, &world.wrapped, &world.options, NULL);
    define_all(world.module.kernel.tenant);
    support_module_settle(&world.module);
    return 0;
}

/* --- clients ---------------------------------------------------------------------------------- */

struct client {
    struct bk_channel channel;
    struct bk_request request;
    struct bk_header headers[4];
    struct bk_buffer received; /* text; messages of a channel each end with a line end */
    size_t messages[CLIENT_MESSAGES_MAX], count, seen;
    size_t taken_max; /* messages that it takes before it is full; 0: any */
    size_t queued;    /* said to be */
    int status, code;
    bool is_stream, is_open, is_ended, is_closing;
    char reason[128];
};

static bool is_full(const struct client *client) {
    return client->taken_max > 0 && client->count >= client->taken_max;
}

static enum bk_status take_message(struct client *client, struct bk_slice message) {
    if (client->is_closing)
        return BK_CLOSING;
    if (is_full(client))
        return BK_BUSY;
    assert_true(client->count < CLIENT_MESSAGES_MAX);
    client->messages[client->count++] = client->received.length;
    bk_buffer_append_slice(&client->received, message);
    bk_buffer_append_char(&client->received, '\n');
    return BK_OK;
}

static enum bk_status on_channel_send(struct bk_channel *channel, struct bk_slice message,
                                      bool is_binary) {
    assert_false(is_binary);
    return take_message(bk_container_of(channel, struct client, channel), message);
}

static enum bk_status on_channel_send_shared(struct bk_channel *channel, struct bk_shared *text) {
    return take_message(bk_container_of(channel, struct client, channel),
                        bk_slice_make(text->room + BK_SHARED_HEAD_BYTES, text->length));
}

static size_t on_channel_queued(const struct bk_channel *channel) {
    const char *start = (const char *)channel;
    return ((const struct client *)(start - offsetof(struct client, channel)))->queued;
}

static void on_channel_close(struct bk_channel *channel, int code, struct bk_slice reason) {
    struct client *client = bk_container_of(channel, struct client, channel);
    if (client->is_closing)
        return;
    client->is_closing = true;
    client->code = code;
    snprintf(client->reason, sizeof client->reason, "%.*s", BK_SLICE_PRINT(reason));
}

static const struct bk_channel_operations channel_operations = {
    on_channel_send, on_channel_send_shared, on_channel_queued, on_channel_close};

static enum bk_status on_accept(struct bk_request *request,
                                const struct bk_channel_handler *handler, void *user,
                                struct bk_channel **channel) {
    struct client *client = request->transport;
    client->channel = (struct bk_channel){&channel_operations, handler, user};
    *channel = &client->channel;
    return BK_OK;
}

static void on_accepted(struct bk_request *request) {
    struct client *client = request->transport;
    client->is_open = true;
}

static void on_answer(struct bk_request *request) {
    struct client *client = request->transport;
    client->status = request->status;
    bk_buffer_append_slice(&client->received, bk_buffer_slice(&request->out));
    bk_buffer_append_char(&client->received, '\0'); /* tests read it as a text */
    client->received.length--;
    client->is_ended = true;
}

static void on_begin(struct bk_request *request) {
    struct client *client = request->transport;
    client->status = request->status;
    client->is_stream = client->is_open = true;
}

static bool on_write(struct bk_request *request, struct bk_slice data) {
    struct client *client = request->transport;
    assert_true(client->count < CLIENT_MESSAGES_MAX);
    client->messages[client->count++] = client->received.length;
    bk_buffer_append_slice(&client->received, data);
    return !is_full(client);
}

static void on_end(struct bk_request *request) {
    struct client *client = request->transport;
    client->is_ended = true;
    client->is_open = false;
}

static const struct bk_responder responder = {.send = on_answer,
                                              .stream_begin = on_begin,
                                              .stream_write = on_write,
                                              .stream_end = on_end,
                                              .channel_accept = on_accept,
                                              .channel_accepted = on_accepted};

static void ask(struct client *client, enum bk_method method, const char *token, const char *tenant,
                bool is_upgrade, const char *body) {
    struct bk_request *request = &client->request;
    size_t body_max_bytes = 0;
    *client = (struct client){0};
    bk_buffer_init(&client->received, 64 * 1024 * 1024);
    bk_request_init(request, world.module.api);
    client->headers[0] = (struct bk_header){BK_SLICE("content-type"), BK_SLICE("application/json")};
    uint32_t count = 1;
    if (is_upgrade)
        client->headers[count++] = (struct bk_header){BK_SLICE("upgrade"), BK_SLICE("websocket")};
    if (token != NULL)
        client->headers[count++] =
            (struct bk_header){BK_SLICE("authorization"), bk_slice_from(token)};
    if (tenant != NULL)
        client->headers[count++] =
            (struct bk_header){BK_SLICE("x-bakend-tenant"), bk_slice_from(tenant)};
    request->method = method;
    request->target = request->path = BK_SLICE("/api/realtime");
    request->headers = client->headers;
    request->header_count = count;
    request->remote_address = BK_SLICE("127.0.0.1");
    request->body = bk_slice_from(body);
    request->responder = &responder;
    request->transport = client;
    if (bk_api_begin(world.module.api, request, &body_max_bytes))
        bk_api_dispatch(request);
    SUPPORT_LOOP_UNTIL(world.module.kernel.loop, client->is_open || client->is_ended);
    if (!client->is_stream)
        bk_request_fini(request);
}

static inline struct client *connect_as(const char *token, const char *tenant) {
    struct client *client = bk_alloc(sizeof *client);
    ask(client, BK_GET, token, tenant, true, NULL);
    assert_true(client->is_open);
    return client;
}

static inline struct client *connect_guest(void) { return connect_as(NULL, NULL); }

static inline void leave(struct client *client) {
    if (client->is_stream && !client->is_ended)
        bk_api_abort(&client->request);
    else if (client->is_open)
        client->channel.handler->on_close(&client->channel,
                                          client->code == 0 ? 1005 : client->code);
    if (client->is_stream)
        bk_request_fini(&client->request);
    bk_buffer_fini(&client->received);
    bk_free(client);
}

static inline void run(void) { support_loop_run_for(world.module.kernel.loop, 3); }

/* The message of this number, with a NUL behind it. */
static inline const char *message_at(struct client *client, size_t index) {
    static char text[128 * 1024];
    if (index >= client->count)
        fail_msg("message %zu of %zu", index, client->count);
    size_t end = index + 1 < client->count ? client->messages[index + 1] : client->received.length;
    snprintf(text, sizeof text, "%.*s", (int)(end - client->messages[index]),
             client->received.data + client->messages[index]);
    return text;
}

/* The next one that was not looked at. */
static inline const char *next(struct client *client) { return message_at(client, client->seen++); }

static inline size_t unseen(const struct client *client) { return client->count - client->seen; }

/* Sends a message (apostrophes stand for quotes) and returns the answer to it. */
static inline const char *say(struct client *client, const char *message) {
    char text[8192];
    size_t length = strlen(message), before = client->count;
    assert_true(length < sizeof text);
    for (size_t i = 0; i <= length; i++)
        text[i] = message[i] == '\'' ? '"' : message[i];
    client->channel.handler->on_message(&client->channel, bk_slice_make(text, length), false);
    SUPPORT_LOOP_UNTIL(world.module.kernel.loop, client->count > before);
    client->seen = before + 1;
    return message_at(client, before);
}

static inline bool has(const char *text, const char *part) {
    char quoted[1024];
    size_t length = strlen(part);
    assert_true(length < sizeof quoted);
    for (size_t i = 0; i <= length; i++)
        quoted[i] = part[i] == '\'' ? '"' : part[i];
    bool is_there = strstr(text, quoted) != NULL;
    return is_there;
}
#define assert_has(text, part)                                                                     \
    do {                                                                                           \
        const char *assert_text_ = (text);                                                         \
        if (!has(assert_text_, (part)))                                                            \
            fail_msg("%s is not in %s", (part), assert_text_);                                     \
    } while (0)

static inline uint64_t sequence_in(const char *frame) {
    const char *at = strstr(frame, "\"sequence\":");
    if (at == NULL)
        fail_msg("no sequence in %s", frame);
    return (uint64_t)strtoull(at + strlen("\"sequence\":"), NULL, 10);
}

static inline void cursor_at(uint64_t sequence, char out[BK_CURSOR_BYTES + 1]) {
    bk_cursor_make(out, bk_journal_state(world.module.kernel.tenant->database).epoch, sequence);
    out[BK_CURSOR_BYTES] = '\0';
}

static inline void run_until_count(struct client *client, size_t count) {
    SUPPORT_LOOP_UNTIL(world.module.kernel.loop, client->count >= count);
}

#endif
