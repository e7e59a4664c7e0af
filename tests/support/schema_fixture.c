/* What a module does with the schema, in blocking steps: the flow of a create is that of the
 * records engine, without its events. */
#include "schema_fixture.h"

#include "bakend/loop.h"
#include <stdio.h>

enum { ARENA_BYTES_MAX = 64 * 1024 * 1024 };

/* --- life ------------------------------------------------------------------------------------- */

void support_schema_create(struct support_schema *fixture) {
    memset(fixture, 0, sizeof *fixture);
    support_kernel_create(&fixture->kernel, NULL);
    fixture->kind = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    bk_arena_init(&fixture->arena, ARENA_BYTES_MAX);
}

void support_schema_open(struct support_schema *fixture) { support_kernel_open(&fixture->kernel); }

void support_schema_close(struct support_schema *fixture) {
    support_kernel_close(&fixture->kernel);
}

void support_schema_destroy(struct support_schema *fixture) {
    support_kernel_destroy(&fixture->kernel);
    bk_schema_kind_destroy(fixture->kind);
    bk_arena_fini(&fixture->arena);
}

int support_schema_setup(void **state) {
    static struct support_schema fixture;
    support_schema_create(&fixture);
    support_schema_open(&fixture);
    *state = &fixture;
    return 0;
}

int support_schema_teardown(void **state) {
    support_schema_close(*state);
    support_schema_destroy(*state);
    return 0;
}

/* --- texts ------------------------------------------------------------------------------------ */

static void swap_quotes(char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        text[i] = text[i] == '\'' ? '"' : text[i] == '"' ? '\'' : text[i];
}

static const char *show(struct support_schema *fixture, struct bk_slice text) {
    assert_true(text.length < sizeof fixture->text);
    snprintf(fixture->text, sizeof fixture->text, "%.*s", BK_SLICE_PRINT(text));
    swap_quotes(fixture->text, text.length);
    return fixture->text;
}

const struct bk_json *support_schema_json(struct support_schema *fixture, const char *json) {
    struct bk_error error = BK_ERROR_INIT;
    struct bk_json *parsed;
    struct bk_slice text = bk_slice_from(json);
    char *copy = bk_arena_alloc(&fixture->arena, text.length + 1);
    memcpy(copy, json, text.length + 1);
    swap_quotes(copy, text.length);
    enum bk_status status =
        bk_json_parse(&fixture->arena, bk_slice_make(copy, text.length), &parsed, &error);
    if (status != BK_OK)
        fail_msg("%s: %s", json, error.message);
    return parsed;
}

const char *support_schema_problems(struct support_schema *fixture) {
    struct bk_buffer out;
    bk_buffer_init(&out, sizeof fixture->text);
    bk_problems_write_json(&fixture->problems, &out);
    const char *text = show(fixture, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return text;
}

const struct bk_collection *support_schema_find(struct support_schema *fixture, const char *name) {
    const struct bk_collection *collection = bk_schema_find(
        bk_schema_current(fixture->kind, fixture->kernel.tenant), bk_slice_from(name));
    if (collection == NULL)
        fail_msg("there is no collection %s", name);
    return collection;
}

const char *support_schema_definition(struct support_schema *fixture, const char *name) {
    return show(fixture, support_schema_find(fixture, name)->definition);
}

/* --- changes ---------------------------------------------------------------------------------- */

struct waiting_change {
    struct bk_schema_change change;
    bool is_done;
    enum bk_status status;
};

static void on_changed(struct bk_schema_change *change, enum bk_status status) {
    struct waiting_change *waiting = bk_container_of(change, struct waiting_change, change);
    waiting->is_done = true;
    waiting->status = status;
}

enum bk_status support_schema_change(struct support_schema *fixture, enum bk_schema_action action,
                                     const char *target, const char *json) {
    bk_problems_init(&fixture->problems, &fixture->arena);
    struct waiting_change waiting = {
        .change = {.tenant = fixture->kernel.tenant,
                   .action = action,
                   .target = bk_slice_from(target),
                   .definition = json == NULL ? NULL : support_schema_json(fixture, json),
                   .arena = &fixture->arena,
                   .problems = &fixture->problems,
                   .done = on_changed}};
    bk_schema_change(fixture->kind, &waiting.change);
    support_loop_run_until(fixture->kernel.loop, &waiting.is_done);
    fixture->error = waiting.change.error;
    return waiting.status;
}

/* --- writes ----------------------------------------------------------------------------------- */

struct waiting_write {
    struct bk_write write;
    struct support_schema *fixture;
    const struct bk_collection *collection;
    struct bk_schema *schema;
    struct bk_value values[SUPPORT_SCHEMA_FIELDS_MAX];
    bool is_given[SUPPORT_SCHEMA_FIELDS_MAX];
    const char *sql;
    bool is_done;
    enum bk_status status;
};

static void on_written(struct bk_write *write, enum bk_status status) {
    struct waiting_write *waiting = bk_container_of(write, struct waiting_write, write);
    waiting->is_done = true;
    waiting->status = status;
}

static enum bk_status write_and_wait(struct waiting_write *waiting) {
    struct support_kernel *kernel = &waiting->fixture->kernel;
    waiting->write.done = on_written;
    assert_int_equal(bk_store_write(kernel->tenant->database, &waiting->write), BK_OK);
    support_loop_run_until(kernel->loop, &waiting->is_done);
    return waiting->status;
}

static enum bk_status run_execute(struct bk_transaction *transaction, struct bk_write *write) {
    struct waiting_write *waiting = bk_container_of(write, struct waiting_write, write);
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 bk_slice_from(waiting->sql));
}

enum bk_status support_schema_execute(struct support_schema *fixture, const char *sql) {
    struct waiting_write waiting = {.write.run = run_execute, .fixture = fixture, .sql = sql};
    return write_and_wait(&waiting);
}

static enum bk_status run_insert(struct bk_transaction *transaction, struct bk_write *write) {
    struct waiting_write *waiting = bk_container_of(write, struct waiting_write, write);
    const struct bk_collection *collection = waiting->collection;
    struct bk_problems *problems = &waiting->fixture->problems;
    enum bk_status status = bk_schema_verify(waiting->schema, transaction);
    for (uint32_t i = 0; i < collection->field_count && status == BK_OK; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field->type->fill != NULL)
            field->type->fill(field, &waiting->values[i], true, waiting->is_given[i],
                              bk_transaction_now_ms(transaction), &waiting->fixture->arena);
        if (field->type->validate != NULL)
            field->type->validate(field, &waiting->values[i], problems);
        if (field->type->check != NULL && problems->count == 0)
            status = field->type->check(field, &waiting->values[i], transaction, waiting->schema,
                                        problems);
    }
    if (status == BK_OK && problems->count > 0)
        status = BK_INVALID;
    return status == BK_OK ? bk_record_insert(collection, bk_transaction_connection(transaction),
                                              waiting->values)
                           : status;
}

enum bk_status support_schema_insert(struct support_schema *fixture, const char *collection,
                                     const char *json) {
    const struct bk_json *body = support_schema_json(fixture, json);
    struct waiting_write waiting = {.write.run = run_insert, .fixture = fixture};
    waiting.schema = bk_schema_current(fixture->kind, fixture->kernel.tenant);
    waiting.collection = support_schema_find(fixture, collection);
    assert_true(waiting.collection->field_count <= SUPPORT_SCHEMA_FIELDS_MAX);
    bk_problems_init(&fixture->problems, &fixture->arena);
    for (uint32_t i = 0; i < waiting.collection->field_count; i++) {
        const struct bk_field *field = &waiting.collection->fields[i];
        const struct bk_json *input = bk_json_get(body, field->name);
        waiting.is_given[i] = input != NULL && !field->type->is_read_only;
        if (waiting.is_given[i])
            field->type->normalise(field, input, &waiting.values[i], &fixture->arena);
        else
            field->type->empty(field, &waiting.values[i]);
    }
    return write_and_wait(&waiting);
}

/* --- reads ------------------------------------------------------------------------------------ */

static struct bk_statement *prepare(struct support_schema *fixture, const struct bk_sql *sql) {
    struct bk_connection *connection = bk_store_read_now(fixture->kernel.tenant->database);
    struct bk_statement *statement;
    assert_non_null(connection);
    if (bk_connection_statement(connection, sql, &statement) != BK_OK)
        fail_msg("%.*s: %s", BK_SLICE_PRINT(sql->text), bk_connection_error(connection));
    return statement;
}

const char *support_schema_record(struct support_schema *fixture, const char *collection,
                                  const char *id) {
    const struct bk_collection *found = support_schema_find(fixture, collection);
    struct bk_value values[SUPPORT_SCHEMA_FIELDS_MAX];
    struct bk_statement *statement = prepare(fixture, &found->select_by_id);
    bk_statement_bind_text(statement, 1, bk_slice_from(id));
    if (bk_statement_step(statement) != BK_OK)
        return "";
    struct bk_buffer out;
    bk_buffer_init(&out, sizeof fixture->text);
    bk_record_read(found, statement, values);
    bk_record_write_json(found, values, BK_VIEW_FULL, &out);
    bk_statement_reset(statement);
    const char *text = show(fixture, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return text;
}

const char *support_schema_query(struct support_schema *fixture, const char *sql) {
    const struct bk_sql made = bk_sql_make(bk_slice_from(sql));
    struct bk_statement *statement = prepare(fixture, &made);
    fixture->text[0] = '\0';
    if (bk_statement_step(statement) == BK_OK)
        show(fixture, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return fixture->text;
}
