/*
 * The query parameter `fields`: which parts of a JSON answer the client wants.
 *
 *   id,title            these members of the object (or of each object of the array)
 *   expand.author.name  a path; an array of objects on the way is cut element by element
 *   *                   all members of this level that no other path names
 *
 * In a list answer ({"page", "perPage", "items" …}) the items are cut and the envelope stays. What
 * is neither an object nor an array of objects stays as it is. A modifier behind a colon
 * (":excerpt(20)") is read and has no effect. Members keep their order and their bytes.
 */
#include "api_private.h"

enum { FIELDS_MAX = BK_FIELDS_MAX, FIELDS_DEPTH_MAX = BK_JSON_DEPTH_MAX };

struct field_list {
    struct bk_slice *paths;
    size_t count;
};

/* --- reading the parameter -------------------------------------------------------------------- */

/* The part before the next comma outside parentheses; modifiers have arguments. */
static bool next_field(struct bk_slice *rest, struct bk_slice *field) {
    size_t depth = 0, i = 0;
    if (rest->length == 0)
        return false;
    for (; i < rest->length; i++) {
        char c = rest->data[i];
        if (c == '(')
            depth++;
        else if (c == ')' && depth > 0)
            depth--;
        else if (c == ',' && depth == 0)
            break;
    }
    *field = bk_slice_trim(bk_slice_make(rest->data, i));
    field->length = bk_slice_find(*field, ':');
    *rest =
        i < rest->length ? bk_slice_make(rest->data + i + 1, rest->length - i - 1) : BK_SLICE_EMPTY;
    return true;
}

bool bk_fields_fit(struct bk_slice fields) {
    struct bk_slice field;
    size_t count = 0;
    while (next_field(&fields, &field))
        count += field.length > 0;
    return count <= FIELDS_MAX;
}

static enum bk_status read_fields(struct bk_arena *arena, struct bk_slice text,
                                  struct field_list *list) {
    struct bk_slice field;
    list->paths = bk_arena_alloc(arena, FIELDS_MAX * sizeof(*list->paths));
    list->count = 0;
    while (next_field(&text, &field)) {
        if (field.length == 0)
            continue;
        if (list->count == FIELDS_MAX)
            return BK_LIMIT;
        list->paths[list->count++] = field;
    }
    return BK_OK;
}

/* --- choosing --------------------------------------------------------------------------------- */

/* Whether path is key, or goes on below it: then *below is the rest. */
static bool leads_to(struct bk_slice path, struct bk_slice key, struct bk_slice *below) {
    if (!bk_slice_starts_with(path, key))
        return false;
    if (path.length == key.length) {
        *below = BK_SLICE_EMPTY;
        return true;
    }
    if (path.data[key.length] != '.')
        return false;
    *below = bk_slice_make(path.data + key.length + 1, path.length - key.length - 1);
    return true;
}

enum choice { LEFT_OUT, WHOLE, CUT };

/* What becomes of a member; below gets the paths inside it. */
static enum choice choose(const struct field_list *list, struct bk_slice key,
                          struct field_list *below) {
    bool has_rest = false;
    struct bk_slice path;
    below->count = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (bk_slice_is(list->paths[i], "*"))
            has_rest = true;
        else if (!leads_to(list->paths[i], key, &path))
            continue;
        else if (path.length == 0)
            return WHOLE;
        else
            below->paths[below->count++] = path;
    }
    if (below->count > 0)
        return CUT;
    return has_rest ? WHOLE : LEFT_OUT;
}

struct picking {
    struct bk_arena *arena;
    struct bk_buffer *out;
};

static void pick(const struct picking *picking, const struct bk_json *value,
                 const struct field_list *list);

static void pick_object(const struct picking *picking, const struct bk_json *object,
                        const struct field_list *list) {
    struct field_list below;
    struct bk_buffer *out = picking->out;
    below.paths = bk_arena_alloc(picking->arena, list->count * sizeof(*below.paths));
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *member = object->child; member != NULL; member = member->next) {
        enum choice choice = choose(list, member->key, &below);
        if (choice == LEFT_OUT)
            continue;
        bk_json_write_key(out, member->key);
        if (choice == WHOLE)
            bk_buffer_append_slice(out, member->text);
        else
            pick(picking, member, &below);
    }
    bk_buffer_append_char(out, '}');
}

static void pick(const struct picking *picking, const struct bk_json *value,
                 const struct field_list *list) {
    struct bk_buffer *out = picking->out;
    if (value->type == BK_JSON_OBJECT) {
        pick_object(picking, value, list);
        return;
    }
    if (value->type != BK_JSON_ARRAY || value->child == NULL ||
        value->child->type != BK_JSON_OBJECT) {
        bk_buffer_append_slice(out, value->text);
        return;
    }
    bk_buffer_append_char(out, '[');
    for (const struct bk_json *item = value->child; item != NULL; item = item->next) {
        bk_json_write_separator(out);
        pick(picking, item, list);
    }
    bk_buffer_append_char(out, ']');
}

static bool is_list_answer(const struct bk_json *value) {
    const struct bk_json *items = bk_json_get(value, BK_SLICE("items"));
    return items != NULL && items->type == BK_JSON_ARRAY &&
           bk_json_get(value, BK_SLICE("perPage")) != NULL &&
           bk_json_get(value, BK_SLICE("page")) != NULL;
}

static void pick_items(const struct picking *picking, const struct bk_json *answer,
                       const struct field_list *list) {
    struct bk_buffer *out = picking->out;
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *member = answer->child; member != NULL; member = member->next) {
        bk_json_write_key(out, member->key);
        if (bk_slice_is(member->key, "items"))
            pick(picking, member, list);
        else
            bk_buffer_append_slice(out, member->text);
    }
    bk_buffer_append_char(out, '}');
}

enum bk_status bk_fields_pick(struct bk_arena *arena, struct bk_slice json, struct bk_slice fields,
                              struct bk_buffer *out) {
    struct bk_json *value;
    struct field_list list;
    enum bk_status status = bk_json_parse(arena, json, &value, NULL);
    if (status == BK_OK)
        status = read_fields(arena, fields, &list);
    if (status != BK_OK)
        return status;
    const struct picking picking = {arena, out};
    if (list.count == 0)
        bk_buffer_append_slice(out, json);
    else if (is_list_answer(value))
        pick_items(&picking, value, &list);
    else
        pick(&picking, value, &list);
    return arena->is_overflown || out->is_overflown ? BK_TOO_LARGE : BK_OK;
}

enum bk_status bk_answer_pick_fields(struct bk_request *request, struct bk_slice fields) {
    struct bk_arena arena;
    struct bk_buffer out;
    if (bk_slice_trim(fields).length == 0 || request->out.is_overflown)
        return BK_OK;
    /* The tree of a large answer is larger than what a request may hold, and short-lived. */
    bk_arena_init(&arena, request->api->options.answer_max_bytes * 4);
    bk_buffer_init(&out, request->out.max_bytes);
    enum bk_status status = bk_fields_pick(&arena, bk_buffer_slice(&request->out), fields, &out);
    if (status == BK_OK) {
        bk_buffer_clear(&request->out);
        bk_buffer_append_slice(&request->out, bk_buffer_slice(&out));
    }
    bk_buffer_fini(&out);
    bk_arena_fini(&arena);
    return status;
}
