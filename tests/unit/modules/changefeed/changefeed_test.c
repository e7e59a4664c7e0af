/* The feed over its routes: the page's shape, its account, and problems named by field and code. */
#include "bakend/arena.h"
#include "bakend/compress.h"
#include "bakend/json.h"
#include "module_fixture.h"
#include <stdio.h>

extern const struct bk_module bk_module_changefeed;

static struct support_module fixture;
static struct bk_arena arena;

static int setup(void **state) {
    (void)state;
    support_module_open(&fixture, &bk_module_changefeed, NULL, NULL);
    bk_arena_init(&arena, 64 * 1024 * 1024);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    support_module_close(&fixture);
    return 0;
}

static void emit(const char *type, const char *subject, uint32_t count) {
    struct bk_event_draft draft = {.type = bk_slice_from(type),
                                   .subject = bk_slice_from(subject),
                                   .source = BK_SLICE("test"),
                                   .payload = BK_SLICE("{\"title\":\"Hello\"}")};
    assert_int_equal(
        support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, count, NULL), BK_OK);
}

/* --- reading answers -------------------------------------------------------------------------- */

static const struct bk_json *call(int expected_status, const char *target) {
    struct bk_json *answer = NULL;
    int status = support_module_call(&fixture, BK_GET, target);
    if (status != expected_status)
        print_error("%s: %s\n", target, fixture.answer.data);
    assert_int_equal(status, expected_status);
    bk_arena_reset(&arena);
    assert_int_equal(bk_json_parse(&arena, bk_buffer_slice(&fixture.answer), &answer, NULL), BK_OK);
    return answer;
}

static const struct bk_json *get(const struct bk_json *object, const char *key) {
    const struct bk_json *value = bk_json_get(object, bk_slice_from(key));
    if (value == NULL)
        fail_msg("%s is missing in %s", key, fixture.answer.data);
    return value;
}

static int64_t get_int(const struct bk_json *object, const char *key) {
    int64_t number = -1;
    assert_true(bk_json_to_int64(get(object, key), &number));
    return number;
}

static void get_text(const struct bk_json *object, const char *key, char *out, size_t size) {
    struct bk_slice text = get(object, key)->string;
    assert_true(text.length < size);
    memcpy(out, text.data, text.length);
    out[text.length] = '\0';
}

static void check_account(const struct bk_json *page) {
    assert_int_equal(get_int(page, "lastSequence") - get_int(page, "firstSequence") + 1,
                     (int64_t)get(page, "events")->child_count + get_int(page, "skipped"));
}

static void check_problem(const char *target, int status, const char *field, const char *code) {
    const struct bk_json *answer = call(status, target);
    assert_int_equal(get_int(answer, "status"), status);
    const struct bk_json *problem = get(get(answer, "data"), field);
    char found[64];
    get_text(problem, "code", found, sizeof found);
    assert_string_equal(found, code);
    assert_true(get(problem, "message")->string.length > 0);
}

/* --- pages ------------------------------------------------------------------------------------ */

static void test_an_empty_feed_still_gives_a_next_cursor(void **state) {
    (void)state;
    char next[64], head[64];
    const struct bk_json *page = call(200, "/api/events");
    assert_int_equal(get(page, "events")->child_count, 0);
    get_text(page, "next", next, sizeof next);
    get_text(page, "head", head, sizeof head);
    assert_string_equal(next, head);
    assert_int_equal(strlen(next), BK_CURSOR_BYTES);
    assert_false(get(page, "hasMore")->boolean);
    check_account(page);
}

static void test_a_page_holds_the_events_and_their_account(void **state) {
    (void)state;
    emit("posts.created", "posts/a", 3);
    emit("users.created", "users/b", 2);
    const struct bk_json *page = call(200, "/api/events?types=posts.*");
    const struct bk_json *event = get(page, "events")->child;
    assert_int_equal(get(page, "events")->child_count, 3);
    assert_true(bk_slice_is(get(event, "type")->string, "posts.created"));
    assert_true(bk_slice_is(get(event, "subject")->string, "posts/a"));
    assert_true(bk_slice_is(get(get(event, "payload"), "title")->string, "Hello"));
    assert_int_equal(get_int(event, "sequence"), 1);
    assert_int_equal(get_int(page, "firstSequence"), 1);
    assert_int_equal(get_int(page, "lastSequence"), 5);
    assert_int_equal(get_int(page, "skipped"), 2);
    check_account(page);
}

static void test_next_leads_through_the_whole_feed(void **state) {
    (void)state;
    static const char *const orders[] = {"asc", "desc"};
    emit("posts.created", "posts/a", 250);
    for (size_t i = 0; i < 2; i++) {
        char target[200], next[64] = "start";
        if (i == 1)
            snprintf(next, sizeof next, "now");
        int64_t expected = i == 0 ? 1 : 250;
        bool has_more = true;
        while (has_more) {
            snprintf(target, sizeof target, "/api/events?limit=40&order=%s&after=%s", orders[i],
                     next);
            const struct bk_json *page = call(200, target);
            for (const struct bk_json *event = get(page, "events")->child; event != NULL;
                 event = event->next) {
                assert_int_equal(get_int(event, "sequence"), expected);
                expected += i == 0 ? 1 : -1;
            }
            check_account(page);
            has_more = get(page, "hasMore")->boolean;
            get_text(page, "next", next, sizeof next);
        }
        assert_int_equal(expected, i == 0 ? 251 : 0);
    }
}

static void test_subject_and_several_types_are_heeded(void **state) {
    (void)state;
    emit("posts.created", "posts/a", 2);
    emit("posts.created", "posts/b", 3);
    emit("auth.login", "users/a", 4);
    emit("_webhooks.created", "_webhooks/a", 5);
    assert_int_equal(get(call(200, "/api/events?subject=posts/b"), "events")->child_count, 3);
    assert_int_equal(
        get(call(200, "/api/events?types=posts.created,auth.*"), "events")->child_count, 9);
    assert_int_equal(get(call(200, "/api/events"), "events")->child_count, 9);
    assert_int_equal(get(call(200, "/api/events?types=_*"), "events")->child_count, 5);
    assert_int_equal(get(call(200, "/api/events?types=*,_*"), "events")->child_count, 14);
}

static void test_limit_is_a_hundred_unless_named(void **state) {
    (void)state;
    emit("posts.created", "posts/a", 150);
    const struct bk_json *page = call(200, "/api/events");
    assert_int_equal(get(page, "events")->child_count, 100);
    assert_true(get(page, "hasMore")->boolean);
    assert_int_equal(get(call(200, "/api/events?limit=1"), "events")->child_count, 1);
}

static void test_oldest_is_the_cursor_to_begin_again_from(void **state) {
    (void)state;
    char oldest[64], target[128];
    emit("posts.created", "posts/a", 3);
    get_text(call(200, "/api/events?after=now"), "oldest", oldest, sizeof oldest);
    snprintf(target, sizeof target, "/api/events?after=%s", oldest);
    assert_int_equal(get(call(200, target), "events")->child_count, 3);
}

/* --- problems --------------------------------------------------------------------------------- */

static void test_each_wrong_parameter_is_named(void **state) {
    (void)state;
    check_problem("/api/events?types=posts..created", 400, "types", "validation_invalid_type");
    check_problem("/api/events?types=posts.created,", 400, "types", "validation_invalid_type");
    check_problem("/api/events?order=newest", 400, "order", "validation_invalid_order");
    check_problem("/api/events?filter=source%3D", 400, "filter", "validation_invalid_filter");
    check_problem("/api/events?wait=61", 400, "wait", "validation_out_of_range");
    check_problem("/api/events?wait=5&order=desc", 400, "wait", "validation_wait_backwards");
    check_problem("/api/events?subject=posts", 400, "subject", "validation_invalid_subject");
    check_problem("/api/events?subject=/abc", 400, "subject", "validation_invalid_subject");
    check_problem("/api/events?subject=posts/", 400, "subject", "validation_invalid_subject");
    const struct bk_json *answer = call(400, "/api/events?limit=1001&order=x&types=x");
    assert_int_equal(get(answer, "data")->child_count, 3);
    call(400, "/api/events?limit=0");
    call(400, "/api/events?limit=ten");
}

static void test_a_parameter_that_stands_twice_is_refused(void **state) {
    (void)state;
    static const char *const names[] = {"after", "types", "subject", "limit", "order"};
    char target[128];
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        snprintf(target, sizeof target, "/api/events?%s=&x=1&%s=", names[i], names[i]);
        check_problem(target, 400, names[i], "validation_repeated");
    }
    check_problem("/api/events?after=start&%61fter=now", 400, "after", "validation_repeated");
    check_problem("/api/events?after=start&x=1", 400, "x", "validation_unknown_name");
    check_problem("/api/events?after=", 400, "after", "cursor_invalid");
}

static bool says(const char *words) { return strstr(fixture.answer.data, words) != NULL; }

static void test_a_plus_that_was_not_encoded_is_explained(void **state) {
    (void)state;
    check_problem("/api/events?after=2026-01-01T00:00:00+02:00", 400, "after", "cursor_invalid");
    assert_true(says("%2B"));
    check_problem("/api/events?after=2026-01-01+00:00:00+02:00", 400, "after", "cursor_invalid");
    assert_true(says("%2B"));
    call(200, "/api/events?after=2026-01-01T00:00:00%2B02:00");
    check_problem("/api/events?after=one+two", 400, "after", "cursor_invalid");
    assert_false(says("%2B"));
    check_problem("/api/events?after=+", 400, "after", "cursor_invalid");
    check_problem("/api/events?after=+02:00", 400, "after", "cursor_invalid");
}

static void test_another_tenants_cursor_is_called_one_of_another_history(void **state) {
    (void)state;
    char target[128], next[64];
    struct bk_tenant *other = support_kernel_hold(&fixture.kernel, BK_SLICE("other"));
    fixture.call_tenant = BK_SLICE("other");
    get_text(call(200, "/api/events"), "next", next, sizeof next);
    fixture.call_tenant = BK_SLICE_EMPTY;
    snprintf(target, sizeof target, "/api/events?after=%s", next);
    check_problem(target, 409, "after", "cursor_epoch_changed");
    assert_true(says("the tenant was restored, or the cursor is another tenant's or server's."));
    bk_tenant_release(other);
}

static void test_backward_a_page_holds_what_is_older_than_the_position(void **state) {
    (void)state;
    char target[128], next[64];
    emit("posts.created", "posts/a", 5);
    assert_int_equal(get(call(200, "/api/events?order=desc&after=start"), "events")->child_count,
                     0);
    const struct bk_json *page = call(200, "/api/events?order=desc&limit=2");
    assert_int_equal(get_int(get(page, "events")->child, "sequence"), 5);
    get_text(call(200, "/api/events?limit=3"), "next", next, sizeof next);
    snprintf(target, sizeof target, "/api/events?order=desc&after=%s", next);
    page = call(200, target);
    assert_int_equal(get_int(get(page, "events")->child, "sequence"), 3);
    assert_int_equal(get(page, "events")->child_count, 3);
    assert_int_equal(
        get(call(200, "/api/events?order=desc&after=2020-01-01T00:00:00Z"), "events")->child_count,
        0);
    assert_int_equal(
        get(call(200, "/api/events?order=desc&after=2999-01-01T00:00:00Z"), "events")->child_count,
        5);
}

static void test_a_cursor_that_cannot_be_followed_is_told_apart(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES + 1] = "", target[128];
    struct bk_journal_state journal;
    const uint8_t other_epoch[8] = {0};
    emit("posts.created", "posts/a", 3);
    journal = bk_journal_state(fixture.kernel.tenant->database);
    check_problem("/api/events?after=yesterday", 400, "after", "cursor_invalid");
    bk_cursor_make(cursor, journal.epoch, 4);
    snprintf(target, sizeof target, "/api/events?after=%s", cursor);
    check_problem(target, 400, "after", "cursor_in_future");
    bk_cursor_make(cursor, other_epoch, 1);
    snprintf(target, sizeof target, "/api/events?after=%s", cursor);
    check_problem(target, 409, "after", "cursor_epoch_changed");
    const struct bk_json *after = get(get(call(409, target), "data"), "after");
    get_text(get(after, "params"), "oldest", cursor, sizeof cursor);
    snprintf(target, sizeof target, "/api/events?after=%s", cursor);
    assert_int_equal(get(call(200, target), "events")->child_count, 3);
}

/* --- requests as a transport brings them, with headers ---------------------------------------- */

struct received {
    bool is_done, is_compressed;
    int status;
    char content_encoding[32];
};

static void on_send(struct bk_request *request) {
    struct received *received = request->transport;
    bk_buffer_clear(&fixture.answer);
    bk_buffer_append_slice(&fixture.answer, bk_buffer_slice(&request->out));
    bk_buffer_append_char(&fixture.answer, '\0');
    fixture.answer.length--;
    bk_buffer_append_char(&request->head, '\0');
    if (strstr(request->head.data, "Content-Encoding: gzip\r\n") != NULL)
        snprintf(received->content_encoding, sizeof received->content_encoding, "gzip");
    received->is_compressed = request->is_compressed;
    received->status = request->status;
    received->is_done = true;
}

static struct received fetch(const char *target, const char *name, const char *value) {
    static const struct bk_responder responder = {.send = on_send};
    struct received received = {0};
    struct bk_header header = {bk_slice_from(name), bk_slice_from(value)};
    struct bk_request request;
    size_t body_max_bytes = 0;
    bk_request_init(&request, fixture.api);
    request.responder = &responder;
    request.transport = &received;
    request.is_control = true; /* as the system, who may read events */
    request.method = BK_GET;
    request.target = bk_slice_from(target);
    size_t path_length = bk_slice_find(request.target, '?');
    request.path = bk_slice_make(target, path_length);
    if (path_length < request.target.length)
        request.query = bk_slice_from(target + path_length + 1);
    request.headers = &header;
    request.header_count = 1;
    if (bk_api_begin(fixture.api, &request, &body_max_bytes))
        bk_api_dispatch(&request);
    support_loop_run_until(fixture.kernel.loop, &received.is_done);
    bk_request_fini(&request);
    return received;
}

static void test_the_form_is_the_most_welcome_one_of_what_there_is(void **state) {
    (void)state;
    static const char lines[] = "{\"id\"", batch[] = "[{\"specversion\"", page[] = "{\"events\"";
    static const struct {
        const char *accept, *begins;
    } cases[] = {
        {"*/*", page},
        {"", page},
        {"application/json", page},
        {"application/*;q=0.5", page},
        {"text/html, */*;q=0.1", page},
        {"application/x-ndjson, application/json", page},
        {"application/x-ndjson, */*", lines},
        {"Application/X-NDJSON;q=0.9", lines},
        {"application/json;q=0.5, application/x-ndjson;q=0.75", lines},
        {"application/json;q=0, application/x-ndjson;q=0.001", lines},
        {"application/cloudevents-batch+json", batch},
    };
    emit("posts.created", "posts/a", 1);
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        assert_int_equal(fetch("/api/events", "accept", cases[i].accept).status, 200);
        assert_memory_equal(fixture.answer.data, cases[i].begins, strlen(cases[i].begins));
    }
}

static void test_a_form_that_is_not_served_is_refused(void **state) {
    (void)state;
    static const char *const refused[] = {"text/html", "application/xml, image/*",
                                          "application/json;q=0", "application/jsonl",
                                          "application/x-ndjson;q=0.0"};
    for (size_t i = 0; i < BK_COUNT_OF(refused); i++) {
        assert_int_equal(fetch("/api/events", "accept", refused[i]).status, 406);
        assert_non_null(strstr(fixture.answer.data, "application/x-ndjson"));
    }
}

static void test_a_large_page_is_gzipped_for_who_takes_it(void **state) {
    (void)state;
    struct bk_buffer plain;
    bk_buffer_init(&plain, 1024 * 1024);
    emit("posts.created", "posts/a", 200);
    struct received received = fetch("/api/events?limit=200", "accept-encoding", "br, gzip");
    assert_int_equal(received.status, 200);
    assert_true(received.is_compressed);
    assert_string_equal(received.content_encoding, "gzip");
    assert_int_equal(bk_gunzip(bk_buffer_slice(&fixture.answer), &plain), BK_OK);
    assert_false(fetch("/api/events?limit=200", "accept-encoding", "gzip;q=0").is_compressed);
    assert_true(bk_slice_equal(bk_buffer_slice(&plain), bk_buffer_slice(&fixture.answer)));
    /* Too small to be worth a thread. */
    assert_false(fetch("/api/events?limit=10", "accept-encoding", "gzip").is_compressed);
    bk_buffer_fini(&plain);
}

static void test_only_those_who_may_read_events_do(void **state) {
    (void)state;
    struct bk_actor record = {.kind = BK_ACTOR_RECORD,
                              .label = BK_SLICE("users/a"),
                              .id = BK_SLICE("a"),
                              .tenant = BK_SLICE("default")};
    struct bk_actor key = {.kind = BK_ACTOR_KEY,
                           .label = BK_SLICE("key/a"),
                           .scopes = BK_SLICE("events:read"),
                           .tenant = BK_SLICE("default")};
    assert_int_equal(support_module_call_as(&fixture, &bk_actor_guest, BK_GET, "/api/events") / 100,
                     4);
    assert_int_equal(support_module_call_as(&fixture, &record, BK_GET, "/api/events") / 100, 4);
    assert_int_equal(support_module_call_as(&fixture, &key, BK_GET, "/api/events"), 200);
    key.scopes = BK_SLICE("records:read");
    assert_int_equal(support_module_call_as(&fixture, &key, BK_GET, "/api/events") / 100, 4);
}

/* --- one event -------------------------------------------------------------------------------- */

static void test_an_event_is_read_by_its_id(void **state) {
    (void)state;
    char id[64], target[128];
    emit("posts.created", "posts/a", 2);
    get_text(get(call(200, "/api/events?limit=1"), "events")->child, "id", id, sizeof id);
    snprintf(target, sizeof target, "/api/events/%s", id);
    assert_int_equal(get_int(call(200, target), "sequence"), 1);
    call(404, "/api/events/evt_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    call(404, "/api/events/nonsense");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_empty_feed_still_gives_a_next_cursor),
        TEST(a_page_holds_the_events_and_their_account),
        TEST(next_leads_through_the_whole_feed),
        TEST(subject_and_several_types_are_heeded),
        TEST(limit_is_a_hundred_unless_named),
        TEST(oldest_is_the_cursor_to_begin_again_from),
        TEST(each_wrong_parameter_is_named),
        TEST(a_cursor_that_cannot_be_followed_is_told_apart),
        TEST(a_parameter_that_stands_twice_is_refused),
        TEST(a_plus_that_was_not_encoded_is_explained),
        TEST(another_tenants_cursor_is_called_one_of_another_history),
        TEST(backward_a_page_holds_what_is_older_than_the_position),
        TEST(the_form_is_the_most_welcome_one_of_what_there_is),
        TEST(a_form_that_is_not_served_is_refused),
        TEST(a_large_page_is_gzipped_for_who_takes_it),
        TEST(only_those_who_may_read_events_do),
        TEST(an_event_is_read_by_its_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
