/* Records of auth collections as signing in sees them, and what a successful one gets. */
#include "auth.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"

enum {
    EVENT_BYTES_MAX = 16 * 1024,
    USER_AGENT_BYTES_MAX = 512,
    RECORD_BYTES_MAX = 4 * 1024 * 1024
};

const struct bk_collection *auth_collection(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct bk_schema *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_collection *collection =
        bk_schema_find(schema, bk_request_parameter(request, BK_SLICE("collection")));
    if (collection != NULL && collection->type == BK_COLLECTION_AUTH)
        return collection;
    bk_answer_error(request, BK_NOT_FOUND, "Missing or invalid auth collection context.");
    return NULL;
}

static struct bk_slice text_of(const struct bk_collection *collection,
                               const struct bk_value *values, struct bk_slice name,
                               struct bk_arena *arena) {
    const struct bk_field *field = bk_collection_field(collection, name);
    if (field == NULL || values[field->index].type != BK_VALUE_TEXT)
        return BK_SLICE_EMPTY;
    return bk_arena_copy(arena, values[field->index].text);
}

static void copy_row(struct bk_request *request, const struct bk_collection *collection,
                     struct bk_statement *statement, struct auth_credentials *credentials) {
    struct bk_value values[BK_COLLECTION_FIELDS_MAX];
    struct bk_arena *arena = &request->arena;
    struct bk_buffer json;
    bk_record_read(collection, statement, values);
    bk_buffer_init(&json, RECORD_BYTES_MAX);
    bk_record_write_json(collection, values, BK_VIEW_PUBLIC, &json);
    credentials->collection = collection;
    credentials->id = text_of(collection, values, BK_SLICE("id"), arena);
    credentials->password_hash = text_of(collection, values, BK_SLICE("password"), arena);
    credentials->token_key = text_of(collection, values, BK_SLICE("tokenKey"), arena);
    credentials->record = bk_arena_copy(arena, bk_buffer_slice(&json));
    bk_buffer_fini(&json);
}

enum bk_status auth_credentials_read(struct bk_request *request, struct bk_tenant *tenant,
                                     const struct bk_collection *collection, struct bk_slice by,
                                     struct bk_slice value, struct auth_credentials *credentials) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_statement *statement;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = BK_FAILPOINT("auth.credentials_read");
    if (status != BK_OK)
        return status;
    struct bk_sql sql = collection->select_by_id;
    if (!bk_slice_is(by, "id"))
        sql = bk_sql_make(bk_arena_format(&request->arena,
                                          "SELECT %.*s FROM %.*s WHERE \"%.*s\" = ?1 LIMIT 1",
                                          BK_SLICE_PRINT(collection->columns),
                                          BK_SLICE_PRINT(collection->quoted), BK_SLICE_PRINT(by)));
    status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, value);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        copy_row(request, collection, statement, credentials);
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* --- granting --------------------------------------------------------------------------------- */

static struct bk_slice cut(struct bk_slice text, size_t length) {
    while (length > 0 && length < text.length &&
           ((unsigned char)text.data[length] & 0xC0U) == 0x80U)
        length--;
    return text.length <= length ? text : bk_slice_make(text.data, length);
}

static void write_event(const struct auth_grant *grant, struct bk_buffer *out) {
    const struct bk_request *request = grant->request;
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("collection"), grant->credentials.collection->name);
    bk_json_write_member_string(out, BK_SLICE("id"), grant->credentials.id);
    bk_json_write_member_string(out, BK_SLICE("method"), grant->method);
    bk_json_write_member_string(out, BK_SLICE("remoteAddress"), request->remote_address);
    bk_json_write_member_string(
        out, BK_SLICE("userAgent"),
        cut(bk_request_header(request, BK_SLICE("user-agent")), USER_AGENT_BYTES_MAX));
    bk_buffer_append_char(out, '}');
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct auth_grant *grant = bk_container_of(write, struct auth_grant, write);
    struct bk_buffer payload;
    bk_buffer_init(&payload, EVENT_BYTES_MAX);
    write_event(grant, &payload);
    enum bk_status status = BK_TOO_LARGE;
    if (!payload.is_overflown) {
        const struct bk_event_draft draft = {.type = grant->event_type,
                                             .source = BK_SLICE("auth"),
                                             .subject = grant->label,
                                             .payload = bk_buffer_slice(&payload)};
        status = bk_transaction_emit(transaction, &draft);
    }
    bk_buffer_fini(&payload);
    return status;
}

static void answer_token(struct auth_grant *grant) {
    struct bk_request *request = grant->request;
    const struct bk_module_context *context = request->module;
    const struct bk_collection *collection = grant->credentials.collection;
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
    struct bk_buffer *out = &request->out;
    bk_buffer_append_literal(out, "{\"record\":");
    bk_buffer_append_slice(out, grant->credentials.record);
    bk_buffer_append_literal(out, ",\"token\":\"");
    auth_token_make(out, &claims, &secrets);
    bk_buffer_append_literal(out, "\"}");
    bk_answer(request, 200);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct auth_grant *grant = bk_container_of(write, struct auth_grant, write);
    if (status == BK_OK)
        answer_token(grant);
    else
        bk_answer_error(grant->request, status, NULL);
}

/* The collection is in the snapshot that was current when the request came; the write below may
 * outlive it, so what is needed of it is copied first. */
void auth_grant(struct auth_grant *grant) {
    struct bk_request *request = grant->request;
    struct bk_collection *copy = bk_arena_alloc_zero(&request->arena, sizeof(*copy));
    const struct bk_collection *collection = grant->credentials.collection;
    copy->id = bk_arena_copy(&request->arena, collection->id);
    copy->name = bk_arena_copy(&request->arena, collection->name);
    copy->token_secret = bk_arena_copy(&request->arena, collection->token_secret);
    grant->credentials.collection = copy;
    grant->label = bk_arena_format(&request->arena, "%.*s/%.*s", BK_SLICE_PRINT(copy->name),
                                   BK_SLICE_PRINT(grant->credentials.id));
    if (grant->origin.actor.length == 0)
        grant->origin.actor = grant->label;
    grant->write.origin = &grant->origin;
    grant->write.run = on_run;
    grant->write.done = on_done;
    enum bk_status status = bk_store_write(request->tenant->database, &grant->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}
