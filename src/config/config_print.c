/* What is in force and where it came from, and the options for the help. A secret shows that it is
 * set, never what it is. */
#include "config_private.h"

#include "bakend/json.h"

enum { NAME_COLUMNS = 26, VALUE_COLUMNS = 30 };

static const char *origin_name(enum bk_config_origin origin) {
    static const char *const names[] = {"default", "file", "environment", "flag"};
    return names[origin];
}

static struct bk_slice shown_value(const struct config_entry *entry) {
    if (entry->option->type == BK_OPTION_SECRET)
        return entry->text == NULL || entry->text[0] == '\0' ? BK_SLICE("") : BK_SLICE("********");
    return bk_slice_from(entry->text);
}

/* "--listen", "BAKEND_LISTEN", "bakend.json", "default" */
static void write_from(const struct bk_config *config, const struct config_entry *entry,
                       struct bk_buffer *out) {
    char name[BK_CONFIG_NAME_BYTES_MAX + 1];
    switch (entry->origin) {
    case BK_CONFIG_FLAG:
        bk_buffer_format(out, "--%s", entry->option->name);
        return;
    case BK_CONFIG_ENVIRONMENT:
        config_name_in_environment(name, entry->option->name);
        bk_buffer_append_slice(out, bk_slice_from(name));
        return;
    case BK_CONFIG_FILE:
        bk_buffer_append_slice(out, bk_slice_from(config->file));
        return;
    case BK_CONFIG_DEFAULT:
        bk_buffer_append_literal(out, "default");
        return;
    }
    BK_UNREACHABLE();
}

void bk_config_write_text(const struct bk_config *config, struct bk_buffer *out) {
    for (size_t i = 0; i < config->count; i++) {
        const struct config_entry *entry = &config->entries[i];
        struct bk_slice value = shown_value(entry);
        bk_buffer_format(out, "%-*s %-*.*s ", NAME_COLUMNS, entry->option->name, VALUE_COLUMNS,
                         BK_SLICE_PRINT(value));
        write_from(config, entry, out);
        bk_buffer_append_char(out, '\n');
    }
}

static void write_json_value(const struct config_entry *entry, struct bk_buffer *out) {
    enum bk_option_type type = entry->option->type;
    struct bk_slice value = shown_value(entry);
    int64_t number;
    if (entry->text == NULL)
        bk_json_write_member_raw(out, BK_SLICE("value"), BK_SLICE("null"));
    else if (type == BK_OPTION_INT && bk_slice_to_int64(value, &number))
        bk_json_write_member_int(out, BK_SLICE("value"), number); /* "007" is no number in JSON */
    else if (type == BK_OPTION_BOOL)
        bk_json_write_member_raw(out, BK_SLICE("value"), value);
    else
        bk_json_write_member_string(out, BK_SLICE("value"), value);
}

void bk_config_write_json(const struct bk_config *config, struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    for (size_t i = 0; i < config->count; i++) {
        const struct config_entry *entry = &config->entries[i];
        char name[BK_CONFIG_NAME_BYTES_MAX + 1];
        config_name_in_file(name, entry->option->name);
        bk_json_write_key(out, bk_slice_from(name));
        bk_buffer_append_char(out, '{');
        write_json_value(entry, out);
        bk_json_write_member_string(out, BK_SLICE("origin"),
                                    bk_slice_from(origin_name(entry->origin)));
        struct bk_buffer from;
        bk_buffer_init(&from, BK_CONFIG_FILE_BYTES_MAX);
        write_from(config, entry, &from);
        bk_json_write_member_string(out, BK_SLICE("from"), bk_buffer_slice(&from));
        bk_buffer_fini(&from);
        bk_buffer_append_char(out, '}');
    }
    bk_buffer_append_literal(out, "}\n");
}

/* " (2; 1 to 4)": the default and the range. */
static void write_limits(const struct bk_option *option, struct bk_buffer *out) {
    bool has_default = option->default_value != NULL && option->default_value[0] != '\0' &&
                       option->type != BK_OPTION_SECRET;
    bool is_bounded = option->minimum != 0 || option->maximum != 0;
    if (!has_default && !is_bounded)
        return;
    bk_buffer_format(out, " (%s%s", has_default ? option->default_value : "",
                     has_default && is_bounded ? "; " : "");
    if (is_bounded) {
        config_value_write(option->type, option->minimum, out);
        bk_buffer_append_literal(out, " to ");
        config_value_write(option->type, option->maximum, out);
    }
    bk_buffer_append_char(out, ')');
}

void bk_config_write_help(const struct bk_config *config, struct bk_buffer *out) {
    for (size_t i = 0; i < config->count; i++) {
        const struct bk_option *option = config->entries[i].option;
        struct bk_buffer name;
        bk_buffer_init(&name, 4 * BK_CONFIG_NAME_BYTES_MAX);
        bk_buffer_format(&name, "--%s%s%s", option->name, option->argument != NULL ? " " : "",
                         option->argument != NULL ? option->argument : "");
        bk_buffer_format(out, "  %-*.*s %s", NAME_COLUMNS + 10,
                         BK_SLICE_PRINT(bk_buffer_slice(&name)), option->help);
        write_limits(option, out);
        bk_buffer_append_char(out, '\n');
        bk_buffer_fini(&name);
    }
}
