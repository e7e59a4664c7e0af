/* text: any string, with bounds on its characters and a pattern. The record's id is one, with more
 * said about what an id may be, since ids become names of files and parts of URLs. */
#include "types.h"

#include "bakend/assert.h"
#include "bakend/id.h"
#include <stdio.h>

struct text_options {
    int64_t minimum, maximum; /* characters; 0: none, and 5,000 */
    struct bk_slice pattern, autogenerate;
    struct schema_pattern *matcher; /* NULL without a pattern */
    bool has_default_pattern;       /* of ids */
    bool makes_record_ids;          /* the defaults: ids are made by bk_record_id_make */
};

#define DEFAULT_ID_PATTERN BK_SLICE("^[a-z0-9]+$")
#define DEFAULT_ID_AUTOGENERATE BK_SLICE("[a-z0-9]{15}")

enum { TRIES = 10, REASON_BYTES_MAX = 400, RESERVED_ID_BYTES_MAX = 4 };

static int64_t count_characters(struct bk_slice text) {
    int64_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    return count;
}

/* --- validation ------------------------------------------------------------------------------- */

/* Names that some file systems keep for themselves. */
static const char *reserved_id(struct bk_slice text) {
    static const char *const names[] = {
        "CON",  "PRN",  "AUX",  "NUL",  "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7",
        "COM8", "COM9", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9"};
    for (size_t i = 0; i < BK_COUNT_OF(names) && text.length <= RESERVED_ID_BYTES_MAX; i++)
        if (bk_slice_equal_ignore_case(text, bk_slice_from(names[i])))
            return names[i];
    return NULL;
}

/* With the character as the only param. */
static void problem_text(const struct bk_field *field, struct bk_problems *problems,
                         const char *code, const char *format, const char *parameter,
                         struct bk_slice text) {
    char message[96];
    struct bk_buffer params;
    bk_buffer_init(&params, sizeof message);
    snprintf(message, sizeof message, format, BK_SLICE_PRINT(text));
    bk_buffer_append_char(&params, '{');
    bk_json_write_member_string(&params, bk_slice_from(parameter), text);
    bk_buffer_append_char(&params, '}');
    bk_problems_add_params(problems, field->name, code, message, bk_buffer_slice(&params));
    bk_buffer_fini(&params);
}

static void validate_id_characters(const struct bk_field *field, struct bk_slice text,
                                   struct bk_problems *problems) {
    static const char forbidden[] = {'.', '/', '\\', '|', '"', '\'', '`',  '<',  '>', ':',
                                     '?', '*', '%',  '$', 0,   '\t', '\n', '\r', ' '};
    for (size_t i = 0; i < sizeof forbidden; i++) {
        if (bk_slice_find(text, forbidden[i]) == text.length)
            continue;
        problem_text(field, problems, "validation_forbidden_pk_character",
                     "'%.*s' is not a valid primary key character.", "ch",
                     bk_slice_make(&forbidden[i], 1));
        return;
    }
    const char *reserved = reserved_id(text);
    if (reserved != NULL)
        problem_text(field, problems, "validation_reserved_pk",
                     "The primary key '%.*s' is reserved and cannot be used.", "reserved",
                     bk_slice_from(reserved));
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    const struct text_options *options = field->options;
    if (schema_value_is_empty_text(value)) {
        schema_problem_if_required(field, problems);
        return;
    }
    int64_t length = count_characters(value->text);
    int64_t maximum = options->maximum == 0 ? SCHEMA_TEXT_CHARACTERS_MAX : options->maximum;
    if (options->minimum > 0 && length < options->minimum)
        schema_problem_int(field, problems, "validation_min_text_constraint",
                           "Must be at least %s character(s).", "min", options->minimum);
    else if (length > maximum)
        schema_problem_int(field, problems, "validation_max_text_constraint",
                           "Must be no more than %s character(s).", "max", maximum);
    else if (options->matcher != NULL && !schema_pattern_matches(options->matcher, value->text))
        bk_problems_add(problems, field->name, "validation_invalid_format",
                        "Invalid value format.");
    else if (field->is_primary_key && !options->has_default_pattern)
        validate_id_characters(field, value->text, problems);
}

/* Two ids that differ in case only would be one file on some systems. The default pattern has no
 * case. */
static enum bk_status check(const struct bk_field *field, const struct bk_value *value,
                            struct bk_transaction *transaction, const struct bk_schema *schema,
                            struct bk_problems *problems) {
    (void)schema;
    const struct text_options *options = field->options;
    if (!field->is_primary_key || options->has_default_pattern)
        return BK_OK;
    struct bk_slice text =
        bk_arena_format(bk_transaction_arena(transaction),
                        "SELECT 1 FROM %.*s WHERE %.*s = ?1 COLLATE NOCASE LIMIT 1",
                        BK_SLICE_PRINT(field->collection->quoted), BK_SLICE_PRINT(field->quoted));
    struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind(statement, 1, value);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    if (status == BK_OK)
        bk_problems_add(problems, field->name, "validation_pk_invalid",
                        "The record primary key is invalid or already exists.");
    return status == BK_END ? BK_OK : status;
}

/* A text that the pattern of the field describes. */
static struct bk_slice generate(const struct text_options *options, struct bk_arena *arena) {
    struct bk_buffer out;
    bk_buffer_init(&out, SCHEMA_GENERATED_BYTES_MAX);
    enum bk_status status = schema_generate(options->autogenerate, &out, NULL);
    BK_ASSERT(status == BK_OK); /* tried when the definition was read */
    struct bk_slice text = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return text;
}

/* "code:autogenerate": what is sent, and a made text behind it. */
static void modify(const struct bk_field *field, enum bk_modifier modifier,
                   const struct bk_json *input, struct bk_value *value, struct bk_arena *arena) {
    const struct text_options *options = field->options;
    (void)modifier;
    struct bk_slice text = schema_cast_text(input, arena);
    if (options->autogenerate.length > 0) {
        struct bk_slice made = generate(options, arena);
        text = bk_arena_format(arena, "%.*s%.*s", BK_SLICE_PRINT(text), BK_SLICE_PRINT(made));
    }
    *value = BK_VALUE_OF_TEXT(text);
}

static void fill(const struct bk_field *field, struct bk_value *value, bool is_create, bool given,
                 int64_t now_ms, struct bk_arena *arena) {
    (void)given; /* an empty value is filled too, as the contract has it */
    const struct text_options *options = field->options;
    if (!is_create || options->autogenerate.length == 0 || !schema_value_is_empty_text(value))
        return;
    if (!options->makes_record_ids) {
        *value = BK_VALUE_OF_TEXT(generate(options, arena));
        return;
    }
    char *id = bk_arena_alloc(arena, BK_RECORD_ID_BYTES);
    bk_record_id_make(id, now_ms);
    *value = BK_VALUE_OF_TEXT(bk_slice_make(id, BK_RECORD_ID_BYTES));
}

/* --- definition ------------------------------------------------------------------------------- */

static struct schema_pattern *compile(const struct schema_options *reader, const char *name,
                                      struct bk_slice text) {
    struct bk_error error = BK_ERROR_INIT;
    struct schema_pattern *pattern = schema_pattern_compile(text, reader->arena, &error);
    char message[REASON_BYTES_MAX];
    if (pattern == NULL) {
        snprintf(message, sizeof message, "Not a valid regular expression: %.300s.", error.message);
        schema_option_problem(reader, name, "validation_invalid_regex", message);
    }
    return pattern;
}

/* Makes a few and validates them, since a pattern may contradict the other options. */
static void try_autogenerate(struct bk_field *field, const struct schema_options *reader) {
    const struct text_options *options = field->options;
    for (int i = 0; i < TRIES; i++) {
        struct bk_error error = BK_ERROR_INIT;
        struct bk_buffer out;
        char message[REASON_BYTES_MAX];
        bk_buffer_init(&out, SCHEMA_GENERATED_BYTES_MAX);
        enum bk_status status = schema_generate(options->autogenerate, &out, &error);
        struct bk_value value = BK_VALUE_OF_TEXT(bk_buffer_slice(&out));
        struct bk_problems problems;
        bk_problems_init(&problems, reader->problems->arena);
        if (status == BK_OK)
            validate(field, &value, &problems);
        if (status != BK_OK) {
            snprintf(message, sizeof message, "Nothing can be generated from it: %.300s.",
                     error.message);
            schema_option_problem(reader, "autogeneratePattern",
                                  "validation_invalid_autogenerate_pattern", message);
        } else if (problems.count > 0) {
            snprintf(message, sizeof message,
                     "The provided autogenerate pattern could produce invalid field values, ex.: "
                     "\"%.*s\".",
                     (int)(out.length < 100 ? out.length : 100), out.data);
            schema_option_problem(reader, "autogeneratePattern",
                                  "validation_invalid_autogenerate_pattern_value", message);
        }
        bk_buffer_fini(&out);
        if (status != BK_OK || problems.count > 0)
            return;
    }
}

static void read_bounds(struct text_options *options, const struct schema_options *reader) {
    options->minimum = schema_option_int_within(reader, "min", 0, SCHEMA_INTEGER_MAX);
    options->maximum = schema_option_int_within(
        reader, "max", options->minimum > 0 ? options->minimum : 0, SCHEMA_INTEGER_MAX);
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    struct text_options *options = field->options;
    const struct schema_options reader = {definition, path, problems, arena};
    uint32_t before = problems->count;
    read_bounds(options, &reader);
    options->pattern = schema_option_text(&reader, "pattern");
    if (field->is_primary_key && options->pattern.length == 0) {
        if (bk_slice_is(field->name, "id"))
            options->pattern = DEFAULT_ID_PATTERN;
        else
            schema_option_problem(&reader, "pattern", "validation_required", "Cannot be blank.");
    }
    options->has_default_pattern = bk_slice_equal(options->pattern, DEFAULT_ID_PATTERN);
    if (options->pattern.length > 0)
        options->matcher = compile(&reader, "pattern", options->pattern);
    options->autogenerate = schema_option_text(&reader, "autogeneratePattern");
    if (options->autogenerate.length > 0)
        (void)compile(&reader, "autogeneratePattern", options->autogenerate);
    options->makes_record_ids = field->is_primary_key && options->has_default_pattern &&
                                bk_slice_equal(options->autogenerate, DEFAULT_ID_AUTOGENERATE) &&
                                options->minimum <= BK_RECORD_ID_BYTES &&
                                (options->maximum == 0 || options->maximum >= BK_RECORD_ID_BYTES);
    if (options->autogenerate.length > 0 && problems->count == before)
        try_autogenerate(field, &reader);
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct text_options *options = field->options;
    bk_json_write_member_string(out, BK_SLICE("autogeneratePattern"), options->autogenerate);
    bk_json_write_member_int(out, BK_SLICE("max"), options->maximum);
    bk_json_write_member_int(out, BK_SLICE("min"), options->minimum);
    bk_json_write_member_string(out, BK_SLICE("pattern"), options->pattern);
    bk_json_write_member_bool(out, BK_SLICE("primaryKey"), field->is_primary_key);
}

static const char *column_of(const struct bk_field *field) {
    return field->is_primary_key ? "TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) "
                                   "NOT NULL"
                                 : "TEXT DEFAULT '' NOT NULL";
}

const struct bk_field_type schema_type_text = {
    .name = "text",
    .column = "TEXT DEFAULT '' NOT NULL",
    .options_size = sizeof(struct text_options),
    .configure = configure,
    .write_options = write_options,
    .column_of = column_of,
    .normalise = schema_text_normalise,
    .modifiers = BK_MODIFIER_AUTOGENERATE,
    .modify = modify,
    .empty = schema_text_empty,
    .validate = validate,
    .fill = fill,
    .check = check,
    .write_json = schema_text_write_json,
};
