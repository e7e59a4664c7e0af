/*
 * Webhooks over REST: made, listed, changed and deleted by superusers of their tenant and by API
 * keys with the scopes webhooks:read and webhooks:write.
 *
 * `_webhooks` is written by this module alone, in the system's name and under the label of who
 * asked. What signs, and the values of headers, are in the row of `_webhookStates` beside the
 * record, sealed, written and removed in the record's transaction: so neither events nor snapshots
 * nor lists have them. A secret is in the answer that makes it and nowhere else.
 *
 *   create   an id and a secret are drawn ─> the record, and beside it its row ─> the answer, with
 *            the secret
 *   update   fields; `enabled` turns it off and on (enabling.c), `ed25519` makes and drops a key
 *   delete   the record, its row, and what waits in its lane
 */
#include "routes.h"

#include "bakend/clock.h"
#include "bakend/failpoint.h"
#include "bakend/id.h"

enum { DRAWS_MAX = 5 };

#define RECORDS "/api/collections/_webhooks/records"
#define HEADERS_CHANGED "Its headers were changed meanwhile: look at them and try again."

/* --- a request as a call ---------------------------------------------------------------------- */

struct webhooks_task *webhooks_task_begin(struct bk_request *request) {
    struct webhooks_task *task = bk_arena_alloc_zero(&request->arena, sizeof(*task));
    const struct bk_module_context *context = request->module;
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE, NULL);
        return NULL;
    }
    task->request = request;
    task->state = context->state;
    task->writer = bk_actor_system;
    task->writer.label = request->actor.label;
    bk_buffer_init(&task->body, (size_t)4 * WEBHOOKS_BODY_BYTES_MAX);
    bk_buffer_append_char(&task->body, '{');
    return task;
}

void webhooks_task_end(struct webhooks_task *task) {
    bk_crypto_wipe(&task->keys, sizeof(task->keys));
    bk_buffer_fini(&task->body);
}

/* As long as a record may have values in the clear, nobody is shown it. False: the request was
 * answered. */
static bool may_show(struct webhooks_task *task) {
    struct bk_request *request = task->request;
    const struct webhooks_tenant *own = webhooks_tenant_of(task->state, request->tenant);
    if (own == NULL || !own->has_clear_headers)
        return true;
    webhooks_task_end(task);
    bk_answer_error(request, BK_BUSY,
                    "Headers that an earlier version kept in the clear are being sealed. Try again "
                    "in a moment.");
    return false;
}

static void read_known_headers(struct webhooks_task *task, struct bk_slice text) {
    struct bk_json *json;
    struct bk_arena *arena = &task->request->arena;
    if (text.length > 0 && bk_json_parse(arena, bk_arena_copy(arena, text), &json, NULL) == BK_OK &&
        json->type == BK_JSON_OBJECT && json->child_count > 0)
        task->known_headers = json;
}

bool webhooks_task_find(struct webhooks_task *task) {
    struct bk_request *request = task->request;
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT id, enabled, url, ed25519, headers FROM _webhooks WHERE id = ?1"));
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    struct bk_statement *statement;
    if (!may_show(task))
        return false;
    enum bk_status status =
        connection == NULL ? BK_CLOSING : bk_connection_statement(connection, &sql, &statement);
    if (status == BK_OK) {
        bk_statement_bind_text(statement, 1, bk_request_parameter(request, BK_SLICE("id")));
        status = bk_statement_step(statement);
        if (status == BK_OK) {
            task->id = bk_arena_copy(&request->arena, bk_statement_text(statement, 0));
            task->was_enabled = bk_statement_int(statement, 1) != 0;
            task->had_ed25519 = bk_statement_int(statement, 3) != 0;
            task->url = bk_arena_copy(&request->arena, bk_statement_text(statement, 2));
            read_known_headers(task, bk_statement_text(statement, 4));
        }
        bk_statement_reset(statement);
    }
    if (status == BK_OK)
        return true;
    webhooks_task_end(task);
    bk_answer_error(request, status == BK_END ? BK_NOT_FOUND : status,
                    status == BK_END ? "There is no such webhook." : NULL);
    return false;
}

/* Who has just changed it sees what came of that, though the bus may not have told it yet. */
struct webhooks_endpoint *webhooks_task_endpoint(struct webhooks_task *task) {
    struct bk_tenant *tenant = task->request->tenant;
    webhooks_endpoint_apply(webhooks_tenant_of(task->state, tenant), task->id);
    return webhooks_endpoint_find(task->state, tenant, task->id);
}

/* The answer of the call, and with it the secret, for this one time. */
static void pass_on(struct webhooks_task *task) {
    struct bk_request *request = task->request;
    struct bk_slice answer = task->call.answer;
    if (task->call.status == 204) {
        webhooks_task_end(task);
        bk_answer_empty(request);
        return;
    }
    if (task->shows_secret && task->call.status == 200 && answer.length > 0) {
        answer.length--; /* the brace: one more member comes */
        bk_buffer_append_slice(&request->out, answer);
        bk_json_write_member_string(&request->out, BK_SLICE("secret"),
                                    webhooks_secret_text(&task->keys, &request->arena));
        if (task->previous_until_ms > 0) {
            char until[BK_TIME_TEXT_BYTES];
            bk_time_format(until, task->previous_until_ms, ' ');
            bk_json_write_member_string(&request->out, BK_SLICE("previousUntil"),
                                        bk_slice_make(until, sizeof(until)));
        }
        bk_buffer_append_char(&request->out, '}');
        bk_answer_header(request, "Cache-Control", BK_SLICE("no-store"));
    } else {
        bk_buffer_append_slice(&request->out, answer);
    }
    webhooks_task_end(task);
    bk_answer(request, task->call.status);
}

static void call_to_create(struct webhooks_task *task);

static void on_done(struct bk_call *call) {
    struct webhooks_task *task = bk_container_of(call, struct webhooks_task, call);
    struct bk_request *request = task->request;
    if (call->status >= 400 && task->is_taken && ++task->draws < DRAWS_MAX) {
        call_to_create(task);
    } else if (call->status < 300 && task->answered != NULL) {
        task->answered(task);
    } else if (call->status >= 400 && task->refusal != NULL) {
        webhooks_task_end(task);
        bk_answer_error(request, task->refusal_status, task->refusal);
    } else {
        pass_on(task);
    }
}

static struct bk_slice target_of(struct webhooks_task *task, enum bk_method method) {
    struct bk_request *request = task->request;
    bool has_query = method == BK_GET && request->query.length > 0;
    return bk_arena_format(&request->arena, RECORDS "%s%.*s%s%.*s", task->id.length > 0 ? "/" : "",
                           BK_SLICE_PRINT(task->id), has_query ? "?" : "",
                           has_query ? (int)request->query.length : 0,
                           has_query ? request->query.data : "");
}

void webhooks_task_call(struct webhooks_task *task, enum bk_method method) {
    struct bk_request *request = task->request;
    bool has_body = method == BK_POST || method == BK_PATCH;
    if (has_body)
        bk_buffer_append_char(&task->body, '}');
    task->call =
        (struct bk_call){.actor = &task->writer,
                         .tenant = request->tenant->name,
                         .method = method,
                         .target = target_of(task, method),
                         .body = has_body ? bk_buffer_slice(&task->body) : BK_SLICE_EMPTY,
                         .companion = task->companion.run == NULL ? NULL : &task->companion,
                         .remote_address = request->origin.remote_address,
                         .user_agent = request->origin.user_agent,
                         .done = on_done};
    bk_api_call(task->state->context->api, &task->call);
}

/* --- on the writer ---------------------------------------------------------------------------- */

static enum bk_status count(struct bk_transaction *transaction, struct bk_slice text,
                            struct bk_slice first, int64_t *number) {
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    if (first.length > 0)
        bk_statement_bind_text(statement, 1, first);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *number = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status;
}

/* Room for one more, and no other id with this tail, which deliveries have in theirs. Its own row
 * is not there yet. */
static enum bk_status judge_new(struct webhooks_task *task, struct bk_transaction *transaction,
                                struct bk_slice id) {
    struct bk_slice tail =
        bk_slice_make(id.data + id.length - WEBHOOKS_TAIL_BYTES, WEBHOOKS_TAIL_BYTES);
    int64_t there = 0, alike = 0;
    task->refusal = NULL;
    task->is_taken = false;
    enum bk_status status =
        count(transaction, BK_SLICE("SELECT count(*) FROM _webhookStates"), BK_SLICE_EMPTY, &there);
    if (status == BK_OK && there >= WEBHOOKS_ENDPOINTS_MAX) {
        task->refusal = "There are 10000 webhooks, which is as many as a tenant can have: delete "
                        "those that are not needed any more.";
        task->refusal_status = BK_LIMIT;
        return BK_LIMIT;
    }
    if (status == BK_OK)
        status =
            count(transaction,
                  BK_SLICE("SELECT count(*) FROM _webhookStates WHERE substr(webhook, 9) = ?1"),
                  tail, &alike);
    task->is_taken = status == BK_OK && (alike > 0 || BK_FAILPOINT("webhooks.id_taken") != BK_OK);
    return task->is_taken ? BK_CONFLICT : status;
}

/* Its deliveries begin behind its own event: nothing that comes from now on is missed. */
static enum bk_status begin_state(struct webhooks_task *task, struct bk_transaction *transaction,
                                  struct bk_slice id) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("UPDATE _webhookStates SET sequence = ?2, isOff = ?3, "
                             "missedAfter = iif(?3, ?2, 0) WHERE webhook = ?1"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    bk_statement_bind_int(statement, 2, (int64_t)bk_transaction_sequence(transaction));
    bk_statement_bind_int(statement, 3, task->enables ? 0 : 1);
    return bk_statement_run(statement);
}

/* Values that are to stay may have gone since the request was looked at. */
static enum bk_status write_headers(struct webhooks_task *task, struct bk_transaction *transaction,
                                    struct bk_slice id) {
    static const struct bk_json none = {.type = BK_JSON_OBJECT};
    const struct bk_json *given =
        task->headers != NULL && task->headers->type == BK_JSON_OBJECT ? task->headers : &none;
    enum bk_status status = webhooks_headers_write(task->state, transaction, id, given);
    task->refusal = status == BK_CORRUPT    ? webhooks_problem_text(WEBHOOKS_NO_HEADERS)
                    : status == BK_CONFLICT ? HEADERS_CHANGED
                                            : NULL;
    task->refusal_status = BK_CONFLICT;
    return task->refusal == NULL ? status : BK_CONFLICT;
}

static enum bk_status on_create(struct bk_companion *companion, struct bk_transaction *transaction,
                                struct bk_slice id) {
    struct webhooks_task *task = bk_container_of(companion, struct webhooks_task, companion);
    enum bk_status status = judge_new(task, transaction, id);
    if (status == BK_OK)
        status = webhooks_keys_write(task->state, transaction, id, &task->keys);
    if (status == BK_OK)
        status = write_headers(task, transaction, id);
    if (status == BK_OK)
        status = begin_state(task, transaction, id);
    return status == BK_OK ? webhooks_sweep_plan(task->state, transaction) : status;
}

/* Its key for Ed25519 comes or goes; the secrets stay as they are now. */
static enum bk_status write_seed(const struct webhooks_task *task,
                                 struct bk_transaction *transaction, struct bk_slice id) {
    struct webhooks_keys keys;
    enum bk_status status = webhooks_keys_read(task->state, bk_transaction_connection(transaction),
                                               bk_transaction_tenant(transaction), id, &keys);
    if (status != BK_OK)
        return status;
    keys.has_seed = task->wants_ed25519;
    memcpy(keys.seed, task->keys.seed, sizeof(keys.seed));
    status = webhooks_keys_write(task->state, transaction, id, &keys);
    bk_crypto_wipe(&keys, sizeof(keys));
    return status;
}

/* Headers that came since the request was looked at were said for the host of before. */
static enum bk_status judge_move_again(struct webhooks_task *task,
                                       struct bk_transaction *transaction, struct bk_slice id) {
    int64_t found = 0;
    enum bk_status status =
        count(transaction,
              BK_SLICE("SELECT count(*) FROM _webhooks WHERE id = ?1 AND headers NOT IN "
                       "('', '{}', 'null')"),
              id, &found);
    if (status != BK_OK || found == 0)
        return status;
    task->refusal = HEADERS_CHANGED;
    task->refusal_status = BK_CONFLICT;
    return BK_CONFLICT;
}

static enum bk_status on_update(struct bk_companion *companion, struct bk_transaction *transaction,
                                struct bk_slice id) {
    struct webhooks_task *task = bk_container_of(companion, struct webhooks_task, companion);
    enum bk_status status = BK_OK;
    if (task->moves_away && !task->gives_headers)
        status = judge_move_again(task, transaction, id);
    if (status == BK_OK && task->gives_ed25519)
        status = write_seed(task, transaction, id);
    if (status == BK_OK && task->gives_headers)
        status = write_headers(task, transaction, id);
    if (status == BK_OK && task->gives_enabled)
        status = webhooks_enabling_write(task->state, transaction, id, task->enables,
                                         BK_SLICE("manual"));
    return status;
}

static enum bk_status on_delete(struct bk_companion *companion, struct bk_transaction *transaction,
                                struct bk_slice id) {
    const struct webhooks_task *task = bk_container_of(companion, struct webhooks_task, companion);
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("DELETE FROM _webhookStates WHERE webhook = ?1"));
    struct bk_work *work = task->state->context->work;
    struct bk_slice lane = bk_arena_format(bk_transaction_arena(transaction), WEBHOOKS_KIND "/%.*s",
                                           BK_SLICE_PRINT(id));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status == BK_OK) {
        bk_statement_bind_text(statement, 1, id);
        status = bk_statement_run(statement);
    }
    if (status == BK_OK)
        status = bk_work_clear(work, transaction, lane);
    if (status == BK_OK)
        status = bk_work_resume(work, transaction, lane);
    if (status == BK_OK)
        status = webhooks_replay_clear(task->state, transaction, id);
    return status == BK_OK ? webhooks_sweep_soon(task->state, transaction) : status;
}

/* --- routes ----------------------------------------------------------------------------------- */

void webhooks_task_draw_seed(struct webhooks_task *task) {
    struct bk_slice public_key = BK_SLICE_EMPTY;
    if (task->wants_ed25519) {
        webhooks_seed_make(&task->keys);
        public_key = webhooks_public_key_text(&task->keys, &task->request->arena);
    }
    bk_json_write_member_bool(&task->body, BK_SLICE("ed25519"), task->wants_ed25519);
    bk_json_write_member_string(&task->body, BK_SLICE("publicKey"), public_key);
}

static void write_enabled(struct webhooks_task *task) {
    char now[BK_TIME_TEXT_BYTES];
    bk_time_format(now, bk_clock_wall_ms(), ' ');
    bk_json_write_member_bool(&task->body, BK_SLICE("enabled"), task->enables);
    bk_json_write_member_string(&task->body, BK_SLICE("disabledReason"),
                                task->enables ? BK_SLICE_EMPTY : BK_SLICE("manual"));
    bk_json_write_member_string(&task->body, BK_SLICE("disabledAt"),
                                bk_slice_make(now, task->enables ? 0 : sizeof(now)));
}

/* With an id that is drawn for it. */
static void call_to_create(struct webhooks_task *task) {
    char id[BK_RECORD_ID_BYTES];
    bk_record_id_make(id, bk_clock_wall_ms());
    task->body.length = task->body_length;
    bk_json_write_member_string(&task->body, BK_SLICE("id"), bk_slice_make(id, sizeof(id)));
    webhooks_task_call(task, BK_POST);
}

void webhooks_create(struct bk_request *request) {
    struct webhooks_task *task = webhooks_task_begin(request);
    if (task == NULL || !webhooks_fields_read(task, true))
        return;
    enum bk_status status = webhooks_secret_make(task->given_secret, &task->keys);
    BK_ASSERT(status == BK_OK);
    webhooks_task_draw_seed(task);
    write_enabled(task);
    task->shows_secret = true;
    task->companion.run = on_create;
    task->body_length = task->body.length;
    call_to_create(task);
}

void webhooks_update(struct bk_request *request) {
    struct webhooks_task *task = webhooks_task_begin(request);
    if (task == NULL || !webhooks_task_find(task) || !webhooks_fields_read(task, false))
        return;
    task->gives_ed25519 = task->gives_ed25519 && task->wants_ed25519 != task->had_ed25519;
    if (task->gives_ed25519)
        webhooks_task_draw_seed(task);
    task->gives_enabled = task->gives_enabled && task->enables != task->was_enabled;
    if (task->gives_enabled)
        write_enabled(task);
    if (task->gives_ed25519 || task->gives_enabled || task->gives_headers || task->moves_away)
        task->companion.run = on_update;
    webhooks_task_call(task, BK_PATCH);
}

void webhooks_delete(struct bk_request *request) {
    struct webhooks_task *task = webhooks_task_begin(request);
    if (task == NULL || !webhooks_task_find(task))
        return;
    task->companion.run = on_delete;
    webhooks_task_call(task, BK_DELETE);
}

void webhooks_view(struct bk_request *request) {
    struct webhooks_task *task =
        webhooks_query_is_own(request) ? webhooks_task_begin(request) : NULL;
    if (task != NULL && webhooks_task_find(task))
        webhooks_task_call(task, BK_GET);
}

void webhooks_list(struct bk_request *request) {
    struct webhooks_task *task =
        webhooks_query_is_own(request) ? webhooks_task_begin(request) : NULL;
    if (task != NULL && may_show(task))
        webhooks_task_call(task, BK_GET);
}
