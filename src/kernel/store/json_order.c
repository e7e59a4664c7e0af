/*
 * bk_json_order(text): what a JSON value is sorted by. A text, a number and a boolean are what they
 * are; of an object and a list it is their text, with the members of objects in the order of their
 * names, whatever the order was that they were sent in. What is no JSON is itself.
 */
#include "store_private.h"

#include "bakend/json.h"

#include <stdlib.h>

enum { TEXT_BYTES_MAX = 1024 * 1024, ARENA_BYTES_MAX = 16 * 1024 * 1024 };

static void write_value(const struct bk_json *value, struct bk_arena *arena, struct bk_buffer *out);

static int compare_members(const void *a, const void *b) {
    const struct bk_json *const *left = a, *const *right = b;
    return bk_slice_compare((*left)->key, (*right)->key);
}

static void write_object(const struct bk_json *object, struct bk_arena *arena,
                         struct bk_buffer *out) {
    size_t count = object->child_count, i = 0;
    const struct bk_json **members = bk_arena_alloc(arena, count * sizeof(struct bk_json *));
    if (arena->is_overflown)
        return;
    for (const struct bk_json *child = object->child; child != NULL; child = child->next)
        members[i++] = child;
    if (count > 1)
        qsort(members, count, sizeof(struct bk_json *), compare_members);
    bk_buffer_append_char(out, '{');
    for (i = 0; i < count; i++) {
        bk_json_write_key(out, members[i]->key);
        write_value(members[i], arena, out);
    }
    bk_buffer_append_char(out, '}');
}

static void write_value(const struct bk_json *value, struct bk_arena *arena,
                        struct bk_buffer *out) {
    if (value->type == BK_JSON_OBJECT) {
        write_object(value, arena, out);
    } else if (value->type == BK_JSON_ARRAY) {
        bk_buffer_append_char(out, '[');
        for (const struct bk_json *child = value->child; child != NULL; child = child->next) {
            bk_json_write_separator(out);
            write_value(child, arena, out);
        }
        bk_buffer_append_char(out, ']');
    } else if (value->type == BK_JSON_STRING) {
        bk_json_write_string(out, value->string);
    } else {
        bk_buffer_append_slice(out, value->text);
    }
}

static void answer_text(sqlite3_context *context, struct bk_slice text) {
    const char *data = text.data == NULL ? "" : text.data;
    sqlite3_result_text64(context, data, text.length, SQLITE_TRANSIENT, SQLITE_UTF8);
}

static void answer_number(sqlite3_context *context, const struct bk_json *value) {
    int64_t integer;
    double real;
    if (bk_json_to_int64(value, &integer))
        sqlite3_result_int64(context, integer);
    else if (bk_json_to_double(value, &real))
        sqlite3_result_double(context, real);
    else
        answer_text(context, value->text);
}

static void answer(sqlite3_context *context, const struct bk_json *value, struct bk_arena *arena) {
    struct bk_buffer out;
    switch (value->type) {
    case BK_JSON_NULL:
        return;
    case BK_JSON_BOOL:
        sqlite3_result_int(context, value->boolean);
        return;
    case BK_JSON_NUMBER:
        answer_number(context, value);
        return;
    case BK_JSON_STRING:
        answer_text(context, value->string);
        return;
    case BK_JSON_ARRAY:
    case BK_JSON_OBJECT:
        bk_buffer_init(&out, TEXT_BYTES_MAX);
        write_value(value, arena, &out);
        if (out.is_overflown || arena->is_overflown)
            answer_text(context, value->text);
        else
            answer_text(context, bk_buffer_slice(&out));
        bk_buffer_fini(&out);
        return;
    }
}

static void on_order(sqlite3_context *context, int count, sqlite3_value **values) {
    struct bk_arena arena;
    struct bk_json *json;
    (void)count;
    if (sqlite3_value_type(values[0]) != SQLITE_TEXT) {
        sqlite3_result_value(context, values[0]);
        return;
    }
    const char *data = (const char *)sqlite3_value_text(values[0]);
    struct bk_slice text =
        bk_slice_make(data, data == NULL ? 0 : (size_t)sqlite3_value_bytes(values[0]));
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (bk_json_parse(&arena, text, &json, NULL) == BK_OK)
        answer(context, json, &arena);
    else
        sqlite3_result_value(context, values[0]);
    bk_arena_fini(&arena);
}

int store_json_order_register(struct bk_connection *connection) {
    return sqlite3_create_function_v2(connection->handle, "bk_json_order", 1,
                                      SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, NULL,
                                      on_order, NULL, NULL, NULL);
}
