/*
 * Definitions: JSON → a collection, and back.
 *
 * One way of reading serves three sources. A create has only what the client gave. A change lays
 * what the client gave over the former definition, member by member; the list of fields is replaced
 * as a whole and its members are matched by id, which is how a column survives its name. A stored
 * row is taken as it is.
 *
 * What has not the form of a definition (a number for a name, an unknown field type) ends the
 * reading with one message, as in the contract; what has the form and is wrong is left to check.c,
 * but for options of fields, which their types judge while they read them.
 */
#include "schema_private.h"

#include "bakend/assert.h"
#include "bakend/clock.h"
#include <stdio.h>

enum { ID_TRIES_MAX = 1000 };

static const char *const rule_names[BK_OPERATION_COUNT] = {
    [BK_MAY_LIST] = "listRule",     [BK_MAY_VIEW] = "viewRule",     [BK_MAY_CREATE] = "createRule",
    [BK_MAY_UPDATE] = "updateRule", [BK_MAY_DELETE] = "deleteRule", [BK_MAY_MANAGE] = "manageRule",
};
static const char *const type_names[] = {
    [BK_COLLECTION_BASE] = "base",
    [BK_COLLECTION_AUTH] = "auth",
    [BK_COLLECTION_VIEW] = "view",
};

/* --- ids -------------------------------------------------------------------------------------- */

/* CRC-32 as in IEEE 802.3, continued from crc. */
static uint32_t crc32_of(uint32_t crc, struct bk_slice text) {
    crc = ~crc;
    for (size_t i = 0; i < text.length; i++) {
        crc ^= (unsigned char)text.data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xEDB88320U & (0U - (crc & 1)));
    }
    return ~crc;
}

struct bk_slice schema_checksum_id(struct bk_arena *arena, const char *prefix, struct bk_slice head,
                                   struct bk_slice tail) {
    return bk_arena_format(arena, "%s%u", prefix, crc32_of(crc32_of(0, head), tail));
}

static void make_id(struct schema_box *box, const struct bk_schema *schema) {
    struct bk_collection *collection = &box->collection;
    struct bk_slice base = schema_checksum_id(
        &box->arena, "pbc_", bk_slice_from(type_names[collection->type]), collection->name);
    collection->id = base;
    for (int i = 2; i < ID_TRIES_MAX && bk_map_get(&schema->by_id, collection->id) != NULL; i++)
        collection->id = bk_arena_format(&box->arena, "%.*s%d", BK_SLICE_PRINT(base), i);
}

void schema_definition_set_id(struct schema_box *box, const struct bk_schema *schema) {
    if (box->collection.id.length == 0)
        make_id(box, schema);
    schema_auth_indexes_add(box); /* they are named after it */
}

/* --- reading ---------------------------------------------------------------------------------- */

const struct bk_json *schema_source_get(const struct schema_source *source, const char *name) {
    const struct bk_json *member = bk_json_get(source->given, bk_slice_from(name));
    return member != NULL ? member : bk_json_get(source->former, bk_slice_from(name));
}

/* Null and absence are what it was, at first the empty text; what is no text fails. */
static enum bk_status read_text(const struct schema_source *source, struct schema_box *box,
                                const char *name, struct bk_slice *text, struct bk_error *error) {
    const struct bk_json *member = schema_source_get(source, name);
    *text = BK_SLICE("");
    if (member != NULL && member->type == BK_JSON_NULL)
        member = bk_json_get(source->former, bk_slice_from(name));
    if (member == NULL || member->type == BK_JSON_NULL)
        return BK_OK;
    if (member->type != BK_JSON_STRING)
        return bk_error_set(error, BK_INVALID, "%s must be a text", name);
    *text = bk_arena_copy(&box->arena, member->string);
    return BK_OK;
}

static enum bk_status read_type(const struct schema_source *source, struct schema_box *box,
                                struct bk_problems *problems, struct bk_error *error) {
    struct bk_slice type;
    enum bk_status status = read_text(source, box, "type", &type, error);
    if (status != BK_OK)
        return status;
    box->collection.type = BK_COLLECTION_BASE;
    if (type.length == 0)
        return BK_OK;
    for (size_t i = 0; i < BK_COUNT_OF(type_names); i++) {
        if (bk_slice_equal(type, bk_slice_from(type_names[i]))) {
            box->collection.type = (enum bk_collection_type)i;
            return BK_OK;
        }
    }
    bk_problems_add(problems, BK_SLICE("type"), "validation_in_invalid", "Must be a valid value.");
    return BK_OK;
}

/* Null stays NULL data, "" has data. */
static enum bk_status read_rules(const struct schema_source *source, struct schema_box *box,
                                 struct bk_error *error) {
    for (size_t i = 0; i < BK_OPERATION_COUNT; i++) {
        const struct bk_json *member = schema_source_get(source, rule_names[i]);
        box->collection.rules[i] = BK_SLICE_EMPTY;
        if (member == NULL || member->type == BK_JSON_NULL ||
            (i == BK_MAY_MANAGE && box->collection.type != BK_COLLECTION_AUTH))
            continue;
        if (member->type != BK_JSON_STRING)
            return bk_error_set(error, BK_INVALID, "%s must be a text or null", rule_names[i]);
        box->collection.rules[i] = bk_arena_copy(&box->arena, member->string);
        if (member->string.length == 0)
            box->collection.rules[i] = BK_SLICE("");
    }
    return BK_OK;
}

static enum bk_status read_indexes(const struct schema_source *source, struct schema_box *box,
                                   struct bk_error *error) {
    struct bk_collection *collection = &box->collection;
    const struct bk_json *member = schema_source_get(source, "indexes");
    /* Two more than given, for those that an auth collection needs. */
    size_t room = 2 + (member == NULL ? 0 : (size_t)member->child_count);
    if (member != NULL && member->type == BK_JSON_NULL)
        member = NULL;
    if (member != NULL && member->type != BK_JSON_ARRAY)
        return bk_error_set(error, BK_INVALID, "indexes must be a list of texts");
    if (room > SCHEMA_INDEXES_MAX + 2)
        return bk_error_set(error, BK_INVALID, "indexes are more than %d", SCHEMA_INDEXES_MAX);
    collection->indexes = bk_arena_alloc_zero(&box->arena, sizeof *collection->indexes * room);
    for (const struct bk_json *child = member == NULL ? NULL : member->child; child != NULL;
         child = child->next) {
        if (box->arena.is_overflown)
            return bk_error_set(error, BK_TOO_LARGE, "the definition is larger than %d bytes",
                                SCHEMA_BOX_BYTES_MAX);
        if (child->type != BK_JSON_STRING)
            return bk_error_set(error, BK_INVALID, "indexes must be a list of texts");
        collection->indexes[collection->index_count++].sql =
            bk_arena_copy(&box->arena, child->string);
    }
    return BK_OK;
}

/* The table's name in an index is the collection's, whatever was written: a rename needs no
 * more. */
static void settle_indexes(struct schema_box *box) {
    struct bk_collection *collection = &box->collection;
    for (uint32_t i = 0; i < collection->index_count && !box->arena.is_overflown; i++) {
        struct schema_index index;
        struct bk_index *kept = &collection->indexes[i];
        if (!schema_index_parse(kept->sql, &box->arena, &index))
            continue; /* left as it is for check.c to refuse */
        kept->name = index.name;
        if (bk_slice_equal(index.table, collection->name))
            continue;
        index.table = collection->name;
        kept->sql = schema_index_build(&index, &box->arena);
    }
}

static enum bk_status read_flags(const struct schema_source *source, struct schema_box *box,
                                 struct bk_error *error) {
    const struct bk_json *member = schema_source_get(source, "system");
    if (member != NULL && member->type != BK_JSON_NULL && member->type != BK_JSON_BOOL)
        return bk_error_set(error, BK_INVALID, "system must be true or false");
    box->collection.is_system = member != NULL && member->boolean;
    return BK_OK;
}

/* A stored row has its dates; a change keeps when the collection was created. */
static void read_dates(const struct schema_source *source, struct schema_box *box) {
    char now[BK_TIME_TEXT_BYTES];
    bk_time_format(now, bk_clock_wall_ms(), ' ');
    const struct bk_json *kept = source->is_stored ? source->given : source->former;
    struct bk_slice created = bk_json_get_string(kept, BK_SLICE("created"));
    struct bk_slice updated = bk_json_get_string(source->given, BK_SLICE("updated"));
    if (created.length == 0)
        created = bk_slice_make(now, sizeof now);
    if (!source->is_stored || updated.length == 0)
        updated = bk_slice_make(now, sizeof now);
    box->collection.created = bk_arena_copy(&box->arena, created);
    box->collection.updated = bk_arena_copy(&box->arena, updated);
}

/* What the type has no use for, and dates that are the house's, must still have their form: the
 * contract reads a definition of any type into one. */
static enum bk_status check_unused(const struct schema_source *source, struct schema_box *box,
                                   struct bk_error *error) {
    static const char *const texts[] = {"viewQuery", "created", "updated"};
    struct bk_slice unused;
    struct bk_buffer out;
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < BK_COUNT_OF(texts) && status == BK_OK; i++)
        status = read_text(source, box, texts[i], &unused, error);
    if (status != BK_OK || box->collection.type == BK_COLLECTION_AUTH)
        return status;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    status = bk_shape_lay(&schema_auth_shape, source->given, NULL, &out, error);
    bk_buffer_fini(&out);
    return status;
}

enum bk_status schema_definition_read(const struct bk_schema_kind *kind,
                                      const struct schema_source *source, struct schema_box *box,
                                      struct bk_problems *option_problems, struct bk_error *error) {
    struct bk_collection *collection = &box->collection;
    if (source->given == NULL || source->given->type != BK_JSON_OBJECT)
        return bk_error_set(error, BK_INVALID, "the definition must be an object");
    enum bk_status status = read_text(source, box, "id", &collection->id, error);
    if (status == BK_OK)
        status = read_text(source, box, "name", &collection->name, error);
    /* Said like this since the contract has no code for it. */
    if (status == BK_OK && collection->name.length >= 7 &&
        bk_slice_equal_ignore_case(bk_slice_make(collection->name.data, 7), BK_SLICE("sqlite_")))
        status = bk_error_set(error, BK_INVALID, "names that begin with \"sqlite_\" are taken");
    if (status == BK_OK)
        status = read_type(source, box, option_problems, error);
    if (status == BK_OK)
        status = read_flags(source, box, error);
    if (status == BK_OK)
        status = read_rules(source, box, error);
    if (status == BK_OK && !source->is_stored)
        status = check_unused(source, box, error);
    if (status == BK_OK)
        status = schema_fields_read(kind, source, box, option_problems, error);
    if (status == BK_OK)
        status = read_indexes(source, box, error);
    if (status == BK_OK && collection->type == BK_COLLECTION_VIEW)
        status = read_text(source, box, "viewQuery", &collection->view_query, error);
    if (status != BK_OK)
        return status;
    read_dates(source, box);
    status = schema_search_read(source, box, option_problems, error);
    if (status == BK_OK && collection->type == BK_COLLECTION_AUTH) {
        collection->watch = kind->auth_watch;
        status = schema_auth_options_read(source, box, error);
    }
    if (status != BK_OK)
        return status;
    settle_indexes(box);
    status = bk_arena_status(&box->arena);
    if (status == BK_TOO_LARGE)
        bk_error_set(error, status, "the definition is larger than %d bytes", SCHEMA_BOX_BYTES_MAX);
    else if (status != BK_OK)
        bk_error_set(error, status, "there is not enough memory");
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void write_rule(struct bk_buffer *out, const char *name, struct bk_slice rule) {
    if (rule.data == NULL)
        bk_json_write_member_raw(out, bk_slice_from(name), BK_SLICE("null"));
    else
        bk_json_write_member_string(out, bk_slice_from(name), rule);
}

void schema_field_write(const struct bk_field *field, struct bk_slice id, struct bk_slice name,
                        struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("id"), id);
    bk_json_write_member_string(out, BK_SLICE("name"), name);
    bk_json_write_member_string(out, BK_SLICE("type"), bk_slice_from(field->type->name));
    bk_json_write_member_bool(out, BK_SLICE("system"), field->is_system);
    bk_json_write_member_bool(out, BK_SLICE("hidden"), field->is_hidden);
    bk_json_write_member_bool(out, BK_SLICE("presentable"), field->is_presentable);
    if (!field->type->is_read_only) { /* nothing to require or to explain of an autodate */
        bk_json_write_member_string(out, BK_SLICE("help"), field->help);
        bk_json_write_member_bool(out, BK_SLICE("required"), field->is_required);
    }
    if (field->type->write_options != NULL)
        field->type->write_options(field, out);
    bk_buffer_append_char(out, '}');
}

void schema_definition_write(const struct bk_collection *collection, struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("id"), collection->id);
    for (size_t i = BK_MAY_LIST; i <= BK_MAY_DELETE; i++)
        write_rule(out, rule_names[i], collection->rules[i]);
    bk_json_write_member_string(out, BK_SLICE("name"), collection->name);
    bk_json_write_member_string(out, BK_SLICE("type"), bk_slice_from(type_names[collection->type]));
    bk_json_write_key(out, BK_SLICE("fields"));
    bk_buffer_append_char(out, '[');
    for (uint32_t i = 0; i < collection->field_count; i++) {
        bk_json_write_separator(out);
        const struct bk_field *field = &collection->fields[i];
        schema_field_write(field, field->id, field->name, out);
    }
    bk_buffer_append_char(out, ']');
    bk_json_write_key(out, BK_SLICE("indexes"));
    bk_buffer_append_char(out, '[');
    for (uint32_t i = 0; i < collection->index_count; i++) {
        bk_json_write_separator(out);
        bk_json_write_string(out, collection->indexes[i].sql);
    }
    bk_buffer_append_char(out, ']');
    bk_json_write_member_string(out, BK_SLICE("created"), collection->created);
    bk_json_write_member_string(out, BK_SLICE("updated"), collection->updated);
    bk_json_write_member_bool(out, BK_SLICE("system"), collection->is_system);
    if (collection->options.length > 0) {
        bk_buffer_append_char(out, ',');
        bk_buffer_append_slice(out, collection->options);
    }
    if (collection->type == BK_COLLECTION_VIEW)
        bk_json_write_member_string(out, BK_SLICE("viewQuery"), collection->view_query);
    schema_search_write(collection, out);
    bk_buffer_append_char(out, '}');
}
