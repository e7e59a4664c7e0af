/* The settings of a tenant as they are declared: the contract's groups, each value with its type
 * and what it is until somebody says otherwise. */
#include "settings.h"

static const struct bk_shape_member smtp_members[] = {
    {"enabled", BK_SHAPE_BOOL, NULL, NULL},
    {"port", BK_SHAPE_INT, "587", NULL},
    {"host", BK_SHAPE_TEXT, "\"smtp.example.com\"", NULL},
    {"username", BK_SHAPE_TEXT, NULL, NULL},
    {"password", BK_SHAPE_SECRET, NULL, NULL},
    {"authMethod", BK_SHAPE_TEXT, NULL, NULL},
    {"tls", BK_SHAPE_BOOL, NULL, NULL},
    {"localName", BK_SHAPE_TEXT, NULL, NULL},
};
static const struct bk_shape smtp = {smtp_members, BK_COUNT_OF(smtp_members), NULL};

static const struct bk_shape_member s3_members[] = {
    {"enabled", BK_SHAPE_BOOL, NULL, NULL},        {"bucket", BK_SHAPE_TEXT, NULL, NULL},
    {"region", BK_SHAPE_TEXT, NULL, NULL},         {"endpoint", BK_SHAPE_TEXT, NULL, NULL},
    {"accessKey", BK_SHAPE_TEXT, NULL, NULL},      {"secret", BK_SHAPE_SECRET, NULL, NULL},
    {"forcePathStyle", BK_SHAPE_BOOL, NULL, NULL},
};
static const struct bk_shape s3 = {s3_members, BK_COUNT_OF(s3_members), NULL};

static const struct bk_shape_member backups_members[] = {
    {"cron", BK_SHAPE_TEXT, NULL, NULL},
    {"cronMaxKeep", BK_SHAPE_INT, "3", NULL},
    {"s3", BK_SHAPE_OBJECT, NULL, &s3},
};
static const struct bk_shape backups = {backups_members, BK_COUNT_OF(backups_members), NULL};

static const struct bk_shape_member meta_members[] = {
    {"accentColor", BK_SHAPE_TEXT, "\"#1055c9\"", NULL},
    {"appName", BK_SHAPE_TEXT, "\"Acme\"", NULL},
    {"appURL", BK_SHAPE_TEXT, "\"http://localhost:8090\"", NULL},
    {"senderName", BK_SHAPE_TEXT, "\"Support\"", NULL},
    {"senderAddress", BK_SHAPE_TEXT, "\"support@example.com\"", NULL},
    {"hideControls", BK_SHAPE_BOOL, NULL, NULL},
};
static const struct bk_shape meta = {meta_members, BK_COUNT_OF(meta_members), NULL};

static const struct bk_shape_member rate_rule_members[] = {
    {"label", BK_SHAPE_TEXT, NULL, NULL},
    {"audience", BK_SHAPE_TEXT, NULL, NULL},
    {"duration", BK_SHAPE_INT, NULL, NULL},
    {"maxRequests", BK_SHAPE_INT, NULL, NULL},
};
static const struct bk_shape rate_rule = {rate_rule_members, BK_COUNT_OF(rate_rule_members), NULL};

static const struct bk_shape_member rate_limits_members[] = {
    {"rules", BK_SHAPE_OBJECTS,
     "[{\"label\":\"*:auth\",\"audience\":\"\",\"duration\":3,\"maxRequests\":2},"
     "{\"label\":\"*:create\",\"audience\":\"\",\"duration\":5,\"maxRequests\":20},"
     "{\"label\":\"/api/batch\",\"audience\":\"\",\"duration\":1,\"maxRequests\":3},"
     "{\"label\":\"/api/\",\"audience\":\"\",\"duration\":10,\"maxRequests\":300}]",
     &rate_rule},
    {"excludedIPs", BK_SHAPE_TEXTS, NULL, NULL},
    {"enabled", BK_SHAPE_BOOL, NULL, NULL},
};
static const struct bk_shape rate_limits = {rate_limits_members, BK_COUNT_OF(rate_limits_members),
                                            NULL};

static const struct bk_shape_member proxy_members[] = {
    {"headers", BK_SHAPE_TEXTS, NULL, NULL},
    {"useLeftmostIP", BK_SHAPE_BOOL, NULL, NULL},
};
static const struct bk_shape proxy = {proxy_members, BK_COUNT_OF(proxy_members), NULL};

/* maxBodySize 0: BK_BATCH_BODY_MAX_BYTES. The numbers are those of bakend/settings.h. */
static const struct bk_shape_member batch_members[] = {
    {"enabled", BK_SHAPE_BOOL, NULL, NULL},
    {"maxRequests", BK_SHAPE_INT, "50", NULL},
    {"timeout", BK_SHAPE_INT, "3", NULL},
    {"maxBodySize", BK_SHAPE_INT, NULL, NULL},
};
static const struct bk_shape batch = {batch_members, BK_COUNT_OF(batch_members), NULL};

static const struct bk_shape_member logs_members[] = {
    {"maxDays", BK_SHAPE_INT, "5", NULL},
    {"minLevel", BK_SHAPE_INT, NULL, NULL},
    {"logIP", BK_SHAPE_BOOL, "true", NULL},
    {"logAuthId", BK_SHAPE_BOOL, NULL, NULL},
};
static const struct bk_shape logs = {logs_members, BK_COUNT_OF(logs_members), NULL};

static const struct bk_shape_member members[] = {
    {"superuserIPs", BK_SHAPE_TEXTS, NULL, NULL},
    {"smtp", BK_SHAPE_OBJECT, NULL, &smtp},
    {"backups", BK_SHAPE_OBJECT, NULL, &backups},
    {"s3", BK_SHAPE_OBJECT, NULL, &s3},
    {"meta", BK_SHAPE_OBJECT, NULL, &meta},
    {"rateLimits", BK_SHAPE_OBJECT, NULL, &rate_limits},
    {"trustedProxy", BK_SHAPE_OBJECT, NULL, &proxy},
    {"batch", BK_SHAPE_OBJECT, NULL, &batch},
    {"logs", BK_SHAPE_OBJECT, NULL, &logs},
};
const struct bk_shape settings_shape = {members, BK_COUNT_OF(members), NULL};
