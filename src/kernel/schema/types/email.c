/* email: an address as a text, case kept, with a list of the domains that it may or may not be
 * of. */
#include "types.h"

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    const struct schema_domains *domains = field->options;
    if (schema_value_is_empty_text(value)) {
        schema_problem_if_required(field, problems);
        return;
    }
    if (!schema_email_is_valid(value->text)) {
        bk_problems_add(problems, field->name, "validation_is_email",
                        "Must be a valid email address.");
        return;
    }
    size_t mark = value->text.length;
    while (value->text.data[mark - 1] != '@') /* a valid one has it */
        mark--;
    if (!schema_domains_allow(domains,
                              bk_slice_make(value->text.data + mark, value->text.length - mark)))
        bk_problems_add(problems, field->name, "validation_email_domain_not_allowed",
                        "Email domain is not allowed.");
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    const struct schema_options reader = {definition, path, problems, arena};
    *(struct schema_domains *)field->options = schema_option_domains(&reader);
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    schema_write_domains(out, field->options);
}

const struct bk_field_type schema_type_email = {
    .name = "email",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct schema_domains),
    .configure = configure,
    .write_options = write_options,
    .normalise = schema_text_normalise,
    .empty = schema_text_empty,
    .validate = validate,
    .write_json = schema_text_write_json,
};
