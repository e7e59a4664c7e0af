/*
 * Limits: how often clients may ask, and from where superusers may, as a tenant's settings have it
 * (rateLimits, superuserIPs). Each request is judged before its route is: one that asks for another
 * address, or too often, is answered and does nothing.
 *
 *   superuserIPs → rateLimits.enabled, superusers, excludedIPs → the rule → the count of its window
 *
 * A client is an address (of IPv6 a /64). What it does is counted for each collection and action,
 * as `users:create`, and for the rest for each rule; a part of a batch is counted as the request
 * that it could be. The window begins with the first request and lasts as long as the rule says.
 * Counts live on the loop and in memory, of a bounded number of clients: the one whose window began
 * first is forgotten when there are more. Changed settings begin anew.
 *
 *   rule.c   which rule a request is held to
 */
#include "limits.h"

#include "bakend/clock.h"

enum { NS_PER_MS = 1000 * 1000, MS_PER_SECOND = 1000 };
/* A hundred years. */
#define SECONDS_MAX INT64_C(3155760000)

struct limits_options {
    int64_t clients_max;
};

struct limits_state {
    struct bk_module_context *context;
    struct bk_guard guard;
    struct bk_metrics_source metrics;
    struct bk_tally clients;
    uint64_t refused_count, turned_away_count;
};

static const struct bk_option options[] = {
    {"rate-limit-clients-max", BK_OPTION_INT, offsetof(struct limits_options, clients_max),
     "100000", 1, 100000000, "COUNT",
     "Clients and rules whose requests are counted (150 bytes each); the oldest go first.", NULL},
};

/* --- judging ---------------------------------------------------------------------------------- */

static bool is_among(struct bk_slice address, const struct bk_network *networks, uint32_t count) {
    struct bk_network one;
    if (count == 0 || bk_network_parse(address, &one) != BK_OK)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (bk_network_contains(&networks[i], one.address))
            return true;
    return false;
}

/* The collection whose actions the route's labels name. */
static const struct bk_collection *collection_of(const struct limits_state *state,
                                                 const struct bk_request *request) {
    if (request->route->labels == NULL)
        return NULL;
    return bk_schema_find(bk_schema_current(state->context->schema, request->tenant),
                          bk_request_parameter(request, BK_SLICE("collection")));
}

static uint64_t key_of(const struct bk_request *request, const struct bk_collection *collection,
                       const struct bk_settings_limit *rule) {
    uint8_t client[16];
    uint64_t revision = bk_settings_of(request->tenant)->revision;
    bk_address_client(request->remote_address, client);
    const struct bk_slice texts[] = {
        request->tenant->name,
        bk_slice_make((const char *)&revision, sizeof revision),
        collection == NULL ? BK_SLICE_EMPTY : collection->id,
        collection == NULL ? rule->label : bk_slice_from(request->route->labels),
        rule->audience,
        bk_slice_make((const char *)client, sizeof client),
    };
    return bk_tally_key(texts, BK_COUNT_OF(texts));
}

static enum bk_status count(struct limits_state *state, struct bk_request *request, uint64_t key,
                            const struct bk_settings_limit *rule) {
    uint64_t now_ms = bk_clock_monotonic_ns() / NS_PER_MS;
    int64_t seconds = rule->seconds < SECONDS_MAX ? rule->seconds : SECONDS_MAX;
    struct bk_tally_entry *entry =
        bk_tally_take(&state->clients, key, now_ms, (uint64_t)seconds * MS_PER_SECOND);
    if (entry->count < rule->requests_max && entry->count < UINT32_MAX) {
        entry->count++;
        return BK_OK;
    }
    state->refused_count++;
    request->retry_after_s =
        (uint32_t)((entry->ends_ms - now_ms + MS_PER_SECOND - 1) / MS_PER_SECOND);
    return BK_TOO_MANY;
}

/* A key may more than the rules say, whatever its scopes: it is held to where superusers are. */
static enum bk_status on_ask_actor(struct bk_guard *guard, const struct bk_tenant *tenant,
                                   const struct bk_actor *actor, struct bk_slice remote_address) {
    struct limits_state *state = bk_container_of(guard, struct limits_state, guard);
    const struct bk_settings *settings = bk_settings_of(tenant);
    if ((!bk_actor_is_superuser(actor) && actor->kind != BK_ACTOR_KEY) ||
        settings->superuser_network_count == 0 ||
        is_among(remote_address, settings->superuser_networks, settings->superuser_network_count))
        return BK_OK;
    state->turned_away_count++;
    return BK_FORBIDDEN;
}

static enum bk_status on_ask(struct bk_guard *guard, struct bk_request *request) {
    struct limits_state *state = bk_container_of(guard, struct limits_state, guard);
    const struct bk_settings_limits *limits = &bk_settings_of(request->tenant)->limits;
    struct limits_labels labels;
    if (bk_actor_is_superuser(&request->actor) || !limits->is_enabled ||
        is_among(request->remote_address, limits->excluded, limits->excluded_count))
        return BK_OK;
    const struct bk_collection *collection = collection_of(state, request);
    if (collection == NULL && request->route->labels != NULL)
        return BK_OK; /* it is not there: 404, and not counted, as in the contract */
    limits_labels_make(request, collection, &labels);
    const struct bk_settings_limit *rule =
        limits_rule_find(limits, &labels, request->actor.kind == BK_ACTOR_GUEST);
    return rule == NULL ? BK_OK : count(state, request, key_of(request, collection, rule), rule);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_metrics(struct bk_metrics_source *source, struct bk_buffer *out) {
    const struct limits_state *state = bk_container_of(source, struct limits_state, metrics);
    bk_metric_write(out, "bakend_limits_refused_total", "counter",
                    "Requests answered 429 by the rate limits of settings.",
                    (double)state->refused_count);
    bk_metric_write(out, "bakend_limits_turned_away_total", "counter",
                    "Superusers and keys from addresses that superuserIPs does not have.",
                    (double)state->turned_away_count);
    bk_metric_write(out, "bakend_limits_clients", "gauge",
                    "Clients and rules whose requests are counted.",
                    (double)state->clients.by_key.count);
    bk_metric_write(out, "bakend_limits_forgotten_total", "counter",
                    "Counts that had to go before their window was over.",
                    (double)state->clients.forgotten_count);
}

static enum bk_status limits_init(struct bk_module_context *context, struct bk_error *error) {
    struct limits_state *state = context->state;
    const struct limits_options *values = context->options;
    (void)error;
    state->context = context;
    bk_tally_init(&state->clients, (uint32_t)values->clients_max);
    state->guard.ask_actor = on_ask_actor;
    state->guard.stranger = "Superusers and API keys may not come from this address: superuserIPs "
                            "of the settings says from where they may.";
    state->guard.ask = on_ask;
    bk_api_add_guard(context->api, &state->guard);
    state->metrics.write = on_metrics;
    bk_api_add_metrics(context->api, &state->metrics);
    return BK_OK;
}

static void limits_fini(struct bk_module_context *context) {
    struct limits_state *state = context->state;
    bk_tally_fini(&state->clients);
}

extern const struct bk_module bk_module_limits;
const struct bk_module bk_module_limits = {
    .name = "limits",
    .summary = "How often clients may ask, and from where superusers may.",
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct limits_options),
    .state_size = sizeof(struct limits_state),
    .init = limits_init,
    .fini = limits_fini,
};
