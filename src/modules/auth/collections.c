/*
 * The collections of this module, in the contract's form: who may sign in (superusers, and `users`,
 * which is the application's own from the start and may be changed and deleted like any other), and
 * what belongs to somebody's signing in: accounts elsewhere, second factors, one-time passwords,
 * known devices. The rows of the last four belong to a record by collectionRef and recordRef.
 */
#include "auth.h"

#define ID_FIELD                                                                                   \
    "{\"name\":\"id\",\"type\":\"text\",\"system\":true,\"primaryKey\":true,\"required\":true,"    \
    "\"min\":15,\"max\":15,\"pattern\":\"^[a-z0-9]+$\","                                           \
    "\"autogeneratePattern\":\"[a-z0-9]{15}\"},"
#define TEXT_FIELD(name)                                                                           \
    "{\"name\":\"" name "\",\"type\":\"text\",\"system\":true,\"required\":true},"
#define DATE_FIELDS(is_system)                                                                     \
    "{\"name\":\"created\",\"type\":\"autodate\",\"system\":" is_system ",\"onCreate\":true},"     \
    "{\"name\":\"updated\",\"type\":\"autodate\",\"system\":" is_system ",\"onCreate\":true,"      \
    "\"onUpdate\":true}"
#define AVATAR_FIELD                                                                               \
    "{\"name\":\"avatar\",\"type\":\"file\",\"maxSelect\":1,\"mimeTypes\":[\"image/jpeg\","        \
    "\"image/png\",\"image/svg+xml\",\"image/gif\",\"image/webp\"]},"
#define AUTH_FIELDS                                                                                \
    ID_FIELD                                                                                       \
    "{\"name\":\"password\",\"type\":\"password\",\"system\":true,\"hidden\":true,"                \
    "\"required\":true,\"min\":8},"                                                                \
    "{\"name\":\"tokenKey\",\"type\":\"text\",\"system\":true,\"hidden\":true,"                    \
    "\"required\":true,\"min\":30,\"max\":60,\"autogeneratePattern\":\"[a-zA-Z0-9]{50}\"},"        \
    "{\"name\":\"email\",\"type\":\"email\",\"system\":true,\"required\":true},"                   \
    "{\"name\":\"emailVisibility\",\"type\":\"bool\",\"system\":true},"                            \
    "{\"name\":\"verified\",\"type\":\"bool\",\"system\":true},"
#define AUTH_INDEXES(id, table)                                                                    \
    "\"indexes\":[\"CREATE UNIQUE INDEX `idx_tokenKey_" id "` ON `" table "` (`tokenKey`)\","      \
    "\"CREATE UNIQUE INDEX `idx_email_" id "` ON `" table "` (`email`) WHERE `email` != ''\"]"

#define OWN_RULE                                                                                   \
    "\"@request.auth.id != '' && recordRef = @request.auth.id && "                                 \
    "collectionRef = @request.auth.collectionId\""
/* One that belongs to the records of auth collections. */
#define BELONGING(id, name, delete_rule, own_fields, indexes)                                      \
    "{\"id\":\"" id "\",\"name\":\"" name "\",\"type\":\"base\",\"system\":true,"                  \
    "\"listRule\":" OWN_RULE ",\"viewRule\":" OWN_RULE ",\"deleteRule\":" delete_rule ","          \
    "\"fields\":[" ID_FIELD TEXT_FIELD("collectionRef") TEXT_FIELD("recordRef")                    \
        own_fields DATE_FIELDS("true") "],\"indexes\":[" indexes "]}"

const struct bk_system_collection auth_collections[AUTH_COLLECTION_COUNT] = {
    {.definition = BELONGING("pbc_2279338944", "_mfas", "null", TEXT_FIELD("method"),
                             "\"CREATE INDEX `idx_mfas_collectionRef_recordRef` ON `_mfas` "
                             "(collectionRef,recordRef)\""),
     .role = BK_ROLE_STATE,
     .is_in_contract = true},
    {.definition =
         BELONGING("pbc_1638494021", "_otps", "null",
                   "{\"name\":\"password\",\"type\":\"password\",\"system\":true,\"hidden\":true,"
                   "\"required\":true,\"cost\":8},"
                   "{\"name\":\"sentTo\",\"type\":\"text\",\"system\":true,\"hidden\":true},",
                   "\"CREATE INDEX `idx_otps_collectionRef_recordRef` ON `_otps` "
                   "(collectionRef, recordRef)\""),
     .role = BK_ROLE_STATE,
     .is_in_contract = true},
    {.definition = BELONGING(
         "pbc_2281828961", "_externalAuths", OWN_RULE,
         TEXT_FIELD("provider") TEXT_FIELD("providerId"),
         "\"CREATE UNIQUE INDEX `idx_externalAuths_record_provider` ON `_externalAuths` "
         "(collectionRef, recordRef, provider)\","
         "\"CREATE UNIQUE INDEX `idx_externalAuths_collection_provider` ON `_externalAuths` "
         "(collectionRef, provider, providerId)\""),
     .role = BK_ROLE_CONFIGURATION,
     .is_in_contract = true},
    {.definition =
         BELONGING("pbc_4275539003", "_authOrigins", OWN_RULE, TEXT_FIELD("fingerprint"),
                   "\"CREATE UNIQUE INDEX `idx_authOrigins_unique_pairs` ON `_authOrigins` "
                   "(collectionRef, recordRef, fingerprint)\""),
     .role = BK_ROLE_CONFIGURATION,
     .is_in_contract = true},
    {.definition =
         "{\"name\":\"_sessions\",\"type\":\"base\",\"system\":true,"
         "\"listRule\":" OWN_RULE ",\"viewRule\":" OWN_RULE
         ",\"fields\":[" ID_FIELD TEXT_FIELD("collectionRef") TEXT_FIELD(
             "recordRef") "{\"name\":\"method\",\"type\":\"text\"},"
                          "{\"name\":\"remoteAddress\",\"type\":\"text\"},"
                          "{\"name\":\"userAgent\",\"type\":\"text\"},"
                          "{\"name\":\"impersonator\",\"type\":\"text\"},"
                          "{\"name\":\"created\",\"type\":\"autodate\",\"onCreate\":true},"
                          "{\"name\":\"lastUsed\",\"type\":\"date\"},{\"name\":\"expires\","
                          "\"type\":\"date\"}],"
                          "\"indexes\":[\"CREATE INDEX `idx__sessions_owner` ON `_sessions` "
                          "(`collectionRef`, `recordRef`)\","
                          "\"CREATE INDEX `idx__sessions_expires` ON `_sessions` (`expires`)\"]}",
     .role = BK_ROLE_STATE,
     .is_closed = true,
     .alias = "sessions"},
    {.definition =
         /* Of type password is what no answer and no event is ever to hold. */
     "{\"name\":\"_totps\",\"type\":\"base\",\"system\":true,\"fields\":[" ID_FIELD TEXT_FIELD(
         "collectionRef")
         TEXT_FIELD("recordRef") "{\"name\":\"secret\",\"type\":\"password\",\"hidden\":true},"
                                 "{\"name\":\"recovery\",\"type\":\"password\",\"hidden\":true},"
                                 "{\"name\":\"enabled\",\"type\":\"bool\"},"
                                 "{\"name\":\"lastStep\",\"type\":\"number\"},"
                                 "{\"name\":\"failures\",\"type\":\"number\"},"
                                 "{\"name\":\"lockedUntil\",\"type\":\"number\"}," DATE_FIELDS(
                                     "true") "],\"indexes\":[\"CREATE UNIQUE INDEX "
                                             "`idx__totps_owner` ON `_totps` "
                                             "(`collectionRef`, `recordRef`)\"]}",
     .role = BK_ROLE_STATE,
     .is_closed = true},
    {.definition =
         "{\"id\":\"pbc_3142635823\",\"name\":\"_superusers\",\"type\":\"auth\",\"system\":true,"
         "\"authToken\":{\"duration\":86400},"
         "\"fields\":[" AUTH_FIELDS DATE_FIELDS("true") "]," AUTH_INDEXES("pbc_3142635823",
                                                                          "_superusers") "}",
     .role = BK_ROLE_CONFIGURATION,
     .is_in_contract = true,
     .keeps_last = "You can't delete the only existing superuser."},
    {.definition =
         "{\"name\":\"_apiKeys\",\"type\":\"base\",\"system\":true,\"fields\":[" ID_FIELD
         "{\"name\":\"name\",\"type\":\"text\",\"required\":true,\"presentable\":true,\"max\":100},"
         "{\"name\":\"scopes\",\"type\":\"json\",\"required\":true},"
         "{\"name\":\"expires\",\"type\":\"date\"},"
         "{\"name\":\"lastUsed\",\"type\":\"date\"},"
         "{\"name\":\"createdBy\",\"type\":\"text\"},"
         "{\"name\":\"prefix\",\"type\":\"text\"}," DATE_FIELDS(
             "true") "],\"indexes\":[\"CREATE UNIQUE INDEX `idx__apiKeys_name` ON `_apiKeys` "
                     "(`name`)\"]}",
     .role = BK_ROLE_CONFIGURATION,
     .is_closed = true,
     .alias = "api-keys"},
    {.definition = "{\"id\":\"_pb_users_auth_\",\"name\":\"users\",\"type\":\"auth\","
                   "\"listRule\":\"id = @request.auth.id\",\"viewRule\":\"id = @request.auth.id\","
                   "\"createRule\":\"\",\"updateRule\":\"id = @request.auth.id\","
                   "\"deleteRule\":\"id = @request.auth.id\","
                   "\"oauth2\":{\"mappedFields\":{\"name\":\"name\",\"avatarURL\":\"avatar\"}},"
                   "\"fields\":[" AUTH_FIELDS
                   "{\"name\":\"name\",\"type\":\"text\",\"max\":255}," AVATAR_FIELD DATE_FIELDS(
                       "false") "]," AUTH_INDEXES("_pb_users_auth_", "users") "}",
     .is_seed = true},
};
