/*
 * Answers: whole, streams and errors; channel.c has the message channels.
 *
 * Whatever a handler does ends in one place, which counts the answer, shows it to the observers and
 * hands it to the responder. Observers see it just before that, while the request is still ours;
 * nothing has left the machine by then, since transports write at the end of the turn.
 *
 * An answer that outgrew its buffer, or was made from an arena that ran dry, is not sent: an error
 * is.
 */
#include "api_private.h"

#include "bakend/clock.h"
#include "bakend/compress.h"

#include <stdio.h>

/* Below this gzip saves less than a packet. */
enum { COMPRESS_BYTES_MIN = 1400, COMPRESS_LEVEL = 5 };

/* What clients should wait after 429 and 503 where nobody says: the queues behind those drain in
 * well under a second. */
enum { RETRY_AFTER_SECONDS = 1 };

static void write_security(struct bk_request *request) {
    bk_buffer_append_literal(&request->head, "X-Content-Type-Options: nosniff\r\n"
                                             "X-XSS-Protection: 1; mode=block\r\n");
    if (!request->is_frameable)
        bk_buffer_append_literal(&request->head, "X-Frame-Options: SAMEORIGIN\r\n");
}

void api_answer_count(struct bk_request *request) {
    struct bk_api_figures *figures = &request->api->figures;
    uint64_t taken_ns =
        request->started_ns == 0 ? 0 : bk_clock_monotonic_ns() - request->started_ns;
    size_t last = BK_COUNT_OF(figures->time_buckets) - 1, i = 0;
    int hundreds = request->status / 100;
    figures->requests++;
    figures->answers[hundreds >= 0 && hundreds < 6 ? hundreds : 0]++;
    figures->time_ns_sum += taken_ns;
    while (i < last && taken_ns >= (UINT64_C(1) << (i + 16)))
        i++;
    figures->time_buckets[i]++;
}

void api_request_end(struct bk_request *request) {
    if (request->step != API_STEP_FRESH)
        request->api->figures.in_flight--;
    BK_LIST_FOR_EACH(link, &request->api->observers) {
        struct bk_request_observer *observer =
            bk_container_of(link, struct bk_request_observer, link);
        observer->on_answered(observer, request);
    }
    request->step = API_STEP_ANSWERED;
}

static void send_whole(struct bk_request *request) {
    BK_ASSERT(!request->is_answered);
    request->is_answered = true;
    api_answer_count(request);
    api_request_end(request);
    request->responder->send(request);
}

void api_answer_preflight(struct bk_request *request) {
    api_cors_write_preflight(request);
    request->status = 204;
    send_whole(request);
}

/* --- errors ----------------------------------------------------------------------------------- */

struct bk_slice api_answer_text(int http_status) {
    switch (http_status) {
    case 401:
        return BK_SLICE("Missing or invalid authentication.");
    case 403:
        return BK_SLICE("You are not allowed to perform this request.");
    case 404:
        return BK_SLICE("The requested resource wasn't found.");
    case 413:
        return BK_SLICE("Request entity too large.");
    case 415:
        return BK_SLICE("Unsupported Content-Type.");
    case 429:
        return BK_SLICE("Too Many Requests.");
    case 400:
    case 500:
        return BK_SLICE("Something went wrong while processing your request.");
    default:
        return BK_SLICE_EMPTY;
    }
}

/* A capital at the start and a full stop at the end, as the contract's messages have. */
static void write_sentence(struct bk_buffer *out, struct bk_slice text) {
    size_t start = out->length + 1;
    bk_json_write_string(out, text);
    if (text.length == 0 || out->is_overflown)
        return;
    if (out->data[start] >= 'a' && out->data[start] <= 'z')
        out->data[start] = (char)(out->data[start] - 'a' + 'A');
    if (strchr(".!?", text.data[text.length - 1]) != NULL)
        return;
    out->length--;
    bk_buffer_append_literal(out, ".\"");
}

static const struct bk_slice no_data = BK_SLICE_INIT("{}");

static void write_error(struct bk_request *request, int http_status, struct bk_slice message,
                        const struct bk_problems *problems, struct bk_slice data) {
    struct bk_buffer *out = &request->out;
    bk_buffer_clear(out);
    out->is_overflown = false;
    bk_buffer_append_literal(out, "{\"data\":");
    if (problems != NULL)
        bk_problems_write_json(problems, out);
    else
        bk_buffer_append_slice(out, data);
    bk_buffer_append_literal(out, ",\"message\":");
    write_sentence(out, message);
    bk_json_write_member_int(out, BK_SLICE("status"), http_status);
    bk_json_write_member_string(out, BK_SLICE("requestId"),
                                bk_slice_make(request->id, BK_REQUEST_ID_BYTES));
    bk_buffer_append_literal(out, "}");
    request->content_type = "application/json";
    if (out->lacks_memory)
        bk_buffer_clear(out);
}

static void write_retry_after(struct bk_request *request) {
    char seconds[16];
    (void)snprintf(seconds, sizeof(seconds), "%u",
                   request->retry_after_s > 0 ? request->retry_after_s : RETRY_AFTER_SECONDS);
    bk_answer_header(request, "Retry-After", bk_slice_from(seconds));
}

static void send_error(struct bk_request *request, int http_status, struct bk_slice message,
                       const struct bk_problems *problems, struct bk_slice data) {
    if (http_status == 429 || http_status == 503)
        write_retry_after(request);
    write_security(request);
    if (request->head.lacks_memory)
        bk_buffer_clear(&request->head);
    write_error(request, http_status, message, problems, data);
    request->status = http_status;
    send_whole(request);
}

static struct bk_slice message_of(enum bk_status status, const char *message) {
    struct bk_slice text;
    if (message != NULL && message[0] != '\0')
        return bk_slice_from(message);
    text = api_answer_text(bk_status_http(status));
    return text.length > 0 ? text : bk_slice_from(bk_status_text(status));
}

static bool lacks_memory(const struct bk_request *request) {
    return request->arena.lacks_memory || request->out.lacks_memory || request->head.lacks_memory;
}

/* What is wrong with a request for which there was no memory, nobody knows. */
void bk_answer_error(struct bk_request *request, enum bk_status status, const char *message) {
    if (lacks_memory(request)) {
        status = BK_NO_MEMORY;
        message = NULL;
    }
    send_error(request, bk_status_http(status), message_of(status, message), NULL, no_data);
}

void bk_answer_problems(struct bk_request *request, enum bk_status status, const char *message) {
    if (lacks_memory(request)) {
        bk_answer_error(request, BK_NO_MEMORY, NULL);
        return;
    }
    send_error(request, bk_status_http(status), message_of(status, message), &request->problems,
               no_data);
}

void bk_answer_error_data(struct bk_request *request, enum bk_status status, const char *message,
                          struct bk_slice data) {
    if (lacks_memory(request))
        bk_answer_error(request, BK_NO_MEMORY, NULL);
    else
        send_error(request, bk_status_http(status), message_of(status, message), NULL, data);
}

void bk_answer_describe(const struct bk_problems *problems, enum bk_status status,
                        const char *message, struct bk_buffer *out) {
    bk_buffer_append_literal(out, "{\"data\":");
    bk_problems_write_json(problems, out);
    bk_buffer_append_literal(out, ",\"message\":");
    write_sentence(out, message_of(status, message));
    bk_json_write_member_int(out, BK_SLICE("status"), bk_status_http(status));
    bk_buffer_append_char(out, '}');
}

void bk_answer_too_large(struct bk_request *request) {
    size_t max_bytes = request->route == NULL ? 0 : request->route->body_max_bytes;
    char message[80] = "This route takes no body.";
    if (max_bytes > 0)
        (void)snprintf(message, sizeof(message), "The body may have at most %zu bytes.", max_bytes);
    bk_answer_error(request, BK_TOO_LARGE, message);
}

void bk_answer_refusal(struct bk_request *request, int http_status, const char *message) {
    send_error(request, http_status, bk_slice_from(message), NULL, no_data);
}

/* --- whole answers ---------------------------------------------------------------------------- */

void bk_answer_header(struct bk_request *request, const char *name, struct bk_slice value) {
    struct bk_buffer *head = &request->head;
    BK_ASSERT(value.length == 0 || (memchr(value.data, '\r', value.length) == NULL &&
                                    memchr(value.data, '\n', value.length) == NULL));
    bk_buffer_append_slice(head, bk_slice_from(name));
    bk_buffer_append_literal(head, ": ");
    bk_buffer_append_slice(head, value);
    bk_buffer_append_literal(head, "\r\n");
}

static const char *spoiled_by(const struct bk_request *request) {
    if (request->out.is_overflown)
        return "The answer is larger than the server allows; ask for less at once.";
    if (request->arena.is_overflown)
        return "The request needs more memory than a request may have.";
    if (request->head.is_overflown)
        return "The answer has too many headers.";
    return NULL;
}

void bk_answer(struct bk_request *request, int http_status) {
    const char *reason = http_status < 400 ? spoiled_by(request) : NULL;
    if (reason != NULL) {
        bool is_memory = lacks_memory(request);
        bk_buffer_clear(&request->head);
        bk_answer_error(request, is_memory ? BK_NO_MEMORY : BK_INTERNAL, is_memory ? NULL : reason);
        return;
    }
    write_security(request);
    request->status = http_status;
    send_whole(request);
}

void bk_answer_empty(struct bk_request *request) {
    bk_buffer_clear(&request->out);
    bk_answer(request, 204);
}

/* --- compression ------------------------------------------------------------------------------ */

static bool takes_gzip(const struct bk_request *request) {
    struct bk_slice rest = bk_request_header(request, BK_SLICE("accept-encoding")), part;
    while (rest.length > 0 && bk_slice_split(&rest, ',', &part)) {
        size_t at = bk_slice_find(part, ';');
        struct bk_slice name = bk_slice_trim(bk_slice_make(part.data, at));
        struct bk_slice quality = bk_slice_make(part.data + at, part.length - at);
        if (!bk_slice_equal_ignore_case(name, BK_SLICE("gzip")))
            continue;
        /* "gzip;q=0" and "gzip;q=0.000" mean no. */
        for (size_t i = 0; i < quality.length; i++)
            if (quality.data[i] >= '1' && quality.data[i] <= '9')
                return true;
        return quality.length == 0;
    }
    return false;
}

static bool is_text(const char *content_type) {
    struct bk_slice type = bk_slice_from(content_type);
    return bk_slice_starts_with(type, BK_SLICE("text/")) ||
           bk_slice_starts_with(type, BK_SLICE("application/json")) ||
           bk_slice_starts_with(type, BK_SLICE("application/javascript")) ||
           bk_slice_starts_with(type, BK_SLICE("application/x-ndjson")) ||
           bk_slice_starts_with(type, BK_SLICE("image/svg+xml"));
}

void bk_answer_compress(struct bk_request *request) {
    struct bk_buffer packed;
    if (request->is_compressed || request->out.is_overflown ||
        request->out.length < COMPRESS_BYTES_MIN || !is_text(request->content_type))
        return;
    bk_answer_header(request, "Vary", BK_SLICE("Accept-Encoding"));
    if (!takes_gzip(request))
        return;
    bk_buffer_init(&packed, request->out.max_bytes);
    if (bk_gzip(bk_buffer_slice(&request->out), COMPRESS_LEVEL, &packed) != BK_OK ||
        packed.is_overflown || packed.length >= request->out.length) {
        bk_buffer_fini(&packed);
        return;
    }
    bk_buffer_fini(&request->out);
    request->out = packed;
    request->is_compressed = true;
    bk_answer_header(request, "Content-Encoding", BK_SLICE("gzip"));
}

/* --- streams ---------------------------------------------------------------------------------- */

void bk_stream_begin(struct bk_request *request, int http_status) {
    BK_ASSERT(!request->is_answered);
    write_security(request);
    request->status = http_status;
    request->is_answered = true;
    request->step = API_STEP_STREAMING;
    api_answer_count(request);
    request->responder->stream_begin(request);
}

bool bk_stream_write(struct bk_request *request, struct bk_slice data) {
    BK_ASSERT(request->step == API_STEP_STREAMING);
    return request->responder->stream_write(request, data);
}

void bk_stream_end(struct bk_request *request) {
    BK_ASSERT(request->step == API_STEP_STREAMING);
    api_request_end(request);
    request->responder->stream_end(request);
}
