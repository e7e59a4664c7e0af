/*
 * CloudEvents: one list of attributes, and two ways to write it. What is required stands first,
 * since people read them from the left.
 */
#include "bakend/cloudevent.h"

#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/json.h"

#include <stdarg.h>
#include <stdio.h>

static void add(struct bk_cloudevent *event, struct bk_slice name, struct bk_slice value,
                bool is_text) {
    if (value.length == 0)
        return;
    BK_ASSERT(event->attribute_count < BK_CLOUDEVENT_ATTRIBUTES_MAX);
    event->attributes[event->attribute_count++] =
        (struct bk_cloudevent_attribute){.name = name, .value = value, .is_text = is_text};
}

__attribute__((format(printf, 3, 4))) static struct bk_slice print(char *out, size_t size,
                                                                   const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(out, size, format, arguments);
    va_end(arguments);
    BK_ASSERT(length > 0 && (size_t)length < size);
    return bk_slice_make(out, (size_t)length);
}

/* Names of tenants and modules are of characters that a URI takes. */
static struct bk_slice print_source(struct bk_cloudevent *event) {
    return print(event->source, sizeof event->source, "/tenants/%.*s/%.*s",
                 BK_SLICE_PRINT(event->fields->tenant), BK_SLICE_PRINT(event->fields->source));
}

void bk_cloudevent_init(struct bk_cloudevent *event, const struct bk_event_fields *fields) {
    event->fields = fields;
    event->attribute_count = 0;
    bk_time_format(event->time, fields->timestamp_ms, 'T');
    add(event, BK_SLICE("specversion"), BK_SLICE("1.0"), true);
    add(event, BK_SLICE("id"), fields->id, true);
    add(event, BK_SLICE("source"), print_source(event), true);
    add(event, BK_SLICE("type"), fields->type, true);
    add(event, BK_SLICE("time"), bk_slice_make(event->time, BK_TIME_TEXT_BYTES), true);
    add(event, BK_SLICE("subject"), fields->subject, true);
    if (fields->sequence > 0)
        add(event, BK_SLICE("sequence"),
            print(event->sequence, sizeof event->sequence, "%020llu",
                  (unsigned long long)fields->sequence),
            true);
    add(event, BK_SLICE("tenantid"), fields->tenant, true);
    add(event, BK_SLICE("actor"), fields->actor, true);
    add(event, BK_SLICE("causationid"), fields->cause, true);
    add(event, BK_SLICE("dataversion"),
        print(event->version, sizeof event->version, "%u", fields->version), false);
    if (fields->omitted.length > 0)
        add(event, BK_SLICE("omitted"), BK_SLICE("true"), false);
}

void bk_cloudevent_add(struct bk_cloudevent *event, const char *name, struct bk_slice value) {
    add(event, bk_slice_from(name), value, true);
}

void bk_cloudevent_write(const struct bk_cloudevent *event, struct bk_buffer *out) {
    char separator = '{';
    for (uint32_t i = 0; i < event->attribute_count; i++) {
        const struct bk_cloudevent_attribute *attribute = &event->attributes[i];
        bk_buffer_append_char(out, separator);
        bk_buffer_append_char(out, '"');
        bk_buffer_append_slice(out, attribute->name);
        bk_buffer_append_literal(out, "\":");
        if (attribute->is_text)
            bk_json_write_string(out, attribute->value);
        else
            bk_buffer_append_slice(out, attribute->value);
        separator = ',';
    }
    bk_buffer_append_literal(out, ",\"datacontenttype\":\"application/json\",\"data\":");
    bk_buffer_append_slice(out, event->fields->payload);
    bk_buffer_append_char(out, '}');
}

/* --- the binary form -------------------------------------------------------------------------- */

/* HTTP binding, 3.1.3.2: what is not printable ASCII, space, the quote and the percent sign. */
static bool is_plain(unsigned char c) { return c > ' ' && c < 0x7f && c != '"' && c != '%'; }

struct bk_slice bk_cloudevent_header_value(const struct bk_cloudevent_attribute *attribute,
                                           struct bk_arena *arena) {
    static const char digits[] = "0123456789ABCDEF";
    struct bk_slice value = attribute->value;
    size_t escaped_count = 0;
    for (size_t i = 0; i < value.length; i++)
        escaped_count += !is_plain((unsigned char)value.data[i]);
    if (escaped_count == 0)
        return value;
    char *text = bk_arena_alloc(arena, value.length + 2 * escaped_count), *end = text;
    if (text == NULL)
        return BK_SLICE_EMPTY;
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (is_plain(c)) {
            *end++ = (char)c;
            continue;
        }
        *end++ = '%';
        *end++ = digits[c >> 4];
        *end++ = digits[c & 15];
    }
    return bk_slice_make(text, (size_t)(end - text));
}
