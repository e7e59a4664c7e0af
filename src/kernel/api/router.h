/*
 * The table of routes: a trie over the segments of a path.
 *
 * "/api/collections/{collection}/records" is four segments below the root. Of the children of a
 * node a literal one is tried first, then "{name}", then "{name...}"; a choice that leads nowhere,
 * or to no route of the wanted method, is taken back. So the most particular route wins, per
 * method, whatever the order of registration.
 */
#ifndef BAKEND_API_ROUTER_H
#define BAKEND_API_ROUTER_H

#include "bakend/api.h"

enum { API_SEGMENTS_MAX = 24 };

struct api_entry {
    const struct bk_route *route;
    void *module;
};

struct api_node {
    struct bk_slice segment;   /* of a literal child */
    struct api_node *literals; /* first literal child */
    struct api_node *next;     /* next literal sibling */
    struct api_node *parameter;
    struct api_node *rest;
    struct api_entry entries[BK_METHOD_OTHER]; /* by method; no route: NULL */
};

struct api_router {
    struct api_node root;
    struct api_entry *entries; /* all, in the order added, for the OpenAPI document */
    size_t count, capacity;
};

void api_router_init(struct api_router *router);
void api_router_fini(struct api_router *router);
/* BK_EXISTS when a route of the same method and shape is there. A path that is no path is
 * asserted. */
enum bk_status api_router_add(struct api_router *router, const struct bk_route *route,
                              void *module);
/* Fills in request->route, module and parameters. BK_NOT_FOUND; BK_INVALID for a path that does not
 * decode to UTF-8 without NUL. */
enum bk_status api_router_find(const struct api_router *router, struct bk_request *request);

/* Whether a route of some method has this very path, without parameters. */
bool api_router_has_path(const struct api_router *router, struct bk_request *request);

/* See bk_api_write_scopes. */
void api_router_write_scopes(const struct api_router *router, struct bk_buffer *out);

/* Walks the parameters of a route's path: the name of the next one at or after *offset, or an empty
 * slice; *offset moves behind it. "{path...}" gives "path". */
struct bk_slice api_path_next_parameter(const char *path, size_t *offset);

#endif
