/* What modifiers do to lists: "tags+" appends, "+tags" prepends, "tags-" removes. A text that is in
 * the list already stays where it is. */
#include "types.h"

#include "bakend/map.h"

/* Of a column, as it is stored. */
static struct schema_list stored_list(bool is_multiple, const struct bk_value *value,
                                      struct bk_arena *arena) {
    struct bk_json *parsed;
    if (value->type != BK_VALUE_TEXT || value->text.length == 0)
        return (struct schema_list){NULL, 0};
    if (is_multiple && bk_json_parse(arena, value->text, &parsed, NULL) == BK_OK)
        return schema_cast_list(parsed, arena);
    struct schema_list list = {.items = bk_arena_alloc(arena, sizeof(struct bk_slice)), .count = 1};
    list.items[0] = value->text;
    return list;
}

/* Appends those of more that are not in seen. */
static void add(struct schema_list *list, struct bk_map *seen, const struct schema_list *more) {
    for (uint32_t i = 0; i < more->count; i++)
        if (bk_map_put(seen, more->items[i], list) == NULL)
            list->items[list->count++] = more->items[i];
}

void schema_list_change(bool is_multiple, enum bk_modifier modifier,
                        const struct schema_list *given, struct bk_value *value,
                        struct bk_arena *arena) {
    struct schema_list former = stored_list(is_multiple, value, arena);
    struct schema_list list = {.items = NULL, .count = 0};
    struct bk_map seen;
    list.items =
        bk_arena_alloc(arena, sizeof(*list.items) * ((size_t)former.count + given->count + 1));
    if (list.items == NULL || arena->is_overflown)
        return; /* the request is refused for its overflown arena */
    bk_map_init(&seen);
    if (modifier == BK_MODIFIER_APPEND)
        add(&list, &seen, &former);
    add(&list, &seen, given);
    if (modifier == BK_MODIFIER_REMOVE)
        list.count = 0; /* they are seen, which is all */
    if (modifier != BK_MODIFIER_APPEND)
        add(&list, &seen, &former);
    bk_map_fini(&seen);
    schema_list_store(&list, is_multiple, value, arena);
}

void schema_list_modify(bool is_multiple, enum bk_modifier modifier, const struct bk_json *input,
                        struct bk_value *value, struct bk_arena *arena) {
    struct schema_list given = schema_cast_list(input, arena);
    schema_list_change(is_multiple, modifier, &given, value, arena);
}
