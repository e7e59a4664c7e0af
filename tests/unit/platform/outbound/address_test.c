/* Networks as operators write them, and each address that is not of the public internet. */
#include "bakend/outbound.h"
#include "support.h"

#include "bakend/alloc.h"

#include <arpa/inet.h>
#include <string.h>

/* By inet_pton alone, so that the parser is not what checks itself. */
static void address_of(const char *text, uint8_t address[16]) {
    memset(address, 0, 16);
    if (strchr(text, ':') != NULL) {
        assert_int_equal(inet_pton(AF_INET6, text, address), 1);
        return;
    }
    address[10] = address[11] = 0xff;
    assert_int_equal(inet_pton(AF_INET, text, address + 12), 1);
}

static const char *reason_of(const char *text) {
    uint8_t address[16];
    address_of(text, address);
    return bk_address_reason(address);
}

struct row {
    const char *text, *reason; /* NULL: public */
};

static void check_rows(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *reason = reason_of(rows[i].text);
        if (reason == NULL && rows[i].reason == NULL)
            continue;
        if (reason == NULL || rows[i].reason == NULL || strcmp(reason, rows[i].reason) != 0)
            fail_msg("%s is %s and should be %s", rows[i].text, reason == NULL ? "public" : reason,
                     rows[i].reason == NULL ? "public" : rows[i].reason);
    }
}

/* --- what is public --------------------------------------------------------------------------- */

static void test_each_block_of_ipv4_ends_where_it_should(void **state) {
    static const struct row rows[] = {
        {"0.0.0.0", "unspecified"},
        {"0.0.0.1", "unspecified"},
        {"0.255.255.255", "unspecified"},
        {"1.0.0.0", NULL},
        {"9.255.255.255", NULL},
        {"10.0.0.0", "private"},
        {"10.255.255.255", "private"},
        {"11.0.0.0", NULL},
        {"100.63.255.255", NULL},
        {"100.64.0.0", "shared"},
        {"100.127.255.255", "shared"},
        {"100.128.0.0", NULL},
        {"126.255.255.255", NULL},
        {"127.0.0.0", "loopback"},
        {"127.0.0.1", "loopback"},
        {"127.255.255.255", "loopback"},
        {"128.0.0.0", NULL},
        {"169.253.255.255", NULL},
        {"169.254.0.0", "link-local"},
        {"169.254.255.255", "link-local"},
        {"169.255.0.0", NULL},
        {"172.15.255.255", NULL},
        {"172.16.0.0", "private"},
        {"172.31.255.255", "private"},
        {"172.32.0.0", NULL},
        {"191.255.255.255", NULL},
        {"192.0.0.0", "reserved"},
        {"192.0.0.255", "reserved"},
        {"192.0.1.0", NULL},
        {"192.0.2.0", "documentation"},
        {"192.0.2.255", "documentation"},
        {"192.0.3.0", NULL},
        {"192.88.98.255", NULL},
        {"192.88.99.0", "reserved"},
        {"192.88.99.255", "reserved"},
        {"192.88.100.0", NULL},
        {"192.167.255.255", NULL},
        {"192.168.0.0", "private"},
        {"192.168.255.255", "private"},
        {"192.169.0.0", NULL},
        {"198.17.255.255", NULL},
        {"198.18.0.0", "benchmarking"},
        {"198.19.255.255", "benchmarking"},
        {"198.20.0.0", NULL},
        {"198.51.99.255", NULL},
        {"198.51.100.0", "documentation"},
        {"198.51.100.255", "documentation"},
        {"198.51.101.0", NULL},
        {"203.0.112.255", NULL},
        {"203.0.113.0", "documentation"},
        {"203.0.113.255", "documentation"},
        {"203.0.114.0", NULL},
        {"223.255.255.255", NULL},
        {"224.0.0.0", "multicast"},
        {"239.255.255.255", "multicast"},
        {"240.0.0.0", "reserved"},
        {"255.255.255.254", "reserved"},
        {"255.255.255.255", "broadcast"},
        {"8.8.8.8", NULL},
    };
    (void)state;
    check_rows(rows, BK_COUNT_OF(rows));
}

static void test_each_block_of_ipv6_ends_where_it_should(void **state) {
    static const struct row rows[] = {
        {"::", "unspecified"},
        {"::1", "loopback"},
        {"::2", "unspecified"}, /* 0.0.0.2, compatible */
        {"0:0:0:0:0:1::", "reserved"},
        {"64:ff9b:0:ffff:ffff:ffff:ffff:ffff", "reserved"},
        {"64:ff9b:1::", "private"},
        {"64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "private"},
        {"64:ff9b:2::", "reserved"},
        {"100::", "reserved"},
        {"100::ffff:ffff:ffff:ffff", "reserved"},
        {"100:0:0:1::", "reserved"},
        {"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"},
        {"2000::", NULL},
        {"2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
        {"2001::", "broadcast"}, /* Teredo, its client turned over */
        {"2001:2::1", "reserved"},
        {"2001:20::1", "reserved"},
        {"2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"},
        {"2001:200::", NULL},
        {"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
        {"2001:db8::", "documentation"},
        {"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"},
        {"2001:db9::", NULL},
        {"2001:4860:4860::8888", NULL},
        {"2003::", NULL},
        {"2606:4700:4700::1111", NULL},
        {"3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
        {"3fff::", "documentation"},
        {"3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"},
        {"3fff:1000::", NULL},
        {"4000::", "reserved"},
        {"5f00::", "reserved"},
        {"5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"},
        {"fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"},
        {"fc00::", "private"},
        {"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private"},
        {"fe00::", "reserved"},
        {"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"},
        {"fe80::", "link-local"},
        {"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"},
        {"fec0::", "private"},
        {"feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private"},
        {"ff00::", "multicast"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"},
    };
    (void)state;
    check_rows(rows, BK_COUNT_OF(rows));
}

static void test_an_address_inside_another_is_what_counts(void **state) {
    static const struct row rows[] = {
        {"::ffff:127.0.0.1", "loopback"},
        {"::ffff:10.1.2.3", "private"},
        {"::ffff:169.254.169.254", "metadata"},
        {"::ffff:8.8.8.8", NULL},
        {"64:ff9b::127.0.0.1", "loopback"},
        {"64:ff9b::7f00:1", "loopback"},
        {"64:ff9b::10.0.0.1", "private"},
        {"64:ff9b::169.254.169.254", "metadata"},
        {"64:ff9b::8.8.8.8", NULL}, /* how an IPv6-only host reaches IPv4 */
        {"::127.0.0.1", "loopback"},
        {"::10.0.0.1", "private"},
        {"::8.8.8.8", "reserved"},
        {"2002:7f00:1::", "loopback"},
        {"2002:a00:1::1", "private"},
        {"2002:a9fe:a9fe::1", "metadata"},
        {"2002:808:808::1", "reserved"},
        /* server 8.8.8.8, client turned over */
        {"2001:0:808:808:0:0:80ff:fffe", "loopback"},
        {"2001:0:808:808:0:0:f5ff:fffe", "private"},
        {"2001:0:808:808:0:0:f7f7:f7f7", "reserved"},
        {"2001:0:7f00:1:0:0:f7f7:f7f7", "loopback"},
    };
    (void)state;
    check_rows(rows, BK_COUNT_OF(rows));
}

static void test_the_metadata_services_of_clouds_are_named(void **state) {
    static const struct row rows[] = {
        {"169.254.169.254", "metadata"}, {"169.254.170.2", "metadata"},
        {"100.100.100.200", "metadata"}, {"168.63.129.16", "metadata"},
        {"168.63.129.15", NULL},         {"168.63.129.17", NULL},
        {"fd00:ec2::254", "metadata"},   {"fd00:ec2::253", "private"},
    };
    (void)state;
    check_rows(rows, BK_COUNT_OF(rows));
}

/* --- networks --------------------------------------------------------------------------------- */

static bool contains(const char *network, const char *address) {
    struct bk_network parsed;
    uint8_t bytes[16];
    assert_int_equal(bk_network_parse(bk_slice_from(network), &parsed), BK_OK);
    address_of(address, bytes);
    return bk_network_contains(&parsed, bytes);
}

static void test_a_network_contains_what_shares_its_prefix(void **state) {
    (void)state;
    assert_true(contains("10.0.0.0/8", "10.255.0.1"));
    assert_false(contains("10.0.0.0/8", "11.0.0.1"));
    assert_true(contains("10.1.2.3/8", "10.9.9.9")); /* bits behind the prefix do not count */
    assert_true(contains("192.168.4.0/22", "192.168.7.255"));
    assert_false(contains("192.168.4.0/22", "192.168.8.0"));
    assert_true(contains("203.0.113.7", "203.0.113.7"));
    assert_false(contains("203.0.113.7", "203.0.113.6"));
    assert_true(contains("0.0.0.0/0", "8.8.8.8"));
    assert_false(contains("0.0.0.0/0", "2001:db8::1")); /* all of IPv4, none of IPv6 */
    assert_true(contains("::/0", "2001:db8::1"));
    assert_true(contains("fd00::/8", "fd12::1"));
    assert_false(contains("fd00::/9", "fd80::1"));
    assert_true(contains("::ffff:10.0.0.0/104", "10.1.1.1"));
}

static void test_what_is_no_network_is_refused(void **state) {
    static const char *const wrong[] = {
        "",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/",
        "10.0.0.0/8 ",
        "10.0.0/8",
        "::1/129",
        "localhost",
        "10.0.0.0/8/8",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "fe80::1%lo",
        "10.0.0.0/0008",
        "1.2.3.4.5",
        "::1/12x",
        "/8",
        "10.0.0.0/+8",
        "1111:1111:1111:1111:1111:1111:1111:1111:1111",
    };
    struct bk_network network = {.prefix_bits = 7};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        if (bk_network_parse(bk_slice_from(wrong[i]), &network) != BK_INVALID)
            fail_msg("\"%s\" was taken", wrong[i]);
    }
    assert_int_equal(bk_network_parse(bk_slice_make("::1\0", 4), &network), BK_INVALID);
    assert_int_equal(network.prefix_bits, 7);
}

static void test_a_list_of_networks_names_the_wrong_one(void **state) {
    struct bk_network *networks = NULL;
    struct bk_error error = BK_ERROR_INIT;
    size_t count = 7;
    (void)state;
    assert_int_equal(
        bk_networks_parse(BK_SLICE(" 10.0.0.0/8,fd00::/8  127.0.0.1 "), &networks, &count, &error),
        BK_OK);
    assert_int_equal(count, 3);
    assert_int_equal(networks[2].prefix_bits, 128);
    bk_free(networks);
    assert_int_equal(bk_networks_parse(BK_SLICE(""), &networks, &count, NULL), BK_OK);
    assert_int_equal(count, 0);
    bk_free(networks);
    assert_int_equal(bk_networks_parse(BK_SLICE("10.0.0.0/8, office"), &networks, &count, &error),
                     BK_INVALID);
    assert_non_null(strstr(error.message, "\"office\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_block_of_ipv4_ends_where_it_should),
        cmocka_unit_test(test_each_block_of_ipv6_ends_where_it_should),
        cmocka_unit_test(test_an_address_inside_another_is_what_counts),
        cmocka_unit_test(test_the_metadata_services_of_clouds_are_named),
        cmocka_unit_test(test_a_network_contains_what_shares_its_prefix),
        cmocka_unit_test(test_what_is_no_network_is_refused),
        cmocka_unit_test(test_a_list_of_networks_names_the_wrong_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
