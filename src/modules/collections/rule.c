/*
 * Rules that are expressions: what a request is for them, and asking a record.
 *
 *   loop            collections_rule_make: the rule as a condition, with its values
 *   reader, writer  collections_rule_ask: SELECT 1 FROM posts … WHERE id = ? AND (the rule)
 *
 * A record that is to be created is asked before it is there: its values are a row of their own,
 * so that what the rule says of other records of the collection is not said of the new one.
 */
#include "bakend/clock.h"
#include "bakend/encode.h"
#include "collections.h"

enum { SQL_BYTES_MAX = 2 * 1024 * 1024 };

/* No collection can be called so: names have no "$". */
static const struct bk_slice new_rows = BK_SLICE_INIT("\"$new\"");

/* --- the request as JSON ---------------------------------------------------------------------- */

static struct bk_json *add_member(struct bk_arena *arena, struct bk_json *object,
                                  struct bk_slice key, enum bk_json_type type) {
    struct bk_json *member = bk_arena_alloc_zero(arena, sizeof *member);
    member->key = key;
    member->type = type;
    member->next = object->child;
    object->child = member;
    object->child_count++;
    return member;
}

static void add_text(struct bk_arena *arena, struct bk_json *object, struct bk_slice key,
                     struct bk_slice text) {
    add_member(arena, object, key, BK_JSON_STRING)->string = text;
}

/* content_type for Content-Type. */
static struct bk_slice header_key(struct bk_arena *arena, struct bk_slice name) {
    char *key = bk_arena_alloc(arena, name.length);
    if (arena->is_overflown)
        return BK_SLICE_EMPTY;
    for (size_t i = 0; i < name.length; i++)
        key[i] = name.data[i] == '-' ? '_' : name.data[i];
    return bk_slice_make(key, name.length);
}

static void add_headers(struct bk_request *request, struct bk_json *root) {
    struct bk_arena *arena = &request->arena;
    struct bk_json *headers = add_member(arena, root, BK_SLICE("headers"), BK_JSON_OBJECT);
    for (uint32_t i = 0; i < request->header_count && !arena->is_overflown; i++)
        add_text(arena, headers, header_key(arena, request->headers[i].name),
                 request->headers[i].value);
}

/* The first of each name counts: later ones are put behind it. */
static void add_query(struct bk_request *request, struct bk_json *root) {
    struct bk_arena *arena = &request->arena;
    struct bk_json *query = add_member(arena, root, BK_SLICE("query"), BK_JSON_OBJECT);
    struct bk_slice rest = request->query, pair, name;
    while (rest.length > 0 && bk_slice_split(&rest, '&', &pair) && !arena->is_overflown) {
        struct bk_slice raw = bk_slice_make(pair.data, bk_slice_find(pair, '='));
        if (bk_percent_decode(arena, raw, true, &name) && bk_json_get(query, name) == NULL)
            add_text(arena, query, name, bk_request_query(request, name));
    }
}

static void add_body(struct bk_arena *arena, const struct bk_json *sent, struct bk_json *root) {
    struct bk_json *body = add_member(arena, root, BK_SLICE("body"), BK_JSON_OBJECT);
    if (sent == NULL || sent->type != BK_JSON_OBJECT)
        return;
    body->child = sent->child;
    body->child_count = sent->child_count;
}

static void add_auth(struct bk_request *request, const struct bk_collection *collection,
                     struct bk_json *root) {
    struct bk_arena *arena = &request->arena;
    if (collection == NULL)
        return;
    struct bk_json *auth = add_member(arena, root, BK_SLICE("auth"), BK_JSON_OBJECT);
    add_text(arena, auth, BK_SLICE("id"), request->actor.id);
    add_text(arena, auth, BK_SLICE("collectionId"), collection->id);
    add_text(arena, auth, BK_SLICE("collectionName"), collection->name);
}

static const struct bk_json *describe(struct bk_request *request, const struct bk_json *body,
                                      const struct bk_collection *auth_collection) {
    struct bk_arena *arena = &request->arena;
    struct bk_json *root = bk_arena_alloc_zero(arena, sizeof *root);
    root->type = BK_JSON_OBJECT;
    add_text(arena, root, BK_SLICE("context"), BK_SLICE("default"));
    add_text(arena, root, BK_SLICE("method"), bk_slice_from(bk_method_name(request->method)));
    add_headers(request, root);
    add_query(request, root);
    add_body(arena, body, root);
    add_auth(request, auth_collection, root);
    return root;
}

static void make_scope(struct bk_request *request, const struct bk_json *body,
                       const struct bk_schema *schema, const struct bk_collection *collection,
                       int first_parameter, struct bk_filter_scope *scope) {
    const struct bk_actor *actor = &request->actor;
    const struct bk_collection *auth_collection =
        actor->collection_id.length == 0 ? NULL : bk_schema_find(schema, actor->collection_id);
    *scope = (struct bk_filter_scope){.schema = schema,
                                      .collection = collection,
                                      .request = describe(request, body, auth_collection),
                                      .auth_collection = auth_collection,
                                      .auth_id = actor->id,
                                      .now_ms = bk_clock_wall_ms(),
                                      .first_parameter = first_parameter};
}

void collections_filter_scope(struct bk_request *request, const struct bk_schema *schema,
                              const struct bk_collection *collection, int first_parameter,
                              struct bk_filter_scope *scope) {
    make_scope(request, request->json, schema, collection, first_parameter, scope);
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
                               bool is_new, struct collections_rule *rule) {
    struct bk_buffer out;
    bk_buffer_init(&out, SQL_BYTES_MAX);
    if (is_new)
        write_new_row(collection, &out);
    struct bk_slice rows = is_new ? new_rows : collection->quoted;
    bk_buffer_format(&out, "SELECT 1 FROM %.*s", BK_SLICE_PRINT(rows));
    bk_buffer_append_slice(&out, rule->condition.joins);
    bk_buffer_append_literal(&out, " WHERE ");
    if (!is_new)
        bk_buffer_format(&out, "%.*s.\"id\"=?1 AND ", BK_SLICE_PRINT(rows));
    bk_buffer_append_slice(&out, rule->condition.where);
    rule->sql = bk_sql_make(bk_arena_copy(arena, bk_buffer_slice(&out)));
    enum bk_status status = bk_buffer_status(&out);
    bk_buffer_fini(&out);
    return status == BK_OK ? bk_arena_status(arena) : status;
}

enum bk_status collections_rule_make(struct bk_request *request, const struct bk_schema *schema,
                                     const struct bk_collection *collection, struct bk_slice text,
                                     const struct bk_json *body, bool is_new,
                                     struct collections_rule *rule) {
    struct bk_arena *arena = &request->arena;
    struct bk_filter_scope scope;
    struct bk_filter *filter;
    *rule = (struct collections_rule){.is_there = text.length > 0};
    if (!rule->is_there)
        return BK_OK;
    rule->first_parameter = is_new ? (int)collection->field_count + 1 : 2;
    make_scope(request, body, schema, collection, rule->first_parameter, &scope);
    scope.rows = is_new ? new_rows : BK_SLICE_EMPTY;
    struct bk_filter_query *query = bk_filter_query_create(arena, &scope);
    if (query == NULL)
        return bk_arena_status(arena);
    enum bk_status status = bk_filter_parse(arena, text, BK_RULE_BYTES_MAX, &filter, NULL);
    if (status == BK_OK)
        status = bk_filter_query_add(query, filter, BK_FILTER_OF_RULE, NULL);
    if (status == BK_OK)
        status = bk_filter_query_finish(query, &rule->condition);
    return status == BK_OK ? make_sql(arena, collection, is_new, rule) : status;
}

/* --- asking ----------------------------------------------------------------------------------- */

static enum bk_status ask(const struct collections_rule *rule, struct bk_statement *statement) {
    for (uint32_t i = 0; i < rule->condition.value_count; i++)
        bk_statement_bind(statement, rule->first_parameter + (int)i, &rule->condition.values[i]);
    enum bk_status status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

enum bk_status collections_rule_ask(const struct collections_rule *rule,
                                    struct bk_connection *connection, struct bk_slice id) {
    struct bk_statement *statement;
    if (!rule->is_there)
        return BK_OK;
    enum bk_status status = bk_connection_statement(connection, &rule->sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    return ask(rule, statement);
}

enum bk_status collections_rule_ask_new(const struct collections_rule *rule,
                                        struct bk_connection *connection,
                                        const struct bk_collection *collection,
                                        const struct bk_value *values) {
    struct bk_statement *statement;
    if (!rule->is_there)
        return BK_OK;
    enum bk_status status = bk_connection_statement(connection, &rule->sql, &statement);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < collection->field_count; i++)
        bk_statement_bind(statement, (int)i + 1, &values[i]);
    return ask(rule, statement);
}
