/*
 * Files of a form as values of a record.
 *
 * A file field's value is names. What a form sends for it, under the field's name or with a "+"
 * before or behind it, becomes a list in the body: the names that the body has under that key
 * already, so that sending one more file does not drop the others, then the stored names of the
 * new ones. What a form sends for other fields, or for none, is ignored.
 *
 * A stored name is the client's in lower case with underscores, ten random characters, and the
 * extension, which comes from the bytes when the client gave none: "Photo 1.JPG" is kept as
 * "photo_1_x4k2m9q0zt.JPG".
 */
#include "api_private.h"

#include "bakend/id.h"
#include "bakend/media_type.h"

enum {
    NAME_READ_BYTES_MAX = 300, /* its end: extensions stand there */
    STEM_BYTES_MIN = 3,        /* a shorter one gets random characters of its own */
    STEM_BYTES_MAX = 100,
    EXTENSION_BYTES_MAX = 20,
    RANDOM_BYTES = 10,
};

/* --- stored names ----------------------------------------------------------------------------- */

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

static struct bk_slice trim_dots(struct bk_slice text) {
    while (text.length > 0 && text.data[0] == '.')
        text = bk_slice_make(text.data + 1, text.length - 1);
    while (text.length > 0 && text.data[text.length - 1] == '.')
        text.length--;
    return text;
}

static size_t last_dot(struct bk_slice name) {
    size_t i = name.length;
    while (i > 0 && name.data[i - 1] != '.')
        i--;
    return i == 0 ? name.length : i - 1;
}

/* ".txt", or the last two: ".tar.gz"; empty when there is none. */
static struct bk_slice extension_of(struct bk_slice name) {
    size_t primary = last_dot(name), secondary;
    struct bk_slice front = bk_slice_make(name.data, primary);
    if (primary == name.length)
        return BK_SLICE_EMPTY;
    secondary = last_dot(front);
    if (secondary < front.length)
        primary = secondary;
    return bk_slice_make(name.data + primary, name.length - primary);
}

static void write_extension(struct bk_buffer *out, struct bk_slice extension,
                            struct bk_slice data) {
    char room[NAME_READ_BYTES_MAX];
    struct bk_slice clean = {room, 0};
    for (size_t i = 0; i < extension.length && clean.length < sizeof(room); i++)
        if (is_word(extension.data[i]) || memchr("_.*-+=#", extension.data[i], 7) != NULL)
            room[clean.length++] = extension.data[i];
    clean = trim_dots(clean);
    if (clean.length == 0) {
        bk_buffer_append_slice(out, bk_slice_from(bk_media_type_sniff(data)->extension));
        return;
    }
    /* With its dot. */
    if (clean.length + 1 > EXTENSION_BYTES_MAX)
        clean = trim_dots(
            bk_slice_make(clean.data + clean.length - EXTENSION_BYTES_MAX, EXTENSION_BYTES_MAX));
    bk_buffer_append_char(out, '.');
    bk_buffer_append_slice(out, clean);
}

/* "CamelCase words" becomes "camel_case_words". */
static void write_stem(struct bk_buffer *out, struct bk_slice stem) {
    for (size_t i = 0; i < stem.length; i++) {
        char c = stem.data[i], former = i > 0 ? stem.data[i - 1] : ' ';
        if (!is_word(c))
            continue;
        if (out->length > 0 && (!is_word(former) || (is_upper(c) && !is_upper(former))))
            bk_buffer_append_char(out, '_');
        bk_buffer_append_char(out, is_upper(c) ? (char)(c - 'A' + 'a') : c);
    }
}

static void write_random(struct bk_buffer *out) {
    char random[RANDOM_BYTES];
    bk_random_text(random, sizeof(random), BK_SLICE("abcdefghijklmnopqrstuvwxyz0123456789"));
    bk_buffer_append(out, random, sizeof(random));
}

static struct bk_slice make_stored_name(struct bk_arena *arena, struct bk_slice name,
                                        struct bk_slice data) {
    struct bk_slice extension, stored;
    struct bk_buffer out;
    if (name.length > NAME_READ_BYTES_MAX)
        name = bk_slice_make(name.data + name.length - NAME_READ_BYTES_MAX, NAME_READ_BYTES_MAX);
    extension = extension_of(name);
    name.length -= extension.length;
    bk_buffer_init(&out, 3 * NAME_READ_BYTES_MAX);
    write_stem(&out, trim_dots(name));
    if (out.length < STEM_BYTES_MIN)
        write_random(&out);
    else if (out.length > STEM_BYTES_MAX)
        out.length = STEM_BYTES_MAX;
    bk_buffer_append_char(&out, '_');
    write_random(&out);
    write_extension(&out, extension, data);
    bk_buffer_insist(&out);
    stored = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return stored;
}

/* --- the body --------------------------------------------------------------------------------- */

struct taking {
    struct bk_arena *arena;
    const struct bk_request_file *files;
    struct bk_slice prefix;
    const struct bk_json *given; /* the body as it came */
    struct bk_json *body;        /* a copy of its first level, once there is something to put in */
    struct bk_upload **end;
};

static bool is_key(const struct taking *taking, struct bk_slice key, const char *before,
                   struct bk_slice name, const char *behind) {
    struct bk_slice prefix = taking->prefix;
    if (prefix.length > 0) {
        if (!bk_slice_starts_with(key, prefix) || key.length == prefix.length ||
            key.data[prefix.length] != '.')
            return false;
        key = bk_slice_make(key.data + prefix.length + 1, key.length - prefix.length - 1);
    }
    if (key.length != strlen(before) + name.length + strlen(behind) ||
        !bk_slice_starts_with(key, bk_slice_from(before)) ||
        !bk_slice_ends_with(key, bk_slice_from(behind)))
        return false;
    return bk_slice_equal(bk_slice_make(key.data + strlen(before), name.length), name);
}

static struct bk_json *copy_value(struct bk_arena *arena, const struct bk_json *value) {
    struct bk_json *copy = bk_arena_alloc(arena, sizeof(*copy));
    *copy = *value;
    copy->next = NULL;
    return copy;
}

static void append(struct bk_json *parent, struct bk_json *child) {
    struct bk_json **end = &parent->child;
    while (*end != NULL)
        end = &(*end)->next;
    *end = child;
    parent->child_count++;
}

static void copy_children(struct bk_arena *arena, struct bk_json *to, const struct bk_json *of) {
    struct bk_json **end = &to->child;
    for (const struct bk_json *child = of->child; child != NULL; child = child->next) {
        *end = copy_value(arena, child);
        if (arena->is_overflown) {
            *end = NULL;
            return;
        }
        end = &(*end)->next;
        to->child_count++;
    }
}

static struct bk_json *make(struct bk_arena *arena, enum bk_json_type type, struct bk_slice key) {
    struct bk_json *value = bk_arena_alloc_zero(arena, sizeof(*value));
    value->type = type;
    value->key = key;
    return value;
}

/* The names that the body has under the key: an array's elements, also of one within a text. */
static void copy_names(struct bk_arena *arena, struct bk_json *list, const struct bk_json *given) {
    struct bk_json *parsed;
    if (given == NULL || given->type == BK_JSON_NULL)
        return;
    if (given->type == BK_JSON_STRING && bk_slice_starts_with(given->string, BK_SLICE("[")) &&
        bk_json_parse(arena, given->string, &parsed, NULL) == BK_OK)
        given = parsed;
    if (given->type == BK_JSON_ARRAY)
        copy_children(arena, list, given);
    else
        append(list, copy_value(arena, given));
}

/* The list that stands for a key in the new body. */
static struct bk_json *put_list(struct taking *taking, struct bk_slice key, bool keeps_names) {
    struct bk_arena *arena = taking->arena;
    const struct bk_json *former = bk_json_get(taking->given, key);
    struct bk_json *list = make(arena, BK_JSON_ARRAY, key), **at;
    if (taking->body == NULL) {
        taking->body = make(arena, BK_JSON_OBJECT, BK_SLICE_EMPTY);
        if (taking->given != NULL)
            copy_children(arena, taking->body, taking->given);
    }
    if (keeps_names)
        copy_names(arena, list, former);
    for (at = &taking->body->child; *at != NULL; at = &(*at)->next) {
        if (bk_slice_equal((*at)->key, key)) {
            list->next = (*at)->next;
            *at = list;
            return list;
        }
    }
    *at = list;
    taking->body->child_count++;
    return list;
}

static void add_upload(struct taking *taking, struct bk_json *list,
                       const struct bk_request_file *file) {
    struct bk_upload *upload = bk_arena_alloc_zero(taking->arena, sizeof(*upload));
    struct bk_json *name = make(taking->arena, BK_JSON_STRING, BK_SLICE_EMPTY);
    if (taking->arena->is_overflown)
        return; /* whose memory is shared */
    upload->stored_name = make_stored_name(taking->arena, file->name, file->data);
    upload->name = file->name;
    upload->content_type = file->content_type;
    upload->data = file->data;
    name->string = upload->stored_name;
    name->text = bk_arena_format(taking->arena, "\"%.*s\"", BK_SLICE_PRINT(upload->stored_name));
    append(list, name);
    *taking->end = upload;
    taking->end = &upload->next;
}

static void take_key(struct taking *taking, const char *before, struct bk_slice name,
                     const char *behind) {
    struct bk_json *list = NULL;
    bool is_plain = before[0] == '\0' && behind[0] == '\0';
    for (const struct bk_request_file *file = taking->files;
         file != NULL && !taking->arena->is_overflown; file = file->next) {
        if (!is_key(taking, file->key, before, name, behind))
            continue;
        if (list == NULL) {
            struct bk_slice key =
                bk_arena_format(taking->arena, "%s%.*s%s", before, BK_SLICE_PRINT(name), behind);
            list = put_list(taking, key, is_plain);
        }
        add_upload(taking, list, file);
    }
}

enum bk_status bk_request_take_uploads(struct bk_arena *arena, const struct bk_request_file *files,
                                       struct bk_slice prefix,
                                       const struct bk_collection *collection,
                                       const struct bk_json **body, struct bk_upload **uploads) {
    struct taking taking = {
        .arena = arena, .files = files, .prefix = prefix, .given = *body, .end = uploads};
    while (*taking.end != NULL)
        taking.end = &(*taking.end)->next;
    for (uint32_t i = 0; files != NULL && i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (!field->type->takes_uploads)
            continue;
        take_key(&taking, "", field->name, "");
        take_key(&taking, "+", field->name, "");
        take_key(&taking, "", field->name, "+");
    }
    if (taking.body != NULL)
        *body = taking.body;
    return bk_arena_status(arena);
}
