/*
 * What a body says about a record. Keys are names of fields, or names with a modifier ("tags+",
 * "+tags", "tags-", "code:autogenerate"); others mean nothing. A plain key counts first, then the
 * modifiers in the order sent, on what the record has by then: on a create at once, on an update on
 * the writer, where the record is.
 */
#include "record_change.h"

#include <math.h>

static bool is_password(const struct bk_collection *collection, const struct bk_field *field) {
    return collection->type == BK_COLLECTION_AUTH && bk_slice_is(field->name, "password");
}

bool collections_input_is_settable(const struct record_change *change,
                                   const struct bk_field *field) {
    if (field->type->is_read_only)
        return false;
    return !field->is_hidden || is_password(change->collection, field) ||
           bk_actor_is_superuser(&change->request->actor);
}

/* --- keys ------------------------------------------------------------------------------------- */

/* The name in a key that has a modifier; 0: it has none. */
static enum bk_modifier split_modifier(struct bk_slice key, struct bk_slice *name) {
    static const struct bk_slice autogenerate = BK_SLICE_INIT(":autogenerate");
    if (key.length < 2)
        return 0;
    char last = key.data[key.length - 1];
    *name = bk_slice_make(key.data, key.length - 1);
    if (last == '+')
        return BK_MODIFIER_APPEND;
    if (last == '-')
        return BK_MODIFIER_REMOVE;
    if (key.data[0] == '+') {
        name->data++;
        return BK_MODIFIER_PREPEND;
    }
    if (!bk_slice_ends_with(key, autogenerate))
        return 0;
    name->length = key.length - autogenerate.length;
    return BK_MODIFIER_AUTOGENERATE;
}

/* The field that a key is of; *modifier 0: its plain name. NULL: it means nothing. */
static const struct bk_field *field_of_key(const struct record_change *change, struct bk_slice key,
                                           enum bk_modifier *modifier) {
    struct bk_slice name;
    const struct bk_field *field = bk_collection_field(change->collection, key);
    *modifier = 0;
    if (field != NULL)
        return field;
    enum bk_modifier asked = split_modifier(key, &name);
    if (asked == 0)
        return NULL;
    field = bk_collection_field(change->collection, name);
    if (field == NULL || (field->type->modifiers & asked) == 0)
        return NULL;
    *modifier = asked;
    return field;
}

static const struct bk_json *first_member(const struct record_change *change) {
    const struct bk_json *body = change->body;
    return body == NULL || body->type != BK_JSON_OBJECT ? NULL : body->child;
}

/* --- values ----------------------------------------------------------------------------------- */

static void read_modifications(struct record_change *change) {
    struct bk_arena *arena = &change->request->arena;
    enum bk_modifier modifier;
    struct bk_slice name;
    change->modification_count = 0;
    for (const struct bk_json *member = first_member(change); member != NULL;
         member = member->next) {
        if (split_modifier(member->key, &name) == 0)
            continue; /* as most are */
        const struct bk_field *field = field_of_key(change, member->key, &modifier);
        if (field == NULL || modifier == 0 || !collections_input_is_settable(change, field))
            continue;
        if (change->modification_count == 0)
            change->modifications =
                bk_arena_alloc(arena, change->body->child_count * sizeof(*change->modifications));
        if (arena->is_overflown)
            return;
        change->modifications[change->modification_count++] =
            (struct record_modification){field, modifier, member};
        change->is_given[field->index] = true;
    }
}

/* The body with the files of a form. */
static void take_files(struct record_change *change) {
    struct bk_request *request = change->request;
    change->body = request->json;
    change->uploads = NULL;
    for (size_t i = 0; i < RECORD_FILE_PREFIXES_MAX && change->files != NULL; i++)
        if (i == 0 || change->file_prefixes[i].length > 0)
            (void)bk_request_take_uploads(&request->arena, change->files, change->file_prefixes[i],
                                          change->collection, &change->body, &change->uploads);
}

void collections_input_read(struct record_change *change) {
    struct bk_request *request = change->request;
    const struct bk_collection *collection = change->collection;
    take_files(change);
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        const struct bk_json *input = bk_json_get(change->body, field->name);
        change->is_given[i] = input != NULL && collections_input_is_settable(change, field);
        if (change->is_given[i])
            field->type->normalise(field, input, &change->sent[i], &request->arena);
        else
            field->type->empty(field, &change->sent[i]);
    }
    read_modifications(change);
}

void collections_input_merge(struct record_change *change, const struct bk_value *before) {
    const struct bk_collection *collection = change->collection;
    for (uint32_t i = 0; i < collection->field_count; i++)
        change->values[i] = before != NULL && !change->is_given[i] ? before[i] : change->sent[i];
    for (uint32_t i = 0; i < change->modification_count; i++) {
        const struct record_modification *modification = &change->modifications[i];
        const struct bk_field *field = modification->field;
        /* Without a plain key a modifier begins with what the record has. */
        bool is_first = before != NULL && bk_json_get(change->body, field->name) == NULL;
        for (uint32_t j = 0; j < i; j++)
            is_first = is_first && change->modifications[j].field != field;
        if (is_first)
            change->values[field->index] = before[field->index];
        field->type->modify(field, modification->modifier, modification->input,
                            &change->values[field->index], &change->request->arena);
    }
}

/* --- what rules see --------------------------------------------------------------------------- */

bool collections_input_needs_record(const struct record_change *change) {
    enum bk_modifier modifier;
    if (change->modification_count > 0)
        return true;
    for (const struct bk_json *member = first_member(change); member != NULL;
         member = member->next) {
        const struct bk_field *field = field_of_key(change, member->key, &modifier);
        if (field != NULL && field->type->is_read_only)
            return true;
    }
    return false;
}

/* The value that the field will have, as JSON. An infinite number has none and stays as it was
 * sent: validation refuses it. */
static enum bk_status as_stored(struct record_change *change, const struct bk_field *field,
                                const struct bk_json *sent, struct bk_json *member) {
    const struct bk_value *value = &change->values[field->index];
    struct bk_arena *arena = &change->request->arena;
    struct bk_json *stored;
    struct bk_buffer out;
    if (value->type == BK_VALUE_REAL && !isfinite(value->real))
        return BK_OK;
    bk_buffer_init(&out, change->request->out.max_bytes);
    field->type->write_json(field, value, &out);
    enum bk_status status = bk_buffer_status(&out);
    bool is_same = bk_slice_equal(bk_buffer_slice(&out), sent->text);
    struct bk_slice text = is_same ? BK_SLICE_EMPTY : bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    if (status == BK_OK && !is_same)
        status = bk_json_parse(arena, text, &stored, NULL);
    if (status == BK_OK && !is_same)
        *member = *stored;
    return status;
}

/* Whether an earlier key was of the same field. */
static bool is_repeated(const struct record_change *change, const struct bk_json *until,
                        const struct bk_field *field) {
    enum bk_modifier modifier;
    for (const struct bk_json *member = first_member(change); member != until;
         member = member->next)
        if (field_of_key(change, member->key, &modifier) == field)
            return true;
    return false;
}

/* One member of the body as rules see it; *is_shown false: they do not. */
static enum bk_status show_member(struct record_change *change, const struct bk_json *sent,
                                  struct bk_json *member, bool *is_shown) {
    enum bk_modifier modifier;
    const struct bk_field *field = field_of_key(change, sent->key, &modifier);
    enum bk_status status = BK_OK;
    *member = *sent;
    *is_shown = true;
    if (field == NULL)
        return BK_OK;
    *is_shown = (field->type->is_read_only || collections_input_is_settable(change, field)) &&
                (change->modification_count == 0 || !is_repeated(change, sent, field));
    if (*is_shown && field->type->begin == NULL)
        status = as_stored(change, field, sent, member);
    member->key = field->name;
    return status;
}

enum bk_status collections_input_body(struct record_change *change, struct bk_json **body) {
    struct bk_arena *arena = &change->request->arena;
    *body = bk_arena_alloc_zero(arena, sizeof **body);
    (*body)->type = BK_JSON_OBJECT;
    struct bk_json **end = &(*body)->child;
    for (const struct bk_json *each = first_member(change); each != NULL; each = each->next) {
        bool is_shown;
        struct bk_json *member = bk_arena_alloc_zero(arena, sizeof *member);
        enum bk_status status = bk_arena_status(arena);
        if (status == BK_OK) /* else memory is shared */
            status = show_member(change, each, member, &is_shown);
        if (status != BK_OK)
            return status;
        if (!is_shown)
            continue;
        member->next = NULL;
        *end = member;
        end = &member->next;
        (*body)->child_count++;
    }
    return bk_arena_status(arena);
}
