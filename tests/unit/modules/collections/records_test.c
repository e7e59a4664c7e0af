/* Records over their routes, in process: what a collection's declaration and the limits of a write do to
 * an answer. Real requests are in tests/integration. */
#include "bakend/clock.h"
#include "module_fixture.h"
#include <stdio.h>

extern const struct bk_module bk_module_collections;

enum { TEXT_BYTES = 4096 };

static struct support_module fixture;
static struct bk_schema_kind *kind;
static struct bk_module module;

static const struct bk_actor superuser = {
    .kind = BK_ACTOR_SUPERUSER, .is_operator = true, .label = BK_SLICE_INIT("_superusers/one")};

static const struct bk_system_collection declared[] = {
    {.definition = "{\"name\":\"_closed\",\"type\":\"base\",\"system\":true,"
                   "\"fields\":[{\"name\":\"title\",\"type\":\"text\"}]}",
     .role = BK_ROLE_CONFIGURATION,
     .alias = "closed",
     .is_closed = true},
    {.definition = "{\"name\":\"_kept\",\"type\":\"base\",\"system\":true,"
                   "\"fields\":[{\"name\":\"title\",\"type\":\"text\"}]}",
     .role = BK_ROLE_CONFIGURATION,
     .keeps_last = "One must stay."},
};

/* The module as it is, on a schema that the fixture does not have. */
static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    kind = bk_schema_kind_create(context->tenants, (struct bk_log){0});
    for (size_t i = 0; i < BK_COUNT_OF(declared); i++)
        bk_schema_add_system(kind, &declared[i], "test");
    context->schema = kind;
    return bk_module_collections.init(context, error);
}

static void on_fini(struct bk_module_context *context) {
    (void)context;
    bk_schema_kind_destroy(kind);
}

static int setup(void **state) {
    (void)state;
    module = bk_module_collections;
    module.init = on_init;
    module.fini = on_fini;
    support_module_open(&fixture, &module, NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_module_close(&fixture);
    return 0;
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
static int ask_as(const struct bk_actor *actor, enum bk_method method, const char *target,
                  const char *body) {
    char text[TEXT_BYTES];
    struct waiting waiting = {
        .call = {.actor = actor,
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

static int ask(enum bk_method method, const char *target, const char *body) {
    return ask_as(&superuser, method, target, body);
}

static void assert_answer_has(const char *text) {
    if (strstr(fixture.answer.data, text) == NULL)
        fail_msg("no %s in %s", text, fixture.answer.data);
}

#define RECORDS(collection) "/api/collections/" collection "/records"

/* --- what a module declares ------------------------------------------------------------------- */

static void records_of_a_closed_collection_are_written_by_its_module_only(void **state) {
    (void)state;
    static const char path[] = RECORDS("_closed") "/closed000000001";
    assert_int_equal(ask(BK_POST, RECORDS("_closed"), "{'title':'x'}"), 400);
    assert_answer_has("\"Records of _closed are changed through /api/closed.\"");
    assert_int_equal(
        ask_as(&bk_actor_system, BK_POST, RECORDS("_closed"), "{'id':'closed000000001'}"), 200);
    assert_int_equal(ask(BK_PATCH, path, "{'title':'y'}"), 400);
    assert_int_equal(ask(BK_DELETE, path, ""), 400);
    assert_int_equal(ask(BK_GET, path, ""), 200);
    assert_int_equal(ask_as(&bk_actor_guest, BK_DELETE, path, ""), 403);
    assert_int_equal(ask_as(&bk_actor_system, BK_DELETE, path, ""), 204);
}

static void a_collection_that_keeps_its_last_record_loses_all_but_one(void **state) {
    (void)state;
    assert_int_equal(ask(BK_POST, RECORDS("_kept"), "{'id':'kept00000000001'}"), 200);
    assert_int_equal(ask(BK_POST, RECORDS("_kept"), "{'id':'kept00000000002'}"), 200);
    assert_int_equal(ask(BK_DELETE, RECORDS("_kept") "/kept00000000001", ""), 204);
    assert_int_equal(ask(BK_DELETE, RECORDS("_kept") "/kept00000000002", ""), 400);
    assert_answer_has("\"One must stay.\"");
    assert_int_equal(ask(BK_DELETE, RECORDS("_kept") "/kept00000000009", ""), 404);
    assert_int_equal(ask_as(&bk_actor_system, BK_DELETE, RECORDS("_kept") "/kept00000000002", ""),
                     400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(records_of_a_closed_collection_are_written_by_its_module_only),
        TEST(a_collection_that_keeps_its_last_record_loses_all_but_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
