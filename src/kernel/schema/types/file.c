/*
 * file: the names of one or several files of the record. A column holds names, never bytes.
 *
 * A file comes with a form. Its stored name has a random part, made when the form is read, so a
 * name that is among the request's uploads is new, one that the record had stays, and any other is
 * refused: a record must not point at a file that it was not sent. What may be uploaded is judged
 * by the bytes, whatever the client calls them.
 */
#include "types.h"

#include "bakend/assert.h"
#include "bakend/media_type.h"
#include <stdio.h>

enum {
    FILE_BYTES_MAX_DEFAULT = 5 << 20, /* of a field that names no maximum */
    SHOWN_NAME_BYTES_MAX = 300,       /* of a client's file name in a message */
    SHOWN_INVALID_BYTES_MAX = 250,    /* of a name that is refused */
};

struct file_options {
    int64_t maximum; /* above 1: several */
    int64_t bytes_max;
    struct schema_list media_types, thumbs;
    bool is_protected;
};

static bool is_multiple(const struct bk_field *field) {
    const struct file_options *options = field->options;
    return options->maximum > 1;
}

/* --- values ----------------------------------------------------------------------------------- */

static bool has(const struct schema_list *list, struct bk_slice text) {
    for (uint32_t i = 0; i < list->count; i++)
        if (bk_slice_equal(list->items[i], text))
            return true;
    return false;
}

/* Each element of an array is read on its own, arrays in it too; one that is not exactly one name
 * is left out. */
static struct schema_list read_names(const struct bk_json *input, struct bk_arena *arena) {
    struct schema_list list = {NULL, 0}, one;
    if (input->type != BK_JSON_ARRAY)
        return schema_cast_list(input, arena);
    list.items = bk_arena_alloc(arena, sizeof(*list.items) * (input->child_count + 1));
    if (list.items == NULL || arena->is_overflown)
        return (struct schema_list){NULL, 0};
    for (const struct bk_json *child = input->child; child != NULL; child = child->next) {
        one = read_names(child, arena);
        if (one.count == 1 && !arena->is_overflown && !has(&list, one.items[0]))
            list.items[list.count++] = one.items[0];
    }
    return list;
}

static struct schema_list names_of(const struct bk_field *field, const struct bk_value *value,
                                   struct bk_arena *arena) {
    struct bk_json *array;
    if (value == NULL || schema_value_is_empty_text(value))
        return (struct schema_list){NULL, 0};
    if (is_multiple(field))
        return bk_json_parse(arena, value->text, &array, NULL) == BK_OK
                   ? read_names(array, arena)
                   : (struct schema_list){NULL, 0};
    struct schema_list list = {bk_arena_alloc(arena, sizeof(struct bk_slice)), 1};
    list.items[0] = value->text;
    return list;
}

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    struct schema_list list = read_names(input, arena);
    schema_list_store(&list, is_multiple(field), value, arena);
}

static void modify(const struct bk_field *field, enum bk_modifier modifier,
                   const struct bk_json *input, struct bk_value *value, struct bk_arena *arena) {
    struct schema_list names = read_names(input, arena);
    schema_list_change(is_multiple(field), modifier, &names, value, arena);
}

static void empty(const struct bk_field *field, struct bk_value *value) {
    *value = BK_VALUE_OF_TEXT(is_multiple(field) ? BK_SLICE("[]") : BK_SLICE(""));
}

/* --- validation ------------------------------------------------------------------------------- */

static const struct bk_upload *upload_of(const struct bk_upload *uploads, struct bk_slice name) {
    while (uploads != NULL && !bk_slice_equal(uploads->stored_name, name))
        uploads = uploads->next;
    return uploads;
}

/* A problem with the names that the record neither had nor was sent; false when there are none. */
static bool finds_invalid(const struct bk_field *field, const struct schema_list *names,
                          const struct schema_list *former, const struct bk_upload *uploads,
                          struct bk_problems *problems) {
    struct bk_buffer message, params;
    bool is_found = false;
    bk_buffer_init(&message, problems->arena->max_bytes);
    bk_buffer_init(&params, problems->arena->max_bytes);
    for (uint32_t i = 0; i < names->count; i++) {
        struct bk_slice name = names->items[i];
        if (has(former, name) || upload_of(uploads, name) != NULL)
            continue;
        if (name.length > SHOWN_INVALID_BYTES_MAX)
            name.length = SHOWN_INVALID_BYTES_MAX;
        bk_buffer_append_slice(&message,
                               is_found ? BK_SLICE(" ") : BK_SLICE("Invalid new files: ["));
        bk_buffer_append_slice(&message, name);
        bk_buffer_append_slice(&params, is_found ? BK_SLICE(",") : BK_SLICE("{\"invalidFiles\":["));
        bk_json_write_string(&params, name);
        is_found = true;
    }
    bk_buffer_append(&message, "].", sizeof("]."));
    bk_buffer_append_literal(&params, "]}");
    if (is_found && bk_buffer_status(&message) == BK_OK && bk_buffer_status(&params) == BK_OK)
        bk_problems_add_params(problems, field->name, "validation_invalid_file", message.data,
                               bk_buffer_slice(&params));
    else if (is_found)
        bk_problems_add(problems, field->name, "validation_invalid_file", "Invalid new files.");
    bk_buffer_fini(&message);
    bk_buffer_fini(&params);
    return is_found;
}

static struct bk_slice shown(struct bk_slice name, struct bk_arena *arena) {
    if (name.length <= SHOWN_NAME_BYTES_MAX)
        return name;
    return bk_arena_format(arena, "%.*s...", SHOWN_NAME_BYTES_MAX, name.data);
}

static void problem_size(const struct bk_field *field, const struct bk_upload *upload,
                         int64_t bytes_max, struct bk_problems *problems) {
    struct bk_slice name = shown(upload->name, problems->arena);
    struct bk_slice message = bk_arena_format(
        problems->arena, "Failed to upload %.*s - the maximum allowed file size is %lld bytes.",
        BK_SLICE_PRINT(name), (long long)bytes_max);
    struct bk_buffer params;
    bk_buffer_init(&params, 6 * name.length + 64); /* each byte may become \u0001 */
    bk_buffer_append_char(&params, '{');
    bk_json_write_member_string(&params, BK_SLICE("file"), name);
    bk_json_write_member_int(&params, BK_SLICE("maxSize"), bytes_max);
    bk_buffer_append_char(&params, '}');
    bk_problems_add_params(problems, field->name, "validation_file_size_limit", message.data,
                           bk_buffer_slice(&params));
    bk_buffer_fini(&params);
}

static bool is_allowed(const struct schema_list *allowed, const struct bk_media_type *type) {
    for (uint32_t i = 0; i < allowed->count; i++)
        if (bk_media_type_is(type, allowed->items[i]))
            return true;
    return false;
}

static void problem_type(const struct bk_field *field, const struct bk_upload *upload,
                         const struct schema_list *allowed, struct bk_problems *problems) {
    struct bk_buffer message;
    bk_buffer_init(&message, problems->arena->max_bytes);
    bk_json_write_string(&message, upload->stored_name);
    bk_buffer_append_literal(&message, " mime type must be one of: ");
    for (uint32_t i = 0; i < allowed->count; i++) {
        if (i > 0)
            bk_buffer_append_literal(&message, ", ");
        bk_buffer_append_slice(&message, allowed->items[i]);
    }
    bk_buffer_append(&message, ".", sizeof("."));
    bk_problems_add(problems, field->name, "validation_invalid_mime_type",
                    bk_buffer_status(&message) == BK_OK ? message.data : "Unsupported file type.");
    bk_buffer_fini(&message);
}

/* False: it has a problem. */
static bool check_upload(const struct bk_field *field, const struct bk_upload *upload,
                         struct bk_problems *problems) {
    const struct file_options *options = field->options;
    int64_t bytes_max = options->bytes_max > 0 ? options->bytes_max : FILE_BYTES_MAX_DEFAULT;
    if (upload->data.length > (uint64_t)bytes_max) {
        problem_size(field, upload, bytes_max, problems);
        return false;
    }
    if (options->media_types.count > 0 &&
        !is_allowed(&options->media_types, bk_media_type_sniff(upload->data))) {
        problem_type(field, upload, &options->media_types, problems);
        return false;
    }
    /* A name without its bytes must not be stored. */
    bk_problems_add(problems, field->name, "validation_not_supported",
                    "Files cannot be stored by this version of the server: leave the file out.");
    return false;
}

static void validate_change(const struct bk_field *field, const struct bk_value *before,
                            const struct bk_value *after, const struct bk_upload *uploads,
                            struct bk_problems *problems) {
    struct bk_arena *arena = problems->arena;
    struct schema_list names = names_of(field, after, arena);
    struct schema_list former = names_of(field, before, arena);
    int64_t maximum = is_multiple(field) ? ((struct file_options *)field->options)->maximum : 1;
    if (names.count == 0) {
        schema_problem_if_required(field, problems);
        return;
    }
    if (finds_invalid(field, &names, &former, uploads, problems))
        return;
    if (names.count > maximum) {
        schema_problem_int(field, problems, "validation_too_many_files",
                           "The maximum allowed files is %s.", "maxSelect", maximum);
        return;
    }
    for (uint32_t i = 0; i < names.count; i++) {
        const struct bk_upload *upload = upload_of(uploads, names.items[i]);
        if (upload != NULL && !check_upload(field, upload, problems))
            return;
    }
}

/* --- options ---------------------------------------------------------------------------------- */

/* WxH with t, b or f behind it, not both zero. */
static bool is_thumb(struct bk_slice text, bool *is_zero) {
    size_t i = 0, start;
    *is_zero = true;
    for (int side = 0; side < 2; side++) {
        start = i;
        for (; i < text.length && text.data[i] >= '0' && text.data[i] <= '9'; i++)
            *is_zero = *is_zero && text.data[i] == '0' && i == start;
        if (i == start)
            return false;
        if (side == 0 && (i == text.length || text.data[i++] != 'x'))
            return false;
    }
    if (i < text.length && strchr("tbf", text.data[i]) != NULL)
        i++;
    return i == text.length;
}

static void check_thumbs(const struct schema_options *reader, const struct schema_list *thumbs) {
    for (uint32_t i = 0; i < thumbs->count; i++) {
        struct bk_slice path = bk_arena_format(reader->problems->arena, "%.*s.thumbs.%u",
                                               BK_SLICE_PRINT(reader->path), i);
        bool is_zero = false;
        if (thumbs->items[i].length == 0)
            continue;
        if (!is_thumb(thumbs->items[i], &is_zero))
            bk_problems_add(reader->problems, path, "validation_match_invalid",
                            "Must be in a valid format.");
        else if (is_zero)
            bk_problems_add(reader->problems, path, "validation_not_in_invalid",
                            "Must not be in list.");
    }
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct file_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    options->maximum = schema_option_int_within(&reader, "maxSelect", 0, SCHEMA_INTEGER_MAX);
    options->bytes_max = schema_option_int_within(&reader, "maxSize", 0, SCHEMA_INTEGER_MAX);
    options->media_types = schema_option_texts(&reader, "mimeTypes");
    options->thumbs = schema_option_texts(&reader, "thumbs");
    options->is_protected = schema_option_bool(&reader, "protected");
    check_thumbs(&reader, &options->thumbs);
}

static void write_texts(struct bk_buffer *out, const char *name, const struct schema_list *texts) {
    if (texts->items == NULL)
        bk_json_write_member_raw(out, bk_slice_from(name), BK_SLICE("null"));
    else
        schema_write_texts(out, name, texts);
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct file_options *options = field->options;
    bk_json_write_member_int(out, BK_SLICE("maxSelect"), options->maximum);
    bk_json_write_member_int(out, BK_SLICE("maxSize"), options->bytes_max);
    write_texts(out, "mimeTypes", &options->media_types);
    bk_json_write_member_bool(out, BK_SLICE("protected"), options->is_protected);
    write_texts(out, "thumbs", &options->thumbs);
}

static const char *column_of(const struct bk_field *field) {
    return is_multiple(field) ? "JSON DEFAULT '[]' NOT NULL" : "TEXT DEFAULT '' NOT NULL";
}

static void write_json(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out) {
    schema_list_write_json(is_multiple(field), value, out);
}

const struct bk_field_type schema_type_file = {
    .name = "file",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct file_options),
    .configure = configure,
    .write_options = write_options,
    .column_of = column_of,
    .normalise = normalise,
    .modifiers = BK_MODIFIER_APPEND | BK_MODIFIER_PREPEND | BK_MODIFIER_REMOVE,
    .modify = modify,
    .empty = empty,
    .validate_change = validate_change,
    .write_json = write_json,
    .takes_uploads = true,
};
