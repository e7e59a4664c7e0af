/*
 * The table of routes (see router.h).
 *
 * A path is cut into segments and decoded before it is matched, so that "/api/h%65alth" is the same
 * as "/api/health", as in the contract, while an encoded slash stays inside its segment. An empty
 * segment ("/api/", "/api//x") matches no parameter.
 */
#include "router.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/encode.h"

struct match {
    struct bk_slice raw[API_SEGMENTS_MAX];      /* as received; the rest of the path begins here */
    struct bk_slice segments[API_SEGMENTS_MAX]; /* decoded */
    uint32_t count;
    enum bk_method method;
    struct bk_request *request;
};

void api_router_init(struct api_router *router) { memset(router, 0, sizeof(*router)); }

static void destroy_children(struct api_node *node);

static void destroy_node(struct api_node *node) {
    if (node == NULL)
        return;
    destroy_children(node);
    bk_free(node);
}

static void destroy_children(struct api_node *node) {
    for (struct api_node *child = node->literals, *next; child != NULL; child = next) {
        next = child->next;
        destroy_node(child);
    }
    destroy_node(node->parameter);
    destroy_node(node->rest);
}

void api_router_fini(struct api_router *router) {
    destroy_children(&router->root);
    bk_free(router->entries);
}

/* --- adding ----------------------------------------------------------------------------------- */

static struct api_node *literal_child(const struct api_node *node, struct bk_slice segment) {
    for (struct api_node *child = node->literals; child != NULL; child = child->next)
        if (bk_slice_equal(child->segment, segment))
            return child;
    return NULL;
}

static struct api_node *ensure_literal(struct api_node *node, struct bk_slice segment) {
    struct api_node *child = literal_child(node, segment);
    if (child != NULL)
        return child;
    child = bk_alloc_zero(sizeof(*child));
    child->segment = segment;
    child->next = node->literals;
    node->literals = child;
    return child;
}

static struct api_node *ensure_child(struct api_node *node, struct bk_slice segment) {
    struct api_node **slot;
    if (segment.length == 0 || segment.data[0] != '{')
        return ensure_literal(node, segment);
    BK_ASSERT(segment.data[segment.length - 1] == '}');
    slot = bk_slice_ends_with(segment, BK_SLICE("...}")) ? &node->rest : &node->parameter;
    if (*slot == NULL)
        *slot = bk_alloc_zero(sizeof(**slot));
    return *slot;
}

static void remember(struct api_router *router, struct api_entry entry) {
    if (router->count == router->capacity) {
        router->capacity = router->capacity == 0 ? 64 : router->capacity * 2;
        router->entries = bk_realloc(router->entries, router->capacity * sizeof(*router->entries));
    }
    router->entries[router->count++] = entry;
}

enum bk_status api_router_add(struct api_router *router, const struct bk_route *route,
                              void *module) {
    struct api_node *node = &router->root;
    struct bk_slice rest = bk_slice_from(route->path), segment;
    struct api_entry entry = {route, module};
    uint32_t depth = 0;
    BK_ASSERT(rest.length > 0 && rest.data[0] == '/' && route->handle != NULL);
    BK_ASSERT(route->method < BK_METHOD_OTHER);
    rest = bk_slice_make(rest.data + 1, rest.length - 1);
    while (bk_slice_split(&rest, '/', &segment)) {
        node = ensure_child(node, segment);
        depth++;
    }
    /* A request's path is cut at this many segments, so a route must not reach it. */
    BK_ASSERT(depth < API_SEGMENTS_MAX);
    if (node->entries[route->method].route != NULL)
        return BK_EXISTS;
    node->entries[route->method] = entry;
    remember(router, entry);
    return BK_OK;
}

/* --- finding ---------------------------------------------------------------------------------- */

static bool is_clean(struct bk_slice text) {
    return memchr(text.data, '\0', text.length) == NULL && bk_slice_is_utf8(text);
}

static bool decode(struct bk_request *request, struct bk_slice raw, struct bk_slice *out) {
    if (raw.length == 0 || memchr(raw.data, '%', raw.length) == NULL) {
        *out = raw;
        return true;
    }
    return bk_percent_decode(&request->arena, raw, false, out) && is_clean(*out);
}

static enum bk_status cut(struct match *match, struct bk_slice path) {
    struct bk_slice rest, segment;
    if (path.length == 0 || path.data[0] != '/')
        return BK_NOT_FOUND;
    rest = bk_slice_make(path.data + 1, path.length - 1);
    match->count = 0;
    while (match->count < API_SEGMENTS_MAX && bk_slice_split(&rest, '/', &segment)) {
        if (!decode(match->request, segment, &match->segments[match->count]))
            return BK_INVALID;
        match->raw[match->count++] = segment;
    }
    return BK_OK;
}

static const struct api_entry *entry_of(const struct api_node *node, enum bk_method method) {
    if (node->entries[method].route != NULL)
        return &node->entries[method];
    if (method == BK_HEAD && node->entries[BK_GET].route != NULL)
        return &node->entries[BK_GET];
    return NULL;
}

static bool push_parameter(struct match *match, uint32_t depth, struct bk_slice value) {
    BK_ASSERT(depth < BK_PATH_PARAMETERS_MAX);
    match->request->parameters[depth] = value;
    match->request->parameter_count = depth + 1;
    return true;
}

static bool take_rest(struct match *match, uint32_t index, uint32_t depth) {
    struct bk_slice path = match->request->path, value, raw;
    BK_ASSERT(index < match->count);
    raw.data = match->raw[index].data;
    raw.length = (size_t)(path.data + path.length - raw.data);
    return decode(match->request, raw, &value) && push_parameter(match, depth, value);
}

/* depth counts the parameters taken so far. */
static const struct api_entry *walk(struct match *match, const struct api_node *node,
                                    uint32_t index, uint32_t depth) {
    const struct api_entry *found;
    const struct api_node *child;
    if (index == match->count) {
        match->request->parameter_count = depth;
        return entry_of(node, match->method);
    }
    child = literal_child(node, match->segments[index]);
    if (child != NULL && (found = walk(match, child, index + 1, depth)) != NULL)
        return found;
    if (node->parameter != NULL && match->segments[index].length > 0) {
        push_parameter(match, depth, match->segments[index]);
        if ((found = walk(match, node->parameter, index + 1, depth + 1)) != NULL)
            return found;
    }
    if (node->rest == NULL || (found = entry_of(node->rest, match->method)) == NULL)
        return NULL;
    return take_rest(match, index, depth) ? found : NULL;
}

enum bk_status api_router_find(const struct api_router *router, struct bk_request *request) {
    struct match match;
    const struct api_entry *found;
    enum bk_status status;
    match.request = request;
    match.method = request->method;
    status = cut(&match, request->path);
    if (status != BK_OK)
        return status;
    if (request->method == BK_METHOD_OTHER || (found = walk(&match, &router->root, 0, 0)) == NULL) {
        request->parameter_count = 0;
        return BK_NOT_FOUND;
    }
    request->route = found->route;
    request->module = found->module;
    return BK_OK;
}

bool api_router_has_path(const struct api_router *router, struct bk_request *request) {
    const struct api_node *node = &router->root;
    struct match match = {.request = request};
    if (cut(&match, request->path) != BK_OK)
        return false;
    for (uint32_t i = 0; node != NULL && i < match.count; i++)
        node = literal_child(node, match.segments[i]);
    for (size_t method = 0; node != NULL && method < BK_COUNT_OF(node->entries); method++)
        if (node->entries[method].route != NULL)
            return true;
    return false;
}

static bool has_word(struct bk_slice words, struct bk_slice wanted) {
    struct bk_slice word;
    while (bk_slice_split(&words, ' ', &word))
        if (bk_slice_equal(word, wanted))
            return true;
    return false;
}

void api_router_write_scopes(const struct api_router *router, struct bk_buffer *out) {
    for (size_t i = 0; i < router->count; i++) {
        const char *scope = router->entries[i].route->scope;
        if (scope == NULL || has_word(bk_buffer_slice(out), bk_slice_from(scope)))
            continue;
        if (out->length > 0)
            bk_buffer_append_char(out, ' ');
        bk_buffer_append_slice(out, bk_slice_from(scope));
    }
}

struct bk_slice api_path_next_parameter(const char *path, size_t *offset) {
    const char *open = strchr(path + *offset, '{');
    const char *close = open == NULL ? NULL : strchr(open, '}');
    struct bk_slice name;
    if (close == NULL)
        return BK_SLICE_EMPTY;
    *offset = (size_t)(close - path) + 1;
    name = bk_slice_make(open + 1, (size_t)(close - open) - 1);
    if (bk_slice_ends_with(name, BK_SLICE("...")))
        name.length -= 3;
    return name;
}
