/*
 * An event in the structured form of CloudEvents 1.0.2 (https://github.com/cloudevents/spec).
 *
 *   id source type time subject    the event's; source is /tenants/<tenant>/<source>
 *   data                           its payload
 *   sequence                       its number as 20 digits, since the extension compares texts
 *   actor causationid tenantid dataversion
 *   omitted                        true when the largest fields were left out
 *
 * An extension is a text, a number or a boolean, so previous and the list of omitted fields have no
 * place here: GET /api/events/{id} has them.
 */
#include "changefeed_private.h"

#include "bakend/clock.h"

static void write_source(struct bk_buffer *out, const struct bk_event_fields *fields) {
    /* Names of tenants and modules need no escapes. */
    bk_buffer_append_literal(out, ",\"source\":\"/tenants/");
    bk_buffer_append_slice(out, fields->tenant);
    bk_buffer_append_char(out, '/');
    bk_buffer_append_slice(out, fields->source);
    bk_buffer_append_char(out, '"');
}

static void write_time(struct bk_buffer *out, const struct bk_event_fields *fields) {
    char text[BK_TIME_TEXT_BYTES];
    bk_time_format(text, fields->timestamp_ms, 'T');
    bk_json_write_member_string(out, BK_SLICE("time"), bk_slice_make(text, sizeof text));
}

/* An attribute is either there or not: an empty one is not allowed. */
static void write_optional(struct bk_buffer *out, struct bk_slice name, struct bk_slice value) {
    if (value.length > 0)
        bk_json_write_member_string(out, name, value);
}

static void write_extensions(struct bk_buffer *out, const struct bk_event_fields *fields) {
    bk_buffer_format(out, ",\"sequence\":\"%020llu\"", (unsigned long long)fields->sequence);
    write_optional(out, BK_SLICE("tenantid"), fields->tenant);
    write_optional(out, BK_SLICE("actor"), fields->actor);
    write_optional(out, BK_SLICE("causationid"), fields->cause);
    bk_json_write_member_int(out, BK_SLICE("dataversion"), fields->version);
    if (fields->omitted.length > 0)
        bk_json_write_member_bool(out, BK_SLICE("omitted"), true);
}

void changefeed_write_cloudevent(struct bk_feed_read *read, struct bk_buffer *out,
                                 const struct bk_event_fields *fields, struct bk_slice json,
                                 bool is_first) {
    (void)read;
    (void)json;
    if (!is_first)
        bk_buffer_append_char(out, ',');
    bk_buffer_append_literal(out, "{\"specversion\":\"1.0\"");
    bk_json_write_member_string(out, BK_SLICE("id"), fields->id);
    write_source(out, fields);
    bk_json_write_member_string(out, BK_SLICE("type"), fields->type);
    write_time(out, fields);
    write_optional(out, BK_SLICE("subject"), fields->subject);
    write_extensions(out, fields);
    bk_buffer_append_literal(out, ",\"datacontenttype\":\"application/json\"");
    bk_json_write_member_raw(out, BK_SLICE("data"), fields->payload);
    bk_buffer_append_char(out, '}');
}
