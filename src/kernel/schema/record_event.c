/*
 * A record's change as an event: type "posts.created", subject "posts/<id>", payload the record (on
 * delete: as it was), previous the former values of the fields that changed. Secrets never enter an
 * event; hidden fields travel beside it, in memory only. Collections of state make no event of
 * their own. Who watches auth collections is told behind the event.
 */
#include "schema_private.h"

#include "bakend/assert.h"

bool bk_value_equal(const struct bk_value *a, const struct bk_value *b) {
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case BK_VALUE_NULL:
        return true;
    case BK_VALUE_INT:
        return a->integer == b->integer;
    case BK_VALUE_REAL:
        return a->real <= b->real && a->real >= b->real; /* never NaN: SQLite keeps NULL for it */
    case BK_VALUE_TEXT:
        return bk_slice_equal(a->text, b->text);
    }
    BK_UNREACHABLE();
}

/* Where a text stands in a buffer that may still move. */
struct span {
    size_t start, length;
};

static struct bk_slice settle(const struct bk_buffer *out, struct span span) {
    return span.length == 0 ? BK_SLICE_EMPTY : bk_slice_make(out->data + span.start, span.length);
}

/* `{"title":"…"}` of the fields that are (or are not) hidden and, with changed_to, differ from
 * it. */
static struct span object_of(struct bk_buffer *out, const struct bk_collection *collection,
                             const struct bk_value *values, const struct bk_value *changed_to,
                             bool of_hidden) {
    size_t start = out->length;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field->is_secret || field->is_hidden != of_hidden)
            continue;
        if (changed_to != NULL && bk_value_equal(&values[i], &changed_to[i]))
            continue;
        bk_buffer_append_char(out, out->length == start ? '{' : ',');
        bk_buffer_append_slice(out, field->json_key);
        field->type->write_json(field, &values[i], out);
    }
    if (out->length == start)
        return (struct span){0, 0};
    bk_buffer_append_char(out, '}');
    return (struct span){start, out->length - start};
}

/* "created", "updated", "deleted" */
static struct bk_slice type_of(const struct bk_collection *collection,
                               const struct bk_value *before, const struct bk_value *after) {
    return collection->event_types[after == NULL ? 2 : before != NULL];
}

static enum bk_status emit(struct bk_transaction *transaction,
                           const struct bk_collection *collection, const struct bk_value *before,
                           const struct bk_value *after) {
    char subject[BK_COLLECTION_NAME_BYTES_MAX + 256];
    const struct bk_value *values = after == NULL ? before : after;
    struct bk_slice id = values[collection->id_field->index].text;
    if (id.length + collection->name.length + 1 > sizeof(subject))
        return BK_TOO_LARGE;
    memcpy(subject, collection->name.data, collection->name.length);
    subject[collection->name.length] = '/';
    memcpy(subject + collection->name.length + 1, id.data, id.length);

    struct bk_buffer text;
    struct span previous = {0, 0}, hidden_previous = {0, 0};
    bool is_update = before != NULL && after != NULL;
    bk_buffer_init(&text, SIZE_MAX / 2);
    struct span payload = object_of(&text, collection, values, NULL, false);
    if (is_update)
        previous = object_of(&text, collection, before, values, false);
    struct span hidden = object_of(&text, collection, values, NULL, true);
    if (is_update)
        hidden_previous = object_of(&text, collection, before, values, true);
    enum bk_status status = BK_NO_MEMORY;
    if (!text.is_overflown) {
        const struct bk_event_draft draft = {
            .type = type_of(collection, before, after),
            .source = collection->source,
            .subject = bk_slice_make(subject, collection->name.length + 1 + id.length),
            .payload = settle(&text, payload),
            .previous = settle(&text, previous),
            .hidden = settle(&text, hidden),
            .hidden_previous = settle(&text, hidden_previous),
        };
        status = bk_transaction_emit(transaction, &draft);
    }
    bk_buffer_fini(&text);
    return status;
}

enum bk_status bk_record_emit(struct bk_transaction *transaction,
                              const struct bk_collection *collection, const struct bk_value *before,
                              const struct bk_value *after) {
    const struct bk_auth_watch *watch = collection->watch;
    enum bk_status status = BK_OK;
    BK_ASSERT(before != NULL || after != NULL);
    if (collection->role != BK_ROLE_STATE)
        status = emit(transaction, collection, before, after);
    if (status == BK_OK && watch != NULL)
        status = watch->on_change(watch->user, transaction, collection, before, after);
    return status;
}
