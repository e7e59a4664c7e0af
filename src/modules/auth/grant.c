/*
 * What somebody gets who has shown who they are: their record as they see it themselves, and a
 * token.
 *
 *   loop     the collection's authRule and `expand` are made ready
 *   reader   the rule is asked → the record is written: within the deadline of reads
 *   writer   the event; none for a token that is made anew
 *   loop     the token → the answer
 *
 * A schema that changes meanwhile is seen by the writer, and all of it is done once more.
 *
 * The token is signed with the tokenKey that the record had when it was found: whoever changes the
 * password meanwhile has revoked it already.
 */
#include "auth.h"
#include "bakend/clock.h"

enum { EVENT_BYTES_MAX = 16 * 1024, USER_AGENT_BYTES_MAX = 512 };

static const char refused[] =
    "The request doesn't satisfy the collection requirements to authenticate.";

/* --- the event -------------------------------------------------------------------------------- */

static struct bk_slice cut(struct bk_slice text, size_t length) {
    while (length > 0 && length < text.length &&
           ((unsigned char)text.data[length] & 0xC0U) == 0x80U)
        length--;
    return text.length <= length ? text : bk_slice_make(text.data, length);
}

static void write_event(const struct auth_grant *grant, struct bk_buffer *out) {
    const struct bk_request *request = grant->request;
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("collection"), grant->collection->name);
    bk_json_write_member_string(out, BK_SLICE("id"), grant->credentials.id);
    bk_json_write_member_string(out, BK_SLICE("method"), grant->method);
    bk_json_write_member_string(out, BK_SLICE("remoteAddress"), request->remote_address);
    bk_json_write_member_string(
        out, BK_SLICE("userAgent"),
        cut(bk_request_header(request, BK_SLICE("user-agent")), USER_AGENT_BYTES_MAX));
    bk_buffer_append_char(out, '}');
}

static enum bk_status emit(const struct auth_grant *grant, struct bk_transaction *transaction) {
    struct bk_buffer payload;
    bk_buffer_init(&payload, EVENT_BYTES_MAX);
    write_event(grant, &payload);
    enum bk_status status = bk_buffer_status(&payload);
    if (status == BK_OK) {
        const struct bk_event_draft draft = {.type = grant->event_type,
                                             .source = BK_SLICE("auth"),
                                             .subject = grant->label,
                                             .payload = bk_buffer_slice(&payload)};
        status = bk_transaction_emit(transaction, &draft);
    }
    bk_buffer_fini(&payload);
    return status;
}

/* --- the record ------------------------------------------------------------------------------- */

static enum bk_status write_record(struct auth_grant *grant, struct bk_connection *connection) {
    const struct bk_collection *collection = grant->collection;
    struct bk_buffer *out = &grant->request->out;
    struct bk_statement *statement;
    bk_buffer_clear(out);
    enum bk_status status = bk_question_ask(&grant->rule, connection, grant->credentials.id);
    grant->is_refused = status == BK_NOT_FOUND;
    if (status == BK_OK)
        status = bk_connection_statement(connection, &collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, grant->credentials.id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_value values[BK_COLLECTION_FIELDS_MAX];
        bk_record_read(collection, statement, values);
        bk_buffer_append_literal(out, "{\"record\":");
        status = bk_show_write(grant->show, connection, values, out);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static enum bk_status on_read(struct bk_connection *connection, struct bk_read *read) {
    return write_record(bk_container_of(read, struct auth_grant, read), connection);
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    const struct auth_grant *grant = bk_container_of(write, struct auth_grant, write);
    enum bk_status status = bk_schema_verify(grant->schema, transaction);
    return status == BK_OK ? emit(grant, transaction) : status;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void append_token(const struct auth_grant *grant, struct bk_buffer *out) {
    struct bk_request *request = grant->request;
    const struct bk_module_context *context = request->module;
    const struct bk_collection *collection = grant->collection;
    if (grant->token.length > 0) {
        bk_buffer_append_slice(out, grant->token);
        return;
    }
    const struct auth_claims claims = {
        .tenant = request->tenant->name,
        .key_number = 1,
        .id = grant->credentials.id,
        .collection_id = collection->id,
        .type = BK_SLICE("auth"),
        .is_refreshable = grant->is_refreshable,
        .expires_s = bk_clock_wall_ms() / 1000 + grant->duration_s,
    };
    const struct auth_secrets secrets = {.instance_key = context->instance_key,
                                         .collection_secret = collection->token_secret,
                                         .token_key = grant->credentials.token_key};
    auth_token_make(out, &claims, &secrets);
}

static void settle(struct auth_grant *grant, enum bk_status status) {
    struct bk_request *request = grant->request;
    struct bk_slice fields = bk_request_query(request, BK_SLICE("fields"));
    if (status == BK_OK) {
        bk_buffer_append_literal(&request->out, ",\"token\":\"");
        append_token(grant, &request->out);
        bk_buffer_append_literal(&request->out, "\"}");
    }
    bk_schema_unref(grant->schema);
    if (status == BK_OK && fields.length > 0)
        status = bk_answer_pick_fields(request, fields);
    if (status == BK_OK)
        bk_answer(request, 200);
    else if (grant->is_refused)
        bk_answer_error(request, BK_FORBIDDEN, refused);
    else if (status == BK_TIMEOUT)
        bk_answer_error(request, BK_INVALID,
                        "Signing in took too long: give the fields that the authRule and the back "
                        "relations of expand look at an index.");
    else if (status == BK_NOT_FOUND) /* it was deleted meanwhile */
        bk_answer_error(request, BK_INVALID, "Failed to authenticate.");
    else
        bk_answer_error(request, status, NULL);
}

/* --- step by step ----------------------------------------------------------------------------- */

/* Once more, with the schema of now. */
static void repeat(struct auth_grant *grant) {
    const struct bk_module_context *context = grant->request->module;
    struct bk_schema *schema = bk_schema_current(context->schema, grant->request->tenant);
    const struct bk_collection *collection = bk_schema_find(schema, grant->actor.collection_id);
    if (grant->is_second || collection == NULL || collection->type != BK_COLLECTION_AUTH) {
        settle(grant, BK_STALE);
        return;
    }
    bk_schema_ref(schema);
    bk_schema_unref(grant->schema);
    grant->schema = schema;
    grant->collection = collection;
    grant->is_second = true;
    auth_grant(grant);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct auth_grant *grant = bk_container_of(write, struct auth_grant, write);
    if (status == BK_STALE)
        repeat(grant);
    else
        settle(grant, status);
}

static void on_read_done(struct bk_read *read, enum bk_status status) {
    struct auth_grant *grant = bk_container_of(read, struct auth_grant, read);
    const struct bk_module_context *context = grant->request->module;
    bool is_stale = bk_schema_current(context->schema, grant->request->tenant) != grant->schema;
    if (status != BK_OK && is_stale && !grant->is_second) {
        repeat(grant); /* its statements are of tables that look otherwise by now */
        return;
    }
    if (status == BK_OK && grant->event_type.length > 0) {
        if (grant->origin.actor.length == 0)
            grant->origin.actor = grant->label;
        grant->write.origin = &grant->origin;
        grant->write.run = on_run;
        grant->write.done = on_done;
        status = bk_store_write(grant->request->tenant->database, &grant->write);
        if (status == BK_OK)
            return;
    }
    settle(grant, status);
}

/* --- making ready ----------------------------------------------------------------------------- */

/* As the record itself from here on: what is shown to it, and what it may expand. */
static enum bk_status become(struct auth_grant *grant, struct bk_asker *asker) {
    struct bk_request *request = grant->request;
    const struct bk_actor former = request->actor;
    bool is_superuser = bk_slice_is(grant->collection->name, "_superusers");
    grant->actor = (struct bk_actor){
        .kind = is_superuser ? BK_ACTOR_SUPERUSER : BK_ACTOR_RECORD,
        .is_operator = is_superuser && bk_slice_is(request->tenant->name, "default"),
        .label = grant->label,
        .id = grant->credentials.id,
        .collection_id = grant->collection->id,
        .tenant = request->tenant->name,
    };
    request->actor = grant->actor;
    enum bk_status status =
        bk_request_asker(request, grant->schema, request->json, BK_SLICE("default"), asker);
    request->actor = former;
    asker->actor = &grant->actor;
    return status;
}

/* Superusers let in whom they want. A null rule lets nobody in. */
static enum bk_status make_rule(struct auth_grant *grant, struct bk_asker *asker) {
    struct bk_request *request = grant->request;
    struct bk_slice rule = grant->collection->auth_rule;
    grant->rule.is_there = false;
    if (bk_actor_is_superuser(&request->actor))
        return BK_OK;
    grant->is_refused = rule.data == NULL;
    if (rule.length == 0)
        return grant->is_refused ? BK_FORBIDDEN : BK_OK;
    enum bk_status status =
        bk_request_asker(request, grant->schema, request->json, grant->context, asker);
    if (status == BK_OK)
        status = bk_question_make(&grant->rule, &request->arena, asker, grant->collection, rule,
                                  BK_QUESTION_OF_STORED);
    grant->is_refused = status == BK_INVALID;
    return status;
}

static enum bk_status make_ready(struct auth_grant *grant) {
    struct bk_request *request = grant->request;
    struct bk_asker *askers = bk_arena_alloc_zero(&request->arena, 2 * sizeof *askers);
    grant->label =
        bk_arena_format(&request->arena, "%.*s/%.*s", BK_SLICE_PRINT(grant->collection->name),
                        BK_SLICE_PRINT(grant->credentials.id));
    enum bk_status status = bk_arena_status(&request->arena);
    if (status == BK_OK)
        status = make_rule(grant, &askers[0]);
    if (status == BK_OK)
        status = become(grant, &askers[1]);
    if (status == BK_OK)
        status = bk_show_make(&grant->show, &request->arena, &askers[1], grant->collection,
                              bk_request_query(request, BK_SLICE("expand")));
    return status;
}

/* A second factor cannot be asked for yet, and one that was asked for must not be left out. */
static bool lacks_factor(const struct auth_grant *grant) {
    return bk_slice_is(grant->method, "password") &&
           auth_option_is_on(grant->collection, "mfa", "enabled");
}

void auth_grant_init(struct auth_grant *grant, struct bk_request *request,
                     const struct bk_collection *collection) {
    const struct bk_module_context *context = request->module;
    grant->request = request;
    grant->collection = collection;
    grant->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    grant->duration_s = auth_option_number(collection, "authToken", "duration");
    grant->context = BK_SLICE("default");
}

void auth_grant(struct auth_grant *grant) {
    struct bk_request *request = grant->request;
    enum bk_status status = make_ready(grant);
    if (status == BK_OK && lacks_factor(grant)) {
        bk_schema_unref(grant->schema);
        bk_answer_error(request, BK_FORBIDDEN,
                        "The collection asks for a second factor, which this server does not "
                        "check yet: switch its mfa off to sign in by password alone.");
        return;
    }
    if (status == BK_OK) {
        grant->read.run = on_read;
        grant->read.done = on_read_done;
        status = bk_store_read(request->tenant->database, &grant->read);
    }
    if (status != BK_OK)
        settle(grant, status);
}
