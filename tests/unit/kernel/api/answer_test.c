/* Answers as the responder gets them, streams, fallbacks, figures and documents. */
#include "support.h"

#include "bakend/alloc.h"
#include "bakend/api.h"

#include <string.h>

static struct bk_api *api;
static struct bk_request request;
static struct bk_header header;
static uint32_t sent, stream_begun, stream_ended, drained;

static void on_send(struct bk_request *own) {
    assert_true(own->is_answered);
    sent++;
}
static void on_begin(struct bk_request *own) {
    (void)own;
    stream_begun++;
}
static bool on_write(struct bk_request *own, struct bk_slice data) {
    bk_buffer_append_slice(&own->out, data);
    return own->out.length < 10;
}
static void on_end(struct bk_request *own) {
    (void)own;
    stream_ended++;
}

static const struct bk_responder responder = {
    .send = on_send, .stream_begin = on_begin, .stream_write = on_write, .stream_end = on_end};

static void handle_hello(struct bk_request *own) {
    bk_buffer_append_literal(&own->out, "{}");
    bk_answer(own, 200);
}

static const struct bk_route_parameter parameters[] = {
    {"limit", "query", "integer=30", "How many."},
    {"page", "query", "integer=1", "Which."},
    {"order", "query", "string=asc", "The order."},
    {"total", "query", "boolean=false", "Counts."},
    {NULL, NULL, NULL, NULL},
};
static const struct bk_route routes[] = {
    {.method = BK_GET,
     .path = "/a/{id}/b/{path...}",
     .handle = handle_hello,
     .summary = "A \"b\"."},
    {.method = BK_POST,
     .path = "/a",
     .access = BK_ACCESS_OPERATOR,
     .body_max_bytes = 1,
     .has_json_body = true,
     .tag = "tag",
     .handle = handle_hello},
    {.method = BK_GET, .path = "/a", .parameters = parameters, .handle = handle_hello},
    {.method = BK_DELETE, .path = "/a", .body_max_bytes = 1, .handle = handle_hello},
};

static int setup(void **state) {
    struct bk_api_options options = {.request_arena_bytes = 1 << 20, .answer_max_bytes = 1 << 20};
    assert_int_equal(support_loop_setup(state), 0);
    options.loop = *state;
    api = bk_api_create(&options);
    assert_int_equal(bk_api_add_routes(api, routes, BK_COUNT_OF(routes), NULL), BK_OK);
    bk_request_init(&request, api);
    request.responder = &responder;
    request.headers = &header;
    sent = stream_begun = stream_ended = drained = 0;
    return 0;
}

static int teardown(void **state) {
    bk_request_fini(&request);
    bk_api_destroy(api);
    return support_loop_teardown(state);
}

static bool text_has(const struct bk_buffer *buffer, const char *text) {
    size_t length = strlen(text);
    for (size_t i = 0; i + length <= buffer->length; i++)
        if (memcmp(buffer->data + i, text, length) == 0)
            return true;
    return false;
}

static void out_is(const char *text) {
    bk_buffer_append_char(&request.out, '\0');
    assert_string_equal(request.out.data, text);
}

static void writes_messages_as_sentences(void **state) {
    struct bk_buffer expected;
    (void)state;
    bk_answer_error(&request, BK_NOT_FOUND, "there is \"none\"");
    assert_int_equal(request.status, 404);
    bk_buffer_init(&expected, 1000);
    bk_buffer_format(&expected,
                     "{\"data\":{},\"message\":\"There is \\\"none\\\".\",\"status\":404,"
                     "\"requestId\":\"%.*s\"}",
                     BK_REQUEST_ID_BYTES, request.id);
    bk_buffer_append_char(&expected, '\0');
    out_is(expected.data);
    bk_buffer_fini(&expected);
    assert_true(text_has(&request.head, "X-Frame-Options: SAMEORIGIN\r\n"));
}

static void tells_when_to_come_back(void **state) {
    (void)state;
    bk_answer_error(&request, BK_BUSY, NULL);
    assert_int_equal(request.status, 503);
    assert_true(text_has(&request.head, "Retry-After: "));
}

static void puts_problems_into_data(void **state) {
    (void)state;
    bk_problems_add(&request.problems, BK_SLICE("title"), "validation_required",
                    "Cannot be blank.");
    bk_answer_problems(&request, BK_INVALID, "failed");
    assert_true(text_has(&request.out,
                         "{\"data\":{\"title\":{\"code\":\"validation_required\","
                         "\"message\":\"Cannot be blank.\"}},\"message\":\"Failed.\""));
}

static void forgets_what_was_written_before_an_error(void **state) {
    (void)state;
    bk_buffer_append_literal(&request.out, "secret");
    request.content_type = "text/plain";
    bk_answer_error(&request, BK_FORBIDDEN, NULL);
    assert_false(text_has(&request.out, "secret"));
    assert_string_equal(request.content_type, "application/json");
}

static void leaves_framing_to_files(void **state) {
    (void)state;
    request.is_frameable = true;
    bk_answer_empty(&request);
    assert_int_equal(request.status, 204);
    assert_false(text_has(&request.head, "X-Frame-Options"));
    assert_true(text_has(&request.head, "X-Content-Type-Options: nosniff\r\n"));
}

/* --- compression ------------------------------------------------------------------------------ */

static void fill(size_t length) {
    bk_buffer_clear(&request.out);
    for (size_t i = 0; i < length; i++)
        bk_buffer_append_char(&request.out, 'x');
}

static void accept(const char *value) {
    header = (struct bk_header){BK_SLICE("accept-encoding"), bk_slice_from(value)};
    request.header_count = 1;
    request.is_compressed = false;
    bk_buffer_clear(&request.head);
}

static void compresses_text_that_is_worth_it(void **state) {
    static const char *const yes[] = {"gzip", "br, gzip", "GZIP;q=0.5", "deflate, gzip;q=1.0"};
    static const char *const no[] = {"", "br", "gzip;q=0", "gzip;q=0.000", "xgzip"};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(yes); i++) {
        fill(2000);
        accept(yes[i]);
        bk_answer_compress(&request);
        assert_true(request.is_compressed);
        assert_true(request.out.length < 200);
        assert_true(text_has(&request.head, "Content-Encoding: gzip\r\n"));
    }
    for (size_t i = 0; i < BK_COUNT_OF(no); i++) {
        fill(2000);
        accept(no[i]);
        bk_answer_compress(&request);
        assert_false(request.is_compressed);
        assert_true(text_has(&request.head, "Vary: Accept-Encoding\r\n"));
    }
    fill(1000);
    accept("gzip");
    bk_answer_compress(&request);
    assert_false(request.is_compressed);
    fill(2000);
    request.content_type = "image/png";
    bk_answer_compress(&request);
    assert_false(request.is_compressed);
}

/* --- streams, fallbacks ----------------------------------------------------------------------- */

static bool begin(const char *path) {
    size_t body_max_bytes = 0;
    request.method = BK_GET;
    request.path = request.target = bk_slice_from(path);
    return bk_api_begin(api, &request, &body_max_bytes);
}

static void streams(void **state) {
    (void)state;
    assert_true(begin("/a"));
    bk_stream_begin(&request, 200);
    assert_int_equal(stream_begun, 1);
    assert_int_equal(bk_api_figures(api)->in_flight, 1);
    assert_true(bk_stream_write(&request, BK_SLICE("12345")));
    assert_false(bk_stream_write(&request, BK_SLICE("67890")));
    bk_stream_end(&request);
    assert_int_equal(stream_ended, 1);
    assert_int_equal(bk_api_figures(api)->in_flight, 0);
    assert_int_equal(bk_api_figures(api)->answers[2], 1);
}

static void on_no_message(struct bk_channel *channel, struct bk_slice message, bool is_binary) {
    (void)channel;
    (void)message;
    (void)is_binary;
}

static void on_no_close(struct bk_channel *channel, int code) {
    (void)channel;
    (void)code;
}

static const struct bk_channel_handler no_handler = {.on_message = on_no_message,
                                                     .on_close = on_no_close};

static void has_no_channel_where_there_is_none(void **state) {
    struct bk_channel *channel = NULL;
    (void)state;
    assert_int_equal(bk_channel_accept(&request, &no_handler, NULL, &channel), BK_NOT_SUPPORTED);
}

static const struct bk_route fallback_route = {.path = "/x", .handle = handle_hello};

static const struct bk_route *find(struct bk_fallback *fallback, struct bk_request *own) {
    assert_ptr_equal(own->module, fallback->module);
    if (bk_slice_is(own->path, "/short"))
        own->path = BK_SLICE("/a");
    return bk_slice_is(own->path, "/file") ? &fallback_route : NULL;
}

static void asks_fallbacks_before_404(void **state) {
    static struct bk_fallback fallback = {.find = find, .module = &fallback};
    (void)state;
    bk_api_add_fallback(api, &fallback);
    assert_true(begin("/file"));
    assert_ptr_equal(request.route, &fallback_route);
    assert_ptr_equal(request.module, &fallback);
    bk_api_dispatch(&request);
    assert_int_equal(sent, 1);
    bk_request_reset(&request);
    assert_true(begin("/short"));
    assert_ptr_equal(request.route, &routes[2]);
    assert_null(request.module);
    bk_api_dispatch(&request);
    bk_request_reset(&request);
    assert_false(begin("/other"));
    assert_int_equal(request.status, 404);
}

/* --- documents -------------------------------------------------------------------------------- */

static void describes_its_routes(void **state) {
    struct bk_json *document;
    const struct bk_json *paths, *get;
    struct bk_arena arena;
    (void)state;
    bk_api_write_openapi(api, &request.out);
    bk_arena_init(&arena, 1 << 20);
    assert_int_equal(bk_json_parse(&arena, bk_buffer_slice(&request.out), &document, NULL), BK_OK);
    assert_true(bk_slice_is(bk_json_get_string(document, BK_SLICE("openapi")), "3.1.0"));
    paths = bk_json_get(document, BK_SLICE("paths"));
    assert_int_equal(paths->child_count, 2);
    get = bk_json_get(bk_json_get(paths, BK_SLICE("/a/{id}/b/{path}")), BK_SLICE("get"));
    assert_true(bk_slice_is(bk_json_get_string(get, BK_SLICE("summary")), "A \"b\"."));
    assert_true(bk_slice_is(bk_json_get_string(get, BK_SLICE("operationId")), "get_a_id_b_path"));
    assert_int_equal(bk_json_get(get, BK_SLICE("parameters"))->child_count, 2);
    assert_int_equal(bk_json_get(paths, BK_SLICE("/a"))->child_count, 3);
    get = bk_json_get(bk_json_get(bk_json_get(paths, BK_SLICE("/a")), BK_SLICE("delete")),
                      BK_SLICE("requestBody"));
    assert_null(get);
    assert_true(text_has(&request.out, "{\"type\":\"integer\",\"default\":30}"));
    assert_true(text_has(&request.out, "{\"type\":\"string\",\"default\":\"asc\"}"));
    assert_true(text_has(&request.out, "{\"type\":\"boolean\",\"default\":false}"));
    assert_true(text_has(&request.out, "{\"$ref\":\"#/components/schemas/List\"}"));
    assert_non_null(bk_json_get(bk_json_get(bk_json_get(paths, BK_SLICE("/a")), BK_SLICE("post")),
                                BK_SLICE("requestBody")));
    bk_arena_fini(&arena);
}

static void write_own(struct bk_metrics_source *source, struct bk_buffer *out) {
    (void)source;
    bk_metric_write(out, "own_total", "counter", "Own.", 1.5);
}

static void writes_figures_for_prometheus(void **state) {
    static struct bk_metrics_source source = {.write = write_own};
    (void)state;
    bk_api_add_metrics(api, &source);
    assert_false(begin("/nothing"));
    bk_buffer_clear(&request.out);
    bk_api_write_metrics(api, &request.out);
    assert_true(text_has(&request.out, "\n# TYPE bakend_http_answer_seconds histogram\n"));
    assert_true(text_has(&request.out, "\nbakend_http_answers_total{status=\"4xx\"} 1\n"));
    assert_true(text_has(&request.out, "_bucket{le=\"+Inf\"} 1\n"));
    assert_true(text_has(&request.out, "# HELP own_total Own.\n# TYPE own_total counter\n"
                                       "own_total 1.5\n"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(writes_messages_as_sentences),
        TEST(tells_when_to_come_back),
        TEST(puts_problems_into_data),
        TEST(forgets_what_was_written_before_an_error),
        TEST(leaves_framing_to_files),
        TEST(compresses_text_that_is_worth_it),
        TEST(streams),
        TEST(has_no_channel_where_there_is_none),
        TEST(asks_fallbacks_before_404),
        TEST(describes_its_routes),
        TEST(writes_figures_for_prometheus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
