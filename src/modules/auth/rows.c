/*
 * Records that this module writes itself, where something must be looked at and changed in one
 * transaction: a password that is set by a ticket, an address that was verified, a place that was
 * signed in from. What the records routes do with a record that was found to be right happens
 * here too: its words, its dates, its event, who watches it, and what ends with a password.
 *
 * Values come from this module and were judged by it. On the writer, all of it.
 */
#include "auth.h"
#include "bakend/id.h"

enum { OF_ONE_MAX = 1000 /* rows that belong to one record: more than anybody has */ };

/* --- values ----------------------------------------------------------------------------------- */

static void put(const struct bk_collection *collection, struct bk_value *values,
                const struct auth_value *given, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct bk_field *field =
            bk_collection_field(collection, bk_slice_from(given[i].name));
        if (field != NULL)
            values[field->index] = given[i].value;
    }
}

static void fill(struct bk_transaction *transaction, const struct bk_collection *collection,
                 struct bk_value *values, bool is_create) {
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field->type->fill != NULL && (is_create || field->type->is_read_only))
            field->type->fill(field, &values[i], is_create, true,
                              bk_transaction_now_ms(transaction),
                              bk_transaction_arena(transaction));
    }
}

static enum bk_status read(struct bk_transaction *transaction,
                           const struct bk_collection *collection, struct bk_slice id,
                           struct bk_value **values) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(bk_transaction_connection(transaction),
                                                    &collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    *values = bk_arena_alloc(arena, collection->field_count * sizeof **values);
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        bk_record_read(collection, statement, *values);
        for (uint32_t i = 0; i < collection->field_count; i++)
            if ((*values)[i].type == BK_VALUE_TEXT)
                (*values)[i].text = bk_arena_copy(arena, (*values)[i].text);
        status = bk_arena_status(arena);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static bool is_changed(const struct bk_collection *collection, const char *name,
                       const struct bk_value *before, const struct bk_value *after) {
    const struct bk_field *field = bk_collection_field(collection, bk_slice_from(name));
    return field != NULL && !bk_value_equal(&before[field->index], &after[field->index]);
}

/* --- one -------------------------------------------------------------------------------------- */

enum bk_status auth_row_insert(struct bk_transaction *transaction,
                               const struct bk_collection *collection,
                               const struct auth_value *given, size_t count,
                               char id[BK_RECORD_ID_BYTES + 1]) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_value *values = bk_arena_alloc(arena, collection->field_count * sizeof *values);
    for (uint32_t i = 0; i < collection->field_count; i++)
        collection->fields[i].type->empty(&collection->fields[i], &values[i]);
    put(collection, values, given, count);
    fill(transaction, collection, values, true);
    enum bk_status status = bk_arena_status(arena);
    if (status == BK_OK)
        status = bk_record_insert(collection, bk_transaction_connection(transaction), values);
    if (status == BK_OK)
        status = bk_record_emit(transaction, collection, NULL, values);
    struct bk_slice made = values[collection->id_field->index].text;
    if (status == BK_OK && id != NULL && made.length == BK_RECORD_ID_BYTES) {
        memcpy(id, made.data, made.length);
        id[made.length] = '\0';
    }
    return status;
}

enum bk_status auth_row_remove(struct bk_transaction *transaction,
                               const struct bk_collection *collection, struct bk_slice id) {
    struct bk_value *values;
    enum bk_status status = read(transaction, collection, id, &values);
    if (status == BK_OK)
        status = bk_record_delete(collection, bk_transaction_connection(transaction), values);
    return status == BK_OK ? bk_record_emit(transaction, collection, values, NULL) : status;
}

/* --- those of a record ------------------------------------------------------------------------ */

static enum bk_status find_of(struct bk_transaction *transaction,
                              const struct bk_collection *collection,
                              const struct auth_owner *owner, struct bk_slice *ids,
                              uint32_t *count) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    const struct bk_sql sql = bk_sql_make(bk_arena_format(
        arena, "SELECT \"id\" FROM %.*s WHERE \"collectionRef\" = ?1 AND \"recordRef\" = ?2",
        BK_SLICE_PRINT(collection->quoted)));
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, owner->collection_id);
    bk_statement_bind_text(statement, 2, owner->id);
    for (*count = 0; *count < OF_ONE_MAX && (status = bk_statement_step(statement)) == BK_OK;)
        ids[(*count)++] = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? bk_arena_status(arena) : status;
}

enum bk_status auth_rows_remove_of(struct bk_transaction *transaction,
                                   const struct bk_schema *schema, const char *name,
                                   const struct auth_owner *owner) {
    const struct bk_collection *collection = bk_schema_find(schema, bk_slice_from(name));
    struct bk_slice ids[OF_ONE_MAX];
    uint32_t count = OF_ONE_MAX;
    enum bk_status status = BK_OK;
    while (collection != NULL && status == BK_OK && count == OF_ONE_MAX) {
        status = find_of(transaction, collection, owner, ids, &count);
        for (uint32_t i = 0; i < count && status == BK_OK; i++)
            status = auth_row_remove(transaction, collection, ids[i]);
    }
    return status;
}

/* --- a change --------------------------------------------------------------------------------- */

static void renew_token_key(struct bk_transaction *transaction,
                            const struct bk_collection *collection, const struct bk_value *before,
                            struct bk_value *after) {
    enum { TOKEN_KEY_BYTES = 50 };
    const struct bk_field *key = bk_collection_field(collection, BK_SLICE("tokenKey"));
    if (key == NULL || is_changed(collection, "tokenKey", before, after) ||
        (!is_changed(collection, "password", before, after) &&
         !is_changed(collection, "email", before, after)))
        return;
    char *text = bk_arena_alloc(bk_transaction_arena(transaction), TOKEN_KEY_BYTES);
    bk_random_text(text, TOKEN_KEY_BYTES,
                   BK_SLICE("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"));
    after[key->index] = BK_VALUE_OF_TEXT(bk_slice_make(text, TOKEN_KEY_BYTES));
}

/* What was begun under the old password or token key. */
static enum bk_status end_begun(struct bk_transaction *transaction, const struct bk_schema *schema,
                                const struct bk_collection *collection,
                                const struct bk_value *before, const struct bk_value *after) {
    const struct auth_owner owner = {collection->id, before[collection->id_field->index].text};
    enum bk_status status = BK_OK;
    if (is_changed(collection, "tokenKey", before, after))
        status = auth_rows_remove_of(transaction, schema, "_otps", &owner);
    if (status != BK_OK || !is_changed(collection, "password", before, after))
        return status;
    status = auth_rows_remove_of(transaction, schema, "_mfas", &owner);
    if (status == BK_OK)
        status = auth_rows_remove_of(transaction, schema, "_authOrigins", &owner);
    return status;
}

enum bk_status auth_row_update(struct bk_transaction *transaction, const struct bk_schema *schema,
                               const struct bk_collection *collection, struct bk_slice id,
                               const struct auth_value *given, size_t count) {
    size_t size = collection->field_count * sizeof(struct bk_value);
    bool is_account = collection->type == BK_COLLECTION_AUTH;
    struct bk_value *before;
    enum bk_status status = read(transaction, collection, id, &before);
    if (status != BK_OK)
        return status;
    struct bk_value *after = bk_arena_alloc(bk_transaction_arena(transaction), size);
    memcpy(after, before, size);
    put(collection, after, given, count);
    fill(transaction, collection, after, false);
    if (is_account)
        renew_token_key(transaction, collection, before, after);
    status = bk_arena_status(bk_transaction_arena(transaction));
    if (status == BK_OK)
        status =
            bk_record_update(collection, bk_transaction_connection(transaction), before, after);
    if (status == BK_OK)
        status = bk_record_emit(transaction, collection, before, after);
    return status == BK_OK && is_account ? end_begun(transaction, schema, collection, before, after)
                                         : status;
}
