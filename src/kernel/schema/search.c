/*
 * Full-text search, an option of a collection:
 *
 *   "search": {"fields": ["title", "body"], "tokenizer": "unicode61"}
 *
 * The words are in a table of FTS5 beside the collection's, which keeps no text. It is called after
 * the collection's id and its columns by number (c0, c1), so that nothing else can have its name
 * and it knows no name that may change. Whoever writes a row (record.c) writes its words in the
 * same transaction; what was there before the option came is added in slices (search_build.c), and
 * a row that they have not come to has no words yet: nobody adds or takes them.
 *
 * No triggers: a statement that fires one has a savepoint of its own, at which FTS5 writes all it
 * has gathered. A deletion took 0.7 ms and an insertion 0.8, with a segment for each row; without
 * them a transaction's words are one segment, and either takes 0.05.
 *
 * Whoever may list records finds out which words are in them: a hidden field cannot be searched.
 */
#include "schema_private.h"

#include "bakend/assert.h"

enum { FIELDS_MAX = 20 };

static const char *const tokenizers[] = {"unicode61", "porter", "trigram"};

/* --- the option ------------------------------------------------------------------------------- */

static bool is_searchable(const struct bk_field *field) {
    return strcmp(field->type->name, "text") == 0 || strcmp(field->type->name, "editor") == 0;
}

static const char *what_is_wrong(const struct bk_collection *collection,
                                 const struct bk_field *field) {
    if (field == NULL)
        return "There is no such field: name one of the collection, or send search without it.";
    if (bk_slice_equal_ignore_case(field->name, BK_SLICE("rank")) ||
        bk_slice_equal_ignore_case(field->name, BK_SLICE("rowid")))
        return "The search has this name for itself: call the field something else.";
    if (!is_searchable(field))
        return "Only text and editor fields can be searched.";
    if (field->is_hidden || field->is_secret)
        return "A hidden field cannot be searched: whoever may list would find out what is in it.";
    for (uint32_t i = 0; i < collection->search->field_count; i++)
        if (collection->search->fields[i] == field)
            return "The field is named twice.";
    return NULL;
}

static const struct bk_field *field_of_id(const struct bk_collection *collection,
                                          struct bk_slice id) {
    for (uint32_t i = 0; i < collection->field_count; i++)
        if (bk_slice_equal(collection->fields[i].id, id))
            return &collection->fields[i];
    return NULL;
}

/* The field that was called so before this change, whatever it is called now. */
static const struct bk_field *former_field(const struct schema_source *source,
                                           const struct bk_collection *collection,
                                           struct bk_slice name) {
    const struct bk_json *fields = bk_json_get(source->former, BK_SLICE("fields"));
    for (const struct bk_json *field = fields == NULL ? NULL : fields->child; field != NULL;
         field = field->next)
        if (bk_slice_equal(bk_json_get_string(field, BK_SLICE("name")), name))
            return field_of_id(collection, bk_json_get_string(field, BK_SLICE("id")));
    return NULL;
}

/* Names of an option that was not given are those of before. One that was given was often read
 * before the field had its new name. */
static const struct bk_field *find_field(const struct schema_source *source,
                                         const struct bk_collection *collection,
                                         struct bk_slice name) {
    bool is_given = bk_json_get(source->given, BK_SLICE("search")) != NULL;
    const struct bk_field *now = bk_collection_field(collection, name);
    const struct bk_field *former = former_field(source, collection, name);
    if (is_given)
        return now != NULL ? now : former;
    return former != NULL ? former : now;
}

static void read_fields(const struct schema_source *source, struct schema_box *box,
                        const struct bk_json *names, struct bk_problems *problems) {
    struct bk_collection *collection = &box->collection;
    struct bk_search *search = collection->search;
    uint32_t number = 0;
    for (const struct bk_json *name = names->child; name != NULL; name = name->next, number++) {
        const struct bk_field *field = find_field(source, collection, name->string);
        const char *message = number >= FIELDS_MAX ? "At most 20 fields can be searched."
                                                   : what_is_wrong(collection, field);
        if (message != NULL)
            bk_problems_add(problems, bk_arena_format(&box->arena, "search.fields.%u", number),
                            "validation_invalid_search_field", message);
        else
            search->fields[search->field_count++] = field;
    }
}

static void read_tokenizer(struct schema_box *box, const struct bk_json *option,
                           struct bk_problems *problems) {
    struct bk_slice given = bk_json_get_string(option, BK_SLICE("tokenizer"));
    struct bk_search *search = box->collection.search;
    search->tokenizer = bk_slice_from(tokenizers[0]);
    for (size_t i = 0; i < BK_COUNT_OF(tokenizers); i++) {
        if (!bk_slice_equal(given, bk_slice_from(tokenizers[i])))
            continue;
        search->tokenizer = bk_slice_from(tokenizers[i]);
        return;
    }
    if (given.length > 0)
        bk_problems_add(problems, BK_SLICE("search.tokenizer"), "validation_in_invalid",
                        "Must be unicode61, porter or trigram.");
}

/* What is not there by a slip would end the search without a word. */
static void check_members(const struct bk_json *option, struct bk_problems *problems) {
    const struct bk_json *names = bk_json_get(option, BK_SLICE("fields"));
    if (names == NULL || names->child_count == 0)
        bk_problems_add(problems, BK_SLICE("search.fields"), "validation_required",
                        "Cannot be blank: name the fields that are searched, or send "
                        "\"search\": null to end it.");
    for (const struct bk_json *member = option->child; member != NULL; member = member->next)
        if (!bk_slice_is(member->key, "fields") && !bk_slice_is(member->key, "tokenizer"))
            bk_problems_add(
                problems,
                bk_arena_format(problems->arena, "search.%.*s", BK_SLICE_PRINT(member->key)),
                "validation_unknown", "Means nothing here: fields or tokenizer.");
}

enum bk_status schema_search_read(const struct schema_source *source, struct schema_box *box,
                                  struct bk_problems *problems, struct bk_error *error) {
    struct bk_collection *collection = &box->collection;
    const struct bk_json *option = schema_source_get(source, "search");
    const struct bk_json *names = bk_json_get(option, BK_SLICE("fields"));
    if (option == NULL || option->type == BK_JSON_NULL)
        return BK_OK;
    if (option->type != BK_JSON_OBJECT || (names != NULL && names->type != BK_JSON_ARRAY))
        return bk_error_set(error, BK_INVALID, "search must be an object with a list of fields");
    if (collection->type == BK_COLLECTION_VIEW)
        return bk_error_set(error, BK_INVALID,
                            "a view cannot be searched: search the collections that it is made of");
    check_members(option, problems);
    if (names == NULL || names->child_count == 0)
        return BK_OK;
    collection->search = bk_arena_alloc_zero(&box->arena, sizeof *collection->search);
    struct bk_search *search = collection->search;
    search->fields = bk_arena_alloc_zero(&box->arena, FIELDS_MAX * sizeof(*search->fields));
    if (box->arena.is_overflown)
        return bk_arena_status(&box->arena);
    read_fields(source, box, names, problems);
    read_tokenizer(box, option, problems);
    return BK_OK;
}

void schema_search_write(const struct bk_collection *collection, struct bk_buffer *out) {
    const struct bk_search *search = collection->search;
    if (search == NULL)
        return;
    bk_json_write_key(out, BK_SLICE("search"));
    bk_buffer_append_literal(out, "{\"fields\":[");
    for (uint32_t i = 0; i < search->field_count; i++) {
        bk_json_write_separator(out);
        bk_json_write_string(out, search->fields[i]->name);
    }
    bk_buffer_append_char(out, ']');
    bk_json_write_member_string(out, BK_SLICE("tokenizer"), search->tokenizer);
    bk_buffer_append_char(out, '}');
}

/* --- the table of words ----------------------------------------------------------------------- */

/* "_search_<id>", quoted. */
static struct bk_slice make_table(struct schema_box *box, struct bk_buffer *out) {
    struct bk_buffer name;
    bk_buffer_init(&name, SCHEMA_DEFINITION_BYTES_MAX);
    bk_buffer_append_literal(&name, "_search_");
    bk_buffer_append_slice(&name, box->collection.id);
    bk_buffer_clear(out);
    schema_write_quoted(out, bk_buffer_slice(&name));
    bk_buffer_fini(&name);
    return bk_arena_copy(&box->arena, bk_buffer_slice(out));
}

/* ["unicode61","text724990059","editor1234"]: a table made of the same is the same table. */
static struct bk_slice make_made_of(struct schema_box *box, struct bk_buffer *out) {
    const struct bk_search *search = box->collection.search;
    bk_buffer_clear(out);
    bk_buffer_append_char(out, '[');
    bk_json_write_string(out, search->tokenizer);
    for (uint32_t i = 0; i < search->field_count; i++) {
        bk_buffer_append_char(out, ',');
        bk_json_write_string(out, search->fields[i]->id);
    }
    bk_buffer_append_char(out, ']');
    return bk_arena_copy(&box->arena, bk_buffer_slice(out));
}

static struct bk_sql take_sql(struct schema_box *box, struct bk_buffer *out) {
    struct bk_sql sql = bk_sql_make(bk_arena_copy(&box->arena, bk_buffer_slice(out)));
    bk_buffer_clear(out);
    return sql;
}

static void write_columns(const struct bk_search *search, struct bk_buffer *out) {
    for (uint32_t i = 0; i < search->field_count; i++)
        bk_buffer_format(out, ",c%u", i);
}

/* The record's rowid ?1, then its texts from ?2 on. */
static void write_values(const struct bk_search *search, struct bk_buffer *out) {
    for (uint32_t i = 0; i < search->field_count; i++)
        bk_buffer_format(out, ",?%u", i + 2);
    bk_buffer_append_char(out, ')');
}

static void make_writing(struct schema_box *box, struct bk_buffer *out) {
    struct bk_search *search = box->collection.search;
    struct bk_slice table = search->table;
    bk_buffer_format(out, "INSERT INTO %.*s(rowid", BK_SLICE_PRINT(table));
    write_columns(search, out);
    bk_buffer_append_literal(out, ") VALUES (?1");
    write_values(search, out);
    search->add = take_sql(box, out);
    bk_buffer_format(out, "INSERT INTO %.*s(%.*s,rowid", BK_SLICE_PRINT(table),
                     BK_SLICE_PRINT(table));
    write_columns(search, out);
    bk_buffer_append_literal(out, ") VALUES ('delete',?1");
    write_values(search, out);
    search->remove = take_sql(box, out);
}

static void make_reading(struct schema_box *box, struct bk_buffer *out) {
    const struct bk_collection *collection = &box->collection;
    struct bk_search *search = collection->search;
    struct bk_slice rows = collection->quoted;
    bk_buffer_format(out,
                     "SELECT _rowid_ FROM %.*s WHERE \"id\"=?1 AND NOT EXISTS (SELECT 1 FROM "
                     "_searches WHERE collection=?2 AND %.*s._rowid_>done AND %.*s._rowid_<=upto)",
                     BK_SLICE_PRINT(rows), BK_SLICE_PRINT(rows), BK_SLICE_PRINT(rows));
    search->locate = take_sql(box, out);
    bk_buffer_append_literal(out, "SELECT _rowid_");
    for (uint32_t i = 0; i < search->field_count; i++)
        bk_buffer_format(out, ",%.*s", BK_SLICE_PRINT(search->fields[i]->quoted));
    bk_buffer_format(out, " FROM %.*s WHERE _rowid_>?1 AND _rowid_<=?2 ORDER BY _rowid_ LIMIT 1",
                     BK_SLICE_PRINT(rows));
    search->next = take_sql(box, out);
}

void schema_search_finish(struct schema_box *box) {
    struct bk_search *search = box->collection.search;
    struct bk_buffer out;
    if (search == NULL)
        return;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    search->table = make_table(box, &out);
    search->made_of = make_made_of(box, &out);
    bk_buffer_clear(&out);
    make_writing(box, &out);
    make_reading(box, &out);
    bk_buffer_fini(&out);
}

static void write_creation(const struct bk_collection *collection, struct bk_buffer *out) {
    const struct bk_search *search = collection->search;
    bool is_porter = bk_slice_is(search->tokenizer, "porter");
    bk_buffer_format(out, "CREATE VIRTUAL TABLE %.*s USING fts5(", BK_SLICE_PRINT(search->table));
    for (uint32_t i = 0; i < search->field_count; i++)
        bk_buffer_format(out, "c%u,", i);
    bk_buffer_format(out, "content='',tokenize='%.*s%s');", BK_SLICE_PRINT(search->tokenizer),
                     is_porter ? " unicode61" : "");
}

/* A database of an earlier version may have triggers. */
static void write_removal(const struct bk_collection *collection, struct bk_buffer *out) {
    static const char *const kinds[] = {"insert", "delete", "update"};
    struct bk_slice table = collection->search->table;
    for (size_t i = 0; i < BK_COUNT_OF(kinds); i++)
        bk_buffer_format(out, "DROP TRIGGER IF EXISTS %.*s_%s\";", (int)table.length - 1,
                         table.data, kinds[i]);
    bk_buffer_format(out, "DROP TABLE IF EXISTS %.*s;", BK_SLICE_PRINT(table));
}

static enum bk_status run(struct bk_connection *connection,
                          void (*write)(const struct bk_collection *, struct bk_buffer *),
                          const struct bk_collection *collection, struct bk_error *error) {
    struct bk_buffer sql;
    bk_buffer_init(&sql, SCHEMA_DEFINITION_BYTES_MAX);
    write(collection, &sql);
    enum bk_status status = bk_buffer_status(&sql);
    if (status == BK_OK)
        status = bk_connection_execute(connection, bk_buffer_slice(&sql));
    if (status != BK_OK)
        bk_error_set(error, status, "the search of %.*s: %s", BK_SLICE_PRINT(collection->name),
                     bk_connection_error(connection));
    bk_buffer_fini(&sql);
    return status;
}

enum bk_status schema_search_change(struct bk_connection *connection,
                                    const struct bk_collection *old,
                                    const struct bk_collection *new, struct bk_error *error) {
    bool is_wanted = new != NULL &&new->search != NULL;
    bool is_same = false;
    enum bk_status status = BK_OK;
    if (!is_wanted && (old == NULL || old->search == NULL))
        return BK_OK;
    if (is_wanted)
        status = schema_search_is_made(connection, new, &is_same);
    if (status != BK_OK || is_same)
        return status;
    status = run(connection, write_removal, is_wanted ? new : old, error);
    if (status == BK_OK && !is_wanted)
        return schema_search_forget(connection, old);
    if (status == BK_OK)
        status = run(connection, write_creation, new, error);
    return status == BK_OK ? schema_search_begin(connection, new) : status;
}

enum bk_status schema_search_prepare(const struct bk_schema *schema,
                                     struct bk_connection *connection, struct bk_error *error) {
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < bk_schema_count(schema) && status == BK_OK; i++) {
        const struct bk_collection *collection = bk_schema_at(schema, i);
        status = schema_search_change(connection, collection, collection, error);
    }
    return status;
}

/* --- the words of a record -------------------------------------------------------------------- */

/* BK_END: the building of the table has not come to it. */
static enum bk_status locate(const struct bk_collection *collection,
                             struct bk_connection *connection, const struct bk_value *id,
                             int64_t *rowid) {
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(connection, &collection->search->locate, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind(statement, 1, id);
    bk_statement_bind_text(statement, 2, collection->id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *rowid = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status;
}

static enum bk_status write_words(const struct bk_collection *collection, const struct bk_sql *sql,
                                  struct bk_connection *connection, const struct bk_value *values) {
    const struct bk_search *search = collection->search;
    struct bk_statement *statement;
    int64_t rowid;
    enum bk_status status =
        locate(collection, connection, &values[collection->id_field->index], &rowid);
    if (status == BK_OK)
        status = bk_connection_statement(connection, sql, &statement);
    if (status != BK_OK)
        return status == BK_END ? BK_OK : status;
    bk_statement_bind_int(statement, 1, rowid);
    for (uint32_t i = 0; i < search->field_count; i++)
        bk_statement_bind(statement, (int)i + 2, &values[search->fields[i]->index]);
    return bk_statement_run(statement);
}

enum bk_status schema_search_add(const struct bk_collection *collection,
                                 struct bk_connection *connection, const struct bk_value *values) {
    return write_words(collection, &collection->search->add, connection, values);
}

enum bk_status schema_search_take(const struct bk_collection *collection,
                                  struct bk_connection *connection, const struct bk_value *values) {
    return write_words(collection, &collection->search->remove, connection, values);
}

bool schema_search_differs(const struct bk_collection *collection, const struct bk_value *before,
                           const struct bk_value *after) {
    for (uint32_t i = 0; i < collection->search->field_count; i++) {
        uint32_t index = collection->search->fields[i]->index;
        if (before[index].type != after[index].type ||
            !bk_slice_equal(before[index].text, after[index].text))
            return true;
    }
    return false;
}
