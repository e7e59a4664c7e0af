/* Bodies: what each format has of an event, byte for byte, and the same at each attempt. */
#include "webhooks.h"

#include "bakend/json.h"
#include "support.h"

static const struct bk_event_fields whole = {
    .sequence = 1234,
    .timestamp_ms = INT64_C(1780920000123), /* 2026-06-08T12:00:00.123Z */
    .version = 1,
    .id = BK_SLICE_INIT("evt_1"),
    .type = BK_SLICE_INIT("posts.updated"),
    .source = BK_SLICE_INIT("collections"),
    .tenant = BK_SLICE_INIT("default"),
    .subject = BK_SLICE_INIT("posts/abc"),
    .actor = BK_SLICE_INIT("users/u1"),
    .cause = BK_SLICE_INIT("evt_0"),
    .payload =
        BK_SLICE_INIT("{\"big\": 12345678901234567890123, \"price\":1.10,\"é\":\"\\u0000\"}"),
    .previous = BK_SLICE_INIT("{\"price\":1.20}"),
    .omitted = BK_SLICE_INIT("[\"body\"]"),
};
static const struct webhooks_form standard = {
    .format = WEBHOOKS_STANDARD, .epoch = {1, 2, 3, 4, 5, 6, 7, 8}, .after = 1230};

/* The cursor of a sequence in this epoch, as everybody else makes it. */
static const char *cursor_of(uint64_t sequence) {
    static char texts[4][BK_CURSOR_BYTES + 1];
    static int next;
    char *text = texts[next++ % 4];
    bk_cursor_make(text, standard.epoch, sequence);
    text[BK_CURSOR_BYTES] = '\0';
    return text;
}

static void assert_body(const struct bk_event_fields *event, const struct webhooks_form *form,
                        struct bk_slice expected) {
    struct bk_buffer out;
    bk_buffer_init(&out, webhooks_body_bytes_max(event));
    webhooks_body_write(&out, event, form);
    assert_int_equal(bk_buffer_status(&out), BK_OK);
    if (!bk_slice_equal(bk_buffer_slice(&out), expected))
        fail_msg("%.*s\nis not\n%.*s", BK_SLICE_PRINT(bk_buffer_slice(&out)),
                 BK_SLICE_PRINT(expected));
    bk_buffer_fini(&out);
}

static void the_standard_body_has_the_payload_as_it_is(void **state) {
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 8192);
    assert_body(
        &whole, &standard,
        bk_arena_format(
            &arena,
            "{\"type\":\"posts.updated\",\"timestamp\":\"2026-06-08T12:00:00.123Z\",\"data\":%.*s,"
            "\"id\":\"evt_1\",\"source\":\"collections\",\"tenant\":\"default\","
            "\"subject\":\"posts/abc\",\"sequence\":1234,\"actor\":\"users/u1\",\"version\":1,"
            "\"previous\":{\"price\":1.20},\"cause\":\"evt_0\",\"omitted\":[\"body\"],"
            "\"cursor\":\"%s\",\"after\":\"%s\"}",
            BK_SLICE_PRINT(whole.payload), cursor_of(1234), cursor_of(1230)));
    bk_arena_fini(&arena);
}

static void what_an_event_has_not_is_left_out(void **state) {
    struct bk_event_fields event = whole;
    struct webhooks_form form = standard;
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 8192);
    event.subject = event.previous = event.omitted = event.actor = event.cause = BK_SLICE_EMPTY;
    event.payload = BK_SLICE("{}");
    form.after = 0;
    assert_body(&event, &form,
                bk_arena_format(&arena,
                                "{\"type\":\"posts.updated\",\"timestamp\":"
                                "\"2026-06-08T12:00:00.123Z\",\"data\":{},\"id\":\"evt_1\","
                                "\"source\":\"collections\",\"tenant\":\"default\","
                                "\"sequence\":1234,\"version\":1,\"cursor\":\"%s\","
                                "\"after\":\"%s\"}",
                                cursor_of(1234), cursor_of(0)));
    event.sequence = 0;
    assert_body(&event, &form,
                BK_SLICE("{\"type\":\"posts.updated\",\"timestamp\":\"2026-06-08T12:00:00.123Z\","
                         "\"data\":{},\"id\":\"evt_1\",\"source\":\"collections\","
                         "\"tenant\":\"default\",\"version\":1}"));
    form.format = WEBHOOKS_CLOUDEVENTS;
    assert_body(&event, &form,
                BK_SLICE("{\"specversion\":\"1.0\",\"id\":\"evt_1\",\"source\":"
                         "\"/tenants/default/collections\",\"type\":\"posts.updated\",\"time\":"
                         "\"2026-06-08T12:00:00.123Z\",\"tenantid\":\"default\",\"dataversion\":1,"
                         "\"datacontenttype\":\"application/json\",\"data\":{}}"));
    bk_arena_fini(&arena);
}

static void a_cloudevent_has_cursors_as_attributes(void **state) {
    struct webhooks_form form = standard;
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 8192);
    form.format = WEBHOOKS_CLOUDEVENTS;
    assert_body(
        &whole, &form,
        bk_arena_format(
            &arena,
            "{\"specversion\":\"1.0\",\"id\":\"evt_1\",\"source\":\"/tenants/default/collections\","
            "\"type\":\"posts.updated\",\"time\":\"2026-06-08T12:00:00.123Z\","
            "\"subject\":\"posts/abc\",\"sequence\":\"00000000000000001234\","
            "\"tenantid\":\"default\",\"actor\":\"users/"
            "u1\",\"causationid\":\"evt_0\",\"dataversion\":1,\"omitted\":true,"
            "\"cursor\":\"%s\",\"after\":\"%s\",\"datacontenttype\":\"application/json\","
            "\"data\":%.*s}",
            cursor_of(1234), cursor_of(1230), BK_SLICE_PRINT(whole.payload)));
    form.format = WEBHOOKS_CLOUDEVENTS_BINARY;
    assert_body(&whole, &form, whole.payload);
    bk_arena_fini(&arena);
}

/* Every character as long as it can become, in every format. */
static void the_bound_of_a_body_holds(void **state) {
    static char noise[300];
    (void)state;
    memset(noise, 1, sizeof noise);
    struct bk_slice text = bk_slice_make(noise, sizeof noise);
    struct bk_event_fields event = whole;
    event.id = event.type = event.subject = event.actor = event.cause = text;
    event.sequence = UINT64_MAX / 2;
    event.version = UINT32_MAX;
    for (int format = 0; format < WEBHOOKS_FORMAT_COUNT; format++) {
        struct webhooks_form form = standard;
        struct bk_buffer out;
        form.format = (enum webhooks_format)format;
        bk_buffer_init(&out, webhooks_body_bytes_max(&event));
        webhooks_body_write(&out, &event, &form);
        assert_int_equal(bk_buffer_status(&out), BK_OK);
        bk_buffer_fini(&out);
    }
}

static void each_attempt_makes_the_same_bytes(void **state) {
    (void)state;
    for (int format = 0; format < WEBHOOKS_FORMAT_COUNT; format++) {
        struct bk_event *event = bk_event_create(&whole);
        struct webhooks_form form = standard;
        struct bk_buffer out;
        form.format = (enum webhooks_format)format;
        bk_buffer_init(&out, webhooks_body_bytes_max(&whole));
        webhooks_body_write(&out, &whole, &form);
        assert_body(&event->fields, &form, bk_buffer_slice(&out));
        bk_buffer_fini(&out);
        bk_event_unref(event);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standard_body_has_the_payload_as_it_is),
        cmocka_unit_test(what_an_event_has_not_is_left_out),
        cmocka_unit_test(a_cloudevent_has_cursors_as_attributes),
        cmocka_unit_test(the_bound_of_a_body_holds),
        cmocka_unit_test(each_attempt_makes_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
