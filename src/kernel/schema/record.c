/* Records between SQL and JSON. A create and a read each come through here, so nothing is
 * allocated: values borrow from the statement, keys are prebuilt with the comma before them. */
#include "schema_private.h"

void bk_record_read(const struct bk_collection *collection, struct bk_statement *statement,
                    struct bk_value *values) {
    for (uint32_t i = 0; i < collection->field_count; i++)
        values[i] = bk_statement_value(statement, (int)i);
}

/* --- rows ------------------------------------------------------------------------------------- */

static enum bk_status run_with(const struct bk_collection *collection, const struct bk_sql *sql,
                               struct bk_connection *connection, const struct bk_value *values) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, sql, &statement);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < collection->field_count; i++)
        bk_statement_bind(statement, (int)i + 1, &values[i]);
    return bk_statement_run(statement);
}

enum bk_status bk_record_insert(const struct bk_collection *collection,
                                struct bk_connection *connection, const struct bk_value *values) {
    enum bk_status status = run_with(collection, &collection->insert, connection, values);
    if (status == BK_OK && collection->search != NULL)
        status = schema_search_add(collection, connection, values);
    return status;
}

enum bk_status bk_record_update(const struct bk_collection *collection,
                                struct bk_connection *connection, const struct bk_value *before,
                                const struct bk_value *values) {
    enum bk_status status = run_with(collection, &collection->update, connection, values);
    if (status != BK_OK || collection->search == NULL ||
        !schema_search_differs(collection, before, values))
        return status;
    status = schema_search_take(collection, connection, before);
    return status == BK_OK ? schema_search_add(collection, connection, values) : status;
}

enum bk_status bk_record_delete(const struct bk_collection *collection,
                                struct bk_connection *connection, const struct bk_value *before) {
    struct bk_statement *statement;
    enum bk_status status = BK_OK;
    if (collection->search != NULL)
        status = schema_search_take(collection, connection, before);
    if (status == BK_OK)
        status = bk_connection_statement(connection, &collection->delete_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind(statement, 1, &before[collection->id_field->index]);
    return bk_statement_run(statement);
}

/* --- JSON ------------------------------------------------------------------------------------- */

bool bk_record_hides_email(const struct bk_collection *collection, const struct bk_value *values) {
    const struct bk_field *visibility = collection->email_visibility_field;
    return collection->email_field != NULL &&
           (visibility == NULL || values[visibility->index].type != BK_VALUE_INT ||
            values[visibility->index].integer == 0);
}

/* Of a password it is seen that there is such a field: its type writes "" of any value. Of those
 * that one signs in with not even that. */
static bool shows_secret(const struct bk_field *field) {
    return field->type->is_secret &&
           (field->collection->type != BK_COLLECTION_AUTH || !field->is_system);
}

void bk_record_write_members(const struct bk_collection *collection, const struct bk_value *values,
                             enum bk_view view, struct bk_buffer *out) {
    const struct bk_field *left_out = NULL;
    if (view == BK_VIEW_PUBLIC && bk_record_hides_email(collection, values))
        left_out = collection->email_field;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field == left_out || (field->is_hidden && view != BK_VIEW_FULL) ||
            (field->is_secret && !shows_secret(field)))
            continue;
        /* The byte before a key is its comma (see box.c). */
        bk_buffer_append(out, field->json_key.data - 1, field->json_key.length + 1);
        field->type->write_json(field, &values[i], out);
    }
}

void bk_record_write_json(const struct bk_collection *collection, const struct bk_value *values,
                          enum bk_view view, struct bk_buffer *out) {
    bk_buffer_append_slice(out, collection->json_head);
    bk_record_write_members(collection, values, view, out);
    bk_buffer_append_char(out, '}');
}
