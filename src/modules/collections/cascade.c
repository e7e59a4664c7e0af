/*
 * What a deletion takes along. Cascades are ours, never SQLite's: what refers to a deleted record
 * is deleted with it where its relation says so, or else loses the reference; each such record has
 * an event of its own, in the order of the changes.
 *
 *   delete the record ──> queue of what is gone ──┐
 *     ^                                           │ up to SLICE_MAX of one collection
 *     │            for each relation to it: find who refers to any of them, one scan
 *     └── cascades ── release each ── else: write it without what is gone
 *
 * The cost is a scan (or as many steps in an index) per relation and slice, not per record. A row
 * goes before its referrers are looked for, so that circles end. Where a required relation would be
 * left empty, its record stands in the way unless another relation takes it along: that is known at
 * the end.
 *
 * All of it is one write of at most COLLECTIONS_CASCADE_MAX rows, found in
 * COLLECTIONS_CASCADE_STEPS, for which the writer keeps all others waiting: past either it is
 * refused as a whole. Neither is a time, so that it depends on the data alone.
 */
#include "bakend/map.h"
#include "collections.h"

enum { SLICE_MAX = 500, SLICE_BYTES_MAX = 16 * 1024 * 1024, ROW_BYTES_MAX = 64 * 1024 * 1024 };

/* A record that is gone and whose referrers are not, or a referrer. */
struct row {
    struct row *next;
    const struct bk_collection *collection;
    struct bk_slice id;
    const struct bk_field *field; /* of what stands in the way: the relation that is required */
};

struct cascade {
    struct bk_transaction *transaction;
    const struct bk_schema *schema;
    const struct bk_collection *target; /* that the slice is of */
    struct bk_buffer slice;             /* a JSON array of ids */
    struct row *queue, **queue_end;
    struct row *blocked;      /* what a required relation would leave without a reference */
    struct bk_map gone;       /* "collection id/record id" */
    struct bk_arena row_room; /* for one row at a time; what lasts is in the transaction's */
    uint32_t touched_count;
    enum bk_status status;
    struct bk_problems *problems;
    const char *message; /* why it is refused, beside the status; or NULL */
};

static struct row *make_row(struct cascade *cascade, const struct bk_collection *collection,
                            struct bk_slice id) {
    struct bk_arena *arena = bk_transaction_arena(cascade->transaction);
    struct row *row = bk_arena_alloc(arena, sizeof(*row));
    *row = (struct row){.collection = collection, .id = bk_arena_copy(arena, id)};
    return arena->is_overflown ? NULL : row; /* memory of an overflown one is shared */
}

static struct bk_slice gone_key(struct bk_arena *arena, const struct bk_collection *collection,
                                struct bk_slice id) {
    return bk_arena_format(arena, "%.*s/%.*s", BK_SLICE_PRINT(collection->id), BK_SLICE_PRINT(id));
}

/* --- rows ------------------------------------------------------------------------------------- */

static enum bk_status statement_of(struct cascade *cascade, const struct bk_sql *sql,
                                   struct bk_statement **statement) {
    return bk_connection_statement(bk_transaction_connection(cascade->transaction), sql, statement);
}

static enum bk_status read_row(struct cascade *cascade, const struct bk_collection *collection,
                               struct bk_slice id, struct bk_value **values) {
    struct bk_arena *arena = &cascade->row_room;
    struct bk_statement *statement;
    enum bk_status status = statement_of(cascade, &collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_arena_reset(arena);
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        *values = bk_arena_alloc(arena, collection->field_count * sizeof(**values));
        status = *values == NULL ? BK_TOO_LARGE
                                 : collections_record_copy(collection, statement, *values, arena);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* Some collections must not become empty: BK_INVALID for the last record, with their message. */
static enum bk_status spare_last(struct cascade *cascade, const struct bk_collection *collection,
                                 struct bk_slice id) {
    struct bk_statement *statement;
    if (collection->keeps_last == NULL)
        return BK_OK;
    struct bk_sql sql = bk_sql_make(bk_arena_format(&cascade->row_room,
                                                    "SELECT 1 FROM %.*s WHERE \"id\" <> ?1 LIMIT 1",
                                                    BK_SLICE_PRINT(collection->quoted)));
    enum bk_status status = statement_of(cascade, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    if (status != BK_END)
        return status;
    cascade->message = collection->keeps_last;
    return BK_INVALID;
}

/* Deletes the row and queues it: its referrers follow. */
static enum bk_status remove_row(struct cascade *cascade, const struct bk_collection *collection,
                                 struct bk_slice id) {
    struct bk_value *values;
    enum bk_status status = read_row(cascade, collection, id, &values);
    if (status == BK_OK)
        status = spare_last(cascade, collection, id);
    if (status == BK_OK)
        status =
            bk_record_delete(collection, bk_transaction_connection(cascade->transaction), values);
    if (status == BK_OK)
        status = bk_record_emit(cascade->transaction, collection, values, NULL);
    if (status != BK_OK)
        return status;
    struct row *row = make_row(cascade, collection, id);
    if (row == NULL)
        return BK_LIMIT;
    *cascade->queue_end = row;
    cascade->queue_end = &row->next;
    bk_map_put(&cascade->gone, gone_key(bk_transaction_arena(cascade->transaction), collection, id),
               row);
    return BK_OK;
}

/* --- what refers to them ---------------------------------------------------------------------- */

/* The array without what is gone; empty arrays are "[]". */
static struct bk_slice without_gone(struct cascade *cascade, struct bk_slice array) {
    struct bk_arena *arena = &cascade->row_room;
    struct bk_json *ids;
    struct bk_buffer out;
    if (bk_json_parse(arena, array, &ids, NULL) != BK_OK || ids->type != BK_JSON_ARRAY)
        return BK_SLICE("[]");
    bk_buffer_init(&out, array.length + 2);
    bk_buffer_append_char(&out, '[');
    for (const struct bk_json *item = ids->child; item != NULL; item = item->next) {
        if (bk_map_get(&cascade->gone, gone_key(arena, cascade->target, item->string)) != NULL)
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
static enum bk_status save(struct cascade *cascade, const struct bk_collection *collection,
                           const struct bk_value *before, struct bk_value *values) {
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field->type->fill != NULL)
            field->type->fill(field, &values[i], false, false,
                              bk_transaction_now_ms(cascade->transaction), &cascade->row_room);
    }
    if (cascade->row_room.is_overflown)
        return bk_arena_status(&cascade->row_room);
    struct bk_connection *connection = bk_transaction_connection(cascade->transaction);
    enum bk_status status = bk_record_update(collection, connection, before, values);
    if (status == BK_CONFLICT)
        collections_conflict_explain(collection, connection, cascade->problems);
    if (status == BK_OK)
        status = bk_record_emit(cascade->transaction, collection, before, values);
    return status;
}

static enum bk_status block(struct cascade *cascade, const struct bk_relation *relation,
                            struct bk_slice id) {
    struct row *row = make_row(cascade, relation->collection, id);
    if (row == NULL)
        return BK_LIMIT;
    row->field = relation->field;
    row->next = cascade->blocked;
    cascade->blocked = row;
    return BK_OK;
}

/* Takes what is gone out of one record. One that is left without any reference is deleted where the
 * relation cascades, and stands in the way where it is required. */
static enum bk_status release(struct cascade *cascade, const struct bk_relation *relation,
                              struct bk_slice referrer) {
    const struct bk_collection *collection = relation->collection;
    const struct bk_field *field = relation->field;
    size_t size_bytes = collection->field_count * sizeof(struct bk_value);
    struct bk_value *before;
    enum bk_status status = read_row(cascade, collection, referrer, &before);
    if (status != BK_OK)
        return status;
    struct bk_value *values = bk_arena_alloc(&cascade->row_room, size_bytes);
    if (cascade->row_room.is_overflown)
        return bk_arena_status(&cascade->row_room);
    memcpy(values, before, size_bytes);
    if (relation->is_multiple)
        values[field->index].text = without_gone(cascade, before[field->index].text);
    else
        field->type->empty(field, &values[field->index]);
    if (cascade->row_room.is_overflown)
        return bk_arena_status(&cascade->row_room);
    struct bk_slice left = values[field->index].text;
    if (left.length > 0 && !bk_slice_is(left, "[]"))
        return save(cascade, collection, before, values);
    if (relation->cascades)
        return remove_row(cascade, collection, referrer);
    return field->is_required ? block(cascade, relation, referrer)
                              : save(cascade, collection, before, values);
}

static struct bk_sql referrers_sql(struct cascade *cascade, const struct bk_relation *relation) {
    struct bk_slice table = relation->collection->quoted, column = relation->field->quoted;
    const char *format = relation->is_multiple
                             ? "SELECT \"id\" FROM %.*s AS r WHERE EXISTS (SELECT 1 FROM "
                               "json_each(r.%.*s) WHERE value IN (SELECT value FROM "
                               "json_each(?1))) LIMIT ?2"
                             : "SELECT \"id\" FROM %.*s WHERE %.*s IN (SELECT value FROM "
                               "json_each(?1)) LIMIT ?2";
    return bk_sql_make(bk_arena_format(bk_transaction_arena(cascade->transaction), format,
                                       BK_SLICE_PRINT(table), BK_SLICE_PRINT(column)));
}

/* All rows of a statement, found before the first is changed; at most one too many. */
static enum bk_status gather(struct cascade *cascade, struct bk_statement *statement,
                             const struct bk_collection *collection, struct row **rows) {
    enum bk_status status;
    while ((status = bk_statement_step(statement)) == BK_OK) {
        struct row *row = make_row(cascade, collection, bk_statement_text(statement, 0));
        if (row == NULL) {
            status = BK_LIMIT;
            break;
        }
        *rows = row;
        rows = &row->next;
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static int64_t rows_left(const struct cascade *cascade) {
    return COLLECTIONS_CASCADE_MAX - cascade->touched_count + 1;
}

/* Who refers to any of the slice. */
static enum bk_status find_referrers(struct cascade *cascade, const struct bk_relation *relation,
                                     struct row **referrers) {
    struct bk_sql sql = referrers_sql(cascade, relation);
    struct bk_statement *statement;
    enum bk_status status = statement_of(cascade, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_buffer_slice(&cascade->slice));
    bk_statement_bind_int(statement, 2, rows_left(cascade));
    return gather(cascade, statement, relation->collection, referrers);
}

/* One more row was changed: whether it may go on. */
static enum bk_status count_row(struct cascade *cascade) {
    return ++cascade->touched_count > COLLECTIONS_CASCADE_MAX ? BK_LIMIT : BK_OK;
}

/* What belongs to auth records goes with them. */
static enum bk_status remove_belongings(struct cascade *cascade,
                                        const struct bk_collection *belongings) {
    struct bk_statement *statement;
    struct row *row = NULL;
    enum bk_status status =
        collections_belonging_find(cascade->transaction, belongings, cascade->target->id,
                                   bk_buffer_slice(&cascade->slice), &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 3, rows_left(cascade));
    status = gather(cascade, statement, belongings, &row);
    for (; status == BK_OK && row != NULL; row = row->next) {
        status = remove_row(cascade, belongings, row->id);
        if (status == BK_OK)
            status = count_row(cascade);
    }
    return status;
}

static enum bk_status remove_all_belongings(struct cascade *cascade) {
    enum bk_status status = BK_OK;
    size_t count =
        cascade->target->type == BK_COLLECTION_AUTH ? bk_schema_count(cascade->schema) : 0;
    for (size_t i = 0; i < count && status == BK_OK; i++) {
        const struct bk_collection *collection = bk_schema_at(cascade->schema, i);
        if (collections_belongs(collection))
            status = remove_belongings(cascade, collection);
    }
    return status;
}

static bool on_relation(void *user, const struct bk_relation *relation) {
    struct cascade *cascade = user;
    struct row *referrer = NULL;
    if (relation->collection->type == BK_COLLECTION_VIEW)
        return true; /* it is made of others' rows */
    cascade->status = find_referrers(cascade, relation, &referrer);
    for (; cascade->status == BK_OK && referrer != NULL; referrer = referrer->next) {
        cascade->status = release(cascade, relation, referrer->id);
        if (cascade->status == BK_NOT_FOUND) /* gone by another way */
            cascade->status = BK_OK;
        if (cascade->status == BK_OK)
            cascade->status = count_row(cascade);
    }
    return cascade->status == BK_OK;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* The next records of one collection that are gone. */
static void take_slice(struct cascade *cascade) {
    cascade->target = cascade->queue->collection;
    bk_buffer_clear(&cascade->slice);
    bk_buffer_append_char(&cascade->slice, '[');
    for (int i = 0; i < SLICE_MAX && cascade->queue != NULL; i++) {
        struct row *row = cascade->queue;
        if (row->collection != cascade->target)
            break;
        bk_json_write_separator(&cascade->slice);
        bk_json_write_string(&cascade->slice, row->id);
        cascade->queue = row->next;
    }
    if (cascade->queue == NULL)
        cascade->queue_end = &cascade->queue;
    bk_buffer_append_char(&cascade->slice, ']');
}

static enum bk_status refuse(struct cascade *cascade, const struct row *row) {
    struct bk_slice message =
        bk_arena_format(cascade->problems->arena,
                        "Failed to delete record. Make sure that the record is not part of a "
                        "required relation reference: \"%.*s.%.*s\" of the record \"%.*s\" is one.",
                        BK_SLICE_PRINT(row->collection->name), BK_SLICE_PRINT(row->field->name),
                        BK_SLICE_PRINT(row->id));
    cascade->message = message.length == 0 ? NULL : message.data;
    return BK_CONFLICT;
}

/* BK_CONFLICT when something that stood in the way is still there. */
static enum bk_status check_blocked(struct cascade *cascade) {
    enum bk_status status = BK_OK;
    for (const struct row *row = cascade->blocked; row != NULL && status == BK_OK;
         row = row->next) {
        struct bk_slice key = gone_key(&cascade->row_room, row->collection, row->id);
        if (bk_map_get(&cascade->gone, key) == NULL)
            status = refuse(cascade, row);
    }
    if (cascade->row_room.lacks_memory)
        return BK_NO_MEMORY;
    return cascade->row_room.is_overflown ? BK_LIMIT : status;
}

static enum bk_status run(struct cascade *cascade) {
    while (cascade->queue != NULL && cascade->status == BK_OK) {
        take_slice(cascade);
        if (cascade->slice.is_overflown)
            return cascade->slice.lacks_memory ? BK_NO_MEMORY : BK_LIMIT;
        bk_schema_relations_to(cascade->schema, cascade->target, on_relation, cascade);
        if (cascade->status == BK_OK)
            cascade->status = remove_all_belongings(cascade);
    }
    return cascade->status == BK_OK ? check_blocked(cascade) : cascade->status;
}

enum bk_status collections_record_remove(struct bk_transaction *transaction,
                                         const struct bk_schema *schema,
                                         const struct bk_collection *collection, struct bk_slice id,
                                         struct bk_problems *problems, const char **message) {
    struct cascade cascade = {
        .transaction = transaction, .schema = schema, .problems = problems, .status = BK_OK};
    cascade.queue_end = &cascade.queue;
    bk_buffer_init(&cascade.slice, SLICE_BYTES_MAX);
    bk_map_init(&cascade.gone);
    bk_arena_init(&cascade.row_room, ROW_BYTES_MAX);
    bk_transaction_set_steps(transaction, COLLECTIONS_CASCADE_STEPS);
    enum bk_status status = remove_row(&cascade, collection, id);
    if (status == BK_OK)
        status = run(&cascade);
    bk_transaction_set_steps(transaction, 0); /* other changes may follow in the same write */
    *message = cascade.message;
    bk_arena_fini(&cascade.row_room);
    bk_map_fini(&cascade.gone);
    bk_buffer_fini(&cascade.slice);
    return status;
}
