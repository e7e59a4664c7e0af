/* CloudEvents: the attributes that an event has, and how they are written. */
#include "bakend/cloudevent.h"

#include "support.h"

static const struct bk_event_fields whole = {
    .sequence = 1234,
    .timestamp_ms = INT64_C(1780920000123), /* 2026-06-08T12:00:00.123Z */
    .version = 2,
    .id = BK_SLICE_INIT("evt_1"),
    .type = BK_SLICE_INIT("posts.updated"),
    .source = BK_SLICE_INIT("collections"),
    .tenant = BK_SLICE_INIT("acme"),
    .subject = BK_SLICE_INIT("posts/a\"b"),
    .actor = BK_SLICE_INIT("users/u1"),
    .cause = BK_SLICE_INIT("evt_0"),
    .payload = BK_SLICE_INIT("{\"total\": 1.50}"),
    .previous = BK_SLICE_INIT("{\"total\":1}"),
    .omitted = BK_SLICE_INIT("[\"body\"]"),
};

static void assert_written(const struct bk_cloudevent *event, const char *expected) {
    struct bk_buffer out;
    bk_buffer_init(&out, 4096);
    bk_cloudevent_write(event, &out);
    bk_buffer_append_char(&out, '\0');
    assert_int_equal(bk_buffer_status(&out), BK_OK);
    assert_string_equal(out.data, expected);
    bk_buffer_fini(&out);
}

static void what_an_event_has_is_written(void **state) {
    struct bk_cloudevent event;
    (void)state;
    bk_cloudevent_init(&event, &whole);
    assert_written(&event, "{\"specversion\":\"1.0\",\"id\":\"evt_1\","
                           "\"source\":\"/tenants/acme/collections\",\"type\":\"posts.updated\","
                           "\"time\":\"2026-06-08T12:00:00.123Z\",\"subject\":\"posts/a\\\"b\","
                           "\"sequence\":\"00000000000000001234\",\"tenantid\":\"acme\","
                           "\"actor\":\"users/u1\",\"causationid\":\"evt_0\",\"dataversion\":2,"
                           "\"omitted\":true,\"datacontenttype\":\"application/json\","
                           "\"data\":{\"total\": 1.50}}");
}

static void what_it_has_not_is_left_out(void **state) {
    struct bk_event_fields fields = whole;
    struct bk_cloudevent event;
    (void)state;
    fields.subject = fields.actor = fields.cause = fields.omitted = BK_SLICE_EMPTY;
    fields.sequence = 0;
    bk_cloudevent_init(&event, &fields);
    bk_cloudevent_add(&event, "cursor", BK_SLICE("abc"));
    bk_cloudevent_add(&event, "after", BK_SLICE_EMPTY);
    assert_written(&event, "{\"specversion\":\"1.0\",\"id\":\"evt_1\","
                           "\"source\":\"/tenants/acme/collections\",\"type\":\"posts.updated\","
                           "\"time\":\"2026-06-08T12:00:00.123Z\",\"tenantid\":\"acme\","
                           "\"dataversion\":2,\"cursor\":\"abc\","
                           "\"datacontenttype\":\"application/json\",\"data\":{\"total\": 1.50}}");
}

static void headers_are_printable_ascii_and_reversible(void **state) {
    static const char *pairs[][2] = {
        {"posts/abc", "posts/abc"},
        {"Euro \xe2\x82\xac \xf0\x9f\x98\x80", "Euro%20%E2%82%AC%20%F0%9F%98%80"},
        {"a\"b%c\\d~", "a%22b%25c\\d~"},
        {"\x01\x7f", "%01%7F"},
    };
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 4096);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const struct bk_cloudevent_attribute attribute = {.value = bk_slice_from(pairs[i][0])};
        struct bk_slice value = bk_cloudevent_header_value(&attribute, &arena);
        assert_true(bk_slice_equal(value, bk_slice_from(pairs[i][1])));
    }
    bk_arena_fini(&arena);
}

/* Of the specification: an event that says all that an event can say has room for three more. */
static void names_are_short_and_of_letters(void **state) {
    struct bk_cloudevent event;
    (void)state;
    bk_cloudevent_init(&event, &whole);
    assert_true(event.attribute_count + 3 <= BK_CLOUDEVENT_ATTRIBUTES_MAX);
    for (uint32_t i = 0; i < event.attribute_count; i++) {
        struct bk_slice name = event.attributes[i].name;
        assert_in_range(name.length, 1, 20);
        for (size_t k = 0; k < name.length; k++)
            assert_in_range(name.data[k], 'a', 'z');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_event_has_is_written),
        cmocka_unit_test(what_it_has_not_is_left_out),
        cmocka_unit_test(headers_are_printable_ascii_and_reversible),
        cmocka_unit_test(names_are_short_and_of_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
