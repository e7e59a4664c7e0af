/*
 * Health: whether the server answers (the contract's /api/health), and what it answers to
 * (/api/openapi.json, written from the routes themselves).
 *
 * A superuser sees more: whether a backup may be made now, the address that the server takes for
 * the client's, and a header that betrays a proxy, so that the dashboard can say that the proxy is
 * not trusted yet.
 */
#include "bakend/module.h"

extern const struct bk_module bk_module_health;

/* The header that some proxy added, or "". */
static const char *proxy_header(const struct bk_request *request) {
    static const struct {
        const char *shown, *name;
    } headers[] = {
        {"CF-Connecting-IP", "cf-connecting-ip"},
        {"Fly-Client-IP", "fly-client-ip"},
        {"X-Forwarded-For", "x-forwarded-for"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(headers); i++)
        if (bk_request_header(request, bk_slice_from(headers[i].name)).length > 0)
            return headers[i].shown;
    return "";
}

static void handle_health(struct bk_request *request) {
    struct bk_buffer *out = &request->out;
    bk_buffer_append_literal(out, "{\"message\":\"API is healthy.\",\"code\":200,\"data\":{");
    if (bk_actor_is_superuser(&request->actor)) {
        bk_json_write_member_bool(out, BK_SLICE("canBackup"), true);
        bk_json_write_member_string(out, BK_SLICE("possibleProxyHeader"),
                                    bk_slice_from(proxy_header(request)));
        bk_json_write_member_string(out, BK_SLICE("realIP"), request->remote_address);
    }
    bk_buffer_append_literal(out, "}}");
    if (bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields"))) != BK_OK)
        bk_answer_error(request, BK_INVALID, "The fields cannot be read.");
    else
        bk_answer(request, 200);
}

static void handle_openapi(struct bk_request *request) {
    bk_api_write_openapi(request->api, &request->out);
    bk_answer(request, 200);
}

static const struct bk_route_parameter health_parameters[] = {
    {"fields", "query", "string",
     "Which members of the answer are wanted, separated by commas; all when absent."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route routes[] = {
    {.method = BK_GET,
     .path = "/api/health",
     .access = BK_ACCESS_PUBLIC,
     .summary = "Says that the server answers.",
     .tag = "health",
     .parameters = health_parameters,
     .handle = handle_health},
    {.method = BK_GET,
     .path = "/api/openapi.json",
     .access = BK_ACCESS_PUBLIC,
     .summary = "This document.",
     .tag = "health",
     .handle = handle_openapi},
};

const struct bk_module bk_module_health = {
    .name = "health",
    .summary = "Says that the server answers, and describes its routes.",
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
};
