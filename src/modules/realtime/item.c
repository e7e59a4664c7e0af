/*
 * An event on its way to those who may see it, in the two forms in which it is sent. A form is made
 * at first need, once for each view of it, and shared by everybody:
 *
 *   frame   {"op":"event","cursor":"…","event":{…}}     for WebSockets; the event's own bytes
 *   record  {"collectionId":"…","collectionName":"…",…} for streams, as REST answers it
 *
 * The full view has the hidden fields that an event carries in memory beside its bytes: at the end
 * of the frame's payload, in their places in the record. An event read back from the journal has
 * none.
 *
 * An event's bytes are of the schema that it was written under, and may be read under another one:
 * fields that were hidden meanwhile are taken out, and a record of the collection that had a name
 * before is not one of the collection that has it now.
 */
#include "realtime_private.h"

/* Larger hidden fields are left out: with them a frame would be more than a connection queues. */
enum { HIDDEN_BYTES_MAX = BK_EVENT_BYTES_MAX, RECORD_BYTES_MAX = 4 * BK_EVENT_BYTES_MAX };

static void make_cursor(struct realtime_item *item, const struct realtime_tenant *tenant) {
    struct bk_journal_state journal = bk_journal_state(tenant->tenant->database);
    bk_cursor_make(item->cursor, journal.epoch, item->sequence);
}

void realtime_item_init(struct realtime_item *item, struct realtime_tenant *tenant,
                        const struct bk_event_fields *fields, struct bk_slice json) {
    BK_ASSERT(fields->payload.data >= json.data &&
              fields->payload.data + fields->payload.length <= json.data + json.length);
    *item = (struct realtime_item){.serial = ++tenant->realtime->serial,
                                   .sequence = fields->sequence,
                                   .type = fields->type,
                                   .subject = fields->subject,
                                   .source = fields->source,
                                   .json = json,
                                   .payload = fields->payload,
                                   .hidden = fields->hidden};
    for (size_t i = 0; i < REALTIME_VIEW_COUNT; i++)
        bk_buffer_init(&item->records[i], RECORD_BYTES_MAX);
    make_cursor(item, tenant);
}

void realtime_item_fini(struct realtime_item *item) {
    for (size_t i = 0; i < REALTIME_VIEW_COUNT; i++) {
        bk_shared_unref(item->frames[i]);
        item->frames[i] = NULL;
        bk_buffer_fini(&item->records[i]);
    }
}

/* --- of which record -------------------------------------------------------------------------- */

static bool read_change(struct realtime_item *item, struct bk_slice verb) {
    if (bk_slice_is(verb, "created"))
        item->change = REALTIME_CREATED;
    else if (bk_slice_is(verb, "updated"))
        item->change = REALTIME_UPDATED;
    else if (bk_slice_is(verb, "deleted"))
        item->change = REALTIME_DELETED;
    else
        return false;
    return true;
}

static size_t find_last(struct bk_slice text, char c) {
    size_t at = text.length;
    while (at > 0 && text.data[at - 1] != c)
        at--;
    return at;
}

/* What happened before the collection had this name was another's, with rules of its own. */
static bool is_of_former_one(const struct realtime_item *item,
                             const struct bk_collection *collection) {
    return item->sequence != 0 && item->sequence <= collection->named_after;
}

/* What an event means is decided by its source: only the collection's own makes events of its
 * records. */
void realtime_item_resolve(struct realtime_item *item, struct realtime_tenant *tenant) {
    const struct bk_module_context *context = tenant->realtime->context;
    size_t after_dot = find_last(item->type, '.');
    item->collection = NULL;
    if (after_dot == 0 || context->schema == NULL ||
        !read_change(item,
                     bk_slice_make(item->type.data + after_dot, item->type.length - after_dot)))
        return;
    struct bk_slice noun = bk_slice_make(item->type.data, after_dot - 1);
    const struct bk_collection *collection =
        bk_schema_find(bk_schema_current(context->schema, tenant->tenant), noun);
    if (collection != NULL && bk_slice_equal(collection->name, noun) &&
        bk_slice_equal(collection->source, item->source) && !is_of_former_one(item, collection))
        item->collection = collection;
}

struct bk_slice realtime_item_cursor(const struct realtime_item *item) {
    return bk_slice_make(item->cursor, sizeof item->cursor);
}

/* --- fields that were hidden since ------------------------------------------------------------ */

static const struct bk_field *find_field(const struct bk_collection *collection,
                                         struct bk_slice name) {
    for (uint32_t i = 0; i < collection->field_count; i++)
        if (bk_slice_equal(collection->fields[i].name, name))
            return &collection->fields[i];
    return NULL;
}

static bool has_hidden_field(const struct bk_collection *collection) {
    for (uint32_t i = 0; i < collection->field_count; i++)
        if (collection->fields[i].is_hidden)
            return true;
    return false;
}

/* A field that is not there any more may have got another name, and be hidden under it. */
static bool is_shown(const struct bk_collection *collection, struct bk_slice name) {
    const struct bk_field *field = find_field(collection, name);
    return field != NULL && !field->is_hidden;
}

/* The payload without what only superusers may see by now; false: it is right as it is. */
static bool write_shown(const struct realtime_item *item, struct bk_buffer *out) {
    struct bk_json *payload = NULL;
    struct bk_arena arena;
    bool is_less = false;
    if (item->collection == NULL || !has_hidden_field(item->collection))
        return false;
    bk_arena_init(&arena, (size_t)64 * RECORD_BYTES_MAX);
    bk_buffer_append_char(out, '{');
    /* What cannot be read is not shown. */
    if (bk_json_parse(&arena, item->payload, &payload, NULL) != BK_OK)
        is_less = true;
    for (const struct bk_json *each = is_less ? NULL : payload->child; each != NULL;
         each = each->next) {
        if (is_shown(item->collection, each->key))
            bk_json_write_member_raw(out, each->key, each->text);
        else
            is_less = true;
    }
    bk_buffer_append_char(out, '}');
    bk_arena_fini(&arena);
    return is_less;
}

/* --- frames ----------------------------------------------------------------------------------- */

static bool has_hidden(const struct realtime_item *item) {
    return item->hidden.length > 2 && item->hidden.length <= HIDDEN_BYTES_MAX;
}

static struct bk_slice head_of(const struct realtime_item *item, char *room, size_t size) {
    static const struct bk_slice start = BK_SLICE_INIT("{\"op\":\"event\",\"cursor\":\"");
    static const struct bk_slice end = BK_SLICE_INIT("\",\"event\":");
    BK_ASSERT(size >= start.length + sizeof item->cursor + end.length);
    if (item->sequence == 0)
        return BK_SLICE("{\"op\":\"event\",\"event\":");
    memcpy(room, start.data, start.length);
    memcpy(room + start.length, item->cursor, sizeof item->cursor);
    memcpy(room + start.length + sizeof item->cursor, end.data, end.length);
    return bk_slice_make(room, start.length + sizeof item->cursor + end.length);
}

static struct bk_shared *make_plain(const struct realtime_item *item) {
    char room[128];
    struct bk_buffer shown;
    size_t before = (size_t)(item->payload.data - item->json.data);
    size_t after = before + item->payload.length;
    bk_buffer_init(&shown, RECORD_BYTES_MAX);
    const struct bk_slice parts[] = {
        head_of(item, room, sizeof room), bk_slice_make(item->json.data, before),
        write_shown(item, &shown) ? bk_buffer_slice(&shown) : item->payload,
        bk_slice_make(item->json.data + after, item->json.length - after), BK_SLICE("}")};
    struct bk_shared *frame = bk_shared_create(parts, BK_COUNT_OF(parts));
    bk_buffer_fini(&shown);
    return frame;
}

static struct bk_shared *make_full(const struct realtime_item *item) {
    char room[128];
    size_t payload_end = (size_t)(item->payload.data - item->json.data) + item->payload.length - 1;
    const struct bk_slice parts[] = {
        head_of(item, room, sizeof room),
        bk_slice_make(item->json.data, payload_end),
        item->payload.length > 2 ? BK_SLICE(",") : BK_SLICE_EMPTY,
        bk_slice_make(item->hidden.data + 1, item->hidden.length - 2),
        bk_slice_make(item->json.data + payload_end, item->json.length - payload_end),
        BK_SLICE("}")};
    return bk_shared_create(parts, BK_COUNT_OF(parts));
}

struct bk_shared *realtime_item_frame(struct realtime_item *item, enum bk_view view) {
    if (!has_hidden(item) || item->payload.data[item->payload.length - 1] != '}')
        view = BK_VIEW_PUBLIC;
    BK_ASSERT((size_t)view < REALTIME_VIEW_COUNT);
    if (item->frames[view] == NULL)
        item->frames[view] = view == BK_VIEW_FULL ? make_full(item) : make_plain(item);
    return item->frames[view];
}

/* --- records ---------------------------------------------------------------------------------- */

/* Whatever the event left out for its size is not there. */
static void write_in_order(struct bk_buffer *out, const struct bk_collection *collection,
                           const struct bk_json *payload, const struct bk_json *hidden) {
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        const struct bk_json *member =
            bk_json_get(field->is_hidden ? hidden : payload, field->name);
        if (member != NULL)
            bk_json_write_member_raw(out, field->name, member->text);
    }
}

static bool write_full_record(struct bk_buffer *out, const struct realtime_item *item) {
    struct bk_json *payload = NULL, *hidden = NULL;
    struct bk_arena arena;
    bk_arena_init(&arena, (size_t)64 * RECORD_BYTES_MAX);
    bool is_read = bk_json_parse(&arena, item->payload, &payload, NULL) == BK_OK &&
                   bk_json_parse(&arena, item->hidden, &hidden, NULL) == BK_OK;
    if (is_read)
        write_in_order(out, item->collection, payload, hidden);
    bk_arena_fini(&arena);
    return is_read;
}

static void write_public_record(struct bk_buffer *out, const struct realtime_item *item) {
    struct bk_buffer shown;
    bk_buffer_init(&shown, RECORD_BYTES_MAX);
    struct bk_slice payload = write_shown(item, &shown) ? bk_buffer_slice(&shown) : item->payload;
    if (payload.length > 2)
        bk_buffer_append_char(out, ',');
    bk_buffer_append(out, payload.data + 1, payload.length - 2);
    bk_buffer_fini(&shown);
}

struct bk_slice realtime_item_record(struct realtime_item *item, enum bk_view view) {
    BK_ASSERT(item->collection != NULL && (size_t)view < REALTIME_VIEW_COUNT);
    if (!has_hidden(item))
        view = BK_VIEW_PUBLIC;
    struct bk_buffer *out = &item->records[view];
    if (out->length > 0)
        return bk_buffer_slice(out);
    bk_buffer_append_slice(out, item->collection->json_head);
    if (view == BK_VIEW_PUBLIC || !write_full_record(out, item))
        write_public_record(out, item);
    bk_buffer_append_char(out, '}');
    return bk_buffer_slice(out);
}
