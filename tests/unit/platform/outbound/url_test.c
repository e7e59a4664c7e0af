/* URLs that may be asked, and all the ways to write those that may not. */
#include "bakend/outbound.h"
#include "support.h"

#include <stdio.h>
#include <string.h>

static const struct bk_outbound_policy STRICT = {.name = "test"};

static enum bk_status check(const struct bk_outbound_policy *policy, const char *url,
                            struct bk_error *error) {
    *error = (struct bk_error)BK_ERROR_INIT;
    return bk_outbound_check_url(policy, bk_slice_from(url), error);
}

static void assert_refused(const struct bk_outbound_policy *policy, const char *url,
                           const char *why) {
    struct bk_error error;
    if (check(policy, url, &error) != BK_INVALID)
        fail_msg("%s was taken", url);
    if (strstr(error.message, why) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", url, error.message, why);
}

static void assert_taken(const struct bk_outbound_policy *policy, const char *url) {
    struct bk_error error;
    if (check(policy, url, &error) != BK_OK)
        fail_msg("%s: %s", url, error.message);
}

static void test_public_urls_are_taken(void **state) {
    (void)state;
    assert_taken(&STRICT, "https://example.com");
    assert_taken(&STRICT, "https://example.com:8443/a%20b?c=d&e#f");
    assert_taken(&STRICT, "HTTPS://EXAMPLE.COM/");
    assert_taken(&STRICT, "https://8.8.8.8/");
    assert_taken(&STRICT, "https://[2606:4700:4700::1111]/");
    assert_taken(&STRICT, "https://xn--bcher-kva.example/\xc3\xa4");
    assert_taken(&STRICT, "https://localhost.example.com/");
    assert_taken(&STRICT, "https://notlocalhost/");
}

static void test_each_spelling_of_an_internal_address_is_refused(void **state) {
    static const char *const hosts[] = {
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.b.localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[64:ff9b::7f00:1]",
        "[::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1%25eth0]",
        "[fd00:ec2::254]",
        "169.254.169.254",
        "0xa9fea9fe",
        "168.63.129.16",
        "10.0.0.1",
        "192.168.1.1:8080",
        "100.100.100.200",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(hosts); i++) {
        char url[128];
        (void)snprintf(url, sizeof(url), "https://%s/", hosts[i]);
        assert_refused(&STRICT, url, "not a public address");
    }
}

static void test_a_url_with_a_user_is_refused(void **state) {
    (void)state;
    assert_refused(&STRICT, "https://user:pass@example.com/", "user");
    assert_refused(&STRICT, "https://user@example.com/", "user");
    assert_refused(&STRICT, "https://example.com@127.0.0.1/", "user");
    assert_refused(&STRICT, "https://example.com\\@127.0.0.1/", "");
    assert_refused(&STRICT, "https://:@example.com/", "user");
}

static void test_other_protocols_are_refused(void **state) {
    static const char *const urls[] = {
        "file:///etc/passwd",      "file://localhost/etc/passwd", "ftp://example.com/",
        "gopher://example.com/_x", "dict://example.com/",         "smtp://example.com/",
        "telnet://example.com/",   "ldap://example.com/",         "javascript://example.com/",
        "unix:///run/docker.sock", "scp://example.com/",          "ws://example.com/",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(urls); i++)
        assert_refused(&STRICT, urls[i], "https://");
}

static void test_what_is_no_url_is_refused(void **state) {
    struct bk_error error = BK_ERROR_INIT;
    static char longest[BK_OUTBOUND_URL_MAX_BYTES + 2];
    (void)state;
    assert_refused(&STRICT, "", "");
    assert_refused(&STRICT, "example.com/path", "https://");
    assert_refused(&STRICT, "//example.com/path", "https://");
    assert_refused(&STRICT, "https://", "host");
    assert_refused(&STRICT, "https:///127.0.0.1", "not a public address"); /* libcurl's host */
    assert_refused(&STRICT, "https://?a", "");
    assert_refused(&STRICT, "https://example.com:0/", "port");
    assert_refused(&STRICT, "https://example.com:65536/", "port");
    assert_refused(&STRICT, "https://example.com:a/", "port");
    assert_refused(&STRICT, "https://[::1", "");
    assert_refused(&STRICT, "https://exa mple.com/", "");
    assert_refused(&STRICT,
                   "https://b\xc3\xbc"
                   "cher.example/",
                   "xn--");
    assert_refused(&STRICT, "https://example.com/\r\nHost: other", "control character");
    assert_refused(&STRICT, "https://example.com/\tx", "control character");
    assert_refused(&STRICT, "https://example.com/\x7f", "control character");
    assert_int_equal(bk_outbound_check_url(&STRICT, bk_slice_make("https://a.com/\0x", 16), &error),
                     BK_INVALID);
    memset(longest, 'a', sizeof(longest) - 1);
    memcpy(longest, "https://a.com/", 14);
    assert_refused(&STRICT, longest, "longer than");
    longest[BK_OUTBOUND_URL_MAX_BYTES] = '\0';
    assert_taken(&STRICT, longest);
}

static void test_plain_text_needs_leave(void **state) {
    struct bk_outbound_policy plain = {.name = "test", .allows_plain = true};
    (void)state;
    assert_refused(&STRICT, "http://example.com/", "https://");
    assert_refused(&STRICT, "http://8.8.8.8/", "https://");
    assert_taken(&plain, "http://example.com/");
    assert_refused(&plain, "http://10.0.0.1/", "not a public address");
}

static void test_what_the_operator_allows_is_taken(void **state) {
    struct bk_outbound_policy policy = {.name = "test", .allowed_count = 1};
    struct bk_outbound_policy any = {.name = "test", .allows_any_address = true};
    struct bk_network network;
    (void)state;
    assert_int_equal(bk_network_parse(BK_SLICE("10.1.0.0/16"), &network), BK_OK);
    policy.allowed = &network;
    assert_taken(&policy, "https://10.1.2.3/");
    assert_taken(&policy, "http://10.1.2.3/");
    assert_refused(&policy, "https://10.2.2.3/", "not a public address");
    assert_refused(&policy, "http://8.8.8.8/", "https://");
    assert_taken(&policy, "http://some.name/"); /* may lead there: judged when it is resolved */
    assert_taken(&any, "https://10.2.2.3/");
    assert_taken(&any, "https://localhost/");
    assert_refused(&any, "http://localhost/", "https://");
}

static void test_ports_can_be_denied(void **state) {
    static const uint16_t denied[] = {25, 8090};
    struct bk_outbound_policy policy = {
        .name = "test", .denied_ports = denied, .denied_port_count = 2};
    (void)state;
    assert_refused(&policy, "https://example.com:25/", "port");
    assert_refused(&policy, "https://example.com:8090/", "port");
    assert_taken(&policy, "https://example.com:8091/");
    assert_taken(&policy, "https://example.com/");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_public_urls_are_taken),
        cmocka_unit_test(test_each_spelling_of_an_internal_address_is_refused),
        cmocka_unit_test(test_a_url_with_a_user_is_refused),
        cmocka_unit_test(test_other_protocols_are_refused),
        cmocka_unit_test(test_what_is_no_url_is_refused),
        cmocka_unit_test(test_plain_text_needs_leave),
        cmocka_unit_test(test_what_the_operator_allows_is_taken),
        cmocka_unit_test(test_ports_can_be_denied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
