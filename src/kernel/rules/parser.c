/*
 * The tree of a filter. Terms of a group are kept in a row, each with how it is joined to the one
 * before it: whoever walks the row lets && bind before ||, as SQL does.
 *
 * The depth of groups and functions, the number of comparisons and the length are bounded, so that
 * whatever a client sends is read in one pass without deep recursion.
 */
#include "rules_private.h"

struct parser {
    struct filter_scanner scanner;
    struct filter_token token; /* the next one */
    struct bk_filter *filter;
    uint32_t depth;
};

static enum bk_status advance(struct parser *parser) {
    return filter_scan(&parser->scanner, &parser->token);
}

static struct bk_slice token_text(const struct parser *parser) {
    return parser->token.type == FILTER_END ? BK_SLICE("the end") : parser->token.text;
}

static enum bk_status refuse(struct parser *parser, const char *expected) {
    return filter_refuse(parser->scanner.error, parser->token.position, expected,
                         token_text(parser));
}

static enum bk_status refuse_limit(struct parser *parser, const char *what, int limit) {
    return bk_error_set(parser->scanner.error, BK_INVALID, "at %zu: at most %d %s are read",
                        parser->token.position + 1, limit, what);
}

/* --- operands --------------------------------------------------------------------------------- */

static enum bk_status parse_operand(struct parser *parser, uint32_t function_depth,
                                    struct filter_operand *operand);

static enum bk_status parse_argument(struct parser *parser, uint32_t function_depth,
                                     struct filter_operand *function,
                                     struct filter_operand ***end) {
    if (function->argument_count == BK_FILTER_ARGUMENTS_MAX)
        return refuse_limit(parser, "arguments", BK_FILTER_ARGUMENTS_MAX);
    struct filter_operand *argument = bk_arena_alloc_zero(parser->scanner.arena, sizeof *argument);
    **end = argument;
    *end = &argument->next;
    function->argument_count++;
    return parse_operand(parser, function_depth, argument);
}

/* Behind the name. A comma may stand before the closing parenthesis, as in the contract. */
static enum bk_status parse_arguments(struct parser *parser, uint32_t function_depth,
                                      struct filter_operand *function) {
    struct filter_operand **end = &function->arguments;
    if (function_depth >= BK_FILTER_FUNCTION_DEPTH_MAX)
        return refuse_limit(parser, "functions in functions", BK_FILTER_FUNCTION_DEPTH_MAX);
    enum bk_status status = advance(parser);
    while (status == BK_OK && parser->token.type != FILTER_CLOSE) {
        status = parse_argument(parser, function_depth + 1, function, &end);
        if (status != BK_OK || parser->token.type == FILTER_CLOSE)
            continue;
        if (parser->token.type != FILTER_COMMA)
            return refuse(parser, "a comma or a closing parenthesis");
        status = advance(parser);
    }
    return status == BK_OK ? advance(parser) : status;
}

static enum bk_status parse_operand(struct parser *parser, uint32_t function_depth,
                                    struct filter_operand *operand) {
    enum filter_token_type type = parser->token.type;
    if (type != FILTER_IDENTIFIER && type != FILTER_TEXT && type != FILTER_NUMBER &&
        type != FILTER_FUNCTION)
        return refuse(parser, "a field, a text, a number or a function");
    operand->type = type;
    operand->text = parser->token.text;
    operand->position = parser->token.position;
    enum bk_status status = advance(parser);
    if (status == BK_OK && type == FILTER_FUNCTION)
        status = parse_arguments(parser, function_depth, operand);
    return status;
}

/* --- comparisons ------------------------------------------------------------------------------ */

static bool read_operator(struct bk_slice text, enum filter_operator *sign) {
    static const struct bk_slice operators[] = {
        [FILTER_EQUAL] = BK_SLICE_INIT("="),   [FILTER_NOT_EQUAL] = BK_SLICE_INIT("!="),
        [FILTER_LIKE] = BK_SLICE_INIT("~"),    [FILTER_NOT_LIKE] = BK_SLICE_INIT("!~"),
        [FILTER_LESS] = BK_SLICE_INIT("<"),    [FILTER_LESS_EQUAL] = BK_SLICE_INIT("<="),
        [FILTER_GREATER] = BK_SLICE_INIT(">"), [FILTER_GREATER_EQUAL] = BK_SLICE_INIT(">="),
    };
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (bk_slice_equal(text, operators[i])) {
            *sign = (enum filter_operator)i;
            return true;
        }
    }
    return false;
}

static enum bk_status parse_operator(struct parser *parser, struct filter_node *node) {
    struct bk_slice text = parser->token.text;
    node->is_any = parser->token.type == FILTER_OPERATOR && text.data[0] == '?';
    if (node->is_any)
        text = bk_slice_make(text.data + 1, text.length - 1);
    if (parser->token.type != FILTER_OPERATOR || !read_operator(text, &node->sign))
        return refuse(parser, "one of = != ~ !~ < <= > >=, or one of them with ? before it");
    return advance(parser);
}

static enum bk_status parse_comparison(struct parser *parser, struct filter_node *node) {
    if (parser->filter->comparison_count == BK_FILTER_COMPARISONS_MAX)
        return refuse_limit(parser, "comparisons", BK_FILTER_COMPARISONS_MAX);
    parser->filter->comparison_count++;
    enum bk_status status = parse_operand(parser, 0, &node->left);
    if (status == BK_OK)
        status = parse_operator(parser, node);
    return status == BK_OK ? parse_operand(parser, 0, &node->right) : status;
}

/* --- groups ----------------------------------------------------------------------------------- */

static enum bk_status parse_terms(struct parser *parser, struct filter_node **first);

static enum bk_status parse_group(struct parser *parser, struct filter_node *node) {
    if (parser->depth == BK_FILTER_DEPTH_MAX)
        return refuse_limit(parser, "groups in groups", BK_FILTER_DEPTH_MAX);
    parser->depth++;
    enum bk_status status = advance(parser);
    if (status == BK_OK)
        status = parse_terms(parser, &node->group);
    parser->depth--;
    if (status != BK_OK)
        return status;
    return parser->token.type == FILTER_CLOSE ? advance(parser)
                                              : refuse(parser, "&&, || or a closing parenthesis");
}

static enum bk_status parse_join(struct parser *parser, struct filter_node *next) {
    next->is_or = bk_slice_is(parser->token.text, "||");
    if (!next->is_or && !bk_slice_is(parser->token.text, "&&"))
        return refuse(parser, "&& or ||");
    return advance(parser);
}

/* Up to the end or a closing parenthesis. */
static enum bk_status parse_terms(struct parser *parser, struct filter_node **first) {
    struct filter_node *node = bk_arena_alloc_zero(parser->scanner.arena, sizeof *node);
    enum bk_status status = BK_OK;
    *first = node;
    for (;;) {
        status = parser->token.type == FILTER_OPEN ? parse_group(parser, node)
                                                   : parse_comparison(parser, node);
        if (status != BK_OK || parser->scanner.arena->is_overflown ||
            parser->token.type != FILTER_JOIN)
            return status;
        node->next = bk_arena_alloc_zero(parser->scanner.arena, sizeof *node);
        node = node->next;
        status = parse_join(parser, node);
        if (status != BK_OK)
            return status;
    }
}

enum bk_status bk_filter_parse(struct bk_arena *arena, struct bk_slice text, size_t bytes_max,
                               struct bk_filter **filter, struct bk_error *error) {
    struct parser parser = {.scanner = {.text = text, .arena = arena, .error = error}};
    if (text.length > bytes_max)
        return bk_error_set(error, BK_INVALID, "it has %zu bytes: at most %zu are read",
                            text.length, bytes_max);
    *filter = parser.filter = bk_arena_alloc_zero(arena, sizeof **filter);
    enum bk_status status = advance(&parser);
    if (status == BK_OK)
        status = parse_terms(&parser, &parser.filter->first);
    if (arena->is_overflown)
        return bk_arena_status(arena);
    if (status == BK_OK && parser.token.type != FILTER_END)
        status = refuse(&parser, "&& or ||");
    return status;
}
