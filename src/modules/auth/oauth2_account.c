/*
 * Whose record somebody is who comes from a provider, and what is made of it.
 *
 *   linked            by _externalAuths: that record, whatever else is asked
 *   own               who asks is a record of this collection: it is linked to the provider
 *   of the address    that the provider has verified; one that it has not finds nobody
 *
 * A record whose address nobody has verified may have been made by somebody else, to wait for its
 * owner. So before anybody else than the record itself is let in to it, it loses its password and
 * all other links, and with the password every session; then it counts as verified, when its
 * address is that of the provider.
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

/* A provider that tells of no address vouches for who has none; one that has not verified it for
 * nobody. */
static bool is_vouched_for(const struct oauth2_account *account) {
    const struct oauth2_user *user = account->user;
    struct bk_slice email = account->found.email;
    bool is_known = user->email.length == 0 || user->is_email_verified;
    return is_known && (email.length == 0 || bk_slice_equal(email, user->email));
}

bool auth_oauth2_account_is_settled(const struct oauth2_account *account) {
    return account->is_linked && account->found.is_verified && !lacks_email(account);
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

/* Who is signed in to it keeps the second factor. */
static enum bk_status unlink_all(struct oauth2_account *account,
                                 struct bk_transaction *transaction) {
    const struct auth_owner owner = {account->collection->id, account->found.id};
    account->is_linked = false;
    return account->is_own
               ? auth_rows_remove_of(transaction, account->schema, "_externalAuths", &owner)
               : auth_stranger_remove(transaction, account->schema, account->collection,
                                      account->found.id);
}

static enum bk_status change(struct oauth2_account *account, struct bk_transaction *transaction,
                             struct bk_slice password_hash) {
    const struct auth_credentials *found = &account->found;
    struct auth_value values[VALUES_MAX];
    size_t count = 0;
    if (!found->is_verified && !account->is_own)
        values[count++] = (struct auth_value){"password", BK_VALUE_OF_TEXT(password_hash)};
    if (lacks_email(account))
        values[count++] = (struct auth_value){"email", BK_VALUE_OF_TEXT(account->user->email)};
    if (!found->is_verified && is_vouched_for(account))
        values[count++] = (struct auth_value){"verified", BK_VALUE_OF_INT(1)};
    return count == 0 ? BK_OK
                      : auth_row_update(transaction, account->schema, account->collection,
                                        found->id, values, count);
}

enum bk_status auth_oauth2_account_settle(struct oauth2_account *account,
                                          struct bk_transaction *transaction,
                                          struct bk_slice password_hash) {
    enum bk_status status =
        auth_oauth2_account_find(account, bk_transaction_connection(transaction));
    if (status == BK_OK && !account->found.is_verified)
        status = unlink_all(account, transaction);
    if (status == BK_OK)
        status = change(account, transaction, password_hash);
    if (status == BK_OK && !account->is_linked)
        status = auth_oauth2_account_link(account, transaction, account->found.id);
    return status;
}
