/*
 * Asking records: a rule that is an expression, as SQL.
 *
 *   loop            bk_question_make: the rule as a condition, with its values
 *   reader, writer  bk_question_ask: SELECT 1 FROM posts … WHERE id = ? AND (the rule)
 *
 * A record that is in no table is asked as a row of its own, so that what the rule says of other
 * records of the collection is not said of it.
 */
#include "bakend/clock.h"
#include "bakend/rules.h"

enum { SQL_BYTES_MAX = 2 * 1024 * 1024 };

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
                                      .now_ms = asker->now_ms,
                                      .first_parameter = first_parameter};
}

/* --- making ----------------------------------------------------------------------------------- */

static void write_new_row(const struct bk_collection *collection, struct bk_buffer *out) {
    bk_buffer_format(out, "WITH %.*s(%.*s) AS (VALUES (", BK_SLICE_PRINT(new_rows),
                     BK_SLICE_PRINT(collection->columns));
    for (uint32_t i = 0; i < collection->field_count; i++)
        bk_buffer_format(out, i == 0 ? "?%u" : ",?%u", i + 1);
    bk_buffer_append_literal(out, ")) ");
}

static enum bk_status make_sql(struct bk_arena *arena, const struct bk_collection *collection,
                               bool is_new, struct bk_question *question) {
    struct bk_buffer out;
    bk_buffer_init(&out, SQL_BYTES_MAX);
    if (is_new)
        write_new_row(collection, &out);
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

enum bk_status bk_question_make(struct bk_question *question, struct bk_arena *arena,
                                const struct bk_asker *asker,
                                const struct bk_collection *collection, struct bk_slice rule,
                                enum bk_question_of of) {
    bool is_new = of == BK_QUESTION_OF_VALUES;
    struct bk_filter_scope scope;
    struct bk_filter *filter;
    *question = (struct bk_question){.is_there = rule.length > 0, .collection = collection};
    if (!question->is_there)
        return BK_OK;
    question->first_parameter = is_new ? (int)collection->field_count + 1 : 2;
    bk_asker_scope(asker, collection, question->first_parameter, &scope);
    scope.rows = is_new ? new_rows : BK_SLICE_EMPTY;
    struct bk_filter_query *query = bk_filter_query_create(arena, &scope);
    if (query == NULL)
        return bk_arena_status(arena);
    enum bk_status status = bk_filter_parse(arena, rule, BK_RULE_BYTES_MAX, &filter, NULL);
    if (status == BK_OK)
        status = bk_filter_query_add(query, filter, BK_FILTER_OF_RULE, NULL);
    if (status == BK_OK)
        status = bk_filter_query_finish(query, &question->condition);
    return status == BK_OK ? make_sql(arena, collection, is_new, question) : status;
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
