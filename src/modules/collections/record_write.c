/*
 * Create and update.
 *
 *   loop    authorise → read the JSON → normalise each given field → (begin what takes time:
 *           hashes)
 *   writer  schema still the newest? → (update: the record as it is) → fill → validate → check →
 *           SQL → event
 *   loop    answer
 *
 * A request that was planned with a schema that has changed meanwhile is planned again, once. What
 * is wrong with an input is gathered field by field and answered at once; the writer never waits
 * for anything.
 *
 * Memory has two limits, the request's arena and the transaction's. A text that does not fit
 * becomes an empty one, so nothing is stored once either has overflown. What is committed is
 * answered as done: all that could fail the answer is looked at before.
 */
#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/id.h"
#include "collections.h"
#include <math.h>
#include <stdio.h>

enum { ID_DRAWS_MAX = 3, PLANS_MAX = 2, TOKEN_KEY_BYTES = 50 };

/* A type's work that is under way for one field. */
struct field_begun {
    struct bk_field_work work;
    struct record_write *record;
};

struct record_write {
    struct bk_write write;
    struct bk_request *request;
    struct bk_schema *schema; /* pinned until the answer */
    const struct bk_collection *collection;
    struct bk_value *values; /* one a field, in the order of fields */
    bool *is_given;          /* the client sent it */
    struct bk_slice fields;  /* of the answer */
    struct bk_asker asker;
    struct bk_question rule;
    bool is_create;
    bool is_id_generated;
    bool has_new_password;
    uint32_t works_waiting; /* begun and not done, and one while beginning */
    uint32_t plans;
    enum bk_status begin_status;
};

enum { LIMIT_TEXT_BYTES = 200 };

static void plan(struct record_write *record);

static const char *failure_message(const struct record_write *record) {
    return record->is_create ? "Failed to create record." : "Failed to update record.";
}

static void finish(struct record_write *record) {
    bk_schema_unref(record->schema);
    record->schema = NULL;
}

/* Says which limit it was, as long as the request tells. */
static void answer_too_large(struct record_write *record) {
    struct bk_request *request = record->request;
    char text[LIMIT_TEXT_BYTES];
    const char *what = "with the record that it changes it needs more memory than a write may have";
    size_t limit_bytes = BK_TRANSACTION_ARENA_BYTES_MAX;
    if (request->out.is_overflown) {
        what = "the record would be longer than an answer may be";
        limit_bytes = request->out.max_bytes;
    } else if (request->arena.is_overflown) {
        what = "its values need more memory than a request may have";
        limit_bytes = request->arena.max_bytes;
    }
    int length = snprintf(text, sizeof(text), "%.*s: %s, %zu bytes.",
                          (int)strlen(failure_message(record)) - 1, failure_message(record), what,
                          limit_bytes);
    BK_ASSERT(length > 0 && (size_t)length < sizeof(text));
    bk_answer_error(request, BK_TOO_LARGE, text);
}

static void answer_failure(struct record_write *record, enum bk_status status) {
    struct bk_request *request = record->request;
    finish(record);
    if (status == BK_TOO_LARGE)
        answer_too_large(record);
    else if (request->problems.count > 0)
        bk_answer_problems(request, BK_INVALID, failure_message(record));
    else if (status == BK_INVALID)
        bk_answer_error(request, BK_INVALID, failure_message(record));
    else
        bk_answer_error(request, status, NULL);
}

/* --- reading the input ------------------------------------------------------------------------ */

/* Whether the client may set this field at all; what it may not is ignored, as unknown keys are. */
static bool is_settable(const struct record_write *record, const struct bk_field *field) {
    if (field->is_primary_key)
        return record->is_create;
    if (field->type->is_read_only)
        return false;
    return !field->is_hidden || field->type->begin != NULL ||
           bk_actor_is_superuser(&record->request->actor);
}

/* Passwords are typed twice. */
static void check_confirmation(struct record_write *record, const struct bk_field *field,
                               const struct bk_json *input) {
    const struct bk_json *confirmation = NULL;
    if (!bk_slice_is(field->name, "password"))
        return;
    record->has_new_password = true;
    confirmation = bk_json_get(record->request->json, BK_SLICE("passwordConfirm"));
    if (confirmation == NULL || confirmation->type != BK_JSON_STRING)
        bk_problems_add(&record->request->problems, BK_SLICE("passwordConfirm"),
                        "validation_required", "Cannot be blank.");
    else if (!bk_slice_equal(confirmation->string, input->string))
        bk_problems_add(&record->request->problems, BK_SLICE("passwordConfirm"),
                        "validation_values_mismatch", "Values don't match.");
}

/* The field that a key with one of PocketBase's modifiers names, "tags+" or "code:autogenerate". */
static const struct bk_field *modified_field(const struct record_write *record,
                                             struct bk_slice key) {
    static const struct bk_slice autogenerate = BK_SLICE_INIT(":autogenerate");
    if (key.length < 2)
        return NULL;
    char last = key.data[key.length - 1];
    if (key.data[0] == '+')
        key = bk_slice_make(key.data + 1, key.length - 1);
    else if (last == '+' || last == '-')
        key.length--;
    else if (bk_slice_ends_with(key, autogenerate))
        key.length -= autogenerate.length;
    else
        return NULL;
    return bk_collection_field(record->collection, key);
}

/* A modifier that was taken for an unknown key would be a change that silently did not happen. */
static void refuse_modifiers(struct record_write *record) {
    struct bk_request *request = record->request;
    if (request->json == NULL)
        return;
    for (const struct bk_json *member = request->json->child; member != NULL;
         member = member->next) {
        const struct bk_field *field = modified_field(record, member->key);
        if (field != NULL && is_settable(record, field))
            bk_problems_add(&request->problems, member->key, "validation_not_supported",
                            "Modifiers are not supported by this version of the server: send the "
                            "field's new value.");
    }
}

static void read_input(struct record_write *record) {
    struct bk_request *request = record->request;
    const struct bk_collection *collection = record->collection;
    refuse_modifiers(record);
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        const struct bk_json *input = bk_json_get(request->json, field->name);
        record->is_given[i] = input != NULL && is_settable(record, field);
        if (record->is_given[i]) {
            field->type->normalise(field, input, &record->values[i], &request->arena);
            if (collection->type == BK_COLLECTION_AUTH && field->type->begin != NULL)
                check_confirmation(record, field, input);
        } else {
            field->type->empty(field, &record->values[i]);
        }
    }
    const struct bk_value *id = &record->values[collection->id_field->index];
    record->is_id_generated = record->is_create && id->text.length == 0;
    if (record->is_id_generated)
        record->is_given[collection->id_field->index] = false;
}

/* --- what rules see of the input -------------------------------------------------------------- */

/* The value that the field will have, as JSON. An infinite number has none and stays as it was
 * sent: validation refuses it. */
static enum bk_status as_stored(struct record_write *record, const struct bk_field *field,
                                const struct bk_json *sent, struct bk_json *member) {
    const struct bk_value *value = &record->values[field->index];
    struct bk_arena *arena = &record->request->arena;
    struct bk_json *stored;
    struct bk_buffer out;
    if (value->type == BK_VALUE_REAL && !isfinite(value->real))
        return BK_OK;
    bk_buffer_init(&out, record->request->out.max_bytes);
    field->type->write_json(field, value, &out);
    enum bk_status status = bk_buffer_status(&out);
    bool is_same = bk_slice_equal(bk_buffer_slice(&out), sent->text);
    struct bk_slice text = is_same ? BK_SLICE_EMPTY : bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    if (status == BK_OK && !is_same)
        status = bk_json_parse(arena, text, &stored, NULL);
    if (status == BK_OK && !is_same) {
        *member = *stored;
        member->key = sent->key;
    }
    return status;
}

/* A rule must not be talked past with {"admin": "true"} where true is what it forbids: fields are
 * what they will be, not what was sent for them. */
static enum bk_status make_body(struct record_write *record, struct bk_json **body) {
    const struct bk_json *sent = record->request->json;
    struct bk_arena *arena = &record->request->arena;
    *body = bk_arena_alloc_zero(arena, sizeof **body);
    (*body)->type = BK_JSON_OBJECT;
    struct bk_json **end = &(*body)->child;
    bool is_object = sent != NULL && sent->type == BK_JSON_OBJECT;
    for (const struct bk_json *each = is_object ? sent->child : NULL; each != NULL;
         each = each->next) {
        const struct bk_field *field = bk_collection_field(record->collection, each->key);
        struct bk_json *member = bk_arena_alloc_zero(arena, sizeof *member);
        enum bk_status status = bk_arena_status(arena);
        if (status != BK_OK)
            return status; /* memory that is shared */
        *member = *each;
        if (field != NULL && record->is_given[field->index] && field->type->begin == NULL)
            status = as_stored(record, field, each, member);
        if (status != BK_OK)
            return status;
        member->next = NULL;
        *end = member;
        end = &member->next;
        (*body)->child_count++;
    }
    return bk_arena_status(arena);
}

/* --- on the writer: the record whole ---------------------------------------------------------- */

static void fill_and_validate(struct record_write *record, int64_t now_ms) {
    struct bk_request *request = record->request;
    const struct bk_collection *collection = record->collection;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        struct bk_value *value = &record->values[i];
        if (field->type->fill != NULL)
            field->type->fill(field, value, record->is_create, record->is_given[i], now_ms,
                              &request->arena);
        /* What takes time was judged when it began; what is stored now is not what the client
         * sent. */
        bool is_begun = field->type->begin != NULL && record->is_given[i];
        if (field->type->validate != NULL && !is_begun)
            field->type->validate(field, value, &request->problems);
    }
}

/* A new password or email address ends the sessions that were signed with the old token key. */
static void renew_token_key(struct record_write *record, const struct bk_value *before) {
    const struct bk_collection *collection = record->collection;
    if (collection->type != BK_COLLECTION_AUTH)
        return;
    const struct bk_field *key = bk_collection_field(collection, BK_SLICE("tokenKey"));
    const struct bk_field *email = bk_collection_field(collection, BK_SLICE("email"));
    if (key == NULL || record->is_given[key->index])
        return;
    bool has_new_email = email != NULL && !collections_value_equal(&before[email->index],
                                                                   &record->values[email->index]);
    if (!record->has_new_password && !has_new_email)
        return;
    char *text = bk_arena_alloc(&record->request->arena, TOKEN_KEY_BYTES);
    bk_random_text(text, TOKEN_KEY_BYTES,
                   BK_SLICE("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"));
    record->values[key->index] = BK_VALUE_OF_TEXT(bk_slice_make(text, TOKEN_KEY_BYTES));
}

/* --- on the writer: SQL ----------------------------------------------------------------------- */

/* "posts.title, posts.slug" → a problem for each field. */
static enum bk_status explain_conflict(struct record_write *record,
                                       struct bk_connection *connection) {
    struct bk_slice rest = bk_connection_conflict(connection), column;
    while (bk_slice_split(&rest, ',', &column)) {
        column = bk_slice_trim(column);
        size_t dot = bk_slice_find(column, '.');
        struct bk_slice name = dot == column.length
                                   ? column
                                   : bk_slice_make(column.data + dot + 1, column.length - dot - 1);
        bk_problems_add(&record->request->problems, name, "validation_not_unique",
                        "Value must be unique.");
    }
    return BK_INVALID;
}

static bool is_id_conflict(const struct record_write *record, struct bk_connection *connection) {
    struct bk_slice column = bk_connection_conflict(connection);
    const struct bk_slice name = record->collection->id_field->name;
    return bk_slice_find(column, ',') == column.length && bk_slice_ends_with(column, name) &&
           column.length == record->collection->name.length + 1 + name.length;
}

static enum bk_status check_fields(struct record_write *record, struct bk_transaction *transaction,
                                   const struct bk_value *before) {
    const struct bk_collection *collection = record->collection;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field->type->check == NULL)
            continue;
        if (before != NULL && collections_value_equal(&before[i], &record->values[i]))
            continue;
        enum bk_status status = field->type->check(field, &record->values[i], transaction,
                                                   record->schema, &record->request->problems);
        if (status != BK_OK)
            return status;
    }
    return record->request->problems.count > 0 ? BK_INVALID : BK_OK;
}

static enum bk_status execute(struct record_write *record, struct bk_connection *connection,
                              const struct bk_sql *sql) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, sql, &statement);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < record->collection->field_count; i++)
        bk_statement_bind(statement, (int)i + 1, &record->values[i]);
    return bk_statement_run(statement);
}

/* A generated id that clashes is drawn again. */
static enum bk_status insert(struct record_write *record, struct bk_connection *connection,
                             int64_t now_ms) {
    const struct bk_field *id = record->collection->id_field;
    for (int draw = 1;; draw++) {
        enum bk_status status = execute(record, connection, &record->collection->insert);
        if (status != BK_CONFLICT)
            return status;
        if (!record->is_id_generated || draw == ID_DRAWS_MAX || !is_id_conflict(record, connection))
            return explain_conflict(record, connection);
        id->type->empty(id, &record->values[id->index]);
        id->type->fill(id, &record->values[id->index], true, false, now_ms,
                       &record->request->arena);
    }
}

static void write_answer(struct record_write *record) {
    struct bk_request *request = record->request;
    bk_buffer_clear(&request->out);
    bk_record_write_json(record->collection, record->values,
                         bk_rules_view(&request->actor, record->collection), &request->out);
}

/* Before it is validated, as the contract has it; a rule may look at the id that it will have. */
static enum bk_status ask_rule(struct record_write *record, struct bk_transaction *transaction) {
    const struct bk_field *id = record->collection->id_field;
    if (!record->rule.is_there)
        return BK_OK;
    id->type->fill(id, &record->values[id->index], true, !record->is_id_generated,
                   bk_transaction_now_ms(transaction), &record->request->arena);
    enum bk_status status = bk_question_ask_values(
        &record->rule, bk_transaction_connection(transaction), record->values);
    return status == BK_NOT_FOUND ? BK_INVALID : status;
}

static enum bk_status run_create(struct record_write *record, struct bk_transaction *transaction) {
    int64_t now_ms = bk_transaction_now_ms(transaction);
    enum bk_status status = ask_rule(record, transaction);
    if (status != BK_OK)
        return status;
    fill_and_validate(record, now_ms);
    status = check_fields(record, transaction, NULL);
    if (status == BK_OK)
        status = insert(record, bk_transaction_connection(transaction), now_ms);
    if (status == BK_OK)
        status = collections_record_emit(transaction, record->collection, COLLECTIONS_CREATED,
                                         record->values, NULL);
    return status;
}

/* The record as it is; BK_NOT_FOUND, BK_TOO_LARGE. */
static enum bk_status read_before(struct record_write *record, struct bk_transaction *transaction,
                                  struct bk_value *before) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(bk_transaction_connection(transaction),
                                                    &record->collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_request_parameter(record->request, BK_SLICE("id")));
    status = bk_statement_step(statement);
    if (status == BK_OK)
        status = collections_record_copy(record->collection, statement, before,
                                         bk_transaction_arena(transaction));
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* Apps send whole records back, so the same id may be given; another one may not. */
static void check_same_id(struct record_write *record) {
    const struct bk_field *field = record->collection->id_field;
    const struct bk_json *given = bk_json_get(record->request->json, field->name);
    struct bk_slice id = bk_request_parameter(record->request, BK_SLICE("id"));
    if (given != NULL && !(given->type == BK_JSON_STRING && bk_slice_equal(given->string, id)))
        bk_problems_add(&record->request->problems, field->name, "validation_pk_change",
                        "The record primary key cannot be changed.");
}

static enum bk_status run_update(struct record_write *record, struct bk_transaction *transaction) {
    uint32_t count = record->collection->field_count;
    struct bk_value *before =
        bk_arena_alloc(bk_transaction_arena(transaction), count * sizeof(*before));
    if (before == NULL)
        return BK_TOO_LARGE;
    enum bk_status status = bk_question_ask(&record->rule, bk_transaction_connection(transaction),
                                            bk_request_parameter(record->request, BK_SLICE("id")));
    if (status == BK_OK)
        status = read_before(record, transaction, before);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        if (!record->is_given[i])
            record->values[i] = before[i];
    check_same_id(record);
    renew_token_key(record, before);
    fill_and_validate(record, bk_transaction_now_ms(transaction));
    status = check_fields(record, transaction, before);
    struct bk_connection *connection = bk_transaction_connection(transaction);
    if (status == BK_OK)
        status = execute(record, connection, &record->collection->update);
    if (status == BK_CONFLICT)
        status = explain_conflict(record, connection);
    if (status == BK_OK)
        status = collections_record_emit(transaction, record->collection, COLLECTIONS_UPDATED,
                                         record->values, before);
    return status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct record_write *record = bk_container_of(write, struct record_write, write);
    enum bk_status status = bk_schema_verify(record->schema, transaction);
    if (status != BK_OK)
        return status;
    /* A batch may be run again: what the first run found does not count. */
    bk_problems_init(&record->request->problems, &record->request->arena);
    status = record->is_create ? run_create(record, transaction) : run_update(record, transaction);
    if (status == BK_OK)
        write_answer(record);
    if (record->request->arena.is_overflown ||
        (status == BK_OK && record->request->out.is_overflown))
        return record->request->arena.lacks_memory || record->request->out.lacks_memory
                   ? BK_NO_MEMORY
                   : BK_TOO_LARGE;
    return status;
}

/* --- back on the loop ------------------------------------------------------------------------- */

static void on_done(struct bk_write *write, enum bk_status status) {
    struct record_write *record = bk_container_of(write, struct record_write, write);
    struct bk_request *request = record->request;
    if (status == BK_STALE && record->plans < PLANS_MAX) {
        finish(record);
        plan(record);
        return;
    }
    if (status != BK_OK) {
        answer_failure(record, status == BK_STALE ? BK_BUSY : status);
        return;
    }
    finish(record);
    collections_answer_changed(request, record->fields);
}

static void submit(struct record_write *record) {
    /* What began has found something wrong: all else that is wrong is said with it. */
    if (record->request->problems.count > 0 && record->is_create)
        fill_and_validate(record, bk_clock_wall_ms());
    if (record->request->arena.is_overflown) {
        answer_failure(record, BK_TOO_LARGE);
        return;
    }
    if (record->begin_status != BK_OK || record->request->problems.count > 0) {
        answer_failure(record, record->begin_status == BK_OK ? BK_INVALID : record->begin_status);
        return;
    }
    record->write.origin = &record->request->origin;
    record->write.run = on_run;
    record->write.done = on_done;
    enum bk_status status = bk_store_write(record->request->tenant->database, &record->write);
    if (status != BK_OK)
        answer_failure(record, status);
}

static void on_field_done(struct bk_field_work *work, enum bk_status status) {
    struct field_begun *begun = bk_container_of(work, struct field_begun, work);
    struct record_write *record = begun->record;
    if (status != BK_OK && record->begin_status == BK_OK)
        record->begin_status = status;
    if (--record->works_waiting == 0)
        submit(record);
}

/* Starts what takes time; the last one to finish submits. The write itself counts as one. */
static void begin(struct record_write *record) {
    const struct bk_collection *collection = record->collection;
    record->works_waiting = 1;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field->type->begin == NULL || !record->is_given[i])
            continue;
        struct field_begun *begun = bk_arena_alloc_zero(&record->request->arena, sizeof(*begun));
        if (record->request->arena.is_overflown)
            break; /* submit refuses; what has begun would share memory */
        begun->record = record;
        begun->work = (struct bk_field_work){.done = on_field_done,
                                             .value = &record->values[i],
                                             .arena = &record->request->arena,
                                             .problems = &record->request->problems,
                                             .field = field};
        enum bk_status status = field->type->begin(&begun->work);
        if (status == BK_END)
            record->works_waiting++;
        else if (status != BK_OK && record->begin_status == BK_OK)
            record->begin_status = status;
    }
    if (--record->works_waiting == 0)
        submit(record);
}

/* Plans with the current schema; called again when that one turned out to be stale. */
static void plan(struct record_write *record) {
    struct bk_request *request = record->request;
    struct bk_schema *schema;
    struct bk_slice rule;
    record->plans++;
    bk_problems_init(&request->problems, &request->arena);
    const struct bk_collection *collection = collections_open(
        request, record->is_create ? BK_MAY_CREATE : BK_MAY_UPDATE, &schema, &rule);
    if (collection == NULL)
        return;
    record->schema = bk_schema_ref(schema);
    record->collection = collection;
    record->begin_status = BK_OK;
    record->has_new_password = false;
    record->values =
        bk_arena_alloc(&request->arena, collection->field_count * sizeof(*record->values));
    record->is_given = bk_arena_alloc(&request->arena, collection->field_count);
    /* Memory of an overflown arena is shared: values would lie upon each other. */
    if (!request->arena.is_overflown)
        read_input(record);
    enum bk_status status = bk_arena_status(&request->arena);
    struct bk_json *body = NULL;
    if (status == BK_OK && rule.length > 0)
        status = make_body(record, &body);
    if (status == BK_OK)
        status = bk_request_asker(request, schema, body, BK_SLICE("default"), &record->asker);
    if (status == BK_OK)
        status =
            bk_question_make(&record->rule, &request->arena, &record->asker, collection, rule,
                             record->is_create ? BK_QUESTION_OF_VALUES : BK_QUESTION_OF_STORED);
    if (status == BK_OK)
        status = bk_arena_status(&request->arena);
    if (status != BK_OK)
        answer_failure(record, status);
    else
        begin(record);
}

static void start(struct bk_request *request, bool is_create) {
    struct bk_slice fields;
    struct record_write *record = bk_arena_alloc_zero(&request->arena, sizeof(*record));
    if (collections_refuse_unready_change(request) || !collections_fields_read(request, &fields))
        return;
    record->fields = fields;
    record->request = request;
    record->is_create = is_create;
    plan(record);
}

void collections_record_create(struct bk_request *request) { start(request, true); }

void collections_record_update(struct bk_request *request) { start(request, false); }
