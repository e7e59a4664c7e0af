/*
 * What can be done with a webhook beside changing its record:
 *
 *   test     a signed event webhook.test is sent now, past queue, rate and breaker; it is in no
 *            journal and leaves no delivery. The answer says how it went
 *   rotate   another secret, shown this one time; the former one signs as well for a while
 *   probe    the handshake of CloudEvents' webhooks: OPTIONS with our name, and the endpoint says
 *            whether it wants to be sent to by that, and how fast
 *
 * A test or a handshake that succeeds closes an open breaker: who has mended an endpoint does not
 * wait for the next probe.
 */
#include "routes.h"

#include "bakend/clock.h"
#include "bakend/id.h"

#include <stdio.h>

#define GRACE_MS_MAX ((int64_t)30 * 24 * 60 * 60 * 1000)

/* The endpoint of the record that was found. NULL: the request was answered. */
static struct webhooks_endpoint *find_endpoint(struct webhooks_task *task) {
    struct bk_request *request = task->request;
    struct webhooks_endpoint *endpoint = webhooks_task_endpoint(task);
    if (endpoint != NULL && task->state->channel != NULL)
        return endpoint;
    webhooks_task_end(task);
    bk_answer_error(request, endpoint == NULL ? BK_BUSY : BK_CLOSING, NULL);
    return NULL;
}

/* What goes with each request may be sealed under another instance key. False: the request was
 * answered. */
static bool is_sound(struct webhooks_task *task, const struct webhooks_endpoint *endpoint) {
    enum webhooks_problem problem = endpoint->config->problem;
    if (problem == WEBHOOKS_SOUND)
        return true;
    webhooks_task_end(task);
    bk_answer_error(task->request, BK_CONFLICT, webhooks_problem_text(problem));
    return false;
}

/* --- test ------------------------------------------------------------------------------------- */

struct testing {
    struct webhooks_task *task;
    struct webhooks_send send;
};

static struct bk_event *make_event(struct webhooks_task *task) {
    struct bk_request *request = task->request;
    struct bk_arena *arena = &request->arena;
    char id[BK_EVENT_ID_BYTES];
    int64_t now_ms = bk_clock_wall_ms();
    bk_event_id_make(id, now_ms, 0, (uint32_t)bk_random_u64());
    const struct bk_event_fields fields = {
        .timestamp_ms = now_ms,
        .version = 1,
        .id = bk_slice_make(id, sizeof(id)),
        .type = BK_SLICE("webhook.test"),
        .source = BK_SLICE("webhooks"),
        .tenant = request->tenant->name,
        .subject = bk_arena_format(arena, "webhooks/%.*s", BK_SLICE_PRINT(task->id)),
        .actor = request->actor.label,
        .payload = bk_arena_format(arena, "{\"webhook\":\"%.*s\"}", BK_SLICE_PRINT(task->id)),
    };
    return bk_event_create(&fields);
}

static void write_result(struct bk_buffer *out, const struct webhooks_result *result) {
    bk_json_write_member_int(out, BK_SLICE("status"), result->status);
    bk_json_write_member_int(out, BK_SLICE("latencyMs"), result->latency_ms);
    bk_json_write_member_string(out, BK_SLICE("error"), result->error);
    bk_json_write_member_string(out, BK_SLICE("answer"), result->answer);
}

/* Nobody waits for it any more; a server that stops waits for all requests. */
static void on_test_aborted(struct bk_request *request) {
    struct testing *testing = request->state;
    webhooks_send_cancel(&testing->send);
}

static void on_tested(struct webhooks_send *send) {
    struct testing *testing = bk_container_of(send, struct testing, send);
    struct bk_request *request = testing->task->request;
    request->on_abort = NULL;
    webhooks_task_end(testing->task);
    if (send->status != BK_OK) {
        bk_answer_error(request, send->status == BK_CANCELLED ? BK_CLOSING : send->status, NULL);
        return;
    }
    if (send->result.verdict == WEBHOOKS_OK)
        webhooks_health_heal(send->endpoint);
    bk_buffer_append_char(&request->out, '{');
    bk_json_write_member_bool(&request->out, BK_SLICE("ok"), send->result.verdict == WEBHOOKS_OK);
    bk_json_write_member_string(&request->out, BK_SLICE("event"), send->fields->id);
    write_result(&request->out, &send->result);
    bk_buffer_append_char(&request->out, '}');
    bk_answer(request, 200);
}

/* What is sent is always the same. False: the request was answered. */
static bool is_empty(struct webhooks_task *task) {
    struct bk_request *request = task->request;
    const struct bk_json *json = request->json;
    if (json == NULL || json->child == NULL)
        return true;
    bk_problems_add(&request->problems, json->child->key, "validation_unknown_name",
                    "A test sends webhook.test and takes no members. For other types, send "
                    "something again: POST /api/deliveries/{id}/replay.");
    webhooks_task_end(task);
    bk_answer_problems(request, BK_INVALID, "The test cannot be like this.");
    return false;
}

void webhooks_test(struct bk_request *request) {
    struct webhooks_task *task = webhooks_task_begin(request);
    struct webhooks_endpoint *endpoint;
    struct testing *testing;
    if (task == NULL || !webhooks_task_find(task) || !is_empty(task))
        return;
    endpoint = find_endpoint(task);
    if (endpoint == NULL || !is_sound(task, endpoint))
        return;
    testing = bk_arena_alloc_zero(&request->arena, sizeof(*testing));
    if (bk_arena_status(&request->arena) != BK_OK) {
        webhooks_task_end(task);
        bk_answer_error(request, BK_TOO_LARGE, NULL);
        return;
    }
    testing->task = task;
    testing->send = (struct webhooks_send){.endpoint = endpoint,
                                           .class = WEBHOOKS_FIRST,
                                           .format = endpoint->config->format,
                                           .event = make_event(task),
                                           .done = on_tested};
    request->state = testing;
    request->on_abort = on_test_aborted;
    webhooks_send_test(&testing->send);
}

/* --- rotate ----------------------------------------------------------------------------------- */

static void read_grace(struct webhooks_task *task, const struct bk_json *json) {
    int64_t value = WEBHOOKS_ROTATION_MS_DEFAULT;
    bool is_number = json == NULL || json->type == BK_JSON_NULL ||
                     (json->type == BK_JSON_NUMBER && bk_json_to_int64(json, &value) &&
                      value >= 0 && value <= GRACE_MS_MAX);
    task->previous_until_ms = is_number && value > 0 ? bk_clock_wall_ms() + value : 0;
    if (!is_number)
        bk_problems_add(&task->request->problems, BK_SLICE("graceMs"), "validation_invalid_number",
                        "Must be 0 to 2592000000 milliseconds (30 days), for which the former "
                        "secret signs as well.");
}

static void read_force(struct webhooks_task *task, const struct bk_json *json) {
    task->forces = json->boolean;
    if (json->type != BK_JSON_BOOL)
        bk_problems_add(&task->request->problems, BK_SLICE("force"), "validation_invalid_type",
                        "Must be true or false.");
}

/* False: the request was answered. */
static bool read_rotation(struct webhooks_task *task) {
    struct bk_request *request = task->request;
    const struct bk_json *json = request->json;
    for (const struct bk_json *member = json == NULL ? NULL : json->child; member != NULL;
         member = member->next) {
        if (bk_slice_is(member->key, "secret"))
            webhooks_fields_read_secret(task, member);
        else if (bk_slice_is(member->key, "force"))
            read_force(task, member);
        else if (!bk_slice_is(member->key, "graceMs"))
            bk_problems_add(&request->problems, member->key, "validation_unknown_name",
                            "There is no such name here, only: secret, graceMs, force.");
    }
    read_grace(task, bk_json_get(json, BK_SLICE("graceMs")));
    if (request->problems.count == 0)
        return true;
    webhooks_task_end(task);
    bk_answer_problems(request, BK_INVALID, "The secret cannot be changed like this.");
    return false;
}

static enum bk_status emit_rotated(const struct webhooks_task *task,
                                   struct bk_transaction *transaction, struct bk_slice id) {
    char until[BK_TIME_TEXT_BYTES];
    struct bk_arena *arena = bk_transaction_arena(transaction);
    bk_time_format(until, task->previous_until_ms, 'T');
    const struct bk_event_draft draft = {
        .type = BK_SLICE("webhook.rotated"),
        .source = BK_SLICE("webhooks"),
        .subject = bk_arena_format(arena, "webhooks/%.*s", BK_SLICE_PRINT(id)),
        .payload = task->previous_until_ms == 0
                       ? bk_arena_format(arena, "{\"webhook\":\"%.*s\"}", BK_SLICE_PRINT(id))
                       : bk_arena_format(arena, "{\"webhook\":\"%.*s\",\"previousUntil\":\"%.*s\"}",
                                         BK_SLICE_PRINT(id), (int)sizeof(until), until)};
    return bk_transaction_emit(transaction, &draft);
}

/* Of former secrets one signs: receivers that still have that one would be cut off unasked. */
static bool may_rotate(struct webhooks_task *task, const struct webhooks_keys *keys,
                       int64_t now_ms) {
    char until[BK_TIME_TEXT_BYTES];
    task->refusal = NULL;
    if (task->forces || task->previous_until_ms == 0 || keys->previous_length == 0 ||
        keys->previous_until_ms <= now_ms)
        return true;
    bk_time_format(until, keys->previous_until_ms, 'T');
    snprintf(task->refusal_text, sizeof(task->refusal_text),
             "The secret of before the last rotation signs until %.*s, and another rotation would "
             "end that. Say {\"force\":true} if nobody has it any more, or {\"graceMs\":0} to end "
             "all former ones now.",
             (int)sizeof(until), until);
    task->refusal = task->refusal_text;
    task->refusal_status = BK_CONFLICT;
    return false;
}

/* One that cannot be unsealed any more, since the instance key is another one, has no former
 * secret: this is the way out. */
static enum bk_status on_rotate(struct bk_companion *companion, struct bk_transaction *transaction,
                                struct bk_slice id) {
    struct webhooks_task *task = bk_container_of(companion, struct webhooks_task, companion);
    struct webhooks_keys keys;
    enum bk_status status = webhooks_keys_read(task->state, bk_transaction_connection(transaction),
                                               bk_transaction_tenant(transaction), id, &keys);
    if (status == BK_OK && !may_rotate(task, &keys, bk_transaction_now_ms(transaction)))
        status = BK_CONFLICT;
    if (status == BK_CORRUPT || status == BK_NOT_FOUND) {
        keys = (struct webhooks_keys){.has_seed = task->keys.has_seed};
        memcpy(keys.seed, task->keys.seed, sizeof(keys.seed));
        status = BK_OK;
    }
    if (status != BK_OK) {
        bk_crypto_wipe(&keys, sizeof(keys));
        return status;
    }
    keys.previous_length = task->previous_until_ms == 0 ? 0 : keys.secret_length;
    keys.previous_until_ms = task->previous_until_ms;
    memcpy(keys.previous, keys.secret, sizeof(keys.previous));
    keys.secret_length = task->keys.secret_length;
    memcpy(keys.secret, task->keys.secret, sizeof(keys.secret));
    status = webhooks_keys_write(task->state, transaction, id, &keys);
    bk_crypto_wipe(&keys, sizeof(keys));
    return status == BK_OK ? emit_rotated(task, transaction, id) : status;
}

/* The key for Ed25519 is sealed like the secret: if that is lost, so is this. */
static void mend_seed(struct webhooks_task *task) {
    struct bk_slice tenant = task->request->tenant->name;
    struct bk_connection *connection = bk_store_read_now(task->request->tenant->database);
    struct webhooks_keys keys;
    if (!task->had_ed25519 || connection == NULL)
        return;
    if (webhooks_keys_read(task->state, connection, tenant, task->id, &keys) == BK_CORRUPT) {
        task->wants_ed25519 = true;
        webhooks_task_draw_seed(task);
    }
    bk_crypto_wipe(&keys, sizeof(keys));
}

void webhooks_rotate(struct bk_request *request) {
    struct webhooks_task *task = webhooks_task_begin(request);
    if (task == NULL || !webhooks_task_find(task) || !read_rotation(task))
        return;
    enum bk_status status = webhooks_secret_make(task->given_secret, &task->keys);
    BK_ASSERT(status == BK_OK);
    mend_seed(task);
    task->shows_secret = true;
    task->companion.run = on_rotate;
    webhooks_task_call(task, BK_PATCH);
}

/* --- probe ------------------------------------------------------------------------------------ */

struct probing {
    struct webhooks_task *task;
    struct webhooks_config *config; /* referenced until the answer of the endpoint */
    struct bk_slice origin;
    struct bk_outbound_header headers[2 + WEBHOOKS_HEADERS_MAX];
    struct bk_outbound_request asking;
    /* What came of it. */
    bool is_allowed;
    int64_t rate;
    struct bk_slice error;
    uint32_t status;
    int64_t latency_ms;
};

static void answer_probe(struct probing *probing) {
    struct webhooks_task *task = probing->task;
    struct bk_request *request = task->request;
    struct bk_buffer *out = &request->out;
    bk_buffer_append_char(out, '{');
    bk_json_write_member_bool(out, BK_SLICE("verified"), probing->is_allowed);
    bk_json_write_member_string(out, BK_SLICE("origin"), probing->origin);
    bk_json_write_member_int(out, BK_SLICE("allowedRate"), probing->rate);
    bk_json_write_member_int(out, BK_SLICE("status"), probing->status);
    bk_json_write_member_int(out, BK_SLICE("latencyMs"), probing->latency_ms);
    bk_json_write_member_string(out, BK_SLICE("error"), probing->error);
    bk_buffer_append_char(out, '}');
    webhooks_task_end(task);
    bk_answer(request, 200);
}

static void on_probe_stored(struct webhooks_task *task) { answer_probe(task->user); }

/* What it has said is of the URL that was asked. */
static enum bk_status on_store_probe(struct bk_companion *companion,
                                     struct bk_transaction *transaction, struct bk_slice id) {
    const struct webhooks_task *task = bk_container_of(companion, struct webhooks_task, companion);
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT url FROM _webhooks WHERE id = ?1"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK && !bk_slice_equal(bk_statement_text(statement, 0), task->url))
        status = BK_CONFLICT;
    bk_statement_reset(statement);
    return status;
}

static void store_probe(struct probing *probing) {
    struct webhooks_task *task = probing->task;
    char now[BK_TIME_TEXT_BYTES];
    bk_time_format(now, bk_clock_wall_ms(), ' ');
    bk_json_write_member_string(&task->body, BK_SLICE("verifiedAt"),
                                bk_slice_make(now, probing->is_allowed ? sizeof(now) : 0));
    bk_json_write_member_int(&task->body, BK_SLICE("allowedRate"), probing->rate);
    task->user = probing;
    task->answered = on_probe_stored;
    task->companion.run = on_store_probe;
    webhooks_task_call(task, BK_PATCH);
}

/* Its status means nothing: the headers alone do. */
static void judge(struct probing *probing) {
    const struct bk_outbound_request *asking = &probing->asking;
    struct bk_arena *arena = &probing->task->request->arena;
    struct bk_slice origin =
        bk_slice_trim(bk_outbound_answer_header(asking, BK_SLICE("webhook-allowed-origin")));
    struct bk_slice rate =
        bk_slice_trim(bk_outbound_answer_header(asking, BK_SLICE("webhook-allowed-rate")));
    probing->is_allowed =
        bk_slice_is(origin, "*") || bk_slice_equal_ignore_case(origin, probing->origin);
    if (!probing->is_allowed) {
        probing->error = bk_arena_format(
            arena,
            "The endpoint has to answer OPTIONS with the header WebHook-Allowed-Origin: %.*s, or "
            "*. It answered %u%s.",
            BK_SLICE_PRINT(probing->origin), asking->status,
            origin.length == 0 ? " without it" : " with another origin");
        return;
    }
    if (!bk_slice_to_int64(rate, &probing->rate) || probing->rate < 1)
        probing->rate = 0;
    if (probing->rate > WEBHOOKS_RATE_MAX)
        probing->rate = WEBHOOKS_RATE_MAX;
}

static void on_probe_aborted(struct bk_request *request) {
    struct probing *probing = request->state;
    bk_outbound_cancel(&probing->asking);
}

static void on_probed(struct bk_outbound_request *asking) {
    struct probing *probing = bk_container_of(asking, struct probing, asking);
    struct webhooks_task *task = probing->task;
    struct bk_arena *arena = &task->request->arena;
    task->request->on_abort = NULL;
    webhooks_config_unref(probing->config);
    probing->status = asking->status;
    probing->latency_ms = (int64_t)(asking->duration_us / 1000);
    if (asking->failure == BK_OUTBOUND_OK) {
        judge(probing);
        if (probing->is_allowed) {
            struct webhooks_endpoint *endpoint =
                webhooks_endpoint_find(task->state, task->request->tenant, task->id);
            if (endpoint != NULL)
                webhooks_health_heal(endpoint);
        }
        store_probe(probing);
        return;
    }
    probing->error =
        asking->failure == BK_OUTBOUND_BLOCKED
            ? BK_SLICE("The address of this endpoint is not allowed. Addresses that are not public "
                       "have to be named by --webhooks-allow.")
            : bk_arena_format(arena, "%s: %.*s", bk_outbound_failure_name(asking->failure),
                              BK_SLICE_PRINT(asking->reason));
    answer_probe(probing);
}

static void fill_headers(struct probing *probing) {
    const struct webhooks_config *config = probing->config;
    struct bk_outbound_request *asking = &probing->asking;
    probing->headers[asking->header_count++] =
        (struct bk_outbound_header){BK_SLICE("WebHook-Request-Origin"), probing->origin};
    if (config->rate_per_minute > 0)
        probing->headers[asking->header_count++] = (struct bk_outbound_header){
            BK_SLICE("WebHook-Request-Rate"),
            bk_arena_format(&probing->task->request->arena, "%u", config->rate_per_minute)};
    for (size_t i = 0; i < config->header_count && i < WEBHOOKS_HEADERS_MAX; i++)
        probing->headers[asking->header_count++] = config->headers[i];
}

static void begin_probe(struct probing *probing) {
    struct webhooks_task *task = probing->task;
    struct bk_request *request = task->request;
    probing->asking = (struct bk_outbound_request){.method = "OPTIONS",
                                                   .url = task->url,
                                                   .headers = probing->headers,
                                                   .group = request->tenant->name,
                                                   .timeout_ms = probing->config->timeout_ms,
                                                   .answer_max_bytes = WEBHOOKS_ANSWER_KEPT_BYTES,
                                                   .cuts_answer = true,
                                                   .done = on_probed};
    fill_headers(probing);
    enum bk_status status = bk_outbound_submit(task->state->channel, &probing->asking);
    if (status == BK_OK) {
        request->state = probing;
        request->on_abort = on_probe_aborted;
        return;
    }
    webhooks_config_unref(probing->config);
    webhooks_task_end(task);
    bk_answer_error(request, status, NULL);
}

void webhooks_probe(struct bk_request *request) {
    struct webhooks_task *task = webhooks_task_begin(request);
    struct webhooks_endpoint *endpoint;
    struct probing *probing;
    if (task == NULL || !webhooks_task_find(task))
        return;
    endpoint = find_endpoint(task);
    if (endpoint == NULL || !is_sound(task, endpoint))
        return;
    probing = bk_arena_alloc_zero(&request->arena, sizeof(*probing));
    probing->task = task;
    /* The record may have another by now, which these headers are not for: see on_store_probe. */
    task->url = bk_arena_copy(&request->arena, endpoint->config->url);
    probing->origin = bk_arena_copy(&request->arena, webhooks_origin(task->state, request->tenant));
    if (probing->origin.length == 0 || bk_arena_status(&request->arena) != BK_OK) {
        webhooks_task_end(task);
        bk_answer_error(request, BK_INVALID,
                        "There is no name to ask by: start with --webhooks-origin, or set the "
                        "application's URL in the settings.");
        return;
    }
    probing->config = webhooks_config_ref(endpoint->config);
    begin_probe(probing);
}
