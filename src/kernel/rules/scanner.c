/*
 * The tokens of a filter, exactly as the contract's server cuts them: a run of operator characters
 * is one operator, a number is digits with at most one dot, and in a text only its own quote is
 * escaped, by a backslash right before it; any other backslash stands for itself.
 */
#include "rules_private.h"

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n'; }
static bool is_special(char c) { return c == '@' || c == '_' || c == '#'; }
static bool is_joint(char c) { return c == '.' || c == ':'; }
static bool is_in_name(char c) { return is_letter(c) || is_digit(c) || is_joint(c) || c == '_'; }
static bool is_in_operator(char c) {
    return c == '=' || c == '?' || c == '!' || c == '>' || c == '<' || c == '~';
}
static bool is_in_join(char c) { return c == '&' || c == '|'; }

enum bk_status filter_refuse(struct bk_error *error, size_t position, const char *expected,
                             struct bk_slice got) {
    enum { GOT_BYTES_MAX = 40 };
    if (got.length == 0)
        return bk_error_set(error, BK_INVALID, "at %zu: expected %s", position + 1, expected);
    if (got.length > GOT_BYTES_MAX)
        got.length = GOT_BYTES_MAX;
    return bk_error_set(error, BK_INVALID, "at %zu: expected %s, got %.*s", position + 1, expected,
                        BK_SLICE_PRINT(got));
}

/* --- characters ------------------------------------------------------------------------------- */

static char peek(const struct filter_scanner *scanner) {
    return scanner->position < scanner->text.length ? scanner->text.data[scanner->position] : '\0';
}

static bool is_at_end(const struct filter_scanner *scanner) {
    return scanner->position >= scanner->text.length;
}

static void skip_while(struct filter_scanner *scanner, bool (*is_one)(char c)) {
    while (!is_at_end(scanner) && is_one(peek(scanner)))
        scanner->position++;
}

static struct bk_slice since(const struct filter_scanner *scanner, size_t start) {
    return bk_slice_make(scanner->text.data + start, scanner->position - start);
}

/* False at a "/" that begins no comment. */
static bool skip_blanks(struct filter_scanner *scanner) {
    for (;;) {
        skip_while(scanner, is_space);
        if (is_at_end(scanner) || peek(scanner) != '/')
            return true;
        if (scanner->position + 1 >= scanner->text.length ||
            scanner->text.data[scanner->position + 1] != '/')
            return false;
        while (!is_at_end(scanner) && peek(scanner) != '\n')
            scanner->position++;
    }
}

/* --- tokens ----------------------------------------------------------------------------------- */

static enum bk_status scan_name(struct filter_scanner *scanner, struct filter_token *token) {
    scanner->position++;
    skip_while(scanner, is_in_name);
    token->text = since(scanner, token->position);
    token->type = !is_at_end(scanner) && peek(scanner) == '(' ? FILTER_FUNCTION : FILTER_IDENTIFIER;
    bool is_whole = !is_joint(token->text.data[token->text.length - 1]) &&
                    (token->text.length > 1 || !is_special(token->text.data[0]));
    return is_whole ? BK_OK
                    : filter_refuse(scanner->error, token->position, "a whole name", token->text);
}

static enum bk_status scan_number(struct filter_scanner *scanner, struct filter_token *token) {
    bool has_dot = false;
    scanner->position++;
    while (!is_at_end(scanner) && (is_digit(peek(scanner)) || (peek(scanner) == '.' && !has_dot))) {
        has_dot = has_dot || peek(scanner) == '.';
        scanner->position++;
    }
    token->type = FILTER_NUMBER;
    token->text = since(scanner, token->position);
    return is_digit(token->text.data[token->text.length - 1])
               ? BK_OK
               : filter_refuse(scanner->error, token->position, "a number", token->text);
}

/* Takes the backslash away in front of each quote of the text's own kind. */
static struct bk_slice decode(struct bk_arena *arena, struct bk_slice text, char quote) {
    if (bk_slice_find(text, '\\') == text.length)
        return text;
    char *data = bk_arena_alloc(arena, text.length);
    size_t length = 0;
    if (arena->is_overflown)
        return BK_SLICE_EMPTY;
    for (size_t i = 0; i < text.length; i++) {
        bool is_escape = text.data[i] == '\\' && i + 1 < text.length && text.data[i + 1] == quote;
        if (!is_escape)
            data[length++] = text.data[i];
    }
    return bk_slice_make(data, length);
}

static enum bk_status scan_text(struct filter_scanner *scanner, struct filter_token *token) {
    char quote = peek(scanner), before = '\0';
    for (scanner->position++; !is_at_end(scanner); scanner->position++) {
        if (peek(scanner) == quote && before != '\\')
            break;
        before = peek(scanner);
    }
    if (is_at_end(scanner))
        return filter_refuse(scanner->error, token->position, "a text with a closing quote",
                             since(scanner, token->position));
    struct bk_slice raw = since(scanner, token->position + 1);
    scanner->position++;
    token->type = FILTER_TEXT;
    token->text = decode(scanner->arena, raw, quote);
    return BK_OK;
}

static enum bk_status scan_run(struct filter_scanner *scanner, struct filter_token *token,
                               enum filter_token_type type, bool (*is_one)(char c)) {
    skip_while(scanner, is_one);
    token->type = type;
    token->text = since(scanner, token->position);
    return BK_OK;
}

static enum bk_status scan_mark(struct filter_scanner *scanner, struct filter_token *token) {
    static const char marks[] = "(),";
    static const enum filter_token_type types[] = {FILTER_OPEN, FILTER_CLOSE, FILTER_COMMA};
    char c = peek(scanner);
    const char *mark = c == '\0' ? NULL : strchr(marks, c);
    if (mark == NULL)
        return filter_refuse(scanner->error, token->position,
                             "a name, a text, a number, an operator or a parenthesis",
                             bk_slice_make(scanner->text.data + token->position, 1));
    scanner->position++;
    token->type = types[mark - marks];
    token->text = since(scanner, token->position);
    return BK_OK;
}

enum bk_status filter_scan(struct filter_scanner *scanner, struct filter_token *token) {
    bool is_blank = skip_blanks(scanner);
    *token = (struct filter_token){.type = FILTER_END, .position = scanner->position};
    if (!is_blank)
        return filter_refuse(scanner->error, scanner->position, "// for a comment", BK_SLICE("/"));
    if (is_at_end(scanner))
        return BK_OK;
    char c = peek(scanner);
    if (is_letter(c) || is_special(c))
        return scan_name(scanner, token);
    if (is_digit(c) || c == '-')
        return scan_number(scanner, token);
    if (c == '\'' || c == '"')
        return scan_text(scanner, token);
    if (is_in_operator(c))
        return scan_run(scanner, token, FILTER_OPERATOR, is_in_operator);
    if (is_in_join(c))
        return scan_run(scanner, token, FILTER_JOIN, is_in_join);
    return scan_mark(scanner, token);
}
