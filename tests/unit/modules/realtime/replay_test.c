/* Replay: everything that was missed, in order, once, at the client's pace. */
#include "world.h"

static int teardown(void **state) {
    (void)state;
    struct realtime *realtime = realtime_of_world();
    assert_int_equal(realtime->figures.sessions, 0);
    /* One may be on its way to a peer that has left. */
    for (int i = 0; i < 5000 && realtime->pages > 0; i++)
        support_loop_run_for(world.module.kernel.loop, 1);
    assert_int_equal(realtime->pages, 0);
    assert_true(bk_list_is_empty(&realtime->replays));
    support_module_close(&world.module);
    return 0;
}

/* Subscribes behind a sequence and returns the answer. */
static const char *subscribe_after(struct client *client, const char *what, uint64_t sequence) {
    char cursor[BK_CURSOR_BYTES + 1], message[512];
    cursor_at(sequence, cursor);
    snprintf(message, sizeof message, "{'id':1,'op':'subscribe',%s,'after':'%s'}", what, cursor);
    return say(client, message);
}

/* The client's next frames are these sequences. */
static void check_range(struct client *client, uint64_t first, uint64_t last) {
    run_until_count(client, client->seen + (size_t)(last - first + 1));
    for (uint64_t sequence = first; sequence <= last; sequence++)
        assert_int_equal(sequence_in(next(client)), sequence);
}

static void check_nothing_follows(struct client *client) {
    support_loop_run_for(world.module.kernel.loop, 20);
    assert_int_equal(unseen(client), 0);
}

static void test_what_was_missed_comes_first_and_what_happens_behind_it(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    /* More than a page and more than the tail holds. */
    emit("posts.created", "posts/a", 1200);
    struct client *client = connect_guest();
    assert_has(subscribe_after(client, "'types':['posts.*']", first + 99), "'recovered':true}");
    assert_int_equal(client->count, 1);
    for (int i = 0; i < 5; i++)
        emit("posts.updated", "posts/a", 10);
    check_range(client, first + 100, first + 1249);
    check_nothing_follows(client);
    emit("posts.updated", "posts/a", 3);
    check_range(client, first + 1250, first + 1252);
    check_nothing_follows(client);
    assert_int_equal(realtime_of_world()->figures.replays, 1);
    leave(client);
}

static void test_a_replay_sends_only_what_is_asked_for_and_may_be_seen(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 2);
    emit("secrets.created", "secrets/a", 2);
    emit("drafts.created", "drafts/a", 2);
    emit("posts.created", "posts/b", 2);
    struct client *guest = connect_guest(), *one = connect_guest();
    struct client *super = connect_as("default s root", NULL);
    subscribe_after(guest, "'types':['*']", first - 1);
    check_range(guest, first, first + 1);
    check_range(guest, first + 6, first + 7);
    check_nothing_follows(guest);
    subscribe_after(one, "'subject':'drafts/a'", first - 1);
    check_range(one, first + 4, first + 5);
    check_nothing_follows(one);
    subscribe_after(super, "'types':['secrets.*','drafts.*']", first - 1);
    check_range(super, first + 2, first + 5);
    check_nothing_follows(super);
    leave(guest);
    leave(one);
    leave(super);
}

static void test_a_second_subscription_goes_back_without_sending_anything_twice(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 5);
    struct client *client = connect_guest();
    subscribe_after(client, "'types':['posts.created']", first + 1);
    check_range(client, first + 2, first + 4);
    emit("posts.updated", "posts/a", 2);
    emit("posts.created", "posts/a", 1);
    check_range(client, first + 7, first + 7);
    /* It was sent first+2 … first+4 and first+7. */
    subscribe_after(client, "'types':['posts.*']", first - 1);
    check_range(client, first, first + 1);
    check_range(client, first + 5, first + 6);
    check_nothing_follows(client);
    emit("posts.created", "posts/a", 2);
    check_range(client, first + 8, first + 9);
    check_nothing_follows(client);
    leave(client);
}

static void test_two_replays_at_once_are_one(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 700);
    emit("posts.updated", "posts/a", 700);
    struct client *client = connect_guest();
    subscribe_after(client, "'types':['posts.updated']", first + 699);
    subscribe_after(client, "'types':['posts.created']", first - 1);
    run_until_count(client, 1402);
    support_loop_run_for(world.module.kernel.loop, 20);
    /* One answer may stand among the frames; each event is there once. */
    bool is_there[1400] = {false};
    size_t events = 0;
    for (size_t i = 0; i < client->count; i++) {
        if (!has(message_at(client, i), "'op':'event'"))
            continue;
        uint64_t index = sequence_in(message_at(client, i)) - first;
        assert_true(index < 1400 && !is_there[index]);
        is_there[index] = true;
        events++;
    }
    assert_int_equal(events, 1400);
    leave(client);
}

static void test_a_client_that_takes_little_gets_all_of_it_in_its_own_time(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 300);
    struct client *client = connect_guest();
    client->taken_max = 11; /* the answer and ten frames */
    subscribe_after(client, "'types':['posts.*']", first - 1);
    for (int i = 0; i < 40; i++) {
        support_loop_run_for(world.module.kernel.loop, 5);
        emit("posts.created", "posts/a", 1);
        client->taken_max += 10;
        client->channel.handler->on_drain(&client->channel);
    }
    client->taken_max = 0;
    client->channel.handler->on_drain(&client->channel);
    check_range(client, first, first + 339);
    check_nothing_follows(client);
    assert_false(client->is_closing);
    leave(client);
}

static void test_the_next_page_waits_until_the_queue_is_short(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 800);
    struct client *client = connect_guest();
    client->queued = 1024 * 1024;
    subscribe_after(client, "'types':['posts.*']", first - 1);
    for (int i = 0; i < 5000 && unseen(client) == 0; i++)
        support_loop_run_for(world.module.kernel.loop, 1);
    support_loop_run_for(world.module.kernel.loop, 50);
    assert_true(unseen(client) > 0 && unseen(client) <= 500);
    client->queued = 0;
    client->channel.handler->on_drain(&client->channel);
    check_range(client, first, first + 799);
    leave(client);
}

static void test_too_far_back_is_said_and_nothing_is_replayed(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    for (int i = 0; i < 11; i++)
        emit("posts.created", "posts/a", 1000);
    struct client *client = connect_guest();
    char cursor[BK_CURSOR_BYTES + 1], part[128];
    cursor_at(last_sequence(), cursor);
    snprintf(part, sizeof part, "{'id':1,'ok':true,'cursor':'%s','recovered':false}", cursor);
    assert_has(subscribe_after(client, "'types':['posts.*']", first), part);
    check_nothing_follows(client);
    emit("posts.created", "posts/a", 1);
    check_range(client, first + 11000, first + 11000);
    assert_int_equal(realtime_of_world()->figures.replays_refused, 1);
    leave(client);
}

static void test_a_cursor_of_another_history_is_not_recovered(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES + 1], message[256];
    const uint8_t epoch[8] = {1};
    struct client *client = connect_guest();
    bk_cursor_make(cursor, epoch, 1);
    cursor[BK_CURSOR_BYTES] = '\0';
    snprintf(message, sizeof message, "{'op':'subscribe','after':'%s'}", cursor);
    assert_has(say(client, message), "'recovered':false}");
    emit("posts.created", "posts/a", 1);
    run();
    assert_int_equal(unseen(client), 1);
    leave(client);
}

static void test_words_and_times_are_places_too(void **state) {
    (void)state;
    struct client *start = connect_as("default s root", NULL), *now = connect_guest();
    struct client *time = connect_guest(), *future = connect_guest();
    emit("posts.created", "posts/a", 4);
    uint64_t last = last_sequence();
    assert_has(say(start, "{'op':'subscribe','types':['*','_*'],'after':'start'}"),
               "'recovered':true}");
    check_range(start, 1, last);
    assert_has(say(now, "{'op':'subscribe','after':'now'}"), "'recovered':true}");
    check_nothing_follows(now);
    assert_has(say(time, "{'id':5,'op':'subscribe','types':['posts.*'],"
                         "'after':'2020-01-01T00:00:00Z'}"),
               "{'id':5,'ok':true,'cursor':'");
    check_range(time, last - 3, last);
    assert_has(say(future, "{'op':'subscribe','after':'2999-01-01T00:00:00Z'}"),
               "'recovered':true}");
    check_nothing_follows(future);
    leave(start);
    leave(now);
    leave(time);
    leave(future);
}

static void test_one_that_goes_during_a_read_leaves_nothing_behind(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 1200);
    struct client *client = connect_guest(), *timed = connect_guest();
    subscribe_after(client, "'types':['posts.*']", first - 1);
    leave(client);
    static const char message[] = "{\"op\":\"subscribe\",\"after\":\"2020-01-01T00:00:00Z\"}";
    timed->channel.handler->on_message(&timed->channel, bk_slice_from(message), false);
    leave(timed);
    support_loop_run_for(world.module.kernel.loop, 50);
}

static void test_unsubscribing_ends_a_replay(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 1200);
    struct client *client = connect_guest();
    subscribe_after(client, "'types':['posts.*']", first - 1);
    assert_has(say(client, "{'id':2,'op':'unsubscribe'}"), "{'id':2,'ok':true}");
    check_nothing_follows(client);
    say(client, "{'op':'subscribe','types':['posts.*']}");
    emit("posts.created", "posts/a", 1);
    check_range(client, first + 1200, first + 1200);
    leave(client);
}

static void test_no_answer_is_ahead_of_what_is_still_to_be_sent(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    char cursor[BK_CURSOR_BYTES + 1];
    emit("posts.created", "posts/a", 1200);
    struct client *client = connect_guest();
    subscribe_after(client, "'types':['posts.*']", first - 1);
    cursor_at(first - 1, cursor);
    assert_has(say(client, "{'id':2,'op':'subscribe','types':['drafts.*']}"), cursor);
    check_range(client, first, first + 1199);
    check_nothing_follows(client);
    leave(client);
}

/* What a guest was not shown was not sent, so the user that it becomes may ask for it. */
static void test_a_token_opens_what_was_passed_over_before_it(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    struct client *client = connect_guest();
    say(client, "{'op':'subscribe','types':['secrets.*']}");
    emit("secrets.created", "secrets/a", 3);
    assert_has(say(client, "{'id':2,'op':'auth','token':'default s root'}"), "'ok':true");
    subscribe_after(client, "'types':['secrets.created']", first - 1);
    check_range(client, first, first + 2);
    emit("secrets.created", "secrets/a", 1);
    check_range(client, first + 3, first + 3);
    check_nothing_follows(client);
    leave(client);
}

/* Until the newest event is the last thing that it was sent. */
static void run_until_caught_up(struct client *client) {
    char end[32];
    snprintf(end, sizeof end, "'sequence':%u,", (unsigned)last_sequence());
    for (int i = 0; i < 3000 && !has(message_at(client, client->count - 1), end); i++)
        support_loop_run_for(world.module.kernel.loop, 1);
}

/* Whatever comes in between, each client ends with a sequence of events without a hole. */
static void test_random_comings_and_goings_leave_no_hole_and_no_double(void **state) {
    (void)state;
    enum { CLIENTS = 8, ROUNDS = 150 };
    struct client *clients[CLIENTS] = {NULL};
    uint64_t expected[CLIENTS];
    uint32_t random = 12345;
    emit("posts.created", "posts/a", 100);
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 1664525 + 1013904223;
        size_t index = (random >> 8) % CLIENTS;
        emit("posts.created", "posts/a", 1 + (random >> 16) % 7);
        if (clients[index] == NULL) {
            uint64_t back = (random >> 4) % 60, last = last_sequence();
            clients[index] = connect_guest();
            expected[index] = (last > back + 20 ? last - back : 20) + 1;
            subscribe_after(clients[index], "'types':['posts.*','drafts.*']", expected[index] - 1);
            subscribe_after(clients[index], "'types':['posts.created']",
                            expected[index] + (last - expected[index]) / 2);
        } else if ((random >> 20) % 4 == 0) {
            run_until_caught_up(clients[index]);
            clients[index]->seen = 0;
            while (unseen(clients[index]) > 0) {
                const char *frame = next(clients[index]);
                if (has(frame, "'op':'event'"))
                    assert_int_equal(sequence_in(frame), expected[index]++);
            }
            assert_int_equal(expected[index], last_sequence() + 1);
            leave(clients[index]);
            clients[index] = NULL;
        }
    }
    for (size_t i = 0; i < CLIENTS; i++)
        if (clients[i] != NULL)
            leave(clients[i]);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_was_missed_comes_first_and_what_happens_behind_it),
        TEST(a_replay_sends_only_what_is_asked_for_and_may_be_seen),
        TEST(a_second_subscription_goes_back_without_sending_anything_twice),
        TEST(two_replays_at_once_are_one),
        TEST(a_client_that_takes_little_gets_all_of_it_in_its_own_time),
        TEST(the_next_page_waits_until_the_queue_is_short),
        TEST(too_far_back_is_said_and_nothing_is_replayed),
        TEST(a_cursor_of_another_history_is_not_recovered),
        TEST(words_and_times_are_places_too),
        TEST(one_that_goes_during_a_read_leaves_nothing_behind),
        TEST(unsubscribing_ends_a_replay),
        TEST(no_answer_is_ahead_of_what_is_still_to_be_sent),
        TEST(a_token_opens_what_was_passed_over_before_it),
        TEST(random_comings_and_goings_leave_no_hole_and_no_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
