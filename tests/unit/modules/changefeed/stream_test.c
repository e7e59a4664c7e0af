/* Readers that follow: streams and pages that wait, with a client that reads, does not, or goes. */
#include "module_fixture.h"
#include <stdio.h>

extern const struct bk_module bk_module_changefeed;

enum { EMITTED_MANY = 300, RECEIVED_MAX_BYTES = 32 * 1024 * 1024 };

static struct support_module fixture;

/* A transport for one request. */
struct client {
    struct bk_request request;
    struct bk_header header;
    struct bk_buffer received; /* with a NUL behind it */
    bool is_begun, is_done, is_slow;
    uint32_t writes;
    int status;
};

static void keep(struct client *client, struct bk_slice text) {
    bk_buffer_append_slice(&client->received, text);
    bk_buffer_append_char(&client->received, '\0');
    client->received.length--;
}

static void on_send(struct bk_request *request) {
    struct client *client = request->transport;
    client->status = request->status;
    keep(client, bk_buffer_slice(&request->out));
    client->is_done = true;
}

static void on_stream_begin(struct bk_request *request) {
    struct client *client = request->transport;
    client->status = request->status;
    client->is_begun = true;
}

static bool on_stream_write(struct bk_request *request, struct bk_slice data) {
    struct client *client = request->transport;
    assert_false(client->is_done);
    client->writes++;
    keep(client, data);
    return !client->is_slow;
}

static void on_stream_end(struct bk_request *request) {
    struct client *client = request->transport;
    client->is_done = true;
}

static const struct bk_responder responder = {.send = on_send,
                                              .stream_begin = on_stream_begin,
                                              .stream_write = on_stream_write,
                                              .stream_end = on_stream_end};

static int setup(void **state) {
    (void)state;
    support_module_open(&fixture, &bk_module_changefeed, NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_module_close(&fixture);
    return 0;
}

static void ask(struct client *client, const char *target, const char *accept) {
    size_t body_max_bytes = 0;
    struct bk_request *request = &client->request;
    bk_buffer_init(&client->received, RECEIVED_MAX_BYTES);
    keep(client, BK_SLICE_EMPTY);
    client->header = (struct bk_header){BK_SLICE("accept"), bk_slice_from(accept)};
    bk_request_init(request, fixture.api);
    request->responder = &responder;
    request->transport = client;
    request->is_control = true;
    request->method = BK_GET;
    request->target = bk_slice_from(target);
    size_t path_length = bk_slice_find(request->target, '?');
    request->path = bk_slice_make(target, path_length);
    if (path_length < request->target.length)
        request->query = bk_slice_from(target + path_length + 1);
    request->headers = &client->header;
    request->header_count = 1;
    if (bk_api_begin(fixture.api, request, &body_max_bytes))
        bk_api_dispatch(request);
}

static void open_stream(struct client *client, const char *target) {
    ask(client, target, "text/event-stream");
}

static void leave(struct client *client) {
    if (!client->is_done)
        bk_api_abort(&client->request);
    support_loop_run_until(fixture.kernel.loop, &client->is_done);
    bk_request_fini(&client->request);
    bk_buffer_fini(&client->received);
}

static void emit_sized(const char *type, uint32_t count, size_t bytes) {
    struct bk_buffer payload;
    bk_buffer_init(&payload, bytes + 64);
    bk_buffer_append_literal(&payload, "{\"text\":\"");
    for (size_t i = 0; i < bytes; i++)
        bk_buffer_append_char(&payload, 'x');
    bk_buffer_append_literal(&payload, "\"}");
    struct bk_event_draft draft = {.type = bk_slice_from(type),
                                   .subject = BK_SLICE("posts/a"),
                                   .source = BK_SLICE("test"),
                                   .payload = bk_buffer_slice(&payload)};
    assert_int_equal(
        support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, count, NULL), BK_OK);
    bk_buffer_fini(&payload);
}

static void emit(const char *type, uint32_t count) { emit_sized(type, count, 5); }

static uint32_t count_text(const struct client *client, const char *text) {
    uint32_t count = 0;
    for (const char *at = client->received.data; (at = strstr(at, text)) != NULL; at++)
        count++;
    return count;
}

/* Runs the loop until the client has text count times. */
static void wait_for(const struct client *client, const char *text, uint32_t count) {
    for (int i = 0; i < 5000 && count_text(client, text) < count; i++)
        support_loop_run_for(fixture.kernel.loop, 1);
    assert_int_equal(count_text(client, text), count);
}

/* The sequences that were received go up by one, from first to last. */
static void check_contiguous(const struct client *client, uint64_t first, uint64_t last) {
    const char *at = client->received.data;
    for (uint64_t expected = first; expected <= last; expected++) {
        unsigned long long found = 0;
        at = strstr(at, "\"sequence\":");
        assert_non_null(at);
        at += strlen("\"sequence\":");
        assert_int_equal(sscanf(at, "%llu", &found), 1);
        assert_int_equal(found, expected);
    }
    assert_null(strstr(at, "\"sequence\":"));
}

static void format_id(char *out, size_t size, uint64_t sequence) {
    struct bk_journal_state journal = bk_journal_state(fixture.kernel.tenant->database);
    char cursor[BK_CURSOR_BYTES];
    bk_cursor_make(cursor, journal.epoch, sequence);
    snprintf(out, size, "id: %.*s\n", BK_CURSOR_BYTES, cursor);
}

/* --- streams ---------------------------------------------------------------------------------- */

static void
test_a_stream_comes_from_journal_and_tail_and_goes_on_live_without_a_hole(void **state) {
    (void)state;
    struct client client = {0};
    emit("posts.created", EMITTED_MANY);
    open_stream(&client, "/api/events");
    wait_for(&client, "\ndata: ", EMITTED_MANY);
    emit("posts.created", 5);
    wait_for(&client, "\ndata: ", EMITTED_MANY + 5);
    check_contiguous(&client, 1, EMITTED_MANY + 5);
    leave(&client);
}

static void test_events_committed_while_a_stream_catches_up_come_once(void **state) {
    (void)state;
    struct client client = {0};
    emit("posts.created", EMITTED_MANY);
    open_stream(&client, "/api/events");
    for (int i = 0; i < 10; i++)
        emit("posts.created", 7);
    wait_for(&client, "\ndata: ", EMITTED_MANY + 70);
    check_contiguous(&client, 1, EMITTED_MANY + 70);
    leave(&client);
}

static void test_a_stream_of_a_rare_type_moves_on_over_the_others(void **state) {
    (void)state;
    struct client client = {0};
    char id[64];
    emit("posts.created", EMITTED_MANY);
    open_stream(&client, "/api/events?types=users.created");
    format_id(id, sizeof id, EMITTED_MANY);
    wait_for(&client, id, 1);
    emit("posts.created", 3);
    emit("users.created", 1);
    wait_for(&client, "users.created", 1);
    check_contiguous(&client, EMITTED_MANY + 4, EMITTED_MANY + 4);
    leave(&client);
}

static void test_a_client_that_does_not_read_is_sent_one_page_at_a_time(void **state) {
    (void)state;
    struct client client = {.is_slow = true};
    emit_sized("posts.created", 100, 10000);
    open_stream(&client, "/api/events");
    support_loop_run_for(fixture.kernel.loop, 100);
    assert_true(client.received.length > 0 && client.received.length < 100 * 1000);
    emit_sized("posts.created", 100, 10000);
    support_loop_run_for(fixture.kernel.loop, 50);
    uint32_t writes = client.writes;
    client.request.on_drain(&client.request);
    support_loop_run_for(fixture.kernel.loop, 50);
    assert_int_equal(client.writes, writes + 1);
    client.is_slow = false;
    client.request.on_drain(&client.request);
    wait_for(&client, "\ndata: ", 200);
    check_contiguous(&client, 1, 200);
    leave(&client);
}

static void test_an_event_larger_than_a_page_goes_through(void **state) {
    (void)state;
    struct client client = {0};
    emit_sized("posts.created", 1, 200 * 1000);
    emit("posts.created", 2);
    emit_sized("posts.created", 2, 200 * 1000);
    emit("posts.created", 1);
    open_stream(&client, "/api/events");
    wait_for(&client, "\ndata: ", 6);
    emit_sized("posts.created", 1, 250 * 1000);
    wait_for(&client, "\ndata: ", 7);
    check_contiguous(&client, 1, 7);
    leave(&client);
}

/* As pruning does it, but at once. */
struct removal {
    struct bk_write write;
    bool is_done;
    enum bk_status status;
};

static enum bk_status run_removal(struct bk_transaction *transaction, struct bk_write *write) {
    (void)write;
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("DELETE FROM _journal WHERE sequence <= 250"));
}

static void on_removed(struct bk_write *write, enum bk_status status) {
    struct removal *removal = bk_container_of(write, struct removal, write);
    removal->status = status;
    removal->is_done = true;
}

static void test_a_stream_whose_next_event_was_pruned_says_so_and_ends(void **state) {
    (void)state;
    struct client client = {.is_slow = true};
    struct removal removal = {.write = {.run = run_removal, .done = on_removed}};
    emit_sized("posts.created", 400, 1000);
    open_stream(&client, "/api/events");
    support_loop_run_for(fixture.kernel.loop, 50);
    assert_false(client.is_done);
    uint32_t sent = count_text(&client, "\ndata: ");
    assert_true(sent > 0 && sent < 250);
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, &removal.write), BK_OK);
    support_loop_run_until(fixture.kernel.loop, &removal.is_done);
    assert_int_equal(removal.status, BK_OK);
    client.is_slow = false;
    client.request.on_drain(&client.request);
    support_loop_run_until(fixture.kernel.loop, &client.is_done);
    const char *error = strstr(client.received.data, "event: error\ndata: {\"data\":{\"after\":");
    assert_non_null(error);
    assert_non_null(strstr(error, "\"code\":\"cursor_expired\""));
    assert_non_null(strstr(error, "\"status\":410"));
    assert_non_null(strstr(error, "\"oldest\":"));
    check_contiguous(&client, 1, sent);
    leave(&client);
}

static void test_a_client_may_go_at_any_time(void **state) {
    (void)state;
    emit("posts.created", EMITTED_MANY);
    for (int turns = 0; turns < 12; turns++) {
        struct client client = {.is_slow = turns % 2 == 1};
        open_stream(&client, "/api/events");
        for (int i = 0; i < turns / 2; i++)
            support_loop_run_for(fixture.kernel.loop, 1);
        leave(&client);
    }
    struct client woken = {0};
    open_stream(&woken, "/api/events?after=now");
    wait_for(&woken, "id: ", 1);
    emit("posts.created", 1);
    leave(&woken);
}

/* --- pages that wait -------------------------------------------------------------------------- */

static void test_a_page_waits_for_its_event_and_accounts_for_the_others(void **state) {
    (void)state;
    struct client client = {0};
    emit("posts.created", 4);
    ask(&client, "/api/events?types=users.*&wait=30", "*/*");
    support_loop_run_for(fixture.kernel.loop, 20);
    emit("posts.created", 3);
    support_loop_run_for(fixture.kernel.loop, 20);
    assert_false(client.is_done);
    emit("users.created", 1);
    support_loop_run_until(fixture.kernel.loop, &client.is_done);
    assert_int_equal(client.status, 200);
    assert_int_equal(count_text(&client, "users.created"), 1);
    assert_non_null(
        strstr(client.received.data, "\"firstSequence\":1,\"lastSequence\":8,\"skipped\":7}"));
    leave(&client);
}

static void test_a_page_that_waited_in_vain_is_empty_and_moves_on(void **state) {
    (void)state;
    struct client client = {0};
    ask(&client, "/api/events?types=users.*&wait=1", "application/json");
    support_loop_run_for(fixture.kernel.loop, 20);
    emit("posts.created", 3);
    support_loop_run_until(fixture.kernel.loop, &client.is_done);
    assert_int_equal(client.status, 200);
    assert_non_null(strstr(client.received.data, "{\"events\":[],"));
    assert_non_null(
        strstr(client.received.data, "\"firstSequence\":1,\"lastSequence\":3,\"skipped\":3}"));
    leave(&client);
}

static void test_an_event_behind_the_subject_of_another_does_not_wake(void **state) {
    (void)state;
    struct client client = {0};
    ask(&client, "/api/events?subject=posts/b&wait=1", "*/*");
    support_loop_run_for(fixture.kernel.loop, 20);
    emit("posts.created", 1);
    support_loop_run_for(fixture.kernel.loop, 50);
    assert_false(client.is_done);
    leave(&client);
}

static void test_many_that_wait_are_woken_by_one_event(void **state) {
    (void)state;
    enum { COUNT = 200 };
    static struct client clients[COUNT];
    memset(clients, 0, sizeof clients);
    for (int i = 0; i < COUNT; i++)
        ask(&clients[i], "/api/events?types=posts.*&wait=30", "*/*");
    support_loop_run_for(fixture.kernel.loop, 20);
    emit("posts.created", 1);
    for (int i = 0; i < COUNT; i++) {
        support_loop_run_until(fixture.kernel.loop, &clients[i].is_done);
        assert_int_equal(count_text(&clients[i], "posts.created"), 1);
    }
    for (int i = 0; i < COUNT; i++)
        leave(&clients[i]);
}

/* --- the end of the server -------------------------------------------------------------------- */

static void test_a_drain_ends_all_of_them_each_in_its_way(void **state) {
    (void)state;
    struct client live = {0}, slow = {.is_slow = true}, waiting = {0}, late = {0}, page = {0};
    char id[64];
    emit("posts.created", 3);
    open_stream(&live, "/api/events?types=users.*");
    open_stream(&slow, "/api/events");
    ask(&waiting, "/api/events?types=users.*&wait=60", "*/*");
    support_loop_run_for(fixture.kernel.loop, 20);
    emit("posts.created", 1);
    bk_api_drain(fixture.api, 1000);
    support_loop_run_until(fixture.kernel.loop, &live.is_done);
    support_loop_run_until(fixture.kernel.loop, &slow.is_done);
    support_loop_run_until(fixture.kernel.loop, &waiting.is_done);
    format_id(id, sizeof id, 4);
    assert_non_null(strstr(live.received.data, id));
    assert_int_equal(waiting.status, 200);
    assert_non_null(strstr(waiting.received.data, "{\"events\":[],"));
    open_stream(&late, "/api/events");
    support_loop_run_until(fixture.kernel.loop, &late.is_done);
    assert_int_equal(late.status, 503);
    ask(&page, "/api/events?types=users.*&wait=60", "*/*");
    support_loop_run_until(fixture.kernel.loop, &page.is_done);
    assert_int_equal(page.status, 200);
    leave(&live);
    leave(&slow);
    leave(&waiting);
    leave(&late);
    leave(&page);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_stream_comes_from_journal_and_tail_and_goes_on_live_without_a_hole),
        TEST(events_committed_while_a_stream_catches_up_come_once),
        TEST(a_stream_of_a_rare_type_moves_on_over_the_others),
        TEST(a_client_that_does_not_read_is_sent_one_page_at_a_time),
        TEST(an_event_larger_than_a_page_goes_through),
        TEST(a_stream_whose_next_event_was_pruned_says_so_and_ends),
        TEST(a_client_may_go_at_any_time),
        TEST(a_page_waits_for_its_event_and_accounts_for_the_others),
        TEST(a_page_that_waited_in_vain_is_empty_and_moves_on),
        TEST(an_event_behind_the_subject_of_another_does_not_wake),
        TEST(many_that_wait_are_woken_by_one_event),
        TEST(a_drain_ends_all_of_them_each_in_its_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
