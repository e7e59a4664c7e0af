/* Proves that an event that is too large loses its largest members, by name, and nothing else. */
#define _GNU_SOURCE /* memmem */
#include "support.h"

#include "bakend/event.h"
#include "bakend/json.h"

#include <string.h>

enum { BUFFER_BYTES = 4 * 1024 * 1024 };

/* {"a":"xxx…","b":…}: each member a string of so many bytes. */
static void write_object(struct bk_buffer *out, const size_t *lengths, size_t count) {
    bk_buffer_append_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        char key = (char)('a' + i);
        bk_json_write_key(out, bk_slice_make(&key, 1));
        bk_buffer_append_char(out, '"');
        for (size_t j = 0; j < lengths[i]; j++)
            bk_buffer_append_char(out, 'x');
        bk_buffer_append_char(out, '"');
    }
    bk_buffer_append_char(out, '}');
}

struct fixture {
    struct bk_buffer payload, previous, scratch;
    struct bk_event_fields fields;
};

static int setup(void **state) {
    static struct fixture fixture;
    fixture.fields = (struct bk_event_fields){.version = 1};
    bk_buffer_init(&fixture.payload, BUFFER_BYTES);
    bk_buffer_init(&fixture.previous, BUFFER_BYTES);
    bk_buffer_init(&fixture.scratch, BUFFER_BYTES);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_buffer_fini(&fixture->payload);
    bk_buffer_fini(&fixture->previous);
    bk_buffer_fini(&fixture->scratch);
    return 0;
}

static void what_fits_is_left_alone(void **state) {
    struct fixture *fixture = *state;
    const size_t lengths[] = {BK_EVENT_BYTES_MAX - 8};
    write_object(&fixture->payload, lengths, 1);
    assert_int_equal(fixture->payload.length, BK_EVENT_BYTES_MAX);
    fixture->fields.payload = bk_buffer_slice(&fixture->payload);
    assert_int_equal(bk_event_fit(&fixture->fields, &fixture->scratch), BK_OK);
    assert_ptr_equal(fixture->fields.payload.data, fixture->payload.data);
    assert_int_equal(fixture->fields.omitted.length, 0);
}

static void the_largest_members_go_first(void **state) {
    struct fixture *fixture = *state;
    const size_t lengths[] = {10, 200 * 1024, 1000, 100 * 1024, 20};
    write_object(&fixture->payload, lengths, 5);
    fixture->fields.payload = bk_buffer_slice(&fixture->payload);
    assert_int_equal(bk_event_fit(&fixture->fields, &fixture->scratch), BK_OK);
    assert_true(bk_slice_is(fixture->fields.omitted, "[\"b\"]"));
    assert_true(fixture->fields.payload.length < BK_EVENT_BYTES_MAX);
    assert_null(memmem(fixture->fields.payload.data, fixture->fields.payload.length, "\"b\"", 3));
    assert_non_null(
        memmem(fixture->fields.payload.data, fixture->fields.payload.length, "\"d\"", 3));
}

static void the_payload_gives_way_before_previous(void **state) {
    struct fixture *fixture = *state;
    const size_t payload[] = {150 * 1024, 10}, previous[] = {150 * 1024, 300 * 1024};
    write_object(&fixture->payload, payload, 2);
    write_object(&fixture->previous, previous, 2);
    fixture->fields.payload = bk_buffer_slice(&fixture->payload);
    fixture->fields.previous = bk_buffer_slice(&fixture->previous);
    assert_int_equal(bk_event_fit(&fixture->fields, &fixture->scratch), BK_OK);
    assert_true(fixture->fields.payload.length + fixture->fields.previous.length <=
                BK_EVENT_BYTES_MAX);
    assert_true(bk_slice_is(fixture->fields.payload, "{}"));
    assert_true(bk_slice_is(fixture->fields.omitted, "[\"a\",\"b\"]"));
    assert_int_equal(fixture->fields.previous.length, 150 * 1024 + 8);
}

static void what_is_no_object_cannot_be_made_to_fit(void **state) {
    struct fixture *fixture = *state;
    bk_buffer_append_char(&fixture->payload, '[');
    for (size_t i = 0; i < BK_EVENT_BYTES_MAX / 2; i++)
        bk_buffer_append_literal(&fixture->payload, "1,");
    bk_buffer_append_literal(&fixture->payload, "1]");
    fixture->fields.payload = bk_buffer_slice(&fixture->payload);
    assert_int_equal(bk_event_fit(&fixture->fields, &fixture->scratch), BK_TOO_LARGE);
    assert_ptr_equal(fixture->fields.payload.data, fixture->payload.data);
}

static void previous_alone_may_be_too_large(void **state) {
    struct fixture *fixture = *state;
    const size_t lengths[] = {10, 300 * 1024};
    write_object(&fixture->previous, lengths, 2);
    fixture->fields.previous = bk_buffer_slice(&fixture->previous);
    assert_int_equal(bk_event_fit(&fixture->fields, &fixture->scratch), BK_OK);
    assert_true(bk_slice_is(fixture->fields.omitted, "[\"b\"]"));
    assert_true(bk_slice_is(fixture->fields.previous, "{\"a\":\"xxxxxxxxxx\"}"));
    assert_int_equal(fixture->fields.payload.length, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_fits_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(the_largest_members_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(the_payload_gives_way_before_previous, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_object_cannot_be_made_to_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(previous_alone_may_be_too_large, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
