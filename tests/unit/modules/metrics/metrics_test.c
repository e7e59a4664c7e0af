/* The page of figures: who may read it, that no series comes twice, and what some of them count. */
#include "module_fixture.h"
#include "position_fixture.h"

#include "bakend/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct bk_module bk_module_metrics;

enum { SERIES_MAX = 1000 };

static struct support_module fixture;
static struct bk_logger *logger;
static bool options[8]; /* none is set: the page is guarded */

static int setup(void **state) {
    (void)state;
    logger = bk_logger_create(2, BK_LOG_ERROR, 64 * 1024);
    support_module_open(&fixture, &bk_module_metrics, options, logger);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_module_close(&fixture);
    bk_logger_destroy(logger);
    return 0;
}

static const char *scrape(void) {
    assert_int_equal(support_module_call(&fixture, BK_GET, "/metrics"), 200);
    return fixture.answer.data;
}

/* The number behind a series, given with its labels. */
static double value_of(const char *page, const char *series) {
    size_t length = strlen(series);
    for (const char *line = page; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, series, length) == 0 && line[length] == ' ')
            return strtod(line + length, NULL);
    }
    fail_msg("no series %s in:\n%s", series, page);
    return 0;
}

static enum bk_status on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                               struct bk_event *event) {
    (void)subscription;
    (void)tenant;
    (void)event;
    return BK_OK;
}

static void subscribe(struct bk_subscription *subscription, enum bk_phase phase,
                      const char *pattern) {
    *subscription = (struct bk_subscription){.name = "test.twin",
                                             .phase = phase,
                                             .pattern = bk_slice_from(pattern),
                                             .on_event = on_event};
    assert_int_equal(bk_bus_subscribe(fixture.bus, subscription), BK_OK);
}

static enum bk_status emit(const char *type) {
    const struct bk_event_draft draft = {.type = bk_slice_from(type),
                                         .source = BK_SLICE("test"),
                                         .subject = BK_SLICE("things/a"),
                                         .payload = BK_SLICE("{}")};
    enum bk_status status =
        support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, 1, NULL);
    support_module_settle(&fixture);
    return status;
}

/* Each line is a comment, or a series that no other line has and a number. */
static void check_page(const char *page) {
    const char *lines[SERIES_MAX];
    size_t lengths[SERIES_MAX], count = 0;
    while (*page != '\0') {
        const char *end = strchr(page, '\n'), *space = end;
        char *rest = NULL;
        assert_non_null(end);
        while (space > page && *space != ' ')
            space--;
        if (*page != '#') {
            assert_in_range(count, 0, SERIES_MAX - 1);
            (void)strtod(space, &rest);
            assert_ptr_equal(rest, end);
            lines[count] = page;
            lengths[count] = (size_t)(space - page);
            for (size_t i = 0; i < count; i++)
                if (lengths[i] == lengths[count] && memcmp(lines[i], page, lengths[i]) == 0)
                    fail_msg("twice: %.*s", (int)lengths[i], page);
            count++;
        }
        page = end + 1;
    }
    assert_in_range(count, 50, SERIES_MAX);
}

static void has_no_series_twice(void **state) {
    struct bk_subscription twins[3];
    const char *page;
    (void)state;
    subscribe(&twins[0], BK_PHASE_LOGGING, "things.created");
    subscribe(&twins[1], BK_PHASE_LOGGING, "things.deleted");
    subscribe(&twins[2], BK_PHASE_PLUGINS, "*");
    assert_int_equal(emit("things.created"), BK_OK);
    assert_int_equal(emit("things.deleted"), BK_OK);
    page = scrape();
    check_page(page);
    assert_true(value_of(page, "bakend_bus_handler_events_total{handler=\"test.twin\","
                               "phase=\"logging\"}") == 2);
    assert_true(value_of(page, "bakend_bus_handler_events_total{handler=\"test.twin\","
                               "phase=\"plugins\"}") == 2);
    for (size_t i = 0; i < BK_COUNT_OF(twins); i++)
        bk_bus_unsubscribe(fixture.bus, &twins[i]);
}

static void counts_positions_by_kind(void **state) {
    static const struct bk_slice types[] = {BK_SLICE_INIT("things.counted")};
    struct support_reader readers[2] = {{.position.kind = "ships"},
                                        {.position.kind = "trains", .answer = BK_HANDED_TAKEN}};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(readers); i++) {
        readers[i].position.interest.types = types;
        readers[i].position.interest.type_count = 1;
        assert_int_equal(support_reader_open_now(&fixture.kernel, fixture.feed, &readers[i],
                                                 readers[i].position.kind),
                         BK_OK);
    }
    assert_int_equal(emit("things.counted"), BK_OK);
    const char *page = scrape();
    check_page(page);
    assert_true(value_of(page, "bakend_positions{kind=\"ships\",state=\"live\"}") == 1);
    assert_true(value_of(page, "bakend_position_handed_total{kind=\"trains\"}") == 1);
    assert_true(value_of(page, "bakend_position_acknowledged_total{kind=\"ships\"}") == 1);
    assert_true(value_of(page, "bakend_position_acknowledged_total{kind=\"trains\"}") == 0);
    assert_true(value_of(page, "bakend_position_lag_max_events{kind=\"ships\"}") == 0);
    assert_true(value_of(page, "bakend_position_lag_max_events{kind=\"trains\"}") == 1);
    for (size_t i = 0; i < BK_COUNT_OF(readers); i++)
        support_reader_fini(&readers[i]);
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    (void)transaction;
    (void)write;
    return BK_CONFLICT;
}

struct failing {
    struct bk_write write;
    bool is_done;
};

static void on_done(struct bk_write *write, enum bk_status status) {
    struct failing *failing = bk_container_of(write, struct failing, write);
    assert_int_equal(status, BK_CONFLICT);
    failing->is_done = true;
}

static void fail_a_write(void) {
    struct failing failing = {.write = {.run = on_run, .done = on_done}};
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, &failing.write), BK_OK);
    support_loop_run_until(fixture.kernel.loop, &failing.is_done);
}

static void counts_failed_writes_apart(void **state) {
    double before, failed_before;
    (void)state;
    before = value_of(scrape(), "bakend_store_writes_total");
    failed_before = value_of(scrape(), "bakend_store_writes_failed_total");
    assert_int_equal(emit("things.created"), BK_OK);
    fail_a_write();
    assert_true(value_of(scrape(), "bakend_store_writes_total") - before == 1);
    assert_true(value_of(scrape(), "bakend_store_writes_failed_total") - failed_before == 1);
}

static void is_for_operators(void **state) {
    struct bk_actor superuser = {.kind = BK_ACTOR_SUPERUSER, .label = BK_SLICE("_superusers/a")};
    struct bk_actor key = {.kind = BK_ACTOR_KEY,
                           .label = BK_SLICE("key/a"),
                           .scopes = BK_SLICE("events:read"),
                           .tenant = BK_SLICE("acme")};
    (void)state;
    assert_int_equal(support_module_call_as(&fixture, &bk_actor_guest, BK_GET, "/metrics"), 401);
    assert_int_equal(support_module_call_as(&fixture, &superuser, BK_GET, "/metrics"), 403);
    assert_int_equal(support_module_call_as(&fixture, &key, BK_GET, "/metrics"), 403);
    superuser.is_operator = true;
    assert_int_equal(support_module_call_as(&fixture, &superuser, BK_GET, "/metrics"), 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_no_series_twice),
        cmocka_unit_test(counts_positions_by_kind),
        cmocka_unit_test(counts_failed_writes_apart),
        cmocka_unit_test(is_for_operators),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
