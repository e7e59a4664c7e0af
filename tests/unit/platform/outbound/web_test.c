/* HTTP to a peer that behaves, and to many that do not. */
#include "peer_fixture.h"

#include "bakend/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world {
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct bk_outbound_channel *channel;
    struct support_exchange exchange;
    char seen[4096]; /* the request that the peer got last */
    const char *answer;
};

static void setup_world(struct world *world, void **state) {
    struct bk_outbound_policy policy = support_trusting_policy();
    memset(world, 0, sizeof(*world));
    world->loop = *state;
    world->outbound = bk_outbound_create(*state);
    world->channel = bk_outbound_open(world->outbound, &policy);
}

static void teardown_world(struct world *world) {
    assert_in_range(support_channel_close_ms(world->channel, world->loop), 0, 1000);
    bk_outbound_destroy(world->outbound);
}

/* Answers each request of a connection with the world's answer. */
static void serve_answer(struct support_connection *connection) {
    struct world *world = support_peer_user(connection->peer);
    const char *head;
    while ((head = support_connection_read(connection, "\r\n\r\n")) != NULL) {
        const char *length = strstr(head, "Content-Length: ");
        (void)snprintf(world->seen, sizeof(world->seen), "%s", head);
        if (length != NULL && !support_connection_skip(connection, strtoul(length + 16, NULL, 10)))
            return;
        if (!support_connection_send(connection, world->answer))
            return;
    }
}

static void test_an_answer_comes_back_whole(void **state) {
    struct world world;
    struct support_peer *peer;
    setup_world(&world, state);
    world.answer = "HTTP/1.1 201 Created\r\nX-Colour:  blue \r\nContent-Length: 5\r\n\r\nHello";
    peer = support_peer_start(serve_answer, &world);
    support_exchange_init(&world.exchange, support_peer_port(peer), "/path?a=b");
    world.exchange.header_name = "x-colour";
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    assert_int_equal(world.exchange.request.status, 201);
    assert_string_equal(world.exchange.answer, "Hello");
    assert_string_equal(world.exchange.header, "blue");
    assert_false(world.exchange.request.was_reused);
    teardown_world(&world);
    support_peer_stop(peer);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_an_answer_comes_back_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
