/*
 * Joins: the rows that a path leads through. They are LEFT JOINs, so that a record whose relation
 * is empty is still there to be compared with null.
 *
 *   f$3  a row of the condition itself, shared by all paths that begin alike
 *   m$3  the same path once more, in the question whether one of several values does not match
 *
 * No collection can be called so: names have no "$".
 */
#include "rules_private.h"

static bool is_same(const struct filter_join *a, const struct filter_join *b) {
    return a->kind == b->kind && a->parent == b->parent && a->collection == b->collection &&
           a->field == b->field && bk_slice_equal(a->name, b->name);
}

struct filter_join *filter_join_get(struct bk_filter_query *query,
                                    const struct filter_join *wanted) {
    for (struct filter_join *join = query->joins; join != NULL; join = join->next)
        if (is_same(join, wanted))
            return join;
    struct filter_join *join = bk_arena_alloc_zero(query->arena, sizeof *join);
    if (query->arena->is_overflown)
        return query->base; /* memory that is shared: the filter is refused soon */
    *join = *wanted;
    join->next = NULL;
    join->number = query->join_count++;
    join->is_of_client = query->trust == BK_FILTER_OF_CLIENT;
    join->is_many = wanted->is_many || (wanted->parent != NULL && wanted->parent->is_many);
    *query->joins_end = join;
    query->joins_end = &join->next;
    return join;
}

void filter_join_write_name(const struct filter_join *join, char letter, struct bk_buffer *out) {
    if (join->kind == FILTER_JOIN_BASE) {
        bk_buffer_append_slice(out, join->name);
        return;
    }
    bk_buffer_append_char(out, letter);
    bk_buffer_append_char(out, '$');
    bk_json_write_int(out, join->number);
}

static void write_column(const struct filter_join *join, struct bk_slice quoted, char letter,
                         struct bk_buffer *out) {
    filter_join_write_name(join, letter, out);
    bk_buffer_append_char(out, '.');
    bk_buffer_append_slice(out, quoted);
}

/* A column of one value is a list of one. */
void filter_write_each(const struct filter_join *join, const struct bk_field *field, char letter,
                       struct bk_buffer *out) {
    static const char *const parts[] = {"json_each(CASE WHEN iif(json_valid(", "),json_type(",
                                        ")='array',0) THEN ", " ELSE json_array("};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        bk_buffer_append_slice(out, bk_slice_from(parts[i]));
        write_column(join, field->quoted, letter, out);
    }
    bk_buffer_append_literal(out, ") END)");
}

static void write_relation(const struct filter_join *join, char letter, struct bk_buffer *out) {
    bk_buffer_format(
        out, " LEFT JOIN %.*s %c$%u ON %c$%u.\"id\"=", BK_SLICE_PRINT(join->collection->quoted),
        letter, join->number, letter, join->number);
    bool is_of_list = join->parent->kind == FILTER_JOIN_EACH;
    write_column(join->parent, is_of_list ? BK_SLICE("value") : join->field->quoted, letter, out);
}

static void write_back(const struct filter_join *join, char letter, struct bk_buffer *out) {
    bk_buffer_format(out, " LEFT JOIN %.*s %c$%u ON ", BK_SLICE_PRINT(join->collection->quoted),
                     letter, join->number);
    write_column(join->parent, BK_SLICE("\"id\""), letter, out);
    if (bk_field_is_multiple(join->field)) {
        bk_buffer_append_literal(out, " IN (SELECT value FROM ");
        filter_write_each(join, join->field, letter, out);
        bk_buffer_append_char(out, ')');
        return;
    }
    bk_buffer_append_char(out, '=');
    write_column(join, join->field->quoted, letter, out);
}

void filter_join_write(const struct filter_join *join, char letter, struct bk_buffer *out) {
    switch (join->kind) {
    case FILTER_JOIN_BASE:
        break;
    case FILTER_JOIN_RELATION:
        write_relation(join, letter, out);
        break;
    case FILTER_JOIN_BACK:
        write_back(join, letter, out);
        break;
    case FILTER_JOIN_COLLECTION:
        bk_buffer_format(out, " LEFT JOIN %.*s %c$%u", BK_SLICE_PRINT(join->collection->quoted),
                         letter, join->number);
        break;
    case FILTER_JOIN_IDS:
        bk_buffer_format(
            out, " LEFT JOIN %.*s %c$%u ON %c$%u.\"id\" IN (SELECT value FROM json_each(",
            BK_SLICE_PRINT(join->collection->quoted), letter, join->number, letter, join->number);
        filter_constant_write(join->list, out);
        bk_buffer_append_literal(out, "))");
        break;
    case FILTER_JOIN_EACH:
        bk_buffer_append_literal(out, " LEFT JOIN ");
        filter_write_each(join->parent, join->field, letter, out);
        bk_buffer_format(out, " %c$%u", letter, join->number);
        break;
    case FILTER_JOIN_LIST:
        bk_buffer_append_literal(out, " LEFT JOIN json_each(");
        filter_constant_write(join->list, out);
        bk_buffer_format(out, ") %c$%u", letter, join->number);
        break;
    }
}

/* (f$3."id" IS NULL OR EXISTS (SELECT 1 FROM "teams" v$4 … WHERE v$4."id"=f$3."id" AND (…))) */
void filter_join_write_judge(const struct filter_join *join, char letter, struct bk_buffer *out) {
    const struct filter_join *rows = join->judge->rows;
    bk_buffer_append_char(out, '(');
    write_column(join, BK_SLICE("\"id\""), letter, out);
    bk_buffer_format(out, " IS NULL OR EXISTS (SELECT 1 FROM %.*s %.*s",
                     BK_SLICE_PRINT(rows->collection->quoted), BK_SLICE_PRINT(rows->name));
    for (const struct filter_join *each = rows->next; each != NULL; each = each->next)
        filter_join_write(each, FILTER_LETTER, out);
    bk_buffer_format(out, " WHERE %.*s.\"id\"=", BK_SLICE_PRINT(rows->name));
    write_column(join, BK_SLICE("\"id\""), letter, out);
    bk_buffer_append_literal(out, " AND ");
    filter_tests_write(join->judge->tests, out);
    bk_buffer_append_literal(out, "))");
}

void filter_value_write_seen(const struct filter_value *value, char letter, struct bk_buffer *out) {
    for (const struct filter_join *join = value->join; join != NULL; join = join->parent) {
        if (join->judge == NULL)
            continue;
        bk_buffer_append_literal(out, " AND ");
        filter_join_write_judge(join, letter, out);
    }
    if (value->needs_visible_email) {
        bk_buffer_append_literal(out, " AND ");
        write_column(value->join, BK_SLICE("\"emailVisibility\""), letter, out);
        bk_buffer_append_literal(out, "=1");
    }
}

void filter_join_write_chain(const struct filter_join *join, char letter, struct bk_buffer *out) {
    if (join->parent != NULL)
        filter_join_write_chain(join->parent, letter, out);
    filter_join_write(join, letter, out);
}
