/*
 * Which key of the tenant signs: numbers, since the keys themselves are derived (token.c). A token
 * names the number of its own in `kid`.
 *
 *   rotate            new tokens are signed with the next number; those of before are taken until
 *                     none of them can be valid any more
 *   rotate, revoke    those of before are refused at once, and all sessions of the tenant end
 *
 * `_auth_keys` has the numbers that are no longer signed with, and until when each is taken; no
 * row: the first number signs. They are read when the tenant is opened and when one is rotated.
 */
#include "auth.h"

#include "bakend/clock.h"

#include <stdio.h>

enum { NUMBER_MAX = 9999 /* the largest that a token may name */, ANSWER_BYTES_MAX = 64 * 1024 };

const char auth_keys_table[] =
    "CREATE TABLE _auth_keys (number INTEGER PRIMARY KEY, until INTEGER NOT NULL)";

static enum bk_status prepare(struct bk_connection *connection, const char *text,
                              struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    return bk_connection_statement(connection, &sql, statement);
}

/* --- reading ---------------------------------------------------------------------------------- */

enum bk_status auth_keys_read(struct bk_connection *connection, struct auth_keys *keys) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(connection, "SELECT number, until FROM _auth_keys ORDER BY number DESC LIMIT ?1",
                &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, AUTH_FORMER_KEYS_MAX);
    *keys = (struct auth_keys){.number = 1};
    while ((status = bk_statement_step(statement)) == BK_OK) {
        uint32_t number = (uint32_t)bk_statement_int(statement, 0);
        if (keys->former_count == 0)
            keys->number = number + 1;
        keys->former[keys->former_count].number = number;
        keys->former[keys->former_count++].until_s = bk_statement_int(statement, 1);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

enum bk_status auth_key_number_read(struct bk_transaction *transaction, uint32_t *number) {
    struct auth_keys keys;
    enum bk_status status = auth_keys_read(bk_transaction_connection(transaction), &keys);
    if (status == BK_OK)
        *number = keys.number;
    return status;
}

static struct auth_keys *keys_of(const struct bk_module_context *context,
                                 const struct bk_tenant *tenant) {
    struct auth_tenant *own = tenant->slots[context->tenant_slot];
    return &own->keys;
}

uint32_t auth_key_number(const struct bk_module_context *context, const struct bk_tenant *tenant) {
    return keys_of(context, tenant)->number;
}

bool auth_key_is_taken(const struct bk_module_context *context, const struct bk_tenant *tenant,
                       uint32_t number) {
    const struct auth_keys *keys = keys_of(context, tenant);
    if (number == keys->number)
        return true;
    for (uint32_t i = 0; i < keys->former_count; i++)
        if (keys->former[i].number == number)
            return bk_clock_wall_ms() / 1000 < keys->former[i].until_s;
    return false;
}

/* Deriving it takes as long as all else that a token is verified with. */
const struct bk_key_source *auth_key_source(const struct bk_module_context *context,
                                            const struct bk_tenant *tenant, uint32_t number) {
    struct auth_tenant *own = tenant->slots[context->tenant_slot];
    struct auth_key_source *kept = &own->sources[number % AUTH_KEY_SOURCES];
    if (kept->number != number) {
        auth_tenant_key_make(&kept->source, context->instance_key, tenant->name, number);
        kept->number = number;
    }
    return &kept->source;
}

/* --- rotating --------------------------------------------------------------------------------- */

struct rotation {
    struct bk_request *request;
    struct bk_schema *schema; /* pinned */
    struct bk_write write;
    bool revokes;
    uint32_t number; /* the new one */
};

/* The longest that a token may live which was made a moment ago, but for those of sessions. */
static int64_t longest_s(const struct bk_schema *schema) {
    static const char *const kinds[] = {"authToken", "passwordResetToken", "emailChangeToken",
                                        "verificationToken", "fileToken"};
    int64_t longest = 0;
    for (size_t i = 0; i < bk_schema_count(schema); i++) {
        const struct bk_collection *collection = bk_schema_at(schema, i);
        for (size_t k = 0; collection->type == BK_COLLECTION_AUTH && k < BK_COUNT_OF(kinds); k++) {
            int64_t seconds = auth_option_number(collection, kinds[k], "duration");
            longest = seconds > longest ? seconds : longest;
        }
    }
    return longest;
}

/* Until when there can be a token of the key that signed so far. */
static enum bk_status find_until(const struct rotation *rotation,
                                 struct bk_transaction *transaction, int64_t *until_s) {
    struct bk_statement *statement;
    int64_t last_ms = 0;
    enum bk_status status = prepare(bk_transaction_connection(transaction),
                                    "SELECT max(expires) FROM _sessions", &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    if (status == BK_OK && !bk_time_parse(bk_statement_text(statement, 0), &last_ms))
        last_ms = 0; /* there is no session */
    bk_statement_reset(statement);
    int64_t ticket_s = bk_transaction_now_ms(transaction) / 1000 + longest_s(rotation->schema);
    *until_s = last_ms / 1000 > ticket_s ? last_ms / 1000 : ticket_s;
    return status == BK_END ? BK_OK : status;
}

static enum bk_status add(struct bk_transaction *transaction, uint32_t number, int64_t until_s) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                "INSERT INTO _auth_keys (number, until) VALUES (?1, ?2)", &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, number);
    bk_statement_bind_int(statement, 2, until_s);
    return bk_statement_run(statement);
}

static enum bk_status revoke(const struct rotation *rotation, struct bk_transaction *transaction) {
    const struct bk_schema *schema = rotation->schema;
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < bk_schema_count(schema) && status == BK_OK; i++)
        if (bk_schema_at(schema, i)->type == BK_COLLECTION_AUTH)
            status = auth_sessions_tell_all(transaction, bk_schema_at(schema, i), "keys");
    if (status != BK_OK)
        return status;
    return bk_connection_execute(
        bk_transaction_connection(transaction),
        BK_SLICE("UPDATE _auth_keys SET until = 0; DELETE FROM _sessions"));
}

static enum bk_status tell(const struct rotation *rotation, struct bk_transaction *transaction) {
    struct bk_buffer payload;
    bk_buffer_init(&payload, ANSWER_BYTES_MAX);
    bk_buffer_append_char(&payload, '{');
    bk_json_write_member_int(&payload, BK_SLICE("number"), rotation->number);
    bk_json_write_member_bool(&payload, BK_SLICE("revoked"), rotation->revokes);
    bk_buffer_append_char(&payload, '}');
    bk_buffer_insist(&payload);
    const struct bk_event_draft draft = {.type = BK_SLICE("auth.keys_rotated"),
                                         .source = BK_SLICE("auth"),
                                         .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct rotation *rotation = bk_container_of(write, struct rotation, write);
    uint32_t number;
    int64_t until_s = 0;
    enum bk_status status = auth_key_number_read(transaction, &number);
    if (status == BK_OK && number == NUMBER_MAX)
        return BK_LIMIT;
    if (status == BK_OK)
        status = find_until(rotation, transaction, &until_s);
    if (status == BK_OK)
        status = add(transaction, number, until_s);
    if (status == BK_OK && rotation->revokes)
        status = revoke(rotation, transaction);
    if (status != BK_OK)
        return status;
    rotation->number = number + 1;
    return tell(rotation, transaction);
}

/* The tenant's state is as its database from here on. */
static enum bk_status renew(const struct rotation *rotation) {
    const struct bk_request *request = rotation->request;
    const struct bk_module_context *context = request->module;
    struct auth_state *state = context->state;
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    struct auth_keys keys;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = auth_keys_read(connection, &keys);
    if (status != BK_OK)
        return status;
    *keys_of(context, request->tenant) = keys;
    if (!rotation->revokes)
        return BK_OK;
    const struct bk_revocation everybody = {.tenant = request->tenant};
    auth_cache_forget(&state->cache, request->tenant->name, BK_SLICE_EMPTY);
    bk_api_revoke(context->api, &everybody);
    return BK_OK;
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct rotation *rotation = bk_container_of(write, struct rotation, write);
    struct bk_request *request = rotation->request;
    bk_schema_unref(rotation->schema);
    if (status == BK_OK)
        status = renew(rotation);
    if (status != BK_OK) {
        bk_answer_error(request, status,
                        status == BK_LIMIT
                            ? "The keys of this tenant have been rotated 9998 times, "
                              "which is as often as a token can tell."
                            : NULL);
        return;
    }
    bk_buffer_append_char(&request->out, '{');
    bk_json_write_member_int(&request->out, BK_SLICE("number"), rotation->number);
    bk_json_write_member_bool(&request->out, BK_SLICE("revoked"), rotation->revokes);
    bk_buffer_append_char(&request->out, '}');
    bk_answer(request, 200);
}

void auth_keys_rotate(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    const struct bk_json *revokes = bk_json_get(request->json, BK_SLICE("revoke"));
    struct rotation *rotation = bk_arena_alloc_zero(&request->arena, sizeof *rotation);
    if (revokes != NULL && revokes->type != BK_JSON_BOOL) {
        bk_problems_add(&request->problems, BK_SLICE("revoke"), "validation_invalid_type",
                        "Must be true or false.");
        bk_answer_problems(request, BK_INVALID,
                           "An error occurred while validating the submitted data.");
        return;
    }
    rotation->request = request;
    rotation->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    rotation->revokes = revokes != NULL && revokes->boolean;
    /* Alone, since the end of all sessions may be many rows. */
    rotation->write = (struct bk_write){.origin = &request->origin,
                                        .runs_alone = rotation->revokes,
                                        .run = on_run,
                                        .done = on_done};
    enum bk_status status = bk_store_write(request->tenant->database, &rotation->write);
    if (status == BK_OK)
        return;
    bk_schema_unref(rotation->schema);
    bk_answer_error(request, status, NULL);
}

/* --- bakend keys rotate ----------------------------------------------------------------------- */

static int print(const struct bk_command_context *context, struct bk_slice answer) {
    struct bk_arena arena;
    struct bk_json *json;
    int64_t number = 0;
    bk_arena_init(&arena, ANSWER_BYTES_MAX);
    if (context->is_json) {
        printf("%.*s\n", BK_SLICE_PRINT(answer));
    } else if (bk_json_parse(&arena, answer, &json, NULL) == BK_OK) {
        const struct bk_json *member = bk_json_get(json, BK_SLICE("number"));
        if (member != NULL)
            bk_json_to_int64(member, &number);
        printf("tenant %.*s signs with key %lld\n", BK_SLICE_PRINT(context->tenant),
               (long long)number);
    }
    bk_arena_fini(&arena);
    return 0;
}

int auth_keys_command(struct bk_command_context *context, int argument_count, char **arguments) {
    bool revokes = argument_count == 2 && strcmp(arguments[1], "--revoke") == 0;
    if (argument_count < 1 || strcmp(arguments[0], "rotate") != 0 ||
        argument_count != (revokes ? 2 : 1))
        return 2;
    struct bk_buffer answer;
    bk_buffer_init(&answer, ANSWER_BYTES_MAX);
    int status = context->call(context, BK_POST, "/api/auth-keys/rotate",
                               revokes ? BK_SLICE("{\"revoke\":true}") : BK_SLICE("{}"), &answer);
    int code = status == 200 ? print(context, bk_buffer_slice(&answer)) : 1;
    if (status > 0 && code != 0)
        fprintf(stderr, "bakend: the keys were not rotated: %.*s\n",
                BK_SLICE_PRINT(bk_buffer_slice(&answer)));
    bk_buffer_fini(&answer);
    return code;
}
