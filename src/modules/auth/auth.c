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
 *   methods.c            how one may sign in; providers.c: OAuth2's part of it
 *   token.c              what a token is, how it is signed and what revokes it
 *   authenticate.c       from a request's token to its actor
 *   token_cache.c        tokens verified before
 *   superuser_command.c  `bakend superuser …`
 */
#include "auth.h"

/* --- declarations ----------------------------------------------------------------------------- */

static const struct bk_option options[] = {
    {"password-threads", BK_OPTION_INT, offsetof(struct auth_options, password_threads), "2", 1, 16,
     "COUNT", "Threads that hash passwords (46 ms of a core and 19 MiB each).", NULL},
    {"password-queue-max", BK_OPTION_INT, offsetof(struct auth_options, password_queue_max), "128",
     1, 1024, "COUNT", "Passwords that may wait to be hashed; past it the answer is 429.", NULL},
    {"token-cache-max", BK_OPTION_INT, offsetof(struct auth_options, token_cache_max), "10000", 0,
     1000000, "COUNT", "Verified tokens that are kept in memory.", NULL},
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

static const struct bk_route routes[] = {
    {.method = BK_POST,
     .path = "/api/collections/{collection}/auth-with-password",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .summary = "Signs in by identity and password and answers a token.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_with_password},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/auth-refresh",
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .summary = "Answers a new token for the one of the request.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_refresh},
    {.method = BK_GET,
     .path = "/api/collections/{collection}/auth-methods",
     .summary = "Answers how one may sign in to an auth collection.",
     .tag = "auth",
     .parameters = fields_parameter,
     .handle = auth_methods},
    {.method = BK_POST,
     .path = "/api/collections/{collection}/impersonate/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = (size_t)64 * 1024,
     .has_json_body = true,
     .summary = "Answers a token of another record, which cannot be refreshed.",
     .tag = "auth",
     .parameters = answer_parameters,
     .handle = auth_impersonate},
};

static const struct bk_event_declaration events[] = {
    {"auth.login", true, "AuthLogin", "A record of an auth collection signed in."},
    {"auth.impersonated", true, "AuthImpersonated",
     "A superuser took a token of a record; the actor is the superuser."},
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
};

/* --- what revokes ----------------------------------------------------------------------------- */

/* A changed or deleted record, by its subject, whatever its collection: whether it can sign in
 * shows when a token of it is in the cache, and that is a look-up. */
static enum bk_status on_record(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                struct bk_event *event) {
    struct auth_invalidation *invalidation =
        bk_container_of(subscription, struct auth_invalidation, subscription);
    if (event->fields.subject.length > 0)
        auth_cache_forget(&invalidation->state->cache, tenant->name, event->fields.subject);
    return BK_OK;
}

/* A changed collection, all tokens of the tenant; other system records as above. */
static enum bk_status on_system(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                struct bk_event *event) {
    struct auth_invalidation *invalidation =
        bk_container_of(subscription, struct auth_invalidation, subscription);
    if (!bk_slice_starts_with(event->fields.type, BK_SLICE("_collections.")))
        return on_record(subscription, tenant, event);
    auth_cache_forget(&invalidation->state->cache, tenant->name, BK_SLICE_EMPTY);
    return BK_OK;
}

static const struct {
    const char *name, *pattern;
    enum bk_status (*on_event)(struct bk_subscription *, struct bk_tenant *, struct bk_event *);
} invalidations[AUTH_INVALIDATION_COUNT] = {{"auth.record_updated", "*.updated", on_record},
                                            {"auth.record_deleted", "*.deleted", on_record},
                                            {"auth.system_changed", "_*", on_system}};

static enum bk_status subscribe(struct auth_state *state, struct bk_error *error) {
    for (size_t i = 0; i < AUTH_INVALIDATION_COUNT; i++) {
        struct bk_subscription *subscription = &state->invalidations[i].subscription;
        state->invalidations[i].state = state;
        subscription->name = invalidations[i].name;
        /* In the first phase: a revoked token is forgotten before anybody hears of the change. */
        subscription->phase = BK_PHASE_LOGGING;
        subscription->pattern = bk_slice_from(invalidations[i].pattern);
        subscription->on_event = invalidations[i].on_event;
        enum bk_status status = bk_bus_subscribe(state->context->bus, subscription);
        if (status != BK_OK)
            return bk_error_set(error, status, "cannot subscribe to %s", invalidations[i].pattern);
    }
    return BK_OK;
}

static void on_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct auth_state *state = bk_container_of(source, struct auth_state, metrics);
    bk_metric_write(out, "bakend_auth_logins_total", "counter", "Successful logins by password.",
                    (double)state->logins);
    bk_metric_write(out, "bakend_auth_logins_failed_total", "counter",
                    "Logins by password that were refused.", (double)state->logins_failed);
    bk_metric_write(out, "bakend_auth_passwords_waiting", "gauge",
                    "Passwords that wait for a hash.", (double)bk_pool_waiting_count(state->pool));
    bk_metric_write(out, "bakend_auth_token_cache_hits_total", "counter",
                    "Tokens that were found in memory.", (double)state->cache.hits);
    bk_metric_write(out, "bakend_auth_token_cache_misses_total", "counter",
                    "Tokens that had to be verified.", (double)state->cache.misses);
}

/* --- life ------------------------------------------------------------------------------------- */

static enum bk_status auth_init(struct bk_module_context *context, struct bk_error *error) {
    struct auth_state *state = context->state;
    const struct auth_options *values = context->options;
    state->context = context;
    state->pool = bk_pool_create(context->loop, "password", (uint32_t)values->password_threads,
                                 (uint32_t)values->password_queue_max);
    auth_password_type_init(&state->password, state->pool);
    bk_schema_add_type(context->schema, &state->password.type);
    auth_cache_init(&state->cache, (uint32_t)values->token_cache_max);
    state->authenticator = (struct bk_authenticator){
        .user = state, .tenant_of = auth_tenant_of, .authenticate = auth_authenticate};
    bk_api_set_authenticator(context->api, &state->authenticator);
    state->metrics.write = on_metrics;
    bk_api_add_metrics(context->api, &state->metrics);
    return subscribe(state, error);
}

static void auth_fini(struct bk_module_context *context) {
    struct auth_state *state = context->state;
    for (size_t i = 0; i < BK_COUNT_OF(state->invalidations); i++)
        bk_bus_unsubscribe(context->bus, &state->invalidations[i].subscription);
    bk_pool_destroy(state->pool);
    auth_cache_fini(&state->cache);
}

static void auth_tenant_close(struct bk_module_context *context, struct bk_tenant *tenant,
                              void *tenant_state) {
    struct auth_state *state = context->state;
    (void)tenant_state;
    auth_cache_forget(&state->cache, tenant->name, BK_SLICE_EMPTY);
}

const struct bk_module bk_module_auth;
const struct bk_module bk_module_auth = {
    .name = "auth",
    .summary = "Auth collections, superusers, tokens and signing in.",
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct auth_options),
    .collections = auth_collections,
    .collection_count = AUTH_COLLECTION_COUNT,
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .commands = commands,
    .command_count = BK_COUNT_OF(commands),
    .state_size = sizeof(struct auth_state),
    .init = auth_init,
    .fini = auth_fini,
    .tenant_close = auth_tenant_close,
};
