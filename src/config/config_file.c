/* The configuration file: one JSON object whose keys are the options in camelCase. A key that no
 * option has is an error, since a setting that is silently not in force is worse than a server that
 * does not start. */
#include "config_private.h"

#include "bakend/file.h"
#include "bakend/json.h"

enum { PARSED_MAX_BYTES = 16 * 1024 * 1024 };

static struct config_entry *find_key(const struct bk_config *config, struct bk_slice key) {
    for (size_t i = 0; i < config->count; i++) {
        char spelled[BK_CONFIG_NAME_BYTES_MAX + 1];
        config_name_in_file(spelled, config->entries[i].option->name);
        if (bk_slice_equal(key, bk_slice_from(spelled)))
            return &config->entries[i];
    }
    return NULL;
}

static enum bk_status refuse_key(const struct bk_config *config, struct bk_slice key,
                                 struct bk_error *error) {
    const struct config_entry *nearest = config_find(config, key); /* written like the flag */
    if (nearest == NULL)
        nearest = config_nearest(config, key, CONFIG_IN_FILE);
    if (nearest == NULL)
        return bk_error_set(error, BK_INVALID, "unknown key %.*s in %s", BK_SLICE_PRINT(key),
                            config->file);
    char spelled[BK_CONFIG_NAME_BYTES_MAX + 1];
    config_name_in_file(spelled, nearest->option->name);
    return bk_error_set(error, BK_INVALID, "unknown key %.*s in %s: did you mean %s?",
                        BK_SLICE_PRINT(key), config->file, spelled);
}

/* ["a", "b"] as "a,b". */
static bool join_texts(const struct bk_json *array, struct bk_buffer *out) {
    for (const struct bk_json *item = array->child; item != NULL; item = item->next) {
        if (item->type != BK_JSON_STRING)
            return false;
        if (item != array->child)
            bk_buffer_append_char(out, ',');
        bk_buffer_append_slice(out, item->string);
    }
    return !out->is_overflown;
}

static bool value_as_text(const struct bk_json *value, struct bk_buffer *joined,
                          struct bk_slice *text) {
    switch (value->type) {
    case BK_JSON_STRING:
        *text = value->string;
        return memchr(text->data, '\0', text->length) == NULL;
    case BK_JSON_NUMBER:
    case BK_JSON_BOOL:
        *text = value->text;
        return true;
    case BK_JSON_ARRAY:
        if (!join_texts(value, joined))
            return false;
        *text = bk_buffer_slice(joined);
        return true;
    case BK_JSON_NULL:
    case BK_JSON_OBJECT:
        break;
    }
    return false;
}

static enum bk_status read_key(struct bk_config *config, const struct bk_json *member,
                               struct bk_error *error) {
    struct config_entry *entry = find_key(config, member->key);
    if (entry == NULL)
        return refuse_key(config, member->key, error);
    struct bk_buffer joined;
    bk_buffer_init(&joined, BK_CONFIG_FILE_BYTES_MAX);
    struct bk_slice text;
    enum bk_status status;
    if (value_as_text(member, &joined, &text))
        status = config_set(config, entry, text, BK_CONFIG_FILE, error);
    else
        status =
            bk_error_set(error, BK_INVALID,
                         "%.*s in %s: must be a text, a number, true, false or a list of texts",
                         BK_SLICE_PRINT(member->key), config->file);
    bk_buffer_fini(&joined);
    return status;
}

static enum bk_status read_object(struct bk_config *config, struct bk_slice text,
                                  struct bk_arena *arena, struct bk_error *error) {
    struct bk_json *object = NULL;
    enum bk_status status = bk_json_parse(arena, text, &object, error);
    if (status != BK_OK) {
        bk_error_prefix(error, "%s", config->file);
        return status;
    }
    if (object->type != BK_JSON_OBJECT)
        return bk_error_set(error, BK_INVALID, "%s: must be a JSON object", config->file);
    for (const struct bk_json *member = object->child; member != NULL; member = member->next) {
        status = read_key(config, member, error);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

enum bk_status bk_config_read_file(struct bk_config *config, const char *path,
                                   struct bk_error *error) {
    BK_ASSERT(path != NULL);
    struct bk_buffer text;
    bk_buffer_init(&text, BK_CONFIG_FILE_BYTES_MAX);
    struct bk_arena arena;
    bk_arena_init(&arena, PARSED_MAX_BYTES);
    config->file = bk_arena_copy(&config->arena, bk_slice_from(path)).data;
    enum bk_status status = bk_file_read(path, &text, error);
    if (status == BK_OK)
        status = read_object(config, bk_buffer_slice(&text), &arena, error);
    bk_arena_fini(&arena);
    bk_buffer_fini(&text);
    return status;
}
