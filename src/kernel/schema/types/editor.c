/* editor: HTML as its author wrote it, kept and given back unchanged; bounded in bytes. */
#include "types.h"

struct editor_options {
    int64_t maximum;    /* bytes; 0: 5 MiB */
    bool converts_urls; /* a wish to the dashboard's editor */
};

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    const struct editor_options *options = field->options;
    int64_t maximum = options->maximum > 0 ? options->maximum : SCHEMA_EDITOR_BYTES_MAX;
    if (schema_value_is_empty_text(value))
        schema_problem_if_required(field, problems);
    else if ((int64_t)value->text.length > maximum)
        schema_problem_int(field, problems, "validation_content_size_limit",
                           "The maximum allowed content size is %s bytes.", "maxSize", maximum);
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct editor_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    options->maximum = schema_option_int_within(&reader, "maxSize", 0, SCHEMA_INTEGER_MAX);
    options->converts_urls = schema_option_bool(&reader, "convertURLs");
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct editor_options *options = field->options;
    bk_json_write_member_bool(out, BK_SLICE("convertURLs"), options->converts_urls);
    bk_json_write_member_int(out, BK_SLICE("maxSize"), options->maximum);
}

const struct bk_field_type schema_type_editor = {
    .name = "editor",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct editor_options),
    .configure = configure,
    .write_options = write_options,
    .normalise = schema_text_normalise,
    .empty = schema_text_empty,
    .validate = validate,
    .write_json = schema_text_write_json,
};
