/*
 * Signing out, and one's sessions as a resource. What is shown are records of `_sessions`, by their
 * rules; they end here: the row goes, the event of it makes the token worthless and closes what is
 * open (stale.c), and then the answer leaves.
 *
 *   POST   /api/collections/{c}/auth-logout {all?}   this session, or all of the record
 *   GET    /api/sessions[/{id}]                      one's own; superusers, everybody's
 *   DELETE /api/sessions/{id}                        likewise
 *   DELETE /api/sessions                             one's own but this one
 */
#include "auth.h"

struct ending {
    struct bk_request *request;
    struct bk_schema *schema; /* pinned */
    struct bk_slice session;  /* of the path */
    bool is_logout, is_all;
    struct bk_write write;
};

/* --- on the writer ---------------------------------------------------------------------------- */

/* What the actor has: the session of the request, and the others. */
static enum bk_status end_own(const struct ending *ending, struct bk_transaction *transaction) {
    const struct bk_actor *actor = &ending->request->actor;
    const struct bk_collection *collection = bk_schema_find(ending->schema, actor->collection_id);
    enum bk_status status = BK_OK;
    if (collection == NULL)
        return BK_NOT_FOUND;
    struct auth_session_ending own = {.collection_id = collection->id,
                                      .collection = collection->name,
                                      .id = actor->id,
                                      .kept = actor->session,
                                      .reason = ending->is_logout ? "logout" : "revoked"};
    if (ending->is_all)
        status = auth_sessions_end(transaction, &own, NULL);
    if (status != BK_OK || !ending->is_logout)
        return status;
    own.session = actor->session;
    own.kept = BK_SLICE_EMPTY;
    own.type = "auth.logout";
    return auth_sessions_end(transaction, &own, NULL);
}

/* Whose the session of the path is, in the transaction's arena. */
static enum bk_status find_owner(const struct ending *ending, struct bk_transaction *transaction,
                                 struct auth_session_ending *found) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT collectionRef, recordRef FROM _sessions WHERE id = ?1"));
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, ending->session);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        found->collection_id = bk_arena_copy(arena, bk_statement_text(statement, 0));
        found->id = bk_arena_copy(arena, bk_statement_text(statement, 1));
        status = bk_arena_status(arena);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* Somebody else's is not there, for those who may not see it. */
static enum bk_status end_named(const struct ending *ending, struct bk_transaction *transaction) {
    const struct bk_actor *actor = &ending->request->actor;
    struct auth_session_ending named = {.session = ending->session, .reason = "revoked"};
    enum bk_status status = find_owner(ending, transaction, &named);
    if (status != BK_OK)
        return status;
    bool is_own = bk_slice_equal(actor->tenant, bk_transaction_tenant(transaction)) &&
                  bk_slice_equal(actor->collection_id, named.collection_id) &&
                  bk_slice_equal(actor->id, named.id);
    /* A key that came so far has the scope for it. */
    if (!is_own && !bk_actor_is_superuser(actor) && actor->kind != BK_ACTOR_KEY)
        return BK_NOT_FOUND;
    const struct bk_collection *collection = bk_schema_find(ending->schema, named.collection_id);
    named.collection = collection == NULL ? named.collection_id : collection->name;
    return auth_sessions_end(transaction, &named, NULL);
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    const struct ending *ending = bk_container_of(write, struct ending, write);
    return ending->session.length > 0 ? end_named(ending, transaction)
                                      : end_own(ending, transaction);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct ending *ending = bk_container_of(write, struct ending, write);
    struct bk_request *request = ending->request;
    bk_schema_unref(ending->schema);
    if (status == BK_OK)
        bk_answer_empty(request);
    else
        bk_answer_error(request, status,
                        status == BK_NOT_FOUND ? "There is no such session." : NULL);
}

static void end(struct bk_request *request, const struct ending *what) {
    const struct bk_module_context *context = request->module;
    struct ending *ending = bk_arena_alloc_zero(&request->arena, sizeof *ending);
    *ending = *what;
    ending->request = request;
    ending->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    ending->write = (struct bk_write){.origin = &request->origin, .run = on_run, .done = on_done};
    enum bk_status status = bk_store_write(request->tenant->database, &ending->write);
    if (status == BK_OK)
        return;
    bk_schema_unref(ending->schema);
    bk_answer_error(request, status, NULL);
}

/* --- signing out ------------------------------------------------------------------------------ */

void auth_logout(struct bk_request *request) {
    const struct bk_json *all = bk_json_get(request->json, BK_SLICE("all"));
    if (auth_own_collection(request) == NULL)
        return;
    if (all != NULL && all->type != BK_JSON_BOOL && all->type != BK_JSON_NULL) {
        bk_problems_add(&request->problems, BK_SLICE("all"), "validation_invalid_type",
                        "Must be true or false.");
        bk_answer_problems(request, BK_INVALID,
                           "An error occurred while validating the submitted data.");
        return;
    }
    if (request->actor.session.length == 0) {
        bk_answer_error(request, BK_INVALID, "Who asks came without a session.");
        return;
    }
    const struct ending ending = {
        .is_logout = true, .is_all = all != NULL && all->type == BK_JSON_BOOL && all->boolean};
    end(request, &ending);
}

void auth_session_revoke(struct bk_request *request) {
    const struct ending ending = {.session = bk_request_parameter(request, BK_SLICE("id"))};
    end(request, &ending);
}

void auth_sessions_revoke(struct bk_request *request) {
    const struct bk_actor *actor = &request->actor;
    const struct ending ending = {.is_all = true};
    if (actor->session.length > 0 && bk_slice_equal(actor->tenant, request->tenant->name))
        end(request, &ending);
    else
        bk_answer_error(request, BK_FORBIDDEN,
                        "Only who came with a session of this tenant has others: name one to end "
                        "somebody else's.");
}

/* --- looking at them -------------------------------------------------------------------------- */

struct reading {
    struct bk_request *request;
    struct bk_call call;
};

static void on_read(struct bk_call *done) {
    struct bk_request *request = bk_container_of(done, struct reading, call)->request;
    bk_buffer_append_slice(&request->out, done->answer);
    bk_answer(request, done->status);
}

/* segment: of the path as it came, behind a slash, or empty. */
static void read_records(struct bk_request *request, struct bk_slice segment) {
    const struct bk_module_context *context = request->module;
    struct reading *reading = bk_arena_alloc_zero(&request->arena, sizeof *reading);
    reading->request = request;
    reading->call = (struct bk_call){
        .actor = &request->actor,
        .tenant = request->tenant->name,
        .method = BK_GET,
        .target = bk_arena_format(&request->arena, "/api/collections/_sessions/records%.*s%s%.*s",
                                  BK_SLICE_PRINT(segment), request->query.length > 0 ? "?" : "",
                                  BK_SLICE_PRINT(request->query)),
        .done = on_read};
    bk_api_call(context->api, &reading->call);
}

void auth_sessions_list(struct bk_request *request) { read_records(request, BK_SLICE_EMPTY); }

void auth_session_view(struct bk_request *request) {
    struct bk_slice rest = request->path, segment = BK_SLICE_EMPTY;
    while (bk_slice_split(&rest, '/', &segment)) {
    }
    read_records(request, bk_arena_format(&request->arena, "/%.*s", BK_SLICE_PRINT(segment)));
}
