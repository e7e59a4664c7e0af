/*
 * Events in memory: the fields, the bytes, and one allocation for both.
 *
 * As a rule no text of an event needs an escape in JSON, and then each field is found verbatim
 * inside the bytes: the fields point there, and nothing is stored twice. The allocation is
 *
 *   struct bk_event | json | hidden                          plain: fields point into json
 *   struct bk_event | json | hidden | texts of the fields    when something needs an escape
 *
 * The payload is never escaped: it is JSON already, and always points into json.
 *
 * One function writes the bytes, for a new event and for one read back. It is given texts that are
 * escaped already and room for all of them, so it only copies.
 */
#include "bakend/event.h"
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/json.h"

enum {
    FRAME_BYTES = 176,   /* keys, quotes, commas and braces, with a few to spare */
    NUMBER_BYTES = 20,   /* an integer of 64 bits */
    ESCAPE_BYTES_MAX = 6 /* what one byte can become: "\u0000" */
};

/* The texts that may need an escape, in the form they have inside the quotes. */
enum text {
    TEXT_ID,
    TEXT_TYPE,
    TEXT_SOURCE,
    TEXT_TENANT,
    TEXT_SUBJECT,
    TEXT_ACTOR,
    TEXT_CAUSE,
    TEXT_COUNT
};

struct texts {
    struct bk_slice slices[TEXT_COUNT];
    size_t length;         /* of all of them */
    bool are_plain;        /* as they are in the fields */
    struct bk_buffer room; /* of the escaped ones */
};

/* Where texts stand in the bytes. */
struct places {
    size_t texts[TEXT_COUNT];
    size_t payload, previous, omitted;
};

/* --- escapes ---------------------------------------------------------------------------------- */

#define EACH_BYTE UINT64_C(0x0101010101010101)
#define HIGH_BITS UINT64_C(0x8080808080808080)

/* Not 0 when some byte of the word is zero, if no byte has its high bit set. */
static uint64_t zero_bytes(uint64_t word) { return (word - EACH_BYTE) & ~word & HIGH_BITS; }

/* Eight bytes at once: printable ASCII but '"' and '\\'. DEL counts as plain, as JSON has it. */
static bool is_plain_word(uint64_t word) {
    uint64_t is_quote = zero_bytes(word ^ EACH_BYTE * '"');
    uint64_t is_backslash = zero_bytes(word ^ EACH_BYTE * '\\');
    uint64_t is_control = (word - EACH_BYTE * ' ') & HIGH_BITS;
    return ((word & HIGH_BITS) | is_quote | is_backslash | is_control) == 0;
}

static bool is_plain(struct bk_slice text) {
    uint64_t word;
    size_t i = 0;
    for (; i + sizeof(word) <= text.length; i += sizeof(word)) {
        memcpy(&word, text.data + i, sizeof(word));
        if (!is_plain_word(word))
            return false;
    }
    if (i == text.length)
        return true;
    word = EACH_BYTE * ' ';
    memcpy(&word, text.data + i, text.length - i);
    return is_plain_word(word);
}

static struct bk_slice *text_of(struct bk_event_fields *fields, enum text which) {
    switch (which) {
    case TEXT_ID:
        return &fields->id;
    case TEXT_TYPE:
        return &fields->type;
    case TEXT_SOURCE:
        return &fields->source;
    case TEXT_TENANT:
        return &fields->tenant;
    case TEXT_SUBJECT:
        return &fields->subject;
    case TEXT_ACTOR:
        return &fields->actor;
    case TEXT_CAUSE:
        return &fields->cause;
    case TEXT_COUNT:
        break;
    }
    BK_UNREACHABLE();
}

/* Replaces the texts by their escaped forms. The room is reserved first, so it does not move. */
static void escape_texts(struct texts *texts) {
    size_t max_bytes = texts->length * ESCAPE_BYTES_MAX + (size_t)2 * TEXT_COUNT;
    bk_buffer_init(&texts->room, max_bytes);
    (void)bk_buffer_reserve(&texts->room, max_bytes);
    bk_buffer_insist(&texts->room);
    texts->length = 0;
    for (size_t i = 0; i < TEXT_COUNT; i++) {
        size_t start = texts->room.length;
        bk_json_write_string(&texts->room, texts->slices[i]);
        texts->slices[i] =
            bk_slice_make(texts->room.data + start + 1, texts->room.length - start - 2);
        texts->length += texts->slices[i].length;
    }
    BK_ASSERT(!texts->room.is_overflown);
}

static void texts_init(struct texts *texts, const struct bk_event_fields *fields) {
    *texts = (struct texts){.slices = {[TEXT_ID] = fields->id,
                                       [TEXT_TYPE] = fields->type,
                                       [TEXT_SOURCE] = fields->source,
                                       [TEXT_TENANT] = fields->tenant,
                                       [TEXT_SUBJECT] = fields->subject,
                                       [TEXT_ACTOR] = fields->actor,
                                       [TEXT_CAUSE] = fields->cause},
                            .are_plain = true};
    for (size_t i = 0; i < TEXT_COUNT; i++) {
        texts->length += texts->slices[i].length;
        texts->are_plain = texts->are_plain && is_plain(texts->slices[i]);
    }
    if (!texts->are_plain)
        escape_texts(texts);
}

static void texts_fini(struct texts *texts) {
    if (!texts->are_plain)
        bk_buffer_fini(&texts->room);
}

/* --- the bytes -------------------------------------------------------------------------------- */

/* Room that the bytes never exceed. */
static size_t bytes_max(const struct texts *texts, const struct bk_event_fields *fields) {
    return FRAME_BYTES + BK_TIME_TEXT_BYTES + (size_t)2 * NUMBER_BYTES + texts->length +
           fields->payload.length + fields->previous.length + fields->omitted.length;
}

static char *put(char *at, struct bk_slice bytes) {
    if (bytes.length > 0)
        memcpy(at, bytes.data, bytes.length);
    return at + bytes.length;
}

#define PUT(at, literal) (memcpy((at), "" literal, sizeof(literal) - 1), (at) + sizeof(literal) - 1)

static char *put_number(char *at, uint64_t number) {
    char digits[NUMBER_BYTES];
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(at, bk_slice_make(digits + first, sizeof(digits) - first));
}

/* A text between its quotes; start is where the bytes begin. */
static char *put_text(char *at, const struct texts *texts, enum text which, const char *start,
                      struct places *places) {
    places->texts[which] = (size_t)(at + 1 - start);
    at = PUT(at, "\"");
    at = put(at, texts->slices[which]);
    return PUT(at, "\"");
}

static char *put_optional(char *at, const struct bk_event_fields *fields, const struct texts *texts,
                          const char *start, struct places *places) {
    if (fields->previous.length > 0) {
        at = PUT(at, ",\"previous\":");
        places->previous = (size_t)(at - start);
        at = put(at, fields->previous);
    }
    if (fields->cause.length > 0) {
        at = PUT(at, ",\"cause\":");
        at = put_text(at, texts, TEXT_CAUSE, start, places);
    }
    if (fields->omitted.length > 0) {
        at = PUT(at, ",\"omitted\":");
        places->omitted = (size_t)(at - start);
        at = put(at, fields->omitted);
    }
    return at;
}

/* Returns the length. */
static size_t put_json(char *start, const struct bk_event_fields *fields, const struct texts *texts,
                       struct places *places) {
    char *at = PUT(start, "{\"id\":");
    BK_ASSERT(fields->payload.length > 0);
    at = put_text(at, texts, TEXT_ID, start, places);
    at = PUT(at, ",\"type\":");
    at = put_text(at, texts, TEXT_TYPE, start, places);
    at = PUT(at, ",\"timestamp\":\"");
    bk_time_format(at, fields->timestamp_ms, 'T');
    at = PUT(at + BK_TIME_TEXT_BYTES, "\",\"source\":");
    at = put_text(at, texts, TEXT_SOURCE, start, places);
    at = PUT(at, ",\"payload\":");
    places->payload = (size_t)(at - start);
    at = put(at, fields->payload);
    at = PUT(at, ",\"tenant\":");
    at = put_text(at, texts, TEXT_TENANT, start, places);
    at = PUT(at, ",\"subject\":");
    at = put_text(at, texts, TEXT_SUBJECT, start, places);
    if (fields->sequence > 0) {
        at = PUT(at, ",\"sequence\":");
        at = put_number(at, fields->sequence);
    }
    at = PUT(at, ",\"actor\":");
    at = put_text(at, texts, TEXT_ACTOR, start, places);
    at = PUT(at, ",\"version\":");
    at = put_number(at, fields->version);
    at = put_optional(at, fields, texts, start, places);
    at = PUT(at, "}");
    return (size_t)(at - start);
}

void bk_event_write_json(struct bk_buffer *out, const struct bk_event_fields *fields) {
    struct texts texts;
    struct places places = {0};
    texts_init(&texts, fields);
    if (bk_buffer_reserve(out, bytes_max(&texts, fields)))
        out->length += put_json(out->data + out->length, fields, &texts, &places);
    texts_fini(&texts);
}

/* --- making ----------------------------------------------------------------------------------- */

static struct bk_slice at_place(const char *base, size_t place, struct bk_slice text) {
    return bk_slice_make(base + place, text.length);
}

/* Copies to *room and moves it on. */
static struct bk_slice copy_text(char **room, struct bk_slice text) {
    char *copy = *room;
    *room = put(copy, text);
    return bk_slice_make(copy, text.length);
}

struct bk_event *bk_event_create(const struct bk_event_fields *fields) {
    struct texts texts;
    struct places places = {0};
    struct bk_event *event;
    char *bytes, *room;
    size_t length, capacity;
    texts_init(&texts, fields);
    capacity = bytes_max(&texts, fields);
    /* Escaped texts are at least as long as those of the fields, which then need room, too. */
    event = bk_alloc(sizeof(*event) + capacity + fields->hidden.length +
                     fields->hidden_previous.length + (texts.are_plain ? 0 : texts.length));
    bytes = (char *)(event + 1);
    length = put_json(bytes, fields, &texts, &places);
    BK_ASSERT(length <= capacity);
    *event = (struct bk_event){
        .fields = *fields, .json = bk_slice_make(bytes, length), .reference_count = 1};
    room = bytes + length;
    event->fields.payload = at_place(bytes, places.payload, fields->payload);
    event->fields.previous = at_place(bytes, places.previous, fields->previous);
    event->fields.omitted = at_place(bytes, places.omitted, fields->omitted);
    event->fields.hidden = copy_text(&room, fields->hidden);
    event->fields.hidden_previous = copy_text(&room, fields->hidden_previous);
    for (enum text i = 0; i < TEXT_COUNT; i++) {
        struct bk_slice *text = text_of(&event->fields, i);
        *text = texts.are_plain ? at_place(bytes, places.texts[i], *text) : copy_text(&room, *text);
    }
    texts_fini(&texts);
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
