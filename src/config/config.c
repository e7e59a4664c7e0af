/*
 * The list of options, and the two places that are plain texts: the command line and the
 * environment. Each entry remembers the strongest place that named it; a weaker one is checked and
 * dropped.
 */
#include "config_private.h"

#include "bakend/alloc.h"

enum { TEXTS_MAX_BYTES = 4 * 1024 * 1024 /* the file's cap several times over */ };

struct bk_config *bk_config_create(void) {
    struct bk_config *config = bk_alloc_zero(sizeof *config);
    bk_arena_init(&config->arena, TEXTS_MAX_BYTES);
    return config;
}

void bk_config_destroy(struct bk_config *config) {
    bk_free(config->entries);
    bk_arena_fini(&config->arena);
    bk_free(config);
}

static void add_entry(struct bk_config *config, const struct config_entry *entry) {
    BK_ASSERT(config_find(config, bk_slice_from(entry->option->name)) == NULL);
    if (config->count == config->capacity) {
        config->capacity = config->capacity == 0 ? 32 : config->capacity * 2;
        config->entries = bk_realloc(config->entries, config->capacity * sizeof *config->entries);
    }
    config->entries[config->count++] = *entry;
}

void bk_config_add(struct bk_config *config, const char *owner, const struct bk_option *options,
                   size_t option_count, void *values) {
    BK_ASSERT(option_count == 0 || (options != NULL && values != NULL));
    for (size_t i = 0; i < option_count; i++) {
        struct config_entry entry = {.option = &options[i],
                                     .owner = owner,
                                     .values = values,
                                     .text = options[i].default_value,
                                     .origin = BK_CONFIG_DEFAULT};
        if (entry.text != NULL) {
            struct bk_buffer why;
            bk_buffer_init(&why, BK_ERROR_MESSAGE_BYTES);
            BK_ASSERT(config_value_store(entry.option, entry.text, entry.values, &why));
            bk_buffer_fini(&why);
        }
        add_entry(config, &entry);
    }
}

/* "--listen", "BAKEND_LISTEN in the environment", "listen in bakend.json" */
static void describe_place(const struct bk_config *config, const struct bk_option *option,
                           enum bk_config_origin origin, struct bk_buffer *out) {
    char name[BK_CONFIG_NAME_BYTES_MAX + 1];
    switch (origin) {
    case BK_CONFIG_FLAG:
        bk_buffer_format(out, "--%s", option->name);
        return;
    case BK_CONFIG_ENVIRONMENT:
        config_name_in_environment(name, option->name);
        bk_buffer_format(out, "%s in the environment", name);
        return;
    case BK_CONFIG_FILE:
        config_name_in_file(name, option->name);
        bk_buffer_format(out, "%s in %s", name, config->file);
        return;
    case BK_CONFIG_DEFAULT:
        break;
    }
    BK_UNREACHABLE();
}

static enum bk_status refuse_value(const struct bk_config *config, const struct bk_option *option,
                                   enum bk_config_origin origin, struct bk_slice text,
                                   struct bk_slice why, struct bk_error *error) {
    struct bk_buffer place;
    bk_buffer_init(&place, BK_ERROR_MESSAGE_BYTES);
    describe_place(config, option, origin, &place);
    bk_error_set(error, BK_INVALID, "%.*s: \"%.*s\" %.*s", BK_SLICE_PRINT(bk_buffer_slice(&place)),
                 BK_SLICE_PRINT(text), BK_SLICE_PRINT(why));
    bk_buffer_fini(&place);
    return BK_INVALID;
}

enum bk_status config_set(struct bk_config *config, struct config_entry *entry,
                          struct bk_slice text, enum bk_config_origin origin,
                          struct bk_error *error) {
    BK_ASSERT(origin != BK_CONFIG_DEFAULT);
    const struct bk_option *option = entry->option;
    const char *kept = bk_arena_copy(&config->arena, text).data;
    if (config->arena.is_overflown)
        return bk_error_set(error, BK_TOO_LARGE, "--%s: the value is too long", option->name);
    /* What a stronger place has set is written back after the check. */
    const char *former = entry->origin > origin ? entry->text : NULL;
    struct bk_buffer why;
    bk_buffer_init(&why, BK_ERROR_MESSAGE_BYTES);
    enum bk_status status = BK_OK;
    if (!config_value_store(option, kept == NULL ? "" : kept, entry->values, &why))
        status = refuse_value(config, option, origin, text, bk_buffer_slice(&why), error);
    else if (former != NULL)
        config_value_store(option, former, entry->values, &why);
    else
        entry->text = kept == NULL ? "" : kept, entry->origin = origin;
    bk_buffer_fini(&why);
    return status;
}

/* --- flags ------------------------------------------------------------------------------------ */

/* Splits "--name=value"; value.data is NULL without '='. */
static struct bk_slice split_flag(const char *argument, struct bk_slice *value) {
    struct bk_slice text = bk_slice_from(argument + 2);
    size_t length = bk_slice_find(text, '=');
    *value = BK_SLICE_EMPTY;
    if (length < text.length)
        *value = bk_slice_make(text.data + length + 1, text.length - length - 1);
    return bk_slice_make(text.data, length);
}

/* One flag of ours at arguments[*index]; moves the index past its value when that is the next word.
 */
static enum bk_status read_flag(struct bk_config *config, struct config_entry *entry,
                                struct bk_slice value, int *index, int argument_count,
                                char **arguments, struct bk_error *error) {
    const struct bk_option *option = entry->option;
    if (option->type == BK_OPTION_SECRET) {
        char name[BK_CONFIG_NAME_BYTES_MAX + 1];
        config_name_in_environment(name, option->name);
        return bk_error_set(error, BK_INVALID,
                            "--%s is a secret, and flags can be seen by everybody on this machine: "
                            "set %s in the environment or the configuration file",
                            option->name, name);
    }
    if (value.data == NULL && option->type == BK_OPTION_BOOL)
        value = BK_SLICE("true");
    if (value.data == NULL) {
        if (*index + 1 >= argument_count)
            return bk_error_set(error, BK_INVALID, "--%s needs a value: --%s %s", option->name,
                                option->name,
                                option->argument != NULL ? option->argument : "VALUE");
        value = bk_slice_from(arguments[++*index]);
    }
    return config_set(config, entry, value, BK_CONFIG_FLAG, error);
}

enum bk_status bk_config_read_flags(struct bk_config *config, int *argument_count, char **arguments,
                                    struct bk_error *error) {
    int kept = 0, index = 0;
    bool is_ended = false;
    for (; index < *argument_count; index++) {
        const char *argument = arguments[index];
        if (is_ended || strncmp(argument, "--", 2) != 0) {
            arguments[kept++] = arguments[index];
            continue;
        }
        if (argument[2] == '\0') {
            is_ended = true;
            continue;
        }
        struct bk_slice value;
        struct config_entry *entry = config_find(config, split_flag(argument, &value));
        if (entry == NULL) {
            arguments[kept++] = arguments[index];
            continue;
        }
        enum bk_status status =
            read_flag(config, entry, value, &index, *argument_count, arguments, error);
        if (status != BK_OK)
            return status;
    }
    *argument_count = kept;
    return BK_OK;
}

enum bk_status bk_config_refuse_flag(const struct bk_config *config, const char *flag,
                                     struct bk_error *error) {
    struct bk_slice name = bk_slice_from(flag);
    name.length = bk_slice_find(name, '=');
    const struct config_entry *nearest = config_nearest(config, name, CONFIG_AS_FLAG);
    if (nearest == NULL)
        return bk_error_set(error, BK_INVALID, "unknown option %.*s: see `bakend help serve`",
                            BK_SLICE_PRINT(name));
    return bk_error_set(error, BK_INVALID,
                        "unknown option %.*s: did you mean --%s? See `bakend help serve`",
                        BK_SLICE_PRINT(name), nearest->option->name);
}

/* --- environment ------------------------------------------------------------------------------ */

static struct config_entry *find_variable(const struct bk_config *config, struct bk_slice name) {
    for (size_t i = 0; i < config->count; i++) {
        char spelled[BK_CONFIG_NAME_BYTES_MAX + 1];
        config_name_in_environment(spelled, config->entries[i].option->name);
        if (bk_slice_equal(name, bk_slice_from(spelled)))
            return &config->entries[i];
    }
    return NULL;
}

static enum bk_status read_variable(struct bk_config *config, struct bk_slice name,
                                    struct bk_slice value, struct bk_error *error) {
    struct config_entry *entry = find_variable(config, name);
    if (entry != NULL)
        return config_set(config, entry, value, BK_CONFIG_ENVIRONMENT, error);
    const struct config_entry *nearest = config_nearest(config, name, CONFIG_IN_ENVIRONMENT);
    if (nearest == NULL)
        return BK_OK;
    char spelled[BK_CONFIG_NAME_BYTES_MAX + 1];
    config_name_in_environment(spelled, nearest->option->name);
    return bk_error_set(error, BK_INVALID,
                        "unknown option %.*s in the environment: did you mean %s?",
                        BK_SLICE_PRINT(name), spelled);
}

enum bk_status bk_config_read_environment(struct bk_config *config, char *const *environment,
                                          struct bk_error *error) {
    for (; *environment != NULL; environment++) {
        struct bk_slice variable = bk_slice_from(*environment);
        if (!bk_slice_starts_with(variable, BK_SLICE("BAKEND_")))
            continue;
        size_t length = bk_slice_find(variable, '=');
        if (length == variable.length)
            continue;
        struct bk_slice value =
            bk_slice_make(variable.data + length + 1, variable.length - length - 1);
        enum bk_status status =
            read_variable(config, bk_slice_make(variable.data, length), value, error);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

enum bk_config_origin bk_config_origin(const struct bk_config *config, const char *name) {
    const struct config_entry *entry = config_find(config, bk_slice_from(name));
    BK_ASSERT(entry != NULL);
    return entry->origin;
}
