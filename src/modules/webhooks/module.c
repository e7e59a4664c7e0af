/*
 * Webhooks: every event that an endpoint asked for is posted to it, signed, at least once, and no
 * endpoint can hurt another.
 *
 *   journal ─> position "webhooks/<id>" ─> queue.c ─> send.c ─> the endpoint
 *                    ^                                   │
 *                    └── record.c: the delivery's row, <─┘  200: done
 *                        and, where it failed, a task ──> retry.c, again and again
 *
 *   endpoint.c   the endpoints of an open tenant, each a position of the feed with a window
 *   config.c     one as its record says       secret.c     what signs, sealed in the database
 *   headers.c    further ones, sealed likewise
 *   body.c, signature.c   the bytes of a delivery, and what proves them
 *   queue.c      in turns, within places and rates         send.c    one request, judged
 *   record.c     attempts on disk, many a commit           delivery.c   the rows of _deliveries
 *   retry.c      work of kind "webhooks", a lane for each endpoint
 *   health.c     breaker, warnings, disabling              enabling.c   off and on
 *   replay.c     one, a range, what was missed             sweep.c      old deliveries go
 *   *_routes.c, verbs.c, listen_command.c                  the surface
 *
 * Nothing here knows of collections or mail: an event is an event. An endpoint that is away stands
 * still in the journal and holds nothing in memory but its window.
 */
#include "bakend/alloc.h"
#include "routes.h"

extern const struct bk_module bk_module_webhooks;

#define ID_FIELD                                                                                   \
    "{\"name\":\"id\",\"type\":\"text\",\"system\":true,\"primaryKey\":true,\"required\":true,"    \
    "\"min\":15,\"max\":15,\"pattern\":\"^[a-z0-9]+$\","                                           \
    "\"autogeneratePattern\":\"[a-z0-9]{15}\"},"
#define TEXT(name) "{\"name\":\"" name "\",\"type\":\"text\"},"
#define NUMBER(name) "{\"name\":\"" name "\",\"type\":\"number\",\"onlyInt\":true},"
#define BOOL(name) "{\"name\":\"" name "\",\"type\":\"bool\"},"
#define DATE(name) "{\"name\":\"" name "\",\"type\":\"date\"},"
#define AUTODATES                                                                                  \
    "{\"name\":\"created\",\"type\":\"autodate\",\"onCreate\":true},"                              \
    "{\"name\":\"updated\",\"type\":\"autodate\",\"onCreate\":true,\"onUpdate\":true}"

static const struct bk_system_collection collections[] = {
    {.definition =
         "{\"name\":\"_webhooks\",\"type\":\"base\",\"system\":true,\"fields\":[" ID_FIELD
         "{\"name\":\"url\",\"type\":\"text\",\"required\":true,\"presentable\":true,"
         "\"max\":8000},"
         "{\"name\":\"types\",\"type\":\"json\"}," TEXT("subject") TEXT("filter")
             TEXT("description")
                 BOOL("enabled") "{\"name\":\"format\",\"type\":\"select\","
                                 "\"maxSelect\":1,\"values\":[\"standard\","
                                 "\"cloudevents\",\"cloudevents-binary\"]},"
                                 "{\"name\":\"headers\",\"type\":\"json\","
                                 "\"hidden\":true}," NUMBER("rateLimit") NUMBER("maxInFlight")
                                     BOOL("ordered") NUMBER("timeoutMs") BOOL("ed25519") TEXT(
                                         "publicKey") TEXT("disabledReason") DATE("disabledAt")
                                         DATE("verifiedAt") NUMBER("allowedRate") AUTODATES "]}",
     .role = BK_ROLE_CONFIGURATION,
     .is_closed = true,
     .alias = "webhooks"},
    {.definition =
         "{\"name\":\"_deliveries\",\"type\":\"base\",\"system\":true,\"fields\":[" ID_FIELD TEXT(
             "webhook") TEXT("event") TEXT("type") TEXT("subject") NUMBER("sequence")
             NUMBER("after") "{\"name\":\"format\",\"type\":\"text\"},"
                             "{\"name\":\"state\",\"type\":\"select\",\"maxSelect\":1,"
                             "\"values\":[\"delivered\",\"retrying\",\"failed\"]},"
                             "{\"name\":\"attempts\",\"type\":\"json\"}," NUMBER("attemptCount")
                                 DATE("nextAttempt")
                                     DATE("created") "{\"name\":\"updated\",\"type\":\"date\"}],"
                                                     "\"indexes\":["
                                                     "\"CREATE INDEX `idx__deliveries_webhook` ON "
                                                     "`_deliveries` (`webhook`, `id`)\","
                                                     "\"CREATE INDEX `idx__deliveries_state` ON "
                                                     "`_deliveries` (`state`, `id`)\","
                                                     "\"CREATE INDEX `idx__deliveries_trouble` ON "
                                                     "`_deliveries` (`webhook`, `state`, `id`) "
                                                     "WHERE state != 'delivered'\","
                                                     "\"CREATE INDEX `idx__deliveries_subject` "
                                                     "ON `_deliveries` (`webhook`, `subject`) "
                                                     "WHERE state = 'retrying'\"]}",
     .role = BK_ROLE_STATE,
     .is_closed = true,
     .alias = "deliveries"},
};

static const struct bk_migration migrations[] = {
    {.name = "webhooks_1_states",
     .sql = "CREATE TABLE _webhookStates (webhook TEXT PRIMARY KEY NOT NULL, "
            "secret TEXT NOT NULL DEFAULT '', previous TEXT NOT NULL DEFAULT '', "
            "previousUntil INTEGER NOT NULL DEFAULT 0, seed TEXT NOT NULL DEFAULT '', "
            "sequence INTEGER NOT NULL DEFAULT 0, missedAfter INTEGER NOT NULL DEFAULT 0, "
            "isOff INTEGER NOT NULL DEFAULT 0, missedUntil INTEGER NOT NULL DEFAULT 0, "
            "failingSince INTEGER NOT NULL DEFAULT 0, warned INTEGER NOT NULL DEFAULT 0) "
            "WITHOUT ROWID;"
            "CREATE INDEX idx__webhookStates_tail ON _webhookStates (substr(webhook, 9));"
            "CREATE TABLE _webhookReplays (task TEXT PRIMARY KEY NOT NULL, sent INTEGER NOT NULL, "
            "delivered INTEGER NOT NULL, failed INTEGER NOT NULL) WITHOUT ROWID"},
    {.name = "webhooks_2_breakers",
     .sql = "ALTER TABLE _webhookStates ADD COLUMN opens INTEGER NOT NULL DEFAULT 0;"
            "ALTER TABLE _webhookStates ADD COLUMN probeAt INTEGER NOT NULL DEFAULT 0;"
            "ALTER TABLE _webhookStates ADD COLUMN pausedUntil INTEGER NOT NULL DEFAULT 0"},
    {.name = "webhooks_3_headers",
     .sql = "ALTER TABLE _webhookStates ADD COLUMN headers TEXT NOT NULL DEFAULT ''"},
};

/* --- options ---------------------------------------------------------------------------------- */

static const char *refuse_networks(const char *text) {
    struct bk_network *networks;
    size_t count;
    if (bk_networks_parse(bk_slice_from(text), &networks, &count, NULL) != BK_OK)
        return "must be addresses or networks separated by commas, such as 10.0.0.0/8 or ::1";
    bk_free(networks);
    return NULL;
}

static const char *refuse_schedule(const char *text) {
    if (webhooks_schedule_parse(bk_slice_from(text), NULL, NULL) != BK_OK)
        return "must be 1 to 30 delays separated by commas, the first one 0s and none longer than "
               "30d, such as 0s,5s,30s,2m";
    return NULL;
}

/* A name as in DNS: it stands in a header of each request. */
static const char *refuse_origin(const char *text) {
    static const char problem[] = "must be a host's name, such as api.example.com";
    struct bk_slice name = bk_slice_from(text);
    if (name.length > 253)
        return problem;
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        bool is_inside = i > 0 && i + 1 < name.length;
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_letter && !(is_inside && (c == '-' || c == '.')))
            return problem;
    }
    return NULL;
}

static const struct bk_option options[] = {
    {.name = "webhooks-allow",
     .type = BK_OPTION_TEXT,
     .offset = offsetof(struct webhooks_options, allow),
     .default_value = "",
     .argument = "CIDR,…",
     .help = "Networks in which webhooks may have their endpoints, beside public ones, and there "
             "by plain http as well.",
     .refuse = refuse_networks},
    {.name = "webhooks-retry-schedule",
     .type = BK_OPTION_TEXT,
     .offset = offsetof(struct webhooks_options, retry_schedule),
     .default_value = "0s,5s,30s,2m,10m,30m,2h,5h,10h,14h,20h,24h",
     .argument = "TIME,…",
     .help = "The delay before each attempt of a delivery; as many as there are.",
     .refuse = refuse_schedule},
    {.name = "webhooks-timeout",
     .type = BK_OPTION_DURATION,
     .offset = offsetof(struct webhooks_options, timeout_ms),
     .default_value = "15s",
     .minimum = WEBHOOKS_TIMEOUT_MIN_MS,
     .maximum = WEBHOOKS_TIMEOUT_MAX_MS,
     .argument = "TIME",
     .help = "How long an endpoint may take to answer, unless the webhook says otherwise."},
    {.name = "webhooks-disable-after",
     .type = BK_OPTION_DURATION,
     .offset = offsetof(struct webhooks_options, disable_after_ms),
     .default_value = "5d",
     .minimum = 0,
     .maximum = (int64_t)365 * 24 * 60 * 60 * 1000,
     .argument = "TIME",
     .help = "A webhook that has failed for so long without a success is disabled; 0s: never."},
    {.name = "webhooks-origin",
     .type = BK_OPTION_TEXT,
     .offset = offsetof(struct webhooks_options, origin),
     .default_value = "",
     .argument = "NAME",
     .help = "The name by which endpoints are asked whether they want to be sent to; when it is "
             "empty, the host of the application's URL in the settings.",
     .refuse = refuse_origin},
};

/* --- routes ----------------------------------------------------------------------------------- */

static const struct bk_route routes[] = {
    {.method = BK_GET,
     .path = "/api/webhooks",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:read",
     .summary = "Lists webhooks, as the records of a collection: filter, sort, page, perPage.",
     .tag = "webhooks",
     .handle = webhooks_list},
    {.method = BK_POST,
     .path = "/api/webhooks",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:write",
     .body_max_bytes = WEBHOOKS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Makes a webhook, {url, types, …}; the answer has its secret, this one time.",
     .tag = "webhooks",
     .parameters = webhooks_create_members,
     .handle = webhooks_create},
    {.method = BK_GET,
     .path = "/api/webhooks/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:read",
     .summary = "Answers a webhook, without its secret.",
     .tag = "webhooks",
     .handle = webhooks_view},
    {.method = BK_PATCH,
     .path = "/api/webhooks/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:write",
     .body_max_bytes = WEBHOOKS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Changes a webhook; {\"enabled\":false} turns it off.",
     .tag = "webhooks",
     .parameters = webhooks_update_members,
     .handle = webhooks_update},
    {.method = BK_DELETE,
     .path = "/api/webhooks/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:write",
     .body_max_bytes = 4096,
     .summary = "Deletes a webhook: nothing more is sent to it, and its deliveries go.",
     .tag = "webhooks",
     .handle = webhooks_delete},
    {.method = BK_POST,
     .path = "/api/webhooks/{id}/test",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:write",
     .body_max_bytes = 4096,
     .has_json_body = true,
     .summary = "Sends a signed event webhook.test to the endpoint, now, and answers how it went.",
     .tag = "webhooks",
     .handle = webhooks_test},
    {.method = BK_POST,
     .path = "/api/webhooks/{id}/rotate",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:write",
     .body_max_bytes = WEBHOOKS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Draws another secret, {secret, graceMs, force}; the answer has it, this one time. "
                "The former "
                "one signs as well for 24 hours, or for graceMs.",
     .tag = "webhooks",
     .parameters = webhooks_rotate_members,
     .handle = webhooks_rotate},
    {.method = BK_POST,
     .path = "/api/webhooks/{id}/probe",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:write",
     .body_max_bytes = 4096,
     .summary =
         "Asks the endpoint whether it wants to be sent to, by the handshake of CloudEvents.",
     .tag = "webhooks",
     .handle = webhooks_probe},
    {.method = BK_GET,
     .path = "/api/webhooks/{id}/stats",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:read",
     .summary = "Answers how it goes with an endpoint now: breaker, backlog, latency, retries.",
     .tag = "webhooks",
     .handle = webhooks_stats},
    {.method = BK_POST,
     .path = "/api/webhooks/{id}/replay",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:write",
     .body_max_bytes = WEBHOOKS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Sends again, {after, until, types, state, missing}, as a task; dryRun counts.",
     .tag = "webhooks",
     .parameters = webhooks_replay_members,
     .handle = webhooks_replay_many},
    {.method = BK_GET,
     .path = "/api/deliveries",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:read",
     .summary = "Lists deliveries, as the records of a collection: filter, sort, page, perPage.",
     .tag = "webhooks",
     .handle = webhooks_deliveries_list},
    {.method = BK_GET,
     .path = "/api/deliveries/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:read",
     .summary = "Answers a delivery with its attempts.",
     .tag = "webhooks",
     .handle = webhooks_delivery_view},
    {.method = BK_POST,
     .path = "/api/deliveries/{id}/replay",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "webhooks:write",
     .body_max_bytes = 4096,
     .summary = "Sends one delivery again, at once; one that waits for its next attempt, too.",
     .tag = "webhooks",
     .handle = webhooks_replay_one},
};

static const struct bk_command commands[] = {
    {.name = "webhooks",
     .usage = "webhooks listen --forward URL [--types TYPE,…] [--subject SUBJECT] "
              "[--filter FILTER] [--after CURSOR] [--secret SECRET] [--format FORMAT] "
              "[--data DIR] [--tenant NAME] [--json]",
     .summary =
         "Posts what happens to a server on your own machine, while you develop.\n\n"
         "Each event is posted to --forward as a webhook would post it, signed with --secret, or\n"
         "with one that is made and shown. A local server that is away is waited for; what it\n"
         "answers is shown, and not tried again. It begins with what happens from now on, or\n"
         "behind --after: a cursor, \"start\", \"now\" or an RFC 3339 time. On Ctrl-C the cursor\n"
         "to go on from is printed on standard error. --json prints a line of JSON for each.",
     .run = webhooks_run_command},
};

/* --- life ------------------------------------------------------------------------------------- */

static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    static const uint16_t mail_ports[] = {25, 465, 587, 2525};
    struct webhooks_state *state = context->state;
    const struct webhooks_options *given = context->options;
    state->context = context;
    bk_derive_key(state->key, context->instance_key, BK_SLICE("bakend secrets of webhooks"));
    webhooks_endpoints_init(state);
    webhooks_metrics_init(state);
    enum bk_status status = bk_networks_parse(bk_slice_from(given->allow), &state->allowed,
                                              &state->allowed_count, error);
    if (status == BK_OK)
        status = webhooks_schedule_parse(bk_slice_from(given->retry_schedule), state, error);
    state->policy =
        (struct bk_outbound_policy){.name = "webhooks",
                                    .allowed = state->allowed,
                                    .allowed_count = state->allowed_count,
                                    .denied_ports = mail_ports,
                                    .denied_port_count = BK_COUNT_OF(mail_ports),
                                    .connections_max = WEBHOOKS_PLACES_MAX,
                                    .connections_per_host_max = 2 * WEBHOOKS_IN_FLIGHT_MAX};
    return status;
}

static enum bk_status on_start(struct bk_module_context *context, struct bk_error *error) {
    struct webhooks_state *state = context->state;
    (void)error;
    state->channel = bk_outbound_open(context->outbound, &state->policy);
    webhooks_endpoints_start(state);
    return BK_OK;
}

static void on_stop(struct bk_module_context *context, void (*stopped)(void *user), void *user) {
    webhooks_endpoints_stop(context->state, stopped, user);
}

static void on_fini(struct bk_module_context *context) {
    struct webhooks_state *state = context->state;
    webhooks_endpoints_fini(state);
    bk_crypto_wipe(state->key, sizeof(state->key));
    bk_free(state->allowed);
}

/* They rest, which nobody would see otherwise. */
static void tell_unreadable(const struct webhooks_tenant *own) {
    uint32_t count = 0;
    BK_LIST_FOR_EACH(node, &own->endpoints) {
        const struct webhooks_endpoint *endpoint =
            bk_container_of(node, struct webhooks_endpoint, link);
        count += endpoint->config->problem == WEBHOOKS_NO_SECRET ||
                 endpoint->config->problem == WEBHOOKS_NO_HEADERS;
    }
    if (count > 0)
        bk_log_error(&own->state->context->log, "webhooks_without_secret",
                     BK_STRING("tenant", own->tenant->name), BK_INT("count", count),
                     BK_TEXT("effect", "nothing is sent to their endpoints"),
                     BK_TEXT("remedy", "bring back the instance key that they were sealed with, or "
                                       "rotate each and say its headers again"));
}

static enum bk_status on_tenant_open(struct bk_module_context *context, struct bk_tenant *tenant,
                                     void **state, struct bk_error *error) {
    struct webhooks_tenant *own = bk_alloc_zero(sizeof(*own));
    enum bk_status status = webhooks_endpoints_open(context->state, tenant, own, error);
    if (status != BK_OK) {
        bk_free(own);
        return status;
    }
    tell_unreadable(own);
    *state = own;
    return BK_OK;
}

static void on_tenant_close(struct bk_module_context *context, struct bk_tenant *tenant,
                            void *state) {
    (void)context;
    (void)tenant;
    webhooks_endpoints_close(state);
    bk_free(state);
}

static const struct bk_event_declaration events[] = {
    {"webhook.enabled", true, "WebhookEnabled", "A webhook is on again."},
    {"webhook.disabled", true, "WebhookDisabled",
     "A webhook is off, by hand or since its endpoint is gone or has failed for days."},
    {"webhook.failing", true, "WebhookFailing", "Hardly anything gets through to an endpoint."},
    {"webhook.exhausted", true, "WebhookExhausted", "A delivery has failed for the last time."},
    {"webhook.rotated", true, "WebhookRotated", "A webhook signs with another secret."},
    {"webhook.test", false, "WebhookTest", "What a test sends to its endpoint, and nowhere else."},
    {"webhook.replayed", true, "WebhookReplayed", "A replay has come to its end."},
};

const struct bk_module bk_module_webhooks = {
    .name = "webhooks",
    .summary = "Posts events to endpoints, signed, at least once.",
    .migrations = migrations,
    .migration_count = BK_COUNT_OF(migrations),
    .collections = collections,
    .collection_count = BK_COUNT_OF(collections),
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct webhooks_options),
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .work_kinds = webhooks_work_kinds,
    .work_kind_count = WEBHOOKS_WORK_KIND_COUNT,
    .commands = commands,
    .command_count = BK_COUNT_OF(commands),
    .init = on_init,
    .start = on_start,
    .stop = on_stop,
    .fini = on_fini,
    .tenant_open = on_tenant_open,
    .tenant_close = on_tenant_close,
    .state_size = sizeof(struct webhooks_state),
};
