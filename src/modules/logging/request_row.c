/*
 * An answered request in the logs, as PocketBase 0.39 has it: message "GET /api/x", level 0, or 8
 * when the answer was an error, with its message and details. Requests for logs and realtime
 * connections are logged only when they fail: they would fill the log with itself.
 *
 * Secrets: values of parameters that carry tokens, passwords and codes are replaced before anything
 * else is made of the target. Bodies and headers other than referer and user agent are not looked
 * at.
 */
#include "logging_private.h"

#include "bakend/clock.h"
#include "bakend/encode.h"

enum {
    METHOD_BYTES_MAX = 50,
    TARGET_BYTES_MAX = 3000,
    HEADER_BYTES_MAX = 2000,
    ANSWER_BYTES_MAX = 16 * 1024, /* an error's answer larger than this is not read */
    DATA_BYTES_MAX = 64 * 1024,
    ARENA_BYTES_MAX = 256 * 1024,
    ERROR_FROM_STATUS = 400,
};

/* --- secrets ---------------------------------------------------------------------------------- */

static bool is_secret_name(struct bk_slice name) {
    static const struct bk_slice names[] = {
        BK_SLICE_INIT("token"),    BK_SLICE_INIT("access_token"),  BK_SLICE_INIT("refresh_token"),
        BK_SLICE_INIT("id_token"), BK_SLICE_INIT("authorization"), BK_SLICE_INIT("password"),
        BK_SLICE_INIT("secret"),   BK_SLICE_INIT("client_secret"), BK_SLICE_INIT("api_key"),
        BK_SLICE_INIT("apikey"),   BK_SLICE_INIT("key"),           BK_SLICE_INIT("code"),
        BK_SLICE_INIT("otp"),      BK_SLICE_INIT("signature"),
    };
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        if (bk_slice_equal_ignore_case(name, names[i]))
            return true;
    }
    return false;
}

/* One parameter of a query, "name=value". A name that cannot be decoded may be anything. */
static void append_parameter(struct bk_arena *arena, struct bk_buffer *out, struct bk_slice part) {
    size_t name_length = bk_slice_find(part, '=');
    struct bk_slice name;
    bool is_readable = bk_percent_decode(arena, bk_slice_make(part.data, name_length), true, &name);
    if (name_length == part.length || (is_readable && !is_secret_name(name))) {
        bk_buffer_append_slice(out, part);
        return;
    }
    bk_buffer_append(out, part.data, name_length);
    bk_buffer_append_literal(out, "=***");
}

struct bk_slice logging_hide_secrets(struct bk_arena *arena, struct bk_slice target) {
    size_t path_length = bk_slice_find(target, '?');
    if (path_length == target.length)
        return target;
    struct bk_buffer out;
    bk_buffer_init(&out, 4 * target.length + 16);
    bk_buffer_append(&out, target.data, path_length + 1);
    struct bk_slice rest =
        bk_slice_make(target.data + path_length + 1, target.length - path_length - 1);
    struct bk_slice part;
    for (bool is_first = true; bk_slice_split(&rest, '&', &part); is_first = false) {
        if (!is_first)
            bk_buffer_append_char(&out, '&');
        append_parameter(arena, &out, part);
    }
    struct bk_slice hidden = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return hidden;
}

/* --- parts of a row --------------------------------------------------------------------------- */

static struct bk_slice cut(struct bk_arena *arena, struct bk_slice text, size_t max_bytes) {
    if (text.length <= max_bytes)
        return text;
    return bk_arena_format(arena, "%.*s...", (int)max_bytes, text.data);
}

/* "GET /api/x", with escapes undone so that people can read it. */
static struct bk_slice make_message(struct bk_arena *arena, struct bk_slice method,
                                    struct bk_slice target) {
    struct bk_slice readable;
    if (!bk_percent_decode(arena, target, false, &readable))
        readable = target;
    return bk_arena_format(arena, "%.*s %.*s", BK_SLICE_PRINT(method), BK_SLICE_PRINT(readable));
}

/* The collection of who asked: "users/abc" gives "users"; a guest is "". */
static struct bk_slice auth_of(const struct bk_request *request) {
    struct bk_slice label = request->actor.label;
    if (request->actor.kind == BK_ACTOR_GUEST)
        return BK_SLICE("");
    return bk_slice_make(label.data, bk_slice_find(label, '/'));
}

/* What the answer said, when it can still be read: it is small, plain and in the error shape. */
static void write_failure(struct bk_arena *arena, struct bk_buffer *data,
                          const struct bk_request *request) {
    struct bk_json *answer = NULL;
    struct bk_slice body = bk_buffer_slice(&request->out);
    if (request->is_compressed || body.length == 0 || body.length > ANSWER_BYTES_MAX ||
        body.data[0] != '{' || bk_json_parse(arena, body, &answer, NULL) != BK_OK)
        answer = NULL;
    const struct bk_json *details = bk_json_get(answer, BK_SLICE("data"));
    if (details != NULL)
        bk_json_write_member_raw(data, BK_SLICE("details"), details->text);
    bk_json_write_member_string(data, BK_SLICE("error"),
                                bk_json_get_string(answer, BK_SLICE("message")));
}

static void write_data(struct bk_arena *arena, struct bk_buffer *data,
                       const struct bk_request *request, struct bk_slice method,
                       struct bk_slice target) {
    struct bk_slice address = request->remote_address;
    struct bk_slice referer = bk_request_header(request, BK_SLICE("referer"));
    struct bk_slice agent = bk_request_header(request, BK_SLICE("user-agent"));
    double time_ms = (double)(bk_clock_monotonic_ns() - request->started_ns) / 1e6;
    bk_buffer_append_char(data, '{');
    bk_json_write_member_string(data, BK_SLICE("auth"), auth_of(request));
    if (request->status >= ERROR_FROM_STATUS)
        write_failure(arena, data, request);
    bk_json_write_key(data, BK_SLICE("execTime"));
    bk_json_write_double(data, time_ms);
    bk_json_write_member_string(data, BK_SLICE("method"), method);
    bk_json_write_member_string(data, BK_SLICE("referer"),
                                cut(arena, logging_hide_secrets(arena, referer), HEADER_BYTES_MAX));
    bk_json_write_member_string(data, BK_SLICE("remoteIP"), address);
    bk_json_write_member_string(
        data, BK_SLICE("requestId"),
        bk_slice_make(request->id, strnlen(request->id, sizeof request->id)));
    bk_json_write_member_int(data, BK_SLICE("status"), request->status);
    bk_json_write_member_string(data, BK_SLICE("type"), BK_SLICE("request"));
    bk_json_write_member_string(data, BK_SLICE("url"), target);
    bk_json_write_member_string(data, BK_SLICE("userAgent"), cut(arena, agent, HEADER_BYTES_MAX));
    bk_json_write_member_string(data, BK_SLICE("userIP"), address);
    bk_buffer_append_char(data, '}');
}

/* --- the row ---------------------------------------------------------------------------------- */

static bool is_left_out(const struct bk_request *request) {
    struct bk_slice path = request->path;
    return request->status < ERROR_FROM_STATUS &&
           (bk_slice_is(path, "/api/logs") || bk_slice_starts_with(path, BK_SLICE("/api/logs/")) ||
            bk_slice_starts_with(path, BK_SLICE("/_/")) || bk_slice_is(path, "/metrics") ||
            (bk_slice_is(path, "/api/realtime") && request->method == BK_GET));
}

void logging_request(struct logging *logging, struct logging_journal *journal,
                     const struct bk_request *request) {
    struct bk_slice method = bk_slice_from(bk_method_name(request->method));
    bk_log_debug(&logging->context->log, "request", BK_STRING("method", method),
                 BK_STRING("path", request->path), BK_INT("status", request->status),
                 BK_INT("us", (bk_clock_monotonic_ns() - request->started_ns) / 1000));
    if (is_left_out(request) || !logging_rows_admit(journal))
        return;
    struct bk_arena arena;
    struct bk_buffer data;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    bk_buffer_init(&data, DATA_BYTES_MAX);
    method = cut(&arena, method, METHOD_BYTES_MAX);
    struct bk_slice target =
        cut(&arena, logging_hide_secrets(&arena, request->target), TARGET_BYTES_MAX);
    struct bk_slice message = make_message(&arena, method, target);
    write_data(&arena, &data, request, method, target);
    enum logging_level level = request->status >= ERROR_FROM_STATUS ? LOGGING_ERROR : LOGGING_INFO;
    if (!data.is_overflown && !arena.is_overflown)
        logging_rows_add(journal, level, message, bk_buffer_slice(&data));
    bk_buffer_fini(&data);
    bk_arena_fini(&arena);
}
