/* Rows of events and requests in logs.db, what is kept out of them, and /api/logs. */
#include "bakend/arena.h"
#include "bakend/file.h"
#include "bakend/json.h"
#include "module_fixture.h"
#include <stdio.h>
#include <stdlib.h>

extern const struct bk_module bk_module_logging;

/* As the module declares them by its option table. */
struct options {
    int64_t rows_per_second, max_days;
};

static struct support_module fixture;
static struct bk_arena arena;
static struct options options;

static void respond_ok(struct bk_request *request) {
    bk_buffer_append_literal(&request->out, "{}");
    bk_answer(request, 200);
}

static void respond_problem(struct bk_request *request) {
    bk_problems_add(&request->problems, BK_SLICE("title"), "validation_required",
                    "Cannot be blank.");
    bk_answer_problems(request, BK_INVALID, "Failed to create record.");
}

static const struct bk_route routes[] = {
    {.method = BK_GET, .path = "/api/works", .summary = "Works.", .handle = respond_ok},
    {.method = BK_GET, .path = "/api/fails", .summary = "Fails.", .handle = respond_problem},
};

static void open_with(int64_t rows_per_second, int64_t max_days, struct bk_logger *logger) {
    options = (struct options){rows_per_second, max_days};
    bk_arena_init(&arena, 64 * 1024 * 1024);
    support_module_open(&fixture, &bk_module_logging, &options, logger);
    assert_int_equal(bk_api_add_routes(fixture.api, routes, BK_COUNT_OF(routes), NULL), BK_OK);
}

static int setup(void **state) {
    (void)state;
    open_with(500, 5, NULL);
    return 0;
}

static int setup_small_budget(void **state) {
    (void)state;
    open_with(10, 5, NULL);
    return 0;
}

static int setup_without_rows(void **state) {
    (void)state;
    open_with(500, 0, NULL);
    return 0;
}

static FILE *lines;
static struct bk_logger *logger;

static int setup_with_lines(void **state) {
    (void)state;
    lines = tmpfile();
    logger = bk_logger_create(fileno(lines), BK_LOG_INFO, 1024 * 1024);
    open_with(500, 5, logger);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_module_close(&fixture);
    bk_arena_fini(&arena);
    support_clock_reset();
    return 0;
}

static int teardown_with_lines(void **state) {
    int result = teardown(state);
    bk_logger_destroy(logger);
    fclose(lines);
    return result;
}

/* --- helpers ---------------------------------------------------------------------------------- */

static void emit(const char *type, uint32_t count) {
    struct bk_event_draft draft = {.type = bk_slice_from(type),
                                   .subject = BK_SLICE("posts/a"),
                                   .source = BK_SLICE("test"),
                                   .payload = BK_SLICE("{\"secret\":\"payload\"}")};
    assert_int_equal(
        support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, count, NULL), BK_OK);
    support_module_settle(&fixture);
}

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

static void assert_text(const struct bk_json *object, const char *key, const char *expected) {
    struct bk_slice text = get(object, key)->string;
    if (!bk_slice_equal(text, bk_slice_from(expected)))
        fail_msg("%s is %.*s, not %s", key, BK_SLICE_PRINT(text), expected);
}

/* Lists until as many rows are written as expected. */
static const struct bk_json *list(const char *target, uint32_t expected_count) {
    for (int i = 0; i < 300; i++) {
        const struct bk_json *answer = call(200, target);
        if (get(answer, "items")->child_count >= expected_count) {
            assert_int_equal(get(answer, "items")->child_count, expected_count);
            return answer;
        }
        support_loop_run_for(fixture.kernel.loop, 10);
    }
    fail_msg("%u rows did not come: %s", expected_count, fixture.answer.data);
    return NULL;
}

/* --- rows of events --------------------------------------------------------------------------- */

static void test_an_event_becomes_a_row_without_its_payload(void **state) {
    (void)state;
    emit("posts.created", 1);
    const struct bk_json *row = get(list("/api/logs", 1), "items")->child;
    const struct bk_json *data = get(row, "data");
    assert_text(row, "message", "posts.created");
    assert_int_equal(get_int(row, "level"), 0);
    assert_int_equal(get(row, "id")->string.length, 15);
    assert_int_equal(get(row, "created")->string.length, 24);
    assert_text(data, "type", "event");
    assert_text(data, "subject", "posts/a");
    assert_text(data, "source", "test");
    assert_text(data, "actor", "system");
    assert_int_equal(get_int(data, "sequence"), 1);
    assert_null(strstr(fixture.answer.data, "payload"));
}

static void test_an_event_is_one_line_without_its_payload(void **state) {
    (void)state;
    char text[4096];
    emit("posts.created", 1);
    bk_logger_flush(logger);
    rewind(lines);
    size_t length = fread(text, 1, sizeof text - 1, lines);
    text[length] = '\0';
    char *line = strstr(text, "\"posts.created\"");
    assert_non_null(line);
    *strchr(line, '\n') = '\0';
    while (line > text && line[-1] != '\n')
        line--;
    assert_non_null(strstr(line, "\"component\":\"logging\",\"event\":\"event\""));
    assert_non_null(strstr(line, "\"subject\":\"posts/a\""));
    assert_non_null(strstr(line, "\"sequence\":1"));
    assert_non_null(strstr(line, "\"tenant\":\"default\""));
    assert_null(strstr(text, "payload"));
}

static void test_events_of_system_collections_are_logged_too(void **state) {
    (void)state;
    emit("_webhooks.created", 1);
    assert_text(get(list("/api/logs", 1), "items")->child, "message", "_webhooks.created");
}

/* --- rows of requests ------------------------------------------------------------------------- */

static void test_a_request_becomes_a_row_in_the_contracts_shape(void **state) {
    (void)state;
    assert_int_equal(support_module_call(&fixture, BK_GET, "/api/works?page=%201"), 200);
    const struct bk_json *row = get(list("/api/logs", 1), "items")->child;
    const struct bk_json *data = get(row, "data");
    assert_text(row, "message", "GET /api/works?page= 1");
    assert_int_equal(get_int(row, "level"), 0);
    assert_text(data, "type", "request");
    assert_text(data, "method", "GET");
    assert_text(data, "url", "/api/works?page=%201");
    assert_int_equal(get_int(data, "status"), 200);
    assert_text(data, "referer", "");
    assert_text(data, "userAgent", "");
    assert_int_equal(get(data, "execTime")->type, BK_JSON_NUMBER);
    get(data, "userIP");
    get(data, "remoteIP");
    get(data, "auth");
}

static void test_a_failed_request_is_an_error_with_its_details(void **state) {
    (void)state;
    assert_int_equal(support_module_call(&fixture, BK_GET, "/api/fails"), 400);
    const struct bk_json *row = get(list("/api/logs", 1), "items")->child;
    const struct bk_json *data = get(row, "data");
    assert_int_equal(get_int(row, "level"), 8);
    assert_int_equal(get_int(data, "status"), 400);
    assert_text(data, "error", "Failed to create record.");
    assert_text(get(get(data, "details"), "title"), "code", "validation_required");
}

static void test_secrets_in_a_query_are_hidden(void **state) {
    (void)state;
    static const char *const targets[] = {
        "/api/works?token=GEHEIM", "/api/works?a=1&Access_Token=GEHEIM&b=2",
        "/api/works?to%6ben=GEHEIM", "/api/works?password=GEHEIM&token=GEHEIM"};
    for (size_t i = 0; i < BK_COUNT_OF(targets); i++)
        assert_int_equal(support_module_call(&fixture, BK_GET, targets[i]), 200);
    const struct bk_json *answer = list("/api/logs?sort=@rowid", 4);
    assert_null(strstr(fixture.answer.data, "GEHEIM"));
    assert_text(get(answer, "items")->child, "message", "GET /api/works?token=***");
    assert_text(get(get(answer, "items")->child->next, "data"), "url",
                "/api/works?a=1&Access_Token=***&b=2");
}

static void test_requests_for_logs_are_logged_only_when_they_fail(void **state) {
    (void)state;
    call(200, "/api/logs");
    call(200, "/api/logs/stats");
    call(404, "/api/logs/abcdefghijklmno");
    assert_text(get(list("/api/logs", 1), "items")->child, "message",
                "GET /api/logs/abcdefghijklmno");
}

/* --- the routes ------------------------------------------------------------------------------- */

static void test_a_list_is_paged_sorted_and_counted(void **state) {
    (void)state;
    emit("posts.created", 25);
    list("/api/logs?perPage=100", 25);
    const struct bk_json *answer =
        call(200, "/api/logs?page=2&perPage=10&sort=-data.sequence,created");
    assert_int_equal(get_int(answer, "page"), 2);
    assert_int_equal(get_int(answer, "perPage"), 10);
    assert_int_equal(get_int(answer, "totalItems"), 25);
    assert_int_equal(get_int(answer, "totalPages"), 3);
    assert_int_equal(get_int(get(get(answer, "items")->child, "data"), "sequence"), 15);
    answer = call(200, "/api/logs?perPage=5000&skipTotal=1");
    assert_int_equal(get_int(answer, "perPage"), 1000);
    assert_int_equal(get_int(answer, "totalItems"), -1);
    assert_int_equal(get_int(answer, "totalPages"), -1);
    answer = call(200, "/api/logs?perPage=1&fields=id");
    assert_int_equal(get(answer, "items")->child->child_count, 1);
}

static void test_what_cannot_be_sorted_or_filtered_is_refused(void **state) {
    (void)state;
    static const char *const targets[] = {"/api/logs?sort=nothing",
                                          "/api/logs?sort=data.",
                                          "/api/logs?sort=data.a')%3B--",
                                          "/api/logs?filter=level%3E0",
                                          "/api/logs?page=first",
                                          "/api/logs/stats?filter=level%3E0",
                                          "/api/logs?sort=id,id,id,id,id,id,id,id,id"};
    for (size_t i = 0; i < BK_COUNT_OF(targets); i++)
        call(400, targets[i]);
    const struct bk_json *answer = call(400, "/api/logs?filter=level%3E0");
    assert_text(get(get(answer, "data"), "filter"), "code", "validation_not_supported");
    call(200, "/api/logs?filter=");
}

static void test_a_row_is_read_by_its_id(void **state) {
    (void)state;
    char target[64];
    emit("posts.created", 1);
    struct bk_slice id = get(get(list("/api/logs", 1), "items")->child, "id")->string;
    snprintf(target, sizeof target, "/api/logs/%.*s", BK_SLICE_PRINT(id));
    assert_text(call(200, target), "message", "posts.created");
    call(404, "/api/logs/nothing");
}

static void test_stats_count_by_the_hour(void **state) {
    (void)state;
    support_clock_set(INT64_C(1767225600000)); /* 2026-01-01 */
    emit("posts.created", 3);
    support_clock_set(INT64_C(1767225600000) + 3600 * 1000);
    emit("posts.created", 2);
    list("/api/logs", 5);
    const struct bk_json *answer = call(200, "/api/logs/stats");
    assert_int_equal(answer->child_count, 2);
    assert_text(answer->child, "date", "2026-01-01 00:00:00.000Z");
    assert_int_equal(get_int(answer->child, "total"), 3);
    assert_int_equal(get_int(answer->child->next, "total"), 2);
}

static void test_only_those_who_may_read_logs_do(void **state) {
    (void)state;
    static const char *const targets[] = {"/api/logs", "/api/logs/stats", "/api/logs/a"};
    for (size_t i = 0; i < BK_COUNT_OF(targets); i++)
        assert_in_range(support_module_call_as(&fixture, &bk_actor_guest, BK_GET, targets[i]), 401,
                        403);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void test_rows_past_the_budget_are_dropped_and_counted(void **state) {
    (void)state;
    emit("posts.created", 500);
    struct bk_buffer metrics;
    bk_buffer_init(&metrics, 64 * 1024);
    bk_api_write_metrics(fixture.api, &metrics);
    bk_buffer_append_char(&metrics, '\0');
    const char *line = strstr(metrics.data, "\nbakend_logs_rows_dropped_total ");
    assert_non_null(line);
    /* Two seconds at most passed, so at least 480 of the 500 did not fit. */
    assert_in_range(strtol(strchr(line + 1, ' '), NULL, 10), 480, 490);
    bk_buffer_fini(&metrics);
}

static void test_no_rows_are_recorded_when_none_are_kept(void **state) {
    (void)state;
    emit("posts.created", 5);
    support_loop_run_for(fixture.kernel.loop, 1200);
    list("/api/logs", 0);
}

static void test_rows_past_their_days_are_pruned(void **state) {
    (void)state;
    support_clock_advance(-INT64_C(6) * 24 * 3600 * 1000);
    emit("posts.created", 3);
    support_clock_reset();
    emit("posts.updated", 2);
    const struct bk_json *answer = list("/api/logs?sort=@rowid", 2);
    assert_text(get(answer, "items")->child, "message", "posts.updated");
}

/* --- tenants ---------------------------------------------------------------------------------- */

/* Rows of a tenant that nobody holds: it closes when others want its place, and opens again. */
static void emit_in(const char *name) {
    struct bk_event_draft draft = {
        .type = BK_SLICE("a.b"), .source = BK_SLICE("test"), .payload = BK_SLICE("{}")};
    struct bk_tenant *tenant = support_kernel_hold(&fixture.kernel, bk_slice_from(name));
    assert_int_equal(support_kernel_emit(&fixture.kernel, tenant, &draft, 1, NULL), BK_OK);
    support_module_settle(&fixture);
    bk_tenant_release(tenant);
}

static void test_rows_outlive_the_closing_of_their_tenant(void **state) {
    (void)state;
    enum { TENANTS = 12, ROUNDS = 3 }; /* more than may be open at once */
    char name[16];
    for (int i = 0; i < TENANTS * ROUNDS; i++) {
        snprintf(name, sizeof name, "t%d", i % TENANTS);
        emit_in(name);
    }
    support_loop_run_for(fixture.kernel.loop, 1000);
    for (int i = 0; i < TENANTS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        struct bk_tenant *tenant = support_kernel_hold(&fixture.kernel, bk_slice_from(name));
        fixture.call_tenant = tenant->name;
        list("/api/logs", ROUNDS);
        fixture.call_tenant = BK_SLICE_EMPTY;
        bk_tenant_release(tenant);
    }
}

/* --- damage ----------------------------------------------------------------------------------- */

static void write_damage(const char *directory, const char *name, const char *how) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, how);
    assert_non_null(file);
    for (int i = 0; i < 8192; i++)
        fputs("no database", file);
    fclose(file);
}

struct kept {
    uint32_t count, wal_count;
    char name[64];
};

static void on_file(void *user, const char *name, bool is_directory) {
    struct kept *kept = user;
    if (is_directory || strncmp(name, "logs.db.damaged-", 16) != 0)
        return;
    if (strstr(name, "-wal") != NULL) {
        kept->wal_count++;
        return;
    }
    kept->count++;
    snprintf(kept->name, sizeof kept->name, "%s", name);
}

static struct kept find_kept(const char *directory) {
    struct kept kept = {0};
    assert_int_equal(bk_directory_list(directory, on_file, &kept, NULL), BK_OK);
    return kept;
}

static bool is_logged(const char *words) {
    char text[16384];
    bk_logger_flush(logger);
    rewind(lines);
    size_t length = fread(text, 1, sizeof text - 1, lines);
    text[length] = '\0';
    return strstr(text, words) != NULL;
}

static void directory_of(const char *tenant, char *out, size_t size) {
    snprintf(out, size, "%s/tenants/%s", fixture.kernel.directory, tenant);
}

/* Opens others until this one is closed, which is only when its file is whole on the disk. */
static void close_by_opening_others(void) {
    char name[16];
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "t%d", i);
        emit_in(name);
    }
    support_loop_run_for(fixture.kernel.loop, 1000);
}

/* A tenant that was used and is closed. */
static void use_and_close(const char *name, char *directory, size_t size) {
    emit_in(name);
    close_by_opening_others();
    directory_of(name, directory, size);
}

static void test_a_damaged_log_file_is_kept_aside_and_a_new_one_is_made(void **state) {
    (void)state;
    char directory[4100];
    use_and_close("broken", directory, sizeof directory);
    write_damage(directory, "logs.db", "w");
    write_damage(directory, "logs.db-wal", "w");
    write_damage(directory, "logs.db.damaged-20200101000000000", "w");
    write_damage(directory, "logs.db.damaged-20200101000000000-wal", "w");
    emit_in("broken");
    fixture.call_tenant = BK_SLICE("broken");
    list("/api/logs", 1);
    fixture.call_tenant = BK_SLICE_EMPTY;
    struct kept kept = find_kept(directory);
    assert_int_equal(kept.count, 1);
    assert_int_equal(kept.wal_count, 1);
    assert_string_not_equal(kept.name, "logs.db.damaged-20200101000000000");
    assert_true(is_logged("\"event\":\"logs_damaged\""));
    assert_true(is_logged(kept.name));
    assert_false(is_logged("bakend restore"));
}

static void test_a_log_whose_database_is_gone_begins_anew(void **state) {
    (void)state;
    char directory[4100];
    use_and_close("halved", directory, sizeof directory);
    char path[4200];
    snprintf(path, sizeof path, "%s/logs.db", directory);
    assert_int_equal(bk_file_remove(path, NULL), BK_OK);
    write_damage(directory, "logs.db-wal", "w");
    emit_in("halved");
    fixture.call_tenant = BK_SLICE("halved");
    list("/api/logs", 1);
    fixture.call_tenant = BK_SLICE_EMPTY;
    assert_int_equal(find_kept(directory).wal_count, 1);
}

/* Spares the pages that are looked at when it is opened: the schema, _meta and _migrations. */
static void damage_rows(const char *directory) {
    enum { FIRST_DAMAGED_BYTE = 3 * 4096 };
    char path[4200];
    snprintf(path, sizeof path, "%s/logs.db", directory);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size > FIRST_DAMAGED_BYTE);
    assert_int_equal(fseek(file, FIRST_DAMAGED_BYTE, SEEK_SET), 0);
    for (long at = FIRST_DAMAGED_BYTE; at < size; at++)
        fputc(0xEE, file);
    fclose(file);
}

static void test_damage_that_a_write_meets_is_set_aside_too(void **state) {
    (void)state;
    char directory[4100];
    emit_in("worn");
    close_by_opening_others();
    directory_of("worn", directory, sizeof directory);
    damage_rows(directory);
    emit_in("worn"); /* lost with the file */
    for (int i = 0; i < 100 && find_kept(directory).count == 0; i++)
        support_loop_run_for(fixture.kernel.loop, 20);
    assert_int_equal(find_kept(directory).count, 1);
    emit_in("worn");
    fixture.call_tenant = BK_SLICE("worn");
    list("/api/logs", 1);
    fixture.call_tenant = BK_SLICE_EMPTY;
}

static void test_a_log_that_cannot_be_moved_costs_only_the_logs(void **state) {
    (void)state;
    char directory[4100];
    use_and_close("stuck", directory, sizeof directory);
    snprintf(directory + strlen(directory), 64, "/logs.db");
    assert_int_equal(bk_file_remove(directory, NULL), BK_OK);
    assert_int_equal(bk_directory_create(directory, NULL), BK_OK);
    emit_in("stuck");
    fixture.call_tenant = BK_SLICE("stuck");
    call(500, "/api/logs");
    fixture.call_tenant = BK_SLICE_EMPTY;
    assert_true(is_logged("\"event\":\"logs_not_opened\""));
    assert_false(is_logged("bakend restore"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_event_becomes_a_row_without_its_payload),
        cmocka_unit_test_setup_teardown(test_an_event_is_one_line_without_its_payload,
                                        setup_with_lines, teardown_with_lines),
        TEST(events_of_system_collections_are_logged_too),
        TEST(a_request_becomes_a_row_in_the_contracts_shape),
        TEST(a_failed_request_is_an_error_with_its_details),
        TEST(secrets_in_a_query_are_hidden),
        TEST(requests_for_logs_are_logged_only_when_they_fail),
        TEST(a_list_is_paged_sorted_and_counted),
        TEST(what_cannot_be_sorted_or_filtered_is_refused),
        TEST(a_row_is_read_by_its_id),
        TEST(stats_count_by_the_hour),
        TEST(only_those_who_may_read_logs_do),
        cmocka_unit_test_setup_teardown(test_rows_past_the_budget_are_dropped_and_counted,
                                        setup_small_budget, teardown),
        cmocka_unit_test_setup_teardown(test_no_rows_are_recorded_when_none_are_kept,
                                        setup_without_rows, teardown),
        TEST(rows_past_their_days_are_pruned),
        TEST(rows_outlive_the_closing_of_their_tenant),
#define TEST_WITH_LINES(name)                                                                      \
    cmocka_unit_test_setup_teardown(test_##name, setup_with_lines, teardown_with_lines)
        TEST_WITH_LINES(a_damaged_log_file_is_kept_aside_and_a_new_one_is_made),
        TEST(a_log_whose_database_is_gone_begins_anew),
        TEST(damage_that_a_write_meets_is_set_aside_too),
        TEST_WITH_LINES(a_log_that_cannot_be_moved_costs_only_the_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
