/* Options of a field: read from its definition with a problem for each that is wrong, and the
 * problems of values that several types share. Paths of problems are those of the definition:
 * fields.0.max. */
#include "types.h"

#include "bakend/assert.h"
#include <stdio.h>

enum { DOMAIN_BYTES_MAX = 255, MESSAGE_BYTES_MAX = 256 };

/* --- reading ---------------------------------------------------------------------------------- */

static struct bk_slice option_path(const struct schema_options *options, const char *name) {
    return bk_arena_format(options->problems->arena, "%.*s.%s", BK_SLICE_PRINT(options->path),
                           name);
}

void schema_option_problem(const struct schema_options *options, const char *name, const char *code,
                           const char *message) {
    bk_problems_add(options->problems, option_path(options, name), code, message);
}

void schema_option_problem_threshold(const struct schema_options *options, const char *name,
                                     bool is_minimum, int64_t threshold) {
    char message[MESSAGE_BYTES_MAX], params[64];
    snprintf(message, sizeof message, "Must be no %s than %lld.", is_minimum ? "less" : "greater",
             (long long)threshold);
    snprintf(params, sizeof params, "{\"threshold\":%lld}", (long long)threshold);
    bk_problems_add_params(options->problems, option_path(options, name),
                           is_minimum ? "validation_min_greater_equal_than_required"
                                      : "validation_max_less_equal_than_required",
                           message, bk_slice_from(params));
}

static const struct bk_json *option(const struct schema_options *options, const char *name) {
    const struct bk_json *member = bk_json_get(options->definition, bk_slice_from(name));
    return member == NULL || member->type == BK_JSON_NULL ? NULL : member;
}

static void wrong_type(const struct schema_options *options, const char *name,
                       const char *message) {
    schema_option_problem(options, name, "validation_unsupported_value_type", message);
}

bool schema_option_bool(const struct schema_options *options, const char *name) {
    const struct bk_json *member = option(options, name);
    if (member != NULL && member->type != BK_JSON_BOOL)
        wrong_type(options, name, "Must be true or false.");
    return member != NULL && member->type == BK_JSON_BOOL && member->boolean;
}

int64_t schema_option_int(const struct schema_options *options, const char *name) {
    const struct bk_json *member = option(options, name);
    int64_t value = 0;
    if (member != NULL && (member->type != BK_JSON_NUMBER || !bk_json_to_int64(member, &value)))
        wrong_type(options, name, "Must be a whole number.");
    return value;
}

int64_t schema_option_int_within(const struct schema_options *options, const char *name,
                                 int64_t minimum, int64_t maximum) {
    int64_t value = schema_option_int(options, name);
    if (value != 0 && value < minimum)
        schema_option_problem_threshold(options, name, true, minimum);
    else if (value != 0 && value > maximum)
        schema_option_problem_threshold(options, name, false, maximum);
    return value;
}

bool schema_option_number(const struct schema_options *options, const char *name,
                          struct bk_value *value) {
    const struct bk_json *member = option(options, name);
    if (member == NULL)
        return false;
    if (member->type != BK_JSON_NUMBER) {
        wrong_type(options, name, "Must be a number.");
        return false;
    }
    schema_cast_number(member, value);
    return true;
}

struct bk_slice schema_option_text(const struct schema_options *options, const char *name) {
    const struct bk_json *member = option(options, name);
    if (member == NULL)
        return BK_SLICE("");
    if (member->type != BK_JSON_STRING) {
        wrong_type(options, name, "Must be a text.");
        return BK_SLICE("");
    }
    return bk_arena_copy(options->arena, member->string);
}

struct schema_list schema_option_texts(const struct schema_options *options, const char *name) {
    struct schema_list list = {NULL, 0};
    const struct bk_json *member = option(options, name);
    if (member == NULL)
        return list;
    if (member->type != BK_JSON_ARRAY) {
        wrong_type(options, name, "Must be a list of texts.");
        return list;
    }
    list.items = bk_arena_alloc(options->arena, sizeof *list.items * (member->child_count + 1));
    if (list.items == NULL || options->arena->is_overflown)
        return (struct schema_list){NULL, 0};
    for (const struct bk_json *child = member->child; child != NULL; child = child->next) {
        if (child->type != BK_JSON_STRING)
            wrong_type(options, name, "Must be a list of texts.");
        else
            list.items[list.count++] = bk_arena_copy(options->arena, child->string);
    }
    return list;
}

/* --- domains ---------------------------------------------------------------------------------- */

static void check_domains(const struct schema_options *options, const char *name,
                          const struct schema_list *domains, bool must_be_empty) {
    if (must_be_empty && domains->count > 0) {
        schema_option_problem(options, name, "validation_empty", "Must be blank.");
        return;
    }
    for (uint32_t i = 0; i < domains->count; i++) {
        if (domains->items[i].length == 0 || schema_domain_is_valid(domains->items[i]))
            continue;
        struct bk_slice path = bk_arena_format(options->problems->arena, "%.*s.%s.%u",
                                               BK_SLICE_PRINT(options->path), name, i);
        bk_problems_add(options->problems, path, "validation_is_domain", "Must be a valid domain.");
    }
}

struct schema_domains schema_option_domains(const struct schema_options *options) {
    struct schema_domains domains = {
        .only = schema_option_texts(options, "onlyDomains"),
        .except = schema_option_texts(options, "exceptDomains"),
    };
    check_domains(options, "exceptDomains", &domains.except, domains.only.count > 0);
    check_domains(options, "onlyDomains", &domains.only, domains.except.count > 0);
    return domains;
}

static bool has(const struct schema_list *list, struct bk_slice text) {
    for (uint32_t i = 0; i < list->count; i++)
        if (bk_slice_equal(list->items[i], text))
            return true;
    return false;
}

bool schema_domains_allow(const struct schema_domains *domains, struct bk_slice domain) {
    if (domains->only.count > 0 && !has(&domains->only, domain))
        return false;
    return domains->except.count == 0 || !has(&domains->except, domain);
}

void schema_write_texts(struct bk_buffer *out, const char *name, const struct schema_list *texts) {
    bk_json_write_key(out, bk_slice_from(name));
    bk_buffer_append_char(out, '[');
    for (uint32_t i = 0; i < texts->count; i++) {
        bk_json_write_separator(out);
        bk_json_write_string(out, texts->items[i]);
    }
    bk_buffer_append_char(out, ']');
}

/* An option that was never given is null, as the contract has it. */
void schema_write_domains(struct bk_buffer *out, const struct schema_domains *domains) {
    static const char *const names[] = {"exceptDomains", "onlyDomains"};
    const struct schema_list *const lists[] = {&domains->except, &domains->only};
    for (size_t i = 0; i < BK_COUNT_OF(lists); i++) {
        if (lists[i]->items == NULL)
            bk_json_write_member_raw(out, bk_slice_from(names[i]), BK_SLICE("null"));
        else
            schema_write_texts(out, names[i], lists[i]);
    }
}

/* --- values ----------------------------------------------------------------------------------- */

bool schema_problem_if_required(const struct bk_field *field, struct bk_problems *problems) {
    if (!field->is_required && !field->is_primary_key)
        return false;
    bk_problems_add(problems, field->name, "validation_required", "Cannot be blank.");
    return true;
}

void schema_problem_number(const struct bk_field *field, struct bk_problems *problems,
                           const char *code, const char *format, const char *parameter,
                           const struct bk_value *number) {
    struct bk_buffer text, out;
    bk_buffer_init(&text, MESSAGE_BYTES_MAX);
    bk_buffer_init(&out, 2 * MESSAGE_BYTES_MAX);
    if (number->type == BK_VALUE_INT)
        bk_json_write_int(&text, number->integer);
    else
        bk_json_write_double(&text, number->real);
    const char *mark = strstr(format, "%s");
    BK_ASSERT(mark != NULL);
    bk_buffer_append(&out, format, (size_t)(mark - format));
    bk_buffer_append_slice(&out, bk_buffer_slice(&text));
    bk_buffer_append(&out, mark + 2, strlen(mark + 2) + 1); /* with its NUL */
    size_t message_length = out.length;
    bk_buffer_append_char(&out, '{');
    bk_json_write_member_raw(&out, bk_slice_from(parameter), bk_buffer_slice(&text));
    bk_buffer_append_char(&out, '}');
    bk_buffer_insist(&out);
    bk_problems_add_params(problems, field->name, code, out.data,
                           bk_slice_make(out.data + message_length, out.length - message_length));
    bk_buffer_fini(&out);
    bk_buffer_fini(&text);
}

void schema_problem_int(const struct bk_field *field, struct bk_problems *problems,
                        const char *code, const char *format, const char *parameter,
                        int64_t number) {
    struct bk_value value = BK_VALUE_OF_INT(number);
    schema_problem_number(field, problems, code, format, parameter, &value);
}

/* --- what the types of texts share ------------------------------------------------------------ */

void schema_text_empty(const struct bk_field *field, struct bk_value *value) {
    (void)field;
    *value = BK_VALUE_OF_TEXT(BK_SLICE(""));
}

void schema_text_write_json(const struct bk_field *field, const struct bk_value *value,
                            struct bk_buffer *out) {
    (void)field;
    bk_json_write_string(out, value->type == BK_VALUE_TEXT ? value->text : BK_SLICE(""));
}

void schema_text_normalise(const struct bk_field *field, const struct bk_json *input,
                           struct bk_value *value, struct bk_arena *arena) {
    (void)field;
    *value = BK_VALUE_OF_TEXT(schema_cast_text(input, arena));
}
