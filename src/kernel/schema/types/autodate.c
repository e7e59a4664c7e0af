/* autodate: the moment of the create, of the last update, or both. What a client sends is ignored:
 * normalise gives the empty value and fill sets it, or leaves the former one. */
#include "types.h"

#include "bakend/clock.h"

struct autodate_options {
    bool on_create, on_update;
};

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    (void)input;
    (void)arena;
    schema_text_empty(field, value);
}

static void fill(const struct bk_field *field, struct bk_value *value, bool is_create, bool given,
                 int64_t now_ms, struct bk_arena *arena) {
    (void)given;
    const struct autodate_options *options = field->options;
    if (is_create ? !options->on_create : !options->on_update)
        return;
    char *text = bk_arena_alloc(arena, BK_TIME_TEXT_BYTES);
    bk_time_format(text, now_ms, ' ');
    *value = BK_VALUE_OF_TEXT(bk_slice_make(text, BK_TIME_TEXT_BYTES));
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct autodate_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    options->on_create = schema_option_bool(&reader, "onCreate");
    options->on_update = schema_option_bool(&reader, "onUpdate");
    if (options->on_create || options->on_update)
        return;
    static const char message[] = "Either onCreate or onUpdate must be enabled.";
    schema_option_problem(&reader, "onCreate", "validation_required", message);
    schema_option_problem(&reader, "onUpdate", "validation_required", message);
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct autodate_options *options = field->options;
    bk_json_write_member_bool(out, BK_SLICE("onCreate"), options->on_create);
    bk_json_write_member_bool(out, BK_SLICE("onUpdate"), options->on_update);
}

const struct bk_field_type schema_type_autodate = {
    .name = "autodate",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct autodate_options),
    .configure = configure,
    .write_options = write_options,
    .normalise = normalise,
    .empty = schema_text_empty,
    .fill = fill,
    .write_json = schema_text_write_json,
    .is_read_only = true,
};
