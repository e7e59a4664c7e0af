/*
 * The forms in which events are served, and which of them a request asks for (RFC 9110, 12.5.1).
 *
 *   application/json                     a page: the events and the account of the page
 *   text/event-stream                    a stream without end: stream.c
 *   application/x-ndjson                 a page: one event a line, and nothing else, for jq
 *   application/cloudevents-batch+json   a page: a JSON array of CloudEvents
 *
 * Where the body is events and nothing else, the account is in headers.
 */
#include "changefeed_private.h"

#include "bakend/cloudevent.h"

static const struct {
    struct bk_slice type; /* in Accept, lower case */
    const char *content_type;
} formats[CHANGEFEED_FORMAT_COUNT] = {
    /* Where all are equally welcome, the first one. */
    [CHANGEFEED_JSON] = {BK_SLICE_INIT("application/json"), "application/json"},
    [CHANGEFEED_STREAM] = {BK_SLICE_INIT("text/event-stream"), "text/event-stream"},
    [CHANGEFEED_LINES] = {BK_SLICE_INIT("application/x-ndjson"), "application/x-ndjson"},
    [CHANGEFEED_CLOUDEVENTS] = {BK_SLICE_INIT("application/cloudevents-batch+json"),
                                "application/cloudevents-batch+json"},
};

/* --- what is asked for ------------------------------------------------------------------------ */

/* How welcome a form is: a range that names it counts, whatever a wider one says. */
struct welcome {
    int specificity; /* 0: no range covers it, 1: all, 2: its main type, 3: itself */
    int quality;     /* thousandths */
};

/* "0.75": thousandths. */
static int parse_quality(struct bk_slice text) {
    int value = 0, unit = 1000;
    for (size_t i = 0; i < text.length && unit > 0; i++) {
        if (text.data[i] == '.')
            continue;
        if (text.data[i] < '0' || text.data[i] > '9')
            return 1000;
        value += (text.data[i] - '0') * unit;
        unit /= 10;
    }
    return value < 1000 ? value : 1000;
}

/* The weight among a range's parameters; 1000 without one. */
static int quality_of(struct bk_slice parameters) {
    struct bk_slice part;
    while (parameters.length > 0 && bk_slice_split(&parameters, ';', &part)) {
        part = bk_slice_trim(part);
        if (part.length > 2 && (part.data[0] == 'q' || part.data[0] == 'Q') && part.data[1] == '=')
            return parse_quality(bk_slice_make(part.data + 2, part.length - 2));
    }
    return 1000;
}

static int specificity_of(struct bk_slice range, struct bk_slice type) {
    struct bk_slice main_type = bk_slice_make(type.data, bk_slice_find(type, '/') + 1);
    if (bk_slice_equal_ignore_case(range, type))
        return 3;
    if (bk_slice_is(range, "*/*"))
        return 1;
    bool is_main = range.length == main_type.length + 1 && bk_slice_ends_with(range, BK_SLICE("*"));
    range.length = is_main ? main_type.length : 0;
    return is_main && bk_slice_equal_ignore_case(range, main_type) ? 2 : 0;
}

static struct welcome welcome_of(struct bk_slice accept, struct bk_slice type) {
    struct welcome welcome = {0};
    struct bk_slice part;
    while (accept.length > 0 && bk_slice_split(&accept, ',', &part)) {
        size_t end = bk_slice_find(part, ';');
        int specificity = specificity_of(bk_slice_trim(bk_slice_make(part.data, end)), type);
        if (specificity <= welcome.specificity)
            continue;
        welcome.specificity = specificity;
        welcome.quality = quality_of(bk_slice_make(part.data + end, part.length - end));
    }
    return welcome;
}

enum changefeed_format changefeed_format_asked(const struct bk_request *request) {
    struct bk_slice accept = bk_slice_trim(bk_request_header(request, BK_SLICE("accept")));
    struct welcome best = {0};
    int found = CHANGEFEED_FORMAT_COUNT;
    if (accept.length == 0)
        return CHANGEFEED_JSON;
    for (int format = 0; format < CHANGEFEED_FORMAT_COUNT; format++) {
        struct welcome welcome = welcome_of(accept, formats[format].type);
        if (welcome.quality > best.quality ||
            (welcome.quality == best.quality && welcome.quality > 0 &&
             welcome.specificity > best.specificity)) {
            best = welcome;
            found = format;
        }
    }
    return (enum changefeed_format)found;
}

/* --- bodies ----------------------------------------------------------------------------------- */

static void write_line(struct bk_feed_read *read, struct bk_buffer *out,
                       const struct bk_event_fields *fields, struct bk_slice json, bool is_first) {
    (void)read;
    (void)is_first;
    if (json.length > 0)
        bk_buffer_append_slice(out, json);
    else
        bk_event_write_json(out, fields);
    bk_buffer_append_char(out, '\n');
}

static void write_cloudevent(struct bk_feed_read *read, struct bk_buffer *out,
                             const struct bk_event_fields *fields, struct bk_slice json,
                             bool is_first) {
    struct bk_cloudevent event;
    (void)read;
    (void)json;
    if (!is_first)
        bk_buffer_append_char(out, ',');
    bk_cloudevent_init(&event, fields);
    bk_cloudevent_write(&event, out);
}

void changefeed_format_begin(enum changefeed_format format, struct bk_request *request,
                             struct bk_feed_read *read) {
    BK_ASSERT(format < CHANGEFEED_FORMAT_COUNT && format != CHANGEFEED_STREAM);
    request->content_type = formats[format].content_type;
    if (format == CHANGEFEED_JSON) {
        bk_buffer_append_literal(&request->out, "{\"events\":[");
    } else if (format == CHANGEFEED_LINES) {
        read->write_event = write_line;
        read->write_bytes_max = 1;
    } else {
        bk_buffer_append_char(&request->out, '[');
        read->write_event = write_cloudevent;
        read->write_bytes_max = BK_CLOUDEVENT_BYTES;
    }
}

/* --- the account of a page -------------------------------------------------------------------- */

struct account {
    char next[BK_CURSOR_BYTES], head[BK_CURSOR_BYTES], oldest[BK_CURSOR_BYTES];
};

static struct account make_account(const struct bk_request *request,
                                   const struct bk_feed_read *read) {
    struct bk_journal_state journal = bk_journal_state(request->tenant->database);
    struct account account;
    bk_cursor_make(account.next, journal.epoch, read->next_sequence);
    bk_cursor_make(account.head, journal.epoch, journal.last);
    bk_cursor_make(account.oldest, journal.epoch, journal.oldest - 1);
    return account;
}

static void write_cursor(struct bk_buffer *out, struct bk_slice key,
                         const char text[BK_CURSOR_BYTES]) {
    bk_json_write_member_string(out, key, bk_slice_make(text, BK_CURSOR_BYTES));
}

static void write_account(struct bk_buffer *out, const struct account *account,
                          const struct bk_feed_read *read, bool is_pruned) {
    bk_buffer_append_char(out, ']');
    write_cursor(out, BK_SLICE("next"), account->next);
    bk_json_write_member_bool(out, BK_SLICE("hasMore"), read->has_more);
    write_cursor(out, BK_SLICE("head"), account->head);
    write_cursor(out, BK_SLICE("oldest"), account->oldest);
    bk_json_write_member_int(out, BK_SLICE("firstSequence"), (int64_t)read->first_sequence);
    bk_json_write_member_int(out, BK_SLICE("lastSequence"), (int64_t)read->last_sequence);
    bk_json_write_member_int(out, BK_SLICE("skipped"), (int64_t)read->skipped);
    if (is_pruned)
        bk_json_write_member_bool(out, BK_SLICE("pruned"), true);
    bk_buffer_append_char(out, '}');
}

static void add_number(struct bk_request *request, const char *name, uint64_t number) {
    bk_answer_header(request, name,
                     bk_arena_format(&request->arena, "%llu", (unsigned long long)number));
}

static void add_account(struct bk_request *request, const struct account *account,
                        const struct bk_feed_read *read, bool is_pruned) {
    bk_answer_header(request, "Bakend-Next", bk_slice_make(account->next, BK_CURSOR_BYTES));
    bk_answer_header(request, "Bakend-Has-More",
                     read->has_more ? BK_SLICE("true") : BK_SLICE("false"));
    bk_answer_header(request, "Bakend-Head", bk_slice_make(account->head, BK_CURSOR_BYTES));
    bk_answer_header(request, "Bakend-Oldest", bk_slice_make(account->oldest, BK_CURSOR_BYTES));
    add_number(request, "Bakend-First-Sequence", read->first_sequence);
    add_number(request, "Bakend-Last-Sequence", read->last_sequence);
    add_number(request, "Bakend-Skipped", read->skipped);
    if (is_pruned)
        bk_answer_header(request, "Bakend-Pruned", BK_SLICE("true"));
}

void changefeed_format_end(enum changefeed_format format, struct bk_request *request,
                           const struct bk_feed_read *read, bool is_pruned) {
    struct account account = make_account(request, read);
    bk_answer_header(request, "Vary", BK_SLICE("Accept"));
    if (format == CHANGEFEED_JSON) {
        write_account(&request->out, &account, read, is_pruned);
        return;
    }
    add_account(request, &account, read, is_pruned);
    if (format == CHANGEFEED_CLOUDEVENTS)
        bk_buffer_append_char(&request->out, ']');
}
