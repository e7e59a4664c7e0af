/* Proves the bytes of an event: their order, their escapes, and that the fields stay what they
 * were. */
#define _GNU_SOURCE /* memmem */
#include "support.h"

#include "bakend/alloc.h"
#include "bakend/event.h"

#include <string.h>

static const struct bk_event_fields full = {
    .sequence = 7,
    .timestamp_ms = 1780920000000,
    .version = 2,
    .depth = 1,
    .id = BK_SLICE_INIT("evt_01"),
    .type = BK_SLICE_INIT("posts.updated"),
    .source = BK_SLICE_INIT("collections"),
    .tenant = BK_SLICE_INIT("default"),
    .subject = BK_SLICE_INIT("posts/abc"),
    .actor = BK_SLICE_INIT("users/xyz"),
    .cause = BK_SLICE_INIT("evt_00"),
    .payload = BK_SLICE_INIT("{\"title\":\"h\\u00e9\"}"),
    .previous = BK_SLICE_INIT("{\"title\":\"a\"}"),
    .omitted = BK_SLICE_INIT("[\"body\"]"),
    .hidden = BK_SLICE_INIT("{\"secret\":1}"),
};

static void assert_text(struct bk_slice text, const char *expected) {
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(text.data, expected, text.length);
}

static void the_keys_come_in_the_declared_order(void **state) {
    struct bk_event *event = bk_event_create(&full);
    (void)state;
    assert_text(event->json,
                "{\"id\":\"evt_01\",\"type\":\"posts.updated\",\"timestamp\":\"2026-06-08T12:00:00."
                "000Z\",\"source\":\"collections\",\"payload\":{\"title\":\"h\\u00e9\"},\"tenant\":"
                "\"default\",\"subject\":\"posts/abc\",\"sequence\":7,\"actor\":\"users/xyz\","
                "\"version\":2,\"previous\":{\"title\":\"a\"},\"cause\":\"evt_00\",\"omitted\":["
                "\"body\"]}");
    bk_event_unref(event);
}

static void a_transient_event_has_no_sequence_and_no_empty_options(void **state) {
    struct bk_event_fields fields = {
        .version = 1, .type = BK_SLICE("a.b"), .payload = BK_SLICE("{}")};
    struct bk_event *event = bk_event_create(&fields);
    (void)state;
    assert_text(event->json, "{\"id\":\"\",\"type\":\"a.b\",\"timestamp\":\"1970-01-01T00:00:00."
                             "000Z\",\"source\":\"\",\"payload\":{},\"tenant\":\"\",\"subject\":"
                             "\"\",\"actor\":\"\",\"version\":1}");
    bk_event_unref(event);
}

static void assert_fields_equal(const struct bk_event_fields *a, const struct bk_event_fields *b) {
    assert_true(bk_slice_equal(a->id, b->id));
    assert_true(bk_slice_equal(a->type, b->type));
    assert_true(bk_slice_equal(a->source, b->source));
    assert_true(bk_slice_equal(a->tenant, b->tenant));
    assert_true(bk_slice_equal(a->subject, b->subject));
    assert_true(bk_slice_equal(a->actor, b->actor));
    assert_true(bk_slice_equal(a->cause, b->cause));
    assert_true(bk_slice_equal(a->payload, b->payload));
    assert_true(bk_slice_equal(a->previous, b->previous));
    assert_true(bk_slice_equal(a->omitted, b->omitted));
    assert_true(bk_slice_equal(a->hidden, b->hidden));
}

/* With and without texts that need an escape: the two ways an event is laid out. */
static void fields_are_copied_and_bytes_are_the_same_either_way(void **state) {
    static const char *const subjects[] = {"posts/abc", "posts/\"\\\n", "posts/\xc3\xa9",
                                           "posts/\xff", ""};
    (void)state;
    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
        struct bk_event_fields fields = full;
        struct bk_event *event;
        struct bk_buffer expected;
        fields.subject = bk_slice_from(subjects[i]);
        event = bk_event_create(&fields);
        bk_buffer_init(&expected, 4096);
        bk_event_write_json(&expected, &fields);
        assert_true(bk_slice_equal(event->json, bk_buffer_slice(&expected)));
        assert_fields_equal(&event->fields, &fields);
        assert_ptr_not_equal(event->fields.subject.data, fields.subject.data);
        assert_null(memmem(event->json.data, event->json.length, "secret", 6));
        bk_buffer_fini(&expected);
        bk_event_unref(event);
    }
}

static void the_last_reference_frees(void **state) {
    struct bk_event *event = bk_event_create(&full);
    (void)state;
    assert_ptr_equal(bk_event_ref(event), event);
    bk_event_unref(event);
    assert_int_equal(event->fields.sequence, 7);
    bk_event_unref(event);
    bk_event_unref(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_keys_come_in_the_declared_order),
        cmocka_unit_test(a_transient_event_has_no_sequence_and_no_empty_options),
        cmocka_unit_test(fields_are_copied_and_bytes_are_the_same_either_way),
        cmocka_unit_test(the_last_reference_frees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
