/* Whose X-Forwarded-For is believed, and how far. */
#include "support.h"

#include "http_private.h"

/* Two lines of the header, with another header between them. */
static void expect_of_two(const struct http_proxies *proxies, const char *peer, const char *first,
                          const char *second, const char *client) {
    const struct bk_header headers[] = {{BK_SLICE("x-forwarded-for"), bk_slice_from(first)},
                                        {BK_SLICE("host"), BK_SLICE("7.7.7.7")},
                                        {BK_SLICE("x-forwarded-for"), bk_slice_from(second)}};
    struct bk_slice found =
        http_proxies_client(proxies, bk_slice_from(peer), headers, BK_COUNT_OF(headers));
    if (!bk_slice_equal(found, bk_slice_from(client)))
        fail_msg("%s, %s, %s: got %.*s", peer, first, second, BK_SLICE_PRINT(found));
}

static void expect(const struct http_proxies *proxies, const char *peer, const char *forwarded,
                   const char *client) {
    expect_of_two(proxies, peer, "", forwarded, client);
    expect_of_two(proxies, peer, forwarded, "", client);
}

static void believes_trusted_proxies_only(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    struct http_proxies *proxies =
        http_proxies_create("127.0.0.1, 10.0.0.0/8,fd00::/8, 192.168.4.128/25", &error);
    (void)state;
    assert_non_null(proxies);
    expect(proxies, "127.0.0.1", "1.2.3.4", "1.2.3.4");
    expect(proxies, "127.0.0.1", "", "127.0.0.1");
    expect(proxies, "9.9.9.9", "1.2.3.4", "9.9.9.9");
    expect(proxies, "10.200.0.1", "2001:db8::1", "2001:db8::1");
    expect(proxies, "fd12::1", " 1.2.3.4 ", "1.2.3.4");
    expect(proxies, "192.168.4.128", "1.2.3.4", "1.2.3.4");
    expect(proxies, "192.168.4.127", "1.2.3.4", "192.168.4.127");
    http_proxies_destroy(proxies);
}

static void takes_the_last_address_that_is_no_proxy(void **state) {
    struct http_proxies *proxies = http_proxies_create("127.0.0.1,10.0.0.0/8", NULL);
    (void)state;
    expect(proxies, "127.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4");
    expect(proxies, "127.0.0.1", "10.0.0.8, 10.0.0.7", "10.0.0.8");
    expect(proxies, "127.0.0.1", "1.2.3.4, unknown", "127.0.0.1");
    expect(proxies, "127.0.0.1", "1.2.3.4, 10.0.0.7, ", "127.0.0.1");
    http_proxies_destroy(proxies);
}

/* A proxy that adds a line leaves the client's own line in front of it. */
static void reads_all_lines_as_one_list(void **state) {
    struct http_proxies *proxies = http_proxies_create("127.0.0.1,10.0.0.0/8", NULL);
    (void)state;
    expect_of_two(proxies, "127.0.0.1", "6.6.6.6", "1.2.3.4", "1.2.3.4");
    expect_of_two(proxies, "127.0.0.1", "6.6.6.6, 1.2.3.4", "10.0.0.7", "1.2.3.4");
    expect_of_two(proxies, "127.0.0.1", "6.6.6.6", "unknown", "127.0.0.1");
    expect_of_two(proxies, "127.0.0.1", "6.6.6.6", "unknown, 10.0.0.7", "10.0.0.7");
    http_proxies_destroy(proxies);
}

static void refuses_what_is_no_address(void **state) {
    static const char *const wrong[] = {"localhost", "10.0.0.0/33", "10.0.0.0/x", "::1/129",
                                        "1.2.3.4,,5.6.7.8"};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        struct bk_error error = BK_ERROR_INIT;
        assert_null(http_proxies_create(wrong[i], &error));
        assert_int_equal(error.status, BK_INVALID);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(believes_trusted_proxies_only),
        cmocka_unit_test(takes_the_last_address_that_is_no_proxy),
        cmocka_unit_test(reads_all_lines_as_one_list),
        cmocka_unit_test(refuses_what_is_no_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
