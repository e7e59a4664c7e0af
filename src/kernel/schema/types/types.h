/*
 * What the field types share: reading untyped JSON the way the contract does, lists of texts as a
 * column holds them, options of a definition, and the handful of codes that several types answer
 * with.
 */
#ifndef SCHEMA_TYPES_H
#define SCHEMA_TYPES_H

#include "bakend/schema.h"

enum {
    SCHEMA_TEXT_CHARACTERS_MAX = 5000,      /* of a text field that names no maximum */
    SCHEMA_EDITOR_BYTES_MAX = 5 << 20,      /* of an editor field that names no maximum */
    SCHEMA_JSON_BYTES_MAX = 1 << 20,        /* of a json field that names no maximum */
    SCHEMA_RELATION_COUNT_MAX = 10000,      /* ids that one check looks up */
    SCHEMA_GENERATED_BYTES_MAX = 64 * 1024, /* of one generated text */
};
/* The largest integer that every JSON reader keeps exactly: 2^53 - 1. */
#define SCHEMA_INTEGER_MAX INT64_C(9007199254740991)

extern const struct bk_field_type schema_type_autodate;
extern const struct bk_field_type schema_type_bool;
extern const struct bk_field_type schema_type_date;
extern const struct bk_field_type schema_type_editor;
extern const struct bk_field_type schema_type_email;
extern const struct bk_field_type schema_type_file;
extern const struct bk_field_type schema_type_geo_point;
extern const struct bk_field_type schema_type_json;
extern const struct bk_field_type schema_type_number;
extern const struct bk_field_type schema_type_relation;
extern const struct bk_field_type schema_type_select;
extern const struct bk_field_type schema_type_text;
extern const struct bk_field_type schema_type_url;

/* --- casting (cast.c): any JSON → what the field wants; what cannot be read is the empty value  */

/* Texts as they are, numbers without an exponent, true and false; "" for the rest. */
struct bk_slice schema_cast_text(const struct bk_json *input, struct bk_arena *arena);
bool schema_cast_bool(const struct bk_json *input);
/* An integer where it is one and fits, else a real. */
void schema_cast_number(const struct bk_json *input, struct bk_value *value);
void schema_number_set(struct bk_value *value, double number);

struct schema_list {
    struct bk_slice *items;
    uint32_t count;
};
/* The texts of an array, of a text that holds a JSON array, or of a single value: each once, no
 * empty ones. */
struct schema_list schema_cast_list(const struct bk_json *input, struct bk_arena *arena);

/* --- lists in a column (list.c) --------------------------------------------------------------- */

/* What a select or relation stores of a list: JSON of all, or the last one. */
void schema_list_store(const struct schema_list *list, bool is_multiple, struct bk_value *value,
                       struct bk_arena *arena);
/* What a modifier does to a list that is stored: appends, prepends or removes the texts of input.
 * Of a single value the last one stays, as when a list is sent for it. */
void schema_list_modify(bool is_multiple, enum bk_modifier modifier, const struct bk_json *input,
                        struct bk_value *value, struct bk_arena *arena);
/* The same with what was read of the input already. */
void schema_list_change(bool is_multiple, enum bk_modifier modifier,
                        const struct schema_list *given, struct bk_value *value,
                        struct bk_arena *arena);
/* Takes the next element off JSON text of an array, as it is written there; false at the end. Start
 * with the whole array. */
bool schema_list_next(struct bk_slice *rest, struct bk_slice *element);
uint32_t schema_list_count(struct bk_slice array);
/* Whether the value of a field that takes one is judged as several. */
bool schema_list_is_several(struct bk_slice text, struct bk_arena *arena);
/* Value → JSON: an array, or a text. */
void schema_list_write_json(bool is_multiple, const struct bk_value *value, struct bk_buffer *out);

/* --- dates (date_parse.c) --------------------------------------------------------------------- */

/* Reads the forms that the contract reads; false when it is none of them. */
bool schema_date_parse(struct bk_slice text, int64_t *wall_ms);
/* As a record holds it, 24 bytes in the arena; "" for what is no date or the zero one (year 1). */
struct bk_slice schema_date_normalise(struct bk_slice text, struct bk_arena *arena);

/* --- patterns (pattern.c) and generated texts (generate.c) ------------------------------------ */

struct schema_pattern;
/* Compiles into the arena, where it lives and dies; NULL with a reason in error. */
struct schema_pattern *schema_pattern_compile(struct bk_slice text, struct bk_arena *arena,
                                              struct bk_error *error);
/* Any thread. A text that takes too long to match does not match. */
bool schema_pattern_matches(const struct schema_pattern *pattern, struct bk_slice text);
/* Appends a random text that the pattern describes; BK_INVALID with a reason for what it cannot
 * do. */
enum bk_status schema_generate(struct bk_slice pattern, struct bk_buffer *out,
                               struct bk_error *error);

/* --- addresses (address.c) -------------------------------------------------------------------- */

bool schema_email_is_valid(struct bk_slice text);
bool schema_url_is_valid(struct bk_slice text);
/* Host and port of a valid URL; empty when it has no scheme. */
struct bk_slice schema_url_host(struct bk_slice text);
bool schema_domain_is_valid(struct bk_slice text);
struct schema_domains {
    struct schema_list only, except;
};

/* --- options (options.c) ---------------------------------------------------------------------- */

/* Reads members of a field's definition; an absent member or null is the type's zero. What has the
 * wrong type is a problem. Texts are copied into the arena. */
struct schema_options {
    const struct bk_json *definition;
    struct bk_slice path;
    struct bk_problems *problems;
    struct bk_arena *arena;
};
void schema_option_problem(const struct schema_options *options, const char *name, const char *code,
                           const char *message);
void schema_option_problem_threshold(const struct schema_options *options, const char *name,
                                     bool is_minimum, int64_t threshold);
bool schema_option_bool(const struct schema_options *options, const char *name);
int64_t schema_option_int(const struct schema_options *options, const char *name);
/* Bounds are checked unless the value is 0. */
int64_t schema_option_int_within(const struct schema_options *options, const char *name,
                                 int64_t minimum, int64_t maximum);
/* False when it is absent. */
bool schema_option_number(const struct schema_options *options, const char *name,
                          struct bk_value *value);
struct bk_slice schema_option_text(const struct schema_options *options, const char *name);
struct schema_list schema_option_texts(const struct schema_options *options, const char *name);
/* onlyDomains and exceptDomains, of which only one may be given. */
struct schema_domains schema_option_domains(const struct schema_options *options);
void schema_write_texts(struct bk_buffer *out, const char *name, const struct schema_list *texts);
void schema_write_domains(struct bk_buffer *out, const struct schema_domains *domains);
bool schema_domains_allow(const struct schema_domains *domains, struct bk_slice domain);

/* --- problems of values (options.c) ----------------------------------------------------------- */

/* "Cannot be blank." when the field is required; true when it was. */
bool schema_problem_if_required(const struct bk_field *field, struct bk_problems *problems);
/* With one number among the params: {"min":2}. format has one %s, which the number replaces. */
void schema_problem_number(const struct bk_field *field, struct bk_problems *problems,
                           const char *code, const char *format, const char *parameter,
                           const struct bk_value *number);
void schema_problem_int(const struct bk_field *field, struct bk_problems *problems,
                        const char *code, const char *format, const char *parameter,
                        int64_t number);

/* --- values ----------------------------------------------------------------------------------- */

static inline bool schema_value_is_empty_text(const struct bk_value *value) {
    return value->type != BK_VALUE_TEXT || value->text.length == 0;
}
/* For the types that hold a text. */
void schema_text_empty(const struct bk_field *field, struct bk_value *value);
void schema_text_write_json(const struct bk_field *field, const struct bk_value *value,
                            struct bk_buffer *out);
void schema_text_normalise(const struct bk_field *field, const struct bk_json *input,
                           struct bk_value *value, struct bk_arena *arena);

#endif
