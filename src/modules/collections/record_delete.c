/*
 * Delete. Cascades are ours, never SQLite's: what refers to a deleted record is deleted with it where its
 * relation says so, or else loses the reference; each such record has an event of its own, in the order of
 * the changes. All of it is one write of at most COLLECTIONS_CASCADE_MAX rows: past that it is refused as
 * a whole.
 *
 * A record may be reached twice (two relations, a circle): whoever comes second finds no row.
 */
#include "collections.h"

enum { CASCADE_DEPTH_MAX = 64 };

struct removal {
    struct bk_transaction *transaction;
    const struct bk_schema *schema;
    uint32_t touched_count;
    uint32_t depth;
    struct bk_slice id; /* the record whose referrers are looked for */
    enum bk_status status;
    const char *message; /* why it is refused, beside the status; or NULL */
};

static enum bk_status remove_row(struct removal *removal, const struct bk_collection *collection,
                                 struct bk_slice id);

/* --- rows ---------------------------------------------------------------------------------------- */

static enum bk_status read_row(struct removal *removal, const struct bk_collection *collection,
                               struct bk_slice id, struct bk_value **values) {
    struct bk_arena *arena = bk_transaction_arena(removal->transaction);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(bk_transaction_connection(removal->transaction),
                                                    &collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        *values = bk_arena_alloc(arena, collection->field_count * sizeof(**values));
        collections_record_copy(collection, statement, *values, arena);
    }
    bk_statement_reset(statement);
    if (arena->is_overflown)
        return BK_LIMIT;
    return status == BK_END ? BK_NOT_FOUND : status;
}

static enum bk_status delete_row(struct removal *removal, const struct bk_collection *collection,
                                 struct bk_slice id) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(bk_transaction_connection(removal->transaction),
                                                    &collection->delete_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    return bk_statement_run(statement);
}

static enum bk_status update_row(struct removal *removal, const struct bk_collection *collection,
                                 const struct bk_value *values) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(bk_transaction_connection(removal->transaction),
                                                    &collection->update, &statement);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < collection->field_count; i++)
        bk_statement_bind(statement, (int)i + 1, &values[i]);
    return bk_statement_run(statement);
}

/* Some collections must not become empty: BK_INVALID for the last record, with their message. */
static enum bk_status spare_last(struct removal *removal, const struct bk_collection *collection,
                                 struct bk_slice id) {
    struct bk_statement *statement;
    if (collection->keeps_last == NULL)
        return BK_OK;
    struct bk_sql sql = bk_sql_make(bk_arena_format(bk_transaction_arena(removal->transaction),
                                                    "SELECT 1 FROM %.*s WHERE \"id\" <> ?1 LIMIT 1",
                                                    BK_SLICE_PRINT(collection->quoted)));
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(removal->transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    if (status != BK_END)
        return status;
    removal->message = collection->keeps_last;
    return BK_INVALID;
}

/* --- what refers to the record ------------------------------------------------------------------- */

/* The array without this id; empty arrays are "[]". */
static struct bk_slice without(struct bk_arena *arena, struct bk_slice array, struct bk_slice id) {
    struct bk_json *ids;
    struct bk_buffer out;
    if (bk_json_parse(arena, array, &ids, NULL) != BK_OK || ids->type != BK_JSON_ARRAY)
        return BK_SLICE("[]");
    bk_buffer_init(&out, array.length + 2);
    bk_buffer_append_char(&out, '[');
    for (const struct bk_json *item = ids->child; item != NULL; item = item->next) {
        if (bk_slice_equal(item->string, id))
            continue;
        bk_json_write_separator(&out);
        bk_buffer_append_slice(&out, item->text);
    }
    bk_buffer_append_char(&out, ']');
    struct bk_slice left = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return left;
}

/* Writes the record without the reference, and its event. */
static enum bk_status save(struct removal *removal, const struct bk_collection *collection,
                           const struct bk_value *before, struct bk_value *values) {
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field->type->fill != NULL)
            field->type->fill(field, &values[i], false, false,
                              bk_transaction_now_ms(removal->transaction),
                              bk_transaction_arena(removal->transaction));
    }
    enum bk_status status = update_row(removal, collection, values);
    if (status == BK_OK)
        status = collections_record_emit(removal->transaction, collection, COLLECTIONS_UPDATED,
                                         values, before);
    return status;
}

/* Takes the reference out of one record. One that is left without any is deleted where the relation
 * cascades, and stands in the way where the relation is required. */
static enum bk_status release(struct removal *removal, const struct bk_relation *relation,
                              struct bk_slice referrer) {
    const struct bk_collection *collection = relation->collection;
    const struct bk_field *field = relation->field;
    struct bk_arena *arena = bk_transaction_arena(removal->transaction);
    size_t size_bytes = collection->field_count * sizeof(struct bk_value);
    struct bk_value *before;
    enum bk_status status = read_row(removal, collection, referrer, &before);
    if (status != BK_OK)
        return status;
    struct bk_value *values = bk_arena_alloc(arena, size_bytes);
    memcpy(values, before, size_bytes);
    if (relation->is_multiple)
        values[field->index].text = without(arena, before[field->index].text, removal->id);
    else
        field->type->empty(field, &values[field->index]);
    struct bk_slice left = values[field->index].text;
    if (left.length > 0 && !bk_slice_is(left, "[]"))
        return save(removal, collection, before, values);
    if (relation->cascades)
        return remove_row(removal, collection, referrer);
    return field->is_required ? BK_CONFLICT : save(removal, collection, before, values);
}

/* The ids of the records that refer to removal->id, copied, since their rows change while we walk. */
static enum bk_status find_referrers(struct removal *removal, const struct bk_relation *relation,
                                     struct bk_slice *ids, uint32_t room, uint32_t *count) {
    struct bk_arena *arena = bk_transaction_arena(removal->transaction);
    struct bk_slice table = relation->collection->quoted, column = relation->field->quoted;
    struct bk_slice text =
        relation->is_multiple
            ? bk_arena_format(arena,
                              "SELECT \"id\" FROM %.*s AS r WHERE EXISTS (SELECT 1 FROM "
                              "json_each(r.%.*s) WHERE value = ?1) LIMIT ?2",
                              BK_SLICE_PRINT(table), BK_SLICE_PRINT(column))
            : bk_arena_format(arena, "SELECT \"id\" FROM %.*s WHERE %.*s = ?1 LIMIT ?2",
                              BK_SLICE_PRINT(table), BK_SLICE_PRINT(column));
    struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(removal->transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, removal->id);
    bk_statement_bind_int(statement, 2, room);
    *count = 0;
    while (*count < room && (status = bk_statement_step(statement)) == BK_OK)
        ids[(*count)++] = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    if (arena->is_overflown)
        return BK_LIMIT;
    return status == BK_END ? BK_OK : status;
}

enum { REFERRERS_AT_ONCE = 256 };

/* In slices: each one deletes or releases what it found, so the next finds the rest. */
static bool on_relation(void *user, const struct bk_relation *relation) {
    struct removal *removal = user;
    struct bk_slice ids[REFERRERS_AT_ONCE];
    uint32_t count = REFERRERS_AT_ONCE;
    struct bk_slice id = removal->id;
    while (removal->status == BK_OK && count == REFERRERS_AT_ONCE) {
        removal->status = find_referrers(removal, relation, ids, REFERRERS_AT_ONCE, &count);
        for (uint32_t i = 0; removal->status == BK_OK && i < count; i++) {
            removal->status = release(removal, relation, ids[i]);
            removal->id = id;
            if (removal->status == BK_NOT_FOUND) /* reached before by another way */
                removal->status = BK_OK;
            if (removal->status == BK_OK && ++removal->touched_count > COLLECTIONS_CASCADE_MAX)
                removal->status = BK_LIMIT;
        }
    }
    return removal->status == BK_OK;
}

/* The row goes first, so that a circle of cascades ends; its referrers follow. */
static enum bk_status remove_row(struct removal *removal, const struct bk_collection *collection,
                                 struct bk_slice id) {
    struct bk_value *values;
    if (removal->depth == CASCADE_DEPTH_MAX)
        return BK_LIMIT;
    enum bk_status status = read_row(removal, collection, id, &values);
    if (status == BK_OK)
        status = spare_last(removal, collection, id);
    if (status == BK_OK)
        status = delete_row(removal, collection, id);
    if (status == BK_OK)
        status = collections_record_emit(removal->transaction, collection, COLLECTIONS_DELETED,
                                         values, NULL);
    if (status != BK_OK)
        return status;
    removal->depth++;
    removal->id = id;
    bk_schema_relations_to(removal->schema, collection, on_relation, removal);
    removal->depth--;
    return removal->status;
}

enum bk_status collections_record_remove(struct bk_transaction *transaction,
                                         const struct bk_schema *schema,
                                         const struct bk_collection *collection, struct bk_slice id,
                                         const char **message) {
    struct removal removal = {.transaction = transaction, .schema = schema, .status = BK_OK};
    enum bk_status status = remove_row(&removal, collection, id);
    *message = removal.message;
    return status;
}

/* --- the route ----------------------------------------------------------------------------------- */

struct record_delete {
    struct bk_write write;
    struct bk_request *request;
    struct bk_schema *schema;
    const struct bk_collection *collection;
    const char *message; /* why it was refused, or NULL */
    uint32_t plans;
};

static void plan(struct record_delete *record);

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct record_delete *record = bk_container_of(write, struct record_delete, write);
    enum bk_status status = bk_schema_verify(record->schema, transaction);
    if (status != BK_OK)
        return status;
    return collections_record_remove(transaction, record->schema, record->collection,
                                     bk_request_parameter(record->request, BK_SLICE("id")),
                                     &record->message);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct record_delete *record = bk_container_of(write, struct record_delete, write);
    struct bk_request *request = record->request;
    bk_schema_unref(record->schema);
    if (status == BK_STALE && record->plans == 1) {
        plan(record);
    } else if (status == BK_OK) {
        bk_answer_empty(request);
    } else if (status == BK_INVALID && record->message != NULL) {
        bk_answer_error(request, BK_INVALID, record->message);
    } else if (status == BK_CONFLICT) {
        bk_answer_error(request, BK_INVALID,
                        "Failed to delete record. Make sure that the record is not part of a "
                        "required relation reference.");
    } else if (status == BK_LIMIT) {
        bk_answer_error(request, BK_INVALID,
                        "Failed to delete record: more than 10000 records refer to it. Delete "
                        "those first.");
    } else {
        bk_answer_error(request, status == BK_STALE ? BK_BUSY : status, NULL);
    }
}

static void plan(struct record_delete *record) {
    struct bk_request *request = record->request;
    struct bk_schema *schema;
    record->plans++;
    record->collection = collections_open(request, BK_MAY_DELETE, &schema);
    if (record->collection == NULL)
        return;
    record->schema = bk_schema_ref(schema);
    record->write.origin = &request->origin;
    record->write.run = on_run;
    record->write.done = on_done;
    enum bk_status status = bk_store_write(request->tenant->database, &record->write);
    if (status == BK_OK)
        return;
    bk_schema_unref(record->schema);
    bk_answer_error(request, status, NULL);
}

void collections_record_delete(struct bk_request *request) {
    struct record_delete *record = bk_arena_alloc_zero(&request->arena, sizeof(*record));
    if (collections_refuse_unready_change(request))
        return;
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE,
                        "The request needs more memory than a request may have.");
        return;
    }
    record->request = request;
    plan(record);
}
