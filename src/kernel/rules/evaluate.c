/*
 * The conditions of a filter, computed over a record that is in memory. The answer is the one that
 * their SQL would give, or that it takes tables: what needs them matters only where it decides.
 *
 * Elements of lists are rows in SQL, shared by all tests that name the same list. So they are here:
 * the conditions hold when there is a choice of one element of each list for which all of them do.
 * A test that all elements must pass looks at them by itself.
 */
#include "rules_private.h"

#include "bakend/assert.h"
#include "bakend/like.h"

/* What SQL knows, and what is not known here. */
enum truth { FALSE, UNKNOWN /* NULL */, TRUE, IN_TABLES };

static enum truth truth_of(bool is_true) { return is_true ? TRUE : FALSE; }

/* NULL && what is in tables is not true, whatever that is. */
static enum truth both(enum truth a, enum truth b) {
    if (a == FALSE || b == FALSE)
        return FALSE;
    if (a == UNKNOWN || b == UNKNOWN)
        return UNKNOWN;
    return a == IN_TABLES || b == IN_TABLES ? IN_TABLES : TRUE;
}

static enum truth either(enum truth a, enum truth b) {
    if (a == TRUE || b == TRUE)
        return TRUE;
    if (a == IN_TABLES || b == IN_TABLES)
        return IN_TABLES;
    return a == UNKNOWN || b == UNKNOWN ? UNKNOWN : FALSE;
}

/* --- one value with one other ----------------------------------------------------------------- */

struct side {
    const struct filter_value *value;
    struct bk_value is;
    enum filter_affinity affinity;
};

struct pair {
    struct filter_evaluation *evaluation;
    const struct filter_test *test;
    struct side left, right;
};

static const struct bk_value empty_text = {.type = BK_VALUE_TEXT};

static int compare(const struct pair *pair, const struct side *left, const struct side *right) {
    return filter_compare_values(pair->evaluation->arena, &left->is, left->affinity, &right->is,
                                 right->affinity);
}

/* IS, which knows NULL. */
static bool is_same(const struct pair *pair, const struct side *left, const struct side *right) {
    bool is_null = left->is.type == BK_VALUE_NULL, is_other_null = right->is.type == BK_VALUE_NULL;
    if (is_null || is_other_null)
        return is_null && is_other_null;
    return compare(pair, left, right) == 0;
}

/* IS TRUE and IS FALSE ask what a value is taken for. */
static bool is_truth(const struct filter_value *value) {
    return value->kind == FILTER_VALUE_LITERAL &&
           (bk_slice_is(value->text, "TRUE") || bk_slice_is(value->text, "FALSE"));
}

static bool is_taken_for(const struct side *left, const struct side *right) {
    return left->is.type != BK_VALUE_NULL &&
           filter_is_true(&left->is) == bk_slice_is(right->value->text, "TRUE");
}

static struct side or_empty(const struct side *side) {
    if (!filter_value_is_empty(side->value))
        return *side;
    return (struct side){.value = side->value, .is = empty_text};
}

static enum truth equality_of(const struct pair *pair, bool is_equal) {
    struct side left = or_empty(&pair->left), right = or_empty(&pair->right);
    bool has_null = left.is.type == BK_VALUE_NULL || right.is.type == BK_VALUE_NULL;
    if (is_equal && has_null)
        return UNKNOWN;
    if (!is_equal && is_truth(pair->right.value))
        return truth_of(!is_taken_for(&left, &right));
    return truth_of(is_same(pair, &left, &right) == is_equal);
}

static bool is_nothing(const struct pair *pair, const struct side *side) {
    struct side empty = {.is = empty_text};
    return side->is.type == BK_VALUE_NULL || compare(pair, side, &empty) == 0;
}

/* An expression: what is NULL is '', and its column's type no longer counts. */
static struct side coalesce(const struct side *side) {
    struct side made = {.value = side->value, .is = side->is};
    if (side->is.type == BK_VALUE_NULL)
        made.is = empty_text;
    return made;
}

/* As write_equality writes it. */
static enum truth judge_equality(const struct pair *pair, bool is_equal) {
    const struct side *left = &pair->left, *right = &pair->right;
    bool is_left_empty = filter_value_is_empty(left->value);
    bool is_right_empty = filter_value_is_empty(right->value);
    if (left->value->fallback == FILTER_FALLBACK_NONE ||
        right->value->fallback == FILTER_FALLBACK_NONE)
        return truth_of((is_truth(right->value) ? is_taken_for(left, right)
                                                : is_same(pair, left, right)) == is_equal);
    if ((is_left_empty && is_right_empty) || filter_value_is_filled(left->value) ||
        filter_value_is_filled(right->value))
        return equality_of(pair, is_equal);
    if (is_left_empty || is_right_empty)
        return truth_of(is_nothing(pair, is_left_empty ? right : left) == is_equal);
    struct side a = coalesce(left), b = coalesce(right);
    return truth_of(is_same(pair, &a, &b) == is_equal);
}

/* --- LIKE ------------------------------------------------------------------------------------- */

static bool on_look(void *user) {
    struct filter_evaluation *evaluation = user;
    if (evaluation->like_looks == 0)
        return true;
    evaluation->like_looks--;
    return false;
}

static bool make_pattern(const struct pair *pair, struct bk_value *pattern) {
    struct bk_arena *arena = pair->evaluation->arena;
    if (pair->test->has_pattern)
        return filter_compute(pair->evaluation, &pair->test->pattern, NULL, pattern);
    if (pair->right.is.type == BK_VALUE_NULL) {
        *pattern = BK_VALUE_OF_NULL;
        return true;
    }
    struct bk_slice text = filter_text_of(arena, &pair->right.is);
    if (filter_value_is_word(pair->right.value))
        text = filter_is_true(&pair->right.is) ? BK_SLICE("true") : BK_SLICE("false");
    char *data = bk_arena_alloc(arena, text.length + 2);
    if (arena->is_overflown)
        return false;
    data[0] = data[text.length + 1] = '%';
    if (text.length > 0)
        memcpy(data + 1, text.data, text.length);
    *pattern = BK_VALUE_OF_TEXT(bk_slice_make(data, text.length + 2));
    return true;
}

static enum truth judge_like(const struct pair *pair, bool is_like) {
    struct bk_value pattern;
    if (!make_pattern(pair, &pattern))
        return IN_TABLES;
    if (pattern.type == BK_VALUE_NULL || pair->left.is.type == BK_VALUE_NULL)
        return UNKNOWN;
    const struct bk_like like = {.pattern = filter_text_of(pair->evaluation->arena, &pattern),
                                 .text = filter_text_of(pair->evaluation->arena, &pair->left.is),
                                 .escape = '\\',
                                 .is_late = on_look,
                                 .user = pair->evaluation};
    enum bk_like_answer answer = bk_like_match(&like);
    if (answer == BK_LIKE_LATE)
        return IN_TABLES;
    return truth_of((answer == BK_LIKE_YES) == is_like);
}

/* --- a comparison ----------------------------------------------------------------------------- */

static enum truth judge_order(const struct pair *pair, enum filter_operator sign) {
    if (pair->left.is.type == BK_VALUE_NULL || pair->right.is.type == BK_VALUE_NULL)
        return UNKNOWN;
    int order = compare(pair, &pair->left, &pair->right);
    switch (sign) {
    case FILTER_LESS:
        return truth_of(order < 0);
    case FILTER_LESS_EQUAL:
        return truth_of(order <= 0);
    case FILTER_GREATER:
        return truth_of(order > 0);
    default:
        return truth_of(order >= 0);
    }
}

static bool compute_side(struct filter_evaluation *evaluation, const struct filter_elements *chosen,
                         struct side *side) {
    side->affinity = filter_value_affinity(evaluation, side->value);
    return filter_compute(evaluation, side->value, chosen, &side->is);
}

/* The values are in the sides; chosen: the elements that are meant, or NULL. */
static enum truth judge_pair(struct pair *pair, const struct filter_elements *left,
                             const struct filter_elements *right) {
    enum filter_operator sign = pair->test->node->sign;
    if (!compute_side(pair->evaluation, left, &pair->left) ||
        !compute_side(pair->evaluation, right, &pair->right))
        return IN_TABLES;
    if (sign == FILTER_EQUAL || sign == FILTER_NOT_EQUAL)
        return judge_equality(pair, sign == FILTER_EQUAL);
    if (sign == FILTER_LIKE || sign == FILTER_NOT_LIKE)
        return judge_like(pair, sign == FILTER_LIKE);
    return judge_order(pair, sign);
}

/* The elements of a side that has several; of one that has not, none is chosen. */
static bool elements_of_side(struct filter_evaluation *evaluation, const struct filter_value *value,
                             struct filter_elements *elements) {
    *elements = (struct filter_elements){.count = 1};
    return !value->is_many || filter_elements_of(evaluation, value->join, elements);
}

/* NOT EXISTS one that does not match. */
static enum truth judge_all(struct filter_evaluation *evaluation, const struct filter_test *test) {
    const struct filter_value of_left = filter_compare_all(&test->left);
    const struct filter_value of_right = filter_compare_all(&test->right);
    struct pair pair = {
        .evaluation = evaluation, .test = test, .left.value = &of_left, .right.value = &of_right};
    struct filter_elements left, right;
    enum truth answer = TRUE;
    if (!elements_of_side(evaluation, &test->left, &left) ||
        !elements_of_side(evaluation, &test->right, &right))
        return IN_TABLES;
    for (left.at = 0; left.at < left.count && answer != FALSE; left.at++) {
        for (right.at = 0; right.at < right.count && answer != FALSE; right.at++) {
            if (evaluation->steps == 0)
                return IN_TABLES;
            evaluation->steps--;
            enum truth one = judge_pair(&pair, &left, &right);
            answer = both(answer, one == UNKNOWN ? TRUE : one);
        }
    }
    return answer;
}

static enum truth judge_visible(struct filter_evaluation *evaluation,
                                const struct filter_value *value) {
    if (!value->needs_visible_email)
        return TRUE;
    const struct filter_row *row = filter_row_of(evaluation, value->join);
    if (row == NULL)
        return IN_TABLES;
    return truth_of(!bk_record_hides_email(row->collection, row->values));
}

static enum truth judge_comparison(struct filter_evaluation *evaluation,
                                   const struct filter_test *test) {
    struct pair pair = {.evaluation = evaluation,
                        .test = test,
                        .left.value = &test->left,
                        .right.value = &test->right};
    if (evaluation->steps == 0)
        return IN_TABLES;
    evaluation->steps--;
    enum truth answer = judge_pair(&pair, NULL, NULL);
    if (answer == FALSE)
        return FALSE;
    if (!test->node->is_any && (test->left.is_many || test->right.is_many))
        answer = both(answer, judge_all(evaluation, test));
    answer = both(answer, judge_visible(evaluation, &test->left));
    return both(answer, judge_visible(evaluation, &test->right));
}

/* --- groups ----------------------------------------------------------------------------------- */

/* && binds before ||. What cannot change the answer any more is not looked at. */
static enum truth judge_tests(struct filter_evaluation *evaluation,
                              const struct filter_test *first) {
    enum truth answer = FALSE, term = TRUE;
    for (const struct filter_test *test = first; test != NULL; test = test->next) {
        if (test != first && test->is_or) {
            answer = either(answer, term);
            if (answer == TRUE)
                return TRUE;
            term = TRUE;
        }
        if (term == FALSE)
            continue;
        term = both(term, test->group == NULL ? judge_comparison(evaluation, test)
                                              : judge_tests(evaluation, test->group));
    }
    return either(answer, term);
}

bool filter_compute_tests(struct filter_evaluation *evaluation, const struct filter_test *first,
                          struct bk_value *out) {
    enum truth answer = judge_tests(evaluation, first);
    *out = answer == UNKNOWN ? BK_VALUE_OF_NULL : BK_VALUE_OF_INT(answer == TRUE ? 1 : 0);
    return answer != IN_TABLES;
}

/* --- conditions ------------------------------------------------------------------------------- */

static enum truth judge_conditions(struct filter_evaluation *evaluation) {
    enum truth answer = TRUE;
    for (const struct filter_condition *condition = evaluation->query->conditions;
         condition != NULL && answer != FALSE; condition = condition->next) {
        enum truth one =
            condition->judged != NULL ? IN_TABLES : judge_tests(evaluation, condition->tests);
        answer = both(answer, one == UNKNOWN ? FALSE : one);
    }
    return answer;
}

/* False: that was the last choice. */
static bool choose_next(struct filter_evaluation *evaluation) {
    for (uint32_t i = 0; i < evaluation->element_count; i++) {
        struct filter_elements *elements = &evaluation->elements[i];
        if (++elements->at < elements->count)
            return true;
        elements->at = 0;
    }
    return false;
}

static bool is_of_elements(const struct filter_join *join) {
    return join->kind == FILTER_JOIN_EACH || join->kind == FILTER_JOIN_LIST;
}

/* Lists in tables have no elements here: who asks for them learns so. */
static void gather_elements(struct filter_evaluation *evaluation) {
    uint32_t count = 0;
    for (const struct filter_join *join = evaluation->query->joins; join != NULL; join = join->next)
        count += is_of_elements(join) ? 1 : 0;
    if (count == 0)
        return;
    struct filter_elements *all = bk_arena_alloc(evaluation->arena, count * sizeof *all);
    if (evaluation->arena->is_overflown)
        return;
    evaluation->elements = all;
    for (const struct filter_join *join = evaluation->query->joins; join != NULL; join = join->next)
        if (is_of_elements(join) &&
            filter_elements_of(evaluation, join, &all[evaluation->element_count]))
            evaluation->element_count++;
}

enum bk_answer filter_evaluate(struct filter_evaluation *evaluation) {
    enum truth answer = FALSE;
    BK_ASSERT(evaluation->row.values != NULL);
    gather_elements(evaluation);
    do {
        answer = either(answer, judge_conditions(evaluation));
    } while (answer != TRUE && evaluation->steps > 0 && choose_next(evaluation));
    if (evaluation->arena->is_overflown || (answer != TRUE && evaluation->steps == 0))
        return BK_ANSWER_NEEDS_TABLES;
    if (answer == TRUE)
        return BK_ANSWER_YES;
    return answer == IN_TABLES ? BK_ANSWER_NEEDS_TABLES : BK_ANSWER_NO;
}
