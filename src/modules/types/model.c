/*
 * Collections in the order of their names, so that the same definitions give the same text wherever
 * they were made. Two collections whose names differ only in what types cannot show get a number.
 */
#include "types_private.h"

#include <stdlib.h>

static int compare(const void *left, const void *right) {
    const struct types_collection *one = left, *other = right;
    return bk_slice_compare(one->name, other->name);
}

static bool is_taken(const struct types_model *model, size_t count, struct bk_slice type) {
    for (size_t i = 0; i < count; i++)
        if (bk_slice_equal_ignore_case(model->collections[i].type, type))
            return true;
    return false;
}

static struct bk_slice unique_type(const struct types_model *model, size_t index) {
    struct bk_slice base = types_name(model->arena, model->collections[index].name);
    struct bk_slice type = base;
    for (unsigned number = 2; is_taken(model, index, type); number++)
        type = bk_arena_format(model->arena, "%.*s%u", BK_SLICE_PRINT(base), number);
    return type;
}

void types_model_init(struct types_model *model, const struct bk_json *definitions,
                      struct bk_arena *arena) {
    size_t count = 0;
    for (const struct bk_json *item = definitions; item != NULL; item = item->next)
        count++;
    *model = (struct types_model){.arena = arena};
    model->collections = bk_arena_alloc_zero(arena, (count + 1) * sizeof *model->collections);
    if (arena->is_overflown)
        return;
    for (const struct bk_json *item = definitions; item != NULL; item = item->next) {
        struct types_collection *collection = &model->collections[model->count++];
        struct bk_slice type = bk_json_get_string(item, BK_SLICE("type"));
        collection->definition = item;
        collection->name = bk_json_get_string(item, BK_SLICE("name"));
        collection->id = bk_json_get_string(item, BK_SLICE("id"));
        collection->is_auth = bk_slice_is(type, "auth");
        collection->is_view = bk_slice_is(type, "view");
    }
    qsort(model->collections, model->count, sizeof *model->collections, compare);
    for (size_t i = 0; i < model->count; i++)
        model->collections[i].type = unique_type(model, i);
}

const struct types_collection *types_model_find(const struct types_model *model,
                                                struct bk_slice id) {
    for (size_t i = 0; i < model->count; i++)
        if (bk_slice_equal(model->collections[i].id, id))
            return &model->collections[i];
    return NULL;
}

/* --- definitions ------------------------------------------------------------------------------ */

const struct bk_json *types_fields(const struct types_collection *collection) {
    const struct bk_json *fields = bk_json_get(collection->definition, BK_SLICE("fields"));
    return fields == NULL ? NULL : fields->child;
}

bool types_field_is(const struct bk_json *field, const char *type) {
    return bk_slice_equal(bk_json_get_string(field, BK_SLICE("type")), bk_slice_from(type));
}

bool types_flag(const struct bk_json *object, const char *name) {
    const struct bk_json *member = bk_json_get(object, bk_slice_from(name));
    return member != NULL && member->type == BK_JSON_BOOL && member->boolean;
}

bool types_is_multiple(const struct bk_json *field) {
    const struct bk_json *maximum = bk_json_get(field, BK_SLICE("maxSelect"));
    int64_t count = 0;
    bool is_list = types_field_is(field, "select") || types_field_is(field, "relation") ||
                   types_field_is(field, "file");
    return is_list && maximum != NULL && bk_json_to_int64(maximum, &count) && count > 1;
}

/* What is between the parentheses, without quotes and what follows the name; empty when it is more
 * than one column. */
static struct bk_slice only_column(struct bk_slice sql) {
    size_t open = bk_slice_find(sql, '(');
    if (open == sql.length)
        return BK_SLICE_EMPTY;
    struct bk_slice inside = bk_slice_make(sql.data + open + 1, sql.length - open - 1);
    inside.length = bk_slice_find(inside, ')');
    if (bk_slice_find(inside, ',') < inside.length || bk_slice_find(inside, '(') < inside.length)
        return BK_SLICE_EMPTY;
    inside = bk_slice_trim(inside);
    inside.length = bk_slice_find(inside, ' ');
    if (inside.length > 2 && strchr("`\"[", inside.data[0]) != NULL)
        inside = bk_slice_make(inside.data + 1, inside.length - 2);
    return inside;
}

static bool is_unique_index(struct bk_slice sql) {
    struct bk_slice create, word, rest = bk_slice_trim(sql);
    return bk_slice_split(&rest, ' ', &create) && bk_slice_split(&rest, ' ', &word) &&
           bk_slice_equal_ignore_case(word, BK_SLICE("UNIQUE"));
}

bool types_is_unique(const struct types_collection *collection, struct bk_slice field) {
    const struct bk_json *indexes = bk_json_get(collection->definition, BK_SLICE("indexes"));
    for (const struct bk_json *index = indexes == NULL ? NULL : indexes->child; index != NULL;
         index = index->next)
        if (is_unique_index(index->string) &&
            bk_slice_equal_ignore_case(only_column(index->string), field))
            return true;
    return false;
}
