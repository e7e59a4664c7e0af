/*
 * Fitting an event into BK_EVENT_BYTES_MAX: the largest top-level members are left out, of the
 * payload first and of previous then, and named in omitted. What stays is copied byte for byte.
 *
 * This is the one place where a payload is parsed after it was made, and only one that is too
 * large.
 */
#include "bakend/alloc.h"
#include "bakend/event.h"
#include "bakend/json.h"

enum {
    PARSE_BYTES_MAX = 128 * 1024 * 1024,
    MEMBERS_MAX = 2000 /* no collection has more fields; looking for the largest is quadratic */
};

/* A JSON object that members are being left out of. A member that is out has type BK_JSON_NULL and
 * an empty text, which no parsed value has. */
struct shrinking {
    struct bk_json *object; /* NULL: there is no text */
    size_t length;          /* of the text as it would be written now */
};

static bool is_out(const struct bk_json *member) { return member->text.length == 0; }

/* How the members and their keys will be written; exact but for escapes in keys, which are rare and
 * make no difference to what is the largest. */
static size_t member_length(const struct bk_json *member) {
    return member->key.length + member->text.length + sizeof("\"\":,") - 1;
}

static struct bk_json *largest_member(const struct shrinking *shrinking) {
    struct bk_json *largest = NULL;
    if (shrinking->object == NULL)
        return NULL;
    for (struct bk_json *member = shrinking->object->child; member != NULL; member = member->next) {
        if (!is_out(member) && (largest == NULL || member_length(member) > member_length(largest)))
            largest = member;
    }
    return largest;
}

static void name_omitted(struct bk_buffer *omitted, const struct bk_json *payload,
                         const struct bk_json *member, bool is_of_payload) {
    const struct bk_json *same = is_of_payload ? NULL : bk_json_get(payload, member->key);
    if (same != NULL && is_out(same))
        return;
    bk_json_write_separator(omitted);
    bk_json_write_string(omitted, member->key);
}

/* Leaves members out until the object and what else there is fit together, or none is left. */
static void shrink(struct shrinking *shrinking, size_t other_length, struct bk_buffer *omitted,
                   const struct bk_json *payload) {
    while (shrinking->length + other_length > BK_EVENT_BYTES_MAX) {
        struct bk_json *member = largest_member(shrinking);
        if (member == NULL)
            return;
        shrinking->length -= member_length(member);
        member->text = BK_SLICE_EMPTY;
        name_omitted(omitted, payload, member, shrinking->object == payload);
    }
}

static void write_rest(struct bk_buffer *out, const struct bk_json *object) {
    if (object == NULL)
        return;
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *member = object->child; member != NULL; member = member->next) {
        if (is_out(member))
            continue;
        bk_json_write_key(out, member->key);
        bk_buffer_append_slice(out, member->text);
    }
    bk_buffer_append_char(out, '}');
}

static enum bk_status parse_object(struct bk_arena *arena, struct bk_slice text,
                                   struct shrinking *shrinking) {
    struct bk_json *value = NULL;
    enum bk_status status = BK_OK;
    shrinking->length = text.length;
    if (text.length > 0)
        status = bk_json_parse(arena, text, &value, NULL);
    shrinking->object = value;
    if (status == BK_OK && value != NULL &&
        (value->type != BK_JSON_OBJECT || value->child_count > MEMBERS_MAX))
        return BK_TOO_LARGE;
    return status;
}

/* Writes all three texts, then points at them: the buffer may move while it grows. */
static enum bk_status replace_texts(struct bk_event_fields *fields, struct bk_buffer *scratch,
                                    const struct shrinking *payload,
                                    const struct shrinking *previous, struct bk_buffer *omitted) {
    size_t start = scratch->length, previous_start, omitted_start;
    write_rest(scratch, payload->object);
    previous_start = scratch->length;
    write_rest(scratch, previous->object);
    omitted_start = scratch->length;
    bk_buffer_append_char(omitted, ']');
    bk_buffer_append_slice(scratch, bk_buffer_slice(omitted));
    if (scratch->is_overflown || omitted->is_overflown)
        return scratch->lacks_memory || omitted->lacks_memory ? BK_NO_MEMORY : BK_TOO_LARGE;
    fields->payload = bk_slice_make(scratch->data + start, previous_start - start);
    fields->previous =
        bk_slice_make(scratch->data + previous_start, omitted_start - previous_start);
    fields->omitted = bk_slice_make(scratch->data + omitted_start, scratch->length - omitted_start);
    return BK_OK;
}

enum bk_status bk_event_fit(struct bk_event_fields *fields, struct bk_buffer *scratch) {
    struct bk_arena arena;
    struct bk_buffer omitted;
    struct shrinking payload, previous;
    enum bk_status status;
    if (fields->payload.length + fields->previous.length <= BK_EVENT_BYTES_MAX)
        return BK_OK;
    bk_arena_init(&arena, PARSE_BYTES_MAX);
    bk_buffer_init(&omitted, BK_EVENT_BYTES_MAX);
    status = parse_object(&arena, fields->payload, &payload);
    if (status == BK_OK)
        status = parse_object(&arena, fields->previous, &previous);
    if (status == BK_OK) {
        bk_buffer_append_char(&omitted, '[');
        shrink(&payload, previous.length, &omitted, payload.object);
        shrink(&previous, payload.length, &omitted, payload.object);
        status = replace_texts(fields, scratch, &payload, &previous, &omitted);
    }
    bk_buffer_fini(&omitted);
    bk_arena_fini(&arena);
    return status;
}
