/*
 * The field type `password`: the client sends a text, the table holds its Argon2id hash, and no
 * answer and no event ever holds either. Hashing takes 46 ms of a core, so it runs in the module's
 * bounded pool before the write is queued; a full pool refuses (429) instead of making others wait.
 * So does telling whether a text is the password that is stored.
 */
#include "auth.h"
#include "bakend/crypto.h"
#include <stdio.h>

struct password_options {
    int64_t min, max, cost;
    struct bk_slice pattern;
    struct bk_pattern *compiled; /* NULL: none */
};

struct hashing {
    struct bk_job job;
    struct bk_field_work *work;
    struct bk_slice password;
    char hash[BK_PASSWORD_HASH_BYTES];
    enum bk_status status;
};

/* --- definition ------------------------------------------------------------------------------- */

enum { COST_MIN = 4, COST_MAX = 31 }; /* of another hash: kept for definitions, used by nobody */

static void add_threshold(struct bk_problems *problems, struct bk_slice field, bool is_minimum,
                          int64_t threshold) {
    char message[64], params[64];
    snprintf(message, sizeof message, "Must be no %s than %lld.", is_minimum ? "less" : "greater",
             (long long)threshold);
    snprintf(params, sizeof params, "{\"threshold\":%lld}", (long long)threshold);
    bk_problems_add_params(problems, field,
                           is_minimum ? "validation_min_greater_equal_than_required"
                                      : "validation_max_less_equal_than_required",
                           message, bk_slice_from(params));
}

/* 0 and absence: none. */
static int64_t read_option(const struct bk_json *definition, const char *name, struct bk_slice path,
                           int64_t minimum, int64_t maximum, struct bk_problems *problems) {
    const struct bk_json *json = bk_json_get(definition, bk_slice_from(name));
    int64_t value = 0;
    if (json == NULL || json->type == BK_JSON_NULL)
        return 0;
    struct bk_slice field = bk_arena_format(problems->arena, "%.*s.%s", BK_SLICE_PRINT(path), name);
    if (!bk_json_to_int64(json, &value))
        bk_problems_add(problems, field, "validation_unsupported_value_type",
                        "Must be a whole number.");
    else if (value != 0 && value < minimum)
        add_threshold(problems, field, true, minimum);
    else if (value > maximum)
        add_threshold(problems, field, false, maximum);
    return value;
}

static void read_pattern(struct password_options *options, const struct bk_json *definition,
                         struct bk_slice path, struct bk_problems *problems,
                         struct bk_arena *arena) {
    struct bk_error error = BK_ERROR_INIT;
    const struct bk_json *given = bk_json_get(definition, BK_SLICE("pattern"));
    if (given != NULL && given->type != BK_JSON_STRING && given->type != BK_JSON_NULL)
        bk_problems_add(problems,
                        bk_arena_format(problems->arena, "%.*s.pattern", BK_SLICE_PRINT(path)),
                        "validation_unsupported_value_type", "Must be a text.");
    options->pattern = bk_arena_copy(arena, bk_json_get_string(definition, BK_SLICE("pattern")));
    if (options->pattern.length == 0)
        return;
    options->compiled = bk_pattern_compile(options->pattern, arena, &error);
    if (options->compiled == NULL)
        bk_problems_add(problems,
                        bk_arena_format(problems->arena, "%.*s.pattern", BK_SLICE_PRINT(path)),
                        "validation_invalid_regex", error.message);
}

static void configure(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena) {
    enum { LENGTH_MAX = AUTH_PASSWORD_CHARACTERS_MAX };
    struct password_options *options = field->options;
    options->min = read_option(definition, "min", path, 1, LENGTH_MAX, problems);
    int64_t shortest = options->min > 1 ? options->min : 1;
    options->max = read_option(definition, "max", path, shortest, LENGTH_MAX, problems);
    options->cost = read_option(definition, "cost", path, COST_MIN, COST_MAX, problems);
    read_pattern(options, definition, path, problems, arena);
}

int64_t auth_password_minimum(const struct bk_field *field) {
    const struct password_options *options = field->options;
    return options->min > 1 ? options->min : 1;
}

static void write_options(const struct bk_field *field, struct bk_buffer *out) {
    const struct password_options *options = field->options;
    bk_json_write_member_int(out, BK_SLICE("cost"), options->cost);
    bk_json_write_member_int(out, BK_SLICE("max"), options->max);
    bk_json_write_member_int(out, BK_SLICE("min"), options->min);
    bk_json_write_member_string(out, BK_SLICE("pattern"), options->pattern);
}

/* --- values ----------------------------------------------------------------------------------- */

static void empty(const struct bk_field *field, struct bk_value *value) {
    (void)field;
    *value = BK_VALUE_OF_TEXT(BK_SLICE(""));
}

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    (void)arena;
    empty(field, value);
    if (input->type == BK_JSON_STRING)
        value->text = input->string;
    else if (input->type == BK_JSON_NUMBER || input->type == BK_JSON_BOOL)
        value->text = input->text; /* as the contract casts them */
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    if (field->is_required && value->text.length == 0)
        bk_problems_add(problems, field->name, "validation_required", "Cannot be blank.");
}

static void write_json(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out) {
    (void)field;
    (void)value;
    bk_buffer_append_literal(out, "\"\""); /* never asked for: the field is a secret */
}

/* Characters, not bytes: every byte that does not continue one. */
static int64_t character_count(struct bk_slice text) {
    int64_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        if (((unsigned char)text.data[i] & 0xC0U) != 0x80U)
            count++;
    return count;
}

static void check_plain(const struct bk_field *field, struct bk_slice plain,
                        struct bk_problems *problems) {
    const struct password_options *options = field->options;
    int64_t length = character_count(plain);
    int64_t maximum = options->max > 0 ? options->max : AUTH_PASSWORD_CHARACTERS_MAX;
    char message[64];
    if (field->is_required && length == 0) {
        bk_problems_add(problems, field->name, "validation_required", "Cannot be blank.");
    } else if (length > 0 && length < options->min) {
        snprintf(message, sizeof(message), "Must be at least %lld character(s).",
                 (long long)options->min);
        bk_problems_add(problems, field->name, "validation_min_text_constraint", message);
    } else if (length > maximum) {
        snprintf(message, sizeof(message), "Must be less than %lld character(s).",
                 (long long)maximum);
        bk_problems_add(problems, field->name, "validation_max_text_constraint", message);
    } else if (length > 0 && options->compiled != NULL &&
               !bk_pattern_matches(options->compiled, plain)) {
        bk_problems_add(problems, field->name, "validation_invalid_format",
                        "Invalid value format.");
    }
}

/* --- hashing ---------------------------------------------------------------------------------- */

static void on_hash(struct bk_job *job, uint32_t thread_index) {
    struct hashing *hashing = bk_container_of(job, struct hashing, job);
    (void)thread_index;
    hashing->status = bk_password_hash(hashing->hash, hashing->password);
}

static void on_hashed(struct bk_job *job) {
    struct hashing *hashing = bk_container_of(job, struct hashing, job);
    struct bk_field_work *work = hashing->work;
    if (hashing->status == BK_OK)
        work->value->text = bk_slice_from(hashing->hash);
    work->done(work, hashing->status);
}

static enum bk_status begin(struct bk_field_work *work) {
    const struct auth_password_type *password =
        bk_const_container_of(work->field->type, struct auth_password_type, type);
    uint32_t problem_count = work->problems->count;
    check_plain(work->field, work->value->text, work->problems);
    if (work->problems->count > problem_count || work->value->text.length == 0)
        return BK_OK;
    struct hashing *hashing = bk_arena_alloc_zero(work->arena, sizeof(*hashing));
    hashing->work = work;
    hashing->password = work->value->text;
    hashing->job.run = on_hash;
    hashing->job.done = on_hashed;
    enum bk_status status = bk_pool_submit(password->pool, &hashing->job);
    if (status == BK_BUSY)
        return BK_TOO_MANY;
    return status == BK_OK ? BK_END : status;
}

/* --- comparing -------------------------------------------------------------------------------- */

struct comparing {
    struct bk_job job;
    struct bk_field_work *work;
    struct bk_slice plain, stored;
    struct auth_attempt attempt;
    enum bk_status status;
};

static void on_compare(struct bk_job *job, uint32_t thread_index) {
    struct comparing *comparing = bk_container_of(job, struct comparing, job);
    (void)thread_index;
    comparing->status = bk_password_verify(comparing->stored, comparing->plain);
}

static enum auth_attempt_outcome outcome_of(enum bk_status status) {
    if (status == BK_OK)
        return AUTH_ATTEMPT_PASSED;
    return status == BK_UNAUTHORIZED ? AUTH_ATTEMPT_FAILED : AUTH_ATTEMPT_UNJUDGED;
}

static void on_compared(struct bk_job *job) {
    struct comparing *comparing = bk_container_of(job, struct comparing, job);
    if (comparing->attempt.is_counted)
        auth_attempt_end(&comparing->attempt, outcome_of(comparing->status),
                         comparing->work->account);
    comparing->work->done(comparing->work, comparing->status);
}

static enum bk_status compare(struct bk_field_work *work, struct bk_slice stored) {
    const struct auth_password_type *password =
        bk_const_container_of(work->field->type, struct auth_password_type, type);
    struct comparing *comparing = bk_arena_alloc_zero(work->arena, sizeof *comparing);
    comparing->work = work;
    comparing->plain = work->value->text;
    comparing->stored = stored;
    comparing->job.run = on_compare;
    comparing->job.done = on_compared;
    comparing->attempt = (struct auth_attempt){.context = password->context,
                                               .request = work->request,
                                               .collection = work->field->collection,
                                               .account = work->account,
                                               .method = "oldPassword"};
    enum bk_status status = work->request == NULL ? BK_OK : auth_attempt_try(&comparing->attempt);
    if (status != BK_OK)
        return status;
    status = bk_pool_submit(password->pool, &comparing->job);
    if (status != BK_OK && comparing->attempt.is_counted)
        auth_attempt_end(&comparing->attempt, AUTH_ATTEMPT_UNJUDGED, work->account);
    if (status == BK_BUSY)
        return BK_TOO_MANY;
    return status == BK_OK ? BK_END : status;
}

void auth_password_type_init(struct auth_password_type *password,
                             const struct bk_module_context *context, struct bk_pool *pool) {
    password->context = context;
    password->pool = pool;
    password->type = (struct bk_field_type){
        .name = "password",
        .column = "TEXT DEFAULT '' NOT NULL",
        .options_size = sizeof(struct password_options),
        .configure = configure,
        .write_options = write_options,
        .normalise = normalise,
        .empty = empty,
        .validate = validate,
        .begin = begin,
        .compare = compare,
        .write_json = write_json,
        .is_secret = true,
    };
}
