/* One collection in memory: its definition, and what is made of it once so that requests append it
 * as it is. Everything it points at lives in its own arena and dies with it. */
#include "schema_private.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

struct schema_box *schema_box_create(void) {
    struct schema_box *box = bk_alloc_zero(sizeof *box);
    bk_arena_init(&box->arena, SCHEMA_BOX_BYTES_MAX);
    box->reference_count = 1;
    return box;
}

struct schema_box *schema_box_ref(struct schema_box *box) {
    int before = __atomic_fetch_add(&box->reference_count, 1, __ATOMIC_RELAXED);
    BK_ASSERT(before > 0);
    return box;
}

void schema_box_unref(struct schema_box *box) {
    if (box == NULL || __atomic_fetch_sub(&box->reference_count, 1, __ATOMIC_ACQ_REL) > 1)
        return;
    bk_arena_fini(&box->arena);
    bk_free(box);
}

struct schema_box *schema_box_of(const struct bk_collection *collection) {
    if (collection == NULL)
        return NULL;
    return (struct schema_box *)(uintptr_t)collection; /* a box begins with it */
}

void schema_write_quoted(struct bk_buffer *out, struct bk_slice name) {
    bk_buffer_append_char(out, '"');
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] == '"')
            bk_buffer_append_char(out, '"');
        bk_buffer_append_char(out, name.data[i]);
    }
    bk_buffer_append_char(out, '"');
}

struct bk_slice schema_fold(struct bk_slice text, struct bk_arena *arena) {
    char *folded = bk_arena_alloc(arena, text.length + 1);
    if (folded == NULL)
        return BK_SLICE("");
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        folded[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    return bk_slice_make(folded, text.length);
}

/* --- what is prebuilt ------------------------------------------------------------------------- */

/* Copies what the buffer holds into the arena and empties it. What had no room in it is not there:
 * that is kept, since the emptied buffer has forgotten it. */
static struct bk_slice take(struct schema_box *box, struct bk_buffer *out) {
    struct bk_slice text = bk_arena_copy(&box->arena, bk_buffer_slice(out));
    if (box->status == BK_OK)
        box->status = bk_buffer_status(out);
    bk_buffer_clear(out);
    return text;
}

static struct bk_sql take_sql(struct schema_box *box, struct bk_buffer *out) {
    return bk_sql_make(take(box, out));
}

static void build_names(struct schema_box *box, struct bk_buffer *out) {
    struct bk_collection *collection = &box->collection;
    schema_write_quoted(out, collection->name);
    collection->quoted = take(box, out);
    for (uint32_t i = 0; i < collection->field_count; i++) {
        struct bk_field *field = &collection->fields[i];
        schema_write_quoted(out, field->name);
        field->quoted = take(box, out);
        /* With the comma that comes before it, which bk_record_write_members takes along. */
        bk_buffer_append_char(out, ',');
        bk_json_write_string(out, field->name);
        bk_buffer_append_char(out, ':');
        struct bk_slice key = take(box, out);
        field->json_key = bk_slice_make(key.data + 1, key.length - 1);
    }
    for (uint32_t i = 0; i < collection->field_count; i++) {
        if (i > 0)
            bk_buffer_append_literal(out, ", ");
        bk_buffer_append_slice(out, collection->fields[i].quoted);
    }
    collection->columns = take(box, out);
}

static void write_where_id(struct bk_buffer *out, const struct bk_collection *collection,
                           uint32_t parameter) {
    bk_buffer_append_literal(out, " WHERE ");
    bk_buffer_append_slice(out, collection->id_field->quoted);
    bk_buffer_format(out, " = ?%u", parameter);
}

static void build_update(struct schema_box *box, struct bk_buffer *out) {
    struct bk_collection *collection = &box->collection;
    bk_buffer_append_literal(out, "UPDATE ");
    bk_buffer_append_slice(out, collection->quoted);
    bk_buffer_append_literal(out, " SET ");
    bool is_first = true;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        if (&collection->fields[i] == collection->id_field)
            continue;
        if (!is_first)
            bk_buffer_append_literal(out, ", ");
        is_first = false;
        bk_buffer_append_slice(out, collection->fields[i].quoted);
        bk_buffer_format(out, " = ?%u", i + 1);
    }
    if (is_first) { /* nothing but an id: an update that finds the row and leaves it */
        bk_buffer_append_slice(out, collection->id_field->quoted);
        bk_buffer_append_literal(out, " = ");
        bk_buffer_append_slice(out, collection->id_field->quoted);
    }
    write_where_id(out, collection, collection->id_field->index + 1);
    collection->update = take_sql(box, out);
}

static void build_sql(struct schema_box *box, struct bk_buffer *out) {
    struct bk_collection *collection = &box->collection;
    bk_buffer_format(out, "SELECT %.*s FROM %.*s", BK_SLICE_PRINT(collection->columns),
                     BK_SLICE_PRINT(collection->quoted));
    write_where_id(out, collection, 1);
    collection->select_by_id = take_sql(box, out);
    bk_buffer_format(out, "SELECT 1 FROM %.*s", BK_SLICE_PRINT(collection->quoted));
    write_where_id(out, collection, 1);
    collection->exists_by_id = take_sql(box, out);
    bk_buffer_format(out, "DELETE FROM %.*s", BK_SLICE_PRINT(collection->quoted));
    write_where_id(out, collection, 1);
    collection->delete_by_id = take_sql(box, out);
    bk_buffer_format(out, "INSERT INTO %.*s (%.*s) VALUES (", BK_SLICE_PRINT(collection->quoted),
                     BK_SLICE_PRINT(collection->columns));
    for (uint32_t i = 0; i < collection->field_count; i++)
        bk_buffer_format(out, i == 0 ? "?%u" : ", ?%u", i + 1);
    bk_buffer_append_char(out, ')');
    collection->insert = take_sql(box, out);
    build_update(box, out);
}

static void build_heads(struct schema_box *box, struct bk_buffer *out) {
    struct bk_collection *collection = &box->collection;
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("collectionId"), collection->id);
    bk_json_write_member_string(out, BK_SLICE("collectionName"), collection->name);
    collection->json_head = take(box, out);
    static const char *const verbs[] = {"created", "updated", "deleted"};
    for (size_t i = 0; i < BK_COUNT_OF(verbs); i++) {
        bk_buffer_format(out, "%.*s.%s", BK_SLICE_PRINT(collection->name), verbs[i]);
        collection->event_types[i] = take(box, out);
    }
}

void schema_box_set_role(const struct bk_schema_kind *kind, struct schema_box *box) {
    struct bk_collection *collection = &box->collection;
    const struct schema_system *system = schema_kind_system(kind, collection->name);
    collection->source = BK_SLICE("collections");
    collection->role = BK_ROLE_APPLICATION;
    collection->is_unlisted = collection->is_closed = false;
    collection->alias = collection->keeps_last = NULL;
    if (system != NULL) {
        collection->role = system->declared.role;
        collection->source = system->source;
        collection->is_unlisted = !system->declared.is_in_contract;
        collection->is_closed = system->declared.is_closed;
        collection->alias = system->declared.alias;
        collection->keeps_last = system->declared.keeps_last;
    } else if (collection->name.data[0] == '_') { /* of a module that is no longer there */
        collection->role = BK_ROLE_STATE;
        collection->is_unlisted = true;
    }
}

static void find_email(struct bk_collection *collection) {
    if (collection->type != BK_COLLECTION_AUTH)
        return;
    collection->email_field = bk_collection_field(collection, BK_SLICE("email"));
    collection->email_visibility_field =
        bk_collection_field(collection, BK_SLICE("emailVisibility"));
}

enum bk_status schema_box_finish(const struct bk_schema_kind *kind, struct schema_box *box) {
    struct bk_buffer out;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    schema_box_set_role(kind, box);
    box->folded = schema_fold(box->collection.name, &box->arena);
    find_email(&box->collection);
    build_names(box, &out);
    schema_search_finish(box);
    build_sql(box, &out);
    build_heads(box, &out);
    schema_definition_write(&box->collection, &out);
    box->collection.definition = take(box, &out);
    bk_buffer_fini(&out);
    return box->status == BK_OK ? bk_arena_status(&box->arena) : box->status;
}
