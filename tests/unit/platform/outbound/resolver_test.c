/* Names: what they lead to is judged, and a resolver that hangs holds up nobody but who asked for
 * the name. The resolver is ours: libcurl's calls of getaddrinfo end up in this file. */
#define _GNU_SOURCE 1
#include "outbound/outbound_private.h"
#include "peer_fixture.h"

#include "bakend/clock.h"

#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_uint resolving_count, resolving_max, resolved_count;
static atomic_bool is_open;

/* "hang…" takes until the gate opens, "slow…" a moment, both to no avail; all other names are
 * 127.0.0.1. */
int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict req, struct addrinfo **restrict pai) {
    union {
        void *symbol;
        int (*function)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    } real = {.symbol = dlsym(RTLD_NEXT, "getaddrinfo")};
    unsigned count = atomic_fetch_add(&resolving_count, 1) + 1;
    bool hangs = strncmp(name, "hang", 4) == 0, is_slow = strncmp(name, "slow", 4) == 0;
    if (count > resolving_max)
        resolving_max = count;
    if (is_slow)
        (void)usleep(20000);
    while (hangs && !is_open)
        (void)usleep(1000);
    (void)atomic_fetch_sub(&resolving_count, 1);
    (void)atomic_fetch_add(&resolved_count, 1);
    if (hangs || is_slow)
        return EAI_NONAME;
    return real.function("127.0.0.1", service, req, pai);
}

/* On a machine with nothing else to do it is some tens. */
enum { CLOSE_MAX_MS = 3000 };

/* Of what is to end by itself, or not at all: longer than a slow machine needs. */
enum { PATIENT_MS = 60 * 1000 };

struct world {
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct bk_outbound_channel *channel;
    struct support_peer *peer;
    struct support_exchange exchange;
};

static void serve(struct support_connection *connection) {
    while (support_connection_read(connection, "\r\n\r\n") != NULL)
        (void)support_connection_send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

static void setup_world(struct world *world, void **state, bool allows_any_address) {
    struct bk_outbound_policy policy = support_trusting_policy();
    memset(world, 0, sizeof(*world));
    policy.allows_any_address = allows_any_address;
    world->loop = *state;
    world->outbound = bk_outbound_create(*state);
    world->channel = bk_outbound_open(world->outbound, &policy);
    world->peer = support_peer_start(serve, NULL);
    is_open = false;
    resolving_max = 0;
    resolved_count = 0;
}

/* The resolver's threads are let go first: one that outlives the test would be seen by the next. */
static void teardown_world(struct world *world) {
    assert_in_range(support_channel_close_ms(world->channel, world->loop), 0, CLOSE_MAX_MS);
    bk_outbound_destroy(world->outbound);
    support_peer_stop(world->peer);
    is_open = true;
    while (resolving_count > 0)
        (void)usleep(1000);
    (void)usleep(20000);
}

static void set_name(struct support_exchange *exchange, struct world *world, const char *name) {
    support_exchange_init(exchange, support_peer_port(world->peer), "/");
    (void)snprintf(exchange->url, sizeof(exchange->url), "http://%s:%u/", name,
                   support_peer_port(world->peer));
    exchange->request.url = bk_slice_from(exchange->url);
}

static void test_a_name_that_leads_inside_is_blocked(void **state) {
    struct world world;
    setup_world(&world, state, false);
    set_name(&world.exchange, &world, "rebound.example.com");
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_BLOCKED);
    assert_true(resolved_count > 0);
    assert_int_equal(support_peer_connection_count(world.peer), 0);
    teardown_world(&world);
}

static void test_a_resolver_that_hangs_is_left_behind(void **state) {
    struct world world;
    struct support_exchange other;
    uint64_t start_ns = bk_clock_monotonic_ns();
    setup_world(&world, state, true);
    set_name(&world.exchange, &world, "hang.example.com");
    world.exchange.request.connect_timeout_ms = 500;
    support_exchange_submit(&world.exchange, world.channel);
    support_exchange_init(&other, support_peer_port(world.peer), "/");
    support_exchange_run(&other, world.loop, world.channel);
    assert_int_equal(other.request.failure, BK_OUTBOUND_OK);
    assert_false(world.exchange.is_done);
    support_loop_run_until(world.loop, &world.exchange.is_done);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_TIMEOUT);
    support_exchange_run(&other, world.loop, world.channel);
    assert_int_equal(other.request.failure, BK_OUTBOUND_OK);
    assert_in_range((bk_clock_monotonic_ns() - start_ns) / 1000000, 400, 5000);
    assert_int_equal(resolving_count, 1); /* still at it */
    teardown_world(&world);
}

static void test_closing_does_not_wait_for_a_resolver(void **state) {
    struct world world;
    setup_world(&world, state, true);
    set_name(&world.exchange, &world, "hang.example.com");
    support_exchange_submit(&world.exchange, world.channel);
    while (resolving_count == 0)
        support_loop_run_for(world.loop, 2);
    teardown_world(&world);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_CANCELLED);
}

static struct support_exchange *submit_names(struct world *world, const char *prefix,
                                             const char *domain, size_t count) {
    struct support_exchange *exchanges = calloc(count, sizeof(*exchanges));
    assert_non_null(exchanges);
    for (size_t i = 0; i < count; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%s%zu%s", prefix, i, domain);
        set_name(&exchanges[i], world, name);
        exchanges[i].request.connect_timeout_ms = PATIENT_MS;
        exchanges[i].request.timeout_ms = PATIENT_MS;
        support_exchange_submit(&exchanges[i], world->channel);
    }
    return exchanges;
}

static void test_so_many_names_are_resolved_at_once_and_no_more(void **state) {
    enum { NAMES = 3 * OUTBOUND_RESOLVING_MAX };
    struct support_exchange *exchanges;
    struct world world;
    setup_world(&world, state, true);
    exchanges = submit_names(&world, "slow", ".com", NAMES);
    for (size_t i = 0; i < NAMES; i++) {
        support_loop_run_until(world.loop, &exchanges[i].is_done);
        assert_int_equal(exchanges[i].request.failure, BK_OUTBOUND_RESOLVE);
    }
    assert_int_equal(resolved_count, NAMES);
    assert_in_range(resolving_max, 2, OUTBOUND_RESOLVING_MAX);
    teardown_world(&world);
    free(exchanges);
}

/* Those that were left behind count, too: no new ones are begun in their place. */
static void test_resolvers_that_were_left_behind_count(void **state) {
    enum { NAMES = 2 * OUTBOUND_RESOLVING_MAX };
    struct support_exchange *exchanges;
    struct world world;
    setup_world(&world, state, true);
    exchanges = submit_names(&world, "hang", ".com", NAMES);
    for (size_t i = 0; i < OUTBOUND_RESOLVING_MAX; i++) {
        bk_outbound_cancel(&exchanges[i].request);
        support_loop_run_until(world.loop, &exchanges[i].is_done);
    }
    support_loop_run_for(world.loop, 300);
    assert_in_range(resolving_max, 1, OUTBOUND_RESOLVING_MAX);
    teardown_world(&world);
    free(exchanges);
}

/* One domain's name servers never answer: others get their names, and who has a connection or an
 * address needs none. */
static void test_a_domain_that_hangs_does_not_hold_up_others(void **state) {
    enum { NAMES = 60 };
    struct support_exchange *exchanges, other;
    struct world world;
    setup_world(&world, state, true);
    exchanges = submit_names(&world, "hang", ".evil.example", NAMES);
    while (resolving_count < OUTBOUND_RESOLVING_PER_DOMAIN_MAX)
        support_loop_run_for(world.loop, 2);
    set_name(&other, &world, "good.example");
    support_exchange_run(&other, world.loop, world.channel);
    assert_int_equal(other.request.failure, BK_OUTBOUND_OK);
    assert_in_range(other.request.duration_us, 1, PATIENT_MS / 6 * 1000);
    support_loop_run_for(world.loop, 300);
    assert_int_equal(resolving_max, OUTBOUND_RESOLVING_PER_DOMAIN_MAX + 1);
    teardown_world(&world);
    free(exchanges);
}

/* All resolvers hang: an address, and a name that is known, go on. */
static void test_without_a_resolver_what_needs_none_goes_on(void **state) {
    enum { NAMES = OUTBOUND_RESOLVING_MAX + 10 };
    struct support_exchange *exchanges, known, address, unknown;
    struct world world;
    setup_world(&world, state, true);
    set_name(&known, &world, "good.example");
    support_exchange_run(&known, world.loop, world.channel);
    exchanges = submit_names(&world, "hang", ".com", NAMES);
    while (resolving_count < OUTBOUND_RESOLVING_MAX)
        support_loop_run_for(world.loop, 2);
    support_exchange_run(&known, world.loop, world.channel);
    assert_int_equal(known.request.failure, BK_OUTBOUND_OK);
    support_exchange_init(&address, support_peer_port(world.peer), "/");
    support_exchange_run(&address, world.loop, world.channel);
    assert_int_equal(address.request.failure, BK_OUTBOUND_OK);
    set_name(&unknown, &world, "better.example");
    unknown.request.connect_timeout_ms = 300;
    support_exchange_run(&unknown, world.loop, world.channel);
    assert_int_equal(unknown.request.failure, BK_OUTBOUND_RESOLVE);
    assert_non_null(strstr(unknown.reason, "too many names"));
    teardown_world(&world);
    free(exchanges);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_a_name_that_leads_inside_is_blocked),
        LOOP_TEST(test_a_resolver_that_hangs_is_left_behind),
        LOOP_TEST(test_closing_does_not_wait_for_a_resolver),
        LOOP_TEST(test_so_many_names_are_resolved_at_once_and_no_more),
        LOOP_TEST(test_resolvers_that_were_left_behind_count),
        LOOP_TEST(test_a_domain_that_hangs_does_not_hold_up_others),
        LOOP_TEST(test_without_a_resolver_what_needs_none_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
