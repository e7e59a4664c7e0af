/*
 * Requests that two readers could read in two ways, over real sockets. Each is refused, the
 * connection is closed, and the request hidden in it is never answered.
 */
#include "http_fixture.h"

#include <stdio.h>
#include <string.h>

/* What a smuggler hides: if it were ever answered, "world" would come. */
#define HIDDEN "GET /api/hello HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST "POST /api/echo HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

struct row {
    const char *name;
    int status;
    const char *request;
};

static const struct row rows[] = {
    /* Line ends. */
    {"bare LF after the request line", 400, "GET /api/hello HTTP/1.1\nHost: a\r\n\r\n" HIDDEN},
    {"bare LF after a header", 400, "GET /api/hello HTTP/1.1\r\nHost: a\n\r\n" HIDDEN},
    {"LF LF", 400, "GET /api/hello HTTP/1.1\nHost: a\n\n" HIDDEN},
    {"bare CR in a value", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n" HIDDEN},
    {"CR CR LF", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n" HIDDEN},
    {"CR as delimiter (CVE-2023-30589)", 400,
     "GET /api/hello HTTP/1.1\r\nHost: a\r\nX:\rTransfer-Encoding: chunked\r\n\r\n" HIDDEN},
    {"end of head with a stray byte (CVE-2025-23167)", 400,
     "GET /api/hello HTTP/1.1\r\nHost: a\r\n\rX" HIDDEN},
    /* Folding and names. */
    {"folded header", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n" HIDDEN},
    {"folded header by tab", 400,
     "GET /api/hello HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n" HIDDEN},
    {"folded Transfer-Encoding", 400,
     POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" HIDDEN},
    {"folded first header", 400, "GET /api/hello HTTP/1.1\r\n Host: a\r\n\r\n" HIDDEN},
    {"empty name", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n" HIDDEN},
    {"space before the colon", 400, POST "Content-Length : 5\r\n\r\nhello" HIDDEN},
    {"tab before the colon", 400, POST "Content-Length\t: 5\r\n\r\nhello" HIDDEN},
    {"space in a name", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n" HIDDEN},
    {"control byte in a name", 400,
     "GET /api/hello HTTP/1.1\r\nHost: a\r\nX\x01: b\r\n\r\n" HIDDEN},
    {"8-bit name", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n" HIDDEN},
    {"no colon", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\nHello\r\n\r\n" HIDDEN},
    {"control byte in a value", 400,
     "GET /api/hello HTTP/1.1\r\nHost: a\r\nX: b\x01\r\n\r\n" HIDDEN},
    {"DEL in a value", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\nX: b\x7f\r\n\r\n" HIDDEN},
    /* The request line. */
    {"8-bit target", 400, "GET /api/hello\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"control byte in the target", 400, "GET /api/hello\x01 HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"space in the target", 400, "GET /api/ hello HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"tab as separator", 400, "GET\t/api/hello\tHTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"two spaces", 400, "GET  /api/hello HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"space after the version", 400, "GET /api/hello HTTP/1.1 \r\nHost: a\r\n\r\n" HIDDEN},
    {"fragment", 400, "GET /api/hello#x HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"relative target", 400, "GET api/hello HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"asterisk with GET", 400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"HTTP/0.9", 400, "GET /api/hello\r\n\r\n" HIDDEN},
    {"HTTP/2.0", 505, "GET /api/hello HTTP/2.0\r\nHost: a\r\n\r\n" HIDDEN},
    {"HTTP/2 preface", 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" HIDDEN},
    {"HTTP/1.2", 505, "GET /api/hello HTTP/1.2\r\nHost: a\r\n\r\n" HIDDEN},
    {"HTTP/1.10", 400, "GET /api/hello HTTP/1.10\r\nHost: a\r\n\r\n" HIDDEN},
    {"http/1.1", 400, "GET /api/hello http/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"CONNECT", 501, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"an unknown method", 501, "FROB /api/hello HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"a method with a colon", 400, "GE:T /api/hello HTTP/1.1\r\nHost: a\r\n\r\n" HIDDEN},
    {"TLS on a plain port", 400, "\x16\x03\x01\x02\x01\x01\n\x01\xfc"},
    {"three empty lines first", 400, "\r\n\r\n\r\n" HIDDEN},
    /* Host. */
    {"no Host", 400, "GET /api/hello HTTP/1.1\r\n\r\n" HIDDEN},
    {"two Hosts", 400, "GET /api/hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n" HIDDEN},
    {"a list of Hosts", 400, "GET /api/hello HTTP/1.1\r\nHost: a, b\r\n\r\n" HIDDEN},
    {"Host with a path", 400, "GET /api/hello HTTP/1.1\r\nHost: a/b\r\n\r\n" HIDDEN},
    {"Host with a user", 400, "GET /api/hello HTTP/1.1\r\nHost: a@b\r\n\r\n" HIDDEN},
    /* Framing. */
    {"CL and TE", 400,
     POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN},
    {"TE and CL", 400,
     POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" HIDDEN},
    {"two CL", 400, POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" HIDDEN},
    {"the same CL twice", 400, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" HIDDEN},
    {"CL list", 400, POST "Content-Length: 5, 5\r\n\r\nhello" HIDDEN},
    {"CL with a sign", 400, POST "Content-Length: +5\r\n\r\nhello" HIDDEN},
    {"negative CL", 400, POST "Content-Length: -5\r\n\r\nhello" HIDDEN},
    {"hexadecimal CL", 400, POST "Content-Length: 0x5\r\n\r\nhello" HIDDEN},
    {"CL with a fraction", 400, POST "Content-Length: 5.0\r\n\r\nhello" HIDDEN},
    {"empty CL", 400, POST "Content-Length:\r\n\r\n" HIDDEN},
    {"CL that overflows", 400, POST "Content-Length: 18446744073709551621\r\n\r\nhello" HIDDEN},
    {"CL with a space inside", 400, POST "Content-Length: 1 0\r\n\r\nhello" HIDDEN},
    {"TE on HTTP/1.0", 400,
     "POST /api/echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN},
    {"TE twice", 400,
     POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN},
    {"TE identity", 400, POST "Transfer-Encoding: identity\r\n\r\n" HIDDEN},
    {"TE gzip, chunked", 400, POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" HIDDEN},
    {"TE chunked, identity", 400,
     POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" HIDDEN},
    {"TE xchunked", 400, POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" HIDDEN},
    {"TE with a parameter", 400, POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n" HIDDEN},
    {"TE with a vertical tab", 400,
     POST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n0\r\n\r\n" HIDDEN},
    {"TE in quotes", 400, POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" HIDDEN},
    {"an unknown expectation", 417, POST "Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello" HIDDEN},
    /* Chunks. */
    {"chunk size that is no number", 400, CHUNKED "x\r\nhello\r\n0\r\n\r\n" HIDDEN},
    {"chunk size with a sign", 400, CHUNKED "+5\r\nhello\r\n0\r\n\r\n" HIDDEN},
    {"chunk size with 0x", 400, CHUNKED "0x5\r\nhello\r\n0\r\n\r\n" HIDDEN},
    {"chunk size that overflows", 400, CHUNKED "fffffffffffffffff\r\nhello\r\n0\r\n\r\n" HIDDEN},
    {"chunk size ended by LF", 400, CHUNKED "5\nhello\r\n0\r\n\r\n" HIDDEN},
    {"chunk ended by LF", 400, CHUNKED "5\r\nhello\n0\r\n\r\n" HIDDEN},
    {"chunk longer than its size", 400, CHUNKED "5\r\nhelloX\r\n0\r\n\r\n" HIDDEN},
    {"space before the chunk size", 400, CHUNKED " 5\r\nhello\r\n0\r\n\r\n" HIDDEN},
};

static void is_refused_and_closed(void **state) {
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(rows); i++) {
        struct support_http server;
        struct support_client client;
        char expected[32];
        support_http_start(&server, NULL);
        support_client_connect(&client, &server);
        support_client_send(&client, rows[i].request);
        support_client_wait_end(&client);
        (void)snprintf(expected, sizeof(expected), "HTTP/1.1 %d ", rows[i].status);
        if (strncmp(client.data, expected, strlen(expected)) != 0 || client.was_reset)
            fail_msg("%s: expected %d, got:\n%s", rows[i].name, rows[i].status, client.data);
        if (strstr(client.data, "world") != NULL)
            fail_msg("%s: the hidden request was answered", rows[i].name);
        if (support_client_count(&client, "\r\nDate: ") != 1)
            fail_msg("%s: more than one answer:\n%s", rows[i].name, client.data);
        assert_non_null(strstr(client.data, "\r\nConnection: close\r\n"));
        support_client_close(&client);
        support_http_stop(&server);
    }
}

/* The same bytes, cut at every place: where a packet ends must not matter. */
static void is_refused_however_it_is_cut(void **state) {
    static const struct row *const chosen[] = {&rows[4], &rows[6], &rows[9]};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(chosen); i++) {
        const char *text = chosen[i]->request;
        for (size_t cut = 1; cut < strlen(text) - strlen(HIDDEN); cut++) {
            struct support_http server;
            struct support_client client;
            support_http_start(&server, NULL);
            support_client_connect(&client, &server);
            support_client_send_bytes(&client, text, cut);
            support_loop_run_for(server.loop, 1);
            support_client_send(&client, text + cut);
            support_client_wait_end(&client);
            assert_ptr_equal(strstr(client.data, "HTTP/1.1 400 "), client.data);
            assert_null(strstr(client.data, "world"));
            support_client_close(&client);
            support_http_stop(&server);
        }
    }
}

static void ignores_an_upgrade_that_nobody_takes(void **state) {
    struct support_http server;
    struct support_client client;
    (void)state;
    support_http_start(&server, NULL);
    support_client_connect(&client, &server);
    support_client_send(&client, POST "Connection: Upgrade\r\nUpgrade: h2c\r\n"
                                      "Content-Length: 5\r\n\r\nhello" HIDDEN);
    support_client_wait(&client, "world");
    assert_non_null(strstr(client.data, "\r\n\r\nhello"));
    support_client_close(&client);
    support_http_stop(&server);
}

static void sends_nothing_after_a_last_request(void **state) {
    struct support_http server;
    struct support_client client;
    (void)state;
    support_http_start(&server, NULL);
    support_client_connect(&client, &server);
    support_client_send(&client,
                        "GET /api/nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" HIDDEN);
    support_client_wait_end(&client);
    assert_int_equal(support_client_count(&client, "\r\nDate: "), 1);
    assert_null(strstr(client.data, "world"));
    support_client_close(&client);
    support_http_stop(&server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_refused_and_closed),
        cmocka_unit_test(is_refused_however_it_is_cut),
        cmocka_unit_test(ignores_an_upgrade_that_nobody_takes),
        cmocka_unit_test(sends_nothing_after_a_last_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
