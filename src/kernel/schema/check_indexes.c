/* What makes the indexes of a definition wrong. The first problem is the only one, as in the
 * contract; whether SQLite takes them is seen when the table changes. */
#include "schema_private.h"

#include "bakend/assert.h"

struct parsed_indexes {
    struct schema_index *items;
    uint32_t count;
};

static void add(struct bk_problems *problems, uint32_t index, const char *code,
                const char *message) {
    bk_problems_add(problems, bk_arena_format(problems->arena, "indexes.%u", index), code, message);
}

static void add_named(struct bk_problems *problems, struct bk_slice path, const char *code,
                      const char *format, const char *parameter, struct bk_slice name) {
    struct bk_buffer params;
    bk_buffer_init(&params, 1024);
    bk_buffer_append_char(&params, '{');
    bk_json_write_member_string(&params, bk_slice_from(parameter), name);
    bk_buffer_append_char(&params, '}');
    char message[512];
    struct bk_buffer text;
    bk_buffer_init(&text, sizeof message - 1);
    const char *mark = strstr(format, "%s");
    BK_ASSERT(mark != NULL);
    bk_buffer_append(&text, format, (size_t)(mark - format));
    bk_buffer_append_slice(&text, name);
    bk_buffer_append_slice(&text, bk_slice_from(mark + 2));
    memcpy(message, text.data, text.length);
    message[text.length] = '\0';
    bk_problems_add_params(problems, path, code, message,
                           params.is_overflown ? BK_SLICE_EMPTY : bk_buffer_slice(&params));
    bk_buffer_fini(&text);
    bk_buffer_fini(&params);
}

/* An index with everything cut off that does not make it another one. */
static struct bk_slice essence(struct schema_index index, struct bk_arena *arena) {
    index.database = index.name = index.table = BK_SLICE("x");
    return schema_index_build(&index, arena);
}

/* The name of a collection, other than this one, whose index has this name. */
static struct bk_slice find_owner(const struct bk_schema *schema, const struct schema_box *box,
                                  const struct schema_box *old, struct bk_slice name) {
    for (size_t i = 0; i < schema->count; i++) {
        const struct schema_box *other = schema->boxes[i];
        for (uint32_t k = 0; other != old && other != box && k < other->collection.index_count; k++)
            if (bk_slice_equal_ignore_case(other->collection.indexes[k].name, name))
                return other->collection.name;
    }
    return BK_SLICE_EMPTY;
}

static bool check_one(const struct bk_schema *schema, const struct schema_box *box,
                      const struct schema_box *old, const struct parsed_indexes *parsed,
                      struct bk_problems *problems) {
    uint32_t last = parsed->count - 1;
    const struct schema_index *index = &parsed->items[last];
    for (uint32_t i = 0; i < last; i++) {
        if (bk_slice_equal_ignore_case(parsed->items[i].name, index->name)) {
            add(problems, last, "validation_duplicated_index_name",
                "The index name already exists.");
            return false;
        }
    }
    struct bk_slice owner = find_owner(schema, box, old, index->name);
    if (owner.length > 0) {
        add_named(problems, bk_arena_format(problems->arena, "indexes.%u", last),
                  "validation_existing_index_name",
                  "The index name is already used in %s collection.", "usedTableName", owner);
        return false;
    }
    struct bk_slice text = essence(*index, problems->arena);
    for (uint32_t i = 0; i < last; i++) {
        if (bk_slice_equal(essence(parsed->items[i], problems->arena), text)) {
            add(problems, last, "validation_duplicated_index_definition",
                "The index definition already exists.");
            return false;
        }
    }
    return true;
}

/* --- unique indexes on system fields stay ----------------------------------------------------- */

static struct bk_slice unique_essence(struct schema_index index, struct bk_slice condition,
                                      struct bk_arena *arena) {
    struct schema_index_column *columns =
        bk_arena_alloc(arena, sizeof *columns * (index.column_count + 1));
    for (uint32_t i = 0; i < index.column_count; i++)
        columns[i] = (struct schema_index_column){.name = index.columns[i].name};
    index.columns = columns;
    index.condition = condition;
    return essence(index, arena);
}

static const struct bk_field *system_field_of(const struct schema_index *index,
                                              const struct schema_box *box) {
    for (uint32_t i = 0; i < index->column_count; i++) {
        for (uint32_t k = 0; k < box->collection.field_count; k++) {
            const struct bk_field *field = &box->collection.fields[k];
            if (field->is_system && bk_slice_equal_ignore_case(field->name, index->columns[i].name))
                return field;
        }
    }
    return NULL;
}

static void check_kept(const struct schema_box *old, const struct parsed_indexes *parsed,
                       struct bk_problems *problems) {
    for (uint32_t i = 0; i < old->collection.index_count; i++) {
        struct schema_index index;
        if (!schema_index_parse(old->collection.indexes[i].sql, problems->arena, &index) ||
            !index.is_unique)
            continue;
        const struct bk_field *field = system_field_of(&index, old);
        if (field == NULL)
            continue;
        struct bk_slice wanted = unique_essence(index, index.condition, problems->arena);
        bool has = false;
        for (uint32_t k = 0; k < parsed->count && !has; k++)
            has = bk_slice_equal(unique_essence(parsed->items[k], index.condition, problems->arena),
                                 wanted);
        if (has)
            continue;
        add_named(problems, BK_SLICE("indexes"), "validation_invalid_unique_system_field_index",
                  "Unique index definition on system fields (%s) is invalid or missing.",
                  "fieldName", field->name);
        return;
    }
}

void schema_indexes_check(const struct bk_schema *schema, const struct schema_box *box,
                          const struct schema_box *old, struct bk_problems *problems) {
    const struct bk_collection *collection = &box->collection;
    if (collection->type == BK_COLLECTION_VIEW) {
        if (collection->index_count > 0)
            bk_problems_add(problems, BK_SLICE("indexes"), "validation_indexes_not_supported",
                            "View collections don't support indexes.");
        return;
    }
    struct parsed_indexes parsed = {.count = 0};
    parsed.items =
        bk_arena_alloc_zero(problems->arena, sizeof *parsed.items * (collection->index_count + 1));
    for (uint32_t i = 0; i < collection->index_count && !problems->arena->is_overflown; i++) {
        if (!schema_index_parse(collection->indexes[i].sql, problems->arena,
                                &parsed.items[parsed.count])) {
            add(problems, i, "validation_invalid_index_expression",
                "Invalid CREATE INDEX expression.");
            return;
        }
        parsed.count++;
        if (!check_one(schema, box, old, &parsed, problems))
            return;
    }
    if (old != NULL && !problems->arena->is_overflown)
        check_kept(old, &parsed, problems);
}
