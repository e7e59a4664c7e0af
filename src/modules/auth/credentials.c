/*
 * Records of auth collections as signing in sees them: what is needed to judge who somebody is, and
 * nothing that is shown. By id a row is read on the loop. By identity it is looked for on a reader,
 * through the unique index of each identity field, since what an application has for an index
 * decides how long that takes.
 */
#include "auth.h"
#include "bakend/failpoint.h"

const struct bk_collection *auth_collection(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct bk_schema *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_collection *collection =
        bk_schema_find(schema, bk_request_parameter(request, BK_SLICE("collection")));
    if (collection != NULL && collection->type == BK_COLLECTION_AUTH)
        return collection;
    bk_answer_error(request, BK_NOT_FOUND,
                    collection == NULL ? "Missing or invalid collection context."
                                       : "Missing or invalid auth collection context.");
    return NULL;
}

const struct bk_json *auth_option(const struct bk_collection *collection, const char *group,
                                  const char *name) {
    return bk_json_get(bk_json_get(collection->auth, bk_slice_from(group)), bk_slice_from(name));
}

bool auth_option_is_on(const struct bk_collection *collection, const char *group,
                       const char *name) {
    const struct bk_json *option = auth_option(collection, group, name);
    return option != NULL && option->type == BK_JSON_BOOL && option->boolean;
}

int64_t auth_option_number(const struct bk_collection *collection, const char *group,
                           const char *name) {
    int64_t number = 0;
    const struct bk_json *option = auth_option(collection, group, name);
    if (option != NULL)
        bk_json_to_int64(option, &number);
    return number;
}

/* --- rows ------------------------------------------------------------------------------------- */

static struct bk_slice text_of(const struct bk_collection *collection,
                               const struct bk_value *values, struct bk_slice name,
                               struct bk_arena *arena) {
    const struct bk_field *field = bk_collection_field(collection, name);
    if (field == NULL || values[field->index].type != BK_VALUE_TEXT)
        return BK_SLICE_EMPTY;
    return bk_arena_copy(arena, values[field->index].text);
}

static bool is_verified(const struct bk_collection *collection, const struct bk_value *values) {
    const struct bk_field *field = bk_collection_field(collection, BK_SLICE("verified"));
    return field != NULL && values[field->index].integer != 0;
}

/* Runs a SELECT of the collection's columns whose ?1 is value. */
static enum bk_status read_row(struct bk_connection *connection, const struct bk_sql *sql,
                               struct bk_slice value, const struct bk_collection *collection,
                               struct bk_arena *arena, struct auth_credentials *credentials) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, value);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_value values[BK_COLLECTION_FIELDS_MAX];
        bk_record_read(collection, statement, values);
        credentials->id = text_of(collection, values, BK_SLICE("id"), arena);
        credentials->password_hash = text_of(collection, values, BK_SLICE("password"), arena);
        credentials->token_key = text_of(collection, values, BK_SLICE("tokenKey"), arena);
        credentials->email = text_of(collection, values, BK_SLICE("email"), arena);
        credentials->is_verified = is_verified(collection, values);
        status = bk_arena_status(arena);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

enum bk_status auth_credentials_find(struct bk_arena *arena, struct bk_connection *connection,
                                     const struct bk_collection *collection, struct bk_slice id,
                                     struct auth_credentials *credentials) {
    return read_row(connection, &collection->select_by_id, id, collection, arena, credentials);
}

enum bk_status auth_credentials_read(struct bk_arena *arena, struct bk_tenant *tenant,
                                     const struct bk_collection *collection, struct bk_slice id,
                                     struct auth_credentials *credentials) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    enum bk_status status = BK_FAILPOINT("auth.credentials_read");
    if (connection == NULL)
        return BK_CLOSING;
    if (status != BK_OK)
        return status;
    return auth_credentials_find(arena, connection, collection, id, credentials);
}

/* --- by identity ------------------------------------------------------------------------------ */

/* `!= ''` lets the index serve that leaves out those who have no such name, as the one of email
 * does. */
static enum bk_status read_by_field(const struct auth_identity *identity, struct bk_slice name,
                                    struct bk_connection *connection, struct bk_arena *arena,
                                    struct auth_credentials *credentials) {
    const struct bk_collection *collection = identity->collection;
    const struct bk_field *field = bk_collection_field(collection, name);
    struct bk_slice collation;
    if (field == NULL || !bk_collection_unique_collation(collection, name, arena, &collation))
        return BK_NOT_FOUND;
    bool ignores_case = bk_slice_equal_ignore_case(collation, BK_SLICE("nocase"));
    const struct bk_sql sql = bk_sql_make(
        bk_arena_format(arena, "SELECT %.*s FROM %.*s WHERE %.*s = ?1%s AND %.*s != '' LIMIT 1",
                        BK_SLICE_PRINT(collection->columns), BK_SLICE_PRINT(collection->quoted),
                        BK_SLICE_PRINT(field->quoted), ignores_case ? " COLLATE NOCASE" : "",
                        BK_SLICE_PRINT(field->quoted)));
    enum bk_status status = bk_arena_status(arena);
    return status == BK_OK
               ? read_row(connection, &sql, identity->value, collection, arena, credentials)
               : status;
}

/* Fields of the list but email, or email alone: it is asked first, whatever its place. */
static enum bk_status read_listed(const struct auth_identity *identity, bool is_email,
                                  struct bk_connection *connection, struct bk_arena *arena,
                                  struct auth_credentials *credentials) {
    const struct bk_json *fields =
        auth_option(identity->collection, "passwordAuth", "identityFields");
    enum bk_status status = BK_NOT_FOUND;
    for (const struct bk_json *item = fields == NULL ? NULL : fields->child;
         item != NULL && status == BK_NOT_FOUND; item = item->next)
        if (bk_slice_is(item->string, "email") == is_email)
            status = read_by_field(identity, item->string, connection, arena, credentials);
    return status;
}

enum bk_status auth_identity_find(const struct auth_identity *identity,
                                  struct bk_connection *connection, struct bk_arena *arena,
                                  struct auth_credentials *credentials) {
    enum bk_status status = BK_FAILPOINT("auth.credentials_read");
    if (status != BK_OK)
        return status;
    if (identity->field.length > 0)
        return read_by_field(identity, identity->field, connection, arena, credentials);
    status = BK_NOT_FOUND;
    if (bk_email_is_valid(identity->value))
        status = read_listed(identity, true, connection, arena, credentials);
    if (status == BK_NOT_FOUND)
        status = read_listed(identity, false, connection, arena, credentials);
    return status;
}
