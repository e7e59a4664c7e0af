/*
 * A request: setting it up, reading it, tearing it down.
 *
 * Transports keep their requests in free lists, so a reset empties and keeps the memory that an
 * ordinary request needs, and gives back what an unusual one took. Query parameters are looked up
 * in the text as it came: a request asks for few of them, and most requests for none.
 */
#include "api_private.h"

#include "bakend/encode.h"

/* What a reset keeps of a buffer. */
enum { KEPT_OUT_BYTES = 64 * 1024, KEPT_HEAD_BYTES = 4 * 1024 };

static const struct {
    const char *name;
    enum bk_method method;
} methods[] = {
    {"GET", BK_GET},     {"HEAD", BK_HEAD},     {"POST", BK_POST},       {"PUT", BK_PUT},
    {"PATCH", BK_PATCH}, {"DELETE", BK_DELETE}, {"OPTIONS", BK_OPTIONS},
};

const char *bk_method_name(enum bk_method method) {
    return (size_t)method < BK_COUNT_OF(methods) ? methods[method].name : "OTHER";
}

enum bk_method bk_method_parse(struct bk_slice name) {
    for (size_t i = 0; i < BK_COUNT_OF(methods); i++)
        if (bk_slice_equal(name, bk_slice_from(methods[i].name)))
            return methods[i].method;
    return BK_METHOD_OTHER;
}

/* --- life ------------------------------------------------------------------------------------- */

static void set_fresh(struct bk_request *request) {
    request->target = request->path = request->query = BK_SLICE_EMPTY;
    request->headers = NULL;
    request->header_count = 0;
    request->body = request->remote_address = request->host = BK_SLICE_EMPTY;
    request->is_control = request->is_aborted = false;
    request->started_ns = 0;
    request->route = NULL;
    request->module = NULL;
    request->parameter_count = 0;
    request->tenant = request->actor_tenant = NULL;
    request->actor = bk_actor_guest;
    memset(&request->origin, 0, sizeof(request->origin));
    request->json = NULL;
    request->files = NULL;
    request->state = NULL;
    request->on_abort = request->on_drain = NULL;
    request->may_half_close = false;
    bk_problems_init(&request->problems, &request->arena);
    request->status = 0;
    request->content_type = "application/json";
    request->is_compressed = request->is_answered = request->is_frameable = false;
    request->retry_after_s = 0;
    request->step = API_STEP_FRESH;
}

/* "1f9ac03e.00000a7": which run of the program, and which of its requests. */
void api_request_make_id(struct bk_request *request) {
    static const char digits[] = "0123456789abcdef";
    struct bk_api *api = request->api;
    uint64_t number = ++api->request_count;
    memcpy(request->id, api->run_id, API_RUN_ID_BYTES);
    request->id[API_RUN_ID_BYTES] = '.';
    for (size_t i = BK_REQUEST_ID_BYTES; i > API_RUN_ID_BYTES + 1; i--, number >>= 4)
        request->id[i - 1] = digits[number & 15];
}

void bk_request_init(struct bk_request *request, struct bk_api *api) {
    memset(request, 0, sizeof(*request));
    request->api = api;
    bk_arena_init(&request->arena, api->options.request_arena_bytes);
    bk_arena_count_in(&request->arena, &api->figures.memory_bytes);
    bk_buffer_init(&request->out, api->options.answer_max_bytes);
    bk_buffer_init(&request->head, API_HEAD_BYTES_MAX);
    set_fresh(request);
    api_request_make_id(request);
}

static void release_tenants(struct bk_request *request) {
    if (request->actor_tenant != NULL)
        bk_tenant_release(request->actor_tenant);
    if (request->tenant != NULL)
        bk_tenant_release(request->tenant);
    request->actor_tenant = request->tenant = NULL;
}

static void empty(struct bk_buffer *buffer, size_t kept_bytes) {
    size_t max_bytes = buffer->max_bytes;
    if (buffer->capacity <= kept_bytes) {
        bk_buffer_clear(buffer);
        return;
    }
    bk_buffer_fini(buffer);
    bk_buffer_init(buffer, max_bytes);
}

void bk_request_reset(struct bk_request *request) {
    release_tenants(request);
    bk_arena_reset(&request->arena);
    empty(&request->out, KEPT_OUT_BYTES);
    empty(&request->head, KEPT_HEAD_BYTES);
    set_fresh(request);
    api_request_make_id(request);
}

void bk_request_fini(struct bk_request *request) {
    release_tenants(request);
    bk_arena_fini(&request->arena);
    bk_buffer_fini(&request->out);
    bk_buffer_fini(&request->head);
}

void api_request_split_target(struct bk_request *request) {
    size_t at = bk_slice_find(request->target, '?');
    request->path = bk_slice_make(request->target.data, at);
    request->query = at == request->target.length ? BK_SLICE_EMPTY
                                                  : bk_slice_make(request->target.data + at + 1,
                                                                  request->target.length - at - 1);
}

/* --- reading ---------------------------------------------------------------------------------- */

struct bk_slice bk_request_header(const struct bk_request *request, struct bk_slice name) {
    for (uint32_t i = 0; i < request->header_count; i++)
        if (bk_slice_equal(request->headers[i].name, name))
            return request->headers[i].value;
    return BK_SLICE_EMPTY;
}

static bool needs_decoding(struct bk_slice text) {
    return text.length > 0 && (memchr(text.data, '%', text.length) != NULL ||
                               memchr(text.data, '+', text.length) != NULL);
}

static bool is_name(struct bk_request *request, struct bk_slice raw, struct bk_slice name) {
    struct bk_slice decoded;
    if (bk_slice_equal(raw, name))
        return true;
    return needs_decoding(raw) && bk_percent_decode(&request->arena, raw, true, &decoded) &&
           bk_slice_equal(decoded, name);
}

struct bk_slice bk_request_query(struct bk_request *request, struct bk_slice name) {
    struct bk_slice rest = request->query, pair, value;
    while (rest.length > 0 && bk_slice_split(&rest, '&', &pair)) {
        size_t at = bk_slice_find(pair, '=');
        if (!is_name(request, bk_slice_make(pair.data, at), name))
            continue;
        if (at == pair.length)
            return BK_SLICE("");
        value = bk_slice_make(pair.data + at + 1, pair.length - at - 1);
        if (needs_decoding(value) && !bk_percent_decode(&request->arena, value, true, &value))
            continue;
        return value;
    }
    return BK_SLICE_EMPTY;
}

int64_t bk_request_query_int(struct bk_request *request, struct bk_slice name, int64_t minimum,
                             int64_t maximum, int64_t fallback) {
    struct bk_slice text = bk_request_query(request, name), message;
    int64_t value;
    if (text.length == 0)
        return fallback;
    if (bk_slice_to_int64(text, &value) && value >= minimum && value <= maximum)
        return value;
    message = bk_arena_format(&request->arena, "Must be a whole number from %lld to %lld.",
                              (long long)minimum, (long long)maximum);
    bk_problems_add(&request->problems, name, "validation_out_of_range", message.data);
    return fallback;
}

bool bk_request_query_bool(struct bk_request *request, struct bk_slice name) {
    struct bk_slice text = bk_request_query(request, name);
    return bk_slice_is(text, "1") || bk_slice_is(text, "t") ||
           bk_slice_equal_ignore_case(text, BK_SLICE("true"));
}

struct bk_slice bk_request_parameter(const struct bk_request *request, struct bk_slice name) {
    size_t offset = 0;
    struct bk_slice found;
    BK_ASSERT(request->route != NULL);
    for (uint32_t i = 0; i < request->parameter_count; i++) {
        found = api_path_next_parameter(request->route->path, &offset);
        if (bk_slice_equal(found, name))
            return request->parameters[i];
    }
    BK_UNREACHABLE();
}
