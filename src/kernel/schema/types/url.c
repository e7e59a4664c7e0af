/* url: a URL as a text, with a list of the hosts that it may or may not name. */
#include "types.h"

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    if (schema_value_is_empty_text(value))
        schema_problem_if_required(field, problems);
    else if (!schema_url_is_valid(value->text))
        bk_problems_add(problems, field->name, "validation_invalid_url", "Must be a valid url.");
    else if (!schema_domains_allow(field->options, schema_url_host(value->text)))
        bk_problems_add(problems, field->name, "validation_url_domain_not_allowed",
                        "Url domain is not allowed.");
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    const struct schema_options reader = {definition, path, problems, arena};
    *(struct schema_domains *)field->options = schema_option_domains(&reader);
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    schema_write_domains(out, field->options);
}

const struct bk_field_type schema_type_url = {
    .name = "url",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct schema_domains),
    .configure = configure,
    .write_options = write_options,
    .normalise = schema_text_normalise,
    .empty = schema_text_empty,
    .validate = validate,
    .write_json = schema_text_write_json,
};
