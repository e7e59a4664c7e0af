/* The contract's event streams: the handshake, what is asked for, and what is sent. */
#include "world.h"

static int teardown(void **state) {
    (void)state;
    assert_int_equal(realtime_of_world()->figures.streams, 0);
    assert_int_equal(realtime_of_world()->figures.subscriptions, 0);
    assert_int_equal(realtime_of_world()->figures.subscription_bytes, 0);
    support_module_close(&world.module);
    return 0;
}

static struct client *open_stream(void) {
    struct client *client = bk_alloc(sizeof *client);
    ask(client, BK_GET, NULL, NULL, false, NULL);
    assert_true(client->is_stream);
    assert_int_equal(client->status, 200);
    client->seen = 1;
    return client;
}

static void id_of(struct client *client, char id[REALTIME_CLIENT_ID_BYTES + 1]) {
    const char *frame = message_at(client, 0);
    assert_int_equal(strncmp(frame, "id:", 3), 0);
    memcpy(id, frame + 3, REALTIME_CLIENT_ID_BYTES);
    id[REALTIME_CLIENT_ID_BYTES] = '\0';
}

/* topics: JSON with apostrophes for quotes. Returns the answer's body. */
static const char *post(struct client *client, const char *token, const char *topics, int status) {
    static char answer[64 * 1024];
    char id[REALTIME_CLIENT_ID_BYTES + 1], body[16 * 1024];
    struct client posting;
    id_of(client, id);
    snprintf(body, sizeof body, "{'clientId':'%s','subscriptions':%s}", id, topics);
    for (char *at = body; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
    ask(&posting, BK_POST, token, NULL, false, body);
    snprintf(answer, sizeof answer, "%.*s", (int)posting.received.length,
             posting.received.length == 0 ? "" : posting.received.data);
    if (posting.status != status)
        print_error("%s\n", answer);
    assert_int_equal(posting.status, status);
    bk_buffer_fini(&posting.received);
    return answer;
}

static void check_frame(const char *frame, uint64_t sequence, const char *rest) {
    char cursor[BK_CURSOR_BYTES + 1], whole[1024];
    cursor_at(sequence, cursor);
    snprintf(whole, sizeof whole, "id:%s\nevent:%s}\n\n", cursor, rest);
    for (char *at = whole; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
    assert_string_equal(frame, whole);
}

/* --- the handshake ---------------------------------------------------------------------------- */

static void test_a_stream_begins_with_the_id_of_its_client(void **state) {
    (void)state;
    char id[REALTIME_CLIENT_ID_BYTES + 1], expected[256];
    struct client *client = open_stream();
    id_of(client, id);
    snprintf(expected, sizeof expected, "id:%s\nevent:PB_CONNECT\ndata:{\"clientId\":\"%s\"}\n\n",
             id, id);
    assert_string_equal(message_at(client, 0), expected);
    bk_buffer_append_char(&client->request.head, '\0');
    assert_has(client->request.head.data, "Cache-Control: no-store\r\n");
    assert_has(client->request.head.data, "X-Accel-Buffering: no\r\n");
    assert_string_equal(client->request.content_type, "text/event-stream");
    leave(client);
}

static void test_what_is_wrong_with_a_post_is_named(void **state) {
    (void)state;
    struct client *client = open_stream(), posting;
    char topics[8192] = "['";
    ask(&posting, BK_POST, NULL, NULL, false, "{}");
    assert_int_equal(posting.status, 400);
    assert_has(posting.received.data, "'clientId':{'code':'validation_required'");
    bk_buffer_fini(&posting.received);
    ask(&posting, BK_POST, NULL, NULL, false, "{\"clientId\":\"nobody\"}");
    assert_int_equal(posting.status, 404);
    assert_has(posting.received.data, "'message':'Missing or invalid client id.'");
    bk_buffer_fini(&posting.received);
    assert_has(post(client, NULL, "'posts'", 400), "'data':{}");
    assert_has(post(client, NULL, "[1]", 400), "'data':{}");
    memset(topics + 2, 'x', 2501);
    snprintf(topics + 2503, 8, "']");
    assert_has(post(client, NULL, topics, 400),
               "'subscriptions':{'0':{'code':'validation_length_too_long','message':'The length "
               "must be no more than 2500.','params':{'max':2500,'min':0}}}");
    post(client, NULL, "null", 204);
    post(client, NULL, "['','nobody/*','a b','posts/','?options=%7B']", 204);
    /* A wrong filter is taken, and lets nothing through. */
    post(client, NULL, "['posts/*?options=%7B%22query%22%3A%7B%22filter%22%3A%22a%22%7D%7D']", 204);
    leave(client);
}

static void test_a_guests_stream_may_become_a_users_and_nobody_elses(void **state) {
    (void)state;
    struct client *client = open_stream(), posting;
    char id[REALTIME_CLIENT_ID_BYTES + 1], body[256];
    post(client, NULL, "['posts/*']", 204);
    post(client, "default u one", "['posts/*']", 204);
    post(client, "default u one", "['posts/*']", 204);
    assert_has(post(client, "default u two", "[]", 403),
               "The current and the previous request authorization don");
    post(client, NULL, "[]", 403);
    post(client, "default s root", "[]", 403);
    /* Another tenant does not know it. */
    struct bk_tenant *other = support_kernel_hold(&world.module.kernel, BK_SLICE("other"));
    id_of(client, id);
    snprintf(body, sizeof body, "{\"clientId\":\"%s\"}", id);
    ask(&posting, BK_POST, "other u one", NULL, false, body);
    assert_int_equal(posting.status, 404);
    bk_buffer_fini(&posting.received);
    bk_tenant_release(other);
    leave(client);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void test_a_record_is_sent_for_each_subscription_that_it_matches(void **state) {
    (void)state;
    struct client *client = open_stream();
    const struct bk_collection *posts =
        bk_schema_find(bk_schema_current(world.module.context.schema, world.module.kernel.tenant),
                       BK_SLICE("posts"));
    char by_id[64], topics[256], rest[512];
    snprintf(by_id, sizeof by_id, "%.*s/*", BK_SLICE_PRINT(posts->id));
    snprintf(topics, sizeof topics, "['posts/*','posts/a','posts','%s','posts/b','posts/*']",
             by_id);
    post(client, NULL, topics, 204);
    emit("posts.created", "posts/a", 1);
    emit("posts.deleted", "posts/c", 1);
    run();
    const char *const all[] = {"posts/*", "posts/a", "posts", by_id, "posts/*", "posts", by_id};
    assert_int_equal(unseen(client), BK_COUNT_OF(all));
    for (size_t i = 0; i < BK_COUNT_OF(all); i++) {
        snprintf(rest, sizeof rest,
                 "%s\ndata:{'action':'%s','record':{'collectionId':'%.*s','collectionName':"
                 "'posts','id':'a','title':'Hello','last':'z'}",
                 all[i], i < 4 ? "create" : "delete", BK_SLICE_PRINT(posts->id));
        check_frame(next(client), last_sequence() - (i < 4 ? 1 : 0), rest);
    }
    leave(client);
}

static void test_a_superuser_sees_hidden_fields_in_their_places(void **state) {
    (void)state;
    struct client *client = open_stream();
    post(client, "default s root", "['posts/*']", 204);
    emit("posts.updated", "posts/a", 1);
    run();
    assert_has(next(client), "'collectionName':'posts','id':'a','title':'Hello','note':'hush',"
                             "'last':'z'}");
    leave(client);
}

static void test_the_rules_of_list_and_view_decide(void **state) {
    (void)state;
    struct client *client = open_stream();
    post(client, NULL, "['drafts/*','drafts/a','secrets/*','secrets/a','auth/*']", 204);
    emit("drafts.created", "drafts/a", 1);
    emit("secrets.created", "secrets/a", 1);
    emit_as(world.module.kernel.tenant, "auth", "auth.login", "users/a", 1);
    run();
    assert_int_equal(unseen(client), 1);
    assert_has(next(client), "event:drafts/a\n");
    leave(client);
}

static void test_options_pick_fields_and_stay_in_the_name_of_the_event(void **state) {
    (void)state;
    static const char topic[] =
        "posts/*?options=%7B%22query%22%3A%7B%22fields%22%3A%22title%2Cid%22%7D%7D";
    char topics[256], part[256];
    struct client *client = open_stream();
    snprintf(topics, sizeof topics, "['%s']", topic);
    post(client, NULL, topics, 204);
    emit("posts.created", "posts/a", 1);
    run();
    snprintf(part, sizeof part,
             "\nevent:%s\ndata:{'action':'create','record':{'id':'a','title':'Hello'}}\n\n", topic);
    assert_has(next(client), part);
    leave(client);
}

static void test_a_post_replaces_what_was_there(void **state) {
    (void)state;
    struct client *client = open_stream();
    post(client, NULL, "['posts/*','posts/a']", 204);
    post(client, NULL, "['posts/a','posts/b']", 204);
    assert_int_equal(realtime_of_world()->figures.subscriptions, 2);
    emit("posts.created", "posts/a", 1);
    run();
    assert_int_equal(unseen(client), 1);
    post(client, NULL, "[]", 204);
    assert_int_equal(realtime_of_world()->figures.subscriptions, 0);
    leave(client);
}

/* --- since ------------------------------------------------------------------------------------ */

static const char *since(uint64_t sequence) {
    static char topics[256];
    char cursor[BK_CURSOR_BYTES + 1];
    cursor_at(sequence, cursor);
    snprintf(topics, sizeof topics,
             "['posts/*?options=%%7B%%22query%%22%%3A%%7B%%22since%%22%%3A%%22%s%%22%%7D%%7D']",
             cursor);
    return topics;
}

static void test_since_brings_what_was_missed(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 700);
    emit("drafts.created", "drafts/a", 1);
    struct client *client = open_stream();
    client->taken_max = 5; /* said to be full all the time */
    post(client, NULL, since(first + 9), 204);
    emit("posts.updated", "posts/a", 2);
    /* A page is read for each event, which takes its time under a sanitizer. */
    for (int i = 0; i < 20000 && unseen(client) < 692; i++) {
        run();
        client->request.on_drain(&client->request);
    }
    assert_int_equal(unseen(client), 692);
    for (uint64_t i = 0; i < 692; i++) {
        char cursor[BK_CURSOR_BYTES + 1], start[64];
        cursor_at(first + 10 + i + (i >= 690 ? 1 : 0), cursor);
        snprintf(start, sizeof start, "id:%s\nevent:posts", cursor);
        const char *frame = next(client);
        assert_has(frame, start);
        snprintf(start, sizeof start, "},'cursor':'%s'}\n\n", cursor);
        assert_has(frame, start); /* where the SDK's user finds it */
    }
    leave(client);
}

static void test_since_too_far_back_is_told_by_a_reset(void **state) {
    (void)state;
    uint64_t first = last_sequence() + 1;
    for (int i = 0; i < 11; i++)
        emit("posts.created", "posts/a", 1000);
    struct client *client = open_stream();
    post(client, NULL, since(first), 204);
    run();
    assert_int_equal(unseen(client), 1);
    assert_has(next(client), "data:{'action':'reset','record':{},'cursor':'");
    emit("posts.created", "posts/a", 1);
    run();
    assert_int_equal(unseen(client), 1);
    leave(client);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_a_stream_is_a_guests_when_its_record_has_changed(void **state) {
    (void)state;
    struct client *client = open_stream();
    post(client, "default s one", "['secrets/*','posts/*']", 204);
    const struct bk_revocation revocation = {
        .tenant = world.module.kernel.tenant, .label = BK_SLICE("users/one"), .leaves_guest = true};
    bk_api_revoke(realtime_of_world()->context->api, &revocation);
    emit("secrets.created", "secrets/a", 1);
    emit("posts.created", "posts/a", 1);
    run();
    assert_false(client->is_ended);
    assert_int_equal(unseen(client), 1);
    assert_has(next(client), "event:posts/*\n");
    post(client, "default u two", "[]", 204);
    leave(client);
}

static void test_a_stream_ends_with_its_token(void **state) {
    (void)state;
    struct client *client = open_stream(), *guest = open_stream();
    post(client, "default s one", "['secrets/*','posts/*']", 204);
    post(guest, NULL, "['posts/*']", 204);
    emit("secrets.created", "secrets/a", 1);
    run();
    assert_int_equal(unseen(client), 1);
    client->seen++;
    world.revoked = "default s one";
    emit("users.deleted", "users/one", 1);
    emit("posts.created", "posts/a", 1);
    run();
    assert_true(client->is_ended);
    assert_int_equal(unseen(client), 0);
    assert_int_equal(unseen(guest), 1);
    leave(client);
    leave(guest);
}

static void test_one_that_does_not_read_is_ended(void **state) {
    (void)state;
    struct client *client = open_stream();
    client->taken_max = 1;
    post(client, NULL, "['posts/*']", 204);
    for (int i = 0; i < 30 && !client->is_ended; i++)
        emit("posts.created", "posts/a", 100);
    /* A frame has about 250 bytes; a MiB may wait. */
    assert_false(client->is_ended);
    for (int i = 0; i < 20 && !client->is_ended; i++)
        emit("posts.created", "posts/a", 200);
    assert_true(client->is_ended);
    assert_int_equal(realtime_of_world()->figures.slow, 1);
    leave(client);
}

static void test_an_idle_stream_ends_and_a_drain_ends_all(void **state) {
    (void)state;
    struct client *idle = open_stream(), *other = open_stream();
    struct realtime *realtime = realtime_of_world();
    post(idle, NULL, "['posts/*']", 204);
    realtime_streams_tick(realtime, realtime_now_ms(realtime) + 299000);
    assert_int_equal(realtime->figures.streams, 2);
    support_loop_run_for(world.module.kernel.loop, 20);
    uint64_t before_ms = realtime_now_ms(realtime);
    emit("posts.created", "posts/a", 1);
    realtime_streams_tick(realtime, before_ms + 299999);
    assert_true(other->is_ended && !idle->is_ended);
    bk_api_drain(world.module.api, 0);
    support_loop_run_for(world.module.kernel.loop, 50);
    assert_true(idle->is_ended);
    leave(idle);
    leave(other);
}

/* "['posts/<number>',…]": so many, from first on, and what stands behind them. */
static const char *topics_from(int first, int count, const char *more) {
    static char topics[8 * 1024];
    size_t length = 1;
    topics[0] = '[';
    for (int i = 0; i < count; i++)
        length += (size_t)snprintf(topics + length, sizeof topics - length, "%s'posts/%060d'",
                                   i == 0 ? "" : ",", first + i);
    snprintf(topics + length, sizeof topics - length, "%s]", more);
    return topics;
}

static void test_topics_without_memory_for_them_are_refused_and_the_former_stay(void **state) {
    (void)state;
    const struct realtime_figures *figures = &realtime_of_world()->figures;
    struct client *stream = open_stream();
    post(stream, NULL, topics_from(0, 50, ""), 204);
    uint64_t bytes = figures->subscription_bytes;
    assert_int_equal(figures->subscriptions, 50);
    assert_true(bytes > 50 * sizeof(struct realtime_subscription));
    /* As many others have room, since these go; more have not. */
    world.options.subscriptions_max_bytes = (int64_t)(4 * bytes);
    post(stream, NULL, topics_from(50, 50, ""), 204);
    assert_int_equal(figures->subscriptions, 50);
    world.options.subscriptions_max_bytes = (int64_t)(2 * bytes);
    const char *more = ",'posts/*','posts/a','posts/b','drafts/c'";
    const char *answer = post(stream, NULL, topics_from(50, 50, more), 503);
    assert_has(answer, "realtime-subscriptions-max-bytes");
    assert_int_equal(figures->subscriptions, 50);
    assert_int_equal(figures->subscriptions_refused, 1);
    post(stream, NULL, "[]", 204);
    assert_int_equal(figures->subscription_bytes, 0);
    leave(stream);
}

static void test_a_topic_that_is_named_twice_is_one(void **state) {
    (void)state;
    struct client *stream = open_stream();
    post(stream, NULL, "['posts/*','','posts/*','']", 204);
    assert_int_equal(realtime_of_world()->figures.subscriptions, 2);
    post(stream, NULL, "['','posts/*','posts/*']", 204);
    assert_int_equal(realtime_of_world()->figures.subscriptions, 2);
    emit("posts.created", "posts/a", 1);
    run();
    assert_int_equal(unseen(stream), 1);
    leave(stream);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_stream_begins_with_the_id_of_its_client),
        TEST(what_is_wrong_with_a_post_is_named),
        TEST(a_guests_stream_may_become_a_users_and_nobody_elses),
        TEST(a_record_is_sent_for_each_subscription_that_it_matches),
        TEST(a_superuser_sees_hidden_fields_in_their_places),
        TEST(the_rules_of_list_and_view_decide),
        TEST(options_pick_fields_and_stay_in_the_name_of_the_event),
        TEST(a_post_replaces_what_was_there),
        TEST(since_brings_what_was_missed),
        TEST(since_too_far_back_is_told_by_a_reset),
        TEST(a_stream_is_a_guests_when_its_record_has_changed),
        TEST(a_stream_ends_with_its_token),
        TEST(one_that_does_not_read_is_ended),
        TEST(an_idle_stream_ends_and_a_drain_ends_all),
        TEST(topics_without_memory_for_them_are_refused_and_the_former_stay),
        TEST(a_topic_that_is_named_twice_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
