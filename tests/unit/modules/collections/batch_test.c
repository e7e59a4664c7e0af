/* Batches over their route, in process: which requests are parts, which fail, and what is left of
 * them. Batches of real clients are in tests/integration. */
#include "bakend/settings.h"
#include "module_fixture.h"
#include <stdio.h>

extern const struct bk_module bk_module_collections;

enum { BODY_BYTES = 16 * 1024 };

static struct support_module fixture;
static struct bk_schema_kind *kind;
static struct bk_module module;
static struct bk_settings settings;

static const struct bk_actor superuser = {
    .kind = BK_ACTOR_SUPERUSER, .is_operator = true, .label = BK_SLICE_INIT("_superusers/one")};

/* The module as it is, on a schema that the fixture does not have. */
static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    kind = bk_schema_kind_create(context->tenants, (struct bk_log){0});
    context->schema = kind;
    return bk_module_collections.init(context, error);
}

static void on_fini(struct bk_module_context *context) {
    (void)context;
    bk_schema_kind_destroy(kind);
}

/* --- requests --------------------------------------------------------------------------------- */

struct waiting {
    struct bk_call call;
    bool is_done;
};

static void on_answer(struct bk_call *call) {
    struct waiting *waiting = bk_container_of(call, struct waiting, call);
    bk_buffer_append_slice(&fixture.answer, call->answer);
    waiting->is_done = true;
}

/* As a superuser; apostrophes in the body stand for quotes. */
static int ask(enum bk_method method, const char *target, const char *body) {
    static char text[BODY_BYTES];
    struct waiting waiting = {
        .call = {.actor = &superuser,
                 .method = method,
                 .target = bk_slice_from(target),
                 .body = bk_slice_make(text, (size_t)snprintf(text, sizeof(text), "%s", body)),
                 .done = on_answer}};
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    bk_buffer_clear(&fixture.answer);
    bk_api_call(fixture.api, &waiting.call);
    support_loop_run_until(fixture.kernel.loop, &waiting.is_done);
    bk_buffer_append_char(&fixture.answer, '\0');
    fixture.answer.length--;
    return waiting.call.status;
}

static int batch(const char *requests) {
    char body[BODY_BYTES];
    (void)snprintf(body, sizeof(body), "{'requests':[%s]}", requests);
    return ask(BK_POST, "/api/batch", body);
}

static void assert_answer_has(const char *text) {
    if (strstr(fixture.answer.data, text) == NULL)
        fail_msg("no %s in %s", text, fixture.answer.data);
}

#define NOTES "/api/collections/notes/records"
#define PART(method, url, body) "{'method':'" method "','url':'" url "','body':" body "}"

static int setup(void **state) {
    struct bk_tenant *tenant;
    (void)state;
    module = bk_module_collections;
    module.init = on_init;
    module.fini = on_fini;
    support_module_open(&fixture, &module, NULL, NULL);
    settings = (struct bk_settings){.allows_batch = true,
                                    .batch_requests_max = 4,
                                    .batch_seconds_max = 3,
                                    .batch_body_bytes_max = 2000};
    tenant = bk_tenant_hold_open(fixture.kernel.tenants, BK_SLICE("default"));
    tenant->settings = &settings;
    bk_tenant_release(tenant);
    assert_int_equal(ask(BK_POST, "/api/collections",
                         "{'name':'notes','type':'base','fields':["
                         "{'name':'title','type':'text','required':true},"
                         "{'name':'n','type':'number'}]}"),
                     200);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_module_close(&fixture);
    return 0;
}

static void assert_notes(int count) {
    char text[32];
    assert_int_equal(ask(BK_GET, NOTES "?fields=id", ""), 200);
    (void)snprintf(text, sizeof(text), "\"totalItems\":%d", count);
    assert_answer_has(text);
}

/* --- what is a part --------------------------------------------------------------------------- */

static void each_part_is_answered_in_its_place(void **state) {
    (void)state;
    assert_int_equal(
        batch(PART("POST", NOTES "?fields=id,n", "{'id':'note00000000001','title':'a'}") "," PART(
            "PATCH", NOTES "/note00000000001?fields=n",
            "{'n+':2}") "," PART("PUT", NOTES "?fields=n",
                                 "{'id':'note00000000001','n+':1}") "," PART("DELETE",
                                                                             NOTES
                                                                             "/note00000000001",
                                                                             "null")),
        200);
    assert_string_equal(fixture.answer.data,
                        "[{\"body\":{\"id\":\"note00000000001\",\"n\":0},\"status\":200},"
                        "{\"body\":{\"n\":2},\"status\":200},{\"body\":{\"n\":3},\"status\":200},"
                        "{\"body\":null,\"status\":204}]");
    assert_notes(0);
}

static void only_records_routes_are_parts(void **state) {
    (void)state;
    static const char *const others[] = {
        PART("GET", NOTES, "{}"),
        PART("POST", "/api/collections", "{}"),
        PART("POST", NOTES "/note00000000001", "{}"),
        PART("POST", NOTES "/", "{}"),
        PART("PUT", NOTES "/note00000000001", "{}"),
        PART("PATCH", NOTES, "{}"),
        PART("DELETE", NOTES, "{}"),
        PART("PATCH", NOTES "/a/b", "{}"),
        PART("POST", "/api/collections//records", "{}"),
        PART("POST", "api/collections/notes/records", "{}"),
        PART("POST", "/api/batch", "{}"),
        PART("POST", "/api/collections/notes/records%2F", "{}"),
        PART("POST", "/api/collections/%zz/records", "{}"),
    };
    for (size_t i = 0; i < BK_COUNT_OF(others); i++) {
        assert_int_equal(batch(others[i]), 400);
        assert_answer_has("{\"data\":{\"requests\":{\"0\":{\"code\":\"batch_request_failed\","
                          "\"message\":\"Batch request failed.\",\"response\":{\"data\":{},"
                          "\"message\":\"Something went wrong while processing your request.\","
                          "\"status\":400}}}},\"message\":\"Batch transaction failed.\"");
    }
    assert_notes(0);
}

/* --- failures --------------------------------------------------------------------------------- */

static void the_first_part_that_fails_is_told_and_nothing_is_left(void **state) {
    (void)state;
    assert_int_equal(
        batch(PART("POST", NOTES, "{'title':'a'}") "," PART("POST", NOTES, "{}") "," PART(
            "POST", "/api/collections/nothing/records", "{}")),
        400);
    assert_answer_has("\"requests\":{\"1\":");
    assert_answer_has("\"response\":{\"data\":{\"title\":{\"code\":\"validation_required\"");
    /* One that cannot even be prepared waits for its turn. */
    assert_int_equal(
        batch(PART("POST", NOTES, "{'title':'a'}") "," PART(
            "POST", "/api/collections/nothing/records", "{}") "," PART("POST", NOTES, "{}")),
        400);
    assert_answer_has("\"requests\":{\"1\":");
    assert_answer_has("\"message\":\"Missing collection context: there is no "
                      "collection \\\"nothing\\\".\",\"status\":404");
    assert_notes(0);
}

static void a_batch_has_limits(void **state) {
    (void)state;
#define ONE PART("POST", NOTES, "{'title':'a'}")
    assert_int_equal(batch(ONE "," ONE "," ONE "," ONE), 200);
    assert_int_equal(batch(ONE "," ONE "," ONE "," ONE "," ONE), 400);
    assert_answer_has("\"params\":{\"max\":4,\"min\":0}");
    assert_int_equal(batch(""), 400);
    assert_answer_has("\"requests\":{\"code\":\"validation_required\"");
    settings.batch_body_bytes_max = 20;
    assert_int_equal(batch(ONE), 413);
    settings.allows_batch = false;
    assert_int_equal(batch(ONE), 403);
    assert_notes(4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_part_is_answered_in_its_place),
        TEST(only_records_routes_are_parts),
        TEST(the_first_part_that_fails_is_told_and_nothing_is_left),
        TEST(a_batch_has_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
