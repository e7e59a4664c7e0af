/*
 * Comparisons as SQL, with the contract's idea of empty: NULL and '' are equal, whichever side they
 * are on, but for JSON values. Where one side is known not to be empty, or neither can be NULL, the
 * comparison is a plain one, which an index can serve.
 *
 * A value that stands for several (the names of all editors) must match with each of them: what is
 * asked then is whether there is none that does not. With "?" before the operator one is enough.
 */
#include "rules_private.h"

#include <math.h>

/* --- empty and not ---------------------------------------------------------------------------- */

bool filter_value_is_empty(const struct filter_value *value) {
    if (value->kind == FILTER_VALUE_NULL)
        return true;
    return value->kind == FILTER_VALUE_PARAMETER && !value->is_lower &&
           value->constant->value.type == BK_VALUE_TEXT && value->constant->value.text.length == 0;
}

static bool has_filled_constants(const struct filter_value *function) {
    bool has_constant = false;
    for (uint32_t i = 0; i < function->argument_count; i++) {
        if (function->arguments[i].kind != FILTER_VALUE_PARAMETER)
            continue;
        if (filter_value_is_empty(&function->arguments[i]))
            return false;
        has_constant = true;
    }
    return has_constant;
}

bool filter_value_is_filled(const struct filter_value *value) {
    if (value->fallback != FILTER_FALLBACK_AUTO)
        return false;
    if (value->argument_count > 0)
        return has_filled_constants(value);
    if (value->kind == FILTER_VALUE_ELEMENT && value->join->kind == FILTER_JOIN_LIST)
        return !value->is_of_all || !value->is_many; /* as in the contract, even of an empty list */
    return value->kind == FILTER_VALUE_LITERAL ||
           (value->kind == FILTER_VALUE_PARAMETER && !filter_value_is_empty(value));
}

/* --- one value with one other ----------------------------------------------------------------- */

struct side {
    const struct filter_value *value;
    char letter;
};

static void write_side(struct side side, struct bk_buffer *out) {
    filter_value_write(side.value, side.letter, out);
}

static void write_side_or_empty(struct side side, struct bk_buffer *out) {
    if (filter_value_is_empty(side.value))
        bk_buffer_append_literal(out, "''");
    else
        write_side(side, out);
}

static void write_pair(struct side left, const char *sign, struct side right,
                       struct bk_buffer *out) {
    write_side_or_empty(left, out);
    bk_buffer_append_slice(out, bk_slice_from(sign));
    write_side_or_empty(right, out);
}

/* Whether it is a column of a row that is there, and that has no NULL. */
static bool is_never_null(struct side side) {
    const struct filter_value *value = side.value;
    if (value->kind != FILTER_VALUE_COLUMN || value->is_lower || value->is_expression)
        return false;
    const struct filter_join *join = value->join;
    bool is_there =
        join->kind == FILTER_JOIN_BASE || (join->is_required && side.letter == FILTER_LETTER);
    return is_there && join->collection->type != BK_COLLECTION_VIEW &&
           strcmp(value->field->type->name, "json") != 0;
}

/* Whether an index may serve it: nothing is NULL, and the values are of one kind, so that what the
 * columns' types would make of them does not matter. */
static bool is_plain_equality(struct side left, struct side right) {
    return is_never_null(left) && is_never_null(right) &&
           filter_column_affinity(left.value->field) == filter_column_affinity(right.value->field);
}

/* (a = '' OR a IS NULL) */
static void write_emptiness(struct side side, bool is_equal, struct bk_buffer *out) {
    if (is_never_null(side)) {
        write_side(side, out);
        bk_buffer_append_slice(out, is_equal ? BK_SLICE("=''") : BK_SLICE(" IS NOT ''"));
        return;
    }
    bk_buffer_append_char(out, '(');
    write_side(side, out);
    bk_buffer_append_slice(out, is_equal ? BK_SLICE("='' OR ") : BK_SLICE(" IS NOT '' AND "));
    write_side(side, out);
    bk_buffer_append_slice(out, is_equal ? BK_SLICE(" IS NULL)") : BK_SLICE(" IS NOT NULL)"));
}

static void write_equality(struct side left, bool is_equal, struct side right,
                           struct bk_buffer *out) {
    bool is_left_empty = filter_value_is_empty(left.value);
    bool is_right_empty = filter_value_is_empty(right.value);
    if (left.value->fallback == FILTER_FALLBACK_NONE ||
        right.value->fallback == FILTER_FALLBACK_NONE) {
        write_side(left, out);
        bk_buffer_append_slice(out, is_equal ? BK_SLICE(" IS ") : BK_SLICE(" IS NOT "));
        write_side(right, out);
    } else if ((is_left_empty && is_right_empty) || filter_value_is_filled(left.value) ||
               filter_value_is_filled(right.value) || is_plain_equality(left, right)) {
        write_pair(left, is_equal ? "=" : " IS NOT ", right, out);
    } else if (is_left_empty) {
        write_emptiness(right, is_equal, out);
    } else if (is_right_empty) {
        write_emptiness(left, is_equal, out);
    } else {
        bk_buffer_append_literal(out, "COALESCE(");
        write_side(left, out);
        bk_buffer_append_slice(out, is_equal ? BK_SLICE(",'')=COALESCE(")
                                             : BK_SLICE(",'') IS NOT COALESCE("));
        write_side(right, out);
        bk_buffer_append_literal(out, ",'')");
    }
}

/* --- LIKE ------------------------------------------------------------------------------------- */

static bool has_wildcard(struct bk_slice text) {
    char before = '\0';
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] == '%' && before != '\\')
            return true;
        before = text.data[i] == '\\' && before == '\\' ? '\0' : text.data[i];
    }
    return false;
}

static struct bk_slice text_of(struct bk_arena *arena, const struct bk_value *value) {
    struct bk_buffer out;
    if (value->type == BK_VALUE_TEXT)
        return value->text;
    if (value->type == BK_VALUE_INT)
        return bk_arena_format(arena, "%lld", (long long)value->integer);
    bk_buffer_init(&out, 64);
    if (value->real == 0 && signbit(value->real)) /* kept, as in the contract */
        bk_buffer_append_char(&out, '-');
    bk_json_write_double(&out, value->real);
    struct bk_slice text = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return text;
}

static bool is_special(char c) { return c == '\\' || c == '%' || c == '_'; }

struct bk_value filter_make_pattern(struct bk_arena *arena, const struct bk_value *value) {
    struct bk_slice text = text_of(arena, value);
    if (has_wildcard(text))
        return BK_VALUE_OF_TEXT(text);
    char *data = bk_arena_alloc(arena, 2 * text.length + 2);
    size_t length = 0;
    if (arena->is_overflown)
        return BK_VALUE_OF_NULL;
    data[length++] = '%';
    for (size_t i = 0; i < text.length; i++) {
        bool is_escaped =
            text.data[i] == '\\' && i + 1 < text.length && is_special(text.data[i + 1]);
        if (is_escaped)
            data[length++] = text.data[i++];
        else if (is_special(text.data[i]))
            data[length++] = '\\';
        data[length++] = text.data[i];
    }
    data[length++] = '%';
    return BK_VALUE_OF_TEXT(bk_slice_make(data, length));
}

bool filter_value_is_word(const struct filter_value *value) {
    return value->is_expression && strcmp(value->field->type->name, "bool") == 0;
}

/* pattern: the right side when it is a constant; NULL: it is compared as it is found. */
static void write_like(struct side left, bool is_like, struct side right,
                       const struct filter_value *pattern, struct bk_buffer *out) {
    write_side(left, out);
    bk_buffer_append_slice(out, is_like ? BK_SLICE(" LIKE ") : BK_SLICE(" NOT LIKE "));
    if (pattern != NULL) {
        filter_value_write(pattern, right.letter, out);
    } else {
        bool is_word = filter_value_is_word(right.value);
        bk_buffer_append_slice(out, is_word ? BK_SLICE("('%'||iif(") : BK_SLICE("('%'||"));
        write_side(right, out);
        bk_buffer_append_slice(out,
                               is_word ? BK_SLICE(",'true','false')||'%')") : BK_SLICE("||'%')"));
    }
    bk_buffer_append_literal(out, " ESCAPE '\\'");
}

/* --- all of them ------------------------------------------------------------------------------ */

static void write_plain(const struct filter_test *test, struct side left, struct side right,
                        struct bk_buffer *out) {
    static const char *const orders[] = {[FILTER_LESS] = "<",
                                         [FILTER_LESS_EQUAL] = "<=",
                                         [FILTER_GREATER] = ">",
                                         [FILTER_GREATER_EQUAL] = ">="};
    enum filter_operator sign = test->node->sign;
    if (sign == FILTER_EQUAL || sign == FILTER_NOT_EQUAL) {
        write_equality(left, sign == FILTER_EQUAL, right, out);
    } else if (sign == FILTER_LIKE || sign == FILTER_NOT_LIKE) {
        write_like(left, sign == FILTER_LIKE, right, test->has_pattern ? &test->pattern : NULL,
                   out);
    } else {
        write_side(left, out);
        bk_buffer_append_slice(out, bk_slice_from(orders[sign]));
        write_side(right, out);
    }
}

/* What several are compared with forgets, as in the contract, how its own NULLs are to be read. */
struct filter_value filter_compare_all(const struct filter_value *value) {
    struct filter_value all = *value;
    all.is_of_all = true;
    if (!value->is_many && value->kind != FILTER_VALUE_CONDITION)
        all.fallback = FILTER_FALLBACK_AUTO;
    return all;
}

/* Whether some of its rows may be hidden from the client. */
static bool has_judge(const struct filter_value *value) {
    bool is_judged = value->is_many && value->needs_visible_email;
    for (const struct filter_join *join = value->is_many ? value->join : NULL; join != NULL;
         join = join->parent)
        is_judged = is_judged || join->judge != NULL;
    return is_judged;
}

/* AND NOT EXISTS (SELECT 1 FROM (SELECT 1) LEFT JOIN … WHERE NOT (…)); of a client's, what is
 * hidden from it is not even compared. */
static void write_match_all(const struct filter_test *test, struct bk_buffer *out) {
    const struct filter_value *left = &test->left, *right = &test->right;
    struct filter_value all[] = {filter_compare_all(left), filter_compare_all(right)};
    struct side sides[] = {{&all[0], left->is_many ? FILTER_MATCH_LETTER : FILTER_LETTER},
                           {&all[1], right->is_many ? FILTER_OTHER_MATCH_LETTER : FILTER_LETTER}};
    bk_buffer_append_literal(out, " AND NOT EXISTS (SELECT 1 FROM (SELECT 1)");
    for (size_t i = 0; i < 2; i++)
        if (sides[i].value->is_many)
            filter_join_write_chain(sides[i].value->join, sides[i].letter, out);
    bool is_guarded = test->is_of_client && (has_judge(left) || has_judge(right));
    if (is_guarded) {
        bk_buffer_append_literal(out, " WHERE CASE WHEN 1");
        for (size_t i = 0; i < 2; i++)
            if (sides[i].value->is_many)
                filter_value_write_seen(sides[i].value, sides[i].letter, out);
        bk_buffer_append_literal(out, " THEN NOT (");
    } else {
        bk_buffer_append_literal(out, " WHERE NOT (");
    }
    write_plain(test, sides[0], sides[1], out);
    bk_buffer_append_slice(out, is_guarded ? BK_SLICE(") END)") : BK_SLICE("))"));
}

static void write_visible(const struct filter_value *value, struct bk_buffer *out) {
    if (!value->needs_visible_email)
        return;
    bk_buffer_append_literal(out, " AND ");
    filter_join_write_name(value->join, FILTER_LETTER, out);
    bk_buffer_append_literal(out, ".\"emailVisibility\"=1");
}

static void bind_pattern(struct bk_filter_query *query, const struct filter_value *right,
                         struct filter_value *pattern) {
    struct bk_value text = filter_make_pattern(query->arena, &right->constant->value);
    if (right->constant->is_bool)
        text = BK_VALUE_OF_TEXT(right->constant->value.integer == 1 ? BK_SLICE("%true%")
                                                                    : BK_SLICE("%false%"));
    filter_value_bind(query, &text, pattern);
    pattern->is_lower = right->is_lower;
}

/* As in the contract, it is the constants of a function that become patterns; what it gives is one
 * as it is. False: it has none. */
static bool bind_patterns(struct bk_filter_query *query, const struct filter_value *function,
                          struct filter_value *pattern) {
    size_t size = (function->argument_count + 1) * sizeof *pattern;
    bool has_constant = false;
    *pattern = *function;
    pattern->arguments = bk_arena_alloc_zero(query->arena, size);
    if (query->arena->is_overflown)
        return false;
    for (uint32_t i = 0; i < function->argument_count; i++) {
        pattern->arguments[i] = function->arguments[i];
        if (function->arguments[i].kind == FILTER_VALUE_PARAMETER) {
            bind_pattern(query, &function->arguments[i], &pattern->arguments[i]);
            has_constant = true;
        }
    }
    return has_constant;
}

void filter_compare_prepare(struct bk_filter_query *query, struct filter_test *test) {
    const struct filter_value *right = &test->right;
    if (test->node->sign != FILTER_LIKE && test->node->sign != FILTER_NOT_LIKE)
        return;
    if (right->argument_count > 0)
        test->has_pattern = bind_patterns(query, right, &test->pattern);
    else if (right->kind == FILTER_VALUE_PARAMETER && right->constant->macro.length == 0)
        test->has_pattern = true;
    if (test->has_pattern && right->argument_count == 0)
        bind_pattern(query, right, &test->pattern);
}

void filter_compare_write(const struct filter_test *test, struct bk_buffer *out) {
    bk_buffer_append_char(out, '(');
    write_plain(test, (struct side){&test->left, FILTER_LETTER},
                (struct side){&test->right, FILTER_LETTER}, out);
    if (!test->node->is_any && (test->left.is_many || test->right.is_many))
        write_match_all(test, out);
    write_visible(&test->left, out);
    write_visible(&test->right, out);
    bk_buffer_append_char(out, ')');
}

/* --- rows that must be there ------------------------------------------------------------------ */

/* Whether it is NULL where there is no row. */
static bool is_of_row(const struct filter_value *value) {
    return value->join != NULL &&
           (value->kind == FILTER_VALUE_COLUMN || value->kind == FILTER_VALUE_ELEMENT ||
            value->kind == FILTER_VALUE_JSON);
}

static void require(const struct filter_value *value) {
    if (is_of_row(value))
        for (struct filter_join *join = value->join; join != NULL; join = join->parent)
            join->is_required = true;
}

static void require_of_comparison(const struct filter_test *test) {
    enum filter_operator sign = test->node->sign;
    if (sign == FILTER_NOT_EQUAL)
        return;
    if (sign != FILTER_EQUAL) {
        require(&test->left);
        require(&test->right);
        return;
    }
    if (filter_value_is_filled(&test->right))
        require(&test->left);
    if (filter_value_is_filled(&test->left))
        require(&test->right);
}

void filter_compare_require(const struct filter_test *first) {
    for (const struct filter_test *test = first->next; test != NULL; test = test->next)
        if (test->is_or)
            return;
    for (const struct filter_test *test = first; test != NULL; test = test->next) {
        if (test->group != NULL)
            filter_compare_require(test->group);
        else
            require_of_comparison(test);
    }
}
