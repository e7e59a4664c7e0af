/*
 * The SELECT of a view, as far as its fields need it: which columns it gives and which tables it
 * names. SQLite alone says whether it is right; this only guesses, the way that the contract
 * guesses, what a column stands for, so that it is a date here when it is one there.
 *
 *   text → without comments, joins and clauses replaced by one mark each
 *        → words outside of quotes and parentheses, gathered behind SELECT, FROM and JOIN
 *        → split at commas: `name`, `name alias` or `name AS alias`
 *
 * An expression of several words that are not in parentheses is refused, as in the contract.
 */
#include "schema_private.h"

#include "bakend/assert.h"

enum { QUERY_BYTES_MAX = 1024 * 1024, PARTS_MAX = 4 };

#define JOIN_MARK "__join__"
#define CLAUSE_MARK "__clause__"

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static struct bk_slice after(struct bk_slice text, size_t count) {
    return bk_slice_make(text.data + count, text.length - count);
}

static struct bk_slice trim_of(struct bk_slice text, const char *characters) {
    while (text.length > 0 && text.data[0] != '\0' && strchr(characters, text.data[0]) != NULL)
        text = after(text, 1);
    while (text.length > 0 && text.data[text.length - 1] != '\0' &&
           strchr(characters, text.data[text.length - 1]) != NULL)
        text.length--;
    return text;
}

/* --- comments and keywords -------------------------------------------------------------------- */

/* The length of the comment that text begins with, or 0. */
static size_t comment_length(struct bk_slice text) {
    size_t end = 2;
    if (bk_slice_starts_with(text, BK_SLICE("/*"))) {
        while (end + 1 < text.length && (text.data[end] != '*' || text.data[end + 1] != '/'))
            end++;
        return end + 1 < text.length ? end + 2 : 0;
    }
    if (!bk_slice_starts_with(text, BK_SLICE("--")))
        return 0;
    while (end < text.length && text.data[end] != '\n')
        end++;
    return end > 2 ? end : 0;
}

static void drop_comments(struct bk_slice text, struct bk_buffer *out) {
    while (text.length > 0) {
        size_t length = comment_length(text);
        bk_buffer_append_char(out, length > 0 ? ' ' : text.data[0]);
        text = after(text, length > 0 ? length : 1);
    }
}

static size_t space_length(struct bk_slice text) {
    size_t length = 0;
    while (length < text.length && is_space(text.data[length]))
        length++;
    return length;
}

/* The length of these words at the start of text, and of the space behind them; 0: they are not
 * there. */
static size_t words_length(struct bk_slice text, const char *words) {
    struct bk_slice rest = bk_slice_from(words), word;
    size_t length = 0;
    while (bk_slice_split(&rest, ' ', &word)) {
        struct bk_slice here = after(text, length);
        if (here.length <= word.length ||
            !bk_slice_equal_ignore_case(bk_slice_make(here.data, word.length), word) ||
            !is_space(here.data[word.length]))
            return 0;
        length += word.length;
        length += rest.length > 0 ? space_length(after(text, length)) : 1;
    }
    return length;
}

static size_t any_words_length(struct bk_slice text, const char *const *all, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t length = words_length(text, all[i]);
        if (length > 0)
            return length;
    }
    return 0;
}

/* Space, one of the phrases, space → a mark. */
static void mark_keywords(struct bk_slice text, struct bk_buffer *out) {
    static const char *const joins[] = {
        "full outer join", "left outer join", "right outer join", "full join",  "cross join",
        "inner join",      "outer join",      "left join",        "right join", "join"};
    static const char *const clauses[] = {"where", "group by", "having", "order", "limit", "with"};
    while (text.length > 0) {
        size_t space = space_length(text);
        struct bk_slice word = after(text, space);
        size_t join = space == 0 ? 0 : any_words_length(word, joins, BK_COUNT_OF(joins));
        size_t clause = space == 0 ? 0 : any_words_length(word, clauses, BK_COUNT_OF(clauses));
        if (join > 0)
            bk_buffer_append_literal(out, " " JOIN_MARK " ");
        else if (clause > 0)
            bk_buffer_append_literal(out, " " CLAUSE_MARK " ");
        else
            bk_buffer_append(out, text.data, space > 0 ? space : 1);
        text = after(text, join + clause > 0 ? space + join + clause : space > 0 ? space : 1);
    }
}

/* --- words ------------------------------------------------------------------------------------ */

struct scanner {
    struct bk_slice rest;
    const char *separators;
    bool keeps_separator; /* as the last byte of the word that it ends */
};

/* The length up to a separator outside of quotes and parentheses; false: one is not closed. */
static bool find_end(const struct scanner *scanner, size_t *length) {
    struct bk_slice text = scanner->rest;
    size_t depth = 0, i;
    char quote = '\0', before = '\0';
    for (i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (before != '\\') {
            if (quote == '\0' && (c == '\'' || c == '"' || c == '`'))
                quote = c;
            else if (quote == c)
                quote = '\0';
            depth += quote == '\0' && c == '(';
            depth -= quote == '\0' && c == ')' && depth > 0;
        }
        if (depth == 0 && quote == '\0' && strchr(scanner->separators, c) != NULL && c != '\0')
            break;
        before = c;
    }
    *length = i;
    return depth == 0 && quote == '\0';
}

/* The next word that is not empty. BK_END; BK_INVALID: something is not closed. */
static enum bk_status scan(struct scanner *scanner, struct bk_slice *word, struct bk_error *error) {
    while (scanner->rest.length > 0) {
        size_t length;
        if (!find_end(scanner, &length))
            return bk_error_set(error, BK_INVALID,
                                "unbalanced parenthesis or quoted expression: \"%.*s\"",
                                BK_SLICE_PRINT(scanner->rest));
        bool has_separator = length < scanner->rest.length;
        *word =
            bk_slice_make(scanner->rest.data, length + (has_separator && scanner->keeps_separator));
        scanner->rest = after(scanner->rest, length + has_separator);
        *word = trim_of(*word, scanner->keeps_separator ? "\r\f\v" : " \t\n\r\f\v");
        if (word->length > 0)
            return BK_OK;
    }
    return BK_END;
}

/* What stands behind SELECT, FROM and JOIN, as three texts. */
struct parts {
    struct bk_buffer selected, sources, joined;
    struct bk_buffer *active; /* NULL before the first SELECT */
    bool is_skipped;
};

static void take_word(struct parts *parts, struct bk_slice word) {
    struct bk_slice name = bk_slice_trim(word);
    if (bk_slice_equal_ignore_case(name, BK_SLICE("select"))) {
        parts->is_skipped = false;
        parts->active = &parts->selected;
    } else if (bk_slice_equal_ignore_case(name, BK_SLICE("from"))) {
        parts->is_skipped = false;
        parts->active = &parts->sources;
    } else if (bk_slice_is(name, JOIN_MARK)) {
        parts->is_skipped = false;
        if (parts->active == &parts->joined)
            bk_buffer_append_char(parts->active, ',');
        parts->active = &parts->joined;
    } else if (bk_slice_is(name, CLAUSE_MARK)) {
        parts->is_skipped = true;
    } else if (!bk_slice_equal_ignore_case(name, BK_SLICE("distinct"))) {
        if (parts->active == &parts->joined && bk_slice_equal_ignore_case(name, BK_SLICE("on")))
            parts->is_skipped = true;
        if (parts->is_skipped || parts->active == NULL)
            return;
        bk_buffer_append_char(parts->active, ' ');
        bk_buffer_append_slice(parts->active, word);
    }
}

/* --- names ------------------------------------------------------------------------------------ */

/* Quotes and brackets off each part of a path. */
static struct bk_slice bare(struct bk_slice text, const char *quotes, struct bk_arena *arena) {
    struct bk_buffer out;
    bk_buffer_init(&out, QUERY_BYTES_MAX);
    struct bk_slice part;
    bool is_first = true;
    while (bk_slice_split(&text, '.', &part)) {
        if (!is_first)
            bk_buffer_append_char(&out, '.');
        is_first = false;
        bk_buffer_append_slice(&out, trim_of(part, quotes));
    }
    struct bk_slice copy = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return copy;
}

static struct bk_slice last_part(struct bk_slice path) {
    struct bk_slice part = path;
    while (bk_slice_split(&path, '.', &part))
        continue;
    return part;
}

/* Its words with one space between them. */
static enum bk_status refuse_parts(struct bk_slice text, struct bk_arena *arena,
                                   struct bk_error *error) {
    struct scanner scanner = {text, " \n\t", false};
    struct bk_slice word, all = BK_SLICE("");
    while (scan(&scanner, &word, error) == BK_OK)
        all = bk_arena_format(arena, "%.*s%s%.*s", BK_SLICE_PRINT(all), all.length > 0 ? " " : "",
                              BK_SLICE_PRINT(word));
    return bk_error_set(error, BK_INVALID, "invalid identifier parts [%.*s]", BK_SLICE_PRINT(all));
}

static enum bk_status read_name(struct bk_slice text, struct bk_arena *arena,
                                struct schema_view_name *name, struct bk_error *error) {
    struct scanner scanner = {text, " \n\t", false};
    struct bk_slice parts[PARTS_MAX], word;
    size_t count = 0;
    enum bk_status status;
    while ((status = scan(&scanner, &word, error)) == BK_OK && count < PARTS_MAX)
        parts[count++] = word;
    if (status == BK_INVALID)
        return status;
    if (count == 0 || count == PARTS_MAX)
        return refuse_parts(text, arena, error);
    if (count == 3 && !bk_slice_equal_ignore_case(parts[1], BK_SLICE("as")))
        return bk_error_set(error, BK_INVALID,
                            "invalid identifier part - expected \"as\", got %.*s",
                            BK_SLICE_PRINT(parts[1]));
    struct bk_slice alias = count == 1 ? last_part(parts[0]) : parts[count - 1];
    name->original = bare(parts[0], "`\"[];", arena);
    name->alias = bare(alias, "`\"[];'", arena);
    return BK_OK;
}

/* Adds the names of a text to a list that has room for them. */
static enum bk_status read_names(struct bk_buffer *text, struct bk_arena *arena,
                                 struct schema_view_name *names, uint32_t *count,
                                 struct bk_error *error) {
    struct scanner scanner = {bk_buffer_slice(text), ",", false};
    struct bk_slice word;
    enum bk_status status;
    while ((status = scan(&scanner, &word, error)) == BK_OK) {
        status = read_name(word, arena, &names[*count], error);
        if (status != BK_OK)
            return status;
        (*count)++;
    }
    return status == BK_END ? BK_OK : status;
}

static uint32_t count_commas(const struct bk_buffer *text) {
    uint32_t count = 1;
    for (size_t i = 0; i < text->length; i++)
        count += text->data[i] == ',';
    return count;
}

static enum bk_status read_parts(struct parts *parts, struct bk_arena *arena,
                                 struct schema_view_query *query, struct bk_error *error) {
    uint32_t columns = count_commas(&parts->selected);
    uint32_t tables = count_commas(&parts->sources) + count_commas(&parts->joined);
    if (parts->selected.is_overflown || parts->sources.is_overflown || parts->joined.is_overflown)
        return bk_error_set(error, BK_TOO_LARGE, "the query is too large");
    query->columns = bk_arena_alloc_zero(arena, sizeof *query->columns * columns);
    query->tables = bk_arena_alloc_zero(arena, sizeof *query->tables * tables);
    if (arena->is_overflown)
        return bk_error_set(error, bk_arena_status(arena), "the query is too large");
    enum bk_status status =
        read_names(&parts->selected, arena, query->columns, &query->column_count, error);
    if (status == BK_OK)
        status = read_names(&parts->sources, arena, query->tables, &query->table_count, error);
    if (status == BK_OK)
        status = read_names(&parts->joined, arena, query->tables, &query->table_count, error);
    return status;
}

struct bk_slice schema_view_query_trim(struct bk_slice text) {
    return trim_of(bk_slice_trim(text), ";");
}

bool schema_view_query_is_single(struct bk_slice text) {
    struct scanner scanner = {text, ";", false};
    struct bk_slice word;
    struct bk_error ignored = BK_ERROR_INIT;
    for (int i = 0; i < 2; i++)
        if (scan(&scanner, &word, &ignored) != BK_OK)
            return true;
    return false;
}

enum bk_status schema_view_query_read(struct bk_slice text, struct bk_arena *arena,
                                      struct schema_view_query *query, struct bk_error *error) {
    struct parts parts = {.active = NULL};
    struct bk_buffer plain, marked;
    struct bk_buffer *const all[] = {&parts.selected, &parts.sources, &parts.joined, &plain,
                                     &marked};
    for (size_t i = 0; i < BK_COUNT_OF(all); i++)
        bk_buffer_init(all[i], QUERY_BYTES_MAX);
    *query = (struct schema_view_query){.column_count = 0};
    drop_comments(schema_view_query_trim(text), &plain);
    mark_keywords(bk_buffer_slice(&plain), &marked);
    struct scanner scanner = {bk_buffer_slice(&marked), ", \n\t", true};
    struct bk_slice word;
    enum bk_status status;
    while ((status = scan(&scanner, &word, error)) == BK_OK)
        take_word(&parts, word);
    if (plain.is_overflown || marked.is_overflown)
        status = bk_error_set(error, BK_TOO_LARGE, "the query is too large");
    if (status == BK_END)
        status = read_parts(&parts, arena, query, error);
    for (size_t i = 0; i < BK_COUNT_OF(all); i++)
        bk_buffer_fini(all[i]);
    return status;
}
