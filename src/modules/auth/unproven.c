/*
 * Links to accounts elsewhere that were there before the address was proven. Whoever made the
 * account may have been a stranger who took the address first, and its owner has clicked on the
 * link of a mail since: that vouches for the account, so its ways in go on. But a stranger's link
 * must not outlive the day on which the owner comes for the account: a new password by mail ends
 * sessions and the old password anyway, and takes these links along.
 */
#include "auth.h"

enum { SLICE_ROWS = 16 };

const char auth_unproven_table[] =
    "CREATE TABLE _auth_unproven (link TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID";

static enum bk_status prepare(struct bk_transaction *transaction, struct bk_slice sql,
                              const struct auth_owner *owner, struct bk_statement **statement) {
    enum bk_status status = auth_statement(transaction, sql, statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(*statement, 1, owner->collection_id);
    bk_statement_bind_text(*statement, 2, owner->id);
    return BK_OK;
}

enum bk_status auth_unproven_note(struct bk_transaction *transaction,
                                  const struct auth_owner *owner) {
    static const struct bk_slice sql =
        BK_SLICE_INIT("INSERT OR IGNORE INTO _auth_unproven SELECT id FROM _externalAuths "
                      "WHERE collectionRef = ?1 AND recordRef = ?2");
    struct bk_statement *statement;
    enum bk_status status = prepare(transaction, sql, owner, &statement);
    return status == BK_OK ? bk_statement_run(statement) : status;
}

static enum bk_status find(struct bk_transaction *transaction, const struct auth_owner *owner,
                           struct bk_slice *ids, uint32_t *count) {
    static const struct bk_slice sql =
        BK_SLICE_INIT("SELECT u.link FROM _externalAuths e JOIN _auth_unproven u ON u.link = e.id "
                      "WHERE e.collectionRef = ?1 AND e.recordRef = ?2");
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status = prepare(transaction, sql, owner, &statement);
    if (status != BK_OK)
        return status;
    for (*count = 0; *count < SLICE_ROWS && (status = bk_statement_step(statement)) == BK_OK;)
        ids[(*count)++] = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END || status == BK_OK ? bk_arena_status(arena) : status;
}

static enum bk_status remove_one(struct bk_transaction *transaction,
                                 const struct bk_collection *links, struct bk_slice id) {
    struct bk_statement *statement;
    enum bk_status status = auth_statement(
        transaction, BK_SLICE("DELETE FROM _auth_unproven WHERE link = ?1"), &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_run(statement);
    return status == BK_OK ? auth_row_remove(transaction, links, id) : status;
}

enum bk_status auth_unproven_remove(struct bk_transaction *transaction,
                                    const struct bk_schema *schema,
                                    const struct auth_owner *owner) {
    const struct bk_collection *links = bk_schema_find(schema, BK_SLICE("_externalAuths"));
    struct bk_slice ids[SLICE_ROWS];
    uint32_t count = SLICE_ROWS;
    enum bk_status status = BK_OK;
    while (links != NULL && status == BK_OK && count == SLICE_ROWS) {
        status = find(transaction, owner, ids, &count);
        for (uint32_t i = 0; i < count && status == BK_OK; i++)
            status = remove_one(transaction, links, ids[i]);
    }
    return status;
}
