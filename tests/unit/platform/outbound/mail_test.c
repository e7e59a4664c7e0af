/* SMTP to a server that goes by a script. */
#include "peer_fixture.h"

#include <stdio.h>
#include <string.h>

/* What is answered when a line begins so; the first that fits. An answer of NULL ends the
 * connection, "hang" says nothing more. */
struct step {
    const char *command, *answer;
};

enum { STEPS_MAX = 16 };

struct world {
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct bk_outbound_channel *channel;
    struct support_peer *peer;
    struct support_exchange exchange;
    const char *greeting;
    struct step steps[STEPS_MAX];
    char seen[16384]; /* all that came */
};

static const struct step USUAL[] = {
    {"EHLO", "250-peer\r\n250-SIZE 1000000\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n"},
    {"AUTH", "334 \r\n"},
    {"MAIL", "250 2.1.0 Ok\r\n"},
    {"RCPT", "250 2.1.5 Ok\r\n"},
    {"DATA", "354 Go on\r\n"},
    {".\r\n", "250 2.0.0 Ok: queued as 7\r\n"},
    {"QUIT", "221 2.0.0 Bye\r\n"},
};

static const struct step *find_step(struct world *world, const char *line) {
    for (size_t i = 0; i < STEPS_MAX && world->steps[i].command != NULL; i++) {
        if (strncmp(line, world->steps[i].command, strlen(world->steps[i].command)) == 0)
            return &world->steps[i];
    }
    for (size_t i = 0; i < sizeof(USUAL) / sizeof(USUAL[0]); i++) {
        if (strncmp(line, USUAL[i].command, strlen(USUAL[i].command)) == 0)
            return &USUAL[i];
    }
    return NULL;
}

static void serve_smtp(struct support_connection *connection) {
    struct world *world = support_peer_user(connection->peer);
    bool is_in_data = false;
    const char *line;
    if (!support_connection_send(connection, world->greeting))
        return;
    while ((line = support_connection_read(connection, "\r\n")) != NULL) {
        size_t length = strlen(world->seen);
        const struct step *step;
        (void)snprintf(world->seen + length, sizeof(world->seen) - length, "%s", line);
        if (is_in_data && strcmp(line, ".\r\n") != 0)
            continue;
        step = find_step(world, line);
        if (step == NULL || step->answer == NULL)
            return;
        if (strcmp(step->answer, "hang") == 0) {
            support_connection_hang(connection);
            return;
        }
        if (!support_connection_send(connection, step->answer))
            return;
        is_in_data = strncmp(step->answer, "354", 3) == 0;
    }
}

static void setup_world(struct world *world, void **state) {
    struct bk_outbound_policy policy = support_trusting_policy();
    memset(world, 0, sizeof(*world));
    world->loop = *state;
    world->outbound = bk_outbound_create(*state);
    world->channel = bk_outbound_open(world->outbound, &policy);
    world->greeting = "220 peer ESMTP\r\n";
    world->peer = support_peer_start(serve_smtp, world);
    support_exchange_init_mail(&world->exchange, support_peer_port(world->peer));
}

static void teardown_world(struct world *world) {
    assert_in_range(support_channel_close_ms(world->channel, world->loop), 0, 1000);
    bk_outbound_destroy(world->outbound);
    support_peer_stop(world->peer);
}

static void test_a_mail_is_sent(void **state) {
    struct world world;
    setup_world(&world, state);
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    assert_int_equal(world.exchange.request.status, 250);
    assert_string_equal(world.exchange.answer, "2.0.0 Ok: queued as 7");
    teardown_world(&world);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_a_mail_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
