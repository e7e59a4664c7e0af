/*
 * The fields of a definition. The list is read in two steps: first which fields there are (a member
 * without an id gets one of its type and name; one whose id, or whose name where it gave no id, is
 * there already takes that one's place), with those that every collection of the type has; then
 * each as its type reads it.
 */
#include "schema_private.h"
#include "types/types.h"

#include "bakend/assert.h"

enum { ID_TRIES_MAX = 1000, DEFAULTS_MAX = 6 };

struct draft {
    const struct bk_json *definition;
    struct bk_slice id, name, type;
};

struct draft_list {
    struct draft *drafts;
    uint32_t count;
    struct bk_arena *arena; /* of the texts that are made */
};

/* What a collection of this type has, whatever its definition says. */
struct default_field {
    const char *name, *type, *definition;
    bool is_hidden; /* must be */
};
static const struct default_field id_field = {
    "id", "text",
    "{\"name\":\"id\",\"type\":\"text\",\"min\":15,\"max\":15,\"pattern\":\"^[a-z0-9]+$\","
    "\"autogeneratePattern\":\"[a-z0-9]{15}\",\"system\":true,\"required\":true,"
    "\"primaryKey\":true}",
    false};
/* "text" and the CRC-32 of "id". */
static const struct bk_slice id_field_id = BK_SLICE_INIT("text3208210256");
static const struct default_field auth_fields[] = {
    {"password", "password",
     "{\"name\":\"password\",\"type\":\"password\",\"min\":8,\"required\":true}", true},
    {"tokenKey", "text",
     "{\"name\":\"tokenKey\",\"type\":\"text\",\"min\":30,\"max\":60,\"required\":true,"
     "\"autogeneratePattern\":\"[a-zA-Z0-9]{50}\"}",
     true},
    {"email", "email", "{\"name\":\"email\",\"type\":\"email\",\"required\":true}", false},
    {"emailVisibility", "bool", "{\"name\":\"emailVisibility\",\"type\":\"bool\"}", false},
    {"verified", "bool", "{\"name\":\"verified\",\"type\":\"bool\"}", false},
};

/* --- which fields ----------------------------------------------------------------------------- */

static struct draft *find_by_id(const struct draft_list *list, struct bk_slice id) {
    for (uint32_t i = 0; i < list->count; i++)
        if (bk_slice_equal(list->drafts[i].id, id))
            return &list->drafts[i];
    return NULL;
}

static struct draft *find_by_name(const struct draft_list *list, struct bk_slice name) {
    for (uint32_t i = 0; i < list->count && name.length > 0; i++)
        if (bk_slice_equal(list->drafts[i].name, name))
            return &list->drafts[i];
    return NULL;
}

static void make_id(const struct draft_list *list, struct draft *draft) {
    struct bk_slice base = schema_checksum_id(list->arena, "", BK_SLICE_EMPTY, draft->name);
    base =
        bk_arena_format(list->arena, "%.*s%.*s", BK_SLICE_PRINT(draft->type), BK_SLICE_PRINT(base));
    draft->id = base;
    for (int i = 2; i < ID_TRIES_MAX && find_by_id(list, draft->id) != NULL; i++)
        draft->id = bk_arena_format(list->arena, "%.*s%d", BK_SLICE_PRINT(base), i);
}

static void add(struct draft_list *list, struct draft draft) {
    struct draft *place;
    if (draft.id.length == 0) {
        make_id(list, &draft);
        place = find_by_name(list, draft.name);
        if (place != NULL)
            draft.id = place->id;
    } else {
        place = find_by_id(list, draft.id);
    }
    if (place == NULL)
        place = &list->drafts[list->count++];
    *place = draft;
}

static enum bk_status read_member(const struct bk_json *definition, uint32_t index,
                                  const char *name, struct bk_slice *text, struct bk_error *error) {
    const struct bk_json *member = bk_json_get(definition, bk_slice_from(name));
    if (member != NULL && member->type != BK_JSON_STRING && member->type != BK_JSON_NULL)
        return bk_error_set(error, BK_INVALID, "fields.%u.%s must be a text", index, name);
    *text = member == NULL ? BK_SLICE("") : member->string;
    return BK_OK;
}

static enum bk_status read_drafts(const struct bk_schema_kind *kind, const struct bk_json *fields,
                                  struct draft_list *list, struct bk_error *error) {
    uint32_t index = 0;
    for (const struct bk_json *child = fields == NULL ? NULL : fields->child; child != NULL;
         child = child->next, index++) {
        struct draft draft = {.definition = child};
        enum bk_status status = BK_OK;
        if (child->type != BK_JSON_OBJECT)
            return bk_error_set(error, BK_INVALID, "fields.%u must be an object", index);
        status = read_member(child, index, "id", &draft.id, error);
        if (status == BK_OK)
            status = read_member(child, index, "name", &draft.name, error);
        if (status == BK_OK)
            status = read_member(child, index, "type", &draft.type, error);
        if (status != BK_OK)
            return status;
        if (bk_schema_type(kind, draft.type) == NULL)
            return bk_error_set(error, BK_INVALID,
                                "the field \"%.*s\": there is no field type \"%.*s\"",
                                BK_SLICE_PRINT(draft.name), BK_SLICE_PRINT(draft.type));
        add(list, draft);
    }
    return BK_OK;
}

/* A field of the same name counts only when it has the type too. */
static bool has_default(const struct draft_list *list, const struct default_field *wanted) {
    const struct draft *draft = find_by_name(list, bk_slice_from(wanted->name));
    return draft != NULL && bk_slice_equal(draft->type, bk_slice_from(wanted->type));
}

static void add_default(struct draft_list *list, const struct default_field *wanted,
                        bool is_first) {
    struct bk_json *definition;
    enum bk_status status =
        bk_json_parse(list->arena, bk_slice_from(wanted->definition), &definition, NULL);
    if (status != BK_OK) /* the arena is full, which the caller sees */
        return;
    struct draft draft = {.definition = definition,
                          .name = bk_slice_from(wanted->name),
                          .type = bk_slice_from(wanted->type)};
    if (!is_first) { /* in the place of a field of its name that has another type */
        add(list, draft);
        return;
    }
    if (find_by_id(list, id_field_id) != NULL)
        return; /* renamed: its place is taken, and that it is missing is said */
    make_id(list, &draft);
    memmove(list->drafts + 1, list->drafts, sizeof *list->drafts * list->count);
    list->drafts[0] = draft;
    list->count++;
}

/* A type that no module has registered is left out: a program without passwords has no logins. */
static void add_defaults(const struct bk_schema_kind *kind, struct draft_list *list,
                         enum bk_collection_type type) {
    if (type == BK_COLLECTION_VIEW)
        return;
    if (!has_default(list, &id_field))
        add_default(list, &id_field, true);
    if (type != BK_COLLECTION_AUTH)
        return;
    for (size_t i = 0; i < BK_COUNT_OF(auth_fields); i++)
        if (!has_default(list, &auth_fields[i]) &&
            bk_schema_type(kind, bk_slice_from(auth_fields[i].type)) != NULL)
            add_default(list, &auth_fields[i], false);
}

/* --- each field ------------------------------------------------------------------------------- */

static bool read_flag(const struct bk_json *definition, struct bk_slice name) {
    const struct bk_json *member = bk_json_get(definition, name);
    return member != NULL && member->type == BK_JSON_BOOL && member->boolean;
}

static bool has_flag(const struct bk_field_type *type, const char *name) {
    if (strcmp(name, "primaryKey") == 0)
        return type == &schema_type_text;
    return !type->is_read_only || strcmp(name, "required") != 0;
}

/* Those that the type has; others are keys that nobody knows. */
static enum bk_status check_flags(const struct bk_field_type *type,
                                  const struct bk_json *definition, uint32_t index,
                                  struct bk_error *error) {
    static const char *const names[] = {"system", "hidden", "presentable", "required",
                                        "primaryKey"};
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        const struct bk_json *member = bk_json_get(definition, bk_slice_from(names[i]));
        if (!has_flag(type, names[i]))
            continue;
        if (member != NULL && member->type != BK_JSON_BOOL && member->type != BK_JSON_NULL)
            return bk_error_set(error, BK_INVALID, "fields.%u.%s must be true or false", index,
                                names[i]);
    }
    return BK_OK;
}

/* What holds for the fields of the type whatever the definition says. */
static void enforce(struct bk_field *field, enum bk_collection_type type) {
    if (bk_slice_is(field->name, "id") && field->type == &schema_type_text) {
        field->is_system = field->is_required = field->is_primary_key = true;
        field->is_hidden = false;
    }
    for (size_t i = 0; type == BK_COLLECTION_AUTH && i < BK_COUNT_OF(auth_fields); i++) {
        if (!bk_slice_equal(field->name, bk_slice_from(auth_fields[i].name)) ||
            !bk_slice_equal(bk_slice_from(field->type->name), bk_slice_from(auth_fields[i].type)))
            continue;
        field->is_system = true;
        if (auth_fields[i].is_hidden)
            field->is_hidden = field->is_required = true;
        else if (bk_slice_is(field->name, "email"))
            field->is_hidden = false; /* emailVisibility decides */
        field->is_secret = bk_slice_is(field->name, "tokenKey");
    }
}

/* An option of another JSON type is no option that is wrong: it has not the form of one. */
static enum bk_status refuse_wrong_type(const struct bk_problems *problems, struct bk_slice path,
                                        struct bk_error *error) {
    for (const struct bk_problem *problem = problems->first; problem != NULL;
         problem = problem->next) {
        if (!bk_slice_is(problem->code, "validation_unsupported_value_type") ||
            !bk_slice_starts_with(problem->field, path))
            continue;
        struct bk_slice message = problem->message;
        if (bk_slice_ends_with(message, BK_SLICE("."))) /* the whole message ends in one */
            message.length--;
        return bk_error_set(error, BK_INVALID, "%.*s: %.*s", BK_SLICE_PRINT(problem->field),
                            BK_SLICE_PRINT(message));
    }
    return BK_OK;
}

static enum bk_status fill_in(const struct bk_schema_kind *kind, struct schema_box *box,
                              const struct draft *draft, uint32_t index,
                              struct bk_problems *problems, struct bk_error *error) {
    struct bk_field *field = &box->collection.fields[index];
    const struct bk_json *definition = draft->definition;
    const struct bk_field_type *type = bk_schema_type(kind, draft->type);
    enum bk_status status = check_flags(type, definition, index, error);
    struct bk_slice help = BK_SLICE("");
    if (status == BK_OK && !type->is_read_only)
        status = read_member(definition, index, "help", &help, error);
    if (status != BK_OK)
        return status;
    field->id = bk_arena_copy(&box->arena, draft->id);
    field->name = bk_arena_copy(&box->arena, draft->name);
    field->help = bk_arena_copy(&box->arena, help);
    field->type = type;
    field->collection = &box->collection;
    field->index = index;
    field->is_system = read_flag(definition, BK_SLICE("system"));
    field->is_hidden = read_flag(definition, BK_SLICE("hidden"));
    field->is_presentable = read_flag(definition, BK_SLICE("presentable"));
    field->is_required = !field->type->is_read_only && read_flag(definition, BK_SLICE("required"));
    field->is_primary_key =
        field->type == &schema_type_text && read_flag(definition, BK_SLICE("primaryKey"));
    enforce(field, box->collection.type);
    field->is_secret = field->is_secret || field->type->is_secret;
    field->options = bk_arena_alloc_zero(&box->arena, field->type->options_size + 1);
    struct bk_slice path = bk_arena_format(problems->arena, "fields.%u", index);
    if (field->type->configure != NULL)
        field->type->configure(field, definition, path, problems, &box->arena);
    return refuse_wrong_type(problems, path, error);
}

enum bk_status schema_fields_read(const struct bk_schema_kind *kind,
                                  const struct schema_source *source, struct schema_box *box,
                                  struct bk_problems *option_problems, struct bk_error *error) {
    struct bk_collection *collection = &box->collection;
    const struct bk_json *fields = schema_source_get(source, "fields");
    if (fields != NULL && fields->type == BK_JSON_NULL)
        fields = NULL;
    if (fields != NULL && fields->type != BK_JSON_ARRAY)
        return bk_error_set(error, BK_INVALID, "fields must be a list");
    if (collection->type == BK_COLLECTION_VIEW && !source->is_stored)
        fields = NULL; /* its query tells them: see view.c */
    if (fields != NULL && fields->child_count > BK_COLLECTION_FIELDS_MAX)
        return bk_error_set(error, BK_INVALID, "fields are more than %d", BK_COLLECTION_FIELDS_MAX);
    size_t room = DEFAULTS_MAX + (fields == NULL ? 0 : (size_t)fields->child_count);
    struct draft_list list = {.arena = source->arena};
    list.drafts = bk_arena_alloc(source->arena, sizeof *list.drafts * room);
    collection->fields = bk_arena_alloc_zero(&box->arena, sizeof *collection->fields * room);
    if (list.drafts == NULL || collection->fields == NULL || box->arena.is_overflown ||
        source->arena->is_overflown)
        return bk_error_set(error, BK_TOO_LARGE, "the definition is too large");
    enum bk_status status = read_drafts(kind, fields, &list, error);
    if (status != BK_OK)
        return status;
    add_defaults(kind, &list, collection->type);
    collection->field_count = list.count;
    for (uint32_t i = 0; i < list.count && status == BK_OK; i++)
        status = fill_in(kind, box, &list.drafts[i], i, option_problems, error);
    for (uint32_t i = list.count; i > 0; i--)
        if (bk_slice_is(collection->fields[i - 1].name, "id"))
            collection->id_field = &collection->fields[i - 1];
    return status;
}
