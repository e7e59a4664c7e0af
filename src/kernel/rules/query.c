/*
 * The condition of a statement, of one or more filters.
 *
 * Each filter that is a row of terms joined by && is taken apart: what speaks of the record, and of
 * the one record that a relation leads to, stands in the WHERE of the statement itself, where
 * SQLite may use indexes and choose where to begin. What speaks of rows of which there may be
 * several stands in one EXISTS with the joins that it needs, so that no record comes twice and the
 * order of the statement is kept without sorting out duplicates:
 *
 *   FROM "posts" LEFT JOIN "users" f1 ON f1."id"="posts"."author"
 *   WHERE f1."name"=?1 AND EXISTS (SELECT 1 FROM (SELECT 1) LEFT JOIN json_each(…) … WHERE …)
 */
#include "rules_private.h"

enum { TIME_SEPARATOR_AT = 10 /* in "2026-01-31T12:00:00.000Z" */ };

struct bk_filter_query *bk_filter_query_create(struct bk_arena *arena,
                                               const struct bk_filter_scope *scope) {
    struct bk_filter_query *query = bk_arena_alloc_zero(arena, sizeof *query);
    struct filter_join *rows = bk_arena_alloc_zero(arena, sizeof *rows);
    if (arena->is_overflown)
        return NULL;
    query->scope = *scope;
    query->arena = arena;
    query->conditions_end = &query->conditions;
    rows->kind = FILTER_JOIN_BASE;
    rows->collection = scope->collection;
    rows->name = scope->rows.length > 0 ? scope->rows : scope->collection->quoted;
    query->base = query->joins = rows;
    query->joins_end = &rows->next;
    query->join_count = 1;
    return query;
}

const struct bk_collection *filter_find_collection(const struct bk_filter_query *query,
                                                   struct bk_slice name_or_id) {
    const struct bk_collection *own = query->scope.collection;
    if (bk_slice_equal(own->id, name_or_id) || bk_slice_equal(own->name, name_or_id))
        return own;
    return query->scope.schema == NULL ? NULL : bk_schema_find(query->scope.schema, name_or_id);
}

/* --- tests ------------------------------------------------------------------------------------ */

static bool is_of_many(const struct filter_value *value) {
    bool is_many = value->join != NULL && value->join->is_many;
    for (uint32_t i = 0; i < value->argument_count; i++)
        is_many = is_many || is_of_many(&value->arguments[i]);
    return is_many;
}

static enum bk_status memory_status(const struct bk_filter_query *query,
                                    const struct bk_buffer *out) {
    enum bk_status status = bk_buffer_status(out);
    return status == BK_OK ? bk_arena_status(query->arena) : status;
}

static enum bk_status check_joins(struct bk_filter_query *query, const struct filter_node *node) {
    if (query->join_count > BK_FILTER_JOINS_MAX)
        return filter_refuse_name(query, &node->left, "at most %d tables are joined in all",
                                  BK_FILTER_JOINS_MAX);
    return BK_OK;
}

/* The timestamp of an event is written as dates of records are, "2026-01-31 12:00:00.000Z"; in an
 * event it is seen with a T, which is read too. */
static void read_time(struct bk_filter_query *query, const struct filter_value *field,
                      struct filter_value *time) {
    if (field->kind != FILTER_VALUE_COLUMN || strcmp(field->field->type->name, "date") != 0 ||
        time->kind != FILTER_VALUE_PARAMETER || time->constant->value.type != BK_VALUE_TEXT)
        return;
    struct bk_slice *text = &time->constant->value.text;
    if (text->length <= TIME_SEPARATOR_AT || text->data[TIME_SEPARATOR_AT] != 'T')
        return;
    size_t length = text->length;
    if (text->data[length - 1] == 'Z' && bk_slice_find(*text, '.') == length)
        length--; /* all of its second */
    *text =
        bk_arena_format(query->arena, "%.*s %.*s", (int)TIME_SEPARATOR_AT, text->data,
                        (int)(length - TIME_SEPARATOR_AT - 1), text->data + TIME_SEPARATOR_AT + 1);
}

static enum bk_status resolve_comparison(struct bk_filter_query *query, struct filter_test *test) {
    const struct filter_node *node = test->node;
    enum bk_status status = filter_value_resolve(query, &node->left, &test->left);
    if (status == BK_OK)
        status = filter_value_resolve(query, &node->right, &test->right);
    if (status == BK_OK)
        status = check_joins(query, node);
    if (status != BK_OK)
        return status;
    if (query->is_of_event) {
        read_time(query, &test->left, &test->right);
        read_time(query, &test->right, &test->left);
    }
    query->has_many = query->has_many || is_of_many(&test->left) || is_of_many(&test->right);
    filter_compare_prepare(query, test);
    return bk_arena_status(query->arena);
}

static enum bk_status resolve_test(struct bk_filter_query *query, const struct filter_node *node,
                                   struct filter_test **test) {
    *test = bk_arena_alloc_zero(query->arena, sizeof **test);
    if (query->arena->is_overflown)
        return bk_arena_status(query->arena);
    (*test)->node = node;
    (*test)->is_or = node->is_or;
    (*test)->is_of_client = query->trust == BK_FILTER_OF_CLIENT;
    return node->group == NULL ? resolve_comparison(query, *test)
                               : filter_tests_resolve(query, node->group, &(*test)->group);
}

enum bk_status filter_tests_resolve(struct bk_filter_query *query, const struct filter_node *first,
                                    struct filter_test **tests) {
    enum bk_status status = BK_OK;
    for (const struct filter_node *node = first; node != NULL && status == BK_OK;
         node = node->next) {
        status = resolve_test(query, node, tests);
        tests = &(*tests)->next;
    }
    return status;
}

void filter_tests_write(const struct filter_test *first, struct bk_buffer *out) {
    bk_buffer_append_char(out, '(');
    for (const struct filter_test *test = first; test != NULL; test = test->next) {
        if (test != first)
            bk_buffer_append_slice(out, test->is_or ? BK_SLICE(" OR ") : BK_SLICE(" AND "));
        if (test->group == NULL)
            filter_compare_write(test, out);
        else
            filter_tests_write(test->group, out);
    }
    bk_buffer_append_char(out, ')');
}

/* --- conditions ------------------------------------------------------------------------------- */

static void keep_condition(struct bk_filter_query *query, struct filter_test *tests,
                           struct filter_join *judged) {
    struct filter_condition *condition = bk_arena_alloc_zero(query->arena, sizeof *condition);
    if (query->arena->is_overflown)
        return;
    condition->tests = tests;
    condition->judged = judged;
    condition->is_many = query->has_many;
    condition->is_of_client = query->trust == BK_FILTER_OF_CLIENT;
    *query->conditions_end = condition;
    query->conditions_end = &condition->next;
}

static bool has_or(const struct filter_node *first) {
    for (const struct filter_node *node = first->next; node != NULL; node = node->next)
        if (node->is_or)
            return true;
    return false;
}

static enum bk_status add_nodes(struct bk_filter_query *query, const struct filter_node *first) {
    enum bk_status status = BK_OK;
    bool is_whole = has_or(first);
    for (const struct filter_node *node = first; node != NULL && status == BK_OK;
         node = is_whole ? NULL : node->next) {
        struct filter_test *tests = NULL;
        query->has_many = false;
        status = is_whole ? filter_tests_resolve(query, node, &tests)
                          : resolve_test(query, node, &tests);
        if (status == BK_OK)
            keep_condition(query, tests, NULL);
    }
    return status == BK_OK ? bk_arena_status(query->arena) : status;
}

/* --- list rules of other collections ---------------------------------------------------------- */

/* Whose rule it is, with joins of its own. */
static void begin_judge(struct bk_filter_query *query, const struct filter_join *join,
                        struct filter_join *rows) {
    rows->kind = FILTER_JOIN_BASE;
    rows->collection = join->collection;
    rows->number = query->join_count++;
    rows->name = bk_arena_format(query->arena, "v$%u", rows->number);
    query->base = query->joins = rows;
    query->joins_end = &rows->next;
}

/* Rules may lead on, but not to more rules: they see everything. */
static enum bk_status make_judge(struct bk_filter_query *query, struct filter_join *join) {
    struct bk_slice rule = join->collection->rules[BK_MAY_LIST];
    struct filter_judge *judge = bk_arena_alloc_zero(query->arena, sizeof *judge);
    struct filter_join *rows = bk_arena_alloc_zero(query->arena, sizeof *rows);
    struct bk_filter *filter;
    if (query->arena->is_overflown)
        return bk_arena_status(query->arena);
    const struct bk_filter_query outer = *query;
    query->trust = BK_FILTER_OF_RULE;
    query->error = NULL; /* what is wrong with a rule is not for clients */
    begin_judge(query, join, rows);
    enum bk_status status =
        bk_filter_parse(query->arena, rule, BK_RULE_BYTES_MAX, &filter, query->error);
    if (status == BK_OK)
        status = filter_tests_resolve(query, filter->first, &judge->tests);
    query->trust = outer.trust;
    query->error = outer.error;
    query->base = outer.base;
    query->joins = outer.joins;
    query->joins_end = outer.joins_end;
    judge->rows = rows;
    join->judge = judge;
    if (status == BK_INVALID)
        bk_error_set(query->error, status, "a list rule of what it leads to cannot be read");
    return status == BK_OK ? bk_arena_status(query->arena) : status;
}

static enum bk_status add_list_rules(struct bk_filter_query *query) {
    enum bk_status status = BK_OK;
    for (struct filter_join *join = query->joins; join != NULL && status == BK_OK;
         join = join->next) {
        if (!join->is_judged || join->judge != NULL)
            continue;
        status = make_judge(query, join);
        query->has_many = join->is_many;
        if (status == BK_OK) {
            filter_compare_require(join->judge->tests);
            keep_condition(query, NULL, join);
        }
    }
    return status;
}

enum bk_status bk_filter_query_add(struct bk_filter_query *query, const struct bk_filter *filter,
                                   enum bk_filter_trust trust, struct bk_error *error) {
    query->trust = trust;
    query->error = error;
    enum bk_status status = add_nodes(query, filter->first);
    return status == BK_OK ? add_list_rules(query) : status;
}

/* --- sorting ---------------------------------------------------------------------------------- */

/* (SELECT m2."name" FROM (SELECT 1) LEFT JOIN … WHERE 1 LIMIT 1) */
static void write_first(const struct filter_value *value, struct bk_buffer *out) {
    bk_buffer_append_literal(out, "(SELECT ");
    filter_value_write(value, FILTER_MATCH_LETTER, out);
    bk_buffer_append_literal(out, " FROM (SELECT 1)");
    filter_join_write_chain(value->join, FILTER_MATCH_LETTER, out);
    bk_buffer_append_literal(out, " WHERE 1");
    filter_value_write_seen(value, FILTER_MATCH_LETTER, out);
    bk_buffer_append_literal(out, " LIMIT 1)");
}

/* An address that its owner does not show is sorted as none. */
static void write_visible(const struct filter_value *value, struct bk_buffer *out) {
    bk_buffer_append_literal(out, "CASE WHEN 1");
    filter_value_write_seen(value, FILTER_LETTER, out);
    bk_buffer_append_literal(out, " THEN ");
    filter_value_write(value, FILTER_LETTER, out);
    bk_buffer_append_literal(out, " ELSE '' END");
}

static enum bk_status write_sort(struct bk_filter_query *query, const struct filter_token *token,
                                 struct bk_buffer *out) {
    const struct filter_operand operand = {
        .type = FILTER_IDENTIFIER, .text = token->text, .position = token->position};
    struct filter_value value = {0};
    bool is_of_request = bk_slice_starts_with(token->text, BK_SLICE("@request."));
    enum bk_status status =
        is_of_request ? BK_INVALID : filter_field_resolve(query, &operand, &value);
    if (status != BK_OK || value.kind == FILTER_VALUE_NULL || value.join == NULL)
        return filter_refuse_name(query, &operand, "there is no field %.*s to sort by",
                                  BK_SLICE_PRINT(token->text));
    status = add_list_rules(query);
    if (value.is_many)
        write_first(&value, out);
    else if (value.needs_visible_email)
        write_visible(&value, out);
    else
        filter_value_write(&value, FILTER_LETTER, out);
    return status;
}

enum bk_status bk_filter_query_sort(struct bk_filter_query *query, struct bk_slice path,
                                    enum bk_filter_trust trust, struct bk_slice *sql,
                                    struct bk_error *error) {
    struct filter_scanner scanner = {.text = path, .arena = query->arena, .error = error};
    struct filter_token token, end;
    struct bk_buffer out;
    query->trust = trust;
    query->error = error;
    enum bk_status status = filter_scan(&scanner, &token);
    if (status == BK_OK && token.type == FILTER_IDENTIFIER)
        status = filter_scan(&scanner, &end);
    if (status == BK_OK && (token.type != FILTER_IDENTIFIER || end.type != FILTER_END))
        status = filter_refuse(error, 0, "a field to sort by", path);
    if (status != BK_OK)
        return status;
    bk_buffer_init(&out, BK_FILTER_SQL_BYTES_MAX);
    status = write_sort(query, &token, &out);
    *sql = bk_arena_copy(query->arena, bk_buffer_slice(&out));
    if (status == BK_OK)
        status = memory_status(query, &out);
    bk_buffer_fini(&out);
    return status;
}

/* --- the statement ---------------------------------------------------------------------------- */

/* A view may read anything; the house's own state changes without events. */
static bool changes_with_events(const struct bk_filter_query *query) {
    if (query->needs_sqlite)
        return false;
    for (const struct filter_join *each = query->joins; each != NULL; each = each->next)
        if (each->collection != NULL && (each->collection->role == BK_ROLE_STATE ||
                                         each->collection->type == BK_COLLECTION_VIEW))
            return false;
    return true;
}

/* Whether there is anything that a client must not find out. */
static bool hides_rows(const struct bk_filter_query *query) {
    for (const struct filter_condition *each = query->conditions; each != NULL; each = each->next)
        if (!each->is_of_client || each->judged != NULL)
            return true;
    return false;
}

enum bk_status bk_filter_query_finish(struct bk_filter_query *query, struct bk_filter_sql *sql) {
    struct bk_buffer out;
    bool hides = hides_rows(query);
    for (struct filter_condition *each = query->conditions; each != NULL; each = each->next)
        if (each->judged == NULL) {
            filter_compare_require(each->tests);
            each->is_served = !hides || filter_where_is_served(query, each);
        }
    bk_buffer_init(&out, BK_FILTER_SQL_BYTES_MAX);
    filter_where_write_joins(query, &out);
    enum bk_status status = memory_status(query, &out);
    sql->joins = bk_arena_copy(query->arena, bk_buffer_slice(&out));
    bk_buffer_clear(&out);
    filter_where_write(query, &out);
    if (status == BK_OK)
        status = memory_status(query, &out);
    sql->where = bk_arena_copy(query->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    sql->values = query->values;
    sql->value_count = query->value_count;
    sql->changes_with_events = changes_with_events(query);
    return status == BK_OK ? bk_arena_status(query->arena) : status;
}
