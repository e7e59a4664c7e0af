/*
 * JSON in columns, as SQLite's json_extract and json_each read it: a text gives its text, true and
 * false 1 and 0, an object or a list its own JSON. A column that holds no JSON is a text, and a
 * list of one.
 */
#include "rules_private.h"

/* --- reading ---------------------------------------------------------------------------------- */

/* Whether it could be JSON to others that the program's own reader, which is strict, refuses. */
static bool may_be_json(struct bk_slice text) {
    text = bk_slice_trim(text);
    return text.length > 0 && strchr("{[\"", text.data[0]) != NULL && text.data[0] != '\0';
}

static enum filter_json parse(struct bk_arena *arena, struct bk_slice text,
                              const struct bk_json **json) {
    struct bk_json *parsed;
    if (bk_json_parse(arena, text, &parsed, NULL) == BK_OK) {
        *json = parsed;
        return FILTER_JSON_IS;
    }
    return may_be_json(text) || arena->is_overflown ? FILTER_JSON_UNKNOWN : FILTER_JSON_IS_NOT;
}

enum filter_json filter_row_json(struct filter_row *row, const struct bk_field *field,
                                 const struct bk_json **json) {
    const struct bk_value *value = &row->values[field->index];
    struct bk_value text = *value;
    if (value->type == BK_VALUE_NULL || (value->type == BK_VALUE_TEXT && value->text.length == 0))
        return FILTER_JSON_IS_NOT;
    if (row->json == NULL) {
        size_t size = row->collection->field_count * sizeof *row->json;
        row->json = bk_arena_alloc_zero(row->arena, size);
        if (row->arena->is_overflown) {
            row->json = NULL;
            return FILTER_JSON_UNKNOWN;
        }
    }
    if (row->json[field->index] == NULL) {
        text.text = filter_text_of(row->arena, value);
        enum filter_json answer = parse(row->arena, text.text, &row->json[field->index]);
        if (answer != FILTER_JSON_IS)
            return answer;
    }
    *json = row->json[field->index];
    return FILTER_JSON_IS;
}

/* --- paths ------------------------------------------------------------------------------------ */

static const struct bk_json *element_at(const struct bk_json *json, struct bk_slice index) {
    int64_t at;
    if (json->type != BK_JSON_ARRAY || !bk_slice_to_int64(index, &at))
        return NULL;
    for (json = json->child; json != NULL && at > 0; at--)
        json = json->next;
    return json;
}

static size_t step_end(struct bk_slice path) {
    size_t end = 1;
    while (end < path.length && path.data[end] != '.' && path.data[end] != '[' &&
           path.data[end] != ']')
        end++;
    return end;
}

const struct bk_json *filter_json_at(const struct bk_json *json, struct bk_slice path) {
    while (json != NULL && path.length > 0) {
        size_t end = step_end(path);
        struct bk_slice word = bk_slice_make(path.data + 1, end - 1);
        if (path.data[0] == '[') {
            json = element_at(json, word);
            end++; /* the closing bracket */
        } else {
            json = bk_json_get(json, word);
        }
        path = bk_slice_make(path.data + end, path.length - end);
    }
    return json;
}

/* --- values ----------------------------------------------------------------------------------- */

struct bk_slice filter_json_compact(struct bk_arena *arena, struct bk_slice text) {
    size_t length = 0;
    bool is_in_text = false;
    char *out = bk_arena_alloc(arena, text.length + 1);
    if (arena->is_overflown)
        return BK_SLICE_EMPTY;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (!is_in_text && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
            continue;
        out[length++] = c;
        if (is_in_text && c == '\\' && i + 1 < text.length)
            out[length++] = text.data[++i];
        else if (c == '"')
            is_in_text = !is_in_text;
    }
    return bk_slice_make(out, length);
}

struct bk_value filter_json_value(struct bk_arena *arena, const struct bk_json *json) {
    if (json == NULL)
        return BK_VALUE_OF_NULL;
    switch (json->type) {
    case BK_JSON_NULL:
        return BK_VALUE_OF_NULL;
    case BK_JSON_BOOL:
        return BK_VALUE_OF_INT(json->boolean ? 1 : 0);
    case BK_JSON_NUMBER:
        return filter_number_of(json->text);
    case BK_JSON_STRING:
        return BK_VALUE_OF_TEXT(json->string);
    case BK_JSON_ARRAY:
    case BK_JSON_OBJECT:
        break;
    }
    return BK_VALUE_OF_TEXT(filter_json_compact(arena, json->text));
}

/* --- elements --------------------------------------------------------------------------------- */

static void set_one(struct filter_elements *elements, struct bk_arena *arena,
                    struct bk_value value) {
    elements->items = bk_arena_alloc(arena, sizeof value);
    elements->items[0] = value;
    elements->count = 1;
}

/* A LEFT JOIN: where there is nothing, there is NULL. */
static void set_all(struct filter_elements *elements, struct bk_arena *arena,
                    const struct bk_json *list) {
    if (list->child_count == 0) {
        set_one(elements, arena, BK_VALUE_OF_NULL);
        return;
    }
    struct bk_value *items = bk_arena_alloc(arena, list->child_count * sizeof *items);
    if (arena->is_overflown)
        return;
    elements->items = items;
    for (const struct bk_json *each = list->child; each != NULL; each = each->next)
        items[elements->count++] = filter_json_value(arena, each);
}

static bool set_of_field(struct filter_evaluation *evaluation, const struct filter_join *join,
                         struct filter_elements *elements) {
    struct filter_row *row = filter_row_of(evaluation, join->parent);
    const struct bk_json *json = NULL;
    if (row == NULL)
        return false;
    enum filter_json kind = filter_row_json(row, join->field, &json);
    if (kind == FILTER_JSON_UNKNOWN)
        return false;
    if (join->is_of_path) {
        json = filter_json_at(json, join->name);
        if (json == NULL || json->type != BK_JSON_ARRAY)
            set_one(elements, evaluation->arena, filter_json_value(evaluation->arena, json));
        else
            set_all(elements, evaluation->arena, json);
    } else if (kind == FILTER_JSON_IS && json->type == BK_JSON_ARRAY) {
        set_all(elements, evaluation->arena, json);
    } else {
        set_one(elements, evaluation->arena, row->values[join->field->index]);
    }
    return true;
}

bool filter_elements_of(struct filter_evaluation *evaluation, const struct filter_join *join,
                        struct filter_elements *elements) {
    const struct bk_json *json = NULL;
    *elements = (struct filter_elements){.join = join};
    if (join->kind == FILTER_JOIN_EACH) {
        if (!set_of_field(evaluation, join, elements))
            return false;
    } else if (join->kind == FILTER_JOIN_LIST) {
        if (parse(evaluation->arena, join->list->value.text, &json) != FILTER_JSON_IS)
            return false;
        set_all(elements, evaluation->arena, json);
    } else {
        return false;
    }
    return !evaluation->arena->is_overflown;
}
