/*
 * A collection's table, and how it follows its definition. Columns are matched by the field's id,
 * so a renamed field keeps its values; a field that is gone takes its column along. New and renamed
 * columns pass through a name that no field can have, so that two fields may swap theirs.
 *
 * Tables have a rowid, with the id as a key of its own, and are not WITHOUT ROWID. Measured on
 * SQLite 3.40.1 with 200,000 records of five columns, ids in time order, 32 to a commit, CPU time
 * (µs each):
 *
 *                      record of 200 bytes           record of 1.1 KB
 *                      insert  read  update  file    insert  read  update  file
 *     rowid               3.0   6.2    11.2  41 MB      5.5   7.3    12.9  279 MB
 *     WITHOUT ROWID       2.7   5.0    11.0  39 MB     18.6  36.9    52.8  936 MB
 *
 * Small records would gain a fifth of a read; large ones would lose it fivefold, since their text
 * lies in the pages that a search by key goes through.
 */
#include "schema_private.h"

#include "bakend/assert.h"

struct altering {
    struct bk_connection *connection;
    const struct schema_box *old_box, *new_box;
    struct bk_buffer sql;
    struct bk_arena scratch; /* of this one table's change */
    struct bk_problems *problems;
    struct bk_error *error;
};

static enum bk_status execute(struct altering *altering) {
    if (altering->sql.is_overflown)
        return bk_error_set(altering->error, BK_TOO_LARGE, "the definition is too large");
    enum bk_status status =
        bk_connection_execute(altering->connection, bk_buffer_slice(&altering->sql));
    if (status != BK_OK)
        bk_error_set(altering->error, status, "%s", bk_connection_error(altering->connection));
    bk_buffer_clear(&altering->sql);
    return status;
}

static const char *column_of(const struct bk_field *field) {
    return field->type->column_of != NULL ? field->type->column_of(field) : field->type->column;
}

static const struct bk_field *find_by_id(const struct schema_box *box, struct bk_slice id) {
    for (uint32_t i = 0; i < box->collection.field_count; i++)
        if (bk_slice_equal(box->collection.fields[i].id, id))
            return &box->collection.fields[i];
    return NULL;
}

/* --- indexes ---------------------------------------------------------------------------------- */

static enum bk_status drop_indexes(struct altering *altering) {
    const struct bk_collection *collection = &altering->old_box->collection;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < collection->index_count && status == BK_OK; i++) {
        bk_buffer_append_literal(&altering->sql, "DROP INDEX IF EXISTS ");
        schema_write_quoted(&altering->sql, collection->indexes[i].name);
        status = execute(altering);
    }
    return status;
}

/* Prepared, not executed as a script: only the one statement that was looked at can run. What
 * SQLite has against it is shown, since it speaks of nothing but the names that the client
 * wrote. */
static enum bk_status create_index(struct altering *altering, uint32_t number) {
    struct bk_sql sql = bk_sql_make(altering->new_box->collection.indexes[number].sql);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(altering->connection, &sql, &statement);
    for (int i = 0; i < SCHEMA_REQUOTED_MAX && status == BK_INVALID; i++) {
        struct bk_slice text = schema_requote(
            sql.text, bk_slice_from(bk_connection_error(altering->connection)), &altering->scratch);
        if (text.data == NULL)
            break;
        sql = bk_sql_make(text);
        status = bk_connection_statement(altering->connection, &sql, &statement);
    }
    if (status == BK_OK)
        status = bk_statement_run(statement);
    if (status == BK_OK)
        return BK_OK;
    struct bk_slice reason = bk_slice_from(bk_connection_error(altering->connection));
    bk_error_set(altering->error, status, "%.*s", BK_SLICE_PRINT(reason));
    if (status != BK_INVALID && status != BK_CONFLICT)
        return status;
    struct bk_arena *arena = altering->problems->arena;
    const char *format = status == BK_CONFLICT
                             ? "Failed to create index %.*s - constraint failed: %.*s (2067)."
                             : "Failed to create index %.*s - SQL logic error: %.*s (1).";
    struct bk_slice message = bk_arena_format(
        arena, format, BK_SLICE_PRINT(altering->new_box->collection.indexes[number].name),
        BK_SLICE_PRINT(reason));
    bk_problems_add(altering->problems, bk_arena_format(arena, "indexes.%u", number),
                    "validation_invalid_index_expression", message.data);
    return BK_INVALID;
}

/* All of them are tried, so that all that are wrong are told. */
static enum bk_status create_indexes(struct altering *altering) {
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < altering->new_box->collection.index_count; i++) {
        enum bk_status created = create_index(altering, i);
        if (created != BK_OK)
            status = created;
        if (created != BK_OK && created != BK_INVALID)
            break;
    }
    return status;
}

static bool has_same_indexes(const struct bk_collection *a, const struct bk_collection *b) {
    if (a->index_count != b->index_count)
        return false;
    for (uint32_t i = 0; i < a->index_count; i++)
        if (!bk_slice_equal(a->indexes[i].sql, b->indexes[i].sql))
            return false;
    return true;
}

/* --- SQL views -------------------------------------------------------------------------------- */

/* SQLite alters no table while there is a view that does not compile, and none that a view names a
 * column of can be made anew. Such views are taken out meanwhile. */
struct views {
    struct bk_slice *names, *statements;
    uint32_t count;
};

static enum bk_status count_views(struct altering *altering, size_t *count) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT count(*) FROM sqlite_master WHERE type = 'view'"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(altering->connection, &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status != BK_OK)
        return status;
    *count = (size_t)bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return BK_OK;
}

static enum bk_status read_views(struct altering *altering, struct views *views) {
    static const struct bk_slice text =
        BK_SLICE_INIT("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY rowid");
    struct bk_arena *arena = &altering->scratch;
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    size_t room;
    enum bk_status status = count_views(altering, &room);
    if (status != BK_OK || room == 0)
        return status;
    views->names = bk_arena_alloc(arena, sizeof(struct bk_slice) * room);
    views->statements = bk_arena_alloc(arena, sizeof(struct bk_slice) * room);
    if (arena->is_overflown)
        return bk_arena_status(arena);
    status = bk_connection_statement(altering->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    while ((status = bk_statement_step(statement)) == BK_OK && views->count < room) {
        views->names[views->count] = bk_arena_copy(arena, bk_statement_text(statement, 0));
        views->statements[views->count++] = bk_arena_copy(arena, bk_statement_text(statement, 1));
    }
    bk_statement_reset(statement);
    return status == BK_END ? bk_arena_status(arena) : status;
}

static bool compiles(struct altering *altering, struct bk_slice name) {
    struct bk_statement *statement;
    bk_buffer_append_literal(&altering->sql, "SELECT 1 FROM ");
    schema_write_quoted(&altering->sql, name);
    const struct bk_sql sql = bk_sql_make(bk_buffer_slice(&altering->sql));
    enum bk_status status = bk_connection_statement(altering->connection, &sql, &statement);
    if (status == BK_OK)
        bk_statement_reset(statement);
    bk_buffer_clear(&altering->sql);
    return status != BK_INVALID;
}

/* Leaves those that do not compile. */
static void keep_broken(struct altering *altering, struct views *views) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < views->count; i++) {
        if (compiles(altering, views->names[i]))
            continue;
        views->names[count] = views->names[i];
        views->statements[count++] = views->statements[i];
    }
    views->count = count;
}

static enum bk_status drop_views(struct altering *altering, struct views *views, bool only_broken) {
    enum bk_status status = read_views(altering, views);
    if (status == BK_OK && only_broken)
        keep_broken(altering, views);
    for (uint32_t i = 0; i < views->count && status == BK_OK; i++) {
        bk_buffer_append_literal(&altering->sql, "DROP VIEW ");
        schema_write_quoted(&altering->sql, views->names[i]);
        status = execute(altering);
    }
    return status;
}

static enum bk_status restore_views(struct altering *altering, const struct views *views) {
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < views->count && status == BK_OK; i++) {
        bk_buffer_append_slice(&altering->sql, views->statements[i]);
        status = execute(altering);
    }
    return status;
}

/* --- create ----------------------------------------------------------------------------------- */

static enum bk_status create_table(struct altering *altering) {
    const struct bk_collection *collection = &altering->new_box->collection;
    struct bk_buffer *sql = &altering->sql;
    bk_buffer_append_literal(sql, "CREATE TABLE ");
    bk_buffer_append_slice(sql, collection->quoted);
    bk_buffer_append_literal(sql, " (");
    for (uint32_t i = 0; i < collection->field_count; i++) {
        if (i > 0)
            bk_buffer_append_literal(sql, ", ");
        bk_buffer_append_slice(sql, collection->fields[i].quoted);
        bk_buffer_append_char(sql, ' ');
        bk_buffer_append_slice(sql, bk_slice_from(column_of(&collection->fields[i])));
    }
    bk_buffer_append_char(sql, ')');
    enum bk_status status = execute(altering);
    return status == BK_OK ? create_indexes(altering) : status;
}

/* --- alter ------------------------------------------------------------------------------------ */

/* "ALTER TABLE t" with a space behind it. */
static struct bk_buffer *begin_alter(struct altering *altering) {
    bk_buffer_append_literal(&altering->sql, "ALTER TABLE ");
    bk_buffer_append_slice(&altering->sql, altering->new_box->collection.quoted);
    bk_buffer_append_char(&altering->sql, ' ');
    return &altering->sql;
}

/* A space cannot be in a field's name. */
static void write_temporary(struct bk_buffer *sql, uint32_t index) {
    bk_buffer_format(sql, "\"new %u\"", index);
}

/* To SQLite a name is the same in another case. */
static enum bk_status rename_table(struct altering *altering) {
    if (bk_slice_equal(altering->old_box->folded, altering->new_box->folded))
        return BK_OK;
    bk_buffer_format(&altering->sql, "ALTER TABLE %.*s RENAME TO %.*s",
                     BK_SLICE_PRINT(altering->old_box->collection.quoted),
                     BK_SLICE_PRINT(altering->new_box->collection.quoted));
    return execute(altering);
}

static enum bk_status drop_columns(struct altering *altering) {
    const struct bk_collection *collection = &altering->old_box->collection;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < collection->field_count && status == BK_OK; i++) {
        if (find_by_id(altering->new_box, collection->fields[i].id) != NULL)
            continue;
        struct bk_buffer *sql = begin_alter(altering);
        bk_buffer_append_literal(sql, "DROP COLUMN ");
        bk_buffer_append_slice(sql, collection->fields[i].quoted);
        status = execute(altering);
    }
    return status;
}

static bool is_new_name(const struct altering *altering, const struct bk_field *field) {
    const struct bk_field *old = find_by_id(altering->old_box, field->id);
    return old == NULL || !bk_slice_equal(old->name, field->name);
}

static enum bk_status add_or_rename(struct altering *altering, const struct bk_field *field) {
    const struct bk_field *old = find_by_id(altering->old_box, field->id);
    struct bk_buffer *sql = begin_alter(altering);
    if (old == NULL) {
        bk_buffer_append_literal(sql, "ADD COLUMN ");
        write_temporary(sql, field->index);
        bk_buffer_append_char(sql, ' ');
        bk_buffer_append_slice(sql, bk_slice_from(column_of(field)));
    } else {
        bk_buffer_append_literal(sql, "RENAME COLUMN ");
        bk_buffer_append_slice(sql, old->quoted);
        bk_buffer_append_literal(sql, " TO ");
        write_temporary(sql, field->index);
    }
    return execute(altering);
}

static enum bk_status set_names(struct altering *altering) {
    const struct bk_collection *collection = &altering->new_box->collection;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < collection->field_count && status == BK_OK; i++)
        if (is_new_name(altering, &collection->fields[i]))
            status = add_or_rename(altering, &collection->fields[i]);
    for (uint32_t i = 0; i < collection->field_count && status == BK_OK; i++) {
        if (!is_new_name(altering, &collection->fields[i]))
            continue;
        struct bk_buffer *sql = begin_alter(altering);
        bk_buffer_append_literal(sql, "RENAME COLUMN ");
        write_temporary(sql, i);
        bk_buffer_append_literal(sql, " TO ");
        bk_buffer_append_slice(sql, collection->fields[i].quoted);
        status = execute(altering);
    }
    return status;
}

/* One value becomes a list of it; of a list the last one stays. A value that is JSON of an array
 * already, and one that is none in a column of lists, are taken as they are. */
static enum bk_status convert_column(struct altering *altering, const struct bk_field *field) {
    static const char to_list[] =
        "CASE WHEN coalesce(\"old\", '') = '' THEN '[]' "
        "WHEN json_valid(\"old\") AND json_type(\"old\") = 'array' THEN \"old\" "
        "ELSE json_array(\"old\") END";
    static const char to_one[] =
        "CASE WHEN coalesce(\"old\", '[]') = '[]' THEN '' "
        "WHEN json_valid(\"old\") AND json_type(\"old\") = 'array' "
        "THEN coalesce(json_extract(\"old\", '$[#-1]'), '') ELSE \"old\" END";
    struct bk_slice table = altering->new_box->collection.quoted;
    struct bk_buffer *sql = &altering->sql;
    /* Its own former name may be "old": the temporary one has a space. */
    bk_buffer_format(sql, "ALTER TABLE %.*s RENAME COLUMN %.*s TO \"old value\";",
                     BK_SLICE_PRINT(table), BK_SLICE_PRINT(field->quoted));
    bk_buffer_format(sql, "ALTER TABLE %.*s ADD COLUMN %.*s %s;", BK_SLICE_PRINT(table),
                     BK_SLICE_PRINT(field->quoted), column_of(field));
    bk_buffer_format(sql, "UPDATE %.*s SET %.*s = (SELECT ", BK_SLICE_PRINT(table),
                     BK_SLICE_PRINT(field->quoted));
    bk_buffer_append_slice(sql, bk_slice_from(bk_field_is_multiple(field) ? to_list : to_one));
    bk_buffer_append_literal(sql, " FROM (SELECT \"old value\" AS \"old\"));");
    bk_buffer_format(sql, "ALTER TABLE %.*s DROP COLUMN \"old value\"", BK_SLICE_PRINT(table));
    return execute(altering);
}

static enum bk_status convert_columns(struct altering *altering) {
    const struct bk_collection *collection = &altering->new_box->collection;
    enum bk_status status = BK_OK;
    struct views views = {.count = 0};
    bool is_out = false;
    for (uint32_t i = 0; i < collection->field_count && status == BK_OK; i++) {
        const struct bk_field *field = &collection->fields[i];
        const struct bk_field *old = find_by_id(altering->old_box, field->id);
        if (old == NULL || bk_field_is_multiple(old) == bk_field_is_multiple(field))
            continue;
        if (!is_out)
            status = drop_views(altering, &views, false);
        is_out = true;
        if (status == BK_OK)
            status = convert_column(altering, field);
    }
    return status == BK_OK ? restore_views(altering, &views) : status;
}

/* Whether columns change at all: most changes are to rules and options. */
static bool has_same_columns(const struct altering *altering) {
    const struct bk_collection *old = &altering->old_box->collection;
    const struct bk_collection *new = &altering->new_box->collection;
    if (old->field_count != new->field_count)
        return false;
    for (uint32_t i = 0; i < new->field_count; i++) {
        const struct bk_field *field = find_by_id(altering->old_box, new->fields[i].id);
        if (field == NULL || !bk_slice_equal(field->name, new->fields[i].name) ||
            bk_field_is_multiple(field) != bk_field_is_multiple(&new->fields[i]))
            return false;
    }
    return true;
}

static enum bk_status alter_table(struct altering *altering) {
    const struct bk_collection *old = &altering->old_box->collection;
    const struct bk_collection *new = &altering->new_box->collection;
    bool is_same = bk_slice_equal(old->name, new->name) && has_same_columns(altering);
    if (is_same && has_same_indexes(old, new))
        return BK_OK;
    struct views broken = {.count = 0};
    enum bk_status status = drop_indexes(altering);
    if (status == BK_OK && !is_same)
        status = drop_views(altering, &broken, true);
    if (status == BK_OK)
        status = rename_table(altering);
    if (status == BK_OK)
        status = drop_columns(altering);
    if (status == BK_OK)
        status = set_names(altering);
    if (status == BK_OK)
        status = convert_columns(altering);
    if (status == BK_OK)
        status = restore_views(altering, &broken);
    return status == BK_OK ? create_indexes(altering) : status;
}

enum bk_status schema_table_change(struct bk_transaction *transaction,
                                   const struct schema_box *old_box,
                                   const struct schema_box *new_box, struct bk_problems *problems,
                                   struct bk_error *error) {
    struct altering altering = {
        .connection = bk_transaction_connection(transaction),
        .old_box = old_box,
        .new_box = new_box,
        .problems = problems,
        .error = error,
    };
    BK_ASSERT(old_box != NULL || new_box != NULL);
    const struct bk_collection *old = old_box == NULL ? NULL : &old_box->collection;
    const struct bk_collection *new = new_box == NULL ? NULL : &new_box->collection;
    enum bk_status status;
    bk_buffer_init(&altering.sql, SCHEMA_DEFINITION_BYTES_MAX);
    bk_arena_init(&altering.scratch, SCHEMA_BOX_BYTES_MAX);
    if (old_box == NULL) {
        status = create_table(&altering);
    } else if (new_box != NULL) {
        status = alter_table(&altering);
    } else {
        bk_buffer_format(&altering.sql, "DROP TABLE %.*s",
                         BK_SLICE_PRINT(old_box->collection.quoted));
        status = execute(&altering);
    }
    bk_arena_fini(&altering.scratch);
    bk_buffer_fini(&altering.sql);
    if (status == BK_OK)
        status = schema_totals_change(altering.connection, old, new);
    return status == BK_OK ? schema_search_change(altering.connection, old, new, error) : status;
}
