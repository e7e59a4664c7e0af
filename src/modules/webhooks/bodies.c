/*
 * What the bodies of requests may hold, for the OpenAPI document. What is right in them, and what
 * is answered when it is not, is fields.c, verbs.c and replay_routes.c.
 */
#include "routes.h"

#define FIELDS(is_required)                                                                        \
    {"url", is_required, "string", "Where events are posted to."},                                 \
        {"types", is_required, "array", "Types of events, such as posts.*."},                      \
        {"subject", "body", "string", "Only those about it: posts/abc."},                          \
        {"filter", "body", "string", "Only those for which it holds."},                            \
        {"description", "body", "string", "For people."},                                          \
        {"enabled", "body", "boolean", "Whether it is on."},                                       \
        {"format", "body", "string", "standard, cloudevents or cloudevents-binary."},              \
        {"headers", "body", "object", "Further ones, by name; ******** keeps a value."},           \
        {"rateLimit", "body", "integer", "Deliveries a minute; 0: as fast as they come."},         \
        {"maxInFlight", "body", "integer", "Requests at once, 1 to 64; 0: 8."},                    \
        {"ordered", "body", "boolean", "Of one subject, one after the other."},                    \
        {"timeoutMs", "body", "integer", "For an answer; 0: that of the server."}, {               \
        "ed25519", "body", "boolean", "Signs with a key of its own, too."                          \
    }
#define SECRET                                                                                     \
    { "secret", "body", "string", "whsec_ and 24 to 64 bytes in base64; else a random one." }
#define END                                                                                        \
    { NULL, NULL, NULL, NULL }

const struct bk_route_parameter webhooks_create_members[] = {FIELDS("body!"), SECRET, END};
const struct bk_route_parameter webhooks_update_members[] = {FIELDS("body"), END};
const struct bk_route_parameter webhooks_rotate_members[] = {
    SECRET,
    {"graceMs", "body", "integer=86400000", "For how long the former secret signs as well."},
    {"force", "body", "boolean=false", "Though a secret of before that one still signs."},
    END,
};
const struct bk_route_parameter webhooks_replay_members[] = {
    {"after", "body", "string", "From where: a cursor, start or an RFC 3339 time."},
    {"until", "body", "string", "Up to where; else all there is."},
    {"types", "body", "array", "Of those that the webhook asks for."},
    {"state", "body", "string", "failed or delivered: those whose delivery is."},
    {"missing", "body", "boolean=false", "Those that have no delivery."},
    {"dryRun", "body", "boolean=false", "Counts and sends nothing."},
    END,
};
