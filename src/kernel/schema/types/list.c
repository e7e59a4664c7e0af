/* Lists of texts. A column of a multi-valued field holds compact JSON of an array of texts, made
 * here or by SQLite's json_array; it is walked as text, without decoding, since the texts that it
 * is compared with are kept encoded too. */
#include "types.h"

void schema_list_store(const struct schema_list *list, bool is_multiple, struct bk_value *value,
                       struct bk_arena *arena) {
    if (!is_multiple) {
        *value = BK_VALUE_OF_TEXT(list->count == 0 ? BK_SLICE("") : list->items[list->count - 1]);
        return;
    }
    if (list->count == 0) {
        *value = BK_VALUE_OF_TEXT(BK_SLICE("[]"));
        return;
    }
    struct bk_buffer out;
    bk_buffer_init(&out, SIZE_MAX / 2); /* bounded by the request's body */
    bk_buffer_append_char(&out, '[');
    for (uint32_t i = 0; i < list->count; i++) {
        if (i > 0)
            bk_buffer_append_char(&out, ',');
        bk_json_write_string(&out, list->items[i]);
    }
    bk_buffer_append_char(&out, ']');
    *value = BK_VALUE_OF_TEXT(bk_arena_copy(arena, bk_buffer_slice(&out)));
    bk_buffer_fini(&out);
}

/* The length of the value at the start of text: a quoted text, or whatever ends before ',' or
 * ']'. */
static size_t element_length(struct bk_slice text) {
    size_t i = 0;
    if (text.data[0] != '"') {
        while (i < text.length && text.data[i] != ',' && text.data[i] != ']')
            i++;
        return i;
    }
    for (i = 1; i < text.length && text.data[i] != '"'; i++)
        if (text.data[i] == '\\')
            i++;
    return i < text.length ? i + 1 : text.length;
}

bool schema_list_next(struct bk_slice *rest, struct bk_slice *element) {
    while (rest->length > 0 && (rest->data[0] == '[' || rest->data[0] == ',' ||
                                rest->data[0] == ' ')) /* between elements */
        *rest = bk_slice_make(rest->data + 1, rest->length - 1);
    if (rest->length == 0 || rest->data[0] == ']')
        return false;
    size_t length = element_length(*rest);
    *element = bk_slice_make(rest->data, length);
    *rest = bk_slice_make(rest->data + length, rest->length - length);
    return length > 0;
}

uint32_t schema_list_count(struct bk_slice array) {
    uint32_t count = 0;
    struct bk_slice element;
    while (schema_list_next(&array, &element))
        count++;
    return count;
}

void schema_list_write_json(bool is_multiple, const struct bk_value *value, struct bk_buffer *out) {
    if (!is_multiple) {
        bk_json_write_string(out, value->type == BK_VALUE_TEXT ? value->text : BK_SLICE(""));
        return;
    }
    if (value->type == BK_VALUE_TEXT && value->text.length > 0)
        bk_buffer_append_slice(out, value->text);
    else
        bk_buffer_append_literal(out, "[]");
}

/* As in the contract, a text that is an array in part ([1,"a"]) is one value when it is stored, and
 * when it is judged the texts in it and itself. */
bool schema_list_is_several(struct bk_slice text, struct bk_arena *arena) {
    struct bk_slice first = BK_SLICE_EMPTY;
    struct bk_json *json;
    bool is_itself = false;
    if (bk_slice_find(text, '[') == text.length ||
        bk_json_parse(arena, text, &json, NULL) != BK_OK || json->type != BK_JSON_ARRAY)
        return false;
    for (const struct bk_json *each = json->child; each != NULL; each = each->next) {
        is_itself = is_itself || (each->type != BK_JSON_STRING && each->type != BK_JSON_NULL);
        if (each->type != BK_JSON_STRING || each->string.length == 0)
            continue;
        if (first.length > 0 && !bk_slice_equal(first, each->string))
            return true;
        first = each->string;
    }
    return is_itself && first.length > 0;
}
