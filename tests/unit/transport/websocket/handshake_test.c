/* The opening handshake, RFC 6455, section 4.2. */
#include "handshake.h"

#include "bakend/arena.h"
#include "bakend/assert.h"
#include "sha1.h"
#include "support.h"

#include <stdio.h>

static struct bk_loop *loop;
static struct bk_api *api;
static struct bk_request request;
static struct bk_header headers[8];

static void on_send(struct bk_request *answered) { (void)answered; }
static const struct bk_responder responder = {.send = on_send};

static int setup(void **state) {
    struct bk_api_options options = {.request_arena_bytes = 65536,
                                     .answer_max_bytes = 65536,
                                     .cors_origins = "https://app.example.com"};
    (void)support_loop_setup(state);
    loop = *state;
    options.loop = loop;
    api = bk_api_create(&options);
    bk_request_init(&request, api);
    request.method = BK_GET;
    request.responder = &responder;
    request.headers = headers;
    request.host = BK_SLICE("db.example.com");
    headers[0] = (struct bk_header){BK_SLICE("upgrade"), BK_SLICE("h2c, WebSocket")};
    headers[1] = (struct bk_header){BK_SLICE("connection"), BK_SLICE("keep-alive, Upgrade")};
    headers[2] = (struct bk_header){BK_SLICE("sec-websocket-version"), BK_SLICE("13")};
    headers[3] =
        (struct bk_header){BK_SLICE("sec-websocket-key"), BK_SLICE("dGhlIHNhbXBsZSBub25jZQ==")};
    request.header_count = 4;
    return 0;
}

static int teardown(void **state) {
    bk_request_fini(&request);
    bk_api_destroy(api);
    return support_loop_teardown(state);
}

static bool has_line(const char *line) {
    struct bk_slice rest = bk_buffer_slice(&request.head), part;
    while (rest.length > 0 && bk_slice_split(&rest, '\n', &part))
        if (bk_slice_equal(bk_slice_trim(part), bk_slice_from(line)))
            return true;
    return false;
}

static void refuses_with(int http_status) {
    assert_int_not_equal(websocket_handshake_check(&request), BK_OK);
    assert_int_equal(request.status, http_status);
}

static void hashes_as_the_standard_does(void **state) {
    static const struct {
        const char *text, *hex;
    } cases[] = {
        {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
        {"0123456789012345678901234567890123456789012345678901234567890123456789",
         "194522b2bdb1f1838a2d2d24a248202001ac6838"},
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        uint8_t digest[WEBSOCKET_SHA1_BYTES];
        char hex[2 * WEBSOCKET_SHA1_BYTES + 1] = "";
        websocket_sha1(digest, bk_slice_from(cases[i].text));
        for (size_t k = 0; k < sizeof(digest); k++)
            (void)snprintf(hex + 2 * k, 3, "%02x", digest[k]);
        assert_string_equal(hex, cases[i].hex);
    }
}

static void answers_the_key_of_the_standard(void **state) {
    char accept[WEBSOCKET_ACCEPT_BYTES];
    (void)state;
    websocket_handshake_accept(accept, BK_SLICE("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_memory_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof(accept));
}

static void takes_a_right_request(void **state) {
    struct bk_buffer out;
    (void)state;
    assert_int_equal(websocket_handshake_check(&request), BK_OK);
    bk_buffer_init(&out, 4096);
    bk_answer_header(&request, "Vary", BK_SLICE("Origin"));
    websocket_handshake_write(&request, &out);
    bk_buffer_append_char(&out, '\0');
    assert_string_equal(out.data, "HTTP/1.1 101 Switching Protocols\r\n"
                                  "Upgrade: websocket\r\n"
                                  "Connection: Upgrade\r\n"
                                  "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                  "Vary: Origin\r\n"
                                  "\r\n");
    bk_buffer_fini(&out);
}

static void tells_a_plain_request_to_upgrade(void **state) {
    (void)state;
    headers[0].value = BK_SLICE("h2c");
    refuses_with(426);
    assert_true(has_line("Upgrade: websocket"));
    assert_true(has_line("Sec-WebSocket-Version: 13"));
}

static void wants_the_connection_header_too(void **state) {
    (void)state;
    headers[1].value = BK_SLICE("keep-alive");
    refuses_with(426);
}

static void wants_a_get(void **state) {
    (void)state;
    request.method = BK_POST;
    refuses_with(426);
}

static void wants_version_13(void **state) {
    (void)state;
    headers[2].value = BK_SLICE("8");
    refuses_with(426);
    assert_true(has_line("Sec-WebSocket-Version: 13"));
}

static void wants_one_right_key(void **state) {
    static const struct bk_slice wrong[] = {
        BK_SLICE_INIT(""),
        BK_SLICE_INIT("dGhlIHNhbXBsZSBub25jZQ="),
        BK_SLICE_INIT("dGhlIHNhbXBsZSBub25jZQ===="),
        BK_SLICE_INIT("dGhlIHNhbXBsZSBub25jZ!=="),
        BK_SLICE_INIT("dGhlIHNhbXBsZSBub25jZSEh"),
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        headers[3].value = wrong[i];
        refuses_with(400);
        bk_request_reset(&request);
        request.method = BK_GET;
        request.responder = &responder;
        request.headers = headers;
        request.header_count = 4;
    }
    headers[3].value = BK_SLICE("dGhlIHNhbXBsZSBub25jZQ==");
    headers[4] = headers[3];
    request.header_count = 5;
    refuses_with(400);
}

static void add_origin(struct bk_slice origin) {
    headers[4] = (struct bk_header){BK_SLICE("origin"), origin};
    request.header_count = 5;
}

static void refuses_pages_of_other_origins(void **state) {
    (void)state;
    add_origin(BK_SLICE("https://evil.example.net"));
    refuses_with(403);
}

static void takes_pages_of_the_same_host(void **state) {
    (void)state;
    add_origin(BK_SLICE("https://db.example.com"));
    assert_int_equal(websocket_handshake_check(&request), BK_OK);
}

/* The api has judged the origin by then, and says so on the answer. */
static void takes_pages_that_the_api_allows(void **state) {
    (void)state;
    add_origin(BK_SLICE("https://app.example.com"));
    bk_answer_header(&request, "Access-Control-Allow-Origin", headers[4].value);
    assert_int_equal(websocket_handshake_check(&request), BK_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_as_the_standard_does),
        cmocka_unit_test(answers_the_key_of_the_standard),
        TEST(takes_a_right_request),
        TEST(tells_a_plain_request_to_upgrade),
        TEST(wants_the_connection_header_too),
        TEST(wants_a_get),
        TEST(wants_version_13),
        TEST(wants_one_right_key),
        TEST(refuses_pages_of_other_origins),
        TEST(takes_pages_of_the_same_host),
        TEST(takes_pages_that_the_api_allows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
