/* WebSockets: who is sent what, in which order, and how often. */
#include "world.h"

#include "bakend/clock.h"

static int teardown(void **state) {
    (void)state;
    assert_int_equal(realtime_of_world()->figures.sessions, 0);
    assert_int_equal(realtime_of_world()->figures.subscriptions, 0);
    assert_int_equal(realtime_of_world()->figures.subscription_bytes, 0);
    support_module_close(&world.module);
    return 0;
}

/* --- what is sent ----------------------------------------------------------------------------- */

static void test_a_subscriber_gets_the_events_of_its_types_in_order(void **state) {
    (void)state;
    struct client *client = connect_guest();
    const char *answer = say(client, "{'id':7,'op':'subscribe','types':['posts.*']}");
    assert_has(answer, "{'id':7,'ok':true,'cursor':'");
    assert_false(has(answer, "recovered"));
    uint64_t first = last_sequence() + 1;
    emit("posts.created", "posts/a", 20);
    emit("drafts.created", "drafts/a", 1);
    emit("posts.deleted", "posts/a", 1);
    run();
    assert_int_equal(unseen(client), 21);
    for (uint64_t i = 0; i < 21; i++) {
        char cursor[BK_CURSOR_BYTES + 1], start[128];
        const char *frame = next(client);
        cursor_at(i == 20 ? first + 21 : first + i, cursor);
        snprintf(start, sizeof start, "{'op':'event','cursor':'%s','event':{'id':'evt_", cursor);
        assert_has(frame, start);
        assert_int_equal(sequence_in(frame), i == 20 ? first + 21 : first + i);
    }
    leave(client);
}

static void test_an_event_is_sent_once_however_many_subscriptions_match(void **state) {
    (void)state;
    struct client *client = connect_guest();
    say(client, "{'op':'subscribe','types':['posts.*','*.created']}");
    say(client, "{'op':'subscribe','types':['posts.created']}");
    say(client, "{'op':'subscribe','subject':'posts/a'}");
    emit("posts.created", "posts/a", 3);
    run();
    assert_int_equal(unseen(client), 3);
    leave(client);
}

static void test_rules_decide_who_sees_a_record(void **state) {
    (void)state;
    struct client *guest = connect_guest(), *super = connect_as("default s root", NULL);
    say(guest, "{'op':'subscribe','types':['*']}");
    say(super, "{'op':'subscribe','types':['*']}");
    emit("posts.created", "posts/a", 1);
    emit("drafts.created", "drafts/a", 1);
    emit("secrets.created", "secrets/a", 1);
    run();
    assert_int_equal(unseen(guest), 1);
    assert_int_equal(unseen(super), 3);
    /* By subject the view rule counts. */
    say(guest, "{'op':'subscribe','subject':'drafts/a'}");
    say(guest, "{'op':'subscribe','subject':'secrets/a'}");
    emit("drafts.updated", "drafts/a", 1);
    emit("secrets.updated", "secrets/a", 1);
    run();
    assert_int_equal(unseen(guest), 1);
    assert_has(next(guest), "'type':'drafts.updated'");
    leave(guest);
    leave(super);
}

static void test_only_a_superusers_frame_has_the_hidden_fields(void **state) {
    (void)state;
    struct client *guest = connect_guest(), *super = connect_as("default s root", NULL);
    say(guest, "{'op':'subscribe','types':['posts.*']}");
    say(super, "{'op':'subscribe','types':['posts.*']}");
    emit("posts.created", "posts/a", 1);
    run();
    assert_false(has(next(guest), "hush"));
    assert_has(next(super),
               "'payload':{'id':'a','title':'Hello','last':'z','note':'hush'},'tenant'");
    leave(guest);
    leave(super);
}

static void test_other_events_are_for_those_who_may_read_events(void **state) {
    (void)state;
    struct client *guest = connect_guest(), *user = connect_as("default u one", NULL);
    struct client *key = connect_as("default k key", NULL);
    struct client *super = connect_as("default s root", NULL);
    struct client *all[] = {guest, user, key, super};
    for (size_t i = 0; i < 4; i++)
        say(all[i], "{'op':'subscribe','types':['auth.*','posts.*']}");
    emit_as(world.module.kernel.tenant, "auth", "auth.login", "users/a", 1);
    /* Somebody else's event of that name is no record of the collection. */
    emit_as(world.module.kernel.tenant, "plugin", "posts.created", "posts/a", 1);
    run();
    assert_int_equal(unseen(guest), 0);
    assert_int_equal(unseen(user), 0);
    assert_int_equal(unseen(key), 2);
    assert_int_equal(unseen(super), 2);
    for (size_t i = 0; i < 4; i++)
        leave(all[i]);
}

static void test_events_of_the_house_come_only_when_asked_for(void **state) {
    (void)state;
    struct client *all = connect_as("default s root", NULL);
    struct client *house = connect_as("default s root", NULL);
    say(all, "{'op':'subscribe'}");
    say(house, "{'op':'subscribe','types':['_*']}");
    emit_as(world.module.kernel.tenant, "tenants", "_tenants.created", "_tenants/a", 1);
    run();
    assert_int_equal(unseen(all), 0);
    assert_int_equal(unseen(house), 1);
    leave(all);
    leave(house);
}

static void test_a_transient_event_has_no_cursor(void **state) {
    (void)state;
    struct client *super = connect_as("default s root", NULL);
    struct bk_event_draft draft = {.type = BK_SLICE("function.started"),
                                   .source = BK_SLICE("functions"),
                                   .payload = BK_SLICE("{}")};
    say(super, "{'op':'subscribe','types':['function.*']}");
    assert_int_equal(bk_bus_publish(world.module.bus, world.module.kernel.tenant, &draft, NULL),
                     BK_OK);
    support_module_settle(&world.module);
    run();
    assert_int_equal(unseen(super), 1);
    assert_has(next(super), "{'op':'event','event':{'id':'evt_");
    leave(super);
}

static void test_many_subscribers_are_all_served_in_slices(void **state) {
    (void)state;
    enum { COUNT = 1500 };
    static struct client *clients[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        clients[i] = connect_guest();
        say(clients[i], "{'op':'subscribe','types':['posts.*']}");
    }
    struct bk_event_draft draft = {.type = BK_SLICE("posts.created"),
                                   .subject = BK_SLICE("posts/a"),
                                   .source = BK_SLICE("collections"),
                                   .payload = BK_SLICE("{}")};
    assert_int_equal(
        support_kernel_emit(&world.module.kernel, world.module.kernel.tenant, &draft, 3, NULL),
        BK_OK);
    /* Some go while they are served. */
    for (size_t i = 1; i < COUNT; i += 100) {
        leave(clients[i]);
        clients[i] = NULL;
    }
    support_module_settle(&world.module);
    support_loop_run_for(world.module.kernel.loop, 100);
    for (size_t i = 0; i < COUNT; i++) {
        if (clients[i] == NULL)
            continue;
        for (int wait = 0; wait < 5000 && unseen(clients[i]) < 3; wait++)
            support_loop_run_for(world.module.kernel.loop, 1);
        assert_int_equal(unseen(clients[i]), 3);
        uint64_t first = sequence_in(next(clients[i]));
        assert_int_equal(sequence_in(next(clients[i])), first + 1);
        assert_int_equal(sequence_in(next(clients[i])), first + 2);
        leave(clients[i]);
    }
}

static void test_what_is_on_its_way_comes_though_other_types_are_taken_out(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    static struct client *clients[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        clients[i] = connect_guest();
        say(clients[i], "{'op':'subscribe','types':['posts.*','drafts.*']}");
    }
    struct bk_event_draft draft = {.type = BK_SLICE("posts.created"),
                                   .subject = BK_SLICE("posts/a"),
                                   .source = BK_SLICE("collections"),
                                   .payload = BK_SLICE("{}")};
    assert_int_equal(
        support_kernel_emit(&world.module.kernel, world.module.kernel.tenant, &draft, 1, NULL),
        BK_OK);
    size_t late = 0;
    for (size_t i = 0; i < COUNT; i++) {
        late += clients[i]->count == 1;
        say(clients[i], "{'op':'unsubscribe','types':['drafts.*']}");
    }
    assert_true(late > 0);
    support_module_settle(&world.module);
    for (size_t i = 0; i < COUNT; i++)
        run_until_count(clients[i], 3);
    support_loop_run_for(world.module.kernel.loop, 100);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(clients[i]->count, 3);
        leave(clients[i]);
    }
}

static void test_tenants_are_never_mixed(void **state) {
    (void)state;
    struct bk_tenant *other = support_kernel_hold(&world.module.kernel, BK_SLICE("other"));
    define_all(other);
    struct client *here = connect_guest(), *there = connect_as(NULL, "other");
    struct client *moved = connect_guest();
    say(here, "{'op':'subscribe','types':['*']}");
    say(there, "{'op':'subscribe','types':['*']}");
    assert_has(say(moved, "{'id':1,'op':'auth','token':'other s root'}"), "{'id':1,'ok':true}");
    say(moved, "{'op':'subscribe','types':['*']}");
    emit("posts.created", "posts/a", 1);
    emit_as(other, "collections", "posts.updated", "posts/b", 1);
    run();
    assert_int_equal(unseen(here), 1);
    assert_has(next(here), "posts.created");
    assert_int_equal(unseen(there), 1);
    assert_has(next(there), "posts.updated");
    assert_int_equal(unseen(moved), 1);
    assert_has(next(moved), "posts.updated");
    /* Where a tenant is decided a token of another one opens no door. */
    assert_has(say(here, "{'op':'auth','token':'other s root'}"), "token_of_other_tenant");
    assert_has(say(there, "{'op':'auth','token':'default u one'}"), "token_of_other_tenant");
    /* But an operator's does. */
    assert_has(say(there, "{'op':'auth','token':'default s root'}"), "'ok':true");
    leave(here);
    leave(there);
    leave(moved);
    bk_tenant_release(other);
}

/* --- what is said ----------------------------------------------------------------------------- */

static void test_each_wrong_message_is_answered_with_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *message, *code, *field;
    } cases[] = {
        {"nonsense", "invalid_json", NULL},
        {"[1]", "invalid_json", NULL},
        {"{'op':'ping','op':'ping'}", "invalid_json", NULL},
        {"{'id':9,'op':'dance'}", "unknown_op", "op"},
        {"{'id':9}", "unknown_op", "op"},
        {"{'id':[1],'op':'ping'}", "validation_invalid_id", "id"},
        {"{'id':9,'op':'auth'}", "validation_required", "token"},
        {"{'id':9,'op':'auth','token':'nobody'}", "token_invalid", "token"},
        {"{'id':9,'op':'subscribe','types':'posts.*'}", "validation_invalid_type", "types"},
        {"{'id':9,'op':'subscribe','types':[]}", "validation_invalid_type", "types"},
        {"{'id':9,'op':'subscribe','types':['posts..x']}", "validation_invalid_type", "types"},
        {"{'id':9,'op':'subscribe','subject':'posts'}", "validation_invalid_subject", "subject"},
        {"{'id':9,'op':'subscribe','filter':'a = 1'}", "validation_invalid_filter", "filter"},
        {"{'id':9,'op':'subscribe','after':'yesterday'}", "cursor_invalid", "after"},
        {"{'id':9,'op':'subscribe','after':5}", "cursor_invalid", "after"},
    };
    struct client *client = connect_guest();
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        char part[128];
        const char *answer = say(client, cases[i].message);
        snprintf(part, sizeof part, "'ok':false,'error':{'code':'%s'", cases[i].code);
        assert_has(answer, part);
        if (has(cases[i].message, "'id':9"))
            assert_has(answer, "{'id':9,");
        snprintf(part, sizeof part, "'field':'%s'", cases[i].field);
        if (cases[i].field != NULL)
            assert_has(answer, part);
    }
    assert_false(client->is_closing);
    assert_int_equal(realtime_of_world()->figures.subscriptions, 0);
    leave(client);
}

static void test_an_id_comes_back_as_it_was_and_ping_tells_where_one_stands(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES + 1], part[128];
    struct client *client = connect_guest();
    cursor_at(last_sequence(), cursor);
    snprintf(part, sizeof part, "{'id':'x-1','op':'pong','cursor':'%s'}", cursor);
    assert_has(say(client, "{'id':'x-1','op':'ping'}"), part);
    assert_has(say(client, "{'op':'ping'}"), "{'op':'pong'");
    leave(client);
}

static void test_limits_are_named(void **state) {
    (void)state;
    char message[8192];
    struct client *client = connect_guest();
    for (int i = 0; i < REALTIME_SUBSCRIPTIONS_MAX; i++) {
        snprintf(message, sizeof message, "{'op':'subscribe','subject':'posts/%d'}", i);
        assert_has(say(client, message), "'ok':true");
    }
    assert_has(say(client, "{'op':'subscribe','subject':'posts/more'}"), "too_many_subscriptions");
    assert_has(say(client, "{'op':'subscribe','subject':'posts/0'}"), "'ok':true");
    int length = snprintf(message, sizeof message, "{'op':'subscribe','types':['a.b'");
    for (int i = 0; i < REALTIME_TYPES_MAX; i++)
        length += snprintf(message + length, sizeof message - (size_t)length, ",'a.b%d'", i);
    snprintf(message + length, sizeof message - (size_t)length, "]}");
    assert_has(say(client, message), "validation_invalid_type");
    leave(client);
}

static void test_unsubscribe_takes_what_it_names(void **state) {
    (void)state;
    struct client *client = connect_as("default s root", NULL);
    say(client, "{'op':'subscribe','types':['posts.*','drafts.*']}");
    say(client, "{'op':'subscribe','types':['posts.*'],'subject':'posts/b'}");
    assert_has(say(client, "{'id':3,'op':'unsubscribe','types':['posts.*'],'subject':'posts/b'}"),
               "{'id':3,'ok':true}");
    assert_int_equal(realtime_of_world()->figures.subscriptions, 1);
    say(client, "{'op':'unsubscribe','types':['posts.*']}");
    emit("posts.created", "posts/b", 1);
    emit("drafts.created", "drafts/b", 1);
    run();
    assert_int_equal(unseen(client), 1);
    assert_has(next(client), "drafts.created");
    say(client, "{'op':'unsubscribe'}");
    assert_int_equal(realtime_of_world()->figures.subscriptions, 0);
    leave(client);
}

static void test_a_token_whose_tenant_is_closed_opens_it_and_what_follows_waits(void **state) {
    (void)state;
    struct bk_tenant *other = support_kernel_hold(&world.module.kernel, BK_SLICE("other"));
    define_all(other);
    bk_tenant_release(other);
    struct client *client = connect_guest();
    static const char *const messages[] = {"{\"id\":1,\"op\":\"auth\",\"token\":\"other s root\"}",
                                           "{\"id\":2,\"op\":\"subscribe\"}",
                                           "{\"id\":3,\"op\":\"ping\"}"};
    for (size_t i = 0; i < 3; i++)
        client->channel.handler->on_message(&client->channel, bk_slice_from(messages[i]), false);
    run_until_count(client, 3);
    assert_has(next(client), "{'id':1,'ok':true}");
    assert_has(next(client), "{'id':2,'ok':true");
    assert_has(next(client), "{'id':3,'op':'pong'");
    leave(client);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static void test_a_token_changes_what_is_seen_from_then_on(void **state) {
    (void)state;
    struct client *client = connect_guest();
    say(client, "{'op':'subscribe','types':['secrets.*']}");
    emit("secrets.created", "secrets/a", 1);
    run();
    assert_int_equal(unseen(client), 0);
    assert_has(say(client, "{'id':1,'op':'auth','token':'default s root'}"), "{'id':1,'ok':true}");
    emit("secrets.created", "secrets/a", 1);
    run();
    assert_int_equal(unseen(client), 1);
    leave(client);
}

static void test_bad_tokens_in_a_row_end_the_connection(void **state) {
    (void)state;
    struct client *client = connect_guest();
    for (int i = 0; i < 5; i++) {
        assert_false(client->is_closing);
        assert_has(say(client, "{'op':'auth','token':'nobody'}"), "token_invalid");
    }
    assert_true(client->is_closing);
    assert_int_equal(client->code, REALTIME_CODE_TOKEN);
    leave(client);
}

static void test_a_token_that_is_revoked_ends_its_connections(void **state) {
    (void)state;
    struct client *revoked[] = {connect_as("default u one", NULL), connect_guest()};
    struct client *other_token = connect_as("default u  one", NULL);
    struct client *other_user = connect_as("default u two", NULL), *guest = connect_guest();
    say(revoked[1], "{'op':'auth','token':'default u one'}");
    say(revoked[0], "{'op':'subscribe'}");
    world.revoked = "default u one";
    emit("users.updated", "users/one", 1);
    run();
    for (size_t i = 0; i < 2; i++) {
        assert_true(revoked[i]->is_closing);
        assert_int_equal(revoked[i]->code, REALTIME_CODE_TOKEN);
        leave(revoked[i]);
    }
    assert_false(other_token->is_closing || other_user->is_closing || guest->is_closing);
    leave(other_token);
    leave(other_user);
    leave(guest);
}

static void
test_tokens_are_looked_at_again_once_a_minute_and_when_a_collection_changes(void **state) {
    (void)state;
    struct realtime *realtime = realtime_of_world();
    struct client *one = connect_as("default u one", NULL);
    struct client *two = connect_as("default u two", NULL);
    uint64_t now_ms = realtime_now_ms(realtime);
    world.revoked = "default u one";
    realtime_viewers_tick(realtime, now_ms + 50000);
    assert_false(one->is_closing);
    realtime_viewers_tick(realtime, now_ms + 61000);
    assert_int_equal(one->code, REALTIME_CODE_TOKEN);
    assert_false(two->is_closing);
    world.revoked = "default u two";
    define(world.module.kernel.tenant, "{\"name\":\"more\",\"type\":\"base\"}");
    support_module_settle(&world.module);
    assert_false(two->is_closing);
    realtime_viewers_tick(realtime, realtime_now_ms(realtime));
    assert_int_equal(two->code, REALTIME_CODE_TOKEN);
    leave(one);
    leave(two);
}

static void revoke(const char *label, const char *session) {
    const struct bk_revocation revocation = {.tenant = world.module.kernel.tenant,
                                             .label = bk_slice_from(label),
                                             .session = bk_slice_from(session)};
    bk_api_revoke(realtime_of_world()->context->api, &revocation);
}

static void test_what_the_authenticator_revokes_is_closed_at_once(void **state) {
    (void)state;
    struct client *one = connect_as("default u one a", NULL);
    struct client *also_one = connect_as("default u one a", NULL);
    struct client *other_session = connect_as("default u one b", NULL);
    struct client *other = connect_as("default u two a", NULL), *guest = connect_guest();
    revoke("renamed/one", "a");
    assert_int_equal(one->code, REALTIME_CODE_TOKEN);
    assert_int_equal(also_one->code, REALTIME_CODE_TOKEN);
    assert_false(other_session->is_closing);
    revoke("users/one", "");
    assert_int_equal(other_session->code, REALTIME_CODE_TOKEN);
    assert_false(other->is_closing || guest->is_closing);
    assert_int_equal(realtime_of_world()->figures.revoked, 3);
    struct client *clients[] = {one, also_one, other_session, other, guest};
    for (size_t i = 0; i < BK_COUNT_OF(clients); i++)
        leave(clients[i]);
}

static void test_a_connection_does_not_outlive_its_token(void **state) {
    (void)state;
    struct realtime *realtime = realtime_of_world();
    world.expires_s = bk_clock_wall_ms() / 1000 + 100;
    struct client *soon = connect_as("default u one", NULL);
    struct client *renewed = connect_as("default u two", NULL);
    world.expires_s += 1000;
    struct client *later = connect_as("default u three", NULL);
    say(renewed, "{'op':'auth','token':'default u  two'}");
    bk_clock_set_offset_ms(50 * 1000);
    realtime_viewers_tick(realtime, realtime_now_ms(realtime));
    assert_false(soon->is_closing);
    bk_clock_set_offset_ms(101 * 1000);
    realtime_viewers_tick(realtime, realtime_now_ms(realtime));
    assert_int_equal(soon->code, REALTIME_CODE_TOKEN);
    assert_false(renewed->is_closing || later->is_closing);
    bk_clock_set_offset_ms(1101 * 1000);
    realtime_viewers_tick(realtime, realtime_now_ms(realtime));
    assert_int_equal(renewed->code, REALTIME_CODE_TOKEN);
    assert_int_equal(later->code, REALTIME_CODE_TOKEN);
    bk_clock_set_offset_ms(0);
    world.expires_s = 0;
    leave(soon);
    leave(renewed);
    leave(later);
}

/* --- size, pace and end ----------------------------------------------------------------------- */

static void test_an_idle_connection_is_small(void **state) {
    (void)state;
    /* With one subscription, without the texts of its types. */
    assert_true(sizeof(struct realtime_session) + sizeof(struct realtime_subscription) <= 500);
}

static void test_a_slow_one_is_closed_and_hurts_nobody(void **state) {
    (void)state;
    struct client *slow = connect_guest(), *fast = connect_guest();
    say(slow, "{'op':'subscribe','types':['posts.*']}");
    say(slow, "{'op':'subscribe','types':['*']}");
    say(fast, "{'op':'subscribe','types':['posts.*']}");
    slow->taken_max = 4;
    emit("posts.created", "posts/a", 10);
    run();
    assert_int_equal(slow->count, 4);
    assert_true(slow->is_closing);
    assert_int_equal(slow->code, REALTIME_CODE_SLOW);
    assert_string_equal(slow->reason, "slow consumer");
    assert_int_equal(unseen(fast), 10);
    assert_int_equal(realtime_of_world()->figures.slow, 1);
    leave(slow);
    leave(fast);
}

static void test_a_drain_tells_all_to_come_back(void **state) {
    (void)state;
    enum { COUNT = 50 };
    struct client *clients[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        clients[i] = connect_guest();
    bk_api_drain(world.module.api, 1000);
    support_loop_run_for(world.module.kernel.loop, 300);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(clients[i]->code, REALTIME_CODE_STOPPING);
        assert_string_equal(clients[i]->reason, "server_stopping");
        leave(clients[i]);
    }
    struct client late;
    ask(&late, BK_GET, NULL, NULL, true, NULL);
    assert_int_equal(late.status, 503);
    bk_buffer_fini(&late.received);
}

/* --- memory ----------------------------------------------------------------------------------- */

static void test_the_memory_of_subscriptions_is_counted_and_given_back(void **state) {
    (void)state;
    const struct realtime_figures *figures = &realtime_of_world()->figures;
    struct client *one = connect_guest(), *other = connect_guest();
    say(one, "{'op':'subscribe','types':['posts.*','users.created']}");
    uint64_t first = figures->subscription_bytes;
    assert_true(first > sizeof(struct realtime_subscription));
    /* What is shared is counted once. */
    say(other, "{'op':'subscribe','types':['posts.*','users.created']}");
    uint64_t second = figures->subscription_bytes - first;
    assert_true(second < first && second > sizeof(struct realtime_subscription));
    say(other, "{'op':'unsubscribe','types':['posts.*']}");
    assert_true(figures->subscription_bytes < first + second);
    say(other, "{'op':'unsubscribe'}");
    assert_int_equal(figures->subscription_bytes, first);
    leave(one);
    assert_int_equal(figures->subscription_bytes, 0);
    leave(other);
}

static void test_past_the_bound_subscriptions_are_refused_until_there_is_room(void **state) {
    (void)state;
    enum { COUNT = 80, LIMIT = 64 * 1024 };
    const struct realtime_figures *figures = &realtime_of_world()->figures;
    static struct client *clients[COUNT];
    char message[256];
    size_t taken = 0, refused = 0;
    world.options.subscriptions_max_bytes = LIMIT;
    for (size_t i = 0; i < COUNT; i++) {
        clients[i] = connect_guest();
        snprintf(message, sizeof message,
                 "{'id':%zu,'op':'subscribe','types':['aaaa%zu.*'],'subject':'aaaa%zu/%0100d'}", i,
                 i, i, 7);
        for (int j = 0; j < 2; j++) {
            const char *answer = say(clients[i], message);
            if (j == 0)
                taken += has(answer, "'ok':true");
            if (has(answer, "'ok':true"))
                continue;
            refused++;
            assert_has(answer, "'ok':false,'error':{'code':'too_many_subscriptions','message':'");
            assert_has(answer, "realtime-subscriptions-max-bytes");
        }
        assert_true(figures->subscription_bytes <= LIMIT / 2);
    }
    /* One tenant has half, and another one still something. */
    assert_true(taken > 5 && taken < COUNT && refused == 2 * (COUNT - taken));
    assert_int_equal(figures->subscriptions_refused, refused);
    struct bk_tenant *tenant = support_kernel_hold(&world.module.kernel, BK_SLICE("other"));
    struct client *neighbour = connect_as(NULL, "other");
    assert_has(say(neighbour, "{'op':'subscribe','types':['posts.*']}"), "'ok':true");
    say(clients[0], "{'op':'unsubscribe'}");
    assert_has(say(clients[COUNT - 1], "{'op':'subscribe','types':['b.*']}"), "'ok':true");
    leave(neighbour);
    bk_tenant_release(tenant);
    for (size_t i = 0; i < COUNT; i++)
        leave(clients[i]);
}

static void test_all_tenants_together_have_a_bound(void **state) {
    (void)state;
    const struct realtime_figures *figures = &realtime_of_world()->figures;
    struct bk_tenant *tenant = support_kernel_hold(&world.module.kernel, BK_SLICE("other"));
    struct client *one = connect_guest(), *other = connect_as(NULL, "other");
    say(one, "{'op':'subscribe','types':['posts.*']}");
    uint64_t cost = figures->subscription_bytes;
    world.options.subscriptions_max_bytes = (int64_t)(2 * cost);
    assert_has(say(one, "{'op':'subscribe','types':['users.*']}"), "this tenant");
    for (char name[] = "a"; name[0] < 'k'; name[0]++) {
        char message[64];
        world.options.subscriptions_max_bytes = INT64_C(1) << 20;
        snprintf(message, sizeof message, "{'op':'subscribe','types':['%s.*']}", name);
        say(one, message);
    }
    /* The other tenant has its half free, and the server has nothing. */
    world.options.subscriptions_max_bytes = (int64_t)figures->subscription_bytes + 64;
    assert_has(say(other, "{'id':'x','op':'subscribe','types':['posts.*']}"),
               "{'id':'x','ok':false,'error':{'code':'too_many_subscriptions','message':"
               "'Subscriptions take up");
    leave(one);
    assert_has(say(other, "{'op':'subscribe','types':['posts.*']}"), "'ok':true");
    leave(other);
    bk_tenant_release(tenant);
}

static void test_a_member_that_means_nothing_is_refused_by_its_name(void **state) {
    (void)state;
    static const struct {
        const char *message, *field;
    } wrong[] = {
        {"{'id':3,'op':'subscribe','type':['posts.*']}", "'field':'type'"},
        {"{'id':3,'op':'subscribe','types':['posts.*'],'Subject':'posts/a'}", "'field':'Subject'"},
        {"{'id':3,'op':'unsubscribe','after':'now'}", "'field':'after'"},
        {"{'id':3,'op':'ping','types':[]}", "'field':'types'"},
        {"{'id':3,'op':'auth','token':'default u one','tenant':'a'}", "'field':'tenant'"},
        {"{'id':3,'op':'ping','':1}", "'code':'validation_unknown_name'"},
    };
    struct client *client = connect_guest();
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        const char *answer = say(client, wrong[i].message);
        assert_has(answer, "{'id':3,'ok':false,'error':{'code':'validation_unknown_name',");
        assert_has(answer, wrong[i].field);
    }
    assert_has(say(client, "{'op':'subscribe','type':1}"),
               "which has only: id, op, types, subject, after, filter.");
    assert_has(say(client, "{'op':'subscribe','filter':'a = 1'}"),
               "'code':'validation_invalid_filter','message':'filter: at 1: ");
    assert_int_equal(realtime_of_world()->figures.subscriptions, 0);
    assert_int_equal(realtime_of_world()->viewers.count, 0);
    assert_has(say(client, "{'op':'subscribe','filter':'','after':null,'subject':null}"),
               "'ok':true");
    leave(client);
}

static void test_a_token_that_allows_something_else_now_is_judged_anew(void **state) {
    (void)state;
    struct realtime *realtime = realtime_of_world();
    struct client *first = connect_as("default k one", NULL);
    struct client *second = connect_as("default k one", NULL);
    say(first, "{'op':'subscribe','types':['auth.*']}");
    say(second, "{'op':'subscribe','types':['auth.*']}");
    emit_as(world.module.kernel.tenant, "auth", "auth.login", "users/a", 1);
    run();
    assert_int_equal(unseen(first) + unseen(second), 2);
    world.scopes = "records:read";
    /* Who comes with it now has no more than it allows now … */
    struct client *third = connect_as("default k one", NULL);
    say(third, "{'op':'subscribe','types':['auth.*']}");
    emit_as(world.module.kernel.tenant, "auth", "auth.login", "users/a", 1);
    run();
    assert_int_equal(unseen(third), 0);
    /* … and those who are there after the next look. */
    first->seen = first->count;
    second->seen = second->count;
    realtime_viewers_tick(realtime, realtime_now_ms(realtime) + 61000);
    emit_as(world.module.kernel.tenant, "auth", "auth.login", "users/a", 1);
    run();
    assert_int_equal(unseen(first) + unseen(second) + unseen(third), 0);
    assert_int_equal(realtime->viewers.count, 1);
    world.scopes = "events:read";
    realtime_viewers_tick(realtime, realtime_now_ms(realtime) + 130000);
    emit_as(world.module.kernel.tenant, "auth", "auth.login", "users/a", 1);
    run();
    assert_int_equal(unseen(first) + unseen(second) + unseen(third), 3);
    leave(first);
    leave(second);
    leave(third);
    assert_int_equal(realtime->viewers.count, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_subscriber_gets_the_events_of_its_types_in_order),
        TEST(an_event_is_sent_once_however_many_subscriptions_match),
        TEST(rules_decide_who_sees_a_record),
        TEST(only_a_superusers_frame_has_the_hidden_fields),
        TEST(other_events_are_for_those_who_may_read_events),
        TEST(events_of_the_house_come_only_when_asked_for),
        TEST(a_transient_event_has_no_cursor),
        TEST(many_subscribers_are_all_served_in_slices),
        TEST(what_is_on_its_way_comes_though_other_types_are_taken_out),
        TEST(tenants_are_never_mixed),
        TEST(each_wrong_message_is_answered_with_what_is_wrong),
        TEST(an_id_comes_back_as_it_was_and_ping_tells_where_one_stands),
        TEST(limits_are_named),
        TEST(unsubscribe_takes_what_it_names),
        TEST(a_token_whose_tenant_is_closed_opens_it_and_what_follows_waits),
        TEST(a_token_changes_what_is_seen_from_then_on),
        TEST(bad_tokens_in_a_row_end_the_connection),
        TEST(a_token_that_is_revoked_ends_its_connections),
        TEST(what_the_authenticator_revokes_is_closed_at_once),
        TEST(a_connection_does_not_outlive_its_token),
        TEST(tokens_are_looked_at_again_once_a_minute_and_when_a_collection_changes),
        TEST(an_idle_connection_is_small),
        TEST(a_slow_one_is_closed_and_hurts_nobody),
        TEST(a_drain_tells_all_to_come_back),
        TEST(the_memory_of_subscriptions_is_counted_and_given_back),
        TEST(past_the_bound_subscriptions_are_refused_until_there_is_room),
        TEST(all_tenants_together_have_a_bound),
        TEST(a_member_that_means_nothing_is_refused_by_its_name),
        TEST(a_token_that_allows_something_else_now_is_judged_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
