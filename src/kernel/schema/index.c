/*
 * CREATE INDEX statements, as far as the schema needs to understand them:
 *
 *   CREATE [UNIQUE] INDEX [IF NOT EXISTS] [database.]name
 *   ON table (column [COLLATE x] [ASC|DESC], …) [WHERE condition]
 *
 * Names may be quoted in any way that SQLite takes; one with a quote inside is refused, since it is
 * written between quotes again. What is no plain name of a column is an expression; expressions and
 * the condition are kept as they stand, which SQLite judges when it runs the statement. A second
 * statement is refused.
 */
#include "schema_private.h"

#include "bakend/assert.h"

enum { COLUMNS_MAX = 64 };

struct reader {
    struct bk_slice rest;
};

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_quote(char c) { return c == '`' || c == '"' || c == '\'' || c == '[' || c == ']'; }

/* What no name of an index or table may have in it. */
static bool has_quote(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (is_quote(text.data[i]) || is_space(text.data[i]))
            return true;
    return false;
}

/* A name as fields have it: no number, nothing that would have to be quoted. */
static bool is_plain_name(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (!is_word(text.data[i]) && (unsigned char)text.data[i] < 0x80)
            return false;
    return text.length > 0 && !(text.data[0] >= '0' && text.data[0] <= '9');
}

static struct bk_slice after(struct bk_slice text, size_t count) {
    return bk_slice_make(text.data + count, text.length - count);
}

static void skip_spaces(struct reader *reader) {
    while (reader->rest.length > 0 && is_space(reader->rest.data[0]))
        reader->rest = after(reader->rest, 1);
}

/* A word whatever its case, with something else behind it. */
static bool take_word(struct reader *reader, struct bk_slice word) {
    skip_spaces(reader);
    if (reader->rest.length < word.length ||
        !bk_slice_equal_ignore_case(bk_slice_make(reader->rest.data, word.length), word) ||
        (reader->rest.length > word.length && is_word(reader->rest.data[word.length])))
        return false;
    reader->rest = after(reader->rest, word.length);
    return true;
}

/* The length of a quoted part at the start of text, or 0 when there is none. */
static size_t quoted_length(struct bk_slice text) {
    static const char openers[] = "`\"'[", closers[] = "`\"']";
    const char *opener =
        text.length == 0 || text.data[0] == '\0' ? NULL : strchr(openers, text.data[0]);
    if (opener == NULL)
        return 0;
    char closer = closers[opener - openers];
    for (size_t i = 1; i < text.length; i++)
        if (text.data[i] == closer)
            return i + 1;
    return text.length;
}

static struct bk_slice unquote(struct bk_slice text) {
    while (text.length > 0 && (is_space(text.data[0]) || is_quote(text.data[0])))
        text = after(text, 1);
    while (text.length > 0 &&
           (is_space(text.data[text.length - 1]) || is_quote(text.data[text.length - 1])))
        text.length--;
    return text;
}

/* A name up to a space, a dot or a parenthesis; empty when there is none. */
static struct bk_slice take_name(struct reader *reader) {
    skip_spaces(reader);
    size_t length = quoted_length(reader->rest);
    while (length < reader->rest.length && !is_space(reader->rest.data[length]) &&
           reader->rest.data[length] != '(' && reader->rest.data[length] != '.')
        length++;
    struct bk_slice name = unquote(bk_slice_make(reader->rest.data, length));
    reader->rest = after(reader->rest, length);
    return name;
}

/* Up to the stop at this level: not inside quotes or parentheses. text.length when there is
 * none. */
static size_t find_outside(struct bk_slice text, char stop) {
    size_t depth = 0;
    for (size_t i = 0; i < text.length;) {
        char c = text.data[i];
        if (depth == 0 && c == stop)
            return i;
        size_t quoted = quoted_length(after(text, i));
        depth += c == '(';
        depth -= c == ')' && depth > 0;
        i += quoted > 0 ? quoted : 1;
    }
    return text.length;
}

/* The last word of text, whatever its case, cut off; false when it is another. */
static bool cut_word(struct bk_slice *text, struct bk_slice word) {
    struct bk_slice trimmed = bk_slice_trim(*text);
    if (trimmed.length <= word.length)
        return false;
    size_t start = trimmed.length - word.length;
    if (!is_space(trimmed.data[start - 1]) ||
        !bk_slice_equal_ignore_case(after(trimmed, start), word))
        return false;
    *text = bk_slice_trim(bk_slice_make(trimmed.data, start));
    return true;
}

/* "name COLLATE nocase DESC" */
static void read_column(struct bk_slice text, struct schema_index_column *column) {
    *column = (struct schema_index_column){.order = BK_SLICE("")};
    text = bk_slice_trim(text);
    if (cut_word(&text, BK_SLICE("desc")))
        column->order = BK_SLICE("DESC");
    else if (cut_word(&text, BK_SLICE("asc")))
        column->order = BK_SLICE("ASC");
    size_t start = text.length;
    while (start > 0 && is_word(text.data[start - 1]))
        start--;
    struct bk_slice head = bk_slice_make(text.data, start), collation = after(text, start);
    if (collation.length > 0 && cut_word(&head, BK_SLICE("collate"))) {
        column->collation = collation;
        text = head;
    }
    column->name = is_plain_name(unquote(text)) ? unquote(text) : text;
}

static bool read_columns(struct bk_slice text, struct bk_arena *arena, struct schema_index *index) {
    index->columns = bk_arena_alloc_zero(arena, sizeof *index->columns * COLUMNS_MAX);
    if (arena->is_overflown)
        return false; /* its memory is shared, and the whole is refused */
    while (text.length > 0) {
        size_t length = find_outside(text, ',');
        if (index->column_count == COLUMNS_MAX)
            return false;
        read_column(bk_slice_make(text.data, length), &index->columns[index->column_count]);
        if (index->columns[index->column_count].name.length > 0)
            index->column_count++;
        text = after(text, length < text.length ? length + 1 : length);
    }
    return index->column_count > 0;
}

static bool read_head(struct reader *reader, struct schema_index *index) {
    if (!take_word(reader, BK_SLICE("create")))
        return false;
    index->is_unique = take_word(reader, BK_SLICE("unique"));
    if (!take_word(reader, BK_SLICE("index")))
        return false;
    if (take_word(reader, BK_SLICE("if"))) {
        if (!take_word(reader, BK_SLICE("not")) || !take_word(reader, BK_SLICE("exists")))
            return false;
        index->is_optional = true;
    }
    index->name = take_name(reader);
    if (reader->rest.length > 0 && reader->rest.data[0] == '.') {
        reader->rest = after(reader->rest, 1);
        index->database = index->name;
        index->name = take_name(reader);
    }
    if (!take_word(reader, BK_SLICE("on")))
        return false;
    index->table = take_name(reader);
    skip_spaces(reader);
    if (has_quote(index->database) || has_quote(index->name) || has_quote(index->table))
        return false;
    return index->name.length > 0 && reader->rest.length > 0 && reader->rest.data[0] == '(';
}

bool schema_index_parse(struct bk_slice sql, struct bk_arena *arena, struct schema_index *index) {
    *index = (struct schema_index){.condition = BK_SLICE("")};
    sql = bk_slice_trim(sql);
    if (sql.length > 0 && sql.data[sql.length - 1] == ';')
        sql.length--;
    struct reader reader = {sql};
    if (memchr(sql.data == NULL ? "" : sql.data, '\0', sql.length) != NULL ||
        !read_head(&reader, index))
        return false;
    reader.rest = after(reader.rest, 1);
    size_t length = find_outside(reader.rest, ')');
    if (length == reader.rest.length)
        return false;
    if (find_outside(bk_slice_make(reader.rest.data, length), ';') < length ||
        !read_columns(bk_slice_make(reader.rest.data, length), arena, index))
        return false;
    reader.rest = after(reader.rest, length + 1);
    if (take_word(&reader, BK_SLICE("where")))
        index->condition = bk_slice_trim(reader.rest);
    else if (bk_slice_trim(reader.rest).length > 0)
        return false;
    return find_outside(index->condition, ';') == index->condition.length;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void write_name(struct bk_buffer *out, struct bk_slice name) {
    bk_buffer_append_char(out, '`');
    bk_buffer_append_slice(out, name);
    bk_buffer_append_char(out, '`');
}

static void write_column(struct bk_buffer *out, const struct schema_index_column *column) {
    if (is_plain_name(column->name))
        write_name(out, column->name);
    else
        bk_buffer_append_slice(out, column->name);
    if (column->collation.length > 0) {
        bk_buffer_append_literal(out, " COLLATE ");
        bk_buffer_append_slice(out, column->collation);
    }
    if (column->order.length > 0) {
        bk_buffer_append_char(out, ' ');
        bk_buffer_append_slice(out, column->order);
    }
}

struct bk_slice schema_index_build(const struct schema_index *index, struct bk_arena *arena) {
    struct bk_buffer out;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    bk_buffer_append_literal(&out, "CREATE ");
    if (index->is_unique)
        bk_buffer_append_literal(&out, "UNIQUE ");
    bk_buffer_append_literal(&out, "INDEX ");
    if (index->is_optional)
        bk_buffer_append_literal(&out, "IF NOT EXISTS ");
    if (index->database.length > 0) {
        write_name(&out, index->database);
        bk_buffer_append_char(&out, '.');
    }
    write_name(&out, index->name);
    bk_buffer_append_literal(&out, " ON ");
    write_name(&out, index->table);
    bk_buffer_append_literal(&out, " (");
    for (uint32_t i = 0; i < index->column_count; i++) {
        if (index->column_count > 1)
            bk_buffer_append_slice(&out, i == 0 ? BK_SLICE("\n  ") : BK_SLICE(",\n  "));
        write_column(&out, &index->columns[i]);
    }
    if (index->column_count > 1)
        bk_buffer_append_char(&out, '\n');
    bk_buffer_append_char(&out, ')');
    if (index->condition.length > 0) {
        bk_buffer_append_literal(&out, " WHERE ");
        bk_buffer_append_slice(&out, index->condition);
    }
    struct bk_slice text = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return text;
}

bool schema_index_is_unique_on(const struct bk_collection *collection, struct bk_slice column,
                               struct bk_arena *arena) {
    for (uint32_t i = 0; i < collection->index_count; i++) {
        struct schema_index index;
        if (schema_index_parse(collection->indexes[i].sql, arena, &index) && index.is_unique &&
            index.column_count == 1 && bk_slice_equal_ignore_case(index.columns[0].name, column))
            return true;
    }
    return false;
}

bool bk_collection_is_unique_on(const struct bk_collection *collection, struct bk_slice column,
                                struct bk_arena *scratch) {
    return schema_index_is_unique_on(collection, column, scratch);
}

/* Whether it has all rows, compared as the column compares. */
static bool is_of_all(const struct schema_index *index) {
    struct bk_slice collation = index->columns[0].collation;
    return index->condition.length == 0 &&
           (collation.length == 0 || bk_slice_equal_ignore_case(collation, BK_SLICE("binary")));
}

bool bk_collection_is_indexed(const struct bk_collection *collection, struct bk_slice column,
                              struct bk_arena *scratch) {
    for (uint32_t i = 0; i < collection->index_count; i++) {
        struct schema_index index;
        if (schema_index_parse(collection->indexes[i].sql, scratch, &index) &&
            index.column_count > 0 && is_of_all(&index) &&
            bk_slice_equal_ignore_case(index.columns[0].name, column))
            return true;
    }
    return false;
}
