/*
 * Whose record somebody is who comes from a provider, and what is made of it.
 *
 *   linked            by _externalAuths: that record, whatever else is asked
 *   own               who asks is a record of this collection: it is linked to the provider
 *   of the address    that the provider has verified; one that it has not finds nobody
 *
 * A record whose address nobody has verified may have been made by somebody else, to wait for its
 * owner. When the provider vouches for that address, its owner has come: the record loses all other
 * links, its password too unless it asks for itself, and with the password every session; then it
 * counts as verified. A link proves no address: who comes by one alone takes nothing off.
 *
 * What is found on a reader is found anew on the writer, in the transaction that changes it.
 */
#include "oauth2.h"

enum { VALUES_MAX = 4 };

/* --- finding ---------------------------------------------------------------------------------- */

static enum bk_status find_link(struct oauth2_account *account, struct bk_connection *connection,
                                struct bk_slice *id) {
    static const char text[] = "SELECT \"recordRef\" FROM \"_externalAuths\" WHERE "
                               "\"collectionRef\" = ?1 AND \"provider\" = ?2 AND "
                               "\"providerId\" = ?3";
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, account->collection->id);
    bk_statement_bind_text(statement, 2, bk_slice_from(account->provider));
    bk_statement_bind_text(statement, 3, account->user->id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *id = bk_arena_copy(account->arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

static enum bk_status find_record(struct oauth2_account *account, struct bk_connection *connection,
                                  struct bk_slice id) {
    return auth_credentials_find(account->arena, connection, account->collection, id,
                                 &account->found);
}

static enum bk_status find_by_email(struct oauth2_account *account,
                                    struct bk_connection *connection) {
    const struct auth_identity identity = {.collection = account->collection,
                                           .value = account->user->email,
                                           .field = BK_SLICE("email")};
    if (!account->user->is_email_verified)
        return BK_NOT_FOUND;
    return auth_identity_find(&identity, connection, account->arena, &account->found);
}

/* Whether the field takes it, and nobody has it who must be the only one. */
static enum bk_status find_username(struct oauth2_account *account,
                                    struct bk_connection *connection, const struct bk_field *field,
                                    bool *is_free) {
    const struct bk_collection *collection = account->collection;
    struct bk_slice username = account->user->username, collation;
    struct bk_problems problems;
    struct bk_statement *statement;
    const struct bk_json json = {.type = BK_JSON_STRING, .string = username};
    struct bk_value value;
    bk_problems_init(&problems, account->arena);
    field->type->normalise(field, &json, &value, account->arena);
    if (field->type->validate != NULL)
        field->type->validate(field, &value, &problems);
    *is_free = problems.count == 0;
    if (!*is_free ||
        !bk_collection_unique_collation(collection, field->name, account->arena, &collation))
        return BK_OK;
    bool ignores_case = bk_slice_equal_ignore_case(collation, BK_SLICE("nocase"));
    const struct bk_sql sql = bk_sql_make(
        bk_arena_format(account->arena, "SELECT 1 FROM %.*s WHERE %.*s = ?1%s LIMIT 1",
                        BK_SLICE_PRINT(collection->quoted), BK_SLICE_PRINT(field->quoted),
                        ignores_case ? " COLLATE NOCASE" : ""));
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, username);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    *is_free = status == BK_END;
    return status == BK_END ? BK_OK : status;
}

/* Of somebody new. */
static enum bk_status note_username(struct oauth2_account *account,
                                    struct bk_connection *connection) {
    const struct bk_json *mapped = auth_option(account->collection, "oauth2", "mappedFields");
    struct bk_slice name = bk_json_get_string(mapped, BK_SLICE("username"));
    const struct bk_field *field = bk_collection_field(account->collection, name);
    bool is_free = false;
    enum bk_status status = BK_OK;
    if (field != NULL && account->user->username.length > 0)
        status = find_username(account, connection, field, &is_free);
    account->username = is_free ? account->user->username : BK_SLICE_EMPTY;
    return status == BK_OK ? BK_NOT_FOUND : status;
}

enum bk_status auth_oauth2_account_find(struct oauth2_account *account,
                                        struct bk_connection *connection) {
    struct bk_slice id = account->own_id;
    enum bk_status status = find_link(account, connection, &id);
    account->is_linked = status == BK_OK;
    if (status != BK_OK && status != BK_NOT_FOUND)
        return status;
    status = account->is_linked || account->own_id.length > 0 ? find_record(account, connection, id)
                                                              : find_by_email(account, connection);
    account->is_own = status == BK_OK && bk_slice_equal(account->found.id, account->own_id);
    if (status == BK_NOT_FOUND && !account->is_linked)
        return note_username(account, connection);
    return status == BK_NOT_FOUND ? BK_GONE : status;
}

/* --- what is to be changed -------------------------------------------------------------------- */

static bool lacks_email(const struct oauth2_account *account) {
    return account->found.email.length == 0 && account->user->is_email_verified;
}

/* Whether nobody has verified the address until now, and the provider has. Written in other letters
 * it is the same: so an index that ignores case has found the record. */
static bool proves_address(const struct oauth2_account *account) {
    const struct oauth2_user *user = account->user;
    struct bk_slice email = account->found.email;
    return !account->found.is_verified && user->is_email_verified && email.length > 0 &&
           bk_slice_equal_ignore_case(email, user->email);
}

/* A record without an address gets the provider's; a provider that tells of none vouches for it. */
static bool becomes_verified(const struct oauth2_account *account) {
    const struct oauth2_user *user = account->user;
    bool is_known = user->email.length == 0 || user->is_email_verified;
    return proves_address(account) ||
           (!account->found.is_verified && account->found.email.length == 0 && is_known);
}

bool auth_oauth2_account_is_settled(const struct oauth2_account *account) {
    return account->is_linked && !becomes_verified(account) && !lacks_email(account);
}

enum bk_status auth_oauth2_account_link(const struct oauth2_account *account,
                                        struct bk_transaction *transaction, struct bk_slice id) {
    const struct bk_collection *links = bk_schema_find(account->schema, BK_SLICE("_externalAuths"));
    const struct auth_value values[] = {
        {"collectionRef", BK_VALUE_OF_TEXT(account->collection->id)},
        {"recordRef", BK_VALUE_OF_TEXT(id)},
        {"provider", BK_VALUE_OF_TEXT(bk_slice_from(account->provider))},
        {"providerId", BK_VALUE_OF_TEXT(account->user->id)},
    };
    return links == NULL ? BK_STALE
                         : auth_row_insert(transaction, links, values, BK_COUNT_OF(values), NULL);
}

static enum bk_status unlink_all(struct oauth2_account *account,
                                 struct bk_transaction *transaction) {
    const struct auth_owner owner = {account->collection->id, account->found.id};
    account->is_linked = false;
    return auth_rows_remove_of(transaction, account->schema, "_externalAuths", &owner);
}

static enum bk_status change(struct oauth2_account *account, struct bk_transaction *transaction) {
    const struct auth_credentials *found = &account->found;
    struct auth_value values[VALUES_MAX];
    size_t count = 0;
    if (proves_address(account) && !account->is_own)
        values[count++] = (struct auth_value){"password", BK_VALUE_OF_TEXT(AUTH_NO_PASSWORD)};
    if (lacks_email(account))
        values[count++] = (struct auth_value){"email", BK_VALUE_OF_TEXT(account->user->email)};
    if (becomes_verified(account))
        values[count++] = (struct auth_value){"verified", BK_VALUE_OF_INT(1)};
    return count == 0 ? BK_OK
                      : auth_row_update(transaction, account->schema, account->collection,
                                        found->id, values, count);
}

enum bk_status auth_oauth2_account_settle(struct oauth2_account *account,
                                          struct bk_transaction *transaction) {
    enum bk_status status =
        auth_oauth2_account_find(account, bk_transaction_connection(transaction));
    if (status == BK_OK && proves_address(account))
        status = unlink_all(account, transaction);
    if (status == BK_OK)
        status = change(account, transaction);
    if (status == BK_OK && !account->is_linked)
        status = auth_oauth2_account_link(account, transaction, account->found.id);
    return status;
}
