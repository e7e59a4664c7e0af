/*
 * A page: what one read gathers, event by event, on the loop from the tail and on a reader from the
 * journal. It keeps the account that makes completeness provable:
 *
 *   last_sequence − first_sequence + 1 = event_count + skipped
 *
 * Read forward, last_sequence moves up from first_sequence − 1; read backward, first_sequence moves
 * down from last_sequence + 1. An event is either appended, skipped, or the page ends before it.
 */
#include "feed_private.h"

/* Beyond the texts that may need escapes: keys, quotes, numbers, the time. */
enum { EVENT_FRAME_BYTES = 512, ESCAPE_FACTOR = 6 };

/* --- judging ---------------------------------------------------------------------------------- */

static bool pattern_matches(struct bk_slice pattern, struct bk_slice type) {
    /* Most readers name their types, and most events are of another one. */
    if (pattern.length > 0 && pattern.data[pattern.length - 1] != '*' &&
        pattern.data[0] == type.data[0] && bk_slice_equal(pattern, type))
        return true;
    if (memchr(pattern.data, '*', pattern.length) == NULL)
        return false;
    return bk_event_pattern_matches(pattern, type);
}

static bool types_match(const struct bk_feed_query *query, struct bk_slice type) {
    if (query->type_count == 0)
        return type.length > 0 && type.data[0] != '_';
    for (size_t i = 0; i < query->type_count; i++) {
        if (pattern_matches(query->types[i], type))
            return true;
    }
    return false;
}

bool feed_query_matches(const struct bk_feed_query *query, struct bk_slice type,
                        struct bk_slice subject) {
    if (query->subject.length > 0 && !bk_slice_equal(query->subject, subject))
        return false;
    return types_match(query, type);
}

/* --- gathering -------------------------------------------------------------------------------- */

bool feed_page_is_full(const struct bk_feed_read *read) {
    return read->event_count >= read->query.limit;
}

uint64_t feed_page_row_count(const struct bk_feed_read *read) {
    return read->last_sequence + 1 - read->first_sequence;
}

/* At least what bk_event_write_json will append. */
static size_t bytes_at_most(const struct bk_event_fields *fields) {
    size_t escaped = fields->type.length + fields->source.length + fields->tenant.length +
                     fields->subject.length + fields->actor.length + fields->cause.length;
    return EVENT_FRAME_BYTES + ESCAPE_FACTOR * escaped + fields->payload.length +
           fields->previous.length + fields->omitted.length;
}

/* The first event of a page may exceed the page's size, but not what the buffer takes. */
static bool fits(const struct bk_feed_read *read, size_t event_bytes) {
    const struct bk_buffer *events = read->events;
    if (event_bytes + BK_FEED_PAGE_MARGIN_BYTES > events->max_bytes - events->length)
        return false;
    return read->event_count == 0 ||
           events->length - read->start_length + event_bytes <= BK_FEED_PAGE_BYTES_MAX;
}

/* As an array has them. */
static void write_plainly(struct bk_feed_read *read, struct bk_buffer *out,
                          const struct bk_event_fields *fields, struct bk_slice json,
                          bool is_first) {
    (void)read;
    if (!is_first)
        bk_buffer_append_char(out, ',');
    if (json.length > 0)
        bk_buffer_append_slice(out, json);
    else
        bk_event_write_json(out, fields);
}

static bool append_event(struct bk_feed_read *read, const struct bk_event_fields *fields,
                         struct bk_slice json) {
    struct bk_buffer *events = read->events;
    bk_feed_write_cb write = read->write_event == NULL ? write_plainly : read->write_event;
    size_t bytes = json.length > 0 ? json.length : bytes_at_most(fields);
    BK_ASSERT(events->length <= events->max_bytes);
    if (!fits(read, bytes + read->write_bytes_max))
        return false;
    write(read, events, fields, json, read->event_count == 0);
    read->event_count++;
    return true;
}

/* The test comes last: it has to read the event's JSON. */
static bool is_asked_for(const struct bk_feed_query *query, const struct bk_event_fields *fields) {
    return feed_query_matches(query, fields->type, fields->subject) &&
           (query->test == NULL || query->test->holds(query->test, fields));
}

bool feed_page_take(struct bk_feed_read *read, const struct bk_event_fields *fields,
                    struct bk_slice json) {
    if (!is_asked_for(&read->query, fields))
        read->skipped++;
    else if (!append_event(read, fields, json))
        return false;
    if (read->query.is_descending)
        read->first_sequence--;
    else
        read->last_sequence++;
    return true;
}
