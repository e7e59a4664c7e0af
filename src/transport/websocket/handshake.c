/*
 * Pages of any site may open WebSockets to any host, whatever CORS says, so the origin is judged
 * here: one that the api allows (it has put its Access-Control-Allow-Origin on the answer by then)
 * or the host's own. Clients that are no browsers send none.
 */
#include "handshake.h"

#include "bakend/assert.h"
#include "bakend/encode.h"
#include "sha1.h"

static const struct bk_slice key_name = BK_SLICE_INIT("sec-websocket-key");
static const struct bk_slice magic = BK_SLICE_INIT("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* --- what is asked for ------------------------------------------------------------------------ */

/* Whether one of the headers of this name lists the token; lists may be spread over several. */
static bool lists_token(const struct bk_request *request, struct bk_slice name,
                        struct bk_slice token) {
    for (uint32_t i = 0; i < request->header_count; i++) {
        struct bk_slice rest = request->headers[i].value, part;
        if (!bk_slice_equal(request->headers[i].name, name))
            continue;
        while (rest.length > 0 && bk_slice_split(&rest, ',', &part))
            if (bk_slice_equal_ignore_case(bk_slice_trim(part), token))
                return true;
    }
    return false;
}

static uint32_t count_headers(const struct bk_request *request, struct bk_slice name) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->header_count; i++)
        count += bk_slice_equal(request->headers[i].name, name);
    return count;
}

/* 16 bytes in base64: 22 digits and two signs for nothing. */
static bool is_key(struct bk_slice key) {
    if (key.length != WEBSOCKET_KEY_BYTES || key.data[22] != '=' || key.data[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++)
        if (memchr(base64_digits, key.data[i], sizeof(base64_digits) - 1) == NULL)
            return false;
    return true;
}

static bool is_same_host(const struct bk_request *request, struct bk_slice origin) {
    size_t at = bk_slice_find(origin, ':');
    struct bk_slice rest = bk_slice_make(origin.data + at, origin.length - at);
    if (!bk_slice_starts_with(rest, BK_SLICE("://")))
        return false;
    return bk_slice_equal_ignore_case(bk_slice_make(rest.data + 3, rest.length - 3), request->host);
}

static bool is_origin_allowed(const struct bk_request *request) {
    static const struct bk_slice line = BK_SLICE_INIT("Access-Control-Allow-Origin: ");
    struct bk_slice origin = bk_request_header(request, BK_SLICE("origin"));
    struct bk_slice rest = bk_buffer_slice(&request->head), part;
    if (origin.length == 0 || is_same_host(request, origin))
        return true;
    while (rest.length > 0 && bk_slice_split(&rest, '\n', &part))
        if (bk_slice_starts_with(part, line))
            return true;
    return false;
}

static void ask_to_upgrade(struct bk_request *request, const char *message) {
    bk_answer_header(request, "Connection", BK_SLICE("Upgrade"));
    bk_answer_header(request, "Upgrade", BK_SLICE("websocket"));
    bk_answer_header(request, "Sec-WebSocket-Version", BK_SLICE("13"));
    bk_answer_refusal(request, 426, message);
}

enum bk_status websocket_handshake_check(struct bk_request *request) {
    struct bk_slice version = bk_request_header(request, BK_SLICE("sec-websocket-version"));
    if (request->method != BK_GET || request->body.length > 0 ||
        !lists_token(request, BK_SLICE("upgrade"), BK_SLICE("websocket")) ||
        !lists_token(request, BK_SLICE("connection"), BK_SLICE("upgrade"))) {
        ask_to_upgrade(request, "This address is a WebSocket's: connect to it with one.");
        return BK_INVALID;
    }
    if (!bk_slice_is(version, "13")) {
        ask_to_upgrade(request, "The WebSocket's version must be 13.");
        return BK_INVALID;
    }
    if (count_headers(request, key_name) != 1 || !is_key(bk_request_header(request, key_name))) {
        bk_answer_header(request, "Sec-WebSocket-Version", BK_SLICE("13"));
        bk_answer_error(request, BK_INVALID,
                        "Sec-WebSocket-Key must be given once: 16 bytes in base64.");
        return BK_INVALID;
    }
    if (!is_origin_allowed(request)) {
        bk_answer_error(request, BK_FORBIDDEN,
                        "Pages of this origin may not connect; cors-origins names those that may.");
        return BK_FORBIDDEN;
    }
    return BK_OK;
}

/* --- what is answered ------------------------------------------------------------------------- */

void websocket_handshake_accept(char out[WEBSOCKET_ACCEPT_BYTES], struct bk_slice key) {
    char text[WEBSOCKET_KEY_BYTES + 36];
    uint8_t digest[WEBSOCKET_SHA1_BYTES];
    BK_ASSERT(key.length == WEBSOCKET_KEY_BYTES && key.length + magic.length == sizeof(text));
    memcpy(text, key.data, key.length);
    memcpy(text + key.length, magic.data, magic.length);
    websocket_sha1(digest, bk_slice_make(text, sizeof(text)));
    bk_base64_encode(out, digest, sizeof(digest));
}

void websocket_handshake_write(struct bk_request *request, struct bk_buffer *out) {
    char accept[WEBSOCKET_ACCEPT_BYTES];
    websocket_handshake_accept(accept, bk_request_header(request, key_name));
    bk_buffer_append_literal(out, "HTTP/1.1 101 Switching Protocols\r\n"
                                  "Upgrade: websocket\r\n"
                                  "Connection: Upgrade\r\n"
                                  "Sec-WebSocket-Accept: ");
    bk_buffer_append(out, accept, sizeof(accept));
    bk_buffer_append_literal(out, "\r\n");
    bk_buffer_append_slice(out, bk_buffer_slice(&request->head));
    bk_buffer_append_literal(out, "\r\n");
}
