/* HTTP to a peer that behaves, and to many that do not. */
#include "peer_fixture.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* On a machine with nothing else to do it is some tens. */
enum { CLOSE_MAX_MS = 3000 };

struct world {
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct bk_outbound_channel *channel;
    struct support_peer *peer;
    struct support_exchange exchange;
    char seen[8192]; /* the head of the request that the peer got last, and its body */
    const char *answer;
    bool ends; /* the connection, after the answer */
};

/* Answers each request of a connection with the world's answer. */
static void serve_answer(struct support_connection *connection) {
    struct world *world = support_peer_user(connection->peer);
    const char *head;
    while ((head = support_connection_read(connection, "\r\n\r\n")) != NULL) {
        const char *length = strstr(head, "Content-Length: ");
        size_t body_bytes = length == NULL ? 0 : strtoul(length + 16, NULL, 10);
        int used = snprintf(world->seen, sizeof(world->seen), "%s", head);
        while (connection->text_length < body_bytes) {
            if (!support_connection_peek(connection))
                return;
        }
        (void)snprintf(world->seen + used, sizeof(world->seen) - (size_t)used, "%s",
                       connection->text);
        if (!support_connection_skip(connection, body_bytes) ||
            !support_connection_send(connection, world->answer) || world->ends)
            return;
    }
}

static void setup_world(struct world *world, void **state,
                        void (*serve)(struct support_connection *connection)) {
    struct bk_outbound_policy policy = support_trusting_policy();
    memset(world, 0, sizeof(*world));
    world->loop = *state;
    world->outbound = bk_outbound_create(*state);
    world->channel = bk_outbound_open(world->outbound, &policy);
    world->peer = support_peer_start(serve, world);
    world->answer = "HTTP/1.1 204 No Content\r\n\r\n";
    support_exchange_init(&world->exchange, support_peer_port(world->peer), "/");
}

static void teardown_world(struct world *world) {
    assert_in_range(support_channel_close_ms(world->channel, world->loop), 0, CLOSE_MAX_MS);
    bk_outbound_destroy(world->outbound);
    support_peer_stop(world->peer);
}

static void run(struct world *world) {
    support_exchange_run(&world->exchange, world->loop, world->channel);
}

static void expect_failure(struct world *world, enum bk_outbound_failure failure) {
    run(world);
    if (world->exchange.request.failure != failure)
        fail_msg("%s (%s), not %s", bk_outbound_failure_name(world->exchange.request.failure),
                 world->exchange.reason, bk_outbound_failure_name(failure));
    assert_true(strlen(world->exchange.reason) > 0);
}

/* One request to a peer that answers so and then ends the connection. */
static void expect_failure_of(void **state, const char *answer, enum bk_outbound_failure failure) {
    struct world world;
    setup_world(&world, state, serve_answer);
    world.answer = answer;
    world.ends = true;
    expect_failure(&world, failure);
    teardown_world(&world);
}

/* --- what is sent ----------------------------------------------------------------------------- */

static void test_an_answer_comes_back_whole(void **state) {
    struct world world;
    setup_world(&world, state, serve_answer);
    world.answer = "HTTP/1.1 201 Created\r\nX-Colour:  blue \r\nContent-Length: 5\r\n\r\nHello";
    support_exchange_init(&world.exchange, support_peer_port(world.peer), "/path?a=b");
    world.exchange.header_name = "x-colour";
    expect_failure(&world, BK_OUTBOUND_OK);
    assert_int_equal(world.exchange.request.status, 201);
    assert_string_equal(world.exchange.answer, "Hello");
    assert_string_equal(world.exchange.header, "blue");
    assert_false(world.exchange.request.was_reused);
    assert_true(world.exchange.request.duration_us > 0);
    assert_int_equal(strncmp(world.seen, "GET /path?a=b HTTP/1.1\r\n", 24), 0);
    teardown_world(&world);
}

static void test_headers_are_sent_as_given_and_no_others(void **state) {
    static const struct bk_outbound_header headers[] = {
        {BK_SLICE_INIT("X-Empty"), BK_SLICE_INIT("")},
        {BK_SLICE_INIT("x-Twice"), BK_SLICE_INIT("one")},
        {BK_SLICE_INIT("x-Twice"), BK_SLICE_INIT("two: \xc3\xa4")},
    };
    struct world world;
    char expected[512];
    setup_world(&world, state, serve_answer);
    world.exchange.request.method = "POST";
    world.exchange.request.headers = headers;
    world.exchange.request.header_count = BK_COUNT_OF(headers);
    world.exchange.request.body = BK_SLICE("{}");
    expect_failure(&world, BK_OUTBOUND_OK);
    (void)snprintf(expected, sizeof(expected),
                   "POST / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nX-Empty:\r\nx-Twice: one\r\n"
                   "x-Twice: two: \xc3\xa4\r\nContent-Length: 2\r\n\r\n{}",
                   support_peer_port(world.peer));
    assert_string_equal(world.seen, expected);
    teardown_world(&world);
}

static void expect_request(struct world *world, const char *method, const char *body,
                           const char *framing) {
    char expected[512];
    world->exchange.request.method = method;
    world->exchange.request.body = bk_slice_from(body);
    expect_failure(world, BK_OUTBOUND_OK);
    (void)snprintf(expected, sizeof(expected), "%s / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n%s",
                   method, support_peer_port(world->peer), framing, body);
    assert_string_equal(world->seen, expected);
}

static void test_each_method_has_the_body_that_it_should(void **state) {
    struct world world;
    setup_world(&world, state, serve_answer);
    expect_request(&world, "GET", "", "");
    expect_request(&world, "HEAD", "", "");
    expect_request(&world, "DELETE", "", "");
    expect_request(&world, "OPTIONS", "", "");
    expect_request(&world, "PROPFIND", "", "");
    expect_request(&world, "POST", "", "Content-Length: 0\r\n");
    expect_request(&world, "PUT", "", "Content-Length: 0\r\n");
    expect_request(&world, "PATCH", "", "Content-Length: 0\r\n");
    expect_request(&world, "PATCH", "abc", "Content-Length: 3\r\n");
    expect_request(&world, "DELETE", "abc", "Content-Length: 3\r\n");
    expect_request(&world, "GET", "abc", "Content-Length: 3\r\n");
    assert_int_equal(support_peer_connection_count(world.peer), 1);
    teardown_world(&world);
}

static void test_a_large_body_is_sent_without_asking_first(void **state) {
    static char body[3 * 1024 * 1024];
    struct world world;
    setup_world(&world, state, serve_answer);
    memset(body, 'x', sizeof(body));
    world.exchange.request.method = "PUT";
    world.exchange.request.body = bk_slice_make(body, 48 * 1024);
    expect_failure(&world, BK_OUTBOUND_OK);
    assert_null(strstr(world.seen, "Expect"));
    teardown_world(&world);
}

static void test_a_connection_is_used_again(void **state) {
    struct bk_outbound_figures figures;
    struct world world;
    setup_world(&world, state, serve_answer);
    for (int i = 0; i < 5; i++) {
        expect_failure(&world, BK_OUTBOUND_OK);
        assert_int_equal(world.exchange.request.was_reused, i > 0);
    }
    assert_int_equal(support_peer_connection_count(world.peer), 1);
    assert_int_equal(bk_outbound_figures(world.outbound, &figures, 1), 1);
    assert_string_equal(figures.name, "test");
    assert_int_equal(figures.requests, 5);
    assert_int_equal(figures.failures, 0);
    assert_int_equal(figures.connections, 1);
    assert_int_equal(figures.connections_opened, 1);
    assert_true(figures.bytes_sent > 0 && figures.bytes_received > 0);
    teardown_world(&world);
}

/* Handles of libcurl are used again, too. */
static void test_nothing_of_a_request_is_in_the_next(void **state) {
    static const struct bk_outbound_header header = {BK_SLICE_INIT("Authorization"),
                                                     BK_SLICE_INIT("Bearer secret")};
    struct world world;
    setup_world(&world, state, serve_answer);
    world.answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello";
    world.exchange.request.method = "POST";
    world.exchange.request.headers = &header;
    world.exchange.request.header_count = 1;
    world.exchange.request.body = BK_SLICE("{}");
    world.exchange.request.answer_max_bytes = 2;
    world.exchange.request.cuts_answer = true;
    expect_failure(&world, BK_OUTBOUND_OK);
    assert_string_equal(world.exchange.answer, "He");
    support_exchange_init(&world.exchange, support_peer_port(world.peer), "/");
    expect_request(&world, "GET", "", "");
    assert_string_equal(world.exchange.answer, "Hello");
    assert_false(world.exchange.request.was_cut);
    world.answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    expect_request(&world, "HEAD", "", "");
    world.answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello";
    expect_request(&world, "GET", "", "");
    assert_string_equal(world.exchange.answer, "Hello");
    teardown_world(&world);
}

static void test_a_connection_that_was_closed_meanwhile_costs_nothing_but_a_new_one(void **state) {
    struct world world;
    setup_world(&world, state, serve_answer);
    world.ends = true;
    for (int i = 0; i < 3; i++) {
        expect_failure(&world, BK_OUTBOUND_OK);
        support_loop_run_for(world.loop, 20);
    }
    assert_int_equal(support_peer_connection_count(world.peer), 3);
    teardown_world(&world);
}

/* --- what may come back ----------------------------------------------------------------------- */

static void test_redirects_are_not_followed(void **state) {
    struct world world;
    setup_world(&world, state, serve_answer);
    world.answer = "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n"
                   "Content-Length: 0\r\n\r\n";
    world.exchange.header_name = "LOCATION";
    expect_failure(&world, BK_OUTBOUND_OK);
    assert_int_equal(world.exchange.request.status, 302);
    assert_string_equal(world.exchange.header, "file:///etc/passwd");
    teardown_world(&world);
}

static void test_what_is_compressed_stays_compressed(void **state) {
    struct world world;
    setup_world(&world, state, serve_answer);
    world.answer =
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x01";
    expect_failure(&world, BK_OUTBOUND_OK);
    assert_string_equal(world.exchange.answer, "\x1f\x8b\x08\x01");
    teardown_world(&world);
}

static void test_chunks_are_put_together_and_trailers_left_out(void **state) {
    struct world world;
    setup_world(&world, state, serve_answer);
    world.answer = "HTTP/1.1 103 Early\r\nX-A: early\r\n\r\n"
                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "3\r\nabc\r\n2\r\nde\r\n0\r\nX-A: late\r\n\r\n";
    world.exchange.header_name = "x-a";
    expect_failure(&world, BK_OUTBOUND_OK);
    assert_int_equal(world.exchange.request.status, 200);
    assert_string_equal(world.exchange.answer, "abcde");
    assert_string_equal(world.exchange.header, "");
    teardown_world(&world);
}

static const char FIVE_BYTES[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello";
static const char FIVE_IN_CHUNKS[] =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nHel\r\n2\r\nlo\r\n0\r\n\r\n";

static void expect_size(void **state, const char *answer, size_t max_bytes, bool cuts,
                        enum bk_outbound_failure failure, const char *kept) {
    struct world world;
    setup_world(&world, state, serve_answer);
    world.answer = answer;
    world.exchange.request.answer_max_bytes = max_bytes;
    world.exchange.request.cuts_answer = cuts;
    expect_failure(&world, failure);
    if (failure == BK_OUTBOUND_OK) {
        assert_string_equal(world.exchange.answer, kept);
        assert_int_equal(world.exchange.request.status, 200);
        assert_int_equal(world.exchange.request.was_cut, strlen(kept) < 5);
    }
    teardown_world(&world);
}

static void test_an_answer_has_a_maximum(void **state) {
    const char *answers[] = {FIVE_BYTES, FIVE_IN_CHUNKS};
    for (size_t i = 0; i < BK_COUNT_OF(answers); i++) {
        expect_size(state, answers[i], 5, false, BK_OUTBOUND_OK, "Hello");
        expect_size(state, answers[i], 4, false, BK_OUTBOUND_TOO_LARGE, NULL);
        expect_size(state, answers[i], 0, false, BK_OUTBOUND_TOO_LARGE, NULL);
        expect_size(state, answers[i], 5, true, BK_OUTBOUND_OK, "Hello");
        expect_size(state, answers[i], 4, true, BK_OUTBOUND_OK, "Hell");
        expect_size(state, answers[i], 0, true, BK_OUTBOUND_OK, "");
        expect_size(state, answers[i], SIZE_MAX, false, BK_OUTBOUND_OK, "Hello");
    }
}

/* Headers without end; the connection's index says of which kind. */
static void serve_endless_head(struct support_connection *connection) {
    static char line[1000];
    memset(line, 'x', sizeof(line) - 1);
    if (support_connection_read(connection, "\r\n\r\n") == NULL)
        return;
    (void)support_connection_send(connection, "HTTP/1.1 200 OK\r\nX-A: ");
    while (support_connection_send(connection, line)) {
        const char *end = connection->index == 0   ? "\r\nX-A: "
                          : connection->index == 1 ? ""
                                                   : "\r\n\r\nHTTP/1.1 100 Continue\r\nX-A: ";
        (void)support_connection_send(connection, end);
    }
}

static void test_a_head_has_a_maximum(void **state) {
    struct world world;
    setup_world(&world, state, serve_endless_head);
    for (int kind = 0; kind < 3; kind++)
        expect_failure(&world, BK_OUTBOUND_TOO_LARGE);
    teardown_world(&world);
}

static void test_an_answer_that_is_cut_is_no_answer(void **state) {
    expect_failure_of(state, "", BK_OUTBOUND_CUT);
    expect_failure_of(state, "HTTP/1.1 200 OK\r\nContent-Le", BK_OUTBOUND_CUT);
    expect_failure_of(state, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nHello", BK_OUTBOUND_CUT);
    expect_failure_of(state, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHel",
                      BK_OUTBOUND_CUT);
    expect_failure_of(state, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n",
                      BK_OUTBOUND_CUT);
}

static void serve_reset(struct support_connection *connection) {
    (void)support_connection_read(connection, "\r\n\r\n");
    (void)support_connection_send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
    (void)usleep(20000);
    support_connection_reset(connection);
}

static void test_a_reset_in_the_middle_is_a_cut(void **state) {
    struct world world;
    setup_world(&world, state, serve_reset);
    expect_failure(&world, BK_OUTBOUND_CUT);
    teardown_world(&world);
}

static void test_garbage_is_told_from_an_answer(void **state) {
    expect_failure_of(state, "220 mail.example.com ESMTP\r\n\r\n", BK_OUTBOUND_PROTOCOL);
    expect_failure_of(state, "\x16\x03\x01\x02\x01\x02", BK_OUTBOUND_PROTOCOL);
    /* libcurl has one code for this and for an end in the middle. */
    expect_failure_of(state, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
                      BK_OUTBOUND_CUT);
    expect_failure_of(state, "HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\nHello",
                      BK_OUTBOUND_PROTOCOL);
}

/* --- peers that are slow, or not there -------------------------------------------------------- */

static void serve_silence(struct support_connection *connection) {
    support_connection_hang(connection);
}

static void serve_trickle(struct support_connection *connection) {
    if (support_connection_read(connection, "\r\n\r\n") == NULL ||
        !support_connection_send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"))
        return;
    while (support_connection_send(connection, "x"))
        (void)usleep(20000);
}

static void expect_timeout(void **state, void (*serve)(struct support_connection *connection)) {
    uint64_t start_ns = bk_clock_monotonic_ns();
    struct world world;
    setup_world(&world, state, serve);
    world.exchange.request.timeout_ms = 200;
    expect_failure(&world, BK_OUTBOUND_TIMEOUT);
    assert_in_range((bk_clock_monotonic_ns() - start_ns) / 1000000, 150, 2000);
    teardown_world(&world);
}

static void test_a_peer_that_says_nothing_times_out(void **state) {
    expect_timeout(state, serve_silence);
}

static void test_a_peer_that_trickles_times_out(void **state) {
    expect_timeout(state, serve_trickle);
}

static void test_a_peer_that_does_not_take_the_connection_times_out(void **state) {
    struct support_full_listener *listener = support_full_listener_create();
    struct world world;
    setup_world(&world, state, serve_answer);
    support_exchange_init(&world.exchange, support_full_listener_port(listener), "/");
    world.exchange.request.connect_timeout_ms = 200;
    expect_failure(&world, BK_OUTBOUND_TIMEOUT);
    support_full_listener_destroy(listener);
    teardown_world(&world);
}

static void test_a_port_that_nobody_listens_on_is_refused(void **state) {
    struct world world;
    setup_world(&world, state, serve_answer);
    support_exchange_init(&world.exchange, support_closed_port(), "/");
    expect_failure(&world, BK_OUTBOUND_CONNECT);
    teardown_world(&world);
}

static void test_a_name_that_nobody_has_is_told(void **state) {
    struct world world;
    setup_world(&world, state, serve_answer);
    (void)snprintf(world.exchange.url, sizeof(world.exchange.url), "http://nobody.invalid/");
    world.exchange.request.url = bk_slice_from(world.exchange.url);
    world.exchange.request.connect_timeout_ms = 1000;
    run(&world);
    /* A machine without a network may have a resolver that never answers. */
    assert_true(world.exchange.request.failure == BK_OUTBOUND_RESOLVE ||
                world.exchange.request.failure == BK_OUTBOUND_TIMEOUT);
    teardown_world(&world);
}

static void serve_no_tls(struct support_connection *connection) {
    (void)support_connection_send(connection, "220 this is no TLS\r\n");
    support_connection_hang(connection);
}

static void test_a_peer_without_tls_is_no_secure_one(void **state) {
    struct world world;
    setup_world(&world, state, serve_no_tls);
    (void)snprintf(world.exchange.url, sizeof(world.exchange.url), "https://127.0.0.1:%u/",
                   support_peer_port(world.peer));
    world.exchange.request.url = bk_slice_from(world.exchange.url);
    expect_failure(&world, BK_OUTBOUND_TLS);
    teardown_world(&world);
}

static void test_proxies_of_the_environment_are_not_asked(void **state) {
    struct world world;
    char proxy[64];
    (void)snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", support_closed_port());
    assert_int_equal(setenv("http_proxy", proxy, 1), 0);
    assert_int_equal(setenv("all_proxy", proxy, 1), 0);
    setup_world(&world, state, serve_answer);
    expect_failure(&world, BK_OUTBOUND_OK);
    teardown_world(&world);
    (void)unsetenv("http_proxy");
    (void)unsetenv("all_proxy");
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_an_answer_comes_back_whole),
        LOOP_TEST(test_headers_are_sent_as_given_and_no_others),
        LOOP_TEST(test_each_method_has_the_body_that_it_should),
        LOOP_TEST(test_a_large_body_is_sent_without_asking_first),
        LOOP_TEST(test_a_connection_is_used_again),
        LOOP_TEST(test_nothing_of_a_request_is_in_the_next),
        LOOP_TEST(test_a_connection_that_was_closed_meanwhile_costs_nothing_but_a_new_one),
        LOOP_TEST(test_redirects_are_not_followed),
        LOOP_TEST(test_what_is_compressed_stays_compressed),
        LOOP_TEST(test_chunks_are_put_together_and_trailers_left_out),
        LOOP_TEST(test_an_answer_has_a_maximum),
        LOOP_TEST(test_a_head_has_a_maximum),
        LOOP_TEST(test_an_answer_that_is_cut_is_no_answer),
        LOOP_TEST(test_a_reset_in_the_middle_is_a_cut),
        LOOP_TEST(test_garbage_is_told_from_an_answer),
        LOOP_TEST(test_a_peer_that_says_nothing_times_out),
        LOOP_TEST(test_a_peer_that_trickles_times_out),
        LOOP_TEST(test_a_peer_that_does_not_take_the_connection_times_out),
        LOOP_TEST(test_a_port_that_nobody_listens_on_is_refused),
        LOOP_TEST(test_a_name_that_nobody_has_is_told),
        LOOP_TEST(test_a_peer_without_tls_is_no_secure_one),
        LOOP_TEST(test_proxies_of_the_environment_are_not_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
