/*
 * The change feed as a product: everything durable that happened in a tenant, in order, to be read
 * from any place and without a hole.
 *
 *   query.c   what a request asks for
 *   events.c  the pages and the single event
 *
 * All reading is the kernel's feed; this module is its surface over HTTP. It declares the bus's own
 * event too, since the bus, being kernel, has no module of its own.
 */
#include "changefeed_private.h"

extern const struct bk_module bk_module_changefeed;

static const struct bk_route_parameter list_parameters[] = {
    {"after", "query", "string=start",
     "Where to begin: a cursor, \"start\", \"now\" or an RFC 3339 time; the page begins behind "
     "it, with desc before it. start when absent, with desc now."},
    {"types", "query", "string=*",
     "Event types, separated by commas: posts.created, users.*, *.deleted, _*. * when absent: all "
     "but those that begin with _; types=*,_* is everything."},
    {"subject", "query", "string", "Only events about this one: posts/abc."},
    {"limit", "query", "integer=100", "Events on a page, 1 to 1000; 100 when absent."},
    {"order", "query", "string=asc", "asc (oldest first, the default) or desc."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route routes[] = {
    {
        .method = BK_GET,
        .path = "/api/events",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .summary = "Reads a page of the change feed.",
        .tag = "events",
        .parameters = list_parameters,
        .handle = changefeed_list,
    },
    {
        .method = BK_GET,
        .path = "/api/events/{id}",
        .access = BK_ACCESS_SUPERUSER,
        .scope = "events:read",
        .summary = "Reads one event.",
        .tag = "events",
        .handle = changefeed_view,
    },
};

static const struct bk_event_declaration events[] = {
    {"bus.chain_cut", true, "BusChainCut",
     "A chain of events that caused each other became too long: functions and plugins did not get "
     "this one."},
};

const struct bk_module bk_module_changefeed = {
    .name = "changefeed",
    .summary = "Reads what happened, in order and without a hole.",
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
};
