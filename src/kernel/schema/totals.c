/* How many records a collection has, kept by the store with the table (see rows.c there). The
 * server's own collections are small and not kept; views are counted when they are asked. */
#include "schema_private.h"

bool bk_collection_is_counted(const struct bk_collection *collection) {
    return collection->type != BK_COLLECTION_VIEW && collection->name.length > 0 &&
           collection->name.data[0] != '_';
}

enum bk_status schema_totals_change(struct bk_connection *connection,
                                    const struct bk_collection *old,
                                    const struct bk_collection *new) {
    bool was_counted = old != NULL && bk_collection_is_counted(old);
    bool is_counted = new != NULL &&bk_collection_is_counted(new);
    if (is_counted && !was_counted)
        return bk_rows_keep(connection, new->name, new->quoted);
    if (was_counted && !is_counted)
        return bk_rows_forget(connection, old->name);
    if (is_counted && !bk_slice_equal(old->name, new->name))
        return bk_rows_rename(connection, old->name, new->name);
    return BK_OK;
}

enum bk_status schema_totals_prepare(const struct bk_schema *schema,
                                     struct bk_connection *connection) {
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < bk_schema_count(schema) && status == BK_OK; i++) {
        const struct bk_collection *collection = bk_schema_at(schema, i);
        int64_t count;
        if (!bk_collection_is_counted(collection))
            continue;
        status = bk_rows_read(connection, collection->name, &count);
        if (status == BK_NOT_FOUND)
            status = bk_rows_keep(connection, collection->name, collection->quoted);
    }
    return status;
}
