/* Objects of known members: laid over one another, and shown without their secrets. Both walk the
 * shape, not the input, so how deep they go is the shape's. */
#include "bakend/shape.h"

#include "bakend/assert.h"
#include "bakend/id.h"

static const char *const empty_values[] = {
    [BK_SHAPE_BOOL] = "false",      [BK_SHAPE_INT] = "0",          [BK_SHAPE_TEXT] = "\"\"",
    [BK_SHAPE_SECRET] = "\"\"",     [BK_SHAPE_GENERATED] = "\"\"", [BK_SHAPE_MAYBE_BOOL] = "null",
    [BK_SHAPE_MAYBE_TEXT] = "null", [BK_SHAPE_MAP] = "null",       [BK_SHAPE_TEXTS] = "[]",
    [BK_SHAPE_OBJECT] = "{}",       [BK_SHAPE_OBJECTS] = "[]",
};

static bool is_null(const struct bk_json *json) {
    return json == NULL || json->type == BK_JSON_NULL;
}

/* --- types ------------------------------------------------------------------------------------ */

static bool is_list_of(const struct bk_json *json, enum bk_json_type type) {
    if (json->type != BK_JSON_ARRAY)
        return false;
    for (const struct bk_json *item = json->child; item != NULL; item = item->next)
        if (item->type != type && item->type != BK_JSON_NULL)
            return false;
    return true;
}

static bool is_integer(const struct bk_json *json) {
    int64_t number;
    return json->type == BK_JSON_NUMBER && bk_slice_to_int64(json->text, &number);
}

/* json: not null. */
static bool has_type(const struct bk_json *json, enum bk_shape_type type) {
    switch (type) {
    case BK_SHAPE_BOOL:
    case BK_SHAPE_MAYBE_BOOL:
        return json->type == BK_JSON_BOOL;
    case BK_SHAPE_INT:
        return is_integer(json);
    case BK_SHAPE_TEXT:
    case BK_SHAPE_SECRET:
    case BK_SHAPE_GENERATED:
    case BK_SHAPE_MAYBE_TEXT:
        return json->type == BK_JSON_STRING;
    case BK_SHAPE_MAP:
    case BK_SHAPE_OBJECT:
        return json->type == BK_JSON_OBJECT;
    case BK_SHAPE_TEXTS:
        return is_list_of(json, BK_JSON_STRING);
    case BK_SHAPE_OBJECTS:
        return is_list_of(json, BK_JSON_OBJECT);
    }
    return false;
}

/* Whether a null is a value of the type, and not the same as nothing. */
static bool takes_null(enum bk_shape_type type) {
    return type == BK_SHAPE_MAYBE_BOOL || type == BK_SHAPE_MAYBE_TEXT || type == BK_SHAPE_MAP ||
           type == BK_SHAPE_TEXTS || type == BK_SHAPE_OBJECTS;
}

/* --- laying ----------------------------------------------------------------------------------- */

void bk_shape_generate(char secret[BK_SHAPE_GENERATED_BYTES]) {
    bk_random_text(secret, BK_SHAPE_GENERATED_BYTES,
                   BK_SLICE("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"));
}

static void write_generated(struct bk_buffer *out) {
    char secret[BK_SHAPE_GENERATED_BYTES];
    bk_shape_generate(secret);
    bk_json_write_string(out, bk_slice_make(secret, sizeof secret));
}

static void write_texts(const struct bk_json *list, struct bk_buffer *out) {
    bk_buffer_append_char(out, '[');
    for (const struct bk_json *item = list->child; item != NULL; item = item->next) {
        bk_json_write_separator(out);
        bk_json_write_string(out, item->string);
    }
    bk_buffer_append_char(out, ']');
}

/* What was there of an object in a list. */
static const struct bk_json *find_former(const struct bk_shape *shape, const struct bk_json *item,
                                         uint32_t index, const struct bk_json *former) {
    const struct bk_json *known = is_null(former) ? NULL : former->child;
    if (shape->key == NULL) {
        for (; known != NULL && index > 0; index--)
            known = known->next;
        return known;
    }
    struct bk_slice key = bk_slice_from(shape->key);
    struct bk_slice name = bk_json_get_string(item, key);
    while (known != NULL && !bk_slice_equal(bk_json_get_string(known, key), name))
        known = known->next;
    return known;
}

static enum bk_status lay_objects(const struct bk_shape *shape, const struct bk_json *list,
                                  const struct bk_json *former, struct bk_buffer *out,
                                  struct bk_error *error) {
    enum bk_status status = BK_OK;
    uint32_t index = 0;
    bk_buffer_append_char(out, '[');
    for (const struct bk_json *item = list->child; item != NULL && status == BK_OK;
         item = item->next, index++) {
        bk_json_write_separator(out);
        status = bk_shape_lay(shape, item, find_former(shape, item, index, former), out, error);
    }
    bk_buffer_append_char(out, ']');
    return status;
}

static void write_scalar(const struct bk_shape_member *member, const struct bk_json *value,
                         struct bk_buffer *out) {
    if (value == NULL && member->type == BK_SHAPE_GENERATED)
        write_generated(out);
    else if (value == NULL)
        bk_buffer_append_slice(out, bk_slice_from(member->fallback != NULL
                                                      ? member->fallback
                                                      : empty_values[member->type]));
    else if (is_null(value))
        bk_buffer_append_slice(out, bk_slice_from(empty_values[member->type]));
    else if (value->type == BK_JSON_STRING)
        bk_json_write_string(out, value->string);
    else if (member->type == BK_SHAPE_TEXTS)
        write_texts(value, out);
    else
        bk_buffer_append_slice(out, value->text);
}

static enum bk_status lay_member(const struct bk_shape_member *member, const struct bk_json *given,
                                 const struct bk_json *former, struct bk_buffer *out,
                                 struct bk_error *error) {
    if (!is_null(given) && !has_type(given, member->type))
        return bk_error_set(error, BK_INVALID, "%s has a value of the wrong type", member->name);
    if (given != NULL && is_null(given) && !takes_null(member->type))
        given = NULL;
    bk_json_write_key(out, bk_slice_from(member->name));
    if (member->type == BK_SHAPE_OBJECT)
        return bk_shape_lay(member->shape, given, former, out, error);
    const struct bk_json *value = given != NULL ? given : former;
    if (member->type == BK_SHAPE_OBJECTS && !is_null(value))
        return lay_objects(member->shape, value, former, out, error);
    write_scalar(member, value, out);
    return BK_OK;
}

enum bk_status bk_shape_lay(const struct bk_shape *shape, const struct bk_json *given,
                            const struct bk_json *former, struct bk_buffer *out,
                            struct bk_error *error) {
    enum bk_status status = BK_OK;
    BK_ASSERT(shape->count > 0);
    bk_buffer_append_char(out, '{');
    for (size_t i = 0; i < shape->count && status == BK_OK; i++) {
        const struct bk_shape_member *member = &shape->members[i];
        struct bk_slice name = bk_slice_from(member->name);
        status =
            lay_member(member, bk_json_get(given, name), bk_json_get(former, name), out, error);
    }
    bk_buffer_append_char(out, '}');
    return status;
}

/* --- showing ---------------------------------------------------------------------------------- */

static void show(const struct bk_shape_member *member, const struct bk_json *value,
                 struct bk_buffer *out);

static void show_object(const struct bk_shape *shape, const struct bk_json *whole,
                        struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_shape_write_members(shape, whole, out);
    bk_buffer_append_char(out, '}');
}

static void show(const struct bk_shape_member *member, const struct bk_json *value,
                 struct bk_buffer *out) {
    if (member->type == BK_SHAPE_OBJECT) {
        show_object(member->shape, value, out);
        return;
    }
    if (member->type != BK_SHAPE_OBJECTS) {
        bk_buffer_append_slice(out, value->text);
        return;
    }
    bk_buffer_append_char(out, '[');
    for (const struct bk_json *item = value->child; item != NULL; item = item->next) {
        bk_json_write_separator(out);
        show_object(member->shape, item, out);
    }
    bk_buffer_append_char(out, ']');
}

void bk_shape_write_members(const struct bk_shape *shape, const struct bk_json *whole,
                            struct bk_buffer *out) {
    for (size_t i = 0; i < shape->count; i++) {
        const struct bk_shape_member *member = &shape->members[i];
        const struct bk_json *value = bk_json_get(whole, bk_slice_from(member->name));
        if (member->type == BK_SHAPE_SECRET || member->type == BK_SHAPE_GENERATED || value == NULL)
            continue;
        bk_json_write_key(out, bk_slice_from(member->name));
        show(member, value, out);
    }
}
