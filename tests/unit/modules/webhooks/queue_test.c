/* Turns, places, caps and rates: who is sent to next. Requests are begun here and ended by hand. */
#include "places.h"

#include "bakend/alloc.h"
#include "support.h"

enum { SENDS_MAX = 1024 };

struct world {
    struct bk_loop *loop;
    struct bk_module_context context;
    struct webhooks_state state;
    struct webhooks_tenant tenants[2];
    struct webhooks_config configs[8];
    struct webhooks_endpoint endpoints[8];
    struct webhooks_send sends[SENDS_MAX];
    size_t send_count;
};

/* --- what queue.c calls ----------------------------------------------------------------------- */

static struct webhooks_send *begun[SENDS_MAX];
static size_t begun_count, wished_count;
static uint32_t allowed[8];
static bool are_slow[8];
static const struct webhooks_endpoint *first_endpoint;

void webhooks_endpoint_ref(struct webhooks_endpoint *endpoint) { endpoint->use_count++; }

void webhooks_endpoint_unref(struct webhooks_endpoint *endpoint) {
    assert_true(endpoint->use_count > 0);
    endpoint->use_count--;
}

uint32_t webhooks_health_allows(struct webhooks_endpoint *endpoint) {
    return allowed[endpoint - first_endpoint];
}

bool webhooks_health_is_slow(const struct webhooks_endpoint *endpoint) {
    return are_slow[endpoint - first_endpoint];
}

void webhooks_send_begin(struct webhooks_send *send) { begun[begun_count++] = send; }

void webhooks_send_cancel(struct webhooks_send *send) {
    (void)send;
    wished_count++;
}

void webhooks_sendings_free(struct webhooks_places *places) { (void)places; }

/* --- the world -------------------------------------------------------------------------------- */

static int setup(void **state) {
    struct world *world = bk_alloc_zero(sizeof *world);
    assert_int_equal(support_loop_setup((void **)&world->loop), 0);
    world->context.loop = world->loop;
    world->state.context = &world->context;
    webhooks_places_init(&world->state);
    begun_count = wished_count = 0;
    first_endpoint = world->endpoints;
    for (size_t i = 0; i < BK_COUNT_OF(world->tenants); i++) {
        world->tenants[i].state = &world->state;
        webhooks_line_open(&world->tenants[i]);
    }
    /* The first four are the first tenant's. */
    for (size_t i = 0; i < BK_COUNT_OF(world->endpoints); i++) {
        world->configs[i].in_flight_max = WEBHOOKS_IN_FLIGHT_MAX;
        world->endpoints[i].config = &world->configs[i];
        world->endpoints[i].of = &world->tenants[i / 4];
        webhooks_queue_open(&world->endpoints[i]);
        world->endpoints[i].queue->room = WEBHOOKS_IN_FLIGHT_MAX; /* they have answered before */
        allowed[i] = UINT32_MAX;
        are_slow[i] = false;
    }
    *state = world;
    return 0;
}

static void turn(struct world *world) { support_loop_run_for(world->loop, 1); }

static void end_all(struct world *world) {
    while (begun_count > 0) {
        struct webhooks_send *send = begun[--begun_count];
        webhooks_queue_ended(send);
        webhooks_endpoint_unref(send->endpoint);
        turn(world);
    }
}

static int teardown(void **state) {
    struct world *world = *state;
    for (size_t i = 0; i < BK_COUNT_OF(world->endpoints); i++)
        webhooks_queue_clear(&world->endpoints[i]);
    turn(world);
    end_all(world);
    for (size_t i = 0; i < BK_COUNT_OF(world->endpoints); i++) {
        assert_int_equal(world->endpoints[i].use_count, 0);
        webhooks_queue_close(&world->endpoints[i]);
    }
    for (size_t i = 0; i < BK_COUNT_OF(world->tenants); i++)
        webhooks_line_close(&world->tenants[i]);
    webhooks_places_fini(&world->state);
    assert_int_equal(support_loop_teardown((void **)&world->loop), 0);
    bk_free(world);
    return 0;
}

static void on_done(struct webhooks_send *send) { send->user = send; /* it was told */ }

static struct webhooks_send *put(struct world *world, size_t endpoint, enum webhooks_class class) {
    struct webhooks_send *send = &world->sends[world->send_count++];
    assert_true(world->send_count <= SENDS_MAX);
    *send = (struct webhooks_send){.endpoint = &world->endpoints[endpoint],
                                   .class = class,
                                   .sequence = world->send_count,
                                   .done = on_done};
    webhooks_queue_put(send);
    return send;
}

static void put_many(struct world *world, size_t endpoint, size_t count) {
    for (size_t i = 0; i < count; i++)
        (void)put(world, endpoint, WEBHOOKS_FIRST);
}

/* Takes the request out of those that were begun. */
static void end_as(struct world *world, size_t index, uint32_t http_status) {
    struct webhooks_send *send = begun[index];
    assert_true(index < begun_count);
    begun_count--;
    memmove(begun + index, begun + index + 1, (begun_count - index) * sizeof(begun[0]));
    send->result.status = http_status;
    webhooks_queue_ended(send);
    webhooks_endpoint_unref(send->endpoint);
    turn(world);
}

static void end(struct world *world, size_t index) { end_as(world, index, 200); }

static size_t begun_of(const struct world *world, size_t endpoint) {
    size_t count = 0;
    for (size_t i = 0; i < begun_count; i++)
        count += begun[i]->endpoint == &world->endpoints[endpoint];
    return count;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void nothing_begins_inside_of_put(void **state) {
    struct world *world = *state;
    (void)put(world, 0, WEBHOOKS_FIRST);
    assert_int_equal(begun_count, 0);
    turn(world);
    assert_int_equal(begun_count, 1);
}

static void first_attempts_come_before_others_and_replays_last(void **state) {
    struct world *world = *state;
    world->configs[0].in_flight_max = 1;
    struct webhooks_send *blocks = put(world, 0, WEBHOOKS_FIRST);
    turn(world);
    assert_ptr_equal(begun[0], blocks);
    struct webhooks_send *replay = put(world, 0, WEBHOOKS_REPLAY);
    struct webhooks_send *retry = put(world, 0, WEBHOOKS_RETRY);
    struct webhooks_send *first = put(world, 0, WEBHOOKS_FIRST);
    struct webhooks_send *const order[] = {first, retry, replay};
    for (size_t i = 0; i < BK_COUNT_OF(order); i++) {
        end(world, 0);
        assert_int_equal(begun_count, 1);
        assert_ptr_equal(begun[0], order[i]);
    }
}

static void an_endpoint_has_no_more_than_its_cap(void **state) {
    struct world *world = *state;
    world->configs[0].in_flight_max = 3;
    put_many(world, 0, 10);
    turn(world);
    assert_int_equal(begun_count, 3);
    end(world, 0);
    assert_int_equal(begun_count, 3);
    struct webhooks_queue_facts facts = webhooks_queue_facts(&world->endpoints[0]);
    assert_int_equal(facts.sending, 3);
    assert_int_equal(facts.waiting[WEBHOOKS_FIRST], 6);
}

static void places_are_given_in_turns_over_tenants(void **state) {
    struct world *world = *state;
    for (size_t i = 0; i < 3; i++)
        put_many(world, i, 64);
    put_many(world, 4, 64);
    put_many(world, 5, 64);
    turn(world);
    /* As many each, whatever the number of their endpoints, and some are left. */
    size_t first = begun_of(world, 0) + begun_of(world, 1) + begun_of(world, 2);
    size_t second = begun_of(world, 4) + begun_of(world, 5);
    assert_in_range(first, second - 1, second + 1);
    assert_true(second > PLACES_MAX / 6 && first + second < PLACES_MAX / 2);
    assert_in_range(begun_of(world, 1), first / 3 - 1, first / 3 + 1);
}

static void who_comes_late_finds_places(void **state) {
    struct world *world = *state;
    for (size_t i = 0; i < 4; i++)
        put_many(world, i, 64);
    turn(world);
    assert_int_equal(begun_count, PLACES_MAX / 4);
    put_many(world, 4, 20);
    turn(world);
    assert_int_equal(begun_of(world, 4), 20);
}

static void who_has_not_answered_has_two_places(void **state) {
    struct world *world = *state;
    webhooks_queue_doubt(&world->endpoints[0]);
    put_many(world, 0, 40);
    turn(world);
    assert_int_equal(begun_count, PLACES_UNPROVEN);
    end_as(world, 0, 500); /* whatever it says, it is there */
    assert_int_equal(begun_count, 2 * PLACES_UNPROVEN);
    end(world, 0);
    assert_int_equal(begun_count, 4 * PLACES_UNPROVEN);
    end_as(world, 0, 0); /* nobody there */
    assert_int_equal(begun_count, 4 * PLACES_UNPROVEN - 1);
}

/* They answered before, and hang all at once. */
static void what_is_on_its_way_for_long_counts_as_slow(void **state) {
    struct world *world = *state;
    struct webhooks_line *line = world->tenants[0].line;
    put_many(world, 0, 64);
    put_many(world, 1, 64);
    turn(world);
    put_many(world, 3, 10);
    turn(world);
    assert_int_equal(begun_count, PLACES_MAX / 4);
    assert_int_equal(line->taken_slow, 0);
    for (size_t i = 0; i < begun_count; i++)
        begun[i]->began_ms = 0;
    webhooks_places_look(&world->state);
    turn(world);
    assert_int_equal(line->taken_slow, PLACES_MAX / 4);
    assert_int_equal(begun_of(world, 3), 10);
}

static void who_was_quick_and_is_not_holds_up_nobody_behind_it(void **state) {
    struct world *world = *state;
    are_slow[0] = true;
    world->configs[0].in_flight_max = PLACES_MAX;
    world->endpoints[0].queue->room = PLACES_MAX;
    put_many(world, 0, PLACES_MAX / 4 + 1);
    put_many(world, 1, 64);
    put_many(world, 2, 64);
    turn(world);
    assert_int_equal(begun_count, PLACES_MAX / 2); /* of each kind as many as there may be */
    put_many(world, 1, 1);
    put_many(world, 2, 1);
    put_many(world, 3, 1);
    turn(world);
    are_slow[1] = are_slow[2] = true;
    for (size_t i = begun_count; i-- > 0;)
        if (begun[i]->endpoint == &world->endpoints[1])
            end(world, i);
    assert_int_equal(begun_of(world, 3), 1);
}

static void what_is_tried_again_is_not_starved(void **state) {
    struct world *world = *state;
    world->configs[0].in_flight_max = 1;
    struct webhooks_send *replay = put(world, 0, WEBHOOKS_REPLAY);
    struct webhooks_send *retry = put(world, 0, WEBHOOKS_RETRY);
    put_many(world, 0, 100);
    turn(world);
    size_t retry_turn = 0, replay_turn = 0;
    for (size_t i = 1; i <= 32; i++) {
        retry_turn = begun[0] == retry ? i : retry_turn;
        replay_turn = begun[0] == replay ? i : replay_turn;
        end(world, 0);
    }
    assert_in_range(retry_turn, 1, 4);
    assert_in_range(replay_turn, 1, 16);
}

static void what_health_forbids_waits_until_it_is_woken(void **state) {
    struct world *world = *state;
    allowed[0] = 0;
    put_many(world, 0, 5);
    turn(world);
    assert_int_equal(begun_count, 0);
    allowed[0] = 1;
    webhooks_queue_wake(&world->endpoints[0]);
    turn(world);
    assert_int_equal(begun_count, 1); /* a probe */
    allowed[0] = UINT32_MAX;
    end(world, 0);
    assert_int_equal(begun_count, 4);
}

static void slow_ones_share_half_of_what_their_tenant_may_have(void **state) {
    struct world *world = *state;
    for (size_t i = 0; i < 3; i++) {
        are_slow[i] = true;
        put_many(world, i, 60);
    }
    turn(world);
    assert_int_equal(begun_count, PLACES_MAX / 4);
    put_many(world, 3, 60);
    turn(world);
    assert_int_equal(begun_of(world, 3), 60);
    size_t slow = begun_count - 60;
    end(world, 0); /* one of theirs: another of them has its place */
    assert_in_range(begun_count - 60, slow - 1, slow);
}

static void replays_share_a_quarter(void **state) {
    struct world *world = *state;
    for (size_t i = 0; i < 2 * PLACES_REPLAY_MAX; i++)
        (void)put(world, i % 8, WEBHOOKS_REPLAY);
    turn(world);
    assert_int_equal(begun_count, PLACES_REPLAY_MAX);
    put_many(world, 0, 8);
    turn(world);
    assert_int_equal(begun_count, PLACES_REPLAY_MAX + 8);
    end(world, 0);
    assert_int_equal(begun_count, PLACES_REPLAY_MAX + 8);
}

static void a_rate_holds_back_what_is_too_much(void **state) {
    struct world *world = *state;
    world->configs[0].rate_per_minute = 1; /* the next one in a minute */
    world->configs[1].rate_per_minute = 60 * 1000;
    put_many(world, 0, 5);
    put_many(world, 1, 5);
    put_many(world, 2, 5);
    SUPPORT_LOOP_UNTIL(world->loop, begun_of(world, 1) == 5 && begun_of(world, 2) == 5);
    assert_int_equal(begun_of(world, 0), 1);
}

static void events_for_which_there_is_no_room_are_left_in_the_journal(void **state) {
    struct world *world = *state;
    struct webhooks_places *places = world->state.places;
    const struct bk_event_fields fields = {.id = BK_SLICE("evt_1"),
                                           .type = BK_SLICE("posts.created"),
                                           .source = BK_SLICE("test"),
                                           .tenant = BK_SLICE("default"),
                                           .actor = BK_SLICE("system"),
                                           .payload = BK_SLICE("{}")};
    struct webhooks_send send = {.endpoint = &world->endpoints[0], .event_id = fields.id};
    send.event = bk_event_create(&fields);
    webhooks_queue_hold(&send);
    assert_non_null(send.event);
    assert_int_equal(places->held_bytes, send.event->json.length);
    webhooks_queue_hold(&send); /* counted once */
    assert_int_equal(places->held_bytes, send.event->json.length);
    webhooks_queue_let_go(&send);
    assert_int_equal(places->held_bytes, 0);
    places->held_bytes = PLACES_HELD_MAX;
    webhooks_queue_hold(&send);
    assert_null(send.event);
    assert_int_equal(places->held_bytes, PLACES_HELD_MAX);
}

static void what_the_former_address_brings_says_nothing_of_this_one(void **state) {
    struct world *world = *state;
    put_many(world, 0, 3);
    turn(world);
    world->endpoints[0].generation++;
    webhooks_queue_doubt(&world->endpoints[0]);
    end(world, 0);
    assert_int_equal(world->endpoints[0].queue->room, PLACES_UNPROVEN);
}

static void rates_of_many_are_looked_at_by_the_timer_alone(void **state) {
    struct world *world = *state;
    for (size_t i = 0; i < 8; i++) {
        world->configs[i].rate_per_minute = 1;
        put_many(world, i, 100);
    }
    turn(world);
    assert_int_equal(begun_count, 8);
    for (size_t i = 0; i < 8; i++)
        put_many(world, i, 20);
    /* Not each for each. */
    assert_true(world->state.places->looked < 100);
}

static void what_could_not_begin_is_the_first_to_begin_again(void **state) {
    struct world *world = *state;
    world->configs[0].in_flight_max = 1;
    struct webhooks_send *first = put(world, 0, WEBHOOKS_FIRST);
    (void)put(world, 0, WEBHOOKS_FIRST);
    turn(world);
    begun_count = 0;
    webhooks_queue_again(first);
    assert_int_equal(webhooks_places_taken(&world->state), 0);
    SUPPORT_LOOP_UNTIL(world->loop, begun_count == 1);
    assert_ptr_equal(begun[0], first);
}

static void what_waits_is_cancelled_at_once_and_what_is_sent_is_asked_to_end(void **state) {
    struct world *world = *state;
    world->configs[0].in_flight_max = 1;
    struct webhooks_send *sent = put(world, 0, WEBHOOKS_FIRST);
    struct webhooks_send *waits = put(world, 0, WEBHOOKS_FIRST);
    turn(world);
    webhooks_queue_cancel(waits);
    assert_ptr_equal(waits->user, waits);
    assert_int_equal(waits->status, BK_CANCELLED);
    webhooks_queue_cancel(sent);
    assert_null(sent->user);
    assert_int_equal(wished_count, 1);
}

static void who_is_gone_is_sent_nothing(void **state) {
    struct world *world = *state;
    put_many(world, 0, 3);
    world->endpoints[0].is_gone = true;
    webhooks_queue_clear(&world->endpoints[0]);
    assert_ptr_equal(world->sends[2].user, &world->sends[2]);
    struct webhooks_send *late = put(world, 0, WEBHOOKS_RETRY);
    assert_null(late->user);
    turn(world);
    assert_int_equal(late->status, BK_CANCELLED);
    assert_int_equal(begun_count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nothing_begins_inside_of_put),
        TEST(first_attempts_come_before_others_and_replays_last),
        TEST(an_endpoint_has_no_more_than_its_cap),
        TEST(places_are_given_in_turns_over_tenants),
        TEST(what_health_forbids_waits_until_it_is_woken),
        TEST(who_comes_late_finds_places),
        TEST(who_has_not_answered_has_two_places),
        TEST(what_is_on_its_way_for_long_counts_as_slow),
        TEST(who_was_quick_and_is_not_holds_up_nobody_behind_it),
        TEST(what_is_tried_again_is_not_starved),
        TEST(events_for_which_there_is_no_room_are_left_in_the_journal),
        TEST(what_the_former_address_brings_says_nothing_of_this_one),
        TEST(slow_ones_share_half_of_what_their_tenant_may_have),
        TEST(rates_of_many_are_looked_at_by_the_timer_alone),
        TEST(replays_share_a_quarter),
        TEST(a_rate_holds_back_what_is_too_much),
        TEST(what_could_not_begin_is_the_first_to_begin_again),
        TEST(what_waits_is_cancelled_at_once_and_what_is_sent_is_asked_to_end),
        TEST(who_is_gone_is_sent_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
