/*
 * What somebody gets who has shown who they are: their record as they see it themselves, and a
 * token of their session.
 *
 *   loop     the collection's authRule and `expand` are made ready
 *   reader   the rule is asked → the record is written: within the deadline of reads
 *   writer   is a second factor wanted? → what the way in has to do → the session → the event; a
 *            token that is made anew goes on with its session
 *   loop     the token → the answer; of a first factor the id that the second one brings
 *
 * A collection that changes meanwhile is seen by the writer, and all of it is done anew; changes of
 * others do not matter.
 *
 * The token is signed with the tokenKey that the record had when it was found: whoever changes the
 * password meanwhile has revoked it already.
 */
#include "auth.h"
#include "bakend/clock.h"

enum { PLANS_MAX = 2 };

static const char refused[] =
    "The request doesn't satisfy the collection requirements to authenticate.";

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

/* --- on the writer ---------------------------------------------------------------------------- */

/* Whether enough was shown: with BK_OK and an mfa_id it was the first of two factors. What was used
 * up stays used up then. */
static enum bk_status pass(struct auth_grant *grant, struct bk_transaction *transaction) {
    grant->mfa_id[0] = '\0';
    enum bk_status status =
        grant->is_alone ? BK_OK : auth_mfa_pass(grant, transaction, grant->mfa_id);
    if (status != BK_OK && status != BK_END)
        return status;
    return grant->also == NULL ? BK_OK : grant->also(grant, transaction);
}

static enum bk_status tell(const struct auth_grant *grant, struct bk_transaction *transaction) {
    const struct bk_request *request = grant->request;
    const struct auth_fact fact = {
        .type = grant->event_type.data,
        .collection = grant->collection->name,
        .id = grant->credentials.id,
        .remote_address = request->remote_address,
        .user_agent = bk_request_header(request, BK_SLICE("user-agent")),
        .texts = {{"method", grant->method},
                  {"session", bk_slice_make(grant->session_id, AUTH_SESSION_ID_BYTES)}}};
    return grant->event_type.length == 0 ? BK_OK : auth_event_emit(transaction, &fact);
}

static enum bk_status come_in(struct auth_grant *grant, struct bk_transaction *transaction) {
    if (grant->session.length > 0)
        return auth_session_extend(grant, transaction);
    enum bk_status status = auth_session_open(grant, transaction, grant->session_id);
    if (status == BK_OK && !grant->is_alone)
        status = auth_alert(grant, transaction);
    return status == BK_OK ? tell(grant, transaction) : status;
}

static enum bk_status read_key(const struct auth_grant *grant, struct bk_transaction *transaction,
                               struct bk_arena *arena, struct bk_slice *key) {
    struct auth_credentials now;
    enum bk_status status = auth_credentials_find(arena, bk_transaction_connection(transaction),
                                                  grant->collection, grant->credentials.id, &now);
    if (status == BK_OK)
        *key = now.token_key;
    return status;
}

/* What was shown is good for the record as it was found: not when its password has changed since.
 * What the way in changes itself may draw a new key. */
static enum bk_status pass_unchanged(struct auth_grant *grant, struct bk_transaction *transaction) {
    grant->token_key = BK_SLICE_EMPTY;
    enum bk_status status =
        read_key(grant, transaction, bk_transaction_arena(transaction), &grant->token_key);
    if (status == BK_OK && !bk_slice_equal(grant->token_key, grant->credentials.token_key))
        status = grant->session.length > 0 ? BK_UNAUTHORIZED : BK_INVALID;
    grant->token_key = grant->credentials.token_key;
    if (status == BK_OK)
        status = pass(grant, transaction);
    if (status == BK_OK && grant->also != NULL)
        status = read_key(grant, transaction, &grant->request->arena, &grant->token_key);
    return status;
}

enum bk_status auth_schema_verify(const struct bk_schema *schema,
                                  const struct bk_collection *collection,
                                  struct bk_transaction *transaction) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT 1 FROM _collections WHERE id = ?1 AND updated = ?2"));
    struct bk_statement *statement;
    enum bk_status status = bk_schema_verify(schema, transaction);
    if (status != BK_STALE)
        return status;
    status = bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, collection->id);
    bk_statement_bind_text(statement, 2, collection->updated);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status == BK_END ? BK_STALE : status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct auth_grant *grant = bk_container_of(write, struct auth_grant, write);
    enum bk_status status = auth_schema_verify(grant->schema, grant->collection, transaction);
    if (status == BK_OK)
        status = pass_unchanged(grant, transaction);
    if (status == BK_OK && grant->session.length == 0)
        status = auth_sweep_plan(grant->request->module, transaction);
    return status == BK_OK && grant->mfa_id[0] == '\0' ? come_in(grant, transaction) : status;
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
        .key_number = auth_key_number(context, request->tenant),
        .id = grant->credentials.id,
        .collection_id = collection->id,
        .type = BK_SLICE("auth"),
        .session = grant->session.length > 0
                       ? grant->session
                       : bk_slice_make(grant->session_id, AUTH_SESSION_ID_BYTES),
        .is_refreshable = grant->is_refreshable,
        .expires_s = grant->expires_s,
    };
    const struct auth_secrets secrets = {.instance_key = context->instance_key,
                                         .collection_secret = collection->token_secret,
                                         .token_key = grant->token_key};
    auth_token_make(out, &claims, &secrets);
}

/* Of a first factor: what the second one has to name. */
static void answer_factor(const struct auth_grant *grant) {
    struct bk_request *request = grant->request;
    bk_buffer_clear(&request->out);
    bk_buffer_append_char(&request->out, '{');
    bk_json_write_member_string(&request->out, BK_SLICE("mfaId"), bk_slice_from(grant->mfa_id));
    bk_buffer_append_char(&request->out, '}');
    bk_answer(request, 401);
}

static void answer_failure(const struct auth_grant *grant, enum bk_status status) {
    struct bk_request *request = grant->request;
    if (grant->is_refused)
        bk_answer_error(request, BK_FORBIDDEN, refused);
    else if (status == BK_TIMEOUT)
        bk_answer_error(request, BK_INVALID,
                        "Signing in took too long: give the fields that the authRule and the back "
                        "relations of expand look at an index.");
    else if (status == BK_UNAUTHORIZED) /* signed out meanwhile */
        bk_answer_error(request, status, "The request requires valid record authorization token.");
    else if (status == BK_NOT_FOUND || status == BK_INVALID || status == BK_CONFLICT)
        /* it was deleted meanwhile, or the way in says so */
        bk_answer_error(request, BK_INVALID,
                        grant->message != NULL ? grant->message : "Failed to authenticate.");
    else
        bk_answer_error(request, status, NULL);
}

static void settle(struct auth_grant *grant, enum bk_status status) {
    struct bk_request *request = grant->request;
    struct bk_slice fields = bk_request_query(request, BK_SLICE("fields"));
    if (status == BK_OK && grant->mfa_id[0] == '\0') {
        bk_buffer_append_literal(&request->out, ",\"token\":\"");
        append_token(grant, &request->out);
        bk_buffer_append_char(&request->out, '"');
        if (grant->meta.length > 0)
            bk_json_write_member_raw(&request->out, BK_SLICE("meta"), grant->meta);
        bk_buffer_append_char(&request->out, '}');
    }
    bk_schema_unref(grant->schema);
    if (grant->first_schema != NULL)
        bk_schema_unref(grant->first_schema);
    if (status == BK_OK && grant->mfa_id[0] != '\0') {
        answer_factor(grant);
        return;
    }
    if (status == BK_OK && fields.length > 0)
        status = bk_answer_pick_fields(request, fields);
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        answer_failure(grant, status);
}

/* --- step by step ----------------------------------------------------------------------------- */

/* The schema of now, and the collection as it is there. What was pinned first stays so until the
 * end: the way in may hold texts of it. */
static enum bk_status renew(struct auth_grant *grant) {
    const struct bk_module_context *context = grant->request->module;
    struct bk_schema *schema = bk_schema_current(context->schema, grant->request->tenant);
    const struct bk_collection *collection = bk_schema_find(schema, grant->collection->id);
    if (schema == grant->schema)
        return BK_OK;
    if (collection == NULL || collection->type != BK_COLLECTION_AUTH)
        return BK_NOT_FOUND;
    if (grant->first_schema == NULL)
        grant->first_schema = grant->schema;
    else
        bk_schema_unref(grant->schema);
    grant->schema = bk_schema_ref(schema);
    grant->collection = collection;
    return BK_OK;
}

/* Once more, with the schema of now. */
static void repeat(struct auth_grant *grant) {
    if (grant->plans < PLANS_MAX)
        auth_grant(grant);
    else
        settle(grant, BK_STALE);
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
    if (status != BK_OK && is_stale && grant->plans < PLANS_MAX) {
        repeat(grant); /* its statements are of tables that look otherwise by now */
        return;
    }
    if (status == BK_OK && grant->token.length == 0) {
        grant->expires_s = bk_clock_wall_ms() / 1000 + grant->duration_s;
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
        status = auth_mfa_make(grant);
    if (status == BK_OK)
        status = become(grant, &askers[1]);
    if (status == BK_OK)
        status = bk_show_make(&grant->show, &request->arena, &askers[1], grant->collection,
                              bk_request_query(request, BK_SLICE("expand")));
    return status;
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
    enum bk_status status = renew(grant);
    grant->plans++;
    if (status == BK_OK)
        status = make_ready(grant);
    if (status == BK_OK) {
        grant->read.run = on_read;
        grant->read.done = on_read_done;
        status = bk_store_read(request->tenant->database, &grant->read);
    }
    if (status != BK_OK)
        settle(grant, status);
}
