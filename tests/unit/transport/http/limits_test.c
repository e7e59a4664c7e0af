/* Limits and times: each is reached here, and the server goes on. */
#include "http_fixture.h"

#include "bakend/alloc.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define HELLO "GET /api/hello HTTP/1.1\r\nHost: a\r\n\r\n"

static struct support_http server;
static struct support_client client;

static void start(void (*configure)(struct bk_http_options *)) {
    support_http_start(&server, configure);
    support_client_connect(&client, &server);
}

static void stop(void) {
    support_client_close(&client);
    support_http_stop(&server);
}

static void send_many(const char *text, size_t count) {
    size_t length = strlen(text);
    char *all = bk_alloc(length * count);
    for (size_t i = 0; i < count; i++)
        memcpy(all + i * length, text, length);
    support_client_send_bytes(&client, all, length * count);
    bk_free(all);
}

static void expect_refusal(const char *line) {
    support_client_wait_end(&client);
    if (strncmp(client.data, line, strlen(line)) != 0)
        fail_msg("expected %s, got:\n%s", line, client.data);
    assert_int_equal(support_client_count(&client, "HTTP/1.1 "), 1);
    stop();
}

static void refuses_a_long_request_line(void **state) {
    (void)state;
    start(NULL);
    support_client_send(&client, "GET /");
    send_many("x", 8200);
    expect_refusal("HTTP/1.1 414 ");
    start(NULL);
    support_client_send(&client, "GET /");
    send_many("x", 8200);
    support_client_send(&client, " HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_refusal("HTTP/1.1 414 ");
}

static void refuses_long_headers(void **state) {
    (void)state;
    start(NULL);
    support_client_send(&client, "GET /api/hello HTTP/1.1\r\nHost: a\r\nX: ");
    send_many("x", 17000);
    expect_refusal("HTTP/1.1 431 ");
}

static void refuses_more_than_100_headers(void **state) {
    (void)state;
    start(NULL);
    support_client_send(&client, "GET /api/hello HTTP/1.1\r\nHost: a\r\n");
    send_many("X: y\r\n", 99);
    support_client_send(&client, "\r\n");
    support_client_wait(&client, "world");
    stop();
    start(NULL);
    support_client_send(&client, "GET /api/hello HTTP/1.1\r\nHost: a\r\n");
    send_many("X: y\r\n", 100);
    support_client_send(&client, "\r\n");
    expect_refusal("HTTP/1.1 431 ");
}

static void refuses_more_than_100_query_parameters(void **state) {
    (void)state;
    start(NULL);
    support_client_send(&client, "GET /api/hello?a");
    send_many("&a", 100);
    support_client_send(&client, " HTTP/1.1\r\nHost: a\r\n\r\n" HELLO);
    support_client_wait(&client, "world");
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 400 "), client.data);
    stop();
}

static void refuses_a_body_that_is_mostly_chunk_extensions(void **state) {
    (void)state;
    start(NULL);
    support_client_send(&client, "POST /api/echo HTTP/1.1\r\nHost: a\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n1;");
    send_many("x", 9000);
    expect_refusal("HTTP/1.1 400 ");
}

static void refuses_endless_trailers(void **state) {
    (void)state;
    start(NULL);
    support_client_send(&client, "POST /api/echo HTTP/1.1\r\nHost: a\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n0\r\n");
    send_many("X: y\r\n", 2000);
    expect_refusal("HTTP/1.1 400 ");
}

static void closes_rather_than_read_a_huge_unwanted_body(void **state) {
    (void)state;
    start(NULL);
    support_client_send(&client, "POST /api/echo HTTP/1.1\r\nHost: a\r\n"
                                 "Content-Length: 50000000\r\n\r\n");
    expect_refusal("HTTP/1.1 413 ");
}

static void little_discarded(struct bk_http_options *options) {
    options->discard_max_bytes = 48 * 1024;
}

#define CHUNKED_HEAD " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

/* Most of them are framing: what the client sent is what counts, not what is in the chunks. */
static void reads_no_more_of_small_chunks_than_of_large_ones(void **state) {
    (void)state;
    start(little_discarded);
    support_client_send(&client, "POST /api/nothing" CHUNKED_HEAD);
    support_client_wait(&client, "HTTP/1.1 404 ");
    send_many("1\r\nx\r\n", 10000);
    support_client_wait_end(&client);
    stop();
}

/* Who stops then is not waited for: no more need come for the connection to end. */
static void closes_after_a_chunked_body_that_was_too_large(void **state) {
    (void)state;
    start(little_discarded);
    support_client_send(&client, "POST /api/echo" CHUNKED_HEAD);
    send_many("1\r\nx\r\n", SUPPORT_HTTP_ECHO_BYTES_MAX + 1);
    support_client_wait(&client, "\r\nConnection: close\r\n");
    expect_refusal("HTTP/1.1 413 ");
}

static void small_buffers(struct bk_http_options *options) { options->buffered_max_bytes = 1000; }

static void answers_503_when_bodies_fill_the_memory(void **state) {
    (void)state;
    start(small_buffers);
    support_client_send(&client,
                        "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    send_many("x", 1001);
    support_client_send(&client, HELLO);
    support_client_wait(&client, "world");
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 503 "), client.data);
    assert_non_null(strstr(client.data, "\r\nRetry-After: 1\r\n"));
    assert_int_equal(bk_http_figures(server.http).buffered_bytes, 0);
    stop();
}

/* --- times ------------------------------------------------------------------------------------ */

static void hasty(struct bk_http_options *options) {
    options->head_timeout_ms = options->body_timeout_ms = options->idle_timeout_ms = 300;
    options->write_timeout_ms = options->linger_timeout_ms = 300;
}

static void ends_a_head_that_does_not_come(void **state) {
    (void)state;
    start(hasty);
    support_client_send(&client, "GET /api/hello HTTP/1.1\r\nHost");
    expect_refusal("HTTP/1.1 408 ");
}

/* Bytes that drip in do not wind the clock of a head. */
static void ends_a_head_that_drips(void **state) {
    (void)state;
    start(hasty);
    support_client_send(&client, "GET /api/hello HTTP/1.1\r\nX: ");
    for (int i = 0; i < 40 && client.length == 0; i++) {
        support_client_send(&client, "x");
        support_loop_run_for(server.loop, 20);
    }
    expect_refusal("HTTP/1.1 408 ");
}

static void ends_a_body_that_stops(void **state) {
    (void)state;
    start(hasty);
    support_client_send(&client,
                        "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
    expect_refusal("HTTP/1.1 408 ");
}

static void wants_a_rate(struct bk_http_options *options) {
    options->body_timeout_ms = 300;
    options->body_rate_min = 1000000;
}

static void ends_a_body_that_drips(void **state) {
    (void)state;
    start(wants_a_rate);
    support_client_send(&client,
                        "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n");
    for (int i = 0; i < 100 && bk_http_figures(server.http).timeouts == 0; i++) {
        support_client_send(&client, "x");
        support_loop_run_for(server.loop, 20);
    }
    expect_refusal("HTTP/1.1 408 ");
}

/* Answered before its body came; the rest has its time in all, however it drips. */
static void ends_the_rest_of_a_body_that_drips(void **state) {
    (void)state;
    start(hasty);
    support_client_send(&client,
                        "POST /api/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n");
    support_client_wait(&client, "HTTP/1.1 404 ");
    for (int i = 0; i < 400 && bk_http_figures(server.http).timeouts == 0; i++) {
        support_client_send(&client, "x");
        support_loop_run_for(server.loop, 20);
    }
    assert_int_equal(bk_http_figures(server.http).timeouts, 1);
    support_client_wait_end(&client);
    assert_true(client.has_eof);
    stop();
}

static void closes_an_idle_connection_without_a_word(void **state) {
    (void)state;
    start(hasty);
    support_client_send(&client, HELLO);
    support_client_wait(&client, "world");
    support_client_clear(&client);
    support_client_wait_end(&client);
    assert_true(client.has_eof);
    assert_int_equal(client.length, 0);
    stop();
}

static void does_not_wait_for_a_reader_that_stopped(void **state) {
    (void)state;
    start(hasty);
    support_client_send(&client, "GET /api/flood HTTP/1.1\r\nHost: a\r\n\r\n");
    while (server.abort_count == 0 || bk_http_figures(server.http).connections > 0)
        support_loop_run_for(server.loop, 20);
    stop();
}

static void closes_when_a_client_does_not(void **state) {
    (void)state;
    start(hasty);
    support_client_send(&client, "GET /api/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    support_client_wait_end(&client);
    while (bk_http_figures(server.http).connections > 0)
        support_loop_run_for(server.loop, 20);
    stop();
}

static void wants_reading(struct bk_http_options *options) {
    options->write_timeout_ms = 300;
    options->read_rate_min = 1000000;
}

/* Reads a little now and then, so that something moves in every window. */
static void ends_a_reader_that_trickles(void **state) {
    char piece[1000];
    (void)state;
    start(wants_reading);
    support_client_send(&client, "GET /api/flood HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 400 && server.abort_count == 0; i++) {
        (void)recv(client.socket, piece, sizeof(piece), MSG_DONTWAIT);
        support_loop_run_for(server.loop, 20);
    }
    assert_int_equal(server.abort_count, 1);
    assert_int_equal(bk_http_figures(server.http).timeouts, 1);
    stop();
}

static void unhurried(struct bk_http_options *options) { options->write_timeout_ms = 1500; }

/* Slower than the socket's buffers empty, and still fast enough: it needs longer than the timeout
 * in all, and a seventh of it at a time. */
static void lets_a_slow_reader_finish(void **state) {
    (void)state;
    start(unhurried);
    send_many("GET /api/big HTTP/1.1\r\nHost: a\r\n\r\n", 50);
    for (size_t i = 1; i <= 10; i++) {
        support_loop_run_for(server.loop, 200);
        support_client_wait_bytes(&client, i * 5 * SUPPORT_HTTP_BIG_BYTES);
    }
    support_client_wait_count(&client, "HTTP/1.1 200 OK", 50);
    stop();
}

/* --- memory of all ---------------------------------------------------------------------------- */

enum { IDLERS = 10, ANSWERS_MAX_BYTES = 2 * 1024 * 1024 };

static void small_total(struct bk_http_options *options) {
    options->output_total_max_bytes = ANSWERS_MAX_BYTES;
}

static void cuts_who_holds_most_when_unread_answers_fill_the_memory(void **state) {
    struct support_client idlers[IDLERS];
    uint64_t highest = 0, cut;
    (void)state;
    start(small_total);
    for (size_t i = 0; i < IDLERS; i++) {
        support_client_connect(&idlers[i], &server);
        for (int n = 0; n < 80; n++)
            support_client_send(&idlers[i], "GET /api/big HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for (int i = 0; i < 100; i++) {
        uint64_t unsent;
        support_loop_run_for(server.loop, 5);
        unsent = bk_http_figures(server.http).unsent_bytes;
        highest = unsent > highest ? unsent : highest;
    }
    cut = bk_http_figures(server.http).overloads;
    assert_in_range(cut, 1, IDLERS - 1);
    assert_in_range(highest, ANSWERS_MAX_BYTES / 4, ANSWERS_MAX_BYTES);
    /* Who reads is served all the while. */
    support_client_send(&client, HELLO);
    support_client_wait(&client, "world");
    for (size_t i = 0; i < IDLERS; i++)
        support_client_close(&idlers[i]);
    while (bk_http_figures(server.http).connections > 1)
        support_loop_run_for(server.loop, 5);
    assert_int_equal(bk_http_figures(server.http).unsent_bytes, 0);
    stop();
}

static void little_pending(struct bk_http_options *options) { options->pending_max_bytes = 20000; }

static void stops_reading_when_much_waits(void **state) {
    (void)state;
    start(little_pending);
    support_client_send(&client, "GET /api/later HTTP/1.1\r\nHost: a\r\n\r\n");
    send_many(HELLO, 1500);
    for (int i = 0; i < 20; i++)
        support_loop_run_for(server.loop, 5);
    assert_in_range(bk_http_figures(server.http).pending_bytes, 20000, 64 * 1024);
    support_http_answer_later(&server);
    support_client_wait_count(&client, "world", 1501);
    assert_int_equal(bk_http_figures(server.http).pending_bytes, 0);
    stop();
}

/* --- many ------------------------------------------------------------------------------------- */

static void two_connections(struct bk_http_options *options) { options->connections_max = 2; }

static void makes_the_third_client_wait(void **state) {
    struct support_client second, third;
    (void)state;
    start(two_connections);
    support_client_connect(&second, &server);
    support_client_send(&client, HELLO);
    support_client_wait(&client, "world");
    support_client_send(&second, HELLO);
    support_client_wait(&second, "world");
    support_client_connect(&third, &server);
    support_client_send(&third, HELLO);
    support_loop_run_for(server.loop, 50);
    assert_int_equal(bk_http_figures(server.http).connections, 2);
    support_client_close(&second);
    support_client_wait(&third, "world");
    support_client_close(&third);
    stop();
}

static void does_not_run_ahead_of_a_client_that_does_not_read(void **state) {
    uint64_t answered;
    (void)state;
    start(NULL);
    send_many("GET /api/big HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    support_loop_run_for(server.loop, 100);
    answered = bk_api_figures(server.api)->requests;
    assert_true(answered < 150);
    support_client_wait_bytes(&client, 200 * SUPPORT_HTTP_BIG_BYTES);
    support_client_wait_count(&client, "HTTP/1.1 200 OK", 200);
    stop();
}

/* --- the end ---------------------------------------------------------------------------------- */

static void on_drained(void *user) { *(bool *)user = true; }

static void drains_gracefully(void **state) {
    struct support_client idle;
    bool is_drained = false;
    (void)state;
    start(NULL);
    support_client_connect(&idle, &server);
    support_client_send(&idle, HELLO);
    support_client_wait(&idle, "world");
    support_client_send(&client, "GET /api/later HTTP/1.1\r\nHost: a\r\n\r\n");
    while (server.later == NULL)
        support_loop_run_for(server.loop, 1);
    bk_http_drain(server.http, 5000, on_drained, &is_drained);
    assert_false(is_drained);
    support_client_wait_end(&idle);
    support_client_close(&idle);
    support_http_answer_later(&server);
    support_client_wait_end(&client);
    assert_non_null(strstr(client.data, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(client.data, "world"));
    support_loop_run_until(server.loop, &is_drained);
    server.is_drained = true;
    stop();
}

/* On a connection that idled and on one that was not accepted yet. */
static void answers_what_was_sent_before_the_drain(void **state) {
    struct support_client unaccepted;
    bool is_drained = false;
    (void)state;
    start(NULL);
    support_client_send(&client, HELLO);
    support_client_wait(&client, "world");
    support_client_send(&client, HELLO);
    support_client_connect(&unaccepted, &server);
    support_client_send(&unaccepted, HELLO);
    bk_http_drain(server.http, 5000, on_drained, &is_drained);
    support_client_wait_count(&client, "world", 2);
    support_client_wait(&unaccepted, "world");
    support_client_wait_end(&client);
    support_client_wait_end(&unaccepted);
    assert_non_null(strstr(client.data, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(unaccepted.data, "\r\nConnection: close\r\n"));
    assert_false(client.was_reset || unaccepted.was_reset);
    support_client_close(&unaccepted);
    support_loop_run_until(server.loop, &is_drained);
    server.is_drained = true;
    stop();
}

static void cuts_what_is_left_at_the_deadline(void **state) {
    bool is_drained = false;
    (void)state;
    start(NULL);
    support_client_send(&client, "GET /api/wait HTTP/1.1\r\nHost: a\r\n\r\n");
    while (server.later == NULL)
        support_loop_run_for(server.loop, 1);
    bk_http_drain(server.http, 300, on_drained, &is_drained);
    support_loop_run_until(server.loop, &is_drained);
    assert_int_equal(server.abort_count, 1);
    server.is_drained = true;
    stop();
}

static void waits_for_requests_whose_clients_left(void **state) {
    bool is_drained = false;
    (void)state;
    start(NULL);
    support_client_send(&client, "GET /api/later HTTP/1.1\r\nHost: a\r\n\r\n");
    while (server.later == NULL)
        support_loop_run_for(server.loop, 1);
    bk_http_drain(server.http, 5000, on_drained, &is_drained);
    bk_http_force(server.http);
    support_loop_run_for(server.loop, 20);
    assert_false(is_drained);
    support_http_answer_later(&server);
    support_loop_run_until(server.loop, &is_drained);
    server.is_drained = true;
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_a_long_request_line),
        cmocka_unit_test(refuses_long_headers),
        cmocka_unit_test(refuses_more_than_100_headers),
        cmocka_unit_test(refuses_more_than_100_query_parameters),
        cmocka_unit_test(refuses_a_body_that_is_mostly_chunk_extensions),
        cmocka_unit_test(refuses_endless_trailers),
        cmocka_unit_test(closes_rather_than_read_a_huge_unwanted_body),
        cmocka_unit_test(reads_no_more_of_small_chunks_than_of_large_ones),
        cmocka_unit_test(closes_after_a_chunked_body_that_was_too_large),
        cmocka_unit_test(answers_503_when_bodies_fill_the_memory),
        cmocka_unit_test(ends_a_head_that_does_not_come),
        cmocka_unit_test(ends_a_head_that_drips),
        cmocka_unit_test(ends_a_body_that_stops),
        cmocka_unit_test(ends_a_body_that_drips),
        cmocka_unit_test(ends_the_rest_of_a_body_that_drips),
        cmocka_unit_test(closes_an_idle_connection_without_a_word),
        cmocka_unit_test(does_not_wait_for_a_reader_that_stopped),
        cmocka_unit_test(ends_a_reader_that_trickles),
        cmocka_unit_test(lets_a_slow_reader_finish),
        cmocka_unit_test(cuts_who_holds_most_when_unread_answers_fill_the_memory),
        cmocka_unit_test(stops_reading_when_much_waits),
        cmocka_unit_test(closes_when_a_client_does_not),
        cmocka_unit_test(makes_the_third_client_wait),
        cmocka_unit_test(does_not_run_ahead_of_a_client_that_does_not_read),
        cmocka_unit_test(drains_gracefully),
        cmocka_unit_test(answers_what_was_sent_before_the_drain),
        cmocka_unit_test(cuts_what_is_left_at_the_deadline),
        cmocka_unit_test(waits_for_requests_whose_clients_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
