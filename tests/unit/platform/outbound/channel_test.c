/* Queues, limits, cancelling and closing. */
#include "peer_fixture.h"

#include "bakend/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* On a machine with nothing else to do it is some tens. */
enum { CLOSE_MAX_MS = 3000 };

struct world {
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct bk_outbound_channel *channel;
    struct support_peer *peer;
    struct support_exchange exchange;
    atomic_uint running, running_max, request_count;
    useconds_t pause_us;
};

static void serve(struct support_connection *connection) {
    struct world *world = support_peer_user(connection->peer);
    while (support_connection_read(connection, "\r\n\r\n") != NULL) {
        unsigned running = atomic_fetch_add(&world->running, 1) + 1;
        (void)atomic_fetch_add(&world->request_count, 1);
        if (running > world->running_max)
            world->running_max = running;
        (void)usleep(world->pause_us);
        (void)atomic_fetch_sub(&world->running, 1);
        (void)support_connection_send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

static void serve_silence(struct support_connection *connection) {
    struct world *world = support_peer_user(connection->peer);
    if (support_connection_read(connection, "\r\n\r\n") != NULL)
        (void)atomic_fetch_add(&world->request_count, 1);
    support_connection_hang(connection);
}

static void setup_world(struct world *world, void **state,
                        void (*function)(struct support_connection *connection),
                        uint32_t per_host_max) {
    struct bk_outbound_policy policy = support_trusting_policy();
    memset(world, 0, sizeof(*world));
    policy.connections_max = 8;
    policy.connections_per_host_max = per_host_max;
    world->loop = *state;
    world->outbound = bk_outbound_create(*state);
    world->channel = bk_outbound_open(world->outbound, &policy);
    world->peer = support_peer_start(function, world);
    support_exchange_init(&world->exchange, support_peer_port(world->peer), "/");
}

static void close_channel(struct world *world) {
    assert_in_range(support_channel_close_ms(world->channel, world->loop), 0, CLOSE_MAX_MS);
    bk_outbound_destroy(world->outbound);
}

static void teardown_world(struct world *world) {
    close_channel(world);
    support_peer_stop(world->peer);
}

static struct support_exchange *submit_many(struct world *world, size_t count) {
    struct support_exchange *exchanges = calloc(count, sizeof(*exchanges));
    assert_non_null(exchanges);
    for (size_t i = 0; i < count; i++) {
        support_exchange_init(&exchanges[i], support_peer_port(world->peer), "/");
        support_exchange_submit(&exchanges[i], world->channel);
    }
    return exchanges;
}

/* --- limits ----------------------------------------------------------------------------------- */

static void test_a_host_has_so_many_connections_and_no_more(void **state) {
    struct support_exchange *exchanges;
    struct world world;
    setup_world(&world, state, serve, 3);
    world.pause_us = 5000;
    exchanges = submit_many(&world, 30);
    for (size_t i = 0; i < 30; i++) {
        support_loop_run_until(world.loop, &exchanges[i].is_done);
        assert_int_equal(exchanges[i].request.failure, BK_OUTBOUND_OK);
    }
    assert_in_range(world.running_max, 2, 3);
    assert_in_range(support_peer_connection_count(world.peer), 2, 3);
    teardown_world(&world);
    free(exchanges);
}

static void on_done_nothing(struct bk_outbound_request *request) { (void)request; }

static void test_the_queue_has_an_end(void **state) {
    static struct bk_outbound_request requests[BK_OUTBOUND_QUEUE_MAX];
    struct bk_outbound_figures figures;
    struct world world;
    size_t left_count = BK_OUTBOUND_QUEUE_MAX;
    setup_world(&world, state, serve, 8);
    memset(requests, 0, sizeof(requests));
    for (size_t i = 0; i < BK_OUTBOUND_QUEUE_MAX; i++) {
        requests[i] = world.exchange.request;
        requests[i].done = on_done_nothing;
        assert_int_equal(bk_outbound_submit(world.channel, &requests[i]), BK_OK);
    }
    assert_int_equal(bk_outbound_submit(world.channel, &world.exchange.request), BK_BUSY);
    assert_int_equal(bk_outbound_figures(world.outbound, &figures, 1), 1);
    assert_int_equal(figures.waiting + figures.running, BK_OUTBOUND_QUEUE_MAX);
    while (left_count > 0) {
        bool was_running = figures.running > 0;
        support_loop_run_for(world.loop, 10);
        (void)bk_outbound_figures(world.outbound, &figures, 1);
        assert_true(figures.running <= 8 || !was_running);
        left_count = figures.waiting + figures.running;
    }
    assert_int_equal(figures.failures, 0);
    assert_int_equal(world.request_count, BK_OUTBOUND_QUEUE_MAX);
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    teardown_world(&world);
}

static void test_a_host_that_hangs_does_not_hold_up_another(void **state) {
    struct support_exchange *hung;
    struct support_peer *other;
    struct world world;
    setup_world(&world, state, serve_silence, 4);
    hung = submit_many(&world, 100);
    other = support_peer_start(serve, &world);
    support_exchange_init(&world.exchange, support_peer_port(other), "/");
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    assert_in_range(world.exchange.request.duration_us, 0, 2000000);
    teardown_world(&world);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(hung[i].done_count, 1);
        assert_int_equal(hung[i].request.failure, BK_OUTBOUND_CANCELLED);
    }
    support_peer_stop(other);
    free(hung);
}

/* --- groups ----------------------------------------------------------------------------------- */

static struct support_exchange *submit_group(struct world *world, struct bk_slice group,
                                             size_t count) {
    struct support_exchange *exchanges = calloc(count, sizeof(*exchanges));
    assert_non_null(exchanges);
    for (size_t i = 0; i < count; i++) {
        support_exchange_init(&exchanges[i], support_peer_port(world->peer), "/");
        exchanges[i].request.group = group;
        support_exchange_submit(&exchanges[i], world->channel);
    }
    return exchanges;
}

static size_t count_done(const struct support_exchange *exchanges, size_t count) {
    size_t done_count = 0;
    for (size_t i = 0; i < count; i++)
        done_count += exchanges[i].done_count;
    return done_count;
}

static void test_a_group_has_a_share_of_the_queue_and_no_more(void **state) {
    struct support_exchange *full, *others;
    struct world world;
    setup_world(&world, state, serve_silence, 1);
    full = submit_group(&world, BK_SLICE("full"), BK_OUTBOUND_GROUP_MAX);
    world.exchange.request.group = BK_SLICE("full");
    assert_int_equal(bk_outbound_submit(world.channel, &world.exchange.request), BK_BUSY);
    others = submit_group(&world, BK_SLICE("other"), 1);
    bk_outbound_cancel(&full[BK_OUTBOUND_GROUP_MAX - 1].request);
    support_loop_run_until(world.loop, &full[BK_OUTBOUND_GROUP_MAX - 1].is_done);
    assert_int_equal(bk_outbound_submit(world.channel, &world.exchange.request), BK_OK);
    teardown_world(&world);
    assert_int_equal(count_done(full, BK_OUTBOUND_GROUP_MAX), BK_OUTBOUND_GROUP_MAX);
    free(full);
    free(others);
}

/* At one host with one place, which all want. */
static void test_groups_take_turns(void **state) {
    enum { MANY = 200 };
    struct support_exchange *many, *few;
    struct world world;
    setup_world(&world, state, serve, 1);
    many = submit_group(&world, BK_SLICE("many"), MANY);
    few = submit_group(&world, BK_SLICE("few"), 3);
    for (size_t i = 0; i < 3; i++)
        support_loop_run_until(world.loop, &few[i].is_done);
    assert_in_range(count_done(many, MANY), 1, MANY / 4);
    support_loop_run_until(world.loop, &many[MANY - 1].is_done);
    assert_int_equal(count_done(many, MANY), MANY);
    teardown_world(&world);
    free(many);
    free(few);
}

static void test_a_group_whose_peers_hang_leaves_places_to_others(void **state) {
    struct support_exchange *hung;
    struct support_peer *other;
    struct world world;
    setup_world(&world, state, serve_silence, 8);
    hung = submit_group(&world, BK_SLICE("hung"), 100);
    other = support_peer_start(serve, &world);
    support_exchange_init(&world.exchange, support_peer_port(other), "/");
    world.exchange.request.group = BK_SLICE("well");
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    assert_int_equal(count_done(hung, 100), 0);
    teardown_world(&world);
    support_peer_stop(other);
    free(hung);
}

static void serve_one_path(struct support_connection *connection) {
    const char *head = support_connection_read(connection, "\r\n\r\n");
    if (head != NULL && strncmp(head, "GET /well ", 10) == 0)
        (void)support_connection_send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    support_connection_hang(connection);
}

static void test_a_group_that_hangs_at_a_host_leaves_its_places_to_others(void **state) {
    struct support_exchange *hung;
    struct world world;
    setup_world(&world, state, serve_one_path, 4);
    hung = submit_group(&world, BK_SLICE("hung"), 100);
    support_loop_run_for(world.loop, 20); /* it has all that it gets */
    support_exchange_init(&world.exchange, support_peer_port(world.peer), "/well");
    world.exchange.request.group = BK_SLICE("well");
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    assert_int_equal(count_done(hung, 100), 0);
    teardown_world(&world);
    free(hung);
}

static void test_three_groups_whose_peers_hang_leave_a_place(void **state) {
    static const struct bk_slice names[] = {BK_SLICE_INIT("a"), BK_SLICE_INIT("b"),
                                            BK_SLICE_INIT("c")};
    struct support_exchange *hung[3];
    struct support_peer *other;
    struct world world;
    setup_world(&world, state, serve_silence, 8);
    for (size_t i = 0; i < 3; i++) {
        hung[i] = submit_group(&world, names[i], 100);
        support_loop_run_for(world.loop, 20); /* it has all that it gets */
    }
    other = support_peer_start(serve, &world);
    support_exchange_init(&world.exchange, support_peer_port(other), "/");
    world.exchange.request.group = BK_SLICE("well");
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    for (size_t i = 0; i < 3; i++) /* it did not wait until they gave up */
        assert_int_equal(count_done(hung[i], 100), 0);
    teardown_world(&world);
    support_peer_stop(other);
    for (size_t i = 0; i < 3; i++)
        free(hung[i]);
}

/* And when they are gone, it has as many as before. */
static void test_a_group_gets_the_places_that_others_give_back(void **state) {
    struct support_exchange *first, *second;
    struct world world;
    setup_world(&world, state, serve_silence, 8);
    first = submit_group(&world, BK_SLICE("first"), 4);
    while (world.request_count < 4)
        support_loop_run_for(world.loop, 1);
    second = submit_group(&world, BK_SLICE("second"), 4);
    while (world.request_count < 6)
        support_loop_run_for(world.loop, 1);
    support_loop_run_for(world.loop, 20);
    assert_int_equal(world.request_count, 6);
    for (size_t i = 0; i < 4; i++)
        bk_outbound_cancel(&first[i].request);
    while (world.request_count < 8)
        support_loop_run_for(world.loop, 1);
    teardown_world(&world);
    free(first);
    free(second);
}

static uint32_t begun_count;

static void on_begun(struct bk_outbound_request *request) {
    assert_non_null(request);
    begun_count++;
}

static void test_a_request_is_told_when_its_turn_has_come(void **state) {
    struct support_exchange exchanges[2];
    struct world world;
    setup_world(&world, state, serve_silence, 1);
    begun_count = 0;
    for (size_t i = 0; i < 2; i++) {
        support_exchange_init(&exchanges[i], support_peer_port(world.peer), "/");
        exchanges[i].request.begun = on_begun;
        support_exchange_submit(&exchanges[i], world.channel);
        assert_int_equal(begun_count, 0); /* never before submit returns */
    }
    support_loop_run_for(world.loop, 20);
    assert_int_equal(begun_count, 1);
    bk_outbound_cancel(&exchanges[0].request);
    support_loop_run_until(world.loop, &exchanges[0].is_done);
    support_loop_run_for(world.loop, 20);
    assert_int_equal(begun_count, 2);
    teardown_world(&world);
}

/* Whatever order they come, go and are cancelled in, nobody is forgotten. */
static void test_each_of_many_groups_at_many_hosts_has_its_turn(void **state) {
    enum { PEERS = 5, GROUPS = 7, COUNT = 1000 };
    static const struct bk_slice groups[GROUPS] = {
        BK_SLICE_INIT("a"), BK_SLICE_INIT("b"), BK_SLICE_INIT("c"), BK_SLICE_INIT("d"),
        BK_SLICE_INIT("e"), BK_SLICE_INIT("f"), BK_SLICE_INIT("")};
    static struct support_exchange exchanges[COUNT];
    struct support_peer *peers[PEERS];
    uint32_t seed = 7;
    struct world world;
    setup_world(&world, state, serve, 2);
    for (size_t i = 0; i < PEERS; i++)
        peers[i] = support_peer_start(serve, &world);
    for (size_t i = 0; i < COUNT; i++) {
        seed = seed * 1664525u + 1013904223u;
        support_exchange_init(&exchanges[i], support_peer_port(peers[(seed >> 8) % PEERS]), "/");
        exchanges[i].request.group = groups[(seed >> 16) % GROUPS];
        support_exchange_submit(&exchanges[i], world.channel);
        if ((seed >> 24) % 4 == 0)
            bk_outbound_cancel(&exchanges[(seed >> 4) % (i + 1)].request);
        if ((seed >> 20) % 16 == 0)
            support_loop_run_for(world.loop, 1);
    }
    for (size_t i = 0; i < COUNT; i++)
        if (!exchanges[i].is_done)
            support_loop_run_until(world.loop, &exchanges[i].is_done);
    assert_int_equal(count_done(exchanges, COUNT), COUNT);
    teardown_world(&world);
    for (size_t i = 0; i < PEERS; i++)
        support_peer_stop(peers[i]);
}

/* --- cancelling ------------------------------------------------------------------------------- */

static void expect_cancelled(struct world *world) {
    bk_outbound_cancel(&world->exchange.request);
    bk_outbound_cancel(&world->exchange.request);
    assert_false(world->exchange.is_done);
    support_loop_run_until(world->loop, &world->exchange.is_done);
    assert_int_equal(world->exchange.request.failure, BK_OUTBOUND_CANCELLED);
    assert_int_equal(world->exchange.done_count, 1);
    bk_outbound_cancel(&world->exchange.request); /* after: nothing */
}

static void test_what_waits_can_be_cancelled(void **state) {
    struct world world;
    setup_world(&world, state, serve_silence, 1);
    support_exchange_submit(&world.exchange, world.channel);
    expect_cancelled(&world);
    assert_int_equal(support_peer_connection_count(world.peer), 0);
    teardown_world(&world);
}

static void test_what_runs_can_be_cancelled(void **state) {
    struct world world;
    setup_world(&world, state, serve_silence, 1);
    support_exchange_submit(&world.exchange, world.channel);
    while (world.request_count == 0)
        support_loop_run_for(world.loop, 2);
    expect_cancelled(&world);
    assert_in_range(world.exchange.request.duration_us, 1, 2000000);
    teardown_world(&world);
}

static void test_what_waits_can_be_withdrawn_and_what_was_asked_stays(void **state) {
    struct support_exchange *exchanges;
    struct world world;
    setup_world(&world, state, serve_silence, 1);
    exchanges = submit_many(&world, 2);
    while (world.request_count == 0)
        support_loop_run_for(world.loop, 2);
    bk_outbound_withdraw(&exchanges[0].request);
    bk_outbound_withdraw(&exchanges[1].request);
    support_loop_run_until(world.loop, &exchanges[1].is_done);
    assert_int_equal(exchanges[1].request.failure, BK_OUTBOUND_CANCELLED);
    support_loop_run_for(world.loop, 50);
    assert_false(exchanges[0].is_done);
    bk_outbound_cancel(&exchanges[0].request);
    support_loop_run_until(world.loop, &exchanges[0].is_done);
    assert_int_equal(exchanges[0].request.failure, BK_OUTBOUND_CANCELLED);
    teardown_world(&world);
    assert_int_equal(world.request_count, 1);
    free(exchanges);
}

static void test_what_is_just_begun_can_be_cancelled(void **state) {
    struct world world;
    setup_world(&world, state, serve, 1);
    for (int i = 0; i < 50; i++) {
        bool is_begun = true;
        support_exchange_submit(&world.exchange, world.channel);
        (void)bk_loop_run_until(world.loop, &is_begun); /* no turn, or one */
        if (i % 2 == 1)
            support_loop_run_for(world.loop, 1);
        bk_outbound_cancel(&world.exchange.request);
        if (!world.exchange.is_done)
            support_loop_run_until(world.loop, &world.exchange.is_done);
        assert_int_equal(world.exchange.done_count, i + 1);
    }
    teardown_world(&world);
}

static void test_a_place_that_is_cancelled_goes_to_the_next(void **state) {
    struct support_exchange *exchanges;
    struct world world;
    setup_world(&world, state, serve_silence, 1);
    exchanges = submit_many(&world, 3);
    while (world.request_count == 0)
        support_loop_run_for(world.loop, 2);
    bk_outbound_cancel(&exchanges[1].request); /* waits */
    bk_outbound_cancel(&exchanges[0].request); /* runs */
    while (world.request_count == 1)
        support_loop_run_for(world.loop, 2);
    assert_true(exchanges[0].is_done && exchanges[1].is_done);
    assert_false(exchanges[2].is_done);
    teardown_world(&world);
    assert_true(exchanges[2].is_done);
    free(exchanges);
}

/* --- done ------------------------------------------------------------------------------------- */

struct again {
    struct bk_outbound_request request;
    struct world *world;
    uint32_t count;
    bool is_over;
};

/* From inside of done: cancels what is done, which is nothing, and asks again. */
static void on_done_ask_again(struct bk_outbound_request *request) {
    struct again *again = bk_container_of(request, struct again, request);
    assert_int_equal(request->failure, BK_OUTBOUND_OK);
    assert_int_equal(request->status, 200);
    assert_true(bk_slice_starts_with(request->head, BK_SLICE("HTTP/1.1 200 OK")));
    bk_outbound_cancel(request);
    again->is_over = ++again->count == 20;
    if (!again->is_over)
        assert_int_equal(bk_outbound_submit(again->world->channel, request), BK_OK);
}

static void test_done_may_ask_again(void **state) {
    struct world world;
    struct again again = {.world = &world};
    setup_world(&world, state, serve, 1);
    again.request = world.exchange.request;
    again.request.done = on_done_ask_again;
    assert_int_equal(bk_outbound_submit(world.channel, &again.request), BK_OK);
    support_loop_run_until(world.loop, &again.is_over);
    assert_int_equal(support_peer_connection_count(world.peer), 1);
    teardown_world(&world);
}

static void on_done_free(struct bk_outbound_request *request) {
    bool *is_over = (bool *)(uintptr_t)request->body.data;
    free(request);
    *is_over = true;
}

static void test_the_request_may_be_gone_after_done(void **state) {
    struct bk_outbound_request *request = calloc(1, sizeof(*request));
    bool is_over = false;
    struct world world;
    assert_non_null(request);
    setup_world(&world, state, serve, 1);
    *request = world.exchange.request;
    request->done = on_done_free;
    request->body.data = (const char *)&is_over;
    assert_int_equal(bk_outbound_submit(world.channel, request), BK_OK);
    bk_outbound_cancel(request);
    support_loop_run_until(world.loop, &is_over);
    teardown_world(&world);
}

/* --- what is refused -------------------------------------------------------------------------- */

static void expect_invalid(struct world *world) {
    assert_int_equal(bk_outbound_submit(world->channel, &world->exchange.request), BK_INVALID);
}

static void test_what_has_no_place_on_a_line_is_refused(void **state) {
    static const struct bk_outbound_header headers[] = {
        {BK_SLICE_INIT("X-A"), BK_SLICE_INIT("b\r\nX-C: d")},
        {BK_SLICE_INIT("X-A"), BK_SLICE_INIT("b\nc")},
        {BK_SLICE_INIT("X-A"), BK_SLICE_INIT("b\0c")},
        {BK_SLICE_INIT("X-A"), BK_SLICE_INIT("b\x7f")},
        {BK_SLICE_INIT("X-A\r\nB"), BK_SLICE_INIT("b")},
        {BK_SLICE_INIT("X A"), BK_SLICE_INIT("b")},
        {BK_SLICE_INIT("X:A"), BK_SLICE_INIT("b")},
        {BK_SLICE_INIT("X;"), BK_SLICE_INIT("b")},
        {BK_SLICE_INIT(""), BK_SLICE_INIT("b")},
        {BK_SLICE_INIT("Host"), BK_SLICE_INIT("other")},
        {BK_SLICE_INIT("content-LENGTH"), BK_SLICE_INIT("1")},
        {BK_SLICE_INIT("Transfer-Encoding"), BK_SLICE_INIT("chunked")},
        {BK_SLICE_INIT("Connection"), BK_SLICE_INIT("close")},
    };
    static struct bk_outbound_header many[BK_OUTBOUND_HEADERS_MAX + 1];
    static const char *const methods[] = {"", "GET\r\n", "G T", "CONNECT", "GET\t", "GÄT"};
    struct bk_outbound_request usual;
    struct world world;
    setup_world(&world, state, serve, 1);
    usual = world.exchange.request;
    for (size_t i = 0; i < BK_COUNT_OF(headers); i++) {
        world.exchange.request.headers = &headers[i];
        world.exchange.request.header_count = 1;
        expect_invalid(&world);
    }
    for (size_t i = 0; i < BK_COUNT_OF(many); i++)
        many[i] = (struct bk_outbound_header){BK_SLICE("X-A"), BK_SLICE("b")};
    world.exchange.request.headers = many;
    world.exchange.request.header_count = BK_COUNT_OF(many);
    expect_invalid(&world);
    world.exchange.request = usual;
    for (size_t i = 0; i < BK_COUNT_OF(methods); i++) {
        world.exchange.request.method = methods[i];
        expect_invalid(&world);
    }
    world.exchange.request = usual;
    world.exchange.request.url = BK_SLICE("http://127.0.0.1/\r\nX-A: b");
    expect_invalid(&world);
    world.exchange.request = usual;
    support_exchange_run(&world.exchange, world.loop, world.channel);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    teardown_world(&world);
}

/* --- closing ---------------------------------------------------------------------------------- */

static void test_closing_ends_what_runs_and_what_waits(void **state) {
    struct support_exchange *exchanges;
    struct world world;
    setup_world(&world, state, serve_silence, 4);
    exchanges = submit_many(&world, 20);
    while (world.request_count < 4)
        support_loop_run_for(world.loop, 2);
    close_channel(&world);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(exchanges[i].done_count, 1);
        assert_int_equal(exchanges[i].request.failure, BK_OUTBOUND_CANCELLED);
        assert_string_equal(exchanges[i].reason, "the server is shutting down");
    }
    support_peer_stop(world.peer);
    free(exchanges);
}

struct closing {
    struct bk_outbound_request request;
    struct world *world;
    enum bk_status status;
    bool is_done, is_closed;
};

static void on_closed(void *user) {
    struct closing *closing = user;
    assert_true(closing->is_done);
    closing->is_closed = true;
}

static void on_done_submit(struct bk_outbound_request *request) {
    struct closing *closing = bk_container_of(request, struct closing, request);
    closing->is_done = true;
    closing->status =
        bk_outbound_submit(closing->world->channel, &closing->world->exchange.request);
}

static void test_a_channel_that_closes_takes_nothing_more(void **state) {
    struct world world;
    struct closing closing = {.world = &world};
    setup_world(&world, state, serve, 1);
    closing.request = world.exchange.request;
    closing.request.done = on_done_submit;
    assert_int_equal(bk_outbound_submit(world.channel, &closing.request), BK_OK);
    bk_outbound_close(world.channel, on_closed, &closing);
    bk_outbound_cancel(&closing.request);
    assert_false(closing.is_done || closing.is_closed);
    support_loop_run_until(world.loop, &closing.is_closed);
    assert_int_equal(closing.status, BK_CLOSING);
    bk_outbound_destroy(world.outbound);
    support_peer_stop(world.peer);
}

static void test_a_channel_that_was_never_used_starts_no_thread(void **state) {
    struct world world;
    setup_world(&world, state, serve, 1);
    teardown_world(&world);
}

/* A name that takes its time, a connection that does not come: nothing of it is waited for. */
static void test_closing_does_not_wait_for_whoever_hangs(void **state) {
    struct support_full_listener *listener = support_full_listener_create();
    struct support_exchange name, connecting;
    struct world world;
    setup_world(&world, state, serve_silence, 4);
    support_exchange_init(&connecting, support_full_listener_port(listener), "/");
    support_exchange_submit(&connecting, world.channel);
    support_exchange_init(&name, 80, "/");
    name.request.url = BK_SLICE("http://nobody.invalid/");
    support_exchange_submit(&name, world.channel);
    support_loop_run_for(world.loop, 20);
    teardown_world(&world);
    assert_int_equal(connecting.request.failure, BK_OUTBOUND_CANCELLED);
    assert_int_equal(name.done_count, 1);
    support_full_listener_destroy(listener);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_a_host_has_so_many_connections_and_no_more),
        LOOP_TEST(test_the_queue_has_an_end),
        LOOP_TEST(test_a_host_that_hangs_does_not_hold_up_another),
        LOOP_TEST(test_a_group_has_a_share_of_the_queue_and_no_more),
        LOOP_TEST(test_groups_take_turns),
        LOOP_TEST(test_a_group_whose_peers_hang_leaves_places_to_others),
        LOOP_TEST(test_a_group_that_hangs_at_a_host_leaves_its_places_to_others),
        LOOP_TEST(test_three_groups_whose_peers_hang_leave_a_place),
        LOOP_TEST(test_a_group_gets_the_places_that_others_give_back),
        LOOP_TEST(test_a_request_is_told_when_its_turn_has_come),
        LOOP_TEST(test_each_of_many_groups_at_many_hosts_has_its_turn),
        LOOP_TEST(test_what_waits_can_be_cancelled),
        LOOP_TEST(test_what_runs_can_be_cancelled),
        LOOP_TEST(test_what_waits_can_be_withdrawn_and_what_was_asked_stays),
        LOOP_TEST(test_what_is_just_begun_can_be_cancelled),
        LOOP_TEST(test_a_place_that_is_cancelled_goes_to_the_next),
        LOOP_TEST(test_done_may_ask_again),
        LOOP_TEST(test_the_request_may_be_gone_after_done),
        LOOP_TEST(test_what_has_no_place_on_a_line_is_refused),
        LOOP_TEST(test_closing_ends_what_runs_and_what_waits),
        LOOP_TEST(test_a_channel_that_closes_takes_nothing_more),
        LOOP_TEST(test_a_channel_that_was_never_used_starts_no_thread),
        LOOP_TEST(test_closing_does_not_wait_for_whoever_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
