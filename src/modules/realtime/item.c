/*
 * An event on its way to those who may see it, in the forms in which it is sent. A form is made at
 * first need, once for each view of it, and shared by everybody:
 *
 *   frame    {"op":"event","cursor":"…","event":{…}}     for WebSockets; the event's own bytes
 *   record   {"collectionId":"…","collectionName":"…",…} for streams, as REST answers it
 *   leaving  a frame of a "deleted" without payload: for those who could see it until now
 *
 * The full view has the hidden fields that an event carries in memory beside its bytes: at the end
 * of the frame's payload, in their places in the record. An event read back from the journal has
 * none. The public view has no email address of a user who does not show it. What the record was
 * before (`previous`) is for those who could see it then.
 *
 * An event's bytes are of the schema that it was written under, and may be read under another one:
 * fields that were hidden meanwhile are taken out, and a record of the collection that had a name
 * before is not one of the collection that has it now.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"

/* Larger hidden fields are left out: with them a frame would be more than a connection queues. */
enum {
    HIDDEN_BYTES_MAX = BK_EVENT_BYTES_MAX,
    RECORD_BYTES_MAX = 4 * BK_EVENT_BYTES_MAX,
    TREE_BYTES_MAX = 64 * RECORD_BYTES_MAX,
};

size_t realtime_find(struct bk_slice text, struct bk_slice part) {
    for (size_t i = 0; i + part.length <= text.length; i++)
        if (text.data[i] == part.data[0] && memcmp(text.data + i, part.data, part.length) == 0)
            return i;
    return text.length;
}

static void make_cursor(struct realtime_item *item, const struct realtime_tenant *tenant) {
    struct bk_journal_state journal = bk_journal_state(tenant->tenant->database);
    bk_cursor_make(item->cursor, journal.epoch, item->sequence);
}

static bool is_within(struct bk_slice part, struct bk_slice whole) {
    return part.data >= whole.data && part.data + part.length <= whole.data + whole.length;
}

void realtime_item_init(struct realtime_item *item, struct realtime_tenant *tenant,
                        const struct bk_event_fields *fields, struct bk_slice json) {
    BK_ASSERT(is_within(fields->payload, json));
    BK_ASSERT(fields->previous.length == 0 || is_within(fields->previous, json));
    *item = (struct realtime_item){.serial = ++tenant->realtime->serial,
                                   .sequence = fields->sequence,
                                   .fields = *fields,
                                   .json = json};
    bk_arena_init(&item->arena, TREE_BYTES_MAX);
    make_cursor(item, tenant);
}

static void drop_forms(struct realtime_item *item) {
    for (size_t i = 0; i < REALTIME_FORM_COUNT; i++) {
        struct realtime_form *form = &item->forms[i];
        if (!form->is_made)
            continue;
        bk_buffer_fini(&form->text);
        bk_buffer_fini(&form->record);
        bk_shared_unref(form->frame);
        if (form->view != NULL)
            bk_event_view_fini(form->view);
        bk_free(form->view);
        *form = (struct realtime_form){0};
    }
    item->frame_for_all = NULL;
}

/* What was made by another schema is made anew. */
static void forget(struct realtime_item *item) {
    drop_forms(item);
    realtime_verdicts_drop(item);
    bk_arena_reset(&item->arena);
    item->is_read = item->is_broken = false;
    item->payload = item->previous = item->hidden = item->hidden_before = NULL;
    item->values = item->before = NULL;
}

void realtime_item_fini(struct realtime_item *item) {
    drop_forms(item);
    realtime_verdicts_drop(item);
    bk_shared_unref(item->leaving);
    item->leaving = NULL;
    bk_arena_fini(&item->arena);
}

struct bk_slice realtime_item_cursor(const struct realtime_item *item) {
    return bk_slice_make(item->cursor, sizeof item->cursor);
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
static const struct bk_collection *find_collection(struct realtime_item *item,
                                                   const struct bk_schema *schema) {
    struct bk_slice type = item->fields.type;
    size_t after_dot = find_last(type, '.');
    if (after_dot == 0 ||
        !read_change(item, bk_slice_make(type.data + after_dot, type.length - after_dot)))
        return NULL;
    struct bk_slice noun = bk_slice_make(type.data, after_dot - 1);
    const struct bk_collection *collection = bk_schema_find(schema, noun);
    if (collection == NULL || !bk_slice_equal(collection->name, noun) ||
        !bk_slice_equal(collection->source, item->fields.source) ||
        is_of_former_one(item, collection))
        return NULL;
    return collection;
}

static bool is_for_all(const struct bk_collection *collection, enum bk_operation operation) {
    return collection != NULL && collection->email_field == NULL &&
           collection->rules[operation].data != NULL &&
           collection->rules[BK_MAY_LIST].length == 0 && collection->rules[BK_MAY_VIEW].length == 0;
}

void realtime_item_resolve(struct realtime_item *item, struct realtime_tenant *tenant) {
    const struct bk_module_context *context = tenant->realtime->context;
    item->collection = NULL;
    item->is_for_all[false] = item->is_for_all[true] = false;
    if (context->schema == NULL)
        return;
    const struct bk_schema *schema = bk_schema_current(context->schema, tenant->tenant);
    uint64_t generation = bk_schema_generation(schema);
    if (item->generation != 0 && item->generation != generation)
        forget(item);
    item->generation = generation;
    item->collection = find_collection(item, schema);
    item->is_for_all[false] = is_for_all(item->collection, BK_MAY_LIST);
    item->is_for_all[true] = is_for_all(item->collection, BK_MAY_VIEW);
}

/* --- what it says ----------------------------------------------------------------------------- */

static const struct bk_json *parse(struct realtime_item *item, struct bk_slice text) {
    struct bk_json *json = NULL;
    if (text.length == 0)
        return NULL;
    if (bk_json_parse(&item->arena, text, &json, NULL) != BK_OK)
        item->is_broken = true;
    return item->is_broken ? NULL : json;
}

/* False: it cannot be read, and nobody but superusers gets any of it. */
static bool read_texts(struct realtime_item *item) {
    if (!item->is_read) {
        item->is_read = true;
        item->payload = parse(item, item->fields.payload);
        item->previous = parse(item, item->fields.previous);
        item->hidden = parse(item, item->fields.hidden);
        item->hidden_before = parse(item, item->fields.hidden_previous);
        if (item->payload == NULL || item->payload->type != BK_JSON_OBJECT)
            item->is_broken = true;
    }
    return !item->is_broken;
}

struct bk_value realtime_value_of(const struct bk_field *field, const struct bk_json *json) {
    struct bk_value value = BK_VALUE_OF_NULL;
    int64_t integer;
    double real;
    switch (json->type) {
    case BK_JSON_NULL:
        return value;
    case BK_JSON_BOOL:
        return bk_slice_is(bk_slice_from(field->type->name), "json")
                   ? BK_VALUE_OF_TEXT(json->text)
                   : BK_VALUE_OF_INT(json->boolean);
    case BK_JSON_STRING:
        return BK_VALUE_OF_TEXT(
            bk_slice_is(bk_slice_from(field->type->name), "json") ? json->text : json->string);
    case BK_JSON_NUMBER:
        if (bk_slice_is(bk_slice_from(field->type->name), "json"))
            return BK_VALUE_OF_TEXT(json->text);
        if (bk_json_to_int64(json, &integer))
            return BK_VALUE_OF_INT(integer);
        return bk_json_to_double(json, &real) ? BK_VALUE_OF_REAL(real) : value;
    case BK_JSON_ARRAY:
    case BK_JSON_OBJECT:
        return BK_VALUE_OF_TEXT(json->text);
    }
    BK_UNREACHABLE();
}

static const struct bk_json *find_now(const struct realtime_item *item,
                                      const struct bk_field *field) {
    const struct bk_json *json = bk_json_get(item->payload, field->name);
    return json != NULL ? json : bk_json_get(item->hidden, field->name);
}

static const struct bk_json *find_before(const struct realtime_item *item,
                                         const struct bk_field *field) {
    const struct bk_json *json = bk_json_get(item->previous, field->name);
    return json != NULL ? json : bk_json_get(item->hidden_before, field->name);
}

static struct bk_value *make_values(struct realtime_item *item, bool is_before) {
    const struct bk_collection *collection = item->collection;
    struct bk_value *values =
        bk_arena_alloc(&item->arena, collection->field_count * sizeof *values);
    if (values == NULL || item->arena.is_overflown)
        return NULL;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        const struct bk_json *json = is_before ? find_before(item, field) : NULL;
        if (json == NULL)
            json = find_now(item, field);
        if (json == NULL)
            field->type->empty(field, &values[i]);
        else
            values[i] = realtime_value_of(field, json);
    }
    return values;
}

const struct bk_value *realtime_item_values(struct realtime_item *item, bool is_before) {
    struct bk_value **values = is_before ? &item->before : &item->values;
    BK_ASSERT(item->collection != NULL);
    if (*values == NULL && read_texts(item))
        *values = make_values(item, is_before);
    return *values;
}

bool realtime_item_lacks(struct realtime_item *item, struct bk_slice text) {
    if (!read_texts(item))
        return true;
    for (uint32_t i = 0; i < item->collection->field_count; i++) {
        const struct bk_field *field = &item->collection->fields[i];
        if (realtime_find(text, field->name) < text.length && find_now(item, field) == NULL)
            return true;
    }
    return false;
}

bool realtime_item_hides_email(struct realtime_item *item) {
    if (item->collection == NULL || item->collection->email_field == NULL)
        return false;
    const struct bk_value *values = realtime_item_values(item, false);
    return values == NULL || bk_record_hides_email(item->collection, values);
}

/* --- who sees what of it ---------------------------------------------------------------------- */

static bool has_hidden_field(const struct bk_collection *collection) {
    for (uint32_t i = 0; i < collection->field_count; i++)
        if (collection->fields[i].is_hidden)
            return true;
    return false;
}

/* A field that is not there any more may have got another name, and be hidden under it. */
static bool is_shown(const struct bk_collection *collection, struct bk_slice name) {
    const struct bk_field *field = bk_collection_field(collection, name);
    return field != NULL && !field->is_hidden;
}

/* The members that are for everybody, but for one. */
static void write_shown(const struct bk_collection *collection, const struct bk_json *object,
                        const struct bk_field *left_out, struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *each = object == NULL ? NULL : object->child; each != NULL;
         each = each->next)
        if (is_shown(collection, each->key) &&
            (left_out == NULL || !bk_slice_equal(each->key, left_out->name)))
            bk_json_write_member_raw(out, each->key, each->text);
    bk_buffer_append_char(out, '}');
}

/* Its address may have been shown before, or be shown by now: both, or it is left out. */
static const struct bk_field *left_out_of_previous(struct realtime_item *item) {
    const struct bk_field *email = item->collection->email_field;
    const struct bk_value *before = email == NULL ? NULL : realtime_item_values(item, true);
    bool is_hidden = realtime_item_hides_email(item) ||
                     (before != NULL && bk_record_hides_email(item->collection, before));
    return is_hidden ? email : NULL;
}

/* Everything that is left in it is for them. */
static void shorten(struct realtime_item *item, struct realtime_form *form, enum bk_view view) {
    const struct bk_collection *collection = item->collection;
    bool is_public = view == BK_VIEW_PUBLIC;
    bool is_readable = read_texts(item);
    write_shown(collection, is_readable ? item->payload : NULL,
                is_public && realtime_item_hides_email(item) ? collection->email_field : NULL,
                &form->text);
    size_t end = form->text.length;
    if (form->previous.length > 0)
        write_shown(collection, is_readable ? item->previous : NULL,
                    is_public ? left_out_of_previous(item) : NULL, &form->text);
    if (form->text.is_overflown) {
        bk_buffer_fini(&form->text);
        form->payload = BK_SLICE("{}");
        form->previous = BK_SLICE_EMPTY;
        return;
    }
    form->payload = bk_slice_make(form->text.data, end);
    form->previous = bk_slice_make(form->text.data + end, form->text.length - end);
    if (form->previous.length <= 2)
        form->previous = BK_SLICE_EMPTY;
}

static bool has_hidden(const struct realtime_item *item) {
    return item->fields.hidden.length > 2 && item->fields.hidden.length <= HIDDEN_BYTES_MAX &&
           item->fields.payload.data[item->fields.payload.length - 1] == '}';
}

static void lengthen(const struct realtime_item *item, struct realtime_form *form) {
    struct bk_slice payload = item->fields.payload, hidden = item->fields.hidden;
    bk_buffer_append(&form->text, payload.data, payload.length - 1);
    if (payload.length > 2)
        bk_buffer_append_char(&form->text, ',');
    bk_buffer_append(&form->text, hidden.data + 1, hidden.length - 1);
    if (!form->text.is_overflown)
        form->payload = bk_buffer_slice(&form->text);
}

static struct realtime_form *form_of(struct realtime_item *item, enum bk_view view,
                                     bool with_previous) {
    BK_ASSERT((size_t)view < REALTIME_VIEW_COUNT);
    with_previous = with_previous && item->fields.previous.length > 0;
    return &item->forms[2 * (size_t)view + with_previous];
}

struct realtime_form *realtime_item_form(struct realtime_item *item, enum bk_view view,
                                         bool with_previous) {
    struct realtime_form *form = form_of(item, view, with_previous);
    if (form->is_made)
        return form;
    *form = (struct realtime_form){.is_made = true, .payload = item->fields.payload};
    bk_buffer_init(&form->text, RECORD_BYTES_MAX);
    bk_buffer_init(&form->record, RECORD_BYTES_MAX);
    if (with_previous)
        form->previous = item->fields.previous;
    if (view == BK_VIEW_FULL && has_hidden(item))
        lengthen(item, form);
    else if (view != BK_VIEW_FULL && item->collection != NULL &&
             (has_hidden_field(item->collection) || item->collection->email_field != NULL))
        shorten(item, form, view);
    return form;
}

struct bk_event_view *realtime_form_view(struct realtime_item *item, struct realtime_form *form) {
    if (form->view == NULL) {
        form->fields = item->fields;
        form->fields.payload = form->payload;
        form->fields.previous = form->previous;
        form->view = bk_alloc(sizeof *form->view);
        bk_event_view_init(form->view, &form->fields);
    }
    return form->view;
}

/* --- frames ----------------------------------------------------------------------------------- */

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

static struct bk_slice between(const char *start, const char *end) {
    return bk_slice_make(start, (size_t)(end - start));
}

/* Of the event's own bytes all but the payload and, where it is another one, previous. */
static struct bk_shared *make_frame(const struct realtime_item *item,
                                    const struct realtime_form *form) {
    static const struct bk_slice key = BK_SLICE_INIT(",\"previous\":");
    const struct bk_event_fields *fields = &item->fields;
    const char *end = item->json.data + item->json.length;
    const char *behind = fields->payload.data + fields->payload.length;
    char room[128];
    struct bk_slice middle = between(behind, end), rest = BK_SLICE_EMPTY;
    if (fields->previous.length > 0) {
        middle = between(behind, fields->previous.data - key.length);
        rest = between(fields->previous.data + fields->previous.length, end);
    }
    const struct bk_slice parts[] = {head_of(item, room, sizeof room),
                                     between(item->json.data, fields->payload.data),
                                     form->payload,
                                     middle,
                                     form->previous.length > 0 ? key : BK_SLICE_EMPTY,
                                     form->previous,
                                     rest,
                                     BK_SLICE("}")};
    return bk_shared_create(parts, BK_COUNT_OF(parts));
}

struct bk_shared *realtime_item_frame(struct realtime_item *item, enum bk_view view,
                                      bool with_previous) {
    struct realtime_form *form = realtime_item_form(item, view, with_previous);
    if (form->frame == NULL)
        form->frame = make_frame(item, form);
    return form->frame;
}

struct bk_shared *realtime_item_leaving(struct realtime_item *item) {
    const struct bk_event_fields *fields = &item->fields;
    char room[128];
    struct bk_buffer text;
    struct bk_event_fields deleted = {.id = fields->id,
                                      .type = item->collection->event_types[REALTIME_DELETED],
                                      .source = fields->source,
                                      .tenant = fields->tenant,
                                      .subject = fields->subject,
                                      .sequence = fields->sequence,
                                      .timestamp_ms = fields->timestamp_ms,
                                      .version = fields->version,
                                      .payload = BK_SLICE("{}")};
    if (item->leaving != NULL)
        return item->leaving;
    static const struct bk_slice nothing = BK_SLICE_INIT(",\"payload\":{}");
    bk_buffer_init(&text, RECORD_BYTES_MAX);
    bk_event_write_json(&text, &deleted);
    bk_buffer_insist(&text);
    const char *at = text.data + realtime_find(bk_buffer_slice(&text), nothing);
    const struct bk_slice parts[] = {head_of(item, room, sizeof room), between(text.data, at),
                                     between(at + nothing.length, text.data + text.length),
                                     BK_SLICE("}")};
    item->leaving = bk_shared_create(parts, BK_COUNT_OF(parts));
    bk_buffer_fini(&text);
    return item->leaving;
}

/* --- records ---------------------------------------------------------------------------------- */

/* Whatever the event left out for its size is not there. */
static void write_in_order(struct bk_buffer *out, const struct realtime_item *item) {
    for (uint32_t i = 0; i < item->collection->field_count; i++) {
        const struct bk_field *field = &item->collection->fields[i];
        const struct bk_json *member = find_now(item, field);
        if (member != NULL)
            bk_json_write_member_raw(out, field->name, member->text);
    }
}

struct bk_slice realtime_item_record(struct realtime_item *item, enum bk_view view) {
    BK_ASSERT(item->collection != NULL);
    struct realtime_form *form = realtime_item_form(item, view, false);
    struct bk_buffer *out = &form->record;
    if (out->length > 0)
        return bk_buffer_slice(out);
    bk_buffer_append_slice(out, item->collection->json_head);
    if (view == BK_VIEW_FULL && has_hidden(item) && read_texts(item)) {
        write_in_order(out, item);
    } else {
        if (form->payload.length > 2)
            bk_buffer_append_char(out, ',');
        bk_buffer_append(out, form->payload.data + 1, form->payload.length - 2);
    }
    bk_buffer_append_char(out, '}');
    return bk_buffer_slice(out);
}
