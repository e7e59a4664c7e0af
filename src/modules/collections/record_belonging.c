/*
 * Records that belong to a record of an auth collection by two texts, collectionRef and recordRef,
 * since a relation names one collection and these may point into any: accounts elsewhere, second
 * factors, one-time passwords, known devices. They point at what is there, and go with it.
 *
 * A new password also ends what was begun with the old one: second factors that are under way and
 * the devices that are known. One-time passwords go with the token key that they were made under.
 */
#include "record_change.h"

enum { ENDED_MAX = 1000 /* of one record: more than anybody has */ };

#define COLLECTION_REF BK_SLICE("collectionRef")
#define RECORD_REF BK_SLICE("recordRef")

bool collections_belongs(const struct bk_collection *collection) {
    return collection->is_system && collection->type == BK_COLLECTION_BASE &&
           bk_collection_field(collection, COLLECTION_REF) != NULL &&
           bk_collection_field(collection, RECORD_REF) != NULL;
}

static struct bk_slice text_of(const struct record_change *change, struct bk_slice name) {
    return change->values[bk_collection_field(change->collection, name)->index].text;
}

static enum bk_status refuse(struct record_change *change, struct bk_slice field, const char *code,
                             const char *message) {
    bk_problems_add(&change->request->problems, field, code, message);
    return BK_INVALID;
}

enum bk_status collections_belonging_check(struct record_change *change,
                                           struct bk_transaction *transaction) {
    struct bk_slice collection_id = text_of(change, COLLECTION_REF);
    struct bk_slice id = text_of(change, RECORD_REF);
    const struct bk_collection *owners = bk_schema_find(change->schema, collection_id);
    struct bk_statement *statement;
    if (collection_id.length == 0)
        return refuse(change, COLLECTION_REF, "validation_required", "Cannot be blank.");
    if (owners == NULL || !bk_slice_equal(owners->id, collection_id))
        return refuse(change, COLLECTION_REF, "validation_invalid_collection_id",
                      "Missing or invalid collection.");
    if (owners->type != BK_COLLECTION_AUTH)
        return refuse(change, COLLECTION_REF, "validation_invalid_collection_type",
                      "Invalid collection type - must be auth.");
    if (id.length == 0)
        return refuse(change, RECORD_REF, "validation_required", "Cannot be blank.");
    enum bk_status status = bk_connection_statement(bk_transaction_connection(transaction),
                                                    &owners->exists_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    if (status == BK_END)
        return refuse(change, RECORD_REF, "validation_invalid_record",
                      "Missing or invalid record.");
    return status;
}

enum bk_status collections_belonging_find(struct bk_transaction *transaction,
                                          const struct bk_collection *belongings,
                                          struct bk_slice collection_id, struct bk_slice ids,
                                          struct bk_statement **statement) {
    struct bk_sql sql = bk_sql_make(
        bk_arena_format(bk_transaction_arena(transaction),
                        "SELECT \"id\" FROM %.*s WHERE \"collectionRef\" = ?1 AND \"recordRef\" IN "
                        "(SELECT value FROM json_each(?2)) LIMIT ?3",
                        BK_SLICE_PRINT(belongings->quoted)));
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(*statement, 1, collection_id);
    bk_statement_bind_text(*statement, 2, ids);
    return BK_OK;
}

/* --- what ends with a password ---------------------------------------------------------------- */

static bool is_changed(const struct record_change *change, const struct bk_value *before,
                       struct bk_slice name) {
    const struct bk_field *field = bk_collection_field(change->collection, name);
    return field != NULL && !bk_value_equal(&before[field->index], &change->values[field->index]);
}

/* Their ids, in the transaction's arena. */
static enum bk_status find_of(const struct record_change *change,
                              struct bk_transaction *transaction,
                              const struct bk_collection *belongings, struct bk_slice *ids,
                              uint32_t *count) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    struct bk_buffer id;
    bk_buffer_init(&id, SIZE_MAX / 2);
    bk_buffer_append_char(&id, '[');
    bk_json_write_string(&id, change->id);
    bk_buffer_append_char(&id, ']');
    struct bk_slice list = bk_arena_copy(arena, bk_buffer_slice(&id));
    bk_buffer_fini(&id);
    enum bk_status status = collections_belonging_find(transaction, belongings,
                                                       change->collection->id, list, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 3, ENDED_MAX);
    for (*count = 0; (status = bk_statement_step(statement)) == BK_OK && *count < ENDED_MAX;)
        ids[(*count)++] = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? bk_arena_status(arena) : status;
}

static enum bk_status end_of(struct record_change *change, struct bk_transaction *transaction,
                             struct bk_slice name) {
    const struct bk_collection *belongings = bk_schema_find(change->schema, name);
    struct bk_slice ids[ENDED_MAX];
    uint32_t count = 0;
    if (belongings == NULL || !collections_belongs(belongings))
        return BK_OK;
    enum bk_status status = find_of(change, transaction, belongings, ids, &count);
    for (uint32_t i = 0; i < count && status == BK_OK; i++)
        status = collections_record_remove(transaction, change->schema, belongings, ids[i],
                                           &change->request->problems, &change->message);
    return status;
}

enum bk_status collections_belonging_end(struct record_change *change,
                                         struct bk_transaction *transaction,
                                         const struct bk_value *before) {
    enum bk_status status = BK_OK;
    if (change->collection->type != BK_COLLECTION_AUTH)
        return BK_OK;
    if (is_changed(change, before, BK_SLICE("tokenKey")))
        status = end_of(change, transaction, BK_SLICE("_otps"));
    if (status != BK_OK || !is_changed(change, before, BK_SLICE("password")))
        return status;
    status = end_of(change, transaction, BK_SLICE("_mfas"));
    return status == BK_OK ? end_of(change, transaction, BK_SLICE("_authOrigins")) : status;
}
