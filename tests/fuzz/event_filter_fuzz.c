/*
 * Filters over events. The input's lines: the filter, the payload, what was before.
 *
 * Whatever they are: what cannot be read is refused with a reason; what can be read is written in
 * one way, which is read as the same, and holds of the same events, each time.
 */
#include "fuzz.h"

#include "bakend/event_filter.h"

enum { ARENA_BYTES_MAX = 16 * 1024 * 1024 };

static const struct bk_event_fields base = {
    .sequence = 42,
    .timestamp_ms = INT64_C(1780920000123),
    .version = 1,
    .id = BK_SLICE_INIT("evt_1"),
    .type = BK_SLICE_INIT("orders.updated"),
    .source = BK_SLICE_INIT("collections"),
    .tenant = BK_SLICE_INIT("default"),
    .subject = BK_SLICE_INIT("orders/abc"),
    .actor = BK_SLICE_INIT("users/u1"),
    .payload = BK_SLICE_INIT("{\"total\":50,\"name\":\"\xc5\xbb\",\"note\":\"\",\"none\":null,"
                             "\"tags\":[\"a\",\"b\"],\"in\":{\"deep\":[1,{\"x\":2.5}]}}"),
};

static bool holds(const struct bk_event_filter *filter, const struct bk_event_fields *fields) {
    struct bk_event_view view;
    bk_event_view_init(&view, fields);
    bool does_hold = bk_event_filter_holds(filter, &view);
    BK_ASSERT(bk_event_filter_holds(filter, &view) == does_hold);
    bk_event_view_fini(&view);
    return does_hold;
}

static bool is_object(struct bk_slice text) {
    struct bk_json *json = NULL;
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    bool is_right =
        bk_json_parse(&arena, text, &json, NULL) == BK_OK && json->type == BK_JSON_OBJECT;
    bk_arena_fini(&arena);
    return is_right;
}

/* Where the text is longer than a filter may be, it is not read again. */
static void check_text(const struct bk_event_filter *filter, const struct bk_event_fields *fields) {
    struct bk_slice text = bk_event_filter_text(filter);
    struct bk_event_filter *again;
    if (text.length > BK_EVENT_FILTER_BYTES_MAX)
        return;
    BK_ASSERT(bk_event_filter_parse(text, &again, NULL) == BK_OK);
    BK_ASSERT(bk_slice_equal(bk_event_filter_text(again), text));
    BK_ASSERT(holds(again, fields) == holds(filter, fields));
    bk_event_filter_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy = fuzz_copy(data, size), rest = copy;
    struct bk_slice text = fuzz_take(&rest, '\n');
    struct bk_slice payload = fuzz_take(&rest, '\n'), previous = fuzz_take(&rest, '\n');
    struct bk_event_fields fields = base;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_event_filter *filter = NULL;
    if (is_object(payload))
        fields.payload = payload;
    if (is_object(previous))
        fields.previous = previous;
    if (text.length == 0) {
        fuzz_free(copy);
        return 0;
    }
    enum bk_status status = bk_event_filter_parse(text, &filter, &error);
    BK_ASSERT(status != BK_INVALID || error.message[0] != '\0');
    if (status == BK_OK)
        check_text(filter, &fields);
    bk_event_filter_unref(filter);
    fuzz_free(copy);
    return 0;
}
