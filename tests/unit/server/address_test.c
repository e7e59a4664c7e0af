/* What --listen takes, and what it does not. */
#include "address.h"
#include "support.h"

#include <string.h>

static void assert_address(const char *text, const char *host, uint16_t port) {
    struct listen_address address;
    struct bk_error error = BK_ERROR_INIT;
    assert_int_equal(listen_address_parse(&address, text, &error), BK_OK);
    assert_string_equal(address.host, host);
    assert_int_equal(address.port, port);
}

static void test_an_address_and_a_port(void **state) {
    (void)state;
    assert_address("127.0.0.1:8090", "127.0.0.1", 8090);
    assert_address("localhost:0", "localhost", 0);
    assert_address("[::1]:65535", "::1", 65535);
    assert_address("*:80", "*", 80);
    assert_address(":80", "*", 80);
}

static void test_anything_else_is_refused_with_examples(void **state) {
    (void)state;
    const char *const wrong[] = {
        "",      "8090",     "127.0.0.1", "127.0.0.1:", "a:65536", "a:-1",
        "a:80x", "::1:8090", "[::1]",     "[]:80",      "a:b:80",  "a: 80"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct listen_address address;
        struct bk_error error = BK_ERROR_INIT;
        assert_int_equal(listen_address_parse(&address, wrong[i], &error), BK_INVALID);
        assert_non_null(strstr(error.message, "127.0.0.1:8090"));
    }
}

static void test_a_host_longer_than_any_name_is_refused(void **state) {
    (void)state;
    char text[400];
    struct listen_address address;
    struct bk_error error = BK_ERROR_INIT;
    memset(text, 'a', sizeof text);
    memcpy(text + 300, ":80", 4);
    assert_int_equal(listen_address_parse(&address, text, &error), BK_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_address_and_a_port),
        cmocka_unit_test(test_anything_else_is_refused_with_examples),
        cmocka_unit_test(test_a_host_longer_than_any_name_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
