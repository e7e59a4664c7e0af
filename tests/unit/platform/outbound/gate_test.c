/* Which addresses may be reached, by what a peer on the loopback gets to see. */
#include "outbound/outbound_private.h"
#include "peer_fixture.h"

#include <stdio.h>
#include <string.h>

struct world {
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct bk_outbound_channel *trusting, *strict;
    struct support_peer *peer;
    struct support_exchange exchange;
    atomic_uint request_count;
};

static void serve(struct support_connection *connection) {
    struct world *world = support_peer_user(connection->peer);
    while (support_connection_read(connection, "\r\n\r\n") != NULL) {
        (void)atomic_fetch_add(&world->request_count, 1);
        (void)support_connection_send(connection,
                                      "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    }
}

static void setup_world(struct world *world, void **state) {
    struct bk_outbound_policy policy = support_trusting_policy();
    memset(world, 0, sizeof(*world));
    world->loop = *state;
    world->outbound = bk_outbound_create(*state);
    world->trusting = bk_outbound_open(world->outbound, &policy);
    policy.allows_any_address = false;
    world->strict = bk_outbound_open(world->outbound, &policy);
    world->peer = support_peer_start(serve, world);
}

static void teardown_world(struct world *world) {
    (void)support_channel_close_ms(world->trusting, world->loop);
    (void)support_channel_close_ms(world->strict, world->loop);
    bk_outbound_destroy(world->outbound);
    support_peer_stop(world->peer);
}

static void ask(struct world *world, struct bk_outbound_channel *channel, const char *format,
                uint16_t port) __attribute__((format(printf, 3, 0)));
static void ask(struct world *world, struct bk_outbound_channel *channel, const char *format,
                uint16_t port) {
    support_exchange_init(&world->exchange, port, "/");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(world->exchange.url, sizeof(world->exchange.url), format, (unsigned)port);
#pragma GCC diagnostic pop
    world->exchange.request.url = bk_slice_from(world->exchange.url);
    world->exchange.request.timeout_ms = 3000;
    support_exchange_run(&world->exchange, world->loop, channel);
}

static void expect_blocked(struct world *world, const char *format, uint16_t port) {
    ask(world, world->strict, format, port);
    if (world->exchange.request.failure != BK_OUTBOUND_BLOCKED)
        fail_msg("%s: %s", world->exchange.url,
                 bk_outbound_failure_name(world->exchange.request.failure));
    assert_int_equal(world->exchange.request.status, 0);
    assert_string_equal(world->exchange.answer, "");
    assert_string_equal(world->exchange.reason, "this address may not be reached from here");
}

static const char *const SPELLINGS[] = {
    "http://127.0.0.1:%u/",       "http://localhost:%u/",
    "http://foo.localhost:%u/",   "http://2130706433:%u/",
    "http://0x7f000001:%u/",      "http://0x7f.1:%u/",
    "http://017700000001:%u/",    "http://127.1:%u/",
    "http://127.9.9.9:%u/",       "http://0:%u/",
    "http://0.0.0.0:%u/",         "http://[::]:%u/",
    "http://[::1]:%u/",           "http://[::ffff:127.0.0.1]:%u/",
    "http://[::ffff:7f00:1]:%u/", "http://[64:ff9b::7f00:1]:%u/",
    "http://[::127.0.0.1]:%u/",   "http://[2002:7f00:1::1]:%u/",
    "http://169.254.169.254:%u/", "http://[fd00:ec2::254]:%u/",
    "http://168.63.129.16:%u/",   "http://255.255.255.255:%u/",
    "http://224.0.0.1:%u/",
};

static void test_no_spelling_of_a_forbidden_address_reaches_it(void **state) {
    struct world world;
    setup_world(&world, state);
    for (size_t i = 0; i < BK_COUNT_OF(SPELLINGS); i++)
        expect_blocked(&world, SPELLINGS[i], support_peer_port(world.peer));
    assert_int_equal(support_peer_connection_count(world.peer), 0);
    teardown_world(&world);
}

/* The same, whether somebody listens there or not. */
static void test_what_is_blocked_does_not_tell_what_is_there(void **state) {
    struct bk_outbound_figures figures[2];
    struct world world;
    setup_world(&world, state);
    expect_blocked(&world, "http://127.0.0.1:%u/", support_peer_port(world.peer));
    expect_blocked(&world, "http://127.0.0.1:%u/", support_closed_port());
    assert_int_equal(bk_outbound_figures(world.outbound, figures, 2), 2);
    assert_int_equal(figures[1].blocked, 2);
    assert_int_equal(figures[1].connections_opened, 0);
    teardown_world(&world);
}

static void test_other_protocols_are_blocked(void **state) {
    static const char *const urls[] = {"file:///etc/hostname#%u", "ftp://127.0.0.1:%u/",
                                       "gopher://127.0.0.1:%u/", "dict://127.0.0.1:%u/",
                                       "smtp://127.0.0.1:%u/"};
    struct world world;
    setup_world(&world, state);
    for (size_t i = 0; i < BK_COUNT_OF(urls); i++) {
        ask(&world, world.trusting, urls[i], support_peer_port(world.peer));
        assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_BLOCKED);
    }
    assert_int_equal(support_peer_connection_count(world.peer), 0);
    teardown_world(&world);
}

static void test_a_url_that_makes_no_sense_is_told(void **state) {
    static const char *const urls[] = {"/path%u", "http://user:pass@127.0.0.1:%u/",
                                       "http://[::1:%u/", "http://127.0.0.1:1%u/", "//a:%u"};
    struct world world;
    setup_world(&world, state);
    for (size_t i = 0; i < BK_COUNT_OF(urls); i++) {
        ask(&world, world.trusting, urls[i], support_peer_port(world.peer));
        if (world.exchange.request.failure != BK_OUTBOUND_URL)
            fail_msg("%s: %s", urls[i], bk_outbound_failure_name(world.exchange.request.failure));
    }
    teardown_world(&world);
}

static void test_a_connection_is_not_lent_to_another_channel(void **state) {
    struct world world;
    setup_world(&world, state);
    ask(&world, world.trusting, "http://127.0.0.1:%u/", support_peer_port(world.peer));
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    expect_blocked(&world, "http://127.0.0.1:%u/", support_peer_port(world.peer));
    ask(&world, world.trusting, "http://127.0.0.1:%u/", support_peer_port(world.peer));
    assert_true(world.exchange.request.was_reused);
    assert_int_equal(world.request_count, 2);
    assert_int_equal(support_peer_connection_count(world.peer), 1);
    teardown_world(&world);
}

/* What the channel never does: it is the second look that is tried here. */
static void test_a_connection_that_is_used_again_is_looked_at_again(void **state) {
    struct world world;
    setup_world(&world, state);
    ask(&world, world.trusting, "http://127.0.0.1:%u/", support_peer_port(world.peer));
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    world.trusting->policy.allows_any_address = false;
    ask(&world, world.trusting, "http://127.0.0.1:%u/", support_peer_port(world.peer));
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_BLOCKED);
    assert_int_equal(world.request_count, 1);
    assert_int_equal(support_peer_connection_count(world.peer), 1);
    teardown_world(&world);
}

static void expect_with(struct world *world, const struct bk_outbound_policy *policy,
                        const char *format, enum bk_outbound_failure failure) {
    struct bk_outbound_channel *channel = bk_outbound_open(world->outbound, policy);
    ask(world, channel, format, support_peer_port(world->peer));
    assert_int_equal(world->exchange.request.failure, failure);
    (void)support_channel_close_ms(channel, world->loop);
}

static void test_what_the_operator_allows_is_reached_in_plain_text_too(void **state) {
    struct bk_outbound_policy policy = {.name = "test"};
    struct bk_network allowed[2];
    struct world world;
    setup_world(&world, state);
    assert_int_equal(bk_network_parse(BK_SLICE("127.0.0.0/30"), &allowed[0]), BK_OK);
    assert_int_equal(bk_network_parse(BK_SLICE("::1"), &allowed[1]), BK_OK);
    policy.allowed = allowed;
    policy.allowed_count = 2;
    expect_with(&world, &policy, "http://127.0.0.1:%u/", BK_OUTBOUND_OK);
    expect_with(&world, &policy, "http://127.0.0.9:%u/", BK_OUTBOUND_BLOCKED);
    expect_with(&world, &policy, "http://[::ffff:127.0.0.1]:%u/", BK_OUTBOUND_OK);
    expect_with(&world, &policy, "http://0.0.0.0:%u/", BK_OUTBOUND_BLOCKED);
    teardown_world(&world);
}

static void test_plain_text_needs_leave(void **state) {
    struct bk_outbound_policy policy = {.name = "test", .allows_any_address = true};
    struct bk_outbound_channel *channel;
    struct world world;
    setup_world(&world, state);
    expect_with(&world, &policy, "http://127.0.0.1:%u/", BK_OUTBOUND_BLOCKED);
    channel = bk_outbound_open(world.outbound, &policy);
    ask(&world, channel, "https://127.0.0.1:%u/", support_closed_port());
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_CONNECT);
    (void)support_channel_close_ms(channel, world.loop);
    teardown_world(&world);
}

static void test_a_port_that_is_denied_is_not_reached(void **state) {
    struct bk_outbound_policy policy = support_trusting_policy();
    uint16_t denied[2] = {25};
    struct world world;
    setup_world(&world, state);
    denied[1] = support_peer_port(world.peer);
    policy.denied_ports = denied;
    policy.denied_port_count = 2;
    expect_with(&world, &policy, "http://127.0.0.1:%u/", BK_OUTBOUND_BLOCKED);
    expect_with(&world, &policy, "http://[::ffff:127.0.0.1]:%u/", BK_OUTBOUND_BLOCKED);
    denied[1] = 80;
    expect_with(&world, &policy, "http://127.0.0.1:%u/", BK_OUTBOUND_OK);
    teardown_world(&world);
}

static void test_mail_goes_through_the_same_gate(void **state) {
    struct world world;
    setup_world(&world, state);
    support_exchange_init_mail(&world.exchange, support_peer_port(world.peer));
    support_exchange_run(&world.exchange, world.loop, world.strict);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_BLOCKED);
    assert_int_equal(support_peer_connection_count(world.peer), 0);
    teardown_world(&world);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_no_spelling_of_a_forbidden_address_reaches_it),
        LOOP_TEST(test_what_is_blocked_does_not_tell_what_is_there),
        LOOP_TEST(test_other_protocols_are_blocked),
        LOOP_TEST(test_a_url_that_makes_no_sense_is_told),
        LOOP_TEST(test_a_connection_is_not_lent_to_another_channel),
        LOOP_TEST(test_a_connection_that_is_used_again_is_looked_at_again),
        LOOP_TEST(test_what_the_operator_allows_is_reached_in_plain_text_too),
        LOOP_TEST(test_plain_text_needs_leave),
        LOOP_TEST(test_a_port_that_is_denied_is_not_reached),
        LOOP_TEST(test_mail_goes_through_the_same_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
