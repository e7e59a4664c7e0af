/*
 * What is declared for each collection:
 *
 *   PostsRecord    as the API answers it: all members are there, whatever their value
 *   PostsExpand    what `expand` may bring: its relations, and those that point at it
 *   PostsCreate    what create takes; PostsUpdate what update takes, with the modifiers
 *
 * A field of JSON is a parameter of the record's type, so that its shape can be said where it is
 * known. Secrets (password, tokenKey) are in no record.
 */
#include "types_private.h"

/* --- values ----------------------------------------------------------------------------------- */

static void write_choices(struct bk_buffer *out, const struct bk_json *field) {
    const struct bk_json *values = bk_json_get(field, BK_SLICE("values"));
    bool is_first = true;
    for (const struct bk_json *value = values == NULL ? NULL : values->child; value != NULL;
         value = value->next) {
        if (!is_first)
            bk_buffer_append_literal(out, " | ");
        bk_json_write_string(out, value->string);
        is_first = false;
    }
    if (is_first)
        bk_buffer_append_literal(out, "never");
}

/* The name of a parameter for a field of JSON. */
static void write_parameter(struct bk_buffer *out, const struct bk_json *field,
                            struct bk_arena *arena) {
    bk_buffer_append_literal(out, "T");
    bk_buffer_append_slice(out, types_name(arena, bk_json_get_string(field, BK_SLICE("name"))));
}

/* Of one value. */
static void write_single(struct bk_buffer *out, const struct bk_json *field) {
    static const struct {
        const char *type, *name;
    } names[] = {
        {"number", "number"},     {"bool", "boolean"},      {"date", "DateText"},
        {"autodate", "DateText"}, {"relation", "RecordId"}, {"file", "FileName"},
        {"geoPoint", "GeoPoint"}, {"text", "string"},       {"editor", "string"},
        {"email", "string"},      {"url", "string"},        {"password", "string"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        if (types_field_is(field, names[i].type)) {
            bk_buffer_append_slice(out, bk_slice_from(names[i].name));
            return;
        }
    }
    if (types_field_is(field, "select"))
        write_choices(out, field);
    else
        bk_buffer_append_literal(out, "unknown");
}

static bool is_primary(const struct bk_json *field) {
    return types_flag(field, "primaryKey") ||
           bk_slice_is(bk_json_get_string(field, BK_SLICE("name")), "id");
}

static void write_value(struct bk_buffer *out, const struct bk_json *field) {
    if (is_primary(field)) {
        bk_buffer_append_literal(out, "RecordId");
    } else if (types_is_multiple(field)) {
        bk_buffer_append_literal(out, "Array<");
        write_single(out, field);
        bk_buffer_append_literal(out, ">");
    } else {
        write_single(out, field);
        if (types_field_is(field, "select") && !types_flag(field, "required"))
            bk_buffer_append_literal(out, " | \"\"");
    }
}

/* --- the record ------------------------------------------------------------------------------- */

static bool is_secret(const struct types_collection *collection, const struct bk_json *field) {
    return types_field_is(field, "password") ||
           (collection->is_auth &&
            bk_slice_is(bk_json_get_string(field, BK_SLICE("name")), "tokenKey"));
}

static void write_parameters(struct bk_buffer *out, const struct types_collection *collection,
                             struct bk_arena *arena) {
    bool is_first = true;
    for (const struct bk_json *field = types_fields(collection); field != NULL;
         field = field->next) {
        if (!types_field_is(field, "json"))
            continue;
        bk_buffer_append_slice(out, is_first ? BK_SLICE("<") : BK_SLICE(", "));
        write_parameter(out, field, arena);
        bk_buffer_append_literal(out, " = unknown");
        is_first = false;
    }
    if (!is_first)
        bk_buffer_append_char(out, '>');
}

static bool has_expand(const struct types_model *model, const struct types_collection *collection);

static void write_member(struct bk_buffer *out, const struct types_collection *collection,
                         const struct bk_json *field, struct bk_arena *arena) {
    bool is_hidden = types_flag(field, "hidden");
    struct bk_slice name = bk_json_get_string(field, BK_SLICE("name"));
    bool is_address = collection->is_auth && bk_slice_is(name, "email");
    if (is_hidden)
        bk_buffer_append_literal(out, "  /** Hidden: only superusers get it. */\n");
    else if (is_address)
        bk_buffer_append_literal(out, "  /** Only where emailVisibility is true, or it is one's "
                                      "own. */\n");
    bk_buffer_append_literal(out, "  ");
    types_write_key(out, "", name, "");
    bk_buffer_append_slice(out, is_hidden || is_address ? BK_SLICE("?: ") : BK_SLICE(": "));
    if (types_field_is(field, "json")) {
        write_parameter(out, field, arena);
        bk_buffer_append_literal(out, " | null");
    } else {
        write_value(out, field);
    }
    bk_buffer_append_literal(out, ";\n");
}

static void write_record(struct bk_buffer *out, const struct types_model *model,
                         const struct types_collection *collection) {
    bk_buffer_format(out, "export interface %.*sRecord", BK_SLICE_PRINT(collection->type));
    write_parameters(out, collection, model->arena);
    bk_buffer_append_literal(out, " {\n  collectionId: string;\n  collectionName: ");
    bk_json_write_string(out, collection->name);
    bk_buffer_append_literal(out, ";\n");
    for (const struct bk_json *field = types_fields(collection); field != NULL; field = field->next)
        if (!is_secret(collection, field))
            write_member(out, collection, field, model->arena);
    if (has_expand(model, collection))
        bk_buffer_format(out, "  expand?: %.*sExpand;\n", BK_SLICE_PRINT(collection->type));
    bk_buffer_append_literal(out, "}\n");
}

/* --- expand ----------------------------------------------------------------------------------- */

static const struct types_collection *target_of(const struct types_model *model,
                                                const struct bk_json *field) {
    if (!types_field_is(field, "relation"))
        return NULL;
    return types_model_find(model, bk_json_get_string(field, BK_SLICE("collectionId")));
}

static void write_expanded(struct bk_buffer *out, const struct types_collection *target,
                           bool is_list) {
    bk_buffer_format(out, is_list ? "?: Array<%.*sRecord>;\n" : "?: %.*sRecord;\n",
                     BK_SLICE_PRINT(target->type));
}

/* Relations of other collections that point here: "comments_via_post". */
static void write_back_relations(struct bk_buffer *out, const struct types_model *model,
                                 const struct types_collection *collection, size_t *count) {
    for (size_t i = 0; i < model->count; i++) {
        const struct types_collection *other = &model->collections[i];
        for (const struct bk_json *field = types_fields(other); field != NULL;
             field = field->next) {
            if (target_of(model, field) != collection)
                continue;
            ++*count;
            if (out == NULL)
                continue;
            struct bk_slice name = bk_json_get_string(field, BK_SLICE("name"));
            bk_buffer_append_literal(out, "  ");
            types_write_key(out, "",
                            bk_arena_format(model->arena, "%.*s_via_%.*s",
                                            BK_SLICE_PRINT(other->name), BK_SLICE_PRINT(name)),
                            "");
            write_expanded(out, other, !types_is_unique(other, name));
        }
    }
}

static bool has_expand(const struct types_model *model, const struct types_collection *collection) {
    size_t count = 0;
    for (const struct bk_json *field = types_fields(collection); field != NULL; field = field->next)
        count += target_of(model, field) != NULL;
    write_back_relations(NULL, model, collection, &count);
    return count > 0;
}

static void write_expand(struct bk_buffer *out, const struct types_model *model,
                         const struct types_collection *collection) {
    size_t count = 0;
    if (!has_expand(model, collection))
        return;
    bk_buffer_format(out, "\nexport interface %.*sExpand {\n", BK_SLICE_PRINT(collection->type));
    for (const struct bk_json *field = types_fields(collection); field != NULL;
         field = field->next) {
        const struct types_collection *target = target_of(model, field);
        if (target == NULL)
            continue;
        bk_buffer_append_literal(out, "  ");
        types_write_key(out, "", bk_json_get_string(field, BK_SLICE("name")), "");
        write_expanded(out, target, types_is_multiple(field));
    }
    write_back_relations(out, model, collection, &count);
    bk_buffer_append_literal(out, "}\n");
}

/* --- what is sent ----------------------------------------------------------------------------- */

/* One value as a client may give it. */
static void write_given(struct bk_buffer *out, const struct bk_json *field) {
    if (types_field_is(field, "file"))
        bk_buffer_append_literal(out, "FileInput");
    else if (types_field_is(field, "date"))
        bk_buffer_append_literal(out, "DateText | Date");
    else if (types_field_is(field, "json"))
        bk_buffer_append_literal(out, "unknown");
    else
        write_single(out, field);
}

static void write_given_list(struct bk_buffer *out, const struct bk_json *field) {
    write_given(out, field);
    bk_buffer_append_literal(out, " | Array<");
    write_given(out, field);
    bk_buffer_append_literal(out, ">");
}

static bool must_be_given(const struct types_collection *collection, const struct bk_json *field) {
    struct bk_slice pattern = bk_json_get_string(field, BK_SLICE("autogeneratePattern"));
    bool is_password = collection->is_auth && types_field_is(field, "password");
    return !is_primary(field) && pattern.length == 0 &&
           (is_password || types_flag(field, "required"));
}

static bool is_given(const struct types_collection *collection, const struct bk_json *field) {
    bool is_password = types_field_is(field, "password");
    return !types_field_is(field, "autodate") && (is_password || !is_secret(collection, field));
}

static void write_input(struct bk_buffer *out, const struct types_collection *collection,
                        const struct bk_json *field, bool is_create) {
    bool is_required = is_create && must_be_given(collection, field);
    bk_buffer_append_literal(out, "  ");
    types_write_key(out, "", bk_json_get_string(field, BK_SLICE("name")), "");
    bk_buffer_append_slice(out, is_required ? BK_SLICE(": ") : BK_SLICE("?: "));
    if (is_primary(field))
        bk_buffer_append_literal(out, "RecordId");
    else if (types_is_multiple(field))
        write_given_list(out, field);
    else
        write_given(out, field);
    bool is_choice = types_field_is(field, "select") && !types_is_multiple(field);
    if (!types_flag(field, "required") && !is_primary(field) && !types_field_is(field, "json"))
        bk_buffer_append_slice(out, is_choice ? BK_SLICE(" | \"\" | null") : BK_SLICE(" | null"));
    bk_buffer_append_literal(out, ";\n");
}

static void write_modifier(struct bk_buffer *out, const struct bk_json *field, const char *prefix,
                           const char *suffix) {
    bool is_removal = suffix[0] == '-';
    bk_buffer_append_literal(out, "  ");
    types_write_key(out, prefix, bk_json_get_string(field, BK_SLICE("name")), suffix);
    bk_buffer_append_literal(out, "?: ");
    if (types_field_is(field, "file") && is_removal)
        bk_buffer_append_literal(out, "FileName | Array<FileName>");
    else if (types_is_multiple(field))
        write_given_list(out, field);
    else
        write_given(out, field);
    bk_buffer_append_literal(out, ";\n");
}

/* A number is counted up and down; of lists values are appended, put in front and taken out. */
static void write_modifiers(struct bk_buffer *out, const struct bk_json *field) {
    bool is_multiple = types_is_multiple(field);
    bool is_number = types_field_is(field, "number");
    bool is_file = types_field_is(field, "file");
    if (!is_multiple && !is_number && !is_file)
        return;
    if (is_multiple || is_number)
        write_modifier(out, field, "", "+");
    if (is_multiple)
        write_modifier(out, field, "+", "");
    write_modifier(out, field, "", "-");
}

static void write_passwords(struct bk_buffer *out, const struct types_collection *collection,
                            bool is_create) {
    if (!collection->is_auth)
        return;
    bk_buffer_append_slice(out, is_create ? BK_SLICE("  passwordConfirm: string;\n")
                                          : BK_SLICE("  passwordConfirm?: string;\n"
                                                     "  oldPassword?: string;\n"));
}

static void write_inputs(struct bk_buffer *out, const struct types_collection *collection,
                         bool is_create) {
    bk_buffer_format(out, "\nexport interface %.*s%s {\n", BK_SLICE_PRINT(collection->type),
                     is_create ? "Create" : "Update");
    for (const struct bk_json *field = types_fields(collection); field != NULL;
         field = field->next) {
        if (!is_given(collection, field) || (!is_create && is_primary(field)))
            continue;
        write_input(out, collection, field, is_create);
        write_modifiers(out, field);
    }
    write_passwords(out, collection, is_create);
    bk_buffer_append_literal(out, "}\n");
}

/* --- all of it -------------------------------------------------------------------------------- */

void types_write_collection(struct bk_buffer *out, const struct types_model *model,
                            const struct types_collection *collection) {
    bk_buffer_format(out, "\n// --- %.*s%s\n\n", BK_SLICE_PRINT(collection->name),
                     collection->is_view ? " (a view)" : "");
    write_record(out, model, collection);
    write_expand(out, model, collection);
    if (collection->is_view)
        return;
    write_inputs(out, collection, true);
    write_inputs(out, collection, false);
}
