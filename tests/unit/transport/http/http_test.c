/* Requests and answers on a connection, as clients see them. */
#include "http_fixture.h"

#include "bakend/alloc.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HELLO "GET /api/hello HTTP/1.1\r\nHost: a\r\n\r\n"

static struct support_http server;
static struct support_client client;

static int setup(void **state) {
    (void)state;
    support_http_start(&server, NULL);
    support_client_connect(&client, &server);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_client_close(&client);
    support_http_stop(&server);
    return 0;
}

static void answers_a_request(void **state) {
    (void)state;
    support_client_send(&client, HELLO);
    support_client_wait(&client, "{\"hello\":\"world\"}");
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 200 OK\r\n"), client.data);
    assert_non_null(strstr(client.data, "\r\nDate: "));
    assert_non_null(strstr(client.data, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(client.data, "\r\nContent-Length: 17\r\n\r\n{"));
    assert_non_null(strstr(client.data, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_null(strstr(client.data, "Connection:"));
}

static void keeps_the_connection(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        support_client_clear(&client);
        support_client_send(&client, HELLO);
        support_client_wait(&client, "{\"hello\":\"world\"}");
    }
    assert_int_equal(bk_http_figures(server.http).accepted, 1);
}

static void reads_a_request_that_comes_byte_by_byte(void **state) {
    static const char text[] =
        "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        support_client_send_bytes(&client, text + i, 1);
        support_loop_run_for(server.loop, 1);
    }
    support_client_wait(&client, "\r\n\r\nhello");
}

static void answers_pipelined_requests_in_order(void **state) {
    (void)state;
    support_client_send(&client, HELLO "GET /api/later HTTP/1.1\r\nHost: a\r\n\r\n"
                                       "GET /api/nothing HTTP/1.1\r\nHost: a\r\n\r\n" HELLO);
    support_client_wait(&client, "world");
    support_loop_run_for(server.loop, 20);
    assert_int_equal(support_client_count(&client, "HTTP/1.1 "), 1);
    support_http_answer_later(&server);
    support_client_wait_count(&client, "world", 3);
    assert_int_equal(support_client_count(&client, "HTTP/1.1 "), 4);
    assert_non_null(strstr(client.data, "404"));
}

static void ends_the_connection_when_asked(void **state) {
    (void)state;
    support_client_send(&client, "GET /api/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    support_client_wait_end(&client);
    assert_true(client.has_eof);
    assert_non_null(strstr(client.data, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(client.data, "world"));
}

static void speaks_http_1_0(void **state) {
    struct support_client other;
    (void)state;
    support_client_send(&client, "GET /api/hello HTTP/1.0\r\n\r\n");
    support_client_wait_end(&client);
    assert_non_null(strstr(client.data, "\r\nConnection: close\r\n"));
    support_client_connect(&other, &server);
    for (int i = 1; i <= 2; i++) {
        support_client_send(&other, "GET /api/hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        support_client_wait_count(&other, "world", (size_t)i);
    }
    assert_non_null(strstr(other.data, "\r\nConnection: keep-alive\r\n"));
    support_client_close(&other);
}

static void answers_head_without_a_body(void **state) {
    (void)state;
    support_client_send(&client, "HEAD /api/hello HTTP/1.1\r\nHost: a\r\n\r\n" HELLO);
    support_client_wait(&client, "world");
    assert_int_equal(support_client_count(&client, "Content-Length: 17"), 2);
    assert_int_equal(support_client_count(&client, "world"), 1);
}

static void answers_a_preflight_without_a_length(void **state) {
    (void)state;
    support_client_send(&client, "OPTIONS /api/nothing HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n"
                                 "Access-Control-Request-Headers: x-custom\r\n\r\n");
    support_client_wait(&client, "\r\n\r\n");
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 204 No Content\r\n"), client.data);
    assert_null(strstr(client.data, "Content-"));
    assert_non_null(strstr(client.data, "\r\nAccess-Control-Allow-Headers: x-custom\r\n"));
    assert_non_null(strstr(client.data, "\r\nAccess-Control-Allow-Origin: *\r\n"));
}

static void reads_a_chunked_body(void **state) {
    (void)state;
    support_client_send(&client,
                        "POST /api/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                        "\r\n3\r\nabc\r\n5;name=value\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\n");
    support_client_wait(&client, "\r\n\r\nabcdefgh");
    support_client_send(&client, HELLO);
    support_client_wait(&client, "world");
}

static void sends_100_continue(void **state) {
    (void)state;
    support_client_send(&client, "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                                 "Expect: 100-continue\r\n\r\n");
    support_client_wait(&client, "HTTP/1.1 100 Continue\r\n\r\n");
    support_client_send(&client, "hello");
    support_client_wait(&client, "\r\n\r\nhello");
}

static void refuses_a_large_body_before_it_is_sent(void **state) {
    (void)state;
    support_client_send(&client, "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n"
                                 "Expect: 100-continue\r\n\r\n");
    support_client_wait_end(&client);
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 413 "), client.data);
    assert_non_null(strstr(client.data, "The body may have at most 65536 bytes."));
    assert_non_null(strstr(client.data, "Connection: close"));
}

static void goes_on_after_a_body_that_is_a_little_too_large(void **state) {
    char *body = bk_alloc(200000);
    (void)state;
    memset(body, 'x', 200000);
    support_client_send(&client,
                        "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    support_client_send_bytes(&client, body, 200000);
    support_client_send(&client, HELLO);
    support_client_wait(&client, "world");
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 413 "), client.data);
    bk_free(body);
}

static void refuses_a_chunked_body_that_grows_too_large(void **state) {
    char chunk[1024];
    (void)state;
    memset(chunk, 'x', sizeof(chunk));
    support_client_send(&client, "POST /api/echo HTTP/1.1\r\nHost: a\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 65; i++) {
        support_client_send(&client, "400\r\n");
        support_client_send_bytes(&client, chunk, sizeof(chunk));
        support_client_send(&client, "\r\n");
    }
    support_client_send(&client, "0\r\n\r\n" HELLO);
    support_client_wait(&client, "world");
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 413 "), client.data);
}

static void goes_on_after_malformed_json(void **state) {
    (void)state;
    support_client_send(&client, "POST /api/json HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                                 "Content-Type: application/json\r\n\r\n{" HELLO);
    support_client_wait(&client, "world");
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 400 "), client.data);
    assert_non_null(strstr(client.data, "An error occurred while loading the submitted data."));
}

static void wants_json_to_be_called_json(void **state) {
    (void)state;
    support_client_send(&client, "POST /api/json HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                                 "Content-Type: text/plain\r\n\r\n{}" HELLO);
    support_client_wait(&client, "world");
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 400 "), client.data);
}

static void sends_large_answers_whole(void **state) {
    (void)state;
    support_client_send(&client, "GET /api/big HTTP/1.1\r\nHost: a\r\n\r\n" HELLO);
    support_client_wait(&client, "world");
    assert_true(client.length > SUPPORT_HTTP_BIG_BYTES);
    assert_non_null(strstr(client.data, "\r\nContent-Length: 100000\r\n"));
}

static void streams_in_chunks(void **state) {
    (void)state;
    support_client_send(&client, "GET /api/stream HTTP/1.1\r\nHost: a\r\n\r\n" HELLO);
    support_client_wait(&client, "world");
    assert_non_null(strstr(client.data, "\r\nTransfer-Encoding: chunked\r\n"));
    assert_non_null(
        strstr(client.data, "\r\n\r\n4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\nHTTP"));
}

static void streams_to_http_1_0_until_the_end(void **state) {
    (void)state;
    support_client_send(&client, "GET /api/stream HTTP/1.0\r\n\r\n");
    support_client_wait_end(&client);
    assert_non_null(strstr(client.data, "\r\n\r\none,two,three"));
}

static void waits_for_a_slow_reader(void **state) {
    (void)state;
    support_client_send(&client, "GET /api/flood HTTP/1.1\r\nHost: a\r\n\r\n");
    support_client_wait_bytes(&client, SUPPORT_HTTP_FLOOD_BYTES);
    support_client_wait(&client, "0\r\n\r\n");
    assert_true(server.stop_count > 10);
}

static void tells_a_waiting_request_that_its_client_left(void **state) {
    struct support_client other;
    (void)state;
    support_client_connect(&other, &server);
    support_client_send(&other, "GET /api/wait HTTP/1.1\r\nHost: a\r\n\r\n");
    while (server.later == NULL)
        support_loop_run_for(server.loop, 1);
    support_client_close(&other);
    while (server.abort_count == 0)
        support_loop_run_for(server.loop, 1);
    support_client_send(&client, HELLO);
    support_client_wait(&client, "world");
    assert_int_equal(bk_http_figures(server.http).connections, 1);
    assert_int_equal(bk_http_figures(server.http).requests, 0);
}

static void drops_the_answer_for_a_client_that_left(void **state) {
    struct support_client other;
    (void)state;
    support_client_connect(&other, &server);
    support_client_send(&other, "GET /api/later HTTP/1.1\r\nHost: a\r\n\r\n");
    while (server.later == NULL)
        support_loop_run_for(server.loop, 1);
    support_client_close(&other);
    support_loop_run_for(server.loop, 10);
    support_http_answer_later(&server);
    support_loop_run_for(server.loop, 10);
    assert_int_equal(bk_http_figures(server.http).connections, 1);
    assert_int_equal(bk_api_figures(server.api)->in_flight, 0);
}

static void answers_a_client_that_half_closed(void **state) {
    (void)state;
    support_client_send(&client, "GET /api/later HTTP/1.1\r\nHost: a\r\n\r\n");
    support_client_half_close(&client);
    while (server.later == NULL)
        support_loop_run_for(server.loop, 1);
    support_loop_run_for(server.loop, 10);
    support_http_answer_later(&server);
    support_client_wait_end(&client);
    assert_non_null(strstr(client.data, "world"));
}

static void takes_a_full_url_as_target(void **state) {
    (void)state;
    support_client_send(&client, "GET http://a/api/hello?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    support_client_wait(&client, "world");
}

static void forgives_one_empty_line_between_requests(void **state) {
    (void)state;
    support_client_send(&client, HELLO "\r\n" HELLO);
    support_client_wait_count(&client, "world", 2);
}

static void serves_the_control_socket_as_the_system(void **state) {
    char *directory = support_directory_create();
    char path[256];
    struct support_client other;
    struct stat info;
    struct bk_error error = BK_ERROR_INIT;
    (void)state;
    (void)snprintf(path, sizeof(path), "%s/control.sock", directory);
    assert_int_equal(bk_http_listen_control(server.http, path, &error), BK_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    support_client_connect_path(&other, &server, path);
    support_client_send(&other, "GET /api/address HTTP/1.1\r\nHost: a\r\n\r\n");
    support_client_wait(&other, "control=1");
    support_client_close(&other);
    support_client_send(&client, "GET /api/address HTTP/1.1\r\nHost: a\r\n\r\n");
    support_client_wait(&client, "\"127.0.0.1\" control=0");
    support_directory_remove(directory);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(answers_a_request),
        TEST(keeps_the_connection),
        TEST(reads_a_request_that_comes_byte_by_byte),
        TEST(answers_pipelined_requests_in_order),
        TEST(ends_the_connection_when_asked),
        TEST(speaks_http_1_0),
        TEST(answers_head_without_a_body),
        TEST(answers_a_preflight_without_a_length),
        TEST(reads_a_chunked_body),
        TEST(sends_100_continue),
        TEST(refuses_a_large_body_before_it_is_sent),
        TEST(goes_on_after_a_body_that_is_a_little_too_large),
        TEST(refuses_a_chunked_body_that_grows_too_large),
        TEST(goes_on_after_malformed_json),
        TEST(wants_json_to_be_called_json),
        TEST(sends_large_answers_whole),
        TEST(streams_in_chunks),
        TEST(streams_to_http_1_0_until_the_end),
        TEST(waits_for_a_slow_reader),
        TEST(tells_a_waiting_request_that_its_client_left),
        TEST(drops_the_answer_for_a_client_that_left),
        TEST(answers_a_client_that_half_closed),
        TEST(takes_a_full_url_as_target),
        TEST(forgives_one_empty_line_between_requests),
        TEST(serves_the_control_socket_as_the_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
