/*
 * An event as CloudEvents 1.0.2 has it (https://github.com/cloudevents/spec):
 *
 *   id source type time subject    the event's; source is /tenants/<tenant>/<source>
 *   sequence                       its number as 20 digits, since the extension compares texts
 *   tenantid actor causationid dataversion
 *   omitted                        true when the largest fields were left out
 *   datacontenttype data           application/json, and the payload as it is
 *
 * An attribute is either there or not: an empty one is not allowed. An extension is a text, a
 * number or a boolean, so previous and the list of omitted fields have no place here: GET
 * /api/events/{id} has them.
 *
 * Two ways to send one: structured, where all is in one JSON object (in batches, an array of
 * them), and binary, where the body is the data and each attribute is a header.
 */
#ifndef BAKEND_CLOUDEVENT_H
#define BAKEND_CLOUDEVENT_H

#include "bakend/arena.h"
#include "bakend/event.h"

enum {
    BK_CLOUDEVENT_BYTES = 1024, /* of the structured form, beyond the event's own */
    BK_CLOUDEVENT_ATTRIBUTES_MAX = 16,
};

struct bk_cloudevent_attribute {
    struct bk_slice name, value;
    bool is_text; /* in JSON it is quoted */
};

/* What it says of an event, without datacontenttype and data. Points into itself: not to be
 * copied. */
struct bk_cloudevent {
    const struct bk_event_fields *fields; /* borrowed */
    struct bk_cloudevent_attribute attributes[BK_CLOUDEVENT_ATTRIBUTES_MAX];
    uint32_t attribute_count;
    char source[256], time[24], sequence[24], version[12];
};
void bk_cloudevent_init(struct bk_cloudevent *event, const struct bk_event_fields *fields);
/* One more text: at most three. name: a constant of [a-z0-9], 20 at most. value is borrowed. */
void bk_cloudevent_add(struct bk_cloudevent *event, const char *name, struct bk_slice value);
/* Appends the structured form: the object. */
void bk_cloudevent_write(const struct bk_cloudevent *event, struct bk_buffer *out);
/* Of the binary form over HTTP: an attribute's value as it stands in its header ("ce-" and the
 * name), percent-encoded. Borrows, or is in the arena. */
struct bk_slice bk_cloudevent_header_value(const struct bk_cloudevent_attribute *attribute,
                                           struct bk_arena *arena);

#endif
