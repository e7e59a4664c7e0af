/*
 * The target of a request: its path through the router, its query through the look-ups.
 *
 * The input's first byte picks the method, its lines are the path, the query and names that are
 * looked up. Whatever they are: the route is the one that trying all of them one by one finds; its
 * parameters are the parts of the path, decoded; a query parameter is what a decoder of its own
 * finds; and what is encoded is decoded to itself.
 */
#include "fuzz.h"

#include "bakend/api.h"
#include "bakend/encode.h"
#include "kernel/api/router.h"

enum { ARENA_BYTES_MAX = 1024 * 1024, PARTS_MAX = API_SEGMENTS_MAX };

static void handle(struct bk_request *request) { (void)request; }

#define ROUTE(verb, text)                                                                          \
    { .method = (verb), .path = (text), .handle = handle }
static const struct bk_route routes[] = {
    ROUTE(BK_GET, "/"),
    ROUTE(BK_GET, "/api/health"),
    ROUTE(BK_HEAD, "/api/health"),
    ROUTE(BK_GET, "/api/collections"),
    ROUTE(BK_POST, "/api/collections"),
    ROUTE(BK_GET, "/api/collections/{collection}"),
    ROUTE(BK_DELETE, "/api/collections/{collection}"),
    ROUTE(BK_GET, "/api/collections/{collection}/records"),
    ROUTE(BK_POST, "/api/collections/{collection}/records"),
    ROUTE(BK_GET, "/api/collections/{collection}/records/{id}"),
    ROUTE(BK_PATCH, "/api/collections/{collection}/records/{id}"),
    ROUTE(BK_GET, "/api/collections/meta/{scope...}"),
    ROUTE(BK_PUT, "/api/collections/import"),
    ROUTE(BK_GET, "/api/files/{collection}/{id}/{name}"),
    ROUTE(BK_GET, "/api/{module}/status"),
    ROUTE(BK_POST, "/api/{rest...}"),
    ROUTE(BK_GET, "/{path...}"),
};

/* --- decoding, a second time ------------------------------------------------------------------ */

static int digit(char c) {
    const char *digits = "0123456789abcdef", *found;
    if (c >= 'A' && c <= 'F')
        c = (char)(c - 'A' + 'a');
    found = c == '\0' ? NULL : strchr(digits, c);
    return found == NULL ? -1 : (int)(found - digits);
}

/* Into the arena; false for a broken escape. */
static bool decode(struct bk_arena *arena, struct bk_slice text, bool is_form,
                   struct bk_slice *out) {
    char *decoded = bk_arena_alloc(arena, text.length + 1);
    size_t length = 0;
    for (size_t i = 0; i < text.length; i++) {
        decoded[length] = text.data[i];
        if (is_form && text.data[i] == '+')
            decoded[length] = ' ';
        if (text.data[i] == '%') {
            if (i + 2 >= text.length || digit(text.data[i + 1]) < 0 || digit(text.data[i + 2]) < 0)
                return false;
            decoded[length] = (char)(digit(text.data[i + 1]) * 16 + digit(text.data[i + 2]));
            i += 2;
        }
        length++;
    }
    *out = bk_slice_make(decoded, length);
    return true;
}

static bool has_escape(struct bk_slice text) { return bk_slice_find(text, '%') < text.length; }

static bool decode_part(struct bk_arena *arena, struct bk_slice part, struct bk_slice *out) {
    return decode(arena, part, false, out) &&
           (!has_escape(part) ||
            (bk_slice_find(*out, '\0') == out->length && bk_slice_is_utf8(*out)));
}

/* --- routing, by trying each ------------------------------------------------------------------ */

struct parts {
    struct bk_slice raw[PARTS_MAX], decoded[PARTS_MAX];
    size_t count;
    const char *end;
};

enum { LITERAL, PARAMETER, REST, NO_MATCH };

/* What kind of match each part is, most particular first; the first difference of two routes
 * decides. */
struct fit {
    uint8_t kinds[PARTS_MAX + 1];
    struct bk_slice parameters[BK_PATH_PARAMETERS_MAX];
    uint32_t parameter_count;
};

static bool cut(struct bk_arena *arena, struct bk_slice path, struct parts *parts) {
    struct bk_slice rest = bk_slice_make(path.data + 1, path.length - 1), part;
    parts->count = 0;
    parts->end = path.data + path.length;
    while (parts->count < PARTS_MAX && bk_slice_split(&rest, '/', &part)) {
        if (!decode_part(arena, part, &parts->decoded[parts->count]))
            return false;
        parts->raw[parts->count++] = part;
    }
    return true;
}

static int kind_of(struct bk_slice wanted) {
    if (wanted.length == 0 || wanted.data[0] != '{')
        return LITERAL;
    return bk_slice_ends_with(wanted, BK_SLICE("...}")) ? REST : PARAMETER;
}

static bool fits(struct bk_arena *arena, const char *path, const struct parts *parts,
                 struct fit *fit) {
    struct bk_slice rest = bk_slice_from(path + 1), wanted;
    size_t i = 0;
    fit->parameter_count = 0;
    for (; bk_slice_split(&rest, '/', &wanted); i++) {
        int kind = kind_of(wanted);
        if (i == parts->count)
            return false;
        fit->kinds[i] = (uint8_t)kind;
        if (kind == REST)
            return decode_part(
                arena, bk_slice_make(parts->raw[i].data, (size_t)(parts->end - parts->raw[i].data)),
                &fit->parameters[fit->parameter_count++]);
        if (kind == LITERAL ? !bk_slice_equal(wanted, parts->decoded[i])
                            : parts->decoded[i].length == 0)
            return false;
        if (kind == PARAMETER)
            fit->parameters[fit->parameter_count++] = parts->decoded[i];
    }
    fit->kinds[i] = LITERAL;
    return i == parts->count;
}

/* Whether the route serves the method, and how well. */
static int method_rank(const struct bk_route *route, enum bk_method method) {
    return route->method == method ? 0 : method == BK_HEAD && route->method == BK_GET ? 1 : 2;
}

static const struct bk_route *find_by_hand(struct bk_arena *arena, enum bk_method method,
                                           const struct parts *parts, struct fit *best) {
    const struct bk_route *found = NULL;
    for (size_t i = 0; i < BK_COUNT_OF(routes); i++) {
        struct fit fit;
        int rank = method_rank(&routes[i], method);
        memset(&fit, NO_MATCH, sizeof(fit));
        if (rank == 2 || !fits(arena, routes[i].path, parts, &fit))
            continue;
        int order = found == NULL ? -1 : memcmp(fit.kinds, best->kinds, sizeof(fit.kinds));
        if (order > 0 || (order == 0 && rank > method_rank(found, method)))
            continue;
        found = &routes[i];
        *best = fit;
    }
    return found;
}

static void check_route(const struct api_router *router, struct bk_request *request) {
    struct parts parts;
    struct fit fit;
    enum bk_status status = api_router_find(router, request);
    if (request->path.length == 0 || request->path.data[0] != '/') {
        BK_ASSERT(status == BK_NOT_FOUND);
        return;
    }
    if (!cut(&request->arena, request->path, &parts)) {
        BK_ASSERT(status == BK_INVALID);
        return;
    }
    const struct bk_route *expected = find_by_hand(&request->arena, request->method, &parts, &fit);
    BK_ASSERT((status == BK_OK) == (expected != NULL));
    if (expected == NULL)
        return;
    BK_ASSERT(request->route == expected && request->parameter_count == fit.parameter_count);
    for (uint32_t i = 0; i < fit.parameter_count; i++)
        BK_ASSERT(bk_slice_equal(request->parameters[i], fit.parameters[i]));
}

/* --- the query -------------------------------------------------------------------------------- */

static struct bk_slice find_parameter(struct bk_request *request, struct bk_slice name) {
    struct bk_slice rest = request->query, pair, key, value;
    while (rest.length > 0 && bk_slice_split(&rest, '&', &pair)) {
        size_t at = bk_slice_find(pair, '=');
        bool has_value = at < pair.length;
        key = bk_slice_make(pair.data, at);
        if (!bk_slice_equal(key, name) &&
            !(decode(&request->arena, key, true, &key) && bk_slice_equal(key, name)))
            continue;
        if (!has_value)
            return BK_SLICE("");
        if (decode(&request->arena, bk_slice_make(pair.data + at + 1, pair.length - at - 1), true,
                   &value))
            return value;
    }
    return BK_SLICE_EMPTY;
}

static void check_query(struct bk_request *request, struct bk_slice name) {
    struct bk_slice found = bk_request_query(request, name);
    struct bk_slice expected = find_parameter(request, name);
    BK_ASSERT(bk_slice_equal(found, expected));
    int64_t number = bk_request_query_int(request, name, -5, 500, 30);
    BK_ASSERT(number >= -5 && number <= 500);
    (void)bk_request_query_bool(request, name);
}

static void check_encoding(struct bk_arena *arena, struct bk_slice text) {
    struct bk_buffer encoded;
    struct bk_slice decoded;
    bk_buffer_init(&encoded, ARENA_BYTES_MAX);
    bk_percent_encode(&encoded, text);
    for (size_t i = 0; i < encoded.length; i++)
        BK_ASSERT(encoded.data[i] > 0x20 && encoded.data[i] < 0x7f);
    for (int is_form = 0; is_form < 2; is_form++) {
        BK_ASSERT(bk_percent_decode(arena, bk_buffer_slice(&encoded), is_form == 1, &decoded));
        BK_ASSERT(bk_slice_equal(decoded, text));
    }
    bk_buffer_fini(&encoded);
}

/* --- all of it -------------------------------------------------------------------------------- */

static struct api_router router;

static const struct api_router *the_router(void) {
    if (router.count == 0) {
        api_router_init(&router);
        for (size_t i = 0; i < BK_COUNT_OF(routes); i++)
            BK_ASSERT(api_router_add(&router, &routes[i], NULL) == BK_OK);
    }
    return &router;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct bk_request request;
    struct bk_slice copy, rest;
    if (size == 0)
        return 0;
    copy = rest = fuzz_copy(data + 1, size - 1);
    memset(&request, 0, sizeof(request));
    bk_arena_init(&request.arena, ARENA_BYTES_MAX);
    bk_problems_init(&request.problems, &request.arena);
    request.method = (enum bk_method)(data[0] % (BK_METHOD_OTHER + 1));
    request.path = fuzz_take(&rest, '\n');
    request.query = fuzz_take(&rest, '\n');
    if (request.method != BK_METHOD_OTHER)
        check_route(the_router(), &request);
    while (rest.length > 0)
        check_query(&request, fuzz_take(&rest, '\n'));
    check_encoding(&request.arena, copy);
    bk_arena_fini(&request.arena);
    fuzz_free(copy);
    return 0;
}
