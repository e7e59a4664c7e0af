/*
 * Cross-origin requests (Fetch standard, CORS), in the contract's words.
 *
 * Every answer varies by Origin. With "*" any origin is allowed by the literal "*", which browsers
 * accept only for requests without credentials (tokens travel in a header that the page sets
 * itself); a list allows exactly what it names. An origin is never reflected unless it is on the
 * list.
 */
#include "api_private.h"

static bool is_listed(const char *origins, struct bk_slice origin) {
    struct bk_slice rest = bk_slice_from(origins), part;
    while (rest.length > 0 && bk_slice_split(&rest, ',', &part))
        if (bk_slice_equal(bk_slice_trim(part), origin))
            return true;
    return false;
}

static struct bk_slice allowed_origin(const struct bk_request *request) {
    struct bk_slice origin = bk_request_header(request, BK_SLICE("origin"));
    if (origin.length == 0)
        return BK_SLICE_EMPTY;
    if (request->api->allows_any_origin)
        return BK_SLICE("*");
    return is_listed(request->api->options.cors_origins, origin) ? origin : BK_SLICE_EMPTY;
}

void api_cors_write(struct bk_request *request) {
    struct bk_slice allowed = allowed_origin(request);
    bk_buffer_append_literal(&request->head, "Vary: Origin\r\n");
    if (allowed.length > 0)
        bk_answer_header(request, "Access-Control-Allow-Origin", allowed);
}

void api_cors_write_preflight(struct bk_request *request) {
    struct bk_slice headers =
        bk_request_header(request, BK_SLICE("access-control-request-headers"));
    if (allowed_origin(request).length == 0)
        return;
    bk_buffer_append_literal(&request->head,
                             "Vary: Access-Control-Request-Method\r\n"
                             "Vary: Access-Control-Request-Headers\r\n"
                             "Access-Control-Allow-Methods: GET,HEAD,PUT,PATCH,POST,DELETE\r\n");
    if (headers.length > 0)
        bk_answer_header(request, "Access-Control-Allow-Headers", headers);
}
