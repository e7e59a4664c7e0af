/*
 * What is HTTP's: the request as it was given, and an answer of bounded size.
 *
 * libcurl adds headers of its own where the caller has none of that name; an empty one of the name
 * ("Accept:") takes them away again. The body is not copied.
 */
#include "outbound_private.h"

#include <string.h>

enum { IDLE_BYTES_PER_S = 1 /* less than that: nothing moves */ };

/* --- the request ------------------------------------------------------------------------------ */

static bool has_header(const struct bk_outbound_request *request, const char *name) {
    for (size_t i = 0; i < request->header_count; i++) {
        if (bk_slice_equal_ignore_case(request->headers[i].name, bk_slice_from(name)))
            return true;
    }
    return false;
}

/* "Name: value", or "Name;", which is how libcurl is told of an empty value. */
static void add_header(struct bk_outbound_call *call, const struct bk_outbound_header *header) {
    struct bk_buffer line;
    bk_buffer_init(&line, header->name.length + header->value.length + sizeof(": "));
    bk_buffer_append_slice(&line, header->name);
    if (bk_slice_trim(header->value).length == 0) {
        bk_buffer_append_char(&line, ';');
    } else {
        bk_buffer_append_literal(&line, ": ");
        bk_buffer_append_slice(&line, header->value);
    }
    bk_buffer_append_char(&line, '\0');
    bk_buffer_insist(&line);
    outbound_add_line(call, &call->headers, line.data);
    bk_buffer_fini(&line);
}

static void set_headers(struct bk_outbound_call *call) {
    const struct bk_outbound_request *request = call->request;
    for (size_t i = 0; i < request->header_count; i++)
        add_header(call, &request->headers[i]);
    outbound_add_line(call, &call->headers, "Expect:");
    if (!has_header(request, "accept"))
        outbound_add_line(call, &call->headers, "Accept:");
    if (!has_header(request, "content-type"))
        outbound_add_line(call, &call->headers, "Content-Type:");
    outbound_set_pointer(call, CURLOPT_HTTPHEADER, call->headers);
}

/* These announce a body even if it is empty. */
static bool has_body(const struct bk_outbound_request *request, struct bk_slice method) {
    return request->body.length > 0 || bk_slice_is(method, "POST") || bk_slice_is(method, "PUT") ||
           bk_slice_is(method, "PATCH");
}

static void set_method(struct bk_outbound_call *call) {
    const struct bk_outbound_request *request = call->request;
    struct bk_slice method = bk_slice_from(request->method);
    if (bk_slice_is(method, "HEAD")) {
        outbound_set_long(call, CURLOPT_NOBODY, 1);
        return;
    }
    if (has_body(request, method)) {
        outbound_set_long(call, CURLOPT_POST, 1);
        outbound_set_pointer(call, CURLOPT_POSTFIELDS,
                             request->body.length > 0 ? request->body.data : "");
        outbound_set_large(call, CURLOPT_POSTFIELDSIZE_LARGE, request->body.length);
    } else {
        outbound_set_long(call, CURLOPT_HTTPGET, 1);
    }
    outbound_set_pointer(call, CURLOPT_CUSTOMREQUEST, request->method);
}

/* --- the answer ------------------------------------------------------------------------------- */

static bool keep(struct bk_outbound_call *call, struct bk_buffer *buffer, const char *data,
                 size_t length) {
    bk_buffer_append(buffer, data, length);
    call->is_out_of_memory = call->is_out_of_memory || buffer->lacks_memory;
    return !buffer->is_overflown;
}

/* A line at a time. What comes before an interim answer (1xx) is dropped with it, and what comes
 * behind the body (trailers) is not kept; all of it counts. */
static size_t on_head(char *data, size_t size, size_t count, void *user) {
    struct bk_outbound_call *call = user;
    size_t length = size * count;
    struct bk_slice line = bk_slice_make(data, length);
    call->head_bytes += length;
    if (call->head_bytes > BK_OUTBOUND_HEAD_MAX_BYTES) {
        call->is_too_large = true;
        return 0;
    }
    if (bk_slice_starts_with(line, BK_SLICE("HTTP/"))) {
        bk_buffer_clear(&call->head);
        call->is_head_complete = false;
    }
    if (call->is_head_complete)
        return length;
    call->is_head_complete = bk_slice_trim(line).length == 0;
    return keep(call, &call->head, data, length) ? length : 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *user) {
    struct bk_outbound_call *call = user;
    size_t length = size * count;
    size_t room = call->request->answer_max_bytes - call->body.length;
    if (length <= room)
        return keep(call, &call->body, data, length) ? length : 0;
    if (!call->request->cuts_answer) {
        call->is_too_large = true;
        return 0;
    }
    if (keep(call, &call->body, data, room))
        call->was_cut = true;
    return 0;
}

void outbound_web_prepare(struct bk_outbound_call *call) {
    const struct bk_outbound_request *request = call->request;
    bool multiplexes = call->channel->policy.multiplexes;
    outbound_set_pointer(call, CURLOPT_PROTOCOLS_STR, "http,https");
    outbound_set_pointer(call, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    outbound_set_long(call, CURLOPT_HTTP_VERSION,
                      multiplexes ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
    outbound_set_long(call, CURLOPT_PIPEWAIT, multiplexes);
    outbound_set_long(call, CURLOPT_HTTP09_ALLOWED, 0);
    outbound_set_long(call, CURLOPT_LOW_SPEED_LIMIT, IDLE_BYTES_PER_S);
    outbound_set_long(call, CURLOPT_LOW_SPEED_TIME, BK_OUTBOUND_IDLE_S);
    /* 0 would be no limit; what says that it has no more than a byte is seen to in on_body. */
    if (!request->cuts_answer)
        outbound_set_large(call, CURLOPT_MAXFILESIZE_LARGE,
                           request->answer_max_bytes > 0 ? request->answer_max_bytes : 1);
    set_method(call);
    set_headers(call);
    if (curl_easy_setopt(call->easy, CURLOPT_HEADERFUNCTION, on_head) != CURLE_OK ||
        curl_easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, on_body) != CURLE_OK)
        call->has_bad_option = true;
    outbound_set_pointer(call, CURLOPT_HEADERDATA, call);
    outbound_set_pointer(call, CURLOPT_WRITEDATA, call);
}
