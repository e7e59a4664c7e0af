/*
 * The words of WHERE, in an order that gives nothing away.
 *
 * How long a list takes must not tell what is in the records that its rule hides. A client chooses
 * the filter, and may choose one that is dear: were it computed over hidden rows, or the rule asked
 * of just those that pass it, the clock would say how many there are. So beside the rule stand
 * those comparisons of a client that an index of the collection can serve, and nothing else;
 * what remains is computed where the rule holds:
 *
 *   WHERE <rule> AND <served by indexes> AND CASE WHEN <rule> THEN <the rest> END
 *
 * The same goes for the records that a relation leads to, and the list rules of their collections
 * (judges). CASE is computed in the order in which it is written; terms of an AND are in any order
 * that SQLite likes.
 *
 * What is left to be seen: how many hidden rows an index finds for a value. To look at each row of
 * the table instead would take the index from everybody.
 *
 * Conditions that speak of several rows stand in one EXISTS. A rule's are asked in an EXISTS of
 * their own before a client's joins are made, and again together with the client's, with which
 * they share rows.
 */
#include "rules_private.h"

enum part {
    OF_RULE,
    SERVED, /* a client's, by an index */
    JUDGES, /* the list rules of what a client's paths lead to */
    DEAR,   /* all else of a client */
};

/* --- which is which --------------------------------------------------------------------------- */

/* Whether a search in the table of its row can begin with it. */
static bool is_indexed(const struct bk_filter_query *query, const struct filter_value *value) {
    if (value->kind != FILTER_VALUE_COLUMN || value->is_lower || value->is_expression ||
        value->join == NULL || value->join->collection == NULL)
        return false;
    const struct bk_collection *collection = value->join->collection;
    return value->field == collection->id_field ||
           bk_collection_is_indexed(collection, value->field->name, query->arena);
}

static bool is_constant(const struct filter_value *value) {
    return value->kind == FILTER_VALUE_NULL || value->kind == FILTER_VALUE_LITERAL ||
           value->kind == FILTER_VALUE_PARAMETER;
}

static bool is_comparison_served(const struct bk_filter_query *query,
                                 const struct filter_test *test) {
    const struct filter_value *left = &test->left, *right = &test->right;
    enum filter_operator sign = test->node->sign;
    if (sign == FILTER_LIKE || sign == FILTER_NOT_LIKE || sign == FILTER_NOT_EQUAL)
        return false;
    if (left->needs_visible_email || right->needs_visible_email ||
        (!test->node->is_any && (left->is_many || right->is_many)))
        return false;
    /* Two columns are in no index together. */
    return (is_constant(left) && (is_constant(right) || is_indexed(query, right))) ||
           (is_indexed(query, left) && is_constant(right));
}

/* With OR between them, each must be. */
static bool are_served(const struct bk_filter_query *query, const struct filter_test *first) {
    for (const struct filter_test *test = first; test != NULL; test = test->next) {
        bool is_served = test->group == NULL ? is_comparison_served(query, test)
                                             : are_served(query, test->group);
        if (!is_served)
            return false;
    }
    return true;
}

bool filter_where_is_served(const struct bk_filter_query *query,
                            const struct filter_condition *condition) {
    return condition->is_of_client && condition->judged == NULL &&
           are_served(query, condition->tests);
}

static enum part part_of(const struct filter_condition *condition) {
    if (!condition->is_of_client)
        return OF_RULE;
    if (condition->judged != NULL)
        return JUDGES;
    return condition->is_served ? SERVED : DEAR;
}

static bool has(const struct bk_filter_query *query, enum part part, bool is_many) {
    for (const struct filter_condition *each = query->conditions; each != NULL; each = each->next)
        if (each->is_many == is_many && part_of(each) == part)
            return true;
    return false;
}

static bool has_many_of_client(const struct bk_filter_query *query) {
    return has(query, SERVED, true) || has(query, JUDGES, true) || has(query, DEAR, true);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* What is written with AND between. */
struct row {
    const struct bk_filter_query *query;
    struct bk_buffer *out;
    bool is_begun;
};

static void begin_term(struct row *row) {
    if (row->is_begun)
        bk_buffer_append_literal(row->out, " AND ");
    row->is_begun = true;
}

static void write_part(struct row *row, enum part part, bool is_many) {
    for (const struct filter_condition *each = row->query->conditions; each != NULL;
         each = each->next) {
        if (each->is_many != is_many || part_of(each) != part)
            continue;
        begin_term(row);
        if (each->judged != NULL)
            filter_join_write_judge(each->judged, FILTER_LETTER, row->out);
        else
            filter_tests_write(each->tests, row->out);
    }
}

static void write_joins(const struct bk_filter_query *query, bool is_many, bool with_clients,
                        struct bk_buffer *out) {
    for (const struct filter_join *join = query->joins; join != NULL; join = join->next)
        if (join->is_many == is_many && (with_clients || !join->is_of_client))
            filter_join_write(join, FILTER_LETTER, out);
}

void filter_where_write_joins(const struct bk_filter_query *query, struct bk_buffer *out) {
    write_joins(query, false, true, out);
}

/* What is dear of what a judge lets through. */
static void write_rest(struct row *row, bool is_many) {
    if (!has(row->query, JUDGES, is_many) || !has(row->query, DEAR, is_many)) {
        write_part(row, JUDGES, is_many);
        write_part(row, DEAR, is_many);
        return;
    }
    struct row inner = {.query = row->query, .out = row->out};
    begin_term(row);
    bk_buffer_append_literal(row->out, "CASE WHEN ");
    write_part(&inner, JUDGES, is_many);
    inner.is_begun = false;
    bk_buffer_append_literal(row->out, " THEN ");
    write_part(&inner, DEAR, is_many);
    bk_buffer_append_literal(row->out, " END");
}

static void write_exists(struct row *row, bool with_clients) {
    struct row inner = {.query = row->query, .out = row->out};
    begin_term(row);
    bk_buffer_append_literal(row->out, "EXISTS (SELECT 1 FROM (SELECT 1)");
    write_joins(row->query, true, with_clients, row->out);
    bk_buffer_append_literal(row->out, " WHERE ");
    write_part(&inner, OF_RULE, true);
    if (with_clients) {
        write_part(&inner, SERVED, true);
        write_rest(&inner, true);
    }
    bk_buffer_append_char(row->out, ')');
}

/* All that is not plain: that of the rule first, where a client has more. */
static void write_guarded(struct row *row) {
    const struct bk_filter_query *query = row->query;
    struct row inner = {.query = query, .out = row->out};
    begin_term(row);
    bk_buffer_append_literal(row->out, "CASE WHEN ");
    write_part(&inner, OF_RULE, false);
    if (has(query, OF_RULE, true))
        write_exists(&inner, false);
    inner.is_begun = false;
    bk_buffer_append_literal(row->out, " THEN ");
    write_rest(&inner, false);
    if (has_many_of_client(query))
        write_exists(&inner, true);
    bk_buffer_append_literal(row->out, " END");
}

void filter_where_write(const struct bk_filter_query *query, struct bk_buffer *out) {
    struct row row = {.query = query, .out = out};
    bool has_rule = has(query, OF_RULE, false) || has(query, OF_RULE, true);
    bool has_more =
        has(query, JUDGES, false) || has(query, DEAR, false) || has_many_of_client(query);
    write_part(&row, OF_RULE, false);
    write_part(&row, SERVED, false);
    if (has_rule && has_more) {
        write_guarded(&row);
    } else {
        write_rest(&row, false);
        if (has_many_of_client(query) || has(query, OF_RULE, true))
            write_exists(&row, true);
    }
    if (!row.is_begun)
        bk_buffer_append_char(out, '1');
}
