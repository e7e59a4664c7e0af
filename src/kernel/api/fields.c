/*
 * The query parameter `fields`: which parts of a JSON answer the client wants.
 *
 *   id,title            these members of the object (or of each object of the array)
 *   expand.author.name  a path; an array of objects on the way is cut element by element
 *   *                   all members of this level that no other path names
 *   body:excerpt(20)    a text without its HTML, at most 20 characters; body:excerpt(20,true) with
 *                       "..." when it was longer
 *
 * In a list answer ({"page", "perPage", "items" …}) the items are cut and the envelope stays. What
 * is neither an object nor an array of objects stays as it is. Members keep their order and their
 * bytes.
 */
#include "api_private.h"
#include "excerpt.h"

enum { FIELDS_MAX = BK_FIELDS_MAX, FIELDS_DEPTH_MAX = BK_JSON_DEPTH_MAX };

struct field_path {
    struct bk_slice text;
    int64_t excerpt; /* 0: as it is */
    bool has_ellipsis;
};

struct field_list {
    struct field_path *paths;
    size_t count;
};

/* --- reading the parameter -------------------------------------------------------------------- */

static bool is_quote(char c) { return c == '\'' || c == '"' || c == '`'; }

/* The length of what is before the next separator outside quotes and parentheses; false: one of
 * these does not end. */
static bool find_end(struct bk_slice text, const char *separators, bool has_parentheses,
                     size_t *length) {
    size_t depth = 0, i = 0;
    char quote = '\0', before = '\0';
    for (; i < text.length; i++) {
        char c = text.data[i];
        bool is_escaped = before == '\\';
        if (is_quote(c) && !is_escaped && (quote == '\0' || quote == c))
            quote = quote == c ? '\0' : c;
        else if (quote == '\0' && has_parentheses && !is_escaped && c == '(')
            depth++;
        else if (quote == '\0' && has_parentheses && !is_escaped && c == ')' && depth > 0)
            depth--;
        else if (quote == '\0' && depth == 0 && strchr(separators, c) != NULL && c != '\0')
            break;
        before = c;
    }
    *length = i;
    return quote == '\0' && depth == 0;
}

/* The next part that is not empty. BK_END: there is none; BK_INVALID: it does not end. */
static enum bk_status next_part(struct bk_slice *rest, const char *separators, bool has_parentheses,
                                struct bk_slice *part) {
    while (rest->length > 0) {
        size_t length;
        if (!find_end(*rest, separators, has_parentheses, &length))
            return BK_INVALID;
        *part = bk_slice_trim(bk_slice_make(rest->data, length));
        size_t taken = length < rest->length ? length + 1 : length;
        *rest = bk_slice_make(rest->data + taken, rest->length - taken);
        if (part->length > 0)
            return BK_OK;
    }
    return BK_END;
}

static bool is_true(struct bk_slice text) {
    return bk_slice_is(text, "1") || bk_slice_is(text, "t") || bk_slice_is(text, "T") ||
           bk_slice_is(text, "true") || bk_slice_is(text, "TRUE") || bk_slice_is(text, "True");
}

/* "20", and "20.0" too. */
static bool read_count(struct bk_slice text, int64_t *count) {
    struct bk_slice digits = bk_slice_make(text.data, bk_slice_find(text, '.'));
    for (size_t i = digits.length + 1; i < text.length; i++)
        if (text.data[i] != '0')
            return false;
    return bk_slice_to_int64(digits, count) && *count > 0;
}

/* "excerpt(20,true)" */
static enum bk_status read_modifier(struct bk_slice text, struct field_path *path) {
    struct bk_slice name, max, flag, more;
    if (next_part(&text, "(), ", false, &name) != BK_OK || !bk_slice_is(name, "excerpt") ||
        next_part(&text, "(), ", false, &max) != BK_OK || !read_count(max, &path->excerpt))
        return BK_INVALID;
    enum bk_status status = next_part(&text, "(), ", false, &flag);
    path->has_ellipsis = status == BK_OK && is_true(flag);
    if (status == BK_OK)
        status = next_part(&text, "(), ", false, &more);
    return status == BK_END ? BK_OK : BK_INVALID;
}

static enum bk_status next_path(struct bk_slice *rest, struct field_path *path) {
    struct bk_slice part;
    enum bk_status status = next_part(rest, ",", true, &part);
    if (status != BK_OK)
        return status;
    size_t colon = bk_slice_find(part, ':');
    *path = (struct field_path){.text = bk_slice_make(part.data, colon)};
    if (colon == part.length)
        return BK_OK;
    return read_modifier(bk_slice_make(part.data + colon + 1, part.length - colon - 1), path);
}

enum bk_status bk_fields_check(struct bk_slice fields) {
    struct field_path path;
    enum bk_status status;
    size_t count = 0;
    while ((status = next_path(&fields, &path)) == BK_OK)
        if (++count > FIELDS_MAX)
            return BK_LIMIT;
    return status == BK_END ? BK_OK : status;
}

bool bk_fields_fit(struct bk_slice fields) { return bk_fields_check(fields) == BK_OK; }

static enum bk_status read_fields(struct bk_arena *arena, struct bk_slice text,
                                  struct field_list *list) {
    struct field_path path;
    enum bk_status status;
    list->paths = bk_arena_alloc(arena, FIELDS_MAX * sizeof(*list->paths));
    list->count = 0;
    while ((status = next_path(&text, &path)) == BK_OK) {
        if (list->count == FIELDS_MAX)
            return BK_LIMIT;
        if (!arena->is_overflown)
            list->paths[list->count] = path;
        list->count++;
    }
    if (status == BK_END)
        status = bk_arena_status(arena);
    return status;
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

/* What becomes of a member; below gets the paths inside it. found: the path that names all of it;
 * of several the last one. */
static enum choice choose(const struct field_list *list, struct bk_slice key,
                          struct field_list *below, const struct field_path **found) {
    const struct field_path *rest = NULL;
    *found = NULL;
    below->count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct field_path *path = &list->paths[i];
        struct bk_slice deeper;
        if (bk_slice_is(path->text, "*")) {
            rest = path;
        } else if (leads_to(path->text, key, &deeper)) {
            below->paths[below->count] = *path;
            below->paths[below->count].text = deeper;
            if (deeper.length == 0)
                *found = path;
            else
                below->count++;
        }
    }
    if (*found == NULL && below->count > 0)
        return CUT;
    if (*found == NULL)
        *found = rest;
    return *found == NULL ? LEFT_OUT : WHOLE;
}

struct picking {
    struct bk_arena *arena;
    struct bk_buffer *out;
};

static void pick(const struct picking *picking, const struct bk_json *value,
                 const struct field_list *list);

static void write_excerpt(const struct picking *picking, const struct bk_json *value,
                          const struct field_path *path) {
    struct bk_buffer text;
    if (path->excerpt == 0 || value->type != BK_JSON_STRING) {
        bk_buffer_append_slice(picking->out, value->text);
        return;
    }
    bk_buffer_init(&text, value->string.length + 16);
    api_excerpt(value->string, (size_t)path->excerpt, path->has_ellipsis, &text);
    bk_json_write_string(picking->out, bk_buffer_slice(&text));
    bk_buffer_fini(&text);
}

static void pick_object(const struct picking *picking, const struct bk_json *object,
                        const struct field_list *list) {
    struct field_list below;
    struct bk_buffer *out = picking->out;
    below.paths = bk_arena_alloc(picking->arena, list->count * sizeof(*below.paths));
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *member = object->child; member != NULL; member = member->next) {
        const struct field_path *found;
        enum choice choice = choose(list, member->key, &below, &found);
        if (choice == LEFT_OUT)
            continue;
        bk_json_write_key(out, member->key);
        if (choice == WHOLE)
            write_excerpt(picking, member, found);
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

/* A record may have fields of these names, but none of them is its first member. */
static bool is_list_answer(const struct bk_json *value) {
    const struct bk_json *items = bk_json_get(value, BK_SLICE("items"));
    return items != NULL && items->type == BK_JSON_ARRAY &&
           (bk_slice_is(value->child->key, "page") || value->child == items) &&
           bk_json_get(value, BK_SLICE("perPage")) != NULL;
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
