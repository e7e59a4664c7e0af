/*
 * Records that belong to a record of an auth collection by two texts, collectionRef and recordRef,
 * since a relation names one collection and these may point into any: accounts elsewhere, second
 * factors, one-time passwords, known devices. They point at what is there, and go with it.
 */
#include "record_change.h"

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
