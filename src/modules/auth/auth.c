/*
 * Auth: who somebody is. Whoever signs in is a record of an auth collection, superusers one of
 * _superusers; they sign in by password and carry a token from then on. Every way in ends in an
 * event.
 *
 *   collections.c        the collections that signing in needs, and `users`
 *   password_type.c      the field type password: hashing in a bounded pool
 *   credentials.c        records as signing in sees them
 *   login.c              by password
 *   refresh.c            a token for a token; a superuser's for another record
 *   grant.c              what one gets who has shown who they are
 *   sessions.c           the row that each token is of; logout.c: its end; sweep.c: what is over
 *   watch.c              what a change of a record means to signing in
 *   event.c              what happens to an account, as an event
 *   methods.c            how one may sign in
 *   oauth2.c             by an account elsewhere: oauth2_*.c, providers.c, oidc.c
 *   otp.c                codes that come by mail: otp_login.c signs in by one
 *   mfa.c                the second factor; totp.c, totp_routes.c: authenticator apps
 *   token.c              what a token is, how it is signed and what revokes it
 *   authenticate.c       from a request's token to its actor
 *   token_cache.c        tokens verified before; stale.c: what makes them worthless
 *   keys.c               which key signs, `bakend keys …`; secrets.c: those of collections
 *   api_keys.c           what programs come in with; api_keys_routes.c, api_keys_command.c
 *   attempts.c           failed sign-ins, and who has to wait for them
 *   verification.c, password_reset.c, email_change.c
 *                        what goes by mail; flow.c: what they have in common
 *   tickets.c            tokens of mails: good for one thing, once
 *   mail.c               mails, as work of a transaction
 *   alert.c              a sign-in from a new place
 *   form.c               bodies of a few texts
 *   rows.c               records that are written here
 *   superuser_command.c  `bakend superuser …`
 */
#include "auth.h"
#include "bakend/alloc.h"

/* --- declarations ----------------------------------------------------------------------------- */

static const char *refuse_networks(const char *text) {
    struct bk_network *networks;
    size_t count;
    if (bk_networks_parse(bk_slice_from(text), &networks, &count, NULL) != BK_OK)
        return "must be addresses or networks separated by commas, such as 10.0.0.0/8 or ::1";
    bk_free(networks);
    return NULL;
}

static const struct bk_option options[] = {
    {"oauth2-allow", BK_OPTION_TEXT, offsetof(struct auth_options, oauth2_allow), "", 0, 0,
     "CIDR,…", "Networks in which OAuth2 providers may be, beside public addresses with TLS.",
     refuse_networks},
    {"oauth2-timeout", BK_OPTION_DURATION, offsetof(struct auth_options, oauth2_timeout_ms), "10s",
     100, 60 * 1000, "TIME", "How long each answer of an OAuth2 provider may take.", NULL},
    {"password-threads", BK_OPTION_INT, offsetof(struct auth_options, password_threads), "0", 0,
     256, "COUNT",
     "Threads that hash passwords (46 ms of a core and 19 MiB each); 0: one for each core.", NULL},
    {"password-queue-max", BK_OPTION_INT, offsetof(struct auth_options, password_queue_max), "128",
     1, 1024, "COUNT", "Passwords that may wait to be hashed; past it the answer is 429.", NULL},
    {"token-cache-max", BK_OPTION_INT, offsetof(struct auth_options, token_cache_max), "10000", 0,
     1000000, "COUNT", "Verified tokens that are kept in memory.", NULL},
    {"sign-in-window", BK_OPTION_DURATION, offsetof(struct auth_options, failures_window_ms), "5m",
     1000, 24 * 3600 * 1000, "TIME", "How long a failed sign-in counts.", NULL},
    {"sign-in-failures-max", BK_OPTION_INT, offsetof(struct auth_options, failures_max), "10", 1,
     1000000, "COUNT", "Failed sign-ins to an account from one address; past it 429.", NULL},
    {"sign-in-failures-account-max", BK_OPTION_INT,
     offsetof(struct auth_options, failures_account_max), "100", 1, 1000000, "COUNT",
     "Failed sign-ins to an account from all addresses; past it only those get in that were in "
     "before.",
     NULL},
    {"sign-in-failures-address-max", BK_OPTION_INT,
     offsetof(struct auth_options, failures_address_max), "100", 1, 1000000, "COUNT",
     "Failed sign-ins from an address to all accounts of a tenant; likewise.", NULL},
    {"sign-in-failures-tenant-max", BK_OPTION_INT,
     offsetof(struct auth_options, failures_tenant_max), "3000", 1, 10000000, "COUNT",
     "Failed sign-ins to a tenant; likewise.", NULL},
    {"sign-in-memory-max", BK_OPTION_INT, offsetof(struct auth_options, failures_memory_max),
     "20000", 100, 10000000, "COUNT",
     "Accounts, addresses and pairs of them whose failed sign-ins are counted (150 bytes each).",
     NULL},
};

static const struct bk_route_parameter answer_parameters[] = {
    {"expand", "query", "string", "Relations of the record that come along, as in records."},
    {"fields", "query", "string", "Which members to answer, separated by commas; all when absent."},
    {NULL, NULL, NULL, NULL},
};
static const struct bk_route_parameter fields_parameter[] = {
    {"fields", "query", "string", "Which members to answer, separated by commas; all when absent."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route_parameter redirect_parameters[] = {
    {"state", "query", "string", "The id of the event stream that is subscribed to @oauth2."},
    {"code", "query", "string", "What the provider gives for a token."},
    {"error", "query", "string", "Why there is no code."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route routes[] = {
    {.method = BK_POST,
     .path = "/api/collections/{collection}/auth-with-password",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "authWithPassword auth",
     .summary = "Signs in by identity and password and answers a token.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_with_password},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/auth-refresh",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "authRefresh",
     .summary = "Answers a new token for the one of the request.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_refresh},
    {.method = BK_GET,
     .path = "/api/collections/{collection}/auth-methods",
     .labels = "listAuthMethods",
     .summary = "Answers how one may sign in to an auth collection.",
     .tag = "auth",
     .parameters = fields_parameter,
     .handle = auth_methods},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/request-verification",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "requestVerification",
     .summary = "Mails a record the token that verifies its address.",
     .tag = "auth",
     .handle = auth_request_verification},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/confirm-verification",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "confirmVerification",
     .summary = "Verifies an address by the token of its mail.",
     .tag = "auth",
     .handle = auth_confirm_verification},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/request-password-reset",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "requestPasswordReset",
     .summary = "Mails a record the token that sets a new password.",
     .tag = "auth",
     .handle = auth_request_password_reset},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/confirm-password-reset",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "confirmPasswordReset",
     .summary = "Sets a new password by the token of a mail.",
     .tag = "auth",
     .handle = auth_confirm_password_reset},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/request-email-change",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "requestEmailChange",
     .summary = "Mails a new address the token that makes it the own one.",
     .tag = "auth",
     .handle = auth_request_email_change},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/confirm-email-change",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "confirmEmailChange",
     .summary = "Changes an address by the token of its mail and the password.",
     .tag = "auth",
     .handle = auth_confirm_email_change},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/auth-with-oauth2",
     .body_max_bytes = (size_t)256 * 1024,
     .has_json_body = true,
     .labels = "authWithOAuth2 auth",
     .summary = "Signs in by a code of an OAuth2 provider and answers a token.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_with_oauth2},
    {.method = BK_GET,
     .path = "/api/oauth2-redirect",
     .summary = "Where an OAuth2 provider sends people back to: tells the page that waits.",
     .tag = "auth",
     .parameters = redirect_parameters,
     .handle = auth_oauth2_redirect},
    {.method = BK_POST,
     .path = "/api/oauth2-redirect",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .summary = "The same for providers that send a form: {state, code, error}.",
     .tag = "auth",
     .handle = auth_oauth2_redirect},
    {.method = BK_GET,
     .path = "/_/",
     .summary = "The page where signing in elsewhere ends and the links of mails lead.",
     .tag = "auth",
     .handle = auth_page},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/request-otp",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "requestOTP",
     .summary = "Sends a one-time password to {email}, if it is anybody's; answers {otpId} always.",
     .tag = "auth",
     .handle = auth_request_otp},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/auth-with-otp",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "authWithOTP auth",
     .summary = "Signs in by a one-time password, {otpId, password}, and answers a token.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_with_otp},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/auth-with-totp",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "authWithTOTP auth",
     .summary = "The second factor of an authenticator app, {mfaId, code}; answers a token.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_with_totp},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/totp/enroll",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "enrollTOTP",
     .summary = "Makes a secret for the authenticator app of one's own record: {password}.",
     .tag = "auth",
     .handle = auth_totp_enroll},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/totp/confirm",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "confirmTOTP",
     .summary = "Turns the authenticator app on by a {code} of it; answers codes of recovery.",
     .tag = "auth",
     .handle = auth_totp_confirm},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/totp/disable",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .labels = "disableTOTP",
     .summary =
         "Takes the authenticator app off: {code} or {password}; superusers name a {record}.",
     .tag = "auth",
     .handle = auth_totp_disable},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/impersonate/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .summary = "Answers a token of another record, which cannot be refreshed.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_impersonate},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/auth-logout",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .summary = "Ends the session of the request's token, with {\"all\":true} all of the record.",
     .tag = "auth",
     .handle = auth_logout},
    {.method = BK_GET,
     .path = "/api/sessions",
     .access = BK_ACCESS_ACTOR,
     .summary = "Lists sessions, as the records of a collection: one's own; superusers see all.",
     .tag = "sessions",
     .handle = auth_sessions_list},
    {.method = BK_GET,
     .path = "/api/sessions/{id}",
     .access = BK_ACCESS_ACTOR,
     .summary = "Answers a session.",
     .tag = "sessions",
     .handle = auth_session_view},
    {.method = BK_DELETE,
     .path = "/api/sessions/{id}",
     .access = BK_ACCESS_ACTOR,
     .scope = "sessions:write",
     .summary = "Ends a session: its token is worthless and its connections are closed.",
     .tag = "sessions",
     .handle = auth_session_revoke},
    {.method = BK_DELETE,
     .path = "/api/sessions",
     .access = BK_ACCESS_ACTOR,
     .summary = "Ends all of one's own sessions but the one that asks.",
     .tag = "sessions",
     .handle = auth_sessions_revoke},
    {.method = BK_POST,
     .path = "/api/auth-keys/rotate",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .summary =
         "Signs new tokens with the tenant's next key; with {\"revoke\":true} those of before "
         "are refused at once, and all sessions end.",
     .tag = "auth",
     .handle = auth_keys_rotate},
    {.method = BK_POST,
     .path = "/api/api-keys",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = AUTH_API_KEY_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Makes an API key, {name, scopes, expires}; the answer has it, this one time.",
     .tag = "api keys",
     .handle = auth_api_key_create},
    {.method = BK_GET,
     .path = "/api/api-keys",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Lists API keys, as the records of a collection.",
     .tag = "api keys",
     .handle = auth_api_keys_list},
    {.method = BK_GET,
     .path = "/api/api-keys/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Answers an API key by its id or its name, without the key itself.",
     .tag = "api keys",
     .handle = auth_api_key_view},
    {.method = BK_PATCH,
     .path = "/api/api-keys/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = AUTH_API_KEY_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Changes the name, the scopes or the end of an API key.",
     .tag = "api keys",
     .handle = auth_api_key_update},
    {.method = BK_DELETE,
     .path = "/api/api-keys/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = 4096,
     .summary = "Deletes an API key: it is worthless and its connections are closed.",
     .tag = "api keys",
     .handle = auth_api_key_delete},
    {.method = BK_POST,
     .path = "/api/api-keys/{id}/rotate",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = AUTH_API_KEY_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Draws a new key in place of the old one, which is worthless from then on.",
     .tag = "api keys",
     .handle = auth_api_key_rotate},
};

static const struct bk_event_declaration events[] = {
    {"auth.login", true, "AuthLogin", "A record of an auth collection signed in."},
    {"auth.login_failed", true, "AuthLoginFailed",
     "Somebody has shown a wrong password, code or token of a mail."},
    {"auth.impersonated", true, "AuthImpersonated",
     "A superuser took a token of a record; the actor is the superuser."},
    {"auth.register", true, "AuthRegister", "A record of an auth collection was created."},
    {"auth.logout", true, "AuthLogout", "Somebody signed out: the session is over."},
    {"auth.session_revoked", true, "AuthSessionRevoked",
     "A session was ended otherwise, by its owner, a superuser or a new password."},
    {"auth.sessions_revoked", true, "AuthSessionsRevoked",
     "All sessions of a collection have ended: its secret or the signing keys are new, or it is "
     "gone."},
    {"auth.password_reset", true, "AuthPasswordReset",
     "A password was set by the token of a mail."},
    {"auth.verified", true, "AuthVerified", "A record's email address was verified."},
    {"auth.email_changed", true, "AuthEmailChanged", "A record has another email address."},
    {"auth.otp_requested", true, "AuthOtpRequested", "Somebody has asked for a one-time password."},
    {"auth.mfa_enabled", true, "AuthMfaEnabled", "A record has an authenticator app from now on."},
    {"auth.mfa_disabled", true, "AuthMfaDisabled",
     "A record has no authenticator app any more; the actor is who took it off."},
    {"auth.keys_rotated", true, "AuthKeysRotated", "New tokens are signed with another key."},
};

/* Each in its own file; a name is for ever. */
static const struct bk_migration migrations[] = {
    {.name = "auth_1_signing_keys", .sql = auth_keys_table},
    {.name = "auth_2_api_keys", .sql = auth_api_keys_table},
    {.name = "auth_3_tickets", .sql = auth_tickets_table},
    {.name = "auth_4_codes", .sql = auth_codes_table},
    {.name = "auth_5_unproven_links", .sql = auth_unproven_table},
};

static const struct bk_work_kind work_kinds[] = {
    {.name = "auth-sweep", .on_task = auth_sweep},
};

static const struct bk_command commands[] = {
    {.name = "superuser",
     .usage = "superuser create|update|delete|token EMAIL | superuser list  [--tenant NAME]",
     .summary =
         "Creates, changes, deletes and lists superusers, or prints a token of one.\n\n"
         "The password is asked for on a terminal, else it is the first line of standard\n"
         "input. Superusers are a tenant's: of default, whose superusers are the operators,\n"
         "or of the one that --tenant names.",
     .run = auth_superuser_command},
    {.name = "api-key",
     .usage = "api-key create NAME --scope SCOPE… [--expires TIME] | api-key list | api-key "
              "rotate|delete NAME  [--tenant NAME]",
     .summary =
         "Makes, lists, rotates and deletes API keys, which programs come in with.\n\n"
         "create and rotate print the key, this one time. A rotated or deleted key is worthless\n"
         "at once. An unknown scope is answered with the list of those that there are.",
     .run = auth_api_key_command},
    {.name = "keys",
     .usage = "keys rotate [--revoke]  [--tenant NAME]",
     .summary =
         "Signs new tokens of a tenant with its next key.\n\n"
         "Tokens of before stay good until they are over. With --revoke they are refused at\n"
         "once and all sessions of the tenant end, those of superusers too.",
     .run = auth_keys_command},
};

/* --- life ------------------------------------------------------------------------------------- */

static void on_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct auth_state *state = bk_container_of(source, struct auth_state, metrics);
    bk_metric_write(out, "bakend_auth_logins_total", "counter", "Successful logins by password.",
                    (double)state->logins);
    bk_metric_write(out, "bakend_auth_logins_failed_total", "counter",
                    "Logins by password that were refused.", (double)state->logins_failed);
    auth_attempts_write_metrics(&state->attempts, out);
    bk_metric_write(out, "bakend_auth_passwords_waiting", "gauge",
                    "Passwords that wait for a hash.", (double)bk_pool_waiting_count(state->pool));
    bk_metric_write(out, "bakend_auth_token_cache_hits_total", "counter",
                    "Tokens that were found in memory.", (double)state->cache.hits);
    bk_metric_write(out, "bakend_auth_token_cache_misses_total", "counter",
                    "Tokens that had to be verified.", (double)state->cache.misses);
}

static enum bk_status auth_init(struct bk_module_context *context, struct bk_error *error) {
    (void)error;
    struct auth_state *state = context->state;
    const struct auth_options *values = context->options;
    state->context = context;
    uint32_t thread_count = (uint32_t)values->password_threads;
    state->pool = bk_pool_create(context->loop, "password",
                                 thread_count > 0 ? thread_count : bk_processor_count(),
                                 (uint32_t)values->password_queue_max);
    bk_pool_give_way(state->pool);
    auth_password_type_init(&state->password, context, state->pool);
    bk_schema_add_type(context->schema, &state->password.type);
    auth_cache_init(&state->cache, (uint32_t)values->token_cache_max);
    auth_attempts_init(&state->attempts, values);
    state->authenticator = (struct bk_authenticator){
        .user = state, .tenant_of = auth_tenant_of, .authenticate = auth_authenticate};
    bk_api_set_authenticator(context->api, &state->authenticator);
    state->metrics.write = on_metrics;
    bk_api_add_metrics(context->api, &state->metrics);
    state->watch =
        (struct bk_auth_watch){.on_change = auth_on_change, .on_collection = auth_on_collection};
    bk_schema_set_auth_watch(context->schema, &state->watch);
    auth_stale_init(state);
    auth_api_keys_init(state);
    auth_otp_init(state);
    return BK_OK;
}

static void auth_fini(struct bk_module_context *context) {
    struct auth_state *state = context->state;
    auth_stale_fini(state);
    auth_api_keys_fini(state);
    auth_otp_fini(state);
    bk_pool_destroy(state->pool);
    auth_cache_fini(&state->cache);
    auth_attempts_fini(&state->attempts);
    auth_oauth2_fini(state);
}

static enum bk_status auth_start(struct bk_module_context *context, struct bk_error *error) {
    return auth_oauth2_start(context->state, error);
}

/* What is on its way to a provider ends now. */
static void auth_stop(struct bk_module_context *context, void (*stopped)(void *user), void *user) {
    auth_oauth2_stop(context->state, stopped, user);
}

static enum bk_status auth_tenant_open(struct bk_module_context *context, struct bk_tenant *tenant,
                                       void **tenant_state, struct bk_error *error) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct auth_keys keys;
    enum bk_status status = connection == NULL ? BK_IO : auth_keys_read(connection, &keys);
    if (status != BK_OK)
        return bk_error_set(error, status, "the numbers of the signing keys cannot be read");
    struct auth_tenant *own = bk_alloc_zero(sizeof *own);
    own->keys = keys;
    auth_secrets_open(bk_schema_current(context->schema, tenant), &own->secrets);
    *tenant_state = own;
    return BK_OK;
}

static void auth_tenant_close(struct bk_module_context *context, struct bk_tenant *tenant,
                              void *tenant_state) {
    struct auth_state *state = context->state;
    struct auth_tenant *own = tenant_state;
    auth_cache_forget(&state->cache, tenant->name, BK_SLICE_EMPTY);
    auth_api_keys_forget(state, tenant->name, BK_SLICE_EMPTY);
    auth_secrets_close(&own->secrets);
    bk_crypto_wipe(own->sources, sizeof own->sources);
    bk_free(own);
}

const struct bk_module bk_module_auth;
const struct bk_module bk_module_auth = {
    .name = "auth",
    .summary = "Auth collections, superusers, tokens and signing in.",
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct auth_options),
    .migrations = migrations,
    .migration_count = BK_COUNT_OF(migrations),
    .collections = auth_collections,
    .collection_count = AUTH_COLLECTION_COUNT,
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .work_kinds = work_kinds,
    .work_kind_count = BK_COUNT_OF(work_kinds),
    .commands = commands,
    .command_count = BK_COUNT_OF(commands),
    .state_size = sizeof(struct auth_state),
    .init = auth_init,
    .start = auth_start,
    .stop = auth_stop,
    .fini = auth_fini,
    .tenant_open = auth_tenant_open,
    .tenant_close = auth_tenant_close,
};
