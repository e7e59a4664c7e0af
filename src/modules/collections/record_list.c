/*
 * Pages of records, read and written as JSON on a reader thread, straight from the row to the
 * answer.
 *
 * Two ways to page: page and perPage as the contract has them, whose cost grows with the offset,
 * and by key: `cursor=` (empty for the first page) sorts by the asked fields and then the id, and
 * answers nextCursor, which names the last record of the page; the next page begins behind it,
 * whatever was inserted or deleted in between, at the same cost at any depth. nextCursor is "" on
 * the last page.
 *
 * Cursor: base64url of a JSON array [collection's id, sort, value of each sort field …, id]. One of
 * another collection or sort is refused: its values would be compared with fields that mean
 * something else.
 */
#include "bakend/alloc.h"
#include "bakend/encode.h"
#include "collections.h"

enum {
    CURSOR_BYTES_MAX = 8192,
    SQL_BYTES_MAX = 4 * 1024 * 1024,
    SORT_BYTES_MAX = 255, /* of one word */
    NAMES_BYTES_MAX = 512,
    FILTER_PARAMETER = 1, /* then the cursor's, the limit and the offset */
};

struct sort_key {
    const struct bk_field *field; /* NULL: by an expression */
    struct bk_slice column;       /* SQL: the field with its table's name, or the expression */
    bool is_descending;
};

struct record_list {
    struct bk_read read;
    struct bk_request *request;
    struct bk_schema *schema;
    const struct bk_collection *collection;
    struct bk_slice rule; /* what each record is asked; empty: nothing */
    struct bk_asker asker;
    struct collections_page page;
    struct bk_slice fields;
    struct sort_key keys[COLLECTIONS_SORT_KEYS_MAX + 1];
    uint32_t key_count;
    bool is_by_cursor;
    bool is_behind; /* a cursor was given: the page begins behind it */
    struct bk_value behind[COLLECTIONS_SORT_KEYS_MAX + 1];
    struct bk_slice sort;           /* as asked, also in the cursor */
    struct bk_filter_query *query;  /* NULL: none is needed */
    struct bk_filter_sql condition; /* empty where: none */
    struct bk_slice match;          /* what is searched for; empty: nothing */
    uint32_t words_percent;         /* how much of the words there is, where not all are */
    bool lacks_words;
    struct bk_sql sql, count_sql;
    struct bk_show *show;
};

/* --- what the language stands for ------------------------------------------------------------- */

static enum bk_filter_trust trust_of(const struct record_list *list) {
    return bk_actor_is_superuser(&list->request->actor) ? BK_FILTER_OF_RULE : BK_FILTER_OF_CLIENT;
}

/* Made at first need: a list without filter and relations to sort by has none. NULL when the
 * request's memory is used up. */
static struct bk_filter_query *query_of(struct record_list *list) {
    struct bk_filter_scope scope;
    if (list->query != NULL)
        return list->query;
    if (bk_request_asker(list->request, list->schema, list->request->json, BK_SLICE("default"),
                         &list->asker) != BK_OK)
        return NULL;
    bk_asker_scope(&list->asker, list->collection, FILTER_PARAMETER, &scope);
    list->query = bk_filter_query_create(&list->request->arena, &scope);
    return list->query;
}

static enum bk_status add_filter(struct record_list *list, struct bk_slice text,
                                 enum bk_filter_trust trust, size_t bytes_max,
                                 struct bk_error *error) {
    struct bk_filter *filter;
    if (text.length == 0)
        return BK_OK;
    enum bk_status status = bk_filter_parse(&list->request->arena, text, bytes_max, &filter, error);
    if (status != BK_OK)
        return status;
    struct bk_filter_query *query = query_of(list);
    return query == NULL ? bk_arena_status(&list->request->arena)
                         : bk_filter_query_add(query, filter, trust, error);
}

/* False: the request was answered. */
static bool read_filter(struct record_list *list) {
    struct bk_request *request = list->request;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_slice text = bk_request_query(request, BK_SLICE("filter"));
    enum bk_status status =
        add_filter(list, list->rule, BK_FILTER_OF_RULE, BK_RULE_BYTES_MAX, NULL);
    if (status == BK_OK)
        status = add_filter(list, text, trust_of(list), BK_FILTER_BYTES_MAX, &error);
    if (status == BK_OK && list->query != NULL)
        status = bk_filter_query_finish(list->query, &list->condition);
    if (status == BK_OK)
        return true;
    const char *message = error.message[0] == '\0' ? NULL : error.message;
    if (status == BK_INVALID && message != NULL)
        message = bk_arena_format(&request->arena, "Invalid filter: %s.", error.message).data;
    bk_answer_error(request, status, message);
    return false;
}

/* --- sort ------------------------------------------------------------------------------------- */

/* The field of a sort word; hidden ones and secrets are for superusers, but no cursor holds a
 * secret. */
static const struct bk_field *sort_field(const struct record_list *list, struct bk_slice name) {
    const struct bk_field *field = bk_collection_field(list->collection, name);
    bool is_secret = field != NULL && (field->is_hidden || field->is_secret);
    if (field == NULL || (is_secret && trust_of(list) == BK_FILTER_OF_CLIENT) ||
        (field->is_secret && list->is_by_cursor))
        return NULL;
    return field;
}

static void sort_problem(struct record_list *list, const char *message) {
    bk_problems_add(&list->request->problems, BK_SLICE("sort"), "validation_invalid_sort", message);
}

static void add_key(struct record_list *list, struct sort_key key) {
    if (key.field != NULL)
        key.column = bk_arena_format(&list->request->arena, "%.*s.%.*s",
                                     BK_SLICE_PRINT(list->collection->quoted),
                                     BK_SLICE_PRINT(key.field->quoted));
    list->keys[list->key_count++] = key;
}

/* Whether it is an address that only some of the records show. */
static bool is_guarded(const struct record_list *list, const struct bk_field *field) {
    return field == list->collection->email_field && trust_of(list) == BK_FILTER_OF_CLIENT;
}

/* Those that are not shown are equal in the order, and come first. */
static struct bk_slice guarded_column(const struct record_list *list) {
    const struct bk_collection *collection = list->collection;
    if (collection->email_visibility_field == NULL)
        return BK_SLICE("NULL");
    return bk_arena_format(&list->request->arena, "CASE WHEN %.*s.%.*s THEN %.*s.%.*s END",
                           BK_SLICE_PRINT(collection->quoted),
                           BK_SLICE_PRINT(collection->email_visibility_field->quoted),
                           BK_SLICE_PRINT(collection->quoted),
                           BK_SLICE_PRINT(collection->email_field->quoted));
}

/* `@rowid` is the order of insertion; `@random` none at all; else a path of the filter language.
 * None of them has a value for a cursor to hold. */
static enum bk_status read_expression(struct record_list *list, struct bk_slice word,
                                      struct sort_key *key) {
    struct bk_arena *arena = &list->request->arena;
    bool is_view = list->collection->type == BK_COLLECTION_VIEW; /* which has no rows of its own */
    if (bk_slice_is(word, "@rowid") && is_view)
        return BK_INVALID;
    if (bk_slice_is(word, "@rowid"))
        key->column =
            bk_arena_format(arena, "%.*s._rowid_", BK_SLICE_PRINT(list->collection->quoted));
    else if (bk_slice_is(word, "@random"))
        key->column = BK_SLICE("RANDOM()");
    if (key->column.length > 0)
        return BK_OK;
    struct bk_filter_query *query = query_of(list);
    return query == NULL ? bk_arena_status(arena)
                         : bk_filter_query_sort(query, word, trust_of(list), &key->column, NULL);
}

/* Objects are sorted with their members in the order of their names. A cursor holds, and is sorted
 * by, what is in the column. */
static bool is_ordered_json(const struct record_list *list, const struct bk_field *field) {
    return strcmp(field->type->name, "json") == 0 && !list->is_by_cursor;
}

static enum bk_status read_key(struct record_list *list, struct bk_slice word,
                               struct sort_key *key) {
    if (word.length == 0 || word.length > SORT_BYTES_MAX)
        return BK_INVALID;
    key->field = sort_field(list, word);
    if (key->field != NULL && is_guarded(list, key->field)) {
        key->field = NULL;
        key->column = guarded_column(list);
    } else if (key->field != NULL && is_ordered_json(list, key->field)) {
        key->column = bk_arena_format(&list->request->arena, "bk_json_order(%.*s.%.*s)",
                                      BK_SLICE_PRINT(list->collection->quoted),
                                      BK_SLICE_PRINT(key->field->quoted));
        key->field = NULL;
    }
    if (key->field != NULL || list->is_by_cursor || key->column.length > 0)
        return BK_OK;
    return read_expression(list, word, key);
}

static void read_sort_word(struct record_list *list, struct bk_slice word) {
    struct sort_key key = {0};
    word = bk_slice_trim(word);
    if (word.length > 0 && (word.data[0] == '-' || word.data[0] == '+')) {
        key.is_descending = word.data[0] == '-';
        word = bk_slice_make(word.data + 1, word.length - 1);
    }
    if (list->key_count == COLLECTIONS_SORT_KEYS_MAX)
        sort_problem(list, "at most 8 fields can be sorted by.");
    else if (bk_slice_trim(word).length < word.length || read_key(list, word, &key) != BK_OK)
        sort_problem(list, bk_arena_format(&list->request->arena, "there is no field \"%.*s\".",
                                           (int)(word.length > SORT_BYTES_MAX ? 0 : word.length),
                                           word.data)
                               .data);
    else if (key.field == NULL && list->is_by_cursor)
        sort_problem(list, "a cursor needs fields of the record that it may hold to sort by.");
    else
        add_key(list, key);
}

/* A page by cursor is sorted by something unique in the end. */
static void read_sort(struct record_list *list) {
    struct bk_slice rest = list->sort, word;
    while (list->sort.length > 0 && bk_slice_split(&rest, ',', &word))
        read_sort_word(list, word);
    if (!list->is_by_cursor)
        return;
    for (uint32_t i = 0; i < list->key_count; i++)
        if (list->keys[i].field == list->collection->id_field)
            return;
    add_key(list, (struct sort_key){.field = list->collection->id_field});
}

/* --- cursor ----------------------------------------------------------------------------------- */

static void write_value(struct bk_buffer *out, const struct bk_value *value) {
    switch (value->type) {
    case BK_VALUE_NULL:
        bk_buffer_append_literal(out, "null");
        break;
    case BK_VALUE_INT:
        bk_json_write_int(out, value->integer);
        break;
    case BK_VALUE_REAL:
        bk_json_write_double(out, value->real);
        break;
    case BK_VALUE_TEXT:
        bk_json_write_string(out, value->text);
        break;
    }
}

static bool read_value(const struct bk_json *json, struct bk_value *value) {
    int64_t integer;
    double real;
    if (json->type == BK_JSON_NULL)
        *value = BK_VALUE_OF_NULL;
    else if (json->type == BK_JSON_STRING)
        *value = BK_VALUE_OF_TEXT(json->string);
    else if (bk_json_to_int64(json, &integer))
        *value = BK_VALUE_OF_INT(integer);
    else if (bk_json_to_double(json, &real))
        *value = BK_VALUE_OF_REAL(real);
    else
        return false;
    return true;
}

/* False when it was not made by the same collection and sort. */
static bool parse_cursor(struct record_list *list, struct bk_slice cursor) {
    struct bk_arena *arena = &list->request->arena;
    struct bk_json *json;
    if (cursor.length > CURSOR_BYTES_MAX)
        return false;
    size_t length = cursor.length;
    char *text = bk_arena_alloc(arena, length);
    if (arena->is_overflown || !bk_base64url_decode(cursor, text, &length) ||
        bk_json_parse(arena, bk_slice_make(text, length), &json, NULL) != BK_OK ||
        json->type != BK_JSON_ARRAY || json->child_count != list->key_count + 2 ||
        !bk_slice_equal(json->child->string, list->collection->id) ||
        !bk_slice_equal(json->child->next->string, list->sort))
        return false;
    const struct bk_json *item = json->child->next->next;
    for (uint32_t i = 0; i < list->key_count; i++, item = item->next)
        if (!read_value(item, &list->behind[i]))
            return false;
    return true;
}

static void read_cursor(struct record_list *list) {
    struct bk_slice cursor = bk_request_query(list->request, BK_SLICE("cursor"));
    if (!list->is_by_cursor || cursor.length == 0)
        return;
    list->is_behind = parse_cursor(list, cursor);
    if (!list->is_behind)
        bk_problems_add(
            &list->request->problems, BK_SLICE("cursor"), "validation_invalid_cursor",
            "Not a nextCursor of this list with this sort: begin again with an empty one.");
}

static void write_cursor(struct record_list *list, const struct bk_value *last,
                         struct bk_buffer *out) {
    struct bk_buffer json;
    bk_buffer_init(&json, CURSOR_BYTES_MAX);
    bk_buffer_append_char(&json, '[');
    bk_json_write_string(&json, list->collection->id);
    bk_buffer_append_char(&json, ',');
    bk_json_write_string(&json, list->sort);
    for (uint32_t i = 0; i < list->key_count; i++) {
        bk_buffer_append_char(&json, ',');
        write_value(&json, &last[list->keys[i].field->index]);
    }
    bk_buffer_append_char(&json, ']');
    size_t room = BK_BASE64URL_BYTES(json.length);
    /* A value too long for a cursor: the client goes on with page and perPage. */
    if (json.lacks_memory)
        bk_alloc_give_up(json.length); /* a list without a cursor would look like its end */
    if (!json.is_overflown && bk_buffer_reserve(out, room))
        out->length += bk_base64url_encode(out->data + out->length, json.data, json.length);
    bk_buffer_fini(&json);
}

/* --- SQL -------------------------------------------------------------------------------------- */

/* Parameters have no gap: SQLite keeps, and clears, what is in between. The limit comes last, since
 * there are no values for numbers above those that a statement has. */
static uint32_t match_parameter(const struct record_list *list) {
    return FILTER_PARAMETER + list->condition.value_count;
}

static uint32_t behind_parameter(const struct record_list *list) {
    return match_parameter(list) + (list->match.length > 0 ? 1 : 0);
}

static int limit_parameter(const struct record_list *list) {
    return (int)(behind_parameter(list) + (list->is_behind ? list->key_count : 0));
}

/* Whether a row may have no value there. Such rows come first, and last in descending order. */
static bool is_nullable(const struct record_list *list, const struct bk_field *field) {
    const char *column =
        field->type->column_of != NULL ? field->type->column_of(field) : field->type->column;
    return list->collection->type == BK_COLLECTION_VIEW || strstr(column, "NOT NULL") == NULL;
}

/* Whether all that is behind the cursor is behind it in one comparison of all keys together, for
 * which an index over them goes straight there. */
static bool is_one_range(const struct record_list *list) {
    bool is_descending = list->keys[0].is_descending;
    for (uint32_t i = 0; i < list->key_count; i++)
        if (list->keys[i].is_descending != is_descending || list->behind[i].type == BK_VALUE_NULL ||
            (is_descending && is_nullable(list, list->keys[i].field)))
            return false;
    return true;
}

/* (a, b) > (?1, ?2) */
static void write_range(struct record_list *list, struct bk_buffer *sql) {
    for (uint32_t i = 0; i < list->key_count; i++)
        bk_buffer_format(sql, "%c%.*s", i == 0 ? '(' : ',', BK_SLICE_PRINT(list->keys[i].column));
    bk_buffer_append_slice(sql, list->keys[0].is_descending ? BK_SLICE(")<") : BK_SLICE(")>"));
    for (uint32_t i = 0; i < list->key_count; i++)
        bk_buffer_format(sql, "%c?%u", i == 0 ? '(' : ',', behind_parameter(list) + i);
    bk_buffer_append_char(sql, ')');
}

/* Behind the cursor by this key alone. */
static void write_behind_key(const struct record_list *list, uint32_t number,
                             struct bk_buffer *sql) {
    const struct sort_key *key = &list->keys[number];
    struct bk_slice column = key->column;
    bool is_null = list->behind[number].type == BK_VALUE_NULL;
    if (is_null && key->is_descending)
        bk_buffer_append_literal(sql, "FALSE");
    else if (is_null)
        bk_buffer_format(sql, "%.*s IS NOT NULL", BK_SLICE_PRINT(column));
    else
        bk_buffer_format(sql, "%.*s %c ?%u", BK_SLICE_PRINT(column), key->is_descending ? '<' : '>',
                         behind_parameter(list) + number);
    if (!is_null && key->is_descending && is_nullable(list, key->field))
        bk_buffer_format(sql, " OR %.*s IS NULL", BK_SLICE_PRINT(column));
}

/* (a > ?1 OR (a IS ?1 AND (b < ?2 OR …))): each key in its own direction. */
static void write_each(struct record_list *list, struct bk_buffer *sql) {
    const struct sort_key *first = &list->keys[0];
    /* For an index to begin there; the rest is looked at row by row. */
    if (list->behind[0].type != BK_VALUE_NULL &&
        !(first->is_descending && is_nullable(list, first->field)))
        bk_buffer_format(sql, "%.*s %s ?%u AND ", BK_SLICE_PRINT(first->column),
                         first->is_descending ? "<=" : ">=", behind_parameter(list));
    for (uint32_t i = 0; i < list->key_count; i++) {
        bool is_last = i + 1 == list->key_count;
        bk_buffer_append_char(sql, '(');
        write_behind_key(list, i, sql);
        if (!is_last)
            bk_buffer_format(sql, " OR (%.*s IS ?%u AND ", BK_SLICE_PRINT(list->keys[i].column),
                             behind_parameter(list) + i);
    }
    for (uint32_t i = 0; i < list->key_count; i++)
        bk_buffer_append_slice(sql, i == 0 ? BK_SLICE(")") : BK_SLICE("))"));
}

static void write_behind(struct record_list *list, struct bk_buffer *sql) {
    if (is_one_range(list))
        write_range(list, sql);
    else
        write_each(list, sql);
}

static void write_order(struct record_list *list, struct bk_buffer *sql) {
    if (list->key_count == 0) {
        if (list->match.length > 0)
            bk_buffer_format(sql, " ORDER BY %.*s.rank, %.*s._rowid_",
                             BK_SLICE_PRINT(list->collection->search->table),
                             BK_SLICE_PRINT(list->collection->quoted));
        else if (list->collection->type != BK_COLLECTION_VIEW)
            bk_buffer_format(sql, " ORDER BY %.*s._rowid_",
                             BK_SLICE_PRINT(list->collection->quoted));
        return;
    }
    for (uint32_t i = 0; i < list->key_count; i++) {
        const struct sort_key *key = &list->keys[i];
        bk_buffer_append_slice(sql, i == 0 ? BK_SLICE(" ORDER BY ") : BK_SLICE(", "));
        bk_buffer_append_slice(sql, key->column);
        if (key->is_descending)
            bk_buffer_append_literal(sql, " DESC");
    }
}

/* FROM posts, with what the filter joins to it and where it holds. What is searched for is found
 * first. Returns the word before a further condition. */
static const char *write_source(const struct record_list *list, struct bk_buffer *sql) {
    struct bk_slice table = list->collection->quoted;
    const char *word = " WHERE ";
    bk_buffer_append_literal(sql, " FROM ");
    if (list->match.length > 0) {
        struct bk_slice words = list->collection->search->table;
        bk_buffer_format(sql, "%.*s CROSS JOIN %.*s ON %.*s._rowid_=%.*s.rowid",
                         BK_SLICE_PRINT(words), BK_SLICE_PRINT(table), BK_SLICE_PRINT(table),
                         BK_SLICE_PRINT(words));
    } else {
        bk_buffer_append_slice(sql, table);
    }
    bk_buffer_append_slice(sql, list->condition.joins);
    if (list->match.length > 0) {
        bk_buffer_format(sql, " WHERE %.*s MATCH ?%u",
                         BK_SLICE_PRINT(list->collection->search->table), match_parameter(list));
        word = " AND ";
    }
    if (list->condition.where.length > 0) {
        bk_buffer_append_slice(sql, bk_slice_from(word));
        bk_buffer_append_slice(sql, list->condition.where);
        word = " AND ";
    }
    return word;
}

static void write_columns(const struct record_list *list, struct bk_buffer *sql) {
    if (list->condition.joins.length == 0 && list->match.length == 0) {
        bk_buffer_append_slice(sql, list->collection->columns);
        return;
    }
    for (uint32_t i = 0; i < list->collection->field_count; i++) {
        if (i > 0)
            bk_buffer_append_char(sql, ',');
        bk_buffer_format(sql, "%.*s.%.*s", BK_SLICE_PRINT(list->collection->quoted),
                         BK_SLICE_PRINT(list->collection->fields[i].quoted));
    }
}

static void write_select(struct record_list *list, struct bk_buffer *sql) {
    bk_buffer_append_literal(sql, "SELECT ");
    write_columns(list, sql);
    const char *word = write_source(list, sql);
    if (list->is_behind) {
        bk_buffer_append_slice(sql, bk_slice_from(word));
        write_behind(list, sql);
    }
    write_order(list, sql);
    bk_buffer_format(sql, " LIMIT ?%d OFFSET ?%d", limit_parameter(list),
                     limit_parameter(list) + 1);
}

static void write_count(const struct record_list *list, struct bk_buffer *sql) {
    bk_buffer_append_literal(sql, "SELECT COUNT(*)");
    (void)write_source(list, sql);
}

static enum bk_status make_sql(struct record_list *list) {
    struct bk_arena *arena = &list->request->arena;
    struct bk_buffer sql;
    bk_buffer_init(&sql, SQL_BYTES_MAX);
    write_select(list, &sql);
    list->sql = bk_sql_make(bk_arena_copy(arena, bk_buffer_slice(&sql)));
    enum bk_status status = bk_buffer_status(&sql);
    bk_buffer_clear(&sql);
    write_count(list, &sql);
    list->count_sql = bk_sql_make(bk_arena_copy(arena, bk_buffer_slice(&sql)));
    if (status == BK_OK)
        status = bk_buffer_status(&sql);
    bk_buffer_fini(&sql);
    return status == BK_OK ? bk_arena_status(arena) : status;
}

/* --- on a reader ------------------------------------------------------------------------------ */

static void bind_condition(const struct record_list *list, struct bk_statement *statement) {
    for (uint32_t i = 0; i < list->condition.value_count; i++)
        bk_statement_bind(statement, FILTER_PARAMETER + (int)i, &list->condition.values[i]);
    if (list->match.length > 0)
        bk_statement_bind_text(statement, (int)match_parameter(list), list->match);
}

/* Whether what it counts is the same until the next event. */
static bool changes_with_events(const struct record_list *list) {
    return list->collection->role != BK_ROLE_STATE &&
           list->collection->type != BK_COLLECTION_VIEW &&
           (list->query == NULL || list->condition.changes_with_events);
}

static enum bk_status count_by_query(struct record_list *list, struct bk_connection *connection,
                                     int64_t *total) {
    uint32_t count = list->condition.value_count;
    struct bk_value *values = bk_arena_alloc(&list->request->arena, (count + 1) * sizeof(*values));
    if (list->request->arena.is_overflown)
        return BK_TOO_LARGE;
    for (uint32_t i = 0; i < count; i++)
        values[i] = list->condition.values[i];
    if (list->match.length > 0)
        values[count++] = BK_VALUE_OF_TEXT(list->match);
    return bk_rows_count(connection, &list->count_sql, values, count, changes_with_events(list),
                         total);
}

/* A page that is not full is the last one: it tells the total by itself. That of a whole collection
 * is kept; only what is selected has to be counted. */
static enum bk_status count(struct record_list *list, struct bk_connection *connection,
                            int64_t row_count, int64_t *total) {
    const struct collections_page *page = &list->page;
    enum bk_status status = BK_NOT_FOUND;
    *total = -1;
    if (page->skip_total || list->is_by_cursor)
        return BK_OK;
    if (row_count < page->per_page && (row_count > 0 || page->page == 1)) {
        *total = (page->page - 1) * page->per_page + row_count;
        return BK_OK;
    }
    if (list->condition.where.length == 0 && list->match.length == 0 &&
        bk_collection_is_counted(list->collection))
        status = bk_rows_read(connection, list->collection->name, total);
    return status == BK_NOT_FOUND ? count_by_query(list, connection, total) : status;
}

/* One row more than the page is asked for by cursor: whether there is a next page. */
static enum bk_status write_items(struct record_list *list, struct bk_connection *connection,
                                  struct bk_statement *statement, struct bk_buffer *out,
                                  int64_t *written) {
    BK_UNINITIALIZED struct bk_value values[BK_COLLECTION_FIELDS_MAX];
    struct bk_buffer cursor;
    enum bk_status status;
    int64_t row_count = 0;
    bk_buffer_init(&cursor, 2 * CURSOR_BYTES_MAX);
    bk_buffer_append_literal(out, "\"items\":[");
    while ((status = bk_statement_step(statement)) == BK_OK) {
        if (row_count == list->page.per_page)
            break;
        bk_record_read(list->collection, statement, values);
        bk_json_write_separator(out);
        status = bk_show_write(list->show, connection, values, out);
        if (status == BK_OK && out->is_overflown)
            status = bk_buffer_status(out);
        if (status != BK_OK)
            break;
        if (++row_count == list->page.per_page && list->is_by_cursor)
            write_cursor(list, values, &cursor);
    }
    bool has_next = status == BK_OK && row_count == list->page.per_page;
    bk_statement_reset(statement);
    *written = row_count;
    bk_buffer_append_char(out, ']');
    if (list->is_by_cursor)
        bk_json_write_member_string(out, BK_SLICE("nextCursor"),
                                    has_next ? bk_buffer_slice(&cursor) : BK_SLICE(""));
    bk_buffer_fini(&cursor);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status write_page(struct record_list *list, struct bk_connection *connection,
                                 struct bk_buffer *out, int64_t *row_count) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &list->sql, &statement);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; list->is_behind && i < list->key_count; i++)
        bk_statement_bind(statement, (int)(behind_parameter(list) + i), &list->behind[i]);
    bind_condition(list, statement);
    bk_statement_bind_int(statement, limit_parameter(list),
                          list->page.per_page + (list->is_by_cursor ? 1 : 0));
    bk_statement_bind_int(statement, limit_parameter(list) + 1,
                          list->is_by_cursor ? 0 : (list->page.page - 1) * list->page.per_page);
    return write_items(list, connection, statement, out, row_count);
}

/* Once more when a path of `expand` was found to lead nowhere on the way. */
static enum bk_status write_answer(struct record_list *list, struct bk_connection *connection,
                                   struct bk_buffer *out) {
    int64_t total, row_count = 0;
    bk_buffer_clear(out);
    bk_buffer_append_char(out, '{');
    collections_page_write_head(out, &list->page);
    bk_buffer_append_char(out, ',');
    size_t head_bytes = out->length;
    uint32_t dropped = bk_show_dropped(list->show);
    enum bk_status status = write_page(list, connection, out, &row_count);
    if (status == BK_OK && dropped != bk_show_dropped(list->show) && !out->is_overflown) {
        out->length = head_bytes;
        status = write_page(list, connection, out, &row_count);
    }
    if (status == BK_OK)
        status = count(list, connection, row_count, &total);
    if (status != BK_OK)
        return status;
    bk_buffer_append_char(out, ',');
    collections_page_write_totals(out, &list->page, total);
    bk_buffer_append_char(out, '}');
    return BK_OK;
}

static enum bk_status on_run(struct bk_connection *connection, struct bk_read *read) {
    struct record_list *list = bk_container_of(read, struct record_list, read);
    enum bk_status status = BK_END;
    if (list->match.length > 0)
        status = bk_search_progress(connection, list->collection, &list->words_percent);
    list->lacks_words = status == BK_OK;
    if (list->lacks_words)
        return BK_BUSY;
    if (status == BK_END)
        status = write_answer(list, connection, &list->request->out);
    if (status == BK_OK)
        status = bk_answer_pick_fields(list->request, list->fields);
    if (status == BK_OK)
        bk_answer_compress(list->request);
    return status;
}

/* --- on the loop ------------------------------------------------------------------------------ */

/* Names a field that has no index, once. */
static void name_field(const struct record_list *list, struct bk_slice word,
                       struct bk_buffer *out) {
    const struct bk_field *field = bk_collection_field(list->collection, word);
    if (field == NULL || field == list->collection->id_field || field->is_secret ||
        (field->is_hidden && trust_of(list) == BK_FILTER_OF_CLIENT) ||
        bk_collection_is_indexed(list->collection, field->name, &list->request->arena))
        return;
    for (size_t i = 0; i + field->quoted.length <= out->length; i++)
        if (memcmp(out->data + i, field->quoted.data, field->quoted.length) == 0)
            return;
    bk_buffer_format(out, "%s%.*s", out->length == 0 ? "" : ", ", BK_SLICE_PRINT(field->quoted));
}

static bool is_of_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* The fields of filter and sort that have none: what stands in quotes is text. */
static void name_fields(const struct record_list *list, struct bk_slice text,
                        struct bk_buffer *out) {
    char quote = '\0';
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == '\\')
            i++;
        else if ((c == '"' || c == '\'') && (quote == '\0' || quote == c))
            quote = quote == c ? '\0' : c;
        if (quote != '\0' || !is_of_word(c))
            continue;
        size_t begin = i;
        while (i + 1 < text.length && is_of_word(text.data[i + 1]))
            i++;
        if (begin == 0 || (text.data[begin - 1] != '.' && text.data[begin - 1] != '@'))
            name_field(list, bk_slice_make(text.data + begin, i + 1 - begin), out);
    }
}

static void refuse_late(struct record_list *list) {
    struct bk_request *request = list->request;
    struct bk_buffer names;
    if (list->match.length > 0) {
        bk_answer_error(request, BK_INVALID,
                        "The search took too long: search for more words or rarer ones, or leave "
                        "out the totals with skipTotal=1.");
        return;
    }
    if (list->collection->type == BK_COLLECTION_VIEW) {
        bk_answer_error(request, BK_INVALID,
                        "The query took too long: the view works through too many records for one "
                        "request. Give the fields that its query joins, filters and groups by an "
                        "index in their own collections, leave out the totals with skipTotal=1, or "
                        "keep what it adds up in a collection.");
        return;
    }
    bk_buffer_init(&names, NAMES_BYTES_MAX);
    name_fields(list, bk_request_query(request, BK_SLICE("filter")), &names);
    name_fields(list, list->sort, &names);
    const char *message =
        names.length == 0 || names.is_overflown
            ? "The query took too long: filter and sort by indexed fields, page by cursor, or "
              "leave out the totals with skipTotal=1."
            : bk_arena_format(&request->arena,
                              "The query took too long: give %.*s an index, page by cursor, or "
                              "leave out the totals with skipTotal=1.",
                              BK_SLICE_PRINT(bk_buffer_slice(&names)))
                  .data;
    bk_buffer_fini(&names);
    bk_answer_error(request, BK_INVALID, message);
}

/* Some of what is there would not be found. */
static void refuse_incomplete(struct record_list *list) {
    struct bk_slice message =
        bk_arena_format(&list->request->arena,
                        "The search of %.*s is still being built, %u %% of its records are in it: "
                        "try again in a while.",
                        BK_SLICE_PRINT(list->collection->name), list->words_percent);
    bk_answer_error(list->request, BK_BUSY, message.data);
}

static void on_done(struct bk_read *read, enum bk_status status) {
    struct record_list *list = bk_container_of(read, struct record_list, read);
    struct bk_schema *schema = list->schema;
    list->request->on_abort = NULL;
    if (status == BK_OK)
        bk_answer(list->request, 200);
    else if (status == BK_TIMEOUT)
        refuse_late(list);
    else if (list->lacks_words)
        refuse_incomplete(list);
    else
        bk_answer_error(list->request, status, NULL);
    bk_schema_unref(schema);
}

/* A page that nobody waits for costs others the time of a reader. */
static void on_abort(struct bk_request *request) {
    struct record_list *list = request->state;
    bk_store_read_cancel(&list->read);
}

static bool read_query(struct record_list *list) {
    struct bk_request *request = list->request;
    list->sort = bk_request_query(request, BK_SLICE("sort"));
    list->is_by_cursor = bk_request_query(request, BK_SLICE("cursor")).data != NULL;
    collections_page_read(request, &list->page);
    list->match = collections_search_read(request, list->collection);
    read_sort(list);
    if (request->problems.count == 0)
        read_cursor(list);
    return request->problems.count == 0;
}

void collections_records_list(struct bk_request *request) {
    struct bk_schema *schema;
    struct bk_slice rule;
    const struct bk_collection *collection = collections_open(request, BK_MAY_LIST, &schema, &rule);
    if (collection == NULL || collections_refuse_special_names(request))
        return;
    struct record_list *list = bk_arena_alloc_zero(&request->arena, sizeof(*list));
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE,
                        "The request needs more memory than a request may have.");
        return;
    }
    list->request = request;
    list->collection = collection;
    list->schema = schema;
    list->rule = rule;
    if (!read_query(list)) {
        collections_answer_query_problems(request);
        return;
    }
    if (!collections_fields_read(request, &list->fields) || !read_filter(list) ||
        !collections_show_make(request, schema, collection, &list->show))
        return;
    enum bk_status status = make_sql(list);
    if (status == BK_OK) {
        bk_schema_ref(schema);
        list->read.may_run_again = true;
        list->read.run = on_run;
        list->read.done = on_done;
        request->state = list;
        request->on_abort = on_abort;
        request->may_half_close = true;
        status = bk_store_read(request->tenant->database, &list->read);
        if (status == BK_OK)
            return;
        request->on_abort = NULL;
        bk_schema_unref(list->schema);
    }
    bk_answer_error(request, status, NULL);
}
