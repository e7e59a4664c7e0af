/*
 * What webhooks read: of their owners, of the endpoints, of their own work.
 *
 * The input's first character says what the rest is:
 *
 *   r   a Retry-After
 *   d   a moment, eight bytes, of which a Retry-After is made
 *   s   a secret
 *   p   a schedule of attempts
 *   h   headers of an endpoint, JSON
 *   l   the payload of a replay, JSON
 *   e   subject and actor of an event, a line each, and its payload, JSON
 *
 * Whatever it is: a pause is within its bounds, and the one that was asked for; a secret has one
 * text; headers that are taken can be sent; a replay that was read is read as the same again; and a
 * body is JSON that has the payload as it is, no longer than was reckoned, its headers are a line.
 */
#include "fuzz.h"

#include "bakend/clock.h"
#include "bakend/encode.h"
#include "modules/webhooks/places.h"
#include "modules/webhooks/replay.h"
#include "platform/outbound/outbound_private.h"

#include <stdio.h>
#include <time.h>

enum { ARENA_BYTES_MAX = 16 * 1024 * 1024, TEXT_BYTES_MAX = 4 * 1024 * 1024 };
static const int64_t now_ms = 1795348023000, day_ms = 86400000;
static const uint64_t month_ms = UINT64_C(30) * 86400000;

/* --- pauses ----------------------------------------------------------------------------------- */

static void fuzz_retry_after(struct bk_slice text) {
    BK_ASSERT(webhooks_retry_after_read(text, now_ms) <= (uint64_t)day_ms);
}

/* As the C library writes it. */
static void fuzz_date(struct bk_slice bytes) {
    static const int64_t count_s = 253402300800; /* to the year 10000 */
    char text[64];
    struct tm parts;
    uint64_t number;
    if (bytes.length < sizeof number)
        return;
    memcpy(&number, bytes.data, sizeof number);
    time_t moment = (time_t)(number % (uint64_t)count_s);
    /* Around now, where it is not beyond all bounds. */
    if (number >> 63 != 0)
        moment = (time_t)(now_ms / 1000 - 100000 + (int64_t)(number % 200000));
    int64_t wanted_ms = (int64_t)moment * 1000 - now_ms;
    BK_ASSERT(gmtime_r(&moment, &parts) != NULL);
    size_t length = strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    wanted_ms = wanted_ms < 0 ? 0 : wanted_ms > day_ms ? day_ms : wanted_ms;
    BK_ASSERT(parts.tm_year + 1900 < 1000 ||
              webhooks_retry_after_read(bk_slice_make(text, length), now_ms) ==
                  (uint64_t)wanted_ms);
}

static void fuzz_schedule(struct bk_slice text) {
    static struct webhooks_state state;
    struct bk_error error = BK_ERROR_INIT;
    enum bk_status status = webhooks_schedule_parse(text, &state, &error);
    BK_ASSERT((status == BK_OK) == (error.message[0] == '\0'));
    BK_ASSERT(webhooks_schedule_parse(text, NULL, NULL) == status);
    if (status != BK_OK)
        return;
    BK_ASSERT(state.schedule_count >= 1 && state.schedule_count <= WEBHOOKS_SCHEDULE_MAX);
    for (uint32_t i = 0; i < state.schedule_count; i++) {
        uint64_t pause_ms = state.schedule_ms[i];
        BK_ASSERT(pause_ms <= month_ms);
        int64_t delay_ms = webhooks_retry_delay(&state, i, 0);
        BK_ASSERT(delay_ms >= (int64_t)(pause_ms / 2) &&
                  delay_ms <= (int64_t)(pause_ms + (pause_ms + 1) / 2));
        BK_ASSERT(webhooks_retry_delay(&state, i, UINT64_MAX) >= day_ms);
    }
    BK_ASSERT(webhooks_retry_delay(&state, state.schedule_count, 0) == -1);
}

/* --- secrets and headers ---------------------------------------------------------------------- */

static void fuzz_secret(struct bk_slice text) {
    struct webhooks_keys keys = {.secret_length = 0};
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (text.length > 0 && webhooks_secret_make(text, &keys) == BK_OK) {
        BK_ASSERT(keys.secret_length >= 24 && keys.secret_length <= WEBHOOKS_SECRET_BYTES_MAX);
        BK_ASSERT(bk_slice_equal(webhooks_secret_text(&keys, &arena), text));
    }
    bk_arena_fini(&arena);
}

static void fuzz_headers(struct bk_slice text) {
    struct bk_problems problems;
    struct bk_json *json = NULL;
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    bk_problems_init(&problems, &arena);
    if (bk_json_parse(&arena, text, &json, NULL) == BK_OK) {
        struct bk_outbound_header headers[WEBHOOKS_HEADERS_MAX];
        struct bk_outbound_request request = {
            .method = "POST", .url = BK_SLICE("https://example.com"), .headers = headers};
        webhooks_headers_check(&problems, json, NULL);
        if (problems.count == 0)
            for (const struct bk_json *each = json->child; each != NULL; each = each->next)
                headers[request.header_count++] =
                    (struct bk_outbound_header){each->key, each->string};
        BK_ASSERT(outbound_web_is_sendable(&request));
    }
    bk_arena_fini(&arena);
}

/* --- replays ---------------------------------------------------------------------------------- */

static void check_replay(struct bk_arena *arena, const struct webhooks_replay_range *range) {
    struct webhooks_replay_range again;
    struct bk_buffer out;
    bk_buffer_init(&out, TEXT_BYTES_MAX);
    webhooks_replay_range_write(&out, range);
    if (bk_buffer_status(&out) == BK_OK) {
        BK_ASSERT(webhooks_replay_range_read(arena, bk_buffer_slice(&out), &again) == BK_OK);
        BK_ASSERT(again.after == range->after && again.until == range->until &&
                  again.type_count == range->type_count &&
                  bk_slice_equal(again.state, range->state) &&
                  again.is_missing == range->is_missing && again.is_gap == range->is_gap);
        for (size_t i = 0; i < again.type_count; i++)
            BK_ASSERT(bk_slice_equal(again.types[i], range->types[i]));
    }
    bk_buffer_fini(&out);
}

static void fuzz_replay(struct bk_slice text) {
    struct webhooks_replay_range range;
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (webhooks_replay_range_read(&arena, text, &range) == BK_OK)
        check_replay(&arena, &range);
    bk_arena_fini(&arena);
}

/* --- bodies ----------------------------------------------------------------------------------- */

static void check_body(struct bk_arena *arena, const struct bk_event_fields *event,
                       const struct webhooks_form *form) {
    struct bk_json *json = NULL;
    struct bk_buffer out;
    bk_buffer_init(&out, webhooks_body_bytes_max(event));
    webhooks_body_write(&out, event, form);
    BK_ASSERT(bk_buffer_status(&out) == BK_OK);
    BK_ASSERT(bk_json_parse(arena, bk_buffer_slice(&out), &json, NULL) == BK_OK);
    if (form->format != WEBHOOKS_CLOUDEVENTS_BINARY) {
        const struct bk_json *payload = bk_json_get(json, BK_SLICE("data"));
        BK_ASSERT(payload != NULL && bk_slice_equal(payload->text, event->payload));
        BK_ASSERT(bk_slice_equal(bk_json_get_string(json, BK_SLICE("subject")), event->subject));
    }
    bk_buffer_fini(&out);
}

static void check_attributes(struct bk_arena *arena, const struct bk_event_fields *event,
                             const struct webhooks_form *form) {
    struct webhooks_cloudevent made;
    webhooks_cloudevent_init(&made, event, form);
    for (uint32_t i = 0; i < made.event.attribute_count; i++) {
        const struct bk_cloudevent_attribute *attribute = &made.event.attributes[i];
        struct bk_slice value = bk_cloudevent_header_value(attribute, arena), decoded;
        BK_ASSERT(outbound_text_is_line(value) && attribute->value.length > 0);
        BK_ASSERT(bk_percent_decode(arena, value, false, &decoded) &&
                  bk_slice_equal(decoded, attribute->value));
    }
}

/* As texts of events are. */
static bool is_text(struct bk_slice text) {
    return bk_slice_is_utf8(text) && bk_slice_find(text, '\0') == text.length;
}

static void fuzz_event(struct bk_slice rest) {
    struct bk_event_fields event = {.sequence = 7,
                                    .timestamp_ms = now_ms,
                                    .version = 1,
                                    .id = BK_SLICE("evt_1"),
                                    .type = BK_SLICE("posts.created"),
                                    .source = BK_SLICE("collections"),
                                    .tenant = BK_SLICE("acme")};
    struct bk_json *json = NULL;
    struct bk_arena arena;
    event.subject = fuzz_take(&rest, '\n');
    event.actor = fuzz_take(&rest, '\n');
    event.payload = bk_slice_trim(rest);
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (is_text(event.subject) && is_text(event.actor) &&
        bk_json_parse(&arena, event.payload, &json, NULL) == BK_OK &&
        json->type == BK_JSON_OBJECT) {
        struct webhooks_form form = {.after = 3};
        for (; form.format < WEBHOOKS_FORMAT_COUNT; form.format++)
            check_body(&arena, &event, &form);
        check_attributes(&arena, &event, &form);
    }
    bk_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy = fuzz_copy(data, size);
    struct bk_slice rest = bk_slice_make(copy.data + 1, size > 0 ? size - 1 : 0);
    static void (*const fuzz[])(struct bk_slice rest) = {
        ['r'] = fuzz_retry_after, ['d'] = fuzz_date,   ['s'] = fuzz_secret, ['p'] = fuzz_schedule,
        ['h'] = fuzz_headers,     ['l'] = fuzz_replay, ['e'] = fuzz_event,
    };
    if (size > 0 && data[0] < BK_COUNT_OF(fuzz) && fuzz[data[0]] != NULL)
        fuzz[data[0]](rest);
    fuzz_free(copy);
    return 0;
}
