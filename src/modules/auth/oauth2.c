/*
 * Signing in by an account elsewhere (OAuth 2.0, RFC 6749; OpenID Connect).
 *
 *   oauth2_offer.c     where a client begins: addresses of providers, state, PKCE
 *   oauth2_redirect.c  where the provider sends the popup back to
 *   oauth2_exchange.c  code → token → user, over the channel that is opened here
 *   oauth2_user.c, oidc.c, providers.c   what the answers of each of them say
 *   oauth2_account.c   whose record that is
 *
 *   loop     form → exchange
 *   reader   the record, if there is one
 *   nobody's:       POST to the records route as who asks, by the createRule, with createData; the
 *                   link is in the same transaction
 *   not settled:    writer: found anew, made so, linked
 *   loop     the grant
 *
 * Two of one person at once: the second finds its record or its link taken, and begins anew at the
 * reader, once.
 */
#include "oauth2.h"
#include "bakend/alloc.h"
#include "bakend/clock.h"

enum {
    PROVIDER_NAME_CHARACTERS_MAX = 100,
    BODY_BYTES_MAX = 1024 * 1024,
    META_BYTES_MAX = 1024 * 1024,
    ATTEMPTS_MAX = 2,
};

struct sign_in {
    struct bk_request *request;
    struct bk_schema *schema; /* pinned: of the provider's settings, later of the account */
    const struct bk_collection *collection;
    struct oauth2_exchange exchange;
    struct oauth2_account account;
    struct bk_read read;
    struct bk_write write;
    struct bk_origin origin;
    struct bk_call call;
    struct bk_companion companion;
    struct bk_slice created_id; /* by the companion */
    struct auth_grant grant;
    uint32_t attempts;
    bool is_new;
};

static const char failed[] = "Failed to authenticate.";

static struct auth_state *state_of(const struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    return context->state;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void refuse(struct sign_in *sign_in, enum bk_status status, const char *message) {
    bk_schema_unref(sign_in->schema);
    bk_answer_error(sign_in->request, status, message);
}

static void write_meta(const struct sign_in *sign_in, struct bk_buffer *out) {
    const struct oauth2_user *user = &sign_in->exchange.user;
    char expiry[BK_TIME_TEXT_BYTES];
    if (user->expires_ms > 0)
        bk_time_format(expiry, user->expires_ms, ' ');
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("expiry"),
                                user->expires_ms > 0 ? bk_slice_make(expiry, sizeof expiry)
                                                     : BK_SLICE_EMPTY);
    bk_json_write_member_raw(out, BK_SLICE("rawUser"), user->raw);
    bk_json_write_member_string(out, BK_SLICE("id"), user->id);
    bk_json_write_member_string(out, BK_SLICE("name"), user->name);
    bk_json_write_member_string(out, BK_SLICE("username"), user->username);
    bk_json_write_member_string(out, BK_SLICE("avatarURL"), user->avatar);
    bk_json_write_member_string(out, BK_SLICE("accessToken"), user->access_token);
    bk_json_write_member_string(out, BK_SLICE("refreshToken"), user->refresh_token);
    bk_json_write_member_string(out, BK_SLICE("email"), user->email);
    bk_json_write_member_string(out, BK_SLICE("avatarUrl"), user->avatar);
    bk_json_write_member_bool(out, BK_SLICE("isNew"), sign_in->is_new);
    bk_buffer_append_char(out, '}');
}

static enum bk_status make_meta(struct sign_in *sign_in, struct bk_slice *meta) {
    struct bk_buffer out;
    bk_buffer_init(&out, META_BYTES_MAX);
    write_meta(sign_in, &out);
    enum bk_status status = bk_buffer_status(&out);
    if (status == BK_OK)
        *meta = bk_arena_copy(&sign_in->request->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return status == BK_OK ? bk_arena_status(&sign_in->request->arena) : status;
}

/* The record is as it is to be. */
static void give_grant(struct sign_in *sign_in, struct bk_slice id) {
    struct bk_request *request = sign_in->request;
    struct auth_grant *grant = &sign_in->grant;
    const struct bk_collection *collection = sign_in->collection;
    struct bk_slice meta = BK_SLICE_EMPTY;
    enum bk_status status = auth_credentials_read(&request->arena, request->tenant, collection, id,
                                                  &grant->credentials);
    if (status == BK_OK)
        status = make_meta(sign_in, &meta);
    if (status != BK_OK) {
        refuse(sign_in, status, status == BK_NOT_FOUND ? failed : NULL);
        return;
    }
    auth_grant_init(grant, request, collection);
    bk_schema_unref(grant->schema);
    grant->schema = sign_in->schema; /* that the collection is of */
    grant->event_type = BK_SLICE("auth.login");
    grant->method = BK_SLICE("oauth2");
    grant->context = BK_SLICE("oauth2");
    grant->meta = meta;
    grant->is_refreshable = true;
    auth_grant(grant);
}

/* --- the record that is there ----------------------------------------------------------------- */

static void find(struct sign_in *sign_in);

/* The schema has changed, or somebody was quicker: once more. */
static void repeat(struct sign_in *sign_in, enum bk_status status) {
    if (sign_in->attempts < ATTEMPTS_MAX)
        find(sign_in);
    else
        refuse(sign_in, status == BK_CONFLICT ? BK_INVALID : status,
               status == BK_CONFLICT ? failed : NULL);
}

static enum bk_status on_settle(struct bk_transaction *transaction, struct bk_write *write) {
    struct sign_in *sign_in = bk_container_of(write, struct sign_in, write);
    enum bk_status status = auth_schema_verify(sign_in->schema, sign_in->collection, transaction);
    return status == BK_OK ? auth_oauth2_account_settle(&sign_in->account, transaction) : status;
}

static void on_settled(struct bk_write *write, enum bk_status status) {
    struct sign_in *sign_in = bk_container_of(write, struct sign_in, write);
    if (status == BK_OK)
        give_grant(sign_in, sign_in->account.found.id);
    else if (status == BK_STALE || status == BK_CONFLICT || status == BK_NOT_FOUND)
        repeat(sign_in, status == BK_NOT_FOUND ? BK_CONFLICT : status);
    else
        refuse(sign_in, status, NULL);
}

static void settle(struct sign_in *sign_in) {
    struct bk_request *request = sign_in->request;
    sign_in->origin = request->origin;
    sign_in->origin.actor =
        bk_arena_format(&request->arena, "%.*s/%.*s", BK_SLICE_PRINT(sign_in->collection->name),
                        BK_SLICE_PRINT(sign_in->account.found.id));
    sign_in->write =
        (struct bk_write){.origin = &sign_in->origin, .run = on_settle, .done = on_settled};
    enum bk_status status = bk_store_write(request->tenant->database, &sign_in->write);
    if (status != BK_OK)
        refuse(sign_in, status, NULL);
}

/* --- a new record ----------------------------------------------------------------------------- */

static bool is_sent(const struct bk_json *data, struct bk_slice name) {
    return bk_json_get(data, name) != NULL;
}

/* To the field that the collection has for it, unless the client has said what is to be there. */
static void map(const struct sign_in *sign_in, const struct bk_json *data, const char *member,
                struct bk_slice value, struct bk_buffer *out) {
    const struct bk_json *mapped = auth_option(sign_in->collection, "oauth2", "mappedFields");
    struct bk_slice name = bk_json_get_string(mapped, bk_slice_from(member));
    const struct bk_field *field = bk_collection_field(sign_in->collection, name);
    if (field != NULL && !field->type->takes_uploads && !is_sent(data, name))
        bk_json_write_member_string(out, name, value);
}

static bool has_password(const struct sign_in *sign_in) {
    const struct bk_json *data = bk_json_get(sign_in->request->json, BK_SLICE("createData"));
    return is_sent(data, BK_SLICE("password"));
}

static void write_record(const struct sign_in *sign_in, struct bk_buffer *out) {
    const struct bk_json *data = bk_json_get(sign_in->request->json, BK_SLICE("createData"));
    const struct oauth2_user *user = &sign_in->exchange.user;
    bool has_email = bk_json_get_string(data, BK_SLICE("email")).length > 0;
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *member = data == NULL ? NULL : data->child; member != NULL;
         member = member->next)
        if ((has_email || !bk_slice_is(member->key, "email")) &&
            (has_password(sign_in) || !bk_slice_is(member->key, "passwordConfirm")))
            bk_json_write_member_raw(out, member->key, member->text);
    if (!has_email)
        bk_json_write_member_string(out, BK_SLICE("email"), user->email);
    map(sign_in, data, "id", user->id, out);
    map(sign_in, data, "name", user->name, out);
    if (sign_in->account.username.length > 0)
        map(sign_in, data, "username", sign_in->account.username, out);
    if (user->avatar.length > 0)
        map(sign_in, data, "avatarURL", user->avatar, out);
    bk_buffer_append_char(out, '}');
}

static enum bk_status on_accompany(struct bk_companion *companion,
                                   struct bk_transaction *transaction, struct bk_slice id) {
    struct sign_in *sign_in = bk_container_of(companion, struct sign_in, companion);
    sign_in->created_id = bk_arena_copy(&sign_in->request->arena, id);
    return auth_oauth2_account_link(&sign_in->account, transaction, id);
}

/* As the records route has answered. */
static void pass_on(struct sign_in *sign_in) {
    struct bk_request *request = sign_in->request;
    bk_schema_unref(sign_in->schema);
    bk_buffer_clear(&request->out);
    bk_buffer_append_slice(&request->out, sign_in->call.answer);
    bk_answer(request, sign_in->call.status);
}

/* The address, or the account elsewhere, is somebody's by now. */
static bool is_taken(const struct sign_in *sign_in) {
    const struct bk_call *call = &sign_in->call;
    struct bk_json *answer;
    if (call->status != 400 ||
        bk_json_parse(&sign_in->request->arena, call->answer, &answer, NULL) != BK_OK)
        return call->status == 409;
    const struct bk_json *data = bk_json_get(answer, BK_SLICE("data"));
    for (const struct bk_json *problem = data == NULL ? NULL : data->child; problem != NULL;
         problem = problem->next)
        if (bk_slice_is(bk_json_get_string(problem, BK_SLICE("code")), "validation_not_unique"))
            return true;
    return false;
}

static void on_created(struct bk_call *call) {
    struct sign_in *sign_in = bk_container_of(call, struct sign_in, call);
    if (call->status == 200) {
        sign_in->is_new = true;
        give_grant(sign_in, sign_in->created_id);
    } else if (sign_in->attempts < ATTEMPTS_MAX && is_taken(sign_in)) {
        find(sign_in);
    } else if (call->status == 409) {
        refuse(sign_in, BK_INVALID, failed);
    } else {
        pass_on(sign_in);
    }
}

static void create(struct sign_in *sign_in) {
    struct bk_request *request = sign_in->request;
    const struct oauth2_user *user = &sign_in->exchange.user;
    struct bk_buffer body;
    if (bk_slice_is(sign_in->collection->name, "_superusers")) {
        refuse(sign_in, BK_INVALID, failed);
        return;
    }
    bk_buffer_init(&body, BODY_BYTES_MAX);
    write_record(sign_in, &body);
    sign_in->companion = (struct bk_companion){
        .run = on_accompany,
        .context = BK_SLICE("oauth2"),
        .verifies = user->email.length == 0 || user->is_email_verified,
        .email = user->email,
        .password_hash = has_password(sign_in) ? BK_SLICE_EMPTY : AUTH_NO_PASSWORD,
    };
    sign_in->call = (struct bk_call){
        .actor = &request->actor,
        .tenant = request->tenant->name,
        .method = BK_POST,
        .target = bk_arena_format(&request->arena, "/api/collections/%.*s/records",
                                  BK_SLICE_PRINT(sign_in->collection->id)),
        .body = bk_arena_copy(&request->arena, bk_buffer_slice(&body)),
        .companion = &sign_in->companion,
        .remote_address = request->origin.remote_address,
        .user_agent = request->origin.user_agent,
        .done = on_created,
    };
    enum bk_status status = bk_buffer_status(&body);
    bk_buffer_fini(&body);
    if (status == BK_OK)
        status = bk_arena_status(&request->arena);
    if (status == BK_OK)
        bk_api_call(request->api, &sign_in->call);
    else
        refuse(sign_in, status, NULL);
}

/* --- whose record ----------------------------------------------------------------------------- */

static enum bk_status on_find(struct bk_connection *connection, struct bk_read *read) {
    struct sign_in *sign_in = bk_container_of(read, struct sign_in, read);
    return auth_oauth2_account_find(&sign_in->account, connection);
}

static void on_found(struct bk_read *read, enum bk_status status) {
    struct sign_in *sign_in = bk_container_of(read, struct sign_in, read);
    if (status == BK_NOT_FOUND)
        create(sign_in);
    else if (status != BK_OK)
        refuse(sign_in, status == BK_GONE ? BK_NOT_FOUND : status, NULL);
    else if (auth_oauth2_account_is_settled(&sign_in->account))
        give_grant(sign_in, sign_in->account.found.id);
    else
        settle(sign_in);
}

/* A record that asks for itself; one of another tenant, whoever it is there, is none here. */
static struct bk_slice own_id(const struct sign_in *sign_in) {
    const struct bk_request *request = sign_in->request;
    const struct bk_actor *actor = &request->actor;
    bool is_record = actor->kind == BK_ACTOR_RECORD || actor->kind == BK_ACTOR_SUPERUSER;
    return is_record && bk_slice_equal(actor->collection_id, sign_in->collection->id) &&
                   bk_slice_equal(actor->tenant, request->tenant->name)
               ? actor->id
               : BK_SLICE_EMPTY;
}

/* With the schema of now: the provider has taken its time. */
static void find(struct sign_in *sign_in) {
    struct bk_request *request = sign_in->request;
    const struct bk_module_context *context = request->module;
    struct bk_schema *schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    struct bk_slice id = bk_arena_copy(&request->arena, sign_in->collection->id);
    sign_in->attempts++;
    bk_schema_unref(sign_in->schema);
    sign_in->schema = schema;
    sign_in->collection = bk_schema_find(schema, id);
    if (sign_in->collection == NULL || sign_in->collection->type != BK_COLLECTION_AUTH) {
        refuse(sign_in, BK_NOT_FOUND, "Missing or invalid collection context.");
        return;
    }
    sign_in->account = (struct oauth2_account){
        .schema = schema,
        .collection = sign_in->collection,
        .provider = sign_in->exchange.provider->name,
        .user = &sign_in->exchange.user,
        .own_id = own_id(sign_in),
        .arena = &request->arena,
    };
    sign_in->read = (struct bk_read){.run = on_find, .done = on_found};
    enum bk_status status = bk_store_read(request->tenant->database, &sign_in->read);
    if (status != BK_OK)
        refuse(sign_in, status, NULL);
}

/* --- the exchange ----------------------------------------------------------------------------- */

static void on_abort(struct bk_request *request) {
    struct sign_in *sign_in = request->state;
    bk_outbound_cancel(&sign_in->exchange.request);
}

static void on_exchanged(struct oauth2_exchange *exchange) {
    struct sign_in *sign_in = bk_container_of(exchange, struct sign_in, exchange);
    struct bk_request *request = sign_in->request;
    request->on_abort = NULL;
    if (exchange->status != BK_OK) {
        refuse(sign_in, exchange->status, exchange->message);
        return;
    }
    if (exchange->user.name.length == 0 &&
        bk_slice_is(bk_slice_from(exchange->provider->name), "apple"))
        exchange->user.name =
            auth_oauth2_name_take(exchange->oauth2, exchange->code, &request->arena);
    find(sign_in);
}

static void start_exchange(struct sign_in *sign_in) {
    struct bk_request *request = sign_in->request;
    struct oauth2_exchange *exchange = &sign_in->exchange;
    exchange->oauth2 = state_of(request)->oauth2;
    exchange->arena = &request->arena;
    exchange->tenant = request->tenant->name;
    exchange->done = on_exchanged;
    request->state = sign_in;
    request->on_abort = on_abort;
    enum bk_status status = auth_oauth2_exchange_start(exchange);
    if (status == BK_OK)
        return;
    request->on_abort = NULL;
    refuse(sign_in, status, status == BK_INVALID ? "Failed to fetch OAuth2 token." : NULL);
}

/* --- the form --------------------------------------------------------------------------------- */

static const char form_failed[] = "An error occurred while loading the submitted data.";

static bool is_text(const struct bk_json *json, const char *name) {
    const struct bk_json *member = bk_json_get(json, bk_slice_from(name));
    return member == NULL || member->type == BK_JSON_NULL || member->type == BK_JSON_STRING ||
           member->string.data != NULL;
}

static bool has_right_types(const struct bk_json *json) {
    static const char *const texts[] = {"provider", "code", "codeVerifier", "redirectURL",
                                        "redirectUrl"};
    const struct bk_json *data = bk_json_get(json, BK_SLICE("createData"));
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++)
        if (!is_text(json, texts[i]))
            return false;
    return data == NULL || data->type == BK_JSON_NULL || data->type == BK_JSON_OBJECT;
}

static void add_blank(struct bk_request *request, const char *field) {
    bk_problems_add(&request->problems, bk_slice_from(field), "validation_required",
                    "Cannot be blank.");
}

static void check_provider(struct bk_request *request, struct bk_slice name,
                           const struct bk_json *config) {
    static const struct bk_slice field = BK_SLICE_INIT("provider");
    struct bk_buffer params;
    if (name.length == 0) {
        add_blank(request, "provider");
        return;
    }
    if (name.length > PROVIDER_NAME_CHARACTERS_MAX) {
        bk_problems_add_params(&request->problems, field, "validation_length_too_long",
                               "The length must be no more than 100.",
                               BK_SLICE("{\"max\":100,\"min\":0}"));
        return;
    }
    if (config != NULL)
        return;
    bk_buffer_init(&params, BODY_BYTES_MAX);
    bk_buffer_append_char(&params, '{');
    bk_json_write_member_string(&params, BK_SLICE("name"), name);
    bk_buffer_append_char(&params, '}');
    bk_problems_add_params(&request->problems, field, "validation_invalid_provider",
                           bk_arena_format(&request->arena,
                                           "Provider with name %.*s is missing or is not enabled.",
                                           BK_SLICE_PRINT(name))
                               .data,
                           bk_buffer_slice(&params));
    bk_buffer_fini(&params);
}

/* False: the request was answered. */
static bool read_form(struct bk_request *request, const struct bk_collection *collection,
                      struct oauth2_exchange *exchange) {
    const struct bk_json *json = request->json;
    struct bk_slice name = bk_json_get_string(json, BK_SLICE("provider"));
    if (!has_right_types(json)) {
        bk_answer_error(request, BK_INVALID, form_failed);
        return false;
    }
    exchange->config = auth_oauth2_config_find(collection, name);
    exchange->provider = auth_oauth2_provider_find(name);
    exchange->code = bk_json_get_string(json, BK_SLICE("code"));
    exchange->verifier = bk_json_get_string(json, BK_SLICE("codeVerifier"));
    exchange->redirect_url = bk_json_get_string(json, BK_SLICE("redirectURL"));
    if (exchange->redirect_url.length == 0)
        exchange->redirect_url = bk_json_get_string(json, BK_SLICE("redirectUrl"));
    check_provider(request, name, exchange->config);
    if (exchange->code.length == 0)
        add_blank(request, "code");
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, form_failed);
        return false;
    }
    if (exchange->provider == NULL)
        bk_answer_error(request, BK_INTERNAL, NULL);
    return exchange->provider != NULL;
}

void auth_with_oauth2(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL)
        return;
    if (!auth_option_is_on(collection, "oauth2", "enabled")) {
        bk_answer_error(request, BK_FORBIDDEN,
                        "The collection is not configured to allow OAuth2 authentication.");
        return;
    }
    struct sign_in *sign_in = bk_arena_alloc_zero(&request->arena, sizeof *sign_in);
    if (!read_form(request, collection, &sign_in->exchange))
        return;
    sign_in->request = request;
    sign_in->collection = collection;
    sign_in->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    start_exchange(sign_in);
}

/* --- life ------------------------------------------------------------------------------------- */

enum bk_status auth_oauth2_start(struct auth_state *state, struct bk_error *error) {
    const struct auth_options *options = state->context->options;
    struct bk_network *allowed;
    size_t count;
    enum bk_status status =
        bk_networks_parse(bk_slice_from(options->oauth2_allow), &allowed, &count, error);
    if (status != BK_OK)
        return status;
    const struct bk_outbound_policy policy = {
        .name = "oauth2", .allowed = allowed, .allowed_count = count};
    state->oauth2 = bk_alloc_zero(sizeof *state->oauth2);
    state->oauth2->context = state->context;
    state->oauth2->channel = bk_outbound_open(state->context->outbound, &policy);
    bk_free(allowed);
    return BK_OK;
}

void auth_oauth2_stop(struct auth_state *state, void (*stopped)(void *user), void *user) {
    struct bk_outbound_channel *channel = state->oauth2->channel;
    state->oauth2->channel = NULL;
    bk_outbound_close(channel, stopped, user);
}

void auth_oauth2_fini(struct auth_state *state) { bk_free(state->oauth2); }
