/*
 * Views: collections whose records are what a SELECT gives.
 *
 *   query → what it names (view_query.c) → judged: one SELECT, of collections alone, by SQLite
 *         → fields, each as what its column stands for → CREATE VIEW
 *
 * A column that is a field of a collection becomes a copy of that field, an id of one a relation to
 * it, an expression a number where it is a count or a cast says so, and JSON where nothing does.
 *
 * Passwords and token keys never leave through a view: one that is selected as it is becomes a
 * hidden field that is always empty, and one in an expression is refused. SQLite tells of each
 * reference to them, and there may be no more than were selected as they are, in a query so plain
 * that the words cannot be read otherwise than SQLite reads them. What a view reads
 * through another one was judged when that was made; a query with a WITH, which may take the name
 * of a view, does not have this trust.
 *
 * A text in double quotes is a name here, and a text to the contract where there is no such name:
 * then it is written with single quotes and tried again.
 */
#include "schema_private.h"

#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/id.h"

enum {
    REASON_BYTES_MAX = 500,
    SAMPLE_MAX = 10, /* records whose ids are looked at */
    SCRATCH_BYTES_MAX = SCHEMA_BOX_BYTES_MAX,
};

struct deriving {
    const struct bk_schema *schema;
    struct bk_connection *connection;
    struct bk_arena arena; /* of everything that the box does not keep */
    struct bk_slice sql;   /* the query as it will run */
    struct schema_view_query query;
    struct bk_sql_judge judge;
    uint32_t secret_reads; /* references to passwords and token keys */
    uint32_t secret_columns;
    bool has_with;
    struct bk_buffer fields; /* JSON: {"fields":[…]} */
    struct bk_error reason;  /* why the query will not do */
};

/* --- refusing --------------------------------------------------------------------------------- */

static void refuse(struct bk_problems *problems, struct bk_slice reason) {
    bool is_sentence = reason.length > 0 && strchr(".!?", reason.data[reason.length - 1]) != NULL;
    if (reason.length > REASON_BYTES_MAX)
        reason.length = REASON_BYTES_MAX;
    struct bk_slice message = bk_arena_format(problems->arena, "Invalid query - %.*s%s",
                                              BK_SLICE_PRINT(reason), is_sentence ? "" : ".");
    bk_problems_add(problems, BK_SLICE("viewQuery"), "validation_invalid_view_query", message.data);
}

/* "fields.2.name": the field, and which of its members. */
static const struct bk_field *field_of(const struct schema_box *box, struct bk_slice path,
                                       struct bk_slice *member) {
    struct bk_slice part;
    int64_t index;
    if (!bk_slice_starts_with(path, BK_SLICE("fields.")) || !bk_slice_split(&path, '.', &part) ||
        !bk_slice_split(&path, '.', &part) || !bk_slice_to_int64(part, &index) || index < 0 ||
        index >= (int64_t)box->collection.field_count)
        return NULL;
    *member = path;
    return &box->collection.fields[index];
}

void schema_view_refuse_fields(const struct schema_box *box, struct bk_problems *problems) {
    for (const struct bk_problem *problem = problems->first; problem != NULL;
         problem = problem->next) {
        struct bk_slice member;
        const struct bk_field *field = field_of(box, problem->field, &member);
        if (field == NULL)
            continue;
        struct bk_slice text = problem->message;
        if (bk_slice_is(problem->code, "validation_match_invalid"))
            text = BK_SLICE("must be in a valid format");
        else if (bk_slice_is(problem->code, "validation_not_in_invalid"))
            text = BK_SLICE("must not be in list");
        refuse(problems,
               bk_arena_format(problems->arena, "invalid field \"%.*s\" (%u): %.*s: %.*s.",
                               BK_SLICE_PRINT(field->name), field->index, BK_SLICE_PRINT(member),
                               BK_SLICE_PRINT(text)));
        return;
    }
}

/* SQLite's reason, as the contract words it. */
static enum bk_status refused_by_sqlite(struct deriving *deriving, enum bk_status status) {
    static const struct bk_slice no_table = BK_SLICE_INIT("no such table: ");
    struct bk_slice text = bk_slice_from(bk_connection_error(deriving->connection));
    const char *prefix = "";
    if (bk_slice_starts_with(text, no_table)) {
        text = bk_slice_make(text.data + no_table.length, text.length - no_table.length);
        prefix =
            bk_slice_find(text, '.') == text.length ? "no such table: main." : "no such table: ";
    }
    return bk_error_set(&deriving->reason, status, "SQL logic error: %s%.*s (1)", prefix,
                        BK_SLICE_PRINT(text));
}

/* --- what it reads ---------------------------------------------------------------------------- */

static bool is_secret(const struct bk_schema *schema, struct bk_slice table,
                      struct bk_slice column) {
    const struct bk_collection *collection = bk_schema_find(schema, table);
    for (uint32_t i = 0; collection != NULL && i < collection->field_count; i++)
        if (collection->fields[i].is_secret &&
            bk_slice_equal_ignore_case(collection->fields[i].name, column))
            return true;
    return false;
}

static bool may_read(void *user, struct bk_slice table, struct bk_slice column,
                     struct bk_slice through) {
    struct deriving *deriving = user;
    if (bk_schema_find(deriving->schema, table) == NULL)
        return false;
    const struct bk_collection *between = bk_schema_find(deriving->schema, through);
    bool is_judged = between != NULL && between->type == BK_COLLECTION_VIEW && !deriving->has_with;
    if (!is_judged && is_secret(deriving->schema, table, column))
        deriving->secret_reads++;
    return true;
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Anywhere, in a text too: then it is trusted less than it might. */
static uint32_t count_words(struct bk_slice text, struct bk_slice word) {
    uint32_t count = 0;
    for (size_t i = 0; i + word.length <= text.length; i++) {
        size_t end = i + word.length;
        count += bk_slice_equal_ignore_case(bk_slice_make(text.data + i, word.length), word) &&
                 (i == 0 || !is_word(text.data[i - 1])) &&
                 (end == text.length || !is_word(text.data[end]));
    }
    return count;
}

/* Whether what its columns stand for is read as SQLite reads it: there is one list of columns, and
 * nothing that quotes or comments could hide from view_query.c and not from SQLite. */
static bool is_plain(struct bk_slice query) {
    for (size_t i = 0; i < query.length; i++) {
        struct bk_slice rest = bk_slice_make(query.data + i, query.length - i);
        if (rest.data[0] == '\\' || rest.data[0] == '[' ||
            bk_slice_starts_with(rest, BK_SLICE("--")) ||
            bk_slice_starts_with(rest, BK_SLICE("/*")))
            return false;
    }
    return count_words(query, BK_SLICE("select")) == 1 && count_words(query, BK_SLICE("from")) == 1;
}

struct bk_slice schema_requote(struct bk_slice sql, struct bk_slice reason,
                               struct bk_arena *arena) {
    static const struct bk_slice no_column = BK_SLICE_INIT("no such column: ");
    if (!bk_slice_starts_with(reason, no_column))
        return BK_SLICE_EMPTY;
    struct bk_slice name =
        bk_slice_make(reason.data + no_column.length, reason.length - no_column.length);
    struct bk_slice quoted = bk_arena_format(arena, "\"%.*s\"", BK_SLICE_PRINT(name)), made;
    size_t at = 0;
    while (at + quoted.length <= sql.length &&
           !bk_slice_starts_with(bk_slice_make(sql.data + at, sql.length - at), quoted))
        at++;
    if (at + quoted.length > sql.length)
        return BK_SLICE_EMPTY;
    struct bk_buffer out;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    bk_buffer_append(&out, sql.data, at);
    bk_buffer_append_char(&out, '\'');
    for (size_t i = 0; i < name.length; i++) {
        if (name.data[i] == '\'')
            bk_buffer_append_char(&out, '\'');
        bk_buffer_append_char(&out, name.data[i]);
    }
    bk_buffer_append_char(&out, '\'');
    bk_buffer_append(&out, sql.data + at + quoted.length, sql.length - at - quoted.length);
    made = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return arena->is_overflown ? BK_SLICE_EMPTY : made;
}

static enum bk_status judge_once(struct deriving *deriving) {
    struct bk_slice sql =
        bk_arena_format(&deriving->arena, "SELECT * FROM (%.*s)", BK_SLICE_PRINT(deriving->sql));
    deriving->secret_reads = 0;
    deriving->judge =
        (struct bk_sql_judge){.arena = &deriving->arena, .may_read = may_read, .user = deriving};
    if (deriving->arena.is_overflown)
        return bk_error_set(&deriving->reason, BK_TOO_LARGE, "the query is too large");
    return bk_connection_judge(deriving->connection, sql, &deriving->judge);
}

static enum bk_status judge(struct deriving *deriving) {
    enum bk_status status = judge_once(deriving);
    for (int i = 0; i < SCHEMA_REQUOTED_MAX && status == BK_INVALID; i++) {
        struct bk_slice reason = bk_slice_from(bk_connection_error(deriving->connection));
        struct bk_slice sql = schema_requote(deriving->sql, reason, &deriving->arena);
        if (sql.data == NULL)
            break;
        deriving->sql = sql;
        status = judge_once(deriving);
    }
    return status == BK_OK ? BK_OK : refused_by_sqlite(deriving, status);
}

/* --- what its columns stand for --------------------------------------------------------------- */

/* "real" of `cast(… as real)`, in lower case; empty when it is none. */
static struct bk_slice cast_type(struct bk_slice text) {
    static const struct bk_slice cast = BK_SLICE_INIT("cast");
    if (!bk_slice_starts_with(text, cast) || text.data[text.length - 1] != ')')
        return BK_SLICE("");
    struct bk_slice head =
        bk_slice_trim(bk_slice_make(text.data + cast.length, text.length - cast.length));
    if (head.length == 0 || head.data[0] != '(')
        return BK_SLICE("");
    struct bk_slice rest = bk_slice_trim(bk_slice_make(text.data, text.length - 1));
    size_t start = rest.length;
    while (start > 0 && is_word(rest.data[start - 1]))
        start--;
    struct bk_slice type = bk_slice_make(rest.data + start, rest.length - start);
    struct bk_slice before = bk_slice_trim(bk_slice_make(rest.data, start));
    if (start == 0 || is_word(rest.data[start - 1]) || !bk_slice_ends_with(before, BK_SLICE("as")))
        return BK_SLICE("");
    return type;
}

struct cast_meaning {
    const char *type, *field;
};

/* The JSON of a field that an expression gives, but for its name; NULL: nothing is known. */
static const char *meaning_of_expression(struct bk_slice original) {
    static const char whole[] = "\"type\":\"number\",\"onlyInt\":true";
    static const char number[] = "\"type\":\"number\"", boolean[] = "\"type\":\"bool\"";
    static const struct cast_meaning casts[] = {
        {"real", number},  {"decimal", number},  {"numeric", number},
        {"int", whole},    {"integer", whole},   {"text", "\"type\":\"text\""},
        {"bool", boolean}, {"boolean", boolean},
    };
    if (bk_slice_starts_with(original, BK_SLICE("count(")))
        return whole;
    if (bk_slice_starts_with(original, BK_SLICE("total(")))
        return number;
    struct bk_slice type = cast_type(original);
    for (size_t i = 0; i < BK_COUNT_OF(casts); i++)
        if (bk_slice_equal(type, bk_slice_from(casts[i].type)))
            return casts[i].field;
    return NULL;
}

static const struct bk_collection *collection_of(const struct deriving *deriving,
                                                 struct bk_slice alias) {
    const struct bk_collection *found = NULL;
    for (uint32_t i = 0; i < deriving->query.table_count; i++) {
        const struct schema_view_name *table = &deriving->query.tables[i];
        const struct bk_collection *collection = bk_schema_find(deriving->schema, table->original);
        if (bk_slice_equal(table->alias, alias) && collection != NULL &&
            bk_slice_equal(collection->name, table->original))
            found = collection;
    }
    return found;
}

/* The field that a column is, or NULL. */
static const struct bk_field *field_of_column(const struct deriving *deriving,
                                              struct bk_slice original) {
    struct bk_slice rest = original, first = BK_SLICE(""), second = BK_SLICE(""), third;
    bk_slice_split(&rest, '.', &first);
    bool is_path = bk_slice_split(&rest, '.', &second) && !bk_slice_split(&rest, '.', &third);
    struct bk_slice main =
        deriving->query.table_count == 0 ? BK_SLICE("") : deriving->query.tables[0].alias;
    const struct bk_collection *collection = collection_of(deriving, is_path ? first : main);
    struct bk_slice name = is_path ? second : first;
    for (uint32_t i = 0; collection != NULL && i < collection->field_count; i++)
        if (bk_slice_equal_ignore_case(collection->fields[i].name, name))
            return &collection->fields[i];
    return NULL;
}

static void write_plain(struct bk_buffer *out, const char *members, struct bk_slice name) {
    bk_buffer_append_char(out, '{');
    bk_buffer_append_slice(out, bk_slice_from(members));
    bk_json_write_member_string(out, BK_SLICE("name"), name);
    bk_buffer_append_char(out, '}');
}

/* The same field may be there twice, under two names: its id is drawn, with the column's number in
 * it. */
static void write_copy(struct bk_buffer *out, const struct bk_field *field, struct bk_slice name,
                       uint32_t column) {
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    char id[] = "_clone_xxxx";
    bk_random_text(id + 7, 2, bk_slice_from(digits));
    id[9] = digits[column / 36 % 36];
    id[10] = digits[column % 36];
    schema_field_write(field, bk_slice_from(id), name, out);
}

static void write_relation(struct bk_buffer *out, const struct bk_collection *target,
                           struct bk_slice name) {
    bk_buffer_append_literal(out, "{\"type\":\"relation\",\"maxSelect\":1");
    bk_json_write_member_string(out, BK_SLICE("collectionId"), target->id);
    bk_json_write_member_string(out, BK_SLICE("name"), name);
    bk_buffer_append_char(out, '}');
}

/* The field that the column stands for as it is, or NULL. */
static const struct bk_field *write_field(struct deriving *deriving, uint32_t number) {
    static const char id_members[] = "\"type\":\"text\",\"system\":true,\"required\":true,"
                                     "\"primaryKey\":true,\"pattern\":\"^[a-z0-9]+$\"";
    struct bk_buffer *out = &deriving->fields;
    struct bk_slice name = deriving->judge.columns[number].name;
    const struct schema_view_name *column = NULL;
    for (uint32_t i = 0; i < deriving->query.column_count; i++)
        if (bk_slice_equal(deriving->query.columns[i].alias, name))
            column = &deriving->query.columns[i];
    if (bk_slice_is(name, "id")) {
        write_plain(out, id_members, name);
        return NULL;
    }
    struct bk_slice original = column == NULL ? BK_SLICE("") : column->original;
    const char *members = meaning_of_expression(schema_fold(original, &deriving->arena));
    const struct bk_field *field = members == NULL ? field_of_column(deriving, original) : NULL;
    if (field == NULL)
        write_plain(out, members != NULL ? members : "\"type\":\"json\",\"maxSize\":1", name);
    else if (bk_slice_equal_ignore_case(field->name, BK_SLICE("id")))
        write_relation(out, field->collection, name);
    else
        write_copy(out, field, name, number);
    return field;
}

/* --- what the SQL view selects ---------------------------------------------------------------- */

static void write_column(struct bk_buffer *out, struct bk_slice name, const char *before,
                         const char *after) {
    bk_buffer_append_slice(out, bk_slice_from(before));
    if (*after != '\'')
        schema_write_quoted(out, name);
    bk_buffer_append_slice(out, bk_slice_from(after));
    schema_write_quoted(out, name);
}

/* The view's own names for them: when a column that it reads is renamed, SQLite writes the new name
 * into the query, and the view goes on to answer under the old one. */
static void write_names(const struct deriving *deriving, struct bk_buffer *out) {
    for (uint32_t i = 0; i < deriving->judge.column_count; i++) {
        bk_buffer_append_char(out, i == 0 ? '(' : ',');
        schema_write_quoted(out, deriving->judge.columns[i].name);
    }
    bk_buffer_append_literal(out, ") AS ");
}

/* Ids are texts, and secrets are not there: where that needs words, the query is wrapped. */
static void make_fields(struct deriving *deriving, struct schema_box *box) {
    struct bk_buffer sql;
    bk_buffer_init(&sql, SCHEMA_DEFINITION_BYTES_MAX);
    write_names(deriving, &sql);
    size_t names_bytes = sql.length;
    bk_buffer_append_literal(&sql, "SELECT ");
    bk_buffer_append_literal(&deriving->fields, "{\"fields\":[");
    bool is_wrapped = false;
    for (uint32_t i = 0; i < deriving->judge.column_count; i++) {
        const struct bk_sql_column *column = &deriving->judge.columns[i];
        bk_json_write_separator(&deriving->fields);
        const struct bk_field *field = write_field(deriving, i);
        bool is_text = !bk_slice_is(column->name, "id") ||
                       bk_slice_equal_ignore_case(column->type, BK_SLICE("TEXT"));
        bool hides = field != NULL && field->is_secret;
        deriving->secret_columns += hides;
        is_wrapped |= !is_text || hides;
        if (i > 0)
            bk_buffer_append_literal(&sql, ", ");
        write_column(&sql, column->name, is_text ? "" : "CAST(",
                     hides      ? "'' AS "
                     : !is_text ? " AS TEXT) AS "
                                : " AS ");
    }
    bk_buffer_append_literal(&deriving->fields, "]}");
    if (!is_wrapped) {
        sql.length = names_bytes;
        bk_buffer_append_literal(&sql, "SELECT *");
    }
    bk_buffer_format(&sql, " FROM (%.*s)", BK_SLICE_PRINT(deriving->sql));
    box->view_sql = bk_arena_copy(&box->arena, bk_buffer_slice(&sql));
    if (sql.is_overflown)
        box->view_sql = BK_SLICE("");
    bk_buffer_fini(&sql);
}

/* --- all of it -------------------------------------------------------------------------------- */

static enum bk_status read_query(struct deriving *deriving, struct bk_slice query) {
    struct bk_error *reason = &deriving->reason;
    query = schema_view_query_trim(query);
    if (!schema_view_query_is_single(query))
        return bk_error_set(reason, BK_INVALID, "multiple statements are not supported");
    deriving->sql = query;
    deriving->has_with = count_words(query, BK_SLICE("with")) > 0;
    enum bk_status status =
        schema_view_query_read(query, &deriving->arena, &deriving->query, reason);
    for (uint32_t i = 0; status == BK_OK && i < deriving->query.column_count; i++)
        if (bk_slice_is(deriving->query.columns[i].alias, "*"))
            status = bk_error_set(reason, BK_INVALID,
                                  "wildcard columns (*) are not supported - manually type the "
                                  "collection field names you want the view query to have");
    return status;
}

static bool has_id(const struct deriving *deriving) {
    for (uint32_t i = 0; i < deriving->judge.column_count; i++)
        if (bk_slice_is(deriving->judge.columns[i].name, "id"))
            return true;
    return false;
}

static enum bk_status derive(struct deriving *deriving, struct schema_box *box) {
    enum bk_status status = read_query(deriving, box->collection.view_query);
    if (status == BK_OK)
        status = judge(deriving);
    if (status == BK_OK && deriving->judge.column_count > BK_COLLECTION_FIELDS_MAX)
        status = bk_error_set(&deriving->reason, BK_INVALID, "more than %d columns",
                              BK_COLLECTION_FIELDS_MAX);
    if (status != BK_OK)
        return status;
    make_fields(deriving, box);
    if (!has_id(deriving))
        return bk_error_set(&deriving->reason, BK_INVALID,
                            "missing required id column (you can use `(ROW_NUMBER() OVER()) as "
                            "id` if you don't have one)");
    if (deriving->secret_reads > deriving->secret_columns ||
        (deriving->secret_reads > 0 && !is_plain(deriving->sql)))
        return bk_error_set(&deriving->reason, BK_INVALID,
                            "passwords and token keys can only be selected as they are, not in "
                            "expressions or conditions, and by one SELECT without comments, "
                            "backslashes or brackets");
    return BK_OK;
}

static void copy_indexes(struct schema_box *box, const struct bk_collection *draft) {
    size_t room = sizeof *box->collection.indexes * (draft->index_count + 1);
    box->collection.indexes = bk_arena_alloc_zero(&box->arena, room);
    for (uint32_t i = 0; i < draft->index_count && !box->arena.is_overflown; i++)
        box->collection.indexes[box->collection.index_count++].sql =
            bk_arena_copy(&box->arena, draft->indexes[i].sql);
}

static struct schema_box *copy_draft(const struct schema_box *draft) {
    const struct bk_collection *from = &draft->collection;
    struct schema_box *box = schema_box_create();
    struct bk_collection *to = &box->collection;
    char now[BK_TIME_TEXT_BYTES];
    bk_time_format(now, bk_clock_wall_ms(), ' ');
    to->id = bk_arena_copy(&box->arena, from->id);
    to->name = bk_arena_copy(&box->arena, from->name);
    to->type = BK_COLLECTION_VIEW;
    to->is_system = from->is_system;
    for (size_t i = 0; i < BK_OPERATION_COUNT; i++) {
        to->rules[i] = from->rules[i].data == NULL ? BK_SLICE_EMPTY
                                                   : bk_arena_copy(&box->arena, from->rules[i]);
        if (from->rules[i].data != NULL && from->rules[i].length == 0)
            to->rules[i] = BK_SLICE("");
    }
    to->created = bk_arena_copy(&box->arena, from->created);
    to->updated = bk_arena_copy(&box->arena, bk_slice_make(now, sizeof now));
    to->view_query = bk_arena_copy(&box->arena, from->view_query);
    to->secrets = BK_SLICE("");
    box->folded = schema_fold(to->name, &box->arena);
    copy_indexes(box, from);
    return box;
}

static enum bk_status read_fields(const struct bk_schema_kind *kind, struct deriving *deriving,
                                  struct schema_box *box, struct bk_error *error) {
    struct bk_json *definition;
    struct bk_problems none;
    struct bk_slice text = BK_SLICE("{}");
    if (deriving->fields.is_overflown)
        return bk_error_set(error, bk_buffer_status(&deriving->fields), "the fields are too large");
    if (deriving->fields.length > 0)
        text = bk_buffer_slice(&deriving->fields);
    bk_problems_init(&none, &deriving->arena);
    enum bk_status status = bk_json_parse(&deriving->arena, text, &definition, error);
    const struct schema_source source = {
        .given = definition, .is_stored = true, .arena = &deriving->arena};
    if (status == BK_OK)
        status = schema_fields_read(kind, &source, box, &none, error);
    return status == BK_OK ? bk_arena_status(&box->arena) : status;
}

enum bk_status schema_view_make(const struct bk_schema_kind *kind, const struct bk_schema *schema,
                                const struct schema_box *draft, struct bk_connection *connection,
                                struct schema_box **box, struct bk_problems *problems,
                                struct bk_error *error) {
    struct deriving deriving = {.schema = schema, .connection = connection};
    enum bk_status status = BK_OK;
    *box = copy_draft(draft);
    bk_arena_init(&deriving.arena, SCRATCH_BYTES_MAX);
    bk_buffer_init(&deriving.fields, SCHEMA_DEFINITION_BYTES_MAX);
    if ((*box)->collection.view_query.length == 0)
        bk_problems_add(problems, BK_SLICE("viewQuery"), "validation_required", "Cannot be blank.");
    else
        status = derive(&deriving, *box);
    if (status == BK_INVALID)
        refuse(problems, bk_slice_from(deriving.reason.message));
    else if (status != BK_OK)
        bk_error_set(error, status, "%s", deriving.reason.message);
    if (status == BK_OK || status == BK_INVALID)
        status = read_fields(kind, &deriving, *box, error);
    bk_buffer_fini(&deriving.fields);
    bk_arena_fini(&deriving.arena);
    if (status == BK_OK)
        return BK_OK;
    schema_box_unref(*box);
    *box = NULL;
    return status;
}

/* --- in the database -------------------------------------------------------------------------- */

static enum bk_status execute(struct bk_connection *connection, struct bk_slice text) {
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    return status == BK_OK ? bk_statement_run(statement) : status;
}

/* Records need ids, each its own: of a few it is seen here. All columns are asked for, so that
 * these few are the first of a list. What takes too long is taken on trust. */
static enum bk_status check_sample(const struct schema_box *box, struct bk_connection *connection,
                                   struct bk_problems *problems) {
    struct bk_statement *statement;
    struct bk_slice ids[SAMPLE_MAX];
    uint32_t count = 0;
    const char *reason = NULL;
    const struct bk_sql sql =
        bk_sql_make(bk_arena_format(problems->arena, "SELECT \"id\", * FROM %.*s LIMIT %d",
                                    BK_SLICE_PRINT(box->collection.quoted), SAMPLE_MAX));
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    while (status == BK_OK && reason == NULL && count < SAMPLE_MAX &&
           (status = bk_statement_step(statement)) == BK_OK) {
        struct bk_slice id = bk_statement_text(statement, 0);
        if (id.length == 0)
            reason = "the query could return records with empty or invalid ids";
        for (uint32_t i = 0; i < count; i++)
            if (bk_slice_equal(ids[i], id))
                reason = "the query could return records with non-unique ids";
        ids[count++] = bk_arena_copy(problems->arena, id);
    }
    if (status == BK_OK)
        bk_statement_reset(statement);
    if (reason != NULL) {
        refuse(problems, bk_slice_from(reason));
        return BK_INVALID;
    }
    return status == BK_END || status == BK_TIMEOUT ? BK_OK : status;
}

enum bk_status schema_view_create(const struct bk_schema *schema, const struct schema_box *old_box,
                                  const struct schema_box *new_box,
                                  struct bk_connection *connection, bool judges_records,
                                  struct bk_problems *problems) {
    struct deriving deriving = {.schema = schema, .connection = connection};
    struct bk_arena *arena = problems->arena;
    enum bk_status status = BK_OK;
    if (old_box != NULL)
        status = execute(connection, bk_arena_format(arena, "DROP VIEW IF EXISTS %.*s",
                                                     BK_SLICE_PRINT(old_box->collection.quoted)));
    if (status != BK_OK || new_box == NULL)
        return status;
    struct bk_slice sql =
        bk_arena_format(arena, "CREATE VIEW %.*s%.*s", BK_SLICE_PRINT(new_box->collection.quoted),
                        BK_SLICE_PRINT(new_box->view_sql));
    if (arena->is_overflown)
        return bk_arena_status(arena);
    status = execute(connection, sql);
    if (status == BK_OK && judges_records)
        status = check_sample(new_box, connection, problems);
    if (status == BK_INVALID && problems->count == 0) {
        (void)refused_by_sqlite(&deriving, status);
        refuse(problems, bk_slice_from(deriving.reason.message));
    }
    return status;
}

bool schema_view_has_same_fields(const struct schema_box *a, const struct schema_box *b) {
    const struct schema_box *const both[] = {a, b};
    struct bk_buffer texts[2];
    for (size_t i = 0; i < 2; i++) {
        bk_buffer_init(&texts[i], SCHEMA_DEFINITION_BYTES_MAX);
        for (uint32_t k = 0; k < both[i]->collection.field_count; k++) {
            const struct bk_field *field = &both[i]->collection.fields[k];
            schema_field_write(field, BK_SLICE(""), field->name, &texts[i]);
        }
    }
    bool is_same = !texts[0].is_overflown && !texts[1].is_overflown &&
                   bk_slice_equal(bk_buffer_slice(&texts[0]), bk_buffer_slice(&texts[1]));
    bk_buffer_fini(&texts[0]);
    bk_buffer_fini(&texts[1]);
    return is_same;
}

void schema_view_keep_ids(const struct schema_box *old_box, struct schema_box *new_box) {
    if (!schema_view_has_same_fields(old_box, new_box))
        return;
    for (uint32_t i = 0; i < new_box->collection.field_count; i++)
        new_box->collection.fields[i].id =
            bk_arena_copy(&new_box->arena, old_box->collection.fields[i].id);
}
