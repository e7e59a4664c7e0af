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
#include "webhooks.h"

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
                                                     "\"CREATE INDEX `idx__deliveries_open` ON "
                                                     "`_deliveries` (`state`, `id`) "
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
            "failingSince INTEGER NOT NULL DEFAULT 0, warned INTEGER NOT NULL DEFAULT 0) "
            "WITHOUT ROWID"},
};

const struct bk_module bk_module_webhooks = {
    .name = "webhooks",
    .summary = "Posts events to endpoints, signed, at least once.",
    .migrations = migrations,
    .migration_count = BK_COUNT_OF(migrations),
    .collections = collections,
    .collection_count = BK_COUNT_OF(collections),
    .state_size = sizeof(struct webhooks_state),
};
