/*
 * The bytes of a delivery. They depend on the event, on the format and on what the endpoint was
 * sent before, and on nothing that changes from one attempt to the next: so they are made anew for
 * each, out of the journal, and are the same. The payload is copied as the writer made it.
 *
 *   standard             {"type","timestamp","data","id","source","tenant"[,"subject"],"sequence"
 *                        [,"actor"],"version"[,"previous"][,"cause"][,"omitted"],"cursor","after"}
 *   cloudevents          the structured form, cursor and after as extension attributes
 *   cloudevents-binary   the payload; the rest is in headers, see signature.c
 *
 * cursor stands behind this event, after behind the one that the endpoint was sent before: who has
 * another cursor than after has missed something, and reads on from its own. An event that is in no
 * journal (a test) has neither, nor a sequence.
 */
#include "webhooks.h"

#include "bakend/clock.h"
#include "bakend/json.h"

enum {
    AROUND_BYTES = BK_CLOUDEVENT_BYTES, /* in any format, beyond the event's own */
    ESCAPED_BYTES = 6,                  /* of a character in JSON, at most: \u001f */
};

static void write_place(struct bk_buffer *out, struct bk_slice key, const uint8_t epoch[8],
                        uint64_t sequence) {
    char cursor[BK_CURSOR_BYTES];
    bk_cursor_make(cursor, epoch, sequence);
    bk_json_write_member_string(out, key, bk_slice_make(cursor, sizeof cursor));
}

static void write_optional(struct bk_buffer *out, struct bk_slice key, struct bk_slice value) {
    if (value.length > 0)
        bk_json_write_member_string(out, key, value);
}

static void write_standard(struct bk_buffer *out, const struct bk_event_fields *event,
                           const struct webhooks_form *form) {
    char time[BK_TIME_TEXT_BYTES];
    bk_time_format(time, event->timestamp_ms, 'T');
    bk_buffer_append_literal(out, "{\"type\":");
    bk_json_write_string(out, event->type);
    bk_json_write_member_string(out, BK_SLICE("timestamp"), bk_slice_make(time, sizeof time));
    bk_json_write_member_raw(out, BK_SLICE("data"), event->payload);
    bk_json_write_member_string(out, BK_SLICE("id"), event->id);
    bk_json_write_member_string(out, BK_SLICE("source"), event->source);
    bk_json_write_member_string(out, BK_SLICE("tenant"), event->tenant);
    write_optional(out, BK_SLICE("subject"), event->subject);
    if (event->sequence > 0)
        bk_json_write_member_int(out, BK_SLICE("sequence"), (int64_t)event->sequence);
    write_optional(out, BK_SLICE("actor"), event->actor);
    bk_json_write_member_int(out, BK_SLICE("version"), event->version);
    if (event->previous.length > 0)
        bk_json_write_member_raw(out, BK_SLICE("previous"), event->previous);
    write_optional(out, BK_SLICE("cause"), event->cause);
    if (event->omitted.length > 0)
        bk_json_write_member_raw(out, BK_SLICE("omitted"), event->omitted);
    if (event->sequence > 0) {
        write_place(out, BK_SLICE("cursor"), form->epoch, event->sequence);
        write_place(out, BK_SLICE("after"), form->epoch, form->after);
    }
    bk_buffer_append_char(out, '}');
}

void webhooks_cloudevent_init(struct webhooks_cloudevent *made, const struct bk_event_fields *event,
                              const struct webhooks_form *form) {
    bk_cloudevent_init(&made->event, event);
    if (event->sequence == 0)
        return;
    bk_cursor_make(made->cursor, form->epoch, event->sequence);
    bk_cursor_make(made->after, form->epoch, form->after);
    bk_cloudevent_add(&made->event, "cursor", bk_slice_make(made->cursor, BK_CURSOR_BYTES));
    bk_cloudevent_add(&made->event, "after", bk_slice_make(made->after, BK_CURSOR_BYTES));
}

size_t webhooks_body_bytes_max(const struct bk_event_fields *event) {
    size_t texts = event->id.length + event->type.length + event->source.length +
                   event->tenant.length + event->subject.length + event->actor.length +
                   event->cause.length;
    return event->payload.length + event->previous.length + event->omitted.length +
           ESCAPED_BYTES * texts + AROUND_BYTES;
}

void webhooks_body_write(struct bk_buffer *out, const struct bk_event_fields *event,
                         const struct webhooks_form *form) {
    struct webhooks_cloudevent cloudevent;
    switch (form->format) {
    case WEBHOOKS_CLOUDEVENTS:
        webhooks_cloudevent_init(&cloudevent, event, form);
        bk_cloudevent_write(&cloudevent.event, out);
        return;
    case WEBHOOKS_CLOUDEVENTS_BINARY:
        bk_buffer_append_slice(out, event->payload);
        return;
    case WEBHOOKS_STANDARD:
    case WEBHOOKS_FORMAT_COUNT:
        break;
    }
    write_standard(out, event, form);
}
