/* What endpoints are handed, and how much of it there may be: events by their number, and the bytes
 * of those that wait. The position is played here, and so is what sends and what records. */
#include "places.h"

#include "bakend/alloc.h"
#include "support.h"

#include <stdio.h>

enum { ENDPOINTS = 200, OTHER = ENDPOINTS, EVENTS = WEBHOOKS_WINDOW };

struct world {
    struct bk_loop *loop;
    struct bk_module_context context;
    struct webhooks_state state;
    struct webhooks_tenant tenants[2];
    struct webhooks_config config;
    struct webhooks_endpoint endpoints[ENDPOINTS + 1]; /* the last one is the other tenant's */
    uint32_t handed[ENDPOINTS + 1];                    /* in hand */
    struct bk_event *events[EVENTS];
    size_t event_bytes;
};

/* --- what hand.c and queue.c call ------------------------------------------------------------- */

enum { BEGUN_MAX = PLACES_MAX };

static struct webhooks_send *begun[BEGUN_MAX];
static size_t begun_count;
static uint32_t allowed;
static uint64_t recorded[EVENTS];
static size_t recorded_count;

void webhooks_endpoint_ref(struct webhooks_endpoint *endpoint) { endpoint->use_count++; }

void webhooks_endpoint_unref(struct webhooks_endpoint *endpoint) {
    assert_true(endpoint->use_count > 0);
    endpoint->use_count--;
}

uint32_t webhooks_health_allows(struct webhooks_endpoint *endpoint) {
    (void)endpoint;
    return allowed;
}

bool webhooks_health_is_slow(const struct webhooks_endpoint *endpoint) {
    (void)endpoint;
    return false;
}

void webhooks_send_begin(struct webhooks_send *send) {
    assert_true(begun_count < BEGUN_MAX);
    begun[begun_count++] = send;
}

void webhooks_send_cancel(struct webhooks_send *send) { (void)send; }
void webhooks_sendings_free(struct webhooks_places *places) { (void)places; }

bool webhooks_retry_blocks(const struct webhooks_endpoint *endpoint, struct bk_slice subject) {
    (void)endpoint;
    (void)subject;
    return false;
}

int64_t webhooks_retry_delay(const struct webhooks_state *state, uint32_t number,
                             uint64_t floor_ms) {
    (void)state;
    (void)number;
    (void)floor_ms;
    return -1;
}

void webhooks_delivery_id(char id[WEBHOOKS_ID_BYTES], uint64_t sequence, struct bk_slice webhook) {
    (void)sequence;
    memcpy(id, webhook.data, WEBHOOKS_ID_BYTES);
}

void webhooks_record(struct webhooks_record *record) {
    assert_true(recorded_count < EVENTS);
    recorded[recorded_count++] = record->attempt.sequence;
    record->recorded(record, BK_OK);
}

/* --- the world -------------------------------------------------------------------------------- */

static void make_events(struct world *world, size_t payload_bytes) {
    char *payload = bk_alloc(payload_bytes);
    memset(payload, 'a', payload_bytes);
    payload[0] = payload[payload_bytes - 1] = '"';
    for (uint64_t i = 0; i < EVENTS; i++) {
        char id[32];
        int length = snprintf(id, sizeof id, "evt_%u", (unsigned)i + 1);
        const struct bk_event_fields fields = {.sequence = i + 1,
                                               .id = bk_slice_make(id, (size_t)length),
                                               .type = BK_SLICE("posts.updated"),
                                               .source = BK_SLICE("test"),
                                               .tenant = BK_SLICE("default"),
                                               .subject = BK_SLICE("posts/1"),
                                               .actor = BK_SLICE("system"),
                                               .payload = bk_slice_make(payload, payload_bytes)};
        world->events[i] = bk_event_create(&fields);
    }
    world->event_bytes = world->events[0]->json.length;
    bk_free(payload);
}

static void make_endpoint(struct world *world, size_t index) {
    struct webhooks_endpoint *endpoint = &world->endpoints[index];
    endpoint->config = &world->config;
    endpoint->of = &world->tenants[index == OTHER];
    endpoint->position = (struct bk_position){.user = endpoint, .window = WEBHOOKS_WINDOW};
    bk_list_init(&endpoint->hand);
    webhooks_queue_open(endpoint);
    endpoint->queue->room = WEBHOOKS_IN_FLIGHT_MAX; /* it has answered before */
}

static int setup(void **state) {
    struct world *world = bk_alloc_zero(sizeof *world);
    assert_int_equal(support_loop_setup((void **)&world->loop), 0);
    world->context.loop = world->loop;
    world->state.context = &world->context;
    world->config.in_flight_max = 1;
    webhooks_places_init(&world->state);
    begun_count = recorded_count = 0;
    allowed = 0;
    for (size_t i = 0; i < BK_COUNT_OF(world->tenants); i++) {
        world->tenants[i].state = &world->state;
        webhooks_line_open(&world->tenants[i]);
    }
    for (size_t i = 0; i < BK_COUNT_OF(world->endpoints); i++)
        make_endpoint(world, i);
    *state = world;
    return 0;
}

static int teardown(void **state) {
    struct world *world = *state;
    for (size_t i = 0; i < BK_COUNT_OF(world->endpoints); i++) {
        webhooks_hand_return(&world->endpoints[i]);
        assert_true(bk_list_is_empty(&world->endpoints[i].hand));
        assert_int_equal(world->endpoints[i].use_count, 0);
        webhooks_queue_close(&world->endpoints[i]);
    }
    assert_int_equal(world->state.places->handed, 0);
    assert_int_equal(world->state.places->held_bytes, 0);
    for (size_t i = 0; i < BK_COUNT_OF(world->tenants); i++)
        webhooks_line_close(&world->tenants[i]);
    webhooks_places_fini(&world->state);
    for (size_t i = 0; i < EVENTS; i++)
        bk_event_unref(world->events[i]);
    assert_int_equal(support_loop_teardown((void **)&world->loop), 0);
    bk_free(world);
    return 0;
}

/* Hands it the next event as a position does: while its window has room. */
static bool hand_one(struct world *world, size_t index) {
    struct webhooks_endpoint *endpoint = &world->endpoints[index];
    uint32_t number = world->handed[index];
    if (number >= EVENTS || number >= endpoint->position.window)
        return false;
    assert_int_equal(webhooks_hand_take(&endpoint->position, world->events[number]),
                     BK_HANDED_TAKEN);
    world->handed[index]++;
    return true;
}

static void hand_all(struct world *world, size_t index) {
    while (hand_one(world, index)) {
    }
}

/* What stays in memory of the events when nobody else has them. */
static size_t bytes_kept(const struct world *world) {
    size_t count = 0;
    for (size_t i = 0; i < EVENTS; i++)
        count += world->events[i]->reference_count > 1;
    return count * world->event_bytes;
}

/* As send.c does it. */
static void answer_one(struct world *world) {
    struct webhooks_send *send = begun[--begun_count];
    struct webhooks_endpoint *endpoint = send->endpoint;
    struct bk_event *event = send->event;
    send->event = NULL;
    send->result = (struct webhooks_result){.verdict = WEBHOOKS_OK, .status = 200};
    webhooks_queue_ended(send);
    send->done(send);
    bk_event_unref(event);
    webhooks_endpoint_unref(endpoint);
    support_loop_run_for(world->loop, 1);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void a_tenant_is_handed_no_more_events_than_it_leaves_free(void **state) {
    struct world *world = *state;
    const struct webhooks_places *places = world->state.places;
    make_events(world, 2);
    for (size_t i = 0; i < ENDPOINTS; i++)
        hand_all(world, i);
    /* Half of them, then a few each endpoint. */
    assert_int_equal(world->handed[0], WEBHOOKS_WINDOW);
    assert_int_equal(world->handed[ENDPOINTS - 1], PLACES_WINDOW_MIN);
    assert_in_range(places->handed, PLACES_HANDED_MAX / 2,
                    PLACES_HANDED_MAX / 2 + ENDPOINTS * PLACES_WINDOW_MIN);
    hand_all(world, OTHER);
    assert_int_equal(world->handed[OTHER], WEBHOOKS_WINDOW);
}

/* All of them wait for the first of their subject, none in a queue. */
static void events_of_an_ordered_endpoint_are_held_up_to_a_number_of_bytes(void **state) {
    struct world *world = *state;
    const struct webhooks_places *places = world->state.places;
    world->config.is_ordered = true;
    make_events(world, (size_t)2 * PLACES_HELD_MAX / EVENTS);
    for (size_t i = 0; i < EVENTS; i++) {
        assert_true(hand_one(world, 0));
        assert_true(places->held_bytes <= PLACES_HELD_MAX);
    }
    assert_true(places->held_bytes > PLACES_HELD_MAX - world->event_bytes);
    assert_true(bytes_kept(world) <= PLACES_HELD_MAX);
}

/* Those that are held no longer are sent all the same, in their order. */
static void what_is_not_held_is_sent_in_its_turn(void **state) {
    struct world *world = *state;
    world->config.is_ordered = true;
    make_events(world, (size_t)2 * PLACES_HELD_MAX / EVENTS);
    hand_all(world, 0);
    allowed = 1;
    webhooks_queue_wake(&world->endpoints[0]);
    support_loop_run_for(world->loop, 1);
    for (size_t i = 0; i < EVENTS; i++) {
        assert_int_equal(begun_count, 1);
        assert_int_equal(begun[0]->sequence, i + 1);
        assert_true(begun[0]->event_id.length > 0); /* to be read by, if need be */
        answer_one(world);
    }
    assert_int_equal(begun_count, 0);
    assert_int_equal(recorded_count, EVENTS);
    for (size_t i = 0; i < EVENTS; i++)
        assert_int_equal(recorded[i], i + 1);
    assert_int_equal(world->state.places->held_bytes, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_tenant_is_handed_no_more_events_than_it_leaves_free),
        TEST(events_of_an_ordered_endpoint_are_held_up_to_a_number_of_bytes),
        TEST(what_is_not_held_is_sent_in_its_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
