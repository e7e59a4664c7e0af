/* Records over their routes, in process: what a collection's declaration and the limits of a write
 * do to an answer. Real requests are in tests/integration. */
#include "bakend/clock.h"
#include "module_fixture.h"
#include <stdio.h>

extern const struct bk_module bk_module_collections;

enum { TEXT_BYTES = 4096, BODY_BYTES = 16 * 1024 };

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
    static char text[BODY_BYTES];
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

/* --- the limits of a write -------------------------------------------------------------------- */

static void define_notes(void) {
    assert_int_equal(ask(BK_POST, "/api/collections",
                         "{'name':'notes','type':'base','fields':[{'name':'title','type':'text'},"
                         "{'name':'tags','type':'select','maxSelect':2,'values':['a','b']},"
                         "{'name':'secret','type':'text','hidden':true},"
                         "{'name':'data','type':'json','maxSize':1000000}],"
                         "'createRule':''}"),
                     200);
}

static int64_t count_notes(void) {
    struct bk_arena arena;
    struct bk_json *answer;
    int64_t count = -1;
    assert_int_equal(ask(BK_GET, RECORDS("notes") "?perPage=1&fields=id", ""), 200);
    bk_arena_init(&arena, TEXT_BYTES);
    assert_int_equal(bk_json_parse(&arena, bk_buffer_slice(&fixture.answer), &answer, NULL), BK_OK);
    assert_true(bk_json_to_int64(bk_json_get(answer, BK_SLICE("totalItems")), &count));
    bk_arena_fini(&arena);
    return count;
}

/* `{'data':[1,1,…]}` */
static void write_body(char *body, size_t count) {
    char *end = body + snprintf(body, TEXT_BYTES, "{'data':[1");
    for (size_t i = 1; i < count; i++) {
        *end++ = ',';
        *end++ = '1';
    }
    memcpy(end, "]}", 3);
}

static void a_write_is_answered_as_it_ended_however_little_memory_is_left(void **state) {
    (void)state;
    static char body[TEXT_BYTES], target[TEXT_BYTES];
    char *end = target + snprintf(target, TEXT_BYTES, RECORDS("notes") "?fields=%%69d");
    int64_t stored = 0, refused = 0;
    define_notes();
    for (int i = 0; i < 100; i++, end += 4)
        memcpy(end, ",%61", 5);
    for (size_t count = 1500; count < 2000; count += 2) {
        write_body(body, count);
        int status = ask(BK_POST, target, body);
        if (status == 200)
            stored++;
        else
            refused += status == 413;
        assert_true(status == 200 || status == 413);
    }
    assert_true(stored > 0 && refused > 0);
    assert_int_equal(count_notes(), stored);
}

static void a_body_with_too_many_values_is_told_how_many_there_may_be(void **state) {
    (void)state;
    static char body[TEXT_BYTES];
    define_notes();
    write_body(body, 2040);
    assert_int_equal(ask(BK_POST, RECORDS("notes"), body), 413);
    assert_answer_has("too many values for the 262144 bytes");
    assert_answer_has("about 1747 values");
}

/* Wherever the memory of the request ends, nothing is read that was not written. */
static void a_definition_that_does_not_fit_is_refused_as_a_whole(void **state) {
    (void)state;
    static char body[BODY_BYTES];
    int made = 0, refused = 0;
    for (int count = 1; count <= 60; count++) {
        int length = snprintf(body, sizeof(body),
                              "{'name':'wide%d','type':'base','fields':[{'name':'title','type':"
                              "'text'}],'indexes':[",
                              count);
        for (int i = 0; i < count; i++)
            length += snprintf(body + length, sizeof(body) - (size_t)length,
                               "%s'CREATE INDEX i%d_%d ON wide%d (title) WHERE title > %d'",
                               i == 0 ? "" : ",", count, i, count, i);
        memcpy(body + length, "]}", 3);
        int status = ask(BK_POST, "/api/collections", body);
        if (status != 200 && status != 413)
            fail_msg("%d indexes: %s", count, fixture.answer.data);
        *(status == 200 ? &made : &refused) += 1;
    }
    assert_true(made > 0 && refused > 0);
}

static void too_many_fields_are_refused_before_the_write(void **state) {
    (void)state;
    char target[TEXT_BYTES];
    size_t length = (size_t)snprintf(target, TEXT_BYTES, RECORDS("notes") "?fields=f");
    define_notes();
    for (int i = 0; i < BK_FIELDS_MAX; i++) {
        memcpy(target + length, ",f", 3);
        length += 2;
    }
    assert_int_equal(ask(BK_POST, target, "{'title':'x'}"), 400);
    assert_answer_has("\"validation_too_many\"");
    assert_int_equal(count_notes(), 0);
    target[length - 2] = '\0';
    assert_int_equal(ask(BK_POST, target, "{'title':'x'}"), 200);
    assert_int_equal(count_notes(), 1);
}

static void modifiers_change_what_a_record_has_and_unknown_keys_nothing(void **state) {
    (void)state;
    define_notes();
    assert_int_equal(
        ask(BK_POST, RECORDS("notes"),
            "{'id':'noteone00000001','tags':['a'],'tags+':'b','nothing+':1,'+':1,'-':1,"
            "':autogenerate':1}"),
        200);
    assert_answer_has("\"tags\":[\"a\",\"b\"]");
    assert_int_equal(ask(BK_PATCH, RECORDS("notes") "/noteone00000001", "{'tags-':'a'}"), 200);
    assert_answer_has("\"tags\":[\"b\"]");
    assert_int_equal(ask(BK_PATCH, RECORDS("notes") "/noteone00000001", "{'+tags':'a'}"), 200);
    assert_answer_has("\"tags\":[\"a\",\"b\"]");
    /* Whoever may not set a field does not learn that it is there. */
    assert_int_equal(ask_as(&bk_actor_guest, BK_POST, RECORDS("notes"), "{'secret+':'x'}"), 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(records_of_a_closed_collection_are_written_by_its_module_only),
        TEST(a_collection_that_keeps_its_last_record_loses_all_but_one),
        TEST(a_write_is_answered_as_it_ended_however_little_memory_is_left),
        TEST(a_body_with_too_many_values_is_told_how_many_there_may_be),
        TEST(a_definition_that_does_not_fit_is_refused_as_a_whole),
        TEST(too_many_fields_are_refused_before_the_write),
        TEST(modifiers_change_what_a_record_has_and_unknown_keys_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
