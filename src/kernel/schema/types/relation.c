/* relation: the ids of one or several records of another collection. That they exist is checked
 * inside the transaction, so that no record can point at one that a neighbour has just deleted. */
#include "types.h"

#include "bakend/assert.h"

struct relation_options {
    struct bk_slice collection_id;
    int64_t minimum, maximum; /* above 1: several */
    bool cascades;
};

bool bk_relation_of(const struct bk_field *field, struct bk_relation *relation) {
    if (field->type != &schema_type_relation)
        return false;
    const struct relation_options *options = field->options;
    *relation = (struct bk_relation){
        .collection = field->collection,
        .field = field,
        .target_id = options->collection_id,
        .is_multiple = options->maximum > 1,
        .cascades = options->cascades,
    };
    return true;
}

static bool is_multiple(const struct bk_field *field) {
    const struct relation_options *options = field->options;
    return options->maximum > 1;
}

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    struct schema_list list = schema_cast_list(input, arena);
    schema_list_store(&list, is_multiple(field), value, arena);
}

static void modify(const struct bk_field *field, enum bk_modifier modifier,
                   const struct bk_json *input, struct bk_value *value, struct bk_arena *arena) {
    schema_list_modify(is_multiple(field), modifier, input, value, arena);
}

static void empty(const struct bk_field *field, struct bk_value *value) {
    *value = BK_VALUE_OF_TEXT(is_multiple(field) ? BK_SLICE("[]") : BK_SLICE(""));
}

static uint32_t count_ids(const struct bk_field *field, const struct bk_value *value) {
    if (schema_value_is_empty_text(value))
        return 0;
    return is_multiple(field) ? schema_list_count(value->text) : 1;
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    const struct relation_options *options = field->options;
    int64_t count = count_ids(field, value);
    int64_t maximum = options->maximum > 1 ? options->maximum : 1;
    if (maximum > SCHEMA_RELATION_COUNT_MAX)
        maximum = SCHEMA_RELATION_COUNT_MAX;
    if (count == 1 && maximum == 1 && schema_list_is_several(value->text, problems->arena))
        count = 2;
    if (count == 0)
        schema_problem_if_required(field, problems);
    else if (count < options->minimum)
        schema_problem_int(field, problems, "validation_not_enough_values", "Select at least %s.",
                           "minSelect", options->minimum);
    else if (count > maximum)
        schema_problem_int(field, problems, "validation_too_many_values", "Select no more than %s.",
                           "maxSelect", maximum);
}

/* id: as it is, or as it stands in a JSON array. */
static enum bk_status find(struct bk_statement *statement, struct bk_slice id) {
    if (id.length >= 2 && id.data[0] == '"')
        id = bk_slice_make(id.data + 1, id.length - 2);
    bk_statement_bind_text(statement, 1, id);
    enum bk_status status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status;
}

static enum bk_status find_all(const struct bk_field *field, const struct bk_value *value,
                               struct bk_statement *statement) {
    if (!is_multiple(field))
        return find(statement, value->text);
    struct bk_slice array = value->text, id;
    enum bk_status status = BK_OK;
    while (status == BK_OK && schema_list_next(&array, &id))
        status = find(statement, id);
    return status;
}

static enum bk_status check(const struct bk_field *field, const struct bk_value *value,
                            struct bk_transaction *transaction, const struct bk_schema *schema,
                            struct bk_problems *problems) {
    const struct relation_options *options = field->options;
    if (count_ids(field, value) == 0)
        return BK_OK;
    const struct bk_collection *target = bk_schema_find(schema, options->collection_id);
    if (target == NULL) {
        bk_problems_add(problems, field->name, "validation_missing_rel_collection",
                        "Relation connection is missing or cannot be accessed.");
        return BK_OK;
    }
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(bk_transaction_connection(transaction),
                                                    &target->exists_by_id, &statement);
    if (status == BK_OK)
        status = find_all(field, value, statement);
    if (status != BK_END)
        return status;
    bk_problems_add(problems, field->name, "validation_missing_rel_records",
                    "Failed to find all relation records with the provided ids.");
    return BK_OK;
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct relation_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    options->collection_id = schema_option_text(&reader, "collectionId");
    options->cascades = schema_option_bool(&reader, "cascadeDelete");
    options->minimum = schema_option_int_within(&reader, "minSelect", 0, INT64_MAX);
    int64_t least = options->minimum > 0 ? options->minimum : 0;
    options->maximum = schema_option_int_within(&reader, "maxSelect", least, INT64_MAX);
    if (options->collection_id.length == 0)
        schema_option_problem(&reader, "collectionId", "validation_required", "Cannot be blank.");
    if (options->minimum > 0 && options->maximum == 0)
        schema_option_problem(&reader, "maxSelect", "validation_required", "Cannot be blank.");
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct relation_options *options = field->options;
    bk_json_write_member_bool(out, BK_SLICE("cascadeDelete"), options->cascades);
    bk_json_write_member_string(out, BK_SLICE("collectionId"), options->collection_id);
    bk_json_write_member_int(out, BK_SLICE("maxSelect"), options->maximum);
    bk_json_write_member_int(out, BK_SLICE("minSelect"), options->minimum);
}

static const char *column_of(const struct bk_field *field) {
    return is_multiple(field) ? "JSON DEFAULT '[]' NOT NULL" : "TEXT DEFAULT '' NOT NULL";
}

static void write_json(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out) {
    schema_list_write_json(is_multiple(field), value, out);
}

const struct bk_field_type schema_type_relation = {
    .name = "relation",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct relation_options),
    .configure = configure,
    .write_options = write_options,
    .column_of = column_of,
    .normalise = normalise,
    .modifiers = BK_MODIFIER_APPEND | BK_MODIFIER_PREPEND | BK_MODIFIER_REMOVE,
    .modify = modify,
    .empty = empty,
    .validate = validate,
    .check = check,
    .write_json = write_json,
};
