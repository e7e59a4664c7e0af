/*
 * Asking records: a rule that is an expression, as SQL.
 *
 *   loop            bk_question_make: the rule as a condition, with its values
 *   any thread      bk_question_judge: the condition computed, where it needs no tables
 *   reader, writer  bk_question_ask: SELECT 1 FROM posts … WHERE id = ? AND (the rule)
 *
 * A record that is in no table is asked as a row of its own, so that what the rule says of other
 * records of the collection is not said of it.
 */
#include "rules_private.h"

#include "bakend/assert.h"
#include "bakend/clock.h"

#include <stdio.h>

enum { SQL_BYTES_MAX = 2 * 1024 * 1024, PARAMETER_BYTES = 48 };

/* No collection can be called so: names have no "$". */
static const struct bk_slice new_rows = BK_SLICE_INIT("\"$new\"");

/* --- who asks --------------------------------------------------------------------------------- */

void bk_asker_init(struct bk_asker *asker, const struct bk_schema *schema,
                   const struct bk_actor *actor, const struct bk_json *request) {
    *asker = (struct bk_asker){
        .schema = schema, .actor = actor, .request = request, .now_ms = bk_clock_wall_ms()};
    if (actor->collection_id.length > 0)
        asker->auth_collection = bk_schema_find(schema, actor->collection_id);
}

void bk_asker_scope(const struct bk_asker *asker, const struct bk_collection *collection,
                    int first_parameter, struct bk_filter_scope *scope) {
    *scope = (struct bk_filter_scope){.schema = asker->schema,
                                      .collection = collection,
                                      .request = asker->request,
                                      .auth_collection = asker->auth_collection,
                                      .auth_id = asker->actor->id,
                                      .actor = asker->actor,
                                      .auth_values = asker->auth_values,
                                      .now_ms = asker->now_ms,
                                      .first_parameter = first_parameter};
}

/* --- making ----------------------------------------------------------------------------------- */

/* Casts give the columns the types that they have in the table. */
static void write_cast(enum filter_affinity affinity, struct bk_slice value,
                       struct bk_buffer *out) {
    bool is_cast = affinity == FILTER_AFFINITY_TEXT || affinity == FILTER_AFFINITY_NUMERIC;
    if (is_cast)
        bk_buffer_append_literal(out, "CAST(");
    bk_buffer_append_slice(out, value);
    if (is_cast)
        bk_buffer_append_slice(out, affinity == FILTER_AFFINITY_TEXT ? BK_SLICE(" AS TEXT)")
                                                                     : BK_SLICE(" AS NUMERIC)"));
}

static void write_new_value(const struct bk_field *field, enum bk_question_of of,
                            struct bk_buffer *out) {
    char parameter[PARAMETER_BYTES];
    int length = snprintf(parameter, sizeof parameter, "?%u", field->index + 1);
    write_cast(filter_new_affinity(field, of), bk_slice_make(parameter, (size_t)length), out);
}

static void write_new_row(const struct bk_collection *collection, enum bk_question_of of,
                          struct bk_buffer *out) {
    bk_buffer_format(out, "WITH %.*s(%.*s) AS (SELECT ", BK_SLICE_PRINT(new_rows),
                     BK_SLICE_PRINT(collection->columns));
    for (uint32_t i = 0; i < collection->field_count; i++) {
        if (i > 0)
            bk_buffer_append_char(out, ',');
        write_new_value(&collection->fields[i], of, out);
    }
    bk_buffer_append_literal(out, ") ");
}

static enum bk_status make_sql(struct bk_arena *arena, const struct bk_collection *collection,
                               struct bk_question *question) {
    bool is_new = question->of != BK_QUESTION_OF_STORED;
    struct bk_buffer out;
    bk_buffer_init(&out, SQL_BYTES_MAX);
    if (is_new)
        write_new_row(collection, question->of, &out);
    struct bk_slice rows = is_new ? new_rows : collection->quoted;
    bk_buffer_format(&out, "SELECT 1 FROM %.*s", BK_SLICE_PRINT(rows));
    bk_buffer_append_slice(&out, question->condition.joins);
    bk_buffer_append_literal(&out, " WHERE ");
    if (!is_new)
        bk_buffer_format(&out, "%.*s.\"id\"=?1 AND ", BK_SLICE_PRINT(rows));
    bk_buffer_append_slice(&out, question->condition.where);
    question->sql = bk_sql_make(bk_arena_copy(arena, bk_buffer_slice(&out)));
    enum bk_status status = bk_buffer_status(&out);
    bk_buffer_fini(&out);
    return status == BK_OK ? bk_arena_status(arena) : status;
}

static enum bk_status resolve(struct bk_question *question, struct bk_arena *arena,
                              const struct bk_filter_scope *scope, struct bk_slice text,
                              enum bk_filter_trust trust, struct bk_error *error) {
    size_t bytes_max = trust == BK_FILTER_OF_CLIENT ? BK_FILTER_BYTES_MAX : BK_RULE_BYTES_MAX;
    struct bk_filter *filter;
    question->query = bk_filter_query_create(arena, scope);
    if (question->query == NULL)
        return bk_arena_status(arena);
    question->query->is_of_new = question->of == BK_QUESTION_OF_VALUES;
    enum bk_status status = bk_filter_parse(arena, text, bytes_max, &filter, error);
    if (status == BK_OK)
        status = bk_filter_query_add(question->query, filter, trust, error);
    question->query->error = NULL;
    return status;
}

enum bk_status bk_question_make_filter(struct bk_question *question, struct bk_arena *arena,
                                       const struct bk_asker *asker,
                                       const struct bk_collection *collection, struct bk_slice text,
                                       enum bk_question_of of, enum bk_filter_trust trust,
                                       struct bk_error *error) {
    bool is_new = of != BK_QUESTION_OF_STORED;
    struct bk_filter_scope scope;
    *question = (struct bk_question){
        .is_there = text.length > 0, .collection = collection, .of = of, .now_ms = asker->now_ms};
    if (!question->is_there)
        return BK_OK;
    question->first_parameter = is_new ? (int)collection->field_count + 1 : 2;
    bk_asker_scope(asker, collection, question->first_parameter, &scope);
    scope.rows = is_new ? new_rows : BK_SLICE_EMPTY;
    enum bk_status status = resolve(question, arena, &scope, text, trust, error);
    if (status == BK_OK)
        status = bk_filter_query_finish(question->query, &question->condition);
    return status == BK_OK ? make_sql(arena, collection, question) : status;
}

enum bk_status bk_question_make(struct bk_question *question, struct bk_arena *arena,
                                const struct bk_asker *asker,
                                const struct bk_collection *collection, struct bk_slice rule,
                                enum bk_question_of of) {
    return bk_question_make_filter(question, arena, asker, collection, rule, of, BK_FILTER_OF_RULE,
                                   NULL);
}

/* --- asking ----------------------------------------------------------------------------------- */

static enum bk_status ask(const struct bk_question *question, struct bk_statement *statement) {
    for (uint32_t i = 0; i < question->condition.value_count; i++)
        bk_statement_bind(statement, question->first_parameter + (int)i,
                          &question->condition.values[i]);
    enum bk_status status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

enum bk_status bk_question_ask(const struct bk_question *question, struct bk_connection *connection,
                               struct bk_slice id) {
    struct bk_statement *statement;
    if (!question->is_there)
        return BK_OK;
    enum bk_status status = bk_connection_statement(connection, &question->sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    return ask(question, statement);
}

enum bk_status bk_question_ask_values(const struct bk_question *question,
                                      struct bk_connection *connection,
                                      const struct bk_value *values) {
    struct bk_statement *statement;
    if (!question->is_there)
        return BK_OK;
    enum bk_status status = bk_connection_statement(connection, &question->sql, &statement);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < question->collection->field_count; i++)
        bk_statement_bind(statement, (int)i + 1, &values[i]);
    return ask(question, statement);
}

/* --- of rows that are gone -------------------------------------------------------------------- */

uint32_t bk_question_tables(const struct bk_question *question,
                            const struct bk_collection **collections, uint32_t max) {
    uint32_t count = 0;
    const struct filter_join *first = question->is_there ? question->query->joins : NULL;
    for (const struct filter_join *join = first; join != NULL && count < max; join = join->next) {
        bool is_known = join->collection == NULL || join->kind == FILTER_JOIN_BASE;
        for (uint32_t i = 0; i < count && !is_known; i++)
            is_known = collections[i] == join->collection;
        if (!is_known)
            collections[count++] = join->collection;
    }
    return count;
}

/* `"posts"("id",…) AS (SELECT CAST(json_extract(value,'$[0]') AS TEXT),… FROM json_each(?9)),` */
static void write_former(const struct bk_collection *collection, int parameter, bool and_stored,
                         struct bk_buffer *out) {
    bk_buffer_format(out, "%.*s(%.*s) AS (", BK_SLICE_PRINT(collection->quoted),
                     BK_SLICE_PRINT(collection->columns));
    if (and_stored)
        bk_buffer_format(out, "SELECT %.*s FROM main.%.*s UNION ALL ",
                         BK_SLICE_PRINT(collection->columns), BK_SLICE_PRINT(collection->quoted));
    bk_buffer_append_literal(out, "SELECT ");
    for (uint32_t i = 0; i < collection->field_count; i++) {
        char value[PARAMETER_BYTES];
        int length = snprintf(value, sizeof value, "json_extract(value,'$[%u]')", i);
        if (i > 0)
            bk_buffer_append_char(out, ',');
        write_cast(filter_column_affinity(&collection->fields[i]),
                   bk_slice_make(value, (size_t)length), out);
    }
    bk_buffer_format(out, " FROM json_each(?%d)),", parameter);
}

enum bk_status bk_question_ask_former(const struct bk_question *question,
                                      struct bk_connection *connection,
                                      const struct bk_value *values,
                                      const struct bk_former_rows *tables, uint32_t table_count,
                                      bool and_stored) {
    static const struct bk_slice with = BK_SLICE_INIT("WITH ");
    int next = question->first_parameter + (int)question->condition.value_count;
    struct bk_slice sql = question->sql.text;
    struct bk_statement *statement;
    struct bk_buffer out;
    BK_ASSERT(question->is_there && bk_slice_starts_with(sql, with));
    bk_buffer_init(&out, 2 * SQL_BYTES_MAX);
    bk_buffer_append_slice(&out, with);
    for (uint32_t i = 0; i < table_count; i++)
        write_former(tables[i].collection, next + (int)i, and_stored, &out);
    bk_buffer_append(&out, sql.data + with.length, sql.length - with.length);
    const struct bk_sql made = bk_sql_make(bk_buffer_slice(&out));
    enum bk_status status = bk_buffer_status(&out);
    if (status == BK_OK)
        status = bk_connection_statement(connection, &made, &statement);
    bk_buffer_fini(&out);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < question->collection->field_count; i++)
        bk_statement_bind(statement, (int)i + 1, &values[i]);
    for (uint32_t i = 0; i < table_count; i++)
        bk_statement_bind_text(statement, next + (int)i, tables[i].rows);
    return ask(question, statement);
}

/* --- judging ---------------------------------------------------------------------------------- */

enum bk_answer bk_question_judge(const struct bk_question *question,
                                 const struct bk_value *values) {
    struct bk_arena arena;
    if (!question->is_there)
        return BK_ANSWER_YES;
    if (question->collection->type == BK_COLLECTION_VIEW)
        return BK_ANSWER_NEEDS_TABLES; /* its columns have the types of its query */
    bk_arena_init(&arena, FILTER_EVALUATION_BYTES_MAX);
    const struct bk_filter_scope *scope = &question->query->scope;
    struct filter_evaluation evaluation = {
        .query = question->query,
        .row = {.collection = question->collection, .values = values, .arena = &arena},
        .auth = {.collection = scope->auth_collection,
                 .values = scope->auth_values,
                 .arena = &arena},
        .arena = &arena,
        .now_ms = question->now_ms,
        .of = question->of,
        .steps = FILTER_ELEMENT_STEPS_MAX,
        .like_looks = FILTER_LIKE_LOOKS_MAX};
    enum bk_answer answer = filter_evaluate(&evaluation);
    bk_arena_fini(&arena);
    return answer;
}

static bool is_plain_join(const struct filter_join *join) {
    const struct filter_join *root = join->parent == NULL ? join : join->parent;
    bool is_row = root->kind == FILTER_JOIN_BASE || root->kind == FILTER_JOIN_LIST;
    return is_row && (join == root || join->kind == FILTER_JOIN_EACH);
}

bool bk_question_is_plain(const struct bk_question *question) {
    if (!question->is_there)
        return true;
    if (question->collection->type == BK_COLLECTION_VIEW || question->query->needs_sqlite)
        return false;
    for (const struct filter_join *join = question->query->joins; join != NULL; join = join->next)
        if (!is_plain_join(join))
            return false;
    return true;
}

void bk_question_set_now(struct bk_question *question, int64_t now_ms) {
    char text[BK_TIME_TEXT_BYTES];
    struct bk_value now;
    question->now_ms = now_ms;
    if (!question->is_there)
        return;
    for (struct filter_constant *each = question->query->macros; each != NULL; each = each->next) {
        bool is_macro = filter_macro_value(each->macro, now_ms, text, &now);
        BK_ASSERT(is_macro);
        if (now.type == BK_VALUE_TEXT) /* as long as the one before */
            memcpy((char *)(uintptr_t)each->value.text.data, text, sizeof text);
        else
            each->value = now;
        if (each->number > 0)
            question->query->values[each->number - (uint32_t)question->first_parameter] =
                each->value;
    }
}
