/* The client of the control socket: answers as the server sends them, and those cut off anywhere.
 */
#include "cli_private.h"
#include "support.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct answer {
    int status;
    char body[256];
    struct bk_error error;
};

/* Lets the client read `text` from the other end of a pair, which then closes. */
static struct answer exchange(struct bk_slice text, size_t room) {
    struct answer answer = {.error = BK_ERROR_INIT};
    struct bk_buffer out;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(write(ends[1], text.data, text.length), (ssize_t)text.length);
    shutdown(ends[1], SHUT_WR);
    bk_buffer_init(&out, room);
    struct control_request request = {
        .method = BK_POST, .target = "/api/x", .tenant = BK_SLICE("acme"), .body = BK_SLICE("{}")};
    answer.status = control_client_call(ends[0], &request, &out, &answer.error);
    assert_true(out.length < sizeof answer.body);
    if (out.length > 0)
        memcpy(answer.body, out.data, out.length);
    answer.body[out.length] = '\0';
    bk_buffer_fini(&out);
    close(ends[1]);
    return answer;
}

static void test_a_body_with_a_length(void **state) {
    (void)state;
    struct answer answer = exchange(BK_SLICE("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), 64);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "{}");
}

static void test_a_chunked_body(void **state) {
    (void)state;
    struct answer answer = exchange(BK_SLICE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                             "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"),
                                    64);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "abc0123456789");
}

static void test_an_answer_without_a_body(void **state) {
    (void)state;
    struct answer answer = exchange(BK_SLICE("HTTP/1.1 204 No Content\r\n\r\n"), 64);
    assert_int_equal(answer.status, 204);
    assert_string_equal(answer.body, "");
}

static void test_an_answer_cut_off_anywhere_is_a_failure(void **state) {
    (void)state;
    struct bk_slice plain = BK_SLICE("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde");
    struct bk_slice chunked = BK_SLICE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                       "5\r\nabcde\r\n0\r\n");
    for (size_t length = 0; length < plain.length; length++)
        assert_int_equal(exchange(bk_slice_make(plain.data, length), 64).status, -1);
    for (size_t length = 0; length + 2 < chunked.length; length++)
        assert_int_equal(exchange(bk_slice_make(chunked.data, length), 64).status, -1);
}

static void test_an_answer_larger_than_the_buffer_is_a_failure(void **state) {
    (void)state;
    struct answer answer =
        exchange(BK_SLICE("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"), 4);
    assert_int_equal(answer.status, -1);
    assert_non_null(strstr(answer.error.message, "too large"));
}

static void test_what_is_not_http_is_a_failure(void **state) {
    (void)state;
    assert_int_equal(exchange(BK_SLICE("hello\r\n\r\n"), 64).status, -1);
    assert_int_equal(exchange(BK_SLICE("HTTP/1.1 abc OK\r\n\r\n"), 64).status, -1);
    assert_int_equal(
        exchange(BK_SLICE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), 64)
            .status,
        -1);
}

static void test_the_request_names_the_tenant_and_the_length(void **state) {
    (void)state;
    struct bk_buffer out;
    char sent[1024];
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    shutdown(ends[1], SHUT_WR);
    bk_buffer_init(&out, 64);
    struct control_request request = {
        .method = BK_POST, .target = "/api/x", .tenant = BK_SLICE("acme"), .body = BK_SLICE("{}")};
    struct bk_error error = BK_ERROR_INIT;
    assert_int_equal(control_client_call(ends[0], &request, &out, &error), -1);
    ssize_t length = read(ends[1], sent, sizeof sent - 1);
    assert_true(length > 0);
    sent[length] = '\0';
    assert_string_equal(sent, "POST /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                              "X-Bakend-Tenant: acme\r\nContent-Type: application/json\r\n"
                              "Content-Length: 2\r\n\r\n{}");
    bk_buffer_fini(&out);
    close(ends[1]);
}

static void test_no_server_is_no_connection(void **state) {
    assert_int_equal(control_client_connect(*state), -1);
    assert_int_equal(control_client_connect("/missing"), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_body_with_a_length),
        cmocka_unit_test(test_a_chunked_body),
        cmocka_unit_test(test_an_answer_without_a_body),
        cmocka_unit_test(test_an_answer_cut_off_anywhere_is_a_failure),
        cmocka_unit_test(test_an_answer_larger_than_the_buffer_is_a_failure),
        cmocka_unit_test(test_what_is_not_http_is_a_failure),
        cmocka_unit_test(test_the_request_names_the_tenant_and_the_length),
        cmocka_unit_test_setup_teardown(test_no_server_is_no_connection, support_directory_setup,
                                        support_directory_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
