/*
 * Events in memory: the fields, the bytes, and one allocation for both.
 *
 * As a rule no text of an event needs an escape in JSON, and then each field is found verbatim inside
 * the bytes: the fields point there, and nothing is stored twice. The allocation is
 *
 *   struct bk_event | json | hidden                      plain: fields point into json
 *   struct bk_event | texts of the fields | json | hidden    when something needs an escape
 *
 * The payload is never escaped: it is JSON already, and always points into json.
 */
#include "bakend/event.h"
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/json.h"

enum {
    /* Keys, quotes, commas and braces (176), the timestamp (24) and three numbers (at most 20 each). */
    FRAME_BYTES = 272,
    /* The texts, and what frames and escapes can make of them. */
    JSON_BYTES_MAX = 256 * 1024 * 1024
};

/* Where the texts stand in the bytes; used when none of them needed an escape. */
struct places {
    size_t id, type, source, payload, tenant, subject, actor, previous, cause, omitted;
};

/* --- the bytes ----------------------------------------------------------------------------------- */

static bool is_plain(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
            return false;
    }
    return true;
}

static bool are_plain(const struct bk_event_fields *fields) {
    return is_plain(fields->id) && is_plain(fields->type) && is_plain(fields->source) &&
           is_plain(fields->tenant) && is_plain(fields->subject) && is_plain(fields->actor) &&
           is_plain(fields->cause);
}

/* A string; returns where its text begins. */
static size_t write_text(struct bk_buffer *out, struct bk_slice text) {
    size_t place = out->length + 1;
    if (!is_plain(text)) {
        bk_json_write_string(out, text);
        return place;
    }
    bk_buffer_append_char(out, '"');
    bk_buffer_append_slice(out, text);
    bk_buffer_append_char(out, '"');
    return place;
}

static size_t write_raw(struct bk_buffer *out, struct bk_slice json) {
    size_t place = out->length;
    bk_buffer_append_slice(out, json);
    return place;
}

static void write_optional(struct bk_buffer *out, const struct bk_event_fields *fields,
                           struct places *places) {
    if (fields->previous.length > 0) {
        bk_buffer_append_literal(out, ",\"previous\":");
        places->previous = write_raw(out, fields->previous);
    }
    if (fields->cause.length > 0) {
        bk_buffer_append_literal(out, ",\"cause\":");
        places->cause = write_text(out, fields->cause);
    }
    if (fields->omitted.length > 0) {
        bk_buffer_append_literal(out, ",\"omitted\":");
        places->omitted = write_raw(out, fields->omitted);
    }
}

static void write_json(struct bk_buffer *out, const struct bk_event_fields *fields,
                       struct places *places) {
    char timestamp[BK_TIME_TEXT_BYTES];
    BK_ASSERT(fields->payload.length > 0);
    bk_time_format(timestamp, fields->timestamp_ms, 'T');
    bk_buffer_append_literal(out, "{\"id\":");
    places->id = write_text(out, fields->id);
    bk_buffer_append_literal(out, ",\"type\":");
    places->type = write_text(out, fields->type);
    bk_buffer_append_literal(out, ",\"timestamp\":\"");
    bk_buffer_append(out, timestamp, sizeof(timestamp));
    bk_buffer_append_literal(out, "\",\"source\":");
    places->source = write_text(out, fields->source);
    bk_buffer_append_literal(out, ",\"payload\":");
    places->payload = write_raw(out, fields->payload);
    bk_buffer_append_literal(out, ",\"tenant\":");
    places->tenant = write_text(out, fields->tenant);
    bk_buffer_append_literal(out, ",\"subject\":");
    places->subject = write_text(out, fields->subject);
    if (fields->sequence > 0) {
        bk_buffer_append_literal(out, ",\"sequence\":");
        bk_buffer_append_int(out, (int64_t)fields->sequence);
    }
    bk_buffer_append_literal(out, ",\"actor\":");
    places->actor = write_text(out, fields->actor);
    bk_buffer_append_literal(out, ",\"version\":");
    bk_buffer_append_int(out, (int64_t)fields->version);
    write_optional(out, fields, places);
    bk_buffer_append_char(out, '}');
}

void bk_event_write_json(struct bk_buffer *out, const struct bk_event_fields *fields) {
    struct places places = {0};
    write_json(out, fields, &places);
}

/* --- making -------------------------------------------------------------------------------------- */

static size_t texts_length(const struct bk_event_fields *fields) {
    return fields->id.length + fields->type.length + fields->source.length + fields->tenant.length +
           fields->subject.length + fields->actor.length + fields->cause.length;
}

static struct bk_slice at(const char *base, size_t place, struct bk_slice text) {
    return bk_slice_make(base + place, text.length);
}

/* Points the JSON texts at their place in the bytes, and hidden behind the bytes. */
static void place_json_texts(struct bk_event *event, const struct bk_event_fields *fields,
                             const struct places *places, char *hidden) {
    const char *json = event->json.data;
    event->fields.payload = at(json, places->payload, fields->payload);
    event->fields.previous = at(json, places->previous, fields->previous);
    event->fields.omitted = at(json, places->omitted, fields->omitted);
    if (fields->hidden.length > 0)
        memcpy(hidden, fields->hidden.data, fields->hidden.length);
    event->fields.hidden = bk_slice_make(hidden, fields->hidden.length);
}

static struct bk_event *create_plain(const struct bk_event_fields *fields) {
    size_t capacity = FRAME_BYTES + texts_length(fields) + fields->payload.length +
                      fields->previous.length + fields->omitted.length;
    struct bk_event *event = bk_alloc(sizeof(*event) + capacity + fields->hidden.length);
    char *bytes = (char *)(event + 1);
    /* Borrows the allocation's own memory: it has room for all, so the buffer never grows. */
    struct bk_buffer out = {.data = bytes, .capacity = capacity, .max_bytes = capacity};
    struct places places = {0};
    write_json(&out, fields, &places);
    BK_ASSERT(!out.is_overflown && out.data == bytes);
    *event = (struct bk_event){.fields = *fields, .json = bk_buffer_slice(&out)};
    event->fields.id = at(bytes, places.id, fields->id);
    event->fields.type = at(bytes, places.type, fields->type);
    event->fields.source = at(bytes, places.source, fields->source);
    event->fields.tenant = at(bytes, places.tenant, fields->tenant);
    event->fields.subject = at(bytes, places.subject, fields->subject);
    event->fields.actor = at(bytes, places.actor, fields->actor);
    event->fields.cause = at(bytes, places.cause, fields->cause);
    place_json_texts(event, fields, &places, bytes + out.length);
    return event;
}

static struct bk_slice copy_text(char **cursor, struct bk_slice text) {
    char *copy = *cursor;
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    *cursor += text.length;
    return bk_slice_make(copy, text.length);
}

static struct bk_event *create_escaped(const struct bk_event_fields *fields) {
    struct bk_buffer json;
    struct places places = {0};
    struct bk_event *event;
    char *cursor;
    bk_buffer_init(&json, JSON_BYTES_MAX);
    write_json(&json, fields, &places);
    BK_ASSERT(!json.is_overflown);
    event = bk_alloc(sizeof(*event) + texts_length(fields) + json.length + fields->hidden.length);
    *event = (struct bk_event){.fields = *fields};
    cursor = (char *)(event + 1);
    event->fields.id = copy_text(&cursor, fields->id);
    event->fields.type = copy_text(&cursor, fields->type);
    event->fields.source = copy_text(&cursor, fields->source);
    event->fields.tenant = copy_text(&cursor, fields->tenant);
    event->fields.subject = copy_text(&cursor, fields->subject);
    event->fields.actor = copy_text(&cursor, fields->actor);
    event->fields.cause = copy_text(&cursor, fields->cause);
    event->json = copy_text(&cursor, bk_buffer_slice(&json));
    place_json_texts(event, fields, &places, cursor);
    bk_buffer_fini(&json);
    return event;
}

struct bk_event *bk_event_create(const struct bk_event_fields *fields) {
    struct bk_event *event = are_plain(fields) ? create_plain(fields) : create_escaped(fields);
    event->reference_count = 1;
    return event;
}

struct bk_event *bk_event_ref(struct bk_event *event) {
    int former = __atomic_fetch_add(&event->reference_count, 1, __ATOMIC_RELAXED);
    BK_ASSERT(former > 0);
    return event;
}

void bk_event_unref(struct bk_event *event) {
    int former;
    if (event == NULL)
        return;
    former = __atomic_fetch_sub(&event->reference_count, 1, __ATOMIC_ACQ_REL);
    BK_ASSERT(former > 0);
    if (former == 1)
        bk_free(event);
}
