/*
 * API keys over REST: made, listed, changed, rotated and deleted by superusers of their tenant, and
 * by nobody else; no scope opens these routes, so no key makes another one.
 *
 * `_apiKeys` is written by this file alone, in the system's name and under the label of who asked.
 * The hash of a key is written, changed and removed in the transaction of its record, which never
 * has it: so neither events nor snapshots nor answers do. The key itself is in the answer that
 * makes it and nowhere else.
 *
 *   create, rotate   a text is drawn ─> the record's call, and beside it the hash ─> answered with
 *                    the text
 *   update           name, scopes, expires
 *   delete           the record, and beside it the hash
 */
#include "auth.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"

enum { SCOPES_MAX = 100, SCOPES_BYTES_MAX = 16 * 1024 };

#define RECORDS "/api/collections/_apiKeys/records"

/* In the request's arena. */
struct task {
    struct bk_request *request;
    struct bk_module_context *context;
    struct bk_actor writer;
    struct bk_companion companion;
    struct bk_buffer body;
    struct bk_slice id;  /* of the record that the path names */
    struct bk_slice key; /* to be shown; empty: none */
    char hash[AUTH_API_KEY_HASH_BYTES];
    struct bk_call call;
};

static struct task *begin(struct bk_request *request) {
    struct task *task = bk_arena_alloc_zero(&request->arena, sizeof(*task));
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE, NULL);
        return NULL;
    }
    task->request = request;
    task->context = request->module;
    task->writer = bk_actor_system;
    task->writer.label = request->actor.label;
    bk_buffer_init(&task->body, 2 * AUTH_API_KEY_BODY_BYTES_MAX);
    return task;
}

/* --- what is asked for ------------------------------------------------------------------------ */

static bool is_one_of(struct bk_slice word, struct bk_slice words) {
    struct bk_slice known;
    while (bk_slice_split(&words, ' ', &known))
        if (bk_slice_equal(word, known))
            return true;
    return false;
}

/* "events:*", where there is a scope of events. */
static bool is_all_of_one(struct bk_slice word, struct bk_slice words) {
    struct bk_slice known;
    if (!bk_slice_ends_with(word, BK_SLICE(":*")))
        return false;
    struct bk_slice resource = bk_slice_make(word.data, word.length - 1);
    while (bk_slice_split(&words, ' ', &known))
        if (bk_slice_starts_with(known, resource))
            return true;
    return false;
}

/* "records:read:posts", where there are posts. */
static bool is_of_collection(const struct task *task, struct bk_slice word) {
    static const struct bk_slice heads[] = {BK_SLICE_INIT("records:read:"),
                                            BK_SLICE_INIT("records:write:")};
    struct bk_schema *schema = bk_schema_current(task->context->schema, task->request->tenant);
    for (size_t i = 0; i < BK_COUNT_OF(heads); i++) {
        if (!bk_slice_starts_with(word, heads[i]))
            continue;
        struct bk_slice name =
            bk_slice_make(word.data + heads[i].length, word.length - heads[i].length);
        const struct bk_collection *collection = bk_schema_find(schema, name);
        return collection != NULL && !collection->is_system &&
               bk_slice_equal(collection->name, name);
    }
    return false;
}

/* What is everybody's is not a tenant's to give. */
static bool may_give(const struct task *task, struct bk_slice word) {
    return !bk_slice_starts_with(word, BK_SLICE("tenants:")) ||
           (task->request->actor.is_operator &&
            bk_slice_is(task->request->tenant->name, "default"));
}

static bool is_scope(const struct task *task, struct bk_slice word, struct bk_slice known) {
    return word.length > 0 && may_give(task, word) &&
           (is_one_of(word, known) || is_all_of_one(word, known) || is_of_collection(task, word));
}

static void problem_scope(struct task *task, struct bk_slice word, struct bk_slice known) {
    struct bk_request *request = task->request;
    struct bk_slice message = bk_arena_format(
        &request->arena,
        "There is no scope \"%.*s\" to give here. There are: %.*s; resource:* for all of one; "
        "records:read:posts for one collection.",
        BK_SLICE_PRINT(word), BK_SLICE_PRINT(known));
    bk_problems_add(&request->problems, BK_SLICE("scopes"), "validation_unknown_scope",
                    message.data == NULL ? "There is no such scope." : message.data);
}

static void read_scopes(struct task *task, const struct bk_json *scopes) {
    struct bk_request *request = task->request;
    struct bk_buffer known;
    if (scopes->type != BK_JSON_ARRAY || scopes->child_count == 0 ||
        scopes->child_count > SCOPES_MAX) {
        bk_problems_add(&request->problems, BK_SLICE("scopes"), "validation_invalid_scopes",
                        "Must be a list of 1 to 100 scopes: [\"records:read\"].");
        return;
    }
    bk_buffer_init(&known, SCOPES_BYTES_MAX);
    bk_api_write_scopes(task->context->api, &known);
    bk_json_write_key(&task->body, BK_SLICE("scopes"));
    bk_buffer_append_char(&task->body, '[');
    for (const struct bk_json *item = scopes->child; item != NULL; item = item->next) {
        struct bk_slice word = item->type == BK_JSON_STRING ? item->string : BK_SLICE_EMPTY;
        if (!is_scope(task, word, bk_buffer_slice(&known))) {
            problem_scope(task, word, bk_buffer_slice(&known));
            break;
        }
        bk_json_write_separator(&task->body);
        bk_json_write_string(&task->body, word);
    }
    bk_buffer_append_char(&task->body, ']');
    bk_buffer_fini(&known);
}

static void read_expires(struct task *task, const struct bk_json *expires) {
    bool is_never = expires->type == BK_JSON_NULL ||
                    (expires->type == BK_JSON_STRING && expires->string.length == 0);
    int64_t ms = 0;
    if (!is_never && (expires->type != BK_JSON_STRING || !bk_time_parse(expires->string, &ms)))
        bk_problems_add(&task->request->problems, BK_SLICE("expires"), "validation_invalid_date",
                        "Must be a time such as 2030-01-01T00:00:00Z, or empty for never.");
    else if (!is_never && ms <= bk_clock_wall_ms())
        bk_problems_add(&task->request->problems, BK_SLICE("expires"), "validation_date_in_past",
                        "Must be a time to come: delete a key that is to end now.");
    char text[BK_TIME_TEXT_BYTES];
    bk_time_format(text, ms, ' ');
    bk_json_write_member_string(&task->body, BK_SLICE("expires"),
                                bk_slice_make(text, is_never ? 0 : sizeof(text)));
}

/* The id of the key of this name, or of this id or name; BK_END: there is none. */
static enum bk_status find_key(struct task *task, struct bk_slice sql_text, struct bk_slice text,
                               struct bk_slice *id) {
    const struct bk_sql sql = bk_sql_make(sql_text);
    struct bk_connection *connection = bk_store_read_now(task->request->tenant->database);
    struct bk_statement *statement;
    enum bk_status status =
        connection == NULL ? BK_CLOSING : bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, text);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *id = bk_arena_copy(&task->request->arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status;
}

/* Of two who take a name at the same time one learns it from the record. */
static void read_name(struct task *task, const struct bk_json *name) {
    struct bk_problems *problems = &task->request->problems;
    struct bk_slice taken_by;
    if (name == NULL || name->type == BK_JSON_NULL ||
        (name->type == BK_JSON_STRING && bk_slice_trim(name->string).length == 0))
        bk_problems_add(problems, BK_SLICE("name"), "validation_required",
                        "Cannot be blank: it says which program has the key.");
    else if (name->type != BK_JSON_STRING)
        bk_problems_add(problems, BK_SLICE("name"), "validation_invalid_type", "Must be a text.");
    else if (find_key(task, BK_SLICE("SELECT id FROM _apiKeys WHERE name = ?1"), name->string,
                      &taken_by) == BK_OK &&
             !bk_slice_equal(taken_by, task->id))
        bk_problems_add(problems, BK_SLICE("name"), "validation_not_unique",
                        "There is an API key of this name: rotate or delete it, or choose another "
                        "name.");
    else
        bk_json_write_member_string(&task->body, BK_SLICE("name"), name->string);
}

/* A slip in "expires" would make a key that never ends. */
static void problem_unknown(struct task *task, struct bk_slice name) {
    bk_problems_add(&task->request->problems, name, "validation_unknown_name",
                    "There is no such name here, only: name, scopes, expires.");
}

/* Writes what is given into the record's body. False: the request was answered. */
static bool read_body(struct task *task) {
    struct bk_request *request = task->request;
    const struct bk_json *json = request->json;
    bk_buffer_append_char(&task->body, '{');
    for (const struct bk_json *member = json == NULL ? NULL : json->child; member != NULL;
         member = member->next) {
        if (bk_slice_is(member->key, "name"))
            read_name(task, member);
        else if (bk_slice_is(member->key, "scopes"))
            read_scopes(task, member);
        else if (bk_slice_is(member->key, "expires"))
            read_expires(task, member);
        else
            problem_unknown(task, member->key);
    }
    if (request->problems.count == 0 && !request->arena.is_overflown)
        return true;
    bk_buffer_fini(&task->body);
    if (request->problems.count == 0)
        bk_answer_error(request, BK_TOO_LARGE, NULL);
    else
        bk_answer_problems(request, BK_INVALID, "The API key cannot be like this.");
    return false;
}

/* The one that the path names by its id or else its name. False: the request was answered. */
static bool find_record(struct task *task) {
    static const struct bk_slice sql = BK_SLICE_INIT(
        "SELECT id FROM _apiKeys WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1");
    struct bk_request *request = task->request;
    struct bk_slice named = bk_request_parameter(request, BK_SLICE("id"));
    enum bk_status status = find_key(task, sql, named, &task->id);
    if (status == BK_OK)
        return true;
    bk_buffer_fini(&task->body);
    if (status == BK_END)
        bk_answer_error(request, BK_NOT_FOUND,
                        bk_arena_format(&request->arena,
                                        "There is no API key \"%.*s\" in this tenant: GET "
                                        "/api/api-keys and bakend api-key list show those that "
                                        "are there.",
                                        BK_SLICE_PRINT(named))
                            .data);
    else
        bk_answer_error(request, status, NULL);
    return false;
}

/* --- the call --------------------------------------------------------------------------------- */

/* The answer of the call, and with it the key, for this one time. */
static void on_done(struct bk_call *call) {
    struct task *task = bk_container_of(call, struct task, call);
    struct bk_request *request = task->request;
    struct bk_slice answer = call->answer;
    bool shows_key = call->status == 200 && task->key.length > 0 && answer.length > 0;
    bk_buffer_fini(&task->body);
    if (call->status == 204) {
        bk_answer_empty(request);
        return;
    }
    if (shows_key)
        answer.length--; /* the brace: one more member comes */
    bk_buffer_append_slice(&request->out, answer);
    if (shows_key) {
        bk_json_write_member_string(&request->out, BK_SLICE("key"), task->key);
        bk_buffer_append_char(&request->out, '}');
        bk_answer_header(request, "Cache-Control", BK_SLICE("no-store"));
    }
    bk_answer(request, call->status);
}

static void call(struct task *task, enum bk_method method, bool has_companion) {
    struct bk_request *request = task->request;
    bool has_query = method == BK_GET && request->query.length > 0;
    struct bk_slice target = bk_arena_format(
        &request->arena, RECORDS "%s%.*s%s%.*s", task->id.length > 0 ? "/" : "",
        BK_SLICE_PRINT(task->id), has_query ? "?" : "", has_query ? (int)request->query.length : 0,
        has_query ? request->query.data : "");
    task->call = (struct bk_call){.actor = &task->writer,
                                  .tenant = request->tenant->name,
                                  .method = method,
                                  .target = target,
                                  .body = bk_buffer_slice(&task->body),
                                  .companion = has_companion ? &task->companion : NULL,
                                  .remote_address = request->origin.remote_address,
                                  .user_agent = request->origin.user_agent,
                                  .done = on_done};
    bk_api_call(task->context->api, &task->call);
}

/* --- hashes, on the writer -------------------------------------------------------------------- */

static enum bk_status run(struct bk_transaction *transaction, struct bk_slice sql_text,
                          struct bk_slice id, struct bk_slice hash) {
    const struct bk_sql sql = bk_sql_make(sql_text);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    if (hash.length > 0)
        bk_statement_bind_text(statement, 2, hash);
    return bk_statement_run(statement);
}

/* The new hash takes the place of the former one. */
static enum bk_status on_put_hash(struct bk_companion *companion,
                                  struct bk_transaction *transaction, struct bk_slice id) {
    static const struct bk_slice sql =
        BK_SLICE_INIT("INSERT INTO _apiKeyHashes (key, hash) VALUES (?1, ?2) "
                      "ON CONFLICT (key) DO UPDATE SET hash = excluded.hash");
    const struct task *task = bk_container_of(companion, struct task, companion);
    return run(transaction, sql, id, bk_slice_make(task->hash, sizeof(task->hash)));
}

static enum bk_status on_remove_hash(struct bk_companion *companion,
                                     struct bk_transaction *transaction, struct bk_slice id) {
    static const struct bk_slice sql = BK_SLICE_INIT("DELETE FROM _apiKeyHashes WHERE key = ?1");
    (void)companion;
    return run(transaction, sql, id, BK_SLICE_EMPTY);
}

static void draw_key(struct task *task) {
    struct bk_request *request = task->request;
    task->key = auth_api_key_make(&request->arena, request->tenant->name);
    auth_api_key_hash(task->hash, task->key);
    task->companion.run = on_put_hash;
    bk_json_write_member_string(&task->body, BK_SLICE("prefix"), auth_api_key_prefix(task->key));
}

/* --- routes ----------------------------------------------------------------------------------- */

void auth_api_key_create(struct bk_request *request) {
    struct task *task = begin(request);
    if (task == NULL)
        return;
    if (bk_json_get(request->json, BK_SLICE("name")) == NULL)
        read_name(task, NULL);
    if (bk_json_get(request->json, BK_SLICE("scopes")) == NULL)
        bk_problems_add(&request->problems, BK_SLICE("scopes"), "validation_required",
                        "Cannot be blank: name what the key is for, such as records:read.");
    if (!read_body(task))
        return;
    bk_json_write_member_string(&task->body, BK_SLICE("createdBy"), request->actor.label);
    draw_key(task);
    bk_buffer_append_char(&task->body, '}');
    call(task, BK_POST, true);
}

void auth_api_key_rotate(struct bk_request *request) {
    struct task *task = begin(request);
    if (task == NULL || !find_record(task))
        return;
    bk_buffer_append_char(&task->body, '{');
    draw_key(task);
    bk_buffer_append_char(&task->body, '}');
    call(task, BK_PATCH, true);
}

void auth_api_key_update(struct bk_request *request) {
    struct task *task = begin(request);
    if (task == NULL || !find_record(task) || !read_body(task))
        return;
    bk_buffer_append_char(&task->body, '}');
    call(task, BK_PATCH, false);
}

void auth_api_key_delete(struct bk_request *request) {
    struct task *task = begin(request);
    if (task == NULL || !find_record(task))
        return;
    task->companion.run = on_remove_hash;
    call(task, BK_DELETE, true);
}

void auth_api_key_view(struct bk_request *request) {
    struct task *task = begin(request);
    if (task != NULL && find_record(task))
        call(task, BK_GET, false);
}

void auth_api_keys_list(struct bk_request *request) {
    struct task *task = begin(request);
    if (task != NULL)
        call(task, BK_GET, false);
}
