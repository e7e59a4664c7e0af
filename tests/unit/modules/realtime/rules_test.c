/* Rules that are expressions: asked in memory or of tables, once for equal askers; what waits for
 * an answer keeps its place, and a burst behind it goes to the journal. */
#include "world.h"

static int teardown(void **state) {
    (void)state;
    struct realtime *realtime = realtime_of_world();
    for (int i = 0; i < 5000 && realtime->pages > 0; i++)
        support_loop_run_for(world.module.kernel.loop, 1);
    assert_int_equal(realtime->figures.sessions, 0);
    assert_int_equal(realtime->figures.subscription_bytes, 0);
    support_module_close(&world.module);
    return 0;
}

#define FIELDS "\"type\":\"base\",\"fields\":[{\"name\":\"title\",\"type\":\"text\"}]"

/* tasks: by a rule that needs a table, and holds; lost: one that does not. */
static void define_asked(void) {
    struct bk_tenant *tenant = world.module.kernel.tenant;
    define(tenant, "{\"name\":\"tasks\",\"listRule\":\"@collection.posts.id ?= null\"," FIELDS "}");
    define(tenant, "{\"name\":\"lost\",\"listRule\":\"@collection.posts.id ?= 'x'\"," FIELDS "}");
    define(tenant, "{\"name\":\"plain\",\"listRule\":\"title = 'Hello'\"," FIELDS "}");
    define(tenant, "{\"name\":\"mine\",\"listRule\":\"@request.auth.id = id\"," FIELDS "}");
    support_module_settle(&world.module);
}

static void check_sequences(struct client *client, uint64_t first, uint64_t count) {
    run_until_count(client, client->seen + (size_t)count);
    for (uint64_t sequence = first; sequence < first + count; sequence++)
        assert_int_equal(sequence_in(next(client)), sequence);
    support_loop_run_for(world.module.kernel.loop, 20);
    assert_int_equal(unseen(client), 0);
}

static void test_what_a_reader_is_asked_keeps_its_place(void **state) {
    (void)state;
    define_asked();
    struct client *guest = connect_guest(), *user = connect_as("default u one", NULL);
    say(guest, "{'op':'subscribe','types':['tasks.*','lost.*','posts.*']}");
    say(user, "{'op':'subscribe','types':['tasks.*','posts.*']}");
    uint64_t first = last_sequence() + 1;
    for (int i = 0; i < 10; i++) {
        emit("tasks.created", "tasks/a", 2);
        emit("posts.created", "posts/a", 1);
    }
    check_sequences(guest, first, 30);
    check_sequences(user, first, 30);
    /* The rule says nothing of who asks: once for each event. */
    assert_int_equal(realtime_of_world()->figures.judged_by_tables, 20);
    emit("lost.created", "lost/a", 5);
    emit("posts.created", "posts/a", 1);
    check_sequences(guest, first + 35, 1);
    leave(guest);
    leave(user);
}

static void test_a_burst_behind_a_rule_comes_from_the_journal(void **state) {
    (void)state;
    define_asked();
    struct client *guest = connect_guest(), *other = connect_guest();
    say(guest, "{'op':'subscribe','types':['tasks.*','posts.*']}");
    say(other, "{'op':'subscribe','types':['posts.*']}");
    uint64_t first = last_sequence() + 1;
    emit("tasks.created", "tasks/a", 1500);
    emit("posts.created", "posts/a", 100);
    check_sequences(guest, first, 1600);
    check_sequences(other, first + 1500, 100);
    assert_true(realtime_of_world()->figures.overtaken > 0);
    emit("tasks.created", "tasks/a", 3);
    check_sequences(guest, first + 1600, 3);
    leave(guest);
    leave(other);
}

static void test_who_leaves_while_a_reader_is_asked_is_not_touched_again(void **state) {
    (void)state;
    define_asked();
    for (int i = 0; i < 20; i++) {
        struct client *guest = connect_guest(), *user = connect_as("default u one", NULL);
        say(guest, "{'op':'subscribe','types':['tasks.*']}");
        say(user, "{'op':'subscribe','types':['tasks.*'],'after':'start'}");
        emit("tasks.created", "tasks/a", 3);
        leave(guest);
        leave(user);
    }
    support_loop_run_for(world.module.kernel.loop, 50);
    assert_int_equal(realtime_of_world()->figures.sessions, 0);
}

static void test_equal_askers_are_asked_for_once_in_memory(void **state) {
    (void)state;
    define_asked();
    const struct realtime_figures *figures = &realtime_of_world()->figures;
    struct client *clients[6];
    for (size_t i = 0; i < 6; i++) {
        clients[i] = i < 3 ? connect_as("default u a", NULL) : connect_as("default u b", NULL);
        say(clients[i], "{'op':'subscribe','types':['plain.*','mine.*']}");
    }
    uint64_t first = last_sequence() + 1;
    emit("plain.created", "plain/a", 1);
    for (size_t i = 0; i < 6; i++)
        check_sequences(clients[i], first, 1);
    assert_int_equal(figures->judged_in_memory, 1);
    emit("mine.created", "mine/a", 1);
    support_loop_run_for(world.module.kernel.loop, 20);
    assert_int_equal(figures->judged_in_memory, 3);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(unseen(clients[i]), 0);
        leave(clients[i]);
    }
    assert_int_equal(figures->judged_by_tables, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
        TEST(what_a_reader_is_asked_keeps_its_place),
        TEST(a_burst_behind_a_rule_comes_from_the_journal),
        TEST(who_leaves_while_a_reader_is_asked_is_not_touched_again),
        TEST(equal_askers_are_asked_for_once_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
