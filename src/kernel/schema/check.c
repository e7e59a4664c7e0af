/*
 * What makes a definition wrong, with the contract's codes. Each member of the definition reports
 * its first problem; of the fields, a rule over the whole list (duplicates, a missing id, a removed
 * system field) hides what is wrong with single ones.
 */
#include "schema_private.h"
#include "types/types.h"

#include "bakend/assert.h"
#include <stdio.h>

enum { HELP_BYTES_MAX = 300, COLLECTION_ID_BYTES_MAX = 100 };

struct checking {
    const struct bk_schema_kind *kind;
    const struct bk_schema *schema;
    const struct schema_box *box, *old;
    bool is_own;
    struct bk_problems *problems;
};

static bool is_word(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_')
            return false;
    }
    return text.length > 0;
}

static void add(const struct checking *checking, struct bk_slice field, const char *code,
                const char *message) {
    bk_problems_add(checking->problems, field, code, message);
}

/* --- texts ------------------------------------------------------------------------------------ */

static bool check_required(const struct checking *checking, struct bk_slice path,
                           struct bk_slice text) {
    if (text.length > 0)
        return true;
    add(checking, path, "validation_required", "Cannot be blank.");
    return false;
}

static bool check_length(const struct checking *checking, struct bk_slice path,
                         struct bk_slice text, unsigned maximum) {
    if (text.length <= maximum)
        return true;
    char message[96], params[64];
    snprintf(message, sizeof message, "The length must be between 1 and %u.", maximum);
    snprintf(params, sizeof params, "{\"max\":%u,\"min\":1}", maximum);
    bk_problems_add_params(checking->problems, path, "validation_length_out_of_range", message,
                           bk_slice_from(params));
    return false;
}

static bool check_word(const struct checking *checking, struct bk_slice path,
                       struct bk_slice text) {
    if (is_word(text))
        return true;
    add(checking, path, "validation_match_invalid", "Must be in a valid format.");
    return false;
}

/* Back-relations are written name_via_field in filters, so no name may look like one. */
static bool check_via(const struct checking *checking, struct bk_slice path, struct bk_slice text) {
    for (size_t i = 0; i + 5 <= text.length; i++) {
        if (bk_slice_equal_ignore_case(bk_slice_make(text.data + i, 5), BK_SLICE("_via_"))) {
            add(checking, path, "validation_found_via", "The value cannot contain \"_via_\".");
            return false;
        }
    }
    return true;
}

/* --- the collection itself -------------------------------------------------------------------- */

/* The schema may be one that has the box already, and then another one twice. */
static bool is_other(const struct checking *checking, const struct schema_box *box) {
    return box != checking->box && box != checking->old;
}

static bool has_other_with_id(const struct checking *checking, struct bk_slice id) {
    for (size_t i = 0; i < checking->schema->count; i++)
        if (is_other(checking, checking->schema->boxes[i]) &&
            bk_slice_equal(checking->schema->boxes[i]->collection.id, id))
            return true;
    return false;
}

static bool has_other_with_name(const struct checking *checking, struct bk_slice folded) {
    for (size_t i = 0; i < checking->schema->count; i++)
        if (is_other(checking, checking->schema->boxes[i]) &&
            bk_slice_equal(checking->schema->boxes[i]->folded, folded))
            return true;
    return false;
}

static void check_id(const struct checking *checking) {
    static const struct bk_slice path = BK_SLICE_INIT("id");
    struct bk_slice id = checking->box->collection.id;
    if (checking->old != NULL)
        return; /* cannot change: see change.c */
    if (check_length(checking, path, id, COLLECTION_ID_BYTES_MAX) &&
        check_word(checking, path, id) && has_other_with_id(checking, id))
        add(checking, path, "validation_invalid_or_existing_id",
            "The model id is invalid or already exists.");
}

static bool check_name_is_free(const struct checking *checking, struct bk_slice name) {
    static const struct bk_slice path = BK_SLICE_INIT("name");
    if (has_other_with_name(checking, checking->box->folded)) {
        add(checking, path, "validation_collection_name_exists",
            "Collection name must be unique (case insensitive).");
        return false;
    }
    if (bk_map_get(&checking->schema->by_id, name) != NULL) {
        add(checking, path, "validation_collection_name_id_duplicate",
            "The name must not match an existing collection id.");
        return false;
    }
    return true;
}

/* Names that are kept for the program. */
static void check_name_is_ours(const struct checking *checking, struct bk_slice name) {
    static const struct bk_slice path = BK_SLICE_INIT("name");
    if (checking->is_own ||
        (checking->old != NULL && bk_slice_equal(name, checking->old->collection.name)))
        return;
    if (name.data[0] == '_')
        add(checking, path, "validation_collection_name_invalid",
            "Names that begin with \"_\" are the system's: choose another one.");
    else if (bk_map_get(&checking->kind->reserved, checking->box->folded) != NULL)
        add(checking, path, "validation_collection_name_invalid",
            "The system's own events begin with this word: choose another name.");
}

static void check_name(const struct checking *checking) {
    static const struct bk_slice path = BK_SLICE_INIT("name");
    struct bk_slice name = checking->box->collection.name;
    const struct bk_collection *old = checking->old == NULL ? NULL : &checking->old->collection;
    if (!check_required(checking, path, name) ||
        !check_length(checking, path, name, BK_COLLECTION_NAME_BYTES_MAX) ||
        !check_via(checking, path, name) || !check_word(checking, path, name))
        return;
    if (old != NULL && old->is_system && !bk_slice_equal(name, old->name))
        add(checking, path, "validation_collection_system_name_change",
            "System collection name cannot be changed.");
    else if (check_name_is_free(checking, name))
        check_name_is_ours(checking, name);
}

static void check_type(const struct checking *checking) {
    static const struct bk_slice path = BK_SLICE_INIT("type");
    const struct bk_collection *collection = &checking->box->collection;
    const struct bk_collection *old = checking->old == NULL ? NULL : &checking->old->collection;
    if (old != NULL && old->type != collection->type)
        add(checking, path, "validation_collection_type_change",
            "Collection type cannot be changed.");
    if (old != NULL && old->is_system != collection->is_system)
        add(checking, BK_SLICE("system"), "validation_collection_system_flag_change",
            "System collection state cannot be changed.");
}

static bool is_same_rule(struct bk_slice a, struct bk_slice b) {
    return (a.data == NULL) == (b.data == NULL) && bk_slice_equal(a, b);
}

/* Nobody writes to a view. */
static bool check_no_rule(const struct checking *checking, size_t operation, struct bk_slice path) {
    if (checking->box->collection.type != BK_COLLECTION_VIEW || operation < BK_MAY_CREATE ||
        operation > BK_MAY_DELETE || checking->box->collection.rules[operation].data == NULL)
        return true;
    add(checking, path, "validation_nil", "Must be blank.");
    return false;
}

static void check_rules(const struct checking *checking) {
    static const char *const names[] = {"listRule",   "viewRule",   "createRule",
                                        "updateRule", "deleteRule", "manageRule"};
    for (size_t i = 0; i < BK_OPERATION_COUNT; i++) {
        struct bk_slice rule = checking->box->collection.rules[i];
        struct bk_slice path = bk_slice_from(names[i]);
        if (!check_no_rule(checking, i, path))
            continue;
        if (rule.length > 0 &&
            !checking->kind->is_rule_valid(checking->schema, &checking->box->collection, rule, path,
                                           checking->problems))
            continue;
        const struct bk_collection *old = checking->old == NULL ? NULL : &checking->old->collection;
        if (old != NULL && old->is_system && !checking->is_own &&
            !is_same_rule(rule, old->rules[i]))
            add(checking, path, "validation_collection_system_rule_change",
                "System collection API rule cannot be changed.");
    }
}

/* --- the fields as a list --------------------------------------------------------------------- */

static struct bk_slice field_path(const struct checking *checking, uint32_t index,
                                  const char *member) {
    return bk_arena_format(checking->problems->arena, "fields.%u%s", index, member);
}

static const struct bk_field *find_by_id(const struct schema_box *box, struct bk_slice id) {
    for (uint32_t i = 0; box != NULL && i < box->collection.field_count; i++)
        if (bk_slice_equal(box->collection.fields[i].id, id))
            return &box->collection.fields[i];
    return NULL;
}

static bool check_duplicates(const struct checking *checking) {
    const struct bk_collection *collection = &checking->box->collection;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        struct bk_slice name = collection->fields[i].name;
        for (uint32_t k = 0; k < i; k++) {
            if (!bk_slice_equal_ignore_case(name, collection->fields[k].name))
                continue;
            struct bk_buffer params;
            struct bk_arena *arena = checking->problems->arena;
            bk_buffer_init(&params, 1024);
            bk_buffer_append_char(&params, '{');
            bk_json_write_member_string(&params, BK_SLICE("fieldName"), name);
            bk_buffer_append_char(&params, '}');
            bk_problems_add_params(checking->problems, field_path(checking, i, ".name"),
                                   "validation_duplicated_field_name",
                                   bk_arena_format(arena, "Duplicated or invalid field name %.*s.",
                                                   BK_SLICE_PRINT(name))
                                       .data,
                                   params.is_overflown ? BK_SLICE_EMPTY : bk_buffer_slice(&params));
            bk_buffer_fini(&params);
            return false;
        }
    }
    return true;
}

static bool check_id_field(const struct checking *checking) {
    const struct bk_field *field = checking->box->collection.id_field;
    if (field != NULL && field->is_primary_key)
        return true;
    if (checking->box->collection.field_count == 0) {
        add(checking, BK_SLICE("fields"), "validation_required", "Cannot be blank.");
        return false;
    }
    add(checking, BK_SLICE("fields"), "validation_missing_primary_key",
        "Missing or invalid \"id\" PK field.");
    return false;
}

static bool check_system_fields(const struct checking *checking) {
    const struct schema_box *old = checking->old;
    if (checking->box->collection.type == BK_COLLECTION_VIEW)
        return true;
    for (uint32_t i = 0; old != NULL && i < old->collection.field_count; i++) {
        const struct bk_field *field = &old->collection.fields[i];
        const struct bk_field *kept = find_by_id(checking->box, field->id);
        if (!field->is_system || (kept != NULL && bk_slice_equal(kept->name, field->name)))
            continue;
        add(checking, BK_SLICE("fields"), "validation_system_field_change",
            "System fields cannot be deleted or renamed.");
        return false;
    }
    return true;
}

static bool check_field_types(const struct checking *checking) {
    uint32_t before = checking->problems->count;
    const struct bk_collection *collection = &checking->box->collection;
    for (uint32_t i = 0; collection->type != BK_COLLECTION_VIEW && i < collection->field_count;
         i++) {
        const struct bk_field *old = find_by_id(checking->old, collection->fields[i].id);
        if (old != NULL && old->type != collection->fields[i].type)
            add(checking, field_path(checking, i, ""), "validation_field_type_change",
                "Field type cannot be changed.");
    }
    return checking->problems->count == before;
}

static bool check_reserved_fields(const struct checking *checking) {
    uint32_t before = checking->problems->count;
    const struct bk_collection *collection = &checking->box->collection;
    for (uint32_t i = 0; collection->type == BK_COLLECTION_AUTH && i < collection->field_count;
         i++) {
        struct bk_slice name = collection->fields[i].name;
        if (bk_slice_is(name, "passwordConfirm") || bk_slice_is(name, "oldPassword"))
            add(checking, field_path(checking, i, ".name"), "validation_reserved_field_name",
                "The field name is reserved and cannot be used.");
    }
    return checking->problems->count == before;
}

/* --- each field ------------------------------------------------------------------------------- */

static bool is_excluded_name(struct bk_slice name) {
    static const char *const names[] = {"null",         "true",           "false", "_rowid_",
                                        "collectionId", "collectionName", "expand"};
    for (size_t i = 0; i < BK_COUNT_OF(names); i++)
        if (bk_slice_equal(name, bk_slice_from(names[i])))
            return true;
    return false;
}

static void check_field_name(const struct checking *checking, const struct bk_field *field) {
    struct bk_slice path = field_path(checking, field->index, ".name");
    if (!check_required(checking, path, field->name) ||
        !check_length(checking, path, field->name, SCHEMA_NAME_BYTES_MAX) ||
        !check_word(checking, path, field->name))
        return;
    if (is_excluded_name(field->name))
        add(checking, path, "validation_not_in_invalid", "Must not be in list.");
    else if (check_via(checking, path, field->name) && field->is_primary_key &&
             !bk_slice_is(field->name, "id"))
        add(checking, path, "validation_in_invalid", "The primary key must be named \"id\".");
}

static void check_primary_key(const struct checking *checking, const struct bk_field *field) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < checking->box->collection.field_count; i++)
        count += checking->box->collection.fields[i].is_primary_key;
    if (field->is_primary_key && count > 1)
        add(checking, field_path(checking, field->index, ".primaryKey"),
            "validation_unsupported_composite_pk",
            "Composite PKs are not supported and the collection must have only 1 PK.");
    if (field->is_primary_key && !field->is_required)
        add(checking, field_path(checking, field->index, ".required"), "validation_required",
            "Cannot be blank.");
    if (field->is_primary_key && field->is_hidden)
        add(checking, field_path(checking, field->index, ".hidden"), "validation_empty",
            "Must be blank.");
}

static void check_relation(const struct checking *checking, const struct bk_field *field) {
    struct bk_relation relation, former;
    if (!bk_relation_of(field, &relation) || relation.target_id.length == 0)
        return;
    struct bk_slice path = field_path(checking, field->index, ".collectionId");
    const struct bk_field *old = find_by_id(checking->old, field->id);
    const struct schema_box *target = bk_map_get(&checking->schema->by_id, relation.target_id);
    bool is_own =
        bk_slice_equal(relation.target_id, checking->box->collection.id) && checking->old != NULL;
    bool is_of_view = checking->box->collection.type == BK_COLLECTION_VIEW;
    if (old != NULL && !is_of_view && bk_relation_of(old, &former) &&
        !bk_slice_equal(former.target_id, relation.target_id))
        add(checking, path, "validation_field_relation_change",
            "The relation collection cannot be changed.");
    else if (target == NULL && !is_own)
        add(checking, path, "validation_field_relation_missing_collection",
            "The relation collection doesn't exist.");
    else if (target != NULL && target->collection.type == BK_COLLECTION_VIEW && !is_of_view)
        add(checking, path, "validation_relation_field_non_view_base_collection",
            "Only view collections are allowed to have relations to other views.");
}

static void check_field(const struct checking *checking, const struct bk_field *field) {
    struct bk_slice path = field_path(checking, field->index, ".id");
    if (check_required(checking, path, field->id))
        check_length(checking, path, field->id, SCHEMA_NAME_BYTES_MAX);
    check_field_name(checking, field);
    check_length(checking, field_path(checking, field->index, ".help"), field->help,
                 HELP_BYTES_MAX);
    check_primary_key(checking, field);
    check_relation(checking, field);
}

static void add_option_problems(const struct checking *checking,
                                const struct bk_problems *option_problems) {
    for (const struct bk_problem *problem = option_problems->first; problem != NULL;
         problem = problem->next) {
        if (bk_slice_starts_with(problem->field, BK_SLICE("fields.")))
            bk_problems_add_params(checking->problems, problem->field, problem->code.data,
                                   problem->message.data, problem->params);
    }
}

static void check_fields(const struct checking *checking,
                         const struct bk_problems *option_problems) {
    if (!check_duplicates(checking) || !check_id_field(checking) ||
        !check_system_fields(checking) || !check_field_types(checking) ||
        !check_reserved_fields(checking))
        return;
    const struct bk_collection *collection = &checking->box->collection;
    for (uint32_t i = 0; i < collection->field_count; i++)
        check_field(checking, &collection->fields[i]);
    add_option_problems(checking, option_problems);
}

void schema_definition_check(const struct bk_schema_kind *kind, const struct bk_schema *schema,
                             const struct schema_box *box, const struct schema_box *old,
                             bool is_own, const struct bk_problems *option_problems,
                             struct bk_problems *problems) {
    const struct checking checking = {kind, schema, box, old, is_own, problems};
    /* What is wrong with members of the definition itself was seen while it was read. */
    for (const struct bk_problem *problem = option_problems->first; problem != NULL;
         problem = problem->next)
        if (!bk_slice_starts_with(problem->field, BK_SLICE("fields.")))
            bk_problems_add_params(problems, problem->field, problem->code.data,
                                   problem->message.data, problem->params);
    check_id(&checking);
    check_type(&checking);
    check_name(&checking);
    check_fields(&checking, option_problems);
    schema_indexes_check(schema, box, old, problems);
    schema_auth_check(kind, schema, box, old, is_own, problems);
}

void schema_rules_check(const struct bk_schema_kind *kind, const struct bk_schema *schema,
                        const struct schema_box *box, const struct schema_box *old, bool is_own,
                        struct bk_problems *problems) {
    const struct checking checking = {kind, schema, box, old, is_own, problems};
    check_rules(&checking);
}
