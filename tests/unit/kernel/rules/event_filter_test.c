/* Filters over events: what they may name, and what they find. */
#include "bakend/event_filter.h"

#include "support.h"

static const struct bk_event_fields sample = {
    .sequence = 42,
    .timestamp_ms = INT64_C(1780920000123), /* 2026-06-08T12:00:00.123Z, a Monday */
    .version = 1,
    .id = BK_SLICE_INIT("evt_1"),
    .type = BK_SLICE_INIT("orders.updated"),
    .source = BK_SLICE_INIT("collections"),
    .tenant = BK_SLICE_INIT("default"),
    .subject = BK_SLICE_INIT("orders/abc"),
    .actor = BK_SLICE_INIT("users/u1"),
    .payload =
        BK_SLICE_INIT("{\"total\":50,\"name\":\"Żółw\",\"note\":\"\",\"none\":null,"
                      "\"paid\":true,\"tags\":[\"a\",\"b\"],\"empty\":[],"
                      "\"at\":\"2026-06-08 11:00:00.000Z\",\"in\":{\"deep\":[1,{\"x\":2.5}]}}"),
    .previous = BK_SLICE_INIT("{\"total\":49.5}"),
};

static bool holds_for(const struct bk_event_fields *fields, const char *text) {
    struct bk_event_filter *filter;
    struct bk_event_view view;
    struct bk_error error = BK_ERROR_INIT;
    if (bk_event_filter_parse(bk_slice_from(text), &filter, &error) != BK_OK)
        fail_msg("%s: %s", text, error.message);
    bk_event_view_init(&view, fields);
    bool holds = bk_event_filter_holds(filter, &view);
    bk_event_view_fini(&view);
    bk_event_filter_unref(filter);
    return holds;
}

#define ASSERT_HOLDS(text)                                                                         \
    if (!holds_for(&sample, text))                                                                 \
    fail_msg("does not hold: %s", text)
#define ASSERT_NOT(text)                                                                           \
    if (holds_for(&sample, text))                                                                  \
    fail_msg("holds: %s", text)

static void what_an_event_consists_of_is_compared(void **state) {
    (void)state;
    ASSERT_HOLDS("payload.total >= 50 && source = 'collections'");
    ASSERT_NOT("payload.total > 50 || source != \"collections\"");
    ASSERT_HOLDS("id = 'evt_1' && type ~ 'orders.' && tenant = 'default' && actor ~ 'USERS/'");
    ASSERT_HOLDS("subject = 'orders/abc' && sequence = 42 && version = 1 && sequence > '41'");
    ASSERT_HOLDS("cause = '' && cause = null");
    ASSERT_HOLDS("type:lower = 'orders.updated'");
}

static void paths_lead_into_payload_and_previous(void **state) {
    (void)state;
    ASSERT_HOLDS("previous.total < 50 && payload.total != previous.total");
    ASSERT_HOLDS("payload.in.deep.1.x = 2.5 && payload.in.deep.0 = 1");
    ASSERT_HOLDS("payload.paid = true && payload.name ~ 'ółw' && payload.name:lower = 'Żółw'");
    ASSERT_HOLDS("payload.tags = '[\"a\",\"b\"]'");
    ASSERT_NOT("payload.in.deep.2 != null || payload.nowhere.x != null || payload.total.x != null");
}

static void in_json_only_null_is_not_there(void **state) {
    (void)state;
    ASSERT_HOLDS("payload.none = null && payload.nothing = null && payload.note = ''");
    ASSERT_NOT("payload.note = null || payload.none = ''");
    ASSERT_NOT("payload.nothing > 1 || payload.nothing < 1 || payload.nothing ~ ''");
}

static void lists_have_elements_and_a_length(void **state) {
    (void)state;
    ASSERT_HOLDS("payload.tags:each ?= 'a' && payload.tags:length = 2");
    ASSERT_NOT("payload.tags:each = 'a'");
    ASSERT_HOLDS("payload.tags:each ~ 'A' || payload.tags:each != 'c'");
    ASSERT_NOT("payload.tags:each ?= 'a' && payload.tags:each ?= 'b'"); /* of one element */
    ASSERT_HOLDS("payload.empty:length = 0 && payload.nothing:length = 0");
    ASSERT_NOT("payload.empty:each ?= 'a'");
    ASSERT_HOLDS("payload.total:each = 50 && payload.total:length = 1");
}

static void times_are_of_the_event(void **state) {
    (void)state;
    ASSERT_HOLDS(
        "timestamp = '2026-06-08T12:00:00.123Z' && timestamp = '2026-06-08 12:00:00.123Z'");
    ASSERT_HOLDS("timestamp >= '2026-06-08T12:00:00Z' && timestamp < '2026-06-08T12:00:01Z'");
    ASSERT_HOLDS("timestamp = @now && @weekday = 1 && @hour >= 9 && @year = 2026");
    ASSERT_HOLDS("payload.at < @now && payload.at > @todayStart && timestamp ~ '2026-06'");
    ASSERT_HOLDS("strftime('%Y-%m %H', timestamp) = '2026-06 12' && strftime('%w') = '1'");
    ASSERT_NOT("strftime('%Y', timestamp) != '2026' || strftime('%Y', payload.at) = '2025'");
}

static void numbers_are_compared_whole(void **state) {
    (void)state;
    struct bk_event_fields fields = sample;
    fields.payload = BK_SLICE("{\"a\":9007199254740993,\"b\":\"9007199254740993\",\"c\":1e2}");
    assert_true(holds_for(&fields, "payload.a > 9007199254740992 && payload.c = 100"));
    assert_true(holds_for(&fields, "payload.b ~ '993' && payload.a ~ '993'"));
    assert_false(holds_for(&fields, "payload.b = 9007199254740993"));
}

static void an_event_without_previous_has_null(void **state) {
    (void)state;
    struct bk_event_fields fields = sample;
    fields.previous = BK_SLICE_EMPTY;
    assert_true(holds_for(&fields, "previous.total = null"));
    assert_false(holds_for(&fields, "previous.total < 50 || previous.total >= 50"));
}

static void anything_else_is_refused_with_its_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } samples[] = {
        {"payload.total = 1 && nobody = 1", "at 22: there is no field nobody to filter by"},
        {"@request.auth.id = ''", "at 1: events have no @request.auth.id"},
        {"@collection.posts.id ?= ''", "at 1: events have no @collection.posts.id"},
        {"@nothing = 1", "at 1: events have no @nothing"},
        {"payload ~ 'x'", "at 1: payload.<path> is expected"},
        {"subject.x = 1", "at 1: subject is no relation"},
        {"type:each = 1", "at 1: type has no :each"},
        {"payload.a:isset = 1", "at 1: :isset is not for events"},
        {"payload.a:nice = 1",
         "at 1: there is no modifier :nice: each, length, lower, isset or changed"},
        {"posts_via_author.id = 1", "at 1: there is no field posts_via_author to filter by"},
        {"strftime('%J', timestamp) = 1",
         "at 1: strftime of events takes a format without %J and a time"},
        {"strftime('%Y', timestamp, '+1 day') = 1",
         "at 1: strftime of events takes a format without %J and a time"},
        {"payload.a = ", "at 13: expected a field, a text, a number or a function, got the end"},
        {"", "at 1: expected a field, a text, a number or a function, got the end"},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        struct bk_event_filter *filter;
        struct bk_error error = BK_ERROR_INIT;
        assert_int_equal(bk_event_filter_parse(bk_slice_from(samples[i].text), &filter, &error),
                         BK_INVALID);
        assert_string_equal(error.message, samples[i].message);
    }
}

static void a_filter_has_one_text(void **state) {
    (void)state;
    struct bk_event_filter *filter, *again;
    assert_int_equal(
        bk_event_filter_parse(BK_SLICE("  type='a\"b'&&( payload.x ?~ 1.5 // why\n||id!=null)"),
                              &filter, NULL),
        BK_OK);
    struct bk_slice text = bk_event_filter_text(filter);
    assert_true(bk_slice_is(text, "type = \"a\\\"b\" && (payload.x ?~ 1.5 || id != null)"));
    assert_int_equal(bk_event_filter_parse(text, &again, NULL), BK_OK);
    assert_true(bk_slice_equal(bk_event_filter_text(again), text));
    bk_event_filter_unref(bk_event_filter_ref(again));
    bk_event_filter_unref(again);
    bk_event_filter_unref(filter);
}

/* A pattern that goes back and back is cut short; then the event is let through. */
static void what_takes_too_long_is_let_through(void **state) {
    (void)state;
    enum { LENGTH = 200 * 1000 };
    static char json[LENGTH + 20];
    memset(json, 'a', sizeof json);
    memcpy(json, "{\"x\":\"", 6);
    memcpy(json + LENGTH, "\"}", 2);
    struct bk_event_fields fields = sample;
    fields.payload = bk_slice_make(json, LENGTH + 2);
    assert_true(holds_for(&fields, "payload.x ~ '%aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab'"));
    assert_false(holds_for(&fields, "payload.x ~ 'ab'"));
}

static void a_filter_is_a_test_for_the_feed(void **state) {
    (void)state;
    struct bk_event_filter *filter;
    struct bk_event_fields other = sample;
    other.payload = BK_SLICE("{\"total\":49}");
    assert_int_equal(bk_event_filter_parse(BK_SLICE("payload.total  >= 50"), &filter, NULL), BK_OK);
    const struct bk_event_test *test = bk_event_filter_test(filter);
    assert_true(bk_slice_equal(test->key, bk_event_filter_text(filter)));
    assert_true(test->holds(test, &sample));
    assert_false(test->holds(test, &other));
    bk_event_filter_test_unref(bk_event_filter_test(bk_event_filter_ref(filter)));
    assert_true(test->holds(test, &sample));
    bk_event_filter_test_unref(test);
    assert_null(bk_event_filter_test(NULL));
    bk_event_filter_test_unref(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_event_consists_of_is_compared),
        cmocka_unit_test(paths_lead_into_payload_and_previous),
        cmocka_unit_test(in_json_only_null_is_not_there),
        cmocka_unit_test(lists_have_elements_and_a_length),
        cmocka_unit_test(times_are_of_the_event),
        cmocka_unit_test(numbers_are_compared_whole),
        cmocka_unit_test(an_event_without_previous_has_null),
        cmocka_unit_test(anything_else_is_refused_with_its_place),
        cmocka_unit_test(a_filter_has_one_text),
        cmocka_unit_test(what_takes_too_long_is_let_through),
        cmocka_unit_test(a_filter_is_a_test_for_the_feed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
